"""Yokogawa GS200 voltage and current source; with the option /MON a source-meter."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

from devices.source_meter import Checked, ErrorQueue, Mode, SourceMeterUnit, close
from hal.errors import ConfigError, LimitError, Refused
from hal.instrument.address import Field
from hal.instrument.identity import identified, naming
from hal.model.capabilities import SourceMeter, Sweep
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import Framing, Lines
from hal.transport.session import Probe

from . import codec


class Level:
    """The source level, which is of one kind or the other by the function it is set to."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def question(self, device: Any) -> Hashable:
        return ("level", device.unit, device.channel)

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await device.state()
        return answer

    def value(self, device: Any, payload: codec.State) -> float | Sample[float]:
        if payload.mode != self.mode:
            return Sample(None, Quality.BAD, f"it sources {payload.mode} at present")
        return payload.level

    async def put(self, device: Any, value: float) -> None:
        before: codec.State = (await device.state()).payload
        if before.mode != self.mode:
            raise Refused(device.name, f"it sources {before.mode} at present; use source({self.mode!r}, ...)")
        await device.drain()
        await device.order(f":SOUR:LEV {value:.7g}")
        after: codec.State = (await device.state()).payload
        if not close(after.level, value):
            raise Refused(device.name, f"asked for a level of {value:g}, it took {after.level:g}")


