"""Frames of a run and the pulses stamped at their exposures: which belongs to which, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..frames.frame import FrameTimes, Reason
from .clocks import RunClocks
from .declared import CameraClock

if TYPE_CHECKING:
    from ..frames.pulses import Pulses
    from .parts import Event
    from .realign import FrameColumns
    from .ticks import PulseRecord

Int64 = NDArray[np.int64]
ABOUT_NUMBERS = (Reason.DUPLICATE, Reason.BAD_NUMBER)
FEW = 8
"""Steps below which nothing can be said of a beat."""
MARGIN = 0.2
"""Seconds around a stretch of frames in which its pulses are looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """What came of matching one camera's frames to pulses."""

    device: str
    input: int
    pulses: int
    """Rising edges at that input."""
    matched: int = 0
    """Frames that have a pulse of their own."""
    inferred: int = 0
    """Frames whose pulse was not captured, and whose neighbours tell when it must have been."""
    ambiguous: int = 0
    without_pulse: int = 0
    not_matched: int = 0
    unused: int = 0
    """Pulses of no frame that was received: of dropped ones, strays, ringing."""
    scatter: float = float("nan")
    """ns, of pulses about the detector's own time."""
    times: FrameTimes | None = None
    """None: there was nothing to match, and arrivals have to do."""
    pulse: Int64 | None = None
    """(n,) row of each frame's pulse among all that the device stamped; -1: none."""
    why_not: str = ""
    """Why there are no times."""


def told_to_film(events: Iterable[Event], camera: str, frames: FrameColumns) -> int | None:
    """Lab time (ns) at which a run's camera was first told to film; None if it filmed before, or nobody noted it."""
    from ..instrument.camera import FILMS

    first = next((e for e in events if e.kind == "operation" and e.device == camera and e.text == FILMS), None)
    since = first.data.get("since") if first is not None and isinstance(first.data, dict) else None
    return since if isinstance(since, int) and (frames.arrival >= since).all() else None


def by_pulses(
    frames: FrameColumns, rough: FrameTimes, camera: CameraClock, recorded: PulseRecord, number: int, clocks: RunClocks,
    armed: int | None = None,
) -> Matching:  # fmt: skip
    """Exposures by the pulses at input `number`; without usable pulses, the reason why.

    `rough` are the exposures by arrival: they tell which pulses are near when the beat changed within the run.
    armed: lab time (ns) before which no frame was exposed, and since when pulses were stamped; None: not known.
    """
    from ..frames.pulses import Pulses

    device = recorded.device
    rows = np.flatnonzero((recorded.input == number) & recorded.rising)
    nothing = Matching(device, number, int(rows.size))
    if not rows.size:
        return replace(nothing, why_not=f"{device} stamped no pulse at input {number}; is the cable plugged in?")
    ticks = recorded.ticks[rows]
    at = clocks.to_lab(device, ticks, recorded.arrival[rows], recorded.boot[rows])
    if not at.valid.any():
        return replace(nothing, why_not=f"the clock of {device} is not known: {clocks.model(device).health(0).reason}")
    pulses = Pulses(
        time=at.time, bound=at.tight, ticks=ticks, sigma=np.where(at.valid, at.sigma, 0.0),
        latency=camera.pulse_latency, latency_sigma=camera.pulse_latency_sigma,
        resolution=1.0 / clocks.model(device).frequency, valid=at.valid, clock=device,
    )  # fmt: skip
    times, pulse, scatter = _matched(frames, rough, camera, pulses, armed)
    times = _with_reasons(times, frames.reason)
    own = pulse >= 0
    settled, reason = times.valid, times.reason
    times = times.or_by_arrival(rough)
    return Matching(
        device, number, int(rows.size),
        matched=int(np.count_nonzero(own & settled)),
        inferred=int(np.count_nonzero(~own & settled)),
        ambiguous=int(np.count_nonzero(reason == Reason.AMBIGUOUS)),
        without_pulse=int(np.count_nonzero(reason == Reason.NO_PULSE)),
        not_matched=int(np.count_nonzero(reason == Reason.NOT_MATCHED)),
        unused=int(rows.size) - int(np.unique(pulse[own & settled]).size),
        scatter=scatter,
        times=times,
        pulse=np.where(own & settled, rows[np.maximum(pulse, 0)], -1),
    )  # fmt: skip


