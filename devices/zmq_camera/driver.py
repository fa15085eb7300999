"""A detector with a home-made server: frames over ZeroMQ, without commands; see `schema` for the messages."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hal.capabilities import Camera
from hal.errors import LinkLost, Refused
from hal.frames.chunk import FrameChunk
from hal.instrument.address import Calls
from hal.model.reading import Answer, Quality, Sample
from hal.model.signal import SignalRW
from hal.protocols.framing import Framing, Raw
from hal.protocols.zmtp import Message
from hal.transport.link import Link, beside

from . import schema
from .receiving import StreamCamera

UNTIMED = 0.05
"""Standard uncertainty, s, of a frame that nobody stamped: how late a frame usually is, at most."""


class ZmqCamera(StreamCamera):
    """Takes whatever frames come. It can neither start nor stop the detector: filming only means to look."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """The driver's settings in a lab file."""

        socket: Literal["PULL", "SUB"] = "PULL"
        """Of our end: PULL where the server pushes, SUB where it publishes."""
        data_port: int = 0
        """Where frames come from, if not at the link's own port."""
        first_number: int = 0
        """Of a series."""
        shape: tuple[int, int] = (0, 0)
        """Rows and columns of the images; what a run is to record must be known before the first frame."""
        dtype: str = "uint16"
        """Of the pixels."""
        images: bool = True
        """Take the images too; false: only times, numbers and counters."""
        latency: float = 0.0
        """Least s from the end of an exposure to its frame's arrival; measure it, it can't be seen one way."""
        latency_sigma: float = 0.005
        """Its standard uncertainty, s."""

    vendor, model = "any", "ZeroMQ frame source"
    provides = (Camera,)
    wires = ("tcp",)
    asks_who = False
    emulator = "devices.zmq_camera.emulator:ZmqCamera"
    verified = "with pyzmq 27 as the server; the form of the messages is our own"
    options: Options

    exposure = SignalRW(
        float, "s", at=Calls("read_exposure", "write_exposure"), doc="Of the newest frame, as the source states it."
    )

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        o = self.options
        self.first_number = o.first_number  # type: ignore[misc]  # of this source, not of all
        self.shape, self.dtype = (o.shape if o.images else (0, 0)), o.dtype
        self._series: int | None = None
        self._exposure: float | None = None
        # One connection only: a server that pushes would deal its frames out to two.
        self._stream = beside(self.session.link, o.data_port) if o.data_port else self.session.link
        self.session.link = _Idle(self._stream)

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Raw()

    async def identify(self) -> str:
        """Opens the stream: ZeroMQ greets first, or it is something else."""
        await self.open_stream()
        return f"ZeroMQ stream {self._stream.url}"

    def stream_link(self) -> Link:
        return self._stream

    @property
    def stream_kind(self) -> str:
        return self.options.socket

    async def begin(self) -> None:
        if self.stream is None:
            raise LinkLost(self.name, f"stream {self._stream.url} is closed; open the lab first")

    async def cease(self) -> None:
        """Nothing to tell: the source films on."""

    def decode(self, messages: Sequence[Message]) -> None:
        chunks: list[FrameChunk] = []
        try:
            for message in messages:
                frames = schema.decode(message, images=self.options.images)
                if frames is None:
                    continue
                if frames.ticks is None:
                    self.clock.latency_sigma = max(self.clock.latency_sigma, UNTIMED)
                if frames.series != self._series:
                    self._flush(chunks)
                    if self._series is not None:
                        self.new_series()
                    self._series = frames.series
                chunk = frames.chunk
                if chunks and chunks[-1].images.shape[1:] != chunk.images.shape[1:]:
                    self._flush(chunks)
                chunks.append(chunk)
        finally:
            self._flush(chunks)

    def _flush(self, chunks: list[FrameChunk]) -> None:
        if chunks:
            self._exposure = int(chunks[-1].exposure_ns[-1]) * 1e-9
            if chunks[-1].images.shape[1:] != (0, 0):
                self.shape, self.dtype = chunks[-1].images.shape[1:], chunks[-1].images.dtype.name
            self.take_in(FrameChunk.concatenate(chunks))
            chunks.clear()

    async def read_exposure(self) -> Answer:
        """Of the newest frame; bad before the first."""
        now = self.context.timebase.now()
        known = self._exposure
        return Answer(Sample(None, Quality.BAD, "no frame has come yet") if known is None else known, now, now)

    async def write_exposure(self, seconds: float) -> None:
        """Always `Refused`."""
        raise Refused(self.name, "the exposure can't be set over a frame stream; set it at the detector's own server")

    @property
    def wire(self) -> Hashable:
        return id(self.session)


class _Idle:
    """The session's link: the stream is opened by `identify`, and nothing is ever asked on it."""

    def __init__(self, stream: Link) -> None:
        self.url = stream.url

    async def open(self) -> None:
        """The stream opens when the source is identified."""

    async def send(self, data: bytes) -> None:
        raise ConnectionError(f"{self.url} takes no commands")

    async def receive(self) -> bytes:
        raise ConnectionError(f"{self.url} answers no questions")

    def discard(self) -> None:
        """Nothing is kept here."""

    async def close(self) -> None:
        """The stream is closed by `disconnecting`."""
