"""Pfeiffer gauge controllers: the two-step answers, units that change, and gauges that can't see."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.pfeiffer_tpg36x import codec
from devices.pfeiffer_tpg36x.codec import ControllerEnd, Identity, Measurement
from devices.pfeiffer_tpg36x.driver import PfeifferTpg36x
from devices.pfeiffer_tpg36x.emulator import PfeifferTpg36xEmulator
from devices.physics import World
from hal.capabilities import Gauge
from hal.clock.timebase import Timebase
from hal.errors import ConfigError, LimitError, NoReply, ProtocolError, Refused, WrongInstrument
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort, TcpPort
from hal.model.capabilities import lacking
from hal.model.context import Context
from hal.model.reading import Quality
from hal.testing import wired
from hal.transport.memory import MemoryLink
from hal.transport.serial import SerialLink
from hal.transport.session import Session
from hal.transport.tcp import TcpLink


def talk(emulator: PfeifferTpg36xEmulator, said: bytes) -> bytes:
    """Everything the controller sends back."""
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


class Still(World):
    """A world in which nothing happens."""

    def advance(self, dt: float) -> None:
        pass


# ---------------------------------------------------------------------- the manual's transcripts


@pytest.fixture
def controller():
    return PfeifferTpg36xEmulator(Still(pressure=2.3e-3), noise=0.0)


def test_a_measurement_is_acknowledged_and_then_enquired_as_in_the_manual(controller):
    """BG 5500 BEN, section 1.14: PR1 CR LF -> ACK CR LF; ENQ -> status and pressure."""
    assert talk(controller, b"PR1\r\n") == b"\x06\r\n"
    assert talk(controller, b"\x05") == b"0,+2.3000E-05\r\n"


def test_the_identity_is_that_of_the_manual(controller):
    """BG 5500 BEN, section 1.13.1."""
    assert talk(controller, b"AYT\r\n\x05") == b"\x06\r\nTPG362,PTG28290,44998061,010100,010100\r\n"


def test_what_it_does_not_know_is_refused_and_then_explained(controller):
    assert talk(controller, b"XYZ\r\n") == b"\x15\r\n"
    assert talk(controller, b"\x05") == b"0001\r\n"
    assert talk(controller, b"UNI,9\r\nERR\r\n\x05") == b"\x15\r\n\x06\r\n0010\r\n"
    assert talk(controller, b"\x05") == b"0000\r\n"


@pytest.mark.parametrize("said", [b"PR1\r\n\x05\r\n", b"PR1\r\x05", b"pr 1\n\x05", b"gar\x03PR1\r\n\x05"])
def test_it_takes_what_other_peoples_drivers_send(controller, said):
    assert talk(controller, said) == b"\x06\r\n0,+2.3000E-05\r\n"


def test_a_space_in_a_setting_is_ignored(controller):
    assert talk(controller, b"UNI, 0\r\n\x05") == b"\x06\r\n0\r\n"


def test_an_enquiry_repeated_brings_the_next_measurement(controller):
    talk(controller, b"PR1\r\n\x05")
    controller.world.pressure = 4.6e-3
    controller.advance(0.1)
    assert talk(controller, b"\x05") == b"0,+4.6000E-05\r\n"


def enquired(emulator: PfeifferTpg36xEmulator, said: bytes) -> bytes:
    return talk(emulator, said) + talk(emulator, b"\x05")


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        # pylablib 1.4, TPG260
        (b"BAU\r\n", b"0"), (b"UNI, 2\r\n", b"2"), (b"SCT,1\r\n", b"1"), (b"DCD,3\r\n", b"3"), (b"FIL\r\n", b"1,1"),
        (b"FIL,2,1\r\n", b"2,1"), (b"CAL\r\n", b"1.000,1.000"), (b"CAL,1.5,1.0\r\n", b"1.500,1.000"),
        (b"SP1\r\n", b"0,1.0000E-04,1.0000E-03"), (b"SP2,1,1e-05,2e-05\r\n", b"1,1.0000E-05,2.0000E-05"),
        (b"SPS\r\n", b"1,1,1,1"), (b"SC1,2,2,1e-05,0.0001\r\n", b"2,2,1.0000E-05,1.0000E-04"), (b"RES\r\n", b"0"),
        (b"RES,1\r\n", b"0"), (b"SEN\r\n", b"2,2"), (b"SEN,1,0\r\n", b"1,2"),
        # the manual's refusals
        (b"SP1,1,2e-5,1e-5\r\n", b"0010"), (b"FIL,4,1\r\n", b"0010"), (b"FIL,1\r\n", b"0010"), (b"FOL,2\r\n", b"0001"),
    ],
)  # fmt: skip
def test_a_tpg_262_keeps_what_pylablib_sets(said, answered):
    old = PfeifferTpg36xEmulator(Still(pressure=2.3e-3), model="TPG262", noise=0.0)
    mark = b"\x15" if answered in (b"0010", b"0001") else b"\x06"
    assert enquired(old, said) == mark + b"\r\n" + answered + b"\r\n"


def test_an_enquiry_without_a_question_brings_the_error_word(controller):
    """tina96e1 (VGC501 to 503), page 67."""
    assert talk(controller, b"\x05") == b"0000\r\n"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"UNI,0", b"0"), (b"DCB,0,12", b"0,12"), (b"SAV,1", b"0000"), (b"SEN", b"2,2,0,0,0,0"),
        (b"SEN,0,1,0,0,0,0", b"2,1,0,0,0,0"), (b"TID", b"PKR,PKR,noSEn,noSEn,noSEn,noSEn"),
        (b"CID,CELL,COLUMN,X,X,X,LAST_ONE", b"CELL____,COLUMN__,X_______,X_______,X_______,LAST_ONE"),
        (b"GAS,1,0,0,0,0,2", b"1,0,0,0,0,2"), (b"SPS", b"1,1,1,1,1,1"),
        (b"SP2,0,1.0000E-06,2.0000E-06", b"0,1.0000E-06,2.0000E-06"),
    ],
)  # fmt: skip
def test_a_tpg_366_on_a_bus_answers_what_a_synchrotron_asks(said, answered):
    """paulscherrerinstitute/TPG366, ``TPG366.proto``: an address before each mnemonic, ENQ bare."""
    controller = PfeifferTpg36xEmulator(World(), model="TPG366", unit=3, noise=0.0, shown="mbar")
    assert talk(controller, b"\x1b03" + said + b"\r\x05") == b"\x06\r\n" + answered + b"\r\n"


def test_on_a_bus_another_address_and_its_enquiry_are_left_alone():
    controller = PfeifferTpg36xEmulator(World(), model="TPG366", unit=3)
    assert talk(controller, b"\x1b04UNI\r\x05") == b""
    assert talk(controller, b"\x1b03UNI\r\x05") == b"\x06\r\n4\r\n"


def test_a_maxigauge_tells_all_six_and_says_which_cannot_be_switched():
    """tpg366-ioc 0.1.1: PRX; labmcp-pfeiffer-tpg 0.1.2: SEN 0 where nothing can be switched."""
    six = PfeifferTpg36xEmulator(Still(pressure=2.3e-3), model="TPG366", noise=0.0)
    assert enquired(six, b"PRX\r").count(b",") == 11
    assert enquired(six, b"SEN\r") == b"\x06\r\n2,2,0,0,0,0\r\n"


def test_a_switching_function_has_hysteresis(controller):
    talk(controller, b"SP1,0,1e-4,1e-3\r")
    for pascal, on in ((5e-3, True), (5e-2, True), (0.2, False), (5e-2, False)):
        controller.world.pressure = pascal
        controller.advance(0.1)
        assert enquired(controller, b"SPS\r")[3:4] == b"%d" % on


def test_the_continuous_output_lasts_until_something_is_said(controller):
    """BG 5500 BEN, section 1.5.1: ACK, at once a line, and one every interval."""
    assert talk(controller, b"COM,0\r") == b"\x06\r\n"
    for _ in range(50):
        controller.advance(0.01)
    lines = controller.unasked()
    assert len(lines) == 5
    assert lines[0].startswith(b"0,+2.3000E-05,")
    talk(controller, b"\x03")
    controller.advance(1.0)
    assert not controller.talking


def test_just_switched_on_it_talks_every_second_until_the_first_character():
    """labmcp-pfeiffer-tpg 0.1.2, after the manual."""
    fresh = PfeifferTpg36xEmulator(Still(pressure=2.3e-3), noise=0.0, fresh=True)
    for _ in range(300):
        fresh.advance(0.01)
    assert len(fresh.unasked()) == 3
    assert talk(fresh, b"\x03") == b""
    assert not fresh.talking


def test_an_old_tpg_262_knows_neither_ayt_nor_hectopascals():
    old = PfeifferTpg36xEmulator(Still(), model="TPG262")
    assert talk(old, b"AYT\r\nUNI,4\r\nUNI,2\r\n") == b"\x15\r\n\x15\r\n\x06\r\n"


# ---------------------------------------------------------------------- the codec, both directions

PRESSURES = st.floats(1e-12, 1e6) | st.floats(-1e3, -1e-6)


@given(st.lists(st.tuples(st.integers(0, 6), PRESSURES), min_size=1, max_size=6))
def test_measurements_come_back_with_five_digits(pairs):
    back = codec.decode_measurements(codec.encode_measurements([Measurement(s, v) for s, v in pairs]))
    assert [m.status for m in back] == [s for s, _ in pairs]
    assert [m.value for m in back] == pytest.approx([v for _, v in pairs], rel=6e-5)


@given(st.lists(st.text(st.characters(categories=["Lu", "Nd"], max_codepoint=127)), min_size=5, max_size=5))
def test_identities_come_back(fields):
    assert Identity.decode(Identity(*fields).encode()) == Identity(*fields)


@pytest.mark.parametrize("data", ["", "0", "7,+1.0E-3", "0,+1.0E-3,1", "TPG362,X,1,2,3", "0,abc"])
def test_what_is_no_measurement_is_not_made_one(data):
    with pytest.raises(ValueError):
        codec.decode_measurements(data)


@given(st.binary(max_size=60))
def test_no_bytes_whatever_upset_the_controller(noise):
    emulator = PfeifferTpg36xEmulator(Still())
    framing = ControllerEnd()
    for message in framing.feed(noise + b"\x03AYT\r\n\x05"):
        reply = emulator.respond(message)
    assert reply is not None
    assert reply.startswith(b"TPG362")


# ---------------------------------------------------------------------- one gauge


@pytest.fixture
async def bench():
    async with wired("pfeiffer_tpg36x", name="gauge", world=Still(pressure=2.3), channel=1) as (gauge, wire):
        yield gauge, wire


async def test_it_is_a_gauge_and_says_who_it_is(bench):
    gauge, _ = bench
    assert lacking(gauge, Gauge) == []
    assert gauge.identity == "Pfeiffer TPG362, 44998061, firmware 010100"
    assert await gauge.gauge.get() == "PKR"


@pytest.mark.parametrize("shown", ["mbar", "Torr", "Pa", "micron", "hPa"])
async def test_pressure_is_in_pascals_whatever_the_controller_shows(shown):
    async with wired("pfeiffer_tpg36x", world=Still(pressure=2.3), shown=shown, noise=0.0) as (gauge, _):
        assert await gauge.pressure.get() == pytest.approx(2.3, rel=1e-4)


async def test_a_unit_changed_at_the_front_panel_costs_one_reading_and_falsifies_none(bench):
    gauge, wire = bench
    wire.emulator.unit = 2
    with pytest.raises(ProtocolError, match=r"gauge: the unit was changed from hPa to Pa .*discarded"):
        await gauge.pressure.get()
    assert await gauge.pressure.get() == pytest.approx(2.3, rel=0.03)


async def test_volts_are_no_pressure(bench):
    gauge, wire = bench
    wire.emulator.unit = codec.VOLT
    with pytest.raises(ProtocolError):
        await gauge.pressure.get()
    reading = await gauge.pressure.read()
    assert (reading.value, reading.quality) == (None, Quality.BAD)
    assert "volts; choose a unit" in reading.reason


async def test_under_range_is_a_value_that_may_be_anything_below(bench):
    gauge, wire = bench
    wire.emulator.faults[1] = codec.UNDER
    wire.emulator.advance(0.1)
    reading = await gauge.pressure.read()
    assert reading.quality is Quality.UNCERTAIN
    assert reading.uncertainty == reading.value
    assert "under range" in reading.reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [(codec.OVER, "over range"), (codec.ERROR, "sensor error"), (codec.OFF, "is off"), (codec.NONE, "no sensor"),
     (codec.UNIDENTIFIED, "identified")],
)  # fmt: skip
async def test_a_gauge_that_does_not_see_gives_no_value_and_says_why(bench, status, reason):
    gauge, wire = bench
    wire.emulator.faults[1] = status
    wire.emulator.advance(0.1)
    reading = await gauge.pressure.read()
    assert (reading.value, reading.quality) == (None, Quality.BAD)
    assert reason in reading.reason


async def test_atmosphere_is_over_range_and_never_a_pressure_that_is_kept():
    async with wired("pfeiffer_tpg36x", world=Still(pressure=1.2e5)) as (gauge, _):
        assert (await gauge.pressure.read()).value is None


async def test_readings_scatter_as_declared(bench):
    gauge, wire = bench
    inside = 0
    for _ in range(300):
        await asyncio.sleep(0.06)
        reading = await gauge.pressure.read()
        inside += abs(reading.value - wire.world.pressure) < 2 * reading.uncertainty
    assert 0.92 < inside / 300 < 0.985


async def test_pressures_can_only_be_read(bench):
    gauge, wire = bench
    with pytest.raises(LimitError):
        await gauge.pressure.at.put(gauge, 1.0)
    assert not wire.sent


# ---------------------------------------------------------------------- a bad line


async def test_the_enquiry_follows_the_acknowledgement_and_nothing_comes_between(bench):
    gauge, wire = bench
    await asyncio.gather(gauge.pressure.get(), gauge.gauge.get(), gauge.pressure.get())
    assert wire.sent[1::2] == [b"\x05"] * (len(wire.sent) // 2)
    assert b"\x05" not in wire.sent[0::2]


@pytest.mark.parametrize("lost_at", [0.0, 0.012])
async def test_a_lost_half_of_an_answer_is_asked_for_again(bench, lost_at):
    gauge, wire = bench
    if lost_at == 0.0:
        wire.faults.drop = 1.0
    reading = asyncio.ensure_future(gauge.pressure.read())
    await asyncio.sleep(lost_at)
    wire.faults.drop = 1.0
    await asyncio.sleep(0.3)
    wire.faults.drop = 0.0
    assert (await reading).value == pytest.approx(2.3, rel=0.03)


async def test_late_halves_of_older_answers_are_passed_over(bench):
    gauge, wire = bench
    for delay in (0.25, 0.45, 0.6, 0.8):
        wire.faults.delay = delay
        tid = asyncio.ensure_future(gauge.gauge.read())
        await asyncio.sleep(0.2)
        tid.cancel()
        await asyncio.sleep(0.1)
        wire.faults.delay = 0.0
        assert await gauge.pressure.get() == pytest.approx(2.3, rel=0.03)
        assert await gauge.gauge.get() == "PKR"


async def test_a_cancelled_enquiry_leaves_nothing_behind(bench):
    gauge, _ = bench
    for after in (0.004, 0.009, 0.012, 0.02, 0.03):
        tid = asyncio.ensure_future(gauge.gauge.read())
        await asyncio.sleep(after)
        tid.cancel()
        assert await gauge.pressure.get() == pytest.approx(2.3, rel=0.03)


async def test_lines_that_the_controller_sends_unasked_are_passed_over(bench):
    gauge, wire = bench
    reading = asyncio.ensure_future(gauge.pressure.read())
    await asyncio.sleep(0.001)
    wire._link._inbox.feed(b"0,+9.9900E+02,0,+9.9900E+02\r\n")  # the continuous output after power-up
    assert (await reading).value == pytest.approx(2.3, rel=0.03)


async def test_a_refusal_says_what_was_refused(bench):
    gauge, wire = bench
    wire.emulator.respond = lambda message: codec.NAK
    with pytest.raises(Refused, match=r"gauge: PRX was refused .NAK.*"):
        await gauge.pressure.get()


# ---------------------------------------------------------------------- opening


async def test_an_input_that_the_model_lacks_is_refused_at_opening():
    with pytest.raises(WrongInstrument, match=r"channel = 2, and a TPG361 has 1; check `channel`"):
        async with wired("pfeiffer_tpg36x", name="gauge", channel=2, model="TPG361"):
            pass


async def test_another_instrument_is_not_taken_for_a_gauge():
    emulator = PfeifferTpg36xEmulator(World(), model="TPG500")
    emulator.modern = True
    with pytest.raises(WrongInstrument, match=r"expected a TPG 361, 362 or 366, found 'TPG500"):
        async with wired("pfeiffer_tpg36x", name="gauge", emulator=emulator):
            pass


async def test_an_old_tpg_262_works_as_well():
    async with wired("pfeiffer_tpg36x", world=Still(pressure=2.3), model="TPG262") as (gauge, _):
        assert gauge.identity == "Pfeiffer TPG 26x, firmware 302-510-A"
        assert await gauge.pressure.get() == pytest.approx(2.3, rel=0.03)


@pytest.mark.parametrize("channel", [0, 7, "A"])
async def test_an_impossible_input_is_a_mistake_in_the_lab_file(channel):
    with pytest.raises(ConfigError, match=r"is no input; give 1 to 6"):
        async with wired("pfeiffer_tpg36x", channel=channel, emulator=PfeifferTpg36xEmulator(World())):
            pass


async def test_a_dead_controller_is_named(bench):
    gauge, wire = bench
    wire.faults.frozen = True
    with pytest.raises(NoReply, match=r"gauge: no reply to b'AYT'"):
        await gauge.identify()


# ---------------------------------------------------------------------- two gauges, one controller


@asynccontextmanager
async def pair():
    world = World()
    link = MemoryLink(Bench(world).wire([PfeifferTpg36xEmulator(world)], "serial"))
    context = Context(Timebase.of_loop(asyncio.get_running_loop().time), Gate())
    session = Session(link, PfeifferTpg36x.framing("serial"), timebase=context.timebase, gate=context.gate)
    gauges = [PfeifferTpg36x(session, name, channel=n, context=context) for name, n in (("cell", 1), ("column", 2))]
    for gauge in gauges:
        await gauge.connect()
    link.sent.clear()
    try:
        yield gauges, link, world
    finally:
        await context.close()
        for gauge in gauges:
            await gauge.disconnect()


async def test_two_gauges_on_one_controller_share_one_question():
    async with pair() as ((cell, column), link, world):
        seen = {}
        cell.pressure.subscribe(lambda reading: seen.setdefault("cell", reading))
        column.pressure.subscribe(lambda reading: seen.setdefault("column", reading))
        await asyncio.sleep(0.1)
        assert link.sent.count(b"PRX\r\n") == 1
        assert seen["cell"].value == pytest.approx(world.pressure, rel=0.03)
        assert seen["column"].value == pytest.approx(world.column, rel=0.03)


async def test_a_burst_window_is_seen_on_the_column():
    async with pair() as ((_, column), _, world):
        world.leak = 5e-2
        await asyncio.sleep(0.1)
        assert await column.pressure.get() == pytest.approx(5e-2, rel=0.03)


# ---------------------------------------------------------------------- real wires


@pytest.mark.real_clock
@pytest.mark.parametrize("scheme", ["serial", "tcp"])
async def test_on_a_real_wire_the_pressure_is_read(scheme):
    world = Still(pressure=2.3)
    wire = Bench(world).wire([PfeifferTpg36xEmulator(world)], scheme)
    if scheme == "serial":
        port = await PtyPort(wire).open()
        link = SerialLink(port.path, PfeifferTpg36x.line)
    else:
        port = await TcpPort(wire).open()
        link = TcpLink("127.0.0.1", port.port)
    context = Context()
    gauge = PfeifferTpg36x(
        Session(link, PfeifferTpg36x.framing(scheme), timebase=context.timebase), "gauge", context=context
    )
    try:
        await gauge.connect()
        assert await gauge.pressure.get() == pytest.approx(2.3, rel=0.03)
    finally:
        await context.close()
        await gauge.disconnect()
        await port.close()
