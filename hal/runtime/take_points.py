"""Calibration points from a lab: go to a setpoint, wait until signal and reference are steady, take their means."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError, NoReply
from ..frames.stimuli import number
from ..model.calibrated import CalibratedAt
from ..model.reading import Quality, Reading
from ..model.signal import SignalR, SignalRW
from ..recording.points import LEAST, Mean, Point, apart, mean_of

if TYPE_CHECKING:
    from .lab import Lab

Ask = Callable[[str], Awaitable[str]]
"""Asks a person, and returns what was typed."""
Tell = Callable[[str], None]
GAP = 2.5
"""Polls by which a window's readings may fall short of it: more is a gap, such as a plug that was pulled."""
MOVED = 2.0
"""Standard uncertainties from the last point at which a signal has set out for the next."""
MOST = 10_000
"""Points that a person may bring about one by one."""


@dataclass(frozen=True, slots=True)
class Guide:
    """How points are taken."""

    signal: SignalR[Any]
    reference: SignalR[Any] | None
    """None: a person types the reference's value."""
    reference_unit: str
    setpoint: SignalRW[Any] | None
    """None: a person brings everything to the next point."""
    steps: Sequence[float]
    """Of the setpoint, in its unit."""
    window: float
    """s over which both must be steady."""
    within: float
    """Difference between the window's halves that is allowed in any case, in the unit of each."""
    patience: float
    """s to wait for that."""
    typed_uncertainty: float
    """Standard uncertainty of a typed value."""
    taken: int = 0
    """Steps that were taken before."""


def guide(
    lab: Lab, signal: str, reference: str, *, setpoint: str = "", steps: Sequence[float] = (), reference_unit: str = "",
    window: float = 10.0, within: float = 0.0, patience: float = 600.0, typed_uncertainty: float = 0.0,
) -> Guide:  # fmt: skip
    """Find the signals and check every step against the limits before anything is set.

    Raises `ConfigError` and `LimitError`.
    """
    measured = _measured(lab, signal)
    against = _measured(lab, reference) if reference else None
    if isinstance(measured.at, CalibratedAt):
        raise ConfigError(f"{signal} is calibrated already; name the raw signal, {measured.at.raw.path}")
    if measured is against:
        raise ConfigError(f"{signal} can't be its own reference")
    if against is None and not reference_unit:
        raise ConfigError("values that are typed need a unit; say --unit")
    moved = lab.signal(setpoint) if setpoint else None
    if moved is not None and not isinstance(moved, SignalRW):
        raise ConfigError(f"{setpoint} can't be set; name a setpoint")
    if moved is not None and not steps:
        raise ConfigError(f"{setpoint}: to which values? say --at 100,200,300")
    if moved is not None:
        for step in steps:
            moved.check(step)
    for one in (measured, *([against] if against is not None else [])):
        if window < LEAST * one.poll:
            raise ConfigError(
                f"{one.path} is read every {one.poll:g} s; a window of {window:g} s has less than {LEAST} readings"
            )
    unit = against.unit if against is not None else reference_unit
    return Guide(measured, against, unit, moved, tuple(steps), window, within, patience, typed_uncertainty)


async def take_points(lab: Lab, how: Guide, ask: Ask, tell: Tell) -> AsyncGenerator[Point, None]:
    """One point after the other, as soon as it is taken.

    Raises `NoReply` if it is not steady in time, and whatever setting raises.
    """
    steps: Sequence[float | None] = how.steps if how.setpoint is not None else (None,) * MOST
    before: Mean | None = None
    for count, step in list(enumerate(steps, 1))[how.taken :]:
        if how.setpoint is not None:
            tell(f"point {count} of {len(steps)}: {how.setpoint.path} = {step:g} {how.setpoint.unit}")
            await how.setpoint.set(step)
        elif not await _next(ask):
            return
        if how.setpoint is None or (count > 1 and step == steps[count - 2]):
            before = None  # it may well be where it was
        of_signal, of_reference = await _steady(how, tell, before)
        before = of_signal
        if of_reference is not None:
            y, u_y = of_reference.value, of_reference.uncertainty
        else:
            typed = await _number(ask, tell, f"What does the reference say, in {how.reference_unit}? ")
            if typed is None:
                return
            y, u_y = typed, how.typed_uncertainty
        readings = min(m.readings for m in (of_signal, of_reference) if m is not None)
        point = Point(lab.context.timebase.now(), of_signal.value, of_signal.uncertainty, y, u_y, readings, step)
        tell(
            f"  {how.signal.path} = {point.x:.6g} +- {point.u_x:.2g} {how.signal.unit}, reference "
            f"{point.y:.6g} +- {point.u_y:.2g} {how.reference_unit}"
        )
        yield point


