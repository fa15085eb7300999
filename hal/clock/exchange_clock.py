"""A clock that answers questions about its time: a microcontroller's, a detector's, an instrument's.

Every exchange says that the tick of reception fell after the question was sent, and that of sending before the answer
was here. `span.py` and `tube.py` make of many such limits an estimate and two bounds; this is the clock around them:
epochs, roll-overs, and what to answer if nothing is known. Derivations: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ..errors import ClockError
from .exchange import Exchange, Exchanges
from .health import ClockHealth
from .lab_times import LabTimes
from .span import Span
from .unwrap import Counter, Linker, Reading

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

LATE = 10.0
"""s: nothing arrives later after its tick; a larger difference means another epoch or a corrupted tick."""
EARLY = 1e6
"""ns by which a tick may lie after its arrival beyond the bound: an arrival is often stamped a little early."""
BEFORE = 0.9
"""Turns of the counter by which a tick may be older than its arrival; the rest is for errors of the estimate."""
SPANS = 256
"""Epochs kept; the oldest are forgotten."""
RUN = 8
"""Exchanges in a row that are worth taking in at once."""
MOST = 4e18
"""ns, bounds beyond which are not told apart."""
PIECE = 1 << 15
"""Ticks mapped at a time, so that they stay in the processor's cache."""


