"""The lab's own broker: starts on loopback only, ends with the lab even when that is killed."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from hal.errors import ConfigError
from hal.telemetry import broker as module
from hal.telemetry.broker import EmbeddedBroker, parse_broker

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


def falls_silent(port, within=10.0):
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
