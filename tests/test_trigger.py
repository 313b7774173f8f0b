# SPDX-License-Identifier: LGPL-3.0-or-later
"""The answers of /run and /status at both doors, for a sound installation and for one that cannot work."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import LIBRARY, PACKAGE, SCRIPT, python_path
from tests.installation import DOORS, PATIENCE, REFUSED, Answer, Installation, answered, asking, until
from tests.servers import as_user, give
from tests.servers import python as readable
from webscheduler import trigger
from webscheduler.runs.indexing import refresh
from webscheduler.store import clock, index, state
from webscheduler.store.refusals import read_refusals
from webscheduler.times import parse_time
from webscheduler.vocabulary import DUE

UNAVAILABLE = REFUSED


@pytest.fixture
def ready(installation: Installation) -> Installation:
    installation.add()
    return installation


@pytest.mark.parametrize("door", DOORS)
def test_a_detached_run(installation: Installation, door: str) -> None:
    """The answer is there while the command runs: 202, the run's id, and that it was detached; then its line says the
    same id and how it ended, and state agrees."""
    go_on = installation.home / "go-on"
    installation.add(argv=["/bin/sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.02; done; echo out; echo err >&2; exit 3',
                           str(go_on)])  # fmt: skip
    answer = installation.trigger(door)
    run = answer.document["run"]
    assert answer.status == 202
    assert answer.document == {"accepted": True, "run": run, "strategy": "fork", "detached": True, "status": "running"}
    assert answer.errors == ""
    assert installation.runs() == []

    facts = installation.command_runs()
    assert os.getsid(facts["supervisor"][0]) not in (os.getsid(0), os.getsid(facts["command"][0]))
    # Of a run that lasts, state says so; of others their claims do.
    row = until(lambda: (found := installation.row())["lastRunStatus"] and found)
    assert (row["lastRunStatus"], row["lastRunId"], row["lastRunExitCode"]) == ("running", run, None)
    go_on.touch()
    installation.idle()

    (line,) = installation.history()
    times = {name: line.pop(name) for name in ("startedAt", "finishedAt", "triggeredAt", "duration")}
    assert line.pop("cpuSeconds") >= 0 and line.pop("maxRssBytes") > 0
    assert line == {"command": "task", "status": "failed", "exitCode": 3, "output": "out\n", "errorOutput": "err\n",
                    "run": run, "reason": None, "strategy": "fork", "trigger": "url", "ip": "192.0.2.1",
                    "scheduledFor": None, "signal": None, "attempt": 1, "count": 1, "after": None}
    assert parse_time(times["triggeredAt"]) <= parse_time(times["startedAt"]) <= parse_time(times["finishedAt"])
    assert 0 <= times["duration"] <= PATIENCE
    row = installation.row()
    assert (row["lastRunStatus"], row["lastRunId"], row["lastRunExitCode"]) == ("failed", run, 3)
    assert (row["lastRunAt"], row["lastRunDuration"]) == (times["startedAt"], times["duration"])
    assert row["consecutiveFailures"] == 1
    until(lambda: os.listdir(installation.home / "output") == [], "the end of the live output")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("code", "failure", "status"), [(0, None, 200), (3, None, 200), (3, 500, 500), (0, 500, 200)])
def test_a_run_within_the_request(
    installation: Installation, door: str, code: int, failure: int | None, status: int
) -> None:
    """`sync` tells how it ended; a task may ask for another status when it failed."""
    installation.add(argv=["sh", "-c", f"echo out; exit {code}"], strategy="sync", failureStatus=failure)
    answer = installation.trigger(door)
    document = answer.document
    assert answer.status == status
    assert document.pop("duration") >= 0
    (line,) = installation.history()
    assert document == {"accepted": True, "run": line["run"], "strategy": "sync", "detached": False,
                        "status": "failed" if code else "success", "reason": None, "exitCode": code, "output": "out\n"}
    assert (line["strategy"], line["exitCode"], line["output"]) == ("sync", code, "out\n")
    assert installation.claims() == []


def test_an_answer_waits_for_the_record_only(installation: Installation) -> None:
    """`sync` in a server: what the supervisor does once the run is recorded, like cleaning up, delays no answer."""
    installation.add("other")
    installation.add(strategy="sync")
    kept = installation.home / "logs" / "other.jsonl"
    now = time.time()
    notes = clock.observe(None, None, now, clock.boot())
    # A clock that has been good for two days; the last clean-up was two hours ago.
    clock.write(str(installation.home), {**notes, "since": now - 2 * clock.DAY}, now - 7200)

    with kept.open("a") as history:
        fcntl.flock(history, fcntl.LOCK_EX)  # it waits for this lock before it cleans up
        assert installation.trigger("wsgi").document["status"] == "success"
        assert installation.history()
        assert installation.claims() == []
        assert installation.processes()

    installation.gone()


@pytest.mark.parametrize("door", DOORS)
def test_a_silent_failure_shows_its_error_output(installation: Installation, door: str) -> None:
    """Where a command printed nothing but errors, the answer of `sync` holds those."""
    installation.add(argv=["sh", "-c", "echo broken >&2; exit 1"], strategy="sync")
    assert installation.trigger(door).document["output"] == "broken\n"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("text", ["x", "\\0", "\\n", "\\377", "\\303\\251", "\\360\\237\\230\\200", '\\"'])
def test_answers_stay_below_4_kib(installation: Installation, door: str, text: str) -> None:
    """However much a command prints and whatever bytes, a panel that reads 4 KiB reads all of the answer."""
    program = f'i=0; while [ $i -lt 15 ]; do s="${{s}}${{s}}{text}"; i=$((i+1)); done; printf "$s"'
    installation.add(argv=["bash", "-c", program], strategy="sync")
    answer = installation.trigger(door)
    assert answer.document["output"]
    size = sum(len(f"{name}: {value}\r\n") for name, value in answer.headers.items()) + len(answer.body)
    assert size + len("Status: 200 OK\r\n\r\n") < 4096
    assert int(answer.headers["Content-Length"]) == len(answer.body)


@pytest.mark.parametrize("said", [{"CONTENT_LENGTH": "100"}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_a_long_answer_over_the_socket_that_an_unread_body_came_by(
    said: dict[str, str], installation: Installation
) -> None:
    """mod_cgid gives a script one socket as input and output: what is left unread of the body neither resets it nor
    leaves it in a state that cuts an answer longer than it takes at once."""
    ours, script = socket.socketpair()

    with ours, script:
        script.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that there is, some 4 KiB
        ours.sendall(b"x" * 100)
        environ = {**asking("/admin/style", method="POST"), **said}

        with installation.start_cgi(environ, stdin=script, stdout=script) as process:
            script.close()
            time.sleep(0.5)  # who reads late finds more written than there is room for
            answer = b"".join(iter(lambda: ours.recv(65536), b""))
            assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"Status: 200")
    assert body == (PACKAGE / "admin" / "panel.css").read_bytes()


def test_after_the_response(installation: Installation) -> None:
    """`close` runs the command when the server closes the response, not before."""
    ran = installation.home / "ran"
    installation.add(argv=["touch", str(ran)], strategy="close")
    environ = {**installation.signed(), "wsgi.errors": sys.stderr}
    result: Any = installation.application(environ, lambda status, headers: None)
    document = json.loads(b"".join(result))
    assert document == {"accepted": True, "run": document["run"], "strategy": "close", "detached": False,
                        "status": "running"}
    assert not ran.exists()
    result.close()
    assert ran.exists()
    result.close()
    assert [(line["run"], line["strategy"], line["status"]) for line in installation.history()] == [
        (document["run"], "close", "success")
    ]


def test_a_server_that_drops_the_response(installation: Installation) -> None:
    """A server that never calls close() loses no run either."""
    installation.add(strategy="close")
    environ = {**installation.signed(), "wsgi.errors": sys.stderr}
    b"".join(installation.application(environ, lambda status, headers: None))
    assert [line["status"] for line in installation.history()] == ["success"]


def test_close_under_cgi_is_for_nginx_alone(installation: Installation) -> None:
    """Where a server ends scripts that go on (all but nginx with fcgiwrap), `close` becomes `sync`."""
    installation.add(strategy="close")
    assert installation.trigger(SERVER_SOFTWARE="Apache/2.4.62 (Debian)").document["strategy"] == "sync"
    assert installation.trigger(SERVER_SOFTWARE="nginx/1.22.1").document["strategy"] == "close"
    installation.idle()
    assert [line["strategy"] for line in installation.history()] == ["sync", "close"]


@pytest.mark.parametrize("door", DOORS)
def test_a_task_that_runs_is_locked(installation: Installation, door: str) -> None:
    """A trigger of a running task is told so, for as long as it runs; one line a minute says how many there were."""
    go_on = installation.home / "go-on"
    installation.add(argv=["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.02; done', str(go_on)])
    first = installation.trigger(door)

    for _ in range(3):
        answer = installation.trigger(door)
        assert answer.status == 202
        assert answer.document == {"accepted": True, "run": None, "status": "skipped", "reason": "locked"}

    go_on.touch()
    installation.idle()
    assert [(line["status"], line["reason"], line["run"]) for line in installation.history()] == [
        ("skipped", "locked", None), ("success", None, first.document["run"])]  # fmt: skip
    assert installation.row()["lastRunStatus"] == "success"


def test_skips_are_counted_not_written(ready: Installation) -> None:
    """Of the skips of a task for one reason one line a minute is written, and it says for how many it stands."""
    from webscheduler.runs import admission
    from webscheduler.store.lookup import Parsed, in_full

    ready.edit(enabled=False)
    now = time.time()
    seconds = [0, 1, 30, 59, 61, 62, 130]

    for second in seconds:
        view = Parsed(str(ready.home))
        known = in_full(view, view.find(ready.row()["slug"]))
        cause = admission.Cause("url", admission.Ticket(known, None, 300, "192.0.2.1"))
        assert admission.decide(str(ready.home), "task", cause, now + second, view).reason == "disabled"

    lines = ready.history()
    assert [line["count"] for line in lines] == [1, 4, 2]
    assert sum(line["count"] for line in lines) == len(seconds)
    assert {(line["status"], line["reason"]) for line in lines} == {("skipped", "disabled")}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("path", ["/runs", "/x/y", "/run.php", "/.git/config", "/%2e%2e/run"])
def test_elsewhere_is_nothing(ready: Installation, door: str, path: str) -> None:
    """Other paths are 404."""
    assert ready.call(door, asking(path)).status == 404


# /status


@pytest.mark.parametrize("door", DOORS)
def test_status(ready: Installation, door: str) -> None:
    """/status tells last and next run: 200 while healthy, 503 while failing; asking changes nothing."""
    answer = ready.call(door, ready.asking_status())
    assert (answer.status, answer.document["status"], answer.document["running"]) == (200, "healthy", False)
    assert answer.document["lastRunAt"] is None
    ready.edit(argv=["false"])
    ready.wsgi(ready.signed())
    ready.idle()
    ready.gone()  # a supervisor refreshes the index after its record
    before = {file: file.read_bytes() for file in ready.home.rglob("*") if file.is_file()}
    answer = ready.call(door, ready.asking_status())
    assert (answer.status, answer.document["status"], answer.document["lastRunStatus"]) == (503, "failing", "failed")
    assert answer.document["lastRunAt"] == ready.row()["lastRunAt"]
    assert {file: file.read_bytes() for file in ready.home.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("door", DOORS)
def test_status_by_query(ready: Installation, door: str) -> None:
    """`?status=SLUG` is the same, for hosts that drop the path."""
    environ = ready.asking_status()
    query = f"status={ready.row()['slug']}&{environ['QUERY_STRING']}"
    assert ready.call(door, asking("", query)).body == ready.call(door, environ).body


def test_status_while_running(installation: Installation) -> None:
    """A running task says so, and is healthy."""
    installation.add(argv=["sleep", "60"])
    installation.trigger("wsgi")
    installation.command_runs()
    answer = installation.wsgi(installation.asking_status())
    assert (answer.status, answer.document["status"], answer.document["running"]) == (200, "healthy", True)


def test_status_of_a_run_that_died(installation: Installation) -> None:
    """`running` without a process that runs is a failure, before anybody recorded it."""
    installation.add(argv=["sleep", "60"])
    installation.trigger("wsgi")
    installation.command_runs()
    until(lambda: installation.row()["lastRunStatus"] == "running")
    installation.end()
    answer = installation.wsgi(installation.asking_status())
    assert (answer.status, answer.document["status"], answer.document["running"]) == (503, "failing", False)
    assert installation.runs() == []


@pytest.mark.parametrize("name", ["task", DUE])
def test_status_of_a_task_that_has_just_gone(ready: Installation, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Removed between the comparison of its signature and the look at its row, a task is as unknown as any."""
    assert refresh(str(ready.home))
    environ = ready.asking_status(name)
    monkeypatch.setattr(index.Index, "row", lambda self, known: None)
    monkeypatch.setattr(state, "read", lambda home: {})
    monkeypatch.setattr(state, "read_row", lambda home, name: None)
    answer = ready.wsgi(environ)
    assert (answer.status, answer.document) == (404, {"found": False})


