"""Toy instruments for tests of the core: a heater and a gauge that speak lines, and their emulators.

``TEMP?`` and the like are answered with a number, changes with OK. The labs of `toy_lab` run on
the clock that jumps: their ports and links are memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from hal.errors import ProtocolError, WrongInstrument
from hal.instrument.address import Scpi, Soft
from hal.instrument.bench import EmulatedWire
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Gauge, Heater
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import Lines
from hal.runtime import emulation, registry, wiring
from hal.transport.fault import Faults, FaultyLink
from hal.transport.link import parse_url
from hal.transport.memory import MemoryLink
from hal.transport.session import Probe


class World:
    """Nothing is shared."""

    def advance(self, dt: float) -> None:
        """Time passes all the same."""


class Acknowledged(Scpi[Any]):
    """As `Scpi`, but every change is answered with OK."""

    async def put(self, device: Any, value: Any) -> None:
        text = self.command.format_map(device.fields | {"value": self.shape(value)})
        await device.acknowledged(text.encode())


class Toy(Instrument):
    """What both toys have in common."""

    vendor = "Toy"
    wires = ("tcp", "serial")
    timeout = 0.3
    kind = ""

    @classmethod
    def framing(cls, scheme: str) -> Lines:
        return Lines(b"\n")

    @cached_property
    def probe(self) -> Probe:
        return Probe(b"ID?", lambda reply: reply.startswith(b"TOY "))

    async def identify(self) -> str:
        found = (await self.ask(b"ID?")).reply.decode()
        if found != f"TOY {self.kind}":
            raise WrongInstrument(self.name, f"expected a {self.kind}, found {found!r}; check `link` in the lab file")
        return found

    async def acknowledged(self, message: bytes, *, idempotent: bool = True) -> None:
        """Send a change; the toy must say OK."""
        exchange = await self.command(message, idempotent=idempotent)
        if exchange.reply != b"OK":
            raise ProtocolError(self.name, f"said {exchange.reply!r} to {message!r}, not OK")


@dataclass(frozen=True)
class HeaterOptions:
    """Settings of the toy heater."""

    gain: float = 1.0
    turns: int = 1


class ToyHeater(Toy):
    """Goes to its setpoint at its rate."""

    kind = model = "heater"
    provides = (Heater,)
    Options = HeaterOptions
    emulator = "toy:HeaterEmulator"

    temperature = SignalR(float, "degC", at=Scpi("TEMP?"), kind=Kind.HINTED, poll=0.1)
    output = SignalR(bool, at=Scpi("OUT?", parse=lambda text: bool(int(text))), poll=0.1)
    setpoint = SignalRW(
        float, "degC", at=Acknowledged("SETP?", "SETP {value:g}"), limits=(0, 600), of="temperature", supersedes=True
    )
    ramp_rate = SignalRW(float, "K/s", at=Acknowledged("RATE?", "RATE {value:g}"), limits=(0.01, 50))
    gain = SignalRW(float, at=Acknowledged("GAIN?", "GAIN {value:g}"), limits=(0, 10))
    turns = SignalRW(int, at=Acknowledged("TURN?", "TURN {value}"), limits=(0, 9))
    mode = SignalRW(str, at=Acknowledged("MODE?", "MODE {value}", parse=str), choices=("slow", "fast"))
    label = SignalRW(str, at=Soft("none"))

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` at `rate`; ended early, it holds."""
        self.setpoint.check(to)
        self.ramp_rate.check(rate)
        return self.start(f"ramp to {to:g}", self._ramp(to, rate), on_cancel=self._hold)

    def set(self, value: float) -> Status[None]:
        """Go there at 10 K/s."""
        return self.ramp(value, 10.0)

    def hold(self) -> Status[None]:
        """Stay here."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Output off."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        await self.acknowledged(b"OFF")

    async def _ramp(self, to: float, rate: float) -> None:
        await self.ramp_rate.put(rate)
        await self.setpoint.put(to)
        async for _ in self.until(self.temperature, lambda now: abs(now - to) < 0.01):
            pass

    async def _hold(self) -> None:
        await self.setpoint.put(await self.temperature.get())


class ToyGauge(Toy):
    """Measures what the emulator is told."""

    kind = model = "gauge"
    provides = (Gauge,)
    emulator = "toy:GaugeEmulator"

    pressure = SignalR(float, "Pa", at=Scpi("PRES?"), kind=Kind.HINTED, poll=0.1)
    state = SignalR(str, at=Scpi("STAT?", parse=str), poll=0.1)

    async def make_safe(self) -> None:
        await self.acknowledged(b"OFF")


class ToyEmulator:
    """Answers lines, in order; `silent` ones are not answered at all."""

    kind = ""

    def __init__(self, world: Any, *, unit: Any = None, channel: Any = None, reply_delay: float = 0.005) -> None:
        self.reply_delay = reply_delay
        self.values: dict[str, Any] = {}
        self.silent: set[str] = set()
        self.received: list[str] = []
        self.calls_itself = self.kind

    def framing(self, scheme: str) -> Lines:
        return Lines(b"\n")

    def advance(self, dt: float) -> None:
        """Nothing changes by itself."""

    def respond(self, message: bytes) -> bytes | None:
        text = message.decode(errors="replace")
        self.received.append(text)
        word, _, value = text.partition(" ")
        if word in self.silent:
            return None
        if word == "ID?":
            return f"TOY {self.calls_itself}".encode()
        if word == "OFF":
            self.values["OUT"] = 0
            return b"OK"
        if word.endswith("?"):
            return str(self.values.get(word[:-1], "?")).encode()
        if word in self.values:
            self.values[word] = type(self.values[word])(value)
            return b"OK"
        return b"WHAT"

    @property
    def changes(self) -> list[str]:
        """Whatever was received and is no question."""
        return [text for text in self.received if "?" not in text]


class HeaterEmulator(ToyEmulator):
    """Its temperature follows the setpoint at the rate."""

    kind = "heater"

    def __init__(self, world: Any, **settings: Any) -> None:
        super().__init__(world, **settings)
        self.values = {"TEMP": 20.0, "SETP": 20.0, "RATE": 1.0, "GAIN": 1.0, "TURN": 0, "MODE": "slow", "OUT": 0}

    def respond(self, message: bytes) -> bytes | None:
        reply = super().respond(message)
        if message.startswith(b"SETP "):
            self.values["OUT"] = 1
        return reply

    def advance(self, dt: float) -> None:
        target = self.values["SETP"] if self.values["OUT"] else 20.0
        step = self.values["RATE"] * dt
        self.values["TEMP"] += max(-step, min(step, target - self.values["TEMP"]))


class GaugeEmulator(ToyEmulator):
    """Shows the pressure it is told."""

    kind = "gauge"

    def __init__(self, world: Any, *, pressure: float = 1e-5, **settings: Any) -> None:
        super().__init__(world, **settings)
        self.values = {"PRES": pressure, "STAT": "ok"}


class MemoryPort:
    """Stands where a TCP port would; the links that lead to it are memory."""

    open_ports: dict[str, MemoryPort] = {}

    def __init__(self, wire: EmulatedWire, **_: Any) -> None:
        self.wire = wire
        self.url = f"memory:{len(self.open_ports)}"
        self.plugged = True
        self.links: list[MemoryLink] = []
        self.faults = Faults()

    async def open(self, port: int = 0) -> MemoryPort:
        self.open_ports[self.url] = self
        return self

    @property
    def sent(self) -> list[bytes]:
        """Everything that reached the wire."""
        return [data for link in self.links for data in link.sent]

    def link(self) -> FaultyLink:
        """A cable to it."""
        link = MemoryLink(self.wire)
        link.plugged = self.plugged
        self.links.append(link)
        return FaultyLink(link, self.faults)

    def unplug(self) -> None:
        self.plugged = False
        for link in self.links:
            link.unplug()

    async def plug(self) -> None:
        self.plugged = True
        for link in self.links:
            link.plug()

    async def close(self) -> None:
        self.unplug()


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Labs of this test run on the clock that jumps."""
    MemoryPort.open_ports.clear()
    make_link = wiring.make_link

    def make(url: str, cls: type[Instrument]) -> Any:
        if parse_url(url).scheme == "memory":
            return MemoryPort.open_ports[url].link()
        return make_link(url, cls)

    monkeypatch.setattr(emulation, "TcpPort", MemoryPort)
    monkeypatch.setattr(registry, "WORLD", "toy:World")
    monkeypatch.setattr(wiring, "make_link", make)
    return


TOYS = """\
schema = 1

[lab]
name = "toys"

[devices.heater]
driver = "toy:ToyHeater"

[devices.oven]
driver = "toy:ToyHeater"

[devices.gauge]
driver = "toy:ToyGauge"
"""
"""Two heaters and a gauge, each on a wire of its own."""


def write_lab(directory: Path, *more: str, toys: str = TOYS) -> Path:
    """Write a lab file of the toys and whatever `more` says; return its path."""
    path = directory / "lab.toml"
    path.write_text("\n".join([toys, *more]))
    return path


async def eventually(condition: Any, within: float = 60.0) -> None:
    """Wait until `condition()` holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, "it never came about"
        await asyncio.sleep(0.01)
