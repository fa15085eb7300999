"""The world the emulators share: a specimen on a heated chip in a gas cell with a liquid line.

Gas flow moves the pressure gauges and cools the chip, the chip's temperature changes the
resistance that the source-measure unit sees, and the detector films it all. Simple lumped models
with plausible constants: good for finding mistakes in control scripts, no substitute for a cell.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import exp, inf

import numpy as np
from numpy.typing import NDArray

AMBIENT = 25.0  # degC
SCCM = 101325.0 * 1e-6 / 60  # Pa m3/s of one mL/min at 0 degC and 101.325 kPa (temperature factor left out)

# The chip: heat capacity and loss give a time constant of 1 s in vacuum.
CAPACITY = 1.0e-4  # J/K
LOSS = 1.0e-4  # W/K to the holder's body
GAS_LOSS = {"argon": 0.4e-4, "hydrogen": 4.0e-4}  # W/K more at 100 Pa; hydrogen conducts ten times better
FULL_POWER = 0.15  # W at 100 % output
BODY_CAPACITY, BODY_LOSS = 0.6, 0.006  # J/K, W/K: the chip warms the holder's body by a few kelvin in minutes
BODY_FULL_POWER = 2.0  # W of the body's own heater at 100 % output

# The gas cell and the column behind it.
CELL_VOLUME = 1.0e-3  # m3, tubing included
PUMPING = 1.0e-3  # m3/s
CELL_BASE = 1.0e-3  # Pa
COLUMN_BASE = 2.0e-5  # Pa
COLUMN_SHARE = 1.0e-6  # of the cell's pressure that the differential pumping lets through
LINE_VOLUME = 2.0e-5  # m3 between flow controller and valve

R_ZERO, R_SLOPE = 278.2, 0.225  # ohm, ohm/K: a MEMS heater's four-point resistance


LAMP_KEPT = 20.0
"""Seconds for which a flash is remembered: no exposure is developed later."""


class Lamp:
    """A lamp that the detector sees: when it was on, in seconds lived by the world."""

    def __init__(self) -> None:
        self.known = inf
        """Until when it is certain what it did: what drives it may be a program of its own, and behind."""
        self._flashes: deque[tuple[float, float]] = deque()

    def flash(self, on: float, length: float) -> None:
        """It went on at `on`, for `length` seconds."""
        self._flashes.append((on, on + length))
        while self._flashes[0][1] < on - LAMP_KEPT:
            self._flashes.popleft()

    def lit(self, start: NDArray[np.float64], stop: NDArray[np.float64]) -> NDArray[np.float64]:
        """For how many seconds it was on in each of these intervals."""
        seconds = np.zeros(start.shape)
        for on, off in self._flashes:
            seconds += np.clip(np.minimum(stop, off) - np.maximum(start, on), 0.0, None)
        return seconds


@dataclass
class Line:
    """One gas line: the controller's flow, a valve, and the gas on its way to the cell."""

    flow: float = 0.0
    """sccm, through the controller."""
    open: bool = True
    """The valve to the cell; closed, the gas goes to the vent."""
    arriving: float = 0.0
    """sccm that reach the cell."""


@dataclass
class World:
    """Everything the emulated instruments act on and see."""

    temperature: float = AMBIENT
    """Of chip and specimen, degC."""
    body: float = AMBIENT
    """Of the holder's body, degC."""
    heaters: dict[object, float] = field(default_factory=dict)
    """W into the chip, by who heats it: several controllers may."""
    body_heaters: dict[object, float] = field(default_factory=dict)
    """W into the holder's body, likewise."""
    lines: dict[str, Line] = field(default_factory=lambda: {"argon": Line(), "hydrogen": Line(open=False)})
    pressure: float = CELL_BASE
    """In the cell, Pa."""
    hydrogen: float = 0.0
    """Share of hydrogen in the cell, 0 to 1."""
    leak: float = 0.0
    """Pa in the column on top of everything: a burst window, for tests."""
    voltage: float = 0.0
    """Across the specimen, V."""
    pumped: float = 0.0
    """Liquid delivered, uL."""
    pumps: dict[object, float] = field(default_factory=dict)
    """uL/min into the cell's liquid line, by who pumps: several pumps add up."""
    blanked: bool = False
    valves: dict[int, bool] = field(default_factory=dict)
    """Relays by channel, True when energised."""
    lamp: Lamp = field(default_factory=Lamp)
    lived: float = 0.0
    """Seconds it has been advanced by."""

    @property
    def power(self) -> float:
        """Into the chip, W: what all heaters give together."""
        return sum(self.heaters.values())

    @property
    def body_power(self) -> float:
        """Into the holder's body, W."""
        return sum(self.body_heaters.values())

    @property
    def liquid(self) -> float:
        """Flow in the liquid line, uL/min: what all pumps push or draw together."""
        return sum(self.pumps.values())

    @property
    def resistance(self) -> float:
        """Of the specimen's contacts, ohm."""
        return R_ZERO + R_SLOPE * self.temperature

    @property
    def current(self) -> float:
        """Through the specimen, A."""
        return self.voltage / self.resistance

    @property
    def column(self) -> float:
        """Pressure in the column, Pa."""
        return COLUMN_BASE + COLUMN_SHARE * self.pressure + self.leak

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass, in one step of at most some 10 ms."""
        self.lived += dt
        into = 0.0
        hydrogen_in = 0.0
        for gas, line in self.lines.items():
            target = line.flow if line.open else 0.0
            line.arriving += (target - line.arriving) * (1 - exp(-dt / 0.4))
            into += line.arriving
            if gas == "hydrogen":
                hydrogen_in += line.arriving
        balance = CELL_BASE + into * SCCM / PUMPING
        self.pressure += (balance - self.pressure) * (1 - exp(-dt * PUMPING / CELL_VOLUME))
        if into > 1e-6:
            self.hydrogen += (hydrogen_in / into - self.hydrogen) * (1 - exp(-dt / 2.0))
        cooling = self.pressure / 100.0
        loss = LOSS + cooling * (GAS_LOSS["argon"] * (1 - self.hydrogen) + GAS_LOSS["hydrogen"] * self.hydrogen)
        joule = self.voltage * self.current * 1e-3  # little of it reaches the chip
        steady = self.body + (self.power + joule) / loss
        self.temperature += (steady - self.temperature) * (1 - exp(-dt * loss / CAPACITY))
        into_body = loss * (self.temperature - self.body)
        self.body += dt * (into_body + self.body_power - BODY_LOSS * (self.body - AMBIENT)) / BODY_CAPACITY
        self.pumped += self.liquid * dt / 60
