# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whatever comes from outside, or was written into a file by hand, meets an error that is documented, in bounded work.

Rules: an error is one of `errors`, or a status that docs/reference names; what the doors catch besides is a bug, and
they name its class in the server's log. Work is counted, not timed: lines of Python that are run, and bytes that are
allocated, each at most so many for each byte of input. What C does between two lines is short for inputs of this size.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.admin.client import Form
from tests.installation import Answer, Installation, asking
from webscheduler import cli, http, signing, wsgi
from webscheduler.admin import PAGES
from webscheduler.errors import WebschedulerError
from webscheduler.interchange import importing
from webscheduler.runs import due, health
from webscheduler.schedule.cron import Cron, CronError
from webscheduler.store import history, history_cleaning, history_reading, history_view, state
from webscheduler.store.settings import SETTINGS, load_settings
from webscheduler.store.task import FIELDS, load_task, load_tasks, new_task
from webscheduler.times import parse_time
from webscheduler.vocabulary import ENTRY

NOW = parse_time("2026-11-28T12:00:00+00:00")
LINES = 20_000  # of Python, for the least input
LINES_PER_BYTE = 400
BYTES = 4 * 1024 * 1024
BYTES_PER_BYTE = 200
UNFORESEEN = re.compile(r"webscheduler: [A-Z][A-Za-z]*(Error|Exception|Warning|Iteration|Exit)\b")

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
some = settings(few, max_examples=200)

texts = st.text(st.characters(max_codepoint=0x2FFF), max_size=60)
odd_numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -1, 2**63, 1e308, float("nan"), True]))
scalars = st.one_of(st.none(), st.booleans(), odd_numbers, texts,
                    st.sampled_from(["", "0", "\ud800", "@due", "a" * 5000]))
values = st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)), max_leaves=10)  # fmt: skip
NESTED = b'{"task": ' + b"[" * 100_000


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


def documented(act: Callable[[], object]) -> object:
    """What it returns; None where it raises an error of ours, of one line that can be printed."""
    try:
        return act()
    except (WebschedulerError, CronError) as error:
        assert str(error)
        assert "\n" not in str(error)
        return None


@pytest.fixture(scope="module", autouse=True)
def paid_once() -> None:
    """What a process pays once, whatever it is asked first: modules, and the names of this host's zones."""
    importing.of_crontab("CRON_TZ=Nowhere\n* * * * * true", {}, "UTC")


@pytest.fixture(scope="module")
def one() -> Iterator[Installation]:
    """An installation whose files each example writes anew: a new home for each takes longer than the test."""
    with tempfile.TemporaryDirectory() as folder:
        made = Installation(Path(folder, "home"))
        made.add(argv=["true"], expression="0 3 * * *")

        try:
            yield made
        finally:
            made.end()


def fuzzed(text: Any) -> bytes:
    return json.dumps(text).encode("utf-8", "surrogatepass")


def asked(installation: Installation, environ: dict[str, Any], body: bytes = b"") -> Answer:
    """The answer to an environ that no server may make; nothing unforeseen was met."""
    errors, started = io.StringIO(), []
    given = {"wsgi.input": io.BytesIO(body), "wsgi.errors": errors, "wsgi.url_scheme": "http", **environ}
    result = wsgi.create_app(str(installation.home))(given, lambda status, headers, error=None: started.append(
        (status, headers)))  # fmt: skip
    content = b"".join(result)

    if hasattr(result, "close"):
        result.close()

    assert not UNFORESEEN.search(errors.getvalue()), errors.getvalue()
    (status, headers), = started
    assert all(value.isprintable() for _, value in headers)
    cookies = "; ".join(value.partition(";")[0] for name, value in headers if name == "Set-Cookie")
    return Answer(int(status.split()[0]), {COOKIES: cookies}, content, errors.getvalue())


# A request

queries = st.lists(st.one_of(
    texts, st.sampled_from(["sig", "ts", "task", "status", "admin", "=", "&", "%", "%zz", "%ff%fe", "+", "&amp;", ";"]),
    st.text("0123456789abcdefABCDEF", max_size=70)), max_size=12).map("".join)  # fmt: skip
latin = st.text(st.characters(max_codepoint=255), max_size=80)
paths = st.one_of(latin, st.sampled_from(["", "/", "/run", "/run/", "//run//x", "/status/" + "0" * 32,
                                          "/run/" + "f" * 32, "/run/" + "f" * 32 + "/x",
                                          "/run/" + "²" * 32]))  # fmt: skip
