"""The summary of a run: what was recorded and how well the signals are known at the frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .layout import Alignment

if TYPE_CHECKING:
    from .run import Run


def result(run: Run, aligned: Mapping[str, Alignment], ended_by: str) -> dict[str, Any]:
    """The summary as a dictionary, as the file keeps it."""
    cameras = {}
    for name, alignment in aligned.items():
        times = alignment.times
        signals = {}
        for path, column in alignment.columns.items():
            sigma = column.uncertainty[column.valid & np.isfinite(column.uncertainty)]
            signals[path] = {
                "unit": column.unit,
                "valid": round(float(np.mean(column.valid)), 6) if column.valid.size else 0.0,
                "median_uncertainty": float(np.median(sigma)) if sigma.size else None,
                "worst_uncertainty": float(np.max(sigma)) if sigma.size else None,
            }
        cameras[name] = {
            "frames": run.frames[name],
            "dropped": run.dropped[name],
            "without_time": int(np.sum(~times.valid)) if times is not None else 0,
            "median_time_bound_s": float(np.median(times.bound[times.valid])) * 1e-9
            if times is not None and times.valid.any()
            else None,
            "aligned": signals,
        }
    telemetry = getattr(run._lab, "telemetry", None)
    published = telemetry.counts.published if telemetry is not None else None
    return {
        "cameras": cameras,
        "readings": dict(run.readings),
        "telemetry_messages": published,
        "ended_early_by": ended_by,
    }


def table(run: Run) -> str:
    """The summary as text."""
    found = run.result
    if not found:
        frames = ", ".join(f"{n} frames of {c}" for c, n in run.frames.items()) or "no frames"
        return f"{run.path}: recording, {frames} and {sum(run.readings.values())} readings so far"
    lines = [f"run {run.path}"]
    if found["ended_early_by"]:
        lines.append(f"ended early: {found['ended_early_by']}")
    for name, camera in found["cameras"].items():
        lines.append(
            f"{name}: {camera['frames']} frames, {camera['dropped']} dropped, {camera['without_time']} without a time"
            + (
                f", exposures known to +-{camera['median_time_bound_s'] * 1e3:.2g} ms"
                if camera["median_time_bound_s"]
                else ""
            )
        )
    lines.append("readings: " + ", ".join(f"{device} {count}" for device, count in found["readings"].items()))
    if found["telemetry_messages"] is not None:
        lines.append(f"telemetry: {found['telemetry_messages']} messages")
    for name, camera in found["cameras"].items():
        lines.append(f"{'signal at each frame of ' + name:<34}{'unit':>7}{'valid':>9}{'median sigma':>14}{'worst':>12}")
        for path, s in camera["aligned"].items():
            median = "-" if s["median_uncertainty"] is None else f"{s['median_uncertainty']:.3g}"
            worst = "-" if s["worst_uncertainty"] is None else f"{s['worst_uncertainty']:.3g}"
            lines.append(f"  {path:<32}{s['unit']:>7}{s['valid']:>9.2%}{median:>14}{worst:>12}")
    return "\n".join(lines)
