"""Other tools that install beside us, each used as its own documentation shows: `pip install --group peers` first.

Every one starts from the same teacher and the same training rows as our rows do, and none sees graded rows. Where a
tool trains, it takes as many passes over the rows as our presets do. What cannot be exported by the
tool itself is written by our exporter, so that bytes and milliseconds compare like with like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.made import CPU, Made, Material
from core.batches import Batch, Batches, inputs
from core.export import artifact
from core.losses import Distillation
from core.phase import Phase, linear_decay
from core.progress import Meter, Silent
from core.train import train

PASSES, BATCH, MAX_TOKENS, WARMUP = 1, 32, 128, 0.06


def _batches(given: Material) -> Batches:
    return Batches(given.train.cut(MAX_TOKENS), BATCH, seed=given.seed, device=CPU)


def _written(given: Material, model: nn.Module, folder: Path) -> Made:
    model.eval()
    artifact.write(model, {}, given.folder, folder, torch_form=False)
    return Made(folder, sum(p.numel() for p in model.parameters()))


def torch_pruning(given: Material, folder: Path) -> Made:
    """Torch-Pruning: half of every width and half of the heads by group magnitude, then logits distilled."""
    import torch_pruning as tp

    model: Any = given.student()
    batch = next(iter(_batches(given)))
    heads: dict[nn.Module, int] = {}
    attentions = [m for m in model.modules() if hasattr(m, "query") and hasattr(m, "num_attention_heads")]
    for attention in attentions:
        heads |= {getattr(attention, name): attention.num_attention_heads for name in ("query", "key", "value")}
    pruner = tp.pruner.BasePruner(
        model,
        inputs(batch),
        importance=tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean"),
        pruning_ratio=0.5,
        num_heads=heads,
        prune_num_heads=True,
        head_pruning_ratio=0.5,
        output_transform=lambda out: out.logits.sum(),
        ignored_layers=[model.classifier],
    )
    pruner.step()
    for attention in attentions:
        attention.num_attention_heads = pruner.num_heads[attention.query]
        attention.attention_head_size = attention.query.out_features // attention.num_attention_heads
        attention.all_head_size = attention.query.out_features
    weights = {"logits": 1.0, "hidden": 0.0, "attention": 0.0}
    objective = Distillation(
        model, given.teacher, given.family, weights=weights, temperature=2.0, layer_map="identity"
    )  # widths differ: only the logits can be followed
    batches = _batches(given)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4)
    steps = PASSES * len(batches)
    train(
        Phase("recover", model, objective, (optimizer,), batches, steps, linear_decay(WARMUP)),
        Meter(Silent()),
        device=CPU,
    )
    return _written(given, model, folder)


def textbrewer(layers: int) -> Callable[[Material, Path], Made]:
    """TextBrewer: the teacher's lowest layers, distilled on soft logits and evenly paired hidden states."""

    def make(given: Material, folder: Path) -> Made:
        from textbrewer import (
            DistillationConfig,
            GeneralDistiller,
            TrainingConfig,
        )
        from transformers import get_linear_schedule_with_warmup

        student: Any = given.student()
        both: list[Any] = [given.teacher, student]
        depth = student.config.num_hidden_layers
        student.bert.encoder.layer = student.bert.encoder.layer[:layers]
        student.config.num_hidden_layers = layers
        pairs = [
            {"layer_T": m * depth // layers, "layer_S": m, "feature": "hidden", "loss": "hidden_mse", "weight": 1}
            for m in range(layers + 1)
        ]
        for model in both:
            model.config.output_hidden_states = True

        def adaptor(batch: Batch, out: Any) -> dict[str, Any]:
            return {"logits": out.logits, "hidden": out.hidden_states, "inputs_mask": batch["attention_mask"]}

        batches = _batches(given)
        steps = PASSES * len(batches)
        distiller = GeneralDistiller(
            TrainingConfig(device="cpu", output_dir=str(folder.parent), log_dir=None, ckpt_frequency=1),
            DistillationConfig(temperature=8, intermediate_matches=pairs),
            given.teacher, student, adaptor, adaptor,
        )  # fmt: skip
        optimizer = torch.optim.AdamW(student.parameters(), lr=2e-4)
        schedule = {"num_warmup_steps": int(WARMUP * steps), "num_training_steps": steps}
        with distiller:
            distiller.train(
                optimizer, _Inputs(batches), num_epochs=PASSES, callback=None, max_grad_norm=1.0,
                scheduler_class=get_linear_schedule_with_warmup, scheduler_args=schedule,
            )  # fmt: skip
        for model in both:
            model.config.output_hidden_states = False
        return _written(given, student, folder)

    return make


class _Inputs:
    """Batches without what the model does not take."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterable[Batch]:
        return map(inputs, self.batches)


def textpruner(given: Material, folder: Path) -> Made:
    """TextPruner: half of the FFN neurons in 16 training-free iterations.

    Heads stay: it removes them by a function that Transformers 5 no longer has, and calls it for none too.
    """
    from textpruner import GeneralConfig, TransformerPruner, TransformerPruningConfig

    model: Any = given.student()
    config = model.config
    model.base_model.prune_heads = _no_heads
    sample = given.train.sample(320, given.seed).cut(MAX_TOKENS)
    batches = [
        {**inputs(batch), "labels": batch["labels"]} for batch in Batches(sample, BATCH, seed=given.seed, device=CPU)
    ]
    pruner = TransformerPruner(
        model,
        transformer_pruning_config=TransformerPruningConfig(
            target_ffn_size=config.intermediate_size // 2,
            target_num_of_heads=config.num_attention_heads,
            pruning_method="iterative",
            n_iters=16,
        ),
        general_config=GeneralConfig(use_device="cpu", output_dir=str(folder.parent)),
    )
    pruner.prune(dataloader=batches, adaptor=lambda out: out.loss, save_model=False)
    return _written(given, model, folder)


def _no_heads(heads: dict[int, list[int]]) -> None:
    if any(heads.values()):
        raise ValueError(f"heads would go: {heads}")


def nncf_int8(given: Material, folder: Path) -> Made:
    """NNCF: static int8 of the exported teacher, run and compared within OpenVINO."""
    import nncf
    import openvino

    from bench import own_runtime

    sample = given.train.sample(300, given.seed).cut(MAX_TOKENS)
    plain = openvino.Core().read_model(given.exported / "model.onnx")
    names = own_runtime.names_of(plain)
    feeds = [own_runtime.feed(sample.collate([row], CPU), names) for row in range(len(sample))]
    quantized = nncf.quantize(plain, nncf.Dataset(feeds), model_type=nncf.ModelType.TRANSFORMER)
    folder.mkdir(parents=True)
    openvino.save_model(quantized, folder / "model.xml", compress_to_fp16=False)
    return Made(folder, given.parameters, runtime="openvino")


PEERS: dict[str, Callable[[Material, Path], Made]] = {
    "torch-pruning": torch_pruning,
    "textbrewer-3": textbrewer(3),
    "textbrewer-2": textbrewer(2),
    "textpruner": textpruner,
    "nncf-int8": nncf_int8,
}
