"""An Apache Kafka node on this machine."""
