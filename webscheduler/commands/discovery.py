# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands in Python code: how they are declared, found and called.

The rule: code of the user is imported only in a process of its own, by `sync`, which looks for commands, and by `call`,
which runs one. A module whose import fails or does not end is reported and skipped, and its commands stay known. What
was found is in commands.json, and others read nothing else.

    from webscheduler import schedulable

    @schedulable("app:cleanup:expired", expression="0 3 * * *", group="maintenance")
    def cleanup(*arguments: str) -> int | None: ...
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time

from .. import __version__
from ..errors import BadInput, Busy, Unusable, WebschedulerError
from ..printable import escaped
from ..schedule import slots
from ..store import locks, state
from ..store.fields import check_entered
from ..store.files import replace_file
from ..store.settings import Settings, load_settings
from ..store.task import FIELDS, check_name, file_name, new_task
from ..times import format_time
from . import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from ..shapes import Any, Callable, Declared, Iterable, Iterator, TypeVar


    Function = TypeVar("Function", bound=Callable[..., Any])

ENTRY_POINTS = "webscheduler.commands"
IMPORT_LIMIT, SYNC_LIMIT = 30, 300  # seconds

GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x200  # co_flags (library reference, inspect)

_declared: dict[str, tuple[Callable[..., Any], Declared]] = {}


def schedulable(name: str, *, expression: str | None = None, interval: int | None = None, group: str = "default",
                description: str | None = None) -> Callable[[Function], Function]:
    """Declare a function as the command `name`. Its schedule, an `expression` of crontab(5) or an `interval` in
    seconds, is that of its task until somebody edits the task. The function is called with the task's arguments as
    texts; what it returns is the exit status (None: 0). Raises BadInput for a name or schedule that is not valid."""
    check_name(name)

    if expression is not None and interval is not None:
        raise BadInput(f"{name}: give an expression or an interval, not both", "expression")

    given: Declared = {"expression": expression, "intervalSeconds": interval, "group": group,
                       "description": description or ""}

    for field, value in given.items():
        check_entered(field, FIELDS[field], value)

    if expression is not None:
        slots.check_expression(expression)

    def declare(function: Function) -> Function:
        # Calling one of these runs none of its code, and would be recorded as a success.
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & (GENERATOR | COROUTINE | ASYNC_GENERATOR):
            raise BadInput(f"{name}: is a coroutine or generator, and calling it runs no code: declare a function "
                           "that runs it, for example with asyncio.run", "name")

        # The same code twice: its module was imported under two names.
        if name in _declared and not _same(_declared[name][0], function):
            raise BadInput(f"{name}: is declared twice", "name")

        line = escaped((function.__doc__ or "").strip().split("\n")[0])[:FIELDS["description"].limit]
        _declared[name] = (function, {**given, "description": line if description is None else description})
        return function

    return declare


def _same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    return getattr(one, "__code__", one) is getattr(other, "__code__", other)


def discover(settings: Settings) -> tuple[dict[str, Declared], dict[str, str]]:
    """(commands by name; what failed -> why). A child does the imports; if it hangs or ends, another one starts again
    and leaves out what was being imported."""
    import tempfile

    broken: dict[str, str] = {}

    while True:
        # Not a pipe: a process that a module started and left would keep it open.
        with tempfile.TemporaryFile("w+", encoding="ascii") as told:
            sys.stdout.flush()
            child = os.fork()

            if not child:
                try:
                    _import_all(settings, broken, told)
                finally:
                    os._exit(0)

            status = os.waitpid(child, 0)[1]
            told.seek(0)
            step, found, broken = json.loads([json.dumps(("setup", {}, broken)), *told][-1])

        if not step or step in broken:
            return found, broken

        broken[step] = (f"its import does not end within {IMPORT_LIMIT} s" if status == signal.SIGALRM
                        else "its import ends the process, as os._exit does")


