"""What can be wrong with a calibration; one root for all of it."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Root of everything that `calibration` raises."""


class CertificateError(CalibrationError):
    """A certificate that can't be read, has been changed, has expired, or is somebody else's."""
