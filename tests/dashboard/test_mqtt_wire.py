"""The dashboard's own wire to the broker, byte by byte; a real broker is in `test_ear`."""

import asyncio
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.dashboard import mqtt
from hal.dashboard.mqtt import MOST, Packets, Wire, connect, subscribe, taken
from hal.errors import ProtocolError
from hal.telemetry.window import publish

messages = st.lists(
    st.tuples(st.text(max_size=20), st.binary(max_size=300), st.integers(0, 0xFFFF), st.booleans()), max_size=8
)


@given(messages, st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_whatever_pieces_a_stream_comes_in_its_messages_are_the_same(sent, sizes):
    stream = b"".join(publish(*message) for message in sent)
    packets, came = Packets(), []
    while stream:
        for size in sizes:
            came += [taken(head, body) for head, body in packets.feed(stream[:size])]
            stream = stream[size:]
    assert came == [message[:3] for message in sent]


@given(st.integers(MOST + 1, MOST + 5000), st.integers(1, 60_000))
@settings(max_examples=10)
def test_a_message_that_is_too_long_is_skipped_and_the_next_one_is_not(size, piece):
    stream = publish("a", b"1", 0, False) + publish("big", bytes(size), 0, False) + publish("b", b"2", 0, False)
    packets, came = Packets(), []
    for at in range(0, len(stream), piece * 20):
        came += [taken(head, body) for head, body in packets.feed(stream[at : at + piece * 20])]
    assert came == [("a", b"1", 0), ("b", b"2", 0)]
    assert packets.skipped == 1


@given(st.binary(max_size=60))
def test_no_bytes_whatever_do_more_than_end_the_connection(data):
    packets = Packets()
    with contextlib.suppress(ProtocolError):
        for head, body in packets.feed(data):
            taken(head, body)


def test_the_greeting_is_that_of_the_standard():
    assert connect("me", "", None) == bytes.fromhex("100e 0004 4d515454 04 02 000f 0002 6d65")
    assert connect("me", "anna", "pw") == bytes.fromhex(
        "1018 0004 4d515454 04 c2 000f 0002 6d65 0004 616e6e61 0002 7077"
    )
    assert subscribe([("a/+", 0), ("b/#", 1)]) == bytes.fromhex("820e 0001 0003 612f2b 00 0003 622f23 01")


class Broker(asyncio.Transport):
    """The far end of a wire, in memory."""

    def __init__(self):
        super().__init__()
        self.sent, self.reading, self.closed = b"", True, False

    def write(self, data):
        self.sent += data

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def is_closing(self):
        return self.closed

    def abort(self):
        self.closed = True

    close = abort


@pytest.fixture
async def wire():
    heard = []
    wire = Wire(connect("me", "", None), [("#", 1)], heard.append)
    wire.heard, wire.broker = heard, Broker()
    wire.connection_made(wire.broker)
    wire.data_received(b"\x20\x02\x00\x00")
    yield wire
    wire.connection_lost(None)


async def test_what_is_of_qos_1_is_acknowledged_each_by_its_number(wire):
    assert wire.accepted.result() == 0
    wire.broker.sent = b""
    wire.data_received(publish("a", b"1", 7, False) + publish("b", b"2", 0, False) + publish("c", b"3", 0x1234, True))
    assert wire.broker.sent == bytes.fromhex("4002 0007 4002 1234")
    assert wire.heard == [[("a", b"1"), ("b", b"2"), ("c", b"3")]]


async def test_messages_are_taken_together_a_few_times_a_second(wire):
    wire.data_received(publish("a", b"1", 0, False))
    assert not wire.broker.reading
    await asyncio.sleep(mqtt.EVERY * 1.1)
    assert wire.broker.reading
    wire.data_received(publish("a", bytes(mqtt.PIECE), 0, False))
    assert wire.broker.reading  # there is more: nothing piles up with the system


async def test_a_broker_that_says_nothing_is_asked_and_then_given_up(wire):
    wire.broker.sent = b""
    for _ in range(mqtt.ALIVE):
        await asyncio.sleep(1.0)
        wire.look()
    assert wire.broker.sent == mqtt.PINGREQ
    assert not wire.broker.closed
    for _ in range(mqtt.ALIVE):
        await asyncio.sleep(1.0)
        wire.look()
    assert wire.broker.closed
