"""What the numbers were measured on."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from core.report import Hardware

# Instruction sets that the runtimes' kernels choose between: x86, then Arm.
FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8",
    "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
DISTRIBUTIONS = ("torch", "transformers", "tokenizers", "safetensors", "onnx", "onnxscript", "onnxruntime", "numpy")


def hardware(*, device: str = "cpu", threads: int) -> Hardware:
    """This machine: processor (and GPU where `device` is one), the flags that matter, versions."""
    facts = _cpuinfo(Path("/proc/cpuinfo"))
    machine = facts.get("model name") or platform.processor() or platform.machine()
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415 - asked for on GPU machines only

        machine = f"{machine}; {torch.cuda.get_device_name(device)}"
    have = set((facts.get("flags") or facts.get("Features") or "").split())
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in DISTRIBUTIONS}
    return Hardware(
        device=device,
        machine=machine,
        cpu_flags=tuple(flag for flag in FLAGS if flag in have),
        threads=threads,
        versions=versions,
    )


def _cpuinfo(path: Path) -> dict[str, str]:
    """The first processor's facts; none where the system keeps no such file."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
