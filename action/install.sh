#!/usr/bin/env bash
# Install rlcircuits, as it is in this action's own checkout, into an environment that no other step of the job sees.
# A torch that the runner has already is used.
set -euo pipefail
environment="$RUNNER_TEMP/rlcircuits"
python3 -m venv --system-site-packages "$environment"
"$environment/bin/python" -m pip install --disable-pip-version-check "$GITHUB_ACTION_PATH${EXTRAS:+[$EXTRAS]}" pytest
