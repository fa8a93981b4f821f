# SPDX-License-Identifier: Apache-2.0
"""A healing as a job: the teacher speaks once, the student learns, the folder is written and verified."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from core.evaluate import formula_kv_bytes, load_model
from core.events import Cancel, Figure, Metric, NullSink, Sink, StageStarted
from core.export.verify import verify
from core.heal.checkpoint import Checkpoints
from core.heal.export import expected_logits, write_healed
from core.heal.feed import Feed
from core.heal.layers import LayerTap, checkpoint_layers
from core.heal.news import OF_THE_CLOCK, HealingNews
from core.heal.precision import freeze_in
from core.heal.preflight import Ready, prepare_healing
from core.heal.record import write_healed_card, write_healed_record
from core.heal.rescale import rescaled
from core.heal.student import Student
from core.heal.targets import joined
from core.heal.teacher import Teacher
from core.heal.trainable import choose_trainable, fixed_int8, merged_weights
from core.heal.trainer import Trainer
from core.measure import measure
from core.modeling import MLAConfig
from core.process import peak_memory_bytes, return_layer_memory
from core.reporting import Reporter
from core.settings import Settings
from core.spec import JobSpec
from core.weights.space import disk_error, is_disk_error
from core.workspace import Workspace, own_work

# trained tokens whose latents say how large a cache of few bits must be
_RESCALE_TOKENS = 16_384


def heal(spec: JobSpec, workspace: Workspace, sink: Sink, cancel: Cancel, settings: Settings) -> None:
    """Heal the converted model of `spec`; the result appears when everything is verified and measured.

    Call it again with the same arguments to resume. Raises WorkbenchError, or Cancelled between steps.
    On several processes all train, and the first one does the rest.
    """
    started = time.monotonic()
    accelerator = Accelerator(cpu=spec.device == "cpu")
    sink = sink if accelerator.is_main_process else NullSink()
    sink.emit(StageStarted(stage="preparing"))
    ready = prepare_healing(spec, workspace, settings, accelerator.num_processes)
    with accelerator.main_process_first():
        if accelerator.is_main_process:
            own_work(workspace, ready.fingerprint, sink)
    try:
        HealingJob(spec, workspace, ready, sink, cancel, accelerator).run()
    except OSError as error:
        if is_disk_error(error):
            raise disk_error(error) from error
        raise
    sink.emit(Metric(name="seconds", value=time.monotonic() - started, unit="s"))
    sink.emit(Metric(name="peak_memory_bytes", value=peak_memory_bytes(), unit="bytes"))


class HealingJob:
    """One run of the stages; holds what they share and nothing that outlives the run."""

    def __init__(
        self,
        spec: JobSpec,
        workspace: Workspace,
        ready: Ready,
        sink: Sink,
        cancel: Cancel,
        accelerator: Accelerator,
    ) -> None:
        self._spec = spec
        self._workspace = workspace
        self._ready = ready
        self._sink = sink
        self._cancel = cancel
        self._accelerator = accelerator
        self._report = Reporter(sink, cancel)
        self._device = accelerator.device if accelerator.num_processes > 1 else ready.device

    def run(self) -> None:
        """All stages in order."""
        teacher = self._teach()
        weights, trainer = self._train(teacher)
        del teacher
        if self._accelerator.is_main_process:
            self._export(weights)
            self._measure()
            self._publish(trainer)
        self._accelerator.wait_for_everyone()

    def _teach(self) -> Teacher | None:
        """Have the cache hold every window; returns the teacher when it is needed after that."""
        ready, healing = self._ready, self._ready.healing
        todo = ready.cache.missing(ready.windows.all) if ready.cache is not None else ready.windows.all[:0]
        self._report.stage("teaching", len(todo))
        teacher = None
        if len(todo) or healing.runs_teacher:
            teacher = Teacher(ready.teacher, self._device, ready.dtype)
        if teacher is not None and ready.cache is not None:
            # every process asks for its share, then all see the files of all
            own = todo[self._accelerator.process_index :: self._accelerator.num_processes]
            done = 0
            for chunk in ready.cache.chunks(own) if len(own) else ():
                parts = [
                    teacher.targets(part, healing.top_k, healing.temperature)
                    for part in self._checked(chunk.split(healing.windows))
                ]
                ready.cache.add(chunk, joined(parts))
                done += len(chunk)
                self._report.step("teaching", done, len(own), f"teacher asked about {done} windows")
        self._accelerator.wait_for_everyone()
        if ready.cache is not None:
            ready.cache.look()
        if not len(todo) and ready.cache is not None:
            self._report.log("what the teacher says of these windows is stored: not asking again")
        if teacher is None or not healing.runs_teacher:
            del teacher
            return_layer_memory()
            return None
        self._watch(teacher)
        return teacher

    def _checked(self, parts: tuple[Tensor, ...]) -> Any:
        for part in parts:
            self._cancel.check()
            yield part

    def _watch(self, teacher: Teacher) -> None:
        family, healing = self._ready.family, self._ready.healing
        if family is not None and (healing.hidden_loss or healing.attention_loss):
            layers = teacher.model.config.get_text_config(decoder=True).num_hidden_layers
            teacher.taps = LayerTap(teacher.model, family.layer, family.attention, layers)

    def _train(self, teacher: Teacher | None) -> tuple[dict[str, Tensor], Trainer]:
        """The best weights, by their names in the checkpoint."""
        ready, healing = self._ready, self._ready.healing
        model: Any = load_model(ready.source, dtype=torch.float32, device=self._device)
        for name in fixed_int8(model):
            self._report.log(f"{name} is int8 and stays as it is", "warning")
        taps = None
        if healing.hidden_loss or healing.attention_loss:
            config: MLAConfig = model.config
            layer = config.mla_attention.rpartition(".")[0]
            taps = LayerTap(model, layer, config.mla_attention, config.num_hidden_layers)
        names = set(choose_trainable(model, healing))
        student = Student(model, healing, ready.dtype, taps)
        freeze_in(model, ready.dtype)
        if healing.checkpoint_activations:
            checkpoint_layers(model)
        trainer = Trainer(
            student,
            healing,
            ready.steps,
            ready.windows,
            Feed(healing, self._device, ready.cache, teacher),
            Checkpoints(self._workspace.work / "checkpoint"),
            self._accelerator,
        )
        self._learn(trainer)
        own = dict(model.named_parameters())
        for name, value in trainer.best_weights().items():
            own[name.removeprefix("language.model.")].data.copy_(value)
        weights = merged_weights(model, names) | rescaled(model, self._looked_at())
        return {name: value.cpu() for name, value in weights.items()}, trainer

    def _looked_at(self) -> Iterator[Tensor]:
        """Windows whose latents say what few bits must hold."""
        healing = self._ready.healing
        count = max(1, _RESCALE_TOKENS // healing.context)
        for part in self._ready.windows.train[:count].split(healing.windows):
            self._cancel.check()
            yield part.to(self._device)

    def _learn(self, trainer: Trainer) -> None:
        """All steps, told as they come."""
        ready = self._ready
        self._report.stage("healing", ready.steps, trainer.step)
        news = HealingNews(self._sink, self._report, ready.steps, trainer.step, ready.healing.target_kl)
        if trainer.step:
            self._report.log(f"continuing at step {trainer.step} of {ready.steps}")
        for done in trainer.run(self._cancel):
            news.tell(done, trainer.curve)
        news.close(trainer.curve)

    def _export(self, weights: dict[str, Tensor]) -> None:
        """Write the folder, and see in a fresh process that it gives what it should."""
        ready, work = self._ready, self._workspace.work
        self._report.stage("verifying", 1)
        return_layer_memory()
        write_healed(ready.source, self._folder, weights)
        expected = work / "expected.safetensors"
        expected_logits(ready.source, weights, ready.windows.held_out[0], expected)
        config = MLAConfig.from_pretrained(ready.source, local_files_only=True)
        dtype: Any = config.dtype
        found = verify(
            self._folder,
            expected,
            str(dtype).removeprefix("torch."),
            formula_kv_bytes(config, dtype),
            self._cancel,
        )
        self._report.log(f"reloaded in a fresh process; it continues a text with: {found.generated!r}")
        sample = {"prompt": found.prompt, "continuation": found.generated}
        self._sink.emit(Figure(name="sample", data={**sample}))
        self._report.metric("logits_difference", found.logits_difference)
        self._report.metric("kv_bytes_per_token_measured", found.kv_bytes_per_token, "bytes/token")
        self._carry_over()
        self._report.step("verifying", 1, 1, "the exported folder gives the same logits")

    def _carry_over(self) -> None:
        """Sizes are the conversion's; its quality stands beside the new one."""
        before = self._ready.record["metrics"]
        units = {"kv_bytes_per_token_before": "bytes/token", "kv_bytes_per_token_formula": "bytes/token"}
        units |= dict.fromkeys(("parameters_before", "parameters_after"), "numbers")
        units |= dict.fromkeys(("linear_parameters_before", "linear_parameters_after"), "numbers")
        for name, unit in units.items():
            if name in before:
                self._report.metric(name, before[name], unit, "calculated")
        for name, unit in (
            ("perplexity_ratio", "ratio"),
            ("kl_to_base", "nats"),
            ("top1_agreement", "fraction"),
        ):
            if name in before:
                self._report.metric(f"{name}_before_healing", before[name], unit)

    def _measure(self) -> None:
        if self._spec.evaluation is None:
            return
        self._report.stage("measuring", self._spec.evaluation.windows)
        base = self._ready.teacher
        for name, value, unit in measure(
            base, self._folder, self._spec.evaluation, self._device, self._sink, self._cancel
        ):
            self._report.metric(name, value, unit)

    def _publish(self, trainer: Trainer) -> None:
        """Write record and card, then let the result appear by one rename."""
        ready, metrics = self._ready, self._report.metrics
        kept = {name: value for name, value in metrics.items() if name not in OF_THE_CLOCK}
        curve = trainer.curve
        write_healed_record(self._folder, self._spec, ready.healing, curve, ready.teacher_files, kept)
        write_healed_card(self._folder, self._spec, ready.healing, curve, kept)
        self._cancel.check()
        self._workspace.result.parent.mkdir(parents=True, exist_ok=True)
        self._folder.rename(self._workspace.result)
        shutil.rmtree(self._workspace.work)

    @property
    def _folder(self) -> Path:
        return self._workspace.work / "export"
