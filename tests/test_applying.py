# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks as code: what a file changes is shown first, and is no change the second time."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import python_path
from tests.commandline import Done, call
from tests.installation import Installation
from tests.test_docs import DOCS
from tests.test_pages import served
from webscheduler import applying
from webscheduler.errors import BadInput
from webscheduler.interchange import importing
from webscheduler.store import state
from webscheduler.store.fields import HIDDEN
from webscheduler.store.settings import load_settings
from webscheduler.store.task import DUE, FIELDS

REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))


@pytest.fixture
def stocked(installation: Installation) -> Installation:
    """An installation with two tasks, of which one has run."""
    installation.add("report", ["printf", "r"], expression="0 3 * * *")
    installation.add("clean", ["true"], intervalSeconds=3600, environment={"A": "b"})
    call(installation.home, "run", "report")
    return installation


def exported(installation: Installation, *words: str) -> dict[str, Any]:
    found = call(installation.home, "export", "json", *words).document
    assert isinstance(found, dict)
    return found


def come(installation: Installation, document: dict[str, Any], *words: str) -> Done:
    """`webscheduler import json FILE WORDS`, with this document in the file."""
    file = installation.home.parent / "tasks.json"
    file.write_text(json.dumps(document))
    return call(installation.home, "import", "json", str(file), *words)


def content(installation: Installation) -> tuple[bytes, int]:
    file = installation.home / "state.json"
    return file.read_bytes(), file.stat().st_mtime_ns


@pytest.mark.parametrize("words", [[], ["--with-secrets"]])
def test_an_export_changes_nothing(stocked: Installation, words: list[str]) -> None:
    """The file is not even written; what runs wrote meanwhile is no difference, and URLs stay."""
    document = exported(stocked, *words)
    call(stocked.home, "run", "report")
    before = content(stocked)

    for more in ([], ["--dry-run"], ["--prune"], ["--prune", "--yes"]):
        done = come(stocked, document, *more)
        assert done == Done(0, "nothing is different: all 3 tasks are as in the file\n", "")
        assert content(stocked) == before


def test_a_difference_is_shown_field_by_field_and_then_made(stocked: Installation) -> None:
    document = exported(stocked)
    document["tasks"]["report"].update(expression="0 4 * * *", timeout=60, lastRunStatus="failed")
    document["tasks"]["clean"]["environment"] = {"A": "c\x1b"}
    document["tasks"]["new"] = {"argv": ["true"], "enabled": True}
    keys = [stocked.row(name)[key] for name in ("report", "clean") for key in ("slug", "secret")]
    before = content(stocked)
    shown = ('report: changed\n  expression: 0 3 * * * -> 0 4 * * *\n  timeout: - -> 60\n'
             'clean: changed\n  environment: {"A": "b"} -> {"A": "c\\u001b"}\nnew: no schedule\n')
    assert come(stocked, document, "--dry-run") == Done(0, shown + "3 tasks would be imported, 1 the same\n", "")
    assert content(stocked) == before
    assert come(stocked, document) == Done(0, shown + "3 tasks imported, 1 the same\n", "")
    row = stocked.row("report")
    assert (row["expression"], row["timeout"], row["lastRunStatus"]) == ("0 4 * * *", 60, "success")
    assert row["scheduledSince"]
    assert keys == [stocked.row(name)[key] for name in ("report", "clean") for key in ("slug", "secret")]
    before = content(stocked)
    assert come(stocked, document).out == "nothing is different: all 4 tasks are as in the file\n"
    assert content(stocked) == before


def test_a_field_that_is_not_in_the_file_stays(stocked: Installation) -> None:
    """An older version's export does not know newer fields; null empties one that can be empty."""
    done = come(stocked, {"report": {"priority": 5, "expression": None, "theirs": [1]}})
    assert done.out == ("report: changed\n  priority: 100 -> 5\n  expression: 0 3 * * * -> -\n  theirs: - -> [1]\n"
                        "1 task imported\n")
    row = stocked.row("report")
    assert (row["priority"], row["expression"], row["theirs"], row["argv"]) == (5, None, [1], ["printf", "r"])


