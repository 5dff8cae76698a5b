"""The objects of the HTTP interface, generated from the api's OpenAPI.

client/generate_types.py writes this file; do not edit it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, RootModel, StringConstraints
from typing_extensions import TypeAliasType


class ApiKey(BaseModel):
    """
    A key, without its secret. `last_used_at` is right to the minute.
    """

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    previous_until: AwareDatetime | None
    """
    After a rotation: the end of the secret of before.
    """


class ApiKeyList(BaseModel):
    """
    Keys of the project.
    """

    object: Literal["list"] = "list"
    data: list[ApiKey]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ArtifactFile(BaseModel):
    path: str
    size: int
    sha256: str
    media_type: str


class AuditEntry(BaseModel):
    """
    Who did what to which object. `who`: a key's id, oidc:SUBJECT, "local", "operator" or "worker".
    """

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    at: AwareDatetime
    who: str
    action: str
    object_id: str


class AuditList(BaseModel):
    """
    The audit log of the project.
    """

    object: Literal["list"] = "list"
    data: list[AuditEntry]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Binary(BaseModel):
    method: Literal["binary"] = "binary"
    scale: Literal["row", "matrix"] = "row"
    """
    What of a linear shares one value a.
    """
    rest_bits: Literal[8, 32] = 8
    """
    Of other matrices, vectors then being fp16; 32 leaves both.
    """
    rest_group: Annotated[int, Field(ge=8, le=65536)] = 64
    """
    Columns that share a scale, of other matrices.
    """


class BinarySplit(BaseModel):
    method: Literal["binary_split"] = "binary_split"
    matrices: Literal["all", "auto"] = "all"
    """
    What is split; "auto": what gains most, within the bytes of a target.
    """
    each: dict[str, Any] | None = None
    """
    Of each matrix "1" where it is split, "0" where it stays: found before, no search.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that C and G are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.01
    """
    Added to C and G, in units of their mean diagonal.
    """


class ClassChange(BaseModel):
    """
    One class on eval: rows that are of it, and the share of them that teacher and student find.
    """

    label: str
    rows: int
    teacher: float
    student: float


class ColumnNames(BaseModel):
    """
    Where text and labels stand. Absent: the first of the task's own names that the file has (docs/tasks.md); of
    classification `text` or `sentence`, `text_pair` where it exists, `label`.
    """

    text: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    text_pair: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    label: Annotated[str | None, Field(max_length=200, min_length=1)] = None


class Curve(BaseModel):
    """
    One figure over the steps of one training.
    """

    phase: str
    name: str
    steps: list[int]
    values: list[float]


class Damage(BaseModel):
    """
    What one part of the student does to a teacher that is whole but for it, on rows of `select`.
    """

    part: str
    kl: float
    agreement: float


class DataRoles(BaseModel):
    """
    Datasets by role. `eval` is read once per delivered file and decides nothing.
    """

    train: Annotated[str, Field(max_length=64, min_length=1)]
    """
    Training rows.
    """
    eval: Annotated[str, Field(max_length=64, min_length=1)]
    """
    Rows that measure the result.
    """
    select: Annotated[str | None, Field(max_length=64, min_length=1)] = None
    """
    Rows for decisions that the teacher has not seen; else 10 % of train.
    """
    unlabelled: Annotated[str | None, Field(max_length=64, min_length=1)] = None
    """
    More text like the training rows; the teacher labels it.
    """
    columns: ColumnNames | None = None


class Dataset(BaseModel):
    id: str
    object: Literal["dataset"] = "dataset"
    name: str | None
    format: Literal["csv", "jsonl", "parquet"]
    size_bytes: int
    sha256: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    """
    When it goes by itself; null = never.
    """


class DatasetList(BaseModel):
    """
    Datasets of the project.
    """

    object: Literal["list"] = "list"
    data: list[Dataset]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Distill(BaseModel):
    method: Literal["distill"] = "distill"
    logits: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    """
    Weight of the soft-logit term.
    """
    hidden: Annotated[float, Field(ge=0.0, le=1000.0)] = 10.0
    """
    Weight of the hidden-state term.
    """
    attention: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """
    Weight of the attention term.
    """
    relative: bool = True
    """
    Hidden states in units of the teacher's energy in each layer.
    """
    attention_form: Literal["maps", "scores"] = "maps"
    """
    KL of attention maps, or MSE of scores.
    """
    attention_outputs: bool = False
    """
    Follow what attention adds to its input, in place of maps or scores.
    """
    teacher: Literal["original", "previous"] = "original"
    """
    Whom it follows: the uploaded model, or what the training before it made.
    """
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """
    T of the soft-logit term.
    """
    layer_map: Literal["identity", "uniform"] = "identity"
    """
    Which layers are paired.
    """
    epochs: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0
    """
    Passes over the training rows.
    """
    min_steps: Annotated[int, Field(ge=0, le=10000000)] = 0
    """
    Steps at least: few rows are read again.
    """
    max_rows: Annotated[int | None, Field(ge=1)] = None
    """
    Train on a seeded sample of this many rows.
    """
    augment_to: Annotated[int, Field(ge=0, le=10000000)] = 0
    """
    Fill up to so many rows with changed copies.
    """
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """
    Rows a step.
    """
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """
    Tokens per row in training; longer rows are cut.
    """
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.0004
    """
    Peak rate of AdamW.
    """
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.06
    """
    Share of the steps over which the rate rises.
    """
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """
    Of matrices; biases and norms have none.
    """
    continued: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """
    Share of the steps where a point goes on from the one before; 0: none does.
    """
    patience: Annotated[int, Field(ge=0, le=1000)] = 0
    """
    Looks at select without a gain that end it; 0: never.
    """
    enough: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    """
    KL to the teacher on select that ends it, or saves it; 0: none.
    """
    look_every: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """
    Share of the training between two looks at select.
    """


class EndpointCreate(BaseModel):
    """
    Body of POST /v1/webhook_endpoints.
    """

    url: Annotated[str, Field(max_length=2000, min_length=1)]
    """
    https://HOST/PATH of a public address, without user name and fragment.
    """
    events: Annotated[
        list[
            Literal[
                "job.running",
                "job.paused",
                "job.succeeded",
                "job.failed",
                "job.cancelled",
                "push.succeeded",
                "push.failed",
            ]
            | Literal["*"]
        ],
        Field(max_length=16),
    ] = ["*"]
    """
    Types, or ["*"] for all; [] = only those of jobs that name the endpoint.
    """
    description: Annotated[str, Field(max_length=200)] = ""
    enabled: bool = True


