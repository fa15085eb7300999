"""What a DECTRIS detector sends: series that begin and end, and frames, in stream v1 (JSON parts) or v2 (CBOR).

v1, one ZeroMQ message per line [AD streamApi.cpp, ES web.py, LL]:
    dheader-1.0 | configuration ("basic", "all") | more parts ("all")      when armed
    dimage-1.0 {series, frame, hash} | dimage_d-1.0 {shape [x, y], type, encoding, size} | pixels |
        dconfig-1.0 {start_time, stop_time, real_time} | appendix           for every frame
    dseries_end-1.0 {series}                                                when disarmed
Newer writers say dimaged-1.0; what the parts are follows from their place. [AD] expects the header's parts as one
message each, [ES] sends them as parts of one: both are understood. The frame number begins with 0. Times are ns;
[AD]'s test data and DECTRIS's example count them from the start of the series.

v2, one CBOR map per message [SD]: "start", "image" (data by channel: tag 40 of a typed array, perhaps of tag
56500, compressed), "end". start_time, stop_time and real_time are ratios of integers, seconds from series_date;
their denominator is the detector's time base. Not stated by [SD], hence unverified: that image_id begins with 0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.errors import ConfigError
from hal.frames.chunk import FrameChunk
from hal.protocols.zmtp import Message

from .packing import pack, unpack

TYPED = {64: "u1", 68: "u1", 65: ">u2", 66: ">u4", 69: "<u2", 70: "<u4"}
"""Typed arrays of unsigned integers by CBOR tag (RFC 8746, 2.1)."""
TYPES = ("uint8", "uint16", "uint32")


@dataclass(frozen=True, slots=True)
class SeriesBegins:
    """The detector is armed: numbers and times begin anew. `about` is what it tells of the series."""

    series: int
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SeriesEnds:
    """No further frame of it will come."""

    series: int


@dataclass(frozen=True, slots=True)
class _Image:
    series: int
    number: int
    start: int  # ns
    exposure: int  # ns
    image: NDArray[Any] | None
    arrival: int


Part = SeriesBegins | SeriesEnds | FrameChunk


@dataclass
class Reader:
    """Messages of either stream, told apart by their first byte; `images` False leaves the pixels packed."""

    images: bool = True
    channel: str = ""
    """Which channel of images that have several (v2); "" is the first."""
    channels: tuple[str, ...] = ()
    """Of the newest series."""
    broken: int = 0
    """Messages that could not be read so far."""
    why: str = ""
    """What was wrong with the last of them."""
    _series: int | None = field(default=None, repr=False)
    _await: int = field(default=0, repr=False)

    def take(self, messages: Sequence[Message]) -> list[Part]:
        """Frames in chunks, between what begins and ends. One that can't be read is counted, not raised."""
        out: list[Part] = []
        row: list[_Image] = []
        for message in messages:
            try:
                found = self._one(message)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, ZeroDivisionError) as e:
                self.broken += 1
                self.why = str(e) if isinstance(e, ValueError) else f"a message of the stream lacks {e}"
                continue
            match found:
                case None:
                    continue
                case _Image():
                    if found.series != self._series:  # its header went to somebody else, or was lost
                        out += _chunk(row)
                        out.append(SeriesBegins(found.series, {}))
                        self._series = found.series
                    if row and _shape(row[-1]) != _shape(found):
                        out += _chunk(row)
                    row.append(found)
                case SeriesBegins():
                    out += _chunk(row)
                    out.append(found)
                    self._series = found.series
                case SeriesEnds():
                    out += _chunk(row)
                    out.append(found)
        return out + _chunk(row)

    # -------------------------------------------------------------------------------- private

    def _one(self, message: Message) -> _Image | SeriesBegins | SeriesEnds | None:
        first = message.parts[0]
        if len(first) and first[0] != ord("{"):
            if self._await and len(message.parts) == 1 and first[0] >> 5 != 5:
                self._await -= 1  # the flatfield, mask or table after a v1 header
                return None
            return self._v2(message)
        return self._v1(message)

    def _v1(self, message: Message) -> _Image | SeriesBegins | SeriesEnds | None:
        head = json.loads(bytes(message.parts[0]))
        kind = str(head.get("htype", "")).partition("-")[0]
        if kind == "dimage":
            return self._image_v1(head, message)
        if kind == "dheader":
            rest = message.parts[1:]
            about = json.loads(bytes(rest[0])) if rest else {}
            detail = head.get("header_detail", "none")
            self._await = 0 if rest or detail == "none" else 7 if detail == "all" else 1
            self.channels = ()
            return SeriesBegins(int(head["series"]), about)
        if kind == "dseries_end":
            return SeriesEnds(int(head["series"]))
        if self._await:
            self._await -= 1
            return SeriesBegins(self._series or 0, head) if "count_time" in head and self._series is not None else None
        raise ValueError(f"a message of type {head.get('htype')!r} is not of stream v1; set `stream` to the other")

    def _image_v1(self, head: dict[str, Any], message: Message) -> _Image:
        if len(message.parts) < 4:
            raise ValueError(f"frame {head.get('frame')} has {len(message.parts)} parts instead of four")
        times = json.loads(bytes(message.parts[3]))
        start = int(times["start_time"])
        # real_time is what was counted; it may be shorter than the interval (a shutter within it).
        exposure = int(times.get("stop_time", start)) - start
        image = None
        if self.images:
            what = json.loads(bytes(message.parts[1]))
            image = unpack(message.parts[2], what["encoding"], _dtype(what["type"]), _sides(what["shape"]))
        return _Image(int(head["series"]), int(head["frame"]), start, max(exposure, 0), image, message.arrival)

    def _v2(self, message: Message) -> _Image | SeriesBegins | SeriesEnds | None:
        try:
            found = _cbor().loads(bytes(message.parts[0]))
        except _cbor().CBORDecodeError as error:
            raise ValueError(f"a message is neither of stream v1 nor of v2 ({error})") from None
        if not isinstance(found, dict):
            raise ValueError("a message is neither of stream v1 nor of v2")
        match found.get("type"):
            case "start":
                self.channels = tuple(found.get("channels", ()))
                return SeriesBegins(int(found["series_id"]), found)
            case "end":
                return SeriesEnds(int(found["series_id"]))
            case "image":
                start, stop = _ns(found["start_time"]), _ns(found["stop_time"])
                image = self._image_v2(found["data"]) if self.images else None
                return _Image(
                    int(found["series_id"]), int(found["image_id"]), start, max(stop - start, 0), image, message.arrival
                )
        return None

    def _image_v2(self, data: dict[str, Any]) -> NDArray[Any]:
        name = self.channel or next(iter(data))
        if name not in data:
            raise ValueError(f"images have the channels {', '.join(data)}, and not {name!r}; check `threshold`")
        shape, typed = data[name].value
        dtype = np.dtype(TYPED[typed.tag])
        content = typed.value
        how, packed = ("none", content) if isinstance(content, bytes) else (content.value[0], content.value[2])
        if dtype.byteorder == ">":
            raise ValueError("images with the high byte first are not supported")
        return unpack(packed, how, dtype, (int(shape[0]), int(shape[1])))


