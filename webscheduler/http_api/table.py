# SPDX-License-Identifier: LGPL-3.0-or-later
"""The routes of the API, and what is checked of a request before its function is called.

The rules: ROUTES is the one table that dispatch, checks and `openapi` read. A query or body has only fields of the
table, each checked by its row as in the panel and on the command line; an unknown one is refused by its name. A body is
read once method, role and query are found good.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn, Union
from urllib.parse import unquote_to_bytes

from ..body import MAX_BACKUP, MAX_FORM, receive, stated_length
from ..editing import OF_COMMAND_LINE
from ..errors import BadInput, did_you_mean
from ..http import MAX_FIELDS, MAX_LENGTH, NOSNIFF, Response, fields, log
from ..runs.health import STATES
from ..store import people
from ..store.fields import Field, check_entered, from_text, parse_json
from ..store.old_secret import LONGEST
from ..store.people import Person
from ..store.settings import Settings
from ..store.task import FIELDS
from ..vocabulary import FINISHED

Rules = dict[str, Field]
Schema = Union[str, dict[str, Any], None]  # the name of one of `openapi`, or one; None: no content

MAX_ANSWER = 1024 * 1024  # bytes
CHANGES = ("remove", "rename", "edit", "add", "same")  # by an import, in the order in which they find room
REQUIRED = object()  # as the default of a field: it must be given
JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"


class Problem(Exception):
    """A request that is answered with a problem document. detail: one sentence; field: the name of what is wrong."""

    def __init__(self, status: int, detail: str, field: str = "", **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.field = status, detail, field
        self.headers = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def response(self) -> Response:
        """The document (RFC 9457, 3)."""
        from http.client import responses

        document = {"type": "about:blank", "title": responses[self.status], "status": self.status,
                    "detail": self.detail, **({"field": self.field} if self.field else {})}
        return Response(json.dumps(document).encode(), self.status, "application/problem+json",
                        [NOSNIFF, *self.headers])


class Route(NamedTuple):
    """One method of one path. role: the least that may use it; function: `module:name`, which takes a Call and returns
    a Response, or what is answered as JSON with 200. query, body: their fields; of a query those of kind `lines` may
    come several times. body: None for one without, a number for a JSON document that the function reads itself, of at
    most so many bytes. answers: status -> what it looks like, besides the problems."""

    method: str
    path: str
    role: str
    function: str
    summary: str
    query: Rules = {}
    body: Rules | int | None = None
    answers: dict[int, Schema] = {}


AFTER = Field("text", None, "Only what is after this name: `next` of the answer before. Empty for the first part.", 200)
NAME = Field("text", REQUIRED, "The task's name: 1 to 100 printable characters, the first not - . or @.", 100)
# The fields of a task that a body may have.
OF_TASK = {name: row for name, row in FIELDS.items() if row.by == "user" and name not in OF_COMMAND_LINE}
TASKS, TASK, RUN = "/api/v1/tasks", "/api/v1/tasks/{name}", "/api/v1/tasks/{name}/runs/{run}"
ROUTES = (
    Route("GET", "/api/v1", "viewer", "openapi:about", "What this is, and what the key may do", answers={200: "About"}),
    Route("GET", "/api/v1/openapi.json", "viewer", "openapi:document", "This document", answers={200: {}}),
    Route("GET", TASKS, "viewer", "tasks:index", "List tasks by their names", {
        "state": Field("choice", None, "Only tasks in this state.", tuple(STATES), True),
        "group": Field("text", None, "Only tasks of this group.", 100, True),
        "command": Field("text", None, "Only tasks that run this command.", 200, True),
        "limit": Field("int", 100, "At most so many; fewer if they are long.", (1, 500)),
        "after": AFTER}, answers={200: "Tasks"}),
    Route("POST", TASKS, "editor", "tasks:create", "Make a task that runs a registered command",
          body={"name": NAME, **OF_TASK, "command": Field("text", REQUIRED, FIELDS["command"].sentence, 200)},
          answers={201: "NewTask"}),
    Route("GET", TASK, "viewer", "tasks:one", "Read a task", answers={200: "Task"}),
    Route("PATCH", TASK, "editor", "tasks:edit", "Change a task; `name` renames it", body={
        "name": Field("text", None, NAME.sentence, 100, True), **OF_TASK}, answers={200: "Task"}),
    Route("DELETE", TASK, "editor", "tasks:remove", "Delete a task and its history", {
        "keepLogs": Field("bool", False, "Keep the history.")}, answers={204: None}),
    Route("POST", f"{TASK}/enable", "editor", "tasks:enable", "Let URL and schedule start a task", body={},
          answers={200: "Task"}),
    Route("POST", f"{TASK}/disable", "editor", "tasks:disable", "Let neither URL nor schedule start a task", body={},
          answers={200: "Task"}),
    Route("POST", f"{TASK}/duplicate", "editor", "tasks:duplicate", "Make a task like this one", body={"name": NAME},
          answers={201: "NewTask"}),
    Route("POST", f"{TASK}/rotate", "editor", "tasks:rotate", "Give a task a new secret", body={"keepOld": Field(
          "seconds", 0, "Seconds for which URLs of the old secret still work.", (0, LONGEST))}, answers={200: "Keys"}),
    Route("GET", f"{TASK}/url", "editor", "tasks:url", "A URL of a task", {"kind": Field(
          "choice", "trigger", "`trigger` runs it, `timed` does so once and for minutes, `status` tells how it is.",
          ("trigger", "status", "timed"))}, answers={200: "Url"}),
    Route("GET", f"{TASK}/next", "viewer", "tasks:next_starts", "When a task starts next", {
        "count": Field("int", 5, "So many starts.", (1, 100)),
        "from": Field("time", None, "Counted from this time, not from now.", None, True)}, answers={200: "Next"}),
    Route("POST", f"{TASK}/run", "editor", "runs:run_now", "Run a task now, whatever its schedule", body={"wait": Field(
          "int", 0, ("Seconds to wait for its end, where the run is detached. Where the host lets no run outlive its "
                     "request, the answer comes after the run."), (0, 60))}, answers={200: "Run", 202: "Started"}),
    Route("GET", RUN, "viewer", "runs:one", "Read a run with its output", answers={200: "Run"}),
    Route("GET", f"{RUN}/output", "viewer", "runs:output_of", "Follow the output of a run", {
        "stream": Field("choice", "both", (
            "`both`: what it prints, in its order, while it runs; `stdout` and `stderr`: as recorded, once it has "
            "ended. Keep to one of them."), ("both", "stdout", "stderr")),
        "offset": Field("int", 0, "Where the piece begins, in bytes: `next` of the answer before.", (0, None))},
        answers={200: "Output"}),
    Route("POST", f"{RUN}/cancel", "editor", "runs:cancel_run", "End a run in progress", body={},
          answers={202: "Cancelled"}),
    Route("GET", "/api/v1/runs", "viewer", "runs:index", "List past runs, newest first", {
        "task": Field("lines", None, "Only runs of this task; may be given several times.", 100, True),
        "status": Field("lines", None, f"Only runs that ended so; several times: {', '.join(FINISHED)}.", 10, True),
        "since": Field("time", None, "Only runs that ended from then on.", None, True),
        "until": Field("time", None, "Only runs that ended by then.", None, True),
        "limit": Field("int", 20, "At most so many; fewer if they are long, or few are found.", (1, 200)),
        "cursor": Field("text", None, "Where to go on: `next` of the answer before.", 2000, True),
        "output": Field("bool", False, "With what the runs printed.")}, answers={200: "Runs"}),
    Route("POST", "/api/v1/run-due", "editor", "runs:run_due", "Run all due tasks", body={},
          answers={200: "Run", 202: "Started"}),
    Route("GET", "/api/v1/health", "viewer", "installation:health_of", "How the installation is",
          {"after": AFTER}, answers={200: "Health"}),
    Route("GET", "/api/v1/commands", "viewer", "installation:commands", "List the registered commands",
          {"after": AFTER}, answers={200: "Commands"}),
    Route("GET", "/api/v1/export", "owner", "installation:export", "The tasks, as the command line exports them", {
        "format": Field("choice", "json", "json: for `import`; others: for another scheduler.",
                        ("json", "crontab", "systemd", "kubernetes", "github")),
        "secrets": Field("bool", False, "json: with the secrets, so that URLs stay valid."), "after": AFTER},
        answers={200: {"content": {"application/json": {"schema": {"type": "object"}},
                                   "text/plain": {"schema": {"type": "string"}}},
                       "headers": {name: {"schema": {"type": "string"}} for name in ("ETag", "Link")}}}),
    Route("POST", "/api/v1/import", "owner", "installation:import_tasks", "Make the tasks what an export says", {
        "dryRun": Field("bool", False, "Only tell what would change."),
        "prune": Field("bool", False, "Remove the tasks that are not in it.")}, body=MAX_BACKUP,
        answers={200: "Imported"}),
    Route("GET", "/api/v1/metrics", "viewer", "installation:metrics", "Metrics for Prometheus", {
        "after": Field("text", None, "Only of tasks after this name.", 200, True),
        "until": Field("text", None, "Only of tasks up to this name.", 200, True)}, answers={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}),
)


class Call:
    """One request that may be answered. path, query, body: the checked values of its route; body: bytes where that says
    so. by_query: the path is in the query. person: who has the key; address: of the client; now: Unix seconds;
    in_process: see `trigger.answer`."""

    def __init__(self, environ: dict[str, Any], settings: Settings, person: Person, address: str, now: float,
                 clock: Callable[[], float], in_process: bool) -> None:
        self.environ, self.settings, self.home, self.person, self.address = (
            environ, settings, settings.home, person, address)
        self.now, self.clock, self.in_process, self.by_query = now, clock, in_process, False
        self.path: dict[str, str] = {}
        self.query: dict[str, Any] = {}
        self.body: Any = {}

    def note(self, action: str, subject: str = "") -> None:
        """Add a line to audit.jsonl about what was done. Never raises: one that saw an error would do it again."""
        people.note_done(self.home, self.now, self.person, self.address, action, subject,
                         lambda line: log(self.environ.get("wsgi.errors"), line))


def dispatch(call: Call) -> Response:
    """Check the request against the table, call the route's function, and make its answer a response. Raises Problem,
    and what the function raises."""
    query, path, call.by_query = _target(call.environ)
    method = str(call.environ.get("REQUEST_METHOD", "GET")).upper()
    methods, groups = _match(path)

    if not methods:
        raise Problem(404, "there is no such path: /api/v1/openapi.json lists them")

    route = methods.get("GET" if method == "HEAD" else method)

    if route is None:
        allow = [*methods, *(["HEAD"] if "GET" in methods else [])]
        raise Problem(405, f"this path takes {', '.join(allow)}", Allow=", ".join(allow))

    if not call.person.may(route.role):
        raise Problem(403, f"the key's role must be {route.role} for this")

    call.path = {name: _segment(text, call.by_query) for name, text in groups.items()}
    call.query = _checked_query(route.query, query)

    if method not in ("GET", "HEAD", "DELETE"):
        call.body = _body(call.environ, route)

    module, _, function = route.function.partition(":")
    found = getattr(importlib.import_module(f"{__package__}.{module}"), function)(call)
    return found if isinstance(found, Response) else respond(call, found)


def respond(call: Call, value: Any, status: int = 200, **headers: str) -> Response:
    """A JSON value as the answer; for viewers without secrets that a text in it may hold."""
    if not call.person.may("editor"):
        from ..admin.redaction import hide_in

        value = hide_in(call.home, value, call.settings)

    return Response(json.dumps(value).encode(), status, headers=[
        NOSNIFF, *((name.replace("_", "-"), text) for name, text in headers.items())])


def fit(most: int, render: Callable[[int], Response]) -> tuple[Response, int]:
    """What `render` answers about the first n of so many, and n: the greatest, or nearly so, for which there is room; 0
    if there is none for the first."""
    while len((found := render(most)).body) > MAX_ANSWER and most:
        most = min(most * 7 // 8, most * MAX_ANSWER // len(found.body))

    return found, most


def page(call: Call, names: Iterable[str], render: Callable[[dict[str, None], dict[str, Any]], Any]) -> Response:
    """The answer about as many of these, by their names, as it has room for, so that what others add and remove
    meanwhile moves no page. render: makes it about some of them, and of what it says besides in a part: `next`. Raises
    Problem where something would be missing without a word."""
    after, until, is_list = call.query["after"], call.query.get("until"), "limit" in call.query
    left = sorted(name for name in names if (not after or name > after) and (until is None or name <= until))
    most = min(len(left), call.query.get("limit", len(left)))

    def part(count: int) -> Response:
        last = left[count - 1] if 0 < count < len(left) else None
        value = render(dict.fromkeys(left[:count]), {} if after is None and not is_list else {"next": last})
        return value if isinstance(value, Response) else respond(call, value)

    found, count = fit(most, part)

    if count < most and ("until" in call.query or (after is None and not is_list)):
        field, how = ("until", "nearer to `after`") if "until" in call.query else ("after", "first empty, then `next`")
        raise Problem(400, f"{field}: all in one answer is longer than 1 MiB: give it, {how}", field)

    if most and not count:
        raise Problem(503, f"what there is to say of {left[0]!r} alone is longer than 1 MiB")

    return found


def _target(environ: dict[str, Any]) -> tuple[list[tuple[str, str]], str, bool]:
    """(the query's fields, the path, whether that was given in the query: then its segments are still encoded)."""
    text = str(environ.get("QUERY_STRING", ""))

    if text.count("&") >= MAX_FIELDS or len(text) > MAX_LENGTH:
        raise Problem(400, "the query is too long")

    query, path = fields(text), str(environ.get("PATH_INFO", ""))

    if path.strip("/"):
        return query, "/" + path.strip("/"), False

    path, *more = [value for name, value in query if name == "api"] or [""]

    if more:
        raise BadInput("api: is given twice", "api")

    return [(name, value) for name, value in query if name != "api"], "/api/" + path.strip("/"), True


@functools.lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], dict[str, Route]]]:
    """(what matches a path, its routes by method), those with the most literal text first: a name may hold a slash."""
    found: dict[str, dict[str, Route]] = {}

    for route in ROUTES:
        found.setdefault(route.path, {})[route.method] = route

    return [(re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(path)), re.DOTALL), methods)
            for path, methods in sorted(found.items(), key=lambda pair: (-pair[0].count("/"), "{" in pair[0]))]


