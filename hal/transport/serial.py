"""A serial port as a link, opened with pyserial.

Where the event loop can watch a file descriptor (Linux, macOS) it does; elsewhere (Windows) a
thread reads, at the price of some hundred microseconds a message.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from ..errors import ConfigError
from .link import Address, Inbox, SerialSettings

WATCH_DESCRIPTORS = sys.platform != "win32"


def settings_from(address: Address, default: SerialSettings) -> SerialSettings:
    """Return the driver's own line settings with what the URL says instead; raise `ConfigError`."""
    known = asdict(default)
    changed: dict[str, Any] = {}
    for key, text in address.query.items():
        if key not in known:
            raise ConfigError(f"link {address.url!r}: unknown setting {key!r}; known are {', '.join(known)}")
        kind = float if key == "stopbits" else type(known[key])
        try:
            changed[key] = text.lower() in ("1", "true", "yes") if kind is bool else kind(text)
        except ValueError:
            raise ConfigError(f"link {address.url!r}: {key}={text!r} is no number") from None
    return replace(default, **changed)


class SerialLink:
    """One serial port."""

    def __init__(self, port: str, settings: SerialSettings, *, threaded: bool = not WATCH_DESCRIPTORS) -> None:
        self.port, self.settings = port, settings
        self.url = f"serial://{port}"
        self._threaded = threaded
        self._serial: Any = None
        self._inbox = Inbox()
        self._writable: asyncio.Future[None] | None = None
        self._reader: threading.Thread | None = None
        self._writer: ThreadPoolExecutor | None = None
        """One thread: a write that was given up must end before the next, or they would mix on the wire."""

    async def open(self) -> None:
        await self.close()
        import serial  # here, so that labs without serial ports do without it

        s = self.settings
        try:
            self._serial = serial.Serial(
                self.port, s.baudrate, bytesize=s.bytesize, parity=s.parity, stopbits=s.stopbits,
                rtscts=s.rtscts, xonxoff=s.xonxoff, timeout=0.05 if self._threaded else 0, write_timeout=2.0,
                exclusive=None if sys.platform == "win32" else True,
            )  # fmt: skip
        except (serial.SerialException, OSError, ValueError) as error:
            raise ConnectionError(f"{self.port} can't be opened: {_reason(error)}") from error
        self._inbox = Inbox()
        if self._threaded:
            loop = asyncio.get_running_loop()
            self._reader = threading.Thread(
                target=self._read_in_thread, args=(loop, self._serial, self._inbox), name=self.url, daemon=True
            )
            self._reader.start()
            self._writer = ThreadPoolExecutor(1, f"{self.url} writer")
        else:
            asyncio.get_running_loop().add_reader(self._serial.fileno(), self._readable)

    async def send(self, data: bytes) -> None:
        if self._serial is None:
            raise ConnectionError(f"{self.port} is not open")
        if self._writer is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._writer, self._serial.write, data)
            except OSError as error:  # SerialException is one
                raise ConnectionError(f"{self.port}: {_reason(error)}") from error
            return
        descriptor = self._serial.fileno()
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                await self._until_writable(descriptor)
            except OSError as error:
                raise ConnectionError(f"{self.port}: {_reason(error)}") from error

    def receive(self) -> Coroutine[Any, Any, bytes]:
        return self._inbox.take()

    def discard(self) -> None:
        self._inbox.discard()

    async def close(self) -> None:
        port, self._serial = self._serial, None
        if port is None:
            return
        if self._writer is not None:
            self._writer.shutdown(wait=False)
            self._writer = None
        if self._writable is not None and not self._writable.done():
            self._writable.set_exception(ConnectionError(f"{self.port} was closed"))
        self._inbox.fail(ConnectionError(f"{self.port} was closed"))
        if not self._threaded:
            with suppress(OSError, ValueError):
                asyncio.get_running_loop().remove_reader(port.fileno())
                asyncio.get_running_loop().remove_writer(port.fileno())
        reader, self._reader = self._reader, None
        try:
            if reader is not None:  # while it reads, the port stays locked, and could not be opened again
                with suppress(Exception):
                    port.cancel_read()
                await asyncio.to_thread(reader.join, 1.0)
        finally:
            with suppress(OSError):
                port.close()

    def _readable(self) -> None:
        try:
            data = os.read(self._serial.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError as error:
            data, reason = b"", _reason(error)
        else:
            reason = "the port hung up"
        if data:
            self._inbox.feed(data)
        else:
            asyncio.get_running_loop().remove_reader(self._serial.fileno())
            self._inbox.fail(ConnectionError(f"{self.port}: {reason}"))

    async def _until_writable(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        ready = self._writable = loop.create_future()
        loop.add_writer(descriptor, _settle, ready)
        try:
            await ready
        finally:
            self._writable = None
            if self._serial is not None:  # else the number may be another file's by now
                loop.remove_writer(descriptor)

    def _read_in_thread(self, loop: asyncio.AbstractEventLoop, port: Any, inbox: Inbox) -> None:
        with suppress(RuntimeError):  # the loop was closed under us
            while self._serial is port:
                try:
                    data = port.read(max(1, port.in_waiting))
                except Exception as error:  # TypeError and others when it is closed under pyserial's hands
                    loop.call_soon_threadsafe(inbox.fail, ConnectionError(f"{self.port}: {_reason(error)}"))
                    return
                if data:
                    loop.call_soon_threadsafe(inbox.feed, data)


def _reason(error: Exception) -> str:
    if "exclusively lock" in str(error):
        return "another program holds it, or a lab of this one that was not closed (`await lab.close()`)"
    if getattr(error, "errno", None) == errno.EACCES:
        return "no permission; add yourself to its group (`sudo usermod -aG dialout $USER`) and log in anew"
    return getattr(error, "strerror", None) or str(error)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
