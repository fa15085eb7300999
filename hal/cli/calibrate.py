"""`hal calibrate`: from steady points of a signal and a reference to a certificate, from devices or from a run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import os
import sys
import threading
from datetime import UTC, date, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HalError, RecordError

if TYPE_CHECKING:
    from calibration.certificate import Certificate
    from calibration.fit import Fit

    from ..recording.points import Axes, Point, PointFile

HIGHEST = 3
"""Degree of the polynomial, if none is asked for and there are points enough."""
DOUBT = 0.01
"""Where points that lie so far from the curve are less likely than this, their scatter tells how well it is known."""
SPARE = 2
"""Points beyond the coefficients' number, so that something checks the curve."""


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser("calibrate", help="steps through points, fits a curve, writes its certificate")
    parser.add_argument("source", type=Path, metavar="LAB|RUN", help="a lab file, or a recorded run")
    parser.add_argument("signal", help="what is calibrated: DEVICE.SIGNAL")
    parser.add_argument("reference", nargs="?", default="", help="against which signal; without it, values are typed")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the certificate")
    taking = parser.add_argument_group("taking points")
    taking.add_argument("--set", dest="setpoint", default="", metavar="DEVICE.SIGNAL", help="the setpoint to step")
    taking.add_argument("--at", type=_numbers, default=[], metavar="A,B,...", help="its values, in its unit")
    taking.add_argument("--unit", default="", help="of values that are typed")
    taking.add_argument(
        "--typed-uncertainty", type=_not_negative, default=0.0, metavar="U", help="standard uncertainty of each of them"
    )
    taking.add_argument(
        "--window",
        type=_positive,
        default=10.0,
        metavar="SECONDS",
        help="both must be steady for so long (default: 10)",
    )
    taking.add_argument(
        "--within", type=_not_negative, default=0.0, metavar="D",
        help="a difference between the halves of the window that is allowed in any case (default: 0, which leaves "
        "twice its standard uncertainty)",
    )  # fmt: skip
    taking.add_argument(
        "--patience", type=_positive, default=600.0, metavar="SECONDS", help="to wait for that (default: 600)"
    )
    taking.add_argument(
        "--points", type=Path, metavar="FILE", help="where points are kept, and gone on with (default: beside --out)"
    )
    fitting = parser.add_argument_group("the certificate")
    fitting.add_argument(
        "--degree", type=int, choices=range(1, 6), help="of the polynomial (default: 3, less with few points)"
    )
    fitting.add_argument("--device", default="", metavar="TEXT", help="what was calibrated, in words")
    fitting.add_argument("--serial", default="", metavar="TEXT", help="of it; must be told by it, now and later")
    fitting.add_argument("--against", default="", metavar="TEXT", help="the reference, in words")
    fitting.add_argument(
        "--reference-uncertainty", type=_not_negative, default=0.0, metavar="U",
        help="standard uncertainty that all its values share, in its unit",
    )  # fmt: skip
    fitting.add_argument("--by", default="", metavar="NAME", help="your name (default: the user's)")
    fitting.add_argument("--expires", type=_coming, metavar="DATE", help="last day of use, as 2027-05-01")
    fitting.add_argument("--replaces", type=Path, metavar="FILE", help="the certificate before this one")
    fitting.add_argument("--picture", type=Path, metavar="FILE", help="default: beside the certificate")
    parser.set_defaults(work=work)


def work(options: argparse.Namespace) -> int:
    """Take or find the points, fit, show, write."""
    if options.out.exists():
        raise RecordError(f"{options.out}: there is a certificate already; give the new one another name")
    if options.source.suffix == ".toml":
        axes, points = asyncio.run(_from_devices(options))
    else:
        axes, points = _from_run(options)
    certificate, fitted = certify(axes, points, options)
    print(f"\n{fitted}\n\n{_table(fitted, axes)}\n")
    if not options.degree:
        print(_simpler(fitted), end="")
    if fitted.scatter == "observed" and fitted.arguments["u_y"] is not None:
        print(
            f"the points lie {fitted.scale:.3g} times further from the curve than their own uncertainties allow; the "
            "certificate's is that of their scatter\n"
        )
    from calibration.errors import CertificateError

    try:
        print(f"written to {certificate.save(options.out)}")
    except CertificateError as error:
        raise RecordError(str(error)) from None
    try:
        from .calibration_picture import picture

        print(f"and {picture(fitted, axes, options.picture or options.out.with_suffix('.png'))}")
    except ImportError:
        print('no picture: pip install "insitu-hal[plot]"')
    except OSError as error:
        print(f"no picture: {error}")
    print(f'use it in a lab file: calibration.{axes.signal.partition(".")[2]} = "{options.out}"')
    return 0


