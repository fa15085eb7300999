"""An emulated Keithley 2450 at the specimen's contacts: a table of SCPI headers and a load line.

Faithful where drivers of others look (QCoDeS's and PyMeasure's run against it, and Keithley's examples).
Simplified: the source settles at once; what waits for the end of a sweep or trigger model has it at once and
is charged its time with the next reply; the overvoltage protection and the safety interlock are stored but do
not act. Set to the command set ``SCPI2400`` it is a 2400 that calls itself a 2450.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from devices.keithley_2400.emulator import Keithley2400Emulator
from devices.keithley_buffers import BUFFER, SOURCE, START, Buffers, Row
from devices.keithley_triggers import Steps, TriggerModel
from devices.keithley_tsp import TspFront
from devices.keithley_tsp_tables import Common, Readings
from devices.physics import World
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.scpi import OPC, Entry, Interpreter, setting
from hal.protocols.scpi_parameters import Boolean, Choice, Kind, Numeric, ScpiError, Text
from hal.protocols.tsp import Tsp

from . import codec, stored, tsp
from .ranges import Ranges

LATENCY = 0.003  # s
LINE_FREQUENCY = 50.0  # Hz
VOLTAGE_NOISE = (2e-5, 1e-5)  # V, of the value: one sigma of a reading at 1 PLC
CURRENT_NOISE = (1e-10, 3e-5)  # A, of the value
ON_POWER_UP: dict[str, Any] = {"func": "VOLT", "sense": "CURR", "outp": False}
FUNCTIONS = {"CURR": "CURRent[:DC]", "VOLT": "VOLTage[:DC]", "RES": "RESistance"}
UNIT = {"CURR": "A", "VOLT": "V", "RES": "Ohm"}
MEASURED = 8
"""Status of a reading; what its bit says is unverified."""
LARGEST = 6_875_000
"""Readings of a buffer."""


class Keithley2450Emulator:
    """A 2450 that biases ``world.voltage``. Settings: `seed`, `language` (``SCPI``, ``TSP``, ``SCPI2400``)."""

    def __init__(
        self, world: World, *, unit: object = None, channel: object = None, seed: int = 2450, language: str = "SCPI"
    ) -> None:
        self.world = world
        self.reply_delay = LATENCY
        self._random = random.Random(seed)
        self._language = language
        self._now = 0.0
        self._busy = 0.0
        self._values: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        self._buffers = Buffers(SOURCE, LARGEST)
        self._sweep: list[float] = []
        self._lists: dict[str, list[float]] = {"VOLT": [], "CURR": []}
        self._older = Keithley2400Emulator(world, seed=seed) if language == "SCPI2400" else None
        self._triggers = TriggerModel(self._measure, self._buffers.clear)
        self._triggers.charge, self._triggers.complete = self._charge, self._completed
        self._triggers.fault = lambda error: self._scpi.fault(error)
        self._triggers.changed = self._sweep.clear
        self._ranges = Ranges(self._values, self._present)
        self._settings = stored.Lists(self._values, self._drive)
        self._scpi = Interpreter(f"{codec.IDENTITY},04412345,1.7.12b", list(self._table()), on_reset=self._reset)
        self._scpi.errors.size = 1000  # p. 6-101
        self._defaults = dict(self._values)
        self._reset()
        self._tsp = self._programmable() if language == "TSP" else None

    # ------------------------------------------------------------------ the instrument's life

    def framing(self, scheme: str) -> Framing:
        return AnyLines(codec.TERMINATOR)

    def respond(self, message: bytes) -> bytes | None:
        if message[:5].upper() == b"*LANG":
            return self._speak(message)
        if self._older is not None and message.strip().upper() != b"*IDN?":
            reply = self._older.respond(message)
            self.reply_delay = self._older.reply_delay
            return reply
        if self._language not in ("SCPI", "TSP"):
            return self._scpi.respond(message) if message.strip().upper() == b"*IDN?" else None
        spent, self._busy = self._busy, 0.0
        reply = self._scpi.respond(message) if self._tsp is None else self._tsp.receive(message)
        self._drive()
        if reply is None:
            self._busy += spent  # charged to whoever next waits for an answer
        else:
            self.reply_delay, self._busy = LATENCY + spent + self._busy, 0.0
            reply = self._buffers.blocks.insert(reply)
        return reply

    def advance(self, dt: float) -> None:
        self._now += dt
        self._busy = max(0.0, self._busy - dt)
        if self._older is not None:
            self._older.advance(dt)
            return
        self._triggers.advance(dt)
        self._drive()

    @property
    def errors(self) -> int:
        """Entries of the event log not yet read."""
        return len(self._scpi.errors if self._tsp is None else self._tsp.errors)

    def _programmable(self) -> Tsp:
        """Its other language, in front of the same settings."""
        v, front = self._values, TspFront(self._scpi)
        Common(
            front, self._triggers, charge=self._charge, clock=lambda: self._now + self._busy, reset=self._reset,
            line=LINE_FREQUENCY,
        )  # fmt: skip
        readings = Readings(front, self._buffers, source=True)
        tsp.install(front, readings, lambda: str(v["func"]), lambda: str(v["sense"]), self._reset)
        return front.tsp

    # ------------------------------------------------------------------ physics

    def _drive(self) -> None:
        """Put the load line's voltage across the specimen."""
        self.world.voltage = self._operating_point()[0]

    def _operating_point(self) -> tuple[float, float, bool]:
        """Voltage, current, and whether the compliance holds the source back (p. 6-72)."""
        v, resistance = self._values, self.world.resistance
        if not v["outp"]:
            return 0.0, 0.0, False  # the normal output-off state: a source of 0 V (p. 2-82)
        if v["func"] == "VOLT":
            level, limit = v["level VOLT"], abs(v["limit VOLT"])
            limited = abs(level / resistance) > limit
            voltage = (limit if level > 0 else -limit) * resistance if limited else level
        else:
            level, limit = v["level CURR"], abs(v["limit CURR"])
            limited = abs(level * resistance) > limit
            voltage = (limit if level > 0 else -limit) if limited else level * resistance
        return voltage, voltage / resistance, limited

    def _present(self, f: str) -> float:
        """What the contacts show of a function, without noise."""
        voltage, current, _ = self._operating_point()
        return {"VOLT": voltage, "CURR": current, "RES": self.world.resistance}[f]

    def _charge(self, seconds: float) -> None:
        self._busy += seconds

    def _completed(self) -> None:
        self._scpi.event_status |= OPC

    def _measure(self, buffer: str = "defbuffer1") -> float:
        """Measure once; return the seconds it takes."""
        v, (voltage, current, limited) = self._values, self._operating_point()
        volts, amperes = self._noisy(voltage, *VOLTAGE_NOISE), self._noisy(current, *CURRENT_NOISE)
        found = {"VOLT": volts, "CURR": amperes, "RES": volts / amperes if v["outp"] else codec.OVERFLOW}
        function, sense = v["func"], v["sense"]
        source = found[function] if v[f"readback {function}"] else v[f"level {function}"]
        if not v["outp"] and not v[f"readback {function}"]:
            source = 0.0
        if abs(found[sense]) > 1.05 * v[f"range {sense}"] and not v[f"autorange {sense}"]:
            found[sense] = codec.OVERFLOW
        status = (codec.LIMITED if limited else 0) | (codec.OUTPUT_ON if v["outp"] else 0)
        reading, unit = self._converted(sense, found[sense], volts, amperes)
        if v[f"relative on {sense}"] and abs(reading) < codec.OVERFLOW:
            reading -= v[f"relative {sense}"]
        time = max(self._now + self._busy, self._triggers.time)
        self._buffers.append(buffer, Row(
            reading, codec.UNITS[unit], time, MEASURED,
            source=source, source_unit=codec.UNITS[UNIT[function]], source_status=status,
        ))  # fmt: skip
        cycles = v[f"nplc {sense}"] * (2 if v[f"readback {function}"] else 1)
        repeats = v[f"filter count {sense}"] if v[f"filter {sense}"] and v[f"filter type {sense}"] == "REP" else 1
        delay = 0.0 if v[f"delay auto {function}"] else v[f"delay {function}"]
        return float(cycles * repeats / LINE_FREQUENCY + delay)

    def _converted(self, sense: str, reading: float, volts: float, amperes: float) -> tuple[float, str]:
        """A reading in the unit asked for (``:SENSe:<function>:UNIT``)."""
        if abs(reading) >= codec.OVERFLOW or sense == "RES":
            return reading, UNIT[sense]
        match self._values[f"unit {sense}"]:
            case "OHM":
                return volts / amperes if amperes else codec.OVERFLOW, "Ohm"
            case "WATT":
                return volts * amperes, "W"
            case _:
                return reading, UNIT[sense]

    def _noisy(self, value: float, absolute: float, relative: float) -> float:
        return self._random.gauss(value, (absolute**2 + (relative * value) ** 2) ** 0.5)

    # ------------------------------------------------------------------ commands

    def _table(self) -> Iterator[Entry]:
        v, element = self._values, self._buffers.element

        def keep(header: str, key: str, kind: Kind) -> Entry:
            return setting(header, key, kind, v)

        for f, bounds in (("VOLT", codec.VOLTAGE), ("CURR", codec.CURRENT)):
            unit, name = UNIT[f], {"VOLT": "VOLTage", "CURR": "CURRent"}[f]
            root, x = f":SOURce[1]:{name}", "I" if f == "VOLT" else "V"
            level = Numeric(-bounds, bounds, 0.0, unit)
            limit = (
                Numeric(*codec.CURRENT_LIMIT, 1.05e-4, "A") if f == "VOLT" else Numeric(*codec.VOLTAGE_LIMIT, 21.0, "V")
            )
            yield from self._ranges.of_source(f, name)
            yield Entry(f"{root}:{x}LIMit[:LEVel]:TRIPped", read=lambda f=f: self._tripped(f))
            yield keep(f"{root}:{x}LIMit[:LEVel]", f"limit {f}", limit)
            delay = keep(f"{root}:DELay", f"delay {f}", Numeric(0, 1e4, 0, "s"))
            yield Entry(  # a delay of one's own ends the automatic one
                delay.header, lambda seconds, f=f: v.update({f"delay {f}": seconds, f"delay auto {f}": False}),
                delay.read, delay.takes, delay.asks,
            )  # fmt: skip
            yield keep(f"{root}:DELay:AUTO", f"delay auto {f}", Boolean(True))
            yield keep(f"{root}:DELay:USER#", f"user delay {f}", Numeric(0, 1e4, 0, "s"))
            yield keep(f"{root}:READ:BACK", f"readback {f}", Boolean(True))
            yield keep(f"{root}:HIGH:CAPacitance", f"high capacitance {f}", Boolean())
            yield keep(f":OUTPut[1]:{name}:SMODe", f"off state {f}", Choice(OFF_STATES, "NORM"))
            yield from self._sweeps(f, name, level)
        yield keep(":SOURce[1]:VOLTage:PROTection[:LEVel]", "protection", Text("NONE", bare=True))
        yield Entry(":SOURce[1]:VOLTage:PROTection[:LEVel]:TRIPped", read=lambda: "0")
        yield Entry(
            ":SOURce[1]:FUNCtion[:MODE]", self._set_function, lambda: v["func"], (Choice(("VOLTage", "CURRent")),)
        )
        for f, name in FUNCTIONS.items():
            root = f"[:SENSe[1]]:{name}"
            yield keep(f"{root}:NPLCycles", f"nplc {f}", Numeric(0.01, 10, 1))
            yield from self._ranges.of_measurement(f, name)
            yield keep(f"{root}:AZERo[:STATe]", f"autozero {f}", Boolean(True))
            yield keep(f"{root}:RSENse", f"four-wire {f}", Boolean())
            yield keep(f"{root}:AVERage[:STATe]", f"filter {f}", Boolean())
            yield keep(f"{root}:AVERage:COUNt", f"filter count {f}", Numeric(1, 100, 10, whole=True))
            yield keep(f"{root}:AVERage:TCONtrol", f"filter type {f}", Choice(("REPeat", "MOVing"), "REP"))
            yield keep(f"{root}:DELay:USER#", f"sense delay {f}", Numeric(0, 1e4, 0, "s"))
            yield Entry(f":MEASure:{name}", read=lambda *a, f=f: self._read(*a, sense=f), asks=(BUFFER,), rest=element)
        yield Entry("[:SENSe[1]]:AZERo:ONCE", write=lambda: None)
        yield keep("[:SENSe[1]]:COUNt", "count", Numeric(1, 300000, 1, whole=True))
        yield Entry(
            "[:SENSe[1]]:FUNCtion[:ON]", lambda name: v.update(sense=name.partition(":")[0]), self._sense_function,
            (Choice(tuple(FUNCTIONS.values()), quoted=True),),
        )  # fmt: skip
        for verb in (":READ", ":MEASure"):
            yield Entry(verb, read=self._read, asks=(BUFFER,), rest=element)
        yield Entry(":FETCh", read=self._buffers.latest, asks=(BUFFER,), rest=element)
        yield keep(":OUTPut[1][:STATe]", "outp", Boolean())
        yield keep(":OUTPut[1]:SMODe", "off state", Choice(OFF_STATES, "NORM"))
        yield from self._buffers.table()
        yield Entry(
            ":TRACe:TRIGger", lambda name="defbuffer1": self._charge(self._measure(name)), takes=(BUFFER,), optional=1
        )
        yield from stored.table(v, tuple(FUNCTIONS.items()), self._acquire)
        yield from self._settings.table(self._triggers)
        yield Entry(":INITiate[:IMMediate]", write=self._initiate)
        yield Entry(":ABORt", write=self._abort)
        yield from self._triggers.table()
        yield keep(":ROUTe:TERMinals", "terminals", Choice(("FRONt", "REAR"), "FRON"))
        yield Entry(":SYSTem:LFRequency", read=lambda: f"{LINE_FREQUENCY:g}")
        yield Entry(
            ":SYSTem:BEEPer[:IMMediate]", write=lambda f, t: None, takes=(Numeric(20, 8000), Numeric(0.001, 100))
        )
        for header in (":SYSTem:CLEar", ":STATus:CLEar"):
            yield Entry(header, write=lambda: self._scpi.errors.clear())
        for header in (":SYSTem:ERRor[:NEXT]", ":SYSTem:EVENtlog:NEXT"):
            yield Entry(header, read=self._error)
        yield Entry(":SYSTem:EVENtlog:COUNt", read=lambda *_: str(self.errors), asks=(Choice(("ERRor", "ALL")),))

    def _sweeps(self, f: str, name: str, level: Numeric) -> Iterator[Entry]:
        """Sweeps (p. 6-84 on): by points, by step, logarithmic, and the levels of a list."""
        points, delay, count = Numeric(2, 1e6, whole=True), Numeric(-1, 1e4), Numeric(0, 268435455, whole=True)
        rest = (delay, count, Choice(("AUTO", "BEST", "FIXed")), Boolean(True), Boolean(), Text(bare=True))
        root = f":SOURce[1]:SWEep:{name}"
        yield Entry(
            f"{root}:LINear", lambda a, b, n, *more: self._set_sweep(f, _linear(a, b, int(n)), *more),
            takes=(level, level, points, *rest), optional=6,
        )  # fmt: skip
        yield Entry(
            f"{root}:LINear:STEP",
            lambda a, b, step, *more: self._set_sweep(f, _linear(a, b, round(abs((b - a) / step)) + 1), *more),
            takes=(level, level, Numeric(1e-15, 1e3), *rest), optional=6,
        )  # fmt: skip
        yield Entry(
            f"{root}:LOGarithmic", lambda a, b, n, *more: self._set_sweep(f, _logarithmic(a, b, int(n)), *more[:6]),
            takes=(level, level, points, *rest, Numeric()), optional=7,
        )  # fmt: skip
        yield Entry(
            f"{root}:LIST",
            lambda first=1, delay=-1.0, count=1.0, abort=True, buffer="defbuffer1": self._set_sweep(
                f, self._lists[f][int(first) - 1 :], delay, count, "AUTO", abort, False, buffer
            ),
            takes=(Numeric(1, 2500, whole=True), delay, count, Boolean(True), Text(bare=True)), optional=5,
        )  # fmt: skip
        yield Entry(
            f":SOURce[1]:LIST:{name}", lambda *levels: self._lists.update({f: list(levels)}),
            lambda: ",".join(map(codec.number, self._lists[f])), (level,), rest=level,
        )  # fmt: skip
        yield Entry(
            f":SOURce[1]:LIST:{name}:APPend", lambda *levels: self._lists[f].extend(levels), takes=(level,), rest=level
        )
        yield Entry(f":SOURce[1]:LIST:{name}:POINts", read=lambda: str(len(self._lists[f])))

    def _reset(self) -> None:
        self._values.update(self._defaults | ON_POWER_UP)
        self._buffers.reset()
        self._sweep.clear()
        self._triggers.reset()
        self._settings.reset()
        self._drive()

    def _speak(self, message: bytes) -> bytes | None:
        if message.strip().endswith(b"?"):
            return self._language.encode("ascii")
        return None  # takes effect after the next power-up only

    def _set_function(self, name: str) -> None:
        if name != self._values["func"]:
            self._values["outp"] = False  # unverified
        self._values["func"] = name

    def _sense_function(self) -> str:
        sense = self._values["sense"]
        return f'"{sense}"' if sense == "RES" else f'"{sense}:DC"'  # as QCoDeS expects it

    def _tripped(self, f: str) -> str:
        return "1" if f == self._values["func"] and self._operating_point()[2] else "0"

    def _acquire(self, f: str) -> float:
        """A relative offset, measured (``:RELative:ACQuire``)."""
        self._values |= {"sense": f, f"relative on {f}": False}
        self._charge(self._measure())
        return self._buffers.of("defbuffer1").pop().reading

    def _read(self, name: str = "defbuffer1", *elements: str, sense: str = "") -> str:
        if sense:
            self._values["sense"] = sense
        for _ in range(round(self._values["count"])):
            self._charge(self._measure(name))
        return self._buffers.latest(name, *elements)

    def _set_sweep(
        self, f: str, levels: list[float], delay: float = -1, count: float = 1, ranging: str = "AUTO",
        abort: bool = True, dual: bool = False, buffer: str = "defbuffer1",
    ) -> None:  # fmt: skip
        if not levels:
            raise ScpiError(-221)
        self._sweep[:] = (levels + levels[-2::-1] if dual else levels) * max(1, int(count))
        self._values |= {"func": f, "sweep buffer": buffer, "sweep delay": max(0.0, delay)}

    def _initiate(self) -> None:
        if self._sweep:
            self._triggers.start(self._sweeping())
        elif self._triggers.empty:
            self._charge(self._measure())
        else:
            self._triggers.start()

    def _sweeping(self) -> Steps:
        v = self._values
        self._buffers.clear(v["sweep buffer"])
        v["outp"] = True
        for level in list(self._sweep):
            v[f"level {v['func']}"] = level
            self._drive()
            yield v["sweep delay"]
            yield self._measure(v["sweep buffer"])
        v["outp"] = False  # a sweep ends with the output off (unverified)
        self._drive()

    def _abort(self) -> None:
        self._triggers.abort()
        self._sweep.clear()
        self._busy = 0.0

    def _error(self) -> str:
        error = self._scpi.errors.pop()
        if error.code == 0:
            return '0,"No error;0;0 0"'  # verified against PyMeasure's tests of a sibling
        return f'{error.code},"{error.text};1;{START + timedelta(seconds=self._now):%Y/%m/%d %H:%M:%S}.000"'


def _linear(start: float, stop: float, number: int) -> list[float]:
    return [start + (stop - start) * i / max(1, number - 1) for i in range(number)]


def _logarithmic(start: float, stop: float, number: int) -> list[float]:
    if start * stop <= 0:
        raise ScpiError(-222)
    return [start * (stop / start) ** (i / max(1, number - 1)) for i in range(number)]


OFF_STATES = ("NORMal", "HIMPedance", "ZERO", "GUARd")
"""Page 6-31."""
