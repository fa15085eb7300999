"""The holder's electronic data sheet as people read it, and as its 256 bytes of EEPROM hold it.

The record and its place are defined in firmware/messages.toml (`[records.Teds]`): at 0, followed by
the CRC-16 of its bytes; erased bytes are 0xFF, and an area that is all erased is blank. What is left
behind it is the user's: there the holder's certificate stands (calibration/teds/short.py), which the
board does not look at.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass
from datetime import date, timedelta

from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import FULL_OUTPUT, SensorKind

AREA = 256
"""Bytes."""
ROOM = AREA - gen.Teds.SIZE - 2
"""Bytes behind the record and its checksum."""
MAGIC = 0x53444554
KELVIN = 273.15


@dataclass(frozen=True, slots=True)
class DataSheet:
    """What a holder says of itself, in the units of the HAL."""

    model: str
    serial: str
    calibrated: date
    sensor: SensorKind
    sensor_channel: int
    reference_channel: int
    gain: float
    reference: float
    """Of the reference resistor, Ohm."""
    nominal: float
    """R0, Ohm: x = R / R0 - 1 (thermocouple: x is in mV)."""
    coefficients: tuple[float, float, float, float]
    """degC = c0 + c1 x + c2 x^2 + c3 x^3 (thermocouple: added to the cold junction's)."""
    temperature_min: float
    """degC; below it the thermometer is not believed."""
    temperature_max: float
    """degC; above it the board switches off."""
    full_power: float
    """W at full output."""
    heater: float = 0.0
    """Resistance of the heater, Ohm."""
    rate_max: float = 0.0
    """K/s; faster the thermometer is not believed; 0: not checked."""
    output_max: float = 100.0
    """%, the most the heater is given."""
    on_time_max: float = 0.0
    """s; 0: no limit."""
    cold_offset: float = 0.0
    """degC of the cold junction at 0 V."""
    cold_slope: float = 0.0
    """K/V of its sensor."""
    certificate: bytes = b""
    """`ROOM` bytes: the holder's certificate as `calibration.teds.shorten` makes it; empty: it brings none."""

    def packed(self) -> bytes:
        """The 256 bytes. Raises ValueError for what has no room in them."""
        if len(self.certificate) > ROOM:
            raise ValueError(f"the certificate takes {len(self.certificate)} bytes; there is room for {ROOM}")
        c0, *others = self.coefficients
        record = gen.Teds(
            MAGIC, 1, _text(self.model, "model"), _text(self.serial, "serial"), (self.calibrated - _EPOCH).days,
            self.sensor, self.sensor_channel, self.reference_channel, self.gain, self.reference, self.nominal,
            # A thermocouple's is a difference; what adds up to a temperature is in kelvin.
            (c0 + (0.0 if self.sensor is SensorKind.THERMOCOUPLE else KELVIN), *others),
            self.cold_offset + KELVIN, self.cold_slope, self.heater, self.full_power,
            round((self.temperature_min + KELVIN) * 1e3), round((self.temperature_max + KELVIN) * 1e3),
            round(self.rate_max), round(self.output_max / 100 * FULL_OUTPUT), round(self.on_time_max),
        ).pack()  # fmt: skip
        return (record + crc_hqx(record, 0xFFFF).to_bytes(2, "little") + self.certificate).ljust(AREA, b"\xff")


def unpacked(area: bytes) -> DataSheet | None:
    """The data sheet in the bytes of the EEPROM; None if it is blank. Raises ValueError if it is damaged."""
    if set(area) == {0xFF}:
        return None
    size = gen.Teds.SIZE
    record = area[:size]
    if crc_hqx(record, 0xFFFF) != int.from_bytes(area[size : size + 2], "little"):
        raise ValueError("the checksum of the holder's TEDS is wrong; write it anew")
    told = gen.Teds.unpack(record)
    if told.magic != MAGIC or told.version != 1:
        raise ValueError(f"the holder's TEDS is of version {told.version}; this program knows 1")
    c0, c1, c2, c3 = told.coefficients
    behind = area[size + 2 : AREA]
    return DataSheet(
        told.model.rstrip(b"\0").decode(), told.serial.rstrip(b"\0").decode(),
        _EPOCH + timedelta(days=told.calibrated), told.sensor, told.sensor_channel, told.reference_channel,
        told.gain, told.reference, told.nominal,
        (c0 - (0.0 if told.sensor is SensorKind.THERMOCOUPLE else KELVIN), c1, c2, c3),
        told.temperature_min * 1e-3 - KELVIN, told.temperature_max * 1e-3 - KELVIN, told.full_power, told.heater,
        float(told.rate_max), told.output_max / FULL_OUTPUT * 100, float(told.on_time_max),
        told.cold_offset - KELVIN, told.cold_slope, b"" if set(behind) <= {0xFF} else bytes(behind),
    )  # fmt: skip


_EPOCH = date(1970, 1, 1)


def _text(text: str, what: str) -> bytes:
    if len(encoded := text.encode()) > 16:
        raise ValueError(f"{what} {text!r} takes {len(encoded)} bytes; there is room for 16")
    return encoded
