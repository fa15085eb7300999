"""Curves in certificates: what was put in comes out again, and a bent certificate is refused with one sentence."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from calibration.certificate import Certificate, parse
from calibration.certified import curve_of, result_of
from calibration.errors import CertificateError
from calibration.fit import fit
from calibration.functions import Chebyshev, Polynomial, Rational, Spline, Table
from calibration.heater import Heater
from calibration.thermistor import Thermistor

MADE = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
DAY = date(2026, 5, 1)
X, Y = [0.0, 1.0, 2.5, 4.0], [1.0, 1.5, 3.0, 3.2]
FREE = {"unit_in": "V", "unit_out": "degC"}
CURVES = [
    Polynomial([1.0, 2.0, 0.1], valid=(0.0, 5.0), covariance=np.diag([1e-4, 1e-6, 1e-8]), **FREE),
    Chebyshev([1.0, 2.0, 0.1], domain=(0.0, 6.0), valid=(0.5, 5.0), **FREE),
    Rational([1.0, 2.0], [0.1], valid=(0.0, 5.0), covariance=np.diag([1e-4, 1e-6, 1e-8]), **FREE),
    Table(X, Y, uncertainties=[0.1, 0.2, 0.2, 0.1], **FREE),
    Table(X, Y, between="straight", **FREE),
    Spline(X, [1.0, 1.5, 2.3, 3.2], **FREE),
    Heater(100.0, 3e-3, -2e-7, 1e-11, valid=(20.0, 1000.0), reference=25.0, covariance=np.diag([1e-2, 1e-10, 0, 0])),
    Thermistor(1.129e-3, 2.341e-4, 8.78e-8, valid=(100.0, 1e5)),
]


def certificate(kind, result, **changed):
    given = {"device": "chip", "serial": "W43", "made": MADE, "by": "A. Uthor", "reference": "a bath"} | changed
    return Certificate(kind=kind, result=result, **given)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.name)
def test_a_curve_comes_out_of_its_certificate_as_it_was_put_in(curve):
    found = curve_of(parse(certificate(*result_of(curve)).text()), on=DAY)
    x = np.linspace(*curve.valid, 50)
    assert np.array_equal(found.values(x), curve.values(x))
    assert np.allclose(found.own(x), curve.own(x), rtol=1e-12)
    assert (found.valid, found.unit_in, found.unit_out) == (curve.valid, curve.unit_in, curve.unit_out)


@pytest.mark.parametrize(
    ("kind", "result", "reading", "value"),
    [
        # the standards' tables: IEC 60584-1 type K and type S at 1000 degC, IEC 60751 at 100 degC
        ("curve.thermocouple", {"type": "K", "unit_in": "degC", "unit_out": "mV"}, 41.276, 1000.0),
        ("curve.thermocouple", {"type": "S", "unit_in": "degC", "unit_out": "mV"}, 9.587, 1000.0),
        ("curve.platinum", {"nominal": 1000.0, "unit_in": "degC", "unit_out": "Ohm"}, 1385.055, 100.0),
        # Pfeiffer PKR 251: log10 p = 1.667 U - 9.33
        ("curve.polynomial", {"coefficients": [-9.33, 1.667], "logarithm": "y", "valid": [1.8, 8.6],
                              "unit_in": "V", "unit_out": "Pa"}, None, None),
    ],
)  # fmt: skip
def test_a_sensor_is_used_the_way_its_readings_need(kind, result, reading, value):
    stated = parse(certificate(kind, result).text())
    if reading is None:
        assert float(curve_of(stated, "V")(5.0).value) == pytest.approx(10 ** (1.667 * 5 - 9.33))
    else:
        assert float(curve_of(stated, result["unit_out"])(reading).value) == pytest.approx(value, abs=0.1)
        assert float(curve_of(stated, "degC")(value).value) == pytest.approx(reading, abs=1e-3)


def test_a_thermocouple_of_its_own_deviates_from_the_reference_by_what_is_stated():
    result = {"type": "K", "unit_in": "degC", "unit_out": "mV", "deviation": [0.0, 1e-5], "valid": [0.0, 600.0],
              "covariance": [[1e-6, 0.0], [0.0, 0.0]]}  # fmt: skip
    plain = {"type": "K", "unit_in": "degC", "unit_out": "mV"}
    own, reference = (curve_of(certificate("curve.thermocouple", r)) for r in (result, plain))
    assert float(own(500.0).value - reference(500.0).value) == pytest.approx(5e-3)
    emf = reference(500.0).value
    seebeck = float(reference.slopes(500.0))
    cooler = curve_of(certificate("curve.thermocouple", result), "mV")(emf)
    assert float(cooler.value) == pytest.approx(500.0 - 5e-3 / seebeck, abs=1e-3)
    assert float(cooler.uncertainty) == pytest.approx(1e-3 / seebeck, rel=0.01)


def test_the_references_doubt_and_the_drift_since_are_added():
    kind, result = result_of(CURVES[1], uncertainty=0.3, drift_per_year=0.4)
    stated = certificate(kind, result)
    assert float(curve_of(stated, on=DAY)(2.0).uncertainty) == pytest.approx(0.3)
    after = float(curve_of(stated, on=date(2028, 5, 1))(2.0).uncertainty)  # rectangular: 0.8 / sqrt 3
    assert after == pytest.approx(np.hypot(0.3, 0.8 / np.sqrt(3)), rel=1e-3)


LINE = {"coefficients": [0.0, 2.0], "valid": [0.0, 10.0], "unit_in": "V", "unit_out": "degC"}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("curve.polynomial", {"coefficients": [0.0, 2.0, -0.2]}, "no usable curve.*turns back at 5 V"),
        ("curve.polynomial", {"coefficients": [1.0]}, "flat"),
        ("curve.polynomial", {"unit_in": 3}, "unit_in"),
        ("curve.polynomial", {"valid": [10.0, 0.0]}, "valid range"),
        ("curve.polynomial", {"valid": [0.0]}, "two numbers"),
        ("curve.polynomial", {"coefficients": "1, 2"}, "no list of numbers 'coefficients'"),
        ("curve.polynomial", {"covariance": [[1.0, 5.0], [5.0, 1.0]]}, "covariance is none"),
        ("curve.polynomial", {"covariance": [[1.0]]}, "2 x 2"),
        ("curve.polynomial", {"coeficients": [1.0]}, "coeficients.*has not"),
        ("curve.polynomial", {"uncertainty": -1.0}, "negative"),
        ("curve.chebyshev", {"domain": []}, "two numbers"),
        ("curve.heater", {}, "no number 'resistance'"),
        ("curve.quadratic", {}, "no curve; known are curve.polynomial"),
        ("delay.camera", {}, "no curve"),
    ],
)
def test_a_bent_curve_is_refused_with_one_clear_sentence(kind, change, message):
    with pytest.raises(CertificateError, match=message) as refused:
        curve_of(certificate(kind, LINE | change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "result", "message"),
    [
        ("curve.thermocouple", {"type": "K", "unit_in": "degC", "unit_out": "V"}, "unit_out is 'V'.*has 'mV' there"),
        ("curve.thermocouple", {"type": "Q", "unit_in": "degC", "unit_out": "mV"}, "no thermocouple of type 'Q'"),
        ("curve.platinum", {"a": -3.9e-3, "b": 0.0, "unit_in": "degC", "unit_out": "Ohm"}, "falls"),
        ("curve.heater", {"resistance": 100.0, "alpha": 1e-3, "beta": -1e-6, "valid": [20.0, 900.0],
                          "unit_in": "degC", "unit_out": "Ohm"}, "turns back at 520 degC"),
        # a type T whose stated deviation outruns its Seebeck coefficient
        ("curve.thermocouple", {"type": "T", "unit_in": "degC", "unit_out": "mV", "deviation": [0.0, 0.0, -1e-4],
                                "valid": [0.0, 400.0]}, "turns back between 0 and 400 degC"),
    ],
)  # fmt: skip
def test_a_bent_sensor_is_refused_too(kind, result, message):
    with pytest.raises(CertificateError, match=message):
        curve_of(certificate(kind, result))


def test_a_certificate_for_another_unit_is_refused():
    with pytest.raises(CertificateError, match=r"takes V to degC, and the readings are in Pa"):
        curve_of(certificate("curve.polynomial", LINE), "Pa")


def test_an_edited_coefficient_is_refused():
    text = certificate("curve.polynomial", LINE).text()
    with pytest.raises(CertificateError, match="changed after it was made"):
        parse(text.replace("2.0]", "2.1]"))


@pytest.mark.parametrize(("told", "well"), [("DENS, W43, 1.2", True), ("chip W435", False), ("W4", False), ("", False)])
def test_a_serial_number_is_a_word_of_what_the_device_says(told, well):
    stated = certificate("curve.polynomial", LINE)
    assert stated.is_of(told) is well


def test_few_degrees_of_freedom_widen_what_is_expanded_and_are_kept_in_a_certificate():
    x = np.linspace(0.0, 10.0, 5)
    found = fit(x, 2.0 * x + np.array([0.1, -0.1, 0.05, 0.1, -0.15]), unit_in="V", unit_out="degC")
    assert found.dof == 3.0
    stated = parse(certificate(*result_of(found.curve)).text())
    assert stated.result["degrees_of_freedom"] == 3.0
    at = curve_of(stated)(5.0)
    assert at.dof == 3.0
    assert float(at.expanded()) == pytest.approx(3.182 * float(at.uncertainty), rel=1e-3)  # Student, GUM table G.2
    # a reference's exact doubt beside it: Welch and Satterthwaite
    own, more = float(at.uncertainty), 0.2
    both = curve_of(certificate(*result_of(found.curve, uncertainty=more)))(5.0)
    assert float(both.dof) == pytest.approx(3.0 * (np.hypot(own, more) / own) ** 4)
    assert 1.96 < float(both.expanded()) / float(both.uncertainty) < 3.18
    back = curve_of(stated, "degC")(10.0)
    assert back.dof == 3.0
    noisy = curve_of(stated, "degC")(10.0, 5.0)
    assert float(noisy.dof) > 1e3
    assert float(curve_of(certificate("curve.polynomial", LINE))(5.0).dof) == np.inf


def test_a_certificate_without_freedom_is_refused():
    with pytest.raises(CertificateError, match="degrees_of_freedom must be above 0"):
        curve_of(certificate("curve.polynomial", LINE | {"degrees_of_freedom": 0.0}))


@pytest.mark.parametrize("spelt", ["Ohm", "ohm"])
def test_an_ohm_is_an_ohm_however_an_old_certificate_spells_it(spelt):
    found = curve_of(certificate("curve.platinum", {"unit_in": "degC", "unit_out": spelt}), "Ohm")
    assert found.unit_in == "Ohm"
    assert float(found(138.5055).value) == pytest.approx(100.0, abs=1e-4)
