"""The mnemonics of Pfeiffer's gauge controllers, and the two-step way in which they are answered.

Source: Pfeiffer BG 5500 BEN "TPG 361, TPG 362 communication protocol", section 1, and for the TPG 261
and 262 their operating instructions BG 805 196 BE, section "Communication". The host sends a
mnemonic and CR, the unit ACK or NAK; then ENQ, and the unit sends the data. ETX clears the unit's
input. What is marked *unverified* was not found in a page read for this driver.

A TPG 26x has neither AYT nor the units hPa, micron and volt (D: PyExpLabSys, which identifies it by
PNR); otherwise the mnemonics used here are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from hal.protocols.framing import LONGEST, Lines

ETX, ENQ, ACK, NAK, ESC = b"\x03", b"\x05", b"\x06", b"\x15", b"\x1b"

# Inputs by type, as of AYT's first field (section 1.13.1).
INPUTS = {"TPG361": 1, "TPG362": 2, "TPG366": 6}

# UNI (D: the TPG 366's BG 5511 and PyExpLabSys): pascals in one unit. 5 is volt, which is no pressure.
PASCALS = {0: 100.0, 1: 101325 / 760, 2: 1.0, 3: 101.325 / 760, 4: 100.0}
UNITS = {0: "mbar", 1: "Torr", 2: "Pa", 3: "micron", 4: "hPa", 5: "V"}
VOLT = 5

# Status of a measurement (section 1.5.4).
GOOD, UNDER, OVER, ERROR, OFF, NONE, UNIDENTIFIED = range(7)
MEANINGS = {
    UNDER: "under range: the gauge sees no less than this",
    OVER: "over range: the pressure is higher than the gauge can measure",
    ERROR: "sensor error: check the gauge",
    OFF: "the sensor is off; switch it on at the controller",
    NONE: "no sensor is connected; check its cable and `channel` in the lab file",
    UNIDENTIFIED: "the sensor could not be identified; check its type",
}

# The error word, asked with ERR or by ENQ after a NAK (section 1.5.3; after NAK: unverified).
NO_ERROR, SYNTAX, INADMISSIBLE, NO_HARDWARE, CONTROLLER = "0000", "0001", "0010", "0100", "1000"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One input's status and value, in the unit the controller shows."""

    status: int
    value: float

    def encode(self) -> str:
        return f"{self.status},{self.value:+.4E}"


def encode_measurements(measurements: list[Measurement]) -> str:
    return ",".join(m.encode() for m in measurements)


def decode_measurements(data: str) -> list[Measurement]:
    """The answer to PR1 or PRX: ``0,+2.3000E-05,5,+2.0000E-02``; raises ValueError."""
    fields = [field.strip() for field in data.split(",")]
    if len(fields) % 2 or not fields[0]:
        raise ValueError(f"{data!r} is no list of status and pressure")
    out = []
    for status, value in zip(fields[::2], fields[1::2], strict=True):
        if status not in ("0", "1", "2", "3", "4", "5", "6"):
            raise ValueError(f"{status!r} is no status of a measurement")
        out.append(Measurement(int(status), float(value)))
    return out


@dataclass(frozen=True, slots=True)
class Identity:
    """The answer to AYT: ``TPG362,PTG28290,44998061,010100,010100``."""

    model: str
    article: str
    serial: str
    firmware: str
    hardware: str

    def encode(self) -> str:
        return f"{self.model},{self.article},{self.serial},{self.firmware},{self.hardware}"

    @classmethod
    def decode(cls, data: str) -> Identity:
        """Raises ValueError."""
        fields = [field.replace(" ", "") for field in data.split(",")]
        if len(fields) != 5:
            raise ValueError(f"{data!r} is no identity")
        return cls(*fields)


def is_control(message: bytes) -> bool:
    """Whether a reply is ACK or NAK: the first half of an answer."""
    return message.strip() in (ACK, NAK)


def is_ack(message: bytes) -> bool:
    return message.strip() == ACK


def is_identity(message: bytes) -> bool:
    """Whether a reply is what AYT brings."""
    return message.strip().startswith(b"TPG")


def is_data(message: bytes) -> bool:
    """Whether a reply is the second half of an answer."""
    return bool(message.strip()) and not is_control(message)


class HostEnd(Lines):
    """The host's framing. ENQ and ETX go bare: a TPG 366 answers a CR after ENQ with a NAK of its own (D)."""

    def __init__(self) -> None:
        super().__init__(b"\r\n")

    def encode(self, message: bytes) -> bytes:
        return message if message in (ENQ, ETX) else message + b"\r\n"


class ControllerEnd:
    """The controller's framing: CR or LF or both end a line, ENQ and ETX count where they stand."""

    def __init__(self) -> None:
        self._line = bytearray()

    def encode(self, message: bytes) -> bytes:
        return message + b"\r\n"

    def feed(self, data: bytes) -> list[bytes]:
        messages = []
        for byte in data:
            one = bytes((byte,))
            if one in (ENQ, ETX):
                messages.append(one)
                if one == ETX:
                    self._line.clear()
            elif one not in b"\r\n":
                self._line.append(byte)
            elif self._line:
                messages.append(bytes(self._line))
                self._line.clear()
        if len(self._line) > LONGEST:
            self._line.clear()
        return messages

    def reset(self) -> None:
        self._line.clear()
