"""Where each frame falls among the readings of a channel, found once for all channels read together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.frames.frame import Codes, Float32, FrameTimes, Int64, Reason

BLOCK = 8192
"""Frames worked on at once: temporaries of 64 KB stay in the cache, and below what malloc asks of the system."""
_LONG = 8  # frames per reading from which repeating a number beats looking it up (measured: 1 against 2 ns)


def blocks(n: int) -> Iterator[slice]:
    """The first n frames, cut."""
    return (slice(s, min(s + BLOCK, n)) for s in range(0, n, BLOCK))


class Moments:
    """One moment per frame, ns, put in order for any number of searches."""

    def __init__(self, time: Int64, frames: FrameTimes) -> None:
        if not frames.valid.all() and frames.valid.any():
            # Placeholders of invalid frames would break the order and the exactness.
            known = np.flatnonzero(frames.valid)
            time = time[known].take(np.clip(np.searchsorted(known, np.arange(time.size)), 0, known.size - 1))
        self.time = time
        self.x = (time - time[0]).astype(np.float64) if time.size else np.zeros(0)
        """ns from the first frame's, exact below 2^53 ns = 104 days."""
        self.ascending = bool((time[1:] >= time[:-1]).all())

    def __len__(self) -> int:
        return int(self.time.size)


class Film:
    """All frames: middle, start and stop of each exposure."""

    def __init__(self, frames: FrameTimes) -> None:
        self.frames = frames
        self.exposure = (frames.stop - frames.start).astype(np.float64)
        self.longest = float(self.exposure.max()) if len(frames) else 0.0

    @cached_property
    def middle(self) -> Moments:
        """Middles of the exposures."""
        return Moments(self.frames.middle, self.frames)

    @cached_property
    def start(self) -> Moments:
        """Their starts."""
        return Moments(self.frames.start, self.frames)

    @cached_property
    def stop(self) -> Moments:
        """Their ends."""
        return Moments(self.frames.stop, self.frames)


@dataclass(frozen=True, slots=True)
class Block:
    """Some frames in a row, and the intervals between readings in which they lie."""

    frames: slice
    intervals: slice
    counts: Int64 | None
    """Frames in each of the intervals, where looking up by repetition pays."""


class Place:
    """Where one moment of each frame lies among at least two readings at ascending `time`, ns."""

    def __init__(self, moments: Moments, time: Int64) -> None:
        n, m = len(moments), time.size
        self.time = time
        counts: Int64 | None = None
        if moments.ascending:
            # Few readings, many frames in order: look the readings up among the frames, and repeat.
            edges = np.searchsorted(moments.time, time, side="left")
            edges[0], edges[-1] = 0, n
            counts = np.diff(edges)
            self.k = np.repeat(np.arange(m - 1), counts)
        else:
            self.k = np.clip(np.searchsorted(time, moments.time, side="right") - 1, 0, m - 2)
        """Interval from reading k to k + 1, clipped to the existing ones."""
        if counts is not None and n >= _LONG * m:
            cut = np.append(np.unique(np.searchsorted(edges, np.arange(0, n, BLOCK), side="right") - 1), m - 1)
            self.blocks = [
                Block(slice(int(edges[a]), int(edges[b])), slice(a, b), counts[a:b]) for a, b in pairwise(cut.tolist())
            ]
        else:
            self.blocks = [Block(at, slice(0, m - 1), None) for at in blocks(n)]
        # All in ns from the first frame: differences of int64 before any float.
        origin = (time[:-1] - (moments.time[0] if n else 0)).astype(np.float64)
        scale = 1.0 / np.maximum(np.diff(time), 1).astype(np.float64)
        self.u = np.empty(n)
        """Fraction of the interval, 0 to 1."""
        for block in self.blocks:
            p = self.u[block.frames]
            np.subtract(moments.x[block.frames], self.spread(origin, block), out=p)
            p *= self.spread(scale, block)
            np.maximum(p, 0.0, out=p)
            np.minimum(p, 1.0, out=p)

    @cached_property
    def u32(self) -> Float32:
        """The same, good enough for uncertainties."""
        return self.u.astype(np.float32)

    @cached_property
    def q32(self) -> Float32:
        """u (1 - u)."""
        return self.u32 * (np.float32(1.0) - self.u32)

    def spread(self, per_interval: NDArray[Any], block: Block) -> NDArray[Any]:
        """A number per interval, given to each frame of the block: a new array."""
        if block.counts is not None:
            return np.repeat(per_interval[block.intervals], block.counts)
        return per_interval.take(self.k[block.frames])


class Places:
    """The middles, starts and stops of a film among the readings at `time`, each when asked for."""

    def __init__(self, film: Film, time: Int64) -> None:
        self.film, self.time = film, time

    @cached_property
    def middle(self) -> Place:
        """Where the middles lie."""
        return Place(self.film.middle, self.time)

    @cached_property
    def start(self) -> Place:
        """Where the starts lie."""
        return Place(self.film.start, self.time)

    @cached_property
    def stop(self) -> Place:
        """Where the ends lie."""
        return Place(self.film.stop, self.time)

    @cached_property
    def outside(self) -> Codes:
        """Why a frame can't have a value on this time base, whatever the values: by its middle."""
        frames, time = self.film.frames, self.time
        reason = np.zeros(len(frames), np.uint8)
        middle = self.film.middle
        if not time.size:
            reason[:] = Reason.NO_DATA
        elif middle.ascending:
            reason[: np.searchsorted(middle.time, time[0], side="left")] = Reason.BEFORE_DATA
            reason[np.searchsorted(middle.time, time[-1], side="right") :] = Reason.AFTER_DATA
        else:
            reason[middle.time < time[0]] = Reason.BEFORE_DATA
            reason[middle.time > time[-1]] = Reason.AFTER_DATA
        if not frames.valid.all():
            reason[~frames.valid] = Reason.NO_FRAME_TIME
        reason.setflags(write=False)
        return reason
