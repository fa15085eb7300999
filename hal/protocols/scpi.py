"""SCPI and languages like it: a table of headers becomes an instrument's interpreter. No I/O.

A new model of a known family is a table plus its physics: an emulator lists its headers as the
manual prints them (``:SOURce[1]:VOLTage[:LEVel]``, capitals are the short form, brackets may be
left out, ``#`` is a numeric suffix), each with the kinds of its parameters and a function.

Sources: SCPI-99 volume 1, chapters 5 (short and long forms), 6 (headers and their tree) and 7
(parameters); volume 2, section 21.8 (the error queue and its codes); IEEE 488.2-1992, chapters 7
(program messages), 10 (common commands) and 11 (status). Of these the standards' texts were not at
hand: chapter numbers are from memory, behaviour from the manuals that restate them (34410A user's
guide p. 13, Keithley 2450 reference 2450-901-01, appendix C).
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isinf
from typing import Any, Protocol

NAN = 9.91e37
"""What "not a number" looks like on the wire (SCPI-99 7.2.1.5)."""

TEXTS = {
    0: "No error", -101: "Invalid character", -102: "Syntax error", -103: "Invalid separator", -104: "Data type error",
    -108: "Parameter not allowed", -109: "Missing parameter", -113: "Undefined header",
    -114: "Header suffix out of range", -123: "Exponent too large", -131: "Invalid suffix", -151: "Invalid string data",
    -200: "Execution error", -221: "Settings conflict", -222: "Data out of range",
    -224: "Illegal parameter value", -230: "Data corrupt or stale", -310: "System error", -350: "Queue overflow",
    -410: "Query INTERRUPTED", -420: "Query UNTERMINATED",
}  # fmt: skip
"""Standard codes in use here (SCPI-99 21.8.8 and following)."""


class ScpiError(Exception):
    """What an instrument puts into its error queue; raised by handlers and parameter kinds."""

    def __init__(self, code: int, text: str = "") -> None:
        self.code, self.text = code, text or TEXTS.get(code, "Device-specific error")
        super().__init__(f'{code},"{self.text}"')


# ---------------------------------------------------------------------- parameters


class Kind(Protocol):
    """A kind of parameter, both ways."""

    def parse(self, text: str) -> Any:
        """Return the value; raise `ScpiError`."""
        ...

    def show(self, value: Any) -> str:
        """Return the value as a reply shows it."""
        ...


_NUMBER = re.compile(r"^([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z%/]*)$")
_BASES = {"H": 16, "Q": 8, "B": 2}
_MULTIPLIERS = {
    "EX": 1e18, "PE": 1e15, "T": 1e12, "G": 1e9, "MA": 1e6, "K": 1e3, "": 1.0,
    "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15, "A": 1e-18,
}  # fmt: skip
"""IEEE 488.2 table 7-2; M is milli, MA mega, except MHZ and MOHM."""


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number, with MINimum, MAXimum and DEFault where it has bounds (SCPI-99 7.2.1)."""

    low: float = float("-inf")
    high: float = float("inf")
    default: float = 0.0
    unit: str = ""
    form: str = "{:.6E}"
    whole: bool = False

    def parse(self, text: str) -> float:
        special = self.special(text)
        value = self._number(text) if special is None else special
        if self.whole:
            value = float(round(value))
        if not self.low <= value <= self.high:
            raise ScpiError(-222)
        return value

    def special(self, text: str) -> float | None:
        """The bound or default named by `text`, None if it names none."""
        for mnemonic, value in (("MINimum", self.low), ("MAXimum", self.high), ("DEFault", self.default)):
            if _mnemonic(mnemonic).fullmatch(text.upper()):
                return value
        return None

    def show(self, value: float) -> str:
        return str(round(value)) if self.whole else self.form.format(value)

    def _number(self, text: str) -> float:
        if text[:1] == "#" and text[1:2].upper() in _BASES:
            try:
                return float(int(text[2:], _BASES[text[1:2].upper()]))
            except OverflowError:
                raise ScpiError(-123) from None
            except ValueError:
                raise ScpiError(-101) from None
        match = _NUMBER.match(text)
        if match is None:
            raise ScpiError(-104)
        number, suffix = _finite(match[1]), match[2].upper()
        return number * self._scale(suffix) if suffix else number

    def _scale(self, suffix: str) -> float:
        unit = self.unit.upper()
        if not unit or not suffix.endswith(unit):
            raise ScpiError(-131)
        multiplier = suffix[: -len(unit)]
        if suffix in ("MHZ", "MOHM"):
            return 1e6
        if multiplier not in _MULTIPLIERS:
            raise ScpiError(-131)
        return _MULTIPLIERS[multiplier]


