"""The page of memory that an emulated board shares with its surroundings: its inputs and outputs."""

from __future__ import annotations

import mmap
from collections import deque
from pathlib import Path


class Page:
    """The board's inputs and outputs, as firmware/boards/mps2/world.h lays them out."""

    SIZE = 0x400
    MAGIC = 0x4D505332
    EDGES = 64
    _WORDS = {
        "magic": 0x00, "boots": 0x04, "passes": 0x08, "ticks": 0x0C, "heater": 0x10, "digital": 0x28,
        "triggers": 0x30, "trigger_ticks": 0x34, "entropy": 0x40, "inputs": 0x44, "hang": 0x48, "holder": 0x4C,
        "head": 0x100, "tail": 0x104, "overrun": 0x108,
    }  # fmt: skip

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), self.SIZE)
        self._words = memoryview(self._map).cast("I")  # one aligned store per word

    def __getitem__(self, name: str) -> int:
        return self._words[self._WORDS[name] // 4]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[self._WORDS[name] // 4] = value & 0xFFFF_FFFF

    def adc(self, channel: int, counts: float) -> None:
        """Put a count before the converter."""
        self._words[0x80 // 4 + channel] = max(0, round(counts))

    def dac(self, channel: int) -> int:
        return self._words[0x20 // 4 + channel]

    def edges(self, edges: deque[tuple[int, int, bool]]) -> bool:
        """Hand as many edges (ticks, input, rising) to the capture unit as fit; whether there were any."""
        head = first = self["head"]
        room = self.EDGES - (head - self["tail"] & 0xFFFF_FFFF)
        while edges and room:
            ticks, channel, rising = edges.popleft()
            at = 0x200 // 4 + 2 * (head % self.EDGES)
            self._words[at] = ticks & 0xFFFF_FFFF
            self._words[at + 1] = channel | rising << 8
            head, room = head + 1 & 0xFFFF_FFFF, room - 1
        self["head"] = head
        return head != first

    def close(self) -> None:
        self._words.release()
        self._map.close()
