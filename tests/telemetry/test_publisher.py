"""Publishing to real brokers: what arrives, and that a broker that is slow, gone or absent disturbs nothing."""

import asyncio
import errno
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from hal.capabilities import Thermometer
from hal.clock.exchange import Exchange
from hal.clock.exchange_clock import ExchangeClock
from hal.errors import ConfigError, NoReply
from hal.instrument.address import ReadOnly, Soft
from hal.model.context import Context
from hal.model.device import Device
from hal.model.reading import Answer, Noise, Quality
from hal.model.signal import Kind, SignalR, SignalRW
from hal.telemetry import broker as module
from hal.telemetry import outbox, sender, topics
from hal.telemetry import publisher as publishing
from hal.telemetry.alarms import decode_alarm
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.publisher import Publisher, _watches_sockets
from hal.telemetry.rates import Rate


class Probe(ReadOnly):
    """A value the test sets; an exception is raised instead."""

    def question(self, device):
        return id(self)

    async def ask(self, device):
        device.polls += 1
        if isinstance(device.truth, Exception):
            raise device.truth
        now = device.context.timebase.now()
        return Answer(device.truth, now, now)

    def value(self, device, payload):
        return payload


class Stage(Device):
    provides = (Thermometer,)
    vendor, model, identity = "Nobody", "Soft stage", "soft stage 7"
    truth: float | Exception = 21.5
    polls = 0

    temperature = SignalR(float, "degC", at=Probe(), kind=Kind.HINTED, poll=0.02, noise=Noise(absolute=0.1))
    shutter = SignalRW(str, at=Soft("shut"), choices=("open", "shut"), kind=Kind.NORMAL, poll=0.2)
    setpoint = SignalRW(float, "degC", at=Soft(20.0), limits=(-196.0, 600.0), of="temperature")


def available(program):
    """Fail where CI must have the program, skip elsewhere."""
    if program == "mosquitto" and shutil.which("mosquitto"):
        return
    if program == "amqtt" and importlib.util.find_spec("amqtt"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"this test needs {program}, and CI must have it")
    pytest.skip(f"needs {program}")


def launched(program):
    available(program)
    broker = EmbeddedBroker(program=program)
    broker.open()
    return broker


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request):
    broker = launched(request.param)
    yield broker
    broker.close()


@pytest.fixture
def mosquitto():
    broker = launched("mosquitto")
    yield broker
    broker.close()


@pytest.fixture
def quick(monkeypatch):
    """A sender that does not wait long."""
    monkeypatch.setattr(sender, "BACKOFF", (0.05, 0.1))
    monkeypatch.setattr(sender, "PATIENCE", 0.6)


@pytest.fixture
async def stage():
    context = Context()
    yield Stage("heater", context=context)
    await context.close()


class Ear:
    """Somebody who listens."""

    def __init__(self, client):
        self.client = client
        self.heard = []

    async def hear(self, wanted, within=10.0):
        """The next message for which `wanted(topic, content)` holds."""
        async with asyncio.timeout(within):
            async for message in self.client.messages:
                topic, content = str(message.topic), json.loads(message.payload)
                self.heard.append((topic, content))
                if wanted(topic, content):
                    return message
        raise AssertionError("the connection ended")


@asynccontextmanager
async def listening(broker, *subscriptions, version=aiomqtt.ProtocolVersion.V311):
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=version) as client:
        for subscription in subscriptions:
            await client.subscribe(subscription, qos=1)
        yield Ear(client)


def url(broker):
    return f"mqtt://127.0.0.1:{broker.port}"


def publisher(stage, broker, **settings):
    return Publisher(stage.context, [stage], url(broker), lab="em3", **settings)


async def until(condition, within=10.0):
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


both = pytest.mark.parametrize("thread", [False, True], ids=["on the lab's loop", "on a thread"])
# Which loop sends is nothing to the broker, so that both loops with both brokers show nothing new.
each = pytest.mark.parametrize(
    ("broker", "thread"),
    [("mosquitto", False), ("mosquitto", True), ("amqtt", False)],
    indirect=["broker"],
    ids=["mosquitto, the lab's loop", "mosquitto, a thread", "amqtt, the lab's loop"],
)


