"""The axis and global parameters of a TMCM-1110: their ranges, who may write them, and what they are at first.

Numbers, ranges and access: firmware manual, sections 4 and 5, and PyTrinamic's list (D). Factory values are those of
modules with the same motion controller, and unverified for this one.
"""

from __future__ import annotations

from dataclasses import dataclass

FULL = 2**31


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter."""

    low: int
    high: int
    factory: int = 0
    access: str = "RWE"
    """R: may be read; W: may be set; E: may be kept in the EEPROM."""


def _table(*rows: tuple[int, int, int, int, str]) -> dict[int, Parameter]:
    return {number: Parameter(low, high, factory, access) for number, low, high, factory, access in rows}


AXIS = _table(
    (0, -FULL, FULL - 1, 0, "RW"),  # target position
    (1, -FULL, FULL - 1, 0, "RW"),  # actual position
    (2, -2047, 2047, 0, "RW"),  # target speed
    (3, -2047, 2047, 0, "R"),  # actual speed
    (4, 0, 2047, 1000, "RWE"),  # speed of positioning
    (5, 0, 2047, 500, "RWE"),  # acceleration
    (6, 0, 255, 128, "RWE"),  # current when running
    (7, 0, 255, 8, "RWE"),  # current when standing
    (8, 0, 1, 1, "R"),  # at the target
    (9, 0, 1, 0, "R"),  # home switch
    (10, 0, 1, 0, "R"),  # right limit switch
    (11, 0, 1, 0, "R"),  # left limit switch
    (12, 0, 1, 0, "RWE"),  # right limit switch disabled
    (13, 0, 1, 0, "RWE"),  # left limit switch disabled
    (130, 0, 2047, 1, "RWE"),  # least speed
    (135, -2047, 2047, 0, "R"),  # actual acceleration
    (138, 0, 2, 0, "RW"),  # mode of the ramp
    (140, 0, 8, 8, "RWE"),  # microsteps, as a power of 2
    (141, 0, 4095, 0, "RW"),  # tolerance of the reference switch
    (149, 0, 1, 0, "RW"),  # soft stop
    (150, 0, 1, 0, "RWE"),  # power down at the switch
    (153, 0, 13, 7, "RWE"),  # divisor of the acceleration
    (154, 0, 13, 3, "RWE"),  # divisor of the speed
    (160, 0, 1, 0, "RW"),  # interpolation of steps
    (161, 0, 1, 0, "RW"),  # step on both edges
    (162, 0, 3, 2, "RW"), (163, 0, 1, 0, "RW"), (164, 0, 1, 0, "RW"), (165, -3, 12, 2, "RW"), (166, 0, 8, 3, "RW"),
    (167, 0, 15, 5, "RW"),  # the chopper
    (168, 0, 1, 0, "RW"), (169, 0, 3, 0, "RW"), (170, 0, 15, 0, "RW"), (171, 0, 3, 0, "RW"), (172, 0, 15, 0, "RW"),
    (173, 0, 1, 0, "RW"), (174, -64, 63, 0, "RW"), (175, 0, 3, 3, "RW"), (176, 0, 3, 3, "RW"),  # coolStep, stallGuard
    (177, 0, 1, 0, "RW"), (178, 0, 3, 0, "RW"), (179, 0, 1, 0, "RW"), (180, 0, 31, 0, "R"),
    (181, 0, 2047, 0, "RW"), (182, 0, 2047, 0, "RW"), (183, 0, 1, 0, "RW"), (184, 0, 1, 0, "RW"),
    (193, 1, 255, 1, "RWE"),  # mode of the reference search
    (194, 0, 2047, 500, "RWE"),  # its speed
    (195, 0, 2047, 50, "RWE"),  # its speed at the switch
    (196, -FULL, FULL - 1, 0, "R"),  # distance between the limit switches
    (204, 0, 65535, 0, "RWE"),  # freewheeling after, 10 ms
    (206, 0, 1023, 0, "R"),  # load
    (207, 0, 3, 0, "R"), (208, 0, 255, 0, "R"),  # errors and status of the driver
    (209, -FULL, FULL - 1, 0, "RW"), (210, -FULL, FULL - 1, 0, "RWE"), (212, 0, 65535, 0, "RWE"),  # encoder
    (213, 0, 255, 0, "RW"),  # group
    (214, 1, 65535, 200, "RWE"),  # power down after, 10 ms
    (254, 0, 5, 0, "RWE"),  # step and direction
)  # fmt: skip

GLOBAL = _table(
    (65, 0, 11, 0, "RWE"),  # speed of the serial line
    (66, 1, 255, 1, "RWE"),  # own address
    (68, 0, 65535, 0, "RWE"),  # heartbeat, ms
    (69, 2, 8, 8, "RWE"), (70, 0, 2047, 2, "RWE"), (71, 0, 2047, 1, "RWE"),  # CAN
    (75, 0, 255, 0, "RWE"),  # pause before replies
    (76, 0, 255, 2, "RWE"),  # host's address
    (77, 0, 1, 0, "RWE"), (78, 0, 4, 0, "RWE"), (79, 0, 3, 0, "RWE"), (81, 0, 3, 0, "RWE"), (82, 0, 65535, 0, "RWE"),
    (83, 0, 2047, 0, "RWE"), (84, 0, 1, 0, "RWE"), (85, 0, 1, 0, "RWE"), (87, 0, 255, 0, "RWE"), (90, 0, 1, 0, "RWE"),
    (128, 0, 3, 0, "R"), (129, 0, 1, 0, "R"), (130, -1, 4095, 0, "R"),  # the program
    (132, -FULL, FULL - 1, 0, "RW"),  # ms
    (133, 0, FULL - 1, 0, "R"),
    (255, 0, 1, 0, "RW"),  # no replies
)  # fmt: skip

INTERRUPTS = _table(
    *((number, 0, FULL - 1, 0, "RW") for number in range(3)),  # timers, ms
    *((number, 0, 3, 0, "RW") for number in (27, 28, *range(39, 46))),  # edges of the stop switches and of the inputs
)
"""Bank 3: when interrupts of a program come (D)."""

USER = Parameter(-FULL, FULL - 1, 0, "RWE")
KEPT_USER = 56  # user variables below this number may be kept (bank 2)