@dataclass(frozen=True, slots=True)
class Boolean:
    """ON, OFF or a number that rounds to zero or not (SCPI-99 7.3)."""

    default: bool = False

    def parse(self, text: str) -> bool:
        if text.upper() in ("ON", "OFF"):
            return text.upper() == "ON"
        match = _NUMBER.match(text)
        if match is None or match[2]:
            raise ScpiError(-104)
        return round(_finite(match[1])) != 0

    def show(self, value: bool) -> str:
        return "1" if value else "0"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some mnemonics, in short or long form; replies show the short one (SCPI-99 7.1)."""

    names: tuple[str, ...]
    default: str = ""
    quoted: bool = False
    """Whether it travels as a string, both ways: ``"CURR:DC"``."""

    def parse(self, text: str) -> str:
        bare = unquoted(text)
        if self.quoted and bare is None:
            raise ScpiError(-104)
        for name in self.names:
            if _pattern(name).fullmatch((bare if bare is not None else text).upper()):
                return _short(name)
        raise ScpiError(-224)

    def show(self, value: str) -> str:
        return f'"{value}"' if self.quoted else value


@dataclass(frozen=True, slots=True)
class Text:
    """A string in single or double quotes, or bare where the instrument takes that."""

    default: str = ""
    bare: bool = False

    def parse(self, text: str) -> str:
        string = unquoted(text)
        if string is None:
            if not self.bare:
                raise ScpiError(-104)
            return text
        return string

    def show(self, value: str) -> str:
        return value if self.bare else '"' + value.replace('"', '""') + '"'


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ScpiError(-123)
    return number


def unquoted(text: str) -> str | None:
    """The contents of a quoted string (doubled quotes are one), None if it is not quoted."""
    if len(text) >= 2 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1].replace(text[0] * 2, text[0])
    return None


# ---------------------------------------------------------------------- messages


def split(text: str, separator: str) -> list[str]:
    """Split at separators outside quotes and parentheses; parts are stripped."""
    parts, start, quote, depth = [], 0, "", 0
    for at, sign in enumerate(text):
        if quote:
            if sign == quote:
                quote = ""
        elif sign in "\"'":
            quote = sign
        elif sign in "()":
            depth += 1 if sign == "(" else -1
        elif sign == separator and depth <= 0:
            parts.append(text[start:at].strip())
            start = at + 1
    if quote:
        raise ScpiError(-151)
    parts.append(text[start:].strip())
    return parts


@dataclass(frozen=True, slots=True)
class Unit:
    """One program message unit: a header and its parameters."""

    header: str
    query: bool
    parameters: tuple[str, ...]


_NAME = r"^(\*[A-Za-z]+|:?[A-Za-z]\w*(?::[A-Za-z]\w*)*|:\*[A-Za-z]+)(\??)"
_HEADER = re.compile(_NAME + r"(?:\s+(.*))?$", re.DOTALL)
_LAX_HEADER = re.compile(_NAME + r"(?:(?:\s+|(?<=\?))(.*))?$", re.DOTALL)


def parse_unit(text: str, lax: bool = False) -> Unit:
    """Take one message unit apart; `lax`: ``KRDG?A`` and empty parameters will do. Raises `ScpiError`."""
    match = (_LAX_HEADER if lax else _HEADER).match(text)
    if match is None:
        raise ScpiError(-101 if any(not 31 < ord(sign) < 127 for sign in text) else -102)
    parameters = tuple(split(match[3], ",")) if match[3] and match[3].strip() else ()
    if not lax and any(not parameter for parameter in parameters):
        raise ScpiError(-109)
    # ":*CLS" is against IEEE 488.2, and drivers for Keithley's instruments send it.
    return Unit(match[1].upper().replace(":*", "*"), match[2] == "?", parameters)


@lru_cache(maxsize=4096)
def _mnemonic(name: str) -> re.Pattern[str]:
    return re.compile(_pattern_text(name))


_pattern = _mnemonic


def _pattern_text(header: str) -> str:
    """The regular expression of a header as manuals print it (SCPI-99 chapters 5 and 6)."""
    out, at = "", 0
    while at < len(header):
        if found := re.compile(r"\[(\d+)\]").match(header, at):
            out += f"(?:{found[1]})?"
        elif found := re.compile(r"([A-Z_]+)([a-z_]*)").match(header, at):
            rest = found[2].upper()
            out += found[1] + (f"(?:{rest})?" if rest else "")
        elif found := re.compile(r"[\[\]#:*?\d]").match(header, at):
            out += {"[": "(?:", "]": ")?", "#": r"(\d*)", "*": r"\*", "?": r"\?"}.get(found[0], found[0])
        else:
            raise ValueError(f"{header!r} can't be read at position {at}")
        at = found.end()
    return out


def _short(name: str) -> str:
    """The short form of a name: its capitals, optional parts left out."""
    return re.sub(r"[a-z]", "", re.sub(r"\[[^]]*\]", "", name))


# ---------------------------------------------------------------------- errors and status


class ErrorQueue:
    """First in, first out; when full its last place says so (SCPI-99 21.8.2)."""

    def __init__(self, size: int = 30) -> None:
        self.size = size
        self._errors: deque[ScpiError] = deque()

    def __len__(self) -> int:
        return len(self._errors)

    def push(self, error: ScpiError) -> None:
        if len(self._errors) < self.size:
            self._errors.append(error)
        else:
            self._errors[-1] = ScpiError(-350)

    def pop(self) -> ScpiError:
        """The oldest; 0, "No error" when there is none."""
        return self._errors.popleft() if self._errors else ScpiError(0)

    def clear(self) -> None:
        self._errors.clear()


OPC, QYE, DDE, EXE, CME, PON = 1, 4, 8, 16, 32, 128
"""Bits of the standard event status register (IEEE 488.2, 11.5.1)."""


def event_of(code: int) -> int:
    """The event status bit that an error of this code sets (SCPI-99 21.8.8)."""
    match code // -100 if code < 0 else 0:
        case 1:
            return CME
        case 2:
            return EXE
        case 4:
            return QYE
        case _:
            return DDE


# ---------------------------------------------------------------------- binary answers


_MARK = re.compile(rb"\x1b(\d+)\x1b")


class Blocks:
    """Numbers as binary blocks of indefinite length (IEEE 488.2, 8.7.10) within answers that are text till the last."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def floats(self, values: Sequence[float], *, double: bool = False, big: bool = False) -> str:
        """A mark that `insert` replaces by ``#0`` and the numbers."""
        letter = "d" if double else "f"
        self._blocks.append(b"#0" + struct.pack(f"{'>' if big else '<'}{len(values)}{letter}", *values))
        return f"\x1b{len(self._blocks) - 1}\x1b"

    def insert(self, reply: bytes) -> bytes:
        """The answer with its blocks."""
        blocks, self._blocks = self._blocks, []
        return _MARK.sub(lambda mark: blocks[int(mark[1])], reply) if blocks else reply


