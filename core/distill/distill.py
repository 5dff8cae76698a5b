"""Knowledge distillation on the task's own text: the student follows its teacher layer by layer.

Loss = logits * T^2 KL(teacher/T || student/T) + hidden * sum_l E(H_l) + attention * sum_l A_l, with Hinton's
temperature (2015, arXiv 1503.02531). E is the squared error of hidden states, in units of the teacher's own energy in
that layer where `relative` (one weight then serves every model), else their plain mean (TinyBERT, Jiao et al. 2020,
arXiv 1909.10351). A is the KL of attention maps or, as E, the error of what attention adds to its input (both Kim et
al. 2022, arXiv 2211.11014), or TinyBERT's MSE of scores before the softmax. `layer_map` "identity" needs as many
student as teacher layers; "uniform" pairs student layer m with teacher layer m * L_T / L_S. Padding is left out of
every term. True labels are not used: the teacher's outputs carry more, and students at this length of training do not
gain from labels. The teacher's answers are computed once per row and read again at every pass and by every point of a
ladder, unless attention is followed. Unlabelled text is trained on as labelled text is; where rows are scarce,
`augment_to` adds copies with some tokens replaced. With `patience` the student is looked at on `select`, once pruning
is over (never, where the pruning takes the whole training): the best weights seen are the result, and training ends
early when none better come.

With `teacher` "previous" it follows the student of the training before it, a nearer one than the original where bits
become few in several steps (multi-step distillation, BiT: Liu et al. 2022, arXiv 2205.13016).

With `continued`, a point of a ladder that only loses heads and neurons of the point before it is narrowed from that
student, and trained for this share of the steps: gradual structured pruning (ZipLM, Kurtic et al. 2023, arXiv
2302.04089), which makes a family of students in little more time than one.

Recovers most of what factorization and pruning lose, in minutes. Needs text like the text that the model will see; it
does not repair a model whose ranks are far too small.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from core.method import Method

if TYPE_CHECKING:
    from core.phase import Build, Hook, Phase


class Distill(Method):
    trains: ClassVar[bool] = True

    method: Literal["distill"] = "distill"
    logits: float = Field(1.0, ge=0, le=1000, description="Weight of the soft-logit term.")
    hidden: float = Field(10.0, ge=0, le=1000, description="Weight of the hidden-state term.")
    attention: float = Field(0.0, ge=0, le=1000, description="Weight of the attention term.")
    relative: bool = Field(True, description="Hidden states in units of the teacher's energy in each layer.")
    attention_form: Literal["maps", "scores"] = Field("maps", description="KL of attention maps, or MSE of scores.")
    attention_outputs: bool = Field(
        False, description="Follow what attention adds to its input, in place of maps or scores."
    )
    teacher: Literal["original", "previous"] = Field(
        "original", description="Whom it follows: the uploaded model, or what the training before it made."
    )
    temperature: float = Field(2.0, gt=0, le=100, description="T of the soft-logit term.")
    layer_map: Literal["identity", "uniform"] = Field("identity", description="Which layers are paired.")
    epochs: float = Field(1.0, gt=0, le=1000, description="Passes over the training rows.")
    min_steps: int = Field(0, ge=0, le=10_000_000, description="Steps at least: few rows are read again.")
    max_rows: int | None = Field(None, ge=1, description="Train on a seeded sample of this many rows.")
    augment_to: int = Field(0, ge=0, le=10_000_000, description="Fill up to so many rows with changed copies.")
    batch_size: int = Field(32, ge=1, le=4096, description="Rows a step.")
    max_length: int = Field(128, ge=8, le=8192, description="Tokens per row in training; longer rows are cut.")
    learning_rate: float = Field(4e-4, gt=0, le=1, description="Peak rate of AdamW.")
    warmup: float = Field(0.06, ge=0, lt=1, description="Share of the steps over which the rate rises.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Of matrices; biases and norms have none.")
    continued: float = Field(
        0.0, ge=0, le=1, description="Share of the steps where a point goes on from the one before; 0: none does."
    )
    patience: int = Field(0, ge=0, le=1000, description="Looks at select without a gain that end it; 0: never.")
    enough: float = Field(
        0.0, ge=0, le=100, description="KL to the teacher on select that ends it, or saves it; 0: none."
    )
    look_every: float = Field(0.05, gt=0, le=1, description="Share of the training between two looks at select.")

    @model_validator(mode="after")
    def _something_to_follow(self) -> Distill:
        if not (self.logits or self.hidden or self.attention):
            raise ValueError("logits, hidden and attention are all 0: at least one must be above 0")
        return self

    @property
    def live(self) -> bool:
        """Whether the teacher runs beside the student."""
        return self.attention > 0 or self.teacher == "previous"

    def steps(self, batches: int) -> int:
        """At most, of a text of so many batches."""
        return max(1, self.min_steps, round(self.epochs * batches))

    def compile(self, build: Build) -> Iterable[Phase]:
        import torch

        from core.batches import Batches
        from core.followed import Followed
        from core.losses import Distillation
        from core.parts import parts_for
        from core.phase import Phase, linear_decay

        rows = build.shared.text(self.max_rows, self.max_length, self.augment_to)
        followed = build.previous if self.teacher == "previous" else None
        recorded = None if self.live else build.shared.recorded(rows)
        maps = self.attention > 0 and not self.attention_outputs
        parts, told = parts_for(build, rows, self.batch_size, maps=maps)
        objective = Distillation(
            build.model,
            build.teacher if followed is None else followed,
            build.family,
            weights={"logits": self.logits, "hidden": self.hidden, "attention": self.attention},
            temperature=self.temperature,
            layer_map=self.layer_map,
            relative=self.relative,
            attention="outputs" if self.attention_outputs else self.attention_form,
            recorded=recorded,
            likelihood=build.shared.likelihood,
            parts=parts,
        )
        batches = Batches(rows, self.batch_size, seed=build.seed, device=build.device)
        steps = self.steps(len(batches))
        if build.continued:
            steps = max(1, round(self.continued * steps))
        decay = [p for p in build.model.parameters() if p.dim() >= 2]
        plain = [p for p in build.model.parameters() if p.dim() < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.learning_rate,
        )
        yield Phase(
            name="distill",
            model=build.model,
            objective=objective,
            optimizers=(optimizer,),
            batches=batches,
            steps=steps,
            # The first step of a warm-up has rate zero: where the warm-up is shorter than a step there is none.
            schedule=linear_decay(self.warmup if self.warmup * steps >= 1 else 0.0),
            hooks=(*build.take_hooks(), *self._watch(build), *([] if followed is None else [Followed(followed)])),
            form="live teacher" if recorded is None else "recorded teacher",
            told=told,
        )

    def _watch(self, build: Build) -> Iterable[Hook]:
        from core.early_stop import BestOnSelect

        if not (self.patience or self.enough):
            return []
        return [BestOnSelect(build, every=self.look_every, patience=self.patience, enough=self.enough)]
