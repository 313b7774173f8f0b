# SPDX-License-Identifier: LGPL-3.0-or-later
"""French: every message of the panel has its translation, and every translation its message."""

from __future__ import annotations

import ast
import re
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser
from tests.admin.test_settings import restore
from tests.installation import Installation
from webscheduler import vocabulary
from webscheduler.admin import (
    account,
    controls,
    form,
    keys,
    language,
    overview,
    settings,
    setup,
    show,
    tasks,
    web,
)
from webscheduler.host import findings, url_check
from webscheduler.runs import cancel
from webscheduler.schedule.describe import MESSAGES
from webscheduler.store import capabilities, history

PACKAGE = Path(language.__file__).parent
CORE = PACKAGE.parent
TABLES: list[Any] = [
    vocabulary.STATUSES, [sentence for _, sentence in vocabulary.REASONS.values()], vocabulary.TRIGGERS,
    vocabulary.STRATEGIES, show.EXITS, show.COSTS, [texts[1:] for texts in show.UNITS],
    [text for _, text in show.MENU], form.KINDS, form.UNIT_NAMES, form.WEEKDAYS, "the last",
    [[*page.SECTIONS, page.SECTIONS, [rule.sentence for rule in page.RULES.values()]] for page in (form, settings)],
    account.ROLE_NAMES, account.SIGN_IN, account.CHANGE, account.PERSON, setup.LABELS,
    keys.LABELS, [rule.sentence for rule in keys.RULES.values()],
    findings.MARKS, cancel.ELSEWHERE, controls.CHANGED, tasks.LED, overview.STATES,
    [text for _, text in overview.COLUMNS],
]  # fmt: skip
# Which arguments of these calls are messages.
CALLS = {"t": slice(1), "count": slice(1, None), "tell": slice(1), "note": slice(1), "Refused": slice(1, None),
         "moment": slice(2, 3), "page": slice(1, 2), "ask": slice(1, 3), "confirm": slice(1, 4), "link": slice(1, 2),
         "button": slice(2, 3), "table": slice(1, 3), "paragraph": slice(1, 2), "field": slice(2, 3),
         "facts": slice(1, 2)}
# Modules whose one-line errors reach the panel, and the parts of those errors that a person entered.
ERRORS = ("store/task", "store/fields", "store/chains", "editing", "schedule/slots", "schedule/cron",
          "commands/registry", "host/home", "trigger", "http", "host/doctor", "store/settings", "store/state",
          "store/keys", "zones")
RETURNED = ("store/task", "store/fields", "schedule/slots")  # these hand out what is wrong as text, too


def flat(table: Any) -> Iterator[str]:
    if isinstance(table, str):
        yield table
    else:
        for part in table.values() if isinstance(table, dict) else table:
            yield from flat(part)


def messages() -> set[str]:
    """All that is handed to the translator: literals in calls, in the templates, and in tables."""
    found = {*MESSAGES, *(text for table in TABLES for text in flat(table))}

    for file in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))

                for argument in node.args[CALLS[name]] if name in CALLS else ():
                    found |= set(literals(argument))

    for file in CORE.glob("host/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                about, message = node.args[-2:]
                assert not isinstance(message, ast.JoinedStr), "a value put into a message is never translated"
                found |= {*literals(message), *literals(about)}

    for template in web.templates().values():
        found |= {part.partition("]]")[0] for part in template.split("[[")[1:]}

    return found - {""}


def literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)
    elif isinstance(node, ast.List):  # the columns of a table, or the names of facts beside their values
        for each in node.elts:
            each = each.body if isinstance(each, ast.IfExp) else each
            yield from literals(each.elts[0] if isinstance(each, ast.Tuple) else each)
    elif isinstance(node, ast.Starred):
        yield from literals(node.value)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_the_catalogue_is_complete() -> None:
    """Nothing is missing, and nothing is left over."""
    known = set(language.catalogue("fr")["messages"])
    assert sorted(messages() - known) == []
    assert sorted(known - messages()) == []


