"""A run calibrated again: the raw readings through another certificate, as a layer beside everything that was there.

Nothing is replaced. Each layer holds its certificate's whole text, every reading's value and uncertainty by it, and
both at every camera's frames. The file is written anew beside the run and takes its place when it is whole.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError
from ..model.calibrated import SUFFIX
from ..units import unit as known_unit
from .calibrated import day_of, is_of, through
from .columns import make_group
from .layout import ENTRY, QUALITIES, Aligned, signal_group
from .origin import date_now
from .plan import software
from .rewriting import make_sure_it_is_over, rewritten

if TYPE_CHECKING:
    from calibration.certificate import Certificate

    from .reader import Recording

LAYERS = f"{ENTRY}/recalibrated"


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """A signal by a certificate: arrays of one length, one for each reading or each frame."""

    value: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    valid: NDArray[np.bool_]
    unit: str
    beyond: NDArray[np.bool_]
    """Where the raw value lies outside the certificate's range."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One calibration of one signal, as a run keeps it."""

    number: int
    """1 for the first that was added."""
    path: str
    """Of the calibrated signal."""
    raw: str
    """Of the signal that it was made of."""
    certificate: str
    """Its text."""
    hash: str
    date: str
    """When it was worked out, ISO 8601."""
    override: str
    """Why a certificate was used that should not have been; empty: it was right."""
    readings: Values
    """In the order of the raw signal's readings."""
    at_frames: Mapping[str, Values]
    """By camera."""


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """What came of it."""

    run: str
    written: str
    """The file; empty if nothing was written."""
    path: str
    raw: str
    hash: str
    readings: int
    unit: str
    compared_with: str
    """The signal that stood there before, which the shifts are from; empty: there is none in this unit."""
    median_shift: float
    largest_shift: float
    median_uncertainty: float
    beyond: int
    """Readings outside the certificate's range."""
    why_not: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `hal recalibrate --json` shows it."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.readings} readings of {self.raw}, known to {self.median_uncertainty:.3g} {self.unit} "
            "(standard uncertainty, median)"
        ]
        if self.compared_with:
            lines.append(
                f"  {self.median_shift:+.4g} {self.unit} (median) from {self.compared_with}, "
                f"{self.largest_shift:.4g} {self.unit} at most"
            )
        if self.beyond:
            lines.append(f"  {self.beyond} lie beyond the certificate's range and are marked uncertain")
        lines.append(f"written to {self.written}" if self.written else f"nothing was written: {self.why_not}")
        return "\n".join(lines)


def recalibrate(
    path: str | os.PathLike[str],
    certificate: str | Path,
    signal: str = "",
    out: str | os.PathLike[str] | None = None,
    *,
    override: str = "",
) -> Recalibrated:
    """Add a layer to a run (or to a copy of it, `out`): a raw signal through a certificate.

    signal: path of the raw signal; if empty, the one that the certificate names (`signal` in its result), or the
    only one of the run that was calibrated. override: the reason to use a certificate that had expired when the run
    was made, or is of another serial number; it is kept with the layer.
    Raises `RecordError`.
    """
    from calibration.certificate import load
    from calibration.errors import CertificateError

    from .reader import open_run

    path = Path(path)
    target = Path(out) if out is not None else path
    make_sure_it_is_over(path, "calibrate")
    if out is not None and target.exists():
        raise RecordError(f"{target}: is there already; name another file")
    try:
        stated = load(certificate)
    except CertificateError as error:
        raise RecordError(str(error)) from None
    with open_run(path) as run:
        name = _raw_signal(run, stated, signal)
        try:
            problem = _objection(run, stated, name)
            if problem and not override:
                raise CertificateError(f"{problem} (or say why it is to be used: --override REASON)")
            layer = _layer(run, stated, name, override if problem else "")
        except CertificateError as error:
            raise RecordError(f"{certificate}: {error}") from None
        report = _report(run, path, target, layer)
        if out is None and any(_alike(layer, other) for other in layers(run)):
            return _unwritten(report, "the same values stand there already")
    with rewritten(path, target, "recalibrated") as file:
        _put(file, layer)
    return report


def layers(run: Recording) -> list[Layer]:
    """The calibrations that were added to a run afterwards, the first one first."""
    group = run.file.get(LAYERS, {})
    return [_read(run, int(name), group[name]) for name in sorted(group, key=int)]


