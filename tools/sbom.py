#!/usr/bin/env python3
"""The list of components (CycloneDX 1.6) of what the locks install: names, versions, hashes, and who needs whom.

    python3 tools/sbom.py requirements.txt [MORE.txt ...] > sbom.cdx.json

Made from the locks alone, without a network or an installation, so the same locks always give the same bytes. What
stands in the first lock is required; what only a further one has belongs to an extra and is optional.
"""

import json
import re
import sys
import tomllib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,._-]*\])?==([^ ;\\]+)(?: ; (.+?))? \\")
_HASH = re.compile(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?")
_CONSTRAINED_BY = re.compile(r"    #(?: via)? +-c .*")
_NEEDED_BY = re.compile(r"    #(?: via)? +([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,._-]*\])?(?: \(.*\))?")


@dataclass
class Pin:
    """One package of a lock. `marker` says where it is installed, if not everywhere."""

    name: str
    version: str
    marker: str | None
    hashes: list[str] = field(default_factory=list)
    needed_by: list[str] = field(default_factory=list)

    @property
    def purl(self) -> str:
        return purl(self.name, self.version)


def purl(name: str, version: str) -> str:
    """A package's address in any list of components."""
    return f"pkg:pypi/{name}@{version}"


def read_lock(text: str) -> list[Pin]:
    """The pins of a lock as uv writes it. Raises ValueError for a line that is none of its kinds."""
    pins: list[Pin] = []
    for line in text.splitlines():
        if line.startswith("# ") or line in {"    # via", "#    make lock", ""} or _CONSTRAINED_BY.fullmatch(line):
            continue
        if pin := _PIN.fullmatch(line):
            pins.append(Pin(pin[1], pin[2], pin[3]))
        elif pins and (found := _HASH.fullmatch(line)):
            pins[-1].hashes.append(found[1])
        elif pins and (by := _NEEDED_BY.fullmatch(line)):
            pins[-1].needed_by.append(by[1])
        else:
            raise ValueError(f"not a line of a lock: {line!r}")
    return pins


def component(pin: Pin, *, required: bool) -> dict[str, Any]:
    """One package. Its hashes are of all files that the lock lets in: one for each platform."""
    marker = [{"name": "weighbridge:marker", "value": pin.marker}] if pin.marker else []
    return {
        "type": "library",
        "bom-ref": pin.purl,
        "name": pin.name,
        "version": pin.version,
        "purl": pin.purl,
        "scope": "required" if required else "optional",
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in sorted(pin.hashes)],
        **({"properties": marker} if marker else {}),
    }


def bom(project: dict[str, Any], locks: list[list[Pin]]) -> dict[str, Any]:
    """The whole list."""
    pins = {pin.name: pin for lock in reversed(locks) for pin in lock}
    required = {pin.name for pin in locks[0]}
    own = purl(project["name"], project["version"])
    refs = {name: pin.purl for name, pin in pins.items()} | {project["name"]: own}
    needs: dict[str, list[str]] = {ref: [] for ref in refs.values()}
    for pin in pins.values():
        for by in pin.needed_by:
            needs[refs[by]].append(pin.purl)
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "purl": own,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": [component(pins[name], required=name in required) for name in sorted(pins)],
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in sorted(needs.items())],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    return {**content, "serialNumber": serial.urn}


def main(paths: list[str]) -> None:
    """Print it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locks = [read_lock(Path(path).read_text("utf-8")) for path in paths or [str(ROOT / "requirements.txt")]]
    json.dump(bom(project, locks), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
