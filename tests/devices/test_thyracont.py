"""Thyracont transmitters: both protocols' transcripts, refusals in words, and what they say beyond their range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.physics import World
from devices.thyracont import codec
from devices.thyracont.codec import TelegramV1, TelegramV2
from devices.thyracont.driver import ThyracontV1, ThyracontV2
from devices.thyracont.emulator import ThyracontEmulator, ThyracontV1Emulator
from hal.capabilities import Gauge
from hal.errors import ConfigError, NoReply, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.capabilities import lacking
from hal.model.context import Context
from hal.model.reading import Quality
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session


def talk(emulator: ThyracontEmulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


def ask(emulator: ThyracontEmulator, command: str, data: str = "", access: int = codec.READ) -> TelegramV2:
    said = TelegramV2(emulator.address, access, command, data).encode() + b"\r"
    return TelegramV2.decode(talk(emulator, said).rstrip(b"\r"))


# ---------------------------------------------------------------------- PyMeasure's transcripts


@pytest.mark.parametrize(
    ("telegram", "wire"),
    [
        (TelegramV1(1, "M"), b"001M^"), (TelegramV1(1, "M", "982122"), b"001M982122V"),
        (TelegramV1(1, "T"), b"001Te"), (TelegramV1(1, "T", "VSM207"), b"001TVSM207t"),
        (TelegramV1(1, "I"), b"001IZ"), (TelegramV1(1, "I", "1"), b"001I1K"),
        (TelegramV1(1, "i", "0"), b"001i0j"), (TelegramV1(1, "N", "O_DEF"), b"001NO_DEF\\"),
        (TelegramV1(1, "U", "000000"), b"001U000000F"),
    ],
)  # fmt: skip
def test_telegrams_of_v1_are_those_of_pymeasures_tests(telegram, wire):
    """pymeasure, tests/instruments/thyracont/test_smartline_v1.py."""
    assert telegram.encode() == wire
    assert TelegramV1.decode(wire) == telegram


@pytest.mark.parametrize(
    ("telegram", "wire"),
    [
        (TelegramV2(1, 0, "MR"), b"0010MR00@"), (TelegramV2(1, 1, "MR", "H1.2e3L1e-4"), b"0011MR11H1.2e3L1e-4w"),
        (TelegramV2(1, 0, "MV"), b"0010MV00D"), (TelegramV2(1, 1, "MV", "9.734e2"), b"0011MV079.734e2h"),
        (TelegramV2(2, 2, "R1", "T0.1F1.5"), b"0022R108T0.1F1.5l"), (TelegramV2(2, 3, "R1"), b"0023R100h"),
        (TelegramV2(1, 1, "MV", "OR"), b"0011MV02ORh"), (TelegramV2(1, 1, "MV", "UR"), b"0011MV02URn"),
        (TelegramV2(1, 1, "TD", "VSR205"), b"0011TD06VSR205R"), (TelegramV2(1, 0, "M3"), b"0010M300a"),
        (TelegramV2(1, 1, "M3", "9.274e-8"), b"0011M3089.274e-8x"), (TelegramV2(1, 0, "PM", "1"), b"0010PM011p"),
    ],
)  # fmt: skip
def test_telegrams_of_v2_are_those_of_pymeasures_tests(telegram, wire):
    """pymeasure, tests/instruments/thyracont/test_smartline_v2.py."""
    assert telegram.encode() == wire
    assert TelegramV2.decode(wire) == telegram


def test_pressures_are_written_as_in_the_transcripts():
    assert codec.decode_pressure("982122") == pytest.approx(98210.0)
    assert codec.encode_pressure(98210.0) == "982122"
    assert (codec.encode_millibar(973.4), codec.encode_millibar(9.274e-8)) == ("9.734e2", "9.274e-8")


def test_an_old_transmitter_answers_as_pymeasure_expects():
    far = ThyracontV1Emulator(World(pressure=98210.0), kind="VSM207", noise=0.0)
    assert talk(far, b"001M^\r001Te\r001Uf\r") == b"001M982122V\r001TVSM207t\r001U000000F\r"
    assert talk(far, b"001IZ\r001i0j\r001IZ\r") == b"001I1K\r001i0j\r001I0J\r"
    assert talk(far, TelegramV1(1, "q").encode() + b"\r") == b"001NO_DEF\\\r"
    assert talk(far, b"0010MV00D\r") == b""


def test_a_threshold_is_chosen_and_then_set():
    """scietex-hal-vacuum-gauge: `s` with 1 or 2, then `s` with the value."""
    far = ThyracontV1Emulator(World())
    for command, data in (("s", "2"), ("s", "123419")):
        assert TelegramV1.decode(talk(far, TelegramV1(1, command, data).encode() + b"\r")[:-1]).data == data
    assert TelegramV1.decode(talk(far, TelegramV1(1, "S", "2").encode() + b"\r")[:-1]).data == "123419"


def test_a_new_transmitter_understands_both_protocols():
    far = ThyracontEmulator(World(pressure=97340.0), kind="VSR205", noise=0.0)
    assert talk(far, b"0010MV00D\r0010TD00y\r") == b"0011MV079.734e2h\r0011TD06VSR205R\r"
    assert talk(far, b"001M^\r") == TelegramV1(1, "M", "973422").encode() + b"\r"


def test_settings_are_acknowledged_without_data_and_told_again():
    far = ThyracontEmulator(World(), kind="VSH87DL")
    assert talk(far, b"0012FC012_\r") == b"0013FC00m\r"
    assert ask(far, "FC").data == "2"
    assert ask(far, "DU", "Torr", codec.WRITE) == TelegramV2(1, codec.WRITE_ANSWER, "DU")
    assert ask(far, "DU").data == "Torr"
    assert ask(far, "DU", access=codec.DEFAULT) == TelegramV2(1, codec.DEFAULT_ANSWER, "DU")
    assert ask(far, "DU").data == "mbar"
    assert ask(far, "C1", "1.5e0", codec.WRITE).access == codec.WRITE_ANSWER
    assert ask(far, "C1").data == "1.50"
    assert ask(far, "PM", "1").data == "W0A382"
    assert talk(far, TelegramV2(1, codec.WRITE, "DA", "7").encode() + b"\r") == b"0013DA00i\r"
    assert far.address == 7


@pytest.mark.parametrize(
    ("command", "data", "access", "code"),
    [
        ("XX", "", 0, "NO_DEF"), ("M4", "", 0, "NO_DEF"), ("MV", "1", 2, "_LOGIC"), ("TD", "VSX", 2, "_LOGIC"),
        ("DO", "7", 2, "_RANGE"), ("C1", "9", 2, "_RANGE"), ("C1", "x", 2, "SYNTAX"), ("R1", "T5", 2, "SYNTAX"),
        ("DA", "17", 2, "_RANGE"), ("MV", "", 8, "_LOGIC"), ("CC", "1", 2, "NO_DEF"), ("AH", "", 0, "_LOGIC"),
        ("DL", "", 0, "NO_DEF"), ("PS", "", 0, "NO_DEF"), ("BR", "12345", 2, "_UNSUP"), ("RD", "0", 2, "_RANGE"),
        ("R1", "W", 2, "SYNTAX"), ("PM", "3", 0, "_LOGIC"), ("ST", "D25", 2, "_RANGE"), ("DU", "Torr760", 2, "SYNTAX"),
        ("AH", "", 2, "LENGTH"), ("MV", "1", 0, "LENGTH"), ("TD", "", 4, "_LOGIC"),
    ],
)  # fmt: skip
def test_a_refusal_has_access_code_7_and_a_word(command, data, access, code):
    far = ThyracontEmulator(World(), kind="VSR205")
    assert ask(far, command, data, access) == TelegramV2(1, codec.ERROR, command, code)


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("VSR53D", "M3 M4 DL DG CC"), ("VSP63D", "M2 M3 M4 ST DL"), ("VSH87D", "M2 M4 CM C4"),
        ("VSM77DL", "M2 M3 DG FC"), ("VSI17D", "M1 AH ST C1"),
    ],
)  # fmt: skip
def test_a_kind_has_the_commands_that_the_protocol_lists_for_it(kind, lacks):
    """Communication Protocol 2.1.5, section 4.1."""
    far = ThyracontEmulator(World(), kind=kind)
    every = ("M1", "M2", "M3", "M4", "DL", "DG", "CC", "CM", "FC", "FN", "ST", "C1", "C3", "C4", "AH")
    assert {c for c in every if ask(far, c).data == "NO_DEF"} >= set(lacks.split())
    assert [ask(far, c).access for c in ("MV", "MR", "R1", "R2", "DU", "OC", "OH", "TD")] == [codec.READ_ANSWER] * 8


def test_relays_follow_what_the_kind_can_see_and_the_other_way_round():
    far = ThyracontEmulator(World(), kind="VSH87D")
    assert ask(far, "DU", "Torr760", codec.WRITE).access == codec.WRITE_ANSWER
    for mode in ("!E", "U", "!W", "C", "T1", "T0.1F1.5"):
        assert ask(far, "R1", mode, codec.WRITE).access == codec.WRITE_ANSWER
        assert ask(far, "R1").data == mode
    assert ask(far, "R1", "!O", codec.WRITE).data == "SYNTAX"


def test_it_degasses_in_a_good_vacuum_only_and_answers_after_its_delay():
    far = ThyracontEmulator(World(pressure=1e-2), kind="VSH87D", noise=0.0)
    assert ask(far, "DG", "1", codec.WRITE).data == "_LOGIC"
    far = ThyracontEmulator(World(pressure=1e-5), kind="VSH87D", noise=0.0)
    assert ask(far, "DG", "1", codec.WRITE).access == codec.WRITE_ANSWER
    ask(far, "RD", "99999", codec.WRITE)
    assert far.reply_delay == pytest.approx(0.1, rel=0.01)
    ask(far, "DR", "", codec.WRITE)
    assert ask(far, "RD").data == "5500"


def test_sensors_see_their_own_range():
    far = ThyracontEmulator(World(pressure=1e-3), kind="VSM77DL", noise=0.0)  # 1e-5 mbar
    assert (ask(far, "MV").data, ask(far, "M4").data, ask(far, "M1").data) == ("1.000e-5", "1.000e-5", "UR")
    ask(far, "CC", "0", codec.WRITE)
    assert ask(far, "M4") == TelegramV2(1, codec.ERROR, "M4", "_SEDIS")
    assert ask(far, "MV").data == "UR"
    air = ThyracontEmulator(World(pressure=1e5), kind="VSM77DL", noise=0.0)
    assert (ask(air, "MV").data, ask(air, "M4").data) == ("1.000e3", "OR")


def test_damaged_telegrams_and_other_addresses_are_met_with_silence():
    far = ThyracontEmulator(World())
    assert talk(far, b"001M_\r0010MV00E\r0010MV01D\r002M_\r0020MV00E\r\r") == b""


# ---------------------------------------------------------------------- the codec, both directions

DATA = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16)


@given(st.builds(TelegramV1, st.integers(0, 999), st.sampled_from("TMUuIisSCc"), DATA))
def test_telegrams_of_v1_survive_the_wire(telegram):
    assert TelegramV1.decode(telegram.encode()) == telegram


@given(st.builds(TelegramV2, st.integers(0, 999), st.integers(0, 9), st.from_regex(r"\A[A-Z][A-Z0-9]\Z"), DATA))
def test_telegrams_of_v2_survive_the_wire(telegram):
    assert TelegramV2.decode(telegram.encode()) == telegram


@given(st.floats(1e-10, 2e3))
def test_pressures_survive_to_four_digits(millibar):
    assert codec.decode_millibar(codec.encode_millibar(millibar)) == pytest.approx(millibar, rel=5.1e-4)


@given(st.binary(max_size=40))
def test_no_bytes_whatever_upset_the_transmitter(noise):
    far = ThyracontEmulator(World())
    talk(far, noise + b"\r")
    body = b"001" + bytes(byte & 0x7F for byte in noise)
    talk(far, body + codec.checksum(body.decode("latin-1")).encode() + b"\r")


# ---------------------------------------------------------------------- the driver


@pytest.mark.parametrize("driver", [ThyracontV1, ThyracontV2])
async def test_it_is_a_gauge_and_says_a_pressure_in_pascal(driver):
    assert lacking(driver, Gauge) == []
    async with wired(driver, world=World(pressure=100.0), noise=0.0) as (gauge, wire):
        assert gauge.identity.startswith("Thyracont VSM77DL")
        assert await gauge.pressure.get() == pytest.approx(wire.emulator.measured * 100, rel=1e-3)
        assert wire.emulator.measured == pytest.approx(1.0, rel=0.5)


async def test_a_channel_is_a_sensor():
    async with wired(ThyracontV2, channel=4, world=World(pressure=1e-4)) as (gauge, wire):
        assert await gauge.pressure.get() < 0.1
        assert wire.sent == [b"0010M400b\r"]
        wire.emulator.settings["CC"] = "0"
        reading = await gauge.pressure.read()
        assert (reading.value, reading.reason) == (None, "_SEDIS: this sensor is switched off")


@pytest.mark.parametrize(
    ("pascal", "reason"), [(1e-3, "UR: the pressure is below"), (2e5, "OR: the pressure is above")]
)
async def test_beyond_its_range_there_is_no_value(pascal, reason):
    async with wired(ThyracontV2, world=World(pressure=pascal), kind="VSR205") as (gauge, wire):
        wire.world.advance = lambda dt: None
        reading = await gauge.pressure.read()
        assert (reading.value, reading.quality) == (None, Quality.BAD)
        assert reading.reason.startswith(reason)


async def test_a_defective_sensor_has_no_value():
    async with wired(ThyracontV2) as (gauge, wire):
        wire.emulator.defective = True
        assert (await gauge.pressure.read()).reason == "ERROR1: its sensor is defective or unplugged"


async def test_zero_is_no_pressure():
    async with wired(ThyracontV1) as (gauge, wire):
        wire.emulator._measure = lambda: None
        wire.emulator.measured = 0.0
        assert (await gauge.pressure.read()).value is None


async def test_what_it_has_not_and_who_is_not_there_are_found_out():
    with pytest.raises(WrongInstrument, match=r"check `unit` and `channel` .*M4 was refused"):
        async with wired(ThyracontV2, channel=4, kind="VSR205"):
            pass
    with pytest.raises(NoReply):
        async with wired(ThyracontV2, emulator=ThyracontV1Emulator(World())):
            pass
    for driver, wrong in ((ThyracontV1, {"unit": 17}), (ThyracontV2, {"unit": 0}), (ThyracontV2, {"channel": 5})):
        with pytest.raises(ConfigError, match="is no (address|sensor)"):
            async with wired(driver, emulator=ThyracontEmulator(World()), **wrong):
                pass


@pytest.mark.real_clock
async def test_two_transmitters_share_a_serial_line():
    world = World(pressure=50.0)
    ends = [ThyracontEmulator(world), ThyracontEmulator(world, unit=2, sees="column")]
    port = await PtyPort(Bench(world).wire(ends, "serial")).open()
    context = Context()
    session = Session(
        SerialLink(port.path, ThyracontV2.line), codec.framing(), timebase=context.timebase, gate=context.gate
    )
    cell, column = (ThyracontV2(session, f"g{n}", unit=n, context=context) for n in (1, 2))
    try:
        await cell.connect()
        await column.connect()
        assert await cell.pressure.get() > 1.0
        assert await column.pressure.get() < 1e-3
    finally:
        await cell.disconnect()
        await column.disconnect()
        await port.close()
