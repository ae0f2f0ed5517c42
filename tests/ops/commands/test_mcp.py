"""`burnish mcp`: who may call it, and what it needs."""

import sys

import pytest
from burnish.ops.commands.mcp import OwnUser
from burnish.ops.commands.mcp import mcp as command
from burnish.serving.api import auth
from starlette.applications import Starlette
from starlette.testclient import TestClient


@pytest.mark.parametrize(("another", "status"), [(True, 403), (False, 404)])
def test_another_user_of_this_machine_is_turned_away(
    another: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "is_from_another_user", lambda _: another)
    assert TestClient(OwnUser(Starlette())).post("/mcp").status_code == status


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "burnish.serving.client.mcp_server", None)
    with pytest.raises(Exception, match=r"pip install '\.\[mcp\]'"):
        command(port=None, data_dir=None, url="http://127.0.0.1:1")
