"""What the board streams: samples of its analogue inputs and stamped edges, as arrays, by credit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.errors import DeviceError, LimitError, Refused
from hal.model.status import Status
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import EdgeChunk, Int64, SampleChunk
from hal.protocols.firmware_gen import FULL_OUTPUT, Capability, HeaterMode, Telemetry

from .addresses import UNKNOWN
from .streams import Captured, Followed, Ledger, Sampled
from .teds import KELVIN
from .timing import TimedBoard

QUIET = 0.05
"""Seconds in which edges come that waited on the board when fewer were wanted."""
LOOP_LONGEST = 3600.0
"""Seconds of the heater loop that are recorded at once, at most: it is kept in memory."""


@dataclass(frozen=True, slots=True)
class LoopRecord:
    """The heater loop, a line every so many milliseconds: arrays of shape (n,)."""

    ticks: Int64
    """Of the control pass, on the board's clock."""
    time: Int64
    """Lab time, ns."""
    bound: Int64
    """Its hard bound, ns."""
    temperature: NDArray[np.float64]
    """degC; NaN where it is not known."""
    setpoint: NDArray[np.float64]
    """degC, where the loop is heading in this pass; NaN where it follows none."""
    output: NDArray[np.float64]
    """%."""
    lost: int
    """Lines that the board dropped or that never came."""

    def __len__(self) -> int:
        return len(self.ticks)