class EndpointUpdate(BaseModel):
    """
    Body of PATCH /v1/webhook_endpoints/{endpoint_id}: absent or null leaves a field as it is.
    """

    url: Annotated[str | None, Field(max_length=2000, min_length=1)] = None
    events: Annotated[
        list[
            Literal[
                "job.running",
                "job.paused",
                "job.succeeded",
                "job.failed",
                "job.cancelled",
                "push.succeeded",
                "push.failed",
            ]
            | Literal["*"]
        ]
        | None,
        Field(max_length=16),
    ] = None
    """
    Types, or ["*"] for all; [] = only those of jobs that name the endpoint.
    """
    description: Annotated[str | None, Field(max_length=200)] = None
    enabled: bool | None = None
    """
    True also forgets why it was disabled; what waits is sent then.
    """


class Estimate(BaseModel):
    """
    Of one point with one training. The truth may be three times more or less.
    """

    cpu_s: float
    """
    CPU-seconds of one core.
    """
    memory_bytes: int
    """
    The most that the job's process holds.
    """
    basis: str
    """
    What the figures were made of.
    """


class FileDeclared(BaseModel):
    """
    A file that will be sent. Size and sha256 are checked where they are given.
    """

    path: Annotated[str, Field(max_length=255, min_length=1)]
    """
    Bare file name, such as model.safetensors.
    """
    size: Annotated[int | None, Field(ge=0, lt=9007199254740992)] = None
    sha256: Annotated[str | None, Field(pattern="^[0-9a-fA-F]{64}$")] = None


class Finding(BaseModel):
    """
    One thing that was found. What a code means is in docs/preflight.md.
    """

    code: Annotated[str, Field(max_length=80)]
    severity: Literal["error", "warning", "info"]
    detail: Annotated[str, Field(max_length=4000)]
    """
    What was found, with its figures and what would be right.
    """
    param: Annotated[str | None, Field(max_length=400)] = None
    """
    JSON pointer of the field that it is about.
    """
    rows: Annotated[list[int], Field(max_length=5)] = []
    """
    Numbers of the first rows or lines, from 1.
    """
    counts: Annotated[dict[str, float], Field(max_length=40)] = {}
    """
    Figures by name.
    """


class Flip(BaseModel):
    """
    A row of eval that teacher and student class otherwise. `row` counts from 0; the text is cut.
    """

    row: int
    text: str
    label: str
    teacher: str
    student: str


class Gap(BaseModel):
    """
    Events that are told no more: progress, metrics and log lines of a job that ended long ago.
    """

    first: int
    last: int


class Gptq(BaseModel):
    method: Literal["gptq"] = "gptq"
    bits: float | Literal["auto"] = 4.0
    """
    Of every linear, or of both its factors; "auto": bits, and ranks that are "auto", fill the bytes.
    """
    embedding_bits: float | None = None
    """
    Of the word embedding; null is as `bits`.
    """
    rest_bits: Literal[8, 32] = 8
    """
    Of other matrices, vectors then being fp16; 32 leaves both.
    """
    cut_weighs: Annotated[float, Field(gt=0.0, le=10.0)] = 0.5
    """
    What training leaves of a cut, against rounding: how "auto" trades ranks for bits.
    """
    each: dict[str, Any] | None = None
    """
    Of the matrices named here, in place of the above.
    """
    group: Annotated[int, Field(ge=8, le=65536)] = 64
    """
    Columns of a row that share a scale.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that C and G are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.01
    """
    Added to C and G, in units of their mean diagonal.
    """


class Hardware(BaseModel):
    device: str
    machine: str
    cpu_flags: list[str]
    threads: int
    versions: dict[str, str]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class InspectionRequest(BaseModel):
    """
    A model and its data, to be judged. Recipe and target are not part of it: planning is cheap and comes later.
    """

    model: Annotated[str, Field(max_length=64, min_length=1)]
    data: DataRoles
    task: Literal[
        "classification",
        "multi_label",
        "regression",
        "token_classification",
        "question_answering",
        "sentence_embedding",
    ] = "classification"
    metric: Literal["accuracy", "macro_f1", "f1", "mcc", "exact_match", "spearman"] = "accuracy"
    """
    The task's first where absent.
    """


class Int8(BaseModel):
    method: Literal["int8"] = "int8"
    products: Literal["int8", "fp32", "auto"] = "int8"
    """
    fp32: bytes alone, linears take codes of 8 bits too; "auto": as milliseconds ask for.
    """
    embedding_bits: float | Literal["auto"] = 8.0
    """
    Of the word embedding, below 8 with error feedback; "auto": as bytes beside milliseconds ask for.
    """
    group: Annotated[int, Field(ge=8, le=65536)] = 64
    """
    Columns that share a scale, of word embedding and the rest.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that C and G are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.01
    """
    Added to C and G, in units of their mean diagonal.
    """


class JobCurvePoint(BaseModel):
    seq: int
    """
    Of the event that told it.
    """
    step: int
    value: float | None
    """
    Null where it was not finite.
    """
    at: AwareDatetime


class JobEvent(BaseModel):
    """
    What happened to a job. `seq` counts 1, 2, 3 ... without a gap and is the id of the event stream.
    """

    id: str
    object: Literal["event"] = "event"
    job_id: str
    seq: int
    type: str
    at: AwareDatetime
    data: dict[str, Any]


MetadataAdditionalProperty = TypeAliasType("MetadataAdditionalProperty", Annotated[str, Field(max_length=500)])


class JobWebhook(BaseModel):
    """
    An endpoint of the project that is told of this job, whatever else it is told of. Its secret signs.
    """

    endpoint: Annotated[str, Field(max_length=64, min_length=1)]
    """
    Id of a webhook endpoint.
    """
    events: Annotated[
        list[Literal["job.running", "job.paused", "job.succeeded", "job.failed", "job.cancelled"]],
        Field(max_length=16, min_length=1),
    ] = ["job.running", "job.paused", "job.succeeded", "job.failed", "job.cancelled"]
    """
    Types to be told; all of a job where absent.
    """


class Keep(BaseModel):
    """
    Body of PATCH on models, datasets and artifacts.
    """

    expires_at: AwareDatetime | None
    """
    When it goes by itself (RFC 3339); null = never.
    """


