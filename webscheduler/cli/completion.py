# SPDX-License-Identifier: LGPL-3.0-or-later
"""The verb `completion`: a script that lets a shell complete commands, options and names of tasks.

The rules: the script is made from what the verbs say of themselves, so it knows each of them. Pressing Tab runs
`webscheduler list` for the names of tasks and `webscheduler site list` for those of sites, as the person who types, and
nothing else: it calls no server, so after --at there are no names of tasks.
"""

from __future__ import annotations

import pkgutil
import re
from typing import Callable, NamedTuple

from . import parser
from .parser import MODULES

OF_TASKS = ("NAME", "[NAME]", "NAME...", "[NAME...]", "OLD")  # words that are names of tasks
NO_TASK = ("add", "api-key", "site")  # whose NAME is not that of a task
# Options and pipe after the program. Other names are not offered: a shell would expand what is in them.
NAMES = "--json 2>/dev/null | sed -n 's/^    \"name\": \"\\([A-Za-z0-9_.:@-]*\\)\",$/\\1/p'"
LISTED, SITES = f"list {NAMES}", f"site list {NAMES}"


class Option(NamedTuple):
    """name: with its dashes; about: its sentence; value: whether one follows; choices: what that may be, if few."""

    name: str
    about: str
    value: bool
    choices: list[str]


class Known(NamedTuple):
    """A verb. about: its sentence; tasks: whether names of tasks follow; words: other words that may."""

    name: str
    about: str
    tasks: bool
    words: list[str]
    options: list[Option]


def verbs() -> list[Known]:
    """All verbs, as a shell needs to know them."""
    found = []

    for name in MODULES:
        _, sentence, *arguments = parser.verb(name)
        tasks = name not in NO_TASK and any(notation in OF_TASKS for notation, *_ in arguments)
        known = Known(name, _short(sentence), tasks, [], [])

        for notation, about, *_ in arguments:
            names, metavar = parser.split_notation(notation)
            choices = metavar.split("|") if "|" in metavar else []
            known.options.extend(Option(each, _short(about), bool(metavar), choices) for each in names)
            known.words.extend([] if names else choices)

        known.options.extend([Option("--at", _short(parser.AT), True, [])] if name in parser.FAR else [])
        known.options.extend([Option("--home", _short(parser.HOME), True, []),
                              Option("--help", "Explain the command.", False, [])])
        found.append(known)

    return found


def _short(sentence: str) -> str:
    return sentence.partition(". ")[0].rstrip(".").replace("'", "")


def _script(shell: str, **values: str) -> str:
    """The script of that shell beside this file, with its `{names}` replaced by the values."""
    text = (pkgutil.get_data(__name__, f"completion.{shell}") or b"").decode()
    return re.sub(r"\{(\w+)\}", lambda found: {"listed": LISTED, "sites": SITES, **values}[found[1]], text)


def bash() -> str:
    """bash(1), Programmable Completion."""
    found = verbs()
    words = "\n".join(f'    {each.name}) words="{" ".join(each.words + [option.name for option in each.options])}" ;;'
                      for each in found)
    values = "\n".join(f'    "{each.name} {option.name}") words="{" ".join(option.choices)}" ;;'
                       for each in found for option in each.options if option.value and option.name != "--at")
    return _script("bash", verbs=" ".join(MODULES), words=words, values=values,
                   with_tasks="|".join(each.name for each in found if each.tasks))


def zsh() -> str:
    """zshcompsys(1)."""
    cases = []

    for each in verbs():
        options = " ".join(f"'{_zsh(option)}'" for option in each.options)
        words = f"'*:word:({' '.join(each.words)})'" if each.words else "'*:file:_files'"
        more = "'*:task:_webscheduler_tasks'" if each.tasks else words
        cases.append(f"    {each.name}) _arguments {options} {more} ;;")

    described = "\n".join(f"    '{each.name}:{each.about.replace(':', ' -')}'" for each in verbs())
    return _script("zsh", described=described, home=_short(parser.HOME), at=_short(parser.AT),
                   cases="\n".join(cases))


def _zsh(option: Option) -> str:
    about = "".join("\\" + c if c in "[]:\\" else c for c in option.about)
    value = (":site:_webscheduler_sites" if option.name == "--at" else f":value:({' '.join(option.choices)})"
             if option.choices else ":value:_files" if option.value else "")
    return f"{option.name}[{about}]{value}"


def fish() -> str:
    """fish-completions(7)."""
    lines = []

    for each in verbs():
        lines.append(f"complete -c webscheduler -n __webscheduler_verb -a {each.name} -d '{each.about}'")
        where = f"complete -c webscheduler -n '__webscheduler_verb {each.name}'"
        here = f"{where[:-1]}; and not __fish_contains_opt at'"
        lines += [f"{here} -a '(webscheduler {_fish(LISTED)})'"] if each.tasks else []
        lines += [f"{where} -a '{' '.join(each.words)}'"] if each.words else []

        for option in each.options:
            if option.name not in ("--at", "--home"):  # these are known of all commands
                value = f" -x -a '{' '.join(option.choices)}'" if option.choices else " -r -F" if option.value else ""
                lines.append(f"{where} -l {option.name[2:]}{value} -d '{option.about}'")

    return _script("fish", sites=_fish(SITES), home=_short(parser.HOME), at=_short(parser.AT), lines="\n".join(lines))


def _fish(text: str) -> str:
    return text.replace("'", r"\'")


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


VERBS = {
    "completion": (lambda args: print(SHELLS[args.shell](), end=""),
                   "Print a script that lets your shell complete commands, options and tasks.",
                   ("|".join(SHELLS), "The shell.", {"dest": "shell"})),
}
