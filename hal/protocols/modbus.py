"""Modbus on our own links: where its messages end, how questions are put and replies taken apart. No I/O.

pymodbus is the codec here and nothing more: links, deadlines, retries and the write gate are ours, so
that a Modbus wire behaves like every other (docs/decisions/0002). It is imported at first use.

A *message* is the same on both kinds of wire, so that drivers and emulators need not know which one
they are on: a Modbus/TCP application data unit (transaction number, 0, length, unit, function, data).
`ModbusFraming` turns it into what the wire carries:

- TCP: the message itself. The client's end numbers every message as it leaves, retries included, so
  that a late reply never passes for another's.
- RTU: unit, function, data and CRC. There the end of a message is found by its function's length; bad
  CRCs are dropped; garbage before a good message is skipped. A reply does not say which register it
  is of, so a session must clear away owed replies before it asks again.

Sources: MODBUS Application Protocol Specification V1.1b3 (APP below); MODBUS over Serial Line V1.02
(SER); MODBUS Messaging on TCP/IP Implementation Guide V1.0b (TCP).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from .framing import Identifies, Matches

if TYPE_CHECKING:
    from pymodbus.pdu import DecodePDU, ModbusPDU

Table = Literal["coils", "inputs", "registers", "input registers"]
End = Literal["client", "server"]

HEADER = 7
"""Bytes of a message before the function code (TCP 3.1.3)."""
LONGEST_RTU = 256
"""SER 2.3."""
FUNCTIONS = (1, 2, 3, 4, 5, 6, 15, 16, 23)
"""The function codes spoken here (APP 6)."""
LOOPBACK = 8
"""Diagnostics, of which only "return query data" is used (APP 6.8)."""
READS: dict[Table, int] = {"coils": 1, "inputs": 2, "registers": 3, "input registers": 4}
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3

_EXCEPTIONS = {  # APP 7
    1: ("illegal function", "it can't do this at all; check the model and `driver`"),
    2: ("illegal data address", "it has no such register or coil; check the model and `driver`"),
    3: ("illegal data value", "the value is outside its own limits or not allowed now; check its configuration"),
    4: ("server device failure", "look at the instrument's own display"),
    5: ("acknowledge", "it needs long for this; ask again later"),
    6: ("server device busy", "ask again later; is another program talking to it?"),
    7: ("negative acknowledge", "it can't do this now"),
    8: ("memory parity error", "its memory is at fault; have it serviced"),
    10: ("gateway path unavailable", "the gateway is misconfigured or overloaded"),
    11: ("gateway target failed to respond", "is the instrument behind the gateway powered, and `unit` right?"),
}


class ModbusFraming:
    """One end of a Modbus wire: RTU on serial lines, MBAP on TCP."""

    def __init__(self, scheme: str, end: End = "client", *, baudrate: int = 9600) -> None:
        self.rtu = scheme != "tcp"
        self.quiet = max(3.5 * 11 / baudrate, 0.00175) if self.rtu and end == "client" else 0.0
        """Seconds of silence that must precede a message (SER 2.5.1.1); the session keeps them."""
        self.number = 0
        """Of the message last sent (TCP client)."""
        self._end = end
        self._buffer = b""
        if end == "server":  # pymodbus is loaded before the first question: masters wait as little as 50 ms
            _decoder(end)
            _crc(b"")

    def encode(self, message: bytes) -> bytes:
        if self.rtu:
            return with_crc(message[HEADER - 1 :])
        if self._end == "client":
            self.number = self.number % 0xFFFF + 1
            return self.number.to_bytes(2, "big") + message[2:]
        return message

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages = []
        while (message := self._next_rtu() if self.rtu else self._next_tcp()) is not None:
            messages.append(message)
        return messages

    def reset(self) -> None:
        self._buffer = b""

    def matches(self, question: bytes) -> Matches:
        """Return a test for what may be the reply to `question`."""
        unit, function = question[HEADER - 1], question[HEADER]

        def fits(reply: bytes) -> bool:
            if reply[HEADER - 1] != unit or (not self.rtu and int.from_bytes(reply[:2], "big") != self.number):
                return False
            if reply[HEADER] == function | 0x80:
                return True
            return reply[HEADER] == function and _echoes(question, reply)

        return fits if self.rtu else Identifies(fits, numbered=True)

    def _next_rtu(self) -> bytes | None:
        """Take the first good message out of the buffer, with whatever stands before it."""
        buffer, server = self._buffer, self._end == "server"
        for start in range(len(buffer) - 3):
            if not (0 if server else 1) <= buffer[start] <= 247:  # SER 2.2
                continue
            size = _size(buffer[start:], self._end)
            if size and start + size <= len(buffer) and _crc_is_good(buffer[start : start + size]):
                self._buffer = buffer[start + size :]
                return _message(buffer[start], buffer[start + 1 : start + size - 2])
        if server and len(buffer) >= 4 and _crc_is_good(buffer):
            # A function of unknown length; on a real line the silence after it would show its end.
            self._buffer = b""
            return _message(buffer[0], buffer[1:-2])
        self._buffer = buffer[-LONGEST_RTU:]
        return None

    def _next_tcp(self) -> bytes | None:
        """Take the first whole message; bytes that can't begin one are skipped."""
        while len(self._buffer) > HEADER:
            protocol, length = self._buffer[2:4], int.from_bytes(self._buffer[4:6], "big")
            end = 6 + length
            if protocol != b"\0\0" or not 2 <= length <= 254:
                self._buffer = self._buffer[1:]
            elif len(self._buffer) < end:
                return None
            else:
                message = self._buffer[:end]
                size = _size(message[HEADER - 1 :], "client") if self._end == "client" else None
                if size is not None and size - 2 != length:
                    self._buffer = self._buffer[1:]
                    continue
                self._buffer = self._buffer[end:]
                return message
        return None


