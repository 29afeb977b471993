"""A server of the S3 protocol, moto's, as a process of its own.

moto needs another python-dateutil than constraints.txt has, so that it lives in an environment of its own:

    python3 -m venv moto && moto/bin/pip install 'moto[server]==5.2.5' && export PATH=$PATH:$PWD/moto/bin
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType

import pytest

BUCKET = "bucket"


@dataclass
class S3Server:
    """A server with one bucket."""

    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def __enter__(self) -> S3Server:
        program = shutil.which("moto_server")
        assert program is not None, "looked for before"
        command = [program, "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while True:
            with suppress(OSError):
                self._send("PUT", BUCKET)
                return self
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server, as a connection that is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _send(self, method: str, path: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{path}", method=method), timeout=10).close()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server with an empty bucket; skip the test where moto is not on the path."""
    if shutil.which("moto_server") is None:
        pytest.skip("moto_server is not on the path; see tests/helpers/s3_server.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with S3Server(port) as server:
        yield server
