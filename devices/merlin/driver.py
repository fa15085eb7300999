"""Quantum Detectors Merlin: pixel detector, commands on one TCP port, frames on another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from hal.capabilities import Camera
from hal.errors import HalError, NoReply, ProtocolError, Refused, WrongInstrument
from hal.frames.chunk import FrameChunk
from hal.instrument.address import ReadOnly
from hal.instrument.streaming import StreamingCamera
from hal.model.reading import Answer
from hal.model.signal import Kind, SignalR, SignalRW
from hal.protocols.framing import Framing, Identifies
from hal.transport.link import Link, beside

from . import codec
from .codec import Code, Mpx, Reply, State, TriggerStart
from .stream import PIXELS, TYPES, AcquisitionBegins, FrameStream

FOR_EVER = 1_000_000_000
"""Frames asked for when nobody says how many: eleven days at 1,000 1/s."""


@dataclass(frozen=True, slots=True)
class Parameter(ReadOnly):
    """A value by its name in the command interface."""

    name: str
    convert: Callable[[str], Any]

    def question(self, device: Any) -> Hashable:
        return self.name

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await device.get(self.name)
        return answer

    def value(self, device: Any, payload: Any) -> Any:
        return self.convert(payload)


@dataclass(frozen=True, slots=True)
class Written(Parameter):
    """A value that can be set: by the driver's method `write`."""

    write: str = ""

    async def put(self, device: Any, value: Any) -> None:
        await getattr(device, self.write)(value)


