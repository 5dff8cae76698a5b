"""Names and first bytes that no model may have: archives, programs, pickles, paths that lead elsewhere."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from typing import Any

from tests.corpus import made
from tests.corpus.refusal import Refusal, of_files, of_model

UNSAFE = "model_unsafe"
PICKLES = {f"protocol {number}": pickle.dumps([made.WORDS] * 9, protocol=number) for number in (2, 3, 4, 5)}


def named(name: str) -> Refusal:
    """A file that is refused when it is announced."""
    return Refusal(lambda desk: desk.submit({**made.model(), name: b"x"}), 422, UNSAFE, "/files/3/path", "not allowed")


def archive(kind: str) -> bytes:
    """One that holds a model."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as made_zip:
            made_zip.writestr("../../model.safetensors", made.weights())
    else:
        with tarfile.open(fileobj=out, mode=f"w:{kind}") as made_tar:  # type: ignore[call-overload]
            made_tar.addfile(tarfile.TarInfo("../../model.safetensors"))
    return out.getvalue()


def shards(where: Any, **more: bytes) -> Refusal:
    """An index whose `weight_map` is this; the files beside it are good."""
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": where}).encode()
    files = {**made.model(), "model.safetensors.index.json": index, **more}
    return Refusal(lambda desk: desk.submit(files), 422, "model_invalid", "/model", "weight_map")


def led(shard: Any) -> Refusal:
    """An index that leads one weight to this place."""
    case = shards({"classifier.weight": shard})
    return Refusal(case.send, 422, UNSAFE, "/model", "bare name")


NAMES = (
    # What code or archives come in.
    "pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "weights.pkl", "weights.joblib", "tf_model.h5",
    "flax_model.msgpack", "weights.npz", "weights.npy", "model.onnx", "model.gguf", "model.tar", "model.tar.gz",
    "model.zip", "model.7z", "model.whl", "tokenization_x.py", "setup.py", "kernel.so", "adapter_config.json",
    "custom_generate/generate.py", "optimizer.bin", "model.safetensors.bin", "model.safetensors.zip", "data.arrow",
    # Where they would lie.
    "../config.json", "..", ".", "./config.json", "/etc/passwd", "//config.json", "sub/config.json", "config.json/",
    "..\\..\\config.json", "C:\\config.json", "~/.ssh/authorized_keys", ".git/config", ".safetensors", "a..safetensors",
    "%2e%2e%2fconfig.json", "..%2fconfig.json", "config.json%00.bin", "model.safetensors:stream", "config.json.",
    "config.json ", " config.json", "CONFIG.JSON", "model.safetensors\n", "\uff43onfig.json",
    "model\u202esrotsnetefas.safetensors", "con\u200bfig.json", f"{'x' * 200}.safetensors", "|id.safetensors",
    "$(id).safetensors", "`id`.model", "*.safetensors", "model.safetensors;rm",
)  # fmt: skip
MAGIC = {
    "a zip": archive("zip"),
    "a zip of nothing": b"PK\x05\x06" + bytes(18),
    "a split zip": b"PK\x07\x08" + bytes(60),
    "a gzipped tar": archive("gz"),
    "a bzipped tar": archive("bz2"),
    "a tar in xz": archive("xz"),
    "7-Zip": b"7z\xbc\xaf\x27\x1c" + bytes(60),
    "zstandard": b"\x28\xb5\x2f\xfd" + bytes(60),
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(60),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "a tar": archive(""),
    "a Windows program": b"MZ\x90\x00" + bytes(60),
    "Mach-O": b"\xcf\xfa\xed\xfe\x07\0\0\1" + bytes(60),
    "NumPy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}",
    "GGUF": b"GGUF\x03\x00\x00\x00" + bytes(60),
    **{f"a pickle, {name}": content for name, content in PICKLES.items()},
}

