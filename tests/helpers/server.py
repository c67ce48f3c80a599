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
        requests: (method, path, range asked for) of each request so far.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    version: str = '1'
    headers: dict[str, str | None] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ''


@contextlib.contextmanager
def serve():
    """Serve on a free port as long as the context lasts."""
    served = Served()
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(with_content=False)

        def do_GET(self):
            self.answer(with_content=True)

        def answer(self, with_content):
            asked = self.headers.get('Range')
            served.requests.append((self.command, self.path, asked))
            content = served.files.get(self.path)
            if content is None:
                self.send_response(404)
                for name, value in {**served.headers, 'Content-Length': '0'}.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            start = 0
            tag = f'"{served.version}{self.path}"'
            if asked and served.ranges and self.headers.get('If-Range', tag) == tag:
                start = int(re.match(r'bytes=(\d+)-', asked)[1])
                self.send_response(206)
                self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
            else:
                self.send_response(200)
            self.send_header('Content-Type', 'text/html' if content.startswith(b'<') else 'application/octet-stream')
            self.send_header('ETag', tag)
            self.send_header('Last-Modified', email.utils.formatdate(0))
            for name, value in served.headers.items():
                if value is not None:
                    self.send_header(name, value)
            if 'Content-Length' not in served.headers:
                self.send_header('Content-Length', str(len(content) - start))
            self.end_headers()
            if not with_content:
                return
            rest = content[start:]
            if self.path in served.stall:
                self.wfile.write(content[start:served.stall[self.path]])
                self.wfile.flush()
                over.wait(30)
                return
            self.wfile.write(rest[:served.cut.get(self.path, len(rest))])

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    served.url = f'http://127.0.0.1:{server.server_port}'
    try:
        yield served
    finally:
        over.set()
        server.shutdown()
        server.server_close()
