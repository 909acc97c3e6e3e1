"""Command: asks the advisory database of Python packages about every version in requirements.lock, through pip-audit.

Where pip-audit is not installed or the database does not know the packages, as without a network, it says so and ends
without an error, or with one if MSMAML_REQUIRE_AUDIT is 1.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
_SHOWN = 5  # packages that a message names


def verdict(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """
    What a report of pip-audit says.

    Args:
        report: as `pip-audit --format json` writes it.

    Returns:
        A line for each advisory, and the packages that were not looked up.
    """
    found, skipped = [], []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            skipped.append(package["name"])
            continue
        for advisory in package["vulns"]:
            mended = ", ".join(advisory["fix_versions"]) or "no release yet"
            found.append(f"{package['name']} {package['version']}: {advisory['id']}, mended in {mended}")
    return found, skipped


def main() -> None:
    is_required = os.environ.get("MSMAML_REQUIRE_AUDIT") == "1"
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps", "--disable-pip"]
    ended = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True, check=False
    )
    try:
        found, skipped = verdict(json.loads(ended.stdout))
    except ValueError:  # it printed no report
        found, skipped = [], ["all packages"]
        print((ended.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1])
    if skipped:
        more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
        print(f"not audited: {', '.join(skipped[:_SHOWN])}{more}, of which the advisory database says nothing here")
    print(*found or ["no advisory was found"], sep="\n")
    sys.exit(1 if found or (skipped and is_required) else 0)


if __name__ == "__main__":
    main()