def test_prune_removes_what_is_not_in_the_file(stocked: Installation) -> None:
    """After a question, never @due, and with the history, unless that is to be kept."""
    document = exported(stocked)
    del document["tasks"]["report"], document["tasks"][DUE]
    stocked.add("other")
    before = content(stocked)
    shown = "report: removed, and its history\nother: removed, and its history\n"
    assert come(stocked, document, "--prune", "--dry-run").out == (
        shown + "0 tasks would be imported, 2 would be removed, 1 the same\n")
    refused = come(stocked, document, "--prune")
    assert refused.status == 2
    assert refused.complaint.startswith("Remove report, other and their histories? There is no terminal to ask on")
    assert content(stocked) == before
    assert come(stocked, document).out == "nothing is different: the task is as in the file\n"
    done = come(stocked, document, "--prune", "--yes", "--keep-logs")
    assert done.out == ("report: removed; its history is kept\nother: removed; its history is kept\n"
                        "0 tasks imported, 2 removed, 1 the same\n")
    assert sorted(state.read_strictly(str(stocked.home))) == [DUE, "clean"]
    assert len(stocked.history("report")) == 1
    come(stocked, document, "--prune", "--yes")
    refused = come(stocked, {"tasks": {}, "format": importing.FORMAT, "version": 1}, "--prune", "--yes")
    assert (refused.status, "--prune would remove all others" in refused.complaint) == (2, True)  # a failed export's
    assert list(state.read_strictly(str(stocked.home))) == [DUE, "clean"]


def test_a_task_with_another_name_in_the_file_is_renamed(stocked: Installation) -> None:
    """By its slug, which an export without secrets has, too: URL and history stay."""
    document = exported(stocked)
    document["tasks"]["daily"] = {**document["tasks"].pop("report"), "title": "Daily"}
    keys = stocked.row("report")["slug"], stocked.row("report")["secret"]
    done = come(stocked, document, "--prune")
    assert done.out == "daily: renamed from report\n  title:  -> Daily\n1 task imported, 2 the same\n"
    row = stocked.row("daily")
    assert ((row["slug"], row["secret"]), row["title"]) == (keys, "Daily")
    assert len(stocked.history("daily")) == 1
    assert "report" not in state.read_strictly(str(stocked.home))


def test_chains_follow_what_a_file_says(stocked: Installation) -> None:
    """A follower with another name is no difference of its leader; one that would go, and is named, is an error."""
    stocked.edit("report", onSuccess=["clean"])
    document = exported(stocked)
    document["tasks"]["tidy"] = document["tasks"].pop("clean")
    before = content(stocked)
    refused = come(stocked, document, "--prune", "--yes")
    assert (refused.status, refused.complaint) == (2, "task report: onSuccess: no task is named 'clean'")
    row = document["tasks"].pop("tidy")
    refused = come(stocked, document, "--prune", "--yes")
    assert refused.complaint == "task report: onSuccess: 'clean' is not in the file, and would be removed"
    assert content(stocked) == before
    document["tasks"].update(tidy=row)
    document["tasks"]["report"]["onSuccess"] = ["tidy"]
    assert come(stocked, document, "--prune").out == "tidy: renamed from clean\n1 task imported, 2 the same\n"
    assert stocked.row("report")["onSuccess"] == ["tidy"]
    document["tasks"].pop("tidy")
    document["tasks"]["report"].pop("onSuccess")
    assert come(stocked, document, "--prune", "--yes").out.startswith("tidy: removed, and its history\n")
    assert stocked.row("report")["onSuccess"] == []


