"""The experiment of an emulated Impulse: what its heater, bias, gas and liquid supplies do and measure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from devices.physics import AMBIENT, CAPACITY, FULL_POWER, World

LOOP = 0.05  # s: time constant of the chip's control loop; the real one takes milliseconds
VALVE = 1.0  # s: time constant of the pressure controllers; unverified
CONDUCTANCE = 0.005  # mL/min per mbar between inlet and outlet: some mL/min at usual offsets
GASES = ("argon", "hydrogen", "")
"""The world's line that each gas feeds."""
BOTH = ("Measured", "Setpoint")


@dataclass
class Glide:
    """A setpoint on its way: linear in time."""

    value: float
    to: float = 0.0
    left: float = 0.0
    """s until it is there."""

    def start(self, to: float, seconds: float) -> None:
        """Begin; with 0 s it is there at the next step."""
        self.to, self.left = to, seconds

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass."""
        if self.left <= dt:
            self.value, self.left = self.to, 0.0
        else:
            self.value += (self.to - self.value) * dt / self.left
            self.left -= dt


class Experiment:
    """One chip in the world, with the supplies that act on it."""

    def __init__(self, world: World, biases: Literal["voltage", "current"], seed: int) -> None:
        self.world, self.biases = world, biases
        self._random = np.random.default_rng(seed)
        self.finished: list[str] = []
        """What has come to its end by itself since it was last looked at: heat, bias, gas."""
        self.heat, self._integral, self.heating = Glide(AMBIENT, AMBIENT), 0.0, False
        self.level, self.compliance, self.biased = 0.0, 0.0, False
        self.sweep: tuple[float, float, float, float] | None = None  # baseline, amplitude, rate, s gone
        self.sweep_time = 0.0
        self.setpoints = {name: Glide(0.0) for name in ("inlet", "outlet")}
        self._pressures = {"inlet": 0.0, "outlet": 0.0}
        self.flows = {1: 0.0, 2: 0.0, 3: 0.0}
        self.flowing = False
        self.liquid = {"flow": 0.0, "inletPressure1": 0.0, "inletPressure2": 0.0, "outletPressure": 0.0}

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass."""
        for live in (self._live_heat, self._live_bias, self._live_gas):
            live(dt)

    def _live_heat(self, dt: float) -> None:
        if not self.heating:
            return
        self.heat.advance(dt)
        if self.heat.left == 0.0:
            self.finished.append("heat")
        off = self.heat.value - self.world.temperature
        gain = CAPACITY / LOOP
        self._integral = min(max(self._integral + gain * off * dt / (4 * LOOP), 0.0), FULL_POWER)
        self.world.heaters[self] = min(max(gain * off + self._integral, 0.0), FULL_POWER)

    def _live_bias(self, dt: float) -> None:
        if self.sweep is not None:
            baseline, amplitude, rate, gone = self.sweep
            gone += dt
            if gone >= self.sweep_time:
                self.sweep, self.level = None, baseline
                self.finished.append("bias")
            else:  # up and down again; other kinds of cycles are unverified
                period = 2 * abs(amplitude) / rate
                there = 1 - abs(2 * (gone % period) / period - 1)
                self.sweep, self.level = (baseline, amplitude, rate, gone), baseline + amplitude * there
        if self.biased:
            resistance = self.world.resistance
            volts = self.level if self.biases == "voltage" else self.level * resistance
            most = self.compliance * resistance if self.biases == "voltage" else self.compliance
            self.world.voltage = math.copysign(min(abs(volts), most), volts)

    def _live_gas(self, dt: float) -> None:
        if not self.flowing:
            return
        for name, setpoint in self.setpoints.items():
            setpoint.advance(dt)
            self._pressures[name] += (setpoint.value - self._pressures[name]) * (1 - math.exp(-dt / VALVE))
        if all(setpoint.left == 0.0 for setpoint in self.setpoints.values()):
            self.finished.append("gas")
        through = self._through()
        total = sum(self.flows.values())
        for number, gas in enumerate(GASES, 1):
            if gas:
                share = self.flows[number] / total if total else float(number == 1)
                self.world.lines[gas].flow = through * share

    def _through(self) -> float:
        """Flow through the reactor, mL/min."""
        return max(0.0, CONDUCTANCE * (self._pressures["inlet"] - self._pressures["outlet"]))

    # ------------------------------------------------------------------ what it measures

    def units(self, channel: str) -> dict[str, str]:
        """By property of a channel."""
        match channel:
            case "heat":
                return {"temperatureSetpoint": "degC", "temperatureMeasured": "degC", "powerMeasured": "mW"}
            case "bias":
                set_in, limited_in = ("V", "A") if self.biases == "voltage" else ("A", "V")
                return {
                    "setpoint": set_in, "compliance": limited_in, "voltageMeasured": "V", "currentMeasured": "A",
                    "resistance": "Ohm",
                }  # fmt: skip
            case "gas":
                pressures = [f"{where}Pressure{what}" for where in ("inlet", "outlet", "reactor") for what in BOTH]
                flows = [f"gas{n}Flow{what}" for n in (1, 2, 3) for what in BOTH]
                return dict.fromkeys(pressures, "mbar") | dict.fromkeys([*flows, "reactorFlowMeasured"], "ml/min")
            case "liquid":  # names unverified
                return {"flowMeasured": "ul/min", "inletPressureMeasured": "mbar", "outletPressureMeasured": "mbar"}
        return {}

    def values(self, channel: str) -> dict[str, Any]:
        """What a channel tells."""
        normal = self._random.standard_normal
        world = self.world
        match channel:
            case "heat":
                values = {
                    "temperatureSetpoint": self.heat.value,
                    "temperatureMeasured": world.temperature + 0.01 * normal(),
                    "powerMeasured": world.heaters.get(self, 0.0) * 1e3,
                }
            case "bias":
                # Before the first bias its output is off, and it tells zeros. Unverified.
                current = (world.current * (1 + 1e-5 * normal()) + 1e-11 * normal()) if self.biased else 0.0
                voltage = (world.voltage + 1e-6 * normal()) if self.biased else 0.0
                values = {
                    "setpoint": self.level, "compliance": self.compliance, "voltageMeasured": voltage,
                    "currentMeasured": current, "resistance": voltage / current if current else 0.0,
                }  # fmt: skip
            case "gas":
                base = world.pressure / 100
                inlet, outlet = (max(value, base) for value in self._pressures.values())
                values = {
                    "inletPressureMeasured": inlet, "outletPressureMeasured": outlet,
                    "reactorPressureMeasured": (inlet + outlet) / 2, "reactorFlowMeasured": self._through(),
                    **{f"{name}PressureSetpoint": setpoint.value for name, setpoint in self.setpoints.items()},
                    "reactorPressureSetpoint": sum(setpoint.value for setpoint in self.setpoints.values()) / 2,
                    **{f"gas{n}Flow{what}": flow for n, flow in self.flows.items() for what in BOTH},
                }  # fmt: skip
            case "liquid":
                values = {
                    "flowMeasured": world.liquid, "inletPressureMeasured": self.liquid["inletPressure1"],
                    "outletPressureMeasured": self.liquid["outletPressure"],
                }  # fmt: skip
            case _:  # massSpec: ion currents of what is in the cell
                shares = {"Argon": 1 - world.hydrogen, "Hydrogen": world.hydrogen}
                return {
                    "channels": [
                        {"name": name, "measuredValue": 1e-8 * share + 1e-12 * abs(normal())}
                        for name, share in shares.items()
                    ]
                }
        return values
