# SPDX-License-Identifier: LGPL-3.0-or-later
"""Answers that would be too long: none is longer than 1 MiB, and none leaves out what nobody is told of."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.installation import Answer, Installation
from tests.test_http_api import ROLES, Program
from webscheduler.host.overall import overall
from webscheduler.http_api import table
from webscheduler.interchange import exporting
from webscheduler.store import history, state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import new_task

TASKS = 3000
NAMES = [f"task {number:04} {'é' * 80}" for number in range(TASKS)]
RUN = "20260101T000000-00000001"
PART = "until=task 03"
# What routes are asked with, besides nothing at all.
QUERIES = {"tasks:index": ["limit=500"], "runs:index": ["limit=200&output=true"], "installation:metrics": [PART],
           "installation:export": ["format=kubernetes", "format=crontab&after="]}
BODIES: dict[str, Any] = {"tasks:create": {"name": "made", "command": "clean"}, "tasks:duplicate": {"name": "copy"},
                          "tasks:edit": {"description": "é" * 2000}, "runs:run_now": {"wait": 30}}


def filled(installation: Installation, names: list[str]) -> Program:
    """Tasks with long texts, of which there is much to say, not in the order of their names."""
    program = Program(installation)
    row = {"command": "clean", "enabled": True, "title": "ü" * 200, "description": "x" * 500, "lastRunStatus": "failed",
           "lastRunAt": "2026-01-01T00:00:00.000+00:00", "lastRunDuration": 1.5, "lastRunExitCode": 7,
           "consecutiveFailures": 3, "expression": "5 4 1 1 *", "intervalSeconds": 60}
    state.update(str(installation.home), lambda tasks: tasks.update(
        {name: new_task(time.time(), row) for name in reversed(names)}))
    return program


@pytest.fixture
def large(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Few tasks, and as little room in proportion."""
    monkeypatch.setattr(table, "MAX_ANSWER", 6 * 1024)
    return filled(installation, NAMES[:40])


def exported(program: Program, query: str = "format=json&") -> list[Answer]:
    """The parts of an export, each asked for as the one before says."""
    found: list[Answer] = []
    more = f"{query}after="

    while more:
        found.append(program.ask("GET", f"/export?{more}", HTTP_IF_MATCH=found[0].headers["ETag"] if found else ""))
        assert found[-1].status == 200, found[-1].body
        more = found[-1].headers.get("Link", "").partition("<?")[2].partition('>; rel="next"')[0]

    return found


@pytest.mark.timeout(300)
def test_no_answer_of_the_table_is_longer_than_a_mebibyte(installation: Installation) -> None:
    """Of 3,000 tasks: each route, asked for all at once and for a part, and an import that changes all."""
    program = filled(installation, NAMES)
    line = {"command": NAMES[0], "status": "failed", "run": RUN, "startedAt": "2026-01-01T00:00:00.000+00:00",
            "finishedAt": "2026-01-01T00:00:01.000+00:00", "output": "ü" * 60000}
    document = {"format": "webscheduler tasks", "version": 1, "tasks": {
        name: {"title": "changed", "description": "y" * 500} for name in NAMES}}
    seen = set()

    with open(history.path(str(installation.home), NAMES[0]), "wb") as file:
        file.write((json.dumps(line).encode() + b"\n") * 30)

    for route in sorted(table.ROUTES, key=lambda route: route.method == "DELETE"):
        path = route.path.replace("/api/v1", "", 1).replace("{name}", NAMES[0]).replace("{run}", RUN)
        reads = route.method in ("GET", "DELETE")
        body = None if reads else document if path == "/import" else BODIES.get(route.function, {})
        part = "" if "after" not in route.query else PART if "until" in route.query else "after="

        for query in ("", *filter(None, [part]), *QUERIES.get(route.function, [])):
            for role in ("owner", "viewer") if part and route.role == "viewer" else ("owner",):
                answer = program.ask(route.method, f"{path}?{query}", body, role)
                assert len(answer.body) <= 1024 * 1024
                is_long = answer.status == 400 and answer.document["field"] in ("after", "until")
                assert answer.status in (*route.answers, 404, 409) or (is_long and query != part), answer.body
                seen.update([route.function] * is_long)

    assert seen == {f"installation:{name}" for name in ("health_of", "metrics", "export")}


