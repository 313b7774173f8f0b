# SPDX-License-Identifier: LGPL-3.0-or-later
"""A request for /run or /status, from its environ to the answer.

May import `runs` and what `runs` may import. Begin with `handler`, which calls the stages; no stage imports another.
"""
