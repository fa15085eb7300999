"""A broker that is killed, hangs or is absent disturbs nothing, and is rejoined when it is back."""

import asyncio
import os
import signal
import time

import aiomqtt
import pytest
from soft_stage import Machine, available, both_loops, launched, listening, polls_in, publisher, until

from hal.telemetry import sender
from hal.telemetry.publisher import Publisher

each_killed = pytest.mark.parametrize(
    ("own_broker", "thread"),
    [("mosquitto", False), ("mosquitto", True), ("amqtt", False)],
    indirect=["own_broker"],
    ids=["mosquitto, the lab's loop", "mosquitto, a thread", "amqtt, the lab's loop"],
)


@pytest.fixture
def unused():
    """A port nobody listens on."""
    broker = launched("mosquitto")
    broker.close()
    return broker.port


@pytest.mark.real_clock
@each_killed
async def test_publishing_resumes_when_a_killed_broker_is_back_and_all_is_described_anew(
    stage, own_broker, thread, quick
):
    async with publisher(stage, own_broker, thread=thread) as telemetry:
        await until(lambda: telemetry.connected)
        os.killpg(own_broker._process.pid, signal.SIGKILL)
        await until(lambda: not telemetry.connected)
        stage.context.journal.note("note", "", "while the broker was away")
        stage.truth = 33.0
        await asyncio.to_thread(own_broker.open)
        async with listening(own_broker, "insitu/#", "insitu-meta/#") as ear:
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
@both_loops
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


@pytest.mark.real_clock
@both_loops
async def test_a_broker_that_hangs_stalls_no_poll_and_is_rejoined_when_it_wakes(
    stage, own_mosquitto, thread, quick, monkeypatch
):
    async with publisher(stage, own_mosquitto, thread=thread) as telemetry:
        await until(lambda: telemetry.counts.published > 3)
        open_before = open_files()
        monkeypatch.setattr(sender, "PATIENCE", 0.3)
        os.killpg(own_mosquitto._process.pid, signal.SIGSTOP)
        try:
            stage.context.journal.note("note", "", "nobody will acknowledge this for a while")
            polls, longest, machine = await polls_in(stage, 1.5)  # two attempts to connect fall into this, at least
            assert not telemetry.connected
            assert open_files() <= open_before + 2  # no attempt leaves a socket behind
        finally:
            os.killpg(own_mosquitto._process.pid, signal.SIGCONT)
        assert polls > machine.beats / 2
        assert longest < 0.25 + machine.longest
        await until(lambda: telemetry.connected)
        published = telemetry.counts.published
        await until(lambda: telemetry.counts.published > published)
        assert telemetry.counts.stored > 0
        await until(lambda: telemetry.outbox.waiting == 0)
        assert telemetry.counts.history >= telemetry.counts.stored


@pytest.mark.real_clock
@both_loops
async def test_leaving_while_the_broker_hangs_takes_seconds_at_most(stage, own_mosquitto, thread, quick):
    telemetry = publisher(stage, own_mosquitto, thread=thread)
    await telemetry.start()
    await until(lambda: telemetry.connected)
    os.killpg(own_mosquitto._process.pid, signal.SIGSTOP)
    try:
        with Machine() as machine:
            began = time.monotonic()
            await telemetry.stop()
            took = time.monotonic() - began
        assert took < 5.0 + machine.lost
    finally:
        os.killpg(own_mosquitto._process.pid, signal.SIGCONT)


@pytest.mark.real_clock
@both_loops
async def test_a_broker_that_is_absent_is_noted_once_and_disturbs_nothing(stage, unused, thread, quick):
    telemetry = Publisher(stage.context, [stage], f"mqtt://ada:secret@127.0.0.1:{unused}", lab="em3", thread=thread)
    await telemetry.start()
    polls, longest, machine = await polls_in(stage, 1.0)
    assert polls > machine.beats / 2
    assert longest < 0.25 + machine.longest
    await until(lambda: telemetry.outbox.waiting > 25)
    with Machine() as machine:
        began = time.monotonic()
        await telemetry.stop()
        took = time.monotonic() - began
    assert took < 1.0 + machine.lost
    notes = [event for event in stage.context.journal.recent if event.device == "telemetry"]
    assert len(notes) == 1
    assert "still trying" in notes[0].text
    assert "secret" not in notes[0].text
    assert stage.context.journal.listeners == []
