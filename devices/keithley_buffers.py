"""Reading buffers of an emulated 2450 or DMM6500 (`:TRACe`) and the form in which it sends readings (`:FORMat`).

As in the 2450's Reference Manual, 2450-901-01 Rev. B, pp. 6-6, 6-7 and 6-130 on. The elements of a source are the
2450's, those of a scan (CHANnel) the multimeter's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean, pstdev
from typing import Any

from hal.protocols.scpi import Blocks, Entry, setting
from hal.protocols.scpi_parameters import Boolean, Choice, Numeric, ScpiError, Text

START = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
"""What its clock says when it is switched on."""
ELEMENTS = (
    "DATE", "EXTRa", "FORMatted", "FRACtional", "READing", "RELative", "SEConds", "STATus", "TIME", "TSTamp", "UNIT",
)  # fmt: skip
SOURCE = ("SOURce", "SOURFORMatted", "SOURSTATus", "SOURUNIT")
CAPACITY = 100_000
BUFFER = Text(bare=True)
SIGNS = {
    "Volt DC": "V", "Volt AC": "V", "Amp DC": "A", "Amp AC": "A", "Watt DC": "W", "Farad": "F", "Hertz": "Hz",
    "Second": "s", "Celsius": "degC", "Kelvin": "K", "Fahrenheit": "degF",
}  # fmt: skip
"""Of units, for readings that are shown with them; unverified but for the first."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reading."""

    reading: float
    unit: str
    """As the element UNIT spells it."""
    time: float
    """Seconds since power-up."""
    status: int = 0
    channel: int = 0
    source: float = 0.0
    source_unit: str = ""
    source_status: int = 0


