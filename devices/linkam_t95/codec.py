"""Linkam T95 wire: letters answered by a bare CR, and T, answered by ten bytes and CR.

The manual is not public. D = open programs that need exactly this: Lewis (ISIS and ESS; its interface
quotes the manual), bliss (ESRF, `linkam_TMS94_T95`), MX (`i_linkam_t9x`). Commands: T report, R1n rate in
0.01 degC/min, L1n limit in 0.1 degC, S start, E stop, O hold, H heat and C cool (which end a hold), B clear
its buffer, Pa0 and Pm0 cooling pump automatic or by hand, P and a letter its speed. The first must be a T.
19200 baud, 8N1.
"""

from __future__ import annotations

from dataclasses import dataclass

LENGTH = 10  # bytes of a report
STOPPED, HEATING, COOLING, AT_LIMIT, LIMIT_TIME, HELD = 0x01, 0x10, 0x20, 0x30, 0x40, 0x50
STATES = {
    STOPPED: "stopped", HEATING: "heating", COOLING: "cooling", AT_LIMIT: "holding at limit",
    LIMIT_TIME: "holding for the limit time", HELD: "holding",
}  # fmt: skip
"""First byte (D)."""

TOO_FAST, OPEN_CIRCUIT, OVERLOAD, NO_EXIT, LINK = 0x01, 0x02, 0x04, 0x08, 0x20
ERRORS = {
    TOO_FAST: "it can't cool as fast as it is told", OPEN_CIRCUIT: "no stage is connected, or its sensor is open",
    OVERLOAD: "power surge, its current protection is on", NO_EXIT: "above 300 degC it does not leave a profile",
    LINK: "an error on the serial line",
}  # fmt: skip
"""Bits of the second byte, whose bit 7 is always set (D)."""

RATE_STEP, SLOWEST, FASTEST = 0.01, 0.01, 150.0  # K/min (D: Lewis takes 1 to 15000)
LIMIT_STEP = 0.1  # K
COLDEST, HOTTEST = -196.0, 1500.0  # degC; of all stages together. What one stage can is 600 or less, often
PUMP = "0123456789:;<=>?@ABCDEFGHIJKLMN"
"""Speeds of the pump, 0 to 30 (D)."""
AUTOMATIC = 0x40
"""Bit of the third byte while the pump goes by itself: not in the manual, but N. Borys's LinkamController met it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to T."""

    state: int
    errors: int
    pump: int
    temperature: float
    """degC, in tenths."""
    automatic: bool = False
    """The pump goes by itself."""

    def encode(self) -> bytes:
        tenths = round(self.temperature * 10) & 0xFFFF
        pump = 0x80 | AUTOMATIC * self.automatic | self.pump
        return bytes([self.state, 0x80 | self.errors, pump, 0x80, 0x80, 0x80]) + f"{tenths:04x}".encode()

    @classmethod
    def decode(cls, reply: bytes) -> Report:
        """Raises ValueError."""
        if len(reply) != LENGTH or reply[0] not in STATES or not reply[1] & reply[2] & 0x80:
            raise ValueError(f"no report: {reply!r}")
        digits = reply[6:10]
        if not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
            raise ValueError(f"no temperature: {digits!r}")
        tenths = int(digits, 16)
        pump, automatic = reply[2] & ~(0x80 | AUTOMATIC), bool(reply[2] & AUTOMATIC)
        return cls(reply[0], reply[1] & 0x7F, pump, (tenths - (tenths >> 15 << 16)) / 10, automatic)

    @property
    def problems(self) -> str:
        """The errors in words, or nothing."""
        return ", ".join(text for bit, text in ERRORS.items() if self.errors & bit)


def is_report(reply: bytes) -> bool:
    """Whether these bytes are a report."""
    try:
        Report.decode(reply)
    except ValueError:
        return False
    return True


def encode_rate(per_second: float) -> bytes:
    """``R16000`` of 1 K/s."""
    return f"R1{round(per_second * 60 / RATE_STEP)}".encode()


def encode_limit(celsius: float) -> bytes:
    """``L1600`` of 60 degC."""
    return f"L1{round(celsius / LIMIT_STEP)}".encode()
