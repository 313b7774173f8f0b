# SPDX-License-Identifier: LGPL-3.0-or-later
"""Verbs that change and show tasks.

The rules: each field that a person may change is an option of `add` and `edit` without anybody writing one, and its
value is checked by the field's own rule, as in the panel and in the file. A task that cannot be loaded is listed with
what is wrong with it. A run that state.json calls running is shown so only while a process of it is alive.
"""

from __future__ import annotations

import sys
import time

from .. import signing
from ..errors import BadInput, did_you_mean
from ..printable import escaped
from ..schedule.describe import describe, render
from ..store import old_secret
from ..store.fields import Field, check, from_text
from ..store.task import DUE, FIELDS, SECRETS
from ..times import instant
from .here import of
from .parser import BASE, JSON, OPTIONS, YES, checked, kebab
from .terminal import as_text, confirm, done, line, local_time, print_error, print_json, print_table, to_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from .here import Leaders
    from .parser import Argument

METAVARS = {"cron": "EXPR", "networks": "ADDRESS", "names": "TASK", "map": "NAME=VALUE", "text": "TEXT", "line": "TEXT",
            "prose": "TEXT", "int": "N", "url": "URL", "seconds": "SECONDS"}
REPEATED = ("map", "names", "networks")
CLEARED: dict[str, dict[str, Any]] = {"argv": {"command": None, "arguments": ""}, "command": {"argv": None},
                                      "expression": {"intervalSeconds": None}, "intervalSeconds": {"expression": None}}


def option_fields() -> dict[str, Field]:
    """The fields that are options; the program with its arguments follows `--` instead."""
    return {name: row for name, row in FIELDS.items() if row.by == "user" and row.kind != "argv"}


def field_options() -> list[Argument]:
    """The options that set fields, as a verb's arguments."""
    found: list[Argument] = []

    for name, row in option_fields().items():
        option, dest = OPTIONS.get(name, "--" + kebab(name)), {"dest": "field_" + name}

        if row.kind == "bool":
            off = "--disabled" if name == "enabled" else "--no-" + kebab(name)
            found.append((option, row.sentence, {**dest, "action": "store_const", "const": True}))
            found.append((off, f"The opposite of {option}.", {**dest, "action": "store_const", "const": False}))
        elif row.kind in REPEATED:
            found.append((f"{option} {METAVARS[row.kind]}", row.sentence + " May be given several times; together they "
                          "replace the old value.", {**dest, "action": "append"}))
        else:
            metavar = "|".join(row.limit) if row.kind == "choice" else METAVARS[row.kind]
            units = " A unit may follow: 90s, 5m, 2h, 1d." if row.kind == "seconds" else ""
            found.append((f"{option} {metavar}", row.sentence + units, {**dest, "type": str}))  # checked with others

    return found


def given_fields(args: Namespace) -> dict[str, Any]:
    """The fields that the options and the program set, checked. Raises BadInput naming the field."""
    fields: dict[str, Any] = {}

    for name, row in option_fields().items():
        given = getattr(args, "field_" + name)

        if given is None:
            continue

        if row.kind == "bool":
            fields[name] = given
        elif row.kind == "map":
            fields[name] = check(name, row, _variables(name, given))
        else:
            fields[name] = from_text(name, row, "\n".join(given) if row.kind in REPEATED else given)

    if args.argv is not None:
        fields["argv"] = check("argv", FIELDS["argv"], args.argv)

    if fields.get("command") and fields.get("argv"):
        raise BadInput("command: give either --command or a program after --, not both", "command")

    if fields.get("expression") and fields.get("intervalSeconds"):
        raise BadInput("expression: give either --cron or --every, not both", "expression")

    return fields


def _variables(field: str, given: list[str]) -> dict[str, str]:
    found = {}

    for text in filter(None, given):
        name, equals, value = text.partition("=")

        if not equals:
            raise BadInput(f"{field}: {text[:40]!r} must be NAME=VALUE", field)

        found[name] = value

    return found


def _defaults(names: list[str]) -> dict[str, Any]:
    """The defaults of fields, named like their options. Raises BadInput."""
    known = {option: name for name in option_fields() for option in (name, kebab(name))}
    known.update({options.partition(",")[0][2:]: name for name, options in OPTIONS.items()})

    for name in names:
        if name not in known:
            raise BadInput(f"--unset: no field is called {name[:60]!r}{did_you_mean(name, known)}: `webscheduler edit "
                           "--help` lists them", "unset")

    return {known[name]: FIELDS[known[name]].default for name in names}


