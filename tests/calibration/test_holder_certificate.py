"""A certificate in short: what a holder's EEPROM holds of it is the same curve, the same everywhere, and checked."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.certificate import Certificate
from calibration.certified import curve_of, result_of
from calibration.errors import TedsError
from calibration.fit import PolynomialForm, fit
from calibration.functions import Chebyshev, Polynomial
from calibration.teds import lengthen, shorten

ROOM = 150
LINE = {"unit_in": "degC", "unit_out": "degC", "coefficients": [4.0, 0.98], "valid": [0.0, 900.0],
        "covariance": [[0.09, 0.0], [0.0, 1e-6]], "signal": "board.temperature"}  # fmt: skip

TYPE_K = {"type": "K", "unit_in": "degC", "unit_out": "mV", "signal": "board.input_0"}


def certificate(result: dict[str, Any] = LINE, kind: str = "curve.polynomial", **changed: Any) -> Certificate:
    about: dict[str, Any] = {
        "device": "gas cell", "serial": "GC-0007", "made": datetime(2026, 5, 1, 9, 30, tzinfo=UTC), "by": "A. Uthor",
        "reference": "a bath, 7711", "expires": date(2027, 5, 1),
    }  # fmt: skip
    return Certificate(kind=kind, result=result, **about | changed)


def there_and_back(given: Certificate, room: int = ROOM) -> Certificate:
    data = shorten(given, "GC-0007", room)
    assert len(data) == room
    found = lengthen(data, "GC-0007", "gas cell GC-0007")
    assert found is not None
    return found


@pytest.mark.parametrize("degree", [1, 2, 3])
@settings(max_examples=15)
@given(low=st.floats(-200.0, 800.0), width=st.floats(30.0, 1500.0), seed=st.integers(0, 99))
def test_value_and_uncertainty_come_out_as_they_were_put_in(degree: int, low: float, width: float, seed: int) -> None:
    x = np.linspace(low, low + width, 12)
    y = 3.0 + 0.98 * x + np.random.default_rng(seed).normal(0.0, 0.05, x.size)
    made = fit(x, y, form=PolynomialForm(degree), u_y=0.05, unit_in="degC", unit_out="degC")
    kind, result = result_of(made.curve, uncertainty=0.1, drift_per_year=0.2)
    given = certificate(result | {"signal": "heater.temperature"}, kind)
    found = there_and_back(given)
    inside = np.linspace(low, low + width, 301)[1:-1]
    before, after = (curve_of(c, on=date(2026, 11, 1))(inside) for c in (given, found))
    assert np.abs(after.value - before.value).max() < 2e-7 * np.abs(y).max() + 1e-4
    assert np.abs(after.uncertainty / before.uncertainty - 1.0).max() < 1e-3


def test_all_else_that_a_certificate_says_of_a_holder_is_there() -> None:
    found = there_and_back(certificate())
    assert (found.serial, found.by, found.reference, found.expires) == (
        "GC-0007", "A. Uthor", "a bath, 7711", date(2027, 5, 1)
    )  # fmt: skip
    assert found.made == datetime(2026, 5, 1, tzinfo=UTC)
    assert found.result["signal"] == "temperature"
    assert found.evidence["shortened_from"] == certificate().hash[: len("sha256:") + 16]
    assert there_and_back(certificate(expires=None)).expires is None


def test_a_chebyshev_series_on_a_part_of_its_domain_fits_too() -> None:
    curve = Chebyshev([300.0, 200.0, 5.0], domain=(0.0, 5.0), valid=(1.0, 4.0), unit_in="V", unit_out="degC",
                      covariance=np.diag([1.0, 0.5, 0.25]))  # fmt: skip
    kind, result = result_of(curve)
    found = curve_of(there_and_back(certificate(result | {"signal": "board.input_2"}, kind)))
    x = np.linspace(1.0, 4.0, 50)
    assert np.allclose(found.values(x), curve.values(x), rtol=1e-6)
    assert np.allclose(found.own(x), curve.own(x), rtol=1e-5)


def test_the_same_bytes_give_the_same_certificate_on_every_machine() -> None:
    """Worked out by hand from the layout: another program's bytes, and the hash that everybody has to get."""
    data = bytes.fromhex(
        "484301025e50cb51ff00a817f03caf29f528000000000000614400000000000000000080de430080dc4303740a3f53b4"
        "bf3e199b7f3e74656d70657261747572650064656743006465674300412e205574686f72006120626174682c20373731"
        "31004d86"
    )
    assert shorten(certificate(), "GC-0007", ROOM).rstrip(b"\xff") == data
    found = lengthen(data, "GC-0007", "gas cell GC-0007")
    assert found is not None
    assert found.hash == "sha256:0c07ddf81ba766ff2e19a136860c962b526d19bd8cb7a841b3c313ce11efcb21"


