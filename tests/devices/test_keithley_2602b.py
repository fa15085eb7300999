"""The Keithley 2602B: wire, behaviour, and the emulator as others' drivers see it."""

import asyncio
import math
import statistics
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.keithley_2602b import codec
from devices.keithley_2602b.driver import Keithley2602B
from devices.keithley_2602b.emulator import Keithley2602BEmulator
from devices.physics import World
from hal.errors import ConfigError, InterlockTripped, LimitError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.model.capabilities import SourceMeter, lacking
from hal.model.limits import Limits
from hal.model.reading import Quality, Sample
from hal.runtime.config import parse
from hal.runtime.emulation import Emulation
from hal.testing import Wire, wired

Bias = tuple[Keithley2602B, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Bias]:
    async with wired(Keithley2602B, name="bias") as (meter, wire):
        yield meter, wire


def written(wire: Wire) -> list[str]:
    """What the driver sent but for questions."""
    return [line.decode().strip() for line in wire.sent if b"print(" not in line and b"?" not in line]


class Bus:
    """An emulator spoken to line by line, in its own time."""

    def __init__(self, **settings: Any) -> None:
        self.world = World()
        self.emulator = Keithley2602BEmulator(self.world, **settings)

    def __call__(self, *lines: str) -> list[str]:
        """What it says to lines; each waits for the answer to the one before."""
        found: list[str] = []
        for line in lines:
            reply = self.emulator.respond(line.encode())
            self.pass_time(self.emulator.reply_delay)
            found += [] if reply is None else reply.decode("latin-1").split("\n")
        return found

    def pass_time(self, seconds: float) -> None:
        while seconds > 0:
            step = min(seconds, 0.01)
            self.world.advance(step)
            self.emulator.advance(step)
            seconds -= step

    def errors(self) -> list[int]:
        return [code for code, _, _ in self.emulator.tsp.errors]


@pytest.fixture
def bus() -> Bus:
    return Bus()


# ---------------------------------------------------------------------- the wire


def test_a_question_brings_its_own_format_and_its_answer_is_taken_apart() -> None:
    assert codec.measure("b") == (
        'print(string.format("%d %s %.9e %.9e", smub.source.output, tostring(smub.source.compliance), '
        "smub.measure.iv()))"
    )
    found = codec.parse_measurement(b"1 false 3.523290000e-03 1.000012000e+00")
    assert (found.current.value, found.voltage.value) == (3.52329e-3, 1.000012)
    assert (found.output, found.limited) == (True, False)
    held = codec.parse_measurement(b"1 true 1.000000000e-03 2.838000000e-01")
    assert (held.limited, held.voltage.quality) == (True, Quality.UNCERTAIN)
    over = codec.parse_measurement(b"1 false 9.910000000e+37 1.000000000e+00")
    assert (over.current.value, over.current.quality, over.voltage.value) == (None, Quality.BAD, 1.0)


def test_an_error_is_code_text_severity_and_node() -> None:
    # As a 2600 was seen to report it (cited in test_tsp.py).
    reply = b"-2.86000e+02\tTSP Runtime error at line 1: attempt to index field `channel' (a nil value)\t20\t1"
    assert codec.parse_error(reply) == (
        -286, "TSP Runtime error at line 1: attempt to index field `channel' (a nil value)",
    )  # fmt: skip
    assert codec.parse_error(b"0.00000e+00\tQueue Is Empty") == (0, "Queue Is Empty")


@pytest.mark.parametrize("reply", [b"", b"1 false 1", b"2 false 1 1", b"1 maybe 1 1", b"1 false x 1", b"nil"])
def test_what_is_no_reading_is_refused(reply: bytes) -> None:
    with pytest.raises(ValueError):
        codec.parse_measurement(reply)


@given(st.floats(-40.4, 40.4), st.floats(-3.03, 3.03), st.booleans(), st.booleans())
def test_a_reading_goes_round(volts: float, amperes: float, on: bool, limited: bool) -> None:
    sent = codec.Measurement(Sample(volts), Sample(amperes), on, limited)
    found = codec.parse_measurement(codec.format_measurement(sent).encode())
    assert found.voltage.value == pytest.approx(volts, rel=1e-9, abs=1e-300)
    assert found.current.value == pytest.approx(amperes, rel=1e-9, abs=1e-300)
    assert (found.output, found.limited) == (on, limited)


