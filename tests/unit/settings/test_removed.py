"""Keys that were settings once: a deployment that sets one starts, and is told what happens instead."""

import re
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.challengers import COMMON
from pipeline.settings.removed import REMOVED
from pipeline.settings.sources import load
from tidecast import Forecaster


def loaded(file: str = "", sets: tuple[str, ...] = (), *, place: Path, **environ: str) -> tuple[Settings, list[str]]:
    told: list[str] = []
    path = place / "tidecast.toml"
    path.write_text(file)
    return load(path, sets, environ, told.append), told


@pytest.mark.parametrize("key", REMOVED)
def test_a_removed_key_has_no_effect_and_one_line_says_what_happens_now(key: str, tmp_path: Path) -> None:
    section, name = key.split(".")
    assert name not in Settings.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    line = f"{key} is no setting any more and has no effect: {REMOVED[key]}; delete the key"
    variable = f"TIDECAST_{section}__{name}".upper()
    for written in (
        loaded(f"[{section}]\n{name} = 7\n", place=tmp_path),
        loaded(sets=(f"{key}=7",), place=tmp_path),
        loaded(place=tmp_path, **{variable: "7"}),
    ):
        assert written[1] == [line]
        assert written[0].model_dump(exclude={"kafka": {"instance"}}) == Settings().model_dump(
            exclude={"kafka": {"instance"}}
        )


@pytest.mark.parametrize("key", REMOVED)
def test_what_happens_now_names_keys_that_there_are(key: str) -> None:
    for section, name in re.findall(rf"\b({'|'.join(Settings.model_fields)})\.([a-z_]+)", REMOVED[key]):
        assert name in Settings.model_fields[section].annotation.model_fields  # type: ignore[union-attr]


def test_the_keys_beside_a_removed_one_count(tmp_path: Path) -> None:
    settings, told = loaded("[training]\nema = 0.9\nsteps = 7\n", place=tmp_path)
    assert (settings.training.steps, len(told)) == (7, 1)


def test_a_challenger_may_have_one_too(tmp_path: Path) -> None:
    settings, told = loaded("[challengers.small]\nheads = 2\nhidden = 8\n", place=tmp_path)
    assert settings.challengers == {"small": {"hidden": 8}}
    assert [line.partition(" is no setting")[0] for line in told] == ["challengers.small.heads"]


def test_what_was_never_a_key_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key training\.emma"):
        loaded("[training]\nemma = 0.9\n", place=tmp_path)


def test_a_forecaster_says_that_the_key_is_gone() -> None:
    with pytest.raises(ConfigError, match=re.escape("training.ema is no setting any more")):
        Forecaster("1h", 4, training={"ema": 0.9})


def test_a_command_says_so_on_stderr_and_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    from pipeline.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["--set", "jobs.lease=5", "config", "check"])
    assert ended.value.code == 0
    assert capfd.readouterr().err.splitlines() == [
        "tidecast: settings: jobs.lease is no setting any more and has no effect: a scheduler that is silent for 30 "
        "seconds is replaced; delete the key"
    ]


def test_no_removed_key_is_listed_as_common_to_challengers() -> None:
    assert {key.partition(".")[2] for key in REMOVED}.isdisjoint(COMMON)
