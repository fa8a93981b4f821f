# SPDX-License-Identifier: Apache-2.0
"""The model card has every section a reader needs, with this conversion's figures and nobody's paths."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from core.export.card import write_card
from core.facts import read_facts
from core.planning import make_plan
from core.presets import PRESETS, spec_from_preset
from core.spec import JobSpec
from core.stages import STAGES

SECTIONS = ["What was done", "Limits", "Load", "Licence", "Recipe"]
METRICS = {
    "perplexity_base": 20.04,
    "perplexity": 25.5,
    "perplexity_ratio": 1.2725,
    "kl_to_base": 0.2345,
    "top1_agreement": 0.876,
    "evaluation_tokens": 4088.0,
}
SPANS = {
    "perplexity_ratio_low": 1.2513,
    "perplexity_ratio_high": 1.2941,
    "kl_to_base_low": 0.2212,
    "kl_to_base_high": 0.2478,
    "top1_agreement_low": 0.8612,
    "top1_agreement_high": 0.8908,
    "p_value": 0.0078125,
}
HUB_CARD = "---\nlanguage: en\nlicense: llama3.2\n---\n# A model\nlicense: not this one\n"


@pytest.fixture
def model(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny-llama"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "secret-folder" / "my prose.txt"
    path.parent.mkdir()
    path.write_text("words")
    return path


@pytest.fixture
def card_of(tmp_path: Path) -> Callable[..., str]:
    def write(spec: JobSpec, metrics: dict[str, float] = METRICS) -> str:
        facts = read_facts(spec.model)
        write_card(tmp_path, spec, facts, make_plan(spec, facts), metrics)
        return (tmp_path / "README.md").read_text(encoding="utf-8")

    return write


def spec_of(model: Path, preset: str, text: Path, **fields: object) -> JobSpec:
    calibration = {"text": f"wikipedia+{text}", "tokens": 12_345, "context": 64, "fisher_tokens": 1024}
    evaluation = {"text": str(text), "context": 128, "windows": 16}
    given = {"model": str(model), "calibration": calibration, "evaluation": evaluation, "keep": 0.5}
    return spec_from_preset(preset, **(given | fields))


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", card, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_section_is_there_whatever_the_preset(
    card_of: Callable[..., str], model: Path, text: Path, preset: str
) -> None:
    spec = spec_of(model, preset, text)
    card = card_of(spec)
    found = sections(card)
    assert list(found) == SECTIONS
    assert all(body.strip() for body in found.values())
    assert "\n\n\n" not in card
    done = found["What was done"]
    assert PRESETS[preset].paper in done
    assert "12,345 tokens of wikipedia+my prose.txt in windows of 64" in done
    assert ("1,024 of them with gradients" in done) == spec.needs_fisher
    assert "No fine-tuning" in done
    for name in STAGES:
        choice = getattr(spec.recipe, name)
        is_said = f"| {name} | `{choice}` | {STAGES[name].ready[choice]} |" in done
        # factored linear layers are another conversion: nothing is said of what was not done
        assert is_said or (name.startswith(("linear", "junction")) and spec.weights_keep is None)


def test_its_figures_are_those_of_plan_and_measurement(
    card_of: Callable[..., str], model: Path, text: Path
) -> None:
    spec = spec_of(model, "quality", text)
    plan = make_plan(spec, read_facts(spec.model))
    card = card_of(spec)
    assert f"# tiny-llama, {plan.factor:.1f}x smaller KV cache" in card
    before, after = plan.kv_bytes_per_token_before, plan.kv_bytes_per_token_after
    for words in (
        f"| KV cache per token | {before:,} bytes | {after:,} bytes |",
        f"| parameters | {plan.parameters_before:,} | {plan.parameters_after:,} |",
        "| perplexity | 20.04 | 25.50 |",
        "| this model | my prose.txt | 16 x 128 tokens | 1.272 | 0.234 | 87.6% | |",
        "measured on 4,088 tokens of my prose.txt, in 16 windows of 128 tokens",
    ):
        assert words in card
    assert "hold for my prose.txt at 128 tokens" in sections(card)["Limits"]


def test_its_figures_have_intervals_when_more_than_one_window_was_measured(
    card_of: Callable[..., str], model: Path, text: Path
) -> None:
    """With the sample, the kind of interval and the test: what a sceptical reader asks for."""
    card = card_of(spec_of(model, "quality", text), METRICS | SPANS)
    for words in (
        "| 1.272 (1.251 to 1.294) | 0.234 (0.221 to 0.248) | 87.6% (86.1% to 89.1%) | 0.0078 |",
        "in 16 windows of 128 tokens, original and converted on the same ones",
        "95 % intervals (Student's t over the windows of this text)",
        "p = 0.0078",
    ):
        assert words in card


def test_without_a_measurement_it_says_so_and_shows_no_quality(
    card_of: Callable[..., str], model: Path, text: Path
) -> None:
    card = card_of(spec_of(model, "quality", text, evaluation=None), {})
    assert "The quality was not measured." in card
    assert "nothing is known of its quality" in sections(card)["Limits"]
    assert "perplexity" not in card


def test_limits_are_those_of_the_layout(card_of: Callable[..., str], model: Path, text: Path) -> None:
    quality = sections(card_of(spec_of(model, "quality", text)))["Limits"]
    assert "4 of 4 layers cache one latent from before the rotation" in quality
    assert "lost their rotation" not in quality
    fast = sections(card_of(spec_of(model, "fast", text)))["Limits"]
    assert "pre-rope" not in fast
    assert "windows of 64 tokens: try long contexts" in fast


def test_it_holds_the_recipe_and_code_to_load_it_and_no_path(
    card_of: Callable[..., str], model: Path, text: Path
) -> None:
    spec = spec_of(model, "fast", text)
    card = card_of(spec)
    assert str(model.parent) not in card
    assert "secret-folder" not in card
    said = JobSpec.model_validate(json.loads(card.split("```json\n")[1].split("```")[0]))
    assert (said.recipe, said.keep, said.model) == (spec.recipe, spec.keep, "tiny-llama")
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    # a reader is told whose code runs before it is allowed to
    assert code.index("read it, then allow it") < code.index("trust_remote_code=True")


def test_both_budgets_are_said_with_the_paper_of_the_second(
    card_of: Callable[..., str], model: Path, text: Path
) -> None:
    spec = spec_of(model, "quality", text, weights_keep=0.75)
    plan = make_plan(spec, read_facts(str(model)))
    both = card_of(spec)
    assert "50 % of the cache, and 75 % of the parameters" in both
    assert "LatentLLM (arXiv 2505.18413)" in both.split("| | original")[0]
    assert f"| {plan.linears_before:,} | {plan.linears_after:,} |" in both
    cache_alone = card_of(spec_of(model, "quality", text)).split("| | original")[0]
    assert "budgets" not in cache_alone
    assert "LatentLLM" not in cache_alone


@pytest.mark.parametrize(
    ("files", "name", "words"),
    [
        ({"README.md": HUB_CARD}, "llama3.2", "its licence holds, `llama3.2`."),
        ({"README.md": HUB_CARD, "LICENSE": "…"}, "llama3.2", "Its text is in `LICENSE`."),
        ({"LICENSE.txt": "…"}, None, "its licence holds. Its text is in `LICENSE.txt`."),
        ({"README.md": "# no head\nlicense: mit\n"}, None, "does not say which"),
        ({}, None, "look there before you pass this on"),
    ],
)
def test_the_licence_is_that_of_the_original_as_far_as_it_says(
    card_of: Callable[..., str],
    model: Path,
    text: Path,
    files: dict[str, str],
    name: str | None,
    words: str,
) -> None:
    for file, content in files.items():
        (model / file).write_text(content, encoding="utf-8")
    card = card_of(spec_of(model, "quality", text))
    head = yaml.safe_load(card.split("---\n")[1])
    assert head.get("license") == name
    assert head["library_name"] == "transformers"
    assert words in sections(card)["Licence"]
    assert "`modeling_mla.py` is part of mla-workbench, Apache-2.0" in sections(card)["Licence"]
