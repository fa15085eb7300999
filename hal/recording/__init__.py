"""Runs on disk: one self-described NeXus file per experiment, readable while it is written.

Nothing here imports h5py until a file is opened, so that ``import hal`` stays quick. Mending and tables:
``from hal.recording.repair import repair``, ``from hal.recording.export import export``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .layout import (
    Aligned,
    Alignment,
    CameraPlan,
    ClockAnchor,
    Column,
    DevicePlan,
    FrameTimes,
    Holder,
    Microscope,
    RunPlan,
    SignalPlan,
)

if TYPE_CHECKING:
    from .nexus import NexusWriter
    from .reader import Recording, open_run
    from .repair import RepairReport, find_broken

__all__ = [
    "Aligned",
    "Alignment",
    "CameraPlan",
    "ClockAnchor",
    "Column",
    "DevicePlan",
    "FrameTimes",
    "Holder",
    "Microscope",
    "NexusWriter",
    "Recording",
    "RepairReport",
    "RunPlan",
    "SignalPlan",
    "find_broken",
    "open_run",
]

_LATER = {
    "NexusWriter": "nexus",
    "Recording": "reader",
    "open_run": "reader",
    "RepairReport": "repair",
    "find_broken": "repair",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = found
    return found
