"""`torch-export`: one `.pt2` of torch.export, loaded and run by torch alone.

Weights are dense fp32; a linear that rounds its inputs does so in the program, so it is the student as it is in
memory. torch.export.save adds example inputs, the archive's one pickle, and source paths of the machine that traced
it: both are left out.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive._package import PT2ArchiveReader, PT2ArchiveWriter
from torch.export.pt2_archive.constants import SAMPLE_INPUTS_DIR

from core.export.formats.copied import copied
from core.export.onnx import traced
from core.phase import Build

rounds = False
TOLD = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")  # of where a node comes from
OWN = (".data/", "archive_", "byteorder")  # what a writer adds by itself


def twin(build: Build) -> Build:
    """The student itself."""
    return copied(build, rounding=True)


def write(twin: Build, path: Path) -> None:
    """Batch and sequence are dynamic; inputs by place, in the order of `core.model.inputs_of`."""
    program: Any = traced(twin.model)
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for told in TOLD:
                node.meta.pop(told, None)
    made = io.BytesIO()
    torch.export.save(program, made)
    made.seek(0)
    reader, writer = PT2ArchiveReader(made), PT2ArchiveWriter(str(path))
    with writer:
        for name in reader.get_file_names():
            if not name.startswith(OWN):
                # Where it is empty, torch.export.load takes it for none.
                writer.write_bytes(name, b"" if name.startswith(SAMPLE_INPUTS_DIR) else reader.read_bytes(name))