@pytest.mark.real_clock
@each
async def test_readings_and_nothing_else_arrive_under_insitu(stage, broker, thread):
    async with listening(broker, topics.READINGS) as ear, publisher(stage, broker, thread=thread):
        stage.setpoint.set(300.0)
        message = await ear.hear(lambda topic, content: topic.endswith("shutter"))
        assert topics.decode_reading(message.payload).value == "shut"
        message = await ear.hear(lambda topic, content: topic == "insitu/em3/heater/temperature")
        reading = topics.decode_reading(message.payload)
        assert (reading.value, reading.unit, reading.uncertainty) == (21.5, "degC", 0.1)
        assert abs(reading.time - time.time_ns()) < 5e9
        assert {topic for topic, _ in ear.heard} == {"insitu/em3/heater/temperature", "insitu/em3/heater/shutter"}


@pytest.mark.real_clock
async def test_who_comes_later_finds_what_every_signal_is_and_that_the_lab_is_online(stage, broker):
    async with publisher(stage, broker) as telemetry:
        await until(lambda: telemetry.connected)
        async with listening(broker, "insitu-meta/#") as ear:
            message = await ear.hear(lambda topic, content: topic.endswith("/setpoint"))
            assert message.retain
            about = topics.decode_description(message.payload)
            assert (about.limits, about.kind, about.identity) == ((-196.0, 600.0), "config", "soft stage 7")
            message = await ear.hear(lambda topic, content: topic.endswith("/state"))
            state = topics.decode_state(message.payload)
            assert state.online
            assert state.session == telemetry.session == about.session
            assert state.anchor == stage.context.timebase.anchor
            assert ("insitu-meta/em3/signals/heater/temperature") in {topic for topic, _ in ear.heard}


@pytest.mark.real_clock
@each
async def test_the_end_is_announced_as_clean_and_the_last_value_is_not_lost(stage, broker, thread):
    async with listening(broker, "insitu/#", topics.state_topic("em3")) as ear:
        async with publisher(stage, broker, thread=thread) as telemetry:
            await until(lambda: telemetry.counts.published >= 2)
            await stage.shutter.set("open")
        message = await ear.hear(lambda topic, content: content.get("state") == "offline")
        state = topics.decode_state(message.payload)
        assert state.clean
        assert state.time is not None
        shutters = [content["value"] for topic, content in ear.heard if topic.endswith("shutter")]
        assert shutters == ["shut", "open"]


@pytest.mark.real_clock
async def test_events_arrive_in_order_and_a_trip_stays_until_acknowledged(stage, broker):
    journal, context = stage.context.journal, stage.context
    async with publisher(stage, broker) as telemetry:
        await until(lambda: telemetry.connected)
        async with listening(broker, "insitu-meta/em3/events/+", topics.trip_topic("em3")) as ear:
            message = await ear.hear(lambda topic, content: topic == topics.trip_topic("em3"))
            assert not topics.decode_trip(message.payload).tripped
            await stage.setpoint.set(300.0)
            message = await ear.hear(lambda topic, content: topic.endswith("events/set"))
            event, number = topics.decode_event(message.payload)
            assert (event.device, event.text, event.data) == (
                "heater", "heater.setpoint = 300.0 degC", {"value": 300.0},
            )  # fmt: skip
            trip = journal.note("trip", "gauge", "vacuum failed")
            context.tripped = "vacuum failed; acknowledge it"
            message = await ear.hear(lambda topic, content: topic == topics.trip_topic("em3") and content["tripped"])
            state = topics.decode_trip(message.payload)
            assert state == topics.TripState(
                True, trip.time, "vacuum failed; acknowledge it", session=telemetry.session
            )
            async with listening(broker, topics.trip_topic("em3")) as latecomer:
                # amqtt gives whoever connects what it retains for anybody's subscription.
                message = await latecomer.hear(lambda topic, content: topic == topics.trip_topic("em3"))
                assert topics.decode_trip(message.payload) == state
            journal.note("acknowledge", "", "vacuum, by Ada")
            context.tripped = None
            await ear.hear(lambda topic, content: topic == topics.trip_topic("em3") and not content["tripped"])
            await until(lambda: telemetry.counts.events == number + 2)


