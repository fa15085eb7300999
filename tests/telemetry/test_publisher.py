"""Publishing to real brokers: what arrives, and how."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time

import aiomqtt
import pytest
from soft_stage import Stage, available, both_loops, listening, publisher, until

from hal.clock.exchange import Exchange
from hal.clock.exchange_clock import ExchangeClock
from hal.errors import ConfigError, NoReply
from hal.model.reading import Quality
from hal.telemetry import broker as module
from hal.telemetry import clock_states, descriptions, topics
from hal.telemetry import publisher as publishing
from hal.telemetry.publisher import Publisher, _watches_sockets
from hal.telemetry.rates import Rate

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
            about = descriptions.decode_description(message.payload)
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
        assert list(dict.fromkeys(shutters)) == ["shut", "open"]  # each perhaps more than once: it is polled as well
        assert shutters[-1] == "open"


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
@both_loops
async def test_clocks_tell_how_well_they_are_known_and_who_comes_later_finds_it(stage, mosquitto, thread, monkeypatch):
    monkeypatch.setattr(publishing, "CLOCKS", 0.1)
    clock = ExchangeClock(frequency=1e6, ppm=100.0, name="board")
    topic = topics.clock_topic("em3", "board")
    telemetry = publisher(stage, mosquitto, thread=thread, clocks=lambda: {"board": clock})
    async with telemetry, listening(mosquitto, topic) as ear:
        first = clock_states.decode_clock((await ear.hear(lambda *_: True)).payload)
        assert not first.usable
        assert first.offset is None
        now = stage.context.timebase.now()
        clock.add(Exchange(7, now - 2_000_000, 5_000_000, 5_000_010, now))  # the board has run for 5 s
        await ear.hear(lambda topic, content: content["exchanges"] == 1)
        async with listening(mosquitto, topic) as latecomer:
            message = await latecomer.hear(lambda *_: True)
        state = clock_states.decode_clock(message.payload)
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