# ---------------------------------------------------------------------- the client's questions and replies


def read(table: Table, unit: int, start: int, count: int) -> bytes:
    """Ask for `count` coils, inputs or registers from `start` on (APP 6.1 to 6.4)."""
    from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
    from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

    kinds = {
        "coils": ReadCoilsRequest, "inputs": ReadDiscreteInputsRequest,
        "registers": ReadHoldingRegistersRequest, "input registers": ReadInputRegistersRequest,
    }  # fmt: skip
    return _of_pdu(unit, kinds[table](address=start, count=count))


def write_coil(unit: int, address: int, value: bool) -> bytes:
    """Set one coil (APP 6.5)."""
    from pymodbus.pdu.bit_message import WriteSingleCoilRequest

    return _of_pdu(unit, WriteSingleCoilRequest(address=address, bits=[value]))


def write_coils(unit: int, address: int, values: Sequence[bool]) -> bytes:
    """Set neighbouring coils (APP 6.11)."""
    from pymodbus.pdu.bit_message import WriteMultipleCoilsRequest

    return _of_pdu(unit, WriteMultipleCoilsRequest(address=address, bits=list(values)))


def write_register(unit: int, address: int, word: int) -> bytes:
    """Set one register (APP 6.6)."""
    from pymodbus.pdu.register_message import WriteSingleRegisterRequest

    return _of_pdu(unit, WriteSingleRegisterRequest(address=address, registers=[word]))


def write_registers(unit: int, address: int, words: Sequence[int]) -> bytes:
    """Set neighbouring registers (APP 6.12)."""
    from pymodbus.pdu.register_message import WriteMultipleRegistersRequest

    return _of_pdu(unit, WriteMultipleRegistersRequest(address=address, registers=list(words)))


def loopback(unit: int, word: int) -> bytes:
    """Ask for `word` to be sent back: an answer that can't be taken for a register (APP 6.8, sub-function 0)."""
    return _message(unit, bytes((LOOPBACK, 0, 0)) + word.to_bytes(2, "big"))


def words(reply: bytes) -> list[int]:
    """The registers in a reply, 0 to 65535 each. Raises ValueError."""
    return list(_decoded(reply, "client").registers)


def bits(reply: bytes, count: int) -> list[bool]:
    """The coils or inputs in a reply. Raises ValueError."""
    found = list(_decoded(reply, "client").bits)
    if len(found) < count:
        raise ValueError(f"{len(found)} bits instead of {count}")
    return found[:count]