def _match(path: str) -> tuple[dict[str, Route], dict[str, str]]:
    """(the routes of the path by method, what stands for the names in it); both empty if there is no such path."""
    for pattern, methods in _patterns():
        found = pattern.fullmatch(path)

        if found:
            return methods, found.groupdict()

    return {}, {}


def _segment(text: str, encoded: bool) -> str:
    """What a segment says: a server decodes a path to bytes, which PEP 3333 gives as characters."""
    try:
        return (unquote_to_bytes(text) if encoded else text.encode("latin-1")).decode()
    except UnicodeError:
        raise Problem(404, "the path is not UTF-8")


def _unknown(name: str, rules: Rules) -> NoReturn:
    raise BadInput(f"{name[:60]}: there is no such field here{did_you_mean(name, rules)}", name[:60])


def _checked_query(rules: Rules, query: list[tuple[str, str]]) -> dict[str, Any]:
    given: dict[str, list[str]] = {}

    for name, value in query:
        given.setdefault(name, []).append(value)

        if name not in rules:
            _unknown(name, rules)

        # What people may type is more than what the document says: `yes`, or nothing.
        if value not in ("true", "false") if rules[name].kind == "bool" else not value and rules[name].kind != "text":
            raise BadInput(f"{name}: must be {'true or false' if rules[name].kind == 'bool' else 'given'}", name)

        if len(given[name]) > 1 and rules[name].kind != "lines":
            raise BadInput(f"{name}: is given twice", name)

    return _checked(rules, {name: check_entered(name, rules[name], values) if rules[name].kind == "lines" else
                            from_text(name, rules[name], values[0]) for name, values in given.items()})


