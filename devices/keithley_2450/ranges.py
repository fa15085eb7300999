"""Ranges of an emulated Keithley 2450: which there are, which one is in use, and what one that is fixed forbids.

Source: the descriptions of ``smu.source.range``, ``smu.source.level`` and ``smu.measure.range`` (as of
devices.keithley_tsp). Unverified: codes of refusals; that a source reaches 5 % beyond its range also says the data
sheet 1KW-60904.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hal.protocols.scpi import Entry, setting
from hal.protocols.scpi_parameters import Boolean, Numeric, ScpiError, Steps

from . import codec

REACH = 1.05
RANGES = {
    "VOLT": (0.02, 0.2, 2.0, 20.0, 200.0),
    "CURR": (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0),
    "RES": (20.0, 200.0, 2e3, 2e4, 2e5, 2e6, 2e7, 2e8),
}
TOP = {"VOLT": codec.VOLTAGE, "CURR": codec.CURRENT, "RES": 210e6}
FIRST = {"VOLT": 0.02, "CURR": 1e-4, "RES": 2e5}
"""For measuring, as it wakes up."""
UNIT = {"VOLT": "V", "CURR": "A", "RES": "OHM"}


class Ranges:
    """The ranges of source and measurement, and their part of the table of headers."""

    def __init__(self, values: dict[str, Any], present: Callable[[str], float]) -> None:
        """`present`: what the contacts show of a function at present."""
        self._values, self._present = values, present

    def source(self, f: str) -> float:
        """The source range in use."""
        v = self._values
        return _fitting(f, v[f"level {f}"]) if v[f"source autorange {f}"] else float(v[f"source range {f}"])

    def measure(self, f: str) -> float:
        """The measurement range in use."""
        v = self._values
        if f == v["func"]:
            return self.source(f)
        return _fitting(f, self._present(f)) if v[f"autorange {f}"] and v["outp"] else float(v[f"range {f}"])

    def of_source(self, f: str, name: str) -> Iterator[Entry]:
        """Level and range of what is sourced."""
        v, root = self._values, f":SOURce[1]:{name}"
        level = setting(
            f"{root}[:LEVel][:IMMediate][:AMPLitude]", f"level {f}", Numeric(-TOP[f], TOP[f], 0.0, UNIT[f]), v
        )

        def put_level(value: float) -> None:
            if not v[f"source autorange {f}"] and abs(value) > REACH * v[f"source range {f}"]:
                raise ScpiError(-222)
            v[f"level {f}"] = value

        def put_range(value: float) -> None:
            if abs(v[f"level {f}"]) > REACH * value:
                raise ScpiError(-221)
            v.update({f"source range {f}": value, f"source autorange {f}": False})

        yield Entry(level.header, put_level, level.read, level.takes, level.asks)
        yield self._range(f"{root}:RANGe", f"source range {f}", f, RANGES[f][0], put_range, self.source)
        yield setting(f"{root}:RANGe:AUTO", f"source autorange {f}", Boolean(True), v)

    def of_measurement(self, f: str, name: str) -> Iterator[Entry]:
        """Range of what is measured."""

        def put(value: float) -> None:
            self._values.update({f"range {f}": value, f"autorange {f}": False})

        root = f"[:SENSe[1]]:{name}:RANGe"
        yield self._range(f"{root}[:UPPer]", f"range {f}", f, FIRST[f], put, self.measure)
        yield setting(f"{root}:AUTO", f"autorange {f}", Boolean(True), self._values)

    def _range(
        self, header: str, key: str, f: str, first: float, put: Callable[[float], None], used: Callable[[str], float]
    ) -> Entry:
        kind = Steps(-TOP[f], TOP[f], first, UNIT[f], of=RANGES[f])
        plain = setting(header, key, kind, self._values)

        def read(*bounds: str) -> str:
            return plain.read(*bounds) if bounds and plain.read else kind.show(used(f))

        return Entry(header, put, read, plain.takes, plain.asks)


def _fitting(f: str, value: float) -> float:
    """The lowest range that takes a value."""
    return next((extent for extent in RANGES[f] if abs(value) <= REACH * extent), RANGES[f][-1])
