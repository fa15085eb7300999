"""The Keithley 2450: wire, behaviour, and the emulator as others' drivers see it."""

import asyncio
import math
import statistics
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.keithley_2450 import codec
from devices.keithley_2450.driver import Keithley2450
from devices.keithley_2450.emulator import Keithley2450Emulator
from devices.physics import World
from hal.clock.timebase import Timebase
from hal.errors import InterlockTripped, LimitError, Refused, WrongInstrument
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.model.capabilities import SourceMeter, Sweep, lacking
from hal.model.context import Context
from hal.model.limits import Limits
from hal.model.reading import Quality
from hal.testing import Wire, wired
from hal.transport.session import Session
from hal.transport.visa import VisaLink

Bias = tuple[Keithley2450, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Bias]:
    async with wired(Keithley2450, name="bias") as (meter, wire):
        yield meter, wire


def written(wire: Wire) -> list[str]:
    """What the driver sent but for questions."""
    return [line.decode().strip() for line in wire.sent if b"?" not in line]


# ---------------------------------------------------------------------- the wire


def test_a_reading_is_taken_apart_by_what_it_says_of_itself() -> None:
    # Elements as on p. 6-6, units as on p. 8-36, status bits as on p. 8-29: 128 output on, 32 limited.
    found = codec.parse_reading(b"1.000012E+00,3.523290E-03,128,Volt DC,Amp DC\n")
    assert (found.voltage.value, found.current.value, found.output, found.limited) == (
        1.000012,
        3.52329e-3,
        True,
        False,
    )
    found = codec.parse_reading(b"1.000000E-03,2.000000E+00,160,Amp DC,Volt DC")
    assert (found.voltage.value, found.current.value, found.limited) == (2.0, 1e-3, True)
    assert found.voltage.quality is Quality.UNCERTAIN


def test_what_is_not_measured_is_not_guessed() -> None:
    found = codec.parse_reading(b"1.0E+00,2.838E+02,128,Volt DC,Ohm")
    assert found.voltage.value == 1.0
    assert found.current.quality is Quality.BAD
    over = codec.parse_reading(b"1.0E+00,9.9E+37,128,Volt DC,Amp DC").current
    assert (over.value, over.quality) == (None, Quality.BAD)


@pytest.mark.parametrize("reply", [b"", b"1.0", b"a,b,c,d,e", b"1,2,3,Watt DC,Amp DC", b"1,2,3,4,5,6"])
def test_what_is_no_reading_is_refused(reply: bytes) -> None:
    with pytest.raises(ValueError):
        codec.parse_reading(reply)


@given(st.floats(-210, 210), st.floats(-1.05, 1.05), st.booleans())
def test_a_reading_goes_round(volts: float, amperes: float, on: bool) -> None:
    text = codec.format_reading(volts, amperes, codec.OUTPUT_ON * on, "V", "A")
    found = codec.parse_reading(text.encode())
    assert found.voltage.value == pytest.approx(volts, rel=1e-6, abs=1e-99)
    assert found.current.value == pytest.approx(amperes, rel=1e-6, abs=1e-99)
    assert found.output is on


# ---------------------------------------------------------------------- behaviour


def test_it_is_a_source_meter() -> None:
    assert lacking(Keithley2450, SourceMeter) == []


