"""Emulated Eurotherm 3504 and 3216 that heat the world's specimen, or the body of its holder."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from devices.physics import BODY_FULL_POWER, FULL_POWER, World
from hal.instrument.registers import FLOATS, Illegal, RegisterMap
from hal.protocols.modbus import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusFraming

from . import codec
from .codec import Parameter

NOISE = 0.5  # K, one sigma of what is reported: a thermocouple a few turns from a lens coil
LOOP_NOISE = 0.03  # K: the loop acts on a smoothed input, else it would shake the specimen with its own noise


@dataclass(frozen=True, slots=True)
class Load:
    """What a controller heats, and how it was tuned for that."""

    full_power: float
    """W at 100 % output."""
    band: float
    """K: proportional band in engineering units, for 100 % output."""
    integral: float
    """s"""


LOADS = {
    "chip": Load(FULL_POWER, 400.0, 1.0),  # follows in a second
    "body": Load(BODY_FULL_POWER, 20.0, 60.0),  # takes minutes
}


class Eurotherm3504Emulator:
    """A controller that wakes up in automatic mode with its setpoint at 25 degC. `heats`: "chip" or "body"."""

    parameters: ClassVar[Sequence[Parameter]] = codec.PARAMETERS
    cycle: ClassVar[float] = codec.CYCLE

    def __init__(
        self,
        world: World,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        seed: int = 3504,
        temperature: float | None = None,
        heats: Literal["chip", "body"] = "chip",
        identifier: int = 0x3504,
        reply_delay: float = 0.02,
    ) -> None:
        self.world = world
        self.reply_delay = reply_delay
        if heats not in LOADS:
            raise ValueError(f'heats = {heats!r}: write "chip" or "body"')
        load, self._on_body = LOADS[heats], heats == "body"
        self._full_power, self.band, self.integral = load.full_power, load.band, load.integral
        if temperature is not None and self._on_body:
            world.body = temperature
        elif temperature is not None:
            world.temperature = temperature
        self.identifier, self.version = identifier, 0x0291
        self.select, self.sp1, self.sp2, self.remote = 0, 25.0, 25.0, 25.0
        self.sp_low, self.sp_high = 0.0, 1200.0
        self.rate, self.rate_disable = 0.0, 0
        self.manual, self.manual_output, self.output = 0, 0.0, 0.0
        self.setpoint_writes = 0
        """Writes of SP1, SP2 and target setpoint, of which the memory survives 100,000."""
        self._random = random.Random(seed)
        self._integral = 0.0  # % of output
        self._elapsed = 0.0
        self.pv = self._measured()
        self.working_setpoint = self.target
        self._map = RegisterMap(1 if unit is None else int(unit), registers=_Parameters(self))

    def framing(self, scheme: str) -> ModbusFraming:
        return ModbusFraming(scheme, "server")

    def respond(self, message: bytes) -> bytes | None:
        return self._map.respond(message)

    def advance(self, dt: float) -> None:
        self._elapsed += dt
        while self._elapsed >= self.cycle - 1e-9:
            self._elapsed -= self.cycle
            self._cycle()

    @property
    def target(self) -> float:
        return self.sp2 if self.select else self.sp1

    @target.setter
    def target(self, value: float) -> None:
        if self.select:
            self.sp2 = value
        else:
            self.sp1 = value

    @property
    def status(self) -> int:
        texts = ["manual"] if self.manual else []
        if self.working_setpoint != self.target:
            texts.append("ramping")
        return codec.encode_status(*texts)

    @property
    def _rate_seconds(self) -> float:
        """Of the unit of time of the setpoint rate."""
        return codec.SECONDS[0]

    @property
    def _standby(self) -> bool:
        return False

    def _measured(self) -> float:
        return self._sensed + self._random.gauss(0.0, NOISE)

    @property
    def _sensed(self) -> float:
        return self.world.body if self._on_body else self.world.temperature

    def _cycle(self) -> None:
        """One control cycle: measure, move the setpoint, work out the output."""
        self.pv = self._measured()
        felt = self._sensed + self._random.gauss(0.0, LOOP_NOISE)
        step = self.rate / self._rate_seconds * self.cycle
        away = self.target - self.working_setpoint
        if self.rate == 0 or self.rate_disable or abs(away) <= step:
            self.working_setpoint = self.target
        else:
            self.working_setpoint += math.copysign(step, away)
        proportional = (self.working_setpoint - felt) * 100 / self.band
        if self._standby:
            self.output = 0.0
        elif self.manual:
            self.output = self.manual_output
            self._integral = self.output - proportional  # so that the way back is bumpless
        else:
            integral = self._integral + (proportional * self.cycle / self.integral if self.integral else 0.0)
            wanted = proportional + integral
            self.output = min(max(wanted, 0.0), 100.0)
            if wanted == self.output:  # no wind-up while the output is at its end
                self._integral = integral
            else:
                self._integral = min(max(integral, 0.0), 100.0)
            self.manual_output = self.output  # so that manual mode takes over where automatic was
        heaters = self.world.body_heaters if self._on_body else self.world.heaters
        heaters[self] = self.output / 100 * self._full_power


class Eurotherm3216Emulator(Eurotherm3504Emulator):
    """A 3216: no rate to disable, but a mode, units of the rate, and a remote setpoint to choose."""

    parameters = codec.PARAMETERS_3216
    cycle = codec.CYCLE_3216

    def __init__(
        self, world: World, *, unit: int | str | None = None, channel: int | str | None = None, seed: int = 3216,
        temperature: float | None = None, heats: Literal["chip", "body"] = "chip", identifier: int = 0x3216,
        reply_delay: float = 0.02,
    ) -> None:  # fmt: skip
        self.mode, self.local, self.rate_unit, self.derivative = 0, 0, 0, 0.0
        super().__init__(
            world, unit=unit, channel=channel, seed=seed, temperature=temperature, heats=heats,
            identifier=identifier, reply_delay=reply_delay,
        )  # fmt: skip

    @property
    def target(self) -> float:
        return self.remote if self.local else super().target

    @target.setter
    def target(self, value: float) -> None:
        if self.select:
            self.sp2 = value
        else:
            self.sp1 = value

    @property
    def deviation(self) -> float:
        return self.pv - self.working_setpoint

    @property
    def _rate_seconds(self) -> float:
        return codec.SECONDS[self.rate_unit]

    @property
    def _standby(self) -> bool:
        return self.mode != 0


class _Parameters:
    """The instrument's one table of registers: scaled integers, and the same as floats from 0x8000 on."""

    def __init__(self, instrument: Eurotherm3504Emulator) -> None:
        self._instrument = instrument
        self._known = {parameter.number: parameter for parameter in instrument.parameters}

    def read(self, start: int, count: int) -> list[int]:
        if start < FLOATS:
            return [self._integer(self._at(start + n)) for n in range(count)]
        words: list[int] = []
        for parameter in self._floats(start, count):
            words += struct.unpack(">HH", struct.pack(">f", getattr(self._instrument, parameter.name)))
        return words

    def write(self, start: int, values: Sequence[int]) -> None:
        if start < FLOATS:
            writes = [(self._at(start + n), _signed(word)) for n, word in enumerate(values)]
            changes: list[tuple[Parameter, float]] = [
                (parameter, word / 10**parameter.decimals) for parameter, word in writes
            ]
        else:
            pairs = zip(values[::2], values[1::2], strict=False)
            numbers = [struct.unpack(">f", struct.pack(">HH", *pair))[0] for pair in pairs]
            changes = list(zip(self._floats(start, len(values)), numbers, strict=True))
        for parameter, value in changes:
            self._check(parameter, value)
        for parameter, value in changes:
            self._set(parameter, value)

    def _check(self, parameter: Parameter, value: float) -> None:
        # Which code the instrument gives for a read-only parameter is unverified.
        if parameter.low is None or parameter.high is None:
            raise Illegal(ILLEGAL_ADDRESS)
        low, high = parameter.low, parameter.high
        if parameter.name in ("target", "sp1", "sp2"):
            low, high = max(low, self._instrument.sp_low), min(high, self._instrument.sp_high)
        if not low <= value <= high:
            raise Illegal(ILLEGAL_VALUE)

    def _set(self, parameter: Parameter, value: float) -> None:
        if parameter.name in ("target", "sp1", "sp2"):
            self._instrument.setpoint_writes += 1
        if parameter.name == "manual_output" and not self._instrument.manual:
            return  # in automatic mode the loop writes it
        setattr(self._instrument, parameter.name, value if parameter.decimals else int(value))

    def _at(self, number: int) -> Parameter:
        if number not in self._known:
            raise Illegal(ILLEGAL_ADDRESS)
        return self._known[number]

    def _floats(self, start: int, count: int) -> list[Parameter]:
        if start % 2 or count % 2:
            raise Illegal(ILLEGAL_ADDRESS)
        return [self._at((start - FLOATS) // 2 + n) for n in range(count // 2)]

    def _integer(self, parameter: Parameter) -> int:
        value: int = round(float(getattr(self._instrument, parameter.name)) * 10**parameter.decimals)
        highest = 0x7FFF if parameter.decimals else 0xFFFF
        return min(max(value, -0x8000), highest) & 0xFFFF


def _signed(word: int) -> int:
    return word - 0x10000 if word >= 0x8000 else word
