"""The Lake Shore 336: wire, behaviour, and the emulator as others' drivers see it."""

import asyncio
import statistics
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.lakeshore_336 import codec
from devices.lakeshore_336.driver import LakeShore336
from devices.lakeshore_336.emulator import LakeShore336Emulator
from devices.physics import World
from hal.clock.timebase import Timebase
from hal.errors import LimitError, Refused, WrongInstrument
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort, TcpPort
from hal.model.capabilities import Heater, Thermometer, lacking
from hal.model.context import Context
from hal.model.limits import Limits
from hal.model.reading import Quality
from hal.testing import Wire, wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session
from hal.transport.tcp import TcpLink

Holder = tuple[LakeShore336, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Holder]:
    async with wired(LakeShore336, name="holder") as (controller, wire):
        yield controller, wire


# ---------------------------------------------------------------------- the wire


def test_a_reading_in_kelvin_becomes_degc_and_its_status_is_heeded() -> None:
    # `KRDG? A;*ESR?` -> `+300.000;0` is what drivers of others get; status bits as in QCoDeS.
    assert codec.parse_temperature("+300.000;0").value == pytest.approx(26.85)
    bad = codec.parse_temperature("+0.000;129")
    assert (bad.value, bad.quality) == (None, Quality.BAD)
    assert bad.reason == "input says: invalid reading, sensor over range"


def test_setpoints_are_in_the_units_the_input_is_set_to() -> None:
    assert codec.parse_setpoint("+300.000;1,0,1,0,1").value == pytest.approx(26.85)
    assert codec.parse_setpoint("+300.000;1,0,1,0,2").value == 300.0
    assert codec.parse_setpoint("+1.2000;1,0,1,0,3").quality is Quality.BAD
    assert codec.format_setpoint(26.85, codec.KELVIN) == "300.000"
    with pytest.raises(ValueError, match="sensor"):
        codec.format_setpoint(1.0, codec.SENSOR)


def test_rates_are_in_kelvin_per_minute_on_the_wire() -> None:
    assert codec.format_rate(0.175) == "10.5"  # `RAMP 1,1,10.5` of the 335's and 340's manuals
    assert codec.parse_ramp("1,+010.5") == (True, pytest.approx(0.175))


@given(st.floats(-273, 700), st.sampled_from([codec.KELVIN, codec.CELSIUS]))
def test_a_setpoint_goes_round_to_a_millikelvin(degc: float, units: int) -> None:
    text = f"{codec.format_setpoint(degc, units)};1,0,1,0,{units}"
    assert codec.parse_setpoint(text).value == pytest.approx(degc, abs=0.6e-3)


# ---------------------------------------------------------------------- reading


def test_it_is_a_thermometer_and_a_heater() -> None:
    assert lacking(LakeShore336, Thermometer) == lacking(LakeShore336, Heater) == []


async def test_the_holders_body_is_read_in_one_question_with_its_status(bench: Holder) -> None:
    controller, wire = bench
    wire.world.body = 40.0
    await asyncio.sleep(0.2)
    assert await controller.temperature.get() == pytest.approx(wire.world.body, abs=0.03)
    assert wire.sent == [b"KRDG? A;RDGST? A\n"]


async def test_an_input_with_nothing_connected_has_no_value_and_says_why() -> None:
    async with wired(LakeShore336, name="holder", options={"input": "C"}) as (controller, _):
        reading = await controller.temperature.read()
        assert (reading.value, reading.quality) == (None, Quality.BAD)
        assert "invalid reading" in reading.reason


async def test_readings_come_ten_times_a_second_and_scatter_as_declared(bench: Holder) -> None:
    controller, wire = bench
    errors = []
    for _ in range(400):
        await asyncio.sleep(0.1)
        reading = await controller.temperature.read()
        assert reading.value is not None
        assert reading.uncertainty is not None
        errors.append((reading.value - wire.world.body) / reading.uncertainty)
    assert statistics.stdev(errors) == pytest.approx(1.0, abs=0.12)
    assert 0.92 < sum(abs(error) < 2 for error in errors) / 400 < 0.985
    same = {(await controller.temperature.read()).value for _ in range(3)}
    assert len(same) <= 3


