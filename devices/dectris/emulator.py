"""An emulated DECTRIS detector: SIMPLON over HTTP, and a stream that sends frames late, in bursts, or never.

What it leaves out: the file writer writes nothing, the monitor gets one image of every 10 ms at most, header_detail
"all" sends no more than "basic", and its stream, where several listen, tells everybody everything (the real one deals
messages out).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.merlin.film import Film
from devices.merlin.scene import Scene
from devices.physics import World
from devices.zmq_camera.outbox import Outbox
from hal.protocols import zmtp
from hal.protocols.framing import Framing

from . import rest, tiff
from .parameters import Entry, Table, table
from .rest import Http
from .stream import WriterV1, WriterV2

SWITCHED_ON = datetime(2026, 1, 1, tzinfo=UTC)  # what the control unit's clock says then, less `offset`
MODULES = ("detector", "stream", "filewriter", "monitor", "system")
COMMANDS = {
    "detector": ("initialize", "arm", "trigger", "disarm", "cancel", "abort", "status_update", "check_connection",
                 "hv_reset"),
    "system": ("restart",),
}  # fmt: skip
SET_OFF = 1e-3  # s from a trigger to the first exposure


class Dectris(Film):
    """Settings: `fps`, `size` (pixels), `depth` (8, 16, 32 bit) and `stream` ("legacy" or "cbor") at power-up,
    `initialized` (else it must be first), and of its frames: `drop`, `delay`, `jitter`, `every`, `late` (see `Film`),
    `offset` (s) of the control unit's clock, `ppm` of the detector's, `seed`.
    """

    def __init__(
        self,
        world: World,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        fps: float = 1000.0,
        size: int = 64,
        depth: int = 16,
        stream: str = "cbor",
        initialized: bool = True,
        drop: float = 1e-3,
        delay: float = 0.002,
        jitter: float = 0.001,
        every: float = 5.0,
        late: float = 0.5,
        offset: float = 3.7,
        ppm: float = 20.0,
        serial: str = "E-01-0001",
        seed: int = 0,
    ) -> None:
        if depth not in (8, 16, 32):
            raise ValueError(f"depth {depth} is none of 8, 16, 32")
        super().__init__(
            np.random.default_rng(seed), drop=drop, delay=delay, jitter=jitter, every=every, late=late
        )  # fmt: skip
        self.world, self.size, self.offset, self.ppm = world, size, offset, ppm
        self.reply_delay = 0.004  # s
        self._make: Callable[[], Table] = lambda: table(fps, size, size, depth, serial, stream)
        self._usual = 1 / fps
        self._table: Table = self._make()
        self._state = "idle" if initialized else "na"
        self._type = np.dtype(f"<u{depth // 8}")
        self._scene: Scene | None = None
        self._series = 0
        self._writer: WriterV1 | WriterV2 | None = None
        self._begun, self._period, self._exposure = 0.0, 0.0, 0.0  # s lived, true s
        self._zero = 0.0  # when the series began, s lived
        self._next = self._until = self._made = self._all = 0
        self._outbox = Outbox()
        self._monitored: deque[tuple[int, int, bytes]] = deque()
        """Series, number and TIFF of the images that the monitor keeps."""

    # ------------------------------------------------------------------ REST

    def framing(self, scheme: str) -> Framing:
        return Http()

    def respond(self, message: bytes) -> bytes | None:
        asked = rest.parse_request(message)
        if asked is None:
            return None
        self.reply_delay = 0.004
        parts = asked.path.partition("?")[0].strip("/").split("/")
        if parts[1:3] == ["api", "version"]:
            return rest.response(200, Entry("1.8.0", writable=False).shown())
        if len(parts) < 4 or parts[1] != "api" or parts[0] not in MODULES:
            return rest.response(404, f"no such path: {asked.path}")
        module, task, name = parts[0], parts[3], "/".join(parts[4:])
        if asked.method not in ("GET", "PUT"):
            return rest.response(405, "only GET and PUT")
        try:
            if task == "command" and asked.method == "GET" and name in ("", "keys"):
                return rest.response(200, sorted(COMMANDS.get(module, ("clear", "initialize"))))
            if task == "command" and asked.method == "PUT":
                return self._command(module, name, asked.body)
            if task == "config":
                return self._get(module, name) if asked.method == "GET" else self._put(module, name, asked.body)
            if (module, task, asked.method) == ("monitor", "images", "GET"):
                return self._images(name)
            if task == "status" and asked.method == "GET":
                return self._status(module, name)
        except KeyError:
            pass
        return rest.response(404, f"no such parameter: {asked.path}")

    # ------------------------------------------------------------------ stream

    @property
    def streaming(self) -> bool:
        """Whether more is to be sent."""
        return self._state in ("ready", "acquire") or bool(self._outbox)

    def greet(self) -> bytes:
        return self._outbox.greet(self.lived)

    def stream(self) -> list[bytes]:
        """Everything whose time to be sent has come."""
        return self._outbox.take(self.lived)

    # ------------------------------------------------------------------ time

    def advance(self, dt: float) -> None:
        self.lived += dt
        if self._next < self._until:
            done = int((self.lived - self._begun - self._exposure) / self._period) + 1
            last = min(max(done, self._next), self._until)
            if last > self._next:
                self._expose(np.arange(self._next, last))
                self._next = last
        if self._state == "acquire" and self._next >= self._until:
            if self._made >= self._all:
                self._end()
            else:
                self._state = "ready"

    # ------------------------------------------------------------------ private

    def _value(self, name: str) -> Any:
        return self._table.detector[name].value

    def _get(self, module: str, name: str) -> bytes:
        entries: dict[str, Entry] = getattr(self._table, module)
        if name in ("", "keys"):
            return rest.response(200, sorted(entries))
        return rest.response(200, entries[name].shown())

    def _put(self, module: str, name: str, body: bytes) -> bytes:
        # libertem-live enables the stream of a detector that is armed.
        if self._state in ("ready", "acquire") and module == "detector":
            return rest.response(400, "the detector is armed; disarm it first")
        try:
            given = json.loads(body)
            wanted = {name: given} if name else given
            changed: list[str] = []
            for key, each in wanted.items():
                changed += self._table.set(module, key, each["value"])
        except (ValueError, TypeError) as error:
            return rest.response(400, f"{name or 'config'}: {error}")
        return rest.response(200, sorted(set(changed)))

    def _status(self, module: str, name: str) -> bytes:
        known: dict[str, dict[str, Any]] = {
            "detector": {
                "state": self._state, "error": [], "time": self._date(),
                "temperature": 24.0 + self._rng.normal(0, 0.05),
                "humidity": 3.1, "high_voltage/state": "READY", "board_000/th0_temp": 24.0,
                "board_000/th0_humidity": 3.1, "builder/dcu_buffer_free": 100.0,
            },
            "stream": {"state": "ready" if self._state != "acquire" else "acquire", "dropped": 0, "error": []},
            "filewriter": {"state": "ready", "error": [], "files": [], "buffer_free": 1.0e6},
            "monitor": {"state": "normal", "error": []},
            "system": {},
        }  # fmt: skip
        found = known[module]
        if name in ("", "keys"):
            return rest.response(200, sorted(found))
        value = found[name]
        kind = {str: "string", int: "uint", float: "float", list: "string[]"}[type(value)]
        return rest.response(200, {"value": value, "value_type": kind, "access_mode": "r", "time": self._date()})

    def _command(self, module: str, name: str, body: bytes) -> bytes:
        if module == "stream" and name == "initialize":
            self._outbox.clear()
            self._table.stream["mode"].value = "disabled"
            return rest.response(200)
        if module == "monitor":
            self._monitored.clear()
        if module != "detector":
            return rest.response(200) if name in ("clear", "initialize", "restart") else rest.response(404, name)
        number = {"sequence id": self._series}
        match name:
            case "initialize":
                self._abort()
                self._table, self._state = self._make(), "idle"
                return rest.response(200)
            case "arm":
                if self._state != "idle":
                    return rest.response(400, f"the detector is {self._state}, not idle")
                self._arm()
                return rest.response(200, {"sequence id": self._series})
            case "trigger":
                return self._trigger(body)
            case "disarm" | "cancel" | "abort":
                self._abort()
                return rest.response(200, number)
            case "status_update" | "check_connection" | "hv_reset":
                return rest.response(200)
        return rest.response(404, f"no such command: {name}")

    def _images(self, name: str) -> bytes:
        """``next`` takes the oldest away, ``monitor`` shows the latest (fastcs-eiger, ADEiger restApi.cpp)."""
        kept = self._monitored
        if name == "":
            series = sorted({each[0] for each in kept})
            return rest.response(200, [[s, [number for each, number, _ in kept if each == s]] for s in series])
        if name in ("next", "monitor"):
            if not kept:
                return rest.response(408, "no image")
            return rest.image(kept.popleft()[2] if name == "next" else kept[-1][2])
        wanted = tuple(int(part) for part in name.split("/") if part.isdigit())
        found = [picture for series, number, picture in kept if (series, number) == wanted]
        return rest.image(found[0]) if found else rest.response(404, f"no image {name}")

    def _monitor(self, number: int) -> None:
        """Keep the image `number` for whoever monitors."""
        if self._table.monitor["mode"].value != "enabled":
            return
        if self._scene is None:
            self._scene = Scene(self.world, self.size, self._rng)
        counts = self._scene.images(1, self._exposure / self._usual).reshape(self.size, self.size)
        self._monitored.append((self._series, number, tiff.encode(counts.astype(self._type))))
        while len(self._monitored) > self._table.monitor["buffer_size"].value:
            self._monitored.popleft()

    def _arm(self) -> None:
        self._series += 1
        self._table.detector["data_collection_date"].value = self._date()
        self._state, self._made, self._next, self._until = "ready", 0, 0, 0
        self._all = self._value("nimages") * self._value("ntrigger")
        self._zero = self.lived
        stream = self._table.stream
        make = WriterV2 if stream["format"].value == "cbor" else WriterV1
        self._writer = None
        if stream["mode"].value == "enabled":
            self._writer = make(self._value("compression"), stream["header_detail"].value)
            about = {name: entry.value for name, entry in self._table.detector.items()}
            for message in self._writer.begin(self._series, about):
                self._send(self.released(), message)
        if self._value("trigger_mode").startswith("ext"):  # the signal comes by itself
            self._begin(self._all if self._value("trigger_mode") == "exte" else self._value("nimages"))

    def _trigger(self, body: bytes) -> bytes:
        mode = self._value("trigger_mode")
        if self._state != "ready" or mode.startswith("ext"):
            return rest.response(400, f"the detector is {self._state} in mode {mode}: no trigger expected")
        if mode == "inte":
            try:
                given = json.loads(body)["value"] if body.strip() else None
                count = self._table.detector["count_time"].convert(given) if given is not None else None
            except (ValueError, TypeError, KeyError) as error:
                return rest.response(400, f"trigger: {error}")
            self._begin(1, count)
        else:
            self._begin(self._value("nimages"))
        # It answers when the last image has been taken [AD eigerDetector.cpp: its timeout is the series' length].
        self.reply_delay = 0.004 + SET_OFF + self._period * self._until
        return rest.response(200)

    def _begin(self, images: int, count_time: float | None = None) -> None:
        self._state = "acquire"
        pace = 1 + self.ppm * 1e-6
        self._begun = self.lived + SET_OFF + self._value("trigger_start_delay")
        self._exposure = (count_time or self._value("count_time")) / pace
        self._period = max(self._value("frame_time") / pace, self._exposure)
        self._next, self._until = 0, min(images, self._all - self._made)

    def _expose(self, k: NDArray[np.int64]) -> None:
        """Make images k of this trigger; queue those that are sent."""
        start = self._begun + k * self._period
        stop = start + self._exposure
        number = self._made + np.arange(len(k))
        self._made += len(k)
        self._monitor(self._made - 1)
        sent = self.exposed(self._series - 1, number, start, stop)
        if self._outbox.full or self._writer is None:
            sent[:] = False
        number, start, stop = number[sent], start[sent], stop[sent]
        if not number.size:
            return
        if self._scene is None:
            self._scene = Scene(self.world, self.size, self._rng)
        counts = self._scene.images(number.size, self._exposure / self._usual)
        images = counts.reshape(-1, self.size, self.size).astype(self._type)
        pace = 1e9 * (1 + self.ppm * 1e-6)
        ticks = [np.rint((t - self._zero) * pace).astype(np.int64).tolist() for t in (start, stop)]
        assert self._writer is not None
        for n, begin, end, due, image in zip(number.tolist(), *ticks, self.due(stop).tolist(), images, strict=True):
            self._send(due, self._writer.image(self._series, n, begin, end, image))

    def _abort(self) -> None:
        if self._state in ("ready", "acquire"):
            self._end()

    def _end(self) -> None:
        self._state, self._until = "idle", self._next
        if self._writer is not None:
            self._send(self.released(), self._writer.end(self._series))
            self._writer = None

    def _send(self, due: float, parts: list[bytes]) -> None:
        self._outbox.put(due, zmtp.message(parts))

    def _date(self) -> str:
        now = SWITCHED_ON + timedelta(seconds=self.lived + self.offset)
        return now.isoformat(timespec="microseconds").replace("+00:00", "Z")
