# SPDX-License-Identifier: LGPL-3.0-or-later
"""What version 0.1.0 did, seen from outside, is what every version does: `tests/vectors/v0_1_0/*.json`.

The vectors were written by version 0.1.0 with `python -m tests.test_golden --write`, and are not written again by a
later one. Kinds and fields are compared, not prose: a sentence may change its words. Documents and
rows of files may gain fields; none goes, changes its kind or moves to another place in their order. URLs, answers to
triggers and exit statuses are the same to the byte.
"""

from __future__ import annotations

import json
import re
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.outside import BASE, Outside, installed, signature, until, waits_for

VECTORS = Path(__file__).parent / "vectors" / "v0_1_0"
SLUG, OTHER, TIMED = "0123456789abcdef0123456789abcdef", "f" * 32, "fedcba9876543210fedcba9876543210"
SECRET = "a5" * 32
TS = 1600000000
KNOWN = {SLUG, OTHER, TIMED, SECRET, *(signature(SECRET, message) for slug in (SLUG, OTHER, TIMED)
                                       for message in (slug, f"status:{slug}", f"{slug}.{TS}"))}
PROSE = ("title", "description", "text", "problem", "problems", "warnings")
MASKS = [
    (re.compile(r"\b(?!2020)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"), "<time>"),
    (re.compile(r"\b(?!2020)\d{14}-[0-9a-f]{8}\b"), "<run>"),
    (re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32})\b"), lambda m: m[0] if m[0] in KNOWN else f"<{len(m[0])} hex>"),
    (re.compile(r"\bts=(?!16)\d{10}\b"), "ts=<unix>"),
]


def masked(value: Any, home: Path, key: str = "") -> Any:
    """A document with everything replaced that differs from run to run, by what kind of thing it is."""
    if isinstance(value, dict):
        return {name: masked(part, home, name) for name, part in value.items()}

    if isinstance(value, list):
        return [masked(part, home, key) for part in value]

    if isinstance(value, float):
        return "<float>"

    if not isinstance(value, str):
        return value

    text = value.replace(str(home), "<home>").replace(str(home.parent), "<folder>").replace(sys.executable, "<python>")

    for pattern, kind in MASKS:
        text = pattern.sub(kind, text)

    return "<text>" if key in PROSE and len(text.split()) > 3 else text


def misfits(golden: Any, found: Any, at: str = "") -> list[str]:
    """What `golden` says and `found` does not, or in another order; objects may say more."""
    if isinstance(golden, dict) and isinstance(found, dict):
        here = [f"{at}/{key} is missing" for key in golden if key not in found]

        if not here and [key for key in found if key in golden] != list(golden):
            here = [f"{at}: another order of fields"]

        return here or [line for key in golden for line in misfits(golden[key], found[key], f"{at}/{key}")]

    if isinstance(golden, list) and isinstance(found, list):
        if len(golden) != len(found):
            return [f"{at}: {len(found)} in place of {len(golden)}: {found}"]

        return [line for index, part in enumerate(golden) for line in misfits(part, found[index], f"{at}/{index}")]

    # 1 is not True, and not "1".
    same = (type(golden), golden) == (type(found), found)
    return [] if same else [f"{at}: {found!r} in place of {golden!r}"]


def differences(golden: Any, found: Any) -> list[str]:
    """The same, of what must be the same in all, and in the same order."""
    more = [] if json.dumps(golden) == json.dumps(found) else [f"{json.dumps(found)} in place of {json.dumps(golden)}"]
    return misfits(golden, found) or more


def fixed(home: Outside) -> None:
    """Tasks whose slugs, secrets and times are known."""
    at = "2020-02-29T12:00:00.000+00:00"
    home.write_task("app:report", enabled=True, slug=SLUG, secret=SECRET, argv=["echo", "ok"], createdAt=at, cwd="/",
                    expression="30 4 1 * *", timezone="America/New_York", title="Report", group="monthly",
                    strategy="fork", lastRunAt=at, lastRunStatus="success", lastRunExitCode=0, lastRunDuration=1.5,
                    lastRunId="20200229120000-0123abcd", environment={"MODE": "full"}, ipAllowlist=["192.0.2.0/24"])
    home.write_task("fails", enabled=False, slug=OTHER, secret=SECRET, argv=["false"], createdAt=at, strategy="sync",
                    failureStatus=500)
    home.write_task("timed", enabled=True, slug=TIMED, secret=SECRET, argv=["true"], createdAt=at, signature="timed")


