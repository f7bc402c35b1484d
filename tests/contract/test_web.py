"""Who may use our routes is who may use the webui's."""

from __future__ import annotations

import pytest
from fake_webui import FakeWebui

from lib_pivotal.host.a1111.web import api_credentials


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (None, {}),
        ("", {}),
        ("anna:a,bert:b:c", {"anna": "a", "bert": "b:c"}),
        (":secret", {"": "secret"}),
        ("anna:a,", {"anna": "a"}),
    ],
)
def test_an_empty_user_still_needs_the_password(monkeypatch, option, expected):
    webui = FakeWebui(monkeypatch)
    webui.modules["shared"].cmd_opts.api_auth = option
    assert api_credentials() == expected
