"""The benchmark's peers behave as published, and its simulated runs are possible."""

import numpy as np
import pytest

from bench.timeworld import chrony, peers
from bench.timeworld.clock_regimes import REGIMES, random_trace, trace


def exchanged(n=200, *, every=1.0, rate=20e-6, out=100e-6, back=100e-6, noise=0.0, share=10e-6, seed=0, tick=1e-8):
    """Exchanges with a clock that reads (1 + rate) * t; smallest delays out and back, exponential noise on top."""
    rng = np.random.default_rng(seed)
    sent = every * np.arange(n) + 0.2 * every * rng.random(n)
    there = sent + out + rng.exponential(noise, n) if noise else sent + out
    answered = there + share
    received = answered + back + (rng.exponential(noise, n) if noise else 0.0)
    return peers.Exchanged(sent, there * (1 + rate), answered * (1 + rate), received, tick)


def fed(peer, e):
    for row in zip(
        e.sent.tolist(), e.device_received.tolist(), e.device_sent.tolist(), e.received.tolist(), strict=True
    ):
        peer.add(*row)
    return peer


def error(peer, t, rate=20e-6):
    """Of the mapping at true time t."""
    return float(peer.to_lab(np.array([t * (1 + rate)]))[0] - t)


# ---------------------------------------------------------------------- liblsl


def test_lsl_takes_the_offset_of_the_quickest_of_eight_probes():
    wave = peers.Wave()
    delays = [3e-3, 2e-3, 5e-3, 1e-3, 4e-3, 2e-3, 3e-3, 2e-3]
    ended = []
    for k, delay in enumerate(delays):  # all of the delay on the way back: the midpoint is late by half of it
        ended += wave.add(k * 0.064, k * 0.064, k * 0.064, k * 0.064 + delay)
    assert ended == [(3 * 0.064, pytest.approx(0.5e-3))]


def test_a_wave_of_five_answers_changes_nothing():
    peer = peers.Lsl()
    fed(peer, exchanged(8, every=0.064, rate=0.0))
    before = error(peer, 100.0, rate=0.0)
    for k in range(5):  # liblsl: TimeUpdateMinProbes = 6
        t = 10.0 + 0.064 * k
        peer.add(t, t, t, t + 0.010)
    peer.add(20.0, 20.0, 20.0, 20.010)
    assert error(peer, 100.0, rate=0.0) == before


def test_lsl_holds_its_offset_between_waves():
    peer = fed(peers.Lsl(), exchanged(8, every=0.064, rate=20e-6))
    assert error(peer, 2.5) - error(peer, 0.5) == pytest.approx(2.0 * 20e-6, rel=1e-3)


# ---------------------------------------------------------------------- Klipper


def test_klipper_is_a_line_with_a_memory_of_thirty_questions():
    e = exchanged(400, noise=50e-6, seed=3)
    peer = fed(peers.Klipper(), e)
    n = e.sent.size
    # The recursions written out: question k weighs (1 - 1/30)^(n-1-k)/30, the anchor the rest.
    w = np.full(n, 1 / 30) * (1 - 1 / 30) ** (n - 1 - np.arange(n))
    w[0] = 1 - w[1:].sum()
    time, clock = w @ e.sent, w @ e.device_received
    slope = (w @ ((e.sent - time) * (e.device_received - clock))) / (w @ (e.sent - time) ** 2)
    half = 0.5 * (e.received - e.sent).min()
    asked = np.array([410.0])
    assert peer.to_lab(asked)[0] == pytest.approx(float(time + half + (asked[0] - clock) / slope), abs=2e-7)


def test_klipper_ignores_a_late_question_and_heeds_an_early_one():
    for shift, ignored in ((5e-3, True), (-5e-3, False)):
        peer = fed(peers.Klipper(), exchanged(100, rate=0.0))
        before = error(peer, 120.0, rate=0.0)
        peer.add(100.0, 100.0001 + shift, 100.0001 + shift, 100.0102)
        assert (error(peer, 120.0, rate=0.0) == before) is ignored


def test_klippers_shortest_round_trip_ages_by_ten_microseconds_an_hour():
    peer = peers.Klipper()
    peer.add(0.0, 0.0, 0.0, 200e-6)
    for hours, half, taken in ((1.0, 111e-6, False), (2.0, 119e-6, True)):
        t = 3600.0 * hours
        before = peer._half
        peer.add(t, t, t, t + 2 * half)
        assert (peer._half != before) is taken


# ---------------------------------------------------------------------- chrony


@pytest.mark.parametrize(("n", "runs"), [(7, 0), (8, 2), (9, 3), (20, 7), (33, 12), (64, 26), (100, 42), (127, 55)])
def test_chronys_critical_numbers_of_runs_are_those_of_its_table(n, runs):
    assert chrony.critical_runs(n) == runs  # regress.c, critical_runs[]


