"""The parameters of the emulated DECTRIS detector: what it is at power-up, and what may be set.

Names and forms as in [LL] sim.py, [ES] config.py and [SD] (see `rest`), and as fastcs-eiger 0.4.0 and [AD]
eigerDetector.cpp ask for them; the ranges are those of no model in particular.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

HC = 12398.42  # eV angstrom
READOUT = 1e-7
"""Dead time between two exposures, s."""


@dataclass
class Entry:
    """One parameter."""

    value: Any
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    writable: bool = True

    @property
    def kind(self) -> str:
        """Its `value_type`."""
        names = {bool: "bool", int: "uint", float: "float", str: "string"}
        return names[type(self.value)]

    def shown(self) -> dict[str, Any]:
        """What GET answers."""
        found: dict[str, Any] = {
            "value": self.value, "value_type": self.kind, "access_mode": "rw" if self.writable else "r",
        }  # fmt: skip
        found |= {k: v for k, v in (("unit", self.unit), ("min", self.low), ("max", self.high)) if v not in ("", None)}
        if self.choices:
            found["allowed_values"] = list(self.choices)
        return found

    def convert(self, value: Any) -> Any:
        """The value as it would be stored; ValueError says why not."""
        wanted = type(self.value)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not wanted:
            raise ValueError(f"expected a {self.kind}")
        if self.choices and value not in self.choices:
            raise ValueError(f"allowed are {', '.join(self.choices)}")
        if wanted in (int, float):
            bad = not math.isfinite(value) or value < (self.low or 0)
            if bad or (self.high is not None and value > self.high):
                raise ValueError(f"allowed are {self.low or 0} to {self.high}")
        return value


@dataclass
class Table:
    """All of them by module, kept consistent."""

    detector: dict[str, Entry] = field(default_factory=dict)
    stream: dict[str, Entry] = field(default_factory=dict)
    filewriter: dict[str, Entry] = field(default_factory=dict)
    monitor: dict[str, Entry] = field(default_factory=dict)

    def set(self, module: str, name: str, value: Any) -> list[str]:
        """Set one; return the names of all that changed. ValueError, KeyError."""
        entries: dict[str, Entry] = getattr(self, module)
        entry = entries[name]
        if not entry.writable:
            raise ValueError("read only")
        before = {key: e.value for key, e in entries.items()}
        entry.value = entry.convert(value)
        if module == "detector":
            count, frame = self.detector["count_time"], self.detector["frame_time"]
            if name == "count_time":
                frame.value = max(frame.value, count.value + READOUT)
            elif name == "frame_time":
                count.value = min(count.value, frame.value - READOUT)
            self._follow(name, entry.value)
        return [key for key, e in entries.items() if e.value != before[key]] or [name]

    def _follow(self, name: str, value: Any) -> None:
        """Energies and thresholds that go together: a threshold is half the photon's energy unless set otherwise."""
        d = self.detector
        match name:
            case "photon_energy" | "wavelength" if value > 0.0:
                energy = value if name == "photon_energy" else HC / value
                d["photon_energy"].value, d["wavelength"].value = energy, HC / energy
                for threshold in ("threshold_energy", "threshold/1/energy"):
                    d[threshold].value = energy / 2
            case "threshold_energy" | "threshold/1/energy":
                d["threshold_energy"].value = d["threshold/1/energy"].value = value


def table(fps: float, rows: int, columns: int, depth: int, serial: str, stream: str) -> Table:
    """As it is at power-up."""
    flag, most = ("enabled", "disabled"), 2_000_000_000
    period = 1 / fps
    return Table(
        detector={
            "description": Entry("DECTRIS EMULATED 1K", writable=False),
            "detector_number": Entry(serial, writable=False),
            "software_version": Entry("1.8.0", writable=False),
            "sensor_material": Entry("Si", writable=False),
            "sensor_thickness": Entry(0.00045, "m", writable=False),
            "x_pixel_size": Entry(7.5e-05, "m", writable=False),
            "y_pixel_size": Entry(7.5e-05, "m", writable=False),
            "x_pixels_in_detector": Entry(columns, writable=False),
            "y_pixels_in_detector": Entry(rows, writable=False),
            "bit_depth_image": Entry(depth, writable=False),
            "bit_depth_readout": Entry(min(depth, 16), writable=False),
            "detector_readout_time": Entry(READOUT, "s", writable=False),
            "data_collection_date": Entry("", writable=False),
            "count_time": Entry(period - READOUT, "s", 1e-6, 3600.0),
            "frame_time": Entry(period, "s", 2e-6, 3600.0),
            "nimages": Entry(1, "", 1, most),
            "ntrigger": Entry(1, "", 1, most),
            "eiger_fw_version": Entry("release-2022.1.2rc2", writable=False),
            "trigger_mode": Entry("ints", choices=("ints", "inte", "exts", "exte", "extg")),
            "extg_mode": Entry("double", choices=("single", "double")),
            "nexpi": Entry(1, "", 1, most),
            "trigger_start_delay": Entry(0.0, "s", 0, 100),
            "compression": Entry("bslz4", choices=("lz4", "bslz4", "none")),
            "photon_energy": Entry(8041.0, "eV", 0, 1e6),
            "incident_energy": Entry(200e3, "eV", 0, 1e6),
            "threshold_energy": Entry(4020.0, "eV", 0, 1e6),
            "threshold/1/energy": Entry(4020.0, "eV", 0, 1e6),
            "threshold/1/mode": Entry("enabled", choices=flag),
            "threshold/2/energy": Entry(8040.0, "eV", 0, 1e6),
            "threshold/2/mode": Entry("disabled", choices=flag),
            "threshold/difference/mode": Entry("disabled", choices=flag),
            "beam_center_x": Entry(0.0, "", 0, 1e6),
            "beam_center_y": Entry(0.0, "", 0, 1e6),
            "detector_distance": Entry(0.0, "m", 0, 1e3),
            "wavelength": Entry(HC / 8041.0, "angstrom", 0, 1e3),
            "roi_mode": Entry("disabled", choices=("disabled",)),
            "auto_summation": Entry(True),
            "countrate_correction_applied": Entry(False),
            "flatfield_correction_applied": Entry(True),
            "pixel_mask_applied": Entry(True),
            "mask_to_zero": Entry(False),
            "virtual_pixel_correction_applied": Entry(True),
        },
        stream={
            "mode": Entry("disabled", choices=flag),
            "format": Entry(stream, choices=("legacy", "cbor")),
            "header_detail": Entry("basic", choices=("all", "basic", "none")),
            "header_appendix": Entry(""),
            "image_appendix": Entry(""),
        },
        filewriter={
            "mode": Entry("disabled", choices=flag),
            "compression_enabled": Entry(True),
            "image_nr_start": Entry(1, "", 0, most),
            "name_pattern": Entry("series_$id"),
            "nimages_per_file": Entry(1000, "", 0, most),
            "format": Entry(
                "hdf5 nexus legacy nxmx", choices=("hdf5 nexus legacy nxmx", "hdf5 nexus v2024.2 nxmx")
            ),
        },
        monitor={"mode": Entry("disabled", choices=flag), "buffer_size": Entry(5, "", 1, 100)},
    )  # fmt: skip
