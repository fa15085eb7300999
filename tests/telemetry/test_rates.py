"""Which readings are published: all, or fewer without hiding a spike or a change of quality."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.errors import ConfigError
from hal.model.reading import Quality, Reading
from hal.telemetry.rates import EVERYTHING, Rate, Rates, thinner

S = 1_000_000_000


def readings(*values, period=0.1):
    return [Reading(value, "degC", round(number * period * S), 0) for number, value in enumerate(values)]


def published(rate, series):
    """What is published of a series, each with how many readings had come."""
    thin = thinner(rate)
    found = [(number, due) for number, reading in enumerate(series) for due in thin.add(reading)]
    return found + [(len(series), due) for due in thin.flush()]


def values(found):
    return [due.reading.value for _, due in found]


def test_without_a_rate_every_reading_is_published():
    assert values(published(EVERYTHING, readings(1.0, 1.0, 2.0))) == [1.0, 1.0, 2.0]


def test_a_decimated_message_has_the_latest_reading_and_the_spread_of_all():
    series = readings(*[20.0] * 4, 99.0, *[20.0] * 6)
    found = published(Rate(every=1.0), series)
    first, second = (due for _, due in found)
    assert (first.reading.value, first.spread.count) == (20.0, 1)
    assert second.reading == series[10]
    assert (second.spread.min, second.spread.max, second.spread.count) == (20.0, 99.0, 10)
    assert second.spread.mean == pytest.approx(27.9)


def test_a_jump_is_published_with_the_reading_before_it_so_that_a_line_shows_a_jump():
    found = published(Rate(dead_band=0.5, heartbeat=60), readings(20.0, 20.1, 20.2, 20.1, 25.0, 25.1))
    assert values(found) == [20.0, 20.1, 25.0, 25.1]  # the last when no more comes


def test_an_unchanged_value_is_published_with_every_heartbeat():
    found = published(Rate(dead_band=0.5, heartbeat=1.0), readings(*[20.0] * 31))
    assert [due.reading.time for _, due in found] == [0, 1 * S, 2 * S, 3 * S]


def test_text_is_published_when_it_changes():
    found = published(Rate(heartbeat=60), readings("shut", "shut", "open", "open", "shut"))
    assert values(found) == ["shut", "shut", "open", "open", "shut"]
    found = published(Rate(every=60), readings("shut", "shut", "open", "shut"))
    assert values(found) == ["shut", "shut", "open", "shut"]


def test_a_change_of_quality_is_published_at_once_with_what_was_before_it():
    good, bad = readings(1.0, 2.0, 3.0), Reading(None, "degC", 3 * S // 10, 0, quality=Quality.BAD)
    for rate in (Rate(every=60.0), Rate(dead_band=50.0, heartbeat=60)):
        found = published(rate, [*good, bad])
        assert [number for number, due in found if due.reading is bad] == [3]
        assert found[-2][1].reading is good[2]


finite = st.floats(-1e6, 1e6)
series = st.lists(
    st.tuples(
        st.one_of(finite, st.none(), st.integers(-1000, 1000)), st.sampled_from(list(Quality)), st.floats(0.001, 3)
    ),
    max_size=60,
)  # fmt: skip
rates = st.one_of(
    st.builds(lambda every: Rate(every=every), st.floats(0.01, 10)),
    st.builds(lambda band, beat: Rate(dead_band=band, heartbeat=beat), st.floats(0, 1e6), st.floats(0.01, 10)),
)


def made(described):
    time, found = 0, []
    for value, quality, gap in described:
        time += round(gap * S)
        found.append(Reading(None if quality is Quality.BAD else value, "Pa", time, 0, quality=quality))
    return found


@given(rates, series)
def test_every_reading_is_stood_for_once_and_the_order_is_kept(rate, described):
    readings = made(described)
    found = published(rate, readings)
    assert sum(due.count for _, due in found) == len(readings)
    times = [due.reading.time for _, due in found]
    assert times == sorted(set(times))
    if readings:
        assert found[-1][1].reading is readings[-1]


@given(rates, series)
def test_every_change_of_quality_passes_at_once(rate, described):
    readings = made(described)
    when = {due.reading.time: number for number, due in published(rate, readings)}
    for number, (before, now) in enumerate(pairwise(readings), 1):
        if before.quality is not now.quality:
            assert when[now.time] == number


@given(st.floats(0.01, 10), series)
def test_decimated_no_spike_is_hidden(every, described):
    readings = made(described)
    left = list(readings)
    for _, due in published(Rate(every=every), readings):
        stood_for, left = left[: due.count], left[due.count :]
        numbers = [r.value for r in stood_for if r.value is not None]
        if numbers:
            assert (due.spread.min, due.spread.max) == (min(numbers), max(numbers))
            assert due.spread.min <= due.spread.mean <= due.spread.max
            assert math.isclose(due.spread.mean, sum(numbers) / len(numbers), rel_tol=1e-9, abs_tol=1e-6)
        else:
            assert (due.spread.min, due.spread.mean, due.spread.max) == (None, None, None)


@given(st.floats(0.01, 10), series)
def test_decimated_a_reading_is_published_as_soon_as_the_time_is_over(every, described):
    thin, last = thinner(Rate(every=every)), None
    for reading in made(described):
        if thin.add(reading):
            last = reading
        else:
            assert reading.time - last.time < every * 1e9


@given(st.floats(0.001, 1e6), st.floats(0.01, 10), series)
def test_what_the_dead_band_holds_back_differs_by_less_from_what_was_published(band, heartbeat, described):
    readings = made(described)
    thin, last = thinner(Rate(dead_band=band, heartbeat=heartbeat)), None
    for reading in readings:
        due = thin.add(reading)
        if due:
            last = due[-1].reading
            assert last is reading
        elif reading.value is None:
            assert last.value is None
        else:
            assert abs(reading.value - last.value) < band
            assert reading.time - last.time < heartbeat * 1e9


def test_a_signals_own_rate_comes_before_that_of_its_device():
    rates = Rates({"heater": Rate(every=1.0), "heater.temperature": Rate(every=0.1)})
    assert rates.of("heater", "temperature").every == 0.1
    assert rates.of("heater", "power").every == 1.0
    assert rates.of("gauge", "pressure") == EVERYTHING


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"every": 1.0, "dead_band": 0.1}, "exclude each other"),
        ({"every": 0.0}, "write one above 0"),
        ({"dead_band": -1.0}, "write one above 0"),
        ({"dead_band": 0.1, "heartbeat": math.inf}, "write one above 0"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused(wrong, why):
    with pytest.raises(ConfigError, match=why):
        Rate(**wrong)
