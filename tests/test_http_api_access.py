# SPDX-License-Identifier: LGPL-3.0-or-later
"""Who gets what at the API, over HTTP from a real server: each role at each route of its table, and attacks."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from tests.admin.client import OWNER, PASSWORD, Browser, populate
from tests.commandline import call
from tests.installation import Installation
from webscheduler import create_app
from webscheduler.http_api.table import ROUTES
from webscheduler.store import keys, state
from webscheduler.store.people import ROLES

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
HIDDEN = "hidden-word"
# What only a shell sets: a stolen key is not one.
OF_A_SHELL: dict[str, Any] = {"argv": ["/bin/sh", "-c", "id"], "cwd": "/tmp", "environment": {"LD_PRELOAD": "/x.so"}}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def seen(self) -> str:
        """All that came, but for the time."""
        return str(sorted((name, text) for name, text in self.headers.items() if name != "date")) + self.body.decode()


class Site:
    """An installation with a key of each role, behind a server on loopback that listens for the time of a test."""

    def __init__(self, installation: Installation) -> None:
        self.installation, self.home = installation, str(installation.home)
        self.keys = {role: keys.add(self.home, role, role, time.time()) for role in ROLES}
        installation.configure(baseUrl="https://example.org/cron", commands={
            "backup": {"argv": ["/bin/echo", HIDDEN], "arguments": True, "cwd": f"/{HIDDEN}"}})
        installation.add("shell", argv=["/bin/echo", HIDDEN], cwd=f"/{HIDDEN}", environment={"HIDE": HIDDEN})

        class Quiet(WSGIRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

        self.server = make_server("127.0.0.1", 0, create_app(self.home), handler_class=Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def ask(self, method: str, target: str, key: str = "", body: Any = None, **headers: str) -> Reply:
        """The answer to a request; key: a role's, or what is sent as one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.keys.get(key, key)}"} if key else {}
        given.update({"Content-Type": "application/json"} if sent else {})
        given.update({name.replace("_", "-"): text for name, text in headers.items()})

        try:
            connection.request(method, target, sent, given)
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, key: str = "", body: Any = None, **headers: str) -> Reply:
        return self.ask(method, "/api/v1" + path, key, body, **headers)

    def forget(self) -> None:
        """Let wrong keys be tried anew."""
        Path(self.home, "throttle.json").unlink(missing_ok=True)

    def content(self, *without: str) -> dict[str, bytes]:
        """Every file of the home."""
        return {str(file.relative_to(self.home)): file.read_bytes() for file in Path(self.home).rglob("*")
                if file.is_file() and file.name not in without}


@pytest.fixture
def site(installation: Installation) -> Iterator[Site]:
    found = Site(installation)
    found.thread.start()

    try:
        yield found
    finally:
        found.server.shutdown()
        found.thread.join()
        found.server.server_close()


def methods_of(path: str) -> set[str]:
    found = {route.method for route in ROUTES if route.path == path}
    return found | ({"HEAD"} if "GET" in found else set())


def filled(path: str, name: str = "gone", run: str = "20260101000000-00000000") -> str:
    return path.replace("{name}", quote(name, "")).replace("{run}", run)


def bad_keys(site: Site) -> dict[str, dict[str, str]]:
    """What is sent as a key by those who have none."""
    now, good = time.time(), site.keys["owner"]
    revoked = keys.add(site.home, "revoked", "owner", now)
    keys.revoke(site.home, "revoked")
    texts = {"revoked": revoked, "expired": keys.add(site.home, "expired", "owner", now - 9, now - 1),
             "elsewhere": keys.add(site.home, "elsewhere", "owner", now, None, ["192.0.2.1", "::1"]),
             "without its prefix": good[4:], "another prefix": "ghp_" + good[4:], "cut": good[:-1],
             "longer": good + "A", "in capitals": good.upper(),
             "its hash": json.loads(Path(site.home, keys.FILE).read_text())["owner"]["hash"],
             "a password": PASSWORD, "unknown": "wsk_" + "A" * 43, "very long": "wsk_" + "A" * 30000}
    found = {name: {"Authorization": f"Bearer {text}"} for name, text in texts.items()}
    found["nothing"] = {}
    found["two that differ"] = {"Authorization": f"Bearer {good}", "X-Webscheduler-Key": site.keys["viewer"]}
    found["in a cookie"] = {"Cookie": f"webscheduler={good}; key={good}"}
    found["as a user's password"] = {"Authorization": "Basic b3duZXI6eA=="}
    found["of a trigger"] = {"X-Webscheduler-Signature": site.installation.signature("shell")}
    return found


