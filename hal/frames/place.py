"""Where each frame falls among the readings of a channel, found once for all channels read together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hal.frames.frame import Codes, Float32, Float64, FrameTimes, Int64, Mask, Reason

Number = TypeVar("Number", np.float32, np.float64, np.int64)

BLOCK = 16384
"""Frames or readings worked on at once: few enough for what numpy makes of them to stay in the cache, enough for the
calls not to count."""


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
        self.x = np.empty(time.size)
        """ns from the first frame's, exact below 2^53 ns = 104 days."""
        self.ascending = True
        for part in blocks(time.size):
            np.subtract(time[part], time[0], out=self.x[part], casting="unsafe")
            now = self.x[max(part.start - 1, 0) : part.stop]
            self.ascending = self.ascending and bool((now[1:] >= now[:-1]).all())

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
        self.longest = max((float(self.exposure(part).max()) for part in blocks(len(frames))), default=0.0)

    def exposure(self, at: slice | Int64) -> Float64:
        """ns, how long the frames `at` were exposed."""
        return (self.frames.stop[at] - self.frames.start[at]).astype(np.float64)

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
    def all_valid(self) -> bool:
        """Whether all frames have times."""
        return bool(self.frames.valid.all())

    @cached_property
    def no_reason(self) -> Codes:
        """For channels, read-only: no frame lacks a value."""
        codes = np.full(len(self.frames), Reason.OK, np.uint8)
        codes.setflags(write=False)
        return codes

    @cached_property
    def no_loss(self) -> Mask:
        """The same as a mask."""
        valid = np.ones(len(self.frames), np.bool_)
        valid.setflags(write=False)
        return valid

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


class Block:
    """Some frames in a row, and where each lies: at the fraction u of the interval from reading k to k + 1.

    Frames before the first reading or after the last one are put at the nearest end.
    """

    __slots__ = ("_among", "_counts", "_k", "_place", "_u", "_weights", "_x", "frames", "late")

    def __init__(self, place: Place, frames: slice) -> None:
        self.frames = frames
        self._place, self._x = place, place.moments.x[frames]
        self._k: Int64 | None = None
        self._u: Float64 | None = None
        self._weights: tuple[Float32, Float32] | None = None
        self._counts: Int64 | None = None  # frames in each of the intervals `_among`, where they are in order
        self.late: slice | Mask | None = None  # the frames on the last reading or after it; None for none
        x, last = self._x, place.x.size - 2
        if not x.size:
            self._k = np.zeros(0, np.int64)
        elif place.moments.ascending:
            begin, end = frames.start, frames.stop
            first = min(max(int(place.edges.searchsorted(begin, side="right")) - 1, 0), last)
            after = min(max(int(place.edges.searchsorted(end)), first + 1), last + 1)
            self._among = slice(first, after)
            edges = np.empty(after - first + 1, np.int64)
            edges[0], edges[-1] = begin, end
            edges[1:-1] = place.edges[first + 1 : after]
            self._counts = edges[1:] - edges[:-1]
            if place.edges[-1] < end:
                self.late = slice(max(int(place.edges[-1]) - begin, 0), None)
        else:
            if x.max() >= place.x[-1]:
                self.late = x >= place.x[-1]
            self._k = np.clip(place.x.searchsorted(x, side="right") - 1, 0, last)

    @property
    def k(self) -> Int64:
        """Interval of each frame, clipped to the existing ones."""
        if self._k is None:
            self._k = self.spread(np.arange(self._place.x.size - 1))
        return self._k

    @property
    def u(self) -> Float64:
        """Fraction of it, 0 to 1; exactly 0 on a reading (1 on the last one)."""
        if self._u is None:
            place, x = self._place, self._x
            u = self.spread(place.x)
            np.subtract(x, u, out=u)
            u *= self.spread(place.rate)
            first = x[:1] if place.moments.ascending else x
            if self.late is not None or (x.size and first.min() < place.x[0]):
                np.clip(u, 0.0, 1.0, out=u)
            self._u = u
        return self._u

    @property
    def weights(self) -> tuple[Float32, Float32]:
        """Of the readings before and after each frame: 1 - u and u, as fine as uncertainties are."""
        if self._weights is None:
            after = self.u.astype(np.float32)
            self._weights = np.float32(1.0) - after, after
        return self._weights

    def spread(self, per_interval: NDArray[Number]) -> NDArray[Number]:
        """A number per interval (or of each one's first reading), given to each frame."""
        if self._counts is None:
            return per_interval.take(self.k)
        return per_interval[self._among].repeat(self._counts)

    def interpolate(self, value: Float64, rise: Float64, out: Float64) -> None:
        """Into `out`: a value per reading, of which rise are the differences, linear in between."""
        np.multiply(self.spread(rise), self.u, out=out)
        out += self.spread(value)
        if self.late is not None:
            out[self.late] = value[-1]


