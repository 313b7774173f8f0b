# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every kind of server with every strategy: a run is laid around its response as promised, and leaves one line whatever
becomes of client and server."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPResponse, HTTPSConnection
from typing import Callable
from urllib.parse import urljoin, urlsplit

import pytest

from tests.installation import until
from tests.matrix import ENDS_SCRIPTS, FILE, ONLY_AT_ROOT, PARTS, STRATEGIES, Place, Result, examine, page, used
from tests.servers import KINDS, Kind, python, start, workplace

WRITE = bool(os.environ.get("WEBSCHEDULER_WRITE_DOCS"))
AT_A_TIME = 2 if WRITE else 6  # a kind mostly waits; durations are to be little disturbed

pytestmark = pytest.mark.timeout(1200)  # the first test waits for all of them
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
strategies = pytest.mark.parametrize("asked", STRATEGIES)


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest) -> Iterator[Callable[[Kind], Result]]:
    """What was seen of a kind. All kinds that the chosen tests ask for are examined at the same time."""
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    asked = {call.params["kind"].name for call in calls if call and "kind" in call.params}
    python()  # made once, before there are threads

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        wanted = KINDS if WRITE else asked
        futures = {name: pool.submit(examine, kind) for name, kind in KINDS.items() if name in wanted}

        if WRITE:
            FILE.write_text(page({name: future.result() for name, future in futures.items()}), encoding="utf-8")

        yield lambda kind: futures[kind.name].result()
        pool.shutdown(cancel_futures=True)


@kinds
@strategies
def test_a_run_is_one_line_that_names_its_strategy(kind: Kind, asked: str, seen: Callable[[Kind], Result]) -> None:
    """A trigger leads to one successful run, laid as asked, or by the next strategy where that one cannot work; answer
    and history name it."""
    result = seen(kind)
    document = result.timed[asked].document
    (line,) = result.lines[f"timed-{asked}"]
    assert (line["status"], line["strategy"]) == ("success", used(kind, asked))
    assert (document["run"], document["strategy"]) == (line["run"], line["strategy"])
    assert document["detached"] is (line["strategy"] == "fork")


@kinds
@strategies
def test_the_answer_comes_before_or_after_the_run(kind: Kind, asked: str, seen: Callable[[Kind], Result]) -> None:
    """`fork` and `close` have the whole body at the client while the command goes on; it is let go only then, under
    `fork` only when the connection has ended, too. `sync` answers when the command has ended."""
    timed = seen(kind).timed[asked]
    strategy = used(kind, asked)
    assert timed.command_had_ended is (strategy == "sync")
    assert timed.document["status"] == ("success" if strategy == "sync" else "running")


@kinds
def test_a_detached_run_inherits_nothing(kind: Kind, seen: Callable[[Kind], Result]) -> None:
    """The command has 0, 1, 2 and its claim open, in every strategy; the detached supervisor no socket, and no file
    but the output and the claim, which it has once to lock it and once to write."""
    result = seen(kind)

    for asked in STRATEGIES:
        (line,) = result.lines[f"timed-{asked}"]
        found = dict(re.findall(r" (\d+) -> (.*)", line["output"]))
        claims = [number for number, target in found.items() if target.endswith(f"/runs/timed-{asked}@{line['run']}")]
        assert len(claims) == 1
        assert sorted(found) == sorted(["0", "1", "2", *claims])
        assert found["0"] == "/dev/null"
        assert found["1"].startswith("pipe:")
        assert found["2"].startswith("pipe:")

    (line,) = result.lines["timed-fork"]
    # Not inherited: a library, open for a moment while it imports, or for good (libffi 3.5 keeps its own file open).
    files = [target for target in result.descriptors
             if not re.match(r"pipe:|/dev/null$|.*\.so[.\d]*$", target)]
    assert sorted(re.sub(".*/home/", "", target) for target in files) == [
        f"output/{line['run']}.log", *[f"runs/timed-fork@{line['run']}"] * 2
    ]  # fmt: skip


@kinds
@strategies
def test_a_client_that_hangs_up(kind: Kind, asked: str, seen: Callable[[Kind], Result]) -> None:
    """A client that is gone before the end changes nothing for a detached run. Any other may be ended: in one line."""
    (line,) = seen(kind).lines[f"hangup-{asked}"]
    assert line["strategy"] == used(kind, asked)
    assert line["status"] in (["success"] if asked == "fork" else ["success", "interrupted"])


@kinds
@strategies
@pytest.mark.parametrize("what", ["reload", "stop"])
def test_a_server_that_is_reloaded_or_stopped(
    kind: Kind, asked: str, what: str, seen: Callable[[Kind], Result]
) -> None:
    """A detached run goes on over reload and stop of the server, to its end. Any other does or is recorded as
    interrupted, at the latest by the next trigger: none is lost and none doubled."""
    (line,) = seen(kind).lines[f"{what}-{asked}"]
    assert line["strategy"] == used(kind, asked)
    assert line["status"] in (["success"] if asked == "fork" else ["success", "interrupted"])


