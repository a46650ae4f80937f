#!/bin/sh
# The official image's command of this name, on bare jars.
exec "$(dirname "$0")/kafka-run-class.sh" ${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m} -XX:+ExitOnOutOfMemoryError kafka.Kafka "$@"
