"""Credentials: where a password is found. A lab file says where, never what it is."""

from __future__ import annotations

import importlib
import os

from ..errors import ConfigError

PLACES = '"env:NAME" (a variable of the environment) or "keyring:SERVICE" (this computer\'s keyring)'


def check_place(where: str, who: str = "telemetry") -> str:
    """Return `where` if it is a place a password can be found at; raise `ConfigError` otherwise.

    The message does not repeat what was given: it may be a password.
    """
    scheme, _, name = where.partition(":")
    if scheme not in ("env", "keyring") or not name.strip() or not name.isprintable():
        raise ConfigError(f"{who}: a lab file says where a password is found, not what it is; write {PLACES}")
    return where


def secret(where: str, user: str = "", who: str = "telemetry") -> str:
    """The password at a place; `user` is whose (a keyring keeps them by service and user). Raises `ConfigError`."""
    scheme, _, name = check_place(where, who).partition(":")
    found = os.environ.get(name) if scheme == "env" else _from_keyring(name, user, who)
    if not found:
        remedy = f"export {name}=..." if scheme == "env" else f"keyring set {name} {user}"
        raise ConfigError(f"{who}: there is no password at {where}; type `{remedy}` first")
    return found


def _from_keyring(service: str, user: str, who: str) -> str | None:
    try:
        keyring = importlib.import_module("keyring")
        trouble = importlib.import_module("keyring.errors").KeyringError
    except ImportError:
        raise ConfigError(
            f'{who}: keyring:{service} needs the keyring package; type pip install "insitu-hal[keyring]", '
            "or use env:NAME"
        ) from None
    try:
        found: str | None = keyring.get_password(service, user)
    except trouble as error:
        raise ConfigError(
            f"{who}: the keyring can't be read ({str(error).rstrip('.')}); unlock it, or use env:NAME"
        ) from None
    return found
