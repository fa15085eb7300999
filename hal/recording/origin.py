"""Where a run's times and aligned values come from: which version worked them out, when, by which declarations."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import h5py
import numpy as np

from ..errors import RecordError
from . import layout
from .columns import make_group
from .layout import ALIGNMENT, Alignment
from .plan import software


@dataclass(frozen=True, slots=True)
class Origin:
    """Of one alignment of a run."""

    program: str
    version: str
    date: str
    """ISO 8601; the environment's SOURCE_DATE_EPOCH stands in for now where it is set."""
    digest: str
    """SHA-256 over all its numbers: the same record and the same version give the same."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Declarations that were changed, certificates that were applied, how each camera was timed."""

    @classmethod
    def now(cls, cameras: Mapping[str, Alignment], parameters: Mapping[str, Any] | None = None) -> Self:
        """Of an alignment just worked out here."""
        timed = {"timed_by": {name: alignment.by for name, alignment in cameras.items()}}
        version = software().get("insitu-hal", "not installed")
        return cls("insitu-hal", version, date_now(), digest(cameras), {**(parameters or {}), **timed})

    @classmethod
    def read(cls, group: h5py.Group) -> Self:
        """As a file has it."""
        texts = {name: _text(group[name][()]) for name in layout.ORIGIN_BYTES}
        parameters = json.loads(texts.pop("parameters") or "{}")
        return cls(**texts, parameters=parameters)

    def write(self, file: h5py.File) -> None:
        """Into a file that has room for it (or may still get it). Raises `RecordError` if there is too little."""
        if ALIGNMENT not in file:
            create_origin(file)
        texts = {f.name: getattr(self, f.name) for f in fields(self)}
        texts["parameters"] = json.dumps(dict(self.parameters), sort_keys=True)
        for name, width in layout.ORIGIN_BYTES.items():
            data = texts[name].encode()
            if len(data) > width:
                raise RecordError(
                    f"the alignment's {name} takes {len(data)} bytes, and {width} is what there is room for"
                )
            file[f"{ALIGNMENT}/{name}"][()] = data


def create_origin(file: h5py.File) -> None:
    """Make room for it; nothing is known yet."""
    group = make_group(file, ALIGNMENT, "NXcollection")
    group.attrs["description"] = "where the times of exposures and the values of stimuli come from"
    for name, width in layout.ORIGIN_BYTES.items():
        group.create_dataset(name, (), h5py.string_dtype("utf-8", width))[()] = b""


def digest(cameras: Mapping[str, Alignment]) -> str:
    """Of every number of an alignment."""
    sha = hashlib.sha256()

    def add(name: str, column: Any) -> None:
        values = np.ascontiguousarray(column)
        sha.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        sha.update(values.tobytes())

    for camera, alignment in sorted(cameras.items()):
        times = alignment.times
        if times is not None:
            for name in ("start", "stop", "bound", "valid", "sigma", "reason", "pulse"):
                if (column := getattr(times, name)) is not None:
                    add(f"{camera}/{name}", column)
        for path, found in sorted(alignment.columns.items()):
            for name in ("value", "uncertainty", "valid"):
                add(f"{camera}/{path}/{name}", getattr(found, name))
    return f"sha256:{sha.hexdigest()}"


def date_now() -> str:
    """ISO 8601, UTC; the environment's SOURCE_DATE_EPOCH stands in for now where it is set."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(fixed) if fixed.isdecimal() else time.time()))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
