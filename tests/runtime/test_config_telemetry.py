"""The lab file's [telemetry]: nothing contradicts itself, nothing secret stands in it, nobody unknown commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from hal.errors import ConfigError
from hal.runtime.config import parse

DEVICES = """
schema = 1
[devices.heater]
driver = "toy:ToyHeater"
[devices.gauge]
driver = "toy:ToyGauge"
[telemetry]
"""
ANNA = '\n[telemetry.users.anna]\npassword = "env:ANNA"\nmay = ["watch", "set"]\n'


def refused(text: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as told:
        parse(DEVICES + text, folder / "lab.toml")
    return str(told.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            'broker = "mqtt://hal:s3cret@10.0.0.2"',
            "telemetry.broker: has a password in it, for whoever reads this file",
        ),
        ('broker = "mqtt://b"\nuser = "hal"\npassword = "s3cret"', "where a password is found, not what it is"),
        ('broker = "mqtt://b"\npassword = "env:X"', 'telemetry.password: of whom? write user = "..." too'),
        ('broker = "mqtt://b"\nca = "ca.pem"', "telemetry.ca: is of no use without TLS"),
        ('broker = "mqtts://b"\nca = "ca.pem"', "telemetry.ca: there is no file "),
        ('broker = "mqtts://b"\nkey = "k.pem"', "telemetry.key: of which certificate?"),
        ('broker = "mqtts://b"\nlisten = "0.0.0.0"', "telemetry.listen: belongs to an embedded broker"),
        ('broker = "embedded:"\nuser = "hal"', "telemetry.user: belongs to a broker of yours"),
        ('broker = "embedded:"\nlisten = "0.0.0.0"', "lets everybody on the network in; name [telemetry.users.NAME]"),
        ('broker = "embedded:"\nlisten = "em3"' + ANNA, "telemetry.listen: 'em3' is no address"),
        ('broker = "embedded:"\n[telemetry.users.anna]', "telemetry.users.anna.password: is missing"),
        ('broker = "embedded:"\n[telemetry.users.anna]\npassword = "s3cret"', "users.anna.password: "),
        ('broker = "embedded:"\n[telemetry.users.anna]\nmay = ["fly"]', "telemetry.users.anna.may.0: "),
        ('broker = "embedded:"\n[telemetry.users.anna]\npasword = "env:A"', "unknown key (did you mean 'password'?)"),
        ('broker = "mqtt://b"' + ANNA, "telemetry.users.anna.password: mqtt://b:1883 keeps its own passwords"),
        ('broker = "embedded:"\n[telemetry.commands]\nallow = ["heater.setpoint"]', "does not know who is who"),
        ('broker = "embedded:"\n[telemetry.commands]\nallow = ["heater.nose"]', "heater has no signal 'nose'"),
        ('broker = "embedded:"\n[telemetry.commands]\nallow = ["oven.setpoint"]', "'oven' is no device here"),
        ('broker = "embedded:"\n[telemetry.commands]\nallow = ["gauge.pressure"]', "gauge.pressure can only be read"),
        ('broker = "mqtt://localhost"\n[telemetry.commands]', "lets the lab in without a password, so others too"),
        ('broker = "mqtt://b"\nuser = "hal"\npassword = "env:X"\n[telemetry.commands]', "nobody may command"),
        ('broker = "embedded:"\n[telemetry.rates]\n"heater" = { every = 1, dead_band = 2 }', "exclude each other"),
        ('broker = "embedded:"\n[telemetry.rates]\n"heater.nose" = { every = 1 }', "heater has no signal 'nose'"),
        ('broker = "embedded:"\nqos = 2', "telemetry.qos: "),
        ('broker = "embedded:"\noutbox_size = 0', "telemetry.outbox_size: "),
    ],
)
def test_what_contradicts_itself_is_told_with_what_to_write(text: str, why: str, tmp_path: Path) -> None:
    told = refused(text, tmp_path)
    assert why in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    "text",
    [
        'broker = "mqtt://hal:word@localhost"',
        'broker = "embedded:1883"\nlisten = "0.0.0.0"' + ANNA + '[telemetry.commands]\nallow = ["heater.setpoint"]',
        'broker = "embedded:"\n[telemetry.commands]',
        'broker = "mqtt://b"\nuser = "hal"\npassword = "keyring:mqtt"\n[telemetry.users.anna]\n[telemetry.commands]',
        'broker = "embedded:"\nqos = 0\noutbox = "waiting"\n[telemetry.rates]\nheater = { every = 1.0 }',
    ],
)
def test_what_is_sound_passes(text: str, tmp_path: Path) -> None:
    assert parse(DEVICES + text, tmp_path / "lab.toml").file.telemetry is not None


def test_a_password_is_looked_up_when_the_lab_opens_not_when_the_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EM3_MQTT", raising=False)
    text = 'broker = "mqtt://b"\nuser = "hal"\npassword = "env:EM3_MQTT"'
    entry = parse(DEVICES + text, tmp_path / "lab.toml").file.telemetry
    assert entry is not None
    with pytest.raises(ConfigError, match="no password at env:EM3_MQTT; type `export EM3_MQTT"):
        entry.url(tmp_path)
    monkeypatch.setenv("EM3_MQTT", "word")
    url = entry.url(tmp_path)
    assert (url.username, url.password) == ("hal", "word")


def test_readings_wait_on_disk_for_a_broker_of_ones_own_only(tmp_path: Path) -> None:
    for text, folder in [
        ('broker = "mqtt://b"', tmp_path / "outbox"),
        ('broker = "embedded:"', None),
        ('broker = "embedded:"\noutbox = "waiting"', tmp_path / "waiting"),
    ]:
        entry = parse(DEVICES + text, tmp_path / "lab.toml").file.telemetry
        assert entry is not None
        assert entry.outbox_folder(tmp_path) == folder
