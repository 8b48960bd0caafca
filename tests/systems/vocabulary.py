"""What belongs to one system alone: words and numbers that the rest of the package may not hold, from the registry."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

from pysrn.systems import registry, stage_nets
from pysrn.systems.system import System

ROOT = Path(__file__).resolve().parents[2]
DATA = stage_nets.DataSource("folder")
# Blobs and layers that the package itself puts before the layers of any system.
FED = {"data", "label", "label_map", "label_vector"}
# Words of a system that are also words of the field, so that a text may have them: forbidden only where a program asks
# for them, as an index, in a comparison, or as an argument by itself.
ORDINARY = {
    "paper": "the published figures that a run is compared with; SRN's default variant is called so, too",
    "released": "what is published; SRN's other variant is called so, too",
    "score": "what a net says of a label; SRN's result is called so, too",
}

WIDELY = {"variant"}  # fields of heads that the card of the weights speaks of, where there are such


@dataclass(frozen=True)
class Vocabulary:
    """Words by what they are, and numbers likewise."""

    words: dict[str, str]
    prefixes: dict[str, str]
    numbers: dict[float, str]
    attributes: dict[str, str]

    @cached_property
    def _pattern(self) -> re.Pattern:
        whole = sorted(self.words.keys() - ORDINARY, key=len, reverse=True)
        begun = sorted(self.prefixes, key=len, reverse=True)
        alternatives = [rf"(?P<word>{_any(whole)})(?!\w)", rf"(?P<prefix>{_any(begun)})\w*"]
        return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})")

    def in_text(self, text: str) -> Iterator[str]:
        """What a text names of a system, ordinary words apart."""
        for found in self._pattern.finditer(text):
            what = self.words.get(found["word"]) or self.prefixes[found["prefix"]]
            yield f"{what} {found[0]}"


def _any(words: list[str]) -> str:
    return "|".join(map(re.escape, words)) or r"\b\B"  # of no words: what nothing is


def known_systems() -> list[System]:
    """Those of the package; what PYSRN_SYSTEMS names lives elsewhere."""
    return [import_module(module).SYSTEM for module in registry.MODULES]


def folders() -> list[str]:
    """Names of the folders of pysrn/systems that are a system's."""
    return sorted(path.parent.name for path in (ROOT / "pysrn" / "systems").glob("*/system.py"))


def vocabulary() -> Vocabulary:
    """The words and numbers of all systems of the package."""
    words, prefixes, numbers, attributes = dict.fromkeys(folders(), "the folder"), {}, {}, {}
    for system in known_systems():
        words |= {system.name: "the system", system.title: "the system"}
        words |= dict.fromkeys(layer_names(system) - FED, f"{system.title}'s layer")
        words |= dict.fromkeys(system.score_names, f"{system.title}'s score")
        words |= dict.fromkeys(system.map_names, f"{system.title}'s map")
        words |= {name: f"{system.title}'s variant" for name in system.variants if name}
        words |= dict.fromkeys(system.leaves, f"{system.title}'s left layer")
        prefixes |= {prefix: f"{system.title}'s layer" for part in system.parts for prefix in part.prefixes}
        if system.activation:
            words |= dict.fromkeys((system.activation.pooling, system.activation.classifier), f"{system.title}'s layer")
        numbers.setdefault(system.input.size, f"{system.title}'s input size")
        numbers |= dict.fromkeys(system.input.mean, f"{system.title}'s mean")
        heads = next(iter(system.recipes.values())).heads
        names = {one.name for one in fields(heads)} - WIDELY if is_dataclass(heads) else set()
        attributes |= dict.fromkeys(names, f"a field of {system.title}'s heads")
    attributes |= {word: what for word, what in words.items() if word not in ORDINARY and word.isidentifier()}
    return Vocabulary(words, prefixes, numbers, attributes)


def layer_names(system: System) -> set[str]:
    """Layers and blobs of all nets of a system."""
    recipe = next(iter(system.recipes.values()))
    nets = []
    for variant in system.variants:
        one = system.recipe(recipe.dataset.name, variant)
        nets += [stage_nets.recipe_deploy_net(one), *(stage_nets.stage_net(one, s.number, DATA) for s in system.stages)]
    return {name for net in nets for layer in net.layer for name in (layer.name, *layer.top)}


def sources() -> list[Path]:
    """The modules that may not know a system: the package without its systems, and the tools."""
    inside = [path for path in sorted((ROOT / "pysrn").rglob("*.py")) if "systems" not in path.relative_to(ROOT).parts]
    return [*inside, *sorted((ROOT / "tools").glob("*.py"))]


