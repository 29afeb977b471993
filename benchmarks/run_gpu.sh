#!/usr/bin/env bash
# The whole GPU run in under nine minutes: the CUDA tests, then every benchmark that needs a GPU.
#
#   bash benchmarks/run_gpu.sh             results in benchmarks/results/<gpu>/
#   OUT=DIR bash benchmarks/run_gpu.sh     results in DIR
#
# Nothing is installed: it needs Python 3.11 or later with torch, triton, transformers, pytest, pytest-benchmark,
# hypothesis, rich, lazy_loader and tabulate. PYTHON names the interpreter. Exits with 0 if all passed and nothing
# was left out for lack of time. Compare with earlier results by benchmarks/speed/regression.py.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
# The largest batches fill most of the memory; segments that can grow leave no gaps in it.
export PYTORCH_ALLOC_CONF=expandable_segments:True
limit=530 # seconds for everything
status=0

gpu=$("$python" -c 'import importlib.util as u, sys
missing = [m for m in ("torch", "triton", "transformers", "pytest", "pytest_benchmark", "hypothesis", "rich",
                       "lazy_loader", "tabulate") if not u.find_spec(m)]
if missing: sys.exit(f"{sys.executable} lacks {missing}: nothing was run; PYTHON names another interpreter")
import torch
if not torch.cuda.is_available(): sys.exit("no CUDA device: nothing was run")
sys.path.insert(0, "benchmarks")
import conftest
print(conftest.machine())') || exit 2
out=${OUT:-benchmarks/results/$gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# phase NAME SECONDS COMMAND...: run it in the time that is left, if that is at least SECONDS.
phase() {
    local name=$1 least=$2 left=$((limit - SECONDS))
    shift 2
    if [ "$left" -lt "$least" ]; then
        echo "=== $name: LEFT OUT, $left s are left and it needs about $least"
        status=1
        return
    fi
    echo "=== $name, after $SECONDS s"
    timeout --signal=INT "$left" "$@" || {
        echo "=== $name: FAILED ($?)"
        status=1
    }
}

run() {
    "$python" -c 'import platform, torch, triton, transformers
print(f"{torch.cuda.get_device_name()}, Python {platform.python_version()}, torch {torch.__version__}, "
      f"triton {triton.__version__}, transformers {transformers.__version__}")'
    # Most of the tests' time is compiling kernels, which several processes share.
    several=$("$python" -c 'import importlib.util as u; print("-n 8" if u.find_spec("xdist") else "")')
    phase tests 60 "$python" -m pytest -q $several -p no:cacheprovider \
        tests/attribution/test_cuda.py tests/contraction/test_triton_kernel.py tests/contraction/test_contraction.py
    # A process each, so that each model has the memory to itself and its results are kept if the next one fails.
    for model in llama-2-7b mistral-7b qwen2.5-7b qwen2.5-14b; do
        phase "$model" 60 "$python" -m pytest -q -p no:cacheprovider benchmarks/speed/test_core_speed.py -k "cuda-$model" \
            --rlcircuits-thorough \
            --benchmark-storage="file://$out" --benchmark-save="$model" --benchmark-columns=median,rounds
    done
    phase "other tiles" 60 "$python" benchmarks/speed/tune_contraction.py
    echo "=== $SECONDS s in all; exit $status"
    return $status
}

run 2>&1 | tee "$out/run.log"