def _import_all(settings: Settings, broken: dict[str, str], lines: TextIO) -> None:
    """Import what may declare commands, except what is `broken`. Before each step, and with an empty name after the
    last, a line is written: its name, the commands so far, what failed."""
    found: dict[str, Declared] = {}

    def load(what: str, step: Callable[[], object]) -> None:
        if what in broken:
            return

        print(json.dumps((what, found, broken)), file=lines, flush=True)
        signal.alarm(IMPORT_LIMIT)
        before = set(_declared)

        try:
            step()
        except BaseException as error:  # SystemExit, too: a module may call sys.exit() when imported
            broken[what] = f"{type(error).__name__}: {error}".split("\n")[0][:300]

        signal.alarm(0)
        found.update({name: {"target": what, **_declared[name][1]} for name in sorted(_declared.keys() - before)})

    load("setup", lambda: _prepare(settings))

    for module in settings["modules"]:
        load(module, lambda: importlib.import_module(module))  # noqa: B023 (called at once)

    for point in _entry_points():
        def step() -> None:
            loaded = point.load()  # noqa: B023 (called at once)

            if callable(loaded) and all(function is not loaded for function, _ in _declared.values()):
                schedulable(point.name)(loaded)  # noqa: B023

        load(f"entry point {point.name}", step)

    sys.stdout.flush()
    print(json.dumps(("", found, broken)), file=lines, flush=True)


def search(settings: Settings, seconds: float | None = None) -> tuple[int, str, str]:
    """`sync` in a process of its own, with a time limit in seconds: (exit status, output, error output)."""
    import subprocess
    import tempfile

    argv = registry.python(settings, "webscheduler.commands.discovery:sync", settings.home, "files")

    # Not pipes: a process that a module started and left would keep them open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, check=False,
                                  env=registry.environment(settings.home, settings["environment"]),
                                  timeout=seconds).returncode
        except OSError as error:
            raise Unusable(f"{argv[0]} cannot be run ({error.strerror}): `webscheduler config set python PATH` names "
                           "one")
        except subprocess.TimeoutExpired:
            raise Unusable(f"the search for commands was ended after {seconds:.0f} s: `webscheduler sync`, or the next "
                           "call of @due, has no such limit")

        output.seek(0)
        errors.seek(0)
        said, complaints = (file.read().decode("utf-8", "backslashreplace") for file in (output, errors))

    if code < 0:
        complaints += f"webscheduler: the search was ended by signal {-code}\n"

    return int(code != 0), said, complaints


def sync(home: str, *also: str) -> int:
    """Find commands, write commands.json, and make a task for each function that has none, and with `also` ("files",
    since somebody asked for it) for each file in commands/. Prints what changed. A schedule that nobody edited follows
    the code. Runs in a process of its own."""
    signal.alarm(SYNC_LIMIT)  # or a module whose import never ends would leave one process after the other

    try:
        settings = load_settings(home)
        os.environ.update(settings["environment"])

        with locks.Gate(home, ".sync"):  # no task can have this name
            return _sync(settings, registry.files(home) if also else (), time.time())
    except Busy:
        print("another sync is in progress: try again", file=sys.stderr)
    except WebschedulerError as error:
        print(f"webscheduler: {error}", file=sys.stderr)
    except OSError as error:
        print(f"webscheduler: {error.filename or home}: {error.strerror}", file=sys.stderr)

    return 1


def _sync(settings: Settings, files: Iterable[str], now: float) -> int:
    home = settings.home
    found, broken = discover(settings)
    # The commands of a module that fails now stay known: their runs say what is wrong.
    found.update({name: facts for name, facts in registry.discovered(home).items()
                  if facts.get("target") in broken and name not in found})
    broken.update(registry.refused(home))
    document = {"sync": {"at": format_time(now), "package": __version__}, "commands": found, "broken": broken}
    replace_file(os.path.join(home, "commands.json"), json.dumps(document, indent=1).encode() + b"\n")

    for what, why in broken.items():
        print(f"{what} is skipped: {why}")

    own: dict[str, Declared] = {name: {} for name in files}

    for sentence in state.update(home, lambda tasks: _adopt(tasks, {**own, **found}, now)):
        print(sentence)

    return 1 if broken else 0


