"""What goes over MQTT, as pure functions: topics, payloads, and that they are always valid JSON."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.capabilities import Thermometer
from hal.clock.exchange_clock import ExchangeClock
from hal.clock.health import ClockHealth
from hal.clock.timebase import Anchor
from hal.errors import ConfigError, ProtocolError
from hal.instrument.address import Soft
from hal.model.device import Device
from hal.model.journal import Event
from hal.model.limits import Limits
from hal.model.reading import Quality, Reading
from hal.model.signal import Kind, SignalR, SignalRW
from hal.telemetry import clock_states, descriptions, topics
from hal.telemetry.alarms import decode_alarm
from hal.telemetry.payload import encode
from hal.telemetry.states import decode_detector, decode_device
from hal.telemetry.streams import decode_chunk

TIME = 1_764_000_000_123_456_789


class Stage(Device):
    provides = (Thermometer,)
    vendor, model, identity = "Nobody", "Soft stage", "soft stage 7, version 1.2"

    temperature = SignalR(float, "degC", at=Soft(21.5), kind=Kind.HINTED, doc="Temperature of the sample", poll=0.5)
    setpoint = SignalRW(float, "degC", at=Soft(20.0), limits=(-196.0, math.inf), of="temperature")
    shutter = SignalRW(str, at=Soft("shut"), choices=("open", "shut"))


def strict(payload: bytes):
    """JSON as JavaScript takes it: the standard library would let NaN pass."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(payload.decode("utf-8"), parse_constant=refuse)


def test_a_reading_looks_as_the_reference_says():
    reading = Reading(21.5, "degC", TIME, 5_000_000, 0.1)
    assert topics.reading_topic("em3", "heater", "temperature") == "insitu/em3/heater/temperature"
    assert topics.encode_reading(reading) == (
        b'{"schema":1,"value":21.5,"unit":"degC","time":"1764000000123456789","time_bound":5000000,'
        b'"uncertainty":0.1,"quality":"good","reason":""}'
    )


@pytest.mark.parametrize("where", ["value", "reason"])
def test_what_no_broker_would_carry_is_a_reading_without_a_value_that_says_so(where):
    long = "x" * 10_000_000
    value, reason = (long, "") if where == "value" else (1.0, long)
    reading = Reading(value, "", TIME, 0, None, Quality.GOOD, reason)
    content = strict(payload := topics.encode_reading(reading))
    assert len(payload) < 1000
    assert (content["value"], content["quality"], content["time"]) == (None, "bad", str(TIME))
    assert "bytes are too many for telemetry, which carries 100000: xxx" in content["reason"]


finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text()


@given(
    st.builds(
        Reading, values, st.sampled_from(["degC", "", "1/s"]), st.integers(0, 2**63), st.integers(0, 2**53),
        st.none() | st.floats(0, 1e300), st.sampled_from(Quality), st.text(st.characters(codec="utf-8")),
    )
)  # fmt: skip
def test_a_reading_survives_the_way_there_and_back(reading):
    payload = topics.encode_reading(reading)
    strict(payload)
    found = topics.decode_reading(payload)
    assert isinstance(found.value, type(reading.value))
    if isinstance(reading.value, str):
        reading = Reading(reading.value.encode("utf-8", "replace").decode(), *(getattr(reading, n) for n in (
            "unit", "time", "bound", "uncertainty", "quality", "reason")))  # fmt: skip
    assert found == reading


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_value_that_is_no_number_is_published_as_unknown_and_bad(value):
    found = strict(topics.encode_reading(Reading(value, "Pa", TIME, 0, math.nan)))
    assert found["value"] is None
    assert found["quality"] == "bad"
    assert "nan" in found["reason"] or "inf" in found["reason"]
    assert found["uncertainty"] is None


