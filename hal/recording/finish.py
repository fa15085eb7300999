"""What is done to a run's columns after their rows are in: alignment laid over, texts cut to length, gaps filled.

The writer does it when a run ends, `repair` when a crash ended it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from ..errors import RecordError
from . import layout
from .columns import encoded, growing, make_group
from .layout import (
    ENTRY,
    UNKNOWN_TIME,
    Aligned,
    Array,
    FrameTimes,
    SignalPlan,
    frames_group,
    stimuli_group,
)


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
            texts = np.array(encoded(value, layout.VALUE_BYTES), f"S{layout.VALUE_BYTES}")
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
        write_blocks(file[stimuli_group(camera)], [(0, dict(rows))])
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
        "pulse_index": np.full(count, -1) if times.pulse is None else times.pulse,
    }
    if times.sigma is not None:
        final["exposure_sigma"] = times.sigma
    if times.reason is not None and "reason" in frames:
        final["reason"] = times.reason
    for name, column in final.items():
        if name not in frames:  # a run of an earlier version
            continue
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
    new = make_group(place, f"events{_NEW}", "NXcollection")
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


def write_blocks(group: h5py.Group, blocks: Sequence[tuple[int, dict[str, Array]]]) -> None:
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
            put(dataset, first, end, np.concatenate(columns))


def put(dataset: h5py.Dataset, first: int, end: int, column: Array) -> None:
    # UTF-8 texts and enums must be marked as such, which plain numpy columns are not
    dataset[first:end] = column.astype(dataset.dtype) if dataset.dtype.metadata else column


def pad_stimuli(file: h5py.File, camera: str, count: int) -> None:
    """Give every aligned signal one row per frame; what was not aligned is NaN and not valid."""
    for dataset in growing(file[stimuli_group(camera)]):
        if dataset.shape[0] != count:
            dataset.resize(count, axis=0)


def fill_empty(file: h5py.File) -> None:
    """Give a table that never got a row one that says so; HyperSpy can't open a dataset without rows."""
    for path in (layout.SIGNALS, layout.CLOCKS, layout.PULSES, layout.STREAMS):
        for dataset in growing(file[path]) if path in file else ():
            if dataset.shape[0] == 0:
                dataset.resize(1, axis=0)  # the fill values: time unknown, not valid, nothing counted
