"""Features of answers: the frozen base's hidden states, pooled; the reward models' input.

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
from burnish.learner.tables import FeatureRow
from burnish.serving.reward.features import base_features
from sqlalchemy import select, tuple_
from torch import Tensor

Key = tuple[str, int]  # interaction id, choice


def features_of(database: Database, model: LoadedModel, answers: Sequence[JudgedAnswer]) -> Tensor:
    """Features [N, 3H] of judged answers, in the order given; what is missing is computed and
    stored."""
    keys = [(a.interaction_id, a.choice) for a in answers]
    known = _stored(database, _base_key(model), keys)
    missing = [a for a in answers if (a.interaction_id, a.choice) not in known]
    if missing:
        computed = base_features(model, [(a.prompt_ids, a.token_ids) for a in missing])
        fresh = {
            (a.interaction_id, a.choice): vector.half()
            for a, vector in zip(missing, computed, strict=True)
        }
        _store(database, _base_key(model), fresh)
        known.update(fresh)
    return torch.stack([known[key] for key in keys]).float() if keys else torch.empty(0, 0)


def _base_key(model: LoadedModel) -> str:
    """What the features were read from: this base, at half its depth."""
    return f"{model.sha256}/middle"


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
    with database.write() as session:
        for (interaction, choice), vector in vectors.items():
            session.merge(
                FeatureRow(
                    interaction_id=interaction,
                    choice=choice,
                    base_sha256=base,
                    vector=vector.numpy().tobytes(),
                )
            )
