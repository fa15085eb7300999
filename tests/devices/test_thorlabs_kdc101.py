"""The KDC101: APT messages as two open packages have them, a stage to be homed, and what nobody asked for."""

from __future__ import annotations

import asyncio
import struct

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from devices.physics import World
from devices.thorlabs_kdc101 import codec
from devices.thorlabs_kdc101.codec import DcStatus, Info, Message
from devices.thorlabs_kdc101.driver import ThorlabsKdc101
from devices.thorlabs_kdc101.emulator import Kdc101Emulator
from hal.errors import ConfigError, LimitError, NoReply, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.context import Context
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session

OPTIONS = {"stage": "MTS25-Z8"}
COUNTS = codec.STAGES["MTS25-Z8"].counts


def live(cube: Kdc101Emulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        cube.advance(0.01)


def talk(cube: Kdc101Emulator, *said: str) -> bytes:
    end = cube.framing("serial")
    answers = [cube.respond(message) for text in said for message in end.feed(bytes.fromhex(text))]
    return b"".join(answer for answer in answers if answer is not None)


@pytest.fixture
def cube():
    return Kdc101Emulator(World(), homed=True, at=5.0)


# ---------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("message", "said"),
    [  # as thorlabs-apt-protocol 29 makes them (functions.py)
        (Message(codec.HW_REQ_INFO), "05 00 00 00 50 01"),
        (Message(codec.MOT_MOVE_HOME, 1), "43 04 01 00 50 01"),
        (Message(codec.MOT_MOVE_STOP, 1, 2), "65 04 01 02 50 01"),
        (Message(codec.MOT_MOVE_ABSOLUTE, data=struct.pack("<Hi", 1, 200_000)), "53 04 06 00 d0 01 01 00 40 0d 03 00"),
        (
            Message(codec.MOT_SET_VELPARAMS, data=struct.pack("<H3i", 1, 0, 260, 772981)),
            "13 04 0e 00 d0 01 01 00 00 00 00 00 04 01 00 00 75 cb 0b 00",
        ),
    ],
)
def test_messages_have_six_bytes_and_their_data_behind(message, said):
    assert message.encode() == bytes.fromhex(said)
    assert Message.decode(bytes.fromhex(said)) == message


def test_units_are_those_of_the_scaling_table():
    """34304 counts per mm: 767367.49 and 261.93 (protocol, issue 15, "Conversion"; pylablib has the same)."""
    assert codec.velocity(1.0, 34304) == 767367
    assert codec.acceleration(1.0, 34304) == 262
    assert codec.speed(767367, 34304) == pytest.approx(1.0, rel=1e-6)


def test_a_z8_counts_as_the_latest_issue_has_it():
    """Protocol of 28 November 2022, row "Z8xx": 34554.96, 772981.3692, 263.8443072 (as open programs quote it)."""
    assert codec.velocity(1.0, COUNTS) == 772981
    assert codec.acceleration(1.0, COUNTS) == 264


@pytest.mark.parametrize(
    ("said", "answered"),
    [  # pykdc101 0.26
        ("0a 04 01 00 50 01", "0b 04 06 00 81 50 01 00 00 00 00 00"),
        ("11 04 01 00 50 01", "12 04 06 00 81 50 01 00 00 00 00 00"),
        ("45 04 06 00 d0 01 01 00 10 27 00 00 46 04 01 00 50 01", "47 04 06 00 81 50 01 00 10 27 00 00"),
        ("50 04 06 00 d0 01 01 00 f0 d8 ff ff 51 04 01 00 50 01", "52 04 06 00 81 50 01 00 f0 d8 ff ff"),
        ("23 02 00 00 50 01", ""), ("86 06 01 00 50 01", ""),
        # thorlabs-apt-protocol 29: outputs, lock of the wheel, no hub
        ("13 02 01 00 50 01 14 02 00 00 50 01", "15 02 01 00 01 50"),
        ("50 02 00 01 50 01 51 02 00 00 50 01", "52 02 00 01 01 50"), ("65 00 00 00 50 01", "66 00 ff 00 01 50"),
    ],
)  # fmt: skip
def test_it_answers_another_program_byte_by_byte(said, answered):
    cube = Kdc101Emulator(World(), homed=False, at=5.0)
    assert talk(cube, said) == bytes.fromhex(answered)


def test_a_relative_move_set_before_is_carried_out(cube):
    """pykdc101 0.26: 0445 sets the distance, the short form of 0448 goes."""
    before = cube.counter
    talk(cube, "45 04 06 00 d0 01 01 00 10 27 00 00", "48 04 01 00 50 01")
    live(cube, 5)
    assert cube.counter == before + 10_000


