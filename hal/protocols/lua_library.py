"""The functions that every Lua script finds: `pairs`, `tostring`, `string.format`, `math.sqrt`. No I/O.

Without files, modules, coroutines and the debugger. `print` is the instrument's own.
Source: Lua 5.0 Reference Manual, chapter 5.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from functools import cmp_to_key
from typing import Any

from . import lua_patterns as patterns
from .lua import Machine, arithmetic
from .lua_values import BULK, LONGEST, Closure, LuaError, Native, Table, silent, tonumber, tostring, truth, type_of
from .lua_words import LuaSyntaxError

VERSION = "Lua 5.0.2"


def library(functions: dict[str, Callable[..., Any]], **values: Any) -> Table:
    """A table of native functions and values under their names."""
    return Table({name: Native(name, call) for name, call in functions.items()} | values)


def install(machine: Machine) -> None:
    """Put the standard functions into a machine's globals."""
    g = machine.globals
    for name, call in _basic(machine).items():
        g.set(name, Native(name, call))
    g.set("_G", g)
    g.set("_VERSION", VERSION)
    g.set("math", library(_math(), pi=math.pi))
    g.set("string", library(_string(machine)))
    g.set("table", library(_table(machine)))


# ---------------------------------------------------------------------- arguments


def number(value: Any, place: int, function: str) -> float:
    """An argument that must be a number. Raises `LuaError`."""
    found = tonumber(value)
    if found is None:
        raise LuaError(f"bad argument #{place} to `{function}' (number expected, got {_got(value)})")
    return found


def text(value: Any, place: int, function: str) -> str:
    """An argument that must be a text; numbers are. Raises `LuaError`."""
    if isinstance(value, str) or type(value) is float:
        return tostring(value)
    raise LuaError(f"bad argument #{place} to `{function}' (string expected, got {_got(value)})")


def table(value: Any, place: int, function: str) -> Table:
    """An argument that must be a table. Raises `LuaError`."""
    if isinstance(value, Table):
        return value
    raise LuaError(f"bad argument #{place} to `{function}' (table expected, got {_got(value)})")


def whole(value: Any, place: int, function: str, default: int | None = None) -> int:
    """An argument that must be a number, cut to a whole one. Raises `LuaError`."""
    if value is None and default is not None:
        return default
    found = number(value, place, function)
    return int(max(min(found, 2.0**53), -(2.0**53))) if found == found else 0


def _got(value: Any) -> str:
    return "no value" if value is None else type_of(value)


# ---------------------------------------------------------------------- basic functions


def _basic(machine: Machine) -> dict[str, Callable[..., Any]]:
    def assert_(value: Any = None, message: Any = "assertion failed!", *_: Any) -> Any:
        if not truth(value):
            raise LuaError(message, machine.line)
        return value

    def error(message: Any = None, level: Any = 1.0, *_: Any) -> Any:
        raise LuaError(message, machine.line)

    def next_(where: Any = None, key: Any = None, *_: Any) -> Any:
        pair = table(where, 1, "next").next(key)
        return None if pair is None else pair

    def pairs(where: Any = None, *_: Any) -> Any:
        return machine.globals.get("next"), table(where, 1, "pairs"), None

    def one_after(where: Table, n: float, *_: Any) -> Any:
        value = machine.index(where, n + 1)
        return None if value is None else (n + 1, value)

    along = Native("ipairs_aux", one_after)

    def ipairs(where: Any = None, *_: Any) -> Any:
        return along, table(where, 1, "ipairs"), 0.0

    def pcall(function: Any = None, *arguments: Any) -> Any:
        try:
            return True, *machine.call(function, *arguments)
        except LuaError as raised:
            return False, raised.value

    def xpcall(function: Any = None, handler: Any = None, *_: Any) -> Any:
        try:
            return True, *machine.call(function)
        except LuaError as raised:
            return False, *machine.call(handler, raised.value)

    def setmetatable(where: Any = None, meta: Any = None, *_: Any) -> Any:
        found = table(where, 1, "setmetatable")
        if found.meta is not None and found.meta.get("__metatable") is not None:
            raise LuaError("cannot change a protected metatable")
        found.meta = None if meta is None else table(meta, 2, "setmetatable")
        return found

    def getmetatable(value: Any = None, *_: Any) -> Any:
        if not isinstance(value, Table) or value.meta is None:
            return None
        hidden = value.meta.get("__metatable")
        return value.meta if hidden is None else hidden

    def tonumber_(value: Any = None, base: Any = None, *_: Any) -> Any:
        if base is None or base == 10:
            return tonumber(value)
        try:
            return float(int(text(value, 1, "tonumber"), whole(base, 2, "tonumber")))
        except ValueError:
            return None

    def rawset(where: Any = None, key: Any = None, value: Any = None, *_: Any) -> Any:
        table(where, 1, "rawset").set(key, value)
        return where

    def loadstring(code: Any = None, *_: Any) -> Any:
        try:
            return machine.load(text(code, 1, "loadstring"))
        except LuaSyntaxError as wrong:
            return None, f"line {wrong.line}: {wrong.text}"

    return {
        "assert": assert_, "error": error, "getmetatable": getmetatable, "setmetatable": setmetatable,
        "ipairs": ipairs, "pairs": pairs, "next": next_, "pcall": pcall, "xpcall": xpcall,
        "rawget": lambda where=None, key=None, *_: table(where, 1, "rawget").get(key),
        "rawset": rawset, "rawequal": lambda a=None, b=None, *_: a is b or (type(a) is type(b) and a == b),
        "tonumber": tonumber_, "tostring": lambda value=None, *_: machine.show(value),
        "type": lambda value=None, *_: type_of(value), "loadstring": loadstring,
        "unpack": lambda where=None, *_: tuple(table(where, 1, "unpack").array()),
        "collectgarbage": lambda *_: (), "gcinfo": lambda *_: (2048.0, 32768.0),
    }  # fmt: skip


