# SPDX-License-Identifier: LGPL-3.0-or-later
"""What must hold after a fault, and after the next trigger, which finds what it left.

Rules: state.json can be parsed; each line of history is whole, and no run has two; a run that was accepted has one, and
its command began at most once, and once if the line says how it ended; where the answer is an error, none began. No
claim, temporary file or output is left (what a kill leaves, clean-up removes); the next trigger runs and is answered.
No process has a lock any more, since all of them have ended when this is looked at.
"""

from __future__ import annotations

import collections
import json
import os
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import scenarios
from tests.faults.listening import Ended, Fault, perform
from webscheduler.runs import retention, task_files
from webscheduler.store import history, locks, state
from webscheduler.store.settings import load_settings

RUN = re.compile(r"\brun ([0-9]{14}-[0-9a-f]{8})\b")
NOT_BEGUN = {"interrupted", "failed", "skipped", "rejected"}  # lines of runs whose command may not have begun
AFTER = "took effect|has run|was run|has been|not recorded"  # an error that tells of an effect


def judge(name: str, home: str, fault: Fault | None, ended: Ended) -> list[str]:
    """What is wrong, each as `kind: what`; kinds: lost, doubled, and others."""
    problems = [f"reused: {use}" for use in ended.reused]
    slugs = json.loads(Path(home).with_name("slugs").read_text())

    if ended.hung:
        problems.append(f"hung: {ended.errors[-300:]!r}")

    if b"Traceback" in ended.errors and b"Exception ignored in" not in ended.errors:  # that is filelock, at its end
        problems.append(f"raised: {ended.errors.decode()[-400:]}")

    for claim in Path(home, "runs").iterdir():  # as if two seconds had gone by since (dead_runs.START_TAKES)
        os.utime(claim, (time.time() - 10,) * 2)

    try:
        state.read_strictly(home)
    except Exception as error:
        return [*problems, f"state: {error}"]

    Path(home).with_name("done-slow").unlink(missing_ok=True)
    began = Path(home).with_name("done").read_text().split()
    then, run = follow(home, slugs[scenarios.NAME], name)
    problems += then
    problems += left(home, fault)
    tasks = state.read_strictly(home)
    lines, torn = histories(home)
    problems += torn
    entries = [entry for group in lines.values() for entry in group if entry.get("run")]
    counts = collections.Counter(entry["run"] for entry in entries)
    begun = collections.Counter(Path(home).with_name("done").read_text().split())
    problems += [f"doubled: {count} lines of {each}" for each, count in counts.items() if count > 1]
    problems += [f"doubled: {each} began {count} times" for each, count in begun.items() if count > 1]
    problems += [f"lost: {each} began and has no line" for each in begun if each not in counts and name != "remove"]
    problems += [f"lost: {entry['run']} is {entry['status']}, and never began" for entry in entries
                 if entry["status"] not in NOT_BEGUN and entry["run"] not in begun and entry["command"] != "@due"]
    problems += answered(ended, began, counts, name)

    if run is not None:
        row = next((row for row in tasks.values() if row.get("slug") == slugs[scenarios.NAME]), {})

        if (row.get("lastRunId"), row.get("lastRunStatus")) != (run, "success"):
            problems.append(f"next: state tells of {row.get('lastRunId')} {row.get('lastRunStatus')}, not {run}")

        if begun[run] != 1 or counts[run] != 1:
            problems.append(f"next: {run} began {begun[run]} times and has {counts[run]} lines")

    problems += SPECIAL.get(name, lambda *_: [])(home, tasks, lines, ended)
    return problems


def follow(home: str, slug: str, name: str) -> tuple[list[str], str | None]:
    """Trigger what the scenario triggered once more, without a fault. (what is wrong; the id of the run)."""
    problems, run = [], None
    tasks = state.read_strictly(home)
    names = [each for each, row in tasks.items() if isinstance(row, dict) and row.get("slug") == slug]

    if len(names) != 1:
        return [f"state: {len(names)} tasks have the URL"], None

    for each in (["@due"] if name in ("tick", "remove", "remove-logs") else []) + names:
        environ = scenarios.signed(home, each)
        ended = perform(partial(scenarios.by_cgi, home, environ), home, watched=False)
        status, document = response(ended.output)

        if ended.hung or status not in (200, 202) or document.get("status") not in ("running", "success"):
            problems.append(f"next: {status} {document} {ended.errors[-300:]!r} for {each}")
        else:
            run = document["run"]

    return problems, run


def response(output: bytes) -> tuple[int, dict[str, Any]]:
    """Status and document of an answer; (0, {}) where there is none."""
    head, _, body = output.partition(b"\r\n\r\n")

    try:
        return int(head.partition(b"Status: ")[2].split()[0]), json.loads(body)
    except (ValueError, IndexError):
        return 0, {}


def answered(ended: Ended, began: list[str], counts: dict[str, int], name: str) -> list[str]:
    """Whether the answer, or what the command line said, is true of what happened."""
    status, document = response(ended.output)
    said = ended.errors.decode("utf-8", "replace")
    old = int(name == "dead-ended" or name.startswith(("rename", "remove")))  # commands that began before

    if document.get("run") and document["run"] not in counts:
        return [f"lost: {document['run']} was accepted"]

    if name == "run":
        runs = RUN.findall(said)
        problems = [f"lost: {run} was said to have run" for run in runs if run not in counts]

        if os.WIFEXITED(ended.status) and not runs and len(began) > old and not re.search(AFTER, said):
            problems.append(f"answer: it ran, and was answered by status {os.WEXITSTATUS(ended.status)}, {said!r}")

        return problems

    if status and not document.get("run") and len(began) > old:
        return [f"answer: {status} {document} although a command ran: {said!r}"]

    return []


