"""The truth: what really happened in an emulated lab, kept where no driver can see it.

For tests and for whoever wants to know how good the record is. Times are readings of the monotonic
counter (ns), which a run's clock anchor relates to lab time on the same machine.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .emulation import Emulation

WORLD = ("temperature", "body", "pressure", "column", "voltage", "current", "pumped", "liquid")


class Truth:
    """Samples the world after every step of the bench."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation
        self._rows: list[tuple[float, ...]] = []
        # The loop's clock and the counter both run on the machine's monotonic clock; their offset is constant.
        self._offset = time.perf_counter_ns() - round(time.monotonic() * 1e9)
        emulation.bench.watchers.append(self._sample)

    def _sample(self, now: float) -> None:
        world: Any = self._emulation.bench.world
        flows = tuple(float(line.flow) for line in world.lines.values())
        self._rows.append((now, *(float(getattr(world, name)) for name in WORLD), *flows))

    def arrays(self) -> dict[str, Any]:
        """Time (counter, ns) and every quantity of the world; and of each detector its frames."""
        import numpy as np

        world: Any = self._emulation.bench.world
        names = [*WORLD, *(f"flow_{gas}" for gas in world.lines)]
        table = np.array(self._rows, np.float64).reshape(-1, 1 + len(names))
        out: dict[str, Any] = {"time": np.rint(table[:, 0] * 1e9).astype(np.int64) + self._offset}
        out |= {name: table[:, k + 1] for k, name in enumerate(names)}
        for link in self._emulation.links.values():
            for emulator in link.emulators:
                if hasattr(emulator, "truth"):
                    frames = emulator.truth()
                    # A detector counts the seconds it has lived, in step with the bench.
                    born = (self._emulation.bench.now or 0.0) - emulator.lived
                    out["frames_time"] = np.rint((frames.middle + born) * 1e9).astype(np.int64) + self._offset
                    out |= {f"frames_{name}": getattr(frames, name) for name in ("series", "number", "sent")}
        return out

    def save(self, path: Path) -> None:
        """Write everything as npz."""
        import numpy as np

        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **self.arrays())
