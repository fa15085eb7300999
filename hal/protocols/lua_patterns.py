"""Lua's patterns, by which scripts take texts apart: ``%a``, ``[^,]+``, captures. No I/O.

Source: Lua 5.0 Reference Manual, section 5.3, "Patterns".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .lua_values import LuaError

SPECIALS = "^$*+?.([%-"
"""Characters that make a text more than itself."""
DEEPEST = 150
"""Parts of a pattern within each other or after each other; bounded by Python's stack."""

_CLASSES: dict[str, Callable[[str], bool]] = {
    "a": lambda c: c.isascii() and c.isalpha(),
    "c": lambda c: ord(c) < 32 or ord(c) == 127,
    "d": lambda c: c.isascii() and c.isdigit(),
    "l": lambda c: c.isascii() and c.islower(),
    "p": lambda c: 32 < ord(c) < 127 and not c.isalnum(),
    "s": lambda c: c in " \t\n\r\f\v",
    "u": lambda c: c.isascii() and c.isupper(),
    "w": lambda c: c.isascii() and c.isalnum(),
    "x": lambda c: c in "0123456789abcdefABCDEF",
    "z": lambda c: c == "\0",
}

Capture = str | float
"""What a pair of parentheses caught: a text, or for ``()`` where it was."""


@dataclass(frozen=True, slots=True)
class Match:
    """Where a pattern fits: from `start` up to `end`, counted from 0."""

    start: int
    end: int
    captures: list[Capture]


def matches(text: str, pattern: str, start: int, step: Callable[[], None]) -> Iterator[Match]:
    """Where `pattern` fits from `start` on, one place after another; `step` counts the work. Raises `LuaError`."""
    anchored = pattern.startswith("^")
    while start <= len(text):
        matcher = _Matcher(text, pattern, step)
        end = matcher.match(start, 1 if anchored else 0, 0)
        if end is not None:
            yield Match(start, end, matcher.caught())
        if anchored:
            return
        start = end if end is not None and end > start else start + 1


@dataclass(slots=True)
class _Matcher:
    text: str
    pattern: str
    step: Callable[[], None]
    open: list[tuple[int, int]] = field(default_factory=list)
    """Start and length of each capture; length -1: still open, -2: only where it was."""

    def caught(self) -> list[Capture]:
        return [self.capture(n) for n in range(len(self.open))]

    def capture(self, n: int) -> Capture:
        start, length = self.open[n]
        if length == -1:
            raise LuaError("unfinished capture")
        return float(start + 1) if length == -2 else self.text[start : start + length]

    def match(self, s: int, p: int, depth: int) -> int | None:
        """Where the rest of the pattern, from `p`, ends if it begins at `s`."""
        if depth > DEEPEST:
            raise LuaError("pattern too complex")
        text, pattern = self.text, self.pattern
        while p < len(pattern):
            self.step()
            match pattern[p]:
                case "(":
                    there = pattern.startswith("()", p)
                    return self.attempt(s, p + 2 if there else p + 1, (s, -2 if there else -1), depth)
                case ")":
                    return self.closed(s, p, depth)
                case "$" if p + 1 == len(pattern):
                    return s if s == len(text) else None
                case "%" if pattern[p + 1 : p + 2] == "b":
                    balanced = self.balanced(s, p)
                    if balanced is None:
                        return None
                    s, p = balanced, p + 4
                    continue
                case "%" if pattern[p + 1 : p + 2].isdigit():
                    again = self.again(s, int(pattern[p + 1]))
                    if again is None:
                        return None
                    s, p = again, p + 2
                    continue
            end = self.single_end(p)
            match pattern[end : end + 1]:
                case "?":
                    if self.fits(s, p, end):
                        found = self.match(s + 1, end + 1, depth + 1)
                        if found is not None:
                            return found
                    p = end + 1
                case "*" | "+" as often:
                    longest = s
                    while self.fits(longest, p, end):
                        longest += 1
                    for here in range(longest, s if often == "+" else s - 1, -1):
                        found = self.match(here, end + 1, depth + 1)
                        if found is not None:
                            return found
                    return None
                case "-":
                    while (found := self.match(s, end + 1, depth + 1)) is None:
                        if not self.fits(s, p, end):
                            return None
                        s += 1
                    return found
                case _:
                    if not self.fits(s, p, end):
                        return None
                    s, p = s + 1, end
        return s

    def attempt(self, s: int, p: int, capture: tuple[int, int], depth: int) -> int | None:
        self.open.append(capture)
        number = len(self.open)
        found = self.match(s, p, depth + 1)
        if found is None:
            del self.open[number - 1 :]
        return found

    def closed(self, s: int, p: int, depth: int) -> int | None:
        for n in range(len(self.open) - 1, -1, -1):
            start, length = self.open[n]
            if length == -1:
                self.open[n] = (start, s - start)
                found = self.match(s, p + 1, depth + 1)
                if found is None:
                    self.open[n] = (start, -1)
                return found
        raise LuaError("invalid pattern capture")

    def balanced(self, s: int, p: int) -> int | None:
        pair = self.pattern[p + 2 : p + 4]
        if len(pair) < 2:
            raise LuaError("unbalanced pattern")
        if self.text[s : s + 1] != pair[0]:
            return None
        level = 0
        for here in range(s, len(self.text)):
            self.step()
            if self.text[here] == pair[1]:
                level -= 1
                if level == 0:
                    return here + 1
            elif self.text[here] == pair[0]:
                level += 1
        return None

    def again(self, s: int, number: int) -> int | None:
        if not 1 <= number <= len(self.open) or self.open[number - 1][1] == -1:
            raise LuaError("invalid capture index")
        before = str(self.capture(number - 1))
        return s + len(before) if self.text.startswith(before, s) else None

    def single_end(self, p: int) -> int:
        """Where the part of the pattern that stands for one character ends."""
        pattern = self.pattern
        if pattern[p] == "%":
            if p + 1 >= len(pattern):
                raise LuaError("malformed pattern (ends with `%')")
            return p + 2
        if pattern[p] != "[":
            return p + 1
        p += 2 if pattern[p + 1 : p + 2] == "^" else 1
        first = True
        while first or pattern[p : p + 1] != "]":
            if p >= len(pattern):
                raise LuaError("malformed pattern (missing `]')")
            p += 2 if pattern[p] == "%" else 1
            first = False
        return p + 1

    def fits(self, s: int, p: int, end: int) -> bool:
        """Whether the character at `s` is one the pattern's part from `p` to `end` stands for."""
        self.step()
        if s >= len(self.text):
            return False
        character = self.text[s]
        match self.pattern[p]:
            case ".":
                return True
            case "%":
                return _in_class(character, self.pattern[p + 1])
            case "[":
                return self.in_set(character, p, end - 1)
        return character == self.pattern[p]

    def in_set(self, character: str, p: int, end: int) -> bool:
        pattern = self.pattern
        wanted = pattern[p + 1] != "^"
        p += 1 if wanted else 2
        while p < end:
            if pattern[p] == "%":
                if _in_class(character, pattern[p + 1]):
                    return wanted
                p += 2
            elif pattern[p + 1] == "-" and p + 2 < end:
                if pattern[p] <= character <= pattern[p + 2]:
                    return wanted
                p += 3
            else:
                if character == pattern[p]:
                    return wanted
                p += 1
        return not wanted


def _in_class(character: str, letter: str) -> bool:
    known = _CLASSES.get(letter.lower())
    if known is None:
        return character == letter
    return known(character) is letter.islower()
