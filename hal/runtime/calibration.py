"""Certificates that a lab file names, read, checked and applied: the one place where a lab meets `calibration`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, HalError
from ..instrument.instrument import Instrument
from ..model.calibrated import Calibration
from ..model.capabilities import Teds
from ..model.reading import Quality, Sample
from ..model.signal import SignalR, SignalRW
from ..recording.calibrated import curve_for

if TYPE_CHECKING:
    from calibration.curve import Curve

    from .config import LabConfig

SHOWN = 60
"""Letters of what devices say of themselves that a message repeats."""


def stated(folder: Path, file: str, override: str, signal: SignalR[Any]) -> Calibration:
    """The certificate for a signal, checked as far as no device has to be asked. Raises `ConfigError`."""
    from calibration.certificate import parse
    from calibration.errors import CertificateError

    if isinstance(signal, SignalRW):
        raise ConfigError(f"{signal.name} is set, not measured; name a signal that is read")
    if signal.dtype not in (float, int):
        raise ConfigError(f"{signal.name} is no number; only numbers are calibrated")
    path = folder / file
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read ({error}); is this the certificate?") from None
    try:
        certificate = parse(text)
        curve, scale, offset = curve_for(certificate, signal.unit)
        if not override:
            certificate.check(kind=certificate.kind)
    except CertificateError as error:
        raise ConfigError(f"{file}: {error}{_ADVICE if 'expired' in str(error) else ''}") from None
    return Calibration(file, text, certificate.serial, override, curve.unit_out, _applied(curve, scale, offset, file))


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

    A certificate with a serial number must be of a device that says so itself, by its identity or its holder's TEDS,
    or of the holder that the lab file names.
    """
    problems: list[str] = []
    holder = config.file.holder
    told: list[str] = [holder.serial] if holder is not None and holder.serial else []
    if any(c.serial for signals in config.calibrations.values() for c in signals.values()):
        told += await _holders(devices.values())
    for name, signals in config.calibrations.items():
        device = devices[name]
        for raw_name, calibration in signals.items():
            problem = _foreign(calibration, [device.identity, *told])
            if problem and not calibration.override:
                problems.append(f"devices.{name}.calibration.{raw_name}: {calibration.file}: {problem}{_ADVICE}")
                continue
            if calibration.override:
                why = problem or _overdue(calibration) or "it is right, and needs no override"
                device.context.journal.note(
                    "calibration", name, f"{raw_name}: certificate {calibration.file} is used by override: "
                    f"{calibration.override} ({why})", override=calibration.override,
                )  # fmt: skip
            device.add_signal(calibration.of(getattr(device, raw_name)))
    if problems:
        raise ConfigError(f"{config.path}: " + "; ".join(problems))


# ---------------------------------------------------------------------------- private

_ADVICE = ' (or say why it is to be used: { certificate = "...", override = "reason" })'


def _applied(curve: Curve, scale: float, offset: float, file: str) -> Any:
    def applied(value: float, uncertainty: float) -> Sample[float]:
        found = curve(scale * value + offset, abs(scale) * uncertainty, outside="mark")
        if found.uncertain:
            low, high = curve.valid
            reason = f"beyond {low:g} to {high:g} {curve.unit_in}, where certificate {file} holds"
            return Sample(float(found.value), Quality.UNCERTAIN, reason, float(found.uncertainty))
        return Sample(float(found.value), uncertainty=float(found.uncertainty))

    return applied


async def _holders(devices: Iterable[Any]) -> list[str]:
    """The serial numbers that holders' TEDS tell."""
    found = []
    for device in devices:
        if Teds in device.provides:
            with suppress(HalError):  # no holder, or a blank one: it tells none
                found.append(str(await device.holder_serial.get()))
    return found


def _foreign(calibration: Calibration, told: list[str]) -> str:
    """Why it is somebody else's; empty if it isn't."""
    from calibration.certificate import parse

    certificate = parse(calibration.text)
    if any(certificate.is_of(text) for text in told):
        return ""
    said = " and ".join(repr(text[:SHOWN]) for text in told if text) or "nothing"
    return (
        f"it was made for {certificate.device} with the serial number {certificate.serial!r}, and what is connected "
        f"says {said}; name the certificate of this one"
    )


def _overdue(calibration: Calibration) -> str:
    from calibration.certificate import parse

    expires = parse(calibration.text).expires
    return f"it expired on {expires}" if expires is not None and datetime.now(UTC).date() > expires else ""