def test_factory_settings_come_back(cube):
    factory = talk(cube, "14 04 01 00 50 01")
    talk(cube, "13 04 0e 00 d0 01 01 00 00 00 00 00 04 01 00 00 75 cb 0b 00")
    assert talk(cube, "14 04 01 00 50 01") != factory
    talk(cube, "86 06 01 00 50 01")
    assert talk(cube, "14 04 01 00 50 01") == factory


def test_who_it_is_comes_in_84_bytes(cube):
    answer = talk(cube, "05 00 00 00 50 01")
    assert answer[:6] == bytes.fromhex("06 00 54 00 81 50")
    assert Info.decode(answer[6:]).model == "KDC101"
    assert answer[6:10] == (27000001).to_bytes(4, "little")
    assert answer[6 + 14 : 6 + 17] == bytes((4, 2, 2)), "the firmware's minor number comes first"


MESSAGES = st.builds(Message, st.sampled_from(sorted(codec._said())), st.integers(0, 255), st.integers(0, 255)) | (
    st.builds(lambda n, d: Message(n, data=d), st.sampled_from(sorted(codec._said())), st.binary(max_size=40))
)


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(1, 9)))
def test_messages_survive_any_cutting(messages, cuts):
    stream = b"".join(message.encode() for message in messages)
    end, found, sizes = codec.cube_end(), [], iter(cuts)
    while stream:
        size = next(sizes, len(stream))
        found += end.feed(stream[:size])
        stream = stream[size:]
    assert [Message.decode(message) for message in found] == messages


@given(st.binary(max_size=80))
def test_no_bytes_whatever_upset_either_end(noise):
    cube = Kdc101Emulator(World())
    for message in cube.framing("serial").feed(noise):
        cube.respond(message)
    codec.host_end().feed(noise)


def test_no_order_is_found_in_the_data_of_a_message_it_does_not_know(cube):
    """An unknown message (0x0999) whose data are an order to move at once."""
    order = "57 04 01 01 50 01"
    assert talk(cube, f"99 09 06 00 d0 01 {order}", "11 04 01 00 50 01")[:2] == b"\x12\x04"
    live(cube, 0.5)
    assert not cube.axis.moving


def test_noise_before_a_message_is_skipped(cube):
    assert talk(cube, "ff 43 04 00 05 00 00 00 50 01")[:2] == bytes.fromhex("06 00")


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**15), 2**15 - 1), st.integers(0, 2**32 - 1))
def test_a_status_survives_the_way(position, velocity, bits):
    status = DcStatus(position, velocity, bits)
    assert DcStatus.decode(status.encode()) == status


# ---------------------------------------------------------------------- the controller


@pytest.mark.parametrize("number", sorted(set(codec.PARAMETERS) - {0x0409, 0x0410}))
def test_parameters_come_back_as_they_were_set(cube, number):
    form = codec.PARAMETERS[number]
    count = len(struct.unpack(form, bytes(struct.calcsize(form))))
    data = struct.pack(form, 1, *range(2, count + 1))
    question = Message(number + 1, 1).encode().hex()
    assert talk(cube, Message(number, data=data).encode().hex()) == b""
    answer = Message.decode(talk(cube, question))
    assert (answer.number, answer.data) == (number + 2, data)


def test_the_end_of_a_move_is_told_by_itself(cube):
    talk(cube, Message(codec.MOT_MOVE_ABSOLUTE, data=struct.pack("<Hi", 1, round(6 * COUNTS))).encode().hex())
    assert cube.talking
    assert cube.unasked() == []
    live(cube, 2.0)
    (told,) = cube.unasked()
    assert told[:6] == bytes.fromhex("64 04 0e 00 81 50")
    assert DcStatus.decode(told[6:]).position == round(6 * COUNTS)
    assert not cube.talking


def test_a_stop_is_told_as_stopped_and_a_homing_as_homed(cube):
    talk(cube, "57 04 01 02 50 01")  # upwards, for ever
    live(cube, 1.0)
    talk(cube, "65 04 01 02 50 01")
    live(cube, 1.0)
    assert [told[:2] for told in cube.unasked()] == [bytes.fromhex("66 04")]
    talk(cube, "43 04 01 00 50 01")
    live(cube, 10.0)
    assert cube.unasked() == [bytes.fromhex("44 04 01 00 01 50")]
    assert cube.counter == 0


def test_an_immediate_stop_stands_at_once_and_a_profiled_one_brakes(cube):
    for how, moving in (("01", False), ("02", True)):
        talk(cube, "57 04 01 02 50 01")
        live(cube, 1.0)
        talk(cube, f"65 04 01 {how} 50 01")
        assert cube.axis.moving is moving


