"""Lake Shore 336 temperature controller: one input, and the output that heats it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hal.errors import Refused
from hal.instrument.address import Calls, Scpi
from hal.instrument.identity import identified, naming
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Heater, Thermometer
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import AnyLines, Framing
from hal.transport.link import SerialSettings
from hal.transport.session import Probe

from . import codec

RANGES = ("off", "low", "medium", "high")


@dataclass(frozen=True)
class Options:
    """Which input is read, and which output heats it."""

    input: Literal["A", "B", "C", "D"] = "A"
    output: Literal[1, 2] = 1
    range: Literal["low", "medium", "high"] = "high"
    """The heater range a ramp switches on, if it is off."""
    tolerance: float = 0.5
    """A ramp is done when the temperature is this near its end, K."""


class LakeShore336(Instrument):
    """Reads a thermometer; ramps and holds a temperature. Safe state: output off."""

    model = "336"
    vendor = "Lake Shore"
    provides = (Thermometer, Heater)
    wires = ("tcp", "serial")
    line = SerialSettings(57600, 7, "O", 1)
    timeout = 1.0
    pace = 0.05  # s: at most 20 messages a second (336 manual 6.3.5, after labmcp-lakeshore 0.1.3)
    Options = Options
    emulator = "devices.lakeshore_336.emulator:LakeShore336Emulator"
    verified = (
        "Commands as the vendor's package lakeshore 1.10 and QCoDeS 0.58 send them, which its emulator also serves, "
        "as it does SweepMe's driver for the 33x. Not by an instrument."
    )

    temperature = SignalR(
        float, "degC", at=Scpi("KRDG? {input};RDGST? {input}", parse=codec.parse_temperature), kind=Kind.HINTED,
        poll=0.5, max_age=1 / codec.UPDATES, aperture=1 / codec.UPDATES,
        noise=Noise(absolute=5e-3, resolution=codec.RESOLUTION), doc="Of the input's sensor.",
    )  # fmt: skip
    setpoint = SignalRW(
        float, "degC", at=Calls("read_setpoint", "write_setpoint", convert=codec.parse_setpoint),
        limits=(codec.COLDEST, codec.HOTTEST), of="temperature", supersedes=True, kind=Kind.NORMAL, poll=1.0,
        doc="Where the loop is going; moves while it ramps.",
    )  # fmt: skip
    ramp_rate = SignalRW(
        float, "K/s", at=Calls("read_ramp", "write_rate", convert=lambda reply: codec.parse_ramp(reply)[1]),
        limits=(codec.RATES[0] / 60, codec.RATES[1] / 60), doc="At which setpoints ramp; 0.1 K/min steps.",
    )  # fmt: skip
    range = SignalRW(
        str, at=Calls("read_range", "write_range", convert=lambda reply: RANGES[int(reply)]), choices=RANGES,
        doc="Of the heater output.",
    )  # fmt: skip
    heating = SignalR(float, "%", at=Scpi("HTR? {output}"), poll=1.0, doc="Output, of the range's full scale.")

    # ------------------------------------------------------------------ verbs

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s) from where it is now; ended early, it holds."""
        self.setpoint.check(to)
        self.ramp_rate.check(rate)
        return self.start(f"ramp to {to:g} degC at {rate:g} K/s", self._ramp(to, rate), on_cancel=self._hold)

    def hold(self) -> Status[None]:
        """Stay at the present temperature."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Output off: it cools by itself."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        output = self.options.output
        await self.tell(f"RANGE {output},0".encode(), idempotent=True)
        if (await self.ask(f"RANGE? {output}".encode())).reply.strip() != b"0":
            raise Refused(self.name, f"output {output} did not go off; press Heater Off on the front panel")

    # ------------------------------------------------------------------ wire

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return AnyLines(b"\r\n" if scheme == "serial" else b"\n")

    @cached_property
    def probe(self) -> Probe:
        return naming(b"LSCI,")

    async def identify(self) -> str:
        return await identified(self, "a Lake Shore 336", codec.IDENTITY)

    async def read_setpoint(self) -> Answer:
        """The setpoint with its units: somebody may change them at the front panel."""
        return await self._text(f"SETP? {self.options.output};INTYPE? {self.options.input}")

    async def write_setpoint(self, value: float) -> None:
        """Set it in the units the loop is set to. Raises `Refused`."""
        loop = await self._loop()
        await self._order(f"SETP {self.options.output},{codec.format_setpoint(value, loop.units)}")

    async def read_ramp(self) -> Answer:
        """Whether setpoints ramp, and the rate."""
        return await self._text(f"RAMP? {self.options.output}")

    async def write_rate(self, value: float) -> None:
        """Set the rate and have setpoints ramp. Raises `Refused`."""
        await self.ask(b"*ESR?", repeatable=False)  # what others left there
        await self._order(f"RAMP {self.options.output},1,{codec.format_rate(value)}")

    async def read_range(self) -> Answer:
        """The heater range."""
        return await self._text(f"RANGE? {self.options.output}")

    async def write_range(self, value: str) -> None:
        """Set the heater range. Raises `Refused`."""
        await self.ask(b"*ESR?", repeatable=False)  # what others left there
        await self._order(f"RANGE {self.options.output},{RANGES.index(value)}")

    # ------------------------------------------------------------------ private

    async def _ramp(self, to: float, rate: float) -> None:
        output, loop = self.options.output, await self._loop()
        # A ramp starts from the setpoint, which may be anywhere: bring it to the temperature first.
        here = await self._here()
        await self._order(
            f"RAMP {output},0,{codec.format_rate(rate)};SETP {output},{codec.format_setpoint(here, loop.units)}"
        )
        await self._order(f"RAMP {output},1,{codec.format_rate(rate)}")
        on, _ = codec.parse_ramp((await self.read_ramp()).payload)
        if not on:
            raise Refused(self.name, f"output {output} does not ramp; see Setpoint Ramping at the front panel")
        if await self.range.get() == "off":
            await self.range.put(self.options.range)
        await self.setpoint.put(to)
        async for _reading in self.until(self.setpoint, lambda setpoint: abs(setpoint - to) < 2 * codec.RESOLUTION):
            pass
        async for _reading in self.until(self.temperature, lambda now: abs(now - to) <= self.options.tolerance):
            pass

    async def _hold(self) -> None:
        output, loop = self.options.output, await self._loop()
        here = await self._here()
        rate = codec.format_rate(await self.ramp_rate.get())
        await self._order(f"RAMP {output},0,{rate};SETP {output},{codec.format_setpoint(here, loop.units)}")

    async def _here(self) -> float:
        """The present temperature as a setpoint; a little beyond the limits (overshoot) it is at the limit."""
        limits = self.setpoint.limits
        return min(max(await self.temperature.get(), limits.low), limits.high)

    async def _loop(self) -> codec.Loop:
        """Make sure that the output is controlled by our input, in units of temperature. Raises `Refused`."""
        output, name = self.options.output, self.options.input
        # *ESR? clears what others left there, so that the next error is ours.
        exchange = await self.ask(f"OUTMODE? {output};INTYPE? {name};*ESR?".encode(), repeatable=False)
        try:
            outmode, intype, _ = exchange.reply.decode("ascii").split(";")
            loop = codec.parse_loop(outmode, intype)
        except ValueError:
            raise self.protocol_error(exchange.reply, "mode, input type and event status") from None
        if loop.mode not in codec.CLOSED_LOOPS or loop.input != " ABCD".index(name):
            raise Refused(
                self.name, f"output {output} is not in closed loop on input {name} (mode {loop.mode}, "
                f"input {loop.input}); set Output Setup at the front panel, or `output` in the lab file",
            )  # fmt: skip
        if loop.units not in (codec.KELVIN, codec.CELSIUS):
            raise Refused(self.name, f"input {name} is in sensor units; set its preferred units to kelvin")
        return loop

    async def _order(self, commands: str) -> None:
        """Send commands and look whether they were taken. Raises `Refused`."""
        reply = (await self.command(f"{commands};*ESR?".encode())).reply
        try:
            events = int(reply)
        except ValueError:
            raise self.protocol_error(reply, "an event status") from None
        for bit, what in (
            (codec.COMMAND_ERROR, "it does not know this command"),
            (codec.EXECUTION_ERROR, "it can't do this now, or a value is out of its range"),
            (codec.QUERY_ERROR, "it can't answer this"),
        ):
            if events & bit:
                raise Refused(
                    self.name, f"{commands!r} was refused (event status {events}): {what}; check the front panel"
                )

    async def _text(self, question: str) -> Answer:
        exchange = await self.ask(question.encode())
        return Answer(exchange.reply.decode("ascii", "replace").strip(), exchange.sent, exchange.received)
