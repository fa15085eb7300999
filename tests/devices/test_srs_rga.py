"""The RGAs: commands and currents of the manual, spectra of the column's gases, and a filament that protects itself."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from devices.physics import COLUMN_BASE, World
from devices.srs_rga import codec
from devices.srs_rga.codec import HostEnd
from devices.srs_rga.driver import SrsRga
from devices.srs_rga.emulator import SrsRgaEmulator
from hal.errors import ConfigError, InterlockTripped, LimitError, ProtocolError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort, TcpPort
from hal.model.context import Context
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session
from hal.transport.tcp import TcpLink


def talk(rga: SrsRgaEmulator, said: bytes) -> bytes:
    end = rga.framing("serial")
    answers = (rga.respond(message) for message in end.feed(said))
    return b"".join(end.encode(answer) for answer in answers if answer is not None)


@pytest.fixture
def rga():
    return SrsRgaEmulator(World())


# ---------------------------------------------------------------------- the manual's commands


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"ID?\r", b"SRSRGA200VER0.24SN12345\n\r"),  # 6-30
        (b"id?\r\n", b"SRSRGA200VER0.24SN12345\n\r"),  # any case; ruediPy sends a line feed too
        (b"MI10\rMF150\rNF7\rSA10\rAP?\r", b"1401\n\r"),  # 6-17: the manual's analog scan
        (b"MI1\rMF50\rNF0\rHP?\r", b"50\n\r"),  # 6-19: the manual's histogram
        (b"MI?\rMF?\rNF?\rSA?\r", b"1\n\r200\n\r4\n\r10\n\r"),
        (b"FL1.0\rFL?\r", b"0\n\r1.001\n\r"),
        (b"FL*\rFL0\rFL?\r", b"0\n\r0\n\r0.000\n\r"),
        (b"EE70\rEE?\rIE0\rIE?\rVF*\rVF?\r", b"0\n\r70\n\r0\n\r0\n\r0\n\r90\n\r"),
        (b"MO?\rHV1400\rHV?\rHV0\r", b"1\n\r0\n\r1400\n\r0\n\r"),  # 3-12 of the QMS manual
        (b"ER?\rEC?\rEP?\rED?\rEQ?\rEM?\rEF?\r", b"0\n\r" * 7),
        (b"IN0\rIN1\rIN2\r", b"0\n\r" * 3),
    ],
)
def test_commands_are_answered_as_in_the_manual(rga, said, answered):
    assert talk(rga, said) == answered


@pytest.mark.parametrize(
    ("said", "bit"),
    [
        (b"XX1\r", codec.BAD_COMMAND), (b"1\r", codec.BAD_COMMAND), (b"ID\r", codec.BAD_PARAMETER),
        (b"MI0\r", codec.BAD_PARAMETER), (b"NF8\r", codec.BAD_PARAMETER), (b"FL9\r", codec.BAD_PARAMETER),
        (b"FL0.01\r", codec.BAD_PARAMETER), (b"SA9\r", codec.BAD_PARAMETER), (b"HS256\r", codec.BAD_PARAMETER),
        (b"EE70.5\r", codec.BAD_PARAMETER), (b"FL1e0\r", codec.BAD_PARAMETER), (b"EEx\r", codec.BAD_PARAMETER),
        (b"MI50\rMF40\r", codec.CONFLICT), (b"MF" + b"1" * 200 + b"\r", codec.TOO_LONG),
    ],
)  # fmt: skip
def test_what_it_does_not_understand_is_met_with_silence_and_a_bit_that_is_told_once(rga, said, bit):
    """Manual, 6-7, 6-59 and 6-69."""
    assert talk(rga, said) == b""
    assert talk(rga, b"ER?\rEC?\rER?\rEC?\r") == b"1\n\r%d\n\r0\n\r0\n\r" % bit


def test_an_analyzer_without_the_multiplier_says_so(rga):
    rga.multiplier = False
    assert talk(rga, b"MO?\rHV1400\rEC?\rEM?\r") == b"0\n\r1\n\r128\n\r"


def test_a_scan_brings_a_current_for_each_mass_and_the_total(rga):
    talk(rga, b"FL1\rMI1\rMF50\rNF0\r")
    assert talk(rga, b"HS1\r") == b""
    live(rga, 50 * 2.4)
    said = rga.unasked()
    assert rga.talking
    live(rga, 2.5)
    currents = codec.currents(b"".join(said + rga.unasked()))
    assert not rga.talking
    assert len(currents) == 51
    assert np.argmax(currents[:-1]) == 17, "water"
    assert currents[-1] == pytest.approx(COLUMN_BASE / codec.TORR * 0.01e-3, rel=1e-2)
    talk(rga, b"NF7\rSC2\r")
    live(rga, 4.0)
    assert len(rga.unasked()) == 2 * 492


def test_a_continuous_scan_goes_on_until_a_command_ends_it_and_forgets_the_rest(rga):
    """6-46"""
    talk(rga, b"FL1\rMI1\rMF50\rNF7\rHS\r")
    live(rga, 10.0)
    assert len(rga.unasked()) == pytest.approx(400, abs=2)
    live(rga, 1.0)
    assert talk(rga, b"HS0\r") == b""
    assert (rga.unasked(), rga.talking) == ([], False)


def live(rga: SrsRgaEmulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        rga.advance(0.01)


def test_a_single_mass_is_one_current_and_mass_zero_none(rga):
    talk(rga, b"FL1\r")
    assert codec.currents(talk(rga, b"MR18\r"))[0] == pytest.approx(0.6 * COLUMN_BASE / codec.TORR * 1e-4, rel=0.02)
    assert talk(rga, b"MR0\rML28\r") == b""


def test_the_total_is_null_while_the_multiplier_is_on_until_it_is_asked_for(rga):
    """Command TP of the manual."""
    talk(rga, b"FL1\rHV1400\r")
    assert talk(rga, b"TP?\r") == bytes(4)
    talk(rga, b"TP1\r")
    assert codec.currents(talk(rga, b"TP?\r"))[0] > 0.0


def test_the_multiplier_multiplies(rga):
    talk(rga, b"FL1\r")
    plain = codec.currents(talk(rga, b"MR18\r"))[0]
    talk(rga, b"HV1400\r")
    assert codec.currents(talk(rga, b"MR18\r"))[0] == pytest.approx(1000 * plain, rel=0.02)


def test_the_filament_protects_itself(rga):
    """6-35: above 1e-4 Torr."""
    talk(rga, b"FL1\rHV1400\r")
    rga.world.leak = 0.02
    rga.advance(0.01)
    assert talk(rga, b"FL?\rHV?\rER?\rEF?\r") == b"0.000\n\r0\n\r2\n\r32\n\r"
    assert talk(rga, b"FL1\rFL?\r") == b"2\n\r0.000\n\r"
    rga.world.leak = 0.0
    assert talk(rga, b"FL1\rEF?\r") == b"0\n\r0\n\r"


# ---------------------------------------------------------------------- the codec


def test_currents_are_little_endian_in_units_of_a_tenth_of_a_femtoampere():
    assert codec.packed(1e-12) == bytes.fromhex("10 27 00 00")
    assert codec.packed(-1e-16) == b"\xff\xff\xff\xff"
    assert codec.packed(1.0) == bytes.fromhex("ff ff ff 7f"), "more than it can tell"


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20), st.lists(st.integers(1, 9)))
def test_currents_survive_any_cutting(numbers, cuts):
    end = HostEnd()
    assert end.encode(codec.bringing(b"HS1", len(numbers))) == b"HS1\r"
    stream = b"".join(codec.packed(number * codec.CURRENT) for number in numbers)
    found, sizes = [], iter(cuts)
    while stream:
        size = next(sizes, len(stream))
        found += end.feed(stream[:size])
        stream = stream[size:]
    (message,) = found
    assert list(np.rint(codec.currents(message) / codec.CURRENT)) == numbers


@given(st.binary(max_size=80))
def test_no_bytes_whatever_upset_the_analyzer(noise):
    rga = SrsRgaEmulator(World())
    assert isinstance(talk(rga, noise + b"\r"), bytes)
    assert rga.emission == 0.0 or b"FL" in noise.upper()


# ---------------------------------------------------------------------- the driver


def test_degassing_says_its_status_when_it_is_over_and_nothing_if_it_is_ended(rga):
    """labmcp-srs-rga 0.1.1: DGn is answered at its end, DG0 ends it without an answer."""
    assert talk(rga, b"DG1\r") == b""
    live(rga, 59)
    assert rga.talking
    assert not rga.unasked()
    live(rga, 2)
    assert rga.unasked() == [b"0\n\r"]
    talk(rga, b"DG2\r")
    live(rga, 10)
    assert talk(rga, b"DG0\r") == b""
    live(rga, 150)
    assert not rga.unasked()


def test_a_voltage_too_low_for_the_multiplier_is_refused(rga):
    assert talk(rga, b"HV5\rHV?\rEC?\r") == b"0\n\r2\n\r"


@pytest.fixture
async def bench():
    async with wired("srs_rga", name="rga") as (device, wire):
        yield device, wire


async def test_it_says_who_it_is_and_knows_its_masses(bench):
    rga, wire = bench
    assert rga.identity == "SRS RGA200, number 12345, firmware 0.24"
    with pytest.raises(LimitError, match=r"201 is no whole mass from 1 to 200 amu; nothing was sent"):
        rga.scan(1, 201)
    with pytest.raises(LimitError, match=r"1\.5 is no whole mass"):
        rga.scan(1.5, 20)
    assert not wire.sent


async def test_the_pressure_is_that_of_the_column_and_none_without_the_filament(bench):
    rga, wire = bench
    reading = await rga.pressure.read()
    assert (reading.value, reading.reason) == (None, "the filament is off")
    await rga.filament.set(True)
    assert await rga.emission.get() == pytest.approx(1.0, abs=0.02)
    assert await rga.pressure.get() == pytest.approx(wire.world.column, rel=0.01)


async def test_argon_in_the_cell_appears_in_the_spectrum(bench):
    rga, wire = bench
    await rga.filament.set(True)
    await rga.noise_floor.set(2)
    before = await rga.scan(1, 50)
    wire.world.lines["argon"].flow = 10.0
    await asyncio.sleep(30.0)
    after = await rga.scan(1, 50)
    argon = list(after.mass).index(40.0)
    assert before.partial_pressure[argon] < 2e-7
    assert after.partial_pressure[argon] == pytest.approx(wire.world.column - COLUMN_BASE, rel=0.05)


async def test_an_analog_scan_has_the_shape_of_the_peaks():
    async with wired("srs_rga", options={"steps": 20}) as (rga, _):
        await rga.filament.set(True)
        spectrum = await rga.scan(15, 20)
        assert len(spectrum.mass) == 101
        assert spectrum.mass[np.argmax(spectrum.partial_pressure)] == pytest.approx(18.0)
        assert spectrum.partial_pressure.max() == pytest.approx(0.6 * COLUMN_BASE, rel=0.05)


async def test_the_multiplier_changes_currents_and_not_pressures(bench):
    rga, wire = bench
    await rga.filament.set(True)
    plain = await rga.scan(17, 19)
    await rga.multiplier.set(1400)
    multiplied = await rga.scan(17, 19)
    assert wire.emulator.high_voltage == 1400
    assert multiplied.partial_pressure[1] == pytest.approx(plain.partial_pressure[1], rel=0.05)
    reading = await rga.pressure.read()
    assert (reading.value, reading.reason) == (None, "it measures no total while the multiplier is on")


async def test_a_scan_without_the_filament_is_refused(bench):
    with pytest.raises(Refused, match=r"rga: its filament is off; set `filament` first"):
        await bench[0].scan(1, 50)


async def test_a_filament_that_protects_itself_is_told(bench):
    rga, wire = bench
    wire.world.leak = 0.05
    with pytest.raises(Refused, match=r"FL1.00 failed, filament: the pressure is too high; it was switched off"):
        await rga.filament.set(True)
    assert await rga.problem.get() == "filament"


async def test_the_safe_state_is_a_filament_without_current_whatever_runs(bench):
    rga, wire = bench
    await rga.filament.set(True)
    scanning = rga.scan(1, 100)
    await asyncio.sleep(5.0)
    assert wire.sent[-1] == b"HS1\r"
    begun = asyncio.get_running_loop().time()
    await rga.safe_state()
    assert asyncio.get_running_loop().time() - begun < 2.0
    assert wire.emulator.emission == 0.0
    assert not wire.emulator.talking
    scanning.cancel()


async def test_leaving_a_scan_ends_it_at_the_analyzer(bench):
    rga, wire = bench
    await rga.filament.set(True)
    async with rga.scan(1, 100):
        await asyncio.sleep(5.0)
    assert wire.sent[-2:] == [b"HS1\r", b"HS0\r"]
    assert not wire.emulator.talking
    assert await rga.filament.get() is True


async def test_after_a_trip_the_filament_can_not_be_lit_but_goes_off(bench):
    rga, wire = bench
    rga.context.gate.close(lambda: InterlockTripped("the window burst"))
    with pytest.raises(InterlockTripped):
        await rga.filament.set(True)
    wire.forget()
    with acting(Purpose.SAFE):
        await rga.make_safe()
    assert wire.sent[0] == b"FL0\r"


async def test_a_filament_that_stays_on_is_told(bench):
    rga, wire = bench
    await rga.filament.set(True)
    wire.emulator._fl = lambda parameter: b"1.001\n\r" if parameter == "?" else b"0\n\r"
    with pytest.raises(Refused, match=r"FL0 was taken and it still emits 1.001 mA; switch it off by hand"):
        await rga.off()


async def test_a_scan_range_that_another_changed_is_noticed(bench):
    rga, wire = bench
    await rga.filament.set(True)
    wire.emulator._hp = lambda parameter: b"12\n\r"
    with pytest.raises(Refused, match=r"a scan of 50 currents was set and it would give 12"):
        await rga.scan(1, 50)


async def test_without_a_multiplier_there_is_none_to_set():
    async with wired("srs_rga", name="rga", multiplier=False) as (rga, _):
        with pytest.raises(Refused, match=r"it has no electron multiplier; nothing was sent"):
            await rga.multiplier.set(1000)
        await rga.filament.set(True)
        assert (await rga.scan(1, 50)).partial_pressure.max() > 0.0


async def test_an_answer_that_makes_no_sense_names_itself(bench):
    rga, wire = bench
    wire.emulator._er = lambda parameter: b"what\n\r"
    with pytest.raises(ProtocolError, match=r"rga: expected a number, got b'what'"):
        await rga.problem.get()


async def test_another_instrument_is_not_taken_for_it():
    with pytest.raises(WrongInstrument, match=r"expected an SRS RGA, found 'SRSRGA120"):
        async with wired("srs_rga", identity="SRSRGA120VER1.00SN00001"):
            pass


@pytest.mark.parametrize(
    "wrong",
    [{"emission": 0.01}, {"emission": 4.0}, {"steps": 9}, {"steps": 26}, {"user": "a"}, {"user": "a", "password": "b"}],
    ids=str,
)
async def test_impossible_options_are_mistakes_in_the_lab_file(wrong):
    with pytest.raises(ConfigError):
        async with wired("srs_rga", options=wrong):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_on_a_real_line_it_answers_a_stranger_and_scans_for_us():
    world = World()
    emulator = SrsRgaEmulator(world)
    emulator.settings["NF"] = 7.0
    port = await PtyPort(Bench(world).wire([emulator], "serial")).open()
    try:
        identity, points, data = await asyncio.to_thread(stranger, port.path)
        assert identity == b"SRSRGA200VER0.24SN12345\n\r"
        assert (points, len(data)) == (b"10\n\r", 44)
        emulator.emission = 1.0
        context = Context()
        session = Session(SerialLink(port.path, SrsRga.line), SrsRga.framing("serial"), timebase=context.timebase)
        rga = SrsRga(session, "rga", context=context)
        await rga.connect()
        spectrum = await rga.scan(1, 50)
        assert spectrum.mass[np.argmax(spectrum.partial_pressure)] == 18.0
        await rga.disconnect()
        await context.close()
    finally:
        await port.close()


def stranger(path: str) -> tuple[bytes, bytes, bytes]:
    """SRS's own package: identity, masses, points, a histogram."""
    with serial.Serial(path, 28800, timeout=2, rtscts=True) as line:
        line.write(b"ID?\r")
        identity = line.read_until(b"\r")
        line.write(b"MI11\rMF20\rHP?\r")
        points = line.read_until(b"\r")
        line.write(b"HS1\r")
        return identity, points, line.read(44)


