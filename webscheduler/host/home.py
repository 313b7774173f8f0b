# SPDX-License-Identifier: LGPL-3.0-or-later
"""Creates the home directory of an installation, and checks who uses it.

The rules: only its owner can read a home (directories 0700, files 0600), and it is never inside a document root, where
a web server might show state.json with every secret. Creating it again changes nothing that is there.
"""

from __future__ import annotations

import os
import shlex
import sys

from ..accounts import both_users, name_of
from ..errors import BadInput, Unusable
from ..store import state
from ..store.files import replace_file
from ..store.settings import save_settings
from ..store.task import DUE, DUE_FIELDS, new_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any

FOLDERS = ("locks", "runs", "logs", "output", "commands")
DOCUMENT_ROOTS = ("public_html", "htdocs", "www", "html", "httpdocs", "web", "cgi-bin", "public", "webroot", "wwwroot")


def create_home(home: str, now: float, zone: str = "UTC", environ: dict[str, Any] | None = None) -> None:
    """Create or complete the home. zone: the time zone of a new one; empty: to be asked for. environ: see
    `document_root_above`. Raises BadInput for a place that a web server may serve."""
    make_directory(home, environ)

    try:
        for directory in FOLDERS:
            os.makedirs(os.path.join(home, directory), 0o700, exist_ok=True)
            os.chmod(os.path.join(home, directory), 0o700)

        if not os.path.exists(os.path.join(home, ".gitignore")):
            replace_file(os.path.join(home, ".gitignore"), b"*\n")  # its secrets must not get into a repository
    except OSError as error:
        raise Unusable(f"{error.filename or home} cannot be created: {error.strerror}")

    if not os.path.exists(os.path.join(home, "config.json")):
        save_settings(home, {"timezone": zone or None})

    state.create(home)
    state.update(home, lambda tasks: tasks.setdefault(DUE, new_task(now, {"group": "built-in", **DUE_FIELDS})))


def make_directory(home: str, environ: dict[str, Any] | None = None) -> list[str]:
    """Make the home without anything in it. Returns the directories that were not there, it first. Raises BadInput for
    a place that may be served."""
    root = document_root_above(home, environ)

    if root:
        raise BadInput(f"{home} is inside {root}, which a web server may serve: choose another home")

    new: list[str] = []
    place = home

    while not os.path.isdir(place):
        new.append(place)
        place = os.path.dirname(place) or "."

    try:
        os.makedirs(home, 0o700, exist_ok=True)
        os.chmod(home, 0o700)
    except OSError as error:
        raise Unusable(f"{error.filename or home} cannot be created: {error.strerror}")

    return new


def document_root_above(home: str, environ: dict[str, Any] | None = None) -> str:
    """The directory, `home` or one above it, that a web server serves as far as its name and the server's variables
    tell, or empty. environ: of a request (PEP 3333); without it, the environment of this process."""
    for name in ("DOCUMENT_ROOT", "CONTEXT_DOCUMENT_ROOT"):  # the second is Apache's, of a userdir or an alias
        told = os.environ.get(name, "") if environ is None else os.fsdecode(
            str(environ.get(name, "")).encode("latin-1", "replace"))

        if told and (os.path.realpath(home) + "/").startswith(os.path.realpath(told).rstrip("/") + "/"):
            return told

    parts = os.path.realpath(home).split("/")

    for depth in range(len(parts), 1, -1):
        directory = "/".join(parts[:depth])

        # /var/www may be an account's home; it counts only if a start page shows that it is served.
        served = any(os.path.exists(os.path.join(directory, f"index.{end}")) for end in ("html", "php", "htm"))

        if parts[depth - 1] in DOCUMENT_ROOTS and (parts[depth - 1] != "www" or served):
            return directory

    return ""


def program_words() -> list[str]:
    """The words with which this command line was called."""
    if sys.argv[0].endswith("__main__.py"):
        return [sys.executable, "-m", "webscheduler"]

    return sys.argv[:1] if os.access(sys.argv[0], os.X_OK) else [sys.executable, sys.argv[0]]


def check_owner(home: str) -> None:
    """Raises Unusable for any user but the home's owner, since the web server could not read the files made."""
    try:
        owner = os.stat(home).st_uid
    except PermissionError:
        raise Unusable(f"{home} cannot be looked at{both_users(home)}")
    except OSError:
        raise Unusable(f"there is no installation at {home}: `webscheduler init` creates one")

    if owner != os.geteuid():
        import pwd  # not all systems have it, and this module is read there too

        name = name_of(pwd.getpwuid, owner)
        words = " ".join(shlex.quote(word) for word in (*program_words(), *sys.argv[1:]))
        raise Unusable(f"{home} belongs to {name}: sudo -u {shlex.quote(name)} WEBSCHEDULER_HOME={shlex.quote(home)} "
                       f"{words}")
