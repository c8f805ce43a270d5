"""A small service that looks like Gatehouse to the penetration test, with holes to switch on.

Nothing of Gatehouse is in it: it is what a probe must be able to tell from the real thing.
"""
