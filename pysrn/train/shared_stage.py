"""A first stage that another run has done already: systems that begin with the same main net need it once."""

from __future__ import annotations

import shutil

from pysrn.console import UsageError
from pysrn.systems.deploy_files import write_deploy
from pysrn.train.plan import is_damaged
from pysrn.train.prepared import stages_of
from pysrn.train.run_folder import RunFolder, source_hash
from pysrn.train.settings import Settings
from pysrn.train.stage.files import BEGUN, MANIFEST, WEIGHTS
from pysrn.train.stage.stage_log import LOG, VALIDATION_LOG
from pysrn.whole_files import write_json


def share_first_stage(done: RunFolder, run: RunFolder, settings: Settings) -> None:
    """Give a run (of `settings`, with the image counts of its data) the finished first stage of another run.

    It must be what the run would train itself, to the bit: the same net but for its name, solver, seed, data and first
    weights. Then it is copied without its snapshots; `shared_from` in its manifest says whence. A stage that the run
    has begun stays as it is. Raises UsageError for a first stage that is not done, or is another.
    """
    wanted = stages_of(run, settings)[0]
    earlier = done.read_settings()
    found = stages_of(done, earlier)[0] if earlier else None
    state = found and done.state(found.number)
    if not state or state.word != "done" or is_damaged(found, state.manifest):
        raise UsageError(f"{done.path} has no finished first stage", "train it first")
    alike = found.training == wanted.training and state.manifest.get("digest") == found.digest
    if not alike or state.manifest.get("source_sha256") != source_hash(wanted.source):
        raise UsageError(
            f"{found.folder} is not the {wanted.title} of {settings.recipe.system.title}: another net, other numbers, "
            "data or first weights",
            "let that run train its own",
        )
    with run.locked():
        if run.state(wanted.number).word != "not begun":
            return
        beside = run.path / f".{wanted.folder.name}.part"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for name in (WEIGHTS, LOG, VALIDATION_LOG):
            if (found.folder / name).is_file():
                shutil.copy(found.folder / name, beside)
        write_deploy(settings.recipe, wanted.number, beside / WEIGHTS)
        manifest = {**state.manifest, "stage": wanted.number, "name": wanted.stage.name, "digest": wanted.digest}
        write_json(beside / MANIFEST, {**manifest, "shared_from": str(found.folder)})
        write_json(beside / BEGUN, {name: manifest[name] for name in ("digest", "source_sha256", "ranks")})
        run.write_settings(settings)
        if wanted.folder.exists():
            run.set_aside(wanted.number)
        beside.replace(wanted.folder)
