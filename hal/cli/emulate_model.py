"""One emulated instrument alone, for people who use nothing else of ours: on a pty, or on a TCP port."""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import os
import socket
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, HalError
from ..instrument.bench import Bench
from ..instrument.instrument import Instrument
from ..instrument.serving import PtyPort, StreamPort, TcpPort
from ..runtime import registry
from ..runtime.emulation import check_settings
from .emulate import LOOPBACK, ending, live

ANY = ("0.0.0.0", "::")
"""Addresses at which every host of the network may call."""


@dataclass
class Place:
    """Where an emulator is reached."""

    url: str
    also: str
    """The same for programs that know no URLs of ours."""
    ports: list[Any]
    """To be closed at the end."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What the device's section of a lab file needs besides the link."""


async def serve(options: argparse.Namespace) -> int:
    """Start one emulator, say where it is, wait for the end. Raises `HalError`."""
    cls, ended = find(options.what), ending()
    bench = Bench(registry.load(registry.WORLD)())
    settings = dict(_setting(text) for text in options.set or ())
    try:
        place = await (_board if "firmware" in cls.wires else _ports)(cls, bench, settings, options)
    except OSError as error:
        raise HalError(_why_not(error, options)) from None
    try:
        if options.json:
            print(json.dumps({"pid": os.getpid(), "model": options.what, "url": place.url} | place.extra), flush=True)
        else:
            print(f'link = "{place.url}"  # {place.also}')
            for key, value in place.extra.items():
                print(f"{key} = {json.dumps(value)}")
            print(f"{cls.vendor} {cls.model}, emulated. Ctrl-C ends it.".lstrip(), flush=True)
        await live(bench.advance_to, ended)
    finally:
        for port in place.ports:
            await port.close()
    return 0


def find(model: str) -> type[Instrument]:
    """Return the driver of a model. Raises `ConfigError` with the names near it."""
    if ":" not in model and model not in registry.known():
        near = [name for name in registry.known() if model.lower() in name]
        near = near or difflib.get_close_matches(model.lower(), registry.known(), n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"there is no model {model!r}; {hint}`hal devices` lists all. A lab file ends with .toml.")
    cls = registry.driver(model, beside=Path())
    if not cls.emulator and "firmware" not in cls.wires:
        raise ConfigError(f"{model} has no emulator")
    return cls


# -------------------------------------------------------------------------------- private