@kinds
def test_others_are_served_meanwhile(kind: Kind, seen: Callable[[Kind], Result]) -> None:
    """While a detached run goes on its server answers others, on the same connection where it keeps that open."""
    seen_meanwhile = seen(kind).meanwhile["fork"]
    assert seen_meanwhile.new_connection == "answered"
    assert seen_meanwhile.same_connection in ("answered", "closed")


@kinds
@strategies
def test_the_body_has_an_end_of_its_own(kind: Kind, asked: str, seen: Callable[[Kind], Result]) -> None:
    """The client has the whole body by its length or its last chunk, not by the end of the connection."""
    headers = seen(kind).timed[asked].headers
    assert "content-length" in headers or headers.get("transfer-encoding") == "chunked"


@kinds
def test_path_and_query_lead_to_a_task(kind: Kind, seen: Callable[[Kind], Result]) -> None:
    """A task is found by the path and by the query, at the root, below a script, and where the application is mounted
    below a prefix."""
    names = ["timed", "query"]

    if kind.family == "wsgi" and kind.name not in ONLY_AT_ROOT:
        names += ["mounted-path", "mounted-query"]

    for name in names:
        (line,) = seen(kind).lines[f"{name}-fork"]
        assert line["status"] == "success"


@pytest.mark.parametrize("kind", [KINDS[name] for name in ENDS_SCRIPTS], ids=ENDS_SCRIPTS)
def test_a_script_that_goes_on_although_it_should_not(kind: Kind, seen: Callable[[Kind], Result]) -> None:
    """Where `close` is not used, being made to use it shows why: the server ends the script (suexec's, which it may not
    signal, it keeps the connection for). The run has one line all the same."""
    result = seen(kind)
    (line,) = result.lines["forced-close"]
    assert (line["strategy"], line["status"]) == ("close", "success" if kind.name == "apache-suexec" else "interrupted")


def test_behind_a_proxy() -> None:
    """Behind nginx with https a run's client is the one that came to nginx, whatever it says of itself, where nginx is
    trusted; else it is nginx. Allow-lists go by that. Whoever came by https stays there."""
    kind = KINDS["nginx-gunicorn"]

    with workplace(kind) as directory:
        place = Place(kind, directory)
        installation = place.installation
        installation.configure(trustedProxies=["127.0.0.1"])
        place.add("listed", "fork", 0, ipAllowlist=["127.0.0.2"])
        place.give()

        with start(kind, directory, place.file, env=place.env) as server:
            assert server.secure_url
            port = urlsplit(server.secure_url).port
            context = ssl.create_default_context(cafile=str(server.certificate))

            def ask(path: str, source: str) -> tuple[HTTPResponse, bytes]:
                client = HTTPSConnection("127.0.0.1", port, source_address=(source, 0), context=context)

                with closing(client):
                    client.request("GET", path, headers={"X-Forwarded-For": "127.0.0.2", "X-Forwarded-Proto": "http"})
                    answer = client.getresponse()
                    return answer, answer.read()

            def trigger(task: str, source: str) -> tuple[bool, list[tuple[str, str]]]:
                lines = len(installation.history(task))
                url = urlsplit(place.url(server, task))
                accepted = json.loads(ask(f"{url.path}?{url.query}", source)[1])["accepted"]
                until(lambda: len(installation.history(task)) > lines and not installation.claims(), "a line")
                return accepted, [(line["status"], line["ip"]) for line in installation.history(task)[lines:]]

            assert trigger("listed-fork", "127.0.0.3") == (False, [("rejected", "127.0.0.3")])
            assert trigger("listed-fork", "127.0.0.2") == (True, [("success", "127.0.0.2")])
            assert trigger("query-fork", "127.0.0.3") == (True, [("success", "127.0.0.3")])
            installation.configure(trustedProxies=[])
            assert trigger("query-fork", "127.0.0.3") == (True, [("success", "127.0.0.1")])

            moved, _ = ask("/", "127.0.0.3")
            assert moved.status == 303
            assert urljoin(f"{server.secure_url}/", moved.headers["Location"]).startswith(f"{server.secure_url}/admin/")


def test_the_page_has_every_server_and_strategy(request: pytest.FixtureRequest) -> None:
    """docs/reference/servers.md shows each kind with each strategy, and the strategy that it really gets."""
    if WRITE:
        request.getfixturevalue("seen")

    text = FILE.read_text(encoding="utf-8")
    missing = [
        (kind.name, asked)
        for kind in KINDS.values()
        for asked in STRATEGIES
        if not re.search(rf"(?m)^\| {kind.name} \| {asked} \| {used(kind, asked)} \|( \d+\.\d\d \|){{3}}$", text)
    ]
    assert missing == []
    assert not re.search(r"(?m)\|  \|", text), "a cell is empty"
    assert not [part for part in PARTS if part not in text], "the page's words are not those of tests/matrix.py"
