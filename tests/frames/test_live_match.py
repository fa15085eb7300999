"""Frames find their pulses while both still come: never another exposure's, whatever is lost, and soon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.timeworld.frame_traces import ORIGIN, REGIMES, Regime, trace
from bench.timeworld.live_frames import live
from hal.frames.frame import FrameTimes, Reason
from hal.frames.live_match import PATIENCE, LiveMatcher, Seen
from hal.frames.live_pulses import LivePulses

PERIOD = 2e-3  # s
EXPOSURE = 1_500_000  # ns
LATENCY = 3e-3  # s
TICK = 1e-8  # s, of the board's clock
BOUND = 20_000  # ns
SECOND = 1_000_000_000
TOLD = (
    "quiet", "edges dropped", "missing pulses", "stray pulses", "restarts", "many series", "corrupt stamps",
    "irregular", "everything",
)  # fmt: skip


@pytest.mark.parametrize("rate", [25, 400, 4_000])
@pytest.mark.parametrize("regime", TOLD)
def test_nearly_every_frame_has_its_own_exposure_before_the_run_ends(regime, rate):
    got = live(trace(REGIMES[regime], rate, seed=5, frames=400 if rate == 25 else 2_000))
    assert got.verdict.wrong == 0
    assert got.verdict.outside <= 1
    assert got.verdict.valid > 0.8 * got.verdict.resolvable
    assert got.delay < 1.0


@pytest.mark.parametrize("rate", [25, 400, 4_000, 120_000])
@pytest.mark.parametrize("known", [True, False])
def test_pulses_before_the_first_exposure_are_within_the_bound_or_nothing_is_told(rate, known):
    simulated = trace(Regime(series=1, extra=(4, 25), missing=0.002, stalls=0.0), rate, seed=9, frames=400)
    if not known:
        simulated = replace(simulated, frames=replace(simulated.frames, min_latency=None))
    got = live(simulated)
    assert got.verdict.wrong == 0
    assert got.verdict.outside == 0


def test_a_burst_of_first_pulses_missed_is_within_the_bound_if_frames_seem_to_come_too_soon():
    got = live(trace(REGIMES["missing pulses"], 120_000, seed=122_000, frames=20_000))
    assert got.verdict.outside == 0


class Bench:
    """A detector of 500 frames/s and a board that stamps its pulses; both clocks are off."""

    def __init__(self, count=1500, *, lost=(), dropped=(), stray=(), series=1, pause=0.5, latency=LATENCY, **known):
        k = np.arange(count)
        each = -(-count // series)
        self.series, self.index = k // each, k % each
        self.start = 5.0 + PERIOD * k + pause * self.series
        self.which = np.delete(k, list(dropped))
        pulses = np.sort(np.concatenate([np.delete(self.start, list(lost)), np.asarray(list(stray), float)]))
        self.pulse_ticks = np.floor(pulses * (1 + 17e-6) / TICK).astype(np.int64)
        self.pulse_time = ORIGIN + np.rint(pulses * 1e9).astype(np.int64)
        ticks = np.rint((self.start[self.which] + 77.7) * (1 - 23e-6) * 1e9).astype(np.int64)
        arrival = ORIGIN + np.rint((self.start[self.which] + latency) * 1e9).astype(np.int64) + EXPOSURE
        n = self.which.size
        self.seen = Seen(
            self.series[self.which], self.index[self.which], np.zeros(n, np.uint8), ticks, arrival,
            np.full(n, EXPOSURE),
        )  # fmt: skip
        self.matcher = LiveMatcher(frequency=1e9, ppm=50.0, pulses=LivePulses(1 / TICK), clock="board", **known)
        self.matcher.begin(ORIGIN)
        self.fed = self.came = 0

    def go(self, until, *, pulses_to=None, step=0.2):
        """Let time pass (s); pulses stay away from `pulses_to` (s) on. Returns what was told, and when."""
        told, when = [], []
        for now in ORIGIN + np.rint(np.arange(step, until + step, step) * 1e9).astype(np.int64):
            if now <= getattr(self, "now", 0):
                continue
            self.now = int(now)
            here = int(np.searchsorted(self.pulse_time, now - SECOND // 50))
            if pulses_to is not None:
                here = min(here, int(np.searchsorted(self.pulse_time, ORIGIN + round(pulses_to * 1e9))))
            if here > self.fed:
                part = slice(self.fed, here)
                n = here - self.fed
                self.matcher.pulses.add(
                    self.pulse_ticks[part], self.pulse_time[part], np.full(n, BOUND), np.full(n, BOUND / 2)
                )
                self.fed = here
            here = int(np.searchsorted(self.seen.arrival, now))
            self.matcher.add(self.seen[self.came : here])
            self.came = here
            told.append(self.matcher.settle(self.now))
            when += [self.now] * len(told[-1])
        return FrameTimes.concatenate(told), np.array(when)

    def off(self, times, first=0):
        """s by which they are off the truth."""
        return np.abs((times.start - ORIGIN) * 1e-9 - self.start[self.which[first : first + len(times)]])


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_pattern_of_losses_and_any_rhythm_leaves_no_frame_with_a_wrong_time(data):
    some = st.sets(st.integers(1, 398), max_size=25)
    stray = data.draw(st.lists(st.floats(5.0, 5.8), max_size=8))
    lost = data.draw(some)
    bench = Bench(400, lost=lost, dropped=data.draw(some), stray=stray)
    times, _ = bench.go(7.5, step=data.draw(st.sampled_from([0.05, 0.2, 0.9])))
    assert len(times) == len(bench.seen)
    good = times.valid
    assert (bench.off(times)[good] <= times.bound[good] * 1e-9 + 1e-9).all()
    if len(lost & set(range(1, 7))) <= 2:  # of more, a train's first pulse is not known before the run ends
        assert good.mean() > 0.7


def test_a_frame_has_its_time_within_a_second_and_says_by_whose_clock():
    bench = Bench()
    times, when = bench.go(10.0)
    assert times.valid.all()
    assert times.clock == "board"
    assert (when - bench.seen.arrival).max() < SECOND
    assert np.median(times.bound) < 3 * SECOND * LATENCY


def test_what_the_first_pulse_can_not_tell_is_in_the_bound():
    bench = Bench()  # 3 ms on the way: all may have been exposed one period later
    times, _ = bench.go(10.0)
    assert (times.reason == Reason.AMBIGUOUS).all()
    assert (times.bound >= PERIOD * 1e9).all()


@pytest.mark.parametrize("latency", [0.5e-3, 1.5e-3, 7e-3])
@pytest.mark.parametrize("lost", [(0,), (0, 300, 301, 302)])
def test_a_first_pulse_that_was_missed_is_within_the_bound(latency, lost):
    bench = Bench(lost=lost, latency=latency)
    times, _ = bench.go(10.0)
    told = times.valid
    assert (bench.off(times)[told] <= times.bound[told] * 1e-9).all()
    assert told.mean() > 0.9 or latency < PERIOD  # where frames seem to come before they were exposed, none is told


@pytest.mark.parametrize("lost", [(), (0,)])
def test_a_camera_told_to_film_less_than_a_period_ago_had_no_exposure_before(lost):
    bench = Bench(lost=lost, latency=0.5e-3)
    bench.matcher.begin(ORIGIN + 5 * SECOND - 1_000_000)
    times, _ = bench.go(10.0)
    if lost:
        assert not times.valid.any()
    else:
        assert (times.reason == Reason.OK).all()
        assert (bench.off(times) <= times.bound * 1e-9).all()


@pytest.mark.parametrize("declared", [2.2e-3, 3e-3, 3.8e-3])
@pytest.mark.parametrize("lost", [(), (0,)])
def test_a_latency_known_to_some_of_it_leaves_the_truth_within_the_bound(declared, lost):
    bench = Bench(lost=lost, min_latency=declared, min_latency_sigma=0.3e-3)
    times, _ = bench.go(10.0)
    told = times.valid
    assert told.mean() > 0.9 or lost
    assert (bench.off(times)[told] <= times.bound[told] * 1e-9).all()


def test_pulses_that_came_before_it_was_told_to_film_are_not_taken_for_its_own():
    bench = Bench()
    bench.matcher.begin(ORIGIN + 6 * SECOND)
    times, _ = bench.go(10.0)
    assert not times.valid.any()
    assert "beginning" in bench.matcher.why


def test_with_the_cable_out_frames_are_left_and_with_it_in_again_they_are_told_as_before():
    bench = Bench(2500)
    first, _ = bench.go(7.0, pulses_to=6.0)
    bench.fed = int(np.searchsorted(bench.pulse_time, ORIGIN + 7 * SECOND))  # what was put out meanwhile is lost
    rest, _ = bench.go(12.0)
    assert first.valid[:450].all()
    seventh = int(np.searchsorted(bench.seen.arrival, ORIGIN + 7 * SECOND))
    cut = len(first)
    assert not rest.valid[: max(seventh - cut - 10, 0)].any()
    assert rest.valid[seventh - cut + 10 :].all()
    assert (bench.off(rest, cut)[rest.valid] <= rest.bound[rest.valid] * 1e-9 + 1e-9).all()


def test_after_the_board_began_anew_the_next_series_is_matched_again():
    bench = Bench(3000, series=2, pause=1.0)
    bench.go(6.0)
    bench.matcher.restart()
    bench.pulse_ticks = bench.pulse_ticks - bench.pulse_ticks[bench.fed]
    told, _ = bench.go(14.0)
    second = bench.series[bench.which[len(bench.which) - len(told) :]] == 1
    assert not told.valid[~second].any()
    assert told.valid[second].all()


def test_without_pulses_no_frame_waits_longer_than_it_must_and_the_cable_is_asked_for():
    bench = Bench()
    times, when = bench.go(10.0, pulses_to=0.0)
    assert not times.valid.any()
    assert (when - bench.seen.arrival).max() < (PATIENCE + 0.25) * SECOND
    assert "cable" in bench.matcher.why


def test_hours_of_filming_take_no_more_memory_than_seconds():
    bench = Bench(12_000)
    bench.go(32.0)
    assert bench.matcher.waiting == 0
    assert bench.matcher.pulses.t.size < 20 / PERIOD
