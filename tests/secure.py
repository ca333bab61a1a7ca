"""An Apache Kafka node with TLS, SASL/PLAIN and SASL/SCRAM, and the certificates for it, made by openssl."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.servers import ApacheKafka, free_port

HERE = "IP:127.0.0.1,DNS:localhost"
USER, PASSWORD = "tide", "cast-0"
LISTENERS = ("SSL", "SASL_SSL", "MUTUAL", "EXPIRED", "ELSEWHERE")
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
LOGIN = "org.apache.kafka.common.security"


class Authority:
    """A certificate authority of its own in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        made = ("-x509", *KEY, "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(self._key))
        openssl("req", *made, "-out", str(self.certificate))

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("openssl") else "certificates need openssl, and there is none"

    def issue(self, name: str, *, names: str = HERE, days: int = 2, password: str | None = None) -> tuple[Path, Path]:
        """Return a certificate for `names`, and its key; with -1 `days` it is out of date."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        secret = ("-passout", f"pass:{password}") if password else ("-nodes",)
        subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={names}")
        openssl("req", *KEY, *secret, *subject, "-keyout", str(key), "-out", str(request))
        signed = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial", "-days", str(days))
        openssl("x509", "-req", "-in", str(request), *signed, "-copy_extensions", "copy", "-out", str(certificate))
        return certificate, key


class SecureKafka(ApacheKafka):
    """One node with a listener for each of LISTENERS beside its plain one, which tests use to look in.

    MUTUAL wants a client's certificate, that of EXPIRED is out of date, that of ELSEWHERE names another host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports = {listener: free_port() for listener in LISTENERS}
        self.authority = Authority(self.folder)
        shown = {"days": {"EXPIRED": -1}, "names": {"ELSEWHERE": "DNS:broker.elsewhere.example"}}
        for listener in LISTENERS:
            choices: dict[str, Any] = {name: by[listener] for name, by in shown.items() if listener in by}
            certificate, key = self.authority.issue(listener, **choices)
            (self.folder / f"{listener}.keystore").write_text(key.read_text() + certificate.read_text())

    def address(self, listener: str) -> str:
        return f"127.0.0.1:{self.ports[listener]}"

    def options(self) -> dict[str, Any]:
        credentials = f"[name={USER},password={PASSWORD}]"
        scram = " ".join(f"--add-scram SCRAM-SHA-{bits}={credentials}" for bits in (256, 512))
        return {
            "env": self._java
            | os.environ
            | {
                "TIDECAST_KAFKA_CONTROLLER_PORT": str(self._controller_port),
                "TIDECAST_KAFKA_PROPERTIES": self._properties(),
                "TIDECAST_KAFKA_FORMAT": f"--standalone {scram}",
            }
        }

    def _properties(self) -> str:
        addresses = {"PLAINTEXT": self.bootstrap_servers} | {name: self.address(name) for name in LISTENERS}
        advertised = ",".join(f"{name}://{address}" for name, address in addresses.items())
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **dict.fromkeys(LISTENERS, "SSL")}
        protocols["SASL_SSL"] = "SASL_SSL"
        lines = [
            f"listeners={advertised},CONTROLLER://127.0.0.1:{self._controller_port}",
            f"advertised.listeners={advertised}",
            "listener.security.protocol.map=" + ",".join(f"{name}:{what}" for name, what in protocols.items()),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"listener.name.sasl_ssl.plain.sasl.jaas.config={LOGIN}.plain.PlainLoginModule required "
            f'user_{USER}="{PASSWORD}";',
            *(
                f"listener.name.sasl_ssl.scram-sha-{bits}.sasl.jaas.config={LOGIN}.scram.ScramLoginModule required;"
                for bits in (256, 512)
            ),
            "listener.name.mutual.ssl.client.auth=required",
        ]
        for listener in LISTENERS:
            at = f"listener.name.{listener.lower()}.ssl"
            lines += [f"{at}.keystore.type=PEM", f"{at}.keystore.location={self.folder / f'{listener}.keystore'}"]
            lines += [f"{at}.truststore.type=PEM", f"{at}.truststore.location={self.authority.certificate}"]
        return "\n".join(lines)


def openssl(*words: str) -> None:
    """Run openssl, and say what it said when it fails."""
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {words[0]} failed: {done.stderr[-1000:]}")
