"""Calibrated signals: what a certificate makes of another signal's readings.

The raw signal stays as it is, and so does what a driver decides by it. The calibrated one stands beside it, is
answered by the same question and so costs the wire nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Never

from .reading import Answer, Quality, Sample
from .signal import SignalR

SUFFIX = "_calibrated"
"""Of a calibrated signal's name."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A certificate as it is applied to a signal."""

    file: str
    """As the lab file names it."""
    text: str
    """The certificate itself."""
    serial: str
    """Of what was calibrated; empty: it tells none."""
    override: str
    """Why it is used although it has expired or is another sensor's; empty: it has to be right."""
    unit: str
    """Of the calibrated value."""
    apply: Callable[[float, float], Sample[float]]
    """A raw value and its standard uncertainty, in the raw signal's unit, to the calibrated value."""

    def of(self, raw: SignalR[Any]) -> SignalR[float]:
        """The calibrated signal beside `raw`, which may be bound to a device or not."""
        signal = SignalR(
            float, self.unit, at=CalibratedAt(raw, self), kind=raw.kind, doc=f"{raw.name} by certificate {self.file}",
            poll=raw.poll, max_age=raw.max_age, aperture=raw.aperture, varies=raw.varies, max_gap=raw.max_gap,
        )  # fmt: skip
        signal.name = raw.name + SUFFIX
        return signal


@dataclass(frozen=True, slots=True)
class CalibratedAt:
    """The place of a calibrated signal: where the raw one is."""

    raw: SignalR[Any]
    calibration: Calibration

    def question(self, device: Any) -> Hashable:
        return self.raw.at.question(device)

    async def ask(self, device: Any) -> Answer:
        return await self.raw.at.ask(device)

    def value(self, device: Any, payload: Any) -> Sample[float]:
        found = self.raw.at.value(device, payload)
        told = found if isinstance(found, Sample) else Sample(found)
        if told.value is None:
            return Sample(None, told.quality, told.reason)
        noise = told.uncertainty
        if noise is None:
            noise = self.raw.noise.of(told.value) if self.raw.noise is not None else 0.0
        made = self.calibration.apply(float(told.value), noise)
        if told.quality is Quality.GOOD:
            return made
        return Sample(made.value, told.quality, told.reason or made.reason, made.uncertainty)

    async def put(self, device: Any, value: float) -> Never:
        raise AttributeError(f"{self.raw.name} is calibrated afterwards; set the signal itself")