@pytest.mark.parametrize("gone", ["removed", "renamed"])
def test_a_task_that_runs_is_neither_removed_nor_renamed(stocked: Installation, gone: str) -> None:
    """And nothing else is done either; a dry run says so."""
    stocked.add("long", ["sleep", "60"])
    document = exported(stocked)
    row = document["tasks"].pop("long")
    document["tasks"]["report"]["priority"] = 7

    if gone == "renamed":
        document["tasks"]["longer"] = row

    stocked.trigger(name="long")
    before = {name: {field: stocked.row(name)[field] for field in ("slug", "priority")} for name in ("long", "report")}

    try:
        dry = come(stocked, document, "--prune", "--dry-run")
        assert (dry.status, dry.complaint) == (0, f"long is running: it is {gone} only after its end")
        done = come(stocked, document, "--prune", "--yes")
        assert (done.status, done.complaint) == (
            2, "long is running: wait for its end, or `webscheduler cancel long`")
        assert before == {name: {field: stocked.row(name)[field] for field in ("slug", "priority")} for name in before}
    finally:
        call(stocked.home, "cancel", "long")
        stocked.idle()

    assert come(stocked, document, "--prune", "--yes").status == 0
    assert "long" not in state.read_strictly(str(stocked.home))


def test_json_tells_a_program_the_same(stocked: Installation) -> None:
    document = exported(stocked, "--with-secrets")
    document["tasks"]["report"]["priority"] = 7
    document["tasks"]["clean"]["secret"] = "0" * 64
    document["tasks"]["new"] = {"command": "hello", "enabled": True}
    changes = [{"task": DUE, "change": "same", "fields": {}},
               {"task": "report", "change": "edit", "fields": {"priority": [100, 7]}},
               {"task": "clean", "change": "edit", "fields": {"secret": [HIDDEN, HIDDEN]}},
               {"task": "new", "change": "add", "fields": {"command": [None, "hello"], "enabled": [None, True]}}]
    assert come(stocked, document, "--dry-run", "--json").document == {"changes": changes, "written": False}
    assert come(stocked, document, "--json").document == {"changes": changes, "written": True}
    assert stocked.row("clean")["secret"] == "0" * 64
    assert come(stocked, document, "--json").document["written"] is False


@pytest.mark.parametrize(("row", "says"), [
    ({"timeout": "60"}, "task report: timeout: "), ({"retries": -1}, "task report: retries: "),
    ({"environment": []}, "task report: environment: "), ({"slug": "x"}, "task report: slug: "),
    ({"title": "a\x1b[2J"}, "task report: title: "), ({"expression": "x" * 201}, "task report: expression: "),
])  # fmt: skip
def test_a_bad_file_says_the_field(stocked: Installation, row: dict[str, Any], says: str) -> None:
    before = content(stocked)

    for words in (["--dry-run"], ["--dry-run", "--json"], []):
        done = come(stocked, {"clean": {"priority": 3}, "report": row}, *words)
        assert (done.status, done.out) == (2, "")
        assert done.complaint.startswith(says)

    assert content(stocked) == before


def test_slugs_are_never_taken_from_another_task(stocked: Installation) -> None:
    """However often it is imported: each keeps the URL that it has."""
    keys = {name: stocked.row(name)["slug"] for name in ("report", "clean")}
    document = exported(stocked, "--with-secrets")
    rows = document["tasks"]
    rows["report"]["slug"], rows["clean"]["slug"] = rows["clean"]["slug"], rows["report"]["slug"]
    rows["copy"] = {**rows["clean"]}
    assert come(stocked, document).out.endswith("1 task imported, 3 the same\n")
    copied = stocked.row("copy")["slug"]
    assert copied not in keys.values()
    assert come(stocked, document).out == "nothing is different: all 4 tasks are as in the file\n"
    assert {name: stocked.row(name)["slug"] for name in (*keys, "copy")} == {**keys, "copy": copied}


