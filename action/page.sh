#!/usr/bin/env bash
# Write the HTML page of the results. Without a pair that was measured, or without the extra plots, there is none.
set -uo pipefail
page="$RUNNER_TEMP/rlcircuits-page.html"
rm -f "$page"
"$RUNNER_TEMP/rlcircuits/bin/python" -m rlcircuits report "$OUTPUT" --html="$page" >/dev/null
if [ -f "$page" ]; then
    echo "page=$page" >>"$GITHUB_OUTPUT"
else
    echo "::warning title=rlcircuits::There is no HTML page; the line above says why."
fi
