# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pages about the installation: settings, notifications, crontab, backup, version, exports.

The rules: nothing here can change a program, a directory, a module or the environment; that is for the command line,
so that a stolen password is not a shell. A backup is signed with session.key. From a backup with a valid signature
everything is restored; from any other file tasks with such fields are left out. A page starts a process only when
somebody pressed its button.
"""

from __future__ import annotations

import copy
import hmac
import json
import os
from typing import Any

from .. import __version__, editing
from ..commands import discovery, registry
from ..errors import BadInput, Unusable, WebschedulerError
from ..host import entry_files
from ..http import Response
from ..interchange import crontab as tables
from ..interchange import exporting, importing
from ..runs import notifications
from ..store import state
from ..store.fields import HIDDEN, redacted
from ..store.settings import CHANNELS, SETTINGS, Settings, check_setting, parse_setting, read_settings, save_settings
from ..store.task import DUE, FIELDS, file_name, load_tasks, new_task, shown
from ..vocabulary import LANGUAGES
from . import language, session
from .controls import CHANGED, Form, mark
from .show import ask, button, facts, link, moment, page, paragraph, plain, undelivered, warning
from .tasks import label, named
from .web import Html, Refused, Visit, error_text, h, respond

# Heading -> setting -> label; help and rules come from SETTINGS. All other settings are for the command line.
SECTIONS = {
    "General": {"name": "Name", "baseUrl": "Address", "timezone": "Time zone", "language": "Language",
                "times": "Times"},
    "Runs": {"defaultTimeout": "Time limit", "maxConcurrentTasks": "Runs at the same time",
             "tickBudgetSeconds": "Time to start tasks", "privateHosts": "Hosts at private addresses"},
    "History": {"logRetentionDays": "Keep history (days)", "failureRetentionDays": "Keep failed runs (days)",
                "logOutput": "Keep output", "logErrorOutput": "Keep error output"},
    "Notifications": {**{name: label for name, (label, _) in CHANNELS.items()}, "smtp": "Mail server",
                      "notifyKey": "Signing key"},
}
WAYS = {name: rule for name, (_, rule) in CHANNELS.items()}
RULES = {name: WAYS.get(name) or SETTINGS[name] for labels in SECTIONS.values() for name in labels}
SECRETS = ("smtp", "notifyKey")
SHELL_FIELDS = ("argv", "cwd", "environment")
MINUTES = (5, 10, 15, 30, 60, 1)
PATIENCE = 50  # seconds; servers end requests after 60


def index(visit: Visit) -> Response:
    """The settings, and everything else that concerns the whole installation."""
    secrets = {name: redacted(SETTINGS[name], visit.settings[name]) for name in SECRETS}
    form = Form(visit, RULES, {**visit.settings, **secrets, **dict.fromkeys(WAYS, ""), **visit.settings["notify"]})
    # With a key: a hash of a password alone would let it be guessed.
    form.beside = {name: session.mac(session.keys(visit.home)[-1], "stamp", str(visit.settings[name]).encode())
                   for name in SECRETS}
    form.choices["language"] = [("auto", visit.t("like the browser")), *LANGUAGES.items()]
    form.choices["times"] = [("relative", visit.t("relative, like 5 minutes ago")),
                             ("absolute", visit.t("absolute, as date and time"))]

    if visit.method == "POST":
        form.meet()

        if _save(visit, form):
            return visit.redirect("settings")

    others = [(h("{name}", name=name), h("<code>{value}</code>", value=json.dumps(visit.settings[name])))
              for name in SETTINGS if name not in RULES and name != "notify"]
    known = [(visit.t(text), form.start[name]) for labels in SECTIONS.values() for name, text in labels.items()
             if name not in (*WAYS, *SECRETS)]
    owner = visit.may("owner")
    test = [*undelivered(visit), button(visit, "notify-test", "Send a test notification")]
    return page(visit, "Settings", visit.html(
        "settings", problem=[plain(visit), warning(form.problem())], version=_version(visit),
        form=visit.html("settings-form", was=form.stamp(), sections=form.sections(SECTIONS, {}), test=test,
                        action=visit.href("settings"))
        if owner else visit.html("shown", facts=facts(visit, known)),
        others=visit.html("others", facts=facts(visit, others)) if owner else "",
        crontab=visit.html("to-crontab", link=link(visit, "Show the crontab", "crontab")) if owner else "",
        keys=visit.html("to-keys", link=link(visit, "Keys of the API…", "keys")) if owner else "",
        backup=visit.html("backup", action=visit.href("backup"), download=button(
            visit, "backup", "Download a backup", fields={"do": "download"}), preview=visit.href(
            "backup", do="preview")) if owner else "",
        take=_elsewhere(visit) if visit.may("editor") else ""), 422 if form.errors else 200)


def _save(visit: Visit, form: Form) -> bool:
    changed = form.changed(parse=lambda name, _, text: parse_setting(name, text) if text or name not in WAYS else "")

    if WAYS.keys() & changed:
        typed = {way: text for way in WAYS if (text := form.typed[way].strip())}
        kept = {name: target for name, target in visit.settings["notify"].items() if name not in WAYS}
        changed["notify"] = {**kept, **typed}

    values = {name: value for name, value in changed.items() if name not in WAYS}

    try:
        if not form.errors:
            save_settings(visit.home, values, visit.settings)
    except BadInput as error:  # in a control that was not changed
        form.errors[""] = error_text(visit, error)

    if form.errors:
        return False

    if values:
        visit.note("changed settings", " ".join(sorted(values)))

    visit.tell("The settings are saved." if values else "Nothing was changed.")
    return True


def _version(visit: Visit) -> Html:
    """Which version runs, and whether the installation was updated to it."""
    last, text = registry.last_sync(visit.home, "sync"), h("webscheduler {version}.", version=__version__)
    known = os.path.exists(os.path.join(visit.home, "commands.json"))

    if not known or last.get("package") == __version__:
        return paragraph(visit, text)

    before = h("{version}, {when}", version=last["package"], when=moment(visit, last.get("at"))) \
        if "package" in last else visit.t("an earlier version")
    return visit.html("stale", text=text, version=before, act=button(
        visit, "update", "Finish the update") if visit.may("owner") else "")


def update(visit: Visit) -> Response:
    """After an upload: search for commands with the new code, and write the settings in the new format."""
    try:
        save_settings(visit.home, {})
        _, said, problems = discovery.search(visit.settings, PATIENCE)
    except WebschedulerError as error:
        said, problems = "", str(error)

    if registry.last_sync(visit.home, "sync").get("package") != __version__:
        visit.tell("The update is not finished: {problem}", problem=problems.strip(), kind="bad")
        return visit.redirect("settings")

    visit.note("finished the update", __version__)
    text = visit.t("webscheduler {version} has searched for commands, and the settings are in its format.",
                   version=__version__)
    return _lines(visit, visit.t("The update is finished"), text, [
        language.error(visit.language, line) for line in (said + problems).splitlines()], [
        button(visit, "check", "Check the installation", "main"), link(visit, "Settings", "settings")])


def notify_test(visit: Visit) -> Response:
    tasks = load_tasks(state.read(visit.home))[0]

    if not notifications.configured(visit.settings) and not any(task["pingUrl"] for task in tasks.values()):
        visit.tell("There is nobody to notify: save an address first.", kind="bad")
        return visit.redirect("settings")

    results = notifications.try_all(visit.settings, tasks, "the panel", visit.clock)
    problem = "; ".join(f"{channel}: {problem}" for channel, problem in results.items() if problem)

    if problem:
        visit.tell("The test could not be sent: {problem}", problem=problem, kind="bad")
    else:
        visit.tell("The test was sent: {channels}.", channels=", ".join(results))

    return visit.redirect("settings")


def crontab(visit: Visit) -> Response:
    """Show, install or remove our line in the account's crontab."""
    given = visit.form.get("every") or visit.query.get("every")
    minutes = next((each for each in MINUTES if str(each) == given), MINUTES[0])

    if visit.method == "POST":
        return _change_crontab(visit, minutes)

    back = link(visit, "Settings", "settings")

    try:
        ours = tables.installed(visit.home)
        lines = ours or [tables.line(visit.settings, minutes)]
    except WebschedulerError as error:
        return ask(visit, h("crontab"), visit.html("no-crontab", why=error_text(visit, error)), back)

    rhythms = {each: visit.count(each, "every minute", "every {n} minutes") for each in sorted(MINUTES)}
    choices = [h("<b>{text}</b> ", text=text) if each == minutes else h(
        "{link} ", link=link(visit, text, "crontab", every=each)) for each, text in rhythms.items()]
    was = mark("\n".join(ours))
    act = button(visit, "crontab", "Remove the line", "danger", {"do": "remove", "was": was}) if ours else button(
        visit, "crontab", "Install the line", "main", {"do": "install", "every": str(minutes), "was": was})
    text = visit.t("This line in the account's crontab runs all due tasks without any call of a URL. Other lines are "
                   "never changed.")
    return _lines(visit, h("crontab"), text, lines, [act, back], "" if ours else h("<p>{choices}</p>", choices=choices))


