"""The 2450 and the DMM6500 in TSP: what their manuals' examples print, and that both languages are one instrument.

Sources: examples in the descriptions of the commands that Tektronix publishes for its editor (commands_2450.json,
commands_DMM6500.json of tsp-toolkit-json-to-lua), by command; Keithley's public examples, by file.
"""

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.keithley_2450.emulator import Keithley2450Emulator
from devices.keithley_dmm6500.emulator import KeithleyDmm6500Emulator
from devices.physics import World
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort

OHM = World().resistance
"""Of the specimen, cold."""
Meter = Keithley2450Emulator | KeithleyDmm6500Emulator


def source() -> Keithley2450Emulator:
    return Keithley2450Emulator(World(), language="TSP")


def meter(card: bool = False) -> KeithleyDmm6500Emulator:
    return KeithleyDmm6500Emulator(World(), language="TSP", card=card)


def say(instrument: Meter, *lines: str) -> str:
    """Send lines, none of which may be refused; return what was printed."""
    found = []
    for line in lines:
        reply = instrument.respond(line.encode())
        assert instrument.errors == 0, (line, instrument.respond(b"print(eventlog.next())"))
        found += [reply.decode()] if reply is not None else []
    return "|".join(found)


def refused(instrument: Meter, line: str) -> int:
    """Send a line that must be refused; return the number of the event."""
    assert instrument.respond(line.encode()) is None
    assert instrument.errors == 1, line
    reply = instrument.respond(b"print(eventlog.next())")
    assert reply is not None
    return int(reply.split(b"\t")[0])


# ---------------------------------------------------------------------- the 2450


def test_a_voltage_is_sourced_and_its_current_measured() -> None:
    smu = source()
    say(smu, "reset()", "smu.source.func = smu.FUNC_DC_VOLTAGE", "smu.source.ilimit.level = 0.1")
    say(smu, "smu.measure.func = smu.FUNC_DC_CURRENT", "smu.source.level = 2", "smu.source.output = smu.ON")
    assert smu.world.voltage == 2.0
    assert float(say(smu, "print(smu.measure.read())")) == pytest.approx(2 / OHM, rel=1e-3)
    assert say(smu, "print(smu.source.output, smu.source.ilimit.tripped, smu.source.vlimit.tripped)") == (
        "smu.ON\tsmu.OFF\tnil"
    )
    say(smu, "smu.source.ilimit.level = 1e-3")
    assert say(smu, "print(smu.source.ilimit.tripped)") == "smu.ON"
    say(smu, "smu.reset()")
    assert smu.world.voltage == 0.0
    assert say(smu, "print(smu.source.level, smu.source.output, smu.source.ilimit.level)") == "0\tsmu.OFF\t0.000105"


def test_settings_belong_to_the_function_in_use() -> None:
    """The example of ``smu.measure.func``."""
    smu = source()
    assert say(
        smu, "smu.measure.func = smu.FUNC_DC_VOLTAGE", "smu.measure.math.format = smu.MATH_PERCENT",
        "smu.measure.func = smu.FUNC_RESISTANCE", "smu.measure.math.format = smu.MATH_RECIPROCAL",
        "print(smu.measure.math.format)", "smu.measure.func = smu.FUNC_DC_VOLTAGE", "print(smu.measure.math.format)",
    ) == "smu.MATH_RECIPROCAL|smu.MATH_PERCENT"  # fmt: skip


def test_attributes_of_a_function_that_is_not_in_use_are_reached_by_name() -> None:
    """The examples of ``getattribute`` and ``setattribute``."""
    smu = source()
    assert say(
        smu, "print(smu.measure.getattribute(smu.FUNC_DC_VOLTAGE, smu.ATTR_MEAS_RANGE))",
        "print(smu.measure.getattribute(smu.FUNC_DC_VOLTAGE, smu.ATTR_MEAS_NPLC))",
        "smu.source.setattribute(smu.FUNC_DC_CURRENT, smu.ATTR_SRC_DELAY, 0.35)",
        "smu.source.setattribute(smu.FUNC_DC_CURRENT, smu.ATTR_SRC_LEVEL, 0.035)",
        "smu.source.setattribute(smu.FUNC_DC_CURRENT, smu.ATTR_SRC_LIMIT_LEVEL, 3)",
        "smu.source.func = smu.FUNC_DC_CURRENT", "print(smu.source.delay, smu.source.level, smu.source.vlimit.level)",
    ) == "0.02|1|0.35\t0.035\t3"  # fmt: skip


