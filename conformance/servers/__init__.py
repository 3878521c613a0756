"""Real servers that a test starts and ends: Kafka, Elasticsearch, RabbitMQ. No cluster, no container."""
