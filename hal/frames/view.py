"""A view of the film for scripts: it may fall behind and then skips; recording never waits for it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from .chunk import FrameChunk, Images
from .frame import Exposure, Reason

if TYPE_CHECKING:
    from ..model.context import Context
    from ..model.status import Status

BACKLOG = 1000
"""Frames a view may lag behind before it skips the oldest."""
BACKLOG_BYTES = 64 << 20
"""The same in bytes of images."""


class Stimuli(Protocol):
    """What the specimen was subjected to, by the best of present knowledge."""

    def at(self, path: str, time_ns: int) -> tuple[Any, float, bool, bool]:
        """Value, sigma, valid and final of the signal ``device.signal`` at a lab time. KeyError if unknown."""
        ...


class Frame:
    """One image and when it was exposed; ``frame["heater.temperature"]`` is what the specimen felt then."""

    __slots__ = ("_chunk", "_row", "_stimuli")

    def __init__(self, chunk: FrameChunk, row: int, stimuli: Stimuli | None = None) -> None:
        self._chunk, self._row, self._stimuli = chunk, row, stimuli

    @property
    def number(self) -> int:
        """The detector's own sequence number."""
        return int(self._chunk.number[self._row])

    @property
    def index(self) -> int:
        """Which exposure of its series it is, from 0, dropped ones counted; -1 if that is not known."""
        return int(self._chunk.index[self._row])

    @property
    def image(self) -> Images:
        """The pixels, read-only; copy them to change them, or to keep a few frames out of many."""
        return self._chunk.images[self._row]  # type: ignore[no-any-return]

    @property
    def exposure(self) -> Exposure:
        """Start, stop and bound in ns of lab time; check `valid`.

        By its arrival at first; where frame pulses are stamped, by its pulse within about a second (`by_pulse`).
        """
        return self._chunk.best_times.exposure(self._row)

    @property
    def by_pulse(self) -> bool:
        """Whether a pulse tells its exposure by now."""
        later = self._chunk.later
        if later is None or later.times is None or not later.times.valid[self._row]:
            return False
        if later.times.reason[self._row] == Reason.AMBIGUOUS:
            return bool(
                later.times.start[self._row] != self._chunk.start[self._row]
            )  # else by arrival, as that is better
        return bool(later.times.reason[self._row] == Reason.OK)

    @property
    def ticks(self) -> int:
        """Start of the exposure on the detector's own clock."""
        return int(self._chunk.ticks[self._row])

    @property
    def arrival(self) -> int:
        """Lab time, ns, at which it was here: for diagnosis, never for alignment."""
        return int(self._chunk.arrival[self._row])

    def __getitem__(self, path: str) -> Any:
        """The signal ``device.signal`` at the middle of the exposure; NaN where that can't be told."""
        value, _, valid, _ = self.stimulus(path)
        return value if valid else math.nan

    def stimulus(self, path: str) -> tuple[Any, float, bool, bool]:
        """Value, sigma, valid, and whether later readings may still change it (final)."""
        exposure = self.exposure
        if self._stimuli is None or not exposure.valid:
            return math.nan, math.nan, False, False
        return self._stimuli.at(path, exposure.middle)

    def __repr__(self) -> str:
        return f"<Frame {self.number} {'x'.join(str(n) for n in self.image.shape)}>"


class Source(Protocol):
    """What a view looks at: a camera."""

    context: Context
    stimuli: Stimuli | None
    views: set[View]

    def filming(self) -> AbstractAsyncContextManager[None]:
        """The camera films inside the block."""
        ...


class View:
    """Frames as they come, until a status is done or for ever; arms the camera if nobody else has.

    A trip, a link lost for good and the failure of `until` end it with their error; stopping the
    camera ends it.
    """

    def __init__(self, source: Source, until: Status[Any] | None = None) -> None:
        self.skipped = 0
        """Frames this view has not shown because it fell behind."""
        self._source, self._until = source, until
        self._chunks: deque[FrameChunk] = deque()
        self._row = 0  # of the first chunk
        self._frames = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._steps: AsyncGenerator[Frame] | None = None

    def __aiter__(self) -> AsyncGenerator[Frame]:
        # A generator of its own, so that leaving the loop early lets go of the camera at once.
        return self._run()

    async def __anext__(self) -> Frame:
        if self._steps is None:
            self._steps = self._run()
        return await anext(self._steps)

    async def aclose(self) -> None:
        """Let go of the camera; only needed after stepping with `anext`."""
        self.end()
        if self._steps is not None:
            await self._steps.aclose()

    # ------------------------------------------------------------------ for the camera and the lab

    def put(self, chunk: FrameChunk) -> None:
        """Show these frames too; called by the camera, never waits."""
        self._chunks.append(chunk)
        self._frames += len(chunk)
        size = chunk.images[:1].nbytes
        while len(self._chunks) > 1 and (self._frames > BACKLOG or self._frames * size > BACKLOG_BYTES):
            lost = len(self._chunks.popleft()) - self._row
            self._row = 0
            self._frames -= lost
            self.skipped += lost
        self._wake()

    def fail(self, error: Exception) -> None:
        """End it now with `error`."""
        self._error = error
        self._wake()

    def end(self) -> None:
        """No further frame will come."""
        self._ended = True
        self._wake()

    # ------------------------------------------------------------------ private

    async def _run(self) -> AsyncGenerator[Frame]:
        context = self._source.context
        self._ended = False
        if self._until is not None:
            self._until.add_callback(self._done)
        context.pending.add(self)
        self._source.views.add(self)
        try:
            if self._over():
                return
            async with self._source.filming():
                while (frame := await self._next()) is not None:
                    yield frame
        finally:
            self._source.views.discard(self)
            context.pending.discard(self)
            self._chunks.clear()
            self._row = self._frames = 0

    async def _next(self) -> Frame | None:
        while not self._over():
            if self._chunks:
                chunk, row = self._chunks[0], self._row
                self._frames -= 1
                self._row += 1
                if self._row == len(chunk):
                    self._chunks.popleft()
                    self._row = 0
                return Frame(chunk, row, self._source.stimuli)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return None

    def _over(self) -> bool:
        error = self._error
        if isinstance(error, Exception):
            raise self._source.context.delivered(error)
        return self._ended

    def _done(self, status: Status[Any]) -> None:
        error = status.exception()
        if isinstance(error, Exception):
            self.fail(error)
        else:  # also when it was cancelled: then the device holds, and there is nothing more to wait for
            self.end()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
