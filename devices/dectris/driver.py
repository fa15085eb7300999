"""DECTRIS detector: commands by SIMPLON over HTTP, frames by stream v1 or v2 over ZeroMQ.

Frames are numbered from 0 in each series. Their times begin anew with each series (v1: ns since it began; v2: a
ratio of integers, seconds since `series_date`), so each series is an epoch of the detector's clock. What they mean
and how well they are known: docs/reference/frame-sources.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from devices.zmq_camera.receiving import StreamCamera
from hal.capabilities import Camera
from hal.errors import HalError, NoReply, ProtocolError, Refused, WrongInstrument
from hal.frames.chunk import FrameChunk
from hal.instrument.address import ReadOnly
from hal.model.reading import Answer
from hal.model.signal import Kind, SignalR, SignalRW
from hal.protocols.framing import Framing
from hal.protocols.zmtp import Message
from hal.transport.link import Link, beside

from . import rest
from .rest import Http, OneEach
from .stream import Reader, SeriesBegins, SeriesEnds

PORTS = {1: 9999, 2: 31001}
"""Of the streams [SD, "Stream Version Comparison"]."""
MOST = 2_000_000_000
"""Largest nimages and ntrigger [LL sim.py]: 23 days at 1,000 1/s."""
SLOW = 60.0
"""Seconds that arming and initialising may take."""
FORMATS = {1: "legacy", 2: "cbor"}
"""Stream configuration `format` [SD]."""


@dataclass(frozen=True, slots=True)
class Parameter(ReadOnly):
    """A value by its path below ``/<module>/api/<version>/``."""

    module: str
    path: str

    def question(self, device: Any) -> Hashable:
        return (self.module, self.path)

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await device.get(self.module, self.path)
        return answer

    def value(self, device: Any, payload: Any) -> Any:
        return payload


@dataclass(frozen=True, slots=True)
class Written(Parameter):
    """A value that can be set: by the driver's method `write`."""

    write: str = ""

    async def put(self, device: Any, value: Any) -> None:
        await getattr(device, self.write)(value)


