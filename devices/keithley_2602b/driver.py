"""Keithley 2602B source-meter (TSP): one of its two channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from devices.source_meter import ErrorQueue, Mode, SourceMeterUnit, close
from hal.errors import ConfigError, Refused
from hal.instrument.address import Field, Scpi
from hal.instrument.identity import identified, naming
from hal.model.capabilities import SourceMeter
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.protocols.framing import Framing, Lines
from hal.transport.session import Probe

from . import codec

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How it measures."""

    nplc: float = 0.0
    """Cycles of the mains per measurement, 0.001 to 25; 0: as it is set."""
    four_wire: bool | None = None
    """Whether the voltage is sensed at the specimen by wires of its own; left out: as it is set."""


class Setting(Scpi[float]):
    """A number among the attributes of the source; set, looked after in the error queue, and read back."""

    async def put(self, device: Any, value: float) -> None:
        line = self.command.format_map(device.fields | {"value": value})
        await device.drain()
        await device.order(line)
        took = self.value(device, (await self.ask(device)).payload)
        if not (isinstance(took, float) and close(took, value)):
            raise Refused(device.name, f"{line}: it took {took}; choose what it can do")


def setting(attribute: str) -> Setting:
    """The place of an attribute of this channel's source."""
    name = f"smu{{channel}}.source.{attribute}"
    return Setting(codec.question(name), f"{name} = {{value:.9g}}")


