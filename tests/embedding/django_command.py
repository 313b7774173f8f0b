# SPDX-License-Identifier: LGPL-3.0-or-later
"""A command of `manage.py` that runs tasks.

Rule: what stands between the two lines of dashes is shown in docs/how-to/embedding.md, word for word.
"""

# -------------------------------------------------------------------------------------------------------------------

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webscheduler import run, run_due
from webscheduler.errors import WebschedulerError


class Command(BaseCommand):
    help = "Run a task of the scheduler now, or all that are due."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="the task; without it all that are due")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            entry = run(options["name"]) if options["name"] else run_due()
        except WebschedulerError as error:
            raise CommandError(str(error)) from None

        if entry is None:
            raise CommandError("it is running already")

        self.stdout.write(entry.get("output", ""))

        if entry.get("status") != "success":
            raise CommandError(f"it ended as {entry.get('status')}: {entry.get('errorOutput')}")

# -------------------------------------------------------------------------------------------------------------------
