"""The pages, and the server that shows them: the live page of a lab, and its past runs."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
import uuid
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response
from nicegui import ui
from nicegui.events import GenericEventArguments

from ..errors import ConfigError, HalError
from ..telemetry.command_topics import Acknowledge, Command, Stop, Verb
from .door import Door
from .ear import Ear
from .model import Board
from .runs import Runs
from .series import SECOND
from .view import PLOTS, SPANS, answer, lab_now

log = logging.getLogger("hal.dashboard")

LATE = 15.0
"""Seconds after which what was pressed is no longer sent."""
EXPIRES = 60
"""Seconds after which a command that is still on its way is no longer meant."""

_WEB = Path(__file__).with_name("web")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0072b2"/>'
    '<path d="M4 21h5l3-12 5 16 4-11 2 7h5" fill="none" stroke="#fff" stroke-width="2.6"/></svg>'
)


class Wall(ui.element, component="web/wall.js", esm={"insitu-dashboard": "web/shared"}):
    """The live page. It asks; `take` answers."""


class Past(ui.element, component="web/past.js"):
    """The list of past runs, or one of them."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the pages show."""

    board: Board
    ear: Ear
    runs: Runs | None = None
    lab: str = ""
    """Shown unless the address asks for another; "" is the first that speaks."""


async def serve(
    dashboard: Dashboard,
    host: str,
    port: int,
    *,
    password: str | None = None,
    tls: ssl.SSLContext | None = None,
    browse: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Show the pages until interrupted. `ready` is told the address. Raises `ConfigError` if the port is taken."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(
            f"dashboard: can't listen on {host}:{port} ({error.strerror or error}); "
            "another program has it? give another --port, or 0 for a free one"
        ) from None
    door = Door(_pages(dashboard), password)
    config = uvicorn.Config(
        door, log_level="warning", access_log=False, server_header=False, ws_ping_interval=20,
        timeout_graceful_shutdown=2, ssl_context_factory=None if tls is None else lambda *_: tls,
    )  # fmt: skip
    server = uvicorn.Server(config)
    named = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    address = f"{'http' if tls is None else 'https'}://{named}:{listening.getsockname()[1]}"
    async with asyncio.TaskGroup() as group:
        ear = group.create_task(dashboard.ear.run())
        serving = group.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
        if server.started:
            if ready is not None:
                ready(address)
            if browse:
                await asyncio.to_thread(webbrowser.open, address)
        await serving
        ear.cancel()


def _pages(dashboard: Dashboard) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    looks = f"<style>{(_WEB / 'page.css').read_text()}</style>"
    reading = asyncio.Lock()  # of runs, one at a time

    @ui.page("/", title="Lab")
    def live(lab: str = "") -> None:
        ui.add_head_html(looks)
        wall = Wall()
        wall.props["lab"] = lab or dashboard.lab
        wall.props["runs"] = dashboard.runs is not None
        wall.props["spans"] = SPANS

        def asked(event: GenericEventArguments) -> None:
            wall.run_method("take", _answered(dashboard, event.args))

        async def stop(event: GenericEventArguments) -> None:
            wall.run_method("answered", await _command(dashboard, "stop", event.args))

        async def acknowledge(event: GenericEventArguments) -> None:
            wall.run_method("answered", await _command(dashboard, "acknowledge", event.args))

        wall.on("ask", asked)
        wall.on("stop", stop)
        wall.on("acknowledge", acknowledge)

    @ui.page("/runs", title="Past runs")
    async def past(name: str = "") -> None:
        ui.add_head_html(looks)
        page, runs = Past(), dashboard.runs
        page.props["name"], page.props["directory"] = name, "" if runs is None else str(runs.directory)

        async def told(work: Callable[[Runs], Any], what: str) -> None:
            try:
                if runs is None:
                    raise HalError("This dashboard was started without --runs DIRECTORY, so it knows of no past runs.")
                async with reading:
                    found = await asyncio.to_thread(work, runs)
                page.run_method("take", {what: found})
            except KeyError:
                page.run_method("take", {"trouble": f"There is no run {name!r} in {page.props['directory']}."})
            except (HalError, OSError, ValueError, TypeError) as error:
                page.run_method("take", {"trouble": str(error)})

        async def wanted(event: GenericEventArguments) -> None:
            """Curves of a window of the run that is shown."""
            asked = event.args

            def read(runs: Runs) -> dict[str, Any]:
                paths, begin, end = [str(p) for p in asked["paths"]][:PLOTS], float(asked["begin"]), float(asked["end"])
                return {"number": asked["number"], "curves": runs.curves(name, paths, begin, end)}

            await told(read, "window")

        page.on("want", wanted)
        await ui.context.client.connected(60)  # a page at once; files are read while it waits
        await told(lambda runs: runs.run(name) if name else runs.listing(), "run" if name else "listing")

    @app.get("/runs/picture")
    async def picture(name: str) -> Response:
        try:
            path = None if dashboard.runs is None else await asyncio.to_thread(dashboard.runs.picture, name)
        except KeyError:
            path = None
        return PlainTextResponse("no picture", 404) if path is None else FileResponse(path)

    ui.run_with(
        app, title="Lab", favicon=_ICON, dark=None, language="en-US", tailwind=False, binding_refresh_interval=None,
        show_welcome_message=False, reconnect_timeout=10.0,
    )  # fmt: skip
    return app


