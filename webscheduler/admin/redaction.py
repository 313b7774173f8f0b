# SPDX-License-Identifier: LGPL-3.0-or-later
"""What viewers never see of a page, even in a title, an argument or an output: the secrets and signatures of this
installation.

The rule: they are known by their value, also where they are folded, coloured or spaced, so that any other digest in an
output can be read. What follows `sig=` is one, whatever its value: it may be timed, or cut. So is what looks like a key
of the API.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import WebschedulerError
from ..signing import run_message, sign, status_message
from ..store import old_secret, state
from ..store.fields import mail_server
from .session import keys
from .web import escape

TAG = rb"</?span[^<>]{0,60}>"  # how the colours of an output are shown
# What else may stand between the digits: characters that nobody sees, as `printable` shows them, sequences of terminals
# (ECMA-48), characters that markup writes as names, and whatever is neither letter nor digit, nor markup in a page. No
# text has two ways through these, or one that fits nowhere would be tried in all of them.
UNSEEN = (TAG + rb"|" + "⟨U\\+".encode() + rb"[0-9A-F]{4,6}" + "⟩".encode() + rb"|&(?:amp|lt|gt|quot|#x27);"
          rb"|(?:\x1b|\\x1b|" + "\u241b".encode() + rb")(?:\[[0-?]{0,40}[A-Za-z]|[()][0AB]"
          rb"|\][^0-9A-Za-z\x07\x1b]{0,9}[0-9A-Za-z][^\x07\x1b]{0,99}(?:\x07|\x1b\\))")
# A key of the API, by its beginning: only its hash is known. It may be folded or, if less is left of it, cut.
_BETWEEN = UNSEEN + rb"|\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf"
NOTHING_SEEN = re.compile(_BETWEEN)
FOLLOWING_SIG = re.compile(rb"(?<=sig=)[0-9a-f]+", re.IGNORECASE)
# Of any length, so that a page is gone through once. The token of a form is no secret of others, and is passed over: a
# stranger, who sees nothing else, costs no look at the tasks.
DIGITS, DIGITS_OF_TEXT = (re.compile(
    rb'(?<=name="token" value=)"[0-9a-f]*"|[0-9a-f](?:(?:' + UNSEEN + rb"|" + other + rb"){0,200}[0-9a-f])+",
    re.IGNORECASE) for other in (rb'[^0-9A-Za-z<>"=]|=(?!")', rb"[^0-9A-Za-z]"))
LENGTH = 32  # half the digits of a secret or signature: an output may be cut within one, and who lacks few can guess
SHORTEST = 8  # characters
NO_DIGIT = re.compile(UNSEEN + rb"|[^0-9A-Fa-f]")
HIDDEN = "…".encode()


def hide(home: str, body: bytes, markup: bool = True, settings: dict[str, Any] | None = None,
         part: tuple[int, int] | None = None) -> bytes:
    """The page, or without `markup` the text, without secrets and signatures, nor those of the settings. part: only
    what is between these places; of a secret that goes over one of them, nothing is left."""
    at, end = part or (0, len(body))
    shown = []

    for first, last in sorted(_hidden(home, body, markup, settings or {})):
        if at < last and first < end:
            first = max(at, first)
            shown += [body[at:first], HIDDEN, *re.findall(TAG, body[first:min(last, end)])]
            at = last

    return b"".join([*shown, body[at:end]])


def _hidden(home: str, body: bytes, markup: bool, settings: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Where what is hidden begins and ends."""
    known: list[bytes] = []

    for word in _words(settings):
        for found in re.finditer(re.escape((escape(word) if markup else word).encode()), body):
            yield found.span()

    for rule in (FOLLOWING_SIG, *([_key()] if b"wsk_" in NOTHING_SEEN.sub(b"", body) else [])):
        for found in rule.finditer(body):
            yield found.span()

    for found in (DIGITS if markup else DIGITS_OF_TEXT).finditer(body):
        plain = found[0].startswith(b'"') or len(found[0]) < LENGTH
        digits = b"" if plain else NO_DIGIT.sub(b"", found[0]).lower()

        if len(digits) >= LENGTH:
            known.extend([] if known else _values(home))

            if any(value in digits for value in known):
                yield found.span()


@functools.lru_cache(maxsize=1)
def _key() -> re.Pattern[bytes]:
    """What finds keys; to compile it costs as much as a page, and few pages have one."""
    unseen, letter = rb"(?:" + _BETWEEN + rb"){0,200}", rb"[0-9A-Za-z_-]"
    return re.compile(unseen.join([b"w", b"s", b"k", b"_"]) + rb"(?:(?:(?:" + _BETWEEN + rb"|[\r\n]){0,200}" + letter
                      + rb"){43}|(?:" + unseen + letter + rb"){20,43})")


def hide_in(home: str, value: Any, settings: dict[str, Any]) -> Any:
    """The JSON value with `hide` done in its texts, as they are: JSON writes what is between digits as letters."""
    texts: list[str] = []

    def take(text: str) -> str:
        texts.append(text)
        return text

    def walk(each: Any, change: Callable[[str], str]) -> Any:
        if isinstance(each, dict):
            return {change(name): walk(item, change) for name, item in each.items()}

        return [walk(item, change) for item in each] if isinstance(each, list) else change(
            each) if isinstance(each, str) else each

    walk(value, take)
    # Nothing that `hide` passes over reaches beyond it, and no text holds it.
    apart = f"\x07<{''.join(chr(ord('g') + byte % 20) for byte in os.urandom(24))}>\x07"
    whole = hide(home, apart.join(texts).encode("utf-8", "surrogatepass"), False, settings)
    shown = iter(whole.decode("utf-8", "surrogatepass").split(apart))
    return walk(value, lambda text: next(shown))


def _words(settings: dict[str, Any]) -> list[str]:
    """What is secret in the settings, but for a password so short that it would take words of the page along."""
    found = [settings.get("notifyKey") or "", mail_server(settings["smtp"])[4] if settings.get("smtp") else ""]
    return [word for word in found if len(word) >= SHORTEST]


def _values(home: str) -> list[bytes]:
    """Both halves of the secret of each task, of its signatures that do not change, and of the keys of sessions; all
    that could be one, if nobody can tell."""
    try:
        rows = [row for row in state.read(home).values() if isinstance(row, dict)]
        texts = [key.decode("ascii", "replace") for key in keys(home)]
    except (WebschedulerError, OSError):
        return [b""]

    for row in rows:
        slug = row.get("slug")

        for secret in (row.get("secret"), old_secret.of(row)[0]):
            if isinstance(slug, str) and isinstance(secret, str) and secret:
                texts += [secret, *(sign(secret, message) for message in (run_message(slug), status_message(slug)))]

    halves = [half for text in texts for half in (text[:LENGTH], text[-LENGTH:])]
    return [half.lower().encode("utf-8", "replace") for half in halves] or [b"\0"]