# ---------------------------------------------------------------------- behaviour


def test_it_is_a_source_meter() -> None:
    assert lacking(Keithley2602B, SourceMeter) == []


async def test_both_quantities_and_the_state_come_from_one_question(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    assert wire.world.voltage == 1.0
    wire.forget()
    data = await meter.read()
    assert wire.sent == [codec.measure("a").encode() + b"\n"]
    assert data["bias-voltage"]["value"] == pytest.approx(1.0, abs=2e-4)
    assert data["bias-current"]["value"] == pytest.approx(wire.world.current, rel=2e-4)
    assert data["bias-output"]["value"] is True


async def test_readings_have_all_digits_whatever_precision_somebody_set(bench: Bias) -> None:
    meter, wire = bench
    wire.emulator.respond(b"format.asciiprecision = 1 format.data = format.REAL32")
    await meter.source("current", -2e-3, compliance=5.0)
    assert await meter.current.get() == pytest.approx(-2e-3, rel=3e-4)
    assert await meter.voltage.get() == pytest.approx(-2e-3 * wire.world.resistance, rel=1e-3)


@pytest.mark.parametrize(
    ("mode", "level", "compliance"),
    [
        ("voltage", 41, 0.01), ("voltage", -41, 0.01), ("voltage", 1, 3.1), ("voltage", 1, 0), ("voltage", 1, -1e-3),
        ("voltage", math.nan, 0.01), ("voltage", 1, math.inf), ("voltage", 10, 2.0), ("current", 3.1, 1),
        ("current", -3.1, 1), ("current", 1e-3, 41), ("current", 2.0, 10), ("power", 1, 1),
    ],
)  # fmt: skip
async def test_a_level_or_compliance_out_of_limits_never_reaches_the_wire(
    bench: Bias, mode: Any, level: float, compliance: float
) -> None:
    meter, wire = bench
    with pytest.raises(LimitError, match="nothing was sent"):
        meter.source(mode, level, compliance)
    with pytest.raises(LimitError, match="nothing was sent"):
        meter.sweep(mode, [0.0, level], compliance, 0.1)
    assert not wire.sent


async def test_in_compliance_readings_are_uncertain_and_say_why(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 5.0, compliance=1e-3)
    reading = await meter.voltage.read()
    assert (reading.quality, await meter.limited.get()) == (Quality.UNCERTAIN, True)
    assert reading.value == pytest.approx(wire.world.voltage, rel=1e-3)
    assert wire.world.current == pytest.approx(1e-3)


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
    off, func = "smua.source.output = smua.OUTPUT_OFF", "smua.source.func = smua.OUTPUT_DCAMPS"
    assert sent.index(off) < sent.index(func) < sent.index("smua.source.leveli = 0.001")
    assert sent[-1] == "smua.source.output = smua.OUTPUT_ON"


async def test_a_setting_the_instrument_refuses_is_raised_with_its_code_and_the_output_stays_off(bench: Bias) -> None:
    meter, wire = bench
    wire.emulator.respond(b"smua.source.autorangev = 0 smua.source.rangev = 1")
    meter.current_limit.limits = Limits(0, 100)  # as if the driver knew no better
    with pytest.raises(Refused, match=r"bias: smua.source.limiti = 50: refused with error 1101, 'Parameter too big'"):
        await meter.current_limit.set(50.0)
    meter.voltage_level.limits = meter.current_limit.limits = Limits(0, 100)
    with pytest.raises(Refused, match=r"smua.source.levelv = 50.*error 1101"):
        await meter.source("voltage", 50.0, compliance=0.5)
    assert (wire.world.voltage, wire.emulator.smus["a"].output) == (0.0, False)
    await meter.current_limit.set(0.05)  # the queue was left clean
    assert await meter.current_limit.get() == 0.05
    assert wire.emulator.errors == 0


async def test_a_sweep_lies_on_the_load_line(bench: Bias) -> None:
    meter, wire = bench
    levels = np.linspace(-1, 1, 7)
    found = await meter.sweep("voltage", levels, compliance=0.003, dwell=0.1)
    assert found.limited.tolist() == [abs(level) / wire.world.resistance > 0.003 for level in levels]
    assert found.voltage / wire.world.resistance == pytest.approx(found.current, rel=1e-3, abs=1e-6)
    assert (np.diff(found.time) > 0.1e9).all()


async def test_off_goes_to_zero_before_the_output_goes_off(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    wire.forget()
    await meter.off()
    assert written(wire) == [
        "abort", "smua.abort() smua.source.levelv = 0 smua.source.leveli = 0", "smua.source.output = smua.OUTPUT_OFF",
    ]  # fmt: skip
    assert (wire.world.voltage, await meter.output.get()) == (0.0, False)


async def test_the_safe_state_ends_a_script_that_ramps_and_keeps_what_lay_ahead_from_the_specimen(bench: Bias) -> None:
    meter, wire = bench
    seen: list[float] = []
    wire.bench.watchers.append(lambda _: seen.append(wire.world.voltage))
    await meter.source("voltage", 0.1, compliance=0.1)
    await meter.tell(b"for v = 1, 20 do smua.source.levelv = v delay(1) end")
    await asyncio.sleep(3.5)
    with acting(Purpose.SAFE):
        await meter.make_safe()
    await asyncio.sleep(5.0)
    assert max(seen) == 4.0
    assert (wire.world.voltage, wire.emulator.smus["a"].output) == (0.0, False)


@pytest.mark.parametrize(
    "script", ["while true do end", "smua.trigger.arm.stimulus = 1 smua.trigger.initiate() waitcomplete()"]
)
async def test_the_safe_state_gets_through_to_an_instrument_that_a_script_keeps_busy(bench: Bias, script: str) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.1)
    wire.emulator.tsp.machine.limit = 3_000
    await meter.tell(script.encode())
    with acting(Purpose.SAFE):
        await meter.make_safe()
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
    assert (wire.world.voltage, wire.emulator.smus["a"].output) == (0.0, False)


async def test_readings_scatter_as_declared(bench: Bias) -> None:
    meter, wire = bench
    await meter.source("voltage", 1.0, compliance=0.01)
    errors = []
    for _ in range(300):
        reading = await meter.current.read()
        assert reading.value is not None
        assert reading.uncertainty is not None
        errors.append((reading.value - wire.world.current) / reading.uncertainty)
    assert statistics.stdev(errors) == pytest.approx(1.0, abs=0.15)


async def test_the_options_set_integration_time_and_sensing() -> None:
    async with wired(Keithley2602B, channel="b", options={"nplc": 10.0, "four_wire": True}) as (meter, wire):
        smu = wire.emulator.smus["b"]
        assert (smu.values["measure.nplc"], smu.values["sense"]) == (10.0, 1.0)
        assert meter.channel == "b"


@pytest.mark.parametrize("settings", [{"channel": "c"}, {"channel": 1}, {"options": {"nplc": 30.0}}])
async def test_a_channel_or_a_time_it_has_not_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="channel|nplc"):
        async with wired(Keithley2602B, emulator=Keithley2602BEmulator(World()), **settings):
            pass


