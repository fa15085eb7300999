"""The SCPI interpreter and its pieces."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.protocols.scpi import Blocks, Entry, ErrorQueue, Interpreter, parse_error, setting, split
from hal.protocols.scpi_parameters import Boolean, Choice, Numeric, ScpiError, Text


class Supply:
    """A made-up two-channel supply with a bit of everything."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.log: list[Any] = []
        volts = Numeric(-20, 20, 1.5, "V")
        self.scpi = Interpreter(
            "US,SUPPLY,1,2",
            [
                setting(":SOURce[1]:VOLTage[:LEVel][:IMMediate][:AMPLitude]", "volts", volts, self.values),
                setting(":SOURce[1]:VOLTage:RANGe:AUTO", "auto", Boolean(True), self.values),
                setting(":SOURce[1]:VOLTage:RANGe[:UPPer]", "range", Numeric(0, 100, 20, "V"), self.values),
                setting(":SOURce[1]:FUNCtion[:MODE]", "func", Choice(("VOLTage", "CURRent"), "VOLT"), self.values),
                setting(":DISPlay:TEXT", "text", Text(), self.values),
                Entry(":OUTPut#[:STATe]", lambda n, on: self.log.append((n, on)), takes=(Boolean(),)),
                Entry(":SYSTem:BEEPer", lambda *f: self.log.append(f), takes=(Numeric(), Numeric()), optional=1),
                Entry("[:SENSe]:DATA", read=lambda *names: "/".join(names), rest=Choice(("READing", "SOURce"))),
            ],
            on_reset=lambda: self.log.append("reset"),
        )

    def ask(self, message: str) -> str | None:
        reply = self.scpi.respond(message.encode())
        return None if reply is None else reply.decode()

    def errors(self) -> list[str]:
        return [str(self.scpi.errors.pop()) for _ in range(len(self.scpi.errors))]


@pytest.fixture
def supply() -> Supply:
    return Supply()


@pytest.mark.parametrize(
    "header",
    [":SOURce:VOLTage:LEVel:IMMediate:AMPLitude", "sour:volt", ":SOUR1:voltage:lev", "SOURCE1:VOLT:IMM:AMPL"],
)
def test_long_and_short_forms_in_any_case_with_nodes_left_out_reach_the_same_setting(
    supply: Supply, header: str
) -> None:
    supply.ask(f"{header} 3.25")
    assert supply.ask(f"{header}?") == "3.250000E+00"


@pytest.mark.parametrize("header", ["SOUR:VOLTA 1", "SOURC:VOLT 1", "SOUR2:VOLT 1", "VOLT 1", "SOUR:FUNC:LEV 1", "FOO"])
def test_forms_between_long_and_short_are_undefined_headers(supply: Supply, header: str) -> None:
    assert supply.ask(header) is None
    assert supply.errors() == ['-113,"Undefined header"']


def test_a_header_after_a_semicolon_starts_where_the_last_one_left_off(supply: Supply) -> None:
    assert supply.ask(":SOUR:VOLT:RANG:AUTO OFF;AUTO?;UPP 50;UPP?;:SOUR:FUNC CURR;FUNC?") == "0;5.000000E+01;CURR"
    assert supply.errors() == []


def test_common_commands_leave_the_path_alone(supply: Supply) -> None:
    assert supply.ask("SOUR:VOLT:RANG:AUTO 0;*OPC?;AUTO?") == "1;0"


def test_a_colon_before_a_common_command_and_a_last_semicolon_are_forgiven_as_keithley_does(supply: Supply) -> None:
    assert supply.ask("*RST;:stat:pres;:*CLS;") is None  # PyMeasure's Keithley2450.reset
    assert supply.log == ["reset"]
    assert supply.errors() == []


