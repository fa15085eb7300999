"""The core's heater loop, profiles and triggers, against a stepped specimen. Device ticks."""

from __future__ import annotations

import ctypes
import math

import pytest
from stepped import MS, REFERENCE_COUNTS, Stepped, counts_at, eeprom, tuned

from hal.protocols import firmware_gen as gen

AMBIENT = 296.15


class Specimen:
    """A chip in a holder: it warms in tenths of a second."""

    def __init__(self, core: Stepped, gain: float = 700.0, tau: float = 0.15) -> None:
        self.core, self.gain, self.tau = core, gain, tau
        self.kelvin = AMBIENT
        self.hottest = 0.0

    def live(self, ms: int, each: int = 1) -> None:
        for n in range(0, ms, each):
            if n % 100 == 0:
                self.core.beat()
            goal = AMBIENT + self.gain * self.core.board.heater / 65535
            self.kelvin += (goal - self.kelvin) * (1 - math.exp(-each / 1000 / self.tau))
            self.hottest = max(self.hottest, self.kelvin)
            self.core.board.adc[0] = counts_at(self.kelvin)
            self.core.advance(each)


@pytest.fixture
def specimen(core: Stepped) -> Specimen:
    core.hello()
    core.ask(tuned())
    core.arm()
    return Specimen(core)


def test_the_loop_settles_on_its_setpoint_and_does_not_overshoot_far(core, specimen):
    core.ask(gen.HeaterSet(600_000, 0))
    specimen.live(3000)
    assert specimen.kelvin == pytest.approx(600.0, rel=0.001)
    assert specimen.hottest < 600 * 1.005
    assert core.status().temperature == pytest.approx(600_000, rel=0.001)


def test_an_unreachable_setpoint_does_not_wind_up(core, specimen):
    specimen.gain = 250.0  # full output: 525 K
    core.ask(gen.HeaterSet(800_000, 0))
    specimen.live(5000)
    assert core.board.heater == 60_000
    core.ask(gen.HeaterSet(450_000, 0))
    specimen.live(100)
    assert core.board.heater < 60_000
    specimen.live(5000)
    assert specimen.kelvin == pytest.approx(450.0, rel=0.002)


def test_a_slow_loop_takes_small_steps_beside_a_large_integral(core):
    """A step of 0.001 vanishes beside 40,000 in a float: the loop would stay a tenth of a kelvin off for ever."""
    core.hello()
    core.ask(tuned(kp=0.0, ki=10.0))
    core.arm()
    here = core.status().temperature
    core.ask(gen.HeaterSet(here + 500_000, 0))
    core.live(8000)
    core.ask(gen.HeaterSet(here + 100, 0))
    core.advance(2)
    before = core.board.heater
    assert before > 35_000
    core.live(20_000)
    assert core.board.heater - before == pytest.approx(20, abs=2)


def test_a_ramp_goes_by_the_clock(core, specimen):
    core.ask(gen.HeaterSet(396_150, 100_000))
    specimen.live(500)
    assert core.status().setpoint == pytest.approx(346_150, abs=300)
    specimen.live(600)
    assert core.status().setpoint == 396_150


def test_the_output_rises_no_faster_than_its_slew_and_falls_at_once(core):
    core.hello()
    core.ask(tuned(slew=10_000))
    core.arm()
    core.ask(gen.HeaterOutput(50_000))
    core.live(1000)
    assert core.board.heater == pytest.approx(10_000, abs=20)
    core.ask(gen.HeaterOutput(100))
    core.advance(1)
    assert core.board.heater == 100


def test_feed_forward_gives_the_output_before_the_loop_knows(core):
    core.hello()
    core.ask(tuned(kp=0.0, ki=0.0, feed_forward=100.0))
    core.arm()
    core.ask(gen.HeaterSet(396_150, 0))
    core.advance(2)
    assert core.board.heater == 10_000


def test_limits_are_those_of_the_holder_or_tighter(core):
    core.hello()
    assert core.ask(tuned(output_max=65_535, temperature_max=2_000_000)) == gen.HeaterConfigReply(60_000, 900_000, 0)
    assert core.ask(tuned(output_max=5_000, temperature_max=400_000)).output_max == 5_000
    core.arm()
    for request, limit in ((gen.HeaterOutput(5_001), 5_000), (gen.HeaterSet(400_001, 0), 400_000)):
        refused = core.ask(request)
        assert (refused.reason, refused.detail) == (gen.Refusal.RANGE, limit)


@pytest.mark.parametrize("change", [{"kp": math.nan}, {"ki": -1.0}, {"kd": math.inf}, {"temperature_max": 0}])
def test_gains_that_are_none_are_refused(core, change):
    core.hello()
    assert core.ask(tuned(**change)).reason is gen.Refusal.RANGE


