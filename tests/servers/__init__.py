# SPDX-License-Identifier: LGPL-3.0-or-later
"""Real servers for the tests: `start` one of `KINDS` around a CGI script or a WSGI file, on 127.0.0.1 and a free port.

    kind = KINDS["apache-cgid"]
    with workplace(kind) as directory, start(kind, directory, script, env={"WEBSCHEDULER_HOME": home}) as server:
        urlopen(server.url + "/run/...")

Under root the servers give the work to `kind.user`, another user, as hosts do; otherwise everything is the caller's.
That user cannot look below a private directory, so tests work in a `workplace`, and scripts run under `python()`: the
system's interpreter in a virtual environment that everybody can read, with a copy of this checkout.
"""

from __future__ import annotations

import atexit
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from tests import PACKAGE
from tests.servers import apache, fronts, wsgi
from tests.servers.server import Plan, Server, Site, alive, as_user, free_port

__all__ = ["KINDS", "Kind", "Server", "alive", "as_user", "give", "python", "start", "workplace"]

SYSTEM_PYTHON = "/usr/bin/python3"
MOD_WSGI = "apache2 libapache2-mod-wsgi-py3"


class Kind(NamedTuple):
    """A server and the way it runs Python."""

    name: str
    family: str  # "cgi" or "wsgi"
    packages: str  # of Debian, or of PyPI where `needs` has no "/"; for the message that says what is missing
    needs: Sequence[str]  # files, or distributions of PyPI
    configure: Callable[[Site], Plan]
    runs_as: str = "www-data"
    scripts: str = "cgi-bin"  # the folder below the workplace where it finds CGI scripts
    check: Callable[[], str | None] | None = None

    @property
    def user(self) -> str:
        """The unix user that scripts and applications run as."""
        return self.runs_as if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def find(self) -> str | None:
        """Why it cannot be had here, in a line; None when it can."""
        for need in (SYSTEM_PYTHON, *self.needs):
            if "/" in need and not os.path.exists(need):
                return f"{self.name}: {need} is missing (Debian packages: python3 {self.packages})"
            if "/" not in need and not distribution(need):
                return f"{self.name}: {need} is missing (PyPI packages: {self.packages})"
        return self.check() if self.check else None


KINDS = {
    kind.name: kind
    for kind in (
        Kind("apache-cgi", "cgi", "apache2", [apache.APACHE], apache.cgi),
        Kind("apache-cgid", "cgi", "apache2", [apache.APACHE], apache.cgid),
        Kind(
            "apache-suexec",
            "cgi",
            "apache2 apache2-suexec-pristine",
            [apache.APACHE, apache.SUEXEC],
            apache.suexec,
            runs_as="nobody",
            scripts="public_html/cgi-bin",
            check=apache.suexec_check,
        ),
        Kind("lighttpd", "cgi", "lighttpd", [fronts.LIGHTTPD], fronts.lighttpd),
        Kind("nginx-fcgiwrap", "cgi", "nginx-light fcgiwrap", [fronts.NGINX, fronts.FCGIWRAP], fronts.fcgiwrap),
        Kind("mod-wsgi-daemon", "wsgi", MOD_WSGI, [apache.APACHE, apache.WSGI], apache.mod_wsgi_daemon),
        Kind("mod-wsgi-subinterpreter", "wsgi", MOD_WSGI, [apache.APACHE, apache.WSGI], apache.mod_wsgi_subinterpreter),
        Kind("mod-wsgi-embedded", "wsgi", MOD_WSGI, [apache.APACHE, apache.WSGI], apache.mod_wsgi_embedded),
        Kind("passenger-apache", "wsgi", "libapache2-mod-passenger", [apache.PASSENGER], apache.passenger),
        Kind("passenger-standalone", "wsgi", "passenger", [fronts.PASSENGER], fronts.passenger),
        Kind("uwsgi", "wsgi", "uwsgi-core uwsgi-plugin-python3", [wsgi.UWSGI, wsgi.UWSGI_PYTHON], wsgi.uwsgi),
        Kind("gunicorn-sync", "wsgi", "gunicorn", ["gunicorn"], partial(wsgi.gunicorn, workers=4)),
        Kind("gunicorn-gthread", "wsgi", "gunicorn", ["gunicorn"], partial(wsgi.gunicorn, threads=8)),
        Kind("nginx-gunicorn", "wsgi", "nginx-light", [fronts.NGINX, "gunicorn"], fronts.proxy),
        Kind("waitress", "wsgi", "waitress", ["waitress"], partial(wsgi.served, server="waitress")),
        Kind("cheroot", "wsgi", "cheroot", ["cheroot"], partial(wsgi.served, server="cheroot")),
        Kind("wsgiref", "wsgi", "", [], partial(wsgi.served, server="wsgiref")),
    )
}


def distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def require(kind: Kind) -> None:
    """Skip the test where the server is missing; fail it where none may be."""
    reason = kind.find()
    if reason:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)(reason)


def give(path: Path, user: str) -> None:
    """Make `user` the owner of everything at and below `path`, where the tests are root."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        for one in (path, *path.rglob("*")):
            with suppress(FileNotFoundError):  # of a run that ended just now
                os.chown(one, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


@contextmanager
def workplace(kind: Kind) -> Iterator[Path]:
    """An empty directory of `kind.user` that every user can traverse (pytest's `tmp_path` is private), then removed."""
    require(kind)
    directory = Path(tempfile.mkdtemp(prefix="ws-"))
    try:
        directory.chmod(0o755)
        give(directory, kind.user)
        yield directory
    finally:
        shutil.rmtree(directory)


@cache
def python() -> str:
    """The interpreter for scripts and servers: made once a test run, with what the tests' own interpreter has of the
    package's needs and of the servers. Copied, not installed: no network, and a tenth of a second."""
    home = Path(tempfile.mkdtemp(prefix="ws-python-"))
    atexit.register(shutil.rmtree, home)
    home.chmod(0o755)
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", home], check=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    shutil.copytree(PACKAGE, packages / "webscheduler")

    wanted = ["filelock", "gunicorn", "waitress", "cheroot"]
    for name in wanted:
        found = distribution(name)
        for file in (found and found.files) or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
        for requirement in (found and found.requires) or ():
            dependency = re.split(r"[^\w.-]", requirement)[0]
            if dependency not in wanted and "extra ==" not in requirement:
                wanted.append(dependency)

    subprocess.run([home / "bin/python3", "-m", "compileall", "-q", packages], check=True)
    return str(home / "bin/python3")


def place(kind: Kind, directory: Path, source: Path) -> Path:
    """Put a copy of the script or WSGI file where the server finds it. A script's line `#!...python3` is changed to
    `python()`, as an installer does."""
    if kind.family == "wsgi":
        file = directory / "app" / "passenger_wsgi.py"  # the name that Passenger wants does for all
        text = source.read_text()
    else:
        file = directory / kind.scripts / source.name
        text = re.sub(r"\A(#!.*?)\S*python3?(?=\s)", rf"\g<1>{python()}", source.read_text())

    missing = [one for one in file.parents if not one.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    for one in (file, *missing):
        one.chmod(0o755)
        give(one, kind.user)
    return file


@contextmanager
def start(
    kind: Kind,
    directory: Path,
    file: Path,
    *,
    env: Mapping[str, str] | None = None,
    prefix: str = "",
    extra: Sequence[str] = (),
) -> Iterator[Server]:
    """Run a server around `file`: a CGI script or, mounted at `prefix`, a file that defines a WSGI `application`.

    `directory` is a `workplace`; a copy of the file goes to cgi-bin/ or app/ in it. `env` reaches the script or the
    process of the application, nothing else of the tests' environment does. `extra` are lines for the server's
    configuration, or arguments of its command.
    """
    require(kind)
    env = dict(env or {})
    for name, value in env.items():
        if re.search(r"[\"'\\$\s]", value):
            raise ValueError(f"{name}: no server's configuration takes {value!r} as it is")

    file = place(kind, directory, file)
    run = Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=directory))
    run.chmod(0o755)
    (run / "error.log").touch()
    give(run, kind.user)
    site = Site(directory, run, free_port(), kind.user, file, prefix, env, extra, python())
    with Server(kind.configure(site), site) as server:
        yield server
