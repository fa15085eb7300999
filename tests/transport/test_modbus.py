"""Modbus framing and matching: both ends, both kinds of wire, and the trap of the late reply."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.clock.timebase import Timebase
from hal.errors import NoReply, Refused
from hal.instrument import registers
from hal.instrument.bench import Bench
from hal.instrument.registers import Illegal, Register, RegisterMap
from hal.protocols import modbus
from hal.protocols.modbus import ModbusFraming
from hal.transport.fault import Faults, FaultyLink
from hal.transport.memory import MemoryLink
from hal.transport.session import Session

# MODBUS Application Protocol V1.1b3: the examples of 6.1, 6.3, 6.5, 6.6, 6.11, 6.12 (function and data).
SPECIFICATION = [
    (modbus.read("coils", 1, 0x13, 19), "01 00 13 00 13"),
    (modbus.read("registers", 1, 0x6B, 3), "03 00 6b 00 03"),
    (modbus.write_coil(1, 0xAC, True), "05 00 ac ff 00"),
    (modbus.write_register(1, 1, 3), "06 00 01 00 03"),
    (
        modbus.write_coils(1, 0x13, [True, False, True, True, False, False, True, True, True, False]),
        "0f 00 13 00 0a 02 cd 01",
    ),
    (modbus.write_registers(1, 1, [0x0A, 0x0102]), "10 00 01 00 02 04 00 0a 01 02"),
]
# INSTRUMENTS: from MinimalModbus' test suite: a Eurotherm's working setpoint, 18.4 degC.
QUESTION, REPLY = bytes.fromhex("010300050001940b"), bytes.fromhex("01030200b8b836")


class Shelf:
    """A table of 200 registers; register n holds n."""

    def __init__(self) -> None:
        self.words = list(range(200))

    def read(self, start: int, count: int) -> list[int]:
        if start + count > len(self.words):
            raise Illegal
        return self.words[start : start + count]

    def write(self, start: int, values: object) -> None:
        assert isinstance(values, list)
        if start + len(values) > len(self.words):
            raise Illegal
        self.words[start : start + len(values)] = values


class Device:
    """An emulator and, for the helpers of `registers`, the least of a driver."""

    reply_delay = 0.01

    def __init__(self) -> None:
        shelf = Shelf()
        self.map = RegisterMap(1, registers=shelf, coils=shelf, inputs=shelf, input_registers=shelf)
        self.delays: list[float] = []

    def framing(self, scheme: str) -> ModbusFraming:
        return ModbusFraming(scheme, "server")

    def respond(self, message: bytes) -> bytes | None:
        self.reply_delay = self.delays.pop(0) if self.delays else 0.01
        return self.map.respond(message)

    def advance(self, dt: float) -> None:
        """Nothing happens in it."""


@asynccontextmanager
async def wire(scheme: str) -> AsyncIterator[tuple[SimpleNamespace, Device, FaultyLink, list[bytes]]]:
    loop = asyncio.get_running_loop()
    emulator = Device()
    link = MemoryLink(Bench(SimpleNamespace(advance=lambda dt: None)).wire([emulator], scheme))
    faulty = FaultyLink(link, Faults())
    session = Session(faulty, ModbusFraming(scheme), timebase=Timebase.of_loop(loop.time), timeout=0.5)
    await session.open()
    driver = SimpleNamespace(
        name="dial", unit=1, channel=None, session=session, ask=session.ask, command=session.command
    )
    try:
        yield driver, emulator, faulty, link.sent
    finally:
        await session.close()


async def word(driver: SimpleNamespace, number: int) -> int:
    exchange = await registers.ask(driver, modbus.read("registers", 1, number, 1))
    return modbus.words(exchange.reply)[0]


# ---------------------------------------------------------------------- bytes


@pytest.mark.parametrize(("message", "expected"), SPECIFICATION)
def test_requests_are_those_of_the_specification(message: bytes, expected: str) -> None:
    assert message[modbus.HEADER :].hex(" ") == expected


def test_a_question_on_a_serial_line_is_the_one_of_the_public_test_suite() -> None:
    assert ModbusFraming("serial").encode(modbus.read("registers", 1, 5, 1)) == QUESTION
    [reply] = ModbusFraming("serial").feed(REPLY)
    assert modbus.words(reply) == [184]


def test_a_question_on_tcp_carries_the_header_of_the_guide() -> None:
    # Messaging on TCP/IP V1.0b, 3.1.3: transaction, protocol 0, length, unit.
    assert (
        ModbusFraming("tcp").encode(modbus.read("registers", 9, 5, 1)).hex(" ") == "00 01 00 00 00 06 09 03 00 05 00 01"
    )


@given(
    start=st.integers(0, 0xFF00),
    count=st.integers(1, 125),
    unit=st.integers(1, 247),
    scheme=st.sampled_from(["serial", "tcp"]),
    cuts=st.lists(st.integers(0, 300), max_size=5),
)
def test_what_one_end_sends_the_other_receives_in_any_portions(
    start: int, count: int, unit: int, scheme: str, cuts: list[int]
) -> None:
    client, server = ModbusFraming(scheme), ModbusFraming(scheme, "server")
    [request] = server.feed(client.encode(modbus.read("registers", unit, start, count)))
    shelf = SimpleNamespace(read=lambda first, number: [n & 0xFFFF for n in range(first, first + number)])
    reply = RegisterMap(unit, registers=shelf).respond(request)
    assert reply is not None
    carried, received, last = server.encode(reply), [], 0
    for cut in [*sorted(c for c in cuts if c < len(carried)), len(carried)]:
        received += client.feed(carried[last:cut])
        last = cut
    assert [modbus.words(message) for message in received] == [list(range(start, start + count))]


@given(garbage=st.binary(max_size=30), end=st.sampled_from(["client", "server"]))
def test_garbage_before_a_good_message_on_a_serial_line_is_skipped(garbage: bytes, end: modbus.End) -> None:
    good = REPLY if end == "client" else QUESTION
    framing = ModbusFraming("serial", end)
    messages = framing.feed(garbage) + framing.feed(good)
    assert messages
    assert messages[-1][modbus.HEADER - 1 :] == good[:-2]


def test_a_garbled_message_on_a_serial_line_is_dropped_and_the_next_one_understood() -> None:
    framing = ModbusFraming("serial")
    assert framing.feed(REPLY[:4] + b"\x99" + REPLY[5:]) == []
    assert len(framing.feed(REPLY)) == 1


def test_a_header_of_another_protocol_or_length_on_tcp_is_skipped() -> None:
    framing = ModbusFraming("tcp")
    good = bytes.fromhex("0001 0000 0005 01 03 02 00b8")
    wrong_length = bytes.fromhex("0001 0000 0007 01 03 02 00b8 ffff")
    assert framing.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n" + good) == [good]
    assert framing.feed(wrong_length + good) == [good]


def test_a_function_nobody_knows_is_refused_on_both_wires() -> None:
    request = b"\x00\x07\x00\x00\x00\x03\x01\x63\x00"
    for scheme in ("serial", "tcp"):
        server = ModbusFraming(scheme, "server")
        carried = request if scheme == "tcp" else modbus.with_crc(request[6:])
        [message] = server.feed(carried)
        reply = RegisterMap(1, registers=Shelf()).respond(message)
        assert reply is not None
        assert reply[modbus.HEADER :] == b"\xe3\x01"


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ("03 00 c8 00 01", 2),  # past the end
        ("03 00 c7 00 02", 2),  # reaches past the end
        ("03 00 00 00 00", 3),  # none at all
        ("03 00 00 00 7e", 3),  # 126, one too many (6.3)
        ("05 00 00 12 34", 3),  # neither on nor off (6.5)
        ("10 00 00 00 02 02 00 01", 3),  # byte count does not fit (6.12)
        ("0f 00 00 00 09 01 ff", 3),  # (6.11)
        ("03 00 00", 3),
        ("06 01 00 00 01", 2),
        ("07", 1),
    ],
)
def test_the_server_refuses_as_the_standard_says(pdu: str, code: int) -> None:
    body = bytes.fromhex(pdu)
    shelf = Shelf()
    before = list(shelf.words)
    message = b"\0\x05\0\0" + (len(body) + 1).to_bytes(2, "big") + b"\x01" + body
    reply = RegisterMap(1, registers=shelf, coils=shelf).respond(message)
    assert reply is not None
    assert reply[:2] == b"\0\x05"
    assert reply[modbus.HEADER :] == bytes([body[0] | 0x80, code])
    assert shelf.words == before


def test_other_units_stay_silent_and_a_broadcast_is_obeyed_in_silence() -> None:
    shelf = Shelf()
    table = RegisterMap(3, registers=shelf)
    assert table.respond(modbus.read("registers", 4, 0, 1)) is None
    assert table.respond(modbus.write_register(0, 0, 77)) is None
    assert shelf.words[0] == 77


def test_pymodbus_is_imported_only_when_a_message_is_made() -> None:
    code = (
        "import sys, hal.protocols.modbus, hal.instrument.registers, devices.eurotherm_3504.driver;"
        "sys.exit('pymodbus' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------- sessions


@pytest.mark.parametrize("scheme", ["serial", "tcp"])
async def test_a_late_reply_never_answers_the_next_question(scheme: str) -> None:
    async with wire(scheme) as (driver, emulator, _, _):
        emulator.delays = [0.7]  # later than the deadline
        question = modbus.read("registers", 1, 99, 1)
        with pytest.raises(NoReply):
            await driver.ask(question, repeatable=False, matches=driver.session.framing.matches(question))
        assert await word(driver, 11) == 11
        assert await word(driver, 12) == 12


@pytest.mark.parametrize("scheme", ["serial", "tcp"])
async def test_a_reply_late_for_a_cancelled_question_never_answers_the_next(scheme: str) -> None:
    async with wire(scheme) as (driver, emulator, _, _):
        emulator.delays = [0.3]
        asking = asyncio.create_task(word(driver, 99))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.wait([asking])
        assert await word(driver, 11) == 11


async def test_a_late_reply_on_tcp_does_not_even_answer_its_own_repetition() -> None:
    async with wire("tcp") as (driver, emulator, _, sent):
        emulator.delays = [0.6]  # arrives while the repetition waits
        exchange = await registers.ask(driver, modbus.read("registers", 1, 99, 1))
        assert [message[:2] for message in sent] == [b"\0\x01", b"\0\x02"]
        assert exchange.reply[:2] == b"\0\x02"


async def test_a_garbled_reply_on_a_serial_line_is_asked_for_again() -> None:
    async with wire("serial") as (driver, _, faulty, sent):
        faulty.faults.garble = 1.0
        asyncio.get_running_loop().call_later(0.4, setattr, faulty.faults, "garble", 0.0)
        assert await word(driver, 42) == 42
        assert len(sent) == 2


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (modbus.read("registers", 1, 500, 2), "dial: unit 1, reading registers 500 to 501: .*2 .illegal data address"),
        (modbus.write_registers(1, 199, [1, 2]), "dial: unit 1, writing register 199: .*illegal data address"),
    ],
)
async def test_a_refusal_names_what_was_asked_and_why_not(question: bytes, text: str) -> None:
    async with wire("serial") as (driver, _, _, _):
        with pytest.raises(Refused, match=text):
            await registers.ask(driver, question)


async def test_a_question_waits_for_the_silence_that_serial_lines_need() -> None:
    async with wire("serial") as (driver, _, _, _):
        loop = asyncio.get_running_loop()
        await word(driver, 1)
        before = loop.time()
        await word(driver, 2)
        assert loop.time() - before >= 0.01 + 3.5 * 11 / 9600 - 1e-9


async def test_neighbouring_registers_are_one_question_and_floats_lie_where_eurotherm_puts_them() -> None:
    async with wire("serial") as (driver, _, _, sent):
        low, high = Register(10, scale=0.1, block=(10, 14)), Register(14, scale=0.1, block=(10, 14))
        assert low.question(driver) == high.question(driver)
        payload = (await low.ask(driver)).payload
        assert (low.value(driver, payload), high.value(driver, payload)) == (1.0, pytest.approx(1.4))
        assert len(sent) == 1
        # HA026230: parameter 5 as a float is the pair at 0x8000 + 10; big-endian.
        assert (
            Register(5, float32=True).encode(driver, 18.4)[modbus.HEADER :].hex(" ") == "10 80 0a 00 02 04 41 93 33 33"
        )
