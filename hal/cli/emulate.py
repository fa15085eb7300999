"""`hal emulate`: the instruments of a lab file, or a single one, as a process of their own on real ptys and ports."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import HalError

LOOPBACK = "127.0.0.1"
OF_A_LAB = ("write", "truth", "ports")
OF_A_MODEL = ("serial", "tcp", "data", "set")


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser("emulate", help="start emulators on real ptys and ports: of a lab file, or of one model")
    parser.add_argument("what", metavar="LAB|MODEL", help="a lab file (*.toml), or a model that `hal devices` lists")
    parser.add_argument("--json", action="store_true", help="say where each listens as JSON, one line")
    lab = parser.add_argument_group("of a lab")
    lab.add_argument("--write", type=Path, metavar="FILE", help="write the lab file that reaches them")
    lab.add_argument(
        "--truth", type=Path, metavar="FILE", help="keep what really happened and save it at the end (npz)"
    )
    lab.add_argument("--ports", type=int, default=0, metavar="N", help="TCP ports from N on (default: free ones)")
    model = parser.add_argument_group("of a model")
    model.add_argument(
        "--serial", nargs="?", const="", metavar="PATH", help="on a pty; with PATH, a symbolic link leads to it"
    )
    model.add_argument("--tcp", type=_address, metavar="[HOST:]PORT", help="on a TCP port (0: a free one)")
    model.add_argument("--data", type=_port, metavar="PORT", help="where a model with a second port sends its data")
    model.add_argument("--set", action="append", metavar="KEY=VALUE", help="a setting of the emulator; may be repeated")
    parser.set_defaults(work=partial(work, parser))


def work(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    of_a_lab = Path(options.what).suffix == ".toml" or Path(options.what).is_file()
    for name in OF_A_MODEL if of_a_lab else OF_A_LAB:
        if getattr(options, name) not in (None, 0):
            what, is_what = ("a model", "a lab file") if of_a_lab else ("a lab file", "a model")
            parser.error(f"--{name} is for {what}; {options.what} is taken for {is_what}")
    if not of_a_lab:
        from . import emulate_model

        return asyncio.run(emulate_model.serve(options))
    try:
        return asyncio.run(serve(options))
    except OSError as error:
        raise HalError(f"emulate: {error.strerror or error} ({error.filename or options.ports or 'port'})") from None


async def serve(options: argparse.Namespace) -> int:
    """Start everything of a lab, say where it is, wait for the end."""
    from ..runtime.config import load
    from ..runtime.emulation import Emulation
    from ..runtime.truth import Truth

    config, ended = load(Path(options.what)), ending()
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
        await live(emulation.bench.advance_to, ended)
    finally:
        if truth is not None:
            truth.save(options.truth)
        await emulation.close()
    return 0


def ending() -> asyncio.Event:
    """What Ctrl-C, the end of the terminal or a signal sets, from now on."""
    ended = asyncio.Event()
    if sys.platform != "win32":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, ended.set)
    return ended


async def live(advance_to: Callable[[float], None], ended: asyncio.Event) -> None:
    """Let the instruments live until it is ended."""
    loop = asyncio.get_running_loop()
    while not ended.is_set():
        try:
            async with asyncio.timeout(0.5):
                await ended.wait()
        except TimeoutError:
            pass
        # An orphan helps nobody: end with whoever started us in the background.
        if os.getppid() == 1 and os.environ.get("HAL_EMULATE_WITH_PARENT"):
            break
        advance_to(loop.time())


def _address(text: str) -> tuple[str, int]:
    """``PORT`` or ``HOST:PORT``."""
    host, _, port = text.rpartition(":")
    return (urlsplit(f"//{host}").hostname or LOOPBACK) if host else LOOPBACK, _port(port)


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write a number from 0 (a free one) to 65535")
    return port