VARIABLES = ("QUERY_STRING", "HTTP_X_WEBSCHEDULER_SIGNATURE", "HTTP_X_WEBSCHEDULER_TIMESTAMP", "HTTP_X_FORWARDED_FOR",
             "HTTP_PURPOSE", "HTTP_SEC_PURPOSE", "REMOTE_ADDR", "SERVER_SOFTWARE", "CONTENT_LENGTH", "CONTENT_TYPE",
             "SCRIPT_NAME", "HTTP_HOST", "HTTP_COOKIE", "HTTP_TRANSFER_ENCODING")  # fmt: skip
environs = st.fixed_dictionaries(
    {"REQUEST_METHOD": st.one_of(st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "", "get", "PÜT"]), latin),
     "PATH_INFO": paths}, optional=dict.fromkeys(VARIABLES, st.one_of(latin, queries.filter(
         lambda text: all(ord(each) < 256 for each in text)))))  # fmt: skip


@some
@given(queries)
@example("&" * 100_000)
@example("a=%" * 30_000)
def test_a_query_string_has_no_errors(text: str) -> None:
    """Any text is a list of names and values, at most 500, of at most its own length."""
    with bounded(len(text)):
        found = http.fields(text)

    assert len(found) <= http.MAX_FIELDS
    assert sum(len(name) + len(value) for name, value in found) <= min(len(text), http.MAX_LENGTH)


@some
@given(environs, st.binary(max_size=200))
def test_a_request_is_answered_and_runs_nothing(one: Installation, environ: dict[str, str], body: bytes) -> None:
    """Without the signature nothing runs, and the answer is one of those that are documented."""
    with bounded(sum(map(len, environ.values())) + len(body)):
        answer = asked(one, environ, body)

    kind = http.Request({**environ, "REQUEST_METHOD": "GET"}).kind
    assert answer.status in {"run": (202, ), "status": (404, ), "none": (404, )}.get(kind, STATUSES)
    assert kind != "run" or answer.body in (b'{"accepted": false}', b"")
    assert one.claims() == []
    assert one.runs() == []


# Schedules

@some
@given(st.text(alphabet="0123456789*/,-?LW# @JANMONdaily\t\x00\n¹é", max_size=60))
@example("*/1," * 2000 + "* * * * *")
@example("0 0 29 2 1#5")
@example("0 0 31 2,4,6,9,11 *")
@example("0-59/59 0-23/23 L 2 0#5")
@example("9" * 5000 + " * * * *")
def test_a_cron_expression_is_read_or_refused(text: str) -> None:
    """Any text is a schedule, whose next time is found in bounded work though it never comes, or a documented error."""
    with bounded(len(text) + 500):
        cron = documented(lambda: Cron(text))

        if isinstance(cron, Cron):
            for zone in ("UTC", "Australia/Lord_Howe"):
                now = parse_moment()
                coming, past = cron.next(now, ZoneInfo(zone)), cron.previous(now, ZoneInfo(zone))
                assert coming is None or coming > now
                assert past is None or past <= now


def parse_moment() -> Any:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(NOW, timezone.utc)


# Files that people edit

ROW = new_task(NOW, {"enabled": True, "argv": ["true"], "cwd": "/", "strategy": "fork"})
rows = st.one_of(values, st.builds(lambda field, value: {**ROW, field: value},
                                   st.sampled_from(sorted(FIELDS)), values))  # fmt: skip


@few
@given(st.one_of(st.binary(max_size=200), values.map(fuzzed), st.dictionaries(
    st.one_of(st.sampled_from(["task", "@due", "", "a/b", "\ud800"]), texts), rows, max_size=3).map(fuzzed)))
@example(NESTED)
@example(b'{"task": {"timeout": ' + b"9" * 5000 + b"}}")
@example(b'{"task": {"enabled": true, "argv": ["true"], "intervalSeconds": 1e999}}')
def test_a_state_of_any_content(one: Installation, content: bytes) -> None:
    """With any state.json each reader says what is wrong with it, in bounded work, and no request is answered with
    anything but the answers for an unknown slug or for an installation that cannot work."""
    home, file = str(one.home), one.home / "state.json"
    before = file.read_bytes()
    file.write_bytes(content)

    try:
        with bounded(len(content)):
            tasks = documented(lambda: state.read_strictly(home))

            for name, row in tasks.items() if isinstance(tasks, dict) else ():
                documented(partial(load_task, name, row))

        if isinstance(tasks, dict):
            config = load_settings(home)
            load_tasks(tasks)
            documented(lambda: health.states(config, tasks, NOW))
            documented(lambda: due.select(config, tasks, NOW))

        assert asked(one, asking("/run/" + "0" * 32, "sig=" + "0" * 64)).status in (202, 503)
        assert asked(one, asking("/status/" + "0" * 32, "sig=" + "0" * 64)).status in (404, 503)

        row = tasks.get("task") if isinstance(tasks, dict) else None

        if isinstance(row, dict) and row.get("argv") == ["true"] and row.keys() == ROW.keys():
            environ = asking(f"/run/{ROW['slug']}", f"sig={signing.sign(ROW['secret'], ROW['slug'])}")
            assert asked(one, environ).status in (202, 503)
            one.idle()

        for words in (["list"], ["status"], ["next"], ["show", "task"], ["run-due", "--dry-run"], ["list", "--json"]):
            said(home, words)
    finally:
        file.write_bytes(before)
        (one.home / "index").unlink(missing_ok=True)


