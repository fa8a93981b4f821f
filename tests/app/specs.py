# SPDX-License-Identifier: Apache-2.0
"""Requests of every kind, for claims about all of them."""

from hypothesis import strategies as st

from core.presets import PRESETS
from core.recipe import without_weights
from core.spec import Calibration, Evaluation, JobSpec, Recipe
from core.stages import STAGES

# "none" after --evaluation means: do not measure
_TEXT = st.text(min_size=1, max_size=20).filter(lambda text: text != "none" and "\0" not in text)
_BUDGETS = st.one_of(
    st.tuples(st.floats(1e-6, 1), st.none(), st.none()),
    # the pre-rope layout needs no rotary dims beside the rank
    st.tuples(
        st.none() | st.floats(1e-6, 1),
        st.none() | st.integers(0, 64).map(lambda n: 2 * n),
        st.integers(1, 512),
    ),
)
_CALIBRATIONS = st.builds(
    Calibration,
    text=_TEXT,
    tokens=st.integers(64, 10_000),
    context=st.integers(16, 131_072),
    sampling=st.sampled_from(["spread", "start"]),
    fisher_tokens=st.integers(1, 10_000),
    shrinkage=st.floats(0, 1),
    image_weight=st.floats(0.01, 2),
    seed=st.integers(0, 2**32 - 1),
)

_PAIRS = st.lists(st.integers(0, 31), max_size=4, unique=True)
_BY_HAND = st.one_of(
    st.just((None, None)),
    st.tuples(
        st.none() | st.lists(st.integers(1, 512), min_size=1, max_size=4),
        st.none() | st.lists(st.lists(_PAIRS, min_size=1, max_size=3), min_size=1, max_size=3),
    ),
)


@st.composite
def _recipes(draw: st.DrawFn, has_weights: bool) -> Recipe:
    """Any choice at every stage, as far as they go together."""
    chosen: dict[str, object] = {
        stage: draw(st.sampled_from(sorted(choices.ready))) for stage, choices in STAGES.items()
    }
    if chosen["layout"] == "pre-rope":
        chosen |= {"rope_select": "2-norm", "rope_mix": "none", "rope_derotate": "identity"}
    if chosen["rope_mix"] != "none":
        chosen["freqfold"] = draw(st.integers(0, 16))
        chosen["rope_select"] = draw(st.sampled_from(["uniform", "logit-damage"]))
    if chosen["rope_select"] == "uniform":
        chosen["rope_select_start"] = draw(st.integers(0, 31))
    if chosen["factor_form"] == "joint":
        chosen["key_weight"] = draw(st.floats(0.01, 100))
    # block-identity, which a budget of weights would make of this junction, does not go with few bits
    if chosen["junction"] != "block-identity":
        chosen["latent_bits"] = draw(st.sampled_from([2, 4, 8, 16]))
    chosen |= {"mean_bias": draw(st.booleans()), "factor_bits": draw(st.sampled_from([8, 16]))}
    chosen |= {"sparse_share": draw(st.sampled_from([0.0, 0.05, 0.5]))}
    return Recipe.model_validate(chosen if has_weights else without_weights(chosen))


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    """Any conversion that can be asked for."""
    keep, rope_dim, kv_rank = draw(_BUDGETS)
    context, windows = st.integers(16, 131_072), st.integers(1, 100_000)
    ranks, pairs = draw(_BY_HAND)
    weights_keep = draw(st.none() | st.floats(1e-6, 1))
    return JobSpec(
        model=draw(_TEXT),
        revision=draw(st.none() | _TEXT),
        preset=draw(st.none() | st.sampled_from(sorted(PRESETS))),
        recipe=draw(_recipes(weights_keep is not None)),
        keep=keep,
        weights_keep=weights_keep,
        rope_dim=rope_dim,
        kv_rank=kv_rank,
        layer_ranks=ranks if kv_rank is None else None,
        rope_pairs=pairs if rope_dim is None else None,
        calibration=draw(_CALIBRATIONS),
        evaluation=draw(st.none() | st.builds(Evaluation, text=_TEXT, context=context, windows=windows)),
        dtype=draw(st.sampled_from(["checkpoint", "float32"])),
        device=draw(st.sampled_from(["auto", "cpu"])),
        shard_bytes=draw(st.integers(1_000_000, 10_000_000)),
    )