def left(home: str, fault: Fault | None) -> list[str]:
    """What is left that should not be."""
    problems = [f"claim: {claim} is left" for claim in os.listdir(os.path.join(home, "runs"))]

    if not files(home):
        return problems

    excused = fault and (fault.kind in ("kill", "killall", "torn", "lasting") or fault.place.name == "unlink")

    if not excused:
        problems += [f"left: {', '.join(files(home))}"]

    retention.clean(load_settings(home), time.time() + 2 * scenarios.DAY)
    return problems + [f"left: {file} after clean-up" for file in files(home)]


def files(home: str) -> list[str]:
    """Temporary and output files."""
    return [os.path.relpath(os.path.join(folder, file), home) for folder, _, found in os.walk(home) for file in found
            if file.endswith(".tmp") or folder.endswith("/output")]


def histories(home: str) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """(lines of each history, what is wrong with them)."""
    lines: dict[str, list[dict[str, Any]]] = {}
    problems = []

    for file in sorted(Path(home, "logs").glob("*.jsonl")):
        content = file.read_bytes()
        found = [history.parse(text) for text in content.splitlines()]

        if None in found or (content and not content.endswith(b"\n")):
            problems.append(f"torn: {file.name}: {content[-200:]!r}")

        lines[file.stem] = [dict(entry) for entry in found if entry]

    return lines, problems


def _tick(home: str, tasks: Any, lines: Any, ended: Ended) -> list[str]:
    ran = {name: [entry for entry in lines.get(name, []) if entry["run"]] for name in scenarios.DUE_TASKS}
    return [f"doubled: {name} ran {len(runs)} times" for name, runs in ran.items()
            if sum(entry["status"] == "success" for entry in runs) > 1] + [
            f"lost: {name} never ran" for name, runs in ran.items() if not runs]


def _told(ended: Ended, done: bool, undone: bool) -> list[str]:
    """Whether a verb's exit status and words are true. done, undone: whether its effect is there, or nothing of it."""
    said = ended.errors.decode("utf-8", "replace")

    if not done and not undone:
        return [f"state: half done, {said!r}"]

    if not os.WIFEXITED(ended.status):
        return []

    status = os.WEXITSTATUS(ended.status)

    if status == 0 and not done:
        return ["answer: status 0, and nothing was done"]

    return [f"answer: status {status} though it was done: {said!r}"] if status and done and not re.search(
        AFTER, said) else []  # fmt: skip


def _edit(home: str, tasks: Any, lines: Any, ended: Ended) -> list[str]:
    title = tasks[scenarios.NAME].get("title")
    return _told(ended, title == "Changed", title != "Changed")


def _rename(home: str, tasks: Any, lines: Any, ended: Ended, before: int = 0) -> list[str]:
    new, old = ("renamed" in tasks, scenarios.NAME in tasks)
    there = "renamed" if new else scenarios.NAME
    problems = _told(ended, new and not old, old and not new)
    wanted = {"renamed": 2 + before} if new else {scenarios.NAME: 2, **({"renamed": before} if before else {})}
    found = {name: len(entries) for name, entries in lines.items() if name != "@due"}

    if found != wanted:
        problems.append(f"lost: lines of {found}, it is {there}")

    if [history.ended(entry) for entry in lines[there]] != sorted(history.ended(entry) for entry in lines[there]):
        problems.append("order: the lines are not by time")

    return problems + _gates(home)


def _gates(home: str) -> list[str]:
    """What is not finished once a tick or `doctor` came by: the trigger came to one of two gates."""
    task_files.finish_all(home)
    found = [file.name for file in Path(home, "locks").glob("*.lock") if file.stat().st_size > locks.RECORD_SIZE]
    return [f"left: {file} is not finished" for file in found] + [
        f"left: logs/{file.name}" for file in Path(home, "logs").glob("*.joined")]


def _remove(home: str, tasks: Any, lines: Any, ended: Ended, keep: bool = False) -> list[str]:
    problems = _told(ended, "other" not in tasks, "other" in tasks) + _gates(home)
    return problems + ([] if (keep or "other" in tasks) == bool(lines.get("other")) else ["left: half removed"])


def _rotate(home: str, tasks: Any, lines: Any, ended: Ended) -> list[str]:
    old = json.loads(Path(home).with_name("secrets").read_text())[scenarios.NAME]
    new = tasks[scenarios.NAME]["secret"]
    problems = _told(ended, new != old, new == old)

    if os.WIFEXITED(ended.status) and new != old and new.encode() not in ended.output + ended.errors:
        problems.append(f"answer: the new secret is not shown: {ended.errors!r}")

    return problems


def _clean(home: str, tasks: Any, lines: Any, ended: Ended) -> list[str]:
    old = [entry for entry in lines[scenarios.NAME] if 0 < history.ended(entry) < time.time() - scenarios.DAY]
    return [] if len(old) in ((2, 4) if ended.struck else (2, )) else [f"lost: {len(old)} of four lines are left"]


SPECIAL: dict[str, Any] = {"tick": _tick, "edit": _edit, "rename": _rename, "rename-join": partial(_rename, before=2),
                           "remove": _remove, "remove-logs": partial(_remove, keep=True), "rotate": _rotate,
                           "clean-up": _clean}  # fmt: skip