def samples(run: Recording, raw: str, certificate: str) -> Values:
    """Every sample of a streamed input through a certificate (its text), in the order of the stream's instants.

    They are worked out when they are wanted: a layer holds what was read now and then, and what is at frames.
    Raises `RecordError`: it was not streamed, or the certificate is not for it.
    """
    from calibration.certificate import parse
    from calibration.errors import CertificateError

    for stream in run.streams.values():
        for number, path in zip(stream.declared.inputs, stream.declared.paths, strict=True):
            if path == raw:
                volts = stream.value(number)
                try:
                    return _values(
                        run,
                        parse(certificate),
                        stream.declared.unit,
                        volts,
                        np.full(volts.shape, stream.declared.sigma),
                    )
                except CertificateError as error:
                    raise RecordError(f"{run.path}: {raw}: {error}") from None
    raise RecordError(f"{run.path}: {raw} was not streamed; a layer has its readings")


# ---------------------------------------------------------------------------- private: working it out


def _raw_signal(run: Recording, certificate: Certificate, asked: str) -> str:
    named = asked or str(certificate.result.get("signal", ""))
    if not named:
        made = sorted({record.raw for record in run.signals.values() if record.raw})
        if len(made) != 1:
            which = f"{', '.join(made)} are" if made else "none is"
            raise RecordError(
                f"{run.path}: which signal is the certificate for? {which} calibrated in this run; "
                "write --certificate DEVICE.SIGNAL=FILE"
            )
        named = made[0]
    if "." not in named:  # a holder's own certificate does not know what its device is called
        named = next((path for path in run.signals if path.rpartition(".")[2] == named), named)
    if named not in run.signals:
        raise RecordError(f"{run.path}: no signal {named!r} in this run; there are {', '.join(run.signals)}")
    record = run.signals[named]
    if record.raw:
        raise RecordError(f"{named} is calibrated already; name the raw signal, {record.raw}")
    if record.kind not in ("float", "int"):
        raise RecordError(f"{named} is no number; only numbers are calibrated")
    return named


def _objection(run: Recording, certificate: Certificate, raw: str) -> str:
    """Why the certificate must not be used for this run; empty if it may."""
    from calibration.errors import CertificateError

    device = run.devices.get(raw.partition(".")[0])
    identity = device.identity if device is not None else ""
    records = [record for path, record in run.signals.items() if path.endswith(".holder_serial")]
    told = {str(serial) for record in records for serial in record.value[record.valid].tolist() if serial}
    if certificate.serial in told and any(len(set(r.value[r.valid].tolist())) > 1 for r in records):
        return f"the holder was exchanged during the run ({', '.join(sorted(told))}), and it is of one of them"
    serials = told or {_holder_serial(run)}
    try:
        certificate.check(kind=certificate.kind, on=day_of(run))
    except CertificateError as error:
        return str(error)
    if is_of(certificate, identity, serials):
        return ""
    said = " and ".join(repr(text) for text in (identity, *sorted(serials)) if text) or "nothing"
    return (
        f"it was made for {certificate.device} with the serial number {certificate.serial!r}, and in this run the "
        f"device says {said}; name the certificate of that one"
    )


def _holder_serial(run: Recording) -> str:
    try:
        return str(tomllib.loads(run.lab_file or "").get("holder", {}).get("serial", ""))
    except tomllib.TOMLDecodeError:
        return ""


def _layer(run: Recording, certificate: Certificate, raw: str, override: str) -> Layer:
    record = run.signals[raw]
    good = record.valid & (record.quality != QUALITIES.index("bad"))
    value = np.where(good, np.asarray(record.value, np.float64), np.nan)
    readings = _values(run, certificate, record.unit, value, record.uncertainty)
    frames: dict[str, Values] = {}
    for camera in run.cameras:
        aligned = run.aligned_to(camera)
        if raw in aligned:
            at: Aligned = aligned[raw]
            known = np.where(at.valid, np.asarray(at.value, np.float64), np.nan)
            frames[camera] = _values(run, certificate, record.unit, known, at.uncertainty)
    return Layer(0, raw + SUFFIX, raw, certificate.text(), certificate.hash, date_now(), override, readings, frames)


