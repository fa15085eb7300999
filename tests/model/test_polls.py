"""Polls: one question a period, many listeners, and nothing silences one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import toy

from hal.instrument.address import Scpi
from hal.model.reading import Quality, Reading
from hal.model.signal import BACKLOG, SignalR
from hal.testing import Wire, wired
from hal.transport.session import Reconnect


class Pair(toy.ToyGauge):
    """Two signals that one question answers, one of them seldom wanted."""

    half = SignalR(float, "Pa", at=Scpi("PRES?", parse=lambda text: float(text) / 2), poll=0.1)
    seldom = SignalR(float, "Pa", at=Scpi("PRES?"), poll=10.0)


Bench = tuple[Pair, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with wired(Pair, name="gauge", world=toy.World()) as (gauge, wire):
        yield gauge, wire


def follow(signal: SignalR[Any]) -> list[Reading[Any]]:
    readings: list[Reading[Any]] = []
    signal.subscribe(readings.append)
    return readings


async def test_many_listeners_and_signals_of_one_question_cost_one_question_a_period(bench: Bench) -> None:
    gauge, wire = bench
    followers = [follow(gauge.pressure) for _ in range(5)] + [follow(gauge.half)]
    await asyncio.sleep(1.05)
    assert 10 <= len(wire.sent) <= 12
    assert {len(readings) for readings in followers} == {len(wire.sent)}
    assert followers[0][0].value == 2 * followers[-1][0].value


async def test_the_poll_stops_with_its_last_listener(bench: Bench) -> None:
    gauge, wire = bench
    readings: list[Any] = []
    gauge.pressure.subscribe(readings.append)
    async for _ in gauge.pressure.watch():
        break
    await asyncio.sleep(0.5)
    assert len(wire.sent) > 3
    gauge.pressure.unsubscribe(readings.append)
    wire.forget()
    await asyncio.sleep(1)
    assert not wire.sent


async def test_a_listener_may_leave_from_within_its_own_call(bench: Bench) -> None:
    gauge, wire = bench
    seen = []

    def once(reading: Reading[Any]) -> None:
        seen.append(reading)
        gauge.pressure.unsubscribe(once)

    gauge.pressure.subscribe(once)
    await asyncio.sleep(1)
    assert len(seen) == len(wire.sent) == 1
    assert len(follow(gauge.pressure)) == 0
    await asyncio.sleep(1)
    assert len(wire.sent) > 5


async def test_who_wants_it_sooner_does_not_wait_for_the_period_of_who_came_first(bench: Bench) -> None:
    gauge, _ = bench
    follow(gauge.seldom)
    await asyncio.sleep(1)
    readings = follow(gauge.pressure)
    await asyncio.sleep(1.05)
    assert len(readings) >= 9


async def test_a_slow_follower_loses_its_own_backlog_counted_and_nobody_elses(bench: Bench) -> None:
    gauge, _ = bench
    watch = gauge.pressure.watch()
    first = await anext(watch)
    readings = follow(gauge.pressure)
    await asyncio.sleep(0.1 * BACKLOG + 20)
    assert len(readings) > BACKLOG + 100
    (mailbox,) = (pending for pending in gauge.context.pending if hasattr(pending, "dropped"))
    assert mailbox.dropped == pytest.approx(200, abs=5)
    assert (await anext(watch)).time > first.time + 15e9
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_reading_that_fails_turns_bad_at_once_and_says_why(bench: Bench) -> None:
    gauge, wire = bench
    readings = follow(gauge.pressure)
    await asyncio.sleep(0.5)
    wire.emulator.values["PRES"] = "garbage"
    await asyncio.sleep(0.15)
    assert readings[-1].quality is Quality.BAD
    assert readings[-1].value is None
    assert "pressure can't be read from b'garbage'" in readings[-1].reason
    wire.emulator.values["PRES"] = "nan"
    await asyncio.sleep(0.15)
    assert readings[-1].reason == "the instrument says nan"


@pytest.mark.parametrize("bug", [KeyError("bug"), TypeError("bug"), RuntimeError("bug"), ZeroDivisionError("bug")])
@pytest.mark.parametrize("where", ["ask", "value"])
async def test_a_drivers_bug_does_not_silence_a_poll_and_is_told_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bug: Exception, where: str
) -> None:
    gauge, _ = bench

    def fail(*_: object) -> None:
        raise bug

    readings = follow(gauge.pressure)
    await asyncio.sleep(0.3)
    with monkeypatch.context() as patch:
        patch.setattr(Scpi, where, fail)
        await asyncio.sleep(1)
        assert readings[-1].quality is Quality.BAD
        assert "bug" in readings[-1].reason
    await asyncio.sleep(0.3)
    assert readings[-1].quality is Quality.GOOD
    assert sum("bug" in event.text for event in gauge.context.journal.recent) <= 1


async def test_a_listeners_bug_reaches_no_other_listener(bench: Bench) -> None:
    gauge, _ = bench

    def buggy(reading: object) -> None:
        raise ValueError("bug")

    gauge.pressure.subscribe(buggy)
    readings = follow(gauge.pressure)
    await asyncio.sleep(1)
    assert len(readings) >= 9
    assert any("a listener of gauge.pressure failed: ValueError: bug" in e.text for e in gauge.context.journal.recent)


async def test_a_listener_of_the_journal_that_fails_keeps_nothing_from_being_noted(bench: Bench) -> None:
    gauge, _ = bench
    seen = []

    def buggy(event: object) -> None:
        raise ValueError("bug")

    gauge.context.journal.listeners += [buggy, seen.append]
    gauge.context.journal.note("note", "x", "something")
    assert len(seen) == 1


async def test_polls_turn_bad_at_once_while_a_link_is_sought_and_a_script_waits() -> None:
    async with wired(Pair, name="gauge", world=toy.World(), reconnect=Reconnect(10)) as (gauge, wire):
        readings = follow(gauge.pressure)
        await asyncio.sleep(0.5)
        wire.unplug()
        await asyncio.sleep(0.2)
        assert readings[-1].quality is Quality.BAD
        assert "the link memory: is gone" in readings[-1].reason
        assert "reconnecting" in readings[-1].reason
        asyncio.get_running_loop().call_later(2.0, wire.plug)
        assert await gauge.pressure.get() == 1e-5
        await asyncio.sleep(0.2)
        assert readings[-1].quality is Quality.GOOD


async def test_a_ramp_survives_an_outage_of_three_seconds() -> None:
    async with wired(toy.ToyHeater, name="heater", world=toy.World(), reconnect=Reconnect(10)) as (heater, wire):
        ramp = heater.ramp(to=120.0, rate=10.0)
        await asyncio.sleep(2)
        wire.unplug()
        await asyncio.sleep(3.0)
        wire.plug()
        await ramp
        assert wire.emulator.changes == ["RATE 10", "SETP 120"]