def _lines(visit: Visit, title: Html, text: Html, lines: list[str], buttons: list[Html], more: object = "") -> Response:
    return page(visit, title, visit.html("lines", title=title, text=text, more=more, buttons=buttons, lines=[
        h('<code class="line" lang="en">{line}</code>', line=line) for line in lines]))


def _change_crontab(visit: Visit, minutes: int) -> Response:
    try:
        if visit.form.get("was") != mark("\n".join(tables.installed(visit.home))):
            visit.tell(CHANGED, kind="bad")
        elif visit.form.get("do") == "install":
            tables.install(visit.settings, minutes)
            visit.note("installed the crontab line")
            visit.tell("The line is installed.")
        else:
            tables.uninstall(visit.home)
            visit.note("removed the crontab line")
            visit.tell("The line is removed.")
    except WebschedulerError as error:
        visit.tell("The crontab was not changed: {problem}", problem=str(error), kind="bad")

    return visit.redirect("crontab")


def backup(visit: Visit) -> Response:
    """Send a backup, restore one, or show what that would change."""
    changes: list[str] | None = [] if visit.query.get("do") == "preview" else None

    if visit.form.get("do") == "download":
        visit.note("took a backup")
        settings = {name: redacted(SETTINGS[name], value) if name in SECRETS else value
                    for name, value in read_settings(visit.home).items()}
        document = {**importing.document(visit.settings, state.read_strictly(visit.home), True), "settings": settings}
        document["seal"] = _seal(visit, document)
        return _download("webscheduler-backup.json", json.dumps(document, indent=1) + "\n", "application/json")

    try:
        count, left_out, lost, hidden, behind = _restore(visit, visit.uploaded("file"), changes)
    except BadInput as error:
        visit.tell("Nothing was changed: {problem}", problem=str(error), kind="bad")
        return visit.redirect("settings")

    if changes is not None:
        return _lines(visit, visit.t("What restoring changes"), visit.t(
            "Nothing is changed yet." if changes else "Nothing is different."), changes, [
                link(visit, "Settings", "settings")])

    visit.note("restored a backup")
    names = left_out or lost or hidden
    visit.tell("Tasks restored: {n}. Left out, because the file was not made here or was changed since: {names}"
               if left_out else "Tasks restored: {n}. These cannot run until their command is registered: {names}"
               if lost else "Tasks restored: {n}. A backup holds no passwords and keys, so enter these again: {names}"
               if hidden else "Tasks restored: {n}.", n=str(count), names=", ".join(names),
               kind="bad" if names or behind else "good", more=" ".join(behind))
    return visit.redirect("settings")


