"""Verbs that change tasks: add edit remove rename enable disable url rotate-secret."""

from __future__ import annotations

import time

from .. import editing, signing
from ..errors import BadInput, NoSuchTask
from ..store import state
from ..store.settings import load_settings
from . import fields
from .host import base_url
from .terminal import confirm, line, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

    from ..store.settings import Settings
    from ..store.task import Task


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    add = verb("add", _add, "Add a task, enabled unless --disabled: a registered command, or a program with its "
                            "arguments, which is run without a shell.", json=True,
               usage="webscheduler add NAME [OPTION...] (--command REGISTERED | -- PROGRAM [ARGUMENT...])")
    edit = verb("edit", _edit, "Change a task; what is not named stays, and '' clears what may be unset.", json=True,
                usage="webscheduler edit NAME [OPTION...] [-- PROGRAM [ARGUMENT...]]")

    for parser in (add, edit):
        parser.add_argument("name", metavar="NAME", help="The task.")
        fields.add_options(parser)

    edit.add_argument("--unset", action="append", default=[], metavar="FIELD",
                      help="Put a field back to its default. May be given several times.")

    remove = verb("remove", _remove, "Remove a task and its history.")
    remove.add_argument("name", metavar="NAME", help="The task.")
    remove.add_argument("--keep-logs", action="store_true", help="Leave its history.")
    remove.add_argument("--yes", action="store_true", help="Do not ask.")

    rename = verb("rename", _rename, "Give a task another name; its URL and history stay.")
    rename.add_argument("old", metavar="OLD", help="Its name.")
    rename.add_argument("new", metavar="NEW", help="Its new name.")

    for name, whom in (("enable", "triggers and ticks"), ("disable", "nothing but `run`")):
        switch = verb(name, _switch, f"Let {whom} run tasks.")
        switch.add_argument("names", nargs="*", metavar="NAME", help="The tasks.")
        switch.add_argument("--group", metavar="GROUP", help="All tasks of a group.")

    url = verb("url", _url, "Print the URL that runs a task, alone, to paste into a panel.", json=True)
    url.add_argument("name", metavar="NAME", help="The task; @due runs whatever is due.")
    url.add_argument("--base", metavar="URL", help="Where the scheduler is reached; unset: baseUrl.")
    kind = url.add_mutually_exclusive_group()
    kind.add_argument("--status", action="store_true", help="The URL for uptime monitors, which runs nothing.")
    kind.add_argument("--timed", action="store_true", help="A URL that is good once and for a few minutes.")
    url.add_argument("--query", action="store_true",
                     help="With the task in the query, for hosts that drop the path behind a script.")

    rotate = verb("rotate-secret", _rotate, "Give a task a new secret; URLs made before are refused from now on.",
                  json=True)
    rotate.add_argument("name", metavar="NAME", help="The task.")


def _add(args: Namespace) -> None:
    given = fields.typed(args)
    settings = load_settings(args.home)
    task = editing.create(settings, args.name, given, time.time())
    _hand_over(settings, task, args.json, f"{line(task.name)} is added"
               + ("." if task["enabled"] else " and disabled: `webscheduler enable` lets it run."))


def _edit(args: Namespace) -> None:
    given = fields.typed(args)
    change = {**fields.unset(args.unset), **fields.replaced(given), **given}

    if not change:
        raise BadInput("nothing to change is given: `webscheduler edit --help` lists the options")

    settings = load_settings(args.home)
    task = editing.edit(settings, args.name, change, time.time())

    if args.json:
        show(editing.public(settings, task, time.time()))
    else:
        print(f"{line(task.name)} is changed: {', '.join(sorted(change))}.")


def _hand_over(settings: Settings, task: Task, as_json: bool, sentence: str) -> None:
    """Show a task whose secret was just made, this once."""
    document = editing.public(settings, task, time.time())

    if as_json:
        show({**document, "secret": task["secret"]})
        return

    print(sentence)

    if document["url"]:
        print(f"URL     {document['url']}")
    elif task["signature"] == "timed":
        print(f"URL     each call needs a signature of its own: `webscheduler url {line(task.name)} --timed` makes one")
    else:
        print(f"URL     `webscheduler url {line(task.name)}` prints it once `webscheduler config set baseUrl "
              "https://...` is done")

    print(f"Slug    {task['slug']}")
    print(f"Secret  {task['secret']}    (not shown again)")


def _remove(args: Namespace) -> None:
    if args.name not in state.read_strictly(args.home):
        raise NoSuchTask(args.name)

    confirm(f"Remove {args.name}{'' if args.keep_logs else ' and its history'}?", args.yes)
    editing.remove(args.home, args.name, time.time(), args.keep_logs)
    print(f"{line(args.name)} is removed{', its history is kept' if args.keep_logs else ''}.")


def _rename(args: Namespace) -> None:
    editing.rename(args.home, args.old, args.new, time.time())
    print(f"{line(args.old)} is now called {line(args.new)}; its URL is the same.")


def _switch(args: Namespace) -> None:
    if bool(args.names) == (args.group is not None):
        raise BadInput(f"{args.verb}: give either names of tasks or --group")

    names = args.names or [name for name, row in state.read_strictly(args.home).items()
                           if isinstance(row, dict) and row.get("group", "default") == args.group]

    if not names:
        raise BadInput(f"no task is in group {args.group!r}: `webscheduler list` shows the groups")

    editing.set_enabled(args.home, names, args.verb == "enable", time.time())
    print(f"{args.verb}d: {', '.join(line(name) for name in names)}")


def _url(args: Namespace) -> None:
    task = editing.with_keys(args.home, args.name)
    base = base_url(load_settings(args.home), args.base)

    if not args.status and task["signature"] == ("static" if args.timed else "timed"):
        raise BadInput(f"{task.name} accepts no timed signatures: `webscheduler edit NAME --signature either`"
                       if args.timed else
                       f"{task.name} accepts timed signatures only: `webscheduler url NAME --timed` makes one")

    if args.status:
        url = signing.status_url(base, task["slug"], task["secret"])
    else:
        url = signing.trigger_url(base, task["slug"], task["secret"], int(time.time()) if args.timed else None)

    url = signing.by_query(url) if args.query else url

    if args.json:
        show({"name": task.name, "url": url})
    else:
        print(url)


def _rotate(args: Namespace) -> None:
    settings = load_settings(args.home)
    editing.rotate_secret(args.home, args.name)
    task = editing.with_keys(args.home, args.name)
    _hand_over(settings, task, args.json, f"{line(task.name)} has a new secret; what was signed before is refused.")
