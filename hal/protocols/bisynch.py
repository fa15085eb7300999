"""EI-Bisynch, the ASCII protocol of Eurotherm's controllers: where messages end, how they are made and read. No I/O.

A host polls a parameter or selects it and writes; the controller answers each by itself:

    EOT 0 0 1 1 P V ENQ                    ->  STX P V 1 6 . 4 ETX BCC, or EOT: there is no such parameter
    EOT 0 0 1 1 STX S L 2 2 . 0 ETX BCC    ->  ACK, or NAK: refused, or the check character is wrong

The address is two digits, each sent twice; ``~`` stands for any digit in a broadcast. After an answer, ACK asks for
the next parameter and NAK for the same one again. The check character may be any byte, EOT and ENQ included.

Source: Eurotherm 2000 series communications handbook HA026230 (issue 3), chapter 4, after ANSI X3.28-2.5 A4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce

STX, ETX, EOT, ENQ, ACK, NAK = b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x15"
LONGEST = 40
"""Bytes of a message that has not come to its end after which it is none."""

_TEXT = rb"[^\x02-\x06\x15]"
_BEGUN = re.compile(rb"\x04" + _TEXT + rb"*(?:\x02" + _TEXT + rb"*\x03?)?\Z")
_WHOLE = re.compile(rb"\x04" + _TEXT + rb"*(?:\x05|\x02" + _TEXT + rb"*\x03.)", re.DOTALL)
_SIGN = re.compile(rb"[\x04\x06\x15]")
_QUESTION = re.compile(rb"\x04([0-9~])\1([0-9~])\2(\x02?)([0-9]?[A-Za-z0-9]{2})([^\x05]*?)(?:\x05|\x03(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """A poll, or a write if it has data."""

    address: str
    """Two digits, each of which may be ``~``: any."""
    parameter: str
    """Mnemonic, with the channel before it if one was given: ``PV``, ``1PV``."""
    data: str | None = None
    intact: bool = True
    """Whether its check character is right."""

    @property
    def broadcast(self) -> bool:
        """Whether nobody answers."""
        return "~" in self.address

    def meant_for(self, unit: int) -> bool:
        """Whether the controller of this address is asked."""
        return all(wanted in ("~", digit) for wanted, digit in zip(self.address, f"{unit:02}", strict=True))


def check_character(block: bytes) -> bytes:
    """The BCC: exclusive or of all between STX and itself, ETX included."""
    return bytes([reduce(lambda a, b: a ^ b, block, 0)])


def poll(unit: int, parameter: str) -> bytes:
    """Ask the controller at `unit` (0 to 99) for a parameter."""
    return EOT + _address(unit) + parameter.encode("ascii") + ENQ


def select(unit: int, parameter: str, data: str) -> bytes:
    """Write a parameter."""
    return EOT + _address(unit) + answer(parameter, data)


def answer(parameter: str, data: str) -> bytes:
    """A parameter's value, as it answers a poll."""
    block = (parameter + data).encode("ascii") + ETX
    return STX + block + check_character(block)


def parse_question(message: bytes) -> Question | None:
    """A message of the host; None if it is not of the form (no controller answers that)."""
    match = _QUESTION.fullmatch(message)
    if match is None or bool(match[3]) != (match[6] is not None) or (match[5] and not match[3]):
        return None
    address, parameter = (match[1] + match[2]).decode(), match[4].decode()
    if not match[3]:
        return Question(address, parameter)
    intact = check_character(match[4] + match[5] + ETX) == match[6]
    return Question(address, parameter, match[5].decode("ascii", "replace"), intact)


class BisynchFraming:
    """The controller's end: polls and selects whole, ACK, NAK and an EOT that nothing follows by themselves."""

    def __init__(self) -> None:
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return message

    def feed(self, data: bytes) -> list[bytes]:
        messages = []
        self._buffer += data
        while sign := _SIGN.search(self._buffer):
            buffer = self._buffer[sign.start() :]
            if whole := _WHOLE.match(buffer):
                messages.append(whole[0])
                self._buffer = buffer[whole.end() :]
            elif _BEGUN.match(buffer) and len(buffer) <= LONGEST:
                self._buffer = buffer
                return messages
            else:
                messages.append(buffer[:1])
                self._buffer = buffer[1:]
        self._buffer = b""
        return messages

    def reset(self) -> None:
        self._buffer = b""


def _address(unit: int) -> bytes:
    return "".join(digit * 2 for digit in f"{unit:02}").encode("ascii")
