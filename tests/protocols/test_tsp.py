"""Lua as instruments run it, and TSP around it."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.protocols.lua import Machine
from hal.protocols.lua_library import install
from hal.protocols.lua_syntax import parse
from hal.protocols.lua_values import Exhausted, LuaError, Native, Table, silent, tostring
from hal.protocols.lua_words import LuaSyntaxError
from hal.protocols.tsp import STATEMENT, Bounds, Format, Tsp, TspError


def run(text: str, limit: int = 50_000) -> list[Any]:
    """What a chunk returns."""
    machine = Machine(limit=limit)
    install(machine)
    return machine.run(machine.load(text))


# ---------------------------------------------------------------------- the language


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("return 1 + 2 * 3 ^ 2 / 2 - -1", [11.0]),
        ("return 2 ^ 3 ^ 2, -2 ^ 2", [512.0, -4.0]),
        ("return 'a' .. 1 .. 'b', '10' + 5, 1 == 1.0, '1' == 1", ["a1b", 15.0, True, False]),
        ("return not nil, nil or 'x', false and error('no'), 0 and 'zero is true'", [True, "x", False, "zero is true"]),
        ("local a, b, c = (function() return 1, 2, 3 end)() return c, b, a", [3.0, 2.0, 1.0]),
        ("local function f() return 1, 2 end return f(), f()", [1.0, 1.0, 2.0]),
        ("local function f() return 1, 2 end return (f())", [1.0]),
        ("local t = {1, 2, x = 'y', [10] = 5; (function() return 7, 8 end)()} return t[3], t[4], t.x, t[10]",
         [7.0, 8.0, "y", 5.0]),
        ("local n = 0 for i = 10, 1, -3 do n = n * 100 + i end return n", [10070401.0]),
        ("local n = 0 while true do n = n + 1 if n > 4 then break end end return n", [5.0]),
        ("local n = 0 repeat n = n + 1 until n == 3 return n", [3.0]),
        ("local s = '' for k, v in {a = 1, b = 2} do s = s .. k .. v end return s", ["a1b2"]),  # 5.0: a table itself
        ("local function f(...) return arg.n, arg[2] end return f('a', 'b', nil)", [3.0, "b"]),  # 5.0: arg
        ("local t = {n = 0, add = function(self, x) self.n = self.n + x end} t:add(2) t:add(3) return t.n", [5.0]),
        ("local f = {} for i = 1, 3 do f[i] = function() return i end end return f[1](), f[3]()", [1.0, 3.0]),
        ("function a() return b() end function b() return 'later' end return a()", ["later"]),
        ("return [[two\nlines]], \"q\\\"\\065\\n\" -- and a comment", ["two\nlines", 'q"A\n']),
        ("--[[ a long\n [[nested]] comment ]] return 1", [1.0]),
        ("local t = setmetatable({}, {__index = function(t, k) return k .. '!' end}) return t.x, rawget(t, 'x')",
         ["x!", None]),
        ("local log = {} local t = setmetatable({}, {__newindex = log}) t.a = 1 return rawget(t, 'a'), log.a",
         [None, 1.0]),
        ("local v = setmetatable({}, {__add = function(a, b) return 'sum' end, __call = function(s, x) return x "
         "end}) return v + 1, v(3)", ["sum", 3.0]),
        ("return 1 / 0, -1 / 0, 2 ^ 2000, math.floor(-1.5), math.mod(7, 3)",
         [math.inf, -math.inf, math.inf, -2.0, 1.0]),
        ("return pcall(function() return nil + 1 end)", [False, "attempt to perform arithmetic on a nil value"]),
    ],
)  # fmt: skip
def test_it_runs_as_the_manual_of_lua_says(text: str, values: list[Any]) -> None:
    assert run(text) == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("return string.find('12.50 V', '(%d+)%.(%d+)')", [1.0, 5.0, "12", "50"]),
        ("return string.find('a.b', '.', 1, true), string.find('abc', 'x')", [2.0, None]),
        ("return string.gsub('a,b,c', ',', ';', 1)", ["a;b,c", 1.0]),
        ("return string.gsub('hello', '(l)(o)', '%2%1')", ["helol", 1.0]),
        ("return string.gsub('f(a(b)c)', '%b()', string.upper)", ["f(A(B)C)", 1.0]),
        ("local s = '' for k, v in string.gfind('a=1, b=22', '(%w+)=(%w+)') do s = s .. v .. k end return s",
         ["1a22b"]),
        ("return string.sub('volts', 2, -2), string.sub('volts', -3), string.len(''), string.byte('A'), "
         "string.char(66)",
         ["olt", "lts", 0.0, 65.0, "B"]),
        ("return string.format('%5.2f|%-4d|%s|%e|%g|%x|%%|%q', 3.14159, 7, 'x', 0.5, 0.5, 255, 'a\"b')",
         [' 3.14|7   |x|5.000000e-01|0.5|ff|%|"a\\"b"']),
        ("local t = {3, 1, 2} table.sort(t) table.insert(t, 1, 0) table.insert(t, 9) return table.concat(t, ' '), "
         "table.remove(t), table.getn(t)",
         ["0 1 2 3 9", 9.0, 4.0]),
        ("local t = {'b', 'a'} table.sort(t, function(x, y) return x > y end) return unpack(t)", ["b", "a"]),
        ("return tonumber('0x'), tonumber(' 5e-3 '), tonumber('ff', 16), tostring(1e15), tostring(0.1), tostring(nil)",
         [None, 0.005, 255.0, "1e+15", "0.1", "nil"]),
        ("return loadstring('return 6 * 7')(), type(print), math.max(1, 5, 2), math.abs(-3)", [42.0, "nil", 5.0, 3.0]),
    ],
)  # fmt: skip
def test_the_library_does_what_the_manual_of_lua_says(text: str, values: list[Any]) -> None:
    assert run(text) == values


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("*", "unexpected symbol near `*'", 1),  # seen on a 2450, cited by users of its error queue
        ("x", "`=' expected near `<eof>'", 1),
        ("\nx = 1 +", "unexpected symbol near `<eof>'", 2),
        ("do", "`end' expected near `<eof>'", 1),  # seen on a DMM6500
        ("for i = 1, 2 do\n\n", "`end' expected (to close `for' at line 1) near `<eof>'", 3),
        ("x = #t", "unexpected symbol near `#'", 1),  # no length operator in 5.0
        ("x = 5 % 2", "unexpected symbol near `%'", 1),
        ("f(", "unexpected symbol near `<eof>'", 1),
        ("x = 'abc", "unfinished string near `'abc'", 1),
        ("break", "no loop to break near `<eof>'", 1),
        ("return 1 x = 2", "<eof> expected near `x'", 1),
        ("local function f(a,) end", "<name> expected near `)'", 1),
        (":SYST:ERR?", "unexpected symbol near `?'", 1),
        ("(" * 200 + "1" + ")" * 200, "chunk has too many syntax levels", 1),
    ],
)
def test_what_is_no_lua_is_told_in_its_words(text: str, message: str, line: int) -> None:
    with pytest.raises(LuaSyntaxError) as error:
        parse(text)
    assert (error.value.text, error.value.line) == (message, line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smu.channel.x = 1", "attempt to index field `channel' (a nil value)"),  # a 2600 says so
        ("smub.reset()", "attempt to index global `smub' (a nil value)"),  # a 2651A says so: keithley2600, issue 17
        ("nosuch()", "attempt to call global `nosuch' (a nil value)"),
        ("local a = {} a.b.c()", "attempt to index field `b' (a nil value)"),
        ("local a = 1 return a.x", "attempt to index local `a' (a number value)"),
        ("return {} .. 'x'", "attempt to concatenate a table value"),
        ("return 1 < 'x'", "attempt to compare number with string"),
        ("return {} < {}", "attempt to compare two table values"),
        ("error('mine')", "mine"),
        ("for i = 'x', 2 do end", "`for' initial value must be a number"),
        ("local t = {} t[nil] = 1", "table index is nil"),
    ],
)
def test_run_time_errors_name_what_was_touched_and_where(text: str, message: str) -> None:
    machine = Machine()
    machine.globals.set("smu", Table())
    machine.globals.set("error", Native("error", lambda text: _raise(text)))
    with pytest.raises(LuaError) as error:
        machine.run(machine.load("\n\n" + text))
    assert error.value.text == message
    assert (error.value.line or machine.line) == 3


def _raise(text: str) -> None:
    raise LuaError(text)


@pytest.mark.parametrize(
    "text",
    [
        "while true do end", "repeat until false", "for i = 1, 1e300 do end", "for i = 1, 0, 0 do end",
        "while true do pcall(error) end", "local function f() pcall(f) pcall(f) end f()",
        "while true do pcall(string.rep, 'x', 1e9) end", "local s = 'x' while true do pcall(function() s = s .. "
        "s end) end",
        "string.find(string.rep('a', 5000), string.rep('a-', 30) .. 'b')",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end while true do "
        "pcall(function() return t.x end) end",
    ],
)  # fmt: skip
def test_no_script_runs_forever(text: str) -> None:
    with pytest.raises((Exhausted, LuaError)):
        run(text, limit=5_000)


def test_endless_recursion_is_an_error_a_script_can_catch() -> None:
    assert run("local function f() return 1 + f() end return pcall(f)") == [False, "stack overflow"]


def test_endless_texts_are_an_error_and_no_end_of_memory() -> None:
    assert run("return pcall(string.rep, 'x', 1e12)") == [False, "not enough memory"]
    with pytest.raises(Exhausted):  # each is short enough, all together are not
        run("local t = {} for n = 1, 1e6 do t[n] = string.rep('x', 1e6) end", limit=2_000)


WORDS = [
    "and", "break", "do", "else", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or", "repeat",
    "return", "then", "true", "until", "while", "a", "b", "t", "1", "2.5", "'x'", "=", "==", "~=", "<", "+", "-", "*",
    "/",
    "^", "..", "(", ")", "{", "}", "[", "]", ",", ";", ":", ".", "print", "pcall", "string.gsub", "table.insert",
    "setmetatable", "next", "pairs(t)", "[[", "]]", "--", "\n", "unpack", "error", "tostring", "loadstring", "#", "%",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_words_are_run_refused_or_end(words: list[str]) -> None:
    try:
        run("t = {1, 2} " + " ".join(words), limit=2_000)
    except (LuaError, LuaSyntaxError, Exhausted):
        pass


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_text_is_run_or_refused(text: str) -> None:
    try:
        run(text, limit=2_000)
    except (LuaError, LuaSyntaxError, Exhausted):
        pass


expressions = st.recursive(
    st.integers(0, 20).map(str) | st.floats(0.125, 8, width=16).map(repr),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner, st.booleans()).map(
        lambda parts: f"({' '.join(parts[:3])})" if parts[3] else " ".join(parts[:3])
    ),
    max_leaves=12,
)


@given(expressions, expressions)
@settings(max_examples=100, deadline=None)
def test_arithmetic_agrees_with_another_language(left: str, right: str) -> None:
    assert run(f"return {left}, {left} < {right}") == [eval(left), eval(f"{left} < {right}")]


@given(st.floats(-1e300, 1e300), st.integers(1, 16))
def test_a_printed_number_is_read_back_to_its_digits(value: float, digits: int) -> None:
    shown = Format(asciiprecision=digits).number(value)
    assert float(shown) == pytest.approx(value, rel=0.6 * 10.0 ** (1 - digits), abs=1e-320)
    assert len(shown.lstrip("-").partition("e")[0].replace(".", "")) == digits


def test_tables_keep_true_and_one_apart_and_survive_removal_while_walked_through() -> None:
    assert run("local t = {[1] = 'one', [true] = 'yes'} return t[1], t[true]") == ["one", "yes"]
    text = "local t = {a = 1, b = 2, c = 3} for k in pairs(t) do t[k] = nil end return next(t)"
    assert run(text) == [None]


# ---------------------------------------------------------------------- the instrument around it


@pytest.fixture
def tsp() -> Tsp:
    return Tsp("2602B", "0123456", "3.3.5")


def said(tsp: Tsp, *lines: str) -> list[str]:
    """What the instrument says to lines, line by line."""
    found = [tsp.receive(line.encode("latin-1")) for line in lines]
    return [part for reply in found if reply is not None for part in reply.decode("latin-1").split("\n")]


def test_numbers_are_printed_as_the_manual_shows(tsp: Tsp) -> None:
    # 2600BS-901-01, example of printnumber().
    assert said(tsp, "format.asciiprecision = 10", "x = 2.54", "printnumber(x)") == ["2.540000000e+00"]
    assert said(tsp, "format.asciiprecision = 3", "printnumber(x, 2.54321, 3.1)") == ["2.54e+00, 2.54e+00, 3.10e+00"]
    assert said(tsp, "format.asciiprecision = 17", "print(errorqueue.next())")[0].split("\t")[:2] == [
        "1.40e+03",
        "Invalid ASCII precision",
    ]


def test_values_of_one_print_are_tabbed_and_each_print_is_a_message(tsp: Tsp) -> None:
    assert said(tsp, "print(50, 'text', true, nil)", "print() print('a') print('b')") == [
        "5.00000e+01\ttext\ttrue\tnil", "", "a", "b",
    ]  # fmt: skip


def test_the_error_queue_is_first_in_first_out_with_severity_and_node(tsp: Tsp) -> None:
    said(tsp, ":SYST:ERR?", "smua.x = 1")
    assert said(tsp, "print(errorqueue.count)") == ["2.00000e+00"]
    assert said(tsp, *["print(errorqueue.next())"] * 3) == [
        "-2.85000e+02\tTSP Syntax error at line 1: unexpected symbol near `?'\t2.00000e+01\t1.00000e+00",
        "-2.86000e+02\tTSP Runtime error at line 1: attempt to index global `smua' (a nil "
        "value)\t2.00000e+01\t1.00000e+00",
        "0.00000e+00\tQueue Is Empty\t0.00000e+00\t1.00000e+00",
    ]  # fmt: skip
    said(tsp, "*", "errorqueue.clear()")
    assert not tsp.errors


def test_a_full_error_queue_says_so_and_takes_no_more(tsp: Tsp) -> None:
    for _ in range(150):
        tsp.receive(b"*")
    assert len(tsp.errors) == 100
    assert tsp.errors[-1][0] == -350


def test_a_line_with_a_syntax_error_does_nothing_and_a_run_time_error_ends_it_there(tsp: Tsp) -> None:
    assert said(tsp, "print('a') print(", "print('b') nosuch() print('c')") == ["b"]


def test_local_variables_end_with_their_line_and_globals_stay(tsp: Tsp) -> None:
    assert said(tsp, "local a = 1 b = 2", "print(a, b)") == ["nil\t2.00000e+00"]


def test_scripts_are_loaded_run_and_called_by_name(tsp: Tsp) -> None:
    assert said(tsp, "loadscript twice", "for n = 1, 2 do", "print(n)", "end", "endscript") == []
    assert said(tsp, "twice()", "twice.run()", "print(twice.name)") == ["1.00000e+00", "2.00000e+00"] * 2 + ["twice"]
    assert said(tsp, "loadandrunscript", "local a = 'now'", "print(a)", "endscript", "script.run()") == ["now"] * 2
    assert said(tsp, "loadandrunscript wrong", "x = 1", "for", "endscript") == []
    assert "line 2" in tsp.errors[0][1]


def test_common_commands_are_taken_in_any_case(tsp: Tsp) -> None:
    assert said(tsp, "*idn?", "*OPC?", "*tst?") == ["Keithley Instruments Inc., Model 2602B, 0123456, 3.3.5", "1", "0"]
    assert said(tsp, "*ESR?", "*ESR?") == ["128", "0"]  # it was switched on
    assert said(tsp, "*ese 16", "*", "*STB?", "*ESR?", "*ESE?") == ["36", "16", "16"]
    assert said(tsp, "*CLS;*OPC;*ESR?") == ["1"]


def test_prompts_tell_when_a_line_is_done(tsp: Tsp) -> None:
    tsp.prompts = 1
    assert said(tsp, "print(1)", "*", "loadscript x", "endscript") == ["1.00000e+00", "TSP>", "TSP?", ">>>>", "TSP?"]


def test_a_script_that_never_ends_silences_the_instrument_until_it_is_aborted(tsp: Tsp) -> None:
    tsp.machine.limit = 3_000
    assert said(tsp, "print('before') while true do end", "print(1)", "*IDN?") == []
    assert said(tsp, "abort", "print(1)") == ["1.00000e+00"]


def test_waiting_again_and_again_is_no_endless_script(tsp: Tsp) -> None:
    tsp.wait = lambda: tsp.machine.step(1_000)
    assert said(tsp, *["*OPC?"] * 500) == ["1"] * 500


def test_every_statement_takes_time(tsp: Tsp) -> None:
    spent: list[float] = []
    tsp.spend = spent.append
    said(tsp, "for n = 1, 1000 do end", "delay(0.5)")
    assert sum(spent) == pytest.approx(0.5 + 1000 * STATEMENT, rel=0.02)


@pytest.mark.parametrize(("data", "order", "form"), [("REAL32", "SWAPPED", "<3f"), ("DREAL", "NORMAL", ">3d")])
def test_binary_numbers_come_in_a_block_of_the_order_asked_for(tsp: Tsp, data: str, order: str, form: str) -> None:
    line = f"format.data = format.{data} format.byteorder = format.{order} printbuffer(1, 3, {{1, 0.5, -2}})"
    assert tsp.receive(line.encode()) == b"#0" + struct.pack(form, 1.0, 0.5, -2.0)


def test_attributes_name_themselves_in_the_metatable_and_refuse_what_is_out_of_bounds(tsp: Tsp) -> None:
    kept = {"level": 0.0}
    bounds = Bounds(-1, 1)
    tsp.machine.globals.set("smu", tsp.attributes(
        "smu", getters={"level": lambda: kept["level"], "count": lambda: 3},
        setters={"level": lambda value: kept.update(level=bounds.checked(value))},
        objects={"ON": 1, "zap": silent(lambda *_: kept.update(level=0.5))},
    ))  # fmt: skip
    assert said(tsp, "smu.level = 2 smu.level = -2 smu.level = 'x' print(smu.level)") == ["0.00000e+00"]
    assert [code for code, _, _ in tsp.errors] == [1101, 1102, -104]
    assert said(tsp, "smu.level = '0.25' print(smu.level, smu.ON)") == ["2.50000e-01\t1.00000e+00"]
    assert said(tsp, "print(smu.zap()) print(smu.level)") == ["", "5.00000e-01"]
    # As the package keithley2600 finds out what there is.
    said(tsp, "mt = getmetatable(smu)")
    assert said(tsp, "print(next(mt.Objects, nil))", "print(next(mt.Objects, 'ON'))")[0] == "ON\t1.00000e+00"
    assert said(tsp, "print(mt.Setters['count'])", "print(mt.Setters['level'])")[0] == "nil"
    assert said(tsp, "print(type(mt.Getters.level), mt.luatype)") == ["function\tsmu"]


def test_getters_made_by_makegetter_read_the_attribute_anew(tsp: Tsp) -> None:
    assert said(tsp, "t = {x = 1} get = makegetter(t, 'x') t.x = 5 print(get())") == ["5.00000e+00"]


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_rubbish_on_the_line_is_an_error_at_most(line: bytes) -> None:
    tsp = Tsp("X", "1", "1")
    tsp.machine.limit = 2_000
    tsp.receive(line)
    tsp.receive(b"abort")
    assert said(tsp, "print('there')") == ["there"] or tsp._loading


def test_errors_of_functions_are_queued_and_the_script_goes_on(tsp: Tsp) -> None:
    def refuse(*_: Any) -> None:
        raise TspError(5007, "too much")

    tsp.machine.globals.set("refuse", tsp.native("refuse", refuse))
    assert said(tsp, "refuse() print('on')") == ["on"]
    assert list(tsp.errors) == [(5007, "too much", 20)]


def test_what_is_no_text_is_shown_by_its_kind() -> None:
    assert tostring(Table()).startswith("table: ")
    assert tostring(Native("x", len)).startswith("function: ")


@pytest.mark.parametrize("text", ["print(1 | 2)", "print(1 != 2)", "print(0x1F)", "print(!true)"])
def test_what_newer_instruments_added_to_lua_is_no_lua_elsewhere(text: str) -> None:
    with pytest.raises(LuaSyntaxError):
        parse(text)
    assert parse(text, extended=True)
