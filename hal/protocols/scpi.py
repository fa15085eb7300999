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
from typing import Any

from .scpi_parameters import Choice, Kind, Numeric, ScpiError, pattern_text

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
    return pattern_text(header if header.startswith(("*", ":", "[:")) else f":{header}")


# ---------------------------------------------------------------------- for drivers


_ERROR = re.compile(r'^\s*([-+]?\d+)\s*,\s*"((?:[^"]|"")*)"?')


def parse_error(reply: str) -> tuple[int, str]:
    """Take ``-113,"Undefined header;1;2013/05/05 ..."`` apart: code and text, details dropped. Raises ValueError."""
    match = _ERROR.match(reply)
    if match is None:
        raise ValueError(f"{reply!r} is no entry of an error queue")
    return int(match[1]), match[2].partition(";")[0]
