"""A stretch of readings, and what uncertainties need of their times alone: once for all channels read together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from hal.frames.frame import Float64, Int64, Mask
from hal.frames.place import blocks
from hal.frames.readings import Readings, pick

AGES = 32
"""Readings by which it is judged whether ages are independent."""
NOISE = 128
"""Readings by which noise is judged."""
LOOKBACK = AGES + NOISE + 16
"""Readings before one that its uncertainty may depend on: ages are judged by noise, and that by third differences."""


class Piece:
    """The intervals low to high - 1 between readings low to high, of those at r's times (and alike in their breaks)."""

    def __init__(self, r: Readings, low: int, high: int) -> None:
        self.r, self.low, self.high = r, low, high
        self._width = r.width[low : high + 1]
        self.dt = r.dt[low:high]
        self.wide = bool(self._width.any())
        self.plain = r.run is None and 2.0 * float(self._width.max()) <= r.shortest
        """Whether each reading's neighbours are simply those beside it."""

    @cached_property
    def neighbours(self) -> tuple[Int64, Int64]:
        """The readings before and after each, at least w away."""
        return self.r.neighbours(self._width, self.low, self.high + 1)

    @cached_property
    def farther(self) -> tuple[Int64, Int64]:
        """Those at least 2 w away."""
        return self.r.neighbours(2.0 * self._width, self.low, self.high + 1)

    def across(self, of: Float64) -> Float64:
        """`of` (per reading of the channel) at the neighbour after each reading of the piece less at that before."""
        if not self.plain:
            before, after = self.neighbours
            found = of.take(after)
            found -= of.take(before)
            return found
        low, high = max(self.low - 1, 0), min(self.high + 2, of.size)
        out = np.empty(self.high - self.low + 1)
        np.subtract(of[low + 2 : high], of[low : high - 2], out=out[low + 1 - self.low : high - 1 - self.low])
        if self.low == 0:
            out[0] = of[1] - of[0]
        if self.high == of.size - 1:
            out[-1] = of[-1] - of[-2]
        return out

    @cached_property
    def per_base2(self) -> Float64:
        """1 / ns^2, of the time between the neighbours that a slope is taken over; per reading."""
        base = self.across(self.r.x)
        np.maximum(base, 1.0, out=base)
        base *= base
        return np.asarray(1.0 / base)

    @cached_property
    def reach(self) -> Float64:
        """ns, how far apart the interval's two readings may have been measured."""
        return self.dt + self._width[:-1] + self._width[1:]

    @cached_property
    def rate(self) -> Float64:
        """1 / ns, of each interval."""
        return np.asarray(1.0 / self.dt)

    @cached_property
    def squares(self) -> tuple[Float64, Float64, Float64]:
        """Squares of the three weights with which neighbouring readings make a change of slope."""
        first, second = self.rate[:-1], self.rate[1:]
        return first**2, (first + second) ** 2, second**2

    @cached_property
    def all_squares(self) -> Float64:
        """Their sum."""
        return sum(self.squares[1:], self.squares[0])

    @cached_property
    def per_two(self) -> Float64:
        """1 / ns, of each two intervals in a row."""
        return np.asarray(1.0 / (self.dt[:-1] + self.dt[1:]))

    @cached_property
    def third(self) -> Float64:
        """Sum of the squared weights with which four readings make a third difference (of changes times `per_two`)."""
        first, last = self.rate[:-1] * self.per_two, self.rate[1:] * self.per_two
        left, right = first[1:] + first[:-1] + last[:-1], first[1:] + last[1:] + last[:-1]
        return np.asarray(first[:-1] ** 2 + left**2 + right**2 + last[1:] ** 2)

    @cached_property
    def chord2(self) -> Float64:
        """ns^4, (dt^2/2)^2: squared error of a chord per squared second derivative, and q^2."""
        square = self.dt * self.dt
        square *= square
        square *= 0.25
        return square

    @cached_property
    def longer(self) -> Piece:
        """This piece and as many readings before it as are looked back upon."""
        return Piece(self.r, max(self.low - LOOKBACK, 0), min(self.high + 1, self.r.x.size - 1))

    @cached_property
    def between(self) -> tuple[Float64, Float64]:
        """Of each reading but the first and last, the weights of its neighbours in the line through both."""
        first = self.dt[1:] / (self.dt[1:] + self.dt[:-1])
        return first, 1.0 - first

    @cached_property
    def ages(self) -> tuple[Float64, Float64]:
        """Of each reading's time the variance, ns^2, and its likeness to a uniform error's (1; of two alike 1/2).

        An answer's age in the instrument's cache and the wait for the answer are two uniform errors.
        """
        width = pick(self._width, slice(None))
        age = np.minimum(0.5e9 * self.r.channel.max_age_s, width)
        wait = (width - age) ** 2
        age *= age
        both = age + wait
        alike = np.divide(age**2 + wait**2, both**2, out=np.ones_like(both), where=both > 0)
        return np.broadcast_to(both / 3.0, self._width.shape), np.broadcast_to(alike, self._width.shape)

    @cached_property
    def together(self) -> Mask:
        """Intervals whose two readings share one error of time.

        Where the intervals in which two readings can have been measured overlap, the instrument (or a
        clock model) is slower than the polls: the age of its answers drifts like a saw-tooth, alike for
        neighbours. Where they don't overlap, they were measured apart, and so are their errors.
        """
        return np.asarray(self._width[1:] + self._width[:-1] >= self.dt)


def pieces(r: Readings) -> Iterator[Piece]:
    """All intervals, cut."""
    return (Piece(r, part.start, part.stop) for part in blocks(r.x.size - 1))
