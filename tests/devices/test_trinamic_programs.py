"""Programs in the memory of a TMCM-1110: loaded as other programs load them, and run by the module itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.physics import World
from devices.trinamic_tmcm1110 import codec, program
from devices.trinamic_tmcm1110.codec import Command, Reply
from devices.trinamic_tmcm1110.emulator import Tmcm1110Emulator
from hal.testing import wired

LOADING, READY, RESET, RUN, STOP, STEP = 132, 133, 131, 129, 128, 130
X, USER = 33, 2


@pytest.fixture
def module():
    return Tmcm1110Emulator(World(), left=-40_000, right=40_000)


def live(module: Tmcm1110Emulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.01)):
        module.advance(0.01)


def send(module: Tmcm1110Emulator, number: int, kind: int = 0, motor: int = 0, value: int = 0) -> Reply:
    answer = module.respond(codec.summed(Command(1, number, kind, motor, value).encode()))
    assert answer is not None
    return Reply.decode(answer[:-1])


def load(module: Tmcm1110Emulator, *commands: tuple[int, int, int, int]) -> None:
    """As PyTrinamic 0.2.26 does it (examples/tools/LoadTMCLBinary.py), and Trinamic's support says it."""
    assert send(module, LOADING).status == codec.OK
    for command in (*commands, (0, 0, 0, 0)):
        assert send(module, *command).status == codec.LOADED
    assert send(module, READY).status == codec.OK


def user(module: Tmcm1110Emulator, number: int) -> int:
    return send(module, codec.GGP, number, USER).value


def test_what_is_loaded_is_not_carried_out_until_it_is_run(module):
    """PyTrinamic 0.2.26, examples/modules/TMCM1636/TMCL/tmcl_script_load.py: to and fro, for a second each."""
    load(module, (codec.SAP, 5, 0, 500), (codec.ROR, 0, 0, 500), (codec.WAIT, 0, 0, 100),
         (codec.ROR, 0, 0, -500), (codec.WAIT, 0, 0, 100), (codec.JA, 0, 0, 1))  # fmt: skip
    live(module, 1.0)
    assert module.axis.velocity == 0.0
    send(module, RESET)
    send(module, RUN)
    live(module, 0.9)
    assert module.axis.velocity > 0.0
    assert send(module, codec.GGP, 128).value == 1
    live(module, 1.0)
    assert module.axis.velocity < 0.0
    live(module, 1.0)
    assert module.axis.velocity > 0.0
    send(module, STOP)
    live(module, 0.2)
    assert module.axis.velocity > 0.0  # the motor goes on: it was the program that was stopped
    assert send(module, codec.GGP, 128).value == 0


def test_a_program_counts_jumps_and_calls(module):
    load(module, (codec.CALC, 9, 0, 3), (codec.AGP, 1, USER, 0),  # a = 3
         (codec.CSUB, 0, 0, 8), (codec.GGP, 1, USER, 0), (codec.CALC, 1, 0, 1), (codec.AGP, 1, USER, 0),  # a -= 1
         (codec.JC, 1, 0, 2), (codec.STOP, 0, 0, 0),  # until it is 0
         (codec.GGP, 2, USER, 0), (codec.CALC, 0, 0, 10), (codec.AGP, 2, USER, 0), (codec.RSUB, 0, 0, 0))  # fmt: skip
    send(module, RUN)
    live(module, 0.5)
    assert (user(module, 1), user(module, 2)) == (0, 30)
    assert send(module, 135).value >> 24 == 0


@pytest.mark.parametrize(
    ("kind", "left", "right", "found"),
    [(0, 2**31 - 1, 1, -(2**31)), (1, 3, 5, -2), (2, -4, 5, -20), (3, -7, 2, -3), (4, -7, 2, -1), (5, 12, 10, 8),
     (6, 12, 10, 14), (7, 12, 10, 6), (8, 0, 0, -1), (9, 1, 9, 9)],
)  # fmt: skip
def test_it_calculates_in_32_bits(module, kind, left, right, found):
    load(module, (codec.CALC, 9, 0, right), (codec.CALCX, 9, 0, 0), (codec.CALC, 9, 0, left), (codec.CALCX, kind, 0, 0)
         if kind != 9 else (codec.CALC, 9, 0, right), (codec.AGP, 0, USER, 0), (codec.STOP, 0, 0, 0))  # fmt: skip
    send(module, RUN)
    live(module, 0.1)
    assert user(module, 0) == found


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [(2, 5, True), (3, 5, False), (4, 4, True), (5, 5, True), (6, 5, False), (7, 5, True), (0, 0, False), (1, 0, True)],
)
def test_it_jumps_where_the_condition_holds(module, condition, value, holds):
    load(module, (codec.CALC, 9, 0, 5), (codec.COMP, 0, 0, value), (codec.JC, condition, 0, 4), (codec.STOP, 0, 0, 0),
         (codec.SGP, 0, USER, 7), (codec.STOP, 0, 0, 0))  # fmt: skip
    send(module, RUN)
    live(module, 0.1)
    assert (user(module, 0) == 7) is holds


