# SPDX-License-Identifier: LGPL-3.0-or-later
"""One run, from the decision whether it starts to its line of history.

May import `store`, `schedule` and `commands`. Begin with `admission` (the decision, under the gate), then `strategies`
(before the response, after it, or detached from it), `supervisor`, `process` and `recorder`.
"""