# What is looked at, and how it is compared


def urls(folder: Path) -> dict[str, Any]:
    """The URLs that people have pasted into panels."""
    with installed(folder / "home") as home:
        fixed(home)
        made = {}

        for name in ("app:report", "timed", "@due"):
            for options in ((), ("--status",), ("--query",), ("--status", "--query"), ("--timed",),
                            ("--timed", "--query"), ("--base", "https://example.net/cron/")):
                done = home.cli("url", name, *options)
                made[" ".join((name, *options))] = masked([done.status, *done.out.split("\n")], home.home)

        assert made["app:report"][1] == f"{BASE}/run/{SLUG}?sig={signature(SECRET, SLUG)}"  # without our own code
        return made


def answers(folder: Path) -> dict[str, Any]:
    """Status, headers and bytes of what a caller gets, by CGI and by WSGI."""
    both: dict[str, dict[str, Any]] = {}

    for door in ("cgi", "wsgi"):
        both[door] = found = {}

        (folder / door).mkdir()

        with installed(folder / door / "home") as home:
            fixed(home)
            sign, status = signature(SECRET, SLUG), signature(SECRET, f"status:{SLUG}")
            go, at = folder / door / "go", "2020-02-29T12:00:00.000+00:00"
            home.write_task("waits", enabled=True, slug="1" * 32, secret=SECRET, argv=waits_for(go), strategy="fork")
            home.write_task("ends", enabled=True, slug="2" * 32, secret=SECRET, strategy="sync", cwd="/",
                            argv=["/bin/sh", "-c", "echo out"])
            home.write_task("breaks", enabled=True, slug="3" * 32, secret=SECRET, strategy="sync", cwd="/",
                            argv=["/bin/sh", "-c", "exit 7"], failureStatus=500, consecutiveFailures=0)
            home.write_task("closes", enabled=True, slug="4" * 32, secret=SECRET, argv=["true"], strategy="close")
            home.write_task("seldom", enabled=True, slug="5" * 32, secret=SECRET, argv=["true"], strategy="sync",
                            minIntervalSeconds=3600)
            home.write_task("elsewhere", enabled=True, slug="6" * 32, secret=SECRET, argv=["true"],
                            ipAllowlist=["203.0.113.0/24"])
            home.write_task("failing", enabled=True, slug="7" * 32, secret=SECRET, argv=["false"], lastRunAt=at,
                            lastRunStatus="failed", lastRunId="20200229120000-0123abcd", consecutiveFailures=2)

            def ask(what: str, path: str = "", query: str = "", method: str = "GET", body: bytes = b"", door=door,
                    home=home, found=found, **variables: str) -> None:
                answer = getattr(home, door)(home.request(path, query, method, **variables), body)
                text = answer.body.decode()

                if text:  # with the run's id, only the length of what was masked may differ
                    assert answer.header("Content-Length") == str(len(answer.body))

                document = masked(json.loads(text), home.home) if text.startswith("{") else f"{len(text)} bytes"
                headers = {name: value for name, value in answer.headers
                           if (name != "Content-Length" or document == {"accepted": False})
                           and (text or name in ("Content-Type", "Location"))}  # the panel's may be stricter one day
                found[what] = [answer.status, headers, document]

                if document == {"accepted": False} and text:
                    assert text == '{"accepted": false}'

            def run(name_of_slug: str, **variables: Any) -> tuple[str, str]:
                return f"/run/{name_of_slug * 32}", f"sig={signature(SECRET, name_of_slug * 32)}"

            ask("unknown slug", "/run/" + "9" * 32, "sig=" + "0" * 64)
            ask("wrong signature", f"/run/{SLUG}", "sig=" + "0" * 64)
            ask("no signature", f"/run/{SLUG}")
            ask("not a slug", "/run/x", "sig=" + "0" * 64)
            ask("two signatures", f"/run/{SLUG}", f"sig={sign}", HTTP_X_WEBSCHEDULER_SIGNATURE="0" * 64)
            ask("other kind of signature", f"/run/{TIMED}", f"sig={signature(SECRET, TIMED)}")
            ask("old timed signature", f"/run/{TIMED}", f"ts={TS}&sig={signature(SECRET, f'{TIMED}.{TS}')}")
            ask("signed for status", f"/run/{SLUG}", f"sig={status}")
            ask("prefetch", f"/run/{SLUG}", f"sig={sign}", HTTP_SEC_PURPOSE="prefetch")
            ask("HEAD", f"/run/{SLUG}", f"sig={sign}", "HEAD")
            ask("OPTIONS", f"/run/{SLUG}", f"sig={sign}", "OPTIONS")
            ask("disabled", *run("f"))
            ask("address not allowed", *run("6"))
            ask("fork", *run("1"))
            until(lambda home=home: home.command_named(), "the command")
            ask("locked", *run("1"))
            ask("status while it runs", f"/status/{'1' * 32}", f"sig={signature(SECRET, 'status:' + '1' * 32)}")
            go.write_text("")
            home.idle()
            ask("fork by query", "", f"task={SLUG}&sig={sign}")
            home.idle()
            ask("fork by POST, signature in the body", f"/run/{SLUG}", "", "POST", f"sig={sign}".encode(),
                CONTENT_TYPE="application/x-www-form-urlencoded")
            home.idle()
            ask("fork, signature in the header", f"/run/{SLUG}", HTTP_X_WEBSCHEDULER_SIGNATURE=sign)
            home.idle()
            ask("fork, signature in upper case", f"/run/{SLUG}", f"sig={sign.upper()}")
            home.idle()
            ask("sync", *run("2"))
            ask("sync that fails", *run("3"))
            ask("sync once an hour", *run("5"))
            ask("sync once an hour, again", *run("5"))
            ask("close", *run("4"))
            home.idle()
            ask("status, healthy", f"/status/{SLUG}", f"sig={status}")
            ask("status by query", "", f"status={SLUG}&sig={status}")
            ask("status, failing", f"/status/{'7' * 32}", f"sig={signature(SECRET, 'status:' + '7' * 32)}")
            ask("status, unknown slug", "/status/" + "9" * 32, f"sig={status}")
            ask("status, wrong signature", f"/status/{SLUG}", f"sig={sign}")
            ask("another path", "/else/where")
            ask("bare URL")
            (home.home / "state.json").write_text("{")
            (home.home / "state.json.bak").write_text("{")
            ask("state unreadable", f"/run/{SLUG}", f"sig={sign}")
            ask("state unreadable, unknown slug", "/run/" + "9" * 32, "sig=" + "0" * 64)

    assert list(both["cgi"]) == list(both["wsgi"])
    return {what: answer if answer == both["wsgi"][what] else {"cgi": answer, "wsgi": both["wsgi"][what]}
            for what, answer in both["cgi"].items()}


