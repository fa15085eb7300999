"""The instants that sampling interrupts stand for, however unevenly an emulator or a busy board delivers them."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.needs_tool("cc")

FIRMWARE = Path(__file__).parents[2] / "firmware"
SOURCE = """
#include "sampling.h"
int due(uint32_t *instant, uint32_t period, uint32_t now)
{
    struct sampling sampling = {*instant, period};
    int is = sampling_due(&sampling, now);
    *instant = sampling.instant;
    return is;
}
"""


@pytest.fixture(scope="module")
def due(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampling")
    (folder / "due.c").write_text(SOURCE)
    include = [f"-I{FIRMWARE / 'core'}", f"-I{FIRMWARE / 'boards' / 'common'}"]
    subprocess.run(["cc", "-shared", "-fPIC", *include, "due.c", "-o", "due.so"], cwd=folder, check=True)
    function = ctypes.CDLL(str(folder / "due.so")).due

    def call(instant: int, period: int, now: int) -> tuple[bool, int]:
        held = ctypes.c_uint32(instant % 2**32)
        is_due = function(ctypes.byref(held), ctypes.c_uint32(period), ctypes.c_uint32(now % 2**32))
        return bool(is_due), held.value

    return call


@given(
    period=st.integers(100, 100_000),
    waits=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60),
    start=st.integers(2**32 - 10**7, 2**32 - 1),
)
def test_the_grid_stays_where_it_was_over_late_doubled_and_early_interrupts_and_the_wrap(due, period, waits, start):
    now, instant = start, start
    for wait in waits:
        now += round(wait * period)
        is_due, found = due(instant, period, now)
        steps = (found - instant) % 2**32
        assert steps % period == 0
        assert is_due == (steps > 0)
        instant += steps
        assert instant - now <= period / 8 + 1  # never ahead of the clock by more than is forgiven
        assert now - instant < period  # and never behind by a period
