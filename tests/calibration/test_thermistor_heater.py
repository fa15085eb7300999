"""Thermistors against a maker's table; MEMS heaters by four wires, with leads, and without self-heating."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import CalibrationError, FitError, NotMonotone
from calibration.heater import Heater, at_no_power, four_wire, two_wire
from calibration.thermistor import Thermistor

# Campbell Scientific 109SS manual, appendix C: its Steinhart-Hart coefficients of the BetaTHERM 10K3, and table C-1.
COEFFICIENTS = (1.129241e-3, 2.341077e-4, 8.775468e-8)
TABLE = [(-40, 336103.2), (-35, 242430.2), (-30, 176804.8), (-20, 97006.9), (-10, 55303.9), (0, 32650.9), (1, 31030.8)]


def test_published_steinhart_hart_coefficients_give_the_published_table():
    thermistor = Thermistor(*COEFFICIENTS, valid=(100.0, 1e6))
    celsius, ohm = np.array(TABLE).T
    assert thermistor(ohm).value == pytest.approx(celsius, abs=0.005)  # the table's output is given to 0.01 degC
    assert thermistor.inverse(celsius).value == pytest.approx(ohm, rel=3e-4)
    assert thermistor(10e3).value == pytest.approx(25.0, abs=0.005)


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.floats(-40.0, 0.0), st.floats(20.0, 40.0), st.floats(80.0, 150.0)),
    st.floats(2500.0, 4500.0), st.floats(1e3, 1e5),
)  # fmt: skip
def test_three_points_fix_a_thermistor(celsius, beta, ohm_25):
    kelvin = np.array(celsius) + 273.15
    ohm = ohm_25 * np.exp(beta / kelvin - beta / 298.15)
    thermistor = Thermistor.through(np.stack([ohm, celsius], axis=1))
    assert thermistor(ohm).value == pytest.approx(celsius, abs=1e-6)
    # The same as the beta that the points were made from, in between too.
    same = Thermistor.beta(ohm_25, beta, valid=thermistor.valid)
    middle = np.geomspace(*thermistor.valid, 9)[1:-1]
    assert thermistor(middle).value == pytest.approx(same(middle).value, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thermistor(*COEFFICIENTS, valid=(0.0, 1e6)), "above 0 Ohm"),
        (lambda: Thermistor(-1.0, 1e-4, 0.0, valid=(1.0, 1e6)), "give no temperature"),
        (lambda: Thermistor.through([[1e4, 25], [1e4, 50], [1e3, 90]]), "must differ"),
        (lambda: Thermistor.through([[1e4, 25], [1e3, 50]]), "three pairs"),
        (lambda: Thermistor.beta(-1.0, 3435.0, valid=(1, 2)), "above 0"),
    ],
)
def test_what_is_no_thermistor_is_refused(make, message):
    with pytest.raises(CalibrationError, match=message):
        make()


def test_a_thermistor_that_turns_back_has_no_inverse():
    with pytest.raises(NotMonotone, match="turns back"):
        Thermistor(1e-3, 2.5e-4, -1e-6, valid=(1e2, 1e6)).inverse(25.0)


def test_a_heater_reads_its_temperature_from_its_resistance():
    heater = Heater(100.0, 3.9083e-3, -5.775e-7, valid=(0.0, 850.0), reference=0.0)  # platinum, IEC 60751
    assert heater(100.0).value == pytest.approx(138.5055)
    assert heater.inverse(390.4811, 0.1).value == pytest.approx(850.0, abs=0.01)
    assert heater.inverse(138.5055, 0.38).uncertainty == pytest.approx(0.38 / heater.slopes(100.0))


def test_a_heater_that_turns_back_or_vanishes_is_refused():
    with pytest.raises(NotMonotone, match="turns back at 520 degC"):
        Heater(100.0, 1e-3, -1e-6, valid=(20.0, 600.0)).inverse(100.0)
    with pytest.raises(CalibrationError, match="vanish"):
        Heater(100.0, -2e-3, valid=(20.0, 600.0))


@settings(max_examples=50, deadline=None)
@given(st.floats(10.0, 1e4), st.floats(1e-4, 1e-2), st.floats(-1e-3, 1e-3), st.floats(-1e-5, 1e-5))
def test_reversing_the_current_drops_offsets(ohm, ampere, thermo, offset):
    forward, back = (sign * ampere * ohm + thermo for sign in (1.0, -1.0))
    found = four_wire(
        forward,
        ampere + offset,
        u_voltage=1e-6,
        u_current=1e-9,
        reversed_voltage=back,
        reversed_current=offset - ampere,
    )  # fmt: skip
    assert found.value == pytest.approx(ohm, rel=1e-9)
    single = four_wire(ampere * ohm, ampere, u_voltage=1e-6, u_current=1e-9)
    assert found.uncertainty == pytest.approx(single.uncertainty / np.sqrt(2.0), rel=1e-6)


def test_without_current_there_is_no_resistance():
    found = four_wire([1.0, 0.0], [0.01, 0.0], u_voltage=1e-3)
    assert found.value[0] == pytest.approx(100.0)
    assert np.isnan(found.value[1])
    assert np.isnan(found.uncertainty[1])
    with pytest.raises(CalibrationError, match="both voltage and current"):
        four_wire(1.0, 0.01, reversed_voltage=-1.0)


def test_two_wires_carry_the_doubt_of_their_leads():
    found = two_wire(1.05, 0.01, leads=5.0, u_leads=0.5)
    assert (found.value, found.uncertainty) == (pytest.approx(100.0), pytest.approx(0.5))


def test_self_heating_is_taken_out_and_its_uncertainty_covers_the_truth():
    rng = np.random.default_rng(0)
    power = np.array([1e-5, 2e-5, 4e-5, 8e-5])
    misses, rises = [], []
    for known in (0.01, None):
        for _ in range(400):
            zero, rise = at_no_power(100.0 + 5e3 * power + rng.normal(0.0, 0.01, 4), power, known)
            misses.append((zero.value - 100.0) / zero.uncertainty)
            rises.append(rise.value)
        if known is not None:
            assert np.std(misses) == pytest.approx(1.0, abs=0.1)
    assert np.mean(rises) == pytest.approx(5e3, rel=0.02)


def test_self_heating_needs_different_powers():
    with pytest.raises(FitError, match="at two powers or more"):
        at_no_power([100.0, 100.1], [1e-5, 1e-5], 0.01)
    with pytest.raises(FitError, match="three, if"):
        at_no_power([100.0, 100.1], [1e-5, 2e-5])