def files(folder: Path) -> dict[str, Any]:
    """What stands in the files of a home, and who may read them."""
    with installed(folder / "home") as home:
        rows = (home.home / "state.json").read_text().splitlines()
        assert rows[0] == "{" and rows[-1] == "}" and all(row.startswith('"@due": {') for row in rows[1:-1])
        go = folder / "go"
        assert home.cli("add", "waits", "--strategy", "fork", "--every", "3600", "--", *waits_for(go)).status == 0
        assert home.cli("add", "fails", "--cron", "@daily", "--", "/bin/sh", "-c", "exit 7").status == 0
        assert home.cli("set-password", "owner", given="a throw-away password\n").status == 0
        assert home.cli("run", "fails").status == 1
        url = home.json("url", "waits")["url"]
        assert home.cgi(home.of_url(url)).code == 202

        claim: dict[str, Any] = {}

        # State says so of a run that lasts a second.
        until(lambda: home.state()["waits"]["lastRunStatus"] == "running", "the note of the run")

        for line in until(home.command_named, "the command").splitlines():
            claim.update(masked(json.loads(line or b"{}"), home.home))

        for key in ("starter", "supervisor", "command"):
            assert len(claim[key]) == 2 and all(isinstance(part, int) for part in claim[key])
            claim[key] = ["<pid>", "<ticks>"]

        names = [masked(file.name, home.home) for file in home.claims()]
        live = (home.home / "output").joinpath(home.claims()[0].name.partition("@")[2] + ".log").read_text()
        assert home.cgi(home.request("/run/" + "9" * 32, "sig=" + "0" * 64)).code == 202
        modes = {str(path.relative_to(home.home)): stat.filemode(path.stat().st_mode)
                 for path in sorted(home.home.rglob("*"))
                 if path.parent.name not in ("runs", "output") and not path.match("locks/.*")}
        go.write_text("")
        home.idle()
        gate = (home.home / "locks" / "fails.lock").read_bytes()

        return {
            "modes": {".": stat.filemode(home.home.stat().st_mode), **modes},
            "config.json": json.loads((home.home / "config.json").read_bytes()),
            "state.json": masked(home.state(), home.home),
            "claim": {"name": names, "facts": claim},
            "output while it runs": live,
            "gate": [re.sub(r"^[1-9]\d{9}\.\d{6}$", "<unix>", word) for word in gate.decode().split()[:2]],
            "history": {name: masked(home.history(name), home.home) for name in ("fails", "waits")},
            "refused.json": masked(json.loads((home.home / "refused.json").read_bytes()), home.home),
            "users.json": [[sorted(row), row["role"], row["password"].partition("$")[0]] for row in
                           json.loads((home.home / "users.json").read_bytes()).values()],
        }


