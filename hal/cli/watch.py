"""`hal watch`: live readings of a lab in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from ..model.reading import Quality, Reading


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser("watch", help="live readings in the terminal; changes nothing")
    parser.add_argument("lab", type=Path)
    parser.add_argument("signals", nargs="*", help="device.signal or device (default: all)")
    parser.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after so long")
    parser.add_argument("--json", action="store_true", help="one JSON object per reading")
    parser.set_defaults(work=work)


def work(options: argparse.Namespace) -> int:
    """Watch until interrupted."""
    return asyncio.run(_watch(options))


async def _watch(options: argparse.Namespace) -> int:
    from ..runtime.lab import Lab

    # `hold`: to look at instruments must not switch them off.
    async with Lab.looking(options.lab) as lab:
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
        end = time.monotonic() + options.seconds if options.seconds else float("inf")
        screen = sys.stdout.isatty() and not options.json
        while time.monotonic() < end and not ended.is_set():
            await asyncio.sleep(min(0.5, max(0.0, end - time.monotonic())))
            if screen:
                print("\x1b[2J\x1b[H" + _table(signals, latest), flush=True)
        if not screen and not options.json:
            print(_table(signals, latest))
    return 0


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
    if ended.is_set():
        return
    line = json.dumps(
        {
            "signal": path,
            "value": reading.value,
            "unit": reading.unit,
            "time": str(reading.time),
            "time_bound": reading.bound,
            "uncertainty": reading.uncertainty,
            "quality": reading.quality.value,
            "reason": reading.reason,
        }
    )
    try:
        print(line, flush=True)
    except BrokenPipeError:  # whoever read has had enough
        ended.set()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for what Python flushes at its end
