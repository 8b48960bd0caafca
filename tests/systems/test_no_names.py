"""Nothing outside pysrn/systems knows a system, and the folders import from left to right."""

from collections import Counter

import pytest

from tests.systems.imports import CALLED, LOADING, arrows, circles, modules, place, to_the_right
from tests.systems.vocabulary import ORDINARY, ROOT, folders, known_systems, offences, sources, vocabulary, where

MOST_MODULES = 17  # in a folder
# File and offence -> why it may stay.
EXEMPT = {
    ("pysrn/report/pictures.py", "SRN's input size 224"): "pixels of a picture on the page",
    ("pysrn/predict/photos.py", "MSRN's input size 448"): "pixels of a picture that is shown",
}
# Imports in functions to the right, and circles that they close.
LAZY = {
    ("pysrn.systems.srn.torch_model", "pysrn.convert.torch_files"): "SRN.from_pretrained, which people's scripts call",
}
LAZY_CIRCLES = (
    {"pysrn.predict.splits", "pysrn.predict.workers"},  # a worker does what its parent does
)
KNOWN = vocabulary()


def said(path, text=None):
    """`file:line: offence` of everything in a module that is not exempt."""
    name = where(path)
    found = sorted(set(offences(path.read_text("utf-8") if text is None else text, KNOWN)))
    return [f"{name}:{line}: {what}" for line, what in found if (name, what) not in EXEMPT]


@pytest.mark.parametrize("path", sources(), ids=where)
def test_module_knows_no_system(path):
    assert not (found := said(path)), "\n" + "\n".join(found)


def test_exemptions_are_needed():
    found = {(where(path), what) for path in sources() for _, what in offences(path.read_text("utf-8"), KNOWN)}
    assert EXEMPT.keys() <= found
    assert ORDINARY.keys() <= KNOWN.words.keys()


def test_every_folder_with_a_system_is_in_the_registry():
    assert sorted(system.name for system in known_systems()) == folders()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("from pysrn.systems.srn import nets", "import of pysrn.systems.srn.nets"),
        ("def f():\n    import pysrn.systems.srn.system", "import of pysrn.systems.srn.system"),
        ("name = 'srn'", "srn"),
        ("print(f'{x} of SRN')", "SRN"),
        ("print('the map att_map')", "att_map"),
        ("if layer.startswith('sr_'): pass", "sr_"),
        ("x = 'cls_fc_of_old'", "cls_fc_of_old"),
        ("x = ['att_conv1']", "att_conv1"),
        ("x = 'res4b22_relu'", "res4b22_relu"),
        ("x = scores['score']", "score as an index"),
        ("if name in ('score', 'other'): pass", "score in a comparison"),
        ("if recipe.heads.variant == 'released': pass", "released in a comparison"),
        ("recipe = system.recipe(dataset, 'paper')", "paper as an argument"),
        ("x = found.score_cls", ".score_cls"),
        ("x = heads.attention_width", ".attention_width"),
        ("size = 224", "224"),
        ("mean = (104, 117.0, 123)", "104"),
        ("if stage == 4: pass", "stage == 4"),
        ("if stage > 1: pass", "stage > 1"),
        ("if plan.stage in (2, 3): pass", "plan.stage in (2, 3)"),
        ("for number in stages:\n    if number == 3: pass", "number == 3"),
        ("def f(stage: int = 4): pass", "stage"),
        ("f(stage=2)", "stage=2"),
        ("path = run.weights(4)", "run.weights(4)"),
        ("FIRST_STAGES = (2, 3)", "FIRST_STAGES"),
    ],
)
def test_what_belongs_to_a_system_is_found(text, what):
    found = said(ROOT / "pysrn" / "console.py", text)
    assert any(what in line for line in found), found


@pytest.mark.parametrize(
    "text",
    [
        '"""SRN of a docstring."""',
        "x = {'score': found.score, 'paper': figure}",
        "help = 'the score of the paper, as released'",
        "from pysrn.systems.registry import system_named",
        "if stage == 1: pass",
        "x = recipe.stages[stage - 1]",
        "os.environ['SRN_CACHE']",
        "def f(number):\n    return number == 2",
        "x = 'flatt_ and data and label'",
        "class SrnError(Exception): pass",
    ],
)
def test_what_all_systems_share_is_not(text):
    assert said(ROOT / "pysrn" / "console.py", text) == []


def test_every_module_has_a_place():
    assert [name for name in modules() if not place(name)] == ["pysrn.__init__"]


def test_folders_import_from_their_left():
    found = [str(one) for one in to_the_right(arrows()) if one.when == LOADING]
    assert not found, "\n" + "\n".join(found)


def test_functions_import_from_their_left_but_for_the_known():
    lazy = [one for one in to_the_right(arrows()) if one.when == CALLED]
    found = [str(one) for one in lazy if (one.source, one.target) not in LAZY]
    assert not found, "\n" + "\n".join(found)
    assert {(one.source, one.target) for one in lazy} >= LAZY.keys()


def test_no_circle_on_loading():
    assert circles([one for one in arrows() if one.when == LOADING]) == []


def test_no_circle_in_functions_but_the_known():
    found = circles([one for one in arrows() if one.when in (LOADING, CALLED)])
    assert found == [sorted(group) for group in LAZY_CIRCLES]


def test_arrows_and_circles_are_found(tmp_path):
    """The rules on a package made wrong on purpose."""
    files = {
        "pysrn/__init__.py": "",
        "pysrn/console.py": "def f():\n    from pysrn.train import plan",
        "pysrn/recipes.py": "if TYPE_CHECKING:\n    from pysrn.train import plan",
        "pysrn/nets/a.py": "import pysrn.nets.b\nfrom pysrn.data.c import x",
        "pysrn/nets/b.py": "from pysrn.nets import a",
        "pysrn/data/c.py": "from pysrn.recipes import Recipe",
        "pysrn/train/plan.py": "try:\n    from pysrn.train.stage import run\nexcept ImportError:\n    pass",
        "pysrn/train/stage/run.py": "from pysrn.nets.b import y",
        "tools/one.py": "from pysrn.train.plan import z",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = arrows(tmp_path)
    right = [(one.source, one.target, one.when) for one in to_the_right(found) if one.when in (LOADING, CALLED)]
    assert right == [("pysrn.console", "pysrn.train.plan", CALLED), ("pysrn.nets.a", "pysrn.data.c", LOADING)]
    assert ("pysrn.train.plan", "pysrn.train.stage.run") in {(one.source, one.target) for one in found}
    assert circles([one for one in found if one.when == LOADING]) == [["pysrn.nets.a", "pysrn.nets.b"]]


def test_no_folder_is_crowded():
    inside = Counter(where(path.parent) for path in modules().values() if path.name != "__init__.py")
    assert {folder: count for folder, count in inside.items() if count > MOST_MODULES} == {}
