"""VISA links over pyvisa-py, on real sockets and a pseudo-terminal of this machine."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from devices.keithley_2450.driver import Keithley2450
from hal.runtime.wiring import make_link
from hal.transport.link import SerialSettings
from hal.transport.visa import VisaLink

pytestmark = pytest.mark.real_clock


class Peer:
    """The far end of a socket, in the test's hand."""

    def __init__(self) -> None:
        self.received = b""
        self.arrived = asyncio.Event()
        self.writer: asyncio.StreamWriter
        self.connected = asyncio.Event()
        self.echo = False

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.connected.set()
        with suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65536):
                self.received += data
                self.arrived.set()
                if self.echo:
                    writer.write(data)
        writer.close()


@pytest.fixture
async def line() -> AsyncIterator[tuple[VisaLink, Peer]]:
    peer = Peer()
    server = await peer.serve()
    link = VisaLink(f"TCPIP::127.0.0.1::{server.sockets[0].getsockname()[1]}::SOCKET")
    await link.open()
    await asyncio.wait_for(peer.connected.wait(), 5)
    yield link, peer
    await link.close()
    peer.writer.transport.abort()
    server.close()


async def collected(link: VisaLink, length: int) -> bytes:
    data = b""
    async with asyncio.timeout(60):
        while len(data) < length:
            data += await link.receive()
    return data


async def test_a_line_comes_back_with_its_end_and_not_with_that_of_a_slice(
    line: tuple[VisaLink, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyvisa.constants import StatusCode

    link, peer = line
    peer.echo = True
    assert link._wire is not None
    library = link._wire._resource.visalib
    read, ends = library.read, []

    def watched(session: object, count: int) -> tuple[bytes, StatusCode]:
        data, status = read(session, count)
        ends.append(status)
        return data, status

    monkeypatch.setattr(library, "read", watched)
    for _ in range(3):
        await link.send(b"*IDN?\n")
        assert await collected(link, 6) == b"*IDN?\n"
    assert set(ends) == {StatusCode.success_termination_character_read}


async def test_bytes_without_a_terminator_and_with_several_are_all_handed_over(line: tuple[VisaLink, Peer]) -> None:
    link, peer = line
    for piece in (b"part", b"ial\nand\n\nmore", b"\x00\xff" * 5000, b"\n"):
        peer.writer.write(piece)
        assert await collected(link, len(piece)) == piece


async def test_a_receive_that_was_cancelled_loses_nothing(line: tuple[VisaLink, Peer]) -> None:
    link, peer = line
    sent = b""
    got = b""
    for number in range(60):
        piece = f"{number}{'' if number % 3 else chr(10)}".encode()
        peer.writer.write(piece)
        sent += piece
        with suppress(TimeoutError):
            async with asyncio.timeout(0.001 * (number % 7)):
                got += await link.receive()
    got += await collected(link, len(sent) - len(got))
    assert got == sent


async def test_waiting_does_not_block_the_loop_and_a_cancelled_wait_does_not_delay_the_next_message(
    line: tuple[VisaLink, Peer],
) -> None:
    link, peer = line
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await link.receive()
    start = time.perf_counter()
    await link.send(b"OUTP OFF\n")
    await asyncio.wait_for(peer.arrived.wait(), 5)
    assert peer.received == b"OUTP OFF\n"
    assert time.perf_counter() - start < 0.15


async def test_sending_does_not_wait_for_a_receive_under_way(line: tuple[VisaLink, Peer]) -> None:
    link, peer = line
    waiting = asyncio.create_task(link.receive())
    await asyncio.sleep(0.1)
    await asyncio.wait_for(link.send(b"Q?\n"), 1)
    peer.writer.write(b"A\n")
    assert await asyncio.wait_for(waiting, 5) == b"A\n"


async def test_a_peer_that_hangs_up_is_noticed_without_sending(line: tuple[VisaLink, Peer]) -> None:
    link, peer = line
    peer.writer.write(b"last words")
    peer.writer.close()
    assert await collected(link, 10) == b"last words"
    with pytest.raises(ConnectionError, match=r"closed by the other end|reset"):
        await asyncio.wait_for(link.receive(), 5)


async def test_closing_ends_a_wait_at_once_and_may_be_repeated(line: tuple[VisaLink, Peer]) -> None:
    link, _ = line
    waiting = asyncio.create_task(link.receive())
    await asyncio.sleep(0.05)
    start = time.perf_counter()
    await link.close()
    await link.close()
    assert time.perf_counter() - start < 1
    with pytest.raises(ConnectionError, match="closed"):
        await waiting
    with pytest.raises(ConnectionError, match="not open"):
        await link.send(b"x")


async def test_closing_does_not_hang_on_a_peer_that_reads_nothing(line: tuple[VisaLink, Peer]) -> None:
    link, peer = line
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sending = asyncio.create_task(link.send(b"x" * 30_000_000))
    await asyncio.sleep(0.3)
    start = time.perf_counter()
    await link.close()
    assert time.perf_counter() - start < 3
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 5)


async def test_a_port_where_nobody_listens_is_refused_with_a_sentence() -> None:
    peer = Peer()
    server = await peer.serve()
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionError, match=r"visa://TCPIP::127.0.0.1::\d+::SOCKET: Connection refused"):
        await VisaLink(f"TCPIP::127.0.0.1::{port}::SOCKET").open()


