#!/bin/bash
# One Kafka node: KAFKA_NODE_ID=1 is node.id=1 in its properties, as in apache/kafka.
set -euo pipefail
properties=/opt/kafka/server.properties
java=(java -XX:+UseSerialGC -Xmx512m -cp '/opt/kafka/libs/*')

: > "$properties"
while IFS='=' read -r name value; do
  name=${name#KAFKA_}
  name=${name//_/.}
  echo "${name,,}=$value" >> "$properties"
done < <(env | grep '^KAFKA_')

if [ ! -f "$KAFKA_LOG_DIRS/meta.properties" ]; then
  id=$("${java[@]}" kafka.tools.StorageTool random-uuid | tail -1)
  "${java[@]}" kafka.tools.StorageTool format -t "$id" -c "$properties"
fi
exec "${java[@]}" kafka.Kafka "$properties"