class Buffers:
    """The buffers by name, and their part of the table of headers."""

    def __init__(self, elements: Sequence[str], largest: int) -> None:
        """`elements`: what a reading consists of besides `ELEMENTS`; `largest`: readings of a buffer."""
        self.element = Choice((*ELEMENTS, *elements))
        self.values: dict[str, object] = {}
        self._largest = largest
        self._rows: dict[str, deque[Row]] = {}
        self.blocks = Blocks()
        self.reset()

    def reset(self) -> None:
        self._rows = {name: deque(maxlen=CAPACITY) for name in ("defbuffer1", "defbuffer2")}
        self.values |= {"format": "ASC", "precision": 0, "order": "SWAP"}

    def append(self, name: str, row: Row) -> None:
        self.of(name).append(row)

    def clear(self, name: str = "defbuffer1") -> None:
        self.of(name).clear()

    def of(self, name: str) -> deque[Row]:
        """The buffer of that name. Raises `ScpiError`."""
        if name not in self._rows:
            raise ScpiError(-224)
        return self._rows[name]

    def filled(self, name: str) -> deque[Row]:
        """The same, if it has readings."""
        if not self.of(name):
            raise ScpiError(-230)
        return self._rows[name]

    def latest(self, name: str = "defbuffer1", *elements: str) -> str:
        """The last reading as an answer (``:FETCh?``)."""
        rows = self.filled(name)
        return self._show(rows, [rows[-1]], elements)

    def make(self, name: str, size: int) -> None:
        """A buffer of that name, empty; one that is there is lost."""
        self._rows[name] = deque(maxlen=max(size, 10) if size else CAPACITY)

    def delete(self, name: str) -> None:
        self.of(name)
        if not name.startswith("defbuffer"):
            del self._rows[name]

    # ------------------------------------------------------------------ the table of headers

    def table(self) -> Iterator[Entry]:
        v, index = self.values, Numeric(1, self._largest, whole=True)
        yield setting(":FORMat[:DATA]", "format", Choice(("ASCii", "REAL", "SREal"), "ASC"), v)
        yield setting(":FORMat:ASCii:PRECision", "precision", Numeric(0, 16, 0, whole=True), v)
        yield setting(":FORMat:BORDer", "order", Choice(("NORMal", "SWAPped"), "SWAP"), v)
        optional = {"takes": (BUFFER,), "optional": 1}
        size = Numeric(0, self._largest, whole=True)  # 0: as large as there is memory (PyMeasure)
        yield Entry(
            ":TRACe:MAKE", lambda name, points, *_: self.make(name, int(points)),
            takes=(BUFFER, size, Choice(("STANdard", "COMPact", "FULL", "WRITable"))), optional=1,
        )  # fmt: skip
        yield Entry(":TRACe:DELete", self.delete, takes=(BUFFER,))
        yield Entry(":TRACe:CLEar", self.clear, **optional)  # type: ignore[arg-type]
        yield Entry(
            ":TRACe:POINts", lambda points, name="defbuffer1": self._resize(name, int(points)),
            lambda name="defbuffer1": str(self.of(name).maxlen), (size, BUFFER), (BUFFER,), 1,
        )  # fmt: skip
        for header in (":TRACe:ACTual", ":TRACe:ACTual:END"):
            yield Entry(header, read=lambda name="defbuffer1": str(len(self.of(name))), asks=(BUFFER,))
        yield Entry(
            ":TRACe:ACTual:STARt", read=lambda name="defbuffer1": str(min(1, len(self.of(name)))), asks=(BUFFER,)
        )
        yield Entry(":TRACe:DATA", read=self._data, asks=(index, index, BUFFER), rest=self.element, asks_at_least=2)
        fill = setting(":TRACe:FILL:MODE", "fill", Choice(("CONTinuous", "ONCE"), "CONT"), v)
        yield Entry(  # of the buffer named, here of all
            fill.header, lambda mode, *_: v.update(fill=mode), lambda *_: str(v["fill"]), (*fill.takes, BUFFER),
            (BUFFER,), 1,
        )  # fmt: skip
        yield setting(":TRACe:LOG:STATe", "log", Boolean(True), v)
        statistics: Mapping[str, Callable[[Any], float]] = {
            "AVERage": fmean, "MAXimum": max, "MINimum": min, "STDDev": pstdev, "PK2Pk": lambda x: max(x) - min(x),
        }  # fmt: skip
        for name, of in statistics.items():
            yield Entry(
                f":TRACe:STATistics:{name}", asks=(BUFFER,),
                read=lambda which="defbuffer1", of=of: number(of([row.reading for row in self.filled(which)])),
            )  # fmt: skip
        yield Entry(":TRACe:STATistics:CLEar", lambda *_: None, **optional)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ private

    def _data(self, first: float, last: float, name: str = "defbuffer1", *elements: str) -> str:
        rows = list(self.filled(name))
        if not 1 <= first <= last <= len(rows):
            raise ScpiError(-222)
        return self._show(rows, rows[int(first) - 1 : int(last)], elements)

    def _resize(self, name: str, size: int) -> None:
        self.of(name)
        self.make(name, size)

    def _show(self, kept: Sequence[Row], rows: Iterable[Row], elements: Sequence[str]) -> str:
        """Rows of a buffer as an answer; in a binary format a mark that `blocks` replaces."""
        chosen, begun = elements or ("READ",), kept[0].time
        if self.values["format"] == "ASC":
            return ",".join(_shown(row, begun, element) for row in rows for element in chosen)
        if not set(chosen) <= {"READ", "REL", "EXTR", "SOUR"}:
            raise ScpiError(1133, "Parameter 4, Syntax error, expected valid name parameters")
        numbers = [
            {"READ": row.reading, "REL": row.time - begun, "EXTR": 0.0, "SOUR": row.source}[element]
            for row in rows
            for element in chosen
        ]
        return self.blocks.floats(numbers, double=self.values["format"] == "REAL", big=self.values["order"] == "NORM")


def number(value: float) -> str:
    """A reading as the instrument prints it: ``1.234567E-03``."""
    return f"{value:.6E}"


def with_unit(value: float, unit: str) -> str:
    """A reading as it is shown to people."""
    return f"{value:.6g} {SIGNS.get(unit, unit)}"


def timestamp(seconds: float) -> str:
    """The time `seconds` after power-up: ``03/01/2018 14:46:07.714614838``."""
    return f"{START + timedelta(seconds=int(seconds)):%m/%d/%Y %H:%M:%S}{f'{seconds % 1:.9f}'[1:]}"


def _shown(row: Row, begun: float, element: str) -> str:
    when = START + timedelta(seconds=int(row.time))
    match element:
        case "READ":
            return number(row.reading)
        case "FORM":
            return with_unit(row.reading, row.unit)
        case "REL":
            return f"{row.time - begun:.9f}"
        case "SEC":
            return f"{int(when.timestamp())}"
        case "FRAC":
            return f"{row.time % 1:.9f}"
        case "DATE":
            return f"{when:%m/%d/%Y}"
        case "TIME":
            return f"{when:%H:%M:%S}"
        case "TST":
            return timestamp(row.time)
        case "CHAN":
            return str(row.channel)
        case "UNIT":
            return row.unit
        case "STAT":
            return str(row.status)
        case "SOUR":
            return number(row.source)
        case "SOURFORM":
            return with_unit(row.source, row.source_unit)
        case "SOURSTAT":
            return str(row.source_status)
        case "SOURUNIT":
            return row.source_unit
        case _:
            return "0"
