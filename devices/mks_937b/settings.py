"""What can be set at a 937B: for which sensors, what it takes, and what it is at first.

Source: MKS "Series 937B Vacuum System Controller" instruction manual, 100016467 rev. F, August 2020, sections 9.4 to
9.9, and 6.4 and 6.5 where they give more. Unverified: values as delivered that the manual does not tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import codec

MANOMETER, PIRANI, CONVECTION, COLD, HOT = "CM", "PR", "CP", "CC", "HC"
ION, THERMAL = (COLD, HOT), (PIRANI, CONVECTION)
EVERY = (MANOMETER, *THERMAL, *ION)
PLACES = ("A1", "A2", "B1", "B2", "C1", "C2")

REFUSED = {
    ION: codec.NOT_ION, (HOT,): codec.NOT_HOT, (COLD,): codec.NOT_COLD, (MANOMETER,): codec.NOT_MANOMETER,
    THERMAL: codec.NOT_PIRANI, (*THERMAL, *ION): codec.WRONG_GAUGE,
    (MANOMETER, *THERMAL): codec.NOT_PIRANI_OR_MANOMETER,
}  # fmt: skip
"""What a channel says whose sensor is none of these (section 9.10)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: words, or a number between two bounds."""

    sensors: tuple[str, ...] = ()
    """That have it; empty: the controller itself."""
    factory: str = ""
    words: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    form: str = ""
    """How a number is written."""
    torr: bool = False
    """A pressure: bounds and factory value in Torr, told in the unit that is shown."""
    zero: bool = False
    """0 is taken too."""
    calibration: bool = False
    """Not taken while CAL is disabled."""

    def take(self, value: str, unit: str) -> str | int:
        """The value as it is kept (pressures in Torr), or the code of a refusal."""
        if self.words:
            return next((word for word in self.words if word.upper() == value.upper()), codec.ARGUMENT)
        if not codec.is_number(value):
            return codec.ARGUMENT
        number = float(value) * (codec.PASCALS[unit] / codec.PASCALS["TORR"] if self.torr else 1.0)
        inside = self.low * (1 - 1e-9) <= number <= self.high * (1 + 1e-9) or (self.zero and number == 0.0)
        return repr(number) if inside else codec.RANGE

    def tell(self, kept: str, unit: str) -> str:
        """A value that is kept, as the controller writes it."""
        if self.words:
            return kept
        number = float(kept) * (codec.PASCALS["TORR"] / codec.PASCALS[unit] if self.torr else 1.0)
        return f"{number:{self.form}}"


def _words(sensors: tuple[str, ...], *words: str) -> Setting:
    return Setting(sensors, words[0], words)


def _pressure(
    sensors: tuple[str, ...], factory: float, low: float, high: float, form: str = ".2E", *, zero: bool = False
) -> Setting:
    return Setting(sensors, str(factory), (), low, high, form, torr=True, zero=zero)


GASES = ("Nitrogen", "Argon", "Helium")
CHANNEL = {
    # Manometers (9.5).
    "RNG": _pressure((MANOMETER,), 1000.0, 0.01, 1e4),
    "CMT": _words((MANOMETER,), "ABS", "Diff"),
    "BVR": _words((MANOMETER,), "10", "5", "1B", "5B", "1U", "5U", "10U"),
    # Pirani gauges (9.6).
    "AZ": _words((MANOMETER, *THERMAL), "NA", *PLACES),
    "PT": _words(THERMAL, "AUTO", "PR", "CP"),
    "ATM": Setting(THERMAL, "760.0", (), 100.0, 1000.0, ".2E", torr=True, calibration=True),
    "GT": _words((*THERMAL, *ION), *GASES, "Custom"),
    # Ion gauges (9.7, 9.8).
    "PRO": _pressure(ION, 5e-3, 1e-5, 1e-2, zero=True),
    "CSP": _pressure(ION, 1e-3, 2e-4, 2e-2),
    "XCS": _words(ION, "OFF", "ON"),
    "CHP": _pressure(ION, 1.5e-3, 2.4e-4, 3e-2),
    "CSE": _words(ION, "OFF", *PLACES),
    "CTL": _words(ION, "OFF", "AUTO", "SAFE"),
    "UC": Setting((COLD,), "1.0", (), 0.1, 10.0, ".1f", calibration=True),
    "TDC": Setting((COLD,), "3", (), 3, 300, ".0f"),
    "FRC": _pressure((COLD,), 1e-5, 2e-10, 5e-5, ".1E"),
    "AF": _words((HOT,), "1", "2"),
    "EC": _words((HOT,), "AUTO20", "20UA", "100UA", "AUTO100"),
    "GC": Setting((HOT,), "1.0", (), 0.1, 50.0, ".2f", calibration=True),
    "SEN": Setting((HOT,), "12.0", (), 1.0, 50.0, ".2f", calibration=True),
    "DGT": Setting((HOT,), "30", (), 5, 240, ".0f"),
}
WIDER = 0.95
"""Torr, of CSP and CHP while XCS is on."""

OUTPUTS = {
    "DLT": _words((), "LOG", "LIN"),
    "DLA": Setting((), "0.6", (), 1e-4, 1e8, ".2E"),
    "DLB": Setting((), "7.2", (), -20.0, 20.0, ".2E"),
}
"""Of each analog output, and of 0, the combined one (9.9)."""

SYSTEM = {
    "PAR": _words((), "NONE", "EVEN", "ODD"),
    "DM": _words((), "STD", "LRG"),
    "DF": _words((), "Default", "PatchZ", "HighR"),
    "LOCK": _words((), "OFF", "ON"),
    "CAL": _words((), "Enable", "Disable"),
    "SPM": _words((), "Enable", "Disable"),
    "SEM": _words((), "CODE", "TXT"),
    "IU": _words((), "OFF", "ON"),
    "BR": _words((), "9600", "19200", "38400", "57600", "115200"),
    "DLY": Setting((), "8", (), 1, 1000, ".0f"),
    "SST": Setting((), "0", (), 0, 240, ".0f"),
}

# Relays (9.4; 6.5.2 to 6.5.5): the least set point (of a manometer: of its full scale), which 0 asks for, Torr; and the
# hysteresis that a new set point brings, in set points, if they close below it and if above it.
RELAYS = {
    MANOMETER: (0.01, 1.1, 0.9), PIRANI: (2e-3, 1.5, 0.5), CONVECTION: (2e-3, 1.5, 0.5), COLD: (2e-10, 1.5, 0.5),
    HOT: (5e-10, 1.5, 0.5),
}  # fmt: skip
DIRECTIONS, MODES = ("BELOW", "ABOVE"), ("CLEAR", "SET", "ENABLE")
