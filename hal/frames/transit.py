"""Delays that depend on a flow: what is measured down a gas line left the specimen one line's volume earlier."""

from __future__ import annotations

import numpy as np

from hal.frames.channel import Channel
from hal.frames.frame import Float64, Int64


def transit(time: Int64, flow: Channel, volume: float, volume_sigma: float = 0.0) -> tuple[Float64, Float64]:
    """Delay and its standard uncertainty, s, of readings made at `time` (ns) behind a line of `volume`.

    For `Channel.delay_s` and `delay_sigma_s`. volume is in the flow's unit times seconds: for a flow in
    mL/min and a line of 2 mL, 2 * 60. A positive volume lies between the specimen and the sensor (a mass
    spectrometer downstream); a negative one between the sensor and the specimen (a flow controller upstream).

    Plug flow: the gas at the sensor at t left the specimen at t - d, where the integral of the flow from
    t - d to t is the volume; for a steady flow d = volume / flow. Its uncertainty is volume_sigma / flow
    at t - d. NaN where the gas was elsewhere before the flow's first reading (or will be after its last),
    across a gap longer than the flow's max_gap_s, or where its readings are bad. Backflow is a ValueError.
    """
    value = np.asarray(flow.value, np.float64)
    order = np.argsort(flow.time, kind="stable")
    since, value = flow.time[order], value[order]
    good = np.isfinite(value) if flow.good is None else np.isfinite(value) & flow.good[order]
    if (value[good] < 0).any():
        raise ValueError("transit: the flow is negative; gas that flows back has no single delay")
    if since.size < 2:
        return np.full(time.size, np.nan), np.full(time.size, np.nan)
    x = (since - since[0]) * 1e-9
    dt = np.diff(x)
    usable = good[1:] & good[:-1] & (dt <= flow.max_gap_s)
    value = np.where(good, value, 0.0)
    # Of a linear channel the trapezoids, of steps the rectangles; passed[i] has gone by until reading i.
    through = (0.5 * (value[1:] + value[:-1]) if flow.kind == "linear" else value[:-1]) * dt
    passed = np.concatenate([[0.0], np.cumsum(np.where(usable, through, 0.0))])
    broken = np.concatenate([[0], np.cumsum(~usable)])

    at = (time - since[0]) * 1e-9
    here = np.interp(at, x, passed)
    then = here - volume
    # The latest moment at which that much had passed: what waits while the flow is nil starts late.
    left = np.clip(np.searchsorted(passed, then, side="right") - 1, 0, x.size - 2)
    rest = then - passed[left]
    mean = np.where(dt > 0, through / np.maximum(dt, 1e-12), 0.0)
    moment = x[left] + np.minimum(np.divide(rest, mean[left], out=np.zeros_like(rest), where=mean[left] > 0), dt[left])
    speed = np.interp(moment, x, value) if flow.kind == "linear" else value[left]

    now = np.clip(np.searchsorted(x, at, side="right") - 1, 0, x.size - 2)
    first, last = np.minimum(left, now), np.maximum(left, now)
    known = (at >= 0) & (at <= x[-1]) & (then >= 0) & (then <= passed[-1]) & (broken[last + 1] == broken[first])
    known &= speed > 0
    delay = np.where(known, at - moment, np.nan)
    return delay, np.where(
        known, np.divide(abs(volume_sigma), speed, out=np.full_like(speed, np.nan), where=known), np.nan
    )
