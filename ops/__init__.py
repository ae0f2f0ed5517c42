"""Operations: the command line, and all that starts, watches, loads or breaks the service."""