# ---------------------------------------------------------------------- the interpreter


@dataclass(frozen=True, slots=True)
class Entry:
    """One header of the table: what it does as a command, and what it answers as a query.

    Functions get the numbers of ``#`` nodes (1 if left out), then the parameters.
    """

    header: str
    write: Callable[..., object] | None = None
    read: Callable[..., str] | None = None
    takes: Sequence[Kind] = ()
    asks: Sequence[Kind] = ()
    optional: int = 0
    """How many of the last parameters of a command may be left out; of a query all may."""
    rest: Kind | None = None
    """The kind of any further parameters."""
    asks_at_least: int = 0
    """How many parameters a query needs."""


@dataclass
class Interpreter:
    """An instrument's command interpreter with IEEE 488.2 status; `values` holds its settings."""

    identity: str
    entries: Iterable[Entry]
    on_reset: Callable[[], object] = lambda: None
    errors: ErrorQueue = field(default_factory=ErrorQueue)
    scpi: bool = True
    """Whether it has SCPI's mandatory SYSTem and STATus commands, or IEEE 488.2's only (Lake Shore's): then
    what was not understood does not end a message, and parameters may be empty."""
    summary: Callable[[], int] = lambda: 0
    """Further bits of the status byte."""

    def __post_init__(self) -> None:
        self.event_status = PON
        self.event_enable = 0
        self.service_enable = 0
        table = [*self.entries, *self._common(), *(self._mandatory() if self.scpi else ())]
        self._table = [(re.compile(_rooted(entry.header)), entry) for entry in table]
        self._found: dict[str, list[tuple[Entry, list[int]]]] = {}

    def respond(self, message: bytes) -> bytes | None:
        """Run a program message; return the replies of its queries joined by ``;``, None if there are none."""
        replies: list[str] = []
        path = ""
        try:
            units = split(message.decode("ascii", "replace").strip(), ";")
        except ScpiError as error:
            self.fault(error)
            return None
        for text in filter(None, units):
            try:
                unit = parse_unit(text, lax=not self.scpi)
                header, path = _resolved(unit.header, path)
                reply = self._run(header, unit)
            except ScpiError as error:
                self.fault(error)
                if self.scpi and event_of(error.code) == CME:
                    break  # the rest of the message may hang on what was not understood
                continue
            if reply is not None:
                replies.append(reply)
        return ";".join(replies).encode("ascii") if replies else None

    def perform(self, text: str) -> str | None:
        """Run one message unit from the root and return its reply. Raises `ScpiError`; no error is entered."""
        unit = parse_unit(text)
        return self._run(_resolved(unit.header, "")[0], unit)

    def fault(self, error: ScpiError) -> None:
        """Enter an error: into the queue and the event status register."""
        self.errors.push(error)
        self.event_status |= event_of(error.code)

    @property
    def status_byte(self) -> int:
        """IEEE 488.2, 11.2: error queue (bit 2), event summary (5), master summary (6)."""
        byte = self.summary() | (4 if len(self.errors) and self.scpi else 0)
        byte |= 32 if self.event_status & self.event_enable else 0
        return byte | (64 if byte & self.service_enable & ~64 else 0)

    def clear(self) -> None:
        """``*CLS``."""
        self.event_status = 0
        self.errors.clear()

    # ------------------------------------------------------------------ private

    def _run(self, header: str, unit: Unit) -> str | None:
        if header not in self._found:
            if len(self._found) > 1000:
                self._found.clear()
            matches = [(p.fullmatch(header), e) for p, e in self._table]
            self._found[header] = [(e, [int(n) if n else 1 for n in m.groups()]) for m, e in matches if m]
        for entry, numbers in self._found[header]:
            if unit.query and entry.read is not None:
                values = _parsed(unit.parameters, entry.asks, len(entry.asks) - entry.asks_at_least, entry.rest)
                return entry.read(*numbers, *values)
            if not unit.query and entry.write is not None:
                entry.write(*numbers, *_parsed(unit.parameters, entry.takes, entry.optional, entry.rest))
                return None
        raise ScpiError(-113)

    def _common(self) -> Iterable[Entry]:
        byte = Numeric(0, 255, whole=True)
        yield Entry("*IDN", read=lambda: self.identity)
        yield Entry("*RST", write=self.on_reset)
        yield Entry("*CLS", write=self.clear)
        yield Entry("*ESR", read=self._read_events)
        yield Entry(
            "*ESE", lambda v: setattr(self, "event_enable", int(v)), lambda: str(self.event_enable), takes=(byte,)
        )
        yield Entry(
            "*SRE", lambda v: setattr(self, "service_enable", int(v) & ~64), lambda: str(self.service_enable), (byte,)
        )
        yield Entry("*STB", read=lambda: str(self.status_byte))
        yield Entry("*OPC", lambda: setattr(self, "event_status", self.event_status | OPC), lambda: "1")
        yield Entry("*WAI", write=lambda: None)
        yield Entry("*TST", read=lambda: "0")

    def _mandatory(self) -> Iterable[Entry]:
        """SCPI-99 volume 1, 4.2.1."""
        yield Entry(":SYSTem:ERRor[:NEXT]", read=lambda: str(self.errors.pop()))
        yield Entry(":SYSTem:ERRor:COUNt", read=lambda: str(len(self.errors)))
        yield Entry(":SYSTem:ERRor:CODE[:NEXT]", read=lambda: str(self.errors.pop().code))
        yield Entry(":SYSTem:VERSion", read=lambda: "1999.0")
        yield Entry(":STATus:PRESet", write=lambda: None)
        enables = {"OPERation": 0, "QUEStionable": 0}
        for name in enables:
            yield Entry(f":STATus:{name}[:EVENt]", read=lambda: "0")
            yield Entry(f":STATus:{name}:CONDition", read=lambda: "0")
            yield Entry(
                f":STATus:{name}:ENABle", lambda v, name=name: enables.__setitem__(name, int(v)),
                lambda name=name: str(enables[name]), (Numeric(0, 65535, whole=True),),
            )  # fmt: skip

    def _read_events(self) -> str:
        events, self.event_status = self.event_status, 0
        return str(events)


