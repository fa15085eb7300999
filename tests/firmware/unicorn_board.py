"""The STM32F405 image on an emulated Cortex-M4 with a stepped clock: every run of the same test is the same run.

Unicorn executes the instructions; the interrupt controller, the clock and the peripherals
(stm32_parts.py) are here, in Python. 168 instructions pass for a microsecond, and a processor that
waits for an interrupt skips to it. Time of an interrupt's register access is therefore right to a
microsecond, that of the main loop's to AT_ONCE, and nothing depends on the machine the test runs on.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable
from pathlib import Path

from elftools.elf.elffile import ELFFile
from unicorn import UC_ARCH_ARM, UC_HOOK_CODE, UC_MODE_MCLASS, UC_MODE_THUMB, Uc, UcError
from unicorn.arm_const import (
    UC_ARM_REG_APSR,
    UC_ARM_REG_BASEPRI,
    UC_ARM_REG_FPSCR,
    UC_ARM_REG_IPSR,
    UC_ARM_REG_LR,
    UC_ARM_REG_PC,
    UC_ARM_REG_PRIMASK,
    UC_ARM_REG_R0,
    UC_ARM_REG_R1,
    UC_ARM_REG_R2,
    UC_ARM_REG_R3,
    UC_ARM_REG_R12,
    UC_ARM_REG_S0,
    UC_ARM_REG_SP,
    UC_ARM_REG_XPSR,
    UC_CPU_ARM_CORTEX_M4,
)

INSTRUCTIONS = 168  # in a microsecond: 168 MHz, one each cycle
AT_ONCE = 8  # us that the main loop runs without a look at the clock, where nothing else is to happen meanwhile
_FLASH, _RAM = 0x0800_0000, 0x2000_0000
_STACKED = [UC_ARM_REG_R0, UC_ARM_REG_R1, UC_ARM_REG_R2, UC_ARM_REG_R3, UC_ARM_REG_R12, UC_ARM_REG_LR]
_FLOATS = [UC_ARM_REG_S0 + n for n in range(16)] + [UC_ARM_REG_FPSCR]
_RETURN = 0xFFFF_FFE0
_WFI, _CPSIE = 0xBF30, 0xB662
_THREAD = 0x100  # a priority below every exception's


class Clock:
    """Microseconds since power-on, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, time: int, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (max(time, self.now), self._order, what))

    def after(self, delay: int, what: Callable[[], None]) -> None:
        self.at(self.now + delay, what)

    @property
    def next(self) -> int | None:
        return self._events[0][0] if self._events else None

    def run_due(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()

    def clear(self) -> None:
        self._events.clear()


class Nvic:
    """Pending, enabled, priorities: what an exception needs, and no more (RM0090 names the interrupts)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.pending: set[int] = set()
        self.enabled: set[int] = set()
        self.priority = [0] * 256
        self.active: list[int] = []
        self.levels: dict[int, Callable[[], bool]] = {}  # interrupt: is its line still high?
        self.group = 0xFF  # bits of a priority that say who may interrupt; the others only who comes first
        self.reset_asked = False

    def read(self, offset: int, size: int) -> int:
        if 0x400 <= offset < 0x4F0:
            return sum(self.priority[offset - 0x400 + n] << 8 * n for n in range(size))
        if offset == 0xD04:
            return self.active[-1] if self.active else 0
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if 0x400 <= offset < 0x4F0:
            for n in range(size):
                self.priority[offset - 0x400 + n] = value >> 8 * n & 0xF0
        elif 0x100 <= offset < 0x120:
            self.enabled |= self._bits(offset - 0x100, value)
        elif 0x180 <= offset < 0x1A0:
            self.enabled -= self._bits(offset - 0x180, value)
        elif 0x200 <= offset < 0x220:
            self.pending |= self._bits(offset - 0x200, value)
        elif 0x280 <= offset < 0x2A0:
            self.pending -= self._bits(offset - 0x280, value)
        elif offset == 0xD0C and value >> 16 == 0x05FA:
            self.group = 0xFE << (value >> 8 & 7) & 0xFF
            self.reset_asked = bool(value & 4)

    @staticmethod
    def _bits(offset: int, value: int) -> set[int]:
        return {8 * offset + bit for bit in range(32) if value >> bit & 1}

    def waiting(self) -> int | None:
        """The interrupt that would be taken next, whatever is running."""
        for irq, high in self.levels.items():
            if irq in self.enabled and high() and 16 + irq not in self.active:
                self.pending.add(irq)
        if not self.pending:
            return None
        ready = self.pending & self.enabled
        return min(ready, key=lambda irq: (self.priority[irq], irq)) if ready else None

    def running_priority(self) -> int:
        return min((self.priority[exception - 16] & self.group for exception in self.active), default=_THREAD)


class UnicornBoard:
    """Processor and memory. `parts(board)` attaches the peripherals: objects with read, write and reset."""

    def __init__(self, image: Path, *, slice_us: int = 1) -> None:
        self.clock, self.nvic = Clock(), Nvic()
        self.slice = slice_us
        self.uc = uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M4)
        uc.mem_map(_FLASH, 1 << 20)
        uc.mem_map(_RAM, 128 << 10)
        self.symbols: dict[str, int] = {}
        with image.open("rb") as opened:
            elf = ELFFile(opened)
            for segment in elf.iter_segments("PT_LOAD"):
                if segment["p_filesz"]:
                    uc.mem_write(segment["p_paddr"], segment.data())
            table = elf.get_section_by_name(".symtab")
            if table is not None:
                self.symbols = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
        # Unicorn does not wake from WFI: stop in front of each, and skip it when there is something to wake for.
        # Where interrupts are unmasked one may be waiting: look, lest they are masked again within the slice.
        code = struct.unpack("<65536H", uc.mem_read(_FLASH, 1 << 17))
        for index, half in enumerate(code):
            here = _FLASH + 2 * index
            if half == _WFI:
                uc.hook_add(UC_HOOK_CODE, lambda uc, *_: uc.emu_stop(), None, here, here)
            elif half == _CPSIE:
                uc.hook_add(UC_HOOK_CODE, self._unmasked, None, here + 2, here + 2)
            elif half & 0xFFF0 == 0xF380 and code[index + 1] in (0x8810, 0x8811):  # MSR PRIMASK, BASEPRI
                uc.hook_add(UC_HOOK_CODE, self._unmasked, None, here + 4, here + 4)
        self.parts: dict[int, Part] = {}  # by the upper 22 bits of the address
        self.unknown: dict[int, int] = {}  # registers without a part: plain memory
        for start, size in ((0x4000_0000, 0x8_0000), (0x5000_0000, 0x8_0000)):
            uc.mmio_map(start, size, self._read, start, self._write, start)
        uc.mmio_map(
            0xE000_E000, 0x1000,
            lambda uc, offset, size, data: self.nvic.read(offset, size), None,
            lambda uc, offset, size, value, data: self.nvic.write(offset, size, value), None,
        )  # fmt: skip
        self._floats: list[tuple[int, ...]] = []
        self.pc = 0
        self.boots = self.started_at = 0

    def attach(self, address: int, part: Part) -> None:
        self.parts[address >> 10] = part

    def reset(self) -> None:
        """What every reset does; RAM stays."""
        self.clock.clear()
        self.nvic.reset()
        self.unknown.clear()
        for part in self.parts.values():
            part.reset()
        self._floats.clear()
        stack, entry = struct.unpack("<II", self.uc.mem_read(_FLASH, 8))
        self.uc.reg_write(UC_ARM_REG_IPSR, 0)
        self.uc.reg_write(UC_ARM_REG_PRIMASK, 0)
        self.uc.reg_write(UC_ARM_REG_BASEPRI, 0)
        self.uc.reg_write(UC_ARM_REG_SP, stack)
        self.pc = entry & ~1
        self.boots += 1
        self.started_at = self.clock.now

    def run(self, us: int) -> None:
        self.run_until(lambda: False, us, raises=False)

    def run_until(self, done: Callable[[], object], limit_us: int, raises: bool = True) -> None:
        """Runs until `done()`, asked after each slice; at most `limit_us` of device time."""
        clock, end = self.clock, self.clock.now + limit_us
        while not done():
            if clock.now >= end:
                if raises:
                    raise TimeoutError(f"not within {limit_us} us of device time")
                return
            self._step(end)

    def _step(self, end: int) -> None:
        clock = self.clock
        clock.run_due()
        if self.nvic.reset_asked:
            self.nvic.reset_asked = False
            self.software_reset()
            return
        waits = self._take_interrupt()
        uc = self.uc
        until = end if clock.next is None else min(end, clock.next)
        length = self.slice if waits or self.nvic.active else max(self.slice, AT_ONCE)
        length = min(length, until - clock.now)
        try:
            uc.emu_start(self.pc | 1, 0, count=INSTRUCTIONS * length)
            self.pc = uc.reg_read(UC_ARM_REG_PC) & ~1
        except UcError as error:
            self.pc = uc.reg_read(UC_ARM_REG_PC)
            if self.pc & _RETURN != _RETURN:
                raise RuntimeError(f"{error} at {self.pc:#x} ({self.where()})") from None
        clock.now += length
        if self.pc & _RETURN == _RETURN:
            self._leave()
        elif uc.mem_read(self.pc, 2) == b"\x30\xbf":
            self._sleep(end)

    def _unmasked(self, uc: Uc, address: int, size: int, data: object) -> None:
        irq = self.nvic.waiting()
        if irq is not None and self._may_interrupt(irq):
            uc.emu_stop()

    def _may_interrupt(self, irq: int) -> bool:
        group = self.nvic.group
        priority, mask = self.nvic.priority[irq] & group, self.uc.reg_read(UC_ARM_REG_BASEPRI) & group
        return (
            not self.uc.reg_read(UC_ARM_REG_PRIMASK) & 1
            and priority < self.nvic.running_priority()
            and not (mask and priority >= mask)
        )

    def _sleep(self, end: int) -> None:
        clock, boots = self.clock, self.boots
        while True:
            clock.run_due()
            if self.boots != boots:
                return
            if self.nvic.waiting() is not None or self.nvic.reset_asked:
                self.pc += 2
                return
            if clock.next is None or clock.next > end:
                clock.now = end
                return
            clock.now = clock.next

    def _take_interrupt(self) -> bool:
        """Enter the interrupt that is due; whether there is one that can't be entered yet."""
        uc, nvic = self.uc, self.nvic
        irq = nvic.waiting()
        if irq is None:
            return False
        if not self._may_interrupt(irq):
            return True
        nvic.pending.discard(irq)
        stack = uc.reg_read(UC_ARM_REG_SP)
        padded = stack & 4
        frame = stack - padded - 32
        words = list(uc.reg_read_batch(_STACKED))
        words += [self.pc, uc.reg_read(UC_ARM_REG_XPSR) & ~0x3FF | (0x200 if padded else 0)]
        words[-1] |= nvic.active[-1] if nvic.active else 0
        uc.mem_write(frame, struct.pack("<8I", *(word & 0xFFFF_FFFF for word in words)))
        self._floats.append(uc.reg_read_batch(_FLOATS))
        uc.reg_write(UC_ARM_REG_SP, frame)
        uc.reg_write(UC_ARM_REG_LR, 0xFFFF_FFF1 if nvic.active else 0xFFFF_FFF9)
        nvic.active.append(16 + irq)
        uc.reg_write(UC_ARM_REG_IPSR, 16 + irq)
        self.pc = struct.unpack("<I", uc.mem_read(_FLASH + 4 * (16 + irq), 4))[0] & ~1
        return False

    def _leave(self) -> None:
        uc, nvic = self.uc, self.nvic
        frame = uc.reg_read(UC_ARM_REG_SP)
        words = struct.unpack("<8I", uc.mem_read(frame, 32))
        nvic.active.pop()
        uc.reg_write_batch(list(zip(_STACKED, words[:6], strict=True)))
        uc.reg_write_batch(list(zip(_FLOATS, self._floats.pop(), strict=True)))
        uc.reg_write(UC_ARM_REG_SP, frame + 32 + (4 if words[7] & 0x200 else 0))
        uc.reg_write(UC_ARM_REG_IPSR, nvic.active[-1] if nvic.active else 0)
        uc.reg_write(UC_ARM_REG_APSR, words[7] & 0xF80F_0000)
        self.pc = words[6] & ~1

    def software_reset(self) -> None:
        self.reset()

    def hang(self) -> None:
        """The processor runs, to no end: as after a wild jump, interrupts masked."""
        self.uc.mem_write(_RAM + 0x1_F000, b"\xfe\xe7")  # b .
        self.uc.reg_write(UC_ARM_REG_PRIMASK, 1)
        self.pc = _RAM + 0x1_F000

    def crash(self) -> None:
        """A hard fault, as after an undefined instruction: the processor goes to its handler."""
        self.nvic.active.append(3)
        self.pc = self.symbols["startup_crash"] & ~1

    def where(self) -> str:
        below = [(value, name) for name, value in self.symbols.items() if value & ~1 <= self.pc and name]
        return max(below)[1] if below else "?"

    def word(self, address: int) -> int:
        return struct.unpack("<I", self.uc.mem_read(address, 4))[0]  # type: ignore[no-any-return]

    def _read(self, uc: Uc, offset: int, size: int, base: int) -> int:
        address = base + offset
        part = self.parts.get(address >> 10)
        return (part.read(address & 0x3FF) if part else self.unknown.get(address, 0)) & 0xFFFF_FFFF

    def _write(self, uc: Uc, offset: int, size: int, value: int, base: int) -> None:
        address = base + offset
        part = self.parts.get(address >> 10)
        if part:
            part.write(address & 0x3FF, value)
        else:
            self.unknown[address] = value


class Part:
    """A peripheral: 1 KiB of registers, plain memory unless a subclass knows better."""

    def __init__(self, board: UnicornBoard) -> None:
        self.board, self.clock, self.nvic = board, board.clock, board.nvic
        self.words: dict[int, int] = {}

    def reset(self) -> None:
        self.words = {}

    def read(self, offset: int) -> int:
        return self.words.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        self.words[offset] = value
