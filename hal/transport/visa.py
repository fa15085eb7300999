"""A VISA resource as a link: LAN sockets and instruments, USB, GPIB and serial through pyvisa.

Theory of operation. pyvisa blocks and is not thread-safe, so that each link has one thread of its
own, which does everything. A blocking read can't be cancelled: it is done in short slices, between
which the thread looks whether anybody still waits or wants to send. What a slice brings after its
reader has gone is kept for the next one.

Three habits of pyvisa-py (0.8) are dealt with here. A read that times out raises and drops what it
had: a socket is read with "suppress end" off, when it returns what there is as soon as the wire is
quiet, with LF as the termination character, when it returns at once; a serial port is read by one
byte and then by what waits, with all the time in the world: cut short by a machine that stalls, the
beginning of a reply would be lost and its end be taken for it. A socket refused or hung up looks to
it like one that is silent: the socket itself is asked. It leaves Nagle's algorithm on: that is set on
the socket.

Two changes of thread per question cost more than the question. A lab's ``TCPIP::host::port::SOCKET``, which is
a TCP connection and nothing else, therefore never comes here (`socket_of`, decision 11).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from .link import SerialSettings

BACKEND = "@py"
SLICES = (0.01, 0.02, 0.05)
"""Lengths of successive slices of one wait, s; the last is repeated."""
PATIENCE = 1.0
"""Seconds the thread is given to close the resource in good order."""
UNHURRIED = 10.0
"""Seconds for what needs no waiting: a write, and a read of bytes that have come."""
CHUNK = 65536


def socket_of(resource: str) -> tuple[str, int] | None:
    """Host and port of a raw socket resource (VPP-4.3, table 4.3.1); None if it is something else."""
    found = re.fullmatch(r"TCPIP\d*::(.+)::(\d+)::SOCKET", resource, re.IGNORECASE)
    return (found[1], int(found[2])) if found else None


class VisaLink:
    """One VISA resource, such as ``TCPIP::10.0.3.7::5025::SOCKET``."""

    def __init__(
        self,
        resource: str,
        *,
        backend: str = BACKEND,
        connect_timeout: float = 3.0,
        settings: SerialSettings | None = None,
    ) -> None:
        """`backend`: which VISA library, as pyvisa names it (``@py``, ``@ivi``). `settings`: for ASRL resources."""
        self.resource, self.backend = resource, backend
        self.url = f"visa://{resource}"
        self._connect_timeout, self._settings = connect_timeout, settings
        self._wire: _Wire | None = None

    async def open(self) -> None:
        await self.close()
        wire = _Wire(self.url, ThreadPoolExecutor(1, thread_name_prefix=self.url))
        opening = wire.thread.submit(wire.open, self.resource, self.backend, self._connect_timeout, self._settings)
        try:
            await asyncio.wrap_future(opening)
        except BaseException:
            await wire.close()
            raise
        self._wire = wire

    async def send(self, data: bytes) -> None:
        wire = self._open_wire()
        wire.senders += 1
        try:
            await _result(wire.thread.submit(wire.write, data))
        finally:
            wire.senders -= 1

    async def receive(self) -> bytes:
        while True:
            wire = self._open_wire()
            if wire.kept:
                return wire.kept.popleft()
            if wire.senders:  # the thread is theirs first
                await asyncio.sleep(0.0005)
                continue
            unwanted = threading.Event()
            try:
                await _result(wire.thread.submit(wire.read, unwanted))
            finally:
                unwanted.set()

    def discard(self) -> None:
        if self._wire is not None:
            self._wire.kept.clear()

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    def _open_wire(self) -> _Wire:
        if self._wire is None:
            raise ConnectionError(f"{self.url} is not open")
        return self._wire


async def _result(future: Future[None]) -> None:
    """Wait for what the thread does. Being cancelled does not stop it; its error comes again next time."""
    waiting = asyncio.wrap_future(future)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if future.cancelled():  # by `close`, not by whoever waits here
            raise ConnectionError("the link was closed") from None
        raise


class _Wire:
    """An open resource and its thread. All but `close` runs in that thread."""

    def __init__(self, url: str, thread: ThreadPoolExecutor) -> None:
        self.url, self.thread = url, thread
        self.kept: deque[bytes] = deque()
        self.senders = 0
        """How many wait to send: a slice does not keep them waiting for another."""
        self._resource: Any = None
        self._visa: Any = None
        self._kind = ""
        self._allowed = 0.0
        self._closing = threading.Event()

    def open(self, resource: str, backend: str, timeout: float, settings: SerialSettings | None) -> None:
        try:
            import pyvisa  # here, so that labs without VISA do without it
        except ImportError as error:
            raise ConnectionError(f"{self.url}: pyvisa is not installed ({error})") from error
        self._visa = pyvisa
        self._kind = resource.upper()
        try:
            with _OPENING:
                library = pyvisa.ResourceManager(backend)
            self._resource = library.open_resource(resource, open_timeout=round(timeout * 1000))
            self._prepare(settings)
        except ConnectionError:
            raise
        except Exception as error:  # pyvisa-py raises bare Exceptions too
            raise ConnectionError(f"{self.url} can't be opened: {_reason(error)}") from error

    def write(self, data: bytes) -> None:
        try:
            self._allow(UNHURRIED)
            self._resource.write_raw(data)
        except (self._visa.Error, OSError) as error:
            raise ConnectionError(f"{self.url}: {_reason(error)}") from error

    def read(self, unwanted: threading.Event) -> None:
        """Read once something has come, into `kept`; give up once unwanted, or when somebody wants to send."""
        slices = iter(SLICES)
        length = SLICES[0]
        # What an abandoned slice brought while this one waited for the thread is in `kept` already.
        while not (self.kept or unwanted.is_set() or self.senders or self._closing.is_set()):
            length = next(slices, length)
            if data := self._slice(length):
                self.kept.append(data)
                return
        if self._closing.is_set() and not unwanted.is_set():
            raise ConnectionError(f"{self.url} was closed")

    async def close(self) -> None:
        """Close in the thread; if that is stuck in a call, hang up under it."""
        self._closing.set()
        closing = self.thread.submit(self._close)
        self.thread.shutdown(wait=False)
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(closing)), PATIENCE)
        if not closing.done() and (sock := self._socket()) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # ------------------------------------------------------------------ private

    def _close(self) -> None:
        if self._resource is not None:
            with suppress(Exception):
                self._resource.close()

    def _prepare(self, settings: SerialSettings | None) -> None:
        constants = self._visa.constants
        if self._is_serial:
            if settings is not None:
                self._resource.baud_rate = settings.baudrate
                self._resource.data_bits = settings.bytesize
                self._resource.parity = constants.Parity[_PARITY[settings.parity]]
                self._resource.stop_bits = constants.StopBits[_STOP[settings.stopbits]]
            self._resource.end_input = constants.SerialTermination.none
        elif self._is_socket:
            self._resource.set_visa_attribute(constants.ResourceAttribute.suppress_end_enabled, False)
            self._resource.set_visa_attribute(constants.ResourceAttribute.termchar, 0x0A)
            self._resource.set_visa_attribute(constants.ResourceAttribute.termchar_enabled, True)
            sock = self._socket()
            if sock is not None:
                if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise ConnectionError(f"{self.url}: {os.strerror(error)}")
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                with suppress(self._visa.Error):
                    self._resource.set_visa_attribute(constants.ResourceAttribute.tcpip_nodelay, True)

    def _allow(self, seconds: float) -> None:
        """Limit the next call, unless it is limited so: setting it costs."""
        if seconds != self._allowed:
            self._resource.timeout = round(seconds * 1000)
            self._allowed = seconds

    def _slice(self, length: float) -> bytes:
        resource = self._resource
        full = self._visa.constants.StatusCode.success_max_count_read
        try:
            self._allow(length)
            with resource.ignore_warning(full):
                data, _ = resource.visalib.read(resource.session, 1 if self._is_serial else CHUNK)
                if self._is_serial and (more := resource.bytes_in_buffer):
                    self._allow(UNHURRIED)
                    data += resource.visalib.read(resource.session, more)[0]
            return bytes(data)
        except self._visa.VisaIOError as error:
            if error.error_code == self._visa.constants.StatusCode.error_timeout:
                self._refuse_if_hung_up()
                return b""
            raise ConnectionError(f"{self.url}: {_reason(error)}") from error
        except (self._visa.Error, OSError) as error:
            raise ConnectionError(f"{self.url}: {_reason(error)}") from error

    def _refuse_if_hung_up(self) -> None:
        sock = self._socket()
        if sock is None:
            return
        sock.setblocking(False)
        try:
            hung_up = sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            hung_up = False
        except OSError as error:
            raise ConnectionError(f"{self.url}: {_reason(error)}") from error
        finally:
            sock.setblocking(True)
        if hung_up:
            raise ConnectionError(f"{self.url} was closed by the other end")

    def _socket(self) -> socket.socket | None:
        """The socket below, where pyvisa-py runs one; other libraries keep theirs to themselves."""
        resource = self._resource
        sessions = getattr(getattr(resource, "visalib", None), "sessions", None)
        if not self._is_socket or not isinstance(sessions, dict):
            return None
        try:
            found = getattr(sessions.get(resource.session), "interface", None)
        except Exception:  # the resource was closed meanwhile
            return None
        return found if isinstance(found, socket.socket) else None

    @property
    def _is_socket(self) -> bool:
        return self._kind.endswith("::SOCKET")

    @property
    def _is_serial(self) -> bool:
        return self._kind.startswith("ASRL")


_OPENING = threading.Lock()
_PARITY = {"N": "none", "O": "odd", "E": "even", "M": "mark", "S": "space"}
_STOP = {1: "one", 1.5: "one_and_a_half", 2: "two"}


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or getattr(error, "description", None) or str(error) or repr(error)
