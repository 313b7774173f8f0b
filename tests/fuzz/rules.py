# SPDX-License-Identifier: LGPL-3.0-or-later
"""What must hold for any input, each rule a function that raises AssertionError where it does not.

An error is one of `errors`, of one line that can be printed, or a status that docs/reference names; what the doors
catch besides is a bug, and they name its class in the server's log. Work is counted, not timed: lines of Python that
are run, and bytes that are allocated, each at most so many for each byte of input. What C does between two lines is
short for inputs of this size. What is printed holds nothing that a terminal would obey. What was written is read as it
was.

A rule leaves the installation as it was. It may import the package and the standard library.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import ipaddress
import json
import os
import re
import socket
import sys
import tracemalloc
import unicodedata
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Callable
from zoneinfo import ZoneInfo

from tests.admin.client import Form
from tests.installation import Answer, Installation, asking
from tests.listeners import Hook
from webscheduler import applying, cgi, cli, fetching, http, signing, trigger, wsgi
from webscheduler.addresses import is_public
from webscheduler.errors import WebschedulerError
from webscheduler.interchange import crontab as crontabs
from webscheduler.interchange import histories, importing
from webscheduler.runs import due, health
from webscheduler.schedule.cron import Cron, CronError
from webscheduler.store import history, history_cleaning, history_reading, history_view, lookup, state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import load_task, load_tasks, new_task, shown
from webscheduler.times import parse_time

NOW = parse_time("2026-11-28T12:00:00+00:00")
ROW = new_task(NOW, {"enabled": True, "argv": ["true"], "cwd": "/", "strategy": "fork"})
LINES = 20_000  # of Python, for the least input
LINES_PER_BYTE = 400
BYTES = 4 * 1024 * 1024
BYTES_PER_BYTE = 200
UNFORESEEN = re.compile(r"webscheduler: [A-Z][A-Za-z]*(Error|Exception|Warning|Iteration|Exit)\b")
COOKIES = "Set-Cookie"  # in the headers of `asked`: all of them, as a browser sends them back
RUN = "20261128120000-00000000"
OWNER = {"name": "owner", "role": "owner"}
STATUSES = (200, 202, 303, 400, 403, 404, 405, 409, 413, 422, 429, 503)
PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
COMMANDS = (["list"], ["status"], ["next"], ["show", "task"], ["run-due", "--dry-run"], ["list", "--json"])


@contextlib.contextmanager
def bounded(size: int) -> Iterator[None]:
    """Count what is run and allocated within, for an input of so many bytes."""
    run = [0]

    def count(frame: Any, event: str, argument: Any) -> Any:
        run[0] += event == "line"
        return count

    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(count)

    try:
        yield
    finally:
        sys.settrace(before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert run[0] <= LINES + LINES_PER_BYTE * size, f"{run[0]} lines for {size} bytes"
    assert peak <= BYTES + BYTES_PER_BYTE * size, f"{peak} bytes for {size}"


def paid_once() -> None:
    """What a process pays once, whatever it is asked first: modules, and the names of this host's zones."""
    importing.of_crontab("CRON_TZ=Nowhere\n* * * * * true", {}, "UTC")


def documented(act: Callable[[], object]) -> object:
    """What it returns; None where it raises an error of ours, of one line that can be printed."""
    try:
        return act()
    except (WebschedulerError, CronError) as error:
        assert str(error)
        assert "\n" not in str(error)
        return None


def harmless(text: str) -> None:
    """It has no control character but line breaks, nothing of a lone half of a pair, and ends no line otherwise."""
    wrong = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert not wrong, f"{wrong} in {text[:500]!r}"


def said(home: str, words: Sequence[str]) -> str:
    """What a command line prints; it ends with one of its statuses, and an error is one line."""
    output, errors = io.StringIO(), io.StringIO()

    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = cli.main(["--home", home, *words])

    assert status in (0, 1, 2)
    assert status != 2 or len(errors.getvalue().splitlines()) == 1
    harmless(output.getvalue() + errors.getvalue())
    return output.getvalue() + errors.getvalue()