def _add(args: Namespace) -> None:
    task = of(args).create(args.name, given_fields(args))
    _print_with_secret(task, args.json, f"Added {line(args.name)}" + (
        "." if task["enabled"] else to_type(", disabled: `webscheduler enable` lets it run.")))


def _edit(args: Namespace) -> None:
    given = given_fields(args)
    cleared = {name: value for field in given if given[field] for name, value in CLEARED.get(field, {}).items()}
    change = {**_defaults(args.unset), **cleared, **given}

    if not change:
        raise BadInput("nothing to change is given: `webscheduler edit --help` lists the options")

    _tell(of(args).edit(args.name, change), args.json, f"Changed {line(args.name)}: {', '.join(sorted(change))}.")


def _tell(task: dict[str, Any], as_json: bool, sentence: str) -> None:
    done(sentence, not as_json)

    if as_json:
        print_json(task)


def _rotate_secret(args: Namespace) -> None:
    if args.end_old:
        if args.keep_old is not None:
            raise BadInput("--end-old: cannot be given with --keep-old: one ends what the other keeps")

        _tell(of(args).end_old_secret(args.name), args.json,
              f"URLs of {line(args.name)} from before its present secret no longer work.")
        return

    task = of(args).rotate_secret(args.name, args.keep_old or 0)
    until = task["oldSecretUntil"]
    what = f"go on working until {local_time(until)}" if until else "no longer work"
    _print_with_secret(task, args.json, f"{line(args.name)} has a new secret; its old URLs {what}.")


def _print_with_secret(task: dict[str, Any], as_json: bool, sentence: str) -> None:
    """Print a task whose secret was just made: the only time that it is shown."""
    _tell(task, as_json, sentence)

    if as_json:
        return

    name = line(task["name"])

    if task["url"]:
        print(f"URL     {line(task['url'])}")
    elif task["signature"] == "timed":
        print(to_type(f"URL     a new one for each call: `webscheduler url {name} --timed` prints it"))
    else:
        print(to_type(f"URL     `webscheduler url {name}` prints it after `webscheduler config set baseUrl "
                      "https://...`"))

    if task.get("slug"):  # it is part of the URL
        print(f"Slug    {task['slug']}")

    print(f"Secret  {line(task['secret'])}    (not shown again)")


def _schedule(task: dict[str, Any], leaders: Leaders) -> str:
    if task["name"] == DUE:
        return "When its URL is called"

    said = [render(*describe(task["expression"], task["intervalSeconds"]), str)]

    for what, field in (("after success of", "onSuccess"), ("after failure of", "onFailure")):
        names = leaders[field].get(task["name"])
        said += [f"{what} {', '.join(names)}"] if names else []

    return "; ".join(said)


def _next_start(task: dict[str, Any], problem: str, now: float) -> str:
    at = task["nextRunAt"]
    seconds = at if isinstance(at, float) else instant(at)
    return f"never: {problem}" if problem else "now" if 0 < seconds <= now else local_time(seconds or at)


def _list(args: Namespace) -> int:
    (listed, leaders), now = of(args).listed(args.group, args.failing, args.json), time.time()
    good = [each for each in listed if "error" not in each[0]]
    broken = [task for task, *_ in listed if "error" in task]

    if args.json:
        print_json([*(task for task, *_ in good), *(broken if args.group is None else [])])
    else:
        print_table(("TASK", "ENABLED", "SCHEDULE", "LAST RUN", "STATUS", "NEXT", "RUNNING"), [
            (task["name"], "yes" if task["enabled"] else "no", _schedule(task, leaders), local_time(task["lastRunAt"]),
             task["lastRunStatus"] or "-", _next_start(task, problem, now), "yes" if alive else "-")
            for task, alive, problem in good])

        print_error(*(f"{task['error']}: correct it with `webscheduler edit`" for task in broken))

    return int(args.failing and bool(listed))


def _show(args: Namespace) -> None:
    task, alive, problem = of(args).shown(args.name)

    if args.json:
        print_json(task)
        return

    leaders = of(args).leaders()

    print(line(task["name"]) + (f": {line(task['title'])}" if task["title"] else ""))

    if task["description"]:
        print(escaped(task["description"]))

    old = task.pop("oldSecretUntil", None)
    facts = [("schedule", _schedule(task, leaders)), ("next", _next_start(task, problem, time.time())),
             *([("old URLs", f"work until {local_time(old)}")] if old else []),
             *(("running", f"{facts.get('run')} since {local_time(facts.get('startedAt'))}") for facts in alive)]
    hidden = (*SECRETS, "followUps", "title", "description", "nextRunAt", "name")
    facts += [(field, local_time(value) if field in FIELDS and FIELDS[field].kind == "time" else as_text(value))
              for field, value in task.items()
              if field not in hidden and value is not None and value not in ("", [], {})]
    width = max(len(label) for label, _ in facts)

    for label, text in facts:
        print(f"  {label:{width}}  {line(text)}")