def test_translations_have_the_same_places() -> None:
    """A value that is not put in, or one that nobody gives, would be an error on a page."""
    for source, target in language.catalogue("fr")["messages"].items():
        assert placeholders(source) == placeholders(target), source
        assert target.strip(), source


SHELL = re.compile(r"`webscheduler|\bchmod\b|\bchown\b|\bpip\b|\bsudo\b|\biconv\b")
# What else raises errors that the panel shows.
BELOW = [*(file for room in ("store", "runs", "commands", "schedule") for file in (CORE / room).glob("*.py")),
         *(CORE / f"{name}.py" for name in ("editing", "trigger", "times", "zones", "interchange/crontab"))]


@pytest.mark.parametrize("tongue", ["en", "fr"])
def test_no_remedy_needs_a_shell(tongue: str) -> None:
    """Many people have FTP and a browser alone, so what `doctor` advises is said in other words: by a button, a page or
    an upload."""
    for message in messages():
        assert not SHELL.search(language.translate(tongue, message)), message

    for text in sorted({*advice(), *(row["cause"] for row in url_check.CAUSES.values())}):
        assert not SHELL.search(language.error(tongue, text.replace("{}", "7"))), text


def advice() -> Iterator[str]:
    """One-line errors that name a command of a shell, as patterns."""
    for file in BELOW:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args and SHELL.search(text := pattern(node.args[0])) and getattr(
                    node.func, "id", "") in ("BadInput", "Busy", "NoZoneData", "Unusable"):
                yield text


def test_english_in_other_words_has_the_same_places() -> None:
    known = messages()

    for source, target in language.catalogue("en")["messages"].items():
        assert source in known
        assert placeholders(target) <= placeholders(source), source


@pytest.mark.parametrize("name", ["en", "fr"])
def test_the_panel_calls_the_mail_server_as_its_form_does(name: str) -> None:
    error = "this host has no sendmail: use a mail server (setting `smtp`) or a webhook"
    assert error in Path(CORE, "runs/channels.py").read_text()
    assert language.translate(name, "Mail server") in language.error(name, error)


def raised() -> Iterator[str]:
    """What may be wrong with what somebody entered, as patterns: `{}` for each value."""
    for name in ERRORS:
        for node in ast.walk(ast.parse((CORE / f"{name}.py").read_text())):
            text = ""

            kind = getattr(node.func, "id", "") if isinstance(node, ast.Call) and node.args else ""

            if kind in ("BadInput", "CronError", "NoZoneData") or (kind == "Unusable" and name in (
                    "store/settings", "store/state")):
                text = pattern(node.args[-1 if kind == "CronError" else 0])  # type: ignore[attr-defined]
            elif isinstance(node, ast.Return) and name in RETURNED and node.value:
                text = pattern(node.value.orelse if isinstance(node.value, ast.IfExp) else node.value)

            if text.count(" ") > 1 and ("`webscheduler" not in text or kind == "Unusable"):
                yield text

    yield from ("minute: '99' is not within 0-59", "no closing quotation", "there is no signature")


@pytest.mark.parametrize("text", [*(row["cause"] for row in url_check.CAUSES.values()),
                                  "no answer, timed out", "HTTP 301 to https://example.org/",
                                  "the host gave no process", "killed without a trace",
                                  "only the job was ended, by signal 9", "failed, exit code 1"])  # fmt: skip
def test_what_a_finding_says_of_a_fault_is_translated(text: str) -> None:
    """Likely causes, what came back, and how a probe ended are parts of messages; they are found by their pattern."""
    assert language.error("fr", text) != text


