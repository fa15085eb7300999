"""DENSsolutions Impulse: its messages, its emulator under the vendor's requests, heating, biasing and gas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.dens_impulse import codec
from devices.dens_impulse.driver import DensImpulse
from devices.dens_impulse.emulator import ImpulseEmulator
from devices.dens_impulse.gas import ImpulseGas
from devices.physics import World
from devices.zmq_camera.asking import Answers, Questions
from hal.clock.timebase import Timebase
from hal.errors import ConfigError, LimitError, LinkLost, NoReply, Refused, WrongInstrument
from hal.gate import Gate, Purpose, acting
from hal.instrument.bench import Bench
from hal.instrument.serving import StreamPort, TcpPort
from hal.model.context import Context
from hal.model.reading import Quality
from hal.protocols import zmtp
from hal.testing import wired
from hal.transport.session import Reconnect, Session
from hal.transport.tcp import TcpLink

ASKED = st.lists(
    st.tuples(st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=300)), min_size=1, max_size=4
)
HEAT = ("heat",)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
HELLO = bytes.fromhex("ff00000000000000017f03014e554c4c") + bytes(48)
READY_REQ = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x03REQ\x08Identity\x00\x00\x00\x00"
"""What pyzmq 27 (libzmq 4.3.5, ZMTP 3.1) sends first on a REQ socket: greeting, then its READY command."""


# ------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("message", "kind", "parameters"),
    [  # as impulsePy 3.1.0 writes them (json.dumps in createControlMessage)
        (
            b'{"$type": "control.heat.startRamp", "temperature": 300, "rampTime": 4}',
            "heat.startRamp", {"temperature": 300, "rampTime": 4},
        ),
        (
            b'{"$type": "control.bias.applyConstantBias", "setpoint": 0.5, "compliance": 0.01}',
            "bias.applyConstantBias", {"setpoint": 0.5, "compliance": 0.01},
        ),
        (
            b'{"$type": "control.gas.gplus.inletOutletPressure.startRamp", "inletPressure": 700, '
            b'"outletPressure": 600, "rampTime": 0}',
            "gas.gplus.inletOutletPressure.startRamp",
            {"inletPressure": 700, "outletPressure": 600, "rampTime": 0},
        ),
    ],
)  # fmt: skip
def test_requests_are_written_as_the_vendors_client_writes_them(
    message: bytes, kind: str, parameters: dict[str, Any]
) -> None:
    assert codec.request(kind, **parameters) == message
    assert codec.parse_request(message) == (kind, parameters)


def test_a_refusal_tells_each_parameter_that_was_wrong() -> None:
    # The form that impulsePy 1.0.0 takes apart in sendControl.
    found = codec.parse_reply(
        b'{"resultCode": "invalidInput", "message": "Invalid", "data": {"errors": [{"parameter": "temperature", '
        b'"$type": "control.error.outOfRange", "description": "too hot"}, 3]}}'
    )
    assert found.why == "invalidInput (Invalid; temperature: too hot)"


@hypothesis.settings(max_examples=50)
@given(st.dictionaries(st.text().filter(lambda key: key not in ("$type", "kind")), NUMBERS | st.text()))
def test_requests_and_replies_read_back_as_they_were_written(parameters: dict[str, Any]) -> None:
    assert codec.parse_request(codec.request("heat.x", **parameters)) == ("heat.x", parameters)
    assert codec.parse_reply(codec.reply(codec.OK, "told", parameters)).data == parameters


@given(st.binary())
def test_what_is_no_message_is_a_value_error_and_nothing_else(text: bytes) -> None:
    for parse in (codec.parse_request, codec.parse_reply, lambda found: codec.parse_published([b"heat", found])):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("theirs", "ours", "factor"),
    [("mbar", "Pa", 100.0), ("°C", "degC", 1.0), ("mW", "W", 1e-3), ("ml/min", "sccm", 1.0)],
)
def test_values_are_converted_from_the_unit_that_impulse_tells(theirs: str, ours: str, factor: float) -> None:
    assert codec.factor(theirs, ours) == pytest.approx(factor)


@pytest.mark.parametrize(("theirs", "ours"), [("K", "degC"), ("furlong", "Pa"), ("V", "A")])
def test_a_unit_that_does_not_fit_is_an_error(theirs: str, ours: str) -> None:
    with pytest.raises(ValueError):
        codec.factor(theirs, ours)


KINDS = st.sampled_from(
    ["impulse.getAvailableProperties", "impulse.getPropertyInformation", "heat.startRamp", "bias.applyConstantBias"]
    + ["bias.startSweepCycle", "gas.gplus.inletOutletPressure.startRamp", "gas.gplus.pressureFlow.startRamp"]
    + ["liquid.v2.pressureFlow.apply", "profileController.loadProfile", "profileController.controlProfile", "bias"]
)
NAMES = st.sampled_from(
    ["channelName", "propertyName", "temperature", "rampTime", "rampRate", "setpoint", "compliance", "baseline"]
    + [
        "amplitude",
        "rate",
        "cycles",
        "inletPressure",
        "outletPressure",
        "gas1Flow",
        "reactorPressure",
        "path",
        "action",
    ]
)
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("heat") | st.just([])


@hypothesis.settings(max_examples=100)
@given(KINDS, st.dictionaries(NAMES, ANYTHING))
def test_an_emulator_answers_whatever_it_is_asked(kind: str, parameters: dict[str, Any]) -> None:
    emulator = ImpulseEmulator(World(), channels=("heat", "bias", "gas", "liquid"))
    text = json.dumps({"$type": f"control.{kind}", **parameters}).encode()
    assert codec.parse_reply(emulator.respond(text) or b"").code in (
        "ok",
        "invalidInput",
        "badRequest",
        "invalidOperation",
    )
    emulator.advance(0.01)


# ------------------------------------------------------------------------------------- questions over ZeroMQ


@hypothesis.settings(max_examples=30)
@given(ASKED, st.data())
def test_each_answer_comes_back_with_the_number_of_its_question_in_any_portions(
    asked: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    near, far = Questions(), Answers()
    wire = zmtp.hello("REQ") + b"".join(near.encode(number + text) for number, text in asked)
    replies = b""
    while wire:
        size = data.draw(st.integers(min(len(wire), 10), len(wire)))
        for message in far.feed(wire[:size]):
            replies += far.encode(b"" if not message else b"re: " + message)
        wire = wire[size:]
    greeting = zmtp.hello("REP")
    assert replies.startswith(greeting)
    assert near.feed(replies[len(greeting) :]) == [number + b"re: " + text for number, text in asked]


def test_a_server_that_is_no_zeromq_says_nothing_more() -> None:
    far = Answers()
    assert far.feed(b"GET / HTTP/1.1\r\n\r\n") == [b""]  # it greets first, as a real one does
    assert far.feed(zmtp.message([b"", b"{}"])) == []


# ------------------------------------------------------------------------------------- on a wire


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[ImpulseEmulator, TcpPort, StreamPort]]:
    bench = Bench(World())
    emulator = ImpulseEmulator(bench.world, **settings)
    control = await TcpPort(bench.wire([emulator], "tcp")).open()
    data = await StreamPort(bench, emulator).open()
    try:
        yield emulator, control, data
    finally:
        await control.close()
        await data.close()


@pytest.mark.real_clock
async def test_raw_bytes_as_libzmq_sends_them_are_answered() -> None:
    async with served() as (_, control, _data):
        reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
        writer.write(HELLO[:10])  # libzmq sends its signature and waits for the other's
        assert (await reader.readexactly(64))[:10] == zmtp.SIGNATURE
        writer.write(HELLO[10:] + READY_REQ)
        ready = await reader.readexactly(2)
        assert b"REP" in await reader.readexactly(ready[1])
        text = b'{"$type": "control.impulse.getStatus"}'
        writer.write(b"\x01\x00\x00" + bytes([len(text)]) + text)
        head = await reader.readexactly(4)
        assert head[:3] == b"\x01\x00\x00"
        assert json.loads(await reader.readexactly(head[3])) == {"resultCode": "ok", "data": {"status": "control"}}
        writer.close()


@pytest.mark.real_clock
async def test_what_the_vendors_client_does_works_with_libzmq() -> None:
    zmq = pytest.importorskip("zmq")
    from zmq.asyncio import Context as ZmqContext

    async with served(channels=("heat", "bias", "gas", "massSpec")) as (_, control, data):
        context = ZmqContext()
        asking, listening = context.socket(zmq.REQ), context.socket(zmq.SUB)
        try:
            asking.connect(control.url)
            listening.connect(data.url)

            async def ask(kind: str, **parameters: Any) -> Any:
                async with asyncio.timeout(10):
                    await asking.send(codec.request(kind, **parameters))
                    return json.loads(await asking.recv())

            # impulsePy 3.1.0, updateParameters: every channel's every property has a unit and a precision.
            active = (await ask("impulse.getAvailableDataChannels"))["data"]["activeChannels"]
            assert active == ["heat", "bias", "gas", "massSpec", "events"]
            for channel in active:
                told = await ask("impulse.getAvailableProperties", channelName=channel)
                for name in told["data"]["properties"]:
                    about = await ask("impulse.getPropertyInformation", channelName=channel, propertyName=name)
                    assert {"channelName", "propertyName", "unit", "precision"} <= about["data"].keys()
            listening.subscribe(b"heat")
            listening.subscribe(b"events")
            assert await ask("heat.startRamp", temperature=60, rampTime=0.3) == {"resultCode": "ok"}
            samples, event = [], {}
            async with asyncio.timeout(10):
                while not event:
                    topic, content = await listening.recv_multipart()
                    if topic == b"heat":
                        samples.append(json.loads(content))
                    else:
                        event = json.loads(content)
            assert event == {"$type": "data.event.stimulusActionFinished", "stimulusType": "heat"}
            assert {"sequenceNumber", "timeStamp", "experimentDuration", "temperatureMeasured"} <= samples[-1].keys()
            assert (await ask("gas.getConfiguration"))["data"]["$type"].split(".")[-1] == "gplus"
            refused = await ask("heat.startRamp", temperature=5000, rampTime=1)
            assert (refused["resultCode"], refused["data"]["errors"][0]["parameter"]) == ("invalidInput", "temperature")
            assert (await ask("heat.stopRamp"))["resultCode"] == "invalidOperation"
            assert (await ask("heat.cook"))["resultCode"] == "badRequest"
        finally:
            context.destroy(linger=0)


@pytest.mark.real_clock
async def test_the_driver_asks_a_server_of_libzmq_and_an_answer_that_comes_late_is_not_the_next_ones() -> None:
    zmq = pytest.importorskip("zmq")
    from zmq.asyncio import Context as ZmqContext

    context = ZmqContext()
    answering, publishing = context.socket(zmq.REP), context.socket(zmq.PUB)
    port = answering.bind_to_random_port("tcp://127.0.0.1")
    data_port = publishing.bind_to_random_port("tcp://127.0.0.1")
    emulator = ImpulseEmulator(World())
    slow: list[float] = []

    async def serve() -> None:
        while True:
            asked = await answering.recv()
            await asyncio.sleep(slow.pop() if slow else 0.0)
            await answering.send(emulator.respond(asked))

    async def publish() -> None:
        while True:
            sample = {"temperatureMeasured": 321.0, "temperatureSetpoint": 320.0, "powerMeasured": 7.0}
            await publishing.send_multipart([b"heat", json.dumps(sample).encode()])
            await asyncio.sleep(0.02)

    serving = [asyncio.create_task(serve()), asyncio.create_task(publish())]
    hal = Context(Timebase.system(), Gate())
    session = Session(TcpLink("127.0.0.1", port), DensImpulse.framing("tcp"), timebase=hal.timebase, gate=hal.gate)
    heater = DensImpulse(session, "heater", options=DensImpulse.Options(data_port=data_port), context=hal)
    try:
        await heater.connect()
        assert heater.identity == "DENSsolutions Impulse, status control"
        assert await heater.temperature.get() == 321.0
        assert await heater.power.get() == pytest.approx(0.007)
        slow.append(0.4)
        with pytest.raises(NoReply):
            await heater.ask(heater._numbered(codec.request("impulse.getStatus")), timeout=0.1, repeatable=False)
        found = await heater.query("gas.getConfiguration")
        assert found.data["$type"].endswith("gplus")
    finally:
        await heater.disconnect()
        await hal.close()
        for task in serving:
            task.cancel()
        context.destroy(linger=0)


@pytest.mark.real_clock
@pytest.mark.parametrize("what", [b"220 mail.example.org ESMTP\r\n", b""])
async def test_what_speaks_no_zeromq_is_told_apart_when_connecting(
    what: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.zmq_camera.asking.GREETS_WITHIN", 0.2)

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(what)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    hal = Context(Timebase.system(), Gate())
    session = Session(
        TcpLink("127.0.0.1", server.sockets[0].getsockname()[1]), DensImpulse.framing("tcp"), timebase=hal.timebase
    )  # fmt: skip
    heater = DensImpulse(session, "heater", context=hal)
    try:
        with pytest.raises(LinkLost, match="greet"):
            await heater.connect()
    finally:
        await heater.disconnect()
        server.close()


# ------------------------------------------------------------------------------------- heating


async def test_a_ramp_tells_impulse_how_long_it_takes_and_ends_when_impulse_says_so() -> None:
    async with wired(DensImpulse, name="heater", channels=HEAT) as (heater, wire):
        loop = asyncio.get_running_loop()
        began = loop.time()
        await heater.ramp(to=325.0, rate=30.0)
        assert loop.time() - began == pytest.approx(10.0, abs=0.6)
        assert wire.world.temperature == pytest.approx(325.0, abs=1.0)
        sent = b"".join(wire.sent)
        assert b'"temperature": 325.0, "rampTime": ' in sent
        assert b"stopRamp" not in sent


async def test_a_ramp_that_is_stopped_in_impulse_is_an_error() -> None:
    async with wired(DensImpulse, name="heater", channels=HEAT) as (heater, wire):
        ramp = heater.ramp(to=325.0, rate=50.0)
        await asyncio.sleep(2.0)
        wire.emulator.respond(codec.request("heat.stopRamp"))
        with pytest.raises(Refused, match=r"was ended in Impulse at 1[012]"):
            await ramp


async def test_a_setpoint_is_gone_to_at_the_ramp_rate_and_never_faster_than_its_limit() -> None:
    async with wired(DensImpulse, name="heater", channels=HEAT) as (heater, wire):
        await heater.ramp_rate.set(20.0)
        await heater.setpoint.set(125.0)
        await asyncio.sleep(2.5)
        assert wire.world.temperature == pytest.approx(75.0, abs=3.0)
        await asyncio.sleep(3.0)
        assert wire.world.temperature == pytest.approx(125.0, abs=1.0)


async def test_what_impulse_refuses_is_told_with_its_code_and_reason() -> None:
    async with wired(DensImpulse, name="heater", max_temperature=800.0) as (heater, wire):
        with pytest.raises(Refused, match=r"heater: heat.startRamp: .* invalidInput .*temperature: 900 is not within"):
            await heater.ramp(to=900.0, rate=100.0)
        assert wire.world.temperature < 30.0


async def test_the_heater_and_the_bias_are_off_in_the_safe_state_while_an_answer_is_owed() -> None:
    async with wired(DensImpulse, name="heater") as (heater, wire):
        await heater.source("voltage", 2.0, compliance=0.1)
        ramp = heater.ramp(to=600.0, rate=100.0)
        await asyncio.sleep(4.0)
        assert wire.world.temperature > 300.0
        wire.faults.delay = 1.5
        owed = asyncio.ensure_future(heater.identify())
        await asyncio.sleep(0.5)
        wire.faults.delay = 0.0
        with acting(Purpose.SAFE):
            await heater.make_safe()
        assert wire.world.voltage == 0.0
        await asyncio.gather(owed, ramp, return_exceptions=True)
        await asyncio.sleep(10.0)
        assert wire.world.temperature < 40.0


async def test_in_the_safe_state_all_orders_leave_though_no_data_come() -> None:
    async with wired(DensImpulse, name="heater") as (heater, wire):
        await heater.source("voltage", 2.0, compliance=0.1)
        wire.emulator.stream = list
        wire.emulator.respond(codec.request("heat.startRamp", temperature=400, rampTime=0))
        await asyncio.sleep(5.0)
        with pytest.raises(NoReply, match="no data of 'heat' for 2 s; does an experiment run in Impulse"):
            with acting(Purpose.SAFE):
                await heater.make_safe()
        await asyncio.sleep(5.0)
        assert (wire.world.voltage, wire.world.temperature < 40.0) == (0.0, True)


async def test_an_experiment_without_heat_is_refused_when_connecting() -> None:
    with pytest.raises(Refused, match=r"no channel 'heat' \(active are: \['gas', 'events'\]\); start an experiment"):
        async with wired(DensImpulse, name="heater", channels=("gas",)):
            pass


async def test_another_program_that_answers_over_zeromq_is_a_wrong_instrument() -> None:
    class Other(ImpulseEmulator):
        def respond(self, message: bytes) -> bytes | None:
            return message and b'{"resultCode": "ok", "data": {"state": "fine"}}'

    with pytest.raises(WrongInstrument, match="expected Impulse, got ok with status None"):
        async with wired(DensImpulse, name="heater", emulator=Other(World())):
            pass


async def test_a_unit_nobody_knows_is_refused_before_anything_is_believed() -> None:
    class Kelvins(ImpulseEmulator):
        def _about(self, asked: dict[str, Any]) -> dict[str, Any]:
            return super()._about(asked) | {"unit": "K"}

    with pytest.raises(Refused, match="Impulse tells powerMeasured in 'K'"):
        async with wired(DensImpulse, name="heater", emulator=Kelvins(World())):
            pass


def test_a_safe_temperature_that_heats_is_refused_in_the_lab_file() -> None:
    session = Session(TcpLink("127.0.0.1", 1), DensImpulse.framing("tcp"), timebase=Timebase.system())
    with pytest.raises(ConfigError, match="give one from 20 to 50 degC"):
        DensImpulse(session, "heater", options=DensImpulse.Options(safe_temperature=500.0))


async def test_profiles_run_only_where_the_lab_file_allows_them() -> None:
    async with wired(DensImpulse, name="heater") as (heater, wire):
        with pytest.raises(LimitError, match="`profiles = true`"):
            heater.profile("anneal.prf")
        assert not wire.sent
    async with wired(DensImpulse, name="heater", options={"profiles": True}) as (heater, wire):
        await heater.profile("anneal.prf")
        assert wire.emulator.profile == "anneal.prf"


async def test_after_a_pulled_cable_both_connections_are_found_again_and_the_ramp_goes_on() -> None:
    async with wired(DensImpulse, name="heater", channels=HEAT, reconnect=Reconnect(20.0)) as (heater, wire):
        ramp = heater.ramp(to=125.0, rate=10.0)
        await asyncio.sleep(3.0)
        wire.unplug()
        await asyncio.sleep(9.0)  # it ends meanwhile, and nobody hears it
        assert heater.reconnecting
        wire.plug()
        await ramp
        assert await heater.temperature.get() == pytest.approx(125.0, abs=1.0)


async def test_what_impulse_says_to_its_user_is_noted() -> None:
    async with wired(DensImpulse, name="heater") as (heater, _):
        for told in heater.impulse.on_event:
            told({"$type": "data.event.popupRaised", "message": "The chip is broken"})
        assert heater.context.journal.recent[-1].text == "Impulse says: The chip is broken"


# ------------------------------------------------------------------------------------- biasing


async def test_it_biases_within_the_compliance_and_sweeps_like_a_source_meter() -> None:
    async with wired(DensImpulse, name="heater") as (it, wire):
        await it.source("voltage", 1.0, compliance=0.1)
        assert await it.current.get() == pytest.approx(1.0 / wire.world.resistance, rel=0.05)
        assert (await it.current_level.read()).quality is Quality.BAD
        await it.voltage_level.set(-1.0)
        assert await it.voltage.get() == pytest.approx(-1.0, rel=0.01)
        curve = await it.sweep("voltage", [0.0, 0.5, 1.0], compliance=2e-3, dwell=0.1)
        assert list(curve.limited) == [False, False, True]
        await it.off()
        assert wire.world.voltage != 0.0, "the heater is off, the bias is not"
        await it.bias_off()
        assert wire.world.voltage == 0.0


async def test_what_the_experiment_does_not_bias_is_refused_and_nothing_is_sent() -> None:
    async with wired(DensImpulse, name="heater", biases="current") as (it, wire):
        with pytest.raises(Refused, match="biases current, not voltage"):
            await it.source("voltage", 1.0, compliance=0.1)
        await it.source("current", 1e-3, compliance=2.0)
        assert await it.voltage.get() == pytest.approx(1e-3 * wire.world.resistance, rel=0.05)
    async with wired(DensImpulse, name="heater", channels=("heat",)) as (it, wire):
        with pytest.raises(Refused, match="no bias channel"):
            await it.source("voltage", 1.0, compliance=0.1)
        assert (await it.voltage.read()).value is None
        await it.make_safe()


@pytest.mark.parametrize("amplitude", [300.0, -300.0, float("nan")])
async def test_a_sweep_cycle_is_held_against_the_limits_on_both_sides(amplitude: float) -> None:
    async with wired(DensImpulse, name="heater") as (it, wire):
        with pytest.raises(LimitError):
            it.sweep_cycle(0.0, amplitude, "single", rate=1.0, cycles=1, compliance=0.1)
        assert not wire.sent
        loop = asyncio.get_running_loop()
        began = loop.time()
        await it.sweep_cycle(0.0, 2.0, "single", rate=1.0, cycles=2, compliance=0.1)
        assert loop.time() - began == pytest.approx(8.0, abs=0.5)


# ------------------------------------------------------------------------------------- gas


async def test_gas_ramps_in_pascal_and_the_holder_is_evacuated_in_the_safe_state() -> None:
    async with wired(ImpulseGas, name="gas") as (gas, wire):
        await gas.ramp(70e3, 60e3, seconds=5.0)
        await asyncio.sleep(5.0)
        assert await gas.pressure.get() == pytest.approx(65e3, rel=0.01)
        assert wire.world.lines["argon"].flow == pytest.approx(0.5, rel=0.05)
        assert b'"inletPressure": 700.0, "outletPressure": 600.0' in b"".join(wire.sent)
        with pytest.raises(LimitError, match="nothing was sent"):
            gas.ramp(3e5, 0.0, seconds=1.0)
        with acting(Purpose.SAFE):
            await gas.make_safe()
        await asyncio.sleep(10.0)
        assert await gas.pressure.get() < 100.0


async def test_gas_stays_in_the_safe_state_if_the_lab_file_says_so() -> None:
    async with wired(ImpulseGas, name="gas", options={"safe_state": "stay"}, channels=("gas",)) as (gas, _):
        async with gas.ramp(70e3, 60e3, seconds=10.0):
            await asyncio.sleep(5.0)
        with acting(Purpose.SAFE):
            await gas.make_safe()
        await asyncio.sleep(6.0)
        assert await gas.inlet.get() == pytest.approx(35e3, rel=0.05)
