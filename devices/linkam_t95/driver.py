"""Linkam T95: heats or cools a stage at a rate to a limit, and holds it there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property

from hal.errors import LimitError, ProtocolError, Refused, WrongInstrument
from hal.instrument.address import Field, Remembered
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Heater, Thermometer
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import Framing, Lines
from hal.transport.link import SerialSettings
from hal.transport.session import Probe

from . import codec
from .codec import Report

PATIENCE = 2.0  # s for the controller to show that it does what it was told


@dataclass(frozen=True, slots=True)
class Options:
    """What a lab file may say of this instrument."""

    tolerance: float = 1.0
    """A ramp has arrived if the controller says so and the temperature is this near its end, K."""


class Temperature(Field):
    """The report's temperature, which is none while the sensor is open."""

    def __init__(self) -> None:
        super().__init__("temperature")

    def value(self, device: LinkamT95, payload: Report) -> float | Sample[float]:
        if payload.errors & codec.OPEN_CIRCUIT:
            return Sample(None, Quality.BAD, codec.ERRORS[codec.OPEN_CIRCUIT])
        return payload.temperature


class LinkamT95(Instrument):
    """One T95 (or T94 with the same commands). Every ramp is its own: it goes on, and ends, without us.

    It tells neither limit nor rate: `setpoint` and `ramp_rate` are what was last set from here. It does
    not say either whether it took them: a ramp is watched, and refused if it ends elsewhere. Give the
    stage's own range as a limit in the lab file. The cooling pump is left alone.
    """

    model, vendor = "T95", "Linkam"
    provides = (Heater, Thermometer)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(19200)
    timeout = 1.0  # unverified
    pace = 0.3  # s, as bliss waits
    emulator = "devices.linkam_t95.emulator:LinkamT95Emulator"
    verified = (
        "by open programs (Lewis, bliss, MX), no manual; SweepMe's driver against the emulator; never on a real one; "
        "unverified: noise, rate of readings"
    )

    temperature = SignalR(
        float, "degC", at=Temperature(), kind=Kind.HINTED, poll=0.5,
        max_age=0.15,  # unverified
        noise=Noise(absolute=0.03, resolution=0.1),
    )  # fmt: skip
    setpoint = SignalRW(
        float, "degC", at=Remembered("write_limit"), limits=(codec.COLDEST, codec.HOTTEST), of="temperature",
        supersedes=True, kind=Kind.NORMAL, doc="where it goes at its rate, once started; in tenths",
    )  # fmt: skip
    ramp_rate = SignalRW(float, "K/s", at=Remembered("write_rate"), limits=(codec.SLOWEST / 60, codec.FASTEST / 60))
    state = SignalR(str, at=Field("state", convert=codec.STATES.__getitem__), poll=0.5, varies="in steps")
    problems = SignalR(str, at=Field("problems"), poll=0.5, varies="in steps", doc="empty if there are none")
    pump = SignalR(int, at=Field("pump"), varies="in steps", doc="speed of the cooling pump, 0 to 30")

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Lines(b"\r")

    @cached_property
    def probe(self) -> Probe:
        return Probe(b"T", codec.is_report)

    async def identify(self) -> str:
        # T must be the first command; it is the only one that shows who answers.
        exchange = await self.ask(b"T")
        if not codec.is_report(exchange.reply):
            raise WrongInstrument(
                self.name, f"expected a Linkam T95, got {exchange.reply!r}; check `link` in the lab file"
            )
        return "Linkam T95"

    # ------------------------------------------------------------------ verbs

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s) from where it is now; ended early, it holds. Raises `LimitError`."""
        self.setpoint.check(to)
        self._check_rate(rate)
        return self.start(f"ramp to {to:g} degC at {rate:g} K/s", self._ramp(to, rate), on_cancel=self._hold)

    def hold(self) -> Status[None]:
        """Stay at the present temperature; a stage that is off stays off."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Neither heat nor cool."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        await self._order(b"E")
        await self._until_state((codec.STOPPED,), "it does not stop; switch it off by hand")

    # ------------------------------------------------------------------ what the signals call

    async def report(self) -> Answer:
        """State, errors and temperature. Raises `ProtocolError`."""
        exchange = await self.ask(b"T", matches=codec.is_report)
        return Answer(Report.decode(exchange.reply), exchange.sent, exchange.received)

    async def write_limit(self, value: float) -> None:
        """Set where it goes, degC."""
        await self._order(codec.encode_limit(value))

    async def write_rate(self, value: float) -> None:
        """Set how fast, K/s."""
        self._check_rate(value)
        await self._order(codec.encode_rate(value))

    # ------------------------------------------------------------------ private

    async def _ramp(self, to: float, rate: float) -> None:
        before = await self._report()
        if before.errors & (codec.OPEN_CIRCUIT | codec.OVERLOAD):
            raise Refused(self.name, f"it reports: {before.problems}; see to the stage first")
        await self.ramp_rate.put(rate)
        await self.setpoint.put(to)
        if before.state == codec.STOPPED:  # Lewis remembers an S while running and starts again after E
            await self._order(b"S")
        elif before.state == codec.HELD:  # which only these two end
            await self._order(b"H" if to >= before.temperature else b"C")
        await self._until_state(
            (codec.HEATING, codec.COOLING, codec.AT_LIMIT, codec.LIMIT_TIME), "it does not start; is it in a program?"
        )
        arrived = (codec.STATES[codec.AT_LIMIT], codec.STATES[codec.LIMIT_TIME])
        loop = asyncio.get_running_loop()
        earliest = loop.time() + PATIENCE  # before, it may still speak of the limit it was at
        async for reading in self.until(self.state, lambda state: state in arrived and loop.time() > earliest):
            if reading.value in (codec.STATES[codec.STOPPED], codec.STATES[codec.HELD]):
                raise Refused(self.name, f"the ramp ended at the controller, which is now {reading.value}")
        here = await self.temperature.get()
        if abs(here - to) > self.options.tolerance:
            raise Refused(self.name, f"it holds at {here:g} degC, not at {to:g}; can the stage go there?")

    async def _hold(self) -> None:
        if (await self._report()).state == codec.STOPPED:
            return
        await self._order(b"O")
        await self._until_state((codec.HELD, codec.AT_LIMIT, codec.LIMIT_TIME), "it does not hold")

    async def _report(self) -> Report:
        report: Report = (await self.report()).payload
        return report

    async def _order(self, command: bytes) -> None:
        """Send a change, which is answered by nothing and CR."""
        exchange = await self.command(command, idempotent=True, matches=lambda reply: not reply)
        if exchange.reply:
            raise ProtocolError(self.name, f"expected a bare CR after {command!r}, got {exchange.reply!r}")

    async def _until_state(self, states: tuple[int, ...], otherwise: str) -> None:
        """Ask for the state until it is one of `states`; raise `Refused` after `PATIENCE`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while (report := await self._report()).state not in states:
            if loop.time() > deadline:
                why = f"; it reports: {report.problems}" if report.problems else ""
                raise Refused(self.name, f"{otherwise} (it is {codec.STATES[report.state]}{why})")

    def _check_rate(self, rate: float) -> None:
        """Raise `LimitError` unless it can ramp at this rate, to a percent."""
        self.ramp_rate.check(rate)
        steps = rate * 60 / codec.RATE_STEP
        if abs(round(steps) / steps - 1) > 0.01:
            raise LimitError(
                f"{self.name}: ramp_rate = {rate:g} K/s lies between steps of {codec.RATE_STEP:g} K/min; "
                "nothing was sent"
            )