def test_readings_stand_in_a_buffer_with_their_units_and_times() -> None:
    """The examples of ``printbuffer`` and ``smu.source.readback``."""
    smu = source()
    say(
        smu, "reset()", "testData = buffer.make(200)", "format.data = format.ASCII", "format.asciiprecision = 6",
        "smu.source.level = 1", "smu.source.ilimit.level = 0.1", "smu.source.output = smu.ON",
        'trigger.model.load("SimpleLoop", 6, 0, testData)',
        "trigger.model.initiate()", "waitcomplete()",
    )  # fmt: skip
    fields = say(
        smu, "printbuffer(1, testData.n, testData.readings, testData.units, testData.relativetimestamps)"
    ).split(", ")
    assert len(fields) == 18
    assert set(fields[1::3]) == {"Amp DC"}
    assert all(re.fullmatch(r"\d\.\d{5}e[-+]\d\d", field) for field in fields[0::3] + fields[2::3])
    times = [float(field) for field in fields[2::3]]
    assert times[0] == 0
    assert times == sorted(times)
    assert say(smu, "print(testData.n, defbuffer1.n, testData.capacity)") == "6.00000e+00\t0.00000e+00\t2.00000e+02"
    say(smu, "format.asciiprecision = 0")
    assert say(smu, "stats = buffer.getstats(testData) print(stats.n, stats.min.reading < stats.max.reading)") == (
        "6\ttrue"
    )
    assert float(say(smu, "print(testData.sourcevalues[6])")) == pytest.approx(1.0, abs=1e-3)
    say(smu, "testData.clear()")
    assert say(smu, "print(testData.n)") == "0"


def test_what_a_buffer_does_not_have_is_printed_as_no_number_and_noted() -> None:
    """``printbuffer``: 9.91e37 for each index outside, and an event."""
    smu = source()
    say(smu, "smu.measure.read()")
    reply = smu.respond(b"printbuffer(1, 3, defbuffer1)")
    assert reply is not None
    assert reply.split(b", ")[1:] == [b"9.91e+37", b"9.91e+37"]
    assert smu.errors == 1


def test_a_linear_sweep_visits_every_level() -> None:
    """The example of ``smu.source.sweeplinear``."""
    smu = source()
    say(
        smu, "reset()", "smu.source.func = smu.FUNC_DC_VOLTAGE", "smu.source.range = 20", "smu.source.ilimit.level = 1",
        'smu.source.sweeplinear("VoltLinSweep", 0, 10, 21, 1e-3, 1, smu.RANGE_FIXED)',
        "smu.measure.func = smu.FUNC_DC_CURRENT", "trigger.model.initiate()", "waitcomplete()",
    )  # fmt: skip
    values = [float(x) for x in say(smu, "printbuffer(1, defbuffer1.n, defbuffer1.sourcevalues)").split(", ")]
    assert values == pytest.approx([n / 2 for n in range(21)], abs=2e-3)


def test_a_trigger_model_of_blocks_turns_the_output_on_and_off() -> None:
    """The example of ``smu.source.userdelay[N]``, with a delay of its own."""
    smu = source()
    say(
        smu, "trigger.model.setblock(1, trigger.BLOCK_SOURCE_OUTPUT, smu.ON)",
        "trigger.model.setblock(2, trigger.BLOCK_DELAY_CONSTANT, 0.01)",
        "trigger.model.setblock(3, trigger.BLOCK_MEASURE_DIGITIZE)",
        "trigger.model.setblock(4, trigger.BLOCK_SOURCE_OUTPUT, smu.OFF)",
        "trigger.model.setblock(5, trigger.BLOCK_BRANCH_COUNTER, 10, 1)", "trigger.model.initiate()",
    )  # fmt: skip
    smu.advance(0.06)
    assert say(smu, "print(trigger.model.state())").startswith("trigger.STATE_RUNNING\ttrigger.STATE_RUNNING\t")
    say(smu, "waitcomplete()")
    assert say(smu, "print(defbuffer1.n, smu.source.output)") == "10\tsmu.OFF"


