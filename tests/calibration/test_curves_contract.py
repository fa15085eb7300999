"""What every calibration curve keeps to, whatever it describes: inverse, slopes, own uncertainty, shapes, gaps."""

import copy

import numpy as np
import pytest

from calibration.errors import OutOfRange
from calibration.functions import Chebyshev, Inverse, Logarithmic, Pieces, Polynomial, Rational, Spline, Table
from calibration.functions.base import Parametric
from calibration.gas import HASTINGS_200, flow
from calibration.gas_line import LineDelay
from calibration.gauge import IONISATION, Pirani, log_linear
from calibration.heater import Heater
from calibration.load import CapacitiveGap, load_cell
from calibration.pump import syringe
from calibration.thermistor import Thermistor

UNITS = {"unit_in": "V", "unit_out": "K"}
X = np.array([0.0, 0.5, 2.0, 3.0, 7.0])
Y = np.array([1.0, 1.1, 4.0, 4.5, 9.0])
LOG_TABLE = Table(X, Y, unit_in="log10 Ohm", unit_out="K", uncertainties=0.01 * Y)
HEATER = Heater(95.0, 2.6e-3, -3e-7, 1e-10, valid=(20.0, 1000.0), covariance=np.diag([1e-4, 1e-12, 1e-18, 1e-26]))
CURVES = {
    "polynomial": Polynomial([1.0, 2.0, 0.1, -0.01], valid=(-2.0, 8.0), covariance=1e-6 * np.eye(4), **UNITS),
    "falling polynomial": Polynomial([1.0, -2.0, 0.1], valid=(-1.0, 8.0), **UNITS),
    "Chebyshev": Chebyshev([7.0, -5.0, 0.3, -0.2], domain=(1.0, 2.0), covariance=1e-4 * np.eye(4), **UNITS),
    "rational": Rational([1.0, 3.0], [0.2, 0.01], valid=(0.0, 5.0), covariance=1e-4 * np.eye(4), **UNITS),
    "table": Table(X, Y, uncertainties=0.1 * Y, **UNITS),
    "falling table": Table(X, -Y, **UNITS),
    "straight table": Table(X, Y, between="straight", **UNITS),
    "two points": Table([1.0, 2.0], [5.0, 3.0], **UNITS),
    "spline": Spline(X, np.exp(X / 4.0), **UNITS),
    "logarithmic x": Logarithmic(LOG_TABLE, axis="x", unit="Ohm"),
    "logarithmic y": Logarithmic(Polynomial([-2.0, 0.7], valid=(0.0, 5.0), covariance=1e-4 * np.eye(2), unit_in="V",
                                            unit_out="log10 Pa"), axis="y", unit="Pa"),
    "pieces": Pieces([Polynomial([0.0, 1.0], valid=(0.0, 1.0), **UNITS),
                      Polynomial([-1.0, 2.0], valid=(1.0, 3.0), **UNITS)], step=1e-12),
    "inverse": Inverse(HEATER),
    "thermistor": Thermistor(1.129241e-3, 2.341077e-4, 8.775468e-8, valid=(100.0, 1e6),
                             covariance=np.diag([1e-12, 1e-14, 1e-21])),
    "heater": HEATER,
    "Pirani": Pirani(0.5, 9.0, 300.0, valid=(0.6, 8.9), covariance=np.diag([1e-6, 1e-6, 4.0])),
    "log gauge": log_linear(1.667, 9.33, valid=(1.0, 8.6)),
    "ionisation": IONISATION.curve("He"),
    "flow": flow("Ar", HASTINGS_200, full_scale=10.0),
    "gas line": LineDelay(2.0, pressure=5e4, dead=0.3, valid=(0.1, 20.0), covariance=np.diag([1e-4, 1e-4])),
    "load cell": load_cell(2.0, 2.003, zero=0.01, span=3e-4, u_zero=1e-3, u_rated=1e-3),
    "capacitive": CapacitiveGap(50.0, 0.2, valid=(1.0, 30.0), covariance=np.diag([0.01, 1e-4])),
    "syringe": syringe(4.61, u_diameter=0.01, travel=(0.1, 10.0)),
}  # fmt: skip
every = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
PARAMETRIC = {name: curve for name, curve in CURVES.items() if isinstance(curve, Parametric)}


