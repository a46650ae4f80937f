"""What the pipeline costs, against bare Kafka hops and against pipelines of a transaction a message."""
