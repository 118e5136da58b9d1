"""The prompt of a U-Net, and which of its tokens name a class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from propagate.config import TEMPLATE, check_template
from propagate.errors import ModelError
from propagate.features.model_folder import MIXED_HINT

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer


@dataclass(frozen=True, slots=True)
class Text:
    """The text for a U-Net.

    Attributes:
        prompt: The prompt if no class is named.
        class_names: Class names to put into the template, each once: "dog", "cat".
        template: The prompt if classes are named; {name} stands for them.
    """

    prompt: str = ""
    class_names: tuple[str, ...] = ()
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        check_template(self.template)
        if any(not name or name != name.strip() for name in self.class_names):
            raise ValueError(f"class_names: words without blanks around, not {self.class_names!r}")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"class_names: each once, not {self.class_names!r}")

    def compose(self) -> tuple[str, dict[str, tuple[int, int]]]:
        """Return the prompt, and the first and last-plus-one character of each class name in it."""
        if not self.class_names:
            return self.prompt, {}
        before, after = self.template.split("{name}")
        spans = {}
        text = before
        for index, name in enumerate(self.class_names):
            text += " and " if index else ""
            spans[name] = (len(text), len(text) + len(name))
            text += name
        return text + after, spans


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedText:
    """A prompt in the form that the U-Net's cross-attention takes.

    Attributes:
        prompt: (1, T, D) float32.
        name_tokens: Positions of each class name's tokens, in 0 to T - 1.
        pooled: (1, P) float32, the prompt as one vector; Stable Diffusion XL takes it in addition.
    """

    prompt: torch.Tensor
    name_tokens: dict[str, list[int]]
    pooled: torch.Tensor | None = None


@torch.inference_mode()
def embed_text(
    model: str, text: Text, tokenizer: "CLIPTokenizer", encoder: "CLIPTextModel"
) -> EmbeddedText:
    """Embed a text for Stable Diffusion 1.x and 2.x.

    Raises:
        ModelError: Tokenizer and encoder do not fit together, or a class name lies beyond the
            prompt's length.
    """
    tokens, name_tokens = _tokenize(model, text, tokenizer, encoder)
    return EmbeddedText(encoder(tokens).last_hidden_state, name_tokens)


@torch.inference_mode()
def embed_text_twice(
    model: str,
    text: Text,
    tokenizers: tuple["CLIPTokenizer", "CLIPTokenizer"],
    encoders: tuple["CLIPTextModel", "CLIPTextModelWithProjection"],
) -> EmbeddedText:
    """Embed a text for Stable Diffusion XL.

    The last layer but one of both encoders, concatenated (Podell et al. 2023, section 2.1).

    Raises:
        ModelError: As for `embed_text`, or the two tokenizers disagree on a class name.
    """
    outputs, places = [], []
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        tokens, name_tokens = _tokenize(model, text, tokenizer, encoder)
        outputs.append(encoder(tokens, output_hidden_states=True))
        places.append(name_tokens)
    if places[0] != places[1]:
        raise ModelError(
            f"model {model}: its two tokenizers split the class names differently", MIXED_HINT
        )
    layers = [output.hidden_states[-2] for output in outputs]
    if layers[0].shape[1] != layers[1].shape[1]:
        raise ModelError(
            f"model {model}: its two text encoders take prompts of {layers[0].shape[1]} and "
            f"{layers[1].shape[1]} tokens",
            MIXED_HINT,
        )
    return EmbeddedText(torch.cat(layers, dim=2), places[0], outputs[1].text_embeds)


def _tokenize(
    model: str,
    text: Text,
    tokenizer: "CLIPTokenizer",
    encoder: "CLIPTextModel | CLIPTextModelWithProjection",
) -> tuple[torch.Tensor, dict[str, list[int]]]:
    """Return the prompt's tokens, (1, T), and the positions of each class name's tokens."""
    prompt, spans = text.compose()
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(
        prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    if int(tokens.max()) >= encoder.config.vocab_size:
        raise ModelError(
            f"model {model}: its tokenizer knows more tokens than its text encoder "
            f"({encoder.config.vocab_size})",
            MIXED_HINT,
        )

    def tokens_before(character: int) -> int:
        return 1 + len(tokenizer(prompt[:character], add_special_tokens=False).input_ids)

    name_tokens = {
        name: list(range(tokens_before(begin), tokens_before(end)))
        for name, (begin, end) in spans.items()
    }
    for name, positions in name_tokens.items():
        # The first and the last token of a prompt are special tokens.
        if positions[-1] >= length - 1:
            raise ModelError(
                f"model {model}: its prompts have room for {length - 2} tokens, and {name!r} ends "
                "after them",
                "shorten {class_names}",
            )
    return tokens, name_tokens
