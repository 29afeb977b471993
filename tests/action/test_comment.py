"""The comment of the action: one on a pull request, which later runs update, by a server that speaks GitHub's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers.action_runner import Runner

BOT = "github-actions[bot]"
STEP = "Comment on the pull request"
PAGE = 3
"""Comments that the server gives at once."""


class GitHub(ThreadingHTTPServer):
    """As much of GitHub's API as comments need."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: list[dict[str, Any]] = []
        self.may_write = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, login: str, body: str) -> None:
        self.comments.append({"id": 100 + len(self.comments), "user": {"login": login}, "body": body})


class Handler(BaseHTTPRequestHandler):
    server: GitHub

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        assert path == "/repos/team/model/issues/7/comments"
        place = int(dict(part.split("=") for part in query.split("&")).get("page", 0)) * PAGE
        following = f'<{self.server.url}{path}?page={place // PAGE + 1}>; rel="next"'
        more = place + PAGE < len(self.server.comments)
        self._answer(200, self.server.comments[place : place + PAGE], {"Link": following} if more else {})

    def do_POST(self) -> None:
        assert self.path == "/repos/team/model/issues/7/comments"
        if self._allowed():
            self.server.add(BOT, self._body())
            self._answer(201, self.server.comments[-1])

    def do_PATCH(self) -> None:
        (found,) = (one for one in self.server.comments if self.path.endswith(f"/issues/comments/{one['id']}"))
        if self._allowed():
            found["body"] = self._body()
            self._answer(200, found)

    def _allowed(self) -> bool:
        allowed = self.server.may_write and self.headers["Authorization"] == "Bearer secret"
        if not allowed:
            self._answer(403, {"message": "Resource not accessible by integration"})
        return allowed

    def _body(self) -> str:
        return str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"])

    def _answer(self, code: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def github() -> Iterator[GitHub]:
    server = GitHub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def runner(github: GitHub, tmp_path: Path) -> Runner:
    event, summary = tmp_path / "event.json", tmp_path / "summary.md"
    event.write_text(json.dumps({"pull_request": {"number": 7, "title": '"; rm -rf / #'}}))
    summary.write_text("### ✅ rlcircuits: holds\n", encoding="utf-8")
    context = {
        "token": "secret", "event_path": str(event), "repository": "team/model", "api_url": github.url,
        "server_url": "https://github.com", "run_id": "12",
    }  # fmt: skip
    outputs = {"gate": {"summary": str(summary)}, "upload": {"artifact-url": "https://github.com/artifact"}}
    return Runner(tmp_path, {}, context, outputs)


def test_the_first_run_writes_and_later_ones_update(runner: Runner, github: GitHub) -> None:
    for other in range(5):  # more than one page of them
        github.add("someone", f"comment {other}")
    assert runner.run(STEP).stdout == "the comment is written\n"
    assert len(github.comments) == 6
    body = github.comments[-1]["body"]
    assert body.startswith("<!-- rlcircuits gate: rlcircuits -->\n### ✅ rlcircuits: holds\n")
    assert "[page](https://github.com/artifact) · [run](https://github.com/team/model/actions/runs/12)" in body
    Path(runner.outputs["gate"]["summary"]).write_text("### ❌ rlcircuits: does not hold\n", encoding="utf-8")
    assert runner.run(STEP).stdout == "the comment is updated\n"
    assert len(github.comments) == 6
    assert "does not hold" in github.comments[-1]["body"]


def test_another_gate_and_another_author_have_comments_of_their_own(runner: Runner, github: GitHub) -> None:
    github.add("mallory", "<!-- rlcircuits gate: rlcircuits -->\nall is well")
    runner.run(STEP)
    runner.inputs = {**runner.inputs, "name": "math --> <b>"}
    runner.run(STEP)
    assert [comment["user"]["login"] for comment in github.comments] == ["mallory", BOT, BOT]
    assert github.comments[0]["body"].endswith("all is well")
    assert github.comments[2]["body"].startswith("<!-- rlcircuits gate: math-b- -->\n")


def test_a_run_that_may_not_comment_warns(runner: Runner, github: GitHub) -> None:
    github.may_write = False
    ran = runner.run(STEP)
    assert ran.returncode == 0
    assert ran.stdout.startswith(
        "::warning title=rlcircuits::There is no comment on the pull request: the token may not"
    )
    assert not github.comments


def test_a_run_without_a_pull_request_writes_nothing(runner: Runner, github: GitHub) -> None:
    Path(runner.github["event_path"]).write_text('{"ref": "refs/heads/main"}')
    ran = runner.run(STEP)
    assert (ran.returncode, ran.stdout.split(";")[0]) == (0, "this run is not about a pull request")
    assert not github.comments


@pytest.mark.parametrize("fold", ["\n<details>x", ""])
def test_a_summary_that_is_too_long_is_cut(runner: Runner, github: GitHub, fold: str) -> None:
    table = "| a long row |\n" * (100 if fold else 10_000)
    Path(runner.outputs["gate"]["summary"]).write_text(f"### outcome\n{table}{fold}" + "y" * 70_000, encoding="utf-8")
    runner.run(STEP)
    (comment,) = github.comments
    assert len(comment["body"]) < 65_536
    assert "is in the job's summary" in comment["body"]
    rows = comment["body"].count("| a long row |\n")
    assert rows == 100 if fold else 4_300 < rows <= 65_000 // 15
    assert "yyy" not in comment["body"]


def test_a_summary_of_one_line_is_cut_too(runner: Runner, github: GitHub) -> None:
    Path(runner.outputs["gate"]["summary"]).write_text("y" * 70_000, encoding="utf-8")
    assert runner.run(STEP).returncode == 0
    (comment,) = github.comments
    assert 60_000 < len(comment["body"]) < 65_536


def test_a_comment_of_an_account_that_is_gone_is_no_ones(runner: Runner, github: GitHub) -> None:
    github.comments.append({"id": 99, "user": None, "body": "hello"})
    assert runner.run(STEP).stdout == "the comment is written\n"


def test_a_connection_that_ends_before_the_answer_warns(
    runner: Runner, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "do_POST", lambda self: self.close_connection)  # no status line is sent
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.0")
    ran = runner.run(STEP)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("::warning title=rlcircuits::There is no comment on the pull request: ")
