"""An emulated Keithley DMM6500 at the specimen's contacts and its thermometer: a table of functions.

Faithful where drivers of others look (PyMeasure's and QCoDeS's run against it). Simplified: what waits for the
end of a scan or trigger model has it at once and is charged its time with the next reply; limits and
configuration lists are left out; alternating signals are not there, so that AC functions read noise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from devices.keithley_buffers import BUFFER, START, Buffers, Row
from devices.keithley_triggers import TriggerModel
from devices.keithley_tsp import TspFront
from devices.keithley_tsp_tables import Common, Readings
from devices.physics import World
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.scpi import OPC, Entry, Interpreter, setting
from hal.protocols.scpi_parameters import Choice, Numeric, ScpiError, Text
from hal.protocols.tsp import Tsp, TspError

from . import codec, tsp
from .codec import DIGITIZERS, FUNCTIONS
from .scanner import Channels, Scanner
from .settings import ALL, Settings

LATENCY = 0.002  # s
OVERHEAD = 0.001  # s a measurement takes beyond its aperture
LEADS = 0.3  # ohm that two wires add
NOISE = {
    "VOLT": (1e-6, 1e-6), "VOLT:AC": (1e-5, 0.0), "CURR": (1e-9, 5e-6), "CURR:AC": (1e-8, 0.0), "RES": (1e-4, 3e-6),
    "FRES": (1e-4, 3e-6), "DIOD": (1e-5, 1e-5), "CAP": (1e-13, 1e-3), "TEMP": (0.01, 0.0), "CONT": (0.01, 0.0),
    "VOLT:RAT": (1e-6, 1e-6), "DIG:VOLT": (1e-4, 1e-5), "DIG:CURR": (1e-7, 1e-4),
}  # fmt: skip
"""Absolute in the function's unit, and relative: one sigma at 1 power line cycle."""
SETTLING = {3.0: 1.0, 30.0: 0.1, 300.0: 0.02}
"""s of an AC measurement, by the lowest frequency expected, Hz."""
BY_NAME = Choice((*(function.header for function in FUNCTIONS.values()), "NONE"), quoted=True)


