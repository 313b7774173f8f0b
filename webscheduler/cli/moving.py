# SPDX-License-Identifier: LGPL-3.0-or-later
"""Verbs that move tasks, or the program, to another host or scheduler: export, import, bundle, shim."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import IO, Any

from .. import applying, editing
from ..body import MAX_BACKUP
from ..errors import BadInput
from ..host import bundle, entry_files
from ..interchange import exporting, histories, importing
from ..printable import escaped
from ..store import state
from ..store.files import replace_file
from ..store.settings import Settings, load_settings
from ..store.task import DUE, FIELDS, load_task
from .here import base_url
from .parser import BASE, JSON, YES, checked
from .terminal import as_text, confirm, done, line, print_error, print_json, progress

TARGETS = ("json", *exporting.FORMATS)


def _import(args: Namespace) -> None:
    _check_options(args)

    if args.place:
        _import_elsewhere(args)
        return

    settings, now = load_settings(args.home), time.time()

    with progress(f"reading {args.file}", args.file != "-" or not sys.stdin.isatty()) as say:
        arrival = _arrival(args, settings)
        importing.keep_zone(settings, arrival, args.keep_zone)
        changes = applying.differences(settings, arrival, now, args.prune)

    found: dict[str, Any] = {"changes": [change._asdict() for change in changes], "counts": Counter(
        change.change for change in changes), "said": arrival.said}
    _show_and_ask(args, found)

    with progress("importing") as say:
        found["written"] = not args.dry_run and applying.apply(settings, arrival, changes, now, False, args.keep_logs,
                                                               say)

    _print_imported(args, found)

    if args.format == "crontab" and changes and not args.dry_run and not args.disabled:
        print_error("both the crontab and the tasks run these now: remove the lines from the crontab, or `webscheduler "
                    "disable --group crontab`")


def _show_and_ask(args: Namespace, found: dict[str, Any]) -> None:
    """Show the changes, and ask before tasks are removed."""
    gone = [change["task"] for change in found["changes"] if change["change"] == "remove"]
    gone += [f"{more} more" for more in [found["counts"].get("remove", 0) - len(gone)] if more > 0]

    if not args.json:
        print("".join(f"{text}\n" for text in _described(found["changes"], args.keep_logs)), end="")

    if gone and not args.dry_run:
        histories_too = "" if args.keep_logs else f" and {'its history' if len(gone) == 1 else 'their histories'}"
        confirm(f"Remove {', '.join(gone)}{histories_too}?", args.yes)


def _described(changes: Sequence[dict[str, Any]], keep_logs: bool) -> Iterator[str]:
    """Lines on changes as `applying.Change` and the API have them: one for each task that is not the same, and below it
    its fields, before -> after."""
    for change in changes:
        name, what, fields = line(change["task"]), change["change"], dict(change["fields"])

        if what == "add":
            after = {field: value for field, (_, value) in fields.items()}
            interval = after.get("intervalSeconds")
            schedule = after.get("expression") or (f"every {interval} s" if interval else "no schedule")
            yield f"{name}: {line(schedule)}{'' if after.get('enabled') else ', disabled'}"
        elif what == "remove":
            yield f"{name}: removed{'; its history is kept' if keep_logs else ', and its history'}"
        elif what != "same":
            old = fields.pop("name", None)
            yield f"{name}: {'changed' if old is None else f'renamed from {line(old[0])}'}"
            yield from (f"  {line(field)}: {line(as_text(before))} -> {line(as_text(after))}"
                        for field, (before, after) in fields.items())


def _counted(counts: Mapping[str, int], dry_run: bool) -> str:
    same, gone = counts.get("same", 0), counts.get("remove", 0)
    number, would = sum(counts.values()) - same - gone, "would be " if dry_run else ""

    if same and not number and not gone:
        return f"nothing is different: {'the task is' if same == 1 else f'all {same} tasks are'} as in the file"

    return (f"{number} task{'' if number == 1 else 's'} {would}imported" + (f", {gone} {would}removed" if gone else "")
            + (f", {same} the same" if same else ""))


def _print_imported(args: Namespace, found: dict[str, Any]) -> None:
    done(_counted(found["counts"], args.dry_run), not args.json)

    if args.json:
        print_json({"changes": found["changes"], "written": found["written"]})

    sys.stdout.flush()
    print_error(*found["said"])


def _check_far(options: Iterable[tuple[str, object]]) -> None:
    """Refuse what was asked for and cannot be done elsewhere."""
    from .elsewhere import only_there

    for option, given in options:
        if given:
            raise only_there(option)


def _import_elsewhere(args: Namespace) -> None:
    _check_far([("crontab", args.format == "crontab"), ("a directory", os.path.isdir(args.file)),
                ("--history", args.history), ("--keep-zone", args.keep_zone), ("--keep-logs", args.keep_logs)])
    source = "standard input" if args.file == "-" else args.file

    try:
        with nullcontext(sys.stdin.buffer) if args.file == "-" else open(args.file, "rb") as file:
            document = histories.read(file, source)[0]
    except OSError as error:
        raise BadInput(f"{source}: {error.strerror}")

    if len(document) > MAX_BACKUP:
        with suppress(ValueError, RecursionError):  # without what people need to read it, there is room for more
            document = json.dumps(json.loads(document), ensure_ascii=False, separators=(",", ":")).encode()

    found, stamp = args.place.imported(document, args.prune)
    _show_and_ask(args, found)
    _print_imported(args, found if args.dry_run else args.place.imported(document, args.prune, stamp)[0])


def _check_options(args: Namespace) -> None:
    if args.timeout is not None and args.format != "crontab":
        raise BadInput("--timeout: only for a crontab, whose jobs have no time limit of their own")

    if args.any_user and args.format != "crontab":
        raise BadInput("--any-user: only for a crontab")

    if (args.prune or args.keep_logs) and (args.format == "crontab" or os.path.isdir(args.file)):
        raise BadInput("--prune and --keep-logs: only for a file of json, which may be all tasks")

    if args.format == "crontab" and (args.history or args.keep_zone):
        raise BadInput("--history and --keep-zone: not for a crontab, which has neither")


def _arrival(args: Namespace, settings: Settings) -> importing.Arrival:
    if os.path.isdir(args.file):
        if os.path.realpath(args.file) == os.path.realpath(args.home):
            raise BadInput(f"{args.file} is this installation itself")

        return importing.of_directory(args.file)

    source = "standard input" if args.file == "-" else args.file

    try:
        file: IO[bytes] = sys.stdin.buffer if args.file == "-" else open(args.file, "rb")

        if args.history and args.file == "-":  # a history is read more than once
            file = tempfile.TemporaryFile(dir=args.home)
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.seek(0)

        atexit.register(file.close)

        if args.format == "json":
            return importing.of_export(file, source, args.history)

        text = importing.decoded(histories.read(file, source)[0], source)
    except OSError as error:
        raise BadInput(f"{source}: {error.strerror}")

    return importing.of_crontab(text, state.read_strictly(args.home), settings["timezone"], not args.disabled,
                                args.timeout or 0, os.path.realpath(args.file), args.any_user)


def _export(args: Namespace) -> None:
    if args.place:
        _export_elsewhere(args)
        return

    settings = load_settings(args.home)
    rows = state.read_strictly(args.home)
    tasks = [load_task(name, row) for name, row in rows.items()]
    content: Iterable[bytes]
    files: dict[str, str] | None = None
    said: list[str] = []

    if args.history and args.format != "json":
        raise BadInput("--history: only for json, no other scheduler reads it")

    if args.by_url and args.format == "json":
        raise BadInput("--by-url: not for json, which is for webscheduler itself")

    if args.format == "json":
        document = importing.document(settings, rows, args.with_secrets)
        content = (histories.exported(document, args.home, document["tasks"]) if args.history else
                   [exporting.whole("json", settings, rows, args.with_secrets)])
    else:
        by_url = args.by_url or exporting.FORMATS[args.format].by_url
        base = base_url(settings, args.base) if by_url else ""
        text = exporting.export(args.format, settings, tasks, args.image, base)
        content, files, said = [str(text).encode()], text.files if text.templates else None, text.said

    if args.output:
        _write(os.path.abspath(args.output), {"": content} if files is None else {
            name: [text.encode()] for name, text in files.items()})
    else:
        sys.stdout.buffer.writelines(content)

    sys.stdout.flush()
    print_error(*said)


def _export_elsewhere(args: Namespace) -> None:
    _check_far([("--history", args.history), ("--image", args.image), ("--by-url", args.by_url), ("--base", args.base),
                (f"--output for {args.format}", args.output and args.format in ("systemd", "github"))])
    content = args.place.exported(args.format, args.with_secrets)

    if args.output:
        _write(os.path.abspath(args.output), {"": [content]})
    elif sys.stdout.isatty():
        print(escaped(content.decode("utf-8", "replace")), end="")
    else:
        sys.stdout.buffer.write(content)


def _write(place: str, files: Mapping[str, Iterable[bytes]]) -> None:
    """Write the one file, or files with these names into a directory."""
    try:
        if "" not in files:
            os.makedirs(place, exist_ok=True)

        for name, content in files.items():
            replace_file(os.path.join(place, name) if name else place, content)
            done(f"{os.path.join(place, name) if name else place} is written", show=False)

        if not files:
            done(f"{place} gets no file: there is no task for it", show=False)
    except OSError as error:
        raise BadInput(f"{place} cannot be written: {error.strerror}")


def _bundle(args: Namespace) -> None:
    with progress(f"writing {args.output}"):
        lowest = bundle.write(args.output, args.require_python, args.python)

    done(f"{line(args.output)} runs on Python {lowest[0]}.{lowest[1]} and later: upload it into the folder where your "
          "host runs scripts, and chmod 755 it there")


def _shim(args: Namespace) -> None:
    base = base_url(load_settings(args.home), args.base)
    task = editing.with_keys(args.home, args.name)

    if task["signature"] == "timed":
        raise BadInput(f"{args.name} takes timed signatures only: `webscheduler edit {args.name} --signature either`")

    print(entry_files.php_shim(base, args.name, task["slug"], task["secret"]), end="")


VERBS = {
    "export": (_export, "Print the tasks for another scheduler, or as JSON for `import`.",
               ("|".join(TARGETS), "The format.", {"dest": "format"}),
               ("--with-secrets", "json: include the secrets, so that URLs stay valid."),
               ("--history", "json: include the history of each task."),
               ("--by-url", "Jobs that call the tasks' URLs instead of running their commands; github: always."), BASE,
               ("--image IMAGE", "kubernetes: the image; default: the placeholder IMAGE, or one with curl.",
                {"default": ""}),
               ("--output PATH", "Write to this file; for systemd and github, into this directory.")),
    "import": (_import, ("Import tasks from an export, a state.json, the directory of one, or a crontab. An export "
                         "also changes the tasks that are here already, after it was shown how."),
               ("[json|crontab]", "The format; default: json.", {"dest": "format", "default": "json"}),
               ("FILE", "The file or directory; -: standard input."),
               ("--dry-run", "Only show what would be imported."),
               ("--prune", "json: remove tasks that are not in the file, and their histories; not @due."),
               ("--keep-logs", "Keep the histories of tasks that --prune removes."), YES,
               ("--history", "Import the history that an export has, too; that of a directory always is."),
               ("--keep-zone", "Give tasks without a time zone of their own that of where they come from."),
               ("--disabled", "Import the jobs of a crontab as disabled tasks."),
               ("--any-user", "Import all lines of a system crontab, as jobs of this account."),
               ("--timeout SECONDS", "Time limit of the jobs of a crontab; default: none, as in cron.",
                {"type": checked("--timeout", "seconds", FIELDS["timeout"].limit)}), JSON),
    "bundle": (_bundle, ("Write the whole program into one file that runs without installing anything. It is the "
                         "command line, too: `./webscheduler.cgi list`."),
               ("--output FILE", f"The file; default: {entry_files.NAME}.", {"default": entry_files.NAME}),
               ("--require-python VERSION", "Fail unless it runs on this Python, like 3.9."),
               ("--python PATH", f"Interpreter in its first line; default: {bundle.PYTHON}.",
                {"default": bundle.PYTHON})),
    "shim": (_shim, "Print a PHP file that calls a task, for panels that run files but call no URLs.",
             ("php", "The language."), ("[NAME]", f"The task; default: {DUE}.", {"default": DUE}), BASE),
}
