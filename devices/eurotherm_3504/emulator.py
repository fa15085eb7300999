"""Emulated Eurotherm 3504 and 3216 that heat the world's specimen, or the body of its holder."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from devices.physics import BODY_FULL_POWER, FULL_POWER, World
from hal.instrument.registers import RegisterMap
from hal.protocols.bisynch import BisynchFraming
from hal.protocols.framing import Framing
from hal.protocols.modbus import HEADER, ModbusFraming

from . import codec
from .bisynch import Comms
from .codec import Parameter
from .registers import EXTERNAL, KEPT, KEPT_3216, OFFSET, OUTPUT_HIGH, OUTPUT_LOW, SENSOR_TYPE, Kept, Registers

PROTOCOLS = ("modbus", "bisynch")
RESTART = 5.0  # s out of reach on the way back from configuration (HA026230, 5.7)
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
    """A controller that wakes up in automatic mode with its setpoint at 25 degC.

    Settings: `heats`, "chip" or "body"; `protocol`, "modbus" or "bisynch" (EI-Bisynch), as its configuration has it.
    """

    parameters: ClassVar[Sequence[Parameter]] = codec.PARAMETERS
    kept: ClassVar[Sequence[Kept]] = KEPT
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
        protocol: Literal["modbus", "bisynch"] = "modbus",
    ) -> None:
        self.world = world
        self.reply_delay = reply_delay
        if heats not in LOADS:
            raise ValueError(f'heats = {heats!r}: write "chip" or "body"')
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol = {protocol!r}: write one of {', '.join(PROTOCOLS)}")
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
        self.derivative = 0.0
        self.settings = {parameter.number: default for parameter, default in self.kept}
        self.setpoint_writes = 0
        """Writes of SP1, SP2 and target setpoint, of which the memory survives 100,000."""
        self._random = random.Random(seed)
        self._integral = 0.0  # % of output
        self._elapsed = self._restarting = 0.0
        self.pv = self._measured()
        self.working_setpoint = self.target
        registers = Registers(self)
        self._map = RegisterMap(1 if unit is None else int(unit), registers=registers, input_registers=registers)
        self._bisynch = Comms(self, registers) if protocol == "bisynch" else None

    def framing(self, scheme: str) -> Framing:
        return ModbusFraming(scheme, "server") if self._bisynch is None else BisynchFraming()

    def respond(self, message: bytes) -> bytes | None:
        if self._restarting:
            return None
        configured = self._mode == codec.CONFIGURATION
        try:
            if self._bisynch is not None:
                return self._bisynch.respond(message, 0 if configured else self._map.unit)
            return self._modbus(message)
        finally:
            self._restarting = RESTART if configured and self._mode != codec.CONFIGURATION else 0.0

    def _modbus(self, message: bytes) -> bytes | None:
        unit, pdu = message[HEADER - 1], message[HEADER:]
        if unit == self._map.unit and pdu == b"\x07":  # fast read of status (HA026230, 3.17)
            return message[: HEADER - 3] + b"\0\x03" + bytes([unit, 7, self.status & 0xFF])
        if unit == self._map.unit and pdu[:3] == b"\x08\0\0":  # loopback (3.18)
            return message
        return self._map.respond(message)

    def advance(self, dt: float) -> None:
        self._elapsed += dt
        self._restarting = max(0.0, self._restarting - dt)
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
    def deviation(self) -> float:
        return self.pv - self.working_setpoint

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
    def _mode(self) -> float:
        return self.settings[codec.MODE]

    @property
    def _standby(self) -> bool:
        """Whether its outputs are off, whatever the loop says (HA026230, 5.4 and 5.7)."""
        return self._mode != 0

    def _measured(self, noise: float = NOISE) -> float:
        if self.settings.get(SENSOR_TYPE) == EXTERNAL[0]:
            return self.settings[EXTERNAL[1]]
        return self._sensed + self._random.gauss(0.0, noise) + self.settings[OFFSET]

    @property
    def _sensed(self) -> float:
        return self.world.body if self._on_body else self.world.temperature

    def _cycle(self) -> None:
        """One control cycle: measure, move the setpoint, work out the output."""
        self.pv = self._measured()
        felt = self._measured(LOOP_NOISE)
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
            self.output = min(max(wanted, 0.0, self.settings[OUTPUT_LOW]), self.settings[OUTPUT_HIGH])
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
    kept = KEPT_3216
    cycle = codec.CYCLE_3216

    def __init__(
        self, world: World, *, unit: int | str | None = None, channel: int | str | None = None, seed: int = 3216,
        temperature: float | None = None, heats: Literal["chip", "body"] = "chip", identifier: int = 0x3216,
        reply_delay: float = 0.02, protocol: Literal["modbus", "bisynch"] = "modbus",
    ) -> None:  # fmt: skip
        self.mode, self.local, self.rate_unit = 0, 0, 0
        super().__init__(
            world, unit=unit, channel=channel, seed=seed, temperature=temperature, heats=heats,
            identifier=identifier, reply_delay=reply_delay, protocol=protocol,
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
    def _rate_seconds(self) -> float:
        return codec.SECONDS[self.rate_unit]

    @property
    def _mode(self) -> float:
        return self.mode
