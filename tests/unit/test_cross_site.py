"""Which requests another site sends, told from what browsers add to them."""

from __future__ import annotations

import pytest

from lib_pivotal.app.cross_site import foreign_origin

HERE = "127.0.0.1:7860"
OWN = [
    # Programs: curl, requests, other servers.
    {},
    {"host": "anything.example.com"},
    # The webui's page on this computer: the browser says it.
    {"host": HERE, "origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"},
    {"host": "localhost:7860", "origin": "http://localhost:7860", "sec-fetch-site": "same-origin"},
    # The user's own doing: an extension of the browser.
    {"host": HERE, "origin": "chrome-extension://abc", "sec-fetch-site": "none"},
    # Through a proxy that ends https and tells the webui another name.
    {"host": HERE, "origin": "https://my.example.com", "sec-fetch-site": "same-origin"},
    {"host": HERE, "x-forwarded-host": "box.lan", "origin": "http://box.lan"},
    {"host": HERE, "x-forwarded-host": "box.lan, inner", "origin": "http://box.lan"},
    # --listen, without https: the browser sends the origin alone.
    {"host": "192.168.1.5:7860", "origin": "http://192.168.1.5:7860"},
    {"host": "[fe80::1]:7860", "origin": "http://[fe80::1]:7860"},
    {"host": "studio:7860", "origin": "http://studio:7860"},
    {"host": "Studio.local:7860", "origin": "http://studio.local:7860"},
    {"host": "192.168.1.5:80", "origin": "http://192.168.1.5"},
    {"host": "192.168.1.5", "origin": "https://192.168.1.5:443"},
    # Privacy settings that take the origin away from the page's own requests.
    {"host": HERE, "origin": "null", "sec-fetch-site": "same-origin"},
]
FOREIGN = [
    {"host": HERE, "origin": "https://evil.example.com", "sec-fetch-site": "cross-site"},
    {"host": HERE, "sec-fetch-site": "cross-site"},
    # Another port of this computer, another name below the same domain.
    {"host": "localhost:7860", "origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
    {"host": "192.168.1.5:7860", "origin": "http://192.168.1.5:3000"},
    {"host": "192.168.1.5:7860", "origin": "http://192.168.1.6:7860"},
    {"host": "192.168.1.5:7860", "origin": "http://evil.example.com"},
    # A frame without an origin, a file.
    {"host": HERE, "origin": "null", "sec-fetch-site": "cross-site"},
    {"host": "192.168.1.5:7860", "origin": "null"},
    {"host": "", "origin": "null"},
    # A browser that sends no origin with a form.
    {"host": "192.168.1.5:7860", "referer": "http://evil.example.com/page?x=http://192.168.1.5:7860/"},
    {"host": HERE, "origin": "http://[evil"},
    {"host": HERE, "origin": "http://evil.example.com@127.0.0.1:7860"},
    # A public name that leads to the user's computer since a moment ago.
    {"host": "evil.example.com:7860", "origin": "http://evil.example.com:7860"},
    {"host": HERE, "x-forwarded-host": "evil.example.com", "origin": "http://evil.example.com"},
]


def found(headers, **options):
    return foreign_origin(headers, options.get("is_trusted", lambda _: False), asks_for_login="login" in options)


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_own_requests_are_obeyed(headers):
    assert found(headers) == ""


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_sites_are_recognized(headers):
    assert found(headers)
    if "origin" in headers:
        assert found(headers) == headers["origin"]


def test_a_site_that_the_user_allows_is_no_other_site():
    headers = {"host": HERE, "origin": "https://mine.example.com", "sec-fetch-site": "cross-site"}
    assert found(headers, is_trusted=lambda origin: origin == "https://mine.example.com") == ""
    assert found(headers, is_trusted=lambda origin: origin == "https://other.example.com")


def test_where_a_login_is_asked_for_the_webui_may_have_a_public_name():
    headers = {"host": "my.example.com:7860", "origin": "http://my.example.com:7860"}
    assert found(headers, login=True) == ""
    assert found({**headers, "origin": "http://evil.example.com"}, login=True)


def test_the_page_that_an_old_browser_names_may_be_ours():
    assert found({"host": "192.168.1.5:7860", "referer": "http://192.168.1.5:7860/?x=1"}) == ""
