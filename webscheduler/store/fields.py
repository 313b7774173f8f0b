# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fields of tasks and settings: a row of their tables, and the rules for values.

The rule: what a person types or a file contains is checked here before anything is written. A number that comes as text
from a file is wrong, and an error names the field.
"""

from __future__ import annotations

from ..errors import BadInput
from ..times import parse_time
from ..vocabulary import PROBE
from . import NAME_CHARACTERS as NAME_CHARACTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SECONDS = 366 * 86400
MOST_DEPTH = 100
TOO_DEEP = f"it is nested deeper than {MOST_DEPTH} levels"
SECONDS_IN = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # units that may follow a number of seconds
LEAST_KEY = 16  # characters
SMTP_PORTS = {"smtps": "465", "smtp": "587"}  # RFC 8314, RFC 6409
HIDDEN = "***"  # what is shown instead of a secret
HEX = frozenset("0123456789abcdef")


class Field:
    """One row of a table of fields: kind of value, default, and meaning in a sentence.

    kind: a key of PROBLEMS below. limit: depends on the kind; (least, most) of a number, greatest length of a text or
    list, number of digits of a hex, the choices. nullable: whether it may be None. by: who writes it; "user", "run" for
    runs, "key" for the program when it creates or changes a task.
    """

    def __init__(self, kind: str, default: Any, sentence: str, limit: Any = None, nullable: bool = False,
                 by: str = "user") -> None:
        self.kind, self.default, self.sentence = kind, default, sentence
        self.limit, self.nullable, self.by = limit, nullable, by


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    """The JSON document in a text from outside. hooks: of `json.loads`. Raises ValueError, also beyond MOST_DEPTH: a
    site that embeds us has called functions deeply already, and could not read it."""
    import json

    try:
        found = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(TOO_DEEP)

    check_depth(found)
    return found


def check_depth(found: Any, most: int = MOST_DEPTH) -> None:
    """Raises ValueError for a value that is deeper."""
    level = [found]

    for _ in range(most):
        level = [child for each in level if isinstance(each, (dict, list))
                 for child in (each.values() if isinstance(each, dict) else each)]

    if any(isinstance(each, (dict, list)) for each in level):
        raise ValueError(TOO_DEEP)


def check(field: str, row: Field, value: Any) -> Any:
    """The value, if it follows the row's rule. Raises BadInput."""
    if value is None and row.nullable:
        return None

    problem = PROBLEMS[row.kind](value, row.limit)

    if problem:
        raise BadInput(f"{field}: {problem}", field)

    return value


def check_entered(field: str, row: Field, value: Any) -> Any:
    """`check`, where a value enters: what people read of it must be printable, too. What is stored already may hold
    other characters, and is shown escaped."""
    check(field, row, value)

    if row.kind in ("line", "prose") and value:
        from ..printable import escaped

        if escaped(value, row.kind == "line") != value:
            raise BadInput(f"{field}: must contain printable characters only", field)

    if field == "group" and value == PROBE:
        raise BadInput(f"{field}: {value} is the program's own: choose another", field)

    return value


def from_text(field: str, row: Field, text: str) -> Any:
    """The value that a person typed for a field, checked. Empty means None for a nullable field. Raises BadInput."""
    if text == "" and row.nullable:
        return None

    value: Any = text

    if row.kind in ("int", "seconds"):
        unit = SECONDS_IN.get(text[-1:], 1) if row.kind == "seconds" else 1
        number = text if unit == 1 and text[-1:] != "s" else text[:-1]
        digits = number[1:] if number[:1] == "-" else number
        # int() accepts "¹", "1_0", "+1" and spaces as well.
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 12:
            if row.kind == "seconds":
                raise BadInput(f"{field}: {text[:40]!r} must be seconds, like 90, or have a unit: 5m, 2h, 1d", field)

            raise BadInput(f"{field}: {text[:40]!r} must be a whole number", field)

        value = int(number) * unit
    elif row.kind == "bool":
        if text.lower() not in ("true", "false", "yes", "no", "1", "0", "on", "off"):
            raise BadInput(f"{field}: {text[:40]!r} must be true or false", field)

        value = text.lower() in ("true", "yes", "1", "on")
    elif row.kind in ("networks", "lines", "names") and not text.lstrip().startswith("["):
        words = text.splitlines() if row.kind == "names" else text.replace(",", " ").split()
        value = [*dict.fromkeys(word.strip() for word in words if word.strip())]
    elif row.kind in ("networks", "lines", "names", "map", "commands", "notify", "argv"):
        try:
            value = parse_json(text)
        except ValueError:
            raise BadInput(f"{field}: must be JSON", field)

    return check_entered(field, row, value)


def _text(value: Any, most: Any) -> str:
    if not isinstance(value, str):
        return "must be text"

    if len(value) > (most or 4000):
        return f"is longer than {most or 4000} characters"

    if "\0" in value:
        return "must not contain a NUL character"

    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        return "is not valid UTF-8"

    return ""


