"""Oxford Instruments ITC503: holds the temperature of a cold stage or cryostat; this driver paces its ramps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from hal.errors import ConfigError, Refused, WrongInstrument
from hal.instrument.address import Calls, Field, Soft
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Heater, Thermometer
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import AnyLines, Framing
from hal.transport.link import SerialSettings
from hal.transport.session import Probe
from hal.units import convert

from . import codec

FASTEST = 2.0  # K/s: faster, and the steps of half a second would be felt as such
STEP_TIME = 0.5  # s, least, between two setpoints of a ramp
PATIENCE = 1.0  # s for the output to show what was written


@dataclass(frozen=True, slots=True)
class Options:
    """What a lab file may say of this instrument."""

    sensor: Literal[1, 2, 3] = 1
    """Which sensor is read; the instrument must control its heater by the same."""
    tolerance: float = 0.5
    """A ramp is done when the temperature is this near its end, K."""


class OxfordItc503(Instrument):
    """One ITC503; `unit` is its ISOBUS address, 0 to 9 (none: it is alone on the line).

    It has sweeps of its own, programmed in minutes; ramps here are setpoints sent one after the other,
    from the present temperature on. Should the program end, the temperature stays where it has got to.
    Gas flow is left alone.
    """

    model, vendor = "ITC503", "Oxford Instruments"
    provides = (Heater, Thermometer)
    Options = Options
    wires = ("serial", "tcp", "visa")
    line = SerialSettings(9600, 8, "N", 2)
    timeout = 1.0  # an answer waits while somebody presses a key (M)
    emulator = "devices.oxford_itc503.emulator:OxfordItc503Emulator"
    verified = (
        "handbook issue 4 in extract; PyMeasure's and QCoDeS's drivers against the emulator; never on a real one. "
        "Unverified: resolution, rate of readings"
    )

    temperature = SignalR(
        float, "degC", at=Calls("read_sensor", convert=codec.decode_temperature), kind=Kind.HINTED, poll=0.5,
        max_age=0.3,  # unverified: its measuring cycle
        noise=Noise(absolute=0.05, resolution=codec.RESOLUTION), doc="of the sensor of the lab file",
    )  # fmt: skip
    setpoint = SignalRW(
        float, "degC", at=Calls("read_setpoint", "write_setpoint", convert=codec.decode_temperature),
        limits=(-273.15, convert(codec.HOTTEST, "K", "degC")), of="temperature", supersedes=True,
        kind=Kind.NORMAL, poll=1.0, doc="the heater goes there at once",
    )  # fmt: skip
    ramp_rate = SignalRW(
        float, "K/s", at=Soft(0.1), limits=(1e-4, FASTEST), doc="of the latest ramp; the instrument knows none"
    )
    output = SignalR(
        float, "%", at=Calls("read_output", convert=codec.decode_value), poll=1.0,
        noise=Noise(resolution=0.1), doc="of the highest heater voltage",
    )  # fmt: skip
    heater_voltage = SignalR(float, "V", at=Calls("read_voltage", convert=codec.decode_value))
    automatic = SignalR(bool, at=Field("heating", "status"), varies="in steps", doc="the heater follows the setpoint")
    control_sensor = SignalR(int, at=Field("sensor", "status"), varies="in steps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.unit is not None and not (isinstance(self.unit, int) and 0 <= self.unit <= 9):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no ISOBUS address; give 0 to 9, or none")
        self._address = "" if self.unit is None else f"@{self.unit}"

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return AnyLines(b"\r")

    @cached_property
    def probe(self) -> Probe:
        return Probe((self._address + "V").encode(), lambda reply: reply.startswith(codec.IDENTITY.encode()))

    async def identify(self) -> str:
        found = str((await self._text("V")).payload)
        if not found.startswith(codec.IDENTITY):
            raise WrongInstrument(
                self.name, f"expected an Oxford ITC503, found {found!r}; check `link` and `unit` in the lab file"
            )
        return found

    async def prepare(self) -> None:
        await self._order(f"C{codec.REMOTE}")

    # ------------------------------------------------------------------ verbs

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s) from where it is now; ended early, it holds. Raises `LimitError`."""
        self.setpoint.check(to)
        self.ramp_rate.check(rate)
        return self.start(f"ramp to {to:g} degC at {rate:g} K/s", self._ramp(to, rate), on_cancel=self._hold)

    def hold(self) -> Status[None]:
        """Stay at the present temperature; a heater that is off stays off."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Heater in manual at zero: it cools by itself. Gas flow stays as it is."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        await self._order(f"C{codec.REMOTE}")  # in local it would take nothing
        before = await self._status()
        # Manual first: in automatic mode the output is the loop's.
        await self._order(f"A{before.modes & codec.GAS_AUTO}")
        await self._order("O0")
        if (await self._status()).heating:
            raise Refused(self.name, "its heater stays automatic; switch it off at the front panel")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while output := codec.decode_value((await self.read_output()).payload):
            if loop.time() > deadline:
                raise Refused(self.name, f"the heater is still at {output:g} %; switch it off at the front panel")
            await asyncio.sleep(0.1)

    # ------------------------------------------------------------------ what the signals call

    async def read_sensor(self) -> Answer:
        """The sensor of the lab file, K."""
        return await self._text(f"R{codec.SENSOR - 1 + self.options.sensor}")

    async def read_setpoint(self) -> Answer:
        """The setpoint, K."""
        return await self._text(f"R{codec.SETPOINT}")

    async def write_setpoint(self, value: float) -> None:
        """Set it, degC, and look. Raises `Refused`."""
        await self._order(codec.encode_setpoint(value))
        taken = codec.decode_temperature((await self.read_setpoint()).payload)
        if abs(taken - value) > codec.RESOLUTION:
            raise Refused(self.name, f"the setpoint was set to {value:g} and became {taken:.2f} degC; check its limit")

    async def read_output(self) -> Answer:
        """The heater's output, %."""
        return await self._text(f"R{codec.OUTPUT}")

    async def read_voltage(self) -> Answer:
        """The heater's voltage, V."""
        return await self._text(f"R{codec.VOLTAGE}")

    async def status(self) -> Answer:
        """Modes, who controls it, sweep and sensor. Raises `ProtocolError`."""
        answer = await self._text("X")
        try:
            return Answer(codec.Status.decode(answer.payload), answer.sent, answer.received)
        except ValueError:
            raise self.protocol_error(answer.payload.encode(), "a status as X0A0C3S00H1L0") from None

    # ------------------------------------------------------------------ private

    async def _ramp(self, to: float, rate: float) -> None:
        status = await self._status()
        if status.sensor != self.options.sensor:
            raise Refused(
                self.name, f"its heater is controlled by sensor {status.sensor}, not by {self.options.sensor}; "
                "choose the sensor at the front panel, or `sensor` in the lab file",
            )  # fmt: skip
        await self._order("S0")  # a sweep would move the setpoint too
        await self.ramp_rate.put(rate)
        start = await self._here()
        await self.setpoint.put(start)
        if not status.heating:
            await self._order(f"A{(status.modes & codec.GAS_AUTO) | codec.HEATER_AUTO}")
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), max(STEP_TIME, codec.RESOLUTION / 2 / rate)
        while True:
            await asyncio.sleep(pause)
            gone = min(rate * (loop.time() - began), abs(to - start))
            if gone == abs(to - start):
                break
            await self.setpoint.put(start + gone if to > start else start - gone)
        await self.setpoint.put(to)
        async for _ in self.until(self.temperature, lambda now: abs(now - to) <= self.options.tolerance):
            pass

    async def _hold(self) -> None:
        await self._order("S0")
        await self.setpoint.put(await self._here())

    async def _here(self) -> float:
        """The present temperature as a setpoint."""
        limits = self.setpoint.limits
        here: float = min(max(await self.temperature.get(), limits.low), limits.high)
        return here

    async def _status(self) -> codec.Status:
        status: codec.Status = (await self.status()).payload
        return status

    async def _order(self, command: str) -> None:
        """Send a change; its letter comes back. Raises `Refused`."""
        reply = (await self.command((self._address + command).encode())).reply.decode("ascii", "replace")
        if reply != command[0]:
            self._refused(command, reply)
            raise self.protocol_error(reply.encode(), f"{command[0]!r}")

    async def _text(self, question: str) -> Answer:
        exchange = await self.ask((self._address + question).encode())
        text = exchange.reply.decode("ascii", "replace").strip()
        self._refused(question, text)
        return Answer(text, exchange.sent, exchange.received)

    def _refused(self, sent: str, reply: str) -> None:
        if reply.startswith("?"):
            raise Refused(
                self.name, f"{sent!r} was refused ({reply!r}): it is in local control, can't do this now, or the "
                "value is out of its range; press LOC/REM, then connect again",
            )  # fmt: skip
