"""Films in files: numbers, times, exposures and pixels of a MIB or HDF5 file, read as they are asked for.

MIB: frames one after the other, each with the header of Merlin's stream without its ``MPX`` prefix (LiberTEM
io/dataset/mib.py; devices/merlin/stream.py). HDF5: a dataset (frames, rows, columns), beside it perhaps one of
times. A run recorded here (.nxs) names its cameras itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.merlin.stream import FrameStream
from hal.frames.chunk import FrameChunk

Int64 = NDArray[np.int64]


class FilmFile:
    """n frames: `number`, `start` (ns of the clock that stamped them) and `exposure_ns`, (n,); images by `images`."""

    number: Int64
    start: Int64
    exposure_ns: Int64
    shape: tuple[int, int]
    dtype: str

    def images(self, first: int, last: int) -> NDArray[Any]:
        """Frames `first` to `last` (exclusive), (k, rows, columns)."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.number)


class MibFile(FilmFile):
    """As the Merlin software writes it. Frames must be of one size; pixels stay in the file until asked for."""

    def __init__(self, path: Path) -> None:
        raw = np.memmap(path, np.uint8, "r")
        head = bytes(raw[:4096])
        try:
            size, fields = int(head.split(b",", 3)[2]), head.split(b",", 8)
            columns, rows = int(fields[4]), int(fields[5])
            item = {b"U08": 1, b"U16": 2, b"U32": 4, b"U64": 8}[fields[6]]
            if not head.startswith(b"MQ1,") or size < 1:
                raise ValueError
        except (ValueError, IndexError, KeyError):
            raise ValueError(
                f"{path}: no binary frames of a Merlin (MQ1,...,U08|U16|U32); write MIB files with the binary format"
            ) from None
        self._length = size + rows * columns * item
        self._prefix = b"MPX,%010d," % (self._length + 1)
        self._raw = raw[: len(raw) // self._length * self._length].reshape(-1, self._length)
        self.shape = (rows, columns)
        chunks = [self._read(at, min(at + 256, len(self._raw))) for at in range(0, len(self._raw), 256)]
        self.number, self.start, self.exposure_ns = (
            np.concatenate([getattr(c, name) for c in chunks]) for name in ("number", "ticks", "exposure_ns")
        )
        self.dtype = chunks[0].images.dtype.name

    def images(self, first: int, last: int) -> NDArray[Any]:
        return self._read(first, last).images

    def _read(self, first: int, last: int) -> FrameChunk:
        stream = FrameStream()
        for row in self._raw[first:last]:
            stream.feed(self._prefix + row.tobytes(), 0)
        found = [part for part in stream.take() if isinstance(part, FrameChunk)]
        if sum(map(len, found)) != last - first:
            raise ValueError(f"frames {first} to {last} of the file: a header can't be read; is the file whole?")
        return FrameChunk.concatenate(found)


class Hdf5File(FilmFile):
    """A dataset of images, and one of times (ns, or seconds if it is of floats); one of our runs."""

    def __init__(self, path: Path, dataset: str, times: str, fps: float) -> None:
        import h5py

        self._file = h5py.File(path, "r")
        try:
            group = None
            if not dataset:
                dataset, group = _of_run(self._file)
            stack = self._file[dataset]
            if len(stack.shape) != 3 or not len(stack):
                raise ValueError(f"{path}: {dataset} has shape {stack.shape}, not (frames, rows, columns)")
            n = len(stack)
            self._stack, self.shape, self.dtype = stack, tuple(stack.shape[1:]), stack.dtype.name
            self.number = np.arange(n, dtype=np.int64)
            self.exposure_ns = np.zeros(n, np.int64)
            if group is not None and not times:
                self.number = np.asarray(group["frame_number"][:n], np.int64)
                self.start = np.asarray(group["exposure_start"][:n], np.int64)
                self.exposure_ns = np.asarray(group["exposure_stop"][:n], np.int64) - self.start
                known = np.asarray(group["exposure_valid"][:n], bool)
                self.exposure_ns[~known] = 0
                if not known.all():  # a frame without a time comes where its neighbours say
                    if not known.any():
                        raise ValueError(f"{path}: no frame of this run has a time; name its `dataset` and give `fps`")
                    at, base = np.arange(n), self.start[known][0]
                    guess = np.interp(at, at[known], self.start[known] - base)
                    self.start = np.where(known, self.start, base + guess.astype(np.int64))
            elif times:
                given = np.asarray(self._file[times][:n])
                self.start = given if given.dtype.kind in "iu" else np.rint(given * 1e9)
                self.start = self.start.astype(np.int64)
            else:
                self.start = np.rint(np.arange(n) * 1e9 / (fps or 100.0)).astype(np.int64)
        except KeyError as error:
            self._file.close()
            raise ValueError(f"{path}: {error.args[0]}; name the `dataset` (and `times`)") from None

    def images(self, first: int, last: int) -> NDArray[Any]:
        found: NDArray[Any] = self._stack[first:last]
        return found


def open_film(path: str, dataset: str = "", times: str = "", fps: float = 0.0) -> FilmFile:
    """Open a film by its file's kind. ValueError says what is wrong with it."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"path = {path!r}: there is no such file; give the film to show")
    if not file.stat().st_size:
        raise ValueError(f"{path}: the film is empty; was it copied whole?")
    if file.suffix.lower() == ".mib":
        return MibFile(file)
    try:
        return Hdf5File(file, dataset, times, fps)
    except OSError as error:
        raise ValueError(f"{path}: neither MIB nor HDF5 ({error})") from None


def _of_run(file: Any) -> tuple[str, Any]:
    """The first camera's images in one of our runs."""
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if name.rpartition("/")[2] == "exposure_start" and not found:
            found.append(name.rpartition("/")[0])

    file.visititems(look)
    if not found:
        raise KeyError("no run of ours")
    group = file[found[0]]
    signal = group.attrs["signal"]
    return f"{found[0]}/{signal}", group