class Place:
    """Where one moment of each frame lies among at least two readings at ascending `time`, ns."""

    def __init__(self, moments: Moments, time: Int64) -> None:
        self.moments = moments
        self.x = (time - (moments.time[0] if len(moments) else 0)).astype(np.float64)
        """Readings in ns from the first frame: differences of int64 before any float."""
        self.rate = 1.0 / np.maximum(np.diff(self.x), 1.0)

    @cached_property
    def edges(self) -> Int64:
        """For each reading the first frame at it or after it; of frames in order.

        Trains of frames are regular enough for a guess from every thousandth frame. Where it is wrong, it is searched.
        """
        x, wanted = self.moments.x, self.x
        if x.size < 2:
            return np.asarray(x.searchsorted(wanted), np.int64)
        some = np.arange(0, x.size, 1024)
        at: Int64 = np.ceil(np.interp(wanted, x[some], some)).astype(np.int64)
        np.clip(at, 1, x.size - 1, out=at)
        at += x.take(at) < wanted
        at -= x.take(at - 1) >= wanted
        wrong = np.flatnonzero((x.take(at, mode="clip") < wanted) | (x.take(at - 1, mode="clip") >= wanted))
        at[wrong] = x.searchsorted(wanted[wrong])
        return at

    def blocks(self) -> Iterator[Block]:
        """All frames, cut."""
        return (Block(self, part) for part in blocks(len(self.moments)))

    @cached_property
    def whole(self) -> Block:
        """All frames at once: only for the few who need them so."""
        return Block(self, slice(0, len(self.moments)))

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
        film, time = self.film, self.time
        frames, middle = film.frames, film.middle
        simple = time.size and len(middle) and middle.ascending and film.all_valid
        if simple and middle.time[0] >= time[0] and middle.time[-1] <= time[-1]:
            return film.no_reason
        reason = np.zeros(len(frames), np.uint8)
        if not time.size:
            reason[:] = Reason.NO_DATA
        elif middle.ascending:
            reason[: np.searchsorted(middle.time, time[0], side="left")] = Reason.BEFORE_DATA
            reason[np.searchsorted(middle.time, time[-1], side="right") :] = Reason.AFTER_DATA
        else:
            reason[middle.time < time[0]] = Reason.BEFORE_DATA
            reason[middle.time > time[-1]] = Reason.AFTER_DATA
        if not film.all_valid:
            reason[~frames.valid] = Reason.NO_FRAME_TIME
        reason.setflags(write=False)
        return reason

    @cached_property
    def inside(self) -> Mask:
        """Where there is no such reason."""
        if self.outside is self.film.no_reason:
            return self.film.no_loss
        valid = np.asarray(self.outside == Reason.OK)
        valid.setflags(write=False)
        return valid

    @cached_property
    def lost(self) -> Int64:
        """The frames where there is one."""
        return np.zeros(0, np.int64) if self.inside is self.film.no_loss else np.flatnonzero(~self.inside)
