"""The TMCM-1110 stepper module: telegrams of the manuals, its units, switches and refusals, and a stage that stops."""

from __future__ import annotations

import asyncio

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from devices.physics import World
from devices.trinamic_tmcm1110 import codec
from devices.trinamic_tmcm1110.codec import Command, HostEnd, Reply
from devices.trinamic_tmcm1110.driver import TrinamicTmcm1110
from devices.trinamic_tmcm1110.emulator import Tmcm1110Emulator
from hal.errors import ConfigError, LimitError, NoReply, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.context import Context
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session

OPTIONS = {"pitch": 1.0, "travel": (-10.0, 10.0)}
PER_MM = 200 * 256


def live(module: Tmcm1110Emulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        module.advance(0.01)


def talk(module: Tmcm1110Emulator, *said: str) -> list[str]:
    """Telegrams in hex, without their sums, and what is answered, likewise."""
    answers = [module.respond(codec.summed(bytes.fromhex(telegram))) for telegram in said]
    return ["" if answer is None else answer[:-1].hex(" ", 1) for answer in answers]


@pytest.fixture
def module():
    return Tmcm1110Emulator(World(), left=-40_000, right=40_000)


# ---------------------------------------------------------------------- the manuals' telegrams


@pytest.mark.parametrize(
    ("command", "telegram"),
    [
        (Command(1, codec.GAP, 1), "01 06 01 00 00 00 00 00 08"),  # TMCM-142 manual, page 39 (its sum is wrong)
        (Command(1, codec.ROL, value=1200), "01 02 00 00 00 00 04 b0 b7"),  # TMCM-1141 firmware manual, 3.6.2
        (Command(1, codec.RFS, codec.START), "01 0d 00 00 00 00 00 00 0e"),  # PD-1021 firmware manual, 3.5.13
        (Command(1, codec.MVP, codec.REL, value=-1000), "01 04 01 00 ff ff fc 18 18"),
    ],
)
def test_commands_are_the_nine_bytes_of_the_manuals(command, telegram):
    assert HostEnd().encode(command.encode()) == bytes.fromhex(telegram)
    assert Command.decode(bytes.fromhex(telegram)[:-1]) == command


def test_replies_name_host_module_status_and_command(module):
    assert talk(module, "01 06 01 00 00000000") == ["02 01 64 06 00 00 00 00"]


def test_speeds_and_accelerations_are_those_of_the_manuals_worked_examples():
    """TMCM-1110 firmware manual, sections 6.1.1 and 6.1.2."""
    assert codec.microsteps_per_second(1678, 3) == pytest.approx(51208.5, abs=0.1)
    assert codec.microsteps_per_second2(100, 7, 3) == pytest.approx(46566, abs=1)
    assert codec.internal_velocity(51208.5, 3) == 1678


def test_the_version_comes_as_text_without_a_sum_and_as_a_number(module):
    """TMCM-6110 firmware manual, section 5.6.39."""
    assert module.respond(codec.summed(bytes.fromhex("01 88 00 00 00000000"))) == b"\x021110V109"
    assert talk(module, "01 88 01 00 00000000") == ["02 01 64 88 04 56 01 09"]


def test_the_target_is_announced_when_it_was_asked_for(module):
    """TMCM-1021 firmware manual, page 73: a second reply, of status 128."""
    talk(module, "01 04 00 00 00001000")
    assert talk(module, "01 8a 00 00 00000001") == ["02 01 64 8a 00 00 00 01"]
    assert module.talking
    live(module, 1.0)
    assert module.unasked() == [codec.summed(bytes.fromhex("02 01 80 8a 00 00 00 01"))]
    assert not module.talking


# ---------------------------------------------------------------------- the codec

INT = st.integers(-(2**31), 2**31 - 1)
BYTE = st.integers(0, 255)


@given(BYTE, BYTE, BYTE, BYTE, INT)
def test_every_command_survives_the_way_there(address, number, kind, motor, value):
    command = Command(address, number, kind, motor, value)
    (message,) = codec.ModuleEnd(lambda: 0.0).feed(HostEnd().encode(command.encode()))
    assert Command.decode(message[:-1]) == command


@given(st.lists(st.builds(Reply, BYTE, BYTE, BYTE, BYTE, INT), max_size=5), st.lists(st.integers(1, 12)))
def test_replies_survive_any_cutting(replies, cuts):
    stream = b"".join(codec.summed(reply.encode()) for reply in replies)
    end, found, sizes = HostEnd(), [], iter(cuts)
    while stream:
        size = next(sizes, len(stream))
        found += end.feed(stream[:size])
        stream = stream[size:]
    assert [Reply.decode(message) for message in found] == replies


@given(st.binary(max_size=60))
def test_no_bytes_whatever_upset_either_end(noise):
    module = Tmcm1110Emulator(World())
    for message in module.framing("serial").feed(noise):
        module.respond(message)
    HostEnd().feed(noise)


def test_a_telegram_begun_is_forgotten_after_a_pause(module):
    end = module.framing("serial")
    assert end.feed(b"\x01\x06\x01") == []
    live(module, 0.1)
    whole = codec.summed(bytes.fromhex("01 06 01 00 00000000"))
    assert end.feed(whole) == [whole]


# ---------------------------------------------------------------------- the module


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("01 05 63 00 00000000", 3),  # no such parameter
        ("01 05 04 00 00000800", 4),  # 2048
        ("01 05 04 01 00000001", 4),  # no second motor
        ("01 05 0b 00 00000001", 3),  # a switch can't be set
        ("01 63 00 00 00000000", 2),  # no such command
        ("01 15 00 00 00000000", 6),  # a jump, outside a program
        ("01 0d 07 00 00000000", 3),
        ("01 04 02 00 00000063", 4),  # no such coordinate
    ],
)
def test_refusals_have_the_manuals_status_codes(module, said, status):
    """TMCM-1110 firmware manual, section 3.2.1."""
    number = bytes.fromhex(said)[1]
    assert talk(module, said) == [f"02 01 {status:02x} {number:02x} 00 00 00 00"]
    assert not module.axis.moving


