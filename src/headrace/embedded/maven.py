"""Apache Kafka's jars: resolved once by Maven into a folder of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from headrace.embedded.errors import ServerFailed

KAFKA_VERSION: Final = "4.1.1"

_OLDEST_JAVA: Final = 17
"""What brokers of Kafka 4 need."""
_RESOLVE_WITHIN: Final = 600.0
_ARTIFACTS: Final = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.36"),  # else Kafka logs nothing, and a failed start has no reason
)


def java_missing() -> str | None:
    """Why there is no Java that runs Kafka, and the cure; None: there is."""
    program = java()
    if program is None:
        return f"there is no Java on this machine. Install Java {_OLDEST_JAVA} or newer"
    asked = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', asked.stderr + asked.stdout)
    if found is None:
        return f"{program} doesn't tell its version. Install Java {_OLDEST_JAVA} or newer"
    if int(found[1]) < _OLDEST_JAVA:
        return f"{program} is version {found[1]}. Install Java {_OLDEST_JAVA} or newer"
    return None


def maven_missing() -> str | None:
    """Why there is no Maven, and the cure; None: there is."""
    if shutil.which("mvn") is None:
        return "there is no Maven on this machine (it fetches Kafka's jars). Install Maven 3"
    return None


def java() -> str | None:
    """Path of the `java` program: of `JAVA_HOME` if that is set, else of the search path."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        return str(Path(home) / "bin" / "java")
    return shutil.which("java")


def jars(cache: Path) -> Path:
    """The folder with Kafka's jars, filled at first (some 55 MB from Maven Central).

    Several processes may ask at once: each fills a folder of its own, the first one to rename it wins.

    Raises:
        ServerFailed: Maven is missing or could not resolve them; the error has the end of its output.
    """
    target = cache.absolute() / "kafka" / KAFKA_VERSION
    if target.is_dir():
        return target
    reason = maven_missing()
    if reason is not None:
        raise ServerFailed("Apache Kafka", reason, "")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="resolve-") as work:
        _resolve(Path(work))
        try:
            (Path(work) / "jars").rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target


def _resolve(work: Path) -> None:
    (work / "pom.xml").write_text(_pom())
    command = [
        "mvn",
        "--batch-mode",
        "--no-transfer-progress",
        "--file",
        str(work / "pom.xml"),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={work / 'jars'}",
        "-DincludeScope=runtime",
    ]
    try:
        resolved = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RESOLVE_WITHIN)
    except subprocess.TimeoutExpired as error:
        sentence = f"Maven did not fetch Kafka's jars in {_RESOLVE_WITHIN:g} s"
        raise ServerFailed("Apache Kafka", sentence, str(error.output or "")[-2_000:]) from error
    if resolved.returncode != 0:
        raise ServerFailed("Apache Kafka", "Maven could not fetch Kafka's jars", resolved.stdout[-2_000:])


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in _ARTIFACTS
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>headrace</groupId><artifactId>embedded-kafka</artifactId><version>{KAFKA_VERSION}</version>"
        f"<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>"
    )
