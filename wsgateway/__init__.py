"""The websocket service: one-time tickets in, an ordered log out, `python -m wsgateway`."""
