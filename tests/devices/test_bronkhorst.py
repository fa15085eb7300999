"""Bronkhorst flow controllers: packets of the manual, two on one bus, and what keeps a gas line safe."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.bronkhorst import codec, parameters
from devices.bronkhorst.codec import Packet, Parameter
from devices.bronkhorst.driver import Bronkhorst
from devices.bronkhorst.emulator import BronkhorstEmulator
from devices.bronkhorst.framing import Binary, BinaryOrAscii
from devices.physics import World
from hal.capabilities import FlowController
from hal.clock.timebase import Timebase
from hal.errors import ConfigError, LimitError, NoReply, ProtocolError, Refused, UnitError, WrongInstrument
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.capabilities import lacking
from hal.model.context import Context
from hal.model.reading import Quality
from hal.testing import wired
from hal.transport.memory import MemoryLink
from hal.transport.serial import SerialLink
from hal.transport.session import Session


def hexa(text: str) -> bytes:
    return bytes.fromhex(text)


# ---------------------------------------------------------------------- the manual's packets


def test_a_setpoint_of_half_scale_is_written_as_in_the_manual():
    """9.17.027, example "send setpoint", binary."""
    data = codec.write_request([(codec.SETPOINT, 16000)])
    assert Binary().encode(Packet(0x0E, 0x80, data).encode()) == hexa("10 02 0e 80 05 01 01 21 3e 80 10 03")


def test_a_setpoint_is_asked_for_and_answered_as_in_the_manual():
    """9.17.027, example "request setpoint", binary."""
    data = codec.read_request([codec.SETPOINT])
    assert Binary().encode(Packet(0x0F, 0x80, data).encode()) == hexa("10 02 0f 80 05 04 01 21 01 21 10 03")
    (reply,) = Binary().feed(hexa("10 02 0f 80 05 02 01 21 3e 80 10 03"))
    assert codec.read_reply([codec.SETPOINT], Packet.decode(reply).data) == [16000]


def test_the_emulator_answers_the_manuals_ascii_example():
    """9.17.027: `:06800401210121` asks for the setpoint, `:06800101213E80` sets it."""
    emulator = BronkhorstEmulator(World(), unit=3)
    framing = emulator.framing("serial")
    said = [
        framing.encode(reply)
        for message in framing.feed(b":06800101213E80\r\n:06800401210121\r\n")
        if (reply := emulator.respond(message))
    ]
    assert said == [b":0480000005\r\n", b":06800201213E80\r\n"]


def say(emulator: BronkhorstEmulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


def test_constants_are_unlocked_set_and_locked_by_one_ascii_message_of_the_manual():
    """9.17.027, section 3.10.2, page 22."""
    emulator = BronkhorstEmulator(World(), unit=3)
    whole = b":1D0301800A4081C500000000C63F800000C7000000004800000000000A52\r\n"
    assert say(emulator, whole) == b":040300001C\r\n"
    locked = b":08030101453F800000\r\n"  # constant A alone
    assert say(emulator, locked) == b":0403000D02\r\n"


def test_parameters_chained_over_two_processes_are_answered_as_in_the_manual():
    """9.17.027, section 3.10.4, pages 23 to 25: strings of both kinds, an integer and a float."""
    emulator = BronkhorstEmulator(World(), unit=3, serial="M6212345A", full_scale=1.0, gas="nitrogen", noise=0.0)
    emulator.measured = 7384 / 32000
    asked = b":1A0304F1EC7163006D71660001AE0120CF014DF0017F077101710A\r\n"
    answered = (
        b":370302F1EC004D3632313233343541006D00555345525441470001AE1CD8CF3F800000F007"
        b"6D6C6E2F6D696E710A4E322020202020202020\r\n"
    )
    assert say(emulator, asked) == answered


def test_binary_and_ascii_are_understood_side_by_side():
    """9.17.027, section 3.10.5, and the same question in binary; as bronkhorst-propar sends them by either mode."""
    emulator = BronkhorstEmulator(World(), unit=3, noise=0.0)
    assert say(emulator, b":06030401210120\r\n" + hexa("10 02 07 03 05 04 01 21 01 20 10 03")) == (
        b":06030201210000\r\n" + hexa("10 02 07 03 05 02 01 21 00 00 10 03")
    )
    assert say(emulator, b":06030401210120\r:06030401210120\r\n").count(b":060302") == 2


@pytest.mark.parametrize(
    ("said", "error"), [(b":0603040121\r\n", 3), (b":0G030401210120\r\n", 4), (b":06030401210120F\r\n", 4)]
)
def test_an_ascii_message_that_makes_no_sense_is_met_with_an_error_message(said, error):
    """9.17.027, section 3.3.3, page 12; only by the instrument whose line it is."""
    assert say(BronkhorstEmulator(World(), unit=3), said) == b":01%02X\r\n" % error
    assert say(BronkhorstEmulator(World(), unit=3, local=False), said) == b""


@pytest.mark.parametrize(
    ("parameter", "value", "status"),
    [
        (codec.SLOPE, 30001, codec.WRONG_VALUE), (codec.SLOPE, 300, codec.OK), (codec.CAPACITY, 5.0, codec.READ_ONLY),
        (Parameter(1, 5, "float"), 1.0, codec.READ_ONLY), (Parameter(113, 6, "text"), "left arm", codec.OK),
        (Parameter(1, 30, "byte"), 1, codec.NO_PARAMETER), (Parameter(50, 0, "byte"), 1, codec.NO_PROCESS),
        (Parameter(1, 4, "word"), 1, codec.WRONG_TYPE), (Parameter(0, 10, "byte"), 1, codec.WRONG_VALUE),
    ],
)  # fmt: skip
def test_what_may_be_set_is_kept_and_the_rest_refused(parameter, value, status):
    emulator = BronkhorstEmulator(World(), unit=3)
    packet = Packet(1, 3, codec.write_request([(parameter, value)]))
    (said,) = Binary().feed(say(emulator, Binary().encode(packet.encode())))
    assert codec.status_of(said[3:])[0] == status
    if status == codec.OK:
        asked = Packet(2, 3, codec.read_request([parameter]))
        (said,) = Binary().feed(say(emulator, Binary().encode(asked.encode())))
        assert codec.read_reply([parameter], Packet.decode(said).data) == [value]


def ask(emulator: BronkhorstEmulator, parameter: Parameter):
    (said,) = Binary().feed(say(emulator, Binary().encode(Packet(2, 3, codec.read_request([parameter])).encode())))
    return codec.read_reply([parameter], Packet.decode(said).data)[0]


def put(emulator: BronkhorstEmulator, parameter: Parameter, value) -> int:
    packet = Packet(1, 3, codec.write_request([(parameter, value)]))
    (said,) = Binary().feed(say(emulator, Binary().encode(packet.encode())))
    return codec.status_of(said[3:])[0]


def test_the_counter_counts_what_flows_and_can_be_reset():
    """DDE 122, 130 and 114 of bronkhorst-propar 1.3.0."""
    emulator = BronkhorstEmulator(World(), unit=3, noise=0.0)
    put(emulator, parameters.COUNTER_MODE, 1)
    put(emulator, codec.FSETPOINT, 12.0)
    for _ in range(6000):
        emulator.advance(0.01)
    assert ask(emulator, parameters.COUNTER) == pytest.approx(12.0e-3, rel=0.01)  # ln in a minute
    assert put(emulator, parameters.RESET, 1) == codec.OK
    assert ask(emulator, parameters.COUNTER) == 0.0


def test_an_alarm_tells_which_limit_the_flow_is_beyond():
    emulator = BronkhorstEmulator(World(), unit=3, noise=0.0)
    for parameter, value in ((parameters.ALARM_MAXIMUM, 16000), (parameters.ALARM_MINIMUM, 1600)):
        put(emulator, parameter, value)
    assert ask(emulator, codec.ALARM_INFO) == 0
    put(emulator, parameters.ALARM_MODE, 1)
    assert ask(emulator, codec.ALARM_INFO) == parameters.BELOW_MINIMUM
    put(emulator, codec.SETPOINT, 20000)
    for _ in range(300):
        emulator.advance(0.01)
    assert ask(emulator, codec.ALARM_INFO) == parameters.ABOVE_MAXIMUM


@pytest.mark.parametrize(
    "dde",
    [
        (22, 1, 14, "byte"), (183, 33, 22, "float"), (129, 1, 31, "text"), (185, 0, 20, "byte"),
        (167, 114, 21, "float"), (172, 113, 9, "text"), (128, 104, 7, "text"),
    ],
)  # fmt: skip
def test_other_programs_find_what_they_ask_for(dde):
    """tomato-bronkhorst 2.1.0, bronkhorstcontrolbm31 1.4.0, and the vendor's table."""
    _, process, number, kind = dde
    assert ask(BronkhorstEmulator(World(), unit=3), Parameter(process, number, kind)) is not None


