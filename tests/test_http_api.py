# SPDX-License-Identifier: LGPL-3.0-or-later
"""The API: what each route does at both doors, what it says of bad requests, and what it never shows."""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.installation import DOORS, Answer, Installation, answered, asking, until
from webscheduler import signing
from webscheduler.http_api import openapi, table
from webscheduler.store import keys, processes, state
from webscheduler.store.task import FIELDS

BASE = "https://example.org/cron"
ROLES = ("viewer", "editor", "owner")
HOSTILE = ["a/b", "50%", "100%25", "é ü", "日本", "a?b#c", "a&api=x", "a+b", "a;b", "..", "a\\b", "'\"<>"]


class Program:
    """A program elsewhere, with a key of each role."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        installation.configure(baseUrl=BASE, commands={
            "backup": {"argv": ["true"], "arguments": True}, "clean": {"argv": ["true"]}})
        self.keys = {role: keys.add(str(installation.home), role, role, time.time()) for role in ROLES}
        self.door = "wsgi"

    def add(self, name: str, **fields: Any) -> None:
        """Add a task that runs a registered command."""
        self.installation.add(name)
        self.installation.edit(name, **{"argv": None, "cwd": None, "command": "clean", **fields})

    def ask(self, method: str, path: str, body: Any = None, role: str = "owner", **variables: str) -> Answer:
        """The answer to a request; the body is sent as JSON if it is not bytes already."""
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        given = {"REMOTE_ADDR": "127.0.0.1", "HTTP_AUTHORIZATION": f"Bearer {self.keys.get(role, role)}",
                 **({"CONTENT_TYPE": "application/json"} if sent else {}), **variables}
        environ = asking(f"/api/v1{path}".encode().decode("latin-1"), query, method, **given)
        answer = self.installation.call(self.door, {
            name: text for name, text in environ.items() if text or not name.startswith(("HTTP_", "CONTENT_"))}, sent)
        assert answer.headers.get("Cache-Control") == "no-store"
        assert answer.headers.get("X-Content-Type-Options") == "nosniff"
        assert len(answer.body) <= table.MAX_ANSWER
        return answer

    def good(self, method: str, path: str, body: Any = None, role: str = "owner", **variables: str) -> Any:
        """The document of an answer that says that it was done."""
        answer = self.ask(method, path, body, role, **variables)
        assert answer.status in (200, 201, 204), answer.body
        assert answer.errors == ""
        return answer.document if answer.body else None

    def problem(self, status: int, method: str, path: str, body: Any = None, role: str = "owner", field: str = "",
                **variables: str) -> dict[str, Any]:
        """A problem document (RFC 9457) of this status and field; nothing was written but how often keys were used."""
        before = self.content()
        answer = self.ask(method, path, body, role, **variables)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.body
        found: dict[str, Any] = answer.document
        assert found.keys() == {"type", "title", "status", "detail"} | ({"field"} if field else set())
        assert (found["type"], found["status"], found.get("field", "")) == ("about:blank", status, field)
        assert "Traceback" not in answer.errors + found["detail"]
        assert self.content() == before
        return found

    def content(self) -> dict[str, bytes]:
        home = self.installation.home
        return {name: (home / name).read_bytes() for name in ("state.json", "config.json", "users.json", "audit.jsonl")
                if (home / name).exists()}


@pytest.fixture
def program(installation: Installation) -> Program:
    return Program(installation)


@pytest.fixture(params=DOORS)
def at_door(request: pytest.FixtureRequest, program: Program) -> Program:
    program.door = request.param
    return program


def test_until_there_is_a_key_it_is_no_path_at_all(installation: Installation) -> None:
    """The same bytes and headers as for any other path, with a key in the request and in the query's form."""
    for door in DOORS:
        unknown = installation.call(door, asking("/nothing"))

        for environ in (asking("/api/v1"), asking("/api/v1/tasks", HTTP_AUTHORIZATION="Bearer wsk_x"),
                        asking("/api", method="OPTIONS"), asking("", "api=v1")):
            assert installation.call(door, environ)[:3] == unknown[:3]

    assert not (installation.home / "throttle.json").exists()


