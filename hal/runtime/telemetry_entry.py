"""The lab file's [telemetry]: where readings go, who may watch, and what may be commanded from afar."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import ConfigError
from ..model.signal import SignalR, SignalRW
from ..telemetry.broker import LOOPBACK, BrokerUrl, is_loopback, parse_broker
from ..telemetry.broker_users import BrokerUser
from ..telemetry.command_topics import Right
from ..telemetry.credentials import check_place, secret
from ..telemetry.outbox import AGE, SIZE
from ..telemetry.rates import Rate

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
LOCAL = "local"
"""Who commands where the broker knows nobody: whoever sits at this machine."""
Attempt = Callable[..., Any]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RateEntry(_Entry):
    """Which readings of a signal, or of a device, are published."""

    every: float | None = Field(None, description="Seconds between messages; each tells of all readings since.")
    dead_band: float | None = Field(None, description="Smaller changes are not published; in the signal's unit.")
    heartbeat: float | None = Field(None, description="Seconds after which it is published all the same.")


class UserEntry(_Entry):
    """Somebody who may watch or command."""

    password: str | None = Field(None, description='Of an embedded broker: "env:NAME" or "keyring:SERVICE".')
    may: tuple[Right, ...] = Field(("watch",), description="watch, stop, acknowledge, set.")


class CommandsEntry(_Entry):
    """Its presence lets the lab listen to commands."""

    allow: tuple[str, ...] = Field((), description='Signals that may be set: "heater.setpoint".')
    lease: float = Field(60.0, ge=5, le=3600, description="Seconds one person's lease lasts unless she renews it.")


class TelemetryEntry(_Entry):
    """Where readings are published."""

    broker: str = Field(description='"mqtt://host:port", "mqtts://host:port", or "embedded:" to start one.')
    qos: Literal[0, 1] = Field(1, description="Of live readings.")
    user: str | None = Field(None, min_length=1, description="The lab's own account at a broker of yours.")
    password: str | None = Field(None, description='Where its password is: "env:NAME" or "keyring:SERVICE".')
    ca: str | None = Field(None, description="Certificates that vouch for the broker (PEM), relative to the lab file.")
    certificate: str | None = Field(None, description="The lab's own certificate (PEM).")
    key: str | None = Field(None, description="Its key (PEM), if not in the same file.")
    listen: str = Field(LOOPBACK, description="Address an embedded broker listens at besides loopback.")
    users: dict[Name, UserEntry] = {}
    commands: CommandsEntry | None = None
    outbox: str | None = Field(None, description="Folder in which readings wait, relative to the lab file.")
    outbox_size: float = Field(SIZE, gt=0, description="MB that may wait.")
    outbox_age: float = Field(AGE, gt=0, description="Days a reading may wait.")
    rates: dict[str, RateEntry] = Field({}, description='By "device" or "device.signal".')

    def may(self) -> dict[str, tuple[str, ...]]:
        """Each user's rights."""
        if self.users:
            return {name: user.may for name, user in self.users.items()}
        return {LOCAL: ("watch", "stop", "acknowledge")}

    def rate_of(self) -> dict[str, Rate]:
        """The rates by signal or device. Raises `ConfigError`."""
        return {key: _rate(entry) for key, entry in self.rates.items()}

    def outbox_folder(self, folder: Path) -> Path | None:
        """Where readings wait; None: in memory, since an embedded broker is away only when the lab is."""
        if self.outbox is not None:
            return folder / self.outbox
        return None if self.broker.startswith("embedded:") else folder / "outbox"

    def url(self, folder: Path) -> BrokerUrl:
        """The broker with all it takes to reach it; passwords are looked up now. Raises `ConfigError`."""
        url = parse_broker(self.broker)
        if url.embedded:
            users = tuple(
                BrokerUser(name, secret(user.password or "", name, f"telemetry.users.{name}.password"), user.may)
                for name, user in self.users.items()
            )
            return BrokerUrl(url.host, url.port, embedded=True, listen=self.listen, users=users)
        user = self.user or url.username
        password = url.password
        if self.password is not None:
            password = secret(self.password, user or "", "telemetry.password")
        ca, certificate, key = (
            None if path is None else folder / path for path in (self.ca, self.certificate, self.key)
        )
        found = BrokerUrl(
            url.host, url.port, tls=url.tls, username=user, password=password, ca=ca, certificate=certificate, key=key
        )
        found.tls_context()  # a file that can't be used is told of now
        return found