def test_each_role_at_each_route(site: Site) -> None:
    """What a path takes is 405 otherwise; who may not is 403 before anything is looked at, so the same for a task that
    there is and one that there is not; who may gets an answer of the route. A viewer changes nothing, whatever is asked
    for."""
    asked = {(route.path, method) for route in ROUTES for method in METHODS}
    before = site.content("api-keys.json", "api-keys.json.lock")

    for role in ROLES:
        for path, method in sorted(asked):
            route = next((each for each in ROUTES if (each.path, each.method) == (path, {"HEAD": "GET"}.get(
                method, method))), None)
            answer = site.api(method, filled(path)[7:], role)
            case = method, path, role, answer
            assert answer.status < 500, case

            if route is None:
                assert answer.status == 405, case
                assert set(answer.headers["allow"].split(", ")) == methods_of(path), case
            elif ROLES.index(role) < ROLES.index(route.role):
                assert answer.status == 403, case
                assert site.api(method, filled(path, "shell")[7:], role).seen == answer.seen, case
            else:
                assert answer.status not in (401, 403, 405, 429), case

            if role == "viewer":
                assert site.content("api-keys.json", "api-keys.json.lock") == before, case


def test_no_bad_key_opens_a_route(site: Site) -> None:
    """All of them get the same bytes at every route, which is 401, and change nothing but the count of tries."""
    tried = bad_keys(site)
    answers = set()
    before = site.content("throttle.json", "throttle.json.lock")

    for what, headers in tried.items():
        for route in ROUTES if what in ("nothing", "expired") else ROUTES[:4]:
            site.forget()
            answer = site.ask(route.method, filled(route.path, "shell"), **headers)
            assert answer.status == 401, (what, route)
            answers.add(answer.seen)

    assert len(answers) == 1
    assert "'www-authenticate', 'Bearer'" in answers.pop()
    assert site.content("throttle.json", "throttle.json.lock") == before


def test_wrong_keys_are_throttled_like_sign_ins(site: Site) -> None:
    """By the same counters: ten tries, then 429 with a time to wait, for any wrong key, and for signing in. A full
    counter changes nothing on disk, and keeps no good key out, which nobody finds by trying."""
    tried = list(bad_keys(site).items())[:10]
    assert [site.api("GET", "", **headers).status for _, headers in tried] == [401] * 10
    before = site.content()
    answers = [site.api("GET", "/tasks", **headers) for _, headers in tried]
    assert {answer.status for answer in answers} == {429}
    assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in answers)
    assert site.content() == before
    assert site.api("GET", "", "viewer").status == 200
    populate(site.installation)
    browser = Browser(site.installation, REMOTE_ADDR="127.0.0.1")
    assert "Too many failed sign-ins" in browser.sign_in()
    assert "Sign out" in Browser(site.installation, REMOTE_ADDR="192.0.2.9").sign_in()
    site.forget()
    assert site.api("GET", "", "wsk_x").status == 401


@pytest.mark.parametrize("headers", [
    {"X_Forwarded_For": "192.0.2.1"}, {"X_Forwarded_Proto": "http"}, {"Forwarded": "for=192.0.2.1;proto=https"},
    {"X_Forwarded_For": "192.0.2.1", "X_Forwarded_Proto": "https"},
    {"X_Forwarded_For": "127.0.0.1", "X_Forwarded_Proto": "https"}], ids=str)
def test_what_came_by_a_proxy_must_have_come_by_https(site: Site, headers: dict[str, str]) -> None:
    """One that is not trusted can say what it wants; what a trusted one says counts. A setting allows http to all."""
    assert site.api("GET", "", "owner").status == 200
    answers = [site.api("GET", "", key, **headers) for key in ("owner", "wsk_x", "")]
    assert [answer.status for answer in answers] == [403] * 3
    assert len({answer.body for answer in answers}) == 1
    site.installation.configure(trustedProxies=["127.0.0.1"])
    https = headers.get("X_Forwarded_Proto") == "https"
    assert site.api("GET", "", "owner", **headers).status == (200 if https else 403)
    site.installation.configure(trustedProxies=[], apiOverHttp=True)
    assert site.api("GET", "", "owner", **headers).status == 200


