"""Pfeiffer's telegrams: checksums, refusals in words, and a gauge that says what is wrong with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.pfeiffer_telegram import codec
from devices.pfeiffer_telegram.codec import Telegram
from devices.pfeiffer_telegram.driver import PfeifferTelegram
from devices.pfeiffer_telegram.emulator import PfeifferTelegramEmulator
from devices.physics import World
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


def talk(emulator: PfeifferTelegramEmulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


def test_a_question_is_as_the_open_driver_sends_it():
    """pfeiffer-vacuum-protocol 1.0, read_pressure(address 1): its text and its checksum by hand."""
    assert sum(b"0010074002=?") % 256 == 106
    assert Telegram(1, codec.READ, codec.PRESSURE, codec.QUESTION).encode() == b"0010074002=?106"


@pytest.mark.parametrize(("data", "pascal"), [("100023", 1e5), ("123420", 123.4), ("100013", 1e-5)])
def test_a_pressure_is_a_mantissa_and_an_exponent(data, pascal):
    assert codec.decode_pressure(data) == pytest.approx(pascal)
    assert codec.encode_pressure(pascal) == data


TELEGRAMS = st.builds(
    Telegram, st.integers(0, 999), st.integers(0, 1), st.integers(0, 999),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16),
)  # fmt: skip


@given(TELEGRAMS)
def test_telegrams_survive_the_wire(telegram):
    assert Telegram.decode(telegram.encode()) == telegram


@given(TELEGRAMS, st.data())
def test_one_wrong_character_is_noticed(telegram, data):
    wire = bytearray(telegram.encode())
    place = data.draw(st.integers(0, len(wire) - 1))
    wire[place] ^= data.draw(st.integers(1, 127))
    with pytest.raises(ValueError, match="telegram|checksum"):
        Telegram.decode(bytes(wire))


@given(st.floats(1e-14, 1e6))
def test_pressures_survive_to_four_digits(pascal):
    assert codec.decode_pressure(codec.encode_pressure(pascal)) == pytest.approx(pascal, rel=5.1e-4)


@given(st.binary(max_size=60))
def test_no_bytes_whatever_upset_the_gauge(noise):
    assert talk(PfeifferTelegramEmulator(World()), noise + b"\r").count(b"\r") <= noise.count(b"\r") + 1


def ask(emulator: PfeifferTelegramEmulator, parameter: int, data: str = "=?", action: int = codec.READ) -> str:
    said = Telegram(emulator.address, action, parameter, data).encode() + b"\r"
    return Telegram.decode(talk(emulator, said).rstrip(b"\r")).data


def test_it_answers_what_the_open_driver_asks_and_refuses_in_words():
    far = PfeifferTelegramEmulator(World(pressure=100.0), noise=0.0)
    assert ask(far, 740) == "100020"
    assert (ask(far, 303), ask(far, 312), ask(far, 349)) == ("000000", "010500", "    A5")
    assert ask(far, 742, "000160", codec.CONTROL) == "000160"
    assert ask(far, 740) == "160020"
    assert (ask(far, 741, "001", codec.CONTROL), ask(far, 741, "002", codec.CONTROL)) == ("001", "_RANGE")
    assert ask(far, 741) == "_LOGIC"
    assert ask(far, 999) == "NO_DEF"
    assert ask(far, 740, "100020", codec.CONTROL) == "_LOGIC"
    assert [ask(far, 742, factor, codec.CONTROL) for factor in ("16", "000019", "000801")] == ["_RANGE"] * 3


def test_damaged_telegrams_and_other_addresses_are_met_with_silence():
    far = PfeifferTelegramEmulator(World())
    assert talk(far, b"0010074002=?107\r0020074002=?107\r\r") == b""


@pytest.mark.real_clock
async def test_two_gauges_share_a_serial_line():
    world = World(pressure=50.0)
    ends = [PfeifferTelegramEmulator(world), PfeifferTelegramEmulator(world, unit=2, sees="column")]
    port = await PtyPort(Bench(world).wire(ends, "serial")).open()
    context = Context()
    session = Session(
        SerialLink(port.path, PfeifferTelegram.line), PfeifferTelegram.framing("serial"), timebase=context.timebase,
        gate=context.gate, timeout=0.5,
    )  # fmt: skip
    cell, column = (PfeifferTelegram(session, f"g{n}", unit=n, context=context) for n in (1, 2))
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
    assert lacking(PfeifferTelegram, Gauge) == []


async def test_it_says_who_it_is_and_a_pressure_in_pascal():
    async with wired(PfeifferTelegram, world=World(pressure=100.0), noise=0.0) as (gauge, wire):
        wire.world.advance = lambda dt: None
        assert gauge.identity == "Pfeiffer MPT 100, firmware 010500"
        assert await gauge.pressure.get() == pytest.approx(wire.emulator.measured, rel=1e-3)


@pytest.mark.parametrize("error", ["Err001", "Err002", "Err999"])
async def test_a_defective_gauge_has_no_value(error):
    async with wired(PfeifferTelegram) as (gauge, wire):
        wire.emulator.error = error
        reading = await gauge.pressure.read()
        assert (reading.value, reading.quality) == (None, Quality.BAD)
        assert reading.reason.startswith(error)


async def test_with_a_warning_the_pressure_is_uncertain():
    async with wired(PfeifferTelegram) as (gauge, wire):
        wire.emulator.error = "Wrn001"
        reading = await gauge.pressure.read()
        assert (reading.value is not None, reading.quality) == (True, Quality.UNCERTAIN)
        assert "filament 1 is defective" in reading.reason


def test_telegrams_are_those_of_the_gauges_manual():
    """PPT 200, PG 0022 BEN/B, section 6.3: pressure, and both adjustments."""
    far = PfeifferTelegramEmulator(World(pressure=1e5), noise=0.0)
    assert talk(far, b"0010074002=?106\r") == b"0011074006100023025\r"
    for telegram in (b"0011074103001130\r", b"0011074103000129\r"):
        assert talk(far, telegram) == telegram


async def test_zero_is_no_pressure():
    async with wired(PfeifferTelegram) as (gauge, wire):
        wire.emulator._measure = lambda: None
        wire.emulator.measured = 0.0
        assert (await gauge.pressure.read()).value is None


async def test_a_pump_or_another_address_is_found_out():
    pump = PfeifferTelegramEmulator(World(), kind="TC 400")
    known = pump._known
    pump._known = lambda: {k: v for k, v in known().items() if k != codec.PRESSURE}
    with pytest.raises(WrongInstrument, match="expected a gauge, found 'TC 400'"):
        async with wired(PfeifferTelegram, emulator=pump):
            pass
    with pytest.raises(NoReply):
        async with wired(PfeifferTelegram, emulator=PfeifferTelegramEmulator(World(), unit=2)):
            pass
    with pytest.raises(ConfigError, match="is no address"):
        async with wired(PfeifferTelegram, unit=0, emulator=PfeifferTelegramEmulator(World())):
            pass
