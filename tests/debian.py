"""Programs of Debian's packages; .ci/run installs what is missing, and a test without its program fails."""

import shutil
from typing import Final

PACKAGE_OF: Final = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "docker-compose": "docker-compose",
    "debootstrap": "debootstrap",
    "iptables-save": "iptables",
    "iptables-restore": "iptables",
    "ip": "iproute2",
    "umount": "mount",
    "rm": "coreutils",
    "bash": "bash",
    "make": "make",
}


def program(name: str) -> str:
    """Return the path of an installed program; fail naming the package it is in."""
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: apt-get install --no-install-recommends {PACKAGE_OF[name]}"
    return found
