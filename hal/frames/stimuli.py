"""Stimuli as a script sees them: the value of any signal at the time of a frame, as known by now.

Readings are collected from the first time a signal is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..model.calibrated import CalibratedAt
from ..model.reading import Quality, Reading
from ..model.signal import SignalR, SignalRW
from .channel import Kind
from .live import LiveAligner, LiveChannel

LEVELS = {"closed": 0.0, "open": 1.0}
"""The number that stands for a valve's state, as `aligned` has it."""


def number(value: Any) -> float:
    """The number that a reading's value is aligned as; NaN for none."""
    if isinstance(value, str):
        return LEVELS.get(value, float("nan"))
    return float("nan") if value is None else float(value)


def kind_of(signal: SignalR[Any]) -> Kind:
    """How to go from one reading of `signal` to the next."""
    return "linear" if signal.varies == "smoothly" and signal.dtype is float else "step"


def can_be_aligned(signal: SignalR[Any]) -> bool:
    """Whether a frame can be given a number for this signal."""
    valve = signal.name == "state" and any(c.__name__ == "Valve" for c in signal.device.provides)
    return signal.dtype in (float, int, bool) or valve


def live_channel(signal: SignalR[Any]) -> LiveChannel:
    """What is fixed about a signal's readings."""
    return LiveChannel(
        kind=kind_of(signal),
        aperture_s=signal.aperture,
        max_gap_s=signal.max_gap,
        polled=not isinstance(signal, SignalRW),
        max_age_s=signal.max_age,
        response_s=min(2.0, signal.poll + 0.5),
    )


class Stimuli:
    """Best estimates by signal path."""

    def __init__(self, find: Callable[[str], SignalR[Any]]) -> None:
        self._find = find
        self._aligners: dict[str, LiveAligner] = {}

    def at(self, path: str, time_ns: int) -> tuple[float, float, bool, bool]:
        """Value, sigma, valid and final of signal `path` at a lab time (ns). Raises `ConfigError` for no signal."""
        aligner = self._aligners.get(path)
        if aligner is None:
            aligner = self._aligners[path] = self._follow(path)
        found = aligner.at(path, time_ns)
        at = self._find(path).at
        if not isinstance(at, CalibratedAt) or not found.valid:
            return found.value, found.sigma, found.valid, found.final
        raw = aligner.at(
            at.raw.path, time_ns
        )  # the certificate's uncertainty, which all readings share, is not averaged
        value, sigma, _ = at.calibration.apply(raw.value, raw.sigma)
        return float(value), float(sigma), raw.valid, found.final and raw.final

    def _follow(self, path: str) -> LiveAligner:
        signal = self._find(path)
        followed = [signal, signal.at.raw] if isinstance(signal.at, CalibratedAt) else [signal]
        aligner = LiveAligner({one.path: live_channel(one) for one in followed})
        for one in followed:
            feed = partial(_feed, aligner, one.path)
            for reading in one.recent:
                feed(reading)
            one.subscribe(feed)
        return aligner


def _feed(aligner: LiveAligner, path: str, reading: Reading[Any]) -> None:
    good = reading.quality is not Quality.BAD
    aligner.feed(path, reading.time, number(reading.value), reading.bound, reading.uncertainty or 0.0, good)
