"""A job server of Beam for Flink, as a jar that Java can run: given, or from Maven whole or in parts."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import apache_beam

_CACHE = Path.home() / ".cache" / "tfrs-mmse"
# Java and Python of Beam need not be of one version: what passes between them has been the same for years.
_WHOLE = f"org.apache.beam:beam-runners-flink-1.20-job-server:{apache_beam.__version__}"
_PARTS_VERSION = "2.62.0"
_PARTS = (
    ("org.apache.beam", "beam-runners-flink-1.19", _PARTS_VERSION),
    ("org.apache.beam", "beam-runners-java-job-service", _PARTS_VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.30"),
)
_MAIN = "org.apache.beam.runners.flink.FlinkJobServerDriver"


def flink_jar() -> Path | None:
    """The jar; None where there is none to be had.

    FLINK_JOB_SERVER_JAR of the environment names one; otherwise Maven gets it, once.
    """
    if not shutil.which("java"):
        return None
    if given := os.environ.get("FLINK_JOB_SERVER_JAR"):
        return Path(given)
    _, artifact, version = _WHOLE.split(":")
    whole = _CACHE / f"{artifact}-{version}.jar"
    parts = _CACHE / f"flink-job-server-{_PARTS_VERSION}"
    launcher = parts / "server.jar"
    if whole.exists() or launcher.exists():
        return whole if whole.exists() else launcher
    if not shutil.which("mvn"):
        return None
    if _maven("dependency:copy", f"-Dartifact={_WHOLE}", f"-DoutputDirectory={_CACHE}"):
        return whole
    parts.mkdir(parents=True, exist_ok=True)
    (parts / "pom.xml").write_text(_pom())
    copy = ["dependency:copy-dependencies", "-DoutputDirectory=jars"]
    if not _maven(*copy, folder=parts):
        return None
    _write_launcher(launcher, sorted((parts / "jars").iterdir()))
    return launcher


def _maven(goal: str, *settings: str, folder: Path | None = None) -> bool:
    command = ["mvn", "--batch-mode", "--quiet", goal, *settings]
    return not subprocess.run(
        command, check=False, capture_output=True, cwd=folder
    ).returncode


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in _PARTS
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>tests</groupId><artifactId>flink-job-server</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


def _write_launcher(path: Path, jars: list[Path]) -> None:
    """A jar that holds nothing but where the others are."""
    names = " ".join(f"jars/{jar.name}" for jar in jars)
    # A line of a manifest has 72 bytes at most; a space says that it goes on.
    line = f"Class-Path: {names}"
    lines = [line[:70], *(line[n : n + 70] for n in range(70, len(line), 70))]
    manifest = f"Manifest-Version: 1.0\nMain-Class: {_MAIN}\n" + "\n ".join(lines)
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", f"{manifest}\n\n")
    part.replace(path)
