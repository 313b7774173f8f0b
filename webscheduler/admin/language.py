"""The panel's languages: English as it stands in the code, and others from a catalogue each.

The rule: a message is its own key. A catalogue is a JSON file beside this one: `messages` from English to the other
language; `errors` likewise, whose `{}` stand for any text of a one-line error; `singular`, the numbers that take it.
"""

from __future__ import annotations

import functools
import json
import pkgutil
import re

from ..vocabulary import LANGUAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def choose(setting: str, accepted: str) -> str:
    """The language that is set, else the first that the browser's Accept-Language (RFC 9110, 12.5.4) asks for."""
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
    """The message in the language; as it is where the catalogue has none."""
    return message if language == "en" else str(catalogue(language)["messages"].get(message, message))


def singular(language: str) -> list[int]:
    """The numbers that take the first of two messages (CLDR plural rules, category "one")."""
    return [1] if language == "en" else list(catalogue(language)["singular"])


def error(language: str, text: str, deep: int = 3) -> str:
    """A one-line error in the language, found by the pattern that it was made from; so are the parts of it that are
    errors themselves, so many times deep, and what is said of a field. What no pattern fits stays as it is."""
    if language == "en" or not deep:
        return text

    for pattern, template in _patterns(language):
        found = pattern.fullmatch(text)

        if found:
            return template.format(*(error(language, part, deep - 1) for part in found.groups()))

    field, colon, rest = text.partition(": ")
    return field + colon + error(language, rest, deep - 1) if field.isidentifier() else text


@functools.cache
def catalogue(language: str) -> dict[str, Any]:
    """The catalogue as its file has it."""
    found: dict[str, Any] = json.loads(pkgutil.get_data(__name__, f"{language}.json") or b"")
    return found


@functools.cache
def _patterns(language: str) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile("(.*?)".join(map(re.escape, source.split("{}"))), re.DOTALL), target)
            for source, target in catalogue(language)["errors"].items()]
