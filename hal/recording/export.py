"""A run as plain tables (CSV), for programs that know neither HDF5 nor our package."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import RecordError
from .layout import FRAME_COLUMNS, QUALITIES, UNKNOWN_TIME, Array
from .parts import FrameStack
from .reader import Recording, open_run

_ROWS = 8192  # written at a time


@dataclass(frozen=True, slots=True)
class Exported:
    """The tables written, as `hal export --json` shows them."""

    run: str
    state: str
    tables: dict[str, int]  # file -> rows

    def to_json(self) -> str:
        return json.dumps({"run": self.run, "state": self.state, "tables": self.tables})


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    aligned: bool = True,
    signals: Sequence[str] | bool = True,
    events: bool = True,
    overwrite: bool = False,
    progress: bool = True,
) -> Exported:
    """Write a run's tables into the folder `out`: aligned_<camera>.csv, signal_<path>.csv, events.csv.

    `signals` may name some signals or be False. Unknown values are empty cells; units stand in the header.
    """
    out = Path(out)
    with open_run(path) as run:
        wanted = list(run.signals) if signals is True else list(signals or ())
        if missing := [name for name in wanted if name not in run.signals]:
            raise RecordError(f"{path}: no signal {missing[0]!r}; there are {', '.join(run.signals) or 'none'}")
        stacks = list(run.cameras.values()) if aligned else []
        names = [f"aligned_{stack.camera}.csv" for stack in stacks] + [f"signal_{name}.csv" for name in wanted]
        names += ["events.csv"] if events else []
        if not overwrite and (there := [name for name in names if (out / name).exists()]):
            raise RecordError(f"{out / there[0]}: is there already; choose another folder or allow overwriting")
        out.mkdir(parents=True, exist_ok=True)
        total = sum(len(stack) for stack in stacks) + sum(len(run.signals[name]) for name in wanted)
        tables: dict[str, int] = {}
        with tqdm(total=total, unit="row", unit_scale=True, disable=not progress, desc=run.path.name) as bar:
            for stack in stacks:
                file = out / f"aligned_{stack.camera}.csv"
                tables[str(file)] = _write(file, *_aligned_table(run, stack), bar)
            for name in wanted:
                file = out / f"signal_{name}.csv"
                tables[str(file)] = _write(file, *_signal_table(run, name), bar)
        if events:
            file = out / "events.csv"
            rows = [
                [
                    iso_utc(np.array([event.time]))[0],
                    event.time,
                    event.kind,
                    event.device,
                    event.text,
                    "" if event.data is None else json.dumps(event.data),
                ]
                for event in run.events
            ]
            tables[str(file)] = _write_rows(file, ["time (UTC)", "time (ns)", "kind", "device", "text", "data"], rows)
        return Exported(str(run.path), run.state, tables)


def iso_utc(times: Array) -> list[str]:
    """ISO 8601 to the nanosecond in UTC; empty where unknown."""
    texts = np.datetime_as_string(np.asarray(times, "i8").view("M8[ns]"), unit="ns")
    return [f"{text}Z" if text != "NaT" else "" for text in texts.tolist()]


def _aligned_table(run: Recording, stack: FrameStack) -> tuple[list[str], list[tuple[str, Array]]]:
    number = stack.number
    columns: list[tuple[str, Array]] = [
        ("whole", number),
        ("iso", stack.time),
        ("time", stack.time),
        ("float", stack.column("elapsed")),
        ("time", stack.bound),
        ("whole", stack.valid),
    ]
    header = ["frame number", "time (UTC)", "time (ns)", "elapsed (s)", "time bound (ns)", "time valid"]
    if "sigma" in stack.columns:
        header.append("time sigma (ns)")
        columns.append(("float", stack.column("sigma")))
    if stack.frame_clock is not None:
        header.append(f"row among the pulses of {stack.frame_clock[0]}")
        columns.append(("whole", stack.pulse))
    for name in stack.columns:
        if name in FRAME_COLUMNS:
            continue
        header.append(name)
        columns.append(("float", stack.column(name)))
    for path, column in run.aligned_to(stack.camera).items():
        unit = f" ({column.unit})" if column.unit else ""
        header += [f"{path}{unit}", f"{path} uncertainty{_difference(unit)}", f"{path} valid"]
        columns += [("float", column.value), ("float", column.uncertainty), ("whole", column.valid)]
    return header, [(how, column[: len(number)]) for how, column in columns]


def _signal_table(run: Recording, path: str) -> tuple[list[str], list[tuple[str, Array]]]:
    signal = run.signals[path]
    unit = f" ({signal.unit})" if signal.unit else ""
    header = [
        "time (UTC)",
        "time (ns)",
        "time bound (ns)",
        f"{path}{unit}",
        f"uncertainty{_difference(unit)}",
        "quality",
        "valid",
    ]
    quality = np.array(QUALITIES)[np.minimum(signal.quality, len(QUALITIES) - 1)]
    value = signal.value
    if value.dtype.kind in "ib":  # such a column knows no NaN
        value = np.where(signal.valid, value.astype(object), "")
    columns = [
        ("iso", signal.time),
        ("time", signal.time),
        ("time", signal.time_bound),
        ("float", value),
        ("float", signal.uncertainty),
        ("whole", quality),
        ("whole", signal.valid),
    ]
    if signal.ticks is not None:
        header.append("ticks")
        columns.append(("time", signal.ticks))
    return header, columns


def _write(file: Path, header: list[str], columns: list[tuple[str, Array]], bar: Any) -> int:
    count = len(columns[0][1])

    def rows() -> Iterator[Iterable[Any]]:
        for first in range(0, count, _ROWS):
            part = [_cells(how, column[first : first + _ROWS]) for how, column in columns]
            yield from zip(*part, strict=True)
            bar.update(len(part[0]))

    return _write_rows(file, header, rows())


def _write_rows(file: Path, header: list[str], rows: Iterable[Iterable[Any]]) -> int:
    count = 0
    with open(file, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        for row in rows:
            table.writerow(row)
            count += 1
    return count


def _cells(how: str, column: Array) -> list[Any]:
    match how:
        case "iso":
            return iso_utc(column)
        case "time":
            return ["" if value == UNKNOWN_TIME else value for value in column.tolist()]
        case "float" if column.dtype.kind == "f":
            return ["" if math.isnan(value) else value for value in column.tolist()]
        case _ if column.dtype.kind == "b":
            return list(column.astype(int).tolist())
    return list(column.tolist())


def _difference(unit: str) -> str:
    return " (K)" if unit == " (degC)" else unit
