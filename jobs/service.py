"""Everything that api and worker may do to the tables, in one place: the nouns live in the files named below.

Each function takes a session and works in the caller's transaction: `with db.sessions.begin() as s: submit(s, ...)`.
"""

from jobs.checkpoints import checkpoints, keep_checkpoint
from jobs.claim import Claim, Control, claim, control, heartbeat
from jobs.events import Told, events_after, metrics, news, record, transitions
from jobs.expiry import drop_files, keep_until, require_files
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
from jobs.removal import cancel, delete_job, pause, resume
from jobs.resumable import (
    Wanted,
    advance,
    complete_upload,
    delete_upload,
    expire_uploads,
    get_upload,
    start_upload,
    without_bytes,
    wrong_offset,
)
from jobs.signing_keys import known as signing_keys
from jobs.signing_keys import register as register_signing_key
from jobs.submit import prepare, retry, submit
from jobs.tallies import count
from jobs.tracks import Due, claim_track, fail_track, kept_track
from jobs.uploads import (
    DeclaredFile,
    create_dataset,
    create_model,
    declared_file,
    delete_dataset,
    delete_model,
    file_arrived,
    file_limits,
    model_files,
)
from jobs.webhooks.deliveries import (
    DeliveryClaim,
    Outcome,
    any_due,
    attempts,
    claim_deliveries,
    delivery_of,
    finish_delivery,
    forget_deliveries,
    postpone_delivery,
    replay_delivery,
)
from jobs.webhooks.endpoints import create_endpoint, delete_endpoint, ping, rotate_secret, update_endpoint
from jobs.workers import seen

__all__ = [
    "Claim",
    "Control",
    "DeclaredFile",
    "DeliveryClaim",
    "Due",
    "Hint",
    "InputData",
    "InputFile",
    "InspectionClaim",
    "Order",
    "Outcome",
    "Planned",
    "PublishedFile",
    "PublishedPoint",
    "PushClaim",
    "Told",
    "Wanted",
    "add_findings",
    "advance",
    "any_due",
    "attempts",
    "cancel",
    "checkpoints",
    "claim",
    "claim_deliveries",
    "claim_inspection",
    "claim_push",
    "claim_track",
    "complete_upload",
    "control",
    "count",
    "create_dataset",
    "create_endpoint",
    "create_model",
    "declared_file",
    "delete_dataset",
    "delete_endpoint",
    "delete_job",
    "delete_model",
    "delete_push",
    "delete_upload",
    "delivery_of",
    "drop_files",
    "events_after",
    "expire_uploads",
    "fail",
    "fail_push",
    "fail_track",
    "file_arrived",
    "file_limits",
    "find_profile",
    "finish_cancel",
    "finish_delivery",
    "finish_inspection",
    "finish_push",
    "forget_deliveries",
    "get_inspection",
    "get_upload",
    "heartbeat",
    "heartbeat_inspection",
    "heartbeat_push",
    "inspection_waits",
    "keep_checkpoint",
    "keep_profile",
    "keep_until",
    "kept_track",
    "metrics",
    "model_files",
    "news",
    "order",
    "pause",
    "ping",
    "plan",
    "postpone_delivery",
    "prepare",
    "publish",
    "published",
    "reconcile",
    "record",
    "register_signing_key",
    "release",
    "release_inspection",
    "release_push",
    "replay_delivery",
    "request_inspection",
    "request_push",
    "require_files",
    "resume",
    "retry",
    "rotate_secret",
    "seen",
    "signing_keys",
    "start_upload",
    "submit",
    "transitions",
    "update_endpoint",
    "without_bytes",
    "wrong_offset",
]
