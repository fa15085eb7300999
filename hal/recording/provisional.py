"""Values at frames while a run goes on, to be written over by the final ones. Works in the writer's thread.

It takes as much time as the frames need, and so must not be on the event loop, where heartbeats are due.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..frames.frame import FrameTimes
from ..frames.live import LiveAligner, Rows
from ..frames.stimuli import live_channel, number
from ..model.reading import Quality, Reading
from ..model.signal import SignalR
from .plan import Recordable, aligned_signals, is_camera

if TYPE_CHECKING:
    from ..frames.chunk import FrameChunk


class Provisional:
    """One live aligner per camera, fed with everything that is written."""

    def __init__(self, lab: Recordable) -> None:
        self._signals: dict[str, dict[str, SignalR[Any]]] = {
            d.name: {s.path: s for s in aligned_signals(lab, d.name)} for d in lab.devices.values() if is_camera(d)
        }
        self._live = {
            camera: LiveAligner({path: live_channel(signal) for path, signal in signals.items()})
            for camera, signals in self._signals.items()
        }

    def take(
        self, rows: Mapping[str, Sequence[Reading[Any]]], chunks: Sequence[tuple[str, FrameChunk]], now: int
    ) -> list[tuple[str, Rows]]:
        """Readings by signal and frames by camera as they came; return the rows that are known (better) now."""
        for path, readings in rows.items():
            if readings:
                self._feed(path, readings)
        found = []
        times: dict[str, list[FrameTimes]] = defaultdict(list)
        for camera, chunk in chunks:
            times[camera].append(chunk.times)
        for camera, live in self._live.items():
            if times[camera]:
                found.append((camera, live.add(FrameTimes.concatenate(times[camera]))))
            if len(settled := live.settle(now)):
                found.append((camera, settled))
        return found

    def _feed(self, path: str, readings: Sequence[Reading[Any]]) -> None:
        for camera, signals in self._signals.items():
            if path not in signals:
                continue
            self._live[camera].feed(
                path,
                np.array([r.time for r in readings], np.int64),
                np.array([number(r.value) for r in readings], np.float64),
                np.array([r.bound for r in readings], np.int64),
                np.array([r.uncertainty or 0.0 for r in readings], np.float64),
                np.array([r.quality is not Quality.BAD for r in readings], np.bool_),
            )
