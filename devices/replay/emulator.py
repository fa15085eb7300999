"""The projector: shows a file's frames over ZeroMQ, at the pace they were taken or another, once or over and over.

Its control port takes lines: ``INFO?`` (JSON about the film), ``PLAY``, ``STOP``; all are answered, ``OK`` or JSON.
"""

from __future__ import annotations

import json

import numpy as np

from devices.physics import World
from devices.zmq_camera import schema
from devices.zmq_camera.outbox import Outbox
from hal.protocols import zmtp
from hal.protocols.framing import AnyLines, Framing

from .files import open_film

BATCH_BYTES = 4 << 20
"""Of images in one message, at most."""


class Replay:
    """Settings: `path` of the film (.mib, .h5, .nxs), `dataset` and `times` in an HDF5 file, `fps` (0: the pace at
    which it was taken), `loop` (begin again at its end).
    """

    reply_delay = 0.0

    def __init__(
        self,
        world: World,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        path: str = "",
        dataset: str = "",
        times: str = "",
        fps: float = 0.0,
        loop: bool = False,
    ) -> None:
        if not path:
            raise ValueError('no film is given; write emulator = { path = "film.mib" }')
        self.film, self.path, self.loop = open_film(path, dataset, times, fps), path, loop
        n, start = len(self.film), self.film.start
        since = start - start[0]
        if fps:
            since = np.rint(np.arange(n) * 1e9 / fps).astype(np.int64)
        elif (np.diff(since) <= 0).any():
            raise ValueError(f"{path}: the times of its frames do not ascend; give `fps`")
        self._since = since
        self._exposure = self.film.exposure_ns
        steps = np.diff(since)
        self.period = float(np.median(steps)) * 1e-9 if n > 1 else 0.01
        self._ends = (since + self._exposure) * 1e-9
        self._round = float(since[-1]) * 1e-9 + self.period  # s from one showing to the next
        self._each = max(1, BATCH_BYTES // max(1, self.film.images(0, 1).nbytes))
        self.lived = 0.0
        self._begun: float | None = None
        self._next = self._showing = self._series = 0
        self._outbox = Outbox()

    # ------------------------------------------------------------------ control port

    def framing(self, scheme: str) -> Framing:
        return AnyLines(b"\n")

    def respond(self, message: bytes) -> bytes | None:
        match message.strip().upper():
            case b"INFO?":
                about = {
                    "film": self.path, "frames": len(self.film), "shape": list(self.film.shape),
                    "dtype": self.film.dtype, "period": self.period,
                    "exposure": float(np.median(self._exposure)) * 1e-9, "first": int(self.film.number[0]),
                }  # fmt: skip
                return json.dumps(about).encode()
            case b"PLAY":
                self._begun, self._next, self._showing = self.lived, 0, 0
                self._series += 1
                return b"OK"
            case b"STOP":
                self._begun = None
                return b"OK"
        return b"ERROR unknown; INFO? PLAY STOP"

    # ------------------------------------------------------------------ stream

    @property
    def streaming(self) -> bool:
        """Whether more is to be sent."""
        return self._begun is not None or bool(self._outbox)

    def greet(self) -> bytes:
        return self._outbox.greet(self.lived)

    def stream(self) -> list[bytes]:
        """Everything whose time has come."""
        return self._outbox.take(self.lived)

    def advance(self, dt: float) -> None:
        self.lived += dt
        while self._begun is not None:
            shown = self.lived - self._begun - self._showing * self._round
            last = int(np.searchsorted(self._ends, shown, side="right"))
            while self._next < last:
                self._send(self._next, min(self._next + self._each, last))
            if self._next < len(self.film) or shown < self._round:
                return
            if not self.loop:
                self._begun = None
                return
            self._showing, self._next = self._showing + 1, 0

    def _send(self, first: int, last: int) -> None:
        """Frames, stamped as if the old detector's clock went on over every showing."""
        assert self._begun is not None
        base = round((self._begun + self._showing * self._round) * 1e9)
        number = self.film.number[first:last] + self._showing * (self.film.number[-1] + 1 - self.film.number[0])
        time = (self._since[first:last] + base).tolist()
        parts = schema.encode(
            number.tolist(), self.film.images(first, last), time=time, series=self._series,
            exposure=int(np.median(self._exposure[first:last])),
        )  # fmt: skip
        self._outbox.put(self.lived, zmtp.message(parts))
        self._next = last
