"""The update tick, part by part: load, train, evaluate, register, promote."""
