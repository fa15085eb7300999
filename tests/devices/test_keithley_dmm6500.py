"""The Keithley DMM6500: wire, behaviour, and the emulator as others' drivers see it."""

import asyncio
import statistics
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.keithley_buffers import number
from devices.keithley_dmm6500 import codec
from devices.keithley_dmm6500.driver import KeithleyDmm6500, Options
from devices.keithley_dmm6500.emulator import KeithleyDmm6500Emulator
from devices.keithley_dmm6500.scanner import Channels
from devices.physics import World
from hal.errors import ConfigError, LimitError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.model.capabilities import Thermometer, lacking
from hal.model.reading import Quality
from hal.protocols.scpi_parameters import ScpiError
from hal.testing import Wire, wired

Meter = tuple[KeithleyDmm6500, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Meter]:
    async with wired(KeithleyDmm6500, name="meter", options={"function": "resistance_4w"}) as (meter, wire):
        yield meter, wire


def written(wire: Wire) -> list[str]:
    """What the driver sent but for questions."""
    return [line.decode().strip() for line in wire.sent if b"?" not in line]


def emulated(*commands: str, **settings: Any) -> KeithleyDmm6500Emulator:
    """A DMM6500 that took these commands."""
    meter = KeithleyDmm6500Emulator(World(), **settings)
    for command in commands:
        assert meter.respond(command.encode()) is None
    return meter


def ask(meter: KeithleyDmm6500Emulator, question: str) -> str:
    reply = meter.respond(question.encode())
    assert reply is not None, f"no answer to {question}: {meter.respond(b':SYST:ERR?')!r}"
    return reply.decode()


