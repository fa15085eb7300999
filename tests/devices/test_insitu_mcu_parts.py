"""The board's clock, its shared streams, what hangs on its outputs, and its interlocks: against its own firmware."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from plugged_board import Plugged, plugged, state, until

from devices.insitu_mcu.outputs import McuBeam, McuValve, ValveOptions
from hal.capabilities import Beam, Valve, lacking
from hal.clock.exchange import Exchange
from hal.errors import ConfigError, DeviceError, LimitError, LinkLost, NoReply, Refused
from hal.gate import Purpose, acting
from hal.instrument.clocked import Clocked, Sampler
from hal.model.context import Context
from hal.model.reading import Quality
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import Fault, ProfileState, ProfileTarget, Segment, SegmentKind, State
from hal.transport.session import Reconnect, Session

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc"), pytest.mark.timeout(900)]  # it is compiled first

TUNED = {"kp": 2.0, "ki": 4.0, "feed_forward": 0.066}


# ---------------------------------------------------------------------- its clock


async def test_every_exchange_of_time_is_told_to_who_asked_for_it_until_he_has_enough():
    async with plugged() as p:
        assert isinstance(p.device, Clocked)
        assert isinstance(p.device, Sampler)
        got: list[Exchange] = []
        p.device.on_exchange(got.append)
        for _ in range(3):
            await p.device.exchange_time()
        p.device.off_exchange(got.append)
        await p.device.exchange_time()
        assert p.device.hello is not None
        # The driver asks by itself, too.
        assert len(got) >= 3
        assert {e.boot for e in got} == {p.device.hello.boot}
        assert all(e.sent < e.received and e.ticks_received <= e.ticks_sent for e in got)
        assert p.device.clock.frequency == p.device.hello.tick_rate


async def test_a_listener_that_fails_costs_the_others_nothing():
    async with plugged() as p:
        got: list[Exchange] = []
        p.device.on_exchange(lambda exchange: 1 / 0)
        p.device.on_exchange(got.append)
        await p.device.exchange_time()
        assert got


async def test_a_reading_is_timed_by_the_boards_clock_however_slow_the_wire():
    async with plugged() as p:
        for _ in range(20):
            await p.device.exchange_time()
        p.faults.delay = 0.04
        for signal in (p.device.temperature, p.device.input_0):
            before = p.device.context.timebase.now()
            reading = await signal.read()
            after = p.device.context.timebase.now()
            assert after - before > 35_000_000
            assert reading.bound < 15_000_000  # the round trip alone would say 20 ms
            # And it is of the moment the board answered, at the beginning of the trip.
            assert before - 2_000_000 <= reading.time <= after
            assert reading.ticks is not None
            mapped = p.device.clock.to_lab(np.array([reading.ticks]))
            assert abs(int(mapped.time[0]) - reading.time) <= reading.bound + int(mapped.tight[0])


async def test_without_a_clock_a_reading_is_timed_by_its_round_trip():
    async with plugged() as p:
        assert p.device._timing is not None
        p.device._timing.cancel()
        p.device.clock = p.device._new_clock(p.device.clock.frequency)
        p.faults.delay = 0.04
        reading = await p.device.temperature.read()
        assert reading.quality is Quality.GOOD
        assert reading.bound > 15_000_000


# ---------------------------------------------------------------------- shared streams


async def test_users_of_one_capture_unit_each_get_their_edges_and_lose_none_to_the_other():
    async with plugged() as p:
        got: list[tuple[int, int, bool]] = []
        p.device.on_pulses(
            lambda chunk: got.extend(
                (int(t), int(c), bool(r)) for t, c, r in zip(chunk.ticks, chunk.channel, chunk.rising, strict=True)
            )
        )

        async def pulses(count: int) -> list[tuple[int, int, bool]]:
            now = (await state(p.device)).ticks
            made = [(now + 10 * k, k % 3, k % 2 == 0) for k in range(count)]
            p.board._edges.extend(made)
            await until(lambda: not p.board._edges)
            return made

        async with p.device.capturing(rising=[0]):
            first = await pulses(60)
            async with p.device.capturing(rising=[0, 1], falling=[2]):
                both = await pulses(60)
                await asyncio.sleep(0.02)
            again = await pulses(60)
        wanted = [e for e in first + again if e[2] and e[1] == 0]
        wanted += [e for e in both if (e[2] and e[1] in (0, 1)) or (not e[2] and e[1] == 2)]
        assert sorted(got) == sorted(wanted)
        assert p.device.captured.lost == p.device.captured.dropped == p.device.captured.lost_blocks == 0
        assert p.device.captured.request is None


async def test_users_of_the_same_samples_share_a_stream_and_others_are_refused():
    async with plugged() as p:
        chunks: list[firmware.SampleChunk] = []
        p.device.on_samples(chunks.append)
        async with p.device.sampling([0, 1], 1000):
            async with p.device.sampling([1, 0], 1000):
                with pytest.raises(Refused, match="streams samples already"):
                    async with p.device.sampling([2], 1000):
                        pass
            before = p.device.sampled.received
            await until(lambda: p.device.sampled.received > before + 100)
        assert p.device.sampled.request is None
        volts = np.concatenate([chunk.volts for chunk in chunks])
        assert volts[:, 1] == pytest.approx(0.9 * 3.3, abs=1e-3)
        assert {chunk.channels for chunk in chunks} == {(0, 1)}


async def test_sampling_of_nothing_or_of_inputs_that_are_not_there_is_refused():
    async with plugged() as p:
        for channels, rate in (([], 100.0), ([0], 0.0), ([99], 100.0), ([-1], 100.0)):
            with pytest.raises(LimitError, match="nothing was sent"):
                async with p.device.sampling(channels, rate):
                    pass


async def test_a_stream_the_board_refuses_is_not_begun_again_after_a_reconnection():
    async with plugged() as p:
        with pytest.raises(Refused, match="faster than 20,000 samples a second"):
            async with p.device.sampling(range(8), 1e5):
                pass
        assert p.device.sampled.request is None


async def test_the_heater_loop_is_recorded_line_by_line():
    async with plugged(**TUNED) as p:
        recording = p.device.record_loop(1.0, period=0.002)
        await asyncio.sleep(0.05)
        p.device.ramp(to=45.0, rate=40.0)
        record = await recording
        assert 200 < len(record) + record.lost <= 520  # a busy machine misses passes
        assert (np.diff(record.ticks) > 0).all()
        assert np.isnan(record.setpoint[0])
        driven = ~np.isnan(record.setpoint)
        assert record.setpoint[driven][-1] == pytest.approx(45.0, abs=0.1)
        assert record.output.max() > 1.0
        assert record.temperature[-1] == pytest.approx(p.world.temperature, abs=3.0)
        assert (np.diff(record.time) > 0).all()
        with pytest.raises(LimitError, match="can't be recorded"):
            p.device.record_loop(1.0, period=0.0)


# ---------------------------------------------------------------------- profiles


async def test_a_profile_waits_for_its_edge_and_counts_from_it():
    async with plugged() as p:
        pulse = [Segment(SegmentKind.STEP, 30, 40_000), Segment(SegmentKind.STEP, 30, 10_000)]
        seen: list[int] = []
        p.board.bench.watchers.append(lambda now: seen.append(p.page.dac(0)))
        profile = p.device.profile(ProfileTarget.DAC, pulse, start=0, channel=0, on_edge=1, rising=False)
        deadline = time.monotonic() + 60
        while (await state(p.device)).profile is not ProfileState.WAITING:
            assert time.monotonic() < deadline
        now = (await state(p.device)).ticks
        p.board._edges.extend([(now, 0, False), (now, 1, True)])  # another input, another polarity
        await until(lambda: not p.board._edges)
        await asyncio.sleep(0.05)
        assert not any(seen)
        p.board._edges.append(((await state(p.device)).ticks, 1, False))
        await profile
        assert {40_000, 10_000} <= set(seen)


async def test_a_profile_begins_on_one_thing_only():
    async with plugged() as p:
        with pytest.raises(LimitError, match="not on both"):
            p.device.profile(ProfileTarget.DAC, [Segment(SegmentKind.STEP, 1, 1)], start=0, on_edge=0, at_tick=1)
        with pytest.raises(LimitError, match="capture input 9 is none"):
            p.device.profile(ProfileTarget.DAC, [Segment(SegmentKind.STEP, 1, 1)], start=0, on_edge=9)


# ---------------------------------------------------------------------- valves and the beam


async def part(p: Plugged, cls: Any, channel: int, options: Any = None) -> Any:
    device = cls(p.session, f"output {channel}", channel=channel, options=options, context=p.device.context)
    await device.connect()
    return device


async def test_a_valve_opens_and_closes_at_its_output_alone():
    async with plugged() as p:
        valve, other = await part(p, McuValve, 2), await part(p, McuValve, 5)
        assert not lacking(valve, Valve)
        await valve.open()
        assert p.page["digital"] == 0b100
        assert (await valve.state.get(), await other.state.get()) == ("open", "closed")
        await other.open()
        await valve.close()
        assert p.page["digital"] == 0b100000
        await valve.disconnect()
        await other.disconnect()


async def test_a_valve_that_closes_by_current_is_open_when_the_board_lets_go():
    async with plugged() as p:
        valve = await part(p, McuValve, 0, ValveOptions(open_when="off", safe="open"))
        await valve.close()
        assert p.page["digital"] == 1
        with acting(Purpose.SAFE):
            await valve.safe_state()
        assert p.page["digital"] == 0
        assert await valve.state.get() == "open"
        await valve.disconnect()


@pytest.mark.parametrize(("open_when", "safe"), [("on", "open"), ("off", "closed")])
def test_a_safe_position_that_takes_current_is_refused(open_when, safe):
    with pytest.raises(ConfigError, match="can't be kept"):
        ValveOptions(open_when=open_when, safe=safe)


async def test_the_beam_is_blanked_without_current_and_when_the_host_falls_silent():
    async with plugged() as p:
        beam = await part(p, McuBeam, 1)
        assert not lacking(beam, Beam)
        assert await beam.blanked.get() is True
        await beam.unblank()
        assert p.page["digital"] == 0b10
        p.device.let_go()
        await until(lambda: p.page["digital"] == 0)
        assert await beam.blanked.get() is True
        with pytest.raises(Refused, match=r"clear_fault\(\)"):
            await beam.unblank()
        await beam.blank()  # needs no arming
        await beam.safe_state()
        assert (await state(p.device)).state is State.FAULT
        await beam.disconnect()


async def test_closing_a_valve_does_not_arm_the_board():
    async with plugged() as p:
        valve = await part(p, McuValve, 0)
        await valve.close()
        assert (await state(p.device)).state is State.SAFE
        await valve.disconnect()


async def test_valves_beam_and_heater_that_begin_at_once_arm_once():
    async with plugged(**TUNED) as p:
        valve, beam = await part(p, McuValve, 0), await part(p, McuBeam, 1)
        ramp = p.device.ramp(to=40.0, rate=100.0)
        opened, let_through = valve.open(), beam.unblank()
        await opened
        await let_through
        await ramp
        assert p.page["digital"] == 0b11
        assert p.device.operation is ramp
        told = await p.device.counters()
        assert told.refused == 0
        await valve.disconnect()
        await beam.disconnect()


async def test_a_part_without_its_board_says_what_to_write():
    context = Context()
    async with plugged() as p:
        alone = Session(p.session.link, McuValve.framing("serial"), timebase=context.timebase)
        with pytest.raises(ConfigError, match='driver = "insitu_mcu" on the same entry'):
            await McuValve(alone, "valve", context=context).identify()
        with pytest.raises(ConfigError, match="channel 8 is none of the board's outputs 0 to 7"):
            await part(p, McuValve, 8)


# ---------------------------------------------------------------------- interlocks


async def test_a_step_of_pressure_puts_everything_off_and_says_so():
    async with plugged() as p:
        await p.device.watch_step(0, 4, step=0.2, within=0.01)
        valve = await part(p, McuValve, 3)
        await valve.open()
        p.page.adc(4, 10_000)  # 1 V
        await until(lambda: p.page["digital"] == 0)
        status = await state(p.device)
        assert (status.state, status.fault) == (State.FAULT, Fault.PRESSURE_STEP)
        await until(lambda: any("pressure step" in event.text for event in p.device.context.journal.recent))
        await valve.disconnect()


async def test_a_switch_that_is_required_keeps_the_board_from_arming_and_is_seen_by_the_host():
    async with plugged() as p:
        await p.device.require_switches({1: True, 3: False})
        assert await p.device.switch_1.get() is False
        with pytest.raises(Refused, match="an interlock is not met"):
            await p.device.arm()
        p.page["inputs"] = 0b0010
        await until(lambda: p.page["passes"] > 0)
        await asyncio.sleep(0.01)
        assert await p.device.switch_1.get() is True
        await p.device.arm()
        p.page["inputs"] = 0b1010
        deadline = time.monotonic() + 60
        while (status := await state(p.device)).state is not State.FAULT:
            assert time.monotonic() < deadline
        assert status.fault is Fault.INTERLOCK_INPUT


async def test_interlocks_are_set_while_everything_is_off_and_else_stay_as_they_were():
    async with plugged() as p:
        await p.device.watch_level(1, 5, above=3.0)
        before = p.device.interlocks
        await p.device.arm()
        with pytest.raises(Refused, match="STATE|state"):
            await p.device.unwatch(1)
        assert p.device.interlocks == before
        with acting(Purpose.SAFE):
            await p.device.safe_state()
        await p.device.arm()  # and what the board has is what the host means
        assert (await state(p.device)).state is State.ARMED


IMPOSSIBLE = (
    (lambda d: d.watch_level(0, 1), "one of them"),
    (lambda d: d.watch_level(0, 1, above=1.0, below=2.0), "one of them"),
    (lambda d: d.watch_level(4, 1, above=1.0), "interlock 4 is none of 0 to 3"),
    (lambda d: d.watch_level(0, 8, above=1.0), "analogue input 8 is none"),
    (lambda d: d.watch_level(0, 1, above=5.0), "outside 0 to 3.3 V"),
    (lambda d: d.watch_level(0, 1, below=float("nan")), "outside 0 to 3.3 V"),
    (lambda d: d.watch_level(0, 1, above=1.0, passes=0), "passes = 0"),
    (lambda d: d.watch_step(0, 1, step=0.1, within=0.5), "none of 1 to 32 ms"),
    (lambda d: d.watch_step(0, 1, step=0.0), "less than a count"),
    (lambda d: d.watch_step(0, 1, step=3.3), "the whole range"),
    (lambda d: d.watch_step(0, 1, step=0.1, within=0.002, passes=3), "seen for 2 passes"),
    (lambda d: d.watch_level(0, 1, above=3.3), "beyond the end of the converter's range"),
    (lambda d: d.watch_level(0, 1, below=0.0), "beyond the end of the converter's range"),
    (lambda d: d.require_switches({8: True}), "digital input 8 is none"),
)


async def test_an_interlock_that_can_not_be_is_refused_before_anything_is_sent():
    async with plugged() as p:
        before = p.device.interlocks
        for what, why in IMPOSSIBLE:
            with pytest.raises(LimitError, match=why):
                what(p.device)
            assert p.device.interlocks == before


async def test_a_board_that_was_never_connected_says_so():
    async with plugged(connect=False) as p:
        with pytest.raises(DeviceError, match="connect it first"):
            p.device.watch_step(0, 1, step=0.1)
        with pytest.raises(DeviceError, match="connect it first"):
            async with p.device.sampling([0], 100):
                pass


async def test_after_a_reset_the_board_arms_with_its_interlocks_or_not_at_all():
    async with plugged(reconnect=Reconnect(10.0)) as p:
        await p.device.watch_level(0, 4, above=1.0)
        await p.device.arm()
        p.board.unplug()
        await p.board.plug()
        deadline = time.monotonic() + 60
        while True:
            try:
                reply = await p.device.beat()
                break
            except (LinkLost, NoReply):
                assert time.monotonic() < deadline
        with pytest.raises(Refused, match="not those of this program"):  # a host that does not look after them
            await p.device.do(gen.Arm(reply.nonce, p.device.interlocks.checksum, p.device.holder))
        await p.device.arm()
        assert (await state(p.device)).state is State.ARMED
        p.page.adc(4, 32_000)
        deadline = time.monotonic() + 60
        while (status := await state(p.device)).state is not State.FAULT:
            assert time.monotonic() < deadline
        assert status.fault is Fault.LEVEL


async def test_a_converter_that_gives_no_value_is_no_voltage():
    async with plugged() as p:
        p.page._words[0x80 // 4 + 3] = 0xFFFF_FFFF
        reading = await p.device.input_3.read()
        assert reading.quality is Quality.BAD
        assert "no value" in reading.reason
