"""An emulated Smartline transmitter: understands protocol V2, and V1 as its predecessors did.

It is silent to damaged telegrams and to other addresses (unverified). Not emulated: streaming, binary access,
relays that act (their settings are kept), adjusting, curves of the analog output.
"""

from __future__ import annotations

import random
import re
from typing import Any

from hal.protocols.framing import Lines

from . import codec
from .codec import TelegramV1, TelegramV2

SAMPLING = 0.05  # s between two measurements, unverified
RANGES = {"VSP": (1e-4, 1e3), "VSR": (1e-4, 1.2e3), "VSH": (5e-10, 1e3), "VSM": (5e-9, 1.2e3), "VSC": (1.0, 1.2e3)}
"""mbar by kind (data sheets: unverified)."""
FITTED = {"VSP": (1, 2), "VSR": (1, 2), "VSH": (1, 3), "VSM": (1, 2, 4), "VSC": (2,)}
"""Sensors by kind. PyMeasure asks VSP and VSM for a piezo, which their data sheets don't have."""

SETTINGS = {
    "DU": ("mbar", "mbar|torr|hpa"), "DO": ("0", "[01]"), "DD": ("0", "[0-4]"), "DG": ("0", "[01]"),
    "DL": ("0", "[01]"), "CC": ("1", "[01]"), "CM": ("1", "[01]"), "FC": ("0", "[0-3]"), "PS": ("0", "[01]"),
    "CS": ("0", "[01]"), "ST": ("1", r"[012]|F[\d.eE+-]+T[\d.eE+-]+|D[\d.eE+-]+"), "RD": ("5500", r"S?\d{1,5}"),
    "R1": ("T1.0e-3F1.0e-3", "relay"), "R2": ("T1.0e-1F1.0e-1", "relay"), "BR": ("115200", r"S?\d{4,6}"),
    "OC": ("LinG1.0O0.0L1.0e-3U1.0e3O1.0e3F1.0e4", r"[\w.+-]+"), "LF": ("0", r"D\dF\d{1,2}"),
    "AH": ("", r"[\d.eE+-]*"), "AL": ("", r"[\d.eE+-]*"), "DR": ("", ""),
}  # fmt: skip
"""What may be set: as delivered, and what is taken."""
_RELAY = re.compile(r"T[\d.eE+-]+F[\d.eE+-]+([DC]\d)?|E|U|O|C|W|T[01]")
UNITS = ("mbar", "Torr", "hPa")
"""Of the display, in the order of V1's numbers."""


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
        self.reply_delay = 0.006
        self.world, self.sees, self.kind, self.noise = world, sees, kind, noise
        self.address = int(unit) if unit is not None else 1
        self.low, self.high = RANGES.get(kind[:3], RANGES["VSM"])
        self.sensors = FITTED.get(kind[:3], FITTED["VSM"])
        self.defective = False
        """The sensor is broken or unplugged."""
        self.settings = {command: value for command, (value, _) in SETTINGS.items()}
        self.factors = dict.fromkeys(self.sensors, 1.0)
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
        try:
            match said.access:
                case codec.READ:
                    data = self._read(said.command, said.data)
                case codec.WRITE:
                    data = ""
                    self._write(said.command, said.data)
                case codec.DEFAULT:
                    self._restore(said.command)
                    data = self._read(said.command, "")
                case _:
                    raise _Refusal("_LOGIC")
        except _Refusal as refusal:
            return TelegramV2(self.address, codec.ERROR, said.command, refusal.code)
        return TelegramV2(self.address, said.access + 1, said.command, data)

    def _read(self, command: str, data: str) -> str:
        if command in ("MV", "M0") or (command[0] == "M" and command[1].isdigit()):
            return self._pressure(0 if command == "MV" else int(command[1]))
        if command == "PM" and data.isdigit() and int(data) in self.sensors:
            return {1: "W0A382", 3: "F0S0"}.get(int(data), "W0")
        if command in self._texts:
            return self._texts[command]
        if command == "CA" and self._cathode:
            return self.settings["CC"]
        if command[0] == "C" and command[1].isdigit() and int(command[1]) in self.factors:
            return f"{self.factors[int(command[1])]:g}"
        if command in SETTINGS and command not in ("AH", "AL", "DR", "BR"):
            self._must_have(command)
            return self.settings[command]
        raise _Refusal("_LOGIC" if command in SETTINGS else "NO_DEF")

    def _pressure(self, sensor: int) -> str:
        if sensor and sensor not in self.sensors:
            raise _Refusal("NO_DEF")
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
        if command[0] == "C" and command[1].isdigit() and int(command[1]) in self.factors:
            if re.fullmatch(r"\d{1,3}(\.\d{0,6})?(e[-+]?\d)?", data, re.IGNORECASE) is None:
                raise _Refusal("SYNTAX")
            if not 0.2 <= float(data) <= 8.0:  # PyMeasure
                raise _Refusal("_RANGE")
            self.factors[int(command[1])] = float(data)
        elif command == "DA":
            if not (data.isdigit() and 1 <= int(data) <= 16):
                raise _Refusal("_RANGE")
            self.address = int(data)
        elif command in SETTINGS:
            self._take(command, data)
        elif command in self._texts or command[0] == "M":
            raise _Refusal("_LOGIC")
        else:
            raise _Refusal("NO_DEF")

    def _take(self, command: str, data: str) -> None:
        _, taken = SETTINGS[command]
        self._must_have(command)
        pattern = _RELAY if taken == "relay" else re.compile(taken, re.IGNORECASE)
        if pattern.fullmatch(data) is None:
            raise _Refusal("SYNTAX" if taken == "relay" else "_RANGE")
        self.settings[command] = data

    def _must_have(self, command: str) -> None:
        """Refuse what belongs to a cathode that this kind doesn't have."""
        if (command in ("CC", "CM") and not self._cathode) or (command in ("DG", "FC") and 3 not in self.sensors):
            raise _Refusal("NO_DEF")

    def _restore(self, command: str) -> None:
        if command[0] == "C" and command[1].isdigit() and int(command[1]) in self.factors:
            self.factors[int(command[1])] = 1.0
        elif command in SETTINGS:
            self.settings[command] = SETTINGS[command][0]
        else:
            raise _Refusal("NO_DEF")

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
                return f"{round(100 * self.factors[self.sensors[int(data) - 1]]):06d}"
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