def _remove(args: Namespace) -> None:
    place, names = of(args), list(dict.fromkeys(args.name))
    place.check(names)
    history = "history" if len(names) == 1 else "histories"
    whose = f"{'its' if len(names) == 1 else 'their'} {history}"
    confirm(f"Remove {', '.join(names)}{'' if args.keep_logs else f' and {whose}'}?", args.yes)

    for name in names:
        place.remove(name, args.keep_logs)
        done(f"Removed {line(name)}{'; its history is kept' if args.keep_logs else ' and its history'}.")


def _rename(args: Namespace) -> None:
    of(args).rename(args.old, args.new)
    done(f"Renamed {line(args.old)} to {line(args.new)}; its URL is the same.")


def _enable(args: Namespace) -> None:
    if bool(args.name) == (args.group is not None):
        raise BadInput(f"{args.verb}: give either names of tasks or --group")

    place = of(args)
    names = args.name or place.names_in(args.group)

    if not names:
        raise BadInput(f"no task is in group {args.group!r}: `webscheduler list` shows the groups")

    place.set_enabled(names, args.verb == "enable")
    done(f"{args.verb}d: {', '.join(line(name) for name in names)}")


def _url(args: Namespace) -> None:
    if args.status and args.timed:
        raise BadInput("url: --status is not allowed with --timed")

    url = of(args).url(args.name, "status" if args.status else "timed" if args.timed else "trigger", args.base)
    url = signing.by_query(url) if args.query else url

    if args.json:
        print_json({"name": args.name, "url": url})
    else:
        print(line(url))


def _commands(args: Namespace) -> None:
    found = of(args).commands()

    if args.json:
        print_json(found)
    else:
        print_table(("COMMAND", "SOURCE", "ARGUMENTS", "DESCRIPTION"), [
            (command["name"], command["source"], "yes" if command["arguments"] else "no", command["description"])
            for command in found])


def _sync(args: Namespace) -> int:
    from ..commands import discovery
    from ..store.settings import load_settings

    status, output, errors = discovery.search(load_settings(args.home))
    print(escaped(output) if output or errors else "nothing has changed\n", end="")
    sys.stdout.flush()
    print(escaped(errors), end="", file=sys.stderr)
    return status


NAME = ("NAME", "The task.")
SEVERAL = (("[NAME...]", "The tasks."), ("--group GROUP", "All tasks of this group."))
VERBS = {
    "add": (_add, "Add a task that runs a registered command, or a program with arguments. No shell sees them.", NAME,
            *field_options(), JSON),
    "edit": (_edit, "Change a task. Fields that are not given stay; '' clears a field that can be empty.", NAME,
             *field_options(), ("--unset FIELD", "Reset a field to its default. May be given several times.",
                                {"action": "append", "default": []}), JSON),
    "list": (_list, "List the tasks.", ("--group GROUP", "Only tasks of this group."),
             ("--failing", "Only tasks that need attention; exit status 1 if there are any."), JSON),
    "show": (_show, "Show everything about a task.", NAME, JSON),
    "remove": (_remove, "Remove tasks and their histories.", ("NAME...", "The tasks."),
               ("--keep-logs", "Keep the history."), YES),
    "rename": (_rename, "Rename a task; its URL and history stay.", ("OLD", "The present name."),
               ("NEW", "The new name.")),
    "enable": (_enable, "Enable tasks, so that their URLs and schedules run them.", *SEVERAL),
    "disable": (_enable, "Disable tasks, so that only `run` runs them.", *SEVERAL),
    "url": (_url, "Print only the trigger URL of a task, to paste into a hosting panel.",
            ("NAME", "The task; @due runs all due tasks."), BASE,
            ("--status", "The status URL, for uptime monitors; it runs nothing."),
            ("--timed", "A URL that works once and for a few minutes."),
            ("--query", "Put the task into the query, for hosts that drop the path after a script."), JSON),
    "rotate-secret": (_rotate_secret, "Give a task a new secret; its old URLs stop working.", NAME,
                      ("--keep-old SECONDS", ("Let old URLs work for so long, while you paste the new one. A unit may "
                       "follow: 24h."), {"type": checked("--keep-old", "seconds", (1, old_secret.LONGEST))}),
                      ("--end-old", "Make no new secret; end the time of the old one now."), JSON),
    "commands": (_commands, "List the registered commands, which tasks can run.", JSON),
    "sync": (_sync, "Find the commands in the modules of the settings, and add a task for each new one."),
}
