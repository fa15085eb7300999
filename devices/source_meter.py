"""What source-meters share: checks before anything is sent, sweeps, and the error queue of SCPI.

A model states its signals and how it sources, measures and steps; the rules that keep a specimen whole
(every level and compliance checked first, never clipped) stand here once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

from hal.errors import LimitError, Refused
from hal.instrument.address import Scpi
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Sweep
from hal.model.reading import Answer, Reading, Sample
from hal.model.signal import SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.scpi import parse_error

Mode = Literal["voltage", "current"]


class Measured(Protocol):
    """What a measurement of a source-meter tells at once."""

    @property
    def voltage(self) -> Sample[float]: ...
    @property
    def current(self) -> Sample[float]: ...
    @property
    def output(self) -> bool: ...
    @property
    def limited(self) -> bool: ...


class SourceMeterUnit(Instrument):
    """Base of drivers that source voltage or current within a compliance and measure both."""

    voltage: SignalR[float]
    current: SignalR[float]
    voltage_level: SignalRW[float]
    current_level: SignalRW[float]
    voltage_limit: SignalRW[float]
    current_limit: SignalRW[float]

    advice = "see what the front panel says"
    """Where to look when it refuses."""

    # ------------------------------------------------------------------ drivers override

    async def measure(self) -> Answer:
        """Measure both quantities; the payload is a `Measured`."""
        raise NotImplementedError

    async def begin(self, mode: Mode, level: float, compliance: float) -> None:
        """Source from any state the instrument may be in, output on, and read back. Raises `Refused`."""
        raise NotImplementedError

    async def step(self, mode: Mode, level: float) -> None:
        """Change the level of what is sourced already."""
        raise NotImplementedError

    async def look_for_errors(self, during: str) -> None:
        """Raise `Refused` if the instrument has an error to tell."""
        raise NotImplementedError

    def impossible(self, volts: float, amperes: float) -> str:
        """Why the instrument can't give these magnitudes together (its power envelope), empty if it can."""
        return ""

    # ------------------------------------------------------------------ verbs

    def source(self, mode: Mode, level: float, compliance: float) -> Status[None]:
        """Source `level` (V or A) with the other quantity within +-`compliance` (A or V), output on.

        Raises `LimitError` before anything is sent.
        """
        self.check_all(mode, [level], compliance)
        return self.start(f"source {mode} {level:g}", self.begin(mode, level, compliance))

    def sweep(self, mode: Mode, levels: Sequence[float], compliance: float, dwell: float) -> Status[Sweep]:
        """Source each level for `dwell` s, then measure; the output stays on at the last one.

        Raises `LimitError` before anything is sent.
        """
        self.check_all(mode, levels, compliance)
        if not 0 <= dwell < math.inf:
            raise LimitError(f"{self.name}: a dwell of {dwell:g} s can't be; nothing was sent.")
        values = [float(level) for level in levels]
        return self.start(f"sweep {mode}, {len(values)} levels", self._sweep(mode, values, compliance, dwell))

    def off(self) -> Status[None]:
        """Level to zero, output off."""
        return self.start("off", self.make_safe())

    # ------------------------------------------------------------------ for drivers

    async def confirm_off(self, question: bytes = b":OUTP?") -> None:
        """Look whether the output went off. Raises `Refused`."""
        if (await self.ask(question)).reply.strip() != b"0":
            raise Refused(self.name, "the output did not go off; switch it off at the front panel")

    def check_all(self, mode: Mode, levels: Sequence[float], compliance: float) -> None:
        """Check every level and the compliance. Raises `LimitError`."""
        if mode not in ("voltage", "current"):
            raise LimitError(f"{self.name}: mode {mode!r} is neither 'voltage' nor 'current'; nothing was sent.")
        if len(levels) == 0:
            raise LimitError(f"{self.name}: no level is given; nothing was sent.")
        sourced, limit = self.set_by(mode)
        reached = self.current_level if mode == "voltage" else self.voltage_level
        limit.check(compliance)
        for level in levels:
            sourced.check(level)
            # The other quantity may go as far as the compliance lets it: its limits hold for that too.
            reached.check(math.copysign(compliance, level))
            volts, amperes = (abs(level), compliance) if mode == "voltage" else (compliance, abs(level))
            if reason := self.impossible(volts, amperes):
                raise LimitError(f"{self.name}: {reason}; nothing was sent.")

    def set_by(self, mode: Mode) -> tuple[SignalRW[float], SignalRW[float]]:
        """The signals of level and compliance of a source of this kind."""
        if mode == "voltage":
            return self.voltage_level, self.current_limit
        return self.current_level, self.voltage_limit

    def note(self, signal: SignalRW[float], value: float) -> None:
        """Tell whoever follows a setting that it was set."""
        signal.publish(Reading(value, signal.unit, self.context.timebase.now(), 0, 0.0))

    async def _sweep(self, mode: Mode, levels: list[float], compliance: float, dwell: float) -> Sweep:
        rows: list[tuple[float, float, bool, int, int]] = []
        for index, level in enumerate(levels):
            if index == 0:
                await self.begin(mode, level, compliance)
            else:
                await self.step(mode, level)
                self.note(self.set_by(mode)[0], level)
            await asyncio.sleep(dwell)
            answer = await self.measure()
            found: Measured = answer.payload
            if not found.output:
                raise Refused(self.name, f"the output went off at {mode} {level:g}; {self.advice}")
            voltage, current = self.voltage.reading(answer), self.current.reading(answer)
            self.voltage.publish(voltage)
            self.current.publish(current)
            rows.append((_or_nan(voltage.value), _or_nan(current.value), found.limited, voltage.time, voltage.bound))
        await self.look_for_errors("the sweep")
        volts, amperes, limited, times, bounds = zip(*rows, strict=True)
        return Sweep(
            mode, np.array(levels), np.array(volts), np.array(amperes), np.array(limited, dtype=np.bool_),
            np.array(times, dtype=np.int64), np.array(bounds, dtype=np.int64),
        )  # fmt: skip


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


