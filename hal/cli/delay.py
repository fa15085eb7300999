"""`hal delay`: measure a camera's or a link's fixed delay, and write it into a certificate."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..recording.delay_measure import CameraDelay, LinkDelay
    from ..recording.reader import Recording

SHOWN = 12
"""Flashes and pulses listed one by one."""


def add(verbs: Any) -> None:
    """Add the commands."""
    parser = verbs.add_parser("delay", help="measure the fixed delay of a camera or of a link, for a certificate")
    kinds = parser.add_subparsers(title="what of", metavar="camera|link", required=True)

    camera = kinds.add_parser(
        "camera", help="films a lamp (or the blanked beam) that a board's trigger output switches"
    )
    camera.add_argument("lab", type=Path)
    camera.add_argument("camera")
    camera.add_argument("--output", type=int, default=0, metavar="N", help="trigger output of the board (default: 0)")
    camera.add_argument("--flashes", type=int, default=60, metavar="N", help="how many (default: 60)")
    camera.add_argument(
        "--flash", type=float, default=0.005, metavar="SECONDS", help="length of each (default: 0.005)"
    )  # fmt: skip
    camera.add_argument("--darker", action="store_true", help="the pulse blanks the beam, instead of lighting a lamp")
    camera.add_argument(
        "--light-delay", type=float, default=0.0, metavar="SECONDS", help="from the pulse to the light (default: 0)"
    )
    camera.add_argument(
        "--light-sigma", type=float, default=0.0, metavar="SECONDS", help="standard uncertainty of that (default: 0)"
    )
    camera.add_argument(
        "--within", type=float, default=0.05, metavar="SECONDS", help="the delay is less, either way (default: 0.05)"
    )
    camera.set_defaults(work=work_camera)

    link = kinds.add_parser("link", help="pulses a line of this computer that is led to a board's capture input")
    link.add_argument("lab", type=Path)
    link.add_argument(
        "line", help="serial port whose RTS pin is the line, serial:///dev/ttyS0; emulator: for an emulated board"
    )
    link.add_argument("--input", type=int, default=1, metavar="N", help="capture input of the board (default: 1)")
    link.add_argument("--falling", action="store_true", help="it sees a falling edge when RTS is asserted")
    link.add_argument("--pulses", type=int, default=60, metavar="N", help="how many (default: 60)")
    link.set_defaults(work=work_link)

    for kind in (camera, link):
        kind.add_argument("--board", default="", metavar="NAME", help="which board (default: the only one there is)")
        kind.add_argument("--out", type=Path, metavar="FILE", help="write the certificate there")
        kind.add_argument("--by", default="", metavar="NAME", help="your name (default: the user's)")
        kind.add_argument(
            "--serial", default="", metavar="TEXT", help="of the device; it must be told by it, now and later"
        )
        kind.add_argument("--expires", type=date.fromisoformat, metavar="DATE", help="last day of use, as 2027-05-01")
        kind.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIRECTORY", help="where the run goes")
        kind.add_argument("--json", action="store_true")


def work_camera(options: argparse.Namespace) -> int:
    """Film flashes, work out the delay, print it, write the certificate."""
    from ..recording.delay_measure import camera_delay
    from ..recording.reader import open_run

    _refuse_what_exists(options)
    path, board = asyncio.run(_film(options))
    with open_run(path) as run:
        found = camera_delay(
            run, options.camera, within=options.within, darker=options.darker, light_delay=options.light_delay,
            light_sigma=options.light_sigma,
        )  # fmt: skip
        what = "the beam blanked" if options.darker else "a lamp lit"
        reference = (
            f"{what} for {options.flash:g} s by trigger output {options.output} of {board}, {options.light_delay:g} s "
            f"after the pulse (standard uncertainty {options.light_sigma:g} s), stamped by the board's own clock"
        )
        written = _certificate(options, run, options.camera, "delay.camera", found, reference, found.environment())
    if options.json:
        print(json.dumps(_json(found, path, written), indent=2))
        return 0
    print("\n".join(_camera_lines(found, path)))
    print(_advice(f"{options.camera}={written}" if written else ""))
    return 0


def work_link(options: argparse.Namespace) -> int:
    """Pulse the line, work out the two ways, print them, write the certificate."""
    from ..recording.delay_measure import link_delay
    from ..recording.reader import open_run

    _refuse_what_exists(options)
    path, board = asyncio.run(_pulse(options))
    with open_run(path) as run:
        found = link_delay(run, board, number=options.input, rising=not options.falling)
        edge = "falling" if options.falling else "rising"
        reference = f"{edge} edges of {options.line} at capture input {options.input}, timed by this computer's clock"
        written = _certificate(options, run, board, "delay.link", found, reference, {})
    if options.json:
        print(json.dumps(_json(found, path, written), indent=2))
        return 0
    print("\n".join(_link_lines(found, path)))
    print(_advice(f"{board}={written}" if written else ""))
    return 0


# ---------------------------------------------------------------------------- private


async def _film(options: argparse.Namespace) -> tuple[Path, str]:
    from tqdm import tqdm

    from ..runtime.lab import Lab
    from ..runtime.measuring import board_of, camera_of, film_flashes

    async with Lab.open(options.lab) as lab:
        camera, board = camera_of(lab, options.camera), board_of(lab, options.board)
        _check_serial(options.serial, camera)
        with tqdm(total=options.flashes, desc="flashes", leave=False, disable=options.json or None) as bar:
            path = await film_flashes(
                lab, camera, board, flashes=options.flashes, length=options.flash, channel=options.output,
                directory=options.runs, told=bar.update,
            )  # fmt: skip
        return path, board.name


async def _pulse(options: argparse.Namespace) -> tuple[Path, str]:
    from tqdm import tqdm

    from ..runtime.lab import Lab
    from ..runtime.measuring import board_of, line_to, pulse_line

    async with Lab.open(options.lab) as lab:
        board = board_of(lab, options.board)
        _check_serial(options.serial, board)
        line = line_to(lab, board.name, options.line, options.input)
        with tqdm(total=options.pulses, desc="pulses", leave=False, disable=options.json or None) as bar:
            path = await pulse_line(
                lab, board, line, pulses=options.pulses, number=options.input, rising=not options.falling,
                directory=options.runs, told=bar.update,
            )  # fmt: skip
        return path, board.name


def _check_serial(serial: str, device: Any) -> None:
    from ..errors import ConfigError

    if serial not in device.identity:
        raise ConfigError(
            f"{device.name}: says it is {device.identity!r}, which has no {serial!r} in it; leave out --serial, or "
            "give a part of that"
        )


def _refuse_what_exists(options: argparse.Namespace) -> None:
    """Before minutes are spent."""
    from ..errors import RecordError

    if options.out is not None and options.out.exists():
        raise RecordError(f"{options.out}: is there already; give the certificate another name")


def _certificate(
    options: argparse.Namespace, run: Recording, device: str, kind: str, found: CameraDelay | LinkDelay,
    reference: str, environment: dict[str, Any],
) -> str:  # fmt: skip
    """Write it, if a file was named; its path."""
    if options.out is None:
        return ""
    from calibration.certificate import Certificate
    from calibration.errors import CertificateError

    from ..errors import RecordError

    about = run.devices[device]
    certificate = Certificate(
        kind=kind, device=f"{about.vendor} {about.model} ({device}): {about.identity}", serial=options.serial,
        made=datetime.now().astimezone().replace(microsecond=0), by=options.by or getpass.getuser(),
        reference=reference, result=found.result(), expires=options.expires,
        environment={"link": about.link} | environment, evidence=found.evidence() | {"run": run.path.name},
    )  # fmt: skip
    try:
        return str(certificate.save(options.out))
    except CertificateError as error:
        raise RecordError(str(error)) from None


def _camera_lines(found: CameraDelay, path: Path) -> list[str]:
    lines = [f"{'flash':>5}{'frame':>9}{'lit':>7}{'delay / us':>13}{'less the result':>17}"]
    for number, flash in enumerate(found.flashes[:SHOWN], 1):
        frame = f"{flash.frame:>9}{flash.share:>7.1%}" if flash.frame >= 0 else f"{'none':>9}{'':>7}"
        told = flash.delay == flash.delay
        alone = (
            f"{flash.delay * 1e6:>13.1f}{(flash.delay - found.delay) * 1e6:>+17.1f}" if told else f"{'-':>13}{'-':>17}"
        )
        lines.append(f"{number:>5}{frame}{alone}")
    if len(found.flashes) > SHOWN:
        lines.append(f"  ... {len(found.flashes)} flashes in all")
    lines += [
        f"{found.camera}: exposures begin {found.delay * 1e3:+.4f} ms +- {found.sigma * 1e6:.1f} us (one sigma) "
        f"from what its times by {found.by} say",
        f"  {found.found.events} of {len(found.flashes)} flashes fell across an exposure's beginning or end; "
        f"they scatter by {found.found.scatter * 1e6:.1f} us; {found.frames} frames",
        f"  so its {found.option} is {found.latency * 1e3:.4f} ms",
        f"  the run: {path}",
    ]
    return lines


def _link_lines(found: LinkDelay, path: Path) -> list[str]:
    middle = (found.found.out - found.found.back) / 2
    lines = [f"{'pulse':>5}{'late / us':>13}{'less the result':>17}"]
    for number, late in enumerate(found.late[:SHOWN].tolist(), 1):
        lines.append(f"{number:>5}{late * 1e6:>13.1f}{(late - middle) * 1e6:>+17.1f}")
    if len(found.late) > SHOWN:
        lines.append(f"  ... {len(found.late)} pulses in all")
    lines += [
        f"{found.device}: a question takes {found.found.out * 1e3:.4f} ms, its answer {found.found.back * 1e3:.4f} ms, "
        f"at least; +- {found.found.sigma * 1e6:.1f} us (one sigma)",
        f"  of a smallest round trip of {found.round_trip * 1e3:.4f} ms; by {found.found.events} pulses",
        f"  the run: {path}",
    ]
    return lines


def _advice(written: str) -> str:
    if not written:
        return "nothing was written: name a file with --out, and it becomes a certificate"
    return f"written; use it with `hal align RUN --certificate {written}`"


def _json(found: CameraDelay | LinkDelay, path: Path, written: str) -> dict[str, Any]:
    return {"result": found.result(), "evidence": found.evidence(), "run": str(path), "certificate": written}
