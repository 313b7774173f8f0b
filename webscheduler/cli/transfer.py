"""Verbs that carry tasks from and to other schedulers: import, export."""

from __future__ import annotations

import os
import sys
import time

from ..errors import BadInput
from ..interchange import exporting, importing
from ..store import state
from ..store.files import replace_file
from ..store.settings import load_settings
from ..store.task import load_task
from . import fields
from .terminal import complain, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

FLAGS = ("--dry-run", "--disabled")
KINDS = ("json", *exporting.FORMATS)


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    come = verb("import", _import, "Take in tasks: an export, a state.json, a directory that has one, or a crontab.")
    come.add_argument("source", nargs="+", metavar="[json|crontab] FILE", help="What it is, and where; -: standard "
                                                                              "input.")
    come.add_argument("--dry-run", action="store_true", help="Only tell what would come in.")
    come.add_argument("--disabled", action="store_true", help="Jobs of a crontab come in disabled.")
    # argparse takes positionals in one piece only: `import crontab --dry-run FILE` is brought into order for it.
    parse = come.parse_known_args
    come.parse_known_args = lambda words, given=None: parse(sorted(words, key=lambda word: word not in FLAGS), given)

    go = verb("export", _export, "Print the tasks as another scheduler reads them, or as `import` does.")
    go.add_argument("kind", type=fields.rule("export", "choice", KINDS), metavar="|".join(KINDS), help="For whom.")
    go.add_argument("--with-secrets", action="store_true", help="json: keep the keys, so that URLs stay valid.")
    go.add_argument("--image", metavar="IMAGE", default="IMAGE", help="kubernetes: the image; default: IMAGE, to "
                                                                      "be replaced.")
    go.add_argument("--output", metavar="PATH", help="Write to this file; for systemd into this directory.")


def _import(args: Namespace) -> None:
    kind = args.source[0] if len(args.source) > 1 else "json"
    source = args.source[-1]

    if len(args.source) > 2 or kind not in ("json", "crontab"):
        raise BadInput("import goes like this: `webscheduler import [json | crontab] FILE`, or `-` for standard input")

    settings = load_settings(args.home)

    if os.path.isdir(source):
        if os.path.realpath(source) == os.path.realpath(args.home):
            raise BadInput(f"{source} is this installation itself")

        arrival = importing.of_directory(source)
    elif kind == "crontab":
        arrival = importing.of_crontab(_read(source), state.read_strictly(args.home), settings["timezone"],
                                      not args.disabled)
    else:
        arrival = importing.of_document(_read(source), source)

    names = importing.take_in(settings, arrival, time.time(), args.dry_run)

    for name in names:
        row = arrival.tasks[name]
        schedule = row.get("expression") or row.get("intervalSeconds") and f"every {row['intervalSeconds']} s"
        print(f"{line(name)}: {line(schedule or 'no schedule')}{'' if row.get('enabled') else ', disabled'}")

    print(f"{len(names)} tasks {'would come in' if args.dry_run else 'are in'}")
    sys.stdout.flush()

    for sentence in arrival.said:
        complain(sentence)

    if kind == "crontab" and names and not args.dry_run and not args.disabled:
        complain("both run now: take the lines out of the crontab, or `webscheduler disable --group crontab`")


def _read(source: str) -> str:
    try:
        if source == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(source, "rb") as file:
                data = file.read()
    except OSError as error:
        raise BadInput(f"{source}: {error.strerror}")

    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadInput(f"{source} is not UTF-8: `iconv -t UTF-8 {source}` makes it so")


def _export(args: Namespace) -> None:
    settings = load_settings(args.home)
    rows = state.read_strictly(args.home)

    tasks = [load_task(name, row) for name, row in rows.items()]
    if args.kind == "json":
        content, files, said = importing.dumps(rows, args.with_secrets), {}, []
    else:
        text = exporting.export(args.kind, settings, tasks, args.image)
        content, files, said = str(text), text.files, text.said

    if args.output:
        _write(os.path.abspath(args.output), files or {"": content})
    else:
        print(content, end="")

    sys.stdout.flush()

    for sentence in said:
        complain(sentence)


def _write(place: str, files: dict[str, str]) -> None:
    """Into the file, or the files of these names into the directory."""
    try:
        if "" not in files:
            os.makedirs(place, exist_ok=True)

        for name, content in files.items():
            replace_file(os.path.join(place, name) if name else place, content.encode())
    except OSError as error:
        raise BadInput(f"{place} cannot be written: {error.strerror}")
