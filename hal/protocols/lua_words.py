"""Text in Lua taken apart into words: names, numbers, strings and signs. No I/O.

Source: Lua 5.0 Reference Manual, 2.1. What newer instruments of Keithley's understand beyond that: the signs of
operations on bits, ``!=`` and ``!`` (2450-901-01 Rev. B, p. 7-15), numbers like ``0x1F`` and ``0b11`` (examples of
``digio.writeport`` and of Keithley's own scripts).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KEYWORDS = frozenset(
    [
        "and",
        "break",
        "do",
        "else",
        "elseif",
        "end",
        "false",
        "for",
        "function",
        "if",
        "in",
        "local",
        "nil",
        "not",
        "or",
        "repeat",
        "return",
        "then",
        "true",
        "until",
        "while",
    ]
)


class LuaSyntaxError(Exception):
    """Text that is no Lua, and in which line."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.text, self.line = text, line


@dataclass(slots=True)
class Token:
    """One word."""

    kind: str
    """A keyword or symbol as it is, ``<name>``, ``<number>``, ``<string>`` or ``<eof>``."""
    text: str
    line: int
    value: float | str = ""


_SPACES = r"(?P<space>[ \t\r\f\v]+)|(?P<newline>\n)|(?P<comment>--(?!\[\[)[^\n]*)|(?P<long>(?:--)?\[\[)"
_REST = r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<quote>[\"'])"
_SIGNS = r"\.\.\.|\.\.|==|~=|<=|>=|[-+*/^=<>(){}\[\];:,.]"
_WORD = re.compile(f"{_SPACES}{_REST}|(?P<symbol>{_SIGNS})", re.A)
_EXTENDED = re.compile(
    rf"{_SPACES}|(?P<based>0[xX][0-9A-Fa-f]+|0[bB][01]+){_REST}|(?P<symbol><<|>>|!=|\^\^|[&|!]|{_SIGNS})", re.A
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LONG_BRACKET = re.compile(r"\[\[|\]\]")


def tokens(text: str, extended: bool) -> list[Token]:
    """The words of a text, `extended` by what newer instruments understand. Raises `LuaSyntaxError`."""
    found: list[Token] = []
    pattern = _EXTENDED if extended else _WORD
    at, line = 0, 1
    while at < len(text):
        match = pattern.match(text, at)
        if match is None:
            raise LuaSyntaxError(f"unexpected symbol near `{text[at]}'", line)
        kind, word = str(match.lastgroup), match[0]
        at = match.end()
        match kind:
            case "newline":
                line += 1
            case "long":
                start = line
                inner, at = _long(text, at, line)
                line += inner.count("\n")
                if not word.startswith("--"):
                    found.append(Token("<string>", f"[[{inner}]]", start, inner.removeprefix("\n")))
            case "quote":
                value, end = _quoted(text, at, word, line)
                found.append(Token("<string>", text[at - 1 : end], line, value))
                line += text.count("\n", at, end)
                at = end
            case "number":
                found.append(Token("<number>", word, line, float(word)))
            case "based":
                found.append(Token("<number>", word, line, float(int(word, 0))))
            case "name":
                found.append(Token(word if word in KEYWORDS else "<name>", word, line, word))
            case "symbol":
                found.append(Token({"!=": "~=", "!": "not"}.get(word, word), word, line))
    found.append(Token("<eof>", "<eof>", line))
    return found


def _long(text: str, at: int, line: int) -> tuple[str, int]:
    """The text up to the ``]]`` that belongs to a ``[[`` just before; they may be nested."""
    depth, here = 1, at
    while depth:
        match = _LONG_BRACKET.search(text, here)
        if match is None:
            raise LuaSyntaxError("unfinished long string near `<eof>'", line)
        depth += 1 if match[0] == "[[" else -1
        here = match.end()
    return text[at : here - 2], here


def _quoted(text: str, at: int, quote: str, line: int) -> tuple[str, int]:
    out: list[str] = []
    while True:
        character = text[at : at + 1]
        at += 1
        if character == quote:
            return "".join(out), at
        if character in ("", "\n"):
            raise LuaSyntaxError(f"unfinished string near `{quote}{''.join(out)}'", line)
        if character != "\\":
            out.append(character)
            continue
        digits = re.compile(r"\d{1,3}", re.A).match(text, at)
        if digits is not None:
            if int(digits[0]) > 255:
                raise LuaSyntaxError(f"escape sequence too large near `{quote}{''.join(out)}'", line)
            out.append(chr(int(digits[0])))
            at = digits.end()
        else:
            out.append(_ESCAPES.get(text[at : at + 1], text[at : at + 1]))
            at += 1
