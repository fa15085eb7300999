"""Linkam T95: ten bytes that tell everything, orders that are answered by nothing, ramps of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.linkam_t95 import codec
from devices.linkam_t95.codec import Report
from devices.linkam_t95.driver import LinkamT95
from devices.linkam_t95.emulator import LinkamT95Emulator
from devices.physics import World
from hal.clock.timebase import Timebase
from hal.errors import LimitError, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.context import Context
from hal.model.reading import Quality
from hal.testing import Wire, wired
from hal.transport.link import SerialSettings
from hal.transport.serial import SerialLink
from hal.transport.session import Session


@pytest.fixture
async def bench() -> AsyncIterator[tuple[LinkamT95, Wire]]:
    async with wired(LinkamT95, name="stage") as (stage, wire):
        yield stage, wire


def talk(emulator: LinkamT95Emulator, said: bytes) -> bytes:
    """Everything the controller sends back."""
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


# ---------------------------------------------------------------------- the wire


def test_a_report_reads_as_in_lewis() -> None:
    # Lewis's linkam_t95: stopped at 24.0 degC, pump standing.
    assert Report.decode(b"\x01\x80\x80\x80\x80\x8000f0") == Report(codec.STOPPED, 0, 0, 24.0)
    assert Report(codec.STOPPED, 0, 0, 24.0).encode() == b"\x01\x80\x80\x80\x80\x8000f0"
    assert Report.decode(b"\x20\x81\x9e\x80\x80\x80FF9c") == Report(codec.COOLING, codec.TOO_FAST, 30, -10.0)


TENTHS = st.integers(-1960, 15000).map(lambda tenths: tenths / 10)
REPORTS = st.builds(
    Report, st.sampled_from(sorted(codec.STATES)), st.integers(0, 127), st.integers(0, 30), TENTHS, st.booleans()
)


@given(REPORTS)
def test_a_report_comes_back_and_its_end_is_never_inside_it(report: Report) -> None:
    assert Report.decode(report.encode()) == report
    assert b"\r" not in report.encode()


@given(st.binary(max_size=12))
def test_what_is_no_report_is_said_to_be_none(reply: bytes) -> None:
    if codec.is_report(reply):
        assert len(reply) == 10
        assert reply[0] in codec.STATES
    else:
        with pytest.raises(ValueError):
            Report.decode(reply)


def test_rates_are_hundredths_a_minute_and_limits_tenths() -> None:
    assert codec.encode_rate(1.0) == b"R16000"
    assert codec.encode_rate(150.0 / 60) == b"R115000"
    assert codec.encode_limit(600.0) == b"L16000"
    assert codec.encode_limit(-12.3) == b"L1-123"


def test_orders_are_answered_by_a_bare_cr_and_nothing_counts_before_the_first_t() -> None:
    stage = LinkamT95Emulator(World())
    assert talk(stage, b"R16000\rL11000\rS\r") == b"\r\r\r"
    assert talk(stage, b"T\r")[0] == codec.STOPPED
    assert talk(stage, b"R16000\rL11000\rS\r") == b"\r\r\r"
    assert talk(stage, b"T\r")[0] == codec.HEATING


@pytest.mark.parametrize(
    "said", [b"L16001", b"L1-1961", b"L1", b"L1x", b"R10", b"R115001", b"R1-5", b"L2500", b"s", b""]
)
def test_what_it_can_not_do_changes_nothing(said: bytes) -> None:
    stage = LinkamT95Emulator(World())
    assert talk(stage, b"T\r" + said + b"\r").endswith(b"\r\r")
    assert (stage.limit, stage.rate, stage.state) == (25.0, 5.0, codec.STOPPED)


def test_the_pump_takes_its_31_speeds_by_hand_only() -> None:
    stage = LinkamT95Emulator(World())
    talk(stage, b"T\rPN\r")
    assert stage.pump == 0
    assert talk(stage, b"Pm0\rPN\rT\r")[4] == 0x80 + 30
    assert talk(stage, b"P0\rT\r")[3] == 0x80


def test_it_is_started_as_another_program_does() -> None:
    """LinkamController of N. Borys (2017), bytes of its constructor and `start`; it takes 64 from the pump's byte."""
    stage = LinkamT95Emulator(World())
    said = b"Pa0\rR11000\rP0\rL1250\r"  # its constructor does not begin with T, so that this is lost
    assert talk(stage, said) == b"\r\r\r\r"
    assert talk(stage, b"T\r")[2] == 0x80
    assert talk(stage, said + b"L1320\rS\r") == b"\r" * 6
    report = talk(stage, b"T\r")
    assert (report[0], report[2]) == (codec.HEATING, 0x80 + 64)
    assert Report.decode(report[:-1]).pump == 0


# ---------------------------------------------------------------------- behaviour


