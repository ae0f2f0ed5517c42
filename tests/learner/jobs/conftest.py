"""A learner on a tiny model, as the update's tests have it."""

from tests.learner.update.conftest import data_dir, empty_registry, learner_with

__all__ = ["data_dir", "empty_registry", "learner_with"]
