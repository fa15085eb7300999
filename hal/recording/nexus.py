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
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import RecordError
from . import layout
from .layout import (
    ENTRY,
    EVENTS,
    FRAME_COLUMNS,
    IMAGE,
    INSTRUMENT,
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
from .repair import WriterLock, growing

FLUSH_PERIOD = 0.4  # s
PATIENCE = 0.3  # s; a chunk that isn't full by then is written in part
CHUNK_BYTES = 1 << 20
FAST_SIGNAL = 200.0  # 1/s; from here on a signal's columns are compressed
SUMMARY_BYTES = 65536
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
        self._closed = False
        self._flushed = time.monotonic()
        passing = self.path.with_name(f".{self.path.name}.new")
        try:
            with h5py.File(passing, "w", libver=LIBVER) as file:
                _create(file, plan)
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
        self._frames = {name: _Table(self._file[frames_group(name)], whole_chunks=IMAGE) for name in self._cameras}
        self._readings = {
            path: _Table(self._file[signal_group(path)], whole_chunks="value" if _is_fast(signal) else None)
            for path, signal in self._signals.items()
        }
        self._events = _Table(self._file[EVENTS])
        self._aligned: dict[str, list[tuple[int, dict[str, Array]]]] = {name: [] for name in self._cameras}
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
            rows[name] = _column(columns.get(name), count, own_dtype, _fill(own_dtype), f"{camera}.{name}")
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
            name: _slices(words, layout.TEXT_BYTES[name])
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
            for table in (*self._frames.values(), *self._readings.values(), self._events):
                table.write(everything, now)
            for camera, blocks in self._aligned.items():
                if blocks:
                    _write_blocks(self._file[stimuli_group(camera)], blocks)
                    blocks.clear()
            self._file.flush()
        except OSError as error:
            raise RecordError(f"{self.path}: can't be written ({error}); is the disk full or gone?") from error
        self._flushed = now
        self._lock.beat()

    def _shut(self) -> None:
        self._closed = True
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


class _Table:
    """Datasets of one group that grow row by row, together."""

    def __init__(self, group: h5py.Group, whole_chunks: str | None = None) -> None:
        # images first, so that no column describes a missing one
        datasets = sorted(growing(group), key=lambda dataset: not dataset.name.endswith(f"/{IMAGE}"))
        self._datasets = {dataset.name.rpartition("/")[2]: dataset for dataset in datasets}
        self._chunk = group[whole_chunks].chunks[0] if whole_chunks else 0  # 0: wait for the flush
        self._grows_in_place = whole_chunks is None or group[whole_chunks].compression is None
        self._waiting: list[tuple[float, dict[str, Array]]] = []  # since when (s, monotonic), rows
        self._count = 0
        self.rows = 0  # written

    @property
    def end(self) -> int:
        """Rows written and waiting."""
        return self.rows + self._count

    def append(self, rows: dict[str, Array]) -> None:
        now = time.monotonic()
        if count := len(next(iter(rows.values()))):
            self._waiting.append((now, rows))
            self._count += count
            if 0 < self._chunk <= self._count:
                self.write(False, now)

    def write(self, everything: bool, now: float) -> None:
        """Write whole chunks; a part of one only if it has waited for `PATIENCE`, or if told to."""
        if not self._count:
            return
        count = self._count
        if not (everything or self._grows_in_place or now - self._waiting[0][0] >= PATIENCE):
            count = max(0, self.end // self._chunk * self._chunk - self.rows)
            if not count:
                return
        end = self.rows + count
        rest: dict[str, Array] = {}
        for name, dataset in self._datasets.items():
            pieces = [rows[name] for _, rows in self._waiting]
            column = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            dataset.resize(end, axis=0)
            _put(dataset, self.rows, end, column[:count])
            rest[name] = column[count:]
        self.rows = end
        self._count -= count
        self._waiting = [(self._waiting[-1][0], rest)] if self._count else []


# --- shared with repair -----------------------------------------------------------------------


def aligned_rows(
    columns: Mapping[str, Aligned | tuple[Array, Array, Array]],
    signals: Mapping[str, SignalPlan] | Mapping[str, str],
) -> dict[str, Array]:
    """Datasets of the stimuli group for these signals; unknown becomes NaN and a False."""
    rows: dict[str, Array] = {}
    for path, column in columns.items():
        plan = signals[path]
        kind = plan if isinstance(plan, str) else plan.kind
        name = layout.stimulus(path, kind)
        value, uncertainty, valid = (
            (column.value, column.uncertainty, column.valid) if isinstance(column, Aligned) else column
        )
        known = np.array(valid, bool)
        if kind == "str":
            texts = np.array(_encoded(value, layout.VALUE_BYTES), f"S{layout.VALUE_BYTES}")
            rows[name] = np.where(known, texts, b"").astype(texts.dtype)
        else:
            numbers = np.array(value, "f8")
            known &= ~np.isnan(numbers)
            rows[name] = np.where(known, numbers, np.nan)
        rows[f"{name}_errors"] = np.where(known, np.asarray(uncertainty, "f8"), np.nan)
        rows[f"{name}_valid"] = known.astype("u1")
    if len({len(values) for values in rows.values()}) > 1:
        raise RecordError("aligned columns differ in length; give one row per frame in each")
    return rows


def write_alignment(
    file: h5py.File, camera: str, rows: Mapping[str, Array], times: FrameTimes | None, start_time: int
) -> None:
    """Overwrite a camera's stimuli from the first frame on, and the exposures if `times` are given."""
    if rows:
        _write_blocks(file[stimuli_group(camera)], [(0, dict(rows))])
    if times is None:
        return
    frames = file[frames_group(camera)]
    count = frames["frame_number"].shape[0]
    final: dict[str, Array] = {
        "exposure_start": times.start,
        "exposure_stop": times.stop,
        "exposure_bound": times.bound,
        "exposure_valid": times.valid,
        "elapsed": elapsed(times.start, times.stop, times.valid, start_time),
    }
    for name, column in final.items():
        if len(column) != count:
            raise RecordError(f"{camera}: {len(column)} times for {count} frames; give one per frame recorded")
        if count:
            frames[name][:count] = column


def elapsed(start: Array, stop: Array, valid: Array, start_time: int) -> Array:
    """Seconds from the start of the run to the middle of each exposure; NaN where unknown."""
    known = np.asarray(valid, bool) & (np.asarray(start) != UNKNOWN_TIME) & (np.asarray(stop) != UNKNOWN_TIME)
    begin = np.where(known, start, 0) - np.where(known, start_time, 0)
    length = np.where(known, stop, 0) - np.where(known, start, 0)
    return np.where(known, (begin + length / 2) / 1e9, np.nan)


def tidy(file: h5py.File) -> None:
    """Once no more rows come: texts at their own length instead of the fixed width that SWMR asks for.

    What is new is written beside the old, and on disk, before it takes its place: a reader who still
    looks at the old finds it intact, and this may be interrupted and begun again.
    """
    entry = file[ENTRY]
    if "end_time" not in entry:
        entry["end_time"] = layout.iso_time(int(entry["run/end_time"][()]))
    stimuli = [item for name, item in entry.items() if name.startswith("stimuli_")]
    places = [
        entry,
        *file.get(layout.SIGNALS, {}).values(),
        *(item["texts"] for item in stimuli if "texts" in item),
    ]
    fresh: list[tuple[h5py.Group, str]] = []
    for place in places:
        for name in [name for name in place if name.endswith(_NEW)]:
            if name.removesuffix(_NEW) in place:
                del place[name]
            else:  # interrupted between taking away the old and putting this there
                place.move(name, name.removesuffix(_NEW))
        for name, item in list(place.items()):
            if place == entry and name == "events" and "part" in item:
                _write_events(place, item)
            elif place != entry and isinstance(item, h5py.Dataset) and item.dtype.kind == "S":
                texts = np.array([text.decode() for text in item[:]], object)
                new = place.create_dataset(name + _NEW, data=texts, dtype=h5py.string_dtype())
                _copy_attributes(item, new)
            else:
                continue
            fresh.append((place, name))
    file.flush()
    for place, name in fresh:
        del place[name]
        place.move(name + _NEW, name)


def _write_events(place: h5py.Group, old: h5py.Group) -> None:
    times, columns = joined_events(old)
    new = _group(place, f"events{_NEW}", "NXcollection")
    _copy_attributes(old, new)
    new["time"] = times
    for name, texts in columns.items():
        new.create_dataset(name, data=np.array(texts, object), dtype=h5py.string_dtype())
    for name in new:
        _copy_attributes(old[name], new[name])


def joined_events(group: h5py.Group, count: int | None = None) -> tuple[Array, dict[str, list[str]]]:
    """Times and texts of the events, each in one piece, from the rows written live."""
    part = group["part"][:count]
    begins = np.flatnonzero(part == 0).tolist()
    rows = {name: group[name][: len(part)] for name in layout.TEXT_BYTES}
    spans = list(zip(begins, [*begins[1:], len(part)], strict=True))
    texts = {name: [b"".join(column[a:b]).decode() for a, b in spans] for name, column in rows.items()}
    return group["time"][: len(part)][begins], texts


_NEW = "__new"


def _copy_attributes(old: Any, new: Any) -> None:
    for name, attribute in old.attrs.items():
        new.attrs[name] = attribute


def _write_blocks(group: h5py.Group, blocks: Sequence[tuple[int, dict[str, Array]]]) -> None:
    joined: list[tuple[int, dict[str, list[Array]], int]] = []
    for first, rows in blocks:
        count = len(next(iter(rows.values())))
        if joined and joined[-1][2] == first and joined[-1][1].keys() == rows.keys():
            for name, column in rows.items():
                joined[-1][1][name].append(column)
            joined[-1] = (joined[-1][0], joined[-1][1], first + count)
        else:
            joined.append((first, {name: [column] for name, column in rows.items()}, first + count))
    for first, pieces, end in joined:
        if end == first:
            continue
        for name, columns in pieces.items():
            dataset = group[name]
            if dataset.shape[0] < end:
                dataset.resize(end, axis=0)
            _put(dataset, first, end, np.concatenate(columns))


def _put(dataset: h5py.Dataset, first: int, end: int, column: Array) -> None:
    # UTF-8 texts and enums must be marked as such, which plain numpy columns are not
    dataset[first:end] = column.astype(dataset.dtype) if dataset.dtype.metadata else column


def pad_stimuli(file: h5py.File, camera: str, count: int) -> None:
    """Give every aligned signal one row per frame; what was not aligned is NaN and not valid."""
    for dataset in growing(file[stimuli_group(camera)]):
        if dataset.shape[0] != count:
            dataset.resize(count, axis=0)


def fill_empty(file: h5py.File) -> None:
    """Give a signal that was never read one row that says so; HyperSpy can't open a dataset without rows."""
    for group in file.get(layout.SIGNALS, {}).values():
        for dataset in growing(group):
            if dataset.shape[0] == 0:
                dataset.resize(1, axis=0)  # the fill values: time and value unknown, not valid


# --- rows from what the caller gave -----------------------------------------------------------


def _column(given: npt.ArrayLike | None, count: int, dtype: np.dtype[Any], fill: Any, who: str) -> Array:
    if given is None:
        return np.full(count, fill, dtype)
    column = np.array(given, dtype, ndmin=1)
    if column.shape != (count,):
        raise RecordError(f"{who}: {column.shape} entries for {count} rows; give one per row")
    return column


def _fill(dtype: np.dtype[Any]) -> Any:
    return {"f": np.nan, "i": UNKNOWN_TIME if dtype.itemsize == 8 else -1, "b": False, "S": b""}.get(dtype.kind, 0)


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
        return np.array(_encoded(np.where(known, raw, ""), layout.VALUE_BYTES), f"S{layout.VALUE_BYTES}"), known
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


def _encoded(texts: npt.ArrayLike, width: int) -> list[bytes]:
    return [_slices(t.decode() if isinstance(t, bytes) else str(t), width)[0] for t in np.atleast_1d(np.asarray(texts))]


def _slices(text: str, width: int) -> list[bytes]:
    """UTF-8 in pieces of at most `width` bytes, no character cut in two."""
    whole = text.encode()
    pieces: list[bytes] = []
    while len(whole) > width:
        cut = width
        while whole[cut] & 0xC0 == 0x80:  # inside a character
            cut -= 1
        pieces.append(whole[:cut])
        whole = whole[cut:]
    return [*pieces, whole]


# --- the tree, created once -------------------------------------------------------------------


def _create(file: h5py.File, plan: RunPlan) -> None:
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "insitu-hal"})
    entry = _group(file, ENTRY, "NXentry")
    entry["definition"] = "NXem"
    entry["title"] = plan.title
    entry["experiment_alias"] = plan.title
    entry["start_time"] = layout.iso_time(plan.start_time)
    run = _group(entry, "run", "NXcollection")
    for name, moment in (("start_time", plan.start_time), ("end_time", UNKNOWN_TIME)):
        run[name] = np.int64(moment)
        run[name].attrs.update({"units": "ns", "start": "1970-01-01T00:00:00Z"})
    _text(run, "state", 16, "recording")
    run["state"].attrs["description"] = f"one of {', '.join(layout.STATES)}"
    _people_and_sample(entry, plan)
    _notes(entry, plan)
    _clock(entry, plan)
    for device in plan.devices:
        _device(file, device)
    for signal in plan.signals:
        _signal_log(file, signal)
    _event_log(file)
    _measurement(file, plan)
    for camera in plan.cameras:
        _camera_data(file, plan, camera)
        _stimuli(file, plan, camera)
    _defaults(file, plan)


