"""The MKS 937B: messages of its manual, units that change, and words that are no pressure."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.mks_937b import codec
from devices.mks_937b.codec import Pressure, Reply, Request
from devices.mks_937b.driver import Mks937b
from devices.mks_937b.emulator import Mks937bEmulator
from devices.physics import World
from hal.capabilities import Gauge
from hal.errors import ConfigError, NoReply, ProtocolError, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.capabilities import lacking
from hal.model.context import Context
from hal.model.reading import Quality
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session


def talk(emulator: Mks937bEmulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


@pytest.fixture
def far():
    return Mks937bEmulator(World(pressure=101325 / 760), noise=0.0)


@pytest.fixture
async def bench():
    async with wired(Mks937b, name="gauge") as (gauge, wire):
        yield gauge, wire


def test_the_manuals_examples():
    """Sections 9.2, and 2.3.3 of zeros that fill a place."""
    assert codec.framing().encode(Request(3, "PR", 1).encode()) == b"@003PR1?;FF"
    assert codec.decode_pressure(Reply.decode(b"@003ACK7.602E+2").data) == Pressure(760.2, step=0.1)
    assert codec.decode_pressure("1.20E-07") == Pressure(1.2e-7, step=1e-8)
    assert codec.decode_pressure("1.23E-07") == Pressure(1.23e-7, step=1e-9)
    assert codec.encode_pressure(760.2) == "7.602E+2"
    assert Request.decode(b"@001BR!19200") == Request(1, "BR", None, "19200")


@given(st.floats(1e-12, 1e6))
def test_pressures_survive_the_wire_to_four_digits(pressure):
    assert codec.decode_pressure(codec.encode_pressure(pressure)).value == pytest.approx(pressure, rel=5.1e-4)


@given(st.binary(max_size=60))
def test_no_bytes_whatever_upset_the_controller(noise):
    talk(Mks937bEmulator(World()), noise + b";FF@253" + noise + b";FF")


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        # what pymeasure 0.16 sends
        (b"@253PR1?;FF", b"@253ACK1.000E+0;FF"), (b"@253PR2?;FF", b"@253ACKNO_GAUGE;FF"),
        (b"@253U!mBAR;FF", b"@253ACKmBAR;FF"), (b"@253T3?;FF", b"@253ACKG;FF"), (b"@253T1?;FF", b"@253NAK152;FF"),
        (b"@253CP3!OFF;FF@253PR3?;FF@253T3?;FF", b"@253ACKOFF;FF@253ACKOFF;FF@253ACKO;FF"),
        (b"@253SP1!0.02;FF@253SP1?;FF", b"@253ACK2.00E-02;FF@253ACK2.00E-02;FF"),
        (b"@253EN1!SET;FF@253SS1?;FF", b"@253ACKSET;FF@253ACKSET;FF"), (b"@253SN?;FF", b"@253ACK1234567890;FF"),
        # what PyExpLabSys sends, and what strangers do
        (b"@254PR1?;FF", b"@253ACK1.000E+0;FF"), (b"@253pr1?;FF", b"@253ACK1.000E+0;FF"), (b"@001PR1?;FF", b""),
        (b"rubbish@253PR1?;FF", b"@253ACK1.000E+0;FF"), (b"@253XYZ?;FF", b"@253NAK160;FF"),
        (b"@253PR7?;FF", b"@253NAK163;FF"), (b"@253PR1!5;FF", b"@253NAK175;FF"), (b"@253U!BAR;FF", b"@253NAK169;FF"),
        (b"@253BR!19200;FF", b"@253ACK19200;FF"),
    ],
)  # fmt: skip
def test_it_answers_open_drivers_and_refuses_by_code(far, said, answered):
    assert talk(far, said) == answered


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"@253MT?;FF", b"@253ACKCM,CC,NC,NA;FF"), (b"@253FV3?;FF", b"@253ACK1.11;FF"),
        (b"@253SSA?;FF", b"@253ACK000000000000;FF"),
        (b"@253EN3!SET;FF@253SSA?;FF", b"@253ACKSET;FF@253ACK001000000000;FF"),
        (b"@253DLY!5;FF", b"@253ACK5;FF"), (b"@253DLY!0;FF", b"@253NAK172;FF"), (b"@254SEM!TXT;FF", b"@253ACKTXT;FF"),
        (b"@253LOCK!ON;FF", b"@253ACKON;FF"), (b"@253PRO3?;FF", b"@253ACK5.00E-03;FF"),
        (b"@253PRO3!2.00E-03;FF@253PRO3?;FF", b"@253ACK2.00E-03;FF@253ACK2.00E-03;FF"),
        (b"@253PRO2?;FF", b"@253NAK152;FF"), (b"@253CSE3!A1;FF", b"@253ACKA1;FF"), (b"@253CTL3?;FF", b"@253ACKOFF;FF"),
        (b"@253CTL3!ON;FF", b"@253NAK169;FF"), (b"@253CHP3!x;FF", b"@253NAK169;FF"), (b"@253VAC1?;FF", b"@253ACKOK;FF"),
        (b"@253AD!7;FF@253AD?;FF@007AD?;FF", b"@253ACK007;FF@007ACK007;FF"), (b"@253U!Micron;FF", b"@253ACKMICRON;FF"),
    ],
)  # fmt: skip
def test_it_answers_what_an_accelerator_asks(far, said, answered):
    """lnls-sirius/streamdevice-ioc, ``mks937b.proto``."""
    assert talk(far, said) == answered


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        # 9.3 and 9.4
        (b"PRZ?", b"ACK1.000E+0 NO_GAUGE 1.20E-06 NO_GAUGE NO_GAUGE NO_GAUGE"), (b"PC1?", b"NAK181"),
        (b"SPC1!A1,NA,B1|EPC1!Enable|PC1?", b"ACKA1,NA,B1|ACKEnable|ACK1.20E-06"),
        (b"SD5!ABOVE", b"NAK162"), (b"SD1!ABOVE|SP1!1|SH1?", b"ACKABOVE|ACK1.00E+00|ACK9.00E-01"),
        (b"SP5!1E-6|SH5?", b"ACK1.00E-06|ACK1.50E-06"), (b"SP5!0", b"ACK2.00E-10"), (b"SP13?", b"NAK163"),
        (b"SP1!-1", b"NAK172"), (b"CP2?|CP2!ON", b"ACKOFF|NAK151"),
        (b"EN2!ENABLE|EN4!SET|ENA?", b"ACKENABLE|ACKSET|ACK020100000000"),
        # 9.5 and 9.6
        (b"RNG1?", b"ACK1.00E+03"), (b"CMT1!diff|BVR1!5u", b"ACKDiff|ACK5U"), (b"RNG3?", b"NAK155"),
        (b"AZ1!B1", b"ACKB1"), (b"PT1?", b"NAK156"), (b"ATZ1!", b"NAK164"),
        # 9.7 and 9.8, with bounds
        (b"UC3!10.1", b"NAK172"), (b"UC3!0.5", b"ACK0.5"), (b"TDC3!2", b"NAK172"), (b"PRO3!0", b"ACK0.00E+00"),
        (b"PRO3!0.5", b"NAK172"), (b"CSP3!1E-3", b"NAK173"),
        (b"CSE3!A1|CSP3!1E-3|CHP3?", b"ACKA1|ACK1.00E-03|ACK1.50E-03"),
        (b"XCS3!ON|CSE3!A1|CSP3!0.9", b"ACKON|ACKA1|ACK9.00E-01"),
        (b"GT3!Argon", b"ACKArgon"), (b"GT3!Custom", b"NAK169"),
        (b"SEN3?", b"NAK153"), (b"DG3!ON", b"NAK153"), (b"FRC3!1E-6", b"ACK1.0E-06"),
        # 9.9 and 9.10
        (b"DF!highr|DM!LRG", b"ACKHighR|ACKLRG"), (b"SST?|SST!10", b"ACKOFF|ACK10"), (b"STA?|STB?", b"ACKCMNG|ACKCCNG"),
        (b"SPM!Disable|U!PASCAL|U?|SPM!Enable", b"ACKDisable|NAK161|ACKTORR|ACKEnable"),
        (b"CAL!Disable|UC3!0.5|VAC1!", b"ACKDisable|NAK178|NAK178"), (b"IU!ON|U?|U!TORR", b"ACKON|ACKPASCAL|NAK182"),
        (b"SEM!TXT|XYZ?|U!BAR", b"ACKTXT|NAKUNRECOGNIZED_MSG|NAKINVALID_ARGUMENT"),
        (b"DLT1!LIN|DLA0?|DLB6?|DLA7?", b"ACKLIN|ACK6.00E-01|ACK7.20E+00|NAK163"), (b"SN4?", b"ACK1100000004"),
        (b"UC3!0.5|FD3!|UC3?", b"ACK0.5|ACKOK|ACK1.0"), (b"LOCK!ON|FDS!|LOCK?", b"ACKON|ACKOK|ACKOFF"),
    ],
)  # fmt: skip
def test_it_has_the_commands_of_its_manual(said, answered):
    far = Mks937bEmulator(World(pressure=101325 / 760, leak=1.08e-5), noise=0.0)
    sent = b"".join(b"@253%b;FF" % one for one in said.split(b"|"))
    assert talk(far, sent) == b"".join(b"@253%b;FF" % one for one in answered.split(b"|"))


def test_a_hot_cathode_is_degassed_where_the_pressure_is_low():
    far = Mks937bEmulator(World(), sensors=("HC",), sees=("column",), noise=0.0)
    assert talk(far, b"@253DGT1!5;FF@253DG1!ON;FF@253T1?;FF") == b"@253ACK5;FF@253ACKON;FF@253ACKD;FF"
    far.advance(301.0)
    assert talk(far, b"@253DG1?;FF@253T1?;FF") == b"@253ACKOFF;FF@253ACKG;FF"
    far.world.leak = 0.1
    far.advance(0.2)
    assert talk(far, b"@253DG1!ON;FF@253GC1!1.5;FF") == b"@253NAK199;FF@253NAK183;FF"


def test_an_ion_gauge_protects_itself_and_waits_until_it_is_switched_on(far):
    far.world.leak = 1.0
    far.advance(0.2)
    assert talk(far, b"@253PR3?;FF@253T3?;FF@253CP3?;FF") == b"@253ACKPROT_OFF;FF@253ACKP;FF@253ACKOFF;FF"
    far.world.leak = 0.0
    far.advance(0.2)
    assert talk(far, b"@253PR3?;FF@253CP3!ON;FF@253PR3?;FF") == b"@253ACKPROT_OFF;FF@253ACKON;FF@253ACKWAIT;FF"
    far.advance(3.1)
    assert talk(far, b"@253PR3?;FF@253T3?;FF") == b"@253ACK1.20E-06;FF@253ACKG;FF"


def test_one_gauge_switches_another_off_and_on_again(far):
    far.world.pressure = 1e-3
    far.advance(0.2)
    talk(far, b"@253CSE3!A1;FF@253CSP3!1E-3;FF@253CTL3!AUTO;FF")
    far.world.pressure = 1.0
    far.advance(0.2)
    assert talk(far, b"@253PR3?;FF@253T3?;FF") == b"@253ACKCTRL_OFF;FF@253ACKC;FF"
    far.world.pressure = 1e-3
    far.advance(0.2)
    assert talk(far, b"@253PR3?;FF") == b"@253ACKWAIT;FF"


def test_gauges_say_where_their_range_ends():
    world = World(pressure=1.5e5, leak=-1.99e-5)
    far = Mks937bEmulator(world, sensors=("PR", "CM", "CC"), sees=("pressure", "pressure", "column"), noise=0.0)
    world.leak -= world.column
    far.advance(0.2)
    assert talk(far, b"@253PRZ?;FF") == b"@253ACKATM >1.100E+3 LO<E-11 NO_GAUGE NO_GAUGE NO_GAUGE;FF"
    world.pressure = 1e-3
    far.advance(0.2)
    assert talk(far, b"@253U!PASCAL;FF@253PR1?;FF") == b"@253ACKPASCAL;FF@253ACKLO<E-2;FF"


def test_a_relay_follows_its_pressure_with_hysteresis(far):
    far.world.pressure = 1e-2
    talk(far, b"@253SP1!1E-3;FF@253SH1!2E-3;FF@253EN1!ENABLE;FF")
    far.advance(1.0)
    assert talk(far, b"@253SS1?;FF") == b"@253ACKSET;FF"
    far.world.pressure = 1.5e-3 * 133.3
    far.advance(1.0)
    assert talk(far, b"@253SS1?;FF") == b"@253ACKSET;FF"
    far.world.pressure = 3e-3 * 133.3
    far.advance(1.0)
    assert talk(far, b"@253SS1?;FF") == b"@253ACKCLEAR;FF"


@pytest.mark.real_clock
async def test_two_gauges_over_a_serial_line():
    world = World(pressure=50.0)
    port = await PtyPort(Bench(world).wire([Mks937bEmulator(world)], "serial")).open()
    context = Context()
    link = SerialLink(port.path, Mks937b.line)
    session = Session(link, Mks937b.framing("serial"), timebase=context.timebase, gate=context.gate, timeout=0.5)
    cell, column = (Mks937b(session, f"g{n}", channel=n, context=context) for n in (1, 3))
    try:
        await cell.connect()
        await column.connect()
        assert await cell.pressure.get() > 1.0
        assert await column.pressure.get() < 1e-3
    finally:
        await cell.disconnect()
        await column.disconnect()
        await port.close()


def test_it_is_a_gauge():
    assert lacking(Mks937b, Gauge) == []


@pytest.mark.parametrize("shown", list(codec.UNITS))
async def test_pascals_come_whatever_unit_is_shown(shown):
    async with wired(Mks937b, world=World(pressure=100.0), shown=shown, noise=0.0) as (gauge, _):
        pressure = await gauge.pressure.get()
        assert pressure == pytest.approx(100.0, rel=1e-3)
        assert gauge.identity == "MKS 937B, 1234567890"


async def test_a_unit_changed_at_the_panel_costs_one_reading_and_no_factor(bench):
    gauge, wire = bench
    before = await gauge.pressure.get()
    wire.emulator.shown = "PASCAL"
    with pytest.raises(ProtocolError, match=r"gauge: the unit was changed from TORR to PASCAL"):
        await gauge.pressure.get()
    assert await gauge.pressure.get() == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize("word", ["PROT_OFF", "ATM", "WAIT", "MISCONN", "HI_SOMETHING", ">1.1E3"])
async def test_a_word_is_no_value_and_says_why(bench, word):
    gauge, wire = bench
    wire.emulator.channels[0].word = word
    reading = await gauge.pressure.read()
    assert (reading.value, reading.quality) == (None, Quality.BAD)
    assert reading.reason == codec.WORDS.get(word, f"the controller says {word}")


async def test_below_its_range_it_is_no_more_than_that(bench):
    gauge, wire = bench
    wire.emulator.channels[0].word = "LO<E-11"
    reading = await gauge.pressure.read()
    assert reading.quality is Quality.UNCERTAIN
    assert reading.value == pytest.approx(1e-11 * 101325 / 760)
    assert reading.uncertainty == reading.value


@pytest.mark.parametrize(("told", "said"), [("CODE", "160"), ("TXT", "UNRECOGNIZED_MSG")])
async def test_a_refusal_is_told_with_its_meaning(bench, told, said):
    gauge, wire = bench
    wire.emulator.system["SEM"] = told
    wire.emulator._answer = lambda request: codec.UNKNOWN
    with pytest.raises(Refused, match=rf"gauge: PR was refused \(NAK{said}\): it does not know that command"):
        await gauge.pressure.get()


async def test_a_reading_is_no_surer_than_its_digits():
    async with wired(Mks937b, channel=3, noise=0.0) as (gauge, _):
        reading = await gauge.pressure.read()
        assert reading.uncertainty >= 1e-9 * 101325 / 760 / 12**0.5


async def test_the_driver_sets_nothing(bench):
    gauge, wire = bench
    await gauge.safe_state()
    await gauge.pressure.get()
    await asyncio.sleep(1)
    assert not any(b"!" in message for message in wire.sent)


async def test_another_model_or_address_is_found_out():
    with pytest.raises(WrongInstrument, match="expected a 937B, found '946'"):
        async with wired(Mks937b, model="946"):
            pass
    with pytest.raises(NoReply):
        async with wired(Mks937b, emulator=Mks937bEmulator(World(), unit=12)):
            pass


@pytest.mark.parametrize("settings", [{"channel": 7}, {"channel": "A"}, {"unit": 254}, {"unit": "A"}])
async def test_a_wrong_place_is_a_mistake_in_the_lab_file(settings):
    with pytest.raises(ConfigError):
        async with wired(Mks937b, emulator=Mks937bEmulator(World()), **settings):
            pass
