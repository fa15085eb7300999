"""What the firmware's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stepped import Stepped, eeprom

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for the compiler, and that takes as long as the machine lets it."""
    for item in items:
        if item.path.parent == HERE and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture
def core() -> Iterator[Stepped]:
    """The core with a holder whose TEDS is whole. At the end no output was ever on that must not be."""
    core = Stepped(eeprom())
    yield core
    assert core.board.violations == 0
