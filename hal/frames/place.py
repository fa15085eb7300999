"""Where each frame falls among the readings of a channel, found once for all channels read together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.frames.frame import Codes, Float32, Float64, FrameTimes, Int64, Mask, Reason

BLOCK = 8192
"""Frames or readings worked on at once: temporaries of 64 KB stay in the cache, and below what malloc asks of the
system (whose fresh pages cost five times what an addition does)."""


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


class Seen:
    """How well the frames' times are known: bound (ns) and sigma (s); even: the same for all of them."""

    def __init__(self, bound: Int64, sigma: Float32) -> None:
        self.bound = bound
        self.sigma = sigma * np.float32(1e-9)
        self.even = not sigma.size or sigma.strides == (0,) or bool((sigma == sigma[0]).all())


class Film:
    """All frames: middle, start and stop of each exposure."""

    def __init__(self, frames: FrameTimes) -> None:
        self.frames = frames
        self._seen: dict[bool, Seen] = {}
        self.exposure = (frames.stop - frames.start).astype(np.float64)
        self.longest = float(self.exposure.max()) if len(frames) else 0.0

    def seen_by(self, clock: str) -> Seen:
        """The uncertainty that the frames' times have beside readings stamped by `clock`.

        On one and the same clock the error of mapping it to lab time is common and cancels: what is
        left is `within`, and three of it for the bound.
        """
        frames = self.frames
        common = bool(clock) and frames.clock == clock and frames.within is not None
        if common not in self._seen:
            bound, sigma = frames.bound, frames.sigma
            if common and frames.within is not None:
                bound = np.minimum(np.ceil(3.0 * frames.within).astype(np.int64), bound)
                sigma = np.minimum(frames.within, sigma)
            self._seen[common] = Seen(bound, sigma)
        return self._seen[common]

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
    """Some frames in a row, and where each lies: at the fraction u of the interval from reading k to k + 1."""

    frames: slice
    k: Int64  # clipped to the existing intervals
    u: Float64  # 0 to 1

    def __getitem__(self, part: slice) -> Block:
        """Some of these frames (a slice with start and stop)."""
        first = self.frames.start
        return Block(slice(first + part.start, first + part.stop), self.k[part], self.u[part])

    def spread(self, per_interval: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """A number per interval (or of each one's first reading), given to each frame: in a new array, or `out`."""
        return per_interval.take(self.k, out=out, mode="clip")


class Place:
    """Where one moment of each frame lies among at least two readings at ascending `time`, ns."""

    def __init__(self, moments: Moments, time: Int64) -> None:
        self.time, self._moments = time, moments
        self._x = (time - (moments.time[0] if len(moments) else 0)).astype(np.float64)
        """Readings in ns from the first frame: differences of int64 before any float."""
        self._index = np.arange(time.size, dtype=np.float64)

    def block(self, at: slice) -> Block:
        """The frames `at`."""
        coordinate = self.interpolated(self._index, at)
        k = coordinate.astype(np.int64)
        np.minimum(k, self.time.size - 2, out=k)
        coordinate -= k
        return Block(at, k, coordinate)

    def interpolated(self, value: Float64, at: slice = slice(None)) -> Float64:
        """A value per reading, linear in between and the end's beyond, at the frames `at`."""
        x, among = self._moments.x[at], slice(None)
        if x.size < self._x.size and self._moments.ascending and x.size:
            # Only the readings around these frames: np.interp looks at all that it gets.
            low = int(self._x.searchsorted(x[0], side="right")) - 1
            among = slice(max(low, 0), int(self._x.searchsorted(x[-1], side="right")) + 1)
        return np.interp(x, self._x[among], value[among])

    def blocks(self) -> Iterator[Block]:
        """All frames, cut."""
        return map(self.block, blocks(len(self._moments)))

    @cached_property
    def whole(self) -> Block:
        """All frames at once: only for the few who need them so."""
        return self.block(slice(0, len(self._moments)))

    @property
    def k(self) -> Int64:
        """Interval of each frame."""
        return self.whole.k

    @property
    def u(self) -> Float64:
        """Fraction of it."""
        return self.whole.u


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

    @cached_property
    def inside(self) -> Mask:
        """Where there is no such reason."""
        valid = np.asarray(self.outside == Reason.OK)
        valid.setflags(write=False)
        return valid

    @cached_property
    def all_inside(self) -> bool:
        """Whether that is everywhere."""
        return bool(self.inside.all())
