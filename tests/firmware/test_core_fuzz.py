"""The core under sanitizers: a million random messages, and the other tests once more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stepped import BUILT, FIRMWARE, SANITIZED, make

HERE = Path(__file__).parent
PLAIN = (
    "test_core_link.py",
    "test_core_safety.py",
    "test_core_streams.py",
    "test_core_control.py",
    "test_core_teds.py",
    "test_core_holder.py",
)


def test_a_million_random_messages_crash_nothing_and_put_nothing_on():
    make("../build/firmware/fuzz")
    run = subprocess.run([BUILT / "fuzz", "1000000", "1"], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-3000:]
    found = re.search(r"(\d+) frames, (\d+) refused.*ARMED (\d+) RUN (\d+)", run.stdout)
    assert found, run.stdout
    frames, refused, armed, ran = map(int, found.groups())
    assert frames >= 1_000_000
    assert refused < 0.9 * frames  # else it says nothing of what lies behind the first check
    assert armed > 10_000
    assert ran > 10_000


def test_what_the_fuzzer_once_found_still_does_no_harm():
    make("../build/firmware/fuzz")
    inputs = sorted((FIRMWARE / "tests" / "corpus").iterdir())
    run = subprocess.run([BUILT / "fuzz", "-", *inputs], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout == f"{len(inputs)} inputs\n"
    assert len(inputs) > 20


@pytest.mark.needs_tool("clang")
def test_a_fuzzer_that_looks_into_the_core_finds_nothing():
    make(f"SECONDS_OF_FUZZ={30 if os.environ.get('CI') == 'true' else 2}", "libfuzzer")


def test_the_core_does_all_of_it_under_address_and_undefined_behaviour_sanitizers():
    make("lib-asan")
    if not sys.platform.startswith("linux"):
        pytest.skip("preloads the sanitizer as Linux does")
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {
        **os.environ,
        SANITIZED: str(BUILT / "libcore-asan.so"),
        "LD_PRELOAD": asan.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *PLAIN],
        cwd=HERE, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert " passed" in run.stdout
