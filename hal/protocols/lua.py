"""Running Lua, as an instrument runs the scripts it is sent. No I/O, and no script runs forever.

A `Machine` has global variables and runs chunks of text. What the instrument itself offers are
`Native` functions and `Table` values with metatables in the globals. Every statement, call and turn
of a loop is a step: steps are counted, reported to `on_steps` (they take an instrument time) and
limited, so that ``while true do end`` ends in `Exhausted` and not in a hung emulator. Python's
stack bounds recursion, `LONGEST` the length of strings.

Left out: coroutines, userdata, ``require`` and files. Source: Lua 5.0 Reference Manual, 2.2 to 2.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from . import lua_tree as syntax
from .lua_syntax import parse
from .lua_values import (
    BULK,
    LONGEST,
    Closure,
    Exhausted,
    LuaError,
    Native,
    Scope,
    Table,
    tonumber,
    tostring,
    truth,
    type_of,
)  # fmt: skip

REPORT = 64
"""Steps after which `on_steps` is told."""


class _Break:
    pass


_BREAK: Final = _Break()
_Flow = _Break | list[Any] | None
"""How a block ended: broken off, by returning values, or at its end."""


class Machine:
    """Global variables and what runs among them."""

    def __init__(
        self, *, limit: int = 300_000, on_steps: Callable[[int], None] = lambda steps: None, extended: bool = False
    ) -> None:
        """`limit`: steps that one `run` may take. `on_steps` is told of steps taken since it was last told;
        `extended`: operations on bits, as newer instruments know them.
        """
        self._extended = extended
        self.globals = Table()
        self.limit, self.on_steps = limit, on_steps
        self.steps = 0
        self._told = 0
        self.line = 0
        """Where the script is, for errors that natives raise."""
        self._evaluate: dict[type, Callable[[Any, Scope | None], Any]] = {
            syntax.Constant: lambda node, scope: node.value,
            syntax.Name: self._name,
            syntax.Index: self._index,
            syntax.Call: lambda node, scope: _first(self._call(node, scope)),
            syntax.Method: lambda node, scope: _first(self._method(node, scope)),
            syntax.Function: lambda node, scope: Closure(node, scope),
            syntax.Binary: self._binary,
            syntax.Unary: self._unary,
            syntax.Single: lambda node, scope: self.value(node.inner, scope),
            syntax.TableOf: self._table,
        }
        self._execute: dict[type, Callable[[Any, Scope], _Flow]] = {
            syntax.Call: lambda node, scope: _none(self._call(node, scope)),
            syntax.Method: lambda node, scope: _none(self._method(node, scope)),
            syntax.Local: self._local,
            syntax.LocalFunction: self._local_function,
            syntax.Assign: self._assign,
            syntax.Do: lambda node, scope: self.block(node.body, Scope(scope)),
            syntax.While: self._while,
            syntax.Repeat: self._repeat,
            syntax.If: self._if,
            syntax.Count: self._count,
            syntax.Iterate: self._iterate,
            syntax.Return: lambda node, scope: self._values(node.values, scope),
            syntax.Break: lambda node, scope: _BREAK,
        }

    def load(self, text: str) -> Closure:
        """Make a function of a chunk. Raises `LuaSyntaxError`."""
        return Closure(syntax.Function(1, [], True, parse(text, self._extended)), None)

    def run(self, chunk: Closure) -> list[Any]:
        """Run a chunk from the beginning with a fresh count of steps. Raises `LuaError`, `Exhausted`."""
        self.begin()
        try:
            return self.call(chunk)
        finally:
            self.on_steps(self.steps - self._told)
            self._told = self.steps

    def begin(self) -> None:
        """Begin a fresh count of steps."""
        self.steps = self._told = 0

    def step(self, number: int = 1) -> None:
        """Count steps; natives that loop by themselves do it too. Raises `Exhausted`."""
        self.steps += number
        if self.steps - self._told >= REPORT:
            told, self._told = self._told, self.steps
            self.on_steps(self.steps - told)
            if self.steps > self.limit:
                raise Exhausted(f"more than {self.limit} steps")

    # ------------------------------------------------------------------ what natives use

    def call(self, function: Any, *arguments: Any) -> list[Any]:
        """Call any function, or a table that can be called. Raises `LuaError`."""
        self.step()
        match function:
            case Native():
                found = function.call(*arguments)
                return list(found) if type(found) is tuple else [found]
            case Closure():
                scope = Scope(function.scope)
                wanted = function.made.parameters
                for n, name in enumerate(wanted):
                    scope.names[name] = arguments[n] if n < len(arguments) else None
                if function.made.varargs:
                    rest = Table.of(arguments[len(wanted) :])
                    rest.set("n", float(len(arguments[len(wanted) :])))
                    scope.names["arg"] = rest
                try:
                    ended = self.block(function.made.body, scope)
                except RecursionError:
                    raise LuaError("stack overflow", self.line) from None
                return ended if isinstance(ended, list) else []
        handler = self.metamethod(function, "__call")
        if handler is None:
            raise LuaError(f"attempt to call a {type_of(function)} value", self.line)
        return self.call(handler, function, *arguments)

    def metamethod(self, value: Any, name: str) -> Any:
        """A value's own way of doing something, None if it has none."""
        return value.meta.get(name) if isinstance(value, Table) and value.meta is not None else None

    def index(self, table: Any, key: Any) -> Any:
        """``table[key]``, with metatables. Raises `LuaError`."""
        for _ in range(100):
            if isinstance(table, Table):
                found = table.get(key)
                if found is not None:
                    return found
                handler = self.metamethod(table, "__index")
                if handler is None:
                    return None
            else:
                handler = self.metamethod(table, "__index")
                if handler is None:
                    raise LuaError(f"attempt to index a {type_of(table)} value", self.line)
            if not isinstance(handler, Table):
                return _first(self.call(handler, table, key))
            table = handler
        raise LuaError("loop in gettable", self.line)

    def assign(self, table: Any, key: Any, value: Any) -> None:
        """``table[key] = value``, with metatables. Raises `LuaError`."""
        for _ in range(100):
            if not isinstance(table, Table):
                raise LuaError(f"attempt to index a {type_of(table)} value", self.line)
            handler = None if table.get(key) is not None else self.metamethod(table, "__newindex")
            if handler is None:
                try:
                    table.set(key, value)
                except LuaError as error:
                    raise LuaError(error.value, self.line) from None
                return
            if not isinstance(handler, Table):
                self.call(handler, table, key, value)
                return
            table = handler
        raise LuaError("loop in settable", self.line)

    def show(self, value: Any) -> str:
        """``tostring(value)``, with metatables."""
        handler = self.metamethod(value, "__tostring")
        return tostring(_first(self.call(handler, value))) if handler is not None else tostring(value)

    # ------------------------------------------------------------------ expressions

    def value(self, node: syntax.Node, scope: Scope | None) -> Any:
        """What an expression is worth, one value."""
        return self._evaluate[type(node)](node, scope)

    def _values(self, nodes: list[syntax.Node], scope: Scope | None) -> list[Any]:
        """What a list of expressions is worth: of a call at its end, all values."""
        found = [self.value(node, scope) for node in nodes[:-1]]
        if nodes:
            last = nodes[-1]
            match last:
                case syntax.Call():
                    found += self._call(last, scope)
                case syntax.Method():
                    found += self._method(last, scope)
                case _:
                    found.append(self.value(last, scope))
        return found

    def _name(self, node: syntax.Name, scope: Scope | None) -> Any:
        held = scope.holding(node.name) if scope is not None else None
        return held[node.name] if held is not None else self._of_globals(node.name)

    def _of_globals(self, name: str) -> Any:
        found = self.globals.items.get(name)
        return found if found is not None or self.globals.meta is None else self.index(self.globals, name)

    def _index(self, node: syntax.Index, scope: Scope | None) -> Any:
        table = self.value(node.table, scope)
        key = self.value(node.key, scope)
        self.line = node.line
        if not isinstance(table, Table):
            raise self._wrong("index", node.table, table, scope)
        return self.index(table, key)

    def _call(self, node: syntax.Call, scope: Scope | None) -> list[Any]:
        function = self.value(node.function, scope)
        arguments = self._values(node.arguments, scope)
        self.line = node.line
        if isinstance(function, Native | Closure):
            return self.call(function, *arguments)
        if self.metamethod(function, "__call") is None:
            raise self._wrong("call", node.function, function, scope)
        return self.call(function, *arguments)

    def _method(self, node: syntax.Method, scope: Scope | None) -> list[Any]:
        table = self.value(node.table, scope)
        self.line = node.line
        if not isinstance(table, Table):
            raise self._wrong("index", node.table, table, scope)
        function = self.index(table, node.name)
        arguments = self._values(node.arguments, scope)
        self.line = node.line
        if function is None:
            raise LuaError(f"attempt to call method `{node.name}' (a nil value)", node.line)
        return self.call(function, table, *arguments)

    def _table(self, node: syntax.TableOf, scope: Scope | None) -> Table:
        table, place = Table(), 1
        for n, (key, item) in enumerate(node.items):
            if key is not None:
                at = self.value(key, scope)
                self.line = node.line
                self.assign(table, at, self.value(item, scope))
            elif n == len(node.items) - 1:
                for value in self._values([item], scope):
                    table.set(float(place), value)
                    place += 1
            else:
                table.set(float(place), self.value(item, scope))
                place += 1
        return table

    def _unary(self, node: syntax.Unary, scope: Scope | None) -> Any:
        operand = self.value(node.operand, scope)
        if node.operator == "not":
            return not truth(operand)
        number = tonumber(operand)
        if number is not None:
            return -number
        return self._by_metamethod("__unm", node, operand, None, scope)

    def _binary(self, node: syntax.Binary, scope: Scope | None) -> Any:
        operator = node.operator
        left = self.value(node.left, scope)
        if operator == "and":
            return self.value(node.right, scope) if truth(left) else left
        if operator == "or":
            return left if truth(left) else self.value(node.right, scope)
        right = self.value(node.right, scope)
        self.line = node.line
        if operator in ("==", "~="):
            return self._equal(left, right) is (operator == "==")
        if operator in _ORDER:
            return self._ordered(operator, left, right)
        if operator == "..":
            return self._joined(node, left, right, scope)
        a, b = tonumber(left), tonumber(right)
        if a is None or b is None:
            return self._by_metamethod(_EVENT[operator], node, left, right, scope)
        return arithmetic(operator, a, b)

    def _equal(self, left: Any, right: Any) -> bool:
        if type(left) is not type(right):
            return False
        if isinstance(left, Table) and left is not right:
            handler = self.metamethod(left, "__eq")
            if handler is not None and handler is self.metamethod(right, "__eq"):
                return truth(_first(self.call(handler, left, right)))
        return bool(left == right)

    def _ordered(self, operator: str, left: Any, right: Any) -> bool:
        if operator in (">", ">="):
            left, right, operator = right, left, "<" if operator == ">" else "<="
        if (type(left) is float and type(right) is float) or (isinstance(left, str) and isinstance(right, str)):
            return bool(left < right) if operator == "<" else bool(left <= right)  # type: ignore[operator]
        handler = self.metamethod(left, "__lt" if operator == "<" else "__le")
        if handler is not None:
            return truth(_first(self.call(handler, left, right)))
        one, other = type_of(left), type_of(right)
        if one == other:
            raise LuaError(f"attempt to compare two {one} values", self.line)
        raise LuaError(f"attempt to compare {one} with {other}", self.line)

    def _joined(self, node: syntax.Binary, left: Any, right: Any, scope: Scope | None) -> Any:
        if not (isinstance(left, str | float) and isinstance(right, str | float)):
            return self._by_metamethod("__concat", node, left, right, scope)
        joined = tostring(left) + tostring(right)
        if len(joined) > LONGEST:
            raise LuaError("not enough memory", node.line)
        self.step(len(joined) >> BULK)
        return joined

    def _by_metamethod(self, event: str, node: Any, left: Any, right: Any, scope: Scope | None) -> Any:
        self.line = node.line
        for operand in (left, right):
            handler = self.metamethod(operand, event)
            if handler is not None:
                return _first(self.call(handler, left, right))
        if event == "__unm":
            raise self._wrong("perform arithmetic on", node.operand, left, scope)
        right_one = isinstance(left, str | float) if event == "__concat" else tonumber(left) is not None
        deed = "concatenate" if event == "__concat" else "perform arithmetic on"
        raise self._wrong(deed, node.right if right_one else node.left, right if right_one else left, scope)

    def _wrong(self, deed: str, node: syntax.Node, value: Any, scope: Scope | None) -> LuaError:
        """The error of doing something to a value that can't bear it, with the name it goes by."""
        match node:
            case syntax.Name(name=name):
                kind = "local" if scope is not None and scope.holding(name) is not None else "global"
                what = f"{kind} `{name}' (a {type_of(value)} value)"
            case syntax.Index(key=syntax.Constant(value=str(name))):
                what = f"field `{name}' (a {type_of(value)} value)"
            case _:
                what = f"a {type_of(value)} value"
        return LuaError(f"attempt to {deed} {what}", self.line)

    # ------------------------------------------------------------------ statements

    def block(self, body: list[syntax.Node], scope: Scope) -> _Flow:
        """Run statements among the variables of `scope`."""
        for node in body:
            self.step()
            self.line = node.line
            ended = self._execute[type(node)](node, scope)
            if ended is not None:
                return ended
        return None

    def _local(self, node: syntax.Local, scope: Scope) -> None:
        values = self._values(node.values, scope)
        for n, name in enumerate(node.names):
            scope.names[name] = values[n] if n < len(values) else None

    def _local_function(self, node: syntax.LocalFunction, scope: Scope) -> None:
        scope.names[node.name] = None
        scope.names[node.name] = Closure(node.function, scope)

    def _assign(self, node: syntax.Assign, scope: Scope) -> None:
        places: list[tuple[Any, Any]] = []
        for target in node.targets:
            if isinstance(target, syntax.Index):
                table = self.value(target.table, scope)
                if not isinstance(table, Table):
                    self.line = target.line
                    raise self._wrong("index", target.table, table, scope)
                places.append((table, self.value(target.key, scope)))
            elif isinstance(target, syntax.Name):
                held = scope.holding(target.name)
                places.append((self.globals if held is None else held, target.name))
        values = self._values(node.values, scope)
        self.line = node.line
        for n, (table, key) in enumerate(places):
            value = values[n] if n < len(values) else None
            if isinstance(table, dict):
                table[key] = value
            else:
                self.assign(table, key, value)

    def _while(self, node: syntax.While, scope: Scope) -> _Flow:
        while truth(self.value(node.condition, scope)):
            self.step()
            ended = self.block(node.body, Scope(scope))
            if ended is not None:
                return None if isinstance(ended, _Break) else ended
        return None

    def _repeat(self, node: syntax.Repeat, scope: Scope) -> _Flow:
        while True:
            self.step()
            ended = self.block(node.body, Scope(scope))
            if ended is not None:
                return None if isinstance(ended, _Break) else ended
            if truth(self.value(node.condition, scope)):
                return None

    def _if(self, node: syntax.If, scope: Scope) -> _Flow:
        for condition, body in node.arms:
            if truth(self.value(condition, scope)):
                return self.block(body, Scope(scope))
        return self.block(node.otherwise, Scope(scope))

    def _count(self, node: syntax.Count, scope: Scope) -> _Flow:
        given = [self.value(n, scope) for n in (node.start, node.stop)]
        given.append(1.0 if node.step is None else self.value(node.step, scope))
        self.line = node.line
        for value, what in zip(given, ("initial value", "limit", "step"), strict=True):
            if tonumber(value) is None:
                raise LuaError(f"`for' {what} must be a number", node.line)
        here, stop, step = (float(value) for value in given)
        while here <= stop if step > 0 else here >= stop:
            self.step()
            inner = Scope(scope)
            inner.names[node.name] = here
            ended = self.block(node.body, inner)
            if ended is not None:
                return None if isinstance(ended, _Break) else ended
            here += step
        return None

    def _iterate(self, node: syntax.Iterate, scope: Scope) -> _Flow:
        function, state, control = [*self._values(node.values, scope), None, None, None][:3]
        if isinstance(function, Table) and self.metamethod(function, "__call") is None:
            function, state = self.globals.get("next"), function  # Lua 5.0 takes a table itself
        while True:
            self.step()
            self.line = node.line
            values = self.call(function, state, control)
            control = _first(values)
            if control is None:
                return None
            inner = Scope(scope)
            for n, name in enumerate(node.names):
                inner.names[name] = values[n] if n < len(values) else None
            ended = self.block(node.body, inner)
            if ended is not None:
                return None if isinstance(ended, _Break) else ended


