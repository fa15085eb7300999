"""Limits: what may be asked of a signal. They refuse, they never clip, and they only ever narrow."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import ConfigError
from ..units import factors

_RANGE = re.compile(r"^\s*(?P<low>[-+0-9.eE]*?)\s*\.\.\s*(?P<high>[-+0-9.eE]*)\s*(?P<unit>.*?)\s*$")


@dataclass(frozen=True, slots=True)
class Limits:
    """A closed interval in a signal's unit."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high  # False for NaN, as it should be

    def within(self, other: Limits) -> bool:
        """Whether everything allowed here is allowed by `other`."""
        return other.low <= self.low and self.high <= other.high

    def narrowed(self, other: Limits) -> Limits:
        """What both allow."""
        return Limits(max(self.low, other.low), min(self.high, other.high))

    def shown(self, unit: str) -> str:
        if self.low == -math.inf or self.high == math.inf:
            ends = [f"from {self.low:g}"] * (self.low > -math.inf) + [f"up to {self.high:g}"] * (self.high < math.inf)
            return f"{' '.join(ends) or 'anything in'} {unit}".rstrip()
        return f"{self.low:g} to {self.high:g} {unit}".rstrip()


def parse_limits(text: str, unit: str) -> Limits:
    """Read ``"20..400 degC"``, ``"..1 bar"`` or ``"0.."`` into `unit`; raise `ConfigError`."""
    match = _RANGE.match(text)
    if not match or "..." in text:
        raise ConfigError(f'{text!r} is no range; write "20..400 {unit}", "..400 {unit}" or "20..{unit}"')
    try:
        low = float(match["low"]) if match["low"] else -math.inf
        high = float(match["high"]) if match["high"] else math.inf
    except ValueError:
        raise ConfigError(f'{text!r} has a number that can\'t be read; write "20..400 {unit}"') from None
    if low == -math.inf and high == math.inf:
        raise ConfigError(f'{text!r} limits nothing; write "20..400 {unit}", "..400 {unit}" or "20..{unit}"')
    scale, offset = factors(match["unit"] or unit, unit)
    limits = Limits(low * scale + offset, high * scale + offset)
    if not limits.low <= limits.high:
        raise ConfigError(f"{text!r}: the lower end is above the upper")
    return limits
