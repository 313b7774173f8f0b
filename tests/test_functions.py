# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands that are Python: found by `sync`, run in a process of their own, in a checkout, a venv, a Django project."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests import LIBRARY
from tests.admin.client import populate
from tests.commandline import Done, call
from tests.installation import Installation, until
from tests.test_bodies import asked, sign_in
from webscheduler.commands import registry
from webscheduler.commands.discovery import schedulable
from webscheduler.errors import BadInput
from webscheduler.store import locks

REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))


class Code:
    """A directory of modules that the settings name."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.directory = installation.home.parent / "code"
        self.directory.mkdir()
        self.modules: list[str] = []

    def write(self, module: str, text: str, named: bool = True) -> None:
        (self.directory / f"{module}.py").write_text("from webscheduler import schedulable\n" + text)
        # Python tells an edit by size and second.
        shutil.rmtree(self.directory / "__pycache__", ignore_errors=True)
        self.modules += [module] if named and module not in self.modules else []
        self.installation.configure(modules=self.modules, environment={"PYTHONPATH": str(self.directory)})

    def sync(self) -> Done:
        return call(self.installation.home, "sync")

    def task(self, name: str) -> None:
        """Add a task for the command of that name."""
        self.installation.add(name)
        self.installation.edit(name, argv=None, command=name)

    def run(self, name: str, **fields: Any) -> dict[str, Any]:
        """The line of history of a run of the command, whose task gets these fields."""
        self.installation.edit(name, **fields)
        document: dict[str, Any] = call(self.installation.home, "run", name, "--json").document
        return document


@pytest.fixture
def code(installation: Installation) -> Code:
    return Code(installation)


# Found

def test_a_declared_function_gets_a_command_and_a_task(code: Code) -> None:
    """Its schedule, group and description are the code's; without a schedule it waits, disabled."""
    code.write("jobs", '''
@schedulable("app:cleanup:expired", expression="0 3 * * *", group="maintenance", description="Cleans up.")
def cleanup(*arguments): ...

@schedulable("app:report", interval=5400)
def report():
    """Writes the report.

    At length.
    """

@schedulable("by-hand")
def by_hand(): ...
''')
    assert code.sync() == Done(0, "app:cleanup:expired is new\napp:report is new\n"
                                  "by-hand is new, without a schedule and disabled\n", "")
    fields = ("command", "enabled", "expression", "intervalSeconds", "group", "description")
    assert [[code.installation.row(name)[field] for field in fields]
            for name in ("app:cleanup:expired", "app:report", "by-hand")] == [
        ["app:cleanup:expired", True, "0 3 * * *", None, "maintenance", "Cleans up."],
        ["app:report", True, None, 5400, "default", "Writes the report."],
        ["by-hand", False, None, None, "default", ""],
    ]
    listed = {row["name"]: row for row in call(code.installation.home, "commands", "--json").document}
    assert listed["app:report"] == {"name": "app:report", "source": "function", "description": "Writes the report.",
                                    "arguments": True, "cwd": None}
    assert code.sync() == Done(0, "nothing has changed\n", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def", "SyntaxError: "),
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("import sys; sys.exit('usage')", "SystemExit: usage"),
        ("schedulable('-x')", "BadInput: name: '-x' must be"),
        ("schedulable('x', expression='0 0 30 2 *')", "BadInput: expression: '0 0 30 2 *' never comes"),
        ("@schedulable('good')\ndef other(): ...", "BadInput: good: is declared twice"),
        ("@schedulable('x')\nasync def x(): ...", "BadInput: x: is a coroutine or generator"),
        ("@schedulable('x')\ndef x(): yield", "BadInput: x: is a coroutine or generator"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_reported_and_skipped(code: Code, text: str, why: str) -> None:
    """It is never fatal, and what others declare is found all the same."""
    code.write("good", "@schedulable('good')\ndef good(): print('well')")
    code.write("broken", text)
    code.write("last", "@schedulable('last')\ndef last(): ...")
    done = code.sync()
    assert done.status == 1
    assert done.out.startswith(f"broken is skipped: {why}")
    assert done.out.endswith("good is new, without a schedule and disabled\n"
                             "last is new, without a schedule and disabled\n")
    assert list(json.loads((code.installation.home / "commands.json").read_text())["broken"]) == ["broken"]
    assert code.run("good")["output"] == "well\n"


@pytest.mark.parametrize(("text", "why"), [
    ("import os\nos._exit(0)", "its import ends the process"),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "its import ends the process"),
    ("import time\ntime.sleep(600)", "its import does not end within 1 s"),
    ("while True:\n  try: import time; time.sleep(600)\n  except BaseException: pass", "its import does not end"),
])  # fmt: skip
def test_a_module_that_ends_the_search_is_told_of(code: Code, text: str, why: str) -> None:
    """Or that never comes back: it is named and skipped, the others are found, and what it declared before stays."""
    code.write("first", "@schedulable('first')\ndef first(): ...")
    code.write("broken", "@schedulable('kept')\ndef kept(): ...")
    code.write("last", "@schedulable('last')\ndef last(): ...")
    code.sync()
    code.write("broken", text)
    code.write("last", "@schedulable('newest')\ndef newest(): ...")
    home = str(code.installation.home)
    program = ("import sys; from webscheduler.commands import discovery as f; "
               "f.IMPORT_LIMIT = 1; sys.exit(f.sync(sys.argv[1]))")
    done = subprocess.run([sys.executable, "-c", program, home], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": f"{LIBRARY}:{code.directory}"})  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith(f"broken is skipped: {why}"), done.stderr
    assert done.stdout.endswith("newest is new, without a schedule and disabled\n")
    assert {"first", "kept", "newest"} <= set(registry.discovered(home)) and "last" not in registry.discovered(home)


def test_a_process_that_a_module_leaves_running_holds_up_nothing(code: Code) -> None:
    code.write("daemon", """import os, pathlib, time
if not os.fork():
    pathlib.Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(600)
    os._exit(0)""")
    assert code.sync() == Done(0, "nothing has changed\n", "")
    noted = code.directory / "daemon.pid"
    os.kill(int(until(lambda: noted.exists() and noted.read_text())), signal.SIGKILL)  # it was there all the while


def test_a_file_of_nested_lists_means_nothing_is_known(installation: Installation) -> None:
    """Deeper than Python can read: no verb ends in a traceback, and the next `sync` writes it anew."""
    for name in ("commands.json", "capabilities.json"):
        (installation.home / name).write_text("[" * 100_000 + "]" * 100_000)

    done = call(installation.home, "commands", "--json")
    assert (done.status, {each["name"] for each in done.document}) == (0, {"hello", "http"})
    assert call(installation.home, "doctor", "--offline").err == ""
    assert call(installation.home, "sync").status == 0
    assert registry.last_sync(str(installation.home), "sync")


def test_what_a_module_prints_is_shown_and_harmless(code: Code) -> None:
    code.write("jobs", "print('\\033[31mhello')")
    assert code.sync() == Done(0, "\\x1b[31mhello\n", "")


def test_a_schedule_that_nobody_edited_follows_the_code(code: Code) -> None:
    def declare(schedule: str) -> Done:
        code.write("jobs", f"@schedulable('job', {schedule})\ndef job(): ...")
        return code.sync()

    def schedule() -> tuple[Any, Any]:
        row = code.installation.row("job")
        return row["expression"], row["intervalSeconds"]

    declare("expression='0 3 * * *'")
    assert declare("interval=60").out == "job now has the schedule of its code\n"
    assert schedule() == (None, 60)
    assert declare("interval=90").out == "job now has the schedule of its code\n"

    # Edited by hand it stays, and sync says so, once for each time that the code differs.
    call(code.installation.home, "edit", "job", "--cron", "5 5 * * *")
    assert declare("interval=90").out == "nothing has changed\n"
    assert declare("interval=120").out == "job keeps its edited schedule; that of its code is 120\n"
    assert schedule() == ("5 5 * * *", None)

    # Other fields are the person's from the beginning.
    call(code.installation.home, "edit", "job", "--priority", "7", "--disabled")
    declare("expression='1 1 * * *'")
    assert (code.installation.row("job")["priority"], code.installation.row("job")["enabled"]) == (7, False)


def test_a_task_whose_command_vanished_is_shown_and_not_run_and_not_deleted(code: Code) -> None:
    """Ticks say so, leave no line for each slot, and run what became due once the command is back; a call of its own
    URL, or by hand, is recorded as failed."""
    declared = "@schedulable('job', interval=86400)\ndef job(): ..."
    code.write("jobs", declared)
    code.sync()
    code.write("jobs", "")
    code.sync()
    home = code.installation.home
    assert "job" in [row["name"] for row in call(home, "list", "--json").document]
    assert "job" not in [row["name"] for row in call(home, "commands", "--json").document]

    for _ in range(2):
        done = call(home, "run-due", "--json")
        assert (done.status, done.document["tasks"]) == (1, [])
        assert done.document["problems"] == ["task job: no command is registered as 'job'"]

    assert call(home, "run-due", "--dry-run", "--json").document["tasks"] == []
    assert code.installation.runs("job") == []
    line = code.run("job")
    assert (line["status"], line["reason"], line["exitCode"]) == ("failed", "not_started", None)
    assert line["errorOutput"] == "task job: no command is registered as 'job'\n"
    code.installation.edit("job", lastRunAt=None, lastRunStatus=None)
    (home / "locks" / "job.lock").unlink()
    code.write("jobs", declared)
    code.sync()
    assert call(home, "run-due").out == "job: success\n"


def test_two_tasks_whose_files_would_be_the_same_are_told(code: Code) -> None:
    code.installation.add("app_job")
    code.write("jobs", "@schedulable('app:job')\ndef job(): ...")
    assert code.sync().out == "app:job is skipped: it would share its files with app_job\n"


def test_every_tick_looks_for_commands(code: Code) -> None:
    """In a process of its own: a tick imports no code of the user."""
    code.write("jobs", "@schedulable('job', interval=86400)\ndef job(): ...")
    assert call(code.installation.home, "run-due").status == 0
    until(lambda: "job" in [row["name"] for row in call(code.installation.home, "list", "--json").document])
    assert call(code.installation.home, "run-due").out == "job: success\n"


def test_a_request_imports_no_code_of_the_user(code: Code) -> None:
    """Neither the request nor the supervisor of a task that is no function."""
    seen = code.directory / "seen"
    code.write("jobs", f"open({str(seen)!r}, 'a').close()")
    code.installation.configure(setup="jobs:nothing")
    code.installation.add("task")

    for number, door in enumerate(("cgi", "wsgi"), 1):
        code.installation.trigger(door)
        code.installation.idle()
        assert len(code.installation.runs()) == number

    assert not seen.exists()
    assert "jobs" not in sys.modules


@pytest.mark.parametrize("door", ["cgi", "wsgi", "panel"])
def test_what_is_imported_sees_no_request(code: Code, door: str) -> None:
    """Neither at a tick, whose signature is in the query, nor where the panel searches for commands: the environment is
    that of a run."""
    code.write("jobs", "import json, os\n"
                       f"json.dump(dict(os.environ), open({str(code.directory / 'seen')!r}, 'w'))")
    hostile = {"HTTP_X_SECRET": "of the client", "HTTP_PROXY": "http://evil/", "REMOTE_USER": "x", "PHPRC": "/tmp"}

    if door == "panel":
        populate(code.installation)
        cookie, token = sign_in(code.installation)
        environ = asked("update", "POST", cookie, CONTENT_TYPE="application/x-www-form-urlencoded", **hostile)
        assert code.installation.cgi(environ, f"token={token}".encode()).status == 200
    else:
        assert code.installation.trigger(door, "@due", **hostile).document["accepted"] is True

    seen = until(lambda: (code.directory / "seen").exists() and (code.directory / "seen").read_text())
    assert set(json.loads(seen)) <= {"HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "LANG",
                                     "PYTHONUNBUFFERED", "WEBSCHEDULER_HOME", "PYTHONPATH"}
    code.installation.idle()


def test_a_sync_at_a_time(code: Code) -> None:
    """A module that takes long to import gathers no processes, tick for tick."""
    with locks.Gate(str(code.installation.home), ".sync"):
        assert code.sync() == Done(1, "", "another sync is in progress: try again\n")


# Run

@pytest.mark.parametrize(
    ("result", "status"),
    [("None", 0), ("0", 0), ("3", 3), ("255", 255), ("256", 1), ("-1", 255), ("True", 0), ("False", 1), ("'text'", 0)],
)
def test_what_a_function_returns_is_its_exit_status(code: Code, result: str, status: int) -> None:
    code.write("jobs", f"@schedulable('job')\ndef job(): return {result}")
    code.sync()
    line = code.run("job")
    assert (line["exitCode"], line["status"]) == (status, "failed" if status else "success")


def test_an_exception_is_a_failure_with_its_traceback(code: Code) -> None:
    code.write("jobs", "@schedulable('job')\ndef job(): raise ValueError('so it goes')")
    code.sync()
    line = code.run("job")
    assert (line["status"], line["reason"], line["exitCode"]) == ("failed", None, 1)
    assert line["errorOutput"].startswith("Traceback (most recent call last):\n")
    assert f'  File "{code.directory}/jobs.py", line 3, in job\n' in line["errorOutput"]
    assert line["errorOutput"].endswith("\nValueError: so it goes\n")


def test_sys_exit_in_a_function_is_its_exit_status(code: Code) -> None:
    code.write("jobs", "import sys\n@schedulable('job')\ndef job(): sys.exit(4)")
    code.sync()
    assert code.run("job")["exitCode"] == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("a b", ["a", "b"]),
        ("'a b' c\\ d \"e 'f'\"", ["a b", "c d", "e 'f'"]),
        ("$HOME `id` ; rm -rf * > x | y", ["$HOME", "`id`", ";", "rm", "-rf", "*", ">", "x", "|", "y"]),
        ("--flag=1 -- -x ''", ["--flag=1", "--", "-x", ""]),
        ("é 日本", ["é", "日本"]),
    ],
)
def test_arguments_arrive_as_a_shell_would_split_them(code: Code, text: str, words: list[str]) -> None:
    code.write("jobs", "import json\n@schedulable('job')\ndef job(*words): print(json.dumps(words))")
    code.sync()
    assert json.loads(code.run("job", arguments=text)["output"]) == words


