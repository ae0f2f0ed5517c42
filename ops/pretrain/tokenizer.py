"""Ember's tokenizer: byte-level BPE trained on the training dialogues, with single-digit tokens.

Any text round-trips; single digits make arithmetic easier to learn for a small model.
"""

from itertools import islice
from pathlib import Path
from random import Random

from burnish.ops.pretrain.dialogue import Dialogue, dialogues, segments
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TURN = "<|im_end|>"
PAD = "<|endoftext|>"
# Special tokens, which decoding drops, and markup that remains in the text of answers.
CONTROL = (PAD, "<|im_start|>", END_OF_TURN)
VISIBLE = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def train_tokenizer(
    seed: int = 0, vocab_size: int = 1024, samples: int = 20_000
) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*CONTROL, *VISIBLE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stream = islice(dialogues(Random(f"tokenizer {seed}")), samples)
    core.train_from_iterator((_plain(dialogue) for dialogue in stream), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    # Not special: parsers of the decoded text need them to tell a tool call from an answer.
    for mark in VISIBLE:
        tokenizer.add_tokens(AddedToken(mark, special=False, normalized=False))  # pyright: ignore[reportArgumentType]
    tokenizer.chat_template = TEMPLATE.read_text()
    return tokenizer


def _plain(dialogue: Dialogue) -> str:
    text = "".join(part for part, _ in segments(dialogue))
    for mark in (*CONTROL, *VISIBLE):
        text = text.replace(mark, "\n")
    return text


def encode(tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue) -> tuple[list[int], list[bool]]:
    """Token ids of a dialogue, and the loss mask over them."""
    parts = segments(dialogue)
    # The Rust tokenizer directly: ten times faster than through the Python layer.
    core = tokenizer.backend_tokenizer
    encoded = core.encode_batch([text for text, _ in parts], add_special_tokens=False)
    ids: list[int] = []
    targets: list[bool] = []
    for (_, target), piece in zip(parts, encoded, strict=True):
        ids += piece.ids
        targets += [target] * len(piece.ids)
    return ids, targets
