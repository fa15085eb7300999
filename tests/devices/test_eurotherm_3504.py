"""Eurotherm 3504: the loop heats the specimen, the instrument ramps by itself, off means off."""

from __future__ import annotations

import asyncio
import statistics
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.eurotherm_3504 import codec
from devices.eurotherm_3504.driver import Eurotherm3504
from devices.eurotherm_3504.emulator import Eurotherm3504Emulator
from devices.physics import World
from hal.clock.timebase import Timebase
from hal.errors import LimitError, NoReply, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort, TcpPort
from hal.model.capabilities import Heater, lacking
from hal.model.context import Context
from hal.protocols import modbus
from hal.testing import Wire, wired
from hal.transport.link import SerialSettings
from hal.transport.serial import SerialLink
from hal.transport.session import Session


@pytest.fixture
async def bench() -> AsyncIterator[tuple[Eurotherm3504, Wire]]:
    async with wired("eurotherm_3504", name="heater") as (heater, wire):
        yield heater, wire


async def follow(heater: Eurotherm3504, seconds: float) -> list[float]:
    """The temperatures read in the next `seconds`."""
    loop = asyncio.get_running_loop()
    end, seen = loop.time() + seconds, []
    async for reading in heater.temperature.watch():
        assert reading.value is not None
        seen.append(reading.value)
        if loop.time() >= end:
            return seen
    raise AssertionError


def ask(emulator: Any, message: bytes) -> bytes:
    reply = emulator.respond(message)
    assert reply is not None
    return bytes(reply[modbus.HEADER :])


# ---------------------------------------------------------------------- the wire


async def test_the_working_setpoint_reads_as_in_the_public_test_suite() -> None:
    # INSTRUMENTS (MinimalModbus): 01 03 00 05 00 01 94 0b -> 01 03 02 00 b8 b8 36 = 18.4 degC
    emulator = Eurotherm3504Emulator(World())
    emulator.working_setpoint = 18.4
    wire = Bench(World()).wire([emulator], "serial")
    [(_, reply)] = wire.receive(bytes.fromhex("010300050001940b"), 0.0)
    assert reply == bytes.fromhex("01030200b8b836")


def test_integers_and_floats_show_the_same_parameters() -> None:
    emulator = Eurotherm3504Emulator(World())
    assert ask(emulator, modbus.write_registers(1, 0x8000 + 2 * codec.SP1, [0x43C8, 0x4000]))[0] == 16  # 400.5
    assert ask(emulator, modbus.read("registers", 1, codec.TARGET, 1)) == b"\x03\x02" + (4005).to_bytes(2, "big")
    assert ask(emulator, modbus.write_register(1, codec.RATE, 1500))[0] == 6  # 150.0 K/min
    assert ask(emulator, modbus.read("registers", 1, 0x8000 + 2 * codec.RATE, 2)).hex() == "030443160000"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (modbus.read("registers", 1, 9999, 1), 2),  # no such parameter here (M: bad address)
        (modbus.read("registers", 1, 0x8003, 2), 2),  # half of two floats
        (modbus.read("registers", 1, 0x8002, 1), 2),  # half of one (HA026230, 6.4)
        (modbus.write_register(1, codec.PV, 300), 2),  # only told
        (modbus.write_register(1, codec.TARGET, 13000), 3),  # above the instrument's own limit of SP1
        (modbus.write_register(1, codec.MANUAL, 2), 3),
        (modbus.read("coils", 1, 0, 1), 1),
    ],
)
def test_the_instrument_refuses_what_it_has_not_got(message: bytes, code: int) -> None:
    emulator = Eurotherm3504Emulator(World())
    assert ask(emulator, message) == bytes([message[modbus.HEADER] | 0x80, code])
    assert emulator.target == 25.0


