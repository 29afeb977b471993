#!/usr/bin/env bash
# Judge the pairs, and write the outcome to the job's summary. The gate's exit code is an output, so that the steps
# after this one still run; the action's last step ends with it.
set -uo pipefail
python="$RUNNER_TEMP/rlcircuits/bin/python"
summary="$RUNNER_TEMP/rlcircuits-summary.md"
junit="$RUNNER_TEMP/rlcircuits-junit.xml"
rm -f "$summary" "$junit"

# Split at white space, without what a shell does beside: no value is run or expanded.
read -rd '' -a more <<<"$ARGUMENTS"
read -rd '' -a tests <<<"$TESTS"

if [ "${#tests[@]}" -gt 0 ]; then
    "$python" -m pytest "${tests[@]}" --rlcircuits-pairs="$PAIRS" --rlcircuits-output="$OUTPUT" \
        --rlcircuits-summary="$summary" --rlcircuits-on-inconclusive="$ON_INCONCLUSIVE" --junitxml="$junit" \
        ${more[@]+"${more[@]}"}
else
    "$python" -m rlcircuits compare --pairs="$PAIRS" --output="$OUTPUT" \
        --summary="$summary" --on-inconclusive="$ON_INCONCLUSIVE" ${more[@]+"${more[@]}"}
fi
code=$?

if [ ! -f "$summary" ]; then
    printf '### ⚠️ rlcircuits: no verdict\n\nThe gate ended with exit code %s before it measured a pair; its log says why.\n' \
        "$code" >"$summary"
fi
cat "$summary" >>"$GITHUB_STEP_SUMMARY"
{
    echo "exit-code=$code"
    echo "outcome=$(sed -n '1s/^.*rlcircuits: //p' "$summary")"
    echo "summary=$summary"
    if [ -f "$junit" ]; then echo "junit=$junit"; fi
} >>"$GITHUB_OUTPUT"
