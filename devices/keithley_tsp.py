"""Keithley's 2450 and DMM6500 programmed in TSP: tables of Lua whose entries are headers of their SCPI table.

An attribute (``smu.measure.nplc``) reads and sets what a header does (``:SENSe:CURRent:NPLC``), and so has its
bounds, its default and its effect; what both languages share is written once, in the SCPI table. Constants
(``smu.ON``) are values of their own that print as their names.

Source: the descriptions of the commands by name, from the reference manuals 2450-901-01 and DMM6500-901-01, that
Tektronix publishes for its editor (tsp-toolkit-json-to-lua, commands_2450.json and commands_DMM6500.json).
Unverified: codes of refused values (here those of SCPI), what a constant's ``type()`` is, which constants may be
given as numbers (here all that SCPI spells as one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hal.protocols.lua_values import Native, Table, silent, tonumber
from hal.protocols.scpi import Interpreter
from hal.protocols.scpi_parameters import NAN, ScpiError
from hal.protocols.tsp import TEXTS, Tsp, TspError

ON_OFF = {"OFF": "0", "ON": "1"}
EVENTS = {"EVENT_NONE": "NONE", "EVENT_COMMAND": "COMM", "EVENT_DISPLAY": "DISP", "EVENT_EXTERNAL": "EXT"} | {
    f"EVENT_{name}{n}": f"{word}{n}"
    for name, word in (("TIMER", "TIM"), ("NOTIFY", "NOT"), ("DIGIO", "DIG"), ("LAN", "LAN"), ("BLENDER", "BLEN"))
    for n in range(1, 9)
}
WORDS = ON_OFF | EVENTS | {
    "DELAY_AUTO": "-1", "INFINITE": "0", "RANGE_AUTO": "AUTO", "RANGE_BEST": "BEST", "RANGE_FIXED": "FIX",
    "COUNT_AUTO": "1", "CLEAR_ENTER": "ENT", "CLEAR_NEVER": "NEV",
}  # fmt: skip
"""How SCPI spells a constant among the parameters of a function."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One attribute: the header that does it, and the constants that it takes."""

    header: str
    """With ``{f}`` for the function in use, or the one that is asked about."""
    names: Mapping[str, str] | None = None
    """Constants and how SCPI spells them; None: a number."""
    attribute: str = ""
    """Its name for ``getattribute`` and ``setattribute``, without ``ATTR_``."""
    writable: bool = True