def test_values_chained_over_processes_follow_the_vendors_order_of_bits():
    """As built by bronkhorst-propar 1.3.0 for Fmeasure, Fsetpoint and the control mode."""
    data = codec.read_request([codec.FMEASURE, codec.FSETPOINT, codec.CONTROL_MODE])
    assert data == hexa("04 a1 c0 21 40 43 21 43 01 04 01 04")


@pytest.mark.parametrize(("raw", "count"), [("0000", 0), ("a3d6", 41942), ("a3d7", -23593), ("ffff", -1)])
def test_a_measurement_goes_below_zero_where_bronkhorst_folds_it(raw, count):
    assert codec.decode_value(codec.MEASURE, hexa(raw)) == count
    assert codec.encode_value(codec.MEASURE, count) == hexa(raw)


# ---------------------------------------------------------------------- the codec, both directions

PARAMETERS = [
    codec.MEASURE, codec.SETPOINT, codec.CONTROL_MODE, codec.CAPACITY, codec.FLUID, codec.CAPACITY_UNIT,
    codec.FMEASURE, codec.FSETPOINT, codec.TEMPERATURE, codec.MODEL, codec.SERIAL, codec.VALVE,
]  # fmt: skip


PRINTABLE = "".join(map(chr, range(33, 127)))


