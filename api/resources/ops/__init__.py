"""What operators call: each resource says `for_operators = True` (api/middleware/ops_access.py)."""
