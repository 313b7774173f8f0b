# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the API says of itself: an OpenAPI 3.1 document, made from the table of routes.

The rule: the fields of a task and of a run have their schemas from the tables that check them.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..editing import OF_COMMAND_LINE
from ..runs.health import STATES
from ..store.fields import Field
from ..store.task import FIELDS, SECRETS
from ..times import format_time
from ..vocabulary import ENTRY, RUNNING
from . import table
from .table import Call, Route, Schema

Json = dict[str, Any]

TYPES = {"bool": "boolean", "int": "integer", "seconds": "integer", "float": "number", "lines": "array",
         "names": "array", "networks": "array", "argv": "array", "map": "object"}
TEXT: Json = {"type": "string"}
BOOL: Json = {"type": "boolean"}
NAMES: Json = {"type": "array", "items": TEXT}
TIME: Json = {"type": "string", "format": "date-time"}
MAYBE: Json = {"type": ["string", "null"]}
PROBLEM = "application/problem+json"
STAMP = {"ETag": {"description": "The stamp of the task, or of what an import changes, for If-Match.", "schema": TEXT}}
PROBLEMS = {400: "Something in the request is wrong; `field` names it.", 401: "There is no valid key.",
            403: "The key's role does not allow this, or it came over plain http.", 404: "There is nothing there.",
            409: "What is there stands against it: a name that is taken, a task that runs.",
            412: "It does not have the stamp that If-Match says.", 413: "The body is too long.",
            415: "The body has the wrong content type.", 429: "There were too many wrong keys.",
            503: "The installation cannot work now."}


def about(call: Call) -> Json:
    return {"version": __version__, "api": 1, "key": call.person.name.partition(" ")[2], "role": call.person.role,
            "time": format_time(call.now), "timezone": call.settings["timezone"]}


def document(call: Call) -> Json:
    return described(quote(str(call.environ.get("SCRIPT_NAME", "")).encode("latin-1", "replace")) or "/")


def described(server: str = "/") -> Json:
    """The document. server: what the paths follow."""
    paths: dict[str, Json] = {}

    for route in table.ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)

    return {
        "openapi": "3.1.0", "servers": [{"url": server}], "security": [{"bearer": []}, {"key": []}],
        "info": {"title": "webscheduler", "version": __version__, "description": (
            "A host that drops the path after a script takes the path in the query: `?api=v1/tasks`. Its segments are "
            "then encoded as in a path, and the whole once more as a value. The answer of HEAD is that of GET without "
            "its body.")},
        "paths": paths, "components": {
            "schemas": _schemas(), "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Webscheduler-Key",
                        "description": "For servers that keep Authorization to themselves."}}}}


