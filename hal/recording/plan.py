"""What a run will hold, put together from the lab before its first frame."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..frames.frame import Reason
from ..frames.stimuli import can_be_aligned, kind_of
from ..instrument.clocked import Clocked, Sampler
from ..model.calibrated import CalibratedAt
from ..model.context import Context
from ..model.signal import Kind, SignalR, SignalRW
from ..transport.link import UNREAL
from ..units import unit
from .declared import CameraClock
from .layout import (
    CameraPlan,
    ClockAnchor,
    ClockPlan,
    Column,
    DevicePlan,
    Holder,
    RunPlan,
    SignalPlan,
    StreamPlan,
)


class Recordable(Protocol):
    """What the recorder needs of a lab."""

    name: str
    context: Context
    devices: Any
    config: Any


_REASONS = "why a frame has no time: " + ", ".join(f"{r.value} {r.name.lower()}" for r in Reason)
EMULATED = "# emulated by hal emulate"
"""The line by which a lab file says that its links lead to emulators."""
FRAME_COLUMNS = (
    Column("exposure_time", "float64", "s", "length of the exposure as the detector states it"),
    Column("series", "int32", "", "counts restarts of the detector's frame numbers"),
    Column("exposure_index", "int64", "", "of the exposure within its series, -1 where the number made no sense"),
    Column("reason", "uint8", "", _REASONS),
)
"""What every camera records beside the writer's own columns, so that alignment can be done again."""


def is_camera(device: Any) -> bool:
    """Whether a device films."""
    return hasattr(device, "on_chunk")


def stamps_pulses(device: Any) -> bool:
    """Whether a device stamps pulses by its own clock."""
    return isinstance(device, Clocked) and hasattr(device, "on_pulses")


def recorded_inputs(device: Any) -> tuple[int, ...]:
    """The analogue inputs of a device that the lab file wants streamed into its runs."""
    both = isinstance(device, Sampler) and isinstance(device, Clocked)
    return tuple(sorted(set(getattr(getattr(device, "options", None), "record_inputs", ())))) if both else ()


def aligned_signals(lab: Recordable, camera: str) -> list[SignalR[Any]]:
    """The signals laid onto a camera's frames: every number of the other devices that may change."""
    return [
        s for d in lab.devices.values() if d.name != camera for s in d.signals()
        if can_be_aligned(s) and not is_camera(d)
        and (s.kind is not Kind.CONFIG or (isinstance(s, SignalRW) and s.of))
    ]  # fmt: skip


def plan(lab: Recordable, sample: str, notes: Mapping[str, Any], script: Path | None = None) -> RunPlan:
    """Describe the run that begins now."""
    file = lab.config.file
    anchor = lab.context.timebase.anchor
    holder = file.holder
    signals = [s for d in lab.devices.values() for s in d.signals()]
    return RunPlan(
        title=str(notes.get("title", f"{sample} in {lab.name}")),
        start_time=lab.context.timebase.now(),
        clock=ClockAnchor(anchor.epoch, anchor.counter, anchor.bound, anchor.clock),
        lab=lab.name,
        sample=sample,
        sample_notes={k: str(v) for k, v in notes.items()},
        user=str(notes.get("user", "")),
        simulated=any(lab.config.link_of(n)[1].url.startswith(UNREAL) for n in file.devices)
        or EMULATED in lab.config.text,
        software=software(),
        lab_file=lab.config.text,
        script=_text(script),
        holder=None
        if holder is None
        else Holder(holder.name, {k: str(v) for k, v in holder.parts.items()}, dict(holder.limits)),
        devices=[_device(lab, d) for d in lab.devices.values()],
        signals=[_signal(s) for s in signals],
        cameras=[_camera(lab, d) for d in lab.devices.values() if is_camera(d)],
        clocks=[_clock(d) for d in lab.devices.values() if isinstance(d, Clocked)],
        pulses=[d.name for d in lab.devices.values() if stamps_pulses(d)],
        streams=[_stream(d) for d in lab.devices.values() if recorded_inputs(d)],
    )


