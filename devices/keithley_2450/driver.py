"""Keithley 2450 source-measure unit (SCPI command set)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from hal.errors import LimitError, ProtocolError, Refused, WrongInstrument
from hal.instrument.address import Field, Scpi
from hal.instrument.instrument import Instrument
from hal.model.capabilities import SourceMeter, Sweep
from hal.model.reading import Answer, Noise, Reading
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import Framing, Lines
from hal.protocols.scpi import parse_error
from hal.transport.session import Probe

from . import codec
from .codec import Measurement, Mode

T = TypeVar("T")

ERRORS = 1000
"""Entries the event log holds (p. 6-101)."""
TOLERANCE = 1e-3
"""How far, of the value, a setting read back may be off: it is rounded to the range's last digit."""


class Checked(Scpi[T]):
    """A setting sent with a look at the error queue afterwards."""

    async def put(self, device: Any, value: T) -> None:
        await device.drain()
        await device.order(self.command.format(value=self.shape(value)))


class Keithley2450(Instrument):
    """Sources voltage or current within a compliance, measures both. Safe state: 0, output off."""

    model = "2450"
    vendor = "Keithley"
    provides = (SourceMeter,)
    wires = ("visa", "tcp")
    timeout = 2.0
    emulator = "devices.keithley_2450.emulator:Keithley2450Emulator"
    verified = (
        "Reference Manual 2450-901-01 Rev. B; its emulator by QCoDeS 0.58 and PyMeasure 0.16. Not by an instrument."
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
        float, "V", at=Checked(":SOUR:VOLT?", ":SOUR:VOLT {value:.7g}"), limits=(-codec.VOLTAGE, codec.VOLTAGE),
        of="voltage", supersedes=True, doc="What a voltage source is set to.",
    )  # fmt: skip
    current_level = SignalRW(
        float, "A", at=Checked(":SOUR:CURR?", ":SOUR:CURR {value:.7g}"), limits=(-codec.CURRENT, codec.CURRENT),
        of="current", supersedes=True, doc="What a current source is set to.",
    )  # fmt: skip
    voltage_limit = SignalRW(
        float, "V", at=Checked(":SOUR:CURR:VLIM?", ":SOUR:CURR:VLIM {value:.7g}"), limits=codec.VOLTAGE_LIMIT,
        doc="Compliance of a current source.",
    )  # fmt: skip
    current_limit = SignalRW(
        float, "A", at=Checked(":SOUR:VOLT:ILIM?", ":SOUR:VOLT:ILIM {value:.7g}"), limits=codec.CURRENT_LIMIT,
        doc="Compliance of a voltage source.",
    )  # fmt: skip

    # ------------------------------------------------------------------ verbs

    def source(self, mode: Mode, level: float, compliance: float) -> Status[None]:
        """Source `level` (V or A) with the other quantity within +-`compliance` (A or V), output on."""
        self._check(mode, [level], compliance)
        return self.start(f"source {mode} {level:g}", self._source(mode, level, compliance))

    def sweep(self, mode: Mode, levels: Sequence[float], compliance: float, dwell: float) -> Status[Sweep]:
        """Source each level for `dwell` s, then measure; the output stays on at the last one."""
        self._check(mode, levels, compliance)
        if not 0 <= dwell < math.inf:
            raise LimitError(f"{self.name}: a dwell of {dwell:g} s can't be; nothing was sent.")
        return self.start(
            f"sweep {mode}, {len(levels)} levels", self._sweep(mode, [float(x) for x in levels], compliance, dwell)
        )

    def off(self) -> Status[None]:
        """Level to zero, output off."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        # Two messages: whatever the first one meets, the second is a message of its own.
        await self.tell(b":ABOR;:SOUR:VOLT 0;:SOUR:CURR 0", idempotent=True)
        await self.tell(b":OUTP OFF", idempotent=True)
        if (await self.ask(b":OUTP?")).reply.strip() != b"0":
            raise Refused(self.name, "the output did not go off; switch it off at the front panel")

    # ------------------------------------------------------------------ wire

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Lines(codec.TERMINATOR)

    @classmethod
    def probe(cls) -> Probe:
        return Probe(b"*IDN?", lambda reply: reply.startswith(b"KEITHLEY"))

    async def identify(self) -> str:
        found = (await self.ask(b"*IDN?")).reply.decode("ascii", "replace").strip()
        if not found.upper().startswith(codec.IDENTITY):
            raise WrongInstrument(self.name, f"expected a Keithley 2450, found {found!r}; check `link` in the lab file")
        language = (await self.ask(b"*LANG?")).reply.decode("ascii", "replace").strip()
        if language != "SCPI":
            raise WrongInstrument(
                self.name,
                f"expected a 2450 that speaks SCPI, found one that speaks {language!r}; "
                "set MENU > Settings > Command Set to SCPI and restart it",
            )
        return found

    async def measure(self) -> Answer:
        """Measure both quantities at once."""
        exchange = await self.ask(codec.READ)
        try:
            found = codec.parse_reading(exchange.reply)
        except ValueError as error:
            raise ProtocolError(
                self.name, f"{exchange.reply!r} is no reading ({error}); check the instrument's settings"
            ) from None
        return Answer(found, exchange.sent, exchange.received)

    async def order(self, *commands: str) -> None:
        """Send commands, one message each, then look whether one was refused. Raises `Refused`."""
        for command in commands:
            await self.tell(command.encode("ascii"), idempotent=True)
        code, text = await self._error()
        if code:
            await self.drain()
            raise Refused(
                self.name, f"{'; '.join(commands)}: refused with error {code}, {text!r}; see MENU > Event Log"
            )

    async def drain(self) -> None:
        """Read what others left in the error queue, so that the next error is ours."""
        for _ in range(ERRORS + 1):
            code, text = await self._error()
            if code == 0:
                return
            self.context.journal.note("error", self.name, f"found in the error queue: {code}, {text!r}")

    # ------------------------------------------------------------------ private

    async def _error(self) -> tuple[int, str]:
        reply = (await self.ask(b":SYST:ERR?", repeatable=False)).reply
        try:
            return parse_error(reply.decode("ascii", "replace"))
        except ValueError:
            raise self.protocol_error(reply, "an entry of the error queue") from None

    def _check(self, mode: Mode, levels: Sequence[float], compliance: float) -> None:
        """Check every level and the compliance, before anything is sent. Raises `LimitError`."""
        if mode not in ("voltage", "current"):
            raise LimitError(f"{self.name}: mode {mode!r} is neither 'voltage' nor 'current'; nothing was sent.")
        if len(levels) == 0:
            raise LimitError(f"{self.name}: no level is given; nothing was sent.")
        sourced, limit = (
            (self.voltage_level, self.current_limit) if mode == "voltage" else (self.current_level, self.voltage_limit)
        )
        reached = self.current_level if mode == "voltage" else self.voltage_level
        limit.check(compliance)
        for level in levels:
            sourced.check(level)
            # The other quantity may go as far as the compliance lets it: its limits hold for that too.
            reached.check(math.copysign(compliance, level))
            volts, amperes = (abs(level), compliance) if mode == "voltage" else (compliance, abs(level))
            if volts > codec.LOW_VOLTAGE and amperes > codec.LOW_CURRENT:
                raise LimitError(
                    f"{self.name}: {volts:g} V with {amperes:g} A is outside what a 2450 can do; nothing was sent. "
                    f"Stay below {codec.LOW_VOLTAGE:g} V or {codec.LOW_CURRENT:g} A."
                )

    async def _source(self, mode: Mode, level: float, compliance: float) -> None:
        function, other = codec.function(mode), codec.other(mode)
        await self.drain()
        present = (await self.ask(f":SOUR:FUNC?;{codec.limit(mode)}?;:OUTP?".encode())).reply.decode("ascii").split(";")
        if len(present) != 3:
            raise self.protocol_error(";".join(present).encode(), "function, limit and output")
        prepare = []
        if not present[0].strip().upper().startswith(function):
            prepare += [":OUTP OFF", f":SOUR:FUNC {function}"]
        prepare += [
            f':SENS:FUNC "{other}"',
            f":SENS:{other}:RANG:AUTO ON",
            f":SOUR:{function}:RANG:AUTO ON",
            f":SOUR:{function}:READ:BACK ON",
        ]
        set_level, set_limit = f"{codec.level(mode)} {level:.7g}", f"{codec.limit(mode)} {compliance:.7g}"
        # With the output on, neither the old level with a wider limit nor the new one without its own.
        narrower = compliance <= float(present[1])
        await self.order(*prepare, *((set_limit, set_level) if narrower else (set_level, set_limit)), ":OUTP ON")
        await self._read_back(mode, level, compliance)

    async def _read_back(self, mode: Mode, level: float, compliance: float) -> None:
        """Read back: the instrument adapts a limit to its range with no more than a warning (p. 6-71)."""
        query = f"{codec.level(mode)}?;{codec.limit(mode)}?;:OUTP?"
        reply = (await self.ask(query.encode())).reply
        try:
            took, limit, on = (float(text) for text in reply.decode("ascii").split(";"))
        except ValueError:
            raise self.protocol_error(reply, "level, limit and output") from None
        if not (math.isclose(took, level, rel_tol=TOLERANCE, abs_tol=1e-12) and on == 1):
            raise Refused(
                self.name, f"asked for {mode} {level:g}, it says {took:g} with output {'on' if on else 'off'}; "
                "check interlock and ranges at the front panel",
            )  # fmt: skip
        if not math.isclose(limit, compliance, rel_tol=TOLERANCE):
            raise Refused(
                self.name,
                f"asked for a compliance of {compliance:g}, it took {limit:g}; choose one that fits the range",
            )
        self._note(self.voltage_level if mode == "voltage" else self.current_level, level)
        self._note(self.current_limit if mode == "voltage" else self.voltage_limit, compliance)

    def _note(self, signal: SignalRW[float], value: float) -> None:
        """Tell whoever follows a setting that it was set."""
        signal.publish(Reading(value, signal.unit, self.context.timebase.now(), 0, 0.0))

    async def _sweep(self, mode: Mode, levels: list[float], compliance: float, dwell: float) -> Sweep:
        rows: list[tuple[float, float, bool, int, int]] = []
        for index, level in enumerate(levels):
            if index == 0:
                await self._source(mode, level, compliance)
            else:
                await self.tell(f"{codec.level(mode)} {level:.7g}".encode(), idempotent=True)
                self._note(self.voltage_level if mode == "voltage" else self.current_level, level)
            await asyncio.sleep(dwell)
            answer = await self.measure()
            found: Measurement = answer.payload
            if not found.output:
                raise Refused(self.name, f"the output went off at {mode} {level:g}; see MENU > Event Log")
            voltage, current = self.voltage.reading(answer), self.current.reading(answer)
            self.voltage.publish(voltage)
            self.current.publish(current)
            rows.append((_or_nan(voltage.value), _or_nan(current.value), found.limited, voltage.time, voltage.bound))
        code, text = await self._error()
        if code:
            raise Refused(self.name, f"error {code}, {text!r}, in the sweep; see MENU > Event Log")
        volts, amperes, limited, times, bounds = zip(*rows, strict=True)
        return Sweep(
            mode, np.array(levels), np.array(volts), np.array(amperes), np.array(limited, dtype=np.bool_),
            np.array(times, dtype=np.int64), np.array(bounds, dtype=np.int64),
        )  # fmt: skip


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