def _seal(visit: Visit, document: dict[str, Any], key: bytes | None = None) -> str:
    plain = json.dumps({name: value for name, value in document.items() if name != "seal"}, sort_keys=True)
    return session.mac(key or session.keys(visit.home)[-1], "backup", plain.encode())


def _restore(visit: Visit, text: str, changes: list[str] | None) -> tuple[
        int, list[str], list[str], list[str], list[str]]:
    """Take a backup in, all or nothing, unless the error says that only the settings were not; tasks that are not in it
    stay. changes: if given, what would change is added to it, and nothing is written. (how many tasks came in, what was
    left out, what has no command here, which settings have a secret that is not in the file, sentences on what else
    stays behind)."""
    arrival = importing.of_document(text, "the file")
    rows = arrival.tasks
    document: dict[str, Any] = json.loads(text) or {}  # which was parsed, so it is not too deep
    seal = str(document.get("seal", "")).encode("ascii", "replace")
    whole = any(hmac.compare_digest(_seal(visit, document, key).encode(), seal) for key in session.keys(visit.home))
    given_settings = document.get("settings")
    given_settings = given_settings if isinstance(given_settings, dict) else {}
    hidden = [name for name in SECRETS if HIDDEN in str(given_settings.get(name))]
    settings = {name: check_setting(name, value) for name, value in given_settings.items()
                if name in SETTINGS and name not in hidden and (whole or name in RULES)}
    # What is the same here but for its secret stays.
    hidden = [name for name in hidden if given_settings[name] != redacted(SETTINGS[name], visit.settings[name])]
    then = Settings(visit.home, {**visit.settings, **settings})
    known = registry.registered(then)
    left_out: list[str] = []
    lost: list[str] = []

    def row(name: str, given: dict[str, Any], present: dict[str, Any]) -> dict[str, Any] | None:
        kept = {"createdAt"} - given.keys() if given.get("secret") else {"createdAt", "slug", "secret"}  # URLs stay
        found = {**new_task(visit.now, given), **{key: present[key] for key, field in FIELDS.items()
                                                  if (field.by == "run" or key in kept) and key in present}}

        try:
            # A command that is not here keeps a task from running, not from coming back.
            gone = found["command"] is not None and str(found["command"]) not in known
            editing.check_task(then, name, found, before=found if gone else None)
        except BadInput as error:
            raise BadInput(f"task {name}: " + str(error).replace(f"task {name}: ", "", 1))

        if not whole and any(found[key] != present.get(key, FIELDS[key].default) for key in SHELL_FIELDS):
            left_out.append(name)
            return None

        if not whole:  # as if it had been typed here
            same = all(found[key] == present.get(key, FIELDS[key].default) for key in ("command", "arguments"))
            found["publicOnly"] = present.get("publicOnly", False) if same and present else True

        lost.extend([name] if gone else [])
        return found

    if changes is None:
        state.update(visit.home, lambda tasks: importing.merge(tasks, rows, row, replace=True))

        try:
            save_settings(visit.home, settings)
        except WebschedulerError as error:
            raise Unusable(f"the tasks are restored, the settings are not: {error}")
    else:
        tasks = state.read_strictly(visit.home)
        importing.merge(after := copy.deepcopy(tasks), rows, row, replace=True)

        for name in rows:
            if name in left_out or not isinstance(tasks.get(name), dict):
                changes.append(f"{name}: {visit.t('left out' if name in left_out else 'added')}")
            else:
                changes += _differences(f"{name}: ", new_task(visit.now, tasks[name]), after[name])

        changes += _differences("", visit.settings, settings)

    arrival = arrival._replace(tasks={name: row for name, row in rows.items() if name not in left_out})
    behind = [*([] if whole else importing.stays_behind(then, arrival).values()),
              *([importing.NO_HISTORY] if arrival.logs else [])]
    said = [language.error(visit.language, text) for text in behind]
    return len(rows) - len(left_out), left_out, lost, hidden, [f"{text[0].upper()}{text[1:]}." for text in said]


