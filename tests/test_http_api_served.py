# SPDX-License-Identifier: LGPL-3.0-or-later
"""The API as its own document describes it, by real servers: schemathesis makes requests from the document, good and
bad ones, and looks whether each answer is one that it promises."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests import SCRIPT
from tests.installation import Installation
from tests.servers import KINDS, give, start, workplace
from webscheduler.store import keys, state
from webscheduler.store.task import load_tasks

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
          "negative_data_rejection")
# Server -> phases and how many examples of each operation; by default under CGI only some, since each is a process.
AMOUNTS = {"gunicorn-sync": ("coverage,fuzzing", 300 if FULL else 2),
           "apache-cgid": ("coverage,fuzzing", 20) if FULL else ("fuzzing", 2)}
WSGI = "from webscheduler.wsgi import application\n"


@pytest.mark.timeout(3600 if FULL else 300)
@pytest.mark.parametrize("name", AMOUNTS)
def test_each_answer_is_as_described(name: str, tmp_path: Path) -> None:
    """No 5xx, no status, type or shape that the document does not have, nothing bad taken; and what was a task before
    still loads, with the program that it had."""
    if importlib.util.find_spec("schemathesis") is None:
        if sys.version_info >= (3, 10) and os.environ.get("WEBSCHEDULER_REQUIRE_ALL"):
            pytest.fail("schemathesis is missing")

        pytest.skip("schemathesis is missing (PyPI; Python 3.10)")

    kind, (phases, examples) = KINDS[name], AMOUNTS[name]
    file = tmp_path / "app.py"
    file.write_text(WSGI)

    with workplace(kind) as directory:
        installation = Installation(directory / "home")
        installation.configure(baseUrl="https://example.org/cron", commands={
            "backup": {"argv": ["true"], "arguments": True}})
        installation.add("task", ["true"])
        key = keys.add(str(installation.home), "owner", "owner", time.time())
        give(installation.home, kind.user)
        # gunicorn's own limit is shorter than some fields of a query; Apache answers TRACE itself.
        extra = ["--limit-request-line", "0"] if kind.family == "wsgi" else []
        checks = [*CHECKS, *(["unsupported_method", "allow_header_conformance"] if kind.family == "wsgi" else [])]

        try:
            with start(kind, directory, SCRIPT if kind.family == "cgi" else file, extra=extra,
                       env={"WEBSCHEDULER_HOME": str(installation.home)}) as server:
                url = f"{server.url}/api/v1/openapi.json"
                # mod_cgid keeps Authorization to itself.
                given = f"X-Webscheduler-Key: {key}" if kind.family == "cgi" else f"Authorization: Bearer {key}"
                header, _, value = given.partition(": ")

                with urlopen(Request(url, headers={header: value})) as response:
                    document = json.load(response)

                done = subprocess.run(
                    [sys.executable, "-m", "schemathesis.cli", "run", url, "-H", given, "--checks", ",".join(checks),
                     "--phases", phases, "--max-examples", str(examples), "--continue-on-failure", "--no-color",
                     "--suppress-health-check", "all", *([] if FULL else ["--seed", "1"])],
                    cwd=tmp_path, capture_output=True, text=True, check=False,
                    env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONDEVMODE": ""})
                log = server.log_text()
        finally:
            installation.end()

        tasks, broken = load_tasks(state.read_strictly(str(installation.home)))

    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
    print(*[line for line in done.stdout.splitlines() if "generated" in line or line.startswith("Seed")])
    routes = sum(map(len, document["paths"].values()))
    assert f"Tested: {routes - 1}\n" in done.stdout  # all but that of the document, where it was found
    assert "Traceback" not in log
    assert broken == {}
    assert {tuple(task["argv"]) for task in tasks.values() if task["argv"]} <= {("true",)}


def test_apache_hands_authorization_on_where_it_is_told_to() -> None:
    """A CGI script does not get it, so keys have a header of their own; `CGIPassAuth On` changes that."""
    kind = KINDS["apache-cgid"]

    with workplace(kind) as directory:
        installation = Installation(directory / "home")
        key = keys.add(str(installation.home), "ci", "viewer", time.time())
        give(installation.home, kind.user)

        with start(kind, directory, SCRIPT, env={"WEBSCHEDULER_HOME": str(installation.home)}) as server:
            def status(**headers: str) -> int:
                given = {name.replace("_", "-"): value for name, value in headers.items()}

                try:
                    with urlopen(Request(f"{server.url}/api/v1", headers=given)) as response:
                        return int(response.status)
                except HTTPError as error:
                    with error:
                        return error.code

            assert [status(Authorization=f"Bearer {key}"), status(X_Webscheduler_Key=key)] == [401, 200]
            (directory / kind.scripts / ".htaccess").write_text("CGIPassAuth On\n")
            assert status(Authorization=f"Bearer {key}") == 200
