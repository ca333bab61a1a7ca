"""Settings -> the arguments of kafka-python's clients, and its errors -> ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from kafka import errors

from pipeline.errors import ConfigError, Fenced, Replaced, Service, TidecastError, Unavailable
from pipeline.kafka.encryption import build_context
from pipeline.settings import KafkaSettings

CODECS = {"lz4": "lz4", "zstandard": "zstd", "snappy": "snappy"}
WRONG_SETTINGS = (
    errors.KafkaConfigurationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.InvalidTopicError,
    errors.MessageSizeTooLargeError,
)
ACLS = "deploy/kafka/acls.sh lists the rights that each command needs"
NOT_OURS = (
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
    errors.ProducerFencedError,
    errors.InvalidProducerEpochError,
)


def arguments(settings: KafkaSettings) -> dict[str, Any]:
    """Build what every client takes: brokers, security and timeouts."""
    milliseconds = int(settings.call_timeout * 1000)
    password = settings.sasl_password
    chosen = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
        "ssl_context": build_context(settings),
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": password and password.get_secret_value(),
        "request_timeout_ms": milliseconds,
        "bootstrap_timeout_ms": milliseconds,
        "reconnect_backoff_max_ms": 1000,
    }
    return {key: value for key, value in chosen.items() if value is not None}


@contextmanager
def explained(doing: str, settings: KafkaSettings) -> Iterator[None]:
    """Turn the library's errors into ours: Fenced, ConfigError or Unavailable, each one line."""
    try:
        yield
    except TidecastError:
        raise
    except errors.FencedInstanceIdError as error:
        raise Replaced(
            f"{doing}: another process has joined as kafka.instance {settings.instance}; "
            "if both are wanted, give each its own name"
        ) from error
    except NOT_OURS as error:
        raise Fenced(f"{doing}: this worker's generation is over ({_said(error)})") from error
    except errors.AuthorizationError as error:
        raise ConfigError(f"{doing}: {_lacking(error, settings)}; {ACLS}") from error
    except WRONG_SETTINGS as error:
        raise ConfigError(f"{doing}: {_said(error)}; check [kafka]") from error
    except (errors.KafkaError, OSError) as error:
        raise Unavailable(
            f"{doing}: Kafka at {settings.bootstrap_servers} does not answer as it should ({_said(error)}); "
            "check kafka.bootstrap_servers, kafka.security_protocol and that the broker runs",
            Service.BROKER,
        ) from error


def missing_codecs() -> list[str]:
    """Name the compression codecs that this process could not read."""
    return [codec for module, codec in CODECS.items() if find_spec(module) is None]


def require_codecs() -> None:
    """Refuse to consume without every codec: one batch in a missing codec would stop a partition for good."""
    missing = missing_codecs()
    if missing:
        raise ConfigError(
            f"messages compressed with {', '.join(missing)} could not be read; run pip install 'tidecast[compression]'"
        )


def _lacking(error: errors.AuthorizationError, settings: KafkaSettings) -> str:
    """Say which right the user of these settings lacks."""
    user = f"the user {settings.sasl_username}" if settings.sasl_username else "this client's user"
    if isinstance(error, errors.GroupAuthorizationFailedError):
        return f"{user} lacks the right Read on the group {settings.group}"
    if isinstance(error, errors.TransactionalIdAuthorizationFailedError):
        return f"{user} lacks the right Write on transactional ids that begin with {settings.group}-"
    return f"{user} lacks a right ({_said(error)})"


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}" if text else name