class KeyCreate(BaseModel):
    """
    Body of POST /v1/api_keys.
    """

    name: Annotated[str, Field(max_length=200, min_length=1)]
    """
    For people: who or what holds the key.
    """
    scopes: Annotated[
        list[
            Literal[
                "read",
                "write",
                "admin",
                "models:read",
                "models:write",
                "datasets:read",
                "datasets:write",
                "inspections:read",
                "inspections:write",
                "plans:read",
                "plans:write",
                "jobs:read",
                "jobs:write",
                "uploads:read",
                "uploads:write",
                "artifacts:read",
                "artifacts:write",
                "pushes:read",
                "pushes:write",
                "webhooks:read",
                "webhooks:write",
            ]
        ],
        Field(max_length=21, min_length=1),
    ] = ["read", "write"]
    """
    "read", "write": everything of the project; "jobs:write" ...: one area. "admin": keys and audit.
    """
    expires_at: AwareDatetime | None = None
    """
    When the key ends by itself; absent: never.
    """


class KeyRotate(BaseModel):
    """
    Body of POST /v1/api_keys/{key_id}/rotate.
    """

    grace_s: Annotated[int, Field(ge=0, le=2592000)] = 86400
    """
    So long the secret of before still works, in seconds; 0: no more.
    """


class ParameterRatioItem(RootModel[float]):
    root: Annotated[float, Field(gt=1.0, le=1000.0)]


class BytesRatioItem(RootModel[float]):
    root: Annotated[float, Field(gt=1.0, le=1000.0)]


class LatencyRatioItem(RootModel[float]):
    root: Annotated[float, Field(gt=1.0, le=1000.0)]


class MaxByte(RootModel[int]):
    root: Annotated[int, Field(gt=0, lt=9007199254740992)]


class MaxNonzeroItem(RootModel[int]):
    root: Annotated[int, Field(gt=0, lt=9007199254740992)]


class MaxLatencyM(RootModel[float]):
    root: Annotated[float, Field(gt=0.0, le=1000000.0)]


class Ladder(BaseModel):
    """
    Several values of one target: one job, one point for each, in rising order of compression.
    """

    parameter_ratio: Annotated[list[ParameterRatioItem] | None, Field(max_length=16, min_length=1)] = None
    bytes_ratio: Annotated[list[BytesRatioItem] | None, Field(max_length=16, min_length=1)] = None
    latency_ratio: Annotated[list[LatencyRatioItem] | None, Field(max_length=16, min_length=1)] = None
    max_bytes: Annotated[list[MaxByte] | None, Field(max_length=16, min_length=1)] = None
    max_nonzero: Annotated[list[MaxNonzeroItem] | None, Field(max_length=16, min_length=1)] = None
    max_latency_ms: Annotated[list[MaxLatencyM] | None, Field(max_length=16, min_length=1)] = None


class Latency(BaseModel):
    """
    Milliseconds in ONNX Runtime, teacher and student in interleaved pairs, after warm-up.
    """

    batch: int
    tokens: int
    threads: int
    pairs: int
    teacher_ms_p50: float
    student_ms_p50: float
    ratio: float


class Layer(BaseModel):
    """
    Where the bytes of one matrix of the teacher went. Bytes are those of the weights in model.onnx, bias left out.

    `rank`: None where it is one matrix still. `bits`: of a stored number, scales and tables counted.
    """

    name: str
    shape: tuple[int, int]
    left: tuple[int, int]
    rank: int | None
    entries: int
    nonzero: int
    bits: float
    bytes: int
    teacher_bytes: int


class Lengths(BaseModel):
    """
    Tokens of a sample of texts, special ones included, before any is cut. `max_tokens`: what the model reads.
    """

    sampled: int
    mean: float
    p50: int
    p90: int
    p99: int
    longest: int
    max_tokens: int
    cut: int


class Limits(BaseModel):
    """
    Walls: beyond them the job fails and publishes nothing.
    """

    max_runtime_s: Annotated[float | None, Field(gt=0.0, le=2592000.0)] = None
    """
    Seconds, at most 30 days.
    """
    max_pending_s: Annotated[float | None, Field(gt=0.0, le=2592000.0)] = None
    """
    Seconds, at most 30 days.
    """


class LowRankSparse(BaseModel):
    method: Literal["low_rank_sparse"] = "low_rank_sparse"
    keep: float | Literal["auto"] = "auto"
    """
    Fraction of the entries that factors and S hold together, or "auto".
    """
    low_rank: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """
    Share of the kept entries that the factors hold.
    """
    rounds: Annotated[int, Field(ge=1, le=100)] = 4
    """
    Turns of factors and S.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that the weights are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.01
    """
    Added to C and G, in units of their mean diagonal.
    """


class Magnitude(BaseModel):
    method: Literal["magnitude"] = "magnitude"
    keep: float | Literal["auto"] = "auto"
    """
    Fraction of the entries left, or "auto".
    """
    ramp: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6
    """
    Share of the phase over which entries are removed.
    """
    increments: Annotated[int, Field(ge=1, le=1000)] = 20
    """
    Number of jumps on the way.
    """


class Matrix(BaseModel):
    """
    A weight: a linear (out, in), an embedding (vocabulary, width), or "fixed", what no method factorizes or prunes:
    other matrices, and vectors as one row.
    """

    name: str
    rows: Annotated[int, Field(gt=0)]
    cols: Annotated[int, Field(gt=0)]
    kind: Literal["linear", "embedding", "fixed"]
    unit: Annotated[int, Field(ge=0)] = 0
    """
    Columns of a head or neuron that it reads; 0 where it reads none.
    """


class Me(BaseModel):
    """
    Who asks. `who` is the key's id, oidc:SUBJECT of a token, or "local" where no keys are in use.
    """

    object: Literal["me"] = "me"
    project_id: str
    project_name: str
    who: str
    scopes: list[str]
    key: ApiKey | None
    """
    Null of a token, and where no keys are in use.
    """
    quotas: dict[str, int | None]
    """
    Name -> limit, null = none; GET /v1/usage has more.
    """


class Method(BaseModel):
    """
    One mechanism: its card, and the JSON Schema of its step.
    """

    name: str
    object: Literal["method"] = "method"
    family: str
    version: int
    card: str
    trains: bool
    needs_training: bool
    step_schema: dict[str, Any]


class MethodList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Method]
    has_more: bool = False


class MixedBits(BaseModel):
    method: Literal["mixed_bits"] = "mixed_bits"
    bits: float | Literal["auto"] = "auto"
    """
    Mean of an entry of the matrices, at most; "auto": such that a target of bytes is met.
    """
    choices: Annotated[list[Literal[0] | float], Field(max_length=8, min_length=2)] = [0.0, 2.0, 4.0]
    """
    0 is pruned.
    """
    blocks: Annotated[int, Field(ge=1, le=1024)] = 128
    """
    Groups of rows of a matrix, at most.
    """
    search: Literal["gumbel", "closed_form", "both"] = "both"
    """
    "both": whichever loses less.
    """
    steps: Annotated[int, Field(ge=1, le=100000)] = 60
    """
    Of the search, each of two halves of a batch.
    """
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 32
    """
    Rows of a step of the search, both halves.
    """
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """
    Tokens per row in the search; longer rows are cut.
    """
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 5e-05
    """
    Of the weights in the search.
    """
    choice_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 0.1
    """
    Of the logits in the search.
    """
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """
    Of the softmax at first.
    """
    last_temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 0.1
    """
    The same at the end; falls by a factor a step.
    """
    band: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """
    How far the expected size may be off, as a share.
    """
    size_weight: Annotated[float, Field(ge=0.0, le=1000000.0)] = 10.0
    """
    Of the penalty outside of the band.
    """
    lasso: Annotated[float, Field(ge=0.0, le=1000.0)] = 1e-05
    """
    Of the norm of every group of weights.
    """
    each: dict[str, Any] | None = None
    """
    Of each matrix the number of the choice of each group, as digits: found before, no search.
    """
    rest_bits: Literal[8, 32] = 8
    """
    Of other matrices, vectors then being fp16; 32 leaves both.
    """
    group: Annotated[int, Field(ge=8, le=65536)] = 64
    """
    Columns of a row of more than three values that share a scale.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that C and G are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.01
    """
    Added to C and G, in units of their mean diagonal.
    """


