"""A site on loopback that fails in all the ways that sites do, and remembers its requests."""

import http.server
import random
import threading
from dataclasses import dataclass, field

PAGE = b"<html><body>Too many connections</body></html>"


@dataclass
class Asked:
    """One request: its method, path, Range and name of the browser, and the bytes of file sent."""

    method: str
    path: str
    range: str | None
    agent: str | None
    sent: int = 0


@dataclass
class Site:
    """`files`: path -> bytes. `mood`: of a request, gives ok, 500, 503, page, cut or stall.

    Where it stalls, half of the file is sent, `stalled` is set, and nothing more comes.
    """

    files: dict = field(default_factory=dict)
    mood: object = lambda asked: "ok"
    ranges: bool = True
    etags: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    busy_headers: dict = field(default_factory=dict)
    length: bool = True
    asked: list = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"site": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def fails_often(seed, share=0.8):
    """A mood: as many requests fail as `share` says, in four ways."""
    rng, lock = random.Random(seed), threading.Lock()

    def mood(asked):
        with lock:
            fails = rng.random() < share
            return rng.choice(("500", "503", "page", "cut")) if fails else "ok"

    return mood


def wait_for_part(target, size):
    """Wait until so many bytes of an unfinished target are on the disk; return how many."""
    tick = threading.Event()
    for _ in range(12_000):
        found = list((target.parent / ".unfinished").glob(f"{target.name}.*.part"))
        if found and found[0].stat().st_size >= size:
            return found[0].stat().st_size
        tick.wait(0.01)
    raise AssertionError("nothing came")


class _Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self):
        self.note()
        self.send_error(405)

    def do_GET(self):
        asked = self.note()
        mood = self.site.mood(asked)
        if mood in ("500", "503"):
            self.answer(int(mood), b"busy", self.site.busy_headers)
        elif mood == "page":
            self.answer(200, PAGE, {"Content-Type": "text/html"})
        elif self.path not in self.site.files:
            self.answer(404, b"no such file")
        else:
            self.send_file(asked, mood)

    def note(self):
        headers = self.headers
        asked = Asked(self.command, self.path, headers["Range"], headers["User-Agent"])
        self.site.asked.append(asked)
        return asked

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if "Content-Length" not in headers and self.site.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, asked, mood):
        body, etag = self.site.files[self.path], self.site.etags.get(self.path)
        headers = dict(self.site.headers) | ({"ETag": etag} if etag else {})
        start, status = 0, 200
        same = self.headers["If-Range"] in (None, etag)
        if asked.range and self.site.ranges and same:
            start, status = int(asked.range[len("bytes=") : -1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            if start >= len(body):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
        end = len(body)
        if mood in ("cut", "stall"):
            end = start + (end - start) // 2
        if self.site.length:
            headers["Content-Length"] = str(len(body) - start)
        asked.sent = end - start
        self.answer(status, body[start:end], headers)
        if mood == "stall":
            self.wfile.flush()
            self.site.stalled.set()
            self.site.closing.wait(60)

    def log_message(self, *arguments):
        """Keep quiet."""
