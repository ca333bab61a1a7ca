#!/usr/bin/env bash
# Starts one Apache Kafka node (KRaft) on loopback, in the foreground, for development and tests.
# The jars come from KAFKA_HOME/libs or, once, from Maven into a cache folder. See README.md beside this file.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${TIDECAST_KAFKA_PORT:-9092}
data=${TIDECAST_KAFKA_DATA:-}
cache=${TIDECAST_KAFKA_CACHE:-$HOME/.cache/tidecast/kafka}
fetch_only=no

usage() {
  cat <<TEXT
usage: kafka.sh [--port N] [--data FOLDER] [--fetch]
  --port N       port on 127.0.0.1 (TIDECAST_KAFKA_PORT, default 9092); N+1 is taken as well unless
                 TIDECAST_KAFKA_CONTROLLER_PORT names another; TIDECAST_KAFKA_PROPERTIES has more lines of
                 server.properties, which win; TIDECAST_KAFKA_FORMAT has other options of the storage tool than
                 --standalone, and TIDECAST_KAFKA_CLUSTER the cluster's id (for more nodes, or SCRAM credentials)
  --data FOLDER  keeps topics there (TIDECAST_KAFKA_DATA, default: a new temporary folder)
  --fetch        only fill the cache of jars
TEXT
}

fail() {
  echo "kafka.sh: $*" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --port) [ $# -ge 2 ] || fail "--port needs a number"; port=$2; shift 2 ;;
    --data) [ $# -ge 2 ] || fail "--data needs a folder"; data=$2; shift 2 ;;
    --fetch) fetch_only=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
done
case $port in '' | *[!0-9]*) fail "the port must be a number, not '$port'" ;; esac
controller=${TIDECAST_KAFKA_CONTROLLER_PORT:-$((port + 1))}

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" > /dev/null || fail "there is no java; install Java 17 or later (Debian: apt-get install default-jre-headless)"

if [ -n "${KAFKA_HOME:-}" ]; then
  libs=$KAFKA_HOME/libs
  [ -d "$libs" ] || fail "KAFKA_HOME is $KAFKA_HOME, which has no folder libs"
else
  # Another pom means another folder, so a new version never mixes with the jars of the last one.
  libs=$cache/$(cksum < "$here/pom.xml" | tr -s ' ' -)
  if [ ! -e "$libs" ]; then
    command -v mvn > /dev/null || fail "there is neither KAFKA_HOME nor Maven; set one or install the other (Debian: apt-get install maven)"
    mkdir -p "$cache"
    fresh=$(mktemp -d "$cache/fetching.XXXXXX")
    echo "kafka.sh: fetching Apache Kafka into $libs" >&2
    mvn --batch-mode --quiet -Dstyle.color=never --file "$here/pom.xml" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$fresh" >&2 || { rm -rf "$fresh"; fail "Maven could not fetch Apache Kafka"; }
    # Two starts may fetch at once: the one that comes second finds the folder there and drops its own.
    mv -T "$fresh" "$libs" 2> /dev/null || rm -rf "$fresh"
  fi
fi
[ "$fetch_only" = no ] || { echo "$libs"; exit 0; }

[ -n "$data" ] || data=$(mktemp -d "${TMPDIR:-/tmp}/tidecast-kafka.XXXXXX")
mkdir -p "$data"
settings=$data/server.properties
cat > "$settings" <<TEXT
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:$controller
log.dirs=$data/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
${TIDECAST_KAFKA_PROPERTIES:-}
TEXT

classes="$libs/*"
log4j=-Dlog4j2.configurationFile=$here/log4j2.properties
if [ ! -e "$data/log/meta.properties" ]; then
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
  id=${TIDECAST_KAFKA_CLUSTER:-K${id#?}}  # an id that begins with - would be read as an option
  # shellcheck disable=SC2086  # TIDECAST_KAFKA_FORMAT is a list of options
  "$java" -Xmx256m -XX:TieredStopAtLevel=1 "$log4j" -cp "$classes" kafka.tools.StorageTool format \
    ${TIDECAST_KAFKA_FORMAT---standalone} --cluster-id "$id" --config "$settings" > "$data/format.log" 2>&1 || { cat "$data/format.log" >&2; fail "the data folder $data could not be formatted"; }
fi

# The ready message comes from a child, because this process becomes the broker.
(
  for _ in $(seq 300); do
    if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
      echo "kafka.sh: Apache Kafka answers on 127.0.0.1:$port, data in $data"
      exit 0
    fi
    kill -0 "$$" 2> /dev/null || exit 0
    sleep 0.2
  done
) &

# shellcheck disable=SC2086  # KAFKA_JAVA_OPTIONS is a list of options
exec "$java" -Xmx512m -XX:+UseSerialGC ${KAFKA_JAVA_OPTIONS:-} "$log4j" -cp "$classes" kafka.Kafka "$settings"