def _values(run: Recording, certificate: Certificate, unit: str, value: Any, sigma: Any) -> Values:
    found, uncertainty, beyond, unit_out = through(certificate, unit, day_of(run), value, np.asarray(sigma, np.float64))
    valid = np.isfinite(found)
    return Values(found, np.where(valid, uncertainty, np.nan), valid, unit_out, np.asarray(beyond & valid))


def _report(run: Recording, path: Path, target: Path, layer: Layer) -> Recalibrated:
    new = layer.readings
    before, shift = "", np.zeros(0)
    for name in (layer.path, layer.raw):
        record = run.signals.get(name, None)
        if record is not None and record.unit == new.unit:
            # The calibrated signal was read together with the raw one; where it was not, there is nothing to compare.
            _, ours, theirs = np.intersect1d(run.signals[layer.raw].time, record.time, return_indices=True)
            shift = new.value[ours] - np.asarray(record.value, np.float64)[theirs]
            shift = shift[np.isfinite(shift)]
            before = name
            break
    sigma = new.uncertainty[new.valid]
    return Recalibrated(
        str(path), str(target), layer.path, layer.raw, layer.hash, int(new.valid.sum()), new.unit,
        before if len(shift) else "",
        float(np.median(shift)) if len(shift) else 0.0, float(np.abs(shift).max()) if len(shift) else 0.0,
        float(np.median(sigma)) if len(sigma) else float("nan"), int(new.beyond.sum()),
    )  # fmt: skip


def _unwritten(report: Recalibrated, why: str) -> Recalibrated:
    return Recalibrated(**{**asdict(report), "written": "", "why_not": why})


def _alike(one: Layer, other: Layer) -> bool:
    same = (one.hash, one.raw, one.override) == (other.hash, other.raw, other.override)
    frames = one.at_frames.keys() == other.at_frames.keys() and all(
        np.array_equal(v.value, other.at_frames[camera].value, equal_nan=True) for camera, v in one.at_frames.items()
    )
    return same and frames and np.array_equal(one.readings.value, other.readings.value, equal_nan=True)


# ---------------------------------------------------------------------------- private: the file


def _put(file: h5py.File, layer: Layer) -> None:
    top = file[LAYERS] if LAYERS in file else make_group(file, LAYERS, "NXcollection")
    group = make_group(top, str(len(top) + 1), "NXcollection")
    program = {"program": "insitu-hal", "version": software().get("insitu-hal", "not installed")}
    about = {"signal": layer.path, "raw": layer.raw, "hash": layer.hash, "date": layer.date, "override": layer.override}
    for name, text in (program | about).items():
        group[name] = text
    note = make_group(group, "certificate", "NXnote")
    note["type"], note["description"] = "application/toml", layer.certificate
    readings = make_group(group, "readings", "NXlog")
    readings["time"] = h5py.SoftLink(f"/{signal_group(layer.raw).lstrip('/')}/time")
    _put_values(readings, layer.readings)
    for camera, values in layer.at_frames.items():
        _put_values(make_group(group, f"frames_{camera}", "NXcollection"), values)


def _put_values(group: h5py.Group, values: Values) -> None:
    group["value"], group["uncertainty"] = values.value, values.uncertainty
    group["valid"], group["beyond"] = values.valid.astype("u1"), values.beyond.astype("u1")
    for name in ("value", "uncertainty"):
        group[name].attrs["units"] = known_unit(values.unit).udunits
    group.attrs["unit"] = values.unit


def _read(run: Recording, number: int, group: h5py.Group) -> Layer:
    text = {name: group[name].asstr()[()] for name in ("signal", "raw", "hash", "date", "override")}
    frames = {camera: _values_of(group[f"frames_{camera}"]) for camera in run.cameras if f"frames_{camera}" in group}
    return Layer(
        number, text["signal"], text["raw"], group["certificate/description"].asstr()[()], text["hash"], text["date"],
        text["override"], _values_of(group["readings"]), frames,
    )  # fmt: skip


def _values_of(group: h5py.Group) -> Values:
    value, uncertainty, valid, beyond = (group[name][:] for name in ("value", "uncertainty", "valid", "beyond"))
    return Values(value, uncertainty, valid.astype(bool), str(group.attrs["unit"]), beyond.astype(bool))
