"""A BERT classifier and its data as bytes, made without torch: every file can be broken in one place."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from safetensors.numpy import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

Files = dict[str, bytes]
Row = dict[str, Any]
ANIMALS, TOOLS = ("cat", "dog", "cow", "hen"), ("saw", "axe", "file", "drill")
WORDS = [f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")]
WORDS += [*("the", "a", "this", "was", "is", "near", "who", "what"), *ANIMALS, *TOOLS]
VOCABULARY, HIDDEN, LAYERS, NEURONS, POSITIONS = len(WORDS) + 3, 16, 1, 32, 128


def config(**changed: Any) -> bytes:
    """config.json; a field is left out where it is None."""
    found = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": NEURONS,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "id2label": {"0": "animal", "1": "tool"},
        "label2id": {"animal": 0, "tool": 1},
        **changed,
    }
    return json.dumps({key: value for key, value in found.items() if value is not None}).encode()


def arrays(labels: int | None = 2, head: str = "classifier") -> dict[str, Any]:
    """Every weight of that model."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        f"bert.embeddings.{name}.weight": (rows, HIDDEN)
        for name, rows in (
            ("word_embeddings", VOCABULARY),
            ("position_embeddings", POSITIONS),
            ("token_type_embeddings", 2),
        )
    }
    layer = "bert.encoder.layer.0"
    linears = {f"{layer}.attention.self.{name}": (HIDDEN, HIDDEN) for name in ("query", "key", "value")}
    linears |= {f"{layer}.attention.output.dense": (HIDDEN, HIDDEN), f"{layer}.intermediate.dense": (NEURONS, HIDDEN)}
    linears |= {f"{layer}.output.dense": (HIDDEN, NEURONS)}
    if head == "classifier" and labels:
        linears["bert.pooler.dense"] = (HIDDEN, HIDDEN)
    if labels:
        linears[head] = (labels, HIDDEN)
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in ("bert.embeddings", f"{layer}.attention.output", f"{layer}.output"):
        shapes |= {f"{name}.LayerNorm.weight": (HIDDEN,), f"{name}.LayerNorm.bias": (HIDDEN,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def weights(**changed: Any) -> bytes:
    """model.safetensors; a tensor is left out where it is None. Dots of names are written as two underscores."""
    named = {name.replace("__", "."): value for name, value in changed.items()}
    return save({name: value for name, value in {**arrays(), **named}.items() if value is not None})


def header(entries: Mapping[str, Any], data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with a header of one's own."""
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tokenizer(words: list[str] | None = None) -> bytes:
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words or WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made.to_str().encode()


def model(**changed: bytes | None) -> Files:
    """The files of a model; of `config_json` and the like, a dot for the last underscore. None leaves one out."""
    files: dict[str, bytes | None] = {
        "config.json": config(),
        "model.safetensors": weights(),
        "tokenizer.json": tokenizer(),
    }
    files |= {".".join(name.rsplit("_", 1)): content for name, content in changed.items()}
    return {name: content for name, content in files.items() if content is not None}


HEADS = {
    "token_classification": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "sentence_embedding": "BertModel",
}
TAGS = {"O": 0, "B-animal": 1}


def model_of(task: str, **files: bytes) -> Files:
    """The same model with the head of a task."""
    named: dict[str, dict[str, int]] = {"regression": {"score": 0}, "token_classification": TAGS}
    labels = named.get(task, {"animal": 0, "tool": 1})
    changed: dict[str, Any] = {
        "architectures": [HEADS.get(task, "BertForSequenceClassification")],
        "id2label": {str(number): name for name, number in labels.items()},
        "label2id": labels,
        "problem_type": {"regression": "regression", "multi_label": "multi_label_classification"}.get(task),
    }
    if task in ("question_answering", "sentence_embedding"):
        changed |= {"id2label": None, "label2id": None}
    tensors = arrays(len(labels), "qa_outputs" if task == "question_answering" else "classifier")
    if task in ("question_answering", "token_classification"):
        tensors = {name: value for name, value in tensors.items() if "pooler" not in name}
    if task == "sentence_embedding":
        tensors = {name.removeprefix("bert."): value for name, value in tensors.items() if "classifier" not in name}
        modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]
        files = {
            "modules_json": json.dumps(modules).encode(),
            "pooling_config_json": json.dumps({"pooling_mode_mean_tokens": True}).encode(),
            **files,
        }
    return model(config_json=config(**changed), model_safetensors=save(tensors), **files)


def rows_of(task: str, begin: int = 0) -> list[Row]:
    """Sixty rows of a task."""
    of: dict[str, Callable[[Row], Row]] = {
        "classification": lambda row: row,
        "multi_label": lambda row: {"text": row["text"], "label": [["animal", "tool"][row["label"]]]},
        "regression": lambda row: {"text": row["text"], "score": len(row["text"]) / 9},
        "token_classification": lambda row: {
            "tokens": row["text"].split(),
            "tags": ["B-animal" if word in ANIMALS else "O" for word in row["text"].split()],
        },
        "question_answering": lambda row: {
            "question": "who",
            "context": row["text"],
            "answers": {"text": ["the"], "answer_start": [0]},
        },
        "sentence_embedding": lambda row: {
            "sentence1": row["text"],
            "sentence2": f"what {row['text']}",
            "score": len(row["text"]) / 9,
        },
    }
    return [of[task](row) for row in rows(60, begin)]


def rows(count: int = 60, begin: int = 0) -> list[dict[str, Any]]:
    """Different texts of both classes."""
    made = []
    for number in range(begin, begin + count):
        kind = number % 2
        thing = (ANIMALS, TOOLS)[kind][number // 2 % 4]
        made.append({"text": f"the {thing} was near this {thing} {'a ' * (number // 8)}".strip(), "label": kind})
    return made


def csv(table: list[dict[str, Any]]) -> bytes:
    lines = [",".join(table[0]), *(",".join(map(str, row.values())) for row in table)]
    return ("\n".join(lines) + "\n").encode()


def jsonl(table: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table).encode()


def as_parquet(table: list[dict[str, Any]], schema: Any = None) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(table, schema=schema), out)
    return out.getvalue()


TRAIN, EVAL = csv(rows(60)), csv(rows(60, begin=200))
