"""Simulated frames and frame pulses whose true exposures are known, for `hal.frames.match`.

A detector exposes in series, by its own clock (off by some ppm, wandering) or by irregular triggers.
Each exposure puts out a pulse; a counter captures it, and a clock model that is off by up to its
bound maps it to lab time. The frame itself goes through a queue that stalls for up to seconds.
Truth leaves this module beside the trace, never in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hal.frames.match import Frames, Matched, Pulses, match
from hal.frames.pulses import RING

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

ORIGIN = 1_790_000_000_000_000_000  # ns, some day in 2026
RATES = (25, 400, 4_000, 120_000)
BOUND = 40_000  # ns, of the counter's clock model, whose error all neighbours share
MIN_LATENCY = 1.2e-3  # s from the exposure's end to the promptest arrival


@dataclass(frozen=True)
class Regime:
    """What goes wrong, and how often; probabilities are per exposure unless noted."""

    series: int = 3
    drop: float = 0.003
    bursts: float = 0.5  # per series: several exposures in a row dropped
    edges: bool = False  # the first and last exposures of each series are dropped
    double: float = 0.0
    missing: float = 0.0
    missing_bursts: float = 0.0  # per series
    stray: float = 0.0  # per second
    ring: float = 0.0
    extra: tuple[int, int] = (0, 0)  # pulses before and after each series
    restart: float = 0.0  # per series: the detector's clock and numbers begin anew
    stamps: bool = True
    resolution: float = 1e-8  # s
    ppm: float = 40.0
    wander: float = 0.05  # ppm
    corrupt: float = 0.0
    irregular: bool = False
    counts: str = "acquisition"
    stalls: float = 0.15  # per second: nothing arrives for up to 2 s, then all at once
    jitter: float = 1.5e-4  # s
    pause: float = 0.6  # s, mean between series
    counted: bool = True  # how many exposures a series has is told
    declared: float | None = 1.0  # the smallest latency is told, as this many times what it is


REGIMES: dict[str, Regime] = {
    "quiet": Regime(series=1, drop=0.0, bursts=0.0, stalls=0.0),
    "drops": Regime(drop=0.02, bursts=3.0),
    "edges dropped": Regime(edges=True, drop=0.01, bursts=1.0),
    "doubled": Regime(double=0.01, counts="series"),
    "missing pulses": Regime(missing=0.01, missing_bursts=1.0),
    "stray pulses": Regime(stray=3.0, missing=0.003),
    "ringing": Regime(ring=0.05, stray=1.0),
    "restarts": Regime(series=6, restart=0.6, missing=0.001),
    "many series": Regime(series=25, counts="series", missing=0.002, edges=True),
    "100 ppm": Regime(ppm=100.0, wander=1.0, series=4),
    "stamps of 1 us": Regime(resolution=1e-6, missing=0.003),
    "stamps of 1 ms": Regime(resolution=1e-3, missing=0.003),
    "corrupt stamps": Regime(corrupt=0.003, drop=0.01),
    "irregular": Regime(irregular=True, drop=0.01, missing=0.003, stray=1.0, counts="series"),
    "irregular, 1 us": Regime(irregular=True, drop=0.01, missing=0.003, resolution=1e-6, corrupt=0.001),
    "irregular, doubled": Regime(irregular=True, double=0.01, ring=0.02, counts="deliveries"),
    "pulses go on": Regime(series=3, extra=(40, 25), missing=0.002),
    "deliveries": Regime(counts="deliveries", drop=0.01, missing=0.002),
    "no stamps": Regime(stamps=False, missing=0.002, stray=0.5),
    "irregular, no stamps": Regime(irregular=True, stamps=False, counts="deliveries", missing=0.001, stray=0.5),
    "pulses go on, missing": Regime(series=4, extra=(3, 2), missing=0.01, missing_bursts=0.5),
    "no stamps, deliveries": Regime(stamps=False, counts="deliveries", drop=0.005, series=1, missing=0.001),
    "a third of pulses lost": Regime(missing=0.3),
    "length not told": Regime(series=8, counted=False, counts="series", edges=True, drop=0.01, missing=0.003),
    "everything": Regime(
        series=8, drop=0.02, bursts=2.0, edges=True, double=0.005, missing=0.01, missing_bursts=0.5, stray=2.0,
        ring=0.01, restart=0.3, resolution=1e-6, ppm=100.0, wander=0.5, corrupt=0.001, stalls=0.3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What really happened: exposure starts (ns), the pulse of each (-1: none), repeated frames."""

    start: Int64
    mapped: Int64  # start as the pulses' clock model, with its error, would have it
    pulse: Int64
    doubled: Mask
    resolvable: Mask
    interval: float  # s, usual time between exposures
    exposure: Int64  # which one each frame is of
    owner: Int64  # per pulse, the exposure that put it out; -1: a stray, ringing, or one beyond the series


