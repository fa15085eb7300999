"""What the firmware's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stepped import Stepped, eeprom


@pytest.fixture
def core() -> Iterator[Stepped]:
    """The core with a holder whose TEDS is whole. At the end no output was ever on that must not be."""
    core = Stepped(eeprom())
    yield core
    assert core.board.violations == 0
