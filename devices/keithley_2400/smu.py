"""The source-measure unit of an emulated 2400: load line, readings, sweeps, buffer, and what it refuses to be set to.

Simplified: the source settles at once.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from devices.physics import World
from hal.protocols.scpi import Blocks
from hal.protocols.scpi_parameters import ScpiError

from . import codec

LINE_FREQUENCY = 50.0  # Hz
VOLTAGE_NOISE = (2e-5, 1e-5)  # V, of the value: one sigma of a reading at 1 PLC, as the driver declares it
CURRENT_NOISE = (1e-9, 3e-5)  # A, of the value
NAMES = {"VOLT": "VOLTage", "CURR": "CURRent", "RES": "RESistance"}
TEXTS = {
    -222: "Parameter data out of range", 803: "Not permitted with OUTPUT off", 800: "Illegal with storage active",
    822: "Too small for sense range", 824: "Cannot exceed compliance range", 826: "Attempt to exceed power limit",
}  # fmt: skip
"""As the instrument words them (appendix B)."""
BUFFER_FULL, BUFFER_AVAILABLE, READING_AVAILABLE, IN_COMPLIANCE = 1 << 9, 1 << 8, 1 << 6, 1 << 14
"""Bits of the measurement event register (15-14)."""
SWEEPING, IDLE = 1 << 3, 1 << 10
"""Bits of the operation event register (15-12)."""
RANGES = {
    "VOLT": (0.21, 2.1, 21.0, 210.0),
    "CURR": (1.05e-6, 1.05e-5, 1.05e-4, 1.05e-3, 1.05e-2, 0.105, 1.05),
}
"""105 % of each range, the most that it takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reading."""

    values: dict[str, float]


class Smu:
    """Base of the emulator: everything but the table of headers, which fills `_values`."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self._random = random.Random(seed)
        self._now = self._zero = self._busy = 0.0
        self._values: dict[str, Any] = {}
        self._list: dict[str, list[float]] = {"VOLT": [], "CURR": []}
        self._latest: list[Row] = []
        self._trace: list[Row] = []
        self._pending: deque[float | None] = deque()
        self._endless = False
        self._next = 0.0
        self._events = 0
        self._operation = IDLE
        self._blocks = Blocks()

    def pass_time(self, dt: float) -> None:
        """What is measured meanwhile, and what the specimen feels."""
        self._now += dt
        self._busy = max(0.0, self._busy - dt)
        while self._pending and self._now >= self._next:
            level = self._pending.popleft()
            if self._endless:
                self._pending.append(level)
            self._store(self._cycle(level))
            self._next += self._period()
            self._operation |= 0 if self._pending else IDLE
        self._drive()

    # ------------------------------------------------------------------ physics

    def _drive(self) -> None:
        self.world.voltage = self._operating_point()[0]

    def _operating_point(self) -> tuple[float, float, bool]:
        """Voltage, current, and whether the compliance holds the source back (6-3)."""
        v, resistance = self._values, self.world.resistance
        if not v["outp"]:
            return 0.0, 0.0, False  # the NORMal output-off state: a source of 0 V (18-57)
        level, limit = v[f"level {v['func']}"], abs(v["limit CURR" if v["func"] == "VOLT" else "limit VOLT"])
        if v["func"] == "VOLT":
            limited = abs(level / resistance) > limit
            voltage = (limit if level > 0 else -limit) * resistance if limited else level
        else:
            limited = abs(level * resistance) > limit
            voltage = (limit if level > 0 else -limit) if limited else level * resistance
        return voltage, voltage / resistance, limited

    def _period(self) -> float:
        """How long one source-delay-measure cycle takes, s: each function measured, zero and reference too."""
        v = self._values
        cycles = sum(v[f"nplc {f}"] for f in v["sense"]) * (3 if v["autozero"] else 1)
        filtered = v["filter count"] if v["filter"] and v["filter type"] == "REP" else 1
        delay = 0.001 if v["delay auto"] else v["delay"]
        return float(cycles * filtered / LINE_FREQUENCY + delay + v["trigger delay"])

    def _cycle(self, level: float | None) -> Row:
        """Source, delay, measure."""
        v = self._values
        if level is not None:
            v[f"level {v['func']}"] = level
        was_on, v["outp"] = v["outp"], True
        voltage, current, limited = self._operating_point()
        if not was_on:
            v["outp"] = False
        truth = {"VOLT": (voltage, VOLTAGE_NOISE), "CURR": (current, CURRENT_NOISE)}
        found = {f: self._noisy(value, *noise) for f, (value, noise) in truth.items()}
        values = dict.fromkeys(codec.ELEMENTS, codec.NAN)
        status = codec.FRONT if v["terminals"] == "FRON" else 0
        for f, bit in (("VOLT", codec.VOLTS_MEASURED), ("CURR", codec.AMPERES_MEASURED)):
            if f in v["sense"] or "RES" in v["sense"]:
                over = not v[f"autorange {f}"] and abs(found[f]) > 1.055 * v[f"range {f}"]
                values[f] = codec.OVERFLOW if over else found[f]
                status |= (bit if f in v["sense"] else 0) | (codec.OVER_RANGE if over else 0)
            elif v["func"] == f:
                values[f] = v[f"level {f}"]  # what is sourced, as programmed (18-50)
        if "RES" in v["sense"]:
            values["RES"] = found["VOLT"] / found["CURR"] if found["CURR"] else codec.OVERFLOW
            status |= codec.OHMS_MEASURED
        status |= codec.VOLTS_SOURCED if v["func"] == "VOLT" else codec.AMPERES_SOURCED
        status |= (codec.COMPLIANCE if limited else 0) | (codec.FOUR_WIRE if v["four-wire"] else 0)
        self._events |= READING_AVAILABLE | (IN_COMPLIANCE if limited else 0)
        row = Row(values | {"TIME": (self._now + self._busy - self._zero) % 99999.999, "STAT": float(status)})
        self._latest.append(row)
        return row

    def _noisy(self, value: float, absolute: float, relative: float) -> float:
        return self._random.gauss(value, (absolute**2 + (relative * value) ** 2) ** 0.5)

    # ------------------------------------------------------------------ trigger model and buffer

    def _levels(self) -> list[float | None]:
        """What each cycle sources: None for what is set already."""
        v = self._values
        self._endless = v["arm count"] == math.inf
        count = round(v["trigger count"] * (1 if self._endless else v["arm count"]))
        if count > 2500:
            raise ScpiError(-222)
        f = v["func"]
        if v[f"mode {f}"] == "FIX":
            return [None] * count
        points = self._list[f] if v[f"mode {f}"] == "LIST" else self._sweep(f)
        return [points[i % len(points)] for i in range(count)] if points else [None] * count

    def _sweep(self, f: str) -> list[float]:
        v = self._values
        start, stop, number = v[f"start {f}"], v[f"stop {f}"], max(2, round(v["points"]))
        if v["spacing"] == "LOG" and start * stop > 0:
            points = [start * (stop / start) ** (i / (number - 1)) for i in range(number)]
        else:
            points = [start + (stop - start) * i / (number - 1) for i in range(number)]
        return points[::-1] if v["direction"] == "DOWN" else points

    def _set_step(self, f: str, step: float) -> None:
        v = self._values
        v[f"step {f}"] = step
        if step:
            v["points"] = round(abs((v[f"stop {f}"] - v[f"start {f}"]) / step)) + 1

    def _middle(self, f: str) -> tuple[Callable[[float], None], Callable[[], str]]:
        """Centre of a sweep, which its start and stop follow (18-78)."""
        v = self._values

        def write(centre: float) -> None:
            half = (v[f"stop {f}"] - v[f"start {f}"]) / 2
            v.update({f"start {f}": centre - half, f"stop {f}": centre + half})

        return write, lambda: f"{(v[f'stop {f}'] + v[f'start {f}']) / 2:.6E}"

    def _span(self, f: str) -> tuple[Callable[[float], None], Callable[[], str]]:
        v = self._values

        def write(span: float) -> None:
            centre = (v[f"stop {f}"] + v[f"start {f}"]) / 2
            v.update({f"start {f}": centre - span / 2, f"stop {f}": centre + span / 2})

        return write, lambda: f"{v[f'stop {f}'] - v[f'start {f}']:.6E}"

    def _start(self) -> list[float | None]:
        if not self._values["outp"] and not self._values["auto off"]:
            raise ScpiError(codec.NOT_PERMITTED_OFF, TEXTS[803])
        self._latest = []
        return self._levels()

    def _read(self) -> str:
        self._pending.clear()
        levels = self._start()
        if self._endless:
            raise ScpiError(-221)  # it would never answer; what a real one does: unverified
        for level in levels:
            self._busy += self._period()
            self._store(self._cycle(level))
        return self._fetch()

    def _fetch(self) -> str:
        if not self._latest:
            raise ScpiError(-230)
        return self._shown(self._latest)

    def _shown(self, rows: Sequence[Row]) -> str:
        """Readings as :FORM:DATA has them (18-48); binary ones are of single precision."""
        elements = self._values["elements"]
        if self._values["format"] == "ASC":
            return ",".join(codec.format_reading(elements, row.values) for row in rows)
        numbers = [row.values[name] for row in rows for name in codec.ELEMENTS if name in elements]
        return self._blocks.floats(numbers, big=self._values["byte order"] == "NORM")

    def _reading(self) -> dict[str, float]:
        """The last one. Raises `ScpiError`."""
        if not self._latest:
            raise ScpiError(-230)
        return self._latest[-1].values

    def _was_limited(self) -> bool:
        return bool(int(self._reading()["STAT"]) & codec.COMPLIANCE)

    def _configure(self, name: str = "") -> None:
        """A one-shot measurement of one function; the output turns on (17-2)."""
        v = self._values
        if name:
            v["sense"] = [name]
        v |= {"arm count": 1.0, "trigger count": 1.0, "trigger delay": 0.0, "arm source": "IMM"}
        v |= {"trigger source": "IMM", "filter": False, "outp": True}

    def _measure(self, name: str = "") -> str:
        self._configure(name)
        reply = self._read()
        if self._values["auto off"]:
            self._values["outp"] = False
        return reply

    def _initiate(self) -> None:
        if self._pending:
            raise ScpiError(-213, "Init ignored")
        self._pending = deque(self._start())
        self._next = self._now + self._period()
        self._operation |= SWEEPING if self._values[f"mode {self._values['func']}"] != "FIX" else 0

    def _abort(self) -> None:
        self._pending.clear()
        self._busy = 0.0

    def _store(self, row: Row) -> None:
        v = self._values
        if v["feed control"] != "NEXT":
            return
        self._trace.append(row)
        self._events |= BUFFER_AVAILABLE if len(self._trace) >= 2 else 0
        if len(self._trace) >= v["trace points"]:
            v["feed control"] = "NEV"
            self._events |= BUFFER_FULL

    def _statistics(self) -> str:
        if not self._trace:
            raise ScpiError(-230)
        kinds = [k for k in ("VOLT", "CURR", "RES") if k in self._values["elements"]]
        columns = [[row.values[k] for row in self._trace] for k in kinds]
        return ",".join(f"{_statistic(self._values['statistics'], column):+.6E}" for column in columns)

    # ------------------------------------------------------------------ what is refused

    def _set_level(self, f: str, value: float) -> None:
        v = self._values
        if not v[f"source autorange {f}"] and abs(value) > 1.05 * v[f"source range {f}"]:
            raise ScpiError(-222, TEXTS[-222])
        if v["func"] == f:
            self._power(abs(value), abs(v["limit CURR" if f == "VOLT" else "limit VOLT"]))
        v[f"level {f}"] = value

    def _set_limit(self, f: str, value: float) -> None:
        v = self._values
        if not v[f"autorange {f}"] and abs(value) < 1e-3 * v[f"range {f}"]:
            raise ScpiError(822, TEXTS[822])
        if v["func"] != f:
            self._power(abs(v[f"level {v['func']}"]), abs(value))
        v[f"limit {f}"] = abs(value)

    def _power(self, sourced: float, limit: float) -> None:
        volts, amperes = (sourced, limit) if self._values["func"] == "VOLT" else (limit, sourced)
        if volts > codec.LOW_VOLTAGE and amperes > codec.LOW_CURRENT:
            raise ScpiError(826, TEXTS[826])

    def _set_range(self, f: str, value: float) -> None:
        v = self._values
        if f == "RES":
            v["range RES"] = value
        else:
            top = min(self._range_of(f, abs(value)))
            if v["func"] != f and top > min(self._range_of(f, v[f"limit {f}"])) * 1.0001:
                raise ScpiError(824, TEXTS[824])
            v[f"range {f}"] = top / 1.05
        v[f"autorange {f}"] = False

    def _range_of(self, f: str, value: float) -> list[float]:
        return [top for top in RANGES[f] if value <= top * 1.0001] or [RANGES[f][-1]]

    def _set_function(self, name: str) -> None:
        if name != self._values["func"]:
            self._values["outp"] = False  # unverified
        self._values["func"] = name

    def _sense(self, *names: str) -> None:
        chosen = [name.partition(":")[0] for name in names]
        v = self._values
        v["sense"] = [f for f in NAMES if f in chosen or (v["concurrent"] and f in v["sense"])]
        if not v["concurrent"]:
            v["sense"] = chosen[-1:]

    def _sensed(self, on: bool = True) -> str:
        show = {"VOLT": '"VOLT:DC"', "CURR": '"CURR:DC"', "RES": '"RES"'}
        return ",".join(show[f] for f in NAMES if (f in self._values["sense"]) == on)


def _statistic(name: str, values: list[float]) -> float:
    match name:
        case "MEAN":
            return fmean(values)
        case "SDEV":
            return pstdev(values)
        case "MAX":
            return max(values)
        case "MIN":
            return min(values)
        case _:
            return max(values) - min(values)
