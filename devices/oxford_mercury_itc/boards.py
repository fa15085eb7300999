"""Boards of an emulated MercuryiTC and what each answers to: sensors with their loops, heaters, needle valve, gauges.

Nouns: manual issue 5, 8.3.4 to 8.3.5 (M of `codec`); D: mercuryitc 0.3 (AUX, calibration, excitation,
``SIG:PWR`` that is ``N/A``), PyMeasure 0.16, frappy (LVL), Lab::Measurement (answers of LVL).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from . import codec

Get = Callable[[], str]
Set = Callable[[str], bool]
Noun = tuple[str, tuple[Get, Set | None]]
"""A path, what it answers, and what it does if it can be set: False refuses the value."""


def shown(get: Callable[[], float], unit: str = "") -> tuple[Get, None]:
    """A number that is only told."""
    return lambda: f"{get():.4f}{unit}", None


def told(text: str) -> tuple[Get, None]:
    """A text that never changes."""
    return lambda: text, None


def number(thing: object, name: str, low: float, high: float, unit: str = "") -> tuple[Get, Set]:
    """A number within bounds, kept in an attribute."""

    def change(text: str) -> bool:
        value = parse(text, unit)
        if value is None or not low <= value <= high:
            return False
        setattr(thing, name, value)
        return True

    return (lambda: f"{getattr(thing, name):.4f}{unit}"), change


def switch(thing: object, name: str) -> tuple[Get, Set]:
    """ON or OFF, kept in an attribute."""

    def change(text: str) -> bool:
        if text in ("ON", "OFF"):
            setattr(thing, name, text == "ON")
        return text in ("ON", "OFF")

    return (lambda: "ON" if getattr(thing, name) else "OFF"), change


def parse(text: str, unit: str) -> float | None:
    """A number with or without its unit; None if it is none."""
    try:
        return codec.number(text, unit if text.endswith(unit) else "")
    except ValueError:
        return None


@dataclass
class Kept:
    """Settings that only answer, by path."""

    values: dict[str, str] = field(default_factory=dict)

    def text(self, path: str, default: str, *allowed: str) -> Noun:
        """A word, one of `allowed` if there are any."""
        self.values.setdefault(path, default)

        def change(text: str) -> bool:
            if not text or (allowed and text not in allowed):
                return False
            self.values[path] = text
            return True

        return path, (lambda: self.values[path], change)

    def number(self, path: str, default: float, low: float, high: float, form: str = ".4f") -> Noun:
        """A number within bounds."""
        self.values.setdefault(path, f"{default:{form}}")

        def change(text: str) -> bool:
            value = parse(text, "")
            if value is None or not low <= value <= high:
                return False
            self.values[path] = f"{value:{form}}"
            return True

        return path, (lambda: self.values[path], change)


class Board:
    """One board, by its identifier and kind: ``MB1.T1:TEMP``."""

    kind = ""

    def __init__(self, uid: str, serial: str) -> None:
        self.uid, self.serial = uid, serial
        self.kept = Kept()

    @property
    def root(self) -> str:
        return f"DEV:{self.uid}:{self.kind}"

    def nouns(self) -> Iterator[Noun]:
        """What every board has; paths after `root`."""
        yield self.kept.text("NICK", self.uid)
        yield "MAN:HVER", told("1.0")
        yield "MAN:FVER", told("1.12")
        yield "MAN:SERL", told(self.serial)


class Heater(Board):
    """A heater output. Power goes with the output: the controller linearises."""

    kind = "HTR"

    def __init__(self, uid: str, serial: str, heat: Callable[[float], None]) -> None:
        super().__init__(uid, serial)
        self.voltage_limit, self.resistance, self.percent = 40.0, 20.0, 0.0
        self._heat = heat

    def drive(self, percent: float) -> None:
        """Give this much of the highest power."""
        self.percent = percent
        self._heat(percent / 100)

    @property
    def volts(self) -> float:
        return math.sqrt(self.percent / 100) * self.voltage_limit

    def nouns(self) -> Iterator[Noun]:
        yield from super().nouns()
        yield "VLIM", number(self, "voltage_limit", 0, 40)
        yield "RES", number(self, "resistance", 10, 2000)
        yield "PMAX", shown(lambda: self.voltage_limit**2 / self.resistance)
        yield "SIG:VOLT", (shown(lambda: self.volts, "V")[0], self._set_volts)
        yield "SIG:CURR", shown(lambda: self.volts / self.resistance, "A")
        yield "SIG:POWR", shown(lambda: self.volts**2 / self.resistance, "W")
        yield "SIG:PWR", told("N/A")

    def _set_volts(self, text: str) -> bool:
        value = parse(text, "V")
        if value is None or not 0 <= value <= self.voltage_limit:
            return False
        self.drive((value / self.voltage_limit) ** 2 * 100 if self.voltage_limit else 0.0)
        return True


class Valve(Board):
    """A needle valve by a stepper motor (AUX)."""

    kind = "AUX"
    STEPS = 10_000

    def __init__(self, uid: str, serial: str) -> None:
        super().__init__(uid, serial)
        self.percent = 0.0

    def nouns(self) -> Iterator[Noun]:
        yield from super().nouns()
        yield self.kept.number("GMIN", 1.0, 1.0, 100.0)
        yield self.kept.number("GFSF", 1.0, 0.0, 99.0)
        yield self.kept.number("TES", 1.0, 0.0, 20.0)
        yield self.kept.number("TVES", 1.0, 0.0, 20.0)
        yield self.kept.number("GEAR", 0, 0, 7, ".0f")
        yield self.kept.number("SPD", 1, 0, 2, ".0f")
        yield "SIG:STEP", shown(lambda: self.percent / 100 * self.STEPS)
        yield "SIG:PERC", shown(lambda: self.percent, "%")
        yield "SIG:IN", told("0")


class Flow:
    """The part of a loop that opens a needle valve."""

    def __init__(self) -> None:
        self.flow_auto, self.flow = False, 0.0
        self.valve: Valve | None = None

    def flow_nouns(self, kept: Kept) -> Iterator[Noun]:
        yield kept.text("LOOP:AUX", self.valve.uid if self.valve else "None")
        yield "LOOP:FAUT", switch(self, "flow_auto")
        yield "LOOP:FSET", (lambda: f"{self.flow:.4f}", self._open)

    def _open(self, text: str) -> bool:
        value = parse(text, "%")
        if value is None or not 0 <= value <= 100:
            return False
        self.flow = value
        if self.valve is not None:
            self.valve.percent = value
        return True


class Sensor(Board, Flow):
    """A thermometer and its loop. `measure`: what it measures, K, noise included."""

    kind = "TEMP"

    def __init__(self, uid: str, serial: str, measure: Callable[[], float], heater: Heater, p: float, i: float) -> None:
        Board.__init__(self, uid, serial)
        Flow.__init__(self)
        self.measure, self.heater = measure, heater
        self.hot, self.cold = codec.HOTTEST, 0.0
        self.target = 0.0  # K
        self.ramping, self.rate = False, 1.0  # K/min
        self.enabled, self.manual, self.output = False, 0.0, 0.0  # %
        self.p, self.i, self.d = p, i, 0.0  # % per K, min, min
        self.zones = False
        self._sum = 0.0
        self.measured = self.setpoint = measure()

    def nouns(self) -> Iterator[Noun]:
        yield from super().nouns()
        kept, loop = self.kept, "LOOP"
        yield kept.text("TYPE", "PTC", "PTC", "NTC", "DDE", "TCE")
        yield kept.text("EXCT:TYPE", "UNIP", "UNIP", "BIP", "SOFT")
        yield kept.number("EXCT:MAG", 100.0, 0.0, 1e6)
        yield from self.flow_nouns(kept)
        yield f"{loop}:D", number(self, "d", 0, 299.9)
        yield kept.text(f"{loop}:HTR", self.heater.uid)
        yield f"{loop}:I", number(self, "i", 0, 199.9)
        yield f"{loop}:HSET", (lambda: f"{self.output:.4f}", self._set_output)
        yield f"{loop}:PIDT", switch(self, "zones")
        yield kept.text(f"{loop}:THTF", "None")
        yield kept.text(f"{loop}:SWFL", "None")
        yield kept.text(f"{loop}:SWMD", "FIX", "FIX", "SWP")
        yield f"{loop}:ENAB", (switch(self, "enabled")[0], self._set_enabled)
        yield f"{loop}:P", number(self, "p", 0, 199.9)
        yield f"{loop}:TSET", (lambda: f"{self.target:.4f}K", self._set_target)
        yield f"{loop}:RENA", switch(self, "ramping")
        yield f"{loop}:RSET", number(self, "rate", 0, codec.FASTEST, "K/m")
        yield kept.text("CAL:FILE", "PT100.dat")
        yield kept.text("CAL:INT", "LIN", "LIN", "SPL", "LAGR")
        yield kept.number("CAL:SCAL", 1.0, 0.5, 1.5)
        yield kept.number("CAL:OFFS", 0.0, -100.0, 100.0)
        yield "CAL:HOTL", shown(lambda: self.hot, "K")
        yield "CAL:COLDL", shown(lambda: self.cold, "K")
        yield "SIG:VOLT", shown(lambda: 0.1 * self._ohm(), "mV")
        yield "SIG:CURR", shown(lambda: 100.0, "uA")
        yield "SIG:POWR", shown(lambda: 0.01 * self._ohm(), "uW")
        yield "SIG:TEMP", shown(lambda: self.measured, "K")
        yield "SIG:RES", shown(self._ohm, "O")
        yield "SIG:SLOP", shown(lambda: 0.3851, "O/K")

    def cycle(self, seconds: float) -> None:
        """Measure, move the setpoint, work out the output."""
        self.measured = self.measure()
        away, step = self.target - self.setpoint, self.rate / 60 * seconds
        self.setpoint += away if not self.ramping or abs(away) <= step else math.copysign(step, away)
        if not self.enabled:
            self.setpoint = self.measured  # from where it will ramp once it is on
            self._drive(self.manual)
            return
        proportional = (self.setpoint - self.measured) * self.p
        total = self._sum + (proportional * seconds / (self.i * 60) if self.i else 0.0)
        output = min(max(proportional + total, 0.0), 100.0)
        self._sum = total if output == proportional + total else min(max(self._sum, 0.0), 100.0)
        self._drive(output)

    def _drive(self, percent: float) -> None:
        self.output = percent
        self.heater.drive(percent)

    def _set_target(self, text: str) -> bool:
        value = parse(text, "K")
        if value is None or not self.cold <= value <= self.hot:
            return False
        self.target = value
        return True

    def _set_output(self, text: str) -> bool:
        value = parse(text, "%")
        if value is None or not 0 <= value <= 100:
            return False
        self.manual = value
        if not self.enabled:
            self._drive(value)
        return True

    def _set_enabled(self, text: str) -> bool:
        if text not in ("ON", "OFF"):
            return False
        self.enabled = text == "ON"
        self._sum = self.manual = self.output  # each mode begins where the other was
        return True

    def _ohm(self) -> float:
        return 100 + 0.385 * (self.measured - 273.15)


class Gauge(Board, Flow):
    """A pressure board; its loop only remembers. `pressure`: mbar."""

    kind = "PRES"

    def __init__(self, uid: str, serial: str, pressure: Callable[[], float]) -> None:
        Board.__init__(self, uid, serial)
        Flow.__init__(self)
        self.pressure = pressure
        self.enabled, self.target, self.p, self.i, self.d = False, 0.0, 1.0, 1.0, 0.0

    def nouns(self) -> Iterator[Noun]:
        yield from super().nouns()
        yield from self.flow_nouns(self.kept)
        yield "LOOP:ENAB", switch(self, "enabled")
        yield "LOOP:PRST", number(self, "target", 0, 2000, "mB")
        for name in "pid":
            yield f"LOOP:{name.upper()}", number(self, name, 0, 1000)
        yield "SIG:PRES", shown(self.pressure, "mB")
        yield "SIG:VOLT", shown(lambda: self.pressure() * 5, "mV")


class Levels(Board):
    """A level meter for helium and nitrogen, both half full."""

    kind = "LVL"

    def nouns(self) -> Iterator[Noun]:
        yield from super().nouns()
        yield "SIG:HEL:LEV", told("56.3938%")
        yield "SIG:HEL:RES", told("47.8665O")
        yield "SIG:NIT:LEV", told("61.2000%")
        yield "SIG:NIT:COUN", told("10000.0000n")
        yield self.kept.text("HEL:PULS:SLOW", "ON", "ON", "OFF")
