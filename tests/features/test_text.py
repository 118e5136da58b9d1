"""Prompts around class names, and where a name's tokens are in one."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from propagate.errors import ModelError
from propagate.features.text import Text, embed_text
from tests.paths import ROOT
from tests.tiny_models import stable_diffusion

TOKENIZER = ROOT / "tests" / "golden" / "pdm" / "tokenizer"


def parts() -> tuple[CLIPTokenizer, CLIPTextModel]:
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return tokenizer, CLIPTextModel(config).eval()


def test_class_names_stand_in_the_template_one_after_another() -> None:
    assert Text("A photo").compose() == ("A photo", {})
    assert Text(class_names=("dog",)).compose() == ("a photo of a dog", {"dog": (13, 16)})
    text, spans = Text(class_names=("hot dog", "dog"), template="the {name}, seen").compose()
    assert text == "the hot dog and dog, seen"
    assert spans == {"hot dog": (4, 11), "dog": (16, 19)}


def test_a_names_tokens_are_those_between_its_first_and_last_letter() -> None:
    # This tokenizer knows letters only: a name has as many tokens as letters.
    tokenizer, encoder = parts()
    text = Text(class_names=("Corgi dog", "cat"), template="see {name}!")
    embedded = embed_text("tested", text, tokenizer, encoder)
    ids = tokenizer(text.compose()[0]).input_ids
    spoken = {
        name: "".join(tokenizer.convert_ids_to_tokens([ids[i] for i in tokens]))
        for name, tokens in embedded.name_tokens.items()
    }
    assert spoken == {"Corgi dog": "corgi</w>dog</w>", "cat": "cat</w>"}
    expected = encoder(
        tokenizer(text.compose()[0], padding="max_length", return_tensors="pt")["input_ids"]
    ).last_hidden_state
    assert torch.equal(embedded.prompt, expected)


def test_a_name_that_does_not_fit_into_the_prompt_is_an_error(tmp_path: Path) -> None:
    pipeline = stable_diffusion(tmp_path)  # room for six letters a, between two special tokens
    fits = Text(class_names=("a a a",), template="a a a {name}")
    embedded = embed_text("tiny", fits, pipeline.tokenizer, pipeline.text_encoder)
    assert embedded.name_tokens == {"a a a": [4, 5, 6]}
    too_long = Text(class_names=("a a a",), template="a a a a {name}")
    with pytest.raises(ModelError, match="room for 6 tokens, and 'a a a' ends after them; shorten"):
        embed_text("tiny", too_long, pipeline.tokenizer, pipeline.text_encoder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "a photo"}, "template: a text with {name} in it once"),
        ({"template": "{name} {name}"}, "template: a text with {name} in it once"),
        ({"class_names": ("",)}, "class_names: words without blanks"),
        ({"class_names": ("dog ",)}, "class_names: words without blanks"),
        ({"class_names": ("dog", "dog")}, "class_names: each once"),
    ],
)
def test_nonsense_is_refused_as_a_text(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Text(**settings)
