"""Submissions that must be refused: what is sent, and the status, code, pointer and sentence that come back.

Past 350 lines: one table.
"""

from __future__ import annotations

import pickle
from typing import Any

import httpx2
import numpy as np

from tests.corpus import made
from tests.corpus.desk import Desk
from tests.corpus.refusal import Refusal, of_body, of_bytes, of_files, of_model, of_request, of_rows

WEIGHT = "bert.encoder.layer.0.output.dense.weight"


def _edited(table: list[dict[str, Any]], number: int, **changed: Any) -> list[dict[str, Any]]:
    """The table with another row `number`, counted from 1."""
    return [{**row, **changed} if place == number else row for place, row in enumerate(table, start=1)]


ROWS = made.rows(60)
TAGGED, ASKED, SCORED = (made.rows_of(task) for task in ("token_classification", "question_answering", "regression"))


def _task(says: str, finding: str, task: str, table: list[dict[str, Any]], row: int) -> Refusal:
    sent = made.jsonl(table)
    return Refusal(
        lambda desk: desk.submit(made.model_of(task), train=sent, graded=sent, format_="jsonl", task=task),
        422, "data_invalid", "/data/train", says, finding, (row,),
    )  # fmt: skip


def _not_ready(desk: Desk) -> httpx2.Response:
    made_ = desk.client.post("/v1/models", json={"files": [{"path": "config.json"}]}).json()
    return desk.submit(model=made_["id"])


def _deleted(desk: Desk) -> httpx2.Response:
    gone = desk.dataset(made.csv(made.rows(9, begin=7_000)))
    desk.client.delete(f"/v1/datasets/{gone}").raise_for_status()
    return desk.submit(data={"eval": gone})


def _foreign(desk: Desk) -> httpx2.Response:
    return desk.submit(model=desk.live.world.other().model())


