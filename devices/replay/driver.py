"""An old film as a camera, so that a script can be tried against it: filmed frames, fresh times.

The film is shown by the projector in `emulator` (``link = "emulator:"``); a run recorded with it counts as simulated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from devices.zmq_camera import schema
from devices.zmq_camera.receiving import StreamCamera
from hal.capabilities import Camera
from hal.errors import Refused, WrongInstrument
from hal.instrument.address import Calls
from hal.model.reading import Answer
from hal.model.signal import SignalRW
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.zmtp import Message
from hal.transport.link import Link, beside


class Replay(StreamCamera):
    """One film. It begins when filming begins, and once more for everyone who begins anew."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """The driver's settings in a lab file."""

        data_port: int = 5555
        """Where the projector shows the frames."""
        images: bool = True
        """Take the images too; false: only times, numbers and counters."""
        latency: float = 0.0
        """Least s from the end of an exposure to its frame's arrival."""
        latency_sigma: float = 0.005
        """Its standard uncertainty, s: the projector looks at its clock every few ms."""

    vendor, model = "any", "film replayed from a file"
    provides = (Camera,)
    wires = ("tcp",)
    emulator = "devices.replay.emulator:Replay"
    verified = "MIB headers of real detectors (software 0.65.8 to 0.77)"
    options: Options

    exposure = SignalRW(
        float, "s", at=Calls("read_exposure", "write_exposure"), doc="Of each frame, as the film has it."
    )

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._about: dict[str, Any] = {}
        self._series = 0

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return AnyLines(b"\n")

    async def identify(self) -> str:
        await self._read_about()
        return f"{self._about['film']}, {self._about['frames']} frames"

    async def connected(self) -> None:
        await self.open_stream()

    def stream_link(self) -> Link:
        return beside(self.session.link, self.options.data_port)

    async def begin(self) -> None:
        await self._say(b"PLAY")

    async def cease(self) -> None:
        await self._say(b"STOP")

    def decode(self, messages: Sequence[Message]) -> None:
        for message in messages:
            frames = schema.decode(message, images=self.options.images)
            if frames is None:
                continue
            if frames.series != self._series:
                self._series = frames.series or 0
                self.new_series()
            self.take_in(frames.chunk)

    async def read_exposure(self) -> Answer:
        """Of the film's frames; their median."""
        now = self.context.timebase.now()
        return Answer(float(self._about["exposure"]), now, now)

    async def write_exposure(self, seconds: float) -> None:
        """Always `Refused`."""
        raise Refused(self.name, "the film has been exposed already; give another pace by `fps` of its emulator")

    async def _read_about(self) -> None:
        reply = (await self.ask(b"INFO?")).reply
        try:
            self._about = json.loads(reply)
            rows, columns = self._about["shape"]
            if self.options.images:
                self.shape, self.dtype = (int(rows), int(columns)), str(self._about["dtype"])
            self.first_number = int(self._about["first"])  # type: ignore[misc]  # of this film, not of all
            self.period = 0.0  # the frames of a film need not follow a beat
        except (ValueError, KeyError, TypeError):
            raise WrongInstrument(self.name, f"expected a projector, found {reply[:60]!r}; check `link`") from None

    async def _say(self, word: bytes) -> None:
        reply = (await self.command(word, idempotent=word == b"STOP")).reply
        if reply != b"OK":
            raise Refused(self.name, f"{word.decode()}: {reply.decode('latin1')}")
