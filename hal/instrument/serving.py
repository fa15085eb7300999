"""Serving emulators on real wires: pseudo-terminals and TCP ports of this machine."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .bench import Bench, EmulatedWire

TICK = 0.005
"""How often streaming emulators are asked for more on average, s."""


class Port(Protocol):
    """One served wire."""

    @property
    def url(self) -> str:
        """The link URL that reaches it."""
        ...

    def unplug(self) -> None:
        """Cut every connection; refuse new ones until `plug`."""
        ...

    async def plug(self) -> None:
        """Put the cable back."""
        ...

    async def close(self) -> None:
        """Stop serving."""
        ...


async def _talk(wire: EmulatedWire, write: Callable[[bytes], None]) -> None:
    """Write what the instruments say by themselves, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(TICK)
        if wire.talking and (said := wire.unasked(loop.time())):
            write(said)


class TcpPort:
    """Emulators on a TCP port of the loopback interface."""

    def __init__(self, wire: EmulatedWire, *, host: str = "127.0.0.1", scheme: str = "tcp") -> None:
        self.wire, self.host, self.scheme, self.port = wire, host, scheme, 0
        self.sent: list[bytes] = []
        """What was received, for tests that ask what reached the wire."""
        self._server: asyncio.Server | None = None
        self._clients: set[_Client] = set()
        self._talk: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        if self.scheme == "visa":
            return f"visa://TCPIP::{self.host}::{self.port}::SOCKET"
        return f"tcp://{self.host}:{self.port}"

    async def open(self, port: int = 0) -> TcpPort:
        """Listen on `port` (0: a free one)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), self.host, port)
        self.port = self._server.sockets[0].getsockname()[1]
        if self.wire.talks:
            self._talk = loop.create_task(_talk(self.wire, self._write), name=f"what {self.url} says by itself")
        return self

    def _write(self, data: bytes) -> None:
        for client in list(self._clients):
            client._write(data)

    def unplug(self) -> None:
        if self._talk is not None:
            self._talk.cancel()
            self._talk = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in list(self._clients):
            client.transport.abort()

    async def plug(self) -> None:
        await self.open(self.port)

    async def close(self) -> None:
        self.unplug()


class _Client(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, port: TcpPort) -> None:
        self._port = port
        self._wire = port.wire.connection()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        import socket

        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port._clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._port._clients.discard(self)

    def data_received(self, data: bytes) -> None:
        self._port.sent.append(data)
        loop = asyncio.get_running_loop()
        for delay, reply in self._wire.receive(data, loop.time()):
            loop.call_later(delay, self._write, reply)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


class StreamPort:
    """A port that only sends: everybody connected gets what the emulator streams."""

    BEHIND = 32 << 20
    """Bytes a client may lag behind before it is cut off, as the instrument's buffer would overflow."""

    def __init__(self, bench: Bench, emulator: object, *, host: str = "127.0.0.1") -> None:
        self.bench, self.emulator, self.host, self.port = bench, emulator, host, 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pump: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    async def open(self, port: int = 0) -> StreamPort:
        """Listen on `port` (0: a free one) and begin to send."""
        self._server = await asyncio.start_server(self._accept, self.host, port)
        self.port = self._server.sockets[0].getsockname()[1]
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run(), name=f"stream {self.url}")
        return self

    def unplug(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    async def plug(self) -> None:
        await self.open(self.port)

    async def close(self) -> None:
        self.unplug()
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
            self._pump = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        greet = getattr(self.emulator, "greet", None)
        if greet is not None and (hello := greet()):
            writer.write(hello)
        try:
            while await reader.read(4096):
                pass
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _run(self) -> None:
        loop, chance = asyncio.get_running_loop(), random.Random(self.port)
        stream = self.emulator.stream  # type: ignore[attr-defined]
        while True:
            self.bench.advance_to(loop.time())
            if pieces := stream():
                data = b"".join(pieces)
                for writer in list(self._writers):
                    if writer.transport.get_write_buffer_size() > self.BEHIND:
                        writer.transport.abort()
                    else:
                        writer.write(data)
            # Irregularly: on a beat, frames that keep time with it would all be late by the same, and seem prompt.
            await asyncio.sleep(chance.uniform(0.0, 2 * TICK))


class PtyPort:
    """Emulators behind a pseudo-terminal: what the driver opens is a real serial device."""

    def __init__(self, wire: EmulatedWire) -> None:
        self.wire = wire
        self.path = ""
        self.sent: list[bytes] = []
        self._master: int | None = None
        self._slave: int | None = None
        self._talk: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"serial://{self.path}"

    async def open(self, path: str = "") -> PtyPort:
        """Make a pseudo-terminal; with `path`, a symbolic link of that name leads to it."""
        import pty  # not on Windows: serve on TCP there
        import tty

        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        name = os.ttyname(self._slave)
        if path:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.symlink(name, path)
        self.path = path or name
        loop, master = asyncio.get_running_loop(), self._master
        loop.add_reader(master, self._readable)
        if self.wire.talks:
            speak = _talk(self.wire, lambda said: self._write(master, said))
            self._talk = loop.create_task(speak, name=f"what {self.path} says by itself")
        return self

    def unplug(self) -> None:
        if self._talk is not None:
            self._talk.cancel()
            self._talk = None
        if self._master is not None:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = None
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None

    async def plug(self) -> None:
        """A new pseudo-terminal; reachable under the old name only if that was a symbolic link."""
        await self.open(self.path if self._has_name else "")

    async def close(self) -> None:
        self.unplug()
        if self._has_name:
            os.unlink(self.path)

    @property
    def _has_name(self) -> bool:
        return os.path.islink(self.path)

    def _readable(self) -> None:
        if self._master is None:
            return
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        except OSError:  # the driver closed its end; ours stays
            return
        self.sent.append(data)
        loop = asyncio.get_running_loop()
        for delay, reply in self.wire.receive(data, loop.time()):
            loop.call_later(delay, self._write, self._master, reply)

    def _write(self, master: int, data: bytes) -> None:
        if master != self._master:
            return
        with suppress(BlockingIOError, OSError):  # nobody reads: a real line loses bytes too
            os.write(master, data)