@pytest.mark.parametrize("prune", ["--prune", "--keep-logs"])
def test_a_crontab_or_a_directory_is_not_all_tasks(stocked: Installation, prune: str, tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("@daily true\n")
    (tmp_path / "state.json").write_text("{}")

    for words in (["crontab", str(tmp_path / "crontab")], [str(tmp_path)]):
        done = call(stocked.home, "import", *words, "--yes", prune)
        assert (done.status, done.complaint[:46]) == (2, "--prune and --keep-logs: only for a file of js")


def test_the_file_of_the_page_is_one(installation: Installation) -> None:
    text = (DOCS / "how-to" / "tasks-as-code.md").read_text().partition("```json\n")[2].partition("```")[0]
    done = come(installation, json.loads(text))
    assert (done.status, done.err) == (0, "")
    assert done.out == "report: 30 6 * * 1-5\nclean: every 3600 s\n2 tasks imported\n"


def test_what_was_cut_off_is_done_by_the_next(stocked: Installation) -> None:
    """After any of the steps: what was done already is no difference any more."""
    document = exported(stocked)
    document["tasks"]["daily"] = {**document["tasks"].pop("report"), "priority": 7}
    del document["tasks"]["clean"]
    document["tasks"]["new"] = {"argv": ["true"]}
    settings, now = load_settings(str(stocked.home)), 1_800_000_000.0
    arrival = importing.of_document(json.dumps(document), "the file")
    changes = applying.differences(settings, arrival, now, True)
    assert [change.change for change in changes] == ["same", "rename", "add", "remove"]
    applying.apply(settings, arrival, [change for change in changes if change.change != "remove"], now)
    again = applying.differences(settings, importing.of_document(json.dumps(document), "the file"), now, True)
    assert [change.change for change in again] == ["same", "same", "same", "remove"]
    assert come(stocked, document, "--prune", "--yes").out.endswith("0 tasks imported, 1 removed, 3 the same\n")
    assert come(stocked, document, "--prune").out.startswith("nothing is different")


JOBS = {"vendor.github-workflows": ".github/workflows/tasks.yml", "vendor.gitlab-ci": ".gitlab-ci.yml"}


def jobs(schema: str) -> str:
    """The jobs of the page that are in this file."""
    text = (DOCS / "how-to" / "tasks-as-code.md").read_text().partition(f"`{JOBS[schema]}`")[2]
    return text.partition("```yaml\n")[2].partition("```")[0]


@pytest.mark.skipif(not REQUIRED and importlib.util.find_spec("check_jsonschema") is None,
                    reason="check_jsonschema is missing")
@pytest.mark.parametrize("schema", JOBS)
def test_the_jobs_of_the_page_follow_the_schemas(schema: str, tmp_path: Path) -> None:
    """Those that check-jsonschema carries; a word that they do not know is an error."""
    for text, status in ((jobs(schema), 0), (jobs(schema).replace("\n    - if:", "\n    - unless:").replace(
            "runs-on:", "runs-off:"), 1)):
        (tmp_path / "jobs.yml").write_text(text)
        done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema,
                               str(tmp_path / "jobs.yml")], capture_output=True, text=True)
        assert done.returncode == status, done.stdout


