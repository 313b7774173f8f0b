# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is searched: for each target the seeds, made of what other tests use, and how a rule is asked about some bytes.

An input has the form of what it stands for, so that a seed and a finding can be read: parts of a request are lines.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple
from urllib.parse import urlencode

from tests.fuzz import rules
from tests.installation import Installation, asking
from tests.listeners import Hook, listening
from webscheduler import signing
from webscheduler.admin import PAGES
from webscheduler.interchange import importing
from webscheduler.store import state
from webscheduler.store.settings import SETTINGS, load_settings

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
OLD = VECTORS / "v0_1_0" / "home"
SLUG, TIMED, SECRET = "0123456789abcdef" * 2, "fedcba9876543210" * 2, "a5" * 32
TS, LATE = str(int(rules.NOW)), str(int(rules.NOW) + 600)
# Names of variables that a request is made of; a server makes others of headers.
VARIABLES = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "SERVER_SOFTWARE", "CONTENT_LENGTH",
             "CONTENT_TYPE", "SCRIPT_NAME")  # fmt: skip
HEADERS = ("HTTP_X_WEBSCHEDULER_SIGNATURE", "HTTP_X_WEBSCHEDULER_TIMESTAMP")
# What starts processes is no work of a form; its pages are in tests/admin.
FORMS = sorted(page for page in PAGES if page not in (
    "run-now", "probe", "check", "cancel", "notify-test", "update", "crontab", "diagnostics", "sign-out"))  # fmt: skip
FILES = ("index", "refused.json", "users.json", "audit.jsonl", "notices.json", "capabilities.json", "throttle.json",
         "session.key", "commands.json", "locks/task.lock", "runs/task@20261128120000-00000000")  # fmt: skip


class Ground(NamedTuple):
    """Where rules are tried: an installation with the tasks `task` and `timed`, and a web server that redirects."""

    one: Installation
    site: Hook


class Target(NamedTuple):
    """seeds: inputs to begin with; check: asks the rules; words: what may stand in an input, for who changes it."""

    seeds: Callable[[Ground], list[bytes]]
    check: Callable[[Ground, bytes], None]
    words: tuple[str, ...] = ()


@contextlib.contextmanager
def ground(folder: str) -> Iterator[Ground]:
    """One in this folder."""
    one = Installation(Path(folder, "home"))
    one.add(argv=["false"], expression="0 3 * * *", slug=SLUG, secret=SECRET, signature="either")
    one.add("timed", argv=["false"], slug=TIMED, secret=SECRET[::-1], signature="timed")
    rules.paid_once()

    try:
        with listening() as site:
            yield Ground(one, site)
    finally:
        one.end()


def latin(data: bytes) -> str:
    return data.decode("latin-1")


