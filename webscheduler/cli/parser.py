# SPDX-License-Identifier: LGPL-3.0-or-later
"""All verbs, and the parser that is made from what each says of itself.

The rules: only the module of the verb that is called is imported. Options are never abbreviated, so that a script keeps
its meaning when an option is added. An error is one line. What follows `--` is a program with its arguments and is not
parsed.

A module has its verbs in VERBS, by name: (function, sentence, arguments...). An argument is (notation, sentence) and
what else argparse.add_argument takes. The notation is that of usage lines:

    "NAME"   "[NAME]"   "NAME..."   "[NAME...]"              a word, an optional one, one or more, any number
    "--yes"   "--base URL"   "--cron, --expression EXPR"     a switch, an option with a value, one with two names
    "list|get"   "--role viewer|owner"                       in small letters: the words that it may be
"""

from __future__ import annotations

import argparse
import os
import sys

from ..errors import BadInput, did_you_mean
from ..store.fields import Field, from_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Callable, NoReturn

    Argument = tuple[Any, ...]
    Verb = tuple[Any, ...]

DESCRIPTION = "Cron by URL: a signed URL runs the right command, once and to its end, and you can see what happened."
EPILOG = "`webscheduler COMMAND --help` explains a command"

# Module -> title and verbs, in the order in which help and docs show them.
GROUPS = {
    "demo": ("Try it out", "demo serve"),
    "installation": ("Installation", "init config doctor notify probe"),
    "tasks": ("Tasks", "add edit list show remove rename enable disable url rotate-secret commands sync"),
    "runs": ("Runs", "run cancel status logs purge-logs"),
    "schedule": ("Schedule", "next run-due crontab"),
    "panel": ("Panel and API", "set-password api-key"),
    "moving": ("Moving", "export import bundle shim"),
    "sites": ("Elsewhere", "site"),
    "completion": ("Shell", "completion"),
}
MODULES = {verb: module for module, (_, verbs) in GROUPS.items() for verb in verbs.split()}

# What people call these fields; any other field's option is its name.
OPTIONS = {"expression": "--cron, --expression", "intervalSeconds": "--every, --interval-seconds"}
# What also works with --at, for an installation elsewhere.
FAR = ("add", "edit", "list", "show", "remove", "rename", "enable", "disable", "url", "rotate-secret", "commands",
       "run", "cancel", "status", "logs", "next", "export", "import", "doctor")
ELSEWHERE = ("bundle", "site", *FAR)  # works on Windows too, where files cannot be locked, nor runs detached, as here
FOR_ANYBODY = ("init", "demo", "next", "bundle", "completion", "site")  # not only for the owner of the home
TAKES_PROGRAM = {"add": "(--command REGISTERED | -- PROGRAM [ARGUMENT...])", "edit": "[-- PROGRAM [ARGUMENT...]]"}
AT = ("An installation elsewhere, over its API: a name of `webscheduler site list`, its URL, or `all` of them. With "
      f"{', '.join(FAR)}.")
HOME = "The installation to use; default: WEBSCHEDULER_HOME, else ~/.webscheduler."
JSON = ("--json", "Print one JSON document.")
YES = ("--yes", "Do not ask.")
BASE = ("--base URL", "URL of the scheduler; default: the setting baseUrl.")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are BadInput, one line. options: the names of its options."""

    options: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see `{self.prog} --help`)")


def verb(name: str) -> Verb:
    """What the verb's module says of it. Raises BadInput for a verb that does not exist."""
    if name not in MODULES:
        raise BadInput(f"there is no command {name!r}{did_you_mean(name, MODULES)}: `webscheduler --help` lists them")

    if name not in _usable(MODULES):
        raise BadInput(f"{name} works on Linux and macOS: here, `webscheduler bundle` makes one file to upload")

    from importlib import import_module

    found: Verb = import_module(f"{__package__}.{MODULES[name]}").VERBS[name]
    return found


def _usable(verbs: Iterable[str]) -> list[str]:
    """Those of the verbs that this system can carry out."""
    return [verb for verb in verbs if sys.platform != "win32" or verb in ELSEWHERE]


def parse_verb(words: Sequence[str]) -> argparse.Namespace:
    """The namespace of a command line that begins with its verb. Raises BadInput, SystemExit after help."""
    words, argv = _split(words)
    name = words[0] if words else "--"
    act = verb(name)[0]

    if argv is not None and name not in TAKES_PROGRAM:
        raise BadInput("only `add` and `edit` take a program after `--`")

    parser = build(name)
    args, unknown = parser.parse_known_intermixed_args(words[1:])  # intermixed: options may stand between words

    if unknown:
        parser.error(_unknown(name, parser, unknown, args))

    args.verb, args.act, args.owner, args.argv = name, act, name not in FOR_ANYBODY, argv
    return args