class ModelCreate(BaseModel):
    """
    Body of POST /v1/models. The bytes follow, one PUT per file; or they are taken from `source`.
    """

    name: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    files: Annotated[list[FileDeclared], Field(max_length=200, validate_default=True)] = []
    source: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    """
    Instead of files: a folder or prefix below an open source.
    """


class ModelFile(BaseModel):
    path: str
    size: int | None
    sha256: str | None
    present: bool


class ModelShape(BaseModel):
    """
    What the plan needs to know of a model: its compressible matrices and how much is beside them.
    """

    family: str
    task: str
    parameters: Annotated[int, Field(gt=0)]
    """
    Stored parameters, tied tensors once.
    """
    layers: int
    hidden: int
    labels: list[str]
    matrices: list[Matrix]
    rest: Annotated[list[Matrix], Field(validate_default=True)] = []


class NewApiKey(BaseModel):
    """
    A key whose token is shown this once.
    """

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    previous_until: AwareDatetime | None
    """
    After a rotation: the end of the secret of before.
    """
    token: str
    """
    Send as `Authorization: Bearer <token>`. It is stored nowhere.
    """


class Obs(BaseModel):
    method: Literal["obs"] = "obs"
    keep: float | Literal["auto"] = "auto"
    """
    Fraction of the entries left, or "auto".
    """
    when: Literal["gradual", "once"] = "gradual"
    """
    During the next training, or at once.
    """
    scope: Literal["model", "tensor"] = "model"
    """
    One threshold for all, or one density for each.
    """
    ramp: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6
    """
    Share of the training over which entries are removed.
    """
    increments: Annotated[int, Field(ge=1, le=1000)] = 10
    """
    Number of jumps on the way.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that C and G are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.01
    """
    Added to C and G, in units of their mean diagonal.
    """


class Parity(BaseModel):
    """
    Largest absolute difference of logits between a loaded file and the student in memory.
    """

    file: str
    rows: int
    max_difference: float
    tolerance: float
    load_s: float
    closure: list[str]


class Problem(BaseModel):
    """
    `application/problem+json`.
    """

    type: str
    """
    URI of the kind of problem: urn:ladapress:problem:<code>.
    """
    title: str
    """
    The same sentence for every problem of this code.
    """
    status: int
    """
    HTTP status.
    """
    detail: str
    """
    What is wrong here, with which value, and what would be right.
    """
    code: str
    """
    What programs branch on.
    """
    param: str | None = None
    """
    JSON pointer of the field at fault.
    """
    errors: list[dict[str, Any]] = []
    """
    Several findings: {detail, param} each.
    """
    request_id: str | None = None
    retryable: bool = False
    """
    The same request may succeed later.
    """
    stage: str | None = None
    """
    Where a job was when it failed.
    """


class Progress(BaseModel):
    """
    `fraction` of the whole job never falls; `eta_s` is null until it can be known.
    """

    fraction: float = 0.0
    step: int | None = None
    steps: int | None = None
    eta_s: float | None = None


class PushRequest(BaseModel):
    """
    Where an artifact shall go: a registry that the operator has named, and a name in it.
    """

    registry: Annotated[str, Field(max_length=200, min_length=1)]
    """
    As GET /v1/registries lists them.
    """
    to: Annotated[str, Field(max_length=200, min_length=1)]
    """
    Hugging Face: NAMESPACE/NAME of a repository. MLflow: name of a registered model.
    """
    revision: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    """
    Hugging Face: the branch, made where it is missing; "main".
    """
    alias: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    """
    MLflow: an alias that the version gets, taken from any other.
    """


class PushResult(BaseModel):
    """
    Where the artifact lies. `unchanged`: the registry held it already, and nothing was added.
    """

    url: str
    commit: str | None
    """
    Hugging Face: the commit.
    """
    version: str | None
    """
    MLflow: the version of the registered model.
    """
    unchanged: bool


class QuotaState(BaseModel):
    """
    One quota. `limit` null: none.
    """

    name: str
    limit: int | None
    used: int


class Registry(BaseModel):
    """
    A registry that the operator has named. `prefixes`: beginnings of the names that may be pushed to; [] = any.
    """

    name: str
    object: Literal["registry"] = "registry"
    kind: Literal["huggingface", "mlflow"]
    url: str
    prefixes: list[str]


class RegistryList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Registry]
    has_more: bool = False


class Resources(BaseModel):
    device: Literal["cpu", "cuda", "auto"] = "auto"
    """
    auto = the worker's accelerator, else its CPU.
    """


class RetryRequest(BaseModel):
    """
    Body of POST /v1/jobs/{id}/retry: what is to be different. Absent: as it was.
    """

    limits: Limits | None = None
    """
    Replaces the limits of the job that is done again.
    """
    metadata: Annotated[
        dict[Annotated[str, StringConstraints(min_length=1, max_length=200)], MetadataAdditionalProperty] | None,
        Field(max_length=16),
    ] = None
    """
    For the caller: at most 16 pairs. Lists can be filtered by them.
    """


class Searched(BaseModel):
    """
    What one way of searching bits found. loss: of the student rounded so, before training, in units of the
    distillation loss. shares: bits -> share of all entries. expected_size: where its size ended, in units of what was
    wanted; None of a way that needs no such.
    """

    by: str
    chosen: bool
    loss: float
    shares: dict[str, float]
    expected_size: float | None = None


class SecretRotate(BaseModel):
    """
    Body of POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret.
    """

    grace_s: Annotated[float, Field(ge=0.0, le=604800.0)] = 86400
    """
    Seconds for which every message bears the old secret's signature, too.
    """


class SigningKey(BaseModel):
    """
    A public key that signs artifacts, as a JWK (RFC 7517, RFC 8037).
    """

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    use: Literal["sig"] = "sig"
    x: str
    """
    The key: 32 bytes, base64url.
    """
    kid: str
    """
    Its name: the JWK's thumbprint (RFC 7638).
    """
    created_at: AwareDatetime
    """
    When it first signed, or was made to.
    """
    retired_at: AwareDatetime | None
    """
    It signs no more; what it signed stays valid.
    """
    endorsed_by: str | None
    """
    kid of the key that it took over from.
    """
    endorsement: str | None
    """
    That key's Ed25519 signature, base64url, over the line `ladapress-endorsement-1 <kid>`.
    """


class Sizes(BaseModel):
    """
    Of one model. `bytes_in_memory` counts the weights as the runtime holds them after load; `bytes_sent` is
    model.onnx under the content coding zstd, as the service sends it to who asks: it is in no ratio and no target.
    """

    parameters: int
    nonzero: int
    bytes_on_disk: dict[str, int]
    bytes_in_memory: int
    bytes_sent: int | None = None


class Stage(BaseModel):
    """
    One stage of the job. `cpu_s` is user + system time of all its processes.
    """

    name: str
    seconds: float
    cpu_s: float
    select_agreement: float | None = None


class StoredBytes(BaseModel):
    """
    Bytes in the store, by kind.
    """

    models: int
    datasets: int
    artifacts: int
    total: int


class Structured(BaseModel):
    method: Literal["structured"] = "structured"
    keep: float | Literal["auto"] = "auto"
    """
    Share of the heads and neurons of every layer that stay, or "auto".
    """
    each: dict[str, Any] | None = None
    """
    Heads or neurons that stay, by the linear that reads them; others all. In place of `keep`.
    """
    score: Literal["obs", "fisher"] = "obs"
    """
    Price of a unit: with the rest refitted, or as it is felt alone.
    """
    align: Annotated[int, Field(ge=1, le=1024)] = 32
    """
    Neurons that stay are a multiple of this.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that C and G are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.001
    """
    Added to C and G, in units of their mean diagonal.
    """