def test_a_key_says_what_it_may_do(at_door: Program) -> None:
    """By either header, and in the form for hosts that drop the path."""
    found = at_door.good("GET", "", role="editor")
    assert (found["api"], found["key"], found["role"]) == (1, "editor", "editor")
    key = at_door.keys["viewer"]

    for given in ("", f"bearer  {key}"):
        found = at_door.good("GET", "/", HTTP_AUTHORIZATION=given, HTTP_X_WEBSCHEDULER_KEY=key)
        assert found["role"] == "viewer"

    assert at_door.good("GET", "", PATH_INFO="", QUERY_STRING="api=v1")["key"] == "owner"
    assert at_door.good("GET", "", PATH_INFO="", QUERY_STRING="api=%2Fv1%2Ftasks%2F&limit=1")["tasks"]
    assert at_door.ask("HEAD", "/tasks").body == b""


@pytest.mark.parametrize("given", [{}, {"HTTP_AUTHORIZATION": "Basic eDp5"}, {"HTTP_AUTHORIZATION": "Bearer"},
                                   {"HTTP_AUTHORIZATION": "Bearer wsk_wrong"}, {"HTTP_X_WEBSCHEDULER_KEY": "é"},
                                   {"HTTP_AUTHORIZATION": "Bearer {viewer}", "HTTP_X_WEBSCHEDULER_KEY": "{owner}"}])
def test_without_one_good_key_nobody_gets_in(program: Program, given: dict[str, str]) -> None:
    """Two keys that differ are none."""
    given = {name: text.format_map(program.keys) for name, text in given.items()}
    answer = program.ask("GET", "/tasks", **{"HTTP_AUTHORIZATION": "", **given})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_plain_http_is_refused_but_from_this_machine(program: Program) -> None:
    """A proxy counts if it is trusted; one that is not makes a local address no proof."""
    elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
    proxied = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}
    program.problem(403, "GET", "", **elsewhere)
    program.problem(403, "GET", "", **proxied)
    program.problem(403, "GET", "", **proxied, HTTP_X_FORWARDED_PROTO="https")
    program.installation.configure(trustedProxies=["127.0.0.1"])
    assert program.good("GET", "", **proxied, HTTP_X_FORWARDED_PROTO="https")
    program.problem(403, "GET", "", **proxied, HTTP_X_FORWARDED_PROTO="http")
    program.installation.configure(apiOverHttp=True)
    assert program.good("GET", "", **elsewhere)
    program.installation.configure(apiOverHttp=False)
    program.door = "cgi"
    assert program.good("GET", "", **elsewhere, HTTPS="on")
    program.problem(403, "GET", "", **elsewhere, HTTPS="off")


