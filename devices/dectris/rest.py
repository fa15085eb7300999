"""SIMPLON over HTTP: messages, and a link that opens a connection for each of them. No I/O but that link's.

Sources: [DC] DECTRIS's own DEigerClient 1.8 as shipped in libertem-live 0.3, detectors/dectris; [LL] that
package's sim.py; [AD] areaDetector ADEiger, restApi.cpp and eigerDetector.cpp; [ES] ALBA's eiger-simulator 0.5.1;
[SD] dectris/documentation, stream_v2/README.md. The SIMPLON API Reference itself was not at hand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hal.transport.link import Link, beside

LONGEST = 1 << 26
"""Bytes of a message beyond which it is taken for noise."""

_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)
_START = re.compile(rb"(?:GET|PUT|POST|DELETE|HEAD|OPTIONS) \S+ HTTP/1\.[01]\r?\n|HTTP/1\.[01] \d{3}")
_END = b"\r\n\r\n"


class Http:
    """HTTP/1.1 messages whose length is stated; both directions. Bytes that begin no message are skipped."""

    def __init__(self) -> None:
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return message

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages: list[bytes] = []
        while (start := _START.search(self._buffer)) is not None:
            self._buffer = self._buffer[start.start() :]
            head, end, _ = self._buffer.partition(_END)
            if not end:
                break
            stated = _LENGTH.search(head.replace(b"\r", b""))
            size = len(head) + len(_END) + (int(stated[1]) if stated else 0)
            if size > LONGEST:
                self._buffer = self._buffer[len(head) :]
                continue
            if len(self._buffer) < size:
                return messages
            messages.append(self._buffer[:size])
            self._buffer = self._buffer[size:]
        if len(self._buffer) > 1 << 16:  # a line without end
            self._buffer = self._buffer[-1024:]
        return messages

    def reset(self) -> None:
        self._buffer = b""


@dataclass(frozen=True, slots=True)
class Request:
    """GET or PUT of a path, with a JSON body or none."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """Status, and the JSON that came with it (its text, if it is none)."""

    status: int
    value: Any


def request(method: str, path: str, host: str, value: Any = ...) -> bytes:
    """A request as [DC] sends it: a value to be set is ``{"value": ...}``; a command has no body."""
    body = b"" if value is ... else json.dumps({"value": value}).encode()
    kind = "Content-Type: application/json; charset=utf-8\r\n" if method == "PUT" else "Accept: application/json\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{kind}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + body


def parse_request(message: bytes) -> Request | None:
    """None if it is no request."""
    head, _, body = message.partition(_END)
    words = head.split(b"\r\n")[0].split()
    if len(words) != 3:
        return None
    return Request(words[0].decode("ascii"), words[1].decode("latin1"), body)


def response(status: int, value: Any = None) -> bytes:
    """A reply; `value` as JSON, a text as it is, None for an empty body."""
    text = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Timeout"}.get(
        status, "Error"
    )
    plain = isinstance(value, str)
    body = b"" if value is None else value.encode() if plain else json.dumps(value).encode()
    kind = "text/plain" if plain or value is None else "application/json; charset=utf-8"
    head = f"HTTP/1.1 {status} {text}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body


def image(picture: bytes) -> bytes:
    """A reply with a TIFF in it."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/tiff\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode("ascii") + picture


def parse_response(message: bytes) -> Response:
    """ValueError if it is none."""
    head, _, body = message.partition(_END)
    words = head.split(b"\r\n")[0].split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError(f"{message[:60]!r} is no reply over HTTP")
    try:
        value: Any = json.loads(body) if body.strip() else None
    except ValueError:
        value = body.decode("utf-8", "replace").strip()
    return Response(int(words[1]), value)


class OneEach:
    """A link on which every message has a connection of its own: servers close them as they like.

    A connection whose reply may take as long as the film (the trigger's) is kept until the next of its kind.
    """

    def __init__(self, link: Link) -> None:
        self.url = link.url
        self._link = self._now = link
        self._port = urlsplit(link.url).port if link.url.startswith("tcp://") else None
        self._lasting: Link | None = None

    def beside(self, port: int, host: str = "") -> Link:
        """A further connection to the same instrument."""
        return beside(self._link, port, host)

    async def open(self) -> None:
        """Look whether somebody listens."""
        await self._now.open()

    async def send(self, data: bytes) -> None:
        lasting = b"/command/trigger" in data[:100]
        if self._now is not self._lasting:
            await self._now.close()
        if self._port is not None:
            self._now = beside(self._link, self._port)
        if lasting:
            if self._lasting is not None:
                await self._lasting.close()
            self._lasting = self._now
        await self._now.open()
        await self._now.send(data)

    async def receive(self) -> bytes:
        return await self._now.receive()

    def discard(self) -> None:
        self._now.discard()

    async def close(self) -> None:
        await self._now.close()
        if self._lasting is not None:
            await self._lasting.close()
            self._lasting = None
