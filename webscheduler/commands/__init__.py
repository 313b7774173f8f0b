# SPDX-License-Identifier: LGPL-3.0-or-later
"""What can be run: registered commands, those found in Python code, and the two built in.

May import `store` and `schedule`. Begin with `registry`, which makes an argv of a task.
"""
