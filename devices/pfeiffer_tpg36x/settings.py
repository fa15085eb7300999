"""Settings of a gauge controller that change nothing in its emulator: what each is at first and what it may become.

Names after BG 5510 BEN (TPG 361, 362), BG 805 198 BE (TPG 261, 262) and BG 5511 BEN (TPG 366); forms and ranges as the
open driver pylablib 1.4 (`TPG260`) sends them, and as the manual of the same family's VGC501 to 503 (Inficon,
tina96e1) has them. CID, GAS, the second value of DCB and addresses on RS-485: the StreamDevice protocol file for the
TPG 366 of the Paul Scherrer Institute (paulscherrerinstitute/TPG366, ``TPG366.proto``). Unverified: values as
delivered, and which of them a TPG 366 lacks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """One mnemonic."""

    initial: str
    high: float
    low: float = 0.0
    each: bool = False
    """One value for every input."""
    decimals: int = 0
    only: str = ""
    """``36`` or ``26``: the only family that has it."""
    values: int = 1
    """How many, if not one for each input."""

    def first(self, inputs: int) -> str:
        return ",".join([self.initial] * (inputs if self.each else self.values))

    def taken(self, values: list[str], inputs: int) -> str | None:
        """As it is told afterwards; None if it is inadmissible."""
        if len(values) != (inputs if self.each else self.values):
            return None
        try:
            numbers = [float(value) for value in values]
        except ValueError:
            return None
        if not all(self.low <= n <= self.high and (self.decimals or n == int(n)) for n in numbers):
            return None
        return ",".join(f"{n:.{self.decimals}f}" for n in numbers)


SHOWN_BY_366 = Kept("0", 99, values=2)
"""DCB of a TPG 366: which gauge, and what is shown of it."""
NAME = 8  # characters of a gauge's name (CID)
KEPT = {
    "BAL": Kept("100", 100, only="36"),  # backlight, %
    "BAU": Kept("0", 4),
    "CAL": Kept("1.000", 10.0, 0.1, each=True, decimals=3, only="26"),  # calibration factor
    "COR": Kept("1.000", 10.0, 0.1, each=True, decimals=3, only="36"),  # the same of the later family
    "DCB": Kept("0", 3, only="36"),  # bar graph
    "GAS": Kept("0", 8, each=True, only="36"),  # kind of gas
    "DCC": Kept("10", 20, only="36"),  # contrast
    "DCD": Kept("2", 4),  # digits shown
    "DCS": Kept("0", 60, only="36"),  # screensaver, h
    "DGS": Kept("0", 1, each=True),  # degas
    "EUM": Kept("0", 1, only="36"),  # user mode
    "FIL": Kept("1", 3, each=True),  # filter
    "FSR": Kept("4", 20, each=True),  # full scale of a linear gauge
    "LNG": Kept("0", 2, only="36"),  # language
    "LOC": Kept("0", 1),  # keys locked
    "OFC": Kept("0", 3, each=True),  # offset correction
    "OFS": Kept("0", 3, each=True, only="36"),
    "PRE": Kept("0", 1, each=True, only="36"),  # Pirani's range extended
    "PUC": Kept("0", 1, each=True),  # underrange control
    "SCT": Kept("0", 5),  # input shown
    "WDT": Kept("1", 1),
}
TOLD = {
    "ETH": "0,192.168.001.100,255.255.255.000,192.168.001.001",
    "HDW": "010100",
    "MAC": "00-A0-41-0A-00-08",
    "RHR": "24",
    "TMP": "23",
}
"""What a TPG 36x tells and nobody sets."""
GAUGE_CONTROL = "0,0,1.0000E-04,1.0000E-03"
"""SC1 and so on: who switches the gauge on, who off, and at which pressures of the other (pylablib)."""
