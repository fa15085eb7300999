"""The core's safety: what may be on, when, and how soon it goes off. Device ticks, stepped clock.

Every test with `core` also asks at its end that no output was ever on outside ARMED and RUN: the board
looks at each write and after each control pass.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from stepped import FULL, HOLDER, MS, REFERENCE_COUNTS, Stepped, eeprom, examples, tuned

from devices.insitu_mcu.interlocks import Interlocks
from hal.protocols import firmware_gen as gen

TWO_PASSES = 2 * MS
COOLER = replace(HOLDER, serial=b"8", temperature_max=400_000, output_max=5_000)


def off_within(core: Stepped, ticks: int, since: int) -> None:
    """The heater is off, the fault latched, and both came in time."""
    assert core.board.heater == 0
    assert core.state is gen.State.FAULT
    assert core.board.heater_off_ticks - since <= ticks
    assert core.status().fault_ticks == core.board.heater_off_ticks


def test_it_starts_with_everything_off(core):
    core.board.heater = core.board.digital = 99
    core.start(eeprom())
    assert core.board.heater == core.board.digital == 0
    assert core.state is gen.State.SAFE
    core.messages()
    assert [event.kind for event in core.events[:2]] == [gen.EventKind.BOOT, gen.EventKind.STATE]


@pytest.mark.parametrize(
    "request_", [gen.HeaterOutput(1), gen.HeaterSet(300_000, 0), gen.DacSet(1), gen.DigitalSet(1, 1),
                 gen.ProfileStart(gen.Start.NOW, 0, 0), gen.Trigger(1 << 40, 10, 0, 1)],
)  # fmt: skip
def test_unarmed_nothing_is_put_out(core, request_):
    core.hello()
    core.beat()
    refused = core.ask(request_)
    assert refused.reason is gen.Refusal.STATE
    assert refused.detail == gen.State.ARMED
    core.advance(10)
    assert core.board.heater == core.board.dac[0] == core.board.digital == core.board.pulses == 0


# ---------------------------------------------------------------------- arming


def test_arming_takes_a_nonce_that_was_given(core):
    core.hello()
    given_ = core.beat().nonce
    assert core.ask(core.arming(given_ ^ 1)).reason is gen.Refusal.NONCE
    assert core.ask(core.arming(0)).reason is gen.Refusal.NONCE
    assert core.ask(core.arming(given_)) == gen.ArmReply(gen.State.ARMED)


def test_a_nonce_is_good_once(core):
    core.arm()
    core.ask(gen.Safe())
    core.beat()
    nonce = core.beat().nonce
    core.ask(core.arming(nonce))
    core.ask(gen.Safe())
    assert core.ask(core.arming(nonce)).reason is gen.Refusal.NONCE


def test_a_nonce_is_used_up_by_an_arming_that_is_refused(core):
    core.hello()
    nonce = core.beat().nonce
    core.ask(gen.InterlockInputs(1, 1))
    core.advance(1)
    assert core.ask(core.arming(nonce)).reason is gen.Refusal.INTERLOCK
    core.board.inputs = 1
    core.advance(1)
    assert core.ask(core.arming(nonce)).reason is gen.Refusal.NONCE


def test_a_heartbeat_of_another_session_gives_no_nonce(core):
    core.hello()
    core.beat()
    assert core.ask(gen.Heartbeat(core.session + 1, 50)).nonce == 0


def test_the_nonce_before_the_last_is_still_good_one_more_is_not(core):
    core.hello()
    first, second, third = (core.beat().nonce for _ in range(3))
    assert core.ask(core.arming(first)).reason is gen.Refusal.NONCE
    assert core.ask(core.arming(second)) == gen.ArmReply(gen.State.ARMED)
    assert third


def test_a_nonce_in_time_without_a_lease_does_not_arm(core):
    core.hello()
    nonce = core.beat().nonce
    core.advance(600)
    assert core.ask(core.arming(nonce)).reason is gen.Refusal.LEASE


def test_arming_again_is_refused(core):
    core.arm()
    assert core.ask(core.arming(core.beat().nonce)).reason is gen.Refusal.STATE


# ---------------------------------------------------------------------- lease


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.999])
def test_without_a_heartbeat_the_heater_is_off_within_the_lease_and_two_passes(core, phase):
    core.heat()
    core.advance(phase)
    core.beat()
    since = core.board.ticks
    core.advance(gen.LEASE_MS - 1)
    assert core.board.heater > 0
    core.advance(10)
    off_within(core, gen.LEASE_MS * MS + TWO_PASSES, since)
    assert core.status().fault is gen.Fault.LEASE


def test_other_words_than_a_valid_heartbeat_do_not_renew_the_lease(core):
    core.heat()
    core.beat()
    since = core.board.ticks
    last = core.beats
    for _ in range(6):
        core.advance(99)
        core.ask(gen.Status())
        core.ask(gen.Time(1, 1))
        core.ask(gen.HeaterOutput(500))
        assert core.ask(gen.Heartbeat(core.session, last)).renewed == 0  # an old one, come late
        assert core.ask(gen.Heartbeat(core.session + 1, last + 5)).renewed == 0
        core.ask(gen.Hello(core.session, gen.SCHEMA))
    off_within(core, gen.LEASE_MS * MS + TWO_PASSES, since)


def test_an_old_heartbeat_does_not_renew_a_lease_that_has_run_out(core):
    core.arm()
    core.advance(600)
    assert core.ask(gen.Heartbeat(core.session, core.beats)).renewed == 0
    assert core.beat().renewed == 1


def test_heartbeats_count_across_their_wrap(core):
    core.hello()
    core.beats = 0xFFFF_FFFD
    for count in (0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1):
        assert core.ask(gen.Heartbeat(core.session, count)).renewed == 1
    assert core.ask(gen.Heartbeat(core.session, 0xFFFF_FFFF)).renewed == 0


def test_another_hosts_hello_puts_everything_off(core):
    core.heat()
    core.ask(gen.SamplesStart(1, 1000, 100))
    core.ask(gen.CapturesStart(1, 1, 100, 0))
    core.ask(gen.TelemetryStart(1, 100))
    core.advance(50)
    core.hello(session=123)
    core.messages()
    core.blocks.clear()
    core.advance(200)
    core.messages()
    assert core.blocks == []
    assert (core.board.rising, core.board.falling) == (0, 0)
    assert core.state is gen.State.SAFE
    assert core.board.heater == 0
    assert core.beat().renewed == 1


# ---------------------------------------------------------------------- faults


def broken(core: Stepped, how: str) -> None:
    match how:
        case "open":
            core.board.adc[0] = FULL
        case "no current":
            core.board.adc[1] = 3
        case "short":
            core.board.adc[0] = 0
        case "range":
            core.board.adc[0] = 300  # 90 K below 0 degC by far
        case "rate":
            core.temperature = core.temperature + 300
        case "hot":
            core.board.adc[0] = 23_000  # 923 K: above the limit of 900 K


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("open", gen.Fault.SENSOR_OPEN),
        ("no current", gen.Fault.SENSOR_OPEN),
        ("short", gen.Fault.SENSOR_SHORT),
        ("range", gen.Fault.SENSOR_RANGE),
        ("rate", gen.Fault.SENSOR_RATE),
    ],
)
@pytest.mark.parametrize("phase", [0.0, 0.5])
@pytest.mark.parametrize("mode", ["open loop", "closed loop"])
def test_a_broken_thermometer_puts_the_heater_off_within_two_passes(core, how, fault, phase, mode):
    if mode == "open loop":
        core.heat()
    else:
        core.hello()
        core.ask(tuned())
        core.arm()
        core.ask(gen.HeaterSet(400_000, 0))
        core.advance(2)
        assert core.board.heater > 0
    core.advance(phase)
    since = core.board.ticks
    broken(core, how)
    core.advance(5)
    off_within(core, TWO_PASSES, since)
    status = core.status()
    assert status.fault is fault
    assert core.board.violations == 0


def test_a_reference_at_its_end_is_no_cold_specimen():
    """Without a limit on its rate: the ratio alone would say 277 K, and the loop would heat with all it has."""
    core = Stepped(eeprom(replace(HOLDER, rate_max=0)))
    core.temperature = 600.0
    core.advance(5)
    core.heat()
    since = core.board.ticks
    core.board.adc[1] = FULL
    core.advance(5)
    off_within(core, TWO_PASSES, since)
    assert core.status().fault is gen.Fault.SENSOR_OPEN
    assert core.board.violations == 0


def test_over_temperature_puts_the_heater_off_within_two_passes(core):
    core.temperature = 880.0
    core.advance(5)  # the jump is doubted at first
    core.heat()
    since = core.board.ticks
    core.temperature = 901.0
    core.advance(5)
    off_within(core, TWO_PASSES, since)
    assert core.status().fault is gen.Fault.OVER_TEMPERATURE
    assert core.status().fault_value == pytest.approx(901_000, abs=30)
    assert core.ask(gen.ClearFault(gen.Fault.OVER_TEMPERATURE)).reason is gen.Refusal.SENSOR
    core.temperature = 890.0
    core.advance(2)
    assert core.ask(gen.ClearFault(gen.Fault.OVER_TEMPERATURE)) == gen.ClearFaultReply(gen.State.SAFE)


def test_a_thermometer_that_breaks_before_a_profile_begins_ends_it(core):
    core.arm()
    core.ask(gen.ProfileBegin(gen.ProfileTarget.TEMPERATURE, 1, 1, 300_000))
    core.ask(gen.ProfileSegments(0, (gen.Segment(gen.SegmentKind.STEP, 100, 400_000),)))
    core.ask(gen.ProfileStart(gen.Start.AT_TICK, core.board.ticks + 50 * MS, 0))
    broken(core, "open")
    core.advance(3)
    assert core.status().fault is gen.Fault.SENSOR_OPEN
    core.advance(100)
    assert core.board.heater_on_ticks == 0


def test_one_wrong_conversion_is_no_fault(core):
    core.heat()
    kept = core.board.adc[0]
    for wrong in (FULL, 0, kept + 5000):
        core.board.adc[0] = wrong
        core.advance(1)
        core.board.adc[0] = kept
        core.advance(3)
    assert core.state is gen.State.RUN


@pytest.mark.parametrize("pressure", [8501, 7499])
@pytest.mark.parametrize("phase", [0.0, 0.5, 0.999])
def test_a_pressure_step_puts_the_heater_off_within_a_pass(core, phase, pressure):
    core.hello()
    core.board.adc[4] = 8000
    core.ask(gen.InterlockSet(gen.Interlock(gen.InterlockKind.STEP, 4, 500, 10, 1)), channel=0)
    core.advance(20)
    core.heat()
    core.advance(20 + phase)
    since = core.board.ticks
    core.board.adc[4] = pressure
    core.advance(3)
    off_within(core, MS, since)
    assert core.status().fault is gen.Fault.PRESSURE_STEP
    assert core.status().fault_value == pressure


@pytest.mark.parametrize(
    "rule", [gen.Interlock(gen.InterlockKind.ABOVE, 4, 9000, 0, 1), gen.Interlock(gen.InterlockKind.BELOW, 4, 10, 0, 1),
             gen.Interlock(gen.InterlockKind.STEP, 4, 30_000, 10, 1)],
)  # fmt: skip
def test_a_watched_input_whose_converter_is_dead_is_a_fault_and_not_a_low_value(core, rule):
    core.hello()
    core.board.adc[4] = 8000
    core.ask(gen.InterlockSet(rule), channel=1)
    core.advance(20)
    core.heat()
    since = core.board.ticks
    core.board.adc[4] = -1
    core.advance(3)
    off_within(core, MS, since)
    assert (core.status().fault, core.status().fault_value) == (gen.Fault.ADC_DEAD, -1)
    core.live(100)  # long after the window: it is still dead
    assert core.ask(gen.ClearFault(gen.Fault.ADC_DEAD)).reason is gen.Refusal.INTERLOCK
    core.board.adc[4] = 8000
    core.advance(20)
    assert core.ask(gen.ClearFault(gen.Fault.ADC_DEAD)) == gen.ClearFaultReply(gen.State.SAFE)


@pytest.mark.parametrize("input_", [0, 1])
@pytest.mark.parametrize("kind", [gen.SensorKind.RESISTANCE, gen.SensorKind.THERMOCOUPLE])
def test_a_thermometer_whose_converter_is_dead_puts_the_heater_off(kind, input_):
    teds = HOLDER if kind is gen.SensorKind.RESISTANCE else replace(
        HOLDER, sensor=kind, gain=100.0, coefficients=(0.0, 25.0, 0.0, 0.0), cold_offset=223.15, cold_slope=50.0,
    )  # fmt: skip
    core = Stepped(eeprom(teds))
    if kind is gen.SensorKind.THERMOCOUPLE:
        core.board.adc[0] = 40  # near its cold junction: a dead converter must not look like this
        core.advance(5)
    core.heat()
    since = core.board.ticks
    core.board.adc[input_] = -1
    core.advance(5)
    off_within(core, TWO_PASSES, since)
    assert core.status().fault is gen.Fault.ADC_DEAD
    assert core.ask(gen.ClearFault(gen.Fault.ADC_DEAD)).reason is gen.Refusal.SENSOR
    assert core.board.violations == 0


def test_a_board_without_the_interlocks_the_host_means_does_not_arm(core):
    core.hello()
    core.ask(gen.InterlockSet(gen.Interlock(gen.InterlockKind.ABOVE, 4, 9000, 0, 1)), channel=1)
    core.ask(gen.InterlockInputs(0b11, 0b10))
    core.board.inputs = 0b10
    core.advance(2)
    meant = core.interlocks
    core.arm()
    core.start(eeprom(), boot=8)  # a reset: the board watches nothing any more
    core.hello()
    refused = core.ask(gen.Arm(core.beat().nonce, meant.checksum, core.holder))
    assert refused.reason is gen.Refusal.UNPROTECTED
    core.advance(5)
    assert core.state is gen.State.SAFE
    for channel, command in meant.commands():
        core.ask(command, channel)
    core.advance(2)
    assert core.ask(gen.Arm(core.beat().nonce, meant.checksum, core.holder)) == gen.ArmReply(gen.State.ARMED)


def test_a_host_that_means_no_interlocks_is_told_of_those_there_are(core):
    core.hello()
    core.ask(gen.InterlockInputs(0b1, 0b0))
    core.advance(1)
    assert core.ask(gen.Arm(core.beat().nonce, Interlocks().checksum, core.holder)).reason is gen.Refusal.UNPROTECTED


STEP, ABOVE, BELOW = gen.InterlockKind.STEP, gen.InterlockKind.ABOVE, gen.InterlockKind.BELOW


@pytest.mark.parametrize(
    "rule",
    [(ABOVE, 4, FULL, 0, 1), (BELOW, 4, 0, 0, 1), (STEP, 4, FULL, 10, 1), (STEP, 4, 0, 10, 1), (STEP, 4, 500, 3, 4),
     (STEP, 4, 500, 0, 1), (STEP, 4, 500, 33, 1), (ABOVE, 4, 500, 0, 0), (ABOVE, 8, 500, 0, 1)],
)  # fmt: skip
def test_an_interlock_that_nothing_could_trip_is_refused(core, rule):
    core.hello()
    assert core.ask(gen.InterlockSet(gen.Interlock(*rule))).reason is gen.Refusal.RANGE
    core.arm()  # with the interlocks of before: none


def test_a_step_is_seen_for_as_many_passes_as_its_window_has(core):
    core.hello()
    core.board.adc[4] = 8000
    core.ask(gen.InterlockSet(gen.Interlock(STEP, 4, 500, 3, 3)))
    core.advance(20)
    core.heat()
    core.board.adc[4] = 8501
    since = core.board.ticks
    core.advance(10)
    off_within(core, 3 * MS, since)
    assert core.status().fault is gen.Fault.PRESSURE_STEP


def test_a_slow_drift_of_pressure_is_no_step(core):
    core.hello()
    core.ask(gen.InterlockSet(gen.Interlock(gen.InterlockKind.STEP, 4, 500, 10, 1)))
    core.heat()
    for _ in range(300):
        core.board.adc[4] = core.board.adc[4] + 40  # 400 within the window of 10 passes
        core.beat()
        core.advance(1)
    assert core.state is gen.State.RUN


@pytest.mark.parametrize(
    ("kind", "wrong"), [(gen.InterlockKind.ABOVE, 5001), (gen.InterlockKind.BELOW, 4999)]
)  # fmt: skip
def test_a_level_is_watched_for_as_many_passes_as_said(core, kind, wrong):
    core.hello()
    core.board.adc[5] = 5000
    core.ask(gen.InterlockSet(gen.Interlock(kind, 5, 5000, 0, 3)), channel=2)
    core.heat()
    since = core.board.ticks
    core.board.adc[5] = wrong
    core.advance(2)
    assert core.board.heater > 0
    core.advance(2)
    off_within(core, 3 * MS, since)
    assert core.status().fault is gen.Fault.LEVEL
    core.beat()
    assert core.ask(gen.ClearFault(gen.Fault.LEVEL)).reason is gen.Refusal.INTERLOCK


def test_a_digital_interlock_is_asked_for_arming_and_while_on(core):
    core.hello()
    core.ask(gen.InterlockInputs(0b100, 0b100))
    core.advance(1)
    assert core.ask(core.arming(core.beat().nonce)).reason is gen.Refusal.INTERLOCK
    core.board.inputs = 0b110
    core.advance(1)
    core.heat()
    since = core.board.ticks
    core.board.inputs = 0b010
    core.advance(3)
    off_within(core, MS, since)
    assert core.status().fault is gen.Fault.INTERLOCK_INPUT
    assert core.status().fault_value == 0b010


@pytest.mark.parametrize(
    "request_", [gen.InterlockSet(gen.Interlock(gen.InterlockKind.OFF, 0, 0, 0, 0)), gen.InterlockInputs(0, 0), tuned()]
)
def test_what_protects_is_not_changed_while_something_may_be_on(core, request_):
    core.arm()
    assert core.ask(request_).reason is gen.Refusal.STATE


def test_a_control_loop_that_stood_still_is_a_fault_and_starves_the_watchdog(core):
    core.heat()
    core.beat()
    fed = core.board.fed
    core.board.passes_stop = True
    core.advance(400)
    assert core.board.fed <= fed + 1
    core.board.passes_stop = False
    core.beat()
    core.advance(3)
    assert core.status().fault is gen.Fault.CONTROL_LATE
    assert core.board.heater == 0
    assert core.board.fed > fed + 1


def test_the_heater_goes_off_when_it_was_on_for_too_long(core):
    core.hello()
    core.ask(tuned(on_time_max=2))
    core.heat()
    since = core.board.heater_on_ticks
    core.live(1990)
    assert core.board.heater > 0
    core.live(20)
    off_within(core, 2000 * MS + TWO_PASSES, since)
    assert core.status().fault is gen.Fault.ON_TIME


def test_a_fault_stays_until_the_one_that_happened_is_cleared(core):
    core.heat()
    core.ask(gen.FaultNow())
    assert core.board.heater == 0
    core.temperature = 296.0
    core.live(200)
    assert core.ask(core.arming(core.beat().nonce)).reason is gen.Refusal.STATE
    assert core.ask(gen.Safe()) == gen.SafeReply(gen.State.FAULT)
    assert core.ask(gen.ClearFault(gen.Fault.LEASE)).reason is gen.Refusal.RANGE
    assert core.ask(gen.ClearFault(gen.Fault.COMMANDED)) == gen.ClearFaultReply(gen.State.SAFE)
    assert core.status().fault is gen.Fault.NONE
    core.heat()


def test_the_first_fault_is_the_one_that_is_told(core):
    core.heat()
    broken(core, "open")
    core.advance(600)
    assert core.status().fault is gen.Fault.SENSOR_OPEN
    assert core.counters().faults == 1
    core.messages()
    assert [event.value for event in core.events if event.kind is gen.EventKind.FAULT] == [gen.Fault.SENSOR_OPEN]


def test_a_sensor_that_is_still_broken_can_not_be_cleared(core):
    core.heat()
    broken(core, "short")
    core.advance(5)
    assert core.ask(gen.ClearFault(gen.Fault.SENSOR_SHORT)).reason is gen.Refusal.SENSOR
    core.temperature = 296.0
    core.advance(2)
    assert core.ask(gen.ClearFault(gen.Fault.SENSOR_SHORT)) == gen.ClearFaultReply(gen.State.SAFE)


def test_safe_puts_all_outputs_off_at_once(core):
    core.heat()
    core.ask(gen.DacSet(5000), channel=1)
    core.ask(gen.DigitalSet(0xFF, 0x81))
    core.ask(gen.Trigger(core.board.ticks + 5000, 10, 0, 1))
    assert core.ask(gen.Safe()) == gen.SafeReply(gen.State.SAFE)
    assert (core.board.heater, core.board.dac[1], core.board.digital) == (0, 0, 0)
    core.advance(20)
    assert core.board.pulses == 0


def test_safe_needs_no_session_and_no_right_payload(core):
    core.heat()
    core.write(_raw(gen.Safe.TYPE, b"what?"))
    core.advance(0)
    assert core.board.heater == 0


def _raw(kind: int, payload: bytes) -> bytes:
    from hal.protocols import firmware

    return firmware.frame(bytes((gen.VERSION << 4, kind, 0, 0)) + payload)


# ---------------------------------------------------------------------- anything in any order


class AnythingInAnyOrder(RuleBasedStateMachine):
    """Commands, breaking sensors, dying hosts: outputs are on only where they may be."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Stepped(eeprom())
        self.core.hello()
        self.lived = self.core.board.ticks

    @rule(ms=st.sampled_from([0.1, 1, 3, 50, 450]))
    def time(self, ms: float) -> None:
        self.core.advance(ms)

    @rule()
    def beat(self) -> None:
        if self.core.beat().renewed:
            self.lived = self.core.board.ticks

    @rule()
    def arm(self) -> None:
        nonce = self.core.beat().nonce
        self.lived = self.core.board.ticks
        self.core.ask(self.core.arming(nonce))

    @rule(output=st.integers(0, 65535))
    def heat(self, output: int) -> None:
        self.core.ask(gen.HeaterOutput(output))

    @rule(setpoint=st.integers(250_000, 950_000))
    def control(self, setpoint: int) -> None:
        self.core.ask(gen.HeaterSet(setpoint, 0))

    @rule()
    def tune(self) -> None:
        self.core.ask(tuned())

    @rule(value=st.integers(0, 255))
    def pins(self, value: int) -> None:
        self.core.ask(gen.DigitalSet(0xFF, value))
        self.core.ask(gen.DacSet(value << 8), channel=value & 1)

    @rule()
    def pulse(self) -> None:
        self.core.ask(gen.Trigger(self.core.board.ticks + 3000, 100, 1000, 5))

    @rule(repeat=st.integers(0, 2))
    def profile(self, repeat: int) -> None:
        self.core.ask(gen.ProfileBegin(gen.ProfileTarget.OUTPUT, 1, repeat, 0))
        self.core.ask(gen.ProfileSegments(0, (gen.Segment(gen.SegmentKind.RAMP, 20, 30_000),)))
        self.core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))

    @rule(how=st.sampled_from(["open", "short", "range", "rate", "hot", "no current"]))
    def break_sensor(self, how: str) -> None:
        broken(self.core, how)

    @rule(kelvin=st.floats(250, 880))
    def mend_sensor(self, kelvin: float) -> None:
        self.core.board.adc[1] = REFERENCE_COUNTS
        self.core.temperature = kelvin

    @rule(content=st.sampled_from([eeprom(), eeprom(COOLER), None, bytes(256), b"\xff" * 256]))
    def exchange_holder(self, content: bytes | None) -> None:
        self.core.plug(content)

    @precondition(lambda self: self.core.state is gen.State.FAULT)
    @rule()
    def clear(self) -> None:
        self.core.ask(gen.ClearFault(self.core.status().fault))

    @rule(session=st.integers(1, 3))
    def hello(self, session: int) -> None:
        self.core.hello(session)

    @rule()
    def safe(self) -> None:
        self.core.ask(gen.Safe())

    @invariant()
    def nothing_is_on_that_must_not_be(self) -> None:
        board = self.core.board
        assert board.violations == 0
        if self.core.state not in (gen.State.ARMED, gen.State.RUN):
            assert board.heater == board.digital == board.dac[0] == board.dac[1] == 0
        if board.heater:
            assert self.core.state is gen.State.RUN
            assert board.heater <= 60_000
            assert board.ticks - self.lived <= gen.LEASE_MS * MS + TWO_PASSES


TestAnythingInAnyOrder = AnythingInAnyOrder.TestCase
TestAnythingInAnyOrder.settings = settings(examples(100), stateful_step_count=50)
