"""TSP, Keithley's instruments that are programmed in Lua: lines, scripts, error queue, numbers. No I/O.

A `Tsp` is the front of an emulated instrument: it takes one line at a time and returns what the
instrument says to it. A line is a chunk of Lua of its own (local variables end with it), a common
command (``*IDN?``), a keyword (``abort``), or part of a script between ``loadscript`` and
``endscript``. What the model offers beyond that are tables in ``machine.globals``, made by
`attributes`: like the real ones they name their ``Getters``, ``Setters`` and ``Objects`` in a
metatable, by which drivers find out what there is (the package keithley2600 does).

An error of a setting goes to the error queue and the script goes on; only run-time errors of Lua
(-286) end it, and syntax errors (-285) keep it from beginning. A script that never ends keeps the
instrument from answering until ``abort``.

Sources: Series 2600B Reference Manual 2600BS-901-01 Rev. C (single pages of it, which are given, and of
Rev. B and F); the descriptions of its commands by name that Tektronix publishes for its editor
(tsp-toolkit-json-to-lua, 2602B). Unverified: length of the error queue, default byte order, texts of
`showerrors`, what setting a read-only attribute does, what a wrong type or choice is answered with.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .lua import Machine
from .lua_library import install, library
from .lua_values import Closure, Exhausted, LuaError, Native, Table, silent, tonumber, tostring
from .lua_words import LuaSyntaxError
from .scpi import event_of

EMPTY = (0, "Queue Is Empty", 0)
"""What ``errorqueue.next()`` says of an empty queue (p. 7-91)."""
RECOVERABLE = 20
"""Severity of errors that a remote user makes (p. 8-2)."""
LONGEST_LINE = 1 << 16
"""Characters of a line; more is -363. Real ones take less (a DMM6500 1024), scripts any number of lines."""
ENTRIES = 100
STATEMENT = 10e-6
"""Seconds a step of a script takes; the manual says so of processing time around `delay` (at ``delay()``)."""
OPERATION_COMPLETE, POWER_ON = 1 << 0, 1 << 7
ERRORS_AVAILABLE, STANDARD_EVENT, REQUEST = 1 << 2, 1 << 5, 1 << 6
"""Bits of the standard event register and of the status byte (appendix E)."""

TEXTS = {
    -363: "Input buffer overrun", -350: "Queue overflow", -286: "TSP Runtime error", -285: "Program syntax",
    -222: "Parameter data out of range", -104: "Data type error", -109: "Missing parameter",
    1101: "Parameter too big", 1102: "Parameter too small", 1400: "Expected at least %d parameters",
    1401: "Parameter %d is invalid", 1404: "Invalid byte order", 1405: "Invalid ASCII precision",
    1406: "Invalid data format",
}  # fmt: skip
"""Codes of every TSP instrument in use here (section 8, as the driver of qkit lists them)."""


class TspError(Exception):
    """What goes to the error queue without ending a script; raised by getters, setters and functions."""

    def __init__(self, code: int, text: str = "") -> None:
        self.code, self.text = code, text or TEXTS.get(code, "Device-specific error")
        super().__init__(f"{code}, {self.text}")


@dataclass
class Register:
    """One register set of the status model: what is so, what was so, and what is asked about."""

    condition: Callable[[], int] = lambda: 0
    enable: int = 0
    ntr: int = 0
    ptr: int = 0x7FFF
    latched: int = 0

    def event(self) -> int:
        """What happened since it was last read; reading clears."""
        found, self.latched = self.latched | (self.condition() & self.ptr), 0
        return found


@dataclass
class Format:
    """How numbers are printed (``format.*``): significant digits, form, order of bytes."""

    asciiprecision: int = 6
    data: int = 1
    """1 text, 2 and 3 binary of 4 and 8 bytes."""
    byteorder: int = 1
    """0: the highest byte first. Which one it wakes up with: unverified."""

    def number(self, value: float) -> str:
        """A number as ``print`` shows it."""
        return tostring(value) if self.asciiprecision == 0 else f"{value:.{self.asciiprecision - 1}e}"

    def numbers(self, values: list[Any]) -> bytes:
        """Numbers as ``printnumber`` and ``printbuffer`` show them."""
        if self.data == 1:
            shown = [self.number(v) if type(v) is float else tostring(v) for v in values]
            return ", ".join(shown).encode("latin-1", "replace")
        order, form = "><"[self.byteorder], "fd"[self.data - 2]
        try:
            return b"#0" + struct.pack(f"{order}{len(values)}{form}", *(tonumber(v) or 0.0 for v in values))
        except OverflowError:
            return b"#0" + struct.pack(f"{order}{len(values)}{form}", *(float("inf") for _ in values))


class Tsp:
    """What a line sent to the instrument does and what is said to it."""

    def __init__(
        self, model: str, serial: str, revision: str, *, limit: int = 200_000, identity: str = "",
        beyond: float | None = None, extended: bool = False,
    ) -> None:  # fmt: skip
        """`limit`: steps that one line may take before it is taken to never end; `identity`: the answer to ``*IDN?``;
        `beyond`: what ``printbuffer`` shows where a buffer has no reading, nothing if None;
        `extended`: whether its Lua knows operations on bits.
        """
        self.model, self.serial, self.revision = model, serial, revision
        self._identity = identity or f"Keithley Instruments Inc., Model {model}, {serial}, {revision}"
        self._beyond = beyond
        self.machine = Machine(limit=limit, on_steps=lambda steps: self.spend(steps * STATEMENT), extended=extended)
        self.format = Format()
        self.errors: deque[tuple[int, str, int]] = deque()
        self.standard = Register(latched=POWER_ON)
        self.request_enable = 0
        self.prompts = self.showerrors = 0
        self.hung = False
        """Whether a script runs that will not end."""
        self.spend: Callable[[float], None] = lambda seconds: None
        """Let time pass for the instrument, s."""
        self.wait: Callable[[], None] = lambda: None
        """Wait for what was begun; raises `Exhausted` if that never ends."""
        self.settle: Callable[[], None] = lambda: None
        """Wait for what was begun, as far as it goes on by itself."""
        self.reset: Callable[[], None] = lambda: None
        self.trigger: Callable[[], None] = lambda: None
        self.aborted: Callable[[], None] = lambda: None
        """Called after ``abort``."""
        self._out: list[bytes] = []
        self._loading: tuple[str, bool, list[str]] | None = None
        self._scripts = Table()
        install(self.machine)
        for name, value in self._tables().items():
            self.machine.globals.set(name, value)

    # ------------------------------------------------------------------ the wire

    def receive(self, line: bytes) -> bytes | None:
        """Take a line without its end; return what is said to it, several lines as one, or None."""
        text = line.decode("latin-1").strip("\0")
        word = text.strip().lower()
        if word == "abort":
            self.hung, self._loading = False, None
            self.aborted()
        elif not self.hung:
            self.machine.begin()
            try:
                self._take(text, word)
            except Exhausted:
                self.hung = True
                self._out.clear()
        if self.hung:
            return None
        if self.showerrors and self.errors and not self._loading:
            self._out += [f"{code}, {what}".encode("latin-1", "replace") for code, what, _ in self.errors]
            self.errors.clear()
        if self.prompts:
            self._out.append(b">>>>" if self._loading else b"TSP?" if self.errors else b"TSP>")
        found, self._out = self._out, []
        return b"\n".join(found) if found else None

    def fault(self, error: TspError) -> None:
        """Put an error into the queue."""
        self.standard.latched |= event_of(error.code)
        if len(self.errors) < ENTRIES:
            self.errors.append((error.code, error.text, RECOVERABLE))
        elif self.errors[-1][0] != -350:
            self.errors[-1] = (-350, TEXTS[-350], RECOVERABLE)

    def say(self, message: bytes) -> None:
        """Put a message into the output queue."""
        self._out.append(message)

    def factory_script(self, text: str) -> None:
        """Run a script as the instrument does on waking up. Raises `LuaError`, `LuaSyntaxError`."""
        self.machine.run(self.machine.load(text))

    def _take(self, text: str, word: str) -> None:
        if len(text) > LONGEST_LINE:
            self.fault(TspError(-363))
        elif self._loading is not None:
            if word == "endscript":
                name, run, lines = self._loading
                self._loading = None
                self._loaded(name, "\n".join(lines), run)
            else:
                self._loading[2].append(text)
        elif word.split(" ")[0] in ("loadscript", "loadandrunscript"):
            self._loading = (text.strip().partition(" ")[2].strip(), "run" in word.split(" ")[0], [])
        elif word.startswith("*"):
            for part in word.split(";"):
                self._common(part.strip())
        elif word.split(" ")[0] not in ("password", "endscript"):
            chunk = self._compiled(text)
            if chunk is not None:
                self._run(chunk)

    def _compiled(self, text: str) -> Closure | None:
        try:
            return self.machine.load(text)
        except LuaSyntaxError as error:
            self.fault(TspError(-285, f"TSP Syntax error at line {error.line}: {error.text}"))
            return None

    def _run(self, function: Any) -> None:
        try:
            self.machine.run(function)
        except LuaError as error:
            line = error.line or self.machine.line
            self.fault(TspError(-286, f"TSP Runtime error at line {line}: {error.text}"))
        except _Exit:
            pass

    def _common(self, command: str) -> None:
        """Common commands (appendix D), in any case."""
        name, _, argument = command.partition(" ")
        match name:
            case "*idn?":
                self.say(self._identity.encode())
            case "*rst":
                self.reset()
            case "*cls":
                self.errors.clear()
                self.standard.latched = 0
            case "*ese?" | "*sre?":
                self.say(b"%d" % (self.standard.enable if name == "*ese?" else self.request_enable))
            case "*ese" | "*sre" if argument.strip().isdigit():
                mask = int(argument.strip()[:9]) & 0xFF
                if name == "*ese":
                    self.standard.enable = mask
                else:
                    self.request_enable = mask
            case "*esr?":
                self.say(b"%d" % self.standard.event())
            case "*stb?":
                self.say(b"%d" % self.status_byte())
            case "*opc":
                self.wait()
                self.standard.latched |= OPERATION_COMPLETE
            case "*opc?":
                self.wait()
                self.say(b"1")
            case "*wai":
                self.wait()
            case "*trg":
                self.trigger()
            case "*tst?":
                self.say(b"0")
            case _:
                self.fault(TspError(-285, "TSP Syntax error at line 1: unexpected symbol near `*'"))

    def status_byte(self) -> int:
        """What ``*STB?`` and ``status.condition`` tell."""
        found = ERRORS_AVAILABLE if self.errors else 0
        found |= STANDARD_EVENT if self.standard.latched & self.standard.enable else 0
        return found | (REQUEST if found & self.request_enable else 0)

    # ------------------------------------------------------------------ tables of the instrument

    def attributes(
        self,
        kind: str,
        *,
        getters: Mapping[str, Callable[[], Any]] | None = None,
        setters: Mapping[str, Callable[[Any], None]] | None = None,
        objects: Mapping[str, Any] | None = None,
        at: Callable[[float], Any] | None = None,
    ) -> Table:
        """A table of attributes that are read and set by functions, and of constants, functions and tables.

        Numbers may be ints and functions plain ones: they become Lua's. `at` gives elements by number.
        A `TspError` of any of them goes to the error queue.
        """
        get, put = dict(getters or {}), dict(setters or {})
        fixed = {name: self.native(name, value) for name, value in (objects or {}).items()}

        def index(_table: Any, key: Any, *_: Any) -> Any:
            if isinstance(key, str):
                return _lua(self._guarded(get[key])) if key in get else fixed.get(key)
            return _lua(self._guarded(at, key)) if at is not None and type(key) is float else None

        def newindex(table: Table, key: Any, value: Any = None, *_: Any) -> Any:
            if key in put:
                self._guarded(put[key], value)
            elif key in get or key in fixed:
                raise LuaError(f"attempt to set read-only attribute `{key}'")
            else:
                table.set(key, value)
            return ()

        table = Table()
        table.meta = Table({"__index": Native("index", index), "__newindex": Native("newindex", newindex)})
        table.meta.set("Getters", Table({name: self.native(name, call) for name, call in get.items()}))
        table.meta.set("Setters", Table({name: self.native(name, call) for name, call in put.items()}))
        table.meta.set("Objects", Table(fixed))
        table.meta.set("luatype", kind)
        return table

    def node(self, table: Table) -> Table:
        """`table` as a node: what it does not have itself are the global variables (``localnode.smu.source.level``)."""
        assert table.meta is not None
        own = table.meta.get("__index")

        def index(of: Any, key: Any, *_: Any) -> Any:
            found = own.call(of, key)
            return self.machine.globals.get(key) if found is None else found

        table.meta.set("__index", Native("index", index))
        return table

    def native(self, name: str, value: Any) -> Any:
        """A Python function as a function of the instrument, with its errors queued; values as Lua's."""
        if not callable(value) or isinstance(value, Native):
            return _lua(value)
        return Native(name, lambda *arguments: _lua(self._guarded(value, *arguments)))

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except TspError as error:
            self.fault(error)
            return ()

    def _tables(self) -> dict[str, Any]:
        """Globals that every TSP instrument has."""
        form = self.format

        def choice(name: str, code: int, *allowed: int) -> Callable[[Any], None]:
            def put(value: Any) -> None:
                number = tonumber(value)
                if number not in allowed:
                    raise TspError(code)
                setattr(form, name, int(number))

            return put

        names = {"asciiprecision": range(17), "data": (1, 2, 3), "byteorder": (0, 1)}
        codes = {"asciiprecision": 1405, "data": 1406, "byteorder": 1404}
        formats = self.attributes(
            "format",
            getters={name: lambda name=name: getattr(form, name) for name in names},  # type: ignore[misc]
            setters={name: choice(name, codes[name], *names[name]) for name in names},
            objects={
                "ASCII": 1, "SREAL": 2, "REAL32": 2, "REAL": 3, "REAL64": 3, "DREAL": 3,
                "NORMAL": 0, "NETWORK": 0, "BIGENDIAN": 0, "SWAPPED": 1, "LITTLEENDIAN": 1,
            },
        )  # fmt: skip
        queue = self.attributes(
            "errorqueue",
            getters={"count": lambda: len(self.errors)},
            objects={"next": self._next_error, "clear": silent(lambda *_: self.errors.clear())},
        )
        scripts = {
            "new": lambda code=None, name=None, *_: self._script(tostring(code), tostring(name or "")),
            "delete": silent(lambda name=None, *_: self._scripts.set(name, None)),
            "run": lambda *_: self._run_script("anonymous"),
            "user": self.attributes("user", objects={"scripts": self._scripts, "catalog": self._catalog}),
        }  # fmt: skip
        functions = {
            "print": silent(self._print), "printnumber": silent(lambda *values: self.say(form.numbers(list(values)))),
            "printbuffer": silent(self._print_buffer), "exit": self._exit, "delay": silent(self._delay),
            "waitcomplete": silent(lambda *_: self.wait()), "opc": silent(self._opc),
            "makegetter": lambda table=None, name=None, *_: Native("get", lambda *_: self.machine.index(table, name)),
            "makesetter": lambda table=None, name=None, *_: Native(
                "set", silent(lambda value=None, *_: self.machine.assign(table, name, value))
            ),
        }  # fmt: skip
        script = self.attributes("script", objects=scripts)
        return {"format": formats, "errorqueue": queue, "script": script, "bit": _bits()} | {
            name: self.native(name, call) for name, call in functions.items()
        }

    # ------------------------------------------------------------------ functions

    def _print(self, *values: Any) -> None:
        shown = (self.format.number(v) if type(v) is float else self.machine.show(v) for v in values)
        self.say("\t".join(shown).encode("latin-1", "replace"))

    def _print_buffer(self, first: Any = None, last: Any = None, *tables: Any) -> None:
        """Elements of tables and reading buffers, those of equal number together (p. 7-167)."""
        start, end = tonumber(first), tonumber(last)
        if start is None or end is None or not tables:
            raise TspError(1400, TEXTS[1400] % 3)
        if not all(isinstance(table, Table) for table in tables):
            raise TspError(1401, TEXTS[1401] % 3)
        self.settle()
        sizes = [tonumber(self.machine.index(t, "n")) or float(t.length()) for t in tables]
        values = []
        last_one = min([end, *sizes]) if self._beyond is None else min(end, LONGEST_LINE)
        for n in range(max(1, int(start)), int(last_one) + 1):
            self.machine.step()
            values += [self.machine.index(table, float(n)) for table in tables]
        if None in values:
            self.fault(TspError(-222))
            values = [self._beyond if value is None else value for value in values]
        self.say(self.format.numbers(values))

    def _delay(self, seconds: Any = None, *_: Any) -> None:
        duration = tonumber(seconds)
        if duration is None:
            raise TspError(-104 if seconds is not None else -109)
        if duration > 0:
            self.spend(duration)

    def _opc(self, *_: Any) -> None:
        self.wait()
        self.standard.latched |= OPERATION_COMPLETE

    def _exit(self, *_: Any) -> None:
        raise _Exit

    def _next_error(self, *_: Any) -> tuple[float, str, float, float]:
        code, text, severity = self.errors.popleft() if self.errors else EMPTY
        return float(code), text, float(severity), 1.0

    # ------------------------------------------------------------------ scripts

    def _loaded(self, name: str, text: str, run: bool) -> None:
        script = self._script(text, name)
        if script is not None and run:
            self._run(script)

    def _script(self, text: str, name: str) -> Table | None:
        """Make a script; one with a name is a global variable of that name."""
        chunk = self._compiled(text)
        if chunk is None:
            return None
        script = self.attributes(
            "script_object",
            getters={"name": lambda: name, "source": lambda: text},
            objects={
                "run": lambda *_: tuple(self.machine.call(chunk)), "save": silent(lambda *_: None),
                "list": silent(lambda *_: self.say(text.encode("latin-1"))),
                "autorun": "no",
            },
        )  # fmt: skip
        assert script.meta is not None
        script.meta.set("__call", Native("run", lambda *_: tuple(self.machine.call(chunk))))
        self._scripts.set(name or "anonymous", script)
        if name:
            self.machine.globals.set(name, script)
        return script

    def _run_script(self, name: str) -> Any:
        found = self._scripts.get(name)
        return () if found is None else tuple(self.machine.call(found))

    def _catalog(self, *_: Any) -> Native:
        names: Iterator[str] = iter([name for name in self._scripts.items if self._scripts.items[name] is not None])
        return Native("catalog_aux", lambda *_: next(names, None))


