"""A web server that can be told to be ill: `web.py NAME PORT FILE`

It answers every GET with NAME, over IPv4, with the status that is written in FILE (200 where there is none). It
prints "ready" when it listens. A program of its own, with the standard library alone, as lab/responder.py is.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

name, port, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = name.encode()
        self.send_response(int(file.read_text()) if file.exists() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", port), Handler)
    print("ready", flush=True)
    server.serve_forever()
