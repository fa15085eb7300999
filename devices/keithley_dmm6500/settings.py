"""Settings of an emulated multimeter: what each function has, kept for the terminals and for each channel.

Headers as PyMeasure, QCoDeS and fixate send them, completed after the 2450's Reference Manual, 2450-901-01
Rev. B, section 6. Settings answer as the real one did in PyMeasure's tests: ``0.0166667``, ``8.33e-06``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from devices.keithley_buffers import SIGNS
from hal.protocols.scpi import Entry
from hal.protocols.scpi_parameters import Boolean, Choice, Kind, Numeric, ScpiError, Steps, Text

from . import codec
from .codec import DIGITIZERS, FUNCTIONS, Function
from .scanner import CHANNELS, Channels, Scanner

ALL = FUNCTIONS | DIGITIZERS


class Which:
    """What a question may add: a bound, or a list of channels."""

    def parse(self, text: str) -> str | tuple[int, ...]:
        if text.startswith("("):
            return Channels().parse(text)
        return Choice(("MINimum", "MAXimum", "DEFault")).parse(text)

    def show(self, value: Any) -> str:
        return str(value)


class Settings:
    """The settings by channel, 0 for the terminals, and their part of the table of headers."""

    def __init__(self, scanner: Scanner, line: float, signal: Callable[[str], float]) -> None:
        self._scanner, self._line, self._signal = scanner, line, signal
        self._factory: dict[str, Any] = {"func": "VOLT", "digitizer": "NONE"}
        self._store: list[dict[str, Any]] = []

    def reset(self) -> None:
        self._store = [dict(self._factory) for _ in range(CHANNELS + 1)]

    @property
    def active(self) -> dict[str, Any]:
        """Those in use: of the closed channel, or of the terminals."""
        return self._store[self._scanner.closed]

    @property
    def function(self) -> str:
        """What is measured: a key of `ALL`."""
        s = self.active
        if s["digitizer"] != "NONE":
            return f"DIG:{s['digitizer']}"
        return "VOLT" if s["func"] == "NONE" else str(s["func"])

    def chosen(self, channels: tuple[int, ...]) -> list[dict[str, Any]]:
        """Those of these channels, or the active ones. Raises `ScpiError`."""
        return [self._store[channel] for channel in self._scanner.check(channels)] if channels else [self.active]

    # ------------------------------------------------------------------ the table of headers

    def table(self) -> Iterator[Entry]:
        yield self._kept("[:SENSe[1]]:COUNt", "count", Numeric(1, 1e6, 1, whole=True))
        for f, function in ALL.items():
            yield from self._of_any(f, function, f"[:SENSe[1]]:{function.header}")
        yield from self._of_some()
        yield from self._of_digitizers("[:SENSe[1]]:DIGitize")

    def _of_digitizers(self, root: str) -> Iterator[Entry]:
        yield self._kept(f"{root}:COUNt", "digitize count", Numeric(1, 5.5e7, 1e4, whole=True))
        for f, name in (("DIG:VOLT", "VOLTage"), ("DIG:CURR", "CURRent")):
            yield self._kept(f"{root}:{name}:SRATe", f"{f} rate", Numeric(1000, 1e6, 1e6, whole=True))
            yield self._kept(f"{root}:{name}:APERture", f"{f} aperture", Text("AUTO", bare=True))
        impedance = Choice(("AUTO", "MOHM10"), "MOHM10")
        yield self._kept(f"{root}:VOLTage:INPutimpedance", "DIG:VOLT impedance", impedance)

    def _of_any(self, f: str, function: Function, root: str) -> Iterator[Entry]:
        """What each function has."""
        kept, wide = self._kept, Numeric(-1e12, 1e12, 0.0, form="{:.6g}")
        offset = Numeric(-function.relative, function.relative, 0.0, form="{:.6g}")
        yield kept(f"{root}:RELative", f"{f} relative", offset)
        yield kept(f"{root}:RELative:STATe", f"{f} relative on", Boolean())
        yield kept(f"{root}:AVERage[:STATe]", f"{f} filter", Boolean())
        yield kept(f"{root}:AVERage:COUNt", f"{f} filter count", Numeric(1, 100, 10, whole=True))
        yield kept(f"{root}:AVERage:TCONtrol", f"{f} filter type", Choice(("REPeat", "MOVing", "HYBRid"), "REP"))
        yield kept(f"{root}:AVERage:WINDow", f"{f} filter window", Numeric(0, 10, 0, form="{:.6g}"))
        yield kept(f"{root}:DELay:AUTO", f"{f} delay auto", Boolean(True))
        yield kept(f":DISPlay:{function.header}:DIGits", f"{f} digits", Numeric(3, 6, 6, whole=True))
        math_root = f":CALCulate[1]:{function.header}:MATH"
        yield kept(f"{math_root}:STATe", f"{f} math", Boolean())
        yield kept(f"{math_root}:FORMat", f"{f} math form", Choice(("MXB", "PERCent", "RECiprocal"), "PERC"))
        yield kept(f"{math_root}:MMFactor", f"{f} m", Numeric(-1e12, 1e12, 1.0, form="{:.6g}"))
        yield kept(f"{math_root}:MBFactor", f"{f} b", wide)
        yield kept(f"{math_root}:PERCent", f"{f} percent", Numeric(-1e12, 1e12, 1.0, form="{:.6g}"))
        if function.cycles:
            most = 15.0 if self._line == 60.0 else 12.0
            cycles = Numeric(codec.NPLC[0], most, 1.0, form="{:.6g}")
            yield kept(f"{root}:NPLCycles", f"{f} nplc", cycles)
            # Its bounds are rounded: 8.33e-6 s at 60 Hz (PyMeasure's tests on a real one).
            least, usual = (float(f"{n / self._line:{form}}") for n, form in ((codec.NPLC[0], ".3g"), (1, ".6g")))
            yield self._kept(
                f"{root}:APERture", f"{f} nplc", Numeric(least, most / self._line, usual, "s", "{:.6g}"), self._line
            )
            yield kept(f"{root}:AZERo[:STATe]", f"{f} autozero", Boolean(True))
            yield kept(f"{root}:LINE:SYNC", f"{f} line sync", Boolean())
        if function.ranges:
            top, sign = 2 * function.ranges[-1], SIGNS.get(function.unit, function.unit)
            ranges = Steps(-top, top, unit=sign, form="{:.6g}", of=function.ranges)
            yield self._ranging(f, f"{root}:RANGe[:UPPer]", ranges)
            yield kept(f"{root}:RANGe:AUTO", f"{f} autorange", Boolean(True))

    def _of_some(self) -> Iterator[Entry]:
        """What some functions have."""
        kept, sense = self._kept, "[:SENSe[1]]"
        for f in ("VOLT:AC", "CURR:AC"):
            band = Steps(3, 300, 3, form="{:.6g}", of=(3.0, 30.0, 300.0))
            yield kept(f"{sense}:{FUNCTIONS[f].header}:DETector:BANDwidth", f"{f} bandwidth", band)
        for f in ("VOLT", "VOLT:AC"):
            root = f"{sense}:{FUNCTIONS[f].header}"
            yield kept(f"{root}:UNIT", f"{f} unit", Choice(("VOLT", "DB", "DBM"), "VOLT"))
            yield kept(f"{root}:DB:REFerence", f"{f} db", Numeric(1e-7, 1000, 1, "V", "{:.6g}"))
            yield kept(f"{root}:DBM:REFerence", f"{f} dbm", Numeric(1, 9999, 75, form="{:.6g}"))
        for f in ("VOLT", "VOLT:RAT"):
            root = f"{sense}:{FUNCTIONS[f].header}:INPutimpedance"
            yield kept(root, f"{f} impedance", Choice(("AUTO", "MOHM10"), "MOHM10"))
        yield kept(f"{sense}:VOLTage[:DC]:RATio:RELative:METHod", "method", Choice(("PARTs", "RESult"), "PART"))
        for f in ("FREQ", "PER"):
            root = f"{sense}:{FUNCTIONS[f].header}"
            yield kept(f"{root}:APERture", f"{f} aperture", Numeric(2e-3, 273e-3, 200e-3, "s", "{:.6g}"))
            steps = Steps(0, 750, 10, form="{:.6g}", of=(0.1, 1.0, 10.0, 100.0, 750.0))
            yield kept(f"{root}:THReshold:RANGe", f"{f} threshold range", steps)
            yield kept(f"{root}:THReshold:RANGe:AUTO", f"{f} threshold autorange", Boolean(True))
            yield kept(f"{root}:THReshold:LEVel", f"{f} threshold", Numeric(-1050, 1050, 0, "V", "{:.6g}"))
        for f in ("RES", "FRES"):
            root = f"{sense}:{FUNCTIONS[f].header}"
            yield kept(f"{root}:OCOMpensated", f"{f} compensated", Choice(("OFF", "ON", "AUTO", "0", "1"), "OFF"))
            yield kept(f"{root}:ODETector", f"{f} open detector", Boolean())
        bias = Steps(1e-5, 0.01, 1e-3, form="{:.6g}", of=(1e-5, 1e-4, 1e-3, 1e-2))
        yield kept(f"{sense}:DIODe:BIAS:LEVel", "DIOD bias", bias)
        root = f"{sense}:TEMPerature"
        yield kept(f"{root}:UNIT", "TEMP unit", Choice(("CELSius", "KELVin", "FAHRenheit"), "CELS"))
        transducers = Choice(("TCouple", "THERmistor", "RTD", "TRTD", "FRTD", "CJC2001"), "TC")
        yield kept(f"{root}:TRANsducer", "transducer", transducers)
        yield kept(f"{root}:TCouple:TYPE", "thermocouple", Choice(tuple("BEJKNRST"), "K"))
        yield kept(f"{root}:TCouple:RJUNction:SIMulated", "junction", Numeric(0, 65, 23, form="{:.6g}"))
        yield kept(f"{root}:ODETector", "TEMP open detector", Boolean(True))
        rtd = Choice(("PT100", "PT385", "PT3916", "D100", "F100", "USER"), "PT100")
        for wires in ("TWO", "THRee", "FOUR"):
            yield kept(f"{root}:RTD:{wires}", f"rtd {wires}", rtd)
        yield kept(f"{root}:THERmistor", "thermistor", Steps(0, 1e4, 5000, form="{:.6g}", of=(2252.0, 5000.0, 10000.0)))

    # ------------------------------------------------------------------ private

    def _kept(self, header: str, key: str, kind: Kind, scale: float = 1.0) -> Entry:
        """A setting that each channel has for itself; `scale`: of what is kept to what is shown."""
        self._factory.setdefault(key, getattr(kind, "default", None))

        def write(value: Any, channels: tuple[int, ...] = ()) -> None:
            for settings in self.chosen(channels):
                settings[key] = value * scale if scale != 1.0 else value

        def read(*given: Any) -> str:
            bound, channels = self._asked(given, kind)
            if bound is not None:
                return kind.show(bound)
            found = [settings[key] for settings in self.chosen(channels)]
            return ",".join(kind.show(value / scale if scale != 1.0 else value) for value in found)

        return Entry(header, write, read, (kind, Channels()), (Which(), Which()), 1)

    def _ranging(self, f: str, header: str, kind: Steps) -> Entry:
        ranges = ALL[f].ranges
        self._factory[f"{f} range"] = ranges[-1]

        def write(value: float, channels: tuple[int, ...] = ()) -> None:
            for settings in self.chosen(channels):
                settings |= {f"{f} range": value, f"{f} autorange": False}

        def read(*given: Any) -> str:
            bound, channels = self._asked(given, Numeric(ranges[0], ranges[-1], ranges[-1]))
            if bound is not None:
                return kind.show(bound)
            return ",".join(kind.show(self._range(settings, f)) for settings in self.chosen(channels))

        # Its bounds are its ranges': MIN is the smallest, MAX and DEF the greatest (PyMeasure).
        return Entry(header, write, read, (_Extent(kind, ranges), Channels()), (Which(), Which()), 1)

    @staticmethod
    def _asked(given: tuple[Any, ...], kind: Kind) -> tuple[float | None, tuple[int, ...]]:
        """The bound and the channels of a question."""
        bounds = [name for name in given if isinstance(name, str)]
        channels = next((some for some in given if isinstance(some, tuple)), ())
        if not bounds:
            return None, channels
        if not isinstance(kind, Numeric):
            raise ScpiError(-108)
        return kind.special(bounds[0]), channels

    def _range(self, s: dict[str, Any], f: str) -> float:
        if not s[f"{f} autorange"]:
            return float(s[f"{f} range"])
        value = abs(self._signal(f))
        return next((x for x in ALL[f].ranges if value <= x * codec.OVER_RANGE), ALL[f].ranges[-1])


@dataclass(frozen=True, slots=True)
class _Extent:
    """A range by the value it should hold, or by its bound."""

    steps: Steps
    ranges: tuple[float, ...]

    def parse(self, text: str) -> float:
        bound = Numeric(self.ranges[0], self.ranges[-1], self.ranges[-1]).special(text)
        return self.steps.parse(text) if bound is None else bound

    def show(self, value: float) -> str:
        return self.steps.show(value)
