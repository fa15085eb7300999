"""A run's clocks, each fitted once to all the exchanges of the run, before and after every question to it."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..clock.exchange_clock import ExchangeClock
from ..clock.health import ClockHealth
from ..clock.lab_times import LabTimes
from .declared import Changes

if TYPE_CHECKING:
    from .reader import Recording

Int64 = NDArray[np.int64]


class RunClocks:
    """Fits on demand, and keeps what it fitted."""

    def __init__(self, recording: Recording, changes: Changes | None = None) -> None:
        self._recording, self._changes = recording, changes or Changes()
        self._models: dict[str, ExchangeClock] = {}

    @property
    def names(self) -> list[str]:
        """Devices with a clock of their own."""
        return list(self._recording.clocks)

    def model(self, name: str) -> ExchangeClock:
        """The clock of device `name`; one that nobody ever asked for the time maps nothing."""
        if name not in self._models:
            record = self._recording.clocks[name]
            about = self._changes.of_clock(record.declared)
            given = {f.name: getattr(about, f.name) for f in fields(about)}
            self._models[name] = ExchangeClock.fit(record.exchanges, **given)
        return self._models[name]

    def to_lab(self, name: str, ticks: Int64, arrivals: Int64, boot: Int64 | None = None) -> LabTimes:
        """Lab time of the ticks of device `name`, all arrays of shape (n,)."""
        model = self.model(name)
        if boot is None or not boot.size:
            return model.to_lab(ticks, arrivals)
        if (boot == boot[0]).all():
            return model.to_lab(ticks, arrivals, int(boot[0]))
        boots = np.unique(boot).tolist()
        places = [np.flatnonzero(boot == one) for one in boots]
        parts = [model.to_lab(ticks[at], arrivals[at], one) for one, at in zip(boots, places, strict=True)]
        order = np.argsort(np.concatenate(places))
        return LabTimes(*(np.concatenate([getattr(p, f.name) for p in parts])[order] for f in fields(LabTimes)))

    def health(self) -> dict[str, ClockHealth]:
        """Every clock as it stood at its last exchange."""
        found = {}
        for name in self.names:
            received = self._recording.clocks[name].exchanges.received
            found[name] = self.model(name).health(int(received[-1]) if received.size else self._recording.start_time)
        return found
