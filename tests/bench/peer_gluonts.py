"""DeepAR of GluonTS (torch) on M4-Hourly; runs in its own environment: `python peer_gluonts.py JOB`."""

import time

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from gluonts.dataset.common import ListDataset
from gluonts.torch import DeepAREstimator
from peer_job import answer, describe, read_histories, read_job, watch

EPOCHS, BATCHES = 100, 50
DOCUMENTED = (
    "https://ts.gluon.ai/stable/api/gluonts/gluonts.torch.model.deepar.html: every argument at its default; "
    "series start in 1750, since the files have no times and this library's own m4_hourly does the same"
)


def main() -> None:
    job = read_job()
    histories = read_histories(job)
    pl.seed_everything(job.seed)
    start = pd.Period("1750-01-01 00:00", freq="h")
    dataset = ListDataset([{"start": start, "target": each.astype(np.float32)} for each in histories], freq="h")
    counter, watched = watch(pl.Callback, lambda batch: len(batch["past_target"]))
    trainer = {
        "accelerator": "cpu",
        "max_time": job.max_time,
        "callbacks": [counter],
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    if job.steps is not None:
        trainer["max_steps"] = job.steps
    estimator = DeepAREstimator(freq="h", prediction_length=job.horizon, trainer_kwargs=trainer)
    began = time.perf_counter()
    predictor = estimator.train(dataset)
    trained = time.perf_counter()
    found = list(predictor.predict(dataset))
    quantiles = np.stack([[each.quantile(level) for level in job.levels] for each in found]).transpose(0, 2, 1)
    done = time.perf_counter()
    facts = describe(job, watched, f"{EPOCHS} epochs of {BATCHES} steps") | {
        "seconds": trained - began,
        "forecast_seconds": done - trained,
        "context": estimator.context_length,
        "settings": {
            "context_length": estimator.context_length,
            "lags": max(predictor.prediction_net.model.lags_seq),
            "max_epochs": EPOCHS,
            "num_batches_per_epoch": estimator.num_batches_per_epoch,
            "batch_size": estimator.batch_size,
            "num_parallel_samples": estimator.num_parallel_samples,
        },
        "documented": DOCUMENTED,
    }
    answer(job, quantiles, ("gluonts", "lightning", "torch"), facts)


if __name__ == "__main__":
    main()
