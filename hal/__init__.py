"""insitu-hal: instruments of an in-situ electron microscopy lab, on one timebase, under one safety layer.

    from hal import Lab
    from hal.capabilities import Camera, Heater

This module loads neither h5py nor pydantic nor a driver: they come when they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .instrument.address import Calls, Field, Remembered, Scpi, Soft
from .instrument.instrument import Instrument
from .model.device import Device
from .model.limits import Limits
from .model.reading import Answer, Noise, Quality, Reading, Sample
from .model.signal import Kind, SignalR, SignalRW
from .model.status import Status
from .runtime.lab import Lab

if TYPE_CHECKING:
    from .recording.reader import open_run

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Calls",
    "Device",
    "Field",
    "Instrument",
    "Kind",
    "Lab",
    "Limits",
    "Noise",
    "Quality",
    "Reading",
    "Remembered",
    "Sample",
    "Scpi",
    "SignalR",
    "SignalRW",
    "Soft",
    "Status",
    "errors",
    "open_run",
]


def __getattr__(name: str) -> Any:
    if name == "open_run":
        from .recording.reader import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
