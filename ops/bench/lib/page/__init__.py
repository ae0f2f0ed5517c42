"""The web page measured: a service with made-up amounts behind it, and Chromium in front."""
