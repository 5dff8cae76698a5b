"""Configurations and tokenizers that would run code, reach out, or take more than there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from core.upload import CONFIGS, FORBIDDEN_KEYS
from tests.corpus import made
from tests.corpus.refusal import Refusal, of_files, of_model

UNSAFE = "model_unsafe"


def config(says: str, code: str = "model_invalid", finding: str | None = None, **changed: Any) -> Refusal:
    return of_model(says, code, finding, config_json=made.config(**changed))


def replaced(field: str, value: str, says: str = "legal") -> Refusal:
    """config.json with a field in JSON's own words, which Python might not write."""
    whole = json.loads(made.config())
    whole[field] = "HERE"
    return of_model(says, config_json=json.dumps(whole).replace('"HERE"', value).encode())


def keyed(file: str, key: str) -> Refusal:
    """A key that may not stand in any file, deep within one."""
    content = json.dumps({"task": [{"x": {key: {"AutoModel": "../evil--x.M"}}}]}).encode()
    if file == "config.json":
        return config(key, UNSAFE, nested=[{"x": {key: None if key == "auto_map" else "x"}}])
    return of_model(key, UNSAFE, **{file.replace(".json", "_json"): content})


def tokenizer(says: str, finding: str | None = "tokenizer_invalid", **changed: Any) -> Refusal:
    """The usual tokenizer.json with other parts."""
    return of_model(
        says, finding=finding, tokenizer_json=json.dumps({**json.loads(made.tokenizer()), **changed}).encode()
    )


def slow(**changed: Any) -> Refusal:
    """A tokenizer that takes for ever over some of the texts sent with it."""
    content = json.dumps({**json.loads(made.tokenizer()), **changed}).encode()
    rows = [*made.rows(20), {"text": "a" * 60 + "!", "label": 0}, {"text": "a" * 30_000, "label": 1}]
    return Refusal(
        lambda desk: desk.submit(made.model(tokenizer_json=content), train=made.csv(rows)),
        422,
        "model_invalid",
        "/model",
        "tokenizer.json",
        "tokenizer_invalid",
    )


def split(regex: str) -> dict[str, Any]:
    return {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}}


def grown(times: int, by: int) -> dict[str, Any]:
    """Each replacement makes `by` letters of one."""
    one = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * by}
    return {"normalizer": {"type": "Sequence", "normalizers": [one] * times}}


def heavy(says: str, finding: str | None, content: Callable[[], bytes]) -> Refusal:
    """A tokenizer.json that is made when it is sent."""
    return Refusal(
        lambda desk: desk.submit(made.model(tokenizer_json=content())), 422, "model_invalid", "/model", says, finding
    )


def many() -> bytes:
    model = {"type": "WordLevel", "vocab": {f"w{n}": n for n in range(600_000)}, "unk_token": "w0"}
    return json.dumps({**json.loads(made.tokenizer()), "model": model}).encode()


NUMBERS = (
    "0",
    "-1",
    "1e3",
    '"16"',
    "true",
    "null",
    "[]",
    "{}",
    "99999999999",
    "9223372036854775808",
    "1" + "0" * 400,
    "1e999",
)
SIZED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
REGEXES = {
    "nested": r"(a+)+$",
    "alternating": r"(a|aa)+$",
    "of back references": r"(a*)*\1$",
    "looking ahead": r"(?=(a+)+b)x",
}

