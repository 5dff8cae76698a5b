"""Every family in every format: the file is the student as the format rounds it, at every length."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.export.formats import WRITERS, write
from core.model import SEGMENTS, load
from core.outputs import FORMATS, Output
from core.phase import Build
from core.surgery import plain_inputs
from core.verify import shipped
from tests.families import models

ALWAYS = "modernbert", "onnx-fp16"  # angles that half precision cannot hold; all others take some minutes together
HALF = torch.finfo(torch.float16).eps
CELLS = [
    pytest.param(name, output, marks=[] if (name, output) == ALWAYS else pytest.mark.long)
    for name in models.NAMES
    for output in FORMATS
]


@pytest.mark.parametrize(("name", "output"), CELLS)
def test_a_file_is_the_model_as_its_format_rounds_it(name: str, output: Output, tmp_path: Path) -> None:
    """Traced with 2 x 16 tokens; run on one token, and on as many as the model takes, padding honoured."""
    loaded = load(models.write(tmp_path / "model", name, models.build(name)))
    build = Build(loaded.model, SimpleNamespace(family=loaded.family))  # type: ignore[arg-type]
    write(build, [output], tmp_path)
    run = shipped.FORMS[FORMATS[output].path](tmp_path, 1)
    twin = WRITERS[output].twin(build).model
    for lengths in ((1,), (23, 9, 31, 2), (loaded.max_tokens, 5)):
        batch = models.rows(name, lengths)
        found = run({SEGMENTS: np.zeros_like(batch["input_ids"]), **{part: one.numpy() for part, one in batch.items()}})
        exact, rounded = models.logits(loaded.model, batch), models.logits(twin, batch).float()
        with plain_inputs(twin):
            spread = (models.logits(twin, batch).float() - rounded).abs().max()  # of two runs in int8
        if WRITERS[output].rounds:
            # both are rounded, each its own way: how far depends on the processor's kernels
            spread = torch.maximum(2 * (rounded - exact).abs().max(), 4 * HALF * exact.abs().max())
        torch.testing.assert_close(torch.from_numpy(found), rounded, rtol=0, atol=max(1e-3, float(spread)))
