"""A disk that is full, can only be read, or is somebody else's: told once, and nothing else is disturbed."""

import asyncio
import errno
import os
from contextlib import asynccontextmanager

import pytest
from soft_stage import Stage, listening, publisher, until, url

from hal.model.context import Context
from hal.telemetry import outbox
from hal.telemetry import publisher as publishing
from hal.telemetry.alarms import decode_alarm
from hal.telemetry.publisher import Publisher


@asynccontextmanager
async def opened(broker, subscription="insitu-meta/#"):
    """The broker is there now, and somebody listens."""
    await asyncio.to_thread(broker.open)
    async with listening(broker, subscription) as ear:
        yield ear


@pytest.mark.real_clock
async def test_a_full_disk_is_told_once_raises_an_alarm_and_loses_nothing_memory_holds(
    stage, own_mosquitto, quick, monkeypatch, tmp_path
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    own_mosquitto.close()
    monkeypatch.setattr(publishing, "OUTBOX", 0.1)
    async with publisher(stage, own_mosquitto, outbox=tmp_path / "outbox") as telemetry:
        monkeypatch.setattr(outbox.os, "write", full)
        polls = stage.polls
        await until(lambda: telemetry.outbox.full and telemetry.alarms)
        await until(lambda: stage.polls > polls + 30)
        errors = [event.text for event in stage.context.journal.recent if event.kind == "error"]
        assert len(errors) == 1
        assert "No space left on device" in errors[0]
        assert "make room on the disk" in errors[0]
        async with opened(own_mosquitto) as ear:
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
async def test_what_one_session_could_not_send_the_next_one_sends_as_history(stage, own_mosquitto, quick, tmp_path):
    own_mosquitto.close()
    acquired = []
    async with publisher(stage, own_mosquitto, outbox=tmp_path):
        stage.temperature.subscribe(note := lambda reading: acquired.append(str(reading.time)))
        await until(lambda: len(acquired) >= 20)
        stage.temperature.unsubscribe(note)
    async with opened(own_mosquitto, "insitu-history/em3/heater/temperature") as ear:
        async with publisher(stage, own_mosquitto, outbox=tmp_path):
            await ear.hear(lambda topic, content: content["time"] == acquired[19])
    heard = [content for _, content in ear.heard]
    times = [content["time"] for content in heard]
    assert times[times.index(acquired[0]) :][:20] == acquired[:20]
    assert all(content["history"] is True for content in heard)
