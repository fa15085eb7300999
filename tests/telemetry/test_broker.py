"""The lab's own broker: starts on loopback only, ends with the lab even when that is killed."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from hal.errors import ConfigError
from hal.telemetry import broker as module
from hal.telemetry.broker import BrokerUrl, EmbeddedBroker, is_loopback, parse_broker
from hal.telemetry.broker_users import BrokerUser, access_file, password_file

pytestmark = pytest.mark.real_clock


@pytest.fixture(params=["mosquitto", "amqtt"])
def program(request):
    there = importlib.util.find_spec("amqtt") if request.param == "amqtt" else module.shutil.which("mosquitto")
    if not there:
        if os.environ.get("CI") == "true":
            pytest.fail(f"this test needs {request.param}, and CI must have it")
        pytest.skip(f"needs {request.param}")
    return request.param


def answers(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 1.0).close()
    except OSError:
        return False
    return True


def falls_silent(port, within=60.0):
    end = time.monotonic() + within
    while answers(port):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_it_runs_on_loopback_only_and_ends_when_closed(program):
    broker = EmbeddedBroker(program=program)
    broker.open()
    try:
        assert answers(broker.port)
        own = socket.gethostbyname(socket.gethostname())
        assert own.startswith("127.") or not answers(broker.port, own)
    finally:
        broker.close()
    assert not broker.alive
    assert not answers(broker.port)


LAB = """
import sys, time
from hal.telemetry.broker import EmbeddedBroker
broker = EmbeddedBroker(program=sys.argv[1])
broker.open()
print(broker.port, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_a_lab_that_is_killed(program, how):
    with subprocess.Popen([sys.executable, "-c", LAB, program], stdout=subprocess.PIPE, text=True) as lab:
        port = int(lab.stdout.readline())
        assert answers(port)
        lab.send_signal(how)
    assert falls_silent(port)


def test_it_ends_although_another_child_of_the_lab_holds_its_pipe(program):
    forked = LAB.replace("print(", "import os\nif os.fork() == 0: time.sleep(30); os._exit(0)\nprint(")
    with subprocess.Popen(
        [sys.executable, "-c", forked, program], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as lab:
        port = int(lab.stdout.readline())
        lab.kill()
        silent = falls_silent(port)
        os.killpg(lab.pid, signal.SIGKILL)
    assert silent


def test_ctrl_c_in_the_terminal_leaves_it_to_the_lab_to_end_it(program):
    broker = EmbeddedBroker(program=program)
    broker.open()
    try:
        assert os.getpgid(broker._process.pid) != os.getpgid(0)  # a terminal signals its whole group
        os.kill(broker._process.pid, signal.SIGINT)
        time.sleep(0.3)
        assert answers(broker.port)
    finally:
        broker.close()


def test_a_port_in_use_is_refused_with_the_remedy(program):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f'port {port} is in use.*write "embedded:" for a free port'):
            EmbeddedBroker(port, program=program).open()


def test_a_subscriber_that_stalls_for_a_moment_has_no_holes(program):
    """1000 messages are what mosquitto keeps for it unless told otherwise."""
    broker = EmbeddedBroker(program=program)
    broker.open()
    heard, stalled = [], paho.Client(CallbackAPIVersion.VERSION2)
    stalled.on_message = lambda _client, _data, message: heard.append(int(message.payload))
    speaker = paho.Client(CallbackAPIVersion.VERSION2)
    speaker.max_inflight_messages_set(3000)
    try:
        stalled.on_connect = lambda client, *_: client.subscribe("insitu/#", 1)
        stalled.on_subscribe = lambda *_: heard.append("subscribed")
        stalled.connect("127.0.0.1", broker.port)
        while not heard:
            stalled.loop(0.1)
        heard.clear()
        speaker.connect("127.0.0.1", broker.port)
        speaker.loop_start()
        sent = [speaker.publish("insitu/em3/heater/temperature", b"%d" % number, 1) for number in range(2000)]
        for one in sent:
            one.wait_for_publish(60)
        end = time.monotonic() + 60
        while len(heard) < 2000 and time.monotonic() < end:
            stalled.loop(0.1)
        assert heard == list(range(2000))
    finally:
        speaker.disconnect()
        speaker.loop_stop()
        stalled.disconnect()
        broker.close()


def test_it_comes_back_on_its_port(program):
    broker = EmbeddedBroker(program=program)
    broker.open()
    port = broker.port
    os.killpg(broker._process.pid, signal.SIGKILL)
    broker._process.wait()
    assert not broker.alive
    try:
        assert falls_silent(port)
        broker.open()
        assert broker.port == port
        assert answers(port)
    finally:
        broker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_it_ends_with_its_keeper(program):
    broker = EmbeddedBroker(program=program)
    broker.open()
    broker._process.kill()
    assert falls_silent(broker.port)
    broker.close()


def test_where_neither_program_is_installed_the_message_names_both(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"install mosquitto .* or amqtt \(pip install \"insitu-hal\[broker\]\"\)"):
        EmbeddedBroker()


def test_without_mosquitto_amqtt_takes_its_place(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert EmbeddedBroker().program == "amqtt"


def test_a_broker_that_does_not_start_says_why(tmp_path):
    broker = EmbeddedBroker(program="amqtt")
    broker._path = str(tmp_path / "no such program")
    with pytest.raises(ConfigError, match=r"did not start: [\s\S]*no such program"):
        broker.open()
    assert not broker.alive


@pytest.mark.parametrize(
    ("text", "host", "port", "tls", "embedded", "username", "password"),
    [
        ("mqtt://localhost", "localhost", 1883, False, False, None, None),
        ("mqtt://10.0.3.2:1884/", "10.0.3.2", 1884, False, False, None, None),
        ("mqtts://ada:p%40ss@broker.lab", "broker.lab", 8883, True, False, "ada", "p@ss"),
        ("mqtt://[fe80::1]:1883", "fe80::1", 1883, False, False, None, None),
        ("embedded:", "127.0.0.1", 0, False, True, None, None),
        ("embedded:1883", "127.0.0.1", 1883, False, True, None, None),
    ],
)
def test_the_url_of_a_broker_is_understood(text, host, port, tls, embedded, username, password):
    found = parse_broker(text)
    assert (found.host, found.port, found.tls, found.embedded) == (host, port, tls, embedded)
    assert (found.username, found.password) == (username, password)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "http://localhost",
        "mqtt://",
        "mqtt://h:99999",
        "mqtt://h/topic",
        "embedded:x",
        "embedded:70000",
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_with_examples(text):
    with pytest.raises(ConfigError, match=r"can't be understood; write \"mqtt://host\""):
        parse_broker(text)


def test_no_message_and_no_repr_shows_the_password():
    found = parse_broker("mqtts://ada:secret@broker.lab")
    assert "secret" not in f"{found} {found!r}"
    with pytest.raises(ConfigError) as refused:
        parse_broker("http://ada:secret@broker.lab")
    assert "secret" not in str(refused.value)


# ---------------------------------------------------------------------- users

ANNA = BrokerUser("anna", "anna's word: äöü", ("watch", "stop"))


@pytest.fixture
def guarded():
    if not module.shutil.which("mosquitto"):
        pytest.skip("needs mosquitto")
    broker = EmbeddedBroker(users=(ANNA,), listen="0.0.0.0", lab="em3")
    broker.open()
    yield broker
    broker.close()


def admitted(host, port, user=None, password=None):
    """What the broker says to somebody who comes: 0 is welcome (MQTT 3.1.1, 3.2.2.3)."""
    said = []
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda _c, _d, _f, reason, _p: said.append(str(reason))
    if user is not None:
        client.username_pw_set(user, password)
    client.connect(host, port)
    end = time.monotonic() + 60
    while not said and time.monotonic() < end:
        client.loop(0.1)
    client.disconnect()
    return said[0]


def test_with_users_nobody_else_comes_in_from_anywhere(guarded):
    places = {"127.0.0.1", socket.gethostbyname(socket.gethostname())}
    for place in places:
        assert admitted(place, guarded.port, "anna", "anna's word: äöü") == "Success"
        for user, password in [("anna", "guessed"), ("anna", ""), ("ben", "anna's word: äöü"), (None, None)]:
            assert admitted(place, guarded.port, user, password) == "Not authorized"
    assert admitted("127.0.0.1", guarded.port, guarded.url.username, guarded.url.password) == "Success"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nobody_else_can_read_the_files_and_no_command_line_tells_a_password(guarded):
    keeper = guarded._process.pid
    [child] = [int(p) for p in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()]
    words = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (keeper, child)]
    folder = Path(words[1].split(b"\0")[2].decode()).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("passwords", "acl"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    everything = b"".join([*words, *(path.read_bytes() for path in folder.iterdir())]).decode()
    assert ANNA.password not in everything
    assert guarded.url.password not in everything
    guarded.close()
    assert not folder.exists()


def test_the_network_is_not_let_in_without_users():
    with pytest.raises(
        ConfigError, match=r"listen = '0\.0\.0\.0' lets the network in; name \[telemetry\.users\] first"
    ):
        EmbeddedBroker(listen="0.0.0.0")


def test_amqtt_does_not_keep_users_apart_and_says_so():
    if not importlib.util.find_spec("amqtt"):
        pytest.skip("needs amqtt")
    with pytest.raises(ConfigError, match=r"only mosquitto keeps users apart, and it is not installed; install it"):
        EmbeddedBroker(program="amqtt", users=(ANNA,))


def test_an_address_that_is_not_this_machines_is_told():
    with pytest.raises(ConfigError, match=r"listen = '192\.0\.2\.1' is no address of this machine"):
        EmbeddedBroker(listen="192.0.2.1", users=(ANNA,), program="mosquitto").open()


def test_the_same_password_is_never_written_the_same_twice():
    one, other = (password_file([ANNA]) for _ in range(2))
    assert one != other
    assert one.startswith("anna:$7$101$")


def test_who_may_not_stop_has_no_line_that_lets_her():
    granted = access_file("em3", [BrokerUser("eve", "x", ("watch",)), ANNA], "hal").split("user anna")
    assert "commands/eve" not in granted[0]
    assert "topic write insitu-meta/em3/commands/anna/stop" in granted[1]
    assert "set" not in granted[1]


def test_no_repr_shows_a_users_password():
    url = BrokerUrl("127.0.0.1", 0, embedded=True, users=(ANNA,))
    assert "word" not in f"{url!r} {url} {ANNA!r}"


@pytest.mark.parametrize(
    ("host", "there"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("em3", False)],
)
def test_loopback_is_known_by_name_and_number(host, there):
    assert is_loopback(host) is there
