"""BlockRNNModel of darts on M4-Hourly; runs in its own environment: `python peer_darts.py JOB`."""

import time

import numpy as np
from darts import TimeSeries
from darts.dataprocessing.transformers import Scaler
from darts.models import BlockRNNModel
from darts.utils.likelihood_models import QuantileRegression
from peer_job import answer, describe, read_histories, read_job, watch
from pytorch_lightning import Callback

EPOCHS = 100
DOCUMENTED = (
    "https://unit8co.github.io/darts/examples/01-multi-time-series-and-covariates.html: an LSTM for several series, "
    "100 epochs, Scaler; context as long as the season, as in examples/04-RNN-examples.html: a week; 32-bit series, as "
    "in userguide/torch_forecasting_models.html, performance recommendations; all else the default"
)


def main() -> None:
    job = read_job()
    histories = read_histories(job)
    series = [TimeSeries.from_values(each.astype(np.float32)) for each in histories]
    settings = {"model": job.model, "input_chunk_length": 168, "n_epochs": EPOCHS}
    counter, watched = watch(Callback, lambda batch: len(batch.past_target))
    trainer = {
        "accelerator": "cpu",
        "max_time": job.max_time,
        "callbacks": [counter],
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    if job.steps is not None:
        trainer["max_steps"] = job.steps
    model = BlockRNNModel(
        output_chunk_length=job.horizon,
        likelihood=QuantileRegression(quantiles=list(job.levels)),
        random_state=job.seed,
        **settings,
        pl_trainer_kwargs=trainer,
    )
    began = time.perf_counter()
    scaled = Scaler().fit_transform(series)
    model.fit(scaled)
    trained = time.perf_counter()
    found = model.predict(job.horizon, series=scaled, predict_likelihood_parameters=True)
    low = np.array([each.min() for each in histories])[:, None, None]
    size = np.array([np.ptp(each) or 1.0 for each in histories])[:, None, None]
    quantiles = low + size * np.stack([each.values() for each in found])  # Scaler scales to 0..1, series by series
    done = time.perf_counter()
    facts = describe(job, watched, f"{EPOCHS} epochs of {watched.epoch_steps} steps") | {
        "seconds": trained - began,
        "forecast_seconds": done - trained,
        "context": settings["input_chunk_length"],
        "settings": settings | {"likelihood": "QuantileRegression", "batch_size": model.batch_size, "scaler": "Scaler"},
        "documented": DOCUMENTED,
    }
    answer(job, quantiles, ("darts", "pytorch-lightning", "torch"), facts)


if __name__ == "__main__":
    main()
