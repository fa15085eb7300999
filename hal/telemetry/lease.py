"""The lease: one person at a time sets signals from afar, for so many seconds unless she renews it. Pure.

A control room has several screens. Without a lease two people would turn the same setpoint and each
would think it was the instrument.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import HalError


class LeaseError(HalError):
    """The lease is somebody else's, or has expired."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The lease as its holder has it."""

    user: str
    token: str
    """What the holder shows; of no use to any other user."""
    until: int
    """Lab time at which it expires, ns."""


class Lease:
    """Who may set signals. Every method is told the time: lab time, ns."""

    def __init__(self, seconds: float, *, token: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        """`seconds` from taking or renewing it until it expires."""
        self._length, self._token = round(seconds * 1e9), token
        self._grant: Grant | None = None

    def holder(self, now: int) -> Grant | None:
        """Who has it now."""
        if self._grant is not None and now >= self._grant.until:
            self._grant = None
        return self._grant

    def take(self, user: str, now: int) -> Grant:
        """Take it; whoever has it already (a page loaded anew) gets a new token. Raises `LeaseError`."""
        held = self.holder(now)
        if held is not None and held.user != user:
            raise LeaseError(f"{held.user} has the lease for another {_seconds(held.until - now)}; ask for it, or wait")
        self._grant = Grant(user, self._token(), now + self._length)
        return self._grant

    def renew(self, user: str, token: str, now: int) -> Grant:
        """Hold on to it. Raises `LeaseError`."""
        self.check(user, token, now)
        self._grant = Grant(user, token, now + self._length)
        return self._grant

    def give(self, user: str, token: str, now: int) -> None:
        """Give it back. Raises `LeaseError`."""
        self.check(user, token, now)
        self._grant = None

    def end(self) -> Grant | None:
        """Take it away from whoever has it; return what was taken."""
        taken, self._grant = self._grant, None
        return taken

    def check(self, user: str, token: str, now: int) -> None:
        """Raise `LeaseError` unless `user` has it, with this token."""
        held = self.holder(now)
        if held is None:
            raise LeaseError("nobody has the lease: it expired, ended with a trip, or was never taken; take it first")
        if held.user != user:
            raise LeaseError(f"{held.user} has the lease for another {_seconds(held.until - now)}")
        if not hmac.compare_digest(held.token.encode(), token.encode()):
            raise LeaseError(
                "this is not the lease's token: it was taken anew, perhaps from another window; take it here"
            )


def _seconds(ns: int) -> str:
    return f"{max(ns, 0) / 1e9:.0f} s"