async def test_another_model_on_the_link_is_named() -> None:
    with pytest.raises(WrongInstrument, match=r"found 'Keithley Instruments Inc\., Model 2636B"):
        async with wired(Keithley2602B, model="2636B"):
            pass


def test_a_lab_file_makes_two_devices_the_channels_of_one_instrument(tmp_path: Path) -> None:
    text = """
    schema = 1
    [links.meter]
    url = "emulator:"
    [devices.bias]
    driver = "keithley_2602b"
    link = "meter"
    channel = "a"
    [devices.gate]
    driver = "keithley_2602b"
    link = "meter"
    channel = "b"
    four_wire = true
    """
    config = parse(text, tmp_path / "lab.toml")
    assert config.link_of("bias")[0] == config.link_of("gate")[0] == "meter"


@pytest.mark.real_clock
async def test_both_channels_are_used_through_one_emulated_instrument(tmp_path: Path) -> None:
    text = "schema = 1\n[links.m]\nurl = 'emulator:'\n" + "".join(
        f"[devices.{name}]\ndriver = 'keithley_2602b'\nlink = 'm'\nchannel = '{letter}'\n"
        for name, letter in (("bias", "a"), ("gate", "b"))
    )
    emulation = await Emulation(parse(text, tmp_path / "lab.toml")).start()
    try:
        assert emulation.emulator("bias") is emulation.emulator("gate")
        assert emulation.emulator("gate").specimen == "a"
    finally:
        await emulation.close()


