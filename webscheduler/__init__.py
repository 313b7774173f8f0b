# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cron by URL for shared hosting: signed trigger URLs run commands once and to their end, without a daemon.

Public names, loaded when first used, so that importing the package costs a request nothing:

- `application`: the WSGI application of the home that the environment names; `create_app(home=…, user=…)` makes others.
- `schedulable`: decorator that makes a function a command.
- `tasks(home=None)`, `history(name=None, home=None)`: the tasks, and the last runs of one or of all.
- `trigger_url(name, home=None)`: the signed URL of a task.
- `run(name, home=None)`, `run_due(home=None)`: run a task, or all that are due, and return what became of them.
"""

from __future__ import annotations

__version__ = "0.2.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .commands.discovery import schedulable as schedulable
    from .embedding import history as history
    from .embedding import run as run
    from .embedding import run_due as run_due
    from .embedding import tasks as tasks
    from .embedding import trigger_url as trigger_url
    from .wsgi import application as application
    from .wsgi import create_app as create_app

_EXPORTS = {"application": "wsgi", "create_app": "wsgi", "schedulable": "commands.discovery",
            "tasks": "embedding", "history": "embedding", "trigger_url": "embedding", "run": "embedding",
            "run_due": "embedding"}

__all__ = ["__version__", "application", "create_app", "history", "run", "run_due", "schedulable", "tasks",
           "trigger_url"]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'webscheduler' has no attribute {name!r}")

    import importlib

    return getattr(importlib.import_module(f"webscheduler.{_EXPORTS[name]}"), name)
