"""Who may see the page."""

import asyncio

import pytest

from hal.dashboard import door
from hal.dashboard.door import Door


async def page(scope, receive, send):
    """The lab's page: answers everybody who gets so far."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the lab"})


class Browser:
    """Knocks at a door, as a server would let it."""

    def __init__(self, password=None, host="127.0.0.1:8080", scheme="http", address="10.0.0.7", door=None):
        self.door, self.host, self.cookie, self.told = door or Door(page, password), host, "", {}
        self.scheme, self.address = scheme, address

    async def knock(self, path="/", kind="http", method="GET", body=b"", **headers):
        given = {"host": self.host, "cookie": self.cookie} | headers
        sent = []
        scope = {
            "type": kind, "method": method, "path": path, "query_string": b"", "server": ("0.0.0.0", 8080),
            "scheme": self.scheme.replace("http", "ws") if kind == "websocket" else self.scheme,
            "client": (self.address, 50000),
            "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
        }  # fmt: skip

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        await self.door(scope, receive, send)
        if kind == "websocket":
            return sent[0]["type"] == "websocket.accept"
        self.told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        if "set-cookie" in self.told:
            self.cookie = self.told["set-cookie"].partition(";")[0]
        self.text = b"".join(part.get("body", b"") for part in sent[1:]).decode()
        return sent[0]["status"]

    async def login(self, password):
        return await self.knock("/login", method="POST", body=f"password={password}".encode())


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
async def test_this_machine_needs_no_password(host):
    browser = Browser(host=host)
    assert await browser.knock() == 200
    assert browser.text == "the lab"


async def test_a_name_that_a_stranger_made_point_here_is_not_served():
    assert await Browser(host="evil.example:8080").knock() == 421


async def test_another_page_can_neither_ask_nor_listen():
    browser = Browser()
    assert await browser.knock(origin="http://evil.example") == 403
    assert not await browser.knock("/ws", "websocket", origin="http://evil.example")
    assert await browser.knock("/ws", "websocket", origin="http://127.0.0.1:8080")


async def test_from_elsewhere_only_the_password_opens_page_and_socket():
    browser = Browser("sesame", "lab.example:8080")
    assert (await browser.knock(), browser.told["location"]) == (303, "/login")
    assert await browser.knock("/anything") == 401
    assert not await browser.knock("/ws", "websocket")
    assert await browser.login("sesam") == 401
    assert "not the password" in browser.text
    assert await browser.knock() == 303
    assert (await browser.login("sesame"), browser.told["location"]) == (303, "/")
    assert "HttpOnly" in browser.told["set-cookie"]
    assert await browser.knock() == 200
    assert await browser.knock("/ws", "websocket")


@pytest.mark.parametrize("cookie", ["", "1", "99999999999.00", "x.y", "99999999999.", '"', "é"])
async def test_a_cookie_that_was_made_up_opens_nothing(cookie):
    browser = Browser("sesame", "lab.example")
    await browser.login("sesame")
    name = browser.cookie.partition("=")[0]
    assert await browser.knock() == 200
    browser.cookie = f"{name}={cookie}"
    assert await browser.knock() == 303


async def test_a_pass_runs_out_and_is_no_pass_of_another_start(monkeypatch):
    browser, later = Browser("sesame", "lab.example"), Browser("sesame", "lab.example")
    await browser.login("sesame")
    later.cookie = browser.cookie
    assert (await browser.knock(), await later.knock()) == (200, 303)
    monkeypatch.setattr(door.time, "time", lambda now=door.time.time: now() + door.STAYS + 1)
    assert await browser.knock() == 303


async def test_by_https_the_pass_never_leaves_it():
    browser = Browser("sesame", "lab.example:8080", scheme="https")
    await browser.login("sesame")
    assert browser.cookie.startswith("__Host-")
    for word in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"):
        assert word in browser.told["set-cookie"]
    assert await browser.knock("/ws", "websocket")


async def test_no_other_page_can_show_this_one_in_a_frame():
    for browser in (Browser(), Browser("sesame", "lab.example")):
        await browser.knock("/login")
        assert "frame-ancestors 'none'" in browser.told["content-security-policy"]


async def test_who_guesses_waits_longer_and_longer_and_a_right_guess_meanwhile_is_not_even_looked_at():
    browser = Browser("sesame", "lab.example")
    tried = []
    for wait in (0, 0, 0, 1, 2, 4, 8):
        await asyncio.sleep(wait * 0.99)
        if wait:
            assert await browser.login("sesame") == 429
            assert "try again in" in browser.text
        await asyncio.sleep(wait * 0.02)
        tried.append(await browser.login("wrong"))
    assert tried == [401] * 7
    await asyncio.sleep(door.LONGEST)
    assert await browser.login("sesame") == 303


async def test_many_guesses_at_once_gain_nothing():
    browser = Browser("sesame", "lab.example")
    guesses = [Browser(host="lab.example", door=browser.door) for _ in range(50)]
    answers = await asyncio.gather(*(guess.login(f"guess {i}") for i, guess in enumerate(guesses)))
    assert (answers.count(401), answers.count(429)) == (door.FREE, 50 - door.FREE)


async def test_who_guesses_keeps_nobody_else_out_and_an_ipv6_network_counts_as_one():
    eve = Browser("sesame", "lab.example", address="2001:db8::1")
    for _ in range(door.FREE):
        await eve.login("wrong")
    also_eve = Browser(host="lab.example", address="2001:db8::2", door=eve.door)
    anna = Browser(host="lab.example", address="10.0.0.8", door=eve.door)
    assert (await also_eve.login("sesame"), await anna.login("sesame")) == (429, 303)