def values_of(parameter: Parameter) -> st.SearchStrategy:
    return {
        "byte": st.integers(0, 255), "word": st.integers(0, 65535), "signed": st.integers(-23593, 41942),
        "long": st.integers(0, 2**32 - 1), "float": st.floats(width=32, allow_nan=False),
        "text": st.text(PRINTABLE, max_size=parameter.length or 20),
    }[parameter.kind]  # fmt: skip


PAIRS = st.lists(
    st.one_of([st.tuples(st.just(parameter), values_of(parameter)) for parameter in PARAMETERS]),
    min_size=1, max_size=6, unique_by=lambda pair: pair[0],
)  # fmt: skip


@given(PAIRS)
def test_what_an_instrument_answers_is_what_the_driver_reads(pairs):
    parameters = [p for p, _ in pairs]
    asked = codec.read_asked(codec.read_request(parameters))
    assert [(a.process, a.code) for a in asked] == [(p.process, p.code) for p in parameters]
    data = codec.answer(asked, [codec.encode_value(p, v) for p, v in pairs])
    assert codec.read_reply(parameters, data) == [v for _, v in pairs]


@given(PAIRS)
def test_what_the_driver_writes_is_what_an_instrument_takes(pairs):
    taken = codec.written(codec.write_request(pairs))
    assert [(p, c) for p, c, _, _ in taken] == [(p.process, p.code) for p, _ in pairs]
    assert [codec.decode_value(p, raw) for (p, _), (_, _, raw, _) in zip(pairs, taken, strict=True)] == [
        v for _, v in pairs
    ]


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=4), st.lists(st.integers(1, 7)), st.binary(max_size=5))
def test_packets_survive_any_cutting_and_noise_before_them(payloads, cuts, noise):
    messages = [Packet(16, 16, payload).encode() for payload in payloads]
    stream = noise.replace(b"\x10", b"") + b"".join(map(Binary().encode, messages))
    for framing, prefix in ((Binary(), b""), (BinaryOrAscii(), b"b")):
        if prefix and b":" in noise:
            continue  # in an instrument that begins a line
        found, rest, steps = [], stream, iter(cuts)
        while rest:
            size = next(steps, len(rest))
            found += framing.feed(rest[:size])
            rest = rest[size:]
        assert found == [prefix + message for message in messages]