@pytest.mark.parametrize(("freedom", "t"), [(1, 636.6), (10, 4.587), (20, 3.850), (30, 3.646), (40, 3.551)])
def test_chronys_quantiles_of_student_are_those_of_its_table(freedom, t):
    assert chrony.student(freedom) == pytest.approx(t, rel=2e-3)  # regress.c, RGR_GetTCoef


def test_chrony_draws_a_line_weighted_by_distance():
    e = exchanged(30, noise=40e-6, seed=5)  # jitter on both ways alike: no asymmetry to correct
    peer = fed(chrony.Chrony(1e-8), e)
    n = peer.samples
    x, y = (e.time - e.time[-1])[-n:], e.offset[-n:]
    distance = 0.5 * e.delay[-n:] + np.array(peer._dispersions[-n:])
    nearest = distance.min()
    sd = (np.median(distance) - nearest) / 0.7
    weight = 1 + np.maximum(distance - nearest - 1e-8, 0) / sd
    slope, level = np.polyfit(x, y, 1, w=1 / weight)  # numpy's weights multiply residuals
    assert peer.offset == pytest.approx(level, abs=1e-9)
    assert peer.frequency == pytest.approx(slope, abs=1e-10)


def test_chrony_keeps_sixty_four_samples_of_a_steady_clock():
    rng = np.random.default_rng(1)
    peer = chrony.Chrony(1e-8)
    for t in np.arange(200.0):
        jitter = rng.normal(0.0, 10e-6)
        peer.add(t, t + 100e-6 + jitter, t + 100e-6 + jitter, t + 200e-6)
    assert 40 <= peer.samples <= 64
    assert len(peer._times) <= 128


def test_chrony_forgets_the_time_before_a_change_of_rate():
    rng = np.random.default_rng(2)
    peer = chrony.Chrony(1e-8)
    for t in np.arange(100.0):
        jitter = rng.normal(0.0, 10e-6)
        clock = t + max(0.0, t - 80.0) * 50e-6
        peer.add(t, clock + 100e-6 + jitter, clock + 100e-6 + jitter, t + 200e-6)
    assert peer.samples <= 22
    assert peer.frequency == pytest.approx(-50e-6, abs=5e-6)


def test_chrony_corrects_jitter_that_is_all_on_one_way():
    rng = np.random.default_rng(3)
    peer = chrony.Chrony(1e-8)
    for t in np.arange(60.0):
        peer.add(t, t + 100e-6, t + 100e-6, t + 200e-6 + rng.exponential(300e-6))
    late = float(peer.to_lab(np.array([60.0]))[0] - 60.0)
    assert abs(late) < 5e-6  # the mean of the midpoints would be late by 150 us


def test_chrony_refuses_a_sample_ten_deviations_late():
    rng = np.random.default_rng(4)
    peer = chrony.Chrony(1e-8)
    for t in np.arange(40.0):
        jitter = rng.normal(0.0, 5e-6)
        peer.add(t, t + 100e-6 + jitter, t + 100e-6 + jitter, t + 200e-6)
    before = peer.at
    peer.add(40.0, 40.0001, 40.0001, 40.0502)
    assert peer.at == before
    peer.add(41.0, 41.0001, 41.0001, 41.0002)
    assert peer.at > before


# ---------------------------------------------------------------------- NTP, Cristian, lines


def test_ntps_filter_takes_the_quickest_of_eight_and_never_goes_back():
    peer = peers.NtpFilter()
    peer.add(0.0, 0.0, 0.0, 1e-3)  # offset 0.5 ms, the quickest for long
    peer.add(1.0, 1.0, 1.0, 1.0 + 9e-3)
    assert float(peer.to_lab(np.array([1.0]))[0] - 1.0) == pytest.approx(0.5e-3)
    for k in range(2, 9):  # the ninth sample pushes the first one out
        peer.add(float(k), float(k), float(k), k + (9e-3 - k * 1e-4))
    assert float(peer.to_lab(np.array([8.0]))[0] - 8.0) == pytest.approx(0.5 * 8.2e-3)


def test_the_last_exchange_is_late_by_half_of_what_the_ways_differ_by():
    peer = fed(peers.LastExchange(), exchanged(3, rate=0.0, out=100e-6, back=300e-6))
    assert error(peer, 3.0, rate=0.0) == pytest.approx(100e-6, abs=1e-9)


def test_a_running_line_is_the_line_through_all():
    e = exchanged(100, noise=100e-6)
    line = peers.straight_line(e)
    asked = np.array([10.0, 99.0, 120.0])
    assert fed(peers.RunningLine(), e).to_lab(asked) == pytest.approx(line(asked), abs=1e-11)


def test_two_hulls_have_the_widest_margin_of_all_lines():
    e = exchanged(150, noise=150e-6, seed=8)
    centre = e.time.mean()

    def margin(slope):
        return np.min(e.received - e.device_sent - slope * (e.device_sent - centre)) - np.max(
            e.sent - e.device_received - slope * (e.device_received - centre)
        )

    best = max(np.linspace(-25e-6, -15e-6, 4001), key=margin)
    line = peers.two_hulls(e)
    slope = float(np.diff(line(np.array([0.0, 100.0])))[0] / 100.0 - 1.0)
    assert margin(slope) >= margin(best) - 1e-12
    assert slope == pytest.approx(best, abs=1e-8)


