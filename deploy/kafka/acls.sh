#!/usr/bin/env bash
# Gives the users of tidecast the rights that each needs on Apache Kafka with an authorizer, and no other: one kafka-acls.sh a right.
# The names are those of [kafka] in tidecast.toml. Topics are created before, by an administrator, and kafka.create_topics is off.
#   KAFKA_ACLS="kafka-acls.sh --bootstrap-server localhost:9092 --command-config admin.properties" deploy/kafka/acls.sh
#   KAFKA_ACLS=echo deploy/kafka/acls.sh                                    shows them
set -euo pipefail

acls=${KAFKA_ACLS:-kafka-acls.sh --bootstrap-server localhost:9092}
input=${INPUT_TOPIC:-observations}
output=${OUTPUT_TOPIC:-forecasts}
dead_letters=${DEAD_LETTER_TOPIC:-observations.dead-letters}
group=${GROUP:-tidecast}

allow() { # USER OPERATION RESOURCE NAME [prefixed]: Read and Write include Describe
  # shellcheck disable=SC2086  # a command with its arguments
  $acls --add --allow-principal "User:$1" --operation "$2" "--$3" "$4" --resource-pattern-type "${5:-literal}"
}

# tidecast stream, and tidecast doctor
worker=${WORKER:-tidecast-worker}
allow "$worker" Read topic "$input"
allow "$worker" Write topic "$output"
allow "$worker" Write topic "$dead_letters"
allow "$worker" Read group "$group"
allow "$worker" Write transactional-id "$group-" prefixed

# tidecast serve, for the lag of partitions; without it the page says nothing of the lag
page=${PAGE:-tidecast-page}
allow "$page" Describe topic "$input"

# tidecast produce
producer=${PRODUCER:-tidecast-producer}
allow "$producer" Write topic "$input"
allow "$producer" Describe topic "$output"
allow "$producer" Describe topic "$dead_letters"

# tidecast dead-letters requeue
requeue=${REQUEUE:-tidecast-requeue}
allow "$requeue" Write topic "$input"
allow "$requeue" Describe topic "$output"
allow "$requeue" Read topic "$dead_letters"
allow "$requeue" Read group "$group.requeue"
allow "$requeue" Write transactional-id "$group-requeue" prefixed

# tidecast schedule and jobs speak with the database only.
