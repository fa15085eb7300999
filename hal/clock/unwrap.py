"""Which turn of its counter a reading belongs to, and whether it belongs to the present epoch at all.

Two readings of one epoch, n ticks apart, were made in lab time between the question and the answer of either.
With the datasheet's limit rho on the rate, n = difference + k 2^bits must therefore lie within

    f (1 - rho) (sent - received of the earlier)  ...  f (1 + rho) (received - sent of the earlier)

for one whole k. No k: the counter was reset, or a bit flipped, or the answer was another question's. More than
one: it was silent for too long for its number of bits, and nothing tells how often it went round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .exchange import Exchange, Exchanges

Int64 = NDArray[np.int64]

ROUNDING = 2.0
"""Ticks that two readings may differ by more than their times do."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An exchange whose ticks are counted from its epoch's first, roll-overs included."""

    exchange: Exchange
    received: int
    """Count at the question's reception, ..."""
    sent: int
    """... and at the answer's sending."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of so many bits: differences of its raw readings."""

    frequency: float
    rho: float
    bits: int

    @property
    def turn(self) -> float:
        """ns in which it goes round once."""
        return 2.0**self.bits * 1e9 / self.frequency

    def ahead(self, ticks: int, of: int) -> int:
        """Ticks from `of` on to `ticks`, 0 to 2^bits - 1."""
        return (ticks - of) & ((1 << self.bits) - 1)

    def nearest(self, ticks: Int64, of: Int64 | int) -> Int64:
        """Ticks from `of` to `ticks`, -2^(bits-1) to 2^(bits-1) - 1."""
        shift = 64 - self.bits
        with np.errstate(over="ignore"):
            return np.asarray((np.asarray(ticks - np.int64(of), np.int64) << shift) >> shift)

    def duration(self, exchange: Exchange) -> int | None:
        """Ticks that the device took to answer, None if it can't have been so long."""
        took = self.ahead(exchange.ticks_sent, exchange.ticks_received)
        most = (exchange.received - exchange.sent) * 1e-9 * self.frequency * (1 + self.rho) + ROUNDING
        return took if took <= most and exchange.received >= exchange.sent else None

    def first(self, exchange: Exchange) -> Reading | None:
        """The reading that begins an epoch; None if it contradicts itself."""
        took = self.duration(exchange)
        return None if took is None else Reading(exchange, 0, took)

    def follow(self, before: Reading, exchange: Exchange) -> Reading | None:
        """The exchange as a reading of the same epoch as `before`; None if it can't be, or nobody can tell."""
        took = self.duration(exchange)
        if took is None:
            return None
        least = (exchange.sent - before.exchange.received) * 1e-9 * self.frequency
        most = (exchange.received - before.exchange.sent) * 1e-9 * self.frequency * (1 + self.rho) + ROUNDING
        least = least * (1 - self.rho if least > 0 else 1 + self.rho) - ROUNDING
        turn = 1 << self.bits
        count = self.ahead(exchange.ticks_received, before.exchange.ticks_sent)
        count += turn * -int((count - least) // turn)
        if not least <= count <= most or count + turn <= most:
            return None
        received = before.sent + count
        return Reading(exchange, received, received + took)

    def steps(self, e: Exchanges) -> tuple[NDArray[np.bool_], Int64, Int64]:
        """`follow` for neighbours: whether each of n - 1 follows its predecessor, ticks from the predecessor's
        sending, and (n) ticks that each took to answer. May say no where `follow` says yes, never the other way."""
        f, rho, most = self.frequency * 1e-9, self.rho, 2.0 ** min(self.bits - 1, 62)
        took = self.nearest(e.ticks_sent, e.ticks_received)
        step = self.nearest(e.ticks_received[1:], e.ticks_sent[:-1])
        least = (e.sent[1:] - e.received[:-1]) * f
        longest = (e.received[1:] - e.sent[:-1]) * (f * (1 + rho)) + ROUNDING
        fine = (took >= 0) & (took <= (e.received - e.sent) * (f * (1 + rho)) + ROUNDING)
        follows = (step >= least * np.where(least > 0, 1 - rho, 1 + rho) - ROUNDING) & (step <= longest)
        # Within half a turn there is one answer only.
        follows &= (e.sent[1:] != e.sent[:-1]) | (e.received[1:] != e.received[:-1])
        follows &= (longest < most) & (least > -most) & fine[1:] & fine[:-1] & (e.boot[1:] == e.boot[:-1])
        return follows, step, took


class Linker:
    """Sorts exchanges into epochs, in order of reception.

    Another boot number begins an epoch at once. Else a reading that does not follow waits; three
    that follow one another begin an epoch, a lone one was corrupted and is forgotten. One that would follow
    if it answered the question before it does just that: its own answer is still to come.
    """

    __slots__ = ("_counter", "_last", "_pending", "behind", "confused", "rejected", "unsure_since")

    ENOUGH = 3
    TRIPS = 4
    """A question is on its way no longer than so many of the longest round trips known."""
    APART = 8
    """Questions are told apart by a clock whose time is known to this fraction of what lies between them."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last: list[Reading] = []  # of the present epoch, newest last; at most three
        self._pending: list[Reading] = []
        self.rejected = 0
        """Exchanges that belong nowhere."""
        self.behind = False
        """The last answer belonged to the question before it."""
        self.confused = False
        """Since the present epoch's last reading there was one that followed neither it nor what came then."""
        self.unsure_since = 0
        """Lab time, ns, of the first question since then whose answer did not follow; while readings wait."""

    @property
    def waiting(self) -> int:
        """Readings that may be an epoch's first."""
        return len(self._pending)

    def follows(self, exchange: Exchange) -> bool:
        """The present epoch's last reading is this exchange's, and none waits."""
        return bool(self._last) and not self._pending and self._last[-1].exchange is exchange

    def resume(self, last: list[Reading]) -> None:
        """Readings of the present epoch were taken in elsewhere; these three are the last."""
        self._last, self.behind, self.confused = last[-self.ENOUGH :], False, False

    def add(self, exchange: Exchange) -> tuple[bool, list[Reading], bool]:
        """(an epoch begins, readings to take in, the last one taken in is to be forgotten first)."""
        newest = (self._pending or self._last)[-1:]
        if newest and exchange == newest[0].exchange:
            self.rejected += 1  # given twice
            return False, [], False
        if not self._last or exchange.boot != self._last[-1].exchange.boot:
            first = self._counter.first(exchange)
            if first is None:
                self.rejected += 1
                return False, [], False
            self._last, self._pending, self.behind, self.confused = [first], [], False, False
            return True, [first], False
        for back, before in enumerate(reversed(self._last)):
            reading = self._counter.follow(before, exchange)
            if reading is None:
                continue
            # It follows an earlier one but not the last: then that one was corrupted, and just so little that it
            # had passed.
            if back > 1:
                break
            self.rejected += len(self._pending) + back
            if back:
                self._last.pop()
            self._last, self._pending = [*self._last[-2:], reading], []
            self.behind = self.confused = False
            return False, [reading], bool(back)
        return self._wait(exchange)

    def _wait(self, exchange: Exchange) -> tuple[bool, list[Reading], bool]:
        if not self._pending:
            self.unsure_since = exchange.sent
        self.behind = bool(self._pending) and self._answers_before(self._pending[-1].exchange, exchange)
        reading = None
        if self._pending and not self.behind:
            reading = self._counter.follow(self._pending[-1], exchange)
        if reading is None:
            self.rejected += len(self._pending)
            self.confused |= bool(self._pending)
            first = self._counter.first(exchange)
            self.rejected += first is None
            self._pending = [] if first is None else [first]
            return False, [], False
        self._pending.append(reading)
        if len(self._pending) < self.ENOUGH:
            return False, [], False
        self._last, self._pending = self._pending, []
        return True, self._last, False

    def _answers_before(self, before: Exchange, exchange: Exchange) -> bool:
        """By the epoch's count this answer was made just after the question before was sent, not after its own."""
        between, silent = exchange.sent - before.sent, exchange.received - self._last[-1].exchange.received
        trips = [e.received - e.sent for e in (before, exchange, *(reading.exchange for reading in self._last))]
        way = self.TRIPS * max(trips)
        if self.APART * (way + 2 * self._counter.rho * silent) > between:
            return False
        moved = replace(exchange, sent=before.sent, received=before.sent + way)
        return self._counter.follow(self._last[-1], moved) is not None
