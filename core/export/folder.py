# SPDX-License-Identifier: Apache-2.0
"""Everything of the output folder but the weights: config, model code, tokenizer, generation settings."""

import shutil
from dataclasses import asdict
from pathlib import Path

from core.arch import find_architecture
from core.errors import ModelError
from core.export.layout import latent_shape
from core.facts import ModelFacts
from core.linear.layout import factor_shapes
from core.model_config import read_config
from core.modeling import MLAConfig, export_source
from core.planning import Plan

# copied byte for byte when the original has them
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
# what config.json says of the original's files rather than of the model
_NOT_MODEL = ("_name_or_path", "_model_name_or_path", "architectures", "auto_map", "transformers_version")


def mla_config(facts: ModelFacts, plan: Plan) -> MLAConfig:
    """The config of the converted model."""
    base = {key: value for key, value in read_config(Path(facts.folder)).items() if key not in _NOT_MODEL}
    layers = [asdict(latent_shape(facts, layer)) for layer in plan.layers]
    family = find_architecture(facts.model_type)
    if family is None:
        raise ModelError(f"models of type '{facts.model_type}' cannot be converted yet", field="model")
    linears = [factor_shapes(layer) for layer in plan.layers]
    config = MLAConfig(
        base_config=base,
        mla_layers=layers,
        mla_linears=linears if any(linears) else None,
        mla_attention=family.attention,
        mla_rotary=family.rotary,
        mla_dropout=family.dropout,
    )
    kind = "ForImageTextToText" if family.sees_images else "ForCausalLM"
    config.architectures = [f"MLA{kind}"]
    config.auto_map = {
        "AutoConfig": "modeling_mla.MLAConfig",
        f"AutoModel{kind}": f"modeling_mla.MLA{kind}",
    }
    config.dtype = plan.dtype
    return config


def write_small_files(folder: Path, facts: ModelFacts, config: MLAConfig) -> None:
    """Write config.json and the model code into `folder`, and copy the tokenizer from the original."""
    (folder / "config.json").write_text(config.to_json_string(use_diff=True), encoding="utf-8")
    source = export_source()
    shutil.copyfile(source, folder / source.name)
    original = Path(facts.folder)
    for name in _COPIED:
        if (original / name).is_file():
            shutil.copyfile(original / name, folder / name)
    for licence in original.glob("LICENSE*"):
        shutil.copyfile(licence, folder / licence.name)
