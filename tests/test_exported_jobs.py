# SPDX-License-Identifier: LGPL-3.0-or-later
"""Exported jobs as those read them that are to run them: published schemas, systemd itself, a shell and curl.

Witnesses: kubernetes-validate and check-jsonschema, which carry the schemas; `systemd-analyze`; real calls of URLs.
tests/test_crontab.py has Debian's cron run what is exported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import pytest

from tests.commandline import call
from tests.installation import Installation
from tests.pages import DOCS
from tests.test_pages import Quiet
from tests.test_transfer import occurrences
from webscheduler import signing
from webscheduler.errors import BadInput
from webscheduler.interchange import crontab, exporting
from webscheduler.schedule.cron import Cron
from webscheduler.store import state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import load_task
from webscheduler.times import time_zone
from webscheduler.wsgi import create_app

REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))
FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
BASE = "https://example.org/a%20b/cgi"
SCHEDULES = 5000 if FULL else 500
ZONES = ("UTC", "Asia/Tokyo", "America/Phoenix", "Asia/Kolkata")  # no daylight saving today


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not REQUIRED and importlib.util.find_spec(module) is None, reason=f"{module} is missing")


needs_systemd = pytest.mark.skipif(not REQUIRED and not shutil.which("systemd-analyze"),
                                   reason="systemd is not installed")


@pytest.fixture
def stocked(installation: Installation) -> Installation:
    """Tasks of each kind that matters to a format, and a baseUrl with a sign that cron does not take as it is."""
    installation.configure(baseUrl=BASE)
    common = {"enabled": True, "expression": "7 3 * * *"}
    rows: dict[str, dict[str, Any]] = {
        "app:X y": {"cwd": "/srv", "environment": {"A": "b c"}, "retries": 2, "catchUpSeconds": 600, "timeout": 90},
        "often": {"expression": "*/2 * * * *", "timezone": "Europe/Paris", "preventOverlap": False, "timeout": 0},
        "every": {"expression": None, "intervalSeconds": 3600, "strategy": "sync", "ipAllowlist": ["192.0.2.0/24"]},
        "off": {"enabled": False}, "timed": {"signature": "timed"}, "title": {"title": "a: ${{ b }} # \"c\""},
        "sundays": {"expression": "0 3 * * 5-7", "onSuccess": ["title"]}, "quartz": {"expression": "0 3 L * *"},
    }

    for name, fields in rows.items():
        installation.add(name, ["/bin/echo", "a b", "%h $HOME"], **{**common, **fields})

    call(installation.home, "add", "own", "--command", "hello", "--cron", "@daily")
    return installation


def exported(installation: Installation, kind: str, base: str = "", *names: str) -> exporting.Export:
    rows = state.read_strictly(str(installation.home))
    tasks = [load_task(name, row) for name, row in rows.items() if not names or name in names]
    return exporting.export(kind, load_settings(str(installation.home)), tasks, base=base)


def url(installation: Installation, name: str) -> str:
    row = installation.row(name)
    return signing.trigger_url(BASE, row["slug"], row["secret"])


# Kubernetes

def versions() -> list[str]:
    """Those that the schemas are for, the oldest first."""
    if importlib.util.find_spec("kubernetes_validate") is None:
        return []

    from kubernetes_validate import utils

    return sorted({utils.major_minor(version) for version in utils.all_versions()},
                  key=lambda version: [int(part) for part in version.split(".")])


@needs("kubernetes_validate")
@needs("yaml")
@pytest.mark.parametrize("base", ["", BASE], ids=["command", "by URL"])
def test_manifests_follow_the_published_schemas(stocked: Installation, base: str) -> None:
    """Strictly: no field is there that a version does not know. The first task has most of what there is, so it alone
    is tried with the versions between the oldest and the newest, unless there is time."""
    import kubernetes_validate
    import yaml

    documents = [each for each in yaml.safe_load_all(str(exported(stocked, "kubernetes", base))) if each]
    assert len(documents) == (7 if base else 8)
    every = versions()
    assert len(every) > 2

    for version in every:
        for document in documents if FULL or version in (every[0], every[-1]) else documents[:1]:
            assert kubernetes_validate.validate(document, version, strict=True)

    documents[0]["spec"]["jobTemplate"]["spec"]["backoffLimit"] = "2"

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents[0], every[-1], strict=True)


@needs("yaml")
def test_a_manifest_holds_no_url(stocked: Installation) -> None:
    """It is in a secret of the cluster, which a line tells how to make; retries and overlap are webscheduler's."""
    import yaml

    made = exported(stocked, "kubernetes", BASE, "app:X y")
    (document,) = [each for each in yaml.safe_load_all(str(made)) if each]
    job = document["spec"]["jobTemplate"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    assert container["command"] == ["curl", "-fsS", "--max-time", "60", "-o", "/dev/null", "$(URL)"]
    assert container["env"] == [{"name": "URL", "valueFrom": {"secretKeyRef": {"name": "webscheduler-app-x-y",
                                                                               "key": "url"}}}]
    assert (container["image"], job["backoffLimit"], "activeDeadlineSeconds" in job) == ("curlimages/curl", 0, False)
    assert "example.org" not in str(made)
    retries, remedy = made.said[-2:]
    assert retries == "app:X y: its retries need calls of @due's URL"
    assert remedy == ("app:X y: kubectl create secret generic webscheduler-app-x-y "
                      "--from-literal=url=\"$(webscheduler url 'app:X y')\"")


# systemd

FIELDS = (("*", "*/7", "0", "7,37", "0-30/10", "5-9", "59"), ("*", "3", "*/6", "8-17", "22-23,0", "0,12"),
          ("*", "*", "*", "1", "31", "1-7", "*/2", "5,10", "L", "1,L", "15W", "1-31/3"),
          ("*", "*", "1", "JAN,jul", "*/3", "2", "6-8"),
          ("*", "*", "1-5", "0", "7", "5-7", "MON-WED", "5L", "1#2", "3#1,5", "*/2", "sun"))


def chosen(number: int) -> list[tuple[str, list[str]]]:
    """So many expressions, each with its calendars; those that have none are counted, and must say so."""
    choose, found = random.Random(15), []

    for _ in range(number):
        expression = " ".join(choose.choice(field) for field in FIELDS)

        try:
            found.append((expression, exporting.calendar(expression)))
        except BadInput as error:
            assert str(error) == f"no OnCalendar= says {expression!r}"
            assert "W" in expression.split()[2] or Cron(expression).both, expression

    assert len(found) > number * 0.7
    return found


def instants(expression: str, zone: str, number: int, moment: datetime) -> list[datetime]:
    """Our next instants after that moment."""
    cron, found = Cron(expression), []

    # systemd counts to the year 2199 (systemd.time(7)).
    while len(found) < number and (following := cron.next(moment, time_zone(zone))) and following.year <= 2190:
        found.append(moment := following)

    return found


@needs_systemd
def test_systemd_reads_each_schedule_as_it_is_here() -> None:
    """The next instants of 500 schedules, by systemd itself, are those of the expression; or there is no calendar. That
    a calendar names the zone, as those of units do, makes no difference: tried of some, for systemd forks for it."""
    schedules, moment = chosen(SCHEDULES), datetime(2026, 2, 19, 23, 59, 59, tzinfo=timezone.utc)

    for number, zone in enumerate(ZONES):
        mine = schedules[number::len(ZONES)]
        wanted = [instants(expression, zone, 6, moment) for expression, _ in mine]
        found = occurrences([calendars for _, calendars in mine], 6, zone)
        assert [(mine[i], zone, each) for i, each in enumerate(found) if each[:len(wanted[i])] != wanted[i]] == []
        assert occurrences([[f"{each} {zone}" for each in calendars] for _, calendars in mine[:8]], 6) == found[:8]


@needs_systemd
@pytest.mark.parametrize(("zone", "day"), [("Europe/Paris", "2026-03-28"), ("Europe/Paris", "2026-10-24"),
                                           ("Australia/Lord_Howe", "2026-10-03"), ("America/Santiago", "2026-04-04")])
def test_what_systemd_does_otherwise_where_clocks_change_is_said(zone: str, day: str) -> None:
    """It leaves out times that do not exist, and takes those that come twice once; nothing else is different."""
    # 02:30 is the time that matters, and each hour and minute beside it.
    schedules = [(text, exporting.calendar(text)) for minute in ("*", "*/15", "0", "30", "15,45", "59")
                 for hour in ("*", "1-3", "2", "0", "23,3", "*/2") for text in (f"{minute} {hour} * * *",)]
    moment, clock, number = datetime.fromisoformat(f"{day}T12:00:00+00:00"), time_zone(zone), 48
    differ = 0

    for (expression, _), theirs in zip(schedules, occurrences([each for _, each in schedules], number, zone,
                                                              f"{day} 12:00:00")):
        ours = instants(expression, zone, number, moment)
        last = min(ours[-1], theirs[-1])
        more = [each for each in ours if each <= last and each not in theirs]
        assert [each for each in theirs if each <= last and each not in ours] == [], (expression, theirs)
        # A run in place of a time that is left out is at the change itself; the second of two has `fold` set.
        assert not [each for each in more if not each.astimezone(clock).fold and
                    each.astimezone(clock).utcoffset() == (each - timedelta(seconds=1)).astimezone(clock).utcoffset()]
        differ += bool(more)

    assert differ
    said = (Path(exporting.__file__).parent / "templates" / "systemd.template").read_text().partition("\n\n")[0]
    assert "a time that does not exist is left out, and one that comes twice counts once" in said.replace("\n# ", " ")


@needs_systemd
def test_systemd_accepts_units_that_call_urls(stocked: Installation, tmp_path: Path) -> None:
    done = call(stocked.home, "export", "systemd", "--by-url", "--output", str(tmp_path / "units"))
    assert done.status == 0
    files = sorted((tmp_path / "units").iterdir())
    assert len(files) == 2 * 8
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert [line for line in checked.stderr.splitlines() if "webscheduler" in line] == []
    text = (tmp_path / "units" / "webscheduler-app_X_y.service").read_text()
    command = text.partition("ExecStart=")[2].replace("%%", "%")
    assert shlex.split(command) == ["curl", "-fsS", "--max-time", "60", "-o", "/dev/null", url(stocked, "app:X y")]
    assert "Environment=" not in text
    assert "WorkingDirectory=" not in text
    assert "--max-time\" \"360\"" in (tmp_path / "units" / "webscheduler-every.service").read_text()


@pytest.mark.parametrize("kind", ["systemd", "github"])
def test_without_a_task_there_is_a_directory_too(installation: Installation, kind: str, tmp_path: Path) -> None:
    """And none of its files; where all were left out, it is said why."""
    folder = tmp_path / "made"
    installation.configure(baseUrl=BASE)
    assert call(installation.home, "export", kind, "--output", str(folder)).status == 0
    installation.add("idle", expression=None)
    done = call(installation.home, "export", kind, "--output", str(folder))
    assert (done.status, done.out, list(folder.iterdir())) == (0, "", [])
    assert "idle: is left out: it has no schedule" in done.err


# Calls of URLs

def test_only_a_url_that_stays_the_same_can_be_called(stocked: Installation) -> None:
    """And what a caller must know is said, of every format."""
    stocked.edit("sundays", slug=None)

    for kind in exporting.FORMATS:
        said = exported(stocked, kind, BASE).said
        assert ("timed: is left out: it accepts timed signatures only, and a URL that stays the same has none: "
                "`webscheduler edit NAME --signature either`") in said
        assert "sundays: is left out: it has no URL yet: `webscheduler url NAME` makes one" in said
        assert "every: its ipAllowlist must have the addresses that call" in said
        assert set(exporting.BY_URL) <= set(said)
        assert not any("runs through webscheduler" in line or "lost" in line for line in said)


@pytest.mark.parametrize(("words", "says"), [
    (["json", "--by-url"], "--by-url: not for json"), (["crontab", "--by-url"], "no baseUrl is set"),
    (["github"], "no baseUrl is set"), (["github", "--base", "ftp://x"], "baseUrl: "),
])  # fmt: skip
def test_a_url_needs_an_address(installation: Installation, words: list[str], says: str) -> None:
    done = call(installation.home, "export", *words)
    assert (done.status, done.out) == (2, "")
    assert says in done.complaint


@contextmanager
def served(installation: Installation) -> Iterator[str]:
    """The address of a server of the installation, which is below a path that has a percent sign in a URL."""
    application = create_app(home=str(installation.home))

    def mounted(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        assert path.startswith("/a b/")
        return application({**environ, "SCRIPT_NAME": "/a b", "PATH_INFO": path[4:]}, start_response)

    with make_server("127.0.0.1", 0, mounted, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        try:
            yield f"http://127.0.0.1:{server.server_port}/a%20b"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(not REQUIRED and not shutil.which("curl"), reason="curl is not installed")
def test_a_line_of_a_crontab_starts_the_task_by_its_url(installation: Installation) -> None:
    """With nothing on its output, and an exit status that tells if nothing answered."""
    installation.add(argv=["printf", "called"], expression="@daily", environment={"A": "b"}, cwd="/usr")
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/"}

    with served(installation) as address:
        done = call(installation.home, "export", "crontab", "--by-url", "--base", address)
        assert done.status == 0
        (job,), problems = crontab.parse(done.out)
        assert (job.expression, problems) == ("0 0 * * *", [])
        ran = subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, text=True, env=environ)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
        installation.idle()
        installation.configure(baseUrl=address)
        (installation.home / "state.json").write_text("{")
        (installation.home / "state.json.bak").write_text("{")
        broken = subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, text=True, env=environ)
        assert (broken.returncode, "503" in broken.stderr) == (22, True)

    assert subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, env=environ).returncode == 7
    assert [(line["trigger"], line["output"]) for line in installation.runs()] == [("url", "called")]


