"""Raw ticks in a run's file: exchanges of time, stamped pulses, streams of samples, each by its device's own clock.

With them, and nothing but them, every time of a run can be worked out again. They are written as they
came and never changed afterwards.

    clocks/<device>   frequency ppm bits delay_*     boot sent ticks_received ticks_sent received
    pulses/<device>   ticks boot input rising index arrival
    streams/<device>  blocks/ first_tick period boot first_sample count arrival     samples/ counts[n, input]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..clock.exchange import Exchange, Exchanges
from ..errors import RecordError
from .columns import growing_column, make_group
from .layout import CLOCKS, PULSES, STREAMS, UNKNOWN_TIME, ClockPlan, RunPlan, StreamPlan
from .table import Table

if TYPE_CHECKING:
    from ..protocols.firmware import EdgeChunk, SampleChunk

Int64 = NDArray[np.int64]

_TICK = "by the device's own clock, raw"
_LAB = "ns since 1970-01-01 UTC, on the lab's clock"
EXCHANGE_COLUMNS = {
    "boot": ("i8", "", 0, "changes when the device starts anew"),
    "sent": ("i8", "ns", UNKNOWN_TIME, f"just before the question left ({_LAB})"),
    "ticks_received": ("i8", "", UNKNOWN_TIME, f"when the question came in ({_TICK})"),
    "ticks_sent": ("i8", "", UNKNOWN_TIME, f"when its answer left ({_TICK})"),
    "received": ("i8", "ns", UNKNOWN_TIME, f"when the answer's last byte was here ({_LAB})"),
}
PULSE_COLUMNS = {
    "ticks": ("i8", "", UNKNOWN_TIME, f"when ({_TICK})"),
    "boot": ("i8", "", 0, "changes when the device starts anew"),
    "input": ("u1", "", 255, "at which input"),
    "rising": ("u1", "", 0, "1 for a rising edge, 0 for a falling one"),
    "index": ("i8", "", -1, "count since the stream began; a gap is an edge that never came"),
    "arrival": ("i8", "ns", UNKNOWN_TIME, f"when it was here ({_LAB})"),
}
BLOCK_COLUMNS = {
    "first_tick": ("i8", "", UNKNOWN_TIME, f"of the first instant ({_TICK})"),
    "period": ("i8", "", 0, "ticks from one instant to the next"),
    "boot": ("i8", "", 0, "changes when the device starts anew"),
    "first_sample": ("i8", "", -1, "row of `counts` that is the first instant"),
    "count": ("i8", "", 0, "instants"),
    "arrival": ("i8", "ns", UNKNOWN_TIME, f"when the last of it was here ({_LAB})"),
}


# --- as they are read -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ClockRecord:
    """A device's clock as it was declared, and every exchange made with it."""

    declared: ClockPlan
    exchanges: Exchanges

    def __repr__(self) -> str:
        d = self.declared
        return f"<clock of {d.name}: {len(self.exchanges)} exchanges, {d.frequency:g} ticks/s within {d.ppm:g} ppm>"


@dataclass(frozen=True, slots=True, eq=False)
class PulseRecord:
    """Every edge a device stamped, in order of arrival; arrays of shape (n,)."""

    device: str
    ticks: Int64
    boot: Int64
    input: NDArray[np.uint8]
    rising: NDArray[np.bool_]
    index: Int64
    arrival: Int64  # ns

    def __len__(self) -> int:
        return len(self.ticks)

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, np.unique(self.input)))
        return f"<pulses of {self.device}: {len(self)} edges at input {inputs or 'none'}>"


