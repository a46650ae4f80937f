#!/bin/sh
# A restarted container keeps its name in its group, so it takes its partitions back at once; a scaled one has its own.
export OTB_INSTANCE="${OTB_INSTANCE:-${HOSTNAME:-1}}"
exec "$@"
