"""Command: builds the sdist and the wheel of a commit, to the same bytes every time, with checksums and an SBOM.

It writes into a folder, which must be empty: the two files, `sbom.json` (CycloneDX: the versions of requirements.lock,
with which the release was tested) and `SHA256SUMS`, which `sha256sum --check SHA256SUMS` compares.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = "requirements.lock"
# setuptools changes the arguments while it builds.
_BUILD = "import sys; from setuptools import build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"
# A pinned package at the beginning of a line of the lock, perhaps with the environments that it is for.
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?: ; (.+?))?(?: \\)?$", re.MULTILINE)


def build(commit: str, folder: Path, repository: Path = REPOSITORY) -> list[Path]:
    """
    Builds a commit in a clone of its own, so that nothing else that lies about gets in, with what is installed here.

    Args:
        commit: any name of a commit.
        folder: where the files are written.
        repository: a clone with that commit.

    Returns:
        The sdist, the wheel, `sbom.json` and `SHA256SUMS`.

    Raises:
        ValueError: the folder has files already.
        subprocess.CalledProcessError: there is no such commit, or it cannot be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} has files already: name an empty folder")
    folder = folder.resolve()
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place, "clone")
        _run(["git", "clone", "--quiet", "--no-checkout", str(repository), str(clone)], Path(place))
        commit = _run(["git", "rev-parse", f"{commit}^{{commit}}"], repository)
        _run(["git", "checkout", "--quiet", commit], clone)
        moment = int(_run(["git", "log", "-1", "--format=%ct"], clone))
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment), "PYTHONHASHSEED": "0", "TZ": "UTC"}
        subprocess.run([sys.executable, "-c", _BUILD, str(folder)], cwd=clone, env=environment, check=True)
        (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
        _repack(sdist, moment)
        bill = sbom((clone / LOCK).read_text(), [sdist, wheel], wheel.name.split("-")[1], moment)
    (folder / "sbom.json").write_text(json.dumps(bill, indent=2) + "\n")
    files = [sdist, wheel, folder / "sbom.json"]
    (folder / "SHA256SUMS").write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in files))
    return [*files, folder / "SHA256SUMS"]


def sbom(lock: str, files: list[Path], version: str, moment: int) -> dict[str, Any]:
    """
    A bill of materials in CycloneDX 1.5.

    Args:
        lock: content of requirements.lock.
        files: of the release.
        version: of the release.
        moment: of its commit, seconds since 1970.
    """
    own = f"pkg:pypi/msmaml@{version}"
    parts = [
        {"type": "library", "name": name, "version": pinned, "purl": (purl := f"pkg:pypi/{name}@{pinned}")}
        | {"bom-ref": f"{purl}#{marker}" if marker else purl}
        | ({"properties": [{"name": "msmaml:environment", "value": marker}]} if marker else {})
        for name, pinned, marker in _PINNED.findall(lock)
    ]
    hashed = [
        {"type": "distribution", "url": path.name, "hashes": [{"alg": "SHA-256", "content": _sha256(path)}]}
        for path in files
    ]
    main = {"type": "library", "name": "msmaml", "version": version, "purl": own, "bom-ref": own}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + lock)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": main | {"externalReferences": hashed},
        },
        "components": parts,
        "dependencies": [{"ref": own, "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _repack(sdist: Path, moment: int) -> None:
    """Writes an sdist anew with one time and owner for all files: setuptools takes those of the disk."""
    content = io.BytesIO()
    with tarfile.open(sdist) as archive, tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as made:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            data = archive.extractfile(member) if member.isfile() else None
            member.mtime, member.uid, member.gid, member.uname, member.gname = moment, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            made.addfile(member, data)
    sdist.write_bytes(gzip.compress(content.getvalue(), mtime=moment))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="HEAD", help="the tag of the release")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", help="an empty folder")
    arguments = parser.parse_args()
    print(*build(arguments.commit, arguments.output), sep="\n")


if __name__ == "__main__":
    main()