def _adopt(tasks: state.Tasks, found: dict[str, Declared], now: float) -> list[str]:
    """Make a task for each command that has none; what has changed, for people."""
    said = []
    files = {file_name(name): name for name in tasks}

    for name, facts in found.items():
        declared = {"expression": facts.get("expression"), "intervalSeconds": facts.get("intervalSeconds")}
        scheduled = any(declared.values())

        if name not in tasks:
            if file_name(name) in files:
                said.append(f"{name} is skipped: it would share its files with {files[file_name(name)]}")
                continue

            tasks[name] = new_task(now, {
                "command": name, "enabled": scheduled, "group": facts.get("group", "default"),
                "description": facts.get("description", ""), **declared, "declaredSchedule": declared})
            files[file_name(name)] = name
            said.append(f"{name} is new" + ("" if scheduled else ", without a schedule and disabled"))
            continue

        row = tasks[name]

        if row.get("command") != name or row.get("declaredSchedule") == declared:
            continue

        current = {field: row.get(field) for field in declared}

        if current == (row.get("declaredSchedule") or dict.fromkeys(declared)):
            row.update(**declared, declaredSchedule=declared, scheduledSince=format_time(now), nextRunAt=None)
            said.append(f"{name} now has the schedule of its code")
        elif current != declared:
            own = declared["expression"] or declared["intervalSeconds"]
            said.append(f"{name} keeps its edited schedule; that of its code is {own}")

    return said


def call(home: str, name: str, *words: str) -> int:
    """Run a declared command in this process; returns its exit status. Python prints exceptions."""
    settings = load_settings(home)
    target = registry.discovered(home).get(name, {}).get("target", "")
    _prepare(settings)

    if target.startswith("entry point "):
        for point in _entry_points():
            if point.name == target[12:]:
                loaded = point.load()

                if name not in _declared:
                    schedulable(name)(loaded)
    elif target != "setup":
        importlib.import_module(target)

    if name not in _declared:
        print(f"{name} is no longer declared in {target}: `webscheduler sync`", file=sys.stderr)
        return 127

    result = _declared[name][0](*words)

    if result is None or isinstance(result, bool):
        return 1 if result is False else 0

    # An exit status has 8 bits (wait(2)); 256 must not become a success.
    return result & 0xFF or int(result != 0) if isinstance(result, int) else 0


def django(home: str, name: str, *words: str) -> int:
    """Run a management command of the Django project that DJANGO_SETTINGS_MODULE names, as its manage.py would, but for
    the two options that name code to run, which is not for who edits a task's arguments."""
    _prepare(load_settings(home))
    importlib.import_module("django").setup()
    management = importlib.import_module("django.core.management")
    found = management.get_commands().get(name)

    if found is None:
        print(f"this Django project has no management command {name}", file=sys.stderr)
        return 127

    command = management.load_command_class(found, name) if isinstance(found, str) else found
    command._called_from_command_line = True  # a mistake in the arguments is said as manage.py says it
    options = vars(command.create_parser("manage.py", name).parse_args(words))

    if options.get("settings") or options.get("pythonpath"):
        print("a task's arguments cannot name other settings or a path of Python: set DJANGO_SETTINGS_MODULE and "
              "PYTHONPATH in the setting `environment`", file=sys.stderr)
        return 2

    try:
        command.execute(*options.pop("args", ()), **options)
    except management.CommandError as error:
        checked = isinstance(error, importlib.import_module("django.core.management.base").SystemCheckError)
        print(error if checked else f"{type(error).__name__}: {error}", file=sys.stderr)
        return int(getattr(error, "returncode", 1))

    return 0


def script(home: str, name: str, *words: str) -> int:
    """Run a console script of this environment by its entry point."""
    _prepare(load_settings(home))

    for point in _entry_points("console_scripts"):
        if point.name == name:
            sys.argv = [name, *words]
            return point.load()()  # type: ignore[no-any-return]  # a text is an error message, as in the script itself

    print(f"this environment has no console script {name}", file=sys.stderr)
    return 127


def _prepare(settings: Settings) -> None:
    """Apply PYTHONPATH, which an isolated Python does not read, and call the setting `setup`."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path += [entry for entry in entries if entry and entry not in sys.path]

    if settings["setup"]:
        _reference(settings["setup"])()


def _entry_points(group: str = ENTRY_POINTS) -> Iterator[Any]:
    from importlib import metadata

    if sys.version_info >= (3, 10):
        found = metadata.entry_points(group=group)
    else:
        found = metadata.entry_points().get(group, ())

    return iter(found)


def _reference(text: str) -> Callable[[], Any]:
    """The callable that `module:attribute` names."""
    module, _, path = text.partition(":")
    found: Any = importlib.import_module(module)

    for part in path.split("."):
        found = getattr(found, part)

    return found  # type: ignore[no-any-return]
