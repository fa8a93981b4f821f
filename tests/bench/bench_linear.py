# SPDX-License-Identifier: Apache-2.0
"""Fewer parameters in the linear layers: six preconditioners, local against joint, at equal counts.

`python tests/bench/bench_linear.py [share …] [word]`: the demo model with its cache as it is, evaluated in
memory on held-out windows, every candidate side by side in one walk through the layers; with a word only rows
that have it. What is finished is kept in build/bench/linear.json; the page is docs/latentllm.md. About 15
minutes a share on 2 cores. `python tests/bench/bench_linear.py sweeps`: what joint QK gains after its first
sweep.
"""

import json
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from core.calibrate.layer_statistics import load_statistics  # noqa: E402
from core.calibrate.steps import calibrate  # noqa: E402
from core.calibrate.text import read_text  # noqa: E402
from core.calibrate.tokens import tokenize  # noqa: E402
from core.convert import convert_layer  # noqa: E402
from core.evaluate import cut_windows  # noqa: E402
from core.export.folder import mla_config  # noqa: E402
from core.export.layout import latent_shape  # noqa: E402
from core.factor.joint_qk import Scores, joint_qk  # noqa: E402
from core.factor.tucker import Effort  # noqa: E402
from core.layer_weights import attention_weights, mlp_weights  # noqa: E402
from core.linear.allocate import Array, candidates  # noqa: E402
from core.linear.factoring import Linear, predicted_losses  # noqa: E402
from core.linear.layer import Measured, SmallerLayer  # noqa: E402
from core.linear.mlp_step import MlpSample  # noqa: E402
from core.linear.moments import load_linears  # noqa: E402
from core.planning import Plan, make_plan  # noqa: E402
from core.preflight import prepare  # noqa: E402
from core.presets import spec_from_preset  # noqa: E402
from core.process import hide_progress_bars  # noqa: E402
from core.refit import OutputRefit, refit_windows  # noqa: E402
from core.settings import Settings  # noqa: E402
from core.spec import JobSpec  # noqa: E402
from core.trial import Trial  # noqa: E402
from core.weights.demo import prepare_demo  # noqa: E402
from core.weights.skeleton import Skeleton  # noqa: E402
from core.weights.tensors import TensorSource  # noqa: E402
from core.workspace import Workspace  # noqa: E402

STORE = ROOT / "build" / "bench"
SHARES = (0.9, 0.8, 0.7, 0.6)
CALIBRATION = {"tokens": 16_384, "context": 512, "fisher_tokens": 4_096, "refit_tokens": 4_096}
WINDOWS = 4
SWEPT_LAYERS = (2, 10, 18, 26)
# of queries and keys; whole they have 576 and 192
SWEPT_RANKS = ((300, 96), (300, 60), (400, 96), (400, 40))
LOCAL = {"linear_form": "local", "linear_allocate": "uniform"}
# name -> (recipe, refit of W_O and MLP); all at the same number of parameters
ROWS: dict[str, tuple[dict[str, str], bool]] = {
    **{
        f"local, {choice}": (LOCAL | {"linear_input": choice}, False)
        for choice in ("identity", "diag-hessian", "diag-l1", "diag-l2", "covariance", "root-covariance")
    },
    "joint: queries for their logits, channels by loss gradients": ({"linear_allocate": "uniform"}, False),
    "the same, W_O and MLP refitted": ({"linear_allocate": "uniform"}, True),
    "the same, spread by predicted loss": ({"linear_allocate": "loss-aware"}, True),
}


