"""Which module of the project imports which, and when: as it is imported itself, in a function, or for types alone."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.systems.vocabulary import ROOT, known_systems

LOADING, CALLED, TYPES = "on loading", "in a function", "for types"
# `System.modules`: loaded by name when a user asks for them, so they may know of prediction and pictures.
SYSTEMS_TOOLS = "tools of the systems"
# From left to right: a folder imports from itself and from what stands to its left. The first are modules beside each
# other.
ORDER = (
    "early_signals", "later", "freed_memory", "disk_errors", "console", "whole_files", "json_file", "processes",
    "locks", "recipes", "nets", "precision", "data", "systems",
    "train/fixed", "train/stage", "train", "predict", "evaluate", "pictures", "claims", "convert", SYSTEMS_TOOLS,
    "report", "benchmark", "tools",
)  # fmt: skip
BASIS = ORDER[: ORDER.index("recipes")]


@dataclass(frozen=True)
class Arrow:
    """An import: who, whom, on which line, when."""

    source: str
    target: str
    line: int
    when: str

    def __str__(self) -> str:
        return f"{self.source.replace('.', '/')}.py:{self.line} imports {self.target} {self.when}"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file of every module of the package and every tool."""
    paths = [*sorted((root / "pysrn").rglob("*.py")), *sorted((root / "tools").glob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in paths}


def arrows(root: Path = ROOT) -> list[Arrow]:
    """All imports of the project's own modules by one another."""
    known = modules(root)
    names = {name.removesuffix(".__init__"): name for name in known}
    found = []
    for source, path in known.items():
        for line, when, target in _imports(ast.parse(path.read_text("utf-8")), LOADING):
            whole = names.get(target) or names.get(target.rpartition(".")[0])
            if whole and whole != source:
                found.append(Arrow(source, whole.removesuffix(".__init__"), line, when))
    return list(dict.fromkeys(found))


def _imports(node: ast.AST, when: str) -> Iterator[tuple[int, str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, when, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            if child.level:
                raise ValueError(f"line {child.lineno}: a relative import")
            yield from ((child.lineno, when, f"{child.module}.{alias.name}") for alias in child.names)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, CALLED)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(ast.Module(child.body, []), TYPES)
            yield from _imports(ast.Module(child.orelse, []), when)
        else:
            yield from _imports(child, when)


def place(module: str) -> str:
    """The folder of ORDER that a module is in; empty for none."""
    if module in {name for system in known_systems() for name in system.modules.values()}:
        return SYSTEMS_TOOLS
    path = module.removeprefix("pysrn.").replace(".", "/") + "/"
    return max((folder for folder in ORDER if path.startswith(f"{folder}/")), key=len, default="")


def to_the_right(found: list[Arrow]) -> list[Arrow]:
    """The imports of something to the right."""

    def rank(module: str) -> int:
        where = place(module)
        return 0 if where in BASIS else ORDER.index(where)

    inside = [one for one in found if place(one.source) and place(one.target)]
    return [one for one in inside if rank(one.target) > rank(one.source)]


def circles(found: list[Arrow]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    after: dict[str, set[str]] = {}
    for one in found:
        after.setdefault(one.source, set()).add(one.target)
    reach = {name: _reached(name, after) for name in after}
    groups = {
        tuple(sorted(n for n in reach[name] if name in reach.get(n, ()))) for name in after if name in reach[name]
    }
    return sorted(list(group) for group in groups)


def _reached(start: str, after: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    left = list(after.get(start, ()))
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += after.get(name, ())
    return seen