def _people_and_sample(entry: h5py.Group, plan: RunPlan) -> None:
    if plan.user:
        _group(entry, "user", "NXuser")["name"] = plan.user
    sample = _group(entry, "sample", "NXsample")
    notes = dict(plan.sample_notes)
    sample["name"] = plan.sample
    sample["is_simulation"] = plan.simulated
    # NXem asks for these two; who doesn't know them says so.
    sample["atom_types"] = notes.pop("atom_types", "unknown")
    prepared = notes.pop("preparation_date", "")
    sample["preparation_date"] = prepared or layout.iso_time(plan.start_time)
    if not prepared:
        notes["preparation_date"] = "not known; the start of the run stands in, as NXem wants a date"
    for name in ("physical_form", "description"):
        if name in notes:
            sample[name] = notes.pop(name)
    if notes:
        extra = _group(sample, "notes", "NXcollection")
        for name, words in notes.items():
            extra[_nexus_name(name)] = words
    if plan.holder is not None:
        holder = _group(entry, "holder", "NXcollection")
        holder["name"] = plan.holder.name
        _words(holder, "parts", plan.holder.parts)
        _words(holder, "limits", plan.holder.limits)
    software = _group(entry, "profiling", "NXcs_profiling")
    for name, version in plan.software.items():
        program = _group(software, f"program_{_nexus_name(name)}", "NXprogram")
        program["program"] = name
        program["program"].attrs["version"] = version