def test_status_of_everything(ready: Installation) -> None:
    """@due's status speaks for the whole installation and names what is not well; disabled tasks do not count."""
    ready.add("good")
    ready.add("off", enabled=False, lastRunStatus="failed")
    assert ready.wsgi(ready.asking_status("@due")).status == 200
    ready.edit("task", lastRunStatus="timeout")
    ready.edit("good", intervalSeconds=60, lastRunAt="2020-01-01T00:00:00+00:00", lastRunStatus="success")
    answer = ready.wsgi(ready.asking_status("@due"))
    assert (answer.status, answer.document["status"]) == (503, "failing")
    assert answer.document["unhealthy"] == ["good", "task"]


@pytest.mark.parametrize("door", DOORS)
def test_status_refusals(ready: Installation, door: str) -> None:
    """Whatever is wrong with a request for /status, the answer is 404 and the same bytes, and nothing is written."""
    slug = ready.row()["slug"]
    run, status = ready.signature(), ready.signature(status=True)
    before = {file: file.read_bytes() for file in ready.home.rglob("*") if file.is_file()}
    answers = [ready.call(door, asking(path, query)) for path, query in [
        (f"/status/{slug}", ""), (f"/status/{slug}", f"sig={run}"), (f"/status/{'ab' * 16}", f"sig={status}"),
        (f"/status/{slug}", f"sig={'0' * 64}"), ("/status", f"sig={status}"), ("/status/x/y", f"sig={status}"),
        (f"/status/{slug}", f"sig={status}&sig={status}"), ("/status/\xff", f"sig={status}"),
    ]]  # fmt: skip
    assert answers[0].status == 404
    assert answers == [answers[0]] * len(answers)
    assert {file: file.read_bytes() for file in ready.home.rglob("*") if file.is_file()} == before