class ErrorQueue(Instrument):
    """A SCPI instrument whose error queue is looked at after each setting."""

    entries = 100
    """How many errors its queue holds at most."""
    meaning = "its manual lists the codes"
    """Where to learn what an error means."""

    async def order(self, *commands: str) -> None:
        """Send commands, one message each, then look whether one was refused. Raises `Refused`."""
        for command in commands:
            await self.tell(command.encode("ascii"), idempotent=True)
        await self.look_for_errors("; ".join(commands))

    async def look_for_errors(self, during: str) -> None:
        """Raise `Refused` with code and text of the error that is in the queue, if there is one."""
        code, text = await self._next_error()
        if code:
            await self.drain()
            raise Refused(self.name, f"{during}: refused with error {code}, {text!r}; {self.meaning}")

    async def drain(self) -> None:
        """Read what others left in the error queue, so that the next error is ours."""
        for _ in range(self.entries + 1):
            code, text = await self._next_error()
            if code == 0:
                return
            self.context.journal.note("error", self.name, f"found in the error queue: {code}, {text!r}")

    async def _next_error(self) -> tuple[int, str]:
        reply = (await self.ask(b":SYST:ERR?", repeatable=False)).reply
        try:
            return parse_error(reply.decode("ascii", "replace"))
        except ValueError:
            raise self.protocol_error(reply, "an entry of the error queue") from None


class Ordered(Scpi[float]):
    """A number that is sent, with a look at the error queue afterwards."""

    async def put(self, device: Any, value: float) -> None:
        await device.drain()
        await device.order(self.command.format(value=self.shape(value)))


class Checked(Ordered):
    """A number that is sent, and read back after a look at the error queue."""

    async def put(self, device: Any, value: float) -> None:
        await super().put(device, value)
        took = self.value(device, (await self.ask(device)).payload)
        if not isinstance(took, float) or not close(took, value):
            raise Refused(device.name, f"{self.command.format(value=value)}: it took {took:g}; choose what it can do")


def close(took: float, asked: float) -> bool:
    """Whether a number read back is the one that was set, up to the last digits of its range."""
    return math.isclose(took, asked, rel_tol=1e-3, abs_tol=1e-12)
