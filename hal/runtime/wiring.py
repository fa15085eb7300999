"""Wiring: links and sessions as a lab file describes them."""

from __future__ import annotations

from ..errors import ConfigError
from ..instrument.instrument import Instrument
from ..model.context import Context
from ..transport.link import Link, parse_url
from ..transport.session import Reconnect, Session
from .config import LabConfig


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
            from ..transport.visa import VisaLink

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
        probe=cls.probe(),
        reconnect=Reconnect(entry.within) if entry.on_link_lost == "reconnect" else None,
    )
