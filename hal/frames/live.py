"""Values onto frames while both come in: provisional rows at once, final when nothing can change them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.frames.align import curve_of
from hal.frames.channel import Aligned, Channel, Kind
from hal.frames.end_to_end import MOST, EndToEnd
from hal.frames.frame import Float32, Float64, FrameTimes, Int64, Mask, Reason
from hal.frames.line import Line, prepare
from hal.frames.piece import LOOKBACK
from hal.frames.place import Film, Places
from hal.frames.readings import Readings
from hal.frames.steps import Steps

_FEW = 64  # readings that aren't worth forgetting


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """What stays the same of a channel while readings come in; meanings and units as in `Channel`.

    response_s: s from a measurement to its reading being fed. A frame waits for this channel at most
    max_gap_s + response_s after its exposure's end, then it is final with what there is.
    """

    kind: Kind = "linear"
    aperture_s: float = 0.0
    delay_s: float = 0.0
    delay_sigma_s: float = 0.0
    max_gap_s: float = 5.0
    sigma_common: float = 0.0
    polled: bool = False
    max_age_s: float = 0.0
    response_s: float = 0.5

    @property
    def deadline(self) -> int:
        """ns after an exposure's end at which a frame waits no longer for this channel."""
        return round((self.max_gap_s + self.response_s + max(self.delay_s, 0.0)) * 1e9)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A channel's value at one moment as far as known by now; NaN where valid is False."""

    value: float
    sigma: float
    valid: bool
    final: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive frames with every channel's value; `first` counts frames from the aligner's start."""

    first: int
    frames: FrameTimes
    values: dict[str, Aligned]
    final: bool

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(slots=True)
class _Buffer:
    """One channel's recent readings, sorted by time (delay not yet taken off)."""

    fixed: LiveChannel
    time: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    value: Float64 = field(default_factory=lambda: np.zeros(0))
    bound: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    sigma: Float64 = field(default_factory=lambda: np.zeros(0))
    good: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    enough: int = _FEW
    ordered: Readings | None = None
    built: Line | Steps | None = None
    outlook: _Outlook | None = None

    def readings(self) -> Readings:
        if self.ordered is None:
            f = self.fixed
            channel = Channel(
                self.time, self.value, self.bound, self.sigma, f.kind, f.aperture_s, f.delay_s,
                f.delay_sigma_s, f.max_gap_s, self.good, f.sigma_common, f.polled, max_age_s=f.max_age_s,
            )  # fmt: skip
            self.ordered = Readings.of(channel)
        return self.ordered

    def curve(self) -> Line | Steps:
        if self.built is None:
            self.built = curve_of(self.readings())
            if isinstance(self.built, Line):
                prepare([self.built])
        return self.built

    def ahead(self) -> _Outlook:
        if self.outlook is None:
            curve = self.curve()
            self.outlook = _Outlook.of(curve.r, curve.slope2[-2:] if isinstance(curve, Line) else _NONE)
        return self.outlook

    def on(self, film: Film) -> Aligned:
        curve = self.curve()
        return curve.on(Places(film, curve.r.time))

    def changed(self) -> None:
        self.ordered = self.built = self.outlook = None

    def keep(self, where: Mask | slice | Int64) -> None:
        self.time, self.value, self.bound = (self.time[where], self.value[where], self.bound[where])
        self.sigma, self.good = self.sigma[where], self.good[where]
        self.changed()


