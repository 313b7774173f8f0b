# SPDX-License-Identifier: LGPL-3.0-or-later
"""Running by hand, watching, history in parts, cancelling, clearing; and what a hostile command prints."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.client import Browser
from tests.installation import Installation, until, waits_for
from webscheduler.admin import show
from webscheduler.store import history, history_reading, history_view
from webscheduler.times import format_time


def text_of(page: Any) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page.text))


def entry(number: int, ended: float, **more: Any) -> dict[str, Any]:
    return {"command": "task", "startedAt": format_time(ended - 1), "finishedAt": format_time(ended), "duration": 1.0,
            "status": "success", "exitCode": 0, "output": f"line {number}\n", "errorOutput": "", "run": f"r{number}",
            "reason": None, "strategy": "fork", "trigger": "url", "triggeredAt": format_time(ended - 1),
            "ip": "192.0.2.7", "scheduledFor": None, "signal": None, "attempt": 1, "count": 1, **more}


def write(installation: Installation, name: str, entries: list[dict[str, Any]]) -> None:
    file = Path(history.path(str(installation.home), name))
    file.write_text("".join(json.dumps(one) + "\n" for one in entries))


def test_run_now_answers_at_once_and_opens_the_live_output(owner: Browser, inhabited: Installation) -> None:
    """The page is there while the command runs, shows what it printed, refreshes itself without a script, and becomes
    the record of the run when it has ended."""
    go_on = inhabited.home / "go-on"
    inhabited.add("long", argv=waits_for(go_on), strategy="sync", minIntervalSeconds=3600, ipAllowlist=["198.51.100.1"])
    owner.get("task", name="long")
    page = owner.submit("run-now")
    assert page.url.startswith("/cron/admin/run?name=long&run=")
    until(lambda: "begun" in owner.request(page.url), "its output")
    assert '<noscript><meta http-equiv="refresh"' in owner.page
    assert "Running" in owner.page
    assert owner.get("output", **owner.query()).status in (200, 404)
    plain = owner.get("output", name="long", run=page.url.partition("run=")[2])
    assert plain.header("Content-Type") == "text/plain; charset=utf-8"
    assert plain.text == "begun\n"

    owner.get("task", name="long")
    assert "run-now" not in owner.page
    assert "is already running" in owner.post("/cron/admin/run-now?name=long", {"token": owner.token()})
    go_on.touch()
    inhabited.idle()
    done = owner.request(page.url)
    assert "Success" in done
    assert "ended" in done
    assert "http-equiv" not in done
    assert [line["trigger"] for line in inhabited.runs("long")] == ["admin"]
    assert inhabited.runs("long")[0]["strategy"] == "fork"


def test_cancelling(owner: Browser, inhabited: Installation) -> None:
    """One click ends the run, and the record says why; a second one finds nothing."""
    inhabited.add("long", argv=["/bin/sleep", "600"])
    owner.get("task", name="long")
    owner.submit("run-now")
    inhabited.command_runs()
    page = owner.submit("cancel")
    inhabited.idle()
    assert "The run is cancelled." in page
    assert "cancelled by hand" in owner.request(page.url)
    assert [line["reason"] for line in inhabited.runs("long")] == ["cancelled"]
    assert "had already ended" in owner.post(page.url.replace("/run?", "/cancel?"), {"token": owner.token()})


def test_a_run_id_names_no_file(owner: Browser, inhabited: Installation) -> None:
    """An id from a request is only compared with what is there."""
    inhabited.add("task")
    secret = inhabited.home / "output" / "x.log"
    secret.write_text("not for you")

    for run in ("x", "../config", "../../etc/passwd", "x.log", "x\x00"):
        for page in ("run", "output"):
            answer = owner.get(page, name="task", run=run)
            assert answer.status == 404
            assert "not for you" not in answer

        answer = owner.post(f"/cron/admin/cancel?name=task&run={run}".replace("\x00", "%00"), {"token": owner.token()})
        assert answer.status in (200, 404)

    assert secret.exists()


HOSTILE = (
    "<script>alert(1)</script>\x1b[31mred\x1b[0m \x1b[1;4;42mbold\x1b[m \x00nul \u202eRTL \x1b]0;title\x07\x1b[2J"
    " \x9b3m\x1b[38;5;196mx\x1b[48;2;1;2;3my\x1b[99999999999999999999m\x1b[;;;;m"
    "\x08\x7f\ud800 {token} [[Tasks]] &amp; </pre>"
)


def test_hostile_output_is_text(owner: Browser, inhabited: Installation) -> None:
    """Colours become classes; markup, cursor movements, NUL and direction marks become visible text or nothing; raw it
    is text/plain that no browser takes for anything else."""
    inhabited.add("task")
    write(inhabited, "task", [entry(1, time.time(), output=HOSTILE, errorOutput=HOSTILE)])
    page = owner.get("run", name="task", run="r1")
    pre = page.text.partition("<pre")[2].partition("</pre>")[0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pre
    assert '<span class="c1">red</span>' in pre
    assert '<span class="a1 a4 b2">bold</span>' in pre
    assert "␀nul" in pre
    assert "⟨U+202E⟩RTL" in pre
    assert "title" not in pre
    assert "{token}" in pre
    assert "[[Tasks]]" in pre
    assert "&amp;amp;" in pre
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page.text)
    raw = owner.get("output", name="task", run="r1", stream="output")
    assert raw.header("Content-Type") == "text/plain; charset=utf-8"
    assert raw.header("X-Content-Type-Options") == "nosniff"
    assert raw.body == HOSTILE.encode("utf-8", "backslashreplace")


def test_colours_end_where_they_should() -> None:
    """Bold and colours are switched off one by one, and bright ones are colours of their own."""
    assert show.output("a\x1b[1;31mb\x1b[22mc\x1b[39md") == (
        'a<span class="a1 c1">b</span><span class="c1">c</span>d')
    assert show.output("\x1b[92mx\x1b[103my\x1b[49m\x1b[0m") == (
        '<span class="c10">x</span><span class="c10 b11">y</span>')
    assert show.output("a\r\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize(("code", "words"), [
    (126, "not executable"), (127, "program not found"), (137, "out of memory"), (143, "terminated"), (3, "status 3")])
def test_exit_codes_in_words(owner: Browser, inhabited: Installation, code: int, words: str) -> None:
    inhabited.add("task")
    write(inhabited, "task", [entry(1, time.time(), status="failed", exitCode=code)])
    assert words in text_of(owner.get("run", name="task", run="r1"))
    assert words in text_of(owner.get("history"))


@pytest.fixture
def filled(inhabited: Installation) -> Iterator[tuple[Installation, float]]:
    """Two tasks with 120 runs each, a minute apart, every tenth failed."""
    now = time.time()

    for place, name in enumerate(("one", "two")):
        inhabited.add(name)
        write(inhabited, name, [entry(number, now - 60 * (120 - number) + place, command=name, run=f"{name}-{number}",
                                      status="failed" if number % 10 == 0 else "success") for number in range(120)])

    yield inhabited, now


def pages(owner: Browser, **query: Any) -> list[list[str]]:
    """The ids on each page of the history, following `Older`."""
    found = []
    page = owner.get("history", **query)

    while True:
        found.append(re.findall(r'class="[^"]*" href="[^"]*|run=([a-z]+-\d+)', page.text))
        found[-1] = [run for run in found[-1] if run]
        link = re.search(r'<a class="button" href="([^"]*before=[^"]*)"', page.text)

        if not link:
            return found

        page = owner.request(link[1].replace("&amp;", "&"))


def test_history_is_paged_and_filtered(owner: Browser, filled: tuple[Installation, float]) -> None:
    """All tasks merged, newest first, each run on exactly one page; by task, by outcome, by day."""
    everything = pages(owner)
    assert [len(page) for page in everything] == [50, 50, 50, 50, 40]
    runs = [run for page in everything for run in page]
    assert runs == [f"{name}-{number}" for number in reversed(range(120)) for name in ("two", "one")]
    assert [run for page in pages(owner, name="one") for run in page] == [f"one-{n}" for n in reversed(range(120))]
    failed = [run for page in pages(owner, name="two", status="problems") for run in page]
    assert failed == [f"two-{number}" for number in range(110, -1, -10)]
    assert pages(owner, status="timeout") == [[]]
    assert pages(owner, **{"from": "2000-01-01", "to": "2000-01-02"}) == [[]]
    assert "No runs found" in owner.page
    assert len(pages(owner, **{"from": "2000-01-01"})) == 5


@pytest.mark.parametrize("query", [{"before": "x"}, {"before": "1~x"}, {"before": "nan~1"}, {"before": "1e999~1"},
                                   {"before": "1~one!-5"}, {"before": f"1~one!{10**30}"}, {"before": "1~one!7~two"},
                                   {"from": "not a day"}, {"to": "9999-99-99"}, {"status": "<script>"}])
def test_a_mangled_query_is_no_fault(owner: Browser, filled: tuple[Installation, float], query: dict[str, str]) -> None:
    assert owner.get("history", **query).status in (200, 400)
    assert "<script>" not in owner.page.text.replace('<script src="', "")


def test_a_gibibyte_of_history_opens_at_once(owner: Browser, inhabited: Installation) -> None:
    """The first page, a page at some instant long ago, and a search that finds nothing read a part of the file only."""
    inhabited.add("big")
    file = Path(history.path(str(inhabited.home), "big"))
    begun, count, size = time.time() - 10_000_000, 66 * 1024, 16 * 1024
    lines = json.dumps(entry(0, 0.0, command="big", output="x" * (size - 500)))

    with file.open("wb") as target:
        head, _, rest = lines.partition(format_time(0.0))

        for number in range(count):
            stamp = format_time(begun + number * 150)
            target.write(f"{head}{stamp}{rest}\n".replace('"r0"', f'"run-{number}"').encode())

    assert file.stat().st_size > 2**30
    before = time.process_time()
    assert len(pages_once(owner, name="big")) == 50
    instant = begun + 1000 * 150 + 1
    entries, _ = history_view.page(str(inhabited.home), ["big"], (), 0.0, instant, most=3)
    assert [one["run"] for one in entries] == ["run-1000", "run-999", "run-998"]
    assert history_reading.find(str(inhabited.home), ["big"], "run-1000") is not None
    entries, cursor = history_view.page(str(inhabited.home), ["big"], ("failed",), 0.0, time.time(), most=3)
    assert entries == []
    assert cursor
    assert time.process_time() - before < 20


def pages_once(owner: Browser, **query: Any) -> list[str]:
    return re.findall(r"[?&;]run=(run-\d+)", owner.get("history", **query).text)


def test_clearing_asks_first(owner: Browser, filled: tuple[Installation, float]) -> None:
    """The history of one task, or all; the other's stays."""
    installation, _ = filled
    owner.get("clear", name="one")
    assert len(installation.history("one")) == 120
    owner.submit("clear")
    assert installation.history("one") == []
    assert len(installation.history("two")) == 120
    owner.get("clear")
    assert "The history is cleared." in owner.submit("clear")
    assert installation.history("two") == []


