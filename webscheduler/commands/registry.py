# SPDX-License-Identifier: LGPL-3.0-or-later
"""The commands that tasks may name, and the program that each of them runs.

The rule: a command becomes an argv, never a shell line. A task's arguments are split as a shell splits them, and only a
command that is registered to take arguments gets them. Functions of the user run in a Python process of their own.
"""

from __future__ import annotations

import os
import stat
import sys

from .. import __version__
from ..errors import BadInput
from ..store.files import read_json
from ..store.task import Task, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from ..shapes import Any, Declared, Iterator
    from ..store.settings import CommandRow, Settings


class Command:
    """A registered command. source: builtin, setting, file or function. arguments: whether tasks may add arguments."""

    def __init__(self, name: str, source: str, argv: list[str], arguments: bool, description: str = "",
                 cwd: str | None = None) -> None:
        self.name, self.source, self.argv, self.arguments = name, source, argv, arguments
        self.description, self.cwd = description, cwd


SUFFIXES = (".py", ".php", ".sh")
MOST_LINKS = 40  # as in Linux (path_resolution(7))
FOREIGN = "{place} belongs to another user: chown it to this account"
WRITABLE = "{place} can be changed by others: chmod go-w it"
KEPT_VARIABLES = ("HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV")


def registered(config: Settings) -> dict[str, Command]:
    """All commands by name. If two have the same name, the later kind counts: built in, found in Python code, files,
    settings."""
    found = {name: Command(name, "builtin", python(config, f"webscheduler.commands.builtin:{name}"), True, description)
             for name, description in BUILTIN.items()}

    for name, facts in discovered(config.home).items():
        words = python(config, "webscheduler.commands.discovery:call", config.home, name)
        found[name] = Command(name, "function", words, True, str(facts.get("description") or ""))

    for name, (path, real) in files(config.home).items():
        found[name] = Command(name, "file", _program(config, path, real), True, f"commands/{os.path.basename(path)}")

    for name, row in config["commands"].items():
        found[name] = Command(name, "setting", _registered(config, row), row.get("arguments", False),
                              row.get("description", ""), row.get("cwd"))

    return found


def documents(config: Settings) -> list[dict[str, Any]]:
    """All commands, as lists show them."""
    return [{field: getattr(command, field) for field in ("name", "source", "description", "arguments", "cwd")}
            for command in registered(config).values()]


def discovered(home: str) -> dict[str, Declared]:
    """The commands that the last `sync` found in Python code, by name."""
    return _last_sync(home, "commands", dict)


def last_sync(home: str, part: str) -> dict[str, str]:
    """Of the last `sync`: as `broken` what failed -> why; as `sync` when (`at`) and by which version (`package`)."""
    return _last_sync(home, part, str)


def broken(home: str) -> dict[str, str]:
    """What cannot be used -> why: modules that failed in the last `sync`, and files that are not accepted now."""
    modules = {name: why for name, why in last_sync(home, "broken").items() if not os.path.isabs(name)}
    return {**modules, **refused(home)}


def _last_sync(home: str, part: str, kind: type) -> dict[str, Any]:
    document = read_json(os.path.join(home, "commands.json"))
    found = document.get(part) if isinstance(document, dict) else None
    return {name: facts for name, facts in found.items() if isinstance(facts, kind)} if isinstance(found, dict) else {}


def may_have_changed(settings: Settings, tasks: Container[str] | None) -> bool:
    """Whether the code may declare other commands than the last `sync` found, or one of them has no task. The times of
    files show it, but what modules declare is known only after their import. tasks: None if each has one."""
    try:
        found = os.stat(os.path.join(settings.home, "commands.json")).st_mtime
    except OSError:
        return True

    if settings["modules"] or settings["setup"] or last_sync(settings.home, "sync").get("package") != __version__:
        return True

    if tasks is not None and any(name not in tasks for name in discovered(settings.home)):
        return True

    directory = os.path.join(settings.home, "commands")
    places = [os.path.join(settings.home, "config.json"), directory, *_candidates(settings.home), *sys.path]

    for place in places:
        try:
            status = os.stat(place)
        except OSError:
            continue

        if max(status.st_mtime, status.st_ctime) > found - 1:
            return True

    return False


def files(home: str) -> dict[str, tuple[str, str]]:
    """The files in commands/ that are commands: name -> (path, what is executed). The name is the file's without its
    suffix, or with it if another file has that name."""
    found: dict[str, tuple[str, str]] = {}

    for path, real, _, fault in _examined(home):
        entry = os.path.basename(path)
        name = os.path.splitext(entry)[0]

        if not fault:
            found[name if name not in found else entry] = path, real

    return found


def refused(home: str) -> dict[str, str]:
    """The files in commands/ that are not accepted as commands -> why."""
    return {path: fault.replace("{place}", place) for path, (place, fault) in faults(home).items()}


def faults(home: str) -> dict[str, tuple[str, str]]:
    """The same in parts -> (the file or directory that is at fault, why, where `{place}` stands for it)."""
    return {path: (place, fault) for path, _, place, fault in _examined(home) if fault}


def _candidates(home: str) -> list[str]:
    directory = os.path.join(home, "commands")

    try:
        entries = sorted(entry for entry in os.listdir(directory) if os.path.splitext(entry)[1] in SUFFIXES)
    except OSError:
        return []

    return [os.path.join(directory, entry) for entry in entries]


def _examined(home: str) -> Iterator[tuple[str, str, str, str]]:
    """(path, real path, what is at fault, why it is not accepted or empty) of each file in commands/. It is accepted if
    a task may have its name, and others can change nothing that leads to it, also between this look and its execution.
    """
    known: dict[str, str] = {}

    for path in _candidates(home):
        real, at, fault = path, path, ""

        try:
            check_name(os.path.splitext(os.path.basename(path))[0])
        except BadInput as error:
            fault = str(error)

        for real in on_the_way(path):
            if real not in known:
                known[real] = _changeable(real)

            at, fault = (at, fault) if fault else (real, known[real])

        if not fault and not os.path.isfile(real):
            at, fault = path, "{place} is not a file"

        yield path, real, at, fault