# Installations that cannot work


def gone(home: Path) -> None:
    shutil.rmtree(home)


def broken_state_and_copy(home: Path) -> None:
    (home / "state.json").write_bytes(b'{"task": {')
    (home / "state.json.bak").write_bytes(b"\xff\xfe")


def missing_state_and_copy(home: Path) -> None:
    (home / "state.json").unlink()
    (home / "state.json.bak").unlink(missing_ok=True)


def state_is_a_list(home: Path) -> None:
    (home / "state.json").write_bytes(b"[]")
    (home / "state.json.bak").write_bytes(b"7")


def nested_state(home: Path) -> None:
    (home / "state.json").write_bytes(b"[" * 200000)
    (home / "state.json.bak").write_bytes(b'{"a":' * 200000)


def broken_settings(home: Path) -> None:
    (home / "config.json").write_bytes(b"{")


def wrong_setting(home: Path) -> None:
    (home / "config.json").write_bytes(b'{"signatureWindowSeconds": "300"}')


def newer_settings(home: Path) -> None:
    (home / "config.json").write_bytes(b'{"version": 99}')


BROKEN: list[Callable[[Path], None]] = [gone, broken_state_and_copy, missing_state_and_copy, state_is_a_list,
                                        nested_state, broken_settings, wrong_setting, newer_settings]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("place", ["", "config.json", "state.json"])
