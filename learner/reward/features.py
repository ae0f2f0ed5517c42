"""Features of answers: the frozen base's hidden states and their manner; the reward models' input.

Those of judged answers are computed once per base and kept in the database as float16: half the
size, with an error far below the noise of the judgements. Rows of another base are left in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.intake.joining import slices
from burnish.learner.reward.experience import JudgedAnswer
from burnish.learner.tables import FEATURES, FeatureRow
from burnish.serving.reward.features import PromptAndAnswer, base_features
from sqlalchemy import select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from torch import Tensor

Key = tuple[str, int]  # interaction id, choice


def features_of(database: Database, model: LoadedModel, answers: Sequence[JudgedAnswer]) -> Tensor:
    """Features [N, 3H + MANNER] of judged answers, in the order given; what is missing is computed and
    stored."""
    asked = [(a.prompt_ids, a.token_ids) for a in answers]
    return _kept(database, model, _base_key(model), answers, asked)


def turn_features(
    database: Database,
    model: LoadedModel,
    answers: Sequence[JudgedAnswer],
    turns: Sequence[Sequence[int]],
) -> Tensor:
    """Features [N, 3H + MANNER] of the user's turns, in tokens, that followed answers, after prompt and answer."""
    said = [((*a.prompt_ids, *a.token_ids), turn) for a, turn in zip(answers, turns, strict=True)]
    return _kept(database, model, f"{_base_key(model)}/next", answers, said)


def _kept(
    database: Database,
    model: LoadedModel,
    base: str,
    answers: Sequence[JudgedAnswer],
    texts: Sequence[PromptAndAnswer],
) -> Tensor:
    """Features of texts that belong to answers, stored under the name `base`."""
    keys = [(a.interaction_id, a.choice) for a in answers]
    known = _stored(database, base, keys)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        computed = base_features(model, list(missing.values()))
        fresh = {key: vector.half() for key, vector in zip(missing, computed, strict=True)}
        _store(database, base, fresh)
        known.update(fresh)
    return torch.stack([known[key] for key in keys]).float() if keys else torch.empty(0, 0)


def _base_key(model: LoadedModel) -> str:
    """What the features were read from: this base, at half its depth, and the answer's text."""
    return f"{model.sha256}/{FEATURES}"


def _stored(database: Database, base: str, keys: Sequence[Key]) -> dict[Key, Tensor]:
    found: dict[Key, Tensor] = {}
    column = tuple_(FeatureRow.interaction_id, FeatureRow.choice)
    with database.read() as session:
        for part in slices(keys):
            query = select(FeatureRow.interaction_id, FeatureRow.choice, FeatureRow.vector)
            known = query.where(FeatureRow.base_sha256 == base, column.in_(part))
            for interaction, choice, stored in session.execute(known):
                vector = np.frombuffer(stored, dtype=np.float16).copy()
                found[interaction, choice] = torch.from_numpy(vector)
    return found


def _store(database: Database, base: str, vectors: dict[Key, Tensor]) -> None:
    """Another process may be at it too, and stores the same."""
    rows = [
        {
            "interaction_id": interaction,
            "choice": choice,
            "base_sha256": base,
            "vector": vector.numpy().tobytes(),
        }
        for (interaction, choice), vector in vectors.items()
    ]
    with database.write() as session:
        dialect = {"sqlite": sqlite, "postgresql": postgresql}[session.get_bind().dialect.name]
        session.execute(dialect.insert(FeatureRow).on_conflict_do_nothing(), rows)
