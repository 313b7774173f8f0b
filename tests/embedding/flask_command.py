# SPDX-License-Identifier: LGPL-3.0-or-later
"""A command of `flask` that lists tasks.

Rule: what stands between the two lines of dashes is shown in docs/how-to/embedding.md, word for word.
"""

# -------------------------------------------------------------------------------------------------------------------

import click
from flask import Flask

from webscheduler import tasks, trigger_url

site = Flask(__name__)


@site.cli.command("tasks")
@click.option("--urls", is_flag=True, help="Also their trigger URLs.")
def list_tasks(urls: bool) -> None:
    """List the tasks of the scheduler, and how their last runs ended."""
    for task in tasks():
        click.echo(f"{task['name']}: {task.get('lastRunStatus') or 'never ran'}")

        if urls:
            click.echo(f"  {trigger_url(task['name'])}")

# -------------------------------------------------------------------------------------------------------------------
