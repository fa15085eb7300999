"""An emulated RGA in the column: what leaks in from the cell, and what a column always has, over noise.

Unverified: what degassing and calibration take, the filament's heating time, and the noise.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from itertools import count
from math import exp
from typing import Any

from devices.physics import COLUMN_BASE
from hal.protocols.framing import Framing, Lines

from . import codec
from .ethernet import EthernetEnd, Prompt

# Fractions of the strongest peak (70 eV, rounded; NIST Chemistry WebBook).
FRAGMENTS = {
    "hydrogen": {2: 1.0, 1: 0.02},
    "water": {18: 1.0, 17: 0.21, 16: 0.01},
    "nitrogen": {28: 1.0, 14: 0.14, 29: 0.007},
    "carbon dioxide": {44: 1.0, 16: 0.10, 28: 0.10, 12: 0.09, 45: 0.012},
    "argon": {40: 1.0, 20: 0.15, 36: 0.003},
}
RESIDUAL = {"water": 0.6, "nitrogen": 0.15, "hydrogen": 0.15, "carbon dioxide": 0.1}
"""Shares of what a column has without any gas."""
WIDTH = 0.23  # amu, one sigma of a peak
NOISE = 2e-15  # A, one sigma at the slowest setting, on the Faraday cup
HEATING, COOLING = 1.5, 0.1  # s until FL is answered
PROTECTS_AT = 1e-4 * codec.TORR  # Pa (6-35)
LEAST_VOLTAGE = 10  # V of the multiplier, if it is on (D: labmcp-srs-rga 0.1.1)
LONGEST = 140  # characters of its input buffer (6-7)

# Settings: least, greatest, factory, decimals (0: whole numbers), and whether STATUS is echoed (chapter 6).
Setting = tuple[float, float, float, int, bool]
SETTINGS: dict[str, Setting] = {
    "EE": (25, 105, 70, 0, True), "IE": (0, 1, 1, 0, True), "VF": (0, 150, 90, 0, True),
    "NF": (0, 7, 4, 0, False), "SA": (10, 25, 10, 0, False),
    "SP": (0.0, 10.0, 0.1, 4, False), "ST": (0.0, 100.0, 0.01, 4, False),
    "MG": (0.0, 2000.0, 1.0, 4, False), "MV": (0, 2490, 1400, 0, False),
    "DI": (-128, 127, 0, 0, False), "DS": (-2.55, 2.55, 0.0, 4, False),
    "RI": (-86.0, 86.0, 0.0, 4, False), "RS": (600.0, 1600.0, 1100.0, 4, False),
}  # fmt: skip


class SrsRgaEmulator:
    """One analyzer. Settings: see `__init__`."""

    def __init__(
        self, world: Any, *, unit: object = None, channel: object = None, masses: int = 200, multiplier: bool = True,
        serial: int = 12345, identity: str = "", user: str = "admin", password: str = "admin",
        login: bool = False, seed: int = 28, reply_delay: float = 0.01,
    ) -> None:  # fmt: skip
        """`masses`: 100, 200 or 300. `multiplier`: whether it has the option. `user`, `password`: of its Ethernet port;
        `login`: it wants them of everybody, not only of who begins with a blank line."""
        self._login = user, password, login
        self.world, self.quick, self.reply_delay = world, reply_delay, reply_delay
        self.masses, self.multiplier = masses, multiplier
        self.identity = identity or f"SRSRGA{masses:03d}VER0.24SN{serial:05d}"
        self.settings = {name: float(setting[2]) for name, setting in SETTINGS.items()}
        self.first, self.last = 1, masses
        self.emission, self.high_voltage = 0.0, 0
        """mA and V."""
        self.total = True
        """TP_Flag"""
        self.errors = dict.fromkeys(codec.ERROR_BYTES.values(), 0)
        self._scan: Iterator[tuple[float | None, float]] | None = None
        """What is still to be measured (a mass, or None for the total) and how long it takes, s."""
        self._next: tuple[float | None, float] = None, 0.0
        self._said: list[bytes] = []
        self._degas = 0.0
        """Seconds of degassing that are left."""
        self._random = random.Random(seed)

    @property
    def talking(self) -> bool:
        """Whether it has more to say by itself."""
        return self._scan is not None or bool(self._said) or self._degas > 0.0

    def unasked(self) -> list[bytes]:
        """The currents measured since it was last asked this."""
        said, self._said = self._said, []
        return said

    def framing(self, scheme: str) -> Framing:
        if scheme == "tcp":
            user, password, required = self._login
            return EthernetEnd(user, password, required=required)
        return Lines(b"", b"\r")

    def respond(self, message: bytes) -> bytes | None:
        if isinstance(message, Prompt):
            return bytes(message)
        self.reply_delay = self.quick
        self._scan, self._said = None, []  # any command ends a scan (6-45)
        text = message.strip(b"\n ").decode("latin-1").upper()
        if not text:
            return None
        try:
            if len(message) > LONGEST:
                raise _Refusal(codec.TOO_LONG)
            return self._do(text[:2], text[2:])
        except _Refusal as refusal:  # nothing is said of it (6-7)
            self.errors["EC"] |= refusal.bit
            return None

    def advance(self, dt: float) -> None:
        if self.emission and self.world.column > PROTECTS_AT:
            self.emission, self.high_voltage = 0.0, 0
            self.errors["EF"] |= codec.PRESSURE_TOO_HIGH
        if self._degas > 0.0:
            self._degas -= dt
            if self._degas <= 1e-9:  # its STATUS comes when it is over (manual, DG)
                self._degas = 0.0
                self._said.append(self._echo())
        self._measure(dt)

    def _measure(self, dt: float) -> None:
        """Scan on."""
        while self._scan is not None:
            mass, left = self._next
            if left > dt:
                self._next = mass, left - dt
                return
            dt -= left
            self._said.append(codec.packed(self.total_ions() if mass is None else self.ions(mass)))
            self._advance_scan()

    def _advance_scan(self) -> None:
        assert self._scan is not None
        following = next(self._scan, None)
        if following is None:
            self._scan = None
        else:
            self._next = following

    # ------------------------------------------------------------------ what it measures

    def partial_pressures(self) -> dict[str, float]:
        """Pa at the ionizer."""
        gases = {gas: share * COLUMN_BASE for gas, share in RESIDUAL.items()}
        from_cell = max(self.world.column - COLUMN_BASE, 0.0)
        hydrogen = self.world.hydrogen * from_cell
        gases["hydrogen"] += hydrogen
        gases["argon"] = from_cell - hydrogen
        return gases

    def ions(self, mass: float) -> float:
        """Ion current at a mass, A."""
        current = 0.0
        if self.emission:
            per_pascal = self.settings["SP"] * 1e-3 / codec.TORR * self.emission
            for gas, pressure in self.partial_pressures().items():
                for peak, share in FRAGMENTS[gas].items():
                    if abs(mass - peak) < 1.0:
                        current += pressure * per_pascal * share * exp(-(((mass - peak) / WIDTH) ** 2) / 2)
        noise = NOISE * (codec.GATES[0] / self._gate()) ** 0.5
        gain = max(self.settings["MG"] * 1000, 1.0) if self.high_voltage else 1.0
        return current * gain + self._random.gauss(0.0, noise)

    def total_ions(self) -> float:
        """Ion current of all masses together, A; none if it is not to be measured."""
        if not self.total or not self.emission:
            return 0.0
        return float(self.world.column * self.settings["ST"] * 1e-3 / codec.TORR * self.emission)

    def _gate(self) -> float:
        return codec.GATES[int(self.settings["NF"])]

    # ------------------------------------------------------------------ commands

    @property
    def status(self) -> int:
        return sum(bit for bit, name in codec.ERROR_BYTES.items() if self.errors[name])

    def _do(self, name: str, parameter: str) -> bytes | None:
        if name in SETTINGS:
            return self._setting(name, parameter)
        command: Callable[[str], bytes | None] | None = getattr(self, f"_{name.lower()}", None)
        if name in self.errors:
            return self._error_byte(name, parameter)
        if command is None or not re.fullmatch("[A-Z]{2}", name):
            raise _Refusal(codec.BAD_COMMAND)
        return command(parameter)

    def _echo(self) -> bytes:
        return _text(str(self.status))

    def _error_byte(self, name: str, parameter: str) -> bytes:
        _query_only(parameter)
        if name == "EM" and not self.multiplier:
            self.errors["EM"] = codec.NO_MULTIPLIER
        value = self.errors[name]
        if name in ("EC", "EM"):  # told, they are forgotten
            self.errors[name] = 0
        return _text(str(value))

    def _setting(self, name: str, parameter: str) -> bytes | None:
        low, high, factory, decimals, echo = SETTINGS[name]
        if parameter == "?":
            return _text(f"{self.settings[name]:.{decimals}f}")
        value = factory if parameter == "*" else _number(parameter, low, high, whole=not decimals)
        self.settings[name] = value
        return self._echo() if echo else None

    def _id(self, parameter: str) -> bytes:
        _query_only(parameter)
        return _text(self.identity)

    def _er(self, parameter: str) -> bytes:
        _query_only(parameter)
        return self._echo()

    def _in(self, parameter: str) -> bytes:
        level = _number(parameter, 0, 2, whole=True)
        if level >= 1:
            self.settings.update({name: float(s[2]) for name, s in SETTINGS.items() if name not in ("MG", "SP", "ST")})
            self.first, self.last = 1, self.masses
        if level == 2:
            self.emission, self.high_voltage, self.total = 0.0, 0, True
        self.errors["EC"] = 0
        self.reply_delay = 0.5
        return self._echo()

    def _fl(self, parameter: str) -> bytes:
        if parameter == "?":
            return _text(f"{self.emission * 1.001:.3f}")
        value = 1.0 if parameter == "*" else _number(parameter, 0.0, codec.EMISSION[1])
        if 0.0 < value < codec.EMISSION[0]:
            raise _Refusal(codec.BAD_PARAMETER)
        self.reply_delay = HEATING if value > self.emission else COOLING
        if value and self.world.column > PROTECTS_AT:
            self.errors["EF"] |= codec.PRESSURE_TOO_HIGH
            value = 0.0
        elif value:
            self.errors["EF"] = 0
        self.emission = value
        return self._echo()

    def _dg(self, parameter: str) -> None:
        minutes = 3.0 if parameter == "*" else _number(parameter, 0, 20, whole=True)
        self._degas = 60 * minutes  # DG0 ends it and is not answered

    def _hv(self, parameter: str) -> bytes:
        if not self.multiplier:
            raise _Refusal(codec.BAD_COMMAND)
        if parameter == "?":
            return _text(str(self.high_voltage))
        default = self.settings["MV"]
        value = default if parameter == "*" else _number(parameter, 0, codec.HIGH_VOLTAGE, whole=True)
        if 0 < value < LEAST_VOLTAGE:
            raise _Refusal(codec.BAD_PARAMETER)
        self.high_voltage = int(value)
        if value:
            self.total = False
        self.reply_delay = 1.0
        return self._echo()

    def _mo(self, parameter: str) -> bytes:
        _query_only(parameter)
        return _text(str(int(self.multiplier)))

    def _ca(self, parameter: str) -> bytes:
        _nothing(parameter)
        self.reply_delay = 2.0
        return self._echo()

    _cl = _ca

    def _mi(self, parameter: str) -> bytes | None:
        return self._mass(parameter, "first", 1)

    def _mf(self, parameter: str) -> bytes | None:
        return self._mass(parameter, "last", self.masses)

    def _mass(self, parameter: str, which: str, default: int) -> bytes | None:
        if parameter == "?":
            return _text(str(getattr(self, which)))
        value = default if parameter == "*" else int(_number(parameter, 1, self.masses, whole=True))
        if value > self.last if which == "first" else value < self.first:
            raise _Refusal(codec.CONFLICT)
        setattr(self, which, value)
        return None

    def _ap(self, parameter: str) -> bytes:
        _query_only(parameter)
        return _text(str(codec.points(self.first, self.last, int(self.settings["SA"]))))

    def _hp(self, parameter: str) -> bytes:
        _query_only(parameter)
        return _text(str(codec.points(self.first, self.last, 0)))

    def _hs(self, parameter: str) -> bytes | None:
        self._scans(parameter, 0)
        return None

    def _sc(self, parameter: str) -> bytes | None:
        self._scans(parameter, int(self.settings["SA"]))
        return None

    def _scans(self, parameter: str, steps: int) -> None:
        times = 1 if parameter == "*" else 0 if not parameter else int(_number(parameter, 0, 255, whole=True))
        if parameter and not times:
            return  # HS0 does nothing but end a scan
        gate = self._gate() / (codec.MINISCAN if steps else 1)
        masses: list[float | None] = [*codec.masses(self.first, self.last, steps).tolist(), None]
        self._scan = ((mass, gate) for _ in (range(times) if times else count()) for mass in masses)
        self._advance_scan()

    def _mr(self, parameter: str) -> bytes | None:
        mass = _number(parameter, 0, self.masses, whole=True)
        if not mass:
            return None
        self.reply_delay = self._gate()
        return codec.packed(self.ions(mass))

    def _ml(self, parameter: str) -> None:
        _number(parameter, 0.0, float(self.masses))

    def _tp(self, parameter: str) -> bytes | None:
        if parameter == "?":
            self.reply_delay = self._gate()
            return codec.packed(self.total_ions())
        self.total = bool(_number(parameter, 0, 1, whole=True))
        return None


class _Refusal(Exception):
    def __init__(self, bit: int) -> None:
        self.bit = bit


def _text(text: str) -> bytes:
    return text.encode("ascii") + codec.END


def _number(text: str, low: float, high: float, *, whole: bool = False) -> float:
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text) is None:
        raise _Refusal(codec.BAD_PARAMETER)
    value = float(text)
    if not low <= value <= high or (whole and value != int(value)):
        raise _Refusal(codec.BAD_PARAMETER)
    return value


def _query_only(parameter: str) -> None:
    if parameter != "?":
        raise _Refusal(codec.BAD_PARAMETER)


def _nothing(parameter: str) -> None:
    if parameter:
        raise _Refusal(codec.BAD_PARAMETER)
