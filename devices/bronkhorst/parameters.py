"""Further parameters of a Bronkhorst flow controller: what its emulator keeps and tells beyond what the driver uses.

Source: the table of the vendor's package bronkhorst-propar 1.3.0 (process, number and type by "DDE" number).
Unverified: the values it is delivered with, and which of them are locked until 64 is written to ``init reset``
(9.17.027, page 22, unlocks constants of the polynomial so).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .codec import SLOPE, Parameter

INIT_RESET = Parameter(0, 10, "byte")  # DDE 7
UNLOCK, LOCK = 64, 82
ALARM_MAXIMUM, ALARM_MINIMUM = Parameter(97, 1, "word"), Parameter(97, 2, "word")  # DDE 116, 117
ALARM_MODE = Parameter(97, 3, "byte")  # DDE 118; 1: on maximum and minimum
BELOW_MINIMUM, ABOVE_MAXIMUM = 4, 8
"""Bits of DDE 28 (unverified)."""
COUNTER, COUNTER_MODE = Parameter(104, 1, "float"), Parameter(104, 8, "byte")  # DDE 122, 130; 0: off
RESET = Parameter(115, 8, "byte")  # DDE 114; 1: the counter (unverified)
USER_TAG = Parameter(113, 6, "text")  # DDE 115


@dataclass(frozen=True, slots=True)
class Kept:
    """One parameter that does nothing else: its value at first, and who may set it."""

    parameter: Parameter
    initial: float | int | str
    access: Literal["read", "write", "locked"] = "read"
    high: float | None = None
    """Greatest value that is taken."""


KEPT = (
    Kept(Parameter(0, 5, "byte"), 1),  # 6 arbitrage
    Kept(INIT_RESET, LOCK, "write"),
    Kept(Parameter(0, 12, "byte"), 1), Kept(Parameter(0, 13, "byte"), 1), Kept(Parameter(0, 14, "byte"), 1),  # 29..31
    Kept(SLOPE, 0, "write", 30000),
    Kept(Parameter(1, 3, "word"), 0),  # 11 analog input
    *(Kept(Parameter(1, n, "float"), 1.0 if n == 6 else 0.0, "locked") for n in range(5, 13)),  # 13..20 polynomial
    Kept(Parameter(1, 14, "byte"), 3, "locked"),  # 22 sensor type: gas volume
    Kept(Parameter(1, 15, "byte"), 0, "locked"),  # 23 capacity unit index
    Kept(Parameter(1, 16, "byte"), 0, "write", 7),  # 24 fluidset index
    Kept(Parameter(33, 1, "float"), 100.0, "write", 500.0),  # 139 slave factor
    Kept(Parameter(33, 8, "float"), 1013.25),  # 143 pressure, mbar
    Kept(Parameter(33, 21, "float"), 1.784, "locked"),  # 170 density, kg/m3
    Kept(Parameter(33, 22, "float"), 0.0, "locked"),  # 183 capacity 0 %
    Kept(ALARM_MAXIMUM, 0, "write", 32000), Kept(ALARM_MINIMUM, 0, "write", 32000),
    Kept(ALARM_MODE, 0, "write", 3), Kept(Parameter(97, 4, "byte"), 0, "write", 2),  # 118, 119
    Kept(Parameter(97, 5, "byte"), 0, "write", 1), Kept(Parameter(97, 6, "word"), 0, "write", 32000),  # 120, 121
    Kept(Parameter(97, 7, "byte"), 0, "write"),  # 182 alarm delay, s
    Kept(COUNTER, 0.0, "write"), Kept(COUNTER_MODE, 0, "write", 2), Kept(RESET, 0, "write", 5),
    Kept(Parameter(104, 3, "float"), 0.0, "write"), Kept(Parameter(104, 2, "byte"), 0, "write", 31),  # 124 limit, 123
    Kept(Parameter(104, 4, "byte"), 0, "write", 2), Kept(Parameter(104, 5, "byte"), 0, "write", 1),  # 125, 126
    Kept(Parameter(104, 6, "word"), 0, "write", 32000), Kept(Parameter(104, 7, "text"), "ln"),  # 127, 128
    Kept(Parameter(104, 9, "byte"), 7, "write", 15), Kept(Parameter(97, 9, "byte"), 15, "write", 15),  # 157, 156
    Kept(Parameter(113, 4, "text"), "", "locked"), Kept(USER_TAG, "USERTAG", "write"),  # 93, 115
    Kept(Parameter(113, 8, "text"), "", "locked"),  # 171 calibration certificate
    Kept(Parameter(113, 12, "byte"), 7),  # 175: 7 is a DMFC
    Kept(Parameter(113, 13, "float"), 3.0, "locked"), Kept(Parameter(113, 16, "float"), 20.0, "locked"),  # 178, 181
    Kept(Parameter(113, 21, "float"), 2.1e-5, "locked"),  # 252 viscosity
    Kept(Parameter(114, 17, "byte"), 128, "locked"), Kept(Parameter(114, 30, "float"), 1.0, "locked"),  # 141, 254
    Kept(Parameter(114, 12, "float"), 0.005), Kept(Parameter(115, 3, "byte"), 0, "locked"),  # 52, 53
    Kept(Parameter(115, 1, "byte"), 0, "locked"),  # 58 calibration mode
    Kept(Parameter(0, 2, "byte"), 3), Kept(Parameter(0, 4, "byte"), 3),  # 3 secondary, 5 last node
    Kept(Parameter(0, 20, "byte"), 1),  # 185 function of the device: a controller
    Kept(Parameter(1, 27, "float"), 0.0), Kept(Parameter(1, 28, "float"), 100.0),  # 247, 248 capacity, from and to
    *(Kept(Parameter(114, n, "byte"), 128, "locked") for n in (5, 18)),  # 72, 165 response of the controller
    *(Kept(Parameter(114, n, "float"), value, "locked") for n, value in ((21, 1.0), (22, 0.1), (23, 0.0))),  # 167..169
    *(Kept(Parameter(117, n, "float"), 1.0, "locked") for n in range(1, 6)),  # 56, 57, 73, 74, 222 filters
    Kept(Parameter(113, 7, "text"), "A"), Kept(Parameter(113, 9, "text"), "20210401"),  # 131, 172
    Kept(Parameter(113, 14, "float"), 1.0, "locked"), Kept(Parameter(113, 15, "float"), 0.0, "locked"),  # 179, 180
    Kept(Parameter(113, 18, "float"), 0.52, "locked"), Kept(Parameter(113, 20, "float"), 0.016, "locked"),  # 250, 251
    Kept(Parameter(1, 18, "byte"), 0), Kept(Parameter(1, 19, "byte"), 0),  # 26, 27 who claims it
    Kept(Parameter(33, 10, "float"), 0.0, "locked"), Kept(Parameter(33, 11, "float"), 1013.25, "locked"),  # 245, 246
    Kept(Parameter(33, 24, "word"), 0, "write", 32000), Kept(Parameter(117, 6, "word"), 1, "locked"),  # 223, 224
    Kept(Parameter(114, 13, "float"), 100.0, "locked"), Kept(Parameter(114, 14, "float"), 0.0, "write"),  # 338, 339
    Kept(Parameter(114, 15, "float"), 0.0, "locked"),  # 361 hysteresis of the controller
    # 305, 199, 306, 335: selection, address, medium and parity of field bus 1
    *(Kept(Parameter(125, n, "byte"), value, "locked") for n, value in ((8, 1), (10, 3), (11, 1), (12, 0))),
    Kept(Parameter(125, 9, "long"), 38400, "locked"), Kept(Parameter(118, 0, "byte"), 0),  # 201, 418
    Kept(Parameter(115, 23, "byte"), 0, "write", 3), Kept(Parameter(115, 31, "byte"), 0, "locked"),  # 329, 301
)  # fmt: skip
