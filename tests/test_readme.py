"""What README and docs show is true: examples equal their files, commands parse, links lead somewhere."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from hal.capabilities import CAPABILITIES
from hal.cli import build
from hal.runtime import registry
from hal.runtime.config import parse, schema
from hal.units import _TABLE

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(ROOT.glob("docs/**/*.md"))
BLOCK = re.compile(r"^(?:<!-- (?P<tag>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


def blocks() -> Iterator[tuple[str, str, str, str]]:
    """Page, tag, language and text of every block of code."""
    for page in PAGES:
        for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
            name = str(page.relative_to(ROOT))
            yield name, found["tag"] or "", found["language"], found["code"]


def commands() -> Iterator[tuple[str, str]]:
    """Every `hal ...` typed at a prompt: page, arguments."""
    for page, _, language, code in blocks():
        for line in code.splitlines() if language == "console" else ():
            if found := re.match(r"\$ (?:PYTHONPATH=\S+ )?(?:\.venv/bin/)?hal (.*)", line):
                yield page, found[1]


def quoted(tag: str) -> list[tuple[str, str, str]]:
    return [
        (page, stated.removeprefix(tag), code) for page, stated, _, code in blocks() if stated.startswith(tag)
    ]  # fmt: skip


def test_an_example_that_is_shown_whole_equals_its_file():
    whole = quoted("same as ")
    assert {"examples/ramp.py", "examples/lab.toml", "examples/test_bench.py"} <= {file for _, file, _ in whole}
    for page, file, code in whole:
        assert code.strip() == (ROOT / file).read_text(encoding="utf-8").strip(), f"{page} shows {file} otherwise"


def test_an_example_that_is_shown_in_part_stands_in_its_file_line_by_line():
    parts = quoted("from ")
    assert {"examples/dashboard.py", "examples/own_driver.py"} <= {file for _, file, _ in parts}
    for page, file, code in parts:
        lines = [line.strip() for line in code.strip().splitlines()]
        source = [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        found = any(source[n : n + len(lines)] == lines for n in range(len(source)))
        assert found, f"{page} shows of {file} what is not there:\n{code}"


def test_every_block_of_python_compiles():
    for page, _, language, code in blocks():
        if language == "python":
            body = textwrap.indent(code, "    ")
            compile(f"async def cell():\n{body}\n    ...", page, "exec")


@pytest.mark.parametrize("code", [code for _, tag, _, code in blocks() if tag == "script"])
def test_a_script_of_the_docs_asks_a_lab_for_what_it_can_give(code, tmp_path):
    # Its class is made and held against the example's lab file; the ramp itself runs in the tests of the examples.
    from hal import Lab

    head = code.partition("async ")[0]
    found: dict[str, object] = {}
    exec(compile(head, "docs", "exec", dont_inherit=True), found)
    labs = [c for c in found.values() if isinstance(c, type) and issubclass(c, Lab) and c is not Lab]
    assert labs
    config = parse((ROOT / "examples/lab.toml").read_text(encoding="utf-8"), tmp_path / "lab.toml")
    for lab in labs:
        lab._check_needs(config)


def test_every_lab_file_that_is_shown_is_right(tmp_path):
    shown = [(page, code) for page, _, language, code in blocks() if language == "toml" and "schema = 1" in code]
    assert len(shown) > 5
    for page, code in shown:
        for certificate in re.findall(r'^calibration = "(.*)"', code, re.M):
            (tmp_path / certificate).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / certificate).touch()
        assert parse(code, tmp_path / "lab.toml").file.devices, page


def test_every_command_that_is_shown_parses():
    shown = list(commands())
    assert {arguments.split()[0] for _, arguments in shown} >= {"run", "check", "emulate", "watch", "ack", "repair"}
    for page, arguments in shown:
        words = shlex.split(arguments, comments=True)
        if ">" in words:
            words = words[: words.index(">")]
        with contextlib.suppress(SystemExit):
            assert hasattr(build().parse_args(words), "work"), f"{page}: hal {arguments}"
            continue
        pytest.fail(f"{page}: `hal {arguments}` does not parse")


def test_every_command_that_is_mentioned_exists():
    verbs = _verbs()
    for page in PAGES:
        for word in re.findall(r"`hal ([a-z]+)", page.read_text(encoding="utf-8")):
            assert word in verbs, f"{page.relative_to(ROOT)}: there is no `hal {word}`"


def test_the_reference_of_the_command_line_has_every_command_and_option():
    text = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    for verb, parser in _verbs().items():
        assert f"## `hal {verb}" in text
        section = text.partition(f"## `hal {verb}")[2].partition("\n## ")[0]
        for option in parser._option_string_actions:
            assert option in ("-h", "--help", "--json") or option in section, f"hal {verb} {option}"


def test_the_readme_names_every_command_and_every_instrument_with_how_far_it_is_verified():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in _verbs():
        assert f"| `hal {verb}" in text
    for name in registry.known():
        driver = registry.driver(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert driver.verified in row
        assert all(capability.__name__ in row for capability in driver.provides)


def test_the_reference_of_the_lab_file_has_every_key_and_every_option_of_every_driver():
    text = (ROOT / "docs/reference/lab-file.md").read_text(encoding="utf-8")
    whole = schema()
    for entry in (whole, *whole["$defs"].values()):
        for key in entry["properties"]:
            assert re.search(rf"\b{key}\b", text), key
    for name in registry.known():
        for option in fields(registry.driver(name).Options):
            assert f"`{option.name}`" in text, f"{name}: {option.name}"


def test_the_reference_of_units_has_every_unit_in_all_its_spellings():
    text = (ROOT / "docs/reference/units.md").read_text(encoding="utf-8")
    for unit in _TABLE:
        assert not unit.name or f"| `{unit.name}` | `{unit.ucum}` | `{unit.udunits}` | {unit.dimension} |" in text


def test_the_reference_of_capabilities_has_every_signal_and_verb():
    text = (ROOT / "docs/reference/capabilities.md").read_text(encoding="utf-8")
    for capability in CAPABILITIES:
        section = text.partition(f"\n## {capability.__name__}\n")[2].partition("\n## ")[0]
        for signal in inspect.get_annotations(capability):
            assert f"`{signal}` (" in section, f"{capability.__name__}.{signal}"
        for verb in vars(capability):
            if not verb.startswith("_"):
                assert f"`{verb}" in section, f"{capability.__name__}.{verb}"


def test_every_relative_link_leads_to_a_file():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_every_page_is_in_the_navigation_and_the_index_and_the_picture_is_small():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/**/*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name in navigation, f"mkdocs.yml does not list {name}"
        assert name == "index.md" or f"({name})" in index, f"docs/index.md leads to no {name}"
    assert (ROOT / "docs/demo.png").stat().st_size < 300_000


def _verbs() -> dict[str, argparse.ArgumentParser]:
    (verbs,) = (action for action in build()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(verbs.choices)