def test_only_named_origins_may_ask_from_a_browser(at_door: Program) -> None:
    """As texts, whole; without a setting no header of CORS is sent, and OPTIONS is a method like any other."""
    page = "https://dash.example"
    ask = {"HTTP_ORIGIN": page, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "PATCH"}

    def cors(answer: Answer) -> set[str]:
        return {name for name in answer.headers if name.startswith("Access-Control") or name == "Vary"}

    assert (answer := at_door.ask("OPTIONS", "/tasks", role="none", **ask)).status == 401
    assert cors(answer) | cors(at_door.ask("GET", "/tasks", **ask)) == set()
    at_door.installation.configure(apiOrigins=[page])
    answer = at_door.ask("OPTIONS", "/tasks", HTTP_AUTHORIZATION="", **ask)
    assert (answer.status, answer.body, answer.headers["Access-Control-Allow-Origin"]) == (204, b"", page)
    assert "If-Match" in answer.headers["Access-Control-Allow-Headers"]
    assert at_door.ask("GET", "/tasks", **ask).headers["Access-Control-Allow-Origin"] == page
    assert at_door.ask("GET", "/tasks", role="no", **ask).headers["Access-Control-Allow-Origin"] == page

    for other in ("https://dash.example.evil", "http://dash.example", "null", "https://dash.example:8443", ""):
        assert cors(at_door.ask("GET", "/tasks", **{**ask, "HTTP_ORIGIN": other})) == {"Vary"}
        assert at_door.ask("OPTIONS", "/tasks", role="no", **{**ask, "HTTP_ORIGIN": other}).status == 401

    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_task_is_made_read_changed_and_removed(at_door: Program) -> None:
    """The secret is shown once; a schedule replaces that of the other kind; null is the default."""
    made = at_door.ask("POST", "/tasks", {"name": "nightly", "command": "backup", "arguments": "--all",
                                          "expression": "5 3 * * *", "title": None}, "editor")
    row = at_door.installation.row("nightly")
    assert (made.status, made.document["secret"], made.document["enabled"]) == (201, row["secret"], True)
    assert made.headers["Location"] == "/cgi-bin/webscheduler.cgi/api/v1/tasks/nightly"
    assert made.document["url"] == signing.trigger_url(BASE, row["slug"], row["secret"])
    assert row["publicOnly"] is True
    answer = at_door.ask("GET", "/tasks/nightly")
    assert (answer.headers["ETag"], "secret" in answer.document) == (made.headers["ETag"], False)
    assert (answer.document["state"], len(answer.document["nextRuns"])) == ("never", 5)
    found = at_door.good("PATCH", "/tasks/nightly", {"name": "hourly", "intervalSeconds": 3600, "arguments": None,
                                                     "title": "Each hour"}, "editor",
                         CONTENT_TYPE="application/merge-patch+json; charset=UTF-8")
    assert [found[name] for name in ("name", "expression", "intervalSeconds", "arguments", "title")] == [
        "hourly", None, 3600, "", "Each hour"]
    assert at_door.good("POST", "/tasks/hourly/disable", role="editor")["state"] == "disabled"
    assert at_door.good("POST", "/tasks/hourly/enable", {}, role="editor")["enabled"] is True
    copy = at_door.ask("POST", "/tasks/hourly/duplicate", {"name": "copy"}, "editor")
    assert (copy.status, copy.document["title"], copy.document["secret"] == row["secret"]) == (201, "Each hour", False)
    rotated = at_door.good("POST", "/tasks/copy/rotate", {"keepOld": 60}, "editor")
    assert rotated["secret"] == at_door.installation.row("copy")["secret"] != copy.document["secret"]
    assert at_door.good("GET", "/tasks/copy")["oldSecretUntil"]
    assert at_door.ask("DELETE", "/tasks/hourly?keepLogs=true", role="editor").status == 204
    at_door.problem(404, "GET", "/tasks/hourly", field="name")
    did = [(json.loads(line)["who"], json.loads(line)["did"]) for line in
           (at_door.installation.home / "audit.jsonl").read_text().splitlines()]
    assert did == [("key editor", what) for what in (
        "created", "renamed", "changed", "disabled", "enabled", "created", "made a new secret", "removed")]


def test_urls_and_starts_of_a_task(program: Program) -> None:
    """What `url` and `next` print."""
    program.good("POST", "/tasks", {"name": "a", "command": "clean", "expression": "0 4 * * *",
                                    "timezone": "Europe/Paris", "signature": "either"})
    row = program.installation.row("a")
    slug, secret = row["slug"], row["secret"]
    assert program.good("GET", "/tasks/a/url") == {"url": signing.trigger_url(BASE, slug, secret)}
    assert program.good("GET", "/tasks/a/url?kind=status") == {"url": signing.status_url(BASE, slug, secret)}
    assert "ts=" in program.good("GET", "/tasks/a/url?kind=timed")["url"]
    program.good("PATCH", "/tasks/a", {"signature": "static"})
    program.problem(409, "GET", "/tasks/a/url?kind=timed", field="kind")
    found = program.good("GET", "/tasks/a/next?count=2&from=2026-03-28T12:00:00Z", role="viewer")
    assert found == {"next": ["2026-03-29T04:00:00+02:00", "2026-03-30T04:00:00+02:00"]}
    program.problem(400, "GET", "/tasks/a/next?from=9999-12-31T23:59:59Z", field="from")
    program.installation.configure(baseUrl=None)
    program.problem(409, "GET", "/tasks/a/url")


