"""Certificates that a lab file names or a holder brings, checked and applied: where a lab meets `calibration`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from ..instrument.instrument import Instrument
from ..model.calibrated import SUFFIX, Applied, CalibratedAt, Calibration, Plugged, Sheet, nothing
from ..model.signal import SignalR, SignalRW
from ..recording.calibrated import curve_for, is_of

if TYPE_CHECKING:
    from calibration.certificate import Certificate

    from .config import LabConfig

SHOWN = 60
"""Letters of what devices say of themselves that a message repeats."""
SOON = 30
"""Days before its end from which on a certificate's expiry is told."""
LARGEST = 1 << 20
"""Bytes of a certificate's file; a larger one is something else."""


def stated(
    folder: Path, file: str, override: str, signal: SignalR[Any], trusted: Mapping[str, str] | None = None
) -> Calibration:
    """The certificate for a signal, checked as far as no device has to be asked. Raises `ConfigError`.

    trusted: names and public keys; if there are any, one of them has to have signed it.
    """
    from calibration.certificate import parse
    from calibration.errors import CertificateError

    _measured(signal)
    path = folder / file
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes; no certificate is so large")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read ({error}); is this the certificate?") from None
    try:
        certificate = parse(text)
        if trusted:
            _make_sure_of_signature(text, trusted)
        if not override:
            certificate.check(kind=certificate.kind)
        return _calibration(certificate, text, file, override, signal)
    except CertificateError as error:
        raise ConfigError(f"{file}: {error}{_ADVICE if 'expired' in str(error) else ''}") from None


def refuse_curve(path: Path) -> None:
    """A certificate that is only recorded must not be one that could be applied. Raises `ConfigError`."""
    from calibration.certificate import load
    from calibration.errors import CertificateError

    with suppress(CertificateError):  # it may be anything else: nobody computes with it
        if load(path).kind.startswith("curve."):
            raise ConfigError(
                f"{path.name} holds the curve of one signal and would only be recorded; write "
                'calibration.SIGNAL = "..." to have it applied'
            )


async def apply(config: LabConfig, devices: dict[str, Instrument]) -> None:
    """Give the devices their calibrated signals, once everybody is connected. Raises `ConfigError`.

    A certificate with a serial number must be of a device that says so itself, by its identity or its holder's TEDS;
    or, where no holder speaks, of the one that the lab file names. That is looked at again at every reading.
    A holder's own certificate is applied where the lab file has none for that signal.
    """
    if problems := objections(config, devices):
        told = (f"devices.{name}.{text}" for name, texts in problems.items() for text in texts)
        raise ConfigError(f"{config.path}: " + "; ".join(told))
    holders = Holders(devices.values(), _named(config))
    for name, signals in config.calibrations.items():
        device = devices[name]
        for raw_name, calibration in signals.items():
            if calibration.override:
                why = (
                    holders.foreign(calibration, device)
                    or _overdue(calibration)
                    or "it is right, and needs no override"
                )
                device.context.journal.note(
                    "calibration", name, f"{raw_name}: certificate {calibration.file} is used by override: "
                    f"{calibration.override} ({why})", override=calibration.override,
                )  # fmt: skip
            _give(device, raw_name, calibration, _by_serial(calibration, device, holders))
    for name, device in devices.items():
        if isinstance(device, Plugged) and device.data_sheet is not None and device.data_sheet.certificate:
            _take_from_holder(config, device, device.data_sheet, set(config.calibrations.get(name, {})))


def objections(config: LabConfig, devices: Mapping[str, Instrument]) -> dict[str, list[str]]:
    """By device: the certificates of the lab file that are not of what is connected, but for those overridden."""
    holders = Holders(devices.values(), _named(config))
    found: dict[str, list[str]] = {}
    for name, signals in config.calibrations.items():
        for raw_name, calibration in signals.items():
            if not calibration.override and (why := holders.foreign(calibration, devices[name])):
                found.setdefault(name, []).append(f"calibration.{raw_name}: {calibration.file}: {why}{_ADVICE}")
    return found


