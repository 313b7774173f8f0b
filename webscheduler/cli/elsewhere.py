# SPDX-License-Identifier: LGPL-3.0-or-later
"""What verbs ask of an installation elsewhere, over its API: as `here` does of one on this machine.

The rule: what a verb gets has the shapes that `here` gives, so that it is printed by the same lines. What comes from
elsewhere is checked before (`client.shaped`), and printed as any text of others is.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from contextlib import suppress
from urllib.parse import parse_qs

from ..errors import BadInput, Conflict, WebschedulerError
from ..printable import escaped
from ..remote import client, sites
from ..remote.client import Refused, shaped
from ..store.history import ended
from ..store.task import FIELDS, check_name, load_task
from ..times import format_time, parse_time
from ..vocabulary import RUNNING
from . import terminal
from .here import PATIENCE, leaders
from .terminal import local_time, print_error, print_json, print_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any

    from ..host.findings import Finding
    from ..remote.sites import Site
    from ..shapes import Entry, Facts, Result
    from .here import Leaders, Shown

POLL = (0.3, 2.0)  # seconds between two looks at a run: at first, and at most
LONGEST = 300.0  # seconds for the answer of a host that lets no run outlive its request
FOLLOW = 2.0  # seconds between two looks at history
MOST_AT_ONCE = 8  # sites
TRIES = 5  # calls in a row that may fail while a run is followed
ADDED = ("state", "running", "nextRuns", "position")  # what the API adds to a task's document
NULL = type(None)
TASK = {"name": str, "enabled": bool, "state": str, "running": list}
ENTRY = {"command": str, "status": str, "run": (str, NULL)}
COMMANDS = {"commands": [{"name": str, "source": str, "description": str, "arguments": bool}]}
HEALTH = {"status": str, "tasks": int, "unhealthy": [{"name": str, "status": str}],
          "running": [{"name": str, "run": str, "startedAt": (str, NULL)}], "places": {"held": [dict]},
          "lastTickAt": (str, NULL), "warnings": [str], "errors": [str]}


def connect(given: str) -> Elsewhere:
    """The installation that --at names. Raises BadInput, Refused."""
    site = sites.find(given)

    if site.by_query is None:
        print_error(*filter(None, [client.warning(site)]))
        client.connect(site)

    terminal.use_site(given, site.timezone)
    return Elsewhere(site)


class Elsewhere:
    """The installation at a site, with what `Here` has. Raises BadInput for what it refuses as such, else Refused."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.stamps: dict[tuple[str, ...], str] = {}  # by the paths of the tasks that were read

    def call(self, method: str, *path: str, like: Any = dict, **more: Any) -> Any:
        """The document that the API answers, which must be like that. What is changed of a task must be what was read
        of it."""
        task = path[:2] if path[0] == "tasks" else ()
        stamp = "" if method == "GET" else self.stamps.get(task, "")
        answer = client.ask(self.site, method, *path, stamp=stamp, **more)
        found = client.read(self.site, answer)
        self.stamps.update({task: answer.headers["etag"]} if "etag" in answer.headers else {})
        return found if like is None else shaped(self.site, found, like)

    def _task(self, found: dict[str, Any]) -> Shown:
        """A task as `here` has it, each field checked by its own rule."""
        if isinstance(found.get("error"), str):
            return {"name": shaped(self.site, found, {"name": str})["name"], "error": found["error"]}, [], ""

        task = shaped(self.site, found, TASK)

        try:
            load_task(task["name"], {name: task[name] for name in FIELDS.keys() & task.keys()})
        except BadInput:
            shaped(self.site, None, dict)

        alive: list[Facts] = [{"run": str(run)} for run in task["running"]]
        document = {name: value for name, value in task.items() if name not in ADDED}
        return {**document, **{name: document.get(name) for name in ("nextRunAt", "oldSecretUntil", "url")}}, alive, ""

    def _documents(self, group: str | None = None) -> list[dict[str, Any]]:
        found = client.pages(self.site, "tasks", {"tasks": [dict]}, group=group, limit=500)["tasks"]
        return sorted(found, key=lambda each: float(shaped(self.site, each.get("position", math.inf), (int, float))))

    def listed(self, group: str | None, failing: bool, whole: bool) -> tuple[list[Shown], Leaders]:
        everything = [self._task(each) for each in self._documents()]
        ill = {each["name"] for each in self.report()["unhealthy"]} if failing else set()
        found = [shown for shown in everything if (not failing or shown[0]["name"] in ill) and (
            group is None or "error" in shown[0] or shown[0].get("group") == group)]
        return found, leaders({shown[0]["name"]: shown[0] for shown in everything})

    def shown(self, name: str) -> Shown:
        found = self._task(self.call("GET", "tasks", name))

        if "error" in found[0]:
            raise BadInput(found[0]["error"])

        if found[1]:  # a task's document does not say since when
            begun = {each["run"]: each["startedAt"] for each in self.report()["running"]}
            found[1][:] = [{"run": facts["run"], "startedAt": begun[facts["run"]]} for facts in found[1]
                           if facts["run"] in begun]

        return found

    def leaders(self) -> Leaders:
        return leaders({str(each.get("name")): each for each in self._documents()})

    def create(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        found = self.call("POST", "tasks", body={"name": check_name(name), **_allowed(fields)})
        return {**self._task(found)[0], "secret": shaped(self.site, found, {"secret": str})["secret"]}

    def edit(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        body = _allowed(fields)
        self.check([name])
        return self._task(self.call("PATCH", "tasks", name, body=body))[0]

    def check(self, names: list[str]) -> None:
        for name in names:
            if ("tasks", name) not in self.stamps:
                self.call("GET", "tasks", name)

    def remove(self, name: str, keep_logs: bool) -> None:
        self.call("DELETE", "tasks", name, query={"keepLogs": "true"} if keep_logs else {}, like=None)

    def rename(self, old: str, new: str) -> None:
        self.edit(old, {"name": check_name(new)})

    def names_in(self, group: str) -> list[str]:
        return [str(each.get("name")) for each in self._documents(group)]

    def set_enabled(self, names: list[str], enabled: bool) -> None:
        """See `Here`; an error may come after some are changed."""
        self.check(names)

        for name in names:
            self.call("POST", "tasks", name, "enable" if enabled else "disable", body={})

    def url(self, name: str, kind: str, base: str | None) -> str:
        url = str(self.call("GET", "tasks", name, "url", query={"kind": kind}, like={"url": str})["url"])

        if base is not None:
            from ..store.settings import check_base_url

            url = check_base_url(base).rstrip("/") + re.sub(r".*?(?=/(?:run|status)/[0-9a-f]{32}\?)", "", url)

        return url

    def rotate_secret(self, name: str, keep_old: int) -> dict[str, Any]:
        document = self.shown(name)[0]  # read before, too: an error after would lose the secret
        found = self.call("POST", "tasks", name, "rotate", body={"keepOld": keep_old}, like={"secret": str})

        with suppress(WebschedulerError):
            document = self.shown(name)[0]

        return {**document, "url": found.get("url"), "secret": found["secret"]}

    def end_old_secret(self, name: str) -> dict[str, Any]:
        raise only_there("--end-old")

    def commands(self) -> list[dict[str, Any]]:
        return list(client.pages(self.site, "commands", COMMANDS, after="")["commands"])

    def report(self, end: float = math.inf) -> dict[str, Any]:
        return client.pages(self.site, "health", HEALTH, end=end, after="")

    def findings(self, offline: bool) -> list[Finding]:
        """What can be seen of it from outside."""
        from .outside import examine

        if offline:
            raise only_there("--offline")

        return list(examine(self))

    def starts(self, name: str, start: float | None, count: int) -> list[str]:
        """When the task starts next, ISO 8601."""
        return list(self.call("GET", "tasks", name, "next", like={"next": [str]}, query={
            "count": count, "from": None if start is None else format_time(start)})["next"])

    def run(self, name: str, quiet: bool) -> Result | None:
        """See `Here`; what was printed as it came is not in the entry again. Ctrl-C ends the watching, not the run."""
        self.check([name])  # a site that does not answer is noticed sooner than a host that answers after the run

        try:
            run = str(self.call("POST", "tasks", name, "run", body={}, like={"run": str}, limit=LONGEST)["run"])
        except Conflict:
            return None

        streamed = not quiet and _is_one_place()

        try:
            for text in self.watch(name, run) if streamed else ():
                print(escaped(text), end="", flush=True)

            found = self._ended(name, run)
        except KeyboardInterrupt:
            print_error(f"{name} goes on: `webscheduler logs {name} --run {run} --follow` shows it, "
                        f"`webscheduler cancel {name} {run}` ends it")
            raise

        if found and streamed:
            found["output"] = found["errorOutput"] = ""

        return found

    def watch(self, name: str, run: str) -> Iterator[str]:
        offset, pause, ended = 0, POLL[0], False
        like = {"next": int, "text": str, "ended": bool}

        while not ended:
            found = self._patiently("tasks", name, "runs", run, "output", like=like, query={
                "stream": "both", "offset": offset})
            offset, ended = found["next"], found["ended"] and not found["text"]
            yield found["text"]
            pause = POLL[0] if found["text"] else min(POLL[1], 1.5 * pause)
            time.sleep(0 if found["ended"] else pause)

    def _patiently(self, *path: str, **more: Any) -> Any:
        """What is read there. A server that does not answer for a moment is asked again: the run goes on."""
        for _ in range(TRIES):
            try:
                return self.call("GET", *path, **more)
            except Refused as error:
                if error.status not in (0, 429, 502, 503, 504):
                    raise

                time.sleep(POLL[1])

        return self.call("GET", *path, **more)

    def _ended(self, name: str, run: str, patience: float | None = None) -> Result | None:
        """The entry of a run, once it is there; None if it is not after `patience` seconds."""
        begun = time.monotonic()

        while True:
            found: Result = self._patiently("tasks", name, "runs", run)

            if shaped(self.site, found, {"status": str})["status"] != RUNNING:
                return found

            if patience is not None and time.monotonic() - begun > patience:
                return None

            time.sleep(POLL[1] / 2)

    def exported(self, target: str, secrets: bool) -> bytes:
        """The tasks for another scheduler, or as JSON for `import`: of one moment, though they may come in parts.
        Raises Stale."""
        query = {"format": target, "secrets": "true" if secrets else None, "after": ""}
        text, stamp, document, tasks = b"", "", {}, {}

        for _ in range(client.MOST_PAGES):
            answer = client.ask(self.site, "GET", "export", query=query, stamp=stamp)
            kind, stamp = answer.headers.get("content-type", ""), answer.headers.get("etag", "")

            if answer.status == 200 and target != "json" and kind.startswith("text/") and "html" not in kind:
                client.check_length(self.site, answer)
                text += answer.body
            else:
                document = shaped(self.site, client.read(self.site, answer), {"tasks": dict})
                tasks.update(document["tasks"])

            link = re.match(r"<\?([^>]*)>", answer.headers.get("link", ""))
            query["after"] = parse_qs(link[1]).get("after", [""])[0] if link else ""

            if not query["after"]:
                document.pop("next", None)
                return text or json.dumps({**document, "tasks": tasks}, indent=2).encode() + b"\n"

        raise Refused(f"{self.site.name}: its export does not end")

    def imported(self, document: bytes, prune: bool, stamp: str = "") -> tuple[dict[str, Any], str]:
        """(what importing the document changes: `changes`, as far as they are listed, `counts` by their kind, whether
        it was `written`, what is `said` of it; their stamp). stamp: of changes that are still to be the same, and are
        then made; without it none is. Raises Stale."""
        query = {"prune": "true" if prune else None, "dryRun": None if stamp else "true"}
        answer = client.ask(self.site, "POST", "import", query=query, body=document, stamp=stamp,
                            limit=LONGEST if stamp else client.LIMIT)
        found = shaped(self.site, client.read(self.site, answer), {
            "changes": [{"task": str, "change": str, "fields": dict}], "counts": dict, "written": bool,
            "said": [str]})
        shaped(self.site, list(found["counts"].values()), [int])

        for change in found["changes"]:
            for pair in change["fields"].values():
                if shaped(self.site, pair, list) and len(pair) != 2:
                    shaped(self.site, None, list)

        return found, answer.headers.get("etag") or "*"

    def live_runs(self, name: str) -> list[Facts]:
        return self.shown(name)[1]

    def cancel(self, name: str, run: str) -> tuple[bool, Entry | None]:
        try:
            self.call("POST", "tasks", name, "runs", run, "cancel", body={})
        except Conflict:
            pass  # it has ended by now

        entry = self._ended(name, run, PATIENCE)
        return entry is not None, entry

    def entries(self, name: str | None, status: str | None, limit: int, whole: bool) -> list[Entry]:
        return list(client.pages(
            self.site, "runs", {"runs": [ENTRY]}, "cursor", limit, task=name, status=status, limit=min(limit, 200),
            output="true" if whole else None)["runs"][:limit]) if limit else []

    def one(self, name: str | None, run: str) -> dict[str, Any]:
        path = "tasks", name or self._task_of(run), "runs", run
        found: dict[str, Any] = shaped(self.site, self.call("GET", *path), ENTRY)

        if found["status"] == RUNNING:
            found["output"] = self.call("GET", *path, "output", query={"stream": "both"}, like={"text": str})["text"]

        found.pop("task", None)
        return found

    def _task_of(self, run: str) -> str:
        """The task of a run, by the time that its id begins with. Raises BadInput."""
        running = {each["run"]: each["name"] for each in self.report()["running"]}

        if run in running:
            return str(running[run])

        begun = re.match(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", run)

        if begun:
            at = parse_time("{}-{}-{}T{}:{}:{}+00:00".format(*begun.groups()))

            for entry in client.pages(self.site, "runs", {"runs": [dict]}, "cursor", since=format_time(at - 5),
                                      limit=200)["runs"]:
                if entry.get("run") == run:
                    return str(entry.get("command"))

        raise BadInput(f"no run has the id {run[:60]!r}: `webscheduler logs` shows them")

    def follow(self, name: str | None) -> Following:
        return Following(self, name)


class Following:
    """A history elsewhere that is watched for new lines."""

    def __init__(self, place: Elsewhere, name: str | None) -> None:
        self.place, self.name, self.pause = place, name, FOLLOW
        self.known = self._look()

    def new(self) -> list[Entry]:
        """The entries that were added since the last call, oldest first."""
        found = self._look()
        since = max(map(ended, self.known), default=0.0) - 60  # an older one comes up where a later one was removed
        fresh = [entry for entry in found if entry not in self.known and ended(entry) > since]
        self.known = found
        return fresh[::-1]

    def _look(self) -> list[Entry]:
        return self.place.entries(self.name, None, 200, True)

    def close(self) -> None:
        """Nothing is open."""


def _is_one_place() -> bool:
    """Whether both streams lead to the same place, as a terminal or the log of a CI server. Else an output is not to be
    printed as it comes, since nobody knows yet which part of it is of which stream."""
    if os.isatty(1) or sys.platform == "win32":
        return os.isatty(1) and os.isatty(2)

    try:
        return os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:  # one of them is closed
        return False


def only_there(what: str) -> BadInput:
    """The error for what can only be done on the host itself."""
    return BadInput(f"{what}: only on the host itself, not with --at")


def _allowed(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields for the API. Raises BadInput for those that are set on the host itself alone."""
    if fields.get("argv"):
        raise only_there("a program after --")

    for field in ("cwd", "environment"):
        if field in fields:
            raise BadInput(f"{field}: only on the host itself, not with --at", field)

    return {field: value for field, value in fields.items() if field != "argv"}


def everywhere(args: Namespace) -> int:
    """`status`, and `list --failing`, of all sites in one table; exit status 1 if one is ill."""
    if args.verb != "status" and not (args.verb == "list" and args.failing and args.group is None):
        raise BadInput("--at all: only for `status` and `list --failing`")

    known = sites.read()

    if not known:
        raise BadInput("--at all: no sites are known: `webscheduler site add NAME URL` adds one")

    found = _asked(list(known.values()))

    if args.json:
        print_json([{"site": name, **row} for name, report in found for row in (
            [report] if args.verb == "status" or "error" in report else report["unhealthy"])])
    elif args.verb == "status":
        print_table(("SITE", "STATUS", "TASKS", "LAST TICK", "NEED ATTENTION"), [
            (name, "error", "-", "-", report["error"]) if "error" in report else
            (name, report["status"], str(report["tasks"]), local_time(report["lastTickAt"]),
             ", ".join(each["name"] for each in report["unhealthy"]) or "-") for name, report in found])
    else:
        print_table(("SITE", "TASK", "STATE", "LAST RUN", "STATUS"), [
            (name, each["name"], each["status"], local_time(each.get("lastRunAt")), each.get("lastRunStatus") or "-")
            for name, report in found for each in report.get("unhealthy", [
                {"name": "-", "status": "error", "lastRunStatus": report.get("error")}])])

    return int(any(report.get("status") != "healthy" for _, report in found))


def _asked(known: list[Site]) -> list[tuple[str, dict[str, Any]]]:
    """(name, what `status` says of it, or the `error`) of each site, in their order. At most MOST_AT_ONCE are asked
    side by side, and each may take `client.LIMIT` seconds in all."""
    from threading import Thread

    waiting = iter(known)  # gives each to one thread
    found: dict[str, dict[str, Any]] = {}

    def work() -> None:
        for site in waiting:
            begun = time.monotonic()

            try:
                if site.by_query is None:
                    client.connect(site)

                found[site.name] = Elsewhere(site).report(begun + client.LIMIT)
            except WebschedulerError as error:
                found[site.name] = {"error": re.sub(f"^{re.escape(site.name)}: ", "", str(error))}

    threads = [Thread(target=work, daemon=True) for _ in known[:MOST_AT_ONCE]]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join()

    return [(site.name, found[site.name]) for site in known]
