"""What is said to a New Era NE-1000: commands, numbers of four digits, and the two kinds of packets.

Source: New Era "NE-1000 User Manual", publication 1200-01, sections 10.2 (protocol) to 10.4 (commands);
sections 5.x are those of the NE-500's manual, 1200-02; where marked D, the open
driver nesp-lib needs it so. Commands may come in Safe packets
(``STX length text CRC ETX``, guarded by a CRC) in either mode; answers come in Safe packets in Safe
mode and as ``STX text ETX`` in Basic mode. Numbers have at most four digits and three decimals
(section 10.2.1).
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from dataclasses import dataclass
from math import pi

STX, ETX = b"\x02", b"\x03"

# Status letters (section 10.2.1).
INFUSING, WITHDRAWING, STOPPED, PAUSED, PAUSE_PHASE, WAITING, PURGING = "I", "W", "S", "P", "T", "U", "X"
STATES = {
    INFUSING: "infusing", WITHDRAWING: "withdrawing", STOPPED: "stopped", PAUSED: "paused",
    PAUSE_PHASE: "pause phase", WAITING: "waiting for a trigger", PURGING: "purging",
}  # fmt: skip
PUMPING = (INFUSING, WITHDRAWING, PURGING)

# Alarms (section 10.2.1) and command errors (section 10.3).
ALARMS = {
    "R": "it was switched off and on",
    "S": "the motor stalled; look for a blocked line or an empty syringe",
    "T": "it heard nothing for its safe-mode timeout and stopped",
    "E": "its pumping program has an error",
    "O": "a phase of its pumping program is out of range",
}
ERRORS = {
    "": "the command is unknown to it",
    "NA": "the command does not apply now; is it pumping, or operated by hand?",
    "OOR": "the value is out of range for the syringe",
    "COM": "the packet arrived damaged; check the line",
    "IGN": "the command was ignored because a phase began just then; try again",
}

# uL/min and uL in one unit (section 10.2.1).
RATES = {"UM": 1.0, "MM": 1e3, "UH": 1 / 60, "MH": 1e3 / 60}
VOLUMES = {"UL": 1.0, "ML": 1e3}

# Speed of the pusher. Unverified: the manual's page was not at hand; the numbers reproduce its limits of
# 1699 mL/h for a 60 mL syringe of 26.59 mm and 0.73 uL/h for a 1 mL syringe of 4.699 mm.
SLOWEST, FASTEST = 0.04205 / 60, 51.005  # mm/min
NARROWEST, WIDEST = 0.1, 80.0  # mm, inner diameters it takes (D)
MICROLITRES_UP_TO = 14.0  # mm, diameter; wider syringes count in mL (section 5.6)
ROUNDING = 5.1e-4  # relative, the most that four digits cost


def area(diameter: float) -> float:
    """mm2, which is uL per mm."""
    return pi / 4 * diameter**2


# ---------------------------------------------------------------------- numbers


def number(value: float) -> str:
    """Four digits and a point, as the pump writes them; raises ValueError outside 0 to 9999."""
    for decimals in (3, 2, 1, 0):
        text = f"{value:.{decimals}f}"
        if value >= 0 and len(text.replace(".", "")) <= 4:
            return text if decimals else text + "."
    raise ValueError(f"{value:g} does not fit four digits")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit, as it travels."""

    text: str
    unit: str
    scale: float
    """uL/min or uL in one unit."""

    @property
    def value(self) -> float:
        return float(self.text) * self.scale

    @property
    def resolution(self) -> float:
        """Of the last digit, in uL/min or uL."""
        return 10.0 ** -len(self.text.partition(".")[2]) * self.scale


def quantity(value: float, units: dict[str, float]) -> Quantity:
    """The closest the pump can be told; raises ValueError if that is further off than four digits must be."""
    best: Quantity | None = None
    for unit, scale in units.items():
        try:
            candidate = Quantity(number(value / scale).rstrip("."), unit, scale)
        except ValueError:
            continue
        if best is None or abs(candidate.value - value) < abs(best.value - value) * (1 - 1e-9):
            best = candidate
    if best is None or abs(best.value - value) > ROUNDING * abs(value):
        near = f"; the nearest is {best.text} {best.unit}" if best is not None else ""
        raise ValueError(f"{value:g} can't be told with four digits in {', '.join(units)}{near}")
    return best


