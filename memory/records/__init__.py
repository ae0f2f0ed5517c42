"""Records: facts that outlive a session; extracting, searching and forgetting them; memory files."""
