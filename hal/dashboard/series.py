"""The past of one signal, for plotting: fine for minutes, coarser for days, in bounded memory.

Readings may come in any order: those that waited on disk while the broker was away come late, and
are put where they belong. What is coarse keeps its least and greatest value, so that a spike stays.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SECOND = 1_000_000_000
TIERS = ((1, 4000), (SECOND, 4000), (10 * SECOND, 4400), (60 * SECOND, 2900))
"""Width of a bucket (ns) and how many are kept: 4000 readings, an hour, half a day, two days."""
MOST = 400
"""Points of a curve on a screen."""
COVERAGE = 2.0
"""Half-width of the band in standard uncertainties: about 95 % of a normal distribution."""

Column = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """A piece of the past, ready to be drawn; NaN where there is a gap."""

    time: npt.NDArray[np.int64]
    """ns, lab time."""
    value: Column
    low: Column
    high: Column
    """The band: uncertainty, and what the values between two points spanned."""
    width: int
    """ns between two points; 0: every reading."""


class Series:
    """The past of one numeric signal."""

    def __init__(self) -> None:
        self._tiers = [_Tier(width, keep) for width, keep in TIERS]
        self.order = 0
        """Grows whenever something was put before what was there: what has been drawn must be drawn anew."""

    def __len__(self) -> int:
        return len(self._tiers[0].start)

    def add(
        self,
        time: int,
        value: float | None,
        uncertainty: float = 0.0,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        """Take in a reading of lab time `time` (ns); `low` and `high` if it stands for several. None is a gap."""
        raw = self._tiers[0]
        late = bool(raw.start) and time < raw.start[-1]
        if value is None or not math.isfinite(value):
            fresh = raw.put(time, math.nan, math.nan, math.nan)
        else:
            half = COVERAGE * uncertainty if uncertainty > 0 else 0.0
            least = (value if low is None else low) - half
            most = (value if high is None else high) + half
            fresh = raw.put(time, value, least, most)  # at least once on the wire: the same reading may come again
            if fresh:
                for tier in self._tiers[1:]:
                    tier.put(time, value, least, most)
        if late and fresh:
            self.order += 1

    def curve(self, start: int, end: int, *, gap: float = math.inf, since: int | None = None) -> Curve:
        """What lies between two lab times (ns), in at most about `MOST` points; only from `since` on if given.

        `gap`: seconds without a reading after which a line would be a lie.
        """
        tier = next((t for t in self._tiers if t.covers(start)), self._tiers[-1])
        begin = start if since is None else max(start, since)
        width = 0 if tier.width == 1 and tier.count(start, end) <= MOST else _nice((end - start) / MOST)
        if 0 < width < tier.width:
            width = tier.width
        if width:
            begin -= begin % width
        time, weight, value, low, high = tier.columns(begin, end)
        if width > tier.width and len(time):
            time, value, low, high = _merged(time // width, weight, value, low, high, width)
        elif width:
            time = time + width // 2
        breaks = np.flatnonzero(np.diff(time) > max(gap * 1e9, 2.5 * width)) + 1
        if len(breaks):
            middle = (time[breaks - 1] + time[breaks]) // 2
            time = np.insert(time, breaks, middle)
            value, low, high = (np.insert(c, breaks, math.nan) for c in (value, low, high))
        return Curve(time, value, low, high, width)

    def seconds(self, start: int, end: int) -> list[tuple[int, float]]:
        """Mean of each second between two of them (s, lab time) in which anything was read."""
        tier = self._tiers[1]
        here = slice(bisect_left(tier.start, start * SECOND), bisect_left(tier.start, end * SECOND))
        return [(t // SECOND, v) for t, v in zip(tier.start[here], tier.value[here], strict=True)]


class _Tier:
    """Buckets of one width, oldest first; those beyond `keep` are forgotten."""

    def __init__(self, width: int, keep: int) -> None:
        self.width, self.keep = width, keep
        self.start = array("q")
        self.weight, self.value, self.low, self.high = (array("d") for _ in range(4))
        self._forgot = -(2**63)

    def put(self, time: int, value: float, low: float, high: float) -> bool:
        """Add to its bucket; False if it is a reading that is there already (width 1), or too old to be kept."""
        bucket, start = time - time % self.width, self.start
        last = start[-1] if start else self._forgot
        if bucket > last:
            start.append(bucket)
            self.weight.append(1.0)
            self.value.append(value)
            self.low.append(low)
            self.high.append(high)
            if len(start) > self.keep + self.keep // 8:
                self._forgot = start[-self.keep - 1]
                for column in (start, *self._columns):
                    del column[: -self.keep]
            return True
        if bucket <= self._forgot:
            return self.width == 1  # the coarser ones still want it
        at = len(start) - 1 if bucket == last else bisect_left(start, bucket)
        if start[at] != bucket:
            start.insert(at, bucket)
            for column, item in zip(self._columns, (1.0, value, low, high), strict=True):
                column.insert(at, item)
            return True
        if self.width == 1:
            return False
        weight = self.weight[at] = self.weight[at] + 1.0
        self.value[at] += (value - self.value[at]) / weight
        if low < self.low[at]:
            self.low[at] = low
        if high > self.high[at]:
            self.high[at] = high
        return True

    @property
    def _columns(self) -> tuple[Any, ...]:
        return self.weight, self.value, self.low, self.high

    def covers(self, time: int) -> bool:
        """Whether nothing after `time` has been forgotten."""
        return time > self._forgot

    def count(self, start: int, end: int) -> int:
        return bisect_left(self.start, end) - bisect_left(self.start, start)

    def columns(self, start: int, end: int) -> tuple[npt.NDArray[np.int64], Column, Column, Column, Column]:
        here = slice(bisect_left(self.start, start), bisect_left(self.start, end))
        weight, value, low, high = (np.array(column[here], np.float64) for column in self._columns)
        return np.array(self.start[here], np.int64), weight, value, low, high


def _merged(
    bucket: npt.NDArray[np.int64], weight: Column, value: Column, low: Column, high: Column, width: int
) -> tuple[npt.NDArray[np.int64], Column, Column, Column]:
    known = np.isfinite(value)
    bucket = bucket[known]
    weight, value, low, high = (c[known] for c in (weight, value, low, high))
    if not len(bucket):
        return bucket, value, low, high
    first = np.flatnonzero(np.r_[True, np.diff(bucket) > 0])
    mean = np.add.reduceat(weight * value, first) / np.add.reduceat(weight, first)
    return (
        bucket[first] * width + width // 2, mean, np.minimum.reduceat(low, first), np.maximum.reduceat(high, first)
    )  # fmt: skip


def _nice(nanoseconds: float) -> int:
    """The next larger width of which an observer would think: 10, 20, 50, 100 ms ... so that buckets stay put."""
    power = 10 ** max(7, math.floor(math.log10(max(nanoseconds, 1.0))))
    return next(int(step * power) for step in (1, 2, 5, 10) if step * power >= nanoseconds)