def test_without_gains_nothing_heats(core):
    core.arm()
    core.ask(gen.HeaterSet(800_000, 0))
    core.live(1000)
    assert core.board.heater == 0


def test_off_leaves_the_rest_armed(core):
    core.heat()
    core.ask(gen.DigitalSet(1, 1))
    assert core.ask(gen.HeaterOff()) == gen.HeaterOffReply(gen.State.ARMED)
    assert (core.board.heater, core.board.digital) == (0, 1)


def test_status_says_of_which_pass_its_temperature_is(core):
    core.hello()
    core.advance(10.4)
    status = core.status()
    assert status.ticks - status.measured == 400


def test_a_thermocouple_is_added_to_its_cold_junction():
    from dataclasses import replace

    from stepped import HOLDER

    teds = replace(
        HOLDER, sensor=gen.SensorKind.THERMOCOUPLE, gain=100.0, coefficients=(0.0, 25.0, -0.2, 0.0),
        cold_offset=223.15, cold_slope=100.0,
    )  # fmt: skip
    core = Stepped(eeprom(teds))
    volts = 3.3 / 32767
    core.board.adc[1] = round(0.75 / volts)  # 298.15 K
    core.board.adc[0] = round(1.2 / volts)  # 12 mV
    core.advance(5)
    assert core.status().temperature == pytest.approx((298.15 + 25.0 * 12 - 0.2 * 144) * 1000, rel=1e-3)


# ---------------------------------------------------------------------- profiles

STEP, RAMP = gen.SegmentKind.STEP, gen.SegmentKind.RAMP


def load(core: Stepped, target: gen.ProfileTarget, segments: list[tuple[gen.SegmentKind, int, int]], *,
         repeat: int = 1, start: int = 0, channel: int = 0) -> None:  # fmt: skip
    core.ask(gen.ProfileBegin(target, len(segments), repeat, start), channel)
    for first in range(0, len(segments), 26):
        some = tuple(gen.Segment(*segment) for segment in segments[first : first + 26])
        reply = core.ask(gen.ProfileSegments(first, some))
        assert isinstance(reply, gen.ProfileSegmentsReply), reply
    assert reply.state is gen.ProfileState.READY


def trace(core: Stepped, ms: int) -> list[int]:
    """DAC 0 after each pass."""
    values = []
    for n in range(ms):
        if n % 100 == 0:
            core.beat()
        core.advance(1)
        values.append(core.board.dac[0])
    return values


def test_pulses_of_a_millisecond_come_each_in_its_own_pass(core):
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(STEP, 1, 1000), (STEP, 1, 0), (STEP, 1, 2000), (STEP, 2, 0)], repeat=100)
    core.advance(0.5)
    core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    values = trace(core, 520)
    assert values[:500] == [1000, 0, 2000, 0, 0] * 100
    assert set(values[500:]) == {0}
    assert core.status().profile is gen.ProfileState.DONE


@pytest.mark.parametrize("phase", [0, 20, 60, 500, 940, 980])
@pytest.mark.parametrize("how", [gen.Start.NOW, gen.Start.AT_TICK])
def test_passes_that_wait_for_another_interrupt_lengthen_no_pulse_and_leave_none_out(core, phase, how):
    """A control pass is kept waiting by a sample or an edge: 60 us at most, whichever way it falls."""
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(STEP, 1, 1000), (STEP, 1, 0), (STEP, 1, 2000)], repeat=30)
    core.board.passes_stop = True  # here they come by hand
    core.advance((MS - core.board.ticks % MS + phase) / MS)
    start = core.board.ticks
    core.ask(gen.ProfileStart(how, start + 2 * MS, 0))
    began, seen = start + (2 * MS if how is gen.Start.AT_TICK else 0), []
    for n in range(100):
        due = (start // MS + 1 + n) * MS + (n * 37) % 61
        core.advance((due - core.board.ticks) / MS)
        if n % 50 == 0:
            core.beat()
        core.lib.app_tick_1khz()
        if due >= began:
            seen.append(core.board.dac[0])
    assert seen[:90] == [1000, 0, 2000] * 30


def test_digital_outputs_do_not_ramp(core):
    """On the way from 1 to 8 lie the patterns of all other valves."""
    core.arm()
    core.ask(gen.ProfileBegin(gen.ProfileTarget.DIGITAL, 2, 1, 0))
    assert core.ask(gen.ProfileSegments(0, (gen.Segment(RAMP, 10, 8),))).reason is gen.Refusal.RANGE
    assert core.ask(gen.ProfileSegments(0, (gen.Segment(STEP, 10, 8),))).loaded == 1


def test_a_ramp_is_a_straight_line_in_device_time(core):
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(RAMP, 1000, 60_000), (STEP, 100, 60_000), (RAMP, 500, 10_000)], start=10_000)
    core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    values = trace(core, 1610)
    for n in range(999):
        assert values[n] == pytest.approx(10_000 + 50 * (n + 1), abs=50)
    assert set(values[1000:1098]) == {60_000}
    assert values[1599:] == [10_000] * 11


