"""One run, from "may it start" to its line of history.

May import `store`, `schedule` and `commands`. Begin with `admission` (decided under the gate, ends with a claim), then
`strategies` (before, after or detached from the response), `supervisor`, `process` and `recorder`.
"""
