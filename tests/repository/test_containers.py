"""The Dockerfiles and the cluster examples, as far as they can be checked without a container engine or a cluster."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from helpers.paths import ROOT

from rlcircuits.cli.main import _parser

DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")
CLUSTER = ROOT / "examples" / "cluster"
SBATCH = CLUSTER / "release.sbatch"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


def instructions(name: str, tmp_path: Path) -> list[tuple[str, str]]:
    parser = DockerfileParser(str(tmp_path), cache_content=True)
    parser.content = (ROOT / name).read_text()
    return [(each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"]


def words_of_compare(command: str) -> list[str]:
    words = shlex.split(command)
    return words[words.index("rlcircuits") + 1 :]


@pytest.mark.parametrize("name", DOCKERFILES)
@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_has_nothing_to_say(name: str) -> None:
    found = subprocess.run(["hadolint", ROOT / name], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_would_say_it(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN apt-get update && apt-get install gcc\nRUN pip install torch\nUSER root\n")
    found = subprocess.run(["hadolint", bad], capture_output=True, text=True).stdout
    assert {"DL3007", "DL3008", "DL3009", "DL3013", "DL3015", "DL3042", "DL3002"} <= set(re.findall(r"DL\d+", found))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_pinned_and_not_of_root(name: str, tmp_path: Path) -> None:
    found = instructions(name, tmp_path)
    images = {value.split()[0] for instruction, value in found if instruction == "FROM"}
    assert len(images) == 1, "the build and the image have one Python"
    (image,) = images
    version = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+", image)
    assert version is not None
    assert version[1] in [each.rsplit(" ", 1)[1] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    users = [value for instruction, value in found if instruction == "USER"]
    assert users
    assert users[-1] not in ("root", "0")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_an_image_is_built_from_exists(name: str, tmp_path: Path) -> None:
    copied = [
        source
        for instruction, value in instructions(name, tmp_path)
        if instruction == "COPY" and "--from" not in value
        for source in value.split()[:-1]
    ]
    assert copied
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source.removeprefix("./"), kept) for kept in sent), f".dockerignore drops {source}"
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= set(copied), "the build reads them"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_installs_known_extras_under_the_constraints(name: str, tmp_path: Path) -> None:
    installs = [value for instruction, value in instructions(name, tmp_path) if "pip install" in value]
    assert len(installs) == 1
    assert "-c constraints.txt" in installs[0]
    (extras,) = re.findall(r'"\.\[([^\]]*)\]"', installs[0])
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert ("kernels" in extras) == (name == "Dockerfile.cuda")
    assert ("download.pytorch.org/whl/cpu" in installs[0]) == (name == "Dockerfile")


def test_the_versions_in_comments_are_those_of_the_constraints() -> None:
    versions = set(re.findall(r"(\d+\.\d+\.\d+)\+cpu", (ROOT / "Dockerfile").read_text()))
    assert versions == {CONSTRAINTS["torch"]}


SBATCH_OPTIONS = {
    "job-name", "nodes", "ntasks-per-node", "exclusive", "gpus-per-node", "cpus-per-task", "mem", "time", "requeue",
    "output",
}  # fmt: skip
"""Options of sbatch that the script may have, from its manual."""


def test_the_slurm_script() -> None:
    subprocess.run(["bash", "-n", SBATCH], check=True)
    text = SBATCH.read_text()
    lines = text.splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith("#SBATCH")]
    commands = [place for place, line in enumerate(lines) if line and not line.startswith("#")]
    assert max(places) < min(commands), "sbatch reads no option behind the first command"
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.M))
    assert len(options) == len(places)
    assert set(options) <= SBATCH_OPTIONS
    assert "exclusive" in options
    assert re.fullmatch(r"\d\d:\d\d:\d\d", options["time"])
    code = "\n".join(line for line in lines if not line.startswith("#"))
    assert "symmetric-run" not in code, "it ends every Ray process of the machine"
    assert "ray stop" not in code
    threads = code.index("export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_ON_NODE))")
    assert threads < code.index("ray start"), "a stage would take all cores of a machine, and one GPU"


def test_the_slurm_script_says_what_it_lacks() -> None:
    found = subprocess.run(["bash", SBATCH], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert found.returncode != 0
    assert "PAIRS: name the pairs file" in found.stderr


def rayjob() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    return job


def test_the_rayjob_has_what_kuberay_requires() -> None:
    job = rayjob()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", job["metadata"]["name"])
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == CONSTRAINTS["ray"], "the image has this version"
    groups = cluster["workerGroupSpecs"]
    for group in groups:
        assert {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= set(group)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for template in (cluster["headGroupSpec"]["template"], *(group["template"] for group in groups)):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert "/shared" in {mount["mountPath"] for mount in container["volumeMounts"]}
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert limits.get("nvidia.com/gpu") == requests.get("nvidia.com/gpu"), "GPUs cannot be overcommitted"
    assert all(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for group in groups)
    for value in [*cluster["headGroupSpec"]["rayStartParams"].values()]:
        assert isinstance(value, str), "KubeRay takes strings here"


def test_a_stage_of_the_rayjob_takes_the_cores_of_one_worker() -> None:
    cluster = rayjob()["spec"]["rayClusterSpec"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (threads,) = (each["value"] for each in head["env"] if each["name"] == "OMP_NUM_THREADS")
    for group in cluster["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(threads) == int(limits["cpu"]) // int(limits["nvidia.com/gpu"])


def commands() -> list[str]:
    script = SBATCH.read_text().replace("\\\n", " ")
    found = [rayjob()["spec"]["entrypoint"], re.findall(r"^.*rlcircuits compare .*$", script, re.M)[-1]]
    for name in DOCKERFILES:
        shown = re.findall(r"^# +docker run .*(rlcircuits compare .*)$", (ROOT / name).read_text(), re.M)
        assert len(shown) == 1
        found += shown
    return found


@pytest.mark.parametrize("command", commands())
def test_the_commands_are_understood(command: str) -> None:
    options = _parser().parse_args(words_of_compare(command))
    assert options.pairs
    assert options.output


def test_one_user_owns_the_image_and_the_pods() -> None:
    users = {re.findall(r"^USER (\d+)$", (ROOT / name).read_text(), re.M)[-1] for name in DOCKERFILES}
    pods = {
        str(template["spec"]["securityContext"]["runAsUser"])
        for spec in [rayjob()["spec"]["rayClusterSpec"]]
        for template in (spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"]))
    }
    assert users == pods