def _matched(
    frames: FrameColumns, rough: FrameTimes, camera: CameraClock, pulses: Pulses, armed: int | None
) -> tuple[FrameTimes, Int64, float]:
    """Match stretches of one beat each, whose pulses would else be taken for strays of the others."""
    from ..frames.match import match
    from ..frames.series import Frames

    stretches = _stretches(frames, camera.frequency)
    parts, places, scatter = [], [], []
    for stretch in stretches:
        at = stretch.rows
        near = np.ones(len(pulses), np.bool_) if pulses.valid is None else pulses.valid.copy()
        known = at[rough.valid[at]]
        if len(stretches) > 1 and known.size:
            margin = round(max(MARGIN, 10 * (stretch.period or 0.0)) * 1e9)
            near &= pulses.time >= int((rough.start - rough.bound)[known].min()) - margin
            near &= pulses.time <= int((rough.stop + rough.bound)[known].max()) + margin
        found = match(
            Frames(
                arrival=frames.arrival[at], exposure=frames.exposure[at], ticks=frames.ticks[at],
                frequency=camera.frequency, ppm=camera.ppm, number=frames.number[at], counts="series",
                first=camera.first, period=stretch.period, regular=stretch.period is not None,
                min_latency=camera.latency or None, min_latency_sigma=camera.latency_sigma, armed=armed,
            ),
            replace(pulses, valid=near),
        )  # fmt: skip
        parts.append(found.times)
        places.append(found.pulse)
        scatter.append(found.summary.residual)
    order = np.argsort(np.concatenate([stretch.rows for stretch in stretches]))
    middle = [s for s in scatter if np.isfinite(s)]
    return (
        FrameTimes.concatenate(parts)[order],
        np.concatenate(places)[order],
        float(np.median(middle)) if middle else float("nan"),
    )


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Frames, in order of reception, of consecutive series with one beat; period in s, None: no beat."""

    rows: Int64
    period: float | None


def _stretches(frames: FrameColumns, frequency: float) -> list[_Stretch]:
    found: list[_Stretch] = []
    cuts = np.flatnonzero(np.diff(frames.series)) + 1
    for rows in np.split(np.arange(frames.series.size), cuts):
        beat, sure = _beat(frames, rows)
        period = None if beat is None else beat / frequency
        last = found[-1] if found else None
        # A handful of frames tells no beat; they go with those before them.
        if last is not None and (not sure or _alike(last.period, period)):
            found[-1] = _Stretch(np.concatenate([last.rows, rows]), last.period)
        else:
            found.append(_Stretch(rows, period))
    return found


def _beat(frames: FrameColumns, rows: Int64) -> tuple[float | None, bool]:
    """Ticks between exposures by the detector's own stamps, None if they keep no beat; and whether that's sure."""
    usable = rows[(frames.index[rows] >= 0) & ~np.isin(frames.reason[rows], ABOUT_NUMBERS)]
    ahead = np.diff(frames.index[usable])
    steps = np.diff(frames.ticks[usable])[ahead > 0] / ahead[ahead > 0]
    if not steps.size:
        return None, False
    usual = float(np.median(steps))
    steady = usual > 0 and float(np.mean(np.abs(steps - usual) < 0.1 * usual)) > 0.8
    return usual if steady else None, steps.size >= FEW


def _alike(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < 1e-3 * one


def _with_reasons(times: FrameTimes, recorded: NDArray[np.uint8]) -> FrameTimes:
    """What was found about numbers as the frames came is raw data, and stays as it was recorded."""
    before, now = np.isin(recorded, ABOUT_NUMBERS), np.isin(times.reason, ABOUT_NUMBERS)
    reason = np.where(before, recorded, np.where(now, np.uint8(Reason.NOT_MATCHED), times.reason)).astype(np.uint8)
    return replace(times, reason=reason, valid=times.valid & ~before & ~now)
