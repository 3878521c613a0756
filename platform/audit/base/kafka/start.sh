#!/bin/sh
# One broker, which is a controller as well: its number is the pod's. An empty disk is formatted first.
set -eu
settings=/run/kafka/server.properties
cp /etc/kafka/server.properties $settings
cat >> $settings <<END
node.id=${HOSTNAME##*-}
advertised.listeners=PLAINTEXT://$HOSTNAME.kafka-brokers.rag-audit.svc.cluster.local:9092
END
export CLASSPATH='/opt/kafka/libs/*'
options='-XX:-UsePerfData -Dlog4j2.configurationFile=/etc/kafka/log4j2.yaml'
[ -f /data/log/meta.properties ] ||
  java $options -Xmx64m kafka.tools.StorageTool format -t "$KAFKA_CLUSTER" -c $settings
exec java $options $KAFKA_JAVA kafka.Kafka $settings
