"""What a run's file holds: the plan that is drawn up before the first frame, and where each thing lies.

A file that is readable while it is written (HDF5's SWMR) must have every group and dataset before
the first row, so a recorder states everything it will record in one `RunPlan`. The paths below are
the only place that knows the tree; writer, reader, repair and export all ask here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Kind = Literal["float", "int", "bool", "str"]

UNKNOWN_TIME = int(np.iinfo(np.int64).min)
"""A time nobody knows; numpy reads it as NaT."""

QUALITIES = ("good", "stale", "uncertain", "bad")
"""Quality of a reading; the file stores the place in this list, named by an HDF5 enum."""

STATES = ("recording", "finished", "crashed")
"""`finished`: closed by the writer. `crashed`: the writer died; `hal.recording.repair` mended the file."""


# --- the plan ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockAnchor:
    """The one pair of clock readings that turns monotonic time into time since the UNIX epoch."""

    epoch: int  # ns
    monotonic: int  # ns
    uncertainty: int = 0  # ns
    name: str = "lab"


@dataclass(frozen=True, slots=True)
class Holder:
    """What is in the gap: name, parts, and the limits it brings."""

    name: str
    parts: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Microscope:
    """The microscope around the gap; what isn't known stays ``unknown``."""

    name: str = "unknown"
    vendor: str = "unknown"
    model: str = "unknown"
    serial_number: str = "unknown"
    location: str = "unknown"
    kind: str = "tem"


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """One instrument as it was at the start of the run."""

    name: str
    driver: str
    model: str = "unknown"
    vendor: str = "unknown"
    serial_number: str = "unknown"
    identity: str = ""
    link: str = ""
    capabilities: Sequence[str] = ()
    certificates: Mapping[str, str] = field(default_factory=dict)  # name -> the certificate's text
    config: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)  # signal -> "20..400 degC"


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """One signal to record: what it measures, how it is sampled, how it may be interpolated."""

    path: str  # "heater.temperature"
    unit: str = ""  # as shown: "degC"
    ucum: str = ""  # "Cel"
    udunits: str = ""  # what NeXus asks for; empty: the same as `unit`
    kind: Kind = "float"
    interpolation: Literal["linear", "step"] = "linear"
    role: Literal["setpoint", "readback"] = "readback"
    aperture: float = 0.0  # s
    max_age: float = 0.0  # s
    rate: float | None = None  # 1/s, expected; lets fast channels be compressed
    long_name: str = ""
    limits: str = ""
    raw_ticks: bool = False  # keep the source's own counter beside each value
    ticks_clock: str = ""
    raw: str = ""  # of a calibrated signal: the path of the one that it was made of
    certificate: str = ""  # and the name of the certificate among its device's


@dataclass(frozen=True, slots=True)
class Column:
    """One more number per frame, such as the beam current a detector reports."""

    name: str
    dtype: str = "float64"
    unit: str = ""
    long_name: str = ""


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera's stack of frames and the signals that are laid onto it."""

    name: str
    shape: tuple[int, int]  # rows, columns
    dtype: str = "uint8"
    exposure: float = float("nan")  # s
    rate: float | None = None  # 1/s, nominal
    columns: Sequence[Column] = ()
    aligned: Sequence[str] = ()  # paths of signals
    vendor: str = "unknown"
    model: str = "unknown"
    serial_number: str = "unknown"
    pixel_size: float | None = None  # in `pixel_unit`
    pixel_unit: str = "px"
    ticks_rate: float | None = None  # 1/s of `detector_ticks`
    compression: Literal["gzip", "lzf"] | None = "gzip"
    frame_clock: tuple[str, int] | None = None  # device and input that stamp its frame pulses


