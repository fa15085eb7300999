"""Columns of one table of a run's file, growing row by row, together: rows wait until a chunk is full."""

from __future__ import annotations

import time

import h5py
import numpy as np

from .columns import growing
from .finish import put
from .layout import IMAGE, Array

PATIENCE = 0.15  # s since rows were handed over; a chunk that isn't full by then is written in part


class Table:
    """The growing datasets of one group, all equally long."""

    def __init__(self, group: h5py.Group, whole_chunks: str | None = None) -> None:
        """`whole_chunks` names the column that is written by whole chunks, if there is one."""
        # images first, so that no column describes a missing one
        datasets = sorted(growing(group), key=lambda dataset: not dataset.name.endswith(f"/{IMAGE}"))
        self._datasets = {dataset.name.rpartition("/")[2]: dataset for dataset in datasets}
        self._chunk = group[whole_chunks].chunks[0] if whole_chunks else 0  # 0: wait for the flush
        self._grows_in_place = whole_chunks is None or group[whole_chunks].compression is None
        self._waiting: list[tuple[float, dict[str, Array]]] = []  # since when (s, monotonic), rows
        self._count = 0
        self.rows = 0  # written

    @property
    def end(self) -> int:
        """Rows written and waiting."""
        return self.rows + self._count

    def append(self, rows: dict[str, Array]) -> None:
        now = time.monotonic()
        if count := len(next(iter(rows.values()))):
            self._waiting.append((now, rows))
            self._count += count
            if 0 < self._chunk <= self._count:
                self.write(False, now)

    def write(self, everything: bool, now: float) -> None:
        """Write whole chunks; a part of one only if it has waited for `PATIENCE`, or if told to."""
        if not self._count:
            return
        count = self._count
        if not (everything or self._grows_in_place or now - self._waiting[0][0] >= PATIENCE):
            count = max(0, self.end // self._chunk * self._chunk - self.rows)
            if not count:
                return
        end = self.rows + count
        rest: dict[str, Array] = {}
        for name, dataset in self._datasets.items():
            pieces = [rows[name] for _, rows in self._waiting]
            column = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            dataset.resize(end, axis=0)
            put(dataset, self.rows, end, column[:count])
            rest[name] = column[count:]
        self.rows = end
        self._count -= count
        self._waiting = [(self._waiting[-1][0], rest)] if self._count else []
