"""Faults on a link, on purpose: for the bench, to see what a script does on a bad day."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from .link import Link, beside


@dataclass
class Faults:
    """What goes wrong; change it at any time. Chances are per message-sized piece, 0 to 1."""

    drop: float = 0.0
    """Chance that a piece sent by the instrument is lost."""
    garble: float = 0.0
    """Chance that one byte of a piece is changed."""
    delay: float = 0.0
    """Seconds that every piece from the instrument comes later."""
    frozen: bool = False
    """The instrument takes bytes and answers nothing."""
    disconnected: bool = False
    """The wire is gone."""


class FaultyLink:
    """Any link, made worse by `faults`; repeatable by `seed`."""

    def __init__(self, link: Link, faults: Faults, *, seed: int = 0) -> None:
        self.link, self.faults = link, faults
        self._random = random.Random(seed)
        self._late: list[tuple[float, bytes]] = []

    @property
    def url(self) -> str:
        return self.link.url

    def beside(self, port: int, host: str = "") -> FaultyLink:
        """A further connection that suffers the same faults."""
        return FaultyLink(beside(self.link, port, host), self.faults, seed=port)

    async def open(self) -> None:
        self._refuse_if_disconnected()
        self._late.clear()
        await self.link.open()

    async def send(self, data: bytes) -> None:
        self._refuse_if_disconnected()
        if not self.faults.frozen:
            await self.link.send(data)

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        while True:
            self._refuse_if_disconnected()
            if not self._late:
                data = await self.link.receive()
                self._refuse_if_disconnected()
                if self.faults.frozen or self._random.random() < self.faults.drop:
                    continue
                if self._random.random() < self.faults.garble:
                    data = self._garbled(data)
                self._late.append((loop.time() + self.faults.delay, data))
            # Kept in a list until it is handed over, so that a cancelled wait loses nothing.
            due, data = self._late[0]
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._late.pop(0)
            return data

    def discard(self) -> None:
        now = asyncio.get_running_loop().time()
        self._late = [(due, data) for due, data in self._late if due > now]
        self.link.discard()

    async def close(self) -> None:
        await self.link.close()

    def _garbled(self, data: bytes) -> bytes:
        spot = self._random.randrange(len(data))
        return data[:spot] + bytes([data[spot] ^ self._random.randrange(1, 256)]) + data[spot + 1 :]

    def _refuse_if_disconnected(self) -> None:
        if self.faults.disconnected:
            raise ConnectionError("the cable was pulled (injected fault)")
