"""Oxford ITC503: letters echoed or refused, ramps paced from here, a heater that is off when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.oxford_itc503 import codec
from devices.oxford_itc503.driver import OxfordItc503
from devices.oxford_itc503.emulator import OxfordItc503Emulator
from devices.physics import World
from hal.clock.timebase import Timebase
from hal.errors import ConfigError, LimitError, NoReply, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.context import Context
from hal.testing import Wire, wired
from hal.transport.link import SerialSettings
from hal.transport.serial import SerialLink
from hal.transport.session import Session


@pytest.fixture
async def bench() -> AsyncIterator[tuple[OxfordItc503, Wire]]:
    async with wired(OxfordItc503, name="stage") as (stage, wire):
        yield stage, wire


def talk(emulator: OxfordItc503Emulator, said: bytes) -> bytes:
    """Everything the instrument sends back."""
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


# ---------------------------------------------------------------------- the wire


def test_it_wakes_up_in_local_and_takes_orders_only_in_remote() -> None:
    # As PyMeasure 0.16 and QCoDeS' contributed driver ask and order; answers by the handbook (C, X, T command).
    itc = OxfordItc503Emulator(World())
    assert talk(itc, b"V\rX\r") == b"ITC503 Version 1.11 (c) OXFORD 1997\rX0A0C0S00H1L0\r"
    assert talk(itc, b"T300.000000\rA1\rs1\r") == b"?T300.000000\r?A1\r?s1\r"
    assert talk(itc, b"C3\rT300.000000\rR0\rX\r") == b"C\rT\rR300.0\rX0A0C3S00H1L0\r"
    assert talk(itc, b"T000012.5\rR0\rO005.5\rR5\r") == b"T\rR12.5\rO\rR5.5\r"


@pytest.mark.parametrize(
    "said", [b"T-1", b"T1678", b"Tnan", b"T", b"H4", b"H0", b"A4", b"O100", b"S33", b"R14", b"B1", b"t3"]
)
def test_what_is_unknown_or_beyond_its_range_is_answered_by_a_question_mark(said: bytes) -> None:
    itc = OxfordItc503Emulator(World())
    talk(itc, b"C3\r")
    assert talk(itc, said + b"\rR0\r") == b"?" + said + b"\rR0.0\r"


def test_a_dollar_silences_it_and_an_address_is_for_one_only() -> None:
    itc = OxfordItc503Emulator(World(), unit=2)
    assert talk(itc, b"$C3\r$T300\r@2R0\r@1R0\rR0\n\r") == b"R300.0\rR300.0\r"
    assert talk(itc, b"@2$T310\r@2R0\r") == b"R310.0\r"


def test_q2_is_not_answered_and_brings_line_feeds() -> None:
    itc = OxfordItc503Emulator(World())
    assert talk(itc, b"Q2\rC1\rQ0\rC1\r") == b"C\r\nC\r"


def test_output_can_only_be_set_by_hand() -> None:
    itc = OxfordItc503Emulator(World())
    assert talk(itc, b"C3\rA1\rO10\rA0\rO10\r") == b"C\rA\r?O10\rA\rO\r"


def test_a_sweep_moves_the_setpoint_in_the_time_of_its_table_and_holds() -> None:
    itc = OxfordItc503Emulator(World())
    # As PyMeasure's program_sweep writes a step: pointers without answers, then the value.
    table = b"".join(b"$x1\r$y%d\rs%f\r" % (y, value) for y, value in ((1, 320.0), (2, 1.0), (3, 1.0)))
    assert talk(itc, b"C3\rT300\r" + table + b"S1\r") == b"C\rT\r" + b"s\r" * 3 + b"S\r"
    seen = []
    for _ in range(3):
        for _ in range(120):
            itc.advance(0.25)
        seen.append(talk(itc, b"R0\rX\r"))
    assert seen[0] == b"R310.0\rX0A0C3S01H1L0\r"
    assert seen[1].startswith(b"R320.0\r")
    assert seen[2] == b"R320.0\rX0A0C3S02H1L0\r"
    assert talk(itc, b"S0\rX\r") == b"S\rX0A0C3S00H1L0\r"


@given(st.builds(codec.Status, *(st.integers(0, 9),) * 2, st.integers(0, 32), *(st.integers(0, 9),) * 3))
def test_a_status_comes_back(status: codec.Status) -> None:
    assert codec.Status.decode(status.encode()) == status


@given(st.floats(-273.15, 1404.0))
def test_a_setpoint_arrives_within_its_resolution(celsius: float) -> None:
    itc = OxfordItc503Emulator(World())
    talk(itc, b"C3\r" + codec.encode_setpoint(celsius).encode() + b"\r")
    shown = talk(itc, b"R0\r").decode().strip()
    assert codec.decode_temperature(shown) == pytest.approx(celsius, abs=0.06)


@pytest.mark.parametrize("text", ["", "R", "R1.2.3", "X1", "1.0", "Rnan", "R 1"])
def test_what_is_no_value_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):
        codec.decode_value(text)


# ---------------------------------------------------------------------- behaviour


async def test_a_ramp_follows_its_rate_and_the_heater_begins_at_the_present_temperature(
    bench: tuple[OxfordItc503, Wire],
) -> None:
    stage, wire = bench
    talk(wire.emulator, b"T600\r")  # somebody's old setpoint
    ramp = stage.ramp(to=75.0, rate=0.5)
    for _ in range(4):
        await asyncio.sleep(20.0)
        gone = min((await stage.setpoint.get()) - 25.0, 50.0)
        assert wire.world.temperature - 25.0 == pytest.approx(gone, abs=3.0)
    await asyncio.sleep(15.0)
    assert not ramp.done or ramp.success
    await ramp
    await asyncio.sleep(30.0)
    assert wire.world.temperature == pytest.approx(75.0, abs=0.5)


async def test_a_ramp_left_early_leaves_the_setpoint_where_the_temperature_is(
    bench: tuple[OxfordItc503, Wire],
) -> None:
    stage, wire = bench
    async with stage.ramp(to=200.0, rate=1.0):
        await asyncio.sleep(20.0)
    left = wire.world.temperature
    assert await stage.setpoint.get() == pytest.approx(left, abs=0.3)
    await asyncio.sleep(30.0)
    assert wire.world.temperature == pytest.approx(left, abs=3.0)


async def test_a_running_sweep_is_stopped_before_a_ramp(bench: tuple[OxfordItc503, Wire]) -> None:
    stage, wire = bench
    talk(wire.emulator, b"$x1\r$y1\rs500\r$y2\rs10\rS1\r")
    await stage.ramp(to=40.0, rate=1.0)
    assert wire.emulator.step == 0
    assert await stage.setpoint.get() == pytest.approx(40.0, abs=0.1)


async def test_off_leaves_the_gas_as_it_was_and_begins_with_remote(bench: tuple[OxfordItc503, Wire]) -> None:
    stage, wire = bench
    talk(wire.emulator, b"A2\r")
    await stage.ramp(to=40.0, rate=1.0)
    assert talk(wire.emulator, b"X\r").startswith(b"X0A3")
    talk(wire.emulator, b"C2\r")  # somebody pressed LOC
    wire.forget()
    await stage.off()
    assert wire.sent == [b"C3\r", b"X\r", b"A2\r", b"O0\r", b"X\r", b"R5\r"]
    await asyncio.sleep(5.0)
    assert wire.world.power == 0


async def test_in_local_control_a_ramp_is_refused_with_its_reason(bench: tuple[OxfordItc503, Wire]) -> None:
    stage, wire = bench
    talk(wire.emulator, b"C2\r")
    with pytest.raises(Refused, match=r"stage: 'S0' was refused .*local control"):
        await stage.ramp(to=40.0, rate=1.0)


async def test_a_heater_on_another_sensor_is_not_ramped(bench: tuple[OxfordItc503, Wire]) -> None:
    stage, wire = bench
    talk(wire.emulator, b"H2\r")
    with pytest.raises(Refused, match="controlled by sensor 2, not by 1"):
        await stage.ramp(to=40.0, rate=1.0)
    assert talk(wire.emulator, b"R0\r") == b"R0.0\r"


async def test_a_heater_that_stays_on_is_said_aloud(bench: tuple[OxfordItc503, Wire]) -> None:
    stage, wire = bench
    await stage.ramp(to=60.0, rate=2.0)
    assert wire.emulator.output > 0
    wire.emulator._heat = lambda percent: None  # its output has hung; it still talks
    with pytest.raises(Refused, match=r"still at .* %; switch it off at the front panel"):
        await stage.safe_state()


@pytest.mark.parametrize(("to", "rate"), [(1405.0, 1.0), (-274.0, 1.0), (float("nan"), 1.0), (50.0, 0.0), (50.0, 2.1)])
async def test_what_is_beyond_the_limits_never_reaches_the_wire(
    bench: tuple[OxfordItc503, Wire], to: float, rate: float
) -> None:
    stage, wire = bench
    with pytest.raises(LimitError):
        stage.ramp(to=to, rate=rate)
    assert wire.sent == []


async def test_two_share_a_line_by_their_addresses() -> None:
    async with wired(OxfordItc503, name="stage", unit=3) as (stage, wire):
        await stage.setpoint.set(40.0)
        assert wire.sent == [b"@3T313.15\r", b"@3R0\r"]
        with pytest.raises(ConfigError, match="no ISOBUS address"):
            OxfordItc503(stage.session, "other", unit=10)
    with pytest.raises(NoReply):
        async with wired(OxfordItc503, unit=3, emulator=OxfordItc503Emulator(World(), unit=4)):
            pass


async def test_another_oxford_instrument_is_not_taken_for_an_itc() -> None:
    emulator = OxfordItc503Emulator(World())
    emulator.respond = lambda message: b"ILM200 Version 1.06 (c) OXFORD 1994"  # type: ignore[method-assign]
    with pytest.raises(WrongInstrument, match="stage: expected an Oxford ITC503, found 'ILM200"):
        async with wired(OxfordItc503, name="stage", emulator=emulator):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_it_heats_over_a_pseudo_terminal() -> None:
    world = World()
    port = await PtyPort(Bench(world).wire([OxfordItc503Emulator(world)], "serial")).open()
    context = Context(Timebase.system())
    link = SerialLink(port.path, SerialSettings(9600, 8, "N", 2))
    session = Session(link, OxfordItc503.framing("serial"), timebase=context.timebase, gate=context.gate, timeout=1.0)
    stage = OxfordItc503(session, "stage", context=context)
    try:
        await stage.connect()
        assert stage.identity.startswith("ITC503")
        await asyncio.wait_for(stage.ramp(to=27.0, rate=2.0), 20)
        assert world.temperature == pytest.approx(27.0, abs=1.5)
        await stage.off()
        assert world.power == 0
    finally:
        await context.close()
        await stage.disconnect()
        await port.close()