def test_an_address_that_a_client_claims_is_not_believed(site: Site) -> None:
    """A key for some addresses, and the count of tries, go by the peer, and by what a trusted proxy adds."""
    key = keys.add(site.home, "office", "viewer", time.time(), None, ["192.0.2.1"])
    site.installation.configure(apiOverHttp=True)
    assert site.api("GET", "", key, X_Forwarded_For="192.0.2.1").status == 401
    site.installation.configure(trustedProxies=["127.0.0.1"])
    assert site.api("GET", "", key, X_Forwarded_For="192.0.2.1, 198.51.100.1").status == 401
    assert site.api("GET", "", key, X_Forwarded_For="198.51.100.1, 192.0.2.1").status == 200


ORIGIN = "https://dash.example:8443"
OTHERS = ("null", "https://dash.example", "https://dash.example:443", "https://dash.example:84430",
          "http://dash.example:8443", "https://a.dash.example:8443", "https://dash.example:8443.evil.example",
          "https://evil-dash.example:8443", "HTTPS://DASH.EXAMPLE:8443", f"{ORIGIN}/", f"{ORIGIN} {ORIGIN}", "*", "")


def test_pages_of_named_origins_alone(site: Site) -> None:
    """Compared as whole texts. Nothing lets a browser send cookies along."""
    def said(answer: Reply) -> dict[str, str]:
        return {name: text for name, text in answer.headers.items() if name.startswith("access-control")}

    ask = {"Origin": ORIGIN, "Access_Control_Request_Method": "GET"}
    assert said(site.api("GET", "", "owner", **ask)) == said(site.api("OPTIONS", "", **ask)) == {}
    site.installation.configure(apiOrigins=[ORIGIN])
    preflight = site.api("OPTIONS", "/tasks", **ask)
    assert (preflight.status, preflight.body, said(preflight)["access-control-allow-origin"]) == (204, b"", ORIGIN)
    assert not any("credentials" in name for name in (*said(preflight), *said(site.api("GET", "", "owner", **ask))))

    for other in OTHERS:
        site.forget()
        assert said(site.api("GET", "", "owner", **{**ask, "Origin": other})) == {}, other
        refused = site.api("OPTIONS", "/tasks", **{**ask, "Origin": other})
        assert (refused.status, said(refused)) == (401, {}), other


def test_a_session_is_no_key_and_a_key_no_session(site: Site) -> None:
    """So no page elsewhere can use the API through somebody's browser, and a key never opens the panel."""
    populate(site.installation)
    browser = Browser(site.installation)
    assert "Sign out" in browser.sign_in()
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    token = browser.token()

    for route in ROUTES:
        site.forget()
        answer = site.ask(route.method, filled(route.path, "shell"), Cookie=cookie, Origin="https://example.org",
                          X_Csrf_Token=token)
        assert answer.status == 401, route

    for page in ("", "settings", "people", "keys", "task?name=shell"):
        answer = site.ask("GET", f"/admin/{page}", "owner")
        assert answer.status == 303
        assert "sign-in" in answer.headers["location"]

    form = f"token={token}&name=shell".encode()
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    assert site.ask("POST", "/admin/delete", "owner", form, **kind).status == 403
    assert "shell" in state.read(site.home)


@pytest.mark.parametrize("given", [
    {"X_HTTP_Method_Override": "DELETE"}, {"X_HTTP_Method": "DELETE"}, {"X_Method_Override": "DELETE"},
    {"_method": "DELETE"}], ids=str)
def test_no_header_changes_the_method(site: Site, given: dict[str, str]) -> None:
    """What is asked for with GET reads, for owners, too. A field of the query with that meaning is an unknown one."""
    assert site.api("GET", "/tasks/shell", "owner", **given).status == 200
    assert site.api("GET", "/tasks/shell?_method=DELETE", "owner").status == 400
    assert site.api("POST", "/tasks/shell", "owner", {"_method": "DELETE"}, **given).status == 405
    assert "shell" in state.read(site.home)


