"""Documents that come and go, as events of the object store: from Kafka or RabbitMQ into the index."""
