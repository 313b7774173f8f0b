"""Making an installation, and who may use it. Imports the files below the work.

The rules: a home is for its owner alone (directories 0700, files 0600) and never inside a document root, where a web
server might hand out state.json with every secret. Making it twice changes nothing that is there.
"""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from urllib.parse import urlsplit

from . import atomic, config, schedule, signing, store
from .errors import BadInput, Unusable
from .task import DUE, FIELDS, check, format_time, from_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIRECTORIES = ("locks", "runs", "logs", "output", "commands")
DOCUMENT_ROOTS = ("public_html", "htdocs", "www", "html", "httpdocs", "web", "cgi-bin", "public", "webroot", "wwwroot")


def create(home: str, now: float) -> bool:
    """Make or complete the home; True if it was not there. Raises BadInput for a home that a web server may serve."""
    root = document_root_above(home)

    if root:
        raise BadInput(f"{home} lies below {root}, which a web server may serve: choose a home outside of it")

    new = not os.path.isdir(home)

    try:
        os.makedirs(home, 0o700, exist_ok=True)
        os.chmod(home, 0o700)

        for directory in DIRECTORIES:
            os.makedirs(os.path.join(home, directory), 0o700, exist_ok=True)
            os.chmod(os.path.join(home, directory), 0o700)

        if not os.path.exists(os.path.join(home, ".gitignore")):
            atomic.replace(os.path.join(home, ".gitignore"), b"*\n")  # no secret of it is ever committed
    except OSError as error:
        raise Unusable(f"{error.filename or home} cannot be made: {error.strerror}")

    if not os.path.exists(os.path.join(home, "config.json")):
        config.set_values(home, {"timezone": "UTC"})

    store.create(home)
    store.update(home, lambda tasks: tasks.setdefault(DUE, new_task(now, {"group": "built-in", **DUE_FIELDS})))
    return new


DUE_FIELDS = {"enabled": True, "title": "Everything that is due", "timeout": 0, "description":
              "Runs whatever is due. Have your panel call its URL as often as it can, and let it run all your tasks."}


def new_task(now: float, fields: dict[str, Any]) -> dict[str, Any]:
    """A complete row of state.json with a slug and a secret of its own."""
    row = {name: field.default for name, field in FIELDS.items()}
    keys = {"slug": signing.new_slug(), "secret": signing.new_secret(), "createdAt": format_time(now)}
    return {**row, **keys, **fields}


def document_root_above(home: str) -> str:
    """The directory at or above `home` that web servers are known to serve, or empty."""
    environ_root = os.environ.get("DOCUMENT_ROOT", "")

    if environ_root and (os.path.realpath(home) + "/").startswith(os.path.realpath(environ_root).rstrip("/") + "/"):
        return environ_root

    parts = os.path.realpath(home).split("/")

    for depth in range(len(parts), 1, -1):
        directory = "/".join(parts[:depth])

        # /var/www may well be an account's home: it is a root where a start page shows that it is served.
        served = any(os.path.exists(os.path.join(directory, f"index.{end}")) for end in ("html", "php", "htm"))

        if parts[depth - 1] in DOCUMENT_ROOTS and (parts[depth - 1] != "www" or served):
            return directory

    return ""


def program() -> list[str]:
    """The words that call the command line as it was called now."""
    if sys.argv[0].endswith("__main__.py"):
        return [sys.executable, "-m", "webscheduler"]

    return sys.argv[:1] if os.access(sys.argv[0], os.X_OK) else [sys.executable, sys.argv[0]]


def check_owner(home: str) -> None:
    """Refuse to work as another user than the home's owner: files that the web server cannot read would remain."""
    try:
        owner = os.stat(home).st_uid
    except OSError:
        raise Unusable(f"there is no installation at {home}: `webscheduler init` makes one")

    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"

        words = " ".join(shlex.quote(word) for word in (*program(), *sys.argv[1:]))
        raise Unusable(f"{home} belongs to {name}: sudo -u {shlex.quote(name)} WEBSCHEDULER_HOME={shlex.quote(home)} "
                       f"{words}")


def setting(name: str, text: str) -> Any:
    """The value that a person typed for a setting, checked, also where only this machine knows what is good. Raises
    BadInput."""
    return check_setting(name, from_text(name, config.SETTINGS[name], text))


def check_setting(name: str, value: Any) -> Any:
    """The value, if it is good, also where only this machine knows that. Raises BadInput."""
    check(name, config.SETTINGS[name], value)

    if name == "baseUrl" and value is not None:
        check_base_url(value)
    elif name == "timezone":
        schedule.zone(value)

    return value


def check_base_url(text: str) -> str:
    """`text` if it can stand before /run/SLUG?sig=… Raises BadInput."""
    problem = ""

    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 (raises for a port that is none)
    except ValueError:
        problem = "is no URL"
    else:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "must start with https:// (or http://) and a host"
        elif not all("!" <= c <= "~" for c in text):
            problem = "must not hold blanks or characters beyond ASCII"
        elif "?" in text or "#" in text:
            problem = "must not hold a query or fragment: it ends where /run/ begins"
        elif parts.username is not None:
            problem = "must not hold a user name or password"

    if problem:
        raise BadInput(f"baseUrl: {text[:100]!r} {problem}, as in https://example.org/cgi-bin/webscheduler.cgi",
                       "baseUrl")

    return text
