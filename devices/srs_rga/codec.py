"""What is said to an SRS RGA: two letters and a number; it answers text, or ion currents of four bytes each.

Source: Stanford Research Systems "Models RGA100, RGA200 and RGA300 Residual Gas Analyzer" manual, chapter 6 (syntax:
6-7 and 6-29; identification: 6-30; filament: 6-35; detector: 6-41; scans: 6-44 to 6-51; total pressure: command TP;
errors: 6-26, 6-59 to 6-62 and 6-69). Bits of the error bytes, sensitivities and gain: SRS's own package srsinst.rga
0.3.9 (D).
Times of measurements: measured by the authors of ruediPy, who give them beside `supported_gate_times`.
"""

from __future__ import annotations

import re
import struct

import numpy as np
from numpy.typing import NDArray

END = b"\n\r"  # of its texts, in this order (6-7)
CURRENT = 1e-16  # A in one unit (6-29)
TORR = 101325 / 760  # Pa
MASSES = (100, 200, 300)
"""Greatest masses of the three models, amu."""
IDENTITY = re.compile(r"SRSRGA(\d{3})VER(\d\.\d\d)SN(\d{5})")

EMISSION = (0.02, 3.5)  # mA (6-35)
HIGH_VOLTAGE = 2490  # V, of the multiplier
STEPS = (10, 25)  # per amu, of analog scans
SLOWEST, FASTEST = 0, 7  # NF
GATES = (2.4, 1.21, 0.48, 0.25, 0.163, 0.060, 0.043, 0.025)  # s for one mass, by NF
MINISCAN = 7  # measurements in one of a single mass (6-49)

# Bits of STATUS (6-69), by the query of the byte that says more.
COMMUNICATION, FILAMENT, MULTIPLIER, MASS_FILTER, DETECTOR, SUPPLY = (1 << bit for bit in (0, 1, 3, 4, 5, 6))
ERROR_BYTES = {
    COMMUNICATION: "EC", FILAMENT: "EF", MULTIPLIER: "EM", MASS_FILTER: "EQ", DETECTOR: "ED", SUPPLY: "EP",
}  # fmt: skip
PARTS = {
    COMMUNICATION: "the last command was not understood",
    FILAMENT: "filament",
    MULTIPLIER: "multiplier",
    MASS_FILTER: "RF supply of the mass filter",
    DETECTOR: "electrometer",
    SUPPLY: "24 V supply",
}

# Bits of RS232_ERR and FIL_ERR (D).
BAD_COMMAND, BAD_PARAMETER, TOO_LONG, CONFLICT = 1 << 0, 1 << 1, 1 << 2, 1 << 6
NO_FILAMENT, NO_EMISSION, PRESSURE_TOO_HIGH = 1 << 7, 1 << 6, 1 << 5
NO_MULTIPLIER = 1 << 7
MEANINGS = {
    (FILAMENT, NO_FILAMENT): "there is no filament, or it is broken",
    (FILAMENT, NO_EMISSION): "the emission can't be reached",
    (FILAMENT, PRESSURE_TOO_HIGH): "the pressure is too high; it was switched off",
    (FILAMENT, 1): "one of its two wires is broken",
    (MULTIPLIER, NO_MULTIPLIER): "there is none",
    (MASS_FILTER, 1 << 7): "the RF level can't be reached",
    (MASS_FILTER, 1 << 6): "too much primary current",
    (MASS_FILTER, 1 << 4): "current limit",
    (SUPPLY, 1 << 7): "more than 26 V",
    (SUPPLY, 1 << 6): "less than 22 V",
}


def described(part: int, bits: int) -> str:
    """An error byte in words."""
    return ", ".join(text for (of, bit), text in MEANINGS.items() if of == part and bits & bit) or f"error {bits:#04x}"


def points(first: int, last: int, steps: int) -> int:
    """Currents of a scan without the total: a histogram's (`steps` = 0) or an analog scan's (6-44)."""
    return (last - first) * max(steps, 1) + 1


def masses(first: int, last: int, steps: int) -> NDArray[np.float64]:
    """The masses those currents belong to, amu."""
    return np.linspace(first, last, points(first, last, steps))


def currents(data: bytes) -> NDArray[np.float64]:
    """Ion currents, A. Raises ValueError unless there are whole ones."""
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are no currents of four bytes")
    return np.frombuffer(data, "<i4") * CURRENT


def packed(current: float) -> bytes:
    """An ion current (A) as it travels; what does not fit is the greatest that does."""
    return struct.pack("<i", round(min(max(current / CURRENT, -(2**31)), 2**31 - 1)))


def pascal_per_ampere(sensitivity: float) -> float:
    """What turns ion current into pressure; `sensitivity` as the analyzer keeps it, mA/Torr."""
    return TORR / (sensitivity * 1e-3)


BRINGS = b" brings "


def bringing(command: bytes, count: int) -> bytes:
    """A command that is answered by so many currents, as `HostEnd` wants to be told."""
    return command + BRINGS + b"%d" % count


PROMPTS = b" prompts "


def prompting(line: bytes, *prompts: bytes) -> bytes:
    """A line of a login, answered by one of these prompts, as `HostEnd` wants to be told."""
    return line + PROMPTS + b"|".join(prompts)


class HostEnd:
    """Sends commands; knows of the last one whether text, a prompt or currents come back."""

    def __init__(self) -> None:
        self._buffer = b""
        self._expected = 0
        """Bytes of currents; 0: text."""
        self._prompts: list[bytes] = []

    def encode(self, message: bytes) -> bytes:
        message, _, prompts = message.partition(PROMPTS)
        self._prompts = prompts.split(b"|") if prompts else []
        command, _, count = message.partition(BRINGS)
        self._expected = 4 * int(count or 0)
        return command + b"\r"

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        if self._prompts:
            found = [prompt for prompt in self._prompts if prompt in self._buffer]
            if found:
                self._buffer = b""
            return found[:1]
        if self._expected:
            if len(self._buffer) < self._expected:
                return []
            message, self._buffer = self._buffer[: self._expected], self._buffer[self._expected :]
            return [message]
        *messages, self._buffer = self._buffer.split(END)
        return messages

    def reset(self) -> None:
        self._buffer = b""
