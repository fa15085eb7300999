"""The summary of a run: what was recorded, how well each clock is known, and each signal at the frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .layout import Alignment

if TYPE_CHECKING:
    from .realign import Realigned
    from .run import Run


def result(run: Run, final: Realigned, ended_by: str) -> dict[str, Any]:
    """The summary as a dictionary, as the file keeps it."""
    telemetry = getattr(run._lab, "telemetry", None)
    published = telemetry.counts.published if telemetry is not None else None
    return timing(final) | {
        "readings": dict(run.readings),
        "telemetry_messages": published,
        "ended_early_by": ended_by,
    }


def timing(final: Realigned) -> dict[str, Any]:
    """Of a run that was aligned: its cameras and its clocks."""
    cameras = {}
    for name, alignment in final.cameras.items():
        cameras[name] = _camera(alignment) | {"dropped": final.dropped[name]}
        if (matching := final.matchings.get(name)) is not None:
            cameras[name]["pulses"] = {
                "device": matching.device,
                "input": matching.input,
                "captured": matching.pulses,
                "matched": matching.matched,
                "inferred": matching.inferred,
                "ambiguous": matching.ambiguous,
                "without_pulse": matching.without_pulse,
                "not_matched": matching.not_matched,
                "unused_because": matching.why_not,
            }
    clocks = {
        name: {
            "usable": health.usable,
            "reason": health.reason,
            "exchanges": final.exchanges[name],
            "epochs": health.epoch + 1,
            "offset_ns": health.offset,
            "rate_ppm": health.rate_ppm,
            "bound_s": health.bound * 1e-9,
            "sigma_s": _finite(health.sigma * 1e-9),
            "residual_s": _finite(health.residual * 1e-9),
        }
        for name, health in final.clocks.items()
    }
    samples = {name: {"instants": came, "missing": missing} for name, (came, missing) in final.samples.items()}
    return {"cameras": cameras, "clocks": clocks, "samples": samples}


def table(run: Run) -> str:
    """The summary as text."""
    found = run.result
    if not found:
        frames = ", ".join(f"{n} frames of {c}" for c, n in run.frames.items()) or "no frames"
        return f"{run.path}: recording, {frames} and {sum(run.readings.values())} readings so far"
    lines = [f"run {run.path}"]
    if found["ended_early_by"]:
        lines.append(f"ended early: {found['ended_early_by']}")
    lines += timing_lines(found)
    lines.append("readings: " + ", ".join(f"{device} {count}" for device, count in found["readings"].items()))
    if found["telemetry_messages"] is not None:
        lines.append(f"telemetry: {found['telemetry_messages']} messages")
    return "\n".join([*lines, *signal_lines(found)])


def timing_lines(found: Mapping[str, Any]) -> list[str]:
    """One line per camera, one on its pulses, and one per clock."""
    lines = []
    for name, camera in found["cameras"].items():
        known = camera["median_time_bound_s"]
        lines.append(
            f"{name}: {camera['frames']} frames, {camera['dropped']} dropped, {camera['without_time']} without a time"
            + (f", exposures known to +-{duration(known)} by {camera['timed_by']}" if known else "")
        )
        if pulses := camera.get("pulses"):
            where = f"{pulses['captured']} pulses at input {pulses['input']} of {pulses['device']}"
            if pulses["unused_because"]:
                lines.append(f"{name}: {where}, not used: {pulses['unused_because']}")
            else:
                without = pulses["without_pulse"] + pulses["not_matched"]
                lines.append(
                    f"{name}: {where}; {pulses['matched']} frames matched, {pulses['inferred']} inferred, "
                    f"{pulses['ambiguous']} ambiguous, {without} without a pulse"
                )
    for name, clock in found.get("clocks", {}).items():
        if clock["usable"]:
            epochs = f", {clock['epochs']} epochs" if clock["epochs"] > 1 else ""
            lines.append(
                f"clock of {name}: {clock['exchanges']} exchanges{epochs}, {clock['rate_ppm']:+.2f} ppm, offset "
                f"{clock['offset_ns'] * 1e-9:.6f} s, known to +-{duration(clock['bound_s'])} at the end"
            )
        else:
            lines.append(f"clock of {name}: {clock['exchanges']} exchanges, not usable: {clock['reason']}")
    for name, samples in found.get("samples", {}).items():
        lines.append(f"samples of {name}: {samples['instants']} instants, {samples['missing']} missing between them")
    return lines


def signal_lines(found: Mapping[str, Any]) -> list[str]:
    """A table of the signals at each camera's frames."""
    lines = []
    for name, camera in found["cameras"].items():
        lines.append(f"{'signal at each frame of ' + name:<34}{'unit':>7}{'valid':>9}{'median sigma':>14}{'worst':>12}")
        for path, s in camera["aligned"].items():
            median = "-" if s["median_uncertainty"] is None else f"{s['median_uncertainty']:.3g}"
            worst = "-" if s["worst_uncertainty"] is None else f"{s['worst_uncertainty']:.3g}"
            lines.append(f"  {path:<32}{s['unit']:>7}{s['valid']:>9.2%}{median:>14}{worst:>12}")
    return lines


def duration(seconds: float) -> str:
    """With a unit that leaves few digits: ``12 us``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _camera(alignment: Alignment) -> dict[str, Any]:
    times = alignment.times
    assert times is not None
    signals = {}
    for path, column in alignment.columns.items():
        sigma = column.uncertainty[column.valid & np.isfinite(column.uncertainty)]
        signals[path] = {
            "unit": column.unit,
            "valid": round(float(np.mean(column.valid)), 6) if column.valid.size else 0.0,
            "median_uncertainty": float(np.median(sigma)) if sigma.size else None,
            "worst_uncertainty": float(np.max(sigma)) if sigma.size else None,
        }
    return {
        "frames": len(times.start),
        "without_time": int(np.sum(~times.valid)),
        "median_time_bound_s": float(np.median(times.bound[times.valid])) * 1e-9 if times.valid.any() else None,
        "timed_by": alignment.by,
        "aligned": signals,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