def within(curve, count=101):
    """Places in the valid range, by ratio where it spans decades, its ends among them."""
    low, high = curve.valid
    x = np.geomspace(low, high, count) if low > 0.0 and high > 50.0 * low else np.linspace(low, high, count)
    x[0], x[-1] = low, high
    return x


@every
def test_the_inverse_takes_every_value_back(curve):
    x = within(curve)
    back = curve.inverse(curve.values(x))
    scale = np.maximum(np.abs(x), 1e-3 * (curve.valid[1] - curve.valid[0]))
    assert np.max(np.abs(back.value - x) / scale) < 1e-10
    assert back.unit == curve.unit_in


@every
def test_slopes_are_those_of_the_values(curve):
    x = within(curve, 40)[1:-1] * (1.0 + 1e-4)  # off the points of tables, where slopes may jump
    h = 1e-6 * np.maximum(np.abs(x), 1e-2)
    numeric = (curve.values(x + h) - curve.values(x - h)) / (2.0 * h)
    assert curve.slopes(x) == pytest.approx(numeric, rel=1e-5, abs=1e-9 * np.abs(numeric).max())


@every
def test_what_is_unknown_stays_unknown_and_shapes_are_kept(curve):
    middle = within(curve)[50]
    x = np.array([[middle, np.nan], [np.nan, middle]])
    for found in (curve(x, 0.0), curve.inverse(curve.values(x), 0.0)):
        assert found.value.shape == found.uncertainty.shape == found.uncertain.shape == (2, 2)
        assert (np.isnan(found.value) == np.isnan(x)).all()
        assert not found.uncertain.any()
    assert str(curve(middle)).endswith(curve.unit_out)
    assert curve(middle).uncertainty.shape == ()


@every
def test_beyond_the_range_it_refuses_or_marks(curve):
    low, high = curve.valid
    x = np.array([low, high, high + 1e-3 * (high - low)])
    with pytest.raises(OutOfRange, match=f"1 of 3 values lie outside .* {curve.unit_in}"):
        curve(x)
    marked = curve(x, outside="mark")
    assert marked.uncertain.tolist() == [False, False, True]


def moved(curve, i, step):
    other = copy.copy(curve)
    other.coefficients = curve.coefficients + step * (np.arange(curve.coefficients.size) == i)
    if isinstance(curve, Rational):
        other.numerator, below = np.split(other.coefficients, [curve.numerator.size])
        other.denominator = np.concatenate([[1.0], below])
    return other


@pytest.mark.parametrize("name", PARAMETRIC)
def test_its_own_uncertainty_is_that_of_its_coefficients_to_first_order(name):
    """Against differences of the same curve with one coefficient moved."""
    curve = PARAMETRIC[name]
    x = within(curve, 7)
    numeric = []
    for i, coefficient in enumerate(curve.coefficients):
        step = 1e-6 * (abs(coefficient) or 1.0)
        ends = [moved(curve, i, sign * step).values(x) for sign in (1.0, -1.0)]
        numeric.append((ends[0] - ends[1]) / (2.0 * step))
    gradient = np.stack(numeric, axis=-1)
    scale = np.abs(gradient).max(axis=0)
    assert np.max(np.abs(curve.gradients(x) - gradient) / scale) < 1e-6
    if curve.covariance is not None:
        spread = np.sqrt(np.einsum("xi,ij,xj->x", gradient, curve.covariance, gradient))
        assert curve.own(x) == pytest.approx(spread, rel=1e-5, abs=1e-9 * spread.max())
