"""Pages about the installation: settings, notifications, crontab, backup, and what to take along. Imports `show`, `web`
and the core.

The rules: nothing here names a program, a directory, a module or the environment; those settings are shown and changed
on the command line. A backup carries a seal made with session.key. One whose seal is whole comes back whole; from any
other file such fields are left out, so that who has stolen a password still has no shell.
"""

from __future__ import annotations

import hmac
import json

from .. import __version__, config, editing, export, hosting, installation, notify, store, systemd, transfer
from .. import crontab as tables
from ..errors import BadInput, WebschedulerError
from ..task import DUE, FIELDS, check_name, file_name, from_text, load, load_all
from . import session
from .language import LANGUAGES
from .show import button, facts, field, link, options, page, warning
from .tasks import label, named
from .web import Html, Response, error_text, h

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .web import Visit

# Setting -> label and help; the other settings are the command line's.
EDITABLE: dict[str, tuple[str, str]] = {
    "name": ("Name", "What this installation is called on pages and in notifications."),
    "baseUrl": ("Address", "Where the scheduler is reached from outside; trigger URLs start with it."),
    "timezone": ("Time zone", "Of schedules and of the times on these pages, as in Europe/Paris."),
    "language": ("Language", "Of these pages; auto follows the browser."),
    "defaultTimeout": ("Time limit", "Seconds a run may take where its task says nothing; 0: any."),
    "maxConcurrentTasks": ("Runs at once", "How many due runs may be alive at once."),
    "tickBudgetSeconds": ("Seconds for starting", "In which a call starts what is due; empty: 55, or 25 in a request."),
    "logRetentionDays": ("Days of history", "0: for ever."),
    "failureRetentionDays": ("Days of failed runs", "Empty: as the others."),
    "logOutput": ("Keep output", "In the history."),
    "logErrorOutput": ("Keep error output", "In the history."),
    "email": ("Notify by mail", "Address that is told when a task begins to fail and when it is well again."),
    "url": ("Notify a webhook", "URL that the same is posted to, as JSON."),
}
SECTIONS = (("General", ("name", "baseUrl", "timezone", "language")),
            ("Runs", ("defaultTimeout", "maxConcurrentTasks", "tickBudgetSeconds")),
            ("History", ("logRetentionDays", "failureRetentionDays", "logOutput", "logErrorOutput")),
            ("Notifications", ("email", "url")))
WAYS = ("email", "url")
SHELL_FIELDS = ("argv", "cwd", "environment")
EXPORTS = {"crontab": "crontab", "systemd": "systemd", "kubernetes": "Kubernetes"}
MINUTES = (5, 10, 15, 30, 60, 1)


def index(visit: Visit) -> Response:
    """The settings, and all that is about the installation as a whole."""
    start = _texts(visit)
    form = {name: visit.form.get(name, "") for name in start} if visit.method == "POST" else start
    errors: dict[str, Html] = {}

    if visit.method == "POST":
        _save(visit, start, form, errors)

        if not errors:
            return visit.redirect("settings")

    others = [(h("{name}", name=name), h("<code>{value}</code>", value=json.dumps(visit.settings[name])))
              for name in config.SETTINGS if name not in EDITABLE and name != "notify"]
    owner = visit.may("owner")
    return page(visit, visit.t("Settings"), visit.html(
        "settings", problem=warning(visit.t("Nothing is saved yet: see the fields marked below.") if errors else None),
        form=_form(visit, form, errors) if owner else visit.html("shown", facts=facts([
            (visit.t(EDITABLE[name][0]), start[name]) for name in EDITABLE if name not in WAYS])),
        others=visit.html("others", facts=facts(others)) if owner else "", version=__version__,
        crontab=_crontab(visit) if owner else "",
        backup=visit.html("backup", action=visit.href("backup"), download=button(
            visit, "backup", visit.t("Download a backup"), fields={"do": "download"})) if owner else "",
        take=_take_along(visit) if visit.may("editor") else ""), 422 if errors else 200)


def _texts(visit: Visit) -> dict[str, str]:
    found = {}

    for name in EDITABLE:
        value = visit.settings["notify"].get(name) if name in WAYS else visit.settings[name]
        found[name] = "" if value is None else ("true" if value else "") if isinstance(value, bool) else str(value)

    return found


