"""The broker: where telemetry goes, and one of the lab's own where there is none (``embedded:``)."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError
from . import broker_users
from .broker_users import BrokerUser

LOOPBACK = "127.0.0.1"
START_WITHIN = 15.0
"""Seconds a broker is given to accept connections."""
STOP_WITHIN = 5.0
"""Seconds a broker is given to end."""
PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", r"C:\Program Files\mosquitto")
"""Where mosquitto may be although it is not on the PATH."""

_KEEPER = Path(__file__).with_name("broker_process.py")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """``mqtt://user:password@host:1883``, ``mqtts://host:8883`` or ``embedded:[port]``."""

    host: str
    port: int
    """0 for a free one (embedded only)."""
    tls: bool = False
    embedded: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """Certificates of the authorities that may vouch for the broker; None: those the machine trusts."""
    certificate: Path | None = None
    """Our own certificate, where the broker asks for one."""
    key: Path | None = None
    """The key of `certificate`; None: it is in the same file."""
    listen: str = LOOPBACK
    """Address an embedded broker listens at, besides loopback."""
    users: tuple[BrokerUser, ...] = ()
    """Who may connect to an embedded broker; none: everybody on this machine."""

    @property
    def loopback(self) -> bool:
        """Whether the broker is on this machine and reached without leaving it."""
        return is_loopback(self.host)

    def tls_context(self) -> ssl.SSLContext | None:
        """How the connection is secured; None: not at all. Raises `ConfigError`. Reads files."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"telemetry: ca = {str(self.ca)!r} can't be used: {_why(error)}; give a PEM file"
            ) from None
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, _no_passphrase)
            except (OSError, ssl.SSLError, ConfigError) as error:
                key = str(self.key or self.certificate)
                raise ConfigError(
                    f"telemetry: certificate = {str(self.certificate)!r} with key = {key!r} can't be used: "
                    f"{_why(error)}; give PEM files that belong together"
                ) from None
        return context

    def __str__(self) -> str:
        """As shown in messages and files: without the password."""
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}"


def parse_broker(url: str) -> BrokerUrl:
    """Take the URL of a broker apart. Raises `ConfigError`."""
    scheme, _, rest = url.partition(":")
    try:
        if scheme == "embedded":
            port = int(rest or 0)
            if not 0 <= port < 65536:
                raise ValueError
            return BrokerUrl(LOOPBACK, port, embedded=True)
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError
        tls = parts.scheme == "mqtts"
        return BrokerUrl(
            parts.hostname,
            parts.port or (8883 if tls else 1883),
            tls=tls,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )
    except ValueError:
        shown = f"{scheme}:...@{rest.rpartition('@')[2]}" if "@" in rest else url
        raise ConfigError(
            f"telemetry: broker {shown!r} can't be understood; "
            'write "mqtt://host", "mqtts://user:password@host:8883", "embedded:" or "embedded:1883"'
        ) from None


def without_passwords(text: str) -> str:
    """A lab file's text as it may be kept in a record: what stands as a password in a broker's URL is left out."""
    return re.sub(r"(mqtts?://[^:@/\s\"']*):[^\s\"']*@", r"\1:...@", text)


def is_loopback(host: str) -> bool:
    """Whether an address, or name, is that of this machine for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


UNKNOWN_USER = ("[code:4]", "[code:5]", "[code:134]", "[code:135]")
"""How aiomqtt, and our listener, write the answers to a wrong user or password (MQTT 3.1.1, 3.2.2.3; 5, 3.2.2.2)."""


def explained(error: BaseException) -> str:
    """Why a broker could not be reached, in one sentence with the remedy where one is known."""
    if isinstance(error, ssl.SSLCertVerificationError):
        match error.verify_code:  # X509_V_ERR_... of OpenSSL's x509_vfy.h
            case 10:
                return "its certificate has expired; renew it on the broker, or set the clock of this machine"
            case 9:
                return "its certificate is not valid yet; check the clocks of both machines"
            case 18 | 19 | 20 | 21:
                return "its certificate is from no authority that is trusted here; name the right one by `ca`"
            case 62 | 64:
                return "its certificate is for another name; write the name that is in it into `broker`"
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        said = (error.reason or str(error)).replace("_", " ").lower()
        if "certificate expired" in said:
            return "it says that our certificate has expired; renew `certificate`, or set the clock of its machine"
        if "certificate required" in said:
            return "it wants a certificate of ours; name it by `certificate` and `key`"
        if "alert" in said:
            return f"it refuses our certificate, or none was given ({said}); check `certificate` and `key`"
        if "wrong version number" in said:
            return "it does not speak TLS on this port; write mqtt:// or another port"
        return f"TLS fails: {said}"
    text = str(error).strip()
    if any(code in text for code in UNKNOWN_USER):
        return "it refuses our user or password; check `user` and `password`"
    return text or type(error).__name__


def refuses(error: BaseException) -> bool:
    """Whether a broker is there and does not want us, or we are not prepared for it: to wait will not help."""
    return isinstance(error, (ssl.SSLError, ConfigError)) or any(code in str(error) for code in UNKNOWN_USER)


REFUSAL = 1.0
"""Seconds a broker is given to refuse a certificate after the handshake."""


