"""Where passwords are found, and that nothing ever repeats one."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from hal.errors import ConfigError
from hal.telemetry.credentials import check_place, secret


def test_a_password_is_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EM3_MQTT", "pass:word with spaces")
    assert secret("env:EM3_MQTT") == "pass:word with spaces"


def test_a_variable_that_is_not_there_is_told_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EM3_MQTT", raising=False)
    with pytest.raises(ConfigError, match=r"there is no password at env:EM3_MQTT; type `export EM3_MQTT=\.\.\.` first"):
        secret("env:EM3_MQTT")


@pytest.mark.parametrize("given", ["tops3cret", "file:tops3cret", "env:", "keyring: ", "", "env:tops3cret\n"])
def test_a_password_written_into_the_file_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(ConfigError, match=r"where a password is found, not what it is; write \"env:NAME\"") as refused:
        check_place(given)
    assert "tops3cret" not in str(refused.value)


class KeyringError(Exception):
    pass


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The keyring package's two names we use, as its documentation gives them."""
    package, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    words = {("insitu-mqtt", "hal"): "from the keyring"}
    package.get_password = lambda service, user: words.get((service, user))  # type: ignore[attr-defined]
    errors.KeyringError = KeyringError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", package)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    return package


def test_a_password_is_found_in_the_keyring_by_service_and_user(keyring: ModuleType) -> None:
    assert secret("keyring:insitu-mqtt", "hal") == "from the keyring"
    with pytest.raises(ConfigError, match=r"no password at keyring:insitu-mqtt; type `keyring set insitu-mqtt ben`"):
        secret("keyring:insitu-mqtt", "ben")


def test_a_keyring_that_is_locked_is_told(keyring: ModuleType) -> None:
    def locked(service: str, user: str) -> str:
        raise KeyringError("locked")

    keyring.get_password = locked  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"the keyring can't be read \(locked\); unlock it, or use env:NAME"):
        secret("keyring:insitu-mqtt", "hal")


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match=r'pip install "insitu-hal\[keyring\]"'):
        secret("keyring:insitu-mqtt", "hal")