def test_a_block_may_have_gaps_and_ends_at_what_is_refused() -> None:
    """HA026230, chapter 5: gaps read as anything and swallow what is written; a refusal keeps what stands before it."""
    emulator = Eurotherm3504Emulator(World())
    emulator.sp1 = 30.0
    words = struct.unpack(">15H", ask(emulator, modbus.read("registers", 1, codec.SELECT, 15))[2:])
    assert words[codec.SP1 - codec.SELECT] == 300  # 22 and 23, 29 on the way are nothing here
    assert ask(emulator, modbus.write_registers(1, 22, [1, 2, 415, 425]))[0] == 16
    assert (emulator.sp1, emulator.sp2) == (41.5, 42.5)
    assert ask(emulator, modbus.write_registers(1, codec.SP1, [500, 13000, 0])) == b"\x90\x03"
    assert (emulator.sp1, emulator.sp2) == (50.0, 42.5)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        # In the IEEE area words stand first in their pair, times are milliseconds (HA026230, 6.3 and 6.5).
        (modbus.read("registers", 1, 0x8000 + 2 * codec.MANUAL, 2), "030400008000"),
        (modbus.read("registers", 1, 0x8000 + 2 * codec.MANUAL, 1), "03020000"),
        (modbus.write_registers(1, 0x8000 + 2 * codec.MANUAL, [1]), "1082220001"),
        (modbus.read("registers", 1, 0x8000 + 2 * codec.INTEGRAL, 2), "0304000003e8"),  # 1 s
        (modbus.read("input registers", 1, codec.SP1, 1), "040200fa"),  # 3 and 4 read the same (3.14)
        (b"\0\0\0\0\0\x02\x01\x07", "0700"),  # fast read of status (3.17); loopback (3.18)
        (b"\0\0\0\0\0\x06\x01\x08\0\0\x12\x34", "080000" + "1234"),
        # Diamond's EPICS support for the 3504: cutout of the output, the second loop, a program.
        (modbus.read("registers", 1, 30, 1), "030203e8"),
        (modbus.write_register(1, 1026, 1500), "06040205dc"),
        (modbus.read("registers", 1, 1294, 1), "03020001"),
        (modbus.write_register(1, 5226, 1), "06146a0001"),
        # Eurotherm3508 of a furnace program: the second set of P, I and D, and where it begins.
        (modbus.write_register(1, 49, 300), "060031012c"),
        (modbus.write_registers(1, 0x8000 + 2 * 15361, [0x43C8, 0x0000]), "10f8020002"),
    ],
)
def test_others_find_what_they_need_of_the_second_loop_and_the_programmer(message: bytes, answer: str) -> None:
    assert ask(Eurotherm3504Emulator(World()), message).hex() == answer


def test_an_output_limit_holds_and_a_calibration_offset_is_added() -> None:
    emulator = Eurotherm3504Emulator(World())
    ask(emulator, modbus.write_registers(1, codec.SP1, [9000]))
    ask(emulator, modbus.write_register(1, 30, 200))  # 20.0 %
    ask(emulator, modbus.write_register(1, 141, 1000))  # 100.0 K
    emulator.advance(1.0)
    assert emulator.output == 20.0
    assert emulator.pv == pytest.approx(125.0, abs=3.0)


@given(st.sets(st.sampled_from(sorted(codec.STATUS_BITS.values()))))
def test_the_status_word_says_what_was_put_in(texts: set[str]) -> None:
    said = codec.decode_status(codec.encode_status(*texts))
    assert (set(said.split(", ")) if said != "ok" else set()) == texts


# ---------------------------------------------------------------------- behaviour


def test_it_is_a_heater() -> None:
    assert lacking(Eurotherm3504, Heater) == []


