"""`hal watch`: live readings of a lab in the terminal, or how well its clocks are known."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.reading import Quality, Reading

if TYPE_CHECKING:
    from ..runtime.lab import Lab


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser("watch", help="live readings in the terminal; changes nothing")
    parser.add_argument("lab", type=Path)
    parser.add_argument("signals", nargs="*", help="device.signal or device (default: all)")
    parser.add_argument("--clocks", action="store_true", help="the devices' own clocks instead of readings")
    parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after so long")
    parser.add_argument("--json", action="store_true", help="one JSON object per reading (or clock)")
    parser.set_defaults(work=work)


def work(options: argparse.Namespace) -> int:
    """Watch until interrupted."""
    return asyncio.run(_watch(options))


async def _watch(options: argparse.Namespace) -> int:
    from ..runtime.lab import Lab

    async with Lab.looking(options.lab) as lab:
        if options.clocks:
            return await _watch_clocks(lab, options)
        signals = [s for s in lab.signals() if not options.signals or {s.path, s.device.name} & set(options.signals)]
        if not signals:
            print(f"hal: no such signal: {' '.join(options.signals)}; `hal list` shows them", file=sys.stderr)
            return 1
        latest: dict[str, Reading[Any]] = {}
        ended = asyncio.Event()
        for signal in signals:
            signal.subscribe(
                partial(_print, ended, signal.path) if options.json else partial(latest.__setitem__, signal.path)
            )
        await _show(options, lambda: None if options.json else _table(signals, latest), ended)
    return 0


async def _show(options: argparse.Namespace, show: Callable[[], str | None], ended: asyncio.Event) -> None:
    """Refresh what `show` returns on a terminal; elsewhere print it once, at the end."""
    end = time.monotonic() + options.seconds if options.seconds else float("inf")
    screen = sys.stdout.isatty() and not options.json
    while time.monotonic() < end and not ended.is_set():
        await asyncio.sleep(min(0.5, max(0.0, end - time.monotonic())))
        text = show()
        if screen and text is not None:
            print("\x1b[2J\x1b[H" + text, flush=True)
    if not screen and (text := show()) is not None:
        print(text)


async def _watch_clocks(lab: Lab, options: argparse.Namespace) -> int:
    from ..telemetry.clock_states import ClockState, clock_state, encode_clock

    wanted = {name.partition(".")[0] for name in options.signals}
    if not lab.clocks or (wanted and not wanted & set(lab.clocks)):
        has = ", ".join(lab.clocks)
        told = f"with a clock of their own are {has}" if has else "no device of this lab has a clock of its own"
        print(f"hal: nothing to watch; {told}", file=sys.stderr)
        return 1
    ended = asyncio.Event()

    def states() -> list[ClockState]:
        now = lab.context.timebase.now()
        return [
            clock_state(name, clock.health(now), "", now)
            for name, clock in lab.clocks.items()
            if not wanted or name in wanted
        ]

    def show() -> str | None:
        if not options.json:
            return _clock_table(states())
        for state in states():
            _say(ended, encode_clock(state).decode())
        return None

    await _show(options, show, ended)
    return 0


def _clock_table(states: list[Any]) -> str:
    lines = [
        f"{'clock':<16}{'offset / s':>22}{'rate / ppm':>12}{'bound / us':>12}{'sigma / us':>12}{'age / s':>9}"
        f"{'exchanges':>11}  usable"
    ]
    for s in states:
        offset = "-" if s.offset is None else f"{s.offset / 1e9:.6f}"
        rate = "-" if s.rate_ppm is None else f"{s.rate_ppm:+.3f}"
        bound, sigma = ("-" if ns is None else f"{ns / 1e3:.4g}" for ns in (s.bound, s.sigma))
        age = "-" if s.age is None else f"{s.age:.1f}"
        why = s.reason.removeprefix(s.device + ": ")
        usable = ("yes" if s.usable else "no") + (f": {why}" if why else "")
        lines.append(f"{s.device:<16}{offset:>22}{rate:>12}{bound:>12}{sigma:>12}{age:>9}{s.exchanges:>11}  {usable}")
    return "\n".join(lines)


def _table(signals: list[Any], latest: dict[str, Reading[Any]]) -> str:
    lines = [f"{'signal':<28}{'value':>14} {'unit':<8}{'uncertainty':>12}  quality"]
    for signal in signals:
        reading = latest.get(signal.path)
        if reading is None:
            lines.append(f"{signal.path:<28}{'...':>14}")
            continue
        value = (
            "-"
            if reading.value is None
            else f"{reading.value:.6g}"
            if isinstance(reading.value, float)
            else reading.value
        )
        sigma = "" if not reading.uncertainty else f"{reading.uncertainty:.2g}"
        quality = "" if reading.quality is Quality.GOOD else f"{reading.quality.value}: {reading.reason}"
        lines.append(f"{signal.path:<28}{value!s:>14} {reading.unit:<8}{sigma:>12}  {quality}")
    return "\n".join(lines)


def _print(ended: asyncio.Event, path: str, reading: Reading[Any]) -> None:
    from ..telemetry.topics import encode_reading

    _say(ended, json.dumps({"signal": path} | json.loads(encode_reading(reading))))


def _say(ended: asyncio.Event, line: str) -> None:
    if ended.is_set():
        return
    try:
        print(line, flush=True)
    except BrokenPipeError:  # whoever read has had enough
        ended.set()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for what Python flushes at its end
