#!/usr/bin/env python3
"""Checks the invariants of ARCHITECTURE.md that a compiler does not: the modules of a crate form no circle, and crates
depend on each other only as the map says. Exits 1 and names what is wrong."""

import pathlib
import re
import sys

CRATES = {  # crate: what it may name
    "common": set(),
    "proto": set(),
    "hub": {"common"},
    "dispatcher": {"common", "proto"},
    "carillon": {"common", "hub", "dispatcher", "proto"},
    "benches": {"common", "hub", "dispatcher", "rig"},
    "loadtest": {"common", "rig"},
    "rig": set(),
}
ROOT = pathlib.Path(__file__).resolve().parent.parent


def module_of(path: pathlib.Path, source: pathlib.Path) -> str:
    """The first-level module that a file belongs to; the crate's root is its own."""
    first = path.relative_to(source).parts[0]
    return first.removesuffix(".rs")


def named_modules(text: str) -> set[str]:
    """First-level modules that the text names by `crate::`."""
    text = re.sub(r"//[^\n]*", "", text)
    found = set(re.findall(r"\bcrate::(\w+)", text))
    for group in re.findall(r"\bcrate::\{(.*?)\};", text, re.S):
        depth, word = 0, ""
        for c in group:
            if c == "{":
                depth += 1
            elif c == "}":
                depth -= 1
            elif depth == 0:
                word += c
        found |= {part.strip().split("::")[0].split(" ")[0] for part in word.split(",")}
    return {name for name in found if name}


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    state: dict[str, int] = {}
    trail: list[str] = []

    def visit(node: str) -> list[str] | None:
        state[node] = 1
        trail.append(node)
        for following in sorted(graph.get(node, ())):
            if state.get(following) == 1:
                return trail[trail.index(following) :] + [following]
            if following not in state and (found := visit(following)):
                return found
        state[node] = 2
        trail.pop()
        return None

    for node in sorted(graph):
        if node not in state and (found := visit(node)):
            return found
    return None


def main() -> int:
    wrong = []
    for crate, allowed in CRATES.items():
        source = ROOT / crate / "src"
        graph: dict[str, set[str]] = {}
        for path in source.rglob("*.rs"):
            if path.name in ("tests.rs",) or "tests" in path.relative_to(source).parts:
                continue
            text = path.read_text()
            own = module_of(path, source)
            text = text.split("#[cfg(test)]\nmod ")[0] if "#[cfg(test)]\nmod tests {" in text else text
            if own not in ("lib", "main"):
                graph.setdefault(own, set()).update(named_modules(text) - {own})
            for other in CRATES:
                if other != crate and other not in allowed and re.search(rf"^\s*use {other}::", text, re.M):
                    wrong.append(f"{path.relative_to(ROOT)}: {crate} must not use {other}")
        modules = set(graph)
        graph = {name: {other for other in named if other in modules} for name, named in graph.items()}
        if found := circle(graph):
            wrong.append(f"{crate}: a circle between modules: {' -> '.join(found)}")
    for line in wrong:
        print(line)
    if not wrong:
        print(f"structure: {len(CRATES)} crates, no circle, no forbidden dependency")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