def documents(folder: Path) -> dict[str, Any]:
    """What every reading command, `add` and what else knows --json prints."""
    with installed(folder / "home") as home:
        fixed(home)
        row = home.state()["@due"]
        home.write_task("@due", **{**row, "lastRunAt": None})
        found = {}
        calls = [
            ["list"], ["list", "--group", "monthly"], ["show", "app:report"], ["show", "@due"], ["status"], ["logs"],
            ["next", "app:report", "--from", "2026-01-01T00:00:00Z", "--count", "3"],
            ["next", "--cron", "30 2 * * *", "--timezone", "Europe/Paris", "--from", "2026-03-28T00:00:00Z"],
            ["next", "--every", "5400", "--from", "2026-03-28T00:00:00Z", "--timezone", "UTC", "--count", "2"],
            ["commands"], ["config"], ["config", "list"], ["config", "get", "timezone"],
            ["url", "app:report"], ["url", "timed", "--timed"],
            ["add", "new", "--command", "hello", "--every", "60", "--arguments", "'to all' of you", "--timeout", "5",
             "--retries", "2", "--min-interval-seconds", "10", "--ip-allowlist", "192.0.2.0/24"],
            ["edit", "new", "--priority", "7", "--disabled", "--timeout", ""],
            ["rotate-secret", "new"], ["run", "app:report"], ["run", "fails"], ["logs"],
            ["logs", "fails", "--status", "failed", "--limit", "1"], ["show", "fails"], ["status"],
            ["run-due", "--dry-run"], ["run-due"], ["doctor", "--offline"],
        ]

        for number, words in enumerate(calls):
            done = home.cli(words[0], *words[1:], "--json")
            assert done.out, done.err
            document = masked(json.loads(done.out), home.home)

            if words[0] == "doctor":  # what it finds is the host's affair
                document = sorted({tuple(finding) for finding in document})
                document = [list(keys) for keys in document]
            elif words == ["commands"]:  # there may be more
                document = {row["name"]: row for row in document}

            found[f"{number} {' '.join(words)}"] = document

        exported = home.cli("export", "json")
        found["export json"] = masked(json.loads(exported.out), home.home)
        return found