def test_a_percent_sign_of_a_url_is_escaped_for_cron(stocked: Installation) -> None:
    text = str(exported(stocked, "crontab", BASE, "app:X y"))
    assert "/a\\%20b/" in text
    (job,), _ = crontab.parse(text)
    assert shlex.split(job.command)[-1] == url(stocked, "app:X y")


# GitHub Actions

@needs("check_jsonschema")
@needs("yaml")
def test_workflows_follow_githubs_schema(stocked: Installation, tmp_path: Path) -> None:
    """A file for each task; the URL is in none of them."""
    import yaml

    folder = tmp_path / "workflows"
    done = call(stocked.home, "export", "github", "--output", str(folder))
    assert (done.status, done.out) == (0, "")
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        f"webscheduler-{name}.yml" for name in ("app_X_y", "every", "often", "own", "sundays", "title")]
    assert not any("example.org" in file.read_text() or "sig=" in file.read_text() for file in files)
    # An older version of the schema, which old Pythons get, does not know that a schedule may have a time zone.
    known = [file for file in files if "timezone:" not in file.read_text() or sys.version_info >= (3, 10)]
    checked = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows",
                              *known], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    document = yaml.safe_load((folder / "webscheduler-every.yml").read_text())
    assert document[True] == {"schedule": [{"cron": "0 * * * *"}], "workflow_dispatch": None}
    assert document["jobs"]["call"]["timeout-minutes"] == 8
    assert document["jobs"]["call"]["steps"] == [{
        "run": 'curl -fsS --max-time 360 -o /dev/null "$URL"', "env": {"URL": "${{ secrets.WEBSCHEDULER_EVERY }}"}}]
    paris = yaml.safe_load((folder / "webscheduler-often.yml").read_text())
    assert paris[True]["schedule"] == [{"cron": "*/2 * * * *", "timezone": "Europe/Paris"}]
    assert yaml.safe_load((folder / "webscheduler-sundays.yml").read_text())[True]["schedule"] == [
        {"cron": "0 3 * * 0,5,6"}]