def test_a_query_does_not_smuggle_in_another_path(site: Site) -> None:
    """The path decides which door answers, and `?api=` counts only where there is none; nothing leads out of the API
    by dots, slashes or a second field."""
    row, signature = site.installation.row("shell"), site.installation.signature("shell")
    refused = site.ask("GET", "/run/" + "0" * 32)
    assert site.ask("GET", f"/run/{row['slug']}?api=v1/tasks", "owner").seen == refused.seen
    assert site.ask("GET", f"/status/{row['slug']}?api=v1/tasks", "owner").status == 404
    assert site.ask("GET", "/admin/?api=v1/tasks", "owner").status == 303
    assert site.ask("GET", "/nothing?api=v1/tasks", "owner").status == 404
    assert site.api("GET", "?api=v1/tasks", "viewer").status == 400
    assert site.ask("GET", f"/?task={row['slug']}&api=v1", "owner").document["field"] == "task"

    for query in (f"api=v1&task={row['slug']}&sig={'0' * 64}", f"task={row['slug']}&sig=&api=v1/tasks",
                  f"api=v1/tasks&sig={signature}"):  # a signature is for a task alone, and a key opens none
        answer = site.ask("GET", f"/?{query}", "owner")
        assert answer.body == refused.body or answer.status in (303, 404), query

    for path in ("v1/../../admin", "../admin", "v1/%2e%2e/admin", "/v1//tasks", "v1/tasks/../../../run", "v2/tasks",
                 "admin", "run", "v1/tasks%00"):
        for target in (f"/?api={quote(path)}", f"/api/{path}"):
            assert site.ask("GET", target, "owner").status in (404, 405), target  # a name may be `..`, of no task

    for query in ("api=v1&api=v1/tasks", "api=v1/tasks&api=v1"):
        assert site.ask("GET", f"/?{query}", "owner").document["field"] == "api"

    assert site.installation.runs("shell") == []


@pytest.mark.parametrize("field", OF_A_SHELL)
def test_a_key_is_no_shell(site: Site, field: str) -> None:
    """No spelling of what names a program, a directory or the environment gets in, for owners, too; nor does it come
    along with a copy, or with an import of a document."""
    value, before = OF_A_SHELL[field], site.content("api-keys.json", "api-keys.json.lock", "audit.jsonl", "new.lock")
    made = {"name": "new", "command": "backup"}

    for name in (field, field.upper(), field.title(), f" {field}", f"{field} ", f"{field}\0", f"{field}[]",
                 f"task.{field}", f"task/{field}", f"\u200b{field}", "".join(chr(ord(c) + 0xFEE0) for c in field)):
        for method, path, body in (("POST", "/tasks", {**made, name: value}), ("PATCH", "/tasks/shell", {name: value}),
                                   ("POST", "/tasks/shell/duplicate", {"name": "new", name: value}),
                                   ("POST", "/tasks/shell/enable", {name: value})):
            answer = site.api(method, path, "owner", body)
            assert (answer.status, answer.document["field"]) == (400, name[:60]), (method, path, name)

    for body in ({**made, "fields": {field: value}}, [{**made, field: value}], {**made, "command": {field: value}},
                 {**made, "arguments": {field: value}}, {**made, "command": value},
                 {"__proto__": {field: value}, **made}):
        assert site.api("POST", "/tasks", "owner", body).status == 400, body

    assert site.api("POST", "/tasks/shell/duplicate", "owner", {"name": "new"}).status == 409
    assert site.content("api-keys.json", "api-keys.json.lock", "audit.jsonl", "new.lock") == before


@pytest.mark.parametrize("command", ["/bin/sh", "sh", "shell", "backup ", " backup", "BACKUP", "backup\0", "../backup",
                                     "backup;id", "$(id)", "os:system", "@due", "/api/v1"])
def test_only_registered_commands(site: Site, command: str) -> None:
    """By their exact names; a task that was made with a shell keeps what it runs."""
    for method, path, body in (("POST", "/tasks", {"name": "new"}), ("PATCH", "/tasks/shell", {})):
        answer = site.api(method, path, "owner", {**body, "command": command})
        assert (answer.status, answer.document["field"]) == (400, "command")

    assert "new" not in state.read(site.home)
    assert site.installation.row("shell")["argv"] == ["/bin/echo", HIDDEN]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254",
                                  "10.0.0.1"])