@dataclass(frozen=True, slots=True, eq=False)
class StreamRecord:
    """Samples of a device's analogue inputs: b stretches without a gap, n instants, c inputs."""

    declared: StreamPlan
    first_tick: Int64  # (b,)
    period: Int64  # (b,)
    boot: Int64  # (b,)
    count: Int64  # (b,)
    arrival: Int64  # (b,), ns
    counts: NDArray[np.int16]  # (n, c)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def ticks(self) -> Int64:
        """Of every instant, shape (n,)."""
        within = np.arange(len(self)) - np.repeat(np.cumsum(self.count) - self.count, self.count)
        return np.repeat(self.first_tick, self.count) + within * np.repeat(self.period, self.count)

    @property
    def missing(self) -> int:
        """Instants that never came, between the first and the last of each boot."""
        lost = 0
        for boot in np.unique(self.boot):
            here = self.boot == boot
            last = self.first_tick[here] + (self.count[here] - 1) * self.period[here]
            steps = (self.first_tick[here][1:] - last[:-1]) / self.period[here][1:]
            lost += int(np.rint(steps - 1).clip(min=0).sum())
        return lost

    def value(self, number: int) -> NDArray[np.float64]:
        """Samples of input `number` in `declared.unit`, shape (n,); NaN where the converter gave none (below 0)."""
        counts = self.counts[:, list(self.declared.inputs).index(number)]
        return np.where(counts < 0, np.nan, counts * self.declared.scale)

    def __repr__(self) -> str:
        return f"<stream of {self.declared.name}: {len(self)} instants of inputs {list(self.declared.inputs)}>"


def read_clock(group: h5py.Group, count: int) -> ClockRecord:
    """A clock by its first `count` rows."""
    about = {name: group[name][()] for name in ("frequency", "ppm", "delay_out", "delay_back", "delay_sigma")}
    declared = ClockPlan(
        group.name.rpartition("/")[2], bits=int(group["bits"][()]), **{k: float(v) for k, v in about.items()}
    )
    exchanges = Exchanges(*(group[name][:count] for name in EXCHANGE_COLUMNS))
    return ClockRecord(declared, exchanges[exchanges.received != UNKNOWN_TIME])  # a row that says: there was none


def read_pulses(group: h5py.Group, count: int) -> PulseRecord:
    """Pulses by their first `count` rows."""
    columns = {name: group[name][:count] for name in PULSE_COLUMNS}
    if count == 1 and columns["arrival"][0] == UNKNOWN_TIME:  # a row that says: there was none
        columns = {name: values[:0] for name, values in columns.items()}
    return PulseRecord(group.name.rpartition("/")[2], **columns | {"rising": columns["rising"].astype(bool)})


def read_stream(group: h5py.Group, count: int, samples: int) -> StreamRecord:
    """A stream by its first `count` blocks, as far as their samples are within the first `samples`."""
    blocks = {name: group["blocks"][name][:count] for name in BLOCK_COLUMNS}
    whole = (np.cumsum(blocks["count"]) <= samples) & (blocks["arrival"] != UNKNOWN_TIME)
    blocks = {name: column[whole] for name, column in blocks.items()}
    about = group.attrs
    declared = StreamPlan(
        group.name.rpartition("/")[2], tuple(int(n) for n in about["inputs"]), float(about["scale"]),
        tuple(str(path) for path in about["paths"]), str(about["unit"]), float(about["rate"]) or None,
        float(about["sigma"]),
    )  # fmt: skip
    counts = group["samples/counts"][: int(blocks["count"].sum())]
    return StreamRecord(
        declared, blocks["first_tick"], blocks["period"], blocks["boot"], blocks["count"], blocks["arrival"], counts
    )


# --- as they are written ----------------------------------------------------------------------


def create_ticks(file: h5py.File, plan: RunPlan) -> None:
    """Make the empty tables of a run's clocks, pulses and streams."""
    for path, named in ((CLOCKS, plan.clocks), (PULSES, plan.pulses), (STREAMS, plan.streams)):
        if named:
            make_group(file, path, "NXcollection")
    for clock in plan.clocks:
        group = make_group(file, f"{CLOCKS}/{clock.name}", "NXcollection")
        group.attrs["description"] = "exchanges of time with this device, by which its ticks become lab time"
        for field in fields(clock):
            if field.name != "name":
                group[field.name] = getattr(clock, field.name)
        group["frequency"].attrs["units"] = "1/s"
        for name in ("delay_out", "delay_back", "delay_sigma"):
            group[name].attrs["units"] = "s"
        _columns(group, EXCHANGE_COLUMNS, 256)
    for device in plan.pulses:
        group = make_group(file, f"{PULSES}/{device}", "NXcollection")
        group.attrs["description"] = "edges this device stamped, in order of arrival"
        _columns(group, PULSE_COLUMNS, 4096)
    for stream in plan.streams:
        group = make_group(file, f"{STREAMS}/{stream.name}", "NXcollection")
        group.attrs.update(
            {
                "description": "samples of analogue inputs: value = counts * scale, at first_tick + k * period",
                "inputs": np.array(stream.inputs, "i4"),
                "paths": [str(path) for path in stream.paths] or [""] * len(stream.inputs),
                "scale": stream.scale,
                "unit": stream.unit,
                "rate": stream.rate or 0.0,
                "sigma": stream.sigma,
            }
        )
        _columns(make_group(group, "blocks", "NXcollection"), BLOCK_COLUMNS, 512)
        samples = make_group(group, "samples", "NXcollection")
        inputs = len(stream.inputs)
        chunk = min(65536, max(256, int((stream.rate or 0.0) * 0.25)))
        counts = samples.create_dataset(
            "counts", (0, inputs), "i2", maxshape=(None, inputs), chunks=(chunk, inputs),
            compression="gzip", compression_opts=1, shuffle=True,
        )  # fmt: skip
        counts.attrs["long_name"] = "as converted, one row per instant, one column per input"


