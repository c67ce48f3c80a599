"""A web server on 127.0.0.1 that also does what servers should not: it stalls, breaks off and changes its files."""

import contextlib
import email.utils
import http.server
import re
import threading
from dataclasses import dataclass, field


@dataclass
class Served:
    """What there is to get, and how.

    Attributes:
        files: Path → content.
        cut: Path → how many bytes a connection sends before it is closed.
        stall: Path → the byte of the file from which on nothing is sent.
        ranges: Whether a part may be asked for.
        version: Tells this version of the files from others.
        headers: Headers beside those of every file; of errors too.
        errors: Path → what the header ``X-Error-Code`` says of it where it is not there.
        requests: (method, path, range asked for) of each request so far.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    version: str = '1'
    headers: dict[str, str | None] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ''


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the server's ``served`` holds."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_content=False)

    def do_GET(self):
        self._answer(with_content=True)

    def _answer(self, with_content):
        served = self.server.served
        asked = self.headers.get('Range')
        served.requests.append((self.command, self.path, asked))
        content = served.files.get(self.path)
        if content is None:
            error = {'X-Error-Code': served.errors[self.path]} if self.path in served.errors else {}
            self._send_headers(404, {**served.headers, **error, 'Content-Length': '0'})
            return
        start = 0
        tag = f'"{served.version}{self.path}"'
        headers = {'Content-Type': 'text/html' if content.startswith(b'<') else 'application/octet-stream',
                   'ETag': tag, 'Last-Modified': email.utils.formatdate(0)}
        if asked and served.ranges and self.headers.get('If-Range', tag) == tag:
            start = int(re.match(r'bytes=(\d+)-', asked)[1])
            headers['Content-Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
        headers = {**headers, 'Content-Length': str(len(content) - start), **served.headers}
        self._send_headers(206 if 'Content-Range' in headers else 200, headers)
        if with_content:
            self._send_content(content, start)

    def _send_headers(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _send_content(self, content, start):
        served = self.server.served
        if self.path in served.stall:
            self.wfile.write(content[start:served.stall[self.path]])
            self.wfile.flush()
            self.server.over.wait(30)
            return
        rest = content[start:]
        self.wfile.write(rest[:served.cut.get(self.path, len(rest))])


@contextlib.contextmanager
def serve():
    """Serve on a free port as long as the context lasts."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
    server.served, server.over = Served(url=f'http://127.0.0.1:{server.server_port}'), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.served
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