@pytest.mark.real_clock
@both
async def test_clocks_tell_how_well_they_are_known_and_who_comes_later_finds_it(stage, mosquitto, thread, monkeypatch):
    monkeypatch.setattr(publishing, "CLOCKS", 0.1)
    clock = ExchangeClock(frequency=1e6, ppm=100.0, name="board")
    topic = topics.clock_topic("em3", "board")
    telemetry = publisher(stage, mosquitto, thread=thread, clocks=lambda: {"board": clock})
    async with telemetry, listening(mosquitto, topic) as ear:
        first = topics.decode_clock((await ear.hear(lambda *_: True)).payload)
        assert not first.usable
        assert first.offset is None
        now = stage.context.timebase.now()
        clock.add(Exchange(7, now - 2_000_000, 5_000_000, 5_000_010, now))  # the board has run for 5 s
        await ear.hear(lambda topic, content: content["exchanges"] == 1)
        async with listening(mosquitto, topic) as latecomer:
            message = await latecomer.hear(lambda *_: True)
        state = topics.decode_clock(message.payload)
        assert message.retain
        assert state.session == telemetry.session
        assert state.offset == pytest.approx(now - 5_000_000_000, abs=3_000_000)
        assert state.bound >= 990_000
        assert 0 <= state.age < 60


@pytest.mark.real_clock
async def test_a_failing_instrument_is_seen_at_once_with_the_reason(stage, broker):
    seldom = {"heater.temperature": Rate(every=2.0)}
    async with listening(broker, "insitu/em3/heater/temperature") as ear, publisher(stage, broker, rates=seldom):
        await ear.hear(lambda topic, content: content["quality"] == "good")
        stage.truth = NoReply("heater", "no reply to b'T' in 1 s; is it powered?")
        failed = asyncio.get_running_loop().time()
        reading = topics.decode_reading((await ear.hear(lambda topic, content: content["quality"] == "bad")).payload)
        assert asyncio.get_running_loop().time() - failed < 1.0  # the rate alone would take 2 s
        assert reading.value is None
        assert reading.quality is Quality.BAD
        assert "is it powered?" in reading.reason
        stage.truth = 22.0
        assert (
            json.loads((await ear.hear(lambda topic, content: content["quality"] == "good")).payload)["value"] == 22.0
        )


@pytest.mark.real_clock
@each
async def test_publishing_resumes_when_a_killed_broker_is_back_and_all_is_described_anew(stage, broker, thread, quick):
    async with publisher(stage, broker, thread=thread) as telemetry:
        await until(lambda: telemetry.connected)
        os.killpg(broker._process.pid, signal.SIGKILL)
        await until(lambda: not telemetry.connected)
        stage.context.journal.note("note", "", "while the broker was away")
        stage.truth = 33.0
        await asyncio.to_thread(broker.open)
        async with listening(broker, "insitu/#", "insitu-meta/#") as ear:
            await until(lambda: telemetry.connected)
            wanted = {"a value", "a description", "online"}

            def had(topic, content):
                wanted.discard("a value" if content.get("value") == 33.0 else content.get("state"))
                wanted.discard("a description" if topic == "insitu-meta/em3/signals/heater/setpoint" else "")
                return not wanted

            await ear.hear(had)
            await until(lambda: telemetry.counts.events >= 3)
    links = [event.text for event in stage.context.journal.recent if event.kind == "link"]
    assert [text.split()[0] for text in links] == ["publishing", "no", "publishing"]


@pytest.mark.real_clock
@both
async def test_an_embedded_broker_that_dies_is_started_again_on_its_port(stage, thread, quick):
    available("mosquitto")
    async with Publisher(stage.context, [stage], "embedded:", lab="em3", thread=thread) as telemetry:
        await until(lambda: telemetry.connected)
        port = telemetry.url.port
        os.killpg(telemetry._embedded._process.pid, signal.SIGKILL)
        await until(lambda: not telemetry.connected)
        await until(lambda: telemetry.connected)
        assert telemetry.url.port == port
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("insitu/+/+/+")
            assert await anext(aiter(client.messages))
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client("127.0.0.1", port):
            pass