def _notes(entry: h5py.Group, plan: RunPlan) -> None:
    for name, file_name, kind, text in (
        ("note_lab_file", "lab.toml", "application/toml", plan.lab_file),
        ("note_script", "script.py", "text/x-python", plan.script),
    ):
        if text is not None:
            _note(entry, name, file_name, kind)["description"] = text
    summary = _note(entry, "note_summary", "summary.json", "application/json")
    _text(summary, "description", SUMMARY_BYTES, "{}")


def _clock(entry: h5py.Group, plan: RunPlan) -> None:
    clock = _group(entry, "clock", "NXcollection")
    clock["name"] = plan.clock.name
    clock["description"] = "time = epoch + (monotonic reading - monotonic), give or take uncertainty"
    for name in ("epoch", "monotonic", "uncertainty"):
        clock[name] = np.int64(getattr(plan.clock, name))
        clock[name].attrs["units"] = "ns"
    clock["epoch"].attrs["start"] = "1970-01-01T00:00:00Z"


def _device(file: h5py.File, device: layout.DevicePlan) -> None:
    if layout.DEVICES not in file:
        _group(file, layout.DEVICES, "NXcollection")
    group = _group(file, f"{layout.DEVICES}/{device.name}", "NXcollection")
    group["name"] = device.name
    maker = _group(group, "fabrication", "NXcollection")
    maker["vendor"], maker["model"], maker["serial_number"] = (
        device.vendor,
        device.model,
        device.serial_number,
    )
    record = _group(group, "driver", "NXcollection")
    record["name"] = device.driver
    record["identity"] = device.identity
    record["link"] = device.link
    record["capabilities"] = ", ".join(device.capabilities)
    record["config"] = json.dumps(dict(device.config), default=str)
    _words(record, "limits", device.limits)
    for name, text in device.certificates.items():
        _note(group, f"certificate_{_nexus_name(name)}", name, "text/plain")["description"] = text


