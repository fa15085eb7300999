"""An emulated mass flow controller: obeys its setpoint with a lag, answers ProPar in binary and ASCII."""

from __future__ import annotations

import random
from math import exp
from typing import Any

from ..physics import Line
from . import codec, framing, parameters
from .codec import Packet
from .parameters import KEPT, Kept

SETTLING = 0.3  # s, of flow and valve
SAMPLING = 0.04  # s between two measurements
NAMES = {"argon": "Ar", "hydrogen": "H2", "nitrogen": "N2", "helium": "He", "oxygen": "O2"}


class BronkhorstEmulator:
    """One controller on a line of the shared world. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        gas: str = "argon",
        full_scale: float = 20.0,
        capacity_unit: str = "mln/min",
        control_mode: int = codec.BUS,
        device_type: str = "DMFC",
        serial: str = "",
        noise: float = 1e-3,
        local: bool = True,
        seed: int = 1,
    ) -> None:
        """`full_scale`: sccm. `noise`: of full scale. `local`: answers to node 0x80 as well (it owns the RS-232)."""
        self.reply_delay = 0.004
        self.node = int(unit) if unit is not None else 3
        self.gas, self.full_scale, self.noise, self.local = gas, full_scale, noise, local
        self.line: Line = world.lines.setdefault(gas, Line())
        self.capacity_unit = capacity_unit
        self.setpoint = 0  # counts; not kept over a power cycle
        self.control_mode = control_mode  # kept
        self.valve = 0.0
        self._sccm = codec.SCCM.get(capacity_unit, 1.0)
        self._random = random.Random(f"{seed} {self.node}")
        self._texts = {
            codec.IDENT: f"SNM{serial or f'2120{self.node:04d}A'}",
            codec.DEVICE_TYPE: device_type,
            codec.MODEL: "F-201CV-020-RAD-33-V",
            codec.SERIAL: serial or f"M2120{self.node:04d}A",
            codec.FIRMWARE: "V1.24",
            codec.FLUID: NAMES.get(gas, gas),
            codec.CAPACITY_UNIT: capacity_unit,
        }
        self._kept = {kept.parameter: kept for kept in KEPT}
        self.values = {kept.parameter: kept.initial for kept in KEPT}
        """Of further parameters."""
        self._known = {(p.process, p.code): p for p in (*_PARAMETERS, *self._texts, *self.values)}
        self._sloped = 0.0  # counts: where the setpoint has come by its slope
        self._age = 0.0
        self.measured = 0.0
        """sccm, as of the latest measurement."""
        self._measure()

    def framing(self, scheme: str) -> framing.BinaryOrAscii:
        return framing.BinaryOrAscii()

    def respond(self, message: bytes) -> bytes | None:
        mode = message[:1]
        if mode == b"e":
            return message if self.local else None
        try:
            packet = Packet.decode(message[1:])
        except ValueError:
            return None
        if packet.node != self.node and not (packet.node == codec.ANY_NODE and self.local):
            return None
        data = self._answer(packet.data)
        return None if data is None else mode + Packet(packet.sequence, packet.node, data).encode()

    def advance(self, dt: float) -> None:
        self._slope(dt)
        share = 1 - exp(-dt / SETTLING)
        self.line.flow += (self._target() - self.line.flow) * share
        if abs(self.line.flow) < 1e-6 * self.full_scale and self._target() == 0.0:
            self.line.flow = 0.0  # the valve seals
        self.valve += (min(self._target() / self.full_scale, 1.0) * 0.6 - self.valve) * share
        if self.values[parameters.COUNTER_MODE]:
            total = float(self.values[parameters.COUNTER]) + self.line.flow / 1000 * dt / 60  # ln
            self.values[parameters.COUNTER] = total
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    # ------------------------------------------------------------------ private

    def _measure(self) -> None:
        self._age = 0.0
        self.measured = self.line.flow + self._random.gauss(0.0, self.noise * self.full_scale)

    def _slope(self, dt: float) -> None:
        full = float(self.values[codec.SLOPE]) / 10  # s
        most = codec.FULL * dt / full if full else codec.FULL
        self._sloped += max(-most, min(most, self.setpoint - self._sloped))

    def _target(self) -> float:
        """sccm that the controller goes for."""
        match self.control_mode:
            case codec.BUS | codec.RS232:
                return self._sloped / codec.FULL * self.full_scale
            case 7:
                return self.full_scale
            case codec.FULLY_OPEN:
                return 1.2 * self.full_scale
            case codec.IDLE:
                return self.line.flow
            case _:
                return 0.0  # closed, or the analog input is at 0 V

    def _answer(self, data: bytes) -> bytes | None:
        command = data[0]
        try:
            if command == codec.READ:
                return self._read(codec.read_asked(data))
            if command in (codec.WRITE, codec.WRITE_SILENTLY):
                status, position = self._write(codec.written(data))
                if command == codec.WRITE_SILENTLY:
                    return None
                return codec.status_reply(status, position if status else len(data))
        except ValueError:
            return codec.status_reply(codec.BROKEN, 0)
        return codec.status_reply(2, 0) if command > codec.READ else None

    def _read(self, asked: list[codec.Asked]) -> bytes:
        values = []
        for one in asked:
            if (status := self._status(one.process, one.code)) != codec.OK:
                return codec.status_reply(status, one.position)
            parameter = self._known[one.process, one.code]
            raw = codec.encode_value(parameter, self._value(parameter))
            if parameter.kind == "text":
                raw = _text(str(self._value(parameter)), one.length)
            values.append(raw)
        return codec.answer(asked, values)

    def _write(self, written: list[tuple[int, int, bytes, int]]) -> tuple[int, int]:
        """Take values one after the other, up to the first that is refused."""
        for process, code, raw, position in written:
            if (status := self._status(process, code)) != codec.OK:
                return status, position
            parameter = self._known[process, code]
            value = codec.decode_value(parameter, raw)
            if parameter == codec.IDENT:
                continue  # wink: the LEDs blink
            assert not isinstance(value, str) or parameter.kind == "text"
            if parameter == codec.SETPOINT and isinstance(value, int):
                if value > codec.FULL:
                    return codec.WRONG_VALUE, position
                self.setpoint = value
            elif parameter == codec.FSETPOINT and isinstance(value, float):
                share = value * self._sccm / self.full_scale
                if not 0.0 <= share <= 1.0:
                    return codec.WRONG_VALUE, position
                self.setpoint = round(share * codec.FULL)
            elif parameter == codec.CONTROL_MODE and isinstance(value, int):
                if value not in codec.MODES:
                    return codec.WRONG_VALUE, position
                self.control_mode = value
            elif parameter in self._kept:
                if (status := self._keep(self._kept[parameter], value)) != codec.OK:
                    return status, position
            else:
                return codec.READ_ONLY, position
        return codec.OK, 0

    def _keep(self, kept: Kept, value: float | int | str) -> int:
        if kept.access == "read" or (
            kept.access == "locked" and self.values[parameters.INIT_RESET] != parameters.UNLOCK
        ):
            return codec.READ_ONLY
        if isinstance(value, int | float) and not (kept.high is None or 0 <= value <= kept.high):
            return codec.WRONG_VALUE
        if kept.parameter == parameters.INIT_RESET and value not in (parameters.UNLOCK, parameters.LOCK):
            return codec.WRONG_VALUE
        if kept.parameter == parameters.RESET:
            if value == 1:
                self.values[parameters.COUNTER] = 0.0
            return codec.OK
        self.values[kept.parameter] = value
        return codec.OK

    def _alarms(self) -> int:
        """Bits of the alarms that are on."""
        if self.values[parameters.ALARM_MODE] != 1:
            return 0
        counts, most = self._value(codec.MEASURE), self.values[parameters.ALARM_MAXIMUM]
        assert isinstance(counts, int)
        above = parameters.ABOVE_MAXIMUM if most and counts > float(most) else 0
        below = counts < float(self.values[parameters.ALARM_MINIMUM])
        return above | (parameters.BELOW_MINIMUM if below else 0)

    def _status(self, process: int, code: int) -> int:
        if (process, code) in self._known:
            return codec.OK
        if process not in {p for p, _ in self._known}:
            return codec.NO_PROCESS
        numbers = {c & 0x1F for p, c in self._known if p == process}
        return codec.WRONG_TYPE if code & 0x1F in numbers else codec.NO_PARAMETER

    def _value(self, parameter: codec.Parameter) -> float | int | str:
        if parameter in self._texts:
            return self._texts[parameter]
        if parameter in self.values:
            return self.values[parameter]
        match parameter:
            case codec.MEASURE:
                return max(-23593, min(41942, round(self.measured / self.full_scale * codec.FULL)))
            case codec.SETPOINT:
                return self.setpoint
            case codec.FMEASURE:
                return self.measured / self._sccm
            case codec.FSETPOINT:
                return self.setpoint / codec.FULL * self.full_scale / self._sccm
            case codec.CONTROL_MODE:
                return self.control_mode
            case codec.CAPACITY:
                return self.full_scale / self._sccm
            case codec.TEMPERATURE:
                return 25.0
            case codec.VALVE:
                return round(self.valve * 0xFFFFFF)
            case codec.CHANNELS:
                return 1
            case codec.ALARM_INFO:
                return self._alarms()
            case codec.ADDRESS:
                return self.node
            case codec.NEXT_ADDRESS:
                return 0  # it knows of no other (bronkhorst-propar's get_nodes ends there)
            case _:
                return 0


_PARAMETERS = (
    codec.ADDRESS, codec.NEXT_ADDRESS, codec.CHANNELS, codec.MEASURE, codec.SETPOINT, codec.CONTROL_MODE,
    codec.CAPACITY, codec.ALARM_INFO, codec.FMEASURE, codec.FSETPOINT, codec.TEMPERATURE, codec.VALVE,
)  # fmt: skip


def _text(text: str, length: int) -> bytes:
    """As asked: of a fixed length, or ended by a zero byte."""
    raw = text.encode("ascii")
    return bytes((length,)) + raw[:length].ljust(length) if length else b"\0" + raw + b"\0"
