"""A holder exchanged while the board has power, as the driver sees it: against the board's own firmware."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from plugged_board import Plugged, plugged, state, until

from devices.insitu_mcu.emulator import HOLDER, SPARE
from hal.errors import LimitError, NoReply, Refused
from hal.model.reading import Quality
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import Fault, State, TedsState
from hal.transport.session import Reconnect

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc"), pytest.mark.timeout(900)]  # it is compiled first

TUNED = {"kp": 2.0, "ki": 4.0, "feed_forward": 0.066}


def journal(p: Plugged) -> str:
    return "\n".join(event.text for event in p.device.context.journal.recent)


async def exchange(p: Plugged, holder: int | None) -> None:
    """Pull the holder out and plug another in; returns when the driver knows it."""
    p.board.exchange(None)
    await known(p, TedsState.ABSENT)
    if holder is not None:
        p.board.exchange(holder)
        await known(p, TedsState.VALID)


async def a_nonce(p: Plugged) -> int:
    while True:
        with suppress(NoReply):  # this machine was busy
            return (await p.device.beat()).nonce


async def known(p: Plugged, state: TedsState) -> None:
    """The board is in that state, and the driver has read what it has."""
    deadline = asyncio.get_running_loop().time() + 5
    while (told := (await p.device.status()).reply).teds is not state or told.holder != p.device.holder:
        assert asyncio.get_running_loop().time() < deadline, told
        await asyncio.sleep(0.01)


async def test_another_holders_data_sheet_is_read_and_its_limits_are_in_force_in_both_directions():
    async with plugged(**TUNED) as p:
        p.device.setpoint.check(900.0)
        await exchange(p, 1)
        assert p.device.data_sheet is not None
        assert p.device.data_sheet.serial == "0002"
        assert await p.device.holder_serial.get() == "0002"
        with pytest.raises(LimitError, match="set by the holder's TEDS"):
            p.device.ramp(401.0, 100.0)
        assert "the holder is emulated holder 0002; before, it was emulated holder 0001" in journal(p)
        await exchange(p, 0)
        p.device.setpoint.check(900.0)
        assert "the holder is emulated holder 0001; before, it was emulated holder 0002" in journal(p)


async def test_the_heater_loop_is_tuned_for_each_holder_anew():
    async with plugged(**TUNED) as p:
        await p.device.ramp(60.0, 1000.0)
        await p.device.make_safe()
        await exchange(p, 1)
        await asyncio.wait_for(p.device.ramp(80.0, 1000.0), 20)
        assert p.device.temperature.noise is not None


async def test_after_its_data_sheet_was_written_the_heater_still_heats():
    async with plugged(**TUNED) as p:
        await p.device.ramp(60.0, 1000.0)
        await p.device.make_safe()
        await p.device.write_teds(replace(HOLDER, temperature_max=500.0))
        await asyncio.wait_for(p.device.ramp(80.0, 1000.0), 20)
        with pytest.raises(LimitError):
            p.device.ramp(501.0, 100.0)


async def test_without_a_holder_nothing_is_known_and_nothing_arms():
    async with plugged() as p:
        await exchange(p, None)
        assert p.device.data_sheet is None
        assert (await p.device.power.read()).quality is Quality.BAD
        assert (await p.device.temperature.read()).quality is Quality.BAD
        with pytest.raises(Refused, match="no holder answers"):
            await p.device.arm()
        with pytest.raises(Refused, match="no holder answers"):
            await p.device.read_teds()
        with pytest.raises(Refused, match="no holder answers"):
            await p.device.write_teds(HOLDER)
        assert (await state(p.device)).state is State.SAFE
        await exchange(p, 0)
        await p.device.arm()


async def test_pulled_out_while_heating_it_is_a_fault_and_the_ramp_says_so():
    async with plugged(**TUNED) as p:
        ramp = p.device.ramp(900.0, 20.0)
        await until(lambda: p.heater > 0)
        p.board.exchange(None)
        with pytest.raises(Refused, match="the holder was exchanged, or its EEPROM does not answer"):
            await ramp
        assert p.heater == 0
        assert (await state(p.device)).fault is Fault.HOLDER
        with pytest.raises(Refused):
            await p.device.clear_fault()
        p.board.exchange(1)
        await until(lambda: p.device.data_sheet is not None)
        assert p.device.data_sheet is not None
        assert p.device.data_sheet.serial == SPARE.serial
        await p.device.clear_fault()
        await p.device.arm()


async def test_an_arming_just_after_an_exchange_that_nobody_saw_is_refused():
    async with plugged() as p:
        p.board.exchange(1)  # no time between the two: the next look at these bytes may be a second away
        with pytest.raises(Refused, match="read anew"):  # by the board, or, were we slow, by the host
            await p.device.arm()
        assert (await state(p.device)).state is State.SAFE
        await until(lambda: p.device.data_sheet is not None and p.device.data_sheet.serial == "0002")
        await p.device.arm()


async def test_an_exchange_whose_events_were_lost_is_heard_of_by_the_next_report():
    async with plugged() as p:
        p.device._sorter._told = lambda message: None  # type: ignore[attr-defined]
        p.board.exchange(1)
        deadline = asyncio.get_running_loop().time() + 5
        while p.device.data_sheet is None or p.device.data_sheet.serial != "0002":
            assert asyncio.get_running_loop().time() < deadline
            await p.device.report()
            await asyncio.sleep(0.01)
        await p.device.arm()


async def test_a_wire_that_failed_while_the_holder_was_read_does_not_leave_it_unknown():
    async with plugged() as p:
        p.board.exchange(1)
        await until(lambda: "being read anew" in journal(p))
        p.faults.frozen = True
        await until(lambda: "it does not arm until it is read" in journal(p))
        p.faults.frozen = False
        with suppress(NoReply):
            await p.device.report()
        await until(lambda: p.device.data_sheet is not None and p.device.data_sheet.serial == "0002")


async def test_a_program_that_knows_another_holder_does_not_arm():
    async with plugged() as p:
        await p.device.arm()
        await p.device.make_safe()
        nonce = await a_nonce(p)
        with pytest.raises(Refused, match="not the one that this program has read"):
            await p.device.do(gen.Arm(nonce, p.device.interlocks.checksum, p.device.holder ^ 1))
        await until(lambda: p.device.holder)  # it looks again, and it was right
        await p.device.arm()


async def test_with_the_power_off_a_holder_is_exchanged_as_well():
    async with plugged(reconnect=Reconnect(10.0)) as p:
        p.board.unplug()
        p.board.exchange(1)
        await p.board.plug()
        assert await p.device.temperature.get() == pytest.approx(25.0, abs=1.0)
        assert p.device.data_sheet is not None
        assert p.device.data_sheet.serial == "0002"
        assert "before, it was emulated holder 0001" in journal(p)
