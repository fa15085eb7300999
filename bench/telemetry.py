"""What telemetry costs: messages to a real mosquitto beside bare aiomqtt and paho, and what it does to acquisition.

The same payloads go to the same broker in the same run. A round is over once the broker has acknowledged a last
message of QoS 1 behind all others: MQTT keeps the order, so it has them all.

- ours: readings handed to their signal, as a poll does; encoded, counted, spooled, sent, confirmed one by one.
- aiomqtt: `await client.publish(...)`, one after another, which is how it is meant to be used; at QoS 1 that waits for
  each acknowledgement, so a second row has 64 tasks doing it at once.
- paho: `client.publish(...)` with its own thread, and the last acknowledgement waited for.

All make the same readings and encode them by the same function.

Second part: 1,000 signals polled at 10 Hz in a process that has one core. How late each poll is, without telemetry
and with it, in turns. The broker is on another core where there is one. On a busy machine, where the process does not
get the one core, this says little; `chrt -r 1 python bench/telemetry.py` gives it that core.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import aiomqtt
import numpy as np
import paho.mqtt.client as paho
from _measure import OURS, Figure, Work, arguments, finish, header, measure

from hal.instrument.address import ReadOnly
from hal.model.context import Context
from hal.model.device import Device
from hal.model.reading import Answer, Reading
from hal.model.signal import Kind, SignalR
from hal.telemetry import topics
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.publisher import Publisher

AIOMQTT, TASKS, PAHO = "aiomqtt", "aiomqtt, 64 tasks", "paho, its thread"
COUNT = 1000
"""Messages in a round. Ours may wait half a second at most before they are written to the outbox too."""
NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
DEVICES, EACH, PERIOD = 100, 10, 0.1
SPAN = 4.0  # s of polling in a round


class Silent(ReadOnly):
    """Never asked: the bench publishes."""

    def question(self, device: Any) -> Any:
        return id(self), device.name

    async def ask(self, device: Any) -> Answer:
        await asyncio.sleep(3600)
        raise AssertionError

    def value(self, device: Any, payload: Any) -> Any:
        return payload


class Stage(Device):
    temperature = SignalR(float, "degC", at=Silent(), kind=Kind.HINTED, poll=0.1)


# ---------------------------------------------------------------------- messages


def readings(count: int) -> list[Reading[float]]:
    """As many different ones."""
    now = time.time_ns()
    return [Reading(20.0 + n / 7, "degC", now + n * 1_000_000, 5_000_000, 0.1) for n in range(count)]


@asynccontextmanager
async def ours(port: int, qos: int) -> AsyncIterator[Work]:
    """Publish by the lab's own publisher."""
    context = Context()
    stage = Stage("heater", context=context)
    async with Publisher(context, [stage], f"mqtt://127.0.0.1:{port}", lab="bench", qos=qos) as telemetry:
        await until(lambda: telemetry.connected)

        async def work(count: int) -> None:
            made, before, counts = readings(count), telemetry.counts.published, telemetry.counts
            for number, reading in enumerate(made):
                stage.temperature.publish(reading)
                if number % 16 == 15:
                    await asyncio.sleep(0)  # as polls do
            await until(lambda: counts.published >= before + count)
            said = counts.events
            context.journal.note("note", "bench", "all sent")
            await until(lambda: counts.events > said)
            assert counts.stored == counts.dropped == 0, counts

        yield work
    await context.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait without computing much: what computes here is measured."""
    while not condition():  # noqa: ASYNC110 the publisher has no event for the bench's sake
        await asyncio.sleep(0.001)


def encoded(count: int) -> list[bytes]:
    return [topics.encode_reading(reading) for reading in readings(count)]


TOPIC = topics.reading_topic("bench", "heater", "temperature")


@asynccontextmanager
async def bare(port: int, qos: int, tasks: int) -> AsyncIterator[Work]:
    """Publish by aiomqtt."""
    async with aiomqtt.Client("127.0.0.1", port, socket_options=NODELAY) as client:
        client.pending_calls_threshold = 1000

        async def work(count: int) -> None:
            waiting = iter(encoded(count))

            async def publish() -> None:
                for payload in waiting:
                    await client.publish(TOPIC, payload, qos)

            await asyncio.gather(*(publish() for _ in range(tasks)))
            await client.publish("bench/last", b"", 1)

        yield work


@asynccontextmanager
async def threaded(port: int, qos: int) -> AsyncIterator[Work]:
    """Publish by paho and the thread it brings."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(64)
    client.connect("127.0.0.1", port)
    client.socket().setsockopt(*NODELAY[0])  # type: ignore[union-attr]
    client.loop_start()

    def work(count: int) -> None:
        for payload in encoded(count):
            client.publish(TOPIC, payload, qos)
        client.publish("bench/last", b"", 1).wait_for_publish(30)

    yield work
    client.disconnect()
    client.loop_stop()


def by_cpu(work: Work) -> Work:
    """The same, measured by what this process computed."""

    async def timed(count: int) -> float:
        begun = time.process_time()
        result = work(count)
        if result is not None:
            await result
        return time.process_time() - begun

    return timed