def said(home: str, words: list[str]) -> str:
    """What a command line prints; it ends with one of its statuses, and an error is one line."""
    output, errors = io.StringIO(), io.StringIO()

    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = cli.main(["--home", home, *words])

    assert status in (0, 1, 2)
    assert status != 2 or len(errors.getvalue().splitlines()) == 1
    return output.getvalue() + errors.getvalue()


@few
@given(st.one_of(st.binary(max_size=200), values.map(fuzzed), st.dictionaries(
    st.one_of(st.sampled_from(sorted(SETTINGS)), texts), values, max_size=3).map(fuzzed)))
@example(NESTED)
def test_a_config_of_any_content(one: Installation, content: bytes) -> None:
    """With any config.json the settings are read, or what is wrong is said; a request answers 503 at the worst."""
    home, file = str(one.home), one.home / "config.json"
    before = file.read_bytes()
    file.write_bytes(content)

    try:
        with bounded(len(content)):
            documented(lambda: load_settings(home))

        assert asked(one, asking("/run/" + "0" * 32, "sig=" + "0" * 64)).status in (202, 503)
        assert asked(one, asking("/admin/sign-in")).status in (200, 303, 503)
        said(home, ["config", "list"])
        said(home, ["list"])
    finally:
        file.write_bytes(before)
        (one.home / "index").unlink(missing_ok=True)


entries = st.one_of(values, st.dictionaries(st.sampled_from(sorted(ENTRY)), values, max_size=6))


@few
@given(st.lists(st.one_of(st.binary(max_size=80), entries.map(fuzzed)), max_size=6).map(b"\n".join), st.booleans())
@example(b"[" * 100_000, True)
@example(b'{"finishedAt": "9999-99-99T99:99:99Z", "run": "20269999999999-00000000"}', True)
def test_a_history_of_any_content(one: Installation, content: bytes, whole: bool) -> None:
    """With any lines in a history, what can be read is shown, searched and cleaned, and a new line comes after it."""
    home, file = str(one.home), Path(history.path(str(one.home), "task"))
    file.write_bytes(content + (b"\n" if whole else b""))
    name, run = "task", "20261128120000-00000000"

    try:
        with bounded(len(content)):
            list(history_reading.entries(home, name))
            history_reading.find(home, [name], run)
            history_reading.find_by_scanning(home, name, run)
            history_view.recent(home, name)
            list(history_view.merged(home, [name]))

        said(home, ["logs", "task"])
        said(home, ["logs", "--run", run])
        assert asked(one, {**asking("/admin/history"), "webscheduler.user": OWNER}).status == 200
        history.append(home, name, history.entry(command=name, run=run, status="success"))
        found = history_reading.find(home, [name], run)
        assert found
        assert found["status"] == "success"
        history_cleaning.clean(home, name, lambda entry: entry.get("run") == run)
        assert [entry["run"] for entry in history_reading.entries(home, name)][-1:] == [run]
    finally:
        file.unlink(missing_ok=True)


# The panel

COOKIES = "Set-Cookie"  # in the headers of `asked`: all of them, as a browser sends them back
OWNER = {"name": "owner", "role": "owner"}
KINDS = ("multipart/form-data; boundary=x", "multipart/form-data", "application/x-www-form-urlencoded", "")
STATUSES = (200, 202, 303, 400, 403, 404, 405, 409, 413, 422, 429, 503)


@few
@given(st.lists(st.tuples(st.sampled_from(["webscheduler", "webscheduler_notice", "webscheduler_device",
                                           "webscheduler_stranger", "x"]), latin), max_size=4), latin)
@example([("webscheduler", "." * 100_000)], "")
@example([("webscheduler", "W10." + "0" * 64)], "")
def test_cookies_of_any_content(one: Installation, cookies: list[tuple[str, str]], rest: str) -> None:
    """A cookie that was not made here signs nobody in, and is answered as none."""
    text = "; ".join(f"{name}={value}" for name, value in cookies) + rest

    with bounded(len(text)):
        answer = asked(one, asking("/admin/", HTTP_COOKIE=text))

    assert answer.status == 303  # to signing in, or to set-up


