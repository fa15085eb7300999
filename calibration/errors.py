"""What can be wrong with a calibration; one root for all of it."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Root of everything that `calibration` raises."""


class CertificateError(CalibrationError):
    """A certificate that can't be read, has been changed, has expired, or is somebody else's."""


class OutOfRange(CalibrationError):
    """A value beyond the range in which a calibration holds."""


class NotMonotone(CalibrationError):
    """A curve that can't be inverted: two inputs give the same output."""


class FitError(CalibrationError):
    """Data from which nothing can be learned: too few points, or points that say nothing of a parameter."""


class TedsError(CalibrationError):
    """An electronic data sheet that is blank, damaged, or can't hold what it is given."""
