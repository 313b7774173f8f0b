# SPDX-License-Identifier: LGPL-3.0-or-later
"""import and export: what comes in whole or not at all, and what other schedulers are told.

Witnesses: systemd's own reading of its calendars, PyYAML for manifests, a shell for crontab lines.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import Done, call, finished, start
from tests.installation import Installation, until
from tests.test_late_errors import immutable
from webscheduler import applying
from webscheduler.errors import Unusable
from webscheduler.interchange import crontab, exporting, importing
from webscheduler.schedule.cron import Cron
from webscheduler.store import files, history, state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import DUE, FIELDS, Task, load_task

REAL_CRONTAB = shutil.which("crontab") or "crontab"  # looked up before the one that stands in for it in tests
REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))
FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))


def tasks_of(installation: Installation) -> state.Tasks:
    return state.read_strictly(str(installation.home))


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*")
            if path.is_file() and not path.name.endswith(".lock")}


def come(installation: Installation, text: str | bytes, *words: str) -> Done:
    """`webscheduler import WORDS FILE`, with this text in the file."""
    file = installation.home.parent / "incoming"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return call(installation.home, "import", *words, str(file))


@pytest.fixture
def other(tmp_path: Path) -> Installation:
    """A second installation, to carry things to."""
    return Installation(tmp_path / "other")


# A crontab

CRONTAB = """\
# Backups
MAILTO=me@example.org
PATH=/opt/bin:/usr/bin:/bin
5 4 * * *  /usr/local/bin/backup.sh --all > /dev/null 2>&1
*/5 * * * * cd /srv/site && /usr/bin/php8.2 artisan schedule:run
CRON_TZ=Asia/Tokyo
SHELL=/bin/bash
0 9 * * 1-5 FOO=bar nice -n 10 python3 /srv/report.py daily
30 2 1 * * mail -s "report 100\\%" me%Dear me,%%here it is.
@reboot /usr/bin/start-it
61 * * * * never
nonsense
@weekly (date; true) > /dev/null
"""


def test_each_line_of_a_crontab_becomes_a_task(installation: Installation) -> None:
    """A shell line is the shell's, as cron gives it; what cannot be taken over is reported line by line."""
    done = come(installation, CRONTAB, "crontab")
    assert done.status == 0
    assert done.out == ("backup: 5 4 * * *\nartisan-schedule-run: */5 * * * *\nreport-daily: 0 9 * * 1-5\n"
                        "mail: 30 2 1 * *\ndate: @weekly\n5 tasks imported\n")
    path = {"PATH": "/opt/bin:/usr/bin:/bin"}
    bash = {**path, "SHELL": "/bin/bash"}
    fields = ("expression", "timezone", "environment", "argv", "enabled", "timeout", "group")
    rows = {name: [row[field] for field in fields] for name, row in tasks_of(installation).items() if name != DUE}
    assert rows == {
        "backup": ["5 4 * * *", None, path, ["/bin/sh", "-c", "/usr/local/bin/backup.sh --all > /dev/null 2>&1"],
                   True, 0, "crontab"],
        "artisan-schedule-run": ["*/5 * * * *", None, path,
                                 ["/bin/sh", "-c", "cd /srv/site && /usr/bin/php8.2 artisan schedule:run"],
                                 True, 0, "crontab"],
        "report-daily": ["0 9 * * 1-5", "Asia/Tokyo", bash,
                         ["/bin/bash", "-c", "FOO=bar nice -n 10 python3 /srv/report.py daily"], True, 0, "crontab"],
        "mail": ["30 2 1 * *", "Asia/Tokyo", bash,
                 ["/bin/sh", "-c", 'printf %s "$1" | "$2" -c "$3"', "cron", "Dear me,\n\nhere it is.\n", "/bin/bash",
                  'mail -s "report 100%" me'], True, 0, "crontab"],
        "date": ["@weekly", "Asia/Tokyo", bash, ["/bin/bash", "-c", "(date; true) > /dev/null"], True, 0, "crontab"],
    }  # fmt: skip
    said = done.err.splitlines()
    assert [line.removeprefix("webscheduler: ")[:45] for line in said] == [
        "lines without CRON_TZ use the time zone of th",
        "CRON_TZ is taken as cronie means it, as the t",
        "these tasks have no time limit, as in cron: o",
        "line 12 is neither a job nor NAME=value: 'non",
        "MAILTO=me@example.org is not imported: the se",
        "line 10 is left out: expression: @reboot has ",
        "line 11 is left out: expression: minute: '61'",
        "both the crontab and the tasks run these now:",
    ]


def test_jobs_of_a_crontab_can_get_a_time_limit(installation: Installation) -> None:
    """Without --timeout they have none, as in cron, which the import says."""
    lines = "5 4 * * * a\n6 4 * * * b\n"
    done = come(installation, lines, "crontab", "--timeout", "600")
    assert (done.status, LIMIT_SAID in done.err) == (0, False)
    assert [tasks_of(installation)[name]["timeout"] for name in ("a", "b")] == [600, 600]
    assert LIMIT_SAID in come(installation, "7 4 * * * c\n", "crontab").err
    assert tasks_of(installation)["c"]["timeout"] == 0
    assert "--timeout: only for a crontab" in come(installation, "{}", "json", "--timeout", "600").err
    assert come(installation, "8 4 * * * d\n", "crontab", "--timeout", "x").status == 2


def test_each_task_gets_keys_and_every_one_can_be_triggered(installation: Installation) -> None:
    come(installation, "* * * * * echo hi\n", "crontab")
    assert installation.trigger(name="echo-hi").document["accepted"]
    installation.idle()
    assert installation.runs("echo-hi")[0]["output"] == "hi\n"


ZONE_SAID = ("webscheduler: lines without CRON_TZ use the time zone of this installation, UTC: if that of the "
             "crontab's machine is another, `webscheduler config set timezone ZONE`\n")
