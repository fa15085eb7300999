"""Certificates: what was calibrated, by whom, when, against what, with which result, and until when it holds.

A certificate is a TOML file that a person can read. Its last lines hold a hash of everything above, taken over
the content and not over its layout, so that comments and line breaks may change and numbers may not.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any
from unicodedata import normalize

from .errors import CertificateError

SCHEMA = 1
"""Version of the layout; a reader refuses what is newer."""
AHEAD = timedelta(days=1)
"""By so much another computer's clock may be ahead of this one's; more, and none of both can tell what has expired."""
SEAL = "seal"
"""Name of the table that holds the hash; no part of what is hashed."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. `kind` says how `result` is to be read, such as ``delay.camera``."""

    kind: str
    device: str
    """What was calibrated, in words: ``Merlin 1R, chip W43-B7``."""
    serial: str
    """Its serial number or identity as the device itself tells it; empty if it tells none."""
    made: datetime
    """When, with its time zone."""
    by: str
    reference: str
    """Against what, and what is known of that."""
    result: Mapping[str, Any]
    """Numbers with their unit in the name (``delay_s``) and their standard uncertainty (``delay_sigma_s``)."""
    expires: date | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """How many points, how they scattered: for whoever wants to judge the result."""
    history: Sequence[str] = ()
    """Hashes of the certificates before this one, oldest first."""

    @property
    def hash(self) -> str:
        """SHA-256 of the content, as ``sha256:...``."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"), default=_plain)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def text(self) -> str:
        """The file's text, hash included."""
        return to_toml(self._content() | {SEAL: {"hash": self.hash}})

    def save(self, path: str | Path) -> Path:
        """Write it; an existing file is a `CertificateError`, for certificates are never overwritten."""
        path = Path(path)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self.text())
        except FileExistsError:
            raise CertificateError(f"{path}: there is a certificate already; give the new one another name") from None
        except OSError as error:
            raise CertificateError(f"{path}: can't be written ({error.strerror}); choose another folder") from None
        return path

    def check(self, *, kind: str, serial: str | None = None, on: date | None = None) -> None:
        """Make sure that it may be used. Raises `CertificateError`.

        serial: what the device says of itself must contain the certificate's serial as a word of its own; None: not
        asked.
        on: the day of use; today if None. A run may be older than the certificate that calibrates it anew; what is
        done today may not.
        """
        if self.kind != kind:
            raise CertificateError(f"it is a certificate of kind {self.kind!r}; {kind!r} is needed here")
        if serial is not None and not self.is_of(serial):
            raise CertificateError(
                f"it was made for {self.device} with the serial number {self.serial!r}, and the device says it is "
                f"{serial!r}; calibrate this one"
            )
        now = datetime.now(UTC)
        if on is None and self.made > now + AHEAD:
            raise CertificateError(f"it was made on {self.made:%Y-%m-%d}, and this computer thinks that today is "
                                   f"{now:%Y-%m-%d}; set its clock")  # fmt: skip
        day = on or now.date()
        if self.expires is not None and day > self.expires:
            raise CertificateError(f"it expired on {self.expires}; calibrate anew")

    def is_of(self, identity: str) -> bool:
        """Whether what a device says of itself has this serial number in it; any, if the certificate has none.

        As a word of its own: W43 is neither in W431 nor in W43-B, which may be another chip. Spaces count as one.
        """
        if not self.serial:
            return True
        serial, said = (" ".join(normalize("NFC", text).split()) for text in (self.serial, identity))
        return bool(serial) and re.search(rf"(?<![^\W_])(?<!-){re.escape(serial)}(?![^\W_]|-)", said) is not None

    def number(self, name: str) -> float:
        """A finite number of the result. Raises `CertificateError`."""
        found = self.result.get(name)
        if isinstance(found, int | float) and not isinstance(found, bool) and abs(found) <= sys.float_info.max:
            return float(found)
        raise CertificateError(f"its result has no number {name!r}; it has {', '.join(self.result) or 'nothing'}")

    def _content(self) -> dict[str, Any]:
        about = {
            "schema": SCHEMA, "kind": self.kind, "device": self.device, "serial": self.serial, "made": self.made,
            "by": self.by, "reference": self.reference,
        }  # fmt: skip
        if self.expires is not None:
            about["expires"] = self.expires
        if self.history:
            about["history"] = list(self.history)
        tables = {"result": self.result, "environment": self.environment, "evidence": self.evidence}
        return about | {name: dict(table) for name, table in tables.items() if table}


def load(path: str | Path) -> Certificate:
    """Read a certificate and make sure that nobody changed it. Raises `CertificateError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CertificateError(f"{path}: can't be read ({error}); is this the certificate's file?") from None
    try:
        return parse(text)
    except CertificateError as error:
        raise CertificateError(f"{path}: {error}") from None


def parse(text: str) -> Certificate:
    """The same from its text."""
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise CertificateError(f"it is no TOML ({error})") from None
    seal = found.pop(SEAL, {})
    schema = found.pop("schema", None)
    if schema != SCHEMA or not isinstance(schema, int) or isinstance(schema, bool):
        raise CertificateError(f"its schema is {schema!r}, and {SCHEMA} is what this version reads")
    wanted: dict[str, Any] = {
        "kind": str, "device": str, "serial": str, "made": datetime, "by": str, "reference": str, "result": dict,
        "expires": date, "environment": dict, "evidence": dict, "history": list,
    }  # fmt: skip
    needed = ("kind", "device", "serial", "made", "by", "reference", "result")
    if lacking := [name for name in needed if name not in found]:
        raise CertificateError(f"it does not say its {', '.join(lacking)}")
    if unknown := [name for name in found if name not in wanted]:
        raise CertificateError(f"it has {', '.join(unknown)}, which no certificate has")
    for name, value in found.items():
        if not isinstance(value, wanted[name]) or (name == "expires" and isinstance(value, datetime)):
            raise CertificateError(f"its {name} is {value!r}, which is no {wanted[name].__name__}")
    if found["made"].tzinfo is None:
        raise CertificateError("the time it was made has no time zone; write it like 2026-05-01T12:00:00Z")
    certificate = Certificate(**found | {"history": tuple(found.get("history", ()))})
    try:
        content = certificate.hash
    except OverflowError:  # a day without UTC, at the beginning or the end of the calendar
        raise CertificateError(f"it was made in the year {found['made'].year}, which can't be") from None
    if not isinstance(seal, dict) or seal.get("hash") != content:
        raise CertificateError("its content does not fit its hash: it was changed after it was made")
    return certificate


def to_toml(content: Mapping[str, Any]) -> str:
    """TOML of plain values, lists of them and one level of tables, values before tables."""
    lines = [f"{_key(k)} = {_toml(v)}" for k, v in content.items() if not isinstance(v, Mapping)]
    for name, table in content.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]", *(f"{_key(k)} = {_toml(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return _quoted(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
    raise CertificateError(
        f"{value!r} can't be written into a certificate; use numbers, texts, dates and lists of them"
    )


def _float(value: float) -> str:
    if not isfinite(value):
        raise CertificateError("a certificate can't hold a number that is infinite or none at all")
    text = repr(value)
    return text if any(mark in text for mark in ".e") else text + ".0"


def _quoted(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, and for a slash that needs none."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(name: str) -> str:
    bare = name and all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name)
    return name if bare else _quoted(name)


def _plain(value: Any) -> str:
    """Dates for the hash: an instant is the same in every time zone."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise _unfit(value)


def _unfit(value: Any) -> CertificateError:
    return CertificateError(f"{value!r} can't be part of a certificate; use numbers, texts, dates and lists of them")