def offences(text: str, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Line and description of everything in a module's text that belongs to one system."""
    tree = ast.parse(text)
    documented = _docstrings(tree)
    asked = dict(_asked_for(tree))
    of_stages = _about_stages(tree)
    for node in ast.walk(tree):
        for name in _imports(node):
            parts = name.split(".")
            if parts[:2] == ["pysrn", "systems"] and len(parts) > 2 and parts[2] in folders():
                yield node.lineno, f"import of {name}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documented:
            for what in known.in_text(node.value):
                yield node.lineno, f"{what} in a string"
            if node in asked and node.value in ORDINARY and node.value in known.words:
                yield node.lineno, f"{known.words[node.value]} {node.value} {asked[node]}"
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in known.numbers:
            yield node.lineno, f"{known.numbers[node.value]} {node.value:g}"
        if isinstance(node, ast.Attribute) and node.attr in known.attributes:
            yield node.lineno, f"{known.attributes[node.attr]}: .{node.attr}"
        if node in of_stages:
            yield from _stage_numbers(node)


def _about_stages(tree: ast.Module) -> set[ast.AST]:
    """What stands in a function that speaks of stages, or in none."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    silent = [node for node in ast.walk(tree) if isinstance(node, functions) and "stage" not in ast.unparse(node)]
    return set(ast.walk(tree)) - {inside for node in silent for inside in ast.walk(node)}


def _docstrings(tree: ast.AST) -> set[ast.Constant]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners) and node.body]
    firsts = [body[0].value for body in bodies if isinstance(body[0], ast.Expr)]
    return {value for value in firsts if isinstance(value, ast.Constant)}


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _asked_for(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Constants that are an index or stand in a comparison, also inside a tuple, a list or a set of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            places, how = [node.slice], "as an index"
        elif isinstance(node, ast.Compare):
            places, how = [node.left, *node.comparators], "in a comparison"
        elif isinstance(node, ast.MatchValue):
            places, how = [node.value], "in a case"
        elif isinstance(node, ast.Call):
            places, how = [*node.args, *(word.value for word in node.keywords)], "as an argument"
        else:
            continue
        for place in places:
            inside = place.elts if isinstance(place, ast.Tuple | ast.List | ast.Set) else [place]
            yield from ((one, how) for one in inside if isinstance(one, ast.Constant))


NUMBER_OF_A_STAGE = re.compile(r"(^|_)(stages?|last|numbers?)$")


def _named_stage(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return bool(NUMBER_OF_A_STAGE.search(name))


def _numbers_from_2(node: ast.AST) -> list[int]:
    inside = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    values = [one.value for one in inside if isinstance(one, ast.Constant) and type(one.value) is int]
    return [value for value in values if 2 <= value <= 9]


def _stage_numbers(node: ast.AST) -> Iterator[tuple[int, str]]:
    """`stage == 4`, `2 <= number`, `stages[3]`, `stage=2`, `stages = (2, 3)`, `weights(4)`: numbers of one system's."""
    found: list[int] = []
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(map(_named_stage, sides)):
            # also `stage > 1`: that is not the first stage, which every system has; `is_first` says it
            orders = isinstance(node.ops[0], ast.Gt | ast.Lt | ast.GtE | ast.LtE) and "stage" in ast.unparse(node)
            found = [n for side in sides for n in _numbers_from_2(side)]
            found += [1] if orders and any(isinstance(side, ast.Constant) and side.value == 1 for side in sides) else []
    elif isinstance(node, ast.Subscript) and _named_stage(node.value) and "stage" in ast.unparse(node.value):
        found = _numbers_from_2(node.slice)
    elif isinstance(node, ast.Call):
        found = [n for word in node.keywords if word.arg and NUMBER_OF_A_STAGE.search(word.arg)
                 for n in _numbers_from_2(word.value) if "stage" in word.arg]  # fmt: skip
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("stage", "weights", "stage_net", "stage_solver"):
            found += [n for one in node.args for n in _numbers_from_2(one)]
    elif isinstance(node, ast.FunctionDef):
        names = [*node.args.posonlyargs, *node.args.args][-len(node.args.defaults) :] if node.args.defaults else []
        pairs = [*zip(names, node.args.defaults, strict=True)]
        pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        found = [n for name, value in pairs if value and "stage" in name.arg for n in _numbers_from_2(value)]
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any("stage" in ast.unparse(target).lower() for target in targets):
            found = _numbers_from_2(node.value)
            if isinstance(node.value, ast.Dict):
                found += [n for key in node.value.keys if key for n in _numbers_from_2(key)]
    if found:
        yield node.lineno, f"number of a stage: {ast.unparse(node).splitlines()[0][:80]}"


def where(path: Path) -> str:
    """A path for a message."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