def tls_refusal(url: BrokerUrl, within: float = 3.0) -> ssl.SSLError | None:
    """Why a broker breaks off a connection by TLS, if it does. Blocks for so many seconds at most.

    From TLS 1.3 on a broker says what it thinks of our certificate after the handshake (RFC 8446, 4.4.2.4),
    when paho reads already, and keeps the reason to itself.
    """
    try:
        context = url.tls_context()
        if context is None:
            return None
        with (
            socket.create_connection((url.host, url.port), within) as plain,
            context.wrap_socket(plain, server_hostname=url.host) as secured,
        ):
            # It speaks first only to refuse. To write before would lose what it says, once it has hung up.
            secured.settimeout(min(within, REFUSAL))
            secured.recv(1)
    except ssl.SSLError as error:
        return error
    except (OSError, ConfigError):
        pass
    return None


class EmbeddedBroker:
    """A broker of the lab's own, in a process that dies with this one.

    Mosquitto where it is installed, else amqtt, on the loopback interface; with users (mosquitto
    only) elsewhere as well. Nothing is kept on disk. The methods block for as long as processes take
    to start and end: call them on a thread.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        program: Literal["", "mosquitto", "amqtt"] = "",
        listen: str = LOOPBACK,
        users: tuple[BrokerUser, ...] = (),
        lab: str = "lab",
    ) -> None:
        """`port`: 0 for a free one. `program`: one of the two; else whichever is there. Raises `ConfigError`.

        `users`: who may connect, and to what of the lab called `lab`; none: everybody on this machine.
        `listen`: an address beyond loopback needs users.
        """
        self.port, self.listen = port, listen
        self.program, self._path = _program(program)
        if not is_loopback(listen) and not users:
            raise ConfigError(f"telemetry: listen = {listen!r} lets the network in; name [telemetry.users] first")
        if users and self.program != "mosquitto":
            raise ConfigError(
                "telemetry: only mosquitto keeps users apart, and it is not installed; install it "
                "(https://mosquitto.org/download), or leave out [telemetry.users] and `listen`"
            )
        self._own = BrokerUser("hal", secrets.token_urlsafe(24), ()) if users else None
        while self._own is not None and self._own.name in [user.name for user in users]:
            self._own = replace(self._own, name=f"{self._own.name}_")
        # The lab itself is always on loopback; 0.0.0.0 has that in it.
        self._listeners = [listen] if listen == "0.0.0.0" else list(dict.fromkeys([LOOPBACK, listen]))
        self._settings: dict[str, object] = {"listeners": self._listeners}
        if self._own is not None:
            self._settings["passwords"] = broker_users.password_file((*users, self._own))
            self._settings["acl"] = broker_users.access_file(lab, users, self._own.name)
        self._free = port == 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @classmethod
    def of(cls, url: BrokerUrl, lab: str) -> EmbeddedBroker:
        """The broker an ``embedded:`` URL asks for. Raises `ConfigError`."""
        return cls(url.port, listen=url.listen, users=url.users, lab=lab)

    @property
    def url(self) -> BrokerUrl:
        """How the lab itself reaches it; the port is known once it is open."""
        own = self._own
        return BrokerUrl(
            LOOPBACK, self.port, embedded=True, listen=self.listen,
            username=None if own is None else own.name, password=None if own is None else own.password,
        )  # fmt: skip

    def open(self) -> None:
        """Start it, on the same port as before if it had one; return when it accepts connections.

        Raises `ConfigError`.
        """
        self.close()
        for attempt in range(3):
            chosen = self.port or _free_port()
            for address in self._listeners:
                _check_bind(address, chosen)
            with tempfile.TemporaryFile() as errors:
                if self._start(chosen, errors):
                    self.port = chosen
                    return
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()[-500:]
            self.close()
            if not self._free or self.port or attempt == 2:
                break  # else another program may have been faster to take the free port
        raise ConfigError(f"telemetry: the embedded broker ({self.program}) did not start: {said or 'it says nothing'}")

    def close(self) -> None:
        """End it; no effect if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()  # the process ends when this pipe does
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, port: int, errors: IO[bytes]) -> bool:
        # A session of its own: Ctrl-C in the terminal must not take the broker before the lab's last words.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_KEEPER), str(port), self._path],  # what is secret goes by the pipe
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(self._settings).encode() + b"\n")
            self._process.stdin.flush()
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError):
                socket.create_connection((LOOPBACK, port), 1.0).close()
                return True
            time.sleep(0.02)
        return False


def _program(wanted: str) -> tuple[str, str]:
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(PLACES))
    if mosquitto and wanted != "amqtt":
        return "mosquitto", mosquitto
    if wanted != "mosquitto" and importlib.util.find_spec("amqtt") is not None:
        return "amqtt", "amqtt"
    raise ConfigError(
        "telemetry: there is no broker to embed; install mosquitto (https://mosquitto.org/download) "
        'or amqtt (pip install "insitu-hal[broker]"), or name a broker: "mqtt://host"'
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _check_bind(address: str, port: int) -> None:
    """Raise `ConfigError` unless a broker can listen there."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        if os.name == "posix":  # elsewhere it would let us take a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(f"telemetry: listen = {address!r} is no address of this machine") from None
            raise ConfigError(
                f"telemetry: port {port} is in use, so no broker can be embedded there; "
                f'write "embedded:" for a free port, or "mqtt://localhost:{port}" for the broker that has it'
            ) from None


def _no_passphrase() -> str:
    # OpenSSL would ask at the terminal, and the lab would wait there for ever.
    raise ConfigError("the key has a passphrase; give one without, readable by you alone")


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
