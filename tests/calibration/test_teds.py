"""Electronic data sheets: bit by bit as real sensors have them, and in agreement with the board's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.errors import TedsError
from calibration.heater import Heater
from calibration.rtd import Platinum
from calibration.teds import (
    Basic,
    Bridge,
    Sheet,
    Thermocouple,
    coefficients_for,
    from_pages,
    holder_curve,
    pack,
    to_pages,
    unpack,
)
from devices.insitu_mcu.teds import DataSheet, unpacked
from hal.protocols.firmware_gen import SensorKind

# Dewetron TRION API manual, "TEDS Interface": the EEPROM's pages of a bridge sensor, and what Dewetron reads in them
PAGES = bytes.fromhex(
    "801F40620000000000841C000000000000000002000000000000006418008021"
    "46C10EC34800000000E000000000000000000000000000000000000000000000"
)
DEWETRON = Sheet(
    Basic(manufacturer=31, model=393, serial=0),
    (
        Bridge(
            measurand=7, low=0.0, high=0.0, low_output=0.0, high_output=0.0, type="half", impedance=40.0,
            response=1e-6, excitation=2.5, excitation_low=1.0, excitation_high=6.0, calibrated=date(2099, 12, 31),
        ),
    ),
)  # fmt: skip


def test_a_bridge_sensors_memory_is_read_as_its_maker_reads_it():
    found = unpack(from_pages(PAGES))
    (bridge,) = found.templates
    assert found.basic == DEWETRON.basic
    assert isinstance(bridge, Bridge)
    assert bridge.impedance == pytest.approx(40.0)
    assert bridge.excitation == pytest.approx(2.5)
    assert (
        replace(bridge, impedance=40.0, excitation=2.5, excitation_low=1.0, excitation_high=6.0)
        == (DEWETRON.templates[0])
    )


def test_a_bridge_sensors_memory_is_written_bit_by_bit_as_its_maker_wrote_it():
    assert to_pages(pack(DEWETRON), len(PAGES)) == PAGES


@given(place=st.integers(0, len(PAGES) - 1), change=st.integers(1, 255))
def test_any_changed_byte_is_found(place, change):
    spoilt = bytearray(PAGES)
    spoilt[place] ^= change
    with pytest.raises(TedsError, match=f"page {place // 32} of the EEPROM has a wrong checksum"):
        from_pages(bytes(spoilt))


@pytest.mark.parametrize(
    ("memory", "message"),
    [(b"\xff" * 64, "blank"), (b"\0" * 64, "blank"), (PAGES[:40], "40 bytes; was it read to its end"), (b"", "0 byte")],
)
def test_a_blank_or_short_memory_is_told(memory, message):
    with pytest.raises(TedsError, match=message):
        from_pages(memory)


SHEETS = st.builds(
    Sheet,
    st.builds(
        Basic, st.integers(17, 16381), st.integers(0, 32767), st.integers(0, 2**24 - 1), st.sampled_from("ABZ"),
        st.integers(0, 63),
    ),
    st.tuples(
        st.builds(
            Thermocouple, st.sampled_from(["B", "K", "T", "other"]), st.integers(-273, 1773).map(float),
            st.none() | st.integers(-273, 1773).map(float), junction=st.sampled_from(["required", "compensated"]),
            calibrated=st.none() | st.dates(date(1998, 1, 1), date(2100, 1, 1)), initials=st.sampled_from(["", "ABC"]),
            period=st.integers(0, 4095), location=st.integers(0, 2047),
        )
    ),
)  # fmt: skip


@given(SHEETS)
def test_a_thermocouples_sheet_is_read_as_it_was_written(sheet):
    assert unpack(from_pages(to_pages(pack(sheet)))) == sheet


@given(SHEETS, st.floats(1.0, 3e5), st.floats(1e-6, 7.0))
def test_what_is_stored_in_steps_is_off_by_half_a_step_at_most(sheet, resistance, response):
    thermocouple = replace(sheet.templates[0], resistance=resistance, response=response)
    (found,) = unpack(pack(replace(sheet, templates=(thermocouple,)))).templates
    assert found.resistance == pytest.approx(resistance, rel=0.00155 * 1.01)
    assert found.response == pytest.approx(response, rel=0.146)


@given(st.binary(max_size=40))
def test_rubbish_gives_a_sheet_or_a_clear_error(data):
    try:
        unpack(data)
    except TedsError as error:
        assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (replace(DEWETRON, basic=Basic(5, 1, 1)), "manufacturer = 5 is no whole number from 17 to 16381"),
        (replace(DEWETRON, basic=Basic(31, 1, 1, "ab")), "at most 1 letters A to Z"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("Q"),)), "type = 'Q' is none of B, E"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("K", high=2000.0),)), "high = 2000.0 is not within -273 to 1773"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("K", response=0.0),)), "response = 0.0 is not within"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("K", response=float("inf")),)), "response = inf is not within"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("K", low=float("nan")),)), "low = nan is not within"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("K", low="cold"),)), "low = 'cold' is not within"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("K", calibrated=datetime(2026, 5, 1)),)), "is no day from 1998-01-01"),
        (Sheet(Basic(31, 1, 1), (replace(DEWETRON.templates[0], high=1e300),)), "no number that has room in 32 bits"),
        (Sheet(Basic(31, 1, 1), (Thermocouple("K", calibrated=date(1990, 1, 1)),)), "no day from 1998-01-01"),
    ],
)
def test_what_has_no_room_is_told(sheet, message):
    with pytest.raises(TedsError, match=message):
        pack(sheet)


def test_a_template_that_is_not_known_is_told():
    data = bytearray(pack(Sheet(Basic(31, 1, 1), (Thermocouple("K"),))))
    data[8] = 37 << 2  # the template's number, behind a selector of two bits
    with pytest.raises(TedsError, match="template 37, which is not known here; known are 33, 36"):
        unpack(bytes(data))


def sheet_for(curve, nominal, low, high):
    coefficients, worst = coefficients_for(curve, nominal, low, high)
    sheet = DataSheet(
        "gas cell", "GC-0007", date(2026, 5, 1), SensorKind.RESISTANCE, 0, 1, 1.0, 100.0, nominal, coefficients, low,
        high, 0.05,
    )  # fmt: skip
    return sheet, worst


@pytest.mark.parametrize(
    ("curve", "nominal", "low", "high", "within"),
    [
        (Platinum(100.0), 100.0, 0.0, 400.0, 0.005),
        (Heater(80.0, 3e-3, -4e-7, valid=(0.0, 1100.0)), 80.0, 20.0, 1000.0, 1.0),
    ],
)
def test_a_certificates_curve_fits_into_a_holders_eeprom_and_out_again(curve, nominal, low, high, within):
    sheet, worst = sheet_for(curve, nominal, low, high)
    read = unpacked(sheet.packed())
    assert read is not None
    held = holder_curve(read.nominal, read.coefficients, low, high)
    t = np.linspace(low, high, 501)[1:-1]
    assert np.abs(held.values(curve.values(t)) - t).max() <= worst * 1.01 + 1e-4
    assert worst < within


def test_a_holders_sheet_without_a_thermometer_is_told():
    with pytest.raises(TedsError, match="do not reach from 0 to 100 degC"):
        holder_curve(100.0, (20.0, 0.0, 0.0, 0.0), 0.0, 100.0)
    with pytest.raises(TedsError, match="takes degC to Ohm"):
        coefficients_for(holder_curve(100.0, (0.0, 250.0, 0.0, 0.0), 0.0, 100.0), 100.0, 0.0, 50.0)
