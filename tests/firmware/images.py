"""The images under test, built when their sources changed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from stepped import BUILT, ROOT, building


@cache
def built(name: str, compiler: str = "gcc") -> Path:
    """The ELF file of a board: mps2, stm32f405 or netduinoplus2."""
    file = BUILT / f"{name}.elf" if compiler == "gcc" else BUILT / compiler / f"{name}.elf"
    target = f"../build/firmware/{file.relative_to(BUILT)}"
    with building():
        run = subprocess.run(
            ["make", "-s", "-f", "boards/cortex_m.mk", f"ZIG={sys.executable} -m ziglang", target],
            cwd=ROOT / "firmware", capture_output=True, text=True, timeout=900,
        )  # fmt: skip
    if run.returncode:
        pytest.fail(f"{target} does not build:\n{run.stderr[-3000:]}")
    return file


def any_compiler(name: str) -> Path:
    """Built by gcc, or where that is missing by zig from PyPI."""
    if shutil.which("arm-none-eabi-gcc"):
        return built(name)
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs arm-none-eabi-gcc or ziglang")
    return built(name, "zig")
