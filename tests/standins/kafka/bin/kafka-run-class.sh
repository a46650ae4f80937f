#!/bin/sh
# Runs a class of Kafka from the jars beside this folder.
home=$(cd "$(dirname "$0")/.." && pwd)
exec "${JAVA:-java}" --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow -XX:-UsePerfData \
  ${KAFKA_OPTS:-} ${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile="$home/config/log4j2.properties"} -cp "$home/libs/*" "$@"