class Holders:
    """Who is connected, as devices and the TEDS of their holders tell it now."""

    def __init__(self, devices: Iterable[Any], named: str) -> None:
        """named: the serial number that the lab file gives to the holder; a holder that speaks knows better."""
        self._plugged = [device for device in devices if isinstance(device, Plugged)]
        self._named = "" if self.serials else named

    @property
    def serials(self) -> tuple[str, ...]:
        """The serial numbers that TEDS tell."""
        sheets = [device.data_sheet for device in self._plugged]
        return tuple(sheet.serial for sheet in sheets if sheet is not None and sheet.serial)

    def foreign(self, calibration: Calibration, device: Any) -> str:
        """Why the certificate is somebody else's; empty if it isn't."""
        from calibration.certificate import parse

        serials = self.serials or ((self._named,) if self._named else ())
        certificate = parse(calibration.text)
        if is_of(certificate, device.identity, serials):
            return ""
        said = " and ".join(repr(text[:SHOWN]) for text in (device.identity, *serials) if text) or "nothing"
        return (
            f"it was made for {certificate.device} with the serial number {certificate.serial!r}, and what is "
            f"connected says {said}; name the certificate of this one"
        )


# ---------------------------------------------------------------------------- private

_ADVICE = ' (or say why it is to be used: { certificate = "...", override = "reason" })'


def _named(config: LabConfig) -> str:
    return config.file.holder.serial if config.file.holder is not None else ""


def _measured(signal: SignalR[Any]) -> None:
    if isinstance(signal.at, CalibratedAt):
        raise ConfigError(f"{signal.name} is calibrated already; name the raw signal, {signal.at.raw.name}")
    if isinstance(signal, SignalRW):
        raise ConfigError(f"{signal.name} is set, not measured; name a signal that is read")
    if signal.dtype not in (float, int):
        raise ConfigError(f"{signal.name} is no number; only numbers are calibrated")


def _make_sure_of_signature(text: str, trusted: Mapping[str, str]) -> None:
    from calibration import signing

    try:
        signing.verify(text, {name: key.lower() for name, key in trusted.items()})
    except ImportError:
        raise ConfigError('signatures need `cryptography`; pip install "insitu-hal[signing]"') from None


def _calibration(certificate: Certificate, text: str, file: str, override: str, signal: SignalR[Any]) -> Calibration:
    """Raises `CertificateError`: its curve can't be used, or not for this signal."""
    curve, scale, offset = curve_for(certificate, signal.unit)
    curve(0.5 * sum(curve.valid))  # makes what tables it needs, which takes a while, before anything runs

    def applied(value: Any, uncertainty: Any) -> Applied:
        raw = scale * np.asarray(value, np.float64) + offset
        found = curve(raw, abs(scale) * np.asarray(uncertainty, np.float64), outside="mark")
        return found.value, found.uncertainty, found.uncertain

    low, high = curve.valid
    beyond = f"beyond {low:g} to {high:g} {curve.unit_in}, where certificate {file} holds"
    return Calibration(file, text, certificate.serial, override, curve.unit_out, applied, beyond)


def _give(device: Any, raw_name: str, calibration: Calibration, look: Callable[[], str]) -> None:
    """Add the calibrated signal, with what is looked at anew at every reading; tell if it will soon be out of date."""
    journal, name = device.context.journal, raw_name + SUFFIX
    if hasattr(device, name):
        raise ConfigError(f"{device.name} has a signal {name} of its own, beside which there is no room for another")
    if (days := _days_left(calibration)) is not None and 0 <= days <= SOON:
        journal.note(
            "calibration", device.name,
            f"{raw_name}: certificate {calibration.file} expires in {days} days; calibrate anew before that",
        )  # fmt: skip
    before = ""

    def objection() -> str:
        nonlocal before
        why = look()
        if why != before:
            before = why
            text = why or f"certificate {calibration.file} holds again: what it was made for is back"
            journal.note("error" if why else "calibration", device.name, f"{raw_name}: {text}")
        return why

    doubt = _by_day(calibration, device, raw_name)
    device.add_signal(replace(calibration, objection=objection, doubt=doubt).of(getattr(device, raw_name)))


