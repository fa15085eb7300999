"""Alignment after the fact: from the raw columns of a run to every signal at every frame.

The same computation serves the end of a run, the repair of a crashed one and `hal align`: it needs
nothing but what the record holds, and gives the same numbers each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..clock.envelope import EnvelopeClock
from ..clock.health import ClockHealth
from ..frames.align import align
from ..frames.channel import Channel
from ..frames.expose import expose
from ..frames.frame import FrameTimes, Reason
from ..frames.numbering import Numbered
from .calibrated import at_frames
from .clocks import RunClocks
from .declared import CameraClock, Changes
from .layout import QUALITIES, UNKNOWN_TIME, Aligned, Alignment
from .layout import FrameTimes as RecordedTimes
from .matching import Matching, by_pulses, told_to_film

if TYPE_CHECKING:
    from .parts import FrameStack, SignalRecord
    from .reader import Recording
    from .ticks import StreamRecord

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

STREAM_GAP = 10
"""Sampling periods without a sample that count as a gap."""


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

    @classmethod
    def of(cls, stack: FrameStack) -> FrameColumns:
        """As a camera's frames are recorded."""
        own = {name: stack.column(name) for name in ("exposure_time", "series", "exposure_index", "reason")}
        count = min(len(stack), *(len(column) for column in own.values()))
        return cls(
            stack.number[:count], stack.detector_ticks[:count], stack.arrival[:count], own["exposure_time"][:count],
            own["series"][:count], own["exposure_index"][:count], own["reason"][:count],
        )  # fmt: skip

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
class Realigned:
    """A run worked out anew."""

    cameras: dict[str, Alignment] = field(default_factory=dict)
    matchings: dict[str, Matching] = field(default_factory=dict)
    """How the frames of cameras with frame pulses found them."""
    clocks: dict[str, ClockHealth] = field(default_factory=dict)
    """Every device's own clock, as the whole run tells it, at its last exchange."""
    exchanges: dict[str, int] = field(default_factory=dict)
    """Exchanges of time by clock."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Exposures by camera that never arrived."""
    samples: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Instants by streaming device that were sampled, and how many more never came."""


def from_recording(recording: Recording) -> dict[str, Alignment]:
    """Align a recorded run anew, camera by camera."""
    return realigned(recording).cameras


def realigned(recording: Recording, changes: Changes | None = None) -> Realigned:
    """Work a run out anew, with some declarations changed if wanted. Raises `RecordError`."""
    changes = changes or Changes()
    stacks = recording.cameras
    changes.check(stacks, recording.clocks)
    clocks = RunClocks(recording, changes)
    signals = _Signals(recording, clocks)
    exchanges = {name: len(recording.clocks[name].exchanges) for name in clocks.names}
    samples = {name: (len(stream), stream.missing) for name, stream in signals.streams.items()}
    found = Realigned(clocks=clocks.health(), exchanges=exchanges, samples=samples)
    for name, stack in stacks.items():
        if not {"exposure_time", "series", "exposure_index", "reason"} <= set(stack.columns):
            continue  # not recorded by us
        frames = FrameColumns.of(stack)
        recorded_as, details = declaration(recording, name)
        declared = changes.of_camera(name, recorded_as)
        times, pulse, by = by_arrival(frames, declared), None, "the lower envelope of their arrivals"
        if stack.frame_clock is not None and len(frames.number):
            device, number = stack.frame_clock
            armed = told_to_film(recording.events, name, frames)
            matching = by_pulses(frames, times, declared, recording.pulses[device], number, clocks, armed)
            found.matchings[name] = matching
            if matching.times is not None:
                times, pulse, by = matching.times, matching.pulse, f"pulses at input {number} of {device}"
        paths = recording.aligned_to(name)
        raws = {path: recording.signals[path].raw for path in paths}
        made = {path: raw for path, raw in raws.items() if raw in raws}
        channels = {
            path: signals.channel(path, details.get(path, {}), times.clock) for path in paths if path not in made
        }
        values = align(times, channels)
        columns = {
            path: Aligned(a.value, np.asarray(a.sigma, np.float64), a.valid, recording.signals[path].unit)
            for path, a in values.items()
        }
        columns |= {path: at_frames(recording, path, columns[raw], times) for path, raw in made.items()}
        recorded = RecordedTimes(
            times.start, times.stop, times.bound, times.valid, np.asarray(times.sigma, np.float32), times.reason, pulse
        )
        found.cameras[name] = Alignment(columns, recorded, by)
        found.dropped[name] = frames.dropped
    return found


def declaration(recording: Recording, camera: str) -> tuple[CameraClock, Mapping[str, Any]]:
    """What a run says of a camera's time, and of the signals that are laid onto its frames."""
    about = dict(recording.devices[camera].config.get("alignment", {})) if camera in recording.devices else {}
    details = about.pop("signals", {})
    return CameraClock(**about), details


