#!/bin/sh
# The official image's command of this name, on bare jars.
exec "$(dirname "$0")/kafka-run-class.sh" -Xmx128m -XX:TieredStopAtLevel=1 kafka.tools.StorageTool "$@"
