"""Cameras: from chunks as a driver receives them to numbered frames on lab time, for everybody who looks.

Theory of operation. A driver hands raw chunks to `take_in`. They are numbered by the detector's own
counter, their ticks mapped onto lab time by the lower envelope of their arrivals, and given to the
listeners (the recorder) synchronously and without loss, and to the views of scripts, which may skip.
Acquisition is shared: it begins with the first who films and ends with the last, unless armed by hand.
Where the lab file says who stamps the camera's frame pulses, they are captured from before the first exposure
until the camera has stopped. Which pulse belongs to which frame is found out while it films, as far as that can be
told (`frame_pulses.py`), and for good afterwards, by who records both.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..clock.envelope import EnvelopeClock
from ..errors import HalError, LinkLost
from ..frames.chunk import FrameChunk
from ..frames.expose import expose
from ..frames.frame import Int64
from ..frames.numbering import Numbered, Numbering
from ..frames.view import Stimuli, View
from ..gate import Purpose, acting
from ..model.capabilities import FrameClock
from ..model.reading import Answer
from ..model.signal import Kind, SignalR, SignalRW
from ..model.status import Done, Status
from ..transport.session import Session
from .address import Field
from .clocked import Clocked
from .instrument import Instrument

if TYPE_CHECKING:
    from .frame_pulses import FramePulses

LATE = 0.1
"""Seconds beyond the usual latency from which a frame counts as late."""
QUIET = 0.6
"""Seconds without a frame after which a stopped camera has sent all it had."""
RATE_OVER = 1.0
"""Seconds over which the frame rate is measured."""
FILMS = "films"
"""The journal's word for a camera that was told to film: `since` (lab time, ns) no exposure was before."""

ChunkListener = Callable[[FrameChunk], None]


@dataclass(frozen=True, slots=True)
class CameraCounts:
    """What came of the exposures since the camera was connected."""

    received: int
    dropped: int
    duplicates: int
    late: int
    rate: float