def parse_quantity(text: str, units: dict[str, float]) -> Quantity:
    """``26.59UM``; raises ValueError."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]*)([A-Z]{2})", text)
    if match is None or match[2] not in units or not match[1].strip("."):
        raise ValueError(f"{text!r} is no number with one of {', '.join(units)}")
    return Quantity(match[1], match[2], units[match[2]])


def parse_dispensed(text: str) -> tuple[Quantity, Quantity]:
    """Infused and withdrawn, of ``I1.000W0.000UL``; raises ValueError."""
    match = re.fullmatch(r"I([0-9.]+)W([0-9.]+)([A-Z]{2})", text)
    if match is None:
        raise ValueError(f"{text!r} is no pair of volumes")
    return parse_quantity(match[1] + match[3], VOLUMES), parse_quantity(match[2] + match[3], VOLUMES)


# ---------------------------------------------------------------------- replies


@dataclass(frozen=True, slots=True)
class Reply:
    """``00S26.59``: who, how it stands, and what was asked, or ``00A?R`` and ``00S?OOR``."""

    address: int
    status: str = ""
    data: str = ""
    error: str | None = None
    alarm: str = ""

    def encode(self) -> bytes:
        if self.alarm:
            return f"{self.address:02d}A?{self.alarm}".encode("ascii")
        tail = self.data if self.error is None else f"?{self.error}"
        return f"{self.address:02d}{self.status}{tail}".encode("ascii")

    @classmethod
    def decode(cls, message: bytes) -> Reply:
        """Raises ValueError."""
        match = re.fullmatch(r"(\d\d)(?:A\?([RSTEO])|([IWSPTUX])(?:\?([A-Z]*)|([^?]*)))", message.decode("latin-1"))
        if match is None:
            raise ValueError(f"{message!r} is no reply")
        address, alarm, status, error, data = match.groups()
        return cls(int(address), status or "", data or "", error, alarm or "")


# ---------------------------------------------------------------------- packets


def packet(text: bytes) -> bytes:
    """A Safe packet (section 10.2.3)."""
    return STX + bytes((len(text) + 4,)) + text + crc_hqx(text, 0).to_bytes(2, "big") + ETX


class HostEnd:
    """Sends Safe packets; receives answers of either mode."""

    def __init__(self) -> None:
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return packet(message)

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages: list[bytes] = []
        while (start := self._buffer.find(STX)) >= 0:
            self._buffer = self._buffer[start:]
            if len(self._buffer) < 2:
                return messages
            if self._buffer[1] >= 0x30:  # a digit of the address: Basic mode; lengths are smaller
                end = self._buffer.find(ETX)
                if end < 0:
                    self._buffer = self._buffer[-256:]
                    return messages
                text = self._buffer[1:end]
                messages.append(text[text.rfind(STX) + 1 :])
            elif (size := self._buffer[1] + 1) > len(self._buffer):
                return messages
            elif (whole := _checked(self._buffer[:size])) is not None:
                messages.append(whole)
                end = size - 1
            else:
                end = 0  # damaged: look for the next beginning
            self._buffer = self._buffer[end + 1 :]
        self._buffer = b""
        return messages

    def reset(self) -> None:
        self._buffer = b""


class PumpEnd:
    """Receives lines and Safe packets; messages begin with ``b``, ``s`` or, if damaged, ``!``; answers too."""

    def __init__(self) -> None:
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return packet(message[1:]) if message[:1] == b"s" else STX + message[1:] + ETX

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages: list[bytes] = []
        while self._buffer:
            if self._buffer[:1] == STX:
                if len(self._buffer) < 2 or (size := self._buffer[1] + 1) > len(self._buffer):
                    break
                whole = _checked(self._buffer[:size])
                messages.append(b"!" if whole is None else b"s" + whole)
                self._buffer = self._buffer[max(size, 1) :]
                continue
            ends = [at for at in (self._buffer.find(b"\r"), self._buffer.find(STX)) if at >= 0]
            if not ends:
                self._buffer = self._buffer[-256:]
                break
            line, self._buffer = self._buffer[: min(ends)], self._buffer[min(ends) :]
            if self._buffer[:1] == b"\r":
                self._buffer = self._buffer[1:]
                messages.append(b"b" + line)
        return messages

    def reset(self) -> None:
        self._buffer = b""


def _checked(whole: bytes) -> bytes | None:
    """The text of a Safe packet; None if it is damaged."""
    text, check, end = whole[2:-3], whole[-3:-1], whole[-1:]
    return text if len(whole) >= 5 and end == ETX and check == crc_hqx(text, 0).to_bytes(2, "big") else None
