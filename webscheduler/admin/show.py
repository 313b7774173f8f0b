# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parts that pages share: the frame, status, times, pictures, output.

The rules: a status is a word, never a colour alone. A time has its zone, and what of
it is not shown, the date or how long ago it was, as its title, which is seen at the mouse and at the focus. A
picture has a text that says the same. Output is text, never markup; its colours are classes of the style sheet, since
the pages' policy forbids style attributes.
"""

from __future__ import annotations

import html
import re
from datetime import datetime
from itertools import accumulate

from ..runs.notifications import failing
from ..schedule.describe import describe, render
from ..store import history_view
from ..times import parse_time, time_zone
from ..vocabulary import REASONS, STATUSES, SUCCESS
from . import language
from .language import translate
from .web import FILES, Html, Visit, escape, h, respond, version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..http import Response
    from ..shapes import Entry

EXITS = {
    126: "found, but not executable", 127: "program not found", 129: "hang-up (SIGHUP)",
    130: "interrupted (SIGINT)", 134: "aborted (SIGABRT)", 135: "bus error (SIGBUS)", 136: "arithmetic error (SIGFPE)",
    137: "killed (SIGKILL), probably out of memory", 139: "crashed (SIGSEGV)", 141: "broken pipe (SIGPIPE)",
    143: "terminated (SIGTERM)", 152: "CPU time limit of the host (SIGXCPU)",
}
UNITS = ((86400, "one day", "{n} days"), (3600, "one hour", "{n} hours"), (60, "one minute", "{n} minutes"),
         (1, "one second", "{n} seconds"))
# What a run took, by its key in history.
COSTS = {"cpuSeconds": "Processor time", "maxRssBytes": "Memory at most"}
FEW = 40  # places in a chart, at least, or a few bars would be as wide as the page
MENU = (("", "Tasks"), ("history", "History"), ("diagnostics", "Diagnostics"), ("settings", "Settings"))
BELOW = {"run": "history", "clear": "history", "check": "diagnostics", "probe": "diagnostics", "crontab": "settings",
         "update": "settings", "account": "account", "people": "account",
         "keys": "account"}


def page(visit: Visit, title: str, body: Html, status: int = 200, head: Html | str = "") -> Response:
    links = {name: visit.href(name, v=version(name)) for name in FILES}
    return respond(visit.html(
        "page", title=visit.said(title), name=visit.settings["name"], home=visit.href(""), head=head,
        menu=_menu(visit), notice=_notice(visit), body=body, **links) + "\n", status)


def _menu(visit: Visit) -> Html:
    if visit.person is None:
        return Html("")

    def entry(to: str, text: object) -> Html:
        here = visit.page if visit.page in dict(MENU) else BELOW.get(visit.page, "")
        return h('<a href="{href}"{current}>{text}</a>', href=visit.href(to), text=text,
                 current=Html(' aria-current="page"') if to == here else "")

    leave = "" if visit.embedded else button(visit, "sign-out", "Sign out", "quiet")
    return visit.html("menu", links=[h("<li>{link}</li>", link=entry(to, visit.t(text))) for to, text in MENU],
                      account=entry("account", visit.person.name), leave=leave)


def _notice(visit: Visit) -> Html:
    if "message" not in visit.notice:
        return Html("")

    more = visit.notice.get("more")
    return h('<p class="notice {kind}" role="status">{text}{more}</p>\n', kind=visit.notice.get("kind", "good"),
             text=visit.t(**visit.notice), more=h("<br>{more}", more=more) if more else "")


def paragraph(visit: Visit, text: str, kind: str = "") -> Html:
    """A paragraph; kind: class of the style sheet."""
    return h('<p{kind}>{text}</p>', text=visit.said(text), kind=h(' class="{kind}"', kind=kind) if kind else "")


def undelivered(visit: Visit) -> list[Html]:
    """Which notifications do not arrive, and since when; not for viewers, since an error may name a secret URL."""
    return [paragraph(visit, visit.t(
        "Nothing has arrived by {channel} since {when}: {error}", channel=channel, when=moment(
            visit, found["since"], exact=True), error=language.error(visit.language, found["error"])), "warning")
        for channel, found in (failing(visit.settings) if visit.may("editor") else {}).items()]


def warning(text: Html | None) -> Html:
    return h('<p class="notice bad" role="alert">{text}</p>', text=text) if text else Html("")


def plain(visit: Visit) -> Html:
    """A warning where people type passwords that would travel without encryption."""
    said = str(visit.environ.get("HTTP_X_FORWARDED_PROTO", "")).strip().lower()  # from anybody: it hides a warning

    if visit.secure or said == "https" or not visit.address or visit.address.startswith(("127.", "::1")):
        return Html("")

    return paragraph(visit, "This page came over http, without encryption: others on the network can read passwords "
                     "and trigger URLs. Use https if your host offers it.", "warning")


def button(visit: Visit, page: str, text: str, /, kind: str = "", fields: dict[str, str] | None = None,
           **query: object) -> Html:
    """A form with one button that changes something; forms are never nested."""
    return visit.html("button", href=visit.href(page, **query), text=visit.said(text), kind=kind, fields=[
        h('<input type="hidden" name="{name}" value="{value}">', name=name, value=value)
        for name, value in (fields or {}).items()])


def link(visit: Visit, text: str, page: str, kind: str = "", /, **query: object) -> Html:
    """A link that looks like a button. A `kind` by name is of the query."""
    return h('<a class="{kind}" href="{href}">{text}</a>', kind=f"button {kind}".strip(), text=visit.said(text),
             href=visit.href(page, **query))


def ask(visit: Visit, title: str, text: str, buttons: object, status: int = 200) -> Response:
    return page(visit, title, visit.html(
        "ask", title=visit.said(title), text=visit.said(text), buttons=buttons), status)


def confirm(visit: Visit, title: str, text: str, label: str, back: str, name: str) -> Response:
    """Ask before this page does to `name` what cannot be undone. back: the page that `Cancel` leads to."""
    return ask(visit, title, text, [button(visit, visit.page, label, "danger", name=name),
                                    link(visit, "Cancel", back, name=name)])


def facts(visit: Visit, pairs: Sequence[tuple[str, object] | None]) -> list[Html]:
    """Names and values for a <dl>."""
    return [h("<div><dt>{name}</dt><dd>{value}</dd></div>", name=visit.said(pair[0]), value=pair[1])
            for pair in pairs if pair]


def options(pairs: Sequence[tuple[str, object]], chosen: object) -> list[Html]:
    """The <option>s of a <select>, from pairs of value and text."""
    return [h('<option value="{value}"{selected}>{text}</option>', value=value, text=text,
              selected=Html(" selected") if value == (chosen or "") else "") for value, text in pairs]


def table(visit: Visit, label: str, names: Sequence[str], rows: Sequence[Html]) -> Html:
    """A table that scrolls sideways where it does not fit."""
    return visit.html("table", label=visit.said(label), rows=rows,
                      head=[h('<th scope="col">{name}</th>', name=visit.said(name)) for name in names])


def field(visit: Visit, name: str, label: str, control: str, help_text: Html | None = None,
          problem: Html | None = None, template: str = "field") -> Html:
    """A control with its label, its help and its error. control: HTML whose tag has ` common` where attributes go."""
    described = [f"{name}-{kind}" for kind, there in (("help", help_text), ("error", problem)) if there]
    common = h(' id="{name}" name="{name}"{described}{invalid}', name=name, described=h(
        ' aria-describedby="{ids}"', ids=" ".join(described)) if described else "",
        invalid=Html(' aria-invalid="true"') if problem else "")
    parts = {kind: h('<p class="{kind}" id="{name}-{kind}">{text}</p>', kind=kind, name=name, text=text) if text else ""
             for kind, text in (("help", help_text), ("error", problem))}
    control = Html(control.replace(" common", common, 1))
    return visit.html(template, name=name, label=visit.said(label), control=control, **parts)


def moment(visit: Visit, when: str | None, absent: str = "never", exact: bool = False, linked: bool = False) -> Html:
    """An instant (ISO 8601) as a <time>: how long ago, with the time in the installation's zone as its title, or the
    other way round, as the setting `times` says; or that time, to the second, if `exact`. linked: it is in a link, so
    it needs no focus of its own."""
    if not when:
        return visit.t(absent)

    try:
        seconds = parse_time(when)
        local = datetime.fromtimestamp(seconds, time_zone(visit.settings["timezone"]))
    except (ValueError, OverflowError, OSError):
        return escape(when)

    ago: str = relative(visit, seconds)
    whole = local.strftime("%Y-%m-%d %H:%M:%S %Z" if exact else "%Y-%m-%d %H:%M %Z")
    text, title = (whole, ago) if exact else (ago, whole)

    if not exact and visit.settings["times"] == "absolute":
        text, title = local.strftime("%Y-%m-%d %H:%M"), f"{ago} · {whole}"

    return h('<time datetime="{iso}" title="{title}"{focus}>{text}</time>', iso=local.isoformat(timespec="seconds"),
             text=text, title=html.unescape(title), focus="" if linked else Html(' tabindex="0"'))


def relative(visit: Visit, seconds: float) -> Html:
    """How long ago an instant was, or how soon it comes."""
    gap = seconds - visit.now

    if abs(gap) < 1:
        return visit.t("now")

    return visit.t("in {time}" if gap > 0 else "{time} ago", time=roughly(visit, abs(gap), gap > 0))


def roughly(visit: Visit, seconds: float, ahead: bool = False) -> Html:
    """A length of time in its largest unit, rounded down, or to the nearest if it is ahead: a key that was just made
    for 90 days does not end in 89. Only for reading: what is saved is exact."""
    size, one, several = next((row for row in UNITS if seconds >= row[0]), UNITS[-1])
    return visit.count(int(seconds / size + ahead / 2), one, several)


def decimal(visit: Visit, number: str) -> str:
    """A number with a point as the visitor's language writes it."""
    return number.replace(".", visit.t("."))


