"""Oxford MercuryiTC: paths that come back with their value, refusals by name, ramps of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.oxford_mercury_itc import codec
from devices.oxford_mercury_itc.driver import OxfordMercuryItc
from devices.oxford_mercury_itc.emulator import OxfordMercuryItcEmulator
from devices.physics import World
from hal.errors import ConfigError, LimitError, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.testing import Wire, wired

LOOP = "DEV:MB1.T1:TEMP:LOOP"


@pytest.fixture
async def bench() -> AsyncIterator[tuple[OxfordMercuryItc, Wire]]:
    async with wired(OxfordMercuryItc, name="stage") as (stage, wire):
        yield stage, wire


def ask(emulator: OxfordMercuryItcEmulator, said: str) -> str:
    reply = emulator.respond(said.encode())
    assert reply is not None
    return reply.decode()


# ---------------------------------------------------------------------- the wire


def test_it_answers_as_in_pymeasures_and_ibexs_transcripts() -> None:
    itc = OxfordMercuryItcEmulator(World())
    assert ask(itc, "*IDN?") == "IDN:OXFORD INSTRUMENTS:MERCURY ITC:123450001:2.6.04.000"
    itc.sensor.measured = 330.0725
    assert ask(itc, "READ:DEV:MB1.T1:TEMP:SIG:TEMP") == "STAT:DEV:MB1.T1:TEMP:SIG:TEMP:330.0725K"
    assert ask(itc, f"SET:{LOOP}:ENAB:OFF") == f"STAT:SET:{LOOP}:ENAB:OFF:VALID"
    assert ask(itc, f"SET:{LOOP}:TSET:300K") == f"STAT:SET:{LOOP}:TSET:300K:VALID"
    assert ask(itc, f"SET:{LOOP}:RSET:0.5K/m") == f"STAT:SET:{LOOP}:RSET:0.5K/m:VALID"
    assert ask(itc, "READ:SYS:CAT?") == (
        "STAT:SYS:CAT:DEV:MB0.H1:HTR:DEV:MB1.T1:TEMP:DEV:DB8.T1:TEMP:DEV:DB1.H1:HTR:DEV:DB4.G1:AUX:DEV:DB5.P1:PRES"
        ":DEV:DB3.L1:LVL"
    )
    assert ask(itc, "@1READ:DEV:MB0.H1:HTR:VLIM") == "STAT:DEV:MB0.H1:HTR:VLIM:40.0000"
    assert itc.respond(b"@2READ:DEV:MB0.H1:HTR:VLIM") is None


def test_a_board_asked_as_a_whole_tells_everything() -> None:
    itc = OxfordMercuryItcEmulator(World())
    assert ask(itc, "READ:DEV:MB0.H1:HTR") == (
        "STAT:DEV:MB0.H1:HTR:NICK:MB0.H1:VLIM:40.0000:RES:20.0000:PMAX:80.0000"
        ":SIG:VOLT:0.0000V:CURR:0.0000A:POWR:0.0000W"
    )


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("GET:SYS:CAT", "GET:INVALID"),  # UMC0071, 8.3.6: the verb
        ("READ:DEV:MB1.T1:TEMP:FOO:BAR", "STAT:DEV:MB1.T1:TEMP:FOO:INVALID"),  # right after the unknown noun
        ("READ:DEV:DB9.T1:TEMP:SIG:TEMP", "STAT:DEV:DB9.T1:TEMP:SIG:TEMP:NOT_FOUND"),
        ("read:DEV:MB1.T1:TEMP:SIG:TEMP", "read:INVALID"),  # case-sensitive
        ("SET:DEV:MB1.T1:TEMP:SIG:TEMP:4", "STAT:SET:DEV:MB1.T1:TEMP:SIG:TEMP:INVALID"),  # read-only
        (f"SET:{LOOP}:TSET:2001", f"STAT:SET:{LOOP}:TSET:INVALID"),
        (f"SET:{LOOP}:TSET:warm", f"STAT:SET:{LOOP}:TSET:INVALID"),
        (f"SET:{LOOP}:HSET:-1", f"STAT:SET:{LOOP}:HSET:INVALID"),
        (f"SET:{LOOP}:ENAB:on", f"STAT:SET:{LOOP}:ENAB:INVALID"),
        ("READ", "STAT::INVALID"),
    ],
)
def test_it_refuses_by_name_and_changes_nothing(said: str, reply: str) -> None:
    itc = OxfordMercuryItcEmulator(World())
    assert ask(itc, said) == reply
    assert (itc.sensor.target, itc.sensor.enabled, itc.sensor.output) == (0.0, False, 0.0)


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        # mercuryitc 0.3: its modules are found by the catalogue, their nouns read and set one by one.
        ("READ:DEV:MB0.H1:HTR:MAN:SERL", "STAT:DEV:MB0.H1:HTR:MAN:SERL:123450001"),
        ("READ:DEV:MB0.H1:HTR:SIG:PWR", "STAT:DEV:MB0.H1:HTR:SIG:PWR:N/A"),
        ("SET:DEV:MB0.H1:HTR:SIG:VOLT:2.5V", "STAT:SET:DEV:MB0.H1:HTR:SIG:VOLT:2.5V:VALID"),
        ("SET:DEV:MB0.H1:HTR:SIG:VOLT:41V", "STAT:SET:DEV:MB0.H1:HTR:SIG:VOLT:INVALID"),
        ("READ:DEV:MB1.T1:TEMP:EXCT:TYPE", "STAT:DEV:MB1.T1:TEMP:EXCT:TYPE:UNIP"),
        ("SET:DEV:MB1.T1:TEMP:CAL:INT:LAGR", "STAT:SET:DEV:MB1.T1:TEMP:CAL:INT:LAGR:VALID"),
        ("SET:DEV:MB1.T1:TEMP:CAL:SCAL:1.600000", "STAT:SET:DEV:MB1.T1:TEMP:CAL:SCAL:INVALID"),
        ("SET:DEV:DB4.G1:AUX:GEAR:3", "STAT:SET:DEV:DB4.G1:AUX:GEAR:3:VALID"),
        ("READ:DEV:DB4.G1:AUX:SIG:PERC", "STAT:DEV:DB4.G1:AUX:SIG:PERC:0.0000%"),
        ("READ:SYS:DISP:DIMT", "STAT:SYS:DISP:DIMT:60"),
        ("SET:SYS:TIME:12:34:56", "STAT:SET:SYS:TIME:12:34:56:VALID"),
        ("SET:SYS:RST", "STAT:SET:SYS:RST:VALID"),
        ("READ:SYS:ALRM", "STAT:SYS:ALRM:"),
        # Programs for a TeslatronPT, with question marks: probe, gauge, needle valve, helium.
        ("READ:DEV:DB5.P1:PRES:LOOP:PRST?", "STAT:DEV:DB5.P1:PRES:LOOP:PRST:0.0000mB"),
        ("READ:DEV:DB5.P1:PRES:LOOP:TSET?", "STAT:DEV:DB5.P1:PRES:LOOP:TSET:INVALID"),  # as their authors found out
        ("READ:DEV:MB1.T1:TEMP:LOOP:SWMD", "STAT:DEV:MB1.T1:TEMP:LOOP:SWMD:FIX"),
        # Lab::Measurement 3.9: both values of a level at once.
        ("READ:DEV:DB3.L1:LVL:SIG:HEL", "STAT:DEV:DB3.L1:LVL:SIG:HEL:LEV:56.3938%:RES:47.8665O"),
    ],
)
def test_others_find_the_boards_of_a_cryostat(said: str, reply: str) -> None:
    assert ask(OxfordMercuryItcEmulator(World()), said) == reply


def test_the_flow_of_a_loop_opens_its_needle_valve_and_a_clock_that_is_set_goes_on() -> None:
    itc = OxfordMercuryItcEmulator(World())
    assert ask(itc, "SET:DEV:DB8.T1:TEMP:LOOP:FSET:12.5") == "STAT:SET:DEV:DB8.T1:TEMP:LOOP:FSET:12.5:VALID"
    assert ask(itc, "READ:DEV:DB4.G1:AUX:SIG:PERC").endswith(":12.5000%")
    assert ask(itc, "READ:DEV:DB4.G1:AUX:SIG:STEP").endswith(":1250.0000")
    ask(itc, "SET:SYS:DATE:2026:02:28")
    ask(itc, "SET:SYS:TIME:23:59:30")
    itc.advance(45.0)
    assert (ask(itc, "READ:SYS:DATE"), ask(itc, "READ:SYS:TIME")) == (
        "STAT:SYS:DATE:2026:03:01", "STAT:SYS:TIME:00:00:15"
    )  # fmt: skip


def test_each_sensor_has_a_loop_and_a_heater_of_its_own() -> None:
    world = World()
    itc = OxfordMercuryItcEmulator(world)
    for said in ("TSET:320", "RENA:OFF", "ENAB:ON"):
        ask(itc, f"SET:DEV:DB8.T1:TEMP:LOOP:{said}")
    itc.advance(1.0)
    assert sum(world.body_heaters.values()) > 0
    assert world.power == 0
    assert ask(itc, f"READ:{LOOP}:ENAB").endswith(":OFF")


@given(st.floats(-273.15, 1726.85))
def test_a_temperature_comes_back_to_a_tenth_of_a_millikelvin(celsius: float) -> None:
    assert codec.temperature(codec.encode_temperature(celsius) + "K") == pytest.approx(celsius, abs=1e-4)


@given(st.floats(2e-5, 1600.0))
def test_a_rate_comes_back(per_second: float) -> None:
    assert codec.rate(codec.encode_rate(per_second) + "K/m") == pytest.approx(per_second, abs=1e-6)


@pytest.mark.parametrize(("text", "unit", "value"), [("12.5mV", "V", 0.0125), ("3uW", "W", 3e-6), ("-1e2K", "K", -100)])
def test_values_carry_their_prefix(text: str, unit: str, value: float) -> None:
    assert codec.number(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(("text", "unit"), [("330K", "W"), ("K", "K"), ("nanK", "K"), ("1qK", "K"), ("1.2.3K", "K")])
def test_what_is_no_number_in_this_unit_is_none(text: str, unit: str) -> None:
    with pytest.raises(ValueError):
        codec.number(text, unit)


# ---------------------------------------------------------------------- behaviour


async def test_a_ramp_follows_its_rate_and_begins_at_the_temperature_and_not_at_the_old_setpoint(
    bench: tuple[OxfordMercuryItc, Wire],
) -> None:
    stage, wire = bench
    await stage.ramp(to=100.0, rate=5.0)
    await stage.off()
    wire.emulator.respond(f"SET:{LOOP}:TSET:900".encode())  # somebody else's
    await asyncio.sleep(10.0)
    ramp = stage.ramp(to=85.0, rate=1.0)
    await asyncio.sleep(2.0)
    assert wire.world.temperature < 35
    await asyncio.sleep(30.0)
    assert wire.world.temperature == pytest.approx(25 + 30, abs=6)
    await ramp
    await asyncio.sleep(10.0)
    assert wire.world.temperature == pytest.approx(85.0, abs=0.5)


async def test_a_ramp_never_lets_the_setpoint_jump_to_where_another_was_going(
    bench: tuple[OxfordMercuryItc, Wire],
) -> None:
    stage, wire = bench
    first = stage.ramp(to=600.0, rate=1.0)
    await asyncio.sleep(15.0)
    stage.ramp(to=30.0, rate=1.0)
    hottest = 0.0
    for _ in range(100):
        await asyncio.sleep(0.1)
        hottest = max(hottest, wire.emulator.sensor.setpoint)
    assert first.done
    assert hottest - 273.15 < 45


async def test_a_ramp_left_early_holds(bench: tuple[OxfordMercuryItc, Wire]) -> None:
    stage, wire = bench
    async with stage.ramp(to=300.0, rate=2.0):
        await asyncio.sleep(20.0)
    left = wire.world.temperature
    assert left > 50
    await asyncio.sleep(20.0)
    assert wire.world.temperature == pytest.approx(left, abs=3)


async def test_off_switches_the_loop_off_first_and_the_output_to_zero(bench: tuple[OxfordMercuryItc, Wire]) -> None:
    stage, wire = bench
    await stage.ramp(to=60.0, rate=5.0)
    wire.forget()
    await stage.off()
    assert wire.sent[:2] == [f"SET:{LOOP}:ENAB:OFF\n".encode(), f"SET:{LOOP}:HSET:0\n".encode()]
    assert wire.world.power == 0


async def test_a_heater_that_stays_on_is_said_aloud(bench: tuple[OxfordMercuryItc, Wire]) -> None:
    stage, wire = bench
    await stage.ramp(to=60.0, rate=5.0)
    assert wire.emulator.sensor.output > 0
    wire.emulator.sensor._drive = lambda percent: None  # its output has hung; it still talks
    with pytest.raises(Refused, match=r"still at .* %; switch it off at the front panel"):
        await stage.safe_state()


async def test_a_refusal_says_what_to_do(bench: tuple[OxfordMercuryItc, Wire]) -> None:
    stage, wire = bench
    wire.emulator.locked = True
    with pytest.raises(Refused, match=r"stage: 'SET:.*TSET.* was refused \(DENIED\).*unlock it"):
        await stage.ramp(to=40.0, rate=1.0)
    wire.emulator.locked = False
    wire.emulator.sensor.hot = 320.0  # of the sensor's calibration
    with pytest.raises(Refused, match=r"\(INVALID\).*out of its range"):
        await stage.ramp(to=60.0, rate=1.0)


@pytest.mark.parametrize(
    ("to", "rate"), [(1727.0, 1.0), (-274.0, 1.0), (float("nan"), 1.0), (50.0, 0.0), (50.0, 2e3), (50.0, 1e-5)]
)
async def test_what_is_beyond_the_limits_never_reaches_the_wire(
    bench: tuple[OxfordMercuryItc, Wire], to: float, rate: float
) -> None:
    stage, wire = bench
    with pytest.raises(LimitError):
        stage.ramp(to=to, rate=rate)
    assert wire.sent == []


async def test_a_sensor_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(Refused, match=r"NOT_FOUND.*check `sensor`"):
        async with wired(OxfordMercuryItc, options={"sensor": "DB6.T1"}):
            pass


async def test_a_sensor_that_would_be_another_command_is_no_identifier() -> None:
    with pytest.raises(ConfigError, match="write it as MB1.T1"):
        async with wired(OxfordMercuryItc, options={"sensor": "MB1.T1:TEMP"}):
            pass


async def test_a_magnet_supply_of_the_same_family_is_not_taken_for_it() -> None:
    emulator: Any = OxfordMercuryItcEmulator(World())
    emulator.respond = lambda message: b"IDN:OXFORD INSTRUMENTS:MERCURY IPS:223350003:2.5.09.000"
    with pytest.raises(WrongInstrument, match="expected an Oxford MercuryiTC, found 'IDN:.*IPS"):
        async with wired(OxfordMercuryItc, emulator=emulator):
            pass


async def test_the_answer_to_another_question_is_not_taken_for_this_one(bench: tuple[OxfordMercuryItc, Wire]) -> None:
    stage, wire = bench
    wire.faults.delay = stage.timeout * 1.2
    late = asyncio.ensure_future(stage.setpoint.read())
    await asyncio.sleep(0.5)
    wire.faults.delay = 0.0
    assert await stage.temperature.get() == pytest.approx(25.0, abs=0.1)
    await asyncio.gather(late, return_exceptions=True)


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_another_program_ramps_it_over_tcp() -> None:
    # What PyMeasure 0.16 sends for these properties, on the port it opens.
    world = World()
    port = await TcpPort(Bench(world).wire([OxfordMercuryItcEmulator(world)], "tcp")).open()
    reader, writer = await asyncio.open_connection(port.host, port.port)
    try:
        for said in (
            "TSET:310", "RSET:600", "RENA:ON", "ENAB:ON",
        ):  # fmt: skip
            writer.write(f"SET:{LOOP}:{said}\n".encode())
            assert await reader.readline() == f"STAT:SET:{LOOP}:{said}:VALID\n".encode()
        await asyncio.sleep(0.3)
        writer.write(b"READ:SYS:CAT\n")  # time is lived through up to the last message
        await reader.readline()
        await asyncio.sleep(0.3)
        writer.write(f"READ:{LOOP}:HSET\nREAD:DEV:MB1.T1:TEMP:SIG:TEMP\n".encode())
        assert float((await reader.readline()).rpartition(b":")[2]) > 0
        assert 298.5 < codec.number((await reader.readline()).decode().strip().rpartition(":")[2], "K") < 308
    finally:
        writer.close()
        await port.close()
