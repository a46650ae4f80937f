#!/bin/bash
# Starts the broker with SASL and ACLs; formats its volume on the first start. The administrator's password is a file.
set -eu
umask 077
home=${KAFKA_HOME:-/opt/kafka}
here=$(dirname "$0")
data=${KAFKA_LOG_DIRS:-/var/lib/kafka/data}
config=${KAFKA_CONFIG:-/tmp/server.properties}
password=$(cat "${KAFKA_ADMIN_PASSWORD_FILE:-/run/secrets/kafka_admin}")
internal=${KAFKA_INTERNAL:-kafka:9092}
local=${KAFKA_LOCAL:-127.0.0.1:9094}
controller=${KAFKA_CONTROLLER_PORT:-9093}

module() { printf 'org.apache.kafka.common.security.%s required username="admin" password="%s"' "$1" "$password"; }
scram="$(module scram.ScramLoginModule)"
plain="$(module plain.PlainLoginModule)"
cat "$here/server.properties" - > "$config" <<PROPERTIES
log.dirs=$data
listeners=INTERNAL://:${internal##*:},LOCAL://:${KAFKA_LOCAL_PORT:-${local##*:}},CONTROLLER://127.0.0.1:$controller
advertised.listeners=INTERNAL://$internal,LOCAL://$local
controller.quorum.voters=1@127.0.0.1:$controller
listener.name.internal.scram-sha-512.sasl.jaas.config=$scram;
listener.name.local.scram-sha-512.sasl.jaas.config=$scram;
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=$plain user_admin="$password";
PROPERTIES

if [ ! -e "$data/meta.properties" ]; then
  cluster=$(head -c 16 /dev/urandom | base64 | tr -d '=' | tr '+/' 'ab')
  "$home/bin/kafka-storage.sh" format --ignore-formatted --cluster-id "$cluster" --config "$config" \
    --add-scram "SCRAM-SHA-512=[name=admin,password=$password]"
fi
# Classes as the image's build left them: a killed broker is back seconds sooner. The image's own launcher does the same.
if [ -s "$home/kafka.jsa" ]; then
  export KAFKA_OPTS="${KAFKA_OPTS:-} -XX:SharedArchiveFile=$home/kafka.jsa -Xshare:auto"
fi
exec "$home/bin/kafka-server-start.sh" "$config"
