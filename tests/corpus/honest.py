"""Layouts that people have and that must be accepted: what is sent, and the warnings that it may bring."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
from safetensors.numpy import save
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from core.task import TASKS
from tests.corpus import made
from tests.corpus.desk import Desk

ROWS, GRADED = made.rows(60), made.rows(60, begin=200)


@dataclass(frozen=True)
class Layout:
    """`model` makes the files of a model that Transformers loads, where it is not the usual one."""

    fields: dict[str, Any] = field(default_factory=dict)
    model: Callable[[], made.Files] | None = None
    warns: frozenset[str] = frozenset()

    def send(self, desk: Desk) -> httpx2.Response:
        return desk.submit(self.model() if self.model else None, target={"parameter_ratio": 1.5}, **self.fields)


def _rows(*warns: str, **fields: Any) -> Layout:
    return Layout(fields, warns=frozenset(warns))


def _model(*warns: str, **files: Any) -> Layout:
    return Layout(model=lambda: made.model(**files), warns=frozenset(warns))


def _task(task: str, format_: str) -> Layout:
    write = made.jsonl if format_ == "jsonl" else made.as_parquet
    train, graded = (write(made.rows_of(task, begin)) for begin in (0, 200))
    fields = {"train": train, "graded": graded, "format_": format_, "task": task}
    return Layout(fields, lambda: made.model_of(task))


def _each(change: Callable[[made.Row], made.Row]) -> list[made.Row]:
    return [change(row) for row in ROWS]


def _arrow(**columns: Any) -> bytes:
    """Two columns with types of their own: name -> arrow type."""
    return made.as_parquet(ROWS, pa.schema(list(columns.items())))


def _half(kind: str) -> bytes:
    """Weights in half precision. numpy has no bf16: its bits are the upper ones of fp32."""
    tensors = made.arrays()
    if kind == "F16":
        return save({name: value.astype(np.float16) for name, value in tensors.items()})
    entries, data = dict[str, Any](), b""
    for name, value in tensors.items():
        raw = (value.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        entries[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return made.header({"__metadata__": {"format": "pt"}, **entries}, data)


def _sharded() -> made.Files:
    tensors = made.arrays()
    names = sorted(tensors)
    parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    shards = {file: save({name: tensors[name] for name in part}) for file, part in parts.items()}
    return {
        **made.model(model_safetensors=None),
        **shards,
        "model.safetensors.index.json": json.dumps(index).encode(),
    }


def _beside() -> made.Files:
    """All that `save_pretrained` of a model and its tokenizer may write, and what a hub adds."""
    return {
        **made.model(),
        "vocab.txt": "\n".join(made.WORDS).encode(),
        "special_tokens_map.json": json.dumps({"pad_token": "[PAD]"}).encode(),
        "tokenizer_config.json": json.dumps({"pad_token": "[PAD]", "model_max_length": 512}).encode(),
        "added_tokens.json": b"{}",
        "generation_config.json": b"{}",
        "README.md": "# Modèle 🙂".encode(),
        "LICENSE": b"Apache",
    }


def _old_names() -> bytes:
    """As TensorFlow checkpoints were converted."""
    old = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    tensors = made.arrays()
    for now, then in old.items():
        tensors = {name.replace(now, then): value for name, value in tensors.items()}
    return save(tensors)


def _unaligned() -> bytes:
    """Data that begins at an odd byte, which other writers than safetensors' own make."""
    raw = made.weights()
    length = struct.unpack("<Q", raw[:8])[0]
    head = raw[8 : 8 + length].rstrip() + b" " * 3
    head += b" " * (1 - len(head) % 2)
    return struct.pack("<Q", len(head)) + head + raw[8 + length :]


