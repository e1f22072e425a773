#!/usr/bin/env python3
"""Prints the bill of materials of Braid's image: CycloneDX JSON.

Usage: sbom.py --target TRIPLE --version VERSION --created TIME --program NAME=FILE...

Listed are the crates that are linked into the two executables for this target, as cargo resolves them (no build
scripts, no macros, nothing of the tests), with the checksums of Cargo.lock; Rust's standard library; and, for targets
with the GNU C library, that library, both as this machine has them. The same inputs give the same bytes.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# A line of cargo tree: depth, name, version, where it is from, licence.
LINE = re.compile(r"^(\d+) (\S+) v(\S+)(?: \(([^)]*)\))?\|(.*?)(?: \(\*\))?$")


def run(*command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def checksums():
    with open(os.path.join(ROOT, "Cargo.lock"), "rb") as file:
        return {(one["name"], one["version"]): one.get("checksum") for one in tomllib.load(file)["package"]}


def crate(name, version, licence, checksum):
    found = {"type": "library", "bom-ref": f"{name}@{version}", "name": name, "version": version}
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if licence:
        found["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    found["purl"] = f"pkg:cargo/{name}@{version}"
    return found


def crates(target):
    """Components and who depends on whom, of what is linked into the executables."""
    cargo = os.environ.get("CARGO", "cargo")
    text = run(cargo, "tree", "--locked", "--package", "operator", "--package", "meta-cni", "--target", target,
               "--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", " {p}|{l}")
    known, components, edges, above = checksums(), {}, {}, []
    for line in filter(None, text.splitlines()):
        match = LINE.match(line)
        if not match:
            sys.exit(f"sbom.py: cargo tree printed a line that is not understood: {line!r}")
        depth, name, version, place, licence = int(match[1]), *match.groups()[1:]
        if (name, version) not in known:
            sys.exit(f"sbom.py: {name} {version} is not in Cargo.lock")
        one = crate(name, version, licence, known[name, version])
        components[one["bom-ref"]] = one
        edges.setdefault(one["bom-ref"], set())
        del above[depth:]
        if above:
            edges[above[-1]].add(one["bom-ref"])
        above.append(one["bom-ref"])
    return components, edges


def libraries(target):
    """What the linker adds."""
    rust = re.search(r"^release: (.*)$", run("rustc", "-vV"), re.M)[1]
    found = [{"type": "library", "bom-ref": f"rust-std@{rust}", "name": "rust-std", "version": rust,
              "licenses": [{"expression": "MIT OR Apache-2.0"}], "purl": f"pkg:generic/rust-std@{rust}"}]
    if target.endswith("-gnu"):
        libc = run("getconf", "GNU_LIBC_VERSION").split()[1]
        found.append({"type": "library", "bom-ref": f"glibc@{libc}", "name": "glibc", "version": libc,
                      "licenses": [{"expression": "LGPL-2.1-or-later"}], "purl": f"pkg:generic/glibc@{libc}"})
    return found


def program(text, version):
    name, path = text.split("=", 1)
    with open(path, "rb") as file:
        content = hashlib.sha256(file.read()).hexdigest()
    return {"type": "application", "bom-ref": f"/{name}", "name": name, "version": version,
            "hashes": [{"alg": "SHA-256", "content": content}], "licenses": [{"expression": "Apache-2.0"}]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("target", "version", "created"):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--program", action="append", required=True, metavar="NAME=FILE")
    given = parser.parse_args()
    components, edges = crates(given.target)
    linked = libraries(given.target)
    programs = [program(text, given.version) for text in given.program]
    image = {"type": "container", "bom-ref": "image", "name": "braid", "version": given.version,
             "licenses": [{"expression": "Apache-2.0"}]}
    packages = {"braid": "operator", "meta-cni": "meta-cni"}
    depends = [{"ref": "image", "dependsOn": sorted(one["bom-ref"] for one in programs)}]
    for one in programs:
        of = f"{packages[one['name']]}@{given.version}"
        depends.append({"ref": one["bom-ref"], "dependsOn": sorted([of, *(lib["bom-ref"] for lib in linked)])})
    depends += [{"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(edges.items())]
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": given.created, "component": image},
        "components": programs + sorted(components.values(), key=lambda one: one["bom-ref"]) + linked,
        "dependencies": depends,
    }
    json.dump(bom, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
