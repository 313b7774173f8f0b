# SPDX-License-Identifier: LGPL-3.0-or-later
"""What pages tell to type does what they say: their shell blocks are run as they stand, in a fresh home.

Rules: the only thing that changes is the address, as a page asks its reader to put in his own. A line that cannot run
here is in CANNOT with the reason, and a block that is no shell in OTHER; a row of either that nothing needs is stale.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from tests import PACKAGE, python_path
from tests.installation import Installation
from tests.servers import KINDS, as_user, distribution, give, workplace
from tests.servers.server import Server, Site, free_port
from tests.test_docs import DOCS, FENCE, blocks, name
from webscheduler import __version__
from webscheduler.wsgi import create_app

TUTORIAL = DOCS / "tutorial" / "first-task.md"
HOW_TO = sorted(page for page in (DOCS / "how-to").glob("*.md") if not page.name.endswith(".fr.md"))
ADDRESS = "https://example.org"
MOUNTS = ("/cgi-bin/webscheduler.cgi", "/scheduler", "/cron")
PASSWORD = "correct horse battery"

# Lines that are left out, by the page's name and how they read, and why.
CANNOT = {
    r"\bpip install\b": "needs an index of packages; the test of the tutorial has one",
    r"-m venv\b|/bin/activate$": "the same",
    r": sudo ": "needs a machine of its own",
    r"\bcrontab (-l|install|uninstall)\b": "the crontab of whoever runs the tests; test_crontab.py has one of its own",
    r": gunicorn ": "does not end",
    r"\bprobe --seconds": "takes as long as it says",
    r"\bnotify\b.*(email|test)": "sends mail; test_channels.py has a server of its own",
    r"'URL'|BODY|body\.json": "the reader has to put something in",
    r"/home/me/(virtualenv/|webscheduler/|public_html/)": "a program at a place on another machine",
    r"embedding\.md: webscheduler sync": "needs the site; test_embedding.py has one",
    r"/elsewhere/": "a place outside of the account",
    r"apache\.md: *(<|#|ScriptAlias|Require)": "the configuration of a server, after shell in the same block",
}

# Blocks that are no shell, by how they begin.
OTHER = {
    r"from webscheduler import": "Python",
    r"<|location |WSGIDaemonProcess|PassengerPython|log_format": "the configuration of a server",
}

# What a reader of a page has done before, besides `webscheduler init`, or what his host has made.
BEFORE = {
    "cpanel.md": "mkdir scheduler; touch scheduler/passenger_wsgi.py",
    "monitoring.md": "webscheduler add backup --command hello",
    "moving.md": "webscheduler add report --every 1h --command hello; mkdir -p var/scheduler; "
                 "echo '{}' > var/scheduler/state.json",
    "nginx.md": "mkdir cgi-bin",
    "notifications.md": "webscheduler add backup --command hello",
    "o2switch.md": "mkdir scheduler",
    "passenger.md": "mkdir scheduler",
    "questions.md": "webscheduler add NAME --command hello",
    "uninstall.md": "webscheduler add backup --command hello",
}


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


def shell(page: Path) -> Iterator[str]:
    """The shell blocks of a page: those that are indented, and fences that say so."""
    text = page.read_text()
    fences = [fence[2] for fence in FENCE.finditer(text)]
    said = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)

    for block in blocks(text):
        if not any(re.match(begins, block) for begins in OTHER) and (block not in fences or block in said):
            yield block


def possible(page: Path, block: str) -> str:
    """The block without the lines that cannot run here. `doctor` has found an error as long as nothing calls `@due`."""
    return "\n".join("webscheduler doctor || [ $? = 1 ]" if line == "webscheduler doctor" else line
                     for line in block.split("\n")
                     if not any(re.search(each, f"{page.name}: {line}") for each in CANNOT))


def typed(script: str, home: Path, path: str, user: str | None = None, **variables: str) -> str:
    """Run a script as if its lines were typed; what it printed. Whatever asks for a password gets one."""
    head = "set -eE\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\ncd\n"
    environment = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", **variables}
    done = subprocess.run(["bash", "-c", head + script], input=PASSWORD + "\n", text=True, env=environment, timeout=100,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=home, **as_user(user))
    assert done.returncode == 0, done.stdout[-500:]
    return done.stdout


@pytest.mark.parametrize("page", HOW_TO, ids=name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """Each block of shell, in the order of the page, without an error."""
    lines = [possible(page, block) for block in shell(page)]

    if not shutil.which("curl") and "curl " in "".join(lines):
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("curl is missing")

    home = tmp_path / "account"
    programs = tmp_path / "programs"
    (home / "public_html" / "cgi-bin").mkdir(parents=True)
    programs.mkdir()
    (programs / "webscheduler").write_text(f'#!/bin/sh\nexec {sys.executable} -m webscheduler "$@"\n')
    (programs / "webscheduler").chmod(0o755)
    installation = Installation(home / ".webscheduler")

    try:
        with served(installation.home) as address:
            before = [f"webscheduler config set baseUrl {ADDRESS}/cron", BEFORE.get(page.name, ":")]
            script = "\n".join([*before, *lines]).replace(ADDRESS, address)
            typed(script, home, f"{programs}{os.pathsep}{os.environ['PATH']}", **python_path())
    finally:
        installation.end()


def wheel(folder: Path, project: str, version: str, files: dict[str, bytes]) -> None:
    """A wheel (PEP 427) with these files, as an index would have it."""
    info = f"{project}-{version}.dist-info"
    files = {**files, f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    digests = {path: urlsafe_b64encode(sha256(content).digest()).decode() for path, content in files.items()}
    record = "".join(f"{path},sha256={digest.rstrip('=')},{len(files[path])}\n" for path, digest in digests.items())

    with zipfile.ZipFile(folder / f"{project}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(path, content)


def index(folder: Path) -> Path:
    """The folder, made, with what pip installs for `pip install webscheduler`: the package under test, and filelock."""
    folder.mkdir()
    own = {f"webscheduler/{file.relative_to(PACKAGE)}": file.read_bytes()
           for file in PACKAGE.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    info = f"webscheduler-{__version__}.dist-info"
    wheel(folder, "webscheduler", __version__, {
        **own, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: webscheduler\nVersion: {__version__}\n"
                                   "Requires-Dist: filelock\n".encode(),
        f"{info}/entry_points.txt": b"[console_scripts]\nwebscheduler = webscheduler.__main__:main\n"})
    lock = distribution("filelock")
    assert lock
    assert lock.files
    wheel(folder, "filelock", lock.version, {
        str(file): Path(str(file.locate())).read_bytes() for file in lock.files
        if file.suffix != ".pyc" and file.name not in ("RECORD", "WHEEL", "INSTALLER", "REQUESTED")})
    return folder


def test_the_tutorial_runs() -> None:
    """Each block, word by word, in a new account with a cgi-bin of Apache: its virtual environment, its run by URL, the
    call that is refused, the tick."""
    kind = KINDS["apache-cgid"]

    with workplace(kind) as account:
        script = account / "public_html" / "cgi-bin" / "webscheduler.cgi"
        run = account / "run"

        for folder in (script.parent, run):
            folder.mkdir(parents=True)

        (run / "error.log").touch()
        packages = index(account / "packages")
        give(account, kind.user)
        site = Site(account, run, free_port(), kind.user, script, "", {}, (), "")

        with Server(kind.configure(site), site) as server:
            address = server.url.partition("/cgi-bin/")[0]
            text = "\n".join(shell(TUTORIAL)).replace(ADDRESS, address)
            shown = typed(text, account, "/usr/bin:/bin", kind.user, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(packages),
                          PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_CACHE_DIR="1")
            installation = Installation(account / ".webscheduler")
            runs = installation.runs("backup")

        assert [(line["trigger"], line["status"]) for line in runs] == [("cli", "success"), ("url", "success")]
        assert '{"accepted": false}' in shown
        assert "last tick:" in shown
        assert "me can sign in" in shown
        assert (account / "backups" / "site.tar.gz").stat().st_size > 0


def test_no_exception_is_stale() -> None:
    """Each row of CANNOT, OTHER and BEFORE is about something that a page has."""
    lines = [f"{page.name}: {line}" for page in HOW_TO for block in shell(page) for line in block.split("\n")]
    assert not [each for each in CANNOT if not any(re.search(each, line) for line in lines)]
    every = [block for page in HOW_TO for block in blocks(page.read_text())]
    assert not [begins for begins in OTHER if not any(re.match(begins, block) for block in every)]
    assert set(BEFORE) <= {page.name for page in HOW_TO}
