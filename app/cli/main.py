# SPDX-License-Identifier: Apache-2.0
"""Commands of `mla-workbench`. Torch is imported only by the commands that compute."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli import evaluation, heal, jobs, push
from app.cli.conversion import run_conversion
from app.cli.options import (
    CalibrationText,
    Changes,
    Dtype,
    Json,
    Keep,
    KvRank,
    MaxLoss,
    Model,
    ModelOrRecipe,
    PresetName,
    RecipeFile,
    Revision,
    RopeDim,
    WeightsKeep,
)
from app.cli.output import conversion_lines, positions_line, reported, show, weight_lines
from app.cli.profile import run_profile
from app.cli.recipe import asked_model, said, spec_from_recipe
from app.cli.request import at_most, convert_spec, spec_from_options
from app.services.text_names import with_uploads
from app.services.widths import cached_words, layout_words, mean_numbers
from core.facts import read_facts
from core.foresight import foresee
from core.planning import make_plan
from core.presets import DEFAULT_PRESET
from core.profiles import newest_profile
from core.settings import load_settings
from core.spec import Calibration, Evaluation, JobSpec, parse_spec

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
cli.add_typer(jobs.cli, name="jobs")
cli.command("push")(push.push)
cli.command("heal")(heal.heal)
cli.command("evaluate")(evaluation.evaluate)


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on")] = None,
) -> None:
    """Start page, worker, broker and database, all on this machine."""
    from app.serve import serve as run

    given = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    with reported(False):
        raise typer.Exit(run(load_settings(**given)))


@cli.command()
def demo() -> None:
    """Prepare the demo model (about 20 s, once)."""
    from core.weights.demo import prepare_demo

    with reported(False):
        print(prepare_demo(load_settings()))


@cli.command()
def inspect(model: Model, revision: Revision = None, json: Json = False) -> None:
    """Facts of a model from its config and index; no weights are read."""
    with reported(json):
        facts = read_facts(model, revision=revision, settings=load_settings())
        show(
            facts.model_dump(mode="json") | {"attention": facts.attention_kind},
            json,
            [
                f"{facts.name}: {facts.family}, {facts.layers} layers, {facts.attention_kind} "
                f"{facts.heads} heads / {facts.kv_heads} KV heads of {facts.head_dim}",
                f"parameters   {facts.parameters:,} ({facts.dtype})",
                positions_line(facts),
                f"KV cache     {facts.kv_bytes_per_token:,} bytes per token",
                *(f"problem      {problem.message} ({problem.hint})" for problem in facts.problems),
            ],
        )


@cli.command()
def plan(
    asked: typer.Context,
    model: ModelOrRecipe = None,
    recipe: RecipeFile = None,
    preset: PresetName = DEFAULT_PRESET,
    keep: Keep = None,
    weights_keep: WeightsKeep = None,
    max_loss: MaxLoss = None,
    rope_dim: RopeDim = None,
    kv_rank: KvRank = None,
    revision: Revision = None,
    dtype: Dtype = "checkpoint",
    changes: Changes = None,
    json: Json = False,
) -> None:
    """What every layer will look like and cost, and what stands in the way."""
    with reported(json):
        if recipe is not None:
            spec = spec_from_recipe(recipe, said(asked))
        else:
            spec = spec_from_options(
                preset,
                changes or (),
                max_loss,
                model=asked_model(model),
                revision=revision,
                keep=keep,
                weights_keep=weights_keep,
                rope_dim=rope_dim,
                kv_rank=kv_rank,
                dtype=dtype,
            )
        settings = load_settings()
        spec = at_most(spec, max_loss, settings)
        facts = read_facts(spec.model, revision=spec.revision, settings=settings)
        found, loss = make_plan(spec, facts), None
        if not found.problems:
            seen = foresee(spec, facts, newest_profile(settings.home, facts.name))
            found, loss = make_plan(spec, facts, seen.widths), seen.prediction
        show(
            found.model_dump(mode="json")
            | {"factor": found.factor, "predicted_kl": loss.model_dump() if loss else None},
            json,
            [
                f"cached per token and layer  {mean_numbers(found)} numbers: "
                f"{cached_words(found, spec.recipe)}",
                f"cache layout                {layout_words(found)}",
                f"KV bytes per token          {found.kv_bytes_per_token_before:,} -> "
                f"{found.kv_bytes_per_token_after:,} ({found.factor:.2f}x smaller)",
                f"parameters                  {found.parameters_before:,} -> {found.parameters_after:,}",
                *weight_lines(found, facts, spec.calibration.context),
                f"KL to the original          predicted {loss.loss:.3f} ({loss.low:.3f} to {loss.high:.3f})"
                if loss
                else "KL to the original          unknown: 'mla-workbench profile' would predict it",
                *(f"problem: {problem.message} ({problem.hint})" for problem in found.problems),
            ],
        )
        if found.problems:
            raise typer.Exit(1)


@cli.command()
def profile(
    model: Model,
    calibration: CalibrationText = Calibration().text,
    tokens: Annotated[int, typer.Option(help="calibration tokens")] = Calibration().tokens,
    context: Annotated[int, typer.Option(help="tokens per calibration window")] = Calibration().context,
    out: Annotated[Path | None, typer.Option(help="folder that gets a copy of profile.json")] = None,
    revision: Revision = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    json: Json = False,
) -> None:
    """Look at a model once: later plans predict their loss, and conversions need not calibrate."""
    with reported(json):
        spec = parse_spec(
            {
                "model": model,
                "revision": revision,
                "device": device,
                "calibration": {"text": calibration, "tokens": tokens, "context": context},
            }
        )
        found = run_profile(spec, out, load_settings())
        show(
            found,
            json,
            [
                f"profile of {found['model']} on {found['text']} ({found['tokens']:,} tokens)",
                *(
                    f"{one['layout']}: predicts KL within a factor of {one['spread']:.2f}"
                    for one in found["recipes"]
                ),
                found["folder"],
            ],
        )


@cli.command()
def convert(
    asked: typer.Context,
    out: Annotated[Path, typer.Option(help="folder to create")],
    model: ModelOrRecipe = None,
    recipe: RecipeFile = None,
    preset: PresetName = DEFAULT_PRESET,
    keep: Keep = None,
    weights_keep: WeightsKeep = None,
    max_loss: MaxLoss = None,
    rope_dim: RopeDim = None,
    kv_rank: KvRank = None,
    revision: Revision = None,
    calibration: CalibrationText = Calibration().text,
    tokens: Annotated[int, typer.Option(help="calibration tokens")] = Calibration().tokens,
    context: Annotated[int, typer.Option(help="tokens per calibration window")] = Calibration().context,
    evaluation: Annotated[str, typer.Option(help="held-out text; 'none' skips it")] = Evaluation().text,
    evaluation_context: Annotated[
        int, typer.Option(help="tokens per evaluation window")
    ] = Evaluation().context,
    windows: Annotated[int, typer.Option(help="evaluation windows")] = Evaluation().windows,
    changes: Changes = None,
    dtype: Dtype = "checkpoint",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    shard_bytes: Annotated[int, typer.Option(help="largest weight file")] = JobSpec().shard_bytes,
    json: Json = False,
) -> None:
    """Convert a model; run the same command again to continue an interrupted conversion."""
    with reported(json):
        spec = (
            spec_from_recipe(recipe, said(asked))
            if recipe is not None
            else convert_spec(
                preset,
                changes or (),
                evaluation,
                evaluation_context,
                windows,
                max_loss=max_loss,
                model=asked_model(model),
                revision=revision,
                keep=keep,
                weights_keep=weights_keep,
                rope_dim=rope_dim,
                kv_rank=kv_rank,
                calibration={"text": calibration, "tokens": tokens, "context": context},
                dtype=dtype,
                device=device,
                shard_bytes=shard_bytes,
            )
        )
        settings = load_settings()
        spec = with_uploads(settings, at_most(spec, max_loss, settings))
        metrics = run_conversion(spec, out.expanduser().absolute(), settings)
        show(
            {"out": str(out), "spec": spec.model_dump(mode="json"), "metrics": metrics},
            json,
            conversion_lines(out, metrics),
        )


@cli.command()
def doctor(json: Json = False) -> None:
    """Check broker, database, disk, devices and versions."""
    from app.cli.doctor import checks

    with reported(json):
        found = checks(load_settings())
    show(
        {"checks": [check.model_dump() for check in found], "ok": all(check.ok for check in found)},
        json,
        [f"{'ok  ' if check.ok else 'FAIL'} {check.name:10} {check.message}" for check in found],
    )
    if not all(check.ok for check in found):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the console script."""
    cli()
