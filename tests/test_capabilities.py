# SPDX-License-Identifier: LGPL-3.0-or-later
"""What `auto` is chosen from: what was seen, by probes on real servers and by runs that died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import pytest

from tests import SCRIPT
from tests.commandline import call
from tests.installation import Installation, until
from tests.processes import has_locks
from tests.servers import KINDS, Kind, Server, as_user, give, keeper, python, start, workplace
from webscheduler import __version__, editing, signing
from webscheduler.host import doctor, probe
from webscheduler.host.home import create_home
from webscheduler.runs import dead_runs, probes
from webscheduler.store import capabilities, locks, processes, state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import new_task
from webscheduler.times import format_time

NOW = 1_800_000_000.0
DAY = 86400.0
APPLICATION = "from webscheduler.wsgi import application\n"


def result(lived: float = 10.0, ended: str = "finished", age: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"at": format_time(NOW - age), "package": __version__, "seconds": 10, "lived": lived, "ended": ended,
            "held": False, "answer": {"status": 202, "seconds": 0.1}, **more}  # fmt: skip


def order(home: str, kind: str, wanted: str, timeout: float, now: float) -> list[str]:
    return capabilities.order(capabilities.expect(kind, capabilities.read(home, kind, now)), wanted, timeout)


def elect(home: str, kind: str, timeout: float, now: float) -> list[str]:
    return order(home, kind, "auto", timeout, now)


def died(after: float, age: float = 0.0) -> dict[str, Any]:
    return {"at": format_time(NOW - age), "after": after, "run": "r"}


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("cgi/apache", ["fork", "sync"]),
        ("cgi/lighttpd", ["fork", "sync"]),
        ("cgi/nginx", ["fork", "close", "sync"]),
        ("cgi/litespeed", ["fork", "sync"]),
        ("wsgi/passenger", ["fork", "close", "sync"]),
        ("wsgi/unknown", ["fork", "close", "sync"]),
    ],
)
def test_without_a_probe_the_kind_decides(tmp_path: Path, kind: str, chosen: list[str]) -> None:
    """Where nothing was seen, detaching is tried first, and a script goes on after its response only under nginx."""
    assert elect(str(tmp_path), kind, 300, NOW) == chosen


@pytest.mark.parametrize(
    ("rows", "timeout", "chosen"),
    [
        # A ten-minute task never gets what was seen to die after a minute, as long as something carries more.
        ({"fork": result(60.0, "SIGTERM"), "close": result(600.0, seconds=600)}, 599, "close"),
        ({"fork": result(60.0, "SIGTERM"), "close": result(600.0, seconds=600)}, 30, "fork"),
        ({"fork": result(3.0, "SIGTERM")}, 30, "close"),
        # Nor as long as nobody saw another end; a request is taken to live a minute where nobody looked.
        ({"fork": result(60.4, "SIGTERM"), "close": result(held=True)}, 600, "sync"),
        ({"fork": result(60.4, "SIGTERM"), "close": result(held=True), "sync": result(59.0, "killed")}, 600, "fork"),
        ({"fork": result(250.0, "killed")}, 600, "close"),
        # No time limit is longer than all.
        ({"fork": result(500.0, "killed")}, 0, "close"),
        ({"fork": result(500.0, "killed"), "close": result(50.0, "killed")}, 0, "sync"),
        # Where none carries it, the one that carried longest.
        ({"fork": result(90.0, "killed"), "close": result(20.0, "killed"), "sync": result(9.0, "killed")}, 600, "fork"),
        ({"fork": result(1.0, "killed"), "close": result(20.0, "killed"), "sync": result(30.0, "killed")}, 600, "sync"),
        # An answer that waits for the job has nothing over `sync`.
        ({"fork": result(0.0, "killed"), "close": result(held=True)}, 5, "sync"),
        ({"fork": result(0.0, "the host gave no process"), "close": result(0.0, "killed")}, 5, "sync"),
    ],
)  # fmt: skip
def test_what_was_seen_decides(tmp_path: Path, rows: dict[str, Any], timeout: float, chosen: str) -> None:
    """The first strategy that carries the time limit is elected, else the one that carried longest."""
    home = str(tmp_path)
    capabilities.store_probe(home, "wsgi/x", rows)
    assert elect(home, "wsgi/x", timeout, NOW)[0] == chosen
    assert elect(home, "wsgi/y", timeout, NOW)[0] == "fork", "another kind of server is another host"


@pytest.mark.parametrize("stale", [{"age": 30 * DAY}, {"package": "0.0.1"}])
def test_results_expire(tmp_path: Path, stale: dict[str, Any]) -> None:
    """A probe counts for 30 days and for the version that made it."""
    home = str(tmp_path)
    capabilities.store_probe(home, "cgi/x", {"fork": result(0.0, "killed")})
    assert elect(home, "cgi/x", 5, NOW) == ["sync"]
    capabilities.store_probe(home, "cgi/x", {"fork": result(0.0, "killed", **stale)})
    assert elect(home, "cgi/x", 5, NOW) == ["fork", "sync"]


def test_close_under_cgi_needs_to_be_seen(tmp_path: Path) -> None:
    """An unknown server lets a script go on after its response once a probe saw it; Apache and lighttpd never do."""
    home = str(tmp_path)

    for kind in ("cgi/x", "cgi/apache", "cgi/lighttpd"):
        capabilities.store_probe(home, kind, {"close": result()})

    assert "close" in elect(home, "cgi/x", 5, NOW)
    assert order(home, "cgi/x", "close", 5, NOW) == ["close", "sync"]
    assert order(home, "cgi/apache", "close", 5, NOW) == ["sync"]
    assert order(home, "cgi/lighttpd", "fork", 5, NOW) == ["fork", "sync"]


def claim(run: str = "r", **more: Any) -> Any:
    return {"server": "wsgi/x", "strategy": "fork", "run": run, "name": "task",
            "startedAt": format_time(NOW + 10 * DAY), **more}  # fmt: skip


def test_one_death_lowers_nothing_and_two_do_for_a_month(tmp_path: Path) -> None:
    """A run may die of anything. With a second one, both of which died within so many seconds, no run is expected to
    survive longer, until one of them is forgotten."""
    home = str(tmp_path)

    def elected(now: float, timeout: float = 300) -> str:
        return elect(home, "wsgi/x", timeout, now)[0]

    capabilities.record_death(home, claim("a"), 20.0, NOW)
    assert elected(NOW) == "fork"
    capabilities.record_death(home, claim("b"), 5.0, NOW + 3 * DAY)
    assert elected(NOW + 3 * DAY) == "close"
    assert [elected(NOW + 3 * DAY, timeout) for timeout in (19, 20)] == ["fork", "close"]
    assert elected(NOW + 29 * DAY) == "close"
    assert elected(NOW + 30 * DAY) == "fork"


@pytest.mark.parametrize(
    ("later", "second", "known", "lowered"),
    [
        (5.0, claim("b", startedAt=format_time(NOW - 50)), True, False),  # all that ran at this moment
        (100.0, claim("b", startedAt=format_time(NOW - 50)), True, True),  # died later
        (100.0, claim("b", startedAt=format_time(NOW - 50)), False, False),  # found later
        (5.0, claim("b", startedAt=format_time(NOW)), True, True),  # began after that
        (5.0, claim("b", startedAt=format_time(NOW)), False, True),
        (DAY, claim("a", startedAt=format_time(NOW - 50)), True, False),  # the same one, once more
    ],
)  # fmt: skip
def test_a_second_death_of_the_same_cause(
    tmp_path: Path, later: float, second: dict[str, Any], known: bool, lowered: bool
) -> None:
    """What kills one run may kill all that live then: that is one death."""
    home = str(tmp_path)
    capabilities.record_death(home, claim("a", startedAt=format_time(NOW - 60)), 60.0, NOW)
    capabilities.record_death(home, second, 20.0, NOW + later, known)
    assert (elect(home, "wsgi/x", 300, NOW + later)[0] != "fork") is lowered


def test_what_a_death_does_not_show(tmp_path: Path) -> None:
    """A run that began before the machine did, or that came through no server, shows nothing. What a probe's job
    survived is expected to be survived, and a probe that outlives the deaths clears them."""
    home = str(tmp_path)
    capabilities.record_death(home, claim(startedAt="2001-01-01T00:00:00Z"), 1.0, time.time())
    capabilities.record_death(home, claim(server=None), 1.0, NOW)
    assert capabilities.kinds(home) == []

    capabilities.store_probe(home, "wsgi/x", {"fork": result(10.0)})

    for number in range(4):
        capabilities.record_death(home, claim(str(number)), 3.0, NOW + number)

    assert [elect(home, "wsgi/x", timeout, NOW + 4)[0] for timeout in (9, 10, 300)] == ["fork", "close", "close"]
    capabilities.store_probe(home, "wsgi/x", {"fork": result(10.0)})
    assert elect(home, "wsgi/x", 300, NOW + 100)[0] == "fork"


def test_what_runs_survived_is_expected_again(tmp_path: Path) -> None:
    """The longest one counts, for a month, until a probe shows the contrary; short ones and those of probes are not
    noted, and nothing is written for one that shows nothing new."""
    home = str(tmp_path)
    capabilities.record_end(home, claim(), 9.0, NOW)
    capabilities.record_end(home, claim(name="probe-fork"), 100.0, NOW)
    assert capabilities.kinds(home) == []

    capabilities.record_end(home, claim(), 100.0, NOW)
    written = (tmp_path / "capabilities.json").stat().st_mtime_ns
    capabilities.record_end(home, claim(), 120.0, NOW + DAY)
    assert (tmp_path / "capabilities.json").stat().st_mtime_ns == written
    assert elect(home, "wsgi/x", 300, NOW)[0] == "fork"

    for number in range(2):
        capabilities.record_death(home, claim(str(number)), 3.0, NOW + DAY + number)

    assert [elect(home, "wsgi/x", timeout, NOW + 2 * DAY)[0] for timeout in (99, 100)] == ["fork", "close"]
    assert elect(home, "wsgi/x", 4, NOW + 30 * DAY)[0] == "close"
    capabilities.record_end(home, claim(), 20.0, NOW + 30 * DAY)
    assert elect(home, "wsgi/x", 4, NOW + 30 * DAY)[0] == "fork"
    capabilities.store_probe(home, "wsgi/x", {"fork": result(2.0, "killed", age=-30 * DAY)})
    assert elect(home, "wsgi/x", 4, NOW + 30 * DAY)[0] == "close"


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    """One death that lowered `fork` lowers nothing any more."""
    home = str(tmp_path)
    (tmp_path / "capabilities.json").write_text(json.dumps({"version": 1, "servers": {"wsgi/x": {
        "fork": {"deaths": [{"at": format_time(NOW), "after": 3.0, "run": "r"}]}}}}))
    assert elect(home, "wsgi/x", 300, NOW) == ["fork", "close", "sync"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"servers": {"wsgi/x": []}}', '{"servers": {"wsgi/x": {"fork": 1}}}',
                                  '{"servers": {"wsgi/x": {"fork": {"probe": {"lived": "x"}}}}}'])  # fmt: skip
def test_a_file_that_makes_no_sense_means_nothing_is_known(tmp_path: Path, text: str) -> None:
    """A capabilities.json that was damaged stops no run."""
    (tmp_path / "capabilities.json").write_text(text)
    assert elect(str(tmp_path), "wsgi/x", 300, NOW) == ["fork", "close", "sync"]


def test_the_choice_is_explained(tmp_path: Path) -> None:
    """Each strategy gets a sentence with what was seen of it, after one that says what is chosen."""
    home = str(tmp_path)
    capabilities.store_probe(home, "cgi/x", {"fork": result(3.0, "SIGTERM"), "sync": result()})
    said = list(doctor.explain("cgi/x", capabilities.read(home, "cgi/x", NOW), 300))
    sentences = [each.text() for each in said]
    assert sentences[0] == "on cgi/x `auto` chooses sync for runs of up to 300 s"
    assert [each.about for each in said] == ["server", "fork", "close", "sync"]
    assert "ended after 3 s" in sentences[1] and "SIGTERM" in sentences[1]


def test_a_probe_that_reaches_nothing_says_so(installation: Installation) -> None:
    """Where the URL leads elsewhere the probe fails in one line, and leaves no task and no result."""
    from webscheduler.errors import BadInput
    from webscheduler.store.settings import load_settings

    with pytest.raises(BadInput, match=r"did not reach the scheduler: no answer, .*refused: is the address right"):
        probe.run(load_settings(str(installation.home)), "http://127.0.0.1:9", 1, time.time, lambda line: None)

    assert list(state.read(str(installation.home))) == ["@due"]
    assert capabilities.kinds(str(installation.home)) == []


def test_the_tasks_of_a_probe_are_in_no_list(installation: Installation) -> None:
    """They are the program's own: neither list, status, exports nor a copy of the tasks shows them while they are
    there, and none comes in from such a copy."""
    installation.configure(baseUrl="http://127.0.0.1:9")
    installation.add("mine")
    home = str(installation.home)
    probe.start(load_settings(home), "http://127.0.0.1:9", 1, time.time())
    rows = state.read_strictly(home)
    installation.edit("probe-fork", lastRunStatus="failed")
    assert len([name for name in rows if name.startswith("probe-")]) == 3

    for words in (["list"], ["list", "--json"], ["status"], ["status", "--json"], ["export", "json"],
                  ["export", "crontab"], ["export", "systemd"], ["export", "kubernetes"]):
        done = call(installation.home, *words)
        assert "probe-" not in done.out + done.err, words

    assert call(installation.home, "status", "--json").document["tasks"] == 2
    assert "no task is in group" in call(installation.home, "enable", "--group", "@probe").complaint
    assert installation.wsgi(installation.asking_status("@due")).document["status"] == "healthy"
    file = installation.home.parent / "old.json"
    file.write_text(json.dumps({"probe-fork": rows["probe-fork"], "new": {"command": "hello"}}))
    assert call(installation.home, "import", str(file)).out == "new: no schedule, disabled\n1 task imported\n"
    probes.stop(home, time.time())
    assert sorted(state.read_strictly(home)) == ["@due", "mine", "new"]


def test_a_task_of_the_probes_name_stays(installation: Installation) -> None:
    """A probe touches no task of the user that happens to be named as one of its own."""
    from webscheduler.errors import BadInput
    from webscheduler.store.settings import load_settings

    installation.add("probe-fork")
    before = state.read(str(installation.home))

    with pytest.raises(BadInput, match="rename"):
        probe.start(load_settings(str(installation.home)), "http://127.0.0.1:9", 1, time.time())

    assert state.read(str(installation.home)) == before


def test_a_due_run_that_died_counts_for_the_server_of_its_tick(installation: Installation) -> None:
    """What a tick starts lives or dies by the strategy of the tick; a death found later is remembered of its server."""
    installation.add("task", ["/bin/sh", "-c", "kill -9 $PPID; exec sleep 60"], intervalSeconds=1)
    assert installation.trigger("cgi", "@due", SERVER_SOFTWARE="Apache/2.4.59 (Debian)").status == 202
    home = str(installation.home)  # it may kill its supervisor before that has named it in the claim
    facts = until(lambda: next((each for each in processes.live_runs(home, "task") if "command" in each), None))
    until(lambda: not locks.alive(facts["supervisor"]), "the death of its supervisor")
    os.killpg(facts["command"][0], signal.SIGKILL)
    until(lambda: not locks.alive(facts["command"]), "the end of the command")

    dead_runs.record_dead_runs(str(installation.home), "task", time.time())
    assert [line["status"] for line in installation.runs()] == ["interrupted"]
    assert [len(row["deaths"]) for row in capabilities.read(home, "cgi/apache", time.time()).values()] == [1]
    assert elect(home, "cgi/apache", 300, time.time()) == ["fork", "sync"]


def test_a_supervisor_that_is_killed_changes_the_strategy_of_nothing(installation: Installation) -> None:
    """Once, it was an administrator or a lack of memory. If another run dies as well, `auto` takes what was not seen to
    end; what asks for `fork` gets it."""
    apache = {"SERVER_SOFTWARE": "Apache/2.4.59 (Debian)"}
    installation.add(argv=["sleep", "60"], strategy="auto")
    taken = []

    for _ in range(2):
        taken.append(installation.trigger("cgi", **apache).document["strategy"])
        facts = installation.command_runs()
        os.kill(facts["supervisor"][0], signal.SIGKILL)
        os.kill(facts["command"][0], signal.SIGKILL)
        until(lambda facts=facts: not any(locks.alive(facts[who]) for who in ("supervisor", "command")))

    installation.edit(argv=["true"])
    installation.add("other", strategy="auto")
    installation.add("asks", strategy="fork")
    taken += [installation.trigger("cgi", name, **apache).document["strategy"] for name in ("task", "other", "asks")]
    assert taken == ["fork", "fork", "sync", "sync", "fork"]
    assert [line["status"] for line in installation.runs()] == ["interrupted", "interrupted", "success"]
    said = [each.text() for each in doctor.examine(str(installation.home), time.time())]
    assert len([text for text in said if text.startswith("runs that died under fork on cgi/apache: 2")]) == 1


def test_a_long_run_that_died_twice_is_not_left_to_what_dies_each_time(tmp_path: Path) -> None:
    """Nothing carries ten minutes: a request was seen to end after one, so the strategy that lived longer is taken."""
    home = str(tmp_path)

    for number in range(2):
        capabilities.record_death(home, claim(str(number), strategy="sync"), 60.0, NOW + number)

    assert elect(home, "wsgi/x", 600, NOW + 2)[0] == "fork"

    for number in range(2):
        capabilities.record_death(home, claim(str(number), strategy="close"), 60.0, NOW + number)
        capabilities.record_death(home, claim(str(number)), 200.0, NOW + number)

    assert elect(home, "wsgi/x", 600, NOW + 2)[0] == "fork"
    assert [elect(home, "wsgi/x", timeout, NOW + 2)[0] for timeout in (199, 59)] == ["fork", "fork"]


# On real servers


class Site:
    """An installation served by a real server."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self.kind, self.home = kind, directory / "home"
        create_home(str(self.home), time.time())
        give(self.home, kind.user)
        self.file = SCRIPT

        if kind.family == "wsgi":
            self.file = directory / "application.py"
            self.file.write_text(APPLICATION)

        self.env = {"WEBSCHEDULER_HOME": str(self.home)}

    def add(self, name: str, argv: list[str], **fields: Any) -> None:
        row = new_task(time.time(), {"enabled": True, "argv": argv, "cwd": "/", **fields})
        state.update(str(self.home), lambda tasks: tasks.update({name: row}))
        give(self.home, self.kind.user)

    def trigger(self, server: Server, name: str) -> dict[str, Any]:
        task = editing.with_keys(str(self.home), name)
        url = signing.trigger_url(server.url, task["slug"], task["secret"])

        with urllib.request.urlopen(url, timeout=60) as answer:
            return dict(json.load(answer))

    def probe(self, server: Server, seconds: int) -> dict[str, Any]:
        """`webscheduler probe`, as the user of the server; what capabilities.json has for it."""
        words = [python(), "-m", "webscheduler", "probe", "--seconds", str(seconds), "--base", server.url]
        done = subprocess.run(words, env={**self.env, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
                              timeout=120, **as_user(self.kind.user))  # fmt: skip
        assert done.returncode == 0, done.stderr
        (rows,) = json.loads((self.home / "capabilities.json").read_text())["servers"].values()
        return dict(rows)


@contextmanager
def killer(doomed: Callable[[], Container[int]], home: Path) -> Iterator[None]:
    """A host that kills each process of the installation that is `doomed` at two looks in a row."""
    end = threading.Event()
    needle = os.fsencode(home)

    def ours(pid: int) -> bool:
        try:
            return needle in Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def look() -> None:
        before: set[int] = set()

        while not end.wait(0.05):
            now = doomed()
            seen = {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid in now and ours(pid)}

            for pid in seen & before:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

            before = seen

    thread = threading.Thread(target=look)
    thread.start()

    try:
        yield
    finally:
        end.set()
        thread.join()


def left(server: Server) -> set[int]:
    """The processes that left the server."""
    return {*server.processes()} - {server.pid, *keeper.descendants(server.pid)}


def test_a_host_that_kills_detached_processes() -> None:
    """Where processes that left the server are killed, a probe sees it, `auto` takes another strategy, and the run
    goes to its end."""
    kind = KINDS["apache-cgid"]

    with workplace(kind) as directory:
        site = Site(kind, directory)
        site.add("task", ["/bin/sh", "-c", "sleep 1; echo done"])

        with start(kind, directory, site.file, env=site.env) as server:

            with killer(lambda: left(server), site.home):
                rows = site.probe(server, 2)
                assert rows["fork"]["probe"]["ended"] != "finished"
                assert rows["fork"]["probe"]["lived"] < 2
                assert rows["sync"]["probe"]["ended"] == "finished"
                answer = site.trigger(server, "task")

            assert (answer["strategy"], answer["status"]) == ("sync", "success")


def test_runs_that_died_lead_away_too() -> None:
    """Without any probe, two detached runs that are killed show what the host does: the next goes otherwise."""
    kind = KINDS["apache-cgid"]

    with workplace(kind) as directory:
        site = Site(kind, directory)
        site.add("task", ["/bin/sh", "-c", "sleep 5; echo done"])

        with start(kind, directory, site.file, env=site.env) as server:

            def doomed() -> set[int]:
                named = all("supervisor" in facts for facts in processes.live_runs(str(site.home)))
                return left(server) if named else set()  # a run that dies before it begins shows nothing

            with killer(doomed, site.home):
                for _ in range(2):
                    assert site.trigger(server, "task")["strategy"] == "fork"
                    until(lambda: not has_locks(site.home), "the death of the run")

                answer = site.trigger(server, "task")

            assert (answer["strategy"], answer["status"]) == ("sync", "success")


def test_a_host_that_kills_scripts_after_their_response() -> None:
    """Where a script may not go on after its response, though nginx lets it elsewhere, `close` is not taken."""
    kind = KINDS["nginx-fcgiwrap"]

    with workplace(kind) as directory:
        site = Site(kind, directory)
        site.add("task", ["true"], strategy="close")

        with start(kind, directory, site.file, env=site.env) as server:
            assert site.trigger(server, "task")["strategy"] == "close"
            until(lambda: not os.listdir(site.home / "runs"), "the end of the run")

            def goes_on(pid: int) -> bool:
                try:
                    parents = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    return (any(word.endswith(b"webscheduler.cgi") for word in words)
                            and os.readlink(f"/proc/{pid}/fd/1") == os.devnull
                            and int(parents[3]) != pid and int(parents[1]) in server.processes()
                            and Path(f"/proc/{parents[1]}/comm").read_text().startswith("fcgiwrap"))  # fmt: skip
                except OSError:
                    return False

            with killer(lambda: set(filter(goes_on, server.processes())), site.home):
                rows = site.probe(server, 2)
                assert rows["close"]["probe"]["ended"] != "finished"
                assert rows["fork"]["probe"]["ended"] == "finished"
                assert site.trigger(server, "task")["strategy"] == "sync"
