"""The door: who may see the page. On loopback anybody at this machine; from elsewhere whoever knows the password.

Everything passes here first, the page's WebSocket too. On loopback a request must be addressed to this machine by
its own name, since a page of the web could otherwise reach it under a name that it makes point here. No page may show
this one in a frame, where a person could be led to press what she does not see.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import ipaddress
import math
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
STAYS = 12 * 3600.0
"""Seconds until one must log in again: a shift and a bit."""
FREE = 3
"""Wrong passwords after which an address must wait: people mistype."""
WAIT, LONGEST = 1.0, 60.0
"""Seconds it waits then; twice as long after each further one, up to this. Forgotten after so long ten times over."""
ADDRESSES = 10_000
"""Addresses that are remembered; of more, those that tried longest ago are forgotten."""
HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)


class Door:
    """ASGI middleware; without a password only loopback names are served."""

    def __init__(self, app: ASGIApp, password: str | None) -> None:
        self._app = app
        self._key = secrets.token_bytes(32)
        self._password = None if password is None else self._hash(password)
        self._wrong: dict[str, tuple[int, float]] = {}
        """By address: how many wrong passwords, and when the last came (s, the loop's clock)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        if self._password is None and _host(headers.get("host", "")) not in LOOPBACK:
            await _refuse(scope, receive, send, 421, "This page is for this machine only: http://127.0.0.1")
        elif "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host"):
            await _refuse(scope, receive, send, 403, "This page talks to itself only.")
        elif self._password is None or self._known(headers.get("cookie", ""), _cookie(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/login":
            await self._login(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in ("/", "/runs"):
            await RedirectResponse("/login", 303)(scope, receive, send)
        else:
            await _refuse(scope, receive, send, 401, "Log in first.")

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, address = Request(scope, receive), _address(scope)
        said, code = "", 200
        if request.method == "POST":
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > 4096:
                    break
            given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
            if (wait := self._must_wait(address)) > 0:  # what is given is not even looked at
                said, code = f"Too many wrong passwords; try again in {math.ceil(wait)} s.", 429
            elif hmac.compare_digest(self._hash(given), self._password or b""):
                self._wrong.pop(address, None)
                answer = RedirectResponse("/", 303)
                answer.set_cookie(
                    _cookie(scope), self._pass(), max_age=int(STAYS), httponly=True, samesite="strict",
                    secure=_secure(scope),
                )  # fmt: skip
                await answer(scope, receive, send)
                return
            else:
                self._count_wrong(address)
                said, code = "That is not the password.", 401
        page = _PAGE.replace("{said}", html.escape(said))
        await HTMLResponse(page, code, {"cache-control": "no-store"})(scope, receive, send)

    def _must_wait(self, address: str) -> float:
        """Seconds until a password from `address` is looked at."""
        count, last = self._wrong.get(address, (0, 0.0))
        if count < FREE:
            return 0.0
        return last + min(WAIT * 2.0 ** (count - FREE), LONGEST) - asyncio.get_running_loop().time()

    def _count_wrong(self, address: str) -> None:
        now = asyncio.get_running_loop().time()
        count, last = self._wrong.pop(address, (0, now))
        self._wrong[address] = (1 if now - last > 10 * LONGEST else min(count + 1, 100)), now  # the newest at the end
        if len(self._wrong) > ADDRESSES:
            del self._wrong[next(iter(self._wrong))]

    def _hash(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode(), hashlib.sha256)

    def _pass(self) -> str:
        until = f"{time.time() + STAYS:.0f}"
        return f"{until}.{hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()}"

    def _known(self, cookies: str, name: str) -> bool:
        try:
            jar: Any = SimpleCookie(cookies)
        except CookieError:
            return False
        until, _, seal = (jar[name].value if name in jar else "").partition(".")
        right = hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(seal.encode(), right.encode()) and until.isdigit() and int(until) > time.time()


async def _refuse(scope: Scope, receive: Receive, send: Send, code: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text})
    else:
        await PlainTextResponse(text, code)(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def said(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return said


def _secure(scope: Scope) -> bool:
    return scope["scheme"] in ("https", "wss")


def _cookie(scope: Scope) -> str:
    """The pass's name. Cookies are one machine's, whatever the port: two dashboards must not lose each other's."""
    port = (scope.get("server") or ("", 0))[1]
    return f"__Host-insitu{port}" if _secure(scope) else f"insitu{port}"  # the prefix: from this host, by TLS only


def _address(scope: Scope) -> str:
    """Whom to hold responsible for a wrong password: an IPv4 address, or the network of an IPv6 one."""
    given = str((scope.get("client") or ("", 0))[0])
    try:
        address = ipaddress.ip_address(given.partition("%")[0])
    except ValueError:
        return given
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return given


def _host(header: str) -> str:
    return header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0].lower()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>
body{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:100vh;margin:0}
form{display:grid;gap:.8rem;width:min(20rem,90vw)} input,button{font:inherit;padding:.7rem;border-radius:.5rem}
input{border:1px solid #8889} button{border:0;background:#0072b2;color:#fff;font-weight:600}
p{color:#d55e00;min-height:1.5em;margin:0}
</style></head><body><form method="post" action="/login">
<label for="password">Password of this dashboard</label>
<input id="password" name="password" type="password" autocomplete="current-password" autofocus required>
<button>Enter</button><p role="alert">{said}</p></form></body></html>
"""
