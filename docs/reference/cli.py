"""Writes cli.md, the reference of the command line, from its parser: `python docs/reference/cli.py`.

The rule: nothing here is worded by hand but the frame, so what `--help` says and what the reference says are the same;
a test fails when the file is stale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from webscheduler.cli.parser import build, verbs

FILE = Path(__file__).with_suffix(".md")

HEAD = """# Command line

`webscheduler COMMAND …`, also as `python -m webscheduler COMMAND …`. This page is generated from the parser by
`docs/reference/cli.py`; `webscheduler COMMAND --help` says the same.

- **Exit status:** 0 done; 1 a task failed or something is unhealthy; 2 usage or bad input. Errors are one line on
  standard error.
- **`--home DIR`**, before or after any command, names the installation; else `WEBSCHEDULER_HOME` does, else it is
  `~/.webscheduler`.
- **`--json`** prints one JSON document (with `logs --follow` one a line). Times in it are ISO 8601 with their offset;
  other times are shown in the local zone.
- Options are never abbreviated. What a command printed is shown with its control characters written out, like `\\x1b`.
- Only the owner of the installation may use it; others are told the `sudo -u` line to use.
"""


def usage(parser: argparse.ArgumentParser) -> str:
    """How a command is written."""
    if parser.usage:
        return parser.usage

    words = [parser.prog]

    for action in _arguments(parser):
        shown = action.option_strings[0] if action.option_strings else str(action.metavar)

        if action.option_strings and action.nargs != 0:
            shown += f" {action.metavar}"

        if action.nargs == "*":
            shown += "..."

        words.append(f"[{shown}]" if action.option_strings or action.nargs in ("?", "*") else shown)

    return " ".join(words)


def render() -> str:
    """The whole page."""
    found = verbs(build())
    parts = [HEAD, "| Command | |\n|---|---|\n" + "".join(
        f"| [`{name}`](#{name}) | {_cell(parser.description)} |\n" for name, parser in found.items())]

    for name, parser in found.items():
        part = f"## {name}\n\n{parser.description}\n\n    {usage(parser)}\n"
        rows = [f"| {_names(action)} | {_cell(action.help)} |\n" for action in _arguments(parser)]
        parts.append(part + ("\n| | |\n|---|---|\n" + "".join(rows) if rows else ""))

    return "\n".join(parts)


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    return sorted(shown, key=lambda action: (bool(action.option_strings), action.dest == "json"))


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar}`".replace("|", "\\|")

    value = f" {action.metavar}" if action.nargs != 0 else ""
    return ", ".join(f"`{option}{value}`" for option in action.option_strings).replace("|", "\\|")


def _cell(text: str | None) -> str:
    return (text or "").replace("%%", "%").replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
