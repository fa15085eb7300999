"""`hal emulate`: the instruments of a lab file as a process of their own, on real ptys and ports."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ..errors import HalError


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser("emulate", help="start the emulators of a lab file on real ptys and ports")
    parser.add_argument("lab", type=Path, help="the lab file")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the lab file that reaches them")
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="keep what really happened and save it at the end (npz)"
    )
    parser.add_argument("--ports", type=int, default=0, metavar="N", help="TCP ports from N on (default: free ones)")
    parser.add_argument("--json", action="store_true", help="say where each listens as JSON, one line")
    parser.set_defaults(work=work)


def work(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    try:
        return asyncio.run(serve(options))
    except OSError as error:
        raise HalError(f"emulate: {error.strerror or error} ({error.filename or options.ports or 'port'})") from None


async def serve(options: argparse.Namespace) -> int:
    """Start everything, say where it is, wait for the end."""
    from ..runtime.config import load
    from ..runtime.emulation import Emulation
    from ..runtime.truth import Truth

    config = load(options.lab)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
    emulation = await Emulation(config).start(ports_from=options.ports)
    truth = Truth(emulation) if options.truth else None
    places = {
        name: {"driver": config.file.devices[name].driver, "url": emulation.url(config.link_of(name)[0])}
        | emulation.overrides(name)
        for name in config.file.devices
    }
    if options.write:
        options.write.write_text(emulation.lab_file(), encoding="utf-8")
    if options.json:
        print(json.dumps({"pid": os.getpid(), "devices": places}), flush=True)
    else:
        for name, place in places.items():
            extra = "".join(f"  {k} {v}" for k, v in place.items() if k not in ("driver", "url"))
            print(f"{name:<16}{place['driver']:<18}{place['url']}{extra}")
        if options.write:
            print(f"\nlab file for them: {options.write}")
        print("Ctrl-C ends them.", flush=True)
    try:
        while not ended.is_set():
            try:
                async with asyncio.timeout(0.5):
                    await ended.wait()
            except TimeoutError:
                pass
            # An orphan helps nobody: end with whoever started us in the background.
            if os.getppid() == 1 and os.environ.get("HAL_EMULATE_WITH_PARENT"):
                break
            emulation.bench.advance_to(loop.time())
    finally:
        if truth is not None:
            truth.save(options.truth)
        await emulation.close()
    return 0
