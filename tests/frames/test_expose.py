"""From timestamps to exposures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hal.clock.envelope import EnvelopeClock
from hal.frames.expose import expose
from hal.frames.frame import Reason
from hal.frames.numbering import Numbering

ORIGIN = 1_790_000_000_000_000_000
PERIOD = 1_000_000


def sent(n: int = 3000) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Numbers, ticks and arrivals of a regular train with drops."""
    rng = np.random.default_rng(3)
    shot = np.flatnonzero(rng.random(n) > 0.02)
    ticks = 777 + shot * PERIOD
    arrivals = ORIGIN + shot * PERIOD + 200_000 + rng.exponential(5e4, shot.size).astype(np.int64)
    return shot, ticks, arrivals


def test_start_and_stop_follow_from_the_stamp_and_the_exposure() -> None:
    shot, ticks, arrivals = sent()
    clock = EnvelopeClock.fit(ticks, arrivals, latency=2e-4)
    numbered = Numbering(period=PERIOD).add(shot, ticks)
    begun = expose(clock, numbered, ticks, arrivals, 5e-4)
    ended = expose(clock, numbered, ticks, arrivals, 5e-4, stamp="stop")
    assert begun.valid.all()
    assert np.abs(begun.start - ORIGIN - shot * PERIOD).max() < 20_000
    assert (begun.stop - begun.start == 500_000).all()
    assert np.array_equal(ended.stop, begun.start)


def test_a_lone_corrupted_timestamp_is_replaced_from_its_neighbours_by_number() -> None:
    shot, ticks, arrivals = sent()
    for wrong in (-(1 << 28), 1 << 33, 1 << 50, 6_000_000):
        bad = ticks.copy()
        bad[1500] += wrong
        clock = EnvelopeClock.fit(bad, arrivals, latency=2e-4)
        times = expose(clock, Numbering(period=PERIOD).add(shot, ticks), bad, arrivals, 5e-4)
        assert times.valid.all()
        assert np.abs(times.start - ORIGIN - shot * PERIOD).max() < 20_000


def test_of_an_irregular_train_a_tick_that_runs_backward_is_invalid() -> None:
    rng = np.random.default_rng(4)
    ticks = np.cumsum(rng.integers(1_000_000, 90_000_000, 400))
    arrivals = ORIGIN + ticks + 200_000 + rng.exponential(5e4, ticks.size).astype(np.int64)
    bad = ticks.copy()
    bad[200] -= 400_000_000
    clock = EnvelopeClock.fit(bad, arrivals, latency=2e-4)
    numbered = Numbering().add(np.arange(400))
    times = expose(clock, numbered, bad, arrivals, 1e-4)
    assert times.reason[200] == Reason.BAD_TICK
    assert times.valid.sum() == 399


def test_a_clock_that_has_seen_nothing_gives_invalid_frames() -> None:
    shot, ticks, arrivals = sent(10)
    times = expose(EnvelopeClock(), Numbering().add(shot, ticks), ticks, arrivals, 1e-4)
    assert not times.valid.any()
    assert (times.reason == Reason.NO_CLOCK).all()