def test_stamps_keep_what_others_wrote(at_door: Program) -> None:
    """Whatever writes; a run changes no stamp."""
    at_door.installation.add("a")
    at_door.add("b")
    seen = at_door.ask("GET", "/tasks/b").headers["ETag"]
    at_door.installation.edit("b", lastRunStatus="failed", consecutiveFailures=3, nextRunAt=None, lastRunId="x")
    assert at_door.ask("GET", "/tasks/b").headers["ETag"] == seen
    at_door.good("PATCH", "/tasks/b", {"title": "one"}, HTTP_IF_MATCH=f'W/"x", "y" , {seen}')
    now = at_door.ask("GET", "/tasks/b").headers["ETag"]
    assert now != seen

    for stamp in (seen, '"x"', f"W/{now}", "nonsense", now.strip('"')):
        for method, path, body in (("PATCH", "", {"title": "two"}), ("PATCH", "", {"name": "c"}), ("PATCH", "", {}),
                                   ("DELETE", "", None), ("POST", "/enable", None), ("POST", "/disable", None),
                                   ("POST", "/rotate", None), ("POST", "/duplicate", {"name": "c"})):
            at_door.problem(412, method, f"/tasks/b{path}", body, HTTP_IF_MATCH=stamp)

        if at_door.door == "cgi":
            break  # a process for each

    at_door.good("PATCH", "/tasks/b", {"title": "two"}, HTTP_IF_MATCH="*")
    at_door.good("DELETE", "/tasks/b", HTTP_IF_MATCH=at_door.ask("GET", "/tasks/b").headers["ETag"])


def test_a_list_has_each_task_once_while_others_write(program: Program) -> None:
    """By name, page by page; what is added or removed before the place where a reader is, moves nothing."""
    for number in range(12):
        program.installation.add(f"t{number:02}", group="even" if number % 2 == 0 else "odd", enabled=number != 3)

    names: list[str] = []
    after: str | None = ""
    asked = 0

    while after is not None:
        found = program.good("GET", f"/tasks?limit=5{'&after=' + quote(after, '') if after else ''}", role="viewer")
        names += [row["name"] for row in found["tasks"]]
        after, asked = found["next"], asked + 1

        if asked == 1:
            program.good("DELETE", "/tasks/t00")
            program.installation.add("a-new-one-before")
            program.good("DELETE", "/tasks/t09")

    assert names == ["@due", *(f"t{number:02}" for number in range(12) if number != 9)]
    found = program.good("GET", "/tasks?group=odd&state=disabled")
    assert ([row["name"] for row in found["tasks"]], found["next"]) == (["t03"], None)
    program.installation.edit("t01", command="clean", argv=None)
    assert [row["name"] for row in program.good("GET", "/tasks?command=clean")["tasks"]] == ["t01"]


def test_states_are_those_of_the_panel(program: Program) -> None:
    """Failing, late, never, success, disabled; running while a process lives."""
    now = "2026-01-01T00:00:00.000+00:00"
    rows: dict[str, dict[str, Any]] = {
        "failing": {"lastRunStatus": "failed", "lastRunAt": now},
        "late": {"intervalSeconds": 60, "createdAt": now, "lastRunAt": now, "lastRunStatus": "success"},
        "never": {}, "success": {"lastRunAt": now, "lastRunStatus": "success"}, "disabled": {"enabled": False},
        "running": {"argv": ["sleep", "60"]}}

    for name, fields in rows.items():
        program.installation.add(name, **fields)

    program.installation.trigger("cgi", "running")
    until(lambda: processes.live_runs(str(program.installation.home)), "the run")

    for name in rows:
        (found,) = program.good("GET", f"/tasks?state={name}&after=@due")["tasks"]
        assert (found["name"], found["state"]) == (name, name)

    (run,) = program.good("GET", "/tasks/running")["running"]
    assert program.installation.facts()[0]["run"] == run
    program.problem(409, "DELETE", "/tasks/running")
    program.problem(409, "PATCH", "/tasks/running", {"name": "other"})


def test_a_long_list_is_cut(program: Program) -> None:
    """At less than 1 MiB, however long the tasks are: the next page begins there."""
    for number in range(30):
        program.add(f"t{number:03}", command="backup", arguments="\U0001f600" * 3900, title="é\x01" * 100,
                    description="\U0001f600" * 2000)

    names: list[str] = []
    after: str | None = "@due"

    while after is not None:
        found = program.good("GET", f"/tasks?limit=500&after={after}")
        names += [row["name"] for row in found["tasks"]]
        after = found["next"]

    assert names == [f"t{number:03}" for number in range(30)]


