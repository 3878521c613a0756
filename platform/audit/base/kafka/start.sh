#!/bin/sh
# One broker, which is a controller as well: its number is the pod's. An empty disk is formatted first. The clients'
# logins are the vault's, read at the start.
set -eu
settings=/run/kafka/server.properties
cp /etc/kafka/server.properties $settings
host=$HOSTNAME.kafka-brokers.rag-audit.svc.cluster.local
cat >> $settings <<END
node.id=${HOSTNAME##*-}
advertised.listeners=CLIENTS://$host:9092,BROKERS://$host:9094
$(cat /vault/secrets/logins.properties)
END
export CLASSPATH='/opt/kafka/libs/*'
options='-XX:-UsePerfData -Dlog4j2.configurationFile=/etc/kafka/log4j2.yaml'
[ -f /data/log/meta.properties ] ||
  java $options -Xmx64m kafka.tools.StorageTool format -t "$KAFKA_CLUSTER" -c $settings
exec java $options $KAFKA_JAVA kafka.Kafka $settings
