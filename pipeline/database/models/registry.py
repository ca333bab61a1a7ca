"""Models: artifacts, which one is champion, which its shadow, and by which changes. Times are microseconds UTC."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, func, select, update

from pipeline.database.engine import reading, writing
from pipeline.database.models.aliases import (
    CHAMPION,
    SHADOW,
    drop_shadow_alias,
    line_of_succession,
    move_alias,
    read_alias,
)
from pipeline.database.schema.tables import BASELINE, alias_history, aliases, backtests, models
from pipeline.errors import ConfigError, Corrupt

log = structlog.get_logger()
_FACTS = [column for column in models.c if column.name != "artifact"]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A registered model without its artifact; key version. train_from, train_to, created_at: microseconds UTC."""

    version: int
    name: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    season: int | None  # steps
    step_seconds: float | None
    train_from: int | None
    train_to: int | None
    seed: int
    code: str
    sha256: str | None
    created_at: int


@dataclass(frozen=True, slots=True)
class AliasChange:
    """One move of an alias; `previous` is None for the first. changed_at: microseconds UTC."""

    id: int
    alias: str
    action: str  # promote | rollback, of the shadow also drop
    version: int
    previous: int | None
    reason: str
    changed_at: int


@dataclass(frozen=True, slots=True)
class Shadowing:
    """The model that scores beside the champion, and since when; microseconds UTC."""

    version: int
    since: int


