"""Discovery: which links this computer has, and which instrument answers on one.

Nothing is set: drivers are asked to identify what they find, each with its own line settings. A
stranger's instrument may still take a question for noise, hence only on request.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import HalError
from ..gate import Gate
from ..instrument.instrument import Instrument
from ..model.context import Context
from ..transport.link import Link, parse_url
from ..transport.session import Session
from . import registry
from .wiring import make_link

PATIENCE = 0.5
"""Seconds a driver waits for each answer here."""
SILENCE = 1.1 * PATIENCE
"""Seconds after which what has not said anything is not asked again in the same language."""


@dataclass(frozen=True, slots=True)
class Place:
    """A link of this computer."""

    url: str
    what: str = ""


def serial_ports() -> Iterator[Place]:
    """Every serial port there is."""
    from serial.tools import list_ports

    for port in sorted(list_ports.comports(), key=lambda p: str(p.device)):
        yield Place(f"serial://{port.device}", str(port.description))


def visa_resources() -> Iterator[Place]:
    """Every VISA resource that announces itself; serial ports are listed as such."""
    import pyvisa

    with suppress(OSError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what pyvisa-py could find with more packages
        manager = pyvisa.ResourceManager("@py")
        try:
            for name in manager.list_resources("?*"):
                if not name.startswith("ASRL"):
                    yield Place(f"visa://{name}", "VISA resource")
        finally:
            manager.close()


async def ask(url: str) -> list[dict[str, str]]:
    """Let every installed driver that could be reached so identify what is there; return those that know it."""
    scheme = parse_url(url).scheme
    drivers: dict[str, type[Instrument]] = {}
    for name in registry.known():  # all imported before the first question: that would keep its answer waiting
        with suppress(HalError):
            drivers[name] = registry.driver(name)
    return [
        {"driver": name, "identity": identity}
        for name, cls in drivers.items()
        if scheme in cls.wires and cls.asks_who and (identity := await _identity(cls, url))
    ]


class _Overheard:
    """A link that says when something comes."""

    def __init__(self, link: Link) -> None:
        self.link, self.url = link, link.url
        self.open, self.send, self.discard, self.close = link.open, link.send, link.discard, link.close
        self.on_data: Callable[[], None] = lambda: None

    async def receive(self) -> bytes:
        data = await self.link.receive()
        self.on_data()
        return data


async def _identity(cls: type[Instrument], url: str) -> str:
    context = Context(gate=Gate())
    context.gate.close(lambda: HalError("looking only; nothing is set"))
    scheme = parse_url(url).scheme
    link = _Overheard(make_link(url, cls))
    session = Session(link, cls.framing(scheme), timebase=context.timebase, gate=context.gate, timeout=PATIENCE)
    device: Any = cls(session, "who", context=context, options=cls.Options(**cls.asks_with))
    # An instance's own: the class keeps the timeout its manual asks for.
    device.__dict__["timeout"] = PATIENCE
    try:
        await session.open()
        async with asyncio.timeout(SILENCE) as limit:
            link.on_data = lambda: limit.reschedule(begun + 6 * PATIENCE)
            begun = asyncio.get_running_loop().time()
            return str(await device.identify())
    except (HalError, OSError, TimeoutError, ValueError):
        return ""
    finally:
        await session.close()