def test_ramps_meet_where_the_one_ends(core):
    core.arm()
    core.advance(0.5)
    load(core, gen.ProfileTarget.DAC, [(RAMP, 4, 40_000), (RAMP, 4, 0), (RAMP, 4, 8_000)])
    core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    assert trace(core, 13) == [5000, 15000, 25000, 35000, 35000, 25000, 15000, 5000, 1000, 3000, 5000, 7000, 8000]


def test_passes_that_come_late_add_up_to_nothing(core):
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(STEP, 3, 1), (STEP, 2, 2)], repeat=50)
    core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    start = core.board.ticks
    for n in range(300):
        if n % 100 == 0:
            core.beat()
        core.board.passes_stop = n % 7 in (1, 2, 4)
        core.advance(1)
        done = core.status().profile is gen.ProfileState.DONE
        late = core.board.passes_stop
        if not late:
            passed = core.board.ticks - start - MS  # the first pass after the start is the first of the first segment
            assert done == (passed >= 250 * MS)
            assert done or core.board.dac[0] == (1 if passed // MS % 5 < 3 else 2)


def test_a_profile_starts_at_its_tick(core):
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(STEP, 5, 77)])
    at = core.board.ticks + 50 * MS
    assert core.ask(gen.ProfileStart(gen.Start.AT_TICK, at, 0)) == gen.ProfileStartReply(gen.ProfileState.WAITING)
    assert core.ask(gen.Status()).state is gen.State.RUN
    while core.board.dac[0] == 0:
        core.advance(0.25)
    assert at <= core.board.ticks <= at + MS


def test_a_profile_starts_at_the_edge_of_a_frame(core):
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(STEP, 10, 7), (STEP, 10, 9)])
    core.ask(gen.ProfileStart(gen.Start.ON_EDGE, 0, 1), channel=2)
    assert (core.board.rising, core.board.falling) == (0b100, 0)
    core.advance(5)
    assert core.board.dac[0] == 0
    edge = core.board.ticks - 400  # a little ago: what counts is the edge's own tick
    core.lib.stepped_capture(2, 1, ctypes.c_uint64(edge))
    while core.board.dac[0] != 9:
        core.advance(0.1)
    assert edge + 10 * MS <= core.board.ticks <= edge + 11 * MS
    assert (core.board.rising, core.board.falling) == (0, 0)  # nobody wants any more of them


def test_an_edge_of_before_it_was_waited_for_starts_no_profile(core):
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(STEP, 10, 7)])
    core.ask(gen.CapturesStart(0b100, 0, 100, 0))
    asked = core.board.ticks
    core.ask(gen.ProfileStart(gen.Start.ON_EDGE, 0, 1), channel=2)
    core.lib.stepped_capture(2, 1, ctypes.c_uint64(asked))  # it waited in the hardware
    core.advance(5)
    assert core.status().profile is gen.ProfileState.WAITING
    core.ask(gen.FaultNow())
    assert core.board.rising == 0b100  # still streamed
    core.ask(gen.StreamStop(gen.Stream.CAPTURES))
    assert core.board.rising == 0


def test_a_temperature_profile_drives_the_loop(core, specimen):
    load(core, gen.ProfileTarget.TEMPERATURE, [(RAMP, 1000, 500_000), (STEP, 3000, 500_000)], start=296_150)
    core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    specimen.live(3900)
    assert specimen.kelvin == pytest.approx(500, rel=0.002)
    assert core.ask(gen.HeaterSet(300_000, 0)).reason is gen.Refusal.BUSY
    specimen.live(200)
    status = core.status()
    assert status.profile is gen.ProfileState.DONE
    assert status.mode is gen.HeaterMode.CLOSED_LOOP
    core.ask(gen.ProfileStop())
    assert core.board.heater == 0
    assert core.state is gen.State.ARMED


def test_a_profile_drives_only_the_pins_it_knows(core):
    core.arm()
    core.ask(gen.DigitalSet(0b1000_0000, 0b1000_0000))
    load(core, gen.ProfileTarget.DIGITAL, [(STEP, 2, 0b01), (STEP, 2, 0b10)], repeat=0)
    core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    seen = set()
    for _ in range(20):
        core.advance(1)
        seen.add(core.board.digital)
    assert seen == {0b1000_0001, 0b1000_0010}
    assert core.ask(gen.DigitalSet(0b01, 0)).reason is gen.Refusal.BUSY
    core.ask(gen.ProfileStop())
    assert core.board.digital == 0b1000_0000


