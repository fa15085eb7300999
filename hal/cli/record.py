"""`hal export`, `hal repair`, `hal align`, `hal report`: what can be done with a run afterwards."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecordError

if TYPE_CHECKING:
    from ..recording.declared import Changes
    from ..recording.reader import Recording


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

    align = verbs.add_parser("align", help="times of frames and values at them, worked out anew from a run's raw ticks")
    align.add_argument("run", type=Path)
    where = align.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, metavar="FILE", help="write a copy that has the new ones")
    where.add_argument("--in-place", action="store_true", help="put them into the run, which keeps the old ones too")
    align.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="NAME.FIELD=VALUE",
        help="declare this instead, in s or ppm: camera.latency=0.0021, board.delay_out=0.00015",
    )  # fmt: skip
    align.add_argument(
        "--certificate", dest="certificates", action="append", default=[], metavar="NAME=FILE",
        help="the delay that this certificate states, of a camera or of a link",
    )  # fmt: skip
    align.add_argument("--json", action="store_true")
    align.set_defaults(work=work_align)

    report = verbs.add_parser("report", help="how well a run's clocks, frames and signals are known, with a picture")
    report.add_argument("run", type=Path)
    report.add_argument("--picture", type=Path, metavar="FILE", help="default: beside the run, with its name")
    report.add_argument("--json", action="store_true")
    report.set_defaults(work=work_report)


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


def work_align(options: argparse.Namespace) -> int:
    """Align anew, and say what changed."""
    from ..recording.again import align_again
    from ..recording.reader import open_run

    with open_run(options.run) as run:
        changes, certificates = _declared(run, options.changes, options.certificates)
    out = options.run if options.in_place else options.out
    report = align_again(options.run, out, changes=changes, certificates=certificates)
    print(json.dumps(report.to_json(), indent=2) if options.json else report)
    return 0


def work_report(options: argparse.Namespace) -> int:
    """Print the summary of clocks, frames and signals; draw the picture where matplotlib is installed."""
    from ..recording.reader import open_run
    from ..recording.realign import realigned
    from ..recording.summary import signal_lines, timing, timing_lines

    with open_run(options.run) as run:
        found = timing(realigned(run))
    drawn = ""
    try:
        from ..recording.picture import picture

        drawn = str(picture(options.run, options.picture))
    except ImportError:
        drawn = "" if options.json else 'no picture: pip install "insitu-hal[plot]"'
    if options.json:
        print(json.dumps(found | {"picture": drawn}, indent=2))
    else:
        print("\n".join([*timing_lines(found), *signal_lines(found), *([drawn] if drawn else [])]))
    return 0


def _declared(run: Recording, settings: list[str], certificates: list[str]) -> tuple[Changes, dict[str, str]]:
    """What is to be declared instead, and the hashes of the certificates it comes from. Raises `RecordError`."""
    from ..recording.declared import Changes

    values: dict[str, dict[str, float]] = {}
    hashes: dict[str, str] = {}
    for text in certificates:
        name, _, file = text.partition("=")
        if not file:
            raise RecordError(f"--certificate {text}: write it as NAME=FILE, such as camera=merlin_delay.toml")
        values[name], hashes[name] = _certified(run, name, Path(file))
    for text in settings:
        place, _, number = text.partition("=")
        name, _, field = place.rpartition(".")
        try:
            values.setdefault(name, {})[field] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise RecordError(f"--set {text}: write it as NAME.FIELD=VALUE, such as camera.latency=0.0021")
    changes = Changes(values)
    changes.check(run.cameras, run.clocks)
    return changes, hashes


def _certified(run: Recording, name: str, file: Path) -> tuple[dict[str, float], str]:
    """The declarations that follow from a certificate of delays."""
    from datetime import UTC, datetime

    from calibration.certificate import load
    from calibration.errors import CertificateError

    from ..recording.realign import declaration

    day = datetime.fromtimestamp(run.start_time * 1e-9, UTC).date()
    identity = run.devices[name].identity if name in run.devices else None
    try:
        certificate = load(file)
        if name in run.cameras:
            certificate.check(kind="delay.camera", serial=identity, on=day)
            recorded, _ = declaration(run, name)
            pulses = run.cameras[name].frame_clock is not None
            option, other = ("pulse_latency", "latency") if pulses else ("latency", "pulse_latency")
            sigma = certificate.number("delay_sigma_s")
            if f"{other}_s" in certificate.result:
                how = "pulses, and it was measured by arrivals" if pulses else "arrivals, and it was measured by pulses"
                raise CertificateError(f"the frames of this run are timed by {how}; measure that delay")
            # What should be declared, if it says so: the run may have been made with the right latency already.
            # Else by how much later its exposures really begin than the record says, however that was found.
            stated = f"{option}_s" in certificate.result
            latency = (
                certificate.number(f"{option}_s") if stated
                else getattr(recorded, option) - certificate.number("delay_s")
            )  # fmt: skip
            return {option: latency, f"{option}_sigma": sigma}, certificate.hash
        certificate.check(kind="delay.link", serial=identity, on=day)
        names = {"delay_out": "out_s", "delay_back": "back_s", "delay_sigma": "sigma_s"}
        return {field: certificate.number(result) for field, result in names.items()}, certificate.hash
    except CertificateError as error:
        raise RecordError(f"--certificate {name}={file}: {error}") from None