def test_a_timer_paces_a_ramp() -> None:
    """Keithley's "Controlled_Ramp" for a 2450, shortened: a notification starts the timer that the blocks wait for."""
    smu = source()
    say(
        smu, 'smu.source.configlist.create("R")',
        'for n = 1, 5 do smu.source.level = n smu.source.configlist.store("R") end', "smu.measure.nplc = 0.01",
        "trigger.timer[1].reset()", "trigger.timer[1].delay = 0.1", "trigger.timer[1].count = 5",
        "trigger.timer[1].start.stimulus = trigger.EVENT_NOTIFY1", "trigger.timer[1].enable = 1",
        'trigger.model.load("Empty")', "trigger.model.setblock(1, trigger.BLOCK_BUFFER_CLEAR)",
        "trigger.model.setblock(2, trigger.BLOCK_SOURCE_OUTPUT, smu.ON)",
        "trigger.model.setblock(3, trigger.BLOCK_NOTIFY, trigger.EVENT_NOTIFY1)",
        "trigger.model.setblock(4, trigger.BLOCK_WAIT, trigger.EVENT_TIMER1)",
        'trigger.model.setblock(5, trigger.BLOCK_CONFIG_NEXT, "R")',
        "trigger.model.setblock(6, trigger.BLOCK_MEASURE)",
        "trigger.model.setblock(7, trigger.BLOCK_BRANCH_COUNTER, 5, 4)",
        "trigger.model.setblock(8, trigger.BLOCK_SOURCE_OUTPUT, smu.OFF)", "trigger.model.initiate()",
    )  # fmt: skip
    smu.respond(b"*TRG")  # not what it waits for
    smu.advance(0.05)
    assert say(smu, "print(trigger.model.state())") == "trigger.STATE_WAITING\ttrigger.STATE_WAITING\t4"
    times = [
        float(x) for x in say(smu, "waitcomplete()", "printbuffer(1, 5, defbuffer1.relativetimestamps)").split(", ")
    ]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)
    assert say(smu, "print(smu.source.output)") == "smu.OFF"


def test_a_trigger_model_without_end_keeps_the_instrument_silent_until_it_is_aborted() -> None:
    smu = source()
    say(
        smu, "trigger.model.setblock(1, trigger.BLOCK_NOP)",
        "trigger.model.setblock(2, trigger.BLOCK_BRANCH_ALWAYS, 1)", "trigger.model.initiate()",
    )  # fmt: skip
    assert smu.respond(b"waitcomplete() print(1)") is None
    assert smu.respond(b"print(2)") is None
    smu.respond(b"abort")
    assert say(smu, "print(3)") == "3"


def test_blocks_take_the_place_of_a_sweep_that_was_prepared() -> None:
    smu = source()
    say(smu, 'smu.source.sweeplinear("s", 0, 10, 5)', 'trigger.model.load("SimpleLoop", 2)', "trigger.model.initiate()")
    assert say(smu, "waitcomplete() print(defbuffer1.n, smu.source.level)") == "2\t0"


def test_a_configuration_list_is_kept_and_recalled() -> None:
    """The example of ``smu.source.configlist.create``."""
    smu = source()
    assert say(
        smu, 'smu.source.configlist.create("MyScrList")', "print(smu.source.configlist.catalog())",
        "print(smu.source.configlist.catalog())", "smu.source.level = 1", 'smu.source.configlist.store("MyScrList")',
        "smu.source.level = 2", 'smu.source.configlist.store("MyScrList")',
        'print(smu.source.configlist.size("MyScrList"))', 'smu.source.configlist.recall("MyScrList")',
        "print(smu.source.level)",
    ) == "MyScrList|nil|2|1"  # fmt: skip


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("smu.source.level = 500", -222),
        ("smu.source.level = 'high'", -104),
        ("smu.source.output = smu.FUNC_DC_VOLTAGE", -104),
        ("smu.source.func = smu.FUNC_RESISTANCE", -104),
        ("smu.measure.read(7)", -104),  # no buffer
        ("smu.source.level = 0/0", -104),
        (":SOUR:VOLT 1", -285),
        ("smu.source.nothing.level = 1", -286),
        ("trigger.model.initiate() trigger.model.setblock(99, trigger.BLOCK_NOP)", -222),
    ],
)
def test_what_is_refused_changes_nothing_and_is_in_the_event_log(line: str, event: int) -> None:
    smu = source()
    say(smu, "smu.source.level = 1")
    assert refused(smu, line) == event
    assert say(smu, "print(smu.source.level, smu.source.output, smu.source.func)") == "1\tsmu.OFF\tsmu.FUNC_DC_VOLTAGE"
    assert say(smu, "print(eventlog.next())") == "0\tNo error\t0\t0\t0\t0"


