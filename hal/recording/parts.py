"""What a recording is made of, as it is read: signals, events, instruments, stacks of frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from .layout import (
    CAMERAS,
    FRAME_COLUMNS,
    IMAGE,
    UNKNOWN_TIME,
    Array,
    FrameTimes,
)


@dataclass(frozen=True, slots=True, eq=False)
class SignalRecord:
    """One signal's readings as they came, and how to read them."""

    path: str
    value: Array
    time: npt.NDArray[np.int64]  # ns, middle of the interval of measurement
    time_bound: npt.NDArray[np.int64]  # ns, half-width; -1 is unknown
    uncertainty: npt.NDArray[np.float64]  # NaN is unknown
    quality: npt.NDArray[np.uint8]  # place in layout.QUALITIES
    valid: npt.NDArray[np.bool_]
    unit: str
    kind: str = "float"
    interpolation: str = "linear"
    role: str = "readback"
    aperture: float = 0.0  # s
    max_age: float = 0.0  # s
    ticks: npt.NDArray[np.int64] | None = None
    long_name: str = ""
    limits: str = ""
    ticks_clock: str = ""
    """The device whose clock `ticks` are of."""
    raw: str = ""
    """Of a calibrated signal: the path of the signal that it was made of."""
    certificate: str = ""
    """And the name of the certificate among its device's."""

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"<{self.path}: {len(self)} {self.role}s in {self.unit or 'no unit'}, {self.interpolation}>"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a setpoint, an operation, a trip, an acknowledgement, an anchor."""

    time: int  # ns
    kind: str
    device: str = ""
    text: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """One instrument as it was at the start of the run."""

    name: str
    driver: str
    vendor: str
    model: str
    serial_number: str
    identity: str
    link: str
    capabilities: tuple[str, ...]
    certificates: Mapping[str, str]
    config: Mapping[str, Any]
    limits: Mapping[str, str]


class FrameStack:
    """One camera's frames, read from the file as they are asked for; index it like an array."""

    def __init__(self, camera: str, group: h5py.Group) -> None:
        self.camera = camera
        self._group = group
        self._swmr = bool(group.file.swmr_mode)

    def __len__(self) -> int:
        """Frames that are on disk with all their columns; grows while the run is written."""
        names = (IMAGE, "indices_image", *(c[0] for c in FRAME_COLUMNS.values()))
        datasets = [self._group[name] for name in names if name in self._group]  # earlier versions had fewer
        if self._swmr:
            for dataset in datasets:
                dataset.id.refresh()
        return min(int(dataset.shape[0]) for dataset in datasets)

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns = self._group[IMAGE].shape[1:]
        return len(self), int(rows), int(columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self._group[IMAGE].dtype
        return found

    ndim = 3

    def __getitem__(self, key: Any) -> Array:
        count = len(self)
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        match first:
            case slice():
                start, stop, step = first.indices(count)
                if step > 0:
                    return np.asarray(self._group[IMAGE][(slice(start, stop, step), *rest)])
                return np.asarray(self._group[IMAGE][(slice(0, count), *rest)])[first]
            case int() | np.integer():
                if not -count <= first < count:
                    raise IndexError(f"{self.camera}: frame {first} of {count}")
                return np.asarray(self._group[IMAGE][(int(first) % count, *rest)])
            case _:
                if first is Ellipsis or first == ():
                    return np.asarray(np.asarray(self._group[IMAGE][:count])[key])
                return np.asarray(self._group[IMAGE][(np.asarray(first), *rest)])

    def __iter__(self) -> Iterator[Array]:
        """Frame by frame, reading whole chunks."""
        step = self._group[IMAGE].chunks[0]
        for first in range(0, len(self), step):
            yield from self[first : first + step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    @property
    def dataset(self) -> h5py.Dataset:
        """The HDF5 dataset itself, for dask and the like."""
        return self._group[IMAGE]

    @property
    def number(self) -> npt.NDArray[np.int64]:
        """Frame numbers as the camera counts."""
        return self.column("number")

    @property
    def start(self) -> npt.NDArray[np.int64]:
        """Start of each exposure (ns)."""
        return self.column("start")

    @property
    def stop(self) -> npt.NDArray[np.int64]:
        """End of each exposure (ns)."""
        return self.column("stop")

    @property
    def time(self) -> npt.NDArray[np.int64]:
        """Middle of each exposure (ns)."""
        start, stop = self.start, self.stop
        known = (start != UNKNOWN_TIME) & (stop != UNKNOWN_TIME)
        return np.where(known, start + np.where(known, stop - start, 0) // 2, UNKNOWN_TIME)

    @property
    def bound(self) -> npt.NDArray[np.int64]:
        """Half-width of what isn't known about each exposure's time (ns); -1 is unknown."""
        return self.column("bound")

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """Whether each exposure's time is known at all."""
        return self.column("valid").astype(bool)

    @property
    def arrival(self) -> npt.NDArray[np.int64]:
        """When each frame reached the computer (ns); not when it was taken."""
        return self.column("arrival")

    @property
    def detector_ticks(self) -> npt.NDArray[np.int64]:
        """The detector's own timestamps, raw."""
        return self.column("detector_ticks")

    @property
    def times(self) -> FrameTimes:
        """Every exposure's interval, bound and validity."""
        more = {n: self.column(n) for n in ("sigma", "reason", "pulse") if n in self.columns}
        return FrameTimes(self.start, self.stop, self.bound, self.valid, **more)

    @property
    def pulse(self) -> npt.NDArray[np.int64]:
        """Row of each frame's pulse in ``run.pulses[frame_clock[0]]``; -1 where it has none."""
        return self.column("pulse")

    @property
    def frame_clock(self) -> tuple[str, int] | None:
        """Device and input that stamped this camera's frame pulses; None if nothing did."""
        about = self._group.file[f"{CAMERAS}/{self.camera}"]
        if "frame_clock" not in about:
            return None
        return about["frame_clock"].asstr()[()], int(about["frame_input"][()])

    @property
    def dropped(self) -> int:
        """Frames missing between the first and the last, by the camera's own count."""
        steps = np.diff(self.number)
        return int((steps - 1)[steps > 1].sum())

    def column(self, name: str) -> Array:
        """Any column by name: one of `layout.FRAME_COLUMNS` or the camera's own."""
        dataset = FRAME_COLUMNS[name][0] if name in FRAME_COLUMNS else name
        if dataset not in self._group:
            raise KeyError(f"{self.camera}: no column {name!r}; there are {', '.join(self.columns)}")
        count = len(self)
        if self._swmr:
            self._group[dataset].id.refresh()
        values: Array = self._group[dataset][:count]
        return values

    @property
    def columns(self) -> list[str]:
        """Names of all columns, the camera's own last."""
        known = {entry[0] for entry in FRAME_COLUMNS.values()} | {IMAGE, "indices_image", "elapsed"}
        own = [
            name
            for name, item in self._group.items()
            if name not in known and isinstance(item, h5py.Dataset) and item.maxshape == (None,)
        ]
        return [*(name for name, entry in FRAME_COLUMNS.items() if entry[0] in self._group), *own]

    def __repr__(self) -> str:
        count, rows, columns = self.shape
        return f"<{self.camera}: {count} frames of {rows} x {columns} {self.dtype}, {self.dropped} dropped>"