class Svd(BaseModel):
    method: Literal["svd"] = "svd"
    keep: float | Literal["auto"] = "auto"
    """
    Fraction of each matrix's entries that its factors hold, or "auto".
    """
    embedding: bool = True
    """
    Factorize the word embedding too.
    """


class Target(BaseModel):
    """
    What the result must reach. Ratios are teacher / student and above 1. Several may be given.
    """

    parameter_ratio: Annotated[float | None, Field(gt=1.0, le=1000.0)] = None
    """
    Teacher's parameters / student's non-zero stored parameters, embedding included.
    """
    bytes_ratio: Annotated[float | None, Field(gt=1.0, le=1000.0)] = None
    """
    4 bytes x teacher's parameters / bytes of the delivered model.onnx.
    """
    latency_ratio: Annotated[float | None, Field(gt=1.0, le=1000.0)] = None
    """
    Teacher's / student's median ms: batch 1 x 128 tokens, one thread, ONNX Runtime.
    """
    max_bytes: Annotated[int | None, Field(gt=0, lt=9007199254740992)] = None
    """
    Largest model.onnx, in bytes.
    """
    max_nonzero: Annotated[int | None, Field(gt=0, lt=9007199254740992)] = None
    """
    Most non-zero stored parameters.
    """
    max_latency_ms: Annotated[float | None, Field(gt=0.0, le=1000000.0)] = None
    """
    Largest median ms: batch 1 x 128 tokens, one thread, ONNX Runtime.
    """
    min_retention: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    """
    Least student metric / teacher metric on the evaluation split.
    """
    max_minutes: Annotated[float | None, Field(gt=0.0, le=10080.0)] = None
    """
    Training budget; when it ends, the best so far is exported.
    """


class Ternary(BaseModel):
    method: Literal["ternary"] = "ternary"
    form: Literal["exact", "twn"] = "exact"
    """
    How values are found: least error, or 0.7 of the mean.
    """
    loss_aware: bool = True
    """
    Of "exact": errors count by the root of the second moment of Adam.
    """
    scale: Literal["row", "matrix"] = "row"
    """
    What of a linear shares one value a.
    """
    inputs: Literal["fp32", "int8"] = "fp32"
    """
    Of linears: as they come, or rounded to 8 bits.
    """
    rest_bits: Literal[8, 32] = 8
    """
    Of other matrices, vectors then being fp16; 32 leaves both.
    """
    rest_group: Annotated[int, Field(ge=8, le=65536)] = 64
    """
    Columns that share a scale, of other matrices.
    """


class TrackRequest(BaseModel):
    """
    Where a job's curves go while it runs: an MLflow server that the operator has named.
    """

    registry: Annotated[str, Field(max_length=200, min_length=1)]
    """
    As GET /v1/registries lists them, of kind mlflow.
    """
    experiment: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    """
    That holds the run; made where it is missing; the registry's own.
    """


class Transition(BaseModel):
    status: Literal["queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"]
    at: AwareDatetime
    attempt: int
    reason: str | None


class Try(BaseModel):
    """
    One training of a point, judged on `select`: KL(teacher || student) a row, share of equal answers, expected
    retention, standard deviation of what `eval` will show; whether the retention that was asked for can be promised.
    """

    recipe: dict[str, Any]
    planned_loss: float | None = None
    kl: float
    agreement: float
    retention: float
    sd: float
    kept: bool