class TspFront:
    """The instrument as it speaks TSP: its Lua, and the way from there to its SCPI table."""

    def __init__(self, scpi: Interpreter) -> None:
        self.vendor, model, serial, revision = scpi.identity.split(",")
        self._scpi = scpi
        self.tsp = Tsp(model.split()[-1], serial, revision, identity=scpi.identity, beyond=NAN, extended=True)
        self.tsp.format.asciiprecision = 0  # as many digits as there are
        self.buffers: dict[Table, str] = {}
        """Names of the reading buffers by the values that stand for them."""
        self._constants: dict[str, Table] = {}

    def add(self, tables: Mapping[str, Any]) -> None:
        """Make global variables."""
        for name, table in tables.items():
            self.tsp.machine.globals.set(name, table)

    # ------------------------------------------------------------------ constants and parameters

    def constant(self, name: str) -> Table:
        """The constant of that name, as ``smu.ON``: one object, which prints as its name."""
        if name not in self._constants:
            made, show = Table(), self.tsp.machine.show
            made.meta = Table({
                "__tostring": Native("tostring", lambda *_: name),
                "__concat": Native("concat", lambda a=None, b=None, *_: show(a) + show(b)),
            })  # fmt: skip
            self._constants[name] = made
        return self._constants[name]

    def constants(self, root: str, names: Sequence[str]) -> dict[str, Table]:
        """Those of a table, by short name."""
        return {name: self.constant(f"{root}.{name}") for name in names}

    def short(self, value: Any) -> str:
        """A constant's name without its table's; empty if it is none."""
        full = self.tsp.machine.show(value) if isinstance(value, Table) else ""
        return full.rpartition(".")[2] if full in self._constants else ""

    def words(self, values: Sequence[Any]) -> str:
        """Values as parameters of SCPI, those at the end that are nil left out. Raises `TspError`."""
        given = list(values)
        while given and given[-1] is None:
            given.pop()
        return ",".join(self._word(value) for value in given)

    def _word(self, value: Any) -> str:
        if isinstance(value, Table):
            if value in self.buffers:
                return f'"{self.buffers[value]}"'
            if (name := self.short(value)) in WORDS:
                return WORDS[name]
        number = tonumber(value)
        if number is not None and math.isfinite(number):
            return repr(number)
        if isinstance(value, str) and '"' not in value:
            return f'"{value}"'
        raise TspError(-104)

    # ------------------------------------------------------------------ SCPI

    def perform(self, text: str) -> str:
        """Run one unit of SCPI. Raises `TspError`."""
        try:
            return self._scpi.perform(text) or ""
        except ScpiError as error:
            # An attribute that this function does not have is there all the same (which code: unverified).
            code = -221 if error.code == -113 else error.code
            raise TspError(code, TEXTS.get(code, error.text if code == error.code else "Settings conflict")) from None

    def function(self, header: str) -> Callable[..., Any]:
        """A function whose parameters are those of a header; it returns what a question (``?``) answers."""

        def call(*arguments: Any) -> Any:
            reply = self.perform(f"{header} {self.words(arguments)}".rstrip())
            return _value(reply) if header.endswith("?") else ()

        return call

    def read(self, root: str, setting: Setting, function: str, where: str = "") -> Any:
        """An attribute's value, of the first of these channels if any are given. Raises `TspError`."""
        text = self.perform(f"{_header(setting, function)}? {where}".rstrip())
        text = text.split(",")[0] if where else text
        name = next((name for name, word in (setting.names or {}).items() if word == text.strip('"')), None)
        return _value(text) if name is None else self.constant(f"{root}.{name}")

    def write(self, setting: Setting, function: str, value: Any, where: str = "") -> None:
        """Set an attribute, of these channels if any are given. Raises `TspError`."""
        if setting.names is None:
            text: str | None = self._word(value)
        elif type(value) is float:
            text = f"{value:g}" if f"{value:g}" in setting.names.values() else None
        else:
            text = setting.names.get(self.short(value))
        if text is None:
            raise TspError(-104)
        self.perform(",".join(filter(None, (f"{_header(setting, function)} {text}", where))))

    # ------------------------------------------------------------------ tables

    def branch(
        self, root: str, settings: Mapping[str, Setting], function: Callable[[], str] = str,
        extras: Mapping[str, Any] | None = None,
    ) -> Table:  # fmt: skip
        """A table of attributes by path (``limit[1].enable``), with `root`'s constants; `extras` as for `grown`."""

        def pair(setting: Setting) -> tuple[Callable[[], Any], Callable[[Any], None] | None]:
            put = (lambda value: self.write(setting, function(), value)) if setting.writable else None
            return lambda: self.read(root, setting, function()), put

        return self.grown({path: pair(setting) for path, setting in settings.items()} | dict(extras or {}))

    def attribute_functions(
        self, root: str, settings: Sequence[Setting], functions: Mapping[str, str]
    ) -> dict[str, Callable[..., Any]]:
        """``getattribute`` and ``setattribute``; `functions`: constants of functions and how headers spell them."""
        by_name = {f"ATTR_{s.attribute}": s for s in settings if s.attribute}

        def found(function: Any, attribute: Any) -> tuple[Setting, str]:
            word, name = self.short(function), self.short(attribute)
            if word not in functions or name not in by_name:
                raise TspError(-104)
            return by_name[name], functions[word]

        def get(function: Any = None, attribute: Any = None, *_: Any) -> Any:
            return self.read(root, *found(function, attribute))

        def put(function: Any = None, attribute: Any = None, value: Any = None, *_: Any) -> None:
            self.write(*found(function, attribute), value)

        return {"getattribute": get, "setattribute": silent(put)}

    def grown(self, items: Mapping[str, Any]) -> Table:
        """A table by path, out of pairs of getter and setter, functions, tables and values."""
        below: dict[str, dict[str, Any]] = {}
        getters: dict[str, Any] = {}
        setters: dict[Any, Any] = {}
        objects: dict[str, Any] = {}
        lists: dict[str, dict[float, Any]] = {}
        for path, item in items.items():
            head, dot, tail = path.partition(".")
            if dot:
                below.setdefault(head, {})[tail] = item
            elif head.endswith("]"):
                lists.setdefault(head[:-3], {})[float(head[-2])] = item
            elif type(item) is tuple:
                getters[head], setters[head] = item
            else:
                objects[head] = item
        for head, inner in below.items():
            if head.endswith("]"):
                lists.setdefault(head[:-3], {})[float(head[-2])] = self.grown(inner)
            else:
                objects[head] = self.grown(inner)
        objects |= {head: self._listed(members) for head, members in lists.items()}
        setters = {name: put for name, put in setters.items() if put is not None}
        return self.tsp.attributes("table", getters=getters, setters=setters, objects=objects)

    def _listed(self, members: Mapping[float, Any]) -> Table:
        """A table by number: of tables, or of attributes."""
        if all(isinstance(member, Table) for member in members.values()):
            return Table(dict(members))
        setters: dict[Any, Any] = {n: put for n, (_, put) in members.items()}
        return self.tsp.attributes("list", setters=setters, at=lambda n: members[n][0]() if n in members else None)


def kept(value: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Getter and setter of something that is only remembered, for `TspFront.grown`."""
    box = [value]
    return lambda: box[0], lambda new: box.__setitem__(0, new)


def expanded(settings: Mapping[str, Setting], numbers: Sequence[int]) -> Iterator[tuple[str, Setting]]:
    """Settings whose path and header have ``{n}`` and attribute ``_Y``, one for each number."""
    for path, setting in settings.items():
        for n in numbers:
            yield path.replace("{n}", str(n)), Setting(
                setting.header.replace("{n}", str(n)), setting.names, setting.attribute.replace("_Y", f"_{n}"),
                setting.writable,
            )  # fmt: skip


def attribute_names(settings: Sequence[Setting]) -> set[str]:
    """All constants that stand for these settings or their values."""
    found = {f"ATTR_{setting.attribute}" for setting in settings if setting.attribute}
    return found | {name for setting in settings for name in setting.names or ()}


def _header(setting: Setting, function: str) -> str:
    """With the function put in; ``{x}``: the letter of what is limited while this one is sourced."""
    return setting.header.format(f=function, x="I" if function == "VOLT" else "V")


def _value(text: str) -> Any:
    """An answer as a value of Lua."""
    number = tonumber(text)
    return text.strip('"') if number is None else number
