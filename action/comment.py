"""Write the outcome as one comment on the pull request, and update that comment at later runs.

Run by `action.yml` as a step of a job. It reads `TOKEN`, `NAME` (of the gate), `AUTHOR` (whose comment is updated),
`SUMMARY` (the Markdown file), `ARTIFACT_URL`, and what GitHub sets in every step: `GITHUB_EVENT_PATH`,
`GITHUB_REPOSITORY`, `GITHUB_API_URL`, `GITHUB_SERVER_URL` and `GITHUB_RUN_ID`.

The comment is found by a marker that Markdown does not show. Others can write the marker too, so the author is
compared. A run that may not comment, such as one of a fork, warns and does not fail.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LONGEST = 65_000
"""Characters of a comment; GitHub's limit is 65,536."""

_FOLD = "<details>"
_NEXT_PAGE = re.compile(r'<([^>]+)>; rel="next"')


def main(environment: Mapping[str, str]) -> None:
    """Write or update the comment; say so, or why not, in the log."""
    number = pull_request_number(environment)
    if number is None:
        print("this run is not about a pull request; no comment is written")
        return
    marker = make_marker(environment["NAME"])
    summary = Path(environment["SUMMARY"]).read_text(encoding="utf-8")
    body = make_body(marker, summary, make_links(environment))
    api = Api(environment["TOKEN"])
    issues = f"{environment['GITHUB_API_URL']}/repos/{environment['GITHUB_REPOSITORY']}/issues"
    try:
        found = find_comment(api, f"{issues}/{number}/comments", marker, environment["AUTHOR"])
        if found is None:
            api.send("POST", f"{issues}/{number}/comments", {"body": body})
            print("the comment is written")
        else:
            api.send("PATCH", f"{issues}/comments/{found}", {"body": body})
            print("the comment is updated")
    # urllib passes on a connection that ends before the answer as it is, and an answer may be no JSON.
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = "the token may not write comments: does the job have `permissions: pull-requests: write`?"
        if not isinstance(error, urllib.error.HTTPError) or error.code not in (401, 403, 404):
            why = " ".join(str(error).split()) or type(error).__name__
        print(f"::warning title=rlcircuits::There is no comment on the pull request: {why}")


def pull_request_number(environment: Mapping[str, str]) -> int | None:
    """Return the number of the pull request that the run is about; None if it is about none."""
    event = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    number = (event.get("pull_request") or {}).get("number")
    return None if number is None else int(number)


def make_marker(name: str) -> str:
    """Return the comment's first line, which Markdown does not show."""
    return f"<!-- rlcircuits gate: {re.sub(r'[^A-Za-z0-9_.]+', '-', name)} -->"


def make_body(marker: str, summary: str, links: str) -> str:
    """Return the comment's text, without the fold of all measures, and then without its end, if it is too long."""
    left = LONGEST - len(marker) - len(links) - 100
    if len(summary) > left:
        summary = f"{summary.partition(_FOLD)[0]}The table of every measure is in the job's summary.\n"
    if len(summary) > left:
        end = summary.rfind("\n", 0, left)
        summary = f"{summary[: left if end < 0 else end]}\n\nThe rest is in the job's summary.\n"
    return f"{marker}\n{summary}\n{links}\n"


def make_links(environment: Mapping[str, str]) -> str:
    """Return links to the run, and to the page if there is one."""
    run = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(environment)
    page = environment.get("ARTIFACT_URL")
    return " · ".join([*([f"[page]({page})"] if page else []), f"[run]({run})"])


def find_comment(api: Api, url: str, marker: str, author: str) -> int | None:
    """Return the id of the author's first comment that begins with the marker; None if there is none."""
    for comment in api.pages(f"{url}?per_page=100"):
        login = (comment["user"] or {}).get("login")  # null where the account is gone
        if login == author and (comment["body"] or "").startswith(marker):
            return int(comment["id"])
    return None


class Api:
    """GitHub's REST interface."""

    def __init__(self, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}

    def pages(self, url: str) -> Iterator[Any]:
        """Yield the items of all pages of a list."""
        following: str | None = url
        while following:
            items, headers = self._ask(urllib.request.Request(following, headers=self._headers))
            yield from items
            found = _NEXT_PAGE.search(headers.get("Link") or "")
            following = found[1] if found else None

    def send(self, method: str, url: str, content: Any) -> Any:
        """Send JSON, and return the answer's."""
        headers = {**self._headers, "Content-Type": "application/json"}
        return self._ask(urllib.request.Request(url, json.dumps(content).encode(), headers, method=method))[0]

    def _ask(self, request: urllib.request.Request) -> tuple[Any, Mapping[str, str]]:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response), response.headers


if __name__ == "__main__":
    sys.exit(main(os.environ))
