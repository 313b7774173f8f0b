# SPDX-License-Identifier: LGPL-3.0-or-later
"""The files that connect an installation to a web server: CGI script, Passenger's entry, .htaccess, PHP shim.

The rules: a file that was not written here is never overwritten, one that serves another home only if that is meant.
Each contains the home and the libraries that it needs, since a server's environment may not be that of a login.
"""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import shlex
import stat
import subprocess
from collections.abc import Sequence

from .. import signing
from ..commands import registry
from ..errors import BadInput
from ..store.files import replace_file
from ..store.settings import Settings

NAME = "webscheduler.cgi"
MARKS = ("# The CGI entry of webscheduler.", "# webscheduler ", "# Written by webscheduler init")  # on the first lines


def entry(name: str) -> str:
    """A template of entries/."""
    return (pkgutil.get_data(__name__, f"entries/{name}") or b"").decode()


def write_script(settings: Settings, folder: str, move: bool = False) -> tuple[str, str]:
    """Write the CGI script into a directory: (its path; what became of it). move: it may have served another home.
    Raises BadInput."""
    path = os.path.join(directory(folder), NAME)
    root = registry.package_root()

    if os.path.isfile(root):  # this is a bundle: a copy of it is all that is needed
        with open(root, encoding="ascii") as file:
            text, libraries = file.read(), []
    else:
        text, libraries = entry(NAME), _libraries(root)

    text = re.sub(r"\A.*", lambda _: first_line(settings, libraries), text, count=1)
    text = re.sub(r'(?m)^HOME = .*?(?=  # )', lambda _: f"HOME = {settings.home!r}", text, count=1)
    text = text.replace("LIBRARIES = []", f"LIBRARIES = {libraries!r}", 1)
    return path, _write(path, text, 0o755, "" if move else settings.home)


def write_passenger(settings: Settings, folder: str, move: bool = False) -> tuple[str, str]:
    """The same for passenger_wsgi.py."""
    path = os.path.join(directory(folder), "passenger_wsgi.py")
    root = registry.package_root()

    if os.path.isfile(root):
        raise BadInput("a bundle is a CGI script; for Passenger install the package: pip install webscheduler")

    text = entry("passenger_wsgi.template").format(libraries=_libraries(root), home=settings.home)
    return path, _write(path, text, 0o644, "" if move else settings.home)


def write_htaccess(directory: str) -> tuple[str, str] | None:
    """The same for .htaccess; None for a cgi-bin, which needs none."""
    if os.path.basename(os.path.abspath(directory)) == "cgi-bin":
        return None

    path = os.path.join(directory, ".htaccess")
    return path, _write(path, entry("htaccess.template"), 0o644)


def php_shim(base: str, name: str, slug: str, secret: str) -> str:
    """The text of a PHP file that calls the task's URL."""
    values = {"url": f"{base.rstrip('/')}/run/{slug}", "signature": signing.sign(secret, signing.run_message(slug)),
              "name": re.sub(r"[^A-Za-z0-9_.:@-]", "_", name)}
    return re.sub("@(url|signature|name)@", lambda found: values[found[1]].replace("\\", "\\\\").replace("'", "\\'"),
                  entry("shim.php"))


def first_line(settings: Settings, libraries: Sequence[str]) -> str:
    """The `#!` line with the Python of the settings, if possible without site and environment (-I -S save 4 of 25 ms).
    Raises BadInput for a path that is too long for such a line, or has spaces (execve(2))."""
    interpreter = registry.interpreter(settings)

    if len(interpreter) > 120 or any(c.isspace() for c in interpreter):
        raise BadInput(f"python: {interpreter} is too long for the first line of a script, or has spaces: "
                       "`webscheduler config set python PATH` to another", "python")

    check = f"import sys; sys.path += {list(libraries)!r}; import webscheduler.cgi, filelock"

    for options in (["-IS"], ["-I"], []) if libraries else (["-IS"],):
        words = [interpreter, *options, "-c", check if libraries else "import json"]

        if subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, cwd="/").returncode == 0:
            return " ".join([f"#!{interpreter}", *options])

    raise BadInput(f"python: {interpreter} cannot import webscheduler and filelock: install them for it, or "
                   "`webscheduler config set python PATH` to one that can", "python")


def _libraries(root: str) -> list[str]:
    import filelock

    found = [root, os.path.dirname(os.path.dirname(os.path.abspath(str(filelock.__file__))))]
    return sorted(set(found), key=found.index)


def directory(path: str) -> str:
    """The absolute path of a directory that a person typed. Raises BadInput where there is none."""
    path = os.path.abspath(os.path.expanduser(path))

    if not os.path.isdir(path):
        raise BadInput(f"{path} is not a directory: create it first, or name the one that your host serves")

    return path


def _write(path: str, text: str, mode: int, home: str = "") -> str:
    """home: the only one that the file may have served before."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            before = file.read()
    except FileNotFoundError:
        before = None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}")

    if before == text and stat.S_IMODE(os.stat(path).st_mode) == mode:
        return "there already"

    if before is not None and not any(line.startswith(MARKS) for line in before.split("\n")[:3]):
        add = f" or add to it: {' / '.join(text.splitlines()[1:])}" if path.endswith(".htaccess") else " first"
        raise BadInput(f"{path} was not written by webscheduler: move it away{add}")

    other = _home_of(before or "")

    if home and other not in ("", home):
        raise BadInput(f"{path} serves the home {other}: add --home {shlex.quote(other)} to complete that, or --home "
                       f"{shlex.quote(home)} to let it serve this one from now on")

    try:
        replace_file(path, text.encode("utf-8", "surrogateescape"), mode)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}")

    return "created" if before is None else "changed"


def _home_of(text: str) -> str:
    """The home that a script or Passenger's entry names; empty if it names none that can be read."""
    found = re.search(r"""(?m)^(?:HOME = |application = create_app\()((['"]).*?\2)""", text)

    try:
        return str(ast.literal_eval(found[1])) if found else ""
    except (ValueError, SyntaxError):  # somebody has edited the line
        return ""


def python_is_private(interpreter: str) -> str:
    """The directory above the interpreter that other users cannot enter, or empty. A server that runs scripts as a user
    of its own cannot start the interpreter then."""
    parts = os.path.realpath(interpreter).split("/")

    for depth in range(2, len(parts)):
        directory = "/".join(parts[:depth])

        try:
            if not os.stat(directory).st_mode & stat.S_IXOTH:
                return directory
        except OSError:
            return directory

    return ""