def test_a_profile_beyond_a_limit_does_not_start(core):
    core.arm()
    load(core, gen.ProfileTarget.TEMPERATURE, [(RAMP, 10, 900_001), (STEP, 10, 300_000)], start=300_000)
    refused = core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    assert (refused.reason, refused.detail) == (gen.Refusal.RANGE, 900_000)


def test_segments_come_in_order_and_none_is_empty(core):
    core.hello()
    core.ask(gen.ProfileBegin(gen.ProfileTarget.DAC, 3, 1, 0))
    one = (gen.Segment(STEP, 1, 1),)
    assert core.ask(gen.ProfileSegments(1, one)).reason is gen.Refusal.RANGE
    assert core.ask(gen.ProfileSegments(0, (gen.Segment(STEP, 0, 1),))).reason is gen.Refusal.RANGE
    assert core.ask(gen.ProfileSegments(0, (gen.Segment(STEP, 604_800_001, 1),))).reason is gen.Refusal.RANGE
    assert core.ask(gen.ProfileSegments(0, one)).loaded == 1
    assert core.ask(gen.ProfileSegments(0, one)).reason is gen.Refusal.RANGE
    assert core.ask(gen.ProfileSegments(1, one * 3)).reason is gen.Refusal.RANGE
    core.arm()
    assert core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0)).reason is gen.Refusal.INCOMPLETE


def test_a_profile_ends_with_the_lease(core):
    core.arm()
    load(core, gen.ProfileTarget.DAC, [(STEP, 10_000, 5)], repeat=0)
    core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    core.advance(490)
    assert core.board.dac[0] == 5
    core.advance(20)
    assert core.board.dac[0] == 0
    assert core.status().profile is gen.ProfileState.READY


# ---------------------------------------------------------------------- triggers


def test_pulses_come_at_their_very_ticks(core):
    core.arm()
    at = core.board.ticks + 3210
    core.ask(gen.Trigger(at, 20, 300, 50))
    seen = []
    for _ in range(20_000):
        core.advance(0.001)
        if core.board.pulses > len(seen):
            seen.append(core.board.pulse_ticks)
    assert seen == [at + 300 * n for n in range(50)]
    core.messages()
    told = [event for event in core.events if event.kind is gen.EventKind.TRIGGER]
    assert [event.ticks for event in told][-5:] == seen[-5:]


@pytest.mark.parametrize(("width", "period", "count"), [(0, 100, 2), (100, 100, 2), (10, 0, 0)])
def test_pulses_that_can_not_be_are_refused(core, width, period, count):
    core.arm()
    assert core.ask(gen.Trigger(core.board.ticks + 5000, width, period, count)).reason is gen.Refusal.RANGE
    assert core.ask(gen.Trigger(core.board.ticks - 1, 10, 100, 2)).reason is gen.Refusal.RANGE
    assert core.ask(gen.Trigger(core.board.ticks + 5000, 10, 100, 2), channel=2).reason is gen.Refusal.NO_CAPABILITY


def test_pulses_whose_ticks_had_passed_are_counted(core):
    core.arm()
    core.ask(gen.Trigger(core.board.ticks + 1000, 10, 500, 20))
    core.advance(3)
    core.board.ticks += 3200  # everything stood still
    core.advance(20)
    assert core.counters().pulses_missed == 5
    assert core.board.pulses == 15
    core.messages()
    told = [event.value for event in core.events if event.kind is gen.EventKind.TRIGGER]
    assert told[3:6] == [16, 15, 9]  # the one that was late, and then as many less


def test_a_pulse_that_the_board_can_not_make_any_more_is_refused(core):
    core.arm()
    at = core.board.ticks + 5000
    core.lib.board_trigger(0, ctypes.c_uint32(at), 10)  # its output is taken
    assert core.ask(gen.Trigger(at, 10, 0, 1)).reason is gen.Refusal.RANGE
    core.advance(10)
    assert core.ask(gen.Trigger(core.board.ticks + 5000, 10, 0, 1)) == gen.TriggerReply()
    core.advance(10)
    assert core.board.pulses == 2
    assert core.counters().pulses_missed == 0


def test_a_pulse_further_ahead_than_the_hardware_counts_waits_for_its_time(core):
    core.arm()
    at = core.board.ticks + (1 << 30) + 12_345
    core.ask(gen.Trigger(at, 20, 0, 1))
    core.live((1 << 30) // MS, step=450)
    assert core.board.pulses == 0
    core.live(100)
    assert (core.board.pulses, core.board.pulse_ticks) == (1, at)


def test_reference_and_sensor_are_where_the_teds_says():
    core = Stepped(eeprom())
    core.board.adc[0], core.board.adc[1] = counts_at(350.0), REFERENCE_COUNTS
    core.advance(5)
    assert core.status().temperature == pytest.approx(350_000, abs=50)
