"""What an uploaded model folder must look like before any library opens it. Standard library only.

Loading is not validating: Transformers 5.23 joins `weight_map` file names unchecked, honours `auto_map` and attention
kernels named in config.json, and takes pickle weights unless told otherwise. Each rule here closes one such door.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import ModelInvalid, ModelUnsafe, ModelUnsupported
from core.family import family_of
from core.records import strict_json

ALLOWED = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|preprocessor_config|modules|pooling_config|sentence_bert_config|config_sentence_transformers"
    r"|model\.safetensors\.index)\.json"
    r"|vocab\.txt|merges\.txt|chat_template\.jinja|README\.md|LICENSE[A-Za-z0-9._-]{0,32}"
    r"|[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\.(safetensors|model)"
)
LEGAL_NAMES = "config.json, tokenizer files, *.safetensors, model.safetensors.index.json, README.md, LICENSE"
MAGIC = {b"PK\x03\x04": "zip or torch.save", b"PK\x05\x06": "zip", b"PK\x07\x08": "zip", b"\x7fELF": "program",
         b"\x80\x02": "pickle", b"\x80\x03": "pickle", b"\x80\x04": "pickle", b"\x80\x05": "pickle",
         b"\x89HDF": "HDF5", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip",
         b"\x28\xb5\x2f\xfd": "zstandard"}  # fmt: skip
HEAD = 64  # bytes that a check of the content sees
FORBIDDEN_KEYS = frozenset(
    [
        "auto_map",
        "trust_remote_code",
        "custom_pipelines",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "quantization_config",
    ]
)
INDEX = "model.safetensors.index.json"
CONFIGS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "preprocessor_config.json", "pooling_config.json", "sentence_bert_config.json", "config_sentence_transformers.json",
)  # fmt: skip
MIN_TOKENS = 128  # latency is stated at that many
BOUNDS = {
    "layers": (1, 96), "hidden": (1, 8192), "neurons": (1, 65_536), "heads": (1, 256),
    "positions": (MIN_TOKENS, 65_536),
}  # fmt: skip
MAX_VOCABULARY = 1_000_000
MAX_JSON = 1 << 20
MAX_TOKENIZER = 64 << 20
MAX_HEADER = 16 << 20
MAX_TENSORS = 200_000
WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SHARD = re.compile(r"[A-Za-z0-9._-]{1,128}\.safetensors")


def check_name(name: str) -> None:
    """Refuse a file name that is not on the allow-list. Raises ModelUnsafe."""
    if not ALLOWED.fullmatch(name) or ".." in name:
        raise ModelUnsafe(f"file {name[:200]!r} is not allowed in a model; legal: {LEGAL_NAMES}", param="/files")


def check_magic(name: str, head: bytes) -> None:
    """Refuse content that is a pickle, an archive or a program under whatever name, and bytes where text is promised.

    head: its first HEAD bytes.

    A safetensors file begins with the length of its header: a length of 640 bytes would read as a pickle.
    """
    if name.endswith(".safetensors") and int.from_bytes(head[:8], "little") <= MAX_HEADER and head[8:9] == b"{":
        return
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            raise ModelUnsafe(
                f"file {name[:200]!r} is a {what} by its content; weights are taken as safetensors only",
                param="/files",
            )
    if b"\x00" in head and not name.endswith((".safetensors", ".model")):
        raise ModelUnsafe(f"file {name[:200]!r} is binary by its content; legal: text in UTF-8", param="/files")


def check_folder(folder: Path) -> None:
    """Check every file of a model folder without loading it.

    Raises:
        ModelUnsafe: something that could run code or reach outside the folder.
        ModelInvalid: files missing or not well formed.
    """
    for path in sorted(folder.iterdir()):
        check_name(path.name)
        if not path.is_file():
            raise ModelUnsafe(f"file {path.name!r} is not a regular file", param="/model")
        with path.open("rb") as file:
            check_magic(path.name, file.read(HEAD))
    for name in CONFIGS:
        if (folder / name).is_file():
            _check_keys(name, _read_object(folder / name, MAX_HEADER))
    _check_config(read_config(folder))
    if not (folder / "tokenizer.json").is_file():
        raise ModelInvalid(
            "tokenizer.json is missing: save a fast tokenizer with save_pretrained",
            param="/model",
            finding="tokenizer_missing",
        )
    _check_weights(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as an object."""
    return _read_object(folder / "config.json", MAX_JSON)


