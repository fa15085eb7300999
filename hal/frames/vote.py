"""Irregular triggers: the pattern of the detector's stamps is found again in the pulses, by a vote on the offset."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hal.frames.frame import Float64, Int64, Mask

_Found = tuple[float, float, float, float, float]
"""A block's centre, offset there, reach, quarter of its length (s) and slope of the offset."""
_BLOCK = 400  # frames that vote together once the offset is roughly known
_PAIRS = 4_000_000  # differences looked at in one vote


@dataclass(frozen=True, slots=True)
class Offset:
    """Pulse time = stamp + offset(stamp), piecewise linear through the blocks that agreed, s.

    reach  s within which a frame's own pulse lies from where this puts it
    begin, end  stamps of the first and last frame of each of those blocks, s
    """

    at: Float64
    value: Float64
    reach: float
    spread: float
    begin: Float64
    end: Float64

    def knows(self, d: Float64) -> Mask:
        """Stamps within the blocks that agreed; of others in between the clock may have done anything."""
        i = np.clip(np.searchsorted(self.begin, d, side="right") - 1, 0, None)
        return np.asarray((d >= self.begin[i]) & (d <= self.end[i]))

    def __call__(self, d: Float64) -> Float64:
        low = (self.value[1] - self.value[0]) / (self.at[1] - self.at[0])
        high = (self.value[-1] - self.value[-2]) / (self.at[-1] - self.at[-2])
        out = np.interp(d, self.at, self.value)
        out = np.where(d < self.at[0], self.value[0] + low * (d - self.at[0]), out)
        return np.asarray(np.where(d > self.at[-1], self.value[-1] + high * (d - self.at[-1]), out))


def vote(t: Float64, d: Float64, low: float, high: float, width: float) -> tuple[float, int, int]:
    """The offset in [low, high] that puts most stamps onto pulses: (offset, votes, votes of the best other one).

    Differences of all pairs are counted in bins of `width`, two neighbouring ones together; the
    offset is the median of those that won. t ascending; no pair in the window: no votes.
    """
    first = np.searchsorted(t, d + low)
    count = np.searchsorted(t, d + high) - first
    total = int(count.sum())
    if total == 0:
        return 0.0, 0, 0
    pulse = np.arange(total) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    difference = t[pulse] - np.repeat(d, count) - low
    bins = np.minimum((difference / width).astype(np.int64), round((high - low) / width) + 1)
    votes = np.bincount(bins, minlength=2)
    votes = votes + np.append(votes[1:], 0)
    best = int(np.argmax(votes))
    won = (bins == best) | (bins == best + 1)
    most = int(votes[best])
    votes[max(0, best - 2) : best + 3] = 0
    return low + float(np.median(difference[won])), most, int(votes.max())


def find_offset(t: Float64, d: Float64, latest: float, period: float, ppm: float, resolution: float) -> Offset | None:
    """Offset of the stamps d (ascending, s) against the pulses t (ascending, s); None if no pattern agrees.

    latest is the largest offset that causality allows at d[0]: no frame arrives before its exposure.
    """
    width = max(1.2 * resolution + 1e-7, period / 20)
    if width > period / 4 or d.size < 4 or t.size < 4:
        return None
    seed = _seed(t, d, latest, width, ppm)
    if seed is None:
        return None
    start, value = seed
    blocks = _blocks(d, period)
    home = int(np.searchsorted([b.stop for b in blocks], start, side="right"))
    found: dict[int, _Found] = {}
    for way in (range(home, len(blocks)), range(home - 1, -1, -1)):
        _follow(t, d, [blocks[b] for b in way], list(way), found, (float(d[start]), value), width, ppm)
    if not found:
        return None
    blocks_ = [found[b] for b in sorted(found)]
    # Each block gives two points of its own line.
    at = np.array([f[0] + side * max(f[3], 1e-9) for f in blocks_ for side in (-1, 1)])
    values = np.array([f[1] + side * max(f[3], 1e-9) * f[4] for f in blocks_ for side in (-1, 1)])
    spread = float(np.median([f[2] for f in found.values()]))
    reach = float(min(max(1.5 * float(np.quantile([f[2] for f in found.values()], 0.9)), 2e-7), period / 4))
    begin = d[[blocks[b].start for b in sorted(found)]]
    end = d[[blocks[b].stop - 1 for b in sorted(found)]]
    return Offset(at, values, reach, spread, begin, end)


def _seed(t: Float64, d: Float64, latest: float, width: float, ppm: float) -> tuple[int, float] | None:
    """A stretch too short for the rate error to smear the vote, and the offset there."""
    long = width / (2e-6 * ppm)
    best: tuple[float, int, float] | None = None
    for window in (0.05, 0.6, 4.0):
        for start in np.unique(np.linspace(0, max(0, d.size - 40), 7).astype(np.int64)).tolist():
            stop = min(max(start + 8, int(np.searchsorted(d, d[start] + long))), d.size)
            drift = 1e-6 * ppm * (d[start] - d[0])
            high = latest + drift + width
            low = high - window - 2 * drift
            rate = (np.searchsorted(t, d[stop - 1] + high) - np.searchsorted(t, d[start] + low)) / (
                d[stop - 1] - d[start] + high - low
            )
            few = int(min(stop - start, 400, _PAIRS / max(rate * (high - low), 1.0)))
            if few < 4:
                continue
            some = d[start + np.linspace(0, stop - start - 1, few).astype(np.int64)]
            value, most, second = vote(t, some, low, high, width)
            # More than chance could give in any of the bins, and clearly more than any other offset.
            chance = few * min(rate * 2 * width, 1.0)
            if most < max(4, 0.6 * few, chance + 6 * np.sqrt(chance + 1)) or second > 0.8 * most:
                continue
            if best is None or most / few > best[0] + 0.02:
                best = (most / few, start, value)
        if best is not None:
            return best[1], best[2]
    return None


