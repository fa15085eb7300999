"""The firmware's wire: how fast samples are taken in, and what a command costs.

- samples: the bytes of a stream of 8 inputs, in the 4 kB pieces a pty hands over, to arrays of ticks and
  values (ours: unstuffed, checked, stamped). Beside it `struct.iter_unpack` over the bare counts, which
  neither unstuffs nor checks nor stamps; and the same after our unframing.
- commands: STATUS over the emulated board, through driver and session, beside blocking pyserial (a blocking
  socket for the board in QEMU) that sends one ready-made message and waits for one zero byte, on the same wire;
  and the same with four under way, as many as the board takes: what a session that waits for each answer gives up.
- time: what an exchange of time costs the program (processor time, not the waiting), and so the bursts.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
import time
from collections.abc import Callable

import numpy as np
from _measure import OURS, Figure, Work, arguments, finish, header, measure

from devices.insitu_mcu.driver import InsituMcu
from devices.insitu_mcu.emulator import EmulatedBoard
from devices.insitu_mcu.timing import APART, BURST, PAUSE
from devices.physics import World
from hal.instrument.bench import Bench
from hal.model.context import Context
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen
from hal.runtime.wiring import make_link
from hal.transport.session import Session

BLOCKS, INSTANTS, INPUTS, PIECE = 2000, 13, 8, 4096
PER_SECOND = BURST / (sum(PAUSE) / 2 + BURST * APART)
"""Exchanges of time."""
SAMPLES = BLOCKS * INSTANTS * INPUTS
WANTED = 1_000_000
"""Samples a second that one core must take in."""


def stream(largest: int) -> tuple[list[bytes], bytes]:
    """A stream as it arrives, in pieces, of values up to `largest`; and its bare counts."""
    rng = np.random.default_rng(1)
    frames, bare = [], []
    for number in range(BLOCKS):
        counts = rng.integers(-largest, largest + 1, INSTANTS * INPUTS).astype("<i2").tobytes()
        block = gen.Samples(number, 10**10 + number * INSTANTS * 400, 400, 0xFF, 0, gen.SampleFlag(0), counts)
        frames.append(firmware.frame(bytes((0x10, gen.Samples.TYPE, number & 0xFF, 0)) + block.pack()))
        bare.append(counts)
    wire = b"".join(frames)
    return [wire[at : at + PIECE] for at in range(0, len(wire), PIECE)], b"".join(bare)


def takes_in(pieces: list[bytes]) -> Work:
    """Ours, seconds a sample."""

    def work(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            got = [0]
            sorter = firmware.Sorter(now=time.time_ns, samples=lambda chunk, got=got: got.append(chunk.counts.size))
            for piece in pieces:
                sorter.feed(piece)
            assert sum(got) == SAMPLES
        return (time.perf_counter() - begun) / SAMPLES

    return work


def unpacks(bare: bytes) -> Work:
    """One Python object a sample, of bytes that need no unframing."""

    def work(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            values = [value for instant in struct.iter_unpack("<8h", bare) for value in instant]
            assert len(values) == SAMPLES
        return (time.perf_counter() - begun) / SAMPLES

    return work


def unframes_and_unpacks(pieces: list[bytes]) -> Work:
    """One Python object a sample, of the same bytes as ours, without ticks."""

    def work(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            framing, values = firmware.FirmwareFraming(), []
            for piece in pieces:
                for message in framing.feed(piece):
                    values += [v for instant in struct.iter_unpack("<8h", message[28:]) for v in instant]
            assert len(values) == SAMPLES
        return (time.perf_counter() - begun) / SAMPLES

    return work


def asks(url: str) -> Work:
    """STATUS through driver and session; connecting is not counted."""

    async def work(count: int) -> float:
        context = Context()
        session = Session(
            make_link(url, InsituMcu), InsituMcu.framing("serial"), timebase=context.timebase, gate=context.gate
        )
        device = InsituMcu(session, "board", context=context)
        await device.connect()
        assert device._timing is not None
        device._timing.cancel()  # nobody else on the wire
        begun = time.perf_counter()
        for _ in range(count):
            await device.status()
        took = time.perf_counter() - begun
        await device.disconnect()
        return took

    return work


def asks_raw(url: str, ahead: int = 1) -> Work:
    """The same messages, ready-made, `ahead` under way, and no look at the replies but for their ends."""
    messages = b"".join(firmware.frame(firmware.command(gen.Status(), number)) for number in range(ahead))

    async def work(count: int) -> float:
        await asyncio.sleep(0.02)  # the one before us hangs up
        send, receive, close = _raw(url)
        begun = time.perf_counter()
        for _ in range(0, count, ahead):
            send(messages)
            ends = 0
            while ends < ahead:
                ends += receive().count(0)
        took = time.perf_counter() - begun
        close()
        return took

    return work


async def exchanges(url: str) -> float:
    """Processor seconds of an exchange of time, of a clock that has hundreds of them behind it."""
    context = Context()
    session = Session(
        make_link(url, InsituMcu), InsituMcu.framing("serial"), timebase=context.timebase, gate=context.gate
    )
    device = InsituMcu(session, "board", context=context)
    await device.connect()
    assert device._timing is not None
    device._timing.cancel()
    for _ in range(500):
        await device.exchange_time()
    begun = time.process_time()
    for _ in range(1000):
        await device.exchange_time()
    took = time.process_time() - begun
    await device.disconnect()
    return took / 1000


def _raw(url: str) -> tuple[Callable[[bytes], object], Callable[[], bytes], Callable[[], object]]:
    if url.startswith("tcp:"):
        host, _, port = url.removeprefix("tcp://").partition(":")
        wire = socket.create_connection((host, int(port)))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire.sendall, lambda: wire.recv(4096), wire.close
    import serial

    port_ = serial.Serial(url.removeprefix("serial://"), 921600, timeout=1.0)
    return port_.write, lambda: port_.read(max(1, port_.in_waiting)), port_.close


async def main() -> None:
    options = arguments(__doc__, rounds=15)
    header("The firmware's wire", ("numpy", "pyserial"))
    figures = []
    for what, largest in (("a sample, all bits used", 32767), ("a sample, small values", 50)):
        pieces, bare = stream(largest)
        contestants = {
            OURS: takes_in(pieces),
            "struct.iter_unpack, bare counts": unpacks(bare),
            "unframed, then struct.iter_unpack": unframes_and_unpacks(pieces),
        }
        figure = Figure(what, contestants, goal={"unframed, then struct.iter_unpack": 1.0}, fixed=2)
        figures.append(await measure(figure, rounds=options.rounds, slice_=options.slice))
        rate = 1 / sorted(figure.seconds[OURS])[len(figure.seconds[OURS]) // 2]
        size = sum(map(len, pieces)) * rate / SAMPLES
        print(f"{'':34}{rate / 1e6:.1f} million samples/s, {size / 1e6:.0f} MB/s on one core; wanted {WANTED / 1e6:g}")
        if rate < WANTED and options.check:
            raise SystemExit(1)
    boards = ["posix"] + (["mps2"] if shutil.which("qemu-system-arm") else [])
    for kind in boards:
        board = await EmulatedBoard(kind, Bench(World())).open()
        if board._pump is not None:
            board._pump.cancel()  # the world stands still: what is measured is the wire
        raw = "pyserial" if kind == "posix" else "blocking socket"
        contestants = {OURS: asks(board.url), raw: asks_raw(board.url), "4 under way": asks_raw(board.url, 4)}
        figure = Figure(f"STATUS, {board.kind} board", contestants)
        figures.append(await measure(figure, rounds=options.rounds, slice_=options.slice))
        cost = await exchanges(board.url)
        share = cost * PER_SECOND
        print(f"{'':34}an exchange of time takes {cost * 1e6:.0f} us of a core; the bursts {share:.2%} of it")
        board._pump = None
        await board.close()
    finish(figures, check=options.check)


if __name__ == "__main__":
    asyncio.run(main())