async def test_only_reading_leaves_the_heater_of_another_controller_alone(bench: Holder) -> None:
    controller, wire = bench
    wire.world.heaters["another"] = 0.01
    await controller.temperature.get()
    await asyncio.sleep(5)
    assert wire.world.power == 0.01


# ---------------------------------------------------------------------- heating


async def test_a_ramp_takes_the_time_its_rate_asks_for_and_ends_at_its_temperature(bench: Holder) -> None:
    controller, wire = bench
    started = asyncio.get_running_loop().time()
    await controller.ramp(to=35.0, rate=0.05)
    assert asyncio.get_running_loop().time() - started == pytest.approx(200, rel=0.1)
    assert wire.world.body == pytest.approx(35.0, abs=0.6)
    await asyncio.sleep(120)
    assert wire.world.body == pytest.approx(35.0, abs=0.2)


async def test_a_ramp_left_early_holds_the_temperature(bench: Holder) -> None:
    controller, wire = bench
    async with controller.ramp(to=45.0, rate=0.05):
        await asyncio.sleep(100)
    held = wire.world.body
    assert await controller.setpoint.get() == pytest.approx(held, abs=0.05)
    await asyncio.sleep(100)
    assert wire.world.body == pytest.approx(held, abs=0.5)


@pytest.mark.parametrize(("to", "rate"), [(900.0, 0.1), (-300.0, 0.1), (30.0, 2.0), (30.0, 0.001), (float("nan"), 0.1)])
async def test_a_ramp_beyond_the_limits_never_reaches_the_wire(bench: Holder, to: float, rate: float) -> None:
    controller, wire = bench
    with pytest.raises(LimitError, match="nothing was sent"):
        controller.ramp(to, rate)
    assert not wire.sent


async def test_holding_beyond_a_limit_holds_at_the_limit(bench: Holder) -> None:
    controller, _ = bench
    controller.setpoint.narrow(Limits(30.0, 60.0), "the holder")
    await controller.hold()
    assert await controller.setpoint.get() == pytest.approx(30.0)


async def test_an_output_that_follows_another_input_is_refused_before_it_heats(bench: Holder) -> None:
    controller, wire = bench
    wire.emulator.respond(b"OUTMODE 1,1,2,0")
    with pytest.raises(Refused, match=r"not in closed loop on input A.*Output Setup"):
        await controller.ramp(to=30.0, rate=0.1)
    assert wire.emulator.outputs[1].range == 0


@pytest.mark.parametrize("celsius", [False, True])
async def test_the_setpoint_means_the_same_whatever_units_the_input_is_set_to(celsius: bool) -> None:
    async with wired(LakeShore336, name="holder", celsius=celsius) as (controller, wire):
        await controller.setpoint.set(30.0)
        assert wire.emulator.outputs[1].goal == pytest.approx(303.15)
        assert await controller.setpoint.get() == pytest.approx(30.0)


async def test_a_value_the_instrument_refuses_is_raised_with_its_event_status(bench: Holder) -> None:
    controller, _ = bench
    controller.ramp_rate.limits = Limits(0, 100)  # as if the driver knew no better
    with pytest.raises(Refused, match=r"holder: 'RAMP 1,1,600.0' was refused \(event status 16\)"):
        await controller.ramp_rate.set(10.0)


async def test_the_safe_state_is_one_message_and_its_confirmation(bench: Holder) -> None:
    controller, wire = bench
    ramp = controller.ramp(to=40.0, rate=0.1)
    await asyncio.sleep(20)
    assert wire.world.power > 0
    wire.forget()
    await controller.safe_state()
    assert wire.sent == [b"RANGE 1,0\n", b"RANGE? 1\n"]
    await asyncio.sleep(0.2)
    assert await controller.range.get() == "off"
    assert wire.world.power == 0
    assert ramp.done


async def test_another_instrument_is_named() -> None:
    world = World()
    emulator = LakeShore336Emulator(world)
    emulator._interpreter.identity = "LSCI,MODEL335,335A123,1.0"
    with pytest.raises(WrongInstrument, match="expected a Lake Shore 336, found 'LSCI,MODEL335"):
        async with wired(LakeShore336, world=world, emulator=emulator):
            pass


