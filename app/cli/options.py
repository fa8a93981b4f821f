# SPDX-License-Identifier: Apache-2.0
"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.request import NO_PRESET
from core.presets import PRESETS

Model = Annotated[str, typer.Argument(help="a local folder, a Hub id, or demo")]
# a recipe names its model too
ModelOrRecipe = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="a local folder, a Hub id, or demo; default: the recipe's"),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        help="a whole request as YAML or JSON, - for standard input; other options are laid over it"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]
PresetName = Annotated[str, typer.Option(help=f"one of: {', '.join(PRESETS)}, {NO_PRESET}")]
Keep = Annotated[
    float | None, typer.Option(help="fraction of KV-cache bytes that stays; default: the preset's")
]
WeightsKeep = Annotated[
    str | None,
    typer.Option(
        help="fraction of the parameters of the linear layers that stays, such as 0.8, or none, which leaves "
        "them as they are; default: the preset's, none but in latentllm"
    ),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        help="instead of --keep: the smallest cache that the model's profile predicts to lose no more than "
        "this, KL to the original in nats per token; 0.1 is about 10 % more perplexity"
    ),
]
RopeDim = Annotated[
    int | None, typer.Option(help="rotary dims per rope key; none in the pre-rope layout; wins over --keep")
]
KvRank = Annotated[int | None, typer.Option(help="latent numbers per KV head; wins over --keep")]
Revision = Annotated[str | None, typer.Option(help="branch, tag or commit of a Hub model")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="change one choice of the preset's recipe, such as rope_mix=complex; may be given again. "
        "Dotted names reach the calibration, such as calibration.fisher_tokens=4096",
    ),
]
Dtype = Annotated[str, typer.Option(help="checkpoint, float32, bfloat16 or float16")]
CalibrationText = Annotated[str, typer.Option(help="UTF-8 file or named text")]
