"""What waits for the broker: bounded, the newest reading of each signal wins, every change of quality passes."""

import pytest

from hal.model.journal import Event
from hal.model.reading import Quality, Reading
from hal.telemetry import spool as module
from hal.telemetry.spool import Spool

GOOD, BAD = Quality.GOOD, Quality.BAD


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spool(clock):
    return Spool(rate=10.0, clock=clock)


def reading(value, quality=GOOD):
    return Reading(value, "degC", 0, 0, quality=quality)


def drain(spool):
    taken = []
    while (item := spool.take()) is not None:
        spool.sent()
        taken.append((item[0], item[1].value))
    return taken


def test_a_fast_signal_is_thinned_to_its_rate_and_its_last_value_is_not_lost(spool, clock):
    taken = []
    for step in range(100):  # 1 s at 100 Hz
        clock.now = step * 0.01
        taken += drain(spool)
        spool.put("a", reading(step))
        taken += drain(spool)
    clock.now = 2.0
    taken += drain(spool)
    assert len(taken) == pytest.approx(11, abs=1)
    assert taken[-1] == ("a", 99)
    assert spool.counts.thinned == 100 - len(taken)
    assert spool.counts.dropped == 0


def test_a_change_of_quality_does_not_wait_for_the_rate_limit(spool, clock):
    spool.put("a", reading(1))
    drain(spool)
    clock.now = 0.01
    spool.put("a", reading(None, BAD))
    assert drain(spool) == [("a", None)]
    clock.now = 0.02
    spool.put("a", reading(2))
    assert drain(spool) == [("a", 2)]


def test_while_the_broker_is_away_only_the_newest_waits_with_the_changes_of_quality_before_it(spool, clock):
    for step, quality in enumerate([GOOD] * 500 + [BAD] * 500 + [GOOD] * 500):
        clock.now = step * 0.01
        spool.put("a", reading(step, quality))
    assert drain(spool) == [("a", 499), ("a", 999), ("a", 1499)]
    assert spool.counts.dropped == 1497


def test_a_signal_that_keeps_flipping_stays_bounded(spool):
    for step in range(1000):
        spool.put("a", reading(step, BAD if step % 2 else GOOD))
    assert [value for _, value in drain(spool)] == list(range(1000 - module.CHANGES, 1000))


def test_a_fast_signal_does_not_starve_a_slow_one(spool, clock):
    spool.put("slow", reading(0))
    for step in range(3):
        clock.now = step * 1.0
        spool.put("fast", reading(step))
        spool.put("slow", reading(step))
        assert sorted(topic for topic, _ in drain(spool)) == ["fast", "slow"]


def test_a_reading_that_could_not_be_sent_waits_again(spool):
    spool.put("a", reading(1))
    topic, taken = spool.take()
    spool.give_back(topic, taken)
    assert drain(spool) == [("a", 1)]


def test_a_reading_that_could_not_be_sent_gives_way_to_a_newer_one(spool):
    spool.put("a", reading(1))
    topic, taken = spool.take()
    spool.put("a", reading(2))
    spool.give_back(topic, taken)
    assert drain(spool) == [("a", 2)]
    assert spool.counts.dropped == 1


def test_the_spool_says_when_the_next_reading_is_due(spool, clock):
    assert spool.wait() is None
    spool.put("a", reading(1))
    assert spool.wait() == 0.0
    drain(spool)
    clock.now = 0.03
    spool.put("a", reading(2))
    assert spool.take() is None
    assert spool.wait() == pytest.approx(0.07)
    assert spool.take(hurry=True)[1].value == 2


def test_events_keep_their_order_and_their_numbers_show_what_was_lost():
    spool = Spool()
    for number in range(module.EVENTS + 5):
        spool.put_event(Event(0, "note", "", str(number)))
    assert spool.counts.events_dropped == 5
    assert spool.first_event()[0] == 6
    spool.event_sent(6)
    assert spool.first_event()[0] == 7