@dataclass(frozen=True)
class Trace:
    """What the code under test may see, and beside it what it may not."""

    frames: Frames
    pulses: Pulses
    truth: Truth


def trace(regime: Regime, rate: float, seed: int, frames: int = 6_000) -> Trace:
    """A run of about so many frames at so many per second."""
    rng = np.random.default_rng(seed)
    period = 1.0 / rate
    per_series = max(frames // regime.series, 12)
    start, series, index = _exposures(regime, rng, period, per_series)
    exposure = 0.7 * period
    # The detector's clock: rate error, a slow sine of wander, restarts at the beginning of a series.
    span = start[-1] + 1.0
    sign = rng.choice([-1.0, 1.0])
    turn = 2 * np.pi / max(0.7 * span, 20.0)
    stamp = start * (1 + sign * regime.ppm * 1e-6) + regime.wander * 1e-6 / turn * np.sin(turn * start)
    stamp += rng.uniform(0, 5e4)
    number = index + series * per_series if regime.counts == "acquisition" else index.copy()
    epoch = np.zeros(series.size, np.int64)
    for s in range(1, regime.series):
        if rng.random() < regime.restart:
            later = series >= s
            epoch[later] += 1
            stamp[later] += rng.uniform(0.0, 0.3) - stamp[later][0]
            number[later] -= number[later][0] if regime.counts == "acquisition" else 0
    stamp = np.floor(stamp / regime.resolution) * regime.resolution
    pulses, owner, error, who = _pulses(regime, rng, start, series, period, per_series)
    received = _kept(regime, rng, series, per_series)
    arrival = _arrivals(regime, rng, start[received] + exposure)
    # Doubled: the same frame once more, right behind it or a few frames later.
    twice = rng.random(received.size) < regime.double
    order = np.argsort(
        np.concatenate([np.arange(received.size), np.flatnonzero(twice) + rng.choice([0.5, 2.5], twice.sum())]),
        kind="stable",
    )
    frame = np.concatenate([received, received[twice]])[order]
    doubled = np.concatenate([np.zeros(received.size, bool), np.ones(int(twice.sum()), bool)])[order]
    arrival = np.maximum.accumulate(np.concatenate([arrival, arrival[twice]])[order])
    ticks = np.rint(stamp[frame] * 1e9).astype(np.int64)
    spoilt = np.flatnonzero(rng.random(frame.size) < regime.corrupt)
    ticks[spoilt] ^= 1 << rng.integers(16, 42, spoilt.size)
    counted = np.arange(frame.size) if regime.counts == "deliveries" else number[frame]
    seen = Frames(
        arrival=ORIGIN + np.rint(arrival * 1e9).astype(np.int64),
        exposure=exposure,
        ticks=ticks if regime.stamps else None,
        frequency=1e9,
        resolution=regime.resolution,
        ppm=120.0,
        number=counted,
        counts=regime.counts,  # type: ignore[arg-type]
        period=period,
        regular=not regime.irregular,
        per_series=per_series if regime.counted else None,
        min_latency=None if regime.declared is None else regime.declared * MIN_LATENCY,
    )
    resolvable = ~doubled
    if not regime.stamps and regime.counts == "deliveries":
        resolvable &= _seen_by_arrival(frame, arrival - start[frame] - exposure, period, regime.irregular)
    elif not regime.irregular:
        late = arrival - start[frame] - exposure - MIN_LATENCY
        # Stamps coarser than the period tell nothing over a pause: then each series is by itself.
        clock = epoch if regime.stamps and regime.resolution <= period else series
        resolvable &= ~_alike(regime, period, owner, frame, series, clock, late)
    true = np.rint(start[frame] * 1e9).astype(np.int64) + ORIGIN
    mapped = true + np.rint(error[frame] * 1e9).astype(np.int64)
    truth = Truth(true, mapped, owner[frame], doubled, resolvable, period, frame, who)
    return Trace(seen, pulses, truth)


def _exposures(
    regime: Regime, rng: np.random.Generator, period: float, per_series: int
) -> tuple[Float64, Int64, Int64]:
    starts, at = [], 1.0
    for _ in range(regime.series):
        steps = np.full(per_series, period)
        if regime.irregular:
            steps = period * (0.35 + rng.gamma(2.0, 0.325, per_series))
        own = at + np.cumsum(steps) - steps[0]
        starts.append(own)
        at = own[-1] + period + regime.pause * rng.uniform(0.3, 1.7) + 2 * period * sum(regime.extra)
    series = np.repeat(np.arange(regime.series), per_series)
    return np.concatenate(starts), series, np.tile(np.arange(per_series), regime.series)


def _pulses(
    regime: Regime, rng: np.random.Generator, start: Float64, series: Int64, period: float, per_series: int
) -> tuple[Pulses, Int64, Float64, Int64]:
    """The captured pulses, which of them is each exposure's own (-1: none), the clock's error there (s), and whose
    each pulse is (-1: nobody's)."""
    latency = 2e-7
    lost = rng.random(start.size) < regime.missing
    for s in range(regime.series):
        for _ in range(rng.poisson(regime.missing_bursts)):
            at = s * per_series + rng.integers(0, per_series)
            lost[at : min(at + rng.integers(2, 12), (s + 1) * per_series)] = True
    own = np.flatnonzero(~lost)
    edges, owners = [start[own]], [own]
    rings = own[rng.random(own.size) < regime.ring]
    edges.append(start[rings] + np.minimum(rng.uniform(5e-7, 8e-6, rings.size), 0.15 * period))
    span = start[-1] + 2.0
    edges.append(rng.uniform(0.0, span, rng.poisson(regime.stray * span)))
    for s in range(regime.series):
        here = start[series == s]
        edges.append(here[0] - period * np.arange(1, regime.extra[0] + 1))
        edges.append(here[-1] + period * np.arange(1, regime.extra[1] + 1))
    t = np.concatenate(edges)
    who = np.full(t.size, -1)
    who[: own.size] = owners[0]
    order = np.argsort(t, kind="stable")
    t, who = t[order], who[order]
    captured = np.floor((t + latency + rng.normal(0, 1.5e-8, t.size)) / 1e-8) * 1e-8
    turns, phase = rng.uniform(40, 200), rng.random()
    error = 2.5e-5 * np.sin(2 * np.pi * (captured / turns + phase))
    owner = np.full(start.size, -1)
    owner[who[who >= 0]] = np.flatnonzero(who >= 0)
    pulses = Pulses(
        time=ORIGIN + np.rint((captured + error) * 1e9).astype(np.int64),
        bound=np.full(t.size, BOUND),
        ticks=np.rint(captured * 1e8).astype(np.int64),
        latency=latency,
        resolution=1e-8,
        clock="board",
    )
    return pulses, owner, 2.5e-5 * np.sin(2 * np.pi * (start / turns + phase)), who


def _kept(regime: Regime, rng: np.random.Generator, series: Int64, per_series: int) -> Int64:
    keep = rng.random(series.size) >= regime.drop
    for s in range(regime.series):
        first = s * per_series
        for _ in range(rng.poisson(regime.bursts)):
            at = first + rng.integers(1, per_series)
            keep[at : at + rng.integers(2, max(3, min(60, per_series // 6)))] = False
        if regime.edges:
            keep[first : first + rng.integers(0, 4)] = False
            keep[first + per_series - rng.integers(0, 4) : first + per_series] = False
    return np.flatnonzero(keep)


def _arrivals(regime: Regime, rng: np.random.Generator, stop: Float64) -> Float64:
    arrival = stop + MIN_LATENCY + rng.gamma(1.2, regime.jitter, stop.size)
    at = stop[0] + rng.exponential(1.0 / regime.stalls) if regime.stalls else np.inf
    while at < stop[-1]:
        until = at + min(rng.exponential(0.4), 2.0)
        held = np.flatnonzero((arrival >= at) & (arrival < until))
        arrival[held] = until + 2e-6 * np.arange(held.size)
        at = until + rng.exponential(1.0 / regime.stalls)
    return np.maximum.accumulate(arrival)


def _seen_by_arrival(exposure: Int64, latency: Float64, period: float, irregular: bool) -> Mask:
    """Without stamps and numbers: which frames stand between prompt ones with nothing dropped in between.

    Of irregular triggers only prompt ones: where others were held up, a stray may stand for a missed pulse.
    """
    if period < 10 * 1.5e-4:
        return np.zeros(exposure.size, np.bool_)
    prompt = latency < MIN_LATENCY + 0.5 * period
    if irregular:
        return np.asarray(prompt & np.concatenate([[False], prompt[:-1]]))
    level = exposure - np.arange(exposure.size)
    at = np.flatnonzero(prompt)
    where = np.arange(exposure.size)
    before = at[np.clip(np.searchsorted(at, where, "right") - 1, 0, None)]
    after = at[np.clip(np.searchsorted(at, where, "left"), None, at.size - 1)]
    inside = (where >= at[0]) & (where <= at[-1])
    return np.asarray(inside & (level[before] == level[after]))


def _alike(
    regime: Regime, period: float, owner: Int64, frame: Int64, series: Int64, clock: Int64, late: Float64
) -> Mask:
    """Frames that one exposure earlier or later would fit as well: nothing in the trace can tell.

    Series whose stamps one clock made shift together. As many pulses are in their places if at one end a pulse was put
    out beyond the series, or the last one missed. Then only the latency is left: it tells shifts apart by more than
    twice what the pulses' lab time may be off, if a frame was prompt.
    """
    out = np.zeros(frame.size, np.bool_)
    first = np.concatenate([[True], np.diff(series) > 0])
    last = np.concatenate([first[1:], [True]])
    after = np.full(int(series[-1]) + 1, min(regime.extra[1], 1))
    if not regime.counted:
        # The last frame received may be the last exposure, or not.
        received = np.zeros(owner.size, np.bool_)
        received[frame] = True
        ends = np.array([np.flatnonzero(received & (series == s))[-1] for s in range(after.size)])
        beyond = np.arange(owner.size) > ends[series]
        after = np.maximum(after, np.bincount(series[beyond & (owner >= 0)], minlength=after.size) > 0)
        last = np.isin(np.arange(owner.size), ends)
    for c in np.unique(clock):
        mine = clock[frame] == c
        here = clock == c
        later = np.sum(after[series[here & first]] - (owner[here & first] >= 0))
        earlier = np.sum(np.minimum(regime.extra[0], 1) - (owner[here & last] >= 0))
        unknown = regime.declared is None or late[mine].min(initial=np.inf) + 2e-9 * BOUND > period
        if max(later, earlier) >= 0 and mine.any() and unknown:
            out |= mine
    return out


# ------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class Verdict:
    """How a method did on one trace or, added up, on several."""

    frames: int
    valid: int
    wrong: int  # valid, and nearer to another exposure than to its own, or with another's pulse, or a stray's
    outside: int  # valid, and the truth not within the stated interval
    resolvable: int
    refused: int  # resolvable and yet invalid
    seconds: float

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(*(a + b for a, b in zip(self._all(), other._all(), strict=True)))  # type: ignore[arg-type]

    def _all(self) -> tuple[float, ...]:
        return (self.frames, self.valid, self.wrong, self.outside, self.resolvable, self.refused, self.seconds)

    @property
    def wrong_ppm(self) -> float:
        """Wrong slots per million frames that claim to be right."""
        return 1e6 * self.wrong / max(self.valid, 1)


def judge(truth: Truth, start: Int64, bound: Int64, valid: Mask, pulse: Int64 | None, seconds: float = 0.0) -> Verdict:
    """Hold a result against the truth."""
    # The mapping of pulses to lab time is off by up to 25 us, and at 120,000/s a slot is 8 us: slots
    # are judged as that mapping sees them, intervals by the true time.
    off = np.abs(start - truth.start)
    wrong = np.abs(start - truth.mapped) > 0.4e9 * truth.interval
    if pulse is not None:
        whose = np.where(pulse >= 0, truth.owner[pulse], truth.exposure)
        # Nobody's edge may be ringing, or a stray so near that only a stamp would tell it from the pulse.
        near = (whose < 0) & (np.abs(start - truth.mapped) <= 1e9 * RING)
        wrong |= (whose != truth.exposure) & ~near
    n = start.size
    return Verdict(
        n, int(valid.sum()), int((wrong & valid).sum()), int(((off > bound) & valid).sum()),
        int(truth.resolvable.sum()), int((truth.resolvable & ~valid).sum()), seconds,
    )  # fmt: skip


def ours(given: Trace) -> tuple[Verdict, Matched]:
    """`hal.frames.match` on one trace."""
    begun = time.perf_counter()
    got = match(given.frames, given.pulses)
    took = time.perf_counter() - begun
    t = got.times
    return judge(given.truth, t.start, t.bound, t.valid, got.pulse, took), got


def usual(given: Trace) -> dict[str, Verdict]:
    """What laboratories do: count, or trust arrival."""
    import pandas as pd

    frames, pulses, n = given.frames, given.pulses, given.truth.start.size
    exposed = frames.arrival - round(float(np.asarray(frames.exposure)) * 1e9)
    when = pulses.time - round(pulses.latency * 1e9)
    every = np.ones(n, np.bool_)
    bound = np.broadcast_to(pulses.bound, when.shape)
    out = {}
    begun = time.perf_counter()
    kth = np.minimum(np.arange(n), when.size - 1)
    out["k-th is k-th"] = judge(given.truth, when[kth], bound[kth], every, kth, time.perf_counter() - begun)
    begun = time.perf_counter()
    after = np.clip(np.searchsorted(when, exposed), 1, when.size - 1)
    near = after - (exposed - when[after - 1] < when[after] - exposed)
    out["nearest to arrival"] = judge(given.truth, when[near], bound[near], every, near, time.perf_counter() - begun)
    begun = time.perf_counter()
    left = pd.DataFrame({"t": exposed})
    right = pd.DataFrame({"t": when, "j": np.arange(when.size)})
    last = pd.merge_asof(left, right, on="t")["j"].fillna(0).to_numpy(np.int64)
    out["merge_asof"] = judge(given.truth, when[last], bound[last], every, last, time.perf_counter() - begun)
    return out


def frame_table(quick: bool) -> None:
    """Print, per regime and rate, how often frames get a wrong exposure, ours and the usual ways."""
    seeds, frames = (2, 3_000) if quick else (6, 20_000)
    print(f"Frames to pulses: {seeds} seeds of some {frames:,} frames each; us/frame is ours")
    print(
        f"{'regime':24}{'frames/s':>9}{'wrong ppm':>11}{'invalid %':>11}{'inside %':>10}{'us/frame':>10}"
        f"{'k-th is k-th':>14}{'nearest arr.':>14}{'merge_asof':>12}  (wrong, %)"
    )
    for name, regime in REGIMES.items():
        for rate in RATES:
            _row(name, regime, rate, seeds, frames)


def _row(name: str, regime: Regime, rate: float, seeds: int, frames: int) -> None:
    mine: Verdict | None = None
    others: dict[str, Verdict] = {}
    for seed in range(seeds):
        given = trace(regime, rate, 1_000 * seed + int(rate), frames)
        verdict, _ = ours(given)
        mine = verdict if mine is None else mine + verdict
        for way, other in usual(given).items():
            others[way] = others[way] + other if way in others else other
    assert mine is not None
    refused = f"{100 * mine.refused / mine.resolvable:.2f}" if mine.resolvable else "-"
    inside = f"{100 * (1 - mine.outside / mine.valid):.3f}" if mine.valid else "-"
    shares = [f"{100 * v.wrong / v.frames:.1f}" for v in others.values()]
    print(
        f"{name:24}{rate:>9,}{mine.wrong_ppm:>11.1f}{refused:>11}{inside:>10}"
        f"{1e6 * mine.seconds / mine.frames:>10.2f}{shares[0]:>14}{shares[1]:>14}{shares[2]:>12}",
        flush=True,
    )


if __name__ == "__main__":
    frame_table(quick=True)
