"""One class, one concern; their order is drawn in api/app.py."""
