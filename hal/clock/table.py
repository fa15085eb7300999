"""What is known of a clock at chosen moments, and what follows from it between and beyond them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Places = tuple[Float64, Float64, Float64, Float64, Float64]


@dataclass(frozen=True, slots=True)
class Table:
    """At n >= 1 nodes x (ns of nominal device time, ascending): the offset theta = lab time - x and limits to it, ns.

    Between two nodes theta is a straight line. A limit may move away from either node's by `rho` (hard) or `kappa`
    (tight) per ns, and the nearer one holds. Beyond the ends theta goes on at the end's rate. Where the clock was
    set in between, either node's limits may hold.
    """

    x: Float64
    theta: Float64
    hard_low: Float64
    hard_up: Float64
    low: Float64
    """Tight limits less theta."""
    up: Float64
    kappa: Float64
    """From each node to the next; of the last: beyond it."""
    rho: float
    wander: float
    """1/ns, growth of kappa beyond the ends."""
    rates: tuple[float, float]
    """At the first and at the last node."""
    broken: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Between each node and the next the clock was set; of shape (0,) if it never was."""

    def at(self, x: Float64) -> Places:
        """theta, hard_low, hard_up, low, up at x."""
        n = self.x.size
        i = np.clip(np.searchsorted(self.x, x, side="right") - 1, 0, max(n - 2, 0))
        j = np.minimum(i + 1, n - 1)
        since, until = x - self.x[i], self.x[j] - x
        near, far = self.kappa[i] * since, self.kappa[i] * until
        theta = self.theta[i]
        places = (
            theta + since / np.maximum(since + until, 1e-3) * (self.theta[j] - theta),
            np.maximum(self.hard_low[i] - self.rho * since, self.hard_low[j] - self.rho * until),
            np.minimum(self.hard_up[i] + self.rho * since, self.hard_up[j] + self.rho * until),
            # The tight limits move along with theta.
            np.maximum(self.low[i] - near, self.low[j] - far),
            np.minimum(self.up[i] + near, self.up[j] + far),
        )
        for end, beyond in ((0, since < 0), (n - 1, until < 0)):
            if beyond.any():
                self._extend(end, x, beyond, places)
        places[3][:] += places[0]
        places[4][:] += places[0]
        if self.broken.size:
            self._either(i, since, until, places)
        return places

    def _extend(self, end: int, x: Float64, beyond: NDArray[np.bool_], places: Places) -> None:
        """Put in what holds beyond an end."""
        step = x[beyond] - self.x[end]
        away = np.abs(step)
        hard = self.rho * away
        tight = np.minimum((self.kappa[end] + self.wander * away / 2) * away, 2 * hard)
        places[0][beyond] = self.theta[end] + self.rates[0 if end == 0 else 1] * step
        places[1][beyond], places[2][beyond] = self.hard_low[end] - hard, self.hard_up[end] + hard
        places[3][beyond], places[4][beyond] = self.low[end] - tight, self.up[end] + tight

    def _either(self, i: NDArray[np.int64], since: Float64, until: Float64, places: Places) -> None:
        """Put in what holds where the clock was set between nodes i and i + 1."""
        at = np.flatnonzero(self.broken[i] & (since > 0) & (until > 0))
        i, left, right = i[at], self.rho * since[at], self.rho * until[at]
        j = i + 1
        places[1][at] = np.minimum(self.hard_low[i] - left, self.hard_low[j] - right)
        places[2][at] = np.maximum(self.hard_up[i] + left, self.hard_up[j] + right)
        low, up = self.theta + self.low, self.theta + self.up
        places[3][at] = np.minimum(low[i] - left, low[j] - right)
        places[4][at] = np.maximum(up[i] + left, up[j] + right)

    def before(self, x: float) -> Table:
        """The nodes up to x."""
        return self._part(slice(max(int(np.searchsorted(self.x, x, side="right")), 1)))

    def then(self, later: Table, *, broken: bool = False) -> Table:
        """Followed by nodes of a later table; `broken`: the clock was set in between."""
        here = self._part(slice(max(int(np.searchsorted(self.x, later.x[0])), 1)))
        joined = {name: np.concatenate([getattr(here, name), getattr(later, name)]) for name in _COLUMNS}
        if broken or here.broken.size or later.broken.size:
            joined["broken"] = np.concatenate(
                [one.broken if one.broken.size else np.zeros(one.x.size, np.bool_) for one in (here, later)]
            )
            joined["broken"][here.x.size - 1] |= broken
        return Table(**joined, rho=later.rho, wander=later.wander, rates=(self.rates[0], later.rates[1]))

    def thinned(self) -> Table:
        """Every second node of the older half left out; limits between them widen accordingly."""
        half = self.x.size // 2
        nodes = np.concatenate([np.arange(0, half, 2), np.arange(half, self.x.size)])
        part = self._part(nodes)
        broken = np.logical_or.reduceat(self.broken, nodes) if self.broken.size else self.broken
        return replace(part, kappa=np.maximum.reduceat(self.kappa, nodes), broken=broken)

    def _part(self, nodes: slice | NDArray[np.int64]) -> Table:
        columns = {name: getattr(self, name)[nodes] for name in _COLUMNS}
        return replace(self, **columns, broken=self.broken[nodes] if self.broken.size else self.broken)


_COLUMNS = ("x", "theta", "hard_low", "hard_up", "low", "up", "kappa")
