"""Verbs that set an installation up: demo, serve, config."""

from __future__ import annotations

import json

from ..errors import BadInput
from ..store.settings import SETTINGS, load_settings, parse_setting, save_settings
from . import fields
from .terminal import in_a_word, line, show, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable

ARGUMENTS = {"list": "", "get": " KEY", "set": " KEY VALUE", "unset": " KEY"}  # of `config`, by what is to be done


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verbs to the parser."""
    verb("demo", _demo, "Show the whole thing in a throw-away installation: a real server, signed URLs, refusals, "
                        "history.", owner=False)

    serve = verb("serve", _serve, "Serve the installation over HTTP, to try it out or behind a proxy.")
    serve.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="Where to listen; default: 127.0.0.1.")
    serve.add_argument("--port", type=fields.rule("--port", "int", (0, 65535)), metavar="N", default=8000,
                       help="Port; 0: any free one; default: 8000.")

    settings = verb("config", _config, "Show or change the settings of the installation.", json=True)
    settings.add_argument("action", type=fields.rule("config", "choice", tuple(ARGUMENTS)), nargs="?", default="list",
                          metavar="|".join(ARGUMENTS), help="What to do; default: list.")
    settings.add_argument("key", nargs="?", metavar="KEY", help="The setting.")
    settings.add_argument("value", nargs="?", metavar="VALUE", help="Its value; lists and objects as JSON.")


def _demo(args: Namespace) -> int:
    from .demo import play

    return play()


def _serve(args: Namespace) -> None:
    from .server import serve

    load_settings(args.home)  # an installation that cannot work says so here rather than to each request
    serve(args.home, args.host, args.port)


def _config(args: Namespace) -> None:
    words = ARGUMENTS[args.action]

    if (args.key is not None) + (args.value is not None) != words.count(" "):
        raise BadInput(f"config {args.action} goes like this: `webscheduler config {args.action}{words}`")

    if args.key is not None and args.key not in SETTINGS:
        raise BadInput(f"no setting is named {args.key!r}: `webscheduler config list` shows them", args.key)

    if args.action in ("set", "unset"):
        value = parse_setting(args.key, args.value) if args.action == "set" else None

        if args.key == "python" and value:
            from ..host.doctor import check_python

            check_python(args.home, value)

        save_settings(args.home, {args.key: value})

    settings = load_settings(args.home)

    if args.json:
        show(settings if args.key is None else settings[args.key])
    elif args.action == "list":
        table(("SETTING", "VALUE", "MEANING"), [(name, in_a_word(settings[name]), row.sentence)
                                                for name, row in SETTINGS.items()])
    elif args.action == "get":
        value = settings[args.key]
        print(line(value) if isinstance(value, str) else json.dumps(value))
    else:
        print(f"{args.key} is {line(in_a_word(settings[args.key]))}")
