"""`hal dashboard`: a page that shows a lab as MQTT tells of it, and its past runs; on any machine."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..telemetry.broker import BrokerUrl

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add(verbs: Any) -> None:
    """Add the command."""
    parser = verbs.add_parser("dashboard", help="a page in the browser: readings, plots, alarms, past runs")
    parser.add_argument("lab", type=Path, nargs="?", help="lab file whose [telemetry] says where the broker is")
    parser.add_argument("--broker", metavar="URL", help="mqtt://host, mqtts://host:8883; instead of a lab file")
    parser.add_argument("--user", default="", help="who you are to the broker: stop and acknowledge need it")
    parser.add_argument("--broker-password", metavar="PLACE", help="of that user: env:NAME or keyring:SERVICE")
    parser.add_argument("--runs", type=Path, metavar="DIRECTORY", help="past runs; they are only read")
    parser.add_argument("--host", default="127.0.0.1", help="beyond this machine only with --password")
    parser.add_argument("--port", type=int, default=8080, help="of the page; 0 is a free one (default 8080)")
    parser.add_argument("--password", metavar="PLACE", help="of the page: env:NAME or keyring:SERVICE")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="of this machine: the page is served by HTTPS")
    parser.add_argument("--key", type=Path, metavar="PEM", help="of --certificate, where not in the same file")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.set_defaults(work=work)


def work(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if importlib.util.find_spec("nicegui") is None:
        raise ConfigError('dashboard: NiceGUI is missing; pip install "insitu-hal[dashboard]"')
    broker, lab = _broker(options)
    if options.host not in LOOPBACK and not options.password:
        raise ConfigError(
            f"dashboard: {options.host} can be reached from other machines, which needs a password; "
            "say where it is found: --password env:DASHBOARD_PASSWORD"
        )
    folder = options.runs  # before the first run there is none; a path to nowhere is a mistake
    if folder is not None and not (folder.is_dir() or (folder.absolute().parent.is_dir() and not folder.exists())):
        raise ConfigError(f"dashboard: --runs {options.runs} is no directory")
    if options.key is not None and options.certificate is None:
        raise ConfigError("dashboard: --key needs its --certificate")
    tls = None if options.certificate is None else _tls(options.certificate, options.key)
    password = _secret(options.password, "insitu") if options.password else None
    broker_password = _secret(options.broker_password, options.user) if options.broker_password else None

    from ..dashboard.ear import Ear
    from ..dashboard.model import Board
    from ..dashboard.runs import Runs
    from ..dashboard.server import Dashboard, serve

    board = Board()
    ear = Ear(broker, board, user=options.user or broker.username or "", password=broker_password or broker.password)
    runs = None if options.runs is None else Runs(options.runs.resolve())
    dashboard = Dashboard(board, ear, runs, lab)

    def ready(address: str) -> None:
        print(f"{address}  (broker {broker}; Ctrl-C ends it)", flush=True)

    if options.host not in LOOPBACK and tls is None:
        print("dashboard: without --certificate the password crosses the network unencrypted", file=sys.stderr)
    serving = serve(
        dashboard, options.host, options.port, password=password, tls=tls, browse=options.open, ready=ready
    )  # fmt: skip
    with asyncio.Runner() as runner:
        runner.run(serving)
    return 0


def _tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """How the page is secured. Raises `ConfigError`."""

    def passphrase() -> str:  # OpenSSL would ask at the terminal, where nobody sits
        raise ConfigError("the key has a passphrase; give one without, readable by you alone")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, passphrase)
    except (OSError, ConfigError) as error:  # ssl.SSLError is an OSError
        why = (error.reason or str(error)) if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
        raise ConfigError(
            f"dashboard: --certificate {certificate} with --key {key or certificate} can't be used: "
            f"{(why or str(error)).replace('_', ' ').lower()}; give PEM files that belong together"
        ) from None
    return context


def _broker(options: argparse.Namespace) -> tuple[BrokerUrl, str]:
    """The broker, and the name of the lab if a lab file told it."""
    from ..telemetry.broker import parse_broker

    if (options.lab is None) == (options.broker is None):
        raise ConfigError("dashboard: give a lab file, or --broker mqtt://host")
    if options.broker is not None:
        return _reachable(options.broker, "--broker"), ""
    from ..runtime.config import load

    config = load(options.lab)
    name, entry = config.file.lab.name, config.file.telemetry
    if entry is None:
        raise ConfigError(f'dashboard: {options.lab} has no [telemetry]; add it with broker = "embedded:1883"')
    running = options.lab.resolve().parent / ".hal" / f"{name}.broker"
    if parse_broker(entry.broker).embedded and running.is_file():
        return parse_broker(running.read_text().strip()), name
    _reachable(entry.broker, str(options.lab))
    if parse_broker(entry.broker).embedded:
        return parse_broker(entry.broker), name
    if options.user:  # somebody else than the lab, over the same TLS
        entry = entry.model_copy(update={"user": None, "password": None})
    return entry.url(options.lab.resolve().parent), name


def _reachable(url: str, where: str) -> BrokerUrl:
    from ..telemetry.broker import parse_broker

    broker = parse_broker(url)
    if broker.port == 0:
        raise ConfigError(
            f"dashboard: {where} has a broker of its own on a port that changes, and is not running; "
            'start the lab first, or write broker = "embedded:1883"'
        )
    return broker


def _secret(place: str, user: str) -> str:
    """A password from where `place` says."""
    from ..telemetry.credentials import secret

    return secret(place, user, "dashboard")
