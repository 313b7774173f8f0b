# SPDX-License-Identifier: LGPL-3.0-or-later
"""When: crontab(5) expressions, intervals, the slots of a task, and a schedule in words.

May import `store`. Begin with `slots`; `cron` reads expressions and finds their times, and knows nothing of tasks.
"""
