"""What an emulated Lake Shore 336 keeps besides its loops: a table of commands whose settings only answer.

Sources: lakeshore 1.10 (the vendor's own package, `model_336` and `temperature_controllers`), D; the same
commands in the 331's manual (chapter 6) and the 340's (chapter 9), M331 and M340. Of a command, parameters
left empty stay as they are (D: ``RELAY 1,1,,``). Formats that neither shows are unverified.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from hal.protocols.scpi import Entry
from hal.protocols.scpi_parameters import Choice, Kind, Numeric, ScpiError, Text

INPUTS = ("A", "B", "C", "D")
CURVES = (1, 59)
USER_CURVES = (21, 59)
POINTS = 200
FLAG = Numeric(0, 1, whole=True)
TEXT = Text(bare=True)


def whole(low: float, high: float) -> Numeric:
    """A whole number within bounds."""
    return Numeric(low, high, whole=True)


def six(value: float) -> str:
    """A number with its sign and six digits: ``+325.000``, ``+1.50000``."""
    digits = floor(log10(abs(value))) + 1 if value else 1
    return f"{value:+.{min(max(6 - max(digits, 1), 0), 5)}f}"


@dataclass(frozen=True, slots=True)
class Six(Numeric):
    """A number that answers with six digits."""

    def show(self, value: float) -> str:
        return six(value)


@dataclass(frozen=True, slots=True)
class Padded:
    """Text of a fixed width."""

    width: int

    def parse(self, text: str) -> str:
        return str(TEXT.parse(text))[: self.width]

    def show(self, value: str) -> str:
        return f"{value:<{self.width}}"


@dataclass(frozen=True, slots=True)
class Digits(Numeric):
    """A whole number with leading zeros."""

    width: int = 2

    def show(self, value: float) -> str:
        return f"{round(value):0{self.width}d}"


class Place:
    """An input by its letter, or by its number (ls336-ioc asks ``RDGST? 1``)."""

    def parse(self, text: str) -> str:
        letter = text.strip("\"'").upper()
        if letter in ("1", "2", "3", "4"):
            letter = INPUTS[int(letter) - 1]
        return Choice(INPUTS).parse(letter)

    def show(self, value: str) -> str:
        return value


class AnyPlace(Place):
    """The same, or 0: all inputs (D: ``KRDG? 0``)."""

    def parse(self, text: str) -> str:
        return "" if text == "0" else super().parse(text)


@dataclass(frozen=True, slots=True)
class Output:
    """An output by its number, or by a letter (ls336-ioc asks ``HTRST? A``)."""

    high: int = 4

    def parse(self, text: str) -> int:
        number = " ABCD".find(text.upper()) if len(text) == 1 and text.isalpha() else -1
        return number if 1 <= number <= self.high else int(whole(1, self.high).parse(text))

    def show(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Blank:
    """A parameter that may be left empty: None."""

    kind: Kind

    def parse(self, text: str) -> Any:
        return self.kind.parse(text) if text else None

    def show(self, value: Any) -> str:
        return self.kind.show(value)


@dataclass(frozen=True, slots=True)
class Kept:
    """A command that sets some values, of one thing or of each of several, and a question that tells them."""

    header: str
    fields: tuple[tuple[Kind, Any], ...]
    of: Kind | None = None


INPUT, MONITOR, LOOP = Place(), Output(), Output(2)
PLACE = Choice(INPUTS)
KEPT = (
    Kept("ALARM", (
        (FLAG, 0), (Six(), 0.0), (Six(), 0.0), (Six(0, 1e6), 0.0), (FLAG, 0), (FLAG, 1), (FLAG, 1),
    ), INPUT),  # D: off/on, high, low, deadband, latch, audible, visible
    Kept("ANALOG", ((whole(0, 8), 1), (whole(1, 3), 1), (Six(), 1000.0), (Six(), 0.0), (FLAG, 0)), MONITOR),
    Kept("BRIGT", ((Digits(0, 32), 28),)),
    Kept("DIOCUR", ((FLAG, 0),), INPUT),  # D: 0 10 uA, 1 1 mA
    Kept("DISPFLD", ((whole(0, 8), 1), (whole(1, 6), 1)), whole(1, 8)),
    Kept("DISPLAY", ((whole(0, 10), 6), (whole(0, 8), 0), (whole(0, 4), 1))),
    Kept("FILTER", ((FLAG, 0), (Digits(2, 64), 8), (Digits(1, 10), 10)), INPUT),
    Kept("HTRSET", (
        (whole(1, 2), 1), (whole(0, 4), 2), (Numeric(0, 2, form="{:+06.3f}"), 0.0), (whole(1, 2), 1),
    ), LOOP),  # D: 25 or 50 ohm, highest current (0: by the user), that of the user, shown as current or power
    Kept("IEEE", ((Digits(1, 30), 12),)),
    Kept("INCRV", ((Digits(0, 59), 2),), INPUT),
    Kept("INNAME", ((Padded(15), ""),), INPUT),
    Kept("INTSEL", ((whole(0, 2), 1),)),  # D: USB, Ethernet, IEEE-488
    Kept("LEDS", ((FLAG, 1),)),
    Kept("LOCK", ((FLAG, 0), (Digits(0, 999, width=3), 123))),
    Kept("MODE", ((whole(0, 2), 0),)),  # D: local, remote, remote with lockout
    Kept("MOUT", ((Numeric(-100, 100, form="{:+08.3f}"), 0.0),), MONITOR),
    Kept("NET", (
        (FLAG, 0), (FLAG, 0), (TEXT, "192.168.0.12"), (TEXT, "255.255.255.0"), (TEXT, "0.0.0.0"), (TEXT, "0.0.0.0"),
        (TEXT, "0.0.0.0"), (Padded(15), "LSCI-336"), (Padded(64), ""), (Padded(32), ""),
    )),  # D: DHCP, automatic, address, mask, gateway, name servers, host, domain, description
    Kept("PID", (
        (Numeric(0.1, 1000, form="{:+07.1f}"), 50.0), (Numeric(0, 1000, form="{:+07.1f}"), 20.0),
        (Numeric(0, 200, form="{:+07.1f}"), 0.0),
    ), MONITOR),
    Kept("RELAY", ((whole(0, 2), 0), (PLACE, "A"), (whole(0, 2), 0)), whole(1, 2)),  # M331: off, on, alarms; low, high
    Kept("TLIMIT", ((Numeric(0, 10000, form="{:+08.3f}"), 0.0),), INPUT),
    Kept("WARMUP", ((FLAG, 0), (Numeric(0, 100, form="{:+07.2f}"), 100.0)), MONITOR),
    Kept("WEBLOG", ((Padded(15), "user"), (Padded(15), "lakeshore"))),
)  # fmt: skip
ZONE = (
    (Six(0, 10000), 0.0), (Numeric(0.1, 1000, form="{:+07.1f}"), 50.0), (Numeric(0, 1000, form="{:+07.1f}"), 20.0),
    (Numeric(0, 200, form="{:+07.1f}"), 0.0), (Numeric(0, 100, form="{:+08.3f}"), 0.0), (whole(0, 3), 0),
    (whole(0, 8), 0), (Numeric(0, 100, form="{:+06.1f}"), 0.1),
)  # fmt: skip
"""D: upper bound (K), P, I, D, manual output, range, input, rate."""
FACTORY = {1: ("DT-470", 475.0), 2: ("DT-670", 500.0), 6: ("PT-100", 800.0), 7: ("PT-1000", 800.0)}
"""Names and highest temperatures of some curves; that of the others, and every point, is left empty."""


class Store:
    """The values of `KEPT`, of zones and of curves, and their part of the table of commands."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, Any], list[Any]] = {}
        self.points: dict[int, dict[int, tuple[float, float]]] = {}
        self.reset()

    def reset(self) -> None:
        """As delivered."""
        self.points = {}
        for kept in KEPT:
            places: Sequence[Any] = {"Place": INPUTS, "Output": range(1, 5)}.get(type(kept.of).__name__, range(1, 9))
            for place in places if kept.of else (None,):
                self.values[kept.header, place] = [value for _, value in kept.fields]
        for place in INPUTS:
            self.values["INNAME", place] = [f"Input {place}"]
        for output in (1, 2):
            for zone in range(1, 11):
                self.values["ZONE", (output, zone)] = [value for _, value in ZONE]
        for number in range(CURVES[0], CURVES[1] + 1):
            name, limit = FACTORY.get(number, (f"User {number}" if number >= USER_CURVES[0] else "", 325.0))
            self.values["CRVHDR", number] = [name, "STANDARD C" if number in FACTORY else "", 2, limit, 1]

    def of(self, header: str, which: Any = None) -> list[Any]:
        """Present values."""
        return self.values[header, which]

    def table(self) -> Iterator[Entry]:
        for kept in KEPT:
            yield self._entry(kept.header, kept.fields, (kept.of,) if kept.of else ())
        yield self._entry("ZONE", ZONE, (LOOP, whole(1, 10)))
        yield from self._curves()

    def _entry(self, header: str, fields: tuple[tuple[Kind, Any], ...], of: tuple[Kind, ...]) -> Entry:
        """Values of what the first parameters name."""
        count = len(of)

        def where(given: tuple[Any, ...]) -> tuple[str, Any]:
            places = tuple(int(place) if isinstance(place, float) else place for place in given[:count])
            return header, (None if not count else places[0] if count == 1 else places)

        def write(*given: Any) -> None:
            values = self.values[where(given)]
            for n, value in enumerate(given[count:]):
                values[n] = values[n] if value is None else value

        def read(*given: Any) -> str:
            return ",".join(
                kind.show(value) for (kind, _), value in zip(fields, self.values[where(given)], strict=True)
            )

        takes = (*of, *(Blank(kind) for kind, _ in fields))
        return Entry(header, write, read, takes, of, optional=len(fields) - 1, asks_at_least=count)

    # ------------------------------------------------------------------ curves

    def _curves(self) -> Iterator[Entry]:
        curve, user, index = whole(*CURVES), whole(*USER_CURVES), whole(1, POINTS)
        fields: tuple[tuple[Kind, Any], ...] = (
            (Padded(15), ""), (Padded(10), ""), (whole(1, 4), 4), (Numeric(0, 10000, form="{:+.3f}"), 325.0),
            (whole(1, 2), 1),
        )  # fmt: skip
        header = self._entry("CRVHDR", fields, (curve,))
        yield Entry("CRVHDR", header.write, header.read, (user, *header.takes[1:]), (curve,), 4, asks_at_least=1)
        yield Entry(
            "CRVPT", self._set_point, self._point, (user, index, Numeric(), Numeric(0), Numeric()), (curve, index), 1,
            asks_at_least=2,
        )  # fmt: skip
        yield Entry("CRVDEL", lambda n: self.points.pop(int(n), None), takes=(user,))
        yield Entry(
            "SCAL", self._soft_calibration, takes=(whole(1, 7), user, Padded(10), Numeric(), Numeric()), rest=Numeric()
        )

    def _set_point(self, curve: float, index: float, units: float, kelvin: float, _curvature: float = 0.0) -> None:
        self.points.setdefault(int(curve), {})[int(index)] = (units, kelvin)

    def _point(self, curve: float, index: float) -> str:
        return ",".join(map(six, self.points.get(int(curve), {}).get(int(index), (0.0, 0.0))))

    def _soft_calibration(self, standard: float, curve: float, serial: str, *points: float) -> None:
        """A curve from one to three points (D: ``SCAL 1,21,SN,4.2,1.62622,...``): here just these points."""
        if standard not in (1, 6, 7) or len(points) % 2:
            raise ScpiError(-222)
        self.values["CRVHDR", int(curve)][:2] = ["SoftCal", serial]
        self.points[int(curve)] = dict(enumerate(zip(points[1::2], points[::2], strict=True), 1))
