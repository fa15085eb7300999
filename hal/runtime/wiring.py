"""Wiring: links, sessions and devices as a lab file describes them, put together and not yet opened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import CapabilityError, ConfigError
from ..instrument.camera import CameraInstrument
from ..instrument.instrument import Instrument
from ..model.capabilities import FrameClock, lacking
from ..model.context import Context
from ..model.signal import SignalRW
from ..transport.link import UNREAL, Link, parse_url
from ..transport.session import Reconnect, Session
from .config import LabConfig

if TYPE_CHECKING:
    from .emulation import Emulation


@dataclass(frozen=True, slots=True)
class Wires:
    """The devices of a lab file on their links. Only the emulators, if there are any, run already."""

    emulation: Emulation | None
    sessions: dict[str, Session]
    """By the key of their link."""
    devices: dict[str, Instrument]
    """In the lab file's order."""


async def wire(config: LabConfig, context: Context) -> Wires:
    """Start the emulators behind links that lead to nothing real, make sessions and devices. Raises `ConfigError`."""
    from .emulation import Emulation

    links: dict[str, list[str]] = {}
    for name in config.file.devices:
        links.setdefault(config.link_of(name)[0], []).append(name)
    urls = {key: config.link_of(names[0])[1].url for key, names in links.items()}
    emulation: Emulation | None = None
    if any(url.startswith(UNREAL) for url in urls.values()):
        emulation = await Emulation(config).start(only_unreal=True)
        urls |= {key: link.port.url for key, link in emulation.links.items()}
    try:
        sessions = {key: make_session(config, names, urls[key], context) for key, names in links.items()}
        devices = {
            name: make_device(config, name, sessions[config.link_of(name)[0]], context, emulation)
            for name in config.file.devices
        }
    except BaseException:
        if emulation is not None:
            await emulation.close()
        raise
    return Wires(emulation, sessions, devices)


def make_device(
    config: LabConfig, name: str, session: Session, context: Context, emulation: Emulation | None
) -> Instrument:
    """Return a device with its options, polls and limits; nothing is sent."""
    entry, cls = config.file.devices[name], config.drivers[name]
    options = config.options.get(name) or cls.Options()
    if emulation is not None and (found := emulation.overrides(name)):
        options = replace(options, **found)
    device = cls(session, name, unit=entry.unit, channel=entry.channel, options=options, context=context)
    for signal in device.signals():
        if signal.name in entry.poll:
            signal.poll = entry.poll[signal.name]
        if isinstance(signal, SignalRW):
            for limits, by in config.limits.get(name, {}).get(signal.name, ()):
                signal.narrow(limits, by)
    return device


def give_frame_clock(config: LabConfig, name: str, devices: dict[str, Instrument]) -> None:
    """Tell a camera who stamps its frame pulses, if the lab file says so. Raises `CapabilityError`.

    To be called with everybody connected: a board tells only then what it has.
    """
    entry, camera = config.file.devices[name], devices[name]
    if entry.frame_clock is None or not isinstance(camera, CameraInstrument):
        return
    clock: Any = devices[entry.frame_clock]
    if missing := lacking(clock, FrameClock):
        raise CapabilityError(
            f"{config.path}: devices.{name}.frame_clock: {clock.name} is no FrameClock: {'; '.join(missing)}"
        )
    camera.frame_clock = clock, entry.frame_input or 0


def make_link(url: str, cls: type[Instrument]) -> Link:
    """Return the link a URL describes, with the driver's line settings. Raises `ConfigError`."""
    address = parse_url(url)
    match address.scheme:
        case "tcp":
            from ..transport.tcp import TcpLink

            return TcpLink(address.host, address.port)
        case "serial":
            from ..transport.serial import SerialLink, settings_from

            return SerialLink(address.path, settings_from(address, cls.line))
        case "visa":
            from ..transport.tcp import TcpLink
            from ..transport.visa import VisaLink, socket_of

            if place := socket_of(address.path):
                return TcpLink(*place, url=url)
            return VisaLink(address.path, settings=cls.line)
        case scheme:
            raise ConfigError(f"link {url!r}: nothing serves {scheme} here")


def make_session(config: LabConfig, devices: list[str], url: str, context: Context) -> Session:
    """Return the one session of all `devices` on a link. Raises `ConfigError`."""
    cls = config.drivers[devices[0]]
    scheme = parse_url(url).scheme
    framing = cls.framing(scheme)
    for other in devices[1:]:
        if type(config.drivers[other].framing(scheme)) is not type(framing):
            raise ConfigError(
                f"{config.path}: {devices[0]} and {other} share a link and speak different protocols; "
                "give each a link of its own"
            )
    entry = config.link_of(devices[0])[1]
    drivers = [config.drivers[d] for d in devices]
    return Session(
        make_link(url, cls),
        framing,
        timebase=context.timebase,
        gate=context.gate,
        timeout=max(d.timeout for d in drivers),
        pace=max(d.pace for d in drivers),
        reconnect=Reconnect(entry.within) if entry.on_link_lost == "reconnect" else None,
    )