TEXTS = [row["text"] for row in ROWS] + [row["text"].upper() for row in ROWS]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def _bpe(*, byte_level: bool) -> Tokenizer:
    """Merges would be learnt; letters alone are enough to be of the kind."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) if byte_level else [*"▁abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=None if byte_level else "<unk>"))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else pre_tokenizers.Metaspace()
    )
    tokenizer.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
    return tokenizer


def _unigram() -> Tokenizer:
    scores = [(token, 0.0) for token in SPECIALS] + [(f"▁{word}", -2.0) for word in made.WORDS[5:]]
    scores += [(letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def _word_level() -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *made.WORDS[5:]])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _word_piece(*, lower: bool, letters: bool) -> Tokenizer:
    words = [*SPECIALS, *made.WORDS[5:]]
    if letters:
        words = [*SPECIALS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _added() -> Tokenizer:
    tokenizer = _word_level()
    tokenizer.add_special_tokens([AddedToken("<user>", special=True)])
    tokenizer.add_tokens(["🙂"])
    return tokenizer


def _tokenizer(make: Callable[[], Tokenizer], *warns: str) -> Layout:
    """A model of as many rows in its embedding as the tokenizer needs."""

    def files() -> made.Files:
        tokenizer = make()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        rows = tokenizer.get_vocab_size(with_added_tokens=True)
        table = np.ones((rows, made.HIDDEN), np.float32)
        return made.model(
            config_json=made.config(vocab_size=rows, pad_token_id=1),
            model_safetensors=made.weights(bert__embeddings__word_embeddings__weight=table),
            tokenizer_json=tokenizer.to_str().encode(),
        )

    return Layout(model=files, warns=frozenset(warns))


UNUSUAL = "tokenizer_unusual"
# An emoji of three code points, Hebrew, Arabic, a combining accent, a ligature, Chinese, a letter beyond 16 bits, marks
# of direction and no width.
SCRIPTS = (
    "\U0001f408\u200d\u2b1b \u05e9\u05dc\u05d5\u05dd,0\n\u0645\u0631\u062d\u0628\u0627 e\u0301 \ufb01,1\n"
    "\u4e2d\u6587 \U0001d4b3,1\n\u202eabc\u200b,0\n"
)
HONEST: dict[str, Layout] = {
    **{f"{task} in {format_}": _task(task, format_) for task in TASKS for format_ in ("jsonl", "parquet")},
    # Files of rows.
    "CSV": _rows(),
    "CSV with a byte order mark": _rows(train=b"\xef\xbb\xbf" + made.TRAIN),
    "CSV of Windows": _rows(train=made.TRAIN.replace(b"\n", b"\r\n")),
    "CSV with an index column": _rows(train=made.csv([{"": i, **row} for i, row in enumerate(ROWS)])),
    "CSV with line feeds, commas and quotes in a text": _rows(
        train=made.TRAIN + b'"the cat,\nsaid ""drill""\r\nand left",0\n'
    ),
    "CSV whose last line has no end": _rows(train=made.TRAIN.rstrip()),
    "CSV with blank lines": _rows(train=made.TRAIN + b"\n\n"),
    "CSV without any difference but its columns' order": _rows(
        train=made.csv([{"label": row["label"], "text": row["text"]} for row in ROWS])
    ),
    "JSON lines": _rows(train=made.jsonl(ROWS), format_="jsonl"),
    "JSON lines with more columns": _rows(
        train=made.jsonl(_each(lambda row: {**row, "meta": {"a": [1, None]}, "id": 1.5})), format_="jsonl"
    ),
    "JSON lines with a key twice": _rows(
        train=made.jsonl(ROWS).replace(b'"label": 0}', b'"label": 1, "label": 0}'), format_="jsonl"
    ),
    "formulas of a spreadsheet": _rows(
        train=made.TRAIN + b'"=HYPERLINK(""http://127.0.0.1"",""cat"")",0\n@SUM(1+1)*cmd|\' /C calc\'!A0,1\n'
    ),
    "Parquet of few texts, very often": _rows(
        train=made.as_parquet([ROWS[number % 2] for number in range(200_000)]), format_="parquet"
    ),
    "JSON lines of Windows, a mark before and blank lines": _rows(
        train=b"\xef\xbb\xbf" + made.jsonl(ROWS).replace(b"\n", b"\r\n\r\n"), format_="jsonl"
    ),
    "Parquet": _rows(train=made.as_parquet(ROWS), format_="parquet"),
    "Parquet with large strings": _rows(train=_arrow(text=pa.large_string(), label=pa.int8()), format_="parquet"),
    "Parquet with dictionaries": _rows(
        train=_arrow(text=pa.dictionary(pa.int32(), pa.string()), label=pa.uint16()), format_="parquet"
    ),
    "Parquet with string views": _rows(train=_arrow(text=pa.string_view(), label=pa.int64()), format_="parquet"),
    "Parquet with nested columns beside": _rows(
        train=made.as_parquet(_each(lambda row: {**row, "tags": ["a"], "meta": {"x": 1}})), format_="parquet"
    ),
    # Columns, texts and labels.
    "labels by name": _rows(train=made.csv(_each(lambda row: {**row, "label": ("animal", "tool")[row["label"]]}))),
    "labels by name in a Parquet dictionary": _rows(
        train=made.as_parquet(
            _each(lambda row: {**row, "label": ("animal", "tool")[row["label"]]}),
            pa.schema([("text", pa.string()), ("label", pa.dictionary(pa.int8(), pa.string()))]),
        ),
        format_="parquet",
    ),
    "labels as numbers in strings": _rows(
        train=made.jsonl(_each(lambda row: {**row, "label": f"{row['label']}"})), format_="jsonl"
    ),
    "a column called sentence": _rows(train=made.TRAIN.replace(b"text,", b"sentence,", 1)),
    "columns with names of their own": _rows(
        train=made.csv(_each(lambda row: {"Titel": row["text"], "Körper": "a cow", "y": row["label"]})),
        graded=made.csv([{"Titel": row["text"], "Körper": "a cow", "y": row["label"]} for row in GRADED]),
        columns={"text": "Titel", "text_pair": "Körper", "label": "y"},
    ),
    "pairs": _rows(
        train=made.csv(_each(lambda row: {"text": row["text"], "text_pair": "a cow", "label": row["label"]})),
        graded=made.csv([{"text": row["text"], "text_pair": "a cow", "label": row["label"]} for row in GRADED]),
    ),
    "every script": _rows(train=made.TRAIN + SCRIPTS.encode()),
    "texts far longer than the model reads": _rows(
        "text_truncated", train=made.csv(_each(lambda row: {**row, "text": row["text"] + " cat" * 900}))
    ),
    "rows that decide, and text without labels": _rows(
        more={"select": made.csv(made.rows(20, 400)), "unlabelled": b"text\na cow\nthe axe\n"}
    ),
    "text without labels in another format": _rows(
        more={"unlabelled": made.jsonl(_each(lambda row: {"text": row["text"]}))}, format_="jsonl"
    ),
    "two training rows": _rows("rows_few", train=b"text,label\nthe cat,0\na saw,1\n"),
    "evaluation on the training rows": _rows("eval_in_train", graded=made.TRAIN),
    "a class that is rare": _rows(
        "classes_imbalanced",
        train=made.csv([*({**row, "label": 0} for row in made.rows(200)), {"text": "axe", "label": 1}]),
    ),
    "one class in the evaluation": _rows("class_missing", graded=made.csv([{**row, "label": 0} for row in GRADED])),
    "the same text with two labels": _rows("labels_contradict", train=made.TRAIN + b"The  CAT was near this cat,1\n"),
    # Models.
    "fp16 weights": _model(model_safetensors=_half("F16")),
    "bf16 weights": _model(model_safetensors=_half("BF16")),
    "shards with an index": Layout(model=_sharded),
    "everything that is saved beside a model": Layout(model=_beside),
    "a stored index of positions": _model(
        model_safetensors=made.weights(bert__embeddings__position_ids=np.arange(made.POSITIONS)[None])
    ),
    "norms called gamma and beta": _model(model_safetensors=_old_names()),
    "weights that are not aligned": _model(model_safetensors=_unaligned()),
    "classes without names": _model(config_json=made.config(id2label=None, label2id=None)),
    "names without their reverse": _model(config_json=made.config(label2id=None)),
    "names and numbers that disagree": _model(
        "label_map_suspicious", config_json=made.config(label2id={"animal": 1, "tool": 0})
    ),
    "config.json of an old version": _model(
        config_json=made.config(
            transformers_version="2.3.0",
            finetuning_task="sst-2",
            pruned_heads={},
            torchscript=False,
            use_bfloat16=False,
        )
    ),
    "problem_type that is said": _model(config_json=made.config(problem_type="single_label_classification")),
    # Tokenizers.
    "WordPiece of letters": _tokenizer(lambda: _word_piece(lower=True, letters=True)),
    "text in a case that the tokenizer does not know": Layout(
        {"train": made.TRAIN.upper().replace(b"TEXT,LABEL", b"text,label")},
        _tokenizer(lambda: _word_piece(lower=False, letters=False)).model,
        frozenset({"tokens_unknown"}),
    ),
    "WordPiece that minds case": _tokenizer(lambda: _word_piece(lower=False, letters=False)),
    "BPE of bytes": _tokenizer(lambda: _bpe(byte_level=True), UNUSUAL),
    "BPE of words": _tokenizer(lambda: _bpe(byte_level=False), UNUSUAL),
    "Unigram": _tokenizer(_unigram, UNUSUAL),
    "WordLevel": _tokenizer(_word_level, UNUSUAL),
    "a tokenizer with tokens added": _tokenizer(_added, UNUSUAL),
}
