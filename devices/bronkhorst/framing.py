"""How ProPar packets travel: in binary between ``10 02`` and ``10 03``, or as a line of hexadecimal digits.

Source: Bronkhorst 9.17.027, sections 3.3.3 and 3.3.4, and the vendor's package bronkhorst-propar 1.3.0. In binary mode
every 0x10 is doubled. In ASCII mode a packet is ``:``, length, node and data, and CR LF: an instrument understands
either at any time and answers in kind, so that the driver needs the binary mode only.
"""

from __future__ import annotations

from .codec import BAD_LENGTH, BAD_MESSAGE

LONGEST = 4 + 255  # bytes of a packet; more is noise


class Binary:
    """Packets between ``10 02`` and ``10 03``: what the driver speaks."""

    def __init__(self) -> None:
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return b"\x10\x02" + message.replace(b"\x10", b"\x10\x10") + b"\x10\x03"

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages: list[bytes] = []
        while (start := self._buffer.find(b"\x10\x02")) >= 0:
            message, end = _unstuffed(self._buffer, start + 2)
            if end < 0:
                self._buffer = self._buffer[start:]
                if len(message) > LONGEST:
                    self._buffer = b""
                return messages
            self._buffer = self._buffer[end:]
            if message:
                messages.append(message)
        self._buffer = self._buffer[-1:] if self._buffer.endswith(b"\x10") else b""
        return messages

    def reset(self) -> None:
        self._buffer = b""


class BinaryOrAscii:
    """What an instrument understands: either mode, answered in kind. Messages begin with their mode's letter.

    ``e`` and a number is an error message of the ASCII mode, and a line that calls for it.
    """

    def __init__(self) -> None:
        self._binary = Binary()
        self._line: bytearray | None = None

    def encode(self, message: bytes) -> bytes:
        if message[:1] == b"b":
            return self._binary.encode(message[1:])
        if message[:1] == b"e":
            return f":01{message[1]:02X}\r\n".encode("ascii")
        # ``:`` length of what follows, node, data; no sequence number.
        return f":{message[3] + 1:02X}{message[2]:02X}{message[4:].hex().upper()}\r\n".encode("ascii")

    def feed(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        for byte in data:
            if self._line is None and byte == 0x3A and not self._binary._buffer:
                self._line = bytearray()
            elif self._line is None:
                messages += [b"b" + message for message in self._binary.feed(bytes((byte,)))]
            elif byte in b"\r\n":
                messages += _from_ascii(bytes(self._line))
                self._line = None
            elif byte == 0x3A or len(self._line) > 2 * LONGEST:
                self._line = bytearray()
            else:
                self._line.append(byte)
        return messages

    def reset(self) -> None:
        self._binary.reset()
        self._line = None


def _unstuffed(data: bytes, at: int) -> tuple[bytes, int]:
    """The packet that begins at `at` and where its wrapping ends (-1: not yet; empty packet: broken, begin again)."""
    message = bytearray()
    while at < len(data):
        if data[at] != 0x10:
            message.append(data[at])
            at += 1
            continue
        if at + 1 >= len(data):
            break
        if data[at + 1] == 0x10:
            message.append(0x10)
            at += 2
        elif data[at + 1] == 0x03:
            return bytes(message), at + 2
        else:  # a packet that was cut off: the next one begins here
            return b"", at
    return bytes(message), -1


def _from_ascii(line: bytes) -> list[bytes]:
    try:
        raw = bytes.fromhex(line.decode("ascii"))
    except ValueError:
        return [b"e" + bytes((BAD_MESSAGE,))]
    if len(raw) < 3 or raw[0] != len(raw) - 1:
        return [b"e" + bytes((BAD_LENGTH,))]
    return [b"a\0" + bytes((raw[1], len(raw) - 2)) + raw[2:]]