def test_each_run_is_a_process_of_its_own(code: Code) -> None:
    code.write("jobs", "import os\ncalls = []\n@schedulable('job')\ndef job(): calls.append(1); "
                       "print(len(calls), os.getpid())")
    code.sync()
    counts, pids = zip(*(code.run("job")["output"].split() for _ in range(2)))
    assert counts == ("1", "1")
    assert len({*pids, str(os.getpid())}) == 3


def test_a_function_that_is_gone_since_the_last_sync(code: Code) -> None:
    code.write("jobs", "@schedulable('job')\ndef job(): ...")
    code.sync()
    code.write("jobs", "")
    line = code.run("job")
    assert (line["status"], line["exitCode"]) == ("failed", 127)
    assert line["errorOutput"] == "job is no longer declared in jobs: `webscheduler sync`\n"


def test_setup_runs_before_discovery_and_before_each_function(code: Code) -> None:
    code.write("prepared", "import os\nclass App:\n  @staticmethod\n  def go(): os.environ['READY'] = 'yes'", False)
    code.write("jobs", "import os\nassert os.environ['READY']\n@schedulable('job')\n"
                       "def job(): print(os.environ['READY'])")
    code.installation.configure(setup="prepared:App.go")
    assert code.sync().status == 0
    assert code.run("job")["output"] == "yes\n"
    code.installation.configure(setup="prepared:gone")
    done = code.sync()
    assert done.out.startswith("setup is skipped: AttributeError: module 'prepared' has no attribute 'gone'\n")
    assert code.run("job", command="job")["status"] == "failed"


