"""Certificates: what is written is read again, and what was changed is refused."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.certificate import Certificate, load, parse
from calibration.errors import CertificateError

MADE = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def certificate(**changed):
    given = {
        "kind": "delay.camera", "device": "Merlin", "serial": "W43-B7", "made": MADE, "by": "A. Uthor",
        "reference": "LED at a trigger output", "result": {"delay_s": 4.17e-4, "delay_sigma_s": 2e-6},
        "expires": date(2027, 5, 1), "environment": {"temperature_degC": 21.5}, "evidence": {"flashes": 40},
    }  # fmt: skip
    return Certificate(**(given | changed))


def test_what_was_saved_is_read_again(tmp_path):
    made = certificate()
    assert load(made.save(tmp_path / "delay.toml")) == made


def test_a_certificate_is_never_overwritten(tmp_path):
    path = certificate().save(tmp_path / "delay.toml")
    with pytest.raises(CertificateError, match="another name"):
        certificate(by="somebody else").save(path)
    assert load(path).by == "A. Uthor"


@pytest.mark.parametrize(
    ("before", "after"),
    [("0.000417", "0.000418"), ("W43-B7", "W43-B8"), ("2027-05-01", "2037-05-01"), ("12:30:00", "12:31:00")],
)
def test_a_changed_certificate_is_refused(before, after):
    text = certificate().text()
    assert before in text
    with pytest.raises(CertificateError, match="changed"):
        parse(text.replace(before, after))


def test_layout_and_comments_may_change():
    text = "# for the wall\n" + certificate().text().replace(" = ", "   =  ")
    assert parse(text) == certificate()


def test_an_instant_in_another_time_zone_is_the_same_certificate():
    text = certificate().text().replace("2026-05-01T12:30:00Z", "2026-05-01T14:30:00+02:00")
    assert parse(text).made == MADE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("schema = 1", "schema = 2"), "schema"),
        (lambda t: t.replace('by = "A. Uthor"\n', ""), "does not say its by"),
        (lambda t: t.replace("by =", "buy ="), "does not say its by|which no certificate has"),
        (lambda t: t.replace("12:30:00Z", "12:30:00"), "no time zone"),
        (lambda t: t.replace('serial = "W43-B7"', "serial = 43"), "serial is 43"),
        (lambda t: t.split("[seal]")[0], "changed"),
        (lambda t: "\x00" + t, "no TOML"),
    ],
)
def test_a_bent_certificate_is_refused_with_one_sentence(change, message):
    with pytest.raises(CertificateError, match=message) as caught:
        parse(change(certificate().text()))
    assert "\n" not in str(caught.value)


def test_an_expired_certificate_is_refused_and_says_when_it_expired():
    certificate().check(kind="delay.camera", on=date(2027, 5, 1))
    with pytest.raises(CertificateError, match="expired on 2027-05-01"):
        certificate().check(kind="delay.camera", on=date(2027, 5, 2))


def test_a_certificate_of_another_device_is_refused():
    certificate().check(kind="delay.camera", serial="Merlin W43-B7 1.0", on=date(2026, 6, 1))
    with pytest.raises(CertificateError, match="W43-B7"):
        certificate().check(kind="delay.camera", serial="Merlin W44-A1 1.0", on=date(2026, 6, 1))


def test_a_certificate_of_another_kind_is_refused():
    with pytest.raises(CertificateError, match=r"delay\.link"):
        certificate().check(kind="delay.link")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), object()])
def test_what_a_certificate_can_not_hold_is_refused_when_it_is_written(bad):
    with pytest.raises(CertificateError):
        certificate(result={"delay_s": bad}).text()


def test_a_missing_number_names_those_there_are():
    with pytest.raises(CertificateError, match="delay_s, delay_sigma_s"):
        certificate().number("offset")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), texts,
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4), st.dates(),
)  # fmt: skip


@given(st.dictionaries(texts, values, min_size=1, max_size=6), texts, texts)
def test_every_certificate_survives_its_file(result, device, by):
    made = certificate(result=result, device=device, by=by)
    assert parse(made.text()) == made
