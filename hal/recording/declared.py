"""What must be declared, because no data can show it: a camera's latencies, a link's delays. Kept with every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..errors import RecordError
from .layout import ClockPlan

if TYPE_CHECKING:
    from ..instrument.camera import CameraInstrument


@dataclass(frozen=True, slots=True)
class CameraClock:
    """What must be known of a detector to place its frames in time."""

    frequency: float = 1e9
    """Of its timestamps, 1/s."""
    ppm: float = 50.0
    """Limit of its rate error, from the datasheet."""
    latency: float = 0.0
    """Smallest delay from the end of an exposure to the frame's arrival, s. Counts where no pulse is stamped."""
    latency_sigma: float = 0.0
    """Standard uncertainty of that, s."""
    pulse_latency: float = 0.0
    """From the beginning of an exposure to its pulse, s. Counts where pulses are stamped."""
    pulse_latency_sigma: float = 0.0
    """Standard uncertainty of that, s."""
    first: int = 0
    """Number of the first exposure of a series."""

    @classmethod
    def of(cls, camera: CameraInstrument) -> CameraClock:
        """As a camera and its clock were declared."""
        clock, options = camera.clock, camera.options
        return cls(
            clock.frequency, clock.ppm, clock.latency, clock.latency_sigma,
            getattr(options, "pulse_latency", 0.0), getattr(options, "pulse_latency_sigma", 0.0), camera.first_number,
        )  # fmt: skip


CAMERA = ("ppm", "latency", "latency_sigma", "pulse_latency", "pulse_latency_sigma")
LINK = ("ppm", "delay_out", "delay_back", "delay_sigma")
"""What of a declaration may be changed afterwards; frequencies, widths and numbers are the device's own."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Declarations to be taken instead of those in the record: ``{"camera": {"latency": 0.0021}}``."""

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of_camera(self, name: str, recorded: CameraClock) -> CameraClock:
        """A camera's declaration, changed."""
        changed: dict[str, Any] = dict(self.values.get(name, {}))
        return replace(recorded, **changed)

    def of_clock(self, recorded: ClockPlan) -> ClockPlan:
        """A clock's declaration, changed."""
        changed: dict[str, Any] = dict(self.values.get(recorded.name, {}))
        return replace(recorded, **changed)

    def check(self, cameras: Mapping[str, Any], clocks: Mapping[str, Any]) -> None:
        """Make sure that every name and field exists and every number is one. Raises `RecordError`."""
        for name, changed in self.values.items():
            known: tuple[str, ...]
            if name in cameras:
                known = CAMERA
            elif name in clocks:
                known = LINK
            else:
                there = ", ".join([*cameras, *clocks]) or "none"
                raise RecordError(f"{name}: no camera and no clock of this run; there are {there}")
            for key, value in changed.items():
                if key not in known:
                    raise RecordError(f"{name}: has no {key!r} that could be changed; it has {', '.join(known)}")
                # A pulse may come before its exposure; nothing else here may be negative.
                if not isfinite(value) or (value < 0 and key != "pulse_latency") or (value == 0 and key == "ppm"):
                    raise RecordError(f"{name}.{key}: {value:g} is no possible value; give seconds, or ppm")

    def to_json(self) -> dict[str, dict[str, float]]:
        """As the record keeps them."""
        return {name: dict(sorted(changed.items())) for name, changed in sorted(self.values.items())}