# ---------------------------------------------------------------------- its Ethernet port


def said_over_ethernet(rga: SrsRgaEmulator, *lines: bytes) -> list[bytes]:
    framing = rga.framing("tcp")
    return [b"".join(rga.respond(message) or b"" for message in framing.feed(line)) for line in lines]


def test_its_own_port_asks_who_is_there_as_srs_package_expects(rga):
    """srsgui 0.5, `TcpipInterface.connect_with_login`: a blank, the name, the password."""
    blank, name, welcome, identity = said_over_ethernet(rga, b" \r", b"admin\r", b"admin\r", b"ID?\r")
    assert b"Name:" in blank.split(b"\r")[-1]
    assert b"Name:" not in name
    assert b"Welcome" in welcome
    assert identity.startswith(b"SRSRGA200")


def test_a_wrong_password_is_not_welcome(rga):
    *_, refused, asked = said_over_ethernet(rga, b" \r", b"admin\r", b"guess\r", b"admin\r")
    assert b"Welcome" not in refused
    assert refused.endswith(b"Name:")
    assert asked.endswith(b"Password:")


def test_behind_a_serial_server_nobody_logs_in(rga):
    assert said_over_ethernet(rga, b"ID?\r", b" \r", b"MI?\r")[1:] == [b"", b"1\n\r"]


