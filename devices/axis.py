"""One emulated axis of motion: a motor with a trapezoidal speed profile between two ends of travel.

Units are the controller's own counts (microsteps, encoder counts) and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign, inf, sqrt


@dataclass
class Axis:
    """Where the motor is and what it was last told."""

    low: float = -inf
    """Where it runs against its lower end."""
    high: float = inf
    position: float = 0.0
    velocity: float = 0.0
    speed: float = 0.0
    """Greatest speed on the way to a target."""
    acceleration: float = 1.0
    target: float | None = None
    """Where it goes; None: it keeps `wanted`."""
    wanted: float = 0.0
    """Velocity it keeps, or brakes to."""

    @property
    def moving(self) -> bool:
        return self.velocity != 0.0 or (self.target is None and self.wanted != 0.0) or self.away != 0.0

    @property
    def away(self) -> float:
        """Counts still to go to the target, signed."""
        return 0.0 if self.target is None else self.target - self.position

    def go(self, target: float) -> None:
        """Go to a position."""
        self.target = target

    def run(self, velocity: float) -> None:
        """Accelerate to a velocity and keep it; 0 brakes."""
        self.target, self.wanted = None, velocity

    def halt(self) -> None:
        """Stand still at once."""
        self.target, self.wanted, self.velocity = None, 0.0, 0.0

    def advance(self, dt: float) -> None:
        """Move for `dt` s; it stops at once at an end of its travel, and keeps its target there."""
        before, step = self.velocity, self.acceleration * dt
        if self.target is None:
            wanted = self.wanted
        else:
            # As fast as it may go and still stand when it gets there, losing one `step` of velocity every `dt`.
            brake = sqrt(step**2 / 4 + 2 * self.acceleration * abs(self.away)) - step / 2
            wanted = copysign(min(self.speed, brake, abs(self.away) / dt), self.away)
        change = wanted - before
        self.velocity = wanted if abs(change) <= step else before + copysign(step, change)
        arrives = abs(self.away) <= max(abs(self.velocity) * dt, 1e-9) and abs(self.velocity) <= 2 * step
        if self.target is not None and arrives:
            self.position, self.velocity = self.target, 0.0
        else:
            self.position += self.velocity * dt
        ended = min(max(self.position, self.low), self.high)
        if ended != self.position:
            self.position, self.velocity = ended, 0.0