def test_it_waits_for_the_target_or_not_for_ever(module):
    load(module, (codec.MVP, 0, 0, 20_000), (codec.WAIT, 1, 0, 0), (codec.CCO, 3, 0, 0),
         (codec.MVP, 0, 0, -20_000), (codec.WAIT, 1, 0, 5), (codec.JC, 8, 0, 7), (codec.STOP, 0, 0, 0),
         (codec.MST, 0, 0, 0), (codec.CLE, 1, 0, 0), (codec.JC, 8, 0, 7), (codec.SGP, 9, USER, 1))  # fmt: skip
    send(module, RUN)
    live(module, 5.0)
    assert module.coordinates[3] == 20_000
    assert user(module, 9) == 1
    assert module.counter > -20_000


def test_a_step_is_one_command_and_the_place_is_told(module):
    load(module, (codec.SGP, 0, USER, 1), (codec.SGP, 1, USER, 2))
    send(module, STEP)
    live(module, 0.1)
    assert (user(module, 0), user(module, 1)) == (1, 0)
    assert send(module, 135).value & 0xFFFFFF == 1
    send(module, RUN, 1, 0, 0)  # from an address
    live(module, 0.1)
    assert user(module, 1) == 2


def test_a_timer_interrupts_and_the_program_goes_on_where_it_was(module):
    load(module, (codec.VECT, 0, 0, 6), (codec.SGP, 0, 3, 100), (codec.EI, 0, 0, 0), (codec.EI, 255, 0, 0),
         (codec.WAIT, 0, 0, 1), (codec.JA, 0, 0, 4),
         (codec.GGP, 0, USER, 0), (codec.CALC, 0, 0, 1), (codec.AGP, 0, USER, 0), (codec.RETI, 0, 0, 0))  # fmt: skip
    send(module, RUN)
    live(module, 1.05)
    assert 8 <= user(module, 0) <= 11


def test_a_program_survives_a_power_cut_and_may_start_by_itself(module):
    load(module, (codec.SGP, 0, USER, 42), (codec.STOP, 0, 0, 0))
    module.power_up()
    live(module, 0.1)
    assert user(module, 0) == 0
    send(module, codec.SGP, 77, 0, 1)
    send(module, codec.STGP, 77, 0)
    module.power_up()
    live(module, 0.1)
    assert user(module, 0) == 42


def test_the_memory_can_be_read_and_is_finite(module):
    load(module, (codec.MVP, 1, 0, -5))
    answer = module.respond(codec.summed(Command(1, 134, value=0).encode()))
    assert answer == codec.summed(Command(2, codec.MVP, 1, 0, -5).encode())
    send(module, LOADING)
    statuses = [send(module, codec.MST).status for _ in range(program.MEMORY + 1)]
    assert statuses[-2:] == [codec.LOADED, codec.FULL]


def test_while_it_is_loaded_nothing_moves(module):
    send(module, LOADING)
    assert send(module, codec.ROR, 0, 0, 500).status == codec.LOADED
    live(module, 0.5)
    assert not module.axis.moving


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 13), st.integers(0, 3), st.integers(-40, 40)), max_size=6))
def test_no_program_whatever_upsets_the_module(commands):
    module = Tmcm1110Emulator(World(), left=-40_000, right=40_000)
    load(module, *commands)
    send(module, RUN)
    live(module, 0.05)
    assert send(module, STOP).status == codec.OK


async def test_the_safe_state_stops_a_program_too():
    async with wired("trinamic_tmcm1110", name="stage", options={"pitch": 1.0, "travel": (-10.0, 10.0)}) as (
        stage,
        wire,
    ):
        load(wire.emulator, (codec.ROR, 0, 0, 500), (codec.WAIT, 0, 0, 10), (codec.JA, 0, 0, 0))
        send(wire.emulator, RUN)
        live(wire.emulator, 0.5)
        await stage.safe_state()
        live(wire.emulator, 3.0)
        assert not wire.emulator.axis.moving
