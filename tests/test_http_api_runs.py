# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs and the installation over the API: started, followed, ended, listed; exported, imported, measured."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from tests.commandline import call
from tests.installation import DOORS, Answer, Installation, asking, until, waits_for
from webscheduler import __version__
from webscheduler.http_api import table
from webscheduler.interchange import exporting
from webscheduler.runs import output
from webscheduler.store import capabilities, history, history_cleaning, keys, people
from webscheduler.times import format_time

ROLES = ("viewer", "editor", "owner")


class Program:
    """A program that has a key of each role; it asks at a door, or over HTTP once there is a server."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.url = installation, ""
        self.keys = {role: keys.add(str(installation.home), role, role, time.time()) for role in ROLES}

    def ask(self, method: str, path: str, body: Any = None, role: str = "owner", door: str = "wsgi",
            stamp: str = "*", **query: Any) -> Answer:
        """The answer; a body is sent as JSON unless it is bytes. stamp: of If-Match; query: its fields, lists for
        several."""
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        text = urlencode(query, doseq=True)

        if self.url:
            request = Request(f"{self.url}/api/v1{path}?{text}", sent or None, method=method, headers={
                "Authorization": f"Bearer {self.keys[role]}", "Content-Type": "application/json", "If-Match": stamp})

            try:
                with urlopen(request, timeout=60) as response:
                    return Answer(response.status, dict(response.headers), response.read(), "")
            except HTTPError as error:
                with error:
                    return Answer(error.code, dict(error.headers), error.read(), "")

        kind = {"CONTENT_TYPE": "application/json"} if sent else {}
        environ = asking(f"/api/v1{path}", text, method, REMOTE_ADDR="127.0.0.1",
                         HTTP_AUTHORIZATION=f"Bearer {self.keys[role]}", HTTP_IF_MATCH=stamp, **kind)
        answer = self.installation.call(door, environ, sent)
        assert len(answer.body) <= table.MAX_ANSWER
        return answer

    def good(self, method: str, path: str, body: Any = None, code: int = 200, **how: Any) -> Any:
        answer = self.ask(method, path, body, **how)
        assert answer.status == code, answer.body
        assert answer.errors == ""
        return answer.document

    def problem(self, status: int, method: str, path: str, body: Any = None, **how: Any) -> Any:
        answer = self.ask(method, path, body, **how)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.body
        assert "Traceback" not in answer.errors
        return answer.document

    def start(self, name: str = "task") -> str:
        run: str = self.good("POST", f"/tasks/{name}/run", {}, 202)["run"]
        return run

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        """All pages of the list."""
        found, page = [], self.good("GET", "/runs", **query)

        while page["next"]:
            found += page["runs"]
            page = self.good("GET", "/runs", **{**query, "cursor": page["next"]})

        return [*found, *page["runs"]]


@pytest.fixture
def program(installation: Installation) -> Program:
    return Program(installation)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(program: Program) -> Iterator[Program]:
    """The same over HTTP: a thread for each request, as servers have them."""
    with make_server("127.0.0.1", 0, program.installation.application, Server, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        program.url = f"http://127.0.0.1:{server.server_port}"
        yield program
        server.shutdown()
        thread.join()


def entry(number: int, task: str = "task", **more: Any) -> dict[str, Any]:
    moment = format_time(1_700_000_000 + number)
    return {"command": task, "startedAt": moment, "finishedAt": moment, "duration": 0.5, "status": "success",
            "exitCode": 0, "output": f"out {number}\n", "errorOutput": "", "run": f"{task}-{number}", **more}


def write(installation: Installation, *entries: dict[str, Any]) -> None:
    for each in entries:
        path = Path(history.path(str(installation.home), each["command"]))

        with path.open("ab") as file:
            file.write(json.dumps(each).encode() + b"\n")


# Started

@pytest.mark.parametrize("door", DOORS)
def test_a_run_is_started_and_read(program: Program, door: str) -> None:
    """The id comes at once; the run is disabled or not; its entry is that of `logs --json`; it is audited."""
    program.installation.add(argv=["sh", "-c", "echo out; echo err >&2; exit 3"], enabled=False)
    started = program.good("POST", "/tasks/task/run", code=202, door=door, role="editor")
    assert started == {"task": "task", "run": started["run"], "status": "running", "strategy": "fork"}
    program.installation.idle()
    found = program.good("GET", f"/tasks/task/runs/{started['run']}", door=door, role="viewer")
    assert [found] == call(program.installation.home, "logs", "--json").document
    assert (found["exitCode"], found["output"], found["trigger"]) == (3, "out\n", "api")
    (line,) = (json.loads(text) for text in (program.installation.home / "audit.jsonl").read_text().splitlines())
    assert (line["who"], line["did"], line["to"]) == ("key editor", "ran", "task")


@pytest.mark.parametrize("door", DOORS)
def test_a_run_is_waited_for(program: Program, door: str) -> None:
    """The entry where it ends in time, else its id; the run goes on either way."""
    program.installation.add(argv=["echo", "out"])
    found = program.good("POST", "/tasks/task/run", {"wait": 30}, door=door)
    assert (found["status"], found["output"]) == ("success", "out\n")
    program.installation.add("long", waits_for(program.installation.home / "go"))
    started = program.good("POST", "/tasks/long/run", {"wait": 1}, 202, door=door)
    (program.installation.home / "go").touch()
    program.installation.idle()
    assert program.installation.runs("long")[0]["run"] == started["run"]


@pytest.mark.parametrize(("door", "strategy"), [("wsgi", "close"), ("wsgi", "sync"), ("cgi", "sync")])
def test_hosts_that_let_no_run_outlive_its_request(program: Program, door: str, strategy: str) -> None:
    """close: the id comes first, and the run after it. sync: the answer is the whole entry."""
    installation = program.installation
    installation.add(argv=["sh", "-c", "seq 3000"])
    bad: Any = {"at": format_time(time.time()), "package": __version__, "seconds": 10, "lived": 0.0, "ended": "killed",
                "held": False, "answer": {"status": 202, "seconds": 0.1}}
    good = {**bad, "lived": 10.0, "ended": "finished"}
    capabilities.store_probe(str(installation.home), f"{door}/unknown", {
        each: good if each == strategy else bad for each in ("fork", "close", "sync")})
    found = program.ask("POST", "/tasks/task/run", {"wait": 30}, door=door)
    installation.idle()
    (line,) = installation.runs()
    assert line["strategy"] == strategy
    assert found.status == (202 if strategy == "close" else 200)
    assert found.document["run"] == line["run"]
    assert strategy == "close" or found.document == line


def test_of_ten_at_once_one_runs(served: Program) -> None:
    """The others are told that it is running already: 409; once it has ended it can run again."""
    go = served.installation.home / "go"
    served.installation.add(argv=waits_for(go))

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: served.ask("POST", "/tasks/task/run", {}), range(10)))

    assert sorted(answer.status for answer in answers) == [202] + [409] * 9
    go.touch()
    served.installation.idle()
    assert len(served.installation.runs()) == 1
    assert served.good("POST", "/tasks/task/run", {"wait": 30})["status"] == "success"


def test_what_cannot_be_started(program: Program) -> None:
    program.problem(404, "POST", "/tasks/nothing/run", {})
    program.installation.add(argv=["true"])
    assert program.problem(400, "POST", "/tasks/task/run", {"wait": 61})["field"] == "wait"
    assert program.problem(400, "POST", "/tasks/task/run", {"argv": ["x"]})["field"] == "argv"
    program.problem(403, "POST", "/tasks/task/run", {}, role="viewer")
    program.problem(403, "POST", "/run-due", {}, role="viewer")
    assert program.installation.history() == []


def test_due_tasks_are_run(program: Program) -> None:
    program.installation.add(argv=["true"], intervalSeconds=60)
    started = program.good("POST", "/run-due", {}, 202)
    assert started["task"] == "@due"
    until(lambda: program.installation.runs() and program.installation.runs("@due"))
    program.installation.idle()
    assert program.good("GET", f"/tasks/@due/runs/{started['run']}")["output"] == "started task\n"


# Followed, ended

def test_followers_get_all_and_others_their_answers_meanwhile(served: Program) -> None:
    """Three follow a run, which ends at once after its last bytes, and get the same; the list is answered meanwhile."""
    program = "for i in $(seq 60); do echo line $i; sleep 0.01; done; printf 'the end'"
    served.installation.add(argv=["bash", "-c", program])
    run = served.start()

    def follow(role: str) -> str:
        text, offset, ended = "", 0, False

        while not ended:
            piece = served.good("GET", f"/tasks/task/runs/{run}/output", role=role, offset=offset)
            assert (piece["stream"], piece["offset"]) == ("both", offset)
            text, offset, ended = text + piece["text"], piece["next"], piece["ended"]
            time.sleep(0.02)

        return text

    with ThreadPoolExecutor(4) as pool:
        listing = pool.submit(served.good, "GET", "/runs")
        texts = list(pool.map(follow, ROLES))
        assert listing.result()["next"] is None

    assert texts == ["".join(f"line {number}\n" for number in range(1, 61)) + "the end"] * 3


def test_a_run_is_cancelled(served: Program) -> None:
    """Whether it ended within the grace is told; then there is nothing to cancel any more."""
    served.installation.add(argv=["sleep", "600"])
    run = served.start()
    served.installation.command_runs()
    shown = served.good("GET", f"/tasks/task/runs/{run}", role="viewer")
    assert (shown["task"], shown["run"], shown["status"], shown["trigger"]) == ("task", run, "running", "api")
    served.problem(403, "POST", f"/tasks/task/runs/{run}/cancel", {}, role="viewer")
    assert served.good("POST", f"/tasks/task/runs/{run}/cancel", {}, 202) == {"task": "task", "run": run, "ended": True}
    assert served.good("GET", f"/tasks/task/runs/{run}")["reason"] == "cancelled"
    served.problem(409, "POST", f"/tasks/task/runs/{run}/cancel", {})
    served.problem(404, "POST", "/tasks/task/runs/nothing/cancel", {})


@pytest.mark.parametrize("run", ["nothing", "..%2F..%2Fstate", "%00", "a" * 300, "%C3%A9"])
def test_there_is_no_such_run(program: Program, run: str) -> None:
    from urllib.parse import unquote_to_bytes

    run = unquote_to_bytes(run).decode("latin-1")
    program.installation.add()
    for path in ("", "/output"):
        assert program.problem(404, "GET", f"/tasks/task/runs/{run}{path}")["detail"]


@pytest.mark.parametrize("printed", [b"\1" * 400000, b"\xff" * 400000, "é".encode() * 200000, "😀".encode() * 100000],
                         ids=["controls", "bytes", "two bytes", "four bytes"])
def test_pieces_of_an_output_fit_into_an_answer(program: Program, printed: bytes) -> None:
    """Whatever JSON makes of them; together they are the whole."""
    program.installation.add(argv=["sh", "-c", "cat file; sleep 600"], cwd=str(program.installation.home))
    (program.installation.home / "file").write_bytes(printed)
    run = program.start()
    live = program.installation.home / "output" / f"{run}.log"
    until(lambda: live.exists() and live.stat().st_size == len(printed))

    for role in ("owner", "viewer"):
        text, offset = "", 0

        while offset < len(printed):
            piece = program.good("GET", f"/tasks/task/runs/{run}/output", role=role, offset=offset)
            text, offset = text + piece["text"], piece["next"]

        assert text == printed.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("digits", [1, 7])
def test_a_viewer_reads_no_secret_between_two_pieces(program: Program, ended: bool, digits: int) -> None:
    """Wherever a piece begins: what goes over its border is known by what is around it."""
    installation = program.installation
    installation.add("task")
    secret = installation.row("task")["secret"]
    text = "begin " + "\n  ".join(secret[at:at + digits] for at in range(0, 64, digits)) + " zyz"
    installation.edit("task", argv=["sh", "-c", 'printf %s "$0"' + ("" if ended else "; sleep 600"), text])
    run = program.start()
    live = installation.home / "output" / f"{run}.log"
    until(lambda: not installation.claims() if ended else live.exists() and live.stat().st_size == len(text))

    for offset in range(0, len(text), 5):
        shown = program.good("GET", f"/tasks/task/runs/{run}/output", role="viewer", offset=offset)["text"]
        assert shown == (text[offset:6] + "… zyz" if offset < len(text) - 4 else text[offset:])

    assert program.good("GET", f"/tasks/task/runs/{run}/output", role="editor")["text"] == text


# Listed

@pytest.mark.parametrize("door", DOORS)
def test_runs_are_listed(program: Program, door: str) -> None:
    """Newest first; by task, status and time; in pages; with what they printed if that is wanted."""
    program.installation.add("task")
    write(program.installation, *(entry(n, "task", status="failed" if n % 2 else "success") for n in range(9)),
          *(entry(n, "gone") for n in range(3, 6)))
    found = program.good("GET", "/runs", door=door, role="viewer", limit=3)
    assert [each["run"] for each in found["runs"]] == ["task-8", "task-7", "task-6"]
    assert "output" not in found["runs"][0] and "errorOutput" not in found["runs"][0]
    rest = program.good("GET", "/runs", door=door, limit=200, cursor=found["next"], output="true")
    assert [each["run"][-2:] for each in rest["runs"]] == ["-5", "-5", "-4", "-4", "-3", "-3", "-2", "-1", "-0"]
    assert rest["next"] is None and len(rest["runs"]) == 9
    assert rest["runs"][-1] == entry(0)
    listed = {key: {each["run"] for each in program.listed(**query)} for key, query in {
        "task": {"task": "gone"}, "both": {"task": ["gone", "task"]}, "status": {"status": ["failed", "timeout"]},
        "time": {"since": format_time(1_700_000_003), "until": "2023-11-14T22:13:24Z"}}.items()}
    assert listed["task"] == {"gone-3", "gone-4", "gone-5"}
    assert len(listed["both"]) == 12
    assert listed["status"] == {"task-1", "task-3", "task-5", "task-7"}
    assert listed["time"] == {"task-3", "task-4", "gone-3", "gone-4"}


@pytest.mark.parametrize(("query", "field"), [
    ({"task": "nothing"}, "name"), ({"status": "good"}, "status"), ({"status": "running"}, "status"),
    ({"since": "yesterday"}, "since"), ({"limit": 0}, "limit"), ({"limit": 201}, "limit"), ({"cursor": "x"}, "cursor"),
    ({"cursor": "1.0~task!x"}, "cursor"), ({"cursor": "1.0~task"}, "cursor"), ({"cursor": "1~task!1!g"}, "cursor"),
    ({"output": "perhaps"}, "output"), ({"page": 2}, "page")])
def test_bad_questions(program: Program, query: dict[str, Any], field: str) -> None:
    program.installation.add("task")
    write(program.installation, entry(1))
    answer = program.ask("GET", "/runs", **query)
    assert answer.status in (400, 404)
    assert answer.document["field"] == field or answer.status == 404


@pytest.mark.parametrize("cursor", ["nan", "inf", "-inf", "1e400", "0.0~task!-5!1", "9e99~task!999999999999!ffffffff",
                                    "1700000002.0~../../state!3!0", "~", "1~" + "~".join(["task!1!1"] * 500)])
def test_a_made_up_cursor_reads_nothing_else(program: Program, cursor: str) -> None:
    program.installation.add("task")
    write(program.installation, *(entry(n) for n in range(5)))
    answer = program.ask("GET", "/runs", cursor=cursor)
    assert answer.status in (200, 400)
    assert answer.status == 400 or {each["run"] for each in answer.document["runs"]} <= {f"task-{n}" for n in range(5)}


def test_long_entries_make_short_pages(program: Program) -> None:
    """Each answer has room, also for what an import may have brought, and no run is left out."""
    program.installation.add("task")
    write(program.installation, *(entry(n, output="é\1" * 32000, errorOutput="\1" * 20000) for n in range(12)),
          entry(12, output="x" * 3_000_000, reason="y" * 1_000_000, other="z" * 90000))
    found = program.listed(limit=200, output="true")
    assert [each["run"] for each in found] == [f"task-{n}" for n in range(12, -1, -1)]
    assert found[1] == entry(11, output="é\1" * 32000, errorOutput="\1" * 20000)
    assert "... [truncated] 2967232 bytes ..." in found[0]["output"]
    assert program.good("GET", "/tasks/task/runs/task-12") == found[0]
    assert len(program.listed(limit=200)) == 13


def test_lists_are_stable_while_runs_are_recorded_and_cleaned(served: Program) -> None:
    """Each of 20 clients sees each run that stays once, in order, and none twice."""
    home, number, over = str(served.installation.home), 300, threading.Event()
    served.installation.add("a")
    write(served.installation, *(entry(n, task) for n in range(number) for task in ("a", "b")))
    kept = {f"{task}-{n}" for task in "ab" for n in range(150, number)}

    def change() -> None:
        latest, oldest = number, 0

        while not over.wait(0.02):
            for task in "ab":
                history.append(home, task, entry(latest, task))  # type: ignore[arg-type]
                history_cleaning.clean(home, task, lambda each, least=oldest: int(str(each["run"])[2:]) >= least)

            latest, oldest = latest + 1, min(oldest + 1, 150)

    changing = threading.Thread(target=change)
    changing.start()

    try:
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda n: [each["run"] for each in served.listed(limit=40 + n)], range(20)))
    finally:
        over.set()
        changing.join()

    for runs in found:
        assert len(set(runs)) == len(runs)
        assert set(runs) >= kept
        assert [run for run in runs if run[0] == "a"] == sorted(
            (run for run in runs if run[0] == "a"), key=lambda run: -int(run[2:]))


def test_a_viewer_reads_no_secret_in_a_list(program: Program) -> None:
    program.installation.add("task")
    secret = program.installation.row("task")["secret"]
    write(program.installation, entry(1, output=f"x {secret}\n", errorOutput=" ".join(secret)))
    assert program.good("GET", "/runs", role="editor", output="true")["runs"] == [
        entry(1, output=f"x {secret}\n", errorOutput=" ".join(secret))]
    shown = [program.good("GET", "/runs", role="viewer", output="true")["runs"][0],
             program.good("GET", "/tasks/task/runs/task-1", role="viewer")]
    assert shown == [entry(1, output="x …\n", errorOutput="…")] * 2


# The installation

@pytest.mark.parametrize("door", DOORS)
def test_health_and_commands(program: Program, door: str) -> None:
    """As `status --json` and `commands --json`, without paths and programs."""
    program.installation.add("task", ["false"])
    program.good("POST", "/tasks/task/run", {"wait": 30})
    program.installation.configure(commands={"mine": {"argv": ["/secret/path"], "cwd": "/secret", "arguments": True}})
    found = program.good("GET", "/health", door=door, role="viewer")
    told = call(program.installation.home, "status", "--json").document
    assert {key: value for key, value in found.items() if key not in ("warnings", "errors")} == {
        key: value for key, value in told.items() if key not in ("warnings", "errors")}
    assert found["status"] == "failing" and len(found["warnings"]) == len(told["warnings"])
    commands = program.good("GET", "/commands", door=door, role="viewer")["commands"]
    assert commands == [{key: value for key, value in each.items() if key != "cwd"}
                        for each in call(program.installation.home, "commands", "--json").document]
    assert "mine" in {each["name"] for each in commands} and "/secret" not in json.dumps(commands)


@pytest.mark.parametrize("format", ["json", *exporting.FORMATS])
def test_an_export_is_that_of_the_command_line(program: Program, format: str) -> None:
    program.installation.add("task", ["echo", "é"], expression="5 4 * * *")
    if format == "github":  # which holds URLs
        assert program.problem(400, "GET", "/export", format=format)["field"] == "baseUrl"
    program.installation.configure(baseUrl="https://example.org/cron")
    answer = program.ask("GET", "/export", format=format)
    assert answer.body.decode() == call(program.installation.home, "export", format).out
    assert answer.headers["Content-Type"] == ("application/json" if format == "json" else "text/plain; charset=utf-8")
    for role in ("viewer", "editor"):
        program.problem(403, "GET", "/export", role=role)


def test_an_import_changes_what_differs(program: Program) -> None:
    """A dry run writes nothing; to repeat it changes nothing; prune removes the others; roles and audit."""
    installation = program.installation
    installation.configure(commands={"backup": {"argv": ["true"], "arguments": True}})
    installation.add("old", ["true"])
    program.good("POST", "/tasks", {"name": "task", "command": "backup"}, 201)
    document = program.good("GET", "/export", secrets="true")
    document["tasks"]["task"]["priority"] = 7
    document["tasks"]["new"] = {"command": "backup", "arguments": "now", "enabled": True}
    before = (installation.home / "state.json").read_bytes()
    planned = program.good("POST", "/import", document, dryRun="true")
    assert planned["written"] is False and before == (installation.home / "state.json").read_bytes()
    changes = {change["task"]: change for change in planned["changes"]}
    assert (changes["task"]["change"], changes["task"]["fields"]) == ("edit", {"priority": [100, 7]})
    assert (changes["new"]["change"], changes["old"]["change"]) == ("add", "same")
    assert program.good("POST", "/import", document)["written"] is True
    assert (installation.row("task")["priority"], installation.row("new")["arguments"]) == (7, "now")
    assert program.good("POST", "/import", document)["written"] is False
    del document["tasks"]["old"]
    seen = program.ask("POST", "/import", document, dryRun="true", prune="true").headers["ETag"]
    installation.add("added meanwhile", ["true"])
    program.problem(412, "POST", "/import", document, prune="true", stamp=seen)
    assert installation.row("added meanwhile") and installation.row("old")
    seen = program.ask("POST", "/import", document, dryRun="true", prune="true").headers["ETag"]
    assert program.good("POST", "/import", document, prune="true", stamp=seen)["written"] is True
    assert program.problem(404, "GET", "/tasks/old")
    assert "imported tasks" in (installation.home / "audit.jsonl").read_text()
    for role in ("viewer", "editor"):
        program.problem(403, "POST", "/import", document, role=role)


@pytest.mark.parametrize(("task", "rows"), [
    ("new", {"argv": ["/bin/sh", "-c", "id"]}), ("new", {"command": "hello", "cwd": "/tmp"}),
    ("new", {"command": "hello", "environment": {"LD_PRELOAD": "x"}}), ("task", {"argv": ["/bin/id"]}),
    ("task", {"argv": ["true"], "cwd": "/etc"}), ("new", {"command": "no such"}), ("a/\0", {"command": "hello"}),
    ("new", {"command": "hello", "priority": "high"}), ("new", [])])
def test_an_import_is_no_shell(program: Program, task: str, rows: Any) -> None:
    """All or nothing: what only the command line may change is refused, and so is what is wrong."""
    program.installation.add("task", ["true"])
    before = (program.installation.home / "state.json").read_bytes()
    document = {"format": "webscheduler tasks", "version": 1,
                "tasks": {"fine": {"command": "hello"}, task: rows}}
    program.problem(400, "POST", "/import", document)
    assert (program.installation.home / "state.json").read_bytes() == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'{"tasks"', b"[" * 100000,
                                  b'{"format": 1}'], ids=range(9))
def test_what_is_no_export(program: Program, body: bytes) -> None:
    program.installation.add("task", ["true"])

    for prune in ("false", "true"):
        assert program.problem(400, "POST", "/import", body, prune=prune)["detail"]

    assert program.installation.row("task")


@pytest.mark.parametrize("body", [b"{}", b'{"format": "webscheduler tasks", "version": 1, "tasks": {}}'])
def test_an_export_without_tasks_removes_none(program: Program, body: bytes) -> None:
    """It is what a command that failed leaves in a file."""
    program.installation.add("task", ["true"])
    assert program.problem(400, "POST", "/import", body, prune="true")["field"] == "prune"
    assert program.good("POST", "/import", body)["changes"] == []
    assert program.installation.row("task")


def test_a_viewer_is_not_told_where_a_damaged_file_is(program: Program) -> None:
    home = program.installation.home
    program.installation.add("task", ["true"])
    (home / "state.json").write_bytes(b"{")
    told = {role: program.good("GET", "/health", role=role)["errors"] for role in ("viewer", "editor")}
    assert told["viewer"] and [text.replace(str(home), "…") for text in told["editor"]] == told["viewer"]
    assert str(home) in str(told["editor"]) and str(home) not in str(told["viewer"])


def test_metrics_are_what_prometheus_reads(program: Program) -> None:
    """Its own parser reads them; labels are escaped; what is not known is left out; a task that is late or running."""
    installation, odd = program.installation, 'a "b" \\n'
    installation.add("good", ["true"])
    installation.add("bad", ["sh", "-c", "exit 3"])
    installation.add(odd, ["true"])
    installation.add("late", intervalSeconds=60)
    installation.add("busy", ["sleep", "600"])
    installation.edit("late", lastRunAt="2020-01-01T00:00:00.000+00:00")

    for name in ("good", "bad"):
        program.good("POST", f"/tasks/{name}/run", {"wait": 30})

    program.start("busy")
    installation.command_runs()
    answer = program.ask("GET", "/metrics", role="viewer")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    from prometheus_client import parser
    families = {family.name: family for family in parser.text_string_to_metric_families(answer.body.decode())}
    assert all(family.type == "gauge" and family.documentation for family in families.values())

    def values(metric: str) -> dict[str, float]:
        return {sample.labels["task"]: sample.value for sample in families[f"webscheduler_task_{metric}"].samples}

    assert [sample.value for sample in families["webscheduler_up"].samples] == [1.0]
    assert values("enabled") == {"@due": 1.0, "good": 1.0, "bad": 1.0, odd: 1.0, "late": 1.0, "busy": 1.0}
    assert values("last_exit_code") == {"good": 0.0, "bad": 3.0}
    assert values("last_success_timestamp_seconds").keys() == {"good"}
    assert values("last_run_timestamp_seconds").keys() >= {"good", "bad"}
    assert values("consecutive_failures")["bad"] == 1.0
    assert {name for name, value in values("running").items() if value} == {"busy"}
    assert {name for name, value in values("late").items() if value} == {"late"}
    assert families["webscheduler_tick_last_timestamp_seconds"].samples == []
    assert not (installation.home / "logs" / "@due.jsonl").exists()


def test_metrics_read_no_history(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that nobody can read does not matter to them."""
    program.installation.add("task", ["true"])
    program.good("POST", "/tasks/task/run", {"wait": 30})
    file = Path(history.path(str(program.installation.home), "task"))
    file.unlink()
    file.mkdir()
    assert b'webscheduler_task_last_exit_code{task="task"} 0.0' in program.ask("GET", "/metrics").body


def test_a_viewer_changes_nothing(program: Program) -> None:
    """Whatever it asks of these routes."""
    program.installation.add("task", ["true"])
    people.note(str(program.installation.home), time.time(), None, "", "x")
    before = {name: (program.installation.home / name).read_bytes() for name in ("state.json", "audit.jsonl")}

    for route in table.ROUTES:
        if route.function.startswith(("runs:", "installation:")):
            path = route.path[len("/api/v1"):].replace("{name}", "task").replace("{run}", "x")
            status = program.ask(route.method, path, b"{}" if route.method == "POST" else None, role="viewer").status
            assert (status == 403) == (route.role != "viewer")

    assert before == {name: (program.installation.home / name).read_bytes() for name in before}
    assert program.installation.history() == []


def test_the_table_names_all_streams_and_formats() -> None:
    rules = {route.function: route.query for route in table.ROUTES}
    assert rules["runs:output_of"]["stream"].limit == (output.BOTH, *output.STREAMS)
    assert rules["installation:export"]["format"].limit == ("json", *exporting.FORMATS)
