"""An Apache Kafka node with an authorizer, users who log in, and no right that was not granted."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.servers import ApacheKafka, free_port

SCRIPT = Path(__file__).parents[1] / "deploy" / "kafka" / "acls.sh"
USERS = ("tidecast-worker", "tidecast-page", "tidecast-producer", "tidecast-requeue")
PASSWORD = "cast-0"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@dataclass(frozen=True)
class Right:
    """One line of acls.sh."""

    user: str
    operation: str
    resource: str
    name: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.user} {self.operation} {self.resource} {self.name}"

    def binding(self) -> AclBinding:
        resource = ResourceType[self.resource.replace("-", "_").upper()]
        pattern, operation = ResourcePatternType[self.pattern.upper()], AclOperation[self.operation.upper()]
        who = (f"User:{self.user}", "*", operation, AclPermissionType.ALLOW)
        return AclBinding(resource, self.name, pattern, *who)


def list_rights(names: Mapping[str, str]) -> list[Right]:
    """The rights that acls.sh would grant with these names in its environment."""
    environment = os.environ | {"KAFKA_ACLS": "echo", **names}
    done = subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True, check=True)
    rights = []
    for line in done.stdout.splitlines():
        add, _, principal, _, operation, resource, name, _, pattern = line.split(" ")
        assert add == "--add"
        rights.append(Right(principal.removeprefix("User:"), operation, resource.removeprefix("--"), name, pattern))
    return rights


class GuardedKafka(ApacheKafka):
    """One node: on its plain port everybody may do everything, on `guarded` a user only what was granted."""

    def __init__(self) -> None:
        super().__init__()
        self.guarded_port = free_port()

    @property
    def guarded(self) -> str:
        return f"127.0.0.1:{self.guarded_port}"

    def options(self) -> dict[str, Any]:
        listeners = f"PLAINTEXT://127.0.0.1:{self.port},GUARDED://{self.guarded}"
        users = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
        lines = (
            f"listeners={listeners},CONTROLLER://127.0.0.1:{self._controller_port}",
            f"advertised.listeners={listeners}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms=PLAIN",
            f"listener.name.guarded.plain.sasl.jaas.config={LOGIN} {users};",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
        )
        environment = {"TIDECAST_KAFKA_CONTROLLER_PORT": str(self._controller_port)}
        return {"env": self._java | os.environ | environment | {"TIDECAST_KAFKA_PROPERTIES": "\n".join(lines)}}

    def grant(self, *rights: Right) -> None:
        admin = self._admin()
        for future in admin.create_acls([right.binding() for right in rights]).values():
            future.result(30)

    def take(self, right: Right) -> None:
        own, admin = right.binding(), self._admin()
        who = (own.principal, own.host, own.operation, own.permission_type)
        like = AclBindingFilter(own.restype, own.name, own.resource_pattern_type, *who)
        (future,) = admin.delete_acls([like]).values()
        assert len(future.result(30)) == 1

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
