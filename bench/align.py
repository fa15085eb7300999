"""Values onto frames: 10^6 frames x 32 channels on one core, beside pandas, polars and numpy's own interpolation.

Ours gives linear values with their uncertainty and validity; the others give the nearest value (`merge_asof`,
`join_asof`) or the linear one (`np.interp`), and say nothing of how sure they are. One base: all channels read at
the same times. Own bases: each has times of its own. Joined one by one, a channel is a table of its own, as our
channels are; on one base they may also be put into one table beforehand, which is joined once. All keep what they
found for all channels. Times are seconds of processor time, so that other programs disturb less; contestants take
turns, each twice in a row, since the first time it finds the memory as the one before it left it (after pandas in small
pages, at half the speed); the best counts.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ[variable] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from hal.frames.align import align
from hal.frames.channel import Channel
from hal.frames.frame import FrameTimes
from hal.frames.live import LiveAligner, LiveChannel

ORIGIN = 1_790_000_000_000_000_000
FPS = 4000.0
CHANNELS = 32


def film(frames: int) -> FrameTimes:
    """Frames at 4,000/s, each known to 10 us."""
    start = ORIGIN + np.rint((1.0 + np.arange(frames) / FPS) * 1e9).astype(np.int64)
    return FrameTimes.of(start, start + 200_000, 10_000)


def channels(frames: int, rate: float, *, shared: bool, count: int = CHANNELS) -> dict[str, Channel]:
    """Readings at `rate`/s over the film, jittered by a tenth of their interval."""
    rng = np.random.default_rng(0)
    n = int((frames / FPS + 2.0) * rate)
    out = {}
    when = np.zeros(n, np.int64)
    for i in range(count):
        if i == 0 or not shared:
            at = np.sort(np.arange(n) / rate + 0.1 / rate * rng.random(n))
            when = ORIGIN + np.rint(at * 1e9).astype(np.int64)
        value = np.sin((when - ORIGIN) * 1e-9 * (1 + i)) + rng.normal(0.0, 0.01, n)
        out[f"c{i}"] = Channel(when, value, time_bound=1_000_000, sigma=0.01)
    return out


def by_pandas(frames: FrameTimes, given: dict[str, Channel]) -> Any:
    left = pd.DataFrame({"t": frames.middle})
    right = (pd.DataFrame({"t": c.time, "v": c.value}) for c in given.values())
    return [pd.merge_asof(left, r, on="t", direction="nearest")["v"] for r in right]


def by_pandas_at_once(frames: FrameTimes, given: dict[str, Channel]) -> Any:
    left = pd.DataFrame({"t": frames.middle})
    right = pd.DataFrame({"t": next(iter(given.values())).time} | {k: c.value for k, c in given.items()})
    return pd.merge_asof(left, right, on="t", direction="nearest")


def by_polars(frames: FrameTimes, given: dict[str, Channel]) -> Any:
    left = pl.DataFrame({"t": frames.middle}).set_sorted("t")
    right = (pl.DataFrame({"t": c.time, "v": c.value}).set_sorted("t") for c in given.values())
    return [left.join_asof(r, on="t", strategy="nearest")["v"] for r in right]


def by_polars_at_once(frames: FrameTimes, given: dict[str, Channel]) -> Any:
    left = pl.DataFrame({"t": frames.middle}).set_sorted("t")
    right = pl.DataFrame({"t": next(iter(given.values())).time} | {k: c.value for k, c in given.items()})
    return left.join_asof(right.set_sorted("t"), on="t", strategy="nearest")


def by_interp(frames: FrameTimes, given: dict[str, Channel]) -> Any:
    middle = (frames.middle - ORIGIN).astype(np.float64)
    return [np.interp(middle, (c.time - ORIGIN).astype(np.float64), c.value) for c in given.values()]


def ours(frames: FrameTimes, given: dict[str, Channel]) -> Any:
    return align(frames, given)


def our_values(frames: FrameTimes, given: dict[str, Channel]) -> Any:
    return align(frames, given, uncertainty=False)


WAYS: dict[str, Callable[[FrameTimes, dict[str, Channel]], Any]] = {
    "ours: value, sigma, validity": ours,
    "ours: value, validity": our_values,
    "pandas merge_asof, one by one": by_pandas,
    "polars join_asof, one by one": by_polars,
    "np.interp, one by one": by_interp,
}
AT_ONCE = {"pandas merge_asof, one table": by_pandas_at_once, "polars join_asof, one table": by_polars_at_once}


def turns(frames: FrameTimes, given: dict[str, Channel], shared: bool, rounds: int) -> dict[str, float]:
    """Best time of each way, s."""
    ways = WAYS | (AT_ONCE if shared else {})
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in (turn for turn in ways.items() for _ in range(2)):
            begun = time.process_time()
            kept = way(frames, given)
            best[name] = min(best[name], time.process_time() - begun)
            del kept
    return best


def live(seconds: float = 20.0) -> float:
    """Share of a core for 4,000 frames/s x 32 channels at 10 readings/s each, settled five times a second."""
    given = channels(int(seconds * FPS), 10.0, shared=False)
    aligner = LiveAligner({name: LiveChannel(kind="linear", max_gap_s=5.0) for name in given})
    frames = film(int(seconds * FPS))
    step = int(FPS / 5)
    fed = dict.fromkeys(given, 0)
    begun = time.process_time()
    rows = 0
    for first in range(0, len(frames), step):
        part = frames[first : first + step]
        now = int(part.stop[-1])
        for name, channel in given.items():
            while fed[name] < channel.time.size and channel.time[fed[name]] <= now:
                i = fed[name]
                aligner.feed(name, int(channel.time[i]), float(channel.value[i]), 1_000_000, 0.01, True)
                fed[name] += 1
        aligner.add(part)
        rows += len(aligner.settle(now))
    assert rows > 0.9 * len(frames)
    return (time.process_time() - begun) / seconds


def main() -> None:
    """Print the tables and how they stand to the goals."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--frames", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=3)
    told = options.parse_args()
    for rate, shared in ((100.0, True), (1000.0, True), (100.0, False), (10.0, False)):
        frames = film(told.frames)
        best = turns(frames, channels(told.frames, rate, shared=shared), shared, told.rounds)
        base = "one base" if shared else "own bases"
        print(f"\n{told.frames:,} frames x {CHANNELS} channels at {rate:g}/s, {base}")
        for name, took in best.items():
            print(f"  {name:32}{took * 1e3:9.0f} ms   {took / (told.frames * CHANNELS) * 1e9:6.1f} ns per cell")
        full, values, panda, polar, *_ = best.values()
        print(f"  pandas one by one takes {panda / full:.1f} times as long as ours with sigma (goal 3), ", end="")
        print(f"{panda / values:.1f} times as long as values only" + (" (goal 10)" if shared else ""))
        print(f"  ours with sigma takes {full / polar:.2f} of polars' time (goal 2 at most)")
    print("\nCost of ours with sigma by number of frames, one base at 100/s:")
    for count in (told.frames // 10, told.frames // 3, told.frames):
        frames, given = film(count), channels(count, 100.0, shared=True)
        took = min(_timed(frames, given) for _ in range(told.rounds))
        print(f"  {count:>10,} frames {took / (count * CHANNELS) * 1e9:6.1f} ns per cell")
    print(f"\nLive, 4,000 frames/s x {CHANNELS} channels at 10/s: {live():.1%} of a core (goal 10 % at most)")


def _timed(frames: FrameTimes, given: dict[str, Channel]) -> float:
    begun = time.process_time()
    align(frames, given)
    return time.process_time() - begun


if __name__ == "__main__":
    main()