# ---------------------------------------------------------------------- the emulator, as others see it


def test_it_wakes_up_as_the_manual_says(bus: Bus) -> None:
    # Rev. F p. 9-244 (limits), Rev. C p. 7-247 (ranges)
    assert bus("s = smub.source print(s.limitv, s.limiti, s.func, s.output, s.levelv)") == [
        "4.00000e+01\t1.00000e+00\t1.00000e+00\t0.00000e+00\t0.00000e+00"
    ]
    assert bus("print(smua.source.rangev, smua.source.rangei, smua.measure.nplc, smua.sense)") == [
        "1.00000e-01\t1.00000e-07\t1.00000e+00\t0.00000e+00"
    ]


def test_what_it_refuses_goes_to_the_error_queue_and_changes_nothing(bus: Bus) -> None:
    bus("smua.source.levelv = 41", "smua.source.limiti = 0", "smua.source.levelv = 'x'", "smua.source.func = 5")
    assert bus.errors() == [1101, 1102, -104, -222]
    bus("errorqueue.clear()", "smua.source.rangev = 1", "smua.source.levelv = 1.02")
    assert bus.errors() == [5005]
    assert bus.emulator.tsp.errors[0][1] == "SMU A: Value too big for range"
    bus("errorqueue.clear() smub.source.limiti = 2 smub.source.levelv = 10")
    bus("smub.trigger.source.action = 1 smub.trigger.initiate()")
    assert bus.errors() == [5007, 5059]
    assert bus("print(smua.source.levelv, smub.source.levelv)") == ["0.00000e+00\t0.00000e+00"]


def test_ranges_follow_the_level_until_one_is_chosen(bus: Bus) -> None:
    bus("smua.source.levelv = 5")
    assert bus("print(smua.source.rangev, smua.source.autorangev)") == ["6.00000e+00\t1.00000e+00"]
    bus("smua.source.rangev = 8")
    assert bus("print(smua.source.rangev, smua.source.autorangev)") == ["4.00000e+01\t0.00000e+00"]


def test_a_measurement_takes_its_integration_time_and_the_answer_waits_for_it(bus: Bus) -> None:
    bus("smua.source.output = 1 smua.measure.nplc = 25")
    bus.emulator.respond(b"print(smua.measure.iv())")
    assert bus.emulator.reply_delay == pytest.approx(0.5, rel=0.02)
    assert bus.emulator.respond(b"print(1)") == b"1.00000e+00"
    assert bus.emulator.reply_delay == pytest.approx(0.5, rel=0.02)  # it comes after the other


def test_a_fixed_range_overflows(bus: Bus) -> None:
    bus("smua.source.levelv = 1 smua.source.output = 1 smua.measure.rangei = 1e-3")
    assert bus("print(smua.measure.i())") == ["9.91000e+37"]  # smuX.measure.rangeY


def test_output_high_z_reads_as_off(bus: Bus) -> None:
    bus("smua.source.levelv = 1 smua.source.output = smua.OUTPUT_ON")
    assert bus.world.voltage == 1.0
    assert bus("smua.source.output = smua.OUTPUT_HIGH_Z print(smua.source.output)") == [
        "0.00000e+00"
    ]  # smuX.source.output
    assert bus.world.voltage == 0.0