def on_the_way(path: str) -> Iterator[str]:
    """What leads to where an absolute path does, from / on: each directory, each link, and at last its real path."""
    place, parts, links = "/", path.split("/")[::-1], 0
    yield place

    while parts:
        part = parts.pop()

        if part in ("", "."):
            continue

        place = os.path.dirname(place) if part == ".." else os.path.join(place, part)
        yield place

        if os.path.islink(place) and links < MOST_LINKS:
            links += 1
            target = os.readlink(place)
            parts += target.split("/")[::-1]
            place = "/" if target.startswith("/") else os.path.dirname(place)


def _changeable(place: str) -> str:
    """Why others can change a file, a link or what is in a directory, as in `faults`, or empty."""
    try:
        status = os.lstat(place)
    except OSError as error:
        return f"{{place}}: {error.strerror}"

    if status.st_uid not in (os.getuid(), 0):
        return FOREIGN

    shared = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    open_to_all = status.st_mode & 0o022 and not shared and not stat.S_ISLNK(status.st_mode)
    return WRITABLE if open_to_all else ""


def _program(config: Settings, path: str, real: str) -> list[str]:
    if path.endswith(".py"):
        return [interpreter(config), real]

    return [config["php"] or "php", real] if path.endswith(".php") else ["/bin/sh", real]


def _registered(config: Settings, row: CommandRow) -> list[str]:
    for kind, name in (("django", row.get("django")), ("script", row.get("script"))):
        if name:
            return python(config, f"webscheduler.commands.discovery:{kind}", config.home, name)

    return list(row.get("argv", ()))


BUILTIN = {
    "hello": "Prints a greeting, to see that everything works.",
    "http": "Fetches a URL within a time limit, and succeeds for a 2xx response: http URL [SECONDS].",
}


def argv(config: Settings, task: Task) -> tuple[list[str], str | None]:
    """Program and arguments of a task, and the working directory of its command. Raises BadInput."""
    if task["argv"]:
        return list(task["argv"]), None

    command = registered(config).get(task["command"])

    if command is None:
        raise BadInput(f"task {task.name}: no command is registered as {task['command']!r}", "command")

    words = arguments(command, task["arguments"])

    if task["publicOnly"] and calls_urls(command):
        return python(config, "webscheduler.commands.builtin:public_http", config.home, *words), command.cwd

    return [*command.argv, *words], command.cwd


def calls_urls(command: Command) -> bool:
    """Whether it is the built-in `http`, and no other of that name."""
    return (command.source, command.name) == ("builtin", "http")


def arguments(command: Command, text: str) -> list[str]:
    """The text, split as a POSIX shell splits words. Raises BadInput, also if the command takes no arguments."""
    if not text.strip():
        return []

    if not command.arguments:
        raise BadInput(f"arguments: {command.name} is not registered to take arguments", "arguments")

    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadInput(f"arguments: {error}".lower().rstrip("."), "arguments")


def interpreter(config: Settings) -> str:
    """The Python for what must not run inside a request: the setting, else this one, else one beside it.

    In some servers sys.executable is the server (uWSGI) or empty (mod_wsgi).
    """
    if config["python"]:
        return str(config["python"])

    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"

    for candidate in (sys.executable, os.path.join(sys.prefix, "bin", "python3"),
                      os.path.join(sys.exec_prefix, "bin", version), "/usr/bin/" + version):
        if candidate and os.path.basename(candidate).startswith("python") and os.access(candidate, os.X_OK):
            return candidate

    return "/usr/bin/python3"


def package_root() -> str:
    """Where this package is imported from: a directory, or a bundle's file."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def python(config: Settings, target: str, *words: str, site: bool = True) -> list[str]:
    """argv of a Python process that calls `module:function` of this package with the words that follow.

    It imports the package from where this process did, which may be a bundle, and libraries first from its own places.
    site: False for a process that runs no code of the user, which then starts 5 ms sooner.
    """
    root = package_root()
    code = ("import sys,os;r,p,t=sys.argv[1:4];b=os.path.isfile(r);"
            "sys.path[:]=[r]+[e for e in sys.path+p.split(':')+[r][b:] if e];"
            "b or __import__('webscheduler');del sys.path[0];"
            "b and exec(compile(open(r,'rb').read(),r,'exec'),{'__name__':'bundle','__file__':r});"
            "del sys.argv[1:4];m,f=t.split(':');sys.exit(getattr(__import__(m,fromlist=['_']),f)(*sys.argv[1:]))")
    path = ":".join(entry for entry in sys.path if os.path.isabs(entry))
    return [interpreter(config), *(["-I"] if site else ["-I", "-S"]), "-c", code, root, path, target, *words]


def environment(home: str, extra: dict[str, str]) -> dict[str, str]:
    """The environment of every process that runs code of the user. Nothing of a request is in it: no CGI variables, no
    HTTP_* (httpoxy), no signature."""
    import pwd

    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}

    try:
        account = pwd.getpwuid(os.getuid())
        names = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
        # A server that root started may pass on root's HOME.
        kept = {**names, **kept} if _owned(kept.get("HOME", account.pw_dir)) else {**kept, **names}
    except KeyError:
        kept.setdefault("HOME", home)

    kept.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {**kept, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "WEBSCHEDULER_HOME": home, **extra}


def _owned(directory: str) -> bool:
    try:
        return os.stat(directory).st_uid == os.getuid()
    except OSError:
        return False
