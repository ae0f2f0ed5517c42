"""What `burnish up` runs: child processes started in order, watched, restarted."""
