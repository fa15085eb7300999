"""A thermometer that does not feel the heater: reversed, shorted or come off. Every count it gives could be true."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stepped import HOLDER, MS, Stepped, eeprom, tuned

from hal.protocols import firmware_gen as gen

VOLT = 32767 / 3.3
THERMOCOUPLE = replace(
    HOLDER, sensor=gen.SensorKind.THERMOCOUPLE, gain=100.0, coefficients=(0.0, 25.0, 0.0, 0.0), cold_offset=223.15,
    cold_slope=100.0, rate_max=0,
)  # fmt: skip


class Junction:
    """A thermocouple in a specimen that warms by 100 K/s at full output, and cools towards the room."""

    def __init__(self, core: Stepped, rise: float = 100.0) -> None:
        self.core, self.rise = core, rise
        self.above = 0.0  # K, of the room
        self.felt = 1.0  # by the converter; -1: reversed, 0: shorted
        core.board.adc[1] = round(0.75 * VOLT)  # 298 K

    def live(self, ms: int) -> None:
        for n in range(0, ms, 10):
            if n % 100 == 0:
                self.core.beat()
            self.above += 0.01 * (self.rise * self.core.board.heater / 60_000 - self.above * 0.4)
            self.core.board.adc[0] = max(0, round(self.felt * self.above / 25.0 * 0.1 * VOLT))
            self.core.advance(10)


@pytest.fixture
def core() -> Stepped:
    core = Stepped(eeprom(THERMOCOUPLE))
    Junction(core)
    core.advance(5)
    core.hello()
    core.ask(tuned(loop_break=2))
    core.arm()
    return core


@pytest.mark.parametrize("felt", [-1.0, 0.0])
def test_a_thermocouple_that_is_reversed_or_shorted_ends_the_heating(core, felt):
    junction = Junction(core)
    junction.felt = felt
    core.ask(gen.HeaterSet(500_000, 0))
    junction.live(1990)
    assert core.board.heater == 60_000
    junction.live(50)
    assert core.board.heater == 0
    assert core.board.heater_off_ticks - core.board.heater_on_ticks <= 2002 * MS
    status = core.status()
    assert (status.fault, status.fault_value) == (gen.Fault.LOOP_BREAK, status.temperature)
    assert core.ask(gen.ClearFault(gen.Fault.LOOP_BREAK)) == gen.ClearFaultReply(gen.State.SAFE)


def test_one_that_comes_off_in_the_middle_does_too(core):
    junction = Junction(core)
    core.ask(gen.HeaterSet(450_000, 0))
    junction.live(20_000)
    assert core.status().temperature == pytest.approx(450_000, abs=2000)
    junction.felt = 0.0
    junction.live(2500)
    assert core.status().fault is gen.Fault.LOOP_BREAK


def test_a_setpoint_that_is_out_of_reach_and_a_slow_heater_are_no_broken_loop(core):
    junction = Junction(core)
    core.ask(gen.HeaterSet(800_000, 0))
    junction.live(20_000)  # 250 K above the room is all it gives
    assert core.board.heater == 60_000
    core.ask(gen.HeaterOff())
    junction.rise = 4.0
    junction.above = 0.0
    junction.live(100)
    core.ask(gen.HeaterSet(500_000, 0))
    junction.live(10_000)
    assert core.state is gen.State.RUN


def test_what_gives_less_than_its_most_is_still_looking_for_its_setpoint(core):
    core.ask(gen.Safe())
    core.ask(tuned(loop_break=2, slew=6000))
    core.arm()
    core.ask(gen.HeaterSet(500_000, 0))
    junction = Junction(core)
    junction.felt = 0.0
    junction.live(9_900)
    assert core.state is gen.State.RUN
    junction.live(2_200)
    assert core.status().fault is gen.Fault.LOOP_BREAK


def test_unasked_it_is_not_watched(core):
    core.ask(gen.Safe())
    core.ask(tuned())
    core.arm()
    core.ask(gen.HeaterSet(500_000, 0))
    junction = Junction(core)
    junction.felt = 0.0
    junction.live(5_000)
    assert core.state is gen.State.RUN
