"""Straight lines through the band that exchanges leave open: convex hulls and the line with the widest margin.

Every exchange puts a clock's offset between a lower and an upper limit (`tube.py`). Among all straight lines
the one with the most room on both sides is the solution of a linear programme in two dimensions; only the
corners of two convex hulls matter to it (L. Zhang, Z. Liu, C. H. Xia, INFOCOM 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
CHAIN = 24
"""Points that are few enough for a loop."""


def hull_below(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Corners of the lower convex hull of points in ascending x.

    A point on or over the chord between two others is no corner, so of many points most go at once, several times
    over; the rest by A. M. Andrew's monotone chain (1979).
    """
    while x.size > CHAIN:
        dx, dy = x[1:] - x[:-1], y[1:] - y[:-1]
        if not dx.all():  # of points above each other only the lowest counts
            first = np.flatnonzero(np.concatenate([[True], dx != 0.0]))
            x, y = x[first], np.minimum.reduceat(y, first)
            continue
        corner = dy[:-1] * dx[1:] < dy[1:] * dx[:-1]
        if np.count_nonzero(corner) > 0.9 * corner.size:
            break
        keep = np.concatenate([[True], corner, [True]])
        x, y = x[keep], y[keep]
    hx: list[float] = []
    hy: list[float] = []
    n = 0
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        if n and hx[-1] == px:
            if py >= hy[-1]:
                continue
            hx.pop()
            hy.pop()
            n -= 1
        while n > 1 and (hy[-1] - hy[-2]) * (px - hx[-1]) >= (py - hy[-1]) * (hx[-1] - hx[-2]):
            hx.pop()
            hy.pop()
            n -= 1
        hx.append(px)
        hy.append(py)
        n += 1
    return np.array(hx), np.array(hy)


@dataclass(frozen=True, slots=True)
class Margin:
    """The room that lower and upper limits leave along one slope, and the slopes that are nearly as good."""

    middle: float
    slope: float
    low: float
    """Slopes from low ..."""
    high: float
    """... to high are nearly as good."""
    floor: float
    """Height of the highest lower limit over the line's foot at `middle`, ..."""
    ceiling: float
    """... and of the lowest upper limit."""

    @property
    def gap(self) -> float:
        return self.ceiling - self.floor

    @property
    def doubt(self) -> float:
        """Half the span of those slopes."""
        return (self.high - self.low) / 2


class Band:
    """score(s) = weight_up min(B - s x) - weight_low max(A - s x), for lower limits A and upper limits B.

    Of equal weights 1 it is the gap. Where delays beyond the smallest are exponential, with densities `weight` at
    zero (1/ns), it is the logarithm of the slope's likelihood, offset and smallest delays at their best. Either
    term is concave and piecewise linear, with a breakpoint at the slope of each hull's edge: evaluating those is exact.
    """

    __slots__ = ("_ceiling", "_floor", "_slopes", "middle")

    def __init__(self, xl: Float64, lower: Float64, xu: Float64, upper: Float64, limit: float) -> None:
        """Limits in ascending x, at least one of either kind; |slope| <= limit."""
        ax, ay = hull_below(xl, -lower)
        bx, by = hull_below(xu, upper)
        self.middle = float(min(ax[0], bx[0]) + max(ax[-1], bx[-1])) / 2
        ax, bx = ax - self.middle, bx - self.middle
        edges = np.concatenate(
            [(ay[:-1] - ay[1:]) / (ax[1:] - ax[:-1]), (by[1:] - by[:-1]) / (bx[1:] - bx[:-1]), [-limit, limit]]
        )
        self._slopes = np.sort(np.minimum(np.maximum(edges, -limit), limit))
        column = self._slopes[:, None]
        self._floor = -(ay + column * ax).min(1)
        self._ceiling = (by - column * bx).min(1)

    def best(self, low: float = 1.0, up: float = 1.0, less: float = 0.0) -> Margin:
        """Along the middle of the slopes with the best score; low and high score at most `less` below."""
        score = up * self._ceiling - low * self._floor
        most = float(score.max())
        first, last = self._within(score, most - 1e-9 * (1.0 + abs(most)))
        slope = (first + last) / 2
        if less:
            first, last = self._within(score, most - less)
        return self._along(slope, first, last)

    def open(self) -> Margin:
        """Along the middle of all slopes that leave any room."""
        gap = self._ceiling - self._floor
        first, last = self._within(gap, min(float(gap.max()), 0.0))
        return self._along((first + last) / 2, first, last)

    def _along(self, slope: float, low: float, high: float) -> Margin:
        floor, ceiling = (float(np.interp(slope, self._slopes, y)) for y in (self._floor, self._ceiling))
        return Margin(self.middle, slope, low, high, floor, ceiling)

    def _within(self, score: Float64, need: float) -> tuple[float, float]:
        """The slopes between which the score is at least `need`."""
        s = self._slopes
        enough = np.flatnonzero(score >= need)
        i, j = int(enough[0]), int(enough[-1])
        low, high = float(s[i]), float(s[j])
        if i and score[i] > score[i - 1]:
            low -= float((score[i] - need) / (score[i] - score[i - 1])) * float(s[i] - s[i - 1])
        if j + 1 < s.size and score[j] > score[j + 1]:
            high += float((score[j] - need) / (score[j] - score[j + 1])) * float(s[j + 1] - s[j])
        return low, high
