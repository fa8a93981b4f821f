# SPDX-License-Identifier: Apache-2.0
"""The layer loop: read, convert, write, emit. Memory holds one layer; every step can be resumed."""

import shutil
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from core.calibrate.layer_statistics import load_statistics
from core.calibrate.seeing import Seeing, picture_states
from core.calibrate.steps import calibrate, finished_steps, step_count
from core.choosing import Allocation, Choosing
from core.convert import AttentionWeights, convert_layer
from core.events import Cancel, Figure, Metric, Sink, StageStarted
from core.export.card import write_card
from core.export.folder import mla_config, write_small_files
from core.export.layout import layer_unit, units
from core.export.probe import Probe
from core.export.record import write_record
from core.export.verify import WrongLogits, verify
from core.layer_rows import layer_row, sentence
from core.layer_weights import attention_weights
from core.linear.choosing import LinearAllocation
from core.linear.stage import LinearStage, spread_words
from core.measure import measure
from core.planning import LayerPlan, make_plan
from core.preflight import Prepared, prepare
from core.process import peak_memory_bytes
from core.profiles import find_statistics, newest_profile
from core.refit import OutputRefit
from core.reporting import Reporter
from core.settings import Settings
from core.spec import JobSpec
from core.weights.manifest import Manifest
from core.weights.skeleton import Skeleton
from core.weights.space import disk_error, is_disk_error
from core.weights.tensors import TORCH_DTYPES, TensorSource
from core.weights.writer import ShardWriter, Unit
from core.workspace import Workspace, own_work


def convert(spec: JobSpec, workspace: Workspace, sink: Sink, cancel: Cancel, settings: Settings) -> None:
    """Convert the model of `spec`; the result folder appears when everything is verified and measured.

    Call it again with the same arguments to resume. Raises WorkbenchError, or Cancelled between layers.
    """
    started = time.monotonic()
    sink.emit(StageStarted(stage="preparing"))
    ready = prepare(spec, workspace, settings)
    own_work(workspace, ready.fingerprint, sink)
    try:
        Conversion(spec, workspace, ready, sink, cancel, settings.home).run()
    except OSError as error:
        if is_disk_error(error):
            raise disk_error(error) from error
        raise
    sink.emit(Metric(name="seconds", value=time.monotonic() - started, unit="s"))
    sink.emit(Metric(name="peak_memory_bytes", value=peak_memory_bytes(), unit="bytes"))


