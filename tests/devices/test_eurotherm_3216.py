"""Eurotherm 3216: what it shares with the 3504 is tested there; here is what differs."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from devices.eurotherm_3504 import codec
from devices.eurotherm_3504.driver import Eurotherm3216
from devices.eurotherm_3504.emulator import Eurotherm3216Emulator, Eurotherm3504Emulator
from devices.physics import World
from hal.errors import LimitError, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.protocols import modbus
from hal.testing import Wire, wired


@pytest.fixture
async def bench() -> AsyncIterator[tuple[Eurotherm3216, Wire]]:
    async with wired(Eurotherm3216, name="heater") as (heater, wire):
        yield heater, wire


def ask(emulator: Any, message: bytes) -> bytes:
    reply = emulator.respond(message)
    assert reply is not None
    return bytes(reply[modbus.HEADER :])


def advance(emulator: Any, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        emulator.world.advance(0.01)
        emulator.advance(0.01)


# ---------------------------------------------------------------------- the instrument


@pytest.mark.parametrize("number", [codec.RATE_DISABLE, codec.PV_AGAIN])
def test_it_has_not_the_parameters_of_the_larger_one(number: int) -> None:
    assert ask(Eurotherm3216Emulator(World()), modbus.read("registers", 1, number, 1)) == b"\x83\x02"


@pytest.mark.parametrize(("unit", "seconds"), [(0, 60.0), (1, 3600.0), (2, 1.0)])
def test_the_setpoint_rate_is_in_the_unit_of_531(unit: int, seconds: float) -> None:
    emulator = Eurotherm3216Emulator(World())
    for number, word in ((codec.RATE_UNIT, unit), (codec.RATE, 100), (codec.SP1, 5000)):  # 10.0 a unit, to 500 degC
        ask(emulator, modbus.write_register(1, number, word))
    advance(emulator, 10.0)
    assert emulator.working_setpoint - 25.0 == pytest.approx(10.0 / seconds * 10.0, rel=0.03)


def test_in_standby_the_output_is_off_whatever_the_loop_wants() -> None:
    emulator = Eurotherm3216Emulator(World())
    ask(emulator, modbus.write_register(1, codec.SP1, 5000))
    advance(emulator, 1.0)
    assert emulator.world.power > 0
    ask(emulator, modbus.write_register(1, codec.MODE, 1))
    advance(emulator, 1.0)
    assert emulator.world.power == 0


def test_the_remote_setpoint_counts_only_when_it_is_chosen_and_spares_the_memory() -> None:
    emulator = Eurotherm3216Emulator(World())
    ask(emulator, modbus.write_register(1, codec.REMOTE, 800))
    assert emulator.target == 25.0
    ask(emulator, modbus.write_register(1, codec.LOCAL, 1))
    assert ask(emulator, modbus.read("registers", 1, codec.TARGET, 1)) == b"\x03\x02" + (800).to_bytes(2, "big")
    assert emulator.setpoint_writes == 0


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        # Eurotherm3200 of nupylab (on MinimalModbus): dwell of the first segment, its target, cycles, how it ends.
        (modbus.write_registers(1, 0x8000 + 2 * 1280, [0x0001, 0xD4C0]), "108a000002"),  # 120 s
        (modbus.read("registers", 1, 0x8000 + 2 * 1281, 2), "030400000000"),
        (modbus.write_registers(1, 0x8000 + 2 * 1282, [0x40A0, 0x0000]), "108a040002"),  # 5 K/min
        (modbus.read("registers", 1, 332, 1), "03020001"),
        (modbus.write_registers(1, 328, [2]), "1001480001"),
        (modbus.write_registers(1, 23, [1]), "1000170001"),
        # eurothermlib: five floats at once, the measured mV, and all alarms acknowledged.
        (modbus.read("registers", 1, 0x8000 + 2 * codec.MANUAL_OUTPUT, 6), "030c0000000000000000" + "41c80000"),
        (modbus.write_register(1, 274, 1), "0601120001"),
        # Eurotherm3216 of a furnace program: P, the sensor that it has.
        (modbus.write_register(1, codec.BAND, 250), "06000600fa"),
        (modbus.read("registers", 1, 12290, 1), "03020001"),
    ],
)
def test_others_find_timer_program_and_sensor(message: bytes, answer: str) -> None:
    assert ask(Eurotherm3216Emulator(World()), message).hex() == answer


def test_a_temperature_may_come_by_the_wire() -> None:
    emulator = Eurotherm3216Emulator(World())
    ask(emulator, modbus.write_register(1, 12290, 10))
    ask(emulator, modbus.write_register(1, 203, 4321))
    advance(emulator, 0.5)
    assert emulator.pv == 432.1


# ---------------------------------------------------------------------- the driver


async def test_a_ramp_follows_its_rate(bench: tuple[Eurotherm3216, Wire]) -> None:
    heater, wire = bench
    began = asyncio.get_running_loop().time()
    await heater.ramp(to=225.0, rate=5.0)
    assert asyncio.get_running_loop().time() - began == pytest.approx(40.0, abs=4)
    assert wire.world.temperature == pytest.approx(225.0, abs=2)
    assert wire.emulator.setpoint_writes == 1


@pytest.mark.parametrize("phase", [0.025 * n for n in range(10)])
async def test_turning_back_while_the_setpoint_is_ahead_never_lets_it_jump_on(
    bench: tuple[Eurotherm3216, Wire], phase: float
) -> None:
    heater, wire = bench
    heater.ramp(to=1000.0, rate=20.0)
    await asyncio.sleep(5.0 + phase)  # of its control cycle
    wire.emulator.world.heaters.clear()
    wire.world.temperature -= 40.0  # something cools it: the setpoint is far ahead
    heater.ramp(to=50.0, rate=1.0)
    highest = 0.0
    for _ in range(60):
        await asyncio.sleep(0.05)
        highest = max(highest, wire.emulator.working_setpoint)
    assert highest < 25 + 20.0 * 6


@pytest.mark.parametrize(
    ("number", "word", "text"),
    [
        (codec.RATE_UNIT, 2, "ramp units to minutes"),
        (codec.LOCAL, 1, "choose the local one"),
        (codec.MODE, 1, "standby"),
    ],
)
async def test_what_would_make_a_ramp_something_else_is_refused_before_it_begins(
    bench: tuple[Eurotherm3216, Wire], number: int, word: int, text: str
) -> None:
    heater, wire = bench
    ask(wire.emulator, modbus.write_register(1, number, word))
    with pytest.raises(Refused, match=f"heater: .*{text}.*at its keys"):
        await heater.ramp(to=100.0, rate=1.0)
    assert wire.emulator.setpoint_writes == 0


async def test_faster_than_it_can_is_refused_and_nothing_sent(bench: tuple[Eurotherm3216, Wire]) -> None:
    heater, wire = bench
    with pytest.raises(LimitError, match="nothing was sent"):
        heater.ramp(to=100.0, rate=51.0)
    assert wire.sent == []


async def test_the_larger_controller_is_not_taken_for_it() -> None:
    with pytest.raises(WrongInstrument, match="expected a Eurotherm 3200, found '3504'"):
        async with wired(Eurotherm3216, emulator=Eurotherm3504Emulator(World())):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_a_minimalmodbus_client_finds_everything_where_it_looks() -> None:
    # The frames of Eurotherm3200 (on MinimalModbus): words below 0x8000, floats by functions 3 and 16 above.
    import serial

    world = World()
    emulator = Eurotherm3216Emulator(world)
    port = await PtyPort(Bench(world).wire([emulator], "serial")).open()

    def run() -> list[bytes]:
        with serial.Serial(port.path, 9600, timeout=1.0) as line:
            replies = []
            for pdu, length in (
                (struct.pack(">HHB f", 0x8000 + 2 * codec.SP1, 2, 4, 431.25), 8),
                (struct.pack(">HH", 0x8000 + 2 * codec.TARGET, 2), 9),
                (struct.pack(">HH", codec.IDENTIFIER, 1), 7),
                (struct.pack(">HHBH", codec.LOCAL, 1, 2, 1), 8),
                (struct.pack(">HH", codec.RATE_DISABLE, 1), 5),
            ):
                frame = bytes([1, 16 if len(pdu) > 4 else 3]) + pdu
                line.write(frame + crc(frame))
                replies.append(line.read(length))
            return replies

    try:
        written, target, identifier, local, missing = await asyncio.to_thread(run)
    finally:
        await port.close()
    assert written[:6] == bytes.fromhex("011080300002")
    assert struct.unpack(">f", target[3:7]) == (431.25,)
    assert identifier[3:5] == b"\x32\x16"
    assert local[:6] == bytes.fromhex("011001140001")
    assert emulator.local == 1
    assert missing[:3] == b"\x01\x83\x02"


def crc(frame: bytes) -> bytes:
    """CRC-16/MODBUS, low byte first (MODBUS over Serial Line V1.02, section 6.2.2)."""
    word = 0xFFFF
    for byte in frame:
        word ^= byte
        for _ in range(8):
            word = word >> 1 ^ (0xA001 if word & 1 else 0)
    return word.to_bytes(2, "little")