BROKEN: dict[str, Refusal] = {
    # What a model may not hold.
    "pickle called safetensors": of_files("pickle", "/files", model__safetensors=pickle.dumps([1] * 99, protocol=4)),
    "zip called vocab.txt": of_files("zip", "/files", vocab__txt=b"PK\x03\x04" + b"0" * 60),
    "training_args.bin": of_files("training_args.bin", "/files/3/path", training_args__bin=b"x"),
    "optimizer.pt": of_files("optimizer.pt", "/files/3/path", optimizer__pt=b"x"),
    "code beside the model": of_files("modeling_x.py", "/files/3/path", modeling_x__py=b"x"),
    "a path that leaves the folder": Refusal(
        lambda desk: desk.submit({**made.model(), "../../etc/passwd": b"x"}),
        422,
        "model_unsafe",
        "/files/3/path",
        "passwd",
    ),
    "custom code (auto_map)": of_model(
        "auto_map", "model_unsafe", config_json=made.config(auto_map={"AutoModel": "m.M"})
    ),
    "attention from the hub": of_model(
        "attn_implementation", "model_unsafe", config_json=made.config(attn_implementation="org/kernel")
    ),
    # Weights.
    "safetensors cut off in the header": of_model("header", model_safetensors=made.weights()[:60]),
    "safetensors without its last bytes": of_model("bytes of data", model_safetensors=made.weights()[:-64]),
    "header of an absurd length": of_model("header", model_safetensors=made.header({}, length=1 << 40)),
    "tensors that overlap": of_model(
        "overlaps",
        model_safetensors=made.header(
            {
                name: {"dtype": "F32", "shape": [2], "data_offsets": [begin, begin + 8]}
                for name, begin in (("a", 0), ("b", 4))
            },
            b"\0" * 12,
        ),
    ),
    "a tensor larger than the file": of_model(
        "bytes of data",
        model_safetensors=made.header(
            {"a": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 4 << 30]}}, b"\0" * 8
        ),
    ),
    "NaN in the weights": of_model(
        "NaN",
        finding="weights_not_finite",
        model_safetensors=made.weights(
            **{WEIGHT.replace(".", "__"): np.full((made.HIDDEN, made.NEURONS), np.nan, np.float32)}
        ),
    ),
    "a layer missing": of_model(
        "lack", finding="weights_mismatch", model_safetensors=made.weights(**{WEIGHT.replace(".", "__"): None})
    ),
    "config.json of a wider model": of_model(
        "promises", finding="weights_mismatch", config_json=made.config(hidden_size=32)
    ),
    "config.json with more layers": of_model(
        "lack", finding="weights_mismatch", config_json=made.config(num_hidden_layers=3)
    ),
    "a head of other classes": of_model(
        "classifier",
        finding="weights_mismatch",
        config_json=made.config(id2label=dict(enumerate("abc")), label2id=None),
    ),
    # What the model is.
    "a decoder": of_model(
        "gpt2", "model_unsupported", config_json=made.config(architectures=["GPT2LMHeadModel"], model_type="gpt2")
    ),
    "an unknown model_type": of_model(
        "longformer", "model_unsupported", config_json=made.config(model_type="longformer")
    ),
    "a language model without a head": of_model(
        "BertForMaskedLM", "model_unsupported", config_json=made.config(architectures=["BertForMaskedLM"])
    ),
    "config.json that is cut off": of_model("config.json", config_json=made.config()[:40]),
    "config.json nested without end": of_model("config.json", config_json=b'{"a":' * 50_000),
    "config.json with a key twice": of_model("twice", config_json=b'{"model_type": "bert", "model_type": "gpt2"}'),
    "too few positions": of_model("128", config_json=made.config(max_position_embeddings=64)),
    # The tokenizer.
    "no tokenizer": of_model("tokenizer.json", finding="tokenizer_missing", tokenizer_json=None),
    "a broken tokenizer": of_model("does not load", finding="tokenizer_invalid", tokenizer_json=b'{"model": {}}'),
    "a tokenizer larger than the embedding": of_model(
        "token ids", finding="tokenizer_too_large", tokenizer_json=made.tokenizer([*made.WORDS, *"xyzuvw"])
    ),
    # Files of rows.
    "an empty file": of_rows("no rows", "file_empty", b" "),
    "a header alone": of_rows("no rows", "file_empty", b"text,label\n"),
    "one row": of_rows("at least 2", "rows_too_few", b"text,label\nthe cat,0\n"),
    "bytes of Latin-1": of_rows("line 3", "file_unreadable", b"text,label\nthe cat,0\nthe caf\xe9,1\n", (3,)),
    "UTF-16": of_bytes("UTF-16", "text,label\nthe cat,0\n".encode("utf-16")),
    "a ragged row": of_rows("line 4", "file_unreadable", b"text,label\nthe cat,0\na saw,1\na hen,0,9\n", (4,)),
    "a quote that never ends": of_rows("CSV", "file_unreadable", b'text,label\nthe cat,0\n"a saw,1\n', (3,)),
    "bytes of zero": of_bytes("binary", b"text,label\nthe cat,0\na \x00saw,1\n"),
    "U+0000 in a text": of_rows(
        "U+0000", "text_unusable", made.jsonl(_edited(ROWS, 2, text="a \x00saw")), (2,), "jsonl"
    ),
    "a column twice": of_rows("repeat", "file_unreadable", b"text,text\na,0\n", (1,)),
    "JSON broken in line 17": of_rows(
        "line 17",
        "file_unreadable",
        b"\n".join(b"{oops" if number == 16 else line for number, line in enumerate(made.jsonl(ROWS).splitlines())),
        (17,),
        "jsonl",
    ),
    "JSON lines that are lists": of_rows("not a JSON object", "file_unreadable", b"[1]\n", (1,), "jsonl"),
    "JSON nested without end": of_rows("line 1", "file_unreadable", b'{"text":' + b"[" * 90_000 + b"\n", (1,), "jsonl"),
    "NaN in JSON lines": of_rows("line 1", "file_unreadable", b'{"text": "a", "label": NaN}\n', (1,), "jsonl"),
    "CSV called Parquet": of_rows("Parquet", "file_unreadable", b"PAR1" + made.TRAIN + b"PAR1", (), "parquet"),
    "Parquet whose texts are numbers": of_rows(
        "not text",
        "text_unusable",
        made.as_parquet([{"text": number, "label": 0} for number in range(9)]),
        (1, 2, 3, 4, 5),
        "parquet",
    ),
    "a gzip": of_bytes("gzip", b"\x1f\x8b\x08" + b"0" * 40),
    "a spreadsheet": Refusal(
        lambda desk: desk.submit(train=b"PK\x03\x04", format_="application/vnd.ms-excel"),
        415,
        "unsupported_media_type",
        None,
        "text/csv",
    ),
    # Columns, texts, labels.
    "a misspelt column": of_rows(
        "'Text'", "column_missing", made.TRAIN.replace(b"text,", b"Text,", 1), param="/data/columns/text"
    ),
    "a column that nobody has": of_rows(
        "'sentance'", "column_missing", made.TRAIN, param="/data/columns/text", columns={"text": "sentance"}
    ),
    "no labels": of_rows(
        "'labl'", "column_missing", made.TRAIN.replace(b",label", b",labl", 1), param="/data/columns/label"
    ),
    "evaluation with other columns": Refusal(
        lambda desk: desk.submit(graded=made.EVAL.replace(b"text,", b"review,", 1)),
        422,
        "data_invalid",
        "/data/columns/text",
        "eval: no column 'text'",
        "column_missing",
    ),
    "pairs in one file alone": Refusal(
        lambda desk: desk.submit(graded=b"text,text_pair,label\nthe cat,the dog,0\n"),
        422,
        "data_invalid",
        "/data/eval",
        "text_pair",
        "columns_differ",
    ),
    "an empty text": of_rows("row 2", "text_unusable", b"text,label\nthe cat,0\n  ,1\na hen,0\n", (2,)),
    "labels outside id2label": of_rows(
        "row 5", "label_unknown", made.csv(_edited(_edited(ROWS, 5, label=7), 9, label=7)), (5, 9)
    ),
    "a label in another case": of_rows(
        "meant 'animal'?", "label_unknown", made.csv(_edited(ROWS, 3, label="Animal")), (3,)
    ),
    "one class": of_rows("every row", "one_class", made.csv([{**row, "label": 1} for row in ROWS])),
    "unlabelled text without a column": Refusal(
        lambda desk: desk.submit(more={"unlabelled": b"x\nthe cat\n"}),
        422,
        "data_invalid",
        "/data/columns/text",
        "unlabelled",
        "column_missing",
    ),
    "two files wrong at once": Refusal(
        lambda desk: desk.submit(train=made.csv(_edited(ROWS, 3, label=9)), graded=b"text,label\n"),
        422,
        "data_invalid",
        "/data/train",
        "row 3",
        "label_unknown",
        (3,),
    ),
    # Tasks.
    "a task that the model is not of": of_request(
        "token_classification", "/task", "model_unsupported", task="token_classification"
    ),
    "scores as words": _task(
        "'good'",
        "label_unusable",
        "regression",
        _edited(SCORED, 4, score="good"),
        4,
    ),
    "tags that are too few": _task(
        "one each", "label_unusable", "token_classification", _edited(TAGGED, 6, tags=["O"]), 6
    ),
    "a tag that the model lacks": _task(
        "B-tool",
        "label_unknown",
        "token_classification",
        _edited(TAGGED, 2, tags=["B-tool"] * len(TAGGED[1]["tags"])),
        2,
    ),
    "an answer that is not there": _task(
        "does not stand",
        "label_unusable",
        "question_answering",
        _edited(ASKED, 8, answers={"text": ["saw"], "answer_start": [1]}),
        8,
    ),
    "answers without a place": _task(
        "answer_start", "label_unusable", "question_answering", _edited(ASKED, 1, answers={"text": ["the"]}), 1
    ),
    "a metric of another task": of_request("spearman", "/metric", metric="spearman"),
    # Recipe and target.
    "an unknown preset": of_request("ladabert-1", "/preset", preset="ladabert-9"),
    "a preset and a recipe": of_request("either", "", preset="small", recipe={"steps": [{"method": "int8"}]}),
    "an unknown method": of_request("svdd", "/recipe/steps/0/method", recipe={"steps": [{"method": "svdd"}]}),
    "an unknown field of a step": of_request(
        "rank", "/recipe/steps/0/rank", recipe={"steps": [{"method": "svd", "rank": 3}]}
    ),
    "pruning without a training": of_request(
        "training", "/recipe", recipe={"steps": [{"method": "magnitude", "keep": 0.5}]}
    ),
    "a pattern that no matrix matches": of_request(
        "no matrix",
        "/recipe/steps/0/each",
        "recipe_invalid",
        recipe={"steps": [{"method": "gptq", "bits": 4, "each": {"decoder.*": 2}}]},
    ),
    "a ratio below 1": of_request("greater than 1", "/target/latency_ratio", target={"latency_ratio": 0.5}),
    "a ratio that nothing reaches": of_request(
        "cannot be reached", "/target/parameter_ratio", "target_impossible", target={"parameter_ratio": 900}
    ),
    "a limit above the model's own size": of_request(
        "without being compressed", "/target/max_bytes", "recipe_invalid", target={"max_bytes": 10**9}
    ),
    "a size that bits cannot be spent on": of_request(
        "bytes_ratio",
        "/target/parameter_ratio",
        "recipe_invalid",
        preset="small",
        target={"parameter_ratio": 3, "bytes_ratio": 4},
    ),
    "a ladder that goes back": of_request("rise", "/ladder", ladder={"parameter_ratio": [4, 2]}),
    "a ladder of two axes": of_request("one axis", "/ladder", ladder={"parameter_ratio": [2], "bytes_ratio": [2]}),
    # Fields of the request.
    "a negative seed": of_request("greater than or equal to 0", "/seed", seed=-1),
    "a huge seed": of_request("less than", "/seed", seed=2**31),
    "an unknown device": of_request("cuda", "/resources/device", resources={"device": "tpu"}),
    "an unknown field": of_request("presett", "/presett", presett="small"),
    "an output twice": of_request("twice", "/outputs", outputs=["openvino", "openvino"]),
    "NaN in the body": of_body(
        "NaN", "/seed", '{"model": "MODEL", "data": {"train": "TRAIN", "eval": "EVAL"}, "seed": NaN}'
    ),
    "Infinity in the body": of_body(
        "Infinity", "/target/bytes_ratio", '{"model": "MODEL", "target": {"bytes_ratio": Infinity}}'
    ),
    "a key twice in the body": of_body("model", None, '{"model": "MODEL", "model": "MODEL"}'),
    "a body nested without end": of_body("", None, '{"model":' * 9_000),
    # Objects that are not there.
    "a model of another project": Refusal(_foreign, 404, "not_found", "/model", ""),
    "a dataset that was deleted": Refusal(_deleted, 404, "not_found", "/data/eval", ""),
    "a model without its files": Refusal(_not_ready, 409, "model_not_ready", "/model", "missing"),
    "an id that never was": of_request("", "/model", "not_found", 404, model=f"model_{'0' * 26}"),
}