def test_a_dead_run_that_nobody_recorded_yet(owner: Browser, inhabited: Installation) -> None:
    """Its process is gone, and nobody triggered the task since: the page says so and writes nothing."""
    from webscheduler.store import locks

    inhabited.add("task")
    claim = locks.make_claim(str(inhabited.home), "task", "20260101000000-00000000", {"name": "task", "run":
                             "20260101000000-00000000", "starter": [1, 1]})
    claim.close()
    page = owner.get("run", name="task", run="20260101000000-00000000")
    assert page.status == 200
    assert "Its process is gone" in page
    assert inhabited.history("task") == []


def test_ticks_that_started_nothing_are_shown_when_asked(owner: Browser, inhabited: Installation) -> None:
    """Not beside the runs, where most lines would be theirs; those that started a task, failed or were skipped are."""
    inhabited.add("task", intervalSeconds=86400)

    for _ in range(2):
        inhabited.trigger("wsgi", "@due")
        inhabited.idle()

    shown, asked = text_of(owner.get("history")), text_of(owner.get("history", idle="1"))
    ticks = inhabited.history("@due")
    busy = [tick for tick in ticks if tick["output"]]
    lines = Path(history.path(str(inhabited.home), "@due")).read_bytes().splitlines()
    assert [history_view.IDLE in line for line in lines] == [not tick["output"] for tick in ticks] == [False, True]
    assert (shown.count(" @due "), asked.count(" @due ")) == (len(busy) + 2, len(ticks) + 2)
    strange = [{"output": "left due x\n"}, {"errorOutput": "no process\n"}, {"status": "failed"},
               {"status": "skipped", "run": None, "reason": "locked"}]
    now = time.time()
    write(inhabited, "@due", [entry(number, now - 60 + number, **{"command": "@due", "output": "", **more})
                              for number, more in enumerate(({}, *strange, {}))])
    page = owner.get("history", name="@due")
    assert re.findall("[?&;]run=(r[0-9])", page.text) == ["r3", "r2", "r1"]
    assert "was running already" in page
    assert "idle=1" in owner.get("task", name="@due")