def test_an_import_says_how_much_it_does_not_list(large: Program) -> None:
    """What is removed is listed before what is the same."""
    names = sorted(state.read_strictly(str(large.installation.home)))[1:-5]
    document = {"format": "webscheduler tasks", "version": 1, "tasks": {
        name: {"description": "z" * 600} for name in names}}
    found = large.good("POST", "/import?dryRun=true&prune=true", document)
    assert (found["counts"]["edit"], found["counts"]["remove"]) == (len(names), 5)
    assert {change["change"] for change in found["changes"][:5]} == {"remove"}
    more = sum(found["counts"].values()) - len(found["changes"])
    assert (more > 0, found["said"]) == (True, [f"{more} more tasks are not listed: the answer has no room"])


@pytest.mark.parametrize("role", ROLES)
def test_the_parts_of_health_are_all_of_it(large: Program, role: str) -> None:
    """Each task once; what is said of no task is in the first part; nothing tells a viewer where the home is."""
    home = large.installation.home
    (home / "state.json.bak").chmod(0o644)
    whole = overall(load_settings(str(home)), time.time())
    found: list[dict[str, Any]] = []
    more = ""

    while more is not None:
        found.append(large.good("GET", "/health?" + urlencode({"after": more}), role=role))
        more = found[-1]["next"]

    assert len(found) > 1
    assert {(part["status"], part["tasks"]) for part in found} == {(whole["status"], whole["tasks"])}
    assert sorted(row["name"] for part in found for row in part["unhealthy"]) == sorted(
        row["name"] for row in whole["unhealthy"])

    for field in ("warnings", "errors"):
        told = [text.replace(str(home), "…") if role == "viewer" else text for text in whole[field]]
        assert sorted(text for part in found for text in part[field]) == sorted(told)


def test_the_parts_of_metrics_are_all_of_them(large: Program) -> None:
    """Names say where one ends, so that nobody loses a task who asks for the same parts again and again. A part that
    became too long is none."""
    whole = large.problem(400, "GET", "/metrics", role="viewer", field="until")
    assert "1 MiB" in whole["detail"]
    assert large.problem(400, "GET", "/metrics?after=task", role="viewer", field="until") == whole
    ends = ["", *(f"task {number:04}" for number in range(2, 40, 2)), "u"]
    parts = [large.ask("GET", "/metrics?" + urlencode({"after": after, "until": until}), role="viewer")
             for after, until in zip(ends, ends[1:])]
    names = [line.partition('task="')[2].partition('"')[0] for part in parts for line in part.body.decode().splitlines()
             if line.startswith("webscheduler_task_enabled{")]
    assert sorted(names) == sorted(state.read_strictly(str(large.installation.home)))
    assert {part.body.count(b"\nwebscheduler_up{") for part in parts} == {1}


def test_the_parts_of_an_export_are_the_export(large: Program) -> None:
    """Also in the form for hosts that drop the path, whose next part is asked for in the same form."""
    tasks: dict[str, Any] = {}
    parts = exported(large)

    for part in parts:
        tasks.update(part.document["tasks"])

    assert {part.headers["ETag"] for part in parts} == {parts[0].headers["ETag"]}
    assert [part.document["next"] is None for part in parts] == [False] * (len(parts) - 1) + [True]
    assert tasks.keys() == state.read_strictly(str(large.installation.home)).keys()

    for part in (parts[0], parts[-1]):
        assert "is a part of an export" in large.problem(400, "POST", "/import?prune=true", part.document)["detail"]

    link = large.ask("GET", "", PATH_INFO="", QUERY_STRING="api=v1/export&secrets=true&after=").headers["Link"]
    assert dict(parse_qsl(link.partition("<?")[2].partition(">")[0])) == {
        "api": "v1/export", "secrets": "true", "after": parts[0].document["next"]}


