# SPDX-License-Identifier: LGPL-3.0-or-later
"""The verb `site`: which installations elsewhere `--at` knows.

The rule: a key is never a word of the command line, where every user of the machine could read it. It is typed, or
read from a file, and kept only once the installation has accepted it.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from ..errors import BadInput, did_you_mean
from ..remote import client, sites
from .parser import JSON
from .terminal import done, line, print_error, print_json, print_table

ACTIONS = {"add": " NAME URL", "list": "", "remove": " NAME"}  # with their arguments


def _site(args: Namespace) -> None:
    given = [word for word in (args.name, args.url) if word is not None]

    if len(given) != ACTIONS[args.action].count(" ") or (args.key_file and args.action != "add"):
        raise BadInput(f"site {args.action} is written `webscheduler site {args.action}{ACTIONS[args.action]}`")

    known = sites.read()

    if args.action == "add":
        _add(args, known)
    elif args.action == "list":
        _list(args, known)
    elif args.name not in known:
        raise BadInput(f"no site is named {args.name!r}{did_you_mean(args.name, known)}: `webscheduler site list` "
                       "shows them")
    else:
        sites.write({name: site for name, site in known.items() if name != args.name})
        done(f"{line(args.name)} is removed here; `webscheduler api-key revoke` there ends its key.")


def _add(args: Namespace, known: dict[str, sites.Site]) -> None:
    site = sites.Site(sites.check_name(args.name), sites.mount(args.url), "")
    print_error(*filter(None, [client.warning(site)]))
    site.key = sites.check_key(_key(args))
    about = client.connect(site)
    sites.write({**known, args.name: site})
    done(f"{line(args.name)} is {line(sites.shown(site.url))}, webscheduler {line(about['version'])}; its key "
         f"{line(about['key'])} has the role {line(about['role'])}. `webscheduler --at {line(args.name)} status` asks "
         "it.")


def _key(args: Namespace) -> str:
    """The key, without white space around it. Raises BadInput."""
    if args.key_file == "-":
        return sys.stdin.readline(1000).strip() if sys.stdin else ""

    if args.key_file:
        try:
            with open(args.key_file, encoding="utf-8", errors="replace") as file:
                return file.readline(1000).strip()
        except OSError as error:
            raise BadInput(f"--key-file: {args.key_file}: {error.strerror}")

    if sites.KEY in os.environ:
        return os.environ[sites.KEY].strip()

    if not (sys.stdin and sys.stdin.isatty()):
        raise BadInput(f"there is no terminal to ask for the key on: give --key-file FILE, or set {sites.KEY}")

    from getpass import getpass

    return getpass("Key (`webscheduler api-key add` on that host makes one): ").strip()


def _list(args: Namespace, known: dict[str, sites.Site]) -> None:
    if args.json:
        print_json([{"name": site.name, "url": sites.shown(site.url)} for site in known.values()])
    elif known:
        print_table(("SITE", "URL"), [(site.name, sites.shown(site.url)) for site in known.values()])
    else:
        print("no sites: `webscheduler site add NAME URL` adds one")


VERBS = {
    "site": (_site, ("Keep the URLs and keys of installations elsewhere, for --at. Adding one asks for a key of its "
                     "API, and checks it."),
             ("|".join(ACTIONS), "What to do.", {"dest": "action"}), ("[NAME]", "What to call it."),
             ("[URL]", "Its URL, or one of its tasks."),
             ("--key-file FILE", "Read the key from the first line of this file; -: of standard input."), JSON),
}