def exception(reply: bytes) -> str | None:
    """What an instrument that refuses says, with what to do about it; None if it does not refuse."""
    if not reply[HEADER] & 0x80:
        return None
    code = reply[HEADER + 1]
    name, remedy = _EXCEPTIONS.get(code, ("not in the standard", "see the instrument's manual"))
    return f"Modbus exception {code} ({name}); {remedy}"


def exception_code(reply: bytes) -> int:
    """The code with which an instrument refuses; 0 if it does not."""
    return reply[HEADER + 1] if reply[HEADER] & 0x80 else 0


def describe(question: bytes) -> str:
    """A question in words, for messages."""
    function, start = question[HEADER], int.from_bytes(question[HEADER + 1 : HEADER + 3], "big")
    count = int.from_bytes(question[HEADER + 3 : HEADER + 5], "big")
    unit = question[HEADER - 1]
    for table, code in READS.items():
        if code == function:
            return f"unit {unit}, reading {table} {start} to {start + count - 1}"
    kind = "coil" if function in (5, 15) else "register"
    return f"unit {unit}, writing {kind} {start}"


# ---------------------------------------------------------------------- the server's end


def decode_request(message: bytes) -> ModbusPDU:
    """Take a request apart. Raises ValueError where its counts or lengths contradict each other."""
    size = _size(message[HEADER - 1 :], "server")
    if size is None or size - 2 != len(message) - (HEADER - 1):
        raise ValueError("wrong length")
    return _decoded(message, "server")


def reply_to(request: bytes, pdu: ModbusPDU) -> bytes:
    """The message that answers `request` with `pdu`."""
    return _message(request[HEADER - 1], bytes([pdu.function_code]) + pdu.encode(), request[:2])


def refusal_of(request: bytes, code: int) -> bytes:
    """The message that refuses `request` with exception `code`."""
    return _message(request[HEADER - 1], bytes([request[HEADER] | 0x80, code]), request[:2])


def with_crc(data: bytes) -> bytes:
    """`data` followed by its CRC, low byte first (SER 2.5.1.2)."""
    return data + _crc(data).to_bytes(2, "big")


# ---------------------------------------------------------------------- private


def _echoes(question: bytes, reply: bytes) -> bool:
    """Whether a reply repeats what of the question a reply must repeat: length, address, count."""
    body = reply[HEADER + 1 :]
    match question[HEADER]:
        case 1 | 2:
            return body[0] == (int.from_bytes(question[HEADER + 3 : HEADER + 5], "big") + 7) // 8
        case 3 | 4 | 23:
            return body[0] == 2 * int.from_bytes(question[HEADER + 3 : HEADER + 5], "big")
        case 5 | 6:
            return body[:2] == question[HEADER + 1 : HEADER + 3]
        case _:
            return body[:4] == question[HEADER + 1 : HEADER + 5]


def _message(unit: int, pdu: bytes, number: bytes = b"\0\0") -> bytes:
    return number + b"\0\0" + (1 + len(pdu)).to_bytes(2, "big") + bytes([unit]) + pdu


def _of_pdu(unit: int, pdu: ModbusPDU) -> bytes:
    return _message(unit, bytes([pdu.function_code]) + pdu.encode())


def _decoded(message: bytes, end: End) -> ModbusPDU:
    pdu = _decoder(end).decode(message[HEADER:])
    if pdu is None:
        raise ValueError("not a Modbus message of this function")
    return pdu


@cache
def _decoder(end: End) -> DecodePDU:
    from pymodbus.pdu import DecodePDU

    return DecodePDU(is_server=end == "server")


def _size(data: bytes, end: End) -> int | None:
    """Length on a serial line of the message `data` begins with, 0 if more must come to know; None if it is none."""
    function = data[1]
    if end == "client" and function & 0x80:
        return 5 if function & 0x7F in (*FUNCTIONS, LOOPBACK) else None
    if end == "client" and function == LOOPBACK:
        return 8
    if function not in FUNCTIONS:
        return None
    kind = _decoder(end).lookupPduClass(data)
    size = kind.calculateRtuFrameSize(data) if kind is not None else LONGEST_RTU + 1
    return size if size <= LONGEST_RTU else None


def _crc(data: bytes) -> int:
    from pymodbus.framer import FramerRTU

    return int(FramerRTU.compute_CRC(data))


def _crc_is_good(data: bytes) -> bool:
    return _crc(data[:-2]) == int.from_bytes(data[-2:], "big")
