"""A camera's frames get the pulses of their exposures while it films: from the board's stamps to `chunk.later`.

Pulses come from the device that stamps them, frames from the camera. Every fifth of a second what can be decided is;
that takes a few ms of the event loop at 4,000 frames/s. What can't be told now `match` tells when a run ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..frames.chunk import FrameChunk, Later
from ..frames.frame import FrameTimes
from ..frames.live_match import MOST, LiveMatcher, Seen
from ..frames.live_pulses import LivePulses
from ..model.capabilities import FrameClock
from .clocked import Clocked

if TYPE_CHECKING:
    from ..protocols.firmware import EdgeChunk
    from .camera import CameraInstrument

PAUSE = 0.2
"""Seconds from one decision to the next."""
OVER = 5.0
"""Seconds of frames that `matched` and `bound` speak of."""


class Stamps(Clocked, FrameClock, Protocol):
    """A device that stamps pulses by a clock that it is asked for."""


class FramePulses:
    """Matches one camera's frames while they come; made when it is first armed."""

    def __init__(self, camera: CameraInstrument, device: Stamps, channel: int) -> None:
        self.camera, self.device, self.channel = camera, device, channel
        self._edges: list[EdgeChunk] = []
        self._open: deque[tuple[Later, FrameTimes]] = deque()  # without images, which would take much memory
        self._told: list[FrameTimes] = []
        self._judged: deque[tuple[int, int, int, int]] = deque()  # when, frames, of them with a pulse, bound
        self._timer: asyncio.TimerHandle | None = None
        self._boot: int | None = None
        self._next_edge: int | None = None
        self._said = False
        self._begun = 0  # lab time, ns
        self._listening = False
        self._matcher = self._new_matcher()

    # ------------------------------------------------------------------ for the camera

    def listen(self) -> None:
        """From now on no pulse is missed."""
        if not self._listening:
            self.device.on_pulses(self._pulses)
            self._listening = True

    def begin(self) -> None:
        """The camera is about to be told to film: pulses so far are no coming frame's."""
        self._take_edges()
        self._begun = self.camera.context.timebase.now()
        self._matcher.begin(self._begun)
        self._judged.clear()
        self._said = False

    def end(self) -> None:
        """No further pulse will come; frames may."""
        if self._listening:
            self.device.off_pulses(self._pulses)
            self._listening = False

    def close(self) -> None:
        """Nothing will come any more."""
        self.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self, chunk: FrameChunk) -> FrameChunk:
        """Frames as the camera hands them on; the same ones, with a place for what is found out later."""
        later = Later()
        chunk = chunk.for_later(later)
        self._open.append((later, chunk.times))
        self._matcher.add(
            Seen(chunk.series.astype(np.int64), chunk.index, chunk.reason, chunk.ticks, chunk.arrival,
                 chunk.exposure_ns)
        )  # fmt: skip
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._decide)
        return chunk

    @property
    def matched(self) -> float | None:
        """Share of the last seconds' frames whose exposure a pulse tells; None: none was decided."""
        self._forget()
        frames = sum(n for _, n, _, _ in self._judged)
        return sum(m for _, _, m, _ in self._judged) / frames if frames else None

    @property
    def bound(self) -> int | None:
        """Median bound of their exposures, by pulse or else by arrival, ns; None: none was decided."""
        self._forget()
        known = [bound for _, _, _, bound in self._judged if bound >= 0]
        return int(np.median(known)) if known else None

    # ------------------------------------------------------------------ private

    def _new_matcher(self) -> LiveMatcher:
        camera, options = self.camera, self.camera.options
        return LiveMatcher(
            frequency=camera.clock.frequency, ppm=camera.clock.ppm, pulses=LivePulses(self.device.clock.frequency),
            latency=getattr(options, "pulse_latency", 0.0),
            latency_sigma=getattr(options, "pulse_latency_sigma", 0.0),
            min_latency=camera.clock.latency, min_latency_sigma=camera.clock.latency_sigma,
            clock=getattr(self.device, "name", ""),
        )  # fmt: skip

    def _pulses(self, chunk: EdgeChunk) -> None:
        self._edges.append(chunk)

    def _take_edges(self) -> None:
        """Pulses that came since the last time, as far as their clock is known."""
        pulses = self._matcher.pulses
        while self._edges:
            chunk = self._edges[0]
            if chunk.boot != self._boot or self.device.clock.frequency != pulses.frequency:
                if self._boot is not None:
                    pulses.frequency = self.device.clock.frequency
                    self._matcher.restart()
                self._boot, self._next_edge = chunk.boot, None
            rows = np.flatnonzero((chunk.channel == self.channel) & chunk.rising)
            ticks = chunk.ticks[rows]
            at = self.device.clock.to_lab(ticks, boot=chunk.boot)
            if not at.valid.all():
                return  # until an exchange of time has told
            lost = len(chunk) > 0 and self._next_edge is not None and int(chunk.index[0]) != self._next_edge
            if len(chunk):
                self._next_edge = int(chunk.index[-1]) + 1
            pulses.add(ticks, at.time, at.tight, at.sigma, lost)
            del self._edges[0]

    def _decide(self) -> None:
        self._timer = None
        now = self.camera.context.timebase.now()
        try:
            self._take_edges()
            told = self._matcher.settle(now)
            self._hand_out(told, now)
        except Exception as error:  # what is found out at the run's end is better anyway
            self._edges.clear()
            self._open.clear()
            self._told.clear()
            self._matcher = self._new_matcher()
            self._note(f"frames were not matched to pulses while it filmed: {type(error).__name__}: {error}")
            return
        if self._matcher.waiting:
            again = 0.0 if len(told) >= MOST else PAUSE
            self._timer = asyncio.get_running_loop().call_later(again, self._decide)
        if self._matcher.why:
            self._say(f"while it films its exposures are told by arrival: {self._matcher.why}")

    def _hand_out(self, told: FrameTimes, now: int) -> None:
        """Give whole chunks their times."""
        if not len(told):
            return
        self._told.append(told)
        known = FrameTimes.concatenate(self._told)
        at = 0
        while self._open and at + len(self._open[0][1]) <= len(known):
            later, rough = self._open.popleft()
            times = known[at : at + len(rough)]
            at += len(rough)
            later.times = either = times.or_by_arrival(rough)
            bounds = either.bound[either.valid]
            bound = int(np.median(bounds)) if len(bounds) else -1
            self._judged.append((now, len(rough), int(np.count_nonzero(times.valid)), bound))
        self._told = [known[at:]]
        self._forget()

    def _forget(self) -> None:
        horizon = self.camera.context.timebase.now() - round(OVER * 1e9)
        while self._judged and self._judged[0][0] < horizon:
            self._judged.popleft()

    def _say(self, text: str) -> None:
        """Once per acquisition, and not of what the next second may mend."""
        share, lasts = self.matched, self.camera.context.timebase.now() - self._begun
        if share is not None and share < 0.5 and lasts > OVER * 1e9:
            self._note(text)

    def _note(self, text: str) -> None:
        if not self._said:
            self._said = True
            self.camera.context.journal.note("note", self.camera.name, text)
