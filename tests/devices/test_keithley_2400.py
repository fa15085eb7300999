"""The Keithley 2400: wire, behaviour, and the emulator as others' drivers see it."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.keithley_2400 import codec
from devices.keithley_2400.driver import Keithley2400
from devices.keithley_2400.emulator import Keithley2400Emulator
from devices.physics import World
from hal.clock.timebase import Timebase
from hal.errors import InterlockTripped, LimitError, Refused, WrongInstrument
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.capabilities import SourceMeter, Sweep, lacking
from hal.model.context import Context
from hal.model.limits import Limits
from hal.model.reading import Quality
from hal.testing import Wire, wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session

Bias = tuple[Keithley2400, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Bias]:
    async with wired(Keithley2400, name="bias") as (meter, wire):
        yield meter, wire


def written(wire: Wire) -> list[str]:
    """What the driver sent but for questions."""
    return [line.decode().strip() for line in wire.sent if b"?" not in line]


def talk(meter: Keithley2400Emulator, *lines: bytes) -> list[bytes | None]:
    return [meter.respond(line) for line in lines]


# ---------------------------------------------------------------------- the wire


def test_a_reading_is_taken_apart_by_its_elements_and_its_status_word() -> None:
    # Status bits as on 18-50: 3 compliance, 11 and 12 measured, 14 voltage sourced.
    free = 1 << 2 | 1 << 11 | 1 << 12 | 1 << 14
    found = codec.parse_reading(b"VOLT,CURR,STAT;+1.000012E+00,+3.523290E-03,%+.6E\n" % free)
    assert (found.voltage.value, found.current.value, found.limited) == (1.000012, 3.52329e-3, False)
    found = codec.parse_reading(b"VOLT,CURR,RES,TIME,STAT;+2.0E+00,+1E-03,+9.91E+37,+7.2E+01,%+.6E" % (free | 8))
    assert (found.voltage.value, found.voltage.quality, found.limited) == (2.0, Quality.UNCERTAIN, True)


def test_what_is_not_measured_is_not_guessed() -> None:
    found = codec.parse_reading(b"VOLT,CURR,STAT;+1.0E+00,+9.91E+37,+1.6E+04")  # 18-50: not a number
    assert (found.voltage.value, found.current.value, found.current.quality) == (1.0, None, Quality.BAD)
    over = codec.parse_reading(b"CURR,STAT;+9.9E+37,+1.6E+04")
    assert (over.current.reason, over.voltage.quality) == ("over range", Quality.BAD)


@pytest.mark.parametrize(
    "reply", [b"", b"1.0", b"VOLT,STAT;1", b"VOLT,CURR;1,2", b"AMPS,STAT;1,2", b"VOLT,STAT;1,2,1,2", b"VOLT,STAT;a,2"]
)
def test_what_is_no_reading_is_refused(reply: bytes) -> None:
    with pytest.raises(ValueError):
        codec.parse_reading(reply)


@given(st.floats(-210, 210), st.floats(-1.05, 1.05), st.booleans(), st.sets(st.sampled_from(("RES", "TIME"))))
def test_a_reading_goes_round_whatever_elements_were_chosen(
    volts: float, amperes: float, limited: bool, more: set[str]
) -> None:
    elements = tuple(e for e in codec.ELEMENTS if e in {"VOLT", "CURR", "STAT", *more})
    values = {"VOLT": volts, "CURR": amperes, "RES": 1.0, "TIME": 2.0, "STAT": float(codec.COMPLIANCE * limited)}
    found = codec.parse_reading((",".join(elements) + ";" + codec.format_reading(elements, values)).encode())
    assert found.voltage.value == pytest.approx(volts, rel=1e-6, abs=1e-99)
    assert found.current.value == pytest.approx(amperes, rel=1e-6, abs=1e-99)
    assert found.limited is limited


# ---------------------------------------------------------------------- behaviour


def test_it_is_a_source_meter() -> None:
    assert lacking(Keithley2400, SourceMeter) == []


async def test_sourcing_a_voltage_drives_the_specimen_and_both_quantities_are_read(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    assert wire.world.voltage == 1.0
    wire.forget()
    data = await meter.read()
    assert [line.strip() for line in wire.sent] == [b":OUTP?", b":FORM:ELEM?;:READ?"]
    assert data["bias-voltage"]["value"] == pytest.approx(1.0, abs=2e-4)
    assert data["bias-current"]["value"] == pytest.approx(wire.world.current, rel=2e-4)


async def test_sourcing_a_current_works_the_same(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("current", -2e-3, compliance=5.0)
    assert wire.world.current == pytest.approx(-2e-3)
    assert await meter.current.get() == pytest.approx(-2e-3, rel=3e-4)
    assert await meter.voltage.get() == pytest.approx(-2e-3 * wire.world.resistance, rel=1e-3)


async def test_with_the_output_off_there_is_no_reading_and_none_is_asked_for(bench: Bias) -> None:
    meter, wire = bench
    reading = await meter.voltage.read()
    assert (reading.value, reading.quality) == (None, Quality.BAD)
    assert "output is off" in reading.reason
    assert not any(b"READ" in line for line in wire.sent)
    assert wire.emulator.errors == 0
    assert await meter.output.get() is False


@pytest.mark.parametrize(
    ("mode", "level", "compliance"),
    [
        ("voltage", 211, 0.01), ("voltage", -211, 0.01), ("voltage", 1, 2), ("voltage", 1, 0), ("voltage", 1, -1e-3),
        ("voltage", math.nan, 0.01), ("voltage", 1, math.inf), ("voltage", 150, 0.5), ("current", 1.1, 1),
        ("current", -1.1, 1), ("current", 1e-3, 300), ("current", 0.5, 30), ("power", 1, 1),
    ],
)  # fmt: skip
async def test_a_level_or_compliance_out_of_limits_never_reaches_the_wire(
    bench: Bias, mode: Any, level: float, compliance: float
) -> None:
    meter, wire = bench
    with pytest.raises(LimitError, match="nothing was sent"):
        meter.source(mode, level, compliance)
    assert not wire.sent


async def test_one_bad_level_in_a_sweep_stops_all_of_it_beforehand(bench: Bias) -> None:
    meter, wire = bench
    for levels, dwell in (([0.1, 0.2, -250.0], 0.1), ([], 0.1), ([0.1], -1.0), ([0.1], math.nan)):
        with pytest.raises(LimitError, match="nothing was sent"):
            meter.sweep("voltage", levels, 0.01, dwell)
    assert not wire.sent


async def test_limits_of_the_voltage_hold_for_the_compliance_of_a_current_source_too(bench: Bias) -> None:
    meter, wire = bench
    meter.voltage_level.narrow(Limits(-2.0, 2.0), "the holder")
    with pytest.raises(LimitError, match=r"voltage_level = 5 V is outside -2 to 2 V.*the holder"):
        meter.source("current", 1e-3, compliance=5.0)
    assert not wire.sent


async def test_in_compliance_readings_are_uncertain_and_say_why(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 5.0, compliance=1e-3)
    assert wire.world.current == pytest.approx(1e-3)
    reading = await meter.voltage.read()
    assert reading.quality is Quality.UNCERTAIN
    assert "compliance" in reading.reason
    assert await meter.limited.get() is True


async def test_a_wider_compliance_comes_after_the_new_level_and_a_narrower_one_before(bench: Bias) -> None:
    meter, wire = bench
    seen: list[float] = []
    await meter.source("voltage", 10.0, compliance=1e-3)
    wire.bench.watchers.append(lambda _: seen.append(abs(wire.world.current)))
    for level, compliance in ((1.0, 0.1), (0.1, 1e-4), (0.2, 1e-2)):
        await meter.source("voltage", level, compliance)
    assert 0 < max(seen) <= 1.0 / wire.world.resistance * 1.001  # never 10 V behind 100 mA


async def test_changing_what_is_sourced_happens_with_the_output_off(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    wire.forget()
    await meter.source("current", 1e-3, compliance=1.0)
    sent = written(wire)
    assert sent.index(":OUTP OFF") < sent.index(":SOUR:FUNC CURR") < sent.index(":SOUR:CURR 0.001")
    assert sent[-1] == ":OUTP ON"


async def test_what_others_left_set_does_not_disturb(bench: Bias) -> None:
    meter, wire = bench
    talk(
        wire.emulator, b":SOUR:CLE:AUTO ON;:TRIG:COUN 7;:FORM:ELEM RES", b":SENS:FUNC:CONC OFF;:SENS:FUNC 'VOLT'",
        b":SOUR:VOLT:MODE SWE;STAR 0;STOP 20;STEP 1", b":SENS:CURR:RANG 1e-4",
    )  # fmt: skip
    await meter.source("voltage", 1.0, compliance=0.01)
    assert await meter.current.get() == pytest.approx(1.0 / wire.world.resistance, rel=1e-3)
    assert await meter.output.get() is True
    assert wire.world.voltage == 1.0


async def test_a_sweep_brings_arrays_that_lie_on_the_load_line(bench: Bias) -> None:
    meter, wire = bench
    levels = np.linspace(-1, 1, 11)
    result: Sweep = await meter.sweep("voltage", levels.tolist(), compliance=0.003, dwell=0.5)
    free = ~result.limited
    assert result.limited.tolist() == [abs(level) / wire.world.resistance > 0.003 for level in levels]
    assert result.voltage[free] == pytest.approx(levels[free], abs=2e-4)
    assert result.voltage / wire.world.resistance == pytest.approx(result.current, rel=1e-3, abs=1e-6)
    assert (np.diff(result.time) > 0.5e9).all()
    assert (result.bound > 0).all()


async def test_an_output_that_goes_off_during_a_sweep_ends_it(bench: Bias) -> None:
    meter, wire = bench
    sweep = meter.sweep("voltage", [0.1] * 10, 0.01, dwell=1.0)
    await asyncio.sleep(3.5)
    wire.emulator.respond(b":OUTP OFF")  # somebody at the front panel
    with pytest.raises(Refused, match="the output went off"):
        await sweep


async def test_off_goes_to_zero_before_the_output_goes_off(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    wire.forget()
    await meter.off()
    assert written(wire) == [":ABOR;:SOUR:VOLT 0;:SOUR:CURR 0", ":OUTP OFF"]
    assert wire.world.voltage == 0.0


async def test_the_safe_state_ends_a_sweep_and_a_closed_gate_keeps_it_ended(bench: Bias) -> None:
    meter, wire = bench
    sweep = meter.sweep("voltage", [0.1] * 100, 0.01, dwell=1.0)
    await asyncio.sleep(5.5)
    error = InterlockTripped("vacuum")
    meter.context.gate.close(lambda: error)
    meter.context.fail_pending(error)
    await meter.safe_state()
    with pytest.raises(InterlockTripped):
        await sweep
    with pytest.raises(InterlockTripped):
        await meter.source("voltage", 1.0, 0.01)
    assert (wire.world.voltage, wire.emulator.output) == (0.0, False)


async def test_a_setting_the_instrument_refuses_is_raised_with_its_code(bench: Bias) -> None:
    meter, wire = bench
    await meter.voltage_level.set(30.0)
    with pytest.raises(Refused, match=r"bias: :SENS:CURR:PROT 0.5: refused with error 826, 'Attempt to exceed power"):
        await meter.current_limit.set(0.5)
    await meter.current_limit.set(0.05)  # the queue was left clean
    assert await meter.current_limit.get() == 0.05
    assert wire.emulator.errors == 0


async def test_errors_others_left_behind_are_noted_and_not_blamed_on_us(bench: Bias) -> None:
    meter, wire = bench
    wire.emulator.respond(b":FRONT:PANEL 7")
    await meter.voltage_level.set(0.5)
    assert any("-113" in str(entry) for entry in meter.context.journal.recent)
    assert await meter.voltage_level.get() == 0.5


async def test_another_instrument_on_the_link_is_named() -> None:
    with pytest.raises(WrongInstrument, match="expected a Keithley 2400, found 'KEITHLEY INSTRUMENTS,MODEL 2450"):
        async with wired(Keithley2400, emulator=_a_2450()):
            pass


def _a_2450() -> Any:
    from devices.keithley_2450.emulator import Keithley2450Emulator

    return Keithley2450Emulator(World())


# ---------------------------------------------------------------------- the emulator, as others see it


def test_it_wakes_up_as_the_manual_says() -> None:
    meter = Keithley2400Emulator(World())
    assert talk(meter, b"*IDN?")[0].startswith(b"KEITHLEY INSTRUMENTS INC.,MODEL 2400,")  # type: ignore[union-attr]
    assert talk(meter, b":OUTP?;:SOUR:FUNC?;:FORM:ELEM?;:SENS:FUNC?;:SOUR:CLE:AUTO?;:TRIG:COUN?") == [
        b'0;VOLT;VOLT,CURR,RES,TIME,STAT;"CURR:DC";0;1'
    ]
    assert float(talk(meter, b":SENS:CURR:PROT?")[0] or b"nan") == 1.05e-4  # 18-68
    assert float(talk(meter, b":SENS:VOLT:PROT?")[0] or b"nan") == 21.0


def test_reading_with_the_output_off_stays_unanswered_and_leaves_error_803() -> None:
    meter = Keithley2400Emulator(World())
    assert talk(meter, b":READ?", b":STAT:QUE?", b":SYST:ERR?") == [
        None, b'+803,"Not permitted with OUTPUT off"', b'0,"No error"',
    ]  # fmt: skip


def test_measuring_turns_the_output_on_and_automatic_off_turns_it_off_again() -> None:
    meter = Keithley2400Emulator(World())
    talk(meter, b":SOUR:VOLT 1;:SENS:CURR:PROT .01")
    # What PyMeasure's property `current` sends and expects: voltage as programmed, current as measured (17-5, 18-50).
    volts, amperes, ohms, _, status = map(float, (talk(meter, b":MEASURE:CURRENT?")[0] or b"").split(b","))
    assert (volts, amperes, ohms) == (1.0, pytest.approx(1 / World().resistance, rel=1e-3), 9.91e37)
    assert int(status) & (1 << 12 | 1 << 11 | 1 << 14 | 1 << 3) == 1 << 12 | 1 << 14
    assert talk(meter, b":OUTP?") == [b"1"]
    assert talk(meter, b":SOUR:CLE:AUTO ON", b":MEAS:CURR?", b":OUTP?")[2] == b"0"


def test_the_error_queue_holds_ten_and_then_says_so() -> None:
    meter = Keithley2400Emulator(World())
    talk(meter, *[b":NO:SUCH 1"] * 12)
    found = [talk(meter, b"SYST:ERR?")[0] for _ in range(11)]
    assert found[:2] == [b'-113,"Undefined header"'] * 2
    assert found[9:] == [b'-350,"Queue overflow"', b'0,"No error"']


def test_a_range_below_the_compliance_and_a_compliance_below_the_range_are_refused() -> None:
    meter = Keithley2400Emulator(World())
    assert talk(meter, b":SENS:CURR:PROT 1e-3;:SENS:CURR:RANG 0.1;:SYST:ERR?")[0] == (
        b'+824,"Cannot exceed compliance range"'
    )
    assert (
        talk(meter, b":SENS:CURR:RANG 1e-3;:SENS:CURR:PROT 1e-7;:SYST:ERR?")[0] == b'+822,"Too small for sense range"'
    )
    assert talk(meter, b":SOUR:VOLT:RANG 2;:SOUR:VOLT 5;:SYST:ERR?")[0] == b'-222,"Parameter data out of range"'
    assert talk(meter, b":SOUR:VOLT:RANG 20;:SOUR:VOLT 5;:SOUR:VOLT:RANG?;:SOUR:VOLT?")[0] == (
        b"2.000000E+01;5.000000E+00"
    )


async def test_a_buffer_fills_while_time_passes_as_pymeasure_waits_for_it() -> None:
    world = World()
    meter = Keithley2400Emulator(world)
    bench = Bench(world)
    bench.wire([meter], "visa")
    bench.advance_to(0.0)
    talk(
        meter, b":SOUR:VOLT 1;:OUTP ON", b":STAT:PRES;*CLS;*SRE 1;:STAT:MEAS:ENAB 512;", b":TRAC:CLEAR;",
        b":TRAC:POIN 10", b":TRIGGER:COUNT 10", b":TRIGGER:DELAY 0", b":TRAC:FEED SENSE;:TRAC:FEED:CONT NEXT;",
        b":INIT",
    )  # fmt: skip
    assert (int(talk(meter, b"*STB?")[0] or b"") & 65, meter.errors) == (0, 0)
    bench.advance_to(1.0)
    assert int(talk(meter, b"*STB?")[0] or b"") & 65 == 65
    assert len((talk(meter, b":TRAC:DATA?")[0] or b"").split(b",")) == 50
    mean = (talk(meter, b":CALCULATE3:FORMAT MEAN;:CALCULATE3:DATA?;")[0] or b"").split(b",")
    assert [float(x) for x in mean] == pytest.approx(
        [1.0, 1.05e-4, 9.91e37], rel=1e-4
    )  # the compliance it woke up with


def test_a_linear_sweep_of_its_own_reads_all_points_at_once() -> None:
    world = World()
    meter = Keithley2400Emulator(world)
    (reply,) = talk(
        meter, b"*RST;:SENS:CURR:PROT 0.1;:SOUR:VOLT:MODE SWE;:SOUR:VOLT:STAR 0;:SOUR:VOLT:STOP 2;:SOUR:VOLT:STEP 0.5;"
        b":TRIG:COUN 5;:FORM:ELEM CURR;:OUTP ON;:READ?",
    )  # fmt: skip
    assert np.array((reply or b"").split(b","), dtype=float) * world.resistance == pytest.approx(
        np.array([0, 0.5, 1, 1.5, 2]), abs=1e-3
    )
    assert meter.reply_delay > 5 * 0.06  # it takes its time


def test_the_lines_qcodes_and_pymeasure_send_raise_no_error() -> None:
    meter = Keithley2400Emulator(World())
    for line in (
        "status:queue:clear;*RST;:stat:pres;:*CLS;", ":TRIG:COUN 1;:FORM:ELEM VOLT,CURR", "SENS:CURR:PROT 0.010000",
        ":SOUR:VOLT:LEV 1.50000000", ':SENS:FUNC "CURR"', ":SENS:FUNC 'VOLT';:SENS:VOLT:NPLC 1.000000;",
        ":SENS:FUNC 'RES';:SENS:RES:MODE MAN;:SENS:RES:NPLC 1.000000;", ":SENS:RES:RANG:AUTO 1;", "OUTPUT ON",
        ":ARM:COUN 1;:ARM:SOUR BUS;:TRIG:SOUR IMM;", ":TRIG:OUTP DEL;:TRIG:OLIN 1;", ":SYST:BEEP 440, 0.1",
        ":SYSTEM:AZERO:STATE ONCE", ":SENSE:AVERAGE:TCONTROL REP", ":ROUT:TERM REAR", ":OUTPUT:SMODE HIMP",
        ":FORMAT:ELEMENTS VOLTAGE, CURRENT, RESISTANCE, TIME, STATUS", ":SENSE:FUNCTION:ALL",
    ):  # fmt: skip
        assert meter.respond(line.encode()) is None
        assert meter.errors == 0, line
    assert talk(meter, b"SENS:VOLT:RANG?;:SOURCE:CURRENT:RANGE:AUTO?;:SYSTEM:RSENSE?")[0] == b"2.000000E+01;1;0"


@pytest.mark.real_clock
async def test_the_driver_speaks_to_the_emulator_over_a_serial_line() -> None:
    world = World()
    port = await PtyPort(Bench(world).wire([Keithley2400Emulator(world)], "serial")).open()
    context = Context(Timebase.system(), Gate())
    session = Session(
        SerialLink(port.path, Keithley2400.line), Keithley2400.framing("serial"),
        timebase=context.timebase, gate=context.gate, timeout=3.0,
    )  # fmt: skip
    meter = Keithley2400(session, "bias", context=context)
    await meter.connect()
    try:
        result = await meter.sweep("voltage", [0.1, 0.2], compliance=0.01, dwell=0.01)
        assert result.current == pytest.approx(np.array([0.1, 0.2]) / world.resistance, rel=1e-3)
        await meter.off()
        assert world.voltage == 0.0
    finally:
        await meter.disconnect()
        await port.close()
