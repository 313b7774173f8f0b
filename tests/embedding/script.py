# SPDX-License-Identifier: LGPL-3.0-or-later
"""A script that uses an installation.

Rule: what stands between the two lines of dashes is shown in docs/how-to/embedding.md, word for word.
"""

# -------------------------------------------------------------------------------------------------------------------

import sys

from webscheduler import history, run, tasks
from webscheduler.errors import WebschedulerError


def main() -> int:
    """Run the task `report`, and show what of each task failed last."""
    try:
        entry = run("report")
    except WebschedulerError as error:  # one line that says what is wrong and what to do
        print(error, file=sys.stderr)
        return 2

    if entry is None:
        print("report is running already", file=sys.stderr)
        return 1

    print(f"report: {entry.get('status')} after {entry.get('duration')} s")

    for task in tasks():
        for failure in history(task["name"], status="failed", limit=1):
            print(f"{task['name']} failed at {failure.get('finishedAt')}: {failure.get('errorOutput')}")

    return 0


if __name__ == "__main__":
    raise SystemExit(main())

# -------------------------------------------------------------------------------------------------------------------
