"""The NE-1000 syringe pump: packets of the manual, numbers of four digits, and liquid that stops."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from devices.ne1000 import codec
from devices.ne1000.codec import HostEnd, PumpEnd, Reply
from devices.ne1000.driver import Ne1000
from devices.ne1000.emulator import Ne1000Emulator
from devices.physics import World
from hal.capabilities import Pump
from hal.errors import ConfigError, LimitError, NoReply, ProtocolError, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.capabilities import lacking
from hal.model.context import Context
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session


def talk(emulator: Ne1000Emulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


# ---------------------------------------------------------------------- the manual's transcripts


@pytest.fixture
def pump():
    return Ne1000Emulator(World(), alarm="", diameter=14.0)


def test_the_packet_that_leaves_safe_mode_is_that_of_the_manual():
    """Publication 1200-01, section 10.2.2, page 33."""
    assert HostEnd().encode(b"SAF0") == bytes.fromhex("02 08") + b"SAF0" + bytes.fromhex("55 43 03")


def test_the_first_answer_after_power_up_is_the_alarm_and_nothing_was_done():
    """Section 10.3: alarms are acknowledged by being told; the command is not carried out."""
    fresh = Ne1000Emulator(World())
    assert talk(fresh, b"0DIA10\r0DIA\r") == b"\x0200A?R\x03\x0200S14.50\x03"


def test_it_says_its_version_as_the_open_drivers_expect(pump):
    assert talk(pump, b"0VER\r") == b"\x0200SNE1000V3.928\x03"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"dia 26.59\r", b"00S"), (b"0 R A T 10 um\r", b"00S"), (b"\r", b"00S"), (b"XYZ\r", b"00S?"),
        (b"STP\r", b"00S?NA"), (b"RAT 9999 MM\r", b"00S?OOR"), (b"DIA 0.01\r", b"00S?OOR"),
        (b"DIA12.345\r", b"00S?OOR"),
        (b"VOL\r", b"00S0.000UL"), (b"DIS\r", b"00SI0.000W0.000UL"), (b"RAT\r", b"00S0.000MH"), (b"RUN\r", b"00S?OOR"),
        (b"TRG \r", b"00SFT"), (b"IN 2 \r", b"00S1"),  # as new-era 2.2.3 asks
        (b"AL1\r", b"00S"), (b"PHN01\r", b"00S"), (b"FUN RAT\r", b"00S"), (b"SAF\r", b"00S000"),
    ],
)  # fmt: skip
def test_any_case_and_spaces_are_taken_and_refusals_have_codes(pump, said, answered):
    assert talk(pump, said) == b"\x02" + answered + b"\x03"


def test_another_pumps_address_is_left_alone(pump):
    assert talk(pump, b"1VER\r12VER\r") == b""


def test_units_can_not_change_while_it_pumps_but_the_rate_can(pump):
    assert talk(pump, b"RAT10UM\rRUN\r") == b"\x0200S\x03\x0200I\x03"
    assert talk(pump, b"RAT1MM\rRAT20\rDIA10\rVOL5\r") == b"\x0200I?NA\x03\x0200I\x03\x0200I?NA\x03\x0200I?NA\x03"
    assert pump.world.liquid == 20.0


def test_stop_pauses_first_and_then_forgets(pump):
    talk(pump, b"RAT10UM\rVOL5\rRUN\r")
    assert talk(pump, b"STP\rSTP\rSTP\r") == b"\x0200P\x03\x0200S\x03\x0200S?NA\x03"


def test_a_damaged_packet_is_not_carried_out(pump):
    whole = HostEnd().encode(b"0RAT10UM")
    assert talk(pump, whole.replace(b"10", b"90")) == b"\x0200S?COM\x03"
    assert pump.rate.value == 0.0


def test_in_safe_mode_it_answers_in_packets_and_stops_when_it_hears_nothing(pump):
    reply = talk(pump, HostEnd().encode(b"0SAF5") + HostEnd().encode(b"0RAT10UM") + HostEnd().encode(b"0RUN"))
    assert reply == codec.packet(b"00S") + codec.packet(b"00S") + codec.packet(b"00I")
    assert talk(pump, b"0STP\r") == b""
    for _ in range(600):
        pump.advance(0.01)
    assert pump.world.liquid == 0.0
    assert talk(pump, HostEnd().encode(b"0")) == codec.packet(b"00A?T")


# ---------------------------------------------------------------------- programs, as other drivers write them


def lived(pump: Ne1000Emulator, seconds: float) -> float:
    """How many uL go out in that time."""
    before = pump.out["INF"]
    for _ in range(round(seconds * 100)):
        pump.advance(0.01)
    return pump.out["INF"] - before


def test_a_dispense_is_written_as_labmcp_new_era_does(pump):
    """labmcp-new-era 0.1.2, start_pumping: phase 1 pumps, phase 2 stops."""
    said = b"PHN1\rFUNRAT\rVOL\rRAT60.00UM\rVOL10.00\rDIRINF\rPHN2\rFUNSTP\rPHN1\rRUN\r"
    answers = [answer for answer in talk(pump, said).replace(b"\x02", b"").split(b"\x03") if answer]
    assert answers == [b"00S", b"00S", b"00S0.000UL", *[b"00S"] * 6, b"00I"]
    assert lived(pump, 20) == pytest.approx(10.0, abs=1e-6)
    assert talk(pump, b"\r") == b"\x0200S\x03"


def test_a_program_goes_on_from_phase_to_phase_and_round_a_loop(pump):
    """Section 7: a pause, another rate, and both again."""
    talk(pump, b"FUNLPS\rPHN2\rFUNRAT\rRAT60UM\rVOL1\rPHN3\rFUNPAS2\rPHN4\rFUNRAT\rRAT120UM\rVOL2\r")
    talk(pump, b"PHN5\rFUNLOP2\rRUN\r")
    assert lived(pump, 0.9) == pytest.approx(0.9, abs=0.02)
    assert lived(pump, 1.1) == pytest.approx(0.1, abs=0.02)
    assert talk(pump, b"\rPHN\r") == b"\x0200T\x03\x0200T03\x03"
    assert lived(pump, 20) == pytest.approx(5.0, abs=0.02)  # the rest of one round, and the whole second
    assert pump.status == codec.STOPPED


def test_what_a_phase_that_does_not_pump_has_not_is_not_applicable(pump):
    assert talk(pump, b"PHN2\rRAT5UM\rVOL5\rDIRINF\rFUN\rPHN42\rFUNXYZ\r").split(b"\x03")[1:7] == [
        b"\x0200S?NA", b"\x0200S?NA", b"\x0200S?NA", b"\x0200SSTP", b"\x0200S?OOR", b"\x0200S?OOR",
    ]  # fmt: skip


def test_a_program_that_only_jumps_is_an_error_of_the_program(pump):
    talk(pump, b"FUNJMP2\rPHN2\rFUNJMP1\rRUN\r")
    assert talk(pump, b"\r") == b"\x0200A?E\x03"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"*ADR 7\r*VER\r7DIS\r", b"\x0207S\x03\x0207SNE1000V3.928\x03\x0207SI0.000W0.000UL\x03"),  # new-era 2.2
        (b"*ADR 0 B 9600\r", b"\x0200S\x03"), (b"*RESET\r", b"\x0200S\x03"),
        (b"0 RAT C 5 UM\r", b"\x0200S\x03"),  # yaqd
        (b"RAT10UM\r*0RUN1RUN\r\r", b"\x0200S\x03\x0200I\x03"), (b"*1RUN\r", b""),
    ],
)  # fmt: skip
def test_all_pumps_of_a_line_are_spoken_to_at_once(pump, said, answered):
    """new-era 2.2.3, yaqd-new-era 2022.1, and the network burst of section 10.4."""
    assert talk(pump, said) == answered


def test_an_alarm_in_safe_mode_is_sent_and_stays(pump):
    """NE-1600 manual, 1200-02, section 9.3: an alarm sent by itself is not cleared by that."""
    talk(pump, HostEnd().encode(b"0RAT10UM") + HostEnd().encode(b"0SAF2") + HostEnd().encode(b"0RUN"))
    lived(pump, 3)
    assert [pump.framing("serial").encode(said) for said in pump.unasked()] == [codec.packet(b"00A?T")]
    assert talk(pump, HostEnd().encode(b"0")) == codec.packet(b"00A?T")
    assert talk(pump, HostEnd().encode(b"0")) == codec.packet(b"00S")


def test_two_pumps_into_one_cell_add_up():
    world = World()
    pumps = [Ne1000Emulator(world, alarm="", diameter=14.0) for _ in range(2)]
    talk(pumps[0], b"RAT10UM\rRUN\r")
    talk(pumps[1], b"DIRWDR\rRAT4UM\rRUN\r")
    assert world.liquid == pytest.approx(6.0)
    talk(pumps[0], b"STP\r")
    assert world.liquid == pytest.approx(-4.0)


# ---------------------------------------------------------------------- the codec, both directions


@given(st.floats(0, 9999))
def test_numbers_have_four_digits_at_most_and_are_close(value):
    text = codec.number(value)
    assert "." in text
    assert len(text.replace(".", "")) <= 4
    assert float(text) == pytest.approx(value, rel=codec.ROUNDING, abs=5.1e-4)


@given(st.floats(1e-3, 9e6))
def test_a_rate_is_told_to_half_a_part_in_a_thousand_or_refused(rate):
    try:
        told = codec.quantity(rate, codec.RATES)
    except ValueError:
        assume(False)
    assert codec.parse_quantity(told.text + told.unit, codec.RATES) == told
    assert told.value == pytest.approx(rate, rel=codec.ROUNDING)


def test_what_four_digits_can_not_say_is_refused_with_the_nearest_that_can():
    with pytest.raises(ValueError, match=r"the nearest is 0.002 UH"):
        codec.quantity(0.0024 / 60, codec.RATES)
    assert codec.quantity(12.345, codec.RATES).text + codec.quantity(12.345, codec.RATES).unit == "740.7UH"


REPLIES = st.builds(
    Reply, st.integers(0, 99), st.sampled_from("IWSPTUX"), st.text("0123456789.UMLHIW", max_size=20)
) | st.builds(lambda a, s, e: Reply(a, s, error=e), st.integers(0, 99), st.sampled_from("IWSPTUX"),
              st.sampled_from(list(codec.ERRORS)))  # fmt: skip


@given(st.lists(REPLIES, max_size=5), st.booleans(), st.lists(st.integers(1, 6)))
def test_replies_of_either_mode_survive_any_cutting(replies, safe, cuts):
    mode = b"s" if safe else b"b"
    stream = b"".join(PumpEnd().encode(mode + reply.encode()) for reply in replies)
    framing, found, steps = HostEnd(), [], iter(cuts)
    while stream:
        size = next(steps, len(stream))
        found += framing.feed(stream[:size])
        stream = stream[size:]
    assert [Reply.decode(message) for message in found] == replies


@given(st.binary(max_size=60))
def test_no_bytes_whatever_upset_the_pump(noise):
    pump = Ne1000Emulator(World(), alarm="")
    framing = pump.framing("serial")
    for message in framing.feed(noise):
        pump.respond(message)
    HostEnd().feed(noise)


# ---------------------------------------------------------------------- pumping


@pytest.fixture
async def bench():
    async with wired("ne1000", name="pump", options={"diameter": 10.0}) as (device, wire):
        yield device, wire


async def live(pump, seconds):
    await asyncio.sleep(seconds)
    await pump.state.get()  # the bench lives when it is spoken to


async def test_it_is_a_pump_and_says_who_it_is(bench):
    pump, wire = bench
    assert lacking(pump, Pump) == []
    assert pump.identity == "New Era NE1000, firmware 3.928"
    assert wire.emulator.diameter == 10.0


async def test_it_runs_until_it_is_stopped(bench):
    pump, wire = bench
    await pump.run(30.0)
    assert await pump.rate.get() == pytest.approx(30.0)
    assert await pump.state.get() == "infusing"
    await live(pump, 60.0)
    assert wire.world.pumped == pytest.approx(30.0, rel=0.01)
    await pump.stop()
    pumped = wire.world.pumped
    await live(pump, 60.0)
    assert wire.world.pumped == pytest.approx(pumped)
    assert await pump.rate.get() == 0.0


async def test_a_volume_is_dispensed_in_the_time_its_rate_takes(bench):
    pump, wire = bench
    begun = asyncio.get_running_loop().time()
    await pump.dispense(volume=100.0, rate=60.0)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(100.0, abs=1.5)
    assert wire.world.pumped == pytest.approx(100.0, abs=0.01)
    assert await pump.volume.get() == pytest.approx(100.0, abs=0.1)


async def test_a_program_left_in_the_pump_does_not_go_on_after_a_dispense(bench):
    pump, wire = bench
    talk(wire.emulator, b"PHN2\rFUNRAT\rRAT9999UH\rPHN1\r")
    await pump.dispense(volume=10.0, rate=60.0)
    await live(pump, 60.0)
    assert wire.world.pumped == pytest.approx(10.0, abs=0.01)


async def test_leaving_a_dispense_early_stops_the_liquid(bench):
    pump, wire = bench
    async with pump.dispense(volume=100.0, rate=60.0):
        await asyncio.sleep(10)
    assert wire.world.liquid == 0.0
    assert wire.world.pumped == pytest.approx(10.0, rel=0.02)


async def test_a_dispense_after_an_aborted_one_begins_anew(bench):
    pump, wire = bench
    async with pump.dispense(volume=100.0, rate=60.0):
        await asyncio.sleep(10)
    before = wire.world.pumped
    await pump.dispense(volume=20.0, rate=60.0)
    assert wire.world.pumped - before == pytest.approx(20.0, abs=0.01)


async def test_stop_is_sent_even_if_nothing_is_known_to_run(bench):
    pump, wire = bench
    talk(wire.emulator, b"RAT10UM\rRUN\r")  # from the keypad
    assert wire.world.liquid == 10.0
    await pump.stop()
    assert wire.world.liquid == 0.0


async def test_the_safe_state_of_a_standing_pump_is_one_packet(bench):
    pump, wire = bench
    await pump.safe_state()
    assert len(wire.sent) == 1


async def test_withdrawing_counts_backwards():
    async with wired("ne1000", name="pump", options={"diameter": 10.0, "direction": "withdraw"}) as (pump, _):
        await pump.run(60.0)
        await asyncio.sleep(10)
        assert await pump.rate.get() == -60.0
        assert await pump.volume.get() == pytest.approx(-10.0, rel=0.02)
        await pump.dispense(volume=5.0, rate=60.0)


# ---------------------------------------------------------------------- limits


async def test_a_rate_the_syringe_can_not_give_never_reaches_the_wire(bench):
    pump, wire = bench
    fastest = 51.005 * 3.14159265 / 4 * 100
    with pytest.raises(LimitError, match=r"outside 0.055 to 4006 uL/min for a syringe of 10 mm; nothing was sent"):
        pump.run(fastest * 1.01)
    for rate in (-1.0, 0.0, float("nan")):
        with pytest.raises(LimitError):
            pump.dispense(10.0, rate)
    with pytest.raises(LimitError, match=r"pump.volume = 0 uL"):
        pump.dispense(0.0, 10.0)
    with pytest.raises(LimitError, match=r"can't be told with four digits"):
        pump.dispense(1e8, 10.0)
    assert not wire.sent


def test_the_limits_agree_with_those_the_manual_gives_for_two_syringes():
    """1699 mL/h at 26.59 mm and 0.73 uL/h at 4.699 mm."""
    assert codec.FASTEST * codec.area(26.59) * 60 / 1e3 == pytest.approx(1699, rel=1e-3)
    assert codec.SLOWEST * codec.area(4.699) * 60 == pytest.approx(0.73, rel=5e-3)


async def test_the_recorded_rate_is_what_the_pump_took(bench):
    pump, _ = bench
    await pump.run(123.456)
    reading = await pump.rate.read()
    assert reading.value == pytest.approx(123.456, rel=codec.ROUNDING)
    assert reading.value != 123.456
    assert reading.uncertainty > 0.0


async def test_a_pump_that_took_something_else_is_stopped_and_said_so(bench):
    pump, wire = bench
    set_rate = wire.emulator._set_rate
    wire.emulator._set_rate = lambda value, pumping: set_rate("5UM", pumping)
    with pytest.raises(Refused, match=r"pump: RAT was set to 50 and reads back 5"):
        await pump.run(50.0)
    assert wire.world.liquid == 0.0


# ---------------------------------------------------------------------- trouble


async def test_a_stall_fails_the_dispense_and_says_how_much_is_out(bench):
    pump, wire = bench
    status = pump.dispense(volume=100.0, rate=60.0)
    await asyncio.sleep(20)
    wire.emulator.status, wire.emulator.alarm = codec.STOPPED, "S"
    with pytest.raises(Refused, match=r"pump: it stopped after (19|20)[.0-9]* of 100 uL; was it stopped by hand"):
        await status
    assert any("the motor stalled" in event.text for event in pump.context.journal.recent)


async def test_a_power_cut_in_a_dispense_is_no_success(bench):
    pump, wire = bench
    status = pump.dispense(volume=100.0, rate=60.0)
    await asyncio.sleep(20)
    wire.emulator.__init__(wire.world, diameter=10.0)
    with pytest.raises(Refused, match=r"it stopped after .* of 100 uL"):
        await status


async def test_the_watchdog_stops_the_pump_when_the_cable_is_pulled():
    options = {"diameter": 10.0, "watchdog": 5}
    async with wired("ne1000", name="pump", options=options) as (pump, wire):
        await pump.run(60.0)
        await live(pump, 60.0)
        assert wire.world.liquid == 60.0  # the poll keeps it quiet
        wire.faults.frozen = True
        await asyncio.sleep(20)
        wire.bench.advance_to(asyncio.get_running_loop().time())
        assert wire.world.liquid == 0.0
        wire.faults.frozen = False
        await asyncio.sleep(2)
        assert any("heard nothing" in event.text for event in pump.context.journal.recent)
        assert await pump.state.get() == "stopped"
    assert wire.emulator.safe_timeout == 0


async def test_a_garbled_reply_is_asked_for_again(bench):
    pump, wire = bench
    wire.faults.drop = 1.0
    asking = asyncio.ensure_future(pump.rate.get())
    await asyncio.sleep(0.25)
    wire.faults.drop = 0.0
    assert await asking == 0.0


async def test_a_dead_pump_is_named(bench):
    pump, wire = bench
    wire.faults.frozen = True
    with pytest.raises(NoReply, match=r"pump: no reply to b'0RAT'"):
        await pump.rate.get()


async def test_a_reply_that_makes_no_sense_names_itself(bench):
    pump, wire = bench
    wire.emulator.respond = lambda message: b"b00Qwhat"
    with pytest.raises(ProtocolError, match=r"pump: expected a status, got b'00Qwhat'"):
        await pump.rate.get()


async def test_another_instrument_is_not_taken_for_a_pump():
    with pytest.raises(WrongInstrument, match=r"expected a New Era pump, found 'PHD2000'"):
        async with wired("ne1000", name="pump", firmware="PHD2000"):
            pass


@pytest.mark.parametrize(
    "options", [{"diameter": 0.0}, {"diameter": 100.0}, {"direction": "up"}, {"watchdog": 300}], ids=str
)
async def test_impossible_options_are_mistakes_in_the_lab_file(options):
    with pytest.raises(ConfigError):
        async with wired("ne1000", name="pump", options=options):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_on_a_real_serial_line_liquid_flows():
    world = World()
    port = await PtyPort(Bench(world).wire([Ne1000Emulator(world, diameter=10.0)], "serial")).open()
    context = Context()
    session = Session(SerialLink(port.path, Ne1000.line), Ne1000.framing("serial"), timebase=context.timebase)
    pump = Ne1000(session, "pump", context=context)
    try:
        await pump.connect()
        await pump.dispense(volume=5.0, rate=600.0)
        assert world.pumped == pytest.approx(5.0, abs=0.01)
    finally:
        await context.close()
        await pump.disconnect()
        await port.close()
