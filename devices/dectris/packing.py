"""Compressed images: LZ4 and bitshuffle + LZ4, as DECTRIS detectors send them.

Framing: "LZ4 (HDF5)" of HDFGroup/hdf5_plugins LZ4/LZ4_HDF5_format.md; bitshuffle's of kiyo-masui/bitshuffle
src/bshuf_h5filter.c, both named by dectris/documentation cbor/dectris-compression-tag.md. Stream v1 sends bare
LZ4 blocks and framed bitshuffle (areaDetector ADEiger, streamApi.cpp, uncompress()). Checked against
dectris-compression 0.4 and libertem-dectris 0.3, see docs/reference/frame-sources.md.
"""

from __future__ import annotations

import struct
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.errors import ConfigError

Buffer = bytes | memoryview
Bytes = NDArray[np.uint8]

BLOCK = 8192
"""Bytes of a block of bitshuffle, unless the sender says otherwise."""
LARGEST = 1 << 30
"""Bytes beyond which an image's size is taken for noise."""


@cache
def _lz4() -> ModuleType:
    try:
        import lz4.block
    except ImportError:
        raise ConfigError(
            "dectris: compressed images need the package lz4; install insitu-hal[detectors], "
            'or set `compression = "none"`'
        ) from None
    block: ModuleType = lz4.block
    return block


@cache
def _vendor() -> Any:
    """DECTRIS's own decompressor, where somebody has built it: several times faster than numpy."""
    try:
        from dectris.compression import decompress
    except ImportError:
        return None
    return decompress