def _by_day(calibration: Calibration, device: Any, raw_name: str) -> Callable[[], str]:
    """That a certificate has expired since the lab was opened; told once. An override goes on."""
    from calibration.certificate import parse

    expires = parse(calibration.text).expires
    if expires in (None, date.max) or calibration.override:
        return nothing
    context = device.context
    over = int(datetime.combine(expires + timedelta(days=1), time(), UTC).timestamp()) * 10**9  # ns
    why = ""

    def look() -> str:
        nonlocal why
        if not why and context.timebase.now() >= over:
            why = f"certificate {calibration.file} expired on {expires}, while the lab was open"
            context.journal.note("error", device.name, f"{raw_name}: {why}; calibrate anew")
        return why

    return look


def _by_serial(calibration: Calibration, device: Any, holders: Holders) -> Callable[[], str]:
    """Why a file's certificate is not of what is connected now; worked out when somebody says another thing."""
    if not calibration.serial:
        return nothing
    at_first = holders.serials
    looked_at: tuple[str, tuple[str, ...]] = device.identity, at_first
    why = ""

    def look() -> str:
        nonlocal looked_at, why
        now = device.identity, holders.serials
        if now != looked_at:
            looked_at = now
            if calibration.override:  # its reason was one for what was there then
                why = "" if now[1] == at_first else "it was overridden for another holder; open the lab anew"
            else:
                why = holders.foreign(calibration, device)
            why = f"certificate {calibration.file} does not hold any more: {why}" if why else ""
        return why

    return look


def _by_holder(device: Any, sheet: Sheet) -> Callable[[], str]:
    """Why a holder's own certificate does not hold now."""

    def look() -> str:
        now = device.data_sheet
        if now is sheet:
            return ""
        if now is None or now.serial != sheet.serial:
            there = "none is there now" if now is None else f"{now.serial or 'one without a number'} is there now"
            return f"the holder {sheet.serial}, whose TEDS brought the certificate, was exchanged: {there}"
        if now.certificate != sheet.certificate:
            return f"the certificate in the TEDS of {sheet.serial} was written anew; open the lab anew to use it"
        return ""

    return look


def _take_from_holder(config: LabConfig, device: Any, sheet: Sheet, by_file: set[str]) -> None:
    """Apply the certificate that a holder brings along, or say why not: nobody asked for it, the lab opens anyway."""
    from calibration.errors import CalibrationError, CertificateError
    from calibration.teds import lengthen

    holder = f"{sheet.model or 'holder'} {sheet.serial}".strip()
    journal = device.context.journal
    try:
        certificate = lengthen(sheet.certificate, sheet.serial, holder)
        if certificate is None:
            return
        name = str(certificate.result["signal"])
        if name in by_file:
            journal.note(
                "calibration", device.name,
                f"{name}: the lab file names a certificate; the one that {holder} brings in its TEDS is not used",
            )  # fmt: skip
            return
        signal = next((s for s in device.signals() if s.name == name), None)
        if signal is None:
            raise CertificateError(f"it is of a signal {name!r}, which {device.name} has not")
        _measured(signal)
        if config.file.calibration.signed_by:
            raise CertificateError("it is not signed, as the lab file demands; name the signed one there")
        certificate.check(kind=certificate.kind)
        file = f"TEDS of {sheet.serial}, {certificate.hash[:19]}"
        calibration = _calibration(certificate, certificate.text(), file, "", signal)
        _give(device, name, calibration, _by_holder(device, sheet))
    except (CalibrationError, ConfigError) as error:
        journal.note("error", device.name, f"the certificate in the TEDS of {holder} is not used: {error}")
        return
    until = f", until {certificate.expires}" if certificate.expires else ""
    journal.note(
        "calibration", device.name,
        f"{name}: {name}_calibrated is by the certificate in the TEDS of {holder} ({certificate.reference}, "
        f"{certificate.by}, {certificate.made.date()}{until})", hash=certificate.hash,
    )  # fmt: skip


def _days_left(calibration: Calibration) -> int | None:
    from calibration.certificate import parse

    expires = parse(calibration.text).expires
    return None if expires is None else (expires - _today()).days


def _overdue(calibration: Calibration) -> str:
    left = _days_left(calibration)
    return "" if left is None or left >= 0 else f"it expired {-left} days ago"


def _today() -> date:
    return datetime.now(UTC).date()
