"""docs/how-to/add-an-instrument.md as a stranger follows it: every block is typed, every command entered, in order."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.cli import main
from hal.runtime import registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to/add-an-instrument.md").read_text(encoding="utf-8")
BENCH = (ROOT / "docs/how-to/test-on-the-bench.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(?:<!-- (?P<tag>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)

PROGRAMS = {
    "python": [],
    "hal": ["-P", "-m", "hal.cli"],
    "pytest": ["-P", "-m", "pytest", "-p", "no:cacheprovider"],
}
"""-P: a program that is installed does not look into the folder by itself."""

pytestmark = [pytest.mark.real_clock, pytest.mark.patient]


def blocks(language: str, page: str = PAGE) -> list[tuple[str, str]]:
    """Tag and text of all blocks in a language."""
    return [(found["tag"] or "", found["code"]) for found in BLOCK.finditer(page) if found["language"] == language]


def typed() -> str:
    """The driver: what belongs into the class is typed into the class."""
    out = ""
    for tag, code in blocks("python"):
        if tag == "from examples/own_driver.py":
            begins = code.startswith(('"""', "class ", "@dataclass", "async def main"))
            out += (code if begins else textwrap.indent(code, "    ")) + "\n"
    return out


def said(command: str) -> str:
    """What the page says that a command prints."""
    for _, code in blocks("console"):
        head, _, rest = code.partition("\n")
        if head.startswith(f"$ {command}"):
            return rest
        if f"\n$ {command}" in code:
            return code.partition(f"\n$ {command}")[2].partition("\n")[2]
    raise AssertionError(f"the page does not enter {command!r}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's folder with all that the page has typed into it."""
    here = tmp_path_factory.mktemp("stranger")
    (here / "own_driver.py").write_text(typed(), encoding="utf-8")
    ((_, lab),) = [(tag, code) for tag, code in blocks("toml") if "[devices.bath]" in code]
    (here / "lab.toml").write_text(f"schema = 1\n{lab}", encoding="utf-8")
    for language in ("python", "toml"):
        for tag, code in blocks(language):
            if tag.startswith("into "):
                (here / tag.removeprefix("into ")).write_text(code, encoding="utf-8")
    (conftest,) = [
        code for _, code in blocks("python", BENCH) if code.startswith("from hal.testing import JumpingLoop")
    ]
    (here / "conftest.py").write_text(conftest, encoding="utf-8")
    return here


def enter(command: str, folder: Path) -> str:
    """Enter a command of the page in the folder."""
    assert said(command) is not None
    words = shlex.split(command)
    program = PROGRAMS[words[0]]
    done = subprocess.run(
        [sys.executable, *program, *words[1:]], cwd=folder, text=True, capture_output=True, timeout=90,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def words(source: str) -> list[str]:
    """The program without its layout. (Not by `ast`: CPython 3.11 fails there when it collects garbage meanwhile.)"""
    left_out = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
    return [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in left_out]


def test_the_blocks_typed_one_after_the_other_are_the_example() -> None:
    example = (ROOT / "examples/own_driver.py").read_text(encoding="utf-8")
    assert words(typed()) == words(example)


def test_the_driver_runs_against_its_emulator(folder: Path) -> None:
    assert enter("python own_driver.py", folder) == said("python own_driver.py")


def test_a_lab_file_beside_it_names_it(folder: Path) -> None:
    assert enter("hal check lab.toml", folder) == said("hal check lab.toml")


@contextlib.contextmanager
def emulated(folder: Path) -> Iterator[list[str]]:
    """The page's `hal emulate`, on a free port, and what it prints."""
    assert "7007" in said("hal emulate own_driver:Bath --tcp 7007")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "hal.cli", "emulate", "own_driver:Bath", "--tcp", "0"],
        cwd=folder, text=True, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        try:
            yield [process.stdout.readline(), process.stdout.readline()]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_its_emulator_alone_answers_anybody(folder: Path) -> None:
    with emulated(folder) as lines:
        port = lines[0].split()[-1]
        assert "".join(lines).replace(port, "7007") == said("hal emulate own_driver:Bath")
        with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as wire:
            wire.sendall(b"SP nonsense\r\nID?\r\n")
            assert wire.recv(100) == b"BATH B-7 1.0\r\n"


def test_its_tests_pass(folder: Path) -> None:
    assert re.sub(r" in [\d.]+s", "", enter("pytest -q", folder).splitlines()[-1]) + "\n" == said("pytest -q")


def test_installed_it_is_listed_with_the_others_and_a_lab_file_calls_it_by_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # What `pip install -e .` leaves behind, without asking the network for a build backend: the folder on the path,
    # and the project's entry points in its metadata.
    assert "$ pip install -e ." in "".join(code for _, code in blocks("console"))
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    name, version = project["project"]["name"], project["project"]["version"]
    metadata = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    entries = project["project"]["entry-points"]
    (metadata / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
            for group, points in entries.items()
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    registry.known.cache_clear()
    try:
        assert main(["devices"]) == 0
        # Columns are as wide as the longest of what is installed.
        assert said("hal devices").split() in [line.split() for line in capsys.readouterr().out.splitlines()]
        lab = (folder / "lab.toml").read_text(encoding="utf-8")
        (tmp_path / "lab.toml").write_text(lab.replace('"own_driver:Bath"', '"bath_b7"'), encoding="utf-8")
        assert main(["check", str(tmp_path / "lab.toml")]) == 0
        assert capsys.readouterr().out == said("hal check lab.toml")
    finally:
        registry.known.cache_clear()
        sys.modules.pop("own_driver", None)
