"""An emulated Keithley 2400 at the specimen's contacts: a table of SCPI headers and a load line.

Faithful where drivers of others look (QCoDeS's and PyMeasure's run against it). Simplified: the source
settles at once; a running trigger model does not hold other commands back; auto-ohms sources what was
sourced before; the over-voltage protection and the limit tests are stored but do not act.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from devices.physics import World
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.scpi import Boolean, Choice, Entry, Interpreter, Kind, Numeric, ScpiError, Text, setting

from . import codec

LATENCY = 0.005  # s
LINE_FREQUENCY = 50.0  # Hz
VOLTAGE_NOISE = (2e-5, 1e-5)  # V, of the value: one sigma of a reading at 1 PLC, as the driver declares it
CURRENT_NOISE = (1e-9, 3e-5)  # A, of the value
IDENTITY = f"{codec.IDENTITY},1234567,C32   Oct  4 2010 14:20:11/A02  /S/K"
NAMES = {"VOLT": "VOLTage", "CURR": "CURRent", "RES": "RESistance"}
UNIT = {"VOLT": "V", "CURR": "A", "RES": "OHM"}
TEXTS = {
    -222: "Parameter data out of range", 803: "Not permitted with OUTPUT off", 800: "Illegal with storage active",
    822: "Too small for sense range", 824: "Cannot exceed compliance range", 826: "Attempt to exceed power limit",
}  # fmt: skip
"""As the instrument words them (appendix B)."""
BUFFER_FULL, BUFFER_AVAILABLE, READING_AVAILABLE, IN_COMPLIANCE = 1 << 9, 1 << 8, 1 << 6, 1 << 14
"""Bits of the measurement event register (15-14)."""
RANGES = {
    "VOLT": (0.21, 2.1, 21.0, 210.0),
    "CURR": (1.05e-6, 1.05e-5, 1.05e-4, 1.05e-3, 1.05e-2, 0.105, 1.05),
}
"""105 % of each range, the most that it takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reading."""

    values: dict[str, float]


class Keithley2400Emulator:
    """A 2400 that biases ``world.voltage``. Setting: `seed`."""

    def __init__(self, world: World, *, unit: object = None, channel: object = None, seed: int = 2400) -> None:
        self.world = world
        self.reply_delay = LATENCY
        self._random = random.Random(seed)
        self._now = self._zero = self._busy = 0.0
        self._values: dict[str, Any] = {}
        self._defaults: dict[str, Any] = {}
        self._saved: dict[int, dict[str, Any]] = {}
        self._list: dict[str, list[float]] = {"VOLT": [], "CURR": []}
        self._latest: list[Row] = []
        self._trace: list[Row] = []
        self._pending: deque[float | None] = deque()
        self._next = 0.0
        self._events = self._event_enable = 0
        self._scpi = Interpreter(
            IDENTITY, list(self._table()), on_reset=self._reset,
            summary=lambda: 1 if self._events & self._event_enable else 0,
        )  # fmt: skip
        self._scpi.errors.size = 10  # 18-109
        self._defaults = dict(self._values)
        self._reset()

    # ------------------------------------------------------------------ the instrument's life

    def framing(self, scheme: str) -> Framing:
        return AnyLines(codec.TERMINATOR)

    def respond(self, message: bytes) -> bytes | None:
        spent, self._busy = self._busy, 0.0
        reply = self._scpi.respond(message)
        self._drive()
        if reply is None:
            self._busy += spent  # charged to whoever next waits for an answer
        else:
            self.reply_delay, self._busy = LATENCY + spent + self._busy, 0.0
        return reply

    def advance(self, dt: float) -> None:
        self._now += dt
        self._busy = max(0.0, self._busy - dt)
        while self._pending and self._now >= self._next:
            self._store(self._cycle(self._pending.popleft()))
            self._next += self._period()
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
        row = Row(values | {"TIME": (self._now - self._zero) % 99999.999, "STAT": float(status)})
        self._latest.append(row)
        return row

    def _noisy(self, value: float, absolute: float, relative: float) -> float:
        return self._random.gauss(value, (absolute**2 + (relative * value) ** 2) ** 0.5)

    # ------------------------------------------------------------------ trigger model and buffer

    def _levels(self) -> list[float | None]:
        """What each cycle sources: None for what is set already."""
        v = self._values
        count = round(v["arm count"] * v["trigger count"])
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

    def _start(self) -> list[float | None]:
        if not self._values["outp"] and not self._values["auto off"]:
            raise ScpiError(codec.NOT_PERMITTED_OFF, TEXTS[803])
        self._latest = []
        return self._levels()

    def _read(self) -> str:
        self._pending.clear()
        for level in self._start():
            self._busy += self._period()
            self._store(self._cycle(level))
        return self._fetch()

    def _fetch(self) -> str:
        if not self._latest:
            raise ScpiError(-230)
        return ",".join(map(self._shown, self._latest))

    def _shown(self, row: Row) -> str:
        return codec.format_reading(self._values["elements"], row.values)

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

    def _sensed(self) -> str:
        show = {"VOLT": '"VOLT:DC"', "CURR": '"CURR:DC"', "RES": '"RES"'}
        return ",".join(show[f] for f in NAMES if f in self._values["sense"])

    # ------------------------------------------------------------------ the table of headers

    def _table(self) -> Iterator[Entry]:
        yield from self._source()
        yield from self._senses()
        yield from self._triggering()
        yield from self._system()

    def _keep(self, header: str, key: str, kind: Kind) -> Entry:
        return setting(header, key, kind, self._values)

    def _checked(self, header: str, key: str, kind: Numeric, write: Any) -> Entry:
        """A setting with rules of its own; asked like any other."""
        plain = self._keep(header, key, kind)
        return Entry(header, write, plain.read, plain.takes, plain.asks)

    def _source(self) -> Iterator[Entry]:
        v, keep = self._values, self._keep
        for f, top in (("VOLT", codec.VOLTAGE), ("CURR", codec.CURRENT)):
            root, number = f":SOURce[1]:{NAMES[f]}", Numeric(-top, top, 0.0, UNIT[f])
            for tail in ("[:LEVel][:IMMediate][:AMPlitude]", "[:LEVel]:TRIGgered[:AMPlitude]"):
                yield self._checked(root + tail, f"level {f}", number, lambda x, f=f: self._set_level(f, x))
            yield self._checked(
                f"{root}:RANGe", f"source range {f}", number,
                lambda x, f=f: v.update(
                    {f"source range {f}": min(self._range_of(f, abs(x))) / 1.05, f"source autorange {f}": False}
                ),
            )  # fmt: skip
            v[f"source range {f}"] = RANGES[f][2] / 1.05
            yield keep(f"{root}:RANGe:AUTO", f"source autorange {f}", Boolean(True))
            yield keep(f"{root}:MODE", f"mode {f}", Choice(("FIXed", "SWEep", "LIST"), "FIX"))
            yield keep(f"{root}:STARt", f"start {f}", number)
            yield keep(f"{root}:STOP", f"stop {f}", number)
            yield self._checked(f"{root}:STEP", f"step {f}", number, lambda x, f=f: self._set_step(f, x))
            yield Entry(
                f":SOURce[1]:LIST:{NAMES[f]}", lambda *x, f=f: self._list.update({f: list(x)}),
                lambda f=f: ",".join(f"{x:.6E}" for x in self._list[f]), (number,), rest=number,
            )  # fmt: skip
            yield Entry(f":SOURce[1]:LIST:{NAMES[f]}:POINts", read=lambda f=f: str(len(self._list[f])))
        yield keep(":SOURce[1]:VOLTage:PROTection[:LEVel]", "protection", Numeric(-210, 210, 210, "V"))
        yield Entry(":SOURce[1]:VOLTage:PROTection[:LEVel]:TRIPped", read=lambda: "0")
        function = Choice(("VOLTage", "CURRent", "MEMory"), "VOLT")
        v["func"] = "VOLT"
        yield Entry(":SOURce[1]:FUNCtion[:MODE]", self._set_function, lambda: v["func"], (function,))
        yield keep(":SOURce[1]:FUNCtion:SHAPe", "shape", Choice(("DC",), "DC"))
        yield keep(":SOURce[1]:DELay", "delay", Numeric(0, 9999.999, 0, "S"))
        yield keep(":SOURce[1]:DELay:AUTO", "delay auto", Boolean(True))
        yield keep(":SOURce[1]:SWEep:SPACing", "spacing", Choice(("LINear", "LOGarithmic"), "LIN"))
        yield keep(":SOURce[1]:SWEep:POINts", "points", Numeric(1, 2500, 2500, whole=True))
        yield keep(":SOURce[1]:SWEep:DIRection", "direction", Choice(("UP", "DOWN"), "UP"))
        yield keep(":SOURce[1]:SWEep:RANGing", "ranging", Choice(("BEST", "AUTO", "FIXed"), "BEST"))
        yield Entry(":SOURce[1]:CLEar[:IMMediate]", write=lambda: v.update(outp=False))
        yield keep(":SOURce[1]:CLEar:AUTO", "auto off", Boolean())
        yield keep(":SOURce[1]:CLEar:AUTO:MODE", "auto off mode", Choice(("ALWays", "TCOunt"), "ALW"))
        yield keep(":OUTPut[1][:STATe]", "outp", Boolean())
        yield keep(":OUTPut[1]:SMODe", "off state", Choice(("HIMPedance", "NORMal", "ZERO", "GUARd"), "NORM"))
        yield keep(":OUTPut[1]:ENABle[:STATe]", "output enable", Boolean())
        yield Entry(":OUTPut[1]:ENABle:TRIPped", read=lambda: "1")

    def _senses(self) -> Iterator[Entry]:
        v, keep = self._values, self._keep
        bounds = {"VOLT": (-210.0, 210.0), "CURR": (-1.05, 1.05), "RES": (0.0, 2.1e8)}
        for f, name in NAMES.items():
            root, number = f"[:SENSe[1]]:{name}" + ("" if f == "RES" else "[:DC]"), Numeric(*bounds[f], unit=UNIT[f])
            yield self._checked(
                f"{root}:RANGe[:UPPer]", f"range {f}", number, lambda x, f=f: self._set_range(f, x)
            )  # fmt: skip
            v[f"range {f}"] = {"VOLT": 20.0, "CURR": 1e-4, "RES": 2.1e5}[f]
            yield keep(f"{root}:RANGe:AUTO", f"autorange {f}", Boolean(True))
            # One setting for all functions: the speed is global (18-70).
            yield Entry(
                f"{root}:NPLCycles", lambda x: v.update({f"nplc {g}": x for g in NAMES}),
                keep("X", f"nplc {f}", Numeric(0.01, 10, 1, form="{:.2f}")).read,
                (Numeric(0.01, 10, 1),), (Choice(("MINimum", "MAXimum", "DEFault")),),
            )  # fmt: skip
            if f != "RES":
                default = {"VOLT": 21.0, "CURR": 1.05e-4}[f]
                yield self._checked(
                    f"{root}:PROTection[:LEVel]", f"limit {f}", Numeric(*bounds[f], default, UNIT[f]),
                    lambda x, f=f: self._set_limit(f, x),
                )  # fmt: skip
                yield Entry(f"{root}:PROTection:TRIPped", read=lambda f=f: self._tripped(f))
                yield keep(f"{root}:PROTection:RSYNchronize", "range sync", Boolean())
        yield keep("[:SENSe[1]]:RESistance:MODE", "ohms mode", Choice(("MANual", "AUTO"), "AUTO"))
        yield keep("[:SENSe[1]]:RESistance:OCOMpensated", "ohms compensation", Boolean())
        which = Choice(("VOLTage[:DC]", "CURRent[:DC]", "RESistance"), quoted=True)
        v["sense"] = ["CURR"]
        yield Entry("[:SENSe[1]]:FUNCtion[:ON]", self._sense, self._sensed, (which,), rest=which)
        yield Entry("[:SENSe[1]]:FUNCtion[:ON]:ALL", lambda: v.update(sense=list(NAMES)))
        yield Entry("[:SENSe[1]]:FUNCtion[:ON]:COUNt", read=lambda: str(len(v["sense"])))
        yield Entry(
            "[:SENSe[1]]:FUNCtion:OFF",
            lambda *off: v.update(sense=[f for f in v["sense"] if f not in {o.partition(":")[0] for o in off}]),
            takes=(which,), rest=which,
        )  # fmt: skip
        yield Entry("[:SENSe[1]]:FUNCtion:OFF:ALL", lambda: v.update(sense=[]))
        yield Entry(
            "[:SENSe[1]]:FUNCtion:STATe", read=lambda f: "1" if f.partition(":")[0] in v["sense"] else "0",
            asks=(which,), asks_at_least=1,
        )  # fmt: skip
        yield keep("[:SENSe[1]]:FUNCtion:CONCurrent", "concurrent", Boolean(True))
        yield keep("[:SENSe[1]]:AVERage[:STATe]", "filter", Boolean())
        yield keep("[:SENSe[1]]:AVERage:COUNt", "filter count", Numeric(1, 100, 10, whole=True))
        yield keep("[:SENSe[1]]:AVERage:TCONtrol", "filter type", Choice(("REPeat", "MOVing"), "REP"))
        yield Entry("[:SENSe[1]]:DATA[:LATest]", read=self._fetch)

    def _triggering(self) -> Iterator[Entry]:
        v, keep = self._values, self._keep
        source = ("IMMediate", "TLINk", "TIMer", "MANual", "BUS", "NSTest", "PSTest", "BSTest")
        count, line = Numeric(1, 2500, 1, whole=True), Numeric(1, 4, 1, whole=True)
        for layer, events in (("TRIGger", ("SOURce", "DELay", "SENSe", "NONE")), ("ARM", ("TENTer", "TEXit", "NONE"))):
            root, key = f":{layer}[:SEQuence[1]][:LAYer[1]]", layer.lower()
            yield keep(f"{root}:COUNt", f"{key} count", count)
            yield keep(f"{root}:SOURce", f"{key} source", Choice(source, "IMM"))
            yield keep(f"{root}:OUTPut", f"{key} output", Choice(events, "NONE"))
            yield keep(f"{root}:DIRection", f"{key} direction", Choice(("SOURce", "ACCeptor"), "ACC"))
            for tail, at in (("", 1), ("[:TCONfigure][:ASYNchronous]", 1)):
                yield keep(f"{root}{tail}:ILINe", f"{key} input line", Numeric(1, 4, at, whole=True))
                yield keep(f"{root}{tail}:OLINe", f"{key} output line", line)
        yield keep(":TRIGger[:SEQuence[1]]:DELay", "trigger delay", Numeric(0, 999.9999, 0, "S"))
        yield keep(":ARM[:SEQuence[1]][:LAYer[1]]:TIMer", "arm timer", Numeric(0.001, 99999.99, 0.1, "S"))
        yield Entry(":TRIGger:CLEar", write=lambda: None)
        yield Entry(":INITiate[:IMMediate]", write=self._initiate)
        yield Entry(":ABORt", write=self._abort)
        yield Entry("*TRG", write=lambda: None)
        yield Entry(":READ", read=self._read)
        yield Entry(":FETCh", read=self._fetch)
        yield Entry(":CONFigure", read=self._sensed)
        yield Entry(":MEASure", read=self._measure)
        for f, name in NAMES.items():
            full = name + ("" if f == "RES" else "[:DC]")
            yield Entry(f":CONFigure:{full}", write=lambda f=f: self._configure(f))
            yield Entry(f":MEASure:{full}", read=lambda f=f: self._measure(f))
        yield keep(":TRACe:POINts", "trace points", Numeric(1, 2500, 100, whole=True))
        yield Entry(":TRACe:POINts:ACTual", read=lambda: str(len(self._trace)))
        yield Entry(":TRACe:CLEar", write=self._clear_trace)
        yield Entry(":TRACe:FREE", read=lambda: f"{(2500 - len(self._trace)) * 50},{len(self._trace) * 50}")
        yield keep(":TRACe:FEED", "feed", Choice(("SENSe[1]", "CALCulate[1]", "CALCulate2"), "SENS"))
        v["feed control"] = "NEV"
        yield Entry(
            ":TRACe:FEED:CONTrol", self._feed, lambda: v["feed control"], (Choice(("NEXT", "NEVer")),)
        )  # fmt: skip
        yield keep(":TRACe:TSTamp:FORMat", "timestamp", Choice(("ABSolute", "DELTa"), "ABS"))
        yield Entry(":TRACe:DATA", read=lambda: ",".join(map(self._shown, self._trace)) or _stale())
        statistics = ("MEAN", "SDEViation", "MAXimum", "MINimum", "PKPK")
        yield keep(":CALCulate3:FORMat", "statistics", Choice(statistics, "MEAN"))
        yield Entry(":CALCulate3:DATA", read=self._statistics)

    def _system(self) -> Iterator[Entry]:
        v, keep = self._values, self._keep
        element = Choice(("VOLTage", "CURRent", "RESistance", "TIME", "STATus"))
        v["elements"] = codec.ELEMENTS
        yield Entry(
            ":FORMat:ELEMents[:SENSe[1]]", lambda *e: v.update(elements=tuple(x for x in codec.ELEMENTS if x in e)),
            lambda: ",".join(v["elements"]), (element,), rest=element,
        )  # fmt: skip
        yield keep(":FORMat[:DATA]", "format", Choice(("ASCii",), "ASC"))
        yield keep(":FORMat:BORDer", "byte order", Choice(("NORMal", "SWAPped"), "NORM"))
        yield keep(":ROUTe:TERMinals", "terminals", Choice(("FRONt", "REAR"), "FRON"))
        yield keep(":SYSTem:RSENse", "four-wire", Boolean())
        v["autozero"] = True
        yield Entry(
            ":SYSTem:AZERo[:STATe]", self._autozero, lambda: "1" if v["autozero"] else "0", (Text(bare=True),)
        )  # fmt: skip
        yield keep(":SYSTem:LFRequency", "line", Numeric(50, 60, 50, whole=True))
        yield keep(":SYSTem:LFRequency:AUTO", "line auto", Boolean(True))
        yield Entry(":SYSTem:TIME", read=lambda: f"{(self._now - self._zero) % 99999.999:.6f}")
        yield Entry(":SYSTem:TIME:RESet", write=self._reset_time)
        yield keep(":SYSTem:TIME:RESet:AUTO", "time reset", Boolean())
        yield Entry(
            ":SYSTem:BEEPer[:IMMediate]", write=lambda f, t: None, takes=(Numeric(65, 2e6), Numeric(0, 7.9))
        )  # fmt: skip
        yield keep(":SYSTem:BEEPer:STATe", "beeper", Boolean(True))
        yield keep(":SYSTem:RCMode", "cable mode", Choice(("SINGle", "MULTiple"), "SING"))
        yield keep(":SYSTem:GUARd", "guard", Choice(("OHMS", "CABLe"), "CABL"))
        for header in (":SYSTem:LOCal", ":SYSTem:REMote", ":TRACe:TSTamp:RESet"):
            yield Entry(header, write=lambda: None)
        yield keep(":SYSTem:RWLock", "lockout", Boolean())
        yield Entry(":SYSTem:PRESet", write=self._reset)
        yield Entry(":SYSTem:VERSion", read=lambda: "1996.0")  # 18-112
        yield keep(":DISPlay:ENABle", "display", Boolean(True))
        yield keep(":DISPlay:DIGits", "digits", Numeric(4, 7, 5, whole=True))
        yield Entry(":DISPlay:CNDisplay", write=lambda: None)
        yield keep(":DISPlay[:WINDow#]:TEXT:DATA", "text", Text(""))
        yield keep(":DISPlay[:WINDow#]:TEXT:STATe", "text on", Boolean())
        yield Entry("*OPT", read=lambda: "0")
        memory = Numeric(0, 4, whole=True)
        yield Entry("*SAV", lambda n: self._saved.update({int(n): dict(v)}), takes=(memory,))
        yield Entry("*RCL", lambda n: v.update(self._saved.get(int(n), self._defaults), outp=False), takes=(memory,))
        for header in (":STATus:QUEue:CLEar", ":SYSTem:CLEar"):
            yield Entry(header, write=lambda: self._scpi.errors.clear())
        for header in (":STATus:QUEue[:NEXT]", ":SYSTem:ERRor[:NEXT]"):
            yield Entry(header, read=self._error)
        yield Entry(":SYSTem:ERRor:ALL", read=self._all_errors)
        yield Entry(":STATus:PRESet", write=lambda: setattr(self, "_event_enable", 0))
        yield Entry(":STATus:MEASurement[:EVENt]", read=self._read_events)
        yield Entry(":STATus:MEASurement:CONDition", read=lambda: str(self._events))
        yield Entry(
            ":STATus:MEASurement:ENABle", lambda x: setattr(self, "_event_enable", int(x)),
            lambda: str(self._event_enable), (Numeric(0, 65535, whole=True),),
        )  # fmt: skip
        yield Entry("*CLS", write=self._clear_status)

    def _reset(self) -> None:
        self._values.update(self._defaults)
        self._pending.clear()
        self._latest, self._busy = [], 0.0
        self._drive()

    def _tripped(self, f: str) -> str:
        return "1" if f != self._values["func"] and self._operating_point()[2] else "0"

    def _autozero(self, text: str) -> None:
        if text.upper() != "ONCE":
            self._values["autozero"] = Boolean().parse(text)

    def _feed(self, control: str) -> None:
        if control == "NEXT":
            self._trace = []  # storing begins anew; what was there is overwritten
        self._values["feed control"] = control

    def _clear_trace(self) -> None:
        if self._values["feed control"] == "NEXT":
            raise ScpiError(800, TEXTS[800])
        self._trace = []
        self._events &= ~(BUFFER_FULL | BUFFER_AVAILABLE)

    def _reset_time(self) -> None:
        self._zero = self._now

    def _read_events(self) -> str:
        events, self._events = self._events, 0
        return str(events)

    def _clear_status(self) -> None:
        self._events = 0
        self._scpi.clear()

    def _error(self) -> str:
        error = self._scpi.errors.pop()
        return f'{error.code:+d},"{TEXTS.get(error.code, error.text)}"' if error.code else '0,"No error"'

    def _all_errors(self) -> str:
        found = [self._error()]
        while len(self._scpi.errors):
            found.append(self._error())
        return ",".join(found)


def _stale() -> str:
    raise ScpiError(-230)


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
