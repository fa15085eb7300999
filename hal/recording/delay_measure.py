"""Fixed delays out of a run in which a lamp flashed at known moments, or a line of this computer was led to a board.

A run is evidence that stays: whoever doubts a certificate can work its delay out again from the raw ticks. What
flashed or pulsed, and when, stands in the run's events (`FLASH`, `PULSE`). Formulas: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..clock.delays import Delay, LinkDelays, by_flash, by_loop
from ..errors import ClockError
from ..frames.frame import Reason
from .clocks import RunClocks
from .declared import Changes
from .realign import FrameColumns, declaration, realigned

if TYPE_CHECKING:
    from .parts import FrameStack
    from .reader import Recording
    from .ticks import PulseRecord

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

FLASH, PULSE = "flash", "pulse"
"""Under these names an event's data have the boot, ticks and length (s) of a flash, and the lab time (ns) between
which a line of this computer moved."""
WITHIN = 0.05
"""Seconds that a camera's delay lies within, either way, if nobody says otherwise."""
NEAR = 0.1
"""Seconds around a pulse of the line in which its stamp is looked for; pulses are further apart than twice that."""


@dataclass(frozen=True, slots=True)
class Flash:
    """One flash, as the camera saw it."""

    time: int
    """Lab time, ns."""
    frame: int
    """Number of the first frame that caught some of it; -1 if none did."""
    share: float
    """Of that frame's exposure that was lit, as its brightness tells, 0 to 1."""
    delay: float
    """s, the camera's delay by this flash alone; NaN where it was lit through and through, and tells nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraDelay:
    """By how much a camera's exposures really begin later than its run says, and what that makes of its latency."""

    camera: str
    delay: float
    """s"""
    sigma: float
    """s, its standard uncertainty."""
    option: str
    """Which declaration it corrects: ``pulse_latency`` where pulses are stamped, else ``latency``."""
    latency: float
    """s, what should have been declared there."""
    by: str
    """In words, how the frames' times were found."""
    exposure: float
    """s, median."""
    frames: int
    found: Delay
    flashes: tuple[Flash, ...]

    def result(self) -> dict[str, float]:
        """What a certificate of kind ``delay.camera`` states."""
        return {"delay_s": self.delay, "delay_sigma_s": self.sigma, f"{self.option}_s": self.latency}

    def environment(self) -> dict[str, Any]:
        """What it may depend on."""
        return {"exposure_s": self.exposure, "times_by": self.by}

    def evidence(self) -> dict[str, Any]:
        """For whoever wants to judge it."""
        return {
            "flashes": len(self.flashes), "flashes_that_tell": self.found.events, "scatter_s": self.found.scatter,
            "frames": self.frames,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class LinkDelay:
    """What a board's link takes each way."""

    device: str
    found: LinkDelays
    round_trip: float
    """s, the smallest of all exchanges, the board's own time left out."""
    time: Int64
    """(m,) lab time of the pulses of the line, ns."""
    late: Float64
    """(m,) s, by how much a clock that takes both ways for equal puts them later."""

    def result(self) -> dict[str, float]:
        """What a certificate of kind ``delay.link`` states."""
        return {"out_s": self.found.out, "back_s": self.found.back, "sigma_s": self.found.sigma}

    def evidence(self) -> dict[str, Any]:
        """For whoever wants to judge it."""
        scatter = float(np.std(self.late, ddof=1))
        return {"pulses": self.found.events, "scatter_s": scatter, "round_trip_s": self.round_trip}


def camera_delay(
    run: Recording, camera: str, *, within: float = WITHIN, darker: bool = False, light_delay: float = 0.0,
    light_sigma: float = 0.0,
) -> CameraDelay:  # fmt: skip
    """A camera's delay from a run in which it filmed flashes.

    darker         the pulses blank a beam that is on, instead of lighting a lamp
    light_delay    s from the pulse to the light, with its standard uncertainty light_sigma

    Raises `ClockError` if the flashes tell no delay, `RecordError` if the run is none.
    """
    if camera not in run.cameras:
        raise ClockError(f"{camera}: no camera of {run.path}; it has {', '.join(run.cameras) or 'none'}")
    stack, (declared, _) = run.cameras[camera], declaration(run, camera)
    # What is declared of the latency is in question here; how far it is doubted must not come back as doubt.
    again = realigned(run, Changes({camera: {"latency_sigma": 0.0, "pulse_latency_sigma": 0.0}}))
    if camera not in again.cameras or (times := again.cameras[camera].times) is None:
        raise ClockError(f"{camera}: no frame of it was recorded; does it film?")
    frames = FrameColumns.of(stack)
    usable = times.valid & (times.reason == Reason.OK)
    option, by = "latency", again.cameras[camera].by
    sigmas = np.asarray(times.sigma)
    device, moments, length, mapping = _flashes(run, RunClocks(run))
    if stack.frame_clock is not None:
        matching = again.matchings.get(camera)
        if matching is None or matching.times is None:
            why = "" if matching is None else f": {matching.why_not}"
            raise ClockError(f"{camera}: its frames could not be matched to pulses{why}")
        option = "pulse_latency"
        if stack.frame_clock[0] == device and matching.times.within is not None:
            sigmas, mapping = np.asarray(matching.times.within), 0.0  # one clock stamped both: its error cancels
    brightness = _brightness(stack, len(usable)) * (-1.0 if darker else 1.0)
    moments = moments + round(light_delay * 1e9)
    start, lasting = times.start[usable], frames.exposure[usable]
    found = by_flash(start, lasting, brightness[usable], moments, length, within=within)
    own = float(np.median(sigmas[usable])) * 1e-9
    sigma = float(np.sqrt(found.sigma**2 + own**2 + (mapping * 1e-9) ** 2 + light_sigma**2))
    latency = float(getattr(declared, option)) - found.value
    if option == "latency" and latency < 0:
        raise ClockError(
            f"{camera}: by this its frames arrive {-latency * 1e3:.3g} ms before they are exposed; is it the lamp that "
            "lights them, does it light with the pulse and not without it, and for as long as was said?"
        )
    seen = _seen(found, moments, length, start, lasting, brightness[usable], frames.number[usable])
    return CameraDelay(
        camera, found.value, sigma, option, latency, by, float(np.median(lasting)), int(usable.sum()), found, seen
    )


def link_delay(run: Recording, device: str, *, number: int, rising: bool = True) -> LinkDelay:
    """The two ways of a board's link, from a run in which a line of this computer was led to its input `number`.

    Raises `ClockError` if they can't be told.
    """
    if device not in run.pulses or device not in run.clocks:
        raise ClockError(f"{device}: {run.path} has no pulses that it stamped")
    made = np.array([list(e.data[PULSE]) for e in run.events if _has(e.data, PULSE)], np.int64).reshape(-1, 2)
    record, exchanges = run.pulses[device], run.clocks[device].exchanges
    frequency = run.clocks[device].declared.frequency
    time = _stamped(run, device, record, number, rising)
    if not made.size or not time.size:
        what = "pulse of the line was noted" if not made.size else f"pulse came to input {number} of {device}"
        raise ClockError(f"{device}: no {what}; is the line led there, and its edge the right one?")
    reference, bound = made.mean(axis=1).astype(np.int64), (made[:, 1] - made[:, 0]) // 2
    after = np.clip(np.searchsorted(time, reference), 0, time.size - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(time[before] - reference) < np.abs(time[after] - reference)
    mapped = time[np.where(nearer, before, after)]
    met = np.abs(mapped - reference) < round(NEAR * 1e9)
    own = (exchanges.ticks_sent - exchanges.ticks_received) / frequency
    round_trip = float(((exchanges.received - exchanges.sent) * 1e-9 - own).min())
    found = by_loop(mapped[met], reference[met], bound[met], round_trip)
    return LinkDelay(device, found, round_trip, reference[met], (mapped - reference)[met] * 1e-9)


# ---------------------------------------------------------------------------- private


def _has(data: Any, name: str) -> bool:
    return isinstance(data, dict) and name in data


def _flashes(run: Recording, clocks: RunClocks) -> tuple[str, Int64, float, float]:
    """Who pulsed, when (lab time, ns), for how long (s), and how far its clock is from lab time (ns, sigma)."""
    events = [event for event in run.events if _has(event.data, FLASH)]
    if not events:
        raise ClockError(f"{run.path}: no flash was noted in this run; record one with `hal delay`")
    device = events[0].device
    columns = {name: np.array([e.data[FLASH][name] for e in events]) for name in ("boot", "ticks", "length")}
    came = np.array([event.time for event in events], np.int64)
    at = clocks.to_lab(device, columns["ticks"].astype(np.int64), came, columns["boot"].astype(np.int64))
    if not at.valid.all():
        raise ClockError(f"{device}: {int((~at.valid).sum())} of its {len(events)} flashes have no lab time; try again")
    return device, at.time, float(columns["length"][0]), float(np.median(at.sigma))


def _brightness(stack: FrameStack, count: int) -> Float64:
    """Mean of each frame."""
    step = max(1, (1 << 26) // max(1, stack.shape[1] * stack.shape[2] * stack.dtype.itemsize))
    parts = [stack[at : min(at + step, count)].mean(axis=(1, 2), dtype=np.float64) for at in range(0, count, step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _seen(
    found: Delay, moments: Int64, length: float, start: Int64, lasting: Float64, brightness: Float64, number: Int64
) -> tuple[Flash, ...]:
    """Each flash in the first frame that it lit."""
    order = np.argsort(start, kind="stable")
    begin = start[order] + round(found.value * 1e9)
    end = begin + np.rint(lasting[order] * 1e9).astype(np.int64)
    share = (brightness[order] - found.dark) / (found.gain * lasting[order])
    out = []
    for moment, delay in zip(np.unique(moments).tolist(), found.each.tolist(), strict=True):
        first = int(np.searchsorted(end, moment, side="right"))
        lit = first < begin.size and int(begin[first]) < moment + round(length * 1e9)
        at = (int(number[order[first]]), float(np.clip(share[first], 0.0, 1.0))) if lit else (-1, 0.0)
        out.append(Flash(moment, *at, delay))
    return tuple(out)


def _stamped(run: Recording, device: str, record: PulseRecord, number: int, rising: bool) -> Int64:
    """Lab time of the edges at an input, ns, ascending, by a clock that takes both ways of the link for equal."""
    clocks = RunClocks(run, Changes({device: {"delay_out": 0.0, "delay_back": 0.0, "delay_sigma": 0.0}}))
    rows = np.flatnonzero((record.input == number) & (record.rising == rising))
    if not rows.size:
        return np.zeros(0, np.int64)
    at = clocks.to_lab(device, record.ticks[rows], record.arrival[rows], record.boot[rows])
    return np.asarray(np.sort(at.time[at.valid]))


__all__ = ["FLASH", "PULSE", "WITHIN", "CameraDelay", "Flash", "LinkDelay", "camera_delay", "link_delay"]