class ExchangeClock:
    """Two-way clock model, online (`add`) and offline (`fit`) alike; ticks become lab time with `to_lab`.

    frequency    ticks per second, nominal
    ppm          the datasheet's limit on the rate error; the hard bound rests on it
    bits         of the counter, 16 to 64; ticks are taken modulo 2^bits
    delay_out    s, calibrated smallest delay from the host's stamp to the device's; 0 if it was not measured
    delay_back   s, the same from the device's stamp to the host's
    delay_sigma  s, standard uncertainty of half their difference

    Without calibration the estimate lies midway between what the quickest messages of either way allow: how unequal
    the two ways are can't be seen, and both bounds include it. No exchange, no lab time: ticks are then invalid.
    The result does not depend on how exchanges were cut into calls nor on when it was asked for.
    """

    def __init__(
        self,
        *,
        frequency: float,
        ppm: float,
        bits: int = 64,
        name: str = "clock",
        delay_out: float = 0.0,
        delay_back: float = 0.0,
        delay_sigma: float = 0.0,
    ) -> None:
        """Raises `ClockError` for a declaration that can't be."""
        if not (0 < frequency < np.inf and 0 < ppm <= 1e5 and 16 <= bits <= 64):
            raise ClockError(
                f"{name}: frequency {frequency} Hz, {ppm} ppm, {bits} bits; declare a frequency above 0, at most "
                "100,000 ppm and 16 to 64 bits"
            )
        if not (0 <= delay_out < np.inf and 0 <= delay_back < np.inf and 0 <= delay_sigma < np.inf):
            raise ClockError(f"{name}: a delay or its uncertainty is negative or not finite; calibrate it again")
        self.frequency, self.ppm, self.bits, self.name = frequency, ppm, bits, name
        self.delay_out, self.delay_back, self.delay_sigma = delay_out, delay_back, delay_sigma
        self._counter = Counter(frequency, ppm * 1e-6, bits)
        # A clock that counts a second too slowly by ppm has ticks too long by a little more.
        self._steepest = ppm * 1e-6 / (1.0 - ppm * 1e-6)
        self._linker = Linker(self._counter)
        self._spans: list[Span] = []
        self._forgotten = 0
        self._whole = False
        self._trouble = ""
        """The last mistake, in words."""

    @classmethod
    def fit(
        cls,
        exchanges: Sequence[Exchange] | Exchanges,
        *,
        frequency: float,
        ppm: float,
        bits: int = 64,
        name: str = "clock",
        delay_out: float = 0.0,
        delay_back: float = 0.0,
        delay_sigma: float = 0.0,
    ) -> ExchangeClock:
        """The clock of a whole run: every tick is mapped by what came before it and after it.

        `add` and `add_one_way` may follow; all is kept, so memory grows with it.
        """
        clock = cls(
            frequency=frequency, ppm=ppm, bits=bits, name=name,
            delay_out=delay_out, delay_back=delay_back, delay_sigma=delay_sigma,
        )  # fmt: skip
        clock._whole = True
        columns = Exchanges.of(exchanges)
        with clock._guarded():
            clock._add_many(columns[np.argsort(columns.received, kind="stable")])
        return clock

    # ------------------------------------------------------------------ what comes in

    def add(self, exchange: Exchange) -> None:
        """Take in an exchange, in order of reception. Never raises for what is in it: a corrupted one is left out."""
        with self._guarded():
            self._add(exchange)

    def _add(self, exchange: Exchange) -> None:
        before = self._linker.rejected
        begins, readings, forget = self._linker.add(exchange)
        if self._spans:
            self._spans[-1].left_out(self._linker.rejected - before)
        if begins:
            self._spans.append(
                Span(
                    readings[0],
                    frequency=self.frequency,
                    rho=self._steepest,
                    delays=(self.delay_out * 1e9, self.delay_back * 1e9),
                    whole=self._whole,
                    confused=self._linker.confused,
                )
            )
            if len(self._spans) > SPANS:
                del self._spans[0]
                self._forgotten += 1
        if forget:
            self._spans[-1].forget_last()
        for reading in readings:
            self._spans[-1].add(reading)

    def add_one_way(self, ticks: Int64, arrivals: Int64, boot: int | None = None) -> None:
        """Take in ticks (int64, shape (n,)) and when they arrived (lab time, ns): nothing arrives before its tick.

        They sharpen what exchanges tell; those that come before an epoch's first exchange tell nothing. Online they
        are given in order of arrival, and before exchanges that were received later.
        """
        c, a = self._pairs(ticks, arrivals)
        for number, span in enumerate(self._spans):
            if boot is not None and span.boot != boot:
                continue
            here = a >= span.first.exchange.sent
            if number + 1 < len(self._spans):
                here &= a < self._spans[number + 1].first.exchange.sent
            if here.any():
                with self._guarded():
                    span.add_one_way(self._counts(span, c[here], span.near_streamed(a[here])), a[here])

    # ------------------------------------------------------------------ what is asked

    def to_lab(self, ticks: Int64, arrivals: Int64 | None = None, boot: int | None = None) -> LabTimes:
        """Lab time of raw ticks (int64, shape (n,)).

        With their arrivals (lab time, ns) each tick is mapped by the epoch it can belong to, and in the latest turn
        of the counter before its arrival; one that can't have arrived when it did is invalid. Without, by the newest
        epoch and in the turn next to its newest exchange. `boot`: only epochs of that boot are thought of. While the
        last exchange fits no epoch, what came with it or after it is invalid.
        """
        spans = [(k, s) for k, s in enumerate(self._spans) if boot is None or s.boot == boot]
        if arrivals is None:
            c = np.asarray(ticks, np.int64)
            answer = _Answer(c.size)
            for k, span in spans[-1:]:
                near = np.full(c.size, float(span.last.sent))
                counts = self._counts(span, c, near, before=0.5)
                known = np.flatnonzero(counts <= span.last.sent) if self._linker.waiting else np.arange(c.size)
                with self._guarded():
                    self._map(answer, known, k, counts[known])
            return answer.times()
        c, a = self._pairs(ticks, arrivals)
        answer, late = _Answer(c.size), np.full(c.size, np.inf)
        for k, span in spans:
            with self._guarded():
                self._claim(answer, late, k, span, c, a)
        return answer.times()

    @property
    def running(self) -> bool:
        """An exchange was made, so that ticks have a lab time."""
        return bool(self._spans)

    @property
    def rejected(self) -> int:
        """Exchanges left out, because their ticks contradict the others or themselves."""
        return self._linker.rejected

    def health(self, now: int) -> ClockHealth:
        """The clock's state at lab time `now` (ns). Never raises."""
        with self._guarded():
            if self._spans:
                return self._health(now)
        reason = self._trouble or f"{self.name}: no exchange yet, so its ticks have no lab time; is it connected?"
        return ClockHealth(False, reason, np.inf, 0, 0.0, 0, np.inf, np.inf, -1, 0)

    # ------------------------------------------------------------------ private

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever goes wrong with a clock's time, those who sample, record and guard must go on: it is told."""
        try:
            yield
        except Exception as error:
            why = str(error) if isinstance(error, ClockError) else f"{type(error).__name__}: {error}"
            self._trouble = (
                f"{self.name}: ticks got no lab time, for {why}; please report this. What is recorded keeps its raw "
                "ticks and exchanges, to be aligned again"
            )

    def _health(self, now: int) -> ClockHealth:
        span = self._spans[-1]
        count = np.rint(span.near(np.array([now], np.int64))).astype(np.int64)
        answer = _Answer(1)
        self._map(answer, np.zeros(1, np.int64), len(self._spans) - 1, count)
        raw = self._counter.ahead(span.first.exchange.ticks_received, 0)
        model, why_not, note = span.model(), "", ""
        if self._linker.behind:
            why_not = (
                f"{self.name}: its answers belong to the question before, each comes one too late; connect it anew"
            )
        elif self._linker.waiting:
            why_not = (
                f"{self.name}: its last answers don't follow the earlier ones; it seems to have started anew, wait"
            )
        elif model.widened > 1:
            why_not = (
                f"{self.name}: its time moves by more than the {self.ppm:g} ppm it is declared with, so the bound does "
                "not hold; correct the ppm, or see who sets its clock"
            )
        elif model.sets:
            ago = int(count[0]) * 1e9 / self.frequency - model.sets[-1].until
            by = -model.sets[-1].by * 1e-6
            note = f"{self.name}: its time jumped by {by:+.3g} ms {ago * 1e-9:.0f} s ago; see who sets its clock"
        elif len(self._spans) > 1 and self._spans[-2].boot == span.boot:
            ago = now - span.first.exchange.received
            note = f"{self.name}: its time jumped {ago * 1e-9:.0f} s ago; it was set, or started anew without saying so"
        return ClockHealth(
            usable=not why_not,
            reason=why_not or note or self._trouble,
            age=(now - span.last.exchange.received) * 1e-9,
            offset=int(answer.time[0]) - round((raw + int(count[0])) * 1e9 / self.frequency),
            rate_ppm=model.table.rates[1] * 1e6,
            bound=int(answer.bound[0]),
            sigma=float(answer.sigma[0]),
            residual=span.residual(),
            epoch=self._forgotten + len(self._spans) - 1,
            exchanges=span.total,
        )

    def _add_many(self, e: Exchanges) -> None:
        """`add` for each; runs that follow without a break go in at once."""
        follows, step, took = self._counter.steps(e)
        breaks = np.append(np.flatnonzero(~follows), len(e) - 1)
        i = 0
        while i < len(e):
            exchange = e.one(i)
            self.add(exchange)
            end = int(breaks[np.searchsorted(breaks, i)])  # the last one of the run
            if end - i < RUN or not self._linker.follows(exchange):
                i += 1
                continue
            span = self._spans[-1]
            ahead = span.last.sent + np.cumsum(step[i:end] + took[i:end]) - took[i]
            sent = ahead + took[i + 1 : end + 1]
            newest = [Reading(e.one(i + 1 + k), int(ahead[k]), int(sent[k])) for k in range(end - i - 3, end - i)]
            part = slice(i + 1, end + 1)
            span.add_many(e.sent[part], e.received[part], ahead, sent, newest[-1])
            self._linker.resume(newest)
            i = end + 1

    def _pairs(self, ticks: Int64, arrivals: Int64) -> tuple[Int64, Int64]:
        c, a = np.asarray(ticks, np.int64), np.asarray(arrivals, np.int64)
        if c.ndim != 1 or a.shape not in (c.shape, ()):
            raise ClockError(f"{self.name}: {c.size} ticks came with {a.size} arrivals; give one arrival per tick")
        return c, np.broadcast_to(a, c.shape)

    def _counts(self, span: Span, ticks: Int64, near: Float64, before: float = BEFORE) -> Int64:
        """Counts since the epoch's first reading, of all turns the latest not beyond `near` + (1 - before) turns."""
        first = span.first.exchange.ticks_received
        ahead = self._counter.nearest(ticks, first)
        if self.bits > 62:
            return ahead
        turn = 1 << self.bits
        turns = np.floor((near - ahead) / turn + (1.0 - before))
        return np.asarray(ahead + turns.astype(np.int64) * turn)

    def _life(self, k: int) -> tuple[float, float]:
        """Lab times between which ticks may belong to the k-th epoch."""
        begin = float(self._spans[k - 1].last.exchange.sent) if k else -np.inf
        end = float(self._spans[k + 1].first.exchange.received) if k + 1 < len(self._spans) else np.inf
        return begin, end

    def _claim(self, answer: _Answer, late: Float64, k: int, span: Span, c: Int64, a: Int64) -> None:
        """Put in the ticks c, arrived at a, that the k-th epoch tells best so far; `late`, by how much they arrived
        after it."""
        begin, end = self._life(k)
        near = (a >= begin) & (a <= end + LATE * 1e9)
        if self._linker.waiting and k + 1 == len(self._spans):
            near &= a < self._linker.unsure_since
        here = np.flatnonzero(near)
        if not here.size:
            return
        one = _Answer(here.size)
        self._map(one, np.arange(here.size), k, self._counts(span, c[here], span.near(a[here])))
        after = (a[here] - one.time).astype(np.float64)
        # Wider than that, and nobody knows which turn of the counter it was.
        good = one.bound <= (1.0 - BEFORE) * self._counter.turn
        good &= (after >= -one.bound - EARLY) & (after <= LATE * 1e9 + one.bound)
        good &= (one.time >= begin - one.bound) & (one.time <= end + one.bound)
        for last, first in self._confusion(k):
            good &= (a[here] <= last) | (a[here] >= first) | (one.time <= last)
        either = good & (answer.epoch[here] >= 0) & (a[here] < span.first.exchange.received)
        if either.any():
            one.either(answer, here, either)
        good &= np.abs(after) < late[here]
        late[here[good]] = np.abs(after[good])
        answer.take(one, here, good)

    def _confusion(self, k: int) -> list[tuple[int, int]]:
        """Lab times before and after the k-th epoch between which the counter did what nobody could follow."""
        pairs = [self._spans[max(i, 0) : i + 2] for i in (k - 1, k)]
        return [
            (pair[0].last.exchange.received, pair[1].first.exchange.sent)
            for pair in pairs
            if len(pair) == 2 and pair[1].confused
        ]

    def _map(self, answer: _Answer, at: Int64, k: int, counts: Int64) -> None:
        span, scale = self._spans[k], 1e9 / self.frequency
        for i in range(0, at.size, PIECE):
            c, where = counts[i : i + PIECE], at[i : i + PIECE]
            x = np.asarray(c * scale, np.float64)
            theta, hard_low, hard_up, low, up = span.at(x)
            whole = np.rint(x)
            rest = np.rint(theta + (x - whole))
            answer.time[where] = span.first.exchange.sent + whole.astype(np.int64) + rest.astype(np.int64)
            # The event fell anywhere within its tick; and the estimate was rounded.
            wide = scale / 2 * (1 + self._steepest) + 1.0
            hard = np.minimum(np.maximum(np.maximum(hard_up - theta, theta - hard_low), 0.0) + wide, MOST)
            tight = np.maximum(np.maximum(up - theta, theta - low), 0.0) + wide
            answer.bound[where] = np.ceil(hard)
            answer.tight[where] = np.ceil(np.minimum(tight + 3e9 * self.delay_sigma, hard))
            # Anywhere in the band alike: a rectangular distribution.
            answer.sigma[where] = np.hypot(tight / np.sqrt(3.0), 1e9 * self.delay_sigma)
            answer.epoch[where] = self._forgotten + k


