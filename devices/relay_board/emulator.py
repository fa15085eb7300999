"""An emulated board of eight relays that switch the world's gas valves and its beam blanker.

Beyond the coils it is as Waveshare's Modbus POE ETH Relay (B): flips, pulses, all relays at once, inputs, and a few
registers; asked at address 0, it tells its own. Of that one it lacks the baud rate's register; modes are kept and,
since nothing is connected to its inputs, do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from devices.physics import World
from hal.instrument.registers import Illegal, RegisterMap
from hal.protocols import modbus
from hal.protocols.modbus import ModbusFraming

from . import codec
from .codec import CHANNELS

GASES = {1: "argon", 2: "hydrogen"}
BLANKER = 8


class RelayBoardEmulator:
    """All relays are released at power-up; an energised one opens its valve or blanks the beam."""

    def __init__(
        self,
        world: World,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        gases: Mapping[int, str] = GASES,
        blanker: int | None = BLANKER,
        reply_delay: float = 0.005,
    ) -> None:
        self.world, self.gases, self.blanker, self.reply_delay = world, dict(gases), blanker, reply_delay
        self.energised = [False] * CHANNELS
        self.switched = [0] * CHANNELS
        """How often each relay has changed: contacts wear."""
        self.registers = _Registers(1 if unit is None else int(unit))
        self._map = RegisterMap(self.registers.unit, coils=self, inputs=_Inputs(), registers=self.registers)
        self._pulses: dict[int, tuple[float, bool]] = {}
        """s that are left, and what comes then, by coil."""
        for channel_number in range(1, CHANNELS + 1):
            self._act(channel_number)

    def framing(self, scheme: str) -> ModbusFraming:
        return ModbusFraming(scheme, "server")

    def respond(self, message: bytes) -> bytes | None:
        unit, function = message[modbus.HEADER - 1], message[modbus.HEADER]
        if function == 5 and unit in (0, self._map.unit) and self._own(*_words(message)):
            return message if unit else None
        if unit == 0 and function == 3:
            message = message[: modbus.HEADER - 1] + bytes([self._map.unit]) + message[modbus.HEADER :]
        reply = self._map.respond(message)
        self._map.unit = self.registers.unit
        return reply

    def advance(self, dt: float) -> None:
        """Relays switch within milliseconds; pulses end."""
        for at, (left, after) in list(self._pulses.items()):
            self._pulses[at] = left - dt, after
            if left - dt <= 1e-9:
                self.write(at, [after])

    def _own(self, address: int, value: int) -> bool:
        """Carry out what the standard's function 5 doesn't have; return whether it was that."""
        which = range(CHANNELS) if address == codec.EVERY else range(address, min(address + 1, CHANNELS))
        if value == codec.FLIP and which:
            for at in which:
                self.write(at, [not self.energised[at]])
        elif address == codec.EVERY and value in (0x0000, 0xFF00):
            self.write(0, [value] * CHANNELS)
        else:
            base, at = divmod(address, 0x100)
            if base * 0x100 not in (codec.PULSE_ON, codec.PULSE_OFF) or at >= CHANNELS or not 0 < value < 0x8000:
                return False
            on = base * 0x100 == codec.PULSE_ON
            self.write(at, [on])
            self._pulses[at] = value * codec.PULSE, not on
        return True

    # ------------------------------------------------------------------ the table of coils

    def read(self, start: int, count: int) -> list[int]:
        if start + count > CHANNELS:
            raise Illegal
        return [int(on) for on in self.energised[start : start + count]]

    def write(self, start: int, values: Sequence[int]) -> None:
        if start + len(values) > CHANNELS:
            raise Illegal
        for at, value in enumerate(values, start):
            self._pulses.pop(at, None)
            if self.energised[at] != bool(value):
                self.energised[at] = bool(value)
                self.switched[at] += 1
                self._act(at + 1)

    def _act(self, channel: int) -> None:
        on = self.energised[channel - 1]
        self.world.valves[channel] = on
        if channel in self.gases:
            self.world.lines[self.gases[channel]].open = on
        if channel == self.blanker:
            self.world.blanked = on


def _words(message: bytes) -> tuple[int, int]:
    data = message[modbus.HEADER + 1 :]
    return int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")


class _Inputs:
    """Eight, with nothing connected."""

    def read(self, start: int, count: int) -> list[int]:
        if start + count > CHANNELS:
            raise Illegal
        return [0] * count

    def write(self, start: int, values: Sequence[int]) -> None:
        raise Illegal(modbus.ILLEGAL_FUNCTION)


class _Registers:
    """Modes of the inputs, the board's address, its version."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.modes = [0] * CHANNELS

    def read(self, start: int, count: int) -> list[int]:
        if (start, count) in ((codec.ADDRESS, 1), (codec.VERSION, 1)):
            return [self.unit if start == codec.ADDRESS else 100]
        first = start - codec.MODE
        if not 0 <= first <= first + count <= CHANNELS:
            raise Illegal
        return self.modes[first : first + count]

    def write(self, start: int, values: Sequence[int]) -> None:
        first = start - codec.MODE
        if start == codec.ADDRESS and len(values) == 1:
            if not 1 <= values[0] <= 0xFF:
                raise Illegal(modbus.ILLEGAL_VALUE)
            self.unit = values[0]
        elif not 0 <= first <= first + len(values) <= CHANNELS:
            raise Illegal
        elif not all(0 <= value < codec.MODES for value in values):
            raise Illegal(modbus.ILLEGAL_VALUE)
        else:
            self.modes[first : first + len(values)] = values