def duration(visit: Visit, seconds: float | None) -> str:
    """How long a run took: 0.34 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "–"

    if seconds < 10:
        return decimal(visit, f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s")

    whole = int(seconds)
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    return " ".join(f"{number} {unit}" for unit, number in units if number) or "0 s"


def in_words(visit: Visit, row: dict[str, Any]) -> str:
    """A task's schedule in words, or its expression where no words are exact."""
    if not row.get("expression") and not row.get("intervalSeconds"):
        return html.unescape(visit.t("Only when called"))

    message, values = describe(row.get("expression"), row.get("intervalSeconds"))
    return render(message, values, lambda text: translate(visit.language, text))


def schedule(visit: Visit, row: dict[str, Any]) -> Html:
    words, raw = in_words(visit, row), row.get("expression")
    return h("{words} {raw}", words=words if words != raw else "",
             raw=h('<code class="raw">{raw}</code>', raw=raw) if raw else "")


def badge(visit: Visit, status: str | None) -> Html:
    text = STATUSES.get(status or "", "Never ran" if not status else "Unknown")
    return h('<span class="badge {kind}">{text}</span>', kind=status if status in STATUSES else "none",
             text=visit.t(text))


def outcome(visit: Visit, entry: Entry) -> Html:
    """Status, reason, and exit status in words."""
    reason = entry.get("reason")
    texts = visit.t(REASONS[reason][1]) if reason in REASONS else reason, exit_words(visit, entry.get("exitCode"))
    return Html(" ".join([badge(visit, entry.get("status")), *(h(
        "<span>{text}</span>", text=text) for text in texts if text)]))


