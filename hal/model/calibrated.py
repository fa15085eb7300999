"""Calibrated signals: what a certificate makes of another signal's readings.

The raw signal stays as it is, and so does what a driver decides by it. The calibrated one stands beside it, is
answered by the same question and so costs the wire nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Never, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .reading import Answer, Quality, Sample
from .signal import SignalR

SUFFIX = "_calibrated"
"""Of a calibrated signal's name."""

Applied = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
"""Calibrated values, their standard uncertainties, and where the raw value lay beyond the certificate's range."""


def nothing() -> str:
    """No objection."""
    return ""


class Sheet(Protocol):
    """What a holder's electronic data sheet says of it."""

    @property
    def model(self) -> str: ...
    @property
    def serial(self) -> str: ...
    @property
    def certificate(self) -> bytes:
        """As `calibration.teds.lengthen` reads it; empty: it brings none."""
        ...


@runtime_checkable
class Plugged(Protocol):
    """A device that a holder is plugged into."""

    data_sheet: Sheet | None
    """As read when it was connected, or since; None: there is none, or it is damaged."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A certificate as it is applied to a signal."""

    file: str
    """As the lab file names it; or the holder whose TEDS brought it, and the certificate's hash."""
    text: str
    """The certificate itself."""
    serial: str
    """Of what was calibrated; empty: it tells none."""
    override: str
    """Why it is used although it has expired or is another sensor's; empty: it has to be right."""
    unit: str
    """Of the calibrated value."""
    apply: Callable[[ArrayLike, ArrayLike], Applied]
    """Raw values and their standard uncertainties, in the raw signal's unit, to calibrated ones."""
    beyond: str = ""
    """What is to be said of a raw value beyond its range."""
    objection: Callable[[], str] = nothing
    """Why it does not hold for what is connected now; empty: it does. Asked at each reading."""
    doubt: Callable[[], str] = nothing
    """Why its values are to be doubted by now; empty: they aren't. Asked at each reading."""

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
        if why := self.calibration.objection():
            return Sample(None, Quality.BAD, why)
        found = self.raw.at.value(device, payload)
        told = found if isinstance(found, Sample) else Sample(found)
        if told.value is None:
            return Sample(None, told.quality, told.reason)
        noise = told.uncertainty
        if noise is None:
            noise = self.raw.noise.of(told.value) if self.raw.noise is not None else 0.0
        value, uncertainty, beyond = self.calibration.apply(float(told.value), noise)
        quality, reason = told.quality, told.reason
        doubt = self.calibration.doubt() or (self.calibration.beyond if beyond else "")
        if doubt and quality is Quality.GOOD:
            quality = Quality.UNCERTAIN
        return Sample(float(value), quality, reason or doubt, float(uncertainty))

    async def put(self, device: Any, value: float) -> Never:
        raise AttributeError(f"{self.raw.name} is calibrated afterwards; set the signal itself")
