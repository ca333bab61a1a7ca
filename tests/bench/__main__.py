"""`python -m tests.bench`: measure, as JSON lines on stdout and in tests/bench/results."""

import os
import sys
from pathlib import Path

import click

from tests.bench.results import say


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure tidecast beside its peers and what bounds it. Without a name, everything runs, one after the other.

    Figures go to stdout and to tests/bench/results, one JSON object a line; see tests/bench/README.md.
    """
    if context.invoked_subcommand is None:
        for command in (ring, ingest, end_to_end):
            context.invoke(command)


@bench.command(name="end-to-end")
@click.option("--events", type=click.IntRange(1_000), default=600_000, show_default=True, help="Events of a load.")
@click.option("--series", type=click.IntRange(10), default=10_000, show_default=True, help="Series of a load.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="A figure is their median.")
@click.option("--database", type=click.Choice(["sqlite", "postgresql", "both"]), default="both", show_default=True)
@click.option("--peers/--no-peers", default=True, show_default=True, help="Measure Quix Streams in the same run.")
@click.option(
    "--only", multiple=True, help="A load: same-hour, late, import, due-naive, due-attention. May be repeated."
)
@click.option("--quick", is_flag=True, help="1,000 series, 40,000 events, one round: to see that it works.")
@click.option(
    "--profile", type=click.Path(file_okay=False, path_type=Path), help="Write profiles there; figures are then lower."
)
def end_to_end(
    events: int,
    series: int,
    rounds: int,
    database: str,
    peers: bool,
    only: tuple[str, ...],
    quick: bool,
    profile: Path | None,
) -> None:
    """Events per second of a worker: Kafka in, SQL and forecast messages out."""
    from tests.bench import end_to_end as bench

    unknown = set(only) - set(bench.PROTOCOLS)
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(bench.PROTOCOLS)}")
    if profile:
        profile.mkdir(parents=True, exist_ok=True)
    sizes = bench.Sizes(1_000, 40_000, 1) if quick else bench.Sizes(series, events, rounds)
    path = bench.run(sizes, database=database, with_peers=peers, only=only, profiles=profile)
    say(f"written to {path}")


@bench.command()
@click.option("--events", type=click.IntRange(10_000), default=600_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def ingest(events: int, rounds: int) -> None:
    """Messages per second from Kafka to columns, with and without the batch hook."""
    from tests.bench import ingest as bench

    say(f"written to {bench.run(events, rounds)}")


@bench.command()
@click.option("--series", type=click.IntRange(10), default=10_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def ring(series: int, rounds: int) -> None:
    """Appends and windows per second of the ring, beside a deque per series."""
    from tests.bench import ring as bench

    say(f"written to {bench.run(series, rounds)}")


@bench.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--beside",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Root of a checkout of another commit, which reads the flat events in turn.",
)
def decoding(rounds: int, beside: Path | None) -> None:
    """Readings per second from bytes to columns, by the shape of the messages; by name only, two minutes."""
    from tests.bench import decoding as bench

    say(f"written to {bench.run(rounds, beside)}")


@bench.command()
@click.option("--series", type=click.IntRange(1), default=500, show_default=True, help="Of each of four partitions.")
@click.option("--turns", type=click.IntRange(3), default=12, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def telemetry(series: int, turns: int, rounds: int) -> None:
    """Share of a turn that goes into counting for the metrics, and what a scrape costs; by name only."""
    from tests.bench import telemetry as bench

    say(f"written to {bench.run(series, turns, rounds)}")


@bench.command()
def sizing() -> None:
    """Bytes on disk of an observation, a forecast and a model, on SQLite and PostgreSQL; by name only."""
    from tests.bench import sizing as bench

    say(f"written to {bench.run()}")


@bench.command()
@click.option("--series", type=click.IntRange(40), default=10_000, show_default=True)
@click.option("--origins", type=click.IntRange(48), default=168, show_default=True, help="Hourly forecasts of each.")
@click.option("--database", type=click.Choice(["sqlite", "postgresql", "both"]), default="both", show_default=True)
def reading(series: int, origins: int, database: str) -> None:
    """Queries, the page's reads and the monitor's hour at size, and an upgrade; by name only, a quarter hour."""
    from tests.bench import reading as bench

    kinds = ("sqlite", "postgresql") if database == "both" else (database,)
    say(f"written to {bench.run(bench.Size(series, origins), kinds)}")


@bench.command()
@click.option(
    "--series", "sizes", multiple=True, type=click.IntRange(60), default=(1_000, 10_000, 100_000), show_default=True
)
@click.option("--database", type=click.Choice(["sqlite", "postgresql", "both"]), default="both", show_default=True)
def scale(sizes: tuple[int, ...], database: str) -> None:
    """What an event, a forecast and each job cost as the series grow; by name only, half an hour."""
    from tests.bench import scale as bench

    kinds = ("sqlite", "postgresql") if database == "both" else (database,)
    say(f"written to {bench.run(sizes, kinds)}")


@bench.command(name="m4-hourly")
@click.option("--data", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder of the M4 files.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), show_default=True, help="May be repeated.")
@click.option("--members", type=click.IntRange(1), default=1, show_default=True, help="Networks in an ensemble.")
@click.option("--threads", type=click.IntRange(0), default=0, show_default=True, help="0: one per core.")
@click.option("--set", "sets", multiple=True, help="A setting, as in `tidecast --set`; may be repeated.")
@click.option("--every-kind", is_flag=True, help="All kinds of networks one after the other, a line for each.")
def m4_hourly(
    data: Path | None, seeds: tuple[int, ...], members: int, threads: int, sets: tuple[str, ...], every_kind: bool
) -> None:
    """Accuracy on the official test of M4-Hourly; needs its files, so it is run by name only."""
    from tests.bench import accuracy as bench

    folder = data or bench.FOLDER
    if not folder.is_dir():
        raise click.UsageError(f"{folder} does not exist: give the folder of Hourly-train.csv with --data")
    measure = bench.run_every_kind if every_kind else bench.run
    say(f"written to {measure(folder, seeds=seeds, members=members, threads=threads, sets=sets)}")


@bench.command()
@click.option("--data", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder of the M4 files.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), show_default=True, help="May be repeated.")
@click.option("--threads", type=click.IntRange(0), default=0, show_default=True, help="Of each; 0: one per core.")
@click.option("--set", "sets", multiple=True, help="A setting of tidecast; may be repeated.")
@click.option("--peer-steps", type=click.IntRange(1), help="Instead of the documented number: to see that it works.")
@click.option(
    "--peer-seconds", type=click.IntRange(1), default=900, show_default=True, help="Cap of a peer's training."
)
@click.option("--only", multiple=True, help="One of the implementations, by its name; may be repeated.")
def forecasters(
    data: Path | None,
    seeds: tuple[int, ...],
    threads: int,
    sets: tuple[str, ...],
    peer_steps: int | None,
    peer_seconds: int,
    only: tuple[str, ...],
) -> None:
    """Accuracy, training speed and memory beside neuralforecast, darts and GluonTS; by name only, needs M4-Hourly."""
    from tests.bench import accuracy
    from tests.bench import forecasters as bench

    if unknown := set(only) - set(bench.NAMES):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(bench.NAMES)}")
    folder = data or accuracy.FOLDER
    if not folder.is_dir():
        raise click.UsageError(f"{folder} does not exist: give the folder of Hourly-train.csv with --data")
    plan = bench.Plan(folder, threads or os.cpu_count() or 1, sets, peer_steps, peer_seconds)
    path, whole = bench.run(plan, seeds=seeds, only=only)
    say(f"written to {path}")
    if not whole:
        sys.exit(1)


@bench.command()
@click.option(
    "--data", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder of public, sensors."
)
@click.option("--only", multiple=True, help="A series, by its name in the table; may be repeated.")
@click.option("--steps", type=click.IntRange(1), default=1_200, show_default=True, help="Of training.")
def intervals(data: Path | None, only: tuple[str, ...], steps: int) -> None:
    """What the intervals of single series hold; needs the files, so it is run by name only."""
    from tests.bench import intervals as bench

    unknown = sorted(set(only) - set(bench.TASKS))
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(bench.TASKS)}")
    say(f"written to {bench.run(data or bench.FOLDER, only=only, steps=steps)}")


@bench.command(name="zero-shot")
@click.option(
    "--data", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder of M4, ETT, public."
)
@click.option("--part", type=click.Choice(["choosing", "reported", "all"]), default="all", show_default=True)
@click.option("--only", multiple=True, help="A task, by its name in --list; may be repeated.")
@click.option("--peer", "chosen", multiple=True, help="fracast, autotheta or autoets (slow); all if left away.")
@click.option("--no-peers", is_flag=True, help="Ask no peer.")
@click.option("--fresh", is_flag=True, help="Ask peers again for what they have answered before.")
@click.option(
    "--artifact", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Ours, in place of the wheel's."
)
@click.option("--tuned", is_flag=True, help="Ours after a fit on each task, too: some twenty minutes.")
@click.option(
    "--training-series",
    "series",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Write the real series of the choosing part for models.pretraining, and end.",
)
@click.option("--list", "listed", is_flag=True, help="Show the tasks and end.")
def zero_shot(
    *,
    data: Path | None,
    part: str,
    only: tuple[str, ...],
    chosen: tuple[str, ...],
    no_peers: bool,
    fresh: bool,
    artifact: Path | None,
    tuned: bool,
    series: Path | None,
    listed: bool,
) -> None:
    """Forecasts without a training on public tasks; needs their files, so it is run by name only."""
    from models.artifact import ArtifactError
    from tests.bench import zero_shot as bench
    from tests.bench import zero_shot_tasks
    from tests.bench.zero_shot_peers import PEERS

    if strangers := sorted(set(chosen) - set(PEERS)):
        raise click.BadParameter(f"{', '.join(strangers)}: choose from {', '.join(PEERS)}")
    folder = data or zero_shot_tasks.FOLDER
    if not (folder / "public").is_dir():
        raise click.UsageError(f"{folder} has no folder public: give the one that has M4, ETT, sensors and public")
    if unknown := sorted(set(only) - set(zero_shot_tasks.PLANS)):
        raise click.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(zero_shot_tasks.PLANS)}")
    if listed:
        click.echo(bench.table(list(zero_shot_tasks.load_tasks(folder).values())))
        return
    if series:
        say(f"{zero_shot_tasks.write_training_series(series, folder=folder):,} series written to {series}")
        return
    parts = bench.PARTS if part == "all" else (part,)
    try:
        peers = () if no_peers else chosen or tuple(PEERS)
        path, whole = bench.run(
            folder, parts=parts, only=only, peers=peers, fresh=fresh, artifact=artifact, tuned=tuned
        )
    except ArtifactError as error:
        raise click.BadParameter(f"--artifact {artifact}: {error}") from error
    say(f"written to {path}")
    if not whole:
        sys.exit(1)


@bench.command()
@click.option("--data", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="The file ETTh1.csv.")
@click.option("--horizon", "horizons", multiple=True, type=int, help="96, 192, 336 or 720; may be repeated.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0,), show_default=True, help="May be repeated.")
@click.option("--members", type=click.IntRange(1), default=1, show_default=True, help="Networks in an ensemble.")
@click.option("--threads", type=click.IntRange(0), default=0, show_default=True, help="0: one per core.")
@click.option("--set", "sets", multiple=True, help="A setting, as in `tidecast --set`; may be repeated.")
def etth1(
    data: Path | None,
    horizons: tuple[int, ...],
    seeds: tuple[int, ...],
    members: int,
    threads: int,
    sets: tuple[str, ...],
) -> None:
    """Squared error on the test part of ETTh1; needs its file, so it is run by name only."""
    from tests.bench import etth1 as bench

    file = data or bench.FILE
    if not file.is_file():
        raise click.UsageError(f"{file} does not exist: give the file ETTh1.csv with --data")
    unknown = set(horizons) - set(bench.SEGRNN)
    if unknown:
        raise click.BadParameter(f"horizon {min(unknown)}: choose from {', '.join(map(str, bench.SEGRNN))}")
    chosen = horizons or tuple(bench.SEGRNN)
    say(f"written to {bench.run(file, horizons=chosen, seeds=seeds, members=members, threads=threads, sets=sets)}")


@bench.command()
@click.option("--data", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder of sensors, ETT.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(0), default=0, show_default=True, help="0: one per core.")
@click.option("--set", "sets", multiple=True, help="A setting, as in `tidecast --set`; may be repeated.")
def month(data: Path | None, seed: int, threads: int, sets: tuple[str, ...]) -> None:
    """Simulate a month of sensors with every job on its timetable; needs their files, so it is run by name only."""
    from tests.bench import month as bench
    from tests.bench import sensors

    folder = data or sensors.FOLDER
    if not (folder / "sensors").is_dir():
        raise click.UsageError(f"{folder} has no folder sensors: give the one that has sensors and ETT with --data")
    say(f"written to {bench.run(folder, seed=seed, threads=threads, sets=sets)}")


if __name__ == "__main__":
    bench(prog_name="python -m tests.bench")
