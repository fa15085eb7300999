"""A certificate's curve over recorded values: what a calibrated signal was, is at frames, or would have been."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError, UnitError
from ..units import factors
from ..units import unit as known_unit
from .layout import QUALITIES, Aligned

if TYPE_CHECKING:
    from calibration.certificate import Certificate
    from calibration.curve import Curve

    from ..frames.frame import FrameTimes
    from .parts import SignalRecord
    from .reader import Recording

Float64 = NDArray[np.float64]
ELECTRICAL = ("voltage", "current", "resistance")
"""What sensors give, and nobody wants to know of a temperature or a pressure."""


def is_of(certificate: Certificate, identity: str, serials: Iterable[str]) -> bool:
    """Whether a certificate is of a device that says `identity`, or of a holder with one of these serial numbers.

    In an identity the number is one word of several; a holder's is the number itself.
    """
    return certificate.is_of(identity) or certificate.serial in serials


def curve_for(certificate: Certificate, unit: str, on: date | None = None) -> tuple[Curve, float, float]:
    """A certificate's curve for readings in `unit`, and the factor and offset that bring them into its own unit.

    on: the day of use, for its drift; today if None. Raises `CertificateError`, also where it could be turned round,
    but would make a voltage of a temperature: it is one for the sensor behind the instrument.
    """
    from calibration.certified import FROM_QUANTITY, curve_of
    from calibration.errors import CertificateError

    plain = curve_of(certificate, on=on)
    ways = [(plain.unit_in, plain.unit_out), (plain.unit_out, plain.unit_in)]
    for own, other in ways[1:] if certificate.kind in FROM_QUANTITY else ways:
        try:
            factors(other, other)  # one that a signal can be in
        except UnitError as error:
            raise CertificateError(str(error)) from None
        with suppress(UnitError):
            scale, offset = factors(unit, own)
            if known_unit(other).dimension in ELECTRICAL and known_unit(unit).dimension not in ELECTRICAL:
                continue
            return curve_of(certificate, own, on=on), scale, offset
    way = (plain.unit_out, plain.unit_in) if certificate.kind in FROM_QUANTITY else (plain.unit_in, plain.unit_out)
    raise CertificateError(
        f"it takes {way[0]} to {way[1]}, and the signal is in {unit or 'no unit'}; name the certificate of this sensor"
    )


def through(
    certificate: Certificate, unit: str, on: date, value: Float64, sigma: Float64
) -> tuple[Float64, Float64, NDArray[np.bool_], str]:
    """Values in `unit` with their standard uncertainties through a certificate's curve: the same, whether the raw
    value lay beyond its range, and the unit. NaN stays NaN. Raises `CertificateError`.
    """
    curve, scale, offset = curve_for(certificate, unit, on)
    found = curve(scale * value + offset, np.abs(scale) * np.nan_to_num(sigma, nan=0.0), outside="mark")
    return found.value, found.uncertainty, found.uncertain, curve.unit_out


def at_frames(run: Recording, path: str, raw: Aligned, frames: FrameTimes) -> Aligned:
    """A calibrated signal at frames, from its raw signal there and the certificate that the run holds.

    The mean of the raw value is put through the curve, so that the certificate's own uncertainty, which all readings
    share, is not averaged down. Frames at which the certificate was refused, for another holder had been plugged in,
    have no value. Raises `RecordError`.
    """
    from calibration.certificate import parse
    from calibration.errors import CertificateError

    record = run.signals[path]
    device = run.devices[path.partition(".")[0]]
    try:
        certificate = parse(device.certificates[record.certificate])
        value, sigma, _, unit = through(
            certificate, raw.unit, day_of(run), np.asarray(raw.value, np.float64), np.asarray(raw.uncertainty)
        )
    except (KeyError, CertificateError) as error:
        raise RecordError(f"{run.path}: {path} can't be calibrated by {record.certificate!r}: {error}") from None
    held = ~_refused(record, run.signals[record.raw], frames)
    return Aligned(value, sigma, raw.valid & np.isfinite(value) & held, unit)


def _refused(made: SignalRecord, raw: SignalRecord, frames: FrameTimes) -> NDArray[np.bool_]:
    """Frames beside, or between, readings of the raw signal that were good but that the certificate did not take."""
    bad = QUALITIES.index("bad")
    refused = np.isin(made.time, raw.time[raw.quality != bad]) & (made.quality == bad)
    if not refused.any():
        return np.zeros(len(frames), np.bool_)
    order = np.argsort(made.time, kind="stable")
    time, count = made.time[order], np.concatenate([[0], np.cumsum(refused[order])])
    first = np.maximum(np.searchsorted(time, frames.start, "right") - 1, 0)
    last = np.minimum(np.searchsorted(time, frames.stop, "left") + 1, time.size)
    return np.asarray(count[np.maximum(last, first)] > count[first])


def day_of(run: Recording) -> date:
    """The day on which a run began, UTC."""
    return datetime.fromtimestamp(run.start_time * 1e-9, UTC).date()
