# SPDX-License-Identifier: LGPL-3.0-or-later
"""The settings of an installation.

The rule: SETTINGS is the one table that loader, command line, panel and docs read. A setting that breaks its rule is
an error, and never replaced by its default silently. Settings that are not in the table are kept.
"""

from __future__ import annotations

import json
import os

from ..errors import BadInput, Unusable
from ..times import time_zone
from ..vocabulary import LANGUAGES
from .fields import HIDDEN, MAX_SECONDS, Field, check, check_entered, from_text, redacted
from .files import find_home as find_home
from .files import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict, overload

    class Values(dict[str, Any]):
        """The kinds of values of settings; those that may be None are Any, since pyright would not narrow them."""

        @overload
        def __getitem__(self, name: Literal["name", "timezone", "language", "times"]) -> str: ...
        @overload
        def __getitem__(self, name: Literal[
            "defaultTimeout", "maxConcurrentTasks", "logRetentionDays", "signatureWindowSeconds"]) -> int: ...
        @overload
        def __getitem__(self, name: Literal["logOutput", "logErrorOutput", "apiOverHttp"]) -> bool: ...
        @overload
        def __getitem__(self, name: Literal[
            "modules", "trustedProxies", "privateHosts", "apiOrigins"]) -> list[str]: ...
        @overload
        def __getitem__(self, name: Literal["environment", "notify"]) -> dict[str, str]: ...
        @overload
        def __getitem__(self, name: Literal["commands"]) -> dict[str, CommandRow]: ...
        @overload
        def __getitem__(self, name: str) -> Any: ...
        def __getitem__(self, name: str) -> Any: ...

    class CommandRow(TypedDict, total=False):
        """A command of the setting `commands`: an argv, or the name of one of Django's commands or a script's."""

        argv: list[str]
        django: str
        script: str
        arguments: bool
        description: str
        cwd: str | None
else:
    Values = dict

FORMAT = 1
PATIENCE = 10.0  # seconds that a change of settings waits for another

# Ways to notify somebody, which the setting `notify` may hold: name -> (label, field). runs/channels sends.
CHANNELS: dict[str, tuple[str, Field]] = {
    "email": ("Notify by mail", Field("email", "", "Address to notify when a task starts to fail and when it recovers.",
                                      200)),
    "url": ("Notify a webhook", Field("url", "", "URL that the same is posted to, as JSON.", 2000)),
}

SETTINGS: dict[str, Field] = {
    "baseUrl": Field("text", None, "Address of the scheduler as seen from outside, like https://example.org/cgi-bin/"
                     "webscheduler.cgi; trigger URLs start with it.", 1000, True),
    "name": Field("line", "webscheduler", "Name of this installation, shown in the panel and in notifications.", 100),
    "timezone": Field("text", "UTC", "Time zone, like Europe/Paris; a task may have its own.", 100),
    "language": Field("choice", "auto", "Language of the panel; auto: the browser's.", ("auto", *LANGUAGES)),
    "times": Field("choice", "relative", "How the panel shows times: relative to now, or absolute. The other is shown "
                   "when the mouse or the focus is on it.", ("relative", "absolute")),
    "defaultTimeout": Field("seconds", 300, "Time limit of a run in seconds, for tasks without one; 0: no limit.",
                            (0, MAX_SECONDS)),
    "maxConcurrentTasks": Field("int", 5, "How many due tasks may run at the same time.", (1, 1000)),
    "tickBudgetSeconds": Field("seconds", None, "Seconds in which a call of @due may start tasks; empty: 55, or 25 "
                               "in a request.", (1, 3600), True),
    "logRetentionDays": Field("int", 30, "How many days history is kept; 0: for ever.", (0, 36500)),
    "failureRetentionDays": Field("int", None, "How many days failed runs are kept; empty: like the others.",
                                  (0, 36500), True),
    "logOutput": Field("bool", True, "Keep standard output in the history."),
    "logErrorOutput": Field("bool", True, "Keep standard error in the history."),
    "python": Field("text", None, "Python for detached runs and functions; empty: the one in use.", 1000, True),
    "php": Field("text", None, "PHP for the .php files in commands/; empty: php in PATH.", 1000, True),
    "environment": Field("map", {}, "Environment variables for every command."),
    "modules": Field("lines", [], "Python modules to import in the search for commands.", 200),
    "setup": Field("text", None, "Called before functions and the search for commands, like django:setup.", 200, True),
    "commands": Field("commands", {}, "Commands by name: argv (or django, or script), arguments (true: tasks "
                      "may add some), description, cwd."),
    "trustedProxies": Field("networks", [], "Proxies whose X-Forwarded-For is trusted; `unix`: one on a Unix socket."),
    "privateHosts": Field("lines", [], "Hosts that tasks saved in the panel may call by `http` though their addresses "
                          "are not public; that of `baseUrl` always may.", 200),
    "apiOverHttp": Field("bool", False, "Whether the API answers over plain http, where everybody on the way can read "
                         "its keys; from this machine itself it always does."),
    "apiOrigins": Field("lines", [], "Origins, like https://example.org, whose pages may call the API in a browser "
                        "(CORS).", 200),
    "signatureWindowSeconds": Field("seconds", 300, "How many seconds a timed signature's time may be off.",
                                    (1, 86400)),
    "notify": Field("notify", {}, "Where to send notifications: {\"email\": ADDRESS, \"url\": WEBHOOK}, one or both.",
                    CHANNELS),
    "smtp": Field("smtp", None, "Mail server to use instead of sendmail: smtps://USER:PASSWORD@HOST (TLS) or smtp:// "
                  "(STARTTLS); ?from=ADDRESS after it sets the sender.", 1000, True),
    "notifyKey": Field("key", None, "Key that signs what is posted to the webhook (HMAC-SHA256).", 200, True),
}