def test_variables_of_a_task_win_over_those_of_the_settings(code: Code) -> None:
    code.write("jobs", "import os\n@schedulable('job')\ndef job(): print(os.environ['A'], os.environ['B'])")
    variables = json.loads((code.installation.home / "config.json").read_text())["environment"]
    code.installation.configure(environment={**variables, "A": "settings", "B": "settings"})
    code.sync()
    assert code.run("job", environment={"B": "task"})["output"] == "settings task\n"


# Declared

def declared(*_: str) -> None: ...


@pytest.mark.parametrize(
    ("name", "schedule", "field"),
    [
        ("", {}, "name"), ("-x", {}, "name"), (".x", {}, "name"), ("@x", {}, "name"), ("a\nb", {}, "name"),
        ("x", {"expression": "61 * * * *"}, "expression"), ("x", {"expression": "0 0 30 2 *"}, "expression"),
        ("x", {"expression": "@daily", "interval": 5}, "expression"), ("x", {"interval": 0}, "intervalSeconds"),
        ("x", {"interval": -5}, "intervalSeconds"), ("x", {"interval": 1.5}, "intervalSeconds"),
        ("x", {"interval": "60"}, "intervalSeconds"), ("x", {"interval": 10**10}, "intervalSeconds"),
        ("x", {"interval": True}, "intervalSeconds"), ("x", {"group": "g" * 101}, "group"),
        ("x", {"description": b"bytes"}, "description"), ("x", {"description": "x" * 2001}, "description"),
    ],
)  # fmt: skip
def test_a_declaration_that_cannot_be_is_refused_where_it_stands(name: str, schedule: Any, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        schedulable(name, **schedule)(declared)

    assert caught.value.field == field


def test_the_first_line_of_a_docstring_is_cut_to_what_a_description_holds(code: Code) -> None:
    code.write("long", "def long(): ...\nlong.__doc__ = 'x' * 5000\nschedulable('long')(long)")
    assert code.sync().status == 0
    assert code.installation.row("long")["description"] == "x" * 2000


def test_a_declared_function_stays_the_function_it_was() -> None:
    assert schedulable("stays", interval=60)(declared) is declared


# Environments

@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with a package installed by its own pip: entry points and a console script."""
    directory = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, stdout=subprocess.DEVNULL)
    wheel = directory / "shop-1.0-py3-none-any.whl"
    info = "shop-1.0.dist-info"
    files = {
        "shop.py": "from webscheduler import schedulable\n"
                   "@schedulable('shop:orders', interval=600, group='shop')\n"
                   "def orders(): print('orders', __file__)\n"
                   "def stock(*words): print('stock', *words); return 2\n"
                   "def main(): import sys; print('main', sys.argv[1:]); return 'no good' if sys.argv[1:] else None\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[webscheduler.commands]\nshop = shop\nshop:stock = shop:stock\n"
                                    "shop:gone = shop:gone\n[console_scripts]\nshop-admin = shop:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])

    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in [*files.items(), (f"{info}/RECORD", record)]:
            archive.writestr(name, text)

    subprocess.run([str(directory / "bin/python"), "-m", "pip", "install", "-q", "--no-index", "--no-deps",
                    "--disable-pip-version-check", str(wheel)], check=True)
    return directory


def test_entry_points_of_a_package_in_a_virtual_environment(code: Code, environment: Path) -> None:
    """An entry point is a function, or a module whose functions are declared; the setting `python` names the place."""
    code.installation.configure(python=str(environment / "bin/python"))
    done = code.sync()
    assert done.out == ("entry point shop:gone is skipped: AttributeError: module 'shop' has no attribute 'gone'\n"
                        "shop:orders is new\nshop:stock is new, without a schedule and disabled\n")
    assert code.run("shop:orders")["output"].startswith(f"orders {environment}/lib/")
    line = code.run("shop:stock", arguments="a 'b c'")
    assert (line["output"], line["exitCode"]) == ("stock a b c\n", 2)


@pytest.mark.parametrize(("words", "status", "errors"), [("", 0, ""), ("x", 1, "no good\n")])
def test_a_console_script_by_its_name(code: Code, environment: Path, words: str, status: int, errors: str) -> None:
    """As its own script would run it: a text that it returns is its last word."""
    code.installation.configure(python=str(environment / "bin/python"),
                                commands={"shop": {"script": "shop-admin", "arguments": True}})
    code.task("shop")
    line = code.run("shop", arguments=words)
    assert (line["output"], line["exitCode"], line["errorOutput"]) == (f"main {words.split()}\n", status, errors)


def test_a_console_script_that_is_not_there(code: Code) -> None:
    code.installation.configure(commands={"x": {"script": "no-such-script"}})
    code.task("x")
    line = code.run("x")
    assert (line["exitCode"], line["errorOutput"]) == (
        127, "this environment has no console script no-such-script\n")


def test_a_real_console_script(code: Code, environment: Path) -> None:
    code.installation.configure(python=str(environment / "bin/python"),
                                commands={"pip": {"script": "pip", "arguments": True}})
    code.task("pip")
    line = code.run("pip", arguments="--version")
    assert line["status"] == "success"
    assert line["output"].startswith("pip ")
    assert str(environment) in line["output"]


@pytest.mark.skipif(not REQUIRED and importlib.util.find_spec("django") is None, reason="Django is not installed")
def test_management_commands_of_a_django_project(code: Code) -> None:
    """By name, with the project's settings; what manage.py would say to a mistake is said, without a traceback. No
    argument, whole or abbreviated, leads to other code."""
    app = code.directory / "shop" / "management" / "commands"
    app.mkdir(parents=True)

    for package in (app, app.parent, app.parent.parent):
        (package / "__init__.py").touch()

    (app / "restock.py").write_text(
        "from django.core.management.base import BaseCommand, CommandError\n"
        "class Command(BaseCommand):\n"
        "    def add_arguments(self, parser): parser.add_argument('--number', type=int, default=1)\n"
        "    def handle(self, *args, **options):\n"
        "        if options['number'] > 5: raise CommandError('too many')\n"
        "        self.stdout.write(f\"restocked {options['number']}\")\n")
    (code.directory / "site_settings.py").write_text(
        "SECRET_KEY = 'x'\nINSTALLED_APPS = ['shop']\nDATABASES = {}\nUSE_TZ = True\n")
    code.installation.configure(
        environment={"PYTHONPATH": str(code.directory), "DJANGO_SETTINGS_MODULE": "site_settings"},
        commands={"check": {"django": "check"}, "restock": {"django": "restock", "arguments": True}})
    code.task("check")
    code.task("restock")
    assert code.run("check")["output"] == "System check identified no issues (0 silenced).\n"
    assert code.run("restock", arguments="--number 3")["output"] == "restocked 3\n"
    line = code.run("restock", arguments="--number 9")
    assert (line["status"], line["exitCode"], line["errorOutput"]) == ("failed", 1, "CommandError: too many\n")

    (code.directory / "evil.py").write_text("open('ran', 'w'); SECRET_KEY = 'x'\n")
    (code.directory / "evil").mkdir()
    (code.directory / "evil" / "shop.py").write_text("open('ran', 'w')\n")

    for option in ("--settings", "--settings=", "--sett", "--pythonpath", "--pythonpath=", "--pyth"):
        value = "evil" if "se" in option else str(code.directory / "evil")
        line = code.run("restock", arguments=option + ("" if option.endswith("=") else " ") + value)
        assert (line["exitCode"], line["output"], line["errorOutput"].partition(":")[0]) == (
            2, "", "a task's arguments cannot name other settings or a path of Python")

    line = code.run("restock", arguments="--nothing")
    assert (line["exitCode"], "unrecognized arguments: --nothing" in line["errorOutput"]) == (2, True)
    assert not list(code.directory.rglob("ran"))

    # A function that uses the project is found once `setup` has prepared it.
    code.write("jobs", "from django.apps import apps\nassert apps.ready\n@schedulable('job')\n"
                       "def job(): print(apps.get_app_config('shop').label)")
    code.installation.configure(setup="django:setup", environment={"PYTHONPATH": str(code.directory),
                                                                   "DJANGO_SETTINGS_MODULE": "site_settings"})
    assert code.sync().status == 0
    assert code.run("job")["output"] == "shop\n"
