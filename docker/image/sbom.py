"""Writes what an image is made of as a CycloneDX 1.6 document in JSON on stdout.

    docker/image/sbom.py CAFFE SITE_PACKAGES

Caffe with the hashes of its source and oneDNN, of CAFFE/caffe-build.json; the Python packages below SITE_PACKAGES; the
Debian packages of the system that it runs on. The same system gives the same bytes: no time, no random number.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import uuid
from importlib import metadata
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL


def component(kind: str, name: str, version: str, qualifiers: dict[str, str] | None = None, **more) -> Component:
    """One part with the address that scanners know it by."""
    space = None if kind in ("pypi", "generic") else platform.freedesktop_os_release()["ID"]
    url = PackageURL(type=kind, namespace=space, name=name, version=version, qualifiers=qualifiers)
    return Component(name=name, version=version, type=ComponentType.LIBRARY, bom_ref=str(url), purl=url, **more)


def caffe_parts(caffe: Path) -> list[Component]:
    """Caffe and, where it is built in, oneDNN."""
    built = json.loads((caffe / "caffe-build.json").read_text())
    files = [source_file(name, word) for name, word in built["source_sha256"].items()]
    told = [Property(name=f"srn-caffe:{key}", value=str(built[key])) for key in ("commit", "compiler", "protoc")]
    told.append(Property(name="srn-caffe:patches", value=" ".join(built["patches"])))
    licence = DisjunctiveLicense(id="BSD-2-Clause")
    parts = [component("generic", "caffe", built["version"], components=files, properties=told, licenses=[licence])]
    if built["onednn"]:
        licence = DisjunctiveLicense(id=built["onednn"]["licence"])
        parts.append(component("generic", "onednn", built["onednn"]["version"], licenses=[licence]))
    return parts


def source_file(name: str, sha256: str) -> Component:
    """A file of the source that Caffe was built from."""
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
    return Component(name=name, type=ComponentType.FILE, bom_ref=name, hashes=hashes)


def python_parts(site_packages: Path) -> list[Component]:
    """The Python packages below a folder, but for pip and this one."""
    found = {one.name.lower().replace("_", "-"): one for one in metadata.distributions(path=[str(site_packages)])}
    return [component("pypi", name, one.version) for name, one in found.items() if name not in ("pip", "pysrn")]


def debian_parts() -> list[Component]:
    """The installed Debian packages, with the release that they are of."""
    form = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
    listed = subprocess.run(["dpkg-query", "--show", "--showformat", form], capture_output=True, text=True, check=True)
    lines = [line.split() for line in listed.stdout.splitlines()]
    release = platform.freedesktop_os_release()
    place = {"distro": f"{release['ID']}-{release.get('VERSION_ID', '')}"}
    return [
        component("deb", name, version, {"arch": architecture, **place})
        for status, name, version, architecture in lines
        if status == "installed"
    ]


def main(arguments: list[str]) -> int:
    """Print the document; 0 when done."""
    caffe, site_packages = map(Path, arguments)
    parts = caffe_parts(caffe) + python_parts(site_packages) + debian_parts()
    number = uuid.uuid5(uuid.NAMESPACE_URL, " ".join(sorted(part.purl.to_string() for part in parts)))
    whole = Component(name="srn-caffe", type=ComponentType.CONTAINER, bom_ref="srn-caffe")
    bom = Bom(components=parts, serial_number=number, metadata=BomMetaData(component=whole))
    bom.metadata.timestamp = None
    bom.register_dependency(whole, parts)
    print(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