async def _ports(cls: type[Instrument], bench: Bench, settings: dict[str, Any], options: argparse.Namespace) -> Place:
    """Serve an ordinary emulator."""
    scheme = _scheme(cls, options)
    make = registry.load(cls.emulator)
    settings = {"unit": None, "channel": None} | settings
    check_settings(options.what, make, settings)
    try:
        emulator = make(bench.world, **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{options.what}: {error}") from error
    extra = {key: settings[key] for key in ("unit", "channel") if settings[key] is not None}
    wire = bench.wire([emulator], scheme)
    streams = hasattr(emulator, "stream")
    if options.data is not None and not streams:
        raise ConfigError(f"{options.what} sends nothing but answers; leave out --data")
    if scheme == "serial":
        pty = await PtyPort(wire).open(_path(options.serial or ""))
        line = cls.line
        also = f"{pty.path}, {line.baudrate} baud, {line.bytesize}{line.parity}{line.stopbits:g}"
        return Place(pty.url, also, [pty], extra)
    host, number = options.tcp or (LOOPBACK, 0)
    if streams and not cls.asks_who:  # it takes no commands: its one port is that of the frames
        stream = await StreamPort(bench, emulator, host=host).open(options.data or number)
        return Place(_shown(stream.url, host), f"{host} port {stream.port}", [stream], extra)
    port = await TcpPort(wire, host=host, scheme=scheme).open(number)
    ports: list[Any] = [port]
    also = f"{host} port {port.port}" + (f"; VISA TCPIP::{host}::{port.port}::SOCKET" if "visa" in cls.wires else "")
    if streams:
        option = cls.stream_option  # type: ignore[attr-defined]
        data = options.data if options.data is not None else getattr(cls.Options(), option) if number else 0
        try:
            ports.append(await StreamPort(bench, emulator, host=host).open(data))
        except OSError as error:
            await port.close()
            raise HalError(_taken(error, host, data, "--data")) from None
        extra[option] = ports[1].port
    return Place(_shown(port.url, host), also, ports, extra)


async def _board(cls: type[Instrument], bench: Bench, settings: dict[str, Any], options: argparse.Namespace) -> Place:
    """Start our board's own program: it makes its pty or port itself."""
    make = registry.load(registry.BOARD)
    kind = settings.pop("kind", "posix")
    if kind not in ("posix", "mps2"):
        raise ConfigError(f"{options.what}: kind = {kind!r} is neither 'posix' (this machine) nor 'mps2' (QEMU)")
    if options.tcp is not None or options.data is not None:
        raise ConfigError(f"{options.what} chooses its TCP port itself: leave out --tcp, and say --set kind=mps2")
    check_settings(options.what, make, settings)
    path = _path(options.serial or "")
    board = make(kind, bench, **settings)
    await board.open()
    place = Place(board.url, "", [board])
    scheme, _, where = board.url.partition("://")
    if scheme != "serial":
        place.also = where.replace(":", " port ")
        if options.serial is not None:
            await board.close()
            raise ConfigError(f"{options.what} in QEMU has no pty; leave out --serial")
        return place
    if path:
        place.ports.append(_Named(path, where))
        place.url = f"serial://{path}"
    place.also = f"{path or where}, {cls.line.baudrate} baud"
    return place


class _Named:
    """A symbolic link that goes with its emulator."""

    def __init__(self, path: str, to: str) -> None:
        self._path = path
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(to, path)

    async def close(self) -> None:
        """Take it away."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)


def _scheme(cls: type[Instrument], options: argparse.Namespace) -> str:
    """Of the wire that is asked for, or the model's usual one."""
    if options.serial is not None and options.tcp is not None:
        raise ConfigError("an instrument alone has one wire: say --serial or --tcp")
    over_tcp = next((scheme for scheme in ("tcp", "visa") if scheme in cls.wires), "")
    if options.tcp is not None:
        if not over_tcp:
            raise ConfigError(f"{options.what} is not reached by TCP, only by {' or '.join(cls.wires)}; say --serial")
        return over_tcp
    if options.serial is not None:
        if "serial" not in cls.wires:
            raise ConfigError(f"{options.what} has no serial line, only {' or '.join(cls.wires)}; say --tcp PORT")
        if sys.platform == "win32":
            raise ConfigError("Windows has no pseudo-terminals; say --tcp PORT, or pair two ports with com0com")
        return "serial"
    if cls.wires[0] == "serial" and sys.platform != "win32":
        return "serial"
    return over_tcp or "serial"


def _setting(text: str) -> tuple[str, Any]:
    """``key=value``, with the value as in a lab file; what is not TOML is text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: write key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _path(path: str) -> str:
    """Where a pty is to be found, absolute. What is not a pty's old name is never replaced."""
    if not path:
        return ""
    path = os.path.abspath(path)
    if os.path.lexists(path) and not (
        os.path.islink(path) and (not os.path.exists(path) or os.path.realpath(path).startswith("/dev/pts/"))
    ):
        raise ConfigError(f"--serial {path}: something else is there already; choose a name that is free")
    if not os.path.isdir(os.path.dirname(path)):
        raise ConfigError(f"--serial {path}: there is no folder {os.path.dirname(path)}")
    return path


def _shown(url: str, host: str) -> str:
    """A URL that others can use too."""
    return url.replace(host, socket.gethostname(), 1) if host in ANY else url


def _why_not(error: OSError, options: argparse.Namespace) -> str:
    if options.tcp is None:
        return f"{options.what}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
    host, port = options.tcp
    return _taken(error, host, port, "--tcp")


def _taken(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} of {host} is taken; end what listens there (another emulator?), "
                f"or choose another with {option} (0: a free one)"
            )
        case errno.EACCES:
            return f"port {port} is not for ordinary users; choose one from 1024 on with {option}"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; choose one of its own with {option}"
    return f"port {port} of {host}: {error.strerror or error}; choose another with {option}"