def exits(folder: Path) -> dict[str, Any]:
    """Exit statuses, and whether anything was said on either stream."""
    with installed(folder / "home") as home:
        fixed(home)
        nothing = "--home", str(folder / "nothing")
        text = folder / "text"
        text.write_text("no JSON")
        found = []
        calls = [
            ["--version"], ["--help"], ["add", "--help"], [], ["nonsense"], ["list", "--nonsense"],
            ["list"], ["list", "--group", "none"], ["show", "app:report"], ["show", "absent"], ["show"], ["status"],
            ["logs"], ["logs", "absent"], ["logs", "--status", "nonsense"], ["logs", "--run", "absent"],
            ["logs", "--limit", "0"], ["next", "app:report"], ["next", "fails"], ["next"], ["next", "absent"],
            ["next", "--cron", "61 * * * *"], ["next", "--cron", "0 0 30 2 *"], ["next", "--every", "0"],
            ["next", "--cron", "@daily", "--timezone", "Mars/Base"], ["next", "--cron", "@daily", "--from", "never"],
            ["url", "app:report"], ["url", "timed"], ["url", "absent"], ["url", "app:report", "--base", "ftp://x"],
            ["url", "app:report", "--status", "--timed"],
            ["add", "one", "--", "true"], ["add", "one", "--", "true"], ["add", "two"],
            ["add", "two", "--command", "absent"], ["add", "two", "--cron", "* * *", "--", "true"],
            ["add", "two", "--timeout", "-1", "--", "true"], ["add", "-two", "--", "true"],
            ["add", "app_report", "--", "true"], ["add", "two", "--every", "1_0", "--", "true"],
            ["add", "two", "--ip-allowlist", "300.0.0.1", "--", "true"],
            ["edit", "one", "--priority", "3"], ["edit", "one", "--priority", "high"], ["edit", "absent"],
            ["rename", "one", "first"], ["rename", "absent", "other"], ["rename", "first", "fails"],
            ["rename", "@due", "other"], ["enable", "fails"], ["disable", "fails"], ["enable", "absent"],
            ["enable", "--group", "monthly"], ["rotate-secret", "first"], ["rotate-secret", "absent"],
            ["run", "first"], ["run", "fails"], ["run", "absent"], ["run-due", "--dry-run"], ["cancel", "first"],
            ["cancel", "absent"], ["purge-logs", "first"], ["purge-logs", "first", "--yes"],
            ["remove", "first"], ["remove", "first", "--yes"], ["remove", "first", "--yes"],
            ["config"], ["config", "get", "absent"], ["config", "set", "defaultTimeout", "60"],
            ["config", "set", "defaultTimeout", "soon"], ["config", "set", "absent", "1"], ["config", "unset", "name"],
            ["commands"], ["sync"], ["export", "json"], ["export", "crontab"], ["export", "nonsense"],
            ["import", "json", str(text)], ["import", "json", str(folder / "absent")], ["shim", "php", "app:report"],
            ["set-password", "owner"], ["set-password", "a/b"], ["init"], ["doctor", "--nonsense"],
            [*nothing, "list"], [*nothing, "add", "x", "--", "true"], [*nothing, "run", "x"], [*nothing, "status"],
        ]

        for words in calls:
            done = home.cli(*words)
            shown = " ".join(words).replace(str(folder), "<folder>")
            found.append([shown, done.status, "out" if done.out else "", "err" if done.err else ""])

        (home.home / "state.json").write_text("{")

        for words in (["list"], ["add", "x", "--", "true"], ["run", "fails"], ["status"]):
            done = home.cli(*words)
            found.append([f"state unreadable: {' '.join(words)}", done.status, "out" if done.out else "",
                          "err" if done.err else ""])

        assert (home.home / "state.json").read_text() == "{"
        return {"calls": found}


COMPARED: dict[Callable[[Path], dict[str, Any]], Callable[[Any, Any], list[str]]] = {
    urls: differences, answers: differences, exits: differences, files: misfits, documents: misfits}


@pytest.mark.parametrize("look", COMPARED, ids=lambda look: look.__name__)
def test_it_is_as_in_0_1_0(look: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    """URLs, answers, files, documents and exit statuses are those of 0.1.0."""
    golden = json.loads((VECTORS / f"{look.__name__}.json").read_text())
    assert COMPARED[look](golden, json.loads(json.dumps(look(tmp_path)))) == []


@pytest.mark.parametrize(("golden", "found"), [
    ({"a": 1}, {}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1], [1, 2]), ([1], []), (1, True), ("1", 1), (None, ""),
    ({"a": {"b": None}}, {"a": {"b": 0}})])
def test_what_is_missing_or_moved_or_of_another_kind_does_not_fit(golden: Any, found: Any) -> None:
    assert misfits(golden, found) != []


def test_more_fields_fit() -> None:
    """A later version may say more; where all must be the same, it is found."""
    golden, found = {"a": 1, "c": [{"d": None}]}, {"a": 1, "b": 2, "c": [{"d": None, "e": 5}]}
    assert misfits(golden, found) == []
    assert differences(golden, found) != []
    assert differences(golden, golden) == []


def _shown(value: Any, indent: str = "") -> str:
    """JSON with what fits on a line on one line, so that a difference is seen as one."""
    flat = json.dumps(value, ensure_ascii=False)

    if len(indent + flat) <= 118 or not isinstance(value, (dict, list)) or not value:
        return flat

    inner = indent + " "
    parts = ([f"{json.dumps(key)}: {_shown(part, inner)}" for key, part in value.items()] if isinstance(value, dict)
             else [_shown(part, inner) for part in value])
    first, last = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{first}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{last}"


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    VECTORS.mkdir(parents=True, exist_ok=True)

    for look in COMPARED:
        with tempfile.TemporaryDirectory() as directory:
            (VECTORS / f"{look.__name__}.json").write_text(_shown(look(Path(directory))) + "\n")
