"""An emulated Smartline transmitter: understands protocol V2, and V1 as its predecessors did.

V2 as the maker's "Communication Protocol" 2.1.5 (P; see the codec) has it. It is silent to damaged telegrams and to
other addresses (unverified). Not emulated: streaming, binary access, relays that act (their settings are kept),
adjusting, curves and tables of the analog output, temporary modes that end by themselves.
"""

from __future__ import annotations

import random
import re
from typing import Any

from hal.protocols.framing import Lines

from . import codec
from .codec import TelegramV1, TelegramV2

SAMPLING = 0.05  # s between two measurements, unverified
RANGES = {
    "R": (1e-4, 1.2e3), "L": (1e-4, 1.2e3), "P": (1e-4, 1e3), "H": (5e-10, 1e3), "M": (5e-9, 1.2e3), "I": (5e-9, 1e-2),
    "C": (1.0, 1.2e3),
}  # fmt: skip
"""mbar by the third letter of the kind, VSR or VCR (R: P, 5.1.1; data sheets: unverified)."""
FITTED = {"R": (1, 2), "L": (1, 2), "P": (1,), "H": (1, 3), "M": (1, 4), "I": (4,), "C": (2,)}
"""Sensors by kind (P, 4.1; C has V1 only). PyMeasure asks P and M for a piezo, which they don't have."""
UNITS = ("mbar", "Torr", "hPa", "Torr760")
"""Of the display; the first three in the order of V1's numbers. The last is not known to R and L (P, 5.1.5)."""
CORRECTED = (1, 3, 4)
"""Sensors with a factor for the gas, 0.2 to 8 (P, 5.2.10)."""
RATES = ("9600", "14400", "19200", "28800", "38400", "57600", "115200")
CUSTOM = {"R": (1.0, 20.0), "L": (1.0, 20.0), "H": (4e-4, 1e-2), "M": (4e-4, 2e-3)}
"""mbar between which one sensor may hand over to the other (P, 5.2.3)."""
DEGAS_BELOW = 2e-6  # mbar (P, 5.2.1)
DELAY = 5500  # us, response delay as delivered (unverified)

_FLOAT = r"\d+\.?\d*(?:e[-+]?\d{1,3})?"
_FLAG = "[01]"
SETTINGS = {
    "DU": ("mbar", "mbar|torr|hpa|torr760"), "DO": ("0", _FLAG), "DD": ("0", "[0-467]"), "DG": ("0", _FLAG),
    "DL": ("1", _FLAG), "CC": ("1", _FLAG), "CM": ("1", _FLAG), "FC": ("0", "[0-3]"),
    "ST": ("1", f"[012]|F{_FLOAT}T{_FLOAT}|D{_FLOAT}"),
    "RD": (str(DELAY), r"S?\d{1,6}"), "R1": ("T1.0e-3F1.0e-3", ""), "R2": ("T1.0e-1F1.0e-1", ""),
    "BR": ("115200", r"S?\d{1,6}"), "OC": ("LogG1.0O5.5L0.0L10.5U0.9O9.2F0.4", r"(Log|Lin|Tab)[\w.+-]+"),
    "LF": ("0", r"D\dF\d{1,2}"), "AH": ("", f"({_FLOAT})?"), "AL": ("", f"({_FLOAT})?"), "DR": ("", ""),
}  # fmt: skip
"""What may be set (P, 5): as delivered (thresholds, unverified), and the form of what is taken.

LF and a leading S, which keeps a value for good, belong to later firmware (scietex-hal-vacuum-gauge).
"""
WRITE_ONLY = ("AH", "AL", "DR", "BR", "DA")
NO_DEFAULT = ("DG", "AH", "AL", "DR", "BR")
"""Without factory default (P, 3; RD has one in later firmware)."""