def test_a_port_that_wants_a_login_passes_nothing_on_before():
    rga = SrsRgaEmulator(World(), login=True)
    asked, *_ = said_over_ethernet(rga, b"FL1.0\r")
    assert asked.endswith(b"Name:")
    assert rga.emission == 0.0


@pytest.mark.real_clock
async def test_the_driver_logs_in_with_the_password_of_the_environment(monkeypatch):
    world = World()
    rga = SrsRgaEmulator(world, password="secret", login=True)
    port = await TcpPort(Bench(world).wire([rga], "tcp")).open()
    options = {"user": "admin", "password": "env:RGA_OF_THE_TESTS"}
    link, context = TcpLink("127.0.0.1", port.port), Context()
    session = Session(link, SrsRga.framing("tcp"), timebase=context.timebase, gate=context.gate)
    driver = SrsRga(session, "rga", context=context, options=SrsRga.Options(**options))
    try:
        with pytest.raises(ConfigError, match="rga: there is no environment variable RGA_OF_THE_TESTS"):
            await driver.connect()
        monkeypatch.setenv("RGA_OF_THE_TESTS", "guess")
        with pytest.raises(Refused, match="rga: it does not let 'admin' in; check `user` and RGA_OF_THE_TESTS"):
            await driver.connect()
        monkeypatch.setenv("RGA_OF_THE_TESTS", "secret")
        await driver.connect()
        assert driver.identity.startswith("SRS RGA200")
        assert await driver.filament.get() is False
    finally:
        await driver.disconnect()
        await port.close()
        await context.close()
