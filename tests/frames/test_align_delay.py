"""Values that lag the specimen: by a fixed time, or by what flows through a line; and clocks in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from hal.frames.align import Channel, align
from hal.frames.frame import FrameTimes, Reason
from hal.frames.transit import transit

ORIGIN = 1_790_000_000_000_000_000


def at(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    since: NDArray[np.int64] = np.rint(seconds * 1e9).astype(np.int64)
    return since + ORIGIN


T = np.arange(0.0, 100.0, 0.1)
FLOW = Channel(at(T), np.where(T < 50.0, 2.0, 4.0), kind="linear")


def test_at_a_steady_flow_the_delay_is_volume_over_flow() -> None:
    delay, sigma = transit(at(np.array([30.0, 90.0])), FLOW, 8.0, 0.4)
    assert delay == pytest.approx([4.0, 2.0])
    assert sigma == pytest.approx([0.2, 0.1])


def test_gas_upstream_of_the_specimen_arrives_later() -> None:
    assert transit(at(np.array([30.0])), FLOW, -8.0)[0] == pytest.approx([-4.0])


def test_without_a_known_flow_all_the_way_there_is_no_delay() -> None:
    broken = replace(FLOW, good=(T < 70.0) | (T > 71.0))
    delay, _ = transit(at(np.array([3.0, 72.0, 90.0, 100.5])), broken, 8.0)
    assert np.isnan(delay).tolist() == [True, True, False, True]


def test_gas_that_stands_still_waits_and_flowing_back_is_refused() -> None:
    halted = replace(FLOW, value=np.where((T > 40.0) & (T < 60.0), 0.0, 2.0))
    assert transit(at(np.array([62.0])), halted, 8.0)[0] == pytest.approx([24.0], abs=0.25)
    with pytest.raises(ValueError, match="negative"):
        transit(at(T), replace(FLOW, value=-FLOW.value), 8.0)


def test_a_pulse_of_gas_seen_behind_a_line_lands_on_the_frames_it_left_whatever_the_flow_did_since() -> None:
    def pressure(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-(((t - 47.0) / 3.0) ** 2))

    left = np.arange(10.0, 90.0, 0.1)
    passed = np.concatenate([[0.0], np.cumsum(np.diff(np.linspace(0.0, 100.0, 100_001)) * 2.0)])
    passed = np.where(
        np.linspace(0.0, 100.0, 100_001) > 50.0, 100.0 + (np.linspace(0.0, 100.0, 100_001) - 50.0) * 4.0, passed
    )
    seen = np.interp(
        np.interp(left, np.linspace(0.0, 100.0, 100_001), passed) + 8.0, passed, np.linspace(0.0, 100.0, 100_001)
    )
    delay, sigma = transit(at(seen), FLOW, 8.0, 0.1)
    sensor = Channel(at(seen), pressure(left), sigma=0.001, delay_s=delay, delay_sigma_s=sigma)
    middle = at(np.arange(40.0, 56.0, 0.01))
    got = align(FrameTimes.of(middle, middle), {"p": sensor})["p"]
    truth = pressure(np.arange(40.0, 56.0, 0.01))
    assert got.valid.all()
    assert np.abs(got.value - truth).max() < 0.02
    naive = align(FrameTimes.of(middle, middle), {"p": replace(sensor, delay_s=0.0)})["p"]
    assert np.abs(naive.value - truth).max() > 0.5


def test_a_reading_whose_delay_is_unknown_is_bad() -> None:
    sensor = Channel(at(T), T, delay_s=np.where(T < 5.0, np.nan, 1.0))
    middle = at(np.array([1.0, 50.05]))
    got = align(FrameTimes.of(middle, middle), {"p": sensor})["p"]
    assert got.valid.tolist() == [False, True]
    assert got.reason[0] == Reason.BAD_QUALITY
    assert got.value[1] == pytest.approx(51.05)


def test_on_a_clock_in_common_only_the_time_on_that_clock_counts() -> None:
    middle = at(np.array([50.05, 60.02]))
    frames = FrameTimes.of(middle, middle, 1_000_000, sigma=500_000.0, clock="board", within=1_000.0)
    ramp = Channel(at(T), 1000.0 * T)
    own = align(frames, {"x": replace(ramp, clock="board")})["x"]
    other = align(frames, {"x": replace(ramp, clock="camera")})["x"]
    assert own.value.tolist() == other.value.tolist()
    assert own.sigma == pytest.approx(1e-3, rel=0.01)
    assert other.sigma == pytest.approx(0.5, rel=0.01)


def test_frames_of_different_clocks_put_together_have_no_clock_in_common() -> None:
    middle = at(np.array([1.0, 2.0]))
    board = FrameTimes.of(middle, middle, 10, clock="board", within=1.0)
    both = FrameTimes.concatenate([board, FrameTimes.of(middle, middle, 10, clock="camera")])
    assert both.clock == ""
    assert both.within is None
    again = FrameTimes.concatenate([board[:1], board[1:]])
    assert again.clock == "board"
    assert again.within is not None
    assert again.within.tolist() == [1.0, 1.0]


def test_values_alone_are_the_same_values() -> None:
    rng = np.random.default_rng(0)
    middle = at(np.sort(rng.uniform(-1.0, 101.0, 5000)))
    channels = {
        "line": Channel(at(T), rng.normal(size=T.size), sigma=0.1, good=rng.random(T.size) > 0.01),
        "steps": Channel(at(T), np.floor(T / 7), kind="step", polled=True),
    }
    for exposure in (0, 300_000_000):
        frames = FrameTimes.of(middle, middle + exposure)
        full, bare = align(frames, channels), align(frames, channels, uncertainty=False)
        for name, got in bare.items():
            np.testing.assert_array_equal(got.value, full[name].value)
            np.testing.assert_array_equal(got.reason, full[name].reason)
            assert np.isnan(got.sigma).all()


def test_answers_repeated_from_a_cache_tell_when_the_one_measurement_was_made() -> None:
    measured = np.arange(0.0, 60.0, 0.1) + 0.013  # a cache refreshed ten times a second
    asked = np.arange(0.5, 59.0, 0.02)
    value = 10.0 * measured[np.searchsorted(measured, asked, side="right") - 1]
    channel = Channel(at(asked - 0.05), value, time_bound=50_000_000)  # up to 0.1 s old
    seen = np.arange(5.0, 55.0, 0.007)
    got = align(FrameTimes.of(at(seen), at(seen)), {"t": channel})["t"]
    assert np.abs(got.value - 10.0 * seen).max() < 0.2  # 50 ms would be 0.5
    assert (np.abs(got.value - 10.0 * seen) <= 2 * got.sigma).all()
    assert got.sigma.max() < 0.15