def check(
    entry: TelemetryEntry,
    folder: Path,
    devices: Mapping[str, Any],
    signal: Callable[[str, str], SignalR[Any]],
    attempt: Attempt,
    problems: list[str],
) -> None:
    """Add to `problems` whatever contradicts itself, or the rest of the lab file."""
    url = attempt("telemetry.broker", parse_broker, entry.broker)
    for key in entry.rates:
        attempt(f"telemetry.rates.{key}", _check_rated, key, entry.rates[key], devices, signal)
    if entry.commands is not None:
        for path in entry.commands.allow:
            attempt("telemetry.commands.allow", _check_settable, path, devices, signal)
    if entry.password is not None:
        attempt("telemetry.password", check_place, entry.password)
    if url is None:
        return
    if url.embedded:
        _check_embedded(entry, problems, attempt)
    else:
        _check_own(entry, url, folder, problems)


def _check_embedded(entry: TelemetryEntry, problems: list[str], attempt: Attempt) -> None:
    for key in ("user", "password", "ca", "certificate", "key"):
        if getattr(entry, key) is not None:
            problems.append(
                f'telemetry.{key}: belongs to a broker of yours ("mqtts://host"); an embedded one needs none'
            )
    for name, user in entry.users.items():
        if user.password is None:
            problems.append(f'telemetry.users.{name}.password: is missing; write "env:NAME" or "keyring:SERVICE"')
        else:
            attempt(f"telemetry.users.{name}.password", check_place, user.password)
    try:
        ipaddress.ip_address(entry.listen)
    except ValueError:
        problems.append(f'telemetry.listen: {entry.listen!r} is no address; write one such as "10.0.3.2" or "0.0.0.0"')
        return
    if not is_loopback(entry.listen) and not entry.users:
        problems.append(
            f"telemetry.listen: {entry.listen!r} lets everybody on the network in; name [telemetry.users.NAME] first"
        )
    if entry.commands is not None and entry.commands.allow and not entry.users:
        problems.append(
            "telemetry.commands.allow: this broker does not know who is who, so nothing can be set over it; "
            "name [telemetry.users.NAME], or leave `allow` out (whoever is at this machine may stop and acknowledge)"
        )


def _check_own(entry: TelemetryEntry, url: BrokerUrl, folder: Path, problems: list[str]) -> None:
    if entry.listen != LOOPBACK:
        problems.append('telemetry.listen: belongs to an embedded broker (broker = "embedded:1883")')
    if url.password is not None and not url.loopback:
        problems.append(
            "telemetry.broker: has a password in it, for whoever reads this file; "
            'write user = "..." and password = "env:NAME" or "keyring:SERVICE"'
        )
    if entry.user is not None and url.username is not None:
        problems.append("telemetry.user: the broker's URL names a user as well; leave out one of the two")
    if entry.password is not None and not (entry.user or url.username):
        problems.append('telemetry.password: of whom? write user = "..." too')
    if entry.password is not None and url.password is not None:
        problems.append("telemetry.password: the broker's URL has one as well; leave it out there")
    for key in ("ca", "certificate", "key"):
        path = getattr(entry, key)
        if path is None:
            continue
        if not url.tls:
            problems.append(f'telemetry.{key}: is of no use without TLS; write broker = "mqtts://..."')
        elif not (folder / path).is_file():
            problems.append(f"telemetry.{key}: there is no file {folder / path}")
    if entry.key is not None and entry.certificate is None:
        problems.append('telemetry.key: of which certificate? write certificate = "..." too')
    for name, user in entry.users.items():
        if user.password is not None:
            problems.append(f"telemetry.users.{name}.password: {url} keeps its own passwords; leave this out")
    if entry.commands is None:
        return
    if not (entry.password or url.password or entry.certificate):
        problems.append(
            f"telemetry.commands: {url} lets the lab in without a password, so others too, and anybody could command; "
            "have it ask for one (`user`, `password`) or for a certificate"
        )
    if not entry.users:
        problems.append("telemetry.commands: nobody may command; name [telemetry.users.NAME] with may = [...]")


def _check_rated(
    key: str, entry: RateEntry, devices: Mapping[str, Any], signal: Callable[[str, str], SignalR[Any]]
) -> None:
    device, _, name = key.partition(".")
    _known(device, devices)
    if name:
        signal(device, name)
    _rate(entry)


def _check_settable(path: str, devices: Mapping[str, Any], signal: Callable[[str, str], SignalR[Any]]) -> None:
    device, _, name = path.partition(".")
    _known(device, devices)
    if not isinstance(signal(device, name), SignalRW):
        raise ConfigError(f"{path} can only be read")


def _known(device: str, devices: Mapping[str, Any]) -> None:
    if device not in devices:
        raise ConfigError(f"{device!r} is no device here; there are {', '.join(devices)}")


def _rate(entry: RateEntry) -> Rate:
    return Rate(every=entry.every, dead_band=entry.dead_band, heartbeat=entry.heartbeat)
