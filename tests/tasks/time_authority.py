"""A time stamp authority: `openssl ts`, behind a web address. The real thing, but for whom its certificate names."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CONFIG = """
[ tsa ]
default_tsa = own
[ own ]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
[ stamping ]
extendedKeyUsage = critical,timeStamping
basicConstraints = critical,CA:false
"""


def openssl(folder: Path, *words: str) -> bytes:
    return subprocess.run(["openssl", *words], cwd=folder, capture_output=True, check=True, timeout=60).stdout


def authority(folder: Path) -> Path:
    """Make an authority in `folder`: `ca.pem`, its root, and what signs for it."""
    folder.mkdir(parents=True)
    (folder / "ts.cnf").write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    key = ("-newkey", "rsa:2048", "-nodes", "-sha256")
    openssl(
        folder,
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "30",
        "-subj",
        f"/CN={folder.name}",
    )
    openssl(folder, "req", *key, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", f"/CN={folder.name} stamps")
    openssl(
        folder, "x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
        "-extfile", "ts.cnf", "-extensions", "stamping", "-out", "tsa.pem",
    )  # fmt: skip
    return folder / "ca.pem"


def reply(folder: Path, query: bytes) -> bytes:
    """What the authority says to a request."""
    (folder / "query.tsq").write_bytes(query)
    words = ("-config", "ts.cnf", "-queryfile", "query.tsq", "-signer", "tsa.pem", "-inkey", "tsa.key")
    return openssl(folder, "ts", "-reply", *words)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The authority's address for as long as the block lasts."""

    class Asked(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = reply(folder, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