def test_an_erased_area_has_no_certificate() -> None:
    assert lengthen(b"\xff" * ROOM, "GC-0007", "gas cell") is None
    assert lengthen(b"", "GC-0007", "gas cell") is None


WHOLE = shorten(certificate(), "GC-0007", ROOM)


@given(place=st.integers(0, ROOM - 1), change=st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    spoilt = bytearray(WHOLE)
    spoilt[place] ^= change
    with pytest.raises(TedsError):
        lengthen(bytes(spoilt), "GC-0007", "gas cell")


@given(data=st.binary(max_size=200), head=st.sampled_from([b"", b"HC\x01\x02", b"HC\x01\xff", b"HC\x02"]))
def test_rubbish_is_told(data: bytes, head: bytes) -> None:
    if set(head + data) <= {0xFF}:
        return
    with pytest.raises(TedsError):
        lengthen(head + data, "GC-0007", "gas cell")


def test_a_copy_in_another_holder_is_no_certificate() -> None:
    data = shorten(certificate(), "GC-0007", ROOM)
    with pytest.raises(TedsError, match="damaged, or is another holder's"):
        lengthen(data, "GC-0008", "gas cell")


@pytest.mark.parametrize(
    ("bent", "message"),
    [
        (certificate(serial=""), "of the serial number '', and the holder's is 'GC-0007'"),
        (certificate(serial="GC-0008"), "of the serial number 'GC-0008'"),
        (certificate({k: v for k, v in LINE.items() if k != "signal"}), "does not say of which signal"),
        (certificate(LINE | {"logarithm": "y"}), "over a logarithm"),
        (certificate(TYPE_K, "curve.thermocouple"), "of another kind"),
        (certificate(LINE | {"coefficients": [1.0, 1.0, 1e-9, 1e-12, 1e-15], "covariance": np.zeros((5, 5)).tolist()}),
         "degree 1 to 3"),
        (certificate(LINE | {"coefficients": [1e300, 1e299]}), "beyond 3e38"),
        (certificate(LINE | {"coefficients": [0.0, 0.0]}), "can't be used"),
        (certificate(made=datetime(1969, 5, 1, tzinfo=UTC)), "between 1970 and 2149"),
        (certificate(reference="x" * 80), r"takes 1\d\d bytes, and the holder has room for 150"),
    ],
)  # fmt: skip
def test_what_has_no_place_in_a_holder_is_told(bent: Certificate, message: str) -> None:
    with pytest.raises(TedsError, match=message):
        shorten(bent, "GC-0007", ROOM)


def test_a_curve_without_covariance_has_none_afterwards() -> None:
    plain = Polynomial([4.0, 0.98], valid=(0.0, 900.0), unit_in="degC", unit_out="degC")
    kind, result = result_of(plain)
    assert "covariance" not in there_and_back(certificate(result | {"signal": "heater.temperature"}, kind)).result


def test_degrees_of_freedom_travel_along() -> None:
    x = np.linspace(0.0, 100.0, 5)
    made = fit(x, x + np.array([0.1, -0.1, 0.05, 0.1, -0.15]), unit_in="degC", unit_out="degC")
    kind, result = result_of(made.curve)
    assert there_and_back(certificate(result | {"signal": "a.temperature"}, kind)).result["degrees_of_freedom"] == 3.0
    assert "degrees_of_freedom" not in there_and_back(certificate()).result
