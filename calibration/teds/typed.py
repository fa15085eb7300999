"""Templates that a laboratory types from its own copy of IEEE 1451.4, into a TOML file beside its lab file.

    [[template]]
    number = 200                      # in the data sheet, 0 to 255
    name = "bath sensor"
    source = "our copy of IEEE 1451.4, table 99; proof-read by A. Uthor"
    fields = [                        # in the order of the bits
        { name = "low", format = "steps", bits = 11, start = -200, step = 1 },
        { name = "curve", format = "choice", bits = 2, names = ["standard", "its own"] },
        { name = "r0", format = "single", when = { curve = "its own" } },
        { name = "points", format = "rows", bits = 6, fields = [
            { name = "x", format = "unsigned", bits = 16 },
            { name = "y", format = "single" },
        ] },
        { name = "calibrated", format = "day" },
    ]

Formats and their keys are those of `bits`: `unsigned` (UnInt), `letters` (Chr5), `day` (Date), `single`, `steps`
(ConRes), `ratios` (ConRelRes), `choice` (an enumeration), `rows` (a structure array). A field with `when` is there only
where an earlier one has that value (a select case).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, make_dataclass
from keyword import iskeyword
from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import TedsError
from .bits import Choice, Day, Fields, Format, Letters, Only, Ratios, Rows, Single, Steps, Unsigned
from .templates import Template

FORMATS: Mapping[str, type[Format | Rows]] = {
    "unsigned": Unsigned, "letters": Letters, "day": Day, "single": Single, "steps": Steps, "ratios": Ratios,
    "choice": Choice, "rows": Rows,
}  # fmt: skip
WIDEST = 64
"""Bits of one value; more are a slip of the finger."""
NUMBERS = range(256)


def load_templates(path: str | Path) -> dict[int, type[Template]]:
    """Templates by their numbers, each a class that takes its fields by name. Raises `TedsError` for any doubt."""
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TedsError(f"{path}: can't be read ({error})") from None
    try:
        return _templates(found)
    except TedsError as error:
        raise TedsError(f"{path}: {error}") from None


# ---------------------------------------------------------------------------- private


def _templates(found: dict[str, Any]) -> dict[int, type[Template]]:
    tables: Any = found.get("template")
    if set(found) != {"template"} or not _tables(tables):
        raise TedsError("it must hold [[template]] tables, at least one, and nothing else")
    made: dict[int, type[Template]] = {}
    for table in tables:
        if set(table) != {"number", "name", "source", "fields"}:
            raise TedsError(f"a template has number, name, source and fields, not {', '.join(table) or 'nothing'}")
        number, name, source = table["number"], table["name"], table["source"]
        if not _whole(number) or number not in NUMBERS or number in made:
            raise TedsError(f"the number {number!r} is none from 0 to 255, or there twice")
        if not all(isinstance(text, str) and text.strip() for text in (name, source)):
            raise TedsError(f"template {number}: name and source must say what it is, and where it was read")
        made[number] = _template(number, name, source, _fields(f"template {number}", table["fields"]))
    return made


def _template(number: int, name: str, source: str, forms: Fields) -> type[Template]:
    """Values that may be unknown, or not there, need not be given."""
    needed = (Unsigned, Letters, Single, Choice)
    columns = [(key, Any) if isinstance(form, needed) else (key, Any, field(default=None)) for key, form in forms]
    says = {"NUMBER": number, "FIELDS": forms, "__doc__": f"Template {number}: {name} ({source})."}
    return make_dataclass(f"Template{number}", columns, namespace=says, frozen=True, kw_only=True)


def _fields(where: str, given: Any) -> Fields:
    if not _tables(given):
        raise TedsError(f"{where}: its fields must be a list of tables, at least one")
    made: dict[str, Format | Rows | Only] = {}
    for said in given:
        name = said.get("name")
        if not isinstance(name, str) or not name.isidentifier() or iskeyword(name) or name.upper() == name:
            raise TedsError(f"{where}: {name!r} is no name of a field; take small letters, digits and _")
        if name in made:
            raise TedsError(f"{where}: two fields are called {name}")
        at = f"{where}, {name}"
        form = _form(at, {key: value for key, value in said.items() if key not in ("name", "when")})
        made[name] = _only(at, said["when"], form, made) if "when" in said else form
    return tuple(made.items())


def _form(at: str, said: dict[str, Any]) -> Format | Rows:
    kind = said.pop("format", None)
    if kind not in FORMATS:
        raise TedsError(f"{at}: its format is {kind!r}; there are {', '.join(FORMATS)}")
    cls = FORMATS[kind]
    keys = {one.name: one.default is MISSING for one in fields(cls)}
    if unknown := [key for key in said if key not in keys]:
        raise TedsError(f"{at}: it has {', '.join(unknown)}, and a format {kind!r} has {', '.join(keys)}")
    if lacking := [key for key, needed in keys.items() if needed and key not in said]:
        raise TedsError(f"{at}: it does not say its {', '.join(lacking)}")
    for key in ("bits", "least", "most"):
        if key in said and not (_whole(said[key]) and said[key] >= 0):
            raise TedsError(f"{at}: its {key} is {said[key]!r}, which is no whole number from 0 on")
    for key in ("start", "step", "tolerance"):
        if key in said:
            said[key] = _number(at, key, said[key])
    if kind == "rows":
        said["fields"] = _fields(at, said["fields"])
    if kind == "choice":
        said["names"] = _names(at, said["names"])
    form = cls(**said)
    _check(at, form)
    return form


def _check(at: str, form: Format | Rows) -> None:
    """That it can be."""
    top = (1 << form.bits) - 1
    wrong = "" if 1 <= form.bits <= WIDEST else f"{form.bits} bits are none from 1 to {WIDEST}"
    match form:
        case Unsigned() if form.least > (top if form.most is None else min(form.most, top)) or (form.most or 0) > top:
            wrong = wrong or f"from {form.least} to {form.most} is no range of {form.bits} bits"
        case Letters() if form.bits % 5:
            wrong = f"letters have 5 bits each, and {form.bits} are not a number of them"
        case Single() if form.bits != 32:
            wrong = f"a single has 32 bits, not {form.bits}"
        case Steps() if form.step <= 0.0:
            wrong = f"a step of {form.step:g} leads nowhere"
        case Ratios() if form.start <= 0.0 or form.tolerance <= 0.0:
            wrong = f"start and tolerance of ratios are above 0, not {form.start:g} and {form.tolerance:g}"
        case Choice() if len(form.names) > top + 1:
            wrong = f"{len(form.names)} names have no room in {form.bits} bits"
    if wrong:
        raise TedsError(f"{at}: {wrong}")


def _only(at: str, when: Any, form: Format | Rows, earlier: Mapping[str, Format | Rows | Only]) -> Only:
    if not isinstance(when, dict) or len(when) != 1 or next(iter(when)) not in earlier:
        raise TedsError(f'{at}: `when` names one earlier field and its value, as {{ type = "full" }}, not {when!r}')
    ((name, value),) = when.items()
    decides = earlier[name]
    if isinstance(decides, Only):
        decides = decides.form
    if not isinstance(decides, Choice | Unsigned):
        raise TedsError(f"{at}: only a choice or an unsigned number can decide whether it is there, and {name} is none")
    try:
        decides.code(name, value)
    except TedsError as error:
        raise TedsError(f"{at}: it would never be there: {error}") from None
    return Only(name, value, form)


def _names(at: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(name, str) and name for name in given):
        raise TedsError(f"{at}: its names must be a list of texts, in the order of their numbers")
    if len(set(given)) < len(given):
        raise TedsError(f"{at}: one of its names is there twice")
    return tuple(given)


def _number(at: str, key: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    raise TedsError(f"{at}: its {key} is {value!r}, which is no number")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _tables(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(isinstance(one, dict) for one in given)
