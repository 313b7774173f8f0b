"""The verb init: makes an installation and joins it to a web server. Imports the files below the doors.

The rule: what no flag says is asked where a terminal is there to answer, and left as it is where there is none. Doing
it again completes what is missing and changes nothing else.
"""

from __future__ import annotations

import os
import sys
import time

from .. import commands, config, hosting, installation
from ..errors import BadInput
from ..installation import check_base_url, setting
from .terminal import line

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
        installation.check_owner(args.home)

    new = installation.create(args.home, time.time())
    print(f"{line(args.home)} is {'made' if new else 'complete'}.")
    asked = sys.stdin and sys.stdin.isatty() and not args.password_stdin
    base = args.base_url

    if base is None and not config.load(args.home)["baseUrl"] and asked:
        base = _ask("Where will it be reached, as in https://example.org/cgi-bin/webscheduler.cgi?")

    if args.python:
        from ..doctor import check_python

        check_python(args.home, args.python)

    given = {"baseUrl": base, "timezone": args.timezone, "python": args.python}
    config.set_values(args.home, {name: setting(name, value) for name, value in given.items() if value})
    folder = args.cgi_bin

    if folder is None and args.passenger is None and new and asked:
        folder = _ask("In which folder does your host run scripts, as in ~/cgi-bin?")

    settings = config.load(args.home)

    if folder:
        _script(settings, folder)

    if args.passenger:
        path, what = hosting.write_passenger(settings, args.passenger)
        print(f"{line(path)} is {what}. Now, as after each change, touch tmp/restart.txt in the folder it is in")

    if args.password_stdin:
        from ..admin import people

        people.set_password(args.home, args.password_stdin, (sys.stdin.readline() if sys.stdin else "").rstrip("\r\n"),
                            "owner", now=time.time())
        print(f"{line(args.password_stdin)} has a password for the panel.")

    if args.home != config.find_home():
        print(f"It is not where others look: export WEBSCHEDULER_HOME={line(args.home)}")

    print("Next:")

    if not settings["baseUrl"]:
        print("  webscheduler config set baseUrl https://example.org/cgi-bin/webscheduler.cgi    (your own)")

    print("  webscheduler add hello --command hello --every 3600")
    print("  webscheduler url @due    (have your panel call it as often as it can: it runs whatever is due)")

    if folder or args.passenger:
        print("  webscheduler doctor    (is everything as it should be?)")


def _ask(question: str) -> str:
    print(question + " (Enter: not known yet)")
    return sys.stdin.readline().strip()


def _script(settings: config.Config, folder: str) -> None:
    path, what = hosting.write_script(settings, folder)
    print(f"{line(path)} is {what}.")

    try:
        written = hosting.write_htaccess(os.path.dirname(path))
    except BadInput as error:
        print(f"If the server does not run it: {line(error)}")
    else:
        if written:
            print(f"{line(written[0])} is {written[1]}. If the server answers 500 now, remove it: the host forbids it.")

    private = hosting.python_is_private(commands.interpreter(settings))

    if private:
        print(f"Only this account can enter {line(private)}, where its Python is: the script works where the server "
              "runs it as this account")
