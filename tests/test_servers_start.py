# SPDX-License-Identifier: LGPL-3.0-or-later
"""The servers that other tests stand on: each starts, serves as CGI and WSGI say, reloads, and is gone afterwards."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests import CHECKOUT
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
    body = json.dumps({"uid": os.getuid(), "env": {**os.environ, **shown}}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""

# Answers with the pid of a job in a session of its own.
DETACHING_APP = """
import subprocess
def application(environ, start_response):
    job = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [str(job.pid).encode()]
"""

KILLED_RUN = """
import os, sys
from pathlib import Path
from tests.servers import KINDS, start
directory = Path(sys.argv[1])
with start(KINDS["wsgiref"], directory, directory / "probe.py") as server:
    print(*server.processes(), flush=True)
    os._exit(9)
"""


def get(url: str, certificate: Path | None = None) -> Any:
    trusted = ssl.create_default_context(cafile=str(certificate)) if certificate else None
    with urllib.request.urlopen(url, timeout=20, context=trusted) as response:
        assert response.status == 200
        return json.load(response)


def probe(kind: Kind, directory: Path, app: str = APP) -> Path:
    """The script or application of these tests, for a server of this kind."""
    file = directory / ("probe.cgi" if kind.family == "cgi" else "probe.py")
    file.write_text(SCRIPT if kind.family == "cgi" else app)
    return file


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_serves_reloads_and_is_gone(kind: Kind) -> None:
    """A server runs the script as its user with path, query and environment intact, also after a reload, and leaves
    neither a process nor a listening port."""
    with workplace(kind) as directory:
        with start(kind, directory, probe(kind, directory), env={"PROBE": str(directory)}) as server:
            answer = get(server.url + "/run/abc?sig=1&x=%20y")
            host, slash, mount = server.url[len("http://") :].partition("/")
            assert answer["env"]["SCRIPT_NAME"] == slash + mount
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
                listener.bind(("127.0.0.1", int(host.rpartition(":")[2])))
        assert not any(map(alive, ours))


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS.values() if kind.family == "wsgi" and kind.name != "passenger-standalone"],
    ids=lambda kind: kind.name,
)
def test_mounts_below_a_prefix(kind: Kind) -> None:
    """An application mounted below a prefix sees it as SCRIPT_NAME, and the rest as PATH_INFO."""
    with workplace(kind) as directory, start(kind, directory, probe(kind, directory), prefix="/cron") as server:
        seen = get(server.url + "/run/abc")["env"]
    assert server.url.endswith("/cron")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/cron", "/run/abc")


def test_proxy_says_who_came_by_https() -> None:
    """The application behind nginx learns the client's address from X-Forwarded-For, and that it came by https."""
    kind = KINDS["nginx-gunicorn"]
    with workplace(kind) as directory, start(kind, directory, probe(kind, directory)) as server:
        assert server.secure_url
        plain, secure = get(server.url)["env"], get(server.secure_url, server.certificate)["env"]
    assert (plain["HTTP_X_FORWARDED_FOR"], plain["wsgi.url_scheme"]) == ("127.0.0.1", "http")
    assert (secure["HTTP_X_FORWARDED_FOR"], secure["wsgi.url_scheme"]) == ("127.0.0.1", "https")


def test_a_detached_job_outlives_the_stop_but_not_the_test() -> None:
    """A job in a session of its own lives on after `stop`, as on a host, and ends with the `with` block."""
    kind = KINDS["wsgiref"]
    with workplace(kind) as directory:
        with start(kind, directory, probe(kind, directory, DETACHING_APP)) as server:
            job = get(server.url)
            server.stop()
            assert server.processes() == [job]
        assert not alive(job)


def test_a_killed_test_run_leaves_no_server() -> None:
    """A server ends with the test run that started it, however that ended."""
    kind = KINDS["wsgiref"]
    with workplace(kind) as directory:
        probe(kind, directory)
        argv = [sys.executable, "-c", KILLED_RUN, str(directory)]
        env = {**os.environ, "TMPDIR": str(directory)}
        run = subprocess.run(argv, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, text=True, timeout=60)
        assert run.returncode == 9
        pids = [int(pid) for pid in run.stdout.split()]
        assert pids
        deadline = time.monotonic() + 20
        while any(map(alive, pids)):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_server_is_named(required: str, outcome: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a server is missing the test is skipped, or fails where WEBSCHEDULER_REQUIRE_ALL is set, and says why."""
    monkeypatch.setenv("WEBSCHEDULER_REQUIRE_ALL", required)
    missing = KINDS["wsgiref"]._replace(name="other", needs=["/usr/sbin/none"], packages="nothing")
    with pytest.raises(outcome, match=r"other: /usr/sbin/none is missing .*nothing"), workplace(missing):
        pass