def _signal_log(file: h5py.File, plan: SignalPlan) -> None:
    if layout.SIGNALS not in file:
        _group(file, layout.SIGNALS, "NXcollection")
    # NXlog holds numbers; a signal that is a text has the same columns in a plain collection.
    group = _group(file, signal_group(plan.path), "NXlog" if plan.kind != "str" else "NXcollection")
    group["description"] = plan.long_name or plan.path
    group.attrs.update(
        {
            "signal": "value",
            "axes": "time",
            "kind": plan.kind,
            "interpolation": plan.interpolation,
            "role": plan.role,
            "aperture": plan.aperture,
            "max_age": plan.max_age,
            "limits": plan.limits,
            "unit": plan.unit,
            "ucum": plan.ucum,
            "ticks_clock": plan.ticks_clock,
        }
    )
    fast = _is_fast(plan)
    chunk = min(65536, max(64, int((plan.rate or 0) * 0.25))) if fast else 512
    how: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if fast else {}
    value = layout.value_dtype(plan.kind)
    units = plan.udunits or plan.unit
    _growing(group, "value", value, chunk, units, _fill(value), plan.long_name or plan.path, **how)
    _growing(group, "time", "i8", chunk, "ns", UNKNOWN_TIME, "middle of the interval of measurement", **how)
    group["time"].attrs["start"] = "1970-01-01T00:00:00Z"
    _growing(group, "time_bound", "i8", chunk, "ns", -1, "half-width of the interval; -1 is unknown", **how)
    _growing(
        group,
        "uncertainty",
        "f8",
        chunk,
        _interval_unit(units),
        np.nan,
        "standard uncertainty; NaN is unknown",
        **how,
    )
    quality = h5py.enum_dtype({word: place for place, word in enumerate(QUALITIES)}, basetype="u1")
    _growing(group, "quality", quality, chunk, "", None, "0 good, 1 stale, 2 uncertain, 3 bad", **how)
    _growing(group, "valid", "u1", chunk, "", 0, "1 if the value is known, else 0", **how)
    if plan.raw_ticks:
        _growing(group, "raw_ticks", "i8", chunk, "", UNKNOWN_TIME, "the source's own counter", **how)


