"""A small caching proxy for apt: nodes have no way out, and packages need to come over the network only once.

Only GET over http. What never changes under its name (packages, by-hash files) is kept; the rest is fetched again, and
taken from the cache where the network fails.
"""

import contextlib
import http.server
import os
import re
import secrets
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request

from .state import CLUSTER

FOREVER = re.compile(r"\.deb$|/by-hash/")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        names = [urllib.parse.unquote(p) for p in parts.path.split("/") if p]
        if parts.scheme != "http" or not parts.netloc or any(n.startswith(".") or "/" in n for n in names) or not names:
            self.send_error(400, "only http addresses of packages are served here")
            return
        path = CLUSTER.joinpath("apt", re.sub(r"[^\w.-]", "_", parts.netloc), *names)
        if not (FOREVER.search(parts.path) and path.exists()):
            problem = self.fetch(path)
            if problem and not path.exists():
                self.send_error(*problem)
                return
        try:
            with open(path, "rb") as handle:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(handle.fileno()).st_size))
                self.end_headers()
                shutil.copyfileobj(handle, self.wfile)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def fetch(self, path):
        """None, or the code and text of what went wrong."""
        request = urllib.request.Request(self.path, headers={"User-Agent": "choir-lab"})
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(temporary, "wb") as handle:
                    shutil.copyfileobj(answer, handle)
            os.replace(temporary, path)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                path.unlink(missing_ok=True)
            return error.code, error.reason
        except OSError as error:
            return 502, f"the archive cannot be reached ({error})"[:200]
        finally:
            temporary.unlink(missing_ok=True)
        return None


def serve(address, port):
    server = http.server.ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    return server


@contextlib.contextmanager
def here():
    """The proxy on this machine's loopback, for as long as the block runs."""
    server = serve("127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