@pytest.mark.parametrize("schema", JOBS)
def test_the_jobs_of_the_page_do_what_they_say(installation: Installation, schema: str, tmp_path: Path) -> None:
    """Their lines, as they stand, with a key of the API: what is shown before is made then, and only once."""
    lines = re.findall(r"^ +(?:run:|-) (webscheduler .*)$", jobs(schema), re.MULTILINE)
    assert [line.rpartition(" ")[2] for line in lines] == ["--dry-run", "--yes"]
    call(installation.home, "add", "old", "--command", "hello")
    key = call(installation.home, "api-key", "add", "deployment", "--role", "owner").out.strip()
    (tmp_path / "tasks.json").write_text(json.dumps({
        DUE: {}, "report": {"enabled": True, "expression": "30 6 * * 1-5", "command": "hello"}}))
    (tmp_path / "webscheduler").write_text(f'#!/bin/sh\nexec {sys.executable} -m webscheduler "$@"\n')
    (tmp_path / "webscheduler").chmod(0o755)

    def ran(line: str, address: str, key: str = key) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, env={
            "PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8", **python_path(),
            "SITE": f"{address}/cgi-bin/webscheduler.cgi", "WEBSCHEDULER_API_KEY": key})

    shown = "report: 30 6 * * 1-5\nold: removed, and its history\n"
    dry, wet = lines

    with served(installation.home) as address:
        before = content(installation)
        done = ran(dry, address)
        assert (done.returncode, done.stdout) == (
            0, f"{shown}1 task would be imported, 1 would be removed, 1 the same\n"), done.stderr
        assert content(installation) == before
        assert ran(wet, address).stdout == f"{shown}1 task imported, 1 removed, 1 the same\n"
        assert sorted(state.read_strictly(str(installation.home))) == [DUE, "report"]
        before = content(installation)
        done = ran(wet, address)
        assert (done.returncode, done.stdout) == (0, "nothing is different: all 2 tasks are as in the file\n")
        assert content(installation) == before
        (tmp_path / "tasks.json").write_text('{"report": {"timeout": "soon"}}')
        done = ran(dry, address)
        assert (done.returncode, done.stdout) == (2, "")
        assert "timeout" in done.stderr
        assert ran(dry, address, "wsk_" + "0" * 43).returncode in (1, 2)


SHELL = {"argv": ["sh", "-c", "id"], "cwd": "/srv", "environment": {"LD_PRELOAD": "x"}}


def by_panel(installation: Installation, tasks: dict[str, Any], prune: bool = False) -> list[applying.Change]:
    """As the API imports: without a shell's rights."""
    settings, arrival = load_settings(str(installation.home)), importing.of_document(json.dumps(tasks), "the body")
    changes = applying.differences(settings, arrival, 0.0, prune, panel=True)
    applying.apply(settings, arrival, changes, 0.0, panel=True)
    return changes


@pytest.mark.parametrize("field", SHELL)
@pytest.mark.parametrize("name", ["report", "new"])
def test_without_a_shell_no_program_comes_in(stocked: Installation, name: str, field: str) -> None:
    """Not for a new task, and not for one that is there; but a file that has what is there already is no change."""
    before = content(stocked)

    with pytest.raises(BadInput, match=rf"^task {name}: {field}: can only be changed on the command line") as raised:
        by_panel(stocked, {name: {**({"command": "hello"} if name == "new" else {}), field: SHELL[field]}})

    assert raised.value.field == field
    by_panel(stocked, {"report": {field: stocked.row("report").get(field, FIELDS[field].default)}})
    assert content(stocked) == before


def test_without_a_shell_commands_reach_public_addresses_alone(stocked: Installation) -> None:
    with pytest.raises(BadInput, match="arguments"):
        by_panel(stocked, {"new": {"command": "http", "arguments": "http://127.0.0.1/"}})

    by_panel(stocked, {"new": {"command": "hello", "enabled": True, "publicOnly": False}})
    assert stocked.row("new")["publicOnly"] is True

    with pytest.raises(BadInput, match="command: 'absent' is not registered"):
        by_panel(stocked, {"new": {"command": "absent"}})


def test_tasks_within_tasks_are_not_one_task(stocked: Installation) -> None:
    """An export that lost its `format` is refused, and removes nothing; a task may be named `tasks`."""
    before = content(stocked)
    rows: dict[str, Any] = {"report": {"command": "hello"}}

    for document in ({"tasks": rows}, {"version": {}, "tasks": rows}):
        (stocked.home.parent / "tasks.json").write_text(json.dumps(document))
        done = call(stocked.home, "import", "json", str(stocked.home.parent / "tasks.json"), "--prune", "--yes")
        assert (done.status, 'add these, or leave out "tasks"' in done.complaint) == (2, True)

    assert content(stocked) == before
    rows = {"tasks": {"command": "hello", "environment": {}}}
    assert importing.of_document(json.dumps(rows), "the file").tasks == rows
