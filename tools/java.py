"""The home of a Java that runs Spark 4.3, printed for the Makefile; one is installed where there is none.

In order: JAVA_HOME, java on PATH, the usual folders, .jdk in this project; else a JDK of the project's own by the
install-jdk package, which needs a network; else, as root, the distribution's package. Needs Java 17 or later with the
module jdk.incubator.vector, which cut-down runtimes lack.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = 17
MODULE = "jdk.incubator.vector"
OWN = Path(__file__).resolve().parents[1] / ".jdk"
PACKAGE = "openjdk-17-jre-headless"


def candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if java := shutil.which("java"):
        yield Path(java).resolve().parents[1]
    for folder in (Path("/usr/lib/jvm"), Path("/opt/java"), Path("/Library/Java/JavaVirtualMachines"), OWN):
        if folder.is_dir():
            yield from sorted(folder.iterdir(), reverse=True)
            yield from (child / "Contents" / "Home" for child in sorted(folder.iterdir(), reverse=True))


def fault(home: Path) -> str | None:
    """Say why this Java cannot be used; None when it can."""
    java = home / "bin" / "java"
    if not java.is_file():
        return "no bin/java"
    try:
        version = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
        modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run ({error})"
    found = re.search(r'version "(\d+)', version)
    if found is None or int(found[1]) < OLDEST:
        return f"version {found[1] if found else 'unknown'}, needs {OLDEST} or later"
    return None if MODULE in modules else f"lacks the module {MODULE} (a cut-down runtime)"


def find() -> Path | None:
    for home in candidates():
        why_not = fault(home)
        if why_not is None:
            return home
        if why_not != "no bin/java":
            print(f"java: {home}: {why_not}", file=sys.stderr)
    return None


def install_own() -> str | None:
    """Put a JDK into .jdk; return why it could not, or None."""
    print(f"java: none found that serves; installing JDK {OLDEST} into {OWN}", file=sys.stderr)
    try:
        import jdk

        OWN.mkdir(exist_ok=True)
        jdk.install(str(OLDEST), path=str(OWN))
    except Exception as error:  # whatever goes wrong with a download, the next way is tried
        return f"install-jdk: {type(error).__name__}: {error}"
    return None


def install_package() -> str | None:
    """Install the distribution's package; return why it could not, or None."""
    if shutil.which("apt-get") is None:
        return "apt-get: not this distribution's package manager"
    if os.geteuid() != 0:
        return f"apt-get: needs root (sudo apt-get install {PACKAGE})"
    print(f"java: installing the package {PACKAGE}", file=sys.stderr)
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", PACKAGE]):
        done = subprocess.run(command, stdout=sys.stderr, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode != 0:
            return f"{' '.join(command)}: exit code {done.returncode}"
    return None


def main() -> int:
    home = find()
    failures = []
    for install in (install_own, install_package):
        if home is None:
            failure = install()
            failures += [failure] if failure else []
            home = find()
    if home is None:
        print(
            f"\nJava {OLDEST} or later is needed by Spark and could not be installed:\n  "
            + "\n  ".join(failures)
            + f"\nInstall a JDK (for example the package {PACKAGE}) and set JAVA_HOME, then run make again.",
            file=sys.stderr,
        )
        return 1
    print(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
