"""What a job hands back beside the model: sizes, accuracy, latency and cost, each measured on the delivered file.

`report.json` is `Report.model_dump_json()`. Units are in the names. Four sizes are never mixed: bytes on disk,
bytes in memory, stored parameters, non-zero parameters.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sizes(Frozen):
    """Of one model. `bytes_in_memory` counts the weights as the runtime holds them after load; `bytes_sent` is
    model.onnx under the content coding zstd, as the service sends it to who asks: it is in no ratio and no target."""

    parameters: int
    nonzero: int
    bytes_on_disk: dict[str, int]  # file name -> bytes
    bytes_in_memory: int
    bytes_sent: int | None = None  # None in reports of before


class Latency(Frozen):
    """Milliseconds in ONNX Runtime, teacher and student in interleaved pairs, after warm-up."""

    batch: int
    tokens: int
    threads: int
    pairs: int
    teacher_ms_p50: float
    student_ms_p50: float
    ratio: float


class Stage(Frozen):
    """One stage of the job. `cpu_s` is user + system time of all its processes."""

    name: str
    seconds: float
    cpu_s: float
    select_agreement: float | None = None  # share of select rows on which the student predicts what the teacher does


class Hardware(Frozen):
    device: str
    machine: str
    cpu_flags: tuple[str, ...]
    threads: int
    versions: dict[str, str]


class Parity(Frozen):
    """Largest absolute difference of logits between a loaded file and the student in memory."""

    file: str
    rows: int
    max_difference: float
    tolerance: float
    load_s: float
    closure: tuple[str, ...]  # the only distributions that the checking process could import


class Point(Frozen):
    """One delivered model."""

    parameter_ratio: float
    bytes_ratio: float
    latency_ratio: float
    metric: str
    teacher: float
    student: float
    retention: float
    target: dict[str, float]
    target_met: bool
    shortfall: dict[str, float]  # target -> value reached, only those missed
    sizes: Sizes
    sizes_teacher: Sizes
    planned_bytes: int
    latency: tuple[Latency, ...]
    parity: tuple[Parity, ...]
    student_by_file: dict[str, float]  # metric measured on each delivered form
    agreement_by_file: dict[str, float] = {}  # of outputs: share of choices on eval that are model.onnx's own


class ClassChange(Frozen):
    """One class on eval: rows that are of it, and the share of them that teacher and student find."""

    label: str
    rows: int
    teacher: float
    student: float


class Flip(Frozen):
    """A row of eval that teacher and student class otherwise. `row` counts from 0; the text is cut."""

    row: int
    text: str
    label: str
    teacher: str
    student: str


class Comparison(Frozen):
    """Teacher and student on the rows of eval, in pairs; the student as model.onnx.

    `p_value`: of McNemar's exact test, the chance of so uneven a split of the rows on which only one of them is right
    were both as good. `retention_low`, `retention_high`: 95 % of a bootstrap over rows (teacher and student together).
    """

    rows: int
    agreement: float  # share of choices: of rows, labels of rows, words, starts and ends, texts
    only_teacher_right: int  # or nearer to it, where no answer is simply right
    only_student_right: int
    changed: int | None = None  # rows that are answered otherwise; None in reports of before
    p_value: float
    retention_low: float
    retention_high: float
    classes: tuple[ClassChange, ...]
    flips: tuple[Flip, ...]  # the surest of the teacher first, at most FLIPS


class Layer(Frozen):
    """Where the bytes of one matrix of the teacher went. Bytes are those of the weights in model.onnx, bias left out.

    `rank`: None where it is one matrix still. `bits`: of a stored number, scales and tables counted.
    """

    name: str
    shape: tuple[int, int]  # the teacher's: out, in; of an embedding rows, width
    left: tuple[int, int]  # of these, in the student
    rank: int | None
    entries: int  # of the matrix or its factors and the sparse part beside them
    nonzero: int
    bits: float
    bytes: int
    teacher_bytes: int


class Damage(Frozen):
    """What one part of the student does to a teacher that is whole but for it, on rows of `select`."""

    part: str  # the embedding, or the linear that reads a block's heads or neurons
    kl: float  # KL(teacher || teacher with this part), mean over rows
    agreement: float


class Curve(Frozen):
    """One figure over the steps of one training."""

    phase: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class Evidence(Frozen):
    """Why the student is what it is."""

    comparison: Comparison
    layers: tuple[Layer, ...]
    damage: tuple[Damage, ...]  # the worst first
    curves: tuple[Curve, ...]


class Plan(Frozen):
    """Of one try: the recipe as resolved, and the loss that it was planned for; None where nothing says."""

    recipe: dict[str, object]
    planned_loss: float | None = None


class Try(Plan):
    """One training of a point, judged on `select`: KL(teacher || student) a row, share of equal answers, expected
    retention, standard deviation of what `eval` will show; whether the retention that was asked for can be promised."""

    kl: float
    agreement: float
    retention: float
    sd: float
    kept: bool


class Searched(Frozen):
    """What one way of searching bits found. loss: of the student rounded so, before training, in units of the
    distillation loss. shares: bits -> share of all entries. expected_size: where its size ended, in units of what was
    wanted; None of a way that needs no such."""

    by: str
    chosen: bool
    loss: float
    shares: dict[str, float]
    expected_size: float | None = None


class Report(Frozen):
    """Of one job."""

    version: int = 1
    preset: str | None
    recipe: dict[str, object]  # as resolved: no "auto" left
    target: dict[str, float]
    outputs: tuple[str, ...] = ()  # formats asked for beside the two forms
    seed: int
    task: str
    labels: tuple[str, ...]
    rows: dict[str, int]  # role -> rows
    select_seen_by_teacher: str  # "assumed" or "no"
    input_hashes: dict[str, str]
    point: Point
    stages: tuple[Stage, ...]
    continued: bool = False  # this student began as that of the point before it, trained
    tries: tuple[Try, ...] = ()  # more than one where a search corrected the plan
    searched: tuple[Searched, ...] = ()  # where bits were searched: what each way found, the one taken first
    columns: dict[str, str] = {}  # role -> name, where one was given
    max_tokens: int = 512  # longer texts are cut
    weights_sha256: str = ""  # of every weight of the student as it is in memory, by name
    evidence: Evidence | None = None  # None in reports of before
    hardware: Hardware
    memory_bytes: int | None = None  # the most that the job's process had held by now; None in reports of before
    warnings: tuple[str, ...] = ()
