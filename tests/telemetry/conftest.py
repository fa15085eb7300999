"""Brokers: one for all tests of a file that only talk to it, and one for each test that harms it."""

import asyncio

import aiomqtt
import pytest
from soft_stage import Stage, launched

from hal.model.context import Context
from hal.telemetry import sender


@pytest.fixture(scope="module")
def kept_brokers():
    """Those that were started for this file, by program."""
    brokers = {}
    yield brokers
    for broker in brokers.values():
        broker.close()


async def forgetful(brokers, program):
    """The file's broker of this kind, which has forgotten what earlier tests had it retain."""
    if program not in brokers:
        brokers[program] = await asyncio.to_thread(launched, program)
        return brokers[program]
    broker = brokers[program]
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe([("insitu-meta/#", 0), ("over", 0)])
        await client.publish("over", b"x")
        async for message in client.messages:
            if str(message.topic) == "over":
                break
            if message.retain:
                await client.publish(message.topic.value, b"", 1, retain=True)
    return broker


@pytest.fixture(params=["mosquitto", "amqtt"])
async def broker(request, kept_brokers):
    """One that is not to be harmed."""
    return await forgetful(kept_brokers, request.param)


@pytest.fixture
async def mosquitto(kept_brokers):
    """One that is not to be harmed."""
    return await forgetful(kept_brokers, "mosquitto")


@pytest.fixture(params=["mosquitto", "amqtt"])
def own_broker(request):
    """One that may be killed."""
    broker = launched(request.param)
    yield broker
    broker.close()


@pytest.fixture
def own_mosquitto():
    """One that may be killed."""
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