# ---------------------------------------------------------------------- the emulator, as others see it


def test_commands_chain_and_the_event_status_is_read_once() -> None:
    controller = LakeShore336Emulator(World())
    assert controller.respond(b"*ESR?") == b"128"  # power on
    assert (controller.respond(b"krdg? a;*ESR?") or b"").endswith(b";0")
    assert controller.respond(b"SETP 1,  310.5;RAMP 1,1, 10.5;SETP? 1;RAMP? 1") == b"+310.500;1,+010.5"
    controller.respond(b"NONSENSE 1")
    controller.respond(b"RAMP 1,1,101")
    assert controller.respond(b"*ESR?;*ESR?") == b"48;0"
    assert controller.respond(b"KRDG? E") is None


def test_the_setpoint_moves_while_it_ramps() -> None:
    controller = LakeShore336Emulator(World())
    controller.respond(b"SETP 1,300;RAMP 1,1,60")
    controller.respond(b"SETP 1,310")
    for _ in range(500):
        controller.advance(0.01)
    assert controller.respond(b"SETP? 1;RAMPST? 1") == b"+305.000;1"


def test_a_temperature_limit_switches_all_heaters_off() -> None:
    world = World()
    controller = LakeShore336Emulator(world)
    controller.respond(b"RANGE 1,3;TLIMIT A,300")
    world.body = 50.0
    for _ in range(20):
        controller.advance(0.01)
    assert controller.respond(b"RANGE? 1") == b"0"


def ask(controller: LakeShore336Emulator, message: str) -> str:
    reply = controller.respond(message.encode())
    return "" if reply is None else reply.decode()


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        # lakeshore 1.10, the vendor's package: every message ends with ;*ESR?, whose 0 says that it was taken.
        ("ALARM? A;*ESR?", "0,+0.00000,+0.00000,+0.00000,0,1,1;0"),
        ("ALARM A,1,300.0,200.0,1.0,1,1,1;*ESR?", "0"),
        ("ALARM A,0,,,,,,;*ESR?", "0"),
        ("ALARMST? A;*ESR?", "0,0;0"),
        ("ANALOG 3,1,1,100.0,0.0,0;*ESR?", "0"),
        ("AOUT? 3;*ESR?", "+000.0;0"),
        ("BRIGT 20;*ESR?", "0"),
        ('CRVHDR 21,"User curve","SN1",2,325.0,1;*ESR?', "0"),
        ("CRVPT? 21,1;*ESR?", "+0.00000,+0.00000;0"),
        ("DISPLAY 0,,;*ESR?", "0"),
        ("FILTER? A;*ESR?", "0,08,10;0"),
        ("HTRSET 1,2,0,1.0,2;*ESR?", "0"),
        ("HTRSET? 1;*ESR?", "1,2,+0.000,1;0"),
        ("INTSEL?;*ESR?", "1;0"),
        ("LOCK?;*ESR?", "0,123;0"),
        ("MOUT? 1;*ESR?", "+000.000;0"),
        ("OPST?;*ESR?", "16;0"),
        ("RELAY 1,1,,;*ESR?", "0"),
        ("RELAY? 1;*ESR?", "0,A,0;0"),
        ("SCAL 1,21,SN,4.2,1.62622,77.35,1.02032,305,0.50691;*ESR?", "0"),
        ("TUNEST?;*ESR?", "0,0,0,00;0"),
        ("WARMUP? 3;*ESR?", "0,+100.00;0"),
        ('WEBLOG "user","pass";*ESR?', "0"),
        ("ZONE 1,2,100.0,50.0,20.0,0.0,0.0,3,1,1.5;*ESR?", "0"),
        ("ZONE? 1,1;*ESR?", "+0.00000,+0050.0,+0020.0,+0000.0,+000.000,0,0,+000.1;0"),
        # It learns of a mistake by that *ESR?, too: what was not understood does not end the chain.
        ("NONSENSE 1;*ESR?", "32"),
        ("RANGE 3,2;*ESR?", "16"),
        ("CRVHDR 5,a,b,2,300,1;*ESR?", "16"),
        ("RELAY 1,0;*ESR?", "0"),  # ls336-ioc 0.3, as the next two
        ("RDGST? 2;HTRST? A;*ESR?", "000;0;0"),
        ("SETP 1, 300.0;*ESR?", "0"),
    ],
)
def test_others_find_every_command_of_the_manual(message: str, answer: str) -> None:
    controller = LakeShore336Emulator(World())
    ask(controller, "*ESR?")
    assert ask(controller, message) == answer


