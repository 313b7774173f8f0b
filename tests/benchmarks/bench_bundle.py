"""How long a request to the bundle takes, as a ratio to the package: `python tests/benchmarks/bench_bundle.py`.

Both answer a request that nobody signed, with compiled modules at hand. Prints a table and judges nothing.
"""

from __future__ import annotations

import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
sys.path.insert(0, str(CHECKOUT))

from webscheduler.host import bundle, entry_files  # noqa: E402
from webscheduler.host.home import create_home  # noqa: E402

ROUNDS = 60


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        home = f"{place}/home"
        create_home(home, time.time())
        packages = Path(place, "packages")
        shutil.copytree(CHECKOUT / "webscheduler", packages / "webscheduler")
        compileall.compile_dir(str(packages), quiet=1)
        installed, bundled = Path(place, "installed.cgi"), Path(place, "bundle.cgi")
        script = entry_files.entry(entry_files.NAME)
        installed.write_text(script.replace("LIBRARIES = []", f"LIBRARIES = [{str(packages)!r}]"))
        bundle.write(str(bundled))
        environ = {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "PATH_INFO": "/run/" + "0" * 32,
                   "QUERY_STRING": "sig=" + "0" * 64, "WEBSCHEDULER_HOME": home}  # fmt: skip
        times: dict[Path, list[float]] = {installed: [], bundled: []}

        for _ in range(ROUNDS):
            for script, taken in times.items():  # in turn, so that both meet the same noise
                begun = time.perf_counter()
                done = subprocess.run([sys.executable, "-IS", str(script)], env=environ, capture_output=True)
                taken.append(time.perf_counter() - begun)
                assert done.stdout.startswith(b"Status: 202"), done.stdout

        for script, taken in times.items():
            print(f"{script.stem:10} median {statistics.median(taken) * 1000:6.1f} ms, best {min(taken) * 1000:.1f} ms")

        print(f"ratio      median {statistics.median(times[bundled]) / statistics.median(times[installed]):6.2f}, "
              f"best {min(times[bundled]) / min(times[installed]):6.2f}    ({os.path.getsize(bundled) // 1024} KiB)")


if __name__ == "__main__":
    main()
