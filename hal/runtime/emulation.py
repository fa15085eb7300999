"""Emulation: the instruments of a lab file, emulated on real wires of this machine.

Devices on one link share one wire; devices with the same driver, link and unit are channels of one
instrument. All live in one world.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError, near
from ..instrument.bench import Bench
from ..instrument.serving import Port, PtyPort, StreamPort, TcpPort
from ..recording.plan import EMULATED
from ..transport.link import UNREAL, parse_url
from . import registry
from .config import LabConfig, parse


@dataclass
class EmulatedLink:
    """One link of the lab file and the ports its emulators are served on."""

    key: str
    devices: list[str]
    port: Port
    emulators: list[Any]
    streams: list[StreamPort] = field(default_factory=list)

    def unplug(self) -> None:
        """Pull every cable of this link."""
        for port in (self.port, *self.streams):
            port.unplug()

    async def plug(self) -> None:
        """Put them back."""
        for port in (self.port, *self.streams):
            await port.plug()


class Emulation:
    """Emulators of (some of) a lab's links, running on the event loop they were started on."""

    def __init__(self, config: LabConfig, *, world: Any = None) -> None:
        self.config = config
        self.bench = Bench(world if world is not None else registry.load(registry.WORLD)())
        self.links: dict[str, EmulatedLink] = {}
        self._made: dict[str, list[tuple[Any, Any, str]]] = {}

    async def start(self, *, only_unreal: bool = False, ports_from: int = 0) -> Emulation:
        """Serve every link, or only those that lead to nothing real (``emulator:``). Raises `ConfigError`, OSError."""
        grouped: dict[str, list[str]] = {}
        for device in self.config.file.devices:
            key, link = self.config.link_of(device)
            if not only_unreal or link.url.startswith(UNREAL):
                grouped.setdefault(key, []).append(device)
        try:
            for key, devices in grouped.items():
                self.links[key] = await self._serve(key, devices, ports_from)
                if ports_from:
                    ports_from += 1 + len(self.links[key].streams)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Stop serving."""
        for link in self.links.values():
            for port in (link.port, *link.streams):
                await port.close()
        self.links.clear()

    def url(self, key: str) -> str:
        """The URL that reaches a link's emulators."""
        return self.links[key].port.url

    def overrides(self, device: str) -> dict[str, Any]:
        """Options a device's driver needs to find its emulator (a detector's data port)."""
        link = self.links.get(self.config.link_of(device)[0])
        option = getattr(self.config.drivers[device], "stream_option", "")
        return {option: link.streams[0].port} if option and link is not None and link.streams else {}

    def emulator(self, device: str) -> Any:
        """The emulated instrument behind a device."""
        key, _ = self.config.link_of(device)
        entry = self.config.file.devices[device]
        return next(e for e, unit, path in self._made[key] if (unit, path) == self._place(entry, device))

    def lab_file(self) -> str:
        """The lab file's text with links that reach these emulators instead of the real instruments."""
        return rewritten(self.config, {key: link.port.url for key, link in self.links.items()}, self.overrides)

    def _place(self, entry: Any, device: str) -> tuple[Any, str]:
        return entry.unit, self.config.drivers[device].emulator

    async def _serve(self, key: str, devices: list[str], ports_from: int) -> EmulatedLink:
        made = self._made[key] = []
        if "firmware" in self.config.drivers[devices[0]].wires:
            return await self._serve_board(key, devices)
        for device in devices:
            entry, cls = self.config.file.devices[device], self.config.drivers[device]
            if not cls.emulator:
                raise ConfigError(f"devices.{device}: {cls.__name__} has no emulator; give it a real link")
            place = self._place(entry, device)
            if any((unit, path) == place for _, unit, path in made):
                continue
            settings: dict[str, Any] = {}
            for other in devices:  # channels of one instrument share its settings
                if self._place(self.config.file.devices[other], other) == place:
                    settings |= self.config.file.devices[other].emulator
            make: Callable[..., Any] = registry.load(cls.emulator)
            check_settings(f"devices.{device}.emulator: {entry.driver}", make, settings, but=("unit", "channel"))
            try:
                emulator = make(self.bench.world, unit=entry.unit, channel=entry.channel, **settings)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"devices.{device}.emulator: {error}") from error
            made.append((emulator, *place))
        emulators = [e for e, _, _ in made]
        scheme = self.config.link_of(devices[0])[1].url.partition(":")[0]
        if scheme == "emulator":
            scheme = self.config.drivers[devices[0]].wires[0]
        if scheme == "serial" and sys.platform == "win32":
            scheme = "tcp"  # no pseudo-terminals there
        wire = self.bench.wire(emulators, scheme)
        port: Port
        if scheme == "serial":
            port = await PtyPort(wire).open()
        else:
            port = await TcpPort(wire, scheme="visa" if scheme == "visa" else "tcp").open(ports_from)
        link = EmulatedLink(key, devices, port, emulators)
        for emulator in emulators:
            if hasattr(emulator, "stream"):
                stream_port = ports_from + 1 + len(link.streams) if ports_from else 0
                link.streams.append(await StreamPort(self.bench, emulator).open(stream_port))
        return link

    async def _serve_board(self, key: str, devices: list[str]) -> EmulatedLink:
        """The board's own firmware, on this machine or in QEMU."""
        name, url = devices[0], self.config.link_of(devices[0])[1].url
        entry = self.config.file.devices[name]
        try:
            kind = parse_url(url).path if url.startswith("firmware:") else "posix"
            make = registry.load(registry.BOARD)
            check_settings(f"devices.{name}.emulator: {entry.driver}", make, entry.emulator, but=("kind",))
            board = make(kind, self.bench, **entry.emulator)
        except TypeError as error:
            raise ConfigError(f"devices.{name}.emulator: {error}") from error
        await board.open()
        self._made[key].append((board, *self._place(entry, name)))
        return EmulatedLink(key, devices, board, [board])


