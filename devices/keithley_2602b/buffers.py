"""Reading buffers of the emulated 2602B: where readings go, with times, source values and states.

Source: 2600BS-901-01, ``bufferVar.*`` and ``smuX.makebuffer()``; status bits: Rev. C, p. 7-34.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hal.protocols.lua_values import Table, silent, tonumber
from hal.protocols.tsp import Bounds, Tsp, TspError

DEDICATED = 140_000
"""Readings that nvbuffer1 and nvbuffer2 hold (``bufferVar.capacity``: "over")."""
FILL_ONCE, FILL_WINDOW = 0, 1


@dataclass(frozen=True, slots=True)
class Row:
    """One reading and what is kept with it."""

    reading: float
    time: float
    """Seconds of the instrument's own clock."""
    source: float
    status: int
    function: str
    range: float
    source_function: str
    source_range: float
    output: bool


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "readings": lambda row: row.reading, "sourcevalues": lambda row: row.source,
    "statuses": lambda row: float(row.status), "measurefunctions": lambda row: row.function,
    "measureranges": lambda row: row.range, "sourcefunctions": lambda row: row.source_function,
    "sourceranges": lambda row: row.source_range, "sourceoutputstates": lambda row: "On" if row.output else "Off",
}  # fmt: skip
"""Recall attributes but for timestamps, which count from the first reading."""


class Buffer:
    """A reading buffer; `table` is what scripts see of it."""

    def __init__(self, tsp: Tsp, capacity: int, epoch: float) -> None:
        """`epoch`: seconds since 1970 when the instrument's clock was 0."""
        self.capacity, self.epoch = capacity, epoch
        self.rows: list[Row] = []
        self.values: dict[str, float] = {
            "appendmode": 0.0, "cachemode": 1.0, "collectsourcevalues": 0.0, "collecttimestamps": 1.0, "fillcount": 0.0,
            "fillmode": float(FILL_ONCE), "timestampresolution": 1e-6,
        }  # fmt: skip
        self.next = 0
        """Where the next reading goes in window mode."""
        getters: dict[str, Callable[[], Any]] = {name: partial(self.values.__getitem__, name) for name in self.values}
        getters |= {
            "n": lambda: len(self.rows), "capacity": lambda: self.capacity, "next": lambda: self.next + 1,
            "basetimestamp": lambda: self.epoch + self.rows[0].time if self.rows else 0.0,
        }  # fmt: skip
        columns = {name: self._column(tsp, column) for name, column in COLUMNS.items()}
        columns["sourcevalues"] = self._column(tsp, COLUMNS["sourcevalues"], "collectsourcevalues")
        columns["timestamps"] = self._column(tsp, self._elapsed, "collecttimestamps")
        self.table = tsp.attributes(
            "reading_buffer",
            getters=getters,
            setters={name: self._setter(name) for name in self.values},
            objects={
                "clear": silent(lambda *_: self.clear()), "clearcache": silent(lambda *_: None), **columns,
            },
            at=lambda n: self._at(n, COLUMNS["readings"]),
        )  # fmt: skip

    def clear(self) -> None:
        self.rows.clear()
        self.next = 0

    def begin(self) -> None:
        """A new measurement is about to be stored: it replaces what is there, unless it is to be appended."""
        if not self.values["appendmode"]:
            self.clear()

    def store(self, row: Row) -> None:
        """Keep a reading, as far as there is room."""
        window = self.values["fillmode"] == FILL_WINDOW
        room = min(int(self.values["fillcount"]) or self.capacity, self.capacity) if window else self.capacity
        if len(self.rows) < room:
            self.rows.append(row)
        elif window:
            self.rows[self.next % room] = row
        self.next = (self.next + 1) % room

    def _elapsed(self, row: Row) -> float:
        resolution = self.values["timestampresolution"]
        return round((row.time - self.rows[0].time) / resolution) * resolution

    def _at(self, n: float, column: Callable[[Row], Any]) -> Any:
        return column(self.rows[int(n) - 1]) if 1 <= n <= len(self.rows) else None

    def _column(self, tsp: Tsp, column: Callable[[Row], Any], collected: str = "") -> Table:
        """One recall attribute, empty if `collected` says that it is not kept."""

        def at(n: float) -> Any:
            return self._at(n, column) if not collected or self.values[collected] else None

        def get(n: Any = None, *_: Any) -> Any:
            found = at(tonumber(n) or 0.0)
            if found is None:
                raise TspError(5038, "Index exceeds maximum reading")
            return found

        return tsp.attributes(
            "synchronous_table",
            getters={"n": lambda: len(self.rows)},
            objects={"getreading": get},
            at=at,
        )

    def _setter(self, name: str) -> Callable[[Any], None]:
        bounds = {
            "fillcount": Bounds(0, self.capacity), "timestampresolution": Bounds(1e-6, 1e3),
        }.get(name, Bounds(allowed=(0.0, 1.0)))  # fmt: skip

        def put(value: Any) -> None:
            number = bounds.checked(float(value) if isinstance(value, bool) else value)
            if self.rows and name not in ("cachemode", "fillmode", "fillcount") and number != self.values[name]:
                raise TspError(5032, "Cannot change this setting unless buffer is cleared")
            self.values[name] = number

        return put
