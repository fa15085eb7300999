"""Every test runs on a clock that jumps, unless it is marked `real_clock` (sockets, ports, processes).

A test marked `needs_tool("qemu", ...)` fails without the tool where CI=true; elsewhere it is not
run and the end of the run says so.

`make test` runs the tests of the real clock one after another, and beside them, at the lowest priority, those
that only need to be computed, and those marked `patient`: programs of their own that may take as long as they like.
Two processes, which share the machine (`sharing`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from hal.testing import JumpingLoop

hypothesis.settings.register_profile(  # how long an example takes is the machine's affair
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

CACHE = Path(__file__).parents[1] / ".pytest_cache"
"""A folder that all processes of a run share."""


PROGRAMS = ("/usr/sbin", "/sbin", Path(__file__).parents[1] / "build/node-red/node_modules/.bin")
"""Where programs are that tests need, besides the PATH: Debian's servers, and what `make test` puts below build/."""


def pytest_configure(config: pytest.Config) -> None:
    CACHE.mkdir(exist_ok=True)
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), *map(str, PROGRAMS)))
    config.addinivalue_line("markers", "real_clock: runs on the real clock and real wires")
    config.addinivalue_line("markers", "patient: on the real clock, and nothing in it has to be in time")
    config.addinivalue_line("markers", "needs_tool(*names): needs programs on the PATH")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before a test's time is taken
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("real_clock") and not item.get_closest_marker("patient"):
        return (yield)
    with sharing(alone=False):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Iterator[None]:
    """End a test that hangs, also where asyncio keeps to itself what a callback or another task raises."""
    result = yield
    if settings.timeout and settings.method == "signal":
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, 5.0)
    return result


@contextmanager
def sharing(*, alone: bool) -> Iterator[None]:
    """The machine, `alone` or with whoever else shares it: for what a busy machine would spoil."""
    if "TESTS_SHARE_MACHINE" not in os.environ:
        yield
        return
    import fcntl

    with (CACHE / "machine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(scope="session")
def machine_to_oneself() -> Callable[[], AbstractContextManager[None]]:
    """No test is computed beside what is done within."""
    return lambda: sharing(alone=True)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("real_clock"):
        return {"real": asyncio.new_event_loop}
    return {"jumping": JumpingLoop}


@pytest.fixture(autouse=True)
def _tools(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("needs_tool")
    for tool in marker.args if marker else ():
        if shutil.which(tool) is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"this test needs {tool}, and CI must have it (see the Makefile's `tools` target)")
            pytest.skip(f"needs {tool}")
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", ()):  # told by each process to the one that sums up
        why = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        if "needs " in why:
            missing.setdefault(why.partition("needs ")[2], []).append(report.nodeid)
    for tool, tests in sorted(missing.items()):
        terminalreporter.write_line(f"NOT RUN for want of {tool}: {', '.join(tests)}", yellow=True)
