"""What a lab says besides readings: its devices, their links' alarms, how cameras film, what boards sample."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiomqtt
import numpy as np
import pytest

from hal import Lab
from hal.telemetry import publisher as publishing
from hal.telemetry import topics
from hal.telemetry.alarms import decode_alarm
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.publisher import Publisher
from hal.telemetry.states import decode_detector, decode_device
from hal.telemetry.streams import POINTS, chunk_of, decode_chunk, encode_chunk

LAB = """
schema = 1
[lab]
name = "em3"
[devices.heater]
driver = "linkam_t95"
on_link_lost = "reconnect"
within = 60
[devices.camera]
driver = "merlin"
frame_clock = "board"
frame_input = 0
emulator = { fps = 25 }
[devices.board]
driver = "insitu_mcu"
"""


@pytest.fixture
def broker():
    broker = EmbeddedBroker(program="mosquitto")
    broker.open()
    yield broker
    broker.close()


@asynccontextmanager
async def listening(broker, topic):
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(topic, qos=1)
        yield client


async def heard(client, wanted=lambda content: True, within=60.0):
    """The next message for whose content `wanted` holds."""
    async with asyncio.timeout(within):
        async for message in client.messages:
            if wanted(json.loads(message.payload)):
                return message
    raise AssertionError("the connection ended")


@pytest.mark.needs_tool("mosquitto")
@pytest.mark.real_clock
async def test_devices_links_cameras_and_streams_are_told_of(broker, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "DETECTOR", 0.2)
    (tmp_path / "lab.toml").write_text(LAB)
    url = f"mqtt://127.0.0.1:{broker.port}"
    async with (
        Lab.open(tmp_path / "lab.toml") as lab,
        Publisher(lab.context, lab.devices.values(), url, lab="em3") as telemetry,
    ):
        async with listening(broker, topics.device_topic("em3", "heater")) as client:
            device = decode_device((await heard(client)).payload)
            assert (device.state, device.reason) == ("ready", "")
            assert device.identity == lab.devices["heater"].identity
            assert device.driver == "devices.linkam_t95.driver:LinkamT95"
            assert "Heater" in device.capabilities
            assert device.session == telemetry.session

        async with listening(broker, topics.alarm_topic("em3", "link-heater")) as client:
            alarm = decode_alarm((await heard(client)).payload)  # of an earlier session none is left
            assert (alarm.active, alarm.acknowledged) == (False, True)
            lab.emulation.links["emulator:heater"].unplug()
            alarm = decode_alarm((await heard(client, lambda content: content["active"])).payload)
            assert alarm.severity == "alarm"
            assert "heater" in alarm.text
            async with listening(broker, topics.device_topic("em3", "heater")) as other:
                lost = decode_device((await heard(other, lambda content: content["state"] == "lost")).payload)
                assert lost.reason == alarm.text
            await lab.emulation.links["emulator:heater"].plug()
            alarm = decode_alarm((await heard(client, lambda content: not content["active"])).payload)
            assert not alarm.acknowledged
            assert telemetry.acknowledge("link-heater", "Ada")
            message = await heard(client, lambda content: content["acknowledged"])
            assert message.retain is False
            assert decode_alarm(message.payload).by == "Ada"
            assert not telemetry.acknowledge("link-heater", "Ada")
            assert not telemetry.alarms

        async with listening(broker, topics.detector_topic("em3", "camera")) as client, lab.devices["camera"].filming():
            # The rate is that of the last moment, in which a camera on a busy machine may have sent nothing.
            wanted = lambda content: (content["matched"] or 0) > 0.9 and content["rate"] > 0  # noqa: E731
            state = decode_detector((await heard(client, wanted)).payload)
            assert state.frames > 10
            assert state.bound_ns > 0

        board = lab.devices["board"]
        async with listening(broker, topics.stream_topic("em3", "board", "input0")) as client:
            begun = lab.context.timebase.now()
            async with board.sampling((0,), 1000.0):
                chunk = decode_chunk((await heard(client)).payload)
                heard_of = len(chunk.values)
                while heard_of <= 100:  # a machine that stalls cuts them short
                    heard_of += len(decode_chunk((await heard(client)).payload).values)
            assert (chunk.device, chunk.name, chunk.unit) == ("board", "input0", "V")
            assert chunk.step == pytest.approx(1e-3, rel=1e-3)
            assert 0 < chunk.time_bound < 10e9
            assert begun - chunk.time_bound <= chunk.time <= lab.context.timebase.now()


def test_a_fast_stream_is_reduced_without_hiding_a_spike():
    samples = np.zeros(10 * POINTS)
    samples[1234] = 5.0
    samples[2000:2010] = np.nan
    chunk = chunk_of("board", "input0", "V", 10**18, 1000, 1e-4, samples, 3)
    assert len(chunk.values) == POINTS
    assert chunk.step == pytest.approx(1e-3)
    assert (max(v for v in chunk.max if v is not None), chunk.max[123], chunk.values[123]) == (5.0, 5.0, 0.5)
    assert (chunk.values[200], chunk.min[200]) == (None, None)
    assert chunk.time - 10**18 == 450_000  # the middle of the first ten samples
    assert decode_chunk(encode_chunk(chunk)) == chunk