class Registry:
    """The models table and the aliases; satisfies `pipeline.forecasting.scorer.Champion` and
    `pipeline.forecasting.shadow.Shadow`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(  # noqa: PLR0913  (the columns of one row)
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        train_from: int | None,
        train_to: int | None,
        seed: int,
        code: str,
        artifact: bytes,
        now: int,
    ) -> int:
        """Store a model and return its version, 1 or more; config and metrics must be JSON without NaN."""
        given = {"train_from": train_from, "train_to": train_to, "seed": seed, "code": code, "created_at": now}
        with writing(self._engine) as connection:
            return _insert(connection, name, config, metrics, artifact, given)

    def adopt(
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        code: str,
        artifact: bytes,
        expected: int | None,
        reason: str,
        now: int,
    ) -> int | None:
        """Make an artifact champion that no history has made, if the champion is still `expected`; return its version.

        It is stored unless a version has these bytes already. None, with nothing stored, if the champion is another by
        now: of several who adopt one at the same time, one does.
        """
        given = {"train_from": None, "train_to": None, "seed": 0, "code": code, "created_at": now}
        same = select(func.max(models.c.version)).where(
            models.c.sha256 == hashlib.sha256(artifact).hexdigest(), models.c.artifact.is_not(None)
        )
        with writing(self._engine) as connection:
            found: int | None = connection.execute(same).scalar()
            version = _insert(connection, name, config, metrics, artifact, given) if found is None else found
            if not move_alias(connection, CHAMPION, "promote", version, expected, reason=reason, now=now):
                connection.rollback()
                return None
            drop_shadow_alias(connection, version, reason=f"it became champion: {reason}", now=now)
        log.info("champion changed", action="promote", version=version, previous=expected, reason=reason)
        return version

    def describe_baseline(self, config: Mapping[str, Any], *, season: int, step_seconds: float) -> None:
        """Note the grid with the seasonal naive, version 0: views scale errors by `season` steps of `step_seconds`."""
        values = {"config": dict(config), "season": season, "step_seconds": step_seconds}
        with writing(self._engine) as connection:
            connection.execute(update(models).where(models.c.version == BASELINE).values(values))

    def champion(self) -> int | None:
        """Return the version that the alias `champion` points at, or None."""
        with reading(self._engine) as connection:
            return read_alias(connection, CHAMPION)

    def shadow(self) -> int | None:
        """Return the version that the alias `shadow` points at, or None."""
        with reading(self._engine) as connection:
            return read_alias(connection, SHADOW)

    def shadowing(self) -> Shadowing | None:
        """Return the shadow and since when it is one, or None."""
        change = alias_history.c
        since = select(func.max(change.changed_at)).where(
            change.alias == SHADOW, change.action == "promote", change.version == aliases.c.version
        )
        query = select(aliases.c.version, since.scalar_subquery()).where(aliases.c.alias == SHADOW)
        with reading(self._engine) as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else Shadowing(*found)

    def artifact(self, version: int) -> bytes:
        """Return a version's artifact; Corrupt when the bytes do not match the stored hash."""
        query = select(models.c.artifact, models.c.sha256).where(models.c.version == version)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None or row.artifact is None:
            raise ConfigError(f"model {version} has no artifact; see tidecast models list")
        content = bytes(row.artifact)
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise Corrupt(f"the artifact of model {version} does not match its sha256; roll back to another version")
        return content

    def promote(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Make a version champion if the champion is still `expected`; False when it is not.

        Version 0 is the seasonal naive. Raises ConfigError for a version that is unknown or has no artifact.
        """
        with writing(self._engine) as connection:
            _require_artifact(connection, version, CHAMPION)
            moved = move_alias(connection, CHAMPION, "promote", version, expected, reason=reason, now=now)
            if moved:  # a champion needs no shadow period
                drop_shadow_alias(connection, version, reason=f"it became champion: {reason}", now=now)
        if moved:
            log.info("champion changed", action="promote", version=version, previous=expected, reason=reason)
        return moved

    def promote_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Make the shadow `version` champion if both are still what they were; False, with nothing changed, if not."""
        with writing(self._engine) as connection:
            _require_artifact(connection, version, CHAMPION)
            # Both are locked, the champion first as `promote` does, and looked at before anything is changed.
            champion, shadow = (read_alias(connection, alias, lock=True) for alias in (CHAMPION, SHADOW))
            if shadow != version or champion != expected:
                return False
            if not move_alias(connection, CHAMPION, "promote", version, expected, reason=reason, now=now):
                return False  # without a champion there was nothing to lock
            moved = drop_shadow_alias(connection, version, reason=f"it became champion: {reason}", now=now)
        log.info("champion changed", action="promote", version=version, previous=expected, reason=reason)
        return moved

    def begin_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Let a version score beside the champion, in place of the shadow `expected`; False when that is another."""
        with writing(self._engine) as connection:
            _require_artifact(connection, version, SHADOW)
            return move_alias(connection, SHADOW, "promote", version, expected, reason=reason, now=now)

    def drop_shadow(self, version: int, *, reason: str, now: int) -> bool:
        """End the shadow `version`; False when it is the shadow no longer."""
        with writing(self._engine) as connection:
            return drop_shadow_alias(connection, version, reason=reason, now=now)

    def rollback(self, now: int) -> int:
        """Make the champion before the present one champion again and return its version; ConfigError if none."""
        with writing(self._engine) as connection:
            present = read_alias(connection, CHAMPION)
            before = line_of_succession(connection)[:-1]
            if present is None or not before:
                raise ConfigError("there is no earlier champion to roll back to; see tidecast models list")
            reason = f"rollback from {present}"
            if not move_alias(connection, CHAMPION, "rollback", before[-1], present, reason=reason, now=now):
                raise ConfigError("the champion changed meanwhile; look again and repeat")
        log.warning("champion changed", action="rollback", version=before[-1], previous=present)
        return before[-1]

    def models(self, limit: int = 100) -> list[ModelRow]:
        """Return the newest models, newest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(*_FACTS).order_by(models.c.version.desc()).limit(limit))
            return [ModelRow(**row) for row in rows.mappings()]

    def model(self, version: int) -> ModelRow:
        """Return one model; ConfigError if there is none."""
        with reading(self._engine) as connection:
            row = connection.execute(select(*_FACTS).where(models.c.version == version)).mappings().one_or_none()
        if row is None:
            raise ConfigError(f"model {version} does not exist; see tidecast models list")
        return ModelRow(**row)

    def history(self, limit: int = 1000) -> list[AliasChange]:
        """Return the newest changes of the champion, newest first."""
        return self._changes(CHAMPION, limit)

    def shadow_history(self, limit: int = 1000) -> list[AliasChange]:
        """Return the newest changes of the shadow, newest first."""
        return self._changes(SHADOW, limit)

    def _changes(self, alias: str, limit: int) -> list[AliasChange]:
        query = select(alias_history).where(alias_history.c.alias == alias).order_by(alias_history.c.id.desc())
        with reading(self._engine) as connection:
            rows = connection.execute(query.limit(limit))
            return [AliasChange(**row) for row in rows.mappings()]

    def record_backtest(  # noqa: PLR0913  (the columns of one row)
        self,
        *,
        version: int,
        compared_to: int | None,
        origins: int,
        mase: float | None,
        wql: float | None,
        coverage_80: float | None,
        n: int,
        now: int,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a model's figures over `origins` rolling origins and `n` cases; None or NaN is no evidence."""
        values = {
            "model_version": version,
            "compared_to": compared_to,
            "origins": origins,
            "mase": _evidence(mase),
            "wql": _evidence(wql),
            "coverage_80": _evidence(coverage_80),
            "n": n,
            "metrics": dict(metrics or {}),
            "created_at": now,
        }
        with writing(self._engine) as connection:
            connection.execute(backtests.insert().values(values))

    def backtests(self, version: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest backtests, newest first, of one model or of all."""
        query = select(backtests).order_by(backtests.c.id.desc()).limit(limit)
        if version is not None:
            query = query.where(backtests.c.model_version == version)
        with reading(self._engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _insert(
    connection: Connection,
    name: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    artifact: bytes,
    given: Mapping[str, Any],
) -> int:
    values = {
        "name": name,
        "config": dict(config),
        "metrics": dict(metrics),
        "season": config.get("season"),
        "step_seconds": config.get("step_seconds"),
        "artifact": artifact,
        "sha256": hashlib.sha256(artifact).hexdigest(),
        **given,
    }
    return int(connection.execute(models.insert().values(values).returning(models.c.version)).scalar_one())


def _require_artifact(connection: Connection, version: int, alias: str) -> None:
    has_artifact = select(models.c.artifact.is_not(None)).where(models.c.version == version)
    has_artifact = has_artifact.with_for_update(read=True)  # retention cannot take it away before the commit
    if version != BASELINE and not connection.execute(has_artifact).scalar():
        raise ConfigError(f"model {version} cannot be {alias}: it has no artifact; see tidecast models list")


def _evidence(figure: float | None) -> float | None:
    return None if figure is None or math.isnan(figure) else float(figure)
