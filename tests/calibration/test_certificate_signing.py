"""Signed certificates: read by everybody, believed only with the right key, and not to be changed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

pytest.importorskip("cryptography")

from calibration.certificate import Certificate, parse
from calibration.errors import CertificateError
from calibration.signing import new_key, sign, verify

CERTIFICATE = Certificate(
    "curve.polynomial", "chip", "W43", datetime(2026, 5, 1, tzinfo=UTC), "A. Uthor", "a bath",
    {"unit_in": "V", "unit_out": "degC", "coefficients": [0.0, 2.0], "valid": [0.0, 10.0]},
)  # fmt: skip


@pytest.fixture
def signed(tmp_path):
    public = new_key(tmp_path / "key.pem")
    return public, sign(CERTIFICATE, tmp_path / "key.pem")


def test_a_signed_certificate_is_read_by_everybody_and_tells_whose_it_is(signed):
    public, text = signed
    assert parse(text) == CERTIFICATE
    assert verify(text, {"somebody": "00" * 32, "the laboratory": public}) == "the laboratory"


def test_the_private_key_is_for_its_owner_alone_and_never_overwritten(tmp_path):
    new_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    with pytest.raises(CertificateError, match="no key was written"):
        new_key(tmp_path / "key.pem")


def test_a_certificate_changed_on_purpose_with_its_hash_is_refused(signed):
    public, text = signed
    forged = text.replace("2.0]", "2.5]")
    with pytest.raises(CertificateError, match="changed after it was made"):
        verify(forged, {"the laboratory": public})
    other = Certificate(**{**{f: getattr(CERTIFICATE, f) for f in CERTIFICATE.__slots__}, "serial": "W44"})
    signature = text[text.index("public_key") :]
    with pytest.raises(CertificateError, match="its signature is not the laboratory's"):
        verify(other.text() + signature, {"the laboratory": public})


def test_what_is_not_signed_or_by_nobody_who_is_trusted_is_told(signed, tmp_path):
    public, text = signed
    with pytest.raises(CertificateError, match="it is not signed"):
        verify(CERTIFICATE.text(), {"the laboratory": public})
    with pytest.raises(CertificateError, match="none of somebody"):
        verify(text, {"somebody": "00" * 32})
    with pytest.raises(CertificateError, match="its signature is not"):
        verify(text.replace('signature = "', 'signature = "zz'), {"the laboratory": public})
    (tmp_path / "none.pem").write_text("rubbish")
    with pytest.raises(CertificateError, match="holds no private key"):
        sign(CERTIFICATE, tmp_path / "none.pem")
