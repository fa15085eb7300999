"""The core as a program: the host board over TCP and a pseudo-terminal. Real clock, generous times."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from binascii import crc_hqx
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stepped import BUILT, HOLDER, REFERENCE_COUNTS, eeprom, make

from devices.insitu_mcu.interlocks import Interlocks
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen

pytestmark = [pytest.mark.real_clock, pytest.mark.patient]
PATIENCE = 60.0
"""s, for what the machine has to come round to."""
HEATER, PASSES, HANG, ADC = 0x10, 0x08, 0x48, 0x80
"""Offsets in the page of the world (firmware/boards/mps2/world.h)."""


class Process:
    """A host board and a host's bare hands."""

    def __init__(self, folder: Path, *args: str) -> None:
        make("posix")
        self.world = folder / "world"
        self.process = subprocess.Popen(
            [str(BUILT / "insitu-mcu"), "--tcp", "0", "--world", str(self.world), *args],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline().split()[-1])
        self.connect()
        self.sequence = self.beats = 0
        self.poke(ADC, counts_for_room())
        self.poke(ADC + 4, REFERENCE_COUNTS)

    def connect(self) -> None:
        self.line = socket.create_connection(("127.0.0.1", self.port), 5)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.framing = firmware.FirmwareFraming()
        self.others: list[gen.Incoming] = []

    def peek(self, offset: int) -> int:
        with open(self.world, "rb") as file:
            file.seek(offset)
            return int(struct.unpack("<I", file.read(4))[0])

    def poke(self, offset: int, value: int) -> None:
        with open(self.world, "r+b") as file:
            file.seek(offset)
            file.write(struct.pack("<I", value))

    def messages(self, seconds: float) -> Iterator[bytes]:
        self.line.settimeout(seconds)
        try:
            yield from self.framing.feed(self.line.recv(65536))
        except TimeoutError:
            return

    def ask(self, request, channel: int = 0):
        self.sequence = (self.sequence + 1) & 0xFF
        message = firmware.command(request, self.sequence, channel)
        self.line.sendall(firmware.frame(message))
        fits, until = firmware.reply_to(message), time.monotonic() + PATIENCE
        while time.monotonic() < until:
            got = list(self.messages(1))
            self.others += [firmware.parse(other) for other in got if not fits(other)]
            for reply in filter(fits, got):
                return firmware.parse(reply)
        raise AssertionError(f"no reply to {request}")

    def beat(self):
        self.beats += 1
        return self.ask(gen.Heartbeat(9, self.beats))

    def holder(self) -> int:
        return self.ask(gen.TedsRead(0, 0)).holder

    def heat(self) -> None:
        """The heater on. Again, where the machine took so long over it that the lease ran out."""
        self.ask(gen.Hello(9, gen.SCHEMA))
        while self.peek(HEATER) != 5000:
            status = self.ask(gen.Status())
            if status.state is gen.State.FAULT:
                assert status.fault in (gen.Fault.LEASE, gen.Fault.CONTROL_LATE)
                self.ask(gen.ClearFault(status.fault))
            self.ask(gen.Arm(self.beat().nonce, Interlocks().checksum, self.holder()))
            self.ask(gen.HeaterOutput(5000))
            time.sleep(0.01)

    def close(self) -> None:
        self.line.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def counts_for_room() -> int:
    return round((296.15 - 273.15 + 500.0) * REFERENCE_COUNTS / 1000.0)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "never"
        time.sleep(0.005)


@contextmanager
def running(folder: Path, *args: str) -> Iterator[Process]:
    board = Process(folder, *args)
    try:
        yield board
    finally:
        board.close()


def test_it_says_hello_and_keeps_time(tmp_path):
    with running(tmp_path, "--start", str((1 << 32) - 200_000), "--ppm", "200000") as board:
        assert board.ask(gen.Hello(9, gen.SCHEMA)).board.rstrip(b"\0") == b"posix"

        asked, first, told = time.monotonic(), board.ask(gen.Time(0, 0)).sent, time.monotonic()
        time.sleep(0.3)
        asked_again, last, told_again = time.monotonic(), board.ask(gen.Time(0, 0)).sent, time.monotonic()
        assert last > 1 << 32
        assert (asked_again - told) * 1.2 <= (last - first) / 1e6 <= (told_again - asked) * 1.2


