"""Pictures of a run's time: each clock's exchanges around its model, and the intervals between frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..frames.frame import Reason
from .layout import UNKNOWN_TIME

if TYPE_CHECKING:
    from .clocks import RunClocks
    from .parts import FrameStack
    from .reader import Recording

POINTS = 20_000
"""Most frames drawn one by one; of more, every so many, and all that stand out."""
_SCALES = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))


def draw_clock(axes: Any, recording: Recording, clocks: RunClocks, name: str) -> None:
    """Every exchange of device `name` leaves a corridor for its clock; the model runs through all of them."""
    exchanges = recording.clocks[name].exchanges
    health = clocks.health()[name]
    axes.set_title(
        f"clock of {name}: {len(exchanges)} exchanges, {health.rate_ppm:+.2f} ppm" if health.usable else health.reason,
        fontsize=8, loc="left",
    )  # fmt: skip
    if not len(exchanges):
        return
    came = clocks.to_lab(name, exchanges.ticks_received, exchanges.received, exchanges.boot)
    left = clocks.to_lab(name, exchanges.ticks_sent, exchanges.received, exchanges.boot)
    known = came.valid & left.valid
    if not known.any():
        return
    seconds = (exchanges.received - recording.start_time)[known] * 1e-9
    early, late = (exchanges.sent - came.time)[known], (exchanges.received - left.time)[known]
    bound, tight = left.bound[known], left.tight[known]
    # Linear within twice the tight bound, logarithmic beyond: a question may wait for a second.
    near = 2.0 * float(np.median(tight)) or 1.0
    size, unit = next((s, u) for s, u in _SCALES if near >= s or s == 1.0)
    axes.set_yscale("symlog", linthresh=near / size, linscale=2.0)
    order = np.argsort(seconds)
    for width, shade, label in ((bound, 0.15, "hard bound"), (tight, 0.3, "tight bound")):
        axes.fill_between(
            seconds[order], -width[order] / size, width[order] / size, alpha=shade, color="C0", linewidth=0, label=label
        )
    axes.plot(seconds, late / size, ".", markersize=3, color="C1", label="answer was here")
    axes.plot(seconds, early / size, ".", markersize=3, color="C2", label="question left")
    axes.axhline(0.0, color="C0", linewidth=0.8)
    for at in np.flatnonzero(np.diff(exchanges.boot[known])):
        axes.axvline(seconds[at + 1], color="C3", linewidth=0.8, linestyle="--")
    reach = 1.3 * max(float(np.max(late)), float(np.max(-early)), near) / size
    axes.set_ylim(-reach, reach)
    axes.set_ylabel(f"lab less model\n{unit}", rotation=0, ha="right", va="center", fontsize=8)
    axes.legend(fontsize=6, loc="upper right", ncols=4)


def draw_intervals(axes: Any, stack: FrameStack, start_time: int) -> None:
    """From the start of one exposure to that of the next received; drops and frames without a time are marked."""
    start, valid, index = stack.start, stack.valid, stack.column("exposure_index")
    series, reason = stack.column("series"), stack.column("reason")
    count = min(len(start), len(index), len(series), len(reason))
    rows = np.flatnonzero(valid[:count] & (start[:count] != UNKNOWN_TIME))
    lost = count - rows.size
    if rows.size < 2:
        axes.set_title(f"{stack.camera}: no interval between exposures is known", fontsize=8, loc="left")
        return
    before, here = rows[:-1], rows[1:]
    steps = index[here] - index[before]
    same = (series[here] == series[before]) & (steps > 0)
    before, here, steps = before[same], here[same], steps[same]
    interval = (start[here] - start[before]) * 1e-6
    seconds = (start[here] - start_time) * 1e-9
    drops = steps > 1
    alone = np.flatnonzero(~drops)
    every = alone[:: max(1, -(-alone.size // POINTS))]
    axes.plot(seconds[every], interval[every], ".", markersize=2, color="C0", label="between neighbours")
    inferred = (stack.pulse[here] < 0) & ~drops if stack.frame_clock is not None else np.zeros(len(here), bool)
    if inferred.any():
        axes.plot(seconds[inferred], interval[inferred], ".", markersize=3, color="C1", label="pulse inferred")
    dropped = int((steps[drops] - 1).sum())
    if drops.any():
        axes.plot(seconds[drops], interval[drops], "x", markersize=5, color="C3", label="over dropped ones")
    where = (stack.arrival[:count][~valid[:count]] - start_time) * 1e-9
    if lost:
        names = [f"{n} {Reason(int(r)).name.lower()}" for r, n in _counted(reason[:count][~valid[:count]])]
        axes.plot(
            where, np.zeros(len(where)), "|", markersize=7, color="C3", label=f"no time: {', '.join(names)}",
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
    usual = float(np.median(interval / steps))
    axes.set_title(
        f"{stack.camera}: {count} frames every {usual:.4g} ms, {dropped} dropped, {lost} without a time",
        fontsize=8, loc="left",
    )  # fmt: skip
    axes.set_ylabel("interval between\nexposures\nms", rotation=0, ha="right", va="center", fontsize=8)
    axes.margins(y=0.3)
    axes.legend(fontsize=6, loc="upper right", ncols=4)


def _counted(codes: Any) -> list[tuple[int, int]]:
    found, counts = np.unique(codes, return_counts=True)
    return list(zip(found.tolist(), counts.tolist(), strict=True))
