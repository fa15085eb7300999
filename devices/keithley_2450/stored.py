"""What an emulated Keithley 2450 keeps besides source and readings: configuration lists, display, mathematics, lines.

Headers from the Reference Manual, 2450-901-01 Rev. B, chapter 6, and Keithley's public examples in Python.
Mathematics, limit tests and digital lines only answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from devices.keithley_triggers import BLOCKS, TriggerModel
from hal.protocols.scpi import Entry, setting
from hal.protocols.scpi_parameters import Boolean, Choice, Kind, Numeric, ScpiError, Text

NAME = Text()
INDEX = Numeric(1, 300_000, whole=True)
SCREENS = (
    "HOME", "HOME_LARGe_reading", "READing_table", "GRAPh", "HISTogram", "PROCessing", "SWIPE_FUNCtions", "SWIPE_GRAPh",
    "SWIPE_SECondary", "SWIPE_SETTings", "SWIPE_SOURce", "SWIPE_STATistics", "SWIPE_USER", "SWIPE_PLOT",
)  # fmt: skip


class Lists:
    """Configuration lists: settings of source or measurement by name and index (p. 6-45, 6-60)."""

    def __init__(self, values: dict[str, Any], changed: Callable[[], None]) -> None:
        self._values, self._changed = values, changed
        self._lists: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._at: dict[tuple[str, str], int] = {}

    def reset(self) -> None:
        self._lists.clear()
        self._at.clear()

    def table(self, triggers: TriggerModel) -> Iterator[Entry]:
        for kind in ("SOURce[1]", "SENSe[1]"):
            root, key = f":{kind}:CONFiguration:LIST", kind[:4]
            place = {"takes": (NAME, INDEX), "optional": 1}
            yield Entry(f"{root}:CREate", lambda name, key=key: self._create(key, name), takes=(NAME,))
            yield Entry(f"{root}:DELete", lambda name, *_, key=key: self._delete(key, name), **place)  # type: ignore[arg-type]
            yield Entry(f"{root}:STORe", lambda name, n=0.0, key=key: self._store(key, name, int(n)), **place)  # type: ignore[arg-type]
            yield Entry(f"{root}:RECall", lambda name, n=1.0, key=key: self._recall(key, name, int(n)), **place)  # type: ignore[arg-type]
            yield Entry(
                f"{root}:SIZE", read=lambda name, key=key: str(len(self._list(key, name))), asks=(NAME,),
                asks_at_least=1,
            )  # fmt: skip
            yield Entry(
                f"{root}:CATalog", read=lambda key=key: ",".join(f'"{name}"' for of, name in self._lists if of == key)
            )
        block, root = Numeric(1, BLOCKS, whole=True), ":TRIGger:BLOCk"
        yield Entry(
            f"{root}:SOURce:STATe", lambda n, on: triggers.put(n, "do", lambda: self._switch(on)),
            takes=(block, Boolean()),
        )  # fmt: skip
        for name, step in (("NEXT", 1), ("PREVious", -1)):
            yield Entry(
                f"{root}:CONFig:{name}",
                lambda n, *lists, step=step: triggers.put(n, "do", lambda: self._move(lists, step)),
                takes=(block, NAME), rest=NAME,
            )  # fmt: skip
        yield Entry(
            f"{root}:CONFig:RECall",
            lambda n, which, at=1.0, *_: triggers.put(n, "do", lambda: self._go(which, int(at))),
            takes=(block, NAME, INDEX), optional=1, rest=Text(bare=True),
        )  # fmt: skip

    # ------------------------------------------------------------------ private

    def _create(self, kind: str, name: str) -> None:
        self._lists[kind, name] = []

    def _delete(self, kind: str, name: str) -> None:
        self._list(kind, name)
        del self._lists[kind, name]

    def _list(self, kind: str, name: str) -> list[dict[str, Any]]:
        if (kind, name) not in self._lists:
            raise ScpiError(-224)
        return self._lists[kind, name]

    def _store(self, kind: str, name: str, index: int) -> None:
        """The present settings, at the end or in a place."""
        kept = {key: value for key, value in self._values.items() if _belongs(key) == kind}
        found = self._list(kind, name)
        if not index or index > len(found):
            found.append(kept)
        else:
            found[index - 1] = kept

    def _recall(self, kind: str, name: str, index: int) -> None:
        found = self._list(kind, name)
        if not 1 <= index <= len(found):
            raise ScpiError(-222)
        self._values |= found[index - 1]
        self._at[kind, name] = index
        self._changed()

    def _go(self, name: str, index: int) -> None:
        """In a trigger model only the name says which kind it is."""
        self._recall(self._kind(name), name, index)

    def _move(self, names: Sequence[str], step: int) -> None:
        for name in names:
            kind = self._kind(name)
            size = max(1, len(self._list(kind, name)))
            self._recall(kind, name, (self._at.get((kind, name), 0) - 1 + step) % size + 1)

    def _kind(self, name: str) -> str:
        found = next((kind for kind, known in self._lists if known == name), "")
        if not found:
            raise ScpiError(-224)
        return found

    def _switch(self, on: bool) -> None:
        self._values["outp"] = on
        self._changed()


def _belongs(key: str) -> str:
    """Whether a setting is the source's (SOUR) or the measurement's (SENS); neither: nothing."""
    source = ("func", "level", "limit VOLT", "limit CURR", "source ", "delay", "user delay", "readback", "high cap")
    sense = ("sense", "nplc", "range", "autorange", "autozero", "four-wire", "filter", "relative", "unit", "count")
    if key.startswith(sense):
        return "SENS"
    return "SOUR" if key.startswith(source) else ""


def table(
    values: dict[str, Any], functions: Sequence[tuple[str, str]], acquire: Callable[[str], float]
) -> Iterator[Entry]:
    """Entries; `functions`: short form and header of each; `acquire`: measure a relative offset."""

    def keep(header: str, key: str, kind: Kind) -> Entry:
        return setting(header, key, kind, values)

    for f, name in functions:
        yield from _of_function(f, name, keep)
        yield Entry(f"[:SENSe[1]]:{name}:RELative:ACQuire", lambda f=f: values.update({f"relative {f}": acquire(f)}))
    yield keep("[:SENSe[1]]:RESistance:OCOMpensated", "ohms compensation", Boolean())
    yield Entry(":DISPlay:SCReen", lambda _: None, takes=(Choice(SCREENS),))
    yield Entry(":DISPlay:CLEar", write=lambda: None)
    yield Entry(":DISPlay:USER#:TEXT[:DATA]", lambda _n, _text: None, takes=(NAME,))
    yield keep(":DISPlay:LIGHt:STATe", "light", Choice(("ON100", "ON75", "ON50", "ON25", "OFF", "BLACkout"), "ON50"))
    yield keep(":DISPlay:READing:FORMat", "reading format", Choice(("EXPonent", "PREFix"), "PREF"))
    use = Choice(("IN", "OUT", "OPENdrain", "MASTer", "ACCeptor"))
    for n in range(1, 7):
        yield Entry(
            f":DIGital:LINE{n}:MODE", lambda *mode, n=n: values.update({f"line {n}": ",".join(mode)}),
            lambda n=n: str(values.setdefault(f"line {n}", "DIG,IN")),
            (Choice(("DIGital", "TRIGger", "SYNChronous")),), rest=use,
        )  # fmt: skip
        yield keep(f":DIGital:LINE{n}:STATe", f"line state {n}", Boolean(True))
    yield keep(":DIGital:WRITe", "lines", Numeric(0, 63, 63, whole=True))
    yield Entry(":DIGital:READ", read=lambda: "63")
    yield keep(":SYSTem:ACCess", "access", Choice(("FULL", "EXCLusive", "PROTected", "LOCKout"), "FULL"))
    yield keep(":SYSTem:POSetup", "power-on", Choice(("RST", "SAV0", "SAV1", "SAV2", "SAV3", "SAV4"), "RST"))
    yield keep(":SYSTem:GPIB:ADDRess", "gpib", Numeric(0, 30, 18, whole=True))
    yield Entry(":SYSTem:COMMunication:LAN:CONFigure", read=lambda: '"AUTO,192.168.0.10,255.255.255.0,192.168.0.1"')


def _of_function(f: str, name: str, keep: Callable[[str, str, Kind], Entry]) -> Iterator[Entry]:
    """What each of voltage, current and resistance has."""
    root, bound = f"[:SENSe[1]]:{name}", {"VOLT": 210.0, "CURR": 1.05, "RES": 210e6}[f]
    yield keep(f"{root}:RELative", f"relative {f}", Numeric(-bound, bound, 0.0))
    yield keep(f"{root}:RELative:STATe", f"relative on {f}", Boolean())
    unit = {"VOLT": "VOLT", "CURR": "AMP", "RES": "OHM"}[f]
    yield keep(f"{root}:UNIT", f"unit {f}", Choice(("OHM", "WATT", "AMP", "VOLT"), unit))
    for side, default in (("LLIMit", 0.0), ("ULIMit", bound)):
        yield keep(f"{root}:RANGe:AUTO:{side}", f"range {side} {f}", Numeric(0, bound, default))
    yield keep(f"{root}:RANGe:AUTO:REBound", f"range rebound {f}", Boolean())
    yield keep(f"{root}:AVERage:WINDow", f"filter window {f}", Numeric(0, 10, 0, form="{:.6g}"))
    yield keep(f":DISPlay:{name}:DIGits", f"digits {f}", Numeric(3, 6, 5, whole=True))
    math = f":CALCulate[1]:{name}:MATH"
    yield keep(f"{math}:STATe", f"math {f}", Boolean())
    yield keep(f"{math}:FORMat", f"math form {f}", Choice(("MXB", "PERCent", "RECiprocal"), "PERC"))
    for tail, default in (("MMFactor", 1.0), ("MBFactor", 0.0), ("PERCent", 1.0)):
        yield keep(f"{math}:{tail}", f"math {tail} {f}", Numeric(-1e12, 1e12, default))
    for n in (1, 2):
        limit, key = f":CALCulate2:{name}:LIMit{n}", f"test {n} {f}"
        yield keep(f"{limit}:STATe", key, Boolean())
        for side, default in (("UPPer", 1.0), ("LOWer", -1.0)):
            yield keep(f"{limit}:{side}[:DATA]", f"{key} {side}", Numeric(-1e12, 1e12, default))
        yield keep(f"{limit}:AUDible", f"{key} sound", Choice(("FAIL", "PASS", "NONE"), "NONE"))
        yield keep(f"{limit}:CLEar:AUTO", f"{key} clear", Boolean(True))
        yield Entry(f"{limit}:CLEar[:IMMediate]", write=lambda: None)
        yield Entry(f"{limit}:FAIL", read=lambda: "NONE")