def exit_words(visit: Visit, code: object) -> Html:
    """An exit status in words; nothing for 0."""
    if not isinstance(code, int) or code == 0:
        return Html("")

    return visit.t("exit status {code}: {words}", code=code, words=visit.t(EXITS[code])) if code in EXITS else visit.t(
        "exit status {code}", code=code)


def strip(visit: Visit, entries: Sequence[Entry]) -> Html:
    """The last runs as bars, the newest on the right. A higher bar is a longer run."""
    runs = [entry for entry in entries if entry.get("run")][:20][::-1]

    if not runs:
        return Html("")

    text = visit.t("Runs that succeeded: {good} of the last {n}", good=_good(runs), n=len(runs))
    return visit.html("strip", text=text, bars=_bars(runs, 18), width=len(runs) * 7)


def _good(runs: Sequence[Entry]) -> int:
    return sum(entry.get("status") == SUCCESS for entry in runs)


def _bars(runs: Sequence[Entry], tall: int) -> list[Html]:
    """A bar for each run, 7 units further right, and as high as it took long: at most `tall` units."""
    longest = max(float(entry.get("duration") or 0) for entry in runs) or 1.0
    paths: dict[str, str] = {}

    for place, entry in enumerate(runs):
        height = 4 + (tall - 4) * (float(entry.get("duration") or 0) / longest)
        kind = str(entry.get("status"))
        kind = kind if kind in STATUSES else "none"
        paths[kind] = paths.get(kind, "") + f"M{place * 7} {tall}v-{height:.1f}h5V{tall}z"

    return [h('<path class="bar {kind}" d="{path}"/>', kind=kind, path=path) for kind, path in paths.items()]


