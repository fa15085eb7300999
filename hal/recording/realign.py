"""Alignment after the fact: from the raw columns of a run to every signal at every frame.

The same computation serves the end of a run, the repair of a crashed one and anybody who wants it
done again: it needs nothing but what the record holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..clock.envelope import EnvelopeClock
from ..frames.align import align
from ..frames.channel import Channel
from ..frames.expose import expose
from ..frames.frame import FrameTimes, Reason
from ..frames.numbering import Numbered
from .layout import QUALITIES, Aligned, Alignment
from .layout import FrameTimes as RecordedTimes

if TYPE_CHECKING:
    from .reader import Recording

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CameraClock:
    """What must be known of a detector to place its frames in time; kept in the record."""

    frequency: float = 1e9
    """Of its timestamps, 1/s."""
    ppm: float = 50.0
    """Limit of its rate error, from the datasheet."""
    latency: float = 0.0
    """Smallest delay from the end of an exposure to the frame's arrival, s."""
    latency_sigma: float = 0.0
    """Standard uncertainty of that, s."""

    @classmethod
    def of(cls, clock: EnvelopeClock) -> CameraClock:
        """As a camera's own clock was declared."""
        return cls(clock.frequency, clock.ppm, clock.latency, clock.latency_sigma)


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """What the record holds of each frame received, in order of arrival; arrays of shape (n,)."""

    number: Int64
    ticks: Int64
    arrival: Int64
    exposure: Float64  # s
    series: NDArray[np.int32]
    """Counts restarts of the detector's numbers."""
    index: Int64
    """Of the exposure within its series; -1 where the number made no sense."""
    reason: NDArray[np.uint8]
    """As in `Reason`."""

    @property
    def numbered(self) -> Numbered:
        """As the camera numbered them when they came."""
        about_number = np.isin(self.reason, (Reason.DUPLICATE, Reason.BAD_NUMBER))
        reason = np.where(about_number, self.reason, np.uint8(Reason.OK)).astype(np.uint8)
        return Numbered(self.series, self.index, ~about_number, reason)

    @property
    def dropped(self) -> int:
        """Exposures that never arrived, between the first and the last of each series."""
        lost = 0
        for series in np.unique(self.series):
            index = np.unique(self.index[(self.series == series) & (self.index >= 0)])
            lost += int(index[-1] - index[0] + 1 - index.size) if index.size else 0
        return lost


@dataclass(frozen=True, slots=True)
class SignalColumns:
    """One signal's readings, arrays of shape (m,), and how to read them."""

    time: Int64
    bound: Int64
    value: Float64
    sigma: Float64
    good: NDArray[np.bool_]
    interpolation: str = "linear"
    aperture: float = 0.0
    max_gap: float = 5.0
    polled: bool = True
    unit: str = ""

    def channel(self) -> Channel:
        """The same as the aligner wants it."""
        half = np.maximum(self.bound - round(self.aperture * 5e8), 0)
        order = np.argsort(self.time, kind="stable")
        return Channel(
            time=self.time[order],
            value=self.value[order],
            time_bound=half[order],
            sigma=np.nan_to_num(self.sigma[order], nan=0.0),
            kind="step" if self.interpolation == "step" else "linear",
            aperture_s=self.aperture,
            max_gap_s=self.max_gap,
            good=self.good[order] & np.isfinite(self.value[order]),
            polled=self.polled,
        )


def frame_times(frames: FrameColumns, clock: CameraClock) -> FrameTimes:
    """Exposures of all frames of a run, by the lower envelope of their arrivals."""
    if not frames.number.size:
        return FrameTimes.concatenate([])
    envelope = EnvelopeClock(
        frequency=clock.frequency, ppm=clock.ppm, latency=clock.latency, latency_sigma=clock.latency_sigma
    )
    # A frame's delay counts from the end of its exposure, however long it was exposed.
    ends = frames.ticks + np.rint(frames.exposure * clock.frequency).astype(np.int64)
    envelope.add(ends, frames.arrival)
    return expose(envelope, frames.numbered, ends, frames.arrival, frames.exposure, stamp="stop")


def realigned(frames: FrameColumns, clock: CameraClock, signals: Mapping[str, SignalColumns]) -> Alignment:
    """Every signal at every frame, with uncertainty and validity, and the frames' times."""
    times = frame_times(frames, clock)
    channels = {path: columns.channel() for path, columns in signals.items()}
    found = align(times, channels)
    columns = {
        path: Aligned(a.value, np.asarray(a.sigma, np.float64), a.valid, signals[path].unit)
        for path, a in found.items()
    }
    return Alignment(columns, RecordedTimes(times.start, times.stop, times.bound, times.valid))


def from_recording(recording: Recording) -> dict[str, Alignment]:
    """Align a recorded run anew, camera by camera."""
    out = {}
    for name, stack in recording.cameras.items():
        about = dict(recording.devices[name].config.get("alignment", {})) if name in recording.devices else {}
        paths = list(recording.aligned_to(name))
        details = about.pop("signals", {})
        frames = FrameColumns(
            stack.number,
            stack.detector_ticks,
            stack.arrival,
            np.asarray(stack.column("exposure_time"), np.float64),
            np.asarray(stack.column("series"), np.int32),
            np.asarray(stack.column("exposure_index"), np.int64),
            np.asarray(stack.column("reason"), np.uint8),
        )
        signals = {path: _recorded(recording, path, details.get(path, {})) for path in paths}
        out[name] = realigned(frames, CameraClock(**about), signals)
    return out


def _recorded(recording: Recording, path: str, details: Mapping[str, Any]) -> SignalColumns:
    from ..frames.stimuli import number

    record = recording.signals[path]
    values = record.value
    numbers = np.array([number(v.decode() if isinstance(v, bytes) else v) for v in values.tolist()], np.float64)
    return SignalColumns(
        record.time, np.maximum(record.time_bound, 0), numbers, record.uncertainty,
        record.valid & (record.quality != QUALITIES.index("bad")), record.interpolation, record.aperture,
        float(details.get("max_gap", 5.0)), bool(details.get("polled", True)), record.unit,
    )  # fmt: skip
