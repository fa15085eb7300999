"""A picture of a run: a few frames, stimuli against frame time, clocks and frame intervals. Needs the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .clock_picture import draw_clock, draw_intervals
from .clocks import RunClocks
from .parts import FrameStack
from .reader import Recording, open_run

COLUMNS = 6
"""Frames shown."""
POINTS = 4000
"""Most points drawn per curve."""


def picture(run_path: str | Path, out: str | Path | None = None) -> Path:
    """Draw `out` (default: beside the run) and return its path. ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    run_path = Path(run_path)
    path = Path(out) if out is not None else run_path.with_suffix(".png")
    with open_run(run_path) as run:
        curves = [name for name in run.aligned if _is_stimulus(run, name) and _varies(run.aligned[name].value)]
        timed = [stack for stack in run.cameras.values() if "exposure_index" in stack.columns]
        heights = [2.2, 1.25 * max(len(curves), 1), 1.6 * max(len(run.clocks) + len(timed), 1)]
        figure = Figure(figsize=(12, 0.4 + sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        parts: Any = figure.subfigures(3, 1, height_ratios=heights)
        top, bottom, time = parts
        seconds = (run.frame_time - run.start_time) * 1e-9
        known = run.frame_valid
        count = len(seconds)
        shown: Any = np.unique(np.linspace(0, max(count - 1, 0), COLUMNS).astype(int)) if count else []
        top.suptitle(f"{run.title}: {count} frames, {run.dropped} dropped", fontsize=11)
        for place, axes in zip(shown, np.atleast_1d(top.subplots(1, max(len(shown), 1))), strict=False):
            block = np.asarray(run.frames[int(place) : int(place) + 16], float).mean(axis=0)
            axes.imshow(block, cmap="gray")
            axes.set_title(f"#{run.frame_number[place]}  {seconds[place]:.1f} s", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        if curves:
            every = max(1, count // POINTS)
            grid = np.atleast_1d(bottom.subplots(len(curves), 1, sharex=True))
            for name, axes in zip(curves, grid, strict=True):
                column = run.aligned[name]
                value = np.where(column.valid & known, np.asarray(column.value, float), np.nan)[::every]
                sigma = np.asarray(column.uncertainty, float)[::every]
                axes.fill_between(seconds[::every], value - 2 * sigma, value + 2 * sigma, alpha=0.3, linewidth=0)
                axes.plot(seconds[::every], value, linewidth=0.9)
                if column.unit == "Pa" and np.nanmin(value) > 0 and np.nanmax(value) / np.nanmin(value) > 100:
                    axes.set_yscale("log")
                axes.set_ylabel(f"{name}\n{column.unit}", rotation=0, ha="right", va="center", fontsize=8)
                axes.tick_params(labelsize=7)
                axes.margins(x=0)
            grid[-1].set_xlabel("time of the frame, s after the start of the run (band: 2 sigma)", fontsize=8)
        _time(time, run, timed)
        figure.savefig(path, dpi=110)
    return path


def _time(part: Any, run: Recording, timed: list[FrameStack]) -> None:
    """How the frames followed one another, and how the clocks behaved by which they are known."""
    clocks = RunClocks(run)
    panels = len(timed) + len(clocks.names)
    if not panels:
        return
    grid = np.atleast_1d(part.subplots(panels, 1, sharex=True))
    for axes, stack in zip(grid, timed, strict=False):
        draw_intervals(axes, stack, run.start_time)
    for axes, name in zip(grid[len(timed) :], clocks.names, strict=True):
        draw_clock(axes, run, clocks, name)
    for axes in grid:
        axes.tick_params(labelsize=7)
        axes.margins(x=0)
    grid[-1].set_xlabel("s after the start of the run", fontsize=8)


def _is_stimulus(run: Recording, name: str) -> bool:
    """What the specimen felt, not what was asked for or how hard an instrument worked."""
    signal = run.signals[name]
    return (
        signal.role == "readback"
        and signal.unit != "%"
        and (signal.interpolation == "linear" or name.endswith("state"))
    )


def _varies(value: Any) -> bool:
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "fiu":
        return False
    finite = numbers[np.isfinite(numbers.astype(float))]
    return bool(finite.size) and float(np.ptp(finite)) > 0