def test_a_script_that_runs_as_another_user(elsewhere: Installation, place: str) -> None:
    """The server's error log names both users, whose the home is and as whom the script runs; of what is to be done,
    nothing is to be removed. So it is for a file that root left in the home."""
    environ = elsewhere.signed()
    give(elsewhere.home, "nobody")
    for file in [*elsewhere.home.glob(f"{place}*"), *elsewhere.home.glob("index")] if place else [elsewhere.home]:
        os.chown(file, 0 if place else pwd.getpwnam("daemon").pw_uid, -1)
        file.chmod(0o700 if file.is_dir() else 0o600)

    script = elsewhere.home.parent / SCRIPT.name

    with elsewhere.start_cgi(environ, words=[readable()], script=script, **as_user("nobody")) as process:
        answer = answered(process)

    assert (answer.status, answer.errors.count("\n")) == (503, 1)
    assert "remove" not in answer.errors
    assert (f" belongs to root, and this runs as nobody: `chown -R nobody {elsewhere.home}` as root" if place else
            f"; {elsewhere.home} belongs to daemon, and this runs as nobody: let the server run the script as daemon"
            ) in answer.errors


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("breaking", BROKEN, ids=lambda function: function.__name__)
def test_a_broken_installation_says_503_to_all(
    ready: Installation, door: str, breaking: Callable[[Path], None]
) -> None:
    """What shows before anybody is authenticated answers 503 to known and unknown slugs, right and wrong signatures
    alike, with one line for the owner in the server's log, and mends or overwrites nothing."""
    good = ready.signed()
    environs = [good, {**good, "QUERY_STRING": "sig=1"}, asking("/run/" + "ab" * 16, good["QUERY_STRING"]),
                asking("/run/x"), {**good, "REQUEST_METHOD": "POST"}]  # fmt: skip
    breaking(ready.home)
    before = {file: file.read_bytes() for file in ready.home.rglob("*") if file.is_file()}
    answers = [ready.call(door, environ) for environ in environs]
    assert answers[0].status == 503
    assert answers[0].body == UNAVAILABLE
    assert answers == [answers[0]] * len(answers)
    assert answers[0].errors.count("\n") == 1
    assert answers[0].errors.startswith("webscheduler: ")
    assert {file: file.read_bytes() for file in ready.home.rglob("*") if file.is_file()} == before