class Dectris(StreamCamera):
    """One detector behind its control unit (DCU)."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """The driver's settings in a lab file."""

        stream: Literal[1, 2] = 2
        """Stream v1 for software before 2022.1."""
        data_port: int = 0
        """Where frames come from; 0: 9999 of stream v1, 31001 of v2. The link is the REST interface (port 80)."""
        data_host: str = ""
        """The host of that port, if it is another."""
        trigger: Literal["ints", "inte", "exts", "exte"] = "ints"
        """Who triggers: ints the driver, once; exts, exte a signal, once per series or per image."""
        nimages: int = 0
        """Images per trigger; 0: until stopped (ints, exts), 1 (inte, exte)."""
        ntrigger: int = 0
        """Triggers; 0: one (ints, exts), until stopped (inte, exte)."""
        compression: Literal["", "none", "lz4", "bslz4"] = ""
        """Of the stream; "": as set."""
        threshold: str = ""
        """Which channel of images with several (stream v2): "threshold_1"; "": the first."""
        images: bool = True
        """Take the images too; false: only times, numbers and counters, for rates beyond what Python can unpack."""
        latency: float = 0.002
        """Least s from the end of an exposure to its frame's arrival. Can't be seen one way: the default is the
        emulator's; measure it at the instrument, by blanking the beam at a known time."""
        latency_sigma: float = 0.0005
        """Its standard uncertainty, s; three of it go into every frame's bound."""

    vendor, model = "DECTRIS", "EIGER2, QUADRO, ELA, ARINA"
    provides = (Camera,)
    wires = ("tcp",)
    timeout = 5.0
    first_number = 0
    emulator = "devices.dectris.emulator:Dectris"
    verified = (
        "stream v2 against DECTRIS's documentation, v1 and REST against open drivers; with libertem-live's and ALBA's "
        "simulators; stream v1 of its emulator by libertem-dectris 0.3.2; no hardware"
    )
    options: Options

    exposure = SignalRW(
        float, "s", at=Written("detector", "config/count_time", "write_exposure"), limits=(1e-7, 3600.0),
        doc="Of each frame (count_time); to be set while it does not film.",
    )  # fmt: skip
    frame_period = SignalR(
        float, "s", at=Parameter("detector", "config/frame_time"), kind=Kind.CONFIG, varies="in steps",
        doc="From one exposure to the next (frame_time).",
    )  # fmt: skip
    state = SignalR(
        str, at=Parameter("detector", "status/state"), poll=10.0, varies="in steps",
        doc="Of the detector: na, idle, ready, acquire, configure, initialize, error.",
    )  # fmt: skip

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        if not isinstance(self.session.link, OneEach):
            self.session.link = OneEach(self.session.link)
        self._host = urlsplit(self.session.link.url).netloc or "detector"
        self._version = "1.8.0"
        self._messages = Reader(self.options.images, self.options.threshold)

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Http()

    # ------------------------------------------------------------------ connecting

    async def identify(self) -> str:
        found = await self._request("GET", "/detector/api/version/")
        value = found.value.get("value") if isinstance(found.value, dict) else None
        if found.status != 200 or not isinstance(value, str):
            raise WrongInstrument(
                self.name,
                f"expected a DECTRIS control unit, found a server that answers {found.status}; check `link` (port 80)",
            )
        self._version = value
        names = [await self._known("detector", f"config/{key}", "") for key in ("description", "detector_number")]
        return " ".join(str(n) for n in names if n) or f"DECTRIS detector, SIMPLON {value}"

    async def connected(self) -> None:
        await self._read_settings()
        await self.open_stream()
        # After a reconnection: a detector that was restarted meanwhile films on.
        if self.armed and await self._known("detector", "status/state", "") in ("na", "idle"):
            await self.begin()

    async def prepare(self) -> None:
        if await self._known("detector", "status/state", "") == "na":  # as it is after power-up
            self.context.journal.note("note", self.name, "initialises, which takes up to a minute")
            await self._command("initialize", SLOW)

    def stream_link(self) -> Link:
        o = self.options
        return beside(self.session.link, o.data_port or PORTS[o.stream], o.data_host)

    # ------------------------------------------------------------------ filming

    async def begin(self) -> None:
        o = self.options
        if await self._known("detector", "status/state", "idle") in ("acquire", "ready"):
            self.context.journal.note("note", self.name, "was armed already; aborted, to begin anew")
            await self.cease()
        await self._choose("stream", "mode", "enabled")
        await self._choose("stream", "format", FORMATS[o.stream], optional=o.stream == 1)
        await self._choose("stream", "header_detail", "basic")
        once = o.trigger in ("inte", "exte")
        for name, value in (
            ("compression", o.compression),
            ("trigger_mode", o.trigger),
            ("nimages", o.nimages or (1 if once else MOST)),
            ("ntrigger", o.ntrigger or (MOST if once else 1)),
        ):
            if value != "":
                await self._choose("detector", name, value)
        await self._read_settings()
        try:
            await self._command("arm", SLOW)
            if o.trigger == "ints":
                # Answered when the last image has been taken: nobody waits for that.
                await self.tell(self._written("PUT", self._path("detector", "command/trigger")))
        except (NoReply, asyncio.CancelledError):  # it may run all the same
            with suppress(HalError):
                await self.cease()
            raise

    async def cease(self) -> None:
        await self._command("abort", SLOW)

    # ------------------------------------------------------------------ REST

    async def get(self, module: str, path: str) -> Answer:
        """Ask for a parameter: ``get("detector", "config/count_time")``; the payload is its value. Raises `Refused`."""
        exchange = await self.ask(self._written("GET", self._path(module, path)))
        found = self._parsed(exchange.reply)
        if found.status != 200 or not isinstance(found.value, dict) or "value" not in found.value:
            raise Refused(self.name, f"GET {module} {path}: {found.status} {_short(found.value)}")
        return Answer(found.value["value"], exchange.sent, exchange.received)

    async def set(self, module: str, path: str, value: Any) -> None:
        """Set a parameter: ``set("detector", "config/count_time", 0.01)``. Raises `Refused`."""
        message = self._written("PUT", self._path(module, path), value)
        found = self._parsed((await self.command(message, idempotent=True)).reply)
        if not 200 <= found.status < 300:
            raise Refused(
                self.name, f"PUT {module} {path} = {value}: {found.status} {_short(found.value)}; "
                "stop filming first, or choose another value",
            )  # fmt: skip

    async def write_exposure(self, seconds: float) -> None:
        """Count time and frame time, in the order that lets the detector choose the shortest dead time.

        DECTRIS recommends it: first both to the same value, count_time first (quoted in libertem-live's controller).
        """
        await self.set("detector", "config/count_time", seconds)
        await self.set("detector", "config/frame_time", seconds)
        await self._read_settings()
        taken = float((await self.get("detector", "config/count_time")).payload)
        if abs(taken - seconds) > max(1e-5, 1e-2 * seconds):
            raise Refused(self.name, f"exposure {seconds:g} s became {taken:g} s; see the detector's range")

    # ------------------------------------------------------------------ private

    def decode(self, messages: Sequence[Message]) -> None:
        broken = self._messages.broken
        for part in self._messages.take(messages):
            match part:
                case SeriesBegins():
                    self.new_series()
                    self.clock.restart()
                    if self.options.images and part.about:
                        self._take_shape(part.about)
                case FrameChunk():
                    self.take_in(part)
                case SeriesEnds():
                    if self.armed:
                        self.context.journal.note("note", self.name, f"series {part.series} is over")
        if self._messages.broken > broken:
            self._complain(self._messages.why)

    def _take_shape(self, about: dict[str, Any]) -> None:
        """Rows, columns and pixel type as the series' header has them; kept if it does not say."""
        rows = about.get("image_size_y", about.get("y_pixels_in_detector"))
        columns = about.get("image_size_x", about.get("x_pixels_in_detector"))
        if rows and columns:
            self.shape = (int(rows), int(columns))
        if bits := about.get("bit_depth_image"):
            self.dtype = f"uint{bits}"
        self.dtype = about.get("image_dtype", self.dtype)

    async def _read_settings(self) -> None:
        if self.options.images:
            rows, columns, bits = [
                int(await self._number(f"config/{name}"))
                for name in ("y_pixels_in_detector", "x_pixels_in_detector", "bit_depth_image")
            ]
            self.shape, self.dtype = (rows, columns), f"uint{bits}"
        beat = self.options.trigger in ("ints", "exts") and self.options.ntrigger in (0, 1)
        self.period = await self._number("config/frame_time") if beat else 0.0

    async def _number(self, path: str) -> float:
        value = (await self.get("detector", path)).payload
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.protocol_error(str(value).encode(), f"a number as {path}")
        return float(value)

    async def _known(self, module: str, path: str, otherwise: Any) -> Any:
        """A value that not every software version has."""
        try:
            return (await self.get(module, path)).payload
        except Refused:
            return otherwise

    async def _choose(self, module: str, name: str, value: Any, *, optional: bool = False) -> None:
        """Set unless it is so already; `optional`: not at all where there is no such choice."""
        present = await self._known(module, f"config/{name}", None)
        if present != value and not (optional and present is None):
            await self.set(module, f"config/{name}", value)

    async def _command(self, name: str, timeout: float) -> None:
        message = self._written("PUT", self._path("detector", f"command/{name}"))
        exchange = await self.command(message, timeout=timeout, idempotent=name != "arm")
        found = self._parsed(exchange.reply)
        if not 200 <= found.status < 300:
            raise Refused(self.name, f"{name}: {found.status} {_short(found.value)}; see its state, then try again")

    async def _request(self, method: str, path: str) -> rest.Response:
        return self._parsed((await self.ask(self._written(method, path))).reply)

    def _written(self, method: str, path: str, value: Any = ...) -> bytes:
        return rest.request(method, path, self._host, value)

    def _path(self, module: str, path: str) -> str:
        return f"/{module}/api/{self._version}/{path}"

    def _parsed(self, reply: bytes) -> rest.Response:
        try:
            return rest.parse_response(reply)
        except ValueError as error:
            raise ProtocolError(self.name, f"{error}; check `link` (port 80)") from None


def _short(value: Any) -> str:
    return str(value or "")[:120]
