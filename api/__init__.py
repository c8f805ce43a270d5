"""The HTTP service: a synchronous Falcon application on waitress, `python -m api`."""