def without(name: str) -> Callable[[Path], None]:
    return lambda home: shutil.rmtree(home / name)


def a_file(name: str) -> Callable[[Path], None]:
    def act(home: Path) -> None:
        shutil.rmtree(home / name)
        (home / name).write_bytes(b"")

    return act


def lock_is_a_link(home: Path) -> None:
    (home / "locks" / "task.lock").symlink_to("/etc/passwd")


def bad_task(home: Path) -> None:
    state = json.loads((home / "state.json").read_text())
    state["task"]["timeout"] = "long"
    (home / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "breaking",
    [without("locks"), without("runs"), a_file("locks"), a_file("runs"), lock_is_a_link, bad_task],
    ids=["no locks", "no runs", "locks is a file", "runs is a file", "lock is a link", "bad task"],
)
def test_what_shows_later_says_503_to_the_signed_only(
    ready: Installation, door: str, breaking: Callable[[Path], None]
) -> None:
    """What shows only when a run is to be claimed answers 503 to valid signatures, and to others what it always
    does."""
    breaking(ready.home)
    answer = ready.trigger(door)
    assert (answer.status, answer.body) == (503, UNAVAILABLE)
    assert answer.errors.count("\n") == 1
    assert ready.call(door, {**ready.signed(), "QUERY_STRING": "sig=1"}).refused
    assert ready.call(door, asking("/run/" + "ab" * 16, "sig=1")).refused