def _event_log(file: h5py.File) -> None:
    events = _group(file, EVENTS, "NXcollection")
    events.attrs["description"] = "what happened: setpoints, operations, trips, acknowledgements, links, anchors"
    _growing(events, "time", "i8", 64, "ns", UNKNOWN_TIME, "when")
    events["time"].attrs["start"] = "1970-01-01T00:00:00Z"
    for name, meaning in (
        ("kind", "kind of event"),
        ("device", "who"),
        ("text", "in words"),
        ("data", "as JSON"),
    ):
        width = h5py.string_dtype("utf-8", layout.TEXT_BYTES[name])
        _growing(events, name, width, 8, "", None, meaning, compression="gzip", compression_opts=1, shuffle=True)
    _growing(events, "part", "u2", 64, "", 0, "0 begins an event; 1, 2, ... continue its texts")


def _measurement(file: h5py.File, plan: RunPlan) -> None:
    _group(file, layout.MEASUREMENT, "NXem_measurement")
    if plan.cameras:
        _group(file, layout.CAMERAS, "NXcollection")
    microscope = _group(file, INSTRUMENT, "NXem_instrument")
    scope = plan.microscope
    microscope["name"] = scope.name if scope.name != "unknown" else plan.lab or "unknown"
    microscope["location"] = scope.location
    microscope["type"] = scope.kind
    maker = _group(microscope, "fabrication", "NXfabrication")
    maker["vendor"], maker["model"], maker["serial_number"] = scope.vendor, scope.model, scope.serial_number
    _group(microscope, "ebeam_column", "NXebeam_column")
    for place, camera in enumerate(plan.cameras):
        about = _group(file, f"{layout.CAMERAS}/{camera.name}", "NXcollection")
        about.attrs["place"] = place
        for name, rate in (("frame_rate", camera.rate), ("ticks_rate", camera.ticks_rate)):
            if rate is not None:
                about[name] = rate
                about[name].attrs["units"] = "1/s"
        about["aligned"] = "\n".join(camera.aligned)
        detector = _group(microscope, f"detector_{camera.name}", "NXdetector")
        detector["name"] = camera.name
        detector["count_time"] = camera.exposure
        detector["count_time"].attrs["units"] = "s"
        made = _group(detector, "fabrication", "NXfabrication")
        made["vendor"], made["model"], made["serial_number"] = (
            camera.vendor,
            camera.model,
            camera.serial_number,
        )