class ThyracontEmulator:
    """One transmitter. Settings: see `__init__`."""

    speaks_v2 = True

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        sees: str = "pressure",
        kind: str = "VSM77DL",
        noise: float = 0.01,
        seed: int = 1,
    ) -> None:
        """`sees`: what of the world it measures. `kind`: its type, which says what sensors it has.
        `noise`: relative, one sigma."""
        self.world, self.sees, self.kind, self.noise = world, sees, kind, noise
        self.address = int(unit) if unit is not None else 1
        self.series = kind[2:3] if kind[2:3] in FITTED else "M"
        self.low, self.high = RANGES[self.series]
        self.sensors = FITTED[self.series]
        self.defective = False
        """The sensor is broken or unplugged."""
        self.settings = {command: value for command, (value, _) in SETTINGS.items()}
        if self.series == "H":
            self.settings["DL"] = "0"  # P, 5.2.2
        self._delivered = dict(self.settings)
        self.factors = {sensor: 1.0 for sensor in self.sensors if sensor in CORRECTED}
        self.thresholds = {"1": "100020", "2": "100020"}
        self._chosen = ""
        self._texts = {
            "TD": kind, "PN": f"{kind}-A", "SD": f"{20000000 + self.address}", "SH": f"{30000000 + self.address}",
            "VD": "02.00", "VF": "02.17", "VB": "01.03", "OH": "5000C4000" if self._cathode else "5000",
            "MR": f"H{_short(self.high)}L{_short(self.low)}",
        }  # fmt: skip
        if 3 in self.sensors:
            self._texts |= {"FN": "1", "FS": "0"}
        self._random = random.Random(f"{seed} {self.address}")
        self._age = 0.0
        self._measure()

    @property
    def reply_delay(self) -> float:
        """s: its response delay, and the time of an answer."""
        return 0.0005 + int(self.settings["RD"].lstrip("S")) * 1e-6

    def framing(self, scheme: str) -> Lines:
        return codec.framing()

    def respond(self, message: bytes) -> bytes | None:
        if message[:3] != b"%03d" % self.address:
            return None
        try:
            if message[3:4].isdigit():
                if not self.speaks_v2:
                    return None
                said = TelegramV2.decode(message)
                return self._answer_v2(said).encode()
            return self._answer_v1(TelegramV1.decode(message)).encode()
        except ValueError:
            return None

    def advance(self, dt: float) -> None:
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    # ------------------------------------------------------------------ private

    @property
    def _cathode(self) -> bool:
        return bool({3, 4} & set(self.sensors))

    def _measure(self) -> None:
        self._age = 0.0
        pascal = getattr(self.world, self.sees) * (1 + self._random.gauss(0.0, self.noise))
        self.measured = pascal / codec.PASCALS
        """mbar"""

    # ------------------------------------------------------------------ protocol V2

    def _answer_v2(self, said: TelegramV2) -> TelegramV2:
        address, data = self.address, ""  # a new address is for the next telegram (P, 5.3.6)
        try:
            match said.access:
                case codec.READ:
                    data = self._read(said.command, said.data)
                case codec.WRITE:
                    self._write(said.command, said.data)
                case codec.DEFAULT:
                    self._restore(said.command, said.data)
                case _:
                    raise _Refusal("_LOGIC")
        except _Refusal as refusal:
            return TelegramV2(address, codec.ERROR, said.command, refusal.code)
        return TelegramV2(address, said.access + 1, said.command, data)

    def _read(self, command: str, data: str) -> str:
        self._must_have(command)
        if command == "PM":
            if not (data.isdigit() and int(data) in self.sensors and int(data) in (1, 3)):
                raise _Refusal("_LOGIC")
            return "W0A382" if data == "1" else "F0S0"
        if data and command not in ("OC", "LF"):
            raise _Refusal("LENGTH")
        if command in WRITE_ONLY:
            raise _Refusal("_LOGIC")
        if command[0] == "M" and command != "MR":
            return self._pressure(0 if command == "MV" else int(command[1]))
        if command == "CA":
            return self.settings["CC"]
        if sensor := self._corrected(command):
            return f"{self.factors[sensor]:.2f}"
        return self._texts.get(command) or self.settings[command]

    def _must_have(self, command: str) -> None:
        """Refuse what this kind doesn't have (P, 4.1)."""
        pirani, hot, cold = (sensor in self.sensors for sensor in (1, 3, 4))
        has = {
            "MV": True, "CA": hot or cold, "CC": hot or cold, "CM": cold, "DG": hot, "FC": hot, "AH": pirani,
            "AL": pirani, "PM": pirani, "ST": self.series in CUSTOM, "DL": self.series in "LHMI", "DA": True,
        }  # fmt: skip
        if command[0] == "M" and command[1].isdigit():
            known = int(command[1]) in self.sensors
        else:
            known = has.get(command, command in self._texts or command in SETTINGS or self._corrected(command) > 0)
        if not known:
            raise _Refusal("NO_DEF")

    def _corrected(self, command: str) -> int:
        """The sensor whose factor is meant, or 0."""
        number = command[1] if command[0] == "C" else ""
        return int(number) if number.isdigit() and int(number) in self.factors else 0

    def _pressure(self, sensor: int) -> str:
        if self.defective:
            raise _Refusal("ERROR1")
        if sensor in (3, 4) and self.settings["CC"] == "0":
            raise _Refusal("_SEDIS")
        low, high = self._seen_by(sensor)
        shown = self.measured * self.factors.get(sensor, 1.0)
        if shown < low:
            return codec.BELOW
        return codec.ABOVE if shown > high else codec.encode_millibar(shown)

    def _seen_by(self, sensor: int) -> tuple[float, float]:
        """mbar, from and to (data sheets: unverified)."""
        match sensor:
            case 1:
                return 1e-4, self.high
            case 2:
                return 1e-1, self.high
            case 3 | 4:
                return self.low, 1e-2
        return 1e-4 if self._cathode and self.settings["CC"] == "0" else self.low, self.high

    def _write(self, command: str, data: str) -> None:
        self._must_have(command)
        if sensor := self._corrected(command):
            self.factors[sensor] = _float(data, 0.2, 8.0)
        elif command == "DA":
            self.address = _digits(data, 1, 16)
        elif command in ("R1", "R2"):
            self._relay(command, data)
        elif command in SETTINGS:
            self._take(command, data)
        else:
            raise _Refusal("_LOGIC")  # to be read only

    def _take(self, command: str, data: str) -> None:
        if re.fullmatch(SETTINGS[command][1], data, re.IGNORECASE) is None:
            digit = len(data) == 1 and data.isdigit()
            raise _Refusal("_RANGE" if digit else "LENGTH" if command == "DR" else "SYNTAX")
        match command:
            case "DU" if data == "Torr760" and self.series in "RL":
                raise _Refusal("SYNTAX")
            case "DU":
                data = next(unit for unit in UNITS if unit.lower() == data.lower())
            case "BR" if data.lstrip("S") not in RATES:
                raise _Refusal("_UNSUP")
            case "RD":
                _digits(data.lstrip("S"), 1, 99999)
            case "DG" if data == "1" and self.measured >= DEGAS_BELOW:
                raise _Refusal("_LOGIC")
            case "AH" | "AL":
                self._adjust(command, data)
            case "ST" if data[0] in "FDfd":
                for value in re.findall(_FLOAT, data):
                    _float(value, *CUSTOM[self.series])
            case "ST" if data == "2" and self.series != "H":
                raise _Refusal("SYNTAX")
            case "DR":
                for temporary in ("RD", "CC"):
                    self.settings[temporary] = self._delivered[temporary]
        self.settings[command] = data

    def _adjust(self, command: str, data: str) -> None:
        """P, 5.1.8 and 5.1.9: to a pressure where its sensor needs one."""
        if bool(data) != (self.series == "R") and command == "AH" and self.series != "L":
            raise _Refusal("LENGTH")
        if data and command == "AL":
            if self.series != "P":
                raise _Refusal("LENGTH")
            _float(data, 1e-4, 1e-1)

    def _relay(self, command: str, data: str) -> None:
        """P, 5.1.4"""
        modes = "EU" + {"R": "O", "L": "O", "I": "OC", "M": "C", "H": "CW"}.get(self.series, "")
        source = "(?:D[0-467])?" if self.series == "L" else ""
        if re.fullmatch(f"T{_FLOAT}F{_FLOAT}{source}|!?[{modes}]|T[01]", data, re.IGNORECASE) is None:
            raise _Refusal("SYNTAX")
        self.settings[command] = data

    def _restore(self, command: str, data: str) -> None:
        self._must_have(command)
        if sensor := self._corrected(command):
            self.factors[sensor] = 1.0
        elif command == "PM":
            if data != "1":
                raise _Refusal("_LOGIC")
        elif command == "DA":
            self.address = 1
        elif command in SETTINGS and command not in NO_DEFAULT:
            self.settings[command] = self._delivered[command]
        else:
            raise _Refusal("_LOGIC")

    # ------------------------------------------------------------------ protocol V1

    def _answer_v1(self, said: TelegramV1) -> TelegramV1:
        try:
            return TelegramV1(self.address, said.command, self._do_v1(said.command, said.data))
        except _Refusal as refusal:
            return TelegramV1(self.address, refusal.code[0], refusal.code[1:])

    def _do_v1(self, command: str, data: str) -> str:
        match command:
            case "T":
                return self.kind
            case "M":
                return codec.encode_pressure(self.measured * codec.PASCALS)
            case "U":
                shown = self.settings["DU"].lower()
                return f"{[unit.lower() for unit in UNITS].index(shown):06d}"
            case "u":
                self.settings["DU"] = UNITS[_digits(data, 0, 2)]
            case "I" | "i" if self._cathode:
                if command == "I":
                    return self.settings["CC"]
                self.settings["CC"] = str(_digits(data, 0, 1))
            case "S" if data in self.thresholds:
                return self.thresholds[data]
            case "s" if data in self.thresholds:
                self._chosen = data
            case "s" if self._chosen:
                self.thresholds[self._chosen] = f"{_digits(data, 0, 999999):06d}"
                self._chosen = ""
            case "C" if data in ("1", "2")[: len(self.sensors)]:
                return f"{round(100 * self.factors.get(self.sensors[int(data) - 1], 1.0)):06d}"
            case _:
                raise _Refusal("NO_DEF")
        return data


class ThyracontV1Emulator(ThyracontEmulator):
    """One that was made before 2017: it knows protocol V1 only."""

    speaks_v2 = False


class _Refusal(Exception):
    def __init__(self, code: str) -> None:
        self.code = code


def _short(value: float) -> str:
    """``1.2e3``"""
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _digits(data: str, low: int, high: int) -> int:
    if re.fullmatch(r"\d{1,6}", data) is None:
        raise _Refusal("SYNTAX")
    if not low <= int(data) <= high:
        raise _Refusal("_RANGE")
    return int(data)


def _float(data: str, low: float, high: float) -> float:
    if re.fullmatch(_FLOAT, data, re.IGNORECASE) is None:
        raise _Refusal("SYNTAX")
    if not low <= float(data) <= high:
        raise _Refusal("_RANGE")
    return float(data)
