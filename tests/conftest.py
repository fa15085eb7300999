"""Every test runs on a clock that jumps, unless it is marked `real_clock` (sockets, ports, processes).

A test marked `needs_tool("qemu", ...)` fails without the tool where CI=true; elsewhere it is not
run and the end of the run says so.

With pytest-xdist (`-n 2 --dist loadgroup`, as `make test` does) the tests of the real clock run one after
another in one process, while another one, at the lowest priority, does those that only need to be computed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from hal.testing import JumpingLoop

hypothesis.settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("untimed")

_not_run: dict[str, list[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_clock: runs on the real clock and real wires")
    config.addinivalue_line("markers", "needs_tool(*names): needs programs on the PATH")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("real_clock"):
            item.add_marker(pytest.mark.xdist_group("real clock"))


@pytest.fixture(autouse=True)
def _steps_back(request: pytest.FixtureRequest) -> None:
    if (
        hasattr(os, "setpriority")
        and "PYTEST_XDIST_WORKER" in os.environ
        and not request.node.get_closest_marker("real_clock")
    ):
        os.setpriority(os.PRIO_PROCESS, 0, 19)  # there is no way back, but the real clock's group comes first


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
        if shutil.which(tool) is None and shutil.which(tool, path="/usr/sbin:/sbin") is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"this test needs {tool}, and CI must have it (see the Makefile's `tools` target)")
            _not_run.setdefault(tool, []).append(request.node.nodeid)
            pytest.skip(f"needs {tool}")
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for tool, tests in sorted(_not_run.items()):
        terminalreporter.write_line(f"NOT RUN for want of {tool}: {', '.join(tests)}", yellow=True)