class StreamingBoard(TimedBoard):
    """A board and what it sends unasked. Listeners get every chunk at once and in order; they must not wait."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.sampled = Sampled()
        """What became of the samples."""
        self.captured = Captured()
        """What became of the edges."""
        self._crediting: asyncio.Task[None] | None = None
        self._sample_listeners: tuple[Callable[[SampleChunk], None], ...] = ()
        self._edge_listeners: tuple[Callable[[EdgeChunk], None], ...] = ()
        self.followed = Followed()
        """What became of the heater loop's lines."""
        self._streaming = asyncio.Lock()
        """Held while what streams is changed."""
        self._samplers = 0
        self._capturers: list[tuple[int, int]] = []

    # ------------------------------------------------------------------ streams

    @asynccontextmanager
    async def sampling(self, channels: Sequence[int], rate: float) -> AsyncIterator[None]:
        """Stream analogue inputs, `rate` instants a second, inside the block; `on_samples` listeners get chunks.

        Users of the same inputs at the same rate share the stream. Raises `LimitError` for what no board can do,
        `Refused` where this one can't, or streams already otherwise.
        """
        self.need(Capability.ADC, "analogue inputs")
        hello = self.known
        mask = self._bits(channels, hello.adc_channels, "analogue input")
        if not mask or not rate > 0:
            raise LimitError(f"{self.name}: sampling takes an input and a rate above 0; nothing was sent.")
        request = gen.SamplesStart(mask, round(hello.tick_rate / rate), 0)
        async with self._streaming:
            if not self._samplers:
                await self._start_samples(request)
            elif self.sampled.request != request:
                raise Refused(
                    self.name, "it streams samples already, of other inputs or at another rate; end that first"
                )
            self._samplers += 1
        try:
            yield
        finally:
            async with self._streaming:
                self._samplers -= 1
                if not self._samplers:
                    await self._stop(self.sampled)

    def on_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Call `listener` with every chunk of samples, at once and in order; it must not wait."""
        self._sample_listeners += (listener,)

    def off_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Undo `on_samples`."""
        self._sample_listeners = tuple(known for known in self._sample_listeners if known != listener)

    @asynccontextmanager
    async def capturing(self, rising: Sequence[int] = (0,), falling: Sequence[int] = ()) -> AsyncIterator[None]:
        """Stamp edges at capture inputs inside the block; `on_pulses` listeners get chunks.

        There is one stream: of the edges that any of its users wants. Raises `LimitError`, `Refused`.
        """
        self.need(Capability.CAPTURE, "capture inputs")
        count = self.known.capture_channels
        wanted = self._bits(rising, count, "capture input"), self._bits(falling, count, "capture input")
        async with self._streaming:
            await self._want_edges([*self._capturers, wanted])
            self._capturers.append(wanted)
        try:
            yield
        finally:
            async with self._streaming:
                self._capturers.remove(wanted)
                try:
                    await self._want_edges(self._capturers)
                except DeviceError as error:  # as in `_stop`
                    self.context.journal.note("error", self.name, f"capturing less: {error}")

    def on_pulses(self, listener: Callable[[EdgeChunk], None]) -> None:
        """Call `listener` with every chunk of stamped pulses, at once and in order; it must not wait."""
        self._edge_listeners += (listener,)

    def off_pulses(self, listener: Callable[[EdgeChunk], None]) -> None:
        """Undo `on_pulses`."""
        self._edge_listeners = tuple(known for known in self._edge_listeners if known != listener)

    def record_loop(self, seconds: float, period: float = 0.001) -> Status[LoopRecord]:
        """Record the heater loop for so long, a line every `period` s (whole milliseconds) on the board's clock."""
        self.need(Capability.HEATER, "heater")
        ms = round(period * 1e3)
        if not 1 <= ms <= 65535 or not 0 < seconds <= LOOP_LONGEST:
            raise LimitError(
                f"{self.name}: {seconds:g} s in lines of {period:g} s can't be recorded; give 1 ms to 65 s a line, "
                f"and at most {LOOP_LONGEST:g} s; nothing was sent."
            )
        work = self._record_loop(seconds, ms)
        return Status(work, name=f"{self.name} record_loop", device=self, safe_on_error=False)

    async def _record_loop(self, seconds: float, ms: int) -> LoopRecord:
        boot, followed = self.known.boot, self.followed
        if followed.request is not None:
            raise Refused(self.name, "its heater loop is being recorded already; wait for that")
        followed.begin(gen.TelemetryStart(ms, 0))
        try:
            await self.do(gen.TelemetryStart(ms, followed.window), harmless=True)
            await asyncio.sleep(seconds)
        finally:
            await self._stop(followed)
        if self.known.boot != boot:
            raise Refused(self.name, "the board started anew in the middle; record again")
        lines, followed.lines = followed.lines, []
        columns = np.array([_columns(line) for line in lines], np.int64).reshape(-1, 4)
        time, bound = self.lab_time(columns[:, 0])
        return LoopRecord(
            columns[:, 0].copy(), time, bound, _celsius(columns[:, 1]), _celsius(columns[:, 2]),
            columns[:, 3] / FULL_OUTPUT * 100, followed.lost_blocks + followed.dropped,
        )  # fmt: skip

    async def _want_edges(self, users: list[tuple[int, int]]) -> None:
        """Have the board stamp what all these users want, and no more."""
        rising, falling = (reduce(or_, (user[k] for user in users), 0) for k in (0, 1))
        now = self.captured.request
        if not users:
            await self._stop(self.captured)
        elif now is None:
            await self._start_captures(gen.CapturesStart(rising, falling, 0, 0))
        elif (now.rising, now.falling) != (rising, falling):
            await self.do(gen.CapturesStart(rising, falling, 0, 1), harmless=True)
            self.captured.request = replace(now, rising=rising, falling=falling)
            await asyncio.sleep(QUIET)  # what waits on the board still comes

    def _bits(self, numbers: Sequence[int], count: int, what: str) -> int:
        for number in numbers:
            if not 0 <= number < count:
                raise LimitError(f"{self.name}: {what} {number} is none of 0 to {count - 1}; nothing was sent.")
        return sum(1 << number for number in set(numbers))

    async def _stop(self, ledger: Ledger) -> None:
        try:
            made, sent = await self._end_stream(ledger), -1
            while made.blocks != sent:  # between two answers something was sent: more may wait
                made, sent = await self._end_stream(ledger), made.blocks
            ledger.end(made)
        except DeviceError as error:  # whoever left is done with the stream: this is no error of theirs
            self.context.journal.note("error", self.name, f"stopping a stream: {error}")
        finally:
            ledger.request = None

    async def _end_stream(self, ledger: Ledger) -> gen.StreamStopReply:
        """How much there was so far: that has all come before this answer."""
        reply: gen.StreamStopReply = (await self.do(gen.StreamStop(ledger.stream), harmless=True)).reply
        return reply

    async def disconnecting(self) -> None:
        crediting, self._crediting = self._crediting, None
        if crediting is not None:
            crediting.cancel()
            await asyncio.wait([crediting])
        await super().disconnecting()

    # ------------------------------------------------------------------ private

    async def _resume_streams(self) -> None:
        """Streams that were running when the link or the board went, begun anew: numbers start at 0 again."""
        if self.sampled.request is not None:
            await self._start_samples(self.sampled.request)
        if self.captured.request is not None:
            await self._start_captures(self.captured.request)

    async def _start_samples(self, request: gen.SamplesStart) -> gen.SamplesStartReply:
        self.sampled.begin(request)
        try:
            reply: gen.SamplesStartReply = (await self.do(replace(request, credit=self.sampled.window))).reply
        except Refused:
            self.sampled.request = None
            raise
        self.sampled.per_block = reply.per_block
        return reply

    async def _start_captures(self, request: gen.CapturesStart) -> None:
        self.captured.begin(request)
        try:
            await self.do(replace(request, credit=self.captured.window))
        except Refused:
            self.captured.request = None
            raise

    def _samples_came(self, chunk: SampleChunk) -> None:
        if not self.sampled.take(chunk):
            return
        self._grant_due(self.sampled)
        for listener in self._sample_listeners:
            self._hand(listener, chunk)

    def _edges_came(self, chunk: EdgeChunk) -> None:
        if not self.captured.take(chunk):
            return
        self._grant_due(self.captured)
        for listener in self._edge_listeners:
            self._hand(listener, chunk)

    def _telemetry_came(self, line: Telemetry) -> None:
        if self.followed.take(line):
            self._grant_due(self.followed)

    def _grant_due(self, ledger: Ledger) -> None:
        if ledger.due() is not None:
            self._grant()

    def _grant(self, *, again: bool = False) -> None:
        if self._crediting is None or self._crediting.done():
            self._crediting = asyncio.create_task(self._send_credits(again), name=f"{self.name} credits")

    async def _send_credits(self, again: bool) -> None:
        """Grant what is due; `again`, whatever is due or not: a lost credit must not end a stream."""
        for ledger in (self.sampled, self.captured, self.followed):
            must = again
            while ledger.request is not None and (limit := ledger.due(must)) is not None:
                must = False
                message = self._message(gen.Credit(ledger.stream, limit))
                try:
                    await self.session.tell(message, owner=self.name, idempotent=True, changes=False)
                except DeviceError:
                    return  # the link is gone; begun anew with fresh credits
                ledger.granted = limit


def _columns(line: Telemetry) -> tuple[int, int, int, int]:
    setpoint = line.setpoint if line.mode is HeaterMode.CLOSED_LOOP else UNKNOWN
    return line.ticks, line.temperature, setpoint, line.output


def _celsius(millikelvin: Int64) -> NDArray[np.float64]:
    return np.where(millikelvin == UNKNOWN, np.nan, millikelvin * 1e-3 - KELVIN)
