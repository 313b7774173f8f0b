# SPDX-License-Identifier: LGPL-3.0-or-later
"""The panel's languages: English, which is in the code, and a catalogue for each language.

The rules: an English message is its own key. No message of the panel names a command of a shell, which its reader may
not have: the catalogue of English has other words for what the command line says so. A catalogue is a JSON file beside
this one: `messages` maps English to the language; `errors` does the same for one-line errors, where `{}` stands for any
text; `singular` lists the numbers that take the first of two messages.
"""

from __future__ import annotations

import functools
import json
import pkgutil
import re
from typing import Any

from ..vocabulary import LANGUAGES

LONGEST = 2000  # characters of an error


def choose(setting: str, accepted: str) -> str:
    """The language of the setting, else the one that the browser prefers (Accept-Language; RFC 9110, 12.5.4)."""
    if setting in LANGUAGES:
        return setting

    wanted = []

    for place, part in enumerate(accepted[:500].split(",")):
        tag, _, weight = part.strip().lower().partition(";q=")

        try:
            wanted.append((-float(weight or 1), place, tag[:2]))
        except ValueError:
            continue

    return next((tag for weight, _, tag in sorted(wanted) if tag in LANGUAGES and weight < 0), "en")


def translate(language: str, message: str) -> str:
    """The message in the language, or unchanged if the catalogue does not have it."""
    return str(catalogue(language)["messages"].get(message, message))


def singular(language: str) -> list[int]:
    """The numbers that take the first of two messages (CLDR plural rules, category "one")."""
    return list(catalogue(language)["singular"])


def error(language: str, text: str, deep: int = 3) -> str:
    """A one-line error in the language, found by its pattern. Parts of it that are errors themselves are translated,
    at most `deep` levels, and so is what follows the name of a field. Without a pattern the text stays as it is. One
    that would take long to be compared with all of them is cut."""
    text = text if len(text) <= LONGEST else text[:LONGEST] + " …"

    if not deep:
        return text

    for pattern, template in _patterns(language):
        found = pattern.fullmatch(text)

        if found:
            return template.format(*(error(language, part, deep - 1) for part in found.groups()))

    field, colon, rest = text.partition(": ")
    return field + colon + error(language, rest, deep - 1) if field.isidentifier() else text


@functools.cache
def catalogue(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pkgutil.get_data(__name__, f"{language}.json") or b"")
    return found


@functools.cache
def _patterns(language: str) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile("(.*?)".join(map(re.escape, source.split("{}"))), re.DOTALL), target)
            for source, target in catalogue(language)["errors"].items()]