def setting(
    header: str, key: str, kind: Kind, values: dict[str, Any], changed: Callable[[], object] = lambda: None
) -> Entry:
    """The entry of a plain setting: set, asked, asked for its bounds, kept in ``values[key]``."""
    values.setdefault(key, getattr(kind, "default", None))

    def write(*given: Any) -> None:
        values[key] = given[-1]
        changed()

    def read(*given: Any) -> str:
        names = [name for name in given if isinstance(name, str)]
        if not names:
            return kind.show(values[key])
        assert isinstance(kind, Numeric)
        return kind.show(kind.special(names[0]) or 0.0)

    asks = (Choice(("MINimum", "MAXimum", "DEFault")),) if isinstance(kind, Numeric) else ()
    return Entry(header, write, read, (kind,), asks)


def _parsed(texts: tuple[str, ...], kinds: Sequence[Kind], optional: int, rest: Kind | None) -> list[Any]:
    if len(texts) < len(kinds) - optional:
        raise ScpiError(-109)
    if len(texts) > len(kinds) and rest is None:
        raise ScpiError(-108)
    values = [kind.parse(text) for kind, text in zip(kinds, texts, strict=False)]
    return values + [rest.parse(text) for text in texts[len(kinds) :] if rest is not None]


def _resolved(header: str, path: str) -> tuple[str, str]:
    """The full header, and the path from which the next unit starts (SCPI-99 6.2.4)."""
    if header.startswith("*"):
        return header, path
    full = header if header.startswith(":") else f"{path}:{header}"
    return full, full.rpartition(":")[0]


def _rooted(header: str) -> str:
    return _pattern_text(header if header.startswith(("*", ":", "[:")) else f":{header}")


# ---------------------------------------------------------------------- for drivers


_ERROR = re.compile(r'^\s*([-+]?\d+)\s*,\s*"((?:[^"]|"")*)"?')


def parse_error(reply: str) -> tuple[int, str]:
    """Take ``-113,"Undefined header;1;2013/05/05 ..."`` apart: code and text, details dropped. Raises ValueError."""
    match = _ERROR.match(reply)
    if match is None:
        raise ValueError(f"{reply!r} is no entry of an error queue")
    return int(match[1]), match[2].partition(";")[0]
