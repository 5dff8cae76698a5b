"""Everything that api and worker may do to the tables, in one place: the nouns live in the files named below.

Each function takes a session and works in the caller's transaction: `with db.sessions.begin() as s: submit(s, ...)`.
"""

from jobs.checkpoints import checkpoints, keep_checkpoint
from jobs.claim import Claim, Control, claim, control, heartbeat
from jobs.events import events_after, record, transitions
from jobs.finish import PublishedFile, PublishedPoint, fail, finish_cancel, publish, published, release
from jobs.inputs import InputData, InputFile, Order, order
from jobs.inspections import (
    InspectionClaim,
    add_findings,
    claim_inspection,
    finish_inspection,
    get_inspection,
    heartbeat_inspection,
    inspection_waits,
    release_inspection,
    request_inspection,
)
from jobs.plans import Planned, plan
from jobs.profiles import find as find_profile
from jobs.profiles import keep as keep_profile
from jobs.pushes import (
    PushClaim,
    claim_push,
    delete_push,
    fail_push,
    finish_push,
    heartbeat_push,
    release_push,
    request_push,
)
from jobs.reconcile import Hint, reconcile
from jobs.removal import cancel, delete_job
from jobs.signing_keys import known as signing_keys
from jobs.signing_keys import register as register_signing_key
from jobs.submit import prepare, submit
from jobs.uploads import (
    DeclaredFile,
    create_dataset,
    create_model,
    declared_file,
    delete_dataset,
    delete_model,
    file_arrived,
    model_files,
)
from jobs.workers import seen

__all__ = [
    "Claim",
    "Control",
    "DeclaredFile",
    "Hint",
    "InputData",
    "InputFile",
    "InspectionClaim",
    "Order",
    "Planned",
    "PublishedFile",
    "PublishedPoint",
    "PushClaim",
    "add_findings",
    "cancel",
    "checkpoints",
    "claim",
    "claim_inspection",
    "claim_push",
    "control",
    "create_dataset",
    "create_model",
    "declared_file",
    "delete_dataset",
    "delete_job",
    "delete_model",
    "delete_push",
    "events_after",
    "fail",
    "fail_push",
    "file_arrived",
    "find_profile",
    "finish_cancel",
    "finish_inspection",
    "finish_push",
    "get_inspection",
    "heartbeat",
    "heartbeat_inspection",
    "heartbeat_push",
    "inspection_waits",
    "keep_checkpoint",
    "keep_profile",
    "model_files",
    "order",
    "plan",
    "prepare",
    "publish",
    "published",
    "reconcile",
    "record",
    "register_signing_key",
    "release",
    "release_inspection",
    "release_push",
    "request_inspection",
    "request_push",
    "seen",
    "signing_keys",
    "submit",
    "transitions",
]
