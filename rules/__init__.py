"""Policy without I/O: values in, decisions out. No clock, no socket, no SQL."""
