"""What is on its way to the broker: every message leaves once, live or for the outbox, and in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.model.journal import Event
from hal.telemetry import spool as module
from hal.telemetry.spool import Spool


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spool(clock):
    return Spool(clock=clock)


def sent(spool):
    taken = []
    while (message := spool.take()) is not None:
        spool.confirmed(message)
        taken.append(message.payload)
    return taken


def aside(spool):
    return [message.payload for message in spool.overdue()]


def test_what_comes_while_the_broker_is_there_goes_live_in_order(spool):
    spool.begin()
    for number in range(5):
        spool.put("a" if number % 2 else "b", b"%d" % number)
    assert sent(spool) == [b"0", b"1", b"2", b"3", b"4"]
    assert aside(spool) == []


def test_what_comes_while_the_broker_is_away_is_for_the_outbox_and_the_newest_of_each_signal_also_live(spool):
    for number in range(4):
        spool.put("a", b"a%d" % number)
    spool.put("b", b"b0")
    assert aside(spool) == [b"a0", b"a1", b"a2", b"a3", b"b0"]
    spool.begin()
    spool.put("a", b"a4")
    assert sent(spool) == [b"a3", b"b0", b"a4"]
    assert aside(spool) == []


def test_what_was_under_way_when_the_broker_was_lost_is_for_the_outbox(spool):
    spool.begin()
    spool.put("a", b"0")
    spool.put("a", b"1")
    spool.put("a", b"2")
    first, _ = spool.take(), spool.take()
    spool.confirmed(first)
    spool.cut()
    assert aside(spool) == [b"1", b"2"]


def test_what_a_slow_broker_does_not_take_in_time_is_for_the_outbox_and_newer_goes_on_live(spool, clock):
    spool.begin()
    for number in range(3):
        spool.put("a", b"%d" % number)
    under_way = spool.take()
    clock.now = module.PATIENCE + 0.1
    spool.put("a", b"3")
    assert aside(spool) == [b"0", b"1", b"2"]  # what is under way may arrive as well
    spool.confirmed(under_way)
    spool.cut()
    assert aside(spool) == [b"3"]


def test_the_tally_tells_what_would_be_lost_now(spool):
    tally = spool.tally
    spool.begin()
    spool.put("a", b"0", count=3, acquired=1)
    spool.held_back()
    spool.held_back()
    assert tally.acquired - tally.settled == 3
    spool.confirmed(spool.take())
    assert tally.acquired - tally.settled == 0
    spool.cut()
    spool.put("a", b"1")
    waiting = spool.overdue()
    assert tally.acquired - tally.settled == 1  # it is on disk only when the keeper says so
    spool.stored(len(waiting), 1)
    assert tally.acquired - tally.settled == 0


def test_memory_is_bounded_when_nothing_takes_anything(spool, monkeypatch):
    monkeypatch.setattr(module, "QUEUE", 10)
    for number in range(25):
        spool.put("a", b"%d" % number)
    assert aside(spool) == [b"%d" % number for number in range(15, 25)]
    assert spool.counts.dropped == 15


actions = st.lists(
    st.sampled_from(["put", "put", "put", "begin", "cut", "take", "confirm", "wait", "keep"]), max_size=80
)


@given(actions)
def test_whatever_happens_every_message_arrives_and_each_way_is_in_order(actions):
    clock = Clock()
    spool = Spool(clock=clock)
    put, live, history, under_way, connected = 0, [], [], [], False
    for action in [*actions, "cut", "keep"]:
        clock.now += 0.01
        match action:
            case "put":
                spool.put("a", b"%d" % put)
                put += 1
            case "begin" if not connected:
                spool.begin()
                connected = True
            case "cut":
                spool.cut()
                connected = False
                under_way.clear()
            case "take" if (message := spool.take()) is not None:
                assert connected
                under_way.append(message)
            case "confirm" if under_way:
                message = under_way.pop(0)
                spool.confirmed(message)
                live.append(int(message.payload))
            case "wait":
                clock.now += module.PATIENCE
            case "keep":
                messages = spool.overdue()
                history += [int(message.payload) for message in messages]
                spool.stored(len(messages), len(messages))
    assert set(live) | set(history) == set(range(put))
    assert history == sorted(set(history))
    assert list(dict.fromkeys(live)) == sorted(set(live))
    assert spool.tally.acquired == spool.tally.settled == put
    spool.begin()  # who looks now sees how it is
    shown = sent(spool)
    assert shown in ([], [b"%d" % (put - 1)])
    assert shown or not put or put - 1 in live


def test_events_keep_their_order_and_their_numbers_show_what_was_lost():
    spool = Spool()
    for number in range(module.EVENTS + 5):
        spool.put_event(Event(0, "note", "", str(number)))
    assert spool.counts.events_dropped == 5
    assert [spool.take_event()[0] for _ in range(3)] == [6, 7, 8]
    spool.event_sent(6)
    spool.cut()
    assert [spool.take_event()[0] for _ in range(3)] == [7, 8, 9]


def test_what_the_broker_is_to_retain_is_said_anew_when_it_is_back():
    spool = Spool()
    spool.begin()
    spool.put_state("a", b"1")
    spool.put_state("a", b"2")
    spool.put_state("b", b"3")
    assert [spool.take_state() for _ in range(3)] == [("a", b"2"), ("b", b"3"), None]
    spool.cut()
    spool.begin()
    assert [spool.take_state() for _ in range(3)] == [("a", b"2"), ("b", b"3"), None]


def test_what_is_of_passing_interest_waits_for_no_broker(spool):
    spool.put_passing("a", b"while it was away")
    spool.begin()
    spool.put_passing("a", b"now")
    assert spool.take_passing() == ("a", b"now")
    assert spool.take_passing() is None
