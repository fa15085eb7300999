"""The command `hal`: emulate, find, check, list, run, ack, export, repair, align, recalibrate, report, delay,
calibrate, watch, dashboard, schema and devices.

Exit codes: 0 all well; 1 something is wrong and the message says what; 2 the command line itself;
130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from ..errors import HalError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; print errors as sentences, not as tracebacks."""
    parser = build()
    options = parser.parse_args(_lab_first(list(sys.argv[1:] if arguments is None else arguments)))
    if not hasattr(options, "work"):
        parser.print_help()
        return 2
    try:
        return int(options.work(options) or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except asyncio.CancelledError:
        print("ended by a signal; a lab that was open is in its safe state", file=sys.stderr)
        return 143
    except BrokenPipeError:
        return 0
    except HalError as error:
        print(f"hal: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"hal: {note}", file=sys.stderr)
        return 1


def _lab_first(arguments: list[str]) -> list[str]:
    """Put ``--lab FILE`` of `hal run` before the script: argparse takes no option between its arguments."""
    if arguments[:1] == ["run"]:
        end = arguments.index("--") if "--" in arguments else len(arguments)
        for place, word in enumerate(arguments[:end]):
            if word == "--lab" and place + 1 < end:
                lab = arguments[place : place + 2]
                return ["run", *lab, *arguments[1:place], *arguments[place + 2 :]]
            if word.startswith("--lab="):
                return ["run", word, *arguments[1:place], *arguments[place + 1 :]]
    return arguments


def build() -> argparse.ArgumentParser:
    """The command line."""
    from . import calibrate, dashboard, delay, emulate, look, recalibrate, record, run, watch

    parser = argparse.ArgumentParser(prog="hal", description="Instruments of an in-situ electron microscopy lab.")
    from .. import __version__

    parser.add_argument("--version", action="version", version=f"insitu-hal {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (emulate, look, run, record, recalibrate, watch, dashboard, delay, calibrate):
        module.add(verbs)
    return parser
