"""A request for /run or /status, from its environ to the answer.

May import `runs` and what lies below it. Begin with `handler`, which composes the stages; no stage imports another.
"""
