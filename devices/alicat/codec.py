"""Alicat's ASCII lines: a unit's letter, a command, CR; answers are lines too, and "?" is a refusal.

Sources: Alicat Serial Communications Primer, February 2023, rev. 2 (P); MC series manual, "Serial
Communications", quick command guide (M); the forms of answers after the open drivers alicat (numat)
and alicatlib (D). Commands may be in any case. Of the primer its table of contents and quotations were
read, not its pages. What is marked *unverified* was in none of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.protocols.framing import AnyLines

REFUSAL = "?"
MASS_FLOW = 37
"""The loop variable of a controller whose setpoint is a mass flow (P, LV)."""
ANALOG = "A"
"""The setpoint's source (P, LSS): S serial or front panel, U the same and not saved, A analog."""
OLDEST = (9, 0)
"""The first firmware with LS and LV (P)."""
TELLS_SOURCE = (10, 5)
"""The first firmware with LSS, and with DCFRT (P)."""

ICE = 273.15  # K
# mL/min in one unit of volume, and whether it counts at the "standard" temperature or the "normal" one (unverified).
_FOOT = 28316.846592  # mL
VOLUMES = {
    "SCCM": (1.0, True), "SLPM": (1000.0, True), "SCCS": (60.0, True), "SL/H": (1000 / 60, True),
    "SCFM": (_FOOT, True), "SCFH": (_FOOT / 60, True), "NCCM": (1.0, False), "NLPM": (1000.0, False),
    "NCCS": (60.0, False), "NL/H": (1000 / 60, False),
}  # fmt: skip
UNIT_LABELS = {
    7: "SLPM", 8: "SL/h", 11: "SCCS", 12: "SCCM", 18: "SCFM", 19: "SCFH", 37: "NLPM", 38: "NL/h", 41: "NCCS",
    42: "NCCM",
}  # fmt: skip
"""Units of mass flow by the number that DCU and LS take (P, appendix B; D: alicatlib)."""
UNIT_CODES = {label.upper(): code for code, label in UNIT_LABELS.items()}
PSI = 6894.757  # Pa
PRESSURES = {
    2: ("PaA", 1.0), 3: ("hPaA", 100.0), 4: ("kPaA", 1e3), 5: ("MPaA", 1e6), 6: ("mbarA", 100.0), 7: ("barA", 1e5),
    10: ("PSIA", PSI), 13: ("torrA", 101325 / 760), 22: ("atmA", 101325.0),
}  # fmt: skip
"""Label and Pa of one (P, appendix B; D: alicatlib; labels but PSIA unverified)."""
TEMPERATURES = {2: "`C", 3: "`F", 4: "`K"}

# Gas numbers (P, appendix C; D: alicatlib, labmcp-alicat; older firmware calls 25 and 26, D: alicat).
GASES = (
    "Air", "Ar", "CH4", "CO", "CO2", "C2H6", "H2", "He", "N2", "N2O", "Ne", "O2", "C3H8", "n-C4H10", "C2H2",
    "C2H4", "i-C4H10", "Kr", "Xe", "SF6", "C-25", "C-10", "C-8", "C-2", "C-75", "He-25", "He-75", "A1025", "Star29",
    "P-5",
)  # fmt: skip
LONG_NAMES = {
    "Ar": "Argon", "CH4": "Methane", "CO": "Carbon_Monoxide", "CO2": "Carbon_Dioxide", "C2H6": "Ethane",
    "H2": "Hydrogen", "He": "Helium", "N2": "Nitrogen", "N2O": "Nitrous_Oxide", "Ne": "Neon", "O2": "Oxygen",
    "C3H8": "Propane", "C2H2": "Acetylene", "C2H4": "Ethylene", "Kr": "Krypton", "Xe": "Xenon",
    "SF6": "Sulfur_Hexafluoride",
}  # fmt: skip
"""As GS tells them: one word (D: alicatlib; which words is unverified)."""

# Words after the gas (P, "Status/Error Codes"; D for HLD, LCK and the overs; the others' meanings are unverified).
HELD, LOCKED, MASS_OVER = "HLD", "LCK", "MOV"
STATES = {
    "ADC": "its converter does not answer; it needs service",
    "COM": "nobody has spoken to it for too long",
    "EXH": "the valve exhausts",
    "GTA": "it tunes its loop",
    HELD: "the valve is held",
    LOCKED: "its front panel is locked",
    MASS_OVER: "mass flow over range",
    "OPL": "over its pressure limit; it closed the valve",
    "OVR": "totalizer rolled over",
    "P2O": "second pressure over range",
    "POV": "pressure over range",
    "TMF": "totalizer missed flow",
    "TOV": "temperature over range",
    "VOV": "volumetric flow over range",
}

