"""EI-Bisynch as an emulated Eurotherm speaks it: two letters for each register, and the rules of reading and writing.

Source: HA026230 (issue 3), chapter 4 (rules), 5.2 to 5.5 (mnemonics, the column of the 2400; HEX where the table says
so), 6.8.1 (fixed length). That a 3504 speaks it, with PV, SL, SP, OP and RR, is known from an open program for
Isotech baths (BisynchBath); the manual of the 3200 has Modbus only, so that a 3216 that speaks it stands for a 2216.
Unverified: whether a 3504 has all of these letters; that reading EE leaves it; left out: channel 9 (access), programs.
"""

from __future__ import annotations

import re
from typing import Any

from hal.instrument.registers import Illegal
from hal.protocols.bisynch import ACK, EOT, NAK, Question, answer, parse_question
from hal.protocols.modbus import ILLEGAL_VALUE

from . import codec
from .registers import Registers

MNEMONICS = {
    "PV": 1, "SL": 2, "OP": 3, "WO": 4, "SP": 5, "mA": 273, "OO": 85, "LI": 80,
    "A1": 13, "A2": 14, "A3": 81, "A4": 82, "n5": 47, "n6": 68, "n7": 69, "n8": 71, "lt": 83, "AT": 270,
    "XP": 6, "TI": 8, "TD": 9, "MR": 28, "HB": 18, "LB": 17, "RG": 19, "Gn": 72,
    "P2": 48, "I2": 49, "D2": 51, "M2": 50, "G2": 52, "HH": 86, "hc": 88, "HC": 16,
    "SS": 15, "rE": 276, "S1": 24, "S2": 25, "RI": 26, "R1": 26, "LT": 27, "LS": 112, "HS": 111, "TL": 67, "TH": 66,
    "RR": 35, "Tc": 101, "O1": 141, "O2": 142, "VA": 202, "t5": 215, "t1": 203, "LO": 31, "HO": 30, "OR": 37, "FM": 84,
    "CH": 10, "C2": 20, "BP": 34, "TT": 21, "Ad": 131, "wc": 106, "WC": 106, "ER": 39, "RD": 78, "PC": 23, "FS": 74,
    "SO": 75, "CW": 76, "DW": 87, "V0": 107, "II": 122, "IM": codec.MODE, "sb": 258, "Lb": 263, "AK": 274, "Ra": 275,
    "CA": 7, "Q0": 512, "Q1": 516, "QD": 525, "QJ": 531, "Rc": 277, "HD": 278, "DK": 279,
}  # fmt: skip
HEXADECIMAL = ("FS", "CW", "DW", "V0", "II", "EE", "FX")
OK, UNKNOWN, READ_ONLY, GARBLED, BEYOND = 0, 1, 2, 7, 8
"""Of the last transaction, in EE (4.11)."""
FIXED = 8
"""Characters of a value if FX is 1 (6.8.1)."""

_NUMBER = re.compile(r" *([-+]?(?:\d+\.?\d*|\.\d+)) *", re.ASCII)
_HEX = re.compile(r" *>([0-9A-Fa-f]{1,4}) *")


class Comms:
    """A controller's end of the line."""

    def __init__(self, instrument: Any, registers: Registers) -> None:
        self._instrument, self._registers = instrument, registers
        self._named = {name: number for name, number in MNEMONICS.items() if registers.knows(number)}
        self._order = sorted(self._named)
        self._asked = ""
        """The parameter answered last, as long as the host has not turned away."""
        self._status, self._fixed = OK, 0

    def respond(self, message: bytes, unit: int) -> bytes | None:
        """Answer as the controller of this address."""
        question, asked = parse_question(message), self._asked
        self._asked = ""
        if message in (ACK, NAK):
            if not asked:
                return None
            return self._read(asked if message == NAK else self._following(asked))
        if question is None or not question.meant_for(unit):
            return None
        reply = self._read(question.parameter) if question.data is None else self._write(question)
        if question.broadcast:
            self._asked = ""
            return None
        return reply

    def _following(self, parameter: str) -> str:
        """The next by the alphabet, the same channel (4.7); none after the last."""
        channel, name = parameter[:-2], parameter[-2:]
        return next((channel + other for other in self._order if other > name), "")

    def _read(self, parameter: str) -> bytes:
        name = parameter.removeprefix("1") if len(parameter) == 3 else parameter
        if name == "EE":
            self._asked = parameter
            return answer(parameter, f">{self._status:04X}")
        if name != "FX" and name not in self._named:
            self._status = UNKNOWN
            return EOT
        self._status, self._asked = OK, parameter
        if name in HEXADECIMAL:
            word = self._fixed if name == "FX" else int(self._registers.value(self._named[name]))
            return answer(parameter, f">{word & 0xFFFF:04X}")
        text = self._registers.shown(self._named[name])
        return answer(parameter, text.rjust(FIXED) if self._fixed else text)

    def _write(self, question: Question) -> bytes:
        self._status = self._written(question.parameter, question.data or "") if question.intact else GARBLED
        return ACK if self._status == OK else NAK

    def _written(self, parameter: str, data: str) -> int:
        name = parameter.removeprefix("1") if len(parameter) == 3 else parameter
        if name not in (*self._named, "FX", "EE"):
            return UNKNOWN
        if name == "EE":
            return READ_ONLY
        match = (_HEX if name in HEXADECIMAL else _NUMBER).fullmatch(data)
        if match is None:
            return GARBLED
        value = float(int(match[1], 16) if name in HEXADECIMAL else match[1])
        if name == "FX":
            if value not in (0, 1):
                return BEYOND
            self._fixed = int(value)
            return OK
        if name == "OP" and not self._instrument.manual:
            return READ_ONLY  # the loop's own; that it says so, as of OO, is unverified
        try:
            self._registers.put(self._named[name], value)
        except Illegal as refused:
            return BEYOND if refused.code == ILLEGAL_VALUE else READ_ONLY
        return OK
