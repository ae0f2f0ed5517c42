"""Points that lie together have one label, whatever else is there."""

import numpy as np
import torch
from burnish.learner.reward.clusters import clustered


def test_the_same_points_fall_into_the_same_clusters():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.1, (10, 3)), rng.normal(2, 0.1, (5, 3))
    points = torch.from_numpy(np.concatenate([near, far]))
    labels = clustered(points, 2)
    assert len(set(labels[:10].tolist())) == len(set(labels[10:].tolist())) == 1
    assert (clustered(points, 2) == labels).all()