@given(st.binary(max_size=40))
def test_no_bytes_whatever_upset_the_emulator(noise):
    emulator = BronkhorstEmulator(World(), unit=3)
    framing = emulator.framing("serial")
    for message in framing.feed(Binary().encode(bytes((1, 3, len(noise))) + noise)):
        emulator.respond(message)
    for message in framing.feed(noise + b"\r\n"):
        emulator.respond(message)
    framing.reset()
    (asked,) = framing.feed(Binary().encode(Packet(1, 3, codec.read_request([codec.ADDRESS])).encode()))
    assert emulator.respond(asked).endswith(b"\x03")


# ---------------------------------------------------------------------- one controller


@pytest.fixture
async def bench():
    async with wired("bronkhorst", name="argon", unit=3, gas="argon", full_scale=20.0) as (controller, wire):
        yield controller, wire


async def test_it_is_a_flow_controller_and_says_who_it_is(bench):
    controller, _ = bench
    assert lacking(controller, FlowController) == []
    assert controller.identity == "Bronkhorst DMFC, M21200003A"
    assert await controller.gas.get() == "Ar"
    assert await controller.full_scale.get() == pytest.approx(20.0)


async def test_gas_flows_some_time_after_it_is_asked_for(bench):
    controller, wire = bench
    await controller.set(10.0)
    assert wire.world.lines["argon"].flow < 1.0
    await asyncio.sleep(3)
    assert await controller.flow.get() == pytest.approx(10.0, abs=0.1)
    assert wire.world.lines["argon"].flow == pytest.approx(10.0, abs=1e-2)


async def test_more_than_full_scale_never_reaches_the_wire(bench):
    controller, wire = bench
    with pytest.raises(LimitError, match=r"outside 0 to 20 sccm; nothing was sent.*full scale"):
        controller.set(20.5)
    with pytest.raises(LimitError):
        controller.setpoint.set(-1.0)
    assert not wire.sent


async def test_a_setpoint_is_rounded_to_a_32000th_of_full_scale_and_read_back_so(bench):
    controller, _ = bench
    await controller.set(1.2345678)
    assert await controller.setpoint.get() == pytest.approx(round(1.2345678 / 20 * 32000) / 32000 * 20, rel=1e-6)


async def test_closing_ends_the_flow(bench):
    controller, wire = bench
    await controller.set(20.0)
    await asyncio.sleep(2)
    await controller.close()
    await asyncio.sleep(10)
    assert await controller.flow.get() == pytest.approx(0.0, abs=0.1)
    assert wire.world.lines["argon"].flow == 0.0


async def test_the_safe_state_is_one_packet_and_closes_even_a_controller_in_purge(bench):
    controller, wire = bench
    wire.emulator.control_mode = codec.FULLY_OPEN
    await asyncio.sleep(0.1)
    await controller.mode.get()  # lets the emulator live
    wire.forget()
    await controller.safe_state()
    assert len(wire.sent) == 1
    assert (wire.emulator.setpoint, wire.emulator.control_mode) == (0, codec.BUS)


