"""Measures Gatehouse, and side by side what else one might have built; scripts/benchmark runs it.

`load.py` is the load generator: a process of its own that says how busy it was, so that nobody
takes its limit for the server's. `figures.py` has a function for each figure; `peers/` are the
others: small, honest programs that do the same job with another library.
"""