def _save(visit: Visit, start: dict[str, str], form: dict[str, str], errors: dict[str, Html]) -> None:
    changed: dict[str, Any] = {}

    for name, text in form.items():
        if text == start[name]:
            continue

        try:
            if name in WAYS:
                ways = {way: form[way].strip() for way in WAYS if form[way].strip()}
                changed["notify"] = from_text("notify", config.SETTINGS["notify"], json.dumps(ways))
            else:
                known = config.SETTINGS[name]
                changed[name] = installation.setting(name, text.strip() or ("false" if known.kind == "bool" else ""))
        except BadInput as error:
            errors[name] = error_text(visit, error)

    if not errors:
        config.set_values(visit.home, changed)
        visit.note("changed settings", " ".join(sorted(changed)))
        visit.tell("The settings are saved." if changed else "Nothing was changed.")


def _form(visit: Visit, form: dict[str, str], errors: dict[str, Html]) -> Html:
    sections = []

    for heading, names in SECTIONS:
        rows = []

        for name in names:
            text, about = EDITABLE[name]
            kind, template = "text" if name in WAYS else config.SETTINGS[name].kind, "field"

            if kind == "bool":
                template = "check"
                control = h('<input common type="checkbox" value="true"{checked}>',
                            checked=Html(" checked") if form[name] else "")
            elif name == "language":
                control = h("<select common>{options}</select>", options=options(
                    [("auto", visit.t("as the browser")), *LANGUAGES.items()], form[name]))
            else:
                control = h('<input common value="{value}" autocomplete="off"{more}>', value=form[name], more=Html(
                    ' inputmode="numeric" class="short"') if kind == "int" else "")

            rows.append(field(visit, name, visit.t(text), control, visit.t(about), errors.get(name), template))

        sections.append(visit.html("section", name=visit.t(heading), rows=rows))

    return visit.html("settings-form", sections=sections, action=visit.href("settings"), test=button(
        visit, "notify-test", visit.t("Send a test notification")) if visit.settings["notify"] else "")


def notify_test(visit: Visit) -> Response:
    """Send a notification, to see that it arrives."""
    if not visit.settings["notify"]:
        visit.tell("Nobody is to be notified: save an address first.", kind="bad")
        return visit.redirect("settings")

    problem = notify.try_send(visit.settings, "a test from the panel", {"command": "test", "status": "success"})

    if problem:
        visit.tell("The test could not be sent: {problem}", problem=problem, kind="bad")
    else:
        visit.tell("The test is on its way.")

    return visit.redirect("settings")


def _crontab(visit: Visit) -> Html:
    try:
        ours = tables.installed(visit.home)
    except WebschedulerError as error:
        return visit.html("no-crontab", why=str(error))

    if ours:
        state = [h('<code class="line">{line}</code>', line=line) for line in ours]
        act = button(visit, "crontab", visit.t("Remove the line"), "danger", {"do": "remove"})
        return visit.html("crontab", state=state, act=act)

    minutes = next((each for each in MINUTES if str(each) == visit.query.get("every")), MINUTES[0])

    try:
        line = tables.line(visit.settings, minutes)
    except WebschedulerError as error:
        return visit.html("no-crontab", why=str(error))

    choices = h(" ").join(link(visit, visit.count(each, "every minute", "every {n} minutes"), "settings", every=each)
                          if each != minutes else h("<b>{text}</b>", text=visit.count(
                              each, "every minute", "every {n} minutes")) for each in sorted(MINUTES))
    return visit.html("crontab", state=[h("<p>{choices}</p>", choices=Html(choices)),
                                        h('<code class="line">{line}</code>', line=line)],
                      act=button(visit, "crontab", visit.t("Install the line"), fields={
                          "do": "install", "every": str(minutes)}))


def crontab_page(visit: Visit) -> Response:
    """Install or remove our line of the account's crontab."""
    try:
        if visit.form.get("do") == "install":
            minutes = next((each for each in MINUTES if str(each) == visit.form.get("every")), MINUTES[0])
            tables.install(visit.settings, minutes)
            visit.note("installed the crontab line")
            visit.tell("The line is in the crontab.")
        else:
            tables.uninstall(visit.home)
            visit.note("removed the crontab line")
            visit.tell("The line is out of the crontab.")
    except WebschedulerError as error:
        visit.tell("The crontab is as it was: {problem}", problem=str(error), kind="bad")

    return visit.redirect("settings")


