"""What happens, told to those who run the service: traces, log lines that carry them, metrics' port."""
