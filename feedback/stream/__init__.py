"""The event stream: Kafka or Redis Streams behind one protocol."""