BODIES: list[tuple[Any, str]] = [
    (b"{", ""), (b"[]", ""), (b"null", ""), (b'"x"', ""), (b"\xff{}", ""), (b"\xef\xbb\xbf{}", ""),
    ('{"title": "x"}'.encode("utf-16"), ""), (b'{"title": "a", "title": "b"}', ""), (b'{"priority": NaN}', ""),
    (b'{"priority": Infinity}', ""), (b"[" * 60000, ""), (b'{"title":' * 150 + b"1" + b"}" * 150, ""),
    (b'{"priority": 1e999}', "priority"), (b'{"priority": %s}' % (b"9" * 4000), "priority"),
    (b'{"priority": 1.0}', "priority"), (b'{"priority": true}', "priority"), (b'{"priority": "1"}', "priority"),
    (b'{"title": "\\ud800"}', "title"), (b'{"title": "a\\u0000"}', "title"), (b'{"title": "a\\nb"}', "title"),
    ({"title": 1}, "title"), ({"title": ["x"]}, "title"), ({"title": "x" * 201}, "title"), ({"enabled": 1}, "enabled"),
    ({"ipAllowlist": "10.0.0.1"}, "ipAllowlist"), ({"ipAllowlist": ["x"]}, "ipAllowlist"),
    ({"strategy": "thread"}, "strategy"), ({"expression": "x"}, "expression"), ({"timezone": "Mars"}, "timezone"),
    ({"expression": "* * * * *", "intervalSeconds": 5}, "expression"), ({"command": "rm"}, "command"),
    ({"group": "@probe"}, "group"), ({"nothing": 1}, "nothing"), ({"argv": ["id"]}, "argv"), ({"cwd": "/"}, "cwd"),
    ({"environment": {}}, "environment"), ({"slug": "0" * 32}, "slug"), ({"secret": "0" * 64}, "secret"),
    ({"publicOnly": False}, "publicOnly"), ({"lastRunStatus": "success"}, "lastRunStatus"), ({"name": "@x"}, "name"),
    ({"name": ""}, "name"), ({"name": "a\nb"}, "name"), ({"name": "x" * 101}, "name"), ({"\ud800": 1}, "\ud800"),
    ({"arguments": "'"}, "arguments"), ({"onSuccess": ["nobody"]}, "onSuccess"),
]


@pytest.mark.parametrize(("body", "field"), BODIES, ids=lambda value: str(value)[:30] if value else "")
def test_bad_bodies_change_nothing(program: Program, body: Any, field: str) -> None:
    """Beside a good field, too: all or nothing; the problem names the field."""
    program.good("POST", "/tasks", {"name": "a", "command": "backup"})
    found = {**body, "priority": 7} if isinstance(body, dict) else body
    assert program.problem(400, "PATCH", "/tasks/a", found, field=field)["detail"]

    if isinstance(body, dict):
        program.problem(400, "POST", "/tasks", {"name": "b", "command": "backup", **body}, field=field)


@pytest.mark.parametrize(("query", "field"), [
    ("limit=0", "limit"), ("limit=501", "limit"), ("limit=x", "limit"), ("limit=", "limit"), ("limit=%C2%B9", "limit"),
    ("limit=1&limit=2", "limit"), ("state=well", "state"), ("states=late", "states"), ("%00=1", "\0"),
    ("group=a%00", "group"), ("api=v1", "api"), ("&".join(["a=1"] * 600), ""), (f"after={'x' * 70000}", "")])
def test_bad_queries(program: Program, query: str, field: str) -> None:
    """Unknown fields, too, are refused by their name."""
    assert program.problem(400, "GET", f"/tasks?{query}", field=field)["detail"]


def test_methods_paths_types_and_lengths(at_door: Program) -> None:
    """405 names what there is; a long or an undescribed body is not read."""
    at_door.installation.add("a")

    for method, path, allow in (("PUT", "/tasks/a", "DELETE, GET, HEAD, PATCH"), ("POST", "", "GET, HEAD"),
                                ("GET", "/tasks/a/enable", "POST"), ("OPTIONS", "/tasks", "GET, HEAD, POST"),
                                ("TRACE", "/tasks", "GET, HEAD, POST")):
        answer = at_door.ask(method, path)
        assert (answer.status, ", ".join(sorted(answer.headers["Allow"].split(", ")))) == (405, allow)

    at_door.problem(404, "GET", "/nothing")
    at_door.problem(404, "GET", "x")

    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "",
                 "application/merge-patch+json"):
        at_door.problem(415, "POST", "/tasks", {"name": "b", "command": "clean"}, CONTENT_TYPE=kind)

    at_door.problem(413, "PATCH", "/tasks/a", b" " * 65535 + b"{}")
    at_door.good("PATCH", "/tasks/a", b" " * 65534 + b"{}")
    at_door.problem(400, "PATCH", "/tasks/a", CONTENT_TYPE="application/json")
    at_door.problem(400, "POST", "/import?prune=true", b"[]")
    at_door.problem(400, "POST", "/import?prune=true")  # no document is not one without tasks
    at_door.problem(400, "PATCH", "/tasks/a", {"title": "b"}, CONTENT_LENGTH="1x")
    at_door.problem(400, "PATCH", "/tasks/a", {"title": "b"}, CONTENT_LENGTH="5000")
    at_door.problem(400, "PATCH", "/tasks/a", {"title": "b"}, CONTENT_LENGTH="-5")
    at_door.problem(400, "PATCH", "/tasks/a", HTTP_TRANSFER_ENCODING="chunked")
    assert at_door.installation.row("a")["title"] == ""


