"""Clock states: how well a device's own clock is known at the moment."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from ..clock.health import ClockHealth
from .payload import Shape, decode, encode


@dataclass(frozen=True, slots=True)
class ClockState:
    """How well a device's own clock is known. What is not known is None."""

    device: str
    session: str
    """The lab's session; another than the lab's state names: an old one that stayed behind."""
    time: int
    """Of this state, lab time, ns."""
    usable: bool
    reason: str
    """Why it can't be used, and what to do; empty when it can."""
    offset: int | None
    """ns, lab time less the clock's own."""
    rate_ppm: float | None
    """By how much a second of that clock is longer than a lab second."""
    bound: int | None
    """ns, hard bound of a tick read now."""
    sigma: float | None
    """ns, standard uncertainty of a tick read now."""
    residual: float | None
    """ns, median distance of the last looks from the model."""
    age: float | None
    """s since the last look at it."""
    exchanges: int
    """Looks since it was last reset."""
    epoch: int | None
    """Span between two resets, counted from 0."""


def clock_state(device: str, health: ClockHealth, session: str, time: int) -> ClockState:
    """The state of a clock, from its health at lab time `time` (ns)."""
    known = health.epoch >= 0

    def real(value: float) -> float | None:
        return value if known and math.isfinite(value) else None

    return ClockState(
        device, session, time, health.usable, health.reason,
        offset=health.offset if known else None, rate_ppm=real(health.rate_ppm),
        bound=health.bound if known else None, sigma=real(health.sigma), residual=real(health.residual),
        age=real(health.age), exchanges=health.exchanges, epoch=health.epoch if known else None,
    )  # fmt: skip


def encode_clock(state: ClockState) -> bytes:
    """The payload of a clock's state."""
    offset = None if state.offset is None else str(state.offset)
    return encode(asdict(state) | {"time": str(state.time), "offset": offset})


def decode_clock(payload: bytes | str) -> ClockState:
    """The clock's state in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a clock's state")
    with Shape("a clock's state"):
        known = {f.name: found[f.name] for f in fields(ClockState)}
        for name in ("time", "offset", "bound"):
            known[name] = None if known[name] is None else int(known[name])
        return ClockState(**known)
