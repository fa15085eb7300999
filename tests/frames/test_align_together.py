"""Channels read at the same times are worked out together: nothing but the time it takes may tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.frames.align import Aligned, Channel, align
from hal.frames.end_to_end import EndToEnd
from hal.frames.frame import FrameTimes, Reason
from hal.frames.place import Film
from hal.frames.readings import Readings

ORIGIN = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


def same(got: Aligned, alone: Aligned) -> None:
    np.testing.assert_array_equal(got.reason, alone.reason)
    np.testing.assert_array_equal(got.valid, alone.valid)
    np.testing.assert_allclose(got.value, alone.value, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got.sigma, alone.sigma, rtol=1e-3, atol=1e-4)


def film(rng: np.random.Generator, lasts: float, count: int, *, even: bool, exposure: float) -> FrameTimes:
    """Frames at a steady rate with a pause; some without a time, some before the first reading and after the last."""
    since = np.linspace(-0.1, 1.1, count) * lasts
    start = ORIGIN + np.rint((since + 0.3 * (since > lasts / 2)) * SECOND).astype(np.int64)
    valid = rng.random(count) > 0.01
    sigma = 1e5 if even else np.linspace(0.0, 3e6, count).astype(np.float32)
    return FrameTimes.of(np.where(valid, start, 0), np.where(valid, start + round(exposure * SECOND), 0), 10**6,
                         sigma=sigma, valid=valid)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([0.3, 0.04, 0.004, 0.0005]), st.booleans(), st.booleans(),
    st.sampled_from([0.0, 0.02]),
)  # fmt: skip
def test_channels_with_one_time_base_get_what_each_gets_alone(
    seed: int, period: float, even: bool, broken: bool, exposure: float
) -> None:
    rng = np.random.default_rng(seed)
    lasts = 6.0
    time = ORIGIN + np.cumsum(rng.uniform(0.7, 1.3, int(lasts / period)) * period * SECOND).astype(np.int64)
    m = time.size
    bad = rng.random(m) < (0.05 if broken else 0.0)
    bad[rng.integers(m)] = broken
    channels = {
        "smooth": Channel(time, np.sin(3e-9 * (time - ORIGIN)), 10**6, 1e-3),
        "noisy": Channel(time, rng.normal(size=m), 10**6, 1.0),
        "broken": Channel(time, np.where(bad, np.nan, np.cumsum(rng.normal(size=m))), 2 * 10**7, 0.1),
        "jumps": Channel(time, np.floor(np.arange(m) / 7.0), 10**6, 0.01, sigma_common=0.2, aperture_s=0.001),
        "steps": Channel(time, np.floor(np.arange(m) / 9.0), 10**6, 0.01, kind="step", polled=True),
    }
    frames = film(rng, lasts, 9000, even=even, exposure=exposure)
    together = align(frames, channels)
    values = align(frames, channels, uncertainty=False)
    for name, channel in channels.items():
        alone = align(frames, {name: channel})[name]
        same(together[name], alone)
        np.testing.assert_allclose(values[name].value, alone.value, rtol=1e-9, atol=1e-9)
        assert np.isnan(values[name].sigma).all()


def test_frames_exactly_on_a_reading_get_it_and_its_noise() -> None:
    time = ORIGIN + np.arange(100) * SECOND // 10
    rng = np.random.default_rng(1)
    channels = {f"c{i}": Channel(time, rng.normal(size=100) * 10.0**i, sigma=0.5 * 10.0**i) for i in range(4)}
    got = align(FrameTimes.of(time, time), channels)
    for name, channel in channels.items():
        assert got[name].value.tolist() == channel.value.tolist()
        assert got[name].sigma == pytest.approx(channel.sigma, rel=1e-5)


def test_frames_in_any_order_get_their_own_values() -> None:
    rng = np.random.default_rng(2)
    time = ORIGIN + np.arange(200) * SECOND // 20
    channels = {f"c{i}": Channel(time, np.cumsum(rng.normal(size=200)), 10**7, 0.1) for i in range(3)}
    start = ORIGIN + np.linspace(0, 9.9 * SECOND, 20_000).astype(np.int64)
    order = rng.permutation(start.size)
    ordered, mixed = (align(FrameTimes.of(s, s), channels) for s in (start, start[order]))
    for name in channels:
        same(mixed[name], ordered[name][order])


def test_an_answers_age_and_the_wait_for_it_are_two_errors() -> None:
    """On a ramp: 100 ms in the cache and 100 ms of waiting make a triangle; 68.3 % lie within 0.437 of its half."""
    time = ORIGIN + np.arange(100) * SECOND // 10
    ramp = {
        name: Channel(time, np.linspace(0.0, 99.0, 100), 100_000_000, max_age_s=age)
        for name, age in {"unknown": 0.0, "half": 0.1, "all": 0.2}.items()
    }
    moment = ORIGIN + np.array([45 * SECOND // 10])
    got = align(FrameTimes.of(moment, moment), ramp)
    assert got["unknown"].sigma[0] == pytest.approx(0.6827, rel=1e-3)  # K, of +-1 K
    assert got["half"].sigma[0] == pytest.approx(0.437, rel=0.01)
    assert got["all"].sigma[0] == got["unknown"].sigma[0]


def test_ages_that_prove_independent_average_between_readings_and_a_saw_tooth_does_not() -> None:
    rng = np.random.default_rng(3)
    asked = np.arange(400) * 0.1
    pace = 0.1013
    ages = {"saw-tooth": asked - np.floor(asked / pace) * pace, "at random": rng.uniform(0.0, 0.1, 400)}
    between = ORIGIN + np.rint((asked[100:300] + 0.0) * SECOND).astype(np.int64)
    frames = FrameTimes.of(between, between)
    sigma = {}
    for name, age in ages.items():
        time = ORIGIN + np.rint((asked - 0.05) * SECOND).astype(np.int64)
        channel = Channel(time, 10.0 * (asked - age) + rng.normal(0, 0.01, 400), 52_000_000, 0.01, max_age_s=0.1)
        got = align(frames, {name: channel})[name]
        assert (got.reason == Reason.OK).all()
        sigma[name] = float(np.median(got.sigma))
    assert sigma["saw-tooth"] == pytest.approx(0.35, rel=0.05)
    assert sigma["at random"] < 0.8 * sigma["saw-tooth"]


def test_two_readings_at_one_time_don_t_keep_channels_from_going_together() -> None:
    """As where an instrument answers twice within one step of the clock."""
    rng = np.random.default_rng(4)
    time = ORIGIN + np.arange(50) * SECOND // 10
    time[20], time[49] = time[19], time[48]
    channels = [Channel(time + i * 1000, rng.normal(size=50), 10**6, 0.1) for i in range(3)]
    start = ORIGIN + np.linspace(-SECOND, 6 * SECOND, 5_000).astype(np.int64)
    frames = FrameTimes.of(start, start + 1_000_000)
    joined = EndToEnd([Readings.of(channel) for channel in channels])
    assert joined.fits(Film(frames))
    for got, channel in zip(joined.on(Film(frames)), channels, strict=True):
        same(got, align(frames, {"alone": channel})["alone"])