class Upload(BaseModel):
    """
    A resumable upload. When `status` is complete, `dataset_id` or `model_id` is what it has become.
    """

    id: str
    object: Literal["upload"] = "upload"
    purpose: Literal["dataset", "model_file"]
    status: Literal["open", "complete"]
    size_bytes: int
    """
    Of the whole.
    """
    received_bytes: int
    """
    Where to go on: the tus offset.
    """
    sha256: str
    """
    Of the whole, as it was announced.
    """
    name: str | None
    """
    Of the dataset.
    """
    format: str | None
    """
    Of the dataset.
    """
    dataset_id: str | None
    model_id: str | None
    path: str | None
    """
    Of the file in the model.
    """
    created_at: AwareDatetime
    expires_at: AwareDatetime
    """
    When it is forgotten unless bytes come.
    """


class UploadList(BaseModel):
    """
    Resumable uploads of the project.
    """

    object: Literal["list"] = "list"
    data: list[Upload]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Usage(BaseModel):
    """
    What the project has and has spent. Seconds count for the month (UTC) in which an attempt of a job ended; this
    month's hold what runs now.
    """

    object: Literal["usage"] = "usage"
    project_id: str
    month: str
    cpu_s: float
    """
    Seconds for which jobs held a worker without a GPU.
    """
    gpu_s: float
    """
    Seconds for which jobs held a GPU.
    """
    stored_bytes: StoredBytes
    jobs: dict[str, int]
    """
    Status -> number of jobs; statuses without any are left out.
    """
    quotas: list[QuotaState]


class Vocabulary(BaseModel):
    method: Literal["vocabulary"] = "vocabulary"
    tokens: Annotated[int, Field(ge=16, le=10000000)] = 8192
    """
    Rows of the word embedding that stay.
    """


class WebhookAttempt(BaseModel):
    at: AwareDatetime
    """
    Its end.
    """
    duration_s: float
    status_code: int | None
    """
    Null where there was no answer.
    """
    error: str | None
    answer: str | None
    """
    The beginning of what was answered.
    """


class WebhookEndpoint(BaseModel):
    """
    Who is told of events.
    """

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    events: list[
        Literal[
            "job.running", "job.paused", "job.succeeded", "job.failed", "job.cancelled", "push.succeeded", "push.failed"
        ]
        | Literal["*"]
    ]
    description: str
    enabled: bool
    disabled_reason: str | None
    """
    Where the service disabled it: why.
    """
    failing_since: AwareDatetime | None
    """
    The first failure after the last success.
    """
    old_secret_until: AwareDatetime | None
    """
    Until then the secret before this one signs, too.
    """
    created_at: AwareDatetime


class WebhookEndpointList(BaseModel):
    """
    Endpoints of the project.
    """

    object: Literal["list"] = "list"
    data: list[WebhookEndpoint]
    has_more: bool
    first_id: str | None
    last_id: str | None


class WebhookEndpointWithSecret(BaseModel):
    """
    The endpoint and its secret, which is shown this once.
    """

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    events: list[
        Literal[
            "job.running", "job.paused", "job.succeeded", "job.failed", "job.cancelled", "push.succeeded", "push.failed"
        ]
        | Literal["*"]
    ]
    description: str
    enabled: bool
    disabled_reason: str | None
    """
    Where the service disabled it: why.
    """
    failing_since: AwareDatetime | None
    """
    The first failure after the last success.
    """
    old_secret_until: AwareDatetime | None
    """
    Until then the secret before this one signs, too.
    """
    created_at: AwareDatetime
    secret: str
    """
    whsec_ and base64, as the libraries of Standard Webhooks take it.
    """


class WebhookMessage(BaseModel):
    """
    What is POSTed to an endpoint. The header `webhook-id` is the same at each attempt.
    """

    type: Literal[
        "job.running",
        "job.paused",
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "push.succeeded",
        "push.failed",
        "ping",
    ]
    timestamp: AwareDatetime
    """
    When it happened; the header webhook-timestamp is of the attempt.
    """
    data: dict[str, Any]
    """
    `object` and `id` of what it tells of; of a job also `seq` of its event.
    """


class WeightedSvd(BaseModel):
    method: Literal["weighted_svd"] = "weighted_svd"
    keep: float | Literal["auto"] = "auto"
    """
    Fraction of the entries that the factors hold, or "auto".
    """
    embedding: bool = True
    """
    Factorize the word embedding too.
    """
    sides: Literal["inputs", "both"] = "both"
    """
    Weigh by inputs only, or by output gradients too.
    """
    ranks: Literal["uniform", "pooled"] = "uniform"
    """
    How the entries are shared among matrices.
    """
    each: dict[str, Any] | None = None
    """
    Ranks of the matrices named here; the others stay dense. In place of `keep` and `ranks`.
    """
    calibration_rows: Annotated[int, Field(ge=1, le=100000)] = 1024
    """
    Training rows that the weights are taken from.
    """
    damping: Annotated[float, Field(ge=1e-05, le=1.0)] = 0.001
    """
    Added to C and G, in units of their mean diagonal.
    """


class Comparison(BaseModel):
    """
    Teacher and student on the rows of eval, in pairs; the student as model.onnx.

    `p_value`: of McNemar's exact test, the chance of so uneven a split of the rows on which only one of them is right
    were both as good. `retention_low`, `retention_high`: 95 % of a bootstrap over rows (teacher and student together).
    """

    rows: int
    agreement: float
    only_teacher_right: int
    only_student_right: int
    changed: int | None = None
    p_value: float
    retention_low: float
    retention_high: float
    classes: list[ClassChange]
    flips: list[Flip]


class EventList(BaseModel):
    """
    Oldest first. Give `last_id` as `after` to go on; both are sequence numbers.
    """

    object: Literal["list"] = "list"
    data: list[JobEvent]
    has_more: bool
    first_id: int | None
    last_id: int | None
    gaps: list[Gap]
    """
    Sequence numbers up to `last_id` that are told no more.
    """


class Evidence(BaseModel):
    """
    Why the student is what it is.
    """

    comparison: Comparison
    layers: list[Layer]
    damage: list[Damage]
    curves: list[Curve]


