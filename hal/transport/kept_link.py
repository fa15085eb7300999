"""One wire kept open for all devices on it: lost, sought again, verified before anybody else speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Self

from ..errors import LinkLost
from ..gate import Purpose, acting
from .link import Link

BACKOFF = (0.1, 2.0)
"""First and longest pause between attempts to reconnect, s."""

_mending: ContextVar[object | None] = ContextVar("hal_mending", default=None)
"""Marks the task that verifies a link just reopened, and what that task starts."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """What to do when the link is lost: try again for `within` seconds, then give up."""

    within: float = 10.0


class LinkState(Enum):
    """Where a session's link stands."""

    CLOSED = "closed"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    LOST = "lost"


class KeptLink:
    """A link and where it stands. Those who have it call `open`, `close`, and listen to `on_lost`, `on_restored`."""

    on_lost: list[Callable[[Self, LinkLost, bool], None]]
    """Told at once when the link is lost: (this, error, for_good)."""
    on_restored: list[Callable[[Self], None]]

    def __init__(self, link: Link, reconnect: Reconnect | None) -> None:
        self.link, self.reconnect = link, reconnect
        self.state = LinkState.CLOSED
        self.users: list[str] = []
        """Names of the devices on this link."""
        self.verify: list[Callable[[], Awaitable[object]]] = []
        """Run after a reconnection, before anybody else: is it still the right instrument?"""
        self.on_lost, self.on_restored = [], []
        self._hand: asyncio.Task[None] | None = None
        self._mending: object | None = None
        self._restored: asyncio.Event = asyncio.Event()
        self._why = ""

    async def open(self) -> None:
        """Open the link once, however many devices ask for it. Raises `LinkLost`."""
        if self.state is LinkState.OPEN:
            return
        try:
            await self.link.open()
        except OSError as error:
            raise LinkLost(self._who(), f"{error}; check the cable, the power and `link` in the lab file") from None
        self._fresh()

    async def close(self) -> None:
        """Close the link; pending questions fail."""
        self.state = LinkState.CLOSED
        if self._hand is not None:
            self._hand.cancel()
            with suppress(asyncio.CancelledError):
                await self._hand
            self._hand = None
        await self.link.close()
        self._restored.set()

    def lose(self, owner: str, reason: OSError) -> LinkLost:
        """A driver's further connection to the same instrument is gone: then this link counts as lost too.

        Reconnects if so configured (`verify` opens the further connection again) and tells `on_lost`;
        returns the error to raise.
        """
        return self._lost(owner, reason)

    def forget(self) -> None:
        """Whatever was under way on the wire is not: it was just opened."""

    async def _usable(self, owner: str, rank: Purpose) -> None:
        """Return when the link is open; wait while it reconnects, but not for a poll."""
        while not self._mine():
            if self.state is LinkState.OPEN:
                return
            if self.state is LinkState.CLOSED:
                raise LinkLost(owner or self._who(), f"{self.link.url} is closed; open the lab first")
            if not self._may_wait(rank):
                raise LinkLost(owner or self._who(), self._remedy(self._why))
            await self._restored.wait()

    def _may_wait(self, rank: Purpose) -> bool:
        """Whether this task is to wait for a reconnection under way."""
        return self.state is LinkState.RECONNECTING and rank is not Purpose.POLL and not self._mine()

    def _mine(self) -> bool:
        """Whether this task verifies the link just reopened."""
        return self._mending is not None and _mending.get() is self._mending

    def _lost(self, owner: str, reason: OSError) -> LinkLost:
        """Note that the wire is gone, start to reconnect if so configured; return the error to raise."""
        if self.state is LinkState.OPEN:
            self._why = str(reason)
            self._restored.clear()
            if self.reconnect is not None:
                self.state = LinkState.RECONNECTING
                self._hand = asyncio.get_running_loop().create_task(self._reconnect(self.reconnect.within))
            else:
                self.state = LinkState.LOST
            self._tell_lost(for_good=self.reconnect is None)
        return LinkLost(owner or self._who(), self._remedy(str(reason)))

    async def _reconnect(self: Self, within: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        pause, longest = BACKOFF
        self._mending = object()
        _mending.set(self._mending)
        with acting(Purpose.COMMAND):  # whatever the task did that found the link lost
            while loop.time() < deadline and self.state is LinkState.RECONNECTING:
                await self.link.close()
                try:
                    async with asyncio.timeout_at(deadline + longest):
                        await self.link.open()
                        self.forget()
                        for verify in list(self.verify):
                            await verify()
                except Exception as error:  # a wrong instrument may yet be exchanged for the right one
                    self._why = str(error) or f"it took too long to answer ({type(error).__name__})"
                    await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
                    pause = min(2 * pause, longest)
                    continue
                self._mending = None
                self._fresh()
                for told in self.on_restored:
                    told(self)
                return
        self._mending = None
        await self.link.close()
        self.state = LinkState.LOST
        self._why += f"; gave up after {within:g} s"
        self._restored.set()
        self._tell_lost(for_good=True)

    def _fresh(self) -> None:
        self.forget()
        self.state = LinkState.OPEN
        self._restored.set()

    def _tell_lost(self: Self, *, for_good: bool) -> None:
        error = LinkLost(self._who(), self._remedy(self._why))
        for told in self.on_lost:
            told(self, error, for_good)

    def _remedy(self, why: str) -> str:
        if self.state is LinkState.RECONNECTING:
            return f"the link {self.link.url} is gone ({why}); reconnecting, check the cable"
        return f"the link {self.link.url} is gone ({why}); check the cable, then reopen the lab"

    def _who(self) -> str:
        return ", ".join(self.users) or self.link.url
