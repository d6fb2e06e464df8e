"""`python -m pulp_hooks_http`: receives webhooks on this machine, verifies and prints them, to try a listener out."""

import argparse
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pulp_hooks_http.receiving import VerificationError, verify

_MOST_DIGITS = 7


class _Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is genuine, and 400 to what is not."""

    secret = ""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > _MOST_DIGITS:
            self.send_error(411)
            return
        content = self.rfile.read(int(length))
        try:
            webhook = verify(content, dict(self.headers.items()), self.secret)
        except VerificationError as error:
            _say(f"refused: {error}")
            self.send_error(400, str(error))
            return
        _say(f"verified {webhook.id}: {_shown(content)}")
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is inherited
        """Say nothing: each webhook has its line already."""


def _say(text: str) -> None:
    # In one piece: each webhook has a thread of its own.
    print(f"{text}\n", end="", flush=True)


def _shown(content: bytes) -> str:
    """Return the content on one line, without what a terminal would obey."""
    try:
        return json.dumps(json.loads(content))
    except (ValueError, RecursionError):
        return repr(content)


def main() -> None:
    """Receive webhooks until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m pulp_hooks_http", description=__doc__)
    parser.add_argument("secret", metavar="VARIABLE", help="environment variable with the secret, such as CI_SECRET")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; by default any free one")
    arguments = parser.parse_args()
    if not os.environ.get(arguments.secret):
        parser.error(f"environment variable {arguments.secret} is not set; fix: export it")
    _Receiver.secret = os.environ[arguments.secret]
    try:
        server = ThreadingHTTPServer(("127.0.0.1", arguments.port), _Receiver)
    except (OSError, OverflowError) as error:
        parser.error(f"port {arguments.port} cannot be used: {error}; fix: leave --port out, for any free one")
    with server:
        print(f"receiving on http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
