"""Messages under way: each told of its acknowledgement, also when those come in pieces, late, or not at all."""

import asyncio
import socket
from contextlib import suppress
from itertools import pairwise

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.telemetry import cork as module
from hal.telemetry.cork import Cork
from hal.telemetry.window import Window, publish


class Paho:
    """What the cork needs of paho's client."""

    def __init__(self, sock):
        self._sock = sock

    def socket(self):
        return self._sock


class Client:
    def __init__(self, sock):
        self._client = Paho(sock)


@pytest.fixture
def ends():
    ours, brokers = socket.socketpair()
    ours.setblocking(False)
    brokers.settimeout(5.0)
    yield ours, brokers
    ours.close()
    brokers.close()


def puback(number):
    return bytes((0x40, 2, number >> 8, number & 0xFF))


PINGRESP = b"\xd0\x00"


async def turn():
    await asyncio.sleep(0.01)


@pytest.mark.real_clock
async def test_messages_of_one_turn_leave_together_and_each_is_told_of_its_acknowledgement(ends):
    ours, broker = ends
    client, done, woken = Client(ours), [], []
    window = Window(client, lambda: woken.append(1))
    for number in range(3):
        window.send("insitu/a/b/c", b"%d" % number, lambda number=number: done.append(number))
    await turn()
    assert broker.recv(4096) == b"".join(publish("insitu/a/b/c", b"%d" % n, n + 1, False) for n in range(3))
    assert (len(window), done) == (3, [])
    broker.sendall(puback(1) + puback(2)[:3])
    with pytest.raises(BlockingIOError):
        client._client._sock.recv(1)
    assert done == [0]
    broker.sendall(puback(2)[3:] + PINGRESP + puback(3))
    assert client._client._sock.recv(1) == PINGRESP[:1]
    assert client._client._sock.pending() == 1
    assert client._client._sock.recv(5) == PINGRESP[1:]
    assert done == [0, 1, 2]
    assert len(window) == 0
    assert woken


@pytest.mark.real_clock
async def test_a_broker_that_takes_nothing_fills_the_window_and_is_seen_to_hang(ends, monkeypatch):
    ours, broker = ends
    monkeypatch.setattr(module, "HOLD", 100_000)
    woken = []
    window = Window(Client(ours), lambda: woken.append(1))
    sent = 0
    while window.free:
        window.send("insitu/a/b/c", bytes(10_000), qos=0)
        sent += 10_000
        await turn()
        assert sent < 100e6
    await turn()
    assert window.waited > 0
    assert not woken
    received = 0
    while not window.free:
        received += len(broker.recv(1 << 20))
        await turn()
    assert woken  # there is room again
    broker.settimeout(0.2)
    while received < sent:
        received += len(broker.recv(1 << 20))
        await turn()
    assert window.waited == 0


@pytest.mark.real_clock
async def test_without_an_acknowledgement_who_waits_is_told(ends):
    window = Window(Client(ends[0]), lambda: None)
    with pytest.raises(aiomqtt.MqttError, match=r"no acknowledgement in 0\.05 s"):
        await window.say("insitu/a/b/c", b"0", within=0.05)


@pytest.mark.real_clock
async def test_a_connection_already_lost_is_an_error_and_no_surprise():
    with pytest.raises(aiomqtt.MqttError, match="lost"):
        Window(Client(None), lambda: None)


topics_ = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="+#\0"), min_size=1, max_size=200)


@given(topics_, st.binary(max_size=40_000), st.integers(0, 0xFFFF), st.booleans())
def test_the_packet_is_what_paho_would_send(topic, payload, number, retain):
    import paho.mqtt.client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    sent = []
    client._packet_queue = lambda command, packet, *_: sent.append(bytes(packet)) or 0
    client._sock = socket.socket()  # it only asks whether there is one
    try:
        client._send_publish(number, topic.encode(), payload, 1 if number else 0, retain, False, None)
    finally:
        client._sock.close()
        client._sock = None
    assert sent == [publish(topic, payload, number, retain)]


packets = st.one_of(
    st.integers(1, 0xFFFF).map(puback),
    st.just(PINGRESP),
    st.binary(max_size=300).map(lambda body: b"\x30" + _length(len(body)) + body),
)


def _length(length):
    found = bytearray()
    while length > 127:
        found.append(length & 127 | 128)
        length >>= 7
    return bytes([*found, length])


class Pieces:
    """A socket from which a stream comes in given pieces."""

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    def recv(self, most):
        if not self.pieces:
            raise BlockingIOError
        return self.pieces.pop(0)


@given(st.lists(packets, max_size=20), st.lists(st.integers(0, 2000), max_size=10))
def test_however_the_stream_is_cut_acknowledgements_and_the_rest_are_told_apart(sent, cuts):
    async def look():
        stream = b"".join(sent)
        borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        sock, told, rest = Pieces([stream[a:b] for a, b in pairwise(borders)]), [], b""
        cork = Cork(Client(sock), told.append)
        while sock.pieces or cork._in:
            with suppress(BlockingIOError):
                rest += cork.recv(7)
        return told, rest

    told, rest = asyncio.run(look())
    assert told == [packet[2] << 8 | packet[3] for packet in sent if packet[0] == 0x40]
    assert rest == b"".join(packet for packet in sent if packet[0] != 0x40)