def test_readings_of_all_inputs_come_in_one_answer_and_need_no_blank() -> None:
    """lakeshore 1.10 asks ``KRDG? 0``; instrumentkit 0.4 and many programs for 336 and 350 write ``KRDG?A``."""
    controller = LakeShore336Emulator(World())
    kelvin = ask(controller, "KRDG? 0").split(",")
    assert [float(text) for text in kelvin] == pytest.approx([298.15, 298.15, 0.0, 0.0], abs=0.1)
    assert ask(controller, "KRDG?A;RDGST?C;SETP?1") == f"{kelvin[0]};001;+298.150"
    assert ask(controller, "krdg?a;:rdgst?a") == f"{kelvin[0]};000"


def test_what_is_set_reads_back() -> None:
    controller = LakeShore336Emulator(World())
    for header, which, value in (
        ("ALARM", "B", "1,+310.000,+270.000,+1.00000,1,0,1"),
        ("CRVHDR", "22", "Sample         ,SN12      ,4,+320.000,2"),
        ("DISPFLD", "3", "2,3"), ("FILTER", "D", "1,16,05"), ("PID", "2", "+0020.5,+0010.0,+0001.0"),
        ("RELAY", "2", "2,C,2"), ("WARMUP", "4", "1,+050.50"), ("OUTMODE", "1", "3,2,1"), ("INTYPE", "C", "2,1,3,1,1"),
    ):  # fmt: skip
        assert ask(controller, f"{header} {which},{value}") == ""
        assert ask(controller, f"{header}? {which}") == value
    ask(controller, "CRVPT 22,1,1.5,10.0;CRVPT 22,2,1.2,50")
    assert ask(controller, "CRVPT? 22,2;CRVPT? 22,3") == "+1.20000,+50.0000;+0.00000,+0.00000"
    ask(controller, "DFLT 99")
    assert ask(controller, "RELAY? 2;CRVPT? 22,2;*ESR?") == "0,A,0;+0.00000,+0.00000;128"


def lived(world: World, controller: LakeShore336Emulator, seconds: float) -> None:
    for _ in range(round(seconds / 0.1)):
        controller.advance(0.1)


def test_an_alarm_rises_closes_its_relay_and_stays_until_it_is_reset() -> None:
    world = World()
    controller = LakeShore336Emulator(world)
    ask(controller, "ALARM A,1,310,250,2,1,1,1;RELAY 1,2,A,2;OPSTE 1;*SRE 128;OPSTR?")
    world.body = 50.0
    lived(world, controller, 0.3)
    assert ask(controller, "ALARMST? A;RELAYST? 1;*STB?") == "1,0;1;192"
    world.body = 25.0
    lived(world, controller, 0.3)
    assert ask(controller, "ALARMST? A;ALMRST;ALARMST? A;RELAYST? 1") == "1,0;0,0;0"
    assert int(ask(controller, "OPSTR?")) & 1
    assert ask(controller, "*STB?") == "0"
    assert ask(controller, "MDAT? A").startswith("+298.")


def test_a_monitor_output_follows_its_input_and_a_tuning_without_heat_fails() -> None:
    controller = LakeShore336Emulator(World())
    ask(controller, "ANALOG 3,1,1,400,200,0;OUTMODE 3,4,1,0;ATUNE 1,1")
    lived(World(), controller, 0.3)
    assert float(ask(controller, "AOUT? 3")) == pytest.approx(49.1, abs=0.2)
    assert ask(controller, "TUNEST?") == "0,0,1,00"
    ask(controller, "RANGE 1,3;ATUNE 1,2")
    assert ask(controller, "TUNEST?") == "1,1,0,00"
    lived(World(), controller, 61)
    assert ask(controller, "TUNEST?") == "0,0,0,00"
    assert int(ask(controller, "OPSTR?")) & 32