def test_events_are_told_in_their_order_counted_and_cleared() -> None:
    smu = source()
    for line in (b"smu.source.level = 500", b"smu.source.func = 7", b"*CLSS"):
        smu.respond(line)
    assert smu.respond(b"print(eventlog.getcount(), eventlog.getcount(eventlog.SEV_WARN))") == b"3\t0"
    assert smu.respond(b"print(status.condition, status.standard.event)") is not None
    assert (smu.respond(b"print(eventlog.next())") or b"").startswith(b"-222\t")
    assert (smu.respond(b"print(errorqueue.next())") or b"").startswith(b"-104\t")
    smu.respond(b"eventlog.clear()")
    assert smu.errors == 0


def test_a_node_gives_access_to_what_the_instrument_has() -> None:
    """PyExpLabSys, keithley_2450: all through ``localnode.`` or ``node[1].``, readings with their timestamps."""
    smu = source()
    assert say(
        smu, "localnode.smu.source.func = localnode.smu.FUNC_DC_VOLTAGE", "localnode.smu.source.level=1.0",
        "print(localnode.smu.source.level)", "node[1].smu.source.output = smu.ON", "print(mybuf == nil)",
        "mybuf = buffer.make(100, buffer.STYLE_FULL)", "mybuf.fillmode = buffer.FILL_CONTINUOUS",
        "localnode.defbuffer1.clear()", "localnode.settime(2026, 11, 26, 10, 54, 0)",
    ) == "1|true"  # fmt: skip
    say(smu, "print(localnode.smu.measure.read(mybuf))", "a=mybuf; n = a.endindex")
    fields = say(smu, "printbuffer(n, n, a, a.sourcevalues, a.timestamps)").split(", ")
    assert re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\.\d{9}", fields[2])
    assert say(smu, "print(localnode.model, localnode.nothing)") == "2450\tnil"
    assert (
        say(smu, 'script.delete("x")', "loadscript x", 'print("hello")', "endscript", "x.save()", "x.run()") == "hello"
    )


# ---------------------------------------------------------------------- the multimeter


def test_the_multimeter_measures_what_it_is_told() -> None:
    dmm = meter()
    say(dmm, "reset()", "dmm.measure.func = dmm.FUNC_4W_RESISTANCE", "dmm.measure.nplc = 2")
    assert float(say(dmm, "print(dmm.measure.read())")) == pytest.approx(OHM, rel=1e-4)
    assert say(dmm, "print(dmm.measure.func, dmm.measure.nplc, dmm.measure.autorange)") == (
        "dmm.FUNC_4W_RESISTANCE\t2\tdmm.ON"
    )
    say(dmm, "dmm.measure.range = 700")
    assert say(dmm, "print(dmm.measure.range, dmm.measure.autorange)") == "1000\tdmm.OFF"
    say(dmm, "dmm.measure.func = dmm.FUNC_TEMPERATURE", "dmm.measure.unit = dmm.UNIT_KELVIN")
    say(dmm, "dmm.measure.transducer = dmm.TRANS_FOURRTD", "dmm.measure.fourrtd = dmm.RTD_PT385")
    assert float(say(dmm, "print(dmm.measure.read())")) == pytest.approx(298.15, abs=0.1)
    assert refused(dmm, "dmm.measure.detectorbandwidth = dmm.DETECTBW_3HZ") == -221  # not of this function


def test_the_multimeter_digitizes() -> None:
    dmm = meter()
    say(
        dmm, "dmm.digitize.func = dmm.FUNC_DIGITIZE_VOLTAGE", "dmm.digitize.range = 10",
        "dmm.digitize.samplerate = 1000", "dmm.digitize.count = 20", "dmm.digitize.read()",
    )  # fmt: skip
    assert say(dmm, "print(defbuffer1.n, dmm.measure.func, defbuffer1.units[1])") == "20\tdmm.FUNC_NONE\tVolt DC"
    assert float(say(dmm, "print(defbuffer1.relativetimestamps[20])")) == pytest.approx(0.019)


def test_channels_are_set_up_and_scanned() -> None:
    """Keithley's "DAQ6510_Scan_Temperature_Using_Thermocouples_TSP.py", on the ten channels of this one's card."""
    dmm = meter(card=True)
    say(
        dmm, "reset()",
        'channel.setdmm("1:3", dmm.ATTR_MEAS_FUNCTION, dmm.FUNC_TEMPERATURE, dmm.ATTR_MEAS_TRANSDUCER, '
        "dmm.TRANS_THERMOCOUPLE, dmm.ATTR_MEAS_THERMOCOUPLE, dmm.THERMOCOUPLE_J)",
        'scan.create("1:3")', "scan.scancount = 2", "scan.scaninterval = 1.0", "defbuffer1.clear()",
        "trigger.model.initiate()", "waitcomplete()",
    )  # fmt: skip
    assert say(dmm, "print(defbuffer1.n, scan.stepcount)") == "6\t3"
    values = [float(x) for x in say(dmm, "printbuffer(1, 6, defbuffer1)").split(", ")]
    assert values == pytest.approx([25.0] * 6, abs=0.2)
    say(dmm, 'channel.close("2")')
    assert say(dmm, "print(channel.getclose())") == "2"
    assert refused(dmm, 'channel.close("11")') == -222


