# SPDX-License-Identifier: LGPL-3.0-or-later
"""The verbs that make and change tasks: every field, every bad value, and what is shown of a secret."""

from __future__ import annotations

import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import call, environment
from tests.installation import Installation, asking, waits_for
from webscheduler import signing
from webscheduler.cli import main, parser, tasks
from webscheduler.store import state
from webscheduler.store.task import FIELDS, file_name
from webscheduler.times import parse_time

NUMBERS = ["x", "1.5", "1_0", "+1", "\u00b9", "\u0661", " 1", "1e3", "0x10", "1" * 13, "1\0", "--", "null"]
TEXTS = ["a\0b", "\udcff"]

BAD: dict[str, list[str]] = {
    "int": NUMBERS,
    "seconds": [*NUMBERS, "5w", "1.5h", "m", "1 h", "5mm", "\u00b9h"],
    "text": TEXTS,
    "line": [*TEXTS, "a\nb", "a\rb", "\x1b[31m", "\u202ea"],
    "prose": [*TEXTS, "a\rb", "\x1b[31m", "\u202ea"],
    "cron": [*TEXTS, "* * * *", "61 * * * *", "@reboot", "0 0 30 2 *", "\u00e9 * * * *", "* * * * * *", "*/90 * * * *"],
    "choice": ["x", "", "FORK", "fork ", "\0", "\udcff"],
    "url": ["x", "http://", "ftp://x/", "http://x:y/", "http://a b/", "\0", "\udcff"],
    "map": ["NAME", "=x", "A=\0", "A=\udcff", "\udcff=1", "\0=1"],
    "names": ["\0", "\udcff", "nobody", "@due", "a,b"],
    "networks": ["x", "1.2.3", "1.2.3.4/33", "1.2.3.4/-1", "::1/129", "\0", "\udcff", "127.0.0.1,x"],
}

# What only the row's limit, or the whole task, makes bad.
BAD_HERE: dict[str, list[str]] = {
    "intervalSeconds": ["0", "-1", str(367 * 86400)],
    "priority": ["", "1000001", "-1000001"],
    "timeout": ["-1", str(367 * 86400)],
    "minIntervalSeconds": ["", "-1", str(367 * 86400)],
    "catchUpSeconds": ["-1"],
    "retries": ["", "-1", "101"],
    "retryDelaySeconds": ["", "-1"],
    "failureStatus": ["0", "199", "600"],
    "logRetentionDays": ["-1", "36501"],
    "title": ["x" * 201],
    "description": ["x" * 2001],
    "group": ["x" * 101],
    "cwd": ["x" * 4001],
    "arguments": ["x" * 4001, "x"],
    "command": ["x" * 201, "nothing", "task", "\x1b[31m"],
    "timezone": ["x" * 101, "Middle/Earth", "../../etc/passwd", "Europe", "UTC "],
    "expression": ["* " * 101],
}

GOOD: dict[str, tuple[str, Any]] = {
    "expression": ("*/5 * * * 1-5", "*/5 * * * 1-5"),
    "intervalSeconds": ("3600", 3600),
    "priority": ("-5", -5),
    "timeout": ("2h", 7200),
    "title": ("T\u00e2che \u4e2d", "T\u00e2che \u4e2d"),
    "description": ("two\nlines", "two\nlines"),
    "group": ("night", "night"),
    "cwd": ("/tmp", "/tmp"),
    "environment": ("A=b=c", {"A": "b=c"}),
    "strategy": ("close", "close"),
    "minIntervalSeconds": ("5m", 300),
    "ipAllowlist": ("203.0.113.0/24,unix", ["203.0.113.0/24", "unix"]),
    "signature": ("either", "either"),
    "timezone": ("Europe/Paris", "Europe/Paris"),
    "catchUpSeconds": ("1d", 86400),
    "retries": ("3", 3),
    "retryDelaySeconds": ("90s", 90),
    "failureStatus": ("500", 500),
    "pingUrl": ("https://hc-ping.com/x", "https://hc-ping.com/x"),
    "logRetentionDays": ("7", 7),
    "onSuccess": ("after", ["after"]),
    "onFailure": ("after", ["after"]),
}


