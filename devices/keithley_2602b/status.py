"""The status model of the emulated 2602B: a tree of register sets, each with what is so and what was so.

Source: 2600BS-901-01, appendix E and ``status.*`` by name (Rev. B, p. 7-266). Those without a condition here
(questionable, TSP-Link, calibration) read 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hal.protocols.lua_values import Table, silent
from hal.protocols.tsp import Bounds, Register, Tsp

SMUA, SMUB = 1 << 1, 1 << 2
"""Bits of the channels in every summary register (Rev. B, p. 7-266)."""
VOLTAGE_LIMIT, CURRENT_LIMIT, READING_OVERFLOW, BUFFER_AVAILABLE = 1 << 0, 1 << 1, 1 << 7, 1 << 8
"""Bits of a channel's measurement register (``status.measurement.instrument.smuX.*``)."""
SETS = (
    "measurement", "measurement.instrument", "measurement.instrument.smua", "measurement.instrument.smub",
    "measurement.voltage_limit", "measurement.current_limit", "measurement.reading_overflow",
    "measurement.buffer_available",
    "operation", "operation.sweeping", "operation.measuring", "operation.calibrating", "operation.user",
    "operation.remote", "operation.trigger_overrun", "operation.instrument", "operation.instrument.smua",
    "operation.instrument.smub", "operation.instrument.trigger_timer", "operation.instrument.trigger_blender",
    "questionable", "questionable.calibration", "questionable.unstable_output", "questionable.over_temperature",
    "questionable.instrument", "questionable.instrument.smua", "questionable.instrument.smub",
    "standard", "system", "system2", "system3", "system4", "system5",
)  # fmt: skip
CONSTANTS = {
    "SMUA": SMUA, "SMUB": SMUB, "VLMT": VOLTAGE_LIMIT, "VOLTAGE_LIMIT": VOLTAGE_LIMIT, "ILMT": CURRENT_LIMIT,
    "CURRENT_LIMIT": CURRENT_LIMIT, "ROF": READING_OVERFLOW, "READING_OVERFLOW": READING_OVERFLOW,
    "BAV": BUFFER_AVAILABLE, "BUFFER_AVAILABLE": BUFFER_AVAILABLE,
}  # fmt: skip


class StatusModel:
    """The table `status` and its registers by name."""

    def __init__(self, tsp: Tsp, conditions: dict[str, Callable[[], int]]) -> None:
        """`conditions`: what is so, by name of the register set."""
        self._tsp = tsp
        self.registers = {name: Register(conditions.get(name, lambda: 0)) for name in SETS}
        self.registers["standard"] = tsp.standard
        self.table = self._branch("")

    def reset(self) -> None:
        """Everything as on waking up (``status.reset()``)."""
        for register in self.registers.values():
            register.enable, register.ntr, register.ptr, register.latched = 0, 0, 0x7FFF, 0

    @staticmethod
    def _set(register: Register, name: str, value: Any) -> None:
        setattr(register, name, int(Bounds(0, 0xFFFF).checked(value)))

    def _branch(self, prefix: str) -> Table:
        below = {
            name[len(prefix) :] for name in SETS if name.startswith(prefix) and "." not in name[len(prefix) :]
        }  # fmt: skip
        objects: dict[str, Any] = {name: self._branch(f"{prefix}{name}.") for name in sorted(below)}
        if not prefix:
            return self._tsp.attributes(
                "status",
                getters={
                    "condition": self._tsp.status_byte, "request_enable": lambda: self._tsp.request_enable,
                    "request_event": lambda: self._tsp.status_byte() & self._tsp.request_enable,
                    "node_enable": lambda: 0, "node_event": lambda: 0,
                },
                setters={
                    "request_enable": lambda v: setattr(self._tsp, "request_enable", int(Bounds(0, 255).checked(v))),
                    "node_enable": lambda v: None,
                },
                objects=objects | {
                    "reset": silent(lambda *_: self.reset()), "MSB": 1, "SSB": 2, "EAV": 4, "QSB": 8, "MAV": 16,
                    "ESB": 32, "MSS": 64, "OSB": 128,
                },
            )  # fmt: skip
        register = self.registers[prefix[:-1]]
        kept = ("enable", "ntr", "ptr")
        return self._tsp.attributes(
            "status_register",
            getters={"condition": lambda: register.condition(), "event": register.event}
            | {name: partial(getattr, register, name) for name in kept},
            setters={name: partial(self._set, register, name) for name in kept},
            objects=CONSTANTS | objects,
        )
