"""An emulated MercuryiTC without daughter boards: sensor MB1.T1 and heater MB0.H1 on the world's specimen.

Unverified: what a power-up leaves, the rate of readings, that TSET reads as the end of a ramp, that a ramp
begins at the setpoint before (in a loop just switched on at the temperature), INVALID for a value out of range.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

from devices.physics import FULL_POWER, World
from hal.protocols.framing import AnyLines, Framing
from hal.units import convert

from . import codec

CYCLE = 0.1  # s
NOISE = 0.01  # K, one sigma

Get = Callable[[], str]
Set = Callable[[str], bool]


class OxfordMercuryItcEmulator:
    """A MercuryiTC. Settings: `seed`, `serial`. `locked`: the user may change nothing."""

    def __init__(
        self, world: World, *, unit: int | str | None = None, channel: object = None, seed: int = 101,
        serial: str = "123450001", reply_delay: float = 0.01,
    ) -> None:  # fmt: skip
        self.world, self.reply_delay, self.serial = world, reply_delay, serial
        self.address = 1 if unit is None else int(unit)
        self.locked = False
        self.names = {"MB1.T1": "MB1.T1", "MB0.H1": "MB0.H1"}
        self.hot, self.cold = codec.HOTTEST, 0.0
        self.target = 0.0  # K
        self.ramping, self.rate = False, 1.0  # K/min
        self.enabled, self.manual, self.output = False, 0.0, 0.0  # %
        self.p, self.i, self.d = 0.5, 0.02, 0.0  # % per K inverse, min, min: tuned for the chip
        self.zones, self.flow_auto, self.flow = False, False, 0.0
        self.voltage_limit, self.resistance = 40.0, 20.0
        self._sum, self._elapsed, self._random = 0.0, 0.0, random.Random(seed)
        self.measured = self.setpoint = self._measure()
        self._tree: dict[str, tuple[Get, Set | None]] = dict(self._system()) | dict(self._boards())

    def framing(self, scheme: str) -> Framing:
        return AnyLines(b"\n")

    def respond(self, message: bytes) -> bytes | None:
        text = message.decode("latin-1")
        if text[:1] == "@":  # ISOBUS
            if text[1:2] != str(self.address):
                return None
            text = text[2:]
        if text == "*IDN?":
            return f"{codec.IDENTITY}{self.serial}:2.6.04.000".encode()
        verb, _, nouns = text.partition(":")
        if verb not in ("READ", "SET") or len(message) >= codec.LONGEST:
            return f"{verb[:8]}:INVALID".encode("latin-1", "replace")
        return (self._read(nouns.removesuffix("?")) if verb == "READ" else self._set(nouns)).encode(
            "latin-1", "replace"
        )

    # ------------------------------------------------------------------ commands

    def _read(self, nouns: str) -> str:
        if nouns in self._tree:
            return f"STAT:{nouns}:{self._tree[nouns][0]()}"
        # Of a board as a whole everything is told, each noun once.
        told, before = [], nouns.split(":")
        for path, (get, _) in self._tree.items():
            if path.startswith(nouns + ":") and nouns.startswith("DEV:"):
                parts = path.split(":")
                same = next((n for n, (a, b) in enumerate(zip(parts, before, strict=False)) if a != b), len(before))
                told += [*parts[max(same, nouns.count(":") + 1) :], get()]
                before = parts
        return f"STAT:{nouns}:{':'.join(told)}" if told else f"STAT:{self._wrong(nouns)}"

    def _set(self, nouns: str) -> str:
        path, _, value = nouns.rpartition(":")
        _, change = self._tree.get(path, (None, None))
        if change is None:
            return f"STAT:SET:{self._wrong(path)}"
        if self.locked:
            return f"STAT:SET:{path}:DENIED"
        if not change(value):
            return f"STAT:SET:{path}:INVALID"
        return f"STAT:SET:{path}:{value}:VALID"  # as it was sent (D: mercuryitc takes no unit it did not send)

    def _wrong(self, nouns: str) -> str:
        """The nouns as far as they are known, and what is the matter with the next."""
        parts = nouns.split(":")
        if len(parts) > 1 and parts[0] == "DEV" and parts[1] not in self.names:
            return f"{nouns}:NOT_FOUND"
        for n in range(1, len(parts) + 1):
            if not any((path + ":").startswith(":".join(parts[:n]) + ":") for path in self._tree):
                return ":".join([*parts[:n], "INVALID"])
        return f"{nouns}:INVALID"

    def _system(self) -> Iterator[tuple[str, tuple[Get, Set | None]]]:
        yield "SYS:CAT", (lambda: "DEV:MB0.H1:HTR:DEV:MB1.T1:TEMP", None)
        yield "SYS:SERL", (lambda: self.serial, None)
        yield "SYS:MAN:SERL", (lambda: self.serial, None)
        yield "SYS:MAN:FVER", (lambda: "2.6.04.000", None)
        yield "SYS:MAN:HVER", (lambda: "1", None)

    def _boards(self) -> Iterator[tuple[str, tuple[Get, Set | None]]]:
        sensor, loop, heater = "DEV:MB1.T1:TEMP", "DEV:MB1.T1:TEMP:LOOP", "DEV:MB0.H1:HTR"
        yield f"{sensor}:NICK", self._name("MB1.T1")
        yield f"{sensor}:TYPE", (lambda: "PTC", None)
        yield f"{loop}:AUX", (lambda: "None", None)
        yield f"{loop}:D", self._number("d", 0, 299.9)
        yield f"{loop}:HTR", (lambda: "MB0.H1", None)
        yield f"{loop}:I", self._number("i", 0, 199.9)
        yield f"{loop}:HSET", (lambda: f"{self.output:.4f}", self._set_output)
        yield f"{loop}:PIDT", self._switch("zones")
        yield f"{loop}:ENAB", (self._shown("enabled"), self._set_enabled)
        yield f"{loop}:FAUT", self._switch("flow_auto")
        yield f"{loop}:FSET", self._number("flow", 0, 100)
        yield f"{loop}:P", self._number("p", 0, 199.9)
        yield f"{loop}:TSET", (lambda: f"{self.target:.4f}K", self._set_target)
        yield f"{loop}:RENA", self._switch("ramping")
        yield f"{loop}:RSET", self._number("rate", 0, codec.FASTEST, "K/m")
        yield f"{sensor}:CAL:FILE", (lambda: "PT100.dat", None)
        yield f"{sensor}:CAL:HOTL", (lambda: f"{self.hot:.4f}K", None)
        yield f"{sensor}:CAL:COLDL", (lambda: f"{self.cold:.4f}K", None)
        yield f"{sensor}:SIG:VOLT", (lambda: f"{0.1 * self._ohm():.4f}mV", None)
        yield f"{sensor}:SIG:CURR", (lambda: "100.0000uA", None)
        yield f"{sensor}:SIG:POWR", (lambda: f"{0.01 * self._ohm():.4f}uW", None)
        yield f"{sensor}:SIG:TEMP", (lambda: f"{self.measured:.4f}K", None)
        yield f"{sensor}:SIG:RES", (lambda: f"{self._ohm():.4f}O", None)
        yield f"{sensor}:SIG:SLOP", (lambda: "0.3851O/K", None)
        yield f"{heater}:NICK", self._name("MB0.H1")
        yield f"{heater}:VLIM", self._number("voltage_limit", 0, 40)
        yield f"{heater}:RES", self._number("resistance", 10, 2000)
        yield f"{heater}:PMAX", (lambda: f"{self.voltage_limit**2 / self.resistance:.4f}", None)
        yield f"{heater}:SIG:VOLT", (lambda: f"{self._volt():.4f}V", None)
        yield f"{heater}:SIG:CURR", (lambda: f"{self._volt() / self.resistance:.4f}A", None)
        yield f"{heater}:SIG:POWR", (lambda: f"{self._volt() ** 2 / self.resistance:.4f}W", None)

    def _number(self, name: str, low: float, high: float, unit: str = "") -> tuple[Get, Set]:
        def change(text: str) -> bool:
            value = _number(text, unit)
            if value is None or not low <= value <= high:
                return False
            setattr(self, name, value)
            return True

        return (lambda: f"{getattr(self, name):.4f}{unit}"), change

    def _shown(self, name: str) -> Get:
        return lambda: "ON" if getattr(self, name) else "OFF"

    def _switch(self, name: str) -> tuple[Get, Set]:
        def change(text: str) -> bool:
            if text in ("ON", "OFF"):
                setattr(self, name, text == "ON")
            return text in ("ON", "OFF")

        return self._shown(name), change

    def _name(self, board: str) -> tuple[Get, Set]:
        def change(text: str) -> bool:
            self.names[board] = text
            return bool(text)

        return (lambda: self.names[board]), change

    def _set_target(self, text: str) -> bool:
        value = _number(text, "K")
        if value is None or not self.cold <= value <= self.hot:
            return False
        self.target = value
        return True

    def _set_output(self, text: str) -> bool:
        value = _number(text, "")
        if value is None or not 0 <= value <= 100:
            return False
        self.manual = value
        if not self.enabled:
            self._heat(value)
        return True

    def _set_enabled(self, text: str) -> bool:
        if text not in ("ON", "OFF"):
            return False
        self.enabled = text == "ON"
        self._sum = self.manual = self.output  # each mode begins where the other was
        return True

    # ------------------------------------------------------------------ time

    def advance(self, dt: float) -> None:
        self._elapsed += dt
        while self._elapsed >= CYCLE - 1e-9:
            self._elapsed -= CYCLE
            self._cycle()

    def _cycle(self) -> None:
        self.measured = self._measure()
        away, step = self.target - self.setpoint, self.rate / 60 * CYCLE
        self.setpoint += away if not self.ramping or abs(away) <= step else math.copysign(step, away)
        if not self.enabled:
            self.setpoint = self.measured  # from where it will ramp once it is on
            self._heat(self.manual)
            return
        proportional = (self.setpoint - self.measured) * self.p
        total = self._sum + (proportional * CYCLE / (self.i * 60) if self.i else 0.0)
        output = min(max(proportional + total, 0.0), 100.0)
        self._sum = total if output == proportional + total else min(max(self._sum, 0.0), 100.0)
        self._heat(output)

    def _heat(self, percent: float) -> None:
        self.output = percent
        self.world.heaters[self] = percent / 100 * FULL_POWER

    def _measure(self) -> float:
        kelvin: float = convert(self.world.temperature, "degC", "K")
        return max(0.0, kelvin + self._random.gauss(0.0, NOISE))

    def _ohm(self) -> float:
        return 100 + 0.385 * (self.measured - 273.15)

    def _volt(self) -> float:
        """Across the heater: power goes with the output (the controller linearises)."""
        return math.sqrt(self.output / 100) * self.voltage_limit


def _number(text: str, unit: str) -> float | None:
    """A number with or without its unit; None if it is none."""
    try:
        return codec.number(text, unit if text.endswith(unit) else "")
    except ValueError:
        return None
