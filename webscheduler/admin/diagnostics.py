# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pages about the host: what is known of it, a check, and a probe.

The rules: nothing secret is shown; of the server's variables editors see those on a list. The browser makes the probe's
calls, because a server with one worker cannot call itself; without JavaScript the person opens the links.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import Any

from .. import __version__
from ..commands import registry
from ..errors import BadInput
from ..fetching import Answer
from ..host import doctor, probe, url_check
from ..host.findings import ERROR, MARKS, MOMENTS, OK, WARNING, Finding
from ..http import Response
from ..store import capabilities, history, history_reading, state
from ..store.refusals import read_refusals
from ..times import format_time
from ..vocabulary import RUNNING, STRATEGIES
from . import language, scripts
from .show import ask, badge, button, decimal, facts, link, moment, page, paragraph, roughly, table
from .web import Html, Visit, error_text, escape, h

SHOWN = re.compile(
    "SERVER_.*|REQUEST_(METHOD|SCHEME|URI)|SCRIPT_.*|PATH_INFO|PATH_TRANSLATED|DOCUMENT_ROOT|CONTEXT_.*|"
    "REMOTE_(ADDR|PORT)|HTTPS|GATEWAY_INTERFACE|CONTENT_(TYPE|LENGTH)|HTTP_(HOST|USER_AGENT|ACCEPT|ACCEPT_LANGUAGE|X_FORWARDED_.*|"
    "X_REAL_IP|FORWARDED|VIA|SEC_FETCH_.*)|wsgi\\.(url_scheme|multi.*|run_once|version)|mod_wsgi\\.version|uwsgi\\.version")
AUDIT_SHOWN = 30
BADGES = {ERROR: "failed", WARNING: "timeout", OK: "success"}


def index(visit: Visit) -> Response:
    """What is known of the host, and the calls that were refused."""
    kinds = sorted({visit.server, *capabilities.kinds(visit.home)}, key=lambda kind: (kind != visit.server, kind))
    again = button(visit, "probe", "Probe again", fields={"do": "start"}) if visit.may("editor") else ""
    variables = _variables(visit) if visit.may("editor") else ""
    tasks = state.read(visit.home)
    found = [each for each in (*doctor.of_health(visit.settings, tasks, visit.now), *doctor.of_tasks(
        visit.settings, tasks, visit.now))
             if visit.may("editor") or each.about != "notify"]  # its errors may name a secret URL
    check_button = button(visit, "check", "Check the installation") if visit.may("editor") else ""
    return page(visit, "Diagnostics", visit.html(
        "diagnostics", again=again, check=check_button, host=facts(visit, _host(visit)), refusals=_refusals(visit),
        strategies=[_strategies(visit, kind) for kind in kinds], variables=variables,
        findings=_findings(visit, found), scripts=scripts.refused(visit),
        audit=_audit(visit) if visit.may("owner") else ""))


def _host(visit: Visit) -> list[tuple[Html, object]]:
    space = shutil.disk_usage(visit.home)
    return [(visit.t("Server"), visit.server),
            (visit.t("Version"), f"webscheduler {__version__}, Python {sys.version.split()[0]}"),
            (visit.t("Python that runs tasks"), h("<code>{path}</code>", path=registry.interpreter(visit.settings))),
            (visit.t("Home"), h("<code>{home}</code>", home=visit.home)),
            (visit.t("Clock"), moment(visit, format_time(visit.now), exact=True)),
            (visit.t("Free space"), visit.t("{n} GiB", n=decimal(visit, f"{space.free / 2**30:.1f}")))]


def check(visit: Visit) -> Response:
    """What `doctor` finds, of its calls only whether a web server shows the home. May take some seconds; records dead
    runs."""
    visit.note("checked the installation")
    found = doctor.examine(visit.home, visit.now, visit.environ)
    return page(visit, "Check", visit.html(
        "checked", rows=_findings(visit, [*found, url_check.look(
            visit.home, visit.settings["baseUrl"])]), back=visit.href("diagnostics"),
        scripts=scripts.refused(visit), again=button(visit, "check", "Check again")))


def _findings(visit: Visit, found: list[Finding]) -> list[Html]:
    """Errors first, without refused scripts where those are listed with their buttons."""
    listed = registry.refused(visit.home) if visit.may("editor") else ()
    return [visit.html("finding", state=visit.t(MARKS[each.state]), kind=BADGES[each.state],
                       about=visit.t(each.about), text=_said(visit, each.message, each.values))
            for each in sorted(found, key=lambda each: list(BADGES).index(each.state))
            if each.values.get("what") not in listed]


def _said(visit: Visit, message: str, values: dict[str, Any]) -> Html:
    """A finding in the visitor's language."""
    return visit.t(message, **{
        name: moment(visit, value, exact=True) if name in MOMENTS else decimal(visit, str(value)) if name in (
            "n", "seconds") else language.error(visit.language, str(value))
        for name, value in values.items()})