# ------------------------------------------------------------------------------------------ writing


class WriterV1:
    """Series as stream v1 sends them; for the emulator. Each method gives one or more messages."""

    def __init__(self, compression: str, detail: str) -> None:
        self.compression, self.detail = compression, detail

    def begin(self, series: int, about: dict[str, Any]) -> list[list[bytes]]:
        head = json.dumps({"htype": "dheader-1.0", "series": series, "header_detail": self.detail}).encode()
        return [[head]] if self.detail == "none" else [[head], [json.dumps(about).encode()]]

    def image(self, series: int, number: int, start: int, stop: int, image: NDArray[Any]) -> list[bytes]:
        """One frame; times in ns since the series began."""
        bits = 8 * image.itemsize
        encoding = {"lz4": "lz4<", "bslz4": f"bs{bits}-lz4<"}.get(self.compression, "<")
        pixels = pack(image, encoding if encoding != "<" else "none")
        shape = [image.shape[1], image.shape[0]]
        what = {
            "htype": "dimage_d-1.0",
            "shape": shape,
            "type": image.dtype.name,
            "encoding": encoding,
            "size": len(pixels),
        }
        times = {"htype": "dconfig-1.0", "start_time": start, "stop_time": stop, "real_time": stop - start}
        head = {"htype": "dimage-1.0", "series": series, "frame": number, "hash": hashlib.md5(pixels).hexdigest()}
        return [json.dumps(head).encode(), json.dumps(what).encode(), pixels, json.dumps(times).encode()]

    def end(self, series: int) -> list[bytes]:
        return [json.dumps({"htype": "dseries_end-1.0", "series": series}).encode()]