class Keithley2602B(ErrorQueue, SourceMeterUnit):
    """Channel ``"a"`` (unless told) or ``"b"``: sources within a compliance, measures. Safe state: 0, output off.

    Two devices on one link are its two channels. The safe state of one ends scripts and sweeps of both.
    """

    model = "2602B"
    vendor = "Keithley"
    provides = (SourceMeter,)
    wires = ("visa", "tcp")
    timeout = 2.0
    entries = 100  # of the error queue, unverified
    advice = "see what the front panel says, and whether its output enable line (pin 24) is closed"
    meaning = "section 8 of its manual lists the codes"
    Options = Options
    emulator = "devices.keithley_2602b.emulator:Keithley2602BEmulator"
    verified = (
        "Reference Manual 2600BS-901-01 in part; its emulator by keithley2600 2.1, QCoDeS 0.58, "
        "PyMeasure 0.16 and Tektronix's tm_devices 3.7.0. Not by an instrument. Unverified: noise, what abort does "
        "to sweeps."
    )

    voltage = SignalR(
        float, "V", at=Field("voltage", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=2e-5, relative=1e-5), doc="Across the specimen.",
    )  # fmt: skip
    current = SignalR(
        float, "A", at=Field("current", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=1e-10, relative=3e-5), doc="Through the specimen.",
    )  # fmt: skip
    output = SignalR(
        bool, at=Field("output", "measure"), poll=0.5, aperture=0.02, varies="in steps", doc="Whether it is on."
    )
    limited = SignalR(
        bool, at=Field("limited", "measure"), poll=0.5, aperture=0.02, varies="in steps",
        doc="Whether the compliance holds the source back.",
    )  # fmt: skip
    voltage_level = SignalRW(
        float, "V", at=setting("levelv"), limits=(-codec.VOLTAGE, codec.VOLTAGE), of="voltage", supersedes=True,
        doc="What a voltage source is set to.",
    )  # fmt: skip
    current_level = SignalRW(
        float, "A", at=setting("leveli"), limits=(-codec.CURRENT, codec.CURRENT), of="current", supersedes=True,
        doc="What a current source is set to.",
    )  # fmt: skip
    voltage_limit = SignalRW(
        float, "V", at=setting("limitv"), limits=codec.VOLTAGE_LIMIT, doc="Compliance of a current source."
    )
    current_limit = SignalRW(
        float, "A", at=setting("limiti"), limits=codec.CURRENT_LIMIT, doc="Compliance of a voltage source."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        letter = str("a" if self.channel is None else self.channel).lower().removeprefix("smu")
        if letter not in ("a", "b"):
            raise ConfigError(f'{self.name}: channel = {self.channel!r} is no channel of a 2602B; give "a" or "b"')
        if self.options.nplc and not codec.NPLC[0] <= self.options.nplc <= codec.NPLC[1]:
            raise ConfigError(f"{self.name}: nplc = {self.options.nplc:g} can't be; give 0.001 to 25, or 0")
        self.channel: str = letter

    async def make_safe(self) -> None:
        smu = f"smu{self.channel}"
        # A script that runs would keep it from hearing anything else.
        await self.tell(b"abort", idempotent=True)
        # Two messages: whatever the first one meets, the second is a message of its own.
        await self.tell(f"{smu}.abort() {smu}.source.levelv = 0 {smu}.source.leveli = 0".encode(), idempotent=True)
        await self.tell(f"{smu}.source.output = {smu}.OUTPUT_OFF".encode(), idempotent=True)
        reply = (await self.ask(codec.question(f"{smu}.source.output").encode())).reply
        if self._parsed(reply, float, "the state of the output") != 0:
            raise Refused(self.name, f"output {self.channel} did not go off; switch it off at the front panel")

    # ------------------------------------------------------------------ wire

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Lines(codec.TERMINATOR)

    @cached_property
    def probe(self) -> Probe:
        return naming(b"KEITHLEY")

    async def identify(self) -> str:
        return await identified(self, "a Keithley 2602B", codec.IDENTITY)

    async def prepare(self) -> None:
        """Integration time and sensing, as far as the options say."""
        orders = []
        if self.options.nplc:
            orders.append(f"smu{self.channel}.measure.nplc = {self.options.nplc:.9g}")
        if self.options.four_wire is not None:
            orders.append(f"smu{self.channel}.sense = {int(self.options.four_wire)}")
        if orders:
            await self.drain()
            await self.order(*orders)

    async def measure(self) -> Answer:
        """Measure both quantities at once."""
        exchange = await self.ask(codec.measure(self.channel).encode())
        found = self._parsed(exchange.reply, codec.parse_measurement, "a reading")
        return Answer(found, exchange.sent, exchange.received)

    async def _next_error(self) -> tuple[int, str]:
        reply = (await self.ask(b"print(errorqueue.next())", repeatable=False)).reply
        return self._parsed(reply, codec.parse_error, "an entry of the error queue")

    def _parsed(self, reply: bytes, parse: Callable[[bytes], T], what: str) -> T:
        try:
            return parse(reply)
        except ValueError:
            raise self.protocol_error(reply, what) from None

    # ------------------------------------------------------------------ sourcing

    def impossible(self, volts: float, amperes: float) -> str:
        if volts > codec.LOW_VOLTAGE and amperes > codec.LOW_CURRENT:
            return (
                f"{volts:g} V with {amperes:g} A is outside what a 2602B can do; "
                f"stay below {codec.LOW_VOLTAGE:g} V or {codec.LOW_CURRENT:g} A"
            )
        return ""

    async def step(self, mode: Mode, level: float) -> None:
        await self.tell(f"{codec.level(self.channel, mode)} = {level:.9g}".encode(), idempotent=True)

    async def begin(self, mode: Mode, level: float, compliance: float) -> None:
        smu = f"smu{self.channel}"
        sourced, measured = ("v", "i") if mode == "voltage" else ("i", "v")
        await self.drain()
        present = await self._state(mode)
        prepare = []
        if present.mode != mode:
            function = "OUTPUT_DCVOLTS" if mode == "voltage" else "OUTPUT_DCAMPS"
            prepare += [f"{smu}.source.output = {smu}.OUTPUT_OFF", f"{smu}.source.func = {smu}.{function}"]
        prepare += [
            f"{smu}.source.autorange{sourced} = {smu}.AUTORANGE_ON",
            f"{smu}.measure.autorange{measured} = {smu}.AUTORANGE_ON",
        ]
        set_level = f"{codec.level(self.channel, mode)} = {level:.9g}"
        set_limit = f"{codec.limit(self.channel, mode)} = {compliance:.9g}"
        # With the output on, neither the old level with a wider limit nor the new one without its own.
        narrower = compliance <= present.compliance
        ordered = (set_limit, set_level) if narrower else (set_level, set_limit)
        await self.order(*prepare, *ordered)
        await self.order(f"{smu}.source.output = {smu}.OUTPUT_ON")  # only if all of that was taken
        await self._read_back(mode, level, compliance)

    async def _read_back(self, mode: Mode, level: float, compliance: float) -> None:
        found = await self._state(mode)
        if not (found.mode == mode and found.output and close(found.level, level)):
            raise Refused(
                self.name, f"asked for {mode} {level:g}, it says {found.mode} {found.level:g} with output "
                f"{'on' if found.output else 'off'}; {self.advice}",
            )  # fmt: skip
        if not close(found.compliance, compliance):
            raise Refused(self.name, f"asked for a compliance of {compliance:g}, it took {found.compliance:g}")
        sourced, limited = self.set_by(mode)
        self.note(sourced, level)
        self.note(limited, compliance)

    async def _state(self, mode: Mode) -> codec.State:
        reply = (await self.ask(codec.state(self.channel, mode).encode())).reply
        return self._parsed(reply, codec.parse_state, "function, level, limit and output")
