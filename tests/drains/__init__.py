"""A release with a drain, before a crowd of sockets on two gateways that are killed meanwhile.

`guest.py` is one client with its socket, which comes back as a client must; `rehearsal.py`
activates the release, kills, restarts and asks; `verdict.py` judges what the guests saw and what
the database says. scripts/rehearse-drain is the command; a small crowd is in the suite.
"""
