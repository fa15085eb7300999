"""Keithley DMM6500 wire: its functions with their ranges, and the answer to one measurement.

The reference manual (DMM6500-901-01) could not be read here. D = open drivers that need exactly this:
PyMeasure 0.16, whose docstrings restate the manual and whose tests ran on a real one
(test_keithleyDMM6500_with_device.py); QCoDeS 0.58 and qcodes-contrib-drivers 0.24; fixate. What they leave
open is as in the 2450's Reference Manual (2450-901-01), the same family's, or as the manual's descriptions of the
TSP commands have it, which Tektronix publishes for its editor (commands_DMM6500.json). The instrument must be set to
the SCPI command set (``*LANG?`` answers ``SCPI``). Messages end with LF both ways; a raw socket is at
port 5025.
"""

from __future__ import annotations

from dataclasses import dataclass

from hal.model.reading import Quality, Sample

TERMINATOR = b"\n"
IDENTITY = "KEITHLEY INSTRUMENTS,MODEL DMM6500"
"""How ``*IDN?`` begins; serial number and firmware follow (D)."""


@dataclass(frozen=True, slots=True)
class Function:
    """What it can measure, as far as the wire is concerned."""

    header: str
    """As a manual prints it."""
    shown: str
    """As ``:SENS:FUNC?`` answers: without quotes, or QCoDeS's driver would not work (D)."""
    unit: str
    """As the element UNIT spells it (2450-901-01, p. 8-36, for the first three; others unverified)."""
    ranges: tuple[float, ...] = ()
    cycles: bool = False
    """Whether it integrates over power line cycles; where not, NPLC is an undefined header (D)."""
    relative: float = 0.0
    """Greatest relative offset, both signs."""


FUNCTIONS = {
    "VOLT": Function("VOLTage[:DC]", "VOLT:DC", "Volt DC", (0.1, 1, 10, 100, 1000), True, 1000),
    "VOLT:AC": Function("VOLTage:AC", "VOLT:AC", "Volt AC", (0.1, 1, 10, 100, 750), relative=750),
    "CURR": Function("CURRent[:DC]", "CURR:DC", "Amp DC", (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 3), True, 3),
    "CURR:AC": Function("CURRent:AC", "CURR:AC", "Amp AC", (1e-3, 0.01, 0.1, 1, 3), relative=3),
    "RES": Function("RESistance", "RES", "Ohm", (10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8), True, 1e8),
    "FRES": Function("FRESistance", "FRES", "Ohm", (1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8), True, 1e8),
    "DIOD": Function("DIODe", "DIOD", "Volt DC", (), True, 10),
    "CAP": Function("CAPacitance", "CAP", "Farad", (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3), relative=1e-3),
    "TEMP": Function("TEMPerature", "TEMP", "Celsius", (), True, 3310),
    "CONT": Function("CONTinuity", "CONT", "Ohm", relative=1000),
    "FREQ": Function("FREQuency[:VOLTage]", "FREQ:VOLT", "Hertz", relative=1e6),
    "PER": Function("PERiod[:VOLTage]", "PER:VOLT", "Second", relative=1),
    "VOLT:RAT": Function("VOLTage[:DC]:RATio", "VOLT:DC:RAT", "Ratio", (0.1, 1, 10, 100, 1000), True, 1e12),
}
"""By short form (D). Of currents, the range of 10 A at the rear terminals is left out."""
DIGITIZERS = {
    "DIG:VOLT": Function("DIGitize:VOLTage", "VOLT", "Volt DC", (0.1, 1, 10, 100, 1000), relative=1000),
    "DIG:CURR": Function("DIGitize:CURRent", "CURR", "Amp DC", (1e-4, 1e-3, 0.01, 0.1, 1, 3), relative=3),
}
"""Its other converter, fast and coarse, as QCoDeS drives the DMM7510's."""

OVER_RANGE = 1.2
"""A range reaches this much beyond its name (data sheet; unverified)."""
OVERFLOW = 9.9e37
"""A reading this large is over range (as of the 2450)."""
LARGEST = 7_000_000
"""Readings of a standard buffer (data sheet)."""
NPLC = (0.0005, 12.0)
"""Power line cycles of one measurement; 15 at 60 Hz (D)."""

MEASURES = {
    "voltage": "VOLT", "current": "CURR", "resistance": "RES", "resistance_4w": "FRES", "temperature": "TEMP",
}  # fmt: skip
"""What the driver calls the functions it knows."""
SIGNALS = {"VOLT": "voltage", "CURR": "current", "RES": "resistance", "FRES": "resistance", "TEMP": "temperature"}

READ = b":SENS:FUNC?;:READ?"
"""One measurement, and what of."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One reading: of what, and how much."""

    function: str
    """Short form, a key of `FUNCTIONS`."""
    value: Sample[float]

    def of(self, signal: str) -> Sample[float]:
        """The value, if this signal is what it measures."""
        if SIGNALS.get(self.function) == signal:
            return self.value
        return Sample(None, Quality.BAD, f"it measures {FUNCTIONS[self.function].header} at present")


def parse_function(reply: str) -> str:
    """The short form of ``VOLT:DC``, with or without quotes. Raises ValueError."""
    name = reply.strip().strip("\"'").upper()
    for short, function in FUNCTIONS.items():
        if name in (short, function.shown):
            return short
    raise ValueError(f"{reply!r} is no function")


def parse_reading(reply: bytes) -> Measurement:
    """Take the answer to `READ` apart. Raises ValueError."""
    function, _, value = reply.decode("ascii").partition(";")
    return Measurement(parse_function(function), _sample(float(value)))


def _sample(value: float) -> Sample[float]:
    if abs(value) >= OVERFLOW:
        return Sample(None, Quality.BAD, "over range, or nothing is connected")
    return Sample(value)