def test_a_key_reaches_nothing_inside(site: Site, host: str) -> None:
    """As the panel: refused where it is typed, and what is saved calls public addresses alone."""
    body = {"name": "new", "command": "http", "arguments": f"http://{host}:9/"}
    answer = site.api("POST", "/tasks", "owner", body)
    assert (answer.status, answer.document["field"]) == (400, "arguments")
    assert "is not a public address" in answer.document["detail"]
    done = call(site.installation.home, "add", "old", "--command", "http", "--arguments", f"http://{host}:9/")
    assert done.status == 0
    assert site.api("PATCH", "/tasks/old", "editor", {"title": "x"}).status == 200
    assert not site.installation.row("old").get("publicOnly")
    assert site.api("PATCH", "/tasks/old", "editor", {"arguments": f"http://{host}:10/"}).status == 400
    assert site.api("POST", "/tasks", "editor", {**body, "publicOnly": False}).status == 400
    assert site.api("POST", "/tasks", "editor", {**body, "arguments": "https://example.org/"}).status == 201
    assert site.installation.row("new")["publicOnly"] is True
    assert site.api("PATCH", "/tasks/new", "owner", {"publicOnly": False}).status == 400
    copied = site.api("POST", "/tasks/old/duplicate", "editor", {"name": "copy"})
    assert copied.status == 400 or site.installation.row("copy")["publicOnly"] is True


def test_the_built_in_task_stays(site: Site) -> None:
    """`@due` is neither removed, renamed, copied over nor given a command, and no other task takes its kind of name."""
    due = quote("@due", "")
    site.api("GET", f"/tasks/{due}", "owner")

    for method, path, body in (
        ("DELETE", f"/tasks/{due}", None), ("PATCH", f"/tasks/{due}", {"name": "mine"}),
        ("PATCH", f"/tasks/{due}", {"command": "backup"}), ("POST", f"/tasks/{due}/duplicate", {"name": "mine"}),
        ("POST", "/tasks", {"name": "@due", "command": "backup"}), ("PATCH", "/tasks/shell", {"name": "@due"}),
        ("POST", "/tasks/shell/duplicate", {"name": "@due"}),
        ("POST", "/tasks", {"name": "@other", "command": "backup"}),
    ):  # fmt: skip
        answer = site.api(method, path, "owner", body)
        assert answer.status in (400, 409), (method, path, body, answer)

    assert set(state.read(site.home)) <= {"@due", "shell"}
    assert call(site.installation.home, "url", "@due").status == 0


def test_the_tasks_of_a_probe_are_the_programs_own(site: Site) -> None:
    """No list has them, nobody changes or reads one, and none is made."""
    site.installation.add("probe-fork-1", group="@probe")

    for route in ROUTES:
        if "{name}" in route.path:
            body = {"name": "mine"} if route.path.endswith("duplicate") else {} if route.body is not None else None
            answer = site.ask(route.method, filled(route.path, "probe-fork-1"), "owner", body)
            assert answer.status == 404, (route, answer)

        elif route.method == "GET":
            assert b"probe-fork-1" not in site.ask("GET", route.path, "owner").body, route

    assert site.api("PATCH", "/tasks/shell", "owner", {"group": "@probe"}).status == 400
    assert "probe-fork-1" in state.read(site.home)


HOSTILE = ("<script>alert(1)</script>", "\x1b[31mred", "\u202eabc", "'; DROP TABLE tasks; --", "{0.__class__}", "%s%n",
           "\u2028x", "a\r\nSet-Cookie: a=b", "\x00", "../../../etc/passwd", "\ud800")


def test_hostile_text_stays_text(site: Site) -> None:
    """It is JSON in every answer, never markup, a header or a line of its own in a record; what is not printable is
    refused where it is typed."""
    for number, text in enumerate(HOSTILE):
        made = site.api("POST", "/tasks", "editor", {"name": f"t{number}", "command": "backup", "title": text})
        found = site.api("GET", f"/tasks/{quote(text.encode('utf-8', 'surrogatepass'), '')}", "viewer")
        assert made.status in (201, 400)
        assert found.status in (404, 400), text

        for answer in (made, found, site.api("GET", "/tasks", "viewer")):
            assert answer.headers["content-type"] in ("application/json", "application/problem+json")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "set-cookie" not in answer.headers
            assert b"\x1b" not in answer.body

        if made.status == 201:
            assert site.api("GET", f"/tasks/t{number}", "viewer").document["title"] == text

    for line in Path(site.home, "audit.jsonl").read_text().splitlines():
        assert json.loads(line)["who"] == "key editor"


