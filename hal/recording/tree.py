"""The tree of a run's file, created once and whole: groups, columns that grow, attributes (NXem, NXlog, NXdata)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from . import layout
from .columns import growing_column, make_group, unknown
from .layout import (
    ENTRY,
    EVENTS,
    FRAME_COLUMNS,
    IMAGE,
    INSTRUMENT,
    QUALITIES,
    UNKNOWN_TIME,
    CameraPlan,
    RunPlan,
    SignalPlan,
    frames_group,
    signal_group,
    stimuli_group,
)
from .origin import create_origin
from .ticks import create_ticks

SUMMARY_BYTES = 65536

FAST_SIGNAL = 200.0  # 1/s; from here on a signal's columns are compressed

CHUNK_BYTES = 1 << 20


def create(file: h5py.File, plan: RunPlan) -> None:
    file.attrs.update({"NX_class": "NXroot", "default": "entry", "creator": "insitu-hal"})
    entry = make_group(file, ENTRY, "NXentry")
    entry["definition"] = "NXem"
    entry["title"] = plan.title
    entry["experiment_alias"] = plan.title
    entry["start_time"] = layout.iso_time(plan.start_time)
    run = make_group(entry, "run", "NXcollection")
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
    create_ticks(file, plan)
    create_origin(file)
    for camera in plan.cameras:
        _camera_data(file, plan, camera)
        _stimuli(file, plan, camera)
    _defaults(file, plan)


def _people_and_sample(entry: h5py.Group, plan: RunPlan) -> None:
    if plan.user:
        make_group(entry, "user", "NXuser")["name"] = plan.user
    sample = make_group(entry, "sample", "NXsample")
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
        extra = make_group(sample, "notes", "NXcollection")
        for name, words in notes.items():
            extra[_nexus_name(name)] = words
    if plan.holder is not None:
        holder = make_group(entry, "holder", "NXcollection")
        holder["name"] = plan.holder.name
        _words(holder, "parts", plan.holder.parts)
        _words(holder, "limits", plan.holder.limits)
    software = make_group(entry, "profiling", "NXcs_profiling")
    for name, version in plan.software.items():
        program = make_group(software, f"program_{_nexus_name(name)}", "NXprogram")
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
    clock = make_group(entry, "clock", "NXcollection")
    clock["name"] = plan.clock.name
    clock["description"] = "time = epoch + (monotonic reading - monotonic), give or take uncertainty"
    for name in ("epoch", "monotonic", "uncertainty"):
        clock[name] = np.int64(getattr(plan.clock, name))
        clock[name].attrs["units"] = "ns"
    clock["epoch"].attrs["start"] = "1970-01-01T00:00:00Z"


def _device(file: h5py.File, device: layout.DevicePlan) -> None:
    if layout.DEVICES not in file:
        make_group(file, layout.DEVICES, "NXcollection")
    group = make_group(file, f"{layout.DEVICES}/{device.name}", "NXcollection")
    group["name"] = device.name
    maker = make_group(group, "fabrication", "NXcollection")
    maker["vendor"], maker["model"], maker["serial_number"] = (
        device.vendor,
        device.model,
        device.serial_number,
    )
    record = make_group(group, "driver", "NXcollection")
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
        make_group(file, layout.SIGNALS, "NXcollection")
    # NXlog holds numbers; a signal that is a text has the same columns in a plain collection.
    group = make_group(file, signal_group(plan.path), "NXlog" if plan.kind != "str" else "NXcollection")
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
            "raw": plan.raw,
            "certificate": plan.certificate,
        }
    )
    fast = is_fast(plan)
    chunk = min(65536, max(64, int((plan.rate or 0) * 0.25))) if fast else 512
    how: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if fast else {}
    value = layout.value_dtype(plan.kind)
    units = plan.udunits or plan.unit
    growing_column(group, "value", value, chunk, units, unknown(value), plan.long_name or plan.path, **how)
    growing_column(group, "time", "i8", chunk, "ns", UNKNOWN_TIME, "middle of the interval of measurement", **how)
    group["time"].attrs["start"] = "1970-01-01T00:00:00Z"
    growing_column(group, "time_bound", "i8", chunk, "ns", -1, "half-width of the interval; -1 is unknown", **how)
    growing_column(
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
    growing_column(group, "quality", quality, chunk, "", None, "0 good, 1 stale, 2 uncertain, 3 bad", **how)
    growing_column(group, "valid", "u1", chunk, "", 0, "1 if the value is known, else 0", **how)
    if plan.raw_ticks:
        growing_column(group, "raw_ticks", "i8", chunk, "", UNKNOWN_TIME, "the source's own counter", **how)


def _event_log(file: h5py.File) -> None:
    events = make_group(file, EVENTS, "NXcollection")
    events.attrs["description"] = "what happened: setpoints, operations, trips, acknowledgements, links, anchors"
    growing_column(events, "time", "i8", 64, "ns", UNKNOWN_TIME, "when")
    events["time"].attrs["start"] = "1970-01-01T00:00:00Z"
    for name, meaning in (
        ("kind", "kind of event"),
        ("device", "who"),
        ("text", "in words"),
        ("data", "as JSON"),
    ):
        width = h5py.string_dtype("utf-8", layout.TEXT_BYTES[name])
        growing_column(events, name, width, 8, "", None, meaning, compression="gzip", compression_opts=1, shuffle=True)
    growing_column(events, "part", "u2", 64, "", 0, "0 begins an event; 1, 2, ... continue its texts")


def _measurement(file: h5py.File, plan: RunPlan) -> None:
    make_group(file, layout.MEASUREMENT, "NXem_measurement")
    if plan.cameras:
        make_group(file, layout.CAMERAS, "NXcollection")
    microscope = make_group(file, INSTRUMENT, "NXem_instrument")
    scope = plan.microscope
    microscope["name"] = scope.name if scope.name != "unknown" else plan.lab or "unknown"
    microscope["location"] = scope.location
    microscope["type"] = scope.kind
    maker = make_group(microscope, "fabrication", "NXfabrication")
    maker["vendor"], maker["model"], maker["serial_number"] = scope.vendor, scope.model, scope.serial_number
    make_group(microscope, "ebeam_column", "NXebeam_column")
    for place, camera in enumerate(plan.cameras):
        about = make_group(file, f"{layout.CAMERAS}/{camera.name}", "NXcollection")
        about.attrs["place"] = place
        for name, rate in (("frame_rate", camera.rate), ("ticks_rate", camera.ticks_rate)):
            if rate is not None:
                about[name] = rate
                about[name].attrs["units"] = "1/s"
        about["aligned"] = "\n".join(camera.aligned)
        if camera.frame_clock is not None:
            about["frame_clock"], about["frame_input"] = camera.frame_clock
        detector = make_group(microscope, f"detector_{camera.name}", "NXdetector")
        detector["name"] = camera.name
        detector["count_time"] = camera.exposure
        detector["count_time"].attrs["units"] = "s"
        made = make_group(detector, "fabrication", "NXfabrication")
        made["vendor"], made["model"], made["serial_number"] = (
            camera.vendor,
            camera.model,
            camera.serial_number,
        )


def _camera_data(file: h5py.File, plan: RunPlan, camera: CameraPlan) -> None:
    event = make_group(file, f"{layout.MEASUREMENT}/event_{camera.name}", "NXem_event_data")
    event["start_time"] = layout.iso_time(plan.start_time)
    event["identifier_sample"] = plan.sample
    event.attrs["default"] = "image_frames"
    image = make_group(event, "image_frames", "NXimage")
    image.attrs["default"] = "stack_2d"
    make_group(image, "process", "NXprocess")["detector_identifier"] = camera.name
    group = make_group(image, "stack_2d", "NXdata")
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
    growing_column(group, "indices_image", "i8", rows, "", -1, "frame index")
    for axis, size in (("axis_j", camera.shape[0]), ("axis_i", camera.shape[1])):
        group[axis] = np.arange(size) * (camera.pixel_size or 1.0) if camera.pixel_size else np.arange(size)
        direction = "row" if axis == "axis_j" else "column"
        group[axis].attrs.update({"units": camera.pixel_unit, "long_name": f"{direction} ({camera.pixel_unit})"})
    for dataset, kind, unit, fill, meaning in FRAME_COLUMNS.values():
        growing_column(group, dataset, kind, rows, unit, fill, meaning)
    if camera.ticks_rate is not None:
        group["detector_ticks"].attrs["units"] = "ns" if camera.ticks_rate == 1e9 else f"s/{camera.ticks_rate:g}"
    growing_column(group, "elapsed", "f8", rows, "s", np.nan, "middle of the exposure since the start of the run (s)")
    group["elapsed"].attrs["target"] = group["elapsed"].name
    for column in camera.columns:
        own = np.dtype(column.dtype)
        growing_column(group, column.name, own, rows, column.unit, unknown(own), column.long_name or column.name)


def _stimuli(file: h5py.File, plan: RunPlan, camera: CameraPlan) -> None:
    group = make_group(file, stimuli_group(camera.name), "NXdata")
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
        make_group(group, "texts", "NXcollection")
    for path in camera.aligned:
        signal = signals[path]
        name = layout.stimulus(path, signal.kind)
        units = signal.udunits or signal.unit
        label = f"{signal.long_name or path} ({signal.unit})" if signal.unit else signal.long_name or path
        if signal.kind == "str":
            growing_column(group, name, layout.value_dtype("str"), 512, "", b"", label)
        else:
            growing_column(group, name, "f8", 1024, units, np.nan, label)
        growing_column(group, f"{name}_errors", "f8", 1024, _interval_unit(units), np.nan, "standard uncertainty")
        growing_column(group, f"{name}_valid", "u1", 1024, "", 0, "1 if the value is known, else 0")


def _defaults(file: h5py.File, plan: RunPlan) -> None:
    """What a viewer shows first: the frames, else the first signal over time."""
    if plan.cameras:
        file[ENTRY].attrs["default"] = "measurement"
        file[layout.MEASUREMENT].attrs["default"] = f"event_{plan.cameras[0].name}"
        return
    numbers = [signal for signal in plan.signals if signal.kind != "str"]
    if numbers:
        path = numbers[0].path
        plot = make_group(file, f"{ENTRY}/plot", "NXdata")
        plot.attrs.update({"signal": "value", "axes": ["time"], "time_indices": np.uint32(0)})
        plot["title"] = f"{plan.title}: {path}"
        for name in ("value", "time"):
            plot[name] = h5py.SoftLink(f"{signal_group(path)}/{name}")
            plot[name].attrs["target"] = f"{signal_group(path)}/{name}"
        file[ENTRY].attrs["default"] = "plot"


def _note(parent: h5py.Group, name: str, file_name: str, kind: str) -> h5py.Group:
    note = make_group(parent, name, "NXnote")
    note["file_name"] = file_name
    note["type"] = kind
    return note


def _text(group: h5py.Group, name: str, width: int, text: str = "") -> None:
    dataset = group.create_dataset(name, (), h5py.string_dtype("utf-8", width))
    dataset[()] = text.encode()


def _words(group: h5py.Group, name: str, words: Mapping[str, str]) -> None:
    if words:
        inside = make_group(group, name, "NXcollection")
        for key, text in words.items():
            inside[_nexus_name(key)] = str(text)


def is_fast(signal: SignalPlan) -> bool:
    return (signal.rate or 0.0) >= FAST_SIGNAL


def _interval_unit(units: str) -> str:
    """The unit of a difference: an uncertainty of 1 degC is 1 K."""
    return "K" if units in ("degC", "Cel", "celsius") else units


def _nexus_name(name: str) -> str:
    """`name` with everything NeXus forbids in a name made an underscore."""
    fit = "".join(c if (c.isascii() and c.isalnum()) or c in "_." else "_" for c in name).strip(".")
    return fit or "_"
