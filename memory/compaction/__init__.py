"""Compaction: which steps a view keeps, shortens, summarises or drops, decided by policies.

Sessions are compacted by `session_compaction.py`, in the background by `background.py`, and
conversations that are not stored by `stateless.py`. The names below are the interface of policies
and of the learned scorer, for those who serve, train or measure them.
"""

from burnish.memory.compaction.candidates import CandidateIndex, Candidates, candidates_of
from burnish.memory.compaction.features import N_FEATURES, Features
from burnish.memory.compaction.plan_store import load_trace
from burnish.memory.compaction.policies import CompactionPolicies
from burnish.memory.compaction.policies.base import (
    Candidate,
    CompactionPolicy,
    CompactionTask,
    Decision,
    Decisions,
    candidate,
    spent,
)
from burnish.memory.compaction.policies.bm25 import Bm25Policy
from burnish.memory.compaction.policies.clear_tools import ClearToolsPolicy
from burnish.memory.compaction.policies.learned import DecisionTrace, LearnedPolicy
from burnish.memory.compaction.policies.recent import RecentPolicy
from burnish.memory.compaction.policies.rubric import RubricPolicy
from burnish.memory.compaction.policies.summary import SummaryPolicy
from burnish.memory.compaction.scorer import (
    CHOICES,
    DROP,
    KEEP,
    POLICY,
    SHIPPED,
    SHORTEN,
    Scorer,
    ScorerError,
    fingerprint,
    pick_within_budget,
)
from burnish.memory.compaction.summaries import build_summaries, extract_lines
from burnish.memory.sessions.plan import Action

__all__ = [
    "CHOICES",
    "DROP",
    "KEEP",
    "N_FEATURES",
    "POLICY",
    "SHIPPED",
    "SHORTEN",
    "Action",
    "Bm25Policy",
    "Candidate",
    "CandidateIndex",
    "Candidates",
    "ClearToolsPolicy",
    "CompactionPolicies",
    "CompactionPolicy",
    "CompactionTask",
    "Decision",
    "DecisionTrace",
    "Decisions",
    "Features",
    "LearnedPolicy",
    "RecentPolicy",
    "RubricPolicy",
    "Scorer",
    "ScorerError",
    "SummaryPolicy",
    "build_summaries",
    "candidate",
    "candidates_of",
    "extract_lines",
    "fingerprint",
    "load_trace",
    "pick_within_budget",
    "spent",
]
