"""Fixed delays, found again from simulated flashes and pulses."""

import numpy as np
import pytest

from hal.clock.delays import by_flash, by_loop
from hal.clock.exchange import Exchange
from hal.clock.exchange_clock import ExchangeClock
from hal.errors import ClockError

EPOCH = 1_767_225_600_000_000_000


def film(*, delay, period, exposure, length, flashes=40, noise=1.0, gain=2e5, spread=0.1, regular=False, seed=0):
    """Stated starts (ns), brightness and moments of the flashes (ns); exposures really began `delay` s later."""
    rng = np.random.default_rng(seed)
    gaps = np.full(flashes, 100 * period) if regular else spread * (1 + rng.random(flashes))
    on = 1.0 + np.cumsum(gaps)
    stated = np.arange(0.0, on[-1] + 1.0, period)
    begin, end = stated + delay, stated + delay + exposure
    light = np.zeros(stated.size)
    for moment in on:
        light += np.clip(np.minimum(end, moment + length) - np.maximum(begin, moment), 0.0, None)
    brightness = 100.0 + gain * light + rng.normal(0.0, noise, stated.size)
    return EPOCH + np.rint(stated * 1e9).astype(np.int64), brightness, EPOCH + np.rint(on * 1e9).astype(np.int64)


@pytest.mark.parametrize(
    ("period", "exposure", "length"),
    [(1e-3, 0.8e-3, 2e-3), (1e-3, 0.2e-3, 0.4e-3), (0.04, 0.04, 0.02), (0.04, 0.01, 0.05)],
)
@pytest.mark.parametrize("delay", [-0.0123, 0.0, 0.000417, 0.03])
def test_a_flash_tells_by_how_much_exposures_are_late(period, exposure, length, delay):
    start, brightness, flashes = film(delay=delay, period=period, exposure=exposure, length=length)
    found = by_flash(start, exposure, brightness, flashes, length, within=0.05)
    assert abs(found.value - delay) < 5 * found.sigma + 1e-8
    assert found.sigma < 0.01 * max(exposure, length)


def test_the_stated_uncertainty_is_the_scatter_of_repeated_measurements():
    errors, sigmas = [], []
    for seed in range(60):
        start, brightness, flashes = film(
            delay=0.003, period=1e-3, exposure=0.7e-3, length=1.5e-3, noise=8.0, flashes=25, seed=seed
        )
        found = by_flash(start, 0.7e-3, brightness, flashes, 1.5e-3, within=0.01)
        errors.append(found.value - 0.003)
        sigmas.append(found.sigma)
    assert 0.75 < np.std(errors) / np.mean(sigmas) < 1.3
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors))


def test_flashes_that_keep_time_with_the_frames_are_refused():
    start, brightness, flashes = film(delay=0.0, period=1e-3, exposure=0.5e-3, length=0.2e-3, regular=True)
    with pytest.raises(ClockError, match="irregular"):
        by_flash(start, 0.5e-3, brightness, flashes, 0.2e-3, within=0.3)


def test_a_light_nobody_sees_is_refused():
    start, brightness, flashes = film(delay=0.0, period=1e-3, exposure=0.5e-3, length=1e-3, gain=0.0)
    with pytest.raises(ClockError, match="brighter"):
        by_flash(start, 0.5e-3, brightness, flashes, 1e-3, within=0.02)


def test_too_few_flashes_are_refused():
    start, brightness, flashes = film(delay=0.0, period=1e-3, exposure=0.5e-3, length=1e-3, flashes=3)
    with pytest.raises(ClockError, match="3 flashes"):
        by_flash(start, 0.5e-3, brightness, flashes, 1e-3, within=0.02)


def exchanges_over(out, back, seconds=60.0, seed=5):
    """Of a device with a megahertz counter, no error of its rate, and delays that scatter by 20 us above these."""
    rng = np.random.default_rng(seed)
    sent = np.arange(0.0, seconds, 0.1)
    received = sent + out + rng.exponential(20e-6, sent.size)
    back_here = received + 50e-6 + back + rng.exponential(20e-6, sent.size)
    return [
        Exchange(7, EPOCH + round(a * 1e9), round(c * 1e6), round((c + 50e-6) * 1e6), EPOCH + round(b * 1e9))
        for a, c, b in zip(sent, received, back_here, strict=True)
    ]


@pytest.mark.parametrize(("out", "back"), [(3.1e-3, 0.9e-3), (0.2e-3, 4.0e-3)])
def test_a_pulse_led_back_tells_the_two_ways_of_a_link_apart(out, back):
    rng = np.random.default_rng(5)
    exchanges = exchanges_over(out, back)
    made = np.sort(rng.uniform(5.0, 55.0, 50))
    ticks = np.rint(made * 1e6).astype(np.int64)
    reference = EPOCH + np.rint(made * 1e9).astype(np.int64)
    alike = ExchangeClock.fit(exchanges, frequency=1e6, ppm=50.0)
    round_trip = min(e.received - e.sent - 50_000 for e in exchanges) * 1e-9
    found = by_loop(alike.to_lab(ticks).time, reference, 10_000, round_trip=round_trip)
    assert found.out == pytest.approx(out, abs=4 * found.sigma)
    assert found.back == pytest.approx(back, abs=4 * found.sigma)
    assert found.sigma < 20e-6
    # A clock that is told so is right, where the other was wrong by half the difference.
    told = ExchangeClock.fit(
        exchanges, frequency=1e6, ppm=50.0, delay_out=found.out, delay_back=found.back, delay_sigma=found.sigma
    )
    assert np.abs(alike.to_lab(ticks).time - reference).min() > 900_000
    assert np.abs(told.to_lab(ticks).time - reference).max() < 4 * found.sigma * 1e9


def test_a_pulse_at_the_wrong_input_is_refused():
    reference = EPOCH + np.arange(20) * 10**9
    with pytest.raises(ClockError, match="right input"):
        by_loop(reference + 50_000_000, reference, 0, round_trip=4e-3)
