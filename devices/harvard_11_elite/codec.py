"""What is said to a Harvard Pump 11 Elite: words with units, and answers that end with a prompt.

Sources. M: Harvard "PHD ULTRA" user's manual 5419-002, pages 83 to 88, and KD Scientific "Legato 100" 5617-006,
pages 51 to 57, and "Allegro" 5613-004, page 57: the same pump chain language; the Elite's own manual, 5420-002, could
not be read. D: open drivers that need it so: flowchem 1.1.6 (`harvardapparatus`), python-syringe-pump 0.2.1, and two
drivers of laboratories (classes `Harvard11ElitePump` and `Pump11EliteDriver`).

A command is ``[@][address]word [argument]`` and CR; ``@`` leaves the display alone; words may be cut to four letters
(M). An answer is lines of LF, text, CR, and at its end LF and the prompt (M). Lines and prompt carry the address, if
it is not 0 (M) or if the command carried it (D: ``0VER`` is answered ``00:11 ELITE I/W Single 3.0.4`` and ``00:``).
With ``poll on`` an XON follows the prompt (D), which is the only sure sign that an answer is complete.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import pi

XON = b"\x11"

IDLE, INFUSING, WITHDRAWING, STALLED, TARGET = ":", ">", "<", "*", "T*"
PROMPTS = {
    IDLE: "stopped", INFUSING: "infusing", WITHDRAWING: "withdrawing",
    STALLED: "stalled", TARGET: "stopped at its target",
}  # fmt: skip
"""M: PHD ULTRA, page 83."""
MOVING = (INFUSING, WITHDRAWING)

VOLUMES = {"ml": 1e3, "ul": 1.0, "nl": 1e-3, "pl": 1e-6}
"""uL in one (M); the pump also takes the first letter alone."""
TIMES = {"hr": 60.0, "min": 1.0, "sec": 1 / 60}
"""min in one (M); the pump also takes the first letter alone."""
FEMTOLITRE = 1e-9  # uL

# The screw, as the pump tells by ``metrics`` (D: flowchem quotes one): 400 steps of a turn in 16 microsteps, a pulley
# of 2.4 to 1, 24 threads per inch, 27 s to 26 us per microstep. For a syringe of 14.43 mm that makes 26.0035 ml/min,
# which is what such a pump says (D: python-syringe-pump).
STEP = 25.4 / 24 / (400 * 16 * 2.4)  # mm
SLOWEST, FASTEST = STEP / 27.0 * 60, STEP / 26e-6 * 60  # mm/min
NARROWEST, WIDEST = 0.1, 33.0  # mm, inner diameters it takes (D: its ``metrics``)


def area(diameter: float) -> float:
    """mm2, which is uL per mm."""
    return pi / 4 * diameter**2


# ---------------------------------------------------------------------- quantities


def number(value: float) -> str:
    """Up to four decimals, as the pump writes them."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def volume_text(microlitres: float, unit: str = "") -> str:
    """``1.25 ml``: in `unit`, or in the largest that makes it 1 or more."""
    return _ranged(microlitres, unit, "")


def rate_text(per_minute: float, unit: str = "") -> str:
    """``1.25 ml/min``, likewise; `unit` such as ``ul/hr``."""
    volume, _, time = unit.partition("/")
    return _ranged(per_minute * TIMES[time or "min"], volume, f"/{time or 'min'}")


def _ranged(value: float, unit: str, tail: str) -> str:
    if not unit or abs(value) / VOLUMES[unit] < 0.1:
        fitting = (u for u in ("ml", "ul", "nl", "pl") if abs(value) >= VOLUMES[u] * (1 - 1e-9))
        unit = next(fitting, "pl") if value else unit or "ul"
    return f"{number(value / VOLUMES[unit])} {unit}{tail}"


_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)(?:e([-+]?\d+))? ?([munp])l?(?:/(hr?|m(?:in)?|s(?:ec)?))?", re.IGNORECASE)


def parse_volume(text: str) -> tuple[float, str]:
    """uL, and the unit as the pump writes it; raises ValueError."""
    value, volume, time = _parsed(text)
    if time:
        raise ValueError(f"{text!r} is no volume")
    return value, volume


def parse_rate(text: str) -> tuple[float, str]:
    """uL/min, and the unit as the pump writes it; raises ValueError."""
    value, volume, time = _parsed(text)
    if not time:
        raise ValueError(f"{text!r} is no rate")
    return value / TIMES[time], f"{volume}/{time}"


def _parsed(text: str) -> tuple[float, str, str]:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no number with a unit")
    volume = found[3].lower() + "l"
    time = {"h": "hr", "m": "min", "s": "sec", "": ""}[(found[4] or "")[:1].lower()]
    return float(f"{found[1]}e{found[2] or 0}") * VOLUMES[volume], volume, time


