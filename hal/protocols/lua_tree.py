"""A program in Lua as a tree of statements and expressions: `lua_syntax` makes it, `lua` runs it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Node:
    """A piece of a program; `line` is where it stands."""

    line: int


@dataclass(slots=True, eq=False)
class Constant(Node):
    value: bool | float | str | None


@dataclass(slots=True, eq=False)
class Name(Node):
    name: str


@dataclass(slots=True, eq=False)
class Index(Node):
    table: Node
    key: Node


@dataclass(slots=True, eq=False)
class Call(Node):
    function: Node
    arguments: list[Node]


@dataclass(slots=True, eq=False)
class Method(Node):
    table: Node
    name: str
    arguments: list[Node]


@dataclass(slots=True, eq=False)
class Function(Node):
    parameters: list[str]
    varargs: bool
    body: list[Node]


@dataclass(slots=True, eq=False)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(slots=True, eq=False)
class Unary(Node):
    operator: str
    operand: Node


@dataclass(slots=True, eq=False)
class Single(Node):
    """An expression in parentheses: of several values the first."""

    inner: Node


@dataclass(slots=True, eq=False)
class TableOf(Node):
    items: list[tuple[Node | None, Node]]


@dataclass(slots=True, eq=False)
class Local(Node):
    names: list[str]
    values: list[Node]


@dataclass(slots=True, eq=False)
class LocalFunction(Node):
    name: str
    function: Function


@dataclass(slots=True, eq=False)
class Assign(Node):
    targets: list[Node]
    values: list[Node]


@dataclass(slots=True, eq=False)
class Do(Node):
    body: list[Node]


@dataclass(slots=True, eq=False)
class While(Node):
    condition: Node
    body: list[Node]


@dataclass(slots=True, eq=False)
class Repeat(Node):
    body: list[Node]
    condition: Node


@dataclass(slots=True, eq=False)
class If(Node):
    arms: list[tuple[Node, list[Node]]]
    otherwise: list[Node]


@dataclass(slots=True, eq=False)
class Count(Node):
    """``for name = start, stop, step do``"""

    name: str
    start: Node
    stop: Node
    step: Node | None
    body: list[Node]


@dataclass(slots=True, eq=False)
class Iterate(Node):
    """``for names in values do``"""

    names: list[str]
    values: list[Node]
    body: list[Node]


@dataclass(slots=True, eq=False)
class Return(Node):
    values: list[Node]


@dataclass(slots=True, eq=False)
class Break(Node):
    pass