def live(meter: KeithleyDmm6500Emulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        meter.advance(0.01)


# ---------------------------------------------------------------------- the wire


def test_a_reading_says_of_what_it_is() -> None:
    found = codec.parse_reading(b"VOLT:DC;-1.234567E-03")
    assert (found.function, found.of("voltage").value) == ("VOLT", -1.234567e-3)
    assert found.of("current").quality is Quality.BAD
    assert "VOLTage[:DC]" in found.of("current").reason
    quoted = codec.parse_reading(b'"FRES";2.838249E+02\n')  # as the 2450 answers
    assert quoted.of("resistance").value == 283.8249


def test_what_is_over_range_is_no_value() -> None:
    over = codec.parse_reading(b"RES;9.900000E+37").of("resistance")
    assert (over.value, over.quality) == (None, Quality.BAD)


@pytest.mark.parametrize("reply", [b"", b"VOLT:DC", b"1.0E+00", b"OHM;1.0", b"VOLT:DC;x", b"VOLT:DC;1;2", b"\xff;1"])
def test_what_is_no_reading_is_refused(reply: bytes) -> None:
    with pytest.raises(ValueError):
        codec.parse_reading(reply)


@given(st.sampled_from(sorted(codec.FUNCTIONS)), st.floats(-1e9, 1e9))
def test_a_reading_goes_round(function: str, value: float) -> None:
    reply = f"{codec.FUNCTIONS[function].shown};{number(value)}"
    found = codec.parse_reading(reply.encode())
    assert found.function == function
    assert found.value.value == pytest.approx(value, rel=1e-6, abs=1e-99)


@given(st.lists(st.integers(1, 10)))
def test_a_list_of_channels_goes_round(channels: list[int]) -> None:
    assert list(Channels().parse(Channels().show(channels))) == channels


def test_lists_of_channels_are_written_as_pymeasure_reads_them() -> None:
    assert Channels().show((1, 2, 3, 4, 6)) == "(@1:4,6)"
    assert Channels().parse("(@1,3:5)") == (1, 3, 4, 5)
    for wrong in ("1,2", "(@x)", "(@1"):
        with pytest.raises(ScpiError):
            Channels().parse(wrong)


# ---------------------------------------------------------------------- behaviour


def test_it_can_be_a_thermometer() -> None:
    assert lacking(KeithleyDmm6500, Thermometer) == []


async def test_one_question_brings_the_quantity_it_measures_and_says_why_there_is_no_other(bench: Meter) -> None:
    meter, wire = bench
    assert meter.provides == ()
    data = await meter.read()
    assert data["meter-resistance"]["value"] == pytest.approx(wire.world.resistance, abs=5e-3)
    assert wire.sent == [codec.READ + b"\n"]
    other = await meter.voltage.read()
    assert other.value is None
    assert "it measures FRESistance at present" in other.reason


@pytest.mark.parametrize(
    ("function", "signal", "expected"),
    [
        ("voltage", "voltage", 0.5), ("current", "current", 0.5 / 283.825), ("resistance", "resistance", 284.125),
        ("resistance_4w", "resistance", 283.825), ("temperature", "temperature", 25.0),
    ],
)  # fmt: skip
async def test_each_function_measures_what_is_at_the_contacts(function: str, signal: str, expected: float) -> None:
    world = World(voltage=0.5)
    async with wired(KeithleyDmm6500, world=world, options={"function": function}) as (meter, _wire):
        assert await getattr(meter, signal).get() == pytest.approx(expected, rel=2e-3)


async def test_a_thermometer_it_is_if_it_measures_temperatures() -> None:
    world = World(temperature=321.0, body=321.0)
    async with wired(KeithleyDmm6500, world=world, options={"function": "temperature"}) as (meter, _wire):
        assert meter.provides == (Thermometer,)
        assert await meter.temperature.get() == pytest.approx(321.0, abs=0.1)


async def test_what_others_left_behind_does_not_change_a_value() -> None:
    emulator = KeithleyDmm6500Emulator(World(voltage=1.0))
    for left in (":SENS:VOLT:REL 5;REL:STAT ON", ":CALC:VOLT:MATH:STAT ON", ":SENS:VOLT:UNIT DB", ":FORM REAL"):
        emulator.respond(left.encode())
    emulator.respond(b":SENS:VOLT:RANG 0.1;AVER ON;AVER:COUN 100;:SENS:COUN 9")
    async with wired(KeithleyDmm6500, name="meter", emulator=emulator) as (meter, _wire):
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await meter.voltage.get() == pytest.approx(1.0, abs=1e-4)
        assert loop.time() - began < 0.1


async def test_readings_take_their_time_and_are_placed_in_it() -> None:
    async with wired(KeithleyDmm6500, options={"nplc": 10.0}, line_frequency=50.0) as (meter, _wire):
        before = meter.context.timebase.now()
        reading = await meter.voltage.read()
        after = meter.context.timebase.now()
        assert (after - before) / 1e9 == pytest.approx(0.4, abs=0.02)  # the zero is measured too
        assert meter.voltage.aperture == 0.2
        assert abs(reading.time - (before + after) // 2) <= reading.bound <= after - before


async def test_readings_scatter_as_declared_and_less_if_measured_longer() -> None:
    for nplc, factor in ((1.0, 1.0), (9.0, 3.0)):
        world = World(voltage=1.0)
        async with wired(KeithleyDmm6500, world=world, options={"nplc": nplc, "range": 10.0}) as (meter, _wire):
            values = [await meter.voltage.read() for _ in range(300)]
            sigma = statistics.stdev(v.value for v in values if v.value is not None)
            assert sigma * factor == pytest.approx(values[0].uncertainty, rel=0.15)


async def test_a_value_beyond_its_range_is_bad() -> None:
    async with wired(KeithleyDmm6500, world=World(voltage=13.0), options={"range": 10.0}) as (meter, wire):
        reading = await meter.voltage.read()
        assert reading.value is None
        assert "over range" in reading.reason
        wire.world.voltage = 11.0
        assert await meter.voltage.get() == pytest.approx(11.0, rel=1e-4)


async def test_the_function_can_be_changed_and_one_that_is_none_is_not_sent(bench: Meter) -> None:
    meter, wire = bench
    await meter.function.set("temperature")
    assert await meter.function.get() == "temperature"
    assert await meter.temperature.get() == pytest.approx(25.0, abs=0.1)
    wire.forget()
    with pytest.raises(LimitError, match="nothing was sent"):
        meter.function.set("humidity")
    assert not wire.sent
    wire.emulator.respond(b':SENS:FUNC "VOLT:AC"')
    assert await meter.function.get() == "VOLT:AC"
    assert (await meter.voltage.read()).value is None


async def test_what_it_refuses_is_raised_with_its_code(bench: Meter) -> None:
    meter, wire = bench
    wire.emulator.respond(b":ERROR:OF:OTHERS")
    object.__setattr__(meter.options, "nplc", 99.0)  # as if the driver knew no better
    with pytest.raises(Refused, match=r"meter: .*:NPLC 99.*: refused with error -222"):
        await meter.function.set("voltage")
    assert any("-113" in str(entry) for entry in meter.context.journal.recent)


@pytest.mark.parametrize(
    "wrong",
    [{"nplc": 0.0}, {"nplc": 13.0}, {"range": -1.0}, {"range": 2000.0}, {"function": "temperature", "range": 1.0}],
)
def test_options_it_can_not_take_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Options(**wrong)


async def test_the_safe_state_touches_nothing(bench: Meter) -> None:
    meter, wire = bench
    with acting(Purpose.SAFE):
        await meter.make_safe()
    assert not wire.sent


async def test_another_instrument_or_language_is_named_with_the_remedy() -> None:
    with pytest.raises(WrongInstrument, match="speaks 'TSP'; set MENU"):
        async with wired(KeithleyDmm6500, language="TSP"):
            pass
    emulator = emulated()
    emulator._scpi.identity = "KEITHLEY INSTRUMENTS,MODEL 2450,04412345,1.7.12b"
    with pytest.raises(WrongInstrument, match="expected a Keithley DMM6500, found 'KEITHLEY.*2450"):
        async with wired(KeithleyDmm6500, emulator=emulator):
            pass


# ---------------------------------------------------------------------- the emulator, as others see it


def test_short_and_long_forms_in_any_case_as_pymeasure_qcodes_and_fixate_mix_them_are_understood() -> None:
    meter = emulated(
        "*LANG SCPI", "*RST", "FORM:DATA ASCII", ":SENS:VOLT:RANG:AUTO 0;:SENS:VOLT:RANG 10", "SENS:FUNC 'FRES'",
        "fres:AVER:TCON moving", ":SENSe1:FRESistance:NPLCycles 2.5", "SENS:FUNC 'RES'; :SENS:RES:RANGE 1000",
        ":DISP:VOLT:DC:DIG 5", "VOLT:DC:RANG:AUTO 0;UPP 5", "DISP:LIGH:STAT ON75", ":COUN 3",
        ":SENS:VOLT:DC:INP AUTO", "; :SENS:FREQ:THR:RANG:AUTO OFF; :SENS:FREQ:THR:RANG 7",
    )  # fmt: skip
    assert ask(meter, "SYST:ERR?") == '0,"No error;0;0 0"'
    assert ask(meter, ":SENS:FUNC?;:FRES:NPLC?;AVER:TCON?;:VOLT:RANG?;RANG:AUTO?") == "RES;2.5;MOV;10;0"
    assert ask(meter, "FREQ:VOLT:THR:RANG?;:DISP:VOLT:DIG?;:RES:RANG?") == "10;5;1000"


def test_bounds_answer_as_the_real_one_did_in_pymeasures_tests() -> None:
    meter = emulated()
    assert ask(meter, "VOLT:DC:APER? MIN;APER? MAX;APER? DEF") == "8.33e-06;0.25;0.0166667"
    assert ask(meter, "FREQ:VOLT:APER? MIN;APER? MAX;APER? DEF") == "0.002;0.273;0.2"
    meter.respond(b"VOLT:DC:RANG MIN")
    assert ask(meter, "VOLT:DC:RANG?;RANG? MAX;RANG? DEF") == "0.1;1000;1000"
    meter.respond(b"RES:APER 16e-3")
    assert ask(meter, "RES:APER?;NPLC?") == "0.016;0.96"


@pytest.mark.parametrize("function", ["VOLT:AC", "CURR:AC", "CAP", "CONT", "FREQ:VOLT", "PER:VOLT"])
def test_power_line_cycles_of_a_function_without_are_an_undefined_header_and_no_reply(function: str) -> None:
    # PyMeasure's docstring of `nplc`.
    meter = emulated(f':SENS:FUNC "{function}"')
    assert meter.respond(f"{function}:NPLC?".encode()) is None
    assert ask(meter, ":SYST:ERR?").startswith('-113,"Undefined header;1;2')


def test_one_autozero_leaves_it_off() -> None:
    meter = emulated('SENS:FUNC "RES"', "RES:AZER ON", "AZER:ONCE")
    assert ask(meter, "RES:AZER?;:VOLT:AZER?") == "0;1"


def test_a_relative_offset_a_unit_and_math_are_taken_into_account() -> None:
    meter = emulated()
    meter.world.voltage = 2.0
    meter.respond(b":SENS:VOLT:REL:ACQ")
    meter.respond(b":SENS:VOLT:REL:STAT 1")
    assert float(ask(meter, "READ?")) == pytest.approx(0.0, abs=1e-4)
    meter.respond(b"VOLT:REL:STAT 0;:CALC:VOLT:MATH:FORM MXB;MMF 3;MBF 1;STAT ON")
    assert float(ask(meter, "READ?")) == pytest.approx(7.0, abs=1e-3)
    meter.respond(b"*RST")
    meter.respond(b"VOLT:UNIT DB")
    assert float(ask(meter, "MEAS:VOLT:DC?")) == pytest.approx(6.02, abs=0.01)
    meter.respond(b"TEMP:UNIT KELV")
    assert ask(meter, "MEAS:TEMP? 'defbuffer1', READ, UNIT").split(",")[1] == "Kelvin"
    assert float(ask(meter, "FETC?")) == pytest.approx(298.15, abs=0.1)


def test_several_readings_go_to_a_buffer_and_come_with_what_was_asked_for() -> None:
    meter = emulated(":TRAC:MAKE 'mine', 100", ":SENS:COUN 5", ":SENS:FUNC 'FRES'")
    assert float(ask(meter, ":READ? 'mine'")) == pytest.approx(283.82, abs=0.02)
    assert ask(meter, ":TRAC:ACT? 'mine';ACT:STAR? 'mine';END? 'mine';:TRAC:POIN? 'mine'") == "5;1;5;100"
    fields = ask(meter, ":TRAC:DATA? 2, 3, 'mine', READ, UNIT, REL, TST, CHAN").split(",")
    assert len(fields) == 10
    assert (fields[1], fields[4]) == ("Ohm", "0")
    assert float(fields[7]) - float(fields[2]) == pytest.approx(2 / 60 + 1e-3)
    assert fields[3].startswith("06/15/2025 15:06:40.")
    assert 283 < float(ask(meter, ":TRAC:STAT:AVER? 'mine'")) < 284
    meter.respond(b":TRAC:CLE 'mine'")
    assert meter.respond(b":TRAC:DATA? 1, 1, 'mine'") is None
    assert ask(meter, "SYST:ERR?").startswith("-230")


def test_readings_come_as_binary_numbers_if_asked_for() -> None:
    meter = emulated(":FORM REAL", ":SENS:COUN 2", ":SENS:FUNC 'FRES'")
    reply = meter.respond(b"READ?") or b""
    assert reply[:2] == b"#0"
    assert struct.unpack("<d", reply[2:])[0] == pytest.approx(283.82, abs=0.02)
    meter.respond(b":FORM SRE;:FORM:BORD NORM")
    assert struct.unpack(">2f", (meter.respond(b":TRAC:DATA? 1, 2") or b"")[2:]) == pytest.approx(
        (283.82,) * 2, abs=0.1
    )
    assert ask(meter, "FORMAT:DATA?") == "SRE"


def test_it_digitizes_at_the_rate_it_is_told() -> None:
    # Headers as in QCoDeS's driver of the DMM7510.
    meter = emulated(':DIGitize:FUNCtion "VOLTage"', "SENSe:DIGitize:COUNt 1000", ":SENSe:DIGitize:voltage:SRATE 50000")
    meter.world.voltage = 0.5
    assert ask(meter, ":DIG:FUNC?;:SENS:FUNC?") == "VOLT;NONE"
    assert float(ask(meter, ":MEASure:DIGitize? 'defbuffer1'")) == pytest.approx(0.5, abs=1e-3)
    first, last = (float(ask(meter, f":TRAC:DATA? {n}, {n}, 'defbuffer1', REL")) for n in (1, 1000))
    assert last - first == pytest.approx(999 / 50000)
    meter.respond(b':SENS:FUNC "VOLT:DC"')
    assert ask(meter, ":DIG:FUNC?") == "NONE"
    assert meter.respond(b":READ:DIG?") is None


def test_a_trigger_model_of_blocks_runs_by_itself_as_fixate_uses_it() -> None:
    meter = emulated(
        "TRIG:LOAD 'EMPTY'", "TRIG:BLOC:MDIG 1, 'defbuffer1', 1", "TRIG:BLOC:DEL:CONS 2, 0.1",
        "TRIG:BLOC:BRAN:EVEN 3, COMM, 5", "TRIG:BLOC:BRAN:ALW 4, 1", "TRIG:BLOC:BUFF:CLE 5", "TRAC:CLE", "INIT",
    )  # fmt: skip
    live(meter, 1.0)
    assert 6 <= int(ask(meter, "TRAC:ACT?")) <= 8
    assert ask(meter, "TRIG:STAT?").startswith("RUNNING;RUNNING;")
    meter.respond(b"*TRG")
    live(meter, 0.5)
    assert ask(meter, "TRAC:ACT?;:TRIG:STAT?") == "0;IDLE;IDLE;0"


def test_whoever_waits_for_a_trigger_model_has_all_its_readings() -> None:
    meter = emulated("TRIG:LOAD 'SimpleLoop', 10, 0.05")
    assert meter.respond(b"INIT; *WAI") is None
    assert ask(meter, "TRAC:ACT?") == "10"
    assert meter.reply_delay > 10 * (0.05 + 1 / 60)
    meter.respond(b"*ESR?")
    meter.respond(b"TRIG:LOAD 'DurationLoop', 0.5, 0.05;:INIT;*OPC")
    assert int(ask(meter, "*ESR?")) & 1 == 0
    live(meter, 1.0)
    assert int(ask(meter, "*ESR?")) & 1 == 1
    meter.respond(b"TRIG:LOAD 'SimpleLoop', 1000, 1;:INIT")
    meter.respond(b"INIT")
    assert ask(meter, "SYST:ERR?").startswith("-213")
    meter.respond(b":ABOR")
    assert ask(meter, "TRIG:STAT?") == "IDLE;IDLE;0"


def test_a_buffer_that_is_gone_ends_a_trigger_model_with_an_error() -> None:
    meter = emulated("TRIG:LOAD 'SimpleLoop', 3, 0.1, 'nowhere'", "INIT")
    live(meter, 1.0)
    assert ask(meter, "SYST:ERR?;:TRIG:STAT?").startswith("-224")


def test_the_scan_of_pymeasure() -> None:
    meter = emulated(card=True, terminals="rear")
    assert ask(meter, ":SYST:CARD1:IDN?;VCH:STAR?;END?") == "2000,10-Chan Mux,0.0.0a,00000000;1;10"
    meter.respond(b':SENS:FUNC "VOLT:DC", (@1:10)')
    meter.respond(b':SENS:FUNC "FRES", (@3)')
    meter.respond(b":SENS:FRES:NPLC 2, (@3)")
    assert ask(meter, ":SENS:FUNC? (@3)") == "FRES"
    assert ask(meter, ":FRES:NPLC? (@2:3);:FRES:NPLC?") == "1,2;1"
    meter.respond(b":ROUT:SCAN:CRE (@1,2,3)")
    assert ask(meter, ":ROUT:SCAN:CRE?") == "(@1:3)"
    meter.respond(b":ROUT:SCAN:COUN:SCAN 2;:ROUT:SCAN:INT 1;:INIT;*WAI")
    values = [float(x) for x in ask(meter, f":TRAC:DATA? 1, {ask(meter, ':TRAC:ACT:END?')}").split(",")]
    assert len(values) == 6
    assert values[2::3] == pytest.approx([283.82] * 2, abs=0.02)
    assert ask(meter, ":TRAC:DATA? 1, 6, 'defbuffer1', CHAN") == "1,2,3,1,2,3"


def test_a_channel_that_is_closed_is_measured_with_its_own_settings() -> None:
    # qcodes-contrib-drivers, Keithley_2000_Scan.
    meter = emulated(card=True, terminals="rear")
    meter.respond(b"SENS:FUNC 'FRES', (@4)")
    meter.respond(b"ROUT:CLOS (@4)")
    assert float(ask(meter, "READ?")) == pytest.approx(283.82, abs=0.02)
    assert ask(meter, "ROUTe:TERMinals?;:ROUT:CLOS?;:ROUT:CLOS:STAT? (@3:4)") == "REAR;(@4);0,1"
    meter.respond(b"ROUT:OPEN:ALL")
    assert ask(meter, ":SENS:FUNC?") == "VOLT:DC"


def test_without_a_card_there_are_no_channels_but_it_can_pretend() -> None:
    meter = emulated()
    assert ask(meter, ":SYST:CARD1:IDN?") == "Empty Slot"
    meter.respond(b":ROUT:SCAN:CRE (@1:2)")
    assert ask(meter, "SYST:ERR?").startswith("-222")
    meter.respond(b":SYST:PCAR1 2000")
    assert ask(meter, ":SYST:CARD1:IDN?").startswith("2000,Pseudo")


@pytest.mark.real_clock
async def test_a_stranger_on_a_socket_gets_its_answers() -> None:
    world = World(voltage=0.25)
    port = await TcpPort(Bench(world).wire([KeithleyDmm6500Emulator(world)], "visa"), scheme="visa").open()
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    try:
        writer.write(b'*IDN?\n*LANG?\n:SENS:FUNC "VOLT:DC";:SENS:VOLT:NPLC 0.1\nVOLT:AC:NPLC?\nSYST:ERR?\nREAD?\n')
        replies = [await asyncio.wait_for(reader.readline(), 5) for _ in range(4)]
        assert replies[:2] == [b"KEITHLEY INSTRUMENTS,MODEL DMM6500,04412345,1.7.12b\n", b"SCPI\n"]
        assert replies[2].startswith(b"-113")
        assert float(replies[3]) == pytest.approx(0.25, abs=1e-4)
    finally:
        writer.close()
        await port.close()
