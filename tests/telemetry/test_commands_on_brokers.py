"""Commands over MQTT on real brokers: who may, what is refused, what is done once, and what lands on the record."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import toy
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from toy import in_memory

import hal
from hal import Lab
from hal.capabilities import Gauge, Heater
from hal.errors import InterlockTripped
from hal.telemetry import broker as broker_module
from hal.telemetry import command_listener
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.broker_users import BrokerUser

__all__ = ["in_memory"]

pytestmark = [pytest.mark.real_clock, pytest.mark.usefixtures("in_memory"), pytest.mark.needs_tool("mosquitto")]

USERS = """
[telemetry]
broker = "embedded:"
[telemetry.users.anna]
password = "env:ANNA_MQTT"
may = ["watch", "stop", "acknowledge", "set"]
[telemetry.users.ben]
password = "env:BEN_MQTT"
may = ["watch", "set"]
[telemetry.users.eve]
password = "env:EVE_MQTT"
may = ["watch"]
[telemetry.commands]
allow = ["heater.setpoint", "heater.mode"]
lease = 5
"""
LOCAL = """
[telemetry]
broker = "embedded:"
[telemetry.commands]
"""


class Toys(Lab):
    heater: Heater
    oven: Heater
    gauge: Gauge


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("anna", "ben", "eve"):
        monkeypatch.setenv(f"{name.upper()}_MQTT", f"{name}'s word")


def emulator(lab: Any, name: str = "heater") -> Any:
    return lab.emulation.emulator(name)


def noted(lab: Any, kind: str = "command") -> list[Any]:
    return [event for event in lab.context.journal.recent if event.kind == kind]


@asynccontextmanager
async def opened(folder: Path, text: str = USERS) -> AsyncIterator[Any]:
    """A lab that listens to commands."""
    async with Toys.open(toy.write_lab(folder, text)) as lab:
        await toy.eventually(lambda: lab.commands.connected)
        yield lab


class Person:
    """Somebody at a dashboard."""

    def __init__(self, client: aiomqtt.Client, name: str) -> None:
        self.client, self.name = client, name

    async def publish(self, path: str, payload: Any, **more: Any) -> None:
        raw = payload if isinstance(payload, (bytes, bytearray)) else json.dumps(payload).encode()
        await self.client.publish(f"insitu-meta/toys/commands/{self.name}/{path}", raw, qos=more.pop("qos", 1), **more)

    async def answer(self, id: str | None = None, within: float = 60.0) -> dict[str, Any]:
        """The next answer, or the one to this id."""
        async with asyncio.timeout(within):
            async for message in self.client.messages:
                found: dict[str, Any] = json.loads(message.payload)
                if id is None or found["id"] == id:
                    assert not message.retain
                    return found
        raise AssertionError("the connection ended")

    async def ask(self, path: str, **fields: Any) -> dict[str, Any]:
        content = {"schema": 1, "id": uuid.uuid4().hex} | fields
        await self.publish(path, content)
        return await self.answer(content["id"])

    async def take(self) -> str:
        """Take the lease."""
        found = await self.ask("lease", action="take")
        assert found["ok"], found
        return str(found["lease"])

    async def set(self, signal: str, value: Any, lease: str, ahead: float = 30.0, **fields: Any) -> dict[str, Any]:
        return await self.ask(
            f"set/{signal.replace('.', '/')}", **{"value": value, "lease": lease, "expires": soon(ahead)} | fields
        )


def soon(seconds: float = 30.0) -> str:
    return str(time.time_ns() + round(seconds * 1e9))


@asynccontextmanager
async def person(lab: Any, name: str, **more: Any) -> AsyncIterator[Person]:
    login = {} if name == "local" else {"username": name, "password": f"{name}'s word"}
    async with aiomqtt.Client("127.0.0.1", lab.telemetry.url.port, **login, **more) as client:
        await client.subscribe(f"insitu-meta/toys/replies/{name}/#", qos=1)
        yield Person(client, name)


# ---------------------------------------------------------------------- stop and acknowledge


async def test_a_stop_takes_every_device_to_its_safe_state_and_keeps_it_there_until_acknowledged(
    tmp_path: Path,
) -> None:
    with pytest.raises(InterlockTripped, match=r"stopped by local: smoke"):
        async with opened(tmp_path, LOCAL) as lab, person(lab, "local") as guard:
            await lab.heater.setpoint.set(300.0)
            assert emulator(lab).values["OUT"] == 1
            found = await guard.ask("stop", reason="smoke")
            assert found["ok"], found
            assert emulator(lab).values["OUT"] == emulator(lab, "oven").values["OUT"] == 0
            with pytest.raises(InterlockTripped):
                await lab.heater.setpoint.set(300.0)
            released = await guard.ask("acknowledge", alarm="trip", expires=soon())
            assert released["ok"], released
            await lab.heater.setpoint.set(50.0)
            assert [(e.data["by"], e.data["ok"], e.data["what"]) for e in noted(lab)] == [
                ("local", True, "stop (smoke)"),
                ("local", True, "acknowledge trip"),
            ]
            await guard.ask("stop", reason="smoke")
            await asyncio.sleep(2)


async def test_a_retained_stop_does_not_stop_the_next_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = (BrokerUser("anna", "anna's word", ("watch", "stop")),)
    broker = EmbeddedBroker(users=users, lab="toys")  # stands for one that outlives the lab
    await asyncio.to_thread(broker.open)
    try:
        monkeypatch.setenv("HAL_MQTT", broker.url.password or "")
        text = f"""
            [telemetry]
            broker = "mqtt://127.0.0.1:{broker.port}"
            user = "hal"
            password = "env:HAL_MQTT"
            [telemetry.users.anna]
            may = ["watch", "stop"]
            [telemetry.commands]
        """
        login = {"username": "anna", "password": "anna's word"}
        async with aiomqtt.Client("127.0.0.1", broker.port, **login) as client:  # type: ignore[arg-type]
            await client.subscribe("insitu-meta/toys/replies/anna", qos=1)
            anna = Person(client, "anna")
            await anna.publish("stop", {"schema": 1, "id": "of yesterday"}, retain=True)
            async with opened(tmp_path, text) as lab:
                found = await anna.answer()
                assert not found["ok"]
                assert "must not be retained, and this one was not carried out. Take it back" in found["text"]
                await anna.publish("stop", b"", retain=True)  # takes it back, and is no command
                await asyncio.sleep(0.3)
                assert lab.trip is None
                assert len(noted(lab)) == 1
            async with opened(tmp_path, text) as lab:
                await asyncio.sleep(0.2)
                assert not noted(lab)
    finally:
        await asyncio.to_thread(broker.close)


async def test_of_what_is_to_be_retained_only_a_stop_pressed_now_is_carried_out(tmp_path: Path) -> None:
    with pytest.raises(InterlockTripped):
        async with opened(tmp_path) as lab, person(lab, "anna") as anna:
            command = {"schema": 1, "id": "kept", "value": 90.0, "lease": await anna.take(), "expires": soon()}
            await anna.publish("set/heater/setpoint", command, retain=True)
            found = await anna.answer("kept")
            assert not found["ok"]
            assert "must not be retained" in found["text"]
            assert (await anna.set("heater.setpoint", 80.0, command["lease"]))["ok"]  # type: ignore[arg-type]
            assert emulator(lab).values["SETP"] == 80.0
            await anna.publish("stop", {"schema": 1, "id": "now"}, retain=True)
            assert (await anna.answer("now"))["ok"]
            assert lab.trip is not None
            await asyncio.sleep(2)


# ---------------------------------------------------------------------- set


async def test_a_value_is_set_as_a_script_sets_it_and_who_did_it_is_on_the_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "anna") as anna:
        lease = await anna.take()
        found = await anna.set("heater.setpoint", 120, lease)
        assert found["ok"], found
        assert emulator(lab).values["SETP"] == 120.0
        last = noted(lab)[-1]
        assert (last.device, last.data["by"], last.data["ok"]) == ("heater", "anna", True)
        assert "anna: set heater.setpoint = 120: heater.setpoint = 120 degC was sent" in last.text
        assert [event.data["value"] for event in noted(lab, "set")] == [120.0]


async def test_every_command_is_in_the_record_of_the_run_with_who_when_and_what_came_of_it(tmp_path: Path) -> None:
    began = time.time_ns()
    async with opened(tmp_path) as lab, person(lab, "anna") as anna, person(lab, "ben") as ben:
        async with lab.record(tmp_path / "runs", sample="none") as run:
            lease = await anna.take()
            await anna.set("heater.setpoint", 120, lease)
            await anna.set("heater.setpoint", 700, lease)
            await ben.publish("set/heater/setpoint", b"rubbish")
            await ben.answer()
    with hal.open_run(run.path) as found:
        events = [event for event in found.events if event.kind == "command"]
    assert [(event.data["by"], event.data["ok"]) for event in events] == [
        ("anna", True), ("anna", True), ("anna", False), ("ben", False),
    ]  # fmt: skip
    assert events[1].text == "anna: set heater.setpoint = 120: heater.setpoint = 120 degC was sent"
    assert "refused: heater.setpoint = 700 degC is outside 0 to 600 degC" in events[2].text
    assert "refused: the payload is no JSON" in events[3].text
    assert all(began < int(event.data["came"]) <= event.time < time.time_ns() for event in events)


async def test_the_example_sets_a_value_and_knows_nothing_of_our_package(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples/command.py"
    assert "import hal" not in example.read_text()
    assert "from hal" not in example.read_text()
    async with opened(tmp_path) as lab:
        where = ["127.0.0.1", str(lab.telemetry.url.port), "anna", "toys"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(example), *where, "heater", "setpoint", "120",
            env=os.environ | {"MQTT_PASSWORD": "anna's word"}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 20)
        assert said.decode().splitlines() == [
            "anna has the lease for 5 s",
            "heater.setpoint = 120 degC was sent",
            "anna has given the lease back",
        ]
        assert emulator(lab).values["SETP"] == 120


async def test_mqtt_5_gives_the_answer_where_it_was_asked_for_with_its_correlation_data(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "anna", protocol=aiomqtt.ProtocolVersion.V5) as anna:
        asked: Any = Properties(PacketTypes.PUBLISH)
        asked.ResponseTopic, asked.CorrelationData = "insitu-meta/toys/replies/anna/window2", b"\x00\x07"
        await anna.publish("lease", {"schema": 1, "id": "x", "action": "take"}, properties=asked)
        found = {}
        async with asyncio.timeout(60):
            async for message in anna.client.messages:
                found[str(message.topic).removeprefix("insitu-meta/toys/replies/")] = message
                if len(found) == 2:
                    break
        assert set(found) == {"anna", "anna/window2"}
        assert found["anna/window2"].properties.CorrelationData == b"\x00\x07"
        assert found["anna"].payload == found["anna/window2"].payload


async def test_no_answer_goes_to_a_topic_that_is_not_the_users_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "anna", protocol=aiomqtt.ProtocolVersion.V5) as anna:
        await anna.client.subscribe("insitu/toys/#")
        asked: Any = Properties(PacketTypes.PUBLISH)
        asked.ResponseTopic = "insitu/toys/heater/forged"
        await anna.publish("lease", {"schema": 1, "id": "x", "action": "take"}, properties=asked)
        async with asyncio.timeout(60):
            async for message in anna.client.messages:
                assert str(message.topic) != "insitu/toys/heater/forged"
                if str(message.topic) == "insitu-meta/toys/replies/anna":
                    break
        assert lab.commands._lease.holder(lab.context.timebase.now()).user == "anna"


# ---------------------------------------------------------------------- the lease


async def test_one_person_at_a_time_sets_and_everybody_sees_who(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "anna") as anna, person(lab, "ben") as ben:
        lease = await anna.take()
        refused = await ben.ask("lease", action="take")
        assert not refused["ok"]
        assert "anna has the lease for another" in refused["text"]
        renewed = await anna.ask("lease", action="renew", lease=lease)
        assert renewed["lease"] == lease
        assert int(renewed["until"]) > time.time_ns() + 3_000_000_000
        async with aiomqtt.Client("127.0.0.1", lab.telemetry.url.port, username="eve", password="eve's word") as eve:
            await eve.subscribe("insitu-meta/toys/lease")
            async with asyncio.timeout(60):
                message = await anext(aiter(eve.messages))
        shown = json.loads(message.payload)
        assert (shown["holder"], shown["until"]) == ("anna", renewed["until"])
        assert lease not in message.payload.decode()
        assert (await anna.ask("lease", action="give", lease=lease))["ok"]
        await ben.take()


# ---------------------------------------------------------------------- rubbish


async def test_rubbish_gets_one_clear_answer_and_disturbs_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "anna") as anna:
        lease = await anna.take()
        good = {"schema": 1, "id": "i", "value": 1, "lease": lease, "expires": soon()}
        for payload, why in [
            (b"heat!", "the payload is no JSON"),
            (b"\xff\xfe", "the payload is no JSON"),
            (b"[" * 8000, "the payload is no JSON (nested too deeply)"),
            (b"[]", "no JSON object"),
            (good | {"id": 7}, '"id" must be text'),
            (good | {"schema": 2}, '"schema" must be 1'),
            (good | {"valu": 1}, "unknown field 'valu'"),
            (good | {"value": None}, '"value" must be a number, text, true or false'),
            (good | {"value": [1]}, '"value" must be a number'),
            (good | {"value": 10**400}, '"value" is too large'),
            (good | {"value": "a\nOFF"}, '"value" must be printable'),
            (json.dumps(good | {"value": float("nan")}).encode(), "NaN is no number"),
            (b'{"schema":1,"id":"i","value":1,"value":2}', "the same field twice"),
            (good | {"expires": 5}, '"expires" must be UNIX time in nanoseconds as text'),
            ({"schema": 1, "id": "i", "value": 1, "lease": lease}, '"expires" is missing'),
            (bytes(10_000_000), "the payload has 10000000 bytes; a command has 8192 at most"),
        ]:
            await anna.publish("set/heater/setpoint", payload)
            found = await anna.answer()
            assert not found["ok"]
            assert why in found["text"]
        assert "names no signal" not in (await anna.set("heater.setpoint", 30, lease))["text"]
        assert emulator(lab).values["SETP"] == 30
        assert not noted(lab, "error")
        assert (await lab.heater.temperature.get()) is not None


async def test_who_may_not_is_told_so_even_if_the_broker_lets_it_pass(tmp_path: Path) -> None:
    async with opened(tmp_path, LOCAL) as lab, person(lab, "local") as local:
        found = await local.set("heater.setpoint", 100, "x")
        assert "local may not set; the lab file lets local watch, stop, acknowledge" in found["text"]
        async with person(lab, "local") as stranger:
            stranger.name = "stranger"
            await stranger.client.subscribe("insitu-meta/toys/replies/stranger")
            found = await stranger.ask("stop")
            assert "stranger is no user of this lab" in found["text"]
        assert lab.trip is None


async def test_the_broker_keeps_users_apart(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "anna") as anna, person(lab, "eve") as eve:
        await anna.client.subscribe("insitu-meta/toys/replies/#")
        await anna.client.subscribe("insitu-meta/toys/commands/#")
        anna.name = "ben"
        await anna.publish("lease", {"schema": 1, "id": "forged", "action": "take"})
        await eve.publish("stop", {"schema": 1, "id": "eve's"})
        anna.name = "anna"
        async with person(lab, "ben") as ben:
            await ben.take()  # whose answer anna must not see
        await anna.publish("lease", {"schema": 1, "id": "last", "action": "take"})
        async with asyncio.timeout(60):
            async for message in anna.client.messages:
                assert str(message.topic) == "insitu-meta/toys/replies/anna"
                if json.loads(message.payload)["id"] == "last":
                    break
        assert [event.data["by"] for event in noted(lab)] == ["ben", "anna"]
        assert lab.trip is None


async def test_the_rights_are_there_for_a_dashboard_to_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "eve") as eve:
        await eve.client.subscribe("insitu-meta/toys/rights")
        async with asyncio.timeout(60):
            message = await anext(aiter(eve.client.messages))
        found = json.loads(message.payload)
        assert found["commands"] is True
        assert found["session"] == lab.telemetry.session
        assert found["may"]["eve"] == ["watch"]


# ---------------------------------------------------------------------- floods


def flooding(lab: Any) -> subprocess.Popen[bytes]:
    """A program run wild: it publishes each line of its input, and does not even have the right."""
    command = ["mosquitto_pub", "-p", str(lab.telemetry.url.port), "-l", "-q", "1"]
    return subprocess.Popen([*command, "-t", "insitu-meta/toys/commands/ben/stop"], stdin=subprocess.PIPE)


async def test_a_flood_of_commands_delays_neither_a_stop_nor_the_polls(tmp_path: Path) -> None:
    """A broker without access rules, as somebody's own may be: whoever wants to writes to everything."""
    lab = await Toys.connect(toy.write_lab(tmp_path, LOCAL))
    flood = flooding(lab)
    try:
        async with person(lab, "local") as guard:
            await toy.eventually(lambda: lab.commands.connected)
            assert flood.stdin is not None
            line = json.dumps({"schema": 1, "id": "f", "more": 1}).encode() + b"\n"
            await asyncio.to_thread(flood.stdin.write, line * 20_000)
            await toy.eventually(lambda: len(noted(lab)) > command_listener.BURST / 2)
            seen: list[Any] = []
            lab.gauge.pressure.subscribe(seen.append)
            assert (await guard.ask("stop"))["ok"]
            await toy.eventually(lambda: len(seen) >= 3, 60)
            assert len(noted(lab)) < 200  # of 20 000
    finally:
        flood.kill()
        flood.wait()
        await lab.close()


