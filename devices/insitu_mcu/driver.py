"""Our in-situ microcontroller board: heats the specimen, reads its inputs, stamps the camera's frame pulses.

Everything that must not wait for a host runs on the board: the heater loop, the ramp, the limits of the
holder's TEDS, the interlocks. It switches everything off when no heartbeat has come for half a second, so a
script that blocks the event loop that long is taken for dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from hal.errors import ConfigError, DeviceError, LimitError, NoReply, ProtocolError, Refused
from hal.gate import Purpose, acting
from hal.instrument.address import Field, Soft
from hal.model.capabilities import FrameClock, Heater, Teds, Thermometer
from hal.model.limits import Limits
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import (
    FULL_OUTPUT,
    Capability,
    Fault,
    HeaterMode,
    ProfileState,
    ProfileTarget,
    Refusal,
    Segment,
    SegmentKind,
    SensorKind,
    Start,
    State,
)
from hal.transport.link import SerialSettings
from hal.transport.session import LinkState

from . import addresses
from .addresses import UNKNOWN, Input, Switch, Told
from .holder import HolderBoard
from .teds import KELVIN
from .words import FAULTS, REFUSALS

LEAD = 0.03
"""Seconds from the wish for a pulse to the pulse: the board must have heard of it by then."""
AGAIN = 3
"""How often a pulse that came too late is put off, twice as long each time."""
TOLD_WITHIN = 1.0
"""Seconds after a pulse in which the board must have told of it."""


class InsituMcu(HolderBoard):
    """One board. What it can do follows from what it says of itself when it is connected."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """The driver's settings in a lab file."""

        clock_ppm: float = 100.0
        """Datasheet's limit on the error of the board's crystal."""
        delay_out: float = 0.0
        """s, least time a question takes to the board, as calibrated; 0: not calibrated."""
        delay_back: float = 0.0
        """s, least time its answer takes back."""
        delay_sigma: float = 0.0
        """s, standard uncertainty of their difference's half."""
        kp: float | None = None
        """%/K of output, proportional; None: as the firmware has it. Given one of these, the others are 0."""
        ki: float = 0.0
        """%/K/s, integral."""
        kd: float = 0.0
        """%/(K/s), derivative of the measured value."""
        feed_forward: float = 0.0
        """% of output per K of the setpoint above ambient."""
        ambient: float = 25.0
        """degC, for the feed-forward."""
        slew: float = 0.0
        """%/s, fastest rise of the output; 0: no limit."""
        output_max: float = 100.0
        """%, the most the heater is given; TEDS may allow less."""
        temperature_max: float | None = None
        """degC, above it the board switches off; None: as TEDS says."""
        loop_break: float = 30.0
        """s: so long at its largest output without the thermometer feeling it, and the board switches off; 0: not
        watched."""
        adc_noise: float = 1.0
        """Counts, one sigma: scatter of the board's converter."""
        tolerance: float = 1.0
        """K: a ramp is done once the temperature is this near."""
        record_inputs: tuple[int, ...] = ()
        """Analogue inputs streamed into a run while it is recorded."""
        record_rate: float = 1000.0
        """1/s, samples of each of them."""

        def __post_init__(self) -> None:
            if not 0 <= self.loop_break <= 65535:
                raise ConfigError(f"loop_break = {self.loop_break:g} s is none of 0 to 65535 s")
            if not set(self.record_inputs) <= set(range(8)):
                raise ConfigError(f"record_inputs = {self.record_inputs} are not all among the inputs 0 to 7")
            count = len(set(self.record_inputs))
            if count and not 0 < self.record_rate * count <= 20_000:
                raise ConfigError(
                    f"record_rate = {self.record_rate:g} /s of {count} inputs is not above 0, or more than the "
                    "20,000 samples a second that the board takes of all together"
                )

    options: Options
    vendor, model = "insitu-hal", "in-situ microcontroller board"
    provides: tuple[type, ...] = (Heater, Thermometer, FrameClock, Teds)
    wires = ("serial", "tcp", "firmware")
    line = SerialSettings(921600)
    verified = "against the same firmware on the host and in QEMU; never on a real board"

    temperature = SignalR(
        float,
        "degC",
        at=Told(addresses.temperature),
        kind=Kind.HINTED,
        poll=0.1,
        doc="Of the specimen.",
    )
    setpoint = SignalRW(
        float, "degC", at=Told(addresses.target, "write_setpoint"), limits=(-200.0, 1500.0), of="temperature",
        supersedes=True, kind=Kind.NORMAL, poll=0.1, doc="Where the heater is to go, at `ramp_rate`.",
    )  # fmt: skip
    working_setpoint = SignalR(
        float,
        "degC",
        at=Told(addresses.working_setpoint),
        poll=0.1,
        doc="Where the setpoint has got to on its way.",
    )
    ramp_rate = SignalRW(float, "K/s", at=Soft(1.0), limits=(0.001, 1e5), doc="Of the next ramp or set.")
    power = SignalR(float, "W", at=Told(addresses.power), poll=0.1, doc="Into the heater, by TEDS.")
    output = SignalR(
        float,
        "%",
        at=Told(lambda _, s: s.output / FULL_OUTPUT * 100),
        poll=0.1,
        doc="Of the heater.",
    )
    state = SignalR(str, at=Told(lambda _, s: s.state.name), poll=0.1, varies="in steps", doc="Of its safety.")
    fault = SignalR(str, at=Told(lambda _, s: s.fault.name), poll=0.1, varies="in steps", doc="The latched cause.")
    faulted = SignalR(
        bool, at=Told(lambda _, s: s.state is State.FAULT), poll=0.1, varies="in steps", doc="For interlocks."
    )
    profile_state = SignalR(str, at=Told(lambda _, s: s.profile.name), poll=0.1, varies="in steps")
    digital_in = SignalR(int, at=Told(lambda _, s: s.digital_in), poll=0.1, varies="in steps", doc="Bits.")
    digital_out = SignalRW(
        int,
        at=Told(lambda _, s: s.digital_out, "write_digital"),
        limits=(0, 65535),
        poll=0.1,
        doc="Bits; armed only.",
    )
    input_0 = SignalR(float, "V", at=Input(0))
    input_1 = SignalR(float, "V", at=Input(1))
    input_2 = SignalR(float, "V", at=Input(2))
    input_3 = SignalR(float, "V", at=Input(3))
    input_4 = SignalR(float, "V", at=Input(4))
    input_5 = SignalR(float, "V", at=Input(5))
    input_6 = SignalR(float, "V", at=Input(6))
    input_7 = SignalR(float, "V", at=Input(7))
    switch_0 = SignalR(bool, at=Switch(number=0), poll=0.1, varies="in steps", doc="Digital input 0, for interlocks.")
    switch_1 = SignalR(bool, at=Switch(number=1), poll=0.1, varies="in steps")
    switch_2 = SignalR(bool, at=Switch(number=2), poll=0.1, varies="in steps")
    switch_3 = SignalR(bool, at=Switch(number=3), poll=0.1, varies="in steps")
    switch_4 = SignalR(bool, at=Switch(number=4), poll=0.1, varies="in steps")
    switch_5 = SignalR(bool, at=Switch(number=5), poll=0.1, varies="in steps")
    switch_6 = SignalR(bool, at=Switch(number=6), poll=0.1, varies="in steps")
    switch_7 = SignalR(bool, at=Switch(number=7), poll=0.1, varies="in steps")
    pulses = SignalR(int, at=Field("edges", report="counts"), varies="in steps", doc="Edges captured since it started.")
    pulses_lost = SignalR(
        int, at=Field("edges_dropped", report="counts", convert=int), varies="in steps", doc="Captured and not sent."
    )

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.target: float | None = None
        """degC the heater was told to go to."""
        self._tuned = 0, 0
        """Epoch and holder for which the heater loop was given its settings."""
        self._allowed: Limits | None = None
        """Of the setpoint, whatever the holder."""
        self._arming = asyncio.Lock()
        self._fault_told: tuple[int, Fault] = 0, Fault.NONE

    # ------------------------------------------------------------------ connecting

    async def connected(self) -> None:
        offered = ((Heater, Capability.HEATER), (Thermometer, Capability.ADC), (FrameClock, Capability.CAPTURE),
                   (Teds, Capability.EEPROM))  # fmt: skip
        self.provides = tuple(c for c, bit in offered if self.offers(bit))
        self.data_sheet, self.holder = None, 0
        try:
            await self.learn_holder()
        except (Refused, ProtocolError) as error:  # it will say when it knows; or it is of another version
            self.context.journal.note("error", self.name, str(error))
        await self.report()
        await super().connected()

    async def disconnecting(self) -> None:
        if self._beating is not None and self.session.state is LinkState.OPEN:
            with suppress(DeviceError), acting(Purpose.SAFE):  # it would switch off by itself, and latch a fault
                await self.do(gen.Safe(), tries=2)
        self.let_go()
        await super().disconnecting()

    async def holder_is_known(self, status: gen.StatusReply) -> None:
        self._limit(status)
        await self._learn_noise()

    async def _learn_noise(self) -> None:
        """How far the temperature scatters: a count of the converter, by the holder's data sheet."""
        self.temperature.noise = None
        sheet = self.data_sheet
        if sheet is None or sheet.sensor is not SensorKind.RESISTANCE:
            return
        counts = (await self.do(gen.Read())).reply.counts
        if sheet.reference_channel < len(counts) and (full := counts[sheet.reference_channel] * sheet.gain) > 0:
            kelvin = abs(sheet.coefficients[1]) / sheet.nominal * sheet.reference / full
            self.temperature.noise = Noise(absolute=self.options.adc_noise * kelvin, resolution=kelvin)

    async def _tune(self) -> None:
        """Give the heater loop what the lab file says; the board takes it while everything is off."""
        o, status = self.options, (await self.report()).payload
        what = self.known.boot, self.holder  # the board forgets them with either
        if self._tuned == what or not self.offers(Capability.HEATER):
            return
        if o.kp is not None or o.temperature_max is not None:
            percent = FULL_OUTPUT / 100
            hottest = inf if o.temperature_max is None else (o.temperature_max + KELVIN) * 1e3
            config = gen.HeaterConfig(
                (o.kp or 0.0) * percent, o.ki * percent, o.kd * percent, o.feed_forward * percent,
                round((o.ambient + KELVIN) * 1e3), round(o.slew * percent),
                min(round(o.output_max * percent), status.output_max), round(min(hottest, status.temperature_max)), 0,
                ceil(o.loop_break),
            )  # fmt: skip
            await self.do(config)
        self._tuned = what

    def _limit(self, status: gen.StatusReply) -> None:
        """What the holder allows is what may be asked for, and no more than the lab file does."""
        self._allowed = allowed = self._allowed or self.setpoint.limits
        self.setpoint.limits = Limits()  # those of the holder before
        self.setpoint.narrow(allowed, "the lab file or the driver")
        if self.options.temperature_max is not None:
            self.setpoint.narrow(Limits(high=self.options.temperature_max), "temperature_max in the lab file")
        if status.temperature_max > 0:
            by = "the holder's TEDS" if self.data_sheet is not None else "the board, which has no TEDS"
            self.setpoint.narrow(Limits(high=status.temperature_max * 1e-3 - KELVIN), by)

    # ------------------------------------------------------------------ heating

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s) on the board's own clock; ended early, it holds. Raises `LimitError`."""
        self.need(Capability.HEATER, "heater")
        self.setpoint.check(to)
        self.ramp_rate.check(rate)
        return self.start(f"ramp to {to:g} degC at {rate:g} K/s", self._ramp(to, rate), on_cancel=self._hold)

    def set(self, value: float) -> Status[None]:
        """Go to `value` (degC) at `ramp_rate`."""
        last = self.ramp_rate.last
        return self.ramp(value, 1.0 if last is None or last.value is None else last.value)

    def hold(self) -> Status[None]:
        """Stay at the present temperature; a heater that is off stays off."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Heater off; the board stays armed for its other outputs."""
        return self.start("off", self._off())

    async def make_safe(self) -> None:
        reply: gen.SafeReply = (await self.do(gen.Safe())).reply
        self.let_go()
        if reply.state not in (State.SAFE, State.FAULT):
            raise Refused(self.name, f"it is in {reply.state.name} after SAFE; switch the heater off by hand")
        self.target = None

    # ------------------------------------------------------------------ safety

    def arm(self) -> Status[None]:
        """Allow outputs: from now on the board wants a heartbeat. Verbs that need it arm by themselves."""
        return self.start("arm", self.arm_now())

    def clear_fault(self) -> Status[None]:
        """Release the fault that is latched, if its cause is gone."""
        return self.start("clear fault", self._clear_fault())

    def heard(self, state: State, fault: Fault) -> None:
        if state is State.FAULT:
            assert self.hello is not None
            if self._fault_told != (self.hello.boot, fault):
                self._fault_told = self.hello.boot, fault
                self.context.journal.note("error", self.name, f"the board switched everything off: {FAULTS[fault]}")
        else:
            self._fault_told = 0, Fault.NONE
        if state in (State.SAFE, State.FAULT):
            self.target = None

    def on_event(self, event: gen.Event) -> None:
        super().on_event(event)
        if event.kind is gen.EventKind.FAULT:
            known = event.value in Fault._value2member_map_
            self.heard(State.FAULT, Fault(event.value) if known else Fault.NONE)

    # ------------------------------------------------------------------ outputs and profiles

    def set_dac(self, channel: int, percent: float) -> Status[None]:
        """Set an analogue (or PWM) output, % of full scale."""
        self.need(Capability.DAC, "analogue outputs")
        if not 0 <= percent <= 100:
            raise LimitError(f"{self.name}: output {channel} = {percent:g} % is outside 0 to 100 %; nothing was sent.")
        return self.start(f"output {channel} = {percent:g} %", self._set_dac(channel, percent))

    def profile(
        self,
        target: ProfileTarget,
        segments: Sequence[Segment],
        *,
        start: int,
        channel: int = 0,
        repeat: int = 1,
        at_tick: int | None = None,
        on_edge: int | None = None,
        rising: bool = True,
    ) -> Status[None]:
        """Run a profile on the board's clock; ended early, what it drives goes off.

        It begins now, at a tick, or at the next rising (or falling) edge of a capture input, exactly: values
        count from the edge, and are put out by the control pass after it.

        `start` and the segments' values are in the target's unit (mK, 1/65535). Raises `LimitError`.
        """
        if at_tick is not None and on_edge is not None:
            raise LimitError(f"{self.name}: a profile begins at a tick or on an edge, not on both; nothing was sent.")
        when, where = gen.ProfileStart(Start.NOW, 0, 0), 0
        if at_tick is not None:
            when = gen.ProfileStart(Start.AT_TICK, at_tick, 0)
        elif on_edge is not None:
            self.need(Capability.CAPTURE, "capture inputs")
            self._bits([on_edge], self.known.capture_channels, "capture input")
            when, where = gen.ProfileStart(Start.ON_EDGE, 0, int(rising)), on_edge
        if target is ProfileTarget.TEMPERATURE:
            last = start * 1e-3 - KELVIN
            self.setpoint.check(last)
            for segment in segments:
                value = self.setpoint.check(segment.value * 1e-3 - KELVIN)
                if segment.kind is SegmentKind.RAMP and value != last:
                    self.ramp_rate.check(abs(value - last) / (segment.duration * 1e-3))
                last = value
        work = self._profile(target, tuple(segments), start, channel, repeat, when, where)
        return self.start(f"profile of {len(segments)} segments", work, on_cancel=self._end_profile)

    def trigger(self, at_tick: int, *, width: int, period: int = 0, count: int = 1, channel: int = 0) -> Status[None]:
        """Pulse a trigger output at an exact tick, `width` and `period` in ticks."""
        self.need(Capability.TRIGGER, "trigger output")
        return self.start(f"trigger at {at_tick}", self._trigger(channel, gen.Trigger(at_tick, width, period, count)))

    def fire(self, length: float, *, after: float = LEAD, channel: int = 0) -> Status[tuple[int, int]]:
        """Pulse a trigger output once, for `length` s, `after` s from now: boot and tick at which it really rose."""
        self.need(Capability.TRIGGER, "trigger output")
        if not 0 < length <= 10 or not 0 < after <= 10:
            raise LimitError(
                f"{self.name}: a pulse of {length:g} s in {after:g} s is outside 0 to 10 s; nothing was sent."
            )
        return self.start(f"fire for {length:g} s", self._fire(channel, length, after))

    # ------------------------------------------------------------------ reports behind the signals

    async def report(self) -> Answer:
        """The status report behind most signals."""
        done = await self.status()
        self.heard(done.reply.state, done.reply.fault)
        self.look_again(done.reply.holder)
        # Measured and driven at the pass; what a command changes it changes later, up to now.
        return self.stamped(done, done.reply.measured, done.reply.ticks)

    async def read_inputs(self) -> Answer:
        """All analogue inputs now."""
        done = await self.do(gen.Read())
        return self.stamped(done, done.reply.ticks, done.reply.ticks)

    async def write_setpoint(self, value: float) -> None:
        """Go to `value` at the ramp rate in force; returns when the board has been told."""
        await self.arm_now()
        rate = await self.ramp_rate.get()
        await self._tell_setpoint(value, rate)

    async def write_digital(self, value: int) -> None:
        """All digital outputs at once."""
        await self.arm_now()
        await self.do(gen.DigitalSet(0xFFFF, value))

    # ------------------------------------------------------------------ private

    async def arm_now(self) -> None:
        """As a step of an operation, also of devices that are parts of the board: see that outputs may be set."""
        async with self._arming:
            reply = await self.beat(self.TRIES)
            if reply.state is State.FAULT:
                raise Refused(self.name, f"{FAULTS[reply.fault]}; find the cause, then clear_fault()")
            self.keep_alive()
            if reply.state is State.SAFE:
                if not (meant := self.holder):
                    self.look_again()
                    raise Refused(self.name, f"{REFUSALS[Refusal.HOLDER]}; nothing was sent")
                await self._tune()
                await self.protect()
                await self.beat(self.TRIES)  # the nonce that came before is as old as all that took
                await self.do(gen.Arm(self._nonce, self.interlocks.checksum, meant))

    async def _clear_fault(self) -> None:
        reply = await self.beat(self.TRIES)
        if reply.state is State.FAULT:
            await self.do(gen.ClearFault(reply.fault))

    async def _tell_setpoint(self, value: float, rate: float) -> None:
        await self.do(gen.HeaterSet(round((value + KELVIN) * 1e3), max(1, round(rate * 1e3)) if rate else 0))
        self.target = value

    async def _ramp(self, to: float, rate: float) -> None:
        await self.ramp_rate.put(rate)
        await self.arm_now()
        assert self.hello is not None
        boot = self.hello.boot
        await self._tell_setpoint(to, rate)
        async for _ in self._going(boot, self.working_setpoint, lambda now: abs(now - to) < 0.002):
            pass
        async for _ in self._going(boot, self.temperature, lambda now: abs(now - to) <= self.options.tolerance):
            pass

    async def _going(self, boot: int, signal: SignalR[float], reached: Callable[[float], bool]) -> AsyncIterator[None]:
        """Follow `signal` until `reached`, as long as the board heats."""
        while True:
            status: gen.StatusReply = (await self.report()).payload
            self._look(boot, status)
            value = signal.at.value(self, status)
            if isinstance(value, float) and reached(value):
                return
            yield
            await asyncio.sleep(min(signal.poll, 0.05))

    def _look(self, boot: int, status: gen.StatusReply) -> None:
        """Raise `Refused` if the board gave up what it was doing."""
        if self.hello is not None and self.hello.boot != boot:
            raise Refused(self.name, "the board started anew in the middle; look after the specimen, then go on")
        if status.state is State.FAULT:
            raise Refused(
                self.name,
                f"the board switched everything off: {FAULTS[status.fault]} at tick {status.fault_ticks} "
                f"({status.fault_value}); find the cause, then clear_fault()",
            )
        if status.state is not State.RUN:
            raise Refused(self.name, f"the board went to {status.state.name} in the middle; see its events")

    async def _hold(self) -> None:
        status: gen.StatusReply = (await self.report()).payload
        if status.mode is HeaterMode.CLOSED_LOOP and status.temperature != UNKNOWN:
            limits = self.setpoint.limits
            here = status.temperature * 1e-3 - KELVIN
            await self._tell_setpoint(min(max(here, limits.low), limits.high), 0.0)

    async def _off(self) -> None:
        await self.do(gen.HeaterOff())
        self.target = None

    async def _set_dac(self, channel: int, percent: float) -> None:
        await self.arm_now()
        await self.do(gen.DacSet(round(percent / 100 * FULL_OUTPUT)), channel)

    async def _trigger(self, channel: int, request: gen.Trigger) -> None:
        await self.arm_now()
        await self.do(request, channel)

    async def _fire(self, channel: int, length: float, after: float) -> tuple[int, int]:
        boot, rate = self.known.boot, self.known.tick_rate
        for left in range(AGAIN, -1, -1):
            if (status := (await self.status()).reply).state not in (State.ARMED, State.RUN):
                await self.arm_now()
                status = (await self.status()).reply
            at = status.ticks + max(1, round(after * rate))
            try:
                await self.do(gen.Trigger(at, max(1, round(length * rate)), 0, 1), channel)
                break
            except Refused:  # most likely this machine was busy, and the tick has passed
                if not left:
                    raise
                after *= 2
        deadline = asyncio.get_running_loop().time() + after + length + TOLD_WITHIN
        while asyncio.get_running_loop().time() < deadline:
            for event in reversed(self.events):
                if event.kind is gen.EventKind.TRIGGER and event.channel == channel and event.ticks == at:
                    return boot, at
            if self.known.boot != boot:
                break
            await asyncio.sleep(0.002)
        raise NoReply(self.name, f"it did not say that its trigger output {channel} pulsed; see its events")

    async def _profile(
        self, target: ProfileTarget, segments: tuple[Segment, ...], start: int, channel: int, repeat: int,
        when: gen.ProfileStart, where: int,
    ) -> None:  # fmt: skip
        await self.arm_now()
        assert self.hello is not None
        boot = self.hello.boot
        await self.do(gen.ProfileBegin(target, len(segments), repeat, start), channel)
        for first in range(0, len(segments), 26):
            await self.do(gen.ProfileSegments(first, segments[first : first + 26]))
        await self.do(when, where)
        while True:
            status: gen.StatusReply = (await self.report()).payload
            if status.profile is ProfileState.DONE:
                return
            self._look(boot, status)
            await asyncio.sleep(0.02)

    async def _end_profile(self) -> None:
        await self.do(gen.ProfileStop())