def _differences(prefix: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [f"{prefix}{name}: " + ("***" if name in (*SECRETS, "secret", "oldSecret") else " -> ".join(
        json.dumps(each, ensure_ascii=False) for each in (before.get(name), value)))
        for name, value in after.items() if value != before.get(name)]


def _elsewhere(visit: Visit) -> Html:
    base = visit.settings["baseUrl"]
    shims = [h("<li>{link}</li>", link=link(visit, h("{name}", name=label(task)), "shim", name=name))
             for name, task in load_tasks(shown(state.read(visit.home)))[0].items()
             if base and task["secret"] and task["signature"] != "timed"]
    formats = [(h("{name}", name=format.title), kind, format.by_url) for kind, format in exporting.FORMATS.items()]
    exports = [link(visit, title, "export", kind=kind) for title, kind, by_url in formats if not by_url]
    calls = visit.html("exports-by-url", links=[link(visit, title, "export", kind=kind, by="url")
                                                for title, kind, _ in formats]) if base else ""
    return visit.html("take-along", shims=shims, exports=visit.html("exports", links=exports, calls=calls)
                      if visit.may("owner") else "")


def shim(visit: Visit) -> Response:
    """A PHP file that calls the task's URL."""
    task, base = named(visit), visit.settings["baseUrl"]

    if not base or not task["slug"] or not task["secret"]:
        visit.tell("The address of this installation is not set, so no URL can be shown.", kind="bad")
        return visit.redirect("settings")

    return _download("webscheduler.php" if task.name == DUE else f"webscheduler-{file_name(task.name)}.php",
                     entry_files.php_shim(base, task.name, task["slug"], task["secret"]), "application/x-httpd-php")


def export_page(visit: Visit) -> Response:
    """The tasks in the format of another scheduler. For owners only: it holds the environment, and so passwords."""
    tasks = list(load_tasks(state.read(visit.home))[0].values())
    wanted = visit.query.get("kind", "")

    if wanted not in exporting.FORMATS:
        raise Refused(404, "There is no such page.")

    base = visit.settings["baseUrl"] if visit.query.get("by") == "url" else ""
    return respond(str(exporting.export(wanted, visit.settings, tasks, base=base)), kind="text/plain")


def _download(name: str, content: str, kind: str) -> Response:
    return respond(content, kind=kind, Content_Disposition=f'attachment; filename="{name}"')


