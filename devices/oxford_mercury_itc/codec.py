"""MercuryiTC wire: READ or SET, a path of nouns, and the path comes back with the value and its unit.

Sources: M = MercuryiTC manual UMC0071, section 8.3 (issue 5), and its first issue 59-UMC0071, chapter 10,
page by page from public copies; D = open drivers and test suites that need exactly this: PyMeasure 0.16
`mercuryitc` and its tests, the IBEX emulator of ISIS, Lab::Measurement (VALID). Case-sensitive, nouns of
at most four characters, lines end with LF (M). Port 7020, K/m for K/min (D).
"""

from __future__ import annotations

import re

from hal.units import convert

IDENTITY = "IDN:OXFORD INSTRUMENTS:MERCURY ITC:"
"""Serial number and firmware follow (M 8.3.2)."""
HOTTEST = 2000.0  # K; highest TSET (M 8.3.5); the sensor's own hot limit may be lower
SLOWEST, FASTEST = 0.001, 100_000.0  # K/min; fastest RSET (D), slowest unverified
RATE_STEP = 1e-4  # K/min, as shown
LONGEST = 1024  # bytes of a line, its end included (M 8.3.1)
REFUSALS = {
    "INVALID": "it does not know this, or the value is out of its range",
    "NOT_FOUND": "it has no such sensor or heater; check `sensor` in the lab file",
    "N/A": "this board can't do that",
    "DENIED": "the present user may not change this; unlock it at the front panel",
}
"""M 8.3.6, with what to do."""

SCALES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6}  # M 10.3.2
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(.*)")


def encode(verb: str, nouns: str, value: str = "") -> str:
    """``READ:DEV:MB1.T1:TEMP:SIG:TEMP`` or ``SET:...:ENAB:OFF``."""
    return f"{verb}:{nouns}:{value}" if value else f"{verb}:{nouns}"


def refusal(reply: str) -> str:
    """The word with which the instrument refused, or nothing."""
    return next((word for word in REFUSALS if reply == word or reply.endswith((f":{word}", f":{word}:"))), "")


def answers(reply: str, verb: str, nouns: str) -> bool:
    """Whether `reply` can be the answer to this message: it repeats the nouns, or refuses."""
    repeated = f"STAT:{nouns}:" if verb == "READ" else f"STAT:SET:{nouns}:"
    return reply.startswith(repeated) or bool(refusal(reply))


def value(reply: str, nouns: str) -> str:
    """What was asked for, with its unit. Raises ValueError."""
    head = f"STAT:{nouns}:"
    if not reply.startswith(head):
        raise ValueError(f"{reply!r} is no answer about {nouns}")
    return reply.removeprefix(head)


def number(text: str, unit: str = "") -> float:
    """The number in ``330.0725K`` or ``12.5mV``, in `unit` without a prefix. Raises ValueError."""
    found = _NUMBER.fullmatch(text)
    if not found or not found[2].endswith(unit):
        raise ValueError(f"{text!r} is no number in {unit or 'no unit'}")
    scale = found[2].removesuffix(unit)
    if scale not in SCALES:
        raise ValueError(f"{text!r} is not in {unit or 'no unit'}")
    return float(found[1]) * SCALES[scale]


def temperature(text: str) -> float:
    """``330.0725K`` in degC. Raises ValueError."""
    return convert(number(text, "K"), "K", "degC")


def rate(text: str) -> float:
    """``60.0000K/m`` in K/s. Raises ValueError."""
    return number(text, "K/m") / 60


def switch(text: str) -> bool:
    """ON or OFF. Raises ValueError."""
    if text not in ("ON", "OFF"):
        raise ValueError(f"{text!r} is neither ON nor OFF")
    return text == "ON"


def encode_temperature(celsius: float) -> str:
    """60 degC as ``333.1500``."""
    return f"{convert(celsius, 'degC', 'K'):.4f}"


def encode_rate(per_second: float) -> str:
    """1 K/s as ``60.0000``."""
    return f"{per_second * 60:.4f}"