_ORDER = ("<", "<=", ">", ">=")
_EVENT = {"+": "__add", "-": "__sub", "*": "__mul", "/": "__div", "^": "__pow"} | dict.fromkeys(
    ("&", "|", "^^", "<<", ">>"), "__bits"
)


def arithmetic(operator: str, a: float, b: float) -> float:
    """One operation of IEEE 754 arithmetic, which knows no errors."""
    try:
        match operator:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
            case "/":
                return a / b
            case "^":
                return math.pow(a, b)
        return _bits(operator, int(a) & _ALL, int(b) & _ALL)
    except ZeroDivisionError:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)
    except OverflowError:
        if operator in _EVENT and _EVENT[operator] == "__bits":
            return math.nan  # infinity has no bits
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:
        return math.inf if a == 0 else math.nan  # 0 to a negative power; a root of a negative number


_ALL = 0xFFFFFFFF


def _bits(operator: str, a: int, b: int) -> float:
    """An operation on 32 bits (how many an instrument has: unverified)."""
    match operator:
        case "&":
            return float(a & b)
        case "|":
            return float(a | b)
        case "^^":
            return float(a ^ b)
        case "<<":
            return float(a << min(b, 32) & _ALL)
    return float(a >> min(b, 32))


def _first(values: list[Any]) -> Any:
    return values[0] if values else None


def _none(_values: list[Any]) -> None:
    return None