def _operation(route: Route) -> Json:
    writes = route.method != "GET"
    names = re.findall(r"{(\w+)}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}} for name in names]
    parameters += [{"name": name, "in": "query", "required": row.default is table.REQUIRED, "schema": of_field(
        row, nullable=False), "description": row.sentence} for name, row in route.query.items()]
    problems = {400, 401, 403, 404, 429, 503, *((409,) if writes or names else ())}
    found: Json = {"operationId": route.function.replace(":", "-"), "summary": route.summary,
                   "description": f"Least role: {route.role}."}

    if route.path.endswith(("/export", "/import")) or (
            writes and names and not route.path.endswith(("/run", "/cancel"))):
        problems.add(412)
        parameters.append({"name": "If-Match", "in": "header", "required": False, "schema": TEXT, "description":
                           "Stamps of which the task, what is exported, or what an import changes, must have one: "
                           "ETag of an answer before."})

    if route.body is not None:
        problems |= {413, 415}
        body = {"type": "object"} if isinstance(route.body, int) else of_fields(route.body)
        kinds = [table.JSON, *((table.MERGE_PATCH,) if route.method == "PATCH" else ())]
        found["requestBody"] = {"required": bool(body.get("required")) or isinstance(route.body, int) or (
            route.method == "PATCH"), "content": {kind: {"schema": body} for kind in kinds}}

    answers = {**{str(status): _answer(status, schema) for status, schema in route.answers.items()},
               **{str(status): {"description": PROBLEMS[status], "content": {PROBLEM: {"schema": _ref("Problem")}}}
                  for status in sorted(problems)}}
    return {**found, **({"parameters": parameters} if parameters else {}), "responses": answers}


def _answer(status: int, schema: Schema) -> Json:
    from http.client import responses

    found: Json = {"description": responses[status]}

    if isinstance(schema, dict) and "content" in schema:
        return {**found, **schema}

    if schema is not None:
        found["content"] = {table.JSON: {"schema": _ref(schema) if isinstance(schema, str) else schema}}

    return {**found, **({"headers": STAMP} if schema in ("Task", "NewTask", "Imported") else {})}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def of_fields(rows: table.Rules) -> Json:
    """The schema of a body with these fields; null stands for the default of one."""
    required = [name for name, row in rows.items() if row.default is table.REQUIRED]
    return {"type": "object", "additionalProperties": False, **({"required": required} if required else {}),
            "properties": {name: {**of_field(row, name not in required), "description": row.sentence}
                           for name, row in rows.items()}}


def of_field(row: Field, nullable: bool) -> Json:
    """The schema of values that follow the rule of a field, as far as a schema can say it."""
    kind, limit = TYPES.get(row.kind, "string"), row.limit
    found: Json = {"type": [kind, "null"] if nullable else kind}

    if kind in ("integer", "number") and limit:
        found.update((word, number) for word, number in zip(("minimum", "maximum"), limit) if number is not None)
    elif row.kind == "choice":
        found["enum"] = [*limit, *([None] if nullable else [])]
    elif row.kind == "time":
        found["format"] = "date-time"
    elif kind == "array":
        found.update(items=TEXT, maxItems=limit or 1000)
    elif kind == "object":
        found["additionalProperties"] = TEXT
    elif kind == "string":
        found["maxLength"] = limit or 4000

    return found


def shape(properties: Json, optional: tuple[str, ...] = ()) -> Json:
    """The schema of an object with these properties, and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties,
            "required": [name for name in properties if name not in optional]}


def _schemas() -> Json:
    task = {"name": TEXT, **{name: of_field(row, row.nullable) for name, row in FIELDS.items()
                             if name not in (*SECRETS, *OF_COMMAND_LINE, "slug")},
            "oldSecretUntil": MAYBE, "url": MAYBE, "state": {"type": "string", "enum": list(STATES)},
            "running": NAMES, "nextRuns": NAMES, "position": {"type": "integer"}}
    optional = ("url", "pingUrl", "nextRuns", "position")
    broken = shape({"name": TEXT, "error": TEXT})
    return {
        "Problem": shape({"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "field": TEXT},
                         ("field",)),
        "About": shape({"version": TEXT, "api": {"const": 1}, "key": TEXT, "role": TEXT, "time": TIME,
                        "timezone": TEXT}),
        "Task": {"anyOf": [shape(task, optional), broken]},
        "NewTask": shape({**task, "secret": TEXT}, optional),
        "Tasks": shape({"tasks": {"type": "array", "items": _ref("Task")}, "next": MAYBE}),
        "Keys": shape({"url": MAYBE, "secret": TEXT}),
        "Url": shape({"url": TEXT}),
        "Next": shape({"next": NAMES}),
        **_of_runs(),
    }


def _of_runs() -> Json:
    """The schemas of runs and of the installation. What a line of history holds, another version or program may have
    written, so it is described without being promised."""
    run = {"type": "object", "properties": {key: {"description": f"docs/reference/history.md: {key}"} for key in ENTRY},
           "required": ["command", "status"]}
    change = shape({"task": TEXT, "change": {"type": "string", "enum": list(table.CHANGES)},
                    "fields": {"type": "object", "additionalProperties": {"type": "array"}}})
    command = shape({"name": TEXT, "source": TEXT, "description": TEXT, "arguments": BOOL})
    number = {"type": "integer"}
    return {
        "Run": run, "Runs": shape({"runs": {"type": "array", "items": _ref("Run")}, "next": MAYBE}),
        "Started": shape({"task": TEXT, "run": TEXT, "status": {"const": RUNNING}, "strategy": TEXT}),
        "Output": shape({"stream": TEXT, "offset": number, "next": number, "text": TEXT, "ended": BOOL}),
        "Cancelled": shape({"task": TEXT, "run": TEXT, "ended": BOOL}),
        "Health": {"type": "object", "properties": {"status": {"enum": ["healthy", "failing", "late"]}},
                   "required": ["status", "tasks", "unhealthy", "running", "places", "lastTickAt", "tickEverySeconds",
                                "warnings", "errors"]},
        "Commands": shape({"commands": {"type": "array", "items": command}, "next": MAYBE}, ("next",)),
        "Imported": shape({"changes": {"type": "array", "items": change}, "written": BOOL, "said": NAMES,
                           "counts": shape(dict.fromkeys(table.CHANGES, number))}),
    }
