"""What a session adds to a bare wire: one question and its answer, on TCP, a serial line, Modbus and VISA.

One process serves emulated instruments that answer at once: an SCPI instrument on a TCP port and on a
pseudo-terminal, and our relay board on Modbus TCP. Each contestant asks the same question of the same emulator over a
connection of its own.

- ours: `Session.ask` on the link; one turn at a time, a deadline, resynchronising and the write gate on.
- asyncio alone, pyserial alone, pymodbus alone, pyvisa alone: what one writes without a library. pyserial and
  pyvisa block their thread, asyncio's streams and pymodbus's asynchronous client do not; pymodbus and pyvisa have
  a deadline, the other two none.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from _measure import OURS, Figure, Work, arguments, finish, header, measure

from devices.keithley_2450.driver import Keithley2450
from devices.physics import World
from devices.relay_board.emulator import RelayBoardEmulator
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort, TcpPort
from hal.model.context import Context
from hal.protocols import modbus
from hal.protocols.framing import Framing, Lines
from hal.protocols.modbus import ModbusFraming
from hal.runtime.wiring import make_link
from hal.transport.link import Link, SerialSettings
from hal.transport.serial import SerialLink
from hal.transport.session import Session
from hal.transport.tcp import TcpLink

HOST = "127.0.0.1"
LINE = SerialSettings(115200)
QUESTION, ANSWER = b"MEAS:VOLT?", b"+1.23456789E+00"
COILS = 8


class Quick:
    """An SCPI instrument that answers at once."""

    reply_delay = 0.0

    def framing(self, scheme: str) -> Lines:
        return Lines(b"\n")

    def respond(self, message: bytes) -> bytes | None:
        return ANSWER if message == QUESTION else None

    def advance(self, dt: float) -> None:
        """It knows no time."""


async def serve() -> None:
    """Serve until the parent goes."""
    bench, world = Bench(Quick()), World()
    board = Bench(world)
    tcp = await TcpPort(bench.wire([Quick()], "tcp"), host=HOST).open()
    pty = await PtyPort(bench.wire([Quick()], "serial")).open()
    bus = await TcpPort(board.wire([_quick_board(world)], "tcp"), host=HOST).open()
    visa = await PtyPort(bench.wire([Quick()], "serial")).open()
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    print(json.dumps({"tcp": tcp.port, "pty": pty.path, "bus": bus.port, "visa": visa.path}), flush=True)
    await asyncio.get_running_loop().create_future()


def _quick_board(world: World) -> RelayBoardEmulator:
    board = RelayBoardEmulator(world, unit=1)
    board.reply_delay = 0.0
    return board


def _leave_with_the_parent() -> None:
    sys.stdin.read()  # ends when the parent does, however it does
    os._exit(0)


# ---------------------------------------------------------------------- the contestants


def session(link: Link, framing: Framing) -> Session:
    context = Context()
    return Session(link, framing, timebase=context.timebase, gate=context.gate)


def asked(ask: Callable[[], Awaitable[bytes]], answer: bytes) -> Work:
    """Ask and look at every answer."""

    async def work(count: int) -> None:
        for _ in range(count):
            if await ask() != answer:
                raise AssertionError("another answer than expected")

    return work


def asked_blocking(ask: Callable[[], bytes], answer: bytes) -> Work:
    """The same for what blocks."""

    def work(count: int) -> None:
        for _ in range(count):
            if ask() != answer:
                raise AssertionError("another answer than expected")

    return work


def ours(of: Session) -> Work:
    async def ask() -> bytes:
        return (await of.ask(QUESTION)).reply

    return asked(ask, ANSWER)


async def on_tcp(port: int) -> Figure:
    reader, writer = await asyncio.open_connection(HOST, port)  # NODELAY is asyncio's own default

    async def bare() -> bytes:
        writer.write(QUESTION + b"\n")
        return (await reader.readline())[:-1]

    of = session(TcpLink(HOST, port), Lines(b"\n"))
    await of.open()
    return Figure(
        "TCP", {OURS: ours(of), "asyncio streams alone": asked(bare, ANSWER)}, goal={"asyncio streams alone": 1.25}
    )


async def on_serial(path: str) -> Figure:
    import serial

    of = session(SerialLink(path, LINE), Lines(b"\n"))
    await of.open()
    port = serial.Serial(path, LINE.baudrate, timeout=1.0)

    def bare() -> bytes:
        port.write(QUESTION + b"\n")
        return port.read_until(b"\n")[:-1]

    return Figure("serial line", {OURS: ours(of), "pyserial alone": asked_blocking(bare, ANSWER)})


async def on_modbus(port: int) -> Figure:
    from pymodbus.client import AsyncModbusTcpClient

    framing = ModbusFraming("tcp")
    of = session(TcpLink(HOST, port), framing)
    await of.open()
    client = AsyncModbusTcpClient(HOST, port=port, timeout=1.0)
    await client.connect()

    async def through_us() -> bytes:
        question = modbus.read("coils", 1, 0, COILS)
        reply = (await of.ask(question, matches=framing.matches(question))).reply
        return bytes(modbus.bits(reply, COILS))

    async def bare() -> bytes:
        return bytes((await client.read_coils(0, count=COILS, device_id=1)).bits[:COILS])

    answer = bytes(COILS)
    return Figure(
        "Modbus TCP", {OURS: asked(through_us, answer), "pymodbus alone": asked(bare, answer)},
        goal={"pymodbus alone": 1.15},
    )  # fmt: skip


async def on_visa(what: str, name: str, goal: dict[str, float]) -> Figure:
    import pyvisa

    of = session(make_link(f"visa://{name}", Keithley2450), Lines(b"\n"))
    await of.open()
    instrument = pyvisa.ResourceManager("@py").open_resource(name, read_termination="\n", write_termination="\n")

    def bare() -> bytes:
        return instrument.query(QUESTION.decode()).encode()

    return Figure(what, {OURS: ours(of), "pyvisa alone": asked_blocking(bare, ANSWER)}, goal=goal)


async def main() -> None:
    options = arguments(__doc__, rounds=9)
    header("One question and its answer", ("pyserial", "pymodbus", "pyvisa", "pyvisa-py"))
    child = subprocess.Popen(  # noqa: ASYNC220 (started before anything is measured)
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        at = json.loads(child.stdout.readline())
        run = partial(measure, rounds=options.rounds, slice_=options.slice)
        named = f"TCPIP::{HOST}::{at['tcp']}::SOCKET"
        wires = [
            on_tcp(at["tcp"]),
            on_serial(at["pty"]),
            on_modbus(at["bus"]),
            on_visa("VISA socket", named, {"pyvisa alone": 1.15}),
            on_visa("VISA serial line", f"ASRL{at['visa']}::INSTR", {}),
        ]
        finish([await run(await wire) for wire in wires], check=options.check)
    finally:
        child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
        if child.poll() is None:
            child.kill()


if __name__ == "__main__":
    asyncio.run(serve() if "--serve" in sys.argv else main())