class Inspection(BaseModel):
    """
    A verdict on a model with its data. `ok` is null until `status` is done.

    `findings` may still grow when it is done: the teacher's answers on a sample of rows come after the verdict.
    """

    id: str
    object: Literal["inspection"] = "inspection"
    status: Literal["queued", "running", "done"]
    model: str
    data: DataRoles
    task: Literal[
        "classification",
        "multi_label",
        "regression",
        "token_classification",
        "question_answering",
        "sentence_embedding",
    ]
    metric: Literal["accuracy", "macro_f1", "f1", "mcc", "exact_match", "spearman"]
    ok: bool | None
    error: Problem | None
    shape: ModelShape | None
    rows: dict[str, int]
    findings: list[Finding]
    """
    Errors, warnings and notes; their codes are in docs/preflight.md.
    """
    warnings: list[str]
    """
    The sentences of the warnings among them.
    """
    classes: dict[str, dict[str, int]]
    """
    Role -> class -> rows; of token classification, words.
    """
    lengths: dict[str, Lengths]
    """
    Role -> tokens of a sample of its texts.
    """
    estimate: Estimate | None
    """
    What a job with a plain training would take, by a formula.
    """
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class JobCurve(BaseModel):
    """
    One quantity over the steps of training, in the order in which it was told; a later attempt may go back.
    """

    name: str
    points: list[JobCurvePoint]


class JobCurveList(BaseModel):
    """
    The curves of a job, by name.
    """

    object: Literal["list"] = "list"
    data: list[JobCurve]
    has_more: bool = False


class JobPoint(BaseModel):
    """
    One delivered model; its files are at /v1/artifacts/{artifact_id}.
    """

    parameter_ratio: float
    bytes_ratio: float
    latency_ratio: float
    metric: str
    teacher: float
    student: float
    retention: float
    target: dict[str, float]
    target_met: bool
    shortfall: dict[str, float]
    sizes: Sizes
    sizes_teacher: Sizes
    planned_bytes: int
    latency: list[Latency]
    parity: list[Parity]
    student_by_file: dict[str, float]
    agreement_by_file: dict[str, float] = {}
    artifact_id: str


class KeySet(BaseModel):
    """
    A JWK Set.
    """

    keys: list[SigningKey]


class Model(BaseModel):
    """
    `ready` once every declared file is present; then it changes no more.
    """

    id: str
    object: Literal["model"] = "model"
    name: str | None
    status: Literal["open", "ready"]
    size_bytes: int
    files: list[ModelFile]
    missing: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    """
    When it goes by itself; null = never.
    """


class ModelList(BaseModel):
    """
    Models of the project.
    """

    object: Literal["list"] = "list"
    data: list[Model]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Point(BaseModel):
    """
    One delivered model.
    """

    parameter_ratio: float
    bytes_ratio: float
    latency_ratio: float
    metric: str
    teacher: float
    student: float
    retention: float
    target: dict[str, float]
    target_met: bool
    shortfall: dict[str, float]
    sizes: Sizes
    sizes_teacher: Sizes
    planned_bytes: int
    latency: list[Latency]
    parity: list[Parity]
    student_by_file: dict[str, float]
    agreement_by_file: dict[str, float] = {}


class Push(BaseModel):
    """
    An artifact's way to a registry. While it is `queued`, `error` says what the last attempt met.
    """

    id: str
    object: Literal["push"] = "push"
    artifact_id: str
    registry: str
    to: str
    revision: str | None
    alias: str | None
    status: Literal["queued", "running", "succeeded", "failed"]
    attempt: int
    result: PushResult | None
    error: Problem | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class PushList(BaseModel):
    """
    Pushes of the project.
    """

    object: Literal["list"] = "list"
    data: list[Push]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Recipe(BaseModel):
    """
    An ordered list of method steps.
    """

    version: Literal[1] = 1
    steps: Annotated[
        list[
            Annotated[
                Structured
                | Vocabulary
                | LowRankSparse
                | Svd
                | WeightedSvd
                | Magnitude
                | Obs
                | Binary
                | BinarySplit
                | Gptq
                | Int8
                | MixedBits
                | Ternary
                | Distill,
                Field(discriminator="method"),
            ]
        ],
        Field(max_length=8, min_length=1),
    ]


class Report(BaseModel):
    """
    The whole `report.json`.
    """

    version: int = 1
    preset: str | None
    recipe: dict[str, Any]
    target: dict[str, float]
    outputs: list[str] = []
    seed: int
    task: str
    labels: list[str]
    rows: dict[str, int]
    select_seen_by_teacher: str
    input_hashes: dict[str, str]
    point: Point
    stages: list[Stage]
    continued: bool = False
    tries: Annotated[list[Try], Field(validate_default=True)] = []
    searched: Annotated[list[Searched], Field(validate_default=True)] = []
    columns: dict[str, str] = {}
    max_tokens: int = 512
    weights_sha256: str = ""
    evidence: Evidence | None = None
    hardware: Hardware
    memory_bytes: int | None = None
    warnings: list[str] = []


class WebhookDelivery(BaseModel):
    """
    One message to one endpoint; `id` is its webhook-id.
    """

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    type: Literal[
        "job.running",
        "job.paused",
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "push.succeeded",
        "push.failed",
        "ping",
    ]
    message: WebhookMessage
    status: Literal["queued", "running", "succeeded", "failed"]
    next_attempt_at: AwareDatetime | None
    """
    Of a queued one: not before. A disabled endpoint waits.
    """
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class WebhookDeliveryDetail(BaseModel):
    """
    A delivery with what was tried.
    """

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    type: Literal[
        "job.running",
        "job.paused",
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "push.succeeded",
        "push.failed",
        "ping",
    ]
    message: WebhookMessage
    status: Literal["queued", "running", "succeeded", "failed"]
    next_attempt_at: AwareDatetime | None
    """
    Of a queued one: not before. A disabled endpoint waits.
    """
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
    attempts: list[WebhookAttempt]


class WebhookDeliveryList(BaseModel):
    """
    Deliveries to an endpoint.
    """

    object: Literal["list"] = "list"
    data: list[WebhookDelivery]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Artifact(BaseModel):
    """
    One delivered model. `point` is its place in the job's `points`.
    """

    id: str
    object: Literal["artifact"] = "artifact"
    job_id: str
    point: int
    report: JobPoint
    files: list[ArtifactFile]
    """
    None when they have gone: see expired_at.
    """
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    """
    When its files go by themselves; null = never.
    """
    expired_at: AwareDatetime | None
    """
    When its files went. Its figures stay as long as the job.
    """


