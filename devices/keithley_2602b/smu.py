"""One channel of the emulated 2602B: what it is set to, its load line, its readings, its sweeps.

Source: 2600BS-901-01, ``smuX.*`` by name; pages where one was seen; the numbers of
constants as keithley2600 and the qkit driver of the 2636A use them. Simplified: the source settles at
once, a limit acts at once, contact check, relative offsets' and filters' effect on noise are left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hal.protocols.lua_values import Table, silent, tonumber
from hal.protocols.tsp import Bounds, Tsp, TspError

from . import codec
from .buffers import DEDICATED, Buffer, Row
from .triggers import Background, Detector, Events, Steps, Timeline

LINE_FREQUENCY = 50.0  # Hz
OVERHEAD = 0.4e-3
"""Seconds around each measurement, unverified."""
VOLTAGE_NOISE = (2e-5, 1e-5)  # V, of the value: one sigma of a reading at 1 PLC, unverified
CURRENT_NOISE = (1e-10, 3e-5)  # A, of the value
CURRENT, VOLTAGE = 0, 1
"""Values of ``source.func``."""
LETTER = {"v": VOLTAGE, "i": CURRENT}
MOST_POINTS = 100_000

CONSTANTS = {
    "OUTPUT_DCAMPS": 0, "OUTPUT_DCVOLTS": 1, "OUTPUT_OFF": 0, "OUTPUT_ON": 1, "OUTPUT_HIGH_Z": 2, "OUTPUT_NORMAL": 0,
    "OUTPUT_ZERO": 1, "SENSE_LOCAL": 0, "SENSE_REMOTE": 1, "SENSE_CALA": 3, "AUTORANGE_OFF": 0, "AUTORANGE_ON": 1,
    "AUTORANGE_FOLLOW_LIMIT": 2, "AUTOZERO_OFF": 0, "AUTOZERO_ONCE": 1, "AUTOZERO_AUTO": 2, "DELAY_OFF": 0,
    "DELAY_AUTO": -1, "DISABLE": 0, "ENABLE": 1, "ASYNC": 2, "FILTER_OFF": 0, "FILTER_ON": 1, "FILTER_MOVING_AVG": 0,
    "FILTER_REPEAT_AVG": 1, "FILTER_MEDIAN": 2, "REL_OFF": 0, "REL_ON": 1, "SOURCE_IDLE": 0, "SOURCE_HOLD": 1,
    "LIMIT_AUTO": 0, "OE_NONE": 0, "OE_OUTPUT_OFF": 1, "FILL_ONCE": 0, "FILL_WINDOW": 1, "SETTLE_SMOOTH": 0,
    "SETTLE_FAST_RANGE": 1, "SETTLE_FAST_POLARITY": 2, "SETTLE_DIRECT_IRANGE": 3, "SETTLE_SMOOTH_100NA": 4,
    "SETTLE_FAST_ALL": 128, "CONTACT_FAST": 0, "CONTACT_MEDIUM": 1, "CONTACT_SLOW": 2,
}  # fmt: skip

_SWITCH = Bounds(allowed=(0.0, 1.0))
_EVENT = Bounds(0, 1000)
SETTINGS: dict[str, tuple[float, Bounds]] = {
    "sense": (0, Bounds(allowed=(0, 1, 3))),
    "source.func": (VOLTAGE, _SWITCH), "source.levelv": (0, Bounds(-codec.VOLTAGE, codec.VOLTAGE)),
    "source.leveli": (0, Bounds(-codec.CURRENT, codec.CURRENT)),
    "source.limitv": (40, Bounds(*codec.VOLTAGE_LIMIT)), "source.limiti": (1, Bounds(*codec.CURRENT_LIMIT)),
    "source.limitp": (0, Bounds(0, 1000)), "source.rangev": (0.1, Bounds(-40.4, 40.4)),
    "source.rangei": (100e-9, Bounds(-3.03, 3.03)), "source.autorangev": (1, _SWITCH),
    "source.autorangei": (1, _SWITCH),
    "source.lowrangev": (0.1, Bounds(0, 40)), "source.lowrangei": (100e-9, Bounds(0, 3)),
    "source.output": (0, Bounds(allowed=(0, 1, 2))), "source.delay": (0, Bounds(-1, 1e5)),
    "source.offfunc": (VOLTAGE, _SWITCH), "source.offlimitv": (40, Bounds(*codec.VOLTAGE_LIMIT)),
    "source.offlimiti": (1e-3, Bounds(*codec.CURRENT_LIMIT)), "source.offmode": (0, Bounds(allowed=(0, 1, 2))),
    "source.outputenableaction": (0, _SWITCH), "source.highc": (0, _SWITCH), "source.sink": (0, _SWITCH),
    "source.settling": (0, Bounds(allowed=(0, 1, 2, 3, 4, 128))),
    "measure.nplc": (1, Bounds(*codec.NPLC)), "measure.count": (1, Bounds(1, MOST_POINTS)),
    "measure.interval": (0, Bounds(0, 1.0)), "measure.delay": (-1, Bounds(-1, 1e5)),
    "measure.delayfactor": (1, Bounds(0, 1e3)), "measure.highcrangedelayfactor": (10, Bounds(1, 99)),
    "measure.analogfilter": (1, _SWITCH), "measure.autozero": (2, Bounds(allowed=(0, 1, 2))),
    "measure.rangev": (0.1, Bounds(-40.4, 40.4)), "measure.rangei": (100e-9, Bounds(-3.03, 3.03)),
    "measure.autorangev": (1, Bounds(allowed=(0, 1, 2))), "measure.autorangei": (1, Bounds(allowed=(0, 1, 2))),
    "measure.lowrangev": (0.1, Bounds(0, 40)), "measure.lowrangei": (100e-9, Bounds(0, 3)),
    "measure.filter.count": (1, Bounds(1, 100)), "measure.filter.enable": (0, _SWITCH),
    "measure.filter.type": (1, Bounds(allowed=(0, 1, 2))),
    **{f"measure.rel.enable{q}": (0, _SWITCH) for q in "virp"},
    **{f"measure.rel.level{q}": (0, Bounds()) for q in "virp"},
    "contact.speed": (0, Bounds(allowed=(0, 1, 2))), "contact.threshold": (50, Bounds(0, 1000)),
    "trigger.count": (1, Bounds(0, 65535)), "trigger.autoclear": (0, _SWITCH),
    "trigger.arm.count": (1, Bounds(0, 65535)),
    "trigger.source.action": (0, _SWITCH), "trigger.measure.action": (0, Bounds(allowed=(0, 1, 2))),
    "trigger.endpulse.action": (0, _SWITCH), "trigger.endsweep.action": (0, _SWITCH),
    "trigger.source.limitv": (0, Bounds(0, 40)), "trigger.source.limiti": (0, Bounds(0, 10)),
}  # fmt: skip
"""Attributes with the value they wake up with and what they take (Rev. F for limits)."""

STAGES = ("arm", "source", "measure", "endpulse")
EVENTS = ("SWEEPING", "ARMED", "SOURCE_COMPLETE", "MEASURE_COMPLETE", "PULSE_COMPLETE", "SWEEP_COMPLETE", "IDLE")
RELEVANT = (
    "source.func", "source.output", "source.levelv", "source.leveli", "source.limitv", "source.limiti", "source.limitp",
)  # fmt: skip
"""What the specimen feels."""


@dataclass(frozen=True, slots=True)
class Felt:
    """What the specimen feels of a channel."""

    values: tuple[float, ...]
    """As of `RELEVANT`."""
    swept: float | None

    def operating_point(self, resistance: float) -> tuple[float, float, bool]:
        """Voltage, current, and whether a limit holds the source back (Rev. B, p. 4-12)."""
        function, output, levelv, leveli, limitv, limiti, power = self.values
        if output != 1:
            return 0.0, 0.0, False  # the normal output-off state: a source of 0 V (``source.offmode``)
        level = self.swept if self.swept is not None else levelv if function == VOLTAGE else leveli
        limit = limiti if function == VOLTAGE else limitv
        if power and level:
            limit = min(limit, power / abs(level))
        if function == VOLTAGE:
            limited = abs(level / resistance) > limit
            voltage = math.copysign(limit, level) * resistance if limited else level
        else:
            limited = abs(level * resistance) > limit
            voltage = math.copysign(limit, level) if limited else level * resistance
        return voltage, voltage / resistance, limited


class Smu:
    """A channel; `table` is what scripts see of it."""

    def __init__(
        self,
        tsp: Tsp,
        letter: str,
        timeline: Timeline,
        events: Events,
        *,
        load: Callable[[], float],
        changed: Callable[[], None],
        chance: random.Random,
        epoch: float,
    ) -> None:
        """`load`: ohm at its contacts. `changed` is called whenever the source was set."""
        self.letter, self._tsp, self._timeline, self._events = letter, tsp, timeline, events
        self._load, self._changed, self._random, self._epoch = load, changed, chance, epoch
        self.values: dict[str, float] = {}
        self.swept: float | None = None
        """The level a sweep put out, if one did."""
        self.events = {name: events.new() for name in EVENTS}
        self.detectors = {name: Detector(events) for name in STAGES}
        self.background = Background(timeline, events)  # hears of an event after its detectors
        self.buffers = [Buffer(tsp, DEDICATED, epoch) for _ in range(2)]
        self._made: list[Buffer] = []
        self._points: list[float] = []
        self._sweeps = VOLTAGE
        self._wanted: list[tuple[str, Buffer]] = []
        self.reset()
        self.table = self._table("smu", "")

    # ------------------------------------------------------------------ state

    def reset(self) -> None:
        """Output off, everything as on waking up (``smuX.reset()``)."""
        self.values = {name: float(value) for name, (value, _) in SETTINGS.items()}
        self.background.abort()
        self.swept = None
        for detector in self.detectors.values():
            detector.stimulus = 0
        self._points, self._wanted = [], []
        self._changed()

    def abort(self) -> None:
        """End a sweep or measurements in the background; the source goes to its level (``smuX.abort()``)."""
        self.background.abort()
        self.swept = None
        self._changed()

    @property
    def felt(self) -> Felt:
        """What the specimen feels, to come back to."""
        return Felt(tuple(self.values[name] for name in RELEVANT), self.swept)

    def restore(self, felt: Felt) -> None:
        """Come back to a state."""
        self.values.update(zip(RELEVANT, felt.values, strict=True))
        self.swept = felt.swept

    def forget_after(self, time: float) -> None:
        """Forget readings that were not taken yet at that time."""
        for buffer in (*self.buffers, *self._made):
            buffer.rows = [row for row in buffer.rows if row.time <= time]

    @property
    def output(self) -> bool:
        return self.values["source.output"] == 1

    @property
    def function(self) -> int:
        return int(self.values["source.func"])

    @property
    def level(self) -> float:
        """What is sourced: V or A."""
        idle = self.values["source.levelv" if self.function == VOLTAGE else "source.leveli"]
        return idle if self.swept is None else self.swept

    def operating_point(self) -> tuple[float, float, bool]:
        """Voltage, current, and whether a limit holds the source back."""
        return self.felt.operating_point(self._load())

    # ------------------------------------------------------------------ attributes

    def get(self, name: str) -> float:
        """An attribute; ranges follow the level while autoranging (Rev. C, p. 7-247)."""
        stem, letter = name[:-1], name[-1:]
        if name == "source.output":
            return float(self.output)
        if stem in ("source.range", "measure.range") and self.values[f"{stem.replace('range', 'autorange')}{letter}"]:
            if stem == "source.range":
                value = self.values[f"source.level{letter}"]
            else:
                voltage, current, _ = self.operating_point()
                value = voltage if letter == "v" else current
            least = self.values[f"{stem.replace('range', 'lowrange')}{letter}"]
            return _range(letter, max(abs(value) / codec.OVERRANGE, least))
        return self.values[name]

    def put(self, name: str, value: Any) -> None:
        """Set an attribute. Raises `TspError`."""
        number = SETTINGS[name][1].checked(float(value) if isinstance(value, bool) else value)
        stem, letter = name[:-1], name[-1:]
        if stem in ("source.range", "measure.range"):
            chosen = _range(letter, abs(number) / codec.OVERRANGE)
            if stem == "source.range":
                self._fits(letter, self.values[f"source.level{letter}"], chosen)
            self.values[f"{stem.replace('range', 'autorange')}{letter}"] = 0.0
            self.values[name] = chosen
            return
        if name == "measure.filter.count" and number > 1 and self.values["measure.count"] > 1:
            raise self._error(5025, "Cannot set filter.count > 1 when measure.count > 1")
        if stem.endswith(".autorange") and number == 0:
            at = f"{stem.replace('auto', '')}{letter}"
            self.values[at] = self.get(at)
        if stem == "source.level" and not self.values[f"source.autorange{letter}"]:
            self._fits(letter, number, self.values[f"source.range{letter}"])
        if name in RELEVANT:
            self._safe({**self.values, name: number})
        self.values[name] = number
        if name in RELEVANT:
            if "limit" not in name:
                self.swept = None
            self._changed()

    def _fits(self, letter: str, level: float, chosen: float) -> None:
        if abs(level) > chosen * codec.OVERRANGE * (1 + 1e-9):
            raise self._error(5005, "Value too big for range")

    def _safe(self, v: dict[str, float]) -> None:
        """The operating boundaries of Rev. B, p. 4-12."""
        voltage = v["source.func"] == VOLTAGE
        volts = abs(v["source.levelv"]) if voltage else v["source.limitv"]
        amperes = v["source.limiti"] if voltage else abs(v["source.leveli"])
        if volts > codec.LOW_VOLTAGE and amperes > codec.LOW_CURRENT:
            raise self._error(5007, "Operation would exceed safe operating area of the instrument")

    def _error(self, code: int, text: str) -> TspError:
        return TspError(code, f"SMU {self.letter.upper()}: {text}")

    def _table(self, kind: str, prefix: str) -> Table:
        """The table of attributes below `prefix`, with the tables below that."""
        below: dict[str, None] = {}
        getters: dict[str, Callable[[], Any]] = {}
        setters: dict[str, Callable[[Any], None]] = {}
        for name in SETTINGS:
            if name.startswith(prefix):
                head, dot, _ = name[len(prefix) :].partition(".")
                if dot:
                    below[head] = None
                else:
                    getters[head] = lambda name=name: self.get(name)  # type: ignore[misc]
                    setters[head] = lambda value, name=name: self.put(name, value)  # type: ignore[misc]
        objects: dict[str, Any] = {head: self._table(f"smu_{head}", f"{prefix}{head}.") for head in below}
        extra_getters, extra_setters, extra_objects = self._extras(prefix)
        return self._tsp.attributes(
            kind, getters=getters | extra_getters, setters=setters | extra_setters, objects=objects | extra_objects
        )

    def _extras(self, prefix: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What is there beyond numbers that are kept."""
        match prefix:
            case "":
                steps: dict[str, Any] = {
                    f"measure{q}andstep": lambda level=None, *_, q=q: self._and_step(q, level)
                    for q in ("v", "i", "r", "p", "iv")
                }  # fmt: skip
                return {}, {}, CONSTANTS | steps | {
                    "reset": silent(lambda *_: self.reset()), "abort": silent(lambda *_: self.abort()),
                    "nvbuffer1": self.buffers[0].table, "nvbuffer2": self.buffers[1].table,
                    "makebuffer": self._make_buffer, "savebuffer": silent(lambda *_: None),
                    "buffer": self._tsp.attributes("smu_buffer", objects={
                        "getstats": self._stats, "recalculatestats": silent(lambda *_: None),
                    }),
                }  # fmt: skip
            case "source.":
                return {"compliance": lambda: self.operating_point()[2]}, {}, {}
            case "measure.":
                now = {q: lambda *buffers, q=q: self._measure_now(q, buffers) for q in ("v", "i", "r", "p", "iv")}
                later = {f"overlapped{q}": silent(lambda *buffers, q=q: self._measure_later(q, buffers)) for q in now}
                return {}, {}, now | later
            case "contact.":
                return {}, {}, {"check": lambda *_: True, "r": lambda *_: (1.0, 1.0)}
            case "trigger.":
                return {}, {}, {f"{name}_EVENT_ID": n for name, n in self.events.items()} | {
                    "initiate": silent(lambda *_: self._initiate())
                }  # fmt: skip
            case "trigger.measure.":
                wanted = {q: silent(lambda *b, q=q: self._want(q, b)) for q in ("v", "i", "r", "p", "iv")}
                return *self._stage("measure"), wanted | self._set("measure")
            case "trigger.source.":
                sweeps: dict[str, Any] = {}
                for letter in "vi":
                    for form in ("linear", "list", "log"):
                        sweeps[f"{form}{letter}"] = silent(partial(self._sweep, form, letter))
                return *self._stage("source"), sweeps | self._set("source")
            case "trigger.arm." | "trigger.endpulse.":
                stage = prefix.split(".")[1]
                return *self._stage(stage), self._set(stage)
        return {}, {}, {}

    def _stage(self, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
        detector = self.detectors[stage]
        return {"stimulus": lambda: detector.stimulus}, {
            "stimulus": lambda value: setattr(detector, "stimulus", int(_EVENT.checked(value)))
        }  # fmt: skip

    def _set(self, stage: str) -> dict[str, Any]:
        detector = self.detectors[stage]

        def detect(*_: Any) -> None:
            detector.detected = True
            self._events.emit(0)

        return {"set": silent(detect)}

    # ------------------------------------------------------------------ measuring

    def reading(self, quantity: str) -> float:
        """One reading of ``v``, ``i``, ``r`` or ``p``, with noise and the limits of a fixed range."""
        voltage, current, _ = self.operating_point()
        volts, amperes = self._noisy(voltage, *VOLTAGE_NOISE), self._noisy(current, *CURRENT_NOISE)
        if self._over("v", volts):
            volts = codec.OVERFLOW
        if self._over("i", amperes):
            amperes = codec.OVERFLOW
        if codec.OVERFLOW in (volts, amperes) and quantity in "rp":
            return codec.OVERFLOW
        found = {"v": volts, "i": amperes, "r": volts / amperes if amperes else codec.OVERFLOW, "p": volts * amperes}
        offset = self.values[f"measure.rel.level{quantity}"] if self.values[f"measure.rel.enable{quantity}"] else 0.0
        return found[quantity] - offset

    def _noisy(self, value: float, absolute: float, relative: float) -> float:
        return self._random.gauss(value, math.hypot(absolute, relative * value))

    def _over(self, letter: str, value: float) -> bool:
        kind = "source" if LETTER[letter] == self.function else "measure"
        if self.values[f"{kind}.autorange{letter}"]:
            return False
        return abs(value) > 1.02 * self.values[f"{kind}.range{letter}"] + (2e-4 if letter == "v" else 1e-9)

    def _duration(self) -> float:
        v = self.values
        repeats = v["measure.filter.count"] if v["measure.filter.enable"] else 1.0
        return repeats * (v["measure.nplc"] / LINE_FREQUENCY + OVERHEAD)

    def _delay(self, name: str) -> float:
        return max(0.0, self.values[name])

    def _row(self, quantity: str) -> Row:
        _, _, limited = self.operating_point()
        source = "v" if self.function == VOLTAGE else "i"
        measured = quantity if quantity in "vi" else "i"
        v = self.values
        status = (4 if v[f"measure.autorange{measured}"] else 0) | (8 if v[f"source.autorange{source}"] else 0)
        status |= (16 if v["sense"] else 0) | (64 if limited else 0)
        names = {"v": "Voltage", "i": "Current", "r": "Resistance", "p": "Power"}
        return Row(
            self.reading(quantity), self._timeline.now, self.level, status, names[quantity],
            self.get(f"measure.range{measured}"), names[source], self.get(f"source.range{source}"), self.output,
        )  # fmt: skip

    def _measuring(self, wanted: list[tuple[str, Buffer]], times: int) -> Iterator[float]:
        """Measure into buffers; each step is a wait, s."""
        yield self._delay("measure.delay")
        for turn in range(times):
            duration = self._duration()
            yield duration
            for quantity, buffer in wanted:
                buffer.store(self._row(quantity))
            if turn < times - 1:
                yield max(0.0, self.values["measure.interval"] - duration)

    def _measure_now(self, quantities: str, tables: tuple[Any, ...]) -> Any:
        wanted = self._into(quantities, tables)
        for _, buffer in wanted:
            buffer.begin()
        for seconds in self._measuring(wanted, int(self.values["measure.count"]) if wanted else 1):
            self._tsp.machine.step()
            self._tsp.spend(seconds)
        kept = {quantity: buffer.rows[-1].reading for quantity, buffer in wanted if buffer.rows}
        found = tuple(kept[q] if q in kept else self.reading(q) for q in quantities)
        return found if len(found) > 1 else found[0]

    def _measure_later(self, quantities: str, tables: tuple[Any, ...]) -> None:
        wanted = self._into(quantities, tables)
        if len(wanted) < len(quantities):
            raise TspError(1400, f"Expected at least {len(quantities)} parameters")
        if self.background.busy:
            raise self._error(5042, "Invalid while overlapped measure")
        for _, buffer in wanted:
            buffer.begin()

        def steps() -> Steps:
            yield from self._measuring(wanted, int(self.values["measure.count"]))

        self.background.start(steps())

    def _and_step(self, quantities: str, level: Any) -> Any:
        """Measure, then set the source (``smuX.measureYandstep()``)."""
        found = self._measure_now(quantities, ())
        self.put("source.levelv" if self.function == VOLTAGE else "source.leveli", level)
        return found

    def _into(self, quantities: str, tables: tuple[Any, ...]) -> list[tuple[str, Buffer]]:
        given = [table for table in tables if table is not None]
        if not given:
            return []
        if len(given) < len(quantities):
            raise TspError(1400, f"Expected at least {len(quantities)} parameters")
        found = []
        for quantity, table in zip(quantities, given, strict=False):
            buffer = next((b for b in (*self.buffers, *self._made) if b.table is table), None)
            if buffer is None:
                raise self._error(5033, "Reading buffer not found within device")
            found.append((quantity, buffer))
        return found

    def _make_buffer(self, size: Any = None, *_: Any) -> Table:
        buffer = Buffer(self._tsp, int(Bounds(1, DEDICATED).checked(size)), self._epoch)
        self._made.append(buffer)
        del self._made[:-50]
        return buffer.table

    def _stats(self, table: Any = None, *_: Any) -> Table:
        readings = [row.reading for _, buffer in self._into("i", (table,)) for row in buffer.rows]
        if not readings:
            return Table()
        mean = math.fsum(readings) / len(readings)
        spread = math.sqrt(math.fsum((r - mean) ** 2 for r in readings) / max(1, len(readings) - 1))
        return Table({"n": float(len(readings)), "mean": mean, "stddev": spread} | {
            name: Table({"reading": choose(readings)}) for name, choose in (("min", min), ("max", max))
        })  # fmt: skip

    # ------------------------------------------------------------------ sweeps

    def _want(self, quantities: str, tables: tuple[Any, ...]) -> None:
        self._wanted = self._into(quantities, tables)

    def _sweep(self, form: str, letter: str, *given: Any) -> None:
        """Levels of a sweep (``smuX.trigger.source.*``)."""
        bounds = SETTINGS[f"source.level{letter}"][1]
        if form == "list":
            if not given or not isinstance(given[0], Table):
                raise TspError(1401, "Parameter 1 is invalid")
            levels = given[0].array()
        else:
            if len(given) < 3:
                raise TspError(1400, f"Expected at least {3 if form == 'linear' else 4} parameters")
            start, stop = bounds.checked(given[0]), bounds.checked(given[1])
            points = int(Bounds(1, MOST_POINTS).checked(given[2]))
            self._tsp.machine.step(points)
            parts = [n / max(1, points - 1) for n in range(points)]
            if form == "linear":
                levels = [start + (stop - start) * part for part in parts]
            else:
                zero = tonumber(given[3]) if len(given) > 3 else None
                asymptote = zero or 0.0
                ratio = (stop - asymptote) / (start - asymptote) if start != asymptote else -1.0
                if ratio <= 0:
                    raise TspError(1401, "Parameter 4 is invalid")
                levels = [asymptote + (start - asymptote) * ratio**part for part in parts]
        self._points = [bounds.checked(level) for level in levels]
        self._sweeps = LETTER[letter]

    def _initiate(self) -> None:
        v = self.values
        if v["trigger.source.action"] and not self._points:
            raise self._error(5059, "trigger.source.action enabled without configuration")
        if v["trigger.measure.action"] and not self._wanted:
            raise self._error(5060, "trigger.measure.action enabled without configuration")
        if v["trigger.source.action"] and self._sweeps == self.function:
            for level in self._points:
                self._safe({**v, "source.levelv" if self._sweeps == VOLTAGE else "source.leveli": level})
        for detector in self.detectors.values():
            detector.detected = False
        for _, buffer in self._wanted:
            buffer.begin()
        self.background.start(self._course())

    def _course(self) -> Steps:
        """Once through the trigger model."""
        v, emit = self.values, self._events.emit
        emit(self.events["SWEEPING"])
        point = 0
        for _ in _times(v["trigger.arm.count"]):
            yield from self._await("arm")
            emit(self.events["ARMED"])
            for _ in _times(v["trigger.count"]):
                yield from self._await("source")
                if v["trigger.source.action"] and self._points and self._sweeps == self.function:
                    self.swept = self._points[point % len(self._points)]
                    point += 1
                    self._changed()
                yield self._delay("source.delay")
                emit(self.events["SOURCE_COMPLETE"])
                yield from self._await("measure")
                if v["trigger.measure.action"]:
                    yield from self._measuring(self._wanted, int(v["measure.count"]))
                emit(self.events["MEASURE_COMPLETE"])
                yield from self._await("endpulse")
                if not v["trigger.endpulse.action"]:
                    self._idle()
                emit(self.events["PULSE_COMPLETE"])
                yield SHORTEST_TURN
            emit(self.events["SWEEP_COMPLETE"])
        if not v["trigger.endsweep.action"]:
            self._idle()
        emit(self.events["IDLE"])

    def _await(self, stage: str) -> Iterator[Detector]:
        if self.detectors[stage].stimulus:
            yield self.detectors[stage]

    def _idle(self) -> None:
        self.swept = None
        self._changed()


SHORTEST_TURN = 20e-6
"""Seconds a turn of the trigger model takes at least, unverified."""


def _times(number: float) -> Iterator[int]:
    """So many turns; 0: without end (``smuX.trigger.arm.count``)."""
    turn = 0
    while not number or turn < number:
        yield turn
        turn += 1


def _range(letter: str, value: float) -> float:
    """The smallest range that holds a value."""
    ranges = codec.VOLTAGE_RANGES if letter == "v" else codec.CURRENT_RANGES
    return next((r for r in ranges if value <= r * (1 + 1e-9)), ranges[-1])