def test_buffers_keep_readings_with_times_and_source_values(bus: Bus) -> None:
    bus("smua.source.levelv = 1 smua.source.output = 1")
    bus("b = smua.nvbuffer1 b.clear() b.collectsourcevalues = 1 b.appendmode = 1")
    bus("smua.measure.count = 3 smua.measure.interval = 0.1", "smua.measure.overlappediv(b, smua.nvbuffer2)")
    bus("waitcomplete()")
    found = [float(x) for x in bus("printbuffer(1, b.n, b.timestamps, b.sourcevalues, smua.nvbuffer2)")[0].split(", ")]
    assert found[0::3] == pytest.approx([0.0, 0.1, 0.2], abs=1e-3)
    assert found[1::3] == [1.0] * 3
    assert found[2::3] == pytest.approx([1.0] * 3, abs=1e-3)
    assert bus("print(b.n, b[2] == b.readings[2], b.measurefunctions[1])") == ["3.00000e+00\ttrue\tCurrent"]
    bus("smua.measure.i(b)")
    assert bus("print(b.n)") == ["6.00000e+00"]  # appended
    bus("b.appendmode = 0")
    assert bus.errors() == [5032]
    bus("errorqueue.clear() m = smub.makebuffer(2) smub.measure.count = 5 smub.measure.v(m)")
    assert bus("print(m.n, m.capacity)") == ["2.00000e+00\t2.00000e+00"]
    bus("smua.measure.v(m)")
    assert bus.errors() == [5033]


def test_a_swept_source_waits_for_the_trigger_and_steps_in_the_background(bus: Bus) -> None:
    # The commands of keithley2600 2.1 (voltage_sweep_single_smu), shortened.
    bus(
        "smua.trigger.source.listv({0, 0.1, 0.2, 0.3})", "smua.trigger.source.action = smua.ENABLE",
        "smua.measure.nplc = 5", "smua.trigger.count = 4", "smua.trigger.measure.action = smua.ENABLE",
        "smua.trigger.measure.iv(smua.nvbuffer1, smua.nvbuffer2)",
        "smua.trigger.measure.stimulus = smua.trigger.SOURCE_COMPLETE_EVENT_ID",
        "smua.trigger.endpulse.action = 1 smua.trigger.endsweep.action = 1",
        "smua.trigger.arm.stimulus = trigger.EVENT_ID",
        "trigger.blender[1].orenable = true", "trigger.blender[1].stimulus[1] = smua.trigger.ARMED_EVENT_ID",
        "trigger.blender[1].stimulus[2] = smua.trigger.PULSE_COMPLETE_EVENT_ID",
        "smua.trigger.source.stimulus = trigger.blender[1].EVENT_ID", "trigger.blender[2].orenable = true",
        "trigger.blender[2].stimulus[1] = smua.trigger.MEASURE_COMPLETE_EVENT_ID",
        "smua.trigger.endpulse.stimulus = trigger.blender[2].EVENT_ID",
        "smua.source.output = 1", "smua.trigger.initiate()",
    )  # fmt: skip
    bus.pass_time(1.0)
    assert bus("print(status.operation.sweeping.condition, smua.nvbuffer1.n)") == ["2.00000e+00\t0.00000e+00"]
    bus("*trg")
    bus.pass_time(0.15)
    assert 0.05 < bus.world.voltage < 0.25
    bus.pass_time(0.5)
    assert bus("print(status.operation.sweeping.condition)") == ["0.00000e+00"]
    assert bus.world.voltage == 0.3  # held
    volts = [float(v) for v in bus("printbuffer(1, 4, smua.nvbuffer2)")[0].split(", ")]
    assert volts == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=2e-4)
    assert bus.errors() == []


def test_a_timer_paces_a_sweep_and_pulses_return_to_the_level(bus: Bus) -> None:
    bus(
        "smua.trigger.source.linearv(1, 2, 3) smua.trigger.source.action = 1", "smua.trigger.count = 3",
        "trigger.timer[1].delay = 0.1 trigger.timer[1].count = 3 trigger.timer[1].passthrough = false",
        "trigger.timer[1].stimulus = smua.trigger.ARMED_EVENT_ID",
        "smua.trigger.source.stimulus = trigger.timer[1].EVENT_ID", "smua.source.output = 1",
    )  # fmt: skip
    bus.emulator.respond(b"smua.trigger.initiate() waitcomplete()")
    assert bus.emulator.reply_delay == pytest.approx(0.3, abs=0.01)
    assert bus.emulator.smus["a"].level == 0.0


