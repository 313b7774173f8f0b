"""`webscheduler demo`: all that matters, shown and checked in a throw-away installation.

The rule: nothing is pretended. A real server answers on the loopback interface, signed URLs are called over HTTP, and
each line says whether it came out as it should; if one did not, the exit status is 1.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time

from .. import editing, signing
from ..host.home import create_home
from ..store import history, locks
from ..store.settings import load_settings, save_settings
from .server import Quiet, listen
from .terminal import line, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.task import Task

PATIENCE = 8.0
SLOW = "import time; print('working', flush=True); time.sleep(1.5); print('done')"


class Answer:
    """What came back: status, headers but the date, body, seconds that it took."""

    def __init__(self, port: int, method: str, path: str) -> None:
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

        try:
            connection.request(method, path)
            response = connection.getresponse()
            self.body = response.read()
        finally:
            connection.close()

        self.seconds = time.monotonic() - begun
        self.status = response.status
        self.headers = [header for header in response.getheaders() if header[0] != "Date"]

    def document(self) -> dict[str, Any]:
        """The body as JSON; empty if it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}

        return found if isinstance(found, dict) else {}


def play() -> int:
    """Play the whole show; its exit status."""
    place = os.path.realpath(tempfile.mkdtemp(prefix="webscheduler-demo-"))
    home = os.path.join(place, "home")
    good = False

    try:
        create_home(home, time.time())

        with listen(home, "127.0.0.1", 0, Quiet) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()

            try:
                good = _scenes(home, server.server_port)
            finally:
                server.shutdown()
                thread.join()
    finally:
        _until_idle(home)
        shutil.rmtree(place, ignore_errors=True)

    print("\nAll as it should be; the throw-away installation is gone. Yours begins with: webscheduler init"
          if good else "\nNot all is as it should be: see the lines that say BAD.")
    return 0 if good else 1


def _scenes(home: str, port: int) -> bool:
    """Play each; whether all of it was as it should be."""
    seen = []

    def check(expected: bool, text: str) -> None:
        seen.append(expected)
        print(f"  {'ok ' if expected else 'BAD'} {line(text)}", flush=True)

    base = f"http://127.0.0.1:{port}"
    save_settings(home, {"baseUrl": base})
    settings = load_settings(home)

    def task(name: str, **fields: Any) -> Task:
        return editing.create(settings, name, fields, time.time())

    def path(of: Task) -> str:
        return signing.trigger_url("", of["slug"], of["secret"])

    three = {name: task(name, command="hello", arguments=name, strategy=name) for name in ("fork", "close", "sync")}
    slow = task("slow", argv=[sys.executable, "-I", "-c", SLOW], cwd=home, strategy="fork")

    print(f"A throw-away installation, served on {base}. A task has a signed URL for your panel to call:")
    print(f"  {base}/run/{slow['slug'][:6]}...?sig={signing.sign(slow['secret'], slow['slug'])[:6]}...")
    print("\n1. Calling it runs the task. Three strategies lay the run around the answer:")
    means = {"fork": "the run is detached, then the answer goes out", "close": "the answer goes out, then it runs",
             "sync": "it runs, then the answer tells the result"}

    for name, one in three.items():
        answer = Answer(port, "POST" if name == "close" else "GET", path(one))
        reply = answer.document()
        good = (answer.status, reply.get("accepted"), reply.get("strategy"), reply.get("status")) == (
            200 if name == "sync" else 202, True, name, "success" if name == "sync" else "running")
        said = f", {reply.get('output', '').strip()!r}" if name == "sync" else ""
        check(good, f"{name:5}  {answer.status} in {answer.seconds:.2f} s, {reply.get('status')}{said}: "
                    f"{means[name]}")

    print("\n2. Without a valid signature nothing runs, and the answer tells nothing:")
    right = path(three["fork"])
    refusals = {"a wrong signature": Answer(port, "GET", right[:-64] + "0" * 64),
                "an unknown task": Answer(port, "GET", f"/run/{'0' * 32}?sig={'0' * 64}"),
                "no signature": Answer(port, "GET", right.partition("?")[0])}
    head = Answer(port, "HEAD", right)

    for what, answer in refusals.items():
        check(answer.status == 202 and answer.document() == {"accepted": False},
              f"{what:17}  {answer.status} {answer.body.decode('latin-1').strip()}")

    wrong = refusals["a wrong signature"]
    check((head.status, head.headers, head.body) == (wrong.status, wrong.headers, b""),
          f"{'HEAD, well signed':17}  {head.status}, the same headers, and nothing runs")
    same = all((answer.status, answer.headers, answer.body) == (wrong.status, wrong.headers, wrong.body)
               for answer in refusals.values())
    check(same, "all of them the same, to the byte")

    print("\n3. A task that is still running is not started twice:")
    first, second = Answer(port, "GET", path(slow)).document(), Answer(port, "GET", path(slow)).document()
    check(first.get("status") == "running", f"first call   {first.get('status')}, run {first.get('run')}")
    check((second.get("status"), second.get("reason")) == ("skipped", "locked"),
          f"second call  {second.get('status')}, {second.get('reason')}")

    print("\n4. And you see what happened (webscheduler logs):")
    check(_until_idle(home), "every run came to its end and is recorded")

    for name in ("fork", "close", "sync", "slow"):
        entries = list(history.entries(home, name))
        runs = [entry for entry in entries if entry.get("run")]

        for entry in entries:
            good = entry in runs and len(runs) == 1 and entry["status"] == "success" or entry.get("reason") == "locked"
            output = " ".join(str(entry.get("output")).split())
            check(good, f"{when(entry.get('finishedAt'))}  {name:5}  {entry['status']:7}  "
                        f"{output or entry.get('reason') or ''}")

        if not runs:
            check(False, f"{name}: no run is recorded")

    return all(seen)


def _until_idle(home: str) -> bool:
    """Wait until no run is in progress; whether that came about."""
    end = time.monotonic() + PATIENCE

    while time.monotonic() < end:
        if not os.path.isdir(os.path.join(home, "runs")) or not os.listdir(os.path.join(home, "runs")):
            return True

        time.sleep(0.02)

    return not locks.live_runs(home)
