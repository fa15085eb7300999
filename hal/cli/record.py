"""`hal export` and `hal repair`: tables from a run; a run that a crash left behind."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Add the commands."""
    export = verbs.add_parser("export", help="tables (CSV) from a run")
    export.add_argument("run", type=Path)
    export.add_argument("--to", type=Path, metavar="DIRECTORY", help="default: beside the run, with its name")
    export.add_argument("--overwrite", action="store_true", help="replace tables that are there already")
    export.add_argument("--json", action="store_true", help="say what was written as JSON")
    export.set_defaults(work=work_export)

    repair = verbs.add_parser("repair", help="mend runs that a crash left behind; whole ones are left alone")
    repair.add_argument("run", type=Path, nargs="+", help="run files, or directories to look through")
    repair.add_argument("--json", action="store_true")
    repair.set_defaults(work=work_repair)


def work_export(options: argparse.Namespace) -> int:
    """Write the tables and say which."""
    from ..recording.export import export

    out = options.to or options.run.with_suffix("")
    done = export(options.run, out, overwrite=options.overwrite, progress=not options.json)
    print(
        done.to_json() if options.json else "\n".join(f"{rows:>9} rows  {path}" for path, rows in done.tables.items())
    )
    return 0


def work_repair(options: argparse.Namespace) -> int:
    """Repair each, and say what was found."""
    from ..recording.realign import from_recording
    from ..recording.repair import find_broken, repair

    paths: list[Path] = []
    for given in options.run:
        paths += find_broken(given) if given.is_dir() else [given]
    reports = [repair(path, from_recording) for path in paths]
    if options.json:
        rows = [
            {"path": str(r.path), "changed": r.changed, "frames": dict(r.frames), "readings": r.readings}
            for r in reports
        ]
        print(json.dumps(rows, indent=2))
    else:
        for report in reports:
            print(report)
        if not reports:
            print("nothing to repair")
    return 0
