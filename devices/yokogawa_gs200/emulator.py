"""An emulated Yokogawa GS200 at the specimen's contacts: a table of headers, limiters, and programs that ramp.

Faithful where drivers of others look (QCoDeS's and PyMeasure's run against it). Simplified: the source
settles at once; measurements are stored (`:TRACe`) at the interval of `:SENSe:INTerval` whatever triggers them,
and read as text only; a change of function switches the output off and sets the level to 0, a change of range
keeps a level that fits, switching off ends a program (all three unverified, as are the error codes).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from devices.physics import World
from devices.source_meter import Mode
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.scpi import Entry, Interpreter, setting
from hal.protocols.scpi_parameters import Boolean, Choice, Kind, Numeric, ScpiError, Text

from . import codec

LATENCY = 0.004  # s
LINE_FREQUENCY = 50.0  # Hz
NOISE = {"voltage": 5e-4, "current": 5e-7}  # V, A: one sigma of the monitor, as the driver declares it
OUTPUT_RESISTANCE = 2.0  # ohm, in the ranges of 10 and 100 mV (data sheet, unverified)
UNIT = {"voltage": "V", "current": "A"}
LONGEST = 10_000  # steps of a program (QCoDeS)

Keep = Callable[[str, str, Kind], Entry]


class YokogawaGS200Emulator:
    """A GS210 that biases ``world.voltage``. Settings: `seed`, `monitor` (whether it has the option /MON)."""

    def __init__(
        self, world: World, *, unit: object = None, channel: object = None, seed: int = 200, monitor: bool = True
    ) -> None:
        self.world = world
        self.reply_delay = LATENCY
        self.monitor = monitor
        self._random = random.Random(seed)
        self._busy = 0.0
        self._events = self._before = self._enable = 0
        self._steps: list[float] = []
        self._editing = False
        self._next = 0
        self._running: list[tuple[float, float]] = []
        """Levels still to reach in a program, each with the level it is left from."""
        self._elapsed = 0.0
        self._paused = False
        self._now = self._stored_at = 0.0
        self._stored: list[tuple[float, Mode, float, str]] = []
        """Time, what was sourced, its level, what was measured."""
        self._values: dict[str, Any] = {}
        self._scpi = Interpreter(
            "YOKOGAWA,GS210,91W000001,2.02", list(self._table()), on_reset=self._reset,
            summary=lambda: 2 if self._events & self._enable else 0,
        )  # fmt: skip
        self._defaults = dict(self._values)
        self._reset()

    # ------------------------------------------------------------------ the instrument's life

    def framing(self, scheme: str) -> Framing:
        return AnyLines(codec.TERMINATOR)

    def respond(self, message: bytes) -> bytes | None:
        reply = self._scpi.respond(message)
        self._drive()
        if reply is not None:
            self.reply_delay, self._busy = LATENCY + self._busy, 0.0
        return reply

    def advance(self, dt: float) -> None:
        self._busy = max(0.0, self._busy - dt)
        self._now += dt
        if self._storing and self._now - self._stored_at >= self._values["sense interval"] - 1e-9:
            self._stored_at = self._now
            self._stored.append((self._now, self._mode, self._values["level"], self._measured()))
        if self._running and not self._paused:
            self._run(dt)
        self._drive()

    @property
    def errors(self) -> int:
        """Entries of the error queue not yet read."""
        return len(self._scpi.errors)

    @property
    def output(self) -> bool:
        """Whether the output is on."""
        return bool(self._values["outp"])

    # ------------------------------------------------------------------ physics

    @property
    def _mode(self) -> Mode:
        return "voltage" if self._values["func"] == "VOLT" else "current"

    def _drive(self) -> None:
        self.world.voltage = self._operating_point()[0]
        condition = self._condition()
        self._events |= condition & ~self._before
        self._before = condition

    def _operating_point(self) -> tuple[float, float, int]:
        """Voltage, current, and the bit of the limiter that acts."""
        v, resistance = self._values, self.world.resistance
        if not v["outp"]:
            return 0.0, 0.0, 0
        level = v["level"]
        acts = codec.HIGH_LIMITING if level > 0 else codec.LOW_LIMITING
        sign = 1.0 if level > 0 else -1.0
        if self._mode == "current":
            if abs(level * resistance) > v["limit VOLT"]:
                return sign * v["limit VOLT"], sign * v["limit VOLT"] / resistance, acts
            return level * resistance, level, 0
        if v["range"] < codec.LIMITER_FROM:
            level *= resistance / (resistance + OUTPUT_RESISTANCE)
        elif abs(level / resistance) > v["limit CURR"]:
            return sign * v["limit CURR"] * resistance, sign * v["limit CURR"], acts
        return level, level / resistance, 0

    @property
    def _storing(self) -> bool:
        v = self._values
        return bool(self.monitor and v["trace"] and v["outp"] and v["sense"] and len(self._stored) < v["points"])

    def _condition(self) -> int:
        idle = codec.NOT_MEASURING | codec.NO_FILE | codec.NO_SAMPLING_ERROR
        idle |= 0 if self._storing else codec.NOT_STORING
        return idle | self._operating_point()[2] | (0 if self._running else codec.READY)

    def _measure(self) -> str:
        v = self._values
        low = self._mode == "voltage" and v["range"] < codec.LIMITER_FROM
        if not v["outp"] or not v["sense"] or low:
            return codec.number(codec.NAN)  # unverified
        self._busy += v["nplc"] / LINE_FREQUENCY + v["delay"] / 1000
        self._events |= codec.NOT_MEASURING
        return self._measured()

    def _measured(self) -> str:
        voltage, current, _ = self._operating_point()
        if self._mode == "voltage":
            return codec.number(self._random.gauss(current, NOISE["current"]))
        return codec.number(self._random.gauss(voltage, NOISE["voltage"]))

    # ------------------------------------------------------------------ levels

    def _top(self) -> float:
        extent: float = self._values["range"]
        return min(extent * codec.OVER_RANGE, codec.LARGEST[self._mode]) * (1 + 1e-9)

    def _set_level(self, text: str, auto: bool = False) -> None:
        top = codec.LARGEST[self._mode] if auto else self._top()
        value = Numeric(-top, top, 0.0, UNIT[self._mode]).parse(text)
        if self._editing:
            if len(self._steps) == LONGEST:
                raise ScpiError(-223, "Too much data")
            self._steps.append(value)
            return
        if self._running and not self._paused:
            raise ScpiError(-221)
        self._running = []
        if auto:
            fitting = [x for x in codec.RANGES[self._mode] if abs(value) <= x * codec.OVER_RANGE]
            self._values["range"] = fitting[0] if fitting else codec.RANGES[self._mode][-1]
        self._change(value)

    def _level(self, which: str = "", auto: bool = False) -> str:
        top = codec.LARGEST[self._mode] if auto else self._top()
        return codec.number({"MIN": -top, "MAX": top}.get(which, self._values["level"]))

    def _change(self, level: float) -> None:
        if level != self._values["level"]:
            self._events |= codec.SOURCE_CHANGE
        self._values["level"] = level

    def _set_range(self, text: str) -> None:
        ranges = codec.RANGES[self._mode]
        special = {"MIN": ranges[0], "MAX": ranges[-1], "UP": self._neighbour(1), "DOWN": self._neighbour(-1)}
        name = {"MINIMUM": "MIN", "MAXIMUM": "MAX"}.get(text.upper(), text.upper())
        value = special[name] if name in special else abs(Numeric(unit=UNIT[self._mode]).parse(text))
        fitting = [x for x in ranges if value <= x * (1 + 1e-9)]
        if not fitting:
            raise ScpiError(-222)
        self._values["range"] = fitting[0]
        if abs(self._values["level"]) > self._top():
            self._change(0.0)

    def _range(self, which: str = "") -> str:
        ranges = codec.RANGES[self._mode]
        return codec.engineering({"MIN": ranges[0], "MAX": ranges[-1]}.get(which, self._values["range"]))

    def _neighbour(self, by: int) -> float:
        ranges = codec.RANGES[self._mode]
        return ranges[min(max(ranges.index(self._values["range"]) + by, 0), len(ranges) - 1)]

    def _set_function(self, name: str) -> None:
        if name == self._values["func"]:
            return
        self._switch(False)
        self._values["func"] = name
        self._values["range"] = codec.RANGES[self._mode][-1]
        self._change(0.0)

    def _switch(self, on: bool) -> None:
        self._values["outp"] = on
        if not on:
            self._running = []

    # ------------------------------------------------------------------ programs

    def _start(self) -> None:
        self._begin([*self._steps], 0)

    def _single(self) -> None:
        if self._steps:
            self._begin([self._steps[self._next % len(self._steps)]], self._next + 1)

    def _begin(self, steps: list[float], then: int) -> None:
        if not self._values["outp"] or not steps:
            raise ScpiError(-221)  # PyMeasure: a program needs the output on
        self._running = list(pairwise([self._values["level"], *steps]))
        self._elapsed, self._paused, self._editing, self._next = 0.0, False, False, then

    def _run(self, dt: float) -> None:
        v = self._values
        self._elapsed += dt
        while self._running:
            before, after = self._running[0]
            slope = min(v["slope"], v["interval"])
            share = min(1.0, self._elapsed / slope) if slope else 1.0
            self._change(after if share == 1.0 else before + (after - before) * share)
            if self._elapsed < v["interval"] - 1e-9:
                return
            self._elapsed -= v["interval"]
            self._running.pop(0)
            self._events |= codec.END_OF_STEP
            if not self._running:
                if v["repeat"] and not self._next:
                    self._running = list(pairwise([after, *self._steps]))
                else:
                    self._events |= codec.END_OF_PROGRAM

    def _edit(self, on: bool) -> None:
        if on:
            self._steps, self._next = [], 0
        self._editing = on

    # ------------------------------------------------------------------ the table of headers

    def _table(self) -> Iterator[Entry]:
        v = self._values
        v |= {"func": "VOLT", "range": 10.0, "level": 0.0}
        end, raw = Choice(("MINimum", "MAXimum")), Text(bare=True)

        def keep(header: str, key: str, kind: Kind) -> Entry:
            return setting(header, key, kind, v)

        output = keep(":OUTPut[:STATe]", "outp", Boolean())
        yield Entry(output.header, self._switch, output.read, output.takes)
        yield Entry(":SOURce:FUNCtion", self._set_function, lambda: v["func"], (Choice(("VOLTage", "CURRent")),))
        yield Entry(":SOURce:RANGe", self._set_range, self._range, (raw,), (end,))
        yield Entry(":SOURce:LEVel[:FIXed]", self._set_level, self._level, (raw,), (end,))
        yield Entry(
            ":SOURce:LEVel:AUTO", lambda text: self._set_level(text, True), lambda which="": self._level(which, True),
            (raw,), (end,),
        )  # fmt: skip
        for f, bounds, step, unit in (
            ("VOLTage", codec.VOLTAGE_LIMIT, codec.VOLTAGE_STEP, "V"),
            ("CURRent", codec.CURRENT_LIMIT, codec.CURRENT_STEP, "A"),
        ):
            yield self._limit(f":SOURce:PROTection:{f}", f"limit {f[:4]}", bounds, step, unit)
        yield from self._programs(keep)
        if self.monitor:
            yield from self._sensing(keep)
        yield Entry(":STATus:CONDition", read=lambda: str(self._condition()))
        yield Entry(":STATus:EVENt", read=self._read_events)
        yield Entry(
            ":STATus:ENABle", lambda x: setattr(self, "_enable", int(x)), lambda: str(self._enable),
            (Numeric(0, 65535, whole=True),),
        )  # fmt: skip
        yield Entry(":STATus:ERRor", read=lambda: str(self._scpi.errors.pop()))  # unverified
        yield keep(":ROUTe:BNCO", "bnc out", Choice(("TRIGger", "OUTPut", "READy"), "TRIG"))
        yield keep(":ROUTe:BNCI", "bnc in", Choice(("TRIGger", "OUTPut"), "TRIG"))
        yield Entry(":SYSTem:LFRequency", read=lambda: f"{LINE_FREQUENCY:.0f}")
        yield keep(":SYSTem:DISPlay[:NORMal]", "display", Boolean(True))
        for header in (":SYSTem:LOCal", ":SYSTem:REMote", "*TRG"):
            yield Entry(header, write=lambda: None)
        yield Entry("*OPT", read=lambda: codec.MONITOR if self.monitor else "NONE")  # without it: unverified
        yield Entry("*CLS", write=self._clear)

    def _limit(self, header: str, key: str, bounds: tuple[float, float], step: float, unit: str) -> Entry:
        kind = Numeric(*bounds, bounds[1], unit)
        self._values[key] = bounds[1]

        def write(value: float) -> None:
            self._values[key] = round(value / step) * step

        def read(which: str = "") -> str:
            return codec.engineering({"MIN": bounds[0], "MAX": bounds[1]}.get(which, self._values[key]))

        return Entry(header, write, read, (kind,), (Choice(("MINimum", "MAXimum")),))

    def _programs(self, keep: Keep) -> Iterator[Entry]:
        yield Entry(":PROGram:EDIT:STARt", write=lambda: self._edit(True))
        yield Entry(":PROGram:EDIT:END", write=lambda: self._edit(False))
        yield Entry(":PROGram:RUN", write=self._start)
        yield Entry(":PROGram:STEP", write=self._single)
        yield Entry(":PROGram:PAUSe", write=lambda: setattr(self, "_paused", True))
        yield Entry(":PROGram:HOLD", write=lambda: setattr(self, "_paused", not self._paused))
        yield Entry(":PROGram:CONTinue", write=lambda: setattr(self, "_paused", False))
        for header, key, kind in (
            (":PROGram:INTerval", "interval", Numeric(0.1, 3600.0, 1.0, "S", "{:.1f}")),
            (":PROGram:SLOPe", "slope", Numeric(0.0, 3600.0, 0.0, "S", "{:.1f}")),
        ):
            plain = keep(header, key, kind)
            # In steps of 0.1 s (QCoDeS).
            yield Entry(
                header, lambda x, key=key: self._values.update({key: round(x, 1)}), plain.read, plain.takes, plain.asks
            )
        yield keep(":PROGram:REPeat", "repeat", Boolean())
        yield keep(":PROGram:COUNt", "step", Numeric(1, LONGEST, 1, whole=True))
        if self.monitor:
            yield keep(":PROGram:TRIGger", "program trigger", Choice(("NORMal", "MEND"), "NORM"))
        yield keep(":PROGram:SAVE", "saved", Text(""))
        yield keep(":PROGram:LOAD", "loaded", Text(""))

    def _sensing(self, keep: Keep) -> Iterator[Entry]:
        yield keep(":SENSe[:STATe]", "sense", Boolean())
        yield keep(":SENSe:NPLC", "nplc", Numeric(1, 25, 1, whole=True))
        yield keep(":SENSe:DELay", "delay", Numeric(0, 999999, 0, whole=True))
        yield keep(":SENSe:INTerval", "sense interval", Numeric(0.1, 3600.0, 0.1, "S", form="{:.1f}"))
        trigger = Choice(("READy", "TIMer", "COMMunicate", "IMMediate"), "READ")
        yield keep(":SENSe:TRIGger", "sense trigger", trigger)
        yield keep(":SENSe:REMote", "four-wire", Boolean())
        yield keep(":SENSe:GUARd", "guard", Boolean())
        yield keep(":SENSe:NULL[:STATe]", "null", Boolean())
        yield keep(":SENSe:ZERO[:AUTO]", "zero", Boolean(True))
        yield Entry(":SENSe:ZERO:EXECute", write=lambda: None)  # drivers for CERN's and others' GS200
        trace = keep(":TRACe[:STATe]", "trace", Boolean())
        yield Entry(trace.header, self._trace, trace.read, trace.takes)
        yield keep(":TRACe:POINts", "points", Numeric(1, 100_000, 100, whole=True))  # most: unverified
        yield Entry(":TRACe:ACTual", read=lambda: str(len(self._stored)))
        yield Entry(":TRACe:DATA:READ", read=self._read_stored, asks=(Choice(tuple(codec.STORED)),))
        for header in (":MEASure", ":READ", ":FETCh"):
            yield Entry(header, read=self._measure)
        yield Entry(":INITiate", write=lambda: None)

    def _trace(self, on: bool) -> None:
        """Storing begins anew each time it is switched on (unverified)."""
        self._values["trace"] = on
        if on:
            self._stored, self._stored_at = [], self._now

    def _read_stored(self, column: str = "") -> str:
        """Stored results, CR LF between them, or one of their columns (13-19)."""
        rows = [
            {
                "TM": codec.number(time), "SF": "VOLT" if mode == "voltage" else "CURR",
                "MF": "CURR" if mode == "voltage" else "VOLT", "SL": codec.number(level), "ML": measured,
            }
            for time, mode, level, measured in self._stored
        ]  # fmt: skip
        if column:
            return ",".join(row[column] for row in rows)
        return "\r\n".join([",".join(codec.STORED), *(",".join(row[name] for name in codec.STORED) for row in rows)])

    def _reset(self) -> None:
        self._values.update(self._defaults)
        self._running, self._steps, self._editing, self._paused, self._next = [], [], False, False, 0
        self._drive()

    def _read_events(self) -> str:
        events, self._events = self._events, 0
        return str(events)

    def _clear(self) -> None:
        self._events = 0
        self._scpi.clear()
