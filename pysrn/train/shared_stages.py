"""First stages that another run has done already: what begins alike is trained once."""

from __future__ import annotations

import shutil
from dataclasses import replace

from pysrn.console import UsageError
from pysrn.systems.deploy_files import write_deploy
from pysrn.train.plan import is_damaged
from pysrn.train.prepared import PreparedStage, stages_of
from pysrn.train.run_folder import RunFolder, source_hash
from pysrn.train.settings import Settings
from pysrn.train.stage.files import BEGUN, MANIFEST, WEIGHTS
from pysrn.train.stage.stage_log import LOG, VALIDATION_LOG
from pysrn.whole_files import write_json


def share_first_stages(done: RunFolder, run: RunFolder, settings: Settings) -> None:
    """Give a run (of `settings`, with the image counts of its data) the finished stages that it begins with.

    They must be what the run would train itself, to the bit: the same net but for its name, solver, seed, data and
    weights to begin with. Then they are copied without their snapshots, as far as they are alike; `shared_from` in
    their manifests says whence. Stages that the run has stay, and behind one that it has begun nothing is copied.
    Raises UsageError for a first stage that is not done, or is another.
    """
    for stage in stages_of(run, settings):
        word = run.state(stage.number).word
        if word == "begun":
            return
        if word == "not begun":
            try:
                _share(done, run, stage)
            except UsageError:  # another from here on, or not done: the run trains its own
                if stage.is_first:
                    raise
                return


def _share(done: RunFolder, run: RunFolder, wanted: PreparedStage) -> None:
    """Copy a stage that the run has not begun, whose source it has."""
    earlier = done.read_settings()
    found = earlier and replace(wanted, run=done, settings=earlier)
    if not found or wanted.number not in earlier.recipe.stage_numbers or not _is_done(found):
        raise UsageError(f"{done.path} has no finished {wanted.title}", "train it first")
    manifest = done.state(found.number).manifest
    alike = found.training == wanted.training and manifest.get("digest") == found.digest
    if not alike or manifest.get("source_sha256") != source_hash(wanted.source):
        raise UsageError(
            f"{found.folder} is not the {wanted.title} of {wanted.recipe.system.title}: another net, other numbers, "
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
        write_deploy(wanted.recipe, wanted.number, beside / WEIGHTS)
        manifest = {**manifest, "stage": wanted.number, "name": wanted.stage.name, "digest": wanted.digest}
        write_json(beside / MANIFEST, {**manifest, "shared_from": str(found.folder)})
        write_json(beside / BEGUN, {name: manifest[name] for name in ("digest", "source_sha256", "ranks")})
        run.write_settings(wanted.settings)
        if wanted.folder.exists():
            run.set_aside(wanted.number)
        beside.replace(wanted.folder)


def _is_done(stage: PreparedStage) -> bool:
    state = stage.run.state(stage.number)
    return state.word == "done" and not is_damaged(stage, state.manifest)
