"""What an emulated Alicat's menu holds: units, averages, totalizers and batches, mixtures, and settings only kept.

Forms of questions and answers after the open drivers pyalicat 0.0.11, alicatlib 0.3.1 (answers it has seen from real
controllers are marked H there and here) and alicat 0.9; versions by the primer's table of contents. Unverified: the
values as delivered, what is refused, and what a mixture's making and FACTORY RESTORE ALL answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import codec
from .codec import REFUSAL
from .gases import Gases
from .totalizer import Totalizer

if TYPE_CHECKING:
    from .emulator import AlicatEmulator

NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+))"
AVERAGED = (1, 2, 4, 5, 6, 7, 17, 344, 352, 360)
"""Statistics that DCA takes (P, page 18)."""
ZERO_BAND = 6.38  # % of full scale, the widest (P, page 14)
BAUDS = (2400, 4800, 9600, 19200, 38400, 57600, 115200)
ABSENT = "-------"

# Settings that change nothing here: pattern of what may be set, value at first, first firmware, whether it needs a
# valve. The answer is the letter and the value.
KEPT: dict[str, tuple[str, str, tuple[int, int], bool]] = {
    "ZCP": ("[01]", "0", (10, 5), False),
    "ASRCA": (r"\d{1,2}", "0", (10, 5), False),
    "TCR": ("[01]", "0", (10, 5), False),
    "LCDM": ("[12]", "1", (10, 5), True),
    "LCA": ("[123]", "1", (10, 5), True),
    "LCZA": ("[01]", "0", (10, 5), True),
}
GAINS = {"LCGD": ("100 5000", 2), "LCG": ("100 500 0", 3), "LCVO": ("0.00 0.00", 2)}
"""Gains and valve offsets, which are set with ``save`` before them, and how many they are."""


class Menu:
    """The further settings of one controller."""

    def __init__(self, mfc: AlicatEmulator) -> None:
        self._mfc = mfc
        self.gases = Gases()
        self.users = ["", "", "", ""]
        self.restore()

    def restore(self) -> None:
        """As delivered."""
        self.kept = {name: initial for name, (_, initial, _, _) in KEPT.items()}
        self.kept |= {name: initial for name, (initial, _) in GAINS.items()}
        self.units = {2: 10, 3: 2}
        """Codes of pressure (statistic 2) and temperature (3)."""
        self.interval = 50  # ms of streaming (MC manual)
        self.averages = dict.fromkeys(AVERAGED, 1)
        self.signed = True
        """Whether the setpoint in the data frame has a sign."""
        self.zero_band = 0.0
        self.auto_tare: tuple[int, float] = (0, 1.0)
        self.deadband = 0.0
        self.flashes = False
        self.baud = 19200
        self.low = 0.0
        self.high: float | None = None
        """Greatest setpoint allowed (LR); None: full scale."""
        self.outputs = {"0": 5, "1": 5}
        self.states = {"S": self._mfc.standard_temperature, "N": 0.0}
        self.totalizers = (Totalizer(), Totalizer())

    # ------------------------------------------------------------------ what the controller asks it

    def pressure(self, psi: float) -> float:
        return psi * codec.PSI / codec.PRESSURES[self.units[2]][1]

    def temperature(self, celsius: float) -> float:
        return {2: celsius, 3: celsius * 1.8 + 32, 4: celsius + 273.15}[self.units[3]]

    def range(self) -> tuple[float, float]:
        """Of setpoints."""
        highest = self._mfc.highest()
        return self.low, highest if self.high is None else min(self.high, highest)

    def rescale(self, factor: float) -> None:
        """Flows are counted in another unit."""
        self.low *= factor
        self.high = None if self.high is None else self.high * factor
        for totalizer in self.totalizers:
            totalizer.total *= factor
            totalizer.batch *= factor

    def select_gas(self, number: int) -> bool:
        if number not in self.gases:
            return False
        self._mfc.gas = number
        return True

    # ------------------------------------------------------------------ commands

    def answer(self, text: str, said: str) -> str | None:
        """What is answered to anything that `emulator` does not know; `said` has small letters too."""
        mfc = self._mfc
        name, _, rest = text.partition(" ")
        for pattern, method, oldest in COMMANDS:
            if (found := re.fullmatch(pattern, said, re.IGNORECASE)) and mfc.version >= oldest:
                if mfc.meter and method in CONTROL:
                    return None
                act: Callable[..., str] = getattr(self, f"_{method}")
                reply = act(*found.groups())
                return reply if reply == REFUSAL or method == "values" else f"{mfc.letter} {reply}"
        if name in KEPT:
            pattern, _, oldest, of_valve = KEPT[name]
            if mfc.version >= oldest:
                return None if of_valve and mfc.meter else self._keep(name, pattern, rest.strip())
        if name in GAINS and mfc.version >= (10, 5):
            count = GAINS[name][1]
            return None if mfc.meter else self._keep(name, " +".join(["[01]", *[NUMBER] * count]), rest.strip())
        return REFUSAL

    def _keep(self, name: str, pattern: str, value: str) -> str:
        if value:
            found = re.fullmatch(pattern, value)
            if found is None:
                return REFUSAL
            self.kept[name] = " ".join(found.groups()) or value
        return f"{self._mfc.letter} {self.kept[name]}"

    def _values(self, milliseconds: str, statistics: str) -> str:
        """DV: no letter before the values (H); dashes for what it does not measure (H)."""
        if not 1 <= int(milliseconds) <= 9999:
            return REFUSAL
        self._mfc.reply_delay += int(milliseconds) / 1000
        return " ".join(self._value(int(number)) for number in statistics.split())

    def _value(self, statistic: int) -> str:
        mfc, d = self._mfc, self._mfc.decimals
        match statistic:
            case 2 | 66:
                return f"{self.pressure(14.70):+07.2f}"
            case 3 | 67:
                return f"{self.temperature(25.0):+07.2f}"
            case 4 | 5 | 68 | 69:
                return f"{mfc.shown:+07.{d}f}"
            case 37 | 32 if not mfc.meter:
                return f"{mfc.setpoint.current:+07.{d}f}"
            case 133 | 173 if not mfc.meter:
                return f"{mfc.shown - mfc.setpoint.current:+07.{d}f}"
            case 13:
                return f"{mfc.valve:+07.2f}"
            case 8 | 9 if self.totalizers[0].on:
                return self.totalizers[0].text()
            case 703:
                return self.gases.name(mfc.gas)
            case _:
                return ABSENT

    def _full_scale(self, statistic: str, unit: str | None) -> str:
        mfc = self._mfc
        if int(statistic) in (4, 5, 36, 37):
            label, full = mfc.capacity_unit, mfc.full_scale
            if unit is not None and int(unit):
                label = codec.UNIT_LABELS.get(int(unit), "")
                if not label:
                    return REFUSAL
                full *= mfc.sccm / codec.sccm(label, mfc.standard_temperature)
            decimals = max(0, 5 - len(str(int(full))))
            return f"{full:+.{decimals}f} {codec.UNIT_CODES.get(label.upper(), 0)} {label}"
        if int(statistic) in (2, 34):
            code = self.units[2]
            return f"{self.pressure(160.0):+.2f} {code} {codec.PRESSURES[code][0]}"
        return "0 1 ---"  # H

    def _unit(self, statistic: str, unit: str | None) -> str:
        """DCU: the statistic is not repeated (H)."""
        mfc, kind, code = self._mfc, int(statistic), None if unit is None else int(unit)
        if kind in (2, 34, 66):
            if code is not None:
                if code not in codec.PRESSURES:
                    return REFUSAL
                self.units[2] = code
            return f"{self.units[2]} {codec.PRESSURES[self.units[2]][0]}"
        if kind in (3, 67):
            if code is not None:
                if code not in codec.TEMPERATURES:
                    return REFUSAL
                self.units[3] = code
            return f"{self.units[3]} {codec.TEMPERATURES[self.units[3]]}"
        if kind not in (4, 5, 36, 37, 68, 69):
            return "1 ---"
        if code is not None:
            if code not in codec.UNIT_LABELS:
                return REFUSAL
            mfc.change_unit(codec.UNIT_LABELS[code])
        return f"{mfc.unit_code} {mfc.capacity_unit}"

    def _average(self, statistic: str, milliseconds: str | None) -> str:
        """DCA: the statistic is not repeated (H)."""
        if int(statistic) not in AVERAGED or (milliseconds is not None and int(milliseconds) > 9999):
            return REFUSAL
        if milliseconds is not None:
            self.averages[int(statistic)] = int(milliseconds)
        return str(self.averages[int(statistic)])

    def _band(self, value: str | None) -> str:
        if value is not None:
            if not 0.0 <= float(value) <= ZERO_BAND:
                return REFUSAL
            self.zero_band = float(value)
        return f"0 {self.zero_band:.2f}"

    def _reference_pressure(self, which: str, unit: str | None, value: str | None) -> str:
        if value is not None and abs(float(value) - 14.69595) > 1e-3:
            return REFUSAL  # only the usual pressure is emulated
        return "14.69595 10 PSIA"

    def _reference_temperature(self, which: str, unit: str | None, value: str | None) -> str:
        if value is not None:
            if unit is None or int(unit) not in (0, 2):
                return REFUSAL
            self.states[which.upper()] = float(value)
            if which.upper() == "S":
                self._mfc.standard_temperature = float(value)
        return f"{self.states[which.upper()]:.2f} 2 `C"

    def _tare_by_itself(self, on: str | None, delay: str | None) -> str:
        if on is not None:
            seconds = self.auto_tare[1] if delay is None else float(delay)
            if not 0.1 <= seconds <= 25.5:  # also of ZCA 0 0 (H)
                return REFUSAL
            self.auto_tare = int(on), seconds
        return f"{self.auto_tare[0]} {self.auto_tare[1]:.1f}"

    def _bits(self, value: str | None) -> str:
        if value is not None:
            if int(value) not in BAUDS:
                return REFUSAL
            self.baud = int(value)
        return str(self.baud)

    def _flash(self, seconds: str | None) -> str:
        if seconds is not None:
            self.flashes = seconds != "0"
        return str(int(self.flashes))

    def _arrange(self, form: str) -> str:
        """FDF: 0 leaves the sign of setpoint and totalizer away (D: pyalicat)."""
        self.signed = form != "0"
        return self._mfc.frame()[2:]

    def _user(self, slot: str, value: str | None) -> str:
        if value is not None:
            if len(value) > 32:
                return REFUSAL
            self.users[int(slot)] = value
        return f"{slot} {self.users[int(slot)]}" if self.users[int(slot)] else ""  # H

    def _rate(self, milliseconds: str | None) -> str:
        if milliseconds is not None:
            self.interval = int(milliseconds)
        return str(self.interval)

    def _output(self, which: str, statistic: str | None, unit: str | None) -> str:
        if statistic is not None:
            self.outputs[which] = int(statistic)
        value = self.outputs[which]
        if value in (4, 5, 36, 37):
            return f"{value} {self._mfc.unit_code} {self._mfc.capacity_unit}"
        return f"{value} {self.units[2]} {codec.PRESSURES[self.units[2]][0]}" if value in (2, 34) else f"{value} 1 ---"

    def _restore(self) -> str:
        self.restore()
        self.gases = Gases()
        return "FACTORY RESTORE ALL"

    # ------------------------------------------------------------------ gases

    def _gas(self, number: str | None) -> str:
        if number is not None and not self.select_gas(int(number)):
            return REFUSAL
        gas = self._mfc.gas
        name = self.gases.name(gas)
        return f"{gas} {name} {codec.LONG_NAMES.get(name, name)}"

    def _mix(self, name: str, number: str, parts: str) -> str:
        return self.gases.mix(name, int(number), parts)

    def _mixture(self, number: str) -> str:
        return self.gases.parts(int(number))

    def _unmix(self, number: str) -> str:
        if not self.gases.forget(int(number)):
            return REFUSAL
        if self._mfc.gas == int(number):
            self._mfc.gas = 0
        return number

    # ------------------------------------------------------------------ totalizers

    def _totalizer(self, which: str, statistic: str | None, rest: str | None) -> str:
        """TC: the number of the totalizer is repeated (H); -1 leaves a field as it is."""
        one = self.totalizers[int(which) - 1]
        if statistic is not None:
            mode, limit, digits, decimals = (int(n) for n in (rest or "-1 -1 -1 -1").split())
            wanted = int(statistic)
            if wanted not in (-1, 1, 4, 5) or mode not in range(-1, 4) or limit not in range(-1, 4):
                return REFUSAL
            if digits not in (-1, *range(7, 11)) or decimals not in range(-1, 10):
                return REFUSAL
            one.statistic = one.statistic if wanted == -1 else wanted
            one.mode, one.limit = one.mode if mode < 0 else mode, one.limit if limit < 0 else limit
            one.digits, one.decimals = one.digits if digits < 0 else digits, one.decimals if decimals < 0 else decimals
        return f"{which} {one.statistic} {one.mode} {one.limit} {one.digits} {one.decimals}"

    def _reset(self, which: str) -> str:
        self.totalizers[int(which) - 1].total = 0.0
        return self._mfc.frame()[2:]

    def _peak(self, which: str) -> str:
        return self._mfc.frame()[2:]

    def _batch(self, which: str, volume: str | None, unit: str | None) -> str:
        one = self.totalizers[int(which) - 1]
        if volume is not None:
            if not one.on:
                return REFUSAL
            one.batch = float(volume)
        return f"{which} {one.batch:.{one.decimals}f} 6 SCM3"

    # ------------------------------------------------------------------ the loop

    def _drive(self) -> str:
        """VD: always four columns (H)."""
        return f"{self._mfc.valve:06.2f} 000.00 000.00 000.00"

    def _drift(self, value: str | None) -> str:
        self.deadband = self.deadband if value is None else float(value)
        return f"{self.deadband:.{self._mfc.decimals}f} {self._mfc.setpoint_unit()}"

    def _range(self, low: str | None, high: str | None) -> str:
        mfc = self._mfc
        if low is not None and high is not None:
            if not 0.0 <= float(low) < float(high) <= mfc.highest():
                return REFUSAL
            self.low, self.high = float(low), float(high)
        bottom, top = self.range()
        return f"{mfc.variable} {bottom:.{mfc.decimals}f} {top:.{mfc.decimals}f} {mfc.setpoint_unit()}"

    def _frame_after(self, value: str | None) -> str:
        """SPUE, OPL: taken and answered with a data frame."""
        return self._mfc.frame()[2:]


# Pattern, what does it, and the first firmware that has it (primer, contents).
COMMANDS: tuple[tuple[str, str, tuple[int, int]], ...] = (
    (r"DV (\d{1,4}) +(\d+(?: +\d+){0,12})", "values", (6, 0)),
    (r"FPF *(\d+)(?: +(\d+))?", "full_scale", (6, 0)),
    (r"DCU *(\d+)(?: +(\d+))?(?: +[01]){0,2}", "unit", (10, 5)),
    (r"DCA *(\d+)(?: +(\d+))?", "average", (10, 5)),
    (rf"DCZ(?: +0 +{NUMBER})?", "band", (10, 5)),
    (rf"DCFRP *([SN])(?: +(\d+) +{NUMBER})?", "reference_pressure", (10, 5)),
    (rf"DCFRT *([SN])(?: +(\d+) +{NUMBER})?", "reference_temperature", (10, 5)),
    (rf"ZCA(?: *([01])(?: +{NUMBER})?)?", "tare_by_itself", (10, 5)),
    (r"NCB(?: *(\d+))?", "bits", (10, 5)),
    (r"NCS(?: *(\d+))?", "rate", (10, 5)),
    (r"FFP(?: *(-1|\d+))?", "flash", (8, 28)),
    (r"FDF *([012])", "arrange", (6, 0)),
    (r"UD *([0-3])(?: (.+))?", "user", (8, 24)),
    (r"ASOCV *([01])(?: +(\d+))?(?: +(\d+))?", "output", (10, 5)),
    (r"FACTORY RESTORE ALL", "restore", (7, 0)),
    (r"GS(?: *(\d+))?(?: +[01])?", "gas", (10, 5)),
    (rf"GM (\S+) (\d{{1,3}})((?: +{NUMBER[1:-1]} +\d+)+)", "mix", (5, 0)),
    (r"GD *(\d{1,3})", "unmix", (5, 0)),
    (r"GC *(\d{1,3})", "mixture", (9, 0)),
    (r"TC *([12])(?: +(-?\d+)((?: +-?\d+){4})?)?", "totalizer", (10, 0)),
    (r"T *([12])", "reset", (8, 0)),
    (r"TP *([12])", "peak", (8, 0)),
    (rf"TB *([12])(?: +{NUMBER}(?: +(\d+))?)?", "batch", (10, 0)),
    (r"VD", "drive", (8, 18)),
    (rf"LCDB(?: +[01] +{NUMBER})?", "drift", (10, 5)),
    (rf"LR(?: +\d+(?: +\d+ +{NUMBER} +{NUMBER})?)?", "range", (9, 0)),
    (rf"SPUE(?: *{NUMBER})?", "frame_after", (8, 4)),
    (rf"OPL(?: *{NUMBER})?", "frame_after", (5, 9)),
)
CONTROL = {"batch", "drift", "range", "tare_by_itself"}
"""What a meter without a valve does not know."""
