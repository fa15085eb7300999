"""Values at frames while a run goes on, to be written over by the final ones. Works in the writer's thread.

It takes as much time as the frames need, and so must not be on the event loop, where heartbeats are due.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..frames.channel import Aligned
from ..frames.frame import FrameTimes
from ..frames.live import LiveAligner, Rows
from ..frames.stimuli import live_channel, number
from ..model.calibrated import CalibratedAt
from ..model.reading import Quality, Reading
from ..model.signal import SignalR
from .plan import Recordable, aligned_signals, is_camera

if TYPE_CHECKING:
    from ..frames.chunk import FrameChunk, Later

TIMELY = 3.0
"""Seconds after which frames that pulses have not settled are final as they are."""


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
        self._frames: dict[str, int] = defaultdict(int)
        self._open: dict[str, deque[_Open]] = defaultdict(deque)

    def take(
        self, rows: Mapping[str, Sequence[Reading[Any]]], chunks: Sequence[tuple[str, FrameChunk]], now: int
    ) -> list[tuple[str, Rows, bool]]:
        """Readings by signal and frames by camera as they came; return the rows that are known (better) now.

        Frames are placed by arrival at first, and by their pulses once those are found: then the third is True.
        """
        for path, readings in rows.items():
            if readings:
                self._feed(path, readings)
        found = []
        times: dict[str, list[FrameTimes]] = defaultdict(list)
        for camera, chunk in chunks:
            if chunk.later is not None:
                self._open[camera].append(_Open(self._frames[camera], chunk.later, now))
            self._frames[camera] += len(chunk)
            times[camera].append(chunk.times)
        for camera, live in self._live.items():
            if times[camera]:
                found.append((camera, live.add(FrameTimes.concatenate(times[camera])), False))
            found += [(camera, live.retime(*better), True) for better in self._better(self._open[camera], now)]
            waiting = self._open[camera]
            if len(settled := live.settle(now, waiting[0].first if waiting else None)):
                found.append((camera, settled, False))
        return [(camera, self._calibrated(camera, known), by_pulses) for camera, known, by_pulses in found]

    def _calibrated(self, camera: str, rows: Rows) -> Rows:
        """As the final values are made: the raw signal at a frame goes through the certificate, whose uncertainty all
        readings share. The calibrated readings only say where there is a value."""
        for path, signal in self._signals[camera].items():
            if isinstance(signal.at, CalibratedAt) and (raw := rows.values.get(signal.at.raw.path)) is not None:
                own = rows.values[path]
                value, sigma, _ = signal.at.calibration.apply(raw.value, raw.sigma)
                valid = own.valid & raw.valid & np.isfinite(value)
                known = np.where(valid, value, np.nan), np.where(valid, sigma, np.nan).astype(np.float32)
                rows.values[path] = Aligned(*known, valid, np.where(own.valid, raw.reason, own.reason))
        return rows

    @staticmethod
    def _better(waiting: deque[_Open], now: int) -> list[tuple[int, FrameTimes]]:
        """Exposures by pulses that were found since, of consecutive frames each."""
        found: list[tuple[int, list[FrameTimes]]] = []
        end = -1
        while waiting and (waiting[0].later.times is not None or waiting[0].since < now - round(TIMELY * 1e9)):
            first, later = waiting[0].first, waiting.popleft().later
            if later.times is None:
                continue
            if first == end:
                found[-1][1].append(later.times)
            else:
                found.append((first, [later.times]))
            end = first + len(later.times)
        return [(first, FrameTimes.concatenate(parts)) for first, parts in found]

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


@dataclass(frozen=True, slots=True)
class _Open:
    """Frames, from number `first` on, whose exposures by pulses will be in `later`."""

    first: int
    later: Later
    since: int