def test_what_was_to_be_told_comes_before_the_next_answer(cube):
    talk(cube, "6a 04 01 02 50 01")  # a jog of 0.1 mm
    live(cube, 1.0)
    answers = codec.host_end().feed(talk(cube, "90 04 01 00 50 01"))
    assert [Message.decode(answer).number for answer in answers] == [0x0464, 0x0491]


def test_updates_come_ten_times_a_second_until_nobody_acknowledges(cube):
    talk(cube, "11 00 00 00 50 01")
    live(cube, 1.0)
    assert len(cube.unasked()) == pytest.approx(10, abs=1)
    live(cube, 10.0)
    assert len(cube.unasked()) == pytest.approx(40, abs=1)
    talk(cube, "92 04 00 00 50 01")
    live(cube, 1.0)
    assert len(cube.unasked()) == pytest.approx(10, abs=1)
    talk(cube, "12 00 00 00 50 01")
    live(cube, 1.0)
    assert cube.unasked() == []


def test_the_direction_that_counts_up_is_number_two_and_bit_five(cube):
    """thorlabs-apt-device and pylablib both turn the document's forward round for this controller."""
    talk(cube, "57 04 01 02 50 01")
    live(cube, 0.5)
    assert cube.counter > 5 * COUNTS or cube.axis.velocity > 0
    assert cube.status().bits & 0x30 == 0x20


def test_the_end_of_travel_stops_it_and_sets_its_bit(cube):
    talk(cube, "57 04 01 02 50 01")
    live(cube, 15.0)
    assert not cube.axis.moving
    assert cube.status().bits & 0x3F == codec.HIGH_LIMIT
    assert cube.unasked()[0][:2] == bytes.fromhex("66 04")


def test_a_channel_switched_off_does_not_move(cube):
    talk(cube, "10 02 01 02 50 01", "57 04 01 02 50 01")
    assert not cube.axis.moving
    assert talk(cube, "11 02 01 00 50 01") == bytes.fromhex("12 02 01 02 01 50")


# ---------------------------------------------------------------------- the driver


@pytest.fixture
async def bench():
    async with wired("thorlabs_kdc101", name="stage", options=OPTIONS, homed=True, at=5.0) as (device, wire):
        yield device, wire


async def test_it_says_who_it_is_and_where(bench):
    stage, _ = bench
    assert stage.identity == "Thorlabs KDC101, number 27000001, firmware 2.2.4"
    assert await stage.position.get() == pytest.approx(5.0, abs=1e-4)


async def test_a_move_takes_the_time_of_its_speed(bench):
    stage, _ = bench
    await stage.speed.set(1.0)
    assert await stage.speed.get() == pytest.approx(1.0, rel=1e-5)
    begun = asyncio.get_running_loop().time()
    await stage.move(10.0)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(5.2, abs=0.4)
    assert await stage.position.get() == pytest.approx(10.0, abs=1e-3)
    assert await stage.state.get() == "standing"


async def test_leaving_a_move_early_stops_the_stage(bench):
    stage, wire = bench
    async with stage.move(20.0):
        await asyncio.sleep(2.0)
    assert not wire.emulator.axis.moving
    assert 7.0 < await stage.position.get() < 12.0


async def test_until_it_was_homed_it_does_not_move():
    async with wired("thorlabs_kdc101", name="stage", options=OPTIONS, at=3.0) as (stage, wire):
        with pytest.raises(Refused, match=r"stage: it was not homed since it was switched on; use `home` first"):
            await stage.move(1.0)
        assert not wire.emulator.axis.moving
        await stage.home()
        assert await stage.homed.get() is True
        await stage.move(1.0)
        assert wire.emulator.axis.position == pytest.approx(1.0 * COUNTS, abs=5)


@pytest.mark.parametrize("to", [-0.001, 25.001, float("nan")])
async def test_beyond_its_travel_nothing_is_sent(bench, to):
    stage, wire = bench
    for attempt in (stage.move, stage.target.set):
        with pytest.raises(LimitError, match=r"stage.target"):
            attempt(to)
    with pytest.raises(LimitError, match=r"the speed of MTS25-Z8"):
        stage.speed.set(2.5)
    assert not wire.sent


async def test_a_motor_switched_off_at_the_front_is_switched_on_for_a_move(bench):
    stage, wire = bench
    wire.emulator.enabled = False
    await stage.move(5.5)
    assert wire.emulator.enabled


