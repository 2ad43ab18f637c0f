"""What can be known about a run on Dataflow without an account there: nothing here talks to Google.

The job graph is that of the command with Dataflow's own flags; the package is built as `--setup_file` has it built.
"""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import apache_beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.stager import Stager
from apache_beam.transforms import environments

import beam.job
from beam.config import PreprocessConfig
from tests.conftest import Shop

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--runner=DataflowRunner",
    "--project=shop",
    "--region=europe-west4",
    "--temp_location=gs://shop/temp",
    "--staging_location=gs://shop/staging",
    "--job_name=preprocess",
]
STANDARD_CODERS = {
    f"beam:coder:{name}:v1"
    for name in (
        "bytes",
        "kv",
        "varint",
        "iterable",
        "nullable",
        "string_utf8",
        "global_window",
    )
}
IMAGE = "image"  # Dataflow takes Beam's own for this version of Python


class Built(Exception):
    """Raised in place of running a pipeline, with the pipeline."""

    def __init__(self, pipeline: apache_beam.Pipeline) -> None:
        super().__init__()
        self.pipeline = pipeline


def built(
    shop: Shop, output: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> apache_beam.Pipeline:
    """The pipeline that the command would run."""

    def run(pipeline: apache_beam.Pipeline) -> None:
        raise Built(pipeline)

    monkeypatch.setattr(beam.job, "run", run)
    logs = [str(shop.events)], [str(shop.items)]
    with pytest.raises(Built) as raised:
        beam.job.preprocess(*logs, str(output), PreprocessConfig(), flags)
    return raised.value.pipeline


@pytest.fixture
def graph(
    simulated_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> beam_runner_api_pb2.Pipeline:
    """What the command would send to Dataflow, but for the packages that are staged beside it."""
    pipeline = built(simulated_shop, tmp_path / "out", FLAGS, monkeypatch)
    image = environments.DockerEnvironment.from_container_image(IMAGE)
    return pipeline.to_runner_api(default_environment=image)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked source package that `--setup_file setup.py` makes Beam build and stage."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("beam", "serving", "tfrs_mmse"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    with tarfile.open(
        Stager._build_setup_package(str(source / "setup.py"), str(built))
    ) as tar:
        tar.extractall(built, filter="data")
    (folder,) = [path for path in built.iterdir() if path.is_dir()]
    return folder


def test_every_step_is_one_that_a_portable_runner_knows(
    graph: beam_runner_api_pb2.Pipeline,
) -> None:
    # A composite that has nothing inside gives what it takes, and no runner sees it.
    urns = {
        transform.spec.urn
        for transform in graph.components.transforms.values()
        if not transform.subtransforms
        and set(transform.outputs.values()) - set(transform.inputs.values())
    }
    assert urns == {
        "beam:transform:impulse:v1",
        "beam:transform:pardo:v1",
        "beam:transform:group_by_key:v1",
        "beam:transform:flatten:v1",
    }
    coders = {coder.spec.urn for coder in graph.components.coders.values()}
    opaque = {
        "beam:coder:pickled_python:v1",
        "beam:coder:tuple:v1",
    }  # bytes to a runner; workers have the SDK
    assert coders - opaque <= STANDARD_CODERS


def test_all_steps_run_in_workers_of_one_kind(
    graph: beam_runner_api_pb2.Pipeline,
) -> None:
    used = {
        graph.components.environments[transform.environment_id].urn
        for transform in graph.components.transforms.values()
        if transform.environment_id
    }
    assert used == {"beam:env:docker:v1"}


@pytest.mark.slow
def test_the_package_is_all_that_workers_need_of_us(
    graph: beam_runner_api_pb2.Pipeline, package: Path, tmp_path: Path
) -> None:
    """Every function and coder of the graph is made again by a process that has the package and not this folder."""
    (tmp_path / "graph").write_bytes(graph.SerializeToString())
    code = """
import sys
import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

graph = beam_runner_api_pb2.Pipeline.FromString(open("graph", "rb").read())
pipeline = apache_beam.Pipeline.from_runner_api(graph, FnApiRunner(), PipelineOptions())
import beam.request_steps, tfrs_mmse
print(beam.request_steps.__file__, tfrs_mmse.__file__, sep="\\n")
"""
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(package) for line in done.stdout.split())


@pytest.mark.slow
def test_the_dry_run_of_dataflow_takes_the_graph(
    simulated_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dataflow's own runner, to the point where it would talk to Google; needs the client libraries of Beam's `gcp`."""
    pytest.importorskip(
        "google.cloud.dataflow", reason="apache-beam[gcp] is not installed"
    )
    import google.auth
    from apache_beam.io.gcp.gcsio import GcsIO
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setattr(
        google.auth, "default", lambda **_: (AnonymousCredentials(), "shop")
    )
    monkeypatch.setattr(
        GcsIO, "is_soft_delete_enabled", lambda *_: False
    )  # asks the bucket
    flags = [*FLAGS, f"--setup_file={ROOT / 'setup.py'}", "--no_auth", "--dry_run=True"]
    result = built(simulated_shop, tmp_path / "out", flags, monkeypatch).run()
    assert result.state == "DONE"
    (environment,) = result.job.proto_pipeline.components.environments.values()
    staged = [artifact.role_payload for artifact in environment.dependencies]
    assert any(
        b"workflow.tar.gz" in payload for payload in staged
    )  # what Beam calls the package of `--setup_file`


def test_what_workers_import_is_declared() -> None:
    """Workers install what `setup.py` names, and what that needs in turn."""
    declared = re.findall(
        r'^        "([\w-]+)[~=<>]',
        (ROOT / "setup.py").read_text().split("extras_require")[0],
        re.MULTILINE,
    )
    installed: set[str] = set()
    queue = list(declared)
    while queue:
        name = canonical(queue.pop())
        if name not in installed:
            installed.add(name)
            queue += [part for part in needed(name) if canonical(part) not in installed]
    providers = importlib.metadata.packages_distributions()
    for path in [*(ROOT / "beam").rglob("*.py"), *(ROOT / "tfrs_mmse").rglob("*.py")]:
        for module in imported(path) - {*sys.stdlib_module_names, "beam", "tfrs_mmse"}:
            assert installed & set(map(canonical, providers[module])), (
                f"{path.name} imports {module}"
            )


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str) -> list[str]:
    """What a distribution needs always, not for one of its extras."""
    try:
        requirements = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # for another system or Python
    return [
        re.split(r"[^\w.-]", line)[0] for line in requirements if "extra ==" not in line
    ]


def imported(path: Path) -> set[str]:
    """The top-level modules that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
