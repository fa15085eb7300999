"""A relay board's coils: eight, at addresses 0 to 7; 1 is energised.

There is no manual common to such boards; this is what the usual eight-relay boards with Modbus share
(coils at 0 to 7 written by functions 5 and 15 and read by function 1). Check yours.
What one board in particular has beside is that of Waveshare's Modbus POE ETH Relay (B), as the maker's wiki gives it
("Modbus POE ETH Relay (B)", development protocol: W) and open clients of it ask (alwaysmohawk's waveshare-modbus).
"""

from __future__ import annotations

CHANNELS = 8

FLIP = 0x5500
"""Value of function 5 that turns a relay over (W)."""
EVERY = 0x00FF
"""Address of function 5 that means all of them (W)."""
PULSE_ON, PULSE_OFF = 0x0200, 0x0400
"""Addresses, of channel 1, that energise or release a relay for the value times `PULSE` (W)."""
PULSE = 0.1  # s
MODE, ADDRESS, VERSION = 0x1000, 0x4000, 0x8000
"""Registers: how an input acts on its relay, of channel 1 (0: not at all); address; version times 100 (W)."""
MODES = 4


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
