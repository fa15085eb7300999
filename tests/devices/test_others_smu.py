"""What other people's programs send to the emulated source-meters and the multimeter, byte by byte.

Each transcript names the program and its version; all were run against the emulators, these are the parts that
once failed.
"""

import asyncio
import struct

import pytest

from devices.keithley_2400.emulator import Keithley2400Emulator
from devices.keithley_2450.emulator import Keithley2450Emulator
from devices.keithley_2602b.emulator import Keithley2602BEmulator
from devices.keithley_dmm6500.emulator import KeithleyDmm6500Emulator
from devices.physics import World
from devices.yokogawa_gs200.emulator import YokogawaGS200Emulator
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort

OHM = World().resistance
"""Of the specimen, cold."""
Scpi = Keithley2400Emulator | Keithley2450Emulator | KeithleyDmm6500Emulator | YokogawaGS200Emulator


def say(instrument: Scpi | Keithley2602BEmulator, *messages: str) -> str:
    """Send messages, none of which may be refused; return the answers that came."""
    answers = []
    for message in messages:
        reply = instrument.respond(message.encode())
        answers.append(reply.decode() if reply is not None else "")
        assert instrument.errors == 0, message
        instrument.advance(0.0)
    return "|".join(answer for answer in answers if answer)


def live(instrument: Scpi | Keithley2602BEmulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        instrument.advance(0.01)


# ---------------------------------------------------------------------- Keithley 2400


def test_qcodes_contribs_2401_reaches_the_level_by_its_full_name() -> None:
    """qcodes-contrib-drivers 0.25, Keithley_2401: ``:LEV:IMM:AMPL`` (18-67)."""
    assert say(Keithley2400Emulator(World()), ":SOUR:CURR:LEV:IMM:AMPL 0.0010", ":SOUR:CURR:LEV:IMM:AMPL?") == (
        "1.000000E-03"
    )


def test_readings_in_binary_carry_the_same_numbers() -> None:
    """Programs that set ``:FORM:DATA REAL,32`` or ``SREal``, either byte order (18-48)."""
    meter = Keithley2400Emulator(World())
    say(meter, ":SOUR:VOLT 1", ":OUTP ON", ":FORM:ELEM VOLT", ":FORM:DATA REAL,32")
    reply = meter.respond(b":READ?")
    assert reply is not None
    assert reply[:2] == b"#0"
    assert struct.unpack(">f", reply[2:]) == (pytest.approx(1.0, abs=1e-3),)
    say(meter, ":FORM:BORD SWAP")
    reply = meter.respond(b":FORM?;:READ?")
    assert reply is not None
    assert reply[:6] == b"REAL;#"
    assert struct.unpack("<f", reply[7:]) == (pytest.approx(1.0, abs=1e-3),)


def test_an_endless_arm_count_measures_until_it_is_aborted() -> None:
    meter = Keithley2400Emulator(World())
    say(meter, ":SENS:CURR:NPLC 0.01", ":SYST:AZER OFF", ":SOUR:DEL 0", ":OUTP ON", ":TRAC:POIN 5;FEED:CONT NEXT")
    assert say(meter, ":ARM:COUN INF", ":INIT", ":STAT:OPER:COND?") == "0"
    live(meter, 0.5)
    assert say(meter, ":TRAC:POIN:ACT?") == "5"
    assert say(meter, ":ABOR", ":STAT:OPER:COND?") == "1024"


def test_power_is_worked_out_and_limits_are_tested() -> None:
    """Tables 18-1 and 18-2: the built-in expression "POWER", limit 1 on the compliance and 2 on what is fed."""
    meter = Keithley2400Emulator(World())
    say(meter, ":SENS:FUNC:ALL", ":SENS:CURR:PROT 0.1;:SOUR:VOLT 2;:OUTP ON", ':CALC:MATH:NAME "POWER";:CALC:STAT ON')
    say(meter, ":READ?")
    assert float(say(meter, ":CALC:DATA?")) == pytest.approx(4 / OHM, rel=0.01)
    say(meter, ":CALC2:FEED VOLT;:CALC2:LIM2:UPP 1.5;LOW 0;STAT ON;:CALC2:LIM1:STAT ON;COMP:FAIL IN")
    assert say(meter, ":CALC2:LIM2:FAIL?;:CALC2:LIM1:FAIL?") == "1;0"


def test_a_list_grows_and_a_span_moves_start_and_stop() -> None:
    meter = Keithley2400Emulator(World())
    assert say(meter, ":SOUR:LIST:VOLT 1,2,3", ":SOUR:LIST:VOLT:APP 4,5", ":SOUR:LIST:VOLT:POIN?") == "5"
    say(meter, ":SOUR:VOLT:STAR 0;STOP 4", ":SOUR:VOLT:CENT 5", ":SOUR:VOLT:SPAN 2")
    assert say(meter, ":SOUR:VOLT:STAR?;STOP?") == "4.000000E+00;6.000000E+00"


# ---------------------------------------------------------------------- Keithley 2450


def test_keithleys_low_resistance_example_runs_through() -> None:
    """Keithley's public example "Measuring_Low_Resistance_Devices_SCPI.py", its messages in their order."""
    meter = Keithley2450Emulator(World())
    say(
        meter, "*RST", 'TRIG:LOAD "SimpleLoop", 100', 'SENS:FUNC "RES"', "SENS:RES:RANG:AUTO ON", "SENS:RES:OCOM ON",
        "SENS:RES:RSEN ON", "DISP:SCR SWIPE_GRAPh", "OUTP ON", "INIT", "*WAI",
    )  # fmt: skip
    found = say(meter, 'TRAC:DATA? 1, 50, "defbuffer1", READ, REL', 'TRAC:DATA? 51, 100, "defbuffer1", READ, REL')
    assert found.replace("|", ",").count(",") == 199
    assert say(meter, "OUTP OFF", "OUTP?") == "0"


def test_keithleys_transistor_example_steps_through_its_configuration_list() -> None:
    """Keithley's "Measuring_IV_Characteristics_of_FETs_SCPI.py", without the second instrument it waits for."""
    world = World()
    meter = Keithley2450Emulator(world)
    say(
        meter, "*RST", "SENS:CURR:RANG:AUTO ON", "SOUR:VOLT:ILIM 0.1", 'SOUR:CONF:LIST:CRE "stepVals"',
        "DIG:LINE1:MODE TRIG, OUT", "DIG:LINE2:MODE TRIG, IN", "TRIG:DIG1:OUT:STIM NOT1", "TRIG:DIG2:IN:EDGE RIS",
    )  # fmt: skip
    for volts in (1, 2, 3):
        say(meter, f"SOUR:VOLT {volts}", 'SOUR:CONF:LIST:STORE "stepVals"')
    say(
        meter, 'TRIG:BLOC:CONF:RECALL 1, "stepVals"', "TRIG:BLOC:SOUR:STAT 2, ON", "TRIG:BLOC:DEL:CONS 3, 0.01",
        "TRIG:BLOC:MEAS 4", "TRIG:BLOC:NOT 5, 1", 'TRIG:BLOC:CONF:NEXT 6, "stepVals"', "TRIG:BLOC:BRAN:COUN 7, 3, 3",
        "TRIG:BLOC:SOUR:STAT 8, OFF", "INIT", "*WAI",
    )  # fmt: skip
    readings = [float(text) for text in say(meter, 'TRAC:DATA? 1, 3, "defbuffer1", READ').split(",")]
    assert readings == pytest.approx([1 / OHM, 2 / OHM, 3 / OHM], rel=1e-3)
    assert say(meter, ':OUTP?;:SOUR:CONF:LIST:SIZE? "stepVals"') == "0;3"


def test_a_sweep_takes_its_time_and_says_that_it_runs() -> None:
    world = World()
    meter = Keithley2450Emulator(world)
    say(meter, ":SOUR:VOLT:ILIM 0.1", ":SOUR:SWE:VOLT:LIN 0, 1, 11, 0.1", ":INIT")
    live(meter, 0.55)
    assert 0.2 <= world.voltage <= 0.5
    assert say(meter, ":TRIG:STAT?").startswith("RUNNING")
    live(meter, 2.0)
    assert say(meter, ":TRIG:STAT?;:TRAC:ACT?;:OUTP?").endswith(";11;0")


@pytest.mark.parametrize(
    ("sweep", "levels"),
    [
        (":SOUR:SWE:VOLT:LOG 0.1, 10, 3", [0.1, 1.0, 10.0]),
        (":SOUR:SWE:VOLT:LIN:STEP 0, 1, 0.5", [0.0, 0.5, 1.0]),
        (":SOUR:LIST:VOLT 3, 1, 2;:SOUR:SWE:VOLT:LIST 1, 0.01", [3.0, 1.0, 2.0]),
    ],
)
def test_sweeps_go_by_decades_steps_and_lists(sweep: str, levels: list[float]) -> None:
    meter = Keithley2450Emulator(World())
    say(meter, ":SOUR:VOLT:ILIM 0.1", sweep, ":INIT", "*WAI")
    found = say(meter, ':TRAC:DATA? 1, 3, "defbuffer1", SOUR').split(",")
    assert [float(text) for text in found] == pytest.approx(levels, abs=1e-3)


def test_opc_waits_for_the_end_of_a_sweep() -> None:
    meter = Keithley2450Emulator(World())
    say(meter, ":SOUR:SWE:VOLT:LIN 0, 1, 6, 0.1", ":INIT", "*CLS", "*OPC")
    assert say(meter, "*ESR?") == "0"
    live(meter, 2.0)
    assert say(meter, "*ESR?") == "1"


def test_set_to_the_older_command_set_it_is_a_2400() -> None:
    """labmcp-keithley-smu 0.1.2 and other programs for a 2400, at a 2450 set to ``SCPI2400``."""
    world = World()
    meter = Keithley2450Emulator(world, language="SCPI2400")
    assert say(meter, "*IDN?", "*LANG?") == "KEITHLEY INSTRUMENTS,MODEL 2450,04412345,1.7.12b|SCPI2400"
    say(meter, ":SYST:RSEN ON", ':SENS:FUNC "VOLT","CURR"', ":SENS:FUNC:CONC ON", ":FORM:ELEM VOLT,CURR,STAT")
    say(meter, ":SENS:CURR:PROT 0.01", ":SOUR:VOLT 1", ":OUTP ON")
    assert world.voltage == 1.0
    volts, amperes, _ = say(meter, ":READ?").split(",")
    assert float(volts) / float(amperes) == pytest.approx(OHM, rel=0.01)


# ---------------------------------------------------------------------- Keithley DMM6500


def test_dcps_labels_and_delays_channels() -> None:
    """dcps 0.9.3, Keithley6500: labels, delays and the free-running trigger of a meter with a scanner card."""
    meter = KeithleyDmm6500Emulator(World(), card=True)
    assert say(meter, 'ROUT:LAB "gate", (@1)', "ROUT:LAB? (@1)", "ROUT:DEL 0.25, (@1:2)", "ROUT:DEL? (@2)") == (
        '"gate"|0.25'
    )
    assert say(meter, "TRIG:CONT REST", "TRIG:CONT?") == "REST"


def test_pydmm6500_digitises_into_a_buffer_of_its_own() -> None:
    """pydmm6500 2025.0.5, ``digitize``: its messages, lower case and without blanks."""
    meter = KeithleyDmm6500Emulator(World())
    say(
        meter, "*rst", ':sense:digitize:function "voltage"', ":sense:digitize:voltage:srate 1000",
        ':trace:make "scope", 100, standard', ":abort", ':trigger:load "Empty"',
        ':trigger:block:buffer:clear 1, "scope"', ':trigger:block:mdigitize 2, "scope", 20', ":initiate",
    )  # fmt: skip
    live(meter, 0.1)
    assert say(meter, ":trigger:state?").startswith("IDLE")
    assert say(meter, ':trace:data? 1, 20, "scope", seconds, fractional, reading').count(",") == 59
    assert say(meter, ":TRACe:FILL:MODE ONCE, 'scope'", ":TRACe:FILL:MODE? 'scope'") == "ONCE"  # QCoDeS's DMM7510


# ---------------------------------------------------------------------- Yokogawa GS200


def test_stored_measurements_are_read_as_a_table() -> None:
    """IM GS210-01EN, 13-19: rows with CR LF between them, or one column."""
    source = YokogawaGS200Emulator(World())
    say(source, ":SENS:ZERO:EXEC", ":SENS:NULL:STAT OFF", ":SENS ON", ":SOUR:LEV:AUTO 2", ":OUTP ON", ":SENS:INT 0.1")
    assert int(say(source, ":TRAC:POIN 3", ":TRAC ON", ":STAT:COND?")) & 4 == 0
    live(source, 1.0)
    assert say(source, ":TRAC:ACT?") == "3"
    assert int(say(source, ":STAT:COND?")) & 4
    table = say(source, ":TRAC:DATA:READ?").split("\r\n")
    assert table[0] == "TM,SF,MF,SL,ML"
    assert [row.split(",")[1:4] for row in table[1:]] == [["VOLT", "CURR", "+2.00000E+0"]] * 3
    found = [float(text) for text in say(source, ":TRAC:DATA:READ? ML").split(",")]
    assert found == pytest.approx([2 / OHM] * 3, rel=0.02)


# ---------------------------------------------------------------------- Keithley 2602B


def test_keithleys_tutorials_of_digital_lines_and_setups_run_through() -> None:
    """Keithley's public tutorials DigitalIO_*.tsp, Save_Setups_*.tsp and bit.tsp, shortened."""
    smu = Keithley2602BEmulator(World())
    assert say(smu, "digio.writeport(16383) digio.writebit(1, 0) print(digio.readport(), digio.readbit(1))") == (
        "1.63820e+04\t0.00000e+00"
    )
    assert say(smu, "digio.writeprotect = 2 digio.writeport(0) print(digio.readport(), digio.writeprotect)") == (
        "2.00000e+00\t2.00000e+00"
    )
    assert say(
        smu, "digio.trigger[2].clear() digio.trigger[2].mode = digio.TRIG_FALLING print(digio.trigger[2].wait(0.5))"
    ) == "false"  # fmt: skip
    say(smu, "smua.source.limiti = 0.005 smua.source.output = smua.OUTPUT_ON setup.save(1) reset()")
    assert say(smu, "setup.recall(1) print(smua.source.limiti, smua.source.output)") == "5.00000e-03\t0.00000e+00"
    assert say(smu, "print(bit.getfield(109, 3, 2), bit.setfield(15, 2, 3, 5), tsplink.reset())") == (
        "3.00000e+00\t1.10000e+01\t1.00000e+00"
    )


# ---------------------------------------------------------------------- on a real wire


@pytest.mark.real_clock
async def test_a_binary_reading_that_holds_a_line_feed_crosses_tcp_whole() -> None:
    world = World()
    meter = Keithley2400Emulator(world)
    port = await TcpPort(Bench(world).wire([meter], "visa"), scheme="visa").open()
    reader, writer = await asyncio.open_connection(port.host, port.port)
    try:
        writer.write(b":FORM:DATA SRE\r\n:FORM:ELEM TIME,STAT\r\n:TRIG:COUN 20;:OUTP ON\n:READ?\r\n")
        reply = await asyncio.wait_for(reader.readexactly(2 + 20 * 2 * 4 + 1), 10)
        assert (reply[:2], reply[-1:]) == (b"#0", b"\n")
        times = struct.unpack(">40f", reply[2:-1])[::2]
        assert list(times) == sorted(times)
    finally:
        writer.close()
        await port.close()
