"""TLS towards the brokers: always verified, and what is wrong with it said in one line.

kafka-python tries again and again when a handshake fails, and in the end says only that it could not connect. So a
connection of our own comes first: it makes the same handshake, asks the broker for its versions, and reads why not.
"""

import socket
import ssl

from pipeline.errors import ConfigError, Service, TidecastError, Unavailable
from pipeline.kafka.login import log_in
from pipeline.settings import KafkaSettings
from pipeline.tls import client_context, said

ASK_SECONDS = 5.0
PORT = 9092
API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000001 ffff")  # length, key 18, version 0, correlation 1, no client
EXPIRED = (9, 10)  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED


def build_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """Return the TLS of every connection: TLS 1.2 or later, chain and host name verified; None without TLS.

    ConfigError when a file is missing or does not fit.
    """
    return client_context(settings, "kafka") if settings.encrypted else None


def check_security(settings: KafkaSettings) -> None:
    """Shake hands and log in with the brokers of kafka.bootstrap_servers in turn until one answers.

    Raises what was wrong with the last one when all of them refuse, or are refused: ConfigError when settings are to
    change, Unavailable when a certificate has expired. A broker that is away is left to the client, which waits for it.
    """
    if settings.security_protocol == "PLAINTEXT":
        return
    context = build_context(settings)
    refused: TidecastError | None = None
    for address in settings.bootstrap_servers.split(","):
        host, port = _split(address)
        try:
            with socket.create_connection((host, port), ASK_SECONDS) as plain:
                if context is None:
                    log_in(plain, address, settings)
                else:
                    _shake_hands(plain, host, context, settings)
            return
        except ssl.SSLCertVerificationError as error:
            refused = _unverified(address, error)
        except ssl.SSLError as error:
            refused = _unencrypted(address, error)
        except OSError:
            continue
    if refused is not None:
        raise refused


def _shake_hands(plain: socket.socket, host: str, context: ssl.SSLContext, settings: KafkaSettings) -> None:
    """Ask for one answer over TLS: a broker that wants a client's certificate says so only then (TLS 1.3)."""
    with context.wrap_socket(plain, server_hostname=host) as encrypted:
        if settings.sasl_mechanism is None:
            encrypted.sendall(API_VERSIONS)
            encrypted.recv(4)
        else:
            log_in(encrypted, host, settings)


def _unverified(address: str, error: ssl.SSLCertVerificationError) -> TidecastError:
    why = error.verify_message.rstrip(".")
    if error.verify_code in EXPIRED:
        return Unavailable(
            f"the certificate of Kafka at {address} is out of date ({why}); renew it on the broker", Service.BROKER
        )
    if "mismatch" in why:
        return ConfigError(
            f"Kafka at {address} shows the certificate of another host ({why}); write kafka.bootstrap_servers and the "
            "broker's advertised.listeners as the certificate names them"
        )
    return ConfigError(
        f"the certificate of Kafka at {address} cannot be trusted ({why}); "
        "set kafka.ssl_cafile to the authority that signed it"
    )


def _unencrypted(address: str, error: ssl.SSLError) -> TidecastError:
    if isinstance(error, ssl.SSLEOFError):  # what a plain listener does, and also a broker that is just going down
        return Unavailable(
            f"Kafka at {address} hung up while TLS began; check that the port speaks TLS, or kafka.security_protocol",
            Service.BROKER,
        )
    if error.reason == "WRONG_VERSION_NUMBER":
        return ConfigError(f"{address} does not speak TLS; check the port, or kafka.security_protocol")
    if "CERTIFICATE" in (error.reason or ""):
        return ConfigError(
            f"Kafka at {address} does not accept this client's certificate ({said(error)}); "
            "check kafka.ssl_certfile and ssl_keyfile"
        )
    return ConfigError(f"no TLS with Kafka at {address} ({said(error)}); check kafka.security_protocol")


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.strip().rpartition("://")[2].rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() else (address.strip(), PORT)
