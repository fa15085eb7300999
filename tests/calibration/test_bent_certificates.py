"""Certificates bent in every way: whatever is in the file, it is one clear sentence, or a usable curve."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.certificate import Certificate, load, parse
from calibration.certified import curve_of
from calibration.errors import CertificateError

GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "polynomial": ("curve.polynomial", {"coefficients": [0.0, 2.0], "valid": [0.0, 10.0], "unit_in": "V",
                                        "unit_out": "degC", "covariance": [[1.0, 0.0], [0.0, 1.0]]}),
    "chebyshev": ("curve.chebyshev", {"coefficients": [0.0, 2.0], "valid": [0.0, 10.0], "domain": [0.0, 10.0],
                                      "unit_in": "V", "unit_out": "degC"}),
    "rational": ("curve.rational", {"numerator": [0.0, 2.0], "denominator": [0.1], "valid": [0.0, 10.0], "unit_in": "V",
                                    "unit_out": "degC"}),
    "table": ("curve.table", {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 3.0], "valid": [0.0, 2.0], "unit_in": "V",
                              "unit_out": "degC", "uncertainties": [0.1, 0.1, 0.1]}),
    "thermocouple": ("curve.thermocouple", {"type": "K", "class": 1, "unit_in": "degC", "unit_out": "mV",
                                            "deviation": [0.0, 1e-5], "valid": [0.0, 600.0]}),
    "platinum": ("curve.platinum", {"nominal": 100.0, "unit_in": "degC", "unit_out": "Ohm", "a": 3.9e-3}),
    "sprt": ("curve.sprt", {"subrange": 7, "water": 25.5, "coefficients": [1e-4, 1e-5, 0.0], "unit_in": "degC",
                            "unit_out": "Ohm"}),
    "heater": ("curve.heater", {"resistance": 100.0, "alpha": 3e-3, "valid": [20.0, 900.0], "unit_in": "degC",
                                "unit_out": "Ohm"}),
}  # fmt: skip
RUBBISH = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**300, 10**320), st.floats(), st.text(max_size=5),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=4),
    st.lists(st.lists(st.floats(), max_size=3), max_size=3), st.dates(), st.just([10**400, 1]), st.just([[10**400]]),
)  # fmt: skip


def certificate(kind: str, result: dict[str, Any], **changed: Any) -> Certificate:
    about = {"device": "chip", "serial": "W43", "made": datetime(2026, 5, 1, tzinfo=UTC), "by": "A", "reference": "r"}
    return Certificate(kind=kind, result=result, **about | changed)


TEXT = certificate(*GOOD["polynomial"], expires=date(2027, 5, 1)).text()


@settings(max_examples=150)
@given(which=st.sampled_from(sorted(GOOD)), data=st.data())
def test_a_result_with_rubbish_in_it_is_refused_or_makes_a_curve(which: str, data: st.DataObject) -> None:
    kind, result = GOOD[which]
    name = data.draw(
        st.sampled_from([*result, "uncertainty", "drift_per_year", "degrees_of_freedom", "covariance", "extra"])
    )
    bent = certificate(kind, result | {name: data.draw(RUBBISH)})
    if data.draw(st.booleans()):
        bent = replace(bent, result={key: value for key, value in bent.result.items() if key != name})
    try:
        curve = curve_of(bent, on=date(2026, 11, 1))
    except CertificateError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    x = np.linspace(*curve.valid, 9)
    found = curve(x)
    assert np.isfinite(found.value).all()
    assert (found.uncertainty >= 0.0).all()


@settings(max_examples=150)
@given(data=st.data())
def test_any_change_of_a_certificates_text_is_refused_or_changes_nothing(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(TEXT) - 1))
    end = data.draw(st.integers(place, min(len(TEXT), place + 6)))
    bent = TEXT[:place] + data.draw(st.text("0123456789.-e[]\"'=\n nat", max_size=4)) + TEXT[end:]
    try:
        found = parse(bent)
    except CertificateError as error:
        assert str(error)  # noqa: PT017
        return
    assert found.hash == parse(TEXT).hash


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its schema is None, and 1 is what this version reads"),
        (TEXT.replace("schema = 1", "schema = 2"), "its schema is 2, and 1 is what"),
        (TEXT.replace("schema = 1", "schema = 1.0"), "its schema is 1.0, and 1 is what"),
        (TEXT.replace("schema = 1", "schema = true"), "its schema is True, and 1 is what"),
        (TEXT.replace("serial", "seriel"), "does not say its serial"),
        (TEXT.replace('by = "A"', ""), "does not say its by"),
        (TEXT.replace('by = "A"', "by = 3"), "its by is 3, which is no str"),
        (TEXT + "[seal]\n", "no TOML"),
        (TEXT.replace("2.0]", "2.5]"), "changed after it was made"),
        (TEXT.replace("[seal]", "[sail]"), "sail, which no certificate has"),
        (TEXT.split("[seal]")[0], "does not fit its hash"),
        (TEXT.replace("2027-05-01", "2037-05-01"), "changed after it was made"),
        (TEXT.replace("2026-05-01T00:00:00Z", "2026-05-01T00:00:00"), "no time zone"),
        (TEXT.replace("2026-05-01T00:00:00Z", "0001-01-01T00:00:00+14:00"), "in the year 1, which can't be"),
        (TEXT.replace("[0.0, 2.0]", "[" * 5000), "no TOML"),
        (TEXT.replace("2.0]", "9" * 5000 + "]"), "no TOML"),
        (TEXT.replace("[0.0, 2.0]", "[0.0, 2.0]\ncoefficients = [1.0, 2.0]"), "no TOML"),
        ("\0\1\2", "no TOML"),
    ],
)
def test_a_bent_file_is_told_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(CertificateError, match=message):
        parse(text)


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe" + bytes(range(256)))
    with pytest.raises(CertificateError, match="can't be read"):
        load(tmp_path / "c.toml")
    with pytest.raises(CertificateError, match="can't be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("thermocouple", {"valid": [0.0, 2000.0]}, "its valid range is 0 to 2000, and a type K, class 1 is one from"),
        ("thermocouple", {"valid": [600.0, 0.0]}, "its valid range is 600 to 0"),
        ("thermocouple", {"class": 1.5}, "its class is 1.5, which is no whole number"),
        ("sprt", {"subrange": 7.9}, "its subrange is 7.9, which is no whole number"),
    ],
)
def test_a_range_beyond_the_sensors_own_or_half_a_class_is_refused(
    kind: str, change: dict[str, Any], message: str
) -> None:
    name, result = GOOD[kind]
    with pytest.raises(CertificateError, match=message):
        curve_of(certificate(name, result | change))


def test_a_certificate_of_the_day_after_tomorrow_tells_of_a_wrong_clock() -> None:
    now = datetime.now(UTC)
    early = certificate(*GOOD["polynomial"], made=now + timedelta(days=3))
    with pytest.raises(CertificateError, match=f"this computer thinks that today is {now.year}.*; set its clock"):
        early.check(kind=early.kind)
    early.check(kind=early.kind, on=date(2026, 1, 1))  # an old run is calibrated anew
    certificate(*GOOD["polynomial"], made=now + timedelta(hours=6)).check(kind=early.kind)


def resealed(old: str, new: str) -> str:
    """Somebody who changes a number and knows how the hash is made."""
    found = parse(TEXT)
    result = json.loads(json.dumps(dict(found.result)).replace(old, new))
    return replace(found, result=result).text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('[0.0, 2.0], "valid": [0.0, 10.0]', '[-2.0, 0.0], "valid": [0.0, 10.0]', "flat"),
        ("[0.0, 2.0]", "[0.0, NaN]", "finite numbers"),
        ("[[1.0, 0.0], [0.0, 1.0]]", "[[1.0, 2.0], [2.0, 1.0]]", "a negative variance"),
        ("[[1.0, 0.0], [0.0, 1.0]]", "[[1.0, 0.5], [0.0, 1.0]]", "symmetric"),
        ("[[1.0, 0.0], [0.0, 1.0]]", "[[1.0, 0.0]]", "2 x 2"),
        ("[[1.0, 0.0], [0.0, 1.0]]", "[[1e30, 0.0], [0.0, 1.0]]", r"is 1e\+15 degC at least.*tells nothing"),
        ("[0.0, 2.0]", "[-300.0, 2.0]", "goes down to -300 degC, below absolute zero"),
        ('"V"', '"degC"', None),
    ],
)
def test_who_knows_how_the_hash_is_made_still_needs_a_curve_that_can_be_one(
    old: str, new: str, message: str | None
) -> None:
    if "NaN" in new:  # no certificate can be written with it
        with pytest.raises(CertificateError, match="infinite or none"):
            resealed(old, new)
        return
    stated = parse(resealed(old, new))
    if message is None:
        with pytest.raises(CertificateError, match="the readings are in V"):
            curve_of(stated, "V")
        return
    with pytest.raises(CertificateError, match=message):
        curve_of(stated)


@pytest.mark.parametrize(
    ("serial", "identity", "is_its"),
    [
        ("W 43", "DENS W  43, 1.2", True), (" W43 ", "DENS W43", True), ("W43", "DENS_W43", True),
        ("\u03a97", "chip \u03a97", True), ("7", "chip \u03a97", False), ("\u00e9", "chip e\u0301", True),
        ("W43", "DENS W43-B", False), ("W43", "DENS X-W43", False), ("W43", "DENS W431", False),
        (".*", "anything", False), ("  ", "anything", False), ("", "anything", True),
    ],
)  # fmt: skip
def test_a_serial_number_is_a_word_of_what_the_device_says(serial: str, identity: str, is_its: bool) -> None:
    assert certificate(*GOOD["polynomial"], serial=serial).is_of(identity) == is_its
