"""`hal run` and `hal ack`: start a control script; release a trip."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from ..errors import HalError


def add(verbs: Any) -> None:
    """Add the commands."""
    run = verbs.add_parser("run", help="run a control script, perhaps on another lab file")
    run.add_argument("script", type=Path)
    run.add_argument("--lab", type=Path, help="use this lab file, whatever the script names")
    # Not REMAINDER: that would swallow a --lab after the script, and the script would open another lab.
    run.add_argument("arguments", nargs="*", help="handed to the script; after `--` if they begin with a dash")
    run.set_defaults(work=work_run)

    ack = verbs.add_parser("ack", help="acknowledge a trip, so that the lab may be used again")
    ack.add_argument("lab", type=Path, nargs="?", default=Path("lab.toml"))
    ack.add_argument("--by", default="", help="your name (default: the user's)")
    ack.set_defaults(work=work_ack)


def work_run(options: argparse.Namespace) -> int:
    """Run the script in this process; errors of ours become one sentence."""
    if not options.script.is_file():
        print(f"hal: there is no script {options.script}", file=sys.stderr)
        return 1
    if options.lab:
        if not options.lab.is_file():
            print(f"hal: there is no lab file {options.lab}", file=sys.stderr)
            return 1
        os.environ["HAL_LAB"] = str(options.lab)
        print(f"hal: using {options.lab}", file=sys.stderr)
    sys.argv = [str(options.script), *options.arguments]
    sys.path.insert(0, str(options.script.resolve().parent))
    try:
        runpy.run_path(str(options.script), run_name="__main__")
    except (HalError, asyncio.CancelledError):
        raise
    except Exception as error:
        _show(error, str(options.script))
        return 1
    return 0


def _show(error: Exception, script: str) -> None:
    """Print the traceback from the script's own first line on."""
    there = error.__traceback__
    while there is not None and there.tb_frame.f_code.co_filename != script:
        there = there.tb_next
    sys.excepthook(type(error), error.with_traceback(there or error.__traceback__), there or error.__traceback__)


def work_ack(options: argparse.Namespace) -> int:
    """Release the trip of a lab that runs or ran."""
    from ..runtime.config import load
    from ..runtime.latch import Latch

    config = load(options.lab)
    by = options.by or getpass.getuser()
    trip = Latch(config.path, config.file.lab.name).acknowledge(by)
    if trip is None:
        print("nothing to acknowledge: the lab is not tripped")
    else:
        print(f"acknowledged by {by}: {trip['text']}")
    return 0
