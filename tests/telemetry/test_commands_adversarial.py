"""What a lab does with commands, also with those that come wrong, late, twice, or while it closes.

The broker is memory here, so that what comes, and when, is in the hand of the test; real brokers are in
test_commands_on_brokers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import toy
from paho.mqtt import client as paho
from toy import in_memory

from hal import Lab
from hal.capabilities import Gauge, Heater
from hal.runtime.latch import Latch
from hal.telemetry import command_listener, commands
from hal.telemetry.broker import EmbeddedBroker, parse_broker
from hal.telemetry.command_listener import Answer, Heard, Listener
from hal.telemetry.command_topics import other_filters, urgent_filters

__all__ = ["in_memory"]

pytestmark = pytest.mark.usefixtures("in_memory")

ALLOWED = ("heater.setpoint", "heater.mode", "heater.label", "oven.setpoint")
SLOW = '[links.slow]\nurl = "emulator:"\non_link_lost = "reconnect"\nwithin = 60'


class Toys(Lab):
    heater: Heater
    oven: Heater
    gauge: Gauge


class InMemory:
    """Stands where a listener would: the broker is the test."""

    def __init__(self, url: Any, filters: Any, hear: Callable[[Heard], None], tell: Any, **_: bool) -> None:
        self.filters, self.hear, self.said, self.undecided = list(filters), hear, [], 0
        self.said: list[Answer] = []

    def start(self) -> None:
        """It is there."""

    def close(self) -> None:
        """It is gone."""

    def keep(self, topic: str, payload: bytes) -> None:
        """Nobody looks."""

    def say(self, answer: Answer) -> None:
        self.said.append(answer)

    def decided(self) -> None:
        self.undecided -= 1


class Hand:
    """Publishes, and hears the answers."""

    def __init__(self, lab: Any, commands: Any) -> None:
        self.lab, self.commands, self._made = lab, commands, 0

    def publish(self, path: str, payload: Any, user: str = "anna", **more: Any) -> None:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        topic = more.pop("topic", f"insitu-meta/toys/commands/{user}/{path}")
        for listener in (self.commands._urgent, self.commands._other):
            if any(paho.topic_matches_sub(wanted, topic) for wanted in listener.filters):
                listener.undecided += 1
                listener.hear(Heard(topic, raw, len(raw), **({"retained": False} | more)))

    @property
    def answers(self) -> list[dict[str, Any]]:
        said = self.commands._urgent.said + self.commands._other.said
        return [json.loads(answer.payload) for answer in said]

    async def answer(self, id: str, within: float = 60.0) -> dict[str, Any]:
        await toy.eventually(lambda: any(found["id"] == id for found in self.answers), within)
        return [found for found in self.answers if found["id"] == id][-1]

    async def ask(self, path: str, user: str = "anna", **fields: Any) -> dict[str, Any]:
        self._made += 1
        content = {"schema": 1, "id": f"id {self._made}"} | fields
        self.publish(path, content, user)
        return await self.answer(content["id"])

    def soon(self, seconds: float = 30.0) -> str:
        return str(self.lab.context.timebase.now() + round(seconds * 1e9))

    async def set(self, signal: str, value: Any, lease: str, ahead: float = 30.0, user: str = "anna") -> dict[str, Any]:
        fields = {"value": value, "lease": lease, "expires": self.soon(ahead)}
        return await self.ask(f"set/{signal.replace('.', '/')}", user, **fields)

    def noted(self, kind: str = "command") -> list[Any]:
        return [event for event in self.lab.context.journal.recent if event.kind == kind]

    async def take(self, user: str = "anna") -> str:
        found = await self.ask("lease", user, action="take")
        assert found["ok"], found
        return str(found["lease"])

    def emulator(self, name: str = "heater") -> Any:
        return self.lab.emulation.emulator(name)


async def _opened(folder: Path, *more: str, toys: str = toy.TOYS) -> Hand:
    lab: Any = await Toys.connect(toy.write_lab(folder, *more, toys=toys))
    all_rights = ("watch", "stop", "acknowledge", "set")
    may = {"anna": all_rights, "ben": all_rights, "eve": ("watch",)}
    lab.commands = commands.Commands(lab, "toys", parse_broker("mqtt://broker"), may=may, allow=ALLOWED)
    lab.commands.start()
    return Hand(lab, lab.commands)


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "Listener", InMemory)


@pytest_asyncio.fixture
async def hand(tmp_path: Path) -> AsyncIterator[Hand]:
    hand = await _opened(tmp_path)
    yield hand
    await hand.lab.close()


# ---------------------------------------------------------------------- a stop always stops


async def test_a_stop_under_an_id_used_before_stops_again(hand: Hand) -> None:
    night = {"schema": 1, "id": "night 1", "reason": "smoke"}
    hand.publish("stop", night)
    assert (await hand.answer("night 1"))["ok"]
    assert (await hand.ask("acknowledge", alarm="trip", expires=hand.soon()))["ok"]
    await hand.lab.heater.setpoint.set(300.0)
    hand.publish("stop", night)  # from the history of the same terminal
    await toy.eventually(lambda: hand.lab.trip is not None)
    await toy.eventually(lambda: hand.emulator().values["OUT"] == 0)


async def test_a_stop_is_not_refused_for_a_clock_that_is_ten_minutes_ahead(hand: Hand) -> None:
    assert (await hand.ask("stop", expires=hand.soon(600)))["ok"]
    assert hand.lab.trip is not None
    hand.lab.acknowledge(by="Ada")
    assert "too late" in (await hand.ask("stop", expires=hand.soon(-1)))["text"]
    assert hand.lab.trip is None


def test_a_stop_waits_behind_nothing_but_stops() -> None:
    assert urgent_filters("toys", ["anna", "ben"]) == (
        "insitu-meta/toys/commands/anna/stop", "insitu-meta/toys/commands/ben/stop",
    )  # fmt: skip
    assert {topic.split("/")[4] for topic in other_filters("toys")} == {"set", "lease", "acknowledge", "stop"}


async def test_a_stop_of_one_who_may_not_is_refused_once_and_of_one_who_may_carried_out_once(hand: Hand) -> None:
    found = await hand.ask("stop", "eve")
    assert "eve may not stop; the lab file lets eve watch" in found["text"]
    assert hand.lab.trip is None
    assert (await hand.ask("stop", "anna"))["ok"]
    await asyncio.sleep(1)
    assert [event.data["by"] for event in hand.noted()] == ["eve", "anna"]
    assert len(hand.answers) == 2


async def test_a_stop_heard_while_the_lab_closes_is_seen_through_and_answered(tmp_path: Path) -> None:
    hand = await _opened(tmp_path, toys=toy.TOYS.replace('"toys"', '"toys"\non_exit = "hold"', 1))
    await hand.lab.heater.setpoint.set(300.0)
    hand.emulator("oven").silent.add("OFF")  # so that the stop takes a while
    hand.publish("stop", {"schema": 1, "id": "late"})
    await asyncio.sleep(0)
    await hand.lab.close()
    found = await hand.answer("late", within=1)
    assert "NOT every device is in its safe state: oven: no reply" in found["text"]
    assert hand.emulator().changes[-1] == "OFF"
    assert Latch(tmp_path / "lab.toml", "toys").read() is not None


async def test_what_comes_once_the_commands_are_closed_is_dropped(hand: Hand) -> None:
    await hand.commands.close()
    before = list(hand.emulator().changes)
    hand.publish("stop", {"schema": 1, "id": "x"})
    await asyncio.sleep(1)
    assert hand.lab.trip is None
    assert hand.emulator().changes == before
    assert hand.commands._urgent.undecided == 0


async def test_a_stop_is_not_held_up_by_somebody_elses_lease(hand: Hand) -> None:
    await hand.take("ben")
    assert (await hand.ask("stop"))["ok"]


async def test_a_stop_while_tripped_sends_the_safe_state_once_more(hand: Hand) -> None:
    assert (await hand.ask("stop"))["ok"]
    before = hand.emulator().changes.count("OFF")
    assert (await hand.ask("stop"))["ok"]
    assert hand.emulator().changes.count("OFF") > before
    assert len(hand.lab.trips) == 1


async def test_a_device_that_does_not_get_to_its_safe_state_is_named_in_the_answer(hand: Hand) -> None:
    hand.emulator("oven").silent.add("OFF")
    found = await hand.ask("stop")
    assert not found["ok"]
    assert "NOT every device is in its safe state: oven: no reply" in found["text"]
    assert hand.emulator().changes[-1] == "OFF"


async def test_a_stop_after_an_acknowledgement_stops_again_although_the_first_is_not_done(hand: Hand) -> None:
    hand.emulator("oven").silent.add("OFF")  # so that the first stop takes its time
    hand.publish("stop", {"schema": 1, "id": "first"})
    await toy.eventually(lambda: hand.lab.trip is not None)
    assert (await hand.ask("acknowledge", alarm="trip", expires=hand.soon()))["ok"]
    await hand.lab.heater.setpoint.set(300.0)
    assert not any(found["id"] == "first" for found in hand.answers)
    hand.publish("stop", {"schema": 1, "id": "second"})
    await toy.eventually(lambda: hand.emulator().values["OUT"] == 0)
    assert hand.lab.trip is not None
    hand.emulator("oven").silent.clear()
    assert (await hand.answer("second"))["ok"]


# ---------------------------------------------------------------------- what is late sets nothing


async def test_a_value_is_not_sent_after_it_expired_while_its_link_was_away(tmp_path: Path) -> None:
    toys = toy.TOYS.replace('driver = "toy:ToyHeater"', 'driver = "toy:ToyHeater"\nlink = "slow"', 1)
    hand = await _opened(tmp_path, SLOW, toys=toys)
    try:
        lease, port = await hand.take(), hand.lab.emulation.links["slow"]
        port.unplug()  # nobody has noticed yet
        found = asyncio.ensure_future(hand.ask("set/heater/setpoint", value=300, lease=lease, expires=hand.soon(5)))
        await asyncio.sleep(20)
        await port.plug()
        await asyncio.sleep(20)
        assert hand.emulator().values["SETP"] == 20.0
        assert "expired before it was confirmed" in (await found)["text"]
    finally:
        await hand.lab.close()


async def test_a_value_sent_before_a_stop_is_not_set_after_its_acknowledgement(hand: Hand) -> None:
    lease = await hand.take()
    assert (await hand.ask("stop", "ben"))["ok"]
    assert "nothing can be set: stopped by ben" in (await hand.ask("lease", action="take"))["text"]
    hand.lab.acknowledge(by="Ada")
    found = await hand.ask("set/heater/setpoint", value=300, lease=lease, expires=hand.soon())
    assert "nobody has the lease: it expired, ended with a trip" in found["text"]
    assert hand.emulator().values["SETP"] == 20.0
    assert (await hand.ask("set/heater/setpoint", value=300, lease=await hand.take(), expires=hand.soon()))["ok"]


async def test_a_value_is_set_once_although_many_others_came_in_between(hand: Hand) -> None:
    lease = await hand.take()
    one = {"schema": 1, "id": "one", "value": 80, "lease": lease, "expires": hand.soon(290)}
    hand.publish("set/heater/setpoint", one)
    await hand.answer("one")
    for number in range(3000):  # 150 s of the fastest that a listener reads
        hand.publish("lease", {"schema": 1, "id": f"o{number}", "action": "renew", "lease": lease})
        hand.commands._other.said.clear()
        if number % 500 == 0:
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    await hand.lab.heater.setpoint.set(50.0)
    hand.publish("set/heater/setpoint", one)
    await hand.answer("one")
    assert hand.emulator().values["SETP"] == 50.0


async def test_a_text_that_could_hold_further_commands_is_not_set(hand: Hand) -> None:
    lease = await hand.take()
    found = await hand.ask("set/heater/label", value="x;VOLT 600", lease=lease, expires=hand.soon())
    assert "takes any text" in found["text"]
    assert (await hand.ask("set/heater/mode", value="fast", lease=lease, expires=hand.soon()))["ok"]


async def test_what_may_not_be_set_never_reaches_the_wire(hand: Hand) -> None:
    lease = await hand.take()
    before = list(hand.emulator().changes)
    for signal, value, why in [
        ("heater.setpoint", 700.0, "outside 0 to 600 degC; nothing was sent"),
        ("heater.setpoint", "hot", "is no number; nothing was sent"),
        ("heater.setpoint", True, "is no number; nothing was sent"),
        ("heater.mode", "wild", "is none of"),
        ("heater.gain", 1.0, r"heater.gain may not be set over MQTT; the lab file allows: heater.label, he"),
        ("heater.temperature", 20.0, "may not be set over MQTT"),
    ]:
        found = await hand.set(signal, value, lease)
        assert not found["ok"]
        assert why in found["text"]
    infinite = json.dumps({"schema": 1, "id": "i", "value": 1, "lease": lease, "expires": hand.soon()})
    hand.publish("set/heater/setpoint", infinite.replace('"value": 1', '"value": 1e999').encode())
    assert "inf degC is outside" in (await hand.answer("i"))["text"]
    late = await hand.set("heater.setpoint", 50, lease, ahead=-2.5)
    assert "it came 2.5" in late["text"]
    assert "too late by the lab's clock" in late["text"]
    assert "may be 300 s" in (await hand.set("heater.setpoint", 50, lease, ahead=4000))["text"]
    assert "not the lease's token" in (await hand.set("heater.setpoint", 50, "guessed"))["text"]
    assert "anna has the lease" in (await hand.set("heater.setpoint", 50, lease, user="ben"))["text"]
    assert "eve may not set" in (await hand.set("heater.setpoint", 50, lease, user="eve"))["text"]
    assert hand.emulator().changes == before
    assert sum(not event.data["ok"] for event in hand.noted()) == 12


async def test_after_a_trip_a_command_is_refused_like_a_script(hand: Hand) -> None:
    lease = await hand.take()
    await hand.ask("stop")
    before = list(hand.emulator().changes)
    found = await hand.set("heater.setpoint", 100, lease)
    assert not found["ok"]
    assert "stopped by anna. Every device was told to go to its safe state" in found["text"]
    assert hand.emulator().changes == before


async def test_a_device_that_does_not_answer_is_the_answer(hand: Hand) -> None:
    hand.emulator().silent.add("MODE")
    found = await hand.set("heater.mode", "fast", await hand.take())
    assert not found["ok"]
    assert "heater: no reply to b'MODE fast'" in found["text"]


async def test_a_command_delivered_twice_acts_once_and_is_answered_twice(hand: Hand) -> None:
    content = {"schema": 1, "id": "one", "value": 80, "lease": await hand.take(), "expires": hand.soon()}
    for _ in range(3):
        hand.publish("set/heater/setpoint", content)
    await toy.eventually(lambda: [a["ok"] for a in hand.answers if a["id"] == "one"] == [True] * 3)
    assert hand.emulator().changes.count("SETP 80") == 1
    hand.publish("set/heater/setpoint", content | {"value": 90})
    await toy.eventually(lambda: "this id was used for another command" in hand.answers[-1]["text"])
    assert hand.emulator().values["SETP"] == 80


async def test_a_lease_that_is_not_renewed_ends_by_itself_on_the_record(hand: Hand) -> None:
    hand.commands._lease._length = 50_000_000  # ns, of lab time, which does not jump
    lease = await hand.take()
    await toy.eventually(lambda: "the lease of anna has expired" in hand.noted()[-1].text, within=600)
    assert "nobody has the lease" in (await hand.set("heater.setpoint", 50, lease))["text"]
    await hand.take("ben")


# ---------------------------------------------------------------------- what is late releases nothing


async def test_an_acknowledgement_that_may_be_of_any_age_releases_nothing(hand: Hand) -> None:
    await hand.ask("stop")
    assert 'give "time"' in (await hand.ask("acknowledge", alarm="trip"))["text"]
    ahead = hand.soon(100)
    assert "lies ahead" in (await hand.ask("acknowledge", alarm="trip", time=ahead))["text"]
    assert hand.lab.trip is not None


async def test_an_acknowledgement_of_the_trip_that_was_seen_does_not_release_another(hand: Hand) -> None:
    assert "no trip awaits" in (await hand.ask("acknowledge", alarm="trip"))["text"]
    await hand.ask("stop")
    seen = hand.lab.trip.time
    found = await hand.ask("acknowledge", alarm="trip", time=str(seen - 1))
    assert not found["ok"]
    assert "another trip has happened since" in found["text"]
    assert hand.lab.trip is not None
    assert (await hand.ask("acknowledge", alarm="trip", time=str(seen)))["ok"]
    assert hand.lab.trip is None
    assert "no alarm 'nonsense'" in (await hand.ask("acknowledge", alarm="nonsense"))["text"]


async def test_an_acknowledgement_of_a_trip_does_not_release_a_stop_that_came_on_top(hand: Hand) -> None:
    interlock = hand.lab.interlock(hand.lab.gauge.pressure.below(1e-3), name="vacuum")
    hand.emulator("gauge").values["PRES"] = 0.5
    await toy.eventually(lambda: hand.lab.trip is not None)
    hand.emulator("gauge").values["PRES"] = 1e-5
    await asyncio.sleep(1)
    seen = str(hand.lab.context.timebase.now())
    await asyncio.sleep(1)
    await hand.ask("stop", reason="smoke")
    assert hand.lab.trip.name == interlock.name
    assert (
        "another trip has happened since, or a stop"
        in (await hand.ask("acknowledge", "ben", alarm="trip", time=seen))["text"]
    )
    assert hand.lab.trip is not None
    now = str(hand.lab.context.timebase.now())
    assert (await hand.ask("acknowledge", "ben", alarm="trip", time=now))["ok"]


async def test_an_acknowledgement_of_a_trip_does_not_release_an_interlock_that_failed_on_top(hand: Hand) -> None:
    hand.lab.interlock(hand.lab.gauge.pressure.below(1e-3), name="vacuum")
    hand.lab.interlock(hand.lab.heater.temperature.below(500.0), name="hot")
    hand.emulator("gauge").values["PRES"] = 0.5
    await toy.eventually(lambda: hand.lab.trip is not None)
    seen = str(hand.noted("trip")[-1].time)
    hand.emulator().values["TEMP"] = 550.0
    await toy.eventually(lambda: len(hand.noted("trip")) == 2)
    found = await hand.ask("acknowledge", alarm="trip", time=seen)
    assert "another trip has happened since, or a stop" in found["text"]
    assert hand.lab.trip is not None
    assert (await hand.ask("acknowledge", alarm="trip", time=str(hand.noted("trip")[-1].time)))["ok"]


async def test_an_acknowledgement_heard_before_the_trip_does_not_release_it(hand: Hand) -> None:
    await hand.ask("stop")
    hand.publish("acknowledge", {"schema": 1, "id": "a", "alarm": "trip", "expires": hand.soon()})
    hand.lab.acknowledge(by="Ada")
    await asyncio.gather(hand.lab.stop(by="Ada"), return_exceptions=True)
    assert hand.lab.trip is not None or "no trip awaits" in (await hand.answer("a"))["text"]


# ---------------------------------------------------------------------- rubbish


@pytest.mark.parametrize("topic", [
    "insitu-meta/toys/commands/anna/set/heater/" + "x" * 60_000,
    "insitu-meta/toys/commands/anna/set/heater/a\nWARNING hal: trip vacuum",
    "insitu-meta/toys/commands/anna\x1b[2J/stop",
])  # fmt: skip
async def test_a_topic_can_neither_flood_nor_forge_the_record(hand: Hand, topic: str) -> None:
    hand.publish("set", {"schema": 1, "id": "x"}, topic=topic)
    await asyncio.sleep(0.1)
    last = hand.lab.context.journal.recent[-1]
    assert last.kind == "command"
    assert "not printable" in last.text
    assert len(last.text) < 300
    assert last.text.isprintable()


def test_a_listener_survives_whatever_paho_makes_of_a_broken_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(command_listener, "BACKOFF", (0.001, 0.001))
    listener = Listener(parse_broker("mqtt://broker"), ["a"], lambda heard: None, told.append, what="a")
    tried: list[int] = []

    def broken(self: Listener) -> None:
        tried.append(1)
        if len(tried) >= 4:
            self._ending.set()
        raise IndexError("index out of range")

    monkeypatch.setattr(Listener, "_converse", broken)
    listener.start()
    listener._thread.join(5)
    assert len(tried) == 4
    assert "can't be heard" in told[0]


def test_a_listener_that_is_refused_says_so_although_the_broker_was_away_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_listener, "BACKOFF", (0.01, 0.01))
    told: list[str] = []
    listener = Listener(parse_broker("mqtt://broker"), ["a"], lambda heard: None, told.append, what="stop")
    troubles = ["[Errno 111] refused"] * 4 + ["[code:5] not authorised"] * 4

    def broken(self: Listener) -> None:
        trouble = troubles.pop(0)
        if not troubles:
            self._ending.set()
        raise ConnectionError(trouble)

    monkeypatch.setattr(Listener, "_converse", broken)
    listener.start()
    listener._thread.join(5)
    away, refused = told
    assert "stop can't be heard at mqtt://broker:1883 ([Errno 111] refused)" in away
    assert "it refuses our user or password" in refused


@pytest.mark.real_clock
@pytest.mark.needs_tool("mosquitto")
def test_what_waits_behind_a_flood_is_let_go_and_who_comes_after_it_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 a second are read: of 2000 at once the last would be heard after 98 s."""
    monkeypatch.setattr(command_listener, "BACKOFF", (0.05, 0.1))
    monkeypatch.setattr(command_listener, "BEHIND", 0.2)
    broker = EmbeddedBroker(program="mosquitto")
    broker.open()
    url, heard = parse_broker(f"mqtt://127.0.0.1:{broker.port}"), []
    listener = Listener(url, ["flood"], lambda one: (heard.append(one.payload), listener.decided()), print, what="a")
    try:
        listener.start()
        assert listener.connected.wait(10)
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(1000)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        for _ in range(2000):
            client.publish("flood", b"x", 1)
        deadline = time.monotonic() + 60
        while b"after it" not in heard:
            assert time.monotonic() < deadline
            client.publish("flood", b"after it", 1)
            time.sleep(0.3)
        assert len(heard) < 500
        client.disconnect()
        client.loop_stop()
    finally:
        listener.close()
        broker.close()


# ---------------------------------------------------------------------- floods


@pytest.mark.parametrize("signal", ["heater.setpoint", "heater.mode"])
async def test_values_that_come_faster_than_a_slow_instrument_takes_them_leave_room_for_its_readings(
    tmp_path: Path, signal: str
) -> None:
    slow = 'driver = "toy:ToyHeater"\nemulator = { reply_delay = 0.2 }'
    hand = await _opened(tmp_path, toys=toy.TOYS.replace('driver = "toy:ToyHeater"', slow, 1))
    try:
        lease = await hand.take()
        good: list[Any] = []
        hand.lab.heater.temperature.subscribe(lambda reading: good.append(reading) if reading.value is not None else 0)
        path, value = f"set/{signal.replace('.', '/')}", 50 if signal.endswith("setpoint") else "fast"
        for number in range(200):
            fields = {"value": value, "lease": lease, "expires": hand.soon()}
            hand.publish(path, {"schema": 1, "id": f"f{number}"} | fields)
            await asyncio.sleep(0.05)
        assert len(good) >= 5  # in 10 s
    finally:
        await hand.lab.close()
