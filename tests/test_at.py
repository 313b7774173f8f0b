# SPDX-License-Identifier: LGPL-3.0-or-later
"""Installations elsewhere, by `--at`: what is printed is what is printed on the host itself."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests import LIBRARY, SCRIPT
from tests.commandline import WINDOWS, Done, call, environment, finished, start
from tests.installation import Installation, until
from tests.released import unpack
from tests.servers import KINDS, give, workplace
from tests.servers import start as serving
from tests.servers.serve import __file__ as serve
from tests.servers.server import free_port
from webscheduler.body import MAX_BACKUP
from webscheduler.cli import parser
from webscheduler.cli.elsewhere import Elsewhere
from webscheduler.errors import Stale
from webscheduler.remote import client, sites
from webscheduler.store import keys, state
from webscheduler.store.task import new_task

WSGI = "from webscheduler.wsgi import application\n"
KEY = "wsk_" + "A" * 43


class Lab:
    """An installation behind a server on loopback, a folder of settings, and both ways to ask it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.installation = Installation(folder / "home")
        self.home, self.folder, self.url = self.installation.home, folder, url
        self.environ = {**environment(folder / "nowhere"), "XDG_CONFIG_HOME": str(folder / "config")}
        (self.home / "config.json").write_text(json.dumps({"baseUrl": url, "timezone": "Europe/Paris"}))
        roles = ("viewer", "editor", "owner")
        self.keys = {role: keys.add(str(self.home), role, role, time.time()) for role in roles}

    def add(self, name: str, key: str, url: str = "") -> Done:
        """`site add`, with the key from standard input."""
        file = self.folder / "key"
        file.write_text(f"{key}\n")
        return call(self.home, "site", "add", name, url or self.url, "--key-file", str(file), env=self.environ)

    def far(self, *words: str, site: str = "lab", **variables: str) -> Done:
        return call(self.home, "--at", site, *words, env={**self.environ, **variables})

    def near(self, *words: str) -> Done:
        return call(self.home, *words)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An installation with some tasks and runs; the site `lab` has its owner's key."""
    folder, port = tmp_path_factory.mktemp("lab"), free_port()
    made = Lab(folder, f"http://127.0.0.1:{port}/sub")
    made.near("add", "quiet", "--command", "hello", "--cron", "7 3 * * *", "--disabled")  # not in the order of names
    made.near("add", "broken", "--title", "It fails", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    made.near("add", "backup", "--command", "hello", "--every", "1h", "--group", "night")
    assert made.near("run", "backup").status == 0
    assert made.near("run", "broken").status == 1
    (folder / "application.py").write_text(WSGI)
    words = [sys.executable, serve, "wsgiref", str(port), "/sub", str(folder / "application.py")]

    with (folder / "log").open("wb") as log, subprocess.Popen(
            words, env=environment(made.home), stdout=subprocess.PIPE, stderr=log) as server:
        try:
            assert server.stdout
            server.stdout.readline()
            added = made.add("lab", made.keys["owner"])
            assert (added.status, added.err) == (0, "")
            yield made
        finally:
            server.terminate()
            made.installation.end()


SAME = ["list", "list --group night", "list --failing", "show backup", "show quiet", "url backup",
        "url backup --status", "url @due --query", "url backup --base https://example.org/x", "next backup",
        "next quiet --count 3", "next quiet --from 2026-03-01T00:00:00+00:00", "next --cron 1,2*9*7", "status",
        "logs", "logs backup --limit 1", "logs --status failed", "logs nobody", "show nobody", "show backip",
        "edit nobody --every 5", "rename nobody x", "rename backup @due", "remove @due --yes",
        "edit backup --cron * ", "cancel backup", "cancel nobody", "enable nobody", "enable --group nobody",
        "next broken", "commands", "export crontab"]


@pytest.mark.parametrize("line", SAME)
def test_the_words_are_those_of_the_host(line: str, lab: Lab) -> None:
    """Table, sentence, error and exit status are the same; a command to type names the site besides."""
    words = [word.replace("*", " * ").strip() or " " for word in line.split(" ")]
    far, near = lab.far(*words), lab.near(*words)
    assert (far.status, far.out) == (near.status, _without(near.out))

    if words[0] != "export":  # what an export cannot say is not told elsewhere
        assert far.err.replace("`webscheduler --at lab ", "`webscheduler ") == near.err


def _without(text: str) -> str:
    """The text without what nobody is told elsewhere: the slug beside the URL."""
    return re.sub(r"(?m)^  (slug|argv) .*\n", "", text)


@pytest.mark.parametrize("line", [line for line in SAME if line.split()[0] in (
    "list", "show", "url", "next", "status", "logs", "commands") and "--query" not in line])
def test_the_documents_are_those_of_the_host(line: str, lab: Lab) -> None:
    """With --json as well, but for what is not told elsewhere: programs, directories, environments, slugs."""
    words = [word.replace("*", " * ").strip() for word in f"{line} --json".split(" ")]
    far, near = lab.far(*words), lab.near(*words)
    assert far.status == near.status

    if near.status < 2 and near.out:
        hidden = {"slug", "argv", "cwd", "environment"}

        def told(value: Any) -> Any:
            return [told(each) for each in value] if isinstance(value, list) else {
                name: each for name, each in value.items() if name not in hidden} if isinstance(value, dict) else value

        assert far.document == told(near.document)


def test_a_task_is_made_changed_and_removed(lab: Lab) -> None:
    """Each verb says what it says on the host, and the installation has what was asked for."""
    made = lab.far("add", "new", "--command", "hello", "--every", "5m", "--title", "A title", "--json")
    assert made.status == 0, made.err
    assert (made.document["intervalSeconds"], len(made.document["secret"])) == (300, 64)
    assert made.document["url"] == lab.near("url", "new").out.strip()
    done = lab.far("edit", "new", "--cron", "0 4 * * *", "--no-notify")
    assert done.out == "Changed new: expression, intervalSeconds, notify.\n"
    assert lab.installation.row("new")["expression"] == "0 4 * * *"
    assert lab.far("edit", "new", "--unset", "notify", "--json").document["notify"] is True
    assert lab.far("disable", "new").out == "disabled: new\n"
    assert lab.far("enable", "new", "backup").out == "enabled: new, backup\n"
    assert lab.far("rename", "new", "newer/één").out == "Renamed new to newer/één; its URL is the same.\n"
    rotated = lab.far("rotate-secret", "newer/één", "--json")
    assert rotated.document["secret"] == lab.installation.row("newer/één")["secret"] != made.document["secret"]
    assert "no terminal" in lab.far("remove", "newer/één").complaint
    assert lab.far("remove", "newer/één", "--yes").out == "Removed newer/één and its history.\n"
    assert lab.far("show", "newer/één").status == 2


@pytest.mark.parametrize(("words", "says"), [
    (["add", "x", "--", "true"], "a program after --: only on the host itself, not with --at"),
    (["edit", "backup", "--cwd", "/"], "--cwd: only on the host itself, not with --at"),
    (["edit", "backup", "--environment", "A=1"], "--environment: only on the host itself, not with --at"),
    (["edit", "backup", "--timezone", "Europe/Pariss"], "--timezone: "),
    (["edit", "backup", "--every", "-5"], "--every: "),
    (["edit", "backup", "--ip-allowlist", "nonsense"], "--ip-allowlist: "),
    (["add", "x", "--command", "helo"], "--command: 'helo' is not registered (did you mean 'hello'?)"),
    (["rotate-secret", "backup", "--end-old"], "--end-old: only on the host itself"),
    (["doctor", "--offline"], "--offline: only on the host itself"),
    (["import", "crontab", "-"], "crontab: only on the host itself"),
    (["run-due"], "run-due: only on the host itself: `webscheduler run @due --at SITE`"),
])
def test_what_cannot_be_is_one_line_that_names_the_option(words: list[str], says: str, lab: Lab) -> None:
    """As on the host, with exit status 2."""
    done = lab.far(*words)
    assert (done.status, done.out) == (2, "")
    assert says in done.complaint


@pytest.mark.parametrize("name", ["a/run", "a/next", "a/runs/1"])
def test_a_name_may_end_as_a_path_does(name: str, lab: Lab) -> None:
    """It is the task of that name, and not what `a` can do."""
    assert lab.far("add", name, "--command", "hello").status == 0
    shown = lab.far("show", name)
    assert (shown.status, shown.out) == (0, _without(lab.near("show", name).out))
    assert lab.far("run", name).status == lab.far("disable", name).status == 0
    done = lab.far("remove", name, "--yes")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("verb", sorted(set(parser.MODULES) - set(parser.FAR)))
def test_what_is_of_the_host_alone_says_so(verb: str, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Each other verb refuses --at, before and after it, with one line."""
    words = {"crontab": ["install"], "site": ["list"], "api-key": ["list"], "shim": ["php"], "completion": ["bash"]}
    done = lab.far(verb, *words.get(verb, []))
    assert (done.status, done.out) == (2, "")
    assert f"{verb}: only on the host itself" in done.complaint
    assert verb != "sync" or call(lab.home, verb, "--at=lab", env=lab.environ) == done


def test_a_key_may_do_what_its_role_may(lab: Lab) -> None:
    """What is refused says which role it takes; viewers see no URL."""
    assert lab.add("reader", lab.keys["viewer"]).status == 0
    assert "url" not in lab.far("show", "backup", site="reader").out
    done = lab.far("edit", "backup", "--every", "7200", site="reader")
    assert (done.status, done.out) == (1, "")
    assert "reader: the key's role must be editor for this: `webscheduler api-key add` on that host" in done.complaint
    wrong = lab.far("list", WEBSCHEDULER_API_KEY=KEY)
    assert (wrong.status, wrong.out) == (1, "")
    assert "lab: the key is not accepted" in wrong.complaint


def test_what_is_damaged_there_does_not_mend_itself(lab: Lab) -> None:
    """What to do is what the installation says, and not to try again."""
    file = lab.home / "state.json"
    kept = file.read_bytes()
    file.write_bytes(b"{")

    try:
        done = lab.far("edit", "backup", "--priority", "5")
    finally:
        file.write_bytes(kept)

    assert (done.status, done.out) == (1, "")
    assert done.complaint.endswith("the installation cannot work: the server's error log says why")


def test_a_url_and_a_key_of_the_environment_do(lab: Lab) -> None:
    """So a job of a CI server needs no file; the URL may be one of a task."""
    url = lab.near("url", "backup").out.strip()
    done = lab.far("list", site=url, WEBSCHEDULER_API_KEY=lab.keys["viewer"], XDG_CONFIG_HOME="/nowhere")
    assert (done.status, done.out) == (0, lab.near("list").out)
    none = lab.far("list", site=url, XDG_CONFIG_HOME="/nowhere")
    assert none.status == 2
    assert "no key is known for it" in none.complaint


def test_a_site_is_kept_as_a_secret(lab: Lab) -> None:
    """0600, only after its key was accepted, never shown; a file that others can read is refused."""
    file = lab.folder / "config" / "webscheduler" / "sites.json"
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    (lab.home / "throttle.json").unlink(missing_ok=True)
    assert lab.add("more", KEY).status == 1
    tries = json.loads((lab.home / "throttle.json").read_text())
    assert 0 < max(level for level, _ in tries.values()) <= 1  # whichever way a key may have to go
    (lab.home / "throttle.json").unlink()
    assert "that is no key" in lab.add("more", "password\x1b[31m").complaint
    assert "must be letters" in lab.add("all", lab.keys["owner"]).complaint
    assert "there is no terminal" in call(lab.home, "site", "add", "more", lab.url, env=lab.environ).complaint
    assert file.read_bytes() == before
    assert lab.add("more", lab.keys["editor"], lab.url + "/admin/tasks").status == 0
    listed = call(lab.home, "site", "list", env=lab.environ)
    assert "wsk_" not in listed.out
    assert f"more    {lab.url}" in re.sub(" +", "    ", listed.out)
    assert call(lab.home, "site", "remove", "more", env=lab.environ).status == 0
    assert "did you mean 'lab'" in lab.far("list", site="lap").complaint
    file.chmod(0o640)

    try:
        assert f"chmod 600 {file}" in lab.far("list").complaint
    finally:
        file.chmod(0o600)


def test_a_key_is_typed_at_a_terminal(lab: Lab) -> None:
    """Nothing of it is shown."""
    import pty

    leader, follower = pty.openpty()
    process = start(lab.home, "site", "add", "typed", lab.url, env=lab.environ, stdin=follower, stdout=follower,
                    stderr=follower, start_new_session=True)
    os.close(follower)
    seen = os.read(leader, 65536).decode()  # the question: what is typed before it is dropped

    with process:
        os.write(leader, lab.keys["viewer"].encode() + b"\n")

        while process.poll() is None or select.select([leader], [], [], 0.5)[0]:
            try:
                seen += os.read(leader, 65536).decode()
            except OSError:  # EIO: nobody has the other end any more
                break

    os.close(leader)
    assert process.returncode == 0
    assert "has the role viewer" in seen
    assert lab.keys["viewer"] not in seen


def test_doctor_says_what_is_seen_from_outside(lab: Lab) -> None:
    """How long it takes, how it is called, clocks, versions, the key, and the tasks."""
    done = lab.far("doctor")
    assert done.status == 1
    lines = [re.split(r"\s+", text, maxsplit=2) for text in done.out.splitlines()]
    found = {(mark, about) for mark, about, _ in lines}
    assert found >= {("ok", "api"), ("ok", "clock"), ("ok", "version"), ("ok", "key"), ("error", "tasks")}
    assert "broken is failing" in done.out
    assert done.out.count("never called") == 1
    assert {each["state"] for each in lab.far("doctor", "--json").document} >= {"ok", "mend"}


def test_works_where_nothing_of_posix_is(lab: Lab) -> None:
    """A Python without fcntl, pwd, fork and the like, as on Windows: help, and the verbs that work elsewhere."""
    environ = {**lab.environ, "PYTHONPATH": str(LIBRARY), "APPDATA": str(lab.folder / "config")}

    def windows(*words: str) -> Done:
        done = subprocess.run([sys.executable, "-c", WINDOWS, *words], env=environ, cwd=lab.folder, text=True,
                              capture_output=True, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    assert windows("--help").status == 0
    assert all(windows(verb, "--help").status == 0 for verb in ("list", "site", "run"))

    for words in (["list"], ["show", "backup"], ["status"], ["logs"], ["url", "backup"], ["next", "quiet"],
                  ["commands"], ["export", "json"]):
        assert windows("--at", "lab", *words) == lab.far(*words)

    file = lab.folder / "export.json"
    assert windows("--at", "lab", "export", "json", "--output", str(file)).status == 0
    assert file.read_text() == lab.far("export", "json").out
    assert windows("--at", "lab", "doctor").status == 1
    assert windows("--at", "lab", "edit", "backup", "--priority", "7").status == 0
    assert windows("site", "add", "second", lab.url, "--key-file", str(lab.folder / "key")).status == 0
    assert windows("--at", "all", "status").status == 1


def test_a_run_is_streamed_and_ends_as_on_the_host(lab: Lab) -> None:
    """Its output comes while it runs where both streams go to one place; the exit status is that of `run` there."""
    go_on = lab.folder / "go-on"
    lab.near("add", "long", "--", "sh", "-c", f"echo one; echo two >&2; while [ ! -e {go_on} ]; do sleep 0.05; done; "
             "printf 'thr\\033[31mee\\n'; exit 3")
    process = start(lab.home, "--at", "lab", "run", "long", env=lab.environ, stderr=subprocess.STDOUT)
    assert process.stdout
    assert process.stdout.readline() == b"one\n"
    assert process.stdout.readline() == b"two\n"
    assert "yes" in next(line for line in lab.far("list").out.splitlines() if line.startswith("long "))
    shown = [line for line in lab.far("show", "long").out.splitlines() if "running" in line and "since" in line]
    assert len(shown) == 1
    assert shown[0] in lab.near("show", "long").out.splitlines()
    run = shown[0].split()[1]
    assert "long is running already: `webscheduler --at lab logs long` shows it" in lab.far("run", "long").complaint
    assert lab.far("logs", "--run", run).out == lab.near("logs", "--run", run).out
    assert lab.far("status", "--json").document["running"] == lab.near("status", "--json").document["running"]
    followed = start(lab.home, "--at", "lab", "logs", "--run", run, "--follow", env=lab.environ)
    assert followed.stdout
    heading = followed.stdout.readline()
    assert heading.startswith(b"long: running since ")
    go_on.touch()

    with process:
        rest = process.stdout.read().decode()
        assert process.wait(60) == 1

    assert rest.startswith("thr\\x1b[31mee\nlong: failed, exit status 3 after ")

    with followed:
        seen = heading + followed.stdout.read()
        assert followed.wait(60) == 0

    assert b"one\ntwo\nthr\\x1b[31mee\n" in seen
    assert f"`webscheduler --at lab logs --run {run}` shows all of its output".encode() in seen
    assert lab.near("remove", "long", "--yes").status == 0


def test_a_run_prints_each_stream_to_its_own(lab: Lab) -> None:
    """Into two pipes goes what goes there on the host; with --json the entry of history."""
    done = lab.far("run", "broken")
    assert (done.status, done.out) == (1, "out\n")
    assert re.fullmatch(r"err\nbroken: failed, exit status 7 after [\d.]+ s, run [\w-]+\n", done.err)
    hint = lab.far("logs", "broken").err
    assert re.fullmatch(r"`webscheduler --at lab logs --run [\w-]+` shows what the failed run printed\n", hint)
    entry = lab.far("run", "backup", "--json")
    assert entry.status == 0
    assert entry.document == lab.near("logs", "backup", "--limit", "1", "--json").document[0]


def test_ctrl_c_ends_the_watching_and_not_the_run(lab: Lab) -> None:
    """It says how to see it and how to cancel it, which then ends it."""
    lab.near("add", "endless", "--", "sh", "-c", "echo begun; sleep 600")
    process = start(lab.home, "--at", "lab", "run", "endless", env=lab.environ, stderr=subprocess.STDOUT)
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGINT)
    done = finished(process)
    assert done.status == 130
    found = re.search(r"`webscheduler --at lab cancel endless ([\w-]+)` ends it", done.out)
    assert found
    assert lab.near("cancel", "endless", "nonsense").err == lab.far("cancel", "endless", "nonsense").err
    ended = lab.far("cancel", "endless", found[1])
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("endless: interrupted (cancelled)")
    assert lab.far("cancel", "endless").complaint == "endless is not running"
    assert lab.near("remove", "endless", "--yes").status == 0


def test_history_is_followed(lab: Lab) -> None:
    """New lines come, each once."""
    process = start(lab.home, "--at", "lab", "logs", "backup", "--follow", "--json", env=lab.environ)
    assert process.stdout
    last = json.loads(process.stdout.readline())
    wanted = []

    for _ in range(2):
        lab.near("run", "backup")
        wanted.append(lab.near("logs", "backup", "--limit", "1", "--json").document[0]["run"])

    while last["run"] != wanted[0]:
        last = json.loads(process.stdout.readline())

    assert json.loads(process.stdout.readline())["run"] == wanted[1]
    process.send_signal(signal.SIGINT)
    assert finished(process) == Done(0, "", "")


def test_an_import_is_shown_and_repeating_it_changes_nothing(lab: Lab) -> None:
    """The lines are those of the host; --prune asks; the second time nothing is different."""
    file = lab.folder / "tasks.json"
    document = lab.far("export", "json").document
    document["tasks"]["backup"]["priority"] = 3
    document["tasks"]["imported"] = {**document["tasks"]["backup"], "title": "New"}
    document["tasks"].pop("broken")
    file.write_text(json.dumps(document))
    far, near = (way("import", "json", str(file), "--dry-run", "--prune") for way in (lab.far, lab.near))
    assert (far.status, far.out) == (0, near.out)
    assert "no terminal" in lab.far("import", "json", str(file), "--prune").err

    with file.open("rb") as source:
        piped = call(lab.home, "--at", "lab", "import", "json", "-", "--prune", env=lab.environ, stdin=source)

    assert (piped.status, "no terminal" in piped.err) == (2, True), piped.err
    assert "imported" not in lab.near("list").out
    done = lab.far("import", "json", str(file))
    assert done.status == 0, done.err
    assert lab.installation.row("backup")["priority"] == 3
    assert "nothing is different" in lab.far("import", "json", str(file)).out
    assert lab.far("import", "json", str(file), "--json").document["written"] in (True, False)
    assert lab.far("remove", "imported", "--yes").status == 0
    bad = lab.folder / "bad.json"
    bad.write_text("{")
    assert lab.far("import", "json", str(bad)).status == 2


def test_what_was_changed_since_it_was_read_stays(lab: Lab) -> None:
    """Each verb that changes a task says so, in a sentence, and changes nothing; read again, it may be changed."""
    lab.near("add", "shared", "--command", "hello")
    place = Elsewhere(sites.Site("lab", lab.url, lab.keys["owner"], False))
    changes: dict[str, Callable[[], object]] = {
        "edit": lambda: place.edit("shared", {"title": "mine"}), "rename": lambda: place.rename("shared", "mine"),
        "enable": lambda: place.set_enabled(["shared"], True), "disable": lambda: place.set_enabled(["shared"], False),
        "remove": lambda: place.remove("shared", False)}
    place.check(["shared"])

    for verb, change in changes.items():
        lab.installation.edit("shared", title=f"somebody else's before {verb}")

        with pytest.raises(Stale, match="somebody else changed shared since it was read"):
            change()

    assert lab.installation.row("shared")["title"] == "somebody else's before remove"
    assert place.shown("shared")[0]["title"] == "somebody else's before remove"
    place.edit("shared", {"title": "mine"})
    place.remove("shared", False)


def test_what_takes_several_answers_is_put_together(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export and list are those of the host; an import that is too long as it was written is sent, and says how much it
    does not list; an export is never of two moments."""
    kept = (lab.home / "state.json").read_bytes()
    ask, asked = client.ask, []
    row = {"command": "hello", "enabled": True, "description": "é" * 2000}

    try:
        state.update(str(lab.home), lambda tasks: tasks.update(
            {f"long {number}": new_task(time.time(), row) for number in range(150)[::-1]}))
        document = lab.near("export", "json").document
        assert len(json.dumps(document)) > 1024 ** 2
        assert lab.far("export", "json").document == document
        assert lab.far("list").out == lab.near("list").out
        document["tasks"] = {name: {**each, "description": "è" * 2000} for name, each in document["tasks"].items()
                             if name.startswith("long")}
        file = lab.folder / "large.json"
        file.write_text(json.dumps(document, indent=600))
        assert file.stat().st_size > MAX_BACKUP
        done = lab.far("import", "json", str(file), "--dry-run")
        assert (done.status, done.out.splitlines()[-1:]) == (0, ["150 tasks would be imported"]), done.err
        assert re.fullmatch(r"webscheduler: \d+ more tasks are not listed: the answer has no room\n", done.err)
        file.write_text("[" * (MAX_BACKUP + 1))
        deep = lab.far("import", "json", str(file))
        assert (deep.status, deep.err.count("\n")) == (1, 1)  # one sentence, though it cannot be made shorter

        def meanwhile(*args: Any, **more: Any) -> Any:
            asked.append(ask(*args, **more))
            lab.installation.edit("long 7", title=str(len(asked)))
            return asked[-1]

        monkeypatch.setattr(client, "ask", meanwhile)

        with pytest.raises(Stale, match="somebody changed it since"):
            Elsewhere(sites.Site("lab", lab.url, lab.keys["owner"], False)).exported("json", False)

        assert [answer.status for answer in asked] == [200, 412]
    finally:
        (lab.home / "state.json").write_bytes(kept)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, socket.socket]]:
    """A configuration with sites of three kinds, one that is dead, one that does not answer in time, one with a wrong
    key and one of 0.1.0; and where the calls of the slow one wait to be taken."""
    folder = tmp_path_factory.mktemp("many")
    old = unpack("0.1.0", folder / "old")
    rows: dict[str, Any] = {}

    with contextlib.ExitStack() as stack:
        for name, kind in {"cgi": KINDS["apache-cgi"], "gunicorn": KINDS["gunicorn-sync"],
                           "passenger": KINDS["passenger-apache"]}.items():
            directory = stack.enter_context(workplace(kind))
            installation = Installation(directory / "home")
            stack.callback(installation.end)
            key = keys.add(str(installation.home), "test", "owner", time.time())
            give(directory, kind.user)
            application = folder / f"{name}.py"
            application.write_text(WSGI)
            server = stack.enter_context(serving(kind, directory, SCRIPT if kind.family == "cgi" else application,
                                                 env={"WEBSCHEDULER_HOME": str(installation.home)}))
            rows[name] = {"url": server.url, "key": key}

        rows["wrong"] = {"url": rows["gunicorn"]["url"], "key": KEY}
        rows["dead"] = {"url": f"http://127.0.0.1:{free_port()}/x", "key": KEY}
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        rows["slow"] = {"url": f"http://127.0.0.1:{listening.getsockname()[1]}/x", "key": KEY}
        port = free_port()
        program = ("import sys; sys.path.insert(0, sys.argv[1]); import webscheduler, os; from wsgiref.simple_server "
                   "import make_server; from webscheduler.wsgi import create_app; "
                   "make_server('127.0.0.1', int(sys.argv[2]), create_app(sys.argv[3])).serve_forever()")
        home = Installation(folder / "home").home
        process = subprocess.Popen([sys.executable, "-c", program, str(old), str(port), str(home)], cwd=folder,
                                   env={"PATH": os.environ["PATH"]}, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        until(lambda: answers(port), "the server of 0.1.0")
        rows["old"] = {"url": f"http://127.0.0.1:{port}", "key": KEY}
        file = folder / "config" / "webscheduler" / "sites.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(rows))
        file.chmod(0o600)
        listening.setblocking(False)
        yield folder, listening


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


SAYS = {"cgi": "healthy", "gunicorn": "healthy", "passenger": "healthy", "dead": "does not answer: ",
        "slow": "does not answer: no whole answer within 10 s", "wrong": "the key is not accepted",
        "old": "has no API: it is an installation of 0.1.0, or has no key yet: `webscheduler api-key add`"}


def calls_of(listening: socket.socket) -> int:
    """How often it was called since this was asked before."""
    number = 0

    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            number += 1

    return number


def test_all_sites_are_one_table(many: tuple[Path, socket.socket]) -> None:
    """Apache with CGI, Passenger and gunicorn say how they are; each other is a line that says why. The slow one is
    not called anew, with all of its time, in each of the ways to call one."""
    folder, listening = many
    environ = {**environment(folder / "nowhere"), "XDG_CONFIG_HOME": str(folder / "config")}
    calls_of(listening)
    done = call(folder / "home", "--at", "all", "status", env=environ)
    assert (done.status, done.err) == (1, "")
    found = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert list(found) == sorted(SAYS)
    assert {name: says for name, says in SAYS.items() if says not in found[name]} == {}
    assert calls_of(listening) == 1
    ill = call(folder / "home", "--at", "all", "list", "--failing", env=environ)
    assert ill.status == 1
    assert {line.split()[0] for line in ill.out.splitlines()[1:]} == {"dead", "slow", "wrong", "old"}
    document = call(folder / "home", "status", "--at=all", "--json", env=environ).document
    assert [each["site"] for each in document] == sorted(SAYS)
    assert {each["site"] for each in document if "error" in each} == {"dead", "slow", "wrong", "old"}


@pytest.mark.parametrize("name", sorted(SAYS))
def test_each_kind_of_server_works_or_says_why_not(name: str, many: tuple[Path, socket.socket]) -> None:
    """`list` and `doctor`, with how it is called found out."""
    folder, _ = many
    environ = {**environment(folder / "nowhere"), "XDG_CONFIG_HOME": str(folder / "config")}
    done = call(folder / "home", "--at", name, "list", env=environ)
    assert done.status == int(SAYS[name] != "healthy")
    assert "@due" in done.out if done.status == 0 else SAYS[name] in done.complaint or (
        name == "wrong" and "there were too many wrong keys: wait: try again in " in done.complaint)

    if name == "cgi":
        doctor = call(folder / "home", "--at", name, "doctor", env=environ)
        assert "calls put the path after the URL" in doctor.out


class Hostile(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    protocol_version = "HTTP/1.1"
    ABOUT = {"version": "9", "api": 1, "key": "k", "role": "owner", "time": "2026-01-01T00:00:00+00:00"}
    asked: list[tuple[str, str]] = []  # (method, case) of each call

    def answer(self, case: str, inner: bool) -> tuple[bytes, str, int, dict[str, str]]:
        """Body, type, status, headers; inner: not for what it says of itself, which must be good for some cases."""
        about, place, kind = json.dumps(self.ABOUT).encode(), self.path, "application/json"
        tasks = b'{"tasks": [{"name": "\\u001b[2J", "enabled": "no", "state": 7, "running": {}}], "next": null}'
        problem = b'{"status": 400, "detail": "\\u001b[2J\\nsecond line", "field": {}}'
        task = b'{"name": "x", "enabled": true, "state": "never", "running": [], "signature": "static"}'
        rotated = (about if not inner else b'{"url": "http://a.example/run/x", "secret": "seen"}'
                   if self.command == "POST" else task)
        found: dict[str, tuple[bytes, str, int, dict[str, str]]] = {
            "rotated": (b"", kind, 500, {}) if self.command == "GET" and ("POST", case) in self.asked else (
                rotated, kind, 200, {}),
            "stuck": (b"{", kind, 200, {"Content-Length": "9"}),
            "html": (b"<html><body>Welcome \x1b[31m</body></html>", "text/html", 200, {}),
            "none": (b'{"found": false}', kind, 404, {}),
            "huge": (b'"' + b"x" * (5 * 1024 * 1024) + b'"', kind, 200, {}),
            "deep": (b"[" * 100000, kind, 200, {}),
            "bomb": (gzip.compress(bytes(10**7)), kind, 200, {"Content-Encoding": "gzip"}),
            "cut": (about, kind, 200, {"Content-Length": "100000"}),
            "types": (b'{"version": 1, "api": "x", "key": null, "role": [], "time": {}}', kind, 200, {}),
            "list": (tasks if inner else about, kind, 200, {}),
            "endless": (b'{"tasks": [], "next": "again"}' if inner else about, kind, 200, {}),
            "escape": (problem, "application/problem+json", 400, {}) if inner else (about, kind, 200, {}),
            "away": (b"", kind, 302, {"Location": "http://example.invalid/"}),
            "plain": (b"", kind, 302, {"Location": "ftp://127.0.0.1/"}),
            "loop": (b"", kind, 302, {"Location": place}),
            "moved": (about, kind, 200, {}) if "/there/" in place else (
                b"", kind, 301, {"Location": place.replace("/moved/", "/moved/there/", 1)})}
        return found[case]

    def do_GET(self) -> None:
        case = self.path.partition("?")[0].split("/")[1]
        body, kind, status, more = self.answer(case, not re.search(r"/api/v1(\?.*)?$", self.path))
        self.asked.append((self.command, case))  # before who asked can go on
        self.send_response(status)

        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)

        self.end_headers()
        self.wfile.write(body)

        if case == "stuck":
            self.wfile.flush()
            self.connection.recv(1)  # until the client goes away

        self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("case", "says"), [
    ("html", "answers HTTP 200 'Welcome \\x1b[31m', which is not from webscheduler"),
    ("none", "has no API: it is an installation of 0.1.0, or has no key yet: `webscheduler api-key add`"),
    ("huge", "its answer is longer than 4 MiB"), ("deep", "its answer (HTTP 200) is no JSON"),
    ("bomb", "its answer (HTTP 200) is no JSON"), ("cut", "ended too soon"),
    ("types", "its answer is not what this version knows"), ("list", "its answer is not what this version knows"),
    ("escape", "\\x1b[2J\\nsecond line"),
    ("away", "leads to http://example.invalid/, another host, so the key was not sent there"),
    ("plain", "leads to ftp://127.0.0.1/, which is not https, so the key was not sent there"),
    ("loop", "leads from one redirect to the next"), ("endless", "its list of tasks does not end"),
])
def test_whatever_a_server_answers_is_one_sentence(case: str, says: str, hostile: str, tmp_path: Path) -> None:
    """Never a traceback, nothing that a terminal would obey, and the key goes nowhere else."""
    environ = {**environment(tmp_path), "WEBSCHEDULER_API_KEY": KEY, "XDG_CONFIG_HOME": str(tmp_path)}
    done = call(tmp_path, "--at", f"{hostile}/{case}", "list", env=environ)
    assert (done.status, done.out) == (2 if case == "escape" else 1, "")
    assert says in done.complaint