def test_what_is_nested_deeply_is_refused(site: Site) -> None:
    """However deep, wherever: 400, and no recursion."""
    for depth in (101, 1000, 30000):
        for body in (b"[" * depth + b"]" * depth, b'{"title":' * min(depth, 6000) + b"1" + b"}" * min(depth, 6000),
                     b'{"name": "x", "command": "backup", "ipAllowlist": ' + b"[" * depth + b"]" * depth + b"}"):
            assert site.api("POST", "/tasks", "owner", body).status == 400


def secrets_of(site: Site) -> dict[str, str]:
    """Fill the home with what viewers must not see; what it is -> the text."""
    installation = site.installation
    installation.configure(
        smtp="smtps://me:mail-password-1@mail.example.org", notifyKey="notify-key-0123456789",
        environment={"X": HIDDEN}, notify={"url": "https://hook.example/secret-hook"}, modules=[], privateHosts=[])
    populate(installation)
    Browser(installation).sign_in()  # makes session.key
    installation.add("task", argv=["/bin/echo", "started"], pingUrl="https://ping.example/secret-ping",
                     expression="0 3 * * *")
    row = installation.row("task")
    session = Path(site.home, "session.key").read_text().strip()
    said = " ".join([row["secret"], f"sig={installation.signature('task')}", site.keys["owner"], session,
                     installation.signature("task", status=True), "mail-password-1", "notify-key-0123456789"])
    installation.edit("task", argv=["/bin/sh", "-c", f"echo '{said}'; echo '{said}' >&2; exit 3"],
                      title=f"task {row['secret']}", description=said)
    assert call(installation.home, "run", "task").status == 1
    users = json.loads(Path(site.home, "users.json").read_text())
    stored = json.loads(Path(site.home, keys.FILE).read_text())
    return {"secret": row["secret"], "slug": row["slug"], "signature": installation.signature("task"),
            "status signature": installation.signature("task", status=True), "URL": "https://example.org/cron/run/",
            "slug of @due": installation.row("@due")["slug"], "secret of @due": installation.row("@due")["secret"],
            "mail": "mail-password-1", "hook": "secret-hook", "ping": "secret-ping",
            "notifyKey": "notify-key-0123456789", "session key": session, "program": HIDDEN,
            "argv": '"argv"', "cwd": '"cwd"', "home": site.home,
            **{f"password of {name}": row["password"] for name, row in users.items()},
            **{f"hash of {name}": row["hash"] for name, row in stored.items()},
            **{f"key {name}": key for name, key in site.keys.items()}}


def test_no_answer_shows_a_viewer_a_secret(site: Site) -> None:
    """In a home that is full of them, also in what commands print: no answer of any route, in any query of its table,
    good or bad, holds a secret, a slug, a URL, a signature, a key or its hash, a password, or what a command is;
    editors see URLs and what commands print, and nothing else of that."""
    hidden = secrets_of(site)
    runs = [str(run["run"]) for run in site.installation.runs("task")]
    of_editors = ("slug", "secret", "signature", "status signature", "URL", "slug of @due", "key owner", "mail",
                  "session key", "notifyKey")  # what the command printed itself counts as well
    asked = 0

    for role, allowed in (("viewer", ()), ("editor", of_editors)):
        for route in ROUTES:
            if role == "editor" and (route.method != "GET" or route.role == "owner"):
                continue

            for name in ("task", "shell", "@due", "gone"):
                target = filled(route.path, name, runs[-1])
                queries = [f"{field}={value}" for field, rule in route.query.items() for value in (
                    *(rule.limit if rule.kind == "choice" else ()), "true", "task", "1", "stderr", "\u00e9")]

                for query in ("", *queries):
                    answer = site.ask(route.method, f"{target}?{quote(query, '=')}" if query else target, role)
                    assert answer.status < 500, (route, answer)
                    asked += 1
                    shown = str(answer.headers) + answer.body.decode()
                    found = [what for what, text in hidden.items() if text in shown and what not in allowed]
                    assert found == [], (role, route.method, target, query)

                if "{name}" not in route.path:
                    break

    assert asked > len(ROUTES)