def chart(visit: Visit, entries: Sequence[Entry]) -> Html:
    """How long the last runs took, the newest on the right, and how many of them ended how; with texts that say the
    same, since a picture as narrow as a phone has no room for them."""
    runs = [entry for entry in entries if entry.get("run")][::-1]

    if len(runs) < 2:
        return Html("")

    took = sorted(float(entry.get("duration") or 0) for entry in runs)
    kinds = [str(entry.get("status")) for entry in runs]
    counts = [(status, kinds.count(status)) for status in STATUSES if status in kinds]
    places = accumulate((count for _, count in counts), initial=0)
    return visit.html(
        "chart", curves=_curves(visit, runs), bars=_bars(runs, 60), width=max(len(runs), FEW) * 7 - 2, n=len(runs),
        first=moment(visit, runs[0].get("startedAt")), last=moment(visit, runs[-1].get("startedAt")),
        took=visit.t("Duration of the last {n} runs: {least} to {most}, half of them at most {middle}.", n=len(runs),
                     least=duration(visit, took[0]), most=duration(visit, took[-1]),
                     middle=duration(visit, took[(len(took) - 1) // 2])),
        rate=visit.t("Runs that succeeded: {good} of the last {n} ({rate}%)", good=_good(runs), n=len(runs),
                     rate=100 * _good(runs) // len(runs)),
        shares=[h('<path class="bar {kind}" d="M{at} 0h{n}v1h-{n}z"/>', kind=status, at=at, n=count)
                for at, (status, count) in zip(places, counts)],
        ends=[h("<li>{badge} {n}</li>", badge=badge(visit, status), n=count) for status, count in counts])


def amount(visit: Visit, key: str, value: float) -> Html | str:
    """What a run took, in its unit."""
    if key == "cpuSeconds":
        return duration(visit, value)

    return visit.t("{n} MiB", n=decimal(visit, f"{value / 2**20:.1f}"))


def _curves(visit: Visit, runs: Sequence[Entry]) -> list[Html]:
    """A line for each of COSTS, as wide as the bars above, and a text that says the same."""
    found = []

    for key, title in COSTS.items():
        known = [(place, value) for place, entry in enumerate(runs)
                 if (value := history_view.cost(entry, key)) is not None]
        sizes = sorted(value for _, value in known)

        if len(sizes) > 1:
            text = visit.t("{what} of the last {n} runs: {least} to {most}, half of them at most {middle}.",
                           what=visit.t(title), n=len(sizes), least=amount(visit, key, sizes[0]),
                           most=amount(visit, key, sizes[-1]), middle=amount(visit, key, sizes[(len(sizes) - 1) // 2]))
            path = "L".join(f"{place * 7 + 2} {58 - 54 * value / (sizes[-1] or 1.0):.1f}" for place, value in known)
            found.append(visit.html("curve", key=key, text=text, path="M" + path, width=max(len(runs), FEW) * 7 - 2))

    return found


def timeline(visit: Visit, rows: Sequence[tuple[str, Sequence[float], str]]) -> Html:
    """A picture of the next 24 hours. rows: title, starts in Unix seconds and schedule in words of each task."""
    place = time_zone(visit.settings["timezone"])
    height = 22 + 20 * len(rows)
    marks, text, lines = [], [], []

    for hours in range(0, 25, 3):
        x = 180 + hours * 33
        hour = datetime.fromtimestamp(visit.now + hours * 3600, place).strftime("%H:%M")
        anchor = "end" if hours == 24 else "middle" if hours else "start"
        marks.append(visit.html("hour", x=x, height=height, hour=hour, anchor=anchor))

    for number, (title, starts, words) in enumerate(rows):
        y = 34 + number * 20
        path = "".join(f"M{x} {y - 6}h4v12h-4z" for x in sorted({
            int(180 + (start - visit.now) / 86400 * 792) for start in starts}))
        lines.append(visit.html("starts", base=y + 4, title=title if len(title) < 25 else title[:24] + "…", path=path))
        first = datetime.fromtimestamp(starts[0], place).strftime("%H:%M")
        text.append(f"{title}: {first} ({words})")

    return visit.html("day", height=height, marks=marks, lines=lines, text="; ".join(text))


COLOURS = {3: ("text", "c", 0), 9: ("text", "c", 8), 4: ("ground", "b", 0), 10: ("ground", "b", 8)}
ENDS = {22: ("s1", "s2"), 23: ("s3",), 24: ("s4",), 39: ("text",), 49: ("ground",)}
SEQUENCE = re.compile(r"\x1b(?:\[([0-9;:]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def output(text: str) -> Html:
    """Output of a command: ANSI colours (ECMA-48, SGR) become classes, other controls are shown or dropped."""
    parts: list[Html] = []
    state: dict[str, str] = {}
    position = 0

    def put(piece: str) -> None:
        if piece:
            piece = piece.replace("\r\n", "\n")
            classes = " ".join(state.values())
            parts.append(h('<span class="{classes}">{text}</span>', classes=classes, text=piece)
                         if classes else escape(piece))

    for found in SEQUENCE.finditer(text):
        put(text[position:found.start()])
        position = found.end()

        if found[2] == "m":
            _colour(state, [int(number or 0) for number in re.split("[;:]", found[1])[:32] if len(number) < 4])

    put(text[position:])
    return Html("".join(parts))


def _colour(state: dict[str, str], numbers: list[int]) -> None:
    """Change the classes by SGR numbers: bold, faint, italic, underlined, 16 colours of text and background."""
    while numbers:
        number = numbers.pop(0)
        kind, sign, bright = COLOURS.get(number // 10, ("", "", 0))

        if number == 0:
            state.clear()
        elif number in (38, 48):
            del numbers[: 2 if numbers[:1] == [5] else 4]  # 256 or 24-bit colours have no class
        elif number in ENDS:
            for old in ENDS[number]:
                state.pop(old, None)
        elif number in (1, 2, 3, 4):
            state[f"s{number}"] = f"a{number}"
        elif kind and number % 10 < 8:
            state[kind] = f"{sign}{number % 10 + bright}"
