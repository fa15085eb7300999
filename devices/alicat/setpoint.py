"""A setpoint on its way: what an Alicat was asked for, and what it follows while it ramps (SR, LSRC)."""

from __future__ import annotations

SECONDS = {3: 1e-3, 4: 1.0, 5: 60.0, 6: 3600.0, 7: 86400.0}  # SR's units of time (the driver alicat)
TIMES = {3: "ms", 4: "s", 5: "m", 6: "h", 7: "d"}


class Setpoint:
    """In the unit of the controller's setpoints."""

    def __init__(self) -> None:
        self.requested = 0.0
        self.current = 0.0
        """The setpoint that is followed, on its way to the one requested."""
        self.ramps = [1, 1, 0, 0]
        """Whether it ramps up, down, to zero, at power-up (LSRC)."""
        self._rate = 0.0
        """Per second; 0: at once."""
        self._time = 4

    def ramp(self, value: float, time: int) -> None:
        """Go no faster than `value` in one unit of time."""
        self._time, self._rate = time, value / SECONDS[time]

    def told(self) -> tuple[float, int, str]:
        """The ramp in its unit of time, and that unit's number and label."""
        return self._rate * SECONDS[self._time], self._time, TIMES[self._time]

    def rescale(self, factor: float) -> None:
        """Count in another unit."""
        self.requested *= factor
        self.current *= factor
        self._rate *= factor

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass."""
        gap = self.requested - self.current
        stepwise = self.ramps[2] if self.requested == 0.0 else self.ramps[0] if gap > 0 else self.ramps[1]
        if not (self._rate and stepwise) or abs(gap) <= self._rate * dt:
            self.current = self.requested
        else:
            self.current += self._rate * dt if gap > 0 else -self._rate * dt
