"""A soft instrument, and somebody who listens: for tests of publishing on real brokers."""

import asyncio
import importlib.util
import json
import os
import shutil
import threading
import time
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from hal.capabilities import Thermometer
from hal.instrument.address import ReadOnly, Soft
from hal.model.device import Device
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.publisher import Publisher


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


class Ear:
    """Somebody who listens."""

    def __init__(self, client):
        self.client = client
        self.heard = []

    async def hear(self, wanted, within=60.0):
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


async def until(condition, within=60.0):
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


class Machine:
    """How the machine treats a thread that only sleeps: what is compared with that asks nothing of its speed."""

    def __init__(self):
        self.beats, self.longest, self.lost = 0, 0.0, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _beat(self):
        while not self._over.is_set():
            began = time.monotonic()
            time.sleep(Stage.temperature.poll)
            late = time.monotonic() - began - Stage.temperature.poll
            self.beats, self.longest, self.lost = self.beats + 1, max(self.longest, late), self.lost + late


async def polls_in(stage, seconds):
    """How often the shared poll came round, the longest it kept the loop, and how the machine was meanwhile."""
    loop = asyncio.get_running_loop()
    before, longest, end = stage.polls, 0.0, loop.time() + seconds
    with Machine() as machine:
        while loop.time() < end:
            began = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - began)
        return stage.polls - before, longest, machine


both_loops = pytest.mark.parametrize("thread", [False, True], ids=["on the lab's loop", "on a thread"])
