# SPDX-License-Identifier: Apache-2.0
"""From a conversation to tokens, by the model's own chat template."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from core.errors import TextError


def prompt_tokens(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Token ids of the conversation, ready to be continued by the assistant.

    A model without a template was never taught to chat: it continues the text as it stands.
    """
    if not tokenizer.chat_template:
        text = "\n".join(one["content"] for one in messages)
        found: list[int] = tokenizer(text)["input_ids"]
        return found
    try:
        # a checkpoint's template is run by transformers in a sandbox of jinja2
        text = tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise TextError(
            f"the model's chat template refuses this conversation: {error}", hint="start a new conversation"
        ) from error
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer, wherever the checkpoint names them."""
    named = (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id)
    ids = [one for found in named for one in (found if isinstance(found, list) else [found])]
    return frozenset(one for one in ids if one is not None)
