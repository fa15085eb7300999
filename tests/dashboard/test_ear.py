"""Listening to a real broker that asks for passwords, and commanding through it."""

import asyncio
import getpass
import json
import os
import shutil
import socket
import subprocess
from dataclasses import replace

import aiomqtt
import pytest

from hal.dashboard import ear as module
from hal.dashboard.ear import Ear
from hal.dashboard.model import Board
from hal.errors import HalError
from hal.telemetry.broker import BrokerUrl, EmbeddedBroker, parse_broker
from hal.telemetry.broker_users import BrokerUser
from hal.telemetry.command_topics import Acknowledge, Stop

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("mosquitto")]

ANNA = BrokerUser("anna", "anna's word", ("watch", "stop"))
EVE = BrokerUser("eve", "eve's word", ("watch",))


@pytest.fixture
def broker():
    broker = EmbeddedBroker.of(BrokerUrl("127.0.0.1", 0, embedded=True, users=(ANNA, EVE)), "em3")
    broker.open()
    yield broker
    broker.close()


class Listening:
    """An ear that listens while the test runs."""

    def __init__(self, broker, user, password):
        url = parse_broker(f"mqtt://127.0.0.1:{broker.port}")
        self.ear = Ear(url, Board(), user=user, password=password)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.ear.run())
        return self.ear

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(condition, within=60.0):
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def lab(broker):
    """A connection with the lab's own account."""
    url = broker.url
    return aiomqtt.Client(url.host, url.port, username=url.username, password=url.password)


async def answer(client, text, times=1):
    """Answer stops, as a lab does; return what was asked."""
    asked = []
    async for message in client.messages:
        asked.append((str(message.topic), json.loads(message.payload)))
        reply = {"schema": 1, "id": asked[-1][1]["id"], "ok": True, "text": text, "time": "1"}
        await client.publish("insitu-meta/em3/replies/anna", json.dumps({**reply, "id": "of somebody else"}), qos=1)
        await client.publish("insitu-meta/em3/replies/anna", json.dumps(reply), qos=1)
        if len(asked) == times:
            return asked
    return asked


async def test_a_stop_goes_out_in_the_name_of_the_user_and_its_own_answer_comes_back(broker):
    async with lab(broker) as client, Listening(broker, "anna", "anna's word") as ear:
        await client.subscribe("insitu-meta/em3/commands/#", qos=1)
        await until(lambda: ear.connected)
        answering = asyncio.create_task(answer(client, "all safe"))
        reply = await ear.command("em3", "stop", Stop("7", "smoke"))
        assert (reply.ok, reply.text) == (True, "all safe")
        ((topic, asked),) = await answering
        assert topic == "insitu-meta/em3/commands/anna/stop"
        assert asked == {"schema": 1, "id": "7", "reason": "smoke"}


async def test_what_the_access_file_lets_a_watcher_see_is_all_that_is_needed(broker):
    async with lab(broker) as client, Listening(broker, "eve", "eve's word") as ear:
        await until(lambda: ear.connected)
        state = {"schema": 1, "state": "online", "session": "s", "time": "1", "clean": True}
        rights = {"schema": 1, "session": "s", "commands": True, "may": {"eve": ["watch"]}}
        reading = {"schema": 1, "value": 1.5, "unit": "V", "time": "1", "quality": "good"}
        camera = {"schema": 1, "rate": 10, "frames": 1, "dropped": 0}
        alarm = {"schema": 1, "active": True, "acknowledged": False, "severity": "alarm", "time": "1", "text": "hot"}
        for topic, content in (
            ("insitu-meta/em3/state", state), ("insitu-meta/em3/rights", rights), ("insitu/em3/bias/voltage", reading),
            ("insitu-history/em3/bias/voltage", reading | {"time": "0"}), ("insitu-meta/em3/detector/camera", camera),
            ("insitu-meta/em3/alarms/hot", alarm),
        ):  # fmt: skip
            await client.publish(topic, json.dumps(content), qos=1)
        await until(lambda: ear.board.labs.get("em3") and "hot" in ear.board.labs["em3"].alarms)
        found = ear.board.labs["em3"]
        await until(lambda: len(found.signals["bias", "voltage"].series) == 2)
        assert (found.state, list(found.detectors), found.rights["may"]) == ("online", ["camera"], {"eve": ["watch"]})


async def test_a_command_that_nobody_answers_sends_people_to_the_instruments(broker, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    async with Listening(broker, "anna", "anna's word") as ear:
        with pytest.raises(HalError, match="NOT sent"):
            await ear.command("em3", "stop", Stop("1"))
        await until(lambda: ear.connected)
        with pytest.raises(HalError, match="no answer to acknowledge in 0.3 s.*go to the instruments"):
            await ear.command("em3", "acknowledge", Acknowledge("2", "trip"))


async def test_a_wrong_password_is_told_and_so_is_a_broker_that_is_not_there(broker):
    async with Listening(broker, "anna", "not her word") as ear:
        await until(lambda: "refuses anna" in ear.trouble)
        assert not ear.connected
    broker.close()
    async with Listening(broker, "anna", "anna's word") as ear:
        await until(lambda: "no broker answers" in ear.trouble)


async def test_a_broker_that_comes_back_is_listened_to_again(broker):
    async with Listening(broker, "anna", "anna's word") as ear:
        await until(lambda: ear.connected)
        await asyncio.to_thread(broker.close)
        await until(lambda: not ear.connected)
        await asyncio.to_thread(broker.open)
        await until(lambda: ear.connected)
        async with lab(broker) as client:
            state = {"schema": 1, "state": "online", "session": "s", "time": "1", "clean": True}
            await client.publish("insitu-meta/em3/state", json.dumps(state), qos=1, retain=True)
        await until(lambda: "em3" in ear.board.labs)


@pytest.mark.needs_tool("openssl")
async def test_over_tls_a_broker_is_heard_if_its_certificate_is_trusted_and_else_it_is_told_why(tmp_path):
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -subj /CN=b"
    )
    subprocess.run(  # noqa: ASYNC221 - nothing else runs yet
        ["openssl", *words.split(), "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "key.pem").chmod(0o644)  # mosquitto gives up root before it reads
    tmp_path.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    papers = f"certfile {tmp_path}/cert.pem\nkeyfile {tmp_path}/key.pem"
    user = f"user {getpass.getuser()}\n"
    (tmp_path / "m.conf").write_text(f"{user}listener {port} 127.0.0.1\nallow_anonymous true\n{papers}\n")
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    running = await asyncio.create_subprocess_exec(program, "-c", str(tmp_path / "m.conf"), stderr=subprocess.DEVNULL)
    url = BrokerUrl("localhost", port, tls=True, ca=tmp_path / "cert.pem")
    try:
        for broker, wanted in (
            (url, lambda ear: ear.connected),
            (replace(url, ca=None), lambda ear: "from no authority that is trusted here" in ear.trouble),
            (replace(url, tls=False), lambda ear: "hangs up" in ear.trouble or "reset" in ear.trouble),
        ):
            ear = Ear(broker, Board())
            listening = asyncio.create_task(ear.run())
            await until(lambda ear=ear, wanted=wanted: wanted(ear))
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    finally:
        running.terminate()
        await running.wait()


async def test_a_message_of_megabytes_is_passed_over_and_told(broker):
    async with lab(broker) as client, Listening(broker, "eve", "eve's word") as ear:
        await until(lambda: ear.connected)
        await client.publish("insitu/em3/bias/voltage", bytes(3_000_000), qos=1)
        await until(lambda: ear.board.unreadable)
        assert "more than a megabyte" in ear.board.last_unreadable
        assert ear.connected
