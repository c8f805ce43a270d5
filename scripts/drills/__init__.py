"""The incidents of the runbook, each a file, and what they share.

`report` is what a drill says; `operator` the hands of the person on call; `cast` the made people
and their sockets; `stage` the three together. An incident is `rehearse(stage, report)`: it does
what the runbook says and checks that it came true from the outside. `preview` gives the commands
alone.
"""