def test_a_damaged_telegram_is_told_and_not_carried_out(module):
    assert module.respond(bytes.fromhex("01 04 00 00 00001000 00"))[2] == codec.BAD_CHECKSUM
    assert not module.axis.moving


def test_another_modules_telegrams_are_left_alone(module):
    assert talk(module, "02 01 00 00 00000064") == [""]
    assert not module.axis.moving


def test_settings_are_lost_with_the_power_unless_they_were_stored(module):
    talk(module, "01 05 04 00 00000064", "01 05 05 00 000000c8", "01 07 05 00 00000000", "01 09 ff 02 00000007")
    module.power_up()
    assert [module.values[n] for n in (4, 5)] == [1000, 200]
    assert module.user[255] == 0


def test_relative_moves_and_coordinates_lead_where_they_should(module):
    talk(module, "01 05 04 00 000007ff", "01 04 01 00 00001000")
    live(module, 1.0)
    talk(module, "01 20 03 00 00000000", "01 04 01 00 ffffe000")  # CCO 3, then 8192 back
    live(module, 1.0)
    assert module.counter == -4096
    talk(module, "01 04 02 00 00000003")
    live(module, 1.0)
    assert module.counter == 4096


def test_a_limit_switch_stops_the_motor_in_its_direction_only(module):
    talk(module, "01 05 04 00 000007ff", "01 02 00 00 000007ff")  # left, fast
    live(module, 3.0)
    assert module.counter == pytest.approx(-40_000, abs=700)
    assert talk(module, "01 06 0b 00 00000000", "01 06 03 00 00000000") == [
        "02 01 64 06 00 00 00 01", "02 01 64 06 00 00 00 00",
    ]  # fmt: skip
    talk(module, "01 04 00 00 00000000")
    live(module, 3.0)
    assert module.counter == 0


def test_a_reference_search_ends_at_zero_by_the_switch(module):
    talk(module, "01 05 c2 00 000007ff", "01 05 c3 00 000000c8", "01 0d 00 00 00000000")
    assert talk(module, "01 0d 02 00 00000000") != ["02 01 64 0d 00 00 00 00"]
    live(module, 5.0)
    assert talk(module, "01 0d 02 00 00000000") == ["02 01 64 0d 00 00 00 00"]
    assert module.counter == 0
    assert module.axis.position == pytest.approx(module.left, abs=300)


def test_the_search_for_both_switches_tells_their_distance(module):
    talk(module, "01 05 c1 00 00000002", "01 05 c2 00 000007ff", "01 05 c3 00 000000c8", "01 0d 00 00 00000000")
    live(module, 8.0)
    assert module.values[codec.SWITCH_DISTANCE] == pytest.approx(80_000, abs=1500)


# ---------------------------------------------------------------------- the driver


