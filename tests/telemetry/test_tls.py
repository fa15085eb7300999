"""A broker with TLS and passwords, as a facility runs it: openssl makes the certificates, good and bad."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import toy
from toy import in_memory

from hal import Lab
from hal.errors import ConfigError
from hal.telemetry import broker_users, command_listener, sender
from hal.telemetry.broker_users import BrokerUser

__all__ = ["in_memory"]

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.usefixtures("in_memory"),
    pytest.mark.needs_tool("mosquitto", "openssl"),
]

P256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """Whoever signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._openssl("req", "-x509", *P256, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")

    def sign(self, subject: str, *, days: int = 2, names: str = "DNS:localhost,IP:127.0.0.1") -> None:
        """Leave ``subject.pem`` and ``subject.key`` in the folder."""
        self._openssl(
            "req", *P256, "-keyout", f"{subject}.key", "-out", f"{subject}.csr", "-subj", f"/CN={subject}",
            "-addext", f"subjectAltName={names}",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{subject}.csr", "-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key",
            "-CAcreateserial", "-out", f"{subject}.pem", "-days", str(days), "-copy_extensions", "copy",
        )  # fmt: skip

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All certificates of this file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("papers")
    facility, stranger = Authority(folder, "facility"), Authority(folder, "stranger")
    facility.sign("broker")
    facility.sign("expired", days=-1)
    facility.sign("elsewhere", names="DNS:broker.elsewhere")
    facility.sign("lab")
    facility.sign("lab_expired", days=-1)
    stranger.sign("lab_of_stranger")
    return folder


Start = Callable[..., int]


@pytest.fixture
def start(papers: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a mosquitto with a certificate; returns its port."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(certificate: str = "broker", *, asks: bool = False) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        users = [BrokerUser("hal", "the lab's word", ())]
        anna = BrokerUser("anna", "anna's word", ("watch", "stop"))
        (tmp_path / "passwords").write_text(broker_users.password_file([*users, anna]))
        (tmp_path / "acl").write_text(broker_users.access_file("toys", [anna], "hal"))
        for name in ("passwords", "acl"):
            (tmp_path / name).chmod(0o600)
        lines = [
            f"listener {port} 127.0.0.1", f"certfile {papers / certificate}.pem", f"keyfile {papers / certificate}.key",
            f"cafile {papers / 'facility.pem'}", f"require_certificate {'true' if asks else 'false'}",
            "allow_anonymous false", f"password_file {tmp_path / 'passwords'}", f"acl_file {tmp_path / 'acl'}",
        ]  # fmt: skip
        if os.geteuid() == 0:
            lines.append(f"user {getpass.getuser()}")
        (tmp_path / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        running.append(
            subprocess.Popen(["mosquitto", "-c", str(tmp_path / "mosquitto.conf")], stderr=subprocess.DEVNULL)
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                return port
            time.sleep(0.02)
        raise AssertionError("mosquitto did not start")

    yield begin
    for process in running:
        process.terminate()
        process.wait()


def lab_file(folder: Path, port: int, papers: Path, *more: str, host: str = "localhost", ca: str = "facility") -> Path:
    return toy.write_lab(
        folder, "[telemetry]", f'broker = "mqtts://{host}:{port}"', 'user = "hal"', 'password = "env:HAL_MQTT"',
        f'ca = "{papers / ca}.pem"', *more,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAL_MQTT", "the lab's word")
    # paho does not tell when a broker refuses our certificate: the time for an answer has to run out first.
    monkeypatch.setattr(sender, "PATIENCE", 1.0)
    monkeypatch.setattr(sender, "BACKOFF", (0.05, 0.1))
    monkeypatch.setattr(command_listener, "BACKOFF", (0.05, 0.1))


async def said(path: Path) -> list[str]:
    """What a lab says of its broker while it goes on with its work."""
    async with Lab.open(path) as lab:

        def links() -> list[str]:
            return [e.text for e in lab.context.journal.recent if e.device == "telemetry" and e.kind == "link"]

        await toy.eventually(links)
        assert (await lab.signal("heater.temperature").read()).value is not None
        await asyncio.sleep(0.4)  # it tries again, and says nothing new
        return links()


async def test_readings_and_commands_pass_by_tls_with_a_certificate_of_ones_own(
    start: Start, papers: Path, tmp_path: Path
) -> None:
    port = start(asks=True)
    path = lab_file(
        tmp_path, port, papers, f'certificate = "{papers / "lab.pem"}"', f'key = "{papers / "lab.key"}"',
        "[telemetry.users.anna]", 'may = ["watch", "stop"]', "[telemetry.commands]",
    )  # fmt: skip
    lab = await Lab.connect(path)
    try:
        tls = aiomqtt.TLSParameters(
            ca_certs=str(papers / "facility.pem"), certfile=str(papers / "lab.pem"), keyfile=str(papers / "lab.key")
        )
        async with (
            aiomqtt.Client("localhost", port, username="anna", password="anna's word", tls_params=tls) as anna,
            asyncio.timeout(60),
        ):
            await anna.subscribe("insitu/toys/heater/temperature")
            await anna.subscribe("insitu-meta/toys/replies/anna")
            await toy.eventually(lambda: lab.commands is not None and lab.commands.connected)
            await anna.publish("insitu-meta/toys/commands/anna/stop", b'{"schema":1,"id":"s"}', qos=1)
            heard: dict[str, Any] = {}
            async for message in anna.messages:
                heard[str(message.topic)] = json.loads(message.payload)
                if len(heard) == 2:
                    break
        assert heard["insitu-meta/toys/replies/anna"]["ok"]
        assert heard["insitu/toys/heater/temperature"]["unit"] == "degC"
        assert lab.trip is not None
    finally:
        await lab.close()


@pytest.mark.parametrize(
    ("certificate", "ca", "why"),
    [
        (
            "expired",
            "facility",
            "its certificate has expired; renew it on the broker, or set the clock of this machine",
        ),
        ("elsewhere", "facility", "its certificate is for another name; write the name that is in it into `broker`"),
        ("broker", "stranger", "its certificate is from no authority that is trusted here; name the right one by `ca`"),
    ],
)
async def test_a_bad_certificate_is_one_sentence_and_the_experiment_goes_on(
    start: Start, papers: Path, tmp_path: Path, certificate: str, ca: str, why: str
) -> None:
    port = start(certificate)
    [text] = await said(lab_file(tmp_path, port, papers, ca=ca))
    assert text == f"no broker at mqtts://hal@localhost:{port} ({why}); still trying, the experiment goes on without"


async def test_a_wrong_password_is_one_sentence_without_the_password(
    start: Start, papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAL_MQTT", "a wrong word")
    [text] = await said(lab_file(tmp_path, start(), papers))
    assert "(it refuses our user or password; check `user` and `password`)" in text
    assert "wrong word" not in text


REFUSED = pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "it wants a certificate of ours; name it by `certificate` and `key`"),
        (
            ["lab_expired"],
            "it says that our certificate has expired; renew `certificate`, or set the clock of its machine",
        ),
        (["lab_of_stranger"], "it refuses our certificate"),
    ],
)


def named(papers: Path, names: list[str]) -> list[str]:
    """Lines of a lab file that name a certificate and its key."""
    return [f'{key} = "{papers / n}.{end}"' for n in names for key, end in (("certificate", "pem"), ("key", "key"))]


@REFUSED
async def test_a_broker_that_refuses_our_certificate_is_one_sentence(
    start: Start, papers: Path, tmp_path: Path, lines: list[str], why: str
) -> None:
    [text] = await said(lab_file(tmp_path, start(asks=True), papers, *named(papers, lines)))
    assert why in text


@REFUSED
async def test_a_broker_that_refuses_our_certificate_is_one_sentence_to_who_wants_to_command(
    start: Start, papers: Path, tmp_path: Path, lines: list[str], why: str
) -> None:
    more = [*named(papers, lines), "[telemetry.users.anna]", 'may = ["stop"]', "[telemetry.commands]"]
    async with Lab.open(lab_file(tmp_path, start(asks=True), papers, *more)) as lab:

        def said_of_stop() -> list[str]:
            events = [event for event in lab.context.journal.recent if event.device == "commands"]
            return [event.text for event in events if event.text.startswith("stop can't be heard")]

        await toy.eventually(said_of_stop)
        assert why in said_of_stop()[0]
        assert (await lab.signal("heater.temperature").read()).value is not None


async def test_tls_on_a_port_without_it_is_one_sentence(papers: Path, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda r, w: w.write(b"no TLS here\n"), "127.0.0.1", 0)
    try:
        [text] = await said(lab_file(tmp_path, server.sockets[0].getsockname()[1], papers))
        assert "it does not speak TLS on this port; write mqtt:// or another port" in text
    finally:
        server.close()


async def test_certificates_that_do_not_belong_together_are_told_before_anything_is_sent(
    papers: Path, tmp_path: Path
) -> None:
    path = lab_file(tmp_path, 1, papers, f'certificate = "{papers / "lab.pem"}"', f'key = "{papers / "broker.key"}"')
    with pytest.raises(ConfigError, match=r"certificate = .*lab\.pem.* can't be used: key values mismatch; give PEM"):
        await Lab.connect(path)
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(ConfigError, match=r"ca = .*rubbish\.pem' can't be used: .*; give a PEM file"):
        await Lab.connect(lab_file(tmp_path, 1, tmp_path, ca="rubbish"))