class Table:
    """The demo's statistics, made once, and every row at a share of the parameters."""

    def __init__(self) -> None:
        settings = Settings(data_dir=ROOT / "build" / "test-home")
        prepare_demo(settings)
        work = STORE / "linear"
        workspace = Workspace(work=work, result=work / "never")
        self._ready = prepare(self._spec(0.9, {}), workspace, settings)
        folder = Path(self._ready.facts.folder)
        self._source = TensorSource(folder)
        self._skeleton = Skeleton(folder, self._ready.family, self._ready.device)
        self._statistics = work / "statistics"
        ready = self._ready
        for line in calibrate(self._skeleton, ready.facts, ready.family, ready.sample, self._statistics):
            print(line, flush=True)
        held = tokenize(folder, read_text("wikipedia-heldout"))
        self._windows = cut_windows(held, CALIBRATION["context"], WINDOWS)

    @staticmethod
    def _spec(share: float, recipe: dict[str, str]) -> JobSpec:
        # pre-rope at full rank is the original: what is lost is lost in the other linear layers
        whole = {"layout": "pre-rope", "mean_bias": True, "refit_output": True}
        return spec_from_preset(
            "latentllm",
            keep=1.0,
            weights_keep=share,
            recipe=whole | recipe,
            calibration=CALIBRATION,
            evaluation=None,
        )

    def rows(self, share: float, names: Collection[str]) -> dict[str, dict[str, float]]:
        """Perplexity ratio, KL and parameters of the rows called `names`."""
        specs = {name: self._spec(share, ROWS[name][0]) for name in names}
        plans = {name: make_plan(spec, self._ready.facts) for name, spec in specs.items()}
        for name, spec in specs.items():
            if spec.recipe.linear_allocate != "uniform":
                plans[name] = self._spread(spec, plans[name])
        trial = self._trial(plans)
        refit = self._refit(plans)
        for index, layers in self._layers(specs, plans, refit):
            trial.advance(index, layers)
            print(f"{share:g}: layer {index}", flush=True)
        return {
            name: {
                "perplexity_ratio": score.perplexity_ratio,
                "kl": score.divergence,
                "share": plans[name].linears_after / plans[name].linears_before,
            }
            for name, score in trial.scores().items()
        }

    def sweeps(self) -> Iterator[str]:
        """What the scores of four layers lose after the first sweep of joint QK, and when nothing moves."""
        facts = self._ready.facts
        for index in SWEPT_LAYERS:
            weights = attention_weights(self._source, self._ready.family, facts, index, self._ready.device)
            measured = self._measured(index).attention
            covariance = measured.input_covariance
            floor = 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance))
            scores = Scores(
                weights.q.view(facts.heads, facts.head_dim, -1),
                weights.k.view(facts.kv_heads, facts.head_dim, -1),
                covariance + floor,
                measured.attention_mass,
                self._skeleton.inv_freq(index),
                measured.input_mean,
            )
            for ranks in SWEPT_RANKS:
                found = joint_qk(scores, *ranks, Effort(tolerance=1e-5))
                first, last = found.losses[0] / found.total, found.losses[-1] / found.total
                yield f"layer {index}, ranks {ranks}: {first:.5f}, {last:.5f}, {1 - last / first:.1%} less"

    def _trial(self, plans: dict[str, Plan]) -> Trial:
        configs = {name: mla_config(self._ready.facts, plan) for name, plan in plans.items()}
        return Trial(self._skeleton, self._ready.family, configs, self._windows)

    def _refit(self, plans: dict[str, Plan]) -> OutputRefit:
        configs = {
            name: mla_config(self._ready.facts, plan.before_output)
            for name, plan in plans.items()
            if ROWS[name][1]
        }
        windows = refit_windows(self._ready.sample.windows, CALIBRATION["refit_tokens"])
        folder = STORE / "linear" / "refit"
        shutil.rmtree(folder, ignore_errors=True)
        return OutputRefit(self._skeleton, self._ready.family, configs, windows, folder, sees_mlp=True)

    def _layers(
        self, specs: dict[str, JobSpec], plans: dict[str, Plan], refit: OutputRefit
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(self._ready.facts.layers):
            measured = self._measured(index)
            first = next(iter(plans.values())).layers[index]
            latent = convert_layer(
                attention_weights(
                    self._source, self._ready.family, self._ready.facts, index, self._ready.device
                ),
                measured.attention,
                self._skeleton.inv_freq(index),
                first,
                next(iter(specs.values())).recipe,
            )
            shape = latent_shape(self._ready.facts, first)
            layers = {
                name: SmallerLayer(latent, self._mlp(index), shape, measured, spec.recipe, 1e-6)
                for name, spec in specs.items()
            }
            fitted = [name for name in specs if ROWS[name][1]]
            seen = {}
            if fitted:
                behind = {name: layers[name].with_queries(plans[name].layers[index]) for name in fitted}
                seen = refit.advance(index, behind)
            sample = (
                None if refit.mlp_inputs is None else MlpSample(refit.mlp_inputs, self._skeleton.activation())
            )
            yield (
                index,
                {
                    name: one.at(
                        plans[name].layers[index], seen.get(name), sample if name in fitted else None
                    )
                    for name, one in layers.items()
                },
            )

    def _spread(self, spec: JobSpec, plan: Plan) -> Plan:
        """Ranks by predicted loss, tempered."""
        losses: dict[tuple[int, str], Array] = {}
        for index in range(len(plan.layers)):
            weights = self._mlp(index) | self._attention(index)
            found = predicted_losses(weights, self._measured(index).linears, spec.recipe, 1e-6)
            losses |= {(index, part): loss.numpy() for part, loss in found.items()}
        layers = candidates([layer.linears for layer in plan.layers], losses, spec.recipe)["tempered"]
        ranks = [[one.rank for one in layer] for layer in layers]
        return make_plan(spec, self._ready.facts, [layer.widths for layer in plan.layers], ranks)

    def _attention(self, index: int) -> dict[str, Linear]:
        found = attention_weights(
            self._source, self._ready.family, self._ready.facts, index, self._ready.device
        )
        return {"query": Linear(found.q, found.q_bias), "output": Linear(found.o, found.o_bias)}

    def _mlp(self, index: int) -> dict[str, Linear]:
        return mlp_weights(self._source, self._ready.family, index, self._ready.device)

    def _measured(self, index: int) -> Measured:
        return Measured(load_statistics(self._statistics, index), load_linears(self._statistics, index))


def markdown(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table: rows against shares."""
    shares = sorted(found, key=float, reverse=True)
    lines = [
        "| perplexity ratio (KL) | "
        + " | ".join(f"-{100 - 100 * float(one):.0f} %" for one in shares)
        + " |",
        "|---|" + "--:|" * len(shares),
    ]
    for name in ROWS:
        known = [found[one].get(name) for one in shares]
        cells = [f"x{one['perplexity_ratio']:.3f} ({one['kl']:.3f})" if one else "" for one in known]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Compute what is missing of the given shares and of rows with the given word, and print the table."""
    hide_progress_bars()
    if words == ["sweeps"]:
        for line in Table().sweeps():
            print(line, flush=True)
        return
    shares = [float(word) for word in words if word[0].isdigit()]
    only = next((word for word in words if not word[0].isdigit()), "")
    STORE.mkdir(parents=True, exist_ok=True)
    file = STORE / "linear.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    table: Table | None = None
    wanted = [name for name in ROWS if only in name]
    for share in shares or SHARES:
        known = found.setdefault(f"{share:g}", {})
        missing = [name for name in wanted if name not in known]
        if missing:
            table = table or Table()
            known |= table.rows(share, missing)
            file.write_text(json.dumps(found, indent=2))
    print(markdown(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
