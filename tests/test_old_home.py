# SPDX-License-Identifier: LGPL-3.0-or-later
"""A home that version 0.1.0 made is opened and used by every later one: `tests/vectors/v0_1_0/home`.

It was made with `python -m tests.test_old_home --write`, by the code of 0.1.0 out of the repository's history, and is
not made again. Git keeps neither modes nor empty folders, so `opened` gives them back. The processes that its claims
name have numbers beyond every machine's, so none of them is alive by accident; the one that is to be alive gets the
number of a child that holds its claim.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.outside import Answer, Outside, installed, signature, start_time, until, waits_for
from tests.released import unpack

VECTORS = Path(__file__).parent / "vectors" / "v0_1_0"
DOORS = ("cgi", "wsgi")
FOLDERS = ("commands", "locks", "logs", "output", "runs")
OWNER, PASSWORD = "owner", "a throw-away password"
NOBODY = 5000000  # above the highest pid_max of Linux, 2^22
DEAD = {"dead:unsaid": ("interrupted", "found_dead"), "dead:said": ("success", None), "dead:written": ("success", None)}
URLS: dict[str, str] = json.loads((VECTORS / "home_urls.json").read_text()) if VECTORS.joinpath("home").exists() else {}


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Outside]:
    """A copy of the home, with the modes that it had."""
    home = tmp_path / "home"
    shutil.copytree(VECTORS / "home", home)

    for name in FOLDERS:
        (home / name).mkdir(exist_ok=True)

    for path in (home, *home.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)

    made = Outside(home)

    try:
        yield made
    finally:
        made.end()


def call(home: Outside, door: str, name: str) -> Answer:
    """Call the URL that 0.1.0 printed for a task."""
    answer: Answer = getattr(home, door)(home.of_url(URLS[name]))
    return answer


@contextmanager
def alive(home: Outside, name: str) -> Iterator[Path]:
    """The task's claim, held by a child that it names as its supervisor and its command."""
    claim = next(home.home.joinpath("runs").glob(f"{name}@*"))
    holds = ("import fcntl, sys, time; file = open(sys.argv[1], 'r+b'); fcntl.flock(file, fcntl.LOCK_EX); "
             "print('held', flush=True); sys.stdin.read()")

    with subprocess.Popen([sys.executable, "-c", holds, str(claim)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as child:
        assert child.stdout and child.stdout.readline() == "held\n"
        text = claim.read_text()
        named = re.sub(r'("(?:supervisor|command)": )\[\d+, \d+\]', rf"\1[{child.pid}, {start_time(child.pid)}]", text)
        assert named != text
        claim.write_text(named)
        yield claim
        child.communicate("")


def lines_of(home: Outside, name: str, run: str) -> list[dict[str, Any]]:
    file = name.replace(":", "_")
    return [line for line in home.history(file) if line["run"] == run]


def test_every_reading_command_reads_it(old: Outside) -> None:
    """What 0.1.0 knew of tasks and runs is all there, and nothing is recorded by reading it."""
    before = old.state()
    tasks = {row["name"]: row for row in old.json("list")}
    assert set(tasks) == set(before)
    assert {name: row["url"] for name, row in tasks.items() if row["url"]} == {
        name: url for name, url in URLS.items() if "ts=" not in url}

    ended = {}

    for claim in (old.home / "runs").iterdir():
        for line in filter(None, claim.read_text().split("\n")):
            if outcome := json.loads(line).get("outcome"):
                ended[outcome["command"]] = {"lastRunDuration": outcome["duration"],
                                             "lastRunExitCode": outcome["exitCode"]}

    assert set(ended) == {"dead:said", "dead:written"}

    for name, row in before.items():
        shown = old.json("show", name)
        hidden = {"secret", "declaredSchedule", "kept"}
        assert set(row) - set(shown) <= hidden and "secret" not in shown
        changing = {*hidden, "nextRunAt", "lastRunStatus"}  # a dead run is not running

        if name in ended:  # nor unknown, where its claim holds how it ended
            row = {**row, **ended[name]}

        assert {field: shown[field] for field in row if field not in changing} == {
            field: row[field] for field in row if field not in changing}

    assert old.json("show", "first-block")["expression"] == "*/5 * * * *"
    # What was renamed is shown under its present name.
    names = {re.sub(r"[^A-Za-z0-9_.-]", "_", name): name for name in before}
    written = [{**line, "command": names[file.stem]} for file in (old.home / "logs").glob("*.jsonl")
               for line in old.history(file.stem)]
    told = old.json("logs", "--limit", "1000")
    assert sorted(map(json.dumps, written)) == sorted(map(json.dumps, told)) and len(told) > 8
    assert {line["status"] for line in told} == {"success", "failed", "interrupted", "skipped", "rejected"}
    assert old.json("next", "app:report", "--from", "2027-01-01T00:00:00Z", "--count", "1") == [
        "2027-01-01T03:00:00+01:00"]
    assert old.json("status")["tasks"] == len(before)
    assert old.json("config", "get", "timezone") == "Europe/Paris"
    assert {"greet", "hello", "backup"} <= {row["name"] for row in old.json("commands")}
    assert [line["slug"] for line in json.loads((old.home / "refused.json").read_bytes())] == ["9" * 32]
    assert len(old.claims()) == len(DEAD) + 1 and old.state() == before


@pytest.mark.parametrize("door", DOORS)
def test_an_old_url_runs_its_task_once(old: Outside, door: str) -> None:
    before = old.history("app_report")
    answer = call(old, door, "app:report")
    assert answer.code == 202 and answer.document["accepted"]
    run = answer.document["run"]
    until(lambda: lines_of(old, "app:report", run), "the line of the run")
    assert [line["status"] for line in lines_of(old, "app:report", run)] == ["success"]
    assert old.history("app_report")[:-1] == before
    until(lambda: old.state()["app:report"]["lastRunId"] == run, "the state of the run")
    assert old.state()["app:report"]["kept"] == "a field of somebody else"


@pytest.mark.parametrize("door", DOORS)
def test_a_status_url_tells_how_it_went(old: Outside, door: str) -> None:
    row = old.state()["fails"]
    answer = getattr(old, door)(old.request(f"/status/{row['slug']}",
                                            f"sig={signature(row['secret'], 'status:' + row['slug'])}"))
    assert (answer.code, answer.document["lastRunStatus"]) == (503, "failed")


@pytest.mark.parametrize("way", [*DOORS, "run", "doctor"])
@pytest.mark.parametrize("name", DEAD)
def test_a_dead_run_is_recorded_exactly_once(old: Outside, name: str, way: str) -> None:
    """By whatever comes first, with the outcome that its claim holds, and never by what comes second."""
    claim = next(old.home.joinpath("runs").glob(f"{name.replace(':', '_')}@*"))
    run = claim.name.partition("@")[2]
    assert len(lines_of(old, name, run)) == (name == "dead:written")

    for _ in range(2):
        if way in DOORS:
            assert call(old, way, name).document["run"]
        else:
            old.cli(*(["run", name] if way == "run" else ["doctor", "--offline"]))

        until(lambda: not list(old.home.joinpath("runs").glob(f"{name.replace(':', '_')}@*")), "the end of its runs")

    (line,) = lines_of(old, name, run)
    assert (line["status"], line["reason"]) == DEAD[name]
    assert line["output"] == ("begun\n" if name == "dead:unsaid" else "said\n")
    assert len(old.history(name.replace(":", "_"))) == (3 if way != "doctor" else 1)


@pytest.mark.parametrize("door", DOORS)
def test_a_live_run_locks_its_task_and_is_recorded_when_it_is_dead(old: Outside, door: str) -> None:
    with alive(old, "live") as claim:
        run = claim.name.partition("@")[2]
        assert call(old, door, "live").document == {
            "accepted": True, "run": None, "status": "skipped", "reason": "locked"}
        assert [row["name"] for row in old.json("status")["running"]] == ["live"]
        assert old.cli("run", "live").status == 1
        assert old.cli("rename", "live", "other").status == 2
        assert old.cli("remove", "live", "--yes").status == 2
        old.cli("doctor", "--offline")
        assert claim.exists() and not lines_of(old, "live", run)

    assert call(old, door, "live").document["run"]
    until(lambda: len(old.history("live")) == 3, "the line of the run after it")  # with that of the skip
    (line,) = lines_of(old, "live", run)
    assert (line["status"], line["reason"]) == ("interrupted", "found_dead")


@pytest.mark.parametrize("door", DOORS)
def test_the_rate_limit_counts_from_the_last_start(old: Outside, door: str) -> None:
    """The start is moved to now: the one that the gate's record holds is long ago."""
    gate = old.home / "locks" / "seldom.lock"
    start, rest = gate.read_text().split(" ", 1)
    assert float(start) > 1.79e9
    gate.write_text(f"{time.time():.6f} {rest}")
    assert call(old, door, "seldom").document == {"accepted": False}
    assert [line["reason"] for line in old.history("seldom")][-1] == "rate_limited"
    assert old.cli("run", "seldom").status == 0


@pytest.mark.parametrize("door", DOORS)
def test_what_was_signed_for_a_time_is_not_taken_twice(old: Outside, door: str) -> None:
    """Also where the task was renamed since. The mark is moved to now: one from then is out of the window anyway."""
    row, now = old.state()["renamed"], int(time.time())
    gate = old.home / "locks" / "renamed.lock"
    start, mark, rest = gate.read_text().split(" ", 2)
    assert f"ts={mark}&" in URLS["renamed"]
    gate.write_text(f"{start} {now} {rest}")

    def at(ts: int) -> Answer:
        sig = signature(row["secret"], f"{row['slug']}.{ts}")
        answer: Answer = getattr(old, door)(old.request(f"/run/{row['slug']}", f"ts={ts}&sig={sig}"))
        return answer

    runs = len(old.history("renamed"))
    assert at(now).document == at(now - 1).document == call(old, door, "renamed").document == {"accepted": False}
    assert at(now + 1).document["accepted"]
    assert at(now + 1).document == {"accepted": False}
    until(lambda: len(old.history("renamed")) > runs, "the line of the run")
    assert len(old.history("renamed")) == runs + 1


@pytest.mark.parametrize("door", DOORS)
def test_its_people_sign_in_with_their_passwords(old: Outside, door: str) -> None:
    audit, key = (old.home / "audit.jsonl").read_bytes(), (old.home / "session.key").read_bytes()
    wrong = old.sign_in(getattr(old, door), OWNER, PASSWORD + "!")
    right = old.sign_in(getattr(old, door), OWNER, PASSWORD)
    assert wrong.code == 403
    assert (right.code, right.header("Location")) == (303, "/cgi-bin/webscheduler.cgi/admin/")
    assert (old.home / "audit.jsonl").read_bytes().startswith(audit) and (old.home / "session.key").read_bytes() == key


def test_it_can_be_changed(old: Outside) -> None:
    """Each task can be edited, rotated, renamed and removed, but for the one that nobody else may be named after."""
    before = old.state()

    for name in before:
        command = ["--command", "hello"] if name == "first-block" else []  # it has none, and so is not sound yet
        assert old.cli("edit", name, "--priority", "5", *command).status == 0
        assert old.cli("rotate-secret", name).status == 0

        if name != "@due":
            assert old.cli("rename", name, f"new {name}").status == 0

    assert old.cli("import", "json", str(VECTORS / "home" / "state.json"), "--dry-run").status == 0
    after = old.state()
    assert set(after) == {name if name == "@due" else f"new {name}" for name in before}
    assert all(len(row["slug"]) == 32 for row in after.values())
    assert old.cli("remove", "new fails", "--yes").status == 0
    assert old.json("status")["tasks"] == len(before) - 1
    assert old.cli("init").status == 0


# How it was made


def make(folder: Path) -> None:  # noqa: C901 (a story, told in its order)
    """Make the home with the code of 0.1.0."""
    library = unpack("0.1.0", folder / "site")
    urls = {}

    with installed(folder / "home", library, library / "cgi-bin" / "webscheduler.cgi") as home:

        def done(*words: str, status: int = 0, given: str = "") -> str:
            ended = home.cli(*words, given=given)
            assert ended.status == status, ended.err
            return ended.out

        def add(name: str, *words: str, options: tuple[str, ...] = ()) -> None:
            done("add", name, "--cwd", "/", "--strategy", "fork", *options, "--", *words)
            urls[name] = home.json("url", name)["url"]

        def claim_of(name: str) -> Path:
            return next(home.home.joinpath("runs").glob(f"{name.replace(':', '_')}@*"))

        def begin(name: str) -> Path:
            """Start a run that waits, and let its command begin."""
            assert home.cgi(home.of_url(urls[name])).document["run"]

            def begun() -> bool:
                claim = claim_of(name)
                log = home.home / "output" / f"{claim.name.partition('@')[2]}.log"
                return b'"command": [' in claim.read_bytes() and log.exists() and log.read_text() == "begun\n"

            until(begun, "the command")
            return claim_of(name)

        for setting, value in (("logRetentionDays", "36500"), ("name", "An old home"),
                               ("commands", '{"backup": {"argv": ["/bin/echo", "backup"], "arguments": true}}')):
            done("config", "set", setting, value)

        home.home.joinpath("commands", "greet.sh").write_text("echo greetings\n")
        home.home.joinpath("commands", "greet.sh").chmod(0o600)
        done("sync")
        never = folder / "never"
        add("app:report", "/bin/sh", "-c", "echo report", options=("--cron", "0 3 * * *", "--group", "reports"))
        add("fails", "/bin/sh", "-c", "echo out; echo err >&2; exit 7", options=("--every", "3600", "--retries", "1"))
        add("seldom", "true", options=("--min-interval-seconds", "3600"))
        add("elsewhere", "true", options=("--ip-allowlist", "203.0.113.0/24"))
        add("killed", *waits_for(never))
        add("live", *waits_for(never))
        add("dead:unsaid", *waits_for(never))
        add("dead:said", "/bin/echo", "said")
        add("dead:written", "/bin/echo", "said")
        done("add", "greets", "--command", "hello", "--arguments", "'all of' you", "--every", "86400")
        urls["greets"] = home.json("url", "greets")["url"]
        done("add", "off", "--disabled", "--command", "backup", "--title", "Switched off")
        urls["off"] = home.json("url", "off")["url"]
        urls["greet"] = home.json("url", "greet")["url"]
        urls["@due"] = home.json("url", "@due")["url"]
        done("add", "old:name", "--cwd", "/", "--strategy", "fork", "--signature", "timed", "--", "true")
        urls["renamed"] = home.json("url", "old:name", "--timed")["url"]
        home.write_task("first-block", enabled=False, expression="*/5 * * * *", intervalSeconds=None, lastRunAt=None,
                        lastRunDuration=None, lastRunStatus=None, lastRunExitCode=None, nextRunAt=None,
                        preventOverlap=True, priority=100, timeout=None, arguments="")
        row = home.state()["app:report"]
        home.write_task("app:report", **row, kept="a field of somebody else")

        # Runs that ended as they should, and calls that ran nothing.
        for name in ("app:report", "app:report", "fails", "seldom", "renamed", "off", "elsewhere"):
            home.cgi(home.of_url(urls[name]))
            home.idle()

        done("run", "fails", status=1)
        done("run", "greets")
        done("rename", "old:name", "renamed")
        home.cgi(home.request("/run/" + "9" * 32, "sig=" + "0" * 64))

        # One that was killed and recorded: it tells what this host lets live.
        begin("killed")
        home.end()
        never.touch()
        home.cgi(home.of_url(urls["killed"]))
        home.idle()
        never.unlink()

        # Two that could not write their line: the outcome stands in the claim. One was killed after it had.
        for name in ("dead:written", "dead:said"):
            history = home.home / "logs" / f"{name.replace(':', '_')}.jsonl"
            history.mkdir()
            home.cgi(home.of_url(urls[name]))
            until(lambda name=name: b'"outcome"' in claim_of(name).read_bytes(), "the outcome")
            home.gone()
            history.rmdir()

            if name == "dead:written":
                claim = claim_of(name)
                content = claim.read_bytes()
                home.cli("doctor", "--offline")
                assert not claim.exists() and history.exists()
                claim.write_bytes(content)

        # Two that were killed.
        begin("live")
        begin("dead:unsaid")
        home.end()
        done("set-password", OWNER, given=PASSWORD + "\n")
        assert home.sign_in(home.cgi, OWNER, PASSWORD + "?").code == 403
        assert home.sign_in(home.cgi, OWNER, PASSWORD).code == 303

        for number, claim in enumerate(home.claims()):
            text, count = re.subn(r'("(?:starter|supervisor|command)": )\[\d+, ', rf"\1[{NOBODY + number}, ",
                                  claim.read_text())
            assert count >= 3
            claim.write_text(text)

        for path in home.home.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes().replace(str(never).encode(), b"/"))  # there: from now on it ends

        shutil.copytree(home.home, VECTORS / "home", ignore=shutil.ignore_patterns(".gitignore", ".*.lock", "*.tmp"))
        (VECTORS / "home_urls.json").write_text(json.dumps(urls, indent=1) + "\n")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    shutil.rmtree(VECTORS / "home", ignore_errors=True)

    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory))