# ---------------------------------------------------------------------- what other drivers need besides


def test_its_program_stands_and_may_be_asked_after(module):
    """tmcm-lib 1.0.0 asks for the status (135) as its heartbeat; pytmcl 1.0.10 knows 128 and 131 too."""
    assert talk(module, "01 87 00 00 00 00 00 00", "01 80 00 00 00 00 00 00", "01 83 00 00 00 00 00 00") == [
        "02 01 64 87 00 00 00 00", "02 01 64 80 00 00 00 00", "02 01 64 83 00 00 00 00",
    ]  # fmt: skip
    assert talk(module, "01 81 00 00 00 00 00 00") == ["02 01 06 81 00 00 00 00"]  # run: there is nothing to run


def test_without_a_heartbeat_the_motor_stops(module):
    """Section 5, parameter 68; tmcm-lib 1.0.0, `heartbeat_timeout`."""
    talk(module, "01 09 44 00 00 00 03 e8", "01 01 00 00 00 00 01 f4")  # one second; rotate
    live(module, 0.9)
    assert module.axis.velocity > 0
    talk(module, "01 87 00 00 00 00 00 00")
    live(module, 0.9)
    assert module.axis.velocity > 0
    live(module, 3.0)
    assert module.axis.velocity == 0.0


def test_it_answers_to_a_second_address_and_as_late_as_it_is_told(module):
    """Section 5, parameters 87 and 75."""
    talk(module, "01 09 57 00 00 00 00 05", "01 09 4b 00 00 00 00 14")
    assert talk(module, "05 06 01 00 00 00 00 00") == ["02 01 64 06 00 00 00 00"]
    assert module.reply_delay == pytest.approx(module.quick + 0.020)


def test_when_interrupts_come_is_kept(module):
    """Bank 3, as PyTrinamic 0.2 lists it."""
    said = talk(module, "01 09 00 03 00 00 00 64", "01 0a 00 03 00 00 00 00", "01 0a 63 03 00 00 00 00")
    assert said == ["02 01 64 09 00 00 00 64", "02 01 64 0a 00 00 00 64", "02 01 03 0a 00 00 00 00"]


@pytest.fixture
async def bench():
    async with wired("trinamic_tmcm1110", name="stage", options=OPTIONS) as (device, wire):
        yield device, wire


async def test_it_says_who_it_is(bench):
    assert bench[0].identity == "Trinamic TMCM-1110, firmware V109"


async def test_a_move_takes_the_time_of_its_speed(bench):
    stage, wire = bench
    await stage.speed.set(0.5)
    assert await stage.speed.get() == pytest.approx(0.5, rel=1e-3)
    begun = asyncio.get_running_loop().time()
    await stage.move(3.0)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(6.0, rel=0.1)
    assert wire.emulator.counter == 3 * PER_MM
    assert await stage.position.get() == 3.0


async def test_leaving_a_move_early_stops_the_motor(bench):
    stage, wire = bench
    async with stage.move(5.0):
        await asyncio.sleep(2.0)
    assert not wire.emulator.axis.moving
    assert 0.5 < await stage.position.get() < 2.0


async def test_a_pitch_below_zero_turns_the_axis_round():
    async with wired("trinamic_tmcm1110", options=OPTIONS | {"pitch": -2.0}) as (stage, wire):
        await stage.move(1.0)
        assert wire.emulator.counter == -PER_MM // 2
        assert await stage.position.get() == 1.0


@pytest.mark.parametrize("to", [10.001, -10.001, float("nan"), float("inf")])
async def test_beyond_its_travel_nothing_is_sent(bench, to):
    stage, wire = bench
    for attempt in (stage.move, stage.target.set):
        with pytest.raises(LimitError, match=r"stage.target"):
            attempt(to)
    assert not wire.sent


async def test_a_speed_the_module_can_not_do_is_refused(bench):
    stage, wire = bench
    with pytest.raises(LimitError, match=r"its pulse divisor"):
        stage.speed.set(stage.speed.limits.high * 1.01)
    assert not wire.sent


async def test_a_limit_switch_on_the_way_is_named():
    async with wired("trinamic_tmcm1110", name="stage", options=OPTIONS, right=PER_MM) as (stage, _):
        with pytest.raises(Refused, match=r"it stands at .* on its way to 4 mm; its right limit switch is pressed"):
            await stage.move(4.0)
        assert await stage.right_switch.get() is True