def test_what_a_key_does_is_in_the_record_by_its_name(site: Site) -> None:
    """Who reads it knows which key to revoke; reading leaves no line."""
    assert site.api("POST", "/tasks", "editor", {"name": "new", "command": "backup"}).status == 201
    assert site.api("GET", "/tasks/new", "owner").status == 200
    assert site.api("DELETE", "/tasks/new", "owner").status == 204
    lines = [json.loads(line) for line in Path(site.home, "audit.jsonl").read_text().splitlines()]
    assert [(line["who"], line["to"]) for line in lines] == [("key editor", "new"), ("key owner", "new")]
    assert not any(key in Path(site.home, "audit.jsonl").read_text() for key in site.keys.values())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 9}', '{"owner": {}}'])
def test_keys_that_cannot_be_read_are_never_none(site: Site, content: str) -> None:
    """503 for all, at every route, and nothing of it in the answer; the panel and the URLs of tasks work."""
    Path(site.home, keys.FILE).write_text(content)

    for route in ROUTES[:4]:
        answers = {site.ask(route.method, filled(route.path), key).seen for key in ("owner", "wsk_x", "")}
        assert len(answers) == 1
        assert site.ask(route.method, filled(route.path), "owner").status == 503
        assert site.home not in answers.pop()

    assert site.ask("GET", "/admin/sign-in").status in (200, 303)
    assert Path(site.home, keys.FILE).read_text() == content
    assert OWNER not in site.ask("GET", "/admin/").seen


@pytest.mark.parametrize(("name", "fields"), [
    *(("new", {"command": "backup", field: value}) for field, value in OF_A_SHELL.items()),
    *(("shell", {field: value}) for field, value in OF_A_SHELL.items()),
    ("new", {"argv": ["/bin/sh", "-c", "id"]}), ("new", {"command": "/bin/sh"}), ("new", {}),
    ("new", {"command": ["backup"]}), ("new", {"command": "backup", "timezone": ["UTC"]}),
    ("new", {"command": "http", "arguments": "http://127.0.0.1:9/"}), ("new", {"command": "backup", "group": "@probe"}),
    ("@due", {"command": "backup"}), ("@due", {"argv": ["/bin/id"]}), ("@new", {"command": "backup"}),
    ("a\nb", {"command": "backup"}), ("new", {"command": "backup", "title": "\u202ex"})], ids=str)
def test_no_import_is_a_shell(site: Site, name: str, fields: dict[str, Any]) -> None:
    """What an owner's key may not set by itself does not come along with a document, as a new task or as a change of
    one, nor beside a good task: all or nothing. Nobody else may import at all."""
    document = json.loads(call(site.installation.home, "export", "json").out)
    rows = document["tasks"]
    document["tasks"] = {**rows, "good": {"command": "backup"}, name: {**rows.get(name, {}), **fields}}
    before = site.content("api-keys.json", "api-keys.json.lock")

    for role, status in (("viewer", 403), ("editor", 403), ("owner", 400)):
        for query in ("", "?dryRun=true", "?prune=true"):
            answer = site.api("POST", f"/import{query}", role, document)
            assert answer.status == status, (role, query, answer)
            after = site.content("api-keys.json", "api-keys.json.lock")
            assert {file: text for file, text in after.items() if before.get(file) != text and not file.startswith(
                "locks/")} == {}


def test_an_import_keeps_tasks_from_calling_inside(site: Site) -> None:
    """What comes with a document of a key calls public addresses alone, whatever the document says."""
    document = json.loads(call(site.installation.home, "export", "json").out)
    calling = {"command": "http", "arguments": "https://example.org/", "publicOnly": False}
    document["tasks"].update({"good": {"command": "backup"}, "new": calling})
    answer = site.api("POST", "/import", "owner", document)
    assert (answer.status, answer.document["written"]) == (200, True)
    assert site.installation.row("new")["publicOnly"] is True
    assert site.installation.row("shell")["argv"] == ["/bin/echo", HIDDEN]
