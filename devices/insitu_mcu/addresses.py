"""Where the board's signals live: in its status report, and at its analogue inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from hal.errors import LimitError
from hal.instrument.address import ReadOnly
from hal.model.reading import Answer, Quality, Sample
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import FULL_OUTPUT, Fault, HeaterMode

from .teds import KELVIN, DataSheet
from .words import FAULTS

UNKNOWN = -1  # mK: no temperature


@dataclass(frozen=True, slots=True)
class Told:
    """A value out of the board's status report, and the driver's method that sets it."""

    take: Callable[[Any, gen.StatusReply], Any]
    write: str = ""

    def question(self, device: Any) -> Hashable:
        return "status"

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await device.report()
        return answer

    def value(self, device: Any, payload: Any) -> Any:
        return self.take(device, payload)

    async def put(self, device: Any, value: Any) -> None:
        if not self.write:
            raise LimitError(f"{device.name}: this value can only be read; nothing was sent")
        await getattr(device, self.write)(value)


@dataclass(frozen=True, slots=True)
class Input(ReadOnly):
    """The voltage at an analogue input; all are read together."""

    number: int

    def question(self, device: Any) -> Hashable:
        return "inputs"

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await device.read_inputs()
        return answer

    def value(self, device: Any, payload: Any) -> Any:
        if self.number >= len(payload.counts):
            return Sample(None, Quality.BAD, "this board has no such input")
        if payload.counts[self.number] < 0:
            return Sample(None, Quality.BAD, "the converter gives no value; see to the board")
        return float(payload.counts[self.number] * device.volts_per_count)


@dataclass(frozen=True, slots=True)
class Switch(Told):
    """A digital input, out of the board's status report."""

    take: Callable[[Any, gen.StatusReply], Any] = lambda device, status: None
    number: int = 0

    def value(self, device: Any, payload: Any) -> Any:
        if device.hello is not None and self.number >= device.hello.digital_inputs:
            return Sample(None, Quality.BAD, "this board has no such input")
        return bool(payload.digital_in >> self.number & 1)


def temperature(device: Any, status: gen.StatusReply) -> Any:
    if status.temperature == UNKNOWN:
        why = "no thermometer (blank TEDS)" if status.sensor is Fault.NONE else FAULTS[status.sensor]
        return Sample(None, Quality.BAD, why)
    return status.temperature * 1e-3 - KELVIN


def target(device: Any, status: gen.StatusReply) -> Any:
    """Where the heater was told to go; an open loop or a heater that is off has no setpoint."""
    if status.mode is not HeaterMode.CLOSED_LOOP or device.target is None:
        return Sample(None, Quality.BAD, "the heater follows no setpoint")
    return device.target


def working_setpoint(device: Any, status: gen.StatusReply) -> Any:
    if status.mode is not HeaterMode.CLOSED_LOOP:
        return Sample(None, Quality.BAD, "the heater follows no setpoint")
    return status.setpoint * 1e-3 - KELVIN


def power(device: Any, status: gen.StatusReply) -> Any:
    sheet: DataSheet | None = device.data_sheet
    if sheet is None:
        return Sample(None, Quality.BAD, "full power is not known (no TEDS)")
    return status.output / FULL_OUTPUT * sheet.full_power
