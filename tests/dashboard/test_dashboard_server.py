"""The page's server: by HTTPS on a real socket, and what it does with commands that come late."""

import asyncio
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time

import pytest

pytest.importorskip("nicegui")

from hal.cli.dashboard import _tls
from hal.dashboard.ear import Ear
from hal.dashboard.model import Board
from hal.dashboard.server import LATE, Dashboard, _command, serve
from hal.errors import ConfigError, HalError
from hal.telemetry.broker import parse_broker
from hal.telemetry.command_topics import Reply


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """A certificate that this machine signs for itself, as the how-to makes it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("papers")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj /CN=lab-pc"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    for name in ("page", "other"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-addext", names]
        subprocess.run(["openssl", *words.split(), *files], cwd=folder, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "pkey", "-in", "page.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    (folder / "text.pem").write_text("not a certificate")
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("page.pem", "other.key", "mismatch"),
        ("page.pem", "locked.key", "passphrase"),
        ("page.pem", None, "can't be used"),
        ("text.pem", "page.key", "can't be used"),
        ("none.pem", "page.key", "no such file"),
    ],
)
def test_papers_that_do_not_fit_are_told_before_anything_listens(papers, certificate, key, why):
    with pytest.raises(ConfigError, match=f"--certificate .*{why}"):
        _tls(papers / certificate, key and papers / key)


class Page:
    """A dashboard without a broker, and a browser that trusts its certificate."""

    def __init__(self, papers):
        self.told = asyncio.get_running_loop().create_future()
        dashboard = Dashboard(Board(), Ear(parse_broker("mqtt://127.0.0.1:1"), Board()))
        self.serving = asyncio.create_task(serve(
            dashboard, "127.0.0.1", 0, password="sesame", tls=_tls(papers / "page.pem", papers / "page.key"),
            ready=self.told.set_result,
        ))  # fmt: skip
        self.trust = ssl.create_default_context(cafile=papers / "page.pem")

    def get(self, method, path, body=None, cookie=""):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.trust, timeout=60)
        connection.request(method, path, body, {"cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("set-cookie") or "", answer.read()

    async def ask(self, *words, **more):
        return await asyncio.to_thread(self.get, *words, **more)


@pytest.mark.real_clock
async def test_with_a_certificate_password_and_page_go_by_https_only(papers):
    page = Page(papers)
    address = await page.told
    page.port = int(address.rpartition(":")[2])
    assert address.startswith("https://127.0.0.1:")
    assert (await page.ask("GET", "/"))[0] == 303
    status, cookie, _ = await page.ask("POST", "/login", b"password=sesame")
    assert (status, cookie.startswith("__Host-"), "Secure" in cookie) == (303, True, True)
    status, _, body = await page.ask("GET", "/", cookie=cookie.partition(";")[0])
    assert status == 200
    assert b"wall.js" in body
    with socket.create_connection(("127.0.0.1", page.port), 5) as plain:  # without TLS there is nothing to hear
        plain.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"HTTP" not in await asyncio.to_thread(plain.recv, 100)
    page.serving.cancel()
    await asyncio.gather(page.serving, return_exceptions=True)


class Lab:
    """An ear that a lab answers, and what it was told."""

    user = ""

    def __init__(self, answer):
        self.answer, self.told = answer, []

    async def command(self, lab, verb, command):
        self.told.append((lab, verb, command))
        if isinstance(self.answer, HalError):
            raise self.answer
        return self.answer


def shown(answer):
    """A dashboard of a lab that lets everybody stop and acknowledge."""
    board = Board()
    state = {"state": "online", "session": "s", "time": "1", "clean": True}
    alarm = {"active": True, "acknowledged": False, "severity": "alarm", "time": "7000000", "text": "hot"}
    rights = {"session": "s", "commands": True, "may": {"local": ["watch", "stop", "acknowledge"]}}
    for topic, content in (("state", state), ("rights", rights), ("alarms/hot", alarm)):
        board.feed(f"insitu-meta/em3/{topic}", json.dumps({"schema": 1} | content).encode(), 0.0)
    return Dashboard(board, Lab(answer))


async def test_a_stop_that_a_lost_network_brings_late_is_not_sent():
    dashboard = shown(Reply("1", True, "all safe", 1))
    now = time.monotonic()
    for pressed in (now - LATE - 1, now + LATE + 1):  # the second: of a clock that was there before
        said = await _command(dashboard, "stop", {"lab": "em3", "pressed": pressed * 1e3})
        assert not said["ok"]
        assert "NOT sent" in said["text"]
    assert dashboard.ear.told == []
    said = await _command(dashboard, "stop", {"lab": "em3", "pressed": now * 1e3})
    assert said == {"ok": True, "text": "em3: stop: all safe"}


async def test_an_alarm_that_came_anew_is_not_acknowledged_by_who_saw_the_old_one():
    dashboard = shown(Reply("1", True, "", 1))
    asked = {"lab": "em3", "pressed": time.monotonic() * 1e3, "alarm": "hot"}
    said = await _command(dashboard, "acknowledge", asked | {"time": 6.0})
    assert "has changed since" in said["text"]
    assert dashboard.ear.told == []
    assert (await _command(dashboard, "acknowledge", asked | {"time": 7.0}))["ok"]


async def test_who_may_not_is_refused_and_what_failed_is_told():
    dashboard = shown(HalError("em3: stop was NOT sent: no broker; go to the instruments"))
    asked = {"lab": "em3", "pressed": time.monotonic() * 1e3}
    assert "go to the instruments" in (await _command(dashboard, "stop", asked))["text"]
    dashboard.ear.user = "eve"
    assert "may not stop" in (await _command(dashboard, "stop", asked))["text"]
    assert len(dashboard.ear.told) == 1