def asked(one: Installation, environ: dict[str, Any], body: bytes = b"") -> Answer:
    """The answer to an environ that no server may make; nothing unforeseen was met."""
    errors, started = io.StringIO(), []
    given = {"wsgi.input": io.BytesIO(body), "wsgi.errors": errors, "wsgi.url_scheme": "http", **environ}
    result = wsgi.create_app(str(one.home))(given, lambda status, headers, error=None: started.append(
        (status, headers)))  # fmt: skip
    content = b"".join(result)

    if hasattr(result, "close"):
        result.close()

    assert not UNFORESEEN.search(errors.getvalue()), errors.getvalue()
    (status, headers), = started
    assert all(value.isprintable() for _, value in headers)
    cookies = "; ".join(value.partition(";")[0] for name, value in headers if name == "Set-Cookie")
    return Answer(int(status.split()[0]), {COOKIES: cookies}, content, errors.getvalue())


@contextlib.contextmanager
def kept(one: Installation, *files: str) -> Iterator[None]:
    """Afterwards these files are as they were, and there is nothing that was derived from them."""
    before = {file: (one.home / file).read_bytes() if (one.home / file).exists() else None for file in files}

    try:
        yield
    finally:
        for file, content in before.items():
            if content is None:
                (one.home / file).unlink(missing_ok=True)
            else:
                (one.home / file).write_bytes(content)

        (one.home / "index").unlink(missing_ok=True)


# A request

def query(text: str) -> list[tuple[str, str]]:
    """Any text is a list of names and values, at most 500, of at most its own length."""
    with bounded(len(text)):
        found = http.fields(text)

    assert len(found) <= http.MAX_FIELDS
    assert sum(len(name) + len(value) for name, value in found) <= min(len(text), http.MAX_LENGTH)
    return found


def request(one: Installation, environ: dict[str, str], body: bytes) -> Answer:
    """Without the signature nothing runs, and the answer is one of those that are documented."""
    with bounded(sum(map(len, environ.values())) + len(body)):
        answer = asked(one, environ, body)

    kind = http.Request({**environ, "REQUEST_METHOD": "GET"}).kind
    assert answer.status in {"run": (202, ), "status": (404, ), "none": (404, )}.get(kind, STATUSES)
    assert kind != "run" or answer.body in (b'{"accepted": false}', b"")
    assert one.claims() == []
    assert one.runs() == []
    return answer


# Schedules

def cron(text: str) -> object:
    """Any text is a schedule, whose next time is found in bounded work though it never comes, or a documented error."""
    with bounded(len(text) + 500):
        found = documented(lambda: Cron(text))

        if isinstance(found, Cron):
            for zone in ("UTC", "Australia/Lord_Howe"):
                now = datetime.fromtimestamp(NOW, timezone.utc)
                coming, past = found.next(now, ZoneInfo(zone)), found.previous(now, ZoneInfo(zone))
                assert coming is None or coming > now
                assert past is None or past <= now

    return found


# Files that people edit

def state_file(one: Installation, content: bytes, commands: Sequence[Sequence[str]] = COMMANDS) -> int:
    """With any state.json each reader says what is wrong with it, in bounded work, and no request is answered with
    anything but the answers for an unknown slug or for an installation that cannot work."""
    home, file = str(one.home), one.home / "state.json"

    with kept(one, "state.json"):
        file.write_bytes(content)

        with bounded(len(content)):
            tasks = documented(lambda: state.read_strictly(home))

            for name, row in tasks.items() if isinstance(tasks, dict) else ():
                documented(partial(load_task, name, row))

        if isinstance(tasks, dict):
            config = load_settings(home)
            load_tasks(tasks)
            documented(lambda: health.states(config, tasks, NOW))
            documented(lambda: due.select(config, tasks, NOW))

        status = asked(one, asking("/run/" + "0" * 32, "sig=" + "0" * 64)).status
        assert status in (202, 503)
        assert asked(one, asking("/status/" + "0" * 32, "sig=" + "0" * 64)).status in (404, 503)

        row = tasks.get("task") if isinstance(tasks, dict) else None

        if isinstance(row, dict) and row.get("argv") == ["true"] and row.keys() == ROW.keys():
            environ = asking(f"/run/{ROW['slug']}", f"sig={signing.sign(ROW['secret'], ROW['slug'])}")
            assert asked(one, environ).status in (202, 503)
            one.idle()

        for words in commands:
            said(home, words)

    return status


def config_file(one: Installation, content: bytes) -> int:
    """With any config.json the settings are read, or what is wrong is said; a request answers 503 at the worst."""
    home, file = str(one.home), one.home / "config.json"

    with kept(one, "config.json"):
        file.write_bytes(content)

        with bounded(len(content)):
            documented(lambda: load_settings(home))

        status = asked(one, asking("/run/" + "0" * 32, "sig=" + "0" * 64)).status
        assert status in (202, 503)
        assert asked(one, asking("/admin/sign-in")).status in (200, 303, 503)
        said(home, ["config", "list"])
        said(home, ["list"])

    return status