async def test_with_switches_it_must_be_homed_first_and_again_after_a_power_cut():
    options = OPTIONS | {"reference_search": 1, "travel": (0.0, 10.0)}
    async with wired("trinamic_tmcm1110", name="stage", options=options, left=-PER_MM) as (stage, wire):
        with pytest.raises(Refused, match=r"stage: it was not homed since it was switched on; use `home` first"):
            await stage.move(1.0)
        assert not wire.emulator.axis.moving
        await stage.home()
        assert await stage.homed.get() is True
        await stage.move(1.0)
        assert wire.emulator.axis.position == pytest.approx(0.0, abs=500)
        wire.emulator.power_up()
        with pytest.raises(Refused, match=r"not homed"):
            await stage.target.set(2.0)


async def test_a_search_that_another_ends_is_no_success():
    options = OPTIONS | {"reference_search": 1}
    async with wired("trinamic_tmcm1110", options=options) as (stage, wire):
        homing = stage.home()
        await asyncio.sleep(5.0)
        talk(wire.emulator, "01 0d 01 00 00000000")
        with pytest.raises(Refused, match=r"its reference search ended at"):
            await homing
        assert await stage.homed.get() is False


async def test_without_switches_there_is_no_homing(bench):
    with pytest.raises(ConfigError, match=r"give `reference_search` in the lab file"):
        bench[0].home()


async def test_the_safe_state_ends_a_search_and_a_spin(bench):
    stage, wire = bench
    talk(wire.emulator, "01 01 00 00 000003e8")
    await asyncio.sleep(1.0)
    await stage.safe_state()
    await asyncio.sleep(1.0)
    await stage.position.get()  # the bench lives when it is spoken to
    assert not wire.emulator.axis.moving


async def test_a_refusal_is_told_with_its_status(bench):
    stage, wire = bench
    wire.emulator.respond = lambda message: codec.summed(Reply(2, 1, codec.LOCKED, message[1]).encode())
    with pytest.raises(Refused, match=r"status 5\): its EEPROM is locked"):
        await stage.position.get()


async def test_another_module_is_not_taken_for_it():
    with pytest.raises(WrongInstrument, match=r"expected a TMCM-1110, found '1111V113'"):
        async with wired("trinamic_tmcm1110", options=OPTIONS, version="1111V113"):
            pass


async def test_two_modules_on_one_line_are_told_apart():
    async with wired("trinamic_tmcm1110", unit=3, options=OPTIONS) as (stage, wire):
        await stage.move(0.1)
        assert all(telegram[0] == 3 for telegram in wire.sent)
    with pytest.raises(NoReply):
        async with wired("trinamic_tmcm1110", unit=4, options=OPTIONS, emulator=Tmcm1110Emulator(World(), unit=3)):
            pass


@pytest.mark.parametrize(
    "wrong",
    [{"pitch": 0.0}, {"travel": (1.0, 1.0)}, {"travel": (0.0, 1e6)}, {"steps": 0}, {"reference_search": 256}],
    ids=str,
)
async def test_impossible_options_are_mistakes_in_the_lab_file(wrong):
    with pytest.raises(ConfigError):
        async with wired("trinamic_tmcm1110", options=OPTIONS | wrong):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_on_a_real_line_it_answers_a_stranger_and_moves_for_us():
    world = World()
    port = await PtyPort(Bench(world).wire([Tmcm1110Emulator(world)], "serial")).open()
    try:
        assert await asyncio.to_thread(stranger, port.path) == [
            b"\x021110V109",
            bytes.fromhex("02 01 64 05 000007d0 43"),
        ]
        context = Context()
        link = SerialLink(port.path, TrinamicTmcm1110.line)
        session = Session(link, TrinamicTmcm1110.framing("serial"), timebase=context.timebase)
        stage = TrinamicTmcm1110(session, "stage", options=TrinamicTmcm1110.Options(**OPTIONS), context=context)
        await stage.connect()
        await stage.move(0.1)
        assert await stage.position.get() == pytest.approx(0.1, abs=1e-4)
        await stage.disconnect()
        await context.close()
    finally:
        await port.close()


def stranger(path: str) -> list[bytes]:
    """PyTrinamic's bytes: a version and a speed set, nine bytes read after each."""
    with serial.Serial(path, 9600, timeout=2) as line:
        answers = []
        for said in ("01 88 00 00 00000000 89", "01 05 04 00 000007d0 e1"):
            line.write(bytes.fromhex(said))
            answers.append(line.read(9))
        return answers
