"""`hal recalibrate`: a finished run's raw readings through another certificate."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser(
        "recalibrate", help="a run's raw readings through another certificate, as a layer beside what is there"
    )
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--certificate", required=True, metavar="[DEVICE.SIGNAL=]FILE",
        help="and the raw signal that it is for, unless it says so itself or only one of the run is calibrated",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a copy that has it (default: the run itself)")
    parser.add_argument(
        "--override", default="", metavar="REASON",
        help="use a certificate that had expired or is of another serial number; kept with the layer",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(work=work)


def work(options: argparse.Namespace) -> int:
    """Calibrate anew, and say by how much values moved."""
    from ..recording.recalibrate import recalibrate

    signal, _, file = options.certificate.rpartition("=")
    report = recalibrate(options.run, file, signal, options.out, override=options.override)
    print(json.dumps(report.to_json(), indent=2) if options.json else report)
    return 0