LIMIT_SAID = ("webscheduler: these tasks have no time limit, as in cron: one that hangs keeps its place "
              "(maxConcurrentTasks) until somebody ends it; `--timeout SECONDS` here, or `webscheduler edit NAME "
              "--timeout SECONDS`, sets one\n")


def test_the_zone_of_times_that_name_none_is_told(installation: Installation) -> None:
    """cron reads its machine's clock; here they would run at other hours without a word."""
    installation.configure(timezone="Europe/Paris")
    assert "time zone of this installation, Europe/Paris" in come(installation, "5 4 * * * a\n", "crontab").err
    assert "time zone of this" not in come(installation, "CRON_TZ=UTC\n5 4 * * * b\n", "crontab").err


def test_a_crontab_comes_in_once(installation: Installation) -> None:
    """A second import adds what is new and says what is there."""
    come(installation, "5 4 * * * a\n", "crontab")
    done = come(installation, "5 4 * * * a\n6 4 * * * a\n5 4 * * * a x\n5 4 * * * a\n", "crontab")
    assert done.out == "a-2: 6 4 * * *\na-x: 5 4 * * *\n2 tasks imported\n"
    assert "line 1 is a task already" in done.err
    assert len(tasks_of(installation)) == 4


def test_a_dry_run_tells_the_same_and_writes_nothing(installation: Installation) -> None:
    before = tree(installation.home)
    dry = come(installation, CRONTAB, "crontab", "--dry-run")
    assert tree(installation.home) == before
    wet = come(installation, CRONTAB, "crontab")
    assert dry.out.splitlines()[:-1] == wet.out.splitlines()[:-1]
    assert dry.out.endswith("5 tasks would be imported\n")
    assert dry.err.splitlines() == wet.err.splitlines()[:-1]


def test_a_crontab_from_standard_input_and_disabled(installation: Installation) -> None:
    read, write = os.pipe()
    os.write(write, b"@daily a\n")
    os.close(write)
    done = call(installation.home, "import", "crontab", "-", "--disabled", stdin=read)
    os.close(read)
    assert (done.status, done.out, done.err) == (
        0, "a: @daily, disabled\n1 task imported\n", ZONE_SAID + LIMIT_SAID)
    assert installation.row("a")["enabled"] is False


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("* * * * * cat%one%two", "one\ntwo\n"),
        ("* * * * * printf '[\\%s]' \"$A\" '$A' *.none", "[x  y][$A][*.none]"),
        ("* * * * * cat; echo \"$0\" done # comment%in", "in\n"),
        ("* * * * * pwd", "/usr\n"),
        ("* * * * * exit 3%x", ""),
    ],
)
def test_what_a_line_does_here(installation: Installation, line: str, output: str) -> None:
    """Variables, standard input, comments, the directory, the exit status of the command and not of the pipe."""
    come(installation, f'A = "x  y"\nHOME=/usr\n{line}\n', "crontab")
    name, = (name for name in tasks_of(installation) if name != DUE)
    entry = call(installation.home, "run", name, "--json").document
    assert entry["output"].split("/bin/sh done")[0] == output
    assert entry["exitCode"] == (3 if "exit 3" in line else 0)
    assert entry["errorOutput"] == ""


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/php -q /home/me/www/cron.php", "cron"),
        ("cd /srv/app; ./manage.py clearsessions", "manage-clearsessions"),
        ("A=b /usr/bin/env C=d timeout -k 5s 10m nice perl /x/y.pl", "y"),
        ("wget -q -O - https://example.org/cron", "cron"),
        ("[ -x /usr/bin/x ] && /usr/bin/x", "x"), ("/usr/bin/python3.11 -m tool run", "tool-run"), ("true", "job"),
        ("'unbalanced", "unbalanced"), ("/opt/été/été.sh", "t"), ("..", "job"), ("a" * 200, "a" * 60),
        ("sudo -u www-data /usr/bin/occ files:scan", "www-data"), ("./-x-", "x"), ("@x", "x"),
    ],
)  # fmt: skip
def test_the_name_that_a_command_gets(installation: Installation, command: str, name: str) -> None:
    arrival = importing.of_crontab(f"@daily {command}\n", {}, "UTC")
    assert list(arrival.tasks) == [name]


def test_names_are_unique_by_the_names_of_their_files(installation: Installation) -> None:
    arrival = importing.of_crontab("@daily a\n@hourly a\n@weekly a\n", {"a": {}, "a:2": {}, "a-3": {}}, "UTC")
    assert list(arrival.tasks) == ["a-2", "a-4", "a-5"]


def test_an_own_line_is_no_task(installation: Installation) -> None:
    """The line that `crontab install` made would run what is due from what is due."""
    line = crontab.line(load_settings(str(installation.home)), 1)
    done = come(installation, line + "\n", "crontab")
    assert done.out == "0 tasks imported\n"
    assert "is left out: webscheduler wrote it" in done.complaint


