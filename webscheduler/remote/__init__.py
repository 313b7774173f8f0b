# SPDX-License-Identifier: LGPL-3.0-or-later
"""Installations elsewhere, called over their API: `sites` keeps where they are and their keys, `client` calls them.

The rule: it works where nothing else of the package does, on Windows as well, so it needs nothing that only POSIX has.
"""