async def test_a_controller_that_obeys_its_analog_input_refuses_the_setpoint(bench):
    controller, wire = bench
    wire.emulator.control_mode = 1
    with pytest.raises(Refused, match=r"argon: its control mode is 1 .analog input.*set it to 0"):
        await controller.set(5.0)


async def test_flow_and_setpoint_cost_one_question(bench):
    controller, wire = bench
    await controller.read()
    assert len(wire.sent) == 1


async def test_readings_scatter_as_declared(bench):
    controller, wire = bench
    await controller.set(10.0)
    await asyncio.sleep(5)
    inside = total = 0
    for _ in range(300):
        await asyncio.sleep(0.06)
        reading = await controller.flow.read()
        inside += abs(reading.value - wire.world.lines["argon"].flow) < 2 * reading.uncertainty
        total += 1
    assert 0.92 < inside / total < 0.985


async def test_a_lost_reply_is_asked_for_again_with_no_wait_for_the_old_one(bench):
    controller, wire = bench
    wire.faults.drop = 1.0
    reading = asyncio.ensure_future(controller.flow.read())
    await asyncio.sleep(0.45)
    wire.faults.drop = 0.0
    assert (await reading).quality is Quality.GOOD
    assert len(wire.sent) == 2


async def test_a_late_reply_is_never_taken_for_a_newer_one(bench):
    controller, wire = bench
    wire.faults.delay = 0.7  # longer than the timeout
    with pytest.raises(NoReply, match=r"no reply to .* is it powered"):
        await controller.ask(controller._packet(codec.read_request([codec.FLUID])).encode(), repeatable=False)
    wire.faults.delay = 0.0
    assert await controller.full_scale.get() == pytest.approx(20.0)


async def test_a_late_reply_to_a_repeated_question_widens_the_time_instead_of_lying(bench):
    controller, wire = bench
    begun = controller.context.timebase.now()
    wire.faults.delay = 0.7
    reading = await controller.flow.read()
    assert reading.time - reading.bound <= begun


async def test_an_error_message_in_place_of_an_answer_is_told_with_what_it_means(bench):
    controller, wire = bench
    respond = wire.emulator.respond
    wire.emulator.respond = lambda message: respond(message)[:3] + b"\x00\x05"
    with pytest.raises(Refused, match=r"argon: reading failed with error 5: there is no such node on the bus"):
        await controller.flow.get()


async def test_a_setpoint_slope_delays_the_flow_and_is_told_when_the_lab_opens():
    emulator = BronkhorstEmulator(World(), unit=3, noise=0.0)
    emulator.values[codec.SLOPE] = 200  # 20 s for 20 sccm
    async with wired(Bronkhorst, name="argon", unit=3, emulator=emulator) as (controller, _):
        assert any("setpoint slope is 20 s" in event.text for event in controller.context.journal.recent)
        await controller.set(20.0)
        await asyncio.sleep(10)
        assert await controller.flow.get() == pytest.approx(10.0, abs=0.7)


async def test_a_reply_that_makes_no_sense_names_the_packet(bench):
    controller, wire = bench
    wire.emulator._answer = lambda data: hexa("02 01 21 3e 80")
    with pytest.raises(ProtocolError, match=r"argon: expected the values asked for"):
        await controller.flow.get()


# ---------------------------------------------------------------------- opening


async def test_a_flow_meter_is_not_taken_for_a_controller():
    with pytest.raises(WrongInstrument, match=r"expected a mass flow controller, found a 'DMFM'.*check `unit`"):
        async with wired("bronkhorst", name="argon", unit=3, device_type="DMFM"):
            pass


async def test_a_capacity_in_grams_is_refused_at_opening():
    with pytest.raises(UnitError, match=r"argon: its full scale is 20 'g/h'.*set the capacity unit"):
        async with wired("bronkhorst", name="argon", unit=3, capacity_unit="g/h"):
            pass