# ---------------------------------------------------------------------- the broker


async def test_a_message_that_expired_on_its_way_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab, person(lab, "anna", protocol=aiomqtt.ProtocolVersion.V5) as anna:
        good: Any = Properties(PacketTypes.PUBLISH)
        good.MessageExpiryInterval = 60
        await anna.publish("lease", {"schema": 1, "id": "in time", "action": "take"}, properties=good)
        assert (await anna.answer("in time"))["ok"]
        command = ["mosquitto_pub", "-p", str(lab.telemetry.url.port), "-u", "anna", "-P", "anna's word", "-V", "5"]
        command += [
            "-q",
            "1",
            "-D",
            "PUBLISH",
            "message-expiry-interval",
            "1",
            "-t",
            "insitu-meta/toys/commands/anna/lease",
        ]
        late = ["-m", '{"schema":1,"id":"late","action":"take"}']
        subprocess.run([*command, *late], check=True)  # the lab is busy all the while  # noqa: ASYNC221
        time.sleep(1.5)  # noqa: ASYNC251
        found = await anna.answer("late")
        assert not found["ok"]
        assert "its message expired after" in found["text"]


async def test_commands_are_heard_again_after_the_broker_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_listener, "BACKOFF", (0.05, 0.1))
    async with opened(tmp_path) as lab:
        broker = lab.telemetry._embedded
        await asyncio.to_thread(broker.close)
        await toy.eventually(lambda: not lab.commands.connected)
        await toy.eventually(lambda: broker.alive and lab.commands.connected)
        said = [event.text for event in noted(lab, "link") if event.device == "commands"]
        assert all("can't be heard at mqtt://hal@127.0.0.1" in text or "be heard again" in text for text in said)
        async with person(lab, "anna") as anna:
            await anna.client.subscribe("insitu-meta/toys/rights")
            assert json.loads((await anext(aiter(anna.client.messages))).payload)["commands"] is True
            assert await anna.take()


