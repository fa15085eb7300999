"""What an image may take: 32 kB of text, 32 kB of RAM, 1 kB of stack in the worst case that the call graph allows."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from images import BUILT, built

pytestmark = pytest.mark.needs_tool("arm-none-eabi-gcc")

KB = 1024
FRAME = 104  # bytes an exception pushes with floating point registers (Armv7-M ARM, B1.5.7)
LINK = {"mps2": ("link_rx_interrupt", "link_tx_interrupt"), "stm32f405": ("link_interrupt",)}
CORE = {
    "mps2": ("control_interrupt", "sampling_interrupt", "capture_interrupt", "trigger_interrupt"),
    "stm32f405": ("control_interrupt", "sampling_interrupt", "capture_interrupt"),
}
LAST = {"mps2": ("watchdog_interrupt", "startup_crash"), "stm32f405": ("startup_crash",)}


def tool(name: str, *arguments: str) -> str:
    return subprocess.run(
        [f"arm-none-eabi-{name}", *arguments], capture_output=True, text=True, check=True, timeout=900
    ).stdout


@cache
def frames(board: str) -> dict[str, int]:
    """Stack of each function, from -fstack-usage; fails on one whose stack has no bound."""
    used: dict[str, int] = {}
    for file in sorted((BUILT / board).glob("*.su")):
        for line in file.read_text().splitlines():
            where, size, kind = line.split("\t")
            assert kind in ("static", "dynamic,bounded"), line
            name = where.rsplit(":", 1)[1]
            used[name] = max(used.get(name, 0), int(size))
    return used


@cache
def pushed(image: Path) -> dict[str, int]:
    """Stack of each function as its instructions take it: for libgcc's, which have no such report."""
    used: dict[str, int] = {}
    here = ""
    for line in tool("objdump", "-d", str(image)).splitlines():
        if header := re.match(r"[0-9a-f]+ <([^>]+)>:", line):
            here = header[1]
            used[here] = 0
        elif registers := re.search(r"\t(?:push|stmdb)\t(?:sp!, )?\{([^}]+)\}", line):
            used[here] += 4 * len(registers[1].split(","))
        elif taken := re.search(r"\tsub(?:w|\.w)?\tsp, (?:sp, )?#(\d+)", line):
            used[here] += int(taken[1])
        elif re.search(r"\tstr(?:d)?(?:\.w)?\t[^[]*\[sp, #-(\d+)\]!", line):
            used[here] += 16
    return used


@cache
def calls(image: Path) -> dict[str, set[str]]:
    """Who calls whom. A call through a pointer may reach every function whose address is in a table."""
    graph: dict[str, set[str]] = {}
    here, through_pointer = "", set()
    for line in tool("objdump", "-d", str(image)).splitlines():
        if header := re.match(r"[0-9a-f]+ <([^>]+)>:", line):
            here = header[1]
            graph[here] = set()
        elif call := re.search(r"\t(?:bl|b|b\w\w|b\.w|b\w\w\.w|b\.n|cbn?z)\t.*<([^>+]+)>", line):
            if call[1] != here:
                graph[here].add(call[1])
        elif re.search(r"\tblx\t|\tbx\t(?!lr)", line):
            through_pointer.add(here)
    tables = tool("objdump", "-s", "-j", ".text", "-j", ".data", str(image))
    words = set()
    for line in tables.splitlines():
        if found := re.match(r" [0-9a-f]+ ((?:[0-9a-f]{8} ?){1,4})", line):
            words |= {int.from_bytes(bytes.fromhex(word), "little") for word in found[1].split()}
    vectors = {name for names in (*LINK.values(), *CORE.values(), *LAST.values()) for name in names}
    tabled = set()
    for line in tool("nm", str(image)).splitlines():
        address, kind, name = line.split()
        if kind in "tT" and int(address, 16) | 1 in words and name not in vectors | {"startup_reset", "main"}:
            tabled.add(name)
    for caller in through_pointer:
        graph[caller] |= tabled - {caller}
    return graph


def deepest(image: Path, board: str, root: str, above: tuple[str, ...] = ()) -> tuple[int, tuple[str, ...]]:
    """The most stack that `root` and all below it use, and by which way."""
    assert root not in above, f"recursion: {' > '.join((*above, root))}"
    below = [deepest(image, board, name, (*above, root)) for name in calls(image)[root]]
    most, way = max(below, default=(0, ()))
    return _frame(image, board, root) + most, (root, *way)


def _frame(image: Path, board: str, function: str) -> int:
    return frames(board).get(function.split(".")[0], pushed(image)[function])


@pytest.mark.parametrize("board", ["mps2", "stm32f405"])
def test_text_and_memory_stay_within_32_kb(board: str) -> None:
    text, data, bss = map(int, tool("size", str(built(board))).splitlines()[1].split()[:3])
    assert text + data <= 32 * KB
    assert data + bss <= 32 * KB  # the stack's reserve is part of bss


@pytest.mark.parametrize("board", ["mps2", "stm32f405"])
def test_the_deepest_stack_stays_within_1_kb(board: str) -> None:
    """The main loop, interrupted by the core, interrupted by the link, interrupted by a crash."""
    image = built(board)
    main = deepest(image, board, "main")
    levels = [main] + [max(deepest(image, board, name) for name in each[board]) for each in (CORE, LINK, LAST)]
    total = sum(size for size, _ in levels) + FRAME * (len(levels) - 1)
    ways = "\n".join(f"{size:5} {' > '.join(way)}" for size, way in levels)
    print(f"{board}: {total} bytes of stack at most\n{ways}")
    assert total <= KB, ways


@pytest.mark.parametrize("board", ["mps2", "stm32f405", "netduinoplus2"])
def test_the_compiler_from_pypi_builds_it_too(board: str) -> None:
    pytest.importorskip("ziglang")
    image = built(board, "zig")
    text, data, bss = map(int, tool("size", str(image)).splitlines()[1].split()[:3])
    assert text + data <= 32 * KB
    assert data + bss <= 32 * KB