async def messages(port: int, rounds: int) -> list[Figure]:
    figures = []
    for qos in (0, 1):
        async with AsyncExitStack() as stage:
            contestants = {
                OURS: await stage.enter_async_context(ours(port, qos)),
                AIOMQTT: await stage.enter_async_context(bare(port, qos, 1)),
                TASKS: await stage.enter_async_context(bare(port, qos, 64)),
                PAHO: await stage.enter_async_context(threaded(port, qos)),
            }
            run = partial(measure, rounds=rounds, slice_=0.0)
            figures.append(await run(Figure(f"a message at QoS {qos}", contestants, {AIOMQTT: 1.25}, fixed=COUNT)))
            computed = {name: by_cpu(work) for name, work in contestants.items()}
            figures.append(await run(Figure("  of it computing here", computed, {AIOMQTT: 1.25}, fixed=COUNT)))
    return figures


# ---------------------------------------------------------------------- a thousand signals


class Probe(ReadOnly):
    """A value, and when it was asked for."""

    def __init__(self, number: int) -> None:
        self.number = number

    def question(self, device: Any) -> Any:
        return device.name, self.number

    async def ask(self, device: Any) -> Answer:
        device.asked[self.number].append(time.perf_counter())
        await asyncio.sleep(0)
        now = device.context.timebase.now()
        return Answer(now % 1000 / 7, now, now)

    def value(self, device: Any, payload: Any) -> Any:
        return payload


Ten = type(
    "Ten", (Device,), {f"s{n}": SignalR(float, "V", at=Probe(n), kind=Kind.HINTED, poll=PERIOD) for n in range(EACH)}
)


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(core: int | None = None) -> None:
    """Let this thread, and what it begins, have one core only; None: all again."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, CORES if core is None else [CORES[core]])


async def acquire(port: int, qos: int | None) -> dict[str, Any]:
    """Poll for `SPAN` seconds, and publish to the broker at `port`; `qos` None: don't."""
    context = Context()
    devices: list[Any] = [Ten(f"d{n}", context=context) for n in range(DEVICES)]
    for device in devices:
        device.asked = [[] for _ in range(EACH)]
    signals = [signal for device in devices for signal in device.signals()]
    assert len(signals) == DEVICES * EACH
    async with AsyncExitStack() as stage:
        telemetry = None
        if qos is not None:
            publisher = Publisher(context, devices, f"mqtt://127.0.0.1:{port}", lab="thousand", qos=qos)
            telemetry = await stage.enter_async_context(publisher)
            await until(lambda: publisher.connected)
        for signal in signals:
            signal.subscribe(lambda reading: None)
        await asyncio.sleep(1.0)
        gc.collect()
        gc.freeze()  # all that has been imported takes 50 ms to look through, with telemetry or without
        await asyncio.sleep(0.5)
        for device in devices:
            for asked in device.asked:
                asked.clear()
        computed, begun = time.process_time(), time.perf_counter()
        await asyncio.sleep(SPAN)
        computed, took = time.process_time() - computed, time.perf_counter() - begun
        late = np.concatenate([np.diff(asked) - PERIOD for device in devices for asked in device.asked])
        read = sum(len(asked) for device in devices for asked in device.asked)
        counts = telemetry.counts if telemetry is not None else None
    gc.unfreeze()
    await context.close()
    return {
        "read": read / took,
        "cpu": computed / took,
        "jitter": np.percentile(np.abs(late), [50, 99, 100]) * 1e3,
        "counts": counts,
    }


async def thousand(port: int, rounds: int) -> None:
    pin(0)
    print(f"\n{DEVICES * EACH} signals at {1 / PERIOD:g} Hz on one core, {SPAN:g} s a round")
    print(f"{'':22}{'readings/s':>12}{'core':>8}{'jitter: median':>18}{'99 %':>10}{'worst':>10}")
    found: dict[int | None, list[dict[str, Any]]] = {None: [], 0: [], 1: []}
    for number in range(rounds):
        names = list(found) if number % 2 else list(found)[::-1]
        for name in names:
            found[name].append(await acquire(port, name))
    for qos, results in found.items():
        name = "without telemetry" if qos is None else f"with, QoS {qos}"
        middle, most, worst = np.median([result["jitter"] for result in results], axis=0)
        read, cpu = (np.median([result[key] for result in results]) for key in ("read", "cpu"))
        print(f"{name:22}{read:12.0f}{cpu:8.0%}{middle:15.2f} ms{most:7.2f} ms{worst:7.2f} ms")
        if qos is not None:
            share = np.median([r["counts"].published / (r["counts"].published + r["counts"].stored) for r in results])
            lost = max(result["counts"].dropped for result in results)
            print(f"{'':22}{share:.0%} came live, the others by way of the outbox; lost: {lost}")


async def main() -> None:
    options = arguments(__doc__, rounds=15)
    header("Telemetry", ("aiomqtt", "paho-mqtt"))
    broker = EmbeddedBroker(program="mosquitto")
    pin(1)  # the broker inherits it
    broker.open()
    pin()
    try:
        figures = await messages(broker.port, options.rounds)
        await thousand(broker.port, max(1, options.rounds // 5))
    finally:
        await asyncio.to_thread(broker.close)
    finish(figures, check=options.check)


if __name__ == "__main__":
    asyncio.run(main())
