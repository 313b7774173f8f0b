"""The options of `add` and `edit`, made from the table of a task's fields, and back.

The rule: a field that a person may edit is an option without anybody writing one, and what was typed is checked by the
rule of its row alone, so that command line, panel and file refuse the same with the same words.
"""

from __future__ import annotations

from ..errors import BadInput
from ..store.fields import Field, check, from_text
from ..store.task import FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any, Callable

OPTIONS = {"expression": ("--cron", "--expression"), "intervalSeconds": ("--every", "--interval-seconds")}
METAVARS = {"cron": "EXPR", "networks": "ADDRESS", "map": "NAME=VALUE", "text": "TEXT", "int": "N"}
REPEATED = ("map", "networks")
REPLACED: dict[str, dict[str, Any]] = {"argv": {"command": None, "arguments": ""}, "command": {"argv": None},
                                       "expression": {"intervalSeconds": None}, "intervalSeconds": {"expression": None}}


def kebab(field: str) -> str:
    """ipAllowlist -> ip-allowlist."""
    return "".join("-" + c.lower() if c.isupper() else c for c in field)


def editable() -> dict[str, Field]:
    """The fields that are options; a program with its arguments follows `--` instead."""
    return {name: row for name, row in FIELDS.items() if row.by == "user" and row.kind != "argv"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser an option for each field."""
    for name, row in editable().items():
        option, dest, sentence = "--" + kebab(name), "field_" + name, row.sentence.replace("%", "%%")

        if row.kind == "bool":
            off = "--disabled" if name == "enabled" else "--no-" + kebab(name)
            parser.add_argument(option, dest=dest, action="store_const", const=True, help=sentence)
            parser.add_argument(off, dest=dest, action="store_const", const=False, help=f"The opposite of {option}.")
        elif row.kind in REPEATED:
            parser.add_argument(option, dest=dest, action="append", metavar=METAVARS[row.kind],
                                help=sentence + " May be given several times; all together replace what was there.")
        else:
            metavar = "|".join(row.limit) if row.kind == "choice" else METAVARS[row.kind]
            metavar = "SECONDS" if name.endswith("Seconds") or name == "timeout" else metavar
            parser.add_argument(*OPTIONS.get(name, (option,)), dest=dest, metavar=metavar, help=sentence)


def typed(args: argparse.Namespace) -> dict[str, Any]:
    """The fields that were given, checked. Raises BadInput naming the field."""
    fields: dict[str, Any] = {}

    for name, row in editable().items():
        given = getattr(args, "field_" + name)

        if given is None:
            continue

        if row.kind == "bool":
            fields[name] = given
        elif row.kind == "map":
            fields[name] = check(name, row, _variables(name, given))
        else:
            fields[name] = from_text(name, row, " ".join(given) if row.kind in REPEATED else given)

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


def replaced(fields: dict[str, Any]) -> dict[str, Any]:
    """What an edit takes away because something given takes its place."""
    return {name: value for field in fields if fields[field] for name, value in REPLACED.get(field, {}).items()}


def rule(option: str, kind: str, limit: Any) -> Callable[[str], Any]:
    """What checks an option that is no field, by the rule of a kind of field."""
    row = Field(kind, None, "", limit)
    return lambda text: from_text(option, row, text)


def unset(names: list[str]) -> dict[str, Any]:
    """The defaults of fields named as their options are. Raises BadInput."""
    known = {option: name for name in editable() for option in (name, kebab(name))}
    known.update({options[0][2:]: name for name, options in OPTIONS.items()})

    for name in names:
        if name not in known:
            raise BadInput(f"--unset: no field is called {name[:60]!r}: `webscheduler edit --help` lists them", "unset")

    return {known[name]: FIELDS[known[name]].default for name in names}
