"""An emulated ITC503 with sensor and heater on the world's specimen; gas flow is only remembered.

It wakes up in local control with its heater off. Between the words of the handbook it is unverified:
cycle, resolution, what a power-up leaves, and that O is refused while the heater is automatic.
"""

from __future__ import annotations

import random
import re

from devices.physics import FULL_POWER, World
from hal.protocols.framing import Framing, Lines
from hal.units import convert

from . import codec

CYCLE = 0.25  # s
NOISE = 0.05  # K, one sigma
MAX_VOLTAGE = 40.0  # V, highest setting of M
STEPS, TABLE = 16, 128
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
VERSION = "ITC503 Version 1.11 (c) OXFORD 1997"

# Control commands (M): only in remote. Letter: attribute, lowest, highest, decimals.
SETTINGS: dict[str, tuple[str, float, float, int]] = {
    "A": ("modes", 0, 3, 0),
    "P": ("band", 0, 1677.7, 3),
    "I": ("integral", 0, 140, 1),
    "D": ("derivative", 0, 273, 1),
    "F": ("display", 0, 13, 0),
    "G": ("gas", 0, 99.9, 1),
    "H": ("sensor", 1, 3, 0),
    "L": ("auto_pid", 0, 1, 0),
    "M": ("limit", 0, MAX_VOLTAGE, 1),
    "O": ("manual", 0, codec.MAX_OUTPUT, 1),
    "T": ("setpoint", 0, codec.HOTTEST, 3),
    "x": ("x", 0, TABLE, 0),
    "y": ("y", 0, TABLE, 0),
}
TABLES = {"s": "sweep", "p": "pid", "v": "voltages", "c": "flow"}  # specialist: set at the pointers (M)
READS = {"r": "sweep", "q": "pid", "t": "voltages", "d": "flow"}  # and read there (M)


