"""Slots of a regular train: every exposure the detector made has one, whether its pulse was captured or not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hal.frames.frame import Float64, Int64, Mask

PAD = 64  # slots added before and after a train: pulses can be missing at its ends
HOLE = 16  # exposures in a row whose pulses may have been missed
_LONGEST = 1000  # periods of silence that counting may bridge; a longer one begins another train


@dataclass(frozen=True, slots=True)
class Train:
    """Slots of one unbroken train: when each exposure was and which pulse it has.

    time   s, shape (m,); where the pulse is missing, interpolated, at the ends extrapolated
    pulse  index of the slot's pulse, -1 if there is none
    before number of pulses in the slots before each one, shape (m + 1,)
    hole   most slots in a row, between captured pulses, that have none (up to HOLE: more are a pause)
    period s, usual
    spread s, by how much a pulse lies beside its neighbours' line (robust standard deviation)
    """

    time: Float64
    pulse: Int64
    before: Int64
    hole: int
    period: float
    spread: float
    _put_out: dict[int, Int64] = field(default_factory=dict)

    def captured(self, first: Int64, count: int) -> Int64:
        """Pulses in the `count` slots from each of `first` on; slots outside the train have none."""
        last = self.pulse.size
        low, high = np.clip(first, 0, last), np.clip(first + count, 0, last)
        return np.asarray(self.before[high] - self.before[low])

    def put_out(self, first: Int64, count: int, hole: int) -> Int64:
        """Pulses the detector put out in the `count` slots from each of `first` on, as far as can be told.

        Up to `hole` of them in a row, between two captured ones, were put out and missed. A series that avoids what
        was missed must not seem better than others, if pulses go on before and after it.
        """
        if hole not in self._put_out:
            at = np.flatnonzero(self.pulse >= 0)
            short = np.flatnonzero(np.diff(at) <= hole + 1)
            edge = np.zeros(self.pulse.size + 1, np.int64)
            edge[at[short] + 1] += 1
            edge[at[short + 1]] -= 1
            self._put_out[hole] = np.concatenate([[0], np.cumsum(np.cumsum(edge[:-1]) + (self.pulse >= 0))])
        before, last = self._put_out[hole], self.pulse.size
        return np.asarray(before[np.clip(first + count, 0, last)] - before[np.clip(first, 0, last)])

    def empty(self, first: Int64) -> Int64:
        """Slots without a pulse from each of `first` on, until one has."""
        at = np.flatnonzero(self.pulse >= 0)
        if not at.size:
            return np.full(first.shape, self.pulse.size)
        return np.asarray(at[np.clip(np.searchsorted(at, first), None, at.size - 1)] - first).clip(min=0)

    def at(self, slot: float) -> float:
        """Time of a (fractional) slot as its 200 neighbours see it, s."""
        low, high = max(0, round(slot) - 100), min(self.time.size, round(slot) + 101)
        if high - low < 2:
            return float(np.interp(slot, [0, self.time.size - 1], self.time[[0, -1]])) + self.period * float(
                min(slot, 0) + max(slot - self.time.size + 1, 0)
            )
        beside = self.time[low:high] - self.period * (np.arange(low, high) - slot)
        centre = (low + high - 1) / 2
        slope = float(beside[-1] - beside[0]) / (high - 1 - low)
        return float(beside.mean()) + slope * (slot - centre)


def trains(t: Float64, edges: Float64, period: float, longest: int = _LONGEST, resolution: float = 0.0) -> list[Train]:
    """Arrange pulses on combs.

    t are debounced pulses and edges all captured ones, both ascending (s), in steps of `resolution`;
    period is roughly known (1e-3). A pulse belongs to a comb if some of its neighbours lie whole periods
    away; then, if it lies on its neighbours' line. Strays do not. Each silence that is no whole number of periods, or
    is longer than `longest`, begins a new train, with a phase of its own.
    """
    out: list[Train] = []
    at = _on_a_comb(t, period, longest)
    if at.size < 2:
        return out
    period, spread = pitch(np.diff(t[at]), period, resolution)
    whole, broken = breaks(np.diff(t[at]) / period, spread / period, longest)
    # A stray that got here, or two, break a step beside them (hardly one of one period), but not the one across.
    for strays in (1, 2):
        if at.size > strays + 1:
            across = (t[at][strays + 1 :] - t[at][: -strays - 1]) / period
            near = min(10 * spread / period + 1e-3, 0.12)
            off = np.abs(np.diff(t[at]) / period - whole) > near
            beside = np.lib.stride_tricks.sliding_window_view(np.stack([off, broken]), strays + 1, axis=1)
            lone = beside[0].all(axis=1) & beside[1].any(axis=1) & (np.abs(across - np.rint(across)) <= near)
            lone &= ~breaks(across, spread / period, longest)[1]
            gone = np.flatnonzero(lone)[:, None] + np.arange(1, strays + 1)
            at = np.delete(at, gone.ravel())
            whole, broken = breaks(np.diff(t[at]) / period, spread / period, longest)
    bounds = np.concatenate([[0], np.flatnonzero(broken) + 1, [at.size]])
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if high - low >= 2:
            out.append(_train(t[at[low:high]], whole[low : high - 1].astype(np.int64), edges, period, resolution))
    return out


def pitch(gaps: Float64, period: float, resolution: float = 0.0) -> tuple[float, float]:
    """Mean of the gaps of one period (a median would see the counter's steps only), and their scatter, s."""
    one = gaps[np.abs(gaps - period) < 0.1 * period + resolution]
    if not one.size:
        return period, 0.0
    # A stray near a pulse makes one gap longer and the next one shorter, or only one of them counts.
    off = np.abs(one - np.median(one))
    far = max(15.0 * float(np.median(off)), 2.0 * resolution, 2e-7)
    near = one[off < min(far, 0.03 * period + resolution)]
    mean = float(near.mean()) if near.size else float(np.median(one))
    return mean, max(float(1.4826 * np.median(np.abs(one - mean))), 2e-8)


def breaks(steps: Float64, spread: float, longest: int, coarse: float = 0.0) -> tuple[Float64, Mask]:
    """Whole periods in each step, and where there is no whole number of them; spread and one step of the clock (coarse)
    in periods."""
    whole = np.rint(steps)
    # Over a silence the phase must be kept: a pause that looks whole by chance must not join two trains.
    slack = np.where(whole > 1, np.minimum(10 * spread + 1e-5 * whole, 0.25), 0.12) + coarse
    return whole, (np.abs(steps - whole) > slack) | (whole > longest)


def _on_a_comb(t: Float64, period: float, longest: int) -> Int64:
    votes = np.zeros(t.size, np.int8)
    for lag in (1, 2, 3):
        steps = (t[lag:] - t[:-lag]) / period
        whole = np.rint(steps)
        agree = (np.abs(steps - whole) < 0.1 + 1e-4 * np.minimum(whole, 500)) & (whole >= 1) & (whole <= longest)
        votes[lag:] += agree
        votes[:-lag] += agree
    return np.flatnonzero(votes >= (2 if t.size > 3 else 1))


def _train(t: Float64, steps: Int64, edges: Float64, period: float, resolution: float) -> Train:
    index = np.concatenate([[0], np.cumsum(steps)])
    usual, _ = pitch(np.diff(t), period, resolution)
    # Two pulses in one slot: the one nearer to where the slot before leads stays.
    if (steps == 0).any():
        ahead = np.concatenate([[0.0], np.abs(np.diff(t) - np.maximum(steps, 1) * usual)])
        order = np.lexsort((ahead, index))
        keep = np.zeros(t.size, np.bool_)
        keep[order[np.concatenate([[True], np.diff(index[order]) > 0])]] = True
        t, index = t[keep], index[keep]
    off = _beside(t, index, usual)
    spread = float(1.4826 * np.median(np.abs(off))) if t.size > 4 else 0.0
    # A line through two captured pulses is up to 1.5 steps of the counter off where the next is, and that one a half.
    far = min(max(8.0 * spread, 2.0 * resolution, 1.5e-7), 0.12 * period)
    fits = np.abs(off) <= far if t.size > 4 else np.ones(t.size, np.bool_)
    if fits.sum() >= 2:
        t, index = t[fits], index[fits]
    count = int(index[-1] - index[0]) + 1 + 2 * PAD
    slot = np.arange(count) - PAD + index[0]
    time = np.interp(slot, index, t)
    head, tail = slot < index[0], slot > index[-1]
    few = min(200, t.size - 1)
    begin, end = (usual, usual) if not few else (
        (t[few] - t[0]) / (index[few] - index[0]), (t[-1] - t[-1 - few]) / (index[-1] - index[-1 - few])
    )  # fmt: skip
    time[head] = t[0] + (slot[head] - index[0]) * begin
    time[tail] = t[-1] + (slot[tail] - index[-1]) * end
    # The first edge near the slot's place: what follows it is ringing.
    pulse = first_within(edges, time, np.full(count, far))
    has = pulse >= 0
    time = np.where(has, edges[pulse], time)
    gaps = np.diff(np.flatnonzero(has)) - 1
    missed = int(gaps[gaps <= HOLE].max(initial=0))
    return Train(time, pulse, np.concatenate([[0], np.cumsum(has)]), missed, usual, spread)


def _beside(t: Float64, index: Int64, period: float) -> Float64:
    """By how much each pulse lies beside the line through its neighbours: median of three such lines."""
    n = t.size
    if n < 5:
        rate = (t[-1] - t[0]) / max(float(index[-1] - index[0]), 1.0)
        return np.asarray(t - t[0] - (index - index[0]) * rate) if n > 2 else np.zeros(n)
    # From the two on the left, from the two on the right, and between the neighbours; at the ends, what there is.
    i = np.arange(n)
    a = _line(t, index, np.clip(i - 2, 0, n - 3), np.clip(i - 1, 1, n - 2), i)
    c = _line(t, index, np.clip(i + 2, 2, n - 1), np.clip(i + 1, 1, n - 2), i)
    b = _line(t, index, np.clip(i - 1, 0, n - 2), np.clip(i + 1, 1, n - 1), i)
    a[:2], c[-2:] = c[:2], a[-2:]
    b[0], b[-1] = c[0], a[-1]
    middle = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return np.asarray(t - middle)


def _line(t: Float64, index: Int64, left: Int64, right: Int64, here: Int64) -> Float64:
    slope = (t[right] - t[left]) / np.where(index[right] == index[left], 1, index[right] - index[left])
    return np.asarray(t[left] + slope * (index[here] - index[left]))


def first_within(edges: Float64, at: Float64, reach: Float64) -> Int64:
    """Index of the first edge in [at - reach, at + reach], -1 if there is none."""
    if not edges.size:
        return np.full(at.size, -1)
    j = np.searchsorted(edges, at - reach)
    inside: Mask = (j < edges.size) & (edges[np.minimum(j, edges.size - 1)] <= at + reach)
    return np.where(inside, j, -1)