def test_integers_that_javascript_would_round_travel_as_text():
    event = Event(TIME, "clock", "fpga", "anchored", {"ticks": 2**60, "few": 3, "big": np.int64(2**60)})
    assert strict(topics.encode_event(event, 1))["data"] == {"ticks": str(2**60), "few": 3, "big": str(2**60)}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.sampled_from(Quality),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
        max_leaves=10,
    )
)
def test_whatever_an_event_carries_the_payload_is_valid_json(data):
    event = Event(TIME, "note", "heater", "text", {"data": data, "array": np.array([1.0, math.nan])})
    payload = topics.encode_event(event, 7)
    assert strict(payload)["data"]["array"] == [1.0, None]
    found, number = topics.decode_event(payload)
    assert (found.time, found.kind, found.device, found.text, number) == (TIME, "note", "heater", "text", 7)


def test_a_signal_describes_itself_with_the_limits_that_hold_now():
    stage = Stage("heater")
    stage.setpoint.narrow(Limits(20.0, math.inf), "the holder")
    payload = descriptions.encode_description(descriptions.describe("em3", stage.setpoint))
    found = strict(payload)
    assert (found["unit"], found["ucum"], found["udunits"]) == ("degC", "Cel", "degC")
    assert found["limits"] == [20.0, None]
    assert found["capabilities"] == ["Thermometer"]
    assert found["identity"] == "soft stage 7, version 1.2"
    assert found["setpoint_of"] == "temperature"
    assert descriptions.decode_description(payload) == descriptions.describe("em3", stage.setpoint)


def test_a_signal_without_limits_has_none_and_one_with_choices_names_them():
    stage = Stage("heater")
    temperature, shutter = descriptions.describe("em3", stage.temperature), descriptions.describe("em3", stage.shutter)
    assert (temperature.limits, temperature.writable, temperature.period) == (None, False, 0.5)
    assert temperature.long_name == "Temperature of the sample"
    assert (shutter.limits, shutter.choices, shutter.long_name) == (None, ("open", "shut"), "shutter")
    assert descriptions.decode_description(descriptions.encode_description(shutter)) == shutter


@pytest.mark.parametrize("time", [TIME, None])
def test_the_states_of_lab_and_trip_survive_the_way_there_and_back(time):
    state = topics.LabState(time is not None, "0417", time, time is not None, Anchor(TIME, 12345678901234567, 40))
    assert topics.decode_state(topics.encode_state(state)) == state
    trip = topics.TripState(time is not None, TIME, "vacuum: gauge.pressure < 0.001 Pa failed")
    assert topics.decode_trip(topics.encode_trip(trip)) == trip
    assert isinstance(strict(topics.encode_state(state))["anchor"]["counter"], str)


@pytest.mark.parametrize("name", ["", "a/b", "a+b", "#", "$SYS", "a\0", "line\nfeed", "x" * 201])
def test_a_name_that_mqtt_cannot_carry_is_refused_and_the_message_says_which(name):
    with pytest.raises(ConfigError, match=r"device name .* can't be part of an MQTT topic; use letters"):
        topics.reading_topic("em3", name, "temperature")


@given(st.text(), st.text(), st.text())
def test_a_topic_is_either_refused_or_taken_apart_into_what_it_was_made_of(lab, device, signal):
    try:
        topic = topics.reading_topic(lab, device, signal)
    except ConfigError:
        return
    assert topics.source(topic) == (lab, device, signal)


@pytest.mark.parametrize(
    "topic",
    [
        topics.description_topic("em3", "heater", "temperature"),
        topics.state_topic("em3"),
        topics.trip_topic("em3"),
        topics.event_topic("em3", "set"),
    ],
)
def test_nothing_but_readings_can_reach_who_subscribes_readings(topic):
    assert topic.startswith("insitu-meta/")
    with pytest.raises(ProtocolError, match="no topic of a reading"):
        topics.source(topic)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"21.5",
        b"{",
        b"[]",
        b"\xff",
        b'{"schema":2}',
        b'{"schema":1,"value":1}',
        topics.encode_reading(Reading(1.0, "K", TIME, 0)).replace(str(TIME).encode(), b"noon"),
        topics.encode_reading(Reading(1.0, "K", TIME, 0)).replace(b"good", b"fair"),
    ],
)
def test_a_foreign_payload_is_refused_and_the_message_says_what_was_expected(payload):
    with pytest.raises(ProtocolError, match="a reading"):
        topics.decode_reading(payload)


