"""Templates typed by a laboratory: as good as the built-in ones, and any slip of the finger is told."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from test_teds import DEWETRON, PAGES

from calibration.errors import TedsError
from calibration.teds import TEMPLATES, Basic, Sheet, from_pages, load_templates, pack, to_pages, unpack

BRIDGE = """
[[template]]
number = 33
name = "bridge"
source = "Dewetron TRION API manual, TEDS Interface"
fields = [
    { name = "measurand", format = "unsigned", bits = 6 },
    { name = "low", format = "single" },
    { name = "high", format = "single" },
    { name = "precision", format = "choice", bits = 2, names = ["11 bits", "19 bits", "32 bits"] },
    { name = "low_output", format = "single", when = { precision = "32 bits" } },
    { name = "high_output", format = "single", when = { precision = "32 bits" } },
    { name = "type", format = "choice", bits = 2, names = ["quarter", "half", "full"] },
    { name = "impedance", format = "steps", bits = 18, start = 1, step = 0.1 },
    { name = "response", format = "ratios", bits = 6, start = 1e-6, tolerance = 0.146 },
    { name = "excitation", format = "steps", bits = 9, start = 0.1, step = 0.1 },
    { name = "excitation_low", format = "steps", bits = 9, start = 0.1, step = 0.1 },
    { name = "excitation_high", format = "steps", bits = 9, start = 0.1, step = 0.1 },
    { name = "calibrated", format = "day" },
    { name = "initials", format = "letters", bits = 15 },
    { name = "period", format = "unsigned", bits = 12 },
    { name = "location", format = "unsigned", bits = 11 },
]
"""
NESTED = """
[[template]]
number = 200
name = "invented"
source = "nobody's standard"
fields = [
    { name = "kind", format = "choice", bits = 1, names = ["plain", "bent"] },
    { name = "slope", format = "single", when = { kind = "plain" } },
    { name = "segments", format = "rows", bits = 4, when = { kind = "bent" }, fields = [
        { name = "start", format = "steps", bits = 12, start = 0, step = 0.025 },
        { name = "terms", format = "rows", bits = 3, fields = [{ name = "value", format = "single" }] },
    ] },
    { name = "calibrated", format = "day" },
]
"""


def typed(folder: Path, text: str) -> dict[int, Any]:
    (folder / "ours.toml").write_text(text, encoding="utf-8")
    return load_templates(folder / "ours.toml")


def test_a_template_that_was_typed_reads_a_real_memory_as_the_built_in_one_does(tmp_path: Path) -> None:
    mine = typed(tmp_path, BRIDGE)
    (found,) = unpack(from_pages(PAGES), mine).templates
    (known,) = unpack(from_pages(PAGES)).templates
    for name, _ in known.FIELDS:
        if name != "precision":
            assert getattr(found, name) == getattr(known, name), name
    assert to_pages(pack(Sheet(DEWETRON.basic, (found,))), len(PAGES)) == PAGES
    assert "Dewetron TRION" in str(type(found).__doc__)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "plain", "slope": 2.5, "calibrated": date(2026, 5, 1)},
        {"kind": "bent", "segments": ()},
        {"kind": "bent", "segments": ({"start": 0.0, "terms": ({"value": 1.5}, {"value": -2.0})},
                                      {"start": 50.0, "terms": ()}, {"start": None, "terms": ({"value": 0.5},)})},
    ],
)  # fmt: skip
def test_fields_that_depend_and_lists_of_lists_come_back_as_they_were(tmp_path: Path, values: dict[str, Any]) -> None:
    mine = typed(tmp_path, NESTED)
    sheet = Sheet(Basic(31, 1, 7), (mine[200](**values),))
    assert unpack(from_pages(to_pages(pack(sheet))), TEMPLATES | mine) == sheet
    with pytest.raises(TedsError, match="uses template 200, which is not known here; known are 33, 36"):
        unpack(pack(sheet))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"kind": "plain"}, "slope = None is no number"),
        ({"kind": "bent", "slope": 1.0}, "slope = 1.0 has no place where kind is 'bent'"),
        ({"kind": "plain", "slope": 1.0, "segments": ({},)}, "segments = .* has no place"),
        ({"kind": "bent", "segments": 3}, "segments = 3 is no list of rows"),
        ({"kind": "bent", "segments": ({"begin": 0.0},)}, "a row has 'begin', which the template has not"),
        ({"kind": "bent", "segments": ({"start": 0.0},) * 16}, "number of segments = 16"),
        ({"kind": "round"}, "kind = 'round' is none of plain, bent"),
    ],
)
def test_values_that_have_no_place_are_told(tmp_path: Path, values: dict[str, Any], why: str) -> None:
    with pytest.raises(TedsError, match=why):
        pack(Sheet(Basic(31, 1, 7), (typed(tmp_path, NESTED)[200](**values),)))


def one(*given: str, number: str = "200") -> str:
    fields = ", ".join("{ " + text + " }" for text in given)
    return f'[[template]]\nnumber = {number}\nname = "n"\nsource = "s"\nfields = [{fields}]\n'


A = 'name = "a", format = "choice", bits = 1, names = ["no", "yes"]'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"must hold \[\[template\]\] tables"),
        ("template = 3", r"must hold \[\[template\]\] tables"),
        ("[[template]", "can't be read"),
        (one(A) + "[other]\n", "and nothing else"),
        (one(A).replace('source = "s"', 'from = "s"'), "has number, name, source and fields, not number, name, from"),
        (one(A).replace('"s"', '" "'), "template 200: name and source must say"),
        (one(A, number="256"), "the number 256 is none from 0 to 255"),
        (one(A) + one(A), "the number 200 is none from 0 to 255, or there twice"),
        (one(A, number="true"), "the number True"),
        (one(), "its fields must be a list of tables"),
        (one(A, A), "two fields are called a"),
        (one(A.replace('"a"', '"class"')), "'class' is no name of a field"),
        (one(A.replace('"a"', '"FIELDS"')), "'FIELDS' is no name of a field"),
        (one(A.replace("choice", "chioce")), "template 200, a: its format is 'chioce'; there are unsigned"),
        (one(A + ", step = 1"), "it has step, and a format 'choice' has bits, names"),
        (one('name = "a", format = "unsigned"'), "it does not say its bits"),
        (one('name = "a", format = "unsigned", bits = 0'), "0 bits are none from 1 to 64"),
        (one('name = "a", format = "unsigned", bits = 1.5'), "its bits is 1.5, which is no whole number"),
        (one('name = "a", format = "unsigned", bits = 2, most = 4'), "from 0 to 4 is no range of 2 bits"),
        (one('name = "a", format = "unsigned", bits = 2, least = 4'), "from 4 to None is no range of 2 bits"),
        (one('name = "a", format = "letters", bits = 12'), "letters have 5 bits each"),
        (one('name = "a", format = "single", bits = 16'), "a single has 32 bits, not 16"),
        (one('name = "a", format = "steps", bits = 8, start = 0, step = 0'), "a step of 0 leads nowhere"),
        (one('name = "a", format = "steps", bits = 8, start = nan, step = 1'), "its start is nan"),
        (one('name = "a", format = "ratios", bits = 8, start = 0, tolerance = 1'), "are above 0, not 0 and 1"),
        (one(A.replace('"yes"', '"yes", "if"')), "3 names have no room in 1 bits"),
        (one(A.replace('"yes"', '"no"')), "one of its names is there twice"),
        (one(A.replace('["no", "yes"]', "[]")), "its names must be a list of texts"),
        (one(A, 'name = "b", format = "day", when = { c = 1 }'), "names one earlier field and its value"),
        (one(A, 'name = "b", format = "day", when = { a = "maybe" }'), "it would never be there: a = 'maybe'"),
        (one('name = "a", format = "day"', 'name = "b", format = "day", when = { a = 1 }'), "and a is none"),
        (one('name = "a", format = "rows", bits = 4, fields = []'), "its fields must be a list"),
    ],
)
def test_a_slip_of_the_finger_is_told_in_one_sentence(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(TedsError, match=why) as told:
        typed(tmp_path, text)
    assert str(told.value).startswith(str(tmp_path))
    assert "\n" not in str(told.value).replace("\\n", "")