@needs("check_jsonschema")
@needs("kubernetes_validate")
@needs("yaml")
@needs_systemd
def test_what_a_page_gives_callers_is_taken_by_them(tmp_path: Path) -> None:
    """The files to paste of docs/how-to/callers.md, by the same schemas, and systemd."""
    import kubernetes_validate
    import yaml

    folder, kinds = tmp_path / "pasted", []
    folder.mkdir()

    for caller in json.loads((DOCS / "how-to" / "callers.json").read_text())["callers"]:
        for lines in caller["lines"]:
            place, text = Path(lines["where"].split("`")[1] if "`" in lines["where"] else ""), "\n".join(lines["text"])

            if lines["language"] == "sh":
                continue

            kinds.append(caller["name"])
            (folder / place.name).write_text(text + "\n")

            if caller["name"].startswith("Kubernetes"):
                for version in versions():
                    assert kubernetes_validate.validate(yaml.safe_load(text), version, strict=True)

    for schema, name in (("github-workflows", "webscheduler.yml"), ("gitlab-ci", ".gitlab-ci.yml")):
        checked = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}",
                                  str(folder / name)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout

    units = [str(folder / f"webscheduler-due.{kind}") for kind in ("service", "timer")]
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert [line for line in checked.stderr.splitlines() if "webscheduler" in line] == []
    assert kinds == ["GitHub Actions", "GitLab", "Kubernetes CronJob", "systemd timer", "systemd timer"]