# ---------------------------------------------------------------------- math


def _math() -> dict[str, Callable[..., Any]]:
    chance = random.Random(0)

    def plain(name: str, function: Callable[[float], float]) -> Callable[..., float]:
        def call(value: Any = None, *_: Any) -> float:
            given = number(value, 1, name)
            try:
                return float(function(given))
            except ValueError:
                return -math.inf if name.startswith("log") and given == 0 else math.nan
            except OverflowError:
                return math.inf if given == given else math.nan

        return call

    def rounded(value: float, function: Callable[[float], int]) -> float:
        return float(function(value)) if math.isfinite(value) else value

    def mod(a: Any = None, b: Any = None, *_: Any) -> float:
        by = number(b, 2, "mod")
        try:
            return math.fmod(number(a, 1, "mod"), by)
        except ValueError:
            return math.nan

    def extreme(name: str, choose: Callable[..., float]) -> Callable[..., float]:
        return lambda *values: choose([number(v, n, name) for n, v in enumerate(values, 1)] or [number(None, 1, name)])

    def random_(low: Any = None, high: Any = None, *_: Any) -> float:
        if low is None:
            return chance.random()
        first, last = (
            (1, whole(low, 1, "random"))
            if high is None
            else (
                whole(low, 1, "random"),
                whole(high, 2, "random"),
            )
        )
        if first > last:
            raise LuaError("bad argument #1 to `random' (interval is empty)")
        return float(chance.randint(first, last))

    def pow_(a: Any = None, b: Any = None, *_: Any) -> float:
        return arithmetic("^", number(a, 1, "pow"), number(b, 2, "pow"))

    functions: dict[str, Callable[..., Any]] = {
        name: plain(name, getattr(math, name))
        for name in ("sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "log10")
    }
    return functions | {
        "abs": plain("abs", abs), "deg": plain("deg", math.degrees), "rad": plain("rad", math.radians),
        "floor": plain("floor", lambda v: rounded(v, math.floor)),
        "ceil": plain("ceil", lambda v: rounded(v, math.ceil)),
        "atan2": lambda a=None, b=None, *_: math.atan2(number(a, 1, "atan2"), number(b, 2, "atan2")),
        "mod": mod, "pow": pow_, "max": extreme("max", max), "min": extreme("min", min),
        "random": random_, "randomseed": silent(lambda seed=None, *_: chance.seed(number(seed, 1, "randomseed"))),
        "frexp": lambda a=None, *_: tuple(float(part) for part in math.frexp(number(a, 1, "frexp"))),
        "ldexp": lambda a=None, b=None, *_: number(a, 1, "ldexp") * 2.0 ** max(-1074, min(1023, whole(b, 2, "ldexp"))),
    }  # fmt: skip


# ---------------------------------------------------------------------- string


def _string(machine: Machine) -> dict[str, Callable[..., Any]]:
    def limited(result: str) -> str:
        if len(result) > LONGEST:
            raise LuaError("not enough memory")
        machine.step(len(result) >> BULK)
        return result

    def rep(given: Any = None, times: Any = None, *_: Any) -> str:
        piece, n = text(given, 1, "rep"), max(0, whole(times, 2, "rep"))
        if len(piece) * n > LONGEST:
            raise LuaError("not enough memory")
        machine.step(len(piece) * n >> BULK)
        return piece * n

    def sub(given: Any = None, first: Any = None, last: Any = None, *_: Any) -> str:
        piece = text(given, 1, "sub")
        start, end = _span(len(piece), whole(first, 2, "sub"), whole(last, 3, "sub", -1))
        return piece[start:end]

    def byte(given: Any = None, at: Any = None, *_: Any) -> Any:
        piece = text(given, 1, "byte")
        place = whole(at, 2, "byte", 1)
        start, end = _span(len(piece), place, place)
        return float(ord(piece[start])) if start < end else ()

    def char(*codes: Any) -> str:
        found = [whole(code, n, "char") for n, code in enumerate(codes, 1)]
        if any(not 0 <= code <= 255 for code in found):
            raise LuaError("bad argument #1 to `char' (invalid value)")
        return "".join(map(chr, found))

    def find(given: Any = None, pattern: Any = None, start: Any = None, plain: Any = None, *_: Any) -> Any:
        piece, wanted = text(given, 1, "find"), text(pattern, 2, "find")
        begin, _end = _span(len(piece), whole(start, 3, "find", 1), -1)
        if begin > len(piece):
            return None
        if truth(plain) or not any(c in patterns.SPECIALS for c in wanted):
            at = piece.find(wanted, begin)
            return None if at < 0 else (float(at + 1), float(at + len(wanted)))
        for match in patterns.matches(piece, wanted, begin, machine.step):
            return float(match.start + 1), float(match.end), *match.captures
        return None

    def gfind(given: Any = None, pattern: Any = None, *_: Any) -> Any:
        piece, wanted = text(given, 1, "gfind"), text(pattern, 2, "gfind")
        found: Iterator[patterns.Match] = patterns.matches(piece, wanted, 0, machine.step)

        def following(*_: Any) -> Any:
            match = next(found, None)
            return None if match is None else tuple(match.captures or [piece[match.start : match.end]])

        return Native("gfind_aux", following)

    def gsub(given: Any = None, pattern: Any = None, by: Any = None, most: Any = None, *_: Any) -> Any:
        piece, wanted = text(given, 1, "gsub"), text(pattern, 2, "gsub")
        if not isinstance(by, str | float | Closure | Native):
            raise LuaError("bad argument #3 to `gsub' (string or function expected)")
        limit = whole(most, 4, "gsub", LONGEST)
        out, at, times, length = [], 0, 0, 0
        for match in patterns.matches(piece, wanted, 0, machine.step) if limit > 0 else ():
            whole_match = piece[match.start : match.end]
            captures = match.captures or [whole_match]
            if isinstance(by, str | float):
                new = _replaced(tostring(by), whole_match, captures)
            else:
                result = machine.call(by, *captures)
                new = tostring(result[0]) if result and isinstance(result[0], str | float) else ""
            out += [piece[at : match.start], new]
            length += len(new)
            if length > LONGEST:
                raise LuaError("not enough memory")
            at, times = match.end, times + 1
            if times >= limit:
                break
        return limited("".join([*out, piece[at:]])), float(times)

    return {
        "byte": byte, "char": char, "find": find, "gfind": gfind, "gsub": gsub, "rep": rep, "sub": sub,
        "format": lambda form=None, *values: limited(_format(machine, text(form, 1, "format"), values)),
        "len": lambda given=None, *_: float(len(text(given, 1, "len"))),
        "lower": lambda given=None, *_: _ascii(text(given, 1, "lower"), str.lower),
        "upper": lambda given=None, *_: _ascii(text(given, 1, "upper"), str.upper),
    }  # fmt: skip


def _ascii(given: str, change: Callable[[str], str]) -> str:
    return "".join(change(c) if c.isascii() else c for c in given)


def _span(length: int, first: int, last: int) -> tuple[int, int]:
    """Lua's positions, from 1 or from the end, as Python's."""
    if first < 0:
        first = max(length + first + 1, 1)
    if last < 0:
        last += length + 1
    return max(first, 1) - 1, min(last, length)


def _replaced(by: str, whole_match: str, captures: list[patterns.Capture]) -> str:
    def insert(found: re.Match[str]) -> str:
        if not found[1].isdigit():
            return found[1]
        n = int(found[1])
        if n == 0:
            return whole_match
        if n > len(captures):
            raise LuaError("invalid capture index")
        return tostring(captures[n - 1])

    return re.sub(r"%(.)", insert, by, flags=re.S | re.A)


_CONVERSION = re.compile(r"%([-+ #0]*)(\d*)(\.\d*)?(.?)", re.S | re.A)


def _format(machine: Machine, form: str, values: tuple[Any, ...]) -> str:
    given = iter(enumerate(values, 2))

    def convert(found: re.Match[str]) -> str:
        flags, width, precision, letter = found[1], found[2], found[3] or "", found[4]
        if letter == "%" and not (flags or width or precision):
            return "%"
        if len(width) > 2 or len(precision) > 3 or len(flags) > 5:
            raise LuaError("invalid format (width or precision too long)")
        place, value = next(given, (len(values) + 2, None))
        head = f"%{flags}{width}{precision}"
        match letter:
            case "d" | "i" | "u" | "x" | "X" | "o" | "c":
                n = whole(value, place, "format")
                if letter == "c":
                    return chr(n & 255)
                return (head + letter) % (n & 0xFFFFFFFF if letter in "uxXo" and n < 0 else n)
            case "e" | "E" | "f" | "g" | "G":
                return (head + letter) % number(value, place, "format")
            case "s":
                return (head + "s") % text(value, place, "format")
            case "q":
                quoted = re.sub(r'(["\\\n])', r"\\\1", text(value, place, "format"))
                return '"' + quoted.replace("\0", "\\000") + '"'
        raise LuaError("invalid option in `format'")

    return _CONVERSION.sub(convert, form)


# ---------------------------------------------------------------------- table


def _table(machine: Machine) -> dict[str, Callable[..., Any]]:
    def insert(where: Any = None, *given: Any) -> Any:
        found = table(where, 1, "insert")
        n = found.length() + 1
        at = n if len(given) < 2 else whole(given[0], 2, "insert")
        value = given[-1] if given else None
        for place in range(n, at, -1):
            machine.step()
            found.set(float(place), found.get(float(place - 1)))
        if type(found.get("n")) is float:
            found.set("n", float(n))
        found.set(float(at), value)
        return ()

    def remove(where: Any = None, at: Any = None, *_: Any) -> Any:
        found = table(where, 1, "remove")
        n = found.length()
        if n == 0:
            return ()
        place = whole(at, 2, "remove", n)
        gone = found.get(float(place))
        for here in range(place, n):
            machine.step()
            found.set(float(here), found.get(float(here + 1)))
        found.set(float(n), None)
        if type(found.get("n")) is float:
            found.set("n", float(n - 1))
        return gone

    def concat(where: Any = None, between: Any = None, first: Any = None, last: Any = None, *_: Any) -> str:
        found, mark = table(where, 1, "concat"), "" if between is None else text(between, 2, "concat")
        pieces: list[str] = []
        length = 0
        for n in range(whole(first, 3, "concat", 1), whole(last, 4, "concat", found.length()) + 1):
            machine.step()
            pieces.append(text(found.get(float(n)), 1, "concat"))
            length += len(pieces[-1]) + len(mark)
            if length > LONGEST:
                raise LuaError("not enough memory")
        machine.step(length >> BULK)
        return mark.join(pieces)

    def before(order: Any, a: Any, b: Any) -> bool:
        machine.step()
        if order is not None:
            found = machine.call(order, a, b)
            return bool(found) and truth(found[0])
        if type(a) is not type(b) or not isinstance(a, str | float):
            raise LuaError(f"attempt to compare {type_of(a)} with {type_of(b)}")
        return bool(a < b)

    def sort(where: Any = None, order: Any = None, *_: Any) -> Any:
        found = table(where, 1, "sort")
        key = cmp_to_key(lambda a, b: -1 if before(order, a, b) else 1 if before(order, b, a) else 0)
        for n, value in enumerate(sorted(found.array(), key=key), 1):
            found.set(float(n), value)
        return ()

    def foreach(where: Any = None, function: Any = None, *_: Any) -> Any:
        found = table(where, 1, "foreach")
        pair = found.next(None)
        while pair is not None:
            result = machine.call(function, *pair)
            if result and result[0] is not None:
                return result[0]
            pair = found.next(pair[0])
        return ()

    def foreachi(where: Any = None, function: Any = None, *_: Any) -> Any:
        for n, value in enumerate(table(where, 1, "foreachi").array(), 1):
            result = machine.call(function, float(n), value)
            if result and result[0] is not None:
                return result[0]
        return ()

    def setn(where: Any = None, n: Any = None, *_: Any) -> Any:
        table(where, 1, "setn").set("n", number(n, 2, "setn"))
        return ()

    return {
        "insert": insert, "remove": remove, "concat": concat, "sort": sort, "foreach": foreach, "foreachi": foreachi,
        "setn": setn, "getn": lambda where=None, *_: float(table(where, 1, "getn").length()),
    }  # fmt: skip