HOSTILE: dict[str, Refusal] = {
    **{f"a file called {name[:40]!r}": named(name) for name in NAMES},
    "a file called by a name with U+0000": Refusal(
        lambda desk: desk.submit({**made.model(), "model.safetensors\0.bin": b"x"}),
        400,
        "json_invalid",
        "/files/3/path",
        "U+0000",
    ),
    "a file called by half a surrogate pair": Refusal(
        lambda desk: desk.client.post(
            "/v1/models",
            content=b'{"files": [{"path": "\\ud800.safetensors"}]}',
            headers={"content-type": "application/json"},
        ),
        400,
        "json_invalid",
        "/files/0/path",
        "surrogate",
    ),
    "a name announced twice": Refusal(
        lambda desk: desk.client.post("/v1/models", json={"files": [{"path": "config.json"}] * 2}),
        422,
        "request_invalid",
        "/files/1/path",
        "twice",
    ),
    "more files than a model has": Refusal(
        lambda desk: desk.client.post("/v1/models", json={"files": [{"path": f"a{n}.model"} for n in range(201)]}),
        422,
        "request_invalid",
        "/files",
        "200",
    ),
    **{
        f"{what}, called vocab.txt": of_files("by its content", "/files", vocab__txt=content)
        for what, content in MAGIC.items()
    },
    "a pickle called tokenizer.json": of_files("pickle", "/files", tokenizer__json=PICKLES["protocol 4"]),
    "a zip called README.md": of_files("zip", "/files", README__md=MAGIC["a zip"]),
    "a program called LICENSE": of_files("program", "/files", LICENSE=MAGIC["ELF"]),
    "a zip called spiece.model": of_files("zip", "/files", spiece__model=MAGIC["a zip"]),
    **{
        f"{what}, called model.safetensors": of_files("by its content", "/files", model__safetensors=content)
        for what, content in MAGIC.items()
        if what in ("a zip", "a gzipped tar", "ELF", *(f"a pickle, {p}" for p in PICKLES))
    },
    "a pickle in words, called model.safetensors": of_model(
        "header", model_safetensors=b"cos\nsystem\n(S'touch canary'\ntR." + bytes(60)
    ),
    # One file of two kinds: read as a pickle it is a number of 16 bits and then opcodes.
    "a pickle whose length is that of a header": of_model(
        "strict JSON", model_safetensors=b"\x80\x04\0\0\0\0\0\0{" + b"." * 1200
    ),
    "a zip behind a whole model": of_model("bytes of data", model_safetensors=made.weights() + archive("zip")),
    "a model whose header holds a zip": of_model(
        "strict JSON", model_safetensors=made.header({})[:8] + archive("zip")[:2] + made.weights()
    ),
    # Where an index may lead.
    **{
        f"weight_map leads to {shard!r}": led(shard)
        for shard in (
            "../model.safetensors",
            "../../../../etc/passwd",
            "/etc/passwd",
            "/proc/self/environ",
            "..\\model.safetensors",
            "sub/model.safetensors",
            "./model.safetensors",
            "model.safetensors/",
            "model.safetensors\n",
            "https://127.0.0.1/model.safetensors",
            "file:///etc/passwd",
            "..safetensors",
            "config.json",
            "",
            "~",
            5,
            None,
            [],
            {},
            ["model.safetensors"],
            "\uff0e\uff0e/model.safetensors",
            "x" * 200 + ".safetensors",
        )
    },
    "weight_map leads to a name with U+0000": Refusal(
        shards({"classifier.weight": "model.safetensors\0.bin"}).send, 422, "model_invalid", "/model", "U+0000"
    ),
    "weight_map that is a list": shards(["model.safetensors"]),
    "weight_map of nothing": shards({}),
    "weight_map that is a path": shards("../../etc"),
    "weight_map to a file that is not there": shards({"classifier.weight": "other.safetensors"}),
    "weight_map that puts a weight elsewhere": shards({"nobody": "model.safetensors"}),
    "weight_map of a hundred thousand lies": shards({f"w{n}": "model.safetensors" for n in range(100_000)}),
    "an index nested without end": of_model("strict JSON", **{"model.safetensors.index_json": b'{"a":' * 100_000}),
    "an index that is a list": of_model("not a JSON object", **{"model.safetensors.index_json": b"[]"}),
}