def _bool(value: Any, _: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _int(value: Any, limit: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return "must be a whole number"

    return _float(value, limit)


def _float(value: Any, limit: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return "must be a number"

    least, most = limit or (None, None)

    if (least is not None and value < least) or (most is not None and value > most):
        return f"must be at least {least}" if most is None else f"must be from {least} to {most}"

    return ""


def _hex(value: Any, digits: Any) -> str:
    if not isinstance(value, str) or len(value) != digits or not HEX.issuperset(value):
        return f"must be {digits} lower-case hexadecimal digits"

    return ""


def _choice(value: Any, choices: Any) -> str:
    return "" if value in choices else "must be one of " + ", ".join(choices)


def _argv(value: Any, most: Any) -> str:
    if not isinstance(value, list) or not 0 < len(value) <= (most or 1000):
        return f"must be a list of 1 to {most or 1000} texts, the program and its arguments"

    return next((problem for problem in (_text(item, 100000) for item in value) if problem), "") or (
        "" if value[0] else "the program must not be empty")


def _lines(value: Any, most: Any) -> str:
    if not isinstance(value, list) or len(value) > (most or 1000):
        return f"must be a list of at most {most or 1000} texts"

    return next((problem for problem in (_text(item, 4000) for item in value) if problem), "")


def _map(value: Any, _: Any) -> str:
    if not isinstance(value, dict):
        return "must be an object of texts"

    for key, item in value.items():
        if not key or "=" in key or _text(key, 200) or _text(item, 100000):
            return f"{str(key)[:40]!r} must be the name of a variable, with a text as its value"

    return ""


def _email(value: Any, most: Any) -> str:
    good = not _text(value, most) and "@" in value and value.isprintable()
    return "" if good else "must be an address like me@example.org"


def _url(value: Any, most: Any) -> str:
    good = not _text(value, most) and value.startswith(("http://", "https://"))
    return "" if good else "must start with http:// or https://"


def _notify(value: Any, channels: Any) -> str:
    if not isinstance(value, dict):
        return f'must be like {{"email": "me@example.org"}}, with any of: {", ".join(channels)}'

    # Channels of a later version are kept.
    problems = {name: PROBLEMS[channels[name][1].kind](text, channels[name][1].limit)
                for name, text in value.items() if name in channels}
    return next((f"{name}: {problem}" for name, problem in problems.items() if problem), "")


def _key(value: Any, most: Any) -> str:
    good = not _text(value, most) and len(value) >= LEAST_KEY and all("!" <= c <= "~" for c in value)
    return "" if good else f"must be {LEAST_KEY} to {most} ASCII characters without spaces"


def mail_server(text: str) -> tuple[bool, str, int, str, str, str]:
    """`smtps://USER:PASSWORD@HOST:PORT?from=SENDER` as (TLS from the start, host, port, user, password, sender). Only
    the host must be there. Nothing is encoded, so that a password can be pasted. Raises ValueError."""
    scheme, _, rest = text.partition("://")
    rest, _, sender = rest.rpartition("?from=") if "?from=" in rest else (rest, "", "")
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    ported = ":" in place.rpartition("]")[2]
    host, port = place.rsplit(":", 1) if ported else (place, SMTP_PORTS.get(scheme, ""))
    host = host.strip("[]")

    plain = all(" " <= c <= "~" for c in text) and " " not in host and "/" not in host  # all that RFC 5321 knows

    if scheme not in SMTP_PORTS or not host or not plain or not (port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError

    return scheme == "smtps", host, int(port), user, password, sender


def _smtp(value: Any, most: Any) -> str:
    problem = _text(value, most)

    if problem:
        return problem

    try:
        mail_server(value)
    except ValueError:
        return "must be like smtps://USER:PASSWORD@mail.example.org (TLS) or smtp://... (STARTTLS), in ASCII"

    return ""


def redacted(row: Field, value: Any) -> Any:
    """A value as lists, pages and exports show it: HIDDEN stands for what is secret."""
    if row.kind == "key" and value:
        return HIDDEN

    if row.kind == "smtp" and value:
        scheme, _, _, user, password, _ = mail_server(value)
        start = len(f"smtps://{user}:" if scheme else f"smtp://{user}:")
        return value[:start] + HIDDEN + value[start + len(password):] if password else value

    return value


def _commands(value: Any, _: Any) -> str:
    if not isinstance(value, dict):
        return "must be an object keyed by command name"

    for key, row in value.items():
        taking = row.get("arguments", False) if isinstance(row, dict) else None

        if not isinstance(row, dict) or not isinstance(taking, bool):
            return f"{key[:40]!r} must be an object, with `arguments` true or false"

        # A command of Django and a console script need only their name.
        if not (_word(row.get("django")) or _word(row.get("script"))) and _argv(row.get("argv"), None):
            return f'{key[:40]!r} must be like {{"argv": ["/usr/bin/php", "artisan"], "arguments": false}}'

        if _text(row.get("description", ""), 2000) or _text(row.get("cwd") or "", 4000):
            return f"{key[:40]!r}: description and cwd must be texts"

    return ""


def _word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and NAME_CHARACTERS.issuperset(value)


def _networks(value: Any, _: Any) -> str:
    problem = _lines(value, 200)

    if problem or not value:
        return problem

    from ..addresses import network

    for item in value:
        if item != "unix" and network(item) is None:
            return f"{item[:60]!r} is not an address or a network like 203.0.113.0/24 or 2001:db8::/32"

    return ""


def _time(value: Any, _: Any) -> str:
    try:
        parse_time(value if isinstance(value, str) else "")
    except (ValueError, OverflowError):
        return "must be a time like 2026-03-29T01:00:00+00:00"

    return ""


PROBLEMS = {
    "bool": _bool, "int": _int, "seconds": _int, "float": _float, "text": _text, "line": _text, "prose": _text,
    "cron": _text, "hex": _hex, "choice": _choice, "argv": _argv, "lines": _lines, "names": _lines, "map": _map,
    "networks": _networks, "time": _time, "commands": _commands, "notify": _notify, "email": _email, "url": _url,
    "smtp": _smtp, "key": _key,
}