def test_a_zone_brings_its_own_range_and_rate_into_force() -> None:
    controller = LakeShore336Emulator(World())
    ask(controller, "ZONE 1,1,50,50,20,0,0,1,1,2;ZONE 1,2,400,20,10,0,0,2,1,5;OUTMODE 1,2,1,0;RANGE 1,3")
    lived(World(), controller, 0.2)
    assert ask(controller, "RANGE? 1;RAMP? 1") == "2;0,+005.0"


async def opened(session: Session) -> LakeShore336:
    controller = LakeShore336(session, "holder", context=Context(session.timebase, session.gate))
    await controller.connect()
    return controller


def session(link: SerialLink | TcpLink, scheme: str) -> Session:
    return Session(
        link, LakeShore336.framing(scheme), timebase=Timebase.system(), gate=Gate(), pace=LakeShore336.pace,
    )  # fmt: skip


@pytest.mark.real_clock
async def test_the_driver_speaks_to_the_emulator_through_a_socket() -> None:
    world = World()
    port = await TcpPort(Bench(world).wire([LakeShore336Emulator(world)], "tcp")).open()
    controller = await opened(session(TcpLink("127.0.0.1", port.port), "tcp"))
    assert await controller.temperature.get() == pytest.approx(25.0, abs=0.05)
    await controller.disconnect()
    await port.close()


@pytest.mark.real_clock
async def test_the_driver_speaks_to_the_emulator_through_a_serial_port() -> None:
    pytest.importorskip("pty")
    world = World()
    port = await PtyPort(Bench(world).wire([LakeShore336Emulator(world)], "serial")).open()
    controller = await opened(session(SerialLink(port.path, LakeShore336.line), "serial"))
    assert await controller.temperature.get() == pytest.approx(25.0, abs=0.05)
    assert port.sent[-1] == b"KRDG? A;RDGST? A\r\n"
    await controller.disconnect()
    await port.close()


@pytest.mark.real_clock
@pytest.mark.filterwarnings("ignore")
async def test_qcodes_drives_the_emulator() -> None:
    drivers = pytest.importorskip("qcodes.instrument_drivers.Lakeshore", reason="comes with the extra `bench`")
    world = World()
    port = await TcpPort(Bench(world).wire([LakeShore336Emulator(world)], "visa"), scheme="visa").open()

    def use() -> tuple[object, ...]:
        controller = drivers.LakeshoreModel336("controller", port.url.removeprefix("visa://"), visalib="@py")
        try:
            loop = controller.output_1
            loop.mode("closed_loop")
            loop.input_channel("A")
            loop.setpoint_ramp_rate(50)
            loop.setpoint(300.5)
            loop.output_range("high")
            seen = controller.A.temperature(), controller.A.sensor_status(), controller.C.sensor_status()
            return (
                controller.get_idn()["model"], *seen, loop.setpoint(), loop.setpoint_ramp_rate(), loop.output_range(),
                controller.ask("*ESR?"),
            )  # fmt: skip
        finally:
            controller.close()

    found = await asyncio.to_thread(use)
    await port.close()
    assert found == ("336", pytest.approx(298.15, abs=0.1), "OK", "Invalid Reading", 300.5, 50.0, "high", "128")


def test_a_filter_averages_what_is_shown_and_begins_anew_after_a_jump() -> None:
    controller = LakeShore336Emulator(World())
    readings: dict[bool, list[float]] = {}
    for on in (False, True):
        controller.respond(b"FILTER A,%d,16,5" % on)
        for _ in range(100):
            controller.advance(0.1)
            readings.setdefault(on, []).append(float(controller.respond(b"KRDG? A") or b"nan"))
    spread = {on: max(values[20:]) - min(values[20:]) for on, values in readings.items()}
    assert spread[True] < spread[False] / 2
    controller.world.body += 50.0
    controller.advance(0.1)
    controller.advance(0.1)
    assert float(controller.respond(b"KRDG? A") or b"nan") == pytest.approx(controller.world.body + 273.15, abs=0.1)