def history_file(one: Installation, content: bytes) -> list[str | None]:
    """With any lines in a history, what can be read is shown, searched and cleaned, and a new line comes after it."""
    home, file = str(one.home), Path(history.path(str(one.home), "task"))
    name, run = "task", RUN

    with kept(one, os.path.relpath(file, home)):
        file.write_bytes(content)

        with bounded(len(content)):
            list(history_reading.entries(home, name))
            history_reading.find(home, [name], run)
            history_reading.find_by_scanning(home, name, run)
            history_view.recent(home, name)
            list(history_view.merged(home, [name]))

        said(home, ["logs", "task"])
        said(home, ["logs", "--run", run])
        assert asked(one, {**asking("/admin/history"), "webscheduler.user": OWNER}).status == 200
        written = history.append(home, name, history.entry(command=name, run=run, status="success"))
        assert next(history_reading.entries(home, name)) == written
        found = history_reading.find(home, [name], run)
        assert found
        assert found["status"] == "success"
        history_cleaning.clean(home, name, lambda entry: entry.get("run") == run)
        left = [entry["run"] for entry in history_reading.entries(home, name)]
        assert left[-1:] == [run]

    return left


# The panel

def cookies(one: Installation, text: str) -> int:
    """A cookie that was not made here signs nobody in, and is answered as none."""
    with bounded(len(text)):
        answer = asked(one, asking("/admin/", HTTP_COOKIE=text))

    assert answer.status == 303  # to signing in, or to set-up
    return answer.status


def form(one: Installation, page: str, query: str, kind: str, body: Callable[[dict[str, str]], bytes] | None) -> int:
    """Whatever a form of the panel holds, and however it is sent, the answer is a page that says what is wrong.

    kind: the type of the content; body: makes it of the fields that the page has, None if nothing is sent."""
    signed_in = {"webscheduler.user": OWNER, "HTTP_SEC_FETCH_SITE": "same-origin"}
    named = "" if page == "settings" else "name=task"

    with kept(one, "state.json", "config.json", "users.json"):
        shown = asked(one, {**asking("/admin/" + page, named), **signed_in})

        if body is None or shown.status != 200:
            status = asked(one, {**asking("/admin/" + page, query), **signed_in}).status
            assert status in STATUSES
            return status

        forms = [found["fields"] for found in Form(shown.body.decode()).forms] or [{"token": ""}]
        sent = body(max(forms, key=len))
        environ = asking("/admin/" + page, named, "POST", CONTENT_TYPE=kind, CONTENT_LENGTH=str(len(sent)),
                         HTTP_COOKIE=shown.headers[COOKIES])  # fmt: skip
        status = asked(one, {**environ, **signed_in}, sent).status
        assert status in STATUSES

    return status


# What is imported

def crontab(text: str) -> None:
    """Each line of a crontab becomes a task that can be loaded, or what is wrong with it is said. A command that is
    written as a line of a crontab is read as it was."""
    with bounded(len(text)):
        arrival = documented(lambda: importing.of_crontab(text, {}, "UTC"))

    if isinstance(arrival, importing.Arrival):
        for name, row in arrival.tasks.items():
            load_task(name, row)
            words = row["argv"][2:]

            if len(words) == 1:
                again, problems = crontabs.parse(f"{row['expression']} {crontabs.escaped(words[0])}\n")
                assert [job.command for job in again] == words, problems

        assert all("\n" not in line for line in arrival.said)


def imported(home: str, arrival: importing.Arrival) -> list[applying.Change]:
    """What an import has changed. Once more, it would change nothing."""
    settings = load_settings(home)
    changes = applying.differences(settings, arrival, NOW)
    applying.apply(settings, arrival, changes, NOW)

    if arrival.changes:
        assert {change.change for change in applying.differences(settings, arrival, NOW)} <= {"same"}

    return changes


def backup(one: Installation, text: str) -> None:
    """A backup is imported as a whole, or refused by a documented error, after which nothing has changed."""
    home, before = str(one.home), (one.home / "state.json").read_bytes()

    with kept(one, "state.json"):
        with bounded(len(text)):
            arrival = documented(lambda: importing.of_document(text, "a file"))

        if isinstance(arrival, importing.Arrival):
            names = documented(lambda: imported(home, arrival))
            after = (one.home / "state.json").read_bytes()
            assert names is not None or after == before

            if names:
                load_tasks(state.read_strictly(home))
                said(home, ["list"])


