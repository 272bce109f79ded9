"""Topics: made on purpose, never by accident."""

from collections.abc import Mapping

from kafka import KafkaAdminClient, errors
from kafka.admin import NewTopic

from governor.adapters.kafka.connection import Connection, translated
from governor.core.errors import ConfigError


def create(
    connection: Connection,
    topic: str,
    *,
    partitions: int,
    replication: int,
    configs: Mapping[str, str] | None = None,
) -> bool:
    """Create a topic with these settings of its own; return False where it exists already.

    Raise TransientError where no broker answers, PermanentError where it refuses, ConfigError
    where it is too old to choose the replication itself.
    """
    with translated(connection):
        admin = KafkaAdminClient(**connection.options())
        try:
            admin.create_topics(
                [
                    NewTopic(
                        name=topic,
                        num_partitions=partitions,
                        replication_factor=replication,
                        topic_configs=dict(configs or {}),
                    )
                ]
            )
        except errors.TopicAlreadyExistsError:
            return False
        except errors.IncompatibleBrokerVersion as error:
            raise ConfigError(
                f"{error}: brokers this old must be told --replication, such as 1"
            ) from error
        finally:
            admin.close()
    return True


def exists(connection: Connection, topic: str) -> bool:
    """Return whether the brokers know the topic."""
    with translated(connection):
        admin = KafkaAdminClient(**connection.options())
        try:
            (described,) = admin.describe_topics([topic])
        finally:
            admin.close()
    return errors.for_code(described["error_code"]) is errors.NoError