def test_history_without_ticks_is_paged(
    owner: Browser, inhabited: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page stops after a bounded part of the ticks too, and says where to continue; no run is lost between."""
    inhabited.add("daily")
    now = time.time()
    write(inhabited, "daily", [entry(number, now - 86400 * (8 - number) + 1, command="daily", run=f"daily-{number}")
                               for number in range(8)])
    write(inhabited, "@due", [entry(number, now - 60 * (11520 - number), command="@due", run=f"tick-{number}",
                                    output="started x\n" if number % 1440 == 7 else "") for number in range(11520)])
    wanted = [run for day in reversed(range(8)) for run in (f"tick-{day * 1440 + 7}", f"daily-{day}")]
    assert pages(owner) == [wanted]
    monkeypatch.setattr(history_view, "SCAN", 1024 * 1024)
    found = pages(owner)
    assert [run for page in found for run in page] == wanted
    assert len(found) > 2


@pytest.mark.parametrize("times", ["relative", "absolute"])
def test_times_have_their_other_form_as_a_title(owner: Browser, inhabited: Installation, times: str) -> None:
    """Both can be seen with a mouse and with a keyboard: a time is in a link, or takes the focus itself."""
    inhabited.configure(times=times, timezone="Europe/Paris")
    inhabited.add("task", expression="0 3 * * *")
    write(inhabited, "task", [entry(1, time.time() - 600), entry(2, time.time() - 300, run=None, status="skipped")])
    inhabited.edit("task", lastRunAt=format_time(time.time() - 601), lastRunId="r1", lastRunStatus="success")
    seen = 0

    for page in ("", "task?name=task", "history", "people"):
        text = owner.request(f"/cron/admin/{page}").text

        for link, title, focus, shown in re.findall(
                r'(<a [^>]*>)?<time datetime="[^"]*" title="([^"]*)"( tabindex="0")?>([^<]*)</time>', text):
            assert bool(link) != bool(focus), (page, shown)
            assert re.search(r"( ago|^in .*|^now)$", shown if times == "relative" else title.partition(" · ")[0])
            assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d CES?T$", title)
            assert times == "relative" or re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", shown)
            seen += 1

        assert text.count("<time") == len(re.findall("<time[^>]*title=", text))

    assert seen > 8


def test_durations_and_outcomes_have_a_picture_and_words(owner: Browser, inhabited: Installation) -> None:
    """On the task's page: a bar for each of the last runs, the share of each outcome, and texts that say the same."""
    inhabited.add("task")
    now = time.time()
    runs = [entry(number, now - 60 * (130 - number), duration=float(number % 10 + 1),
                  status="success" if number % 10 else "timeout") for number in range(120)]
    write(inhabited, "task", [*runs, entry(120, now - 5, run=None, status="skipped", duration=None)])
    page = owner.get("task", name="task")
    assert ('<p id="took">Duration of the last 99 runs: 1.0 s to 10 s, half of them at most 6.0 s.</p>\n'
            '<svg role="img" aria-labelledby="took"') in page
    assert '<p id="rate">Runs that succeeded: 90 of the last 99 (90%)</p><svg class="rate" role="img" aria-' in page
    chart = page.text.partition('class="card chart"')[2].partition("</section>")[0]
    bars = dict(re.findall(r'<path class="bar (\w+)" d="(M0[^"]*|M\d[^"]*)"/>', chart.partition("</svg>")[0]))
    assert {kind: path.count("M") for kind, path in bars.items()} == {"success": 90, "timeout": 9}
    assert re.findall(r'width|style=', chart) == []
    assert re.findall(r"</span> (\d+)</li>", chart) == ["90", "9"]
    write(inhabited, "task", runs[:1])
    assert 'class="card chart"' not in owner.get("task", name="task")
    write(inhabited, "task", [entry(1, now, duration=None), {"run": "odd", "status": 5}])
    assert "Duration of the last 2 runs" in owner.get("task", name="task")