async def test_sourcing_a_voltage_drives_the_specimen_and_both_quantities_come_from_one_question(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    assert wire.world.voltage == 1.0
    wire.forget()
    data = await meter.read()
    assert wire.sent == [b':READ? "defbuffer1", SOUR, READ, SOURSTAT, SOURUNIT, UNIT\n']
    assert data["bias-voltage"]["value"] == pytest.approx(1.0, abs=2e-4)
    assert data["bias-current"]["value"] == pytest.approx(wire.world.current, rel=2e-4)
    assert data["bias-output"]["value"] is True


async def test_sourcing_a_current_works_the_same(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("current", -2e-3, compliance=5.0)
    assert wire.world.current == pytest.approx(-2e-3)
    assert await meter.current.get() == pytest.approx(-2e-3, rel=3e-4)
    assert await meter.voltage.get() == pytest.approx(-2e-3 * wire.world.resistance, rel=1e-3)


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
    with pytest.raises(LimitError, match="nothing was sent"):
        meter.sweep("voltage", [0.1, 0.2, -250.0], 0.01, 0.1)
    with pytest.raises(LimitError, match="no level"):
        meter.sweep("voltage", [], 0.01, 0.1)
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
    assert reading.value == pytest.approx(wire.world.voltage, rel=1e-3)


async def test_a_wider_compliance_comes_after_the_new_level_and_a_narrower_one_before(bench: Bias) -> None:
    meter, wire = bench
    seen: list[float] = []
    await meter.source("voltage", 10.0, compliance=1e-3)
    wire.bench.watchers.append(lambda _: seen.append(abs(wire.world.current)))
    for level, compliance in ((1.0, 0.1), (0.1, 1e-4), (0.2, 1e-2)):
        await meter.source("voltage", level, compliance)
    assert max(seen) <= 1.0 / wire.world.resistance * 1.001  # never 10 V behind 100 mA


async def test_changing_what_is_sourced_happens_with_the_output_off(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    wire.forget()
    await meter.source("current", 1e-3, compliance=1.0)
    sent = written(wire)
    assert sent.index(":OUTP OFF") < sent.index(":SOUR:FUNC CURR") < sent.index(":SOUR:CURR 0.001")
    assert sent[-1] == ":OUTP ON"


async def test_a_sweep_brings_arrays_that_lie_on_the_load_line(bench: Bias) -> None:
    meter, wire = bench
    started = asyncio.get_running_loop().time()
    levels = np.linspace(-1, 1, 11)
    result: Sweep = await meter.sweep("voltage", levels, compliance=0.003, dwell=0.5)
    assert asyncio.get_running_loop().time() - started == pytest.approx(11 * 0.54, rel=0.05)
    assert result.levels.tolist() == levels.tolist()
    free = ~result.limited
    assert result.limited.tolist() == [abs(level) / wire.world.resistance > 0.003 for level in levels]
    assert result.voltage[free] == pytest.approx(levels[free], abs=2e-4)
    assert result.voltage / wire.world.resistance == pytest.approx(result.current, rel=1e-3, abs=1e-6)
    assert result.time.dtype == np.int64
    assert (np.diff(result.time) > 0.5e9).all()
    assert (result.bound > 0).all()
    assert meter.voltage.last is not None


async def test_off_goes_to_zero_before_the_output_goes_off(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    wire.forget()
    await meter.off()
    assert written(wire) == [":ABOR;:SOUR:VOLT 0;:SOUR:CURR 0", ":OUTP OFF"]
    assert wire.world.voltage == 0.0
    assert await meter.output.get() is False
    assert await meter.voltage.get() == pytest.approx(0, abs=1e-4)  # measuring goes on with the output off


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
    assert (wire.world.voltage, wire.emulator._values["outp"]) == (0.0, False)


async def test_a_setting_the_instrument_refuses_is_raised_with_its_code(bench: Bias) -> None:
    meter, wire = bench
    meter.current_limit.limits = Limits(0, 100)  # as if the driver knew no better
    with pytest.raises(Refused, match=r"bias: :SOUR:VOLT:ILIM 50: refused with error -222, 'Data out of range'"):
        await meter.current_limit.set(50.0)
    await meter.current_limit.set(0.05)  # the queue was left clean
    assert await meter.current_limit.get() == 0.05
    assert wire.emulator.errors == 0


async def test_errors_others_left_behind_are_noted_and_not_blamed_on_us(bench: Bias) -> None:
    meter, wire = bench
    wire.emulator.respond(b":FRONT:PANEL 7")
    await meter.voltage_level.set(0.5)
    assert any("-113" in str(entry) for entry in meter.context.journal.recent)
    assert await meter.voltage_level.get() == 0.5


async def test_readings_scatter_as_declared_and_the_truth_is_within_two_sigma(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    within, errors = 0, []
    for _ in range(400):
        reading = await meter.current.read()
        assert reading.value is not None
        assert reading.uncertainty is not None
        errors.append((reading.value - wire.world.current) / reading.uncertainty)
        within += abs(errors[-1]) < 2
    assert 0.92 < within / 400 < 0.985
    assert statistics.stdev(errors) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("language", ["TSP", "SCPI2400"])
async def test_a_2450_that_speaks_another_language_is_named_with_the_remedy(language: str) -> None:
    with pytest.raises(WrongInstrument, match=f"speaks '{language}'; set MENU"):
        async with wired(Keithley2450, language=language):
            pass


# ---------------------------------------------------------------------- the emulator, as others see it


def test_short_and_long_forms_in_any_case_as_qcodes_and_pymeasure_mix_them_are_understood() -> None:
    meter = Keithley2450Emulator(World())
    for line in (
        "*RST;:stat:pres;:*CLS;", ":SENSe:current:RSENse 1", ":SENS:CURR:RANG:AUTO 0;:SENS:CURR:RANG 0.01",
        "SOUR:voltage:ILIM 0.01", ":SOUR:VOLT:LEV 1", ":SENS:FUNC 'RES';:SENS:RES:NPLC 1.000000;", "OUTPUT ON",
        ":SOURce:voltage:DELay:USER2 0.5", ":SYST:BEEP 440, 0.1", "ROUTe:TERMinals rear", ":OUTP:VOLT:SMOD ZERO",
        ":TRACe:MAKE 'mine', 100, STANdard",
    ):  # fmt: skip
        assert meter.respond(line.encode()) is None
    assert meter.respond(b"SYST:ERR?") == b'0,"No error;0;0 0"'
    assert meter.respond(b":SENS:FUNC?") == b'"RES"'
    assert meter.respond(b":SENSe:current:RSENse?;:OUTP?;:ROUT:TERM?") == b"1;1;REAR"


def test_an_unknown_command_is_reported_with_time_and_severity_as_keithley_does() -> None:
    meter = Keithley2450Emulator(World())
    meter.respond(b"SENS:VOLT:PROT 5")  # of the 2400
    assert (meter.respond(b"SYST:ERR?") or b"").startswith(b'-113,"Undefined header;1;2')


@pytest.mark.real_clock
async def test_the_driver_speaks_to_the_emulator_through_visa_and_a_socket() -> None:
    world = World()
    port = await TcpPort(Bench(world).wire([Keithley2450Emulator(world)], "visa"), scheme="visa").open()
    context = Context(Timebase.system(), Gate())
    session = Session(
        VisaLink(port.url.removeprefix("visa://")), Keithley2450.framing("visa"), timebase=context.timebase,
        gate=context.gate, timeout=2.0,
    )  # fmt: skip
    meter = Keithley2450(session, "bias", context=context)
    await meter.connect()
    try:
        result = await meter.sweep("voltage", [0.1, 0.2], compliance=0.01, dwell=0.01)
        assert result.current == pytest.approx(np.array([0.1, 0.2]) / world.resistance, rel=1e-3)
        await meter.off()
        assert world.voltage == 0.0
    finally:
        await meter.disconnect()
        await port.close()


@pytest.mark.real_clock
@pytest.mark.filterwarnings("ignore")
async def test_qcodes_drives_the_emulator() -> None:
    drivers = pytest.importorskip("qcodes.instrument_drivers.Keithley", reason="comes with the extra `bench`")
    world = World()
    emulator = Keithley2450Emulator(world)
    port = await TcpPort(Bench(world).wire([emulator], "visa"), scheme="visa").open()

    def use() -> tuple[Any, ...]:
        meter = drivers.Keithley2450("meter", port.url.removeprefix("visa://"), visalib="@py")
        try:
            meter.reset()
            meter.source_function("voltage")
            meter.sense_function("current")
            meter.source.limit(0.01)
            meter.source.voltage(1.0)
            with meter.output_enabled.set_to(True):
                free = meter.sense.current()
                meter.source.voltage(5.0)
                limited, tripped = meter.sense.current(), meter.source.limit_tripped()
                meter.source.sweep_setup(0, 1, 11)
                swept = meter.sense.sweep()
            return meter.get_idn()["model"], meter.source.voltage(), free, limited, tripped, swept
        finally:
            meter.close()

    model, level, free, limited, tripped, swept = await asyncio.to_thread(use)
    await port.close()
    assert (model, level, tripped) == ("2450", 1.0, True)
    assert free == pytest.approx(1.0 / world.resistance, rel=1e-3)
    assert limited == pytest.approx(0.01, rel=1e-3)
    assert swept == pytest.approx(np.linspace(0, 1, 11) / world.resistance, rel=1e-3, abs=1e-8)
    assert emulator.errors == 0


def test_a_range_is_one_of_a_few_and_a_fixed_one_holds_the_level_back() -> None:
    """Descriptions of ``smu.source.range``, ``smu.source.level`` and ``smu.measure.range`` (commands_2450.json)."""
    meter = Keithley2450Emulator(World())

    def ask(text: str) -> str:
        return (meter.respond(text.encode()) or b"").decode()

    assert float(ask(":SOUR:VOLT 3;:SOUR:VOLT:RANG?")) == 20.0  # its own choice
    assert ask(":SOUR:VOLT 0.05;:SOUR:VOLT:RANG 50e-3;RANG?;RANG:AUTO?") == "2.000000E-01;0"
    assert ask(":SOUR:VOLT 3;:SOUR:VOLT?;:SYST:ERR:CODE?") == "5.000000E-02;-222"
    assert ask(":SOUR:VOLT:RANG 0.02;:SYST:ERR:CODE?;:SOUR:VOLT:RANG?") == "-221;2.000000E-01"
    assert ask(":SENS:CURR:RANG 9 mA;RANG?;RANG:AUTO?;:SENS:CURR:RANG? MAX") == ("1.000000E-02;0;1.050000E+00")
    assert ask(":SENS:FUNC 'VOLT';:SENS:VOLT:RANG 100;RANG?") == "2.000000E-01"  # that of the source


def test_a_delay_of_ones_own_ends_the_automatic_one() -> None:
    meter = Keithley2450Emulator(World())
    assert meter.respond(b":SOUR:VOLT:DEL 0.5;DEL:AUTO?") == b"0"
    meter.respond(b":READ?")
    assert meter.reply_delay > 0.5
