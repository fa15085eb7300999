"""Kinds of channels and exposures whose uncertainty is not simply that of two readings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hal.frames.align import Channel, align
from hal.frames.frame import FrameTimes
from hal.frames.live import LiveAligner, LiveChannel

Floats = NDArray[np.float64]
ORIGIN = 1_790_000_000_000_000_000
LASTS = 300.0  # s


def ns(seconds: Floats) -> NDArray[np.int64]:
    since: NDArray[np.int64] = np.rint(seconds * 1e9).astype(np.int64)
    return since + ORIGIN


def coverage(channel: Channel, truth: Callable[[Floats], Floats], exposure: float, every: float) -> tuple[float, float]:
    """How often one sigma and two hold the mean of the truth over the exposure."""
    start = np.arange(2.0, LASTS - 2.0 - exposure, every)
    got = align(FrameTimes.of(ns(start), ns(start) + round(exposure * 1e9)), {"it": channel})["it"]
    assert got.valid.all()
    part = (np.arange(400) + 0.5) / 400 * exposure
    error = np.abs(got.value - truth(start[:, None] + part).mean(1))
    return float(np.mean(error <= got.sigma)), float(np.mean(error <= 2 * got.sigma))


def times(rng: np.random.Generator, period: float) -> Floats:
    count = int(LASTS / period)
    return np.asarray(period * (np.arange(count) + 0.1 * rng.random(count)))


def wave(t: Floats) -> Floats:
    return np.asarray(600.0 + 20.0 * np.sin(t / 2.7))


def stairs(t: Floats) -> Floats:
    return np.floor((t + 0.37) / 1.7123) % 3


def lagging(rng: np.random.Generator, count: int, rho: float) -> Floats:
    """Noise of standard deviation 1 that resembles the one before by rho."""
    own = rng.normal(size=count) * np.sqrt(1.0 - rho**2)
    out = np.zeros(count)
    for i in range(1, count):
        out[i] = rho * out[i - 1] + own[i]
    return out


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("exposure", [0.0, 0.5])
def test_noise_that_resembles_the_readings_before_does_not_average_as_if_it_were_independent(
    rho: float, exposure: float
) -> None:
    within = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        at = times(rng, 0.1)
        channel = Channel(ns(at), wave(at) + 0.1 * lagging(rng, at.size, rho), sigma=0.1)
        within.append(coverage(channel, wave, exposure, 0.53))
    one, two = np.mean(within, 0)
    assert 0.64 <= one <= 0.75
    assert 0.92 <= two <= 0.98


def test_noise_that_nobody_states_is_seen_in_the_readings() -> None:
    rng = np.random.default_rng(7)
    at = times(rng, 0.1)
    one, two = coverage(Channel(ns(at), wave(at) + rng.normal(0, 0.1, at.size)), wave, 0.0, 0.0531)
    assert 0.66 <= one <= 0.75
    assert 0.94 <= two <= 0.98


def test_a_smooth_channel_without_noise_is_not_said_to_have_any() -> None:
    rng = np.random.default_rng(8)
    at = times(rng, 0.1)
    start = ns(np.arange(10.0, 200.0, 0.37))
    got = align(FrameTimes.of(start, start), {"it": Channel(ns(at), wave(at))})["it"]
    assert np.max(got.sigma) < 0.005  # 20 (0.1/2.7)^2/8 = 0.0034 is what a chord misses


@pytest.mark.parametrize("exposure", [0.06, 0.1, 0.3, 1.1])
def test_the_mean_over_an_exposure_is_as_sure_as_the_readings_in_it(exposure: float) -> None:
    rng = np.random.default_rng(9)
    at = times(rng, 0.1)
    line = Channel(ns(at), wave(at) + rng.normal(0, 0.1, at.size), sigma=0.1)
    polled = Channel(ns(at), stairs(at) + rng.normal(0, 0.01, at.size), sigma=0.01, kind="step", polled=True)
    for channel, truth in ((line, wave), (polled, stairs)):
        one, two = coverage(channel, truth, exposure, max(0.1731, exposure))
        assert 0.62 <= one <= 0.76
        assert two >= 0.92
    # Where nothing happened, nothing but noise is left. Long exposures hold a step more often than not.
    assert two <= 0.98 or exposure > 1.0


def test_frames_that_pause_and_drop_get_the_line_between_their_readings() -> None:
    rng = np.random.default_rng(10)
    step = rng.exponential(0.001, 40_000)
    step[rng.integers(0, 40_000, 5)] = 3.0
    start = np.cumsum(np.where(rng.random(40_000) < 0.2, 0.0, step))
    at = times(rng, 0.0213)
    value = rng.normal(size=at.size)
    got = align(FrameTimes.of(ns(start), ns(start)), {"it": Channel(ns(at), value)}, uncertainty=False)["it"]
    wanted = np.interp(ns(start) - ORIGIN, ns(at) - ORIGIN, value)
    assert got.valid.sum() == (ns(start) >= ns(at)[0]).sum()
    np.testing.assert_allclose(got.value[got.valid], wanted[got.valid], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stated", [0.0, 0.1])
def test_live_rows_know_the_noise_of_a_channel_as_those_of_a_whole_run_do(stated: float) -> None:
    rng = np.random.default_rng(11)
    at = times(rng, 0.1)
    value = wave(at) + 0.1 * lagging(rng, at.size, 0.0 if stated == 0.0 else 0.9)
    live = LiveAligner({"it": LiveChannel()}, history_s=3.0)
    start = ns(np.arange(0.5, LASTS - 1.0, 0.05))
    frames, parts = FrameTimes.of(start, start), []
    for second in range(0, 300, 5):
        now = ns(np.array([second, second + 5.0]))
        new = (ns(at) >= now[0]) & (ns(at) < now[1])
        live.feed("it", ns(at)[new], value[new], 0, stated)
        live.add(frames[(start >= now[0]) & (start < now[1])])
        parts.append(live.settle(int(now[1])).values["it"])
    parts.append(live.flush().values["it"])
    assert live._buffers["it"].time.size < 800
    offline = align(frames, {"it": Channel(ns(at), value, sigma=stated)})["it"]
    np.testing.assert_allclose(np.concatenate([p.value for p in parts]), offline.value, rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([p.sigma for p in parts]), offline.sigma, rtol=1e-3)