# What a guided search alone asks: it costs too much for each example, or says little of random ones

def same_at_both_doors(one: Installation, environ: dict[str, str], body: bytes) -> None:
    """The script answers what the application answers, byte for byte where that is no page."""
    if any("\0" in value for value in environ.values()):
        return  # no environment can have it

    here, there = asked(one, environ, body), through_cgi(one, environ, body)
    assert not UNFORESEEN.search(there.errors), there.errors
    assert here.status == there.status

    if http.Request({**environ, "REQUEST_METHOD": "GET"}).kind in ("run", "status", "none"):
        assert (b"" if environ.get("REQUEST_METHOD") == "HEAD" else here.body) == there.body


def through_cgi(one: Installation, environ: dict[str, str], body: bytes) -> Answer:
    """The answer of a fork of this process that becomes the script; to start a Python for it takes ten times as long.
    body: at most 64 KiB."""
    sent, said, complained = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()

    if not pid:
        try:
            for number, end in enumerate((sent[0], said[1], complained[1])):
                os.dup2(end, number)

            for end in (*sent, *said, *complained):
                os.close(end)

            os.environb.clear()
            os.environb.update({name.encode(): value.encode("latin-1") for name, value in environ.items()})
            sys.stderr = open(2, "w", closefd=False)
            cgi.main(str(one.home))
        finally:
            os._exit(70)

    for end in (sent[0], said[1], complained[1]):
        os.close(end)

    with open(sent[1], "wb") as stdin, open(said[0], "rb") as stdout, open(complained[0], "rb") as stderr:
        with contextlib.suppress(BrokenPipeError):
            stdin.write(body)
            stdin.close()

        output, errors = stdout.read(), stderr.read().decode()

    assert os.waitpid(pid, 0)[1] == 0, errors
    head, _, content = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
    return Answer(int(headers["Status"].split()[0]), headers, content, errors)


def signed(one: Installation, environ: dict[str, str]) -> None:
    """What is accepted has the task's slug, and the signature of just that message; what has them and no more is
    accepted. Nothing is run to find that out."""
    home, written = str(one.home), json.dumps(list(environ.values()))

    with bounded(len(written)):
        asking = http.Request(environ)
        view = lookup.look(home)
        known, problem = trigger.authenticate(asking, view, NOW)

    tasks = state.read_strictly(home)
    plain = re.fullmatch(r"/(run|status)/([0-9a-f]{32})\n(?:ts=([0-9]{1,12})&)?sig=([0-9a-f]{64})",
                         environ["PATH_INFO"] + "\n" + environ["QUERY_STRING"])  # fmt: skip
    given = {name for name in environ if name.startswith("HTTP_")}

    if known is None:
        assert problem
    else:
        row, text = tasks[known.name], urllib.parse.unquote(written.replace("+", " "), "latin-1").lower()
        ts = None if asking.kind == "status" or asking.ts is None else int(asking.ts)
        assert row["slug"] in text
        assert witness(row, asking.kind, asking.ts) in text
        assert row["signature"] in ("either", "static" if ts is None else "timed") or asking.kind == "status"
        assert ts is None or abs(NOW - ts) <= view.window

    if plain and not given and asking.may_run:
        kind, slug, time, signature = plain.groups()
        name = next((name for name, row in tasks.items() if row["slug"] == slug), "")
        right = name and signature == witness(tasks[name], kind, time)
        fits = kind == "status" or tasks[name]["signature"] in ("either", "timed" if time else "static") if name else 0
        soon = kind == "status" or time is None or abs(NOW - int(time)) <= view.window
        assert (known is not None) == bool(right and fits and soon)

    if asking.kind == "status":
        assert asked(one, environ).status in ((200, 503) if known else (404, ))


def witness(row: dict[str, Any], kind: str, ts: str | None) -> str:
    """The signature of a request for the task, as docs/reference/urls.md says it."""
    message = f"status:{row['slug']}" if kind == "status" else row["slug"] + (f".{ts}" if ts is not None else "")
    return hmac.new(row["secret"].encode(), message.encode(), "sha256").hexdigest()


