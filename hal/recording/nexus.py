"""The run's file while it is written: frames, readings and events go in, every half second they are safe.

Synchronous on purpose; one worker thread calls it. Three rules keep the file whole whatever happens:

- Everything is created under a passing name first, so no half-made file ever bears the run's name.
- Rows wait in memory until a chunk is full or `FLUSH_PERIOD` has passed; then images go before their
  columns, so that a column is never longer than what it describes.
- SWMR (HDF5 User Guide, "Single-Writer/Multiple-Reader") lets readers in at any time. It forbids new
  objects and variable-length texts once it has begun; hence the plan and the fixed-width texts.

Compressed chunks that grow are written anew each time and leave their old place unused. So frames are
cut into chunks of at most about a quarter of a second, and one-dimensional columns stay uncompressed
(they are rewritten in place) unless the plan says that a signal is fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import RecordError
from . import layout
from .columns import encoded, slices, unknown
from .finish import aligned_rows, elapsed, fill_empty, pad_stimuli, tidy, write_alignment, write_blocks
from .layout import (
    ENTRY,
    EVENTS,
    FRAME_COLUMNS,
    IMAGE,
    QUALITIES,
    RUN,
    UNKNOWN_TIME,
    Aligned,
    Array,
    CameraPlan,
    FrameTimes,
    RunPlan,
    SignalPlan,
    frames_group,
    signal_group,
    stimuli_group,
)
from .lock import WriterLock
from .origin import Origin
from .table import Table
from .ticks import TickTables
from .tree import SUMMARY_BYTES, create, is_fast

if TYPE_CHECKING:
    from ..frames.frame import FrameTimes as Exposures
    from .reader import Recording

FLUSH_PERIOD = 0.4  # s
SPARE = 4 << 20
"""Bytes set aside beside the file, for HDF5 to close it with when the disk is full."""
_UNCLOSED: list[object] = []
LIBVER = ("v110", "v110")  # SWMR needs 1.10; anything newer would shut out older programs


class NexusWriter:
    """Writes one run. Rows are on disk, and seen by readers, at most a second after they came."""

    def __init__(self, path: str | os.PathLike[str], plan: RunPlan) -> None:
        self.path = Path(path)
        self.plan = plan
        if problems := plan.problems():
            raise RecordError(f"{self.path}: this run can't be recorded: {'; '.join(problems)}; correct the plan")
        if self.path.exists():
            raise RecordError(f"{self.path}: there is a run of this name already; choose another name")
        self._lock = WriterLock(self.path)
        self._lock.acquire()
        self._spare = self.path.with_name(f".{self.path.name}.spare")
        self._closed = False
        self._flushed = time.monotonic()
        passing = self.path.with_name(f".{self.path.name}.new")
        try:
            with h5py.File(passing, "w", libver=LIBVER) as file:
                create(file, plan)
            passing.rename(self.path)
            self._file = h5py.File(self.path, "r+", libver=LIBVER)
            self._file.swmr_mode = True
        except BaseException as error:
            passing.unlink(missing_ok=True)
            self._lock.remove()
            if not isinstance(error, OSError):
                raise
            message = f"{self.path}: can't be created ({error}); is the disk writable and not full?"
            raise RecordError(message) from error
        self._cameras = {camera.name: camera for camera in plan.cameras}
        self._signals = {signal.path: signal for signal in plan.signals}
        self._frames = {name: Table(self._file[frames_group(name)], whole_chunks=IMAGE) for name in self._cameras}
        self._readings = {
            path: Table(self._file[signal_group(path)], whole_chunks="value" if is_fast(signal) else None)
            for path, signal in self._signals.items()
        }
        self._events = Table(self._file[EVENTS])
        self.ticks = TickTables(self._file, plan)
        """Takes exchanges of time, pulses and samples, each by its device's own clock."""
        self._aligned: dict[str, list[tuple[int, dict[str, Array]]]] = {name: [] for name in self._cameras}
        self._placed: dict[str, list[tuple[int, dict[str, Array]]]] = {name: [] for name in self._cameras}
        with contextlib.suppress(OSError):  # without it a full disk is just harder to survive
            self._spare.write_bytes(bytes(SPARE))
        self.append_event(plan.start_time, "start", text=plan.title)
        self._write(everything=True)

    # --- rows as they come ----------------------------------------------------------------

    def append_frames(self, camera: str, images: Array, columns: Mapping[str, Array]) -> None:
        """Add frames `images[n, rows, columns]` with one entry per frame in each of `columns`.

        `columns` holds any of `layout.FRAME_COLUMNS` and the camera's own; what is absent is unknown.
        """
        plan = self._camera(camera)
        images = np.asarray(images)
        if images.ndim != 3 or images.shape[1:] != tuple(plan.shape) or images.dtype != np.dtype(plan.dtype):
            raise RecordError(
                f"{camera}: frames of {images.shape[1:]} {images.dtype} don't fit the run's "
                f"{tuple(plan.shape)} {plan.dtype}; start a new run after changing the camera"
            )
        count = len(images)
        own = {column.name: np.dtype(column.dtype) for column in plan.columns}
        if strange := sorted(set(columns) - set(FRAME_COLUMNS) - set(own)):
            raise RecordError(f"{camera}: unknown column {strange[0]!r}; declare it in the plan before the run")
        rows: dict[str, Array] = {IMAGE: images.copy()}
        for name, (dataset, dtype, _, fill, _) in FRAME_COLUMNS.items():
            rows[dataset] = _column(columns.get(name), count, np.dtype(dtype), fill, f"{camera}.{name}")
        for name, own_dtype in own.items():
            rows[name] = _column(columns.get(name), count, own_dtype, unknown(own_dtype), f"{camera}.{name}")
        first = self._frames[camera].end
        rows["indices_image"] = np.arange(first, first + count)
        rows["elapsed"] = self._elapsed(rows["exposure_start"], rows["exposure_stop"], rows["exposure_valid"])
        self._frames[camera].append(rows)
        self.flush_if_due()

    def append_signal(
        self,
        path: str,
        value: npt.ArrayLike | Sequence[Any],
        time_ns: npt.ArrayLike,
        time_bound_ns: npt.ArrayLike | None = None,
        uncertainty: npt.ArrayLike | None = None,
        quality: Sequence[str] | npt.ArrayLike | None = None,
        ticks: npt.ArrayLike | None = None,
        valid: npt.ArrayLike | None = None,
    ) -> None:
        """Add readings of one signal. A NaN or None is unknown, and so is a value whose `valid` is False.

        `quality` is a word of `layout.QUALITIES` or its place there, for each reading; good if left out.
        """
        plan = self._signal(path)
        values, known = _values(value, plan)
        if valid is not None:
            known &= np.atleast_1d(np.asarray(valid, bool))
            if plan.kind == "float":
                values = np.where(known, values, np.nan)
        count = len(values)
        rows: dict[str, Array] = {
            "value": values,
            "time": _column(time_ns, count, np.dtype("i8"), UNKNOWN_TIME, f"{path}.time"),
            "time_bound": _column(time_bound_ns, count, np.dtype("i8"), -1, f"{path}.time_bound"),
            "uncertainty": _column(uncertainty, count, np.dtype("f8"), np.nan, f"{path}.uncertainty"),
            "quality": _qualities(quality, count, path),
            "valid": known.astype("u1"),
        }
        if plan.raw_ticks:
            rows["raw_ticks"] = _column(ticks, count, np.dtype("i8"), UNKNOWN_TIME, f"{path}.ticks")
        self._readings[path].append(rows)
        if plan.kind == "str":
            for text, when in zip(np.atleast_1d(np.asarray(value, object)), rows["time"], strict=True):
                if text is not None and len(str(text).encode()) > layout.VALUE_BYTES:  # cut above, whole here
                    self.append_event(int(when), "long text", path, str(text))
        self.flush_if_due()

    def append_event(self, time_ns: int, kind: str, device: str = "", text: str = "", data_json: str = "") -> None:
        """Add something that happened: a setpoint, an operation, a trip, an acknowledgement, an anchor."""
        self._check_open()
        parts = {
            name: slices(words, layout.TEXT_BYTES[name])
            for name, words in (("kind", kind), ("device", device), ("text", text), ("data", data_json))
        }
        count = max(len(pieces) for pieces in parts.values())
        rows: dict[str, Array] = {
            name: np.array(pieces + [b""] * (count - len(pieces)), f"S{layout.TEXT_BYTES[name]}")
            for name, pieces in parts.items()
        }
        rows["time"] = np.full(count, time_ns, "i8")
        rows["part"] = np.arange(count, dtype="u2")
        self._events.append(rows)
        self.flush_if_due()

    def place_frames(self, camera: str, first_row: int, times: Exposures) -> None:
        """Frames `first_row` and on, appended before, were exposed at other times than was known then."""
        self._camera(camera)
        rows: dict[str, Array] = {
            FRAME_COLUMNS[name][0]: np.asarray(getattr(times, name), FRAME_COLUMNS[name][1])
            for name in ("start", "stop", "bound", "valid", "sigma")
        }
        rows["elapsed"] = self._elapsed(times.start, times.stop, times.valid)
        self._placed[camera].append((first_row, rows))
        self.flush_if_due()

    def append_aligned(
        self, camera: str, first_row: int, columns: Mapping[str, Aligned | tuple[Array, Array, Array]]
    ) -> None:
        """Lay provisional values onto frames `first_row` and on; rows may come late, twice or with gaps."""
        if rows := self._aligned_rows(camera, columns):
            self._aligned[camera].append((first_row, rows))
        self.flush_if_due()

    def replace_aligned(
        self,
        camera: str,
        columns: Mapping[str, Aligned | tuple[Array, Array, Array]],
        times: FrameTimes | None = None,
    ) -> None:
        """Put the final result, one row per frame from the first, in place of the provisional one."""
        rows = self._aligned_rows(camera, columns)
        self.flush()
        count = self._frames[camera].rows
        if wrong := sorted({len(values) for values in rows.values()} - {count}):
            raise RecordError(f"{camera}: {wrong[0]} aligned rows for {count} frames; align every frame recorded")
        write_alignment(self._file, camera, rows, times, self.plan.start_time)

    def as_it_stands(self) -> Recording:
        """The run by what has been flushed, to be read in the writer's own thread; don't close it."""
        from .reader import Recording

        return Recording(self.path, self._file)

    def state_origin(self, origin: Origin) -> None:
        """Say where the final times and values come from."""
        self._check_open()
        origin.write(self._file)

    # --- to disk ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write everything now; readers see it at once and it outlives this process."""
        self._write(everything=True)

    def flush_if_due(self) -> None:
        """Write what has waited long enough. Call it in idle moments too; appending calls it by itself."""
        if time.monotonic() - self._flushed >= FLUSH_PERIOD:
            self._write(everything=False)

    def close(self, end_time_ns: int, summary: Mapping[str, Any] | None = None) -> None:
        """Finish the run: the file then opens anywhere, without our package. Closing again does nothing."""
        if self._closed:
            return
        try:
            self.append_event(end_time_ns, "end", text="the run was closed")
            self._write(everything=True)
            for name in self._cameras:
                pad_stimuli(self._file, name, self._frames[name].rows)
            fill_empty(self._file)
            text = json.dumps(dict(summary or {}), default=str)
            if len(text.encode()) > SUMMARY_BYTES:
                self.append_event(end_time_ns, "summary", data_json=text)
                text = json.dumps({"see": "the last event of kind summary"})
                self._write(everything=True)
            self._file[f"{ENTRY}/note_summary/description"][()] = text.encode()
            self._file[f"{RUN}/end_time"][()] = end_time_ns
            self._file[f"{RUN}/state"][()] = b"finished"
        finally:
            self._shut()

    def abandon(self) -> None:
        """Give up after a failed write: keep what is on disk, for `repair` to mend.

        Some room that was set aside is let go, so that HDF5 may still write what it holds. If even that
        fails its objects are kept for ever: HDF5 would write again, and crash, as each is let go.
        """
        if self._closed:
            return
        self._closed = True
        self._spare.unlink(missing_ok=True)
        try:
            self._file.close()
        except (OSError, RuntimeError):
            _UNCLOSED.append((self._file, self._frames, self._readings, self.ticks, self._events))
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(_UNCLOSED))
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(time.time_ns(), {"error": repr(error)} if error else None)

    # --- private ------------------------------------------------------------------------------

    def _camera(self, name: str) -> CameraPlan:
        self._check_open()
        if name not in self._cameras:
            raise RecordError(f"{name}: no such camera in this run; the plan has {', '.join(self._cameras) or 'none'}")
        return self._cameras[name]

    def _signal(self, path: str) -> SignalPlan:
        self._check_open()
        if path not in self._signals:
            raise RecordError(f"{path}: no such signal in this run; declare it in the plan before the run")
        return self._signals[path]

    def _check_open(self) -> None:
        if self._closed:
            raise RecordError(f"{self.path}: the run is closed; start a new one")

    def _elapsed(self, start: Array, stop: Array, valid: Array) -> Array:
        return elapsed(start, stop, valid, self.plan.start_time)

    def _aligned_rows(
        self, camera: str, columns: Mapping[str, Aligned | tuple[Array, Array, Array]]
    ) -> dict[str, Array]:
        plan = self._camera(camera)
        for path in columns:
            if path not in plan.aligned:
                raise RecordError(f"{camera}: {path} is not among its aligned signals; declare it before the run")
        return aligned_rows({path: columns[path] for path in columns}, self._signals)

    def _write(self, everything: bool) -> None:
        self._check_open()
        now = time.monotonic()
        try:
            for table in (*self._frames.values(), *self._readings.values(), *self.ticks.tables, self._events):
                table.write(everything, now)
            for camera, blocks in self._aligned.items():
                if blocks:
                    write_blocks(self._file[stimuli_group(camera)], blocks)
                    blocks.clear()
            for camera, blocks in self._placed.items():
                there = self._frames[camera].rows
                ready = [block for block in blocks if block[0] + len(block[1]["elapsed"]) <= there]
                write_blocks(self._file[frames_group(camera)], ready)
                self._placed[camera] = blocks[len(ready) :]
            self._file.flush()
        except (OSError, RuntimeError) as error:  # HDF5 raises either
            reason = str(error).partition("(")[2].partition(":")[0] or str(error)
            raise RecordError(
                f"{self.path}: can't be written ({reason}); is the disk full or gone? "
                f"What was written before can be read after `hal repair {self.path}`"
            ) from error
        self._flushed = now
        self._lock.beat()

    def _shut(self) -> None:
        self._closed = True
        self._spare.unlink(missing_ok=True)
        try:
            self._file.close()
        except (OSError, RuntimeError) as error:
            self._lock.release()
            raise RecordError(f"{self.path}: can't be closed ({error}); run `hal repair` on it") from error
        # Programs that follow live keep a shared lock; they don't mind, as `tidy` leaves the old in place.
        # A reader within this very process keeps the file from being opened; then `repair` can tidy later.
        with contextlib.suppress(OSError), h5py.File(self.path, "r+", libver=LIBVER, locking=False) as file:
            tidy(file)
        self._lock.remove()


