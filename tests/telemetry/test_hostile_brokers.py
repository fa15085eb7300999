"""Brokers that do what no broker should: a lab says so once, goes on, and loses nothing."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest

from hal.instrument.address import ReadOnly
from hal.model.context import Context
from hal.model.device import Device
from hal.model.reading import Answer
from hal.model.signal import Kind, SignalR
from hal.telemetry import sender, topics
from hal.telemetry.publisher import Publisher

pytestmark = pytest.mark.real_clock

CONNACK, SUBACK = b"\x20\x02\x00\x00", b"\x90\x03"
CONNECT, PUBLISH, SUBSCRIBE, PINGREQ = 0x10, 0x30, 0x80, 0xC0
STATE = topics.state_topic("em3")


class Probe(ReadOnly):
    def question(self, device):
        return id(self)

    async def ask(self, device):
        device.polls += 1
        now = device.context.timebase.now()
        return Answer(21.5, now, now)

    def value(self, device, payload):
        return payload


class Stage(Device):
    polls = 0
    temperature = SignalR(float, "degC", at=Probe(), kind=Kind.HINTED, poll=0.02)


class Broker:
    """Answers as MQTT 3.1.1 asks for, but for what a test changes."""

    def __init__(self):
        self.connections = 0
        self.published: list[tuple[str, bytes]] = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    def welcome(self):
        return CONNACK

    def subscribed(self, number):
        return SUBACK + number + b"\0"

    def took(self, topic, payload, number):
        return b"\x40\x02" + number

    async def _serve(self, reader, writer):
        with suppress(OSError, EOFError):
            while True:
                kind, body = await self._packet(reader)
                if kind & 0xF0 == CONNECT:
                    self.connections += 1
                    writer.write(self.welcome())
                elif kind & 0xF0 == SUBSCRIBE:
                    writer.write(self.subscribed(body[:2]))
                elif kind & 0xF0 == PINGREQ:
                    writer.write(b"\xd0\x00")
                elif kind & 0xF0 == PUBLISH:
                    end = 2 + int.from_bytes(body[:2], "big")
                    topic, qos = body[2:end].decode(), kind >> 1 & 3
                    payload = body[end + 2 if qos else end :]
                    self.published.append((topic, payload))
                    if qos:
                        writer.write(self.took(topic, payload, body[end : end + 2]))
        writer.close()

    async def _packet(self, reader):
        kind, length, shift = (await reader.readexactly(1))[0], 0, 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return kind, await reader.readexactly(length)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sender, "BACKOFF", (0.02, 0.05))
    monkeypatch.setattr(sender, "PATIENCE", 0.5)


@asynccontextmanager
async def publishing(broker, **settings):
    context = Context()
    stage = Stage("heater", context=context)
    async with Publisher(context, [stage], f"mqtt://127.0.0.1:{broker.port}", lab="em3", **settings) as telemetry:
        yield stage, telemetry
    await context.close()


async def until(condition, within=60.0):
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def links(stage):
    return [event.text for event in stage.context.journal.recent if event.kind == "link"]


async def test_one_that_never_acknowledges_is_told_once_and_everything_waits():
    class Deaf(Broker):
        def took(self, topic, payload, number):
            return b""

    async with Deaf() as broker, publishing(broker) as (stage, telemetry):
        await until(lambda: broker.connections >= 4)
        (text,) = links(stage)
        assert "no acknowledgement in 0.5 s" in text
        assert "the experiment goes on without" in text
        await until(lambda: telemetry.outbox.waiting > 20)
        assert telemetry.counts.published == telemetry.outbox.dropped_full == telemetry.outbox.dropped_size == 0


async def test_one_that_lets_us_in_and_says_nothing_is_told_once_and_everything_waits():
    class Mute(Broker):
        def welcome(self):
            return b""

    async with Mute() as broker, publishing(broker) as (stage, telemetry):
        await until(lambda: broker.connections >= 2 and telemetry.outbox.waiting > 20)
        (text,) = links(stage)
        assert "Operation timed out" in text or "no answer in 0.5 s" in text  # the second of a machine that stalls
    assert telemetry.outbox.dropped_size == 0


async def test_one_that_no_longer_knows_our_password_says_so_although_it_was_away_already():
    class Changed(Broker):
        changed = False

        def welcome(self):
            return b"\x20\x02\x00\x05" if self.changed else CONNACK

        def took(self, topic, payload, number):
            if self.changed:
                raise EOFError
            return super().took(topic, payload, number)

    async with Changed() as broker, publishing(broker) as (stage, telemetry):
        await until(lambda: telemetry.counts.published > 5)
        broker.changed = True
        await until(lambda: broker.connections >= 5)
        there, lost, refused = links(stage)
        assert there.startswith("publishing to")
        assert "the connection was lost" in lost
        assert "it refuses our user or password; check `user` and `password`" in refused


async def test_one_that_takes_everything_and_passes_on_nothing_is_told_once(monkeypatch):
    """As mosquitto does with what its access file does not let a user write: it acknowledges and throws away."""
    monkeypatch.setattr(sender, "ECHO", 0.1)
    async with Broker() as broker, publishing(broker) as (stage, telemetry):
        await until(lambda: len(links(stage)) > 1)
        await until(lambda: telemetry.counts.published > 20)
        _, text = links(stage)
        assert "takes what we publish, and nothing of it comes back. See to its access rules" in text
        assert "below insitu/em3, insitu-history/em3 and insitu-meta/em3" in text


async def test_one_that_dies_between_a_message_and_its_acknowledgement_loses_none_and_mixes_up_none(tmp_path):
    """Again and again, in the midst of what waited on disk as well as of what is live."""

    class Dying(Broker):
        there, taken = False, 0

        def welcome(self):
            if not self.there:
                raise EOFError
            return CONNACK

        def took(self, topic, payload, number):
            if topic.startswith(("insitu/", "insitu-history/")):
                self.taken += 1
                if self.taken in (3, 40, 41, 90, 150, 151):  # it has it, and we do not know
                    raise EOFError
            return super().took(topic, payload, number)

    acquired = []
    async with Dying() as broker:
        for _ in range(2):  # the second session goes on with what the first could not send
            async with publishing(broker, outbox=tmp_path) as (stage, telemetry):
                stage.temperature.subscribe(note := lambda reading: acquired.append(reading.time))
                await until(lambda: len(acquired) > (250 if broker.there else 100))
                stage.temperature.unsubscribe(note)
                if broker.there:
                    await until(lambda: telemetry.outbox.waiting == 0)
            broker.there = True
    arrived = {topics.ROOT: [], topics.HISTORY: []}
    for topic, payload in broker.published:
        if (tree := topic.partition("/")[0]) in arrived:
            content = json.loads(payload)
            assert content.get("history", False) is (tree == topics.HISTORY)
            arrived[tree].append(int(content["time"]))
    assert broker.connections >= 7
    assert set(acquired) <= {*arrived[topics.ROOT], *arrived[topics.HISTORY]}
    for times in arrived.values():
        first = list(dict.fromkeys(times))
        assert first == sorted(first)


async def test_one_that_hangs_up_at_every_message_is_told_once_with_the_likely_reason():
    class Closed(Broker):
        def took(self, topic, payload, number):
            raise EOFError

    async with Closed() as broker, publishing(broker) as (stage, telemetry):
        await until(lambda: broker.connections >= 4)
        (text,) = links(stage)
        assert "it hangs up on us; does it let us publish? See to its access rules" in text
        await until(lambda: telemetry.outbox.waiting > 20)


async def test_one_that_hangs_up_at_a_subscription_gets_none_and_is_published_to():
    class Shut(Broker):
        def subscribed(self, number):
            raise EOFError

    async with Shut() as broker, publishing(broker) as (_, telemetry):
        await until(lambda: telemetry.counts.published > 5)
        assert broker.connections == 2


async def test_one_that_denies_the_subscription_is_published_to():
    class Strict(Broker):
        def subscribed(self, number):
            return SUBACK + number + b"\x80"

    async with Strict() as broker, publishing(broker) as (_, telemetry):
        await until(lambda: telemetry.counts.published > 5)
        assert broker.connections == 1


async def test_one_that_hangs_up_again_and_again_fills_no_journal_and_loses_nothing(monkeypatch):
    class Moody(Broker):
        moody = True

        def took(self, topic, payload, number):
            if self.moody and topic.startswith(topics.ROOT + "/"):
                raise EOFError
            return super().took(topic, payload, number)

    acquired = []
    async with Moody() as broker, publishing(broker) as (stage, telemetry):
        stage.temperature.subscribe(note := lambda reading: acquired.append(str(reading.time)))
        await until(lambda: broker.connections >= 12)
        assert len(links(stage)) <= 2 * sender.BREAKS
        broker.moody = False
        monkeypatch.setattr(sender, "STEADY", 0.2)
        await until(lambda: links(stage)[-1].startswith("publishing"))
        stage.temperature.unsubscribe(note)
        await until(lambda: telemetry.outbox.waiting == 0)
    arrived = {topics.decode_reading(payload).time for topic, payload in broker.published if "/heater/" in topic
               and topic.startswith((topics.ROOT + "/", topics.HISTORY + "/"))}  # fmt: skip
    assert set(map(int, acquired)) <= arrived


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x40\x02\xff\xff" + b"\x40\x02\x00\x00",  # acknowledges what was never sent
        b"\x30\x04\x00\x02xy" * 50,  # messages nobody has subscribed to
        b"\x40\x00",  # no number
        b"\xf0\x00",  # a packet there is not
        b"\x30\xff\xff\xff\x7f" + bytes(1000),  # 256 MB are to come
    ],
    ids=["wrong numbers", "unasked messages", "too short", "no such packet", "endless"],
)
async def test_rubbish_disturbs_no_poll_and_readings_arrive_all_the_same(rubbish):
    class Mad(Broker):
        mad = 2

        def took(self, topic, payload, number):
            if self.mad and topic.startswith(topics.ROOT + "/"):
                self.mad -= 1
                return rubbish + super().took(topic, payload, number)
            return super().took(topic, payload, number)

    async with Mad() as broker, publishing(broker) as (stage, telemetry):
        await until(lambda: not broker.mad)
        published = telemetry.counts.published + telemetry.counts.history
        polls = stage.polls
        await until(lambda: telemetry.counts.published + telemetry.counts.history > published + 10)
        assert stage.polls > polls


async def test_a_flood_on_the_labs_own_state_costs_a_few_messages_and_the_last_word_is_the_labs():
    class Loud(Broker):
        loud = True

        def took(self, topic, payload, number):
            acknowledged = super().took(topic, payload, number)
            if not (self.loud and topic.startswith(topics.ROOT + "/")):
                return acknowledged
            name = STATE.encode()
            said = len(name).to_bytes(2, "big") + name + b'{"state": "offline"}'
            return acknowledged + (b"\x30" + bytes((len(said),)) + said) * 200

    async with Loud() as broker, publishing(broker) as (_, telemetry):
        began = asyncio.get_running_loop().time()
        await until(lambda: telemetry.counts.published > 20)
        broker.loud = False
        took = asyncio.get_running_loop().time() - began
        said = [payload for topic, payload in broker.published if topic == STATE]
        assert 2 <= len(said) <= 2 + took / sender.REPEAT
        assert all(topics.decode_state(payload).online for payload in said)