def _unknown(name: str, parser: Parser, words: list[str], args: argparse.Namespace) -> str:
    """What to say of words that the verb does not take."""
    said = f"unrecognized arguments: {' '.join(words)}"

    if words[0].startswith("--"):
        return said + did_you_mean(words[0].partition("=")[0], parser.options)

    if name in TAKES_PROGRAM and not words[0].startswith("-"):
        return f"{said}: put -- before the program, as in `webscheduler {name} {args.name} -- {' '.join(words)}`"

    return said


def typed_option(words: Sequence[str], field: str) -> str | None:
    """The option among the words of a command line that sets this field, as it was typed; None if there is none."""
    typed = [word.partition("=")[0] for word in words]
    names = OPTIONS.get(field, "--" + kebab(field)).split(", ")
    return next((name for name in names if field and name in typed), None)


def kebab(field: str) -> str:
    """ipAllowlist -> ip-allowlist."""
    return "".join("-" + c.lower() if c.isupper() else c for c in field)


def build(name: str) -> Parser:
    _, sentence, *arguments = verb(name)
    parser = Parser(f"webscheduler {name}", usage(name), sentence, allow_abbrev=False,
                    formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_width()))
    parser.add_argument("--home", help=argparse.SUPPRESS)
    parser.add_argument("--at", help=argparse.SUPPRESS)

    for notation, about, *rest in arguments:
        names, metavar = split_notation(notation)
        more: dict[str, Any] = {"help": about.replace("%", "%%"), **(rest[0] if rest else {})}

        if names and not metavar:
            more.setdefault("action", "store_true")
        else:
            more["metavar"] = metavar

        if metavar.islower():
            more.setdefault("type", checked(names[0] if names else name, "choice", metavar.split("|")))

        if not names:
            names = [more.pop("dest", metavar.lower())]
            few, many = ("?", "*") if notation[0] == "[" else (None, "+")
            more["nargs"] = many if "..." in notation else few

        parser.options = (*parser.options, *(each for each in names if each.startswith("-")))
        parser.add_argument(*names, **more)

    return parser


def split_notation(notation: str) -> tuple[list[str], str]:
    """An argument's option names (none for a word) and the name of its value (empty for a switch)."""
    words = notation.split()
    metavar = "" if words[-1].startswith("-") else words.pop().strip("[].")
    return [word.rstrip(",") for word in words], metavar


def usage(name: str) -> str:
    """How the verb is written, on one line."""
    if name in TAKES_PROGRAM:
        return f"webscheduler {name} NAME [OPTION...] {TAKES_PROGRAM[name]}"

    notations = [notation for notation, *_ in verb(name)[2:]]
    return " ".join(["webscheduler", name, *(f"[{each}]" if each.startswith("-") else each for each in notations)])


def overview() -> str:
    """What `webscheduler --help` prints."""
    import textwrap

    width = _width()

    def row(name: str, sentence: str) -> str:
        return textwrap.fill(f"{name:13} {sentence.partition('. ')[0].rstrip('.')}", width, initial_indent="  ",
                             subsequent_indent=" " * 16)

    groups = {title: [row(name, verb(name)[1]) for name in usable]
              for title, verbs in GROUPS.values() if (usable := _usable(verbs.split()))}
    groups["Before COMMAND, or after it"] = [row("--home DIR", HOME), row("--at SITE", AT)]
    usage = "usage: webscheduler COMMAND ...\n       webscheduler --version"
    return "\n\n".join([usage, textwrap.fill(DESCRIPTION, width),
                        *("\n".join([f"{title}:", *rows]) for title, rows in groups.items()),
                        EPILOG + ("; `webscheduler demo` shows how it works." if _usable(["demo"]) else ".")])


def _width() -> int:
    """Columns of the terminal. Not by shutil, whose import takes longer than all that is done here."""
    try:
        columns = os.get_terminal_size().columns
    except OSError:
        columns = 0

    return max(40, min(columns or 80, 120))


def checked(name: str, kind: str, limit: Any) -> Callable[[str], Any]:
    """The type of an argument that is no field of a task: checks a text by the rule of a kind of field."""
    row = Field(kind, None, "", limit)
    return lambda text: from_text(name, row, text)


def number(notation: str, sentence: str, least: int, most: int, default: int) -> Argument:
    """An option with a whole number in this range."""
    return notation, sentence, {"type": checked(notation.split()[0], "int", (least, most)), "default": default}


def _split(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The words before `--`, and those after it. Not left to argparse, whose treatment of `--` varies by version."""
    before: list[str] = []
    rest = iter(words)

    for word in rest:
        if word == "--":
            return before, list(rest)

        if word == "--arguments":  # its value may look like an option: --arguments "--verbose"
            word += "=" + following if (following := next(rest, None)) is not None else ""

        if word.startswith("--") and word.endswith("=--"):
            raise BadInput(f"{word[:-3]}: -- cannot be its value")  # some versions would drop it and then fail

        before.append(word)

    return before, None