# --- rows from what the caller gave -----------------------------------------------------------


def _column(given: npt.ArrayLike | None, count: int, dtype: np.dtype[Any], fill: Any, who: str) -> Array:
    if given is None:
        return np.full(count, fill, dtype)
    column = np.array(given, dtype, ndmin=1)
    if column.shape != (count,):
        raise RecordError(f"{who}: {column.shape} entries for {count} rows; give one per row")
    return column


def _values(given: npt.ArrayLike | Sequence[Any], plan: SignalPlan) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The values as they are stored, and which of them are known."""
    raw = np.atleast_1d(np.asarray(given, object if plan.kind != "float" else None))
    if plan.kind == "float":
        values = raw.astype("f8")
        return values, ~np.isnan(values)
    known = np.array(
        [not (item is None or (isinstance(item, float | np.floating) and np.isnan(item))) for item in raw],
        bool,
    )
    if plan.kind == "str":
        return np.array(encoded(np.where(known, raw, ""), layout.VALUE_BYTES), f"S{layout.VALUE_BYTES}"), known
    return np.where(known, raw, 0).astype(layout.value_dtype(plan.kind)), known


def _qualities(given: Sequence[str] | npt.ArrayLike | None, count: int, path: str) -> Array:
    if given is None:
        return np.zeros(count, "u1")
    words = np.atleast_1d(np.asarray(given))
    if words.dtype.kind in "US":
        try:
            words = np.array([QUALITIES.index(str(word)) for word in words], "u1")
        except ValueError as error:
            raise RecordError(f"{path}: {error}; a quality is one of {', '.join(QUALITIES)}") from error
    return _column(words, count, np.dtype("u1"), 0, f"{path}.quality")