class WriterV2:
    """The same of stream v2."""

    TIME_BASE = 100_000_000
    """Ticks per second; the real ones' depends on the model."""

    def __init__(self, compression: str, detail: str) -> None:
        self.compression, self.detail = compression, detail
        self._unique = self._date = ""

    def begin(self, series: int, about: dict[str, Any]) -> list[list[bytes]]:
        cbor = _cbor()
        self._date = str(about["data_collection_date"])
        self._unique = f"emulated-{series}-{self._date}"
        size = (about["x_pixels_in_detector"], about["y_pixels_in_detector"])
        message = {
            "type": "start", "arm_date": cbor.CBORTag(0, self._date), "channels": ["threshold_1"],
            "count_time": about["count_time"], "frame_time": about["frame_time"],
            "image_dtype": f"uint{about['bit_depth_image']}", "image_size_x": size[0], "image_size_y": size[1],
            "detector_description": about["description"], "detector_serial_number": about["detector_number"],
            "number_of_images": about["nimages"] * about["ntrigger"], "series_id": series,
            "series_unique_id": self._unique, "threshold_energy": {"threshold_1": about["threshold_energy"]},
        }  # fmt: skip
        return [[cbor.dumps(message)]]

    def image(self, series: int, number: int, start: int, stop: int, image: NDArray[Any]) -> list[bytes]:
        cbor = _cbor()
        content: Any = pack(image, "none")
        if self.compression != "none":
            item = image.itemsize if self.compression == "bslz4" else 0
            content = cbor.CBORTag(56500, [self.compression, item, pack(image, self.compression)])
        tag = {1: 64, 2: 69, 4: 70}[image.itemsize]
        ratio = self.TIME_BASE
        begin, end = (round(t * ratio / 1e9) for t in (start, stop))
        return [
            cbor.dumps(
                {
                    "type": "image", "series_id": series, "series_unique_id": self._unique, "image_id": number,
                    "series_date": cbor.CBORTag(0, self._date), "start_time": [begin, ratio],
                    "stop_time": [end, ratio], "real_time": [end - begin, ratio],
                    "data": {"threshold_1": cbor.CBORTag(40, [list(image.shape), cbor.CBORTag(tag, content)])},
                }
            )
        ]  # fmt: skip

    def end(self, series: int) -> list[bytes]:
        return [_cbor().dumps({"type": "end", "series_id": series, "series_unique_id": self._unique})]


# ------------------------------------------------------------------------------------------ private


@cache
def _cbor() -> ModuleType:
    try:
        import cbor2
    except ImportError:
        raise ConfigError(
            "dectris: stream v2 needs the package cbor2; install insitu-hal[detectors], or set `stream = 1`"
        ) from None
    module: ModuleType = cbor2
    return module


def _ns(ratio: Sequence[int]) -> int:
    """Seconds as a ratio of integers, in ns."""
    return (int(ratio[0]) * 1_000_000_000 + int(ratio[1]) // 2) // int(ratio[1])


def _dtype(name: str) -> np.dtype[Any]:
    if name not in TYPES:
        raise ValueError(f"pixels of type {name!r} are not supported")
    return np.dtype(name)


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns; the stream names the columns first."""
    return int(shape[1]), int(shape[0])


def _shape(image: _Image) -> tuple[Any, ...]:
    return () if image.image is None else (image.image.shape, image.image.dtype)


def _chunk(row: list[_Image]) -> list[Part]:
    """The frames gathered in `row`, which is emptied."""
    if not row:
        return []
    images = [i.image for i in row if i.image is not None]
    stack = np.stack(images) if images else np.zeros((len(row), 0, 0), np.uint8)
    columns = np.array([(i.number, i.start, i.exposure, i.arrival) for i in row], np.int64)
    row.clear()
    number, start, exposure, arrival = (np.ascontiguousarray(c) for c in columns.T)
    return [FrameChunk.raw(stack, number, start, exposure, arrival)]