_NUMBER = r"[+-]?\d+(?:\.\d+)?"  # setpoint and totalizer may have no sign (D: pyalicat, FDF)
_FRAME = re.compile(rf"([A-Z])((?: +{_NUMBER}){{5,8}}) +([A-Za-z][^ ]*)((?: +[A-Z][A-Z0-9]{{2}})*)\s*")
_SETPOINT = re.compile(rf"([A-Z]) +({_NUMBER}) +({_NUMBER}) +(\d+) +([^ ]+)\s*")
_FULL_SCALE = re.compile(r"([A-Z])(?: +\d+)? +([+-]?\d+(?:\.\d+)?) +(\d+) +([A-Za-z/%][^ ]*)\s*")
_FIRMWARE = re.compile(r"([A-Z]) +(?:.*[^\d])?(\d+)v(\d+).*")
_VARIABLE = re.compile(r"([A-Z]) +(\d+)\s*")
_TEMPERATURE = re.compile(rf"([A-Z]) +({_NUMBER}) +(\d+) +`?([CFK])\s*")
_SOURCE = re.compile(r"([A-Z]) +([SUA])\s*")


def host_end() -> AnyLines:
    """Either end: lines end with CR; some firmware adds LF (D)."""
    return AnyLines(b"\r")


@dataclass(frozen=True, slots=True)
class Frame:
    """The data frame in its order as delivered: pressure, temperature, two flows, setpoint, gas (M, P)."""

    pressure: float
    temperature: float
    volumetric: float
    flow: float
    setpoint: float
    gas: str
    states: tuple[str, ...] = ()

    def encode(self, unit: str, decimals: int) -> str:
        """As the instrument sends it: 7 characters a number, the gas flush right (D: alicatlib)."""
        numbers = f"{self.pressure:+07.2f} {self.temperature:+07.2f}"
        numbers += "".join(f" {value:+07.{decimals}f}" for value in (self.volumetric, self.flow, self.setpoint))
        return f"{unit} {numbers} {self.gas:>6}" + "".join(f" {state}" for state in self.states)

    @classmethod
    def decode(cls, line: str) -> Frame:
        """Raises ValueError. Further numbers (valve drive, totalizer) may stand before the gas (M)."""
        found = _match(_FRAME, line, "data frame")
        pressure, temperature, volumetric, flow, setpoint = [float(number) for number in found[2].split()[:5]]
        return cls(pressure, temperature, volumetric, flow, setpoint, found[3], tuple(found[4].split()))


@dataclass(frozen=True, slots=True)
class Setpoint:
    """The answer to LS: what it follows now, what was asked for (they differ in a ramp), and the unit."""

    current: float
    requested: float
    step: float
    """The last digit shown."""
    unit: str

    @classmethod
    def decode(cls, line: str) -> Setpoint:
        """``A +50.00 +50.00 12 SCCM`` (P, "Query/Change Setpoint"); raises ValueError."""
        found = _match(_SETPOINT, line, "setpoint")
        return cls(float(found[2]), float(found[3]), 10.0 ** -len(found[3].partition(".")[2]), found[5])


def decode_full_scale(line: str) -> tuple[float, str]:
    """The answer to FPF: ``A 100 12 SCCM`` (P, "Full-Scale Values"); raises ValueError."""
    found = _match(_FULL_SCALE, line, "full scale")
    return float(found[2]), found[4]


def decode_firmware(line: str) -> tuple[int, int]:
    """The answer to VE: ``A   10v20.0-R24 Jan  9 2025,15:04:07`` is (10, 20); raises ValueError."""
    found = _match(_FIRMWARE, line, "firmware version")
    return int(found[2]), int(found[3])


def decode_variable(line: str) -> int:
    """The answer to LV: ``A 37``; raises ValueError."""
    return int(_match(_VARIABLE, line, "loop variable")[2])


def decode_source(line: str) -> str:
    """The answer to LSS: ``A S``; raises ValueError."""
    return _match(_SOURCE, line, "setpoint source")[2]


def decode_temperature(line: str) -> float:
    """The answer to DCFRT, in degC: ``A 25.00 2 `C`` (form after D: alicatlib); raises ValueError."""
    found = _match(_TEMPERATURE, line, "temperature")
    value = float(found[2])
    return {"C": value, "F": (value - 32) / 1.8, "K": value - ICE}[found[4]]


def sccm(unit: str, standard: float) -> float:
    """mL/min at 0 degC in one `unit`, whose standard temperature is `standard`, degC; raises ValueError.

    By the ideal gas: the same number of molecules takes T/273.15 K of the volume.
    """
    if unit.upper() not in VOLUMES:
        raise ValueError(f"{unit!r} is not one of {', '.join(VOLUMES)}")
    volume, counts_at_standard = VOLUMES[unit.upper()]
    return volume * (ICE / (ICE + standard) if counts_at_standard else 1.0)


def _match(pattern: re.Pattern[str], line: str, what: str) -> re.Match[str]:
    found = pattern.fullmatch(line)
    if found is None:
        raise ValueError(f"{line!r} is no {what}")
    return found