# ---------------------------------------------------------------------------- private


def _measured(lab: Lab, path: str) -> SignalR[Any]:
    found = lab.signal(path)
    if found.dtype not in (float, int) or isinstance(found, SignalRW):
        raise ConfigError(f"{path} is not a number that is measured; name a signal that is read")
    return found


async def _steady(how: Guide, tell: Tell, before: Mean | None) -> tuple[Mean, Mean | None]:
    """Wait until the last window of both is steady. What was read before the wait does not count, nor what is in doubt.

    before: the last point; as long as the signal is still there, it has not set out yet.
    """
    loop = asyncio.get_running_loop()
    signals = [s for s in (how.signal, how.reference) if s is not None]
    kept: dict[str, _Kept] = {s.path: deque() for s in signals}
    with ExitStack() as listening:
        for signal in signals:
            take = partial(_take, kept[signal.path], loop)
            signal.subscribe(take)
            listening.callback(signal.unsubscribe, take)
        begun = loop.time()
        be = "is" if len(kept) == 1 else "are"
        tell(f"  waiting until {' and '.join(kept)} {be} steady for {how.window:g} s")
        while True:
            await asyncio.sleep(max(how.window / 10.0, 0.05))
            means = [_mean(kept[s.path], how, s.poll, loop.time()) for s in signals]
            moved = before is None or apart(means[0], before, how.within, MOVED)
            if loop.time() - begun >= how.window and moved and all(mean.steady for mean in means):
                return means[0], means[1] if how.reference is not None else None
            if loop.time() - begun > how.patience:
                silent = [s.path for s, mean in zip(signals, means, strict=True) if mean.readings < LEAST]
                restless = [s.path for s, mean in zip(signals, means, strict=True) if not mean.steady]
                if silent:
                    raise NoReply(
                        signals[0].device.name,
                        f"{' and '.join(silent)} gave too few good readings in the last {how.window:g} s; look at the "
                        "cable and the range, then go on",
                    )
                what = "did not become steady" if restless else "did not move"
                raise NoReply(
                    signals[0].device.name,
                    f"{' and '.join(restless or kept)} {what} in {how.patience:g} s; wait longer (--patience), or "
                    "allow a drift (--within)",
                )


_Kept = deque[tuple[float, Reading[Any]]]
"""Readings, each with the moment it came, s."""


def _take(kept: _Kept, loop: asyncio.AbstractEventLoop, reading: Reading[Any]) -> None:
    if reading.quality is Quality.GOOD and reading.value is not None:
        kept.append((loop.time(), reading))


def _mean(kept: _Kept, how: Guide, poll: float, now: float) -> Mean:
    """Of the window up to now; not steady unless its readings cover it."""
    while kept and kept[0][0] < now - how.window:
        kept.popleft()
    if not kept or kept[-1][0] - kept[0][0] < how.window - GAP * poll:
        return mean_of(np.zeros(0), np.zeros(0))
    value = np.array([number(reading.value) for _, reading in kept])
    noise = np.array([np.nan if r.uncertainty is None else r.uncertainty for _, r in kept], np.float64)
    return mean_of(value, noise, how.within)


async def _next(ask: Ask) -> bool:
    """Whether there is to be another point; only an empty line says so."""
    question = "Bring everything to the next point and press Enter, or type `done`: "
    while (typed := (await ask(question)).strip()) not in ("", "done"):
        question = f"{typed!r} is neither; press Enter for the next point, or type `done`: "
    return not typed


async def _number(ask: Ask, tell: Tell, question: str) -> float | None:
    """What a person typed; None: nobody types any more."""
    while True:
        text = (await ask(question)).strip()
        if text == "done":
            return None
        with suppress(ValueError):
            if np.isfinite(found := float(text)):
                return found
        tell(f"  {text!r} is no number; type one such as 26.3, or `done` to end without this point")