@pytest.mark.parametrize(("text", "words", "says"), [
    (b"@daily \xff\n", ["crontab"], "is not UTF-8"),
    ("{", [], "is not JSON"),
    ("@daily true", [], "is not JSON"),
    ("[1]", [], "must contain an object of tasks"),
    ('{"a": 1}', [], "must contain an object of tasks"),
    ('{"format": "webscheduler tasks", "version": 2, "tasks": {}}', [], "made by a newer webscheduler"),
    ('{"format": "webscheduler tasks", "tasks": {}}', [], "made by a newer webscheduler"),
    ("{}", ["systemd"], "must be one of json, crontab"),
    ("{}", ["a", "b"], "must be one of json, crontab"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(installation: Installation, text: Any, words: list[str], says: str) -> None:
    before = tree(installation.home)
    done = come(installation, text, *words)
    assert done.status == 2
    assert says in done.complaint
    assert tree(installation.home) == before


def test_a_file_that_is_not_there(installation: Installation) -> None:
    done = call(installation.home, "import", "/nowhere")
    assert (done.status, done.complaint) == (2, "/nowhere: No such file or directory")


# An export, and back

FULL_TASK = {
    "expression": "5 4 * * 1-5", "priority": 7, "timeout": 0, "title": "Tïtle", "group": "g", "cwd": "/srv",
    "environment": {"A": "b"}, "strategy": "sync", "minIntervalSeconds": 5, "ipAllowlist": ["192.0.2.0/24"],
    "signature": "either", "timezone": "Europe/Paris", "catchUpSeconds": 60, "retries": 2, "retryDelaySeconds": 5,
    "failureStatus": 500, "logOutput": False, "logErrorOutput": True, "logRetentionDays": 9, "preventOverlap": False,
    "lastRunAt": "2026-01-01T00:00:00.000+00:00", "lastRunStatus": "success", "lastRunDuration": 1.5, "theirs": [1],
}  # fmt: skip


@pytest.mark.parametrize("secrets", [True, False])
def test_what_is_exported_comes_in_as_it_was(installation: Installation, other: Installation, secrets: bool) -> None:
    """All fields, also those that nobody knows; keys only on request, else new ones are made. @due, which is there
    already, keeps what the program wrote."""
    installation.add("a:b", ["printf", "%s", "é\n\"'\\"], **FULL_TASK)
    installation.add("plain")
    done = call(installation.home, "export", "json", *(["--with-secrets"] if secrets else []))
    assert (done.status, done.err) == (0, "")
    assert all((installation.row(name)["secret"] in done.out) == secrets for name in ("a:b", "plain", DUE))
    assert come(other, done.out, "json").status == 0

    for name, row in tasks_of(installation).items():
        mine = other.row(name)
        assert re.fullmatch("[0-9a-f]{64}", mine["secret"])
        assert (mine["secret"] == row["secret"]) == secrets
        fields = [field for field in row if field not in ("secret", "slug", *(["createdAt"] if name == DUE else []))]
        assert {field: mine[field] for field in fields} == {field: row[field] for field in fields}
        assert (mine["slug"] == row["slug"]) == (secrets or name != DUE)

    # And what came in goes out the same.
    if secrets:
        there, here = call(other.home, "export", "json", "--with-secrets").document, done.document
        there["tasks"][DUE]["createdAt"] = here["tasks"][DUE]["createdAt"]
        assert list(there["tasks"].items()) == list(here["tasks"].items()) and there == here


def test_an_export_to_a_file_is_its_owners_alone(installation: Installation) -> None:
    file = installation.home.parent / "tasks.json"
    assert call(installation.home, "export", "json", "--with-secrets", "--output", str(file)) == Done(0, "", "")
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["tasks"][DUE]["secret"] == installation.row(DUE)["secret"]


@pytest.mark.parametrize("kind", ["json", "systemd"])
def test_an_export_that_cannot_be_written(installation: Installation, kind: str) -> None:
    """Is bad input, and told by the name that was given."""
    installation.add(expression="0 3 * * *")
    (installation.home.parent / "file").touch()
    place = f"{installation.home.parent}/file/there"
    done = call(installation.home, "export", kind, "--output", place)
    assert (done.status, done.complaint) == (2, f"{place} cannot be written: Not a directory")


def test_a_state_json_comes_in_as_it_is(installation: Installation, other: Installation) -> None:
    installation.add("a")
    done = come(other, (installation.home / "state.json").read_text())
    keys = [installation.row(DUE)["slug"], other.row("a")["slug"]]
    assert re.sub("[0-9a-f]{32}", "SLUG", done.out) == (
        "@due: changed\n  slug: SLUG -> SLUG\n  secret: *** -> ***\na: no schedule\n2 tasks imported\n")
    assert [other.row(DUE)["slug"], other.row("a")["slug"]] == keys
    assert other.row("a") == installation.row("a")


@pytest.mark.parametrize(("name", "says"), [("th/re", "task th/re: would share its files with 'th_re'"),
                                            ("-x", "name: '-x' must be"), ("@x", "name: '@x' must be")])
def test_a_name_that_is_taken_lets_nothing_in(installation: Installation, name: str, says: str) -> None:
    """Not even the tasks before it."""
    installation.add("there")
    installation.add("th_re")
    before = tree(installation.home)

    for words in ([], ["--dry-run"]):
        done = come(installation, json.dumps({"fine": {"argv": ["true"]}, name: {"argv": ["true"]}}), *words)
        assert done.status == 2
        assert says in done.complaint
        assert tree(installation.home) == before


@pytest.mark.parametrize("field", [field for field, row in FIELDS.items() if row.kind in ("int", "bool", "map", "hex")])
def test_a_field_of_the_wrong_kind_lets_nothing_in(installation: Installation, field: str) -> None:
    before = tree(installation.home)
    done = come(installation, json.dumps({"x": {"argv": ["true"], field: ["odd"]}}))
    assert done.status == 2
    assert f"task x: {field}: must be" in done.complaint
    assert tree(installation.home) == before


def test_a_slug_is_never_there_twice(installation: Installation) -> None:
    installation.add("a")
    come(installation, json.dumps({"b": installation.row("a")}))
    assert installation.row("b")["secret"] == installation.row("a")["secret"]
    assert installation.row("b")["slug"] != installation.row("a")["slug"]


def test_what_will_not_run_is_said_and_comes_in(installation: Installation) -> None:
    rows = {"a": {"command": "app:x"}, "b": {"argv": ["true"], "expression": "61 * * * *"},
            "c": {"argv": ["true"], "timezone": "Mars/Olympus"}}
    done = come(installation, json.dumps(rows))
    assert done.status == 0
    assert [line.partition(": ")[2][:27] for line in done.err.splitlines()] == [
        "a will not run until a comm", "b will not run until it is ", "c will not run until it is "]


# The directory of another scheduler

FIRST = {"enabled": True, "expression": "0 3 * * *", "intervalSeconds": None,
         "lastRunAt": "2026-01-02T03:00:00+01:00", "lastRunDuration": 12, "lastRunStatus": "success",
         "lastRunExitCode": 0, "nextRunAt": "2026-01-03T03:00:00+01:00", "preventOverlap": True, "priority": 100,
         "timeout": None, "arguments": "--all"}  # fmt: skip


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A `var/scheduler` as a Symfony project has it."""
    directory = tmp_path / "project" / "var" / "scheduler"
    (directory / "logs").mkdir(parents=True)
    rows = {"app:gdpr:anonymize-data": {**FIRST, "theirs": {"x": 1}},
            "app:report": {**FIRST, "enabled": False, "lastRunStatus": "running", "arguments": ""}}
    (directory / "state.json").write_text(json.dumps(rows, indent=4))
    line = ('{"command":"app:gdpr:anonymize-data","startedAt":"2026-01-02T03:00:00+01:00","duration":12,'
            '"status":"success","exitCode":0,"output":"caf\\u00e9 %d","theirs":true}\n')
    (directory / "logs" / "app_gdpr_anonymize-data.jsonl").write_text("".join(line % number for number in range(3)))
    (directory / "logs" / "app_gone.jsonl").write_text('{"command":"app:gone","status":"failed"}\ngarbage\n{"torn":')
    return directory


def test_a_var_scheduler_directory_is_adopted_whole(installation: Installation, foreign: Path) -> None:
    """Every field, every line; slugs and secrets are made, and the tasks are shown, late and all."""
    installation.configure(commands={"app:gdpr:anonymize-data": {"argv": ["echo", "anonymized"], "arguments": True}})
    done = call(installation.home, "import", str(foreign))
    assert done.status == 0
    assert done.out == "app:gdpr:anonymize-data: 0 3 * * *\napp:report: 0 3 * * *, disabled\n2 tasks imported\n"
    assert [line[:60] for line in done.err.splitlines()] == [
        "webscheduler: app:gdpr:anonymize-data keeps its history for ",
        "webscheduler: app:report will not run until a command is reg"]

    for name, given in json.loads((foreign / "state.json").read_text()).items():
        row = installation.row(name)
        assert {field: row[field] for field in given} == given
        assert (row["command"], row["argv"]) == (name, None)
        assert re.fullmatch("[0-9a-f]{32}", row["slug"])
        assert re.fullmatch("[0-9a-f]{64}", row["secret"])

    logs = foreign / "logs"
    mine = installation.home / "logs"
    own, gone = "app_gdpr_anonymize-data.jsonl", "app_gone.jsonl"
    assert (mine / own).read_bytes() == (logs / own).read_bytes()
    assert (mine / gone).read_bytes() == (logs / gone).read_bytes() + b"\n"  # a torn line stays one
    shown = call(installation.home, "logs", "app:gdpr:anonymize-data", "--json").document
    assert [line["output"] for line in shown] == ["café 2", "café 1", "café 0"]
    assert call(installation.home, "run", "app:gdpr:anonymize-data").out == "anonymized --all\n"
    assert len(installation.history("app:gdpr:anonymize-data")) == 4


def test_names_that_share_their_files_are_refused_and_nothing_is_half_done(
    installation: Installation, foreign: Path
) -> None:
    rows = json.loads((foreign / "state.json").read_text())
    (foreign / "state.json").write_text(json.dumps({**rows, "app_report": FIRST}))
    before = tree(installation.home)
    done = call(installation.home, "import", str(foreign))
    assert done.status == 2
    assert done.complaint == "task app_report: would share its files with 'app:report': rename one of them"
    assert tree(installation.home) == before


def test_lines_of_two_tasks_in_one_file_are_told_apart_by_what_they_say(
    installation: Installation, foreign: Path
) -> None:
    with (foreign / "logs" / "app_gone.jsonl").open("w") as file:
        file.write('{"command": "app:report", "n": 1}\n{"command": "app:gone", "n": 2}\n')

    call(installation.home, "import", str(foreign))
    assert installation.history("app:report") == [{"command": "app:report", "n": 1}]
    assert installation.history("app:gone") == [{"command": "app:gone", "n": 2}]


def test_history_that_would_mix_with_another_tasks_is_refused(installation: Installation, foreign: Path) -> None:
    installation.add("app:gone")
    before = tree(installation.home)
    done = call(installation.home, "import", str(foreign))
    assert done.status == 2
    assert "the history app_gone.jsonl would go to the task 'app:gone'" in done.complaint
    assert tree(installation.home) == before


def test_an_adoption_that_was_broken_off_is_begun_again_without_doubling(
    installation: Installation, foreign: Path
) -> None:
    """History was there, the tasks were not."""
    name = "app:gdpr:anonymize-data"
    shutil.copy(foreign / "logs" / "app_gdpr_anonymize-data.jsonl", installation.home / "logs")
    history.append(str(installation.home), name, {"run": "later"})
    call(installation.home, "import", str(foreign))
    assert [line.get("output", "later") for line in installation.history(name)] == [
        "café 0", "café 1", "café 2", "later"]


def test_logs_that_cannot_be_written_leave_no_task(installation: Installation, foreign: Path) -> None:
    (installation.home / "logs" / "app_gone.jsonl").mkdir()
    before = tree(installation.home)
    done = call(installation.home, "import", str(foreign))
    assert done.status == 1
    assert done.complaint.startswith(f"{installation.home}/logs cannot be written: ")
    assert tree(installation.home) == before


def test_an_error_after_the_history_leaves_no_line(installation: Installation, foreign: Path) -> None:
    """The lines that came to a history of before are taken back; what a run has added meanwhile stays."""
    home = installation.home
    history.append(str(home), "app:gone", {"command": "app:gone", "status": "success"})
    (foreign / "logs" / "app_gone.jsonl").write_text('{"command": "app:gone", "status": "failed"}\n')
    before = tree(home / "logs"), tasks_of(installation)

    with immutable(home / "state.json"):
        done = call(home, "import", str(foreign))

    assert (done.status, done.complaint) == (1, f"{home}/state.json cannot be written: Operation not permitted")
    assert (tree(home / "logs"), tasks_of(installation)) == before
    assert call(home, "import", str(foreign)).status == 0
    assert sorted(line["status"] for line in installation.history("app:gone")) == ["failed", "success"]


def test_lines_that_an_import_leaves_are_said(
    installation: Installation, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they cannot be taken back. Another import does not double them."""
    home = installation.home
    history.append(str(home), "app:gone", {"command": "app:gone", "status": "success"})
    (foreign / "logs" / "app_gone.jsonl").write_text('{"command": "app:gone", "status": "failed"}\n')

    with ExitStack() as stack, monkeypatch.context() as patch:
        def update(*_: Any) -> None:
            """The disk begins to fail at this moment, which no real one can be told to."""
            stack.enter_context(immutable(home / "logs" / "app_gone.jsonl"))
            raise OSError(28, "No space left on device")

        patch.setattr(state, "update", update)

        with pytest.raises(Unusable, match=r"no task is imported, but their lines stay in app_gone\.jsonl"):
            applying.apply(load_settings(str(home)), importing.of_directory(str(foreign)), [], 0.0)

    assert not (home / "logs" / "app_gdpr_anonymize-data.jsonl").exists()
    assert call(home, "import", str(foreign)).status == 0
    assert sorted(line["status"] for line in installation.history("app:gone")) == ["failed", "success"]


def test_a_line_that_is_written_during_an_import_stays(installation: Installation, foreign: Path) -> None:
    """A run of a task that is removed by now may end at any moment, and so do ticks."""
    (foreign / "logs" / "app_gone.jsonl").write_text('{"command": "app:gone", "run": "theirs"}\n')
    history.append(str(installation.home), "app:gone", {"run": "before"})
    path = history.path(str(installation.home), "app:gone")
    descriptor = files.open_locked(path, 1)

    try:
        process = start(installation.home, "import", str(foreign))
        until(lambda: process.poll() is not None or has_open(process.pid, path), "it waits for the lock")
        os.write(descriptor, b'{"run": "meanwhile"}\n')
    finally:
        os.close(descriptor)

    assert finished(process).status == 0
    assert {line["run"] for line in installation.history("app:gone")} == {"before", "theirs", "meanwhile"}


def has_open(pid: int, path: str) -> bool:
    """Whether a process has the file open."""
    try:
        return any(os.path.samefile(f"/proc/{pid}/fd/{each}", path) for each in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def test_histories_are_merged_by_time(installation: Installation, foreign: Path) -> None:
    """What is here may be older than what comes, or newer; what a kill left incomplete here is no line."""
    for day in (1, 5, 9):
        history.append(str(installation.home), "app:gone",
                       {"run": f"here-{day}", "finishedAt": f"2026-01-0{day}T00:00Z"})

    with open(history.path(str(installation.home), "app:gone"), "ab") as file:
        file.write(b'{"run": "torn')

    (foreign / "logs" / "app_gone.jsonl").write_text("".join(json.dumps(
        {"command": "app:gone", "run": f"there-{day}", "finishedAt": f"2026-01-0{day}T00:00Z"}) + "\n"
        for day in (2, 6)))
    assert call(installation.home, "import", str(foreign)).status == 0
    assert [line["run"] for line in installation.history("app:gone")] == [
        "here-1", "there-2", "here-5", "there-6", "here-9"]


@pytest.mark.parametrize("text", ["[]", "{}"])
def test_an_empty_directory_brings_nothing(installation: Installation, tmp_path: Path, text: str) -> None:
    """PHP writes an empty object as a list."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "state.json").write_text(text)
    assert call(installation.home, "import", str(tmp_path / "empty")) == Done(0, "0 tasks imported\n", "")


def test_directories_that_are_nothing_to_import(installation: Installation, tmp_path: Path) -> None:
    done = call(installation.home, "import", str(tmp_path / "home"))
    assert (done.status, done.complaint) == (2, f"{tmp_path}/home is this installation itself")
    assert "state.json cannot be read: No such file" in call(installation.home, "import", str(tmp_path)).complaint


# To other schedulers

EXPRESSIONS = ("* * * * *", "*/15 * * * *", "5-59/20 3,4 * * *", "7 3 * * *", "0 0 1,15 * *", "0 0 13 * 5",
               "0 0 */2 * 5", "0 0 5 * */2", "0 0 */2 * */3", "30 9 * * 1-5", "0 3 * * 0", "0 3 * * 7",
               "0 3 * * 5-7", "0 3 * * 1,7",
               "0 3 * jan,JUL sun", "0 3 ? * MON-WED", "0 0 31 * ?", "0 0 29 2 *", "0 3 L * *", "0 3 1,L * *",
               "0 3 * * 5L", "0 3 * * FRIL", "0 3 * * FRI#3", "0 3 * * 1#1,3", "0 3 * * 1#5", "0 0 L * 1",
               "0 0 1-7 * 1-1", "0 0 1-31/3 * *", "*/10 8-17/3 1-7 1-12/2 *", "@hourly", "@daily", "@midnight",
               "@weekly", "@monthly", "@yearly", "@annually", "0 0 */1 * 5", "0 0 *,3 * 5")  # fmt: skip
UNSAYABLE = ("0 3 LW * *", "0 3 15W * *", "0 3 1W,5 * 1", "0 0 */2 * 5#1", "0 0 */3 * 1L")


def of(name: str = "task", **fields: Any) -> Task:
    return load_task(name, {"enabled": True, "argv": ["true"], **fields})


def occurrences(schedules: list[list[str]], number: int, zone: str = "UTC",
                since: str = "2026-02-19 23:59:59") -> list[list[datetime]]:
    """The next instants of each, as systemd reads its calendars. zone: the machine's, for those that name none, which
    costs systemd less."""
    done = subprocess.run(["systemd-analyze", "calendar", f"--iterations={number}", f"--base-time={since} UTC",
                           *(calendar for calendars in schedules for calendar in calendars)],
                          capture_output=True, text=True, env={**os.environ, "TZ": zone})
    assert done.returncode == 0, (schedules, done.stderr)
    found = [{datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
              for text in re.findall(r"\w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", part)}
             for part in done.stdout.split("\n\n")]
    assert len(found) == sum(map(len, schedules))
    parts = iter(found)
    return [sorted(set().union(*(next(parts) for _ in calendars)))[:number] for calendars in schedules]


@pytest.mark.skipif(not REQUIRED and not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_calendar_means_to_systemd_what_the_expression_means_here(expression: str) -> None:
    """Its next instants, by systemd itself, in a zone without daylight saving."""
    calendars = exporting.calendar(expression)
    assert calendars
    cron, moment = Cron(expression), datetime(2026, 2, 19, 23, 59, tzinfo=timezone.utc)
    wanted = []
    number = 60 if FULL else 12

    for _ in range(number):
        following = cron.next(moment, timezone.utc)
        assert following
        wanted.append(following)
        moment = following

    # systemd counts to the year 2199 (systemd.time(7)).
    assert occurrences([[f"{each} UTC" for each in calendars]], number) == [
        [moment for moment in wanted if moment.year < 2200]]


@pytest.mark.parametrize("expression", UNSAYABLE)
def test_what_systemd_cannot_say_is_left_out_and_said(installation: Installation, expression: str) -> None:
    text = exporting.export("systemd", load_settings(str(installation.home)), [of(expression=expression)])
    assert text.files == {}
    assert f"task: is left out: no OnCalendar= says '{expression}'" in text.said


def test_units_say_zone_limit_and_what_is_lost(installation: Installation) -> None:
    installation.configure(timezone="Europe/Paris", environment={"A": "50% \"x\" $Y \\"})
    text = exporting.export("systemd", load_settings(str(installation.home)), [
        of("app:x", expression="7 3 * * *", argv=["/bin/echo", "a b", "%h $HOME \\ \"q\"", ""], cwd="/srv/50%",
           title="T%"),
        of("off", enabled=False, intervalSeconds=5400, timeout=0, retries=2, preventOverlap=False),
        of("once", expression="@daily", catchUpSeconds=60),
        of("hello", argv=None, command="hello", expression="@daily"),
        of("gone", argv=None, command="gone", expression="@daily"), of("none"), of("bad", expression="61 * * * *"),
    ])  # fmt: skip
    assert text.files["webscheduler-app_x.service"] == """\
[Unit]
Description=T%%

[Service]
Type=oneshot
Environment="A=50%% \\"x\\" $Y \\\\"
WorkingDirectory=/srv/50%%
TimeoutStartSec=300
TimeoutStopSec=5
ExecStart="/bin/echo" "a b" "%%h $$HOME \\\\ \\"q\\"" ""
"""
    assert text.files["webscheduler-app_x.timer"] == """\
[Unit]
Description=T%%

[Timer]
OnCalendar=*-*-* 03:07:00 Europe/Paris
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""
    assert "OnActiveSec=0\nOnUnitActiveSec=5400\n" in text.files["webscheduler-off.timer"]
    assert "TimeoutStartSec=infinity\n" in text.files["webscheduler-off.service"]
    assert "Persistent=false\n" in text.files["webscheduler-once.timer"]
    assert f'Environment="WEBSCHEDULER_HOME={installation.home}"' in text.files["webscheduler-hello.service"]
    assert text.files["webscheduler-hello.service"].endswith('"-m" "webscheduler" "run" "hello"\n')
    assert len(text.files) == 8
    assert [line for line in text.said if line.split(":")[0] in ("off", "once", "gone", "none", "bad")] == [
        "off: is disabled: do not enable its timer", "off: may overlap here, and will not there",
        "off: its retries are lost",
        "once: what was missed is not run later at all: systemd knows no limit for that",
        "gone: is left out: task gone: no command is registered as 'gone'", "none: is left out: it has no schedule",
        "bad: is left out: minute: '61' is not within 0-59"]
    assert all(f"# {line}\n" in str(text) for line in text.said)


@pytest.mark.skipif(not REQUIRED and not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_units(installation: Installation) -> None:
    installation.add("app:x", ["/bin/echo", "a b", "%h $HOME \\ \"q\""], expression="7 3 * * 5L", cwd="/usr")
    installation.add("every", ["/bin/echo"], intervalSeconds=5400)
    directory = installation.home.parent / "units"
    done = call(installation.home, "export", "systemd", "--output", str(directory))
    assert (done.status, done.out) == (0, "")
    files = sorted(directory.iterdir())
    assert [file.name for file in files] == [f"webscheduler-{name}.{kind}" for name in ("app_x", "every")
                                             for kind in ("service", "timer")]
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert [line for line in checked.stderr.splitlines() if "webscheduler" in line] == []


def crontab_lines(installation: Installation, *tasks: Task) -> tuple[list[str], list[str]]:
    text = exporting.export("crontab", load_settings(str(installation.home)), tasks)
    return [line for line in str(text).splitlines() if line and not line.startswith("# ")], text.said


def test_a_crontab_says_zone_overlap_and_limit(installation: Installation) -> None:
    installation.configure(timezone="Europe/Paris", defaultTimeout=60, environment={"A": "b c"})
    lines, said = crontab_lines(
        installation,
        of("app:x", expression="7 3 ? * 1", argv=["date", "+%H", "it's", "\\\\"], cwd="/srv/a b"),
        of("free", intervalSeconds=3600, timeout=0, preventOverlap=False, retries=1, timezone="UTC"),
        of("odd", intervalSeconds=5400), of("seconds", intervalSeconds=90), of("quartz", expression="0 3 L * *"),
        of("month", expression="0 3 1 jul wed"), of("off", expression="@daily", enabled=False),
        of("line", expression="@daily", argv=["printf", "a\nb"]),
        of("hello", argv=None, command="hello", expression="@daily"),
    )  # fmt: skip
    first = ("7 3 * * 1 cd '/srv/a b' && env 'A=b c' flock -n -E0 \"$HOME\"/.webscheduler-app_x.lock timeout -k5 60 "
             "date +\\%H 'it'\"'\"'s' '\\\\\\\\'")
    assert lines == [
        "CRON_TZ=Europe/Paris",
        first,
        "CRON_TZ=UTC",
        "0 * * * * env 'A=b c' true",
        "CRON_TZ=Europe/Paris",
        "0 3 1 jul wed env 'A=b c' flock -n -E0 \"$HOME\"/.webscheduler-month.lock timeout -k5 60 true",
        lines[6],
    ]
    assert lines[6].startswith(f"0 0 * * * env WEBSCHEDULER_HOME={installation.home} ")
    assert lines[6].endswith(" -m webscheduler run hello")
    assert said[2:] == [
        "free: its interval counts by the clock there, not from the last start", "free: its retries are lost",
        "odd: is left out: no expression says every 5400 seconds",
        "seconds: is left out: no expression says every 90 seconds",
        "quartz: is left out: cron does not know '0 3 L * *'",
        "line: is left out: a line of a crontab cannot say a line break",
        f"hello: runs through webscheduler, whose home {installation.home} must be there"]  # fmt: skip


def test_a_line_of_the_crontab_runs_the_task_as_it_was(installation: Installation, tmp_path: Path) -> None:
    """Read as cron does, given to a shell: words, variables, directory, time limit, and no second one meanwhile."""
    words = ["printf", "%s|", "it's", 'a "b"', "$HOME", "100%", "back\\slash", "\\\\%", "*", ""]
    lines, _ = crontab_lines(installation, of(expression="@daily", argv=words),
                             of("where", expression="@daily", argv=["sh", "-c", 'pwd; echo "$X"'], cwd="/usr",
                                environment={"X": "1 % 'x'"}),
                             of("long", expression="@daily", argv=["sleep", "60"], timeout=1))
    ran = []

    for job in crontab.parse("\n".join(lines))[0]:
        ran.append(subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, text=True,
                                  env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}))

    assert ran[0].stdout == "it's|a \"b\"|$HOME|100%|back\\slash|\\\\%|*||"
    assert ran[1].stdout == "/usr\n1 % 'x'\n"
    assert [each.returncode for each in ran] == [0, 0, 124]
    job = crontab.parse(lines[1])[0][0]

    with subprocess.Popen(["flock", str(tmp_path / ".webscheduler-task.lock"), "cat"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(b"held\n")
        holder.stdin.flush()
        holder.stdout.readline()
        locked = subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, text=True,
                                env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
        holder.stdin.close()

    assert (locked.returncode, locked.stdout) == (0, "")


def test_what_webscheduler_runs_itself_finds_package_and_home(installation: Installation, tmp_path: Path) -> None:
    """As cron and systemd start it: with next to no variables, from the account's home."""
    call(installation.home, "add", "task", "--command", "hello", "--cron", "@daily")
    settings, hello = load_settings(str(installation.home)), load_task("task", installation.row())
    ((job,), _) = crontab.parse(crontab_lines(installation, hello)[0][-1])
    service = exporting.export("systemd", settings, [hello]).files["webscheduler-task.service"]
    variables = dict(shlex.split(line[12:])[0].split("=", 1) for line in service.splitlines()
                     if line.startswith("Environment="))
    argv = shlex.split(service.partition("ExecStart=")[2])
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    for words, more in ((["/bin/sh", "-c", job.command], {}), (argv, variables)):
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env={**bare, **more})
        assert (done.returncode, done.stdout) == (0, "Hello!\n"), done.stderr

    assert [line["status"] for line in installation.runs()] == ["success"] * 2


@pytest.mark.parametrize("kind", ["crontab", "systemd", "kubernetes"])
def test_what_is_left_out_is_not_said_to_run(installation: Installation, kind: str) -> None:
    text = exporting.export(kind, load_settings(str(installation.home)), [
        of(argv=None, command="hello", expression="0 3 LW * *")])
    assert [line[:18] for line in text.said if line.startswith("task: ")] == ["task: is left out:"]


@pytest.mark.skipif(not REQUIRED and not shutil.which("crontab"), reason="crontab is not installed")
def test_cron_accepts_the_crontab(installation: Installation, tmp_path: Path) -> None:
    """`crontab -n` of Debian's cron reads it and installs nothing."""
    for name, fields in {"a": {"expression": "7 3 ? * 1"}, "b": {"intervalSeconds": 300}, "c": {"expression": "@daily"},
                         "d": {"expression": "0 3 1 jul wed", "timezone": "Europe/Paris", "enabled": False}}.items():
        installation.add(name, ["printf", "50%", "a\\b"], environment={"A": "b 'c' %"}, cwd="/usr", **fields)

    call(installation.home, "add", "own", "--command", "hello", "--cron", "0 3 * * *")
    file = tmp_path / "crontab"
    assert call(installation.home, "export", "crontab", "--output", str(file)).status == 0
    checked = subprocess.run([REAL_CRONTAB, "-n", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    file.write_text(file.read_text() + "61 * * * * true\n")
    assert subprocess.run([REAL_CRONTAB, "-n", str(file)], capture_output=True).returncode != 0


def test_a_crontab_that_went_out_comes_in_again(installation: Installation, other: Installation) -> None:
    installation.add("a", ["printf", "%s", "a b"], expression="7 3 * * *", timezone="Europe/Paris")
    done = come(other, call(installation.home, "export", "crontab").out, "crontab")
    assert done.out == "printf: 7 3 * * *\n1 task imported\n"
    assert other.row("printf")["timezone"] == "Europe/Paris"
    assert shlex.split(other.row("printf")["argv"][2])[-3:] == ["printf", "%s", "a b"]


needs_yaml = pytest.mark.skipif(not REQUIRED and importlib.util.find_spec("yaml") is None, reason="PyYAML is missing")


def manifests(installation: Installation, *tasks: Task) -> tuple[list[Any], list[str]]:
    import yaml

    text = exporting.export("kubernetes", load_settings(str(installation.home)), tasks, "registry.example/app:1")
    return [document for document in yaml.safe_load_all(str(text)) if document], text.said


@needs_yaml
def test_manifests_say_zone_overlap_deadlines_and_history(installation: Installation) -> None:
    installation.configure(timezone="Europe/Paris", logRetentionDays=10, environment={"A": "$(B) é \x7f\u2028 \"x\""})
    documents, said = manifests(
        installation,
        of("app:X y", expression="7 3 * * *", argv=["printf", "%s", "a: b # c", "$(HOME)", "\ttab\n", "é😀\x85", "no"],
           cwd="/srv", catchUpSeconds=600, retries=2, timeout=90),
        of("app-x-y", expression="@daily", enabled=False, preventOverlap=False, timeout=0, catchUpSeconds=3,
           timezone="UTC", logRetentionDays=0, environment={"A": "", "B": "1"}),
        of("odd", intervalSeconds=5400), of("日本", intervalSeconds=3600),
    )  # fmt: skip
    assert documents[0] == {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "app-x-y"}, "spec": {
            "schedule": "7 3 * * *", "timeZone": "Europe/Paris", "concurrencyPolicy": "Forbid", "suspend": False,
            "successfulJobsHistoryLimit": 10, "failedJobsHistoryLimit": 10, "startingDeadlineSeconds": 600,
            "jobTemplate": {"spec": {"backoffLimit": 2, "activeDeadlineSeconds": 90,
                                     "ttlSecondsAfterFinished": 864000, "template": {"spec": {
                                         "restartPolicy": "Never", "containers": [{
                                             "name": "task", "image": "registry.example/app:1",
                                             "command": ["printf", "%s", "a: b # c", "$$(HOME)", "\ttab\n", "é😀\x85",
                                                         "no"],
                                             "workingDir": "/srv",
                                             "env": [{"name": "A", "value": "$$(B) é \x7f\u2028 \"x\""}]}]}}}}}}
    spec = documents[1]["spec"]
    assert documents[1]["metadata"]["name"] == "app-x-y-2"
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"], spec["suspend"]) == (
        "0 0 * * *", "Etc/UTC", "Allow", True)
    assert spec["startingDeadlineSeconds"] == 10
    assert spec["jobTemplate"]["spec"].keys() == {"backoffLimit", "template"}
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "A", "value": ""}, {"name": "B", "value": "1"}]
    assert documents[2]["metadata"]["name"] == "task"
    assert said[2:] == [
        "The image is registry.example/app:1: it must hold what the command needs.",
        "app:X y: Kubernetes chooses the delay before a retry",
        "app-x-y: a missed slot is run there for up to 10 seconds",
        "odd: is left out: no expression says every 5400 seconds",
        "日本: its interval counts by the clock there, not from the last start"]


@needs_yaml
@pytest.mark.parametrize(
    ("expression", "theirs"),
    [
        ("7 3 ? * 1", "7 3 * * 1"), ("0 3 * * 7", "0 3 * * 0"), ("0 3 * * 5-7", "0 3 * * 0,5,6"),
        ("0 3 * * 1-5/2,7", "0 3 * * 0,1,3,5"), ("0 3 * JAN MON", "0 3 * JAN MON"), ("0 0 13 * 5", "0 0 13 * 5"),
        ("*/10 * */2 * *", "*/10 * */2 * *"), ("@Hourly", "0 * * * *"), ("0 0 * * */2", "0 0 * * */2"),
        ("0 0 */1 * 5", "0 0 */1 * 5"),
        # an "and" here, which is an "or" there
        ("0 0 */2 * 5", None), ("0 0 5 * */2", None), ("0 0 */2 * */3", None),
        ("0 3 L * *", None), ("0 3 15W * *", None), ("0 3 * * 5L", None), ("0 3 * * FRI#3", None),
    ],
)  # fmt: skip
def test_an_expression_as_kubernetes_reads_it(installation: Installation, expression: str, theirs: str | None) -> None:
    documents, said = manifests(installation, of(expression=expression))
    assert [document["spec"]["schedule"] for document in documents] == ([theirs] if theirs else [])
    assert ("task: is left out" in " ".join(said)) == (theirs is None)


@pytest.mark.parametrize("kind", ["crontab", "systemd", "kubernetes"])
def test_what_cannot_be_said_is_said_twice(installation: Installation, kind: str) -> None:
    """As a comment, and to whoever asked; the rest is on standard output, or in a file."""
    installation.add("quartz", expression="0 3 15W * *")
    installation.add("good", expression="@daily")
    done = call(installation.home, "export", kind)
    assert done.status == 0
    assert [line for line in done.err.splitlines() if line.startswith("webscheduler: quartz: is left out: ")]
    assert "# quartz: is left out: " in done.out
    assert "IMAGE" in done.out if kind == "kubernetes" else True

    if kind != "systemd":
        file = installation.home.parent / "out"
        assert call(installation.home, "export", kind, "--output", str(file)).out == ""
        assert file.read_text() == done.out


def test_an_unknown_kind_of_export(installation: Installation) -> None:
    done = call(installation.home, "export", "yaml")
    assert (done.status, done.complaint) == (2, "export: must be one of json, crontab, systemd, kubernetes, github")