class YokogawaGS200(ErrorQueue, SourceMeterUnit):
    """Sources voltage or current within limits. Safe state: 0, output off.

    It measures what it does not source, and that only with the option /MON: without it this is no
    `SourceMeter`, `source` works and `sweep` does not. The sourced quantity is told as it was set, and
    not at all while the limiter holds it back.
    """

    model = "GS200"
    vendor = "Yokogawa"
    provides: tuple[type, ...] = (SourceMeter,)
    wires = ("visa",)
    timeout = 2.0
    emulator = "devices.yokogawa_gs200.emulator:YokogawaGS200Emulator"
    verified = (
        "User's Manual IM GS210-01EN, pages 13-1 to 13-6, 13-12 and 13-30; commands of monitor and programs after the "
        "QCoDeS driver; its emulator by QCoDeS 0.58 and PyMeasure 0.16. Not by an instrument. "
        "Unverified: steps of the limiters, error codes, noise."
    )

    # Noise: resolution of the monitor (1 mV, 1 uA) as of the data sheet, unverified.
    voltage = SignalR(
        float, "V", at=Field("voltage", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=5e-4), doc="Across the specimen: as set, or measured while current is sourced.",
    )  # fmt: skip
    current = SignalR(
        float, "A", at=Field("current", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=5e-7), doc="Through the specimen: as set, or measured while voltage is sourced.",
    )  # fmt: skip
    output = SignalR(
        bool, at=Field("output", "measure"), poll=0.5, aperture=0.02, varies="in steps", doc="Whether it is on."
    )
    limited = SignalR(
        bool, at=Field("limited", "measure"), poll=0.5, aperture=0.02, varies="in steps",
        doc="Whether a limiter holds the source back.",
    )  # fmt: skip
    voltage_level = SignalRW(
        float, "V", at=Level("voltage"), limits=(-codec.VOLTAGE, codec.VOLTAGE), of="voltage", supersedes=True,
        doc="What a voltage source is set to.",
    )  # fmt: skip
    current_level = SignalRW(
        float, "A", at=Level("current"), limits=(-codec.CURRENT, codec.CURRENT), of="current", supersedes=True,
        doc="What a current source is set to.",
    )  # fmt: skip
    voltage_limit = SignalRW(
        float, "V", at=Checked(":SOUR:PROT:VOLT?", ":SOUR:PROT:VOLT {value:.7g}"), limits=codec.VOLTAGE_LIMIT,
        doc="Limiter of a current source, in steps of 1 V.",
    )  # fmt: skip
    current_limit = SignalRW(
        float, "A", at=Checked(":SOUR:PROT:CURR?", ":SOUR:PROT:CURR {value:.7g}"), limits=codec.CURRENT_LIMIT,
        doc="Limiter of a voltage source, in steps of 1 mA.",
    )  # fmt: skip
    monitor = False
    """Whether it can measure; known once connected."""
    _largest = 0.0

    def sweep(self, mode: Mode, levels: Sequence[float], compliance: float, dwell: float) -> Status[Sweep]:
        """See `SourceMeterUnit.sweep`; it needs the option /MON. Raises `ConfigError` without it."""
        if not self.monitor:
            raise ConfigError(
                f"{self.name}: this GS200 has no option /MON and can't measure a sweep; nothing was sent."
            )
        return super().sweep(mode, levels, compliance, dwell)

    async def make_safe(self) -> None:
        # A program that runs would set the next level, and one that is edited would take the level for a step.
        # Each message is one of its own, whatever the others meet.
        await self.tell(codec.NO_PROGRAM, idempotent=True)
        await self.tell(b":SOUR:LEV 0", idempotent=True)
        await self.tell(b":OUTP OFF", idempotent=True)
        await self.confirm_off()

    def check_all(self, mode: Mode, levels: Sequence[float], compliance: float) -> None:
        super().check_all(mode, levels, compliance)
        step, unit = (codec.CURRENT_STEP, "A") if mode == "voltage" else (codec.VOLTAGE_STEP, "V")
        if not close(round(compliance / step) * step, compliance):
            raise LimitError(
                f"{self.name}: a GS200 limits in steps of {step:g} {unit}, which {compliance:g} {unit} is not; "
                "nothing was sent."
            )

    # ------------------------------------------------------------------ wire

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Lines(codec.TERMINATOR)

    @cached_property
    def probe(self) -> Probe:
        return naming(b"YOKOGAWA")

    async def identify(self) -> str:
        return await identified(self, "a Yokogawa GS200", codec.IDENTITY)

    async def connected(self) -> None:
        options = (await self.ask(b"*OPT?")).reply.decode("ascii", "replace")
        self.monitor = codec.MONITOR in options.upper()
        self.provides = (SourceMeter,) if self.monitor else ()

    async def state(self) -> Answer:
        """What it is set to: a `codec.State`."""
        exchange = await self.ask(codec.STATE if self.monitor else codec.STATE_ALONE)
        try:
            found = codec.parse_state(exchange.reply, self.monitor)
        except ValueError:
            raise self.protocol_error(exchange.reply, "output, function, range and level") from None
        return Answer(found, exchange.sent, exchange.received)

    async def measure(self) -> Answer:
        """Measure what is not sourced, if that is possible now."""
        answer = await self.state()
        state: codec.State = answer.payload
        why = codec.measures(state) if self.monitor else "this GS200 has no option /MON and does not measure"
        missing: Sample[float] = Sample(None, Quality.BAD, why)
        if not state.output:
            return Answer(codec.measurement(state, missing, 0), answer.sent, answer.received)
        exchange = await self.ask(codec.CONDITION if why else codec.MEASURE)
        try:
            value, condition = codec.parse_measured(b"0;" + exchange.reply if why else exchange.reply)
        except ValueError:
            raise self.protocol_error(exchange.reply, "a measured value and the condition register") from None
        sample = missing if why else codec.sample(value, condition)
        return Answer(codec.measurement(state, sample, condition), exchange.sent, exchange.received)

    # ------------------------------------------------------------------ sourcing

    async def step(self, mode: Mode, level: float) -> None:
        await self.tell(f":SOUR:LEV {level:.7g}".encode(), idempotent=True)

    async def _sweep(self, mode: Mode, levels: list[float], compliance: float, dwell: float) -> Sweep:
        self._largest = max(abs(level) for level in levels)  # one range for all of it: changing it may show
        try:
            return await super()._sweep(mode, levels, compliance, dwell)
        finally:
            self._largest = 0.0

    async def begin(self, mode: Mode, level: float, compliance: float) -> None:
        extent = codec.smallest_range(mode, max(abs(level), self._largest))
        limit = ":SOUR:PROT:CURR" if mode == "voltage" else ":SOUR:PROT:VOLT"
        await self.drain()
        # It may say that there is no program to leave: of no interest.
        await self.tell(codec.NO_PROGRAM, idempotent=True)
        await self.tell(b"*CLS", idempotent=True)
        now: codec.State = (await self.state()).payload
        reply = (await self.ask(f"{limit}?".encode())).reply
        try:
            narrower = compliance <= float(reply)
        except ValueError:
            raise self.protocol_error(reply, "a limit") from None
        set_level, set_limit = f":SOUR:LEV {level:.7g}", f"{limit} {compliance:.7g}"
        if now.mode != mode or not close(now.range, extent):
            # What the output does while function or range change is not in the manual: it is off meanwhile.
            await self.order(
                ":OUTP OFF", f":SOUR:FUNC {codec.function(mode)}", f":SOUR:RANG {extent:g}", set_limit, set_level
            )
        else:
            # With the output on, neither the old level with a wider limit nor the new one without its own.
            await self.order(*((set_limit, set_level) if narrower else (set_level, set_limit)))
        await self.order(":OUTP ON")
        if self.monitor:
            await self.order(":SENS:TRIG IMM", ":SENS:NPLC 1", ":SENS ON")
        await self._read_back(mode, level, limit, compliance, extent)

    async def _read_back(self, mode: Mode, level: float, limit: str, compliance: float, extent: float) -> None:
        took: codec.State = (await self.state()).payload
        reply = (await self.ask(f"{limit}?".encode())).reply
        try:
            limiting = float(reply)
        except ValueError:
            raise self.protocol_error(reply, "a limit") from None
        if took.mode != mode or not took.output or not close(took.level, level) or not close(took.range, extent):
            raise Refused(
                self.name, f"asked for {mode} {level:g} in the range {extent:g}, it says {took}; see its front panel"
            )
        if not close(limiting, compliance):
            raise Refused(self.name, f"asked for a limit of {compliance:g}, it took {limiting:g}")
        sourced, limited = self.set_by(mode)
        self.note(sourced, level)
        self.note(limited, compliance)
