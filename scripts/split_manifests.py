"""split_manifests.py RENDERED FOLDER: writes each Kubernetes object of a rendered chart to a file of its own, so
that it can be validated. Kinds of other projects (a group with a dot outside of *.k8s.io) are left out: their
schemas are not part of Kubernetes."""

import pathlib
import re
import sys


def main(rendered, folder):
    text = pathlib.Path(rendered).read_text()
    count = 0
    for number, document in enumerate(re.split(r"(?m)^---\s*$", text)):
        version = re.search(r"(?m)^apiVersion: *(\S+)", document)
        if not version:
            continue
        group = version[1].rpartition("/")[0]
        if "." in group and not group.endswith(".k8s.io"):
            continue
        (pathlib.Path(folder) / f"{number:02}.yaml").write_text(document)
        count += 1
    if not count:
        sys.exit(f"{rendered} holds no object")


if __name__ == "__main__":
    main(*sys.argv[1:])
