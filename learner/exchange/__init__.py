"""Experience from elsewhere, and to elsewhere: imports of logs and exports as training rows."""