class Conversion:
    """One run of the stages; holds what they share and nothing that outlives the run."""

    def __init__(
        self, spec: JobSpec, workspace: Workspace, ready: Prepared, sink: Sink, cancel: Cancel, home: Path
    ) -> None:
        self._spec = spec
        self._ready = ready
        self._sink = sink
        self._cancel = cancel
        self._workspace = workspace
        self._export = workspace.work / "export"
        self._export.mkdir(parents=True, exist_ok=True)
        folder = Path(ready.facts.folder)
        self._source = TensorSource(folder, ready.family)
        pictures = picture_states(workspace.work, ready.pictures, ready.facts.hidden_size)
        self._skeleton = Skeleton(folder, ready.family, ready.device, pictures)
        self._seeing = Seeing(folder, ready.family, ready.pictures, pictures, ready.device)
        self._config = mla_config(ready.facts, ready.plan)
        self._report = Reporter(sink, cancel)
        stored = find_statistics(home, ready.statistics_fingerprint, ready.sample.fisher_windows)
        self._statistics = stored or workspace.work / "statistics"
        self._profile = newest_profile(home, ready.facts.name)
        self._refit: OutputRefit | None = None
        self._linears = LinearStage(
            spec, ready, self._skeleton, self._source, self._attention, self._statistics
        )

    def run(self) -> None:
        """All stages in order."""
        windows, asked = self._ready.sample.windows, self._spec.calibration
        if windows.numel() + windows.shape[1] <= asked.tokens:
            self._report.log(f"the calibration text has only {windows.numel():,} tokens", "warning")
        self._report.images(*self._ready.calibrated_on)
        self._calibrate()
        self._predict()
        rows, expected = self._convert(windows[0])
        self._verify(expected)
        self._measure()
        self._publish(rows)

    def _calibrate(self) -> None:
        ready, folder = self._ready, self._statistics
        total, finished, steps = self._seeing.step_count, self._seeing.finished_steps, self._seeing.steps()
        is_new = folder.is_relative_to(self._workspace.work)
        if is_new:
            total += step_count(ready.facts.layers, ready.sample)
            finished += finished_steps(ready.facts, ready.sample, folder)
            again = calibrate(self._skeleton, ready.facts, ready.family, ready.sample, folder)
            steps = chain(steps, again)
        else:
            self._report.log(
                "a stored profile has the statistics of this model and text: not calibrating again"
            )
        tokens = ready.sample.windows.numel() if is_new else 0
        # not recorded: equal specs give equal bytes, whether a profile was there or not
        self._sink.emit(Metric(name="calibrated_tokens", value=tokens, unit="tokens"))
        choosing = None
        weighing = self._linears.choosing(self._workspace.work / "weights.json")
        if self._spec.allocates:
            file = self._workspace.work / "allocation.json"
            choosing = Choosing(self._spec, ready, self._skeleton, self._attention, folder, file)
            total += choosing.step_count(ready.facts.layers)
            finished += choosing.finished_steps()
            steps = chain(steps, choosing.steps())
        if weighing is not None:
            total += weighing.step_count(ready.facts.layers)
            finished += weighing.finished_steps()
        self._report.stage("calibrating", total, finished)
        done = self._report.count("calibrating", steps, 0, total)
        if choosing is not None:
            self._use(choosing.outcome())
        if weighing is not None:
            self._report.count("calibrating", weighing.steps(self._ready.plan), done, total)
            self._use_ranks(weighing.outcome())

    def _predict(self) -> None:
        """What the newest profile of the model says of the plan, as the page did before the job.

        Not part of the exported record: equal specs give equal bytes, whatever profiles there are.
        """
        widths = [layer.widths for layer in self._ready.plan.layers]
        pairs = self._spec.rope_pairs
        found = self._profile.predict(self._spec.recipe, widths, pairs) if self._profile else None
        if found is not None and not self._spec.loses_more_than_rank:
            said = {
                "kl_predicted": found.loss,
                "kl_predicted_low": found.low,
                "kl_predicted_high": found.high,
            }
            for name, value in said.items():
                self._sink.emit(Metric(name=name, value=value, unit="nats/token", source="predicted"))

    def _use(self, allocation: Allocation) -> None:
        """Go on with the winner's widths."""
        won = allocation.candidates[allocation.winner]
        plan = make_plan(self._spec, self._ready.facts, won.widths)
        self._ready = replace(self._ready, plan=plan)
        self._config = mla_config(self._ready.facts, plan)
        self._report.log(allocation.words(self._spec.recipe))
        self._report.metric("kl_held_back", won.measured, "nats/token")
        # predictions are scaled to what was measured for uniform, so for uniform they say nothing
        if allocation.winner != "uniform":
            self._report.metric("kl_held_back_predicted", won.predicted, "nats/token", "predicted")

    def _use_ranks(self, allocation: LinearAllocation) -> None:
        """Go on with the winner's ranks of the linear layers."""
        widths = [layer.widths for layer in self._ready.plan.layers]
        plan = make_plan(self._spec, self._ready.facts, widths, allocation.ranks)
        self._ready = replace(self._ready, plan=plan)
        self._config = mla_config(self._ready.facts, plan)
        self._report.log(spread_words(allocation))

    def _convert(self, probe_tokens: Tensor) -> tuple[list[dict[str, Any]], Path]:
        """Write every unit that is missing; returns the per-layer rows and the probe's expected logits."""
        ready, work = self._ready, self._workspace.work
        manifest = Manifest(work / "manifest.json", ready.fingerprint)
        manifest.save()
        todo = units(self._source.infos, ready.facts, ready.family, ready.plan, self._spec.dtype)
        writer = ShardWriter(self._export, todo, self._spec.shard_bytes, manifest)
        layers = {layer_unit(layer.index): layer for layer in ready.plan.layers}
        self._report.stage("converting", len(layers), sum(name in manifest for name in layers))
        probe = Probe(work / "probe", self._config, self._skeleton, ready.family, ready.plan.dtype)
        probe.start(probe_tokens)
        if len(ready.refit):
            configs = {"export": mla_config(ready.facts, ready.plan.before_output)}
            self._refit = OutputRefit(
                self._skeleton,
                ready.family,
                configs,
                ready.refit,
                work / "refit",
                image_weight=ready.sample.image_weight,
                sees_mlp=self._linears.refits_mlp,
            )
        for unit in todo:
            layer = layers.get(unit.name)
            if unit.name not in manifest and layer is None:
                writer.write(unit.name, {info.name: self._source.read(info.name) for info in unit.tensors})
            elif unit.name not in manifest and layer is not None:
                self._convert_unit(unit, layer, writer, probe)
            if layer is not None:
                self._report.step(
                    "converting", layer.index + 1, len(layers), sentence(manifest.note(unit.name))
                )
        expected = probe.finish(ready.facts.layers, self._source)
        writer.finish()
        write_small_files(self._export, ready.facts, self._config)
        rows = [dict(manifest.note(name)) for name in layers]
        self._report.layers(rows, self._skeleton.turning(), self._spec.recipe)
        return rows, expected

    def _convert_unit(self, unit: Unit, layer: LayerPlan, writer: ShardWriter, probe: Probe) -> None:
        started = time.monotonic()
        statistics = load_statistics(self._statistics, layer.index)
        weights = self._attention(layer.index)
        latent = convert_layer(
            weights,
            statistics,
            self._skeleton.inv_freq(layer.index),
            layer,
            self._spec.recipe,
            self._spec.calibration.shrinkage,
        )
        latent = self._linears.smaller(layer, latent, statistics, self._refit)
        attention = self._ready.family.attention.format(i=layer.index) + "."
        prefix = self._ready.family.layer.format(i=layer.index) + "."
        tensors = {attention + name: tensor for name, tensor in latent.tensors.items()}
        tensors |= {prefix + name: tensor for name, tensor in latent.rest.items()}
        tensors |= {i.name: self._source.read(i.name) for i in unit.tensors if i.name not in tensors}
        written = {
            info.name: tensors[info.name].to(TORCH_DTYPES[info.dtype]).contiguous() for info in unit.tensors
        }
        probe.advance(layer.index, {name.removeprefix(prefix): value for name, value in written.items()})
        writer.write(unit.name, written, layer_row(layer, self._ready.facts, latent, started))

    def _attention(self, index: int) -> AttentionWeights:
        return attention_weights(
            self._source, self._ready.family, self._ready.facts, index, self._ready.device
        )

    def _verify(self, expected: Path) -> None:
        plan = self._ready.plan
        self._report.stage("verifying", 1)
        try:
            found = verify(self._export, expected, plan.dtype, plan.kv_bytes_per_token_after, self._cancel)
        except WrongLogits:
            # resuming must write every unit again, not find the same bytes
            (self._workspace.work / "manifest.json").unlink()
            shutil.rmtree(expected.parent)
            raise
        self._report.log(f"reloaded in a fresh process; it continues a text with: {found.generated!r}")
        sample = {"prompt": found.prompt, "continuation": found.generated}
        self._sink.emit(Figure(name="sample", data={**sample}))
        self._report.metric("logits_difference", found.logits_difference)
        self._report.metric("kv_bytes_per_token_measured", found.kv_bytes_per_token, "bytes/token")
        self._report.plan(plan, self._ready.facts, self._spec.calibration.context)
        self._report.step("verifying", 1, 1, "the exported folder gives the same logits")

    def _measure(self) -> None:
        if self._spec.evaluation is None:
            return
        self._report.stage("measuring", self._spec.evaluation.windows)
        base = Path(self._ready.facts.folder)
        for name, value, unit in measure(
            base, self._export, self._spec.evaluation, self._ready.device, self._sink, self._cancel
        ):
            self._report.metric(name, value, unit)

    def _publish(self, rows: list[dict[str, Any]]) -> None:
        """Write record and card, then let the result appear by one rename."""
        ready = self._ready
        table = [
            {key: value for key, value in row.items() if key not in ("seconds", "scores")} for row in rows
        ]
        write_card(self._export, self._spec, ready.facts, ready.plan, self._report.metrics)
        write_record(
            self._export,
            self._spec,
            ready.facts,
            ready.plan,
            ready.base_files,
            table,
            self._report.metrics,
            ready.fingerprint,
        )
        self._cancel.check()
        self._workspace.result.parent.mkdir(parents=True, exist_ok=True)
        self._export.rename(self._workspace.result)
        shutil.rmtree(self._workspace.work)