def _columns(group: h5py.Group, columns: dict[str, tuple[str, str, Any, str]], chunk: int) -> None:
    for name, (dtype, units, fill, meaning) in columns.items():
        growing_column(group, name, dtype, chunk, units, fill, meaning)


class TickTables:
    """The tables of a file that is being written."""

    def __init__(self, file: h5py.File, plan: RunPlan) -> None:
        self._clocks = {c.name: Table(file[f"{CLOCKS}/{c.name}"]) for c in plan.clocks}
        self._pulses = {name: Table(file[f"{PULSES}/{name}"]) for name in plan.pulses}
        self._samples = {
            s.name: Table(file[f"{STREAMS}/{s.name}/samples"], whole_chunks="counts") for s in plan.streams
        }
        self._blocks = {s.name: Table(file[f"{STREAMS}/{s.name}/blocks"]) for s in plan.streams}
        self._inputs = {s.name: tuple(s.inputs) for s in plan.streams}

    @property
    def tables(self) -> list[Table]:
        """All of them; samples go before the blocks that describe them."""
        kinds = (self._clocks, self._pulses, self._samples, self._blocks)
        return [table for kind in kinds for table in kind.values()]

    def append_exchanges(self, clock: str, exchanges: Iterable[Exchange] | Exchanges) -> None:
        """Exchanges with one device, in order of reception."""
        columns = Exchanges.of(exchanges)
        _find(self._clocks, clock, "clock").append({name: getattr(columns, name) for name in EXCHANGE_COLUMNS})

    def append_pulses(self, device: str, chunk: EdgeChunk) -> None:
        """Edges that a device stamped, in order of arrival."""
        count = len(chunk)
        _find(self._pulses, device, "pulses").append(
            {
                "ticks": np.asarray(chunk.ticks, np.int64),
                "boot": np.full(count, chunk.boot, np.int64),
                "input": np.asarray(chunk.channel, np.uint8),
                "rising": np.asarray(chunk.rising, np.uint8),
                "index": np.asarray(chunk.index, np.int64),
                "arrival": np.full(count, chunk.arrival, np.int64),
            }
        )

    def append_samples(self, device: str, chunk: SampleChunk) -> None:
        """Samples, cut into stretches of even spacing. Inputs must be those of the plan."""
        blocks, samples = _find(self._blocks, device, "stream"), self._samples[device]
        if tuple(chunk.channels) != self._inputs[device]:
            raise RecordError(
                f"{device}: samples of inputs {list(chunk.channels)} don't fit the run's {list(self._inputs[device])}; "
                "start a new run after changing them"
            )
        if not len(chunk):
            return
        cuts = np.flatnonzero(np.diff(chunk.ticks) != chunk.period) + 1
        first = np.concatenate([[0], cuts])
        count = np.diff(np.append(first, len(chunk)))
        n = len(first)
        blocks.append(
            {
                "first_tick": chunk.ticks[first],
                "period": np.full(n, chunk.period, np.int64),
                "boot": np.full(n, chunk.boot, np.int64),
                "first_sample": samples.end + first,
                "count": count,
                "arrival": np.full(n, chunk.arrival, np.int64),
            }
        )
        samples.append({"counts": chunk.counts})


def _find(tables: dict[str, Table], name: str, what: str) -> Table:
    if name not in tables:
        raise RecordError(f"{name}: no {what} of this name in this run; declare it in the plan before the run")
    return tables[name]
