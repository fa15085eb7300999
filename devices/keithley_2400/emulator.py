"""An emulated Keithley 2400 at the specimen's contacts: a table of SCPI headers and a load line.

Faithful where drivers of others look (QCoDeS's and PyMeasure's run against it). Simplified: the source
settles at once; a running trigger model does not hold other commands back; auto-ohms sources what was
sourced before; the over-voltage protection is stored but does not act.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devices.physics import World
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.scpi import Entry, Interpreter, setting
from hal.protocols.scpi_parameters import Boolean, Choice, Kind, Numeric, ScpiError, Text

from . import codec, stored
from .smu import BUFFER_AVAILABLE, BUFFER_FULL, IDLE, NAMES, RANGES, SWEEPING, TEXTS, Smu

LATENCY = 0.005  # s
IDENTITY = f"{codec.IDENTITY},1234567,C32   Oct  4 2010 14:20:11/A02  /S/K"
UNIT = {"VOLT": "V", "CURR": "A", "RES": "OHM"}
OPERATION_SUMMARY = 1 << 7
"""Bit of the status byte (15-7)."""


class Keithley2400Emulator(Smu):
    """A 2400 that biases ``world.voltage``. Setting: `seed`."""

    def __init__(self, world: World, *, unit: object = None, channel: object = None, seed: int = 2400) -> None:
        super().__init__(world, seed)
        self.reply_delay = LATENCY
        self._defaults: dict[str, Any] = {}
        self._saved: dict[int, dict[str, Any]] = {}
        self._event_enable = self._operation_enable = 0
        self._scpi = Interpreter(
            IDENTITY, list(self._table()), on_reset=self._reset,
            summary=lambda: (1 if self._events & self._event_enable else 0)
            | (OPERATION_SUMMARY if self._operation & self._operation_enable else 0),
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
        return reply if reply is None else self._blocks.insert(reply)

    def advance(self, dt: float) -> None:
        self.pass_time(dt)

    @property
    def errors(self) -> int:
        """Entries of the error queue not yet read."""
        return len(self._scpi.errors)

    @property
    def output(self) -> bool:
        """Whether the output is on."""
        return bool(self._values["outp"])

    # ------------------------------------------------------------------ the table of headers

    def _table(self) -> Iterator[Entry]:
        yield from self._source()
        yield from self._senses()
        yield from self._triggering()
        yield from self._system()
        yield from stored.table(self._values, self._reading, self._was_limited)

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
            for tail in ("[:LEVel][:IMMediate][:AMPLitude]", "[:LEVel]:TRIGgered[:AMPLitude]"):
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
            yield Entry(
                f":SOURce[1]:LIST:{NAMES[f]}:APPend", lambda *x, f=f: self._list[f].extend(x), takes=(number,),
                rest=number,
            )  # fmt: skip
            yield keep(f":SOURce[1]:LIST:{NAMES[f]}:STARt", f"list start {f}", Numeric(1, 100, 1, whole=True))
            yield keep(f"{root}:TRIGgered:SFACtor", f"factor {f}", Numeric(-9.999e9, 9.999e9, 1.0))
            yield keep(f"{root}:TRIGgered:SFACtor:STATe", f"factor on {f}", Boolean())
            yield Entry(f"{root}:CENTer", *self._middle(f), (number,))
            yield Entry(f"{root}:SPAN", *self._span(f), (number,))
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
        yield Entry("[:SENSe[1]]:FUNCtion:OFF", read=lambda: self._sensed(False))
        yield Entry("[:SENSe[1]]:FUNCtion:OFF:COUNt", read=lambda: str(len(NAMES) - len(v["sense"])))
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
        counts = {"TRIGger": count, "ARM": Endless(1, 2500, 1, whole=True)}
        for layer, events in (("TRIGger", ("SOURce", "DELay", "SENSe", "NONE")), ("ARM", ("TENTer", "TEXit", "NONE"))):
            root, key = f":{layer}[:SEQuence[1]][:LAYer[1]]", layer.lower()
            yield keep(f"{root}:COUNt", f"{key} count", counts[layer])
            yield keep(f"{root}:SOURce", f"{key} source", Choice(source, "IMM"))
            yield keep(f"{root}:OUTPut", f"{key} output", Choice(events, "NONE"))
            for tail in ("", ":TCONfigure"):
                yield keep(f"{root}{tail}:DIRection", f"{key} direction", Choice(("SOURce", "ACCeptor"), "ACC"))
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
        yield Entry(":TRACe:DATA", read=lambda: self._shown(self._trace) if self._trace else _stale())
        yield Entry(":TRACe:DATA:TYPE", read=lambda: v["feed"])
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
        form = keep(":FORMat[:DATA]", "format", Choice(("ASCii", "REAL", "SREal"), "ASC"))
        yield Entry(
            form.header, lambda name, *_: form.write(name) if form.write else None, form.read,
            (*form.takes, Numeric(0, 32, whole=True)), optional=1,
        )  # fmt: skip
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
        lock = keep(":SYSTem:RWLock", "lockout", Boolean())
        yield Entry(lock.header, lambda on=True: v.update(lockout=on), lock.read, lock.takes, optional=1)
        yield Entry(":SYSTem:PRESet", write=self._reset)
        yield Entry(":SYSTem:VERSion", read=lambda: "1996.0")  # 18-112
        yield keep(":DISPlay:ENABle", "display", Boolean(True))
        yield keep(":DISPlay:DIGits", "digits", Numeric(4, 7, 5, whole=True))
        yield Entry(":DISPlay:CNDisplay", write=lambda: None)
        yield keep(":DISPlay[:WINDow#]:TEXT[:DATA]", "text", Text(""))
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
        yield Entry(":SYSTem:ERRor:CODE:ALL", read=lambda: re.sub(r',"[^"]*"', "", self._all_errors()))
        yield Entry(":STATus:PRESet", write=self._preset_status)
        yield Entry(":STATus:OPERation[:EVENt]", read=self._read_operation)
        yield Entry(":STATus:OPERation:CONDition", read=lambda: str(self._condition()))
        yield Entry(
            ":STATus:OPERation:ENABle", lambda x: setattr(self, "_operation_enable", int(x)),
            lambda: str(self._operation_enable), (Numeric(0, 65535, whole=True),),
        )  # fmt: skip
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

    def _condition(self) -> int:
        """Of the operation register: idle, or sweeping."""
        if not self._pending:
            return IDLE
        return SWEEPING if self._values[f"mode {self._values['func']}"] != "FIX" else 0

    def _read_operation(self) -> str:
        events, self._operation = self._operation, 0
        return str(events)

    def _preset_status(self) -> None:
        self._event_enable = self._operation_enable = 0

    def _clear_status(self) -> None:
        self._events = self._operation = 0
        self._scpi.clear()

    def _error(self) -> str:
        error = self._scpi.errors.pop()
        return f'{error.code:+d},"{TEXTS.get(error.code, error.text)}"' if error.code else '0,"No error"'

    def _all_errors(self) -> str:
        found = [self._error()]
        while len(self._scpi.errors):
            found.append(self._error())
        return ",".join(found)


@dataclass(frozen=True, slots=True)
class Endless(Numeric):
    """A count that may be INFinite (18-116)."""

    def parse(self, text: str) -> float:
        return math.inf if text.upper() in ("INF", "INFINITE") else Numeric.parse(self, text)

    def show(self, value: float) -> str:
        return f"{codec.OVERFLOW:+.6E}" if value == math.inf else Numeric.show(self, value)


def _stale() -> str:
    raise ScpiError(-230)
