"""A TCP socket as a link, with Nagle's algorithm off: one peer's answer took 44 ms for want of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

from .link import Inbox

SHORT = 4096
"""Bytes: well below where asyncio's transports ask their writers to pause (64 KiB)."""


class TcpLink:
    """One connection to ``host:port``."""

    def __init__(self, host: str, port: int, *, url: str = "", connect_timeout: float = 3.0) -> None:
        """`url`: what the user calls it, if not ``tcp://host:port``."""
        self.host, self.port = host, port
        self.url = url or f"tcp://{host}:{port}"
        self._connect_timeout = connect_timeout
        self._wire: _Wire | None = None

    def beside(self, port: int, host: str = "") -> TcpLink:
        """A further connection, to another port of the same host."""
        return TcpLink(host or self.host, port, connect_timeout=self._connect_timeout)

    async def open(self) -> None:
        await self.close()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, self._wire = await loop.create_connection(_Wire, self.host, self.port)
        except TimeoutError:
            raise ConnectionError(f"{self.url} did not answer in {self._connect_timeout:g} s") from None
        except ConnectionRefusedError:
            raise ConnectionError(f"{self.url}: connection refused, nothing listens there") from None
        except OSError as error:
            raise ConnectionError(f"{self.url}: {error.strerror or error}") from error

    async def send(self, data: bytes) -> None:
        wire = self._open_wire()
        wire.transport.write(data)
        if not wire.writable.is_set():
            await wire.writable.wait()
            self._open_wire()

    def send_at_once(self, data: bytes) -> bool:
        """Send what the transport takes without waiting; return False, and send nothing, if it is not sure to."""
        transport = self._open_wire().transport
        if len(data) > SHORT or transport.get_write_buffer_size():
            return False
        transport.write(data)
        return True

    def receive(self) -> Coroutine[Any, Any, bytes]:
        return self._open_wire().inbox.take()

    def discard(self) -> None:
        if self._wire is not None:
            self._wire.inbox.discard()

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.inbox.fail(ConnectionError(f"{self.url} was closed"))
            wire.transport.abort()

    def _open_wire(self) -> _Wire:
        if self._wire is None:
            raise ConnectionError(f"{self.url} is not open")
        if self._wire.transport.is_closing():
            raise ConnectionError(f"{self.url} was closed by the other end")
        return self._wire


class _Wire(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        self.inbox.feed(data)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        self.inbox.fail(ConnectionError(str(exc) if exc else "the other end closed the connection"))
