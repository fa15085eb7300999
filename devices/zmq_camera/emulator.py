"""An emulated home-made frame server: pushes frames over ZeroMQ all the time, whoever looks."""

from __future__ import annotations

import numpy as np

from devices.merlin.film import Film
from devices.merlin.scene import Scene
from devices.physics import World
from hal.protocols import zmtp
from hal.protocols.framing import Framing, Raw

from . import schema
from .outbox import Outbox


class ZmqCamera(Film):
    """Settings: `fps`, `size` (pixels), `stamped` (frames carry the time), `batch` (frames in a message), `drop`,
    `delay`, `jitter`, `every`, `late` (see `Film`), `offset` (s) and `ppm` of its clock, `seed`.
    """

    reply_delay = 0.0
    streaming = True

    def __init__(
        self,
        world: World,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        fps: float = 100.0,
        size: int = 64,
        stamped: bool = True,
        batch: int = 1,
        drop: float = 0.0,
        delay: float = 0.002,
        jitter: float = 0.001,
        every: float = 0.0,
        late: float = 0.5,
        offset: float = 3.7,
        ppm: float = 20.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            np.random.default_rng(seed), drop=drop, delay=delay, jitter=jitter, every=every, late=late
        )  # fmt: skip
        self.size, self.stamped, self.batch = size, stamped, batch
        self.offset, self.ppm, self.period = offset, ppm, 1 / fps
        self._scene = Scene(world, size, self._rng)
        self._made = 0
        self._outbox = Outbox()

    def framing(self, scheme: str) -> Framing:
        return Raw()

    def respond(self, message: bytes) -> bytes | None:
        """It takes no commands."""
        return None

    def greet(self) -> bytes:
        return self._outbox.greet(self.lived)

    def stream(self) -> list[bytes]:
        """Everything whose time to be sent has come."""
        return self._outbox.take(self.lived)

    def advance(self, dt: float) -> None:
        self.lived += dt
        while (self._made + self.batch) * self.period <= self.lived:
            self._expose()

    def _expose(self) -> None:
        """One message's frames, exposed for nine tenths of the period."""
        number = self._made + np.arange(self.batch)
        self._made += self.batch
        start = number * self.period
        stop = start + 0.9 * self.period
        sent = self.exposed(0, number, start, stop)
        if self._outbox.full:
            sent[:] = False
        if not sent.any():
            return
        images = self._scene.images(int(sent.sum()), 1.0).reshape(-1, self.size, self.size)
        pace = 1e9 * (1 + self.ppm * 1e-6)
        time = np.rint((start[sent] + self.offset) * pace).astype(np.int64).tolist()
        parts = schema.encode(
            number[sent].tolist(), images, time=time if self.stamped else None, exposure=round(0.9 * self.period * 1e9)
        )
        self._outbox.put(float(self.due(stop[sent])[-1]), zmtp.message(parts))