async def test_a_ramp_to_600_degrees_follows_its_rate_and_settles(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    started = asyncio.get_running_loop().time()
    ramp = heater.ramp(to=600.0, rate=10.0)
    await follow(heater, 30.0)
    assert wire.world.temperature == pytest.approx(25 + 300, abs=8)
    assert not ramp.done
    await ramp
    assert asyncio.get_running_loop().time() - started == pytest.approx(57.5, abs=3)
    await follow(heater, 3.0)
    assert statistics.fmean(await follow(heater, 5.0)) == pytest.approx(600.0, abs=0.5)
    assert wire.world.temperature == pytest.approx(600.0, abs=1)
    assert wire.emulator.setpoint_writes == 1


async def test_a_ramp_writes_the_setpoint_once_and_everything_it_follows_in_one_query(
    bench: tuple[Eurotherm3504, Wire],
) -> None:
    heater, wire = bench
    await heater.ramp(to=60.0, rate=5.0)
    messages = [message[:4].hex() for message in wire.sent]
    assert messages.count("01108004") == 1
    assert 7 / 0.1 * 0.8 < messages.count("01038002") < 9 / 0.1 * 1.2


async def test_leaving_a_ramp_early_holds_the_temperature(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    async with heater.ramp(to=600.0, rate=10.0):
        await follow(heater, 10.0)
    left_at = wire.world.temperature
    await follow(heater, 5.0)
    assert wire.world.temperature == pytest.approx(left_at, abs=2.0)
    assert wire.emulator.manual == 0


async def test_off_takes_manual_mode_first_and_the_specimen_cools_within_seconds(
    bench: tuple[Eurotherm3504, Wire],
) -> None:
    heater, wire = bench
    await heater.ramp(to=600.0, rate=50.0)
    wire.forget()
    await heater.off()
    assert [m[1:6].hex() for m in wire.sent if m[1] == 6] == ["0601110001", "0600030000"]
    assert wire.world.power == 0
    await follow(heater, 5.0)
    assert wire.world.temperature < 50


async def test_a_zero_written_in_automatic_mode_is_lost() -> None:
    world = World()
    emulator = Eurotherm3504Emulator(world)
    emulator.target = 300.0
    emulator.advance(1.0)
    assert ask(emulator, modbus.write_register(1, codec.MANUAL_OUTPUT, 0))[0] == 6
    emulator.advance(0.2)
    assert world.power > 0


async def test_an_output_that_stays_on_is_said_aloud(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    await heater.ramp(to=100.0, rate=20.0)
    heater_stuck = wire.emulator._cycle
    wire.emulator._cycle = lambda: None  # its loop has hung; it still talks
    with pytest.raises(Refused, match=r"heater: the output did not go to zero .*by hand"):
        await heater.safe_state()
    wire.emulator._cycle = heater_stuck


async def test_after_off_a_ramp_begins_at_the_temperature_and_not_at_the_old_setpoint(
    bench: tuple[Eurotherm3504, Wire],
) -> None:
    heater, wire = bench
    await heater.ramp(to=500.0, rate=100.0)
    await heater.off()
    await follow(heater, 5.0)
    ramp = heater.ramp(to=400.0, rate=10.0)
    assert max(await follow(heater, 5.0)) < 100
    await ramp
    assert wire.emulator.setpoint_writes == 3


async def test_a_later_ramp_supersedes_the_one_before(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    first = heater.ramp(to=600.0, rate=10.0)
    await follow(heater, 3.0)
    await heater.ramp(to=40.0, rate=10.0)
    assert first.done
    assert not first.success
    assert wire.world.temperature == pytest.approx(40, abs=2)


async def test_holding_a_heater_that_is_off_does_not_switch_it_on(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    await heater.off()
    await heater.hold()
    await follow(heater, 1.0)
    assert wire.emulator.manual == 1
    assert wire.world.power == 0


@pytest.mark.parametrize(
    ("to", "rate", "text"),
    [
        (1300.0, 1.0, "outside 0 to 1200 degC; nothing was sent"),
        (-5.0, 1.0, "outside 0 to 1200 degC"),
        (float("nan"), 1.0, "outside"),
        (100.0, 0.0, "ramp_rate = 0 K/s is outside"),
        (100.0, 170.0, "ramp_rate = 170 K/s is outside"),
        (100.0, 0.333, "0.333 lies between .* 0.331667 and 0.333333; nothing was sent"),
    ],
)
async def test_what_the_instrument_can_not_do_never_reaches_the_wire(
    bench: tuple[Eurotherm3504, Wire], to: float, rate: float, text: str
) -> None:
    heater, wire = bench
    with pytest.raises(LimitError, match=text):
        heater.ramp(to=to, rate=rate)
    assert wire.sent == []


async def test_a_setpoint_the_instrument_does_not_take_is_refused_and_goes_to_the_safe_state(
    bench: tuple[Eurotherm3504, Wire],
) -> None:
    heater, wire = bench
    wire.emulator.sp_high = 500.0  # set at its own keys
    with pytest.raises(Refused, match=r"heater: unit 1, writing register .*illegal data value"):
        await heater.ramp(to=550.0, rate=10.0)
    assert wire.emulator.manual == 1


async def test_readings_scatter_as_declared_and_know_their_age(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    await heater.ramp(to=300.0, rate=50.0)
    await follow(heater, 3.0)
    truth = wire.world.temperature
    inside, readings = 0, []
    async for reading in heater.temperature.watch():
        readings.append(reading)
        assert reading.value is not None
        inside += abs(reading.value - wire.world.temperature) < 2 * 0.5
        if len(readings) == 400:
            break
    assert {reading.uncertainty for reading in readings} == {0.5}
    assert 0.92 < inside / 400 < 0.985
    assert wire.world.temperature == pytest.approx(truth, abs=0.5)
    assert readings[-1].bound >= codec.CYCLE / 2 * 1e9


async def test_a_reply_that_comes_too_late_never_becomes_another_reading(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    await heater.ramp(to=200.0, rate=50.0)
    wire.faults.delay = 0.7
    asking = asyncio.create_task(heater.ramp_rate.get())
    await asyncio.sleep(0.6)
    wire.faults.delay = 0.0
    assert await asking == pytest.approx(50.0)
    assert await heater.status.get() == "ok"
    assert await heater.temperature.get() == pytest.approx(200, abs=2)


async def test_an_instrument_that_falls_silent_is_named(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    wire.faults.frozen = True
    with pytest.raises(NoReply, match=r"heater: no reply .*is it powered"):
        await heater.temperature.get()


async def test_another_eurotherm_is_not_taken_for_a_3504() -> None:
    emulator = Eurotherm3504Emulator(World(), identifier=0x3216)
    with pytest.raises(WrongInstrument, match="oven: expected a Eurotherm 3504, found '3216'; check `link`"):
        async with wired("eurotherm_3504", name="oven", emulator=emulator):
            pass


async def test_garbled_replies_during_a_ramp_cost_time_but_not_the_ramp(bench: tuple[Eurotherm3504, Wire]) -> None:
    heater, wire = bench
    ramp = heater.ramp(to=200.0, rate=5.0)
    await follow(heater, 2.0)
    wire.faults.garble = 0.05
    await ramp
    assert wire.world.temperature == pytest.approx(200, abs=2)


# ---------------------------------------------------------------------- real wires


@pytest.mark.real_clock
async def test_it_heats_over_a_pseudo_terminal() -> None:
    world = World()
    port = await PtyPort(Bench(world).wire([Eurotherm3504Emulator(world)], "serial")).open()
    context = Context(Timebase.system())
    link = SerialLink(port.path, SerialSettings(19200))
    session = Session(link, Eurotherm3504.framing("serial"), timebase=context.timebase, gate=context.gate, timeout=1.0)
    heater = Eurotherm3504(session, "heater", context=context)
    try:
        await heater.connect()
        assert heater.identity == "Eurotherm 3504 V0291"
        await asyncio.wait_for(heater.ramp(to=60.0, rate=50.0), 10)
        assert world.temperature == pytest.approx(60, abs=3)
        await heater.off()
        assert world.power == 0
    finally:
        await context.close()
        await heater.disconnect()
        await port.close()


@pytest.mark.real_clock
async def test_another_master_reads_and_sets_it_on_a_serial_line_and_on_tcp() -> None:
    from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

    world = World()
    emulator = Eurotherm3504Emulator(world, unit=7)
    bench = Bench(world)
    serial = await PtyPort(bench.wire([emulator], "serial")).open()
    tcp = await TcpPort(bench.wire([emulator], "tcp")).open()
    clients: list[Any] = [
        AsyncModbusSerialClient(serial.path, baudrate=19200, timeout=2, retries=0),
        AsyncModbusTcpClient(tcp.host, port=tcp.port, timeout=2, retries=0),
    ]
    try:
        for target, client in zip((30.5, 31.5), clients, strict=True):
            assert await client.connect()
            assert not (await client.write_register(24, round(target * 10), device_id=7)).isError()
            assert (await client.read_holding_registers(2, device_id=7)).registers == [round(target * 10)]
            floats = await client.read_holding_registers(0x8004, count=2, device_id=7)
            assert client.convert_from_registers(floats.registers, client.DATATYPE.FLOAT32) == target
            assert (await client.read_holding_registers(9999, device_id=7)).exception_code == 2
            # As MinimalModbus does it: one register by function 16.
            assert not (await client.write_registers(35, [300], device_id=7)).isError()
            assert (await client.read_holding_registers(289, device_id=7)).registers[0] == pytest.approx(250, abs=60)
    finally:
        for client in clients:
            client.close()
        await serial.close()
        await tcp.close()