class _Answer:
    """LabTimes being made: all invalid at first."""

    def __init__(self, n: int) -> None:
        self.time, self.bound, self.tight = (np.zeros(n, np.int64) for _ in range(3))
        self.sigma, self.epoch = np.full(n, np.inf), np.full(n, -1, np.int32)

    def take(self, other: _Answer, at: Int64, good: NDArray[np.bool_]) -> None:
        for mine, theirs in zip(self._columns(), other._columns(), strict=True):
            mine[at[good]] = theirs[good]

    def either(self, other: _Answer, at: Int64, where: NDArray[np.bool_]) -> None:
        """Nobody knows which of the two it is: both cover both."""
        here, there = np.flatnonzero(where), at[where]
        apart = np.abs(self.time[here] - other.time[there])
        for mine, theirs in ((self.bound, other.bound), (self.tight, other.tight)):
            mine[here] = theirs[there] = apart + np.maximum(mine[here], theirs[there])
        sigma = np.hypot(np.maximum(self.sigma[here], other.sigma[there]), apart / np.sqrt(3.0))
        self.sigma[here] = other.sigma[there] = sigma

    def times(self) -> LabTimes:
        return LabTimes(self.time, self.bound, self.tight, self.sigma, self.epoch >= 0, self.epoch)

    def _columns(self) -> tuple[NDArray[np.generic], ...]:
        return self.time, self.bound, self.tight, self.sigma, self.epoch