def certify(axes: Axes, points: list[Point], options: argparse.Namespace) -> tuple[Certificate, Fit]:
    """Fit a curve to the points, and state it. Raises `RecordError` for points that tell nothing."""
    from calibration.certificate import Certificate, load
    from calibration.certified import curve_of, result_of
    from calibration.errors import CalibrationError
    from calibration.fit import PolynomialForm, fit

    form = PolynomialForm(options.degree or min(HIGHEST, max(1, len(points) - 1 - SPARE)))
    how: dict[str, Any] = {"unit_in": axes.unit, "unit_out": axes.reference_unit, "name": axes.signal}
    if all(p.u_y > 0.0 for p in points):
        how |= {"u_y": [p.u_y for p in points]}
        if any(p.u_x > 0.0 for p in points):  # one without scatter, of a signal that is shown in steps, frees no other
            how |= {"u_x": [p.u_x for p in points]}
    try:
        x, y = [p.x for p in points], [p.y for p in points]
        fitted = fit(x, y, form=form, **how)
        if fitted.diagnostics.p_value < DOUBT:  # something was forgotten in the points' own uncertainties
            fitted = fit(x, y, form=form, **how, scatter="observed")
        kind, result = result_of(fitted.curve, uncertainty=options.reference_uncertainty)
        before = load(options.replaces) if options.replaces else None
        evidence = {
            "points": len(points), "x": x, "y": y, "u_x": [p.u_x for p in points], "u_y": [p.u_y for p in points],
            "degrees_of_freedom": fitted.diagnostics.dof, "scatter": fitted.scatter,
            "steady_for_s": options.window, "steady_within": options.within,
            "taken": [datetime.fromtimestamp(p.time // 10**9, UTC) for p in points],
        }  # fmt: skip
        certificate = Certificate(
            kind=kind, device=options.device or axes.signal, serial=options.serial, made=datetime.now(UTC),
            by=options.by or getpass.getuser(), reference=options.against or axes.reference or "typed values",
            result=result | {"signal": axes.signal}, expires=options.expires, evidence=evidence,
            history=() if before is None else (*before.history, before.hash),
        )  # fmt: skip
        curve_of(certificate)
    except CalibrationError as error:
        raise RecordError(f"no certificate was written: {error}") from None
    return certificate, fitted


# ---------------------------------------------------------------------------- private


def _from_run(options: argparse.Namespace) -> tuple[Axes, list[Point]]:
    from ..recording.points import Axes, plateaus
    from ..recording.reader import open_run

    if not options.reference:
        raise RecordError(f"{options.source}: against which signal of the run? name it")
    with open_run(options.source) as run:
        points = plateaus(run, options.signal, options.reference, window=options.window, within=options.within)
        units = [run.signals[path].unit for path in (options.signal, options.reference)]
    for point in points:
        print(f"{point.x:>12.6g} +- {point.u_x:<8.2g} {units[0]:8} {point.y:>12.6g} +- {point.u_y:<8.2g} {units[1]}")
    if not points:
        raise RecordError(
            f"{options.source}: {options.signal} and {options.reference} were never both steady for "
            f"{options.window:g} s; try a shorter --window, or allow a drift with --within"
        )
    return Axes(options.signal, units[0], options.reference, units[1]), points


async def _from_devices(options: argparse.Namespace) -> tuple[Axes, list[Point]]:
    from ..recording.points import Axes, PointFile
    from ..runtime.lab import Lab
    from ..runtime.take_points import guide

    place = options.points or options.out.with_suffix(".points")
    file: PointFile | None = None
    try:
        async with Lab.open(options.source) as lab:
            how = guide(
                lab, options.signal, options.reference, setpoint=options.setpoint, steps=options.at,
                reference_unit=options.unit, window=options.window, within=options.within, patience=options.patience,
                typed_uncertainty=options.typed_uncertainty,
            )  # fmt: skip
            axes = Axes(options.signal, how.signal.unit, options.reference, how.reference_unit)
            kept = PointFile(place, axes, options.serial)
            how, file = gone_on(how, kept), kept
            await collect(lab, how, file, Terminal().ask, print)
    except (KeyboardInterrupt, asyncio.CancelledError, HalError):
        if file is not None and file.points:
            print(f"\npoints taken so far ({len(file.points)}) are in {place}; the same command goes on from there")
        raise
    return axes, file.points


def gone_on(how: Any, file: PointFile) -> Any:
    """How to go on from the file's points. Raises `RecordError` if they are not the first of those asked for."""
    from dataclasses import replace

    if how.setpoint is None:
        return how
    file.fit_into(how.steps)
    return replace(how, taken=len(file.points))


async def collect(lab: Any, how: Any, file: PointFile, ask: Any, tell: Any) -> None:
    """Take the points that the file does not have yet, each kept as soon as it is taken."""
    from ..runtime.take_points import take_points

    if file.points:
        first, last = (_moment(point) for point in (file.points[0], file.points[-1]))
        tell(f"going on with the {len(file.points)} points in {file.path}, taken {first} to {last}")
    async with contextlib.aclosing(take_points(lab, gone_on(how, file), ask, tell)) as points:
        async for point in points:
            file.add(point)


def _moment(point: Point) -> str:
    return f"{datetime.fromtimestamp(point.time * 1e-9, UTC):%Y-%m-%d %H:%M} UTC"


class Terminal:
    """Asks in a thread that Ctrl-C need not wait for.

    It reads below Python's own buffer: a thread left in `input` holds its lock, and Python could not end.
    """

    def __init__(self) -> None:
        self._typed = b""

    async def ask(self, question: str) -> str:
        """What is typed, without the line's end. Raises `HalError` where nobody can type any more.

        That is not `done`: a terminal that was closed by accident must not end in a certificate of fewer points.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def settle(text: str | None) -> None:
            if answer.done():
                return
            if text is None:
                answer.set_exception(HalError("nobody can type any more: the terminal was closed, or what was piped in "
                                              "is over; end it with `done`"))  # fmt: skip
            else:
                answer.set_result(text)

        def wait() -> None:
            text = self._line()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, text)

        print(question, end="", flush=True)
        threading.Thread(target=wait, name="ask", daemon=True).start()
        return await answer

    def _line(self) -> str | None:
        while b"\n" not in self._typed:
            try:
                more = os.read(sys.stdin.fileno(), 4096)
            except (OSError, ValueError):  # a terminal that hung up, or none from the start
                more = b""
            if not more:
                return None
            self._typed += more
        line, self._typed = self._typed.split(b"\n", 1)
        return line.decode(errors="replace").strip()


def _simpler(fitted: Fit) -> str:
    """What AICc would take instead. Not taken: a band by the form that the points themselves chose is too narrow."""
    from calibration.fit import PolynomialForm, select

    highest = fitted.form.size - 1
    if highest == 1:
        return ""
    how = {name: value for name, value in fitted.arguments.items() if name != "form"}
    found = select(fitted.x, fitted.y, [PolynomialForm(degree) for degree in range(1, highest + 1)], **how)
    degree = found.best.form.size - 1
    if degree == highest:
        return ""
    return (
        f"AICc would take a {found.best.form.label} ({found.shares[0]:.0%} of the evidence). If you know that the "
        f"sensor is one, --degree {degree} makes the certificate's uncertainty smaller\n\n"
    )


def _table(fitted: Fit, axes: Axes) -> str:
    lines = [f"{axes.unit:>14} {axes.reference_unit:>14} {'left over':>12}"]
    rows = zip(fitted.x, fitted.y, fitted.residuals, strict=True)
    return "\n".join(lines + [f"{x:>14.6g} {y:>14.6g} {left:>12.3g}" for x, y, left in rows])


def _numbers(text: str) -> list[float]:
    try:
        return [_finite(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 100,200,300") from None


def _finite(text: str) -> float:
    if not isfinite(found := float(text)):
        raise ValueError
    return found


def _not_negative(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (found := _finite(text)) >= 0.0:
            return found
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")


def _positive(text: str) -> float:
    if (found := _not_negative(text)) > 0.0:
        return found
    raise argparse.ArgumentTypeError(f"{text!r} is not above 0")


def _coming(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2027-05-01") from None
    if found < datetime.now(UTC).date():
        raise argparse.ArgumentTypeError(f"{text} is over; no lab would take the certificate")
    return found