def software() -> dict[str, str]:
    """Versions of what makes the record what it is."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("insitu-hal", "numpy", "h5py", "pymodbus", "pyvisa", "pyvisa-py", "pyserial", "aiomqtt"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _device(lab: Recordable, device: Any) -> DevicePlan:
    entry = lab.config.file.devices[device.name]
    config: dict[str, Any] = asdict(device.options)
    config |= {"unit": entry.unit, "channel": entry.channel}
    if is_camera(device):
        config["alignment"] = asdict(CameraClock.of(device)) | {
            "signals": {
                s.path: {"max_gap": s.max_gap, "polled": not isinstance(s, SignalRW)}
                for s in aligned_signals(lab, device.name)
            }
        }
    certificates = {}
    if isinstance(entry.calibration, str):
        path = Path(lab.config.path).parent / entry.calibration
        certificates[entry.calibration] = path.read_text(encoding="utf-8")
    for made in (s.at.calibration for s in device.signals() if isinstance(s.at, CalibratedAt)):
        certificates[made.file] = made.text
    return DevicePlan(
        name=device.name,
        driver=entry.driver,
        model=device.model,
        vendor=device.vendor,
        identity=device.identity,
        link=device.session.link.url,
        capabilities=[c.__name__ for c in device.provides],
        certificates=certificates,
        config=config,
        limits={
            s.name: s.limits.shown(s.unit)
            for s in device.signals()
            if isinstance(s, SignalRW) and s.dtype in (int, float)
        },
    )


def _signal(signal: SignalR[Any]) -> SignalPlan:
    known = unit(signal.unit)
    stamped = isinstance(signal.device, Clocked) and not isinstance(signal, SignalRW)
    kinds: dict[type, Any] = {float: "float", int: "int", bool: "bool", str: "str"}
    return SignalPlan(
        path=signal.path,
        unit=signal.unit,
        ucum=known.ucum,
        udunits=known.udunits,
        kind=kinds[signal.dtype],
        interpolation=kind_of(signal),
        role="setpoint" if isinstance(signal, SignalRW) else "readback",
        aperture=signal.aperture,
        max_age=signal.max_age,
        rate=1 / signal.poll,
        long_name=signal.__doc__ or "",
        limits=signal.limits.shown(signal.unit) if isinstance(signal, SignalRW) and signal.limits.low > -1e300 else "",
        raw_ticks=stamped,
        ticks_clock=signal.device.name if stamped else "",
        raw=f"{signal.device.name}.{signal.at.raw.name}" if isinstance(signal.at, CalibratedAt) else "",
        certificate=signal.at.calibration.file if isinstance(signal.at, CalibratedAt) else "",
    )


def _clock(device: Any) -> ClockPlan:
    clock = device.clock
    return ClockPlan(
        device.name, clock.frequency, clock.ppm, clock.bits, clock.delay_out, clock.delay_back, clock.delay_sigma
    )


def _stream(device: Any) -> StreamPlan:
    inputs = recorded_inputs(device)
    signals = {s.name: s for s in device.signals()}
    names = [f"input_{number}" for number in inputs]
    scale, noise = device.volts_per_count, getattr(device.options, "adc_noise", 0.0)
    return StreamPlan(
        name=device.name,
        inputs=inputs,
        scale=scale,
        paths=[signals[name].path if name in signals else "" for name in names],
        unit="V",
        rate=device.options.record_rate,
        sigma=float(np.hypot(noise, 1 / np.sqrt(12)) * scale),  # and the last digit, GUM F.2.2.1
    )


def _camera(lab: Recordable, camera: Any) -> CameraPlan:
    return CameraPlan(
        name=camera.name,
        shape=camera.shape,
        dtype=str(camera.dtype),
        exposure=camera.exposure.last.value if camera.exposure.last is not None else float("nan"),
        columns=FRAME_COLUMNS,
        aligned=[s.path for s in aligned_signals(lab, camera.name)],
        vendor=camera.vendor,
        model=camera.model,
        ticks_rate=camera.clock.frequency,
        frame_clock=None if camera.frame_clock is None else (camera.frame_clock[0].name, camera.frame_clock[1]),
    )


def _text(script: Path | None) -> str | None:
    """The script's text; None in a notebook."""
    try:
        return script.read_text(encoding="utf-8") if script is not None else None
    except (OSError, UnicodeDecodeError):
        return None
