"""The past of a signal: in order whatever order it came in, bounded, and no spike ever hidden."""

import math
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.dashboard.series import MOST, SECOND, Series

START = 1_764_000_000 * SECOND


def filled(rate, seconds, value=lambda t: 0.0, uncertainty=0.0):
    series = Series()
    for i in range(int(rate * seconds)):
        series.add(START + round(i / rate * SECOND), value(i / rate), uncertainty)
    return series


def test_a_spike_of_one_reading_shows_in_a_window_of_hours():
    series = filled(1, 2 * 3600, lambda t: 100.0 if t == 3600 else 20.0)
    curve = series.curve(START, START + 2 * 3600 * SECOND)
    assert len(curve.time) <= MOST + 2
    assert np.nanmax(curve.high) == 100.0
    place = int(np.nanargmax(curve.high))
    assert abs(curve.time[place] - (START + 3600 * SECOND)) <= curve.width


def test_a_short_window_has_every_reading_with_its_band():
    series = filled(10, 30, lambda t: t, uncertainty=0.5)
    curve = series.curve(START + 10 * SECOND, START + 20 * SECOND)
    assert curve.width == 0
    np.testing.assert_allclose(curve.value, np.arange(10.0, 20.0, 0.1), atol=1e-6)
    np.testing.assert_allclose(curve.high - curve.low, 2.0)  # two standard uncertainties each way


def test_what_is_kept_is_bounded_and_the_newest_hours_stay():
    series = filled(0.1, 100_000, lambda t: t)
    assert sum(len(tier.start) for tier in series._tiers) < 15_500
    curve = series.curve(START, START + 100_000 * SECOND)
    assert curve.value[0] < 300
    assert curve.value[-1] > 99_700


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(40)), st.lists(st.integers(0, 39), max_size=20))
def test_readings_that_come_late_or_twice_draw_the_same_curve(order, again):
    inorder, mixed = Series(), Series()
    for i in range(40):
        inorder.add(START + i * SECOND // 4, math.sin(i), 0.1)
    for i in [*order, *again]:
        mixed.add(START + i * SECOND // 4, math.sin(i), 0.1)
    for end in (10, 3600, 90_000):
        one, other = (s.curve(START - SECOND, START + end * SECOND) for s in (inorder, mixed))
        assert np.array_equal(one.time, other.time)
        np.testing.assert_allclose(one.value, other.value)
        np.testing.assert_allclose([one.low, one.high], [other.low, other.high])


def test_a_late_reading_says_that_what_was_drawn_must_be_drawn_anew_but_a_repeated_one_does_not():
    series = filled(1, 10)
    before = series.order
    series.add(START + 5 * SECOND, 0.0)
    assert series.order == before
    series.add(START + SECOND // 2, 7.0)
    assert series.order == before + 1


def test_a_gap_and_a_bad_reading_break_the_line():
    series = filled(1, 10)
    series.add(START + 10 * SECOND, None)
    series.add(START + 11 * SECOND, 1.0)
    series.add(START + 60 * SECOND, 1.0)
    curve = series.curve(START, START + 70 * SECOND, gap=3.0)
    broken = curve.time[np.isnan(curve.value)]
    assert broken[0] == START + 10 * SECOND
    assert START + 11 * SECOND < broken[1] < START + 60 * SECOND


def test_what_is_added_later_goes_on_where_the_browser_has_stopped():
    series = filled(20, 120, lambda t: random.Random(t).random())
    start, end = START + 40 * SECOND, START + 100 * SECOND
    whole = series.curve(start, end)
    half = len(whole.time) // 2
    rest = series.curve(start, end, since=int(whole.time[half]))
    assert rest.width == whole.width > 0
    np.testing.assert_array_equal(rest.time, whole.time[half:])
    np.testing.assert_allclose(rest.value, whole.value[half:])