class ArtifactList(BaseModel):
    """
    Artifacts of the project.
    """

    object: Literal["list"] = "list"
    data: list[Artifact]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Forecast(BaseModel):
    """
    Of one point. `shortfall`: targets that it misses by these figures -> the value reached.

    `retention_low` and `retention_high` hold the retention that `eval` will show in nine cases of ten. `seconds` and
    `cpu_s` are of a job that makes this point alone, its profile being stored, on the worker that measured it, and by
    one training: a search of retention may take three. `memory_bytes` is the most that it will hold (of the device,
    where that is a GPU). All are None where no profile says what the recipe costs.
    """

    recipe: Recipe
    target: dict[str, float]
    parameters: int
    nonzero: int
    weight_bytes: int
    file_bytes: int
    parameter_ratio: float
    bytes_ratio: float
    latency_ms: float | None = None
    latency_ratio: float | None = None
    retention: float | None = None
    retention_low: float | None = None
    retention_high: float | None = None
    seconds: float | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None
    target_met: bool | None
    shortfall: dict[str, float]


class Job(BaseModel):
    id: str
    object: Literal["job"] = "job"
    status: Literal["queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"]
    stage: str | None
    """
    What a queued or running job is at; null where nothing runs.
    """
    name: str | None
    model: str
    data: DataRoles
    task: Literal[
        "classification",
        "multi_label",
        "regression",
        "token_classification",
        "question_answering",
        "sentence_embedding",
    ]
    metric: Literal["accuracy", "macro_f1", "f1", "mcc", "exact_match", "spearman"]
    preset: str | None
    recipe: Recipe
    target: Target
    ladder: Ladder | None
    outputs: list[Literal["onnx-fp16", "onnx-int8", "openvino", "torch-export"]]
    """
    Formats beside model.onnx and pytorch/.
    """
    seed: int
    resources: Resources
    limits: Limits
    push: PushRequest | None
    """
    Where its artifact goes; GET /v1/pushes?artifact_id= says how far.
    """
    webhook: JobWebhook | None
    """
    Who is told of it, beside those that are told of all.
    """
    track: TrackRequest | None
    """
    The MLflow server that gets its curves while it runs.
    """
    dry_run: bool
    """
    It ends when everything is planned: no points, no report.
    """
    cache: Literal["use", "bypass"]
    cache_hit: bool
    """
    The result was there already: nothing was computed for this job.
    """
    cached_from: str | None
    """
    The job that computed the result; it may have been deleted since.
    """
    parent_job_id: str | None
    """
    Of a retry: the job that it does again.
    """
    metadata: dict[str, str]
    attempt: int
    progress: Progress
    heartbeat_at: AwareDatetime | None
    stalled: bool
    """
    A worker holds the job and has been silent for half of its lease.
    """
    status_transitions: list[Transition]
    stage_seconds: dict[str, float]
    """
    Of the last attempt, from claim to publish; ended stages.
    """
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    error: Problem | None
    target_met: bool | None
    """
    Null until the job has succeeded. A missed target is no failure.
    """
    points: list[JobPoint]
    report: Report | None


class JobList(BaseModel):
    """
    Jobs of the project.
    """

    object: Literal["list"] = "list"
    data: list[Job]
    has_more: bool
    first_id: str | None
    last_id: str | None


class JobRequest(BaseModel):
    """
    Body of POST /v1/jobs.
    """

    model: Annotated[str, Field(max_length=64, min_length=1)]
    data: DataRoles
    task: Literal[
        "classification",
        "multi_label",
        "regression",
        "token_classification",
        "question_answering",
        "sentence_embedding",
    ] = "classification"
    """
    What the model is for; it has to be of that task.
    """
    metric: Literal["accuracy", "macro_f1", "f1", "mcc", "exact_match", "spearman"] = "accuracy"
    """
    What retention is measured in; the task's first where absent.
    """
    preset: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    """
    Name of a recipe; "hybrid" where recipe is absent too.
    """
    recipe: Recipe | None = None
    target: Target | None = None
    """
    Replaces the preset's constraints of the same name.
    """
    ladder: Ladder | None = None
    """
    Several values of one target: one point for each.
    """
    seed: Annotated[int, Field(ge=0, lt=2147483648)] = 0
    resources: Resources | None = None
    outputs: Annotated[
        list[Literal["onnx-fp16", "onnx-int8", "openvino", "torch-export"]],
        Field(max_length=8),
    ] = []
    """
    Formats beside model.onnx and pytorch/.
    """
    limits: Limits | None = None
    name: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    metadata: Annotated[
        dict[Annotated[str, StringConstraints(min_length=1, max_length=200)], MetadataAdditionalProperty],
        Field(max_length=16),
    ] = {}
    """
    For the caller: at most 16 pairs. Lists can be filtered by them.
    """
    cache: Literal["use", "bypass"] = "use"
    """
    use: a result of the same inputs, order and engine is given at once, marked cache_hit.
    """
    dry_run: bool = False
    """
    End when everything is planned: no training, no artifacts.
    """
    push: PushRequest | None = None
    """
    Where the artifact goes when the job has succeeded.
    """
    webhook: JobWebhook | None = None
    """
    Who is told of this job, beside those that are told of all.
    """
    track: TrackRequest | None = None
    """
    Where the curves go while the job runs.
    """


class Plan(BaseModel):
    """
    What a job would give. `points` are there when the status is "done", one for each value of the ladder.
    """

    object: Literal["plan"] = "plan"
    status: Literal["inspecting", "profiling", "done"]
    inspection_id: str
    job_id: str | None
    """
    The dry run that measures what the plan stands on; null when it is done.
    """
    points: list[Forecast]
    estimate: Estimate | None
    """
    What a point would take by a formula, before anything was measured; null without a training.
    """


class PlanRequest(BaseModel):
    """
    Body of POST /v1/plans: what a job would be asked for.
    """

    model: Annotated[str, Field(max_length=64, min_length=1)]
    data: DataRoles
    task: Literal[
        "classification",
        "multi_label",
        "regression",
        "token_classification",
        "question_answering",
        "sentence_embedding",
    ] = "classification"
    """
    What the model is for; it has to be of that task.
    """
    metric: Literal["accuracy", "macro_f1", "f1", "mcc", "exact_match", "spearman"] = "accuracy"
    """
    What retention is measured in; the task's first where absent.
    """
    preset: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    """
    Name of a recipe; "hybrid" where recipe is absent too.
    """
    recipe: Recipe | None = None
    target: Target | None = None
    """
    Replaces the preset's constraints of the same name.
    """
    ladder: Ladder | None = None
    """
    Several values of one target: one point for each.
    """
    seed: Annotated[int, Field(ge=0, lt=2147483648)] = 0
    resources: Resources | None = None


class Preset(BaseModel):
    """
    A recipe with a name, a source, and the target that it aims at when the user names none.
    """

    name: str
    title: str
    source: str
    recipe: Recipe
    target: Target | None = None


class PresetList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Preset]
    has_more: bool = False