@pytest.fixture
def elsewhere() -> Iterator[Installation]:
    """An installation of the user `nobody`, in a directory that this user can reach."""
    with tempfile.TemporaryDirectory(prefix="ws-") as place:
        Path(place).chmod(0o755)
        installation = Installation(Path(place) / "home")
        installation.add()
        (installation.home / "locks" / "task.lock").touch()
        shutil.copy(SCRIPT, place)

        try:
            yield installation
        finally:
            installation.end()


@pytest.mark.parametrize(
    ("name", "mode", "status"),
    [("", 0, 503), ("config.json", 0, 503), ("state.json", 0, 202), ("state.json*", 0, 503), ("runs", 0o500, 503),
     ("locks", 0, 503), ("locks/task.lock", 0o400, 503), ("logs", 0o500, 202), ("output", 0o500, 202)],
)  # fmt: skip
def test_what_may_not_be_read_or_written(elsewhere: Installation, name: str, mode: int, status: int) -> None:
    """Files that the server's user may not read or write are 503 as soon as no run can be had without them, with one
    line that names them; once they are mended, the task runs and no run that was accepted is lost."""
    environ = elsewhere.signed()
    give(elsewhere.home, "nobody")
    files = [elsewhere.home, *elsewhere.home.glob(name)] if name else [elsewhere.home]
    modes = {file: file.stat().st_mode for file in files}

    def ask() -> Answer:
        script = elsewhere.home.parent / SCRIPT.name
        with elsewhere.start_cgi(environ, words=[readable()], script=script, **as_user("nobody")) as process:
            return answered(process)

    for file in files[1:] or files:
        file.chmod(mode)

    answer = ask()
    elsewhere.gone()

    for file, before in modes.items():
        file.chmod(before)

    assert answer.status == status
    assert answer.errors.count("\n") == (status == 503)
    assert name.rstrip("*") in answer.errors or status == 202
    accepted = [answer.document["run"]] if status == 202 else []
    again = ask()
    assert again.document["status"] == "running"
    elsewhere.idle()
    assert [line["run"] for line in elsewhere.runs()] == [*accepted, again.document["run"]]
    assert {line["status"] for line in elsewhere.runs()} == {"success"}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("breaking", [b"", b"{", b"null", b"\xff", None])
def test_the_copy_takes_over(ready: Installation, door: str, breaking: bytes | None) -> None:
    """With state.json broken or gone, its good copy lets tasks run, and the broken file stays as it is."""
    file = ready.home / "state.json"
    environ, good = ready.signed(), file.read_bytes()
    file.unlink() if breaking is None else file.write_bytes(breaking)
    assert ready.call(door, environ).document["accepted"] is True
    ready.idle()
    assert [run["status"] for run in ready.runs()] == ["success"]
    assert (file.read_bytes() if file.exists() else None) == breaking
    assert (ready.home / "state.json.bak").read_bytes() == good