class Merlin(StreamingCamera):
    """One detector; frames are numbered from 1 in each acquisition and stamped by its own clock, in ns."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """The driver's settings in a lab file."""

        data_port: int = 6342
        """Where frames come from; the link is the control port (6341)."""
        data_host: str = ""
        """The host of that port, if it is another."""
        counter_depth: int = 0
        """1, 6, 12 or 24 bit; 0: as set in the Merlin software."""
        continuous: bool = True
        """Gapless: the next exposure begins while the last is read out."""
        latency: float = 0.002
        """Least s from the end of an exposure to its frame's arrival. Can't be seen one way: the default is the
        emulator's; measure it at the instrument (`hal delay camera`)."""
        latency_sigma: float = 0.0005
        """Its standard uncertainty, s; three of it go into every frame's bound."""
        pulse_latency: float = 0.0
        """s from the beginning of an exposure to its frame pulse, where pulses are stamped; negative if it comes first.
        To be measured likewise."""
        pulse_latency_sigma: float = 0.0
        """Its standard uncertainty, s."""

    vendor, model = "Quantum Detectors", "Merlin"
    provides = (Camera,)
    wires = ("tcp",)
    timeout = 3.0  # a LabVIEW program answers
    emulator = "devices.merlin.emulator:Merlin"
    stream_word = "data port"
    stream_advice = "check `data_port`, and that no other program holds it"
    verified = (
        "protocol against ADMerlin, libertem-live and tickit-devices; emulator with libertem-live and merlin-interface "
        "0.0.6; no hardware"
    )
    options: Options

    exposure = SignalRW(
        float, "s", at=Written("ACQUISITIONTIME", lambda text: float(text) * 1e-3, "_write_exposure"),
        limits=(1e-5, 100.0), doc="Of each frame; to be set while it does not film.",
    )  # fmt: skip
    frame_period = SignalR(
        float, "s", at=Parameter("ACQUISITIONPERIOD", lambda text: float(text) * 1e-3), kind=Kind.CONFIG,
        varies="in steps", doc="From one exposure to the next.",
    )  # fmt: skip
    counter_depth = SignalR(
        int,
        "",
        at=Parameter("COUNTERDEPTH", int),
        kind=Kind.CONFIG,
        varies="in steps",
        doc="Bits of a pixel's counter.",
    )
    bias = SignalR(
        float, "V", at=Parameter("HVBIAS", float), kind=Kind.CONFIG, varies="in steps", doc="Across the sensor."
    )
    sensor_temperature = SignalR(
        float, "degC", at=Parameter("TEMPERATURE", float), poll=10.0, doc="Of the board (unit unverified)."
    )

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._stream = FrameStream()
        self._unreadable = ""

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Mpx()

    # ------------------------------------------------------------------ connecting

    async def identify(self) -> str:
        version = await self._exchange("GET", "SOFTWAREVERSION")
        if version.code or not version.value[:1].isdigit():
            raise WrongInstrument(
                self.name, f"expected a Merlin, found {version.value!r}; check `link` in the lab file (port 6341)"
            )
        return f"Merlin {version.value}"

    async def connected(self) -> None:
        self.shape = (int(await self._number("IMAGEY")), int(await self._number("IMAGEX")))
        await self._read_settings()
        await self.open_stream()
        # After a reconnection: a detector that was switched off meanwhile films on.
        if self.armed and await self._number("DETECTORSTATUS") == State.IDLE:
            await self.begin()

    # ------------------------------------------------------------------ filming

    async def begin(self) -> None:
        o = self.options
        if int((await self.get("DETECTORSTATUS")).payload) != State.IDLE:
            # Left running by a script that died, or begun in the Merlin software: settings would be refused.
            self.context.journal.note("note", self.name, "was filming already; stopped, to begin anew")
            await self.cease()
        await self.set("CONTINUOUSRW", int(o.continuous))
        if o.counter_depth:
            await self.set("COUNTERDEPTH", o.counter_depth)
        await self.set("TRIGGERSTART", int(TriggerStart.INTERNAL))
        await self.set("TRIGGERSTOP", int(TriggerStart.INTERNAL))
        await self.set("NUMFRAMESTOACQUIRE", FOR_EVER)
        await self._read_settings()
        self._unreadable = ""
        try:
            await self._refuse_unless_ok(await self._exchange("CMD", "STARTACQUISITION"))
        except (NoReply, asyncio.CancelledError):  # it may run all the same
            with suppress(HalError):
                await self.cease()
            raise

    async def cease(self) -> None:
        await self._refuse_unless_ok(await self._exchange("CMD", "STOPACQUISITION"))

    # ------------------------------------------------------------------ control port

    async def get(self, name: str) -> Answer:
        """Ask for a parameter by its name in the command interface; the payload is its text."""
        verb = "GET"
        exchange = await self.ask(
            codec.request(verb, name), matches=Identifies(lambda reply: codec.answers(reply, verb, name))
        )
        reply = self._parsed(exchange.reply)
        await self._refuse_unless_ok(reply)
        return Answer(reply.value, exchange.sent, exchange.received)

    async def set(self, name: str, value: float | int | str) -> None:
        """Set a parameter by its name in the command interface. Raises `Refused`."""
        await self._refuse_unless_ok(await self._exchange("SET", name, str(value)))

    # ------------------------------------------------------------------ private

    async def _number(self, name: str) -> float:
        text = (await self.get(name)).payload
        try:
            return float(text)
        except ValueError:
            raise self.protocol_error(text.encode("latin1"), f"a number as {name}") from None

    async def _exchange(self, verb: str, name: str, value: str | None = None) -> Reply:
        message = codec.request(verb, name, value)
        matches = Identifies(lambda reply: codec.answers(reply, verb, name))
        if verb == "GET":
            exchange = await self.ask(message, matches=matches)
        else:  # repeating STARTACQUISITION would answer "busy"
            exchange = await self.command(message, idempotent=name != "STARTACQUISITION", matches=matches)
        return self._parsed(exchange.reply)

    def _parsed(self, body: bytes) -> Reply:
        try:
            return codec.parse_reply(body)
        except ValueError:
            raise self.protocol_error(body, "a reply of a Merlin") from None

    async def _refuse_unless_ok(self, reply: Reply) -> None:
        if reply.code != Code.OK:
            raise Refused(self.name, f"{reply.verb} {reply.name}: error {reply.code}, {reply.meaning}")

    async def _write_exposure(self, seconds: float) -> None:
        """Exposure and period, in the order that never has the exposure outlast the period."""
        ms = round(seconds * 1e3, 6)
        before = await self._number("ACQUISITIONPERIOD")
        names = ["ACQUISITIONPERIOD", "ACQUISITIONTIME"] if ms > before else ["ACQUISITIONTIME", "ACQUISITIONPERIOD"]
        for name in names:
            await self.set(name, ms)
        await self._read_settings()
        taken = await self._number("ACQUISITIONTIME")
        if abs(taken - ms) > max(1e-3, 1e-3 * ms):
            raise Refused(self.name, f"exposure {ms:g} ms became {taken:g} ms; see the Merlin software for its range")

    async def _read_settings(self) -> None:
        self.period = await self._number("ACQUISITIONPERIOD") * 1e-3
        depth = int(await self._number("COUNTERDEPTH"))
        if depth not in TYPES:
            text = f"counter depth {depth} is none of {tuple(TYPES)}; check the Merlin software"
            raise ProtocolError(self.name, text)
        self.dtype = np.dtype(PIXELS[TYPES[depth].encode()]).newbyteorder("=").name

    # ------------------------------------------------------------------ data port

    def stream_link(self) -> Link:
        return beside(self.session.link, self.options.data_port, self.options.data_host)

    async def greet(self, link: Link) -> None:
        self._stream = FrameStream()

    def feed(self, data: bytes, now: int) -> None:
        self._stream.feed(data, now)

    def hand_over(self) -> None:
        garbage, garbled = self._stream.garbage, self._stream.garbled
        try:
            parts: list[AcquisitionBegins | FrameChunk] = self._stream.take()
        except ValueError as error:
            self._stream = FrameStream()
            if not self._unreadable:
                self._unreadable = str(error)
                self.context.journal.note("error", self.name, self._unreadable)
                for view in list(self.views):
                    view.fail(ProtocolError(self.name, self._unreadable))
            return
        for part in parts:
            match part:
                case AcquisitionBegins():
                    self.new_series()
                case FrameChunk():
                    self.take_in(part)
        stream = self._stream
        if (stream.garbage, stream.garbled) != (garbage, garbled):
            text = f"{stream.garbage} bytes and {stream.garbled} frames on the data port could not be read so far"
            self.context.journal.note("error", self.name, text)
