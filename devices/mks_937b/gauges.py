"""One channel of an emulated 937B: its sensor, what it can see, and what switches it off.

Sections of the manual: see `settings`. Unverified: how high an ion gauge reads before it is protected, and that a hot
cathode waits as long as a cold one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import codec, settings
from .settings import COLD, HOT, ION, MANOMETER, PIRANI

UNDER = {
    PIRANI: (4, 2, 1), settings.CONVECTION: (3, 1, 0), COLD: (11, 9, 8), HOT: (10, 8, 7),
}  # fmt: skip
"""Exponents, negated, of the least pressure in Torr or mbar, Pa and micron (section 9.3)."""
ATMOSPHERE = 450.0  # Torr, where a Pirani gauge says so
STARTS = 3.0  # s
TORR = codec.PASCALS["TORR"]


@dataclass
class Channel:
    """One of the six places for a sensor."""

    number: int
    sensor: str
    """As MT and ST call it; empty: none."""
    torr: float = 0.0
    """As of the latest measurement."""
    on: bool = True
    why: str = ""
    """Why it is off: PROT_OFF or CTRL_OFF; empty if it was told to."""
    waiting: float = 0.0
    """Seconds until it shows a pressure."""
    degassing: float = 0.0
    """Seconds that are left of it."""
    word: str = ""
    """What it says instead of a pressure, for tests: ``PROT_OFF``."""
    kept: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restore()

    @property
    def ion(self) -> bool:
        return self.sensor in ION

    def restore(self) -> None:
        """As delivered."""
        self.kept = {name: one.factory for name, one in settings.CHANNEL.items() if self.sensor in one.sensors}

    def number_of(self, name: str) -> float:
        """A setting that is a number."""
        return float(self.kept[name])

    def power(self, on: bool) -> None:
        """By hand, by command, or by the gauge that controls it."""
        if on and not self.on and self.ion:
            self.waiting = self.number_of("TDC") if self.sensor == COLD else STARTS
        self.on, self.why = on, ""
        if not on:
            self.waiting = self.degassing = 0.0

    def advance(self, dt: float) -> None:
        self.waiting = max(0.0, self.waiting - dt)
        self.degassing = max(0.0, self.degassing - dt)

    def protect(self, control: Channel | None) -> None:
        """Off if the pressure is too high for it (PRO), or as the gauge says that controls it (CSP, CHP)."""
        if not self.ion:
            return
        if self.on and 0.0 < self.number_of("PRO") < self.torr:
            self.power(False)
            self.why = "PROT_OFF"
            self.kept["CTL"] = "OFF"  # from then on it is switched on by hand or command only (6.5.4)
        mode = self.kept["CTL"]
        if control is None or mode == "OFF":
            return
        sees = control.on and not control.waiting
        if self.on and (not sees or control.torr > self.number_of("CHP")):
            self.power(False)
            self.why = "CTRL_OFF"
        elif self.why == "CTRL_OFF" and mode == "AUTO" and sees and control.torr < self.number_of("CSP"):
            self.power(True)

    @property
    def value(self) -> float | None:
        """The pressure it shows, Torr; None if a word stands for it."""
        return self.torr if not self._instead("TORR") else None

    def shown(self, unit: str) -> str:
        """Its pressure in a unit, or the word that stands for it."""
        if word := self._instead(unit):
            return word
        value = self.torr * TORR / codec.PASCALS[unit]
        return codec.encode_pressure(value) if self.sensor == MANOMETER else codec.encode_short(value)

    def _instead(self, unit: str) -> str:
        if self.word:
            return self.word
        if not self.sensor:
            return "NO_GAUGE"
        if not self.on:
            return self.why or "OFF"
        if self.waiting:
            return "WAIT"
        if self.sensor == MANOMETER and self.torr > 1.1 * self.number_of("RNG"):
            return f">{codec.encode_pressure(1.1 * self.number_of('RNG') * TORR / codec.PASCALS[unit])}"
        if self.sensor == PIRANI and self.torr > ATMOSPHERE:
            return "ATM"
        if self.sensor in UNDER:
            torr, pascal, micron = UNDER[self.sensor]
            if self.torr < 10.0**-torr:
                return f"LO<E-{pascal if unit == 'PASCAL' else micron if unit == 'MICRON' else torr}"
        return ""

    @property
    def status(self) -> str:
        """The letter that T tells (9.7, 9.8)."""
        if not self.on:
            return {"PROT_OFF": "P", "CTRL_OFF": "C"}.get(self.why, "O")
        if self.waiting:
            return "W"
        if self.degassing:
            return "D"
        return "L" if self.torr < 10.0 ** -UNDER[self.sensor][0] else "G"
