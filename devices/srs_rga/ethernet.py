"""The RGA's own Ethernet port: it asks who is there before it passes on what is said to the analyzer.

Source: SRS's package srsgui 0.5 (`TcpipInterface.connect_with_login`, as srsinst.rga uses it): port 818; a blank line
is answered by a prompt that ends with ``Name:``, the name by another, the password by a text with ``Welcome``.
Unverified: all other words, that a wrong pair is asked for anew, and that nothing is passed on before.
"""

from __future__ import annotations

from hal.protocols.framing import Lines

PORT = 818
NAME, PASSWORD, WELCOME = b"Name:", b"Password:", b"Welcome"


class Prompt(bytes):
    """What the port says by itself: no message for the analyzer."""


class EthernetEnd:
    """One connection. Unless `required`, one that does not begin with a blank line is as on a serial line."""

    def __init__(self, user: str, password: str, *, required: bool) -> None:
        self._lines = Lines(b"", b"\r")
        self._pair = user.encode(), password.encode()
        self._required = required
        self._asks = NAME
        """What it waits for: the name, the password, or nothing more."""
        self._begun = False
        self._name = b""

    def encode(self, message: bytes) -> bytes:
        return message

    def feed(self, data: bytes) -> list[bytes]:
        return [answer for line in self._lines.feed(data) if (answer := self._take(line)) is not None]

    def reset(self) -> None:
        self._lines.reset()

    def _take(self, line: bytes) -> bytes | None:
        said = line.strip(b"\n ")
        if not self._asks:
            return line
        if not self._begun:
            if said and not self._required:  # a serial line
                self._asks = b""
                return line
            self._begun = True
            return Prompt(b"\r\n" + NAME)
        if self._asks == NAME:
            if said:
                self._name, self._asks = said, PASSWORD
            return Prompt(b"\r\n" + self._asks)
        if (self._name, said) != self._pair:
            self._asks = NAME
            return Prompt(b"\r\nLogin failed\r\n" + NAME)
        self._asks = b""
        return Prompt(b"\r\n" + WELCOME + b"\n\r")
