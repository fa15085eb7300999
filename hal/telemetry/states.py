"""What a lab says of its devices: who they are and whether they are there, and how a camera films."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..frames.chunk import FrameChunk
from ..model.device import Device
from ..model.reading import Answer
from .payload import Shape, decode, encode


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Who a device is, and whether it is there."""

    lab: str
    device: str
    identity: str
    """Who answered on its link."""
    vendor: str
    model: str
    driver: str
    """Where its driver is: ``package.module:Class``."""
    version: str
    """Of the package the driver is in; empty where it has none."""
    capabilities: tuple[str, ...]
    state: str
    """ready, lost (its link is gone), or safe (a trip holds it in its safe state)."""
    reason: str
    """Why it is not ready, and what to do."""
    session: str
    """The lab's session; another than the lab's state names: an old one that stayed behind."""


def device_state(lab: str, device: Device, session: str, tripped: str | None, link: str) -> DeviceState:
    """The state of a device now; `link`: what was last said of its link, `tripped`: what tripped the lab."""
    state, reason = "ready", ""
    link_state = getattr(getattr(getattr(device, "session", None), "state", None), "value", "open")
    if link_state != "open":
        state, reason = "lost", link or f"its link is {link_state}"
    elif tripped is not None:
        state, reason = "safe", tripped
    cls = type(device)
    return DeviceState(
        lab, device.name, getattr(device, "identity", ""), getattr(device, "vendor", ""), getattr(device, "model", ""),
        f"{cls.__module__}:{cls.__qualname__}", _version(cls.__module__),
        tuple(capability.__name__ for capability in device.provides), state, reason, session,
    )  # fmt: skip


@lru_cache  # it reads files, and a lab asks for each of its devices every two seconds
def _version(module: str) -> str:
    top = module.partition(".")[0]
    try:
        return version("insitu-hal" if top in ("devices", "hal") else top)
    except (PackageNotFoundError, ValueError):
        return str(getattr(sys.modules.get(top), "__version__", ""))


def encode_device(state: DeviceState) -> bytes:
    """The payload of a device's state."""
    return encode(asdict(state))


def decode_device(payload: bytes | str) -> DeviceState:
    """The device's state in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a device's state")
    with Shape("a device's state"):
        known = {f.name: found[f.name] for f in fields(DeviceState)}
        return DeviceState(**known | {"capabilities": tuple(found["capabilities"])})


# ---------------------------------------------------------------------- cameras


@runtime_checkable
class Films(Protocol):
    """A camera, as far as telemetry looks at it."""

    armed: bool

    @property
    def matched(self) -> float | None:
        """Share of the last seconds' frames whose exposure is told by a pulse; None: no pulses are stamped."""
        ...

    @property
    def exposure_bound(self) -> int | None:
        """Median bound of those exposures, ns; None: no pulses are stamped."""
        ...

    async def counts(self) -> Answer:
        """What came of the exposures."""
        ...

    def on_chunk(self, listener: Callable[[FrameChunk], None]) -> None:
        """Call `listener` with every chunk."""
        ...

    def off_chunk(self, listener: Callable[[FrameChunk], None]) -> None:
        """Undo `on_chunk`."""
        ...


@dataclass(frozen=True, slots=True)
class DetectorState:
    """How a camera films."""

    time: int
    """Of this state, lab time, ns."""
    rate: float
    """Frames received in a second."""
    frames: int
    """Received since it was connected."""
    dropped: int
    """Exposures that never arrived, by their numbers."""
    matched: float | None
    """Share of the last seconds' frames whose exposure is told by a pulse; None: no pulses are stamped."""
    bound_ns: int | None
    """Hard bound of the last frames' exposures, median, ns: by pulse or else by arrival; None: not known yet."""


class Watch:
    """Follows one camera."""

    def __init__(self, camera: Films) -> None:
        self.camera = camera
        self._bound: int | None = None
        camera.on_chunk(self._came)

    def close(self) -> None:
        """Follow it no more."""
        self.camera.off_chunk(self._came)

    async def state(self, time: int) -> DetectorState | None:
        """How it films at lab time `time`, ns; None: it does not."""
        if not self.camera.armed:
            return None
        counts: Any = (await self.camera.counts()).payload
        bound = self.camera.exposure_bound
        return DetectorState(
            time, float(counts.rate), counts.received, counts.dropped, self.camera.matched,
            self._bound if bound is None else bound,
        )  # fmt: skip

    def _came(self, chunk: FrameChunk) -> None:
        known = chunk.bound[chunk.valid]
        self._bound = int(np.median(known)) if len(known) else None


def encode_detector(state: DetectorState) -> bytes:
    """The payload of a camera's state."""
    return encode(asdict(state) | {"time": str(state.time)})


def decode_detector(payload: bytes | str) -> DetectorState:
    """The camera's state in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a detector's state")
    with Shape("a detector's state"):
        known = {f.name: found[f.name] for f in fields(DetectorState)}
        bound = None if found["bound_ns"] is None else int(found["bound_ns"])
        return DetectorState(**known | {"time": int(found["time"]), "bound_ns": bound})