def backup(visit: Visit) -> Response:
    """Hand out a backup; or take one in."""
    if visit.form.get("do") == "download":
        visit.note("took a backup")
        document = {**json.loads(transfer.dumps(store.read_strictly(visit.home), True)),
                    "settings": config.read_raw(visit.home)}
        document["seal"] = _seal(visit, document)
        return _download("webscheduler-backup.json", json.dumps(document, indent=1) + "\n", "application/json")

    try:
        left_out, count = _restore(visit, visit.form.get("file", ""))
    except BadInput as error:
        visit.tell("Nothing was changed: {problem}", problem=str(error), kind="bad")
        return visit.redirect("settings")

    visit.note("restored a backup")

    if left_out:
        visit.tell("{n} tasks are restored. Left out, because the file was not made here or was changed since: {names}",
                   n=str(count), names=", ".join(left_out), kind="bad")
    else:
        visit.tell("{n} tasks are restored.", n=str(count))

    return visit.redirect("settings")


def _seal(visit: Visit, document: dict[str, Any], key: bytes | None = None) -> str:
    plain = json.dumps({name: value for name, value in document.items() if name != "seal"}, sort_keys=True)
    return session.mac(key or session.keys(visit.home)[-1], "backup", plain.encode())


def _restore(visit: Visit, text: str) -> tuple[list[str], int]:
    """Take a backup in: (what was left out, how many tasks came in). Tasks that are not in it stay."""
    rows = transfer.of_document(text, "the file").tasks
    document: dict[str, Any] = json.loads(text) or {}
    seal = str(document.get("seal", "")).encode("ascii", "replace")
    whole = any(hmac.compare_digest(_seal(visit, document, key).encode(), seal) for key in session.keys(visit.home))
    given_settings = document.get("settings")
    settings = {name: value for name, value in (given_settings if isinstance(given_settings, dict) else {}).items()
                if name in config.SETTINGS and (whole or name in EDITABLE)}

    for name, value in settings.items():
        installation.check_setting(name, value)

    left_out: list[str] = []

    def change(tasks: store.Tasks) -> int:
        files = {file_name(name): name for name in tasks}

        for name, given in rows.items():
            check_name(name)
            present = tasks.get(name, {})
            row = {**installation.new_task(visit.now, {}), **{
                key: value for key, value in given.items() if value is not None or key not in ("slug", "secret")}}
            row.update({key: present[key] for key, known in FIELDS.items() if known.by == "run" and key in present})
            load(name, row)

            if name == DUE:
                editing.entered(visit.settings, name, row)  # with a command of its own nothing else would ever run

            if files.setdefault(file_name(name), name) != name:
                raise BadInput(f"{name!r} would share its files with {files[file_name(name)]!r}", "name")

            if not whole and any(row.get(key) != present.get(key, FIELDS[key].default) for key in SHELL_FIELDS):
                left_out.append(name)
            else:
                tasks[name] = row

        return len(rows) - len(left_out)

    count = store.update(visit.home, change)

    config.set_values(visit.home, settings)
    return left_out, count


def _take_along(visit: Visit) -> Html:
    base = visit.settings["baseUrl"]
    shims = [h("<li>{link}</li>", link=link(visit, h("{name}", name=label(task)), "shim", name=name))
             for name, task in load_all(store.read(visit.home))[0].items()
             if base and task["secret"] and task["signature"] != "timed"]
    return visit.html("take-along", shims=shims, exports=[
        link(visit, h("{name}", name=text), "export", kind=kind) for kind, text in EXPORTS.items()])


def shim(visit: Visit) -> Response:
    """A PHP file that calls the task's URL."""
    task = editing.with_keys(visit.home, named(visit).name) if visit.method == "POST" else named(visit)
    base = visit.settings["baseUrl"]

    if not base or not task["slug"] or not task["secret"]:
        visit.tell("The address of this installation is not set, so no URL can be shown.", kind="bad")
        return visit.redirect("settings")

    return _download("webscheduler.php" if task.name == DUE else f"webscheduler-{file_name(task.name)}.php",
                     hosting.php_shim(base, task.name, task["slug"], task["secret"]), "application/x-httpd-php")


def export_page(visit: Visit) -> Response:
    """The tasks as another scheduler reads them."""
    tasks = list(load_all(store.read(visit.home))[0].values())
    kind = visit.query.get("kind")

    if kind == "systemd":
        text, files = systemd.as_systemd(visit.settings, tasks)
        content = str(text) + "".join(f"\n# ---- {name}\n{unit}" for name, unit in files.items())
    elif kind == "kubernetes":
        content = str(export.as_kubernetes(visit.settings, tasks, "IMAGE"))
    else:
        content = str(export.as_crontab(visit.settings, tasks))

    return Response(content, kind="text/plain")


def _download(name: str, content: str, kind: str) -> Response:
    return Response(content, kind=kind, Content_Disposition=f'attachment; filename="{name}"')