def by_arrival(frames: FrameColumns, clock: CameraClock) -> FrameTimes:
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


class _Signals:
    """A run's signals as the aligner wants them."""

    def __init__(self, recording: Recording, clocks: RunClocks) -> None:
        self._recording, self._clocks = recording, clocks
        self.streams: dict[str, StreamRecord] = dict(recording.streams)
        self._streams = {
            path: (stream, number)
            for stream in self.streams.values()
            for number, path in zip(stream.declared.inputs, stream.declared.paths, strict=True)
            if path and len(stream)
        }
        self._known: dict[tuple[str, bool], Channel] = {}
        self._stream_times: dict[str, tuple[Int64, Int64]] = {}

    def channel(self, path: str, details: Mapping[str, Any], frames_clock: str) -> Channel:
        """`path` for frames stamped by `frames_clock` ("" for none): what both have in common is left out."""
        if path in self._streams:
            return self._of_stream(path, *self._streams[path], frames_clock)
        record = self._recording.signals[path]
        shared = bool(frames_clock) and record.ticks_clock == frames_clock
        if (path, shared) not in self._known:
            self._known[path, shared] = self._of_readings(record, details, shared)
        return self._known[path, shared]

    def _of_readings(self, record: SignalRecord, details: Mapping[str, Any], shared: bool) -> Channel:
        from ..frames.stimuli import number

        value = np.array([number(v) for v in record.value.tolist()], np.float64)
        good = record.valid & (record.quality != QUALITIES.index("bad")) & np.isfinite(value)
        time, bound, clock = record.time, np.maximum(record.time_bound, 0), ""
        if record.ticks is not None and record.ticks_clock in self._clocks.names:
            at = np.flatnonzero(record.ticks != UNKNOWN_TIME)
            # It arrived before the end of the interval that the reading states.
            found = self._clocks.to_lab(record.ticks_clock, record.ticks[at], (time + bound)[at])
            at, found_time, tight = at[found.valid], found.time[found.valid], found.tight[found.valid]
            if good.any() and np.isin(np.flatnonzero(good), at).all():
                age = round((record.max_age + record.aperture) * 1e9)
                time, bound, clock = time.copy(), bound.copy(), record.ticks_clock
                time[at] = found_time - age // 2
                bound[at] = age // 2 + (0 if shared else tight)
        order = np.argsort(time, kind="stable")
        return Channel(
            time=time[order],
            value=value[order],
            time_bound=bound[order],
            sigma=np.nan_to_num(record.uncertainty[order], nan=0.0),
            kind="step" if record.interpolation == "step" else "linear",
            aperture_s=record.aperture,
            max_gap_s=float(details.get("max_gap", 5.0)),
            good=good[order],
            polled=bool(details.get("polled", True)),
            clock=clock,
            max_age_s=record.max_age,
        )

    def _of_stream(self, path: str, stream: StreamRecord, number: int, frames_clock: str) -> Channel:
        name = stream.declared.name
        if name not in self._stream_times:
            arrivals = np.repeat(stream.arrival, stream.count)
            found = self._clocks.to_lab(name, stream.ticks, arrivals, np.repeat(stream.boot, stream.count))
            self._stream_times[name] = found.time, np.where(found.valid, found.tight, -1)
        time, tight = self._stream_times[name]
        known = tight >= 0
        rate = self._clocks.model(name).frequency / float(np.median(stream.period))
        return Channel(
            time=time,
            value=np.where(known, stream.value(number), np.nan),
            time_bound=0 if name == frames_clock else np.maximum(tight, 0),
            sigma=stream.declared.sigma,
            max_gap_s=STREAM_GAP / rate,
            good=known,
            clock=name,
        )
