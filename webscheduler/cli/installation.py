# SPDX-License-Identifier: LGPL-3.0-or-later
"""Verbs that make and check an installation: init, config, doctor, probe.

The rule of `init`: options are checked and carried out first. What none says is asked on a terminal, and each answer is
stored at once; where there is no terminal it is left as it is. So a second `init` completes what is missing, also of
one that was broken off, and changes nothing else. Before a new home gets its secrets, and again once all is known, it
is tried whether a web server shows it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from argparse import Namespace
from contextlib import suppress
from typing import Any, Callable

from ..commands import registry
from ..errors import BadInput, did_you_mean
from ..host import doctor, entry_files, probe, url_check
from ..host.findings import ERROR, MARKS, OK, Finding
from ..host.home import check_owner, create_home, make_directory, program_words
from ..store import capabilities, people, state
from ..store.fields import redacted
from ..store.files import find_home
from ..store.settings import CHANNELS, SETTINGS, Settings, load_settings, parse_setting, read_settings, save_settings
from ..store.task import load_tasks
from ..times import system_zone
from .here import base_url, of
from .panel import account, typed_password
from .parser import BASE, JSON, number
from .terminal import as_text, done, line, local_time, print_error, print_json, print_table, progress

NOBODY = "there is nobody to notify: `webscheduler notify --email me@example.org`"
ACTIONS = {"list": "", "get": " KEY", "set": " KEY VALUE", "unset": " KEY"}  # of `config`, with their arguments


def _init(args: Namespace) -> None:
    asked = sys.stdin and sys.stdin.isatty() and not args.password_stdin
    given = {name: parse_setting(name, value) for name, value in (
        ("baseUrl", args.base_url), ("timezone", args.timezone), ("python", args.python)) if value is not None}

    for folder in filter(None, (args.cgi_bin, args.passenger)):
        entry_files.directory(folder)

    if args.password_stdin:
        password = (sys.stdin.readline() if sys.stdin else "").rstrip("\r\n")
        people.check_password(args.password_stdin, password)

    if os.path.isdir(args.home):
        check_owner(args.home)

    new = make_directory(args.home)
    seen = _check(args, given, new)
    create_home(args.home, time.time(), "" if asked else "UTC")
    done(f"{line(args.home)} is created.") if new else print(f"{line(args.home)} is complete.")
    save_settings(args.home, given)

    if args.cgi_bin:
        _script(load_settings(args.home), args.cgi_bin, args.home_named)

    if args.passenger:
        path, what = entry_files.write_passenger(load_settings(args.home), args.passenger, args.home_named)
        done(f"{line(path)} is {what}. Now, and after each change, touch tmp/restart.txt in its folder")

    if args.password_stdin:
        people.set_password(args.home, args.password_stdin, password, "owner", now=time.time())
        done(f"{line(args.password_stdin)} can sign in to the panel.")

    folder = args.cgi_bin or args.passenger or (_ask_all(args.home, args) if asked else "")

    if seen.state != OK and (folder or asked):
        seen = _look(args.home, {})

    print(f"{line(args.home)}: {line(seen.text())}")
    _print_next_steps(load_settings(args.home), bool(folder))


def _check(args: Namespace, given: dict[str, Any], new: list[str]) -> Finding:
    """What `_look` finds, before anything is in the home. Raises BadInput if the home, or the Python that was given,
    cannot be used. new: directories that were made for it; after any exception, Ctrl-C too, they are removed again."""
    try:
        if args.python:
            doctor.check_python(args.home, args.python)

        return _look(args.home, given)
    except BaseException:
        with suppress(OSError):
            for place in new:
                os.rmdir(place)

        raise


def _look(home: str, given: dict[str, Any]) -> Finding:
    """What `url_check.look` finds, with the address that was given or is set. Raises BadInput if the home is in the
    site."""
    base = given.get("baseUrl") or read_settings(home).get("baseUrl")
    found = url_check.look(home, base if isinstance(base, str) else "")

    if found.state == ERROR:
        raise BadInput(f"{home}: {found.text()}")

    return found


def _ask_all(home: str, args: Namespace) -> str:
    """Ask for what is not known yet, the panel's password last: who has one has been asked for everything. Returns the
    folder where the server runs scripts, if it was asked for and named."""

    def keep(name: str) -> Callable[[str], object]:
        return lambda text: save_settings(home, {name: text})

    if not load_settings(home)["baseUrl"]:
        _ask("What will its URL be, like https://example.org/cgi-bin/webscheduler.cgi?", keep("baseUrl"))

    if "timezone" not in read_settings(home):
        _ask("What is the time zone of schedules?", keep("timezone"), system_zone())

    folder = ""

    if not people.read(home):
        settings = load_settings(home)

        if not (args.cgi_bin or args.passenger):
            folder = _ask("In which folder does your host run scripts, like ~/cgi-bin?",
                          lambda text: _script(settings, text, args.home_named))

        _ask_password(settings, account())

    return folder


def _print_next_steps(settings: Settings, deployed: bool) -> None:
    """Say what to do after `init`. deployed: a web server has its files."""
    if settings.home != find_home():
        print(f"This is not the default place: export WEBSCHEDULER_HOME={line(settings.home)}")

    found = shutil.which("webscheduler") == sys.argv[0]
    program = "webscheduler" if found else line(shlex.join(program_words()))
    print("Next:")

    if not settings["baseUrl"]:
        print(f"  {program} config set baseUrl https://example.org/cgi-bin/webscheduler.cgi    (your own)")

    print(f"  {program} add hello --command hello --every 3600")
    print(f"  {program} url @due    (let your hosting panel call it as often as it can: it runs all due tasks)")

    if not people.read(settings.home):
        print(f"  {program} set-password    (lets you sign in to the admin panel)")

    if deployed:
        print(f"  {program} doctor    (checks the installation)")


def _ask(question: str, good: Callable[[str], object], default: str = "") -> str:
    """The typed answer, asked for again while `good` raises BadInput; Enter: the default."""
    while True:
        print(f"{question} (Enter: {default or 'not yet known'})", flush=True)
        text = sys.stdin.readline().strip() or default

        try:
            if text:
                good(text)

            return text
        except BadInput as error:
            print_error(error)


def _ask_password(settings: Settings, user: str) -> None:
    """Ask for a panel password until it is accepted, or none is typed."""
    while user:
        try:
            password = typed_password(f"Password for {user} in the admin panel (Enter: not now): ")

            if password is not None:
                people.set_password(settings.home, user, password, "owner", now=time.time())
                done(f"{line(user)} can sign in: {(settings['baseUrl'] or '...').rstrip('/')}/admin/")

            return
        except BadInput as error:
            print_error(error)


def _script(settings: Settings, folder: str, move: bool) -> None:
    path, what = entry_files.write_script(settings, folder, move)
    done(f"{line(path)} is {what}.")

    try:
        written = entry_files.write_htaccess(os.path.dirname(path))
    except BadInput as error:
        print(f"If the server does not run it: {line(error)}")
    else:
        if written:
            done(f"{line(written[0])} is {written[1]}. If the server now answers 500, the host forbids it: remove it.")

    private = entry_files.python_is_private(registry.interpreter(settings))

    if private:
        print(f"Only this account can enter {line(private)}, where its Python is: the server must run the script as "
              "this account")


def _config(args: Namespace) -> None:
    words = ACTIONS[args.action]

    given = [word for word in (args.key, args.value) if word is not None]
    key = str(args.key)

    if len(given) != words.count(" "):
        raise BadInput(f"config {args.action} is written `webscheduler config {args.action}{words}`")

    if given and key not in SETTINGS:
        raise BadInput(f"no setting is named {key!r}{did_you_mean(key, SETTINGS)}: `webscheduler config list` shows "
                       "them", key)

    if args.action in ("set", "unset"):
        value = parse_setting(key, args.value) if args.action == "set" else None

        if key == "python" and value:
            doctor.check_python(args.home, value)

        save_settings(args.home, {key: value})
        done(f"{key} is changed", show=False)

    settings = load_settings(args.home)

    listed = {name: redacted(row, settings[name]) for name, row in SETTINGS.items()}

    if args.action == "get":  # it alone shows secrets
        value = settings[key]
        print_json(value) if args.json else print(line(value) if isinstance(value, str) else json.dumps(value))
    elif args.json:
        print_json(listed[key] if given else listed)
    elif args.action == "list":
        print_table(("SETTING", "VALUE", "MEANING"), [
            (name, as_text(listed[name]), row.sentence) for name, row in SETTINGS.items()])
    else:
        print(f"{key} is {line(as_text(listed[key]))}")


def _notify(args: Namespace) -> int:
    settings = load_settings(args.home)
    given = {channel: target for channel in CHANNELS if (target := getattr(args, channel)) is not None}

    if given:
        targets = {name: target for name, target in {**settings["notify"], **given}.items() if target}

        for channel in given.keys() & targets.keys():
            parse_setting(channel, targets[channel])  # as the panel does, with its name

        save_settings(args.home, {"notify": targets}, settings)
        done("notify is changed", show=False)

    if args.what == "test":
        return _try_channels(args.home)

    for channel, target in load_settings(args.home)["notify"].items():
        print(f"{line(channel)}: {line(target)}")

    print("`webscheduler notify test` sends a test" if load_settings(args.home)["notify"] else NOBODY)
    return 0


def _try_channels(home: str) -> int:
    from ..runs import notifications

    tasks, _ = load_tasks(state.read(home))
    results = notifications.try_all(load_settings(home), tasks, "the command line", time.time)

    if not results:
        raise BadInput(NOBODY)

    for channel, problem in results.items():
        if problem:
            print_error(f"{channel}: {problem}")
        else:
            print(f"{line(channel)}: sent")

    return int(any(results.values()))


def _doctor(args: Namespace) -> int:
    found = of(args).findings(args.offline)

    if args.json:
        print_json([{"state": each.state, "about": each.about, "text": each.text()} for each in found])
    else:
        for each in found:
            print(line(f"{MARKS[each.state]:7} {each.about:10} {each.text(local_time)}"))

    return int(any(finding.state == ERROR for finding in found))


def _probe(args: Namespace) -> None:
    settings = load_settings(args.home)
    base = base_url(settings, args.base)

    with progress("probe", not args.json) as say:
        kind, results = probe.run(settings, base, args.seconds, time.time, say)

    if args.json:
        print_json({"server": kind, "strategies": results})
        return

    rows: dict[str, Any] = {**results}  # whole ones: older files may lack a part
    print_table(("STRATEGY", "LIVED", "ENDED", "ANSWER"), [
        (strategy, f"{row['lived']:g} s", row["ended"],
         f"{row['answer']['status'] or 'none'} after {row['answer']['seconds']:g} s"
         + (", held until the job's end" if row["held"] else ""))
        for strategy, row in rows.items()])

    first = next(doctor.explain(kind, capabilities.read(args.home, kind, time.time()), settings["defaultTimeout"]))
    print(line(f"So {first.text(local_time)}."))


VERBS = {
    "init": (_init, "Create an installation, or complete an existing one.",
             ("--base-url URL", "URL of the scheduler, as seen from outside."),
             ("--timezone ZONE", "Time zone of schedules whose task has none."),
             ("--python PATH", "Python that runs everything; default: this one."),
             ("--cgi-bin DIR", "Write webscheduler.cgi into this folder, where the host runs scripts."),
             ("--passenger DIR", "Write passenger_wsgi.py into this folder, the application root of Passenger."),
             ("--password-stdin USER", "Set the panel password of USER to the first line of standard input.")),
    "config": (_config, "Show or change the settings.",
               (f"[{'|'.join(ACTIONS)}]", "What to do; default: list.", {"dest": "action", "default": "list"}),
               ("[KEY]", "The setting."), ("[VALUE]", "Its value; lists and objects as JSON."), JSON),
    "doctor": (_doctor, "Check the installation and say what to do; exit status 1 if there is an error.",
               ("--offline", "Do not call the scheduler's own URL."), JSON),
    "notify": (_notify, ("Show or change whom to notify, as in `webscheduler notify --email me@example.org`. With "
                         "`test`, send a test to each channel and ping URL, and what could not be sent before."),
               ("[test]", "Send a test.", {"dest": "what"}),
               ("--email ADDRESS", "Send mail to this address, or several with commas between; '' ends it."),
               ("--url URL", "Post to this webhook; '' ends it.")),
    "probe": (_probe, "Test which strategies survive on this host, for `auto` to choose from.",
              number("--seconds N", f"How long each test job runs; default: {probe.SECONDS}, at most "
                     f"{probe.MOST_SECONDS}.", 1, probe.MOST_SECONDS, probe.SECONDS), BASE, JSON),
}