def _request(on: Ground, data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": ""}

    for line in latin(head).split("\n"):
        name, _, value = line.partition("=")
        environ.update({name: value} if name in VARIABLES or re.fullmatch("HTTP_[A-Z_]+", name) else {})

    rules.request(on.one, environ, body)
    rules.same_at_both_doors(on.one, environ, body[:65536])


def _requests(on: Ground) -> list[bytes]:
    zeros = "0" * 64
    return [text.encode("latin-1") for text in (
        f"PATH_INFO=/run/{SLUG}\nQUERY_STRING=sig={zeros}", f"PATH_INFO=/status/{SLUG}\nQUERY_STRING=sig={zeros}",
        f"QUERY_STRING=task={SLUG}&amp;ts={TS}&sig={zeros}", f"QUERY_STRING=status%3D{SLUG}%26sig%3D{zeros}",
        f"PATH_INFO=/run/{SLUG}\nREQUEST_METHOD=POST\nCONTENT_LENGTH=68\n\nsig={zeros}",
        f"PATH_INFO=/run/{SLUG}\nHTTP_X_WEBSCHEDULER_SIGNATURE={zeros}\nHTTP_X_WEBSCHEDULER_TIMESTAMP={TS}",
        f"PATH_INFO=/run/{SLUG}\nQUERY_STRING=sig={zeros}\nHTTP_USER_AGENT=Slackbot\nHTTP_SEC_PURPOSE=prefetch",
        ("PATH_INFO=/admin/sign-in\nREQUEST_METHOD=POST\nCONTENT_LENGTH=19\nHTTP_HOST=example.org\n"
         "HTTP_ORIGIN=http://example.org\n\nuser=a&password=b&x"),
        ("REQUEST_METHOD=HEAD\nPATH_INFO=/admin/\nHTTP_COOKIE=webscheduler=W10.0\n"
         "HTTP_ACCEPT_LANGUAGE=fr;q=0.5, en\nHTTP_X_FORWARDED_FOR=10.0.0.1, ::1"),
        "PATH_INFO=/elsewhere\nSCRIPT_NAME=//x\nREMOTE_ADDR=\nSERVER_SOFTWARE=Apache/2.4 (Unix)\nHTTP_REFERER=/")]


def _signed(on: Ground, data: bytes) -> None:
    path, query, *headers = latin(data).split("\n", 3)[:4] + [""] * (2 - min(2, data.count(b"\n") + 1))
    rules.signed(on.one, asking(path, query, **dict(zip(HEADERS, headers))))


def _signatures(on: Ground) -> list[bytes]:
    found = []

    for slug, secret in ((SLUG, SECRET), (TIMED, SECRET[::-1])):
        plain, status, timed, late = (signing.sign(secret, message) for message in (
            slug, f"status:{slug}", f"{slug}.{TS}", f"{slug}.{LATE}"))  # fmt: skip
        found += [f"/run/{slug}\nsig={plain}", f"/run/{slug}\nts={TS}&sig={timed}", f"/status/{slug}\nsig={status}",
                  f"\ntask={slug}&sig={plain}", f"/run/{slug}\n\n{plain}", f"/run/{slug}\n\n{timed}\n{TS}",
                  f"\nstatus={slug.upper()}?sig={status.upper()}%20", f"//run//{slug}\nx=1&amp;sig=\"{plain}\"",
                  f"/run/{slug}\nts={LATE}&sig={late}"]  # fmt: skip

    return [text.encode() for text in found]


def _form(on: Ground, data: bytes) -> None:
    page, query, kind, body = (latin(data).split("\n", 3) + [""] * 4)[:4]
    sent = body.encode("latin-1")

    def filled(form: dict[str, str]) -> bytes:
        token = form.get("token", "").encode()

        if kind.startswith("multipart"):
            return b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n' + token + b"\r\n" + sent

        return b"token=" + token + b"&" + sent

    rules.form(on.one, page if page in FORMS else FORMS[zlib.crc32(page.encode()) % len(FORMS)], query, kind,
               filled if sent else None)  # fmt: skip


def _forms(on: Ground) -> list[bytes]:
    """What a browser sends of each page, and a backup."""
    found = []

    for page in FORMS:
        answer = rules.asked(on.one, {**asking("/admin/" + page, "" if page == "settings" else "name=task"),
                                      "webscheduler.user": rules.OWNER})  # fmt: skip
        forms = [each["fields"] for each in rules.Form(answer.body.decode()).forms] if answer.status == 200 else []
        fields = {name: value for name, value in max(forms, key=len, default={}).items() if name != "token"}
        found += [f"{page}\nname=task&page=2&status=failed\n\n",
                  f"{page}\n\napplication/x-www-form-urlencoded\n{urlencode({**fields, 'do': 'save'})}"]  # fmt: skip

    backup = json.dumps(importing.document(load_settings(str(on.one.home)), {}, False))
    found.append('backup\n\nmultipart/form-data; boundary=x\n--x\r\nContent-Disposition: form-data; name="file"; '
                 f'filename="b.json"\r\nContent-Type: application/json\r\n\r\n{backup}\r\n--x--\r\n')  # fmt: skip
    return [text.encode("latin-1", "replace") for text in found]


def _document(tasks: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"format": importing.FORMAT, "version": 1, "tasks": tasks, **more}, indent=2).encode()