@pytest.mark.parametrize("unit", ["ln/min", "mls/min", "m3n/h"])
async def test_any_normal_volume_comes_out_in_sccm(unit):
    async with wired("bronkhorst", name="argon", unit=3, capacity_unit=unit, full_scale=500.0, noise=0.0) as (c, wire):
        await c.set(250.0)
        await asyncio.sleep(10)
        assert await c.full_scale.get() == pytest.approx(500.0, rel=1e-6)
        assert await c.flow.get() == pytest.approx(250.0, rel=1e-3)
        assert wire.world.lines["argon"].flow == pytest.approx(250.0, rel=1e-3)


def test_european_standard_litres_are_counted_at_20_degc():
    assert codec.SCCM["mls/min"] == pytest.approx(0.93178, rel=1e-4)


async def test_without_an_address_the_only_instrument_on_the_line_answers():
    async with wired("bronkhorst", name="argon") as (controller, _):
        assert await controller.gas.get() == "Ar"


@pytest.mark.parametrize("unit", [0, 128, "three"])
async def test_an_impossible_node_address_is_a_mistake_in_the_lab_file(unit):
    with pytest.raises(ConfigError, match=r"no node address"):
        async with wired(Bronkhorst, name="argon", unit=unit, emulator=BronkhorstEmulator(World())):
            pass


# ---------------------------------------------------------------------- two on one bus


@asynccontextmanager
async def bus():
    world = World()
    emulators = [
        BronkhorstEmulator(world, unit=3, gas="argon", full_scale=20.0),
        BronkhorstEmulator(world, unit=4, gas="hydrogen", full_scale=5.0),
    ]
    link = MemoryLink(Bench(world).wire(emulators, "serial"))
    context = Context(Timebase.of_loop(asyncio.get_running_loop().time), Gate())
    session = Session(link, Bronkhorst.framing("serial"), timebase=context.timebase, gate=context.gate)
    controllers = [Bronkhorst(session, name, unit=n, context=context) for name, n in (("argon", 3), ("hydrogen", 4))]
    for controller in controllers:
        await controller.connect()
    try:
        yield controllers, world
    finally:
        await context.close()
        for controller in controllers:
            await controller.disconnect()


async def test_two_controllers_share_a_line_and_keep_their_own_gas_and_scale():
    async with bus() as ((argon, hydrogen), world):
        await asyncio.gather(argon.set(15.0), hydrogen.set(2.0))
        await asyncio.sleep(3)
        flows = await asyncio.gather(*(c.flow.get() for c in (argon, hydrogen) for _ in range(3)))
        assert flows == pytest.approx([15.0] * 3 + [2.0] * 3, abs=0.1)
        assert await hydrogen.gas.get() == "H2"
        assert world.lines["hydrogen"].arriving == pytest.approx(0.0, abs=1e-3)  # its valve is closed: to the vent
        with pytest.raises(LimitError):
            hydrogen.set(15.0)


async def test_nobody_answers_for_a_node_that_is_not_there():
    with pytest.raises(NoReply, match=r"argon: no reply"):
        async with wired(Bronkhorst, name="argon", unit=5, emulator=BronkhorstEmulator(World(), unit=3)):
            pass


@pytest.mark.real_clock
async def test_on_a_real_serial_line_gas_flows():
    world = World()
    port = await PtyPort(Bench(world).wire([BronkhorstEmulator(world, unit=3)], "serial")).open()
    context = Context()
    session = Session(SerialLink(port.path, Bronkhorst.line), Bronkhorst.framing("serial"), timebase=context.timebase)
    controller = Bronkhorst(session, "argon", unit=3, context=context)
    try:
        await controller.connect()
        await controller.set(10.0)
        async with asyncio.timeout(10):
            async for _ in controller.until(controller.flow, lambda flow: flow > 5.0):
                pass
    finally:
        await context.close()
        await controller.disconnect()
        await port.close()