# ---------------------------------------------------------------------- Kalman


def test_the_smoother_gives_the_mean_of_the_posterior():
    e = exchanged(7, every=3.0, noise=30e-6, seed=11)
    x, y = e.time, e.offset
    smoothed = peers.smoother(e)(x) - x
    # The same by plain conditioning: offsets as a Gaussian vector, from its definition.
    shortest = np.minimum.accumulate(e.delay)  # the filter knows the past only
    noise = peers.Kalman.FLOOR**2 + 1e-8**2 / 12 + (0.5 * (e.delay - shortest)) ** 2
    white, walk = peers.Kalman.WHITE**2, peers.Kalman.WALK**2
    first = x[0]
    s, t = np.meshgrid(x - first, x - first)
    low, high = np.minimum(s, t), np.maximum(s, t)
    prior = noise[0] + (100e-6) ** 2 * s * t + white * low + walk * low**2 * (3 * high - low) / 6
    gain = prior[:, 1:] @ np.linalg.inv(prior[1:, 1:] + np.diag(noise[1:]))
    assert smoothed == pytest.approx(y[0] + gain @ (y[1:] - y[0]), abs=1e-10)


def test_the_filter_ends_where_the_smoother_ends():
    e = exchanged(50, noise=50e-6)
    end = e.time[-1:]
    assert fed(peers.Kalman(e.tick), e).to_lab(end) == pytest.approx(peers.smoother(e)(end), abs=1e-12)


def test_one_absurd_answer_does_not_move_the_filter_but_a_lasting_step_does():
    peer = fed(peers.Kalman(), exchanged(60, rate=0.0))
    before = error(peer, 61.0, rate=0.0)
    peer.add(61.0, 66.0, 66.0, 61.0002)
    assert error(peer, 61.0, rate=0.0) == before
    for k in range(70, 82):
        peer.add(float(k), k + 5.0, k + 5.0, k + 0.0002)
    assert error(peer, 90.0, rate=0.0) == pytest.approx(-5.0, abs=0.01)


# ---------------------------------------------------------------------- packages themselves


def test_pyxdfs_line_is_hardly_moved_by_an_outlier():
    pytest.importorskip("pyxdf")
    e = exchanged(60)
    e.received[30] += 20e-3
    asked = np.array([30.0])
    truth = 30.0 / (1 + 20e-6)
    assert abs(peers.pyxdf_all(e)(asked)[0] - truth) < 10e-6
    assert abs(peers.straight_line(e)(asked)[0] - truth) > 100e-6


def test_pandas_takes_the_nearest_stamp():
    pytest.importorskip("pandas")
    e = exchanged(10, rate=0.0, out=0.0, back=200e-6, share=0.0)
    e.received[4] += 1e-3
    asked = e.time[[4, 4, 8]] + np.array([0.1, -0.1, 0.0])
    late = peers.nearest_stamp(e)(asked[::-1])[::-1] - asked  # unsorted queries keep their order
    assert late == pytest.approx([600e-6, 600e-6, 100e-6], abs=1e-9)


# ---------------------------------------------------------------------- the simulated runs


@pytest.mark.parametrize("regime", REGIMES)
def test_a_simulated_run_is_possible(regime):
    t = trace(regime, 1)
    g, truth = t.given, t.truth
    assert np.array_equal(g.sent, trace(regime, 1).given.sent)
    assert (g.received > g.sent).all()
    assert (np.diff(g.received) > 0).all()
    assert (g.query_arrivals > truth.lab).all()
    assert (np.diff(g.query_arrivals) >= 0).all()
    if g.bits < 64:
        assert g.ticks_received.min() >= 0
        assert g.ticks_received.max() < 1 << g.bits
    # No sound exchange contradicts the datasheet: between any two the device's rate is within its limit.
    for epoch in np.unique(truth.exchange_epoch):
        sound = (truth.exchange_epoch == epoch) & ~truth.corrupted
        sent, received = g.sent[sound], g.received[sound]
        first, last = truth.exchange_received[sound], truth.exchange_sent[sound]
        counted = (first[1:] - last[:-1]) / g.frequency * 1e9
        slack = 1e9 / g.frequency + 2
        assert (counted <= (received[1:] - sent[:-1]) * (1 + g.ppm * 1e-6) + slack).all()
        assert (counted >= (sent[1:] - received[:-1]) * (1 - g.ppm * 1e-6) - slack).all()
        whole = (last[-1] - first[0]) / g.frequency * 1e9
        assert whole <= (received[-1] - sent[0]) * (1 + g.ppm * 1e-6) + slack


def test_drawn_runs_are_all_different_and_repeatable():
    assert random_trace(5).given.ppm != random_trace(6).given.ppm
    assert np.array_equal(random_trace(5).truth.lab, random_trace(5).truth.lab)
