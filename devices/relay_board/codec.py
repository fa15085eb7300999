"""A relay board's coils: eight, at addresses 0 to 7; 1 is energised.

There is no manual common to such boards; this is what the usual eight-relay boards with Modbus share
(coils at 0 to 7 written by functions 5 and 15 and read by function 1). Check yours.
"""

from __future__ import annotations

CHANNELS = 8


def coil(channel: int) -> int:
    """The coil of a channel as printed on the board, 1 to 8. Raises ValueError."""
    if not 1 <= channel <= CHANNELS:
        raise ValueError(f"channel {channel} is none of 1 to {CHANNELS}")
    return channel - 1


def position(energised: bool, open_when: str) -> str:
    """Where a valve stands whose relay is `energised`: "open" or "closed"."""
    return "open" if energised == (open_when == "energised") else "closed"


def energised(position: str, open_when: str) -> bool:
    """Whether its relay is energised when a valve stands at `position`."""
    return (position == "open") == (open_when == "energised")
