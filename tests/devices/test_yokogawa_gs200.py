"""The Yokogawa GS200: wire, behaviour with and without its monitor, and the emulator as others' drivers see it."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.physics import World
from devices.yokogawa_gs200 import codec
from devices.yokogawa_gs200.driver import YokogawaGS200
from devices.yokogawa_gs200.emulator import YokogawaGS200Emulator
from hal.errors import ConfigError, LimitError, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.model.capabilities import SourceMeter, Sweep, lacking
from hal.model.reading import Quality, Sample
from hal.testing import Wire, wired

Bias = tuple[YokogawaGS200, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Bias]:
    async with wired(YokogawaGS200, name="bias") as (source, wire):
        yield source, wire


def written(wire: Wire) -> list[str]:
    """What the driver sent but for questions."""
    return [line.decode().strip() for line in wire.sent if b"?" not in line]


def emulated(*commands: str, **settings: Any) -> YokogawaGS200Emulator:
    """A GS200 that took these commands."""
    source = YokogawaGS200Emulator(World(), **settings)
    for command in commands:
        assert source.respond(command.encode()) is None
    return source


def ask(source: YokogawaGS200Emulator, question: str) -> str:
    reply = source.respond(question.encode())
    assert reply is not None
    return reply.decode()


def live(source: YokogawaGS200Emulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        source.advance(0.01)


# ---------------------------------------------------------------------- the wire


def test_numbers_look_like_those_of_the_manual() -> None:
    # 13-12: the least and greatest limits.
    assert codec.engineering(1.0) == "+1E+0"
    assert codec.engineering(30.0) == "+30E+0"
    assert codec.engineering(0.1) == "+100E-3"
    assert codec.engineering(1e-3) == "+1E-3"
    assert codec.number(-1.5) == "-1.50000E+0"


@given(st.floats(1e-3, 1e3))
def test_a_number_goes_round(value: float) -> None:
    assert float(codec.number(value)) == pytest.approx(value, rel=1e-5)
    assert float(codec.engineering(value)) == pytest.approx(value, rel=1e-3)


@given(
    st.booleans(), st.booleans(), st.sampled_from(["VOLT", "CURR"]), st.sampled_from([0.01, 1.0, 30.0]),
    st.floats(-30, 30),
)  # fmt: skip
def test_a_state_goes_round(on: bool, sensing: bool, name: str, extent: float, level: float) -> None:
    fields = [f"{on:d}", f"{sensing:d}", name, codec.engineering(extent), codec.number(level)]
    state = codec.parse_state(";".join(fields).encode(), monitor=True)
    assert (state.output, state.sensing, state.range) == (on, sensing, extent)
    assert state.level == pytest.approx(level, rel=1e-5, abs=1e-99)
    del fields[1]
    assert codec.parse_state(";".join(fields).encode(), monitor=False).sensing is False


@pytest.mark.parametrize("reply", [b"", b"1;1;VOLT;+1E+0", b"1;1;OHM;1;1", b"2;1;VOLT;1;1", b"1;1;VOLT;x;1", b"\xff"])
def test_what_is_no_state_is_refused(reply: bytes) -> None:
    with pytest.raises(ValueError):
        codec.parse_state(reply, monitor=True)


def test_what_the_condition_register_says_becomes_the_quality_of_a_value() -> None:
    # 13-30: bit 1 over range, bits 10 and 11 the limiters.
    assert codec.sample(1.0, 0b1_0001_1101) == Sample(1.0)
    assert codec.sample(1.0, 0b10).quality is Quality.BAD
    assert codec.sample(1.0, 1 << 10).quality is Quality.UNCERTAIN
    assert codec.sample(9.91e37, 0).value is None


# ---------------------------------------------------------------------- behaviour


def test_it_is_a_source_meter() -> None:
    assert lacking(YokogawaGS200, SourceMeter) == []


async def test_it_tells_what_was_set_and_what_it_measured(bench: Bias) -> None:
    source, wire = bench
    await source.source("voltage", 1.0, compliance=0.01)
    assert wire.world.voltage == 1.0
    wire.forget()
    data = await source.read()
    assert wire.sent == [codec.STATE + b"\n", codec.MEASURE + b"\n"]
    assert data["bias-voltage"]["value"] == 1.0
    assert data["bias-current"]["value"] == pytest.approx(wire.world.current, abs=3e-6)
    assert data["bias-output"]["value"] is True


async def test_sourcing_a_current_works_the_same(bench: Bias) -> None:
    source, wire = bench
    await source.source("current", -2e-3, compliance=5.0)
    assert wire.world.current == pytest.approx(-2e-3)
    assert await source.current.get() == -2e-3
    assert await source.voltage.get() == pytest.approx(-2e-3 * wire.world.resistance, abs=3e-3)


@pytest.mark.parametrize(
    ("mode", "level", "compliance"),
    [
        ("voltage", 31, 0.01), ("voltage", -31, 0.01), ("voltage", 1, 0.3), ("voltage", 1, 5e-4),
        ("voltage", math.nan, 0.01), ("voltage", 1, 1.5e-3), ("current", 0.21, 5), ("current", 1e-3, 0.5),
        ("current", 1e-3, 5.5), ("power", 1, 1),
    ],
)  # fmt: skip
async def test_a_level_or_limit_it_can_not_take_never_reaches_the_wire(
    bench: Bias, mode: Any, level: float, compliance: float
) -> None:
    source, wire = bench
    with pytest.raises(LimitError, match="nothing was sent"):
        source.source(mode, level, compliance)
    assert not wire.sent


async def test_at_its_limit_the_level_is_not_known_and_what_is_measured_is_uncertain(bench: Bias) -> None:
    source, wire = bench
    await source.source("voltage", 5.0, compliance=1e-3)
    assert wire.world.current == pytest.approx(1e-3)
    assert (await source.voltage.read()).value is None
    measured = await source.current.read()
    assert measured.quality is Quality.UNCERTAIN
    assert measured.value == pytest.approx(1e-3, abs=3e-6)
    assert await source.limited.get() is True


async def test_function_and_range_change_with_the_output_off(bench: Bias) -> None:
    source, wire = bench
    await source.source("voltage", 0.5, compliance=0.01)
    wire.forget()
    await source.source("voltage", 5.0, compliance=0.05)
    sent = written(wire)
    assert sent.index(":OUTP OFF") < sent.index(":SOUR:RANG 10") < sent.index(":SOUR:LEV 5") < sent.index(":OUTP ON")
    wire.forget()
    await source.source("current", 1e-3, compliance=1.0)
    assert written(wire).index(":OUTP OFF") < written(wire).index(":SOUR:FUNC CURR")


async def test_within_a_range_neither_level_waits_behind_the_wrong_limit(bench: Bias) -> None:
    source, wire = bench
    await source.source("voltage", 10.0, compliance=1e-3)
    seen: list[float] = []
    wire.bench.watchers.append(lambda _: seen.append(abs(wire.world.current)))
    for level, compliance in ((2.0, 0.1), (1.5, 1e-3), (2.5, 1e-2)):
        await source.source("voltage", level, compliance)
    assert max(seen) <= 2.5 / wire.world.resistance * 1.001


async def test_a_sweep_stays_in_one_range_and_lies_on_the_load_line(bench: Bias) -> None:
    source, wire = bench
    levels = [0.0, 0.5, 5.0, -5.0]
    result: Sweep = await source.sweep("voltage", levels, compliance=0.1, dwell=0.1)
    assert [c for c in written(wire) if c.startswith(":SOUR:RANG")] in ([], [":SOUR:RANG 10"])
    assert result.voltage.tolist() == levels
    assert result.current == pytest.approx(np.array(levels) / wire.world.resistance, abs=3e-6)
    await source.source("voltage", 0.5, compliance=0.1)
    assert float(ask(wire.emulator, ":SOUR:RANG?")) == 1.0  # the sweep's range was the sweep's


async def test_a_program_that_runs_is_stopped_by_the_safe_state_and_by_source(bench: Bias) -> None:
    source, wire = bench
    await source.source("voltage", 1.0, compliance=0.1)
    for verb in (source.off, lambda: source.source("voltage", 2.0, compliance=0.1)):
        wire.emulator.respond(b":PROG:INT 9;:PROG:SLOP 9;:PROG:EDIT:STAR;:SOUR:LEV 9;:PROG:EDIT:END;:OUTP ON;:PROG:RUN")
        await asyncio.sleep(1.0)
        await verb()
        stopped = wire.world.voltage
        await asyncio.sleep(20.0)
        assert wire.world.voltage == stopped
        assert stopped in (0.0, 2.0)


async def test_a_level_is_not_lost_in_a_program_that_somebody_edits(bench: Bias) -> None:
    source, wire = bench
    wire.emulator.respond(b":SOUR:LEV 9;:PROG:EDIT:STAR")
    await source.source("voltage", 2.0, compliance=0.1)
    assert wire.world.voltage == 2.0


async def test_without_the_monitor_it_sources_and_says_that_it_does_not_measure() -> None:
    async with wired(YokogawaGS200, name="bias", monitor=False) as (source, wire):
        assert source.provides == ()
        await source.source("voltage", 1.0, compliance=0.01)
        assert wire.world.voltage == 1.0
        assert await source.voltage.get() == 1.0
        reading = await source.current.read()
        assert reading.value is None
        assert "no option /MON" in reading.reason
        with pytest.raises(ConfigError, match="no option /MON"):
            source.sweep("voltage", [1.0], 0.01, 0.1)


async def test_a_level_is_set_within_its_range_only(bench: Bias) -> None:
    source, wire = bench
    await source.source("voltage", 0.5, compliance=0.01)
    await source.voltage_level.set(0.75)
    assert wire.world.voltage == 0.75
    with pytest.raises(Refused, match=r"bias: :SOUR:LEV 7: refused with error -222"):
        await source.voltage_level.set(7.0)
    with pytest.raises(Refused, match="it sources voltage at present"):
        await source.current_level.set(1e-3)


async def test_a_limit_is_read_back(bench: Bias) -> None:
    source, _wire = bench
    await source.current_limit.set(0.05)
    assert await source.current_limit.get() == 0.05
    with pytest.raises(Refused, match="it took"):
        await source.current_limit.set(0.0344)  # in steps of 1 mA


async def test_another_instrument_is_not_taken_for_a_gs200() -> None:
    emulator = emulated()
    emulator._scpi.identity = "YOKOGAWA,765601,91K000001,1.05"
    with pytest.raises(WrongInstrument, match="expected a Yokogawa GS200, found 'YOKOGAWA,765601"):
        async with wired(YokogawaGS200, emulator=emulator):
            pass


# ---------------------------------------------------------------------- the emulator, as others see it


def test_headers_are_understood_in_every_form() -> None:
    source = emulated("OUTPut:STATe 1", "SOURce:RANGe 10", ":sour:lev:fix 1.5V", "SOUR:PROT:VOLT MIN", ":OUTP ON")
    assert ask(source, ":SOURce:LEVel?;:SOUR:RANG?;PROT:VOLT?;:OUTPUT?") == "+1.50000E+0;+10E+0;+1E+0;1"
    # The header's path goes on within a message (13-2: ":SOURce:FUNCtion VOLTage;RANGe 100E-3").
    source.respond(b":SOURce:FUNCtion VOLTage;RANGe 100E-3")
    assert ask(source, ":SOUR:RANG?") == "+100E-3"
    source.respond(b":SOUR:RANG UP")
    assert ask(source, ":SOUR:RANG?") == "+1E+0"
    source.respond(b":SOUR:LEV:AUTO 12")
    assert ask(source, ":SOUR:RANG?;:SOUR:LEV?") == "+10E+0;+1.20000E+1"
    assert source.errors == 0


def test_a_level_may_be_a_fifth_beyond_its_range_and_no_more() -> None:
    source = emulated(":SOUR:RANG 1;LEV 1.2")
    source.respond(b":SOUR:LEV 1.21")
    assert ask(source, ":SOUR:LEV?;:SYST:ERR?;ERR?") == '+1.20000E+0;-222,"Data out of range";0,"No error"'


def test_the_ramp_of_pymeasure_on_one_line() -> None:
    source = emulated(":SOUR:RANG 10", "OUTPut:STATe 1")
    source.respond(
        b":program:edit:start;:source:level 3.0;:program:edit:end;:program:interval 2.0;:program:slope 2.0;"
        b":program:repeat 0;:program:run"
    )
    live(source, 1.0)
    assert source.world.voltage == pytest.approx(1.5, abs=0.02)
    live(source, 2.0)
    assert source.world.voltage == 3.0
    assert source.errors == 0


def test_the_ramp_of_qcodes_is_over_when_the_event_register_says_so() -> None:
    source = emulated(":SOUR:RANG 10", "OUTPUT 1")
    source.respond(
        b"*CLS;:PROG:REP 0;:PROG:SLOP 5.000000E-01;:PROG:INT 5.000000E-01;:PROG:EDIT:STAR;"
        b":SOUR:LEV 1.000000E+00;:PROG:EDIT:END;:PROG:RUN"
    )
    assert ask(source, ":STAT:COND?") == str(0b1_1101)  # not ready: 13-30
    live(source, 0.3)
    assert not int(ask(source, ":STAT:EVEN?")) & 1 << 7
    live(source, 0.3)
    assert int(ask(source, ":STAT:EVEN?")) == 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8
    assert ask(source, ":STAT:EVEN?;:STAT:COND?") == f"0;{0b1_0001_1101}"


def test_a_program_pauses_repeats_and_goes_by_steps() -> None:
    source = emulated(":SOUR:RANG 10", ":OUTP ON", ":PROG:INT 1;SLOP 0;REP 1")
    source.respond(b":PROG:EDIT:STAR;:SOUR:LEV 1;:SOUR:LEV 2;:PROG:EDIT:END;:PROG:RUN")
    seen = []
    for _ in range(4):
        live(source, 0.5)
        seen.append(source.world.voltage)
        live(source, 0.5)
    assert seen == [1.0, 2.0, 1.0, 2.0]
    source.respond(b":PROG:HOLD")
    live(source, 5.0)
    assert source.world.voltage == 1.0
    source.respond(b":PROG:EDIT:STAR;:SOUR:LEV 3;:SOUR:LEV 4;:PROG:EDIT:END;:PROG:STEP")
    live(source, 5.0)
    assert source.world.voltage == 3.0
    source.respond(b":PROG:STEP")
    live(source, 5.0)
    assert source.world.voltage == 4.0


def test_a_program_needs_the_output_on() -> None:
    source = emulated(":PROG:EDIT:STAR;:SOUR:LEV 1;:PROG:EDIT:END")
    source.respond(b":PROG:RUN")
    assert ask(source, ":SYST:ERR?").startswith("-221")


def test_it_has_the_commands_of_the_monitor_only_with_the_option() -> None:
    assert ask(emulated(), "*OPT?") == "/MON"
    without = emulated(monitor=False)
    assert "/MON" not in ask(without, "*OPT?")
    assert without.respond(b":MEAS?") is None
    assert ask(without, ":SYST:ERR?").startswith("-113")


@pytest.mark.parametrize("prepare", [":SOUR:RANG 10E-3;:OUTP ON", ":SOUR:RANG 10;:OUTP OFF", ":SENS 0;:OUTP ON"])
def test_it_measures_with_the_output_and_the_monitor_on_in_ranges_from_1_v(prepare: str) -> None:
    source = emulated(":SENS:NPLC 1;:SENS 1", prepare)
    assert float(ask(source, ":MEAS?")) > 9e37
    source.respond(b":SENS 1;:SOUR:RANG 1;:SOUR:LEV 1;:OUTP ON")
    assert float(ask(source, ":MEAS?")) == pytest.approx(source.world.current, abs=3e-6)


def test_an_event_that_is_enabled_shows_in_the_status_byte() -> None:
    source = emulated("*CLS", f":STAT:ENAB {1 << 11}", ":SOUR:RANG 10;LEV 5", ":SOUR:PROT:CURR 1E-3")
    assert ask(source, "*STB?") == "0"
    source.respond(b":OUTP ON")
    assert ask(source, "*STB?") == "2"  # extended event summary
    assert int(ask(source, ":STAT:EVEN?")) & 1 << 11


@pytest.mark.real_clock
async def test_a_stranger_on_a_socket_gets_its_answers() -> None:
    world = World()
    port = await TcpPort(Bench(world).wire([YokogawaGS200Emulator(world)], "visa"), scheme="visa").open()
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    try:
        writer.write(b"*IDN?\n:SOUR:RANG 1;LEV 0.5;:OUTP 1\r\nOUTP?;:SOUR:LEV?\n:NONSENSE\n:SYST:ERR?\n")
        replies = [await asyncio.wait_for(reader.readline(), 5) for _ in range(3)]
        assert replies == [b"YOKOGAWA,GS210,91W000001,2.02\n", b"1;+5.00000E-1\n", b'-113,"Undefined header"\n']
        assert world.voltage == 0.5
    finally:
        writer.close()
        await port.close()
