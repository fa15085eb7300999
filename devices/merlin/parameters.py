"""The parameters of the emulated Merlin: what it is at power-up, and what may be set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .codec import TriggerStart

READOUT = {1: 0.081, 6: 0.411, 12: 0.822, 24: 1.644}  # ms without continuous read-write [MI counterdepth; 12: TD]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of the table: what it is at power-up and what may be set."""

    value: float | int | str
    low: float = 0
    high: float = 1e12
    choices: tuple[int, ...] = ()
    writable: bool = True


def table(fps: float, size: int, depth: int, version: str) -> dict[str, Parameter]:
    """The parameters it knows [TD parameters.commands; IMAGEX, IMAGEY: LL read_sig_shape; the rest: MI, AD].

    Those of scans, of the trigger's outputs, of background and profiles are kept and change nothing.
    """
    flag, most = (0, 1), 4_294_967_295
    return {
        "SOFTWAREVERSION": Parameter(version, writable=False),
        "IMAGEX": Parameter(size, writable=False),
        "IMAGEY": Parameter(size, writable=False),
        "COLOURMODE": Parameter(0, choices=(0,)),
        "CHARGESUMMING": Parameter(0, choices=flag),
        "GAIN": Parameter(0, choices=(0, 1, 2, 3)),
        "CONTINUOUSRW": Parameter(1, choices=flag),
        "ENABLECOUNTER1": Parameter(0, choices=(0,)),
        **{f"THRESHOLD{i}": Parameter(0.0, high=511.0) for i in range(8)},
        "OPERATINGENERGY": Parameter(0.0),
        "COUNTERDEPTH": Parameter(depth, choices=(1, 6, 12, 24)),
        "NUMFRAMESTOACQUIRE": Parameter(1, low=1, high=most),
        "NUMFRAMESPERTRIGGER": Parameter(1, low=1, high=most),
        "ACQUISITIONTIME": Parameter(1e3 / fps, low=1e-3, high=1e8),
        "ACQUISITIONPERIOD": Parameter(1e3 / fps, low=1e-3, high=1e8),
        "TRIGGERSTART": Parameter(0, choices=tuple(range(10))),
        "TRIGGERSTOP": Parameter(0, choices=tuple(range(10))),
        "FILEFORMAT": Parameter(0, choices=(0,)),
        "FILEENABLE": Parameter(0, choices=flag),
        "FILEDIRECTORY": Parameter("C:\\MERLIN"),
        "FILENAME": Parameter("default.mib"),
        "RUNHEADLESS": Parameter(0, choices=flag),
        **{f"TRIGGEROUT{line}": Parameter(0, choices=tuple(range(7))) for line in ("TTL", "LVDS")},
        **{f"TRIGGEROUT{line}INVERT": Parameter(0, choices=flag) for line in ("TTL", "LVDS")},
        **{f"TRIGGEROUT{line}DELAY": Parameter(0.0, high=68_719_476_720.0) for line in ("TTL", "LVDS")},
        "TRIGGERUSEDELAY": Parameter(0, choices=flag),
        "TRIGGERMODE": Parameter(0, choices=tuple(range(6))),
        "SCANX": Parameter(1, low=1, high=65535),
        "SCANY": Parameter(1, low=1, high=65535),
        "SCANTRIGGERMODE": Parameter(0, choices=(0, 1, 2, 3)),
        "SCANTRIGGERFRAMECOUNT": Parameter(1, low=1, high=most),
        "SCANLINESKIP": Parameter(0, high=65535),
        "SCANSTARTSKIP": Parameter(0, high=65535),
        "THSCAN": Parameter(0, choices=tuple(range(8))),
        "THSTART": Parameter(0.0, high=511.0),
        "THSTOP": Parameter(100.0, high=511.0),
        "THSTEP": Parameter(1.0, high=511.0),
        "THNUMSTEPS": Parameter(100, low=1, high=most),
        "THWINDOWMODE": Parameter(0, choices=flag),
        "THWINDOWSIZE": Parameter(0.0, high=511.0),
        "BCKGRNDCORRECTION": Parameter(0, choices=flag),
        "BCKGRND": Parameter(1, low=1, high=most),
        "IMGAVERAGE": Parameter(0, choices=flag),
        "IMAGESTOSUM": Parameter(1, low=1, high=most),
        "ROI": Parameter(f"0 0 {size} {size}"),
        "PROFILES": Parameter(1, high=15),
        "HVBIAS": Parameter(120, low=0, high=200),
    }


def acquisition(v: Mapping[str, float | int | str]) -> dict[str, str]:
    """What the acquisition header says of them."""
    trigger = "Internal" if v["TRIGGERSTART"] == TriggerStart.INTERNAL else "Soft"
    return {
        "Time and Date Stamp (day, mnth, yr, hr, min, s)": "01/01/2026 00:00:00",
        "Chip ID": "W529_F5,-,-,-",
        "Chip Type (Medipix 3.0, Medipix 3.1, Medipix 3RX)": "Medipix 3RX",
        "Assembly Size (NX1, 2X2)": "   1x1",
        "Chip Mode  (SPM, CSM, CM, CSCM)": "SPM",
        "Counter Depth (number)": str(v["COUNTERDEPTH"]),
        "Gain": "SLGM",
        "Active Counters": "Alternating" if v["CONTINUOUSRW"] else "Counter 0",
        "Acquisition Type (Normal, Th_scan, Config)": "Normal",
        "Frames in Acquisition (Number)": str(v["NUMFRAMESTOACQUIRE"]),
        "Frames per Trigger (Number)": str(v["NUMFRAMESPERTRIGGER"]),
        "Trigger Start (Positive, Negative, Internal)": trigger,
        "Trigger Stop (Positive, Negative, Internal)": "Internal",
        "Sensor Bias (V)": f"{v['HVBIAS']} V",
        "Medipix Clock (MHz)": "120MHz",
        "Readout System": "Merlin Quad",
        "Software Version": str(v["SOFTWAREVERSION"]),
    }