# ---------------------------------------------------------------------- both


@pytest.mark.parametrize("make", [source, meter])
def test_a_constant_is_itself_and_prints_as_its_name(make: type[Meter]) -> None:
    root = "smu" if make is source else "dmm"
    instrument = make()  # type: ignore[call-arg]
    assert say(
        instrument, f"print({root}.ON == {root}.ON, {root}.ON == {root}.OFF, tostring({root}.ON))",
        f'print("it is " .. {root}.ON)', f"print({root}.NO_SUCH_THING)",
        f"if {root}.measure.autorange == {root}.ON then print(1) else print(2) end",
    ) == f"true\tfalse\t{root}.ON|it is {root}.ON|nil|1"  # fmt: skip


def test_operations_on_bits_bind_as_the_manual_says() -> None:
    """2450-901-01 Rev. B, pp. 7-15 and 7-17: shifts as products, the others as sums; ``!=`` and ``!``."""
    smu = source()
    assert say(smu, "print(1 | 6 & 3, 2 + 1 << 3, 5 ^^ 3, 0xFF >> 4, 0b101, 2 ^ 3 | 1)") == "3\t10\t6\t15\t5\t9"
    assert (
        say(smu, "print(1 != 2, !true, !nil, smu.ON != smu.OFF)", "status.request_enable = status.MSB | status.OSB")
        == "true\tfalse\ttrue\ttrue"
    )
    assert say(smu, "print(status.request_enable)") == "129"
    assert refused(smu, "print(1 | smu.ON)") == -286


def test_nobody_at_the_display_is_no_answer() -> None:
    """Keithley's examples ask for numbers there: ``display.input.number``."""
    smu = source()
    assert say(smu, 'print(display.input.number("How many?", display.NFORMAT_INTEGER, 1))', "display.x.y.z = 1") == ""
    assert say(smu, 'n = display.input.number("How many?") print(n or 5)') == "5"


@pytest.mark.parametrize("make", [source, meter])
def test_scripts_wait_measure_and_take_their_time(make: type[Meter]) -> None:
    root = "smu" if make is source else "dmm"
    instrument = make()  # type: ignore[call-arg]
    say(
        instrument, "loadscript loop", "timer.cleartime()", "for i = 1, 5 do", f"{root}.measure.read()", "delay(0.1)",
        "end", "print(timer.gettime() > 0.5, timer.gettime() < 1)", "endscript",
    )  # fmt: skip
    assert say(instrument, "loop()") == "true\ttrue"
    assert 0.5 < instrument.reply_delay < 1


@settings(max_examples=15)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_noise_switches_nothing_on(noise: list[bytes]) -> None:
    smu = source()
    for piece in noise:
        for line in smu.framing("tcp").feed(piece + b"\n"):
            smu.respond(line)
    smu.respond(b"abort")
    smu.respond(b"eventlog.clear()")
    assert smu.world.voltage == 0.0


@pytest.mark.real_clock
async def test_keithleys_socket_driver_has_its_conversation() -> None:
    """DMM6500_Sockets_Driver.py: everything with LF, script lines by ``loadscript``, answers by ``print``."""
    world = World()
    port = await TcpPort(Bench(world).wire([meter()], "tcp")).open()
    reader, writer = await asyncio.open_connection(port.host, port.port)

    async def ask(line: str) -> str:
        writer.write(f"{line}\n".encode())
        return (await asyncio.wait_for(reader.readline(), 10)).decode().strip()

    try:
        assert (await ask("*LANG?")) == "TSP"
        assert (await ask("*IDN?")).startswith("KEITHLEY INSTRUMENTS,MODEL DMM6500,")
        for line in ("reset()", "loadscript functions", "function twice(x)", "return 2 * x", "end", "endscript"):
            writer.write(f"{line}\n".encode())
        assert await ask("functions() print(twice(21))") == "42"
        writer.write(b"dmm.measure.func = dmm.FUNC_DC_VOLTAGE\ndmm.measure.range = 10\n")
        assert abs(float(await ask("print(dmm.measure.read())"))) < 1e-3
    finally:
        writer.close()
        await port.close()