def open_files():
    """How many files this process has open, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


async def polls_in(stage, seconds):
    """How often the shared poll came round, and the longest it kept the loop."""
    loop = asyncio.get_running_loop()
    before, longest, end = stage.polls, 0.0, loop.time() + seconds
    while loop.time() < end:
        began = loop.time()
        await asyncio.sleep(0.005)
        longest = max(longest, loop.time() - began)
    return stage.polls - before, longest


@pytest.mark.real_clock
@both
async def test_a_broker_that_hangs_stalls_no_poll_and_is_rejoined_when_it_wakes(
    stage, mosquitto, thread, quick, monkeypatch
):
    async with publisher(stage, mosquitto, thread=thread) as telemetry:
        await until(lambda: telemetry.counts.published > 3)
        open_before = open_files()
        monkeypatch.setattr(sender, "PATIENCE", 0.3)
        os.killpg(mosquitto._process.pid, signal.SIGSTOP)
        try:
            stage.context.journal.note("note", "", "nobody will acknowledge this for a while")
            polls, longest = await polls_in(stage, 3.0)  # several attempts to connect fall into this
            assert not telemetry.connected
            assert open_files() <= open_before + 2  # no attempt leaves a socket behind
        finally:
            os.killpg(mosquitto._process.pid, signal.SIGCONT)
        assert polls > 75  # of 150
        assert longest < 0.25
        await until(lambda: telemetry.connected)
        published = telemetry.counts.published
        await until(lambda: telemetry.counts.published > published)
        assert telemetry.counts.stored > 0
        await until(lambda: telemetry.outbox.waiting == 0)
        assert telemetry.counts.history >= telemetry.counts.stored


@pytest.mark.real_clock
@both
async def test_leaving_while_the_broker_hangs_takes_seconds_at_most(stage, mosquitto, thread, quick):
    telemetry = publisher(stage, mosquitto, thread=thread)
    await telemetry.start()
    await until(lambda: telemetry.connected)
    os.killpg(mosquitto._process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        await telemetry.stop()
        assert time.monotonic() - began < 5.0
    finally:
        os.killpg(mosquitto._process.pid, signal.SIGCONT)


@pytest.mark.real_clock
@both
async def test_a_broker_that_is_absent_is_noted_once_and_disturbs_nothing(stage, unused, thread, quick):
    telemetry = Publisher(stage.context, [stage], f"mqtt://ada:secret@127.0.0.1:{unused}", lab="em3", thread=thread)
    await telemetry.start()
    polls, longest = await polls_in(stage, 1.0)
    assert polls > 25
    assert longest < 0.25
    assert telemetry.outbox.waiting > 25
    began = time.monotonic()
    await telemetry.stop()
    assert time.monotonic() - began < 1.0
    notes = [event for event in stage.context.journal.recent if event.device == "telemetry"]
    assert len(notes) == 1
    assert "still trying" in notes[0].text
    assert "secret" not in notes[0].text
    assert stage.context.journal.listeners == []


@pytest.mark.real_clock
async def test_a_full_disk_is_told_once_raises_an_alarm_and_loses_nothing_memory_holds(
    stage, mosquitto, quick, monkeypatch, tmp_path
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    mosquitto.close()
    monkeypatch.setattr(publishing, "OUTBOX", 0.1)
    async with publisher(stage, mosquitto, outbox=tmp_path / "outbox") as telemetry:
        monkeypatch.setattr(outbox.os, "write", full)
        polls = stage.polls
        await until(lambda: telemetry.outbox.full and telemetry.alarms)
        await until(lambda: stage.polls > polls + 30)
        errors = [event.text for event in stage.context.journal.recent if event.kind == "error"]
        assert len(errors) == 1
        assert "No space left on device" in errors[0]
        assert "make room on the disk" in errors[0]
        async with opened(mosquitto) as ear:
            message = await ear.hear(lambda topic, content: topic.endswith("alarms/outbox") and content["active"])
            assert "make room" in decode_alarm(message.payload).text
            await until(lambda: telemetry.outbox.waiting == 0)
        monkeypatch.undo()
        await until(lambda: not telemetry.outbox.full)
        assert telemetry.outbox.dropped_full == 0
        assert telemetry.counts.history > 30


@pytest.mark.real_clock
async def test_on_a_disk_that_can_only_be_read_the_outbox_is_in_memory_and_that_is_told(
    stage, mosquitto, tmp_path, monkeypatch
):
    (tmp_path / "outbox").mkdir()
    opened = os.open

    def read_only(path, flags, *mode, **more):
        if flags & os.O_RDWR and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", read_only)
    async with publisher(stage, mosquitto, outbox=tmp_path / "outbox") as telemetry:
        await until(lambda: telemetry.counts.published > 3)
    (text,) = [event.text for event in stage.context.journal.recent if event.kind == "error"]
    assert "Read-only file system" in text
    assert "readings wait in memory only" in text


@pytest.mark.real_clock
async def test_two_labs_with_one_outbox_both_publish_and_the_second_is_told(stage, mosquitto, tmp_path):
    other = Stage("other", context=Context())
    async with (
        publisher(stage, mosquitto, outbox=tmp_path),
        Publisher(other.context, [other], url(mosquitto), lab="em4", outbox=tmp_path),
        listening(mosquitto, "insitu/+/+/temperature") as ear,
    ):
        await ear.hear(lambda topic, content: topic.startswith("insitu/em3"))
        await ear.hear(lambda topic, content: topic.startswith("insitu/em4"))
    assert any("give each a folder of its own" in event.text for event in other.context.journal.recent)
    assert not any(event.kind == "error" for event in stage.context.journal.recent)
    await other.context.close()


@pytest.mark.real_clock
async def test_what_one_session_could_not_send_the_next_one_sends_as_history(stage, mosquitto, quick, tmp_path):
    mosquitto.close()
    acquired = []
    async with publisher(stage, mosquitto, outbox=tmp_path):
        stage.temperature.subscribe(note := lambda reading: acquired.append(str(reading.time)))
        await until(lambda: len(acquired) >= 20)
        stage.temperature.unsubscribe(note)
    async with opened(mosquitto, "insitu-history/em3/heater/temperature") as ear:
        async with publisher(stage, mosquitto, outbox=tmp_path):
            await ear.hear(lambda topic, content: content["time"] == acquired[19])
    heard = [content for _, content in ear.heard]
    times = [content["time"] for content in heard]
    assert times[times.index(acquired[0]) :][:20] == acquired[:20]
    assert all(content["history"] is True for content in heard)


@asynccontextmanager
async def opened(broker, subscription="insitu-meta/#"):
    """The broker is there now, and somebody listens."""
    await asyncio.to_thread(broker.open)
    async with listening(broker, subscription) as ear:
        yield ear


@pytest.fixture
def unused():
    """A port nobody listens on."""
    broker = launched("mosquitto")
    broker.close()
    return broker.port


@pytest.mark.real_clock
async def test_every_reading_of_a_fast_signal_is_published_live_and_in_order(stage, mosquitto):
    acquired = []
    async with listening(mosquitto, "insitu/em3/heater/temperature") as ear:
        async with publisher(stage, mosquitto) as telemetry:
            await until(lambda: telemetry.connected)
            stage.temperature.subscribe(lambda reading: acquired.append(str(reading.time)))
            await until(lambda: len(acquired) >= 30)
        await ear.hear(lambda topic, content: content["time"] == acquired[29])
    heard = [content["time"] for _, content in ear.heard]
    assert heard[heard.index(acquired[0]) :] == acquired[:30]


@pytest.mark.real_clock
async def test_a_decimated_signal_tells_of_every_spike(stage, mosquitto):
    async with (
        listening(mosquitto, "insitu/em3/heater/temperature") as ear,
        publisher(stage, mosquitto, rates={"heater": Rate(every=0.5)}),
    ):
        await ear.hear(lambda *_: True)
        polls = stage.polls
        await until(lambda: stage.polls > polls + 2)
        stage.truth, polls = 99.0, stage.polls
        await until(lambda: stage.polls > polls)
        stage.truth = 21.5
        message = await ear.hear(lambda topic, content: content["max"] == 99.0)
        content = json.loads(message.payload)
        assert (content["value"], content["min"]) == (21.5, 21.5)
        assert 21.5 < content["mean"] < 99.0
        assert content["count"] > 3


@pytest.mark.real_clock
async def test_a_small_message_is_not_held_back_until_the_one_before_is_there(stage, mosquitto, monkeypatch):
    """Nagle's algorithm would make an event after a reading 40 ms late (RFC 896, RFC 1122 4.2.3.2)."""
    clients = []

    class Client(aiomqtt.Client):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            clients.append(self)

    monkeypatch.setattr(aiomqtt, "Client", Client)
    async with publisher(stage, mosquitto) as telemetry:
        await until(lambda: telemetry.connected)
        assert clients[-1]._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.real_clock