def test_what_github_does_otherwise_is_said(stocked: Installation) -> None:
    said = exported(stocked, "github").said
    assert [line for line in said if line.split(":")[0] in ("often", "off", "quartz", "sundays")] == [
        "often: is wanted more often than every 5 minutes, and runs every 5 minutes there",
        "often: what was missed is not run later",
        'often: gh secret set WEBSCHEDULER_OFTEN --body "$(webscheduler url often)"',
        "off: is left out: it is disabled, and a workflow would be called all the same",
        "sundays: what was missed is not run later",
        'sundays: gh secret set WEBSCHEDULER_SUNDAYS --body "$(webscheduler url sundays)"',
        "quartz: is left out: GitHub does not read '0 3 L * *' as we do"]


@pytest.mark.parametrize(("expression", "too_often"), [
    ("*/5 * * * *", False), ("*/4 * * * *", True), ("0,58 * * * *", True), ("0,58 3 * * *", False),
    ("0 * * * *", False), ("1-5 3 * * *", True), ("7 3 * * *", False),
])  # fmt: skip
def test_which_schedules_are_finer_than_five_minutes(
    installation: Installation, expression: str, too_often: bool
) -> None:
    installation.configure(baseUrl=BASE)
    installation.add("task", expression=expression)
    assert any("every 5 minutes there" in line for line in exported(installation, "github").said) == too_often
