"""What is measured of the speed of nets, and against whom."""

from __future__ import annotations

from dataclasses import dataclass

from pysrn.benchmark.contender import CAFFE, ONNXRUNTIME, OPENVINO, TORCH
from pysrn.benchmark.usual import usual_recipe
from pysrn.console import UsageError
from pysrn.precision import BF16, FP32
from pysrn.recipes import Recipe
from pysrn.systems.registry import default_system, system_named
from pysrn.systems.system import System

STOCK = {"CAFFE_ENGINE": "stock"}
OURS, CACHED = "ours", "ours, cached features"
STEP, FIXED, INFERENCE = "step", "fixed", "inference"
FORMATS = ("contiguous", "channels_last")
PEERS = {"OpenVINO": OPENVINO, "onnxruntime": ONNXRUNTIME}
LAYERED = ("OpenVINO",)  # of these, who can tell their layers


@dataclass(frozen=True)
class Plan:
    """What is measured. `run`: a run's folder or a caffemodel; None: random weights of realistic size.

    What is left out is filled in: the system (the run's, or the default one), its first data set, the usual trunk of
    that, its first variant, and the first stage that the part is of. UsageError for what the system has not.
    """

    part: str
    batch: int = 4
    rounds: int = 7
    threads: int = 2
    trunk: str | None = None
    variant: str | None = None
    stage: int | None = None
    run: str | None = None
    engine: str = ""  # CAFFE_ENGINE of ours; "": all parts
    compiled: bool = True  # torch.compile, which takes a minute or two
    stock: bool = True
    formats: tuple[str, ...] = FORMATS  # of PyTorch's memory: the fastest is timed, and all are alive until it is found
    round_seconds: float = 1.0  # assumed: long enough for the clock, short enough for the machine to stay as it is
    system: str | None = None
    dataset: str | None = None
    precision: str = FP32
    limit: bool = True  # measured among the contestants
    peers: tuple[str, ...] = ()  # of PEERS, which read our ONNX file: at inference

    def __post_init__(self) -> None:
        from pysrn.predict.trained import system_of

        system = system_named(self.system) if self.system else system_of(self.run) if self.run else default_system()
        stages = stages_of(system, self.part)
        if not stages:
            raise UsageError(f"{self.part}: {system.title} has no such stage")
        for name, known, usual in (
            ("system", None, system.name),
            ("dataset", system.recipes, next(iter(system.recipes))),
            ("trunk", system.trunks, system.recipes.get(self.dataset, next(iter(system.recipes.values()))).trunk),
            ("variant", system.variants, next(iter(system.variants))),
            ("stage", stages, stages[0]),
        ):
            given = getattr(self, name)
            if given is None:
                object.__setattr__(self, name, usual)
            elif known is not None and given not in known:
                raise UsageError(
                    f"{self.part}: {system.title} has no {name} {given}", f"choose of {', '.join(map(str, known))}"
                )

    def recipe(self) -> Recipe:
        """The recipe whose net gets random weights."""
        return usual_recipe(system_named(self.system), self.variant, self.trunk, dataset=self.dataset)


def stages_of(system: System, part: str) -> tuple[int, ...]:
    """The stages that a part is about, the usual one first; of inference the last, whose net it is."""
    if part == INFERENCE:
        return (system.last_stage,)
    found = [stage.number for stage in system.stages if stage.fixed_trunk == (part == FIXED)]
    return tuple(found if part == FIXED else reversed(found))


def contestants(plan: Plan) -> dict[str, tuple[dict, dict[str, str]]]:
    """Name -> (what its job differs in, environment).

    All have to agree with the first one: stock Caffe as it has always been, or ours where that is left out. In bf16
    it is ours in float32, and the others compute in bf16 as well, but for onnxruntime, which cannot.
    """
    ours = {"CAFFE_ENGINE": plan.engine} if plan.engine else {}
    if plan.precision != FP32:
        return _in_bf16(plan, ours)
    caffe, torch = {"framework": CAFFE}, {"framework": TORCH}
    folded, compiled = {"folded": True}, {"compiled": True}
    found: dict[str, tuple[dict, dict[str, str]]] = {"stock Caffe": (caffe, STOCK)}
    if plan.part == STEP:
        found |= {OURS: (caffe, ours), "PyTorch": (torch, {})}
        compile_as = {"torch.compile": (torch | compiled, {})}
    else:
        found |= {"stock Caffe, folded": (caffe | folded, STOCK), OURS: (caffe | folded, ours)}
        found["PyTorch, folded"] = torch | folded, {}
        if plan.part == FIXED:
            found[CACHED] = (caffe | folded | {"cached": True}, ours)
        else:
            found |= {"ours, not folded": (caffe, ours), "PyTorch": (torch, {})}
        compile_as = {"torch.compile, folded": (torch | folded | compiled, {})}
    found |= compile_as if plan.compiled else {}
    found |= {name: ({"framework": PEERS[name]}, {}) for name in plan.peers}
    return found if plan.stock else {name: one for name, one in found.items() if one[1] != STOCK}


def _in_bf16(plan: Plan, ours: dict[str, str]) -> dict[str, tuple[dict, dict[str, str]]]:
    half, folded = {"precision": BF16}, {"folded": plan.part != STEP}
    torch = {"framework": TORCH} | folded | half
    engine = {"CAFFE_ENGINE": f"{ours.get('CAFFE_ENGINE') or 'all'},{BF16}"}
    found = {
        f"ours, {FP32}": ({"framework": CAFFE} | folded, ours),
        OURS: ({"framework": CAFFE} | folded | half, engine),
        "PyTorch, autocast": (torch, {}),
    }
    if plan.compiled:
        found["torch.compile, autocast"] = torch | {"compiled": True}, {}
    return found | {name: ({"framework": PEERS[name]} | half, {}) for name in plan.peers if PEERS[name] == OPENVINO}
