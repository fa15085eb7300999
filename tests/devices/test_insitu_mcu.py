"""The driver of our own board against the board's own firmware, built for this machine, over its pty."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from plugged_board import plugged, state, until

from devices.insitu_mcu.emulator import HOLDER
from hal.capabilities import FrameClock, Heater, Teds, Thermometer, lacking
from hal.errors import HalError, LimitError, LinkLost, NoReply, Refused, WrongInstrument
from hal.model.reading import Quality
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import Fault, ProfileTarget, Segment, SegmentKind, State
from hal.transport.session import Reconnect

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc"), pytest.mark.timeout(900)]  # it is compiled first

TUNED = {"kp": 2.0, "ki": 4.0, "feed_forward": 0.066}

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))  # 600 for the long one


# ---------------------------------------------------------------------- who is there


async def test_the_board_says_who_it_is_and_what_it_has():
    async with plugged() as p:
        assert p.device.identity.startswith("posix build ")
        assert p.device.data_sheet is not None
        assert p.device.data_sheet.model == HOLDER.model
        for capability in (Heater, Thermometer, FrameClock, Teds):
            assert not lacking(p.device, capability)
        assert await p.device.holder_serial.get() == "0001"


async def test_what_the_board_does_not_offer_is_not_claimed_and_not_sent():
    async with plugged() as p:
        assert p.device.hello is not None
        p.device.hello = replace(p.device.hello, capabilities=gen.Capability.ADC)
        await p.device.connected()
        assert Heater not in p.device.provides
        assert "it does not claim" in lacking(p.device, Heater)[0]
        with pytest.raises(Refused, match="it has no heater; nothing was sent"):
            p.device.ramp(100.0, 10.0)


async def test_a_board_that_does_not_answer_is_told_so():
    async with plugged(connect=False) as p:
        p.faults.frozen = True
        with pytest.raises(NoReply):
            await p.device.connect()


async def test_firmware_of_another_definition_is_read_and_not_set(monkeypatch):
    monkeypatch.setattr(gen, "SCHEMA", gen.SCHEMA ^ 1)
    async with plugged() as p:
        assert p.device.read_only
        assert await p.device.temperature.get() == pytest.approx(25.0, abs=1.0)
        with pytest.raises(Refused, match="flash firmware that fits; nothing was sent"):
            await p.device.ramp(100.0, 10.0)


async def test_firmware_of_another_version_is_refused(monkeypatch):
    async with plugged(connect=False) as p:
        event = gen.Event(0, 0, gen.EventKind.BOOT, 0, 0)
        p.device._sorter.feed(firmware.frame(bytes((0x20, gen.Event.TYPE, 0, 0)) + event.pack()))
        monkeypatch.setattr(firmware, "VERSION", 2)  # so it is not answered
        with pytest.raises(WrongInstrument, match="speaks version 2 of the protocol"):
            await p.device.connect()


# ---------------------------------------------------------------------- heating


async def test_a_setpoint_beyond_what_teds_allows_never_reaches_the_wire():
    async with plugged(**TUNED) as p:
        with pytest.raises(LimitError, match="TEDS"):
            p.device.ramp(to=1100.0, rate=10.0)
        assert (await state(p.device)).state is State.SAFE


async def test_without_a_data_sheet_there_is_no_thermometer_and_no_closed_loop():
    async with plugged(teds=False, **TUNED) as p:
        reading = await p.device.temperature.read()
        assert reading.quality is Quality.BAD
        assert "no thermometer" in reading.reason
        with pytest.raises(Refused, match="SENSOR|thermometer"):
            await p.device.ramp(to=50.0, rate=10.0)


async def test_off_ends_the_heating_and_the_safe_state_disarms():
    async with plugged(**TUNED) as p:
        async with p.device.ramp(to=200.0, rate=50.0):
            await until(lambda: p.heater > 0)
            await p.device.off()
            assert p.heater == 0
        await p.device.safe_state()
        assert (await state(p.device)).state is State.SAFE


async def test_readings_scatter_as_the_driver_says():
    async with plugged() as p:
        readings = [await p.device.temperature.read() for _ in range(200) if not await asyncio.sleep(0.004)]
        error = np.array([r.value for r in readings]) - p.world.temperature
        sigma = readings[0].uncertainty
        assert sigma is not None
        assert 0.85 < np.mean(np.abs(error) < 2 * sigma) <= 1.0
        assert np.std(error) == pytest.approx(sigma, rel=0.3)


# ---------------------------------------------------------------------- failing safe


async def test_a_latched_fault_is_released_by_hand_only():
    async with plugged(**TUNED) as p:
        await p.device.do(gen.FaultNow())
        with pytest.raises(Refused, match=r"clear_fault\(\)"):
            await p.device.ramp(to=100.0, rate=100.0)
        await p.device.clear_fault()
        await p.device.ramp(to=60.0, rate=100.0)


async def test_a_broken_thermometer_switches_off_and_the_ramp_says_why():
    async with plugged(**TUNED) as p:
        ramp = p.device.ramp(to=300.0, rate=50.0)
        await until(lambda: p.heater > 0)
        p.board._show = lambda world, page: page.adc(0, 40_000)  # type: ignore[method-assign]
        with pytest.raises(Refused, match="the thermometer's wire is broken"):
            await ramp
        assert p.heater == 0


async def test_after_a_trip_the_heart_stops_and_streams_go_on():
    async with plugged(**TUNED) as p:
        got: list[int] = []
        p.device.on_samples(lambda chunk: got.append(chunk.counts.size))
        p.device.sampled.window = 64
        async with p.device.sampling(range(8), 2500):
            await p.device.arm()
            p.device.context.gate.close(lambda: HalError("tripped"))
            await until(lambda: p.device._beating is not None and p.device._beating.done())
            before = p.device.sampled.next
            await until(lambda: p.device.sampled.next > before + p.device.sampled.window + 20)
        p.device.context.gate.open()


# ---------------------------------------------------------------------- streams


@pytest.mark.timeout(int(SECONDS) + 900)
async def test_eight_inputs_at_20_000_samples_a_second_arrive_whole():
    async with plugged() as p:
        ticks, counts = [], []
        p.device.on_samples(lambda chunk: (ticks.append(chunk.ticks), counts.append(chunk.counts)))
        async with p.device.sampling(range(8), 2500):
            await asyncio.sleep(SECONDS)
        ledger = p.device.sampled
        assert ledger.received + ledger.dropped == ledger.expected > 8 * 2500 * SECONDS * 0.85
        assert ledger.received
        assert ledger.lost == ledger.lost_blocks == 0
        told = await p.device.counters()
        assert told.samples == ledger.received + told.samples_dropped
        if not ledger.dropped:
            assert set(np.diff(np.concatenate(ticks))) == {400}
        reference = np.concatenate(counts)[:, 1]
        assert (reference == round(0.9 * 32767)).all()


async def test_what_is_lost_on_the_wire_is_counted():
    async with plugged() as p:
        async with p.device.sampling(range(8), 2500):
            p.faults.drop = 0.1
            await asyncio.sleep(1.5)
            p.faults.drop = 0.0
            await asyncio.sleep(0.5)
        ledger = p.device.sampled
        assert ledger.lost > 0
        told = await p.device.counters()
        assert ledger.received + ledger.lost + told.samples_dropped == told.samples


async def test_a_stream_to_a_program_that_does_not_listen_stops_and_counts():
    async with plugged() as p:
        p.device._grant = lambda **_: None  # type: ignore[method-assign]
        p.device.sampled.window = 64
        async with p.device.sampling(range(8), 2500):
            await until(lambda: p.device.sampled.next == p.device.sampled.window)
            async with asyncio.timeout(60):
                while not (await p.device.counters()).samples_dropped:
                    await asyncio.sleep(0.02)
            assert p.device.sampled.next == p.device.sampled.window
            assert (await state(p.device)).state is State.SAFE  # it goes on living


async def test_captured_edges_have_exactly_the_ticks_they_came_at():
    async with plugged() as p:
        got: list[firmware.EdgeChunk] = []
        p.device.on_pulses(got.append)
        async with p.device.capturing(rising=[0], falling=[0, 1]):
            now = (await state(p.device)).ticks
            sent = [(now + 37 * k, k % 2, k % 3 == 0) for k in range(1500)]
            p.board._edges.extend(sent)
            wanted = [(t, c, r) for t, c, r in sent if not r or c == 0]
            await until(lambda: sum(map(len, got)) >= len(wanted))
        edges = [(int(t), int(c), bool(r)) for g in got for t, c, r in zip(g.ticks, g.channel, g.rising, strict=True)]
        assert edges == wanted
        assert p.device.captured.lost == p.device.captured.dropped == 0


async def test_the_clock_is_known_within_its_bound_across_the_wrap():
    async with plugged() as p:
        for _ in range(20):  # the counter begins 10 s before its wrap
            status = await p.device.status()
            time_ns, bound = p.device.lab_time(np.array([status.reply.ticks]))
            assert status.exchange.sent - bound[0] <= time_ns[0] <= status.exchange.received + bound[0]
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------------- outputs, profiles, data sheet


async def test_a_trigger_fires_once_at_its_tick():
    async with plugged() as p:
        page, lead = p.page, 100_000
        before = page["triggers"]
        while True:
            at = (await state(p.device)).ticks + lead
            try:
                await p.device.trigger(at, width=1000)
                break
            except Refused:  # the machine was busy for so long
                lead *= 2
        await until(lambda: page["triggers"] == before + 1)
        assert page._words[0x34 // 4] == at & 0xFFFF_FFFF


async def test_what_can_not_be_is_told_in_words_about_what_was_asked():
    async with plugged() as p:
        d, one = p.device, [Segment(SegmentKind.STEP, 1, 1)]
        now = (await state(d)).ticks
        for begin, kind, why in (
            (lambda: d.profile(ProfileTarget.DAC, one, start=10**12), LimitError, "nothing was sent"),
            (lambda: d.profile(ProfileTarget.DAC, one * 300, start=0), LimitError, "nothing was sent"),
            (lambda: d.set_dac(-1, 50.0), LimitError, "nothing was sent"),
            (lambda: d.trigger(-1, width=10), LimitError, "nothing was sent"),
            (lambda: d.trigger(now, width=10), Refused, "its tick has passed"),
            (lambda: d.profile(ProfileTarget.DAC, one, start=0, at_tick=now), Refused, "the tick has passed"),
            (lambda: d.profile(ProfileTarget.DAC, one * 65, start=0), Refused, "1 to 64 segments"),
            (lambda: d.write_teds(replace(HOLDER, calibrated=date(1960, 1, 1))), LimitError, "nothing was sent"),
            (lambda: d.write_teds(replace(HOLDER, gain=0.0)), Refused, "a number in this data sheet can't be"),
        ):
            with pytest.raises(kind, match=why):
                await begin()
            await d.safe_state()
        assert p.board._eeprom.read_bytes()[:256] == HOLDER.packed()


async def test_a_data_sheet_written_is_read_back_and_in_force():
    async with plugged() as p:
        sheet = replace(HOLDER, serial="0815", calibrated=date(2026, 2, 1))
        await p.device.write_teds(sheet)
        back = await p.device.read_teds()
        assert back is not None
        assert (back.serial, back.calibrated) == ("0815", date(2026, 2, 1))
        p.board.unplug()
        await p.board.plug()
        assert p.board._eeprom.read_bytes()[:256] == sheet.packed()


# ---------------------------------------------------------------------- bad days


async def test_a_board_that_restarted_is_found_again_as_a_new_epoch():
    async with plugged(reconnect=Reconnect(10.0), **TUNED) as p:
        async with p.device.sampling(range(2), 1000):
            assert p.device.hello is not None
            before = p.device.hello.boot
            p.board.unplug()
            with pytest.raises(LinkLost):
                await p.device.input_0.get() if p.session.state.value == "open" else None
                await p.device.do(gen.Arm(1, 0, 0))
            await p.board.plug()
            assert await p.device.temperature.get() == pytest.approx(25.0, abs=1.0)
            assert p.device.hello.boot != before
            found = p.device.clock.to_lab(np.array([(await state(p.device)).ticks]))
            assert found.valid.all()
            assert any("a new epoch" in event.text for event in p.device.context.journal.recent)
            received = p.device.sampled.received
            await until(lambda: p.device.sampled.received > received)  # the stream goes on, numbered anew


@pytest.mark.parametrize("trouble", [{"garble": 0.5}, {"drop": 0.2, "delay": 0.01}])
async def test_on_a_bad_wire_a_command_acts_exactly_once(trouble):
    async with plugged(**TUNED) as p:
        p.device.timeout = 0.03  # type: ignore[misc]
        for fault, value in trouble.items():
            setattr(p.faults, fault, value)
        for _ in range(15):
            await p.device.do(gen.FaultNow(), tries=50)
            await p.device.do(gen.ClearFault(Fault.COMMANDED), tries=50)
        p.faults.drop = p.faults.garble = p.faults.delay = 0.0
        told = await p.device.counters()
        assert told.faults == 15
        assert told.refused == told.stale == 0
        if "drop" in trouble or "garble" in trouble:
            assert told.replayed > 0


async def test_a_stream_of_which_all_granted_blocks_were_lost_goes_on():
    async with plugged() as p:
        p.device.sampled.window = 20
        async with p.device.sampling(range(8), 2500):
            await until(lambda: p.device.sampled.next > 5)
            p.faults.frozen = True  # nothing arrives, and no credit leaves
            await asyncio.sleep(0.5)
            p.faults.frozen = False
            before = p.device.sampled.next
            await until(lambda: p.device.sampled.next > before + 100)


async def test_a_mistake_in_taking_in_is_a_lost_link_and_no_silence():
    async with plugged() as p:
        p.device.session.link.sort = lambda data: 1 / 0  # type: ignore[attr-defined]
        await p.device.status()  # the reader was waiting already
        with pytest.raises(LinkLost, match="can't be sorted: ZeroDivisionError"):
            await p.device.status()
