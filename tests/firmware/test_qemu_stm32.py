"""The STM32F405 image, built for QEMU's timers, boots on `netduinoplus2`: a second witness of its start.

Clocks, pins, watchdog and I2C of the chip are not modelled there: that it comes up all the same shows
that no wait for them is unbounded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from images import built
from qemu import Qemu, until
from talker import SocketHost

from hal.protocols.firmware_gen import SCHEMA, CapturesStart, Fault, HeaterOutput, Hello, State, TedsState, Time

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("qemu-system-arm", "arm-none-eabi-gcc")]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Qemu, SocketHost]]:
    with Qemu(built("netduinoplus2"), machine="netduinoplus2", shared=False) as board:
        host = SocketHost(board.link)
        until(lambda: answers(host), "it does not say who it is", pause=0.1)
        yield board, host
        host.close()


@pytest.fixture
def board(_tools: None, request: pytest.FixtureRequest) -> Qemu:
    return request.getfixturevalue("running")[0]  # only where the tools are


@pytest.fixture
def host(_tools: None, request: pytest.FixtureRequest) -> SocketHost:
    return request.getfixturevalue("running")[1]


def answers(host: SocketHost) -> bool:
    try:
        host.ask(Hello(1, SCHEMA), timeout=0.3)
    except TimeoutError:
        return False
    return True


def test_says_who_it_is(host: SocketHost) -> None:
    hello = host.hello()
    assert hello.board.rstrip(b"\0") == b"stm32f405"
    assert hello.state is State.SAFE
    assert hello.teds is not TedsState.VALID  # there is no memory to read


def test_its_clock_runs_at_a_megahertz(host: SocketHost) -> None:
    before, first = time.monotonic_ns(), host.ask(Time(0, 1))
    time.sleep(1)
    last, after = host.ask(Time(0, 2)), time.monotonic_ns()
    assert first.tick_rate == 1_000_000
    assert 0.9e6 < last.sent - first.sent <= (after - before) / 1000 * 1.01


def test_edges_at_its_pin_arrive_in_order(board: Qemu, host: SocketHost) -> None:
    host.fresh()
    host.ask(CapturesStart(rising=0b1, falling=0, credit=0x7FFF_FFFF, go_on=0))
    before = host.ask(Time(0, 0)).sent
    for sent in range(50):
        board.qtest("set_irq_in /machine/unattached/device[0]/syscfg unnamed-gpio-in 0 1")
        board.qtest("set_irq_in /machine/unattached/device[0]/syscfg unnamed-gpio-in 0 0")
        assert host.wait(lambda n=sent: host.heard.edges > n)  # type: ignore[misc]
    after = host.ask(Time(0, 0)).sent
    ticks = [edge.ticks for block in host.heard.captures for edge in block.edges]
    assert len(ticks) == 50
    assert before <= ticks[0]
    assert ticks == sorted(ticks)
    assert ticks[-1] <= after


def test_it_arms_and_lets_go_without_its_host(host: SocketHost) -> None:
    host.fresh()
    host.arm()
    assert host.ask(HeaterOutput(100)).output == 100
    host.hush()
    until(lambda: host.status().state is State.FAULT, "it does not let go", pause=0.05)
    status = host.status()
    assert status.fault in (Fault.LEASE, Fault.CONTROL_LATE)  # the other where the machine stood still meanwhile
    assert status.output == 0
