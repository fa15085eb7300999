"""A run on disk, opened for reading: finished, still being written, or left behind by a crash.

Names are those of the programs that wrote it: ``run.frames[10]``, one per frame
``run.aligned["heater.temperature"].value``, as they came ``run.signals["heater.temperature"].value``.
Times are int64 nanoseconds since the UNIX epoch, `layout.UNKNOWN_TIME` where unknown; unknown values
are NaN and not `valid`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import RecordError, near
from . import layout
from .columns import cameras
from .finish import joined_events
from .layout import (
    ENTRY,
    RUN,
    UNKNOWN_TIME,
    Aligned,
    Array,
    ClockAnchor,
    Holder,
    frames_group,
    signal_group,
    stimuli_group,
)
from .lock import is_being_written
from .origin import Origin
from .parts import DeviceRecord, Event, FrameStack, SignalRecord
from .superblock import Superblock
from .ticks import (
    BLOCK_COLUMNS,
    EXCHANGE_COLUMNS,
    PULSE_COLUMNS,
    ClockRecord,
    PulseRecord,
    StreamRecord,
    read_clock,
    read_pulses,
    read_stream,
)

if TYPE_CHECKING:
    import pandas
    import xarray


def open_run(path: str | os.PathLike[str]) -> Recording:
    """Open a run, whatever state it is in; ``with open_run(...) as run`` closes it again."""
    path = Path(path)
    superblock = Superblock.read(path)
    if superblock is None:
        raise RecordError(f"{path}: not an HDF5 file; is it a run?")
    try:
        file = h5py.File(path, "r", swmr=bool(superblock.flags))
    except OSError as error:
        remedy = "wait until it is closed" if is_being_written(path) else "run `hal repair` on it"
        raise RecordError(f"{path}: can't be opened ({error}); {remedy}") from error
    if f"{RUN}/state" not in file or layout.MEASUREMENT not in file:
        file.close()
        raise RecordError(f"{path}: an HDF5 file, but not a run of ours; open it with h5py")
    return Recording(path, file)


class _Lazy(Mapping[str, Any]):
    """Names at once, arrays when asked for."""

    def __init__(self, names: list[str], read: Any, what: str) -> None:
        self._names, self._read, self._what = names, read, what

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            known = ", ".join(self._names) or "none"
            raise KeyError(f"no {self._what} {name!r} in this run{near(name, self._names)}; there are {known}")
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<{len(self)} {self._what}s: {', '.join(self._names)}>"


class Recording:
    """One run: frames, signals, what happened, and who took part."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file

    # --- the run ------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        return self._text(f"{ENTRY}/title")

    @property
    def sample(self) -> str:
        return self._text(f"{ENTRY}/sample/name")

    @property
    def user(self) -> str:
        return self._text(f"{ENTRY}/user/name") if "user" in self._file[ENTRY] else ""

    @property
    def holder(self) -> Holder | None:
        """What was in the gap: name, parts, limits."""
        if "holder" not in self._file[ENTRY]:
            return None
        group = self._file[f"{ENTRY}/holder"]
        parts, limits = (
            {name: _str(text[()]) for name, text in group.get(words, {}).items()} for words in ("parts", "limits")
        )
        return Holder(_str(group["name"][()]), parts, limits)

    @property
    def state(self) -> str:
        """`recording` (live), `interrupted` (needs repair), `finished`, or `crashed` (repaired)."""
        state = self._text(f"{RUN}/state")
        return "interrupted" if state == "recording" and not is_being_written(self.path) else state

    @property
    def start_time(self) -> int:
        """ns since the UNIX epoch"""
        return int(self._value(f"{RUN}/start_time"))

    @property
    def end_time(self) -> int | None:
        """ns since the UNIX epoch; None while the run goes on. Of a crashed run: the last moment it knows."""
        end = int(self._value(f"{RUN}/end_time"))
        return None if end == UNKNOWN_TIME else end

    @property
    def summary(self) -> dict[str, Any]:
        """What the recorder said at the end; empty while the run goes on."""
        found = json.loads(self._text(f"{ENTRY}/note_summary/description") or "{}")
        if "see" in found:
            found = next((event.data for event in reversed(self.events) if event.kind == "summary"), found)
        return dict(found)

    @property
    def clock(self) -> ClockAnchor:
        """The anchor between the lab's monotonic clock and the epoch at the start."""
        group = self._file[f"{ENTRY}/clock"]
        epoch, monotonic, uncertainty = (int(group[name][()]) for name in ("epoch", "monotonic", "uncertainty"))
        return ClockAnchor(epoch, monotonic, uncertainty, self._text(f"{ENTRY}/clock/name"))

    @property
    def lab_file(self) -> str | None:
        """The lab file's text as it was."""
        return self._note("note_lab_file")

    @property
    def script(self) -> str | None:
        """The script's text as it was."""
        return self._note("note_script")

    @property
    def software(self) -> dict[str, str]:
        """Name and version of the programs that took part."""
        programs = self._file[f"{ENTRY}/profiling"].values()
        return {_str(program["program"][()]): _str(program["program"].attrs["version"]) for program in programs}

    @property
    def devices(self) -> dict[str, DeviceRecord]:
        """Every instrument as it was at the start."""
        return {name: _device(group) for name, group in self._file.get(layout.DEVICES, {}).items()}

    @property
    def events(self) -> list[Event]:
        """What happened, in the order it was recorded."""
        group = self._file[layout.EVENTS]
        if "part" in group:  # as written live
            count = self._common(group, ("time", "part", *layout.TEXT_BYTES))
            times, texts = joined_events(group, count)
        else:
            times, texts = group["time"][:], {name: group[name].asstr()[:] for name in layout.TEXT_BYTES}
        rows = zip(times, texts["kind"], texts["device"], texts["text"], texts["data"], strict=True)
        return [Event(int(time), kind, device, text, _json(data)) for time, kind, device, text, data in rows]

    # --- frames -------------------------------------------------------------------------------

    @property
    def cameras(self) -> dict[str, FrameStack]:
        """Every camera's frames, the default camera first."""
        return {name: FrameStack(name, self._file[frames_group(name)]) for name in cameras(self._file)}

    @property
    def frames(self) -> FrameStack:
        """The first camera's frames."""
        return self._stack(None)

    @property
    def frame_number(self) -> npt.NDArray[np.int64]:
        return self.frames.number

    @property
    def frame_time(self) -> npt.NDArray[np.int64]:
        """Middle of each exposure (ns)."""
        return self.frames.time

    @property
    def frame_start(self) -> npt.NDArray[np.int64]:
        return self.frames.start

    @property
    def frame_stop(self) -> npt.NDArray[np.int64]:
        return self.frames.stop

    @property
    def frame_bound(self) -> npt.NDArray[np.int64]:
        """Half-width of what isn't known about each exposure's time (ns)."""
        return self.frames.bound

    @property
    def frame_valid(self) -> npt.NDArray[np.bool_]:
        return self.frames.valid

    @property
    def dropped(self) -> int:
        """Frames that all cameras together lost, by their own count."""
        return sum(stack.dropped for stack in self.cameras.values())

    # --- signals ------------------------------------------------------------------------------

    @property
    def signals(self) -> Mapping[str, SignalRecord]:
        """Every signal as it was read, not resampled."""
        return _Lazy(sorted(self._file.get(layout.SIGNALS, {})), self._signal, "signal")

    @property
    def aligned(self) -> Mapping[str, Aligned]:
        """Signals at each frame of the first camera."""
        return self.aligned_to(None)

    def aligned_to(self, camera: str | None) -> Mapping[str, Aligned]:
        """Signals at each frame of `camera`."""
        stack = self._stack(camera)
        group = self._file[stimuli_group(stack.camera)]
        names = [
            name.removesuffix("_valid")
            for place in (group, group.get("texts", {}))
            for name in place
            if name.endswith("_valid")
        ]
        return _Lazy(names, lambda path: self._aligned(stack, group, path), "aligned signal")

    # --- raw ticks ----------------------------------------------------------------------------

    @property
    def clocks(self) -> Mapping[str, ClockRecord]:
        """Devices with a clock of their own: how it was declared, and every exchange of time."""
        return _Lazy(sorted(self._file.get(layout.CLOCKS, {})), self._clock, "clock")

    @property
    def pulses(self) -> Mapping[str, PulseRecord]:
        """Every edge that a device stamped, in its own ticks."""
        return _Lazy(sorted(self._file.get(layout.PULSES, {})), self._pulses, "stamped pulse")

    @property
    def streams(self) -> Mapping[str, StreamRecord]:
        """Samples of analogue inputs, in counts and in the device's own ticks."""
        return _Lazy(sorted(self._file.get(layout.STREAMS, {})), self._stream, "stream")

    # --- alignment ----------------------------------------------------------------------------

    @property
    def origin(self) -> Origin | None:
        """Where the present times and aligned values come from; None before the run's end, and in early versions."""
        found = Origin.read(self._file[layout.ALIGNMENT]) if layout.ALIGNMENT in self._file else None
        return found if found is not None and found.program else None

    @property
    def earlier_origins(self) -> list[Origin]:
        """Of the alignments that stood here before, the first one first; their numbers are in the file."""
        kept = self._file.get(layout.EARLIER, {})
        groups = [kept[name] for name in sorted(kept, key=int)]
        found = [Origin.read(group) for group in groups if "program" in group]
        return [origin for origin in found if origin.program]  # else provisional ones stood there

    # --- tables -------------------------------------------------------------------------------

    def to_pandas(self, camera: str | None = None) -> pandas.DataFrame:
        """One row per frame: number, elapsed time, and each aligned signal with uncertainty and validity.

        The index is the middle of the exposure (UTC, NaT where unknown); units stand in ``table.attrs``.
        """
        try:
            import pandas
        except ImportError as error:
            raise RecordError('to_pandas: pandas is not installed; pip install "insitu-hal[tables]"') from error
        stack = self._stack(camera)
        columns: dict[str, Any] = {"frame_number": stack.number}
        count = len(columns["frame_number"])
        columns["frame_valid"] = stack.valid[:count]
        columns["elapsed"] = stack.column("elapsed")[:count]
        units = {"elapsed": "s"}
        for path, column in self.aligned_to(stack.camera).items():
            columns[path] = _numbers_or_texts(column.value[:count])
            columns[f"{path}.uncertainty"] = column.uncertainty[:count]
            columns[f"{path}.valid"] = column.valid[:count]
            units[path] = column.unit
        index = pandas.DatetimeIndex(stack.time[:count].view("M8[ns]"), name="time", tz="UTC")
        table = pandas.DataFrame(columns, index=index)
        table.attrs.update({"units": units, "camera": stack.camera, "title": self.title})
        return table

    def to_xarray(self, camera: str | None = None, images: bool = False) -> xarray.Dataset:
        """The same as a Dataset over `frame`; with the images themselves (in memory) if asked for."""
        try:
            import xarray
        except ImportError as error:
            raise RecordError('to_xarray: xarray is not installed; pip install "insitu-hal[tables]"') from error
        stack = self._stack(camera)
        number = stack.number
        count = len(number)
        variables: dict[str, Any] = {}
        for path, column in self.aligned_to(stack.camera).items():
            about = {"units": column.unit}
            variables[path] = ("frame", _numbers_or_texts(column.value[:count]), about)
            variables[f"{path}.uncertainty"] = ("frame", column.uncertainty[:count], about)
            variables[f"{path}.valid"] = ("frame", column.valid[:count])
        if images:
            variables["image"] = (("frame", "row", "column"), stack[:count], {"units": "counts"})
        coordinates = {
            "frame": np.arange(count),
            "frame_number": ("frame", number),
            "time": ("frame", stack.time[:count].view("M8[ns]")),
            "elapsed": ("frame", stack.column("elapsed")[:count], {"units": "s"}),
        }
        return xarray.Dataset(variables, coordinates, {"title": self.title, "camera": stack.camera})

    # --- housekeeping -------------------------------------------------------------------------

    @property
    def file(self) -> h5py.File:
        """The HDF5 file itself."""
        return self._file

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._file:
            return f"<run {self.path.name}, closed>"
        lines = [f"<run {self.title!r} of {self.sample!r}, {self.state}, from {layout.iso_time(self.start_time)}"]
        if self.end_time is not None:
            lines[0] += f", {(self.end_time - self.start_time) / 1e9:.1f} s"
        lines += [f"  {stack!r}" for stack in self.cameras.values()]
        lines.append(f"  signals: {', '.join(self.signals) or 'none'}")
        lines.append(f"  devices: {', '.join(self.devices) or 'none'}; {len(self.events)} events>")
        return "\n".join(lines)

    # --- private ------------------------------------------------------------------------------

    def _stack(self, camera: str | None) -> FrameStack:
        stacks = self.cameras
        if camera is None:
            if not stacks:
                raise RecordError(f"{self.path}: this run has no camera; see .signals")
            return next(iter(stacks.values()))
        if camera not in stacks:
            raise RecordError(f"{self.path}: no camera {camera!r}; there are {', '.join(stacks) or 'none'}")
        return stacks[camera]

    def _signal(self, path: str) -> SignalRecord:
        group = self._file[signal_group(path)]
        names = ["value", "time", "time_bound", "uncertainty", "quality", "valid"]
        if "raw_ticks" in group:
            names.append("raw_ticks")
        count = self._common(group, names)
        column = {name: group[name][:count] for name in names}
        if count == 1 and column["time"][0] == UNKNOWN_TIME:  # a row that says: never read
            column = {name: values[:0] for name, values in column.items()}
        about = group.attrs
        kind = _str(about["kind"])
        value = _texts(column["value"]) if kind == "str" else column["value"]
        return SignalRecord(
            path,
            value,
            column["time"],
            column["time_bound"],
            column["uncertainty"],
            column["quality"],
            column["valid"].astype(bool),
            _str(about["unit"]),
            kind,
            _str(about["interpolation"]),
            _str(about["role"]),
            float(about["aperture"]),
            float(about["max_age"]),
            column.get("raw_ticks"),
            _str(group["value"].attrs["long_name"]),
            _str(about["limits"]),
            _str(about.get("ticks_clock", "")),
            _str(about.get("raw", "")),
            _str(about.get("certificate", "")),
        )

    def _clock(self, name: str) -> ClockRecord:
        group = self._file[f"{layout.CLOCKS}/{name}"]
        return read_clock(group, self._common(group, EXCHANGE_COLUMNS))

    def _pulses(self, name: str) -> PulseRecord:
        group = self._file[f"{layout.PULSES}/{name}"]
        return read_pulses(group, self._common(group, PULSE_COLUMNS))

    def _stream(self, name: str) -> StreamRecord:
        group = self._file[f"{layout.STREAMS}/{name}"]
        blocks = self._common(group["blocks"], BLOCK_COLUMNS)
        return read_stream(group, blocks, self._common(group["samples"], ["counts"]))

    def _aligned(self, stack: FrameStack, group: h5py.Group, path: str) -> Aligned:
        path = path if path in group else f"texts/{path}"
        names = [path, f"{path}_errors", f"{path}_valid"]
        held = self._common(group, names)
        count = len(stack)
        value, uncertainty, valid = (group[name][: min(held, count)] for name in names)
        if len(value) < count:  # live: not aligned yet
            more = count - len(value)
            value = np.append(value, np.full(more, b"" if value.dtype.kind == "S" else np.nan, value.dtype))
            uncertainty = np.append(uncertainty, np.full(more, np.nan))
            valid = np.append(valid, np.zeros(more, bool))
        if value.dtype.kind in "SO":
            value = _texts(value)
        return Aligned(
            value,
            uncertainty,
            valid.astype(bool),
            _str(self._file[signal_group(path.removeprefix("texts/"))].attrs["unit"]),
        )

    def _common(self, group: h5py.Group, names: Any) -> int:
        if self._file.swmr_mode:
            for name in names:
                group[name].id.refresh()
        return min(int(group[name].shape[0]) for name in names)

    def _value(self, path: str) -> Any:
        if self._file.swmr_mode:
            self._file[path].id.refresh()
        return self._file[path][()]

    def _text(self, path: str) -> str:
        return _str(self._value(path))

    def _note(self, name: str) -> str | None:
        return self._text(f"{ENTRY}/{name}/description") if name in self._file[ENTRY] else None


def _device(group: h5py.Group) -> DeviceRecord:
    driver, maker = group["driver"], group["fabrication"]
    return DeviceRecord(
        _str(group["name"][()]),
        _str(driver["name"][()]),
        _str(maker["vendor"][()]),
        _str(maker["model"][()]),
        _str(maker["serial_number"][()]),
        _str(driver["identity"][()]),
        _str(driver["link"][()]),
        tuple(filter(None, _str(driver["capabilities"][()]).split(", "))),
        {
            _str(note["file_name"][()]): _str(note["description"][()])
            for name, note in group.items()
            if name.startswith("certificate_")
        },
        json.loads(_str(driver["config"][()])),
        {name: _str(text[()]) for name, text in driver.get("limits", {}).items()},
    )


def _texts(column: Array) -> Array:
    return np.array([_str(text) for text in column] or [""], "U")[: len(column)]


def _numbers_or_texts(column: Array) -> Array:
    return column.astype(object) if column.dtype.kind == "U" else column


def _str(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _json(text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