def pattern(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""

    if isinstance(node, ast.JoinedStr):
        return "".join("{}" if isinstance(part, ast.FormattedValue) else pattern(part) for part in node.values)

    return ""


@pytest.mark.parametrize("text", [" is not a number" * 1500, "no answer, " * 1500, "task x: " * 1500])
def test_an_error_in_an_error_has_an_end(text: str) -> None:
    """What a module or a server said may hold our own words, however often."""
    assert language.error("fr", text) != text


@pytest.mark.parametrize("text", sorted(set(raised())))
def test_errors_beside_fields_are_translated(text: str) -> None:
    """An error that the core says in English is found again by its pattern."""
    filled = ("field: " + text[4:] if text.startswith("{}: ") else text).replace("{}", "7")
    known, _, rest = filled.partition(": ")
    said = rest if known.isidentifier() and rest else filled
    assert language.error("fr", said) != said


@pytest.mark.parametrize(("accepted", "expected"), [
    ("fr", "fr"), ("fr-CA,fr;q=0.9,en;q=0.8", "fr"), ("de,en;q=0.3,fr;q=0.5", "fr"), ("de", "en"), ("", "en"),
    ("fr;q=0,en", "en"), ("en-GB,fr", "en"), (";;q=x,,fr;q=1", "fr"), ("x" * 10000, "en")])
def test_the_browser_chooses(accepted: str, expected: str) -> None:
    """By the weights of Accept-Language; the setting wins over it."""
    assert language.choose("auto", accepted) == expected
    assert language.choose("en", accepted) == "en"


def test_french_lists_first_days_and_sizes(inhabited: Installation) -> None:
    """The last of a list has its word, the first day of a month is no number, and sizes have French units."""
    inhabited.configure(language="fr")
    entry = history.entry(run="home-1", status="success", duration=0.34, cpuSeconds=1.5, maxRssBytes=3 << 19)
    history.append(str(inhabited.home), "comma", entry)
    browser = Browser(inhabited)
    browser.sign_in()
    said = {"0 9,18 1 * *": "Le 1er du mois à 09:00 et 18:00",
            "0 3 * * 1,3,5": "Chaque semaine, lundi, mercredi et vendredi à 03:00",
            "0 3 1,11 * *": "Le 1er et 11 du mois à 03:00", "0 3 1 1,7 *": "Le 1er janvier et juillet à 03:00"}

    for number, expression in enumerate(said):
        inhabited.add(f"task-{number}", expression=expression)

    page = browser.get("")
    assert [text for text in said.values() if text not in page.text] == []
    facts: Any = {"name": "comma", "strategy": "fork", "server": "wsgi/x"}
    capabilities.record_end(str(inhabited.home), facts, 12.5, time.time())
    assert re.search(r"\d,\d Gio", browser.get("diagnostics").text)
    assert "une exécution de 12,5 s a survécu" in browser.page.text
    assert "Aucune exécution pour l’instant" in browser.get("history")
    inhabited.add("comma")
    run = browser.get("run", name="comma", run="home-1").text
    assert [text for text in ("0,34 s", "1,5 s", "1,5 Mio") if text not in run] == []
    assert "Aucune exécution trouvée" in browser.get("history", status="problems")


def test_pages_are_french(inhabited: Installation) -> None:
    """Words of a schedule, of statuses and of errors, and the page says what language it is in."""
    inhabited.add("tâche", argv=["/bin/true"], expression="0 3 * * *")
    browser = Browser(inhabited, HTTP_ACCEPT_LANGUAGE="fr-FR,fr;q=0.9,en;q=0.1")
    page = browser.sign_in()
    assert '<html lang="fr">' in page
    assert "Tous les jours à 03:00" in page
    browser.get("edit", name="tâche")
    page = browser.submit("edit", priority="viel", do="save")
    assert page.status == 422
    assert "doit être un nombre entier" in page


@pytest.mark.parametrize(("content", "said"), [
    ('{"t": 1}', "le fichier doit contenir un objet"), ("{", "le fichier n’est pas du JSON"),
    ('{"t": {"command": "hello", "priority": "x"}}', "priority: doit être un nombre entier")])
def test_what_is_wrong_with_a_backup_is_french(inhabited: Installation, content: str, said: str) -> None:
    """The message after the action, and what is wrong within it."""
    browser = Browser(inhabited, HTTP_ACCEPT_LANGUAGE="fr")
    browser.sign_in()
    page = restore(browser, content)
    assert "Rien n’a changé" in page
    assert said in page
