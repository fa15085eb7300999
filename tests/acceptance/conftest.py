"""The demo, run once as a user runs it; what it leaves behind is looked at from all sides."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Demo:
    """What the demo said and left."""

    output: str
    seconds: float
    run: Path
    truth: Path
    picture: Path


@pytest.fixture(scope="session")
def demo(
    tmp_path_factory: pytest.TempPathFactory, machine_to_oneself: Callable[[], AbstractContextManager[None]]
) -> Demo:
    import time

    into = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "hal.demo", "--into", str(into)]
    with machine_to_oneself():
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(into.glob("runs/*.nxs"))
    return Demo(done.stdout, time.monotonic() - started, run, into / "truth.npz", run.with_suffix(".png"))
