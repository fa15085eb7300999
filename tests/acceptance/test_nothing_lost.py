"""The archive has no holes: the broker goes away twice, the lab's program is killed, and every reading arrives.

The long version, as the archive's owner would try it: ``AWAY=60 pytest tests/acceptance/test_nothing_lost.py``.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import paho.mqtt.client as paho
import pytest

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("mosquitto")]

AWAY = float(os.environ.get("AWAY", "1.5"))
"""Seconds the broker is away, each time."""
THERE = min(AWAY, 5.0)
"""Seconds it is there in between."""

LAB = """
schema = 1
[lab]
name = "em3"
[devices.heater]
driver = "linkam_t95"
link = "emulator:"
poll.temperature = 0.02
[devices.gauge]
driver = "pfeiffer_tpg36x"
link = "emulator:"
poll.pressure = 0.05
[telemetry]
broker = "mqtt://127.0.0.1:{port}"
outbox = "outbox"
"""

# Every reading it acquires goes to a file at once, beside telemetry and later than to it.
SCRIPT = """
import asyncio, os, signal
from functools import partial
from hal import Lab
from hal.telemetry.topics import streamed

async def main():
    log = os.open("acquired", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    over = asyncio.Event()
    async with Lab.open("lab.toml") as lab:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, over.set)
        def note(path, reading):
            if not over.is_set():
                os.write(log, f"{path} {reading.time}\\n".encode())
        for each in lab.signals():
            if streamed(each):
                each.subscribe(partial(note, each.path))
        print("acquiring", flush=True)
        await over.wait()

asyncio.run(main())
"""


class Broker:
    """A mosquitto that keeps what it has been given, also while it is away."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.configuration = folder / "mosquitto.conf"
        self.configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
            f"persistence true\npersistence_location {folder}/\nmax_queued_messages 0\nmax_queued_bytes 0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(["mosquitto", "-c", str(self.configuration)], stderr=subprocess.DEVNULL)
        for _ in range(500):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            time.sleep(0.02)
        pytest.fail("mosquitto does not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Archive:
    """Somebody with a persistent session who writes everything down."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, dict]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "archive", clean_session=False)
        self.client.reconnect_delay_set(0.1, 0.2)
        self.client.on_connect = lambda *_: self.client.subscribe(
            [("insitu/+/+/+", 1), ("insitu-history/+/+/+", 1), ("insitu-meta/+/outbox", 1)]
        )
        self.client.on_message = lambda _, __, message: self.messages.append(
            (message.topic, json.loads(message.payload))
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def readings(self, tree: str) -> dict[str, list[int]]:
        """The times of what came in one tree, by signal, in the order it came."""
        found = defaultdict(list)
        for topic, content in list(self.messages):
            levels = topic.split("/")
            if levels[0] == tree:
                found[".".join(levels[2:])].append(int(content["time"]))
        return found

    def outbox(self) -> list[dict]:
        """What the lab said of its outbox."""
        return [content for topic, content in list(self.messages) if topic.endswith("/outbox")]


def until(condition, what: str, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what}, for {within:g} s"
        time.sleep(0.05)


@contextmanager
def lab(folder: Path):
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "acquiring\n", process.stderr.read()
            yield process
        finally:
            process.kill()


def in_order(times: list[int]) -> bool:
    """Whether what came came in order; what came again does not count."""
    first = list(dict.fromkeys(times))
    return first == sorted(first)


def last_ones(missing: list[tuple[str, int]], acquired: list[list[str]], killed: int) -> bool:
    """Whether what is missing are the last readings of each signal before the kill, with none of them in between."""
    before = defaultdict(list)
    for path, at in acquired:
        if int(at) <= killed + 0.1e9:
            before[path].append(int(at))
    gone = defaultdict(list)
    for path, at in missing:
        gone[path].append(at)
    return all(before[path][-len(times) :] == times for path, times in gone.items())


@pytest.mark.timeout(120 + 8 * AWAY)
def test_every_reading_arrives_though_the_broker_goes_away_twice_and_the_lab_is_killed(tmp_path):
    broker = Broker(tmp_path)
    (tmp_path / "lab.toml").write_text(LAB.format(port=broker.port))
    (tmp_path / "script.py").write_text(SCRIPT)
    broker.start()
    archive = Archive(broker.port)
    try:
        with lab(tmp_path) as process:
            until(lambda: archive.readings("insitu"), "no reading comes")
            time.sleep(THERE)
            broker.stop()
            time.sleep(AWAY)
            broker.start()
            until(lambda: archive.readings("insitu-history"), "no history comes")
            time.sleep(THERE)
            broker.stop()
            time.sleep(AWAY)
            killed = time.time_ns()
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = len(archive.outbox())
        with lab(tmp_path) as process:
            broker.start()
            until(lambda: len(archive.outbox()) > before and not archive.outbox()[-1]["waiting"], "something waits")
            time.sleep(0.5)
            process.send_signal(signal.SIGUSR1)
            process.wait(30)
        acquired = [each.split() for each in (tmp_path / "acquired").read_text().splitlines()]
        last = {path: int(at) for path, at in acquired}
        until(
            lambda: all(archive.readings("insitu").get(path, [0])[-1] >= at for path, at in last.items()), "no last one"
        )
    finally:
        archive.close()
        broker.stop()

    live, history = archive.readings("insitu"), archive.readings("insitu-history")
    arrived = {(path, at) for tree in (live, history) for path, times in tree.items() for at in times}
    missing = [(path, int(at)) for path, at in acquired if (path, int(at)) not in arrived]
    told = archive.outbox()[-1]
    assert len(acquired) > 100
    assert {path for path, _ in acquired} == live.keys()
    assert last_ones(missing, acquired, killed)
    # How long it had to wait for the machine, its own polls tell; what is done with a reading takes some turns.
    lately = sorted(int(at) for _, at in acquired if killed - 10e9 < int(at) < killed)
    held = 1.2e9 + 5 * max(later - earlier for earlier, later in pairwise([*lately, killed]))  # ns
    assert len(missing) <= told["lost_at_kill"] <= sum(at > killed - held for at in lately) + 20, held
    assert not any(told[name] for name in ("dropped_size", "dropped_age", "dropped_full", "full"))
    for tree in (live, history):
        for path, times in tree.items():
            assert in_order(times), path
    assert all(
        content.get("history", False) is topic.startswith("insitu-history")
        for topic, content in archive.messages
        if not topic.endswith("/outbox")
    )
