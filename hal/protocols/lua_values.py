"""Values of Lua and their errors: tables, functions, what they are called and how they are written. No I/O.

Values are Python's: None, bool, float, str (one character per byte), `Table`, `Closure`, `Native`.

Source: Lua 5.0 Reference Manual, 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from .lua_tree import Function

LONGEST = 1 << 20
"""Characters in a string; more is "not enough memory"."""
BULK = 10
"""Long texts cost steps too, one for 2 to the power of this many characters: memory is bounded by them."""
_numbers = count(0x0041F0A8, 0x48)


class LuaError(Exception):
    """A run-time error: what was raised, and in which line."""

    def __init__(self, value: Any, line: int = 0) -> None:
        super().__init__(value)
        self.value, self.line = value, line

    @property
    def text(self) -> str:
        return self.value if isinstance(self.value, str) else tostring(self.value)


class Exhausted(Exception):
    """A script took more steps than it is given; no script can catch this."""


class Table:
    """A Lua table. Values that are nil are kept until nobody can be in the middle of a traversal."""

    __slots__ = ("_border", "_order", "_place", "address", "items", "meta")

    def __init__(self, items: dict[Any, Any] | None = None) -> None:
        self.items: dict[Any, Any] = items if items is not None else {}
        self.meta: Table | None = None
        self.address = next(_numbers)
        self._order: list[Any] = []
        self._place: dict[Any, int] = {}
        self._border = 0

    def get(self, key: Any) -> Any:
        """The value itself, without metatables."""
        return self.items.get((bool, key) if type(key) is bool else key)

    def set(self, key: Any, value: Any) -> None:
        """Set the value itself, without metatables. Raises `LuaError`."""
        if key is None or key != key:
            raise LuaError("table index is nil" if key is None else "table index is NaN")
        key = (bool, key) if type(key) is bool else key
        if value is not None or key in self.items:
            self.items[key] = value

    def next(self, key: Any) -> tuple[Any, Any] | None:
        """The pair after `key`, the first after None; None at the end. Raises `LuaError`."""
        if key is None or len(self._order) != len(self.items):
            self._order = list(self.items)
            self._place = {k: n for n, k in enumerate(self._order)}
        kept = (bool, key) if type(key) is bool else key
        if key is not None and kept not in self._place:
            raise LuaError("unknown key to `next'")
        for n in range(0 if key is None else self._place[kept] + 1, len(self._order)):
            k = self._order[n]
            if self.items[k] is not None:
                return (k[1] if type(k) is tuple else k), self.items[k]
        return None

    def length(self) -> int:
        """How many values stand at 1, 2, 3 ... without a gap (``table.getn``)."""
        n = self.items.get("n")
        if type(n) is float:
            return int(n)
        while self.items.get(float(self._border + 1)) is not None:
            self._border += 1
        while self._border and self.items.get(float(self._border)) is None:
            self._border -= 1
        return self._border

    def array(self) -> list[Any]:
        """The values at 1, 2, 3 ..."""
        return [self.get(float(n)) for n in range(1, self.length() + 1)]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Table:
        """A table of these values at 1, 2, 3 ..."""
        return cls({float(n): value for n, value in enumerate(values, 1) if value is not None})


@dataclass(frozen=True, slots=True, eq=False)
class Native:
    """A function of the instrument. A tuple it returns are several values (or none), all else is one."""

    name: str
    call: Callable[..., Any]


def silent(call: Callable[..., None]) -> Callable[..., tuple[()]]:
    """`call` as a function for scripts that returns nothing, not even nil."""

    def run(*arguments: Any) -> tuple[()]:
        call(*arguments)
        return ()

    return run


class Scope:
    """Local variables of a block."""

    __slots__ = ("names", "outer")

    def __init__(self, outer: Scope | None) -> None:
        self.names: dict[str, Any] = {}
        self.outer = outer

    def holding(self, name: str) -> dict[str, Any] | None:
        """The variables among which `name` is, None if it is global."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names
            scope = scope.outer
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Closure:
    """A function of a script with the variables it sees."""

    made: Function
    scope: Scope | None


def type_of(value: Any) -> str:
    """What ``type()`` says."""
    match value:
        case None:
            return "nil"
        case bool():
            return "boolean"
        case float():
            return "number"
        case str():
            return "string"
        case Table():
            return "table"
    return "function"


def tostring(value: Any) -> str:
    """What ``tostring()`` says of a value without a metatable."""
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case float():
            return format(value, ".14g")
        case str():
            return value
        case Table():
            return f"table: {value.address:08x}"
    return f"function: {id(value) & 0xFFFFFFFF:08x}"


_NUMERAL = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*", re.A)


def tonumber(value: Any) -> float | None:
    """The number a value is or spells, else None."""
    if type(value) is float:
        return value
    if isinstance(value, str) and _NUMERAL.fullmatch(value):
        return float(value)
    return None


def truth(value: Any) -> bool:
    """All but nil and false is true."""
    return value is not None and value is not False
