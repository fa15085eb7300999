"""`hal dashboard`: what it refuses before anything listens, and where it finds the broker."""

import pytest
from toy import write_lab

from hal.cli import build, main
from hal.cli.dashboard import _broker
from hal.dashboard.runs import Runs

pytest.importorskip("nicegui")


def refused(capsys, *arguments):
    assert main(["dashboard", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def options(*arguments):
    return build().parse_args(["dashboard", *map(str, arguments)])


def test_nothing_listens_beyond_this_machine_without_a_password(capsys):
    said = refused(capsys, "--broker", "mqtt://localhost", "--host", "0.0.0.0")
    assert "needs a password" in said
    assert "--password env:" in said


def test_a_password_is_named_and_never_given(capsys, monkeypatch):
    said = refused(capsys, "--broker", "mqtt://localhost", "--host", "0.0.0.0", "--password", "sesame")
    assert "env:NAME" in said
    assert "sesame" not in said
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert "NOT_THERE" in refused(capsys, "--broker", "mqtt://localhost", "--password", "env:NOT_THERE")


def test_one_of_lab_file_and_broker_is_needed(capsys, tmp_path):
    assert "give a lab file" in refused(capsys)
    assert "give a lab file" in refused(capsys, write_lab(tmp_path), "--broker", "mqtt://localhost")


def test_a_lab_without_telemetry_is_told_what_to_write(capsys, tmp_path):
    assert 'broker = "embedded:1883"' in refused(capsys, write_lab(tmp_path))


def test_runs_must_be_a_directory_though_it_may_come_with_the_first_run(capsys, tmp_path):
    (tmp_path / "file").touch()
    for nowhere in ("file", "none/runs"):
        assert "no directory" in refused(capsys, "--broker", "mqtt://localhost", "--runs", tmp_path / nowhere)
    said = refused(capsys, "--broker", "mqtt://localhost", "--runs", tmp_path / "runs", "--key", "k")
    assert "--key needs its --certificate" in said  # which is looked at later
    assert Runs(tmp_path / "runs").listing() == []


def test_a_lab_that_runs_says_where_its_broker_is(capsys, tmp_path):
    path = write_lab(tmp_path, '[telemetry]\nbroker = "embedded:"')
    assert "start the lab first" in refused(capsys, path)
    (tmp_path / ".hal").mkdir()
    (tmp_path / ".hal" / "toys.broker").write_text("mqtt://127.0.0.1:40123\n")
    broker, lab = _broker(options(path))
    assert (broker.host, broker.port, lab) == ("127.0.0.1", 40123, "toys")


def test_a_user_of_his_own_does_not_need_the_password_of_the_lab(monkeypatch, tmp_path):
    monkeypatch.delenv("EM3_MQTT", raising=False)
    telemetry = '[telemetry]\nbroker = "mqtts://broker.example"\nuser = "hal"\npassword = "env:EM3_MQTT"'
    path = write_lab(tmp_path, telemetry)
    broker, _ = _broker(options(path, "--user", "anna"))
    assert (broker.host, broker.tls, broker.username, broker.password) == ("broker.example", True, None, None)


@pytest.mark.real_clock
def test_a_port_that_is_taken_is_told(capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused(capsys, "--broker", "mqtt://localhost:1", "--port", taken.getsockname()[1])
    assert "another program has it?" in said