class _Exit(Exception):
    """``exit()``: the script ends here."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number must be within; outside it is 1101 or 1102, no number is -104."""

    low: float = float("-inf")
    high: float = float("inf")
    allowed: tuple[float, ...] = field(default=())
    """If not empty, the only values; others are -222 (which code: unverified)."""

    def checked(self, value: Any) -> float:
        """The number that `value` is or spells. Raises `TspError`."""
        number = tonumber(value)
        if number is None or number != number:
            raise TspError(-104)
        if self.allowed and number not in self.allowed:
            raise TspError(-222)
        if number > self.high:
            raise TspError(1101)
        if number < self.low:
            raise TspError(1102)
        return number


def _lua(value: Any) -> Any:
    """A value of Python as one of Lua."""
    if isinstance(value, bool) or not isinstance(value, int | tuple):
        return value
    return float(value) if isinstance(value, int) else tuple(_lua(v) for v in value)


def _bits() -> Table:
    """Operations on whole numbers bit by bit (``bit.*``)."""

    def on(call: Callable[..., int]) -> Callable[..., float]:
        return lambda *values: float(call(*(int(tonumber(v) or 0) & 0xFFFFFFFF for v in values)))

    return library({
        "bitand": on(lambda a=0, b=0, *_: a & b), "bitor": on(lambda a=0, b=0, *_: a | b),
        "bitxor": on(lambda a=0, b=0, *_: a ^ b), "set": on(lambda a=0, n=1, *_: a | 1 << (n - 1 & 31)),
        "clear": on(lambda a=0, n=1, *_: a & ~(1 << (n - 1 & 31))),
        "toggle": on(lambda a=0, n=1, *_: a ^ 1 << (n - 1 & 31)),
        "get": on(lambda a=0, n=1, *_: a & 1 << (n - 1 & 31)),
        "getfield": on(lambda a=0, n=1, width=1, *_: a >> (n - 1 & 31) & (1 << width) - 1),
        "setfield": on(
            lambda a=0, n=1, width=1, field=0, *_: a & ~((1 << width) - 1 << n - 1)
            | (field & (1 << width) - 1) << n - 1
        ),
        "test": lambda a=None, n=None, *_: bool(int(tonumber(a) or 0) >> int(tonumber(n) or 1) - 1 & 1),
    })  # fmt: skip
