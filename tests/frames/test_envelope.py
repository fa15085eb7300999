"""The lower envelope of arrivals as a clock."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hal.clock.envelope import EnvelopeClock
from hal.errors import ClockError

Int64 = NDArray[np.int64]
ORIGIN = 1_790_000_000_000_000_000
LATENCY = 2e-4


def stream(
    seed: int,
    *,
    lasts: float = 60.0,
    rate: float = 1000.0,
    ppm: float = 37.0,
    offset: int = -(10**15),
    bursts: int = 4,
) -> tuple[Int64, Int64, Int64]:
    """True times, ticks and arrivals of frames over TCP: ns."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(lasts * rate)) / rate
    t = t[rng.random(t.size) > 0.01]
    arrival = t + LATENCY + rng.gamma(1.5, 1e-4, t.size)
    for begin in rng.uniform(2.0, max(lasts - 3.0, 2.1), bursts):
        end = begin + rng.uniform(0.2, 2.0)
        held = (arrival > begin) & (arrival < end)
        arrival[held] = end + rng.random(int(held.sum())) * 1e-3
    true = np.rint(t * 1e9).astype(np.int64)
    ticks = np.rint(t * 1e9 * (1 + ppm * 1e-6)).astype(np.int64) + ORIGIN + offset
    return ORIGIN + true, ticks, ORIGIN + np.rint(np.maximum.accumulate(arrival) * 1e9).astype(np.int64)


@pytest.mark.parametrize("ppm", [-50.0, -3.0, 0.0, 12.0, 50.0])
def test_frame_times_are_known_to_a_microsecond_though_frames_arrive_seconds_late(ppm: float) -> None:
    true, ticks, arrivals = stream(1, ppm=ppm)
    clock = EnvelopeClock.fit(ticks, arrivals, latency=LATENCY)
    got = clock.to_lab(ticks, arrivals)
    assert got.valid.all()
    assert (got.epoch == 0).all()
    assert np.abs(got.time - true).max() < 2000
    assert (np.abs(got.time - true) <= got.bound).all()
    assert clock.epochs[0].rate_ppm == pytest.approx(-ppm, abs=0.1)


def test_the_bound_and_sigma_hold_the_uncertainty_of_the_latency() -> None:
    true, ticks, arrivals = stream(2)
    got = EnvelopeClock.fit(ticks, arrivals, latency=LATENCY + 5e-5, latency_sigma=3e-5).to_lab(ticks, arrivals)
    assert (np.abs(got.time - true) <= got.bound).all()
    assert (got.sigma >= 3e4).all()
    assert (got.sigma < 3.2e4).all()


def test_online_the_bound_holds_from_the_first_frame_on() -> None:
    true, ticks, arrivals = stream(3, lasts=20.0)
    clock = EnvelopeClock(latency=LATENCY)
    for i in range(0, ticks.size, 37):
        part = slice(i, i + 37)
        clock.add(ticks[part], arrivals[part])
        got = clock.to_lab(ticks[part], arrivals[part])
        assert got.valid.all()
        assert (np.abs(got.time - true[part]) <= got.bound).all()
    assert int(got.bound.max()) < 50_000


def test_a_start_within_a_burst_claims_no_certainty_before_a_prompt_frame_has_come() -> None:
    true, ticks, arrivals = stream(4, lasts=4.0, bursts=0)
    arrivals = np.maximum(arrivals, arrivals[0] + 1_500_000_000)
    clock = EnvelopeClock(latency=LATENCY)
    for i in range(0, ticks.size, 50):
        clock.add(ticks[i : i + 50], arrivals[i : i + 50])
        got = clock.to_lab(ticks[i : i + 50], arrivals[i : i + 50])
        assert (np.abs(got.time - true[i : i + 50]) <= got.bound).all()
    assert len(clock.epochs) == 1
    final = clock.to_lab(ticks, arrivals)
    assert final.valid.all()
    assert np.abs(final.time - true).max() < 100_000


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9000), max_size=8), st.integers(-(10**17), 10**17))
def test_neither_chunks_nor_the_size_of_the_numbers_change_the_result(seed: int, cuts: list[int], shift: int) -> None:
    _, ticks, arrivals = stream(seed, lasts=8.0, bursts=1)
    whole = EnvelopeClock.fit(ticks, arrivals).to_lab(ticks, arrivals)
    clock = EnvelopeClock()
    edges = [0, *sorted(cuts), ticks.size]
    for begin, end in itertools.pairwise(edges):
        clock.add(ticks[begin:end] + shift, arrivals[begin:end])
    again = clock.to_lab(ticks + shift, arrivals)
    assert np.array_equal(whole.time, again.time)
    assert np.array_equal(whole.bound, again.bound)


@pytest.mark.parametrize("jump", [-(10**15), -40_000_000, 3_600_000_000_000, 500_000_000])
def test_a_clock_that_was_reset_starts_an_epoch_and_every_frame_keeps_its_time(jump: int) -> None:
    true, ticks, arrivals = stream(5, bursts=0)
    ticks = ticks.copy()
    ticks[30_000:] += jump
    clock = EnvelopeClock(latency=LATENCY)
    for i in range(0, ticks.size, 1000):
        clock.add(ticks[i : i + 1000], arrivals[i : i + 1000])
    got = clock.to_lab(ticks, arrivals)
    assert len(clock.epochs) == 2
    assert got.valid.all()
    assert np.array_equal(got.epoch, (np.arange(ticks.size) >= 30_000).astype(np.int32))
    assert np.abs(got.time - true).max() < 5000


