"""A server with the part of Google Cloud Storage's JSON API that MLflow's artifact store uses.

Uploads in one request or in resumable chunks, downloads by range, listings by prefix and delimiter. What it does not
know is a 501, so that nothing passes unseen. Left out: credentials (STORAGE_EMULATOR_HOST sends none).
"""

from __future__ import annotations

import email
import json
import re
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

UPLOAD = re.compile(r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o")
DOWNLOAD = re.compile(r"/download/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
LIST = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o")


class GcsStandin:
    """On a free port, in a thread of its own; `objects` is what it holds, by name."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.sessions: list[tuple[str, bytearray]] = []  # resumable uploads, by number
        self.chunks = 0  # that were put

        class Handler(_Handler):
            store = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: GcsStandin

    def do_GET(self) -> None:
        path, query = self._asked()
        if found := DOWNLOAD.fullmatch(path):
            return self._download(unquote(found["name"]))
        if LIST.fullmatch(path):
            return self._list(query["prefix"], query["delimiter"])
        self._answer(501)

    def do_POST(self) -> None:
        path, query = self._asked()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not UPLOAD.fullmatch(path):
            return self._answer(501)
        if query["uploadType"] == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts: Any = email.message_from_bytes(head + body).get_payload()
            about, media = parts
            name = json.loads(about.get_payload())["name"]
            return self._store(name, media.get_payload(decode=True))
        self.store.sessions.append((json.loads(body)["name"], bytearray()))
        session = f"{self.store.url}{path}?session={len(self.store.sessions) - 1}"
        self._answer(200, headers={"Location": session})

    def do_PUT(self) -> None:
        """One chunk of a resumable upload."""
        _, query = self._asked()
        name, content = self.store.sessions[int(query["session"])]
        content += self.rfile.read(int(self.headers["Content-Length"]))
        self.store.chunks += 1
        if int(self.headers["Content-Range"].rpartition("/")[2]) == len(content):
            return self._store(name, bytes(content))
        self._answer(308, headers={"Range": f"bytes=0-{len(content) - 1}"})

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}

    def _store(self, name: str, content: bytes) -> None:
        self.store.objects[name] = content
        self._answer(200, json.dumps(self._about(name)).encode())

    def _about(self, name: str) -> dict[str, Any]:
        import google_crc32c

        content = self.store.objects[name]
        checksum = b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        return {"name": name, "bucket": self.store.bucket, "size": len(content), "crc32c": checksum}

    def _download(self, name: str) -> None:
        content = self.store.objects.get(name)
        if content is None:
            return self._answer(404)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._answer(200, content)
        first = int(asked[1])
        last = min(int(asked[2] or len(content)), len(content) - 1)
        place = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self._answer(206, content[first : last + 1], place)

    def _list(self, prefix: str, delimiter: str) -> None:
        under = [name for name in sorted(self.store.objects) if name.startswith(prefix)]
        deeper = {
            n[: n.index(delimiter, len(prefix)) + 1] for n in under if delimiter in n[len(prefix) :]
        }
        items = [self._about(name) for name in under if delimiter not in name[len(prefix) :]]
        self._answer(200, json.dumps({"items": items, "prefixes": sorted(deeper)}).encode())

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
