"""The learner: from judgements to gated policy versions."""