async def test_a_broker_of_the_older_mqtt_only_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not importlib.util.find_spec("amqtt"):
        pytest.skip("needs amqtt")
    monkeypatch.setattr(command_listener, "BACKOFF", (0.05, 0.1))
    monkeypatch.setattr(command_listener, "PATIENCE", 1.0)  # to MQTT 5 amqtt says nothing at all
    monkeypatch.setattr(broker_module, "_program", lambda _: ("amqtt", "amqtt"))
    lab = await Toys.connect(toy.write_lab(tmp_path, LOCAL))
    try:
        await toy.eventually(lambda: lab.commands.connected)
        async with person(lab, "local") as guard:
            assert (await guard.ask("stop"))["ok"]
            assert lab.trip is not None
    finally:
        await lab.close()


async def test_the_lab_says_that_it_no_longer_listens_when_it_closes(tmp_path: Path, monkeypatch: Any) -> None:
    users = (BrokerUser("anna", "anna's word", ("watch", "stop")),)
    broker = EmbeddedBroker(users=users, lab="toys")
    await asyncio.to_thread(broker.open)
    monkeypatch.setenv("HAL_MQTT", broker.url.password or "")
    text = f"""
        [telemetry]
        broker = "mqtt://127.0.0.1:{broker.port}"
        user = "hal"
        password = "env:HAL_MQTT"
        [telemetry.users.anna]
        may = ["watch", "stop"]
        [telemetry.commands]
    """
    try:
        async with opened(tmp_path, text):
            pass
        login: Any = {"username": "anna", "password": "anna's word"}
        async with aiomqtt.Client("127.0.0.1", broker.port, **login) as client:
            await client.subscribe("insitu-meta/toys/rights")
            found = json.loads((await anext(aiter(client.messages))).payload)
        assert (found["commands"], found["may"]) == (False, {})
    finally:
        await asyncio.to_thread(broker.close)