def _checked(rules: Rules, given: dict[str, Any]) -> dict[str, Any]:
    """The given values, and the defaults of all others but the fields of a task: those are left as they are."""
    for name, rule in rules.items():
        if rule.default is REQUIRED and name not in given:
            raise BadInput(f"{name}: must be given", name)

    return {**{name: rule.default for name, rule in rules.items() if rule is not FIELDS.get(name)}, **given}


def _body(environ: dict[str, Any], route: Route) -> Any:
    """The body: its checked fields, or the bytes of a document."""
    rules = None if isinstance(route.body, int) else route.body or {}
    most = route.body if isinstance(route.body, int) else MAX_FORM
    length = stated_length(environ) if environ.get("CONTENT_LENGTH") else 0

    if length is None or environ.get("HTTP_TRANSFER_ENCODING"):
        raise Problem(400, "the request must state the length of its body")

    if length > most:
        raise Problem(413, f"the body may have at most {most} bytes")

    kind, _, parameters = str(environ.get("CONTENT_TYPE") or "").lower().partition(";")
    kinds = (JSON, MERGE_PATCH) if route.method == "PATCH" else (JSON,)

    if length and (kind.strip() not in kinds or parameters.replace('"', "").strip() not in ("", "charset=utf-8")):
        raise Problem(415, f"the body must be {' or '.join(kinds)}")

    # Only where each field may be left out, all may be: no body must never pass for a document without tasks.
    body = receive(environ, length) if length else b"" if route.method == "PATCH" or rules is None else b"{}"

    if body is None or len(body) < length or (rules is None and not body):
        raise Problem(400, "the body did not arrive as a whole")

    return body if rules is None else _checked_body(rules, body)


def _checked_body(rules: Rules, body: bytes) -> dict[str, Any]:
    """The checked fields. null stands for the default."""
    try:
        given = parse_json(body.decode(), object_pairs_hook=_unique,
                           parse_constant=_no_number)
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {str(error)[:200]}")

    if not isinstance(given, dict):
        raise Problem(400, "the body must be a JSON object")

    values = {}

    for name, value in given.items():
        if name not in rules:
            _unknown(name, rules)

        default = rules[name].default
        values[name] = default if value is None and default is not REQUIRED else check_entered(
            name, rules[name], value)

    return _checked(rules, values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)

    if len(found) < len(pairs):
        raise ValueError("a name is there twice")

    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")