class LiveAligner:
    """Feed readings and frames in any rhythm; take provisional and final rows.

    channels   names and what is fixed about them
    history_s  readings at least this old may be forgotten once no pending frame needs them
    max_frames frames that may wait; beyond it the oldest become final with what there is

    Final values are those `align` gives offline over all readings, except where a deadline passed.
    Each channel's readings must come in the order of time; all times are int64 ns of lab time.
    """

    def __init__(
        self, channels: Mapping[str, LiveChannel], *, history_s: float = 30.0, max_frames: int = 200_000
    ) -> None:
        self._buffers = {name: _Buffer(fixed) for name, fixed in channels.items()}
        self._history = round(history_s * 1e9)
        self._max_frames = max_frames
        self._waiting = FrameTimes.concatenate([])
        self._first = 0
        self._joined: list[tuple[list[str], EndToEnd]] | None = None

    @property
    def waiting(self) -> int:
        """Frames that are not final yet."""
        return len(self._waiting)

    def feed(
        self,
        name: str,
        time: Int64 | int,
        value: Float64 | float,
        time_bound: Int64 | int = 0,
        sigma: Float64 | float = 0.0,
        good: Mask | bool = True,
    ) -> None:
        """One reading, or a chunk (arrays of shape (m,)), of the channel `name`; KeyError if unknown."""
        b = self._buffers[name]
        t = np.atleast_1d(np.asarray(time, np.int64))
        n = t.size
        if not n:
            return
        late = b.time.size > 0 and bool(t[0] < b.time[-1])
        b.time = np.concatenate((b.time, t))
        b.value = _with(b.value, value, n)
        b.bound = _with(b.bound, time_bound, n)
        b.sigma = _with(b.sigma, sigma, n)
        b.good = _with(b.good, good, n)
        b.changed()
        self._joined = None
        if late or (n > 1 and (t[1:] < t[:-1]).any()):
            b.keep(np.argsort(b.time, kind="stable"))
        self._forget(b)

    def heartbeat(self, name: str, time: int) -> None:
        """A step channel's value still holds at `time`, ns; ignored if not newer than the last reading."""
        b = self._buffers[name]
        if b.fixed.kind != "step":
            raise ValueError(f"{name}: heartbeats are for step channels; feed this channel's readings instead")
        if b.time.size and time > b.time[-1]:
            self.feed(name, time, float(b.value[-1]), 0, float(b.sigma[-1]), bool(b.good[-1]))

    def add(self, frames: FrameTimes) -> Rows:
        """Take in frames; returns them at once with the best values by now, which may be revised."""
        first = self._first + len(self._waiting)
        self._waiting = FrameTimes.concatenate([self._waiting, frames])
        return Rows(first, frames, self._provisional(frames), final=False)

    def retime(self, first: int, frames: FrameTimes) -> Rows:
        """Better exposures of frames, the first of them number `first` from the start; those final by now stay.

        Returns the ones that were taken, with the best values by now.
        """
        skip = max(self._first - first, 0)
        frames, at = frames[skip:], max(first - self._first, 0)
        frames = frames[: max(len(self._waiting) - at, 0)]
        if len(frames):
            parts = [self._waiting[:at], frames, self._waiting[at + len(frames) :]]
            self._waiting = FrameTimes.concatenate(parts)
        return Rows(self._first + at, frames, self._provisional(frames), final=False)

    def revise(self) -> Rows:
        """All waiting frames with the best values by now."""
        return Rows(self._first, self._waiting, self._provisional(self._waiting), final=False)

    def settle(self, now: int, before: int | None = None) -> Rows:
        """The frames that became final by `now` (lab time, ns), in order; perhaps none.

        `before`: only those with lower numbers from the start, because others may yet be given better exposures.
        """
        frames = self._waiting
        self._join()
        end = frames.stop + frames.bound
        ready = np.ones(len(frames), np.bool_)
        for b in self._buffers.values():
            ready &= (end <= b.ahead().horizon) | (frames.stop + b.fixed.deadline <= now)
        ready |= ~frames.valid
        count = int(ready.size if ready.all() else np.argmin(ready))
        count = count if before is None else min(count, max(before - self._first, 0))
        return self._take(max(count, len(frames) - self._max_frames))

    def flush(self) -> Rows:
        """All waiting frames as final, at the end of a run."""
        return self._take(len(self._waiting))

    def at(self, name: str, time: int) -> Estimate:
        """The channel's value at lab time `time`, ns, by what is known now.

        Later than the last reading, that reading is held for at most max_gap_s, its sigma grown by
        the recent slope times its age. Unknown names are a KeyError.
        """
        b = self._buffers[name]
        moment = np.array([time], np.int64)
        frame = FrameTimes.of(moment, moment)
        ahead = b.ahead()
        film = Film(frame)
        got = _held(b, film, b.on(film))
        return Estimate(
            float(got.value[0]), float(got.sigma[0]), bool(got.valid[0]), bool(time <= ahead.horizon),
            Reason(int(got.reason[0])),
        )  # fmt: skip

    # -------------------------------------------------------------------------------- private

    def _take(self, count: int) -> Rows:
        frames = self._waiting[:count]
        film = Film(frames)
        rows = Rows(self._first, frames, self._on(film), final=True)
        self._waiting = self._waiting[count:]
        self._first += count
        if count:
            for b in self._buffers.values():
                self._forget(b)
        return rows

    def _join(self) -> list[tuple[list[str], EndToEnd]]:
        """Linear channels alike, joined, so that one long line does for all of them."""
        if self._joined is None:
            alike: dict[tuple[float, ...], list[str]] = {}
            for name, b in self._buffers.items():
                f = b.fixed
                if f.kind == "linear" and b.time.size > 1 and b.readings().x.size > 1:
                    alike.setdefault((f.aperture_s, f.sigma_common, f.max_age_s), []).append(name)
            some = [names[i : i + MOST] for names in alike.values() for i in range(0, len(names), MOST)]
            self._joined = [
                (names, EndToEnd([self._buffers[n].readings() for n in names])) for names in some if len(names) > 1
            ]
            for names, joined in self._joined:
                for name, part, slope2 in zip(names, joined.parts, joined.slope2, strict=True):
                    self._buffers[name].outlook = _Outlook.of(part, slope2)
        return self._joined

    def _on(self, film: Film) -> dict[str, Aligned]:
        found: dict[str, Aligned] = {}
        for names, joined in self._join():
            if joined.fits(film):
                found |= zip(names, joined.on(film), strict=True)
        return {name: found[name] if name in found else b.on(film) for name, b in self._buffers.items()}

    def _provisional(self, frames: FrameTimes) -> dict[str, Aligned]:
        film = Film(frames)
        return {name: _held(self._buffers[name], film, got) for name, got in self._on(film).items()}

    def _forget(self, b: _Buffer) -> None:
        """Drop readings that neither a waiting frame nor the history needs; amortised over many feeds."""
        if b.time.size < b.enough:
            return
        oldest = int(b.time[-1]) - self._history
        if len(self._waiting):
            valid = self._waiting.valid
            if valid.any():
                start = self._waiting.start - self._waiting.bound
                oldest = min(oldest, int(start[valid].min()))
        # Slopes look back by 2 w and one reading more, uncertainties by another; joined answers span 2 w.
        reach = 4 * int(b.bound.max()) + max(round(b.fixed.delay_s * 1e9), 0)
        keep = int(np.searchsorted(b.time, oldest - reach)) - 4 - LOOKBACK
        if keep > b.time.size // 2:
            b.keep(slice(keep, None))
        b.enough = max(_FEW, b.time.size + b.time.size // 8)


def _with(so_far: NDArray[Any], more: Any, n: int) -> NDArray[Any]:
    if np.ndim(more) == 0:
        more = np.full(n, more, so_far.dtype)
    return np.concatenate((so_far, more), dtype=so_far.dtype, casting="same_kind")


def _held(b: _Buffer, film: Film, got: Aligned) -> Aligned:
    """Frames after the last reading get its value, as long as it may be held."""
    after = np.flatnonzero(got.reason == Reason.AFTER_DATA)
    if not after.size:
        return got
    ahead = b.ahead()
    held = ahead.sigma(film.frames.middle[after])
    ok = np.isfinite(held)
    valid, reason = got.valid.copy(), got.reason.copy()
    got.value[after[ok]], got.sigma[after[ok]] = ahead.value, held[ok]
    valid[after[ok]], reason[after[ok]] = True, Reason.OK
    return Aligned(got.value, got.sigma, valid, reason)


@dataclass(frozen=True, slots=True)
class _Outlook:
    """How far a channel's readings reach by now, and what may be said beyond them.

    horizon: the latest exposure end (ns, bound included) whose values later readings can't change.
    """

    horizon: int
    value: float
    _last: int
    _variance: float
    _slope2: float
    _max_gap: float

    @classmethod
    def of(cls, r: Readings, slope2_s: Float32) -> _Outlook:
        """From the readings so far and the squared slopes, per s^2, at the last two."""
        channel, m = r.channel, r.x.size
        if not m:
            return cls(_NEVER, math.nan, 0, math.nan, 0.0, 0.0)
        if channel.kind == "step":
            horizon = int(r.time[0]) + int(np.max(r.x - np.ceil(r.width) - 2e9 * channel.delay_sigma_s))
            slope2 = 0.0
        else:
            # Final once slopes (2 w beyond the next reading) and the noise behind them are complete.
            # The last of repeated answers that were joined may still be joined by more: it doesn't count yet.
            end = m - 1 if r.merges else m
            x, width = r.x[:end], r.width[:end]
            full = np.flatnonzero(x[:-2] + 2 * width[:-2] <= x[-2]) if end > 2 else np.zeros(0, np.int64)
            horizon = int(r.time[full[-1]]) if full.size else _NEVER
            slope2 = float(slope2_s.max()) * 1e-18 if m > 1 else 0.0
        variance = r.sigma[-1] ** 2 + channel.sigma_common**2
        variance += slope2 * (r.width[-1] ** 2 / 3.0 + (channel.delay_sigma_s * 1e9) ** 2)
        value = float(r.value[-1]) if r.good[-1] else math.nan
        return cls(horizon, value, int(r.time[-1]), float(variance), slope2, channel.max_gap_s * 1e9)

    def sigma(self, time: Int64) -> Float64:
        """sigma of the last reading held until later times, ns: grown by slope x age; NaN beyond max_gap."""
        age = (time - self._last).astype(np.float64)
        held = np.sqrt(self._variance + self._slope2 * age**2)
        return np.where((age >= 0) & (age <= self._max_gap) & math.isfinite(self.value), held, np.nan)


_NEVER = -(1 << 62)
_NONE = np.zeros(0, np.float32)
