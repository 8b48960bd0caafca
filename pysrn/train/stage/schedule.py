"""When a stage is validated, when its learning rate drops, when it ends early: what Caffe's own policies cannot do.

`plateau` lowers the rate when the validation loss stops falling; `multistep` is left to Caffe, and this only keeps
the best validation figure. The state goes into every snapshot's record (`snapshots.py`), so a resumed stage goes on
as if nothing had happened.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pysrn.recipes import BEST, PLATEAU, Recipe

LEAST = 1 + 1e-6  # a rate this close to min_lr has reached it: 1e-3 * 0.1 * 0.1 is not quite 1e-5


@dataclass(frozen=True)
class Rules:
    """What a schedule goes by; `job.json` carries it to the process that trains."""

    kind: str  # `plateau` or `multistep`
    gamma: float  # the rate is multiplied by it
    patience: int  # validations without a new best before the rate drops
    min_lr: float  # no rate is lower; the next plateau there ends the stage
    validate_every: int | None  # iterations; None: no images are held out
    best: bool = False  # the stage ends with the weights of its lowest validation loss
    from_start: bool = False  # those that it begins with are validated, too

    def identity(self) -> dict:
        """What decides a stage's result, as JSON values: without what is not asked for, as in earlier versions."""
        return {name: value for name, value in asdict(self).items() if value is not False}


@dataclass
class State:
    """Where a schedule stands; plain numbers, for JSON."""

    lr: float  # of `plateau`; Caffe counts its own steps
    validations: int = 0
    validated: int = 0  # iteration of the last validation
    best_loss: float | None = None
    best_iteration: int | None = None
    waits: int = 0  # validations since the best one, or since the rate dropped
    ended: bool = False


def rules_of(recipe: Recipe, stage: int) -> Rules:
    """The rules of a stage; without images held out nothing is validated."""
    plan = recipe.stages[stage - 1]
    every = recipe.validate_every(stage) if recipe.validation_images else None
    best = plan.ends_with == BEST and every is not None
    # New layers say nothing yet, and their BN has no statistics.
    whole = not recipe.system.stage(stage).adds and not any(one.left_out for one in recipe.stages[: stage - 1])
    return Rules(plan.schedule, plan.gamma, plan.patience, plan.min_lr, every, best, best and whole)


class Schedule:
    """Takes in validation losses; says what rate holds and whether the stage is over."""

    def __init__(self, rules: Rules, state: State) -> None:
        self.rules, self.state = rules, state

    def due(self, iteration: int, last: bool) -> bool:
        """Whether the weights of `iteration` still have to be validated; the last ones of a stage always are."""
        if self.rules.validate_every is None or (iteration and self.state.validated >= iteration):
            return False
        if not iteration:
            return self.rules.from_start and not self.state.validations
        return last or iteration % self.rules.validate_every == 0

    def observe(self, iteration: int, loss: float) -> list[str]:
        """Note the validation loss (per image) after `iteration`; returns what there is to tell."""
        state, rules = self.state, self.rules
        state.validated, state.validations = iteration, state.validations + 1
        if state.best_loss is None or loss < state.best_loss:
            state.best_loss, state.best_iteration, state.waits = loss, iteration, 0
            return []
        state.waits += 1
        if rules.kind != PLATEAU or state.waits < rules.patience:
            return []
        state.waits = 0
        plateau = f"iteration {iteration}: {rules.patience} validations without a new best"
        if state.lr <= rules.min_lr * LEAST:
            state.ended = True
            return [f"{plateau} at the lowest rate: the stage ends here"]
        state.lr = max(state.lr * rules.gamma, rules.min_lr)
        return [f"{plateau}: learning rate {state.lr:g} from here on"]

    def record(self) -> dict:
        """The state as JSON values."""
        return asdict(self.state)