def unpack(data: Buffer, how: str, dtype: np.dtype[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The image in this machine's byte order, from stream v1's ``how`` ("<", "lz4<", "bs16-lz4<") or v2's name.

    ValueError for one that does not unpack to this shape.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    if how in ("<", "none", ""):
        raw: Buffer = data
    elif how == "lz4<":
        raw = _block(data, size)
    elif how == "lz4":
        raw = unlz4(data)
    elif how == "bslz4" or (how.startswith("bs") and how.endswith("-lz4<")):
        vendor = _vendor()
        # It takes the size that the data claim for granted.
        if vendor is not None and _header(data)[0] == size:
            raw = vendor(bytes(data), "bslz4", elem_size=dtype.itemsize)
        else:
            raw = unbslz4(data, dtype.itemsize, size)
    else:
        raise ValueError(f'images compressed by {how!r} are not supported; set `compression = "bslz4"`')
    if len(raw) != size:
        raise ValueError(f"an image of {len(raw)} bytes does not fill {shape[0]} x {shape[1]} {dtype.name}")
    image = np.frombuffer(raw, dtype.newbyteorder("<"))
    return image.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def pack(image: NDArray[Any], how: str) -> bytes:
    """What `unpack` undoes; for the emulator."""
    raw = np.ascontiguousarray(image.astype(image.dtype.newbyteorder("<"), copy=False))
    if how in ("<", "none", ""):
        return raw.tobytes()
    if how == "lz4<":
        packed: bytes = _lz4().compress(raw.tobytes(), store_size=False)
        return packed
    if how == "lz4":
        packed = _lz4().compress(raw.tobytes(), store_size=False)
        stored = packed if len(packed) < raw.nbytes else raw.tobytes()
        return struct.pack(">qii", raw.nbytes, raw.nbytes, len(stored)) + stored
    return bslz4(raw.tobytes(), raw.itemsize)


def unlz4(data: Buffer) -> bytes:
    """HDF5's framing of LZ4. ValueError for a broken one."""
    size, block, at = _header(data)
    out = []
    left = size
    while left > 0:
        whole = min(block, left)
        piece, at = _piece(data, at)
        out.append(bytes(piece) if len(piece) == whole else _block(piece, whole))
        left -= whole
    return b"".join(out)


def unbslz4(data: Buffer, item: int, expected: int = 0) -> bytes:
    """HDF5's framing of bitshuffled blocks, each compressed by LZ4. ValueError for a broken one.

    A header of zeros (libertem-live's mock) leaves size and block to what is `expected` and usual.
    """
    size, block, at = _header(data)
    size, block = size or expected, block or BLOCK
    if size % item or block % (8 * item):
        raise ValueError(f"a bitshuffled image of {size} bytes in blocks of {block} does not hold pixels of {item}")
    whole, rest = divmod(size, block)
    last = rest - rest % (8 * item)
    shuffled = []
    for length in (*[block] * whole, *([last] if last else ())):
        piece, at = _piece(data, at)
        shuffled.append(_block(piece, length))
    out = []
    if whole:
        rows = np.frombuffer(b"".join(shuffled[:whole]), np.uint8)
        out.append(_unshuffle(rows.reshape(whole, 8 * item, -1)).tobytes())
    if last:
        out.append(_unshuffle(np.frombuffer(shuffled[-1], np.uint8).reshape(1, 8 * item, -1)).tobytes())
    if rest - last:  # fewer than eight pixels are left as they are
        out.append(bytes(data[at : at + rest - last]))
    return b"".join(out)


def bslz4(raw: bytes, item: int) -> bytes:
    """The same the other way."""
    compress = _lz4().compress
    whole, rest = divmod(len(raw), BLOCK)
    last = rest - rest % (8 * item)
    out = [struct.pack(">qi", len(raw), BLOCK)]
    pixels = np.frombuffer(raw, np.uint8)
    blocks: list[Bytes] = []
    if whole:
        blocks += list(_shuffle(pixels[: whole * BLOCK].reshape(whole, -1, item)))
    if last:
        blocks += list(_shuffle(pixels[whole * BLOCK : whole * BLOCK + last].reshape(1, -1, item)))
    for shuffled in blocks:
        packed = compress(shuffled.tobytes(), store_size=False)
        out += [struct.pack(">i", len(packed)), packed]
    out.append(raw[whole * BLOCK + last :])
    return b"".join(out)


# ------------------------------------------------------------------------------------------ private


def _unshuffle(rows: Bytes) -> Bytes:
    """(blocks, bits of a pixel, pixels / 8) to (blocks, pixels, bytes of a pixel)."""
    blocks, bits, eighths = rows.shape
    item = bits // 8
    matrices = np.array(rows.reshape(blocks, item, 8, eighths).transpose(0, 1, 3, 2), order="C")
    pixels = _transposed(matrices).reshape(blocks, item, eighths * 8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 1))


def _shuffle(pixels: Bytes) -> Bytes:
    """(blocks, pixels, bytes of a pixel) to (blocks, bits of a pixel, pixels / 8)."""
    blocks, count, item = pixels.shape
    matrices = np.array(pixels.transpose(0, 2, 1), order="C").reshape(blocks, item, count // 8, 8)
    rows = _transposed(matrices).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(rows).reshape(blocks, item * 8, count // 8)


def _transposed(matrices: Bytes) -> Bytes:
    """Each 8 bytes are an 8 x 8 matrix of bits: transposed in place (H. S. Warren, Hacker's Delight, 7-3)."""
    x = matrices.view("<u8")
    moved = np.empty_like(x)
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        by = np.uint64(shift)
        np.right_shift(x, by, out=moved)
        moved ^= x
        moved &= np.uint64(mask)
        x ^= moved
        moved <<= by
        x ^= moved
    return matrices


def _header(data: Buffer) -> tuple[int, int, int]:
    if len(data) < 12:
        raise ValueError("a compressed image ends within its header")
    size, block = struct.unpack_from(">qi", data)
    if not 0 <= size <= LARGEST or not 0 <= block <= LARGEST or (size and not block):
        raise ValueError(f"a compressed image that claims {size} bytes in blocks of {block}")
    return size, block, 12


def _piece(data: Buffer, at: int) -> tuple[Buffer, int]:
    if at + 4 > len(data):
        raise ValueError("a compressed image ends too early")
    (length,) = struct.unpack_from(">i", data, at)
    if length < 0 or at + 4 + length > len(data):
        raise ValueError("a compressed image ends too early")
    return data[at + 4 : at + 4 + length], at + 4 + length


def _block(data: Buffer, size: int) -> bytes:
    lz4 = _lz4()
    try:
        raw: bytes = lz4.decompress(bytes(data), uncompressed_size=size)
    except (lz4.LZ4BlockError, ValueError) as error:
        raise ValueError(f"a compressed image can't be unpacked: {error}") from None
    if len(raw) != size:
        raise ValueError(f"a compressed block has {len(raw)} bytes instead of {size}")
    return raw
