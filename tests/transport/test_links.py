"""Links on real wires: sockets, pseudo-terminals in both modes, plugs that are pulled."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import toy

from hal.errors import ConfigError, LinkLost
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort, TcpPort
from hal.transport.link import Inbox, Link, SerialSettings, parse_url
from hal.transport.serial import SerialLink, settings_from
from hal.transport.tcp import TcpLink

pytestmark = pytest.mark.real_clock
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
BIG = bytes(range(1, 256)) * 2000


class Echo(toy.ToyEmulator):
    """Sends back what it gets."""

    def respond(self, message: bytes) -> bytes | None:
        self.received.append(str(len(message)))
        return message


@asynccontextmanager
async def wired(kind: str) -> AsyncIterator[tuple[Any, Any]]:
    """A link of this kind, open, and the port it leads to."""
    wire = Bench(toy.World()).wire([Echo(None)], "tcp")
    port: Any
    link: Any
    if kind == "tcp":
        port = await TcpPort(wire).open()
        link = TcpLink("127.0.0.1", port.port)
    else:
        port = await PtyPort(wire).open()
        link = SerialLink(port.path, SerialSettings(115200), threaded=kind == "threaded")
    try:
        await link.open()
        yield link, port
    finally:
        await link.close()
        await port.close()


kinds = pytest.mark.parametrize(
    "kind", ["tcp", pytest.param("watched", marks=posix), pytest.param("threaded", marks=posix)]
)


async def receive(link: Link, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(10):
        while len(data) < count:
            data += await link.receive()
    return data


@kinds
async def test_what_is_sent_comes_back(kind: str) -> None:
    async with wired(kind) as (link, _):
        for message in (b"a\n", b"\x00\xff\x11\x13\x03\r\n", b"x" * 3000 + b"\n"):
            await link.send(message)
            assert await receive(link, len(message)) == message


@kinds
async def test_a_wait_that_was_cancelled_loses_no_byte(kind: str) -> None:
    async with wired(kind) as (link, _):
        for number in range(10):
            message = b"%d\n" % number
            waiting = asyncio.get_running_loop().create_task(link.receive())
            await asyncio.sleep(0)
            await link.send(message)
            await asyncio.sleep(0.002 * number)
            waiting.cancel()
            got = b""
            if not (await asyncio.wait([waiting]))[0].pop().cancelled():
                got = waiting.result()
            assert got + (await receive(link, len(message) - len(got)) if got != message else b"") == message


@kinds
async def test_unplugging_ends_a_wait_at_once_with_a_reason(kind: str) -> None:
    async with wired(kind) as (link, port):
        waiting = asyncio.get_running_loop().create_task(link.receive())
        await asyncio.sleep(0.05)
        port.unplug()
        with pytest.raises(ConnectionError, match=r".+"):
            await asyncio.wait_for(waiting, 2)


@kinds
async def test_closing_ends_a_wait_and_may_be_done_twice(kind: str) -> None:
    async with wired(kind) as (link, _):
        waiting = asyncio.get_running_loop().create_task(link.receive())
        await asyncio.sleep(0.02)
        await link.close()
        await link.close()
        with pytest.raises(ConnectionError, match="closed"):
            await asyncio.wait_for(waiting, 2)
        with pytest.raises(ConnectionError, match="not open"):
            await link.send(b"x")


@kinds
async def test_what_arrived_unasked_can_be_discarded(kind: str) -> None:
    async with wired(kind) as (link, _):
        await link.send(b"noise\n")
        await asyncio.sleep(0.2)
        link.discard()
        await link.send(b"answer\n")
        assert await receive(link, 7) == b"answer\n"


@kinds
async def test_a_link_can_be_opened_again(kind: str) -> None:
    async with wired(kind) as (link, _):
        await link.close()
        await link.open()
        await link.send(b"again\n")
        assert await receive(link, 6) == b"again\n"


@posix
@pytest.mark.parametrize("threaded", [False, True])
async def test_a_port_that_is_not_there_says_so(threaded: bool) -> None:
    with pytest.raises(ConnectionError, match="/dev/no_such_port can't be opened: .*No such file"):
        await SerialLink("/dev/no_such_port", SerialSettings(), threaded=threaded).open()


@posix
async def test_a_port_that_somebody_else_has_open_says_so() -> None:
    async with wired("watched") as (link, port):
        with pytest.raises(ConnectionError, match="can't be opened"):
            await SerialLink(port.path, SerialSettings()).open()
        await link.send(b"mine\n")
        assert await receive(link, 5) == b"mine\n"


@posix
async def test_writes_from_the_thread_keep_their_order_though_one_was_given_up() -> None:
    async with wired("threaded") as (link, port):
        import time

        write = link._serial.write

        def slow(data: bytes) -> None:
            time.sleep(0.1)
            write(data)

        link._serial.write = slow
        given_up = asyncio.get_running_loop().create_task(link.send(b"SET 500\n"))
        await asyncio.sleep(0.02)
        given_up.cancel()
        link._serial.write = write
        await link.send(b"OFF\n")
        await receive(link, 12)
        assert b"".join(port.sent) == b"SET 500\nOFF\n"


@posix
async def test_a_port_nobody_reads_does_not_hang_a_link_that_is_closed() -> None:
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    link = SerialLink(os.ttyname(slave), SerialSettings(), threaded=False)
    await link.open()
    sending = asyncio.get_running_loop().create_task(link.send(BIG))
    await asyncio.sleep(0.05)
    assert not sending.done()
    await link.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 2)
    os.close(master)
    os.close(slave)


async def test_tcp_does_not_wait_to_fill_packets() -> None:
    async with wired("tcp") as (link, _):
        sock = link._wire.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_big_messages_pass_a_tcp_link_whole() -> None:
    async with wired("tcp") as (link, _):
        message = BIG.replace(b"\n", b"") + b"\n"
        sending = asyncio.get_running_loop().create_task(link.send(message))
        assert await receive(link, len(message)) == message
        await sending


async def test_a_refused_port_says_so_and_a_lost_one_may_be_found_again() -> None:
    async with wired("tcp") as (link, port):
        port.unplug()
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionError, match="closed by the other end|closed the connection"):
            await link.send(b"x\n")
        with pytest.raises(ConnectionError, match=r"tcp://127\.0\.0\.1:\d+: .*[Rr]efused"):
            await link.open()
        await port.plug()
        await link.open()
        await link.send(b"back\n")
        assert await receive(link, 5) == b"back\n"


async def test_a_host_that_does_not_answer_is_given_up_in_time() -> None:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    fill = [socket.socket() for _ in range(3)]  # the queue of those who wait to be accepted is full
    for sock in fill:
        sock.setblocking(False)
        sock.connect_ex(server.getsockname())
    link = TcpLink("127.0.0.1", server.getsockname()[1], connect_timeout=0.2)
    try:
        with pytest.raises(ConnectionError, match="did not answer in 0.2 s"):
            await link.open()
    finally:
        for sock in (server, *fill):
            sock.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "unknown kind of link; write serial:///dev/ttyUSB0, tcp://host:port"),
        ("http://x", "unknown kind of link"),
        ("tcp://host", "host or port is missing"),
        ("tcp://:8000", "host or port is missing"),
        ("tcp://host:many", "write tcp://host:port"),
        ("serial://", "no port is named"),
    ],
)
def test_a_link_that_can_not_be_is_told_with_what_could(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_url(url)


def test_ports_of_all_systems_can_be_named() -> None:
    assert parse_url("serial://COM3").path == "COM3"
    assert parse_url("serial:///dev/ttyUSB0?baudrate=19200").path == "/dev/ttyUSB0"
    address = parse_url("serial://COM3?baudrate=19200&parity=E&rtscts=yes&stopbits=1.5")
    assert settings_from(address, SerialSettings()) == SerialSettings(19200, 8, "E", 1.5, True)
    assert parse_url("tcp://[::1]:5025").host == "::1"


async def test_an_inbox_gives_all_that_came_before_the_error_that_ended_it() -> None:
    inbox = Inbox()
    inbox.feed(b"ab")
    inbox.feed(b"cd")
    inbox.fail(ConnectionError("first"))
    inbox.fail(ConnectionError("second"))
    assert await inbox.take() == b"abcd"
    with pytest.raises(ConnectionError, match="first"):
        await inbox.take()


@posix
async def test_a_driver_on_a_real_serial_line_survives_its_unplugging_with_a_clear_error() -> None:
    from hal.clock.timebase import Timebase
    from hal.transport.session import Session

    emulator = toy.HeaterEmulator(None)
    port = await PtyPort(Bench(toy.World()).wire([emulator], "serial")).open()
    session = Session(
        SerialLink(port.path, SerialSettings(115200)), toy.ToyHeater.framing("serial"), timebase=Timebase.system()
    )
    heater = toy.ToyHeater(session, "heater")
    await heater.connect()
    assert await heater.temperature.get() == 20.0
    port.unplug()
    with pytest.raises(LinkLost, match="heater: the link serial:///dev/.* is gone .*; check the cable"):
        await heater.temperature.get()
    await heater.disconnect()
    await port.close()


# ---------------------------------------------------------------------- what importing takes

_EVERYTHING = """
import importlib, pkgutil, sys
for name in ("termios", "pty", "fcntl", "tty"):
    sys.modules[name] = None
import hal, devices
seen = 0
for package in (hal, devices):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            seen += 1
print(seen)
"""
_LITTLE = """
import sys, hal, hal.capabilities
print([m for m in ("h5py", "pydantic", "pyvisa", "pymodbus", "serial", "aiomqtt", "numpy") if m in sys.modules])
"""


def python(code: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_everything_can_be_imported_where_there_are_no_terminals() -> None:
    assert int(python(_EVERYTHING)) > 60


def test_importing_hal_loads_nothing_heavy() -> None:
    assert python(_LITTLE) == "[]"
