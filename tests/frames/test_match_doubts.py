"""Where stamps, pulses and latency contradict, or leave a choice, no frame is given a time that may be wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from bench.timeworld.frame_traces import ORIGIN, REGIMES, Regime, ours, trace
from hal.frames.frame import FrameTimes, Reason
from hal.frames.match import Frames, Pulses, match

EXPOSURE = 1e-3  # s
LATENCY = 1.2e-3  # s
BOUND = 20_000  # ns


@dataclass
class Run:
    """Exposures at `start` (s), each with a pulse but for `lost`; frames come LATENCY and a little after their end."""

    start: np.ndarray
    number: np.ndarray
    period: float
    seed: int = 0

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        n = self.start.size
        arrival = np.maximum.accumulate(self.start + EXPOSURE + LATENCY + rng.gamma(1.2, 1.5e-4, n))
        self.frames = Frames(
            arrival=ORIGIN + np.rint(arrival * 1e9).astype(np.int64), exposure=EXPOSURE,
            ticks=np.rint((self.start + 77.7) * (1 + 40e-6) * 1e9).astype(np.int64), number=self.number,
            counts="series", period=self.period, ppm=120.0,
        )  # fmt: skip
        self.put_out = self.start

    def pulses(self, lost=(), more=()):
        t = np.sort(np.concatenate([np.delete(self.put_out, list(lost)), np.asarray(more, float)]))
        return Pulses(ORIGIN + np.rint(t * 1e9).astype(np.int64), BOUND, resolution=1e-8, clock="board")

    def matched(self, pulses, **known):
        return match(replace(self.frames, **known), pulses).times

    def error(self, times):
        """ns"""
        return np.abs(times.start - ORIGIN - self.start * 1e9)

    def none_is_wrong(self, times):
        return bool((self.error(times)[times.valid] <= times.bound[times.valid]).all())


def film(count, rate, begin=1.0):
    return Run(begin + np.arange(count) / rate, np.arange(count), 1 / rate)


@pytest.mark.parametrize("rate", [25, 400])
@pytest.mark.parametrize("faster", [0.5, 1.01, 1.5])
def test_a_train_that_changes_its_rate_gives_no_frame_anothers_time(rate, faster):
    n = 600
    steps = np.where(np.arange(n) < n // 2, 1.0, faster) / rate
    run = Run(1.0 + np.cumsum(steps), np.arange(n), 1 / rate)
    times = run.matched(run.pulses(lost=range(5, n, 97)), min_latency=LATENCY)
    assert run.none_is_wrong(times)


@pytest.mark.parametrize("rate", [25, 400])
@pytest.mark.parametrize("jitter", [0.02, 0.08])
def test_a_train_that_keeps_no_beat_gives_no_frame_anothers_time(rate, jitter):
    rng = np.random.default_rng(rate)
    run = Run(1.0 + (np.arange(900) + rng.normal(0, jitter, 900)) / rate, np.arange(900), 1 / rate)
    assert run.none_is_wrong(run.matched(run.pulses(lost=range(5, 900, 97))))


@pytest.mark.parametrize("rate", [25, 400])
def test_the_pulses_of_another_camera_on_the_line_are_no_frames(rate):
    run = film(700, rate)
    end = run.start[-1]
    times = run.matched(run.pulses(lost=[300], more=np.arange(0.7, end, 1 / (1.7 * rate))))
    assert run.none_is_wrong(times)


@pytest.mark.parametrize("rate", [25, 400, 4_000])
def test_series_of_a_few_frames_are_not_taken_for_each_other(rate):
    rng = np.random.default_rng(rate)
    long = rng.integers(1, 5, 60)
    begin = 1.0 + np.cumsum(rng.uniform(0.2, 1.0, 60))
    start = np.concatenate([b + np.arange(n) / rate for b, n in zip(begin, long, strict=True)])
    run = Run(start, np.concatenate([np.arange(n) for n in long]), 1 / rate)
    times = run.matched(run.pulses(lost=rng.integers(0, start.size, 4)))
    assert run.none_is_wrong(times)
    assert not (times.reason == Reason.DUPLICATE).any()
    assert times.valid.mean() > 0.4


@pytest.mark.parametrize("rate", [25, 400, 4_000])
@pytest.mark.parametrize("declared", [1.5e-3, 3e-3])
def test_a_latency_declared_too_large_moves_no_frame(rate, declared):
    run = film(500, rate)
    assert run.none_is_wrong(run.matched(run.pulses(), min_latency=declared))
    known = run.matched(run.pulses(), min_latency=declared, min_latency_sigma=1e-3)
    assert known.valid.all() or rate == 4_000
    assert run.none_is_wrong(known)


@pytest.mark.parametrize("first_missed", [False, True])
def test_of_a_run_that_was_killed_the_arming_tells_which_exposure_was_the_first(first_missed):
    run = film(800, 400)
    cut = [*([0] if first_missed else []), *range(760, 800)]  # the last pulses did not get into the file
    times = run.matched(run.pulses(lost=cut), armed=ORIGIN + round((run.start[0] - 1e-3) * 1e9))
    assert times.valid[:760].all()
    assert run.none_is_wrong(times)


@pytest.mark.parametrize("first_missed", [False, True])
@pytest.mark.parametrize("rate", [400, 4_000])
def test_what_the_arming_leaves_open_is_in_a_bound_of_a_few_periods(rate, first_missed):
    run = film(800, rate)
    cut = [*([0] if first_missed else []), *range(760, 800)]
    pulses, armed = run.pulses(lost=cut), ORIGIN + round((run.start[0] - 0.05) * 1e9)
    times = run.matched(pulses, armed=armed)
    assert (times.reason[:760] == Reason.AMBIGUOUS).all()
    assert (run.error(times)[:760] <= times.bound[:760]).all()
    assert (times.bound[:760] < 3e9 / rate + 2 * BOUND).all()
    assert np.median(run.matched(pulses).bound[:760]) > 10e9 / rate  # without it


def test_an_ambiguous_exposure_in_a_record_is_by_pulse_or_by_arrival_whichever_is_the_more_exact():
    run = film(800, 4_000)
    times = run.matched(run.pulses(lost=range(760, 800)), armed=ORIGIN + round(0.95e9))
    true = ORIGIN + np.rint(run.start * 1e9).astype(np.int64)
    for own in (200_000, 5_000_000):  # ns, of the arrivals
        told = times.or_by_arrival(FrameTimes.of(true, true + 1_000_000, own))
        assert told.valid.all()
        assert (told.bound[:760] == np.minimum(times.bound[:760], own)).all()
        assert (told.reason == times.reason).all()


@pytest.mark.parametrize("seed", [21, 55])
def test_a_series_of_unknown_length_that_looks_complete_one_exposure_late_is_not_believed(seed):
    # Its first pulse was missed and its last frame dropped, as the first frames of others were.
    regime = Regime(series=8, counted=False, counts="series", edges=True, missing=0.01, declared=None)
    for s in range(3):
        judged, _ = ours(trace(regime, 120_000, seed=1000 * seed + s, frames=2_000))
        assert judged.wrong == 0


@pytest.mark.parametrize("rate", [400, 120_000])
@pytest.mark.parametrize("name", ["a third of pulses lost", "length not told"])
def test_frames_have_their_pulses_though_much_is_missing(name, rate):
    judged, _ = ours(trace(REGIMES[name], rate, seed=4, frames=20_000 if rate > 400 else 2_000))
    assert judged.wrong == judged.outside == judged.refused == 0


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("rate", [400, 4_000])
def test_pulses_before_the_first_exposure_of_a_run_that_was_killed_move_no_frame(rate, before):
    run = film(800, rate)
    more = run.start[0] - np.arange(1, before + 1) / rate
    pulses, armed = run.pulses(lost=range(760, 800), more=more), ORIGIN + round((more.min() - 0.3 / rate) * 1e9)
    times = run.matched(pulses, armed=armed, arrival=run.frames.arrival + 5_000_000)
    assert run.none_is_wrong(times)
    assert (run.error(times)[:760] <= times.bound[:760]).all()


def test_a_whole_series_shows_for_the_one_that_was_killed_that_no_pulse_comes_before_the_first_exposure():
    start = np.concatenate([1.0 + np.arange(500) / 400, 4.0 + np.arange(500) / 400])
    run = Run(start, np.tile(np.arange(500), 2), 1 / 400)
    late = run.frames.arrival + 5_000_000
    times = run.matched(run.pulses(lost=range(960, 1000)), arrival=late, armed=ORIGIN + round(0.999e9))
    assert times.valid[:960].all()
    assert run.none_is_wrong(times)
