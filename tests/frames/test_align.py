"""Values on frames: what must hold whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hal.frames.align import Channel, align
from hal.frames.frame import FrameTimes, Reason

ORIGIN = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
Int64 = NDArray[np.int64]


def at(*seconds: float, exposure: float = 0.0, bound: int = 0) -> FrameTimes:
    """Frames whose exposures have their middle at these seconds."""
    half = round(exposure * SECOND / 2)
    middle = ORIGIN + np.rint(np.array(seconds) * SECOND).astype(np.int64)
    return FrameTimes.of(middle - half, middle + half, bound)


def times(*seconds: float) -> Int64:
    since: Int64 = np.rint(np.array(seconds) * SECOND).astype(np.int64)
    return since + ORIGIN


def test_a_value_lies_on_the_line_between_its_readings_and_noise_averages_between_them() -> None:
    got = align(at(0.0, 0.25, 0.5, 1.0, 2.0), {"t": Channel(times(0, 1, 2), np.array([10.0, 20.0, 30.0]), sigma=1.0)})
    assert got["t"].value.tolist() == [10.0, 12.5, 15.0, 20.0, 30.0]
    assert got["t"].sigma == pytest.approx([1.0, 0.790569, 0.707107, 1.0, 1.0], rel=1e-5)


def test_calibration_uncertainty_does_not_average() -> None:
    got = align(at(0.5), {"t": Channel(times(0, 1, 2), np.array([1.0, 1.5, 2.0]), sigma_common=0.3)})
    assert got["t"].sigma[0] == pytest.approx(0.3)


def test_on_a_ramp_the_time_bound_costs_slope_times_its_width() -> None:
    t = times(*np.arange(0, 10, 0.1))
    ramp = Channel(t, np.linspace(0.0, 99.0, 100), time_bound=50_000_000)
    got = align(at(4.5, 5.03), {"t": ramp})["t"]
    # Uniform +-0.5 K, shared by neighbours: 68.27 % lie within 0.6827 x 0.5 K.
    assert got.sigma == pytest.approx(0.6827 * 0.5, rel=1e-3)


def test_the_uncertainty_of_a_frames_own_time_costs_slope_times_sigma() -> None:
    middle = times(5.0)
    frames = FrameTimes.of(middle, middle, 30_000_000, sigma=10_000_000.0)
    ramp = Channel(times(*np.arange(0, 10, 0.1)), np.linspace(0.0, 99.0, 100))
    assert align(frames, {"t": ramp})["t"].sigma[0] == pytest.approx(0.1, rel=1e-3)


def test_noise_at_rest_is_not_taken_for_a_slope() -> None:
    rng = np.random.default_rng(0)
    rest = Channel(times(*np.arange(0, 200, 0.1)), rng.normal(0, 1.0, 2000), 100_000_000, 1.0)
    got = align(at(*np.arange(1, 190, 0.037)), {"t": rest})["t"]
    assert np.sqrt(np.mean(got.sigma**2)) < 1.12 * np.sqrt(2 / 3)


def test_frames_outside_the_data_or_across_a_gap_or_next_to_bad_readings_have_no_value() -> None:
    good = np.array([True, True, True, False, True, True])
    channel = Channel(times(0, 1, 10, 11, 12, 13), np.arange(6.0), max_gap_s=5.0, good=good)
    got = align(at(-0.1, 0.5, 5.0, 10.5, 11.5, 12.5, 13.5), {"t": channel})["t"]
    expected = ["BEFORE_DATA", "OK", "GAP", "BAD_QUALITY", "BAD_QUALITY", "OK", "AFTER_DATA"]
    assert [Reason(code).name for code in got.reason] == expected
    assert np.isnan(got.value[~got.valid]).all()
    assert np.isnan(got.sigma[~got.valid]).all()


def test_a_frame_exactly_on_the_last_reading_before_a_gap_has_its_value() -> None:
    channel = Channel(times(0, 1, 60), np.array([3.0, 4.0, 5.0]), max_gap_s=5.0)
    got = align(at(1.0, 60.0), {"t": channel})["t"]
    assert got.valid.tolist() == [True, False]
    assert got.value[0] == 4.0


def test_a_frame_without_a_time_has_no_value_and_disturbs_no_other() -> None:
    frames = at(0.5, 0.6, 0.7)
    frames = FrameTimes.of(
        np.where([True, False, True], frames.start, 0),
        np.where([True, False, True], frames.stop, 0),
        valid=np.array([True, False, True]),
    )
    got = align(frames, {"t": Channel(times(0, 1), np.array([0.0, 1.0]))})["t"]
    assert got.value[[0, 2]] == pytest.approx([0.5, 0.7])
    assert got.reason[1] == Reason.NO_FRAME_TIME


@pytest.mark.parametrize("readings", [0, 1])
def test_without_two_readings_nothing_is_made_up(readings: int) -> None:
    channel = Channel(times(*range(readings)), np.zeros(readings))
    got = align(at(0.0, 0.5), {"t": channel})["t"]
    assert got.valid.tolist() == [readings == 1, False]


def test_a_long_exposure_gets_the_mean_of_the_line_over_it() -> None:
    square = Channel(times(0, 1, 2, 3, 4), np.array([0.0, 1.0, 4.0, 9.0, 16.0]))
    got = align(at(2.0, exposure=2.0), {"t": square})["t"]
    assert got.value[0] == pytest.approx((2.5 + 6.5) / 2)


def test_a_long_exposure_across_a_gap_or_beyond_the_data_has_no_value() -> None:
    channel = Channel(times(0, 1, 2, 9, 10, 11), np.arange(6.0), max_gap_s=3.0)
    got = align(at(1.0, 2.0, 10.0, 10.9, exposure=2.0), {"t": channel})["t"]
    assert [Reason(c).name for c in got.reason] == ["OK", "GAP", "OK", "AFTER_DATA"]


def test_the_mean_over_an_exposure_averages_noise() -> None:
    rng = np.random.default_rng(1)
    rest = Channel(times(*np.arange(0, 400, 0.1)), rng.normal(0, 1, 4000), sigma=1.0)
    for exposure in (0.1, 0.2, 1.0):
        got = align(at(*np.arange(5, 390, 1.13), exposure=exposure), {"t": rest})["t"]
        actual = float(np.sqrt(np.mean(got.value**2)))
        assert np.median(got.sigma) == pytest.approx(actual, rel=0.2)


def test_a_step_holds_until_the_next_reading_and_a_step_within_the_bound_is_as_uncertain_as_it_is_high() -> None:
    channel = Channel(times(0, 1, 2), np.array([1.0, 5.0, 5.0]), 10_000_000, kind="step")
    got = align(at(0.5, 0.995, 1.005, 1.5, 2.0), {"v": channel})["v"]
    assert got.value.tolist() == [1.0, 1.0, 5.0, 5.0, 5.0]
    assert got.sigma == pytest.approx([0.0, 4.0, 4.0, 0.0, 0.0])


def test_between_two_polls_a_step_may_have_happened_anywhere() -> None:
    channel = Channel(times(0, 1, 2), np.array([1.0, 1.0, 5.0]), kind="step", polled=True)
    assert align(at(0.5, 1.5), {"v": channel})["v"].sigma == pytest.approx([0.0, 4.0])


def test_a_long_exposure_over_a_step_gets_the_time_weighted_mean() -> None:
    channel = Channel(times(0, 1, 2), np.array([0.0, 4.0, 4.0]), kind="step")
    assert align(at(1.0, exposure=1.0), {"v": channel})["v"].value[0] == pytest.approx(2.0)


def test_a_long_exposure_whose_time_is_known_to_many_seconds_is_as_uncertain_as_the_step_is_high() -> None:
    channel = Channel(times(*range(40)), np.where(np.arange(40) < 20, 0.0, 4.0), kind="step")
    got = align(at(20.0, exposure=2.0, bound=4 * SECOND), {"t": channel})["t"]
    assert 1.0 < got.sigma[0] <= 4.0


def test_the_declared_delay_shifts_the_readings_back() -> None:
    channel = Channel(times(0, 1, 2), np.array([0.0, 1.0, 2.0]), delay_s=0.25)
    assert align(at(0.5), {"t": channel})["t"].value[0] == pytest.approx(0.75)


def test_wrong_shapes_and_float_times_are_refused() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        Channel(times(0, 1), np.zeros(3))
    with pytest.raises(ValueError, match="int64"):
        Channel(np.array([0.0, 1.0]), np.zeros(2))
    with pytest.raises(ValueError, match="not known"):
        Channel(times(0), np.zeros(1), kind="cubic")  # type: ignore[arg-type]


@st.composite
def readings(draw: st.DrawFn) -> Channel:
    m = draw(st.integers(0, 40))
    steps = draw(st.lists(st.integers(0, 3 * SECOND), min_size=m, max_size=m))
    values = draw(st.lists(st.floats(-1e6, 1e6), min_size=m, max_size=m))
    return Channel(
        ORIGIN + np.cumsum(np.array(steps, np.int64)),
        np.array(values, np.float64),
        draw(st.integers(0, SECOND)),
        draw(st.floats(0, 10.0)),
        draw(st.sampled_from(["linear", "step"])),
        max_gap_s=2.0,
        good=np.array(draw(st.lists(st.sampled_from([True, True, True, False]), min_size=m, max_size=m)), np.bool_),
        polled=draw(st.booleans()),
    )


@st.composite
def frames(draw: st.DrawFn) -> FrameTimes:
    start = np.array(draw(st.lists(st.integers(-SECOND, 60 * SECOND), min_size=1, max_size=40)), np.int64)
    length = draw(st.integers(0, 5 * SECOND))
    return FrameTimes.of(ORIGIN + start, ORIGIN + start + length, draw(st.integers(0, SECOND)))


@settings(max_examples=80, deadline=None)
@given(readings(), frames(), st.integers(-(10**17), 10**17))
def test_shifting_all_times_changes_nothing(channel: Channel, seen: FrameTimes, shift: int) -> None:
    moved = FrameTimes.of(seen.start + shift, seen.stop + shift, seen.bound)
    later = Channel(
        channel.time + shift, channel.value, channel.time_bound, channel.sigma, channel.kind,
        max_gap_s=channel.max_gap_s, good=channel.good, polled=channel.polled,
    )  # fmt: skip
    a, b = align(seen, {"x": channel})["x"], align(moved, {"x": later})["x"]
    for name in ("value", "sigma", "valid", "reason"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=80, deadline=None)
@given(readings(), frames())
def test_values_stay_within_the_readings_and_uncertainties_are_finite(channel: Channel, seen: FrameTimes) -> None:
    got = align(seen, {"x": channel})["x"]
    assert np.array_equal(got.valid, got.reason == Reason.OK)
    assert np.isfinite(got.value[got.valid]).all()
    assert np.isfinite(got.sigma[got.valid]).all()
    assert (got.sigma[got.valid] >= 0).all()
    if got.valid.any():
        low, high = float(channel.value.min()), float(channel.value.max())
        slack = 1e-6 * (abs(low) + abs(high) + 1)
        assert (got.value[got.valid] >= low - slack).all()
        assert (got.value[got.valid] <= high + slack).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(readings(), min_size=1, max_size=4), frames(), st.randoms())
def test_the_order_of_channels_frames_and_readings_changes_nothing(
    channels: list[Channel], seen: FrameTimes, random: object
) -> None:
    rng = np.random.default_rng(len(seen))
    named = {f"c{i}": c for i, c in enumerate(channels)}
    straight = align(seen, named)
    turned = align(seen, dict(reversed(named.items())))
    order = rng.permutation(len(seen))
    mixed = align(seen[order], named)
    for name, a in straight.items():
        np.testing.assert_array_equal(a.value, turned[name].value)
        np.testing.assert_allclose(a.value[order], mixed[name].value, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(a.sigma[order], mixed[name].sigma, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(a.reason[order], mixed[name].reason)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 100.0), min_size=3, max_size=30), frames())
def test_monotone_readings_give_monotone_values(rises: list[float], seen: FrameTimes) -> None:
    channel = Channel(times(*np.arange(len(rises))), np.cumsum(rises))
    got = align(seen[np.argsort(seen.middle)], {"x": channel})["x"]
    value = got.value[got.valid]
    assert (np.diff(value) >= -1e-6).all()


def test_channels_on_one_time_base_give_what_they_give_alone() -> None:
    t = times(*np.arange(0, 10, 0.1))
    rng = np.random.default_rng(2)
    channels = {f"c{i}": Channel(t, rng.normal(size=100), sigma=0.1) for i in range(3)}
    seen = at(*rng.uniform(-1, 11, 500))
    together = align(seen, channels)
    for name, channel in channels.items():
        np.testing.assert_array_equal(together[name].value, align(seen, {name: channel})[name].value)
