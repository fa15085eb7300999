"""A finished run written anew: into a file beside it, which takes its place when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from ..errors import RecordError
from .lock import is_being_written
from .repair import is_broken


def make_sure_it_is_over(path: Path, work: str, mends: str = "mends it") -> None:
    """Raise `RecordError` if a run is still being written or was left unfinished; `work`: what is wanted of it."""
    if path.is_file() and is_being_written(path):
        raise RecordError(f"{path}: this run is still being written; {work} it when it is over")
    if path.is_file() and is_broken(path):
        raise RecordError(f"{path}: its writer left it unfinished; `hal repair {path}` {mends}")


@contextmanager
def rewritten(path: Path, target: Path, suffix: str) -> Iterator[h5py.File]:
    """A copy of the run to be changed; left well, it becomes `target`, else nothing is left of it.

    Raises `RecordError` if it can't be written.
    """
    passing = target.with_name(f".{target.name}.{suffix}")
    try:
        shutil.copyfile(path, passing)
        with h5py.File(passing, "r+", libver=("v110", "v110")) as file:
            yield file
        with open(passing, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(passing, target)
    except (OSError, RuntimeError) as error:  # HDF5 raises either
        raise RecordError(f"{target}: can't be written ({error}); the run is as it was") from error
    finally:
        passing.unlink(missing_ok=True)
