"""Thermometers from Lake Shore curve files (.340): diodes, Cernox and platinum, from volts or ohms to kelvin.

A curve file is a header and a table of breakpoints; temperature controllers are loaded with it, and sensors are
sold with it. Layout: as the files that Lake Shore delivers with its calibrated sensors; the format codes are those
of the command CRVHDR (Lake Shore Model 340 User's Manual, chapter 9; Model 336 User's Manual, section 6.6).

A calibration report's Chebyshev coefficients need no file: `functions.Chebyshev` is their form, over volts or,
within a `functions.Logarithmic`, over log10 of the resistance; `functions.Pieces` joins the fit's ranges.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .curve import Curve, Float64
from .errors import CalibrationError
from .functions.base import numbers
from .functions.composed import Logarithmic
from .functions.piecewise import Between, Table

FORMATS = {
    1: ("Millivolts/Kelvin", "mV"),
    2: ("Volts/Kelvin", "V"),
    3: ("Ohms/Kelvin", "Ohm"),
    4: ("Log Ohms/Kelvin", "Ohm"),
    5: ("Log Ohms/Log Kelvin", "Ohm"),
}
"""Code of the data format: its name in the file, and the unit of the sensor without the logarithm."""
LOG_OHMS, LOG_LOG = 4, 5
MOST = 200
"""Breakpoints that a controller holds (CRVPT: index 1 to 200)."""


@dataclass(frozen=True, slots=True, eq=False)
class CurveFile:
    """What a .340 file says. `sensor` and `temperature` are as the format has them: decimal logarithms for 4 and 5."""

    model: str
    serial: str
    format: int
    """1 mV, 2 V, 3 ohm, 4 log10 ohm, 5 log10 ohm and log10 kelvin."""
    limit: float
    """K: the highest setpoint that the controller may accept with this sensor."""
    sensor: Float64
    temperature: Float64

    def __post_init__(self) -> None:
        name = self._name
        if self.format not in FORMATS:
            raise CalibrationError(f"{name}: its data format is {self.format}; known are 1 to {len(FORMATS)}")
        for text in (self.model, self.serial):
            if not text.isprintable() or text != text.strip():
                raise CalibrationError(
                    f"{name}: model and serial number must each fit on one line, without outer spaces"
                )
        if not 0.0 < self.limit < np.inf:
            raise CalibrationError(f"{name}: its setpoint limit is {self.limit:g} K; it must be above 0")
        sensor = numbers(name, "sensor values", self.sensor, 2)
        temperature = numbers(name, "temperatures", self.temperature, 2)
        if sensor.size != temperature.size or sensor.size > MOST:
            raise CalibrationError(
                f"{name}: {sensor.size} sensor values and {temperature.size} temperatures; "
                f"it takes as many of one as of the other, {MOST} at most"
            )
        order = np.argsort(sensor, kind="stable")
        sensor, temperature = sensor[order], temperature[order]
        if self.format != LOG_LOG and temperature.min() <= 0.0:
            raise CalibrationError(f"{name}: a temperature is {temperature.min():g} K; it must be above 0")
        steps, rises = np.diff(temperature), np.diff(sensor)
        if not (rises > 0.0).all() or not ((steps > 0.0).all() or (steps < 0.0).all()):
            raise CalibrationError(f"{name}: its temperature doesn't rise or fall throughout with the sensor's value")
        object.__setattr__(self, "sensor", sensor)
        object.__setattr__(self, "temperature", temperature)

    @property
    def positive(self) -> bool:
        """Whether the sensor's value rises with the temperature (platinum) or falls (diodes, Cernox)."""
        return bool(self.temperature[-1] > self.temperature[0])

    def curve(self, between: Between = "straight") -> Curve:
        """The sensor's value (mV, V or ohm) to temperature in K.

        between: "straight" between breakpoints in the file's own axes, as the controllers do it; "smooth" is
        nearer to the sensor where breakpoints are few.
        """
        _, unit = FORMATS[self.format]
        logs = (f"log10 {unit}" if self.format >= LOG_OHMS else unit, "log10 K" if self.format == LOG_LOG else "K")
        curve: Curve = Table(
            self.sensor, self.temperature, unit_in=logs[0], unit_out=logs[1], name=self._name, between=between
        )
        if self.format >= LOG_OHMS:
            curve = Logarithmic(curve, axis="x", unit=unit)
        return Logarithmic(curve, axis="y", unit="K") if self.format == LOG_LOG else curve

    def text(self) -> str:
        """The file's text, breakpoints by rising sensor value, with all their digits (a controller keeps six)."""
        kelvin = "Log Temperature (K)" if self.format == LOG_LOG else "Temperature (K)"
        sign = "2 (Positive)" if self.positive else "1 (Negative)"
        lines = [
            f"Sensor Model:   {self.model}",
            f"Serial Number:  {self.serial}",
            f"Data Format:    {self.format}      ({FORMATS[self.format][0]})",
            f"SetPoint Limit: {self.limit!r}      (Kelvin)",
            f"Temperature coefficient:  {sign}",
            f"Number of Breakpoints:   {self.sensor.size}",
            "",
            f"No.   Units      {kelvin}",
            "",
        ]
        points = zip(self.sensor.tolist(), self.temperature.tolist(), strict=True)
        lines += [f"{i:3d}  {sensor!r:<10} {temperature!r}" for i, (sensor, temperature) in enumerate(points, 1)]
        return "\n".join(lines) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write it. Raises `CalibrationError` if there is a file already."""
        path = Path(path)
        try:
            with path.open("x", encoding="utf-8", newline="\r\n") as file:
                file.write(self.text())
        except FileExistsError:
            raise CalibrationError(f"{path}: there is a curve file already; give the new one another name") from None
        except OSError as error:
            raise CalibrationError(f"{path}: can't be written ({error.strerror}); choose another folder") from None
        return path

    @property
    def _name(self) -> str:
        return f"{self.model} {self.serial}".strip() or "curve file"


def load(path: str | Path) -> CurveFile:
    """Read a .340 file. Raises `CalibrationError`."""
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise CalibrationError(f"{path}: can't be read ({error.strerror}); is this the curve file?") from None
    try:
        return parse(_decoded(found))
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None


def parse(text: str) -> CurveFile:
    """The same from its text; header lines in any order and case, numbers parted by spaces or tabs.

    The temperature coefficient may be missing, as a controller finds it in the breakpoints too; one that contradicts
    them is refused.
    """
    header: dict[str, str] = {}
    points: list[tuple[float, float]] = []
    for line in text.lstrip("\ufeff").rstrip("\x1a \r\n").splitlines():  # of Windows and of DOS
        words = line.split()
        if ":" in line and not points:
            key, _, value = line.partition(":")
            header["".join(key.lower().split())] = value.strip()
        elif words and words[0].isdigit():
            try:
                index, sensor, temperature = int(words[0]), *(float(word) for word in words[1:])
            except ValueError:
                raise CalibrationError(f"{line.strip()!r} is no breakpoint (number, sensor, temperature)") from None
            if index != len(points) + 1:
                raise CalibrationError(f"breakpoint {len(points) + 1} is missing; {index} comes in its place")
            points.append((sensor, temperature))
        elif points and words:
            raise CalibrationError(f"{line.strip()!r} follows the breakpoints and is none")
    needed = ("dataformat", "setpointlimit", "numberofbreakpoints")
    if lacking := [name for name in needed if name not in header]:
        raise CalibrationError(f"it does not say its {', '.join(lacking)}; is this a .340 file?")
    number = {name: _number(name, header[name]) for name in needed}
    if len(points) != number["numberofbreakpoints"]:
        raise CalibrationError(
            f"it announces {number['numberofbreakpoints']:g} breakpoints and has {len(points)}; it is not whole"
        )
    if not number["dataformat"].is_integer():
        raise CalibrationError(f"its data format is {header['dataformat']!r}; it is a code from 1 to {len(FORMATS)}")
    table = np.array(points, np.float64).reshape(-1, 2)
    found = CurveFile(
        header.get("sensormodel", ""), header.get("serialnumber", ""), int(number["dataformat"]),
        number["setpointlimit"], table[:, 0], table[:, 1],
    )  # fmt: skip
    said = header.get("temperaturecoefficient", "")
    if said and _sign(said) != found.positive:
        raise CalibrationError(
            f"its temperature coefficient is said to be {said!r}, "
            f"and its breakpoints say {'2 (Positive)' if found.positive else '1 (Negative)'}"
        )
    return found


def _decoded(found: bytes) -> str:
    """UTF-8 with or without its mark, else as old Windows programs wrote it."""
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError:
        return found.decode("latin-1")


def _sign(text: str) -> bool | None:
    """Whether a temperature coefficient is the positive one: by its code, or by its word alone."""
    words = re.findall(r"[a-z]+|\d+", text.lower())
    return {"1": False, "negative": False, "2": True, "positive": True}.get(words[0] if words else "")


def _number(name: str, text: str) -> float:
    found = re.match(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text)
    if found is None:
        raise CalibrationError(f"its {name} is {text!r}, which is no number")
    return float(found.group())
