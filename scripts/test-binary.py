#!/usr/bin/env python3
"""Builds the workspace's tests and prints the path of one of them.

scripts/test-binary.py dispatcher it [cargo's options]

A test that is run again in another surrounding is taken from the workspace's build: `cargo test -p` would choose other features of
what the crates share, and compile it all once more.
"""
import json
import subprocess
import sys

package, target, *options = sys.argv[1:]
command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics", *options]
build = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
if build.returncode != 0:
    sys.exit(build.returncode)
for line in build.stdout.splitlines():
    message = json.loads(line)
    if message.get("reason") != "compiler-artifact" or not message.get("executable"):
        continue
    if message["target"]["name"] == target and f"/{package}#" in message["package_id"].replace("\\", "/"):
        print(message["executable"])
        break
else:
    sys.exit(f"test-binary: there is no test {target} of {package}")
