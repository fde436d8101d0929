#!/usr/bin/env python3
"""Answers every request with its own line and headers, as text.

Usage: echo.py [PORT]    (8080 if none is given, 0 for any free one; on loopback)
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        """Any method: what was received is what is sent back."""
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not length.isdecimal():
            # The body is left where it is, so the connection cannot be used again.
            self.close_connection = True
        else:
            self.rfile.read(int(length))
        lines = [self.requestline]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        body = "".join(line + "\n" for line in lines).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = answer

    def log_message(self, *_arguments):
        """Says nothing: the terminal belongs to the example."""


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = ThreadingHTTPServer(("127.0.0.1", port), Echo)
    print(f"echo on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


main()
