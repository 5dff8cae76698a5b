"""What of a local folder or file is sent, and how: hashed first, streamed, never read into memory whole."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ladapress.errors import LadapressError

CHUNK = 1 << 20  # bytes that are read and sent at a time
# A model folder also holds what training left there (optimizer.pt, trainer_state.json, README.md); only this is sent.
MODEL_FILES = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab"
    r"|modules|pooling_config|model\.safetensors\.index)\.json|vocab\.txt|merges\.txt|[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\.(safetensors|model)"
)
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}


# What ends the name of a model's class in Transformers -> task.
HEADS = {
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "question_answering",
    "Model": "sentence_embedding",
}
POOLING = "1_Pooling/config.json"  # of a folder of Sentence Transformers


def model_files(folder: Path) -> dict[str, Path]:
    """The files of a model folder that are sent, by the name that they are sent under.

    Raises:
        LadapressError: code `usage`: no folder, no config.json, no safetensors weights.
    """
    if not folder.is_dir():
        raise LadapressError.local("usage", f"{folder} is not a folder: name the folder that save_pretrained wrote")
    files = {
        path.name: path for path in sorted(folder.iterdir()) if path.is_file() and MODEL_FILES.fullmatch(path.name)
    }
    if (folder / POOLING).is_file():
        files["pooling_config.json"] = folder / POOLING
    if "config.json" not in files:
        raise LadapressError.local(
            "usage", f"{folder} holds no config.json: name the folder that save_pretrained wrote"
        )
    if not any(name.endswith(".safetensors") for name in files):
        other = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".pt", ".pth", ".h5")]
        found = f" ({', '.join(other)} cannot be taken: pickles run code)" if other else ""
        raise LadapressError.local(
            "usage", f"{folder} holds no *.safetensors{found}: save with save_pretrained(safe_serialization=True)"
        )
    return files


def task_of(folder: Path) -> str | None:
    """The task that config.json says the model is for; None where it says none: the service has a default."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (architecture,) = config["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if "id2label" in config and len(config["id2label"]) == 1 and architecture.endswith("ForSequenceClassification"):
        return "regression"
    if config.get("problem_type") == "multi_label_classification":
        return "multi_label"
    return next((task for head, task in HEADS.items() if str(architecture).endswith(head)), None)


def media_type(path: Path) -> str:
    """The media type of a dataset by its name.

    Raises:
        LadapressError: code `usage`: no such file, or a name that tells no format.
    """
    if not path.is_file():
        raise LadapressError.local("usage", f"{path} is not a file: name a .csv, .jsonl or .parquet file")
    kind = MEDIA_TYPES.get(path.suffix.lower())
    if kind is None:
        raise LadapressError.local("usage", f"{path} must end in {', '.join(MEDIA_TYPES)}: the name tells the format")
    return kind


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
