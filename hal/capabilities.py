"""The capabilities a script may ask for: ``from hal.capabilities import Camera, Gauge, Heater``."""

from .model.capabilities import (
    CAPABILITIES,
    Beam,
    Camera,
    FlowController,
    FrameClock,
    Gauge,
    Heater,
    Pump,
    SourceMeter,
    Teds,
    Thermometer,
    Valve,
    lacking,
)

__all__ = [
    "CAPABILITIES",
    "Beam",
    "Camera",
    "FlowController",
    "FrameClock",
    "Gauge",
    "Heater",
    "Pump",
    "SourceMeter",
    "Teds",
    "Thermometer",
    "Valve",
    "lacking",
]
