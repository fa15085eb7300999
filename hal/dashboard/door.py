"""The door: who may see the page. On loopback anybody at this machine; from elsewhere whoever knows the password.

Everything passes here first, the page's WebSocket too. On loopback a request must be addressed to this machine by
its own name, since a page of the web could otherwise reach it under a name that it makes point here.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "insitu"
STAYS = 12 * 3600.0
"""Seconds until one must log in again: a shift and a bit."""
DELAY = 1.0
"""Seconds a wrong password costs: all who guess wait in one line."""


class Door:
    """ASGI middleware; without a password only loopback names are served."""

    def __init__(self, app: ASGIApp, password: str | None) -> None:
        self._app = app
        self._key = secrets.token_bytes(32)
        self._password = None if password is None else self._hash(password)
        self._line = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        if self._password is None and _host(headers.get("host", "")) not in LOOPBACK:
            await _refuse(scope, receive, send, 421, "This page is for this machine only: http://127.0.0.1")
        elif "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host"):
            await _refuse(scope, receive, send, 403, "This page talks to itself only.")
        elif self._password is None or self._known(headers.get("cookie", "")):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/login":
            await self._login(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in ("/", "/runs"):
            await RedirectResponse("/login", 303)(scope, receive, send)
        else:
            await _refuse(scope, receive, send, 401, "Log in first.")

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        said = ""
        if request.method == "POST":
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > 4096:
                    break
            given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
            async with self._line:
                if hmac.compare_digest(self._hash(given), self._password or b""):
                    answer = RedirectResponse("/", 303)
                    answer.set_cookie(
                        COOKIE, self._pass(), max_age=int(STAYS), httponly=True, samesite="strict",
                        secure=scope["scheme"] == "https",
                    )  # fmt: skip
                    await answer(scope, receive, send)
                    return
                await asyncio.sleep(DELAY)
            said = "That is not the password."
        page = _PAGE.replace("{said}", html.escape(said))
        await HTMLResponse(page, 401 if said else 200, {"cache-control": "no-store"})(scope, receive, send)

    def _hash(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode(), hashlib.sha256)

    def _pass(self) -> str:
        until = f"{time.time() + STAYS:.0f}"
        return f"{until}.{hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()}"

    def _known(self, cookies: str) -> bool:
        try:
            jar: Any = SimpleCookie(cookies)
        except CookieError:
            return False
        until, _, seal = (jar[COOKIE].value if COOKIE in jar else "").partition(".")
        right = hmac.new(self._key, until.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(seal.encode(), right.encode()) and until.isdigit() and int(until) > time.time()


async def _refuse(scope: Scope, receive: Receive, send: Send, code: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": text})
    else:
        await PlainTextResponse(text, code)(scope, receive, send)


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