def test_reading_follows_a_redirect_on_the_same_host_and_writing_does_not(hostile: str, tmp_path: Path) -> None:
    """The one that is not followed names where it leads."""
    environ = {**environment(tmp_path), "WEBSCHEDULER_API_KEY": KEY, "XDG_CONFIG_HOME": str(tmp_path)}
    done = call(tmp_path, "--at", f"{hostile}/moved", "disable", "x", env=environ)
    assert "only reading follows redirects" in done.complaint
    assert "/moved/there/api/v1/tasks/x/disable" in done.complaint


def test_a_server_that_stops_in_its_answer_is_asked_once(hostile: str) -> None:
    """Its time is that of all ways in which it can be called."""
    with pytest.raises(client.Refused, match="no whole answer"):
        client.connect(sites.Site("stuck", f"{hostile}/stuck", KEY), 0.5)

    until(lambda: ("GET", "stuck") in Hostile.asked)
    assert Hostile.asked.count(("GET", "stuck")) == 1


def test_a_new_secret_is_shown_whatever_comes_after(hostile: str, tmp_path: Path) -> None:
    """Nobody could see it again."""
    environ = {**environment(tmp_path), "WEBSCHEDULER_API_KEY": KEY, "XDG_CONFIG_HOME": str(tmp_path)}
    done = call(tmp_path, "--at", f"{hostile}/rotated", "rotate-secret", "x", env=environ)
    assert (done.status, done.err) == (0, "")
    assert "http://a.example/run/x" in done.out and "Secret  seen" in done.out