def test_nothing_is_read_of_a_body_before_the_role_is_known(installation: Installation) -> None:
    """A script that is sent a body for ever by a viewer, or with a wrong key, answers at once."""
    program = Program(installation)

    for role, status in (("viewer", 403), ("nobody", 401)):
        ours, theirs = socket.socketpair()

        with ours, theirs:
            environ = asking("/api/v1/tasks", method="POST", REMOTE_ADDR="127.0.0.1", CONTENT_LENGTH="60000",
                             CONTENT_TYPE="application/json", HTTP_X_WEBSCHEDULER_KEY=program.keys.get(role, role))
            process = installation.start_cgi(environ, stdin=theirs)
            assert answered(process).status == status


def test_a_slow_body_ends_the_wait(installation: Installation) -> None:
    """A script waits some seconds for an editor's body that does not come, and answers."""
    program = Program(installation)
    ours, theirs = socket.socketpair()

    with ours, theirs:
        environ = asking("/api/v1/tasks", method="POST", REMOTE_ADDR="127.0.0.1", CONTENT_LENGTH="600",
                         CONTENT_TYPE="application/json", HTTP_X_WEBSCHEDULER_KEY=program.keys["editor"])
        process = installation.start_cgi(environ, stdin=theirs)
        ours.send(b'{"name"')
        answer = answered(process)

    assert (answer.status, "as a whole" in answer.document["detail"]) == (400, True)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_all_kinds(program: Program, name: str) -> None:
    """In a path as the server gives it, and in a query: there the path's own escapes stay."""
    good = not name.startswith(".")
    before = set(state.read(str(program.installation.home)))
    answer = program.ask("POST", "/tasks", {"name": name, "command": "clean"})
    assert answer.status == (201 if good else 400)

    if not good:
        assert set(state.read(str(program.installation.home))) == before
        return

    assert answer.headers["Location"].endswith("/" + quote(name, ""))
    assert program.good("GET", f"/tasks/{name}", PATH_INFO=f"/api/v1/tasks/{name}".encode().decode("latin-1"),
                        QUERY_STRING="")["name"] == name
    value = quote(f"v1/tasks/{quote(name, '')}", "")
    asked = program.ask("GET", "", PATH_INFO="", QUERY_STRING=f"api={value}")
    assert asked.document["name"] == name
    changed = program.ask("PATCH", "", {"title": "x"}, PATH_INFO="", QUERY_STRING=f"api={value}")
    assert (changed.status, program.installation.row(name)["title"]) == (200, "x")


@pytest.mark.parametrize("path", ["/tasks/\xff", "/tasks/a%2Fb", "/tasks/a\n", "/tasks/a\0b", "/tasks/" + "x" * 5000])
def test_paths_that_name_nothing(program: Program, path: str) -> None:
    """Nobody's: 404, whatever the bytes are."""
    answer = program.ask("GET", "", PATH_INFO=f"/api/v1{path}")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")


def test_what_no_role_sees(program: Program) -> None:
    """No program, directory, environment, slug or secret; URLs are for editors, and pings for owners."""
    program.installation.add("a", argv=["/bin/echo", "hidden-word"], cwd="/var/tmp/hidden", title="see",
                             environment={"HIDE": "hidden"}, pingUrl="https://hc.example/hidden")
    row = program.installation.row("a")

    for role in ROLES:
        for path in ("/tasks", "/tasks/a"):
            text = program.ask("GET", path, role=role).body.decode()
            assert (row["secret"] in text, "argv" in text, '"slug"' in text) == (False, False, False)
            assert ("hidden" in text) == (role == "owner")
            assert (row["slug"] in text) == (role != "viewer")

    program.problem(403, "PATCH", "/tasks/a", {"pingUrl": "https://x.example/"}, "editor", "pingUrl")
    program.problem(409, "POST", "/tasks/a/duplicate", {"name": "b"}, field="argv")
    assert program.good("PATCH", "/tasks/a", {"pingUrl": "https://x.example/"})["pingUrl"] == "https://x.example/"


