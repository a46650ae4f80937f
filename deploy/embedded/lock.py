"""Write kafka.lock anew: `python -m deploy.embedded.lock 4.4.0` (a developer's tool).

Needs Maven on the PATH: only its own resolution picks the versions Kafka was tested with.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.embedded.jars import LOCK, digest, download
from deploy.embedded.state import StackError

LOG4J: Final = "2.24.3"
SCALA: Final = "2.13"
LISTED: Final = re.compile(r"^\s+([^:\s]+):([^:]+):jar:([^:]+):(?:compile|runtime)\b", re.MULTILINE)
HEADER: Final = """\
# Every jar of the embedded Kafka: group:artifact:version:sha256, checked before first use.
# Written by `python -m deploy.embedded.lock`.
"""


def resolve(kafka: str, folder: Path) -> list[str]:
    """Return the coordinates the broker and its log binding need at run time."""
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError("writing kafka.lock needs Maven (mvn) on the PATH")
    (folder / "pom.xml").write_text(project(kafka))
    goal = ("dependency:list", "-DincludeScope=runtime", "-DoutputFile=list.txt")
    subprocess.run([maven, "-q", "-B", *goal], cwd=folder, check=True)
    return sorted(map(":".join, LISTED.findall((folder / "list.txt").read_text())))


def project(kafka: str) -> str:
    """Return a Maven project that depends on what the stack runs."""
    roots = (
        ("org.apache.kafka", f"kafka_{SCALA}", kafka),
        ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J),
        ("org.apache.logging.log4j", "log4j-core", LOG4J),
    )
    dependencies = "".join(f"<dependency>{named(*root)}</dependency>" for root in roots)
    own = f"<modelVersion>4.0.0</modelVersion>{named('local', 'lock', '1')}"
    return f"<project>{own}<dependencies>{dependencies}</dependencies></project>"


def named(group: str, artifact: str, version: str) -> str:
    """Return a coordinate as Maven's XML has it."""
    return f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"


def main() -> None:
    """Resolve the given version of Kafka and write the lock."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [
            f"{coordinate}:{digest(download(folder, coordinate))}\n" for coordinate in resolve(sys.argv[1], folder)
        ]
    LOCK.write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
