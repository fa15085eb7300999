"""JSON as telemetry speaks it: always valid, schema first, unknown is null, large integers are text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

from ..errors import ProtocolError

SCHEMA = 1
EXACT = 2**53
"""The largest integer that every JSON reader keeps."""
EMPTY = '""'


def encode(content: dict[str, Any]) -> bytes:
    """A payload with this content."""
    text = json.dumps({"schema": SCHEMA} | _plain(content), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def decode(payload: bytes | str, what: str) -> dict[str, Any]:
    """The content of a payload that should be `what`. Raises `ProtocolError`."""
    try:
        found = json.loads(payload)
    except ValueError as error:
        raise ProtocolError("telemetry", f"{payload[:60]!r} is no JSON ({error}); expected {what}") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ProtocolError(
            "telemetry", f"{payload[:60]!r} is not {what} of schema {SCHEMA}; update one of the two ends"
        )
    return found


class Shape:
    """Turns what a misshapen payload raises into one error."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError)):
            raise ProtocolError(
                "telemetry", f"this is not {self.what} ({error!r}); update one of the two ends"
            ) from None


def _plain(value: Any) -> Any:
    """Only what JSON has: NaN and infinities become null, large integers text, all that is foreign its text."""
    match value:
        case None | bool() | str():
            return value
        case Enum():
            return _plain(value.value)
        case int():
            return value if -EXACT <= value <= EXACT else str(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy
        return _plain(value.tolist())
    return str(value)


@lru_cache(4096)
def text_of(text: str) -> str:
    """A text as JSON."""
    return json.dumps(text, ensure_ascii=False)


def scalar(value: Any) -> str:
    """A reading's value as JSON."""
    kind = type(value)
    if kind is float:
        return repr(value) if math.isfinite(value) else "null"
    if kind is int:
        return str(value) if -EXACT <= value <= EXACT else f'"{value}"'
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