class KeithleyDmm6500Emulator:
    """A DMM6500. Settings: `seed`, `language` (``SCPI``, ``TSP``, ...), `line_frequency` (Hz), `terminals`
    (``front``, ``rear``), `card` (whether it has a scanner card)."""

    def __init__(
        self, world: World, *, unit: object = None, channel: object = None, seed: int = 6500, language: str = "SCPI",
        line_frequency: float = 60.0, terminals: str = "front", card: bool = False,
    ) -> None:  # fmt: skip
        self.world = world
        self.reply_delay = LATENCY
        self._random, self._language, self._line = random.Random(seed), language, line_frequency
        self._terminals = "REAR" if terminals == "rear" else "FRON"
        self._now = self._busy = 0.0
        self._values: dict[str, Any] = {}
        self._buffers = Buffers(("CHANnel",), codec.LARGEST)
        self._scanner = Scanner(self._measure, self._buffers.clear, card)
        self._settings = Settings(self._scanner, line_frequency, self._signal)
        self._triggers = TriggerModel(self._measure, self._buffers.clear)
        self._triggers.charge, self._triggers.complete = self._charge, self._completed
        self._triggers.fault = lambda error: self._scpi.fault(error)
        self._scpi = Interpreter(f"{codec.IDENTITY},04412345,1.7.12b", list(self._table()), on_reset=self._reset)
        self._scpi.errors.size = 1000
        self._defaults = dict(self._values)
        self._reset()
        self._tsp = self._programmable() if language == "TSP" else None

    # ------------------------------------------------------------------ the instrument's life

    def framing(self, scheme: str) -> Framing:
        return AnyLines(codec.TERMINATOR)

    def respond(self, message: bytes) -> bytes | None:
        if message[:5].upper() == b"*LANG":
            return self._language.encode("ascii") if message.strip().endswith(b"?") else None
        if self._language not in ("SCPI", "TSP"):
            return self._scpi.respond(message) if message.strip().upper() == b"*IDN?" else None
        reply = self._scpi.respond(message) if self._tsp is None else self._tsp.receive(message)
        if reply is None:
            return None
        self.reply_delay, self._busy = LATENCY + self._busy, 0.0
        return self._buffers.blocks.insert(reply)

    def advance(self, dt: float) -> None:
        self._now += dt
        self._busy = max(0.0, self._busy - dt)
        self._triggers.advance(dt)

    @property
    def errors(self) -> int:
        """Entries of the event log not yet read."""
        return len(self._scpi.errors if self._tsp is None else self._tsp.errors)

    def _programmable(self) -> Tsp:
        """Its other language, in front of the same settings."""
        front = TspFront(self._scpi)
        Common(
            front, self._triggers, charge=self._charge, clock=lambda: self._now + self._busy, reset=self._reset,
            line=self._line,
        )  # fmt: skip
        readings = Readings(front, self._buffers, source=False)
        tsp.install(front, readings, self._settings_of, self._reset)
        return front.tsp

    def _settings_of(self, channels: str) -> dict[str, Any]:
        """Those of the first of ``(@1,3)``, or the ones in use."""
        try:
            return self._settings.chosen(Channels().parse(channels) if channels else ())[0]
        except ScpiError as error:
            raise TspError(error.code, error.text) from None

    # ------------------------------------------------------------------ measuring

    def _measure(self, buffer: str) -> float:
        """Measure once; return the seconds it takes."""
        s, f = self._settings.active, self._settings.function
        repeats = int(s[f"{f} filter count"]) if s[f"{f} filter"] else 1
        absolute, relative = NOISE.get(f, (0.0, 0.0))
        value = self._signal(f)
        sigma = math.hypot(absolute, relative * value) / math.sqrt(s.get(f"{f} nplc", 1.0) * repeats)
        value = self._ranged(f, self._random.gauss(value, sigma))
        if abs(value) < codec.OVERFLOW:
            value = self._calculated(f, value)
        time = max(self._now + self._busy, self._triggers.time)
        self._buffers.append(buffer, Row(value, self._unit(f), time, channel=self._scanner.closed))
        return self._duration(f) * (repeats if s[f"{f} filter type"] == "REP" else 1)

    def _signal(self, f: str) -> float:
        w = self.world
        match f.removeprefix("DIG:"):
            case "VOLT":
                return w.voltage
            case "CURR":
                return w.current
            case "FRES":
                return w.resistance
            case "RES" | "CONT":
                return w.resistance + LEADS
            case "TEMP":
                return w.temperature
            case "DIOD":
                return float(self._settings.active["DIOD bias"]) * (w.resistance + LEADS)
            case "CAP":
                return 1e-10
            case "VOLT:RAT":
                return 1.0
            case _:
                return 0.0

    def _ranged(self, f: str, value: float) -> float:
        ranges = ALL[f].ranges
        if f == "VOLT:RAT" or not ranges:
            return value
        top = ranges[-1] if self._settings.active[f"{f} autorange"] else self._settings.active[f"{f} range"]
        return math.copysign(9.9e37, value) if abs(value) > top * codec.OVER_RANGE else value

    def _unit(self, f: str) -> str:
        if f == "TEMP":
            return {"CELS": "Celsius", "KELV": "Kelvin", "FAHR": "Fahrenheit"}[self._settings.active["TEMP unit"]]
        return ALL[f].unit

    def _calculated(self, f: str, value: float) -> float:
        """The unit, the relative offset and the math that were asked for."""
        s = self._settings.active
        match s.get(f"{f} unit"):
            case "KELV":
                value += 273.15
            case "FAHR":
                value = value * 9 / 5 + 32
            case "DB":
                value = 20 * math.log10(max(abs(value), 1e-12) / s[f"{f} db"])
            case "DBM":
                value = 10 * math.log10(max(value**2, 1e-24) / s[f"{f} dbm"] / 1e-3)
        if s[f"{f} relative on"]:
            value -= s[f"{f} relative"]
        if s[f"{f} math"]:
            match s[f"{f} math form"]:
                case "MXB":
                    value = s[f"{f} m"] * value + s[f"{f} b"]
                case "PERC":
                    value = (value / (s[f"{f} percent"] or 1e-12) - 1) * 100
                case _:
                    value = 1 / (value or 1e-37)
        return value

    def _duration(self, f: str) -> float:
        s = self._settings.active
        if ALL[f].cycles:
            return float(s[f"{f} nplc"]) / self._line * (2 if s[f"{f} autozero"] else 1) + OVERHEAD
        if f in DIGITIZERS:
            return 1 / float(s[f"{f} rate"])
        if f in ("FREQ", "PER"):
            return float(s[f"{f} aperture"]) + OVERHEAD
        if f.endswith(":AC"):
            return SETTLING[s[f"{f} bandwidth"]] + OVERHEAD
        return 0.2 if f == "CAP" else 0.005

    # ------------------------------------------------------------------ commands

    def _table(self) -> Iterator[Entry]:
        yield Entry(
            "[:SENSe[1]]:FUNCtion[:ON]", self._set_function, self._function, (BY_NAME, Channels()), (Channels(),), 1
        )
        yield Entry("[:SENSe[1]]:AZERo:ONCE", write=self._zero_once)
        digitizers = Choice(("VOLTage", "CURRent", "NONE"), quoted=True)
        yield Entry(
            "[:SENSe[1]]:DIGitize:FUNCtion[:ON]", self._set_digitizer, lambda: self._settings.active["digitizer"],
            (digitizers, Channels()), (), 1,
        )  # fmt: skip
        for f, function in ALL.items():
            yield Entry(
                f"[:SENSe[1]]:{function.header}:RELative:ACQuire", lambda *_, f=f: self._acquire(f),
                takes=(Channels(),), optional=1,
            )  # fmt: skip
            yield Entry(
                f":MEASure:{function.header}", asks=(BUFFER,), rest=self._buffers.element,
                read=lambda name="defbuffer1", *elements, f=f: self._read(name, *elements, function=f),
            )  # fmt: skip
        yield from self._settings.table()
        for verb in (":READ", ":MEASure"):
            yield Entry(verb, read=self._read, asks=(BUFFER,), rest=self._buffers.element)
        for verb in (":READ:DIGitize", ":MEASure:DIGitize"):
            yield Entry(verb, read=self._digitize, asks=(BUFFER,), rest=self._buffers.element)
        yield Entry(":FETCh", read=self._buffers.latest, asks=(BUFFER,), rest=self._buffers.element)
        for header in (":TRACe:TRIGger", ":TRACe:TRIGger:DIGitize"):
            yield Entry(
                header, lambda name="defbuffer1": self._charge(self._measure(name)), takes=(BUFFER,), optional=1
            )
        yield Entry(":INITiate[:IMMediate]", write=self._initiate)
        yield from self._buffers.table()
        yield from self._triggers.table()
        yield from self._scanner.table()
        yield from self._system()

    def _system(self) -> Iterator[Entry]:
        yield Entry(":ROUTe:TERMinals", read=lambda: self._terminals)
        yield Entry(":SYSTem:LFRequency", read=lambda: f"{self._line:.0f}")
        yield Entry(":SYSTem:BEEPer[:IMMediate]", lambda *_: None, takes=(Numeric(20, 8000), Numeric(0.001, 100)))
        yield Entry(":SYSTem:TIME", lambda *_: None, self._time, rest=Numeric(), asks=(Numeric(1, 1, whole=True),))
        yield Entry(":SYSTem:CLEar", write=lambda: self._scpi.errors.clear())
        for header in (":SYSTem:ERRor[:NEXT]", ":SYSTem:EVENtlog:NEXT"):
            yield Entry(header, read=self._error)
        yield Entry(":SYSTem:EVENtlog:COUNt", read=lambda *_: str(self.errors), asks=(Choice(("ERRor", "ALL")),))
        yield setting(
            ":SYSTem:ACCess", "access", Choice(("FULL", "EXCLusive", "PROTected", "LOCKout"), "FULL"), self._values
        )
        for header in (":STATus:CLEar", ":DISPlay:CLEar"):
            yield Entry(header, write=lambda: None)
        yield Entry(":DISPlay:SCReen", lambda _: None, takes=(Choice(SCREENS),))
        yield Entry(":DISPlay:USER#:TEXT[:DATA]", lambda _n, _text: None, takes=(Text(),))
        lights = ("ON100", "ON75", "ON50", "ON25", "OFF", "BLACkout")
        yield setting(":DISPlay:LIGHt:STATe", "light", Choice(lights, "ON50"), self._values)
        yield setting(":DISPlay:READing:FORMat", "reading format", Choice(("EXPonent", "PREFix"), "PREF"), self._values)

    def _set_function(self, name: str, channels: tuple[int, ...] = ()) -> None:
        for settings in self._settings.chosen(channels):
            settings |= {"func": name, "digitizer": "NONE"}

    def _set_digitizer(self, name: str, channels: tuple[int, ...] = ()) -> None:
        for settings in self._settings.chosen(channels):
            settings["digitizer"] = name

    def _select(self, f: str) -> None:
        """Measure this, a key of `ALL`."""
        if f in DIGITIZERS:
            self._set_digitizer(DIGITIZERS[f].shown)
        else:
            self._set_function(f)

    def _function(self, channels: tuple[int, ...] = ()) -> str:
        chosen = self._settings.chosen(channels)
        found = [settings["func"] if settings["digitizer"] == "NONE" else "NONE" for settings in chosen]
        return ",".join(FUNCTIONS[f].shown if f in FUNCTIONS else f for f in found)

    def _zero_once(self) -> None:
        s = self._settings.active
        if f"{s['func']} autozero" in s:
            s[f"{s['func']} autozero"] = False  # PyMeasure's tests on a real one

    def _acquire(self, f: str) -> None:
        self._select(f)
        s = self._settings.active
        s[f"{f} relative"] = 0.0
        self._charge(self._measure("defbuffer1"))
        s[f"{f} relative"] = self._buffers.of("defbuffer1").pop().reading

    # ------------------------------------------------------------------ readings

    def _read(self, name: str = "defbuffer1", *elements: str, function: str = "") -> str:
        if function:
            self._select(function)
        s = self._settings.active
        count = round(s["count"] if s["digitizer"] == "NONE" else s["digitize count"])
        kept = self._buffers.of(name).maxlen or 1
        took = 0.0
        for _ in range(min(count, kept)):
            took = self._measure(name)
            self._charge(took)
        self._charge(max(0, count - kept) * took)  # those that the buffer does not keep
        return self._buffers.latest(name, *elements)

    def _digitize(self, name: str = "defbuffer1", *elements: str) -> str:
        if self._settings.active["digitizer"] == "NONE":
            raise ScpiError(-221)
        return self._read(name, *elements)

    def _charge(self, seconds: float) -> None:
        self._busy += seconds

    def _initiate(self) -> None:
        if self._scanner.channels:
            self._triggers.start(self._scanner.steps())
        elif self._triggers.empty:  # what a real one does: unverified
            self._triggers.start(self._measure(name) for name in ("defbuffer1",))
        else:
            self._triggers.start()

    def _completed(self) -> None:
        self._scpi.event_status |= OPC

    def _reset(self) -> None:
        self._values.update(self._defaults)
        for part in (self._buffers, self._triggers, self._scanner, self._settings):
            part.reset()

    def _time(self, form: float = 0.0) -> str:
        now = START + timedelta(seconds=self._now)
        return f"{now:%a %b %d %H:%M:%S %Y}" if form else f"{now.timestamp():.0f}"  # form unverified

    def _error(self) -> str:
        error = self._scpi.errors.pop()
        if error.code == 0:
            return '0,"No error;0;0 0"'  # verified against PyMeasure's tests of a sibling
        return f'{error.code},"{error.text};1;{START + timedelta(seconds=self._now):%Y/%m/%d %H:%M:%S}.000"'


SCREENS = (
    "HOME", "HOME_LARGe_reading", "READing_table", "GRAPh", "HISTogram", "SWIPE_FUNCtions", "SWIPE_GRAPh",
    "SWIPE_SECondary", "SWIPE_SETTings", "SWIPE_STATistics", "SWIPE_USER", "SWIPE_CHANnel", "SWIPE_NONSwitch",
    "SWIPE_SCAN", "CHANNEL_CONTrol", "CHANNEL_SETTings", "CHANNEL_SCAN", "PROCessing",
)  # fmt: skip
"""As PyMeasure names them; long forms unverified."""
