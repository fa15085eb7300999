"""Lua's grammar, for instruments that are programmed in it: text becomes a tree. No I/O.

The language is Lua 5.0, which Keithley's Test Script Processor is built on: no ``#``, no ``%``, no
``...`` as an expression, a vararg function finds its arguments in the table `arg`. Messages of
errors are worded as that version words them, since instruments hand them on. Newer instruments know a
few operations on bits as well.

Source: Lua 5.0 Reference Manual (R. Ierusalimschy, L. H. de Figueiredo, W. Celes, 2003), chapter 2
and the grammar at its end; wording of errors as instruments were seen to report them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .lua_tree import (
    Assign,
    Binary,
    Break,
    Call,
    Constant,
    Count,
    Do,
    Function,
    If,
    Index,
    Iterate,
    Local,
    LocalFunction,
    Method,
    Name,
    Node,
    Repeat,
    Return,
    Single,
    TableOf,
    Unary,
    While,
)
from .lua_words import LuaSyntaxError, Token, tokens

LEVELS = 60
"""Blocks and expressions that may be nested in each other; Lua itself allows 200."""


def parse(text: str, extended: bool = False) -> list[Node]:
    """Return the statements of a chunk, `extended` by operations on bits. Raises `LuaSyntaxError`."""
    parser = _Parser(tokens(text, extended))
    try:
        body = parser.block()
    except RecursionError:
        raise LuaSyntaxError("chunk has too many syntax levels", parser.token.line) from None
    if parser.token.kind != "<eof>":
        raise parser.expected("<eof>")
    return body


_PRIORITY = {
    "or": (1, 1), "and": (2, 2), "<": (3, 3), ">": (3, 3), "<=": (3, 3), ">=": (3, 3), "~=": (3, 3), "==": (3, 3),
    "..": (5, 4), "+": (6, 6), "-": (6, 6), "*": (7, 7), "/": (7, 7), "^": (10, 9),
    "&": (6, 6), "|": (6, 6), "^^": (6, 6), "<<": (7, 7), ">>": (7, 7),
}  # fmt: skip
"""Left and right binding; ``..`` and ``^`` associate to the right. Those on bits are extensions, and bind as
2450-901-01 Rev. B, p. 7-17, says."""
_UNARY = 8
_ENDS = ("<eof>", "end", "else", "elseif", "until")


@dataclass(slots=True)
class _Parser:
    tokens: list[Token]
    at: int = 0
    level: int = 0
    loops: list[int] = field(default_factory=lambda: [0])
    """How many loops are open in each open function."""

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def wrong(self, text: str) -> LuaSyntaxError:
        return LuaSyntaxError(f"{text} near `{self.token.text}'", self.token.line)

    def expected(self, kind: str) -> LuaSyntaxError:
        return self.wrong(f"{kind} expected" if kind.startswith("<") else f"`{kind}' expected")

    def take(self, kind: str) -> Token | None:
        """The next word if it is of this kind."""
        token = self.tokens[self.at]
        if token.kind != kind:
            return None
        self.at += 1
        return token

    def need(self, kind: str) -> Token:
        token = self.take(kind)
        if token is None:
            raise self.expected(kind)
        return token

    def close(self, kind: str, opener: str, line: int) -> None:
        """The end of what was opened in `line`."""
        if self.take(kind) is None:
            if line == self.token.line:
                raise self.expected(kind)
            raise self.wrong(f"`{kind}' expected (to close `{opener}' at line {line})")

    def block(self) -> list[Node]:
        self.deeper()
        body: list[Node] = []
        while self.token.kind not in _ENDS:
            body.append(self.statement())
            self.take(";")
            if isinstance(body[-1], Return | Break):
                break
        self.level -= 1
        return body

    def deeper(self) -> None:
        self.level += 1
        if self.level > LEVELS:
            raise LuaSyntaxError("chunk has too many syntax levels", self.token.line)

    def loop(self, opener: str, line: int) -> list[Node]:
        self.loops[-1] += 1
        body = self.block()
        self.loops[-1] -= 1
        self.close("end", opener, line)
        return body

    def statement(self) -> Node:
        token = self.token
        line = token.line
        match token.kind:
            case "if":
                return self.condition()
            case "while":
                self.at += 1
                condition = self.expression()
                self.need("do")
                return While(line, condition, self.loop("while", line))
            case "do":
                self.at += 1
                body = self.block()
                self.close("end", "do", line)
                return Do(line, body)
            case "for":
                return self.count_or_iterate()
            case "repeat":
                self.at += 1
                self.loops[-1] += 1
                body = self.block()
                self.loops[-1] -= 1
                self.close("until", "repeat", line)
                return Repeat(line, body, self.expression())
            case "function":
                return self.named_function()
            case "local":
                self.at += 1
                if self.take("function"):
                    name = self.need("<name>").text
                    return LocalFunction(line, name, self.function(line))
                names = self.names()
                return Local(line, names, self.expressions() if self.take("=") else [])
            case "return":
                self.at += 1
                empty = self.token.kind in _ENDS or self.token.kind == ";"
                return Return(line, [] if empty else self.expressions())
            case "break":
                self.at += 1
                if not self.loops[-1]:
                    raise self.wrong("no loop to break")
                return Break(line)
        return self.call_or_assignment()

    def condition(self) -> Node:
        line = self.need("if").line
        arms: list[tuple[Node, list[Node]]] = []
        while True:
            test = self.expression()
            self.need("then")
            arms.append((test, self.block()))
            if not self.take("elseif"):
                break
        otherwise = self.block() if self.take("else") else []
        self.close("end", "if", line)
        return If(line, arms, otherwise)

    def count_or_iterate(self) -> Node:
        line = self.need("for").line
        names = self.names()
        if len(names) == 1 and self.take("="):
            start = self.expression()
            self.need(",")
            stop = self.expression()
            step = self.expression() if self.take(",") else None
            self.need("do")
            return Count(line, names[0], start, stop, step, self.loop("for", line))
        if self.take("in") is None:
            raise self.wrong("`=' or `in' expected")
        values = self.expressions()
        self.need("do")
        return Iterate(line, names, values, self.loop("for", line))

    def named_function(self) -> Node:
        line = self.need("function").line
        first = self.need("<name>")
        target: Node = Name(line, first.text)
        own: list[str] = []
        while self.token.kind in (".", ":"):
            mark = self.token.kind
            self.at += 1
            target = Index(line, target, Constant(line, self.need("<name>").text))
            if mark == ":":
                own = ["self"]
                break
        return Assign(line, [target], [self.function(line, own)])

    def call_or_assignment(self) -> Node:
        line = self.token.line
        first = self.suffixed()
        if isinstance(first, Call | Method):
            return first
        targets = [first]
        while self.take(","):
            targets.append(self.suffixed())
        for target in targets:
            if not isinstance(target, Name | Index):
                raise self.wrong("syntax error")
        self.need("=")
        return Assign(line, targets, self.expressions())

    def names(self) -> list[str]:
        names = [self.need("<name>").text]
        while self.take(","):
            names.append(self.need("<name>").text)
        return names

    # ------------------------------------------------------------------ expressions

    def expressions(self) -> list[Node]:
        found = [self.expression()]
        while self.take(","):
            found.append(self.expression())
        return found

    def expression(self, limit: int = 0) -> Node:
        self.deeper()
        token = self.token
        if token.kind in ("not", "-"):
            self.at += 1
            left: Node = Unary(token.line, token.kind, self.expression(_UNARY))
        else:
            left = self.simple()
        while (priority := _PRIORITY.get(self.token.kind)) is not None and priority[0] > limit:
            token = self.token
            self.at += 1
            left = Binary(token.line, token.kind, left, self.expression(priority[1]))
        self.level -= 1
        return left

    def simple(self) -> Node:
        token = self.token
        match token.kind:
            case "<number>" | "<string>":
                self.at += 1
                return Constant(token.line, token.value)
            case "nil" | "true" | "false":
                self.at += 1
                return Constant(token.line, {"nil": None, "true": True, "false": False}[token.kind])
            case "{":
                return self.table()
            case "function":
                self.at += 1
                return self.function(token.line)
        return self.suffixed()

    def suffixed(self) -> Node:
        token = self.token
        if self.take("("):
            inner = self.expression()
            self.close(")", "(", token.line)
            found: Node = Single(token.line, inner)
        elif self.take("<name>"):
            found = Name(token.line, token.text)
        else:
            raise self.wrong("unexpected symbol")
        while True:
            token = self.token
            match token.kind:
                case ".":
                    self.at += 1
                    name = self.need("<name>")
                    found = Index(token.line, found, Constant(name.line, name.text))
                case "[":
                    self.at += 1
                    key = self.expression()
                    self.need("]")
                    found = Index(token.line, found, key)
                case ":":
                    self.at += 1
                    name = self.need("<name>")
                    found = Method(token.line, found, name.text, self.arguments())
                case "(" | "{" | "<string>":
                    found = Call(token.line, found, self.arguments())
                case _:
                    return found

    def arguments(self) -> list[Node]:
        token = self.token
        match token.kind:
            case "<string>":
                self.at += 1
                return [Constant(token.line, token.value)]
            case "{":
                return [self.table()]
            case "(":
                if self.at and self.tokens[self.at - 1].line != token.line:
                    raise self.wrong("ambiguous syntax (function call x new statement)")
                self.at += 1
                found = [] if self.token.kind == ")" else self.expressions()
                self.close(")", "(", token.line)
                return found
        raise self.wrong("function arguments expected")

    def table(self) -> Node:
        line = self.need("{").line
        items: list[tuple[Node | None, Node]] = []
        while self.token.kind != "}":
            if self.take("["):
                key: Node | None = self.expression()
                self.need("]")
                self.need("=")
            elif self.token.kind == "<name>" and self.tokens[self.at + 1].kind == "=":
                key = Constant(self.token.line, self.token.text)
                self.at += 2
            else:
                key = None
            items.append((key, self.expression()))
            if not (self.take(",") or self.take(";")):
                break
        self.close("}", "{", line)
        return TableOf(line, items)

    def function(self, line: int, own: list[str] | None = None) -> Function:
        self.need("(")
        parameters, varargs = list(own or ()), False
        while self.token.kind != ")" or parameters[len(own or ()) :]:
            varargs = self.take("...") is not None
            if not varargs:
                parameters.append(self.need("<name>").text)
            if varargs or not self.take(","):
                break
        self.close(")", "(", line)
        self.loops.append(0)
        body = self.block()
        self.loops.pop()
        self.close("end", "function", line)
        return Function(line, parameters, varargs, body)
