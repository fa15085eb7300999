"""Modbus registers and coils as the places where signals live, and the tables an emulator keeps of them.

Signals whose registers lie in one declared block share one query:

    LOOP = (1, 5)
    temperature = SignalR(float, "degC", at=Register(1, float32=True, block=LOOP))
    output = SignalR(float, "%", at=Register(4, float32=True, block=LOOP))
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..errors import ConfigError, LimitError, Refused
from ..model.reading import Answer
from ..protocols import modbus
from ..protocols.framing import Matches
from ..transport.session import Exchange

FLOATS = 0x8000
"""Where Eurotherm instruments repeat parameter `number` as a 32-bit float: FLOATS + 2 * number (HA026230)."""


async def ask(device: Any, question: bytes) -> Exchange:
    """Ask a Modbus question for `device`. Raises `Refused` with the exception's name and remedy."""
    exchange: Exchange = await device.ask(question, matches=_matches(device, question))
    return _accepted(device, question, exchange)


async def command(device: Any, message: bytes) -> Exchange:
    """Write registers or coils, absolute values only: the write may be repeated. Raises `Refused`."""
    exchange: Exchange = await device.command(message, idempotent=True, matches=_matches(device, message))
    return _accepted(device, message, exchange)


def unit_of(device: Any) -> int:
    """The device's address on the wire, 1 unless the lab file says otherwise. Raises `ConfigError`."""
    unit = 1 if device.unit is None else device.unit
    if not str(unit).isdecimal() or not 1 <= int(unit) <= 255:
        raise ConfigError(f"{device.name}: unit = {unit!r} is no Modbus address; give 1 to 247, as it was set")
    return int(unit)


