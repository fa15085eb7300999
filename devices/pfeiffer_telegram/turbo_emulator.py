"""An emulated TC 110 with a small turbo pump: minutes to run up, longer to run down, and too much gas stops it.

It feels the pressure of the column. Not emulated: venting, the fore pump, the plug for remote control beyond its
priority, and accessories; their settings are kept. Speeds and times are those of a HiPace 80 (data sheet: 1500 Hz,
1.75 min; unverified).
"""

from __future__ import annotations

from math import exp
from typing import Any

from . import turbo_codec
from .codec import Value, decode_data
from .emulator import Telegraph
from .turbo_codec import PARAMETERS, Parameter

FRICTION = 1.0  # /s of the speed at 1000 Pa
FULL_CURRENT, IDLE_CURRENT = 4.5, 0.35  # A, running up and at speed
VOLTAGE = 24.0
WARM, WARMING = 20.0, 600.0  # K above the room after long, s


class PfeifferTcEmulator(Telegraph):
    """One drive. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        sees: str = "column",
        drive: str = "TC 110",
        nominal: float = 1500.0,
        run_up: float = 105.0,
        run_down: float = 300.0,
        seed: int = 1,
    ) -> None:
        """`sees`: whose pressure brakes it. `drive`: as parameter 349 says. `nominal`: Hz.
        `run_up`: s. `run_down`: s, time constant without gas."""
        self.reply_delay = 0.005
        self.world, self.sees, self.drive, self.nominal = world, sees, drive, nominal
        self.run_up, self.run_down = run_up, run_down
        self.address = int(unit) if unit is not None else 1
        self.values: dict[int, Value] = {n: p.initial for n, p in PARAMETERS.items() if p.settable}
        self.values[turbo_codec.ADDRESS.number] = self.address
        self.speed = 0.0  # Hz
        self.error = turbo_codec.NO_ERROR
        self.remote = False
        """Somebody has the remote plug: what comes by telegram does not switch."""
        self.history: list[str] = []
        self.cycles = 0
        self._climbing = 0.0  # s below the switch point while on
        self._heat = 0.0  # K
        self._accelerates = False

    # ------------------------------------------------------------------ life

    def advance(self, dt: float) -> None:
        gas = FRICTION * getattr(self.world, self.sees) / 1000.0
        self.speed *= exp(-dt * ((0.0 if self.pumping else 1 / self.run_down) + gas))
        target = self.target if self.pumping else 0.0
        self._accelerates = self.pumping and self.speed < target - 0.5
        if self._accelerates:
            self.speed = min(self.speed + self.nominal / self.run_up * dt, target)
        elif not self.pumping and self.speed < 0.5:
            self.speed = 0.0
        self._heat += (WARM * self.speed / self.nominal - self._heat) * (1 - exp(-dt / WARMING))
        self._watch_run_up(dt)

    @property
    def pumping(self) -> bool:
        """Whether the motor drives: station and motor on, no error."""
        on = self.values[turbo_codec.STATION.number] and self.values[turbo_codec.MOTOR.number]
        return bool(on) and not self.error.startswith("Err")

    @property
    def target(self) -> float:
        """Hz"""
        if self.values[turbo_codec.STANDBY.number]:
            return self.nominal * float(self.values[turbo_codec.STANDBY_SET.number]) / 100
        if self.values[turbo_codec.SPEED_MODE.number]:
            return self.nominal * float(self.values[turbo_codec.SPEED_SET.number]) / 100
        return self.nominal

    def fail(self, code: str) -> None:
        """Show an error or warning; an error stops the pump."""
        self.error = code
        self.history = [code, *self.history][:10]

    def _watch_run_up(self, dt: float) -> None:
        below = self.speed < self._switch_point * min(self.target / self.nominal, 1.0)
        self._climbing = self._climbing + dt if self.pumping and below else 0.0
        allowed = float(self.values[turbo_codec.RUN_UP_TIME.number]) * 60
        if self.values[turbo_codec.RUN_UP_CONTROL.number] and self._climbing > allowed:
            self.fail("Err006")

    @property
    def _switch_point(self) -> float:
        return self.nominal * float(self.values[turbo_codec.SWITCH_POINT_1.number]) / 100

    # ------------------------------------------------------------------ telegrams

    def _read(self, parameter: int) -> str:
        known = PARAMETERS.get(parameter)
        if known is None:
            return "NO_DEF"
        if known is turbo_codec.ACKNOWLEDGE:  # it can only be set (pfeiffer-turbo)
            return "_LOGIC"
        return known.encode(self._value(known))

    def _set(self, parameter: int, data: str) -> str:
        known = PARAMETERS.get(parameter)
        if known is None:
            return "NO_DEF"
        if not known.settable or (self.remote and parameter in (turbo_codec.STATION.number, turbo_codec.MOTOR.number)):
            return "_LOGIC"
        try:
            value = decode_data(known.kind, data)
        except ValueError:
            return "_RANGE"
        if isinstance(value, str) or not known.low <= value <= known.high:
            return "_RANGE"
        return self._take(known, value, data)

    def _take(self, known: Parameter, value: Value, data: str) -> str:
        before = self.pumping
        if known is turbo_codec.ACKNOWLEDGE:
            if value and self.error != turbo_codec.NO_ERROR:
                self.error = turbo_codec.NO_ERROR
                self.values[turbo_codec.STATION.number] = False
            return data
        self.values[known.number] = value
        if known is turbo_codec.ADDRESS:
            self.address = int(value)
        self.cycles += self.pumping and not before
        return data

    def _value(self, parameter: Parameter) -> Value:
        if parameter.number in self.values:
            return self.values[parameter.number]
        if parameter in turbo_codec.HISTORY:
            place = turbo_codec.HISTORY.index(parameter)
            return self.history[place] if place < len(self.history) else turbo_codec.NO_ERROR
        current = FULL_CURRENT if self._accelerates else IDLE_CURRENT if self.pumping else 0.0
        warm = round(25.0 + self._heat)
        measured: dict[Parameter, Value] = {
            turbo_codec.REMOTE_PRIORITY: self.remote,
            turbo_codec.SWITCH_POINT: self.speed >= self._switch_point,
            turbo_codec.ERROR: self.error,
            turbo_codec.AT_SPEED: self.pumping and abs(self.speed - self.target) <= 0.01 * self.nominal,
            turbo_codec.ACCELERATES: self._accelerates,
            turbo_codec.TARGET: round(self.target),
            turbo_codec.SPEED: round(self.speed),
            turbo_codec.CURRENT: current,
            turbo_codec.FIRMWARE: "010300",
            turbo_codec.VOLTAGE: VOLTAGE,
            turbo_codec.HOURS_PUMP: 1234,
            turbo_codec.HOURS_DRIVE: 1240,
            turbo_codec.NOMINAL: round(self.nominal),
            turbo_codec.POWER: round(current * VOLTAGE),
            turbo_codec.CYCLES: 56 + self.cycles,
            turbo_codec.ELECTRONIC: warm,
            turbo_codec.BOTTOM: warm,
            turbo_codec.BEARING: warm,
            turbo_codec.MOTOR_TEMPERATURE: warm + (5 if self.pumping else 0),
            turbo_codec.RATE: round(self.nominal / self.run_up * 60) if self._accelerates else 0,
            turbo_codec.NAME: self.drive,
            turbo_codec.HARDWARE: "010000",
            turbo_codec.TARGET_RPM: round(self.target) * 60,
            turbo_codec.SPEED_RPM: round(self.speed) * 60,
            turbo_codec.NOMINAL_RPM: round(self.nominal) * 60,
        }
        return measured.get(parameter, 0)
