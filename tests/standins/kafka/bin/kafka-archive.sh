#!/bin/sh
# Leaves the classes that a start and a stop load in kafka.jsa, as the official image's build does.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
cat > "$work/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:9093
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/data
PROPERTIES
"$home/bin/kafka-storage.sh" format --cluster-id MkU3OEVBNTcwNTJENDM2Qg --config "$work/server.properties"
KAFKA_OPTS="-XX:ArchiveClassesAtExit=$home/kafka.jsa" \
  timeout 120 "$home/bin/kafka-server-start.sh" "$work/server.properties" > "$work/log" 2>&1 &
while kill -0 $! && ! grep -q "Kafka Server started" "$work/log"; do sleep 0.2; done
kill $!
wait $! || true
test -s "$home/kafka.jsa" || { cat "$work/log"; exit 1; }
rm -r "$work"
