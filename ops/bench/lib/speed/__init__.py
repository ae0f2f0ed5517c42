"""Parts of the engine benchmark: loads, contestants, what is measured of them, goals, report."""
