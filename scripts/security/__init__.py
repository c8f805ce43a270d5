"""The gates that a change passes before it is released: scripts/security-scan runs them all.

A gate that cannot look says so, and the result is then "incomplete", never "passed".
"""
