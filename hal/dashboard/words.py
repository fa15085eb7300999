"""Numbers, units and times as people read them: as many digits as are known, and no more."""

from __future__ import annotations

import math
from typing import Any

UNITS = {"degC": "°C", "Ohm": "Ω", "uL": "µL", "uL/min": "µL/min", "um": "µm", "uA": "µA", "us": "µs", "deg": "°"}
PREFIXED = frozenset({"V", "A", "W", "Ohm", "s", "Hz"})
"""Units that people say with a prefix (12 µV); a pressure has a power of ten."""
PREFIXES = ("f", "p", "n", "µ", "m", "", "k", "M", "G")
DIGITS = 5
"""Of a number whose uncertainty is not known."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def shown_unit(unit: str) -> str:
    """A unit as it is printed."""
    return UNITS.get(unit, unit)


def shown(value: Any, uncertainty: float | None = None, unit: str = "") -> tuple[str, str, str]:
    """A value, its standard uncertainty ("" where unknown) and its unit, to as many digits as have a meaning."""
    printed = UNITS.get(unit, unit)
    if value is None:
        return "–", "", printed
    if isinstance(value, bool):
        return ("yes" if value else "no"), "", printed
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return str(value), "", printed
    sigma = uncertainty if uncertainty and math.isfinite(uncertainty) and uncertainty > 0 else None
    if isinstance(value, int) and sigma is None:
        return f"{value:,}".replace(",", " ").replace("-", "−"), "", printed
    size = max(abs(value), sigma or 0.0)
    power = math.floor(math.log10(size)) if size > 0 else 0
    scaled, times = 0, ""
    if unit in PREFIXED and size > 0 and -15 <= power < 12 and not 0 <= power < 3:
        scaled = 3 * (power // 3)
        printed = PREFIXES[scaled // 3 + 5] + printed
    elif size > 0 and not -3 < power < 5:
        scaled = power
        times = f"×10{str(scaled).translate(_RAISED)}"
    value = value / 10.0**scaled
    if sigma is None:
        return _minus(f"{value:.{DIGITS}g}") + times, "", printed
    last = math.floor(math.log10(sigma))
    if sigma / 10.0**last < 3:  # a 1 or a 2 alone would be a rounding of up to 50 %
        last -= 1
    decimals = min(max(0, scaled - last), 9)
    return _minus(f"{value:.{decimals}f}") + times, f"{sigma / 10.0**scaled:.{decimals}f}{times}", printed


def shown_seconds(seconds: float | None) -> str:
    """A short time with a unit that leaves few digits: ``12 µs``."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    for limit, unit, scale in ((1e-6, "ns", 1e9), (1e-3, "µs", 1e6), (1.0, "ms", 1e3), (120.0, "s", 1.0)):
        if abs(seconds) < limit:
            return f"{seconds * scale:.3g} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _minus(text: str) -> str:
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")
