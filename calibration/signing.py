"""Signatures: whoever has the laboratory's public key can tell that a certificate is the laboratory's. Needs `signing`.

A hash tells that nobody changed a certificate by mistake; whoever changes it on purpose makes a new hash. An Ed25519
signature (RFC 8032) over the hash can't be made without the private key. It stands in the same table as the hash, so
that a signed certificate is read by everybody, whether they have a key or not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .certificate import SEAL, Certificate, parse
from .errors import CertificateError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CONTEXT = b"insitu-hal certificate\n"
"""Before the hash: a signature of something else made with the same key can't be taken for one of a certificate."""


def new_key(path: str | Path) -> str:
    """Make a key pair: the private key goes into a file that only you may read, the public one is returned, as hex.

    Raises `CertificateError` if the file exists.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path, key = Path(path), Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(text)
    except OSError as error:
        raise CertificateError(f"{path}: no key was written ({error.strerror}); give it a new name") from None
    return _public(key)


def sign(certificate: Certificate, key: str | Path) -> str:
    """The certificate's text with a signature by the private key in a file. Raises `CertificateError`."""
    private = _private(key)
    signature = private.sign(CONTEXT + certificate.hash.encode())
    return certificate.text() + f'public_key = "{_public(private)}"\nsignature = "{signature.hex()}"\n'


def verify(text: str, trusted: Mapping[str, str]) -> str:
    """Whose certificate it is: the name of the trusted public key (hex) that signed it.

    Raises `CertificateError`: changed, not signed, signed by nobody who is trusted, or the signature is wrong.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    certificate = parse(text)
    seal = tomllib.loads(text)[SEAL]
    public, signature = seal.get("public_key", ""), seal.get("signature", "")
    if not signature:
        raise CertificateError("it is not signed; ask whoever made it")
    names = [name for name, key in trusted.items() if key == public]
    if not names:
        raise CertificateError(
            f"it is signed with the key {str(public)[:12]}..., which is none of {', '.join(trusted) or 'nobody'}"
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), CONTEXT + certificate.hash.encode())
    except (InvalidSignature, ValueError, TypeError):
        raise CertificateError(f"its signature is not {names[0]}'s: it was changed after it was signed") from None
    return names[0]


# ---------------------------------------------------------------------------- private


def _private(path: str | Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(Path(path).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise CertificateError(f"{path}: holds no private key that can be used ({error})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"{path}: is no Ed25519 key; make one with calibration.signing.new_key")
    return key


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