def check_settings(who: str, make: Callable[..., Any], settings: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    """Raise `ConfigError` if an emulator is not made with one of `settings`; `but` are not the user's."""
    parameters = inspect.signature(make).parameters
    own = [name for name in parameters if name not in ("world", "bench", *but)]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # it hands them on: only making it can tell
    for key in settings:
        if key not in own:
            raise ConfigError(f"{who} has no setting {key!r}{near(key, own)}; it has {', '.join(own) or 'none'}")


def rewritten(config: LabConfig, urls: dict[str, str], overrides: Callable[[str], dict[str, Any]]) -> str:
    """Return the lab file's text with other links: line by line, so that comments stay."""
    section = ""
    out = [] if EMULATED in config.text else [EMULATED]
    for line in config.text.splitlines():
        bare = line.strip()
        if bare.startswith("["):
            section = bare.split("#")[0].strip().strip("[]").strip()
            out.append(line)
            kind, _, name = section.partition(".")
            if kind == "devices" and name in config.file.devices:
                key = config.link_of(name)[0]
                if key in urls and config.file.devices[name].link not in config.file.links:
                    out.append(f'link = "{urls[key]}"')
                out += [f"{option} = {value}" for option, value in overrides(name).items()]
            elif kind == "links" and name in urls:
                out.append(f'url = "{urls[name]}"')
            continue
        kind, _, name = section.partition(".")
        word = bare.partition("=")[0].strip()
        if kind == "devices" and name in config.file.devices:
            key = config.link_of(name)[0]
            replaced = word == "link" and key in urls and config.file.devices[name].link not in config.file.links
            if replaced or word in overrides(name):
                continue
        if kind == "links" and name in urls and word == "url":
            continue
        out.append(line)
    text = "\n".join(out) + "\n"
    again = parse(text, config.path)
    for device in config.file.devices:
        key = config.link_of(device)[0]
        if key in urls and again.link_of(device)[1].url != urls[key]:  # TOML has other ways to write it
            raise ConfigError(
                f"{config.path}: the link of {device} can't be replaced; begin the section of the device "
                f"with [devices.{device}] (of a link: [links.name]) and write each key on a line of its own"
            )
    return text
