"""Descriptions: what a signal says of itself, so that whoever looks can show it without knowing the lab."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import UnitError
from ..model.limits import Limits
from ..model.signal import SignalR, SignalRW
from ..units import unit
from .payload import Shape, decode, encode
from .rates import EVERYTHING, Rate

LATER = ("every", "dead_band", "heartbeat", "interval")
"""Fields that older labs don't send."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a signal says of itself."""

    lab: str
    device: str
    signal: str
    long_name: str
    unit: str
    ucum: str | None
    udunits: str | None
    dtype: str
    """float, int, bool or str."""
    kind: str
    """hinted (plot it first), normal, or config (described, but its readings are not published)."""
    writable: bool
    limits: tuple[float | None, float | None] | None
    """Least and greatest value that may be set; None: no such bound."""
    choices: tuple[Any, ...] | None
    setpoint_of: str
    """The readback this is the setpoint of."""
    period: float
    """Seconds between readings."""
    varies: str
    """smoothly or in steps."""
    capabilities: tuple[str, ...]
    """What its device is: Heater, Gauge, ..."""
    vendor: str
    model: str
    identity: str
    """Who answered on the device's link."""
    session: str
    """The lab's session it was given in; another than the lab's state names: an old one that stayed behind."""
    every: float | None = None
    """Seconds from one message to the next, which tells of all readings between; None: of each reading one."""
    dead_band: float | None = None
    """Changes by less than this are not published; None: all are."""
    heartbeat: float | None = None
    """Seconds after which an unchanged reading is published all the same."""
    interval: float | None = None
    """Seconds between two messages at most, while all is well; None: as `period`."""


def describe(lab: str, signal: SignalR[Any], session: str = "", rate: Rate = EVERYTHING) -> Description:
    """The description of a signal as it stands now, published at `rate`."""
    device = signal.device
    ucum: str | None = None
    udunits: str | None = None
    try:
        ucum, udunits = unit(signal.unit).ucum, unit(signal.unit).udunits
    except UnitError:  # a driver's own: shown as it is
        pass
    limits: tuple[float | None, float | None] | None = None
    choices: tuple[Any, ...] | None = None
    of = ""
    if isinstance(signal, SignalRW):
        limits = _bounds(signal.limits) if signal.dtype in (int, float) else None
        choices, of = tuple(signal.choices) or None, signal.of
    return Description(
        lab=lab,
        device=device.name,
        signal=signal.name,
        long_name=signal.__doc__ or signal.name.replace("_", " "),
        unit=signal.unit,
        ucum=ucum,
        udunits=udunits,
        dtype=signal.dtype.__name__,
        kind=signal.kind.value,
        writable=isinstance(signal, SignalRW),
        limits=limits,
        choices=choices,
        setpoint_of=of,
        period=signal.poll,
        varies=signal.varies,
        capabilities=tuple(capability.__name__ for capability in device.provides),
        vendor=getattr(device, "vendor", ""),
        model=getattr(device, "model", ""),
        identity=getattr(device, "identity", ""),
        session=session,
        every=rate.every,
        dead_band=rate.dead_band,
        heartbeat=rate.heartbeat,
        interval=max(signal.poll, rate.slowest) if rate.slowest is not None else None,
    )


def encode_description(description: Description) -> bytes:
    """The payload of a description."""
    return encode(asdict(description))


def decode_description(payload: bytes | str) -> Description:
    """The description in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a description")
    with Shape("a description"):
        known = {f.name: found[f.name] for f in fields(Description) if f.name not in LATER or f.name in found}
        for name in ("limits", "choices", "capabilities"):
            known[name] = None if known[name] is None else tuple(known[name])
        return Description(**known)


def _bounds(limits: Limits) -> tuple[float | None, float | None]:
    low = limits.low if math.isfinite(limits.low) else None
    high = limits.high if math.isfinite(limits.high) else None
    return low, high