async def test_a_name_that_is_no_resource_is_refused_with_a_sentence() -> None:
    with pytest.raises(ConnectionError, match="can't be opened"):
        await VisaLink("TCPIQ::nonsense").open()


async def test_a_link_can_be_opened_again(line: tuple[VisaLink, Peer]) -> None:
    link, peer = line
    peer.echo = True
    await link.close()
    await link.open()
    await link.send(b"again\n")
    assert await collected(link, 6) == b"again\n"


@asynccontextmanager
async def on_a_line() -> AsyncIterator[tuple[VisaLink, int]]:
    """A VISA serial resource, and the descriptor of the line's other end."""
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    link = VisaLink(f"ASRL{os.ttyname(slave)}::INSTR", settings=SerialSettings(19200, 8, "N", 1))
    await link.open()
    try:
        yield link, master
    finally:
        await link.close()
        os.close(master)
        os.close(slave)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
async def test_a_serial_resource_goes_through_the_same_code() -> None:
    async with on_a_line() as (link, master):
        await link.send(b"T\r")
        assert os.read(master, 100) == b"T\r"
        with suppress(TimeoutError):
            async with asyncio.timeout(0.03):
                await link.receive()
        os.write(master, b"\x01\xfe\n\x00 no end")
        assert await collected(link, 11) == b"\x01\xfe\n\x00 no end"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
async def test_a_machine_that_stalls_loses_neither_a_message_nor_the_beginning_of_a_reply() -> None:
    """Every byte takes longer than a slice of the wait: with what it had dropped, ``00`` was read of ``+1.23E+00``."""
    async with on_a_line() as (link, master):
        assert link._wire is not None
        resource = link._wire._resource
        port = resource.visalib.sessions[resource.session].interface
        read, write = port.read, port.write

        def slow_read(size: int) -> bytes:
            data = read(size)
            time.sleep(0.03)
            return data

        def slow_write(data: bytes) -> int:
            limits.append(port.write_timeout)
            return write(data)

        limits: list[float] = []
        port.read, port.write = slow_read, slow_write
        for _ in range(2):
            await link.send(b"Q?\r")
            assert os.read(master, 100) == b"Q?\r"
            os.write(master, b"+1.23E+00\n")
            assert await collected(link, 10) == b"+1.23E+00\n"
        assert min(limits) >= 5.0


async def test_a_lab_s_visa_socket_is_a_connection_of_our_own_under_the_name_the_user_gave_it() -> None:
    peer = Peer()
    peer.echo = True
    server = await peer.serve()
    name = f"visa://TCPIP0::127.0.0.1::{server.sockets[0].getsockname()[1]}::socket"
    link = make_link(name, Keithley2450)
    before = set(threading.enumerate())  # a closed VISA link's thread ends when pyvisa lets it
    await link.open()
    await link.send(b"*IDN?\n")
    assert await asyncio.wait_for(link.receive(), 5) == b"*IDN?\n"
    assert not [new for new in set(threading.enumerate()) - before if new.name.startswith("visa:")]  # pyvisa's way
    peer.writer.transport.abort()
    server.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(link.receive(), 5)
    with pytest.raises(ConnectionError, match=f"{name}: connection refused"):
        await link.open()


def test_other_visa_resources_go_through_pyvisa() -> None:
    for name in (
        "ASRL/dev/ttyUSB0::INSTR",
        "TCPIP0::10.0.0.1::inst0::INSTR",
        "USB0::1::2::3::INSTR",
        "GPIB0::5::INSTR",
    ):
        assert isinstance(make_link(f"visa://{name}", Keithley2450), VisaLink)