class CameraInstrument(Instrument):
    """Base of detectors. A driver implements `begin` and `cease`, and calls `new_series` and `take_in`."""

    ticks_per_second: ClassVar[float] = 1e9
    """Nominal rate of the detector's clock."""
    clock_ppm: ClassVar[float] = 50.0
    """Datasheet's limit on that rate's error."""
    first_number: ClassVar[int] = 1
    """Sequence number of the first exposure of a series."""
    stream_option: ClassVar[str] = ""
    """The option that names the port its frames come from, if they have one of their own."""

    exposure: SignalRW[float]

    rate = SignalR(
        float, "1/s", at=Field("rate", report="counts"), kind=Kind.HINTED, aperture=RATE_OVER,
        doc="Frames received per second, over the last second.",
    )  # fmt: skip
    dropped = SignalR(
        int,
        at=Field("dropped", report="counts"),
        varies="in steps",
        doc="Exposures that never arrived, by their numbers.",
    )
    received = SignalR(int, at=Field("received", report="counts"), varies="in steps", doc="Frames that arrived.")
    duplicates = SignalR(int, at=Field("duplicates", report="counts"), varies="in steps", doc="Frames that came again.")
    late = SignalR(
        int, at=Field("late", report="counts"), varies="in steps", doc="Frames that came well after their exposure."
    )

    def __init__(self, session: Session, name: str = "", **given: Any) -> None:
        super().__init__(session, name, **given)
        self.stimuli: Stimuli | None = None
        """What frames are asked for by ``frame["device.signal"]``; the lab puts it here."""
        self.shape: tuple[int, int] = (0, 0)
        """Rows and columns of the images; known once connected."""
        self.dtype = "uint8"
        """Of the pixels; known once connected."""
        self.period = 0.0
        """Seconds from one exposure to the next; 0 if they don't follow a beat."""
        self.armed = False
        """Whether it films."""
        self.views: set[View] = set()
        self.frame_clock: tuple[FrameClock, int] | None = None
        """Who stamps its frame pulses, and at which capture input; the lab puts it here."""
        self.clock = EnvelopeClock(
            frequency=self.ticks_per_second, ppm=self.clock_ppm, name=self.name,
            latency=getattr(self.options, "latency", 0.0), latency_sigma=getattr(self.options, "latency_sigma", 0.0),
        )  # fmt: skip
        self._numbering: Numbering | None = None
        self._waiting: list[FrameChunk] = []
        self._listeners: tuple[ChunkListener, ...] = ()
        self._received = self._late = self._newest = 0
        self._recent: deque[tuple[int, int]] = deque()
        self._users = 0
        self._capturing: AsyncExitStack | None = None
        self._pulses: FramePulses | None = None
        self._ours = False  # the acquisition was begun here: its period is known
        self._by_hand = False
        self._turn = asyncio.Lock()

    # ------------------------------------------------------------------ for scripts

    def frames(self, until: Status[Any] | None = None) -> View:
        """A view of the film, until `until` is done; it may fall behind and then skips, recording does not."""
        return View(self, until)

    def arm(self) -> Status[None]:
        """Begin to film, until `stop`."""
        return self.start("arm", self._arm())

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Cease to film, whoever looks; a no-op on an idle camera. (`success` is Bluesky's.)"""
        if not self.armed and (self.operation is None or self.operation.done):
            return Done(f"{self.name} stop")
        return self.start("stop", self._stop())

    @property
    def matched(self) -> float | None:
        """Share of the last seconds' frames whose exposure is told by a pulse by now; None: no pulses are stamped."""
        return self._pulses.matched if self._pulses is not None and self._capturing is not None else None

    @property
    def exposure_bound(self) -> int | None:
        """Median bound of the last seconds' exposures, ns, by pulse or else by arrival; None: no pulses are stamped."""
        return self._pulses.bound if self._pulses is not None and self._capturing is not None else None

    # ------------------------------------------------------------------ for the recorder and the lab

    @asynccontextmanager
    async def filming(self) -> AsyncIterator[None]:
        """It films inside the block; everybody inside shares one acquisition."""
        self._users += 1
        try:
            async with self._turn:
                if not self.armed:
                    await self._begin()
            yield
        finally:
            self._users -= 1
            await self._leave()

    async def drain(self, within: float = 2.0) -> None:
        """Return once all frames exposed by now have been handed on; after `within` seconds at the latest."""
        loop, now = asyncio.get_running_loop(), self.context.timebase.now()
        deadline = loop.time() + within
        seen, quiet = self._received, loop.time()
        while loop.time() < deadline and self._newest < now:
            await asyncio.sleep(0.02)
            if seen != self._received:
                seen, quiet = self._received, loop.time()
            elif not self.armed and loop.time() - quiet > QUIET:
                break
        if not self.armed and self._numbering is not None:
            self._pass_on(self._numbering.flush())

    def on_chunk(self, listener: ChunkListener) -> None:
        """Call `listener` with every chunk, at once and in order; it must not wait."""
        self._listeners += (listener,)

    def off_chunk(self, listener: ChunkListener) -> None:
        """Undo `on_chunk`."""
        self._listeners = tuple(known for known in self._listeners if known != listener)

    # ------------------------------------------------------------------ for drivers

    async def begin(self) -> None:
        """Start the acquisition."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it starts")

    async def cease(self) -> None:
        """Stop the acquisition; harmless on an idle camera, works as the first thing after connecting."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it stops")

    def new_series(self) -> None:
        """The detector begins to count anew; everything received from now on belongs to the new series."""
        if self._numbering is None:
            self._numbering = self._new_numbering(armed=True)
            return
        self._pass_on(self._numbering.flush())
        self._numbering.period = self._period_ticks
        self._numbering.restart()

    def take_in(self, raw: FrameChunk) -> None:
        """Frames as received, in order of reception."""
        if not len(raw):
            return
        if self._numbering is None:  # somebody else's acquisition, joined in the middle
            self._numbering = self._new_numbering(armed=False)
        if self._waiting and self._waiting[0].images.shape[1:] != raw.images.shape[1:]:
            self._pass_on(self._numbering.flush())
        self._received += len(raw)
        now = int(raw.arrival[-1])
        self._recent.append((now, len(raw)))
        while self._recent[0][0] < now - RATE_OVER * 1e9:
            self._recent.popleft()
        # The end of the exposure is what a frame's delay counts from, however long it was exposed.
        self.clock.add(self._ends(raw), raw.arrival)
        self._waiting.append(raw)
        self._pass_on(self._numbering.add(raw.number, raw.ticks))

    async def counts(self) -> Answer:
        """The report behind the counting signals; costs no exchange."""
        now = self.context.timebase.now()
        counter = self._numbering
        while self._recent and self._recent[0][0] < now - RATE_OVER * 1e9:
            self._recent.popleft()
        rate = 0.0
        if len(self._recent) > 1:
            first, skipped = self._recent[0]
            rate = (sum(n for _, n in self._recent) - skipped) / max((self._recent[-1][0] - first) * 1e-9, 1e-3)
        dropped, duplicates = (counter.dropped, counter.duplicates) if counter is not None else (0, 0)
        return Answer(CameraCounts(self._received, dropped, duplicates, self._late, rate), now, now)

    async def connect(self) -> None:
        """Open the link, make sure of the instrument. Raises `LinkLost`, `NoReply`, `WrongInstrument`."""
        if self._lost not in self.session.on_lost:
            self.session.on_lost.append(self._lost)
        await super().connect()

    async def disconnect(self) -> None:
        """Let go of the instrument; the session closes with its last user."""
        if self._lost in self.session.on_lost:
            self.session.on_lost.remove(self._lost)
        for view in list(self.views):
            view.end()
        self.armed = False
        await self._end_capture()
        if self._pulses is not None:
            self._pulses.close()
        await super().disconnect()

    async def make_safe(self) -> None:
        self.armed = self._by_hand = self._ours = False
        for view in list(self.views):
            view.end()
        try:
            await self.cease()
        finally:
            await self._end_capture()

    # ------------------------------------------------------------------ private

    async def _arm(self) -> None:
        async with self._turn:
            if not self.armed:
                await self._begin()
            self._by_hand = True

    async def _stop(self) -> None:
        with acting(Purpose.STOP):
            async with self._turn:
                if self.armed:
                    await self._cease()
                for view in list(self.views):
                    view.end()

    async def _begin(self) -> None:
        self._ours = True
        try:
            await self._begin_capture()
            told = self.context.timebase.now()
            await self.begin()
        except BaseException:
            self._ours = False
            await self._end_capture()
            raise
        self.armed = True
        self.context.journal.note("operation", self.name, FILMS, since=told)

    async def _cease(self) -> None:
        self.armed = self._by_hand = self._ours = False
        try:
            await self.cease()
        finally:
            await self._end_capture()
        self.context.journal.note("operation", self.name, "stopped")

    async def _begin_capture(self) -> None:
        """From before the first exposure on its pulses are stamped: the first pulse is the first frame's."""
        if self.frame_clock is None or self._capturing is not None:
            return
        clock, channel = self.frame_clock
        if self._pulses is None and isinstance(clock, Clocked):
            from .frame_pulses import FramePulses

            self._pulses = FramePulses(self, clock, channel)
        async with AsyncExitStack() as stack:
            if self._pulses is not None:
                self._pulses.listen()
                stack.callback(self._pulses.end)
            await stack.enter_async_context(clock.capturing(rising=(channel,)))
            if self._pulses is not None:
                self._pulses.begin()
            self._capturing = stack.pop_all()

    async def _end_capture(self) -> None:
        capturing, self._capturing = self._capturing, None
        if capturing is not None:
            with suppress(HalError):  # whoever stamps is gone, and has said so
                await capturing.aclose()

    async def _leave(self) -> None:
        """The last one out stops the camera; after a trip it has been stopped already."""
        async with self._turn:
            if self._users or self._by_hand or not self.armed or self.context.gate.closed:
                return
            try:
                with acting(Purpose.STOP):
                    await self._cease()
            except HalError as error:  # whoever left is done with the camera: this is no error of theirs
                self.context.journal.note("error", self.name, f"stopping: {error}")

    def _new_numbering(self, *, armed: bool) -> Numbering:
        return Numbering(first=self.first_number, period=self._period_ticks, armed=armed)

    @property
    def _period_ticks(self) -> float | None:
        return (self.period * self.ticks_per_second or None) if self._ours else None

    def _ends(self, chunk: FrameChunk) -> Int64:
        ends: Int64 = chunk.ticks + np.rint(chunk.exposure_ns * (self.ticks_per_second * 1e-9)).astype(np.int64)
        return ends

    def _pass_on(self, numbered: Numbered) -> None:
        n = len(numbered)
        if not n:
            return
        waiting = FrameChunk.concatenate(self._waiting)
        self._waiting = [waiting[n:]] if n < len(waiting) else []
        raw = waiting[:n]
        length = np.asarray(raw.exposure_ns * 1e-9, np.float64)
        times = expose(self.clock, numbered, self._ends(raw), raw.arrival, length, stamp="stop")
        chunk = raw.with_times(times, numbered)
        if self._pulses is not None:
            chunk = self._pulses.take(chunk)
        behind = chunk.arrival - chunk.stop
        if chunk.valid.any():
            self._newest = int(chunk.stop[chunk.valid].max())
        self._late += int(np.count_nonzero(chunk.valid & (behind > (LATE + self.clock.latency) * 1e9)))
        for listener in self._listeners:
            try:
                listener(chunk)
            except Exception as error:  # one listener's trouble must not cost the others their frames
                self.context.journal.note("error", self.name, f"a listener failed: {type(error).__name__}: {error}")
        for view in self.views:
            view.put(chunk)

    def _lost(self, session: Session, error: LinkLost, for_good: bool) -> None:
        if for_good:
            self.armed = self._by_hand = False
            for view in list(self.views):
                view.fail(error)