async def test_a_subscriber_of_mqtt_5_gets_the_same(stage, mosquitto):
    async with (
        publisher(stage, mosquitto),
        listening(mosquitto, topics.READINGS, version=aiomqtt.ProtocolVersion.V5) as ear,
    ):
        assert topics.decode_reading((await ear.hear(lambda *_: True)).payload).quality is Quality.GOOD


@pytest.mark.real_clock
async def test_a_second_start_publishes_again(stage, mosquitto):
    telemetry = publisher(stage, mosquitto)
    for _ in range(2):
        async with telemetry:
            await until(lambda: telemetry.connected)
        assert not telemetry.connected


@pytest.mark.real_clock
@pytest.mark.parametrize("program", ["mosquitto", "amqtt"])
async def test_the_dashboard_that_knows_nothing_of_the_package_prints_the_readings(stage, program, monkeypatch):
    available(program)
    monkeypatch.setattr(module, "_program", lambda _, find=module._program: find(program))
    example = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "dashboard.py")
    stage.truth = NoReply("heater", "no reply")
    async with Publisher(stage.context, [stage], "embedded:", lab="em3") as telemetry:
        dashboard = await asyncio.create_subprocess_exec(
            sys.executable, example, "127.0.0.1", str(telemetry.url.port), "40",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, errors = await asyncio.wait_for(dashboard.communicate(), 20)
    assert not errors
    lines = out.decode().splitlines()
    assert len(lines) == 40
    assert any("heater.temperature" in line and "unknown degC  (bad: heater: no reply)" in line for line in lines)
    assert any("heater.shutter" in line and "shut" in line for line in lines)


@pytest.mark.real_clock
@pytest.mark.needs_tool("mosquitto_sub")
async def test_mosquitto_sub_as_the_reference_shows_it_prints_topic_and_json(stage, mosquitto):
    async with publisher(stage, mosquitto):
        listener = await asyncio.create_subprocess_exec(
            "mosquitto_sub", "-h", "127.0.0.1", "-p", str(mosquitto.port), "-v", "-C", "3", "-t", "insitu/+/+/+",
            stdout=subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(listener.communicate(), 20)
    for line in out.decode().splitlines():
        topic, _, payload = line.partition(" ")
        assert topics.source(topic)[:2] == ("em3", "heater")
        topics.decode_reading(payload)


async def test_names_that_mqtt_cannot_carry_are_refused_before_anything_is_opened(stage):
    with pytest.raises(ConfigError, match="the lab name 'em/3' has '/'"):
        Publisher(stage.context, [stage], "mqtt://localhost", lab="em/3")
    with pytest.raises(ConfigError, match="the device name 'heater#1' has '#'"):
        Publisher(stage.context, [Stage("heater#1")], "mqtt://localhost", lab="em3")


async def test_on_a_loop_that_cannot_watch_sockets_the_sender_gets_a_thread():
    assert not _watches_sockets(asyncio.get_running_loop())  # the clock that jumps is such a loop