class OxfordItc503Emulator:
    """One ITC503; `unit` is its ISOBUS address."""

    def __init__(
        self, world: World, *, unit: int | str | None = None, channel: object = None, seed: int = 503,
        reply_delay: float = 0.02,
    ) -> None:  # fmt: skip
        self.world, self.reply_delay = world, reply_delay
        self.address = 1 if unit is None else int(unit)  # 1 as delivered (M)
        self.control, self.key, self.line_feed = 0, 0, False
        self.modes, self.display, self.gas, self.sensor, self.auto_pid = 0, 0, 0.0, 1, 0
        self.band, self.integral, self.derivative = 400.0, 0.1, 0.0  # K, min, min: tuned for the chip
        self.limit, self.manual, self.output, self.setpoint = MAX_VOLTAGE, 0.0, 0.0, 0.0
        self.x, self.y = 0, 0
        self.tables: dict[str, dict[tuple[int, int], float]] = {name: {} for name in TABLES.values()}
        self.step, self._left, self._from = 0, 0.0, 0.0
        self._random, self._elapsed, self._sum = random.Random(seed), 0.0, 0.0
        self.measured = self._measure()

    def framing(self, scheme: str) -> Framing:
        return _End(self)

    def respond(self, message: bytes) -> bytes | None:
        text, mute, addressable = message.decode("ascii", "replace").strip(), False, True
        while text[:1] in ("$", "@", "&") and addressable:
            if text[0] == "@":
                if text[1:2] != str(self.address):
                    return None
                text = text[1:]
            mute |= text[0] == "$"
            addressable = text[0] != "&"
            text = text[1:]
        if not text:
            return None
        reply = self._obey(text[0], text[1:])
        return None if mute or reply is None else reply.encode("ascii", "replace")

    # ------------------------------------------------------------------ commands

    def _obey(self, letter: str, given: str) -> str | None:
        """The answer: the letter, a value, or a question mark and what was sent."""
        number = float(given) if NUMBER.fullmatch(given) else None
        whole = int(number) if number is not None and number == int(number) else None
        match letter:
            case "V" if not given:
                return VERSION
            case "X" if not given:
                return codec.Status(self.modes, self.control, self.step, self.sensor, self.auto_pid).encode()
            case "R" if whole is not None and 0 <= whole <= 13:
                return f"R{self._parameter(whole)}"
            case "C" if whole is not None and 0 <= whole <= 3:
                self.control = whole
            case "Q" if whole in (0, 2):
                self.line_feed = whole == 2
                return None  # the one command without an answer (M)
            case "W" if whole is not None and whole >= 0:
                pass
            case "U" if whole is not None:
                self.key = whole
            case "!" if whole is not None and 0 <= whole <= 9 and self.key == 1:
                self.address = whole
            case _ if letter in READS and not given:
                return letter + f"{self.tables[READS[letter]].get(self._pointer(READS[letter]), 0.0):.1f}"
            case "m" | "n" | "o" if not given and self.modes & codec.GAS_AUTO:
                return letter + "0"
            case _ if self.control & 1 and self._change(letter, given, number):
                pass
            case _:
                return f"?{letter}{given}"
        return letter

    def _change(self, letter: str, given: str, number: float | None) -> bool:
        """Commands of remote control; whether it was obeyed."""
        if letter == "w" and not given:
            self.tables["sweep"].clear()
        elif number is None:
            return False
        elif letter == "S":
            if number != int(number) or not 0 <= number <= 2 * STEPS:
                return False
            self._enter(int(number))
        elif letter in TABLES:
            self.tables[TABLES[letter]][self._pointer(TABLES[letter])] = number
        elif letter in SETTINGS:
            name, low, high, decimals = SETTINGS[letter]
            if not low <= number <= high or (letter == "O" and self.modes & codec.HEATER_AUTO):
                return False
            setattr(self, name, round(number, decimals) if decimals else int(number))
            if letter == "A":
                self._sum = self.manual = self.output  # each mode begins where the other was
            if letter == "O":
                self._heat(self.manual)
        else:
            return False
        return True

    def _pointer(self, table: str) -> tuple[int, int]:
        return (self.x, self.y if table in ("sweep", "pid") else 0)

    def _parameter(self, number: int) -> str:
        if number in (11, 12, 13):  # frequencies of the inputs' converters, for service
            return "1000"
        return "{:.1f}".format(
            (
                self.setpoint, self.measured, 0.0, 0.0, self.setpoint - self.measured, self.output,
                self.output / 100 * (self.limit or MAX_VOLTAGE), self.gas, self.band, self.integral, self.derivative,
            )[number]
        )  # fmt: skip

    # ------------------------------------------------------------------ time

    def advance(self, dt: float) -> None:
        self._elapsed += dt
        while self._elapsed >= CYCLE - 1e-9:
            self._elapsed -= CYCLE
            self._cycle()

    def _cycle(self) -> None:
        self.measured = self._measure()
        self._sweep()
        proportional = self._proportional()
        if not self.modes & codec.HEATER_AUTO:
            output = self.manual
        elif self.sensor == 1:
            total = self._sum + (proportional * CYCLE / (self.integral * 60) if self.integral else 0.0)
            wanted = proportional + total
            output = min(max(wanted, 0.0), codec.MAX_OUTPUT)
            self._sum = total if wanted == output else min(max(self._sum, 0.0), 100.0)
        else:  # nothing is connected there
            output = 0.0
        self._heat(output)

    def _heat(self, percent: float) -> None:
        self.output = percent
        self.world.heaters[self] = percent / 100 * FULL_POWER

    def _measure(self) -> float:
        kelvin: float = convert(self.world.temperature, "degC", "K")
        return max(0.0, kelvin + self._random.gauss(0.0, NOISE))

    def _proportional(self) -> float:
        return (self.setpoint - self.measured) * 100 / max(self.band, 1.0)

    def _enter(self, step: int) -> None:
        """Begin a sweep's part: odd numbers go to a setpoint, even ones hold there."""
        self.step = step if step <= 2 * STEPS else 0
        self._from, self._left = self.setpoint, self._minutes() * 60

    def _minutes(self) -> float:
        return self.tables["sweep"].get(((self.step + 1) // 2, 2 if self.step % 2 else 3), 0.0)

    def _sweep(self) -> None:
        self._left -= CYCLE
        while self.step:
            if self.step % 2:
                to = self.tables["sweep"].get(((self.step + 1) // 2, 1), 0.0)
                left = max(self._left, 0.0) / (self._minutes() * 60) if self._minutes() else 0.0
                self.setpoint = to + (self._from - to) * left
            if self._left > 0:
                return
            self._enter(self.step + 1)


class _End(Lines):
    """The instrument's end: LF is ignored; sent after CR only if Q2 asked for it."""

    def __init__(self, instrument: OxfordItc503Emulator) -> None:
        super().__init__(b"\r")
        self._instrument = instrument

    def encode(self, message: bytes) -> bytes:
        return message + (b"\r\n" if self._instrument.line_feed else b"\r")

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data.replace(b"\n", b""))