def test_factory_sweeps_fill_the_buffer(bus: Bus) -> None:
    bus("SweepVLinMeasureI(smua, 0, 1, 0.01, 5)")
    said = bus("b = smua.nvbuffer1 printbuffer(1, 5, b.readings, b.sourcevalues)")
    found = [float(v) for v in said[0].split(", ")]
    assert found[1::2] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert np.array(found[0::2]) == pytest.approx(np.array(found[1::2]) / bus.world.resistance, rel=1e-3, abs=1e-8)


def test_the_limit_that_acts_shows_in_the_measurement_register(bus: Bus) -> None:
    # As QCoDeS reads it: bit 0 the voltage limit, bit 1 the current limit.
    bus("smua.source.limiti = 1e-3 smua.source.levelv = 1 smua.source.output = 1")
    assert bus("print(smua.measure.i(), status.measurement.instrument.smua.condition)")[0].endswith("\t2.00000e+00")
    bus("smua.source.output = 0 smua.source.func = 0 smua.source.leveli = 0.01 smua.source.limitv = 0.5")
    bus("smua.source.output = 1")
    assert bus("print(status.measurement.instrument.smua.condition, smua.source.compliance)") == ["1.00000e+00\ttrue"]


def test_reset_goes_back_to_the_state_it_woke_up_in(bus: Bus) -> None:
    for reset in ("reset()", "*RST", "smua.reset()", "localnode.reset()"):
        bus("smua.source.levelv = 1 smua.source.output = 1 smua.measure.nplc = 5")
        bus(reset)
        assert bus("print(smua.source.levelv, smua.source.output, smua.measure.nplc)") == [
            "0.00000e+00\t0.00000e+00\t1.00000e+00"
        ]
        assert bus.world.voltage == 0.0


def test_the_display_takes_everything_politely(bus: Bus) -> None:
    bus(
        'display.settext("hi")', "display.clear()", "display.screen = display.SMUA_SMUB", "display.sendkey(75)",
        "display.smua.measure.func = display.MEASURE_DCAMPS", "beeper.beep(0.1, 2400)", "digio.writebit(1, 0)",
    )  # fmt: skip
    assert bus.errors() == []


@pytest.mark.real_clock
async def test_a_stranger_runs_a_script_over_a_socket_and_reads_binary() -> None:
    # QCoDeS 0.58, Keithley2600Channel._execute_lua: lines end with CR LF, the answer is #0, floats, LF.
    world = World()
    port = await TcpPort(Bench(world).wire([Keithley2602BEmulator(world)], "visa")).open()
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    script = [
        "smua.measure.nplc = 0.010000000000", "smua.source.func = 1", "smua.source.output = 1", "startX = 0",
        "dX = 0.25",
        "smua.nvbuffer1.clear()", "smua.nvbuffer1.appendmode = 1", "for index = 1, 5 do",
        "  target = startX + (index-1)*dX", "  smua.source.levelv = target", "  delay(0.01)",
        "  smua.measure.i(smua.nvbuffer1)", "end", "format.data = format.REAL32",
        "format.byteorder = format.LITTLEENDIAN", "printbuffer(1, 5, smua.nvbuffer1.readings)",
    ]  # fmt: skip
    writer.write(("loadandrunscript\r\n" + "\r\n".join(script) + "\r\nendscript\n").encode())
    block = await asyncio.wait_for(reader.readexactly(2 + 4 * 5 + 1), 5)
    assert (block[:2], block[-1:]) == (b"#0", b"\n")
    swept = np.array(struct.unpack("<5f", block[2:-1]))
    assert swept == pytest.approx(np.linspace(0, 1, 5) / world.resistance, rel=1e-3, abs=1e-8)
    writer.write(b"*IDN?\nprint(localnode.model)\n")
    assert (await reader.readline()).startswith(b"Keithley Instruments Inc., Model 2602B, ")
    assert await reader.readline() == b"2602B\n"
    writer.close()
    await port.close()