class Settings(Values):
    """All settings, checked, every name of SETTINGS present, plus the `home` they belong to."""

    __slots__ = ("home",)

    def __init__(self, home: str, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.home = home


def load_settings(home: str) -> Settings:
    """The settings of the installation at `home`. Raises Unusable when home or file cannot be read or parsed."""
    raw = read_settings(home)
    values = {}

    for name, row in SETTINGS.items():
        try:
            values[name] = check(name, row, raw.get(name, row.default))
        except BadInput as error:
            raise Unusable(f"{home}/config.json: {error}: correct it with `webscheduler config set {name} VALUE`")

    return Settings(home, values)


def read_settings(home: str) -> dict[str, Any]:
    """config.json as it is; a home without the file has default settings."""
    path = os.path.join(home, "config.json")

    try:
        with open(path, "rb") as file:
            raw = json.loads(file.read() or b"{}")
    except FileNotFoundError:
        if not os.path.isdir(home):
            raise Unusable(f"there is no installation at {home}: `webscheduler init` creates one")

        return {}
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{path} cannot be read: it is not JSON ({str(error)[:200]}): correct it there with an "
                       "editor")

    if not isinstance(raw, dict):
        raise Unusable(f"{path} must contain an object of settings")

    if isinstance(raw.get("version"), int) and raw["version"] > FORMAT:
        raise Unusable(f"{path} was written by a newer webscheduler (format {raw['version']}): update this one")

    return raw


