"""A certificate in short, for the 150 bytes that a holder's EEPROM has to spare: it travels with the holder.

Little-endian, behind the holder's own record (`[records.Teds]` in firmware/messages.toml) and its checksum:

    2 bytes  "HC"
    u8       version, 1
    u8       number of coefficients n, 2 to 4
    u16      day it was made, since 1970-01-01
    u16      last day of use; 65535: for ever
    u8       degrees of freedom of the covariance; 255: as many, or more
    u8       0
    8 bytes  the first of the SHA-256 of the certificate that it was shortened from
    2 f32    lowest and highest x at which it holds
    2 f32    standard uncertainty that all values share; drift per year
    n f32    coefficients of the Chebyshev series over that range
    n(n+1)/2 f32   L, row by row up to its diagonal: the coefficients' covariance is L L'
    texts    signal, unit_in, unit_out, by, reference: UTF-8, each ended by a 0
    u16      CRC-16/CCITT-FALSE of the holder's serial number (UTF-8) and everything above

The serial number is in the checksum, so that what was copied into another holder's EEPROM does not pass. A Chebyshev
series and L keep their meaning in 32 bits, which a polynomial's coefficients and covariance would not.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from datetime import UTC, date, datetime, time, timedelta
from math import fsum, inf

import numpy as np
from numpy.polynomial import chebyshev, polynomial

from ..certificate import Certificate
from ..certified import Certified, curve_of, result_of
from ..curve import Float64
from ..errors import CalibrationError, CertificateError, TedsError
from ..functions import Chebyshev, Polynomial

MAGIC, VERSION = b"HC", 1
HEAD = struct.Struct("<2sBBHHBB8s4f")
MOST = 4
"""Coefficients."""
FOR_EVER = 0xFFFF
PLENTY = 0xFF
EPOCH = date(1970, 1, 1)
TEXTS = ("signal", "unit_in", "unit_out", "by", "reference")
ERASED = 0xFF


def shorten(certificate: Certificate, serial: str, room: int) -> bytes:
    """A polynomial's certificate for the holder with this serial number, filled up to `room` bytes. Raises `TedsError`.

    It has to name its signal (`hal calibrate` sees to that) and to be this holder's.
    """
    signal = str(certificate.result.get("signal", "")).rpartition(".")[2]
    if not signal:
        raise TedsError("the certificate does not say of which signal it is; state `signal` in its result")
    if not serial or certificate.serial != serial:
        raise TedsError(
            f"the certificate is of the serial number {certificate.serial!r}, and the holder's is {serial!r}; "
            "calibrate this one"
        )
    if "logarithm" in certificate.result:
        raise TedsError("a curve over a logarithm has no room in a holder; keep its certificate in a file")
    try:
        curve = curve_of(certificate)
        shared, drift, degrees = (
            certificate.number(name) if name in certificate.result else 0.0
            for name in ("uncertainty", "drift_per_year", "degrees_of_freedom")
        )
    except CertificateError as error:
        raise TedsError(f"the certificate can't be used: {error}") from None
    inner = curve.curve if isinstance(curve, Certified) else curve
    if not isinstance(inner, Polynomial | Chebyshev) or not 2 <= inner.coefficients.size <= MOST:
        raise TedsError(
            f"a holder has room for a polynomial of degree 1 to {MOST - 1}, and the certificate is of another kind "
            f"({certificate.kind}); fit one, or keep the certificate in a file"
        )
    valid = _inward(inner.valid)
    coefficients, root = _series(inner, valid)
    expires = FOR_EVER if certificate.expires is None else (certificate.expires - EPOCH).days
    made = (certificate.made.astimezone(UTC).date() - EPOCH).days
    if not (0 <= made < FOR_EVER and 0 <= expires <= FOR_EVER):
        raise TedsError("the certificate's days have no room in a holder; they must lie between 1970 and 2149")
    known = max(1, int(min(degrees, PLENTY))) if degrees else PLENTY
    origin = bytes.fromhex(certificate.hash.removeprefix("sha256:"))[:8]
    numbers = [*coefficients, *root[np.tril_indices(coefficients.size)]]
    texts = (signal, curve.unit_in, curve.unit_out, certificate.by, certificate.reference)
    try:
        head = HEAD.pack(MAGIC, VERSION, coefficients.size, made, expires, known, 0, origin, *valid, shared, drift)
        body = head + struct.pack(f"<{len(numbers)}f", *numbers)
    except OverflowError:
        raise TedsError("the certificate has numbers beyond 3e38, which a holder has no room for") from None
    body += b"".join(text.replace("\0", " ").encode() + b"\0" for text in texts)
    data = body + _checksum(serial, body)
    if len(data) > room:
        raise TedsError(
            f"the certificate takes {len(data)} bytes, and the holder has room for {room}; fit a lower degree, or say "
            "`by` and `reference` in fewer letters"
        )
    return data.ljust(room, bytes([ERASED]))


def lengthen(data: bytes, serial: str, holder: str) -> Certificate | None:
    """The certificate in these bytes of the holder with this serial number; None: there is none. Raises `TedsError`.

    holder: what it is, in words. Every byte counts: the same bytes give the same certificate, and hash, everywhere.
    """
    if set(data) <= {ERASED}:
        return None
    try:
        head = HEAD.unpack_from(data)
        magic, version, n, made, expires, degrees, _, origin = head[:8]
        if magic != MAGIC:
            raise TedsError("what stands behind the holder's data sheet is no certificate")
        if version != VERSION:
            raise TedsError(f"the holder's certificate is of version {version}; this program knows {VERSION}")
        size = n * (n + 1) // 2
        numbers = np.array(struct.unpack_from(f"<{n + size}f", data, HEAD.size), np.float64)
        begin = at = HEAD.size + 4 * (n + size)
        for _ in TEXTS:
            at = data.index(b"\0", at) + 1
        texts = dict(zip(TEXTS, data[begin:at].decode().split("\0"), strict=False))
        whole = data[at : at + 2] == _checksum(serial, data[:at]) and set(data[at + 2 :]) <= {ERASED}
    except (struct.error, ValueError) as error:
        if isinstance(error, TedsError):
            raise
        whole = False
    if not whole or not 2 <= n <= MOST or not np.isfinite([*head[8:], *numbers]).all():
        raise TedsError("the holder's certificate is damaged, or is another holder's; write it anew")
    root = np.zeros((n, n))
    root[np.tril_indices(n)] = numbers[n:]
    # Sums that are rounded once give the same last digit, and so the same hash, on every machine.
    covariance = [
        [fsum(a * b for a, b in zip(one, other, strict=True)) for other in root.tolist()] for one in root.tolist()
    ]
    low, high, shared, drift = (float(number) for number in head[8:])
    try:
        curve = Chebyshev(
            numbers[:n], domain=(low, high), unit_in=texts["unit_in"], unit_out=texts["unit_out"], name=holder,
            covariance=covariance if root.any() else None,
        )  # fmt: skip
        curve.degrees = inf if degrees == PLENTY else float(degrees)
        kind, result = result_of(curve, uncertainty=shared, drift_per_year=drift)
        return Certificate(
            kind=kind, device=holder, serial=serial, made=datetime.combine(_day(made), time(), UTC), by=texts["by"],
            reference=texts["reference"], result=result | {"signal": texts["signal"]},
            expires=None if expires == FOR_EVER else _day(expires),
            evidence={"shortened_from": f"sha256:{origin.hex()}"},
        )  # fmt: skip
    except CalibrationError as error:
        raise TedsError(f"the holder's certificate can't be used: {error}") from None


# ---------------------------------------------------------------------------- private


def _series(curve: Polynomial | Chebyshev, valid: tuple[float, float]) -> tuple[Float64, Float64]:
    """Coefficients of the Chebyshev series over `valid`, and a lower triangle L with L L' their covariance.

    Both are linear in the curve's own: each of its basis functions is brought into the series by itself.
    """
    n, (low, high) = curve.coefficients.size, valid
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    turn = np.zeros((n, n))
    for k, unit in enumerate(np.eye(n)):
        power: Float64 = unit
        if isinstance(curve, Chebyshev):
            power = np.asarray(chebyshev.cheb2poly(unit), np.float64)
            scale = 2.0 / (curve.domain[1] - curve.domain[0])
            inner = [scale * (middle - curve.domain[0]) - 1.0, scale * half]
        else:
            inner = [middle, half]
        found = chebyshev.poly2cheb(polynomial.Polynomial(power)(polynomial.Polynomial(inner)).coef)
        turn[: found.size, k] = found
    if curve.covariance is None:
        return turn @ curve.coefficients, np.zeros((n, n))
    weights, axes = np.linalg.eigh(turn @ curve.covariance @ turn.T)
    root = np.asarray(np.linalg.qr((axes * np.sqrt(np.maximum(weights, 0.0))).T, mode="r"), np.float64)
    signs = np.where(np.diag(root) < 0.0, -1.0, 1.0)  # the same whoever works it out
    return turn @ curve.coefficients, (signs[:, None] * root).T


def _inward(valid: tuple[float, float]) -> tuple[float, float]:
    """A range's ends as 32 bits hold them, not beyond it."""
    low, high = (np.float32(end) for end in valid)
    if low < valid[0]:
        low = np.nextafter(low, np.float32(np.inf))
    if high > valid[1]:
        high = np.nextafter(high, np.float32(-np.inf))
    return float(low), float(high)


def _checksum(serial: str, body: bytes) -> bytes:
    return crc_hqx(serial.encode() + body, 0xFFFF).to_bytes(2, "little")


def _day(days: int) -> date:
    return EPOCH + timedelta(days)
