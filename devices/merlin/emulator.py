"""An emulated Merlin: a control port, and a data port that sends frames late, in bursts, or never.

It keeps the truth about every exposure, which a driver can't know: when it was on the bench's clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from devices.physics import World
from hal.protocols.framing import Framing

from . import codec
from .codec import Code, Mpx, State, TriggerStart
from .film import Film
from .parameters import READOUT, acquisition, table
from .scene import Scene
from .stream import FrameWriter

EPOCH = 1_767_225_600_000_000_000  # what the detector's clock says when it is switched on, less its offset
BUFFER = 64 << 20  # bytes that wait for somebody to fetch them; beyond it frames are lost
LATE = 0.5
"""Seconds that frames wait at most for whoever drives the world's lamp to say what it did."""


@dataclass(frozen=True, slots=True)
class _Latent:
    """Exposures that were made and not yet sent: arrays of equal length, and what there was to be seen."""

    due: NDArray[np.float64]  # seconds lived
    number: NDArray[np.int64]
    ticks: NDArray[np.int64]
    start: NDArray[np.float64]  # seconds lived by the world
    stop: NDArray[np.float64]
    exposed: NDArray[np.int64]
    writer: FrameWriter

    def known(self, until: float, lived: float) -> int:
        """Of how many it is certain what light fell on them, or of how many nobody waits to learn it any more."""
        late = int(np.searchsorted(self.due, lived - LATE, side="right"))
        return max(late, int(np.searchsorted(self.stop, until, side="right")))

    def __getitem__(self, part: slice) -> _Latent:
        return replace(
            self, due=self.due[part], number=self.number[part], ticks=self.ticks[part], start=self.start[part],
            stop=self.stop[part],
        )  # fmt: skip


