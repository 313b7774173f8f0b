# SPDX-License-Identifier: LGPL-3.0-or-later
"""What `doctor` finds: each fault by one line that says what to do, and nothing where all is well."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import SCRIPT
from tests.commandline import call, environment
from tests.installation import Installation, until, waits_for
from tests.servers import KINDS, as_user, give, python, start, workplace
from webscheduler.host import doctor, url_check
from webscheduler.host.findings import ERROR, OK, WARNING, Finding
from webscheduler.store import capabilities
from webscheduler.store.settings import load_settings
from webscheduler.times import format_time


def examine(installation: Installation, now: float | None = None) -> list[Finding]:
    return doctor.examine(str(installation.home), time.time() if now is None else now)


def wrong(found: list[Finding]) -> list[str]:
    return [f"{finding.about}: {finding.text()}" for finding in found if finding.state == ERROR]


def test_a_sound_installation(installation: Installation) -> None:
    """There is no error; each finding is one line; the state is as it was."""
    installation.add()
    before = (installation.home / "state.json").read_bytes()
    found = examine(installation)
    assert wrong(found) == []
    assert {"home", "disk", "clock", "python", "locks", "tasks", "runs", "ticks"} <= {each.about for each in found}
    assert all("\n" not in each.text() for each in found)
    assert (installation.home / "state.json").read_bytes() == before


def open_file(installation: Installation) -> None:
    (installation.home / "state.json").chmod(0o644)


def open_home(installation: Installation) -> None:
    installation.home.chmod(0o755)


def closed_folder(installation: Installation) -> None:
    (installation.home / "runs").chmod(0o500)


def missing_folder(installation: Installation) -> None:
    (installation.home / "logs").rmdir()


def bad_state(installation: Installation) -> None:
    (installation.home / "state.json").write_text("{")


def bad_setting(installation: Installation) -> None:
    installation.configure(defaultTimeout="long")


def bad_python(installation: Installation) -> None:
    installation.configure(python="/usr/bin/false")


def missing_python(installation: Installation) -> None:
    installation.configure(python="/nowhere/python3")


def bad_zone(installation: Installation) -> None:
    installation.configure(timezone="Mars/Olympus")


def bad_task(installation: Installation) -> None:
    installation.add()
    installation.edit(timeout="long")


def gone_command(installation: Installation) -> None:
    installation.add()
    installation.edit(argv=None, command="app:gone")


def writable_command(installation: Installation) -> None:
    file = installation.home / "commands" / "backup.sh"
    file.write_text("true")
    file.chmod(0o666)


def broken_module(installation: Installation) -> None:
    (installation.home / "commands.json").write_text(json.dumps({"broken": {"shop.tasks": "no module"}}))


def never_a_tick(installation: Installation) -> None:
    installation.add(expression="0 3 * * *")


def no_ticks_at_all(installation: Installation) -> None:
    installation.add(expression="0 3 * * *")
    installation.edit("@due", enabled=False)


def bad_address(installation: Installation) -> None:
    installation.configure(baseUrl="example.org/x.cgi ")


def no_php(installation: Installation) -> None:
    (installation.home / "commands" / "backup.php").write_text("<?php")
    installation.configure(php="/nowhere/php")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (open_file, r"home: .*state\.json.*chmod"),
        (open_home, r"home: .*chmod"),
        (closed_folder, r"home: .*/runs: `chmod -R u\+rwX"),
        (missing_folder, r"home: logs/ .*init"),
        (bad_state, r"files: .*cannot be parsed.*state\.json\.bak"),
        (bad_setting, r"files: .*defaultTimeout.*config set"),
        (bad_python, r"python: /usr/bin/false .*config set python"),
        (missing_python, r"python: /nowhere/python3 .*config set python"),
        (bad_zone, r"settings: .*Mars/Olympus.*config set timezone"),
        (bad_task, r"tasks: .*timeout.*edit"),
        (gone_command, r"tasks: task .*'app:gone'.*remove"),
        (writable_command, r"commands: .*backup\.sh.*chmod"),
        (broken_module, r"commands: shop\.tasks is skipped: no module"),
        (never_a_tick, r"ticks: .*url @due"),
        (no_ticks_at_all, r"ticks: `@due` is disabled.*enable @due"),
        (bad_address, r"settings: baseUrl: 'example.org/x.cgi ' must start with .*config set baseUrl"),
        (no_php, r"commands: /nowhere/php.*config set php"),
    ],
)
def test_finds(installation: Installation, fault: Callable[[Installation], None], said: str) -> None:
    """Each fault is found, by a line with what to do; `doctor` then ends with 1."""
    assert not any(re.search(said, line) for line in wrong(examine(installation)))
    fault(installation)
    lines = wrong(examine(installation))
    assert any(re.search(said, line) for line in lines), lines
    assert all("\n" not in line for line in lines)


def a_state_with_a_copy(installation: Installation) -> None:
    installation.add()
    bad_state(installation)


@pytest.mark.parametrize(("fault", "printed", "typed"), [
    (open_file, "chown -R $(id -u) {home}; chmod -R go-rwx {home}", ""),
    (open_home, "chown -R $(id -u) {home}; chmod -R go-rwx {home}", ""),
    (closed_folder, "chmod -R u+rwX {home}", ""),
    (missing_folder, "webscheduler init", ""),
    (a_state_with_a_copy, "copy state.json.bak over it", "cp {home}/state.json.bak {home}/state.json"),
    (bad_setting, "webscheduler config set defaultTimeout VALUE", "webscheduler config set defaultTimeout 60"),
    (bad_python, "webscheduler config set python PATH", f"webscheduler config set python {sys.executable}"),
    (missing_python, "webscheduler config set python PATH", f"webscheduler config set python {sys.executable}"),
    (bad_zone, "webscheduler config set timezone VALUE", "webscheduler config set timezone UTC"),
    (bad_task, "webscheduler edit task", "webscheduler edit task --timeout 60"),
    (bad_task, "webscheduler remove task", "webscheduler remove task --yes"),
    (gone_command, "webscheduler edit task", "webscheduler edit task --command hello"),
    (gone_command, "webscheduler remove task", "webscheduler remove task --yes"),
    (writable_command, "chmod go-w it", "chmod go-w {home}/commands/backup.sh"),
    (broken_module, "shop.tasks is skipped", "webscheduler sync"),
    (never_a_tick, "webscheduler url @due", "webscheduler run @due"),
    (no_ticks_at_all, "webscheduler enable @due", ""),
    (bad_address, "webscheduler config set baseUrl VALUE", "webscheduler config set baseUrl https://example.org/x"),
    (no_php, "webscheduler config set php PATH", "webscheduler config set php /bin/true"),
])
def test_each_remedy_helps(installation: Installation, tmp_path: Path, fault: Callable[[Installation], None],
                           printed: str, typed: str) -> None:
    """What is printed, typed into a shell with what it leaves open filled in, ends what was found."""
    program, home = tmp_path / "webscheduler", installation.home
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m webscheduler "$@"\n')
    program.chmod(0o755)
    fault(installation)
    (before,) = [line for line in wrong(examine(installation)) if printed.format(home=home) in line][:1]
    variables = {**environment(home), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", (typed or printed).format(home=home)], env=variables, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert before not in wrong(examine(installation))


def test_a_wrong_setting_is_told_with_its_file(installation: Installation) -> None:
    """Wherever it is met: by a command, and by a task that has no time zone of its own, which is not to be edited."""
    installation.add("task", expression="0 3 * * *")
    bad_zone(installation)
    (said,) = [line for line in wrong(examine(installation)) if "Mars" in line]
    assert said.startswith("settings: timezone: 'Mars/Olympus' is not known here")
    assert "config.json: timezone: 'Mars/Olympus' is not known here" in call(installation.home, "run-due").err
    bad_setting(installation)
    said = call(installation.home, "list").complaint
    assert said.startswith(f"{installation.home}/config.json: defaultTimeout: ") and "config set defaultTimeout" in said
    (installation.home / "config.json").write_text("{]")
    said = call(installation.home, "list").complaint
    assert said.startswith(f"{installation.home}/config.json cannot be read: it is not JSON (") and "remove" not in said


@pytest.mark.parametrize(("proxies", "warned"), [
    ([], False), (["unix"], False), (["127.0.0.1", "::1"], False), (["unix", "127.0.0.1"], True)])
def test_warns_of_two_ways_for_a_proxy(installation: Installation, proxies: list[str], warned: bool) -> None:
    """A client of this machine takes the way that the proxy does not take, and is trusted as if it were the proxy."""
    installation.configure(trustedProxies=proxies)
    found = [each.state for each in examine(installation) if "`trustedProxies` has both" in each.message]
    assert found == [WARNING] * warned


def a_failure(installation: Installation) -> None:
    installation.add(argv=["false"])
    installation.trigger()
    installation.idle()


def a_late_task(installation: Installation) -> None:
    installation.add(intervalSeconds=60, lastRunAt=format_time(time.time() - 86400))
    installation.add("other", intervalSeconds=60, lastRunAt=format_time(time.time() - 86400))


@pytest.mark.parametrize(("fault", "how"), [
    (a_failure, "failing"), (a_late_task, "late"), (gone_command, "failing"), (bad_task, "failing")])
def test_status_agrees(installation: Installation, fault: Callable[[Installation], None], how: str) -> None:
    """What one of `doctor` and `status` calls an error of tasks, the other does, too, and both end with 1. Before there
    is one, both end with 0, and no task but ours is counted."""
    assert (call(installation.home, "status").status, call(installation.home, "doctor", "--offline").status) == (0, 0)
    assert "0, all without errors" in {each.text() for each in examine(installation)}
    fault(installation)
    done, checked = call(installation.home, "status"), examine(installation)
    assert done.status == 1 and done.out.startswith(f"{how}: ")
    assert any(each.state == ERROR and each.about in ("tasks", "health") for each in checked)
    assert all(f"error: {each.text()}" in done.out for each in checked if (each.state, each.about) == (ERROR, "tasks"))
    assert call(installation.home, "doctor", "--offline").status == 1


def test_finds_a_home_that_may_be_served(tmp_path: Path) -> None:
    """A home that was moved below a document root is found, though `init` would not have made it there."""
    site = tmp_path / "public_html"
    site.mkdir()
    Installation(tmp_path / "home")
    (tmp_path / "home").rename(site / "home")
    lines = wrong(doctor.examine(str(site / "home"), time.time()))
    assert any(re.search(r"home: it is inside .*public_html.*move it", line) for line in lines), lines


def test_finds_ticks_that_stopped(installation: Installation) -> None:
    """Ticks that used to come every few minutes, and stopped hours ago, are missed."""
    installation.add(expression="0 3 * * *")
    now = time.time()
    lines = [json.dumps({"command": "@due", "run": f"r{n}", "startedAt": format_time(now - 3600 * 10 + n * 300)})
             for n in range(5)]  # fmt: skip
    (installation.home / "logs" / "_due.jsonl").write_text("\n".join(lines) + "\n")
    assert any("ticks: the last one was at" in line for line in wrong(examine(installation)))


def test_finds_a_full_disk(tmp_path: Path) -> None:
    """A file system with hardly a byte left is found, and the rest is looked at all the same."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")

    script = f'mount -t tmpfs -o size=4m n {tmp_path} && "$0" -m webscheduler init >&2 && "$0" -m webscheduler doctor'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, sys.executable], capture_output=True,
                          text=True, env={**os.environ, "WEBSCHEDULER_HOME": str(tmp_path / "home")})  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert re.search(r"^error +disk +\d MiB .*free some space", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ok +runs ", done.stdout, re.MULTILINE)


def test_records_the_dead(installation: Installation) -> None:
    """A run whose processes were killed is in history after `doctor` looked."""
    installation.add(argv=waits_for(installation.home / "never"))
    assert installation.trigger().status == 202
    facts = installation.command_runs()

    for who in ("supervisor", "command"):
        os.kill(facts[who][0], signal.SIGKILL)

    until(lambda: not any(Path(f"/proc/{facts[who][0]}").exists() for who in ("supervisor", "command")), "the death")
    assert any(each.about == "runs" and each.text() == "0 in progress" for each in examine(installation))
    assert [line["status"] for line in installation.runs()] == ["interrupted"]


def test_locks_that_do_not_lock(installation: Installation) -> None:
    """Where a lock held here is free for another process, as on NFS without locking, the home must be moved."""
    other = installation.home.parent / "python3"
    other.write_text(f'#!/bin/sh\ncase "$*" in *try_lock*) echo free;; *) exec {sys.executable} "$@";; esac\n')
    other.chmod(0o755)
    installation.configure(python=str(other))
    assert any(re.search("locks: .*was free while.*local disk", line) for line in wrong(examine(installation)))


@pytest.mark.parametrize("fault", [bad_python, missing_python])
def test_blames_no_lock_for_a_python_that_cannot_run(installation: Installation, fault: Callable[[Any], None]) -> None:
    """What cannot be tried without it is not said: there is one error."""
    fault(installation)
    assert [line.partition(":")[0] for line in wrong(examine(installation))] == ["python"]


def test_explains_the_choice_of_auto(installation: Installation) -> None:
    """What a probe saw is told in words, with one note for all tasks that need more than that."""
    installation.add("long", timeout=600)
    installation.add("longer", timeout=0)
    installation.add("short", timeout=2)
    assert any(each.about == "server" and "webscheduler probe" in each.text() for each in examine(installation))

    died = {"at": format_time(time.time()), "package": capabilities.__version__, "seconds": 10, "lived": 3.0,
            "ended": "SIGTERM", "held": False, "answer": {"status": 202, "seconds": 0.1}}  # fmt: skip
    capabilities.store_probe(str(installation.home), "cgi/apache", {"fork": died})
    found = [each for each in examine(installation) if each.about == "server"]
    assert found[0].text() == "on cgi/apache `auto` chooses sync for runs of up to 300 s"
    assert [each.state for each in found[1:]] == [WARNING]
    assert found[1].text() == (
        "tasks that may run longer than the 3 s that fork survives on cgi/apache: 2, like long; nothing is known to "
        "survive that long, so give them a lower timeout, or split them")
    (fork,) = [each.text() for each in examine(installation) if each.about == "fork"]
    assert fork.startswith("a probe ended after 3 s, ") and "SIGTERM" in fork


def said_of_the_server(installation: Installation) -> list[str]:
    return [each.text() for each in examine(installation) if each.about == "server" and each.state == WARNING]


def test_deaths_are_told_once_with_what_cures_them(installation: Installation) -> None:
    """However many tasks there are; and doing what is said makes it unsaid."""
    home, now = str(installation.home), time.time()
    facts: Any = {"server": "cgi/apache", "strategy": "fork", "name": "task", "startedAt": format_time(now + 99)}

    for number in range(30):
        installation.add(f"task-{number}", strategy="auto", timeout=20)

    capabilities.record_death(home, {**facts, "run": "a"}, 40.0, now)
    assert said_of_the_server(installation) == []
    capabilities.record_death(home, {**facts, "run": "b"}, 3.2, now + 1)
    (said,) = said_of_the_server(installation)
    until = format_time(capabilities.parse_time(format_time(now)) + capabilities.KEPT_SECONDS)
    assert said == (f"runs that died under fork on cgi/apache: 2, so until {until} it is expected to survive 40 s; "
                    "`webscheduler probe --seconds 10` tests whether it survives more")
    seen: Any = {"at": format_time(now), "package": capabilities.__version__, "seconds": 10, "lived": 10.0,
                 "ended": "finished", "held": False, "answer": {"status": 202, "seconds": 0.1}}
    capabilities.store_probe(home, "cgi/apache", {"fork": seen})
    assert said_of_the_server(installation) == []

    for run in "cd":
        capabilities.record_death(home, {**facts, "run": run}, 900.0, now + 2)

    (said,) = said_of_the_server(installation)
    assert said.endswith("survive 900 s")  # a probe is not as long


def test_each_remedy_for_long_tasks_cures(installation: Installation) -> None:
    """Another strategy, a probe that is long enough, or a shorter time limit."""
    home = str(installation.home)

    def probed(strategy: str, lived: float, ended: str = "finished") -> None:
        seen: Any = {"at": format_time(time.time()), "package": capabilities.__version__, "seconds": int(lived),
                     "lived": lived, "ended": ended, "held": False, "answer": {"status": 202, "seconds": 0.1}}
        capabilities.store_probe(home, "cgi/apache", {strategy: seen})

    probed("fork", 10.0)
    installation.add("task", strategy="sync", timeout=500)
    (said,) = said_of_the_server(installation)
    assert said.endswith("`webscheduler edit task --strategy auto` lets them have one that survives")
    installation.edit(strategy="auto")
    assert said_of_the_server(installation) == []

    probed("fork", 3.0, "killed")
    (said,) = said_of_the_server(installation)
    assert said.startswith("tasks that may run longer than the 60 s that sync is expected to survive")
    assert "`webscheduler probe --seconds 501`" in said
    probed("sync", 501.0)
    assert said_of_the_server(installation) == []

    installation.edit(timeout=900)
    (said,) = said_of_the_server(installation)
    assert "no probe is long enough" in said
    installation.edit(timeout=500)
    assert said_of_the_server(installation) == []


def test_tells_of_refusals(installation: Installation) -> None:
    """A mangled paste in a panel shows itself."""
    installation.add()
    environ = installation.signed()
    environ["QUERY_STRING"] = environ["QUERY_STRING"][:-3]
    assert installation.call("cgi", environ).refused
    found = [each for each in examine(installation) if each.about == "refusals"]
    assert [each.state for each in found] == [WARNING]
    assert "192.0.2.1" in found[0].text()


# From outside


@contextmanager
def site(answer: Callable[[str, str], tuple[int, dict[str, str], bytes]],
         posted: tuple[int, dict[str, str], bytes] | None = None) -> Iterator[str]:
    """A web server that answers (path with query, user agent) as told, and a POST with `posted`; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(*answer(self.path, self.headers.get("User-Agent", "")))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(*(posted or answer(self.path, self.headers.get("User-Agent", ""))))

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)

            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)

            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        try:
            yield f"http://127.0.0.1:{server.server_port}/x.cgi"
        finally:
            server.shutdown()
            thread.join()


ACCEPTED = (202, {}, b'{"accepted": false}')
CASES: dict[str, tuple[Callable[[str, str], tuple[int, dict[str, str], bytes]], str]] = {
    "forbidden": (lambda path, agent: (403, {}, b"Forbidden"), "HTTP 403.*chmod 755"),
    "nothing there": (lambda path, agent: (404, {}, b""), "HTTP 404"),
    "broken": (lambda path, agent: (500, {}, b""), "HTTP 500.*first line"),
    "moved": (lambda path, agent: (301, {"Location": "https://example.org/"}, b""), "301 to https://example.org/.*redirect"),
    "not run": (lambda path, agent: (200, {}, b"#!/usr/bin/env python3\n"), "instead of running it"),
    "cannot work": (lambda path, agent: (503, {}, b'{"accepted": false}'), "503.*error log"),
    "no path": (lambda path, agent: ACCEPTED if "?task=" in path else (404, {}, b""), r"\?task=SLUG"),
    "no long path": (lambda path, agent: (403, {}, b"") if "/run/" in path else ACCEPTED, r"\?task=SLUG.*--query"),
    "no long query": (lambda path, agent: (406, {}, b"") if "sig=" in path else ACCEPTED, "the header X-Webscheduler"),
    "not acceptable": (lambda path, agent: (406, {}, b""), "HTTP 406.*ModSecurity"),
    "too many": (lambda path, agent: (429, {}, b""), "HTTP 429.*less often"),
    "bad gateway": (lambda path, agent: (502, {}, b""), "HTTP 502.*application running"),
    "too slow": (lambda path, agent: (504, {}, b""), "HTTP 504.*strategy auto"),
    "at a limit": (lambda path, agent: (508, {}, b""), "HTTP 508.*CloudLinux"),
    "no wget": (lambda path, agent: (406, {}, b"") if "Wget" in agent else ACCEPTED, r"by Wget.*406.*ModSecurity"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_finds_from_outside(installation: Installation, case: str) -> None:
    """Whatever comes back instead of our own answer is told with its likely cause."""
    answer, said = CASES[case]

    with site(answer) as base:
        installation.configure(baseUrl=base)
        lines = wrong(url_check.examine(load_settings(str(installation.home))))

    assert any(re.search(said, line) for line in lines), lines


def test_rules_against_what_a_caller_sends(installation: Installation) -> None:
    """Where only a POST arrives, that is said; a caller that names no user agent may be refused, which is a warning."""

    def rule(path: str, agent: str) -> tuple[int, dict[str, str], bytes]:
        return (403, {}, b"") if not agent else ACCEPTED

    with site(rule) as base:
        installation.configure(baseUrl=base)
        found = url_check.examine(load_settings(str(installation.home)))

    assert [each.state for each in found] == [OK, WARNING, OK]
    assert found[1].text().startswith("calls without a user agent do not arrive (HTTP 403): ")

    with site(lambda path, agent: (406, {}, b""), posted=ACCEPTED) as base:
        installation.configure(baseUrl=base)
        (said,) = wrong(url_check.examine(load_settings(str(installation.home))))

    assert "do not arrive, but others do (HTTP 406): a rule refuses 64 hexadecimal digits in a query: POST the" in said


def test_nothing_to_find_from_outside(installation: Installation) -> None:
    """Where our own answer comes back, there is no error; without a URL there is a warning."""
    assert [each.state for each in url_check.examine(load_settings(str(installation.home)))] == [WARNING]

    with site(lambda path, agent: ACCEPTED if "/run/" in path else (404, {}, b"")) as base:
        installation.configure(baseUrl=base)
        found = url_check.examine(load_settings(str(installation.home)))

    assert {each.state for each in found} == {OK}
    installation.configure(baseUrl="http://127.0.0.1:9/x.cgi")
    assert any("no answer" in line for line in wrong(url_check.examine(load_settings(str(installation.home)))))


def test_on_a_real_server() -> None:
    """`webscheduler doctor` beside a real server calls it, finds all well, and ends with 0."""
    kind = KINDS["apache-cgid"]

    with workplace(kind) as directory:
        installation = Installation(directory / "home")
        give(directory, kind.user)
        env = {"WEBSCHEDULER_HOME": str(installation.home)}

        with start(kind, directory, SCRIPT, env=env) as server:
            installation.configure(baseUrl=server.url)

            for _ in range(2):
                done = subprocess.run([python(), "-m", "webscheduler", "doctor", "--json"], capture_output=True,
                                      text=True, env={**env, "PATH": "/usr/bin:/bin"}, **as_user(kind.user))

            assert not (installation.home / "refused.json").exists()  # its own calls take no place

    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(each["about"] == "refusals" for each in json.loads(done.stdout))
    assert any(each["about"] == "url" and "arrive, in" in each["text"] for each in json.loads(done.stdout))


@pytest.mark.parametrize("path", ["/bin/true", "/bin/sh", "/nowhere/python3", "/usr/bin/env"])
def test_a_python_that_cannot_run_us_is_not_stored(installation: Installation, path: str) -> None:
    """Detached runs would die unseen under it, so it is tried before it becomes the setting, by `init` as well."""
    before = (installation.home / "config.json").read_bytes()

    for words in (["config", "set", "python", path], ["init", "--python", path]):
        done = call(installation.home, *words)
        assert done.status == 2
        assert done.complaint.removeprefix("--").startswith(f"python: {path} ")

    assert (installation.home / "config.json").read_bytes() == before
    assert call(installation.home, "config", "set", "python", sys.executable).status == 0
