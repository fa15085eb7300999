"""Reading buffers of an emulated multimeter (`:TRACe`) and the form in which it sends readings (`:FORMat`).

As in the 2450's Reference Manual, 2450-901-01 Rev. B, pp. 6-6, 6-7 and 6-130 on, of which the elements of a
source are left out and those of a scan (CHANnel) are added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean, pstdev

from hal.protocols.scpi import Blocks, Boolean, Choice, Entry, Numeric, ScpiError, Text, setting

from . import codec

START = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
"""What its clock says when it is switched on."""
ELEMENTS = (
    "CHANnel", "DATE", "EXTRa", "FORMatted", "FRACtional", "READing", "RELative", "SEConds", "STATus", "TIME",
    "TSTamp", "UNIT",
)  # fmt: skip
CAPACITY = 100_000
LARGEST = 7_000_000  # readings of a standard buffer (data sheet)
BUFFER, INDEX = Text(bare=True), Numeric(1, LARGEST, whole=True)
ELEMENT = Choice(ELEMENTS)


@dataclass(frozen=True, slots=True)
class Row:
    """One reading."""

    reading: float
    unit: str
    time: float
    """Seconds since power-up."""
    channel: int = 0


class Buffers:
    """The buffers by name, and their part of the table of headers."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
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

    def show(self, rows: Iterable[Row], elements: Sequence[str]) -> str:
        """Rows as an answer; in a binary format a mark that `blocks` replaces."""
        chosen = elements or ("READ",)
        if self.values["format"] == "ASC":
            return ",".join(self._shown(row, element) for row in rows for element in chosen)
        if not set(chosen) <= {"READ", "REL", "EXTR"}:
            raise ScpiError(1133, "Parameter 4, Syntax error, expected valid name parameters")
        numbers = [{"READ": row.reading, "REL": row.time, "EXTR": 0.0}[element] for row in rows for element in chosen]
        return self.blocks.floats(numbers, double=self.values["format"] == "REAL", big=self.values["order"] == "NORM")

    # ------------------------------------------------------------------ the table of headers

    def table(self) -> Iterator[Entry]:
        v = self.values
        yield setting(":FORMat[:DATA]", "format", Choice(("ASCii", "REAL", "SREal"), "ASC"), v)
        yield setting(":FORMat:ASCii:PRECision", "precision", Numeric(0, 16, 0, whole=True), v)
        yield setting(":FORMat:BORDer", "order", Choice(("NORMal", "SWAPped"), "SWAP"), v)
        optional = {"takes": (BUFFER,), "optional": 1}
        size = Numeric(0, LARGEST, whole=True)  # 0: as large as there is memory (PyMeasure)
        yield Entry(
            ":TRACe:MAKE", lambda name, points, *_: self._make(name, int(points)),
            takes=(BUFFER, size, Choice(("STANdard", "COMPact", "FULL", "WRITable"))), optional=1,
        )  # fmt: skip
        yield Entry(":TRACe:DELete", self._delete, takes=(BUFFER,))
        yield Entry(":TRACe:CLEar", self.clear, **optional)  # type: ignore[arg-type]
        yield Entry(
            ":TRACe:POINts", lambda points, name="defbuffer1": self._resize(name, int(points)),
            lambda name="defbuffer1": str(self.of(name).maxlen), (size, BUFFER), (BUFFER,), 1,
        )  # fmt: skip
        yield Entry(":TRACe:ACTual", read=lambda name="defbuffer1": str(len(self.of(name))), asks=(BUFFER,))
        yield Entry(
            ":TRACe:ACTual:STARt", read=lambda name="defbuffer1": str(min(1, len(self.of(name)))), asks=(BUFFER,)
        )
        yield Entry(":TRACe:ACTual:END", read=lambda name="defbuffer1": str(len(self.of(name))), asks=(BUFFER,))
        yield Entry(":TRACe:DATA", read=self._data, asks=(INDEX, INDEX, BUFFER), rest=ELEMENT, asks_at_least=2)
        fill = setting(":TRACe:FILL:MODE", "fill", Choice(("CONTinuous", "ONCE"), "CONT"), v)
        yield Entry(  # of the buffer named, here of all
            fill.header,
            lambda mode, *_: v.update(fill=mode),
            lambda *_: str(v["fill"]),
            (*fill.takes, BUFFER),
            (BUFFER,),
            1,
        )
        yield setting(":TRACe:LOG:STATe", "log", Boolean(True), v)
        statistics = {
            "AVERage": fmean, "MAXimum": max, "MINimum": min, "STDDev": pstdev, "PK2Pk": lambda x: max(x) - min(x),
        }  # fmt: skip
        for name, of in statistics.items():
            yield Entry(
                f":TRACe:STATistics:{name}", asks=(BUFFER,),
                read=lambda which="defbuffer1", of=of: codec.number(of([row.reading for row in self.filled(which)])),
            )  # fmt: skip
        yield Entry(":TRACe:STATistics:CLEar", lambda *_: None, **optional)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ private

    def _data(self, first: float, last: float, name: str = "defbuffer1", *elements: str) -> str:
        rows = list(self.filled(name))
        if not 1 <= first <= last <= len(rows):
            raise ScpiError(-222)
        return self.show(rows[int(first) - 1 : int(last)], elements)

    def _make(self, name: str, size: int) -> None:
        if name in self._rows:
            raise ScpiError(-224)
        self._rows[name] = deque(maxlen=max(size, 10) if size else CAPACITY)

    def _resize(self, name: str, size: int) -> None:
        self.of(name)
        self._rows[name] = deque(maxlen=max(size, 10) if size else CAPACITY)

    def _delete(self, name: str) -> None:
        self.of(name)
        if not name.startswith("defbuffer"):
            del self._rows[name]

    def _shown(self, row: Row, element: str) -> str:
        when, fraction = START + timedelta(seconds=int(row.time)), f"{row.time % 1:.9f}"[1:]
        match element:
            case "READ":
                return codec.number(row.reading)
            case "FORM":
                return f"{row.reading:.6g} {row.unit}"
            case "REL":
                return f"{row.time:.9f}"
            case "SEC":
                return f"{int(when.timestamp())}"
            case "FRAC":
                return f"0{fraction}"
            case "DATE":
                return f"{when:%m/%d/%Y}"
            case "TIME":
                return f"{when:%H:%M:%S}"
            case "TST":
                return f"{when:%m/%d/%Y %H:%M:%S}{fraction}"
            case "CHAN":
                return str(row.channel)
            case "UNIT":
                return row.unit
            case _:
                return "0"
