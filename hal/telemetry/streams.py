"""Fast streams: what a board samples by its own clock, in chunks of a quarter of a second.

A chunk has 500 points at most. Of a faster stream each point is the mean of several samples, and the
least and the greatest of them come along, so that a spike is never hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..clock.lab_times import Int64, LabTimes
from ..protocols.firmware import SampleChunk
from .payload import Shape, decode, encode

SPAN = 0.25
"""Seconds that are sent together."""
POINTS = 500
"""Points in a chunk, at most."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A stretch of a stream, evenly spaced."""

    device: str
    name: str
    unit: str
    time: int
    """Of the first sample, lab time, ns."""
    time_bound: int
    """ns: its time is known that well, and that of every other sample."""
    step: float
    """Seconds from one point to the next."""
    values: tuple[float | None, ...]
    """None where the converter gave none."""
    dropped: int
    """Samples lost since the stream began."""
    min: tuple[float | None, ...] | None = None
    """Where a point is the mean of several samples: the least of them. None: each point is a sample."""
    max: tuple[float | None, ...] | None = None


def encode_chunk(chunk: StreamChunk) -> bytes:
    """The payload of a chunk."""
    return encode(asdict(chunk) | {"time": str(chunk.time)})


def decode_chunk(payload: bytes | str) -> StreamChunk:
    """The chunk in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a chunk of a stream")
    with Shape("a chunk of a stream"):
        known = {f.name: found[f.name] for f in fields(StreamChunk)}
        for name in ("values", "min", "max"):
            known[name] = None if known[name] is None else tuple(known[name])
        return StreamChunk(**known | {"time": int(found["time"])})


class Clock(Protocol):
    """The clock of who samples."""

    def to_lab(self, ticks: Int64, arrivals: Int64 | None = None, boot: int | None = None) -> LabTimes:
        """Ticks on lab time."""
        ...


@runtime_checkable
class Samples(Protocol):
    """A device that samples inputs by its own clock."""

    @property
    def clock(self) -> Clock:
        """What it stamps them with."""
        ...

    def on_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Call `listener` with every chunk."""
        ...

    def off_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Undo `on_samples`."""
        ...


class Stream:
    """Gathers what one device samples and hands it on in chunks, while somebody has it sampled."""

    def __init__(self, name: str, device: Samples, tell: Callable[[StreamChunk], None]) -> None:
        self._name, self._device, self._tell = name, device, tell
        self._waiting: list[SampleChunk] = []
        device.on_samples(self._came)

    def close(self) -> None:
        """Gather no more."""
        self._device.off_samples(self._came)
        self._waiting.clear()

    def _came(self, chunk: SampleChunk) -> None:
        if not len(chunk):
            return
        waiting = self._waiting
        if waiting and not _follows(waiting[-1], chunk):
            self._pass_on()
        waiting.append(chunk)
        if chunk.arrival - waiting[0].arrival >= SPAN * 1e9:
            self._pass_on()

    def _pass_on(self) -> None:
        chunks, self._waiting = self._waiting, []
        ticks = np.concatenate([chunk.ticks for chunk in chunks])
        volts = np.concatenate([chunk.volts for chunk in chunks])
        last = chunks[-1]
        dropped = int(last.dropped[-1]) if len(last.dropped) else 0
        gaps = np.flatnonzero(np.diff(ticks) != last.period) + 1
        for stretch in np.split(np.arange(len(ticks)), gaps):
            if len(stretch) < 2:
                continue
            ends = ticks[stretch[[0, -1]]]
            times = self._device.clock.to_lab(ends, boot=last.boot)
            if not times.valid.all():
                continue
            step = float(times.time[1] - times.time[0]) * 1e-9 / (len(stretch) - 1)
            for column, channel in enumerate(last.channels):
                self._tell(
                    chunk_of(
                        self._name, f"input{channel}", "V", int(times.time[0]), int(times.bound.max()), step,
                        volts[stretch, column], dropped,
                    )
                )  # fmt: skip


def chunk_of(
    device: str, name: str, unit: str, time: int, bound: int, step: float, samples: Float64, dropped: int
) -> StreamChunk:
    """A chunk of `samples` (n,), NaN where there is none, `step` s apart; reduced to `POINTS` points if need be."""
    bin_size = -(-len(samples) // POINTS)
    if bin_size <= 1:
        return StreamChunk(device, name, unit, time, bound, step, _plain(samples), dropped)
    starts = np.arange(0, len(samples), bin_size)
    known = ~np.isnan(samples)
    count = np.add.reduceat(known, starts, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        mean = np.add.reduceat(np.where(known, samples, 0.0), starts) / np.where(count, count, np.nan)
    least, greatest = np.fmin.reduceat(samples, starts), np.fmax.reduceat(samples, starts)
    middle = round((bin_size - 1) / 2 * step * 1e9)
    return StreamChunk(
        device, name, unit, time + middle, bound, step * bin_size, _plain(mean), dropped, _plain(least),
        _plain(greatest),
    )  # fmt: skip


def _plain(values: Float64) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in np.round(values, 6).tolist())


def _follows(before: SampleChunk, chunk: SampleChunk) -> bool:
    same: Sequence[bool] = (
        before.boot == chunk.boot, before.channels == chunk.channels, before.period == chunk.period,
        before.volts_per_count == chunk.volts_per_count,
    )  # fmt: skip
    return all(same)