@dataclass(frozen=True, slots=True)
class ClockPlan:
    """A device's own clock as it was declared: what its exchanges must be read with."""

    name: str  # the device's
    frequency: float  # ticks per second, nominal
    ppm: float  # limit of its rate error, from the datasheet
    bits: int = 64  # after which its count begins anew
    delay_out: float = 0.0  # s, calibrated smallest delay of a question on its way
    delay_back: float = 0.0  # s, of an answer
    delay_sigma: float = 0.0  # s, standard uncertainty of both


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Analogue inputs that a device samples by its own clock, and how counts become values."""

    name: str  # the device's
    inputs: Sequence[int]
    scale: float  # values per count
    paths: Sequence[str] = ()  # per input, the signal that it is; "" for none
    unit: str = "V"
    rate: float | None = None  # instants per second
    sigma: float = 0.0  # one sigma of a single sample, in `unit`


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Everything known about a run before its first frame."""

    title: str
    start_time: int  # ns since the UNIX epoch
    clock: ClockAnchor
    lab: str = ""
    sample: str = "unknown"
    sample_notes: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    simulated: bool = False
    software: Mapping[str, str] = field(default_factory=dict)  # name -> version
    lab_file: str | None = None  # its text
    script: str | None = None  # its text
    holder: Holder | None = None
    microscope: Microscope = Microscope()
    devices: Sequence[DevicePlan] = ()
    signals: Sequence[SignalPlan] = ()
    cameras: Sequence[CameraPlan] = ()
    clocks: Sequence[ClockPlan] = ()
    pulses: Sequence[str] = ()  # devices that stamp pulses
    streams: Sequence[StreamPlan] = ()

    def problems(self) -> list[str]:
        """Everything that would make this plan unwritable, all at once."""
        found: list[str] = []
        paths = [signal.path for signal in self.signals]
        for what, names in (
            ("signal", paths),
            ("camera", [c.name for c in self.cameras]),
            ("device", [d.name for d in self.devices]),
            ("clock", [c.name for c in self.clocks]),
            ("pulses of", list(self.pulses)),
            ("stream of", [s.name for s in self.streams]),
        ):
            found += [f"{what} {name!r} appears twice" for name in sorted({n for n in names if names.count(n) > 1})]
            found += [f"{what} {name!r} is no NeXus name" for name in names if not _NEXUS_NAME.match(name)]
        for camera in self.cameras:
            found += [
                f"camera {camera.name!r} aligns {path!r}, which is not among the signals"
                for path in camera.aligned
                if path not in paths
            ]
            clash = {column.name for column in camera.columns} & (set(FRAME_COLUMNS) | _RESERVED)
            found += [f"camera {camera.name!r} has its own column {name!r} already" for name in sorted(clash)]
            found += [
                f"camera {camera.name!r}: column {column.name!r} is no NeXus name"
                for column in camera.columns
                if not _NEXUS_NAME.match(column.name)
            ]
            if len(camera.shape) != 2 or min(camera.shape) < 1:
                found.append(f"camera {camera.name!r} has shape {camera.shape}, not (rows, columns)")
        return found


# --- what is handed over while a run goes on --------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """One signal at every frame. Unknown is NaN (or an empty text) *and* `valid` False."""

    value: Array
    uncertainty: Array
    valid: npt.NDArray[np.bool_]
    unit: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FrameTimes:
    """When each frame was exposed, with the half-width of what isn't known."""

    start: npt.NDArray[np.int64]  # ns
    stop: npt.NDArray[np.int64]  # ns
    bound: npt.NDArray[np.int64]  # ns
    valid: npt.NDArray[np.bool_]
    sigma: npt.NDArray[np.float32] | None = None  # ns
    reason: npt.NDArray[np.uint8] | None = None  # `frames.Reason`
    pulse: npt.NDArray[np.int64] | None = None  # row of the frame's pulse among its device's; -1: none


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """One camera's final result: signals laid onto frames, and the frames' times if they moved."""

    columns: Mapping[str, Aligned]
    times: FrameTimes | None = None
    by: str = ""  # in words, how the times were found


# --- the tree ---------------------------------------------------------------------------------

