"""The parser of the command line, built from what each module of verbs registers.

The rules: options are never abbreviated, so that a script keeps its meaning when another option appears; an error is
one line; what follows `--` is a program and its arguments and is not looked at.
"""

from __future__ import annotations

import argparse

from ..errors import BadInput
from ..version import __version__
from . import host, init, logs, overview, panel, runs, setup, tasks, ticks, transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Callable, NoReturn

    Act = Callable[[argparse.Namespace], "int | None"]

MODULES = (init, setup, tasks, overview, runs, ticks, logs, host, transfer, panel)

DESCRIPTION = "Cron by URL: a signed URL runs the right command, once, to its end, and you can see what happened."
EPILOG = "`webscheduler demo` shows all of it in a few seconds; `webscheduler COMMAND --help` explains a command."


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are BadInput, one line."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and message.startswith("argument COMMAND"):
            message = _unknown_verb(message)

        raise BadInput(f"{message} (see `{self.prog} --help`)")


def _unknown_verb(message: str) -> str:
    from difflib import get_close_matches

    given = message.partition("invalid choice: ")[2].partition(" (choose from")[0].strip("'\"")
    close = get_close_matches(given, verbs(build()), 1)
    return f"there is no command {given!r}" + (f", did you mean {close[0]!r}?" if close else "")


def build() -> Parser:
    """The whole parser. Each verb's namespace has: act (what carries it out), owner (only the home's owner may),
    home (or None), argv (what followed `--`), and its own arguments."""
    parser = Parser(prog="webscheduler", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"webscheduler {__version__}")
    parser.add_argument("--home", metavar="DIR", help="The installation to use; unset: WEBSCHEDULER_HOME, else "
                                                      "~/.webscheduler.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="verb")

    def verb(name: str, act: Act, sentence: str, json: bool = False, owner: bool = True, **more: Any) -> Parser:
        added = commands.add_parser(name, help=sentence, description=sentence, allow_abbrev=False, **more)
        added.set_defaults(act=act, owner=owner)
        added.add_argument("--home", metavar="DIR", default=argparse.SUPPRESS, help=argparse.SUPPRESS)

        if json:
            added.add_argument("--json", action="store_true", help="Print one JSON document.")

        return added

    for module in MODULES:
        module.register(verb)

    return parser


def verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of all verbs, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)

    return {}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The namespace that the words of a command line make. Raises BadInput."""
    words, argv = _split(words)
    args = build().parse_args(words)

    if not args.verb:
        raise BadInput("no command is given: `webscheduler --help` lists them, `webscheduler demo` shows what it does")

    if argv is not None and args.verb not in ("add", "edit"):
        raise BadInput("only `add` and `edit` take a program after `--`")

    args.argv = argv
    return args


def _split(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The words up to `--`, and those after it. Done here, since argparse's idea of `--` changes between versions."""
    before: list[str] = []
    rest = iter(words)

    for word in rest:
        if word == "--":
            return before, list(rest)

        if word == "--arguments":  # its value may well look like an option: --arguments "--verbose"
            word += "=" + following if (following := next(rest, None)) is not None else ""

        if word.startswith("--") and word.endswith("=--"):
            raise BadInput(f"{word[:-3]}: -- cannot be its value")  # some argparse would drop it and then fail

        before.append(word)

    return before, None