@dataclass(frozen=True)
class Register:
    """A number in one 16-bit register, or in the pair that repeats it as a float."""

    number: int
    scale: float = 1.0
    """The signal's value of one count (of 1.0 for floats)."""
    signed: bool = True
    float32: bool = False
    step: float = 0.0
    """Resolution of a float in its own unit, where the manual gives one; values between are refused."""
    block: tuple[int, int] | None = None
    """First and last register of the query that fetches this one too."""
    table: Literal["registers", "input registers"] = "registers"
    parse: Callable[[float], Any] = float
    shape: Callable[[Any], float] = float
    verify: bool = False
    """Read back what was written."""

    def question(self, device: Any) -> Hashable:
        return ("modbus", self.table, unit_of(device), *self._span())

    async def ask(self, device: Any) -> Answer:
        exchange = await ask(device, modbus.read(self.table, unit_of(device), *self._span()))
        return Answer(exchange.reply, exchange.sent, exchange.received)

    def value(self, device: Any, payload: bytes) -> Any:
        words = modbus.words(payload)
        first = self.block[0] if self.block else self.number
        if self.float32:
            at = 2 * (self.number - first)
            (raw,) = struct.unpack(">f", struct.pack(">HH", *words[at : at + 2]))
        else:
            raw = words[self.number - first]
            if self.signed and raw >= 0x8000:
                raw -= 0x10000
        return self.parse(raw * self.scale)

    def encode(self, device: Any, value: Any) -> bytes:
        """The message that writes `value`. Raises `LimitError` if the register can't hold just that."""
        raw = self.shape(value) / self.scale
        step = self.step if self.float32 else 1.0
        if step:
            count = round(raw / step)
            if abs(raw / step - count) > 1e-4:
                below, above = (n * step * self.scale for n in (raw // step, raw // step + 1))
                raise LimitError(
                    f"{device.name}: {value:g} lies between two values the register {self.number} can hold, "
                    f"{below:.6g} and {above:.6g}; nothing was sent."
                )
            raw = count * step
        if self.float32:
            pair = struct.unpack(">HH", struct.pack(">f", raw))
            return modbus.write_registers(unit_of(device), FLOATS + 2 * self.number, pair)
        low, high = (-0x8000, 0x7FFF) if self.signed else (0, 0xFFFF)
        if not low <= raw <= high:
            raise LimitError(f"{device.name}: {value:g} does not fit register {self.number}; nothing was sent.")
        return modbus.write_register(unit_of(device), self.number, int(raw) & 0xFFFF)

    async def put(self, device: Any, value: Any) -> None:
        await command(device, self.encode(device, value))
        if self.verify:
            taken = self.value(device, (await self.ask(device)).payload)
            # A float keeps 24 bits; anything coarser is the instrument's own doing.
            if abs(self.shape(taken) - self.shape(value)) > 1e-6 * abs(self.shape(value)) + 1e-9:
                raise Refused(
                    device.name,
                    f"register {self.number} was set to {value:g} and reads back {taken:g}; "
                    "check the limits and the resolution set in the instrument itself",
                )

    def _span(self) -> tuple[int, int]:
        """Address and number of the registers to be read."""
        first, last = self.block or (self.number, self.number)
        if self.float32:
            return FLOATS + 2 * first, 2 * (last - first + 1)
        return first, last - first + 1


@dataclass(frozen=True)
class Coil:
    """One bit: a relay, a digital output or input."""

    number: int | Callable[[Any], int]
    """Address, or how to find it for a device."""
    block: tuple[int, int] | None = None
    table: Literal["coils", "inputs"] = "coils"

    def question(self, device: Any) -> Hashable:
        return ("modbus", self.table, unit_of(device), *self._span(device))

    async def ask(self, device: Any) -> Answer:
        exchange = await ask(device, modbus.read(self.table, unit_of(device), *self._span(device)))
        return Answer(exchange.reply, exchange.sent, exchange.received)

    def value(self, device: Any, payload: bytes) -> Any:
        first, count = self._span(device)
        return modbus.bits(payload, count)[self._number(device) - first]

    async def put(self, device: Any, value: Any) -> None:
        await command(device, modbus.write_coil(unit_of(device), self._number(device), value))

    def _number(self, device: Any) -> int:
        return self.number if isinstance(self.number, int) else self.number(device)

    def _span(self, device: Any) -> tuple[int, int]:
        first, last = self.block or (self._number(device),) * 2
        return first, last - first + 1


# ---------------------------------------------------------------------- for emulators


class Illegal(ValueError):
    """An instrument's own refusal, by exception code."""

    def __init__(self, code: int = modbus.ILLEGAL_ADDRESS) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Space(Protocol):
    """One of an emulated instrument's four tables; both methods raise `Illegal`."""

    def read(self, start: int, count: int) -> list[int]:
        """Return `count` values from `start` on."""
        ...

    def write(self, start: int, values: Sequence[int]) -> None:
        """Set neighbouring values, all of them or none."""
        ...


class RegisterMap:
    """The server's side of Modbus: answers for one unit, refuses as the standard says."""

    def __init__(
        self,
        unit: int,
        *,
        coils: Space | None = None,
        inputs: Space | None = None,
        registers: Space | None = None,
        input_registers: Space | None = None,
    ) -> None:
        self.unit = unit
        self._spaces: dict[int, Space] = {}
        for space, functions in (
            (coils, (1, 5, 15)), (inputs, (2,)), (registers, (3, 6, 16, 23)), (input_registers, (4,)),
        ):  # fmt: skip
            if space is not None:
                self._spaces |= dict.fromkeys(functions, space)

    def respond(self, message: bytes) -> bytes | None:
        """Answer `message` unless it is for another unit; a broadcast (unit 0) is carried out in silence."""
        unit, function = message[modbus.HEADER - 1], message[modbus.HEADER]
        if unit not in (0, self.unit):
            return None
        try:
            reply = self._answer(message, function)
        except Illegal as refused:
            reply = modbus.refusal_of(message, refused.code)
        return None if unit == 0 else reply

    def _answer(self, message: bytes, function: int) -> bytes:
        from pymodbus.pdu import bit_message as bit
        from pymodbus.pdu import register_message as word

        space = self._spaces.get(function)
        if space is None:
            raise Illegal(modbus.ILLEGAL_FUNCTION)
        try:
            request: Any = modbus.decode_request(message)
        except ValueError:
            raise Illegal(modbus.ILLEGAL_VALUE) from None
        address, count = request.address, request.count
        reply: Any
        match function:
            case 1 | 2:
                kind: Any = bit.ReadCoilsResponse if function == 1 else bit.ReadDiscreteInputsResponse
                reply = kind(bits=[bool(b) for b in space.read(address, count)])
            case 3 | 4:
                kind = word.ReadHoldingRegistersResponse if function == 3 else word.ReadInputRegistersResponse
                reply = kind(registers=space.read(address, count))
            case 5:
                if message[modbus.HEADER + 3 :] not in (b"\xff\x00", b"\x00\x00"):  # APP 6.5
                    raise Illegal(modbus.ILLEGAL_VALUE)
                space.write(address, [int(request.bits[0])])
                reply = bit.WriteSingleCoilResponse(address=address, bits=request.bits)
            case 6:
                space.write(address, request.registers)
                reply = word.WriteSingleRegisterResponse(address=address, registers=request.registers)
            case 15:
                if request.byte_count != (count + 7) // 8 or not 1 <= count <= 0x7B0:  # APP 6.11
                    raise Illegal(modbus.ILLEGAL_VALUE)
                space.write(address, [int(b) for b in request.bits])
                reply = bit.WriteMultipleCoilsResponse(address=address, count=count)
            case 16:
                if request.byte_count != 2 * count or not 1 <= count <= 0x7B:  # APP 6.12
                    raise Illegal(modbus.ILLEGAL_VALUE)
                space.write(address, request.registers)
                reply = word.WriteMultipleRegistersResponse(address=address, count=count)
            case _:
                if request.write_byte_count != 2 * request.write_count or request.write_count > 0x79:  # APP 6.17
                    raise Illegal(modbus.ILLEGAL_VALUE)
                space.read(request.read_address, request.read_count)  # refuses before anything is written
                space.write(request.write_address, request.write_registers)
                reply = word.ReadWriteMultipleRegistersResponse(
                    registers=space.read(request.read_address, request.read_count)
                )
        return modbus.reply_to(message, reply)


# ---------------------------------------------------------------------- private


def _matches(device: Any, question: bytes) -> Matches:
    framing: modbus.ModbusFraming = device.session.framing
    return framing.matches(question)


def _accepted(device: Any, question: bytes, exchange: Exchange) -> Exchange:
    refusal = modbus.exception(exchange.reply)
    if refusal is not None:
        raise Refused(device.name, f"{modbus.describe(question)}: {refusal}")
    return exchange
