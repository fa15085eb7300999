"""What others see of a lab, with tools that know nothing of us, is what the reference and its schemas promise."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import toy
from jsonschema import Draft202012Validator

from hal import Lab
from hal.capabilities import Thermometer
from hal.instrument.address import Soft
from hal.model.context import Context
from hal.model.device import Device
from hal.model.signal import Kind, SignalR
from hal.telemetry import command_topics, publisher
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.command_topics import Acknowledge, Set, Stop, Take
from hal.telemetry.publisher import Publisher

ROOT = Path(__file__).parents[2]
SCHEMAS = {path.stem: json.loads(path.read_text("utf-8")) for path in ROOT.glob("docs/reference/telemetry-schemas/*")}
REFERENCE = (ROOT / "docs/reference/telemetry.md").read_text("utf-8")
TIME = 1_764_000_000_123_456_789
LAB = """
schema = 1
[lab]
name = "em3"
[devices.heater]
driver = "eurotherm_3504"
unit = 1
[devices.gauge]
driver = "pfeiffer_tpg36x"
on_link_lost = "reconnect"
within = 60
[devices.camera]
driver = "merlin"
emulator = { fps = 100 }
[devices.board]
driver = "insitu_mcu"
link = "firmware:posix"
[telemetry]
broker = "embedded:"
[telemetry.rates]
"heater.output" = { every = 1.0 }
[telemetry.users.anna]
password = "env:ANNA_MQTT"
may = ["watch", "stop", "acknowledge", "set"]
[telemetry.commands]
allow = ["heater.setpoint"]
"""


def strict(schema: Any) -> Any:
    """A schema that forbids what it does not name: what we send and nobody has written down is a mistake."""
    if isinstance(schema, dict):
        found = {key: strict(value) for key, value in schema.items() if key not in ("if", "then", "else")}
        return found | ({"additionalProperties": False} if "properties" in found else {})
    return schema


CHECKS = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}
STRICT = {name: Draft202012Validator(strict(schema)) for name, schema in SCHEMAS.items()}


def schema_of(topic: str) -> str:
    """The one schema of a topic."""
    found = [
        name for name, schema in SCHEMAS.items() if any(paho.topic_matches_sub(t, topic) for t in schema["topics"])
    ]
    assert len(found) == 1, f"{topic}: {found}"
    return found[0]


def checked(topic: str, payload: str | bytes) -> str:
    """The schema that a payload has to meet, and does."""
    name = schema_of(topic)
    content = json.loads(payload, parse_constant=lambda constant: pytest.fail(f"{constant} in {topic}"))
    for check in (CHECKS[name], STRICT[name]):
        for error in check.iter_errors(content):
            pytest.fail(f"{topic}: {error.json_path}: {error.message}\n{payload!r}")
    return name


# ---------------------------------------------------------------------- a whole lab, watched from outside


class Sub:
    """`mosquitto_sub`, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.heard: list[tuple[str, int, bool, str]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            topic, qos, retained, payload = line.decode().rstrip("\n").split("\t", 3)
            self.heard.append((topic, int(qos), retained == "1", payload))

    async def until(self, topic: str, wanted: Any = lambda content: True, within: float = 60.0) -> dict[str, Any]:
        """The content of the first message under `topic` for which `wanted` holds, however long ago it came."""
        async with asyncio.timeout(within):
            while True:
                for name, _, _, payload in self.heard:
                    if name == topic and wanted(content := json.loads(payload)):
                        return dict(content)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def mosquitto_sub(port: int, *topics: str, user: tuple[str, str] | None = None):
    words = ["-h", "127.0.0.1", "-p", str(port), "-V", "311", "-q", "2", "-F", "%t\t%q\t%r\t%p"]
    words += [word for topic in topics for word in ("-t", topic)]
    words += ["-u", user[0], "-P", user[1]] if user else []
    process = await asyncio.create_subprocess_exec("mosquitto_sub", *words, stdout=asyncio.subprocess.PIPE)
    try:
        yield Sub(process)
    finally:
        process.terminate()
        await process.wait()


def listen(port: int, user: tuple[str, str] | None = None) -> tuple[paho.Client, list[paho.MQTTMessage]]:
    """A plain paho client that comes later, and what the broker had kept for it."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    kept: list[paho.MQTTMessage] = []
    client.on_message = lambda _client, _data, message: kept.append(message)
    client.on_connect = lambda *_: client.subscribe([("insitu/#", 1), ("insitu-meta/#", 1)])
    if user is not None:
        client.username_pw_set(*user)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client, kept


@asynccontextmanager
async def connected(path: Path):
    """A lab whose trip does not end this block."""
    lab = await Lab.connect(path)
    try:
        yield lab
    finally:
        await lab.close()


@pytest.mark.real_clock
@pytest.mark.needs_tool("mosquitto", "mosquitto_sub", "cc")
async def test_mosquitto_sub_and_paho_see_of_a_whole_lab_what_the_schemas_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNA_MQTT", "anna's word")
    monkeypatch.setattr(publisher, "DETECTOR", 0.2)
    anna = ("anna", "anna's word")
    (tmp_path / "lab.toml").write_text(LAB)
    async with connected(tmp_path / "lab.toml") as lab:
        port = lab.telemetry.url.port
        async with mosquitto_sub(port, "insitu/#", "insitu-history/#", "insitu-meta/#", user=anna) as sub:
            await sub.until("insitu-meta/em3/rights")
            client, kept = listen(port, anna)

            def command(verb: str, content: Any, signal: str = "") -> None:
                topic = command_topics.command_topic("em3", "anna", verb, signal)  # type: ignore[arg-type]
                payload = command_topics.encode_command(content)
                assert checked(topic, payload) == f"command-{verb}"
                client.publish(topic, payload, qos=1)

            async def reply(id: str) -> dict[str, Any]:
                return await sub.until("insitu-meta/em3/replies/anna", lambda content: content["id"] == id)

            await sub.until("insitu/em3/heater/temperature")
            await sub.until("insitu/em3/heater/output", lambda content: content["count"] > 1)
            await sub.until("insitu-meta/em3/clocks/board")
            async with lab.devices["camera"].filming(), lab.devices["board"].sampling((0,), 1000.0):
                await sub.until("insitu-meta/em3/detector/camera")
                await sub.until("insitu-meta/em3/streams/board/input0")

            command("lease", Take("1", "take"))
            token = (await reply("1"))["lease"]
            command("set", Set("2", "heater.setpoint", 40.0, token, time.time_ns() + 10**10), "heater.setpoint")
            assert (await reply("2"))["ok"]
            await sub.until("insitu-meta/em3/events/set", lambda content: content["device"] == "heater")

            wire = lab.emulation.links["emulator:gauge"]
            wire.unplug()
            alarm = "insitu-meta/em3/alarms/link-gauge"
            await sub.until(alarm, lambda content: content["active"])
            await sub.until("insitu-meta/em3/devices/gauge", lambda content: content["state"] == "lost")
            await sub.until("insitu/em3/gauge/pressure", lambda content: content["quality"] == "bad")
            await wire.plug()
            await sub.until(alarm, lambda content: not content["active"] and not content["acknowledged"])
            command("stop", Stop("3", "smoke"))
            trip = await sub.until("insitu-meta/em3/alarms/trip", lambda content: content["tripped"])
            assert (await reply("3"))["ok"]
            late, found = listen(port, anna)  # a dashboard that is opened after the trip
            retained = {name for name, schema in SCHEMAS.items() if schema["retained"]}
            await toy.eventually(lambda: {schema_of(m.topic) for m in found if m.retain} >= retained)
            for name, seen_at in (("trip", int(trip["time"])), ("link-gauge", None)):
                command("acknowledge", Acknowledge(name, name, seen_at))
                answer = await reply(name)
                assert answer["ok"], answer["text"]
            await sub.until(alarm, lambda content: content["by"] == "anna")
            await sub.until("insitu-meta/em3/alarms/trip", lambda content: content["by"] == "anna")
            late.loop_stop()
            client.loop_stop()

    seen = set()
    for topic, qos, _, payload in sub.heard:
        name = checked(topic, payload)
        seen.add(name)
        assert qos in SCHEMAS[name]["qos"], topic
    # What was read before the broker was there may have come as history.
    assert seen | {"history"} == {name for name in SCHEMAS if not name.startswith("command-")}
    for message in [*kept, *found]:
        assert checked(message.topic, message.payload) in seen
    assert {schema_of(message.topic) for message in found if message.retain} == retained
    assert any(message.topic.endswith("/trip") and message.retain for message in found)
    numbers = [json.loads(payload)["number"] for topic, *_, payload in sub.heard if "/events/" in topic]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


class Stage(Device):
    provides = (Thermometer,)
    temperature = SignalR(float, "degC", at=Soft(21.5), kind=Kind.HINTED, poll=0.02)


@asynccontextmanager
async def stage_on(port: int, outbox: Path | None = None):
    """A soft device whose readings are published."""
    context = Context()
    device = Stage("heater", context=context)
    try:
        async with Publisher(context, [device], f"mqtt://127.0.0.1:{port}", lab="em3", outbox=outbox) as telemetry:
            yield telemetry
    finally:
        await context.close()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture
def mosquitto() -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(program="mosquitto")
    broker.open()
    yield broker
    broker.close()


@pytest.mark.real_clock
@pytest.mark.needs_tool("mosquitto", "mosquitto_sub")
async def test_what_had_to_wait_is_history_for_an_archive_and_invisible_to_a_dashboard(
    tmp_path: Path, mosquitto: EmbeddedBroker
) -> None:
    async with stage_on(free_port(), tmp_path / "outbox") as telemetry:  # nobody listens there
        while telemetry.outbox.waiting < 10:
            await asyncio.sleep(0.02)
    async with mosquitto_sub(mosquitto.port, "insitu-history/+/+/+", "insitu/+/+/+") as sub:
        while not sub.heard:  # it has subscribed once it hears; what came before is not of interest
            client = paho.Client(paho.CallbackAPIVersion.VERSION2)
            client.connect("127.0.0.1", mosquitto.port)
            client.loop_start()
            client.publish("insitu/x/y/z", "{}", 1).wait_for_publish(5)
            client.loop_stop()
            await asyncio.sleep(0.1)
        sub.heard.clear()
        async with stage_on(mosquitto.port, tmp_path / "outbox") as telemetry:
            await sub.until("insitu/em3/heater/temperature")
            await sub.until("insitu-history/em3/heater/temperature")
            while telemetry.outbox.waiting:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
    kinds = {checked(topic, payload) for topic, _, _, payload in sub.heard if "/x/" not in topic}
    assert kinds == {"reading", "history"}
    past = [json.loads(payload) for topic, _, _, payload in sub.heard if topic.startswith("insitu-history/")]
    assert len(past) >= 10
    assert [int(content["time"]) for content in past] == sorted({int(content["time"]) for content in past})


# ---------------------------------------------------------------------- schemas and the reference


def test_every_schema_is_one_and_every_payload_of_the_reference_meets_its_own() -> None:
    assert len(SCHEMAS) == 18
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    shown = re.findall(r"^`(insitu[^`\s]*)`[^\n]*\n```json\n(.*?)^```", REFERENCE, re.M | re.S)
    assert {checked(topic, line) for topic, block in shown for line in block.splitlines()} == set(SCHEMAS)


def test_the_table_of_the_reference_has_every_topic_with_its_qos_and_whether_it_is_retained() -> None:
    rows = re.findall(r"^\| `(insitu[^`]*)` \|[^|]*\| (yes|no) \| ([^|]+) \|$", REFERENCE, re.M)
    found = set()
    for topic, retained, qos in rows:
        name = schema_of(topic)
        assert (retained == "yes") is SCHEMAS[name]["retained"], topic
        assert sorted(map(int, re.findall("[012]", qos))) == SCHEMAS[name]["qos"], topic
        found.add(name)
    assert found == set(SCHEMAS)
    assert all(f"telemetry-schemas/{name}.json" in REFERENCE for name in SCHEMAS)


@pytest.mark.parametrize(
    ("verb", "content", "right"),
    [
        ("set", {"id": "1", "value": 3.5, "lease": "t", "expires": str(TIME)}, True),
        ("set", {"id": "1", "value": [3.5], "lease": "t", "expires": str(TIME)}, False),
        ("set", {"id": "1", "value": None, "lease": "t", "expires": str(TIME)}, False),
        ("set", {"id": "1", "value": 3.5, "lease": "t"}, False),
        ("set", {"id": "1", "value": 3.5, "expires": str(TIME)}, False),
        ("set", {"id": "1", "value": 3.5, "lease": "t", "expires": TIME}, False),
        ("set", {"id": "1", "value": 3.5, "lease": "t", "expires": str(TIME), "unit": "K"}, False),
        ("set", {"value": 3.5, "lease": "t", "expires": str(TIME)}, False),
        ("lease", {"id": "1", "action": "take"}, True),
        ("lease", {"id": "1", "action": "take", "lease": "t"}, False),
        ("lease", {"id": "1", "action": "renew", "lease": "t", "expires": None}, True),
        ("lease", {"id": "1", "action": "renew"}, False),
        ("lease", {"id": "1", "action": "steal"}, False),
        ("stop", {"id": "1"}, True),
        ("stop", {"id": "", "reason": "smoke"}, False),
        ("stop", {"id": "1", "reason": 7}, False),
        ("acknowledge", {"id": "1", "alarm": "trip", "time": str(TIME)}, True),
        ("acknowledge", {"id": "1"}, False),
    ],
)
def test_the_lab_takes_a_command_if_its_schema_does(verb: str, content: dict[str, Any], right: bool) -> None:
    payload = {"schema": 1} | content
    assert CHECKS[f"command-{verb}"].is_valid(payload) is right
    try:
        command_topics.decode_command(verb, "heater.setpoint" if verb == "set" else "", json.dumps(payload).encode())
    except command_topics.BadCommand:
        assert not right
    else:
        assert right


# ---------------------------------------------------------------------- Node-RED

FLOW = json.loads((ROOT / "examples/node-red/flow.json").read_text("utf-8"))


def test_the_flow_for_node_red_is_wired_and_needs_no_palette() -> None:
    ids = {node["id"] for node in FLOW}
    assert len(ids) == len(FLOW)
    core = {"tab", "mqtt-broker", "mqtt in", "function", "debug", "http in", "http response", "template"}
    assert {node["type"] for node in FLOW} <= core
    for node in FLOW:
        assert {target for port in node.get("wires", ()) for target in port} <= ids
    for node in FLOW:
        if node["type"] == "mqtt in":
            assert any(node["topic"] in schema["topics"] for schema in SCHEMAS.values()), node["topic"]


@pytest.mark.real_clock
@pytest.mark.needs_tool("mosquitto", "node-red")
async def test_a_real_node_red_with_the_flow_shows_a_value_and_tells_of_a_lab_that_closes(
    tmp_path: Path, mosquitto: EmbeddedBroker
) -> None:
    for node in FLOW:
        if node["type"] == "mqtt-broker":
            node["broker"], node["port"] = "127.0.0.1", str(mosquitto.port)
    (tmp_path / "flows.json").write_text(json.dumps(FLOW))
    settings = {
        "flowFile": "flows.json", "uiHost": "127.0.0.1", "disableEditor": True,
        "telemetry": {"enabled": False}, "externalModules": {"palette": {"allowInstall": False}},
    }  # fmt: skip
    (tmp_path / "settings.js").write_text(f"module.exports = {json.dumps(settings)};\n")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "node-red", "--userDir", str(tmp_path), "--port", str(port), cwd=tmp_path, stdout=sys.stderr
    )

    def fetched(path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bytes(answer.read())

    async def shown(wanted: Any) -> Any:
        async with asyncio.timeout(60):
            while True:
                try:
                    found = json.loads(await asyncio.to_thread(fetched, "/lab/values"))
                except OSError:
                    found = None
                if found is not None and wanted(found):
                    return found
                await asyncio.sleep(0.1)

    try:
        async with stage_on(mosquitto.port):
            found = await shown(lambda found: found["readings"] and not found["readings"][0]["trust"])
            (reading,) = found["readings"]
            assert (reading["device"], reading["label"], reading["unit"]) == ("heater", "temperature", "degC")
            assert reading["value"] == 21.5
            assert abs(int(reading["time"]) - time.time_ns()) < 30e9
            assert b"<table>" in await asyncio.to_thread(fetched, "/lab")
        closed = await shown(lambda found: found["labs"]["em3"]["state"] == "offline")
        assert closed["readings"][0]["trust"] == "the lab is not there"
    finally:
        process.terminate()
        await process.wait()
