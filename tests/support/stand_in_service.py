"""A service that is nothing but its health page: for tests of what starts and stops services.

Reads HOST and PORT like the real ones. With STAND_IN_DEAF=1 it ignores SIGTERM.
"""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    if os.environ.get("STAND_IN_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # In one piece: two of them write to the same pipe.
    sys.stdout.write(f"service {os.environ['DB_USER']} {os.getpid()}\n")
    sys.stdout.flush()
    HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Health).serve_forever()
