"""Relay board: valves and the beam blanker share one board, one session and one query."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from devices.physics import World
from devices.relay_board import codec
from devices.relay_board.driver import RelayBeam, RelayValve
from devices.relay_board.emulator import RelayBoardEmulator
from hal.clock.timebase import Timebase
from hal.errors import ConfigError, WrongInstrument
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort, TcpPort
from hal.model.capabilities import Beam, Valve, lacking
from hal.model.context import Context
from hal.protocols import modbus
from hal.testing import wired
from hal.transport.link import SerialSettings
from hal.transport.memory import MemoryLink
from hal.transport.serial import SerialLink
from hal.transport.session import Session
from hal.transport.tcp import TcpLink


@asynccontextmanager
async def board(scheme: str = "tcp") -> AsyncIterator[tuple[RelayValve, RelayValve, RelayBeam, World, MemoryLink]]:
    """Two valves and the blanker on one board."""
    loop = asyncio.get_running_loop()
    world = World()
    link = MemoryLink(Bench(world).wire([RelayBoardEmulator(world)], scheme))
    context = Context(Timebase.of_loop(loop.time), Gate())
    session = Session(link, RelayValve.framing(scheme), timebase=context.timebase, gate=context.gate, timeout=0.5)
    argon = RelayValve(session, "argon_valve", channel=1, context=context)
    hydrogen = RelayValve(session, "hydrogen_valve", channel=2, context=context)
    beam = RelayBeam(session, "beam", channel=8, context=context)
    for device in (argon, hydrogen, beam):
        await device.connect()
    link.sent.clear()
    try:
        yield argon, hydrogen, beam, world, link
    finally:
        await context.close()
        for device in (argon, hydrogen, beam):
            await device.disconnect()


def test_they_are_a_valve_and_a_beam() -> None:
    assert lacking(RelayValve, Valve) == []
    assert lacking(RelayBeam, Beam) == []


def test_at_power_up_all_relays_are_released_and_the_gas_is_shut() -> None:
    world = World()
    world.blanked = True
    emulator = RelayBoardEmulator(world)
    reply = emulator.respond(modbus.read("coils", 1, 0, 8))
    assert reply is not None
    assert reply[modbus.HEADER :] == b"\x01\x01\x00"
    assert [line.open for line in world.lines.values()] == [False, False]
    assert world.blanked is False


@pytest.mark.parametrize("scheme", ["tcp", "serial"])
async def test_opening_one_valve_lets_its_gas_in_and_moves_no_other(scheme: str) -> None:
    async with board(scheme) as (argon, hydrogen, beam, world, _):
        await hydrogen.open()
        assert (world.lines["hydrogen"].open, world.lines["argon"].open, world.blanked) == (True, False, False)
        assert (await hydrogen.state.get(), await argon.state.get()) == ("open", "closed")
        await beam.blank()
        assert world.blanked is True
        await hydrogen.close()
        assert world.lines["hydrogen"].open is False
        await beam.unblank()
        assert await beam.blanked.get() is False


def test_a_board_is_ready_to_answer_before_it_is_asked() -> None:
    """minimalmodbus 2.1 waits 50 ms for an answer: what decodes a question must not be loaded by the first one."""
    program = (
        "import sys\nfrom hal.protocols.modbus import ModbusFraming\nModbusFraming('serial', 'server')\n"
        "sys.exit('pymodbus.pdu' not in sys.modules or 'pymodbus.framer' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("said", "answered"),
    [  # minimalmodbus 2.1, RTU
        ("01 05 00 00 ff 00 8c 3a", "01 05 00 00 ff 00 8c 3a"),
        ("01 0f 00 00 00 08 01 55 3e aa", "01 0f 00 00 00 08 54 0d"),
        ("01 01 00 08 00 01 7c 08", "01 81 02 c1 91"), ("01 04 00 00 00 01 31 ca", "01 84 01 82 c0"),
        ("01 03 00 00 00 01 84 0a", "01 83 02 c0 f1"),
        # Waveshare's wiki, Modbus POE ETH Relay: all on, channel 1 over, a pulse of 0.7 s, address, version
        ("01 05 00 ff ff 00 bc 0a", "01 05 00 ff ff 00 bc 0a"), ("01 05 00 00 55 00 f2 9a", "01 05 00 00 55 00 f2 9a"),
        ("01 05 02 00 00 07 8d b0", "01 05 02 00 00 07 8d b0"), ("00 03 40 00 00 01 90 1b", "01 03 02 00 01 79 84"),
        ("00 03 80 00 00 01 ac 1b", "01 03 02 00 64 b9 af"),
    ],
)  # fmt: skip
def test_another_master_is_answered_byte_by_byte(said: str, answered: str) -> None:
    board = RelayBoardEmulator(World())
    framing = board.framing("serial")
    replies = [board.respond(message) for message in framing.feed(bytes.fromhex(said))]
    assert b"".join(framing.encode(reply) for reply in replies if reply is not None) == bytes.fromhex(answered)


def test_relays_are_turned_over_and_pulsed_as_on_waveshares_board() -> None:
    world = World()
    board = RelayBoardEmulator(world)

    def switch(address: int, value: int) -> bool:
        message = modbus.write_coil(1, address, True)[:-2] + value.to_bytes(2, "big")
        return board.respond(message) == message

    assert switch(codec.EVERY, 0xFF00)
    assert all(board.energised)
    assert switch(0, codec.FLIP)
    assert (board.energised[0], world.lines["argon"].open) == (False, False)
    assert switch(codec.PULSE_ON, 3)
    assert switch(codec.PULSE_OFF + 1, 3)
    board.advance(0.2)
    assert board.energised[:2] == [True, False]
    board.advance(0.2)
    assert (board.energised[:2], world.lines["argon"].open) == ([False, True], False)
    assert switch(codec.PULSE_ON, 3)
    assert switch(0, 0xFF00)  # who switches it by hand ends its pulse
    board.advance(1.0)
    assert board.energised[0]
    for address, value in ((8, codec.FLIP), (codec.PULSE_ON, 0), (codec.PULSE_ON + 8, 3), (0, 0x1234)):
        assert not switch(address, value)


def test_modes_and_its_address_are_kept_in_registers() -> None:
    board = RelayBoardEmulator(World())
    written = modbus.write_registers(1, codec.MODE, [3] * 8)
    for said, refused in (
        (written, False), (modbus.write_register(1, codec.MODE, 4), True),
        (modbus.write_register(1, codec.MODE + 8, 0), True),
        (modbus.read("registers", 1, codec.MODE, 8), False), (modbus.write_register(1, codec.ADDRESS, 0), True),
        (modbus.write_register(1, codec.ADDRESS, 7), False),
    ):  # fmt: skip
        reply = board.respond(said)
        assert reply is not None
        assert bool(modbus.exception_code(reply)) == refused
    assert board.respond(written) is None
    assert board.registers.modes == [3] * 8


async def test_the_switch_that_is_sent_is_the_one_of_the_specification() -> None:
    async with board("serial") as (argon, _, _, _, link):
        await argon.open()
        assert link.sent[0] == modbus.with_crc(bytes.fromhex("01050000ff00"))  # APP 6.5


async def test_all_devices_of_a_board_are_followed_by_one_query() -> None:
    async with board() as (argon, hydrogen, beam, _, link):
        heard: dict[str, list[Any]] = {"argon": [], "hydrogen": [], "beam": []}
        argon.state.subscribe(lambda reading: heard["argon"].append(reading.value))
        hydrogen.state.subscribe(lambda reading: heard["hydrogen"].append(reading.value))
        beam.blanked.subscribe(lambda reading: heard["beam"].append(reading.value))
        await asyncio.sleep(2.05)
        assert len(link.sent) == 11
        assert {name: set(values) for name, values in heard.items()} == {
            "argon": {"closed"}, "hydrogen": {"closed"}, "beam": {False},
        }  # fmt: skip
        assert {name: len(values) for name, values in heard.items()} == dict.fromkeys(heard, 11)


async def test_the_safe_state_shuts_the_gas_and_blanks_the_beam_in_one_message_each() -> None:
    async with board() as (argon, _, beam, world, link):
        await argon.open()
        link.sent.clear()
        await argon.safe_state()
        await beam.safe_state()
        assert world.lines["argon"].open is False
        assert world.blanked is True
        assert [message[7] for message in link.sent if message[7] == 5] == [5, 5]


async def test_a_valve_open_when_released_and_safe_when_open_is_driven_the_other_way_round() -> None:
    options = {"open_when": "released", "safe": "open"}
    async with wired("relay_valve", name="vent", channel=3, options=options) as (vent, wire):
        assert await vent.state.get() == "open"
        await vent.close()
        assert wire.world.valves[3] is True
        assert await vent.state.get() == "closed"
        await vent.safe_state()
        assert wire.world.valves[3] is False


async def test_a_blanker_that_blanks_when_released_is_safe_without_power() -> None:
    options = {"blanked_when": "released"}
    async with wired("relay_beam", name="beam", channel=7, options=options) as (beam, wire):
        assert await beam.blanked.get() is True
        await beam.unblank()
        assert wire.world.valves[7] is True
        await beam.safe_state()
        assert wire.world.valves[7] is False


async def test_a_command_lost_on_the_wire_is_repeated_and_switches_once() -> None:
    async with wired("relay_valve", name="valve", channel=1) as (valve, wire):
        wire.faults.drop = 1.0
        asyncio.get_running_loop().call_later(0.3, setattr, wire.faults, "drop", 0.0)
        await valve.open()
        assert wire.world.lines["argon"].open is True
        assert wire.emulator.switched[0] == 1
        assert len([message for message in wire.sent if message[7] == 5]) == 2


async def test_something_with_more_coils_is_not_taken_for_the_board() -> None:
    emulator = RelayBoardEmulator(World())
    emulator.read = lambda start, count: [0] * count  # type: ignore[method-assign]
    with pytest.raises(WrongInstrument, match="valve: expected a board of 8 relays, found 'more than 8"):
        async with wired("relay_valve", name="valve", channel=1, emulator=emulator):
            pass


async def test_a_channel_the_board_has_not_got_is_a_mistake_in_the_lab_file() -> None:
    with pytest.raises(ConfigError, match="valve: channel 9 is none of 1 to 8"):
        async with wired("relay_valve", name="valve", channel=9):
            pass
    with pytest.raises(ConfigError, match="safe = 'shut' is none of open, closed"):
        async with wired("relay_valve", name="valve", channel=1, options={"safe": "shut"}):
            pass


@pytest.mark.parametrize("open_when", ["energised", "released"])
@pytest.mark.parametrize("position", ["open", "closed"])
def test_a_position_survives_the_way_to_the_relay_and_back(position: str, open_when: str) -> None:
    assert codec.position(codec.energised(position, open_when), open_when) == position


# ---------------------------------------------------------------------- real wires


@pytest.mark.real_clock
@pytest.mark.parametrize("scheme", ["tcp", "serial"])
async def test_it_switches_over_a_socket_and_a_pseudo_terminal(scheme: str) -> None:
    world = World()
    wire = Bench(world).wire([RelayBoardEmulator(world)], scheme)
    port: Any = await (TcpPort(wire).open() if scheme == "tcp" else PtyPort(wire).open())
    link = TcpLink(port.host, port.port) if scheme == "tcp" else SerialLink(port.path, SerialSettings())
    context = Context(Timebase.system())
    session = Session(link, RelayValve.framing(scheme), timebase=context.timebase, gate=context.gate, timeout=2.0)
    valve = RelayValve(session, "valve", channel=2, context=context)
    try:
        await valve.connect()
        await valve.open()
        assert world.lines["hydrogen"].open is True
        assert await valve.state.get() == "open"
    finally:
        await context.close()
        await valve.disconnect()
        await port.close()


@pytest.mark.real_clock
async def test_another_master_switches_it_on_a_serial_line_and_on_tcp() -> None:
    from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

    world = World()
    emulator = RelayBoardEmulator(world)
    bench = Bench(world)
    serial = await PtyPort(bench.wire([emulator], "serial")).open()
    tcp = await TcpPort(bench.wire([emulator], "tcp")).open()
    clients: list[Any] = [
        AsyncModbusSerialClient(serial.path, baudrate=9600, timeout=2, retries=0),
        AsyncModbusTcpClient(tcp.host, port=tcp.port, timeout=2, retries=0),
    ]
    try:
        for client in clients:
            assert await client.connect()
            assert not (await client.write_coils(0, [True, False, True], device_id=1)).isError()
            assert (await client.read_coils(0, count=8, device_id=1)).bits[:8] == [True, False, True] + [False] * 5
            assert world.lines["argon"].open is True
            assert not (await client.write_coil(0, False, device_id=1)).isError()
            assert world.lines["argon"].open is False
            assert (await client.read_coils(8, count=1, device_id=1)).exception_code == 2
            assert (await client.read_holding_registers(0, device_id=1)).exception_code == 2
    finally:
        for client in clients:
            client.close()
        await serial.close()
        await tcp.close()
