# SPDX-License-Identifier: Apache-2.0
"""An interrupted conversion, continued, gives the bytes of one that was never disturbed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cancelling import CancelAfter
from folder_digest import digest
from safetensors.torch import load_file, save_file

from core.errors import Cancelled, OutputError, VerificationError
from core.spec import JobSpec


def test_stopping_at_every_layer_changes_no_byte(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    """Stop at each layer in turn until all are converted, then in the verification, then not at all."""
    spec = tiny_spec(tiny_checkpoint, shard_bytes=1_000_000)
    undisturbed, _ = convert_to(spec, "undisturbed")
    converted = tmp_path / "stopped.partial" / "probe" / "expected.safetensors"
    stops = 0
    while not converted.exists():
        # one step more each time: the calibrated and converted layers are passed over
        stops += 1
        with pytest.raises(Cancelled):
            convert_to(spec, "stopped", CancelAfter(stops))
    assert stops >= 2 * 4  # at least once in each layer of both loops
    # the verification is asked many times a second whether to stop: how often depends on the machine
    with pytest.raises(Cancelled):
        convert_to(spec, "stopped", CancelAfter(stops + 4))
    result, _ = convert_to(spec, "stopped")
    assert digest(result) == digest(undisturbed)
    assert not result.with_name("stopped.partial").exists()


def test_a_resumed_run_does_not_repeat_finished_layers(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    spec = tiny_spec(tiny_checkpoint)
    with pytest.raises(Cancelled):
        convert_to(spec, "out", CancelAfter(8))
    statistics = tmp_path / "out.partial" / "statistics"
    written = {file: file.stat().st_mtime_ns for file in statistics.glob("layer-*")}
    assert written
    with pytest.raises(Cancelled):
        convert_to(spec, "out", CancelAfter(9))
    assert {file: file.stat().st_mtime_ns for file in written} == written
    # what is left is estimated from what is not finished yet
    units = json.loads((tmp_path / "out.partial" / "manifest.json").read_text())["units"]
    converted = sum(name.startswith("layer") for name in units)
    _, sink = convert_to(spec, "out")
    finished = {event.stage: event.finished for event in sink.of("stage")}
    assert (finished["calibrating"], finished["converting"]) == (4, converted)
    assert 0 < converted < 4


def test_work_of_another_recipe_is_not_continued(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    with pytest.raises(Cancelled):
        convert_to(tiny_spec(tiny_checkpoint, keep=0.5), "out", CancelAfter(8))
    other = tiny_spec(tiny_checkpoint, keep=0.25)
    mixed, sink = convert_to(other, "out")
    clean, _ = convert_to(other, "clean")
    assert digest(mixed) == digest(clean)
    assert any("starting over" in event.message for event in sink.of("log"))


def test_a_changed_config_starts_over(
    tiny_llama: Callable[..., Path], tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """The weights are the same, the frequencies are not."""
    base = tiny_llama()
    with pytest.raises(Cancelled):
        convert_to(tiny_spec(base), "out", CancelAfter(8))
    path = base / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"]["rope_theta"] = 50_000.0
    path.write_text(json.dumps(config))
    mixed, sink = convert_to(tiny_spec(base), "out")
    clean, _ = convert_to(tiny_spec(base), "clean")
    assert any("starting over" in event.message for event in sink.of("log"))
    assert digest(mixed) == digest(clean)


def test_damaged_bytes_are_written_again(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    """Stopped once inside the conversion and once after it: both times a byte of a written layer changes."""
    spec = tiny_spec(tiny_checkpoint)
    undisturbed, _ = convert_to(spec, "undisturbed")
    work = tmp_path / "out.partial"
    for checks in (10, 13):
        with pytest.raises(Cancelled):
            convert_to(spec, "out", CancelAfter(checks))
        (file,) = (work / "export").glob("*.safetensors*")
        assert "layer-00000" in json.loads((work / "manifest.json").read_text())["units"]
        tensor = "model.layers.0.self_attn.v_b_proj.weight"
        with file.open("r+b") as handle:
            size = int.from_bytes(handle.read(8), "little")
            start = json.loads(handle.read(size))[tensor]["data_offsets"][0]
            start += checks  # another byte each time
            handle.seek(8 + size + start)
            byte = handle.read(1)[0]
            handle.seek(8 + size + start)
            handle.write(bytes([byte ^ 0xFF]))
    result, _ = convert_to(spec, "out")
    assert digest(result) == digest(undisturbed)


def test_a_failed_verification_is_not_final(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    """A damaged probe makes good files look bad; the run after the refusal makes all of it again."""
    spec = tiny_spec(tiny_checkpoint)
    undisturbed, _ = convert_to(spec, "undisturbed")
    with pytest.raises(Cancelled):
        convert_to(spec, "out", CancelAfter(13))
    state = tmp_path / "out.partial" / "probe" / "probe-00004.safetensors"
    tensors = load_file(state)
    save_file(tensors | {"hidden": tensors["hidden"].flip(1).contiguous()}, state)
    with pytest.raises(VerificationError, match="logits differ"):
        convert_to(spec, "out")
    result, _ = convert_to(spec, "out")
    assert digest(result) == digest(undisturbed)


def test_sharding_changes_only_the_files(
    tiny_llama: Callable[..., Path], tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any]
) -> None:
    """Many small shards hold the same tensors as one file."""
    from core.weights.tensors import TensorSource

    base = tiny_llama(vocab_size=4096)
    one, _ = convert_to(tiny_spec(base), "one")
    many, _ = convert_to(tiny_spec(base, shard_bytes=1_000_000), "many")
    assert len(list(many.glob("*.safetensors"))) > 1
    first, second = TensorSource(one), TensorSource(many)
    assert first.infos.keys() == second.infos.keys()
    assert all(first.read(name).equal(second.read(name)) for name in first.infos)


def test_a_folder_that_is_not_ours_is_left_alone(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    """The work folder is named after the output: something else may have that name already."""
    precious = tmp_path / "out.partial" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(OutputError, match="not made by a conversion"):
        convert_to(tiny_spec(tiny_checkpoint))
    assert precious.read_text() == "years of work"