async def test_a_stage_that_is_stopped_by_hand_fails_the_move(bench):
    stage, wire = bench
    moving = stage.move(20.0)
    await asyncio.sleep(2.0)
    talk(wire.emulator, "65 04 01 01 50 01")
    with pytest.raises(Refused, match=r"it stands at .* on its way to 20 mm; was it stopped by hand"):
        await moving


async def test_the_safe_state_stops_it_at_once(bench):
    stage, wire = bench
    talk(wire.emulator, "57 04 01 02 50 01")
    await asyncio.sleep(1.0)
    await stage.safe_state()
    assert not wire.emulator.axis.moving


async def test_a_stop_that_is_not_obeyed_is_told(bench):
    stage, wire = bench
    talk(wire.emulator, "57 04 01 01 50 01")
    wire.emulator._stop = lambda how: None
    wire.emulator.axis.low = float("-inf")
    with pytest.raises(NoReply, match=r"told to stop and still moves after 5 s; switch it off by hand"):
        await stage.stop()


async def test_what_it_tells_by_itself_is_taken_for_no_answer(bench):
    stage, wire = bench
    await stage.move(5.2)
    wire.emulator._say(codec.MOT_MOVE_COMPLETED)
    assert await stage.speed.get() == pytest.approx(2.4, rel=1e-4)


async def test_another_controller_and_another_number_are_not_taken_for_it():
    with pytest.raises(WrongInstrument, match=r"expected a KDC101, found 'KST101' number 26"):
        async with wired("thorlabs_kdc101", options=OPTIONS, model="KST101", serial=26000001):
            pass
    with pytest.raises(WrongInstrument, match=r"with number 27000002, found 'KDC101' number 27000001"):
        async with wired("thorlabs_kdc101", options=OPTIONS | {"serial": 27000002}):
            pass


@pytest.mark.parametrize("wrong", [{"stage": "MTS24"}, {"counts": -1.0}], ids=str)
async def test_impossible_options_are_mistakes_in_the_lab_file(wrong):
    with pytest.raises(ConfigError):
        async with wired("thorlabs_kdc101", options=OPTIONS | wrong):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_on_a_real_line_it_answers_a_stranger_and_moves_for_us():
    world = World()
    port = await PtyPort(Bench(world).wire([Kdc101Emulator(world, homed=True, at=5.0)], "serial")).open()
    try:
        info, status = await asyncio.to_thread(stranger, port.path)
        assert info[:6] + info[10:16] == bytes.fromhex("06 00 54 00 81 50") + b"KDC101"
        assert status[:8] == bytes.fromhex("2a 04 06 00 81 50 01 00")
        context = Context()
        link = SerialLink(port.path, ThorlabsKdc101.line)
        session = Session(link, ThorlabsKdc101.framing("serial"), timebase=context.timebase)
        stage = ThorlabsKdc101(session, "stage", options=ThorlabsKdc101.Options(**OPTIONS), context=context)
        await stage.connect()
        await stage.move(5.1)
        assert await stage.position.get() == pytest.approx(5.1, abs=1e-3)
        await stage.disconnect()
        await context.close()
    finally:
        await port.close()


@pytest.mark.real_clock
async def test_whoever_waits_for_the_end_of_a_move_hears_of_it_without_asking():
    world = World()
    port = await PtyPort(Bench(world).wire([Kdc101Emulator(world, homed=True, at=5.0)], "serial")).open()
    try:
        told = await asyncio.to_thread(patient_stranger, port.path)
        assert told[:6] == bytes.fromhex("64 04 0e 00 81 50")
    finally:
        await port.close()


async def test_in_memory_too_what_is_said_by_itself_arrives_and_then_the_clock_rests(bench):
    stage, wire = bench
    jog = Message(codec.MOT_MOVE_JOG, 1, codec.POSITIVE).encode()
    end = await stage.ask(jog, matches=lambda m: m.startswith(codec.is_reply(codec.MOT_MOVE_COMPLETED)), timeout=2.0)
    assert DcStatus.decode(end.reply[6:]).position == pytest.approx(5.1 * COUNTS, abs=2)
    assert not wire.emulator.talking


def patient_stranger(path: str) -> bytes:
    with serial.Serial(path, 115200, timeout=5, rtscts=True) as line:
        line.write(bytes.fromhex("6a 04 01 02 50 01"))
        return line.read(20)


def stranger(path: str) -> tuple[bytes, bytes]:
    """pylablib's first bytes: updates off, who are you, and the status bits."""
    with serial.Serial(path, 115200, timeout=2, rtscts=True) as line:
        line.write(bytes.fromhex("12 00 00 00 50 01 05 00 00 00 50 01"))
        info = line.read(90)
        line.write(bytes.fromhex("29 04 01 00 50 01"))
        return info, line.read(12)
