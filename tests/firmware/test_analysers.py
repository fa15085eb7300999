"""What reads the C and finds fault with it: GCC's analyser, cppcheck, clang-tidy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).parents[2] / "firmware"


@pytest.mark.parametrize(
    "analyser",
    [
        pytest.param("analyze", marks=pytest.mark.needs_tool("gcc", "make")),
        pytest.param("cppcheck", marks=pytest.mark.needs_tool("cppcheck", "make")),
        pytest.param("tidy", marks=pytest.mark.needs_tool("clang-tidy", "make")),
    ],
)
def test_the_analysers_find_no_fault_with_the_firmware(analyser: str, tmp_path: Path) -> None:
    run = subprocess.run(
        ["make", "-s", "-C", str(FIRMWARE), f"OUT={tmp_path}", analyser], capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