@pytest.mark.parametrize("flip", [1 << 26, 1 << 30, 1 << 40, -(1 << 40)])
@pytest.mark.parametrize("where", [40, 30_000])
def test_a_lone_corrupted_timestamp_moves_no_other_frame(flip: int, where: int) -> None:
    true, ticks, arrivals = stream(6)
    ticks = ticks.copy()
    ticks[where] += flip
    clock = EnvelopeClock.fit(ticks, arrivals, latency=LATENCY)
    got = clock.to_lab(ticks, arrivals)
    others = np.arange(ticks.size) != where
    assert len(clock.epochs) == 1
    assert got.valid[others].all()
    assert np.abs(got.time - true)[others].max() < 3000
    assert not got.valid[where]


def test_a_restart_announced_by_the_driver_starts_an_epoch() -> None:
    true, ticks, arrivals = stream(7, lasts=10.0, bursts=0)
    clock = EnvelopeClock(latency=LATENCY)
    clock.add(ticks[:5000], arrivals[:5000])
    clock.restart()
    clock.add(ticks[5000:] + 700, arrivals[5000:])
    assert len(clock.epochs) == 2
    assert np.abs(clock.to_lab(ticks[5000:] + 700, arrivals[5000:]).time - true[5000:]).max() < 5000


def test_a_clock_that_has_seen_nothing_refuses() -> None:
    with pytest.raises(ClockError, match="no arrival seen yet"):
        EnvelopeClock().to_lab(np.array([1]))


def test_few_frames_are_mapped_with_a_bound_of_the_largest_lateness() -> None:
    true, ticks, arrivals = stream(8, lasts=0.005)
    late = arrivals + 1_000_000_000
    got = EnvelopeClock.fit(ticks, late).to_lab(ticks, late)
    assert got.valid.all()
    assert (np.abs(got.time - true) <= got.bound).all()
    assert (got.sigma > 1e8).all()


def test_a_wandering_crystal_stays_within_the_bound_for_ten_minutes() -> None:
    rng = np.random.default_rng(9)
    t = np.arange(0.0, 600.0, 0.01)
    drift = (
        40e-6 * t + 1.0e-6 * 60 / (2 * np.pi) * (1 - np.cos(2 * np.pi * t / 600.0)) * 4
    )  # rate +-0.04 ppm .. few ppm
    ticks = np.rint((t + drift) * 1e9).astype(np.int64)
    arrivals = ORIGIN + np.rint((t + LATENCY + rng.exponential(1e-4, t.size)) * 1e9).astype(np.int64)
    got = EnvelopeClock.fit(ticks, arrivals, latency=LATENCY).to_lab(ticks, arrivals)
    assert (np.abs(got.time - ORIGIN - np.rint(t * 1e9).astype(np.int64)) <= got.bound).all()


def test_memory_stays_bounded_and_old_ticks_stay_known() -> None:
    true, ticks, arrivals = stream(10, lasts=200.0, rate=100.0)
    clock = EnvelopeClock(latency=LATENCY, memory=1024)
    for i in range(0, ticks.size, 500):
        clock.add(ticks[i : i + 500], arrivals[i : i + 500])
    got = clock.to_lab(ticks, arrivals)
    assert got.valid.all()
    assert np.abs(got.time - true).max() < 100_000
    assert (np.abs(got.time - true) <= got.bound).all()


def test_one_way_the_tight_bound_is_the_bound() -> None:
    _, ticks, arrivals = stream(11, lasts=5.0)
    got = EnvelopeClock.fit(ticks, arrivals, latency=LATENCY).to_lab(ticks, arrivals)
    assert np.array_equal(got.tight, got.bound)


def test_health_says_why_a_clock_cannot_be_used_yet_and_ages_without_frames() -> None:
    _, ticks, arrivals = stream(12, lasts=20.0, ppm=12.0, bursts=0)
    clock = EnvelopeClock(latency=LATENCY, name="merlin")
    nothing = clock.health(ORIGIN)
    assert not nothing.usable
    assert nothing.reason.startswith("merlin: no frame has arrived yet")
    clock.add(ticks[:5], arrivals[:5])
    few = clock.health(int(arrivals[4]))
    assert not few.usable
    assert "too few prompt frames" in few.reason
    assert few.bound > 1_000_000_000
    clock.add(ticks[5:], arrivals[5:])
    fresh, stale = clock.health(int(arrivals[-1])), clock.health(int(arrivals[-1]) + 3_600_000_000_000)
    assert fresh.usable
    assert fresh.rate_ppm == pytest.approx(-12.0, abs=0.3)
    assert fresh.bound < 100_000
    assert fresh.residual < 300_000
    assert stale.age == pytest.approx(3600.0)
    assert stale.bound > 100 * fresh.bound
    assert stale.sigma > fresh.sigma
