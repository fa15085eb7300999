"""The drive of a turbo pump: the manual's telegrams, minutes to its speed, and errors that stop it."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.pfeiffer_telegram import codec, turbo_codec
from devices.pfeiffer_telegram.codec import Telegram
from devices.pfeiffer_telegram.driver import PfeifferTelegram
from devices.pfeiffer_telegram.emulator import PfeifferTelegramEmulator
from devices.pfeiffer_telegram.turbo import PfeifferTc
from devices.pfeiffer_telegram.turbo_emulator import PfeifferTcEmulator
from devices.physics import World
from hal.errors import ConfigError, NoReply, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.context import Context
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session


def talk(emulator: PfeifferTcEmulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


def say(emulator: PfeifferTcEmulator, parameter: int, data: str = "=?") -> str:
    action = codec.READ if data == "=?" else codec.CONTROL
    said = Telegram(emulator.address, action, parameter, data).encode() + b"\r"
    return Telegram.decode(talk(emulator, said).rstrip(b"\r")).data


# ---------------------------------------------------------------------- the manual


def test_the_telegrams_are_those_of_the_manual():
    """TC 400, page 25, and TC 110 PB, PT 0245 BEN/J, page 32: speed of drive 123, and drive 42 is switched on."""
    assert Telegram(123, codec.READ, 309, "=?").encode() == b"1230030902=?112"
    assert Telegram(123, codec.CONTROL, 309, "000633").encode() == b"1231030906000633037"
    assert Telegram(42, codec.CONTROL, 10, "111111").encode() == b"0421001006111111020"
    far = PfeifferTcEmulator(World(), unit=42)
    assert talk(far, b"0421001006111111020\r") == b"0421001006111111020\r"
    assert far.pumping


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        (0, True, "111111"), (0, False, "000000"), (1, 633, "000633"), (2, 15.71, "001571"), (4, "TC_400", "TC_400"),
        (6, True, "1"), (7, 42, "042"), (10, 1000.0, "100023"), (11, "BrezelBier&Wurst", "BrezelBier&Wurst"),
    ],
)  # fmt: skip
def test_data_types_are_written_as_the_manual_shows(kind, value, data):
    """TC 110 PB, PT 0245 BEN/J, page 32, section 8.3."""
    assert codec.encode_data(kind, value) == data
    assert codec.decode_data(kind, data) == value


@given(st.sampled_from([1, 2, 7]), st.integers(0, 999))
def test_numbers_survive_their_data_type(kind, value):
    assert codec.decode_data(kind, codec.encode_data(kind, value)) == value


@given(st.sampled_from(list(codec.SIZES)), st.text(max_size=17))
def test_data_of_another_form_are_refused(kind, data):
    try:
        value = codec.decode_data(kind, data)
    except ValueError:
        return
    assert len(data) == codec.SIZES[kind]
    assert codec.encode_data(kind, value) == (data if kind not in (4, 11) else value.ljust(codec.SIZES[kind]))


def test_what_does_not_fit_is_not_written():
    for kind, value in ((1, 1_000_000), (1, -1), (2, 10_000.0), (7, 1000), (4, "too long")):
        with pytest.raises(ValueError, match="does not fit"):
            codec.encode_data(kind, value)


# ---------------------------------------------------------------------- the drive


def test_it_tells_what_open_drivers_ask():
    """pfeiffer-turbo 0.3.4, `TC110`: every one of its parameters that can be read."""
    far = PfeifferTcEmulator(World())
    for number, parameter in turbo_codec.PARAMETERS.items():
        data = say(far, number)
        assert data == "_LOGIC" if number == 9 else len(data) == codec.SIZES[parameter.kind], number
    assert (say(far, 349), say(far, 315), say(far, 399), say(far, 303)) == ("TC 110", "001500", "090000", "000000")
    assert (say(far, 10), say(far, 23), say(far, 717), say(far, 360)) == ("000000", "111111", "006670", "000000")


@pytest.mark.parametrize(
    ("parameter", "data", "answer"),
    [
        (740, "=?", "NO_DEF"), (740, "100023", "NO_DEF"), (309, "000100", "_LOGIC"), (10, "111110", "_RANGE"),
        (10, "1", "_RANGE"), (717, "000500", "_RANGE"), (717, "00700x", "_RANGE"), (27, "003", "_RANGE"),
        (797, "000256", "_RANGE"), (717, "007000", "007000"),
    ],
)  # fmt: skip
def test_refusals_are_words_and_what_was_taken_is_repeated(parameter, data, answer):
    assert say(PfeifferTcEmulator(World()), parameter, data) == answer


def test_everybodys_address_is_obeyed_and_not_answered():
    """TC 400, page 25, section 8.1."""
    far = PfeifferTcEmulator(World(), unit=7)
    assert talk(far, Telegram(0, codec.CONTROL, 10, "111111").encode() + b"\r") == b""
    assert far.pumping
    assert talk(far, Telegram(0, codec.READ, 309, "=?").encode() + b"\r") == b""
    assert talk(far, Telegram(8, codec.CONTROL, 10, "000000").encode() + b"\r") == b""
    assert talk(far, b"0071001006000000000\r") == b"", "its checksum is wrong"
    assert far.pumping


def live(far: PfeifferTcEmulator, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        far.advance(0.1)


def test_it_takes_its_time_to_run_up_and_longer_to_run_down():
    far = PfeifferTcEmulator(World())
    say(far, 10, "111111")
    live(far, 50.0)
    assert 600 < int(say(far, 309)) < 800
    assert (say(far, 307), say(far, 306), say(far, 310)) == ("111111", "000000", "000450")
    live(far, 60.0)
    assert (say(far, 309), say(far, 306), say(far, 302), say(far, 310)) == ("001500", "111111", "111111", "000035")
    say(far, 2, "111111")
    assert say(far, 308) == "001000"
    say(far, 23, "000000")
    live(far, 300.0)
    assert 500 < far.speed < 600
    assert say(far, 306) == "000000"


def test_too_much_gas_keeps_it_from_its_speed_and_it_gives_up():
    far = PfeifferTcEmulator(World(leak=30.0))
    say(far, 700, "000002")
    say(far, 10, "111111")
    live(far, 119.0)
    assert say(far, 303) == "000000"
    live(far, 2.0)
    assert (say(far, 303), say(far, 360)) == ("Err006", "Err006")
    assert not far.pumping
    say(far, 10, "111111")
    assert not far.pumping, "an error must be acknowledged first"
    say(far, 9, "111111")
    assert (say(far, 303), say(far, 10)) == ("000000", "000000")


def test_a_remote_plug_has_priority():
    far = PfeifferTcEmulator(World())
    far.remote = True
    assert (say(far, 10, "111111"), say(far, 300)) == ("_LOGIC", "111111")
    assert not far.pumping


# ---------------------------------------------------------------------- the driver


async def test_it_says_who_it_is_and_how_it_is():
    async with wired(PfeifferTc, name="turbo") as (turbo, _):
        assert turbo.identity == "Pfeiffer TC 110, firmware 010300"
        assert [await turbo.speed.get(), await turbo.nominal_speed.get(), await turbo.target.get()] == [0, 1500, 1500]
        assert await turbo.at_speed.get() is False
        assert await turbo.error.get() == ""
        for signal in turbo.signals():
            assert isinstance((await signal.read()).value, signal.dtype), signal.path


async def test_switching_on_is_done_at_speed_and_switching_off_when_it_stands():
    async with wired(PfeifferTc, name="turbo", run_up=30.0, run_down=10.0) as (turbo, wire):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await turbo.on()
        assert loop.time() - begun == pytest.approx(30.0, abs=3.0)
        assert await turbo.speed.get() == pytest.approx(1500.0, rel=0.02)
        await turbo.off()
        assert wire.emulator.speed < 1.0
        assert loop.time() - begun > 30.0 + 70.0


async def test_running_up_goes_on_when_it_is_no_longer_waited_for():
    async with wired(PfeifferTc, name="turbo") as (turbo, wire):
        async with turbo.on():
            await asyncio.sleep(5.0)
        assert wire.emulator.pumping


async def test_an_error_on_the_way_up_is_told_with_what_it_means():
    async with wired(PfeifferTc, name="turbo") as (turbo, wire):
        switching = turbo.on()
        await asyncio.sleep(10.0)
        wire.emulator.fail("Err117")
        with pytest.raises(Refused, match=r"turbo: Err117: the bottom of the pump is too hot. See to it, acknowledge"):
            await switching
        with pytest.raises(Refused, match="Err117"):
            await turbo.on()
        await turbo.acknowledge()
        assert await turbo.error.get() == ""
        assert not wire.emulator.pumping


async def test_a_warning_stops_nothing():
    async with wired(PfeifferTc, name="turbo", run_up=10.0) as (turbo, wire):
        wire.emulator.fail("Wrn048")
        await turbo.on()
        assert await turbo.error.get() == "Wrn048: see its manual"


@pytest.mark.parametrize(("safe", "pumping"), [("as it is", True), ("off", False)])
async def test_the_safe_state_is_as_the_lab_says(safe, pumping):
    async with wired(PfeifferTc, name="turbo", options={"safe": safe}) as (turbo, wire):
        say(wire.emulator, 10, "111111")
        with acting(Purpose.SAFE):
            await turbo.make_safe()
            await turbo.make_safe()
        assert wire.emulator.pumping is pumping


async def test_a_drive_that_may_not_be_switched_says_so():
    async with wired(PfeifferTc, name="turbo") as (turbo, wire):
        wire.emulator.remote = True
        with pytest.raises(Refused, match=r"turbo: parameter 23 was refused \(_LOGIC\)"):
            await turbo.on()


async def test_who_else_is_on_the_line_is_found_out():
    with pytest.raises(WrongInstrument, match="expected the drive of a turbo pump, found 'A5'"):
        async with wired(PfeifferTc, emulator=PfeifferTelegramEmulator(World())):
            pass
    with pytest.raises(WrongInstrument, match="expected a gauge, found 'TC 110'"):
        async with wired(PfeifferTelegram, emulator=PfeifferTcEmulator(World())):
            pass
    with pytest.raises(NoReply):
        async with wired(PfeifferTc, emulator=PfeifferTcEmulator(World(), unit=2)):
            pass
    for wrong in ({"unit": 0}, {"options": {"safe": "on"}}):
        with pytest.raises(ConfigError):
            async with wired(PfeifferTc, emulator=PfeifferTcEmulator(World()), **wrong):
                pass


@pytest.mark.parametrize("seed", range(3))
def test_rubbish_switches_nothing(seed):
    chance, far = random.Random(seed), PfeifferTcEmulator(World())
    before = dict(far.values)
    for _ in range(300):
        talk(far, chance.randbytes(chance.randrange(1, 60)) + b"\r")
        whole = bytearray(Telegram(1, codec.CONTROL, 10, "111111").encode())
        whole[chance.randrange(len(whole))] ^= chance.randrange(1, 128)
        talk(far, bytes(whole) + b"\r")
    assert far.values == before


async def test_a_late_answer_is_never_taken_for_the_next_one():
    async with wired(PfeifferTc, name="turbo") as (turbo, wire):
        wire.faults.delay = turbo.timeout * 1.2
        asked = asyncio.ensure_future(turbo.nominal_speed.read())
        await asyncio.sleep(turbo.timeout * 0.5)
        wire.faults.delay = 0.0
        assert await turbo.speed.get() == 0.0
        await asyncio.gather(asked, return_exceptions=True)


@pytest.mark.real_clock
async def test_a_drive_and_a_gauge_share_a_serial_line():
    world = World(pressure=50.0)
    ends = [PfeifferTcEmulator(world, run_up=0.5), PfeifferTelegramEmulator(world, unit=2)]
    port = await PtyPort(Bench(world).wire(ends, "serial")).open()
    context = Context()
    session = Session(SerialLink(port.path, PfeifferTc.line), codec.framing(), timebase=context.timebase)
    turbo, gauge = (
        PfeifferTc(session, "turbo", context=context),
        PfeifferTelegram(session, "g", unit=2, context=context),
    )
    try:
        await turbo.connect()
        await gauge.connect()
        await turbo.on()
        assert await turbo.speed.get() == pytest.approx(1500.0, rel=0.02)
        assert await gauge.pressure.get() > 1.0
    finally:
        await context.close()
        await turbo.disconnect()
        await gauge.disconnect()
        await port.close()