@pytest.mark.parametrize("door", DOORS)
def test_a_gate_that_stays_shut(ready: Installation, door: str) -> None:
    """When the gate is not to be had within a second, the answer is 503 and nothing runs."""
    import fcntl

    with open(ready.home / "locks" / "task.lock", "w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        answer = ready.trigger(door)

    assert answer.status == 503
    assert ready.history() == []
    assert ready.claims() == []


@pytest.mark.parametrize(
    "noise", [b"x" * 300, b"nan nan", b"inf inf", b"1e999 1e999", b"\x00" * 256, b"-1 -1", b"9" * 256, b"0 0 7 1e300"]
)
def test_a_damaged_gate_lets_tasks_run(ready: Installation, noise: bytes) -> None:
    """Whatever a gate's record holds, it blocks no task."""
    (ready.home / "locks" / "task.lock").write_bytes(noise)
    ready.edit(minIntervalSeconds=3600, signature="either")
    assert ready.trigger("wsgi").document["accepted"] is True
    ready.idle()
    assert ready.trigger("wsgi").refused
    assert len(ready.runs()) == 1


@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_clock_blocks_nothing(ready: Installation, door: str) -> None:
    """A last start that lies ahead of the clock counts as now: the least interval passes again after its seconds."""
    future = time.time() + 10**8
    (ready.home / "locks" / "task.lock").write_bytes(f"{future} 0".encode())
    ready.edit(minIntervalSeconds=3600)
    assert ready.trigger(door).refused
    record = (ready.home / "locks" / "task.lock").read_bytes().split()
    assert float(record[0]) <= time.time()


def test_no_fcntl(ready: Installation) -> None:
    """On a Python without fcntl the package imports, every module of it, and a trigger answers 503."""
    program = """
import importlib, json, pkgutil, sys
sys.modules["fcntl"] = None
sys.path.insert(0, sys.argv[1])
import webscheduler
for module in pkgutil.walk_packages(webscheduler.__path__, "webscheduler."):
    if module.name != "webscheduler.__main__":
        importlib.import_module(module.name)
from webscheduler.wsgi import create_app
environ = {**json.loads(sys.argv[3]), "wsgi.errors": sys.stderr}
create_app(sys.argv[2])(environ, lambda status, headers: print(status))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(LIBRARY), str(ready.home), json.dumps(ready.signed())],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout == "503 Service Unavailable\n"
    assert "fcntl" in done.stderr
    assert done.returncode == 0
    assert ready.claims() == []


# The script itself


def test_the_script_says_what_is_missing(ready: Installation, tmp_path: Path) -> None:
    """Where the package cannot be found, or Python is too old, the script answers 503 and one line says why."""
    alone = tmp_path / "alone" / "webscheduler.cgi"
    alone.parent.mkdir()
    shutil.copy(SCRIPT, alone)
    environ = {"PATH": "/usr/bin:/bin", "WEBSCHEDULER_HOME": str(ready.home), **ready.signed()}
    done = subprocess.run([sys.executable, "-I", "-S", str(alone)], env=environ, capture_output=True, cwd="/",
                          stdin=subprocess.DEVNULL, timeout=PATIENCE)  # fmt: skip
    assert done.stdout.startswith(b"Status: 503 Service Unavailable\r\n")
    assert done.stdout.endswith(b"\r\n\r\n" + UNAVAILABLE)
    assert done.stderr.count(b"\n") == 1
    assert b"the package cannot be loaded by" in done.stderr


def test_the_home_in_the_script(ready: Installation, tmp_path: Path) -> None:
    """A host that sets no environment can have the home written into the script; it counts before the environment."""
    copy = tmp_path / "site" / "cgi-bin" / "webscheduler.cgi"
    copy.parent.mkdir(parents=True)
    (copy.parent.parent / "webscheduler").symlink_to(PACKAGE)
    text = SCRIPT.read_text()
    assert 'HOME = ""' in text
    copy.write_text(text.replace('HOME = ""', f"HOME = {str(ready.home)!r}", 1))
    environ = {"PATH": "/usr/bin:/bin", "WEBSCHEDULER_HOME": "/nonexistent", **ready.signed()}
    with subprocess.Popen([sys.executable, str(copy)], env=environ, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        assert answered(process).document["accepted"] is True
    ready.idle()


def test_no_environment_at_all(tmp_path: Path) -> None:
    """Without WEBSCHEDULER_HOME and HOME (RFC 3875 promises neither) the home is that of the account."""
    import pwd

    program = "from webscheduler.store.settings import find_home; print(find_home({}))"
    done = subprocess.run([sys.executable, "-c", program], env=python_path(), capture_output=True, text=True)
    assert done.stdout.strip() == os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".webscheduler")


@pytest.mark.parametrize("home", ["relative", "./x", "~/.webscheduler"])
def test_a_relative_home_is_refused(ready: Installation, home: str) -> None:
    """A home must be absolute, since nobody knows in which directory a server starts scripts."""
    answer = ready.cgi({**ready.signed(), "WEBSCHEDULER_HOME": home})
    assert (answer.status, answer.body) == (503, UNAVAILABLE)
    assert "absolute" in answer.errors


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 2), (0, 1, 2)])
def test_closed_streams(ready: Installation, closed: tuple[int, ...]) -> None:
    """A server that starts the script without standard streams gets its answer, and the run is run."""

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    for environ, accepted in [({**ready.signed(), "REQUEST_METHOD": "POST"}, True),
                              (asking("/run/x", method="POST", CONTENT_LENGTH="3"), False)]:  # fmt: skip
        with ready.start_cgi(environ, preexec_fn=close) as process:
            output, errors = process.communicate(timeout=PATIENCE)

        if 1 not in closed:
            assert json.loads(output.partition(b"\r\n\r\n")[2])["accepted"] is accepted
            assert output.startswith(b"Status: 202 ")
        assert errors == b""

    ready.idle()
    assert [run["status"] for run in ready.runs()] == ["success"]


def test_a_client_that_leaves(ready: Installation) -> None:
    """When nobody reads the answer any more, the run is run all the same."""
    reading, writing = os.pipe()
    os.close(reading)

    with ready.start_cgi(ready.signed(), stdout=writing) as process:
        os.close(writing)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""

    ready.idle()
    assert [run["status"] for run in ready.runs()] == ["success"]


def test_a_body_that_breaks_off(ready: Installation) -> None:
    """A client that goes away in the middle of its body is refused as any other, at a door whose server raises."""

    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError("request data read error")

    environ = {**asking(f"/run/{ready.row()['slug']}", method="POST", CONTENT_LENGTH="68"), "wsgi.errors": sys.stderr,
               "wsgi.input": Broken()}  # fmt: skip
    said: list[str] = []
    body = b"".join(ready.application(environ, lambda status, headers: said.append(status)))
    assert (said, body) == (["202 Accepted"], REFUSED)


def test_history_that_cannot_be_written_is_no_silence(ready: Installation) -> None:
    """A skip whose line cannot be written is told as 503, not swallowed."""
    ready.edit(enabled=False)
    shutil.rmtree(ready.home / "logs")
    assert ready.trigger("wsgi").status == 503
    assert read_refusals(str(ready.home)) == []


def test_what_nobody_foresaw_is_answered_503(ready: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The WSGI door raises nothing into the site that embeds it, and says in its log what went wrong."""
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr(trigger, "authenticate", broken)
    answer = ready.wsgi(ready.signed())
    assert (answer.status, answer.body) == (503, REFUSED)
    assert "ZeroDivisionError: nobody foresaw it" in answer.errors


class Broken:
    """A stream of a server that can no longer be written to."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize("errors", ["full", "closed", "broken", "missing"])
@pytest.mark.parametrize("door", DOORS)
def test_a_server_log_that_cannot_be_written(ready: Installation, door: str, errors: str) -> None:
    """An installation that cannot work says 503 though nobody can be told why."""
    environ = ready.signed()
    shutil.rmtree(ready.home)

    if door == "cgi":
        with open("/dev/full", "wb") as full, open(os.devnull, "rb") as unwritable:
            stream: Any = {"full": full, "broken": unwritable, "closed": None, "missing": None}[errors]
            words = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable] if errors == "closed" else ()

            with ready.start_cgi(environ, words=words, stderr=stream) as process:
                assert process.stdout is not None
                said = process.stdout.read()

        assert said.startswith(b"Status: 503 ")
        assert said.endswith(REFUSED)
        return

    with open("/dev/full", "w") as full, open(os.devnull, "w") as closed:
        closed.close()
        streams = {"full": full, "closed": closed, "broken": Broken()}
        given = {**environ, **({"wsgi.errors": streams[errors]} if errors in streams else {})}
        started: list[str] = []
        body = b"".join(ready.application(given, lambda status, headers: started.append(status)))
        assert (started, body) == (["503 Service Unavailable"], REFUSED)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # or its end would fail, too