def _exports(on: Ground) -> list[bytes]:
    old = state.read_strictly(str(OLD))
    few = dict(list(old.items())[:3])
    line = (OLD / "logs" / "greets.jsonl").read_bytes().splitlines(keepends=True)[0]
    histories = b'  "history": {\n' + b'"x": [\n' + line + b"," + line.replace(b"success", b"failed") + b"]\n}}\n"
    return [_document(few), _document({}), json.dumps(few).encode(), b"[]", (OLD / "state.json").read_bytes(),
            _document({"x": {"argv": ["true"]}})[:-2] + b",\n" + histories,
            _document({"x": {"argv": ["true"]}}, history={"x": [json.loads(line)]}, timezone="Europe/Paris", people=2),
            _document({"a:b": {"command": "hello", "title": "\u202e"}, "a_b": {}, "@due": {"slug": SLUG}})]  # fmt: skip


def _crontab(on: Ground, data: bytes) -> None:
    text = rules.documented(lambda: importing.decoded(data, "a file"))

    if isinstance(text, str):
        rules.crontab(text)


def _crontabs(on: Ground) -> list[bytes]:
    return [b"# m h dom mon dow command\nSHELL=/bin/bash\nMAILTO=\"me@example.org\"\n*/5 * * * * /usr/bin/php a.php\n",
            b"CRON_TZ=Europe/Paris\n@daily cd /srv && ./run.sh >/dev/null 2>&1\n0 9-17/2 * * MON-FRI x%line\\%%2\n",
            b"17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n25 6 * * * root test -x /x || y\n",
            "\ufeff*/90 * * * * t\u00e9st # webscheduler /h\r\n@reboot x\r\n".encode(),
            b"'A B' = \"c\"\n* * * * * a\\\\%b", "@hourly a\n".encode("utf-16")]  # fmt: skip


def _crons(on: Ground) -> list[bytes]:
    vectors = json.loads((VECTORS / "cron.json").read_text())
    found = sorted({each["expression"] for rows in vectors.values() if isinstance(rows, list) for each in rows
                    if isinstance(each, dict) and isinstance(each.get("expression"), str)})  # fmt: skip
    return [text.encode() for text in found]


def _home_files(on: Ground) -> list[bytes]:
    contents = {**dict.fromkeys(FILES, b""), "notices.json": b'[{"at": "2026-11-28T12:00:00Z"}]'}
    tasks = rules.lookup.look(str(on.one.home))
    assert tasks
    rules.said(str(on.one.home), ["run-due", "--dry-run"])

    for name in FILES:
        file = next((each for each in (on.one.home / name, OLD / name.replace("task", "off"), OLD / name)
                     if each.is_file()), None)  # fmt: skip
        contents[name] = file.read_bytes() if file else contents[name]

    contents[FILES[-1]] = next((OLD / "runs").iterdir()).read_bytes()
    return [name.encode() + b"\n" + content for name, content in contents.items()]


def _home_file(on: Ground, data: bytes) -> None:
    name, _, content = data.partition(b"\n")
    rules.other_file(on.one, latin(name) if latin(name) in FILES else FILES[zlib.crc32(name) % len(FILES)], content)


def _state(on: Ground, data: bytes) -> None:
    rules.state_file(on.one, data, [rules.COMMANDS[zlib.crc32(data) % len(rules.COMMANDS)]])


def _texts(*texts: str) -> Callable[[Ground], list[bytes]]:
    return lambda on: [text.encode("latin-1", "replace") for text in texts]


def _own(*names: str) -> Callable[[Ground], list[bytes]]:
    """Files of a home of the first release, and that of the ground by the first of these names."""
    return lambda on: [file.read_bytes() for name in names for file in sorted(OLD.glob(name))] + [
        file.read_bytes() for file in on.one.home.glob(names[0])]