@pytest.mark.parametrize("kind", exporting.FORMATS)
def test_the_parts_of_an_export_for_others_have_each_task_once(large: Program, kind: str) -> None:
    """As the whole, but for what is said at the head of each."""
    parts = [part.body.decode() for part in exported(large, f"format={kind}&")]
    settings, rows = load_settings(str(large.installation.home)), state.read_strictly(str(large.installation.home))
    whole = exporting.whole(kind, settings, rows).decode()
    lines = [line for part in parts for line in part.splitlines() if "task 00" in line]
    assert len(parts) > 1
    assert sorted(lines) == sorted(line for line in whole.splitlines() if "task 00" in line)


def test_an_export_of_two_moments_is_refused(large: Program) -> None:
    """What a run changes is no change; what a person changes is."""
    first = large.ask("GET", "/export?after=")
    query, stamp = urlencode({"after": first.document["next"]}), first.headers["ETag"]
    large.installation.edit(NAMES[5], lastRunStatus="success")
    assert large.ask("GET", f"/export?{query}", HTTP_IF_MATCH=stamp).status == 200
    large.installation.edit(NAMES[5], title="changed meanwhile")
    assert "since it was looked at" in large.problem(412, "GET", f"/export?{query}", HTTP_IF_MATCH=stamp)["detail"]


def test_the_parts_of_what_is_registered(large: Program) -> None:
    """Commands, by their names."""
    large.installation.configure(commands={f"command-{number:03}": {"argv": ["true"]} for number in range(300)})
    large.problem(400, "GET", "/commands", field="after")
    found: list[dict[str, Any]] = []
    more: Any = ""

    while more is not None:
        found.append(large.good("GET", f"/commands?after={more}"))
        more = found[-1]["next"]

    names = [row["name"] for part in found for row in part["commands"]]
    assert (len(found) > 1, len(set(names)), len(names)) == (True, 302, 302)


def test_what_is_too_long_alone_is_said(large: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not left out, and not asked for again and again."""
    monkeypatch.setattr(table, "MAX_ANSWER", 700)

    for path in ("/tasks", "/export?after="):
        assert "alone is longer than 1 MiB" in large.problem(503, "GET", path)["detail"]

    assert "is longer than 1 MiB" in large.problem(503, "GET", f"/tasks/{NAMES[0]}")["detail"]


@pytest.mark.parametrize(("query", "field"), [
    ("after=a&after=b", "after"), ("after=" + "x" * 201, "after"), ("next=a", "next"), ("limit=5&after=", "limit"),
    ("offset=0", "offset"), ("until=a", "until"), ("after=%ff", "")])
def test_wrong_questions_for_a_part(large: Program, query: str, field: str) -> None:
    for path in ("/health", "/export", "/commands"):
        answer = large.ask("GET", f"{path}?{query}")
        assert (answer.status, answer.document.get("field")) == ((400, field) if field else (200, None))


def test_beyond_the_end_there_is_nothing(large: Program) -> None:
    """Of health, what is of all tasks; never an error, since what was the last may have gone."""
    health = large.good("GET", "/health?after=%F4%8F%BF%BF")
    assert (health["unhealthy"], health["warnings"], health["next"], health["status"]) == ([], [], None, "failing")
    assert large.good("GET", "/tasks?after=%F4%8F%BF%BF") == {"tasks": [], "next": None}
    assert large.good("GET", "/export?after=zzz")["tasks"] == {}
    assert large.good("GET", "/commands?after=zzz") == {"commands": [], "next": None}
    metrics = large.ask("GET", "/metrics?after=b&until=a")
    assert (metrics.status, b"webscheduler_task_enabled{" in metrics.body) == (200, False)


def test_tasks_that_come_and_go_move_no_part(large: Program) -> None:
    """Whoever goes on after a name gets each task that was there all the time, once."""
    first = large.good("GET", "/health?after=")
    large.installation.add("task 00", lastRunStatus="failed", consecutiveFailures=1)
    state.update(str(large.installation.home), lambda tasks: tasks.pop(first["next"]))
    names = [row["name"] for row in first["unhealthy"]]

    while first["next"] is not None:
        first = large.good("GET", "/health?" + urlencode({"after": first["next"]}))
        names += [row["name"] for row in first["unhealthy"]]

    assert sorted(names) == NAMES[:40]
