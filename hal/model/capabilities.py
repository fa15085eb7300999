"""What a script may ask of a device, whatever its make.

A driver claims capabilities in `provides`; the shape is checked here against these protocols
(names, units, verbs), when a lab opens and in the contract tests. The claim matters as much as the
shape: a flow controller has a `pressure` too and is still no vacuum gauge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args, get_origin, get_type_hints

from .signal import SignalR, SignalRW
from .status import Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..frames.view import Frame
    from ..protocols.firmware import EdgeChunk, Int64
    from .device import Device


class Thermometer(Protocol):
    """Measures a temperature."""

    temperature: Annotated[SignalR[float], "degC"]


class Heater(Protocol):
    """Controls a temperature. Safe state: output off."""

    temperature: Annotated[SignalR[float], "degC"]
    setpoint: Annotated[SignalRW[float], "degC"]
    ramp_rate: Annotated[SignalRW[float], "K/s"]

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s); ended early, it holds."""
        ...

    def hold(self) -> Status[None]:
        """Stay at the present temperature."""
        ...

    def off(self) -> Status[None]:
        """Output off: the specimen cools by itself."""
        ...


@dataclass(frozen=True)
class Sweep:
    """What a sweep brought: one row per level."""

    mode: Literal["voltage", "current"]
    levels: NDArray[np.float64]
    """As asked for: V or A by `mode`."""
    voltage: NDArray[np.float64]
    """V; NaN where there was no value."""
    current: NDArray[np.float64]
    """A; NaN where there was no value."""
    limited: NDArray[np.bool_]
    """Where the compliance held the source back."""
    time: NDArray[np.int64]
    """Middle of each measurement, lab time, ns."""
    bound: NDArray[np.int64]
    """Half-width of the interval in which it lay, ns."""


class SourceMeter(Protocol):
    """Sources voltage or current and measures both. Safe state: 0, output off."""

    voltage: Annotated[SignalR[float], "V"]
    current: Annotated[SignalR[float], "A"]

    def source(self, mode: Literal["voltage", "current"], level: float, compliance: float) -> Status[None]:
        """Source `level` (V or A), limiting the other quantity to `compliance` (A or V), output on."""
        ...

    def sweep(
        self, mode: Literal["voltage", "current"], levels: Sequence[float], compliance: float, dwell: float
    ) -> Status[Sweep]:
        """Source each level for `dwell` s."""
        ...

    def off(self) -> Status[None]:
        """Level to zero, output off."""
        ...


class FlowController(Protocol):
    """Controls a gas flow in mL/min at 0 degC and 101.325 kPa. Safe state: closed."""

    flow: Annotated[SignalR[float], "sccm"]
    setpoint: Annotated[SignalRW[float], "sccm"]
    gas: Annotated[SignalR[str], ""]

    def set(self, value: float) -> Status[None]:
        """Ask for a flow, sccm."""
        ...

    def close(self) -> Status[None]:
        """Close the valve."""
        ...


class Gauge(Protocol):
    """Measures a pressure."""

    pressure: Annotated[SignalR[float], "Pa"]


class Valve(Protocol):
    """Open or closed. Safe state: as declared per valve."""

    state: Annotated[SignalR[str], ""]

    def open(self) -> Status[None]:
        """Open it."""
        ...

    def close(self) -> Status[None]:
        """Close it."""
        ...


class Beam(Protocol):
    """Blanks the beam. Safe state: blanked."""

    blanked: Annotated[SignalR[bool], ""]

    def blank(self) -> Status[None]:
        """Keep the beam off the specimen."""
        ...

    def unblank(self) -> Status[None]:
        """Let it through."""
        ...


class Pump(Protocol):
    """Pumps liquid. Safe state: stopped."""

    rate: Annotated[SignalR[float], "uL/min"]
    volume: Annotated[SignalR[float], "uL"]

    def run(self, rate: float) -> Status[None]:
        """Pump at `rate` (uL/min) until stopped."""
        ...

    def dispense(self, volume: float, rate: float) -> Status[None]:
        """Pump `volume` (uL) at `rate` (uL/min); done when it is out."""
        ...

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Stop."""
        ...


class VacuumPump(Protocol):
    """Pumps a vessel down. Safe state: as declared per pump."""

    speed: Annotated[SignalR[float], "Hz"]

    def on(self) -> Status[None]:
        """Switch on; done when it has its speed, which takes minutes."""
        ...

    def off(self) -> Status[None]:
        """Switch off; done when it stands, which takes longer."""
        ...


class Motor(Protocol):
    """Moves along one axis, or turns. Safe state: stopped."""

    position: Annotated[SignalR[float], "mm", "deg"]
    speed: Annotated[SignalRW[float], "mm/s", "deg/s"]

    def move(self, to: float) -> Status[None]:
        """Go to `to` (mm or deg) at `speed`; ended early, it stops."""
        ...

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Stop."""
        ...