@pytest.mark.parametrize(
    ("text", "volts"),
    [("1.5e0", 1.5), ("-250 mV", -0.25), ("12V", 12), ("0.002KV", 2), ("MAX", 20), ("minimum", -20), ("DEF", 1.5),
     ("#HA", 10), ("+.5", 0.5)],
)  # fmt: skip
def test_numbers_come_with_units_multipliers_bases_and_names_of_bounds(supply: Supply, text: str, volts: float) -> None:
    supply.ask(f"SOUR:VOLT {text}")
    assert supply.errors() == []
    assert float(supply.ask("SOUR:VOLT?") or "nan") == pytest.approx(volts)


def test_a_query_with_a_bound_answers_the_bound_not_the_value(supply: Supply) -> None:
    assert supply.ask("SOUR:VOLT? MAX;VOLT? MIN;VOLT? DEF") == "2.000000E+01;-2.000000E+01;1.500000E+00"


@pytest.mark.parametrize(
    ("message", "code", "event"),
    [
        ("SOUR:VOLT 21", -222, 16),
        ("SOUR:VOLT 1e400", -123, 32),
        ("SOUR:VOLT #H" + 300 * "F", -123, 32),
        ("*SRE 1e400", -123, 32),
        ("SOUR:VOLT", -109, 32),
        ("SOUR:VOLT 1,2", -108, 32),
        ("SOUR:VOLT 'x'", -104, 32),
        ("SOUR:VOLT 1 A", -131, 32),
        ("SOUR:FUNC OHM", -224, 16),
        ("DISP:TEXT bare", -104, 32),
        ('DISP:TEXT "open', -151, 32),
        ("SYST:BEEP 1,,2", -109, 32),
        ("SOUR::VOLT 1", -102, 32),
        ("SOUR:V\xe4LT 1", -101, 32),
        ("*IDN", -113, 32),
        ("*RST?", -113, 32),
    ],
)
def test_what_is_wrong_with_a_message_is_in_the_error_queue_and_the_event_status(
    supply: Supply, message: str, code: int, event: int
) -> None:
    supply.ask("*ESR?")  # the power-on bit
    assert supply.scpi.respond(message.encode("latin-1")) is None
    assert [int(error.partition(",")[0]) for error in supply.errors()] == [code]
    assert supply.ask("*ESR?;*ESR?") == f"{event};0"


def test_a_message_not_understood_is_dropped_from_there_but_a_bad_value_costs_only_its_own_command(
    supply: Supply,
) -> None:
    assert supply.ask("SOUR:VOLT 99;FUNC CURR;FUNC?") == "CURR"
    assert supply.ask("SOUR:VLOT 9;FUNC VOLT;FUNC?") is None
    assert supply.ask("SOUR:FUNC?") == "CURR"


def test_strings_may_hold_separators_and_doubled_quotes(supply: Supply) -> None:
    supply.ask("DISP:TEXT 'it''s 5; or 6, or so'")
    assert supply.ask("DISP:TEXT?") == '"it\'s 5; or 6, or so"'


def test_suffixes_and_spaces_after_commas_reach_the_handler(supply: Supply) -> None:
    supply.ask("OUTP2 ON;:OUTPUT:STATE 0;:SYST:BEEP 500,   0.5;:syst:beeper 100")
    assert supply.log == [(2, True), (1, False), (500.0, 0.5), (100.0,)]
    assert supply.ask("DATA? READ, sour,reading") == "READ/SOUR/READ"


def test_the_error_queue_is_first_in_first_out_and_says_when_it_overflowed() -> None:
    queue = ErrorQueue(3)
    for code in (-113, -222, -109, -104):
        queue.push(ScpiError(code))
    assert [queue.pop().code for _ in range(4)] == [-113, -222, -350, 0]


def test_the_mandatory_queries_report_the_queue(supply: Supply) -> None:
    supply.ask("FOO")
    supply.ask("SOUR:VOLT 99")
    assert supply.ask("SYST:ERR:COUN?") == "2"
    assert supply.ask(":SYSTem:ERRor:NEXT?") == '-113,"Undefined header"'
    assert supply.ask("syst:err:code?") == "-222"
    assert supply.ask("SYST:ERR?") == '0,"No error"'