def option(field: str) -> str:
    return parser.OPTIONS.get(field, "--" + parser.kebab(field)).partition(",")[0]


def cases() -> list[tuple[str, str]]:
    return [(field, bad) for field, row in tasks.option_fields().items()
            for bad in [*BAD.get(row.kind, []), *BAD_HERE.get(field, [])]]


class Here:
    """The command line in this process, and the installation it works on."""

    def __init__(self, installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
        self.installation, self.capsys = installation, capsys

    def __call__(self, *words: str, status: int = 0) -> str:
        """What is printed; the exit status must be as expected."""
        got = main(words)
        out, err = self.capsys.readouterr()
        assert got == status, (words, out, err)
        assert status == 0 or out == ""
        return out if status == 0 else err

    def document(self, *words: str) -> Any:
        return json.loads(self(words[0], "--json", *words[1:]))

    @property
    def state(self) -> bytes:
        return (self.installation.home / "state.json").read_bytes()


@pytest.fixture
def here(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    monkeypatch.setenv("WEBSCHEDULER_HOME", str(installation.home))
    return Here(installation, capsys)


def test_every_field_that_may_be_edited_is_an_option() -> None:
    """No field of the table is missing here, among the options or among the values tried below."""
    for field, row in FIELDS.items():
        if row.by == "user" and row.kind not in ("argv", "bool"):
            assert field in tasks.option_fields()
            assert row.kind in BAD
            assert field in GOOD or field in ("arguments", "command")


@pytest.mark.parametrize(("field", "bad"), cases())
def test_a_bad_value_is_refused_by_the_option_that_was_typed(field: str, bad: str, here: Here) -> None:
    """add and edit end with status 2 and one line that names the option; state.json is the same to the byte."""
    here.installation.add()
    before = here.state

    for words in (["edit", "task", f"{option(field)}={bad}"], ["add", "other", f"{option(field)}={bad}", "--", "true"]):
        if field == "command" and words[0] == "add":
            words = words[:-2]

        err = here(*words, status=2)
        assert err.startswith("webscheduler: ") and err.count("\n") == 1 and err[:-1].isprintable()
        assert err.startswith(f"webscheduler: {option(field)}:")
        assert here.state == before


def test_an_error_tells_of_nothing_that_another_command_line_did(here: Here) -> None:
    """Two command lines in one process: what the first changed is not said to be changed by one that cannot be read."""
    here.installation.add()
    here("edit", "task", "--failure-status=500")
    assert here("edit", "task", "--failure-status=--", status=2).startswith("webscheduler: --failure-status:")


@pytest.mark.parametrize("field", [name for name, row in tasks.option_fields().items() if row.kind == "bool"])
def test_a_switch_takes_no_value(field: str, here: Here) -> None:
    """`--prevent-overlap=no` is no way to say it."""
    here.installation.add()
    assert option(field) in here("edit", "task", f"{option(field)}=no", status=2)


@pytest.mark.parametrize("argv", [[""], ["a\0b"], ["true", "\udcff"], []])
def test_a_program_that_cannot_be_one_is_refused(argv: list[str], here: Here) -> None:
    """What follows -- is checked like any field."""
    here.installation.add()
    before = here.state
    assert "argv" in here("add", "other", "--", *argv, status=2)
    assert "argv" in here("edit", "task", "--", *argv, status=2)
    assert here.state == before


@pytest.mark.parametrize("name", ["", "-a", ".a", "@a", " a", "a ", "a\nb", "a\x1b", "a\0", "\udcff", "x" * 101, "@due",
                                  "task", "t\u202eask", "ta/sk2\x7f"])
@pytest.mark.parametrize("verb", ["add", "rename"])
def test_a_name_that_cannot_be_one_is_refused(verb: str, name: str, here: Here) -> None:
    """A name starts with no sign that means something, is printable, and is not taken."""
    here.installation.add("task")
    here.installation.add("old")
    before = here.state
    words = ["add", name, "--", "true"] if verb == "add" else ["rename", "old", name]
    assert "@due" in (err := here(*words, status=2)) or "name" in err or "NAME" in err or "NEW" in err
    assert here.state == before


def test_two_names_that_would_share_their_files_cannot_both_be(here: Here) -> None:
    """`app:a` and `app_a` have the same files: the second is refused, and so is renaming to it."""
    assert file_name("app:a") == file_name("app_a")
    here("add", "app:a", "--", "true")
    assert "share its files" in here("add", "app_a", "--", "true", status=2)
    here("add", "b", "--", "true")
    assert "share its files" in here("rename", "b", "app_a", status=2)
    here("rename", "app:a", "app_a")


@pytest.mark.parametrize("field", sorted(GOOD))
def test_each_option_sets_its_field_and_no_other(field: str, here: Here) -> None:
    """add and edit store exactly what was said; --unset, and '' where unset is a value, take it back."""
    text, value = GOOD[field]
    here.installation.add("after")
    added = here.document("add", "a", f"{option(field)}={text}", "--", "true")
    plain = here.document("add", "b", "--", "true")
    own = {"name", "slug", "secret", "createdAt", "scheduledSince", "nextRunAt", field}
    assert added[field] == value
    assert {name: added[name] for name in added if name not in own} == {
        name: plain[name] for name in plain if name not in own}

    before = here.document("show", "b")
    assert here.document("edit", "b", f"{option(field)}={text}")[field] == value
    after = here.document("show", "b")
    times = ("nextRunAt", "scheduledSince")
    assert {name for name in after if after[name] != before[name] and name not in times} == {field}
    assert here.document("edit", "b", "--unset", parser.kebab(field))[field] == FIELDS[field].default

    if FIELDS[field].nullable:
        here("edit", "b", f"{option(field)}={text}")
        assert here.document("edit", "b", f"{option(field)}=")[field] is None


@pytest.mark.parametrize("field", [name for name, row in tasks.option_fields().items() if row.kind == "bool"])
def test_each_switch_goes_both_ways(field: str, here: Here) -> None:
    """--X and --no-X are true and false, and --unset puts back what a task has by default."""
    on, off = option(field), "--disabled" if field == "enabled" else "--no-" + parser.kebab(field)
    assert here.document("add", "a", on, "--", "true")[field] is True
    assert here.document("edit", "a", off)[field] is False
    assert here.document("edit", "a", on)[field] is True
    assert here.document("edit", "a", "--unset", field)[field] is FIELDS[field].default
    assert here.document("add", "b", off, "--", "true")[field] is False


def test_repeated_options_add_up(here: Here) -> None:
    """Variables and addresses may be given one by one; the last of two values of a name counts; '' clears all."""
    task = here.document("add", "a", "--environment", "A=1", "--environment", "B=", "--environment", "A=2",
                         "--ip-allowlist", "192.0.2.1", "--ip-allowlist", "2001:db8::/32 unix", "--", "true")
    assert task["environment"] == {"A": "2", "B": ""}
    assert task["ipAllowlist"] == ["192.0.2.1", "2001:db8::/32", "unix"]
    task = here.document("edit", "a", "--environment", "", "--ip-allowlist", "")
    assert (task["environment"], task["ipAllowlist"]) == ({}, [])


def test_a_new_task_is_enabled_and_its_secret_is_shown_once(here: Here) -> None:
    """add shows the secret, and the URL that it signs; no verb shows the secret again."""
    here("config", "set", "baseUrl", "https://example.org/cron/")
    task = here.document("add", "a", "--command", "hello", "--arguments", "--loud 'y z'")
    assert task["enabled"] is True
    assert task["arguments"] == "--loud 'y z'"
    assert task["url"] == signing.trigger_url("https://example.org/cron", task["slug"], task["secret"])
    assert set(task) == {"name", *FIELDS, "url", "oldSecretUntil"} - {"oldSecret"}
    text = here("add", "b", "--disabled", "--", "sh", "-c", "echo 'a  b' --json")
    row = here.installation.row("b")
    assert row["argv"] == ["sh", "-c", "echo 'a  b' --json"]
    assert row["enabled"] is False
    assert text.count(row["secret"]) == 1
    assert here("url", "b").strip() in text

    for words in (["show", "a"], ["show", "a", "--json"], ["list"], ["list", "--json"], ["status", "--json"],
                  ["url", "a"], ["edit", "a", "--title", "x", "--json"], ["edit", "a", "--title", "y"], ["logs"]):
        assert task["secret"] not in here(*words)


def test_without_a_base_there_is_no_url(here: Here) -> None:
    """url is null, and the line for people says how to get one; a timed task has no URL that stays."""
    assert here.document("add", "a", "--", "true")["url"] is None
    assert "config set baseUrl" in here("add", "b", "--", "true")
    assert "config set baseUrl" in here("url", "a", status=2)
    here("config", "set", "baseUrl", "https://example.org")
    assert here.document("add", "c", "--signature", "timed", "--", "true")["url"] is None
    assert "--timed" in here("add", "d", "--signature", "timed", "--", "true")


def test_a_url_does_what_it_says(here: Here) -> None:
    """What `url` prints runs the task, with --timed once, with --status not at all, with --query where no path arrives;
    none outlives rotation."""
    here("add", "a", "--strategy", "sync", "--signature", "either", "--command", "hello")

    def ask(text: str) -> Any:
        assert text.count("\n") == 1
        parts = urllib.parse.urlsplit(text.strip())
        assert (parts.scheme, parts.netloc) == ("https", "example.org:8443")
        assert ("task=" in text or "status=" in text) == (parts.path == "/cron")
        return here.installation.cgi(asking(parts.path[len("/cron"):], parts.query))

    base = ("--base", "https://example.org:8443/cron")
    static, timed = here("url", "a", *base), here("url", "a", *base, "--timed")
    assert ask(static).document["output"] == "Hello!\n"
    assert ask(timed).document["output"] == "Hello!\n"
    assert ask(timed).refused
    assert ask(here("url", "a", *base, "--status")).document["status"] == "healthy"
    assert here.document("url", "a", *base) == {"name": "a", "url": static.strip()}
    assert ask(here("url", "a", *base, "--query")).document["output"] == "Hello!\n"
    assert ask(here("url", "a", *base, "--query", "--status")).document["status"] == "healthy"
    rotated = here.document("rotate-secret", "a")
    assert rotated["secret"] == here.installation.row("a")["secret"]
    assert ask(static).refused
    assert ask(here("url", "a", *base)).status == 200


def test_a_url_that_would_be_refused_is_not_printed(here: Here) -> None:
    """A task that accepts one kind of signature gives no URL of the other kind."""
    here("add", "a", "--", "true")
    here("add", "b", "--signature", "timed", "--", "true")
    assert "--signature either" in here("url", "a", "--base", "http://x", "--timed", status=2)
    assert "--timed" in here("url", "b", "--base", "http://x", status=2)


def test_a_task_without_keys_gets_them_with_its_first_url(here: Here) -> None:
    """A state.json of the first fields alone has neither slug nor secret; `url` makes them, once."""
    state.update(str(here.installation.home), lambda tasks: tasks.update({"old": {"enabled": True, "argv": ["true"]}}))
    first = here("url", "old", "--base", "http://x")
    assert here("url", "old", "--base", "http://x") == first
    assert "old" in here("list")


def test_a_schedule_of_one_kind_takes_the_place_of_the_other(here: Here) -> None:
    """Both at once are refused; giving one clears the other, and nextRunAt in the file with it; what is shown is told
    from the schedule."""
    assert "not both" in here("add", "a", "--cron", "* * * * *", "--every", "60", "--", "true", status=2)
    here("add", "a", "--cron", "* * * * *", "--", "true")
    here.installation.edit("a", nextRunAt="2026-01-01T00:00:00+00:00")
    task = here.document("edit", "a", "--every", "60")
    assert (task["expression"], task["intervalSeconds"]) == (None, 60)
    assert here.installation.row("a")["nextRunAt"] is None
    assert abs(parse_time(task["nextRunAt"]) - time.time()) < 60
    here.installation.edit("a", nextRunAt="2026-01-01T00:00:00+00:00")
    task = here.document("edit", "a", "--cron", "0 3 * * *")
    assert (task["expression"], task["intervalSeconds"]) == ("0 3 * * *", None)
    assert here.installation.row("a")["nextRunAt"] is None
    assert task["nextRunAt"].endswith("T03:00:00.000+00:00")
    here.installation.edit("a", nextRunAt="2026-01-01T00:00:00+00:00")
    task = here.document("edit", "a", "--cron", "")
    assert (task["expression"], task["intervalSeconds"], task["nextRunAt"]) == (None, None, None)


def test_when_it_comes_next_is_told_from_the_first_moment(here: Here) -> None:
    """No run and no tick has to come first: `add`, `list` and the status URL tell; nothing comes of a disabled task."""
    coming = here.document("add", "a", "--cron", "0 3 * * *", "--", "true")["nextRunAt"]
    assert coming.endswith("T03:00:00.000+00:00")
    status = here.installation.call("wsgi", here.installation.asking_status("a")).document
    assert status["nextRunAt"] == coming
    assert [task["nextRunAt"] for task in here.document("list") if task["name"] == "a"] == [coming]
    assert here.document("edit", "a", "--disabled")["nextRunAt"] is None


def test_a_program_takes_the_place_of_a_command_and_back(here: Here) -> None:
    """One of the two is what a task runs; both at once are refused."""
    here("add", "a", "--command", "hello", "--arguments", "x")
    assert "not both" in here("edit", "a", "--command", "hello", "--", "true", status=2)
    task = here.document("edit", "a", "--", "true")
    assert (task["command"], task["argv"], task["arguments"]) == (None, ["true"], "")
    task = here.document("edit", "a", "--command", "hello", "--arguments", "--x -y")
    assert (task["command"], task["argv"], task["arguments"]) == ("hello", None, "--x -y")
    assert "arguments" in here("edit", "a", "--arguments", "'", status=2)


@pytest.mark.parametrize("field, bad", [("lastRunDuration", float("inf")), ("lastRunDuration", 1e13),
                                        ("lastRunAt", "yesterday"), ("lastRunAt", {}),
                                        ("consecutiveFailures", None)])
def test_what_an_editor_spoiled_stops_one_task_and_an_edit_mends_it(field: str, bad: Any, here: Here) -> None:
    """A field that only runs write has no option: any edit forgets its bad value. Until then others run."""
    here("add", "spoiled", "--retries", "3", "--", "true")
    here("add", "good", "--every", "60", "--", "true")
    row = {"lastRunStatus": "failed", "lastRunAt": "2026-01-01T00:00:00+00:00", field: bad}
    state.update(str(here.installation.home), lambda tasks: tasks["spoiled"].update(row))
    done = call(here.installation.home, "run-due")
    assert f"task spoiled: {field}: must be" in done.err and "good: success" in done.out
    here("edit", "spoiled", "--title", "mended")
    assert here.document("show", "spoiled")[field] == FIELDS[field].default
    here("run", "spoiled")


def test_tasks_are_enabled_and_disabled_by_name_and_group(here: Here) -> None:
    """All that are named, or none when one of them is unknown; a group is all of its tasks."""
    for name in ("a", "b"):
        here("add", name, "--group", "night", "--", "true")

    here("add", "c", "--", "true")

    def enabled() -> set[str]:
        return {task["name"] for task in here.document("list") if task["enabled"]}

    here("disable", "--group", "night")
    assert enabled() == {"c", "@due"}
    here("enable", "a", "@due")
    before = here.state
    assert "no task is named" in here("disable", "a", "nothing", status=2)
    assert here.state == before
    assert [task["name"] for task in here.document("list", "--group", "night")] == ["a", "b"]


def test_removing_takes_history_along_unless_told(here: Here) -> None:
    """remove --yes removes task and history; --keep-logs leaves it to `logs`."""
    for name in ("a", "b"):
        here("add", name, "--", "true")
        here("run", name)

    here("remove", "a", "--yes")
    here("remove", "b", "--yes", "--keep-logs")
    assert set(here.installation.row("@due")) and "a" not in json.loads(here.state)
    assert "no task is named" in here("logs", "a", status=2)
    assert len(here.document("logs", "b")) == 1
    assert [entry["command"] for entry in here.document("logs")] == ["b"]


def test_several_tasks_are_removed_or_none(here: Here) -> None:
    """`remove a b` asks once, names both, and removes neither if one of them does not exist."""
    for name in ("a", "b", "c"):
        here("add", name, "--", "true")

    before = here.state
    assert "Remove a, b and their histories?" in here("remove", "a", "b", status=2)
    assert "no task is named 'nothing'" in here("remove", "a", "nothing", "--yes", status=2)
    assert here.state == before
    assert here("remove", "a", "b", "a", "--yes") == "Removed a and its history.\nRemoved b and its history.\n"
    assert set(json.loads(here.state)) == {"@due", "c"}


@pytest.mark.parametrize(("old", "new"), [("a:1", "b:2"), ("a:1", "a_1x"), ("a.1", "app:a")])
def test_history_is_shown_under_the_present_name(old: str, new: str, here: Here) -> None:
    """Lines keep on disk what the task was called; who reads them is told what it is called now."""
    here("add", old, "--", "false")
    here("run", old, status=1)
    here("rename", old, new)
    assert f'"command": "{old}"' in (here.installation.home / "logs" / f"{file_name(new)}.jsonl").read_text()
    entry, = here.document("logs", new)
    assert entry["command"] == new
    assert here.document("logs") == here.document("logs", "--run", entry["run"]) == [entry]
    assert old not in here("logs") + here("logs", "--run", entry["run"])


def test_a_failed_run_says_how_to_see_its_output(here: Here) -> None:
    """The newest of them that `logs` shows; nothing where all is well, and the table stays as it is."""
    for name in ("true", "false"):
        here("add", name, "--", name)

    here("run", "true")
    assert "--run" not in here("logs")
    here("run", "false", status=1)
    run = here.document("logs", "false")[0]["run"]
    done = call(here.installation.home, "logs")
    assert done.err == f"`webscheduler logs --run {run}` shows what the failed run printed\n"
    assert len(done.out.splitlines()) == 3


def test_times_are_shown_in_the_zone_of_the_installation(here: Here) -> None:
    """Wherever a time is shown to people; --json has instants as before, and without a zone the local one serves."""
    here.installation.configure(timezone="Asia/Kathmandu")
    here("add", "a", "--cron", "15 3 * * *", "--", "true")
    here("run", "a")
    assert " 03:15:00+05:45" in here("list")

    for words in (["list"], ["show", "a"], ["logs"], ["next", "a"], ["status"], ["doctor", "--offline"]):
        out = call(here.installation.home, *words, env={**environment(here.installation.home), "TZ": "UTC"}).out
        assert "+05:45" in out or words[0] in ("status", "doctor"), words
        assert "+00:00" not in out, words

    assert here.document("logs")[0]["startedAt"].endswith("+00:00")
    file = here.installation.home / "config.json"
    file.write_text(json.dumps({name: value for name, value in json.loads(file.read_text()).items()
                                if name != "timezone"}))
    local = {**environment(here.installation.home), "TZ": "Asia/Tokyo"}
    assert "+09:00" in call(here.installation.home, "logs", env=local).out


def test_renaming_keeps_url_and_history(here: Here) -> None:
    """A task is what its slug is, whatever it is called."""
    here("add", "a:1", "--", "true")
    here("run", "a:1")
    url = here("url", "a:1", "--base", "http://x")
    here("rename", "a:1", "b:2")
    assert here("url", "b:2", "--base", "http://x") == url
    assert len(here.document("logs", "b:2")) == 1
    assert "no task is named" in here("show", "a:1", status=2)


def test_a_task_that_is_no_object_can_be_removed(installation: Installation) -> None:
    """By a slip of an editor: no option could mend it."""
    path = installation.home / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "slip": "of an editor"}))
    assert call(installation.home, "remove", "slip", "--yes").status == 0
    assert "slip" not in json.loads(path.read_text())


@pytest.mark.parametrize("words", [["remove", "task", "--yes"], ["rename", "task", "other"]])
def test_a_task_that_runs_is_neither_removed_nor_renamed(
    words: list[str], installation: Installation, tmp_path: Path
) -> None:
    """The line says how to end it; afterwards it works."""
    installation.add(argv=waits_for(tmp_path / "go"), strategy="fork")
    installation.trigger()
    installation.command_runs()
    done = call(installation.home, *words)
    assert done.status == 2
    assert "webscheduler cancel task" in done.complaint
    (tmp_path / "go").touch()
    installation.idle()
    assert call(installation.home, *words).status == 0
