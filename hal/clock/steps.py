"""Moments at which somebody set a clock, or it lost time: what was told before contradicts what is told after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LEAST = 4
"""Exchanges between two steps; fewer that contradict all others were corrupted."""
OFTEN = 128
"""Exchanges for each step after the first; a clock that contradicts itself more often has not the rate declared."""


@dataclass(frozen=True, slots=True)
class Step:
    """The clock was set after exchange `before` and by exchange `after`; those between fit either side."""

    before: int
    after: int


def steps(x: Float64, low: Float64, up: Float64, rho: float, *, first: int = LEAST, least: int = LEAST) -> list[Step]:
    """The fewest steps that make low[i] <= theta(x[i]) <= up[i] possible, |d theta/dx| <= rho but for them; x ascends.

    None if none are needed, or if no few steps do; `least`: exchanges between two, `first`: before the first one.
    Going on until something contradicts finds the latest moment of each step, going back from the end the earliest.
    """
    most = 1 + x.size // OFTEN
    latest = _contradictions(rho * x, low, up, most)
    if not latest or len(latest) > most:
        return []
    earliest = [x.size - 1 - i for i in reversed(_contradictions(-rho * x[::-1], low[::-1], up[::-1], most))]
    found = [Step(before, after) for before, after in zip(earliest, latest, strict=True)]
    begins, ends = [0, *latest], [*(before + 1 for before in earliest), x.size]
    enough = all(end - begin >= n for begin, end, n in zip(begins, ends, [first, *(least for _ in found)], strict=True))
    return found if enough else []


def _contradictions(k: Float64, low: Float64, up: Float64, enough: int) -> list[int]:
    """Indices, each the first that contradicts something since the last of them; k ascends by rho times time.

    Not many more than `enough`.
    """
    found: list[int] = []
    begin = 0
    while len(found) <= enough:
        most = np.minimum.accumulate(up[begin:] - k[begin:])[:-1] + k[begin + 1 :]
        least = np.maximum.accumulate(low[begin:] + k[begin:])[:-1] - k[begin + 1 :]
        bad = (low[begin + 1 :] > most) | (up[begin + 1 :] < least)
        if not bad.any():
            return found
        begin += 1 + int(np.argmax(bad))
        found.append(begin)
    return found