ADDRESSES = _texts(
    "http://127.0.0.1/", "https://user:p%40ss@example.org:8443/a b?c=d#e", "http://[::1]:80/", "//10.0.0.7/x", "/hook",
    "HTTP://[::ffff:127.0.0.1]/", "http://0x7f.1", "http://2130706433/", "http://127.0.0.2:1/", "http://1.1.1.1./",
    "http://[fe80::1%25lo]/", "http://a@127.0.0.1%23@[64:ff9b::7f00:1]/", "http://b\u00fccher.example/", "?x=%zz",
    "http:\\\\192.168.0.1\\", "http://169.254.169.254/latest", "http://\uff11\uff12\uff17.0.0.1/")
URLS = ("http://", "https://", "127.0.0.1", "[::1]", "@", ":80", "%00", "#", "?", "//", "\\", "0x7f000001", "10.0.0.1")
JSON = ("{", "}", "[", "]", '"', ":", ",", "null", "true", "1e999", "NaN", "\\ud800", "\\u001b", "99999999999999999999")
QUERY = ("sig=", "ts=", "task=", "status=", "admin=", "&", "&amp;", "?", "%3D", "%26", "%20", "\n", SLUG, TIMED, TS)

TARGETS: dict[str, Target] = {
    "query": Target(_texts("a=1&b=2", "%zz=%ff%fe&+;&amp;=", "task=x&sig=%E2%80%9D"),
                    lambda on, data: rules.query(latin(data)), QUERY),
    "request": Target(_requests, _request, (*VARIABLES, *HEADERS, *QUERY)),
    "signed": Target(_signatures, _signed, QUERY),
    "cron": Target(_crons, lambda on, data: rules.cron(data.decode("utf-8", "replace")),
                   ("*", "/", "-", ",", "L", "W", "#", "?", "@daily", "MON", "JAN", "59", "31", " ")),
    "form": Target(_forms, _form, (*FORMS, "name=", "do=", "\n", "multipart/form-data; boundary=x", "%00", "%0A")),
    "cookies": Target(_texts("webscheduler=W10.0000; webscheduler_notice=e30.00; x", "webscheduler_device=a.b.c"),
                      lambda on, data: rules.cookies(on.one, latin(data)),
                      ("webscheduler=", "webscheduler_notice=", "webscheduler_device=", "webscheduler_stranger=", ";")),
    "history": Target(_own("logs/*.jsonl"), lambda on, data: rules.history_file(on.one, data),
                      (*JSON, "\n", "finishedAt", "startedAt", "run", "command", "output")),
    "state": Target(_own("state.json"), _state, (*JSON, "task", "@due", "expression", "timezone")),
    "config": Target(_own("config.json"), lambda on, data: rules.config_file(on.one, data), (*JSON, *SETTINGS)),
    "crontab": Target(_crontabs, _crontab, ("* * * * *", "@daily", "CRON_TZ=", "SHELL=", "%", "\\", "\n", "root", "#")),
    "backup": Target(_exports, lambda on, data: rules.export_file(on.one, data),
                     (*JSON, "tasks", "history", importing.FORMAT, "@due", "slug", "secret")),
    "url": Target(ADDRESSES, lambda on, data: rules.url(data.decode("utf-8", "replace")), URLS),
    "redirect": Target(ADDRESSES, lambda on, data: rules.redirect(on.site, data), URLS),
    "files": Target(_home_files, _home_file, (*JSON, *FILES, "\n")),
}  # fmt: skip


def changed(chance: random.Random, seeds: list[bytes], words: tuple[str, ...]) -> bytes:
    """One of the seeds, with a few changes."""
    data = chance.choice(seeds)

    for _ in range(chance.randint(1, 4)):
        at, end = sorted(chance.randint(0, len(data)) for _ in range(2))
        put = chance.choice((b"", bytes([chance.randrange(256)]), chance.choice(words or ("0", )).encode(),
                             data[at:end], chance.choice(seeds)[at:end]))  # fmt: skip
        data = data[:at] + put + data[chance.choice((at, at + 1, min(end, at + 50))):]

    return data
