"""tidecast on M4-Hourly, in a process of its own as its peers are: `python -m tests.bench.own_forecaster JOB`."""

import time

import numpy as np

from models.fitting.cpu import tune_cpu
from models.predict import predict
from pipeline.settings.sources import shown
from tests.bench.accuracy import HORIZON, choose_settings
from tests.bench.fitting import fit_settings, lay_out
from tests.bench.peer_job import answer, read_histories, read_job


def main() -> None:
    job = read_job()
    tune_cpu(job.threads)
    histories = read_histories(job)
    settings = choose_settings(seed=job.seed, members=1, sets=job.sets)
    began = time.perf_counter()
    panel = lay_out(histories, horizon=job.horizon)
    model, fitted = fit_settings(panel, settings, validation_steps=HORIZON)
    trained = time.perf_counter()
    quantiles = predict(model, panel, np.arange(len(panel)), panel.length.numpy())
    done = time.perf_counter()
    facts = {
        "seconds": trained - began,
        "forecast_seconds": done - trained,
        "steps": fitted.steps,
        "windows": fitted.steps * settings.training.batch,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "stopped": fitted.stopped,
        "context": settings.series.context,
        "settings": {section: shown(settings)[section] for section in ("series", "model", "training")},
        "documented": "the defaults of the product" + (f", but {', '.join(job.sets)}" if job.sets else ""),
    }
    answer(job, quantiles, ("torch",), facts)


if __name__ == "__main__":
    main()