DECODERS = {
    "insitu/": topics.decode_reading,
    "insitu-history/": topics.decode_reading,
    "insitu-meta/em3/outbox": topics.decode_outbox,
    "insitu-meta/em3/signals/": descriptions.decode_description,
    "insitu-meta/em3/devices/": decode_device,
    "insitu-meta/em3/state": topics.decode_state,
    "insitu-meta/em3/alarms/trip": topics.decode_trip,
    "insitu-meta/em3/alarms/": decode_alarm,
    "insitu-meta/em3/clocks/": clock_states.decode_clock,
    "insitu-meta/em3/streams/": decode_chunk,
    "insitu-meta/em3/detector/": decode_detector,
    "insitu-meta/em3/events/": topics.decode_event,
}


def test_the_payloads_of_the_reference_are_what_the_functions_take():
    reference = Path(__file__).parents[2] / "docs" / "reference" / "telemetry.md"
    topic, taken = "", set()
    for line in reference.read_text(encoding="utf-8").splitlines():
        if line.startswith("`insitu"):
            topic = line.strip("`")
        begin = next((begin for begin in DECODERS if topic.startswith(begin)), None)
        if line.startswith('{"schema"') and begin is not None:
            DECODERS[begin](line)  # raises if it is another shape
            taken.add(begin)
    assert taken == set(DECODERS)


def test_a_reading_sent_later_has_the_same_payload_and_says_so():
    payload = topics.encode_reading(Reading(21.5, "degC", TIME, 5))
    assert topics.history_topic(topics.reading_topic("em3", "heater", "power")) == "insitu-history/em3/heater/power"
    assert strict(topics.as_history(payload)) == strict(payload) | {"history": True}
    assert topics.decode_reading(topics.as_history(payload)) == topics.decode_reading(payload)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.floats().map(np.float64),
    st.integers(-(2**31), 2**31 - 1).map(np.int32),
)  # fmt: skip


@given(scalars, st.text(), st.text(), st.one_of(st.none(), st.floats(), st.floats().map(np.float64)))
def test_whatever_a_signal_holds_its_payload_is_what_the_json_library_makes_of_it(value, unit, reason, uncertainty):
    reading = Reading(value, unit, TIME, 5, uncertainty, Quality.UNCERTAIN, reason)
    found = strict(topics.encode_reading(reading))
    if isinstance(value, float) and not math.isfinite(value):
        value, reason, quality = None, reason or f"the value is {value}", "bad"
    else:
        quality = "uncertain"
    again = strict(encode({
        "value": value, "unit": unit, "time": str(TIME), "time_bound": 5, "uncertainty": uncertainty,
        "quality": quality, "reason": reason,
    }))  # fmt: skip
    assert found == again


known = st.floats(allow_nan=False, allow_infinity=False)
healths = st.builds(
    ClockHealth, usable=st.booleans(), reason=st.text(st.characters(codec="utf-8")), age=known,
    offset=st.integers(-(2**63), 2**63), rate_ppm=known, bound=st.integers(0, 2**63), sigma=known, residual=known,
    epoch=st.integers(0, 1000), exchanges=st.integers(0, 2**53),
)  # fmt: skip


@given(healths)
def test_the_state_of_a_clock_survives_the_way_there_and_back(health):
    state = clock_states.clock_state("board", health, "5e55", TIME)
    payload = clock_states.encode_clock(state)
    assert isinstance(strict(payload)["offset"], str)  # JavaScript would round it
    assert clock_states.decode_clock(payload) == state
    assert all(getattr(state, f.name) == getattr(health, f.name) for f in dataclasses.fields(health))


def test_what_is_not_known_of_a_clock_is_null():
    never = ExchangeClock(frequency=1e6, ppm=100.0, name="board").health(TIME)
    found = strict(clock_states.encode_clock(clock_states.clock_state("board", never, "5e55", TIME)))
    assert topics.clock_topic("em3", "board") == "insitu-meta/em3/clocks/board"
    assert not found["usable"]
    assert "board" in found["reason"]
    assert [found[name] for name in ("offset", "rate_ppm", "bound", "sigma", "residual", "age", "epoch")] == [None] * 7