def _blocks(d: Float64, period: float) -> list[slice]:
    cuts = np.flatnonzero(np.diff(d) > 40 * period) + 1
    out = []
    for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), d.size], strict=True):
        pieces = max(1, round((high - low) / _BLOCK))
        edges = np.linspace(low, high, pieces + 1).astype(np.int64).tolist()
        out += [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
    return out


def _follow(
    t: Float64, d: Float64, blocks: list[slice], names: list[int], found: dict[int, _Found],
    known: tuple[float, float], width: float, ppm: float,
) -> None:  # fmt: skip
    """From block to block, each one's offset predicted by those before it."""
    history: list[tuple[float, float]] = sorted(
        (f[0], f[1]) for f in found.values()
    )  # where the other direction began from
    history = [h for h in history if abs(h[0] - known[0]) < 30] or [known]
    for name, block in zip(names, blocks, strict=True):
        own = d[block]
        centre = float(own.mean())
        near = min(history, key=lambda h: abs(h[0] - centre))
        far = max(history, key=lambda h: abs(h[0] - near[0]))
        base = abs(far[0] - near[0])
        slope = (far[1] - near[1]) / (far[0] - near[0]) if base > 0 else 0.0
        slope = float(np.clip(slope, -1e-6 * ppm, 1e-6 * ppm))
        away = abs(centre - near[0])
        doubt = min(1e-6 * ppm, 1e-6 + 0.2 * width / max(base, 1e-9)) if base > 0 else 1e-6 * ppm
        half = width + doubt * (away + float(own[-1] - own[0]))
        guess = near[1] + slope * (own - near[0])
        value, most, second = vote(t, own + guess, -half, half, width)
        if most < max(3, 0.5 * own.size) or second > 0.8 * most:
            continue
        residual = nearest(t, own + guess + value) - (own + guess + value)
        close = np.abs(residual) < width
        shift = float(np.median(residual[close])) if close.any() else 0.0
        tilt = _tilt(own[close] - centre, residual[close] - shift, ppm)
        off = np.abs(residual[close] - shift - tilt * (own[close] - centre))
        # Off by chance lie few: nine tenths of a block tell how far its own pulses scatter.
        reach = float(np.quantile(off, 0.9)) * 1.2 if off.size else width
        level = near[1] + slope * (centre - near[0]) + value + shift
        quarter = 0.25 * float(own[-1] - own[0])
        found[name] = (centre, level, reach, quarter, slope + tilt)
        history.append((centre, found[name][1]))
        recent = max(3.0, 4 * float(own[-1] - own[0]))
        history = [h for h in history if abs(h[0] - centre) <= recent][-12:]


def _tilt(x: Float64, y: Float64, ppm: float) -> float:
    """Slope of a block's residuals: between the medians of its first and last third."""
    third = x.size // 3
    if third < 7:
        return 0.0
    rise = float(np.median(y[-third:]) - np.median(y[:third]))
    return float(np.clip(rise / float(x[-third:].mean() - x[:third].mean()), -2e-6 * ppm, 2e-6 * ppm))


def nearest(t: Float64, at: Float64) -> Float64:
    """The pulse nearest to each moment."""
    j = np.clip(np.searchsorted(t, at), 1, t.size - 1)
    return np.asarray(np.where(at - t[j - 1] <= t[j] - at, t[j - 1], t[j]))


def in_order(claimed: Int64, order: Int64, count: Int64) -> tuple[Int64, Mask]:
    """What pulses are left for frames whose stamp found none, from the neighbours that found theirs.

    claimed   index of each frame's pulse among the debounced ones, -1: none found; in order of exposure
    order     exposure number of each frame (deliveries: its rank)
    Returns the pulse that only this frame can have (-1: none), and whether its pulse is surely missing
    (no pulse is left between the neighbours).
    """
    has = np.flatnonzero(claimed >= 0)
    n = claimed.size
    pulse, missing = np.full(n, -1), np.zeros(n, np.bool_)
    lost = np.flatnonzero(claimed < 0)
    if not has.size or not lost.size:
        return pulse, missing
    at = np.searchsorted(has, lost)
    inner = (at > 0) & (at < has.size)
    lost, at = lost[inner], at[inner]
    left, right = has[at - 1], has[at]
    pulses = claimed[right] - claimed[left]
    missing[lost] = pulses == 1
    if count.size:
        same = pulses == order[right] - order[left]
        pulse[lost] = np.where(same & (pulses > 0), claimed[left] + order[lost] - order[left], -1)
    return pulse, missing
