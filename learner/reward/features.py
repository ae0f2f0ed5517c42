"""The frozen base's view of judged answers, computed once per base and kept in the database.

Kept as float16: half the room, and far below the noise of the judgements. Rows of another base stay
until someone clears them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database, FeatureRow
from burnish.learner.intake.joining import slices
from burnish.learner.reward.experience import JudgedAnswer
from burnish.learner.training.trainer import Answer, base_features
from sqlalchemy import select, tuple_
from torch import Tensor

Key = tuple[str, int]


def features_of(
    database: Database, model: LoadedModel, experience: Sequence[JudgedAnswer]
) -> Tensor:
    """Features [N, 3H] in the order given; what is missing is computed and stored."""
    keys = [(e.interaction_id, e.choice) for e in experience]
    known = _stored(database, _key(model), keys)
    missing = [e for e in experience if (e.interaction_id, e.choice) not in known]
    if missing:
        computed = base_features(
            model, [Answer(e.prompt_ids, e.token_ids, e.logprobs) for e in missing]
        )
        fresh = {
            (e.interaction_id, e.choice): vector.half()
            for e, vector in zip(missing, computed, strict=True)
        }
        _store(database, _key(model), fresh)
        known.update(fresh)
    return torch.stack([known[key] for key in keys]).float() if keys else torch.empty(0, 0)


def _key(model: LoadedModel) -> str:
    """Which view the features are: this base's, half-way up."""
    return f"{model.sha256}/middle"


def _stored(database: Database, sha256: str, keys: Sequence[Key]) -> dict[Key, Tensor]:
    found: dict[Key, Tensor] = {}
    column = tuple_(FeatureRow.interaction_id, FeatureRow.choice)
    with database.read() as session:
        for some in slices(keys):
            query = select(FeatureRow).where(FeatureRow.base_sha256 == sha256, column.in_(some))
            for row in session.scalars(query):
                vector = np.frombuffer(row.vector, dtype=np.float16).copy()
                found[row.interaction_id, row.choice] = torch.from_numpy(vector)
    return found


def _store(database: Database, sha256: str, vectors: dict[Key, Tensor]) -> None:
    with database.write() as session:
        for (interaction, choice), vector in vectors.items():
            session.merge(
                FeatureRow(
                    interaction_id=interaction,
                    choice=choice,
                    base_sha256=sha256,
                    vector=vector.numpy().tobytes(),
                )
            )
