"""The names that separate processes agree on: topics, Redis keys, Celery queues and task names.

Changing one of them is a change of protocol between versions that run side by side. Left out: what
one room alone reads and writes, such as memory's keys (memory/sessions/keys.py).
"""

# Topics of the event stream, and the suffix of each one's dead letters.
INTERACTIONS = "burnish.interactions"
FEEDBACK = "burnish.feedback"
TOPICS = (INTERACTIONS, FEEDBACK)
DEAD_LETTERS = ".dlt"

# Keys in Redis; a prefix is followed by a name.
STREAM_PREFIX = "burnish:stream:"
CELERY_PREFIX = "burnish:celery:"
LEASE_PREFIX = "burnish:lease:"
FENCE_PREFIX = "burnish:fence:"
TRAIL_PREFIX = "burnish:trail:"  # and an event's id: the last span of its trace
LEDGER_PREFIX = "burnish:ledger:"  # and {tenant}: standing judgements that replicas share
BUDGET_PREFIX = "burnish:budget:"  # and {account}: what an API key has used, on all replicas
REWARD_PREFIX = "burnish:reward:"  # and the policy, a hash: its reward model as published, signed
TICKS_KEY = "burnish:ticks"
CANARY_PREFIX = "burnish:canary:"  # and the policy: how its canary stands, as JSON (learner/canary)
CANARY_SHADOW_PREFIX = "burnish:canary-shadow:"  # and its id: what came of its shadow
CANARY_FAILED_PREFIX = "burnish:canary-failed:"  # failed_key
REPORT_PREFIX = "burnish:report:"  # and the policy: whether it learns, as JSON (learner/report)
ALARMS_PREFIX = "burnish:alarms:"  # and the policy: its alarms, as JSON (learner/alarms)
QUARANTINE_PREFIX = "burnish:quarantine:"  # and the policy: whose votes count nowhere, as JSON
USER_KEYS = (
    "burnish:user-keys"  # a hash: what seals and opens end users' events (stream/user_keys.py)
)
ERASURES_KEY = "burnish:erasures"  # and the two below: feedback/erasures.py
ERASURE_PREFIX = "burnish:erasure:"
ERASED_KEY = "burnish:erased"
FATE_PREFIX = "burnish:fate:"  # and a judgement's event id, a hash: what became of it (fates.py)
FATES_JOINED_KEY = "burnish:fates-joined"  # the number of the last judgement told as joined
UNMATCHED_KEY = "burnish:unmatched"  # a hash: tenant/id of a judgement -> why it counts nothing

JOB_PREFIX = "burnish:update-job:"  # and the policy: the job that updates it, as JSON
COMPACTOR = "compactor"  # memory's, among the policies that are updated
BEAT_KEY = "burnish:beat"  # a hash: a task's name in beat's schedule -> when it was last sent
INTAKE_KEY = "burnish:intake"  # when the intake last looked into the stream, seconds since 1970

# Celery's queues, and the tasks by the name they are sent under.
INTAKE_QUEUE = "intake"
UPDATE_QUEUE = "update"
REWARD_QUEUE = "reward"
INTAKE_TASK = "burnish.learner.intake"
UPDATE_TASK = "burnish.learner.update"
REWARD_TASK = "burnish.learner.reward"
JOBS_TASK = "burnish.learner.jobs"
COMPACTOR_TASK = "burnish.learner.compactor"
CANARY_TASK = "burnish.learner.canary"
SHADOW_TASK = "burnish.learner.shadow"
ERASE_TASK = "burnish.learner.erase"
RELEASE_TASK = "burnish.learner.release"
ALARMS_TASK = "burnish.learner.alarms"
SILENCE_TASK = "burnish.learner.silence"
FREE_TASK = "burnish.learner.free"  # from quarantine
RETENTION_TASK = "burnish.learner.retention"


def failed_key(policy: str, challenger: int, arm: str) -> str:
    """The set of users of a canary's arm, as salted hashes, of whom a request failed."""
    return f"{CANARY_FAILED_PREFIX}{policy}@{challenger}:{arm}"