others = ["* * * * *", "task", "on", "yes", "1", "²", "-1", "9" * 400, "\x00", "a\nb", "[]", "{}", '{"a": 1}', "1~2~3"]
fields = st.dictionaries(
    st.one_of(st.sampled_from(["page", "from", "to", "before", "run", "name", "stream", "kind", "every", "do"]), texts),
    st.one_of(texts, st.sampled_from(others)), max_size=6)
# What starts processes is no work of a form; its pages are in tests/admin.
FORMS = sorted(page for page in PAGES if page not in (
    "run-now", "probe", "check", "cancel", "notify-test", "update", "crontab", "diagnostics", "sign-out"))  # fmt: skip


@some
@given(st.sampled_from(FORMS), fields, st.booleans(), st.sampled_from(KINDS), st.binary(max_size=40), st.data())
def test_forms_of_any_content(
    one: Installation, page: str, more: dict[str, str], sends: bool, kind: str, raw: bytes, data: st.DataObject
) -> None:
    """Whatever a form of the panel holds, and however it is sent, the answer is a page that says what is wrong."""
    before = {file: (one.home / file).read_bytes() for file in ("state.json", "config.json")}
    signed_in = {"webscheduler.user": OWNER, "HTTP_SEC_FETCH_SITE": "same-origin"}
    shown = asked(one, {**asking("/admin/" + page, "" if page == "settings" else "name=task"), **signed_in})

    try:
        if not sends or shown.status != 200:
            assert asked(one, {**asking("/admin/" + page, encoded(more)), **signed_in}).status in STATUSES
            return

        forms = [found["fields"] for found in Form(shown.body.decode()).forms] or [{"token": ""}]
        form = max(forms, key=len)
        wrong = data.draw(st.dictionaries(st.sampled_from(sorted(form)), st.one_of(texts, st.sampled_from(others))))
        wrong.pop("token", None)
        body = raw if kind.startswith("multipart") else encoded({**form, "do": "save", **more, **wrong}).encode()
        environ = asking("/admin/" + page, "" if page == "settings" else "name=task", "POST", CONTENT_TYPE=kind,
                         CONTENT_LENGTH=str(len(body)), HTTP_COOKIE=shown.headers[COOKIES])  # fmt: skip
        assert asked(one, {**environ, **signed_in}, body).status in STATUSES
    finally:
        for file, content in before.items():
            (one.home / file).write_bytes(content)

        for file in ("index", "users.json"):
            (one.home / file).unlink(missing_ok=True)


def encoded(form: dict[str, str]) -> str:
    return urlencode(list(form.items()), errors="replace")


# What is imported

crontabs = st.lists(st.one_of(
    texts, st.sampled_from(["* * * * * true", "@daily x", "@reboot x", "A=b", "CRON_TZ=Nowhere", "SHELL='", "# x",
                            "\\%", "* * * * * cat%a%b", "*/0 * * * * x", "1 2 3", "%", "0 0 1 1 * \x00"])), max_size=8)


@some
@given(crontabs.map("\n".join))
@example("A=" * 20_000)
@example("* * * * * " + "%" * 20_000)
def test_a_crontab_of_any_content(text: str) -> None:
    """Each line of a crontab becomes a task that can be loaded, or what is wrong with it is said."""
    with bounded(len(text)):
        arrival = documented(lambda: importing.of_crontab(text, {}, "UTC"))

    if isinstance(arrival, importing.Arrival):
        for name, row in arrival.tasks.items():
            load_task(name, row)

        assert all("\n" not in line for line in arrival.said)


@few
@given(st.one_of(texts, values.map(json.dumps), st.dictionaries(texts, rows, max_size=3).map(
    lambda tasks: json.dumps({"format": importing.FORMAT, "version": 1, "tasks": tasks}))))
@example("[" * 100_000)
@example('{"format": "' + importing.FORMAT + '", "version": true, "tasks": []}')
def test_a_backup_of_any_content(one: Installation, text: str) -> None:
    """A backup is imported as a whole, or refused by a documented error, after which nothing has changed."""
    home, before = str(one.home), (one.home / "state.json").read_bytes()

    try:
        with bounded(len(text)):
            arrival = documented(lambda: importing.of_document(text, "a file"))

        if isinstance(arrival, importing.Arrival):
            names = documented(lambda: importing.import_tasks(load_settings(home), arrival, NOW, False))
            after = (one.home / "state.json").read_bytes()
            assert names is not None or after == before

            if names:
                load_tasks(state.read_strictly(home))
                said(home, ["list"])
    finally:
        (one.home / "state.json").write_bytes(before)
        (one.home / "index").unlink(missing_ok=True)