async def test_a_ramp_follows_its_rate_and_holds_at_its_limit(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    ramp = stage.ramp(to=85.0, rate=1.0)
    await asyncio.sleep(30.0)
    assert wire.world.temperature == pytest.approx(25 + 29, abs=3)
    assert await stage.state.get() == "heating"
    await ramp
    assert await stage.state.get() == "holding at limit"
    await asyncio.sleep(10.0)
    assert wire.world.temperature == pytest.approx(85.0, abs=0.5)
    assert await stage.setpoint.get() == 85.0
    assert await stage.ramp_rate.get() == 1.0


async def test_a_ramp_left_early_holds_and_the_next_one_goes_on_from_there(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    async with stage.ramp(to=300.0, rate=2.0):
        await asyncio.sleep(20.0)
    left = wire.world.temperature
    assert await stage.state.get() == "holding"
    await asyncio.sleep(20.0)
    assert wire.world.temperature == pytest.approx(left, abs=3)
    for to in (left + 20.0, left - 10.0):
        await stage.ramp(to=to, rate=2.0)
        assert wire.world.temperature == pytest.approx(to, abs=1.5)
        await stage.hold()


async def test_a_new_ramp_is_not_taken_for_done_because_the_one_before_was(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    await stage.ramp(to=40.0, rate=2.0)
    began = asyncio.get_running_loop().time()
    await stage.ramp(to=60.0, rate=1.0)
    assert asyncio.get_running_loop().time() - began > 19
    assert wire.world.temperature == pytest.approx(60.0, abs=1.5)


async def test_it_is_started_only_once(bench: tuple[LinkamT95, Wire]) -> None:
    # Lewis keeps a second S and starts by itself after E.
    stage, wire = bench
    await stage.ramp(to=40.0, rate=2.0)
    await stage.ramp(to=50.0, rate=2.0)
    assert wire.sent.count(b"S\r") == 1
    await stage.off()
    await stage.ramp(to=45.0, rate=2.0)
    assert wire.sent.count(b"S\r") == 2


async def test_off_sends_one_order_and_makes_sure(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    await stage.ramp(to=60.0, rate=2.0)
    wire.forget()
    await stage.off()
    assert wire.sent[0] == b"E\r"
    assert b"T\r" in wire.sent
    await asyncio.sleep(1.0)
    assert wire.world.power == 0
    await stage.hold()
    assert await stage.state.get() == "stopped"


async def test_a_controller_that_does_not_stop_is_said_aloud(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    await stage.ramp(to=60.0, rate=2.0)
    wire.emulator._obey = lambda command: None  # it answers and does nothing
    with pytest.raises(Refused, match=r"stage: it does not stop; switch it off by hand \(it is holding at limit"):
        await stage.safe_state()


async def test_a_limit_the_stage_did_not_take_is_found_out(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    wire.emulator.hottest = 80.0
    await stage.ramp(to=50.0, rate=2.0)
    with pytest.raises(Refused, match=r"it holds at 50.*, not at 120; can the stage go there"):
        await stage.ramp(to=120.0, rate=2.0)


async def test_a_ramp_ended_at_the_controller_is_no_success(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    ramp = stage.ramp(to=300.0, rate=1.0)
    await asyncio.sleep(10.0)
    talk(wire.emulator, b"E\r")
    with pytest.raises(Refused, match="ended at the controller, which is now stopped"):
        await ramp


async def test_an_open_sensor_is_no_temperature_and_no_ramp(bench: tuple[LinkamT95, Wire]) -> None:
    stage, wire = bench
    wire.emulator.connected = False
    reading = await stage.temperature.read()
    assert reading.value is None
    assert reading.quality is Quality.BAD
    assert "no stage is connected" in reading.reason
    with pytest.raises(Refused, match="no stage is connected"):
        await stage.ramp(to=60.0, rate=1.0)
    assert b"S\r" not in wire.sent


@pytest.mark.parametrize(
    ("to", "rate"), [(1501.0, 1.0), (-197.0, 1.0), (float("nan"), 1.0), (50.0, 0.0), (50.0, 2.6), (50.0, 0.00025)]
)
async def test_what_is_beyond_the_limits_never_reaches_the_wire(
    bench: tuple[LinkamT95, Wire], to: float, rate: float
) -> None:
    stage, wire = bench
    with pytest.raises(LimitError):
        stage.ramp(to=to, rate=rate)
    assert wire.sent == []


async def test_another_instrument_is_not_taken_for_a_t95() -> None:
    emulator: Any = LinkamT95Emulator(World())
    emulator.respond = lambda message: b"?T"
    with pytest.raises(WrongInstrument, match=r"expected a Linkam T95, got b'\?T'"):
        async with wired(LinkamT95, emulator=emulator):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_it_heats_over_a_pseudo_terminal() -> None:
    world = World()
    port = await PtyPort(Bench(world).wire([LinkamT95Emulator(world)], "serial")).open()
    context = Context(Timebase.system())
    link = SerialLink(port.path, SerialSettings(19200))
    session = Session(
        link, LinkamT95.framing("serial"), timebase=context.timebase, gate=context.gate, timeout=1.0,
    )  # fmt: skip
    stage = LinkamT95(session, "stage", context=context)
    try:
        await stage.connect()
        await asyncio.wait_for(stage.ramp(to=27.0, rate=2.5), 20)
        assert world.temperature == pytest.approx(27.0, abs=1.0)
        await stage.off()
        await stage.temperature.get()
        assert world.power == 0
    finally:
        await context.close()
        await stage.disconnect()
        await port.close()