def url(text: str) -> None:
    """A URL is refused in one line, or sent in ASCII to the host that was looked at, which is refused if none of its
    addresses is public."""
    try:
        with bounded(len(text)):
            sent, _ = fetching.split_url(text)
    except ValueError as error:
        harmless(str(error))
        assert "\n" not in str(error)
        assert fetching.host_of(text) == ""
        return

    assert sent.isascii()
    assert sent.isprintable()
    assert not set(' "<>\\^`{|}') & set(sent)
    assert sent.startswith(("http://", "https://"))
    assert fetching.split_url(sent) == (sent, "")

    called = urllib.request.Request(sent)
    connection = HTTPConnection(called.host)
    assert connection.host.lower() == fetching.host_of(text)
    assert called.selector.startswith("/")

    try:
        found = socket.getaddrinfo(connection.host, connection.port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return  # a name, which nobody is asked for here

    inside = [each for *_, place in found if (each := ipaddress.ip_address(place[0].partition("%")[0])) and (
        each.is_loopback or each.is_link_local or each.is_multicast or each.is_unspecified
        or any(each in network for network in PRIVATE))]  # fmt: skip

    try:
        fetching.check_public(text, set())
    except fetching.NotPublic as error:
        harmless(str(error))
    else:
        assert not inside, f"{inside} may be called"

    fetching.check_public(text, {fetching.host_of(text)})


def redirect(site: Hook, location: bytes) -> None:
    """A redirect leads to nothing inside but what may be called, whatever a server writes there."""
    text = location.translate(None, b"\r\n\0").decode("latin-1")
    host, port = "", urllib.parse.urlsplit(site.url).port

    try:
        target = urllib.parse.urljoin(site.url, text.strip().encode("latin-1").decode("utf-8", "replace"))
        host = fetching.host_of(target)
        addresses = [place[0] for *_, place in socket.getaddrinfo(host, 0, 0, 0, 0, socket.AI_NUMERICHOST)]
        itself = host == "127.0.0.1" and urllib.parse.urlsplit(fetching.split_url(target)[0]).port == port
    except (OSError, ValueError):
        addresses, itself = [], False

    if host and not itself and (host == "127.0.0.1" or not addresses or any(map(is_public, addresses))):
        return  # another server of this machine, a name, or the internet, which is nobody to try it on

    site.leads, before = {"/hook": (302, text)}, len(site.calls)
    answer = fetching.fetch(site.url, 10, follow=True, private={"127.0.0.1"})
    harmless(answer.problem + answer.url)
    assert "\n" not in answer.problem

    if host and not itself:
        assert isinstance(answer.problem, str)
        assert "privateHosts" in answer.problem, answer.problem
        assert len(site.calls) == before


def export_file(one: Installation, content: bytes) -> None:
    """Tasks and histories of a file are imported as a whole, or nothing is changed; what was imported is exported again
    as it came."""
    home, names = str(one.home), set(os.listdir(one.home / "logs"))

    with kept(one, "state.json", *(f"logs/{name}" for name in names)):
        with bounded(len(content)):
            arrival = documented(lambda: importing.of_export(io.BytesIO(content), "a file", True))

        if not isinstance(arrival, importing.Arrival):
            return

        before = (one.home / "state.json").read_bytes()

        try:
            if documented(lambda: imported(home, arrival)) is None:
                assert (one.home / "state.json").read_bytes() == before
                assert set(os.listdir(one.home / "logs")) == names
                return

            for file in arrival.logs:
                lines = set(histories.lines_here(history.path(home, file)))
                assert {line for line in histories.lines_of(arrival.logs, file) if history.parse(line)} <= lines

            tasks = state.read_strictly(home)
            document = importing.document(load_settings(home), tasks, True)
            again = importing.of_document(json.dumps(document), "it").tasks
            assert again == {name: {key: value for key, value in row.items() if key != "oldSecret"}
                             for name, row in shown(tasks).items()}  # fmt: skip
        finally:
            for file in set(os.listdir(one.home / "logs")) - names:
                (one.home / "logs" / file).unlink()


def other_file(one: Installation, file: str, content: bytes) -> None:
    """With anything in one of the files that the program keeps for itself, requests, command line and panel go on."""
    with kept(one, file):
        (one.home / file).parent.mkdir(exist_ok=True)
        (one.home / file).write_bytes(content)

        with bounded(len(content)):
            assert asked(one, asking("/run/" + "0" * 32, "sig=" + "0" * 64)).status in (202, 503)
            assert asked(one, asking("/status/" + "0" * 32, "sig=" + "0" * 64)).status in (404, 503)

        for words in (["list"], ["status"], ["logs"]):
            said(str(one.home), words)

        for page in ("", "history", "diagnostics"):
            assert asked(one, {**asking(f"/admin/{page}"), "webscheduler.user": OWNER}).status in (200, 503)