def parse_limits(text: str) -> tuple[float, float]:
    """uL/min, of ``25.0425 nl/min to 26.0035 ml/min``; raises ValueError."""
    low, _, high = text.partition(" to ")
    return parse_rate(low)[0], parse_rate(high)[0]


# ---------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: the pump's address, its lines, and its prompt."""

    address: int
    lines: tuple[str, ...]
    prompt: str

    def encode(self, *, addressed: bool, polled: bool) -> bytes:
        """`addressed`: lines and prompt carry the address; `polled`: an XON ends it."""
        before, mark = (f"{self.address:02d}:", f"{self.address:02d}") if addressed else ("", "")
        text = "".join(f"\n{before}{line}\r" for line in self.lines) + f"\n{mark}{self.prompt}"
        return text.encode("latin-1") + (XON if polled else b"")

    @classmethod
    def decode(cls, message: bytes) -> Reply:
        """Of an answer with addresses, without its XON; raises ValueError."""
        parts = [part for part in re.split(r"[\r\n]+", message.decode("latin-1")) if part]
        end = re.fullmatch(r"(\d\d)(:|>|<|\*|T\*)", parts[-1]) if parts else None
        if end is None:
            raise ValueError(f"{message!r} has no prompt with an address")
        before = f"{end[1]}:"
        if not all(part.startswith(before) for part in parts[:-1]):
            raise ValueError(f"{message!r} has lines of somebody else")
        return cls(int(end[1]), tuple(part[3:] for part in parts[:-1]), end[2])

    @property
    def error(self) -> str:
        """What it complains of; empty if it doesn't. M (Allegro, page 57): a line of the kind, a line of the matter."""
        if self.lines and re.match(r"(Command|Argument) error", self.lines[0]):
            return " ".join(line.strip() for line in self.lines)
        return ""


@dataclass(frozen=True, slots=True)
class Running:
    """What ``status`` brings (M: Legato 130, page 57): rate and volume are of the present direction."""

    rate: float
    """uL/min"""
    seconds: float
    volume: float
    """uL"""
    withdrawing: bool
    moving: bool
    stalled: bool
    target: bool

    def encode(self) -> str:
        letter = "w" if self.withdrawing else "i"
        flags = (
            letter.upper() if self.moving else letter, ".", "S" if self.stalled else ".", ".",
            letter.upper(), "T" if self.target else ".",
        )  # fmt: skip
        counts = (self.rate / 60 / FEMTOLITRE, self.seconds * 1e3, self.volume / FEMTOLITRE)
        return " ".join(str(round(count)) for count in counts) + " " + "".join(flags)

    @classmethod
    def decode(cls, text: str) -> Running:
        """Raises ValueError."""
        found = re.fullmatch(r"(\d+) (\d+) (\d+) ([iIwW])[iIwW.]([sS.]).[iIwW.]([tT.])", text)
        if found is None:
            raise ValueError(f"{text!r} is no status")
        rate, milliseconds, volume = (int(found[n]) for n in (1, 2, 3))
        return cls(
            rate * FEMTOLITRE * 60, milliseconds / 1e3, volume * FEMTOLITRE,
            found[4] in "wW", found[4].isupper(), found[5] in "sS", found[6] in "tT",
        )  # fmt: skip

    @property
    def prompt(self) -> str:
        """The prompt that means the same."""
        if self.moving:
            return WITHDRAWING if self.withdrawing else INFUSING
        return STALLED if self.stalled else TARGET if self.target else IDLE


# ---------------------------------------------------------------------- framing


class HostEnd:
    """Sends lines; an answer ends with XON, or with a prompt as long as the pump has not been heard to send XON."""

    _whole = re.compile(rb"(?:^|\n)\d\d(?::|>|<|T?\*)\Z")

    def __init__(self) -> None:
        self._buffer = b""
        self._polled = False

    def encode(self, message: bytes) -> bytes:
        return message + b"\r\n"

    def feed(self, data: bytes) -> list[bytes]:
        *messages, self._buffer = (self._buffer + data).split(XON)
        self._polled = self._polled or bool(messages)
        if not self._polled and self._whole.search(self._buffer):
            messages.append(self._buffer)
            self._buffer = b""
        self._buffer = self._buffer[-4096:]
        return messages

    def reset(self) -> None:
        # A whole answer left lying without its XON: the pump was switched off and on, and has forgotten to poll.
        self._polled = self._polled and not self._whole.search(self._buffer)
        self._buffer = b""


class PumpEnd:
    """Receives lines that end with CR, and does not mind LF; an empty line asks for the prompt."""

    def __init__(self) -> None:
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return message

    def feed(self, data: bytes) -> list[bytes]:
        *messages, self._buffer = (self._buffer + data.replace(b"\n", b"")).split(b"\r")
        self._buffer = self._buffer[-256:]
        return messages

    def reset(self) -> None:
        self._buffer = b""
