"""Measuring side by side: every contestant in turn, round after round, so that noise hits all alike.

A ratio is taken within each round, between neighbours in time, and the median of these is shown:
a busy machine moves both sides of a ratio, a slow minute spoils few rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median, quantiles

Work = Callable[[int], Awaitable[float | None] | float | None]
"""Does something `count` times; returns the seconds that count, or None for all it took."""

OURS = "ours"


@dataclass
class Figure:
    """One quantity, measured for several contestants."""

    what: str
    contestants: dict[str, Work]
    goal: dict[str, float] = field(default_factory=dict)
    """By contestant: the ratio ours/theirs aimed at, at most."""
    fixed: int | None = None
    """Repetitions per round; None: as many as fill a slice of time."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """What was measured: seconds a piece, by contestant and round."""

    def ratios(self, other: str) -> list[float]:
        """Ours/theirs, round by round."""
        return [a / b for a, b in zip(self.seconds[OURS], self.seconds[other], strict=True)]

    def missed(self) -> list[str]:
        """The goals not reached, as sentences."""
        return [
            f"{self.what}: {median(self.ratios(other)):.3g} of {other}, goal {goal:g}"
            for other, goal in self.goal.items()
            if median(self.ratios(other)) > goal
        ]


def arguments(doc: str | None, *, rounds: int) -> argparse.Namespace:
    """The command line that all scripts share."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="interleaved repetitions (default %(default)s)")
    parser.add_argument("--slice", type=float, default=0.03, help="seconds per repetition and contestant")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    return parser.parse_args()


async def measure(figure: Figure, *, rounds: int, slice_: float) -> Figure:
    """Run the contestants in turn for `rounds` rounds, each round beginning with another one."""
    names = list(figure.contestants)
    counts = {n: figure.fixed or await _calibrated(figure.contestants[n], slice_) for n in names}
    figure.seconds = {n: [] for n in names}
    gc.collect()
    gc.freeze()  # what the peers' imports left on the heap is no burden to anybody's figure
    try:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                figure.seconds[name].append(await _timed(figure.contestants[name], counts[name]) / counts[name])
                gc.collect()
    finally:
        gc.unfreeze()
    show(figure)
    return figure


async def _timed(work: Work, count: int) -> float:
    begun = time.perf_counter()
    result = work(count)
    counted = await result if inspect.isawaitable(result) else result
    took = time.perf_counter() - begun
    return took if counted is None else counted


async def _calibrated(work: Work, slice_: float) -> int:
    """How many repetitions fill a slice; warms up on the way."""
    count = 1
    while True:
        took = await _timed(work, count)
        if took > slice_ / 4:
            return max(1, round(count * slice_ / took))
        count *= 4


# ---------------------------------------------------------------------- showing


def header(title: str, packages: tuple[str, ...]) -> None:
    """Say what is measured, with what, on what."""
    print(f"{title}\n  {machine()}\n  {', '.join(f'{p} {version(p)}' for p in packages)}")
    print(f"\n{'':34}{'contestant':34}{'median':>9}  {'quartiles':>19}  {'ours/theirs (quartiles)':26}goal")


def machine() -> str:
    """The machine in one line."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            cpu = next(line.partition(":")[2].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} x {cpu}{load}"


def show(figure: Figure) -> None:
    """Print a figure's rows."""
    for row, (name, seconds) in enumerate(figure.seconds.items()):
        low, middle, high = spread(seconds)
        ratio = goal = ""
        if not name.startswith(OURS):
            a, b, c = spread(figure.ratios(name))
            ratio = f"{b:.3g} ({a:.3g} .. {c:.3g})"
            if name in figure.goal:
                goal = f"<= {figure.goal[name]:g} {'met' if b <= figure.goal[name] else 'MISSED'}"
        what = figure.what if row == 0 else ""
        quartiles = f"{span(low)} .. {span(high)}"
        print(f"{what:34}{name:34}{span(middle):>9}  {quartiles:>19}  {ratio:26}{goal}".rstrip(), flush=True)


def finish(figures: list[Figure], *, check: bool) -> None:
    """Name the goals missed; with `check`, exit accordingly."""
    missed = [sentence for figure in figures for sentence in figure.missed()]
    if missed:
        print("\ngoals missed:\n  " + "\n  ".join(missed))
    elif any(figure.goal for figure in figures):
        print("\nall goals met")
    if check and missed:
        sys.exit(1)


def spread(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def span(seconds: float) -> str:
    """Seconds with three digits and a handy unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


# ---------------------------------------------------------------------- fan-out, the same for all


class Audience:
    """Listeners that each follow a stream of values; somebody waits until all have had one."""

    def __init__(self, follow: Callable[[Audience], Awaitable[None]], size: int) -> None:
        self.size = size
        self._follow = follow
        self._tasks: list[asyncio.Task[None]] = []
        self._expected: float | None = None
        self._missing = 0
        self._all: asyncio.Future[None] | None = None

    def heard(self, value: float) -> None:
        """One listener has got `value`."""
        if value == self._expected:
            self._missing -= 1
            if self._missing == 0 and self._all is not None and not self._all.done():
                self._all.set_result(None)

    def expect(self, value: float) -> asyncio.Future[None]:
        """Return what is done when every listener has got `value`, which none has had before."""
        self._expected, self._missing = value, self.size
        self._all = asyncio.get_running_loop().create_future()
        return self._all

    async def __aenter__(self) -> Audience:
        async def listen() -> None:
            await self._follow(self)

        self._tasks = [asyncio.create_task(listen()) for _ in range(self.size)]
        await asyncio.sleep(0.05)  # each listens by now, and has had whatever comes first
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
