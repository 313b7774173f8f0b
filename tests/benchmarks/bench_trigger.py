"""How soon a CGI request is answered, as a ratio to the bare interpreter: `python tests/benchmarks/bench_trigger.py`.

The floor is a script of the same Python with the same options that writes the same 19 bytes and ends. A peer starts the
command by `subprocess` and leaves it alone, which is the least that a home-made trigger does. All take turns, so that
each meets the same noise. Prints a table and judges nothing.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT))

from webscheduler import signing  # noqa: E402
from webscheduler.host.home import create_home  # noqa: E402
from webscheduler.store import locks, state  # noqa: E402
from webscheduler.store.task import new_task  # noqa: E402

ROUNDS = 40
SLUGS = {name: character * 32 for name, character in (("quick", "a"), ("long", "b"))}
HEAD = "Status: 202 Accepted\\r\\nContent-Type: application/json\\r\\nContent-Length: 19\\r\\n\\r\\n"
FLOOR = f"""import os
os.write(1, b'{HEAD}{{"accepted": false}}')
os._exit(0)
"""
PEER = f"""import os, subprocess
subprocess.Popen(["/bin/true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                 start_new_session=True)
os.write(1, b'{HEAD}{{"accepted": false}}')
os._exit(0)
"""


def prepare(home: str, tasks: int) -> dict[str, str]:
    """An installation with so many tasks; the secrets of the two that are called."""
    create_home(home, time.time())
    own = {"quick": {"argv": ["/bin/true"]}, "long": {"argv": ["/bin/sleep", "600"]}}
    common = {"enabled": True, "strategy": "fork"}
    rows = {name: new_task(time.time(), {**common, "slug": SLUGS[name], **fields})
            for name, fields in own.items()}  # fmt: skip
    others = {f"task-{n}": new_task(time.time(), {"argv": ["true"]}) for n in range(tasks - 2)}
    state.update(home, lambda found: found.update({**others, **rows}))
    return {name: row["secret"] for name, row in rows.items()}


def call(script: Path, home: str, path: str = "", query: str = "") -> tuple[float, bytes]:
    """Seconds until the answer is whole, and the answer."""
    environ = {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query,
               "SCRIPT_NAME": "/cgi-bin/webscheduler.cgi", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
               "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "WEBSCHEDULER_HOME": home}  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-IS", str(script)], env=environ, capture_output=True)
    return time.perf_counter() - begun, done.stdout


def idle(home: str, alive: int) -> None:
    """Wait until no more than so many runs are left."""
    while len(os.listdir(f"{home}/runs")) > alive:
        time.sleep(0.005)


def main() -> None:
    import filelock

    with tempfile.TemporaryDirectory() as place:
        floor, peer, script = (Path(place, name) for name in ("floor.py", "peer.py", "webscheduler.cgi"))
        floor.write_text(FLOOR)
        peer.write_text(PEER)
        libraries = [str(CHECKOUT), str(Path(filelock.__file__).parents[1])]
        text = (CHECKOUT / "cgi-bin" / "webscheduler.cgi").read_text()
        script.write_text(text.replace("LIBRARIES = []", f"LIBRARIES = {libraries!r}"))
        cases = {"floor: a bare script": (floor, "", "", ""), "peer: Popen and leave": (peer, "", "", "")}
        expected: dict[str, bytes] = dict.fromkeys(cases, b'"accepted": false')

        for tasks in (10, 1000):
            home = f"{place}/home{tasks}"
            secrets = prepare(home, tasks)
            queries = {name: "sig=" + signing.sign(secrets[name], SLUGS[name]) for name in SLUGS}
            status = "sig=" + signing.sign(secrets["quick"], signing.status_message(SLUGS["quick"]))
            cases.update({
                f"refused, {tasks} tasks": (script, home, "/run/" + "0" * 32, "sig=" + "0" * 64),
                f"started (fork), {tasks} tasks": (script, home, "/run/" + SLUGS["quick"], queries["quick"]),
                f"locked, {tasks} tasks": (script, home, "/run/" + SLUGS["long"], queries["long"]),
                f"status, {tasks} tasks": (script, home, "/status/" + SLUGS["quick"], status),
                f"panel, the way in, {tasks} tasks": (script, home, "/admin/setup", "")})
            expected.update(zip(list(cases)[-5:], (b'"accepted": false', b'"running"', b'"locked"', b'"healthy"',
                                                   b"<html")))  # fmt: skip
            call(script, home, "/run/" + SLUGS["long"], queries["long"])

        times: dict[str, list[float]] = {name: [] for name in cases}

        try:
            for number in range(-2, ROUNDS):  # two rounds to warm up
                for name, (program, home, path, query) in cases.items():
                    taken, answer = call(program, home, path, query)
                    assert expected[name] in answer, (name, answer)

                    if number >= 0:
                        times[name].append(taken)

                    if home:
                        idle(home, 1)
        finally:
            for home in {home for _, home, *_ in cases.values() if home}:
                for run in locks.live_runs(home):
                    os.kill(run["command"][0], signal.SIGTERM)

                idle(home, 0)

        base = next(iter(times.values()))

        for name, taken in times.items():
            ratios = [one / other for one, other in zip(taken, base)]
            print(f"{name:32} median {statistics.median(taken) * 1000:6.1f} ms   x {statistics.median(ratios):5.2f}")


if __name__ == "__main__":
    main()
