"""Gas: makers' conversion factors and their worked examples, gauges' factors, and the delay of a line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import CalibrationError, OutOfRange
from calibration.gas import BRONKHORST, BROOKS, HASTINGS_200, MKS, Factors, flow, from_heat
from calibration.gas_data import GASES, R, conductivity, gas
from calibration.gas_line import LineDelay, mean_pressure, standard_volume
from calibration.gauge import IONISATION, PIRANI, WIDE_RANGE, ion_pressure, log_linear
from hal.frames.channel import Channel
from hal.frames.transit import transit


def test_the_makers_worked_examples_come_out():
    # MKS 1179A manual, "The Gas Correction Factor": 150 sccm argon and 50 sccm nitrogen make 1.302.
    assert from_heat({"Ar": 0.75, "N2": 0.25})[0] == pytest.approx(1.302, abs=5e-4)
    # MKS Mass Flow FAQ: an argon instrument of 100 sccm lets 50 sccm of CO2 pass.
    assert flow("CO2", MKS, full_scale=100.0, calibrated="Ar")(100.0).value == pytest.approx(50.0, abs=0.5)
    # Bronkhorst EX-FLOW manual section 1.5: 80 % of 200 mL/min on CO2 is 118.4 mL/min.
    assert flow("CO2", BRONKHORST, full_scale=200.0)(160.0).value == pytest.approx(118.4)
    # Brooks 5851EM manual section 4-3: 75 sccm shown, 57.98 of CO2.
    assert flow("CO2", BROOKS, full_scale=100.0)(75.0).value == pytest.approx(57.98, abs=0.005)
    # SPring-8 BL28, "Conversion factor": 10 % O2 in helium is 1.34; for 10 ccm an O2 instrument is set to 7.38.
    spring8 = Factors("SPring-8 BL28", "web page", {"N2": 1.0, "He": 1.40, "O2": 0.99}, 0.02)
    mixture = {"O2": 0.1, "He": 0.9}
    assert spring8.of(mixture)[0] == pytest.approx(1.34, abs=0.005)
    assert flow(mixture, spring8, full_scale=20.0, calibrated="O2").inverse(10.0).value == pytest.approx(7.38, abs=0.02)


@pytest.mark.parametrize("name", [name for name in HASTINGS_200.table if name != "N2"])
def test_heat_capacities_alone_give_a_makers_factor_within_their_stated_doubt(name):
    factor, sigma = from_heat(name)
    theirs, u_theirs = HASTINGS_200.of(name)
    assert abs(factor - theirs) < 2.5 * np.hypot(sigma, u_theirs)


def test_bronkhorsts_accuracy_rule_is_the_uncertainty():
    above, below = (
        Factors("maker", "here", {"N2": 1.0, "He": 1.4, "CO2": 0.74}, 0.02).of("He")[1],
        BRONKHORST.of("CO2")[1],
    )
    assert above == pytest.approx(0.02 * 1.4 / np.sqrt(3.0))
    assert below == pytest.approx(0.02 / 0.74 / np.sqrt(3.0))
    assert BRONKHORST.of("N2") == (1.0, 0.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.0, 1.0))
def test_a_mixtures_factor_lies_between_those_of_its_gases(part):
    factor, sigma = HASTINGS_200.of({"He": part, "CO2": 1.0 - part})
    assert 0.743 - 1e-9 <= factor <= 1.402 + 1e-9
    assert 0.0 < sigma < 0.05


def test_the_gas_that_it_was_calibrated_with_needs_no_factor():
    same = flow({"Ar": 0.9, "H2": 0.1}, HASTINGS_200, full_scale=10.0, calibrated={"Ar": 0.9, "H2": 0.1})
    assert (same(5.0).value, same(5.0).uncertainty) == (5.0, 0.0)


def test_an_unknown_gas_or_a_mixture_that_does_not_add_up_is_refused():
    with pytest.raises(CalibrationError, match=r"Bronkhorst's table \(EX-FLOW .* has no Ar; it has N2, CO2"):
        BRONKHORST.of("Ar")
    with pytest.raises(CalibrationError, match=r"add up to 0.9, not to 1"):
        HASTINGS_200.of({"Ar": 0.9})
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        HASTINGS_200.of({"Ar": 1.5, "N2": -0.5})
    with pytest.raises(CalibrationError, match="no factor is known for CH4"):
        PIRANI.of("CH4")
    with pytest.raises(CalibrationError, match="nothing is known here of 'SF6'"):
        gas("SF6")


@pytest.mark.parametrize("name", GASES)
def test_the_gas_data_fit_kinetic_theory(name):
    """Eucken's relation k M / (mu Cv) = (9 gamma - 5) / 4, within its usual 15 % (15 %: NH3's dipole)."""
    one = gas(name)
    cv = one.heat - R
    gamma = one.heat / cv
    assert one.conductivity * 1e-3 * one.mass / (one.viscosity * cv) == pytest.approx((9 * gamma - 5) / 4, rel=0.15)
    assert 0.6 < one.power < 1.5
    assert conductivity(name, 600.0) == pytest.approx(one.conductivity * 2**one.power)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["Ar", "N2", "CO2"]), st.floats(0.0, 1.0), st.floats(250.0, 1300.0))
def test_a_little_of_a_light_gas_conducts_between_both(heavy, part, kelvin):
    mixed = conductivity({"He": part, heavy: 1.0 - part}, kelvin)
    assert conductivity(heavy, kelvin) * 0.95 <= mixed <= conductivity("He", kelvin) * 1.001
    # Linear mixing is far too much: heavy molecules block light ones (the well-known hollow curve).
    linear = part * conductivity("He", kelvin) + (1.0 - part) * conductivity(heavy, kelvin)
    assert mixed <= linear * 1.001


def test_gauge_factors_turn_nitrogen_pressure_into_the_gas_s():
    argon = PIRANI.curve("Ar")
    assert argon(10.0).value == pytest.approx(17.0)
    assert argon(10.0).uncertainty == pytest.approx(1.7 * 0.1 / np.sqrt(3.0) * 10.0)
    assert PIRANI.curve("N2")(10.0).uncertainty == 0.0
    with pytest.raises(OutOfRange, match="1 to 100 Pa"):
        argon(1e4)  # where an argon-filled chamber at atmosphere reads a few hundred pascal
    mixture, _ = IONISATION.of({"H2": 0.5, "N2": 0.5})
    assert 1.0 / mixture == pytest.approx(0.5 * 0.43 + 0.5)


@pytest.mark.parametrize("name", ["He", "Ne", "Ar", "Kr", "Xe", "H2", "O2", "CO"])
def test_two_sources_of_ionisation_factors_agree_within_their_stated_doubt(name):
    (one, u_one), (other, u_other) = IONISATION.of(name), WIDE_RANGE.of(name)
    assert abs(one - other) <= 2.0 * np.hypot(u_one, u_other)


def test_a_full_range_gauges_voltage_is_a_logarithm():
    pkr251 = log_linear(1.667, 9.33, valid=(1.8, 8.6))
    assert pkr251(8.6).value == pytest.approx(1e5, rel=0.03)  # 1000 mbar, manual BG 5119
    assert pkr251.inverse(1e-3).value == pytest.approx((9.33 - 3.0) / 1.667)


def test_ion_current_becomes_pressure_less_the_x_ray_limit():
    found = ion_pressure(4e-10, 4e-3, 0.1, u_sensitivity=0.01, limit=2e-9, u_limit=1e-9)
    assert found.value == pytest.approx(1e-6 - 2e-9)
    assert found.uncertainty == pytest.approx(np.hypot(1e-7, 1e-9))
    assert np.isnan(ion_pressure(1e-10, 0.0, 0.1).value)  # filament off: nothing is known


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 20.0), st.floats(1e3, 2e5), st.floats(0.5, 10.0), st.floats(0.0, 60.0))
def test_a_steady_flow_is_delayed_as_the_frames_alignment_delays_it(sccm, pascal, volume, celsius):
    line = LineDelay(volume, pressure=pascal, temperature=celsius, valid=(0.1, 20.0), covariance=[[0.01, 0], [0, 0]])
    delay = line(sccm)
    end = int(2e9 * float(delay.value)) + 10_000_000_000
    steady = Channel(np.array([0, end]), np.full(2, sccm), max_gap_s=1e9)
    held = 60.0 * float(standard_volume(volume, pascal, celsius))
    found, sigma = transit(np.array([end]), steady, held, held * 0.1 / volume)
    assert delay.value == pytest.approx(found[0], rel=1e-6)
    assert delay.uncertainty == pytest.approx(sigma[0], rel=1e-6)


def test_a_millilitre_at_a_tenth_of_an_atmosphere_holds_a_tenth():
    assert standard_volume(1.0, 10132.5, 0.0) == pytest.approx(0.1)
    assert LineDelay(1.0, pressure=10132.5, temperature=0.0, valid=(0.1, 10))(1.0).value == pytest.approx(6.0)
    thrice = LineDelay(1.0, pressure=10132.5, temperature=0.0, dead=0.5, valid=(0.1, 10)).at(30397.5)
    assert thrice(1.0).value == pytest.approx(18.5)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))
def test_the_mean_pressure_lies_above_the_middle_and_is_that_of_a_fine_sum(one, other):
    x = (np.arange(2000) + 0.5) / 2000
    fine = np.sqrt(one**2 + (other**2 - one**2) * x).mean()
    assert mean_pressure(one, other) == pytest.approx(fine, rel=1e-4, abs=1e-9)
    assert mean_pressure(one, other) >= 0.5 * (one + other) * (1 - 1e-12)
    assert mean_pressure(one, 0.0) == pytest.approx(2 / 3 * one)


def test_gas_that_stands_never_arrives():
    with pytest.raises(CalibrationError, match="never arrives"):
        LineDelay(1.0, pressure=1e5, valid=(0.0, 10.0))
