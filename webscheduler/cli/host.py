"""Verbs about the host: probe doctor bundle shim."""

from __future__ import annotations

import time
from contextlib import suppress

from .. import editing
from ..errors import BadInput, WebschedulerError
from ..host import bundle, doctor, entry_files, probe, url_check
from ..store import capabilities
from ..store.settings import check_base_url, load_settings
from ..store.task import DUE
from . import fields
from .terminal import complain, line, show, table, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    probing = verb("probe", _probe, "Find out what this host lets live, by calling the scheduler's own URL: `auto` "
                                    "chooses from it.", json=True)
    probing.add_argument("--seconds", type=fields.rule("--seconds", "int", (1, probe.MOST_SECONDS)), metavar="N",
                         default=probe.SECONDS,
                         help=f"How long each job lives; default: {probe.SECONDS}, at most {probe.MOST_SECONDS}.")
    probing.add_argument("--base", metavar="URL", help="Where the scheduler is reached; unset: the baseUrl.")

    looking = verb("doctor", _doctor, "Look whether everything is as it should be, and say what to do; exit status 1 "
                                      "if something must be mended.", json=True)
    looking.add_argument("--offline", action="store_true", help="Do not call the own URL.")

    bundling = verb("bundle", _bundle, "Write the whole program as one text file that runs with nothing installed.",
                    owner=False)
    bundling.add_argument("--output", metavar="FILE", default=entry_files.NAME, help=f"Default: {entry_files.NAME}.")
    bundling.add_argument("--require-python", metavar="VERSION", help="Refuse unless it serves this Python, as 3.9.")
    bundling.add_argument("--python", metavar="PATH", default=bundle.PYTHON,
                          help=f"Interpreter of its first line; default: {bundle.PYTHON}.")

    shim = verb("shim", _shim, "Print a file that calls a task, for panels that run files instead of calling URLs.")
    shim.add_argument("language", metavar="php", help="What the panel runs.")
    shim.add_argument("name", nargs="?", default=DUE, metavar="NAME", help=f"The task; default: {DUE}.")
    shim.add_argument("--base", metavar="URL", help="Where the scheduler is reached; unset: the baseUrl.")


def _doctor(args: Namespace) -> int:
    found = doctor.examine(args.home, time.time())

    if not args.offline:
        with suppress(WebschedulerError):  # it is among the findings already
            found += url_check.examine(load_settings(args.home))

    if args.json:
        show([{"state": each.state, "about": each.about, "text": each.text()} for each in found])
    else:
        for each in found:
            print(line(f"{doctor.MARKS[each.state]:7} {each.about:10} {each.text(when)}"))

    return int(any(finding.state == doctor.ERROR for finding in found))


def _bundle(args: Namespace) -> None:
    lowest = bundle.write(args.output, args.require_python, args.python)
    print(f"{line(args.output)} serves Python {lowest[0]}.{lowest[1]} and later: upload it into the folder where your "
          "host runs scripts, and chmod 755 it there")


def _shim(args: Namespace) -> None:
    if args.language != "php":
        raise BadInput(f"shim: {args.language!r} must be php: it is the one that panels run")

    base = base_url(load_settings(args.home), args.base)
    task = editing.with_keys(args.home, args.name)

    if task["signature"] == "timed":
        raise BadInput(f"{args.name} takes timed signatures only: `webscheduler edit {args.name} --signature either`")

    print(entry_files.php_shim(base, args.name, task["slug"], task["secret"]), end="")


def _probe(args: Namespace) -> None:
    settings = load_settings(args.home)
    base = base_url(settings, args.base)
    say = complain if not args.json else lambda _: None
    kind, results = probe.run(settings, base, args.seconds, time.time, say)

    if args.json:
        show({"server": kind, "strategies": results})
        return

    table(("STRATEGY", "LIVED", "ENDED", "ANSWER"), [
        (strategy, f"{row['lived']:g} s", row["ended"],
         f"{row['answer']['status'] or 'none'} after {row['answer']['seconds']:g} s"
         + (", held until the job's end" if row["held"] else ""))
        for strategy, row in results.items()])

    first = next(doctor.explain(kind, capabilities.read(args.home, kind, time.time()), settings["defaultTimeout"]))
    print(line(f"So {first.text(when)}."))


def base_url(settings: dict[str, Any], given: str | None) -> str:
    """The URL below which the scheduler is reached. Raises BadInput if nobody said."""
    base = settings["baseUrl"] if given is None else given

    if not base and given is None:
        raise BadInput("no baseUrl is set: `webscheduler config set baseUrl https://...`, or give --base", "baseUrl")

    return check_base_url(base)
