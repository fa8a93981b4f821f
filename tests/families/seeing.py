# SPDX-License-Identifier: Apache-2.0
"""Small LLaVA models: any checkpoint of a language model, behind a random vision tower and projector."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

SIZE, PATCH = 28, 14
IMAGE_TOKENS = (SIZE // PATCH) ** 2


def make_llava(text: Path, folder: Path) -> Path:
    """Save a LLaVA around the language model in `text`, in its dtype, with a processor."""
    language = AutoModelForCausalLM.from_pretrained(text, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(text)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    language.resize_token_embeddings(image_token + 1, mean_resizing=False)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=language.config,
        image_token_index=image_token,
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        tie_word_embeddings=language.config.tie_word_embeddings,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).to(language.dtype)
    # an untrained projector makes faint images, which no mistake with them would show
    torch.nn.init.normal_(model.model.multi_modal_projector.linear_2.weight, std=0.2)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def painted(seed: int = 0) -> Image.Image:
    """Stripes of random colours."""
    colours = torch.randint(0, 256, (4, 1, 3), generator=torch.Generator().manual_seed(seed))
    pixels = colours.repeat_interleave(16, dim=0).expand(64, 64, 3).to(torch.uint8)
    return Image.fromarray(pixels.numpy())


def prompt(folder: Path, text: str = "A picture: <image> It shows") -> Any:
    """What the folder's own processor makes of a picture and a text."""
    return LlavaProcessor.from_pretrained(folder)(images=painted(), text=text, return_tensors="pt")


def make_album(folder: Path, count: int, first: int = 0) -> Path:
    """A file of `count` images, painted with seeds from `first` on, each with a text of its own length."""
    lines = []
    for seed in range(count):
        painted(first + seed).save(folder / f"{seed}.png")
        lines.append({"image": f"{seed}.png", "text": f"It shows {'stripes '[: seed % 9]}"})
    file = folder / "album.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file