def tensors_of(path: Path) -> dict[str, dict[str, Any]]:
    """The header of one safetensors file, checked against the file's length.

    Raises:
        ModelInvalid: header too large, names repeated, unknown dtype, sizes that do not match, holes or overlaps.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise ModelInvalid(f"{path.name}: header of {length} bytes does not fit a file of {size}", param="/model")
        raw = file.read(length)
    header = _object(raw, path.name)
    said = header.pop("__metadata__", {})
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise ModelInvalid(f"{path.name}: __metadata__ is not an object of texts", param="/model")
    if not header or len(header) > MAX_TENSORS:
        raise ModelInvalid(f"{path.name}: {len(header)} tensors; between 1 and {MAX_TENSORS}", param="/model")
    end = 0
    spans = sorted((_span(path.name, name, entry) for name, entry in header.items()), key=lambda span: span[:2])
    for start, stop, name in spans:
        if start != end:
            raise ModelInvalid(f"{path.name}: tensor {name!r} leaves a hole or overlaps another", param="/model")
        end = stop
    if end != size - 8 - length:
        raise ModelInvalid(f"{path.name}: {size - 8 - length} bytes of data, the header promises {end}", param="/model")
    return header


def _span(file: str, name: str, entry: Any) -> tuple[int, int, str]:
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        fits = all(type(n) is int and 0 <= n < 2**40 for n in (*shape, start, stop)) and len(shape) <= 8
        fits = fits and stop - start == math.prod(shape) * WIDTH[dtype] and len(name) <= 512
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ModelInvalid(f"{file}: tensor {name[:100]!r} has an illegal dtype, shape or extent", param="/model")
    return start, stop, name


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: model.safetensors, or the shards that the index names."""
    index = folder / INDEX
    if not index.is_file():
        return [folder / "model.safetensors"]
    return [folder / shard for shard in sorted(set(_read_object(index, MAX_HEADER)["weight_map"].values()))]


def _check_keys(name: str, config: dict[str, Any]) -> None:
    for key in _keys(config):
        if key in FORBIDDEN_KEYS:
            raise ModelUnsafe(f"{name} key {key!r} is not allowed: remove it", param="/model")


def _check_config(config: dict[str, Any]) -> None:
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1:
        raise ModelInvalid("config.json architectures must be a list of one name", param="/model")
    family, _ = family_of(config)
    bounds = {getattr(family, what): bound for what, bound in BOUNDS.items()} | {"vocab_size": (1, MAX_VOCABULARY)}
    for key, (low, high) in bounds.items():
        value = config.get(key)
        if type(value) is not int or not low <= value <= high:
            raise ModelInvalid(f"config.json {key} is {str(value)[:40]}; legal: {low} to {high}", param="/model")
    if config[family.hidden] % config[family.heads]:
        raise ModelInvalid(f"config.json {family.hidden} is not a multiple of {family.heads}", param="/model")
    for key, only in family.demands:
        if config.get(key) != only:
            raise ModelUnsupported(
                f"config.json {key} is {str(config.get(key))[:40]}; legal for {family.model_type}: {json.dumps(only)}",
                param="/model",
            )
    pad = config.get("pad_token_id")
    needed = pad is not None or family.after_padding
    if needed and (type(pad) is not int or not 0 <= pad < config["vocab_size"]):
        raise ModelInvalid(
            f"config.json pad_token_id is {str(pad)[:40]}; legal: a token below vocab_size", param="/model"
        )
    if (most := family.max_tokens(config)) < MIN_TOKENS:
        raise ModelInvalid(
            f"config.json {family.positions} leaves {most} tokens for a text; legal: {MIN_TOKENS} or more",
            param="/model",
        )


def _check_weights(folder: Path) -> None:
    index_path = folder / INDEX
    weight_map: Any = {}
    if index_path.is_file():
        weight_map = _read_object(index_path, MAX_HEADER).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelInvalid(f"{INDEX} has no weight_map", param="/model")
        for shard in set(map(str, weight_map.values())):
            if not SHARD.fullmatch(shard) or ".." in shard:
                raise ModelUnsafe(
                    f"weight_map names {shard[:200]!r}; legal: the bare name of a .safetensors file", param="/model"
                )
            if not (folder / shard).is_file():
                raise ModelInvalid(f"weight_map names {shard!r}, which was not uploaded", param="/model")
    elif not (folder / "model.safetensors").is_file():
        raise ModelInvalid("model.safetensors is missing: save with save_pretrained (safetensors)", param="/model")
    files = weight_files(folder)
    if stray := {path.name for path in folder.glob("*.safetensors")} - {path.name for path in files}:
        raise ModelInvalid(
            f"{min(stray)!r} is not part of the model: send only {', '.join(path.name for path in files[:3])}",
            param="/model",
        )
    found = {path.name: set(tensors_of(path)) for path in files}
    lost = [name for name, shard in weight_map.items() if name not in found[shard]]
    if lost:
        raise ModelInvalid(f"weight_map places {lost[0][:100]!r} in a shard that lacks it", param="/model")


def _read_object(path: Path, limit: int) -> dict[str, Any]:
    if not path.is_file():
        raise ModelInvalid(f"{path.name} is missing", param="/model")
    if path.stat().st_size > limit:
        raise ModelInvalid(f"{path.name} is over {limit} bytes", param="/model")
    return _object(path.read_bytes(), path.name)


def _object(raw: bytes, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key appears twice")
        return dict(pairs)

    try:
        text = raw.decode("utf-8")  # json would take UTF-16 and UTF-32 too, and no library after it does
        strict_json(text)
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelInvalid(f"{name} is not strict JSON: {str(error)[:200]}", param="/model") from None
    if not isinstance(value, dict):
        raise ModelInvalid(f"{name} is not a JSON object", param="/model")
    if "\\u0000" in text and any("\x00" in one for one in _texts(value)):
        raise ModelInvalid(f"{name}: a text holds U+0000, which no database keeps", param="/model")
    return value


def _texts(value: Any) -> Iterator[str]:
    """Every key and every text at any depth."""
    yield from _keys(value)
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list):
            todo.extend(one.values() if isinstance(one, dict) else one)


def _keys(value: Any) -> Iterator[str]:
    """Every key at any depth."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(inner)
