"""The seam to the outside: a link moves bytes and knows nothing of messages.

Each implementation translates the errors of its library once, here, into `ConnectionError` with a
sentence for people; the session adds the device's name and what to do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from ..errors import ConfigError


class Link(Protocol):
    """A byte pipe to one wire: serial port, TCP socket, VISA resource, or memory."""

    @property
    def url(self) -> str:
        """Where it leads, for messages."""
        ...

    async def open(self) -> None:
        """Open; raise `ConnectionError` saying why not."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all of `data`; raise `ConnectionError` if the wire is gone."""
        ...

    async def receive(self) -> bytes:
        """Wait for at least one byte; raise `ConnectionError` if the wire is gone.

        May be cancelled at any await without losing bytes.
        """
        ...

    def discard(self) -> None:
        """Forget what has arrived and was not received."""
        ...

    async def close(self) -> None:
        """Close; never raises, may be called twice."""
        ...


def beside(link: Link, port: int, host: str = "") -> Link:
    """A further connection to the same instrument, at another port (or host). Raises `ConfigError`."""
    make = getattr(link, "beside", None)
    if make is None:
        raise ConfigError(f"link {link.url!r}: the instrument needs a second port beside it; write tcp://host:port")
    further: Link = make(port, host)
    return further


class Inbox:
    """Bytes that have arrived and the one reader that waits for them."""

    __slots__ = ("_chunks", "_error", "_waiter")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._error: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._wake()

    def fail(self, error: ConnectionError) -> None:
        """Raise `error` to whoever reads once the bytes are used up."""
        if self._error is None:
            self._error = error
        self._wake()

    @property
    def failed(self) -> bool:
        """Whether nothing more will come."""
        return self._error is not None

    async def take(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if len(self._chunks) == 1:
            return self._chunks.pop()
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data

    def discard(self) -> None:
        """Forget what has come."""
        self._chunks.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """A serial line as the manual gives it: ``SerialSettings(57600, 7, "O", 1)``."""

    baudrate: int = 9600
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1
    rtscts: bool = False
    xonxoff: bool = False


UNREAL = ("emulator:", "firmware:")
"""How the URLs begin of links that whoever opens the lab starts the far end of."""


@dataclass(frozen=True, slots=True)
class Address:
    """A link's URL, taken apart."""

    url: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)


SCHEMES = ("serial", "tcp", "visa", "emulator", "firmware", "memory")
BOARDS = ("posix", "mps2")
"""What a ``firmware:`` link can start: the firmware built for this machine, or its Cortex-M image in QEMU."""


def parse_url(url: str) -> Address:
    """Take a link's URL apart.

    Known forms: ``serial:///dev/ttyUSB0?baudrate=19200``, ``serial://COM3``, ``tcp://host:port``,
    ``visa://TCPIP::host::port::SOCKET``, ``emulator:`` and ``firmware:posix``. Raises `ConfigError`.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in SCHEMES:
        raise ConfigError(
            f"link {url!r}: unknown kind of link; write serial:///dev/ttyUSB0, tcp://host:port, "
            "visa://TCPIP::host::port::SOCKET or emulator:"
        )
    if scheme == "firmware" and rest not in BOARDS:
        raise ConfigError(f"link {url!r}: no such emulated board; write firmware:posix or firmware:mps2")
    if scheme == "visa":
        return Address(url, scheme, path=rest.removeprefix("//"))
    try:
        parts = urlsplit(url)
        port = parts.port or 0
    except ValueError as error:
        raise ConfigError(f"link {url!r}: {error}; write {scheme}://host:port") from None
    query = dict(parse_qsl(parts.query))
    if scheme == "tcp" and not (parts.hostname and port):
        raise ConfigError(f"link {url!r}: host or port is missing; write tcp://host:port")
    if scheme == "serial" and not (parts.path or parts.netloc):
        raise ConfigError(f"link {url!r}: no port is named; write serial:///dev/ttyUSB0 or serial://COM3")
    return Address(url, scheme, parts.hostname or "", port, parts.netloc + parts.path, query)
