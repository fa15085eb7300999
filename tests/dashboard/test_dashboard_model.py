"""What a dashboard knows, from messages alone; and what it tells a browser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.dashboard.model import EVENTS, Board
from hal.dashboard.view import NEWEST, answer
from hal.dashboard.words import shown, shown_seconds

NOW = 1_764_000_000 * 10**9
SESSION = "s1"


def reading(value=21.5, time=NOW, quality="good", **more):
    return {
        "value": value, "unit": "degC", "time": str(time), "time_bound": 0, "uncertainty": 0.1, "quality": quality,
        "reason": "", **more,
    }  # fmt: skip


def described(signal="temperature", session=SESSION, **more):
    return {
        "lab": "em3", "device": "heater", "signal": signal, "long_name": signal, "unit": "degC", "dtype": "float",
        "kind": "hinted", "setpoint_of": "", "period": 1.0, "varies": "smoothly", "capabilities": ["Heater"],
        "vendor": "Nobody", "model": "Stage", "session": session, **more,
    }  # fmt: skip


class Broker:
    """Says things to a board."""

    def __init__(self):
        self.board = Board()

    def say(self, topic, content, came=100.0):
        self.board.feed(topic, json.dumps({"schema": 1} | content).encode() if content else b"", came)

    def state(self, state="online", clean=True, session=SESSION):
        self.say("insitu-meta/em3/state", {"state": state, "session": session, "time": str(NOW), "clean": clean})

    def read(self, came=100.0, tree="insitu", signal="temperature", **fields):
        self.say(f"{tree}/em3/heater/{signal}", reading(**fields), came)

    def ask(self, now=100.0, user="", wall=NOW / 1e9, **asked):
        self.board.look(now)
        return answer(self.board, self.board.labs["em3"], user, asked, now, wall)


@pytest.fixture
def broker():
    broker = Broker()
    broker.state()
    broker.say("insitu-meta/em3/signals/heater/temperature", described())
    broker.read()
    return broker


def test_the_last_will_is_death_and_a_goodbye_is_not(broker):
    assert broker.ask()["header"]["state"] == "online"
    broker.state("offline", clean=False)
    assert broker.ask()["header"]["state"] == "dead"
    broker.state("offline", clean=True)
    assert broker.ask()["header"]["state"] == "offline"


def test_a_text_is_offered_for_no_plot_though_it_was_once_unknown(broker):
    broker.say("insitu-meta/em3/signals/heater/mode", described("mode", dtype="str"))
    for value in (None, "ramp"):
        broker.read(signal="mode", value=value)
    (signals,) = (device["signals"] for device in broker.ask()["layout"])
    assert {s["name"]: s["number"] for s in signals} == {"temperature": True, "mode": False}


def test_a_signal_is_silent_after_three_periods_and_speaks_again_with_the_next_reading(broker):
    assert broker.ask(now=102.9)["cells"]["heater.temperature"]["quality"] == "good"
    broker.read(came=103.0)
    assert broker.ask(now=105.9)["cells"]["heater.temperature"]["quality"] == "good"
    since = broker.ask(now=105.9)["revision"]
    found = broker.ask(now=106.1, since=since)
    assert found["cells"]["heater.temperature"]["quality"] == "silent"  # told although nothing came
    broker.read(came=107.0, time=NOW + 10**9)
    assert broker.ask(now=107.1)["cells"]["heater.temperature"]["quality"] == "good"


def test_what_is_silent_says_since_when(broker):
    found = broker.ask(now=130.0)
    told = found["cells"]["heater.temperature"]
    assert (told["text"], told["quality"]) == ("21.50", "silent")
    assert found["now"] - told["heard"] == pytest.approx(30_000)  # ms
    broker.read(came=131.0, time=NOW + 10**9)
    assert broker.ask(now=131.1)["cells"]["heater.temperature"]["heard"] is None


def test_small_curves_go_on_where_the_browser_has_stopped(broker):
    second = NOW // 10**9
    for t in range(-10, 0):
        broker.read(value=float(t), time=NOW + t * 10**9)
    first = broker.ask(sparks=0)["sparks"]
    assert first["points"]["heater.temperature"] == [[second + t, t] for t in range(-10, 0)] + [[second, 21.5]]
    broker.read(value=3.0, time=NOW + 10**9)
    broker.read(value=5.0, time=NOW + 10**9 + 1)
    assert broker.ask(sparks=second)["sparks"] == {
        "from": second - 1, "points": {"heater.temperature": [[second - 1, -1.0], [second, 21.5], [second + 1, 4.0]]},
    }  # fmt: skip
    assert "sparks" not in broker.ask(sparks=None)


def test_a_trip_is_not_lost_among_the_safe_states_that_follow_it(broker):
    for number, kind in enumerate(["trip", *["operation"] * 20]):
        broker.say(f"insitu-meta/em3/events/{kind}", {
            "number": number, "time": str(NOW + number), "kind": kind, "device": "", "text": str(number), "data": {},
        })  # fmt: skip
    shown = broker.ask()["header"]["events"]
    assert [e["text"] for e in shown] == [*(str(n) for n in range(20, 20 - NEWEST, -1)), "0"]


def test_a_heartbeat_slower_than_the_period_is_no_silence(broker):
    broker.say("insitu-meta/em3/signals/heater/temperature", described(interval=10.0))
    assert broker.ask(now=125.0)["cells"]["heater.temperature"]["quality"] == "good"
    assert broker.ask(now=131.0)["cells"]["heater.temperature"]["quality"] == "silent"


def test_history_fills_the_plot_in_order_of_time_and_never_shows_as_now(broker):
    before = broker.ask(plots=["heater.temperature"], span=60)["curves"]["heater.temperature"]
    for second in (30, 10, 20):
        broker.read(tree="insitu-history", value=float(second), time=NOW - second * 10**9, history=True)
    found = broker.ask(plots=["heater.temperature"], span=60, have={"heater.temperature": before | {"last": NOW / 1e6}})
    curve = found["curves"]["heater.temperature"]
    assert not curve["more"]  # drawn anew: the old ones come before what was drawn
    assert [p[1] for p in curve["points"] if p[1] is not None] == [30.0, 20.0, 10.0, 21.5]
    assert found["cells"]["heater.temperature"]["text"] == "21.50"


def test_a_page_that_has_drawn_gets_only_what_is_new(broker):
    first = broker.ask(plots=["heater.temperature"])
    have = {"heater.temperature": {**first["curves"]["heater.temperature"], "last": NOW / 1e6}}
    broker.read(value=22.0, time=NOW + 10**8)
    broker.say("insitu-meta/em3/signals/heater/power", described("power"))
    broker.read(signal="power", value=3.0)
    now = broker.ask(since=first["revision"])["revision"]
    broker.read(value=23.0, time=NOW + 2 * 10**8)
    found = broker.ask(since=now, plots=["heater.temperature"], have=have)
    assert list(found["cells"]) == ["heater.temperature"]
    assert "header" not in found
    assert "layout" not in found
    curve = found["curves"]["heater.temperature"]
    assert curve["more"]
    assert [p[1] for p in curve["points"]] == [21.5, 22.0, 23.0]  # the last drawn again, then the new ones


def test_a_spike_that_the_lab_decimated_widens_the_band(broker):
    broker.read(value=20.0, time=NOW + 10**8, min=19.0, mean=25.0, max=95.0, count=10)
    points = broker.ask(plots=["heater.temperature"])["curves"]["heater.temperature"]["points"]
    assert points[-1][2:] == [pytest.approx(18.8), pytest.approx(95.2)]


def test_what_an_earlier_session_left_behind_on_the_broker_is_not_shown(broker):
    broker.say("insitu-meta/em3/signals/oven/temperature", described(session="old"))
    broker.say("insitu-meta/em3/rights", {"session": "old", "commands": True, "may": {"anna": ["stop"]}})
    found = broker.ask(user="anna")
    assert [device["name"] for device in found["layout"]] == ["heater"]
    assert found["header"]["may"] == []


def test_a_lab_that_starts_again_without_a_device_shows_it_no_more(broker):
    broker.say("insitu-meta/em3/signals/oven/temperature", {**described(), "device": "oven"})
    broker.say("insitu/em3/oven/temperature", reading())
    assert [device["name"] for device in broker.ask()["layout"]] == ["heater", "oven"]
    broker.say("insitu-meta/em3/signals/heater/temperature", described(session="s2"))
    broker.state(session="s2")
    assert [device["name"] for device in broker.ask()["layout"]] == ["heater"]


def test_stop_is_there_only_for_whom_the_lab_grants_it(broker):
    may = {"anna": ["watch", "stop", "acknowledge"], "ben": ["watch"]}
    broker.say("insitu-meta/em3/rights", {"session": SESSION, "commands": True, "may": may})
    assert broker.ask(user="anna")["header"]["may"] == ["stop", "acknowledge"]
    assert broker.ask(user="ben")["header"]["may"] == broker.ask(user="")["header"]["may"] == []
    broker.say("insitu-meta/em3/rights", {"session": SESSION, "commands": True, "may": {"local": ["stop"]}})
    assert broker.ask(user="")["header"]["may"] == ["stop"]


def test_an_alarm_stays_until_it_is_over_and_acknowledged(broker):
    def alarm(active, acknowledged):
        broker.say(
            "insitu-meta/em3/alarms/trip",
            {"active": active, "acknowledged": acknowledged, "severity": "trip", "time": str(NOW), "text": "hot"},
        )
        return [(a["name"], a["acknowledged"]) for a in broker.ask()["header"]["alarms"]]

    assert alarm(True, False) == [("trip", False)]
    assert alarm(False, False) == [("trip", False)]
    assert alarm(True, True) == [("trip", True)]
    assert alarm(False, True) == []


def test_an_alarm_that_an_earlier_session_left_behind_is_not_of_now(broker):
    def alarm(name, session):
        content = {"active": True, "acknowledged": False, "severity": "alarm", "time": str(NOW), "text": "gone"}
        broker.say(f"insitu-meta/em3/alarms/{name}", content | session)

    alarm("link-of-yesterday", {"session": "s0"})
    alarm("link-gauge", {"session": SESSION})
    alarm("by an older lab", {})
    assert {a["name"] for a in broker.ask()["header"]["alarms"]} == {"link-gauge", "by an older lab"}
    broker.state("offline", clean=False)  # it is dead, and its alarms are what it died with
    assert "link-gauge" in {a["name"] for a in broker.ask()["header"]["alarms"]}
    broker.state(session="s2")
    assert {a["name"] for a in broker.ask()["header"]["alarms"]} == {"by an older lab"}


def test_of_two_labs_of_one_name_it_says_so_and_hides_neither_alarms_nor_stop_until_one_has_left(broker):
    broker.say("insitu-meta/em3/rights", {"session": SESSION, "may": {"local": ["stop"]}})
    broker.say(
        "insitu-meta/em3/alarms/trip",
        {"active": True, "acknowledged": False, "time": str(NOW), "text": "hot", "by": "", "session": SESSION},
    )
    for session, twins in (("s2", False), (SESSION, True), ("s2", True)):  # they hear each other, and answer
        broker.state(session=session)
        assert broker.ask()["header"]["twins"] is twins
    found = broker.ask()["header"]
    assert (found["may"], [a["text"] for a in found["alarms"]]) == (["stop"], ["hot"])
    broker.state("offline", session=SESSION)
    broker.state(session="s2")
    found = broker.ask()["header"]
    assert (found["twins"], found["state"], found["may"], found["alarms"]) == (False, "online", [], [])


def test_the_late_will_of_a_killed_session_makes_no_twins(broker):
    broker.state(session="s2")
    broker.state("offline", clean=False)
    broker.state(session="s2")
    found = broker.ask()["header"]
    assert (found["twins"], found["state"]) == (False, "online")


def test_a_setpoint_shows_at_its_readback(broker):
    broker.say(
        "insitu-meta/em3/signals/heater/setpoint", described("setpoint", kind="config", setpoint_of="temperature")
    )
    event = {"number": 1, "time": str(NOW), "kind": "set", "device": "heater", "data": {"value": 300.0}}
    broker.say("insitu-meta/em3/events/set", event | {"text": "heater.setpoint = 300.0 degC"})
    assert broker.ask()["cells"]["heater.temperature"]["to"] == "300 °C"
    assert "heater.setpoint" not in broker.ask()["cells"]


def test_an_event_delivered_twice_is_shown_once_and_only_the_last_are_kept(broker):
    for number in range(2 * EVENTS):
        event = {"number": number, "time": str(NOW + number), "kind": "note", "device": "", "text": str(number)}
        for _ in range(2):
            broker.say("insitu-meta/em3/events/note", event | {"data": {}})
    texts = [e["text"] for e in broker.ask()["header"]["events"]]
    assert texts == [str(2 * EVENTS - 1 - i) for i in range(NEWEST)]


def test_a_camera_that_says_nothing_any_more_is_idle(broker):
    broker.say(
        "insitu-meta/em3/detector/camera",
        {"time": str(NOW), "rate": 1000.04, "frames": 12345, "dropped": 3, "matched": 0.95, "bound_ns": 800},
    )  # fmt: skip
    (filming,) = broker.ask(now=101.0)["header"]["detectors"]
    shown = [filming[key] for key in ("rate", "frames", "lost", "sync", "matched", "bound")]
    assert shown == ["1000.0", "12 345", True, "uncertain", "95 %", "± 800 ns"]
    (idle,) = broker.ask(now=110.0)["header"]["detectors"]
    assert (idle["rate"], idle["sync"]) == ("–", "idle")


def test_a_stream_is_drawn_sample_by_sample(broker):
    broker.say(
        "insitu-meta/em3/streams/board/adc0",
        {"device": "board", "name": "adc0", "unit": "V", "time": str(NOW), "time_bound": 9, "step": 0.001,
         "values": [0.1, 0.2, None, 0.4], "dropped": 0},
    )  # fmt: skip
    points = broker.ask(plots=["board.adc0"])["curves"]["board.adc0"]["points"]
    assert [p[1] for p in points] == [0.1, 0.2, None, 0.4]
    assert points[-1][0] - points[0][0] == pytest.approx(3.0)  # ms


def test_the_clock_of_the_lab_is_judged_by_the_quickest_message(broker):
    for delay in (0.9, -0.05, 0.4):
        broker.read(came=100 + delay)
    assert broker.ask(wall=NOW / 1e9 - 60)["ahead"] == pytest.approx(60, abs=0.06)
    assert broker.ask(wall=NOW / 1e9 - 1)["ahead"] == 0  # it may be the network


def test_a_clock_of_this_machine_that_is_set_moves_no_plot_and_calls_nothing_late(broker):
    before = broker.ask()
    broker.read(came=100.5, time=NOW + 5 * 10**8)
    after = broker.ask(now=100.5, wall=NOW / 1e9 + 3600)
    assert (after["now"] - before["now"], after["behind"]) == (500, 0)
    assert after["ahead"] == pytest.approx(-3600, abs=1)  # it is said all the same


def test_a_lab_whose_clock_is_set_back_is_followed_though_nobody_says_so(broker):
    broker.ask()
    for second in range(30):
        broker.read(came=101 + second, time=NOW + (second - 3600) * 10**9)
        told = broker.ask(now=101 + second)
        assert (told["behind"] == 0) == (second > 10)
    assert told["now"] == pytest.approx(NOW / 1e6 + (29 - 3600) * 1e3)


def test_one_reading_from_the_future_does_not_empty_the_plots_for_good(broker):
    broker.read(time=NOW + 10**18)
    for second in range(30):
        broker.read(came=101 + second, time=NOW + second * 10**9)
        told = broker.ask(now=101 + second, plots=["heater.temperature"])
    assert [p[1] for p in told["curves"]["heater.temperature"]["points"]][-1] == 21.5


def test_what_is_not_understood_is_counted_and_said(broker):
    broker.say("insitu/em3/heater/temperature", {"value": 3})
    broker.say("insitu/em3/nobody/knows", {"text": "no reading"})
    found = broker.ask()
    assert "2 not understood, the last: insitu/em3/nobody/knows" in found["header"]["unreadable"]
    assert [device["name"] for device in found["layout"]] == ["heater"]


def test_a_dashboard_that_cannot_keep_up_says_how_late_it_is(broker):
    assert broker.ask()["behind"] == 0
    broker.read(came=107.0)
    assert broker.ask(now=107.0)["behind"] == 7


WHOLE = {
    "insitu/em3/heater/power": reading(min=1.0, max=2.0),
    "insitu-history/em3/heater/power": reading(min=1.0, max=2.0),
    "insitu-meta/em3/state": {"state": "online", "session": SESSION, "time": str(NOW), "clean": True},
    "insitu-meta/em3/signals/heater/power": described("power", limits=[0, 1], interval=1.0, choices=["a"]),
    "insitu-meta/em3/devices/heater": {"state": "lost", "reason": "gone", "session": SESSION},
    "insitu-meta/em3/alarms/trip": {
        "active": True, "acknowledged": False, "severity": "trip", "time": str(NOW), "text": "hot", "by": "",
    },
    "insitu-meta/em3/events/set": {
        "number": 1, "time": str(NOW), "kind": "set", "device": "heater", "text": "heater.power = 3.0 W",
        "data": {"value": 3.0},
    },
    "insitu-meta/em3/streams/board/adc0": {"unit": "V", "time": str(NOW), "step": 0.1, "values": [1, 2], "dropped": 0},
    "insitu-meta/em3/detector/camera": {"rate": 1.0, "frames": 2, "dropped": 0, "matched": 0.5, "bound_ns": 5},
    "insitu-meta/em3/clocks/board": {
        "session": SESSION, "usable": True, "reason": "", "bound": 5, "sigma": 1.0, "rate_ppm": 0.1,
    },
    "insitu-meta/em3/outbox": {"waiting": 1, "full": True, "reason": "full", "dropped_size": 0},
    "insitu-meta/em3/rights": {"session": SESSION, "may": {"local": ["stop"]}},
}  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, -(2**63) - 1, 2**64, "\ud800", "9" * 30, 1e300, "x" * 500]),
    lambda more: st.lists(more, max_size=2) | st.dictionaries(st.text(max_size=3), more, max_size=2),
    max_leaves=4,
)  # fmt: skip


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_no_message_whatever_stops_the_board_or_the_page(topic, data):
    orjson = pytest.importorskip("orjson")  # what goes to the browser goes through it
    broker = Broker()
    broker.state()
    content = {"schema": 1} | WHOLE[topic]
    for field in data.draw(st.lists(st.sampled_from(sorted(content)), max_size=3)):
        content[field] = data.draw(anything)
    broker.board.feed(topic, json.dumps(content).encode(), 100.0)
    broker.read()
    found = broker.ask(plots=["heater.temperature", "heater.power", "board.adc0"], sparks=0)
    orjson.dumps(found)
    json.dumps(found, allow_nan=False)
    assert found["cells"]["heater.temperature"]["text"] == "21.50"


@given(st.binary(max_size=40))
def test_what_is_no_json_is_counted(payload):
    board = Board()
    board.feed("insitu/em3/heater/temperature", payload, 100.0)
    assert board.unreadable == 1


@pytest.mark.parametrize(
    ("value", "uncertainty", "unit", "printed"),
    [
        (598.312, 0.4, "degC", "598.3 ± 0.4 °C"),
        (598.312, 0.14, "degC", "598.31 ± 0.14 °C"),
        (1.9923e-5, 1e-7, "Pa", "1.992×10⁻⁵ ± 0.010×10⁻⁵ Pa"),
        (-1.83e-5, 2e-6, "V", "−18.3 ± 2.0 µV"),
        (0.0, 1e-10, "A", "0 ± 100 pA"),
        (-0.0001, 0.5, "degC", "0.0 ± 0.5 °C"),
        (180.0, None, "degC", "180 °C"),
        (1013.25, None, "hPa", "1013.2 hPa"),
        (12345, None, "", "12 345"),
        (True, None, "", "yes"),
        ("open", None, "", "open"),
        (None, 0.1, "degC", "– °C"),
    ],
)
def test_a_value_has_as_many_digits_as_its_uncertainty_has_meaning(value, uncertainty, unit, printed):
    text, sigma, shown_unit = shown(value, uncertainty, unit)
    assert " ".join(filter(None, [text, sigma and f"± {sigma}", shown_unit])) == printed


def test_times_are_said_with_few_digits():
    said = [shown_seconds(s) for s in (3.12e-7, 1.2e-5, 0.0083, 60.26, 200.0, 7260.0, None)]
    assert said == ["312 ns", "12 µs", "8.3 ms", "60.3 s", "3 min 20 s", "2 h 01 min", "–"]
