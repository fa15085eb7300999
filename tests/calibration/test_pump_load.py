"""Pumps by balance and bore, load cells, displacement, and what the frame takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import CalibrationError, OutOfRange
from calibration.load import CapacitiveGap, load_cell, specimen_displacement, specimen_force
from calibration.pump import correction, gravimetric, syringe, water_density


def test_water_has_its_published_density():
    # M. Tanaka et al., Metrologia 38 (2001) 301, kg/m^3 (quoted from memory).
    published = {
        0.0: 999.8428,
        4.0: 999.9749,
        10.0: 999.7025,
        20.0: 998.2067,
        25.0: 997.0470,
        30.0: 995.6488,
        40.0: 992.2152,
    }
    assert water_density(list(published)) == pytest.approx(list(published.values()), abs=1.0e-3)
    with pytest.raises(OutOfRange, match="0 to 40 degC"):
        water_density(41.0)


def test_a_gram_on_the_balance_is_more_than_a_millilitre():
    # ISO 8655-6, annex A (quoted from memory): Z = 1.0029 uL/mg at 20 degC and 101.3 kPa; 1.0040 at 25 degC.
    assert gravimetric(1000.0, 20.0).value == pytest.approx(1002.9, abs=0.06)
    assert gravimetric(1000.0, 25.0).value == pytest.approx(1004.0, abs=0.06)
    heavy = gravimetric(1000.0, density=1200.0)
    assert heavy.value == pytest.approx(1000 / 1.2, rel=2e-3)


def test_evaporation_counts_and_so_does_its_doubt():
    found = gravimetric(9.0, 20.0, u_mass=0.01, evaporated=1.0, u_evaporated=0.2)
    assert found.value == pytest.approx(10.029, abs=1e-3)
    assert found.uncertainty == pytest.approx(1.0029 * np.hypot(0.01, 0.2), rel=1e-3)


def test_a_pump_s_correction_is_the_mean_of_its_deliveries():
    delivered = gravimetric(np.array([98.0, 99.0, 100.0, 99.0]), 20.0, u_mass=0.1)
    pump = correction(100.0, delivered, full_scale=50.0)
    assert pump(10.0).value == pytest.approx(9.9 * 1.0029, rel=1e-4)
    scatter = np.std([98.0, 99.0, 100.0, 99.0], ddof=1) / 2.0
    assert pump(10.0).uncertainty == pytest.approx(10.0 * 1.0029 * np.hypot(scatter, 0.1) / 100.0, rel=1e-2)


def test_a_syringe_delivers_its_bore_s_area():
    bore = syringe(4.61, travel=(0.0, 60.0), u_diameter=0.01)  # a 1 mL gas-tight syringe
    assert bore(60.0).value == pytest.approx(1001.5, abs=0.1)
    assert bore(60.0).uncertainty / bore(60.0).value == pytest.approx(2 * 0.01 / 4.61)


def test_a_load_cell_spans_its_capacity_both_ways():
    cell = load_cell(2.0, 2.003, zero=0.01, u_zero=0.001, u_rated=0.002, span=3e-4)
    assert cell(0.01).value == pytest.approx(0.0)
    assert cell(2.013).value == pytest.approx(2.0)
    assert cell.valid == pytest.approx((-1.993, 2.013))
    gain = 2.0 / 2.003
    assert cell(0.01).uncertainty == pytest.approx(np.hypot(gain * 0.001, 6e-4 / np.sqrt(3.0)))
    full = np.sqrt((gain * 0.001) ** 2 + (2.0 * 0.002 / 2.003) ** 2 + (6e-4 / np.sqrt(3.0)) ** 2)
    assert cell(2.013).uncertainty == pytest.approx(full)
    with pytest.raises(CalibrationError, match="can't be 0"):
        load_cell(2.0, 0.0)


def test_a_plate_capacitor_of_one_square_centimetre_is_8_85_pf_at_100_um():
    gap = CapacitiveGap(100.0, valid=(1.0, 100.0))
    assert gap(8.8541878).value == pytest.approx(100.0)
    with pytest.raises(CalibrationError, match="above the stray 2 pF"):
        CapacitiveGap(100.0, 2.0, valid=(1.0, 100.0))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.0, 100.0), st.floats(0.0, 10.0), st.floats(0.0, 5.0), st.floats(-1e-3, 1e-3), st.floats(0.0, 1e3))
def test_what_the_frame_and_the_drift_took_is_given_back(elongation, newton, compliance, drift, seconds):
    seen = elongation + compliance * newton + drift * seconds
    found = specimen_displacement(seen, newton, compliance=compliance, drift=drift, seconds=seconds)
    assert found.value == pytest.approx(elongation, abs=1e-9)


def test_the_frame_s_doubt_grows_with_the_force():
    found = specimen_displacement([10.0, 10.0], [0.0, 2.0], compliance=1.0, u_compliance=0.1, u_displacement=0.05)
    assert found.uncertainty == pytest.approx([0.05, np.hypot(0.05, 0.2)])


def test_the_springs_beside_a_specimen_carry_their_part():
    found = specimen_force(150.0, 0.5, stiffness=200.0, u_stiffness=10.0, u_force=1.0, u_displacement=0.001)
    assert found.value == pytest.approx(50.0)
    assert found.uncertainty == pytest.approx(np.sqrt(1.0 + 25.0 + 0.04))
