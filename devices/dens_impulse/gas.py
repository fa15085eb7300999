"""DENSsolutions Impulse: the gas supply of a gas cell, by inlet and outlet pressure or by pressure and flow."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Literal

from hal.errors import LimitError, Refused
from hal.model.capabilities import Gauge
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status

from . import codec
from .driver import PATIENCE
from .impulse import AGE, Impulse, Property


class ImpulseGas(Impulse):
    """What the gas supply does is a sequence of Impulse's own; its pressures are those of its own lines.

    `pressure` is that of the reactor (the cell), in which the membranes are: narrow `limits.inlet_pressure` and
    `limits.outlet_pressure` to what they bear.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """What a lab file may say of the gas supply."""

        data_port: int = codec.DATA_PORT
        """Where Impulse publishes what it measures; the link is the control port (5557)."""
        safe_state: Literal["evacuate", "stay"] = "evacuate"
        """Evacuate the holder, or only stop a ramp and leave the gas as it is."""

    model = "Impulse gas supply"
    provides = (Gauge,)
    topic, topics = "gas", ("gas",)
    verified = (
        "the vendor's client impulsePy 3.1.0 against the emulator; never on a real one. Unverified: kinds of systems "
        "but gplus, how evacuation goes, the temperature that its flows refer to"
    )
    options: Options

    pressure = SignalR(
        float, "Pa", at=Property("gas", "reactorPressureMeasured"), kind=Kind.HINTED, poll=0.5, max_age=AGE
    )
    inlet = SignalR(float, "Pa", at=Property("gas", "inletPressureMeasured"), poll=0.5, max_age=AGE)
    outlet = SignalR(float, "Pa", at=Property("gas", "outletPressureMeasured"), poll=0.5, max_age=AGE)
    # 2 bar: what membranes of the vendor's cells bear is less. Unverified; Impulse refuses what its own limits forbid.
    inlet_pressure = SignalRW(
        float, "Pa", at=Property("gas", "inletPressureSetpoint", "write_inlet"), limits=(0, 2e5), of="inlet",
        supersedes=True, max_age=AGE,
    )  # fmt: skip
    outlet_pressure = SignalRW(
        float, "Pa", at=Property("gas", "outletPressureSetpoint", "write_outlet"), limits=(0, 2e5), of="outlet",
        supersedes=True, max_age=AGE,
    )  # fmt: skip
    gas1 = SignalR(float, "sccm", at=Property("gas", "gas1FlowMeasured"), poll=0.5, max_age=AGE)
    gas2 = SignalR(float, "sccm", at=Property("gas", "gas2FlowMeasured"), poll=0.5, max_age=AGE)
    gas3 = SignalR(float, "sccm", at=Property("gas", "gas3FlowMeasured"), poll=0.5, max_age=AGE)

    system = ""
    """The kind of gas supply, as its configuration tells: "gplus"."""

    async def connected(self) -> None:
        await super().connected()
        kind = (await self.query("gas.getConfiguration")).data.get("$type")
        if not isinstance(kind, str):
            raise Refused(self.name, f"Impulse does not tell the kind of its gas supply ({kind!r}); set it up there")
        self.system = kind.rpartition(".")[2]

    # ------------------------------------------------------------------ verbs

    def ramp(self, inlet: float, outlet: float, seconds: float) -> Status[None]:
        """Go to these pressures (Pa) within `seconds`; done when Impulse says so. Ended early, it stops there.

        Raises `LimitError`.
        """
        self.inlet_pressure.check(inlet)
        self.outlet_pressure.check(outlet)
        if not 0 <= seconds < math.inf:
            raise LimitError(f"{self.name}: a ramp of {seconds:g} s can't be; nothing was sent.")
        return self.start(
            f"ramp to {inlet:g} and {outlet:g} Pa", self._ramp(inlet, outlet, seconds),
            on_cancel=lambda: self.stop_action("gas"),
        )  # fmt: skip

    def hold(self) -> Status[None]:
        """Stop a ramp where it is."""
        return self.start("hold", self.stop_action("gas"))

    def evacuate(self) -> Status[None]:
        """Evacuate the holder, by Impulse's own sequence; done when it has begun."""
        return self.start("evacuate", self._evacuate())

    async def make_safe(self) -> None:
        try:
            await self.stop_action("gas")
        finally:
            if self.options.safe_state == "evacuate":
                await self._evacuate()

    async def write_inlet(self, pascals: float) -> None:
        """Another inlet pressure, at once; the outlet's setpoint stays."""
        await self._begin(pascals, await self.outlet_pressure.get(), 0.0)

    async def write_outlet(self, pascals: float) -> None:
        """Another outlet pressure, at once; the inlet's setpoint stays."""
        await self._begin(await self.inlet_pressure.get(), pascals, 0.0)

    # ------------------------------------------------------------------ private

    async def _ramp(self, inlet: float, outlet: float, seconds: float) -> None:
        await self._begin(inlet, outlet, seconds)
        try:
            async with asyncio.timeout(seconds + PATIENCE):
                await self.over["gas"].wait()
        except TimeoutError:
            raise Refused(
                self.name, f"the ramp is not over after {seconds:g} s; see what Impulse's window says"
            ) from None
        self.impulse.forget("gas")
        took = [(await signal.read()).value for signal in (self.inlet_pressure, self.outlet_pressure)]
        for asked, told in zip((inlet, outlet), took, strict=True):
            if told is None or not math.isclose(asked, told, rel_tol=1e-3, abs_tol=1.0):
                raise Refused(self.name, f"asked for {asked:g} Pa, its setpoint is {told} Pa; was it ended in Impulse?")

    async def _begin(self, inlet: float, outlet: float, seconds: float) -> None:
        await self.begin_action(
            "gas", f"gas.{self.system}.inletOutletPressure.startRamp",
            inletPressure=inlet / self.factor("inletPressureSetpoint"),
            outletPressure=outlet / self.factor("outletPressureSetpoint"), rampTime=seconds,
        )  # fmt: skip

    async def _evacuate(self) -> None:
        await self.order("gas.evacuateHolder", idempotent=True)
        self.impulse.forget("gas")
