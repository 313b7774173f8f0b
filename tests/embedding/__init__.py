# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sites that embed the scheduler: `flask_site` and `django_site`, the examples that docs/how-to/embedding.md shows.

Each is one file with an `application`, as a WSGI server wants it, and accounts whose passwords are their names: olga
owns the scheduler, vera reads, nobody has an account and nothing to do with it.
"""
