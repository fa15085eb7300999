"""Operations: awaited, left early, superseded, failed; and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import toy

from hal.errors import LinkLost, NoReply, Superseded
from hal.testing import Wire, wired

Bench = tuple[toy.ToyHeater, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with wired(toy.ToyHeater, name="heater", world=toy.World()) as (heater, wire):
        yield heater, wire


def texts(heater: toy.ToyHeater, kind: str = "operation") -> list[str]:
    return [event.text for event in heater.context.journal.recent if event.kind == kind]


async def test_awaiting_a_ramp_waits_for_its_end(bench: Bench) -> None:
    heater, wire = bench
    began = asyncio.get_running_loop().time()
    await heater.ramp(to=50.0, rate=10.0)
    assert asyncio.get_running_loop().time() - began == pytest.approx(3.0, abs=0.3)
    assert wire.emulator.values["TEMP"] == pytest.approx(50.0)


async def test_a_setting_is_sent_when_its_status_is_awaited(bench: Bench) -> None:
    heater, wire = bench
    status = heater.gain.set(2.0)
    assert not status.done
    await status
    assert status.done
    assert status.success
    assert wire.emulator.values["GAIN"] == 2.0


async def test_leaving_a_ramp_early_holds_the_temperature(bench: Bench) -> None:
    heater, wire = bench
    async with heater.ramp(to=500.0, rate=10.0):
        await asyncio.sleep(5)
    assert wire.emulator.values["SETP"] == pytest.approx(70, abs=3)
    assert wire.emulator.values["OUT"] == 1
    assert texts(heater)[-1] == "ramp to 500: cancelled"


async def test_cancelling_who_awaits_a_ramp_holds_and_only_then_goes_on(bench: Bench) -> None:
    heater, wire = bench
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await heater.ramp(to=500.0, rate=10.0)
    assert wire.emulator.values["SETP"] == pytest.approx(70, abs=3)


async def test_a_hold_is_not_ended_by_cancelling_twice(bench: Bench) -> None:
    heater, wire = bench
    wire.emulator.reply_delay = 0.1
    ramp = heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(5)
    for _ in range(4):
        ramp.cancel()
        ramp._task.cancel()
        await asyncio.sleep(0.03)
    await ramp.ended()
    assert wire.emulator.values["SETP"] == pytest.approx(70, abs=3)


async def test_a_hold_that_fails_takes_the_device_to_its_safe_state(bench: Bench) -> None:
    heater, wire = bench
    ramp = heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(5)
    wire.emulator.silent.add("SETP")
    with pytest.raises(NoReply):
        async with ramp:
            pass
    assert wire.emulator.changes[-1] == "OFF"


async def test_a_ramp_cancelled_before_it_began_still_holds_what_it_superseded(bench: Bench) -> None:
    heater, wire = bench
    first = heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(5)
    second = heater.ramp(to=100.0, rate=5.0)
    second.cancel()
    await second.ended()
    with pytest.raises(Superseded):
        await first
    assert wire.emulator.values["SETP"] == pytest.approx(70, abs=3)
    assert "RATE 5" not in wire.emulator.changes


async def test_a_newer_ramp_supersedes_the_older_on_the_record_and_no_hold_comes_between(bench: Bench) -> None:
    heater, wire = bench
    first = heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(5)
    await heater.ramp(to=60.0, rate=20.0)
    with pytest.raises(Superseded, match="heater ramp to 500: superseded by 'ramp to 60'"):
        await first
    assert wire.emulator.changes == ["RATE 10", "SETP 500", "RATE 20", "SETP 60"]
    assert "ramp to 500: superseded by 'ramp to 60'" in texts(heater)


async def test_an_operation_superseded_in_the_turn_it_began_says_so_and_sends_nothing(bench: Bench) -> None:
    heater, wire = bench
    first, second = heater.ramp(to=500.0, rate=10.0), heater.ramp(to=30.0, rate=20.0)
    with pytest.raises(Superseded):
        await first
    await second
    assert wire.emulator.changes == ["RATE 20", "SETP 30"]


async def test_an_error_takes_the_device_to_its_safe_state(bench: Bench) -> None:
    heater, wire = bench
    ramp = heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(2)
    wire.emulator.silent.add("TEMP?")
    with pytest.raises(NoReply, match="heater: temperature could not be read for 3 s"):
        await ramp
    assert wire.emulator.changes[-1] == "OFF"
    assert any("ramp to 500 failed" in text for text in texts(heater, "error"))


async def test_the_safe_state_after_an_error_is_not_ended_by_cancelling(bench: Bench) -> None:
    heater, wire = bench
    wire.emulator.reply_delay = 0.1
    wire.emulator.silent.add("SETP")
    ramp = heater.ramp(to=500.0, rate=10.0)
    waiting = asyncio.get_running_loop().create_task(_await(ramp))
    await asyncio.sleep(0.1 + 0.6 + 0.45)
    assert wire.emulator.changes[-1] == "OFF"  # it has been sent, and is not answered yet
    wire.emulator.changes.clear()
    waiting.cancel()
    ramp.cancel()
    await ramp.ended()
    assert not any("not in its safe state" in text for text in texts(heater, "error"))


async def _await(status: object) -> None:
    await status  # type: ignore[misc]


async def test_a_bug_in_the_safe_state_does_not_hide_the_error_that_led_to_it(bench: Bench) -> None:
    heater, wire = bench

    async def bug() -> None:
        raise KeyError("bug")

    heater.make_safe = bug  # type: ignore[method-assign]
    wire.emulator.silent.add("RATE")
    with pytest.raises(NoReply, match="RATE 10"):
        await heater.ramp(to=500.0, rate=10.0)
    assert any("not in its safe state: 'bug'" in text for text in texts(heater, "error"))


async def test_the_safe_state_ends_every_write_that_still_waits(bench: Bench) -> None:
    heater, wire = bench
    wire.emulator.reply_delay = 0.1
    ramp, gain = heater.ramp(to=500.0, rate=10.0), heater.gain.set(5.0)
    turns = heater.turns.set(3)
    await asyncio.sleep(0.05)
    await heater.safe_state()
    await asyncio.sleep(5)
    assert wire.emulator.changes[-1] == "OFF"
    for status in (ramp, gain, turns):
        assert status.done
        assert isinstance(status.exception(), Superseded)


async def test_a_failure_nobody_awaited_is_kept_for_the_end(bench: Bench) -> None:
    heater, wire = bench
    wire.emulator.silent.add("GAIN")
    heater.gain.set(2.0)
    await asyncio.sleep(2)
    (left,) = heater.context.unobserved
    assert "heater.gain.set failed and nobody awaited it: heater: no reply" in str(left)


async def test_a_refused_setting_leaves_a_running_ramp_alone(bench: Bench) -> None:
    heater, wire = bench
    wire.emulator.silent.add("GAIN")
    ramp = heater.ramp(to=100.0, rate=10.0)
    with pytest.raises(NoReply):
        await heater.gain.set(2.0)
    await ramp
    assert "OFF" not in wire.emulator.changes


async def test_stop_is_a_no_op_on_an_idle_device_and_holds_a_busy_one(bench: Bench) -> None:
    heater, wire = bench
    await heater.stop()
    assert not wire.sent
    heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(5)
    await heater.stop()
    assert wire.emulator.values["SETP"] == pytest.approx(70, abs=3)


async def test_a_pulled_cable_ends_a_ramp_with_what_to_do(bench: Bench) -> None:
    heater, wire = bench
    ramp = heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(1)
    wire.unplug()
    with pytest.raises((LinkLost, NoReply), match=r"heater: .*check the cable"):
        await ramp