def test_the_status_byte_sums_up_what_is_enabled(supply: Supply) -> None:
    supply.ask("*CLS;*ESE 32;*SRE 36")
    assert supply.ask("*STB?") == "0"
    supply.ask("FOO")
    assert supply.ask("*STB?") == str(4 + 32 + 64)  # error queue, event summary, master summary
    assert supply.ask("*ESR?;*STB?") == f"32;{4 + 64}"
    supply.ask("*CLS;*OPC")
    assert supply.ask("*ESR?;*ESE?;*SRE?") == "1;32;36"


def test_errors_of_instruments_that_add_details_are_read_all_the_same() -> None:
    # Keithley 2450-901-01 p. 6-101, and '0,"No error;0;0 0"' as PyMeasure's tests have it.
    assert parse_error('-109,"Missing parameter;1,1367794863,384492889"') == (-109, "Missing parameter")
    assert parse_error('0,"No error;0;0 0"\n') == (0, "No error")
    assert parse_error('+0,"No error"') == (0, "No error")
    with pytest.raises(ValueError, match="no entry"):
        parse_error("1.5")


@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs"), exclude_characters="()'\"")), min_size=1
    )
)
def test_quoted_parts_survive_splitting(parts: list[str]) -> None:
    assert split(",".join(f'"{part}"' for part in parts), ",") == [f'"{part}"' for part in parts]


@given(st.binary(max_size=60))
def test_no_bytes_upset_the_interpreter(data: bytes) -> None:
    supply = Supply()
    supply.scpi.respond(data)
    supply.scpi.clear()
    assert supply.ask("*IDN?") == "US,SUPPLY,1,2"


@given(st.floats(-20, 20))
def test_a_number_set_comes_back(value: float) -> None:
    supply = Supply()
    supply.ask(f"SOUR:VOLT {value!r}")
    assert float(supply.ask("SOUR:VOLT?") or "nan") == pytest.approx(value, rel=1e-6, abs=1e-300)


# ---------------------------------------------------------------------- instruments before SCPI, binary blocks


@pytest.mark.parametrize(
    ("message", "answer"),
    [("LEV?A;*ESR?", "7;128"), ("LEV? A;FOO;LEV? A", "7;7"), ("SET A,,3;SET? A", "1,3"), (":LEV? A;:LEV? A", "7;7")],
)
def test_an_instrument_of_its_own_language_needs_no_blank_takes_empty_parameters_and_goes_on(
    message: str, answer: str
) -> None:
    pair = ["1", "2"]

    def write(_which: str, *given: str) -> None:
        pair[:] = [new or old for new, old in zip(given, pair, strict=True)]

    letter = Text(bare=True)
    table = [
        Entry("LEV", read=lambda which: "7", asks=(letter,), asks_at_least=1),
        Entry("SET", write, lambda which: ",".join(pair), (letter,) * 3, (letter,)),
    ]
    assert Interpreter("X", table, scpi=False).respond(message.encode()) == answer.encode()


def test_scpi_wants_its_blank_and_stops_at_what_it_does_not_understand(supply: Supply) -> None:
    assert supply.ask("SOUR:VOLT?MAX") is None
    assert supply.ask("*IDN?;FOO;*OPC?") is not None
    assert supply.errors() == ['-102,"Syntax error"', '-113,"Undefined header"']


def test_binary_blocks_stand_where_their_marks_were() -> None:
    blocks = Blocks()
    text = f"1;{blocks.floats([1.0, 10.0], big=True)};{blocks.floats([0.5], double=True)}"
    assert blocks.insert(text.encode()) == b"1;#0" + struct.pack(">2f", 1, 10) + b";#0" + struct.pack("<d", 0.5)
    assert blocks.insert(b"2") == b"2"