def save_settings(home: str, values: dict[str, Any], seen: Settings | None = None) -> None:
    """Store settings, all or, if one is wrong, none; None: back to the default. seen: the settings as the person saw
    them; none of the values may have changed since. Raises BadInput, Unusable, Busy."""
    from .change_lock import locked  # a request never gets here

    path = os.path.join(home, "config.json")

    with locked(path, PATIENCE):
        raw = {**read_settings(home), "version": FORMAT}

        for name, value in values.items():
            if name not in SETTINGS:
                raise BadInput(f"no setting is named {name!r}: `webscheduler config list` shows them", name)

            if seen and raw.get(name, SETTINGS[name].default) != seen[name]:
                raise BadInput(f"{name}: somebody else changed it just now: look at it, and save again", name)

            if value is None:
                raw.pop(name, None)
            else:
                raw[name] = check_setting(name, value)

        try:
            replace_file(path, json.dumps(raw, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        except OSError as error:
            raise Unusable(f"{path} cannot be written: {error.strerror}")


def parse_setting(name: str, text: str) -> Any:
    """The value that a person typed for a setting, or for a channel of `notify`, checked. Raises BadInput."""
    if name in CHANNELS:
        return check_target(name, CHANNELS[name][1], text)

    value = check_setting(name, from_text(name, SETTINGS[name], text))
    unknown = unknown_channels(value) if name == "notify" else ()

    if unknown:
        raise BadInput(f"notify: no channel is named {unknown[0][:40]!r}: there are {', '.join(CHANNELS)}", name)

    return value


def check_setting(name: str, value: Any) -> Any:
    """The value, if it is right, and if it can work: what is stored is believed without that, and this machine may not
    know every time zone. Raises BadInput."""
    check_entered(name, SETTINGS[name], value)

    if name == "baseUrl" and value is not None:
        check_base_url(value)
    elif name == "timezone":
        time_zone(str(value))
    elif name == "php" and value is not None:
        from shutil import which

        if not which(value):
            raise BadInput(f"php: {value[:100]!r} is not a program here: `command -v php` names one", name)
    elif name in LISTS:
        LISTS[name](value or [])
    elif name in ("smtp", "notifyKey") and redacted(SETTINGS[name], value) == value and HIDDEN in (value or ""):
        raise BadInput(f"{name}: {HIDDEN} only stands for the secret: enter that", name)
    elif name == "notify" and value:
        for channel, target in value.items():
            if channel in CHANNELS:
                check_target(channel, CHANNELS[channel][1], target)

    return value


def _check_hosts(hosts: list[str]) -> None:
    for host in hosts:
        if not _plain_host(host):
            raise BadInput(f"privateHosts: {host[:100]!r} is not a host like intranet.example.org or 10.0.0.7",
                           "privateHosts")


def _check_origins(origins: list[str]) -> None:
    """Refuse what is not an origin as browsers send it (RFC 6454, 6.2): they are compared as texts. Raises BadInput."""
    for origin in origins:
        scheme, _, place = origin.partition("://")
        host, colon, port = place.rpartition(":") if ":" in place.rpartition("]")[2] else (place, "", "")
        good = port.isdigit() and port == str(int(port[:5])) and 0 < int(port) < 65536 and f"{scheme} {port}" not in (
            "https 443", "http 80")

        if scheme not in ("http", "https") or origin != origin.lower() or not _plain_host(host) or (colon and not good):
            raise BadInput(f"apiOrigins: {origin[:100]!r} is not an origin like https://example.org, in small letters, "
                           "without a path and without the port that its scheme has anyway", "apiOrigins")


LISTS = {"privateHosts": _check_hosts, "apiOrigins": _check_origins}


def private_hosts(settings: Settings) -> set[str]:
    """The hosts that any task may call though their addresses are not public: those of privateHosts, and the own site,
    which on shared hosts often has a private address. As in `fetching.host_of`."""
    from ..fetching import host_of

    return {host_of(settings["baseUrl"] or ""), *map(_plain_host, settings["privateHosts"])} - {""}


def _plain_host(text: str) -> str:
    """A host alone as URLs name it; empty for anything else."""
    from ..fetching import host_of

    place = f"[{text}]" if text.count(":") > 1 and "[" not in text else text
    host = host_of(f"http://{place}/")
    alone = ":" not in place.rpartition("]")[2] and set(text).isdisjoint("/?#@ \t\r\n")
    return host if alone and all(c.isalnum() or c in "-._:" for c in host) else ""


def unknown_channels(notify: dict[str, str]) -> list[str]:
    """Names in the setting `notify` that only another version knows."""
    return [name for name in notify if name not in CHANNELS]


def check_target(field: str, row: Field, target: str) -> str:
    """An address or a URL, if something can be sent there. Raises BadInput."""
    check(field, row, target)

    if row.kind == "url":
        from ..fetching import split_url

        try:
            split_url(target)
        except ValueError as error:
            raise BadInput(f"{field}: {error}", field)
    elif row.kind == "email" and not _can_be_mailed(target):
        raise BadInput(f"{field}: {target[:100]!r} is not an address like me@example.org", field)

    return target


def _can_be_mailed(text: str) -> bool:
    """Whether the text is what a mail's `To` can hold, in ASCII: who sends it may know no other (RFC 6531)."""
    from email.message import EmailMessage

    message = EmailMessage()

    try:
        message["To"] = text
        found = message["To"].addresses
        parts = [part for each in found for part in (each.username, *each.domain.split("."))]
        return bool(found) and not message["To"].defects and all(
            part.isascii() and part.isprintable() and " " not in part and part for part in parts)
    except Exception:  # some versions raise IndexError and others for some texts
        return False


def check_base_url(text: str) -> str:
    """The text, if a URL can begin with it: TEXT/run/SLUG?sig=… Raises BadInput."""
    from urllib.parse import urlsplit  # 5 ms, and no request needs it

    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 (raises ValueError for a port that is not a number)
        rules = (
            (parts.scheme in ("http", "https") and parts.hostname, "must start with https:// (or http://) and a host"),
            (all("!" <= c <= "~" for c in text), "must contain only ASCII characters and no spaces"),
            ("?" not in text and "#" not in text, "must not contain ? or #: it ends where /run/ begins"),
            (parts.username is None, "must not contain a user name or password"),
            (not text.rstrip("/").endswith(("/admin", "/admin/sign-in")),
             "is the panel's address: leave out what follows the script, or the application"))
        problem = next((why for good, why in rules if not good), "")
    except ValueError:
        problem = "is not a URL"

    if problem:
        raise BadInput(f"baseUrl: {text[:100]!r} {problem}, as in https://example.org/cgi-bin/webscheduler.cgi",
                       "baseUrl")

    return text
