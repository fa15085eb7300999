"""What the exchanges of one epoch come to: doubtful ones left out, a tube for each part between two steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bounds import above, below
from .steps import OFTEN, Step, steps
from .suspects import doubtful, impossible
from .table import Table
from .tube import Carried, Tube, tube
from .windows import Limits, Windows

Float64 = NDArray[np.float64]

STEEPEST = 0.5
"""Of the rate's limit: no clock is worse."""
AGAIN = 3
"""Times that doubtful exchanges are looked for."""


@dataclass(frozen=True, slots=True)
class Set:
    """Somebody set the clock, or it lost time."""

    since: float
    """At some x after this one ..."""
    until: float
    """... and up to that one, ..."""
    by: float
    """... by so many ns of theta."""


@dataclass(frozen=True, slots=True)
class Part:
    """Exchanges between two steps."""

    tube: Tube
    widened: float
    """By how much the rate's limit had to be widened for all exchanges to be possible."""
    found: list[Windows]
    """Of every look for doubtful exchanges, for speed."""


@dataclass(frozen=True, slots=True)
class Model:
    """The result."""

    table: Table
    parts: list[Part]
    sets: list[Set]

    @property
    def widened(self) -> float:
        return max(part.widened for part in self.parts)

    def carried(self, x: float) -> Carried:
        """What is left to say at x, all before it forgotten."""
        before = [part.tube for part in self.parts if part.tube.table.x[0] <= x]
        return (before or [self.parts[0].tube])[-1].carried(x)


def fit(
    limits: Limits,
    streamed: tuple[Float64, Float64],
    rho: float,
    *,
    corrupted: int = 0,
    delays: tuple[float, float] = (0.0, 0.0),
    carried: Carried | None = None,
    earlier: Model | None = None,
) -> Model:
    """Of limits from at least one exchange, and x and limit of what came one way, x ascending.

    `corrupted`: exchanges that were left out before; `delays`: calibrated, out and back, ns; `earlier`: a model of some
    of these exchanges, for speed.
    """
    n = limits.xl.size
    gone = impossible(limits, rho)
    found = _steps(limits, rho, carried) if gone is None or gone.any() else []
    # A step explains what contradicts, or else a few corrupted exchanges do: whichever takes fewer.
    if gone is not None and np.count_nonzero(gone) <= len(found):
        found = []
    begins, ends = [0, *(step.after for step in found)], [*(step.before + 1 for step in found), n]
    todo, parts = list(zip(begins, ends, strict=True)), list[Part]()
    most = len(todo) + 1 + n // OFTEN
    while todo:
        begin, end = todo.pop(0)
        if begin == end:
            carried = None  # and nothing has come since
            continue
        some = limits.part(slice(begin, end))
        since, until = some.xl[0] if begin else -np.inf, some.xu.max() if end < n else np.inf
        within = (streamed[0] >= since) & (streamed[0] <= until)
        known = [] if earlier is None or len(parts) >= len(earlier.parts) else earlier.parts[len(parts)].found
        one_way = streamed[0][within], streamed[1][within]
        whole = len(parts) + len(todo) + 1 > most
        part = _part(some, one_way, rho, corrupted, delays, carried, known, whole)
        if part.tube.steps:
            begins = [begin, *(begin + int(np.searchsorted(some.xl, after)) for _, after in part.tube.steps)]
            ends = [*(begin + int(np.searchsorted(some.xl, before, "right")) for before, _ in part.tube.steps), end]
            todo = [*zip(begins, ends, strict=True), *todo]
            continue
        parts.append(part)
        carried = None
    table, sets = parts[0].tube.table, []
    for part in parts[1:]:
        later = part.tube.table
        table = table.before(np.nextafter(later.x[0], -np.inf))
        sets.append(Set(float(table.x[-1]), float(later.x[0]), float(later.theta[0] - table.theta[-1])))
        table = table.then(later, broken=True)
    return Model(table, parts, sets)


def _steps(limits: Limits, rho: float, carried: Carried | None) -> list[Step]:
    """After what is carried from earlier exchanges, it counting as one of its own."""
    x, low, up = limits.xl, limits.lower, limits.upper + rho * (limits.xu - limits.xl)
    if carried is None:
        return steps(x, low, up, rho)
    x, low, up = np.append(carried.x, x), np.append(carried.hard_low, low), np.append(carried.hard_up, up)
    return [Step(step.before - 1, step.after - 1) for step in steps(x, low, up, rho, first=1)]


def _part(
    limits: Limits,
    streamed: tuple[Float64, Float64],
    declared: float,
    corrupted: int,
    delays: tuple[float, float],
    carried: Carried | None,
    known: list[Windows],
    whole: bool,
) -> Part:
    rho, widened = declared, 1.0
    gone = impossible(limits, rho)
    while gone is None and rho < STEEPEST:
        # The datasheet's ppm is wrong, or somebody slews the clock.
        widened *= 1.5
        rho = declared * widened
        gone = impossible(limits, rho)
    if gone is not None:
        limits = limits.part(~gone)
        corrupted += int(np.count_nonzero(gone))
    found: list[Windows] = []
    while True:
        more, same = _believable(limits, streamed, rho), known[len(found)] if len(found) < len(known) else None
        one = tube(more, rho, out=delays[0], back=delays[1], carried=carried, known=same, whole=whole)
        found.append(one.found)
        if len(found) > AGAIN or not corrupted or one.steps:
            return Part(one, widened, found)
        shape = one.rates.shape
        odd = doubtful(limits.trip, limits.lower - shape(limits.xl), limits.upper - shape(limits.xu))
        # Of random errors most are far too large for any doubt. More small ones than that are quick messages.
        if not 0 < np.count_nonzero(odd) <= corrupted:
            return Part(one, widened, found)
        limits = limits.part(~odd)


def _believable(limits: Limits, streamed: tuple[Float64, Float64], rho: float) -> Limits:
    """With what came one way: upper limits only."""
    x, y = streamed
    order = np.argsort(limits.xu, kind="stable")
    xu, upper = limits.xu[order], limits.upper[order]
    # A tick later than its arrival, or a second from anything two-way, was corrupted.
    good = (y >= below(rho * limits.xl, limits.lower, rho * x)) & (y <= above(rho * xu, upper, rho * x) + 10e9)
    xu, upper = np.concatenate([xu, x[good]]), np.concatenate([upper, y[good]])
    order = np.argsort(xu, kind="stable")
    return Limits(limits.xl, limits.lower, xu[order], upper[order], limits.trip, limits.tick)
