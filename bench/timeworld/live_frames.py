"""Simulated frames and pulses fed as they would come, to `hal.frames.live_match`: how soon, how many, how right.

Frames come when they arrive, pulses in blocks some hundredths of a second after they were stamped, and a decision is
asked for every 0.2 s. Judged as the offline matcher is; `told` are the frames that got a time while the rest came.

    python -m bench.timeworld.live_frames [regime ...]
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from bench.timeworld.frame_traces import BOUND, ORIGIN, RATES, REGIMES, Regime, Trace, Verdict, judge, trace
from hal.frames.frame import FrameTimes, Reason
from hal.frames.live_match import MOST, LiveMatcher, Seen
from hal.frames.live_pulses import LivePulses
from hal.frames.numbering import Numbered, Numbering

STEP = 0.2
PULSES_LATE = 0.05
"""s: pulses are sent on in blocks."""


@dataclass(frozen=True)
class Live:
    """What came of one trace."""

    verdict: Verdict
    sure: float
    """Share of the frames that have a time, and can't be of another exposure."""
    delay: float
    """s from a frame's arrival to its time: 99th percentile."""
    longest: float
    """s of processor, the longest step."""
    share: float
    """Of the time that frames took to come, that was spent on them."""
    why: str


def numbered(given: Trace) -> Numbered:
    """As a camera numbers them, which announces no series."""
    frames = given.frames
    assert frames.number is not None
    fine = frames.period is not None and frames.resolution < 0.1 * frames.period
    period = frames.period * frames.frequency if frames.regular and frames.period and fine else None
    numbering = Numbering(first=0, period=period)
    return Numbered.concatenate([numbering.add(frames.number, frames.ticks), numbering.flush()])


def live(given: Trace) -> Live:
    """Feed a trace in steps."""
    frames, pulses, names = given.frames, given.pulses, numbered(given)
    assert frames.ticks is not None
    assert pulses.ticks is not None
    buffer = LivePulses(1.0 / pulses.resolution)
    matcher = LiveMatcher(
        frequency=frames.frequency, ppm=frames.ppm, pulses=buffer, latency=pulses.latency,
        min_latency=frames.min_latency or 0.0, clock="board",
    )  # fmt: skip
    matcher.begin(ORIGIN)
    exposure = np.full(len(frames), round(float(np.asarray(frames.exposure)) * 1e9))
    seen = Seen(names.series.astype(np.int64), names.index, names.reason, frames.ticks, frames.arrival, exposure)
    come = np.ceil((pulses.time - ORIGIN) / (PULSES_LATE * 1e9)).astype(np.int64) * round(PULSES_LATE * 1e9) + ORIGIN
    bound = np.full(len(pulses), BOUND)
    out, delays, spent, why = [], [], [], ""
    last = int(max(frames.arrival[-1], come[-1]))
    done = p = f = 0
    now = ORIGIN
    while now < last:
        now += round(STEP * 1e9)
        p1, f1 = (int(np.searchsorted(x, now, side="right")) for x in (come, frames.arrival))
        begun = time.thread_time()
        buffer.add(pulses.ticks[p:p1], pulses.time[p:p1], bound[p:p1], np.full(p1 - p, 0.5 * BOUND))
        matcher.add(seen[f:f1])
        over = now >= last
        while True:
            told = matcher.settle(now, over=over)
            spent.append(time.thread_time() - begun)
            delays.append(now - frames.arrival[done : done + len(told)][told.valid])
            done += len(told)
            out.append(told)
            if len(told) < MOST:
                break
            begun = time.thread_time()
        p, f, why = p1, f1, matcher.why or why
    times = FrameTimes.concatenate(out)
    sure = times.valid & (times.reason == Reason.OK)
    verdict = judge(given.truth, times.start, times.bound, times.valid, None, sum(spent))
    wrong = judge(given.truth, times.start, times.bound, sure, None).wrong
    verdict = replace(verdict, wrong=wrong)
    delay = np.concatenate(delays) * 1e-9 if delays else np.zeros(0)
    long = (last - ORIGIN) * 1e-9
    return Live(
        verdict,
        float(sure.mean()),
        float(np.quantile(delay, 0.99)) if delay.size else np.nan,
        max(spent),
        sum(spent) / long,
        why,
    )


def row(name: str, regime: Regime, rate: float, seeds: int, frames: int) -> None:
    """Print what came of one regime."""
    each = [live(trace(regime, rate, 1_000 * seed + int(rate), frames)) for seed in range(seeds)]
    total = each[0].verdict
    for one in each[1:]:
        total = total + one.verdict
    inside = f"{100 * (1 - total.outside / total.valid):.3f}" if total.valid else "-"
    told, sure = 100 * total.valid / total.frames, 100 * float(np.mean([e.sure for e in each]))
    delay, longest, share = (max(getattr(e, name) for e in each) for name in ("delay", "longest", "share"))
    print(
        f"{name:24}{rate:>9,}{total.wrong_ppm:>11.1f}{told:>9.1f}{sure:>9.1f}{inside:>10}{delay:>9.2f}"
        f"{1e3 * longest:>9.1f}{100 * share:>8.2f}  {' | '.join(sorted({e.why for e in each} - {''}))}",
        flush=True,
    )


def main() -> None:
    names = sys.argv[1:] or [n for n, r in REGIMES.items() if r.stamps and r.counts != "deliveries"]
    print("Frames onto pulses while both come in; told: have a time, sure: and could be no other exposure")
    print(f"{'regime':24}{'frames/s':>9}{'wrong ppm':>11}{'told %':>9}{'sure %':>9}{'inside %':>10}", end="")
    print(f"{'p99 s':>9}{'step ms':>9}{'core %':>8}  left to the end because")
    for name in names:
        for rate in RATES:
            row(name, REGIMES[name], rate, 3, 20_000 if rate > 100 else 3_000)


if __name__ == "__main__":
    main()