def _answered(dashboard: Dashboard, asked: Any) -> dict[str, Any]:
    board, ear = dashboard.board, dashboard.ear
    if not isinstance(asked, Mapping):
        return {"trouble": "the page asked what is not understood; load it again"}
    wanted = str(asked.get("lab") or dashboard.lab)
    lab = board.labs.get(wanted) if wanted else next(iter(board.labs.values()), None)
    if lab is None:
        there = f" There is: {', '.join(sorted(board.labs))}." if board.labs else ""
        return {"trouble": ear.trouble or (f"Nothing was heard of {wanted!r} yet.{there}" if wanted else "")}
    try:
        found = answer(board, lab, ear.user, asked, time.monotonic(), time.time())
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        log.warning("a page asked %.200r: %r", asked, error)
        return {"trouble": "the page asked what is not understood; load it again"}
    return found | {"trouble": ear.trouble, "at": time.monotonic() * 1e3}


async def _command(dashboard: Dashboard, verb: Verb, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Send a command if the user may, and say what came of it.

    `asked`: `lab`; `pressed`, when (ms, this machine's monotonic clock, as of the last answer); of an acknowledgement
    also `alarm` and the alarm's `time` (ms) on the page.
    """
    name, alarm = str(asked["lab"]), str(asked.get("alarm", ""))
    ear, lab = dashboard.ear, dashboard.board.labs.get(name)
    if lab is None or not lab.may(ear.user, verb):  # the page has no such button; this is for who asks all the same
        return {"ok": False, "text": f"{ear.user or 'nobody in particular'} may not {verb} {name}"}
    late = time.monotonic() - float(asked["pressed"]) / 1e3
    if abs(late) > LATE:  # a browser keeps what is pressed while the network is away, and brings it when it is back
        return {"ok": False, "text": f"{verb} was pressed long ago and came only now; it was NOT sent"}
    what: Command
    # A network that comes back must not deliver what somebody pressed an hour ago. Without a reading the lab's clock is
    # not known, and a stop had better come late than be refused.
    expires = None if lab.lead is None else lab_now(lab, time.monotonic(), time.time()) + EXPIRES * SECOND
    if verb == "stop":
        reason = f"stop pressed on the dashboard of {ear.user or 'this machine'}"
        what = Stop(uuid.uuid4().hex, reason, expires)
    else:
        known = lab.alarms.get(alarm)
        if known is None or known.time / 1e6 != asked.get("time"):
            return {"ok": False, "text": f"{alarm} has changed since; look again before you acknowledge it"}
        what = Acknowledge(uuid.uuid4().hex, alarm, known.time, expires)
    try:
        reply = await ear.command(name, verb, what)
    except HalError as error:
        return {"ok": False, "text": str(error)}
    return {
        "ok": reply.ok,
        "text": f"{name}: {verb} {alarm}".rstrip() + f": {reply.text or ('done' if reply.ok else 'refused')}",
    }