ENTRY = "/entry"
RUN = f"{ENTRY}/run"  # state and exact times; a collection, for NXem has no place for them
CAMERAS = f"{ENTRY}/cameras"
SIGNALS = f"{ENTRY}/signals"
DEVICES = f"{ENTRY}/devices"
EVENTS = f"{ENTRY}/events"
CLOCKS = f"{ENTRY}/clocks"
PULSES = f"{ENTRY}/pulses"
STREAMS = f"{ENTRY}/streams"
ALIGNMENT = f"{ENTRY}/alignment"  # where the exposures' times and the aligned values come from
EARLIER = f"{ENTRY}/earlier_alignments"
MEASUREMENT = f"{ENTRY}/measurement"
INSTRUMENT = f"{MEASUREMENT}/instrument"
IMAGE = "real"  # NXem's name for the intensity of a real-space image

FRAME_COLUMNS: dict[str, tuple[str, str, str, Any, str]] = {
    # name: dataset, dtype, units, fill, meaning
    "number": ("frame_number", "i8", "", -1, "frame number as the camera counts; a gap is a dropped frame"),
    "detector_ticks": ("detector_ticks", "i8", "", UNKNOWN_TIME, "the detector's own timestamp, raw"),
    "arrival": (
        "arrival_time",
        "i8",
        "ns",
        UNKNOWN_TIME,
        "when the frame reached this computer (ns since 1970-01-01 UTC)",
    ),
    "start": ("exposure_start", "i8", "ns", UNKNOWN_TIME, "start of the exposure (ns since 1970-01-01 UTC)"),
    "stop": ("exposure_stop", "i8", "ns", UNKNOWN_TIME, "end of the exposure (ns since 1970-01-01 UTC)"),
    "bound": ("exposure_bound", "i8", "ns", -1, "half-width of what isn't known about start and stop"),
    "valid": ("exposure_valid", "u1", "", 0, "1 if the exposure's time is known at all, else 0"),
    "sigma": ("exposure_sigma", "f4", "ns", np.nan, "standard uncertainty of start and stop, common to neighbours"),
    "pulse": ("pulse_index", "i8", "", -1, "row of the frame's pulse among those its device stamped; -1: none"),
}
_RESERVED = {IMAGE, "indices_image", "axis_i", "axis_j", "elapsed", "title"} | {
    entry[0] for entry in FRAME_COLUMNS.values()
}
_NEXUS_NAME = re.compile(r"^[a-zA-Z0-9_]([a-zA-Z0-9_.]*[a-zA-Z0-9_])?$")

TEXT_BYTES = {"kind": 32, "device": 64, "text": 512, "data": 2048}
"""Width of the events' texts; a longer one continues in rows with `part` 1, 2, ..."""
VALUE_BYTES = 128  # of a signal that is a text
ORIGIN_BYTES = {"program": 32, "version": 64, "date": 40, "parameters": 8192, "digest": 80}
"""Width of the texts that say where an alignment comes from."""


def frames_group(camera: str) -> str:
    """The NXdata that holds a camera's frames and one number of each kind per frame."""
    return f"{MEASUREMENT}/event_{camera}/image_frames/stack_2d"


def stimuli_group(camera: str) -> str:
    """The NXdata that holds every aligned signal, one row per frame of `camera`."""
    return f"{ENTRY}/stimuli_{camera}"


def stimulus(path: str, kind: str) -> str:
    """A signal's dataset below `stimuli_group`; NXdata holds numbers, so texts stand one group lower."""
    return f"texts/{path}" if kind == "str" else path


def signal_group(path: str) -> str:
    """The NXlog with a signal's readings as they came."""
    return f"{SIGNALS}/{path}"


def iso_time(ns: int) -> str:
    """ISO 8601 with the local offset, as NeXus asks; empty for a time nobody knows."""
    if ns == UNKNOWN_TIME:
        return ""
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}{moment:%z}"[:-2] + ":" + f"{moment:%z}"[-2:]


def value_dtype(kind: str) -> np.dtype[Any]:
    """How a signal's own values are stored."""
    match kind:
        case "float":
            return np.dtype("f8")
        case "int":
            return np.dtype("i8")
        case "bool":
            return np.dtype("?")
        case "str":
            return np.dtype(f"S{VALUE_BYTES}")
    raise ValueError(f"a signal is float, int, bool or str, not {kind!r}")