@dataclass(frozen=True, slots=True)
class MassSpectrum:
    """One scan: arrays of shape (n,)."""

    mass: NDArray[np.float64]
    """m/z, amu."""
    partial_pressure: NDArray[np.float64]
    """Pa, as if everything were nitrogen."""
    time: int
    """Middle of the scan, lab time, ns."""
    bound: int
    """Half its length, ns."""


class GasAnalyser(Protocol):
    """Tells which gases there are. Safe state: filament off, as it burns in air."""

    pressure: Annotated[SignalR[float], "Pa"]
    filament: Annotated[SignalRW[bool], ""]

    def scan(self, first: float, last: float) -> Status[MassSpectrum]:
        """Scan from `first` to `last` (m/z)."""
        ...

    def off(self) -> Status[None]:
        """Filament off."""
        ...


class Camera(Protocol):
    """Films. Safe state: stopped."""

    exposure: Annotated[SignalRW[float], "s"]
    rate: Annotated[SignalR[float], "1/s"]
    dropped: Annotated[SignalR[int], ""]

    def frames(self, until: Status[Any] | None = None) -> AsyncIterator[Frame]:
        """A view of the film; it may fall behind and then skips, the recording does not."""
        ...

    def arm(self) -> Status[None]:
        """Begin to film."""
        ...

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Cease to film."""
        ...


class FrameClock(Protocol):
    """Stamps a camera's frame pulses by a counter of its own. Safe state: as it is, it touches nothing."""

    pulses: Annotated[SignalR[int], ""]
    pulses_lost: Annotated[SignalR[int], ""]

    def capturing(self, rising: Sequence[int] = (0,), falling: Sequence[int] = ()) -> AbstractAsyncContextManager[None]:
        """Stamp edges at these inputs inside the block."""
        ...

    def on_pulses(self, listener: Callable[[EdgeChunk], None]) -> None:
        """Call `listener` with every chunk of stamped pulses: arrays of 64-bit ticks, inputs and polarities."""
        ...

    def off_pulses(self, listener: Callable[[EdgeChunk], None]) -> None:
        """Undo `on_pulses`."""
        ...

    def lab_time(self, ticks: Int64) -> tuple[Int64, Int64]:
        """Lab time of ticks and its bound, ns."""
        ...


class Teds(Protocol):
    """Says who it is by an electronic data sheet in the holder itself."""

    holder_model: Annotated[SignalR[str], ""]
    holder_serial: Annotated[SignalR[str], ""]

    def read_teds(self) -> Status[Any]:
        """Read the data sheet; None if there is none."""
        ...

    def write_teds(self, sheet: Any) -> Status[None]:
        """Write the data sheet; None erases it."""
        ...


CAPABILITIES: tuple[type, ...] = (
    Thermometer, Heater, SourceMeter, FlowController, Gauge, Valve, Beam, Pump, Motor, GasAnalyser, Camera, FrameClock,
    Teds, VacuumPump,
)  # fmt: skip


def lacking(device: Device | type[Device], capability: type) -> list[str]:
    """What keeps `device` from being a `capability`: one phrase each, none if it is one."""
    provides = device.provides
    if capability not in provides:
        names = ", ".join(c.__name__ for c in provides) or "nothing"
        return [f"it does not claim to be one (it is: {names})"]
    missing = []
    for name, hint in get_type_hints(capability, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        kind, *units = get_args(hint)
        signal = getattr(device, name, None)
        wanted = get_origin(kind) or kind
        if not isinstance(signal, wanted):
            missing.append(f"signal {name!r} ({wanted.__name__})")
        elif signal.unit not in units:
            missing.append(f"{name!r} in {' or '.join(units)} (it has {signal.unit or 'no unit'})")
        elif signal.dtype is not get_args(kind)[0]:
            missing.append(f"{name!r} as {get_args(kind)[0].__name__} (it is {signal.dtype.__name__})")
    for name in vars(capability):
        if not name.startswith("_") and callable(vars(capability)[name]) and not callable(getattr(device, name, None)):
            missing.append(f"verb {name}()")
    return missing
