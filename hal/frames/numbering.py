"""Which exposure each received frame is, from the detector's own counter; drops leave holes, never shifts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hal.frames.frame import Codes, Int64, Mask, Reason

Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Numbered:
    """Indices of n frames in order of reception, arrays of shape (n,).

    index counts exposures from 0 within its series; a series begins at each restart of the counter.
    Where valid is False the index is -1, except for a duplicate, which has that of its original.
    """

    series: Int32
    index: Int64
    valid: Mask
    reason: Codes

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int]]) -> Numbered:
        """From (series, index, reason) per frame."""
        table = np.array(rows, np.int64).reshape(-1, 3)
        reason = table[:, 2].astype(np.uint8)
        return cls(table[:, 0].astype(np.int32), table[:, 1].copy(), reason == Reason.OK, reason)

    @classmethod
    def concatenate(cls, parts: Sequence[Numbered]) -> Numbered:
        """All parts in order."""
        if not parts:
            return cls.of([])
        return cls(*(np.concatenate([getattr(p, f) for p in parts]) for f in cls.__slots__))

    def __len__(self) -> int:
        return int(self.index.size)


@dataclass(slots=True)
class _Last:
    """The frame that the next one is compared with."""

    number: int  # as the detector sent it
    tick: int
    index: int
    again: bool = False  # the very frame before it once more


_Verdict = Literal["next", "duplicate", "late", "odd"]
_RECENT = 1024  # frames remembered, to tell a late one from a repeated one
_AGREE = 3  # frames in a row that make a restart believable


class Numbering:
    """Assigns indices online; what a chunk can't settle yet is returned with a later one.

    first     the counter's value for the first exposure of a series
    modulus   the counter rolls over after modulus - 1; None: it never does
    period    ticks between exposures if the train is regular, true to 100 ppm, else None. With it,
              a number that contradicts the time is found out, and repaired from the time.
    armed     the first series is received from its beginning, so leading holes are dropped frames
    jump      largest believable number of frames dropped in a row when no period is known

    At most two frames are held back, and only after a number that doesn't fit (without period: after
    any hole); `flush` settles them at the end of an acquisition. `restart` announces a counter
    reset that the driver caused itself.
    """

    def __init__(
        self,
        *,
        first: int = 0,
        modulus: int | None = None,
        period: float | None = None,
        armed: bool = True,
        jump: int = 1_000_000,
    ) -> None:
        if (modulus is not None and modulus < 4) or (period is not None and period <= 0) or jump < 1:
            raise ValueError("numbering: modulus must be at least 4, period and jump positive; check the driver")
        self.first, self.modulus, self.period, self.jump = first, modulus, period, jump
        self.duplicates = 0
        self.series = -1
        self._armed = armed
        self._last: _Last | None = None
        self._recent: OrderedDict[int, int] = OrderedDict()
        self._lost_before = 0  # in series that are over
        self._unique = 0  # accepted in the present series
        self._from = 0  # index the present series' account begins at
        self._highest = -1
        self._rows: list[tuple[int, int, int] | None] = []  # None: pending
        self._chain: list[tuple[int, _Last]] = []  # pending: position in _rows, frame
        self._fresh = False
        self._timed = False

    @property
    def dropped(self) -> int:
        """Exposures that never arrived, up to the last one received."""
        return self._lost_before + max(self._highest + 1 - self._from - self._unique, 0)

    @property
    def pending(self) -> int:
        """Frames held back."""
        return len(self._rows)

    def add(self, numbers: Int64, ticks: Int64 | None = None) -> Numbered:
        """Take in the numbers (int64, shape (n,)) of frames in order of reception, with their detector ticks.

        Returns all frames settled by now, in order of reception, those of earlier calls first. Ticks
        must be given always or never.
        """
        number = np.asarray(numbers, np.int64)
        tick = np.zeros(number.shape, np.int64) if ticks is None else np.asarray(ticks, np.int64)
        if number.shape != tick.shape or number.ndim != 1:
            raise ValueError(f"numbering: {number.size} numbers came with {tick.size} ticks; give one tick per number")
        timed = self._timed = ticks is not None
        done: list[Numbered] = []
        at = 0
        while at < number.size:
            if self._last is None or self._rows or self._fresh:
                self._one(int(number[at]), int(tick[at]), timed)
                at += 1
                if not self._chain:
                    done.append(self._emit())
                continue
            run = self._run(number[at:], tick[at:], timed)
            if run:
                done.append(self._accept_run(number[at : at + run], tick[at : at + run]))
                at += run
            else:
                self._one(int(number[at]), int(tick[at]), timed)
                at += 1
                if not self._chain:
                    done.append(self._emit())
        done.append(self._emit())
        return Numbered.concatenate(done)

    def flush(self) -> Numbered:
        """Settle what is held back, as no further frame will come: a restart from `first` is believed."""
        if self._chain:
            ahead = 0 if self.period is not None else self._forward(self._timed)
            if ahead:
                self._adopt_chain(self._last_index + ahead)
            elif self._on_time():
                self._adopt_chain(self._last_index + self._on_time())
            elif self._chain[0][1].number == self.first or self._last is None:
                self._new_series()
        for where, _ in self._chain:
            self._rows[where] = (self.series, -1, Reason.BAD_NUMBER)
        self._chain = []
        return self._emit()

    def restart(self) -> None:
        """The driver re-armed the detector: the next frame begins a series."""
        self._fresh = True

    # -------------------------------------------------------------------------------- private

    def _ahead(self, number: int, last: int) -> int:
        """How many frames number is ahead of last (negative: behind), the short way around the roll-over."""
        ahead = number - last
        if self.modulus is not None:
            ahead = (ahead + self.modulus // 2) % self.modulus - self.modulus // 2
        return ahead

    def _run(self, number: Int64, tick: Int64, timed: bool) -> int:
        """How many frames from here on simply follow one another."""
        assert self._last is not None
        ahead = np.diff(number, prepend=self._last.number)
        if self.modulus is not None:
            ahead = (ahead + self.modulus // 2) % self.modulus - self.modulus // 2
        checked = timed and self.period is not None
        good: Mask = np.asarray((ahead >= 1) & (ahead <= (self.jump if checked else 1)))
        if timed:
            passed = np.diff(tick, prepend=self._last.tick)
            good &= passed > 0
            if self.period is not None:
                good &= np.abs(passed - ahead * self.period) <= _slack(self.period, ahead)
        return int(number.size if good.all() else np.argmin(good))

    def _accept_run(self, number: Int64, tick: Int64) -> Numbered:
        assert self._last is not None
        ahead = np.diff(number, prepend=self._last.number)
        if self.modulus is not None:
            ahead = (ahead + self.modulus // 2) % self.modulus - self.modulus // 2
        index = self._last.index + np.cumsum(ahead)
        for i, t in zip(index[-_RECENT:].tolist(), tick[-_RECENT:].tolist(), strict=True):
            self._recent[i] = t
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        self._unique += index.size
        self._last = _Last(int(number[-1]), int(tick[-1]), int(index[-1]))
        self._highest = self._last.index
        n = index.size
        return Numbered(np.full(n, self.series, np.int32), index, np.ones(n, np.bool_), np.full(n, Reason.OK, np.uint8))

    def _one(self, number: int, tick: int, timed: bool) -> None:
        here = _Last(number, tick, -1)
        if self._last is None or self._fresh:
            self._begin(here, timed)
            return
        if self._chain and self._repeats(here, timed):
            return
        verdict = self._judge(self._last, here, timed)
        if self._chain and verdict == "next" and self._starts_over(timed):
            # A short series that starts over counts through the old one's next number: the chain goes on.
            tail = self._chain[-1][1]
            nearer = self._ahead(number, tail.number) <= self._ahead(number, self._last.number)
            verdict = "odd" if nearer and self._judge(tail, here, timed) == "next" else verdict
        if verdict == "next":
            here.index = self._last.index + self._ahead(number, self._last.number)
            self._settle_chain(here, timed)
            self._rows.append(self._accept(here))
            self._last = here
        elif verdict == "duplicate" and not self._chain:
            self.duplicates += 1
            index = self._last.index + self._ahead(number, self._last.number)
            self._rows.append((self.series, index, Reason.DUPLICATE))
        elif verdict == "late":
            here.index = self._last.index + self._ahead(number, self._last.number)
            self._rows.append(self._accept(here))
        else:
            self._wait(here, timed)

    def _begin(self, here: _Last, timed: bool) -> None:
        """The first frame, or the first after an announced restart."""
        if self._chain and self._fresh and self._last is not None:
            self._give_up_chain()
        if self._chain and self._repeats(here, timed):
            return
        if self._chain and self._judge(self._chain[-1][1], here, timed) != "next":
            self._give_up_chain()
        self._chain.append((len(self._rows), here))
        self._rows.append(None)
        if here.number == self.first or self._agreed > 1 or self._last is not None:
            self._new_series()
            self._fresh = False

    def _repeats(self, here: _Last, timed: bool) -> bool:
        """A pending frame received twice waits with its original."""
        tail = self._chain[-1][1]
        if tail.number != here.number or (timed and tail.tick != here.tick):
            return False
        if not timed and here.number == self.first:
            return False  # two acquisitions of one frame look just the same
        here.again = True
        self._chain.append((len(self._rows), here))
        self._rows.append(None)
        return True

    def _judge(self, last: _Last, here: _Last, timed: bool) -> _Verdict:
        ahead, passed = self._ahead(here.number, last.number), here.tick - last.tick
        regular = self.period is None or not timed
        if not regular and self.period is not None:
            regular = bool(abs(passed - ahead * self.period) <= _slack(self.period, ahead))
        if 1 <= ahead <= self.jump:
            # Where no time vouches for a jump, the frame after it must.
            # As many frames as holes in between vouch as well.
            vouched = (
                ahead == self._agreed + 1 or ahead == 1 or (timed and self.period is not None) or last is not self._last
            )
            return "next" if regular and vouched and (passed > 0 or not timed) else "odd"
        if last is not self._last or ahead < -_RECENT or ahead > 0:
            return "odd"
        index = last.index + ahead
        if index in self._recent:
            # Without ticks a repeated first number may as well be a restart; only what follows can tell.
            same = self._recent[index] == here.tick if timed else here.number != self.first or ahead == 0
            return "duplicate" if same else "odd"
        return "late" if timed and passed < 0 and regular and index >= 0 else "odd"

    def _wait(self, here: _Last, timed: bool) -> None:
        """Pending: a lone bad number, or the beginning of a new series?"""
        if self._chain:
            tail = self._chain[-1][1]
            follows = self._judge(tail, here, timed) == "next"
            if follows and not (timed and self.period is not None) and not self._forward(timed):
                # After a hole it may go on from the old series; the shorter way is the likelier one.
                onward = self._ahead(here.number, self._last_number)
                follows = not 1 <= onward < self._ahead(here.number, tail.number)
            again = here.number == self.first == self._chain[0][1].number and (here.tick != tail.tick or not timed)
            if again and self._on_time():
                self._adopt_chain(self._last_index + self._on_time())
            elif again:
                self._new_series()  # two restarts in a row: acquisitions of one or two frames
            elif not follows:
                ahead = 0 if timed and self.period is not None else self._forward(timed)
                between = self._ahead(here.number, self._last_number) > 0 > self._ahead(here.number, tail.number)
                if ahead and not between:
                    self._adopt_chain(self._last_index + ahead)  # the series ended after a hole
                else:
                    self._give_up_chain()
        self._chain.append((len(self._rows), here))
        self._rows.append(None)
        ahead = self._forward(timed)
        if ahead and self._agreed >= (_AGREE if self.period is not None and timed else 2):
            self._adopt_chain(self._last_index + ahead)
        elif self._agreed >= _AGREE:
            self._new_series()

    def _starts_over(self, timed: bool) -> bool:
        return self._agreed >= _AGREE - 1 or (timed and self._chain[-1][1].number == self._last_number)

    @property
    def _agreed(self) -> int:
        return sum(not frame.again for _, frame in self._chain)

    def _on_time(self) -> int:
        """A single pending frame 1 to 3 periods after the last: no re-arming is so fast, its number is wrong.

        Returns how many periods, 0 for none.
        """
        if self._last is None or self.period is None or not self._timed or len(self._chain) != 1:
            return 0
        steps = (self._chain[0][1].tick - self._last.tick) / self.period
        return round(steps) if 0.95 <= steps <= 3.05 and abs(steps - round(steps)) <= 0.05 else 0

    @property
    def _last_number(self) -> int:
        return self.first if self._last is None else self._last.number

    @property
    def _last_index(self) -> int:
        return -1 if self._last is None else self._last.index

    def _forward(self, timed: bool) -> int:
        """By how many frames the chain may simply be further on in the present series; 0: it can't be."""
        if self._last is None:
            return 0
        head = self._chain[0][1]
        ahead, passed = (self._ahead(head.number, self._last.number), head.tick - self._last.tick)
        if not 1 <= ahead <= self.jump or (timed and passed <= 0):
            return 0
        if timed and self.period is not None and passed < (0.98 * ahead - 0.5) * self.period:
            return 0  # the counter ran ahead of time; the other way round is a pause
        return ahead

    def _new_series(self) -> None:
        """The chain is the beginning of a series."""
        self._lost_before = self.dropped
        self.series += 1
        head = self._chain[0][1]
        start = self._ahead(head.number, self.first) if self.modulus is not None else head.number - self.first
        if start < 0:
            start = start + self.modulus if self.modulus is not None else 0
        self._from = 0 if self._armed or self.series else start
        self._unique, self._highest = 0, self._from - 1
        self._recent.clear()
        self._adopt_chain(start)

    def _adopt_chain(self, start: int) -> None:
        head = self._chain[0][1].number
        for where, frame in self._chain:
            frame.index = start + self._ahead(frame.number, head)
            if frame.again:
                self.duplicates += 1
                self._rows[where] = (self.series, frame.index, Reason.DUPLICATE)
                continue
            self._rows[where] = self._accept(frame)
            self._last = frame
        self._chain = []

    def _settle_chain(self, here: _Last, timed: bool) -> None:
        """The old series goes on with `here`: give the pending frames the indices that only they can have."""
        assert self._last is not None
        last, free = self._last, here.index - self._last.index - 1
        for order, (where, frame) in enumerate(self._chain):
            index = -1
            between = not timed or last.tick < frame.tick < here.tick
            if len(self._chain) == free and between and not any(f.again for _, f in self._chain):
                index = last.index + 1 + order  # as many frames as holes, in order of reception
            elif timed and self.period is not None:
                steps = (frame.tick - last.tick) / self.period
                if abs(steps - round(steps)) <= 0.25 and last.index < last.index + round(steps) < here.index:
                    index = last.index + round(steps)
            repeated = last.index + self._ahead(frame.number, last.number)
            if not timed and repeated in self._recent:
                self.duplicates += 1
                self._rows[where] = (self.series, repeated, Reason.DUPLICATE)
                continue
            if index < 0 or index in self._recent:
                self._rows[where] = (self.series, -1, Reason.BAD_NUMBER)
                continue
            frame.index = index
            self._rows[where] = self._accept(frame)
        self._chain = []

    def _give_up_chain(self) -> None:
        for where, _ in self._chain:
            self._rows[where] = (self.series, -1, Reason.BAD_NUMBER)
        self._chain = []

    def _accept(self, frame: _Last) -> tuple[int, int, int]:
        self._recent[frame.index] = frame.tick
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        self._unique += 1
        self._highest = max(self._highest, frame.index)
        return self.series, frame.index, Reason.OK

    def _emit(self) -> Numbered:
        ready = next((i for i, row in enumerate(self._rows) if row is None), len(self._rows))
        out = Numbered.of([row for row in self._rows[:ready] if row is not None])
        self._rows = self._rows[ready:]
        self._chain = [(where - ready, frame) for where, frame in self._chain]
        return out


def _slack(period: float, ahead: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Ticks by which `ahead` periods may be off: a third of a period, and 100 ppm of a long stretch."""
    return np.asarray(np.minimum(0.3 * period + np.abs(ahead) * period * 1e-4, 0.49 * period), np.float64)
