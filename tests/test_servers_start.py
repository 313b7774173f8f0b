"""The servers that other tests stand on: each starts, serves as CGI and WSGI say, reloads, and is gone afterwards."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.servers import KINDS, Kind, alive, start, workplace

SCRIPT = """#!/usr/bin/env python3
import json, os, sys
import webscheduler
body = json.dumps({"uid": os.getuid(), "env": dict(os.environ)}).encode()
sys.stdout.buffer.write(b"Status: 200 OK\\nContent-Type: application/json\\n\\n" + body)
"""

APP = """
import json, os
import webscheduler
def application(environ, start_response):
    shown = {name: value for name, value in environ.items() if isinstance(value, str)}
    body = json.dumps({"uid": os.getuid(), "env": {**shown, **os.environ}}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.status == 200
        return json.load(response)


def probe(kind: Kind, directory: Path) -> Path:
    """The script or application of these tests, for a server of this kind."""
    file = directory / ("probe.cgi" if kind.family == "cgi" else "probe.py")
    file.write_text(SCRIPT if kind.family == "cgi" else APP)
    return file


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_serves_reloads_and_is_gone(kind: Kind) -> None:
    """A server runs the script as its user with path, query and environment intact, also after a reload, and leaves
    neither a process nor a listening port."""
    with workplace(kind) as directory:
        with start(kind, directory, probe(kind, directory), env={"PROBE": str(directory)}) as server:
            answer = get(server.url + "/run/abc?sig=1&x=%20y")
            mount = server.url[len("http://") :].partition("/")[1:]
            assert answer["env"]["SCRIPT_NAME"] == "".join(mount)
            assert answer["env"]["PATH_INFO"] == "/run/abc"
            assert answer["env"]["QUERY_STRING"] == "sig=1&x=%20y"
            assert answer["env"]["PROBE"] == str(directory)
            assert answer["uid"] == directory.stat().st_uid
            assert "PYTEST_CURRENT_TEST" not in answer["env"]

            server.reload()
            assert get(server.url + "/run/abc")["env"]["PATH_INFO"] == "/run/abc"

            ours = server.processes()
            assert server.pid in ours
            server.stop()
            assert server.processes() == []
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", server.port))
        assert not any(map(alive, ours))