def test_20_000_samples_a_second_are_accounted_for(tmp_path):
    with running(tmp_path) as board:
        board.ask(gen.Hello(9, gen.SCHEMA))
        board.ask(gen.SamplesStart(0xFF, 400, 1_000_000))
        end = time.monotonic() + 2
        while time.monotonic() < end:
            board.others += [firmware.parse(message) for message in board.messages(0.1)]
        board.ask(gen.StreamStop(gen.Stream.SAMPLES))

        def received() -> int:
            return sum(len(block.counts) // 2 for block in board.others if isinstance(block, gen.Samples))

        counters = board.ask(gen.Counters())
        until(lambda: received() + board.ask(gen.Counters()).samples_dropped >= counters.samples)
        assert received() + board.ask(gen.Counters()).samples_dropped == board.ask(gen.Counters()).samples
        blocks = [block for block in board.others if isinstance(block, gen.Samples)]
        assert counters.samples + counters.samples_missed > 2 * 20_000 * 0.9
        assert [block.number for block in blocks] == list(range(len(blocks)))


def test_with_the_host_killed_the_heater_goes_off(tmp_path):
    (tmp_path / "eeprom").write_bytes(eeprom())
    with running(tmp_path, "--eeprom", str(tmp_path / "eeprom")) as board:
        until(lambda: board.ask(gen.Status()).temperature > 0)
        board.heat()
        board.line.close()  # the cable is pulled
        until(lambda: board.peek(HEATER) == 0)
        board.connect()
        assert board.ask(gen.Status()).fault is gen.Fault.LEASE


def test_teds_outlive_the_power(tmp_path):
    path = tmp_path / "eeprom"
    with running(tmp_path, "--eeprom", str(path)) as board:
        assert board.ask(gen.Hello(9, gen.SCHEMA)).teds is gen.TedsState.BLANK
        for at in (0, 128):
            board.ask(gen.TedsWrite(at, eeprom()[at : at + 128]))
        board.ask(gen.TedsCommit(crc_hqx(eeprom(), 0xFFFF), board.holder()))
        until(lambda: board.ask(gen.Status()).teds is gen.TedsState.VALID)
    with running(tmp_path, "--eeprom", str(path)) as board:
        assert board.ask(gen.Hello(9, gen.SCHEMA)).teds is gen.TedsState.VALID
        assert gen.Teds.unpack(board.ask(gen.TedsRead(0, gen.Teds.SIZE)).content).nominal == HOLDER.nominal


@pytest.mark.parametrize("hang", [1, 2])
def test_a_program_that_hangs_is_ended_by_its_watchdog_with_everything_off(tmp_path, hang):
    with running(tmp_path) as board:
        board.heat()
        board.poke(HANG, hang)
        assert board.process.wait(PATIENCE) == 3
        assert board.peek(HEATER) == 0


def test_ended_it_leaves_everything_off(tmp_path):
    with running(tmp_path) as board:
        board.heat()
        board.process.send_signal(signal.SIGTERM)
        assert board.process.wait(PATIENCE) == 0
        assert board.peek(HEATER) == 0


def test_over_a_pseudo_terminal_hosts_come_and_go(tmp_path):
    make("posix")
    with subprocess.Popen(
        [BUILT / "insitu-mcu", "--pty", "--link", str(tmp_path / "tty")], stdout=subprocess.PIPE
    ) as board:
        try:
            assert board.stdout
            assert board.stdout.readline().startswith(b"ready pty /dev/")
            for _ in range(2):
                line = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY)
                message = firmware.command(gen.Status(), 5)
                os.write(line, firmware.frame(message))
                framing, found = firmware.FirmwareFraming(), []
                while not found:
                    found = [m for m in framing.feed(os.read(line, 4096)) if firmware.reply_to(message)(m)]
                assert isinstance(firmware.parse(found[0]), gen.StatusReply)
                os.close(line)
        finally:
            board.kill()


@pytest.mark.parametrize("arguments", [[], ["--pty", "--tcp", "0"], ["--tcp"], ["--what", "1"], ["--tcp", "70000"]])
def test_wrong_arguments_are_told(arguments):
    make("posix")
    run = subprocess.run([BUILT / "insitu-mcu", *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "usage" in run.stderr
