"""The users of an embedded broker: mosquitto's password file and access file, made from the lab file. Pure."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from .topics import META, ROOT

ITERATIONS = 101  # mosquitto 2.0's own number, password_mosq.h, PW_DEFAULT_ITERATIONS
WATCHED = ("signals", "devices", "alarms", "clocks", "events", "streams", "detector")
"""What may be watched below ``insitu-meta/<lab>/``, beside its single topics. Not other people's commands."""


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """Somebody who may connect."""

    name: str
    password: str = field(repr=False)
    may: tuple[str, ...]
    """Of `command_topics.RIGHTS`."""


def password_file(users: Iterable[BrokerUser]) -> str:
    """Mosquitto's ``password_file``: one line per user, PBKDF2 with SHA-512 and a salt."""
    return "".join(f"{user.name}:{_hashed(user.password)}\n" for user in users)


def access_file(lab: str, users: Iterable[BrokerUser], own: str) -> str:
    """Mosquitto's ``acl_file``: what each user may read and write; `own`, the lab's account, everything."""
    lines = [f"user {own}", "topic readwrite #"]
    for user in users:
        lines += ["", f"user {user.name}"]
        if user.may:
            lines += [f"topic read {META}/{lab}/replies/{user.name}/#", f"topic read {META}/{lab}/+"]
        if "watch" in user.may:
            lines += [f"topic read {ROOT}/{lab}/#", f"topic read {ROOT}-history/{lab}/#"]
            lines += [f"topic read {META}/{lab}/{kind}/#" for kind in WATCHED]
        for right, topics in (
            ("set", ("set/+/+", "lease")), ("stop", ("stop",)), ("acknowledge", ("acknowledge",)),
        ):  # fmt: skip
            if right in user.may:
                lines += [f"topic write {META}/{lab}/commands/{user.name}/{topic}" for topic in topics]
    return "\n".join(lines) + "\n"


def _hashed(password: str) -> str:
    """As `mosquitto_passwd` writes it: ``$7$iterations$salt$hash``."""
    salt = os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, 64)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"