class Merlin(Film):
    """Settings: `fps` and `size` (pixels) at power-up, counter `depth` (1, 6, 12, 24 bit), `drop` (chance that a
    frame is never sent), `delay` (s, the least from the end of an exposure to sending) and `jitter` (s, mean of
    the rest), `every` (s, mean interval of bursts; 0: none) and `late` (s, the longest that frames are held
    back), `pulse_delay` (s, from the beginning of an exposure to its trigger pulse), `offset` (s) and `ppm` of its
    clock, `seed`.
    """

    reply_delay = 0.004  # s

    def __init__(
        self,
        world: World,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        fps: float = 1000.0,
        size: int = 64,
        depth: int = 6,
        drop: float = 1e-3,
        delay: float = 0.002,
        jitter: float = 0.001,
        every: float = 5.0,
        late: float = 0.5,
        pulse_delay: float = 0.0,
        offset: float = 3.7,
        ppm: float = 20.0,
        version: str = "0.77.0.16",
        seed: int = 0,
    ) -> None:
        super().__init__(
            np.random.default_rng(seed), drop=drop, delay=delay, jitter=jitter, every=every, late=late,
            pulse_delay=pulse_delay,
        )  # fmt: skip
        if fps <= 0:
            raise ValueError(f"fps = {fps:g}: give frames per second, more than 0")
        self.world = world
        self.offset, self.ppm, self.size = offset, ppm, size
        self._scene: Scene | None = None
        self._table = table(fps, size, depth, version)
        self._usual = 1e3 / fps  # ms
        self._values: dict[str, float | int | str] = {}
        self._power_up()
        self._series = -1
        self._state = State.IDLE
        self._armed = False
        self._writer: FrameWriter | None = None
        self._begun, self._next, self._until, self._made = 0.0, 0, 0, 0
        self._queue: deque[_Latent | tuple[NDArray[np.float64], bytes | NDArray[np.uint8]]] = deque()
        self._queued = 0

    # ------------------------------------------------------------------ control port

    def framing(self, scheme: str) -> Framing:
        return Mpx()

    def respond(self, message: bytes) -> bytes | None:
        asked = codec.parse_request(message)
        if asked is None:
            return None
        verb, name, value = asked
        key = name.upper()
        if verb == "CMD":
            return codec.reply(verb, name, None, self._command(key))
        if verb == "SET":
            return codec.reply(verb, name, None, self._set(key, value))
        if key == "DETECTORSTATUS":
            return codec.reply(verb, name, str(int(self._state)), Code.OK)
        if key == "TEMPERATURE":
            return codec.reply(verb, name, f"{35.0 + self._rng.normal(0, 0.1):.6f}", Code.OK)
        if key not in self._values:
            return codec.reply(verb, name, "0", Code.UNKNOWN)
        found = self._values[key]
        return codec.reply(verb, name, f"{found:.6f}" if isinstance(found, float) else str(found), Code.OK)

    # ------------------------------------------------------------------ data port

    @property
    def streaming(self) -> bool:
        """Whether more is to be sent."""
        return self._armed or bool(self._queue)

    def greet(self) -> bytes:
        """Whoever connects is told nothing until an acquisition begins."""
        return b""

    def stream(self) -> list[bytes]:
        """Everything whose time to be sent has come."""
        out = []
        while self._queue:
            first = self._queue.popleft()
            if isinstance(first, _Latent):
                known = first.known(self.world.lamp.known, self.lived)
                if known < len(first.due):
                    self._queue.appendleft(first[known:])
                if not known:
                    break
                self._queue.extendleft(reversed(self._developed(first[:known])))
                continue
            due, block = first
            n = int(np.searchsorted(due, self.lived, side="right"))
            if n < len(due):
                self._queue.appendleft((due[n:], block if isinstance(block, bytes) else block[n:]))
            if n == 0:
                break
            if isinstance(block, bytes):
                out.append(block)
                continue
            out.append(block[:n].tobytes())
            self._queued -= n
            if n < len(due):
                break
        return out

    # ------------------------------------------------------------------ time

    def advance(self, dt: float) -> None:
        self.lived += dt
        if self._writer is None or self._next >= self._until:
            return
        period, exposure = self._ns("ACQUISITIONPERIOD"), self._ns("ACQUISITIONTIME")
        done = int((self._ticks(self.lived) - self._begun - exposure) // period) + 1
        last = min(max(done, self._next), self._until)
        if last > self._next:
            self._expose(np.arange(self._next, last), period, exposure)
            self._next = last
        if self._next >= self._until and self._made >= int(self._values["NUMFRAMESTOACQUIRE"]):
            self._stop()

    # ------------------------------------------------------------------ private

    def _ticks(self, lived: float) -> float:
        """Its clock, ns since EPOCH."""
        return (lived + self.offset) * 1e9 * (1 + self.ppm * 1e-6)

    def _ns(self, name: str) -> int:
        return round(float(self._values[name]) * 1e6)

    def _expose(self, k: NDArray[np.int64], period: int, exposure: int) -> None:
        """Make frames k of this trigger; queue those that are sent."""
        n = len(k)
        number = self._made + 1 + np.arange(n)
        self._made += n
        ticks = round(self._begun) + k * period
        pace = 1e9 * (1 + self.ppm * 1e-6)
        start, stop = ticks / pace - self.offset, (ticks + exposure) / pace - self.offset
        sent = self.exposed(self._series, number, start, stop)
        if self._queued * self.size**2 > BUFFER:
            sent[:] = False
        number, ticks, start, stop = number[sent], ticks[sent], start[sent], stop[sent]
        if not number.size:
            return
        if self._scene is None:
            self._scene = Scene(self.world, self.size, self._rng)
        dose = exposure * 1e-6 / self._usual
        assert self._writer is not None
        world = self.world.lived - self.lived
        self._queue.append(
            _Latent(self.due(stop), number, ticks, start + world, stop + world, self._scene.exposed(dose), self._writer)
        )
        self._queued += number.size

    def _developed(self, latent: _Latent) -> list[tuple[NDArray[np.float64], bytes | NDArray[np.uint8]]]:
        """Frames as they will be sent. Only now is it certain what light fell on them."""
        assert self._scene is not None
        lit = self.world.lamp.lit(latent.start, latent.stop) * 1e3 / self._usual
        counts = self._scene.developed(latent.exposed, lit)
        counts = np.minimum(counts, 2 ** min(latent.writer.depth, 8) - 1)
        blocks: list[tuple[NDArray[np.float64], bytes | NDArray[np.uint8]]] = []
        due = latent.due
        for block in latent.writer.frames(latent.number, EPOCH + latent.ticks, counts):
            blocks.append((due[: len(block)], block))
            due = due[len(block) :]
        return blocks

    def _power_up(self) -> None:
        self._values = {name: parameter.value for name, parameter in self._table.items()}

    def _command(self, name: str) -> Code:
        if name == "STARTACQUISITION":
            if self._armed:
                return Code.BUSY
            self._start()
        elif name in ("SCANSTARTRECORD", "SCANSTARTSEARCH", "STARTLIVE", "THSCAN"):
            # It takes what it is told to do, and no scan engine is there [MI; AD for THSCAN].
            return Code.BUSY if self._armed else Code.OK
        elif name in ("STOPACQUISITION", "ABORT"):
            self._stop()
        elif name in ("SOFTTRIGGER", "SWTRIGGER"):  # [AD] calls it the latter
            if self._armed and self._values["TRIGGERSTART"] == TriggerStart.SOFT and self._next >= self._until:
                self._trigger(int(self._values["NUMFRAMESPERTRIGGER"]))
        elif name == "RESET":
            self._stop()
            self._power_up()
        else:
            return Code.UNKNOWN
        return Code.OK

    def _start(self) -> None:
        self._series += 1
        self._armed, self._state, self._made, self._next, self._until = True, State.BUSY, 0, 0, 0
        self._writer = FrameWriter(self.size, self.size, int(self._values["COUNTERDEPTH"]), self._ns("ACQUISITIONTIME"))
        message = Mpx().encode(codec.acquisition_header(acquisition(self._values)))
        self._queue.append((np.array([self.released()]), message))
        if self._values["TRIGGERSTART"] == TriggerStart.INTERNAL:
            self._trigger(int(self._values["NUMFRAMESTOACQUIRE"]))

    def _trigger(self, frames: int) -> None:
        self._begun = self._ticks(self.lived) + 1e6  # 1 ms to set off
        self._next, self._until = 0, min(frames, int(self._values["NUMFRAMESTOACQUIRE"]) - self._made)

    def _stop(self) -> None:
        self._armed, self._state, self._writer = False, State.IDLE, None

    def _set(self, name: str, value: str) -> Code:
        parameter = self._table.get(name)
        if parameter is None:
            return Code.UNKNOWN
        if self._armed:
            return Code.BUSY
        if not parameter.writable:
            return Code.UNKNOWN
        try:
            new = type(parameter.value)(float(value)) if not isinstance(parameter.value, str) else value
        except ValueError:
            return Code.RANGE
        if isinstance(new, (int, float)) and not (
            parameter.low <= new <= parameter.high and (not parameter.choices or new in parameter.choices)
        ):
            return Code.RANGE
        if name == "ACQUISITIONPERIOD" and float(value) < float(self._values["ACQUISITIONTIME"]) - 1e-9:
            return Code.RANGE
        self._values[name] = new
        self._fit()
        return Code.OK

    def _fit(self) -> None:
        """A period leaves room for reading out, except in continuous mode, where it can't be shorter than that."""
        read = READOUT[int(self._values["COUNTERDEPTH"])]
        time, period = float(self._values["ACQUISITIONTIME"]), float(self._values["ACQUISITIONPERIOD"])
        least = max(time, read) if self._values["CONTINUOUSRW"] else time + read
        self._values["ACQUISITIONPERIOD"] = max(period, least)
