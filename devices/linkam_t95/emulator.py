"""An emulated T95 whose stage is the world's specimen; it heats, and cools no faster than the world does.

Unverified: answers to what it does not know or before the first T (a bare CR here, and nothing happens),
and how near to its limit it calls itself there.
"""

from __future__ import annotations

import math
import random
import re

from devices.physics import FULL_POWER, World
from hal.protocols.framing import Framing, Lines

from . import codec
from .codec import Report

CYCLE = 0.1  # s
NOISE = 0.03  # K, one sigma
BAND, INTEGRAL = 400.0, 1.0  # K for full output, s: tuned for the chip
ARRIVED = 0.5  # K
LAG = 10.0  # K behind its rate, and it says that it can't cool as fast
RUNNING = (codec.HEATING, codec.COOLING, codec.AT_LIMIT)

_NUMBER = re.compile(rb"([RL])1(-?\d+)")


class LinkamT95Emulator:
    """A T95 that wakes up stopped. Settings: `seed`, `coldest` and `hottest` of its stage, degC."""

    def __init__(
        self, world: World, *, unit: object = None, channel: object = None, seed: int = 95,
        coldest: float = -196.0, hottest: float = 600.0, reply_delay: float = 0.02,
    ) -> None:  # fmt: skip
        self.world, self.reply_delay = world, reply_delay
        self.coldest, self.hottest = coldest, hottest
        self.awake, self.connected = False, True
        self.state, self.rate, self.limit = codec.STOPPED, 5.0, 25.0  # K/min, degC
        self.pump, self.pump_by_hand, self.too_fast = 0, False, False
        self.told_to_pump = False  # itself, by Pa0: before that Lewis's shows no AUTOMATIC
        self.setpoint, self.output, self._sum = 25.0, 0.0, 0.0
        self._random, self._elapsed = random.Random(seed), 0.0
        self.measured = self._measure()

    def framing(self, scheme: str) -> Framing:
        return Lines(b"\r")

    def respond(self, message: bytes) -> bytes | None:
        command = message.strip(b"\n")
        if command == b"T":
            self.awake = True
            return Report(self.state, self._errors(), self.pump, self.measured, self.told_to_pump).encode()
        if self.awake:
            self._obey(command)
        return b""

    # ------------------------------------------------------------------ commands

    def _obey(self, command: bytes) -> None:
        if number := _NUMBER.fullmatch(command):
            value = int(number[2])
            if number[1] == b"R" and codec.SLOWEST <= value * codec.RATE_STEP <= codec.FASTEST:
                self.rate = value * codec.RATE_STEP
            elif number[1] == b"L" and self.coldest <= value * codec.LIMIT_STEP <= self.hottest:
                self.limit = value * codec.LIMIT_STEP
                self._turn()
            return
        match command:
            case b"S" if self.state == codec.STOPPED:
                self.setpoint, self._sum = self.measured, self.output
                self.state = codec.HEATING
                self._turn()
            case b"E":
                self.state, self.too_fast = codec.STOPPED, False
                self._heat(0.0)
            case b"O" if self.state in RUNNING:
                self.state, self.setpoint = codec.HELD, self.measured
            case b"H" | b"C" if self.state == codec.HELD:
                self.state = codec.HEATING
                self._turn()
            case b"Pa0" | b"Pm0":
                self.pump_by_hand, self.told_to_pump = command == b"Pm0", command == b"Pa0"
            case _ if len(command) == 2 and command[:1] == b"P" and chr(command[1]) in codec.PUMP:
                if self.pump_by_hand:
                    self.pump = codec.PUMP.index(chr(command[1]))

    def _turn(self) -> None:
        """Go towards the limit, whichever side of it we are."""
        if self.state in RUNNING:
            self.state = codec.HEATING if self.limit >= self.setpoint else codec.COOLING

    def _errors(self) -> int:
        return codec.TOO_FAST * self.too_fast | codec.OPEN_CIRCUIT * (not self.connected)

    # ------------------------------------------------------------------ time

    def advance(self, dt: float) -> None:
        self._elapsed += dt
        while self._elapsed >= CYCLE - 1e-9:
            self._elapsed -= CYCLE
            self._cycle()

    def _cycle(self) -> None:
        self.measured = self._measure()
        if self.state == codec.STOPPED or not self.connected:
            self._heat(0.0)
            return
        if self.state in (codec.HEATING, codec.COOLING):
            away, step = self.limit - self.setpoint, self.rate / 60 * CYCLE
            self.setpoint += math.copysign(min(step, abs(away)), away)
            self.too_fast = self.state == codec.COOLING and self.measured - self.setpoint > LAG
            if self.setpoint == self.limit and abs(self.measured - self.limit) < ARRIVED:
                self.state = codec.AT_LIMIT
        proportional = (self.setpoint - self.measured) * 100 / BAND
        total = self._sum + proportional * CYCLE / INTEGRAL
        output = min(max(proportional + total, 0.0), 100.0)
        self._sum = total if output == proportional + total else min(max(self._sum, 0.0), 100.0)
        self._heat(output)

    def _heat(self, percent: float) -> None:
        self.output = percent
        self.world.heaters[self] = percent / 100 * FULL_POWER

    def _measure(self) -> float:
        return self.world.temperature + self._random.gauss(0.0, NOISE)
