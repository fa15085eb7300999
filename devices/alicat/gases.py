"""The gases an Alicat can be set to: those of its table, and mixtures that its user makes (GM, GC, GD)."""

from __future__ import annotations

from collections.abc import Iterator

from . import codec
from .codec import REFUSAL

MIXTURES = range(236, 256)
PARTS = 5
"""Gases in a mixture, at most."""


class Gases:
    """By number. What a mixture's making answers is unverified, as is what is refused."""

    def __init__(self) -> None:
        self._mixtures: dict[int, tuple[str, tuple[tuple[int, float], ...]]] = {}
        """Name and parts: gas and percent."""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        yield from enumerate(codec.GASES)
        yield from sorted((number, name) for number, (name, _) in self._mixtures.items())

    def __contains__(self, number: int) -> bool:
        return number in dict(self)

    def name(self, number: int) -> str:
        return dict(self).get(number, "Mix")

    def mix(self, name: str, number: int, parts: str) -> str:
        """What GM is answered: a number of 0 takes the next that is free, downwards (unverified)."""
        where = number or next(n for n in reversed(MIXTURES) if n not in self._mixtures or n == MIXTURES[0])
        fields = parts.split()
        found = [(int(gas), float(percent)) for percent, gas in zip(fields[::2], fields[1::2], strict=True)]
        whole = abs(sum(percent for _, percent in found) - 100.0) < 0.005
        if where not in MIXTURES or not 2 <= len(found) <= PARTS or not whole or len(name) > 6:
            return REFUSAL
        if any(gas >= len(codec.GASES) for gas, _ in found):
            return REFUSAL
        self._mixtures[where] = name, tuple(found)
        return self.parts(where)

    def parts(self, number: int) -> str:
        """What GC is answered."""
        if number not in self._mixtures:
            return REFUSAL
        return f"{number} " + " ".join(f"{gas}={percent:.2f}" for gas, percent in self._mixtures[number][1])

    def forget(self, number: int) -> bool:
        """Whether there was such a mixture."""
        return self._mixtures.pop(number, None) is not None