def test_viewers_see_no_secret_in_any_text(program: Program) -> None:
    """Whole, folded or coloured, also where JSON writes what is between as letters; others' digests stay."""
    program.installation.add("a")
    secret, digest = program.installation.row("a")["secret"], "0123456789abcdef" * 4
    folded = "\n".join(secret[start:start + 10] for start in range(0, 64, 10))
    program.installation.edit("a", title=f"\x1b[31m{secret}",
                              description=f"{secret} sig={digest} x {digest}.\nBegin\n{folded}")
    found = program.good("GET", "/tasks/a", role="viewer")
    assert (found["description"], found["title"]) == (f"… sig=… x {digest}.\nBegin\n…", "\x1b[31m…")
    assert program.good("GET", "/tasks", role="viewer")["tasks"][1]["description"] == found["description"]
    assert secret in program.good("GET", "/tasks/a", role="editor")["description"]


def test_a_task_that_cannot_be_loaded_is_named(program: Program) -> None:
    """It says what is wrong, and can be mended or removed."""
    program.add("a")
    program.installation.edit("a", priority="high")
    assert "priority" in program.good("GET", "/tasks")["tasks"][1]["error"]
    assert "priority" in program.good("GET", "/tasks/a")["error"]
    assert program.good("PATCH", "/tasks/a", {"priority": 3})["priority"] == 3
    program.installation.edit("a", priority="high")
    assert program.ask("DELETE", "/tasks/a").status == 204


def test_an_installation_that_cannot_work_says_503(at_door: Program) -> None:
    """The reason is for the error log alone."""
    (at_door.installation.home / "state.json").write_text("{")
    (at_door.installation.home / "state.json.bak").write_text("{")
    answer = at_door.ask("GET", "/tasks")
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert (str(at_door.installation.home) in answer.body.decode(), "state.json" in answer.errors) == (False, True)


def test_the_document_is_valid() -> None:
    """By a validator of OpenAPI 3.1, which refuses one that does not say what it is of."""
    if sys.version_info < (3, 10):
        pytest.skip("openapi-spec-validator needs Python 3.10")

    from openapi_spec_validator import OpenAPIV31SpecValidator

    described = openapi.described()
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []
    assert list(OpenAPIV31SpecValidator({**described, "info": {}}).iter_errors())


def test_the_document_is_of_the_table(program: Program) -> None:
    """Each route and each field of a task is in it, and it says where it is mounted."""
    found = program.good("GET", "/openapi.json", role="viewer")
    assert found["servers"] == [{"url": "/cgi-bin/webscheduler.cgi"}]
    assert {(path, method.upper()) for path, methods in found["paths"].items() for method in methods} == {
        (route.path, route.method) for route in table.ROUTES}
    task = found["components"]["schemas"]["Task"]["anyOf"][0]["properties"]
    assert set(FIELDS) - set(task) == {"argv", "cwd", "environment", "slug", "secret", "oldSecret"}


def test_every_function_of_the_table_exists() -> None:
    """And says which route it is of."""
    import importlib

    for route in table.ROUTES:
        module, _, function = route.function.partition(":")
        assert callable(getattr(importlib.import_module(f"webscheduler.http_api.{module}"), function))
        assert (route.role in ROLES, set(route.answers) <= {200, 201, 202, 204}) == (True, True)


def test_a_signed_url_is_never_for_the_api(installation: Installation) -> None:
    """A task runs by the URL that was pasted, whatever a panel adds to its query."""
    installation.add("task")
    program = Program(installation)
    query = f"task={installation.row()['slug']}&sig={installation.signature()}&api=v1"
    assert installation.call("cgi", asking("", query)).document["accepted"] is True
    installation.idle()
    # Filters of the API have the names of other requests.
    found = program.ask("GET", "", PATH_INFO="", QUERY_STRING="api=v1/runs&task=task&status=success")
    assert [run["command"] for run in found.document["runs"]] == ["task"]