def _strategies(visit: Visit, kind: str) -> Html:
    limit = visit.settings["defaultTimeout"]
    rows = capabilities.read(visit.home, kind, visit.now)
    elected = capabilities.order(capabilities.expect(kind, rows), "auto", limit)[0]
    said: dict[str, list[Html]] = {}
    cells = []

    for each in doctor.explain(kind, rows, limit):
        said.setdefault(each.about, []).append(paragraph(visit, _said(visit, each.message, each.values)))

    for strategy in STRATEGIES:
        reach = capabilities.survives(kind, strategy, rows)
        carries = visit.t("any length") if reach == capabilities.ANY else visit.t("not used") if reach <= 0 else \
            roughly(visit, reach)
        mark = h(' <span class="badge success">{text}</span>', text=visit.t("selected")) if strategy == elected else ""
        cells.append(h(
            "<tr><td>{name}{mark}<br><span class=\"sub\">{about}</span></td><td>{carries}</td><td>{seen}</td></tr>",
            name=strategy, mark=mark, about=visit.t(STRATEGIES[strategy]), carries=carries, seen=said[strategy]))

    return h("<h3>{kind}</h3>{why}{table}", kind=kind, why=said["server"],
             table=table(visit, escape(kind), ["Strategy", "Longest run", "Observed"], cells))


def _refusals(visit: Visit) -> Html:
    rows = [h("<tr><td>{when}</td><td>{ip}</td><td>{method}</td><td>{problem}</td></tr>", ip=entry.get("ip"),
              when=moment(visit, entry.get("at")), method=entry.get("method"),
              problem=language.error(visit.language, str(entry.get("problem"))))
            for entry in read_refusals(visit.home)]
    return table(visit, "Refused calls", ["Time", "Address", "Method", "Problem"], rows) if rows else paragraph(
        visit, "No call was refused.", "empty")


def _variables(visit: Visit) -> Html:
    rows = [(escape(name), h("<code>{value}</code>", value=str(value)[:300]))
            for name, value in sorted(visit.environ.items()) if SHOWN.fullmatch(name)]
    return visit.html("variables", facts=facts(visit, rows))


def _audit(visit: Visit) -> Html:
    try:
        newest = history_reading.tail(os.path.join(visit.home, "audit.jsonl"), 65536)[0].split(b"\n")
    except OSError:
        newest = []

    entries: list[Any] = [entry for line in newest[-AUDIT_SHOWN - 1:] if (entry := history.parse(line))]
    rows = []

    for entry in reversed(entries):
        who = str(entry.get("who") or "–")
        rows.append(h("<tr><td>{when}</td><td>{who}</td><td>{ip}</td><td>{did} <b>{to}</b></td></tr>",
                      when=moment(visit, entry.get("at")), who=who if entry.get("ip") else visit.said(who),
                      ip=entry.get("ip"), did=visit.t(str(entry.get("did"))), to=entry.get("to")))

    return visit.html("audit", table=table(visit, "Who did what", ["Time", "Who", "Address", "What"], rows))


def probing(visit: Visit) -> Response:
    """Start a probe, or show its results together with what the browser saw of each call."""
    if visit.form.get("do") == "collect":
        return _collect(visit)

    if visit.method != "POST":
        return visit.redirect("diagnostics")

    try:
        calls = probe.start(visit.settings, "", probe.SECONDS, visit.now)
    except BadInput as error:
        return ask(visit, "Probe", error_text(visit, error), link(visit, "Diagnostics", "diagnostics"))

    visit.note("probed")
    return _probe_page(visit, {call["strategy"]: _address(visit, call["url"]) for call in calls}, {}, "")


def _address(visit: Visit, url: str) -> str:
    """The probe's URL on this site, in the form that this host understands."""
    return re.sub(r"^/run/([0-9a-f]+)\?", rf"{visit.mount}?task=\1&", url) if visit.by_query else (
        visit.mount.rstrip("/") + url)


def _probe_page(visit: Visit, calls: dict[str, str], seen: dict[str, str], note: object) -> Response:
    rows = [visit.html("call", strategy=strategy, value=seen.get(strategy, ""), link=h(
        '<a href="{url}" target="_blank" rel="noreferrer" data-call="">{name}</a>', url=url, name=strategy)
        if url else strategy) for strategy, url in calls.items()]
    return page(visit, "Probe", visit.html(
        "probe", calls=rows, seconds=probe.SECONDS, action=visit.href("probe"), note=note, about=visit.t(
            "Each call starts a job that writes a heartbeat for {n} seconds. The jobs that reach their end show which "
            "strategies work on this host.", n=probe.SECONDS)))


def _collect(visit: Visit) -> Response:
    seen = {strategy: visit.form.get(strategy, "") for strategy in STRATEGIES}
    answers = {}

    for strategy, text in seen.items():
        found = re.fullmatch(r"(\d{1,3}):(\d{1,4}(?:\.\d{1,3})?)", text, re.ASCII)
        answers[strategy] = Answer(int(found[1]), float(found[2])) if found else Answer()

    try:
        if probe.collect(visit.home, answers, visit.now) is None:
            return _probe_page(visit, dict.fromkeys(seen, ""), seen, visit.html(
                "still-running", badge=badge(visit, RUNNING)))

        visit.tell("The probe has ended; its results are below.")
    except BadInput as error:
        visit.tell("The probe has no result. {problem}", kind="bad", problem=str(error))

    return visit.redirect("diagnostics")
