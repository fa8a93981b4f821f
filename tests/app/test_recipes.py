# SPDX-License-Identifier: Apache-2.0
"""A recipe file is the whole request, both ways; what is wrong in one is named with its line and its fix."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.services.recipe_yaml import write_yaml
from app.services.recipes import MOST_BYTES, decode_recipe, read_recipe, read_recipe_file, write_recipe
from core.errors import SpecError
from core.presets import PRESETS
from core.spec import Calibration, JobSpec
from tests.app.specs import specs


@given(spec=specs(), form=st.sampled_from(["yaml", "json"]))
def test_a_written_recipe_is_read_as_the_same_request(spec: JobSpec, form: str) -> None:
    assert read_recipe(write_recipe(spec, "yaml" if form == "yaml" else "json")) == spec


@given(spec=specs())
def test_other_readers_of_yaml_see_the_same_values(spec: JobSpec) -> None:
    """PyYAML's own loader follows YAML 1.1, in which `no` and 1e-6 are not what they seem."""
    assert JobSpec.model_validate(yaml.safe_load(write_yaml(spec))) == spec


@given(text=st.text(max_size=200))
def test_any_text_is_a_recipe_or_is_refused_with_a_fix(text: str) -> None:
    try:
        spec = read_recipe(text)
    except SpecError as error:
        assert bool(error.message and error.hint)  # noqa: PT017
    else:
        assert isinstance(spec, JobSpec)


def test_every_field_says_what_it_means() -> None:
    lines = write_yaml(JobSpec()).splitlines()
    values = [line for line in lines if not line.endswith(":") and not line.startswith("#")]
    assert len(values) > 25
    assert all("  # " in line for line in values)


def test_a_preset_fills_what_is_left_out_and_a_word_is_a_word() -> None:
    spec = read_recipe("model: 'no'   # a folder\npreset: fast\nrecipe:\n  rope_mix: none\n  freqfold: 1\n")
    assert spec.model == "no"
    assert spec.recipe.rope_mix == "none"
    assert spec.recipe.factor_output == PRESETS["fast"].recipe.factor_output
    assert read_recipe("model: no\nrevision: 2024-01-01\n").revision == "2024-01-01"
    assert read_recipe("calibration:\n  # tokens: 4\nkeep: .5\n").calibration == Calibration()
    assert read_recipe("{model: demo, keep: .5}").keep == 0.5


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("model: demo\nrope_mx: none", "line 2: there is no field 'rope_mx'", "belongs under 'recipe'"),
        ("recipe:\n  rope_mx: none", "line 2: there is no field 'rope_mx'", "did you mean 'rope_mix'?"),
        ("recipe:\n  keep: .5", "line 2: there is no field 'keep'", "do not indent it"),
        ("tokens: 64", "line 1: there is no field 'tokens'", "belongs under 'calibration'"),
        ("recipe:\n\n  rope_mix: rorro", "line 3: rope_mix: 'rorro' is not a known", "did you mean 'roro'?"),
        ("preset: qualty", "line 1: there is no preset 'qualty'", "did you mean 'quality'?"),
        ("# half\nkeep: half", "line 2: keep:", "fraction of KV-cache bytes"),
        ("keep: 2", "line 1: keep must be above 0 and at most 1", "keeps 31.25 %"),
        ("recipe: fast", "line 1: 'recipe' has fields of its own", "under it, indented"),
        ("keep: .5\nkeep: .6", "line 2: 'keep' is said twice", "keep one"),
        ('{"keep": 0.5, "keep": 0.6}', "'keep' is said twice", "keep one"),
        (
            '{"model": "demo",\n "calibration": {\n  "tokens": 1}}',
            "line 3: calibration.tokens",
            "tokens read",
        ),
        ('{"keep": 0.5 "model": 1}', "line 1: this is not JSON", "none after the last"),
        ("keep: [0.5", "this is not YAML", "indent with spaces"),
        ("a:\n\tb: 1", "line 2: this is not YAML", "indent with spaces"),
        ("keep: &x 0.5\nrope_dim: *x", "line 1: anchors and aliases", "write the value out"),
        ("!!python/object:os.system echo", "line 1: tags", "value alone"),
        ("[" * 100_000, "line 1: this is nested too deeply", "fields"),
        ('{"keep":' * 100_000, "nested too deeply", "fields"),
        ("- keep", "list of fields", "model:"),
        (" \n# nothing\n", "the recipe is empty", "model: demo"),
        ("# " + "x" * MOST_BYTES, "at most 4 MB", "recipe file"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_fix(text: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_recipe(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not UTF-8"):
        decode_recipe("model: é".encode("latin-1"), "recipe.yaml")
    with pytest.raises(SpecError, match="binary"):
        decode_recipe(b"model: \0", "recipe.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        read_recipe_file(tmp_path / "absent.yaml")
    marked = tmp_path / "recipe.json"
    marked.write_text(json.dumps({"keep": 0.25}), encoding="utf-8-sig")
    assert read_recipe_file(marked).keep == 0.25
