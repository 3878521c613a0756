"""How a client of Kafka connects: with a login where the brokers ask for one."""

from pathlib import Path

from rag_common.files import read_credentials


def connection(brokers: str, credentials: Path | None) -> dict[str, str | int | float | bool]:
    """Settings of librdkafka for `host:port[,host:port]`; raises `SecretFileError`.

    The login is read once: a client keeps it. On the wire it is in the clear, so the mesh encrypts.
    """
    settings: dict[str, str | int | float | bool] = {"bootstrap.servers": brokers}
    if credentials is None:
        return settings
    login = read_credentials(credentials)
    return settings | {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": login.username,
        "sasl.password": login.password,
    }
