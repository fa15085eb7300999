"""One epoch of a clock that answers questions: limits from its exchanges, as they come or all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ClockError
from .model import Model, fit
from .table import Places, Table
from .tube import Carried
from .unwrap import Reading
from .windows import Limits

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

STEP = 256
"""Exchanges by which the live stretch moves on, ..."""
LIVE = 512
"""... and its length when it has: older ones are condensed into a table, and go on to count by what they still say."""
MEMORY = 1 << 16
"""Nodes kept of what was condensed; beyond it the older half loses every second one."""
SECOND = 1e9
"""One-way arrivals: the earliest of so many ns of device time is kept."""
STREAM = 4096
"""Of them at most so many while live; beyond, the older half loses every second one."""


class Span:
    """x is nominal device time since the epoch's first reading, ns; y lab time since its question, less x."""

    __slots__ = (
        "_calibrated", "_carried", "_columns", "_count", "_dirty", "_failure", "_half", "_model", "_old", "_open",
        "_rho", "_scale", "_stream", "_whole", "boot", "confused", "corrupted", "first", "last", "total",
    )  # fmt: skip

    def __init__(
        self,
        first: Reading,
        *,
        frequency: float,
        rho: float,
        delays: tuple[float, float],
        whole: bool = False,
        confused: bool = False,
    ) -> None:
        """`whole`: keep every exchange; `confused`: before the first reading came some that fitted nowhere."""
        self.confused = confused
        self.first = self.last = first
        self.boot = first.exchange.boot
        self._scale, self._rho, self._calibrated, self._whole = 1e9 / frequency, rho, delays, whole
        self._half = self._scale / 2 * (1 + rho)
        """ns: so far may an event be from the middle of its tick."""
        self._columns = np.zeros((6, 64))  # x and y lower, x and y upper, lab mid, count at sending
        self._count = self.total = 0
        self.corrupted = 0
        """Exchanges of this epoch that were left out before they came here."""
        self._stream: dict[int, tuple[float, float]] = {}
        self._open: int = -1
        self._carried: Carried | None = None
        self._old: Table | None = None
        self._model: Model | None = None
        self._failure = ""
        self._dirty = True

    # ------------------------------------------------------------------ what comes in

    def add(self, reading: Reading) -> None:
        """Take in an exchange that was found to be of this epoch."""
        if self._count == self._columns.shape[1]:
            self._columns = np.concatenate([self._columns, np.zeros_like(self._columns)], axis=1)
        e, half = reading.exchange, self._half
        x, z = reading.received * self._scale, reading.sent * self._scale
        begin = self.first.exchange.sent
        self._columns[:, self._count] = (
            x, e.sent - begin - x - half, z, e.received - begin - z + half,
            (e.sent + e.received) / 2 - begin, (reading.received + reading.sent) / 2,
        )  # fmt: skip
        self._count += 1
        self.total += 1
        self.last = reading
        self._dirty = True
        if not self._whole and self._count >= LIVE + STEP:
            self._condense()

    def add_many(self, sent: Int64, received: Int64, count_received: Int64, count_sent: Int64, last: Reading) -> None:
        """The same for many that follow one another, when the whole run is kept; `last` is the last of them."""
        n = self._count + sent.size
        if n > self._columns.shape[1]:
            self._columns = np.concatenate([self._columns, np.zeros((6, n))], axis=1)
        begin, half = self.first.exchange.sent, self._half
        x, z, a, b = count_received * self._scale, count_sent * self._scale, sent - begin, received - begin
        self._columns[:, self._count : n] = (
            x, a - x - half, z, b - z + half, (a + b) / 2, (count_received + count_sent) / 2
        )  # fmt: skip
        self._count, self.total, self.last, self._dirty = n, self.total + sent.size, last, True

    def forget_last(self) -> None:
        """The last one was corrupted, as the next one shows."""
        if self._count > 1:
            self._count -= 1
            self.total -= 1
            self._dirty = True

    def left_out(self, count: int) -> None:
        """So many exchanges more were corrupted beyond doubt."""
        self.corrupted += count
        self._dirty |= count > 0

    def add_one_way(self, counts: Int64, arrivals: Int64) -> None:
        """Take in counts (since the first reading) that arrived at lab time (ns)."""
        x = counts * self._scale
        y = (arrivals - self.first.exchange.sent) - x + self._half
        seconds = np.floor(x / SECOND).astype(np.int64)
        order = np.lexsort((y, seconds))
        firsts = order[np.flatnonzero(np.diff(seconds[order], prepend=seconds[order[:1]] - 1))]
        for i in firsts.tolist():
            second, kept = int(seconds[i]), self._stream.get(int(seconds[i]))
            if kept is None or y[i] < kept[1]:
                self._stream[second] = (float(x[i]), float(y[i]))
                self._dirty |= self._whole or second < self._open
        # A second counts when it is over, so that how blocks were cut changes nothing.
        if x.size and int(seconds.max()) > self._open:
            self._open, self._dirty = int(seconds.max()), True
        if len(self._stream) > STREAM and not self._whole:
            older = sorted(self._stream)[: STREAM // 2]
            for second in older[::2]:
                del self._stream[second]

    # ------------------------------------------------------------------ what is asked

    def near(self, arrivals: Int64) -> Float64:
        """What the device counted at lab times, nearly."""
        live = self.model().table
        tables = [live] if self._old is None else [self._old, live]
        x = np.concatenate([t.x for t in tables])
        lab = np.maximum.accumulate(np.concatenate([t.x + t.theta for t in tables]))
        came = np.asarray(arrivals - self.first.exchange.sent, np.float64)
        beyond = np.minimum(came - lab[0], 0.0) + np.maximum(came - lab[-1], 0.0)
        return np.asarray((np.interp(came, lab, x) + beyond) / self._scale)

    def near_streamed(self, arrivals: Int64) -> Float64:
        """The same by the nearest exchange alone, without an estimate."""
        mid, count = self._columns[4, : self._count], self._columns[5, : self._count]
        came = np.asarray(arrivals - self.first.exchange.sent, np.float64)
        i = np.clip(np.searchsorted(mid, came, side="right") - 1, 0, self._count - 1)
        return np.asarray(count[i] + (came - mid[i]) / self._scale)

    def at(self, x: Float64) -> Places:
        """theta and its limits, see `Table.at`."""
        live = self.model().table
        if self._old is None or not x.size or float(x.min()) >= live.x[0]:
            return live.at(x)
        now, then = live.at(x), self._old.at(x)
        after = x >= live.x[0]
        return tuple(np.where(after, a, b) for a, b in zip(now, then, strict=True))  # type: ignore[return-value]

    def model(self) -> Model:
        """Of the live stretch; made anew when something came in. Raises `ClockError` where that failed."""
        if self._dirty:
            earlier, self._model, self._dirty = self._model, None, False
            try:
                self._model = self._fit(earlier)
            except Exception as error:  # a mistake in there must not end an experiment; the next exchange may help
                self._failure = f"{type(error).__name__}: {error}"
        if self._model is None:
            raise ClockError(f"its exchanges could not be worked out ({self._failure})")
        return self._model

    def residual(self) -> float:
        """Median distance of the last exchanges' middles from the estimate, ns."""
        part = slice(max(self._count - 64, 0), self._count)
        x, lower, z, upper, *_ = self._columns[:, part]
        middle = self.at((x + z) / 2)[0]
        return float(np.median(np.abs((lower + upper) / 2 - middle)))

    # ------------------------------------------------------------------ private

    def _limits(self) -> Limits:
        x, lower, z, upper, *_ = self._columns[:, : self._count]
        order = np.argsort(x, kind="stable")
        # Both limits are half a tick wide of the stamps, and the device's own time is in x and z.
        trip = upper - lower - 2 * self._half
        return Limits(x[order], lower[order], z[order], upper[order], trip[order], self._scale)

    def _fit(self, earlier: Model | None) -> Model:
        closed = sorted(point for second, point in self._stream.items() if self._whole or second < self._open)
        x, y = np.array(closed, np.float64).reshape(-1, 2).T
        return fit(
            self._limits(), (x, y), self._rho, corrupted=self.corrupted, delays=self._calibrated,
            carried=self._carried, earlier=earlier,
        )  # fmt: skip

    def _condense(self) -> None:
        """Forget the oldest exchanges of the live stretch but for what they still say."""
        try:
            kept, cut = self._put_by()
        except Exception:  # whatever was wrong, without them it may be well again
            kept = self._columns[:, STEP : self._count]
            cut, self._old, self._carried = float(kept[0].min()), None, None
        self._columns = np.concatenate([kept, np.zeros((6, 2 * STEP))], axis=1)
        self._count = kept.shape[1]
        self._stream = {k: point for k, point in self._stream.items() if point[0] >= cut}
        self._dirty = True

    def _put_by(self) -> tuple[Float64, float]:
        """What the oldest say of their own time goes into the table, and what of later is carried on; the columns of
        the others, and the x from which on they count."""
        model = self.model()
        kept = self._columns[:, STEP : self._count]
        cut = float(kept[0].min())
        for one in model.sets:
            if one.since < cut < one.until:  # either side of the step fits these
                kept = kept[:, kept[0] >= one.until]
                cut = one.until
        self._carried = model.carried(cut)
        part = model.table.before(cut)
        self._old = part if self._old is None else self._old.then(part)
        if self._old.x.size > MEMORY:
            self._old = self._old.thinned()
        return kept, cut