def _camera_data(file: h5py.File, plan: RunPlan, camera: CameraPlan) -> None:
    event = _group(file, f"{layout.MEASUREMENT}/event_{camera.name}", "NXem_event_data")
    event["start_time"] = layout.iso_time(plan.start_time)
    event["identifier_sample"] = plan.sample
    event.attrs["default"] = "image_frames"
    image = _group(event, "image_frames", "NXimage")
    image.attrs["default"] = "stack_2d"
    _group(image, "process", "NXprocess")["detector_identifier"] = camera.name
    group = _group(image, "stack_2d", "NXdata")
    group.attrs.update(
        {
            "signal": IMAGE,
            "axes": ["indices_image", ".", "."],  # so HyperSpy takes the last two for the image
            "indices_image_indices": np.uint32(0),
            "axis_j_indices": np.uint32(1),
            "axis_i_indices": np.uint32(2),
        }
    )
    group["title"] = f"{plan.title}: {camera.name}"
    dtype = np.dtype(camera.dtype)
    bytes_per_frame = max(1, camera.shape[0] * camera.shape[1] * dtype.itemsize)
    chunk = max(1, CHUNK_BYTES // bytes_per_frame)
    if camera.rate is not None:
        chunk = max(1, min(chunk, int(camera.rate * 0.25)))
    how: dict[str, Any] = {"compression": camera.compression, "shuffle": True} if camera.compression else {}
    if camera.compression == "gzip":
        how["compression_opts"] = 1
    stack = group.create_dataset(
        IMAGE, (0, *camera.shape), dtype, maxshape=(None, *camera.shape), chunks=(chunk, *camera.shape), **how
    )
    stack.attrs.update({"long_name": f"{camera.name}: counts"})
    rows = min(4096, max(256, chunk))
    _growing(group, "indices_image", "i8", rows, "", -1, "frame index")
    for axis, size in (("axis_j", camera.shape[0]), ("axis_i", camera.shape[1])):
        group[axis] = np.arange(size) * (camera.pixel_size or 1.0) if camera.pixel_size else np.arange(size)
        direction = "row" if axis == "axis_j" else "column"
        group[axis].attrs.update({"units": camera.pixel_unit, "long_name": f"{direction} ({camera.pixel_unit})"})
    for dataset, kind, unit, fill, meaning in FRAME_COLUMNS.values():
        _growing(group, dataset, kind, rows, unit, fill, meaning)
    _growing(group, "elapsed", "f8", rows, "s", np.nan, "middle of the exposure since the start of the run (s)")
    group["elapsed"].attrs["target"] = group["elapsed"].name
    for column in camera.columns:
        own = np.dtype(column.dtype)
        _growing(group, column.name, own, rows, column.unit, _fill(own), column.long_name or column.name)


def _stimuli(file: h5py.File, plan: RunPlan, camera: CameraPlan) -> None:
    group = _group(file, stimuli_group(camera.name), "NXdata")
    group["title"] = f"{plan.title}: signals at each frame of {camera.name}"
    signals = {signal.path: signal for signal in plan.signals}
    numbers = [path for path in camera.aligned if signals[path].kind != "str"]
    group["elapsed"] = h5py.SoftLink(f"{frames_group(camera.name)}/elapsed")
    if numbers:
        group.attrs.update(
            {
                "signal": numbers[0],
                "axes": ["elapsed"],
                "elapsed_indices": np.uint32(0),
            }
        )
    if numbers[1:]:
        group.attrs["auxiliary_signals"] = numbers[1:]
    if len(numbers) < len(camera.aligned):
        _group(group, "texts", "NXcollection")
    for path in camera.aligned:
        signal = signals[path]
        name = layout.stimulus(path, signal.kind)
        units = signal.udunits or signal.unit
        label = f"{signal.long_name or path} ({signal.unit})" if signal.unit else signal.long_name or path
        if signal.kind == "str":
            _growing(group, name, layout.value_dtype("str"), 512, "", b"", label)
        else:
            _growing(group, name, "f8", 1024, units, np.nan, label)
        _growing(group, f"{name}_errors", "f8", 1024, _interval_unit(units), np.nan, "standard uncertainty")
        _growing(group, f"{name}_valid", "u1", 1024, "", 0, "1 if the value is known, else 0")


def _defaults(file: h5py.File, plan: RunPlan) -> None:
    """What a viewer shows first: the frames, else the first signal over time."""
    if plan.cameras:
        file[ENTRY].attrs["default"] = "measurement"
        file[layout.MEASUREMENT].attrs["default"] = f"event_{plan.cameras[0].name}"
        return
    numbers = [signal for signal in plan.signals if signal.kind != "str"]
    if numbers:
        path = numbers[0].path
        plot = _group(file, f"{ENTRY}/plot", "NXdata")
        plot.attrs.update({"signal": "value", "axes": ["time"], "time_indices": np.uint32(0)})
        plot["title"] = f"{plan.title}: {path}"
        for name in ("value", "time"):
            plot[name] = h5py.SoftLink(f"{signal_group(path)}/{name}")
            plot[name].attrs["target"] = f"{signal_group(path)}/{name}"
        file[ENTRY].attrs["default"] = "plot"


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _note(parent: h5py.Group, name: str, file_name: str, kind: str) -> h5py.Group:
    note = _group(parent, name, "NXnote")
    note["file_name"] = file_name
    note["type"] = kind
    return note


def _text(group: h5py.Group, name: str, width: int, text: str = "") -> None:
    dataset = group.create_dataset(name, (), h5py.string_dtype("utf-8", width))
    dataset[()] = text.encode()


def _words(group: h5py.Group, name: str, words: Mapping[str, str]) -> None:
    if words:
        inside = _group(group, name, "NXcollection")
        for key, text in words.items():
            inside[_nexus_name(key)] = str(text)


def _growing(
    group: h5py.Group, name: str, dtype: Any, chunk: int, units: str, fill: Any, long_name: str, **how: Any
) -> None:
    if isinstance(dtype, np.dtype) and dtype.kind == "S":
        dtype = h5py.string_dtype("utf-8", dtype.itemsize)
        fill = None
    dataset = group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(chunk,), fillvalue=fill, **how)
    dataset.attrs["long_name"] = long_name
    if units:
        dataset.attrs["units"] = units


def _is_fast(signal: SignalPlan) -> bool:
    return (signal.rate or 0.0) >= FAST_SIGNAL


def _interval_unit(units: str) -> str:
    """The unit of a difference: an uncertainty of 1 degC is 1 K."""
    return "K" if units in ("degC", "Cel", "celsius") else units


def _nexus_name(name: str) -> str:
    """`name` with everything NeXus forbids in a name made an underscore."""
    fit = "".join(c if (c.isascii() and c.isalnum()) or c in "_." else "_" for c in name).strip(".")
    return fit or "_"