HOSTILE: dict[str, Refusal] = {
    **{
        f"{file} with {key}": keyed(file, key) for file in CONFIGS for key in sorted(FORBIDDEN_KEYS)[len(file) % 3 :: 3]
    },
    **{
        f"{field} of {value[:24]}": replaced(field, value, "strict JSON" if len(value) > 4300 else field)
        for number, field in enumerate(SIZED)
        for value in NUMBERS[number % 3 :: 3]
    },
    "a vocabulary of 5,000 digits": replaced("vocab_size", "9" * 5_000, "strict JSON"),
    "NaN in config.json": replaced("layer_norm_eps", "NaN", "strict JSON"),
    "half a surrogate pair in config.json": replaced("name", '"\\ud800"', "strict JSON"),
    "config.json nested in lists": replaced("x", "[" * 100_000 + "]" * 100_000, "strict JSON"),
    "config.json that is a list": of_model("not a JSON object", config_json=b"[]"),
    "config.json in UTF-16": of_files("binary", "/files", config__json=made.config().decode().encode("utf-16")),
    "config.json of more than a megabyte": config("bytes", note="x" * (1 << 20)),
    "tokenizer_config.json nested without end": of_model("strict JSON", tokenizer_config_json=b'{"a":' * 100_000),
    "special_tokens_map.json that is a list": of_model("not a JSON object", special_tokens_map_json=b"[]"),
    "no architecture": config("architectures", architectures=[]),
    "two architectures": config("architectures", architectures=["BertForSequenceClassification", "GPT2Model"]),
    "an architecture that is a list": config("", "model_unsupported", architectures=[["BertModel"]]),
    "an architecture that is an object": config("", "model_unsupported", architectures=[{"a": 1}]),
    "an architecture by a path": config("evil", "model_unsupported", architectures=["../evil.BertModel"]),
    "an architecture of Python": config("__class__", "model_unsupported", architectures=["__class__"]),
    "a model_type that is a list": config("model_type", "model_unsupported", model_type=["bert"]),
    "a model_type that is an object": config("model_type", "model_unsupported", model_type={"bert": 1}),
    "a model_type by a path": config("evil", "model_unsupported", model_type="../../evil"),
    "a padding token before the first": config("pad_token_id", pad_token_id=-1),
    "a padding token beyond the last": config("pad_token_id", pad_token_id=10**9),
    "a padding token in words": config("pad_token_id", pad_token_id="[PAD]"),
    "classes that are a list": config("id2label", id2label=["a", "b"]),
    "classes before the first": config("id2label", id2label={"-1": "a", "0": "b"}),
    "classes with a gap": config("id2label", id2label={"0": "a", "99999999": "b"}),
    "classes that are not numbered": config("id2label", id2label={"x": "a", "y": "b"}),
    "a class twice": config("id2label", id2label={"0": "a", "1": "a"}),
    "classes with U+0000 in their names": config("U+0000", id2label={"0": "a\0", "1": "b"}, label2id=None),
    "more segments than the weights have": config("type_vocab", type_vocab_size=10**9, finding="weights_mismatch"),
    "another number of positions than the weights have": config(
        "position", max_position_embeddings=512, finding="weights_mismatch"
    ),
    # Tokenizers.
    **{
        f"tokenizer.json that is {what}": of_model(
            "tokenizer.json", finding="tokenizer_invalid", tokenizer_json=content
        )
        for what, content in {
            "nothing": b"",
            "null": b"null",
            "a list": b"[]",
            "NUL bytes": b" " * 64 + bytes(64),
            "nested without end": b'{"a":' * 100_000,
            "nested in lists": b"[" * 100_000 + b"]" * 100_000,
            "cut off": made.tokenizer()[:-9],
            "a path": b'"/etc/passwd"',
        }.items()
    },
    "a tokenizer of a kind that nobody knows": tokenizer(
        "tokenizer.json", model={"type": "Python", "code": "import os"}
    ),
    "a normalizer that nobody knows": tokenizer("tokenizer.json", normalizer={"type": "Exec", "code": "x"}),
    "a regular expression that is none": tokenizer("tokenizer.json", **split("(((")),
    "merges of tokens that are not there": tokenizer(
        "tokenizer.json", model={"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}
    ),
    "a unigram without its unknown": tokenizer(
        "tokenizer.json", model={"type": "Unigram", "unk_id": 99, "vocab": [["a", 0.0]]}
    ),
    "token numbers beyond the embedding": tokenizer(
        "token ids",
        "tokenizer_too_large",
        model={"type": "WordLevel", "vocab": {"a": 2**32 - 1, "[UNK]": 0}, "unk_token": "[UNK]"},
    ),
    "token numbers below zero": tokenizer(
        "tokenizer.json", model={"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}
    ),
    "a template of tokens that are not there": tokenizer(
        "tokenizer.json",
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        },
    ),
    **{f"a regular expression, {what}": slow(**split(regex)) for what, regex in REGEXES.items()},
    "a word without a limit": slow(
        model={
            **json.loads(made.tokenizer())["model"],
            "max_input_chars_per_word": 10**9,
            "vocab": {"[UNK]": 0, "a": 1, "##a": 2},
        }
    ),
    "one letter that becomes a million": slow(**grown(2, 1_000)),
    "one letter that becomes a billion": Refusal(
        slow(**grown(3, 1_000)).send, 422, "model_invalid", None, "ended the inspecting process"
    ),
}
HEAVY: dict[str, Refusal] = {
    "a tokenizer beyond 64 MB": heavy("tokenizer.json", None, lambda: b" " * ((64 << 20) + 1)),
    "a tokenizer of 60 MB of lists": heavy(
        "tokenizer.json", "tokenizer_invalid", lambda: b'{"version": ' + b"[" * (60 << 20)
    ),
    "a tokenizer of 600,000 tokens": heavy("token ids", "tokenizer_too_large", many),
}
