"""One question after a device's time, and many of them as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..errors import ClockError

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question after a device's time, and its answer."""

    boot: int
    """Number that changes when the device starts anew; always the same where it has none."""
    sent: int
    """Lab time, ns, just before the question left."""
    ticks_received: int
    """The device's clock when the question came in."""
    ticks_sent: int
    """The device's clock when its answer left; the same where it is stamped once."""
    received: int
    """Lab time, ns, when the answer's last byte was here."""


@dataclass(frozen=True, slots=True)
class Exchanges:
    """n exchanges in order of reception, int64 columns of shape (n,), as a run records them."""

    boot: Int64
    sent: Int64
    ticks_received: Int64
    ticks_sent: Int64
    received: Int64

    def __post_init__(self) -> None:
        for field in fields(self):
            column = np.asarray(getattr(self, field.name))
            if column.dtype.kind not in "iu" and column.size:
                raise ClockError(f"exchanges: {field.name} is {column.dtype}, not whole numbers; give ticks and ns")
            object.__setattr__(self, field.name, column.astype(np.int64, copy=False))
        sizes = {getattr(self, field.name).shape for field in fields(self)}
        if len(sizes) != 1 or len(sizes.pop()) != 1:
            raise ClockError("exchanges: the columns are not of one length; give all five of every exchange")

    @classmethod
    def of(cls, exchanges: Iterable[Exchange] | Exchanges) -> Exchanges:
        """Columns of single exchanges."""
        if isinstance(exchanges, Exchanges):
            return exchanges
        rows = [(e.boot, e.sent, _wrapped(e.ticks_received), _wrapped(e.ticks_sent), e.received) for e in exchanges]
        return cls(*np.array(rows, np.int64).reshape(-1, 5).T.copy())

    def __len__(self) -> int:
        return int(self.sent.size)

    def __iter__(self) -> Iterator[Exchange]:
        columns = (getattr(self, field.name).tolist() for field in fields(self))
        return (Exchange(*row) for row in zip(*columns, strict=True))

    def one(self, i: int) -> Exchange:
        """The i-th."""
        return Exchange(*(int(getattr(self, field.name)[i]) for field in fields(self)))

    def __getitem__(self, part: slice | Int64 | NDArray[np.bool_]) -> Exchanges:
        return Exchanges(*(getattr(self, field.name)[part] for field in fields(self)))


def _wrapped(ticks: int) -> int:
    """A count up to 2^64 - 1 as the int64 of the same bits; clocks only ever look at differences."""
    return ((ticks + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)
