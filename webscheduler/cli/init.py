"""The verb init: makes an installation and joins it to a web server.

The rule: what no flag says is asked where a terminal is there to answer, and left as it is where there is none. Doing
it again completes what is missing and changes nothing else.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time

from ..commands import registry
from ..errors import BadInput
from ..host import entry_files
from ..host.home import check_owner, create_home, program_words
from ..store import people
from ..store.settings import Settings, check_base_url, find_home, load_settings, parse_setting, save_settings
from ..times import system_zone, time_zone
from . import panel
from .terminal import complain, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable


def register(verb: Callable[..., Any]) -> None:
    """Add this module's verb to the parser."""
    init = verb("init", _init, "Make an installation, or complete the one that is there.", owner=False)
    init.add_argument("--base-url", metavar="URL", help="Where the scheduler is reached from outside.")
    init.add_argument("--timezone", metavar="ZONE", help="Zone of schedules whose task names none.")
    init.add_argument("--python", metavar="PATH", help="Python that runs everything; unset: the one in use.")
    init.add_argument("--cgi-bin", metavar="DIR", help="Write webscheduler.cgi into this folder, where the host runs "
                                                       "scripts.")
    init.add_argument("--passenger", metavar="DIR", help="Write passenger_wsgi.py into this folder, the application's "
                                                         "root under Passenger (cPanel's \"Setup Python App\").")
    init.add_argument("--password-stdin", metavar="USER", help="Give USER of the panel the password that is the first "
                                                               "line of standard input.")


def _init(args: Namespace) -> None:
    if args.base_url is not None:
        check_base_url(args.base_url)

    if os.path.isdir(args.home):
        check_owner(args.home)

    new = create_home(args.home, time.time())
    print(f"{line(args.home)} is {'made' if new else 'complete'}.")
    asked = sys.stdin and sys.stdin.isatty() and not args.password_stdin
    given = {"baseUrl": args.base_url, "timezone": args.timezone, "python": args.python}
    folder, owner = args.cgi_bin, args.password_stdin

    if asked and args.base_url is None and not load_settings(args.home)["baseUrl"]:
        given["baseUrl"] = _ask("Where will it be reached, as in https://example.org/cgi-bin/webscheduler.cgi?",
                                check_base_url)

    if asked and new and args.timezone is None:
        given["timezone"] = _ask("In which time zone are schedules meant?", time_zone, system_zone())

    if args.python:
        from ..host.doctor import check_python

        check_python(args.home, args.python)

    save_settings(args.home, {name: parse_setting(name, value) for name, value in given.items() if value})
    settings = load_settings(args.home)

    if folder:
        _script(settings, folder)
    elif asked and new and not args.passenger:
        folder = _ask("In which folder does your host run scripts, as in ~/cgi-bin?",
                      lambda text: _script(settings, text))

    if args.passenger:
        path, what = entry_files.write_passenger(settings, args.passenger)
        print(f"{line(path)} is {what}. Now, as after each change, touch tmp/restart.txt in the folder it is in")

    if owner:
        password = (sys.stdin.readline() if sys.stdin else "").rstrip("\r\n")
        people.set_password(args.home, owner, password, "owner", now=time.time())
        print(f"{line(owner)} has a password for the panel.")
    elif asked and new:
        _let_in(settings, panel.account())

    if args.home != find_home():
        print(f"It is not where others look: export WEBSCHEDULER_HOME={line(args.home)}")

    found = shutil.which("webscheduler") == sys.argv[0]
    program = "webscheduler" if found else line(shlex.join(program_words()))
    print("Next:")

    if not settings["baseUrl"]:
        print(f"  {program} config set baseUrl https://example.org/cgi-bin/webscheduler.cgi    (your own)")

    print(f"  {program} add hello --command hello --every 3600")
    print(f"  {program} url @due    (have your panel call it as often as it can: it runs whatever is due)")

    if not people.read(args.home):
        print(f"  {program} set-password    (lets you into the admin panel)")

    if folder or args.passenger:
        print(f"  {program} doctor    (is everything as it should be?)")


def _ask(question: str, good: Callable[[str], object], default: str = "") -> str:
    """What is typed, asked for again while `good` raises BadInput; Enter: the default."""
    while True:
        print(f"{question} (Enter: {default or 'not known yet'})", flush=True)
        text = sys.stdin.readline().strip() or default

        try:
            if text:
                good(text)

            return text
        except BadInput as error:
            complain(error)


def _let_in(settings: Settings, user: str) -> None:
    """Ask for a password of the panel until it is good; none: not now."""
    while user:
        try:
            password = panel.typed(f"A password for {user} in the admin panel (Enter: not now): ")

            if password is not None:
                people.set_password(settings.home, user, password, "owner", now=time.time())
                print(f"{line(user)} may sign in: {(settings['baseUrl'] or '...').rstrip('/')}/admin/")

            return
        except BadInput as error:
            complain(error)


def _script(settings: Settings, folder: str) -> None:
    path, what = entry_files.write_script(settings, folder)
    print(f"{line(path)} is {what}.")

    try:
        written = entry_files.write_htaccess(os.path.dirname(path))
    except BadInput as error:
        print(f"If the server does not run it: {line(error)}")
    else:
        if written:
            print(f"{line(written[0])} is {written[1]}. If the server answers 500 now, remove it: the host forbids it.")

    private = entry_files.python_is_private(registry.interpreter(settings))

    if private:
        print(f"Only this account can enter {line(private)}, where its Python is: the script works where the server "
              "runs it as this account")
