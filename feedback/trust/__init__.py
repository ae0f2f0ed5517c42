"""How much each judgement counts: who gave it, how fast, how often, and how reliable they are."""
