# SPDX-License-Identifier: LGPL-3.0-or-later
"""What pages tell to type does what they say: their shell blocks are run as they stand, in a fresh home.

Rules: the only things that change are the address and places, as a page asks its reader to put in his own. A line that
cannot run here is in CANNOT with the reason, and a block that is no shell in OTHER; a row that nothing needs is stale.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from tests import python_path
from tests.installation import Installation
from tests.pages import ADDRESS, DOCS, OTHER, blocks, name, shell, typed
from webscheduler.wsgi import create_app

WITH_PIP = ("uninstall.md", "upgrade.md")  # test_installed.py runs them, whole
HOW_TO = sorted(page for page in (DOCS / "how-to").glob("*.md")
                if page.name not in WITH_PIP and not page.name.endswith(".fr.md"))
MOUNTS = ("/cgi-bin/webscheduler.cgi", "/scheduler", "/cron")

# Lines that are left out, by the page's name and how they read, and why.
CANNOT = {
    r"\bpip install\b": "needs an index of packages; test_installed.py has one",
    r"-m venv\b|/bin/activate$": "the same",
    r": *sudo ": "needs a machine of its own",
    r": gunicorn ": "does not end",
    r"\bprobe --seconds": "takes as long as it says",
    r"\bnotify test": "sends mail; test_channels.py has a server of its own",
    r"/usr/bin/python3 /home/me/public_html/": "needs the bundle there; test_bundle.py has it",
    r"embedding\.md: webscheduler sync": "needs the site; test_embedding.py has one",
}

# What a reader of a page has done before, besides `webscheduler init`, or what his host has made.
BEFORE = {
    "cpanel.md": "mkdir -p scheduler virtualenv/scheduler/3.11/bin webscheduler/bin; "
                 "touch scheduler/passenger_wsgi.py; for place in virtualenv/scheduler/3.11 webscheduler; do "
                 'ln -s "$HOST/webscheduler" $place/bin; done',
    "monitoring.md": "webscheduler add backup --command hello",
    "moving.md": "echo '15 3 * * * true' | crontab -; webscheduler --home /elsewhere/.webscheduler init; "
                 "webscheduler add report --every 1h --command hello; mkdir -p var/scheduler; "
                 "echo '{}' > var/scheduler/state.json",
    "nginx.md": "mkdir cgi-bin",
    "notifications.md": "webscheduler add backup --command hello; echo '{}' > body.json",
    "o2switch.md": "mkdir scheduler",
    "passenger.md": "mkdir scheduler",
    "pythonanywhere.md": 'mkdir -p webscheduler/bin; ln -s "$HOST/python" webscheduler/bin',
    "questions.md": "webscheduler add NAME --command hello",
}

# A host's command to which the account's crontab is a file.
CRONTAB = """case "$1" in
  -l) [ -e ~/.crontab ] || { echo 'no crontab for me' >&2; exit 1; }; cat ~/.crontab ;;
  -r) rm ~/.crontab ;;
  *) cat > ~/.crontab ;;
esac
"""


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The installation at each of the places where pages mount it; the address of the server."""
    application = create_app(home=str(home))

    def mounted(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        mount = next((mount for mount in MOUNTS if path.startswith(mount)), "")
        return application({**environ, "SCRIPT_NAME": mount, "PATH_INFO": path[len(mount):]}, start_response)

    with make_server("127.0.0.1", 0, mounted, WSGIServer, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def possible(page: Path, block: str) -> str:
    """The block without the lines that cannot run here. `doctor` has found an error as long as nothing calls `@due`."""
    return "\n".join("webscheduler doctor || [ $? = 1 ]" if line == "webscheduler doctor" else line
                     for line in block.split("\n")
                     if not any(re.search(each, f"{page.name}: {line}") for each in CANNOT))


@pytest.mark.parametrize("page", HOW_TO, ids=name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """Each block of shell, in the order of the page, without an error."""
    lines = [possible(page, block) for block in shell(page)]

    if not shutil.which("curl") and "curl " in "".join(lines):
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("curl is missing")

    home, host = tmp_path / "account", tmp_path / "host"
    (home / "public_html" / "cgi-bin").mkdir(parents=True)
    host.mkdir()

    for program, text in (("webscheduler", f'exec {sys.executable} -m webscheduler "$@"\n'),
                          ("python", f'exec {sys.executable} "$@"\n'), ("crontab", CRONTAB)):
        (host / program).write_text(f"#!/bin/sh\n{text}")
        (host / program).chmod(0o755)

    installation = Installation(home / ".webscheduler")

    try:
        with served(installation.home) as address:
            before = [f"webscheduler config set baseUrl {ADDRESS}/cron", BEFORE.get(page.name, ":")]
            script = "\n".join([*before, *lines])

            for theirs, ours in ((ADDRESS, address), ("'URL'", '"$(webscheduler url @due)"'), ("/home/me/", f"{home}/"),
                                 ("/elsewhere/", f"{tmp_path}/elsewhere/")):
                script = script.replace(theirs, ours)

            typed(script, home, f"{host}{os.pathsep}{os.environ['PATH']}", HOST=str(host), **python_path())
    finally:
        installation.end()


def test_no_exception_is_stale() -> None:
    """Each row of CANNOT, OTHER and BEFORE is about something that a page has."""
    lines = [f"{page.name}: {line}" for page in HOW_TO for block in shell(page) for line in block.split("\n")]
    assert not [each for each in CANNOT if not any(re.search(each, line) for line in lines)]
    every = [block for page in HOW_TO for block in blocks(page.read_text())]
    assert not [begins for begins in OTHER if not any(re.match(begins, block) for block in every)]
    assert set(BEFORE) <= {page.name for page in HOW_TO}
